"""The order of operators is core Nengo's, dependency by dependency."""

import nengo
import numpy as np
import pytest
from nengo.builder import Model
from nengo.builder.operator import Copy, DotInc, ElementwiseInc, Reset
from nengo.builder.signal import Signal
from nengo.exceptions import BuildError
from nengo.utils.graphs import toposort
from nengo.utils.simulator import operator_dependency_graph

from nengo_dl.compiler.plan import dependents, operator_order
from tests.compiler.helpers import NETWORKS


class Quick(nengo.solvers.Solver):
    """Zeros, since decoders do not matter here."""

    def __call__(self, A, Y, rng=None):
        return np.zeros((A.shape[1], Y.shape[1])), {}


def action():
    with nengo.Network(seed=0) as net:
        ganglia = nengo.networks.BasalGanglia(3, 5)
        thalamus = nengo.networks.Thalamus(3, 5)
        nengo.Connection(ganglia.output, thalamus.input)
        nengo.Probe(thalamus.output)
    return net


def convolution():
    with nengo.Network(seed=0) as net:
        bind = nengo.networks.CircularConvolution(5, 4)
        nengo.Connection(nengo.Node(np.ones(4)), bind.input_a, synapse=None)
        nengo.Connection(bind.output[::2], bind.input_b[[1, 3]])
        nengo.Connection(bind.output[2:], bind.input_b[2:0:-1])
        nengo.Probe(bind.output)
    return net


BUILT = {**NETWORKS, "action": action, "convolution": convolution}


def operators_of(name):
    net = BUILT[name]()
    for conn in net.all_connections:
        if isinstance(conn.pre_obj, nengo.Ensemble):
            conn.solver = Quick(weights=conn.solver.weights)
    model = Model()
    model.build(net)
    return model.operators


def assert_core_s_order(operators):
    expected = operator_dependency_graph(operators)
    found = dependents(operators)
    assert list(found) == list(expected)
    for op, after in expected.items():
        assert list(found[op]) == list(after), op
    assert operator_order(operators) == toposort(expected)


@pytest.mark.parametrize("name", BUILT)
def test_order_of_networks(name):
    operators = operators_of(name)
    assert len(operators) > 5
    assert_core_s_order(operators)


@pytest.mark.parametrize("name", ["lif", "convolution"])
def test_order_of_shuffled_operators(name, rng):
    operators = operators_of(name)
    for _ in range(5):
        assert_core_s_order([operators[i] for i in rng.permutation(len(operators))])


def random_views(rng, base, number):
    views = [base]
    for _ in range(number):
        start, stop = sorted(rng.randint(0, base.size + 1, size=2))
        views.append(base[start : stop : rng.choice([1, 2])])
        if rng.rand() < 0.3:
            views.append(base[stop - 1 : start - 1 if start else None : -1])
    return [view for view in views if view.size]


@pytest.mark.parametrize("number", [2, 6, 20])
def test_order_with_overlapping_views(number, rng):
    """Views of all kinds are incremented and read, each after what overlaps with it."""
    for _ in range(10):
        x, y = (Signal(np.zeros(12), name=name) for name in "xy")
        source, sink = random_views(rng, x, number), random_views(rng, y, number)
        operators = [Reset(x), Reset(y[:5]), Reset(y[5:])]
        for _ in range(2 * number):
            src = source[rng.randint(len(source))]
            fits = [view for view in sink if view.size == src.size]
            if fits:
                operators.append(Copy(src, fits[rng.randint(len(fits))], inc=True))
        assert_core_s_order([operators[i] for i in rng.permutation(len(operators))])


def test_empty_views_share_nothing():
    x = Signal(np.zeros(4), name="x")
    one = Signal(np.ones(()), name="one")
    empty, out = x[2:2], Signal(np.zeros(0), name="out")
    operators = [ElementwiseInc(one, empty, out), Reset(x), Reset(out), Reset(one)]
    assert_core_s_order(operators)


def test_matrices_with_views():
    x = Signal(np.zeros((4, 6)), name="x")
    y = Signal(np.zeros(4), name="y")
    operators = [Copy(x[:, i], y, inc=True) for i in range(6)]
    operators += [DotInc(x[:, 1:3], Signal(np.zeros(2), name="v"), y)]
    operators += [Reset(x[i]) for i in range(4)] + [Reset(y)]
    assert_core_s_order(operators)


def test_circle_is_named():
    with nengo.Network() as net:
        nodes = [nengo.Node(size_in=1, label=f"node{i}") for i in range(4)]
        for pre, post in ((0, 1), (1, 2), (2, 0), (2, 3)):
            nengo.Connection(nodes[pre], nodes[post], synapse=None, label=f"{pre}-{post}")
    model = Model()
    model.build(net)
    with pytest.raises(BuildError, match="cycles"):
        toposort(operator_dependency_graph(model.operators))
    with pytest.raises(BuildError, match="loop without delay.*synapse") as error:
        operator_order(model.operators)
    for label in ("0-1", "1-2", "2-0"):
        assert label in str(error.value)
    assert "2-3" not in str(error.value)


@pytest.mark.parametrize("second", [slice(None), slice(2, 4)])
def test_setting_twice_is_an_error(second):
    x = Signal(np.zeros(4), name="x")
    operators = [Reset(x[1:3]), Reset(x[second], tag="second")]
    with pytest.raises(AssertionError):
        operator_dependency_graph(operators)
    with pytest.raises(BuildError, match="2 operators set the signal x.*second"):
        operator_order(operators)
