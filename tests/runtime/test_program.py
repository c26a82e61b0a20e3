"""Which graph runs in which tier, and what passes between them."""

import copy
import subprocess
import sys

import nengo
import numpy as np
import pytest

import nengo_dl
from nengo_dl.runtime import program as rules
from nengo_dl.runtime.costs import SHORT_RUN
from nengo_dl.runtime.executor import Work
from nengo_dl.runtime.numpy.executor import seconds_per_step
from nengo_dl.runtime.tensorflow import costs, kinds
from tests import networks
from tests.runtime.native_code import pytestmark_native


def active(sim):
    """The tier that ran last, and whether it runs with open parameters."""
    use, tier = sim._program._active
    return tier, use.open


def make(jit="auto", **options):
    net = networks.recurrent()
    with net:
        nengo_dl.configure_settings(jit=jit, dtype="float64")
    return nengo_dl.Simulator(net, progress_bar=False, **options)


def steps_in(sim, seconds):
    """As many steps as NumPy is estimated to run in some seconds."""
    return int(seconds / estimate(sim._program))


def estimate(program):
    """About how long a step takes in NumPy, in seconds, from the plan alone."""
    layout = program.layout(rules.Specialization(), fused=True)
    return seconds_per_step(layout, program.batch)


@pytest.fixture
def quick_limit(monkeypatch, no_machine_code):
    """Compile after a thousand steps of the small network, not after many."""
    monkeypatch.setattr(costs, "COMPILE_SECONDS", 0.05)
    return costs.COMPILE_SECONDS


def test_auto_goes_by_the_steps_since_the_last_reset(quick_limit):
    with make() as sim:
        few = steps_in(sim, quick_limit)
        assert 100 < few < 10000
        sim.run_steps(few)
        assert active(sim)[0] == "numpy"
        sim.run_steps(100)
        assert active(sim)[0] == "tensorflow"
        sim.run_steps(SHORT_RUN)
        assert active(sim)[0] == "numpy"
        sim.step()
        assert active(sim)[0] == "numpy"
        sim.reset()
        sim.run_steps(few)
        assert active(sim)[0] == "numpy"


