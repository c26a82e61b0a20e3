"""PES: its shapes, where its weights are, many rules at once, and that it learns."""

from functools import cache

import nengo
import numpy as np
import pytest

from nengo_dl.compiler.pipeline import compile_model
from nengo_dl.compiler.traits import Params
from nengo_dl.kernels.learning.pes import PES_DELTA
from nengo_dl.runtime.numpy.namespace import NumpyNamespace
from tests.kernels.kernel_cases import pes
from tests.kernels.kernel_harness import (
    ITEMS,
    Bench,
    Case,
    assert_equals_core,
    bench_of_network,
    merged,
    simulate,
)


def rule(bench, m, n, rate, watch_delta=False):
    """A rule of one shape, whose weights are in use and watched."""
    activities, error = bench.feed(n), bench.feed(m)
    y, weights, delta = pes(bench, error, activities, rate)
    bench.watch(y, weights, *([delta] if watch_delta else []))


def rules(*shapes, rate=0.3, watch_delta=False):
    """A bench with rules of these shapes."""
    bench = Bench()

    def build(bench, variant):
        rule(bench, *shapes[variant], rate, watch_delta)

    for variant in range(len(shapes)):
        bench.build(Case("pes", build), variant)
    return bench


# -- the operator ----------------------------------------------------------------------


@pytest.mark.parametrize("batch", (1, 3))
@pytest.mark.parametrize("groups", (1, 2))
@pytest.mark.parametrize("m, n", ((1, 1), (1, 7), (5, 1), (3, 4)))
def test_the_kernel_is_an_outer_product(m, n, groups, batch, rng, allclose):
    error, activities = (
        rng.normal(size=(groups, m, batch)),
        rng.normal(size=(groups, n, batch)),
    )
    p = Params(shape=(m, n), factor=-0.2, groups=groups)
    rows = error.reshape(-1, batch), activities.reshape(-1, batch)
    (delta,) = PES_DELTA.step(NumpyNamespace("float64"), p, *rows)
    expected = -0.2 * np.einsum("gmb,gnb->gmnb", error, activities)
    assert allclose(delta, expected.reshape(-1, batch), atol=1e-14)


@pytest.mark.parametrize("watch_delta", (False, True))
@pytest.mark.parametrize(
    "shapes",
    (
        [(1, 1)],
        [(1, 50)],
        [(50, 1)],
        [(2, 3), (3, 2), (6, 1)],
        [(3, 10)] * 2 + [(10, 3)] * 3,
    ),
    ids=str,
)
def test_shapes(shapes, watch_delta):
    bench = rules(*shapes, watch_delta=watch_delta)
    for batch in (1, ITEMS):
        assert_equals_core(bench, batch=batch)


@pytest.mark.parametrize(
    "shapes, counts",
    (
        ([(3, 20)] * 8, [8]),
        ([(3, 20), (20, 3), (3, 20), (4, 20)], [1, 1, 2]),
    ),
)
def test_rules_of_one_shape_are_merged(shapes, counts):
    bench = rules(*shapes)
    assert merged(bench) == {"PES": counts, "varying_matmul": counts}
    assert_equals_core(bench, batch=ITEMS)


def test_large_rules_run_alone():
    bench = rules((90, 100), (90, 100), rate=5.0)
    assert merged(bench) == {"PES": [1, 1], "varying_matmul": [1, 1]}
    for batch in (1, 2):
        assert_equals_core(bench, batch=batch)


def test_the_change_is_carried_as_its_factors():
    def graph_of(bench):
        return compile_model(bench.model, bench.options()).graph

    graph = graph_of(rules((10, 30)))
    held = [r.elements.size for r in graph.states if (r.elements >= 0).all()]
    assert sorted(held) == [10, 30, 300]  # error, activities, weights
    assert graph.count("PES") == 1
    assert graph_of(rules((10, 30), watch_delta=True)).count("PES") == 2


# -- networks --------------------------------------------------------------------------


