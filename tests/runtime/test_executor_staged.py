"""Python functions before and after the compiled loop."""

import nengo
import numpy as np
import pytest

import nengo_dl
from tests.runtime.native_code import pytestmark_native


def network(before=None, after=None):
    """A function of the input, an ensemble, and a function of what it decodes."""
    before = before or (lambda t, x: x + 0.1 * t)
    after = after or (lambda t, x: 2 * x)
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(dtype="float64", jit=True)
        inp = nengo.Node(lambda t: np.sin(9 * t))
        first = nengo.Node(before, size_in=1, size_out=1)
        ens = nengo.Ensemble(30, 1)
        last = nengo.Node(after, size_in=1, size_out=1)
        nengo.Connection(inp, first, synapse=None)
        nengo.Connection(first, ens)
        nengo.Connection(ens, last, synapse=0.01)
        net.first, net.ens, net.last = (nengo.Probe(x) for x in (first, ens, last))
    return net


def tiers_used(sim):
    """Names of the tiers that have run."""
    return {name for _, name in sim._program._executors}


@pytest.mark.parametrize("minibatch_size", [None, 3])
def test_python_around_the_loop_agrees_with_core(minibatch_size, allclose):
    net = network()
    with nengo.Simulator(net, progress_bar=False) as core:
        core.run_steps(1300)
    with nengo_dl.Simulator(
        net, minibatch_size=minibatch_size, progress_bar=False
    ) as sim:
        sim.run_steps(1200)
        sim.run_steps(100)
        assert tiers_used(sim) == {"staged"}
        for probe in net.probes:
            data = sim.data[probe]
            items = [data] if minibatch_size is None else data
            assert all(allclose(item, core.data[probe], atol=1e-9) for item in items)


def test_a_shorter_run_takes_the_loop_that_was_compiled(allclose):
    net = network()
    with nengo.Simulator(net, progress_bar=False) as core:
        core.run_steps(300)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(200)
        (executor,) = sim._program.executors
        assert executor.has_compiled(200) and executor.has_compiled(100)
        assert not executor.has_compiled(1000)
        sim.run_steps(100)
        assert executor.compiled.chunk(100) == executor.compiled.chunk(200) == 256
        assert allclose(sim.data[net.last], core.data[net.last], atol=1e-9)


def failing(at, calls):
    """A function that raises at one step, and notes the times of its calls."""

    def function(t, x):
        calls.append(t)
        if len(calls) == at:
            raise ValueError("enough")
        return x

    return function


@pytest.mark.parametrize("where", ["before", "after"])
def test_steps_before_a_failure_are_kept_and_the_run_goes_on(where, allclose):
    calls = []
    net = network(**{where: failing(1105, calls)})
    expected = network(**{where: lambda t, x: x})
    with nengo.Simulator(expected, progress_bar=False) as core:
        core.run_steps(1204)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        with pytest.raises(ValueError, match="enough"):
            sim.run_steps(2000)
        assert sim.n_steps == 1104
        assert sim.data[net.last].shape == (1104, 1)
        sim.run_steps(100)
        assert tiers_used(sim) == {"staged"}
        for ours, theirs in zip(net.probes, expected.probes, strict=True):
            assert allclose(sim.data[ours], core.data[theirs], atol=1e-9)
    # each step was asked for once, apart from the one that failed
    assert allclose(np.unique(np.round(calls, 9)).size, 1204)


@pytestmark_native
def test_functions_in_feedback_are_called_from_machine_code():
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(jit=True)
        ens = nengo.Ensemble(20, 1)
        node = nengo.Node(lambda t, x: np.tanh(x), size_in=1)
        nengo.Connection(ens, node)
        nengo.Connection(node, ens)
        nengo.Probe(node)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(1500)
        assert tiers_used(sim) == {"native"}