def test_runs_in_pieces_and_runs_that_are_taken_back_count(quick_limit):
    for options in ({}, {"stateful": False}):
        with make() as sim:
            few = steps_in(sim, quick_limit)
            for _ in range(few // 100):
                sim.run_steps(100, **options)
                assert active(sim)[0] == "numpy" if not options else True
            assert sim._program.chooser.asked == few // 100 * 100
            sim.run_steps(100)
            assert active(sim)[0] == "tensorflow"


def test_single_steps_do_not_lead_to_compiling(quick_limit):
    with make() as sim:
        for _ in range(300):
            sim.step()
        sim.run_steps(steps_in(sim, quick_limit))
        assert active(sim)[0] == "numpy"


def test_a_copy_counts_on(quick_limit):
    with make() as sim:
        sim.run_steps(steps_in(sim, quick_limit))
        with copy.copy(sim) as other:
            other.run_steps(100)
            assert active(other)[0] == "tensorflow"


SCRIPT = """
import sys
import nengo
import nengo_dl

with nengo.Network(seed=0) as net:
    last = nengo.Node([0.5])
    for _ in range(3):
        ens = nengo.Ensemble(100, 1)
        nengo.Connection(last, ens)
        last = ens
    nengo.Probe(last, synapse=0.01)
with nengo_dl.Simulator(net, progress_bar=False) as sim:
    for seconds in {pieces}:
        sim.run(seconds)
assert not {{"tensorflow", "keras"}} & set(sys.modules)
"""


@pytest.mark.parametrize("pieces", ("[1.1]", "[5.0]", "[0.1] * 30"))
def test_small_networks_never_import_tensorflow(pieces):
    subprocess.run([sys.executable, "-c", SCRIPT.format(pieces=pieces)], check=True)


def test_the_limit_is_lower_where_tensorflow_is_imported_anyway():
    with make() as sim:
        layout = sim._program.layout(rules.Specialization(), fused=True)
    import keras

    with nengo.Network() as net:
        node = nengo_dl.TensorNode(lambda t: keras.ops.reshape(t, (1, 1)))
        nengo.Probe(node)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        tensors = sim._program.layout(rules.Specialization(), fused=True)

    def limit(layout, device):
        return kinds.seconds_before_compiling(Work(layout, 1, 100, 100, device))

    assert limit(layout, None) == limit(layout, "/cpu:0") == costs.COMPILE_SECONDS
    assert limit(layout, "/gpu:0") == costs.IMPORTED_SECONDS
    assert limit(tensors, None) == costs.IMPORTED_SECONDS


@pytest.mark.parametrize("jit, tier", [(True, "tensorflow"), (False, "numpy")])
def test_the_setting_fixes_the_tier(jit, tier):
    with make(jit=jit) as sim:
        for n_steps in (1, 40):
            sim.run_steps(n_steps)
            assert active(sim)[0] == tier


def test_large_networks_are_compiled_at_once(monkeypatch, no_machine_code):
    with make() as sim:
        monkeypatch.setattr(kinds, "seconds_per_step", lambda layout, batch: 0.3)
        sim.run_steps(20)
        assert active(sim)[0] == "tensorflow"


def test_the_state_passes_from_tier_to_tier(allclose, quick_limit):
    with make(jit=False) as sim:
        sim.run_steps(1400)
        expected = [sim.data[probe] for probe in sim.model.probes]
    with make() as sim:
        for n_steps in (10, 1100, 5, 200, 85):
            sim.run_steps(n_steps)
        assert active(sim)[0] == "tensorflow"
        for probe, data in zip(sim.model.probes, expected, strict=True):
            assert allclose(sim.data[probe], data, atol=1e-9)


def test_written_parameters_open_the_program(allclose):
    """The same numbers, whether parameters are folded or arguments of the program."""
    with make(jit=False) as sim:
        sim.run_steps(60)
        expected = [sim.data[probe] for probe in sim.model.probes]
    for jit in (False, True):
        with make(jit=jit) as sim:
            sim.run_steps(20)
            sim._program.written()
            sim.run_steps(40)
            assert active(sim) == ("tensorflow" if jit else "numpy", True)
            for probe, data in zip(sim.model.probes, expected, strict=True):
                assert allclose(sim.data[probe], data, atol=1e-9)


def test_sharing_needs_fewer_kernels_than_open_parameters():
    with nengo.Network(seed=0) as net:
        ens = nengo.Ensemble(20, 1)
        for _ in range(5):
            node = nengo.Node(size_in=1)
            nengo.Connection(ens, node)
            nengo.Probe(node)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        folded = sim._program.compiled(rules.Specialization())
        opened = sim._program.compiled(rules.Specialization(open=True))
    assert folded.graph.count("matmul") < opened.graph.count("matmul")


def test_the_estimate_grows_with_size_and_batch():
    with make() as one, make(minibatch_size=64) as many:
        assert 0 < estimate(one._program) < estimate(many._program)


def test_a_step_of_numpy_equals_a_run():
    with make(jit=False) as sim:
        sim.run_steps(30)
        expected = [sim.data[probe] for probe in sim.model.probes]
        sim.reset()
        for _ in range(30):
            sim.step()
        for probe, data in zip(sim.model.probes, expected, strict=True):
            np.testing.assert_array_equal(sim.data[probe], data)


@pytestmark_native
def test_plain_algebra_waits_for_data():
    """A network is compiled for what it runs with, and not before that is known."""
    with nengo.Network() as net:
        node = nengo.Node([0.5])
        neurons = nengo.Ensemble(
            5, 1, neuron_type=nengo.RectifiedLinear(), seed=0
        ).neurons
        nengo.Connection(node, neurons, transform=np.ones((5, 1)), synapse=None)
        probe = nengo.Probe(neurons)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        assert not sim._program.history.compiled
        sim.predict(np.ones((1, 3, 1)))
        assert len(sim._program.history.compiled) == 1
        sim.run_steps(3)
        assert len(sim._program.history.compiled) == 2
    with nengo.Simulator(net, progress_bar=False) as core:
        core.run_steps(3)
    assert np.allclose(sim.data[probe], core.data[probe], atol=1e-4)
