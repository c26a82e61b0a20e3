"""What pages promise in words holds; each promise stands on its page, word for word."""

import io
import pickle
import warnings

import nengo
import numpy as np
import pytest
from nengo.exceptions import ConfigError, ValidationError

import nengo_dl
from tests.docs.promises import promise, simulator


@promise(
    "docs/simulator.rst",
    "With several such processes (``Ensemble(noise=...)``, ``WhiteNoise``) the numbers "
    "are those of ``nengo.Simulator(net, optimize=False)``; with one, or with seeds "
    "(``WhiteNoise(seed=1)``), those of both.",
)
@pytest.mark.parametrize("seeds", [(None, None, None), (1, 2, 3)])
def test_noise_is_drawn_as_in_core_without_its_optimizer(seeds):
    with nengo.Network(seed=1) as net:
        nengo_dl.configure_settings(dtype="float64", jit=False)
        noises = [nengo.processes.WhiteNoise(seed=seed) for seed in seeds]
        ensembles = [nengo.Ensemble(10, 1, noise=noise) for noise in noises]
        probes = [nengo.Probe(ens.neurons) for ens in ensembles]
    found = []
    for make, kwargs in (
        (nengo_dl.Simulator, {}),
        (nengo.Simulator, {"optimize": False}),
        (nengo.Simulator, {"optimize": True}),
    ):
        with make(net, progress_bar=False, **kwargs) as sim:
            sim.run_steps(50)
            found.append([sim.data[probe] for probe in probes])
    ours, core, optimized = found
    assert np.array_equal(ours, core)
    if seeds[0] is not None:  # else it depends on what core's optimizer has merged
        assert np.array_equal(ours, optimized)


@promise("docs/simulator.rst", "What ``predict`` returns is not added to ``sim.data``.")
def test_predict_adds_nothing_to_the_data(net):
    with simulator(net) as sim:
        sim.run_steps(3)
        before = sim.data[net.p].copy()
        assert sim.predict(n_steps=4)[net.p].shape == (1, 4, 1)
        assert np.array_equal(sim.data[net.p], before)
        assert sim.n_steps == 3


@promise(
    "docs/simulator.rst",
    "Two runs after a ``reset`` with the same seed give the same numbers, bit for bit.",
)
def test_runs_after_a_reset_are_alike(net):
    with net:
        noisy = nengo.Node(nengo.processes.WhiteNoise())
        nengo.Connection(noisy, net.b)
    with simulator(net, seed=3) as sim:
        runs = []
        for _ in range(2):
            sim.reset(seed=5)
            sim.run_steps(20)
            runs.append(sim.data[net.p].copy())
        assert np.array_equal(*runs)
        sim.reset(seed=6)
        sim.run_steps(20)
        assert not np.array_equal(runs[0], sim.data[net.p])


@promise(
    "docs/simulator.rst",
    "What cannot be pickled in core Nengo, such as a node whose output is a ``lambda``, "
    "cannot be pickled here.",
)
def test_what_cannot_be_pickled(net):
    with simulator(net) as sim:
        assert pickle.loads(pickle.dumps(sim)).n_steps == 0
    net.a.output = lambda t: [t]
    for make in (nengo.Simulator, nengo_dl.Simulator):
        with make(net, progress_bar=False) as sim:
            with pytest.raises((AttributeError, TypeError, pickle.PicklingError)):
                pickle.dumps(sim)


@promise(
    "docs/simulator.rst",
    "after ``reset(include_trainable=False)`` everything starts afresh but for what was "
    "learned.",
)
def test_a_reset_can_keep_what_was_learned(net):
    with net:
        out = nengo.Node(size_in=1)
        conn = nengo.Connection(
            net.b, out, learning_rule_type=nengo.PES(1e-3), function=lambda x: 0
        )
        nengo.Connection(net.a, conn.learning_rule)
    with simulator(net) as sim:
        sim.run_steps(20)
        learned = sim.data[conn].weights.copy()
        sim.reset(include_trainable=False)
        assert np.array_equal(sim.data[conn].weights, learned)
        assert sim.n_steps == 0 and len(sim.data[net.p]) == 0
        sim.reset()
        assert np.array_equal(sim.data[conn].weights, np.zeros_like(learned))


