"""The triangular synapse, against core and against its impulse response."""

import nengo
import numpy as np
import pytest
from nengo.builder.operator import Reset
from nengo.builder.processes import SimProcess

from nengo_dl.kernels.synapses.triangle import DELAY_LINE
from tests.kernels.kernel_harness import (
    DT,
    Bench,
    Case,
    assert_equals_core,
    bench_of_network,
    merged,
    simulate,
)


class Charged(nengo.synapses.Triangle):
    """A triangle that starts as if its input had been something else for long."""

    start = 0.7

    def make_state(self, shape_in, shape_out, dt, dtype=None, y0=0):
        return super().make_state(shape_in, shape_out, dt, dtype=dtype, y0=self.start)


class Unbalanced(nengo.synapses.Triangle):
    """A triangle whose first state could not have come from any input."""

    def make_state(self, shape_in, shape_out, dt, dtype=None, y0=0):
        state = super().make_state(shape_in, shape_out, dt, dtype=dtype)
        state["Y"][...] = 0.3
        state["X"][...] = 0.1 * np.arange(state["X"].size).reshape(state["X"].shape)
        return state


def bench_of_triangles(*synapses, mode="set", shape=(3,), dt=DT):
    bench = Bench(model=nengo.builder.Model(dt=dt))

    def build(bench, variant):
        synapse = synapses[variant]
        u, y = bench.feed(*shape), bench.signal(shape)
        initial = synapse.make_state(shape, shape, dt)
        state = {name: bench.signal(value, name) for name, value in initial.items()}
        if mode == "inc":
            bench.add(Reset(y, value=-0.5))
        bench.add(SimProcess(synapse, u, y, bench.model.time, mode=mode, state=state))
        bench.watch(y)

    for variant in range(len(synapses)):
        bench.build(Case("triangle", build), variant)
    return bench


@pytest.mark.parametrize("mode", ("set", "inc", "update"))
@pytest.mark.parametrize("length", (0, 0.0004, 0.001, 0.002, 0.013, 0.25))
def test_equals_core(length, mode):
    bench = bench_of_triangles(nengo.synapses.Triangle(length), mode=mode)
    core = assert_equals_core(bench)
    assert np.ptp(core[0]) > 0.01
    assert_equals_core(bench, batch=1)


@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_compiled(dtype):
    lengths = (0, 0.001, 0.002, 0.013, 0.013)
    bench = bench_of_triangles(*map(nengo.synapses.Triangle, lengths))
    assert_equals_core(bench, "jitted", dtype)


@pytest.mark.parametrize("shape", ((1,), (2, 3), (4, 1)))
@pytest.mark.parametrize("kind", (nengo.synapses.Triangle, Charged, Unbalanced))
def test_shapes_and_first_states(kind, shape):
    assert_equals_core(bench_of_triangles(kind(0.007), shape=shape, mode="update"))
    assert_equals_core(bench_of_triangles(kind(0), shape=shape))


@pytest.mark.parametrize("dt", (0.0005, 0.002))
def test_other_step_lengths(dt):
    bench = bench_of_triangles(nengo.synapses.Triangle(0.011), dt=dt)
    assert_equals_core(bench)


def test_the_impulse_response_is_a_triangle(allclose):
    with nengo.Network() as net:
        impulse = nengo.Node(lambda t: float(t < 1.5 * DT))
        nengo.Probe(impulse, synapse=nengo.synapses.Triangle(0.004))
    (values,) = simulate(bench_of_network(net), "numpy", "float64", 1, 10)
    start = np.flatnonzero(values[0, :, 0])[0]
    found = values[0, start : start + 5, 0]
    assert allclose(found, np.array([5, 4, 3, 2, 1]) / 15, atol=1e-15)
    assert not values[0, start + 5 :].any()


def test_merging():
    """Lines of equally many signals and taps are one batch."""
    short, long = nengo.synapses.Triangle(0.005), nengo.synapses.Triangle(0.009)
    name = DELAY_LINE.name
    assert merged(bench_of_triangles(short, short, short)) == {name: [3]}
    assert merged(bench_of_triangles(short, long, short)) == {name: [1, 2]}
    with nengo.Network() as net:
        wave = nengo.Node(lambda t: [np.sin(99 * t), 1 - t, t])
        for part in (wave[:2], wave[2], wave):
            nengo.Probe(part, synapse=short)
    assert merged(bench_of_network(net)) == {name: [1, 1, 1]}


def test_rounding_errors_do_not_add_up(allclose):
    """In single precision, after many steps and large values, it is still the sum."""
    with nengo.Network() as net:
        large = nengo.Node(lambda t: 1e6 if t < 0.05 else 0.25)
        nengo.Probe(large, synapse=nengo.synapses.Triangle(0.01))
    bench = bench_of_network(net)
    (ours,) = simulate(bench, "numpy", "float32", 1, 100)
    assert allclose(ours[0, -20:], 0.25, rtol=1e-6, atol=0)


def test_in_a_network():
    triangle = nengo.synapses.Triangle(0.008)
    with nengo.Network(seed=2) as net:
        inp = nengo.Node(lambda t: [np.sin(40 * t), np.cos(30 * t)])
        ens = nengo.Ensemble(20, 2, neuron_type=nengo.LIFRate())
        out = nengo.Node(size_in=2)
        node = nengo.Node(triangle, size_in=2, size_out=2)
        nengo.Connection(inp, ens, synapse=triangle)
        nengo.Connection(ens, out, synapse=triangle, function=lambda x: x[::-1])
        nengo.Connection(out, ens, synapse=triangle, transform=0.3)
        nengo.Connection(out, node, synapse=None)
        nengo.Connection(node[0], ens[1], synapse=0.01, transform=0.4)
        nengo.Probe(node)
        nengo.Probe(ens, synapse=triangle)
        nengo.Probe(ens.neurons, synapse=triangle)
    core = assert_equals_core(bench_of_network(net), batch=1)
    assert min(np.ptp(values) for values in core) > 0.1