def channel(post="node", pre_synapse=0.005, size=2, n=20, **kwargs):
    """A connection that learns to negate; only a part of its error is its own."""
    with nengo.Network(seed=4) as net:
        inp = nengo.Node(lambda t: np.sin(30 * t + np.arange(size)))
        pre = nengo.Ensemble(n, size, **kwargs)
        nengo.Connection(inp, pre)
        rule = nengo.PES(1e-3, pre_synapse=pre_synapse)
        target = (
            nengo.Ensemble(15, size) if post == "ensemble" else nengo.Node(size_in=size)
        )
        conn = nengo.Connection(
            pre, target, function=lambda x: np.zeros(size), learning_rule_type=rule
        )
        error = nengo.Node(size_in=size)
        nengo.Connection(target, error)
        nengo.Connection(inp, error)
        nengo.Connection(error, conn.learning_rule, synapse=0.002)
        nengo.Probe(target, synapse=0.01)
        nengo.Probe(conn, "weights")
        nengo.Probe(conn.learning_rule, "delta")
        nengo.Probe(conn.learning_rule, "error")
        nengo.Probe(conn.learning_rule, "activities")
    return net


@cache
def channel_of(neuron_type):
    """A channel's bench, which core runs once for all types of numbers."""
    return bench_of_network(channel(neuron_type=neuron_type), sensitive=10)


@pytest.mark.parametrize("post", ("node", "ensemble"))
@pytest.mark.parametrize("pre_synapse", (None, 0.005, nengo.Alpha(0.01)), ids=str)
@pytest.mark.parametrize("size", (1, 3))
def test_channels(post, pre_synapse, size):
    bench = bench_of_network(channel(post, pre_synapse, size), sensitive=10)
    core = assert_equals_core(bench)
    assert np.ptp(core[1], axis=1).max() > 1e-7  # it learns
    assert np.abs(core[2]).max() > 0


@pytest.mark.parametrize(
    "neuron_type",
    (
        nengo.LIFRate(),
        nengo.RectifiedLinear(),
        nengo.SpikingRectifiedLinear(),
        nengo.Tanh(),
    ),
    ids=lambda n: type(n).__name__,
)
@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_neuron_types(neuron_type, dtype):
    core = assert_equals_core(channel_of(neuron_type), dtype=dtype)
    assert np.ptp(core[1], axis=1).max() > 1e-7


def test_channels_compiled():
    bench = bench_of_network(channel("ensemble"), sensitive=10)
    assert_equals_core(bench, "jitted", "float64", ITEMS)


def test_weights_between_neurons():
    """PES on the full weights: from neurons and with a solver for weights."""
    with nengo.Network(seed=5) as net:
        inp = nengo.Node(lambda t: [np.sin(30 * t), np.cos(20 * t)])
        pre, post = nengo.Ensemble(18, 2), nengo.Ensemble(12, 2)
        other = nengo.Ensemble(9, 1)
        nengo.Connection(inp, pre)
        full = nengo.Connection(
            pre,
            post,
            solver=nengo.solvers.LstsqL2(weights=True),
            learning_rule_type=nengo.PES(2e-3),
        )
        direct = nengo.Connection(
            pre.neurons,
            other.neurons,
            transform=np.random.RandomState(0).normal(size=(9, 18)) * 1e-3,
            learning_rule_type=nengo.PES(2e-3),
        )
        part = nengo.Connection(
            pre.neurons[2:7],
            post[0],
            transform=[[0.01] * 5],
            learning_rule_type=nengo.PES(1e-3),
        )
        nengo.Connection(inp, full.learning_rule)
        nengo.Connection(inp[0], direct.learning_rule)
        nengo.Connection(inp[1], part.learning_rule)
        for conn in (full, direct, part):
            nengo.Probe(conn, "weights")
        nengo.Probe(post, synapse=0.01)
        nengo.Probe(other.neurons)
    core = assert_equals_core(bench_of_network(net, sensitive=10))
    assert min(np.ptp(values, axis=1).max() for values in core[:3]) > 1e-9


