"""What was learned lasts: over runs, resets, files; and can be read and forgotten."""

import nengo
import numpy as np
import pytest

import nengo_dl
from tests.kernels.learning.rule_networks import ITEMS, STEPS, VARIANTS, data, network

NUMPY = {"dtype": "float64", "jit": False}

#: between them they have all rules
SEVERAL = ("dict_for_weights", "list_for_decoders", "two_rules_for_the_same_encoders")

each_of_several = pytest.mark.parametrize("name", SEVERAL)


def quiet(net, minibatch_size=None):
    """A simulator without a progress bar."""
    return nengo_dl.Simulator(net, minibatch_size=minibatch_size, progress_bar=False)


def assert_close(ours, theirs, tolerance=1e-10):
    """Equal to rounding, relative to the largest value."""
    assert np.shape(ours) == np.shape(theirs)
    assert np.abs(ours - theirs).max() <= tolerance * np.abs(theirs).max()


def learned_signals(model, net):
    """What the rules of a network change."""
    signals = {}
    for conn in net.learning:
        rules = conn.learning_rule_type
        rules = rules.values() if isinstance(rules, dict) else rules
        for rule in rules if np.iterable(rules) else [rules]:
            on_encoders = rule.modifies == "encoders"
            owner = conn.post_obj if on_encoders else conn
            signals[model.sig[owner]["encoders" if on_encoders else "weights"]] = None
    return list(signals)


def probed(sim, net, start=0):
    """All probes' data from some step on."""
    return [np.array(sim.data[probe])[start:] for probe in net.probes]


def write(sim, values):
    """Put values into signals of core."""
    for signal, value in values.items():
        array = sim.signals[signal]
        array.setflags(write=True)
        array[...] = value


@each_of_several
def test_what_is_learned_can_be_read(name):
    """Before, during and after; with several items it is that of the first."""
    net = network(name, **NUMPY)
    with quiet(net, ITEMS) as sim:
        built = sim.data[net.post].scaled_encoders.copy()
        sim.run_steps(STEPS, data={net.inp: data()})
        for probe in net.probes:
            if probe.attr == "weights":
                shown = sim.data[probe.target].weights
                assert_close(shown, sim.data[probe][0, -1])
            if probe.attr == "scaled_encoders":
                shown = sim.data[net.post]
                assert_close(shown.scaled_encoders, sim.data[probe][0, -1])
                scale = (shown.gain / net.post.radius)[:, None]
                assert_close(shown.encoders * scale, shown.scaled_encoders)
                assert np.abs(shown.scaled_encoders - built).max() > 1e-6
        rules = [probe.target for probe in net.probes if probe.attr == "delta"]
        assert rules and all(sim.data[rule] is None for rule in rules)
        before = {conn: sim.data[conn].weights for conn in net.learning}
    for conn, weights in before.items():
        assert np.array_equal(sim.data[conn].weights, weights)


@each_of_several
def test_reset_forgets(name):
    net = network(name, data()[0], **NUMPY)
    with quiet(net) as sim:
        sim.run_steps(STEPS)
        first = probed(sim, net)
        sim.reset()
        for conn in net.learning:
            assert np.array_equal(sim.data[conn].weights, sim.model.params[conn].weights)
        sim.run_steps(STEPS)
        for again, before in zip(probed(sim, net), first, strict=True):
            assert np.array_equal(again, before)


@each_of_several
def test_reset_can_keep_what_was_learned(name):
    """Everything else starts afresh: activities, changes under way, correlations."""
    net = network(name, data()[0])
    with nengo.Simulator(net, progress_bar=False) as core:
        core.run_steps(STEPS)
        signals = learned_signals(core.model, net)
        learned = {signal: core.signals[signal].copy() for signal in signals}
        core.reset()
        write(core, learned)
        core.run_steps(20)
        expected = probed(core, net)

    net = network(name, data()[0], **NUMPY)
    with quiet(net) as sim:
        sim.run_steps(STEPS)
        sim.reset(include_trainable=False)
        sim.run_steps(20)
        for ours, theirs in zip(probed(sim, net), expected, strict=True):
            assert_close(ours, theirs)


@pytest.mark.parametrize("name", ("bcm", "list_for_decoders", "pes_between_neurons"))
def test_runs_that_leave_the_state_learn_all_the_same(name):
    net = network(name, data()[0])
    with nengo.Simulator(net, progress_bar=False) as core:
        core.run_steps(20)
        before = {signal: np.array(core.signals[signal]) for signal in core.signals}
        core.run_steps(20)
        for signal in learned_signals(core.model, net):
            before[signal] = np.array(core.signals[signal])
        write(core, before)
        core.run_steps(20)
        expected = probed(core, net)

    net = network(name, data()[0], **NUMPY)
    with quiet(net) as sim:
        sim.run_steps(20)
        sim.run_steps(20, stateful=False)
        assert sim.n_steps == 20
        sim.run_steps(20)
        for ours, theirs in zip(probed(sim, net), expected, strict=True):
            assert_close(ours, theirs)


@pytest.mark.parametrize("name", VARIANTS)
def test_parameters_may_be_written_at_any_time(name):
    """Then they are arguments of the program; what is learned goes on as it was."""
    net = network(name, data()[0], **NUMPY)
    with quiet(net) as sim:
        sim.run_steps(STEPS)
        expected = probed(sim, net)
    with quiet(net) as sim:
        sim.run_steps(STEPS // 2)
        sim._program.written()
        sim.run_steps(STEPS - STEPS // 2)
        assert sim._program.is_open
        for ours, theirs in zip(probed(sim, net), expected, strict=True):
            assert_close(ours, theirs)


@pytest.mark.parametrize("name", (*SEVERAL, "pes_between_neurons"))
def test_files_hold_what_is_needed_to_go_on(name, tmp_path):
    net = network(name, data()[0], **NUMPY)
    with quiet(net) as sim:
        sim.run_steps(STEPS // 2)
        sim.save_params(tmp_path / "half", include_state=True)
        sim.run_steps(STEPS // 2)
        expected = probed(sim, net, STEPS // 2)
    with quiet(net) as sim:
        sim.load_params(tmp_path / "half.npz", include_state=True)
        assert sim.n_steps == STEPS // 2
        sim.run_steps(STEPS // 2)
        for ours, theirs in zip(probed(sim, net), expected, strict=True):
            assert_close(ours, theirs)
