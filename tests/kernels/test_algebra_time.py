"""Time, and what probes record."""

import nengo
import numpy as np
import pytest
from nengo.builder.operator import Copy, ElementwiseInc, Reset
from nengo.builder.probe import SimProbe

from nengo_dl.compiler.pipeline import compile_model
from tests.kernels.kernel_harness import (
    DT,
    STEPS,
    Bench,
    Case,
    bench_of_network,
    simulate,
    trajectory,
)


def bench_of_operators(build):
    """A bench that a function ``(bench)`` fills."""
    bench = Bench()
    bench.build(Case("operators", lambda bench, variant: build(bench)), 0)
    return bench


@pytest.mark.parametrize("tier", ("numpy", "jitted"))
@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_time_and_step_numbers(dtype, tier, allclose):
    bench = bench_of_operators(lambda b: b.watch(b.model.time, b.model.step))
    time, step = simulate(bench, tier, dtype, 3)
    assert allclose(step, np.broadcast_to(np.arange(1, STEPS + 1)[:, None], (3, 100, 1)))
    expected = (np.arange(1, STEPS + 1) * DT).astype(dtype)
    assert np.array_equal(time, np.broadcast_to(expected[:, None], (3, STEPS, 1)))
    core = trajectory(bench)[0]
    assert np.array_equal(core[0].astype(dtype), time[0])
    assert np.array_equal(core[1], step[0])


def test_time_is_an_input_only_where_it_is_read():
    def untimed(bench):
        y = bench.signal((2,))
        bench.add(Copy(bench.feed(2), y))
        bench.watch(y)

    def timed(bench):
        untimed(bench)
        y = bench.signal((1,))
        factor = bench.signal(np.ones(1))
        bench.add(Reset(y), ElementwiseInc(factor, bench.model.time, y))
        bench.watch(y)

    for build, expected in ((untimed, set()), (timed, {"time"})):
        bench = bench_of_operators(build)
        graph = compile_model(bench.model, bench.options()).graph
        assert {source.key.name for source in graph.inputs} - {"input"} == expected


def test_probes_see_the_end_of_a_step(allclose):
    """Also where the operator that marks them comes before an update."""

    def build(bench):
        x, late, y = bench.feed(2), bench.signal((2,)), bench.signal((2,))
        bench.add(SimProbe(late), Copy(late, y), SimProbe(y))
        synapse = nengo.Lowpass(0.01)
        state = {"X": bench.signal((1, 2))}
        bench.add(
            nengo.builder.processes.SimProcess(
                synapse, x, late, bench.model.time, mode="update", state=state
            )
        )
        bench.watch(late, y)

    bench = bench_of_operators(build)
    late, y = simulate(bench, "numpy", "float64", 1)
    core = trajectory(bench)[0]
    assert allclose(late[0], core[0], atol=1e-14)
    assert allclose(y[0], core[1], atol=1e-14)
    assert allclose(y[0, 1:], late[0, :-1], atol=0)
    assert np.ptp(late) > 0.05


@pytest.mark.parametrize("dt", (0.001, 0.0005))
def test_probes_of_a_network(dt, allclose):
    with nengo.Network(seed=0) as net:
        inp = nengo.Node(lambda t: [t, np.sin(40 * t)])
        ens = nengo.Ensemble(10, 2, neuron_type=nengo.LIFRate())
        nengo.Connection(inp, ens, synapse=0.005)
        for target, synapse in ((inp, None), (ens, 0.01), (ens.neurons, None)):
            nengo.Probe(target, synapse=synapse)
        nengo.Probe(ens, "input")
        nengo.Probe(ens.neurons, "input")
        nengo.Probe(ens[1:], synapse=0.02)
    bench = bench_of_network(net, dt=dt)
    ours, core = simulate(bench, "numpy", "float64", 1), trajectory(bench)[0]
    assert len(ours) == 6
    for mine, theirs in zip(ours, core, strict=True):
        assert np.ptp(theirs) > 0.001
        assert allclose(mine[0], theirs, atol=1e-11)