def test_slices():
    with nengo.Network(seed=6) as net:
        inp = nengo.Node(lambda t: np.sin(25 * t + np.arange(3)))
        pre, post = nengo.Ensemble(25, 3), nengo.Node(size_in=5)
        nengo.Connection(inp, pre)
        for function, size, where in (
            (None, 1, np.s_[4]),
            (lambda x: x[:2] * x[1:], 2, np.s_[1:3]),
            (lambda x: x[0], 1, np.s_[::5]),
        ):
            source = pre[1] if function is None else pre
            conn = nengo.Connection(
                source, post[where], function=function, learning_rule_type=nengo.PES(5e-3)
            )
            nengo.Connection(inp[:size], conn.learning_rule)
            nengo.Probe(conn, "weights")
        nengo.Probe(post, synapse=0.01)
    core = assert_equals_core(bench_of_network(net, sensitive=10))
    assert min(np.ptp(values, axis=1).max() for values in core) > 1e-7


def test_two_rules_on_one_connection():
    with nengo.Network(seed=7) as net:
        inp = nengo.Node(lambda t: np.sin(25 * t))
        pre, post = nengo.Ensemble(20, 1), nengo.Node(size_in=1)
        nengo.Connection(inp, pre)
        conn = nengo.Connection(
            pre,
            post,
            learning_rule_type={
                "a": nengo.PES(1e-3),
                "b": nengo.PES(5e-4, pre_synapse=0.1),
            },
        )
        nengo.Connection(inp, conn.learning_rule["a"])
        nengo.Connection(post, conn.learning_rule["b"])
        nengo.Probe(conn, "weights")
    core = assert_equals_core(bench_of_network(net, sensitive=10))
    assert np.ptp(core[0], axis=1).max() > 1e-7


@pytest.mark.parametrize("tier", ("numpy", "jitted"))
def test_many_channels(tier):
    """Ten equal channels: rules and products are merged."""
    with nengo.Network(seed=8) as net:
        inp = nengo.Node(lambda t: np.sin(25 * t + np.arange(10)))
        outputs = nengo.Node(size_in=10)
        for i in range(10):
            pre = nengo.Ensemble(15, 1)
            nengo.Connection(inp[i], pre)
            conn = nengo.Connection(
                pre, outputs[i], function=lambda x: 0, learning_rule_type=nengo.PES(1e-3)
            )
            nengo.Connection(outputs[i], conn.learning_rule)
            nengo.Connection(inp[(3 * i) % 10], conn.learning_rule, transform=-1)
        nengo.Probe(outputs)
    bench = bench_of_network(net, sensitive=10)
    found = merged(bench)
    assert found["PES"] == [10] and found["varying_matmul"] == [10]
    (core,) = assert_equals_core(bench, tier)
    assert (np.ptp(core, axis=1) > 1e-3).all()


def test_a_large_rule_in_a_network():
    net = channel(size=28, n=300, neuron_type=nengo.LIFRate())
    for probe in net.probes[1:]:
        net.probes.remove(probe)
    bench = bench_of_network(net, sensitive=10)
    (core,) = assert_equals_core(bench)
    assert np.ptp(core) > 1e-3
    assert merged(bench)["PES"] == [1]


def test_every_item_learns_by_itself():
    """Weights are part of the state: other inputs lead to other weights."""
    bench = rules((3, 10), rate=5.0)
    _, weights = simulate(bench, "numpy", "float64", ITEMS)
    assert np.array_equal(weights[0, 0], weights[1, 0])
    assert np.abs(weights[0, -1] - weights[1, -1]).max() > 1e-3


def test_the_error_becomes_smaller():
    """A channel that starts with zeros comes close to what it is told."""
    with nengo.Network(seed=9) as net:
        inp = nengo.Node([0.5])
        pre, post = nengo.Ensemble(50, 1), nengo.Node(size_in=1)
        nengo.Connection(inp, pre)
        conn = nengo.Connection(
            pre, post, function=lambda x: 0, learning_rule_type=nengo.PES(2e-3)
        )
        nengo.Connection(post, conn.learning_rule)
        nengo.Connection(nengo.Node([0.8]), conn.learning_rule, transform=-1)
        nengo.Probe(post, synapse=0.01)
    (output,) = simulate(bench_of_network(net), "jitted", "float32", 1, 100)
    assert abs(output[0, 5, 0]) < 0.2
    assert output[0, -1, 0] == pytest.approx(0.8, abs=0.25)