@promise(
    "docs/simulator.rst",
    "Where the network itself computes something invalid, such as the difference of two "
    "infinities, core Nengo raises ``FloatingPointError``; here the result is NaN, and "
    "shows in the probes.",
)
def test_invalid_values_show_in_the_probes():
    with nengo.Network() as net:
        nengo_dl.configure_settings(dtype="float64", jit=False)
        huge = nengo.Node([1e308])
        out = nengo.Node(size_in=1)
        for sign in (1, -1):
            scaled = nengo.Node(size_in=1)
            nengo.Connection(huge, scaled, transform=10 * sign, synapse=None)
            nengo.Connection(scaled, out, synapse=None)
        probe = nengo.Probe(out)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with simulator(net) as sim:
            sim.run_steps(2)
    assert np.isnan(sim.data[probe]).all()
    with nengo.Simulator(net, progress_bar=False) as core:
        with warnings.catch_warnings(), pytest.raises(FloatingPointError):
            warnings.simplefilter("ignore")
            core.run_steps(2)


@promise(
    "docs/settings.rst",
    "Calling ``configure_settings`` again changes the settings that it names and leaves "
    "the others. An unknown name raises an error that lists the known ones; a value that "
    "a setting cannot have raises one that says what it may be.",
)
def test_settings_are_changed_one_by_one(net):
    from nengo_dl.config import get_setting
    from nengo_dl.settings import SETTINGS

    with net:
        nengo_dl.configure_settings(stateful=False)
        assert get_setting(net, "dtype") == "float64"
        with pytest.raises(ConfigError) as error:
            nengo_dl.configure_settings(keep_histroy=True)
        assert all(repr(name) in str(error.value) for name in SETTINGS)
        with pytest.raises(ValidationError, match="'float32' or 'float64'"):
            nengo_dl.configure_settings(dtype="int8")
    assert get_setting(net, "stateful") is False


@promise(
    "docs/settings.rst",
    "They are functions from `nengo_dl.graph_optimizer`, and have an influence on speed "
    "only, not on results.",
)
def test_strategies_of_the_compiler_change_no_result(net):
    from nengo_dl import graph_optimizer as go

    results = []
    for settings in (
        {},
        {"planner": go.noop_planner, "simplifications": []},
        {"planner": go.tree_planner, "sorter": go.noop_order_signals},
    ):
        with net:
            nengo_dl.configure_settings(**settings)
        with simulator(net) as sim:
            sim.run_steps(30)
            results.append(sim.data[net.p].copy())
    assert np.allclose(results[0], results[1], rtol=0, atol=1e-12)
    assert np.allclose(results[0], results[2], rtol=0, atol=1e-12)


@promise(
    "docs/faq.rst",
    "Asked for a device that is not there, the simulator warns and takes the CPU.",
)
def test_a_device_that_is_not_there_is_replaced(net):
    with pytest.warns(UserWarning, match="gpu:7"):
        sim = simulator(net, device="/gpu:7")
    with sim:
        sim.run_steps(2)
        assert sim.data[net.p].shape == (2, 1)


@promise("docs/faq.rst", "A warning says so whenever one step is run through a synapse.")
def test_one_step_through_a_synapse_is_warned_of(net):
    with simulator(net) as sim:
        with pytest.warns(UserWarning, match="synapse=None"):
            sim.predict(n_steps=1)


@promise(
    "docs/saving.rst",
    "Labels are part of names, so keep them. If a file does not fit, nothing is changed, "
    "and the error names each parameter that is missing, left over, or of another shape:",
)
def test_files_that_do_not_fit_change_nothing(net):
    file = io.BytesIO()
    with simulator(net) as sim:
        sim.save_params(file)
    net.b.label = "renamed"
    with simulator(net) as sim:
        before = sim.data[net.b].encoders.copy()
        file.seek(0)
        with pytest.raises(ValidationError) as error:
            sim.load_params(file)
        assert "ensembles['renamed']" in str(error.value)
        assert "ensembles['b']" in str(error.value)
        assert np.array_equal(sim.data[net.b].encoders, before)


@promise(
    "docs/migrating.rst",
    "Where a name has changed, the old one still works, with a ``DeprecationWarning`` "
    "that shows how the line is written today. Where there is nothing to translate to, "
    "an error says what to write instead.",
)
def test_older_names_work_or_say_what_to_write(net):
    with simulator(net) as sim:
        with pytest.warns(DeprecationWarning, match=r"sim\.run_steps\(\.\.\., data="):
            sim.run_steps(2, input_feeds={net.a: np.ones((1, 2, 1))})
        with pytest.raises(ValidationError, match=r"add a nengo\.Node"):
            sim.run_steps(2, extra_feeds={"x": 1})
