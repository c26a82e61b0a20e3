"""What equal operators make of the same elements is made once while lowering."""

from dataclasses import replace

import nengo
import numpy as np
import pytest

from nengo_dl.compiler.graph import GraphBuilder
from nengo_dl.compiler.lowering import LoweringOptions, lower
from nengo_dl.compiler.pipeline import compile_model
from nengo_dl.compiler.repeated import FEW, Repeated
from nengo_dl.compiler.simplify import share, simplify
from nengo_dl.kernels.algebra import MATVEC, PRODUCT
from nengo_dl.kernels.functions import PYTHON
from tests.compiler.helpers import NETWORKS, NOISE, Recorder, agree, case
from tests.compiler.reference import interpret


@pytest.fixture
def builder():
    return GraphBuilder()


def fanned():
    """One ensemble that several others read through equal filters, and some others."""
    with nengo.Network(seed=0) as net:
        a = nengo.Ensemble(10, 2, seed=1)
        others = [nengo.Ensemble(5, 2) for _ in range(4)]
        for post, synapse in zip(others, (0.01, 0.01, 0.02, nengo.Alpha(0.01))):
            nengo.Connection(a, post, synapse=synapse, seed=2)
        nengo.Connection(a, others[0], function=np.square, synapse=0.01, seed=2)
        nengo.Connection(a, others[3], synapse=nengo.Alpha(0.01), seed=2)
        for ens in others:
            nengo.Probe(ens)
    return net


def columns(graph):
    """All that a graph is made of, for comparisons."""
    names = ("kind", "owner", "value", "next", "block", "ptr", "src", "scale")
    arrays = [getattr(graph, name) for name in names]
    arrays += [i for node in graph.nodes for i in node.inputs]
    arrays += [r.elements for r in (*graph.probes, *graph.states)]
    about = [(n.kernel.name, n.outputs, n.order) for n in graph.nodes]
    return arrays, about, [r.key for r in graph.states]


def same(first, second):
    arrays, *others = columns(first)
    their_arrays, *theirs = columns(second)
    pairs = zip(arrays, their_arrays, strict=True)
    return others == theirs and all(np.array_equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("name", ["fanned", *NETWORKS])
def test_passes_make_of_it_what_they_make_of_all(name):
    built = nengo.builder.Model(dt=0.001)
    built.build(fanned() if name == "fanned" else NETWORKS[name]())
    every, once = (
        compile_model(built, LoweringOptions(equal_once=once, hosts={}))
        for once in (False, True)
    )
    assert same(every.graph, once.graph)
    assert every.turned.keys() == once.turned.keys()
    assert every.lasting == once.lasting


def test_is_made_once():
    built = nengo.builder.Model(dt=0.001)
    built.build(fanned())
    every, once = (
        lower(built, LoweringOptions(equal_once=once)).graph for once in (False, True)
    )
    shared = share(simplify(every))
    assert len(once.nodes) == len(shared.nodes) < len(every.nodes)
    assert once.size < every.size
    assert [r.key for r in once.states] == [r.key for r in every.states]


def test_states_that_begin_otherwise_are_their_own():
    with nengo.Network(seed=0) as net:
        a = nengo.Ensemble(10, 1, seed=1)
        for _ in range(2):
            nengo.Probe(a, synapse=0.01)
    built = nengo.builder.Model(dt=0.001)
    built.build(net)
    filters = [op.state["X"] for op in built.operators if "X" in getattr(op, "state", {})]
    options = LoweringOptions(equal_once=True)
    alike = lower(built, options).graph.states
    found = {r.key: r.elements.tolist() for r in alike}
    assert found[filters[0]] == found[filters[1]]
    for changed in (
        replace(options, first={filters[1]: np.ones(1)}),
        replace(options, individual=frozenset([filters[1]])),
        replace(options, written=frozenset([filters[1]])),
    ):
        graph = lower(built, changed).graph
        found = {r.key: r.elements.tolist() for r in graph.states}
        assert found[filters[0]] != found[filters[1]]


def test_agrees_with_the_reference(allclose):
    it = case("lif")
    graph = lower(it.model, LoweringOptions(equal_once=True, hosts={})).graph
    agree(allclose, interpret(graph, **it.arguments()), it.expected)


def test_what_differs_is_made(builder):
    x, y = builder.input("x", 2), builder.input("y", 2)
    made, one, other = Repeated(builder), np.ones((2, 2)), np.eye(2)

    def matvec(matrix, elements):
        return made.node(MATVEC, [elements], [2], {"A": matrix})[0].tolist()

    first = matvec(one, x)
    assert matvec(one.copy(), x) == first
    assert matvec(other, x) != first
    assert matvec(other, x) == matvec(other.copy(), x)
    assert matvec(one, y) != first
    assert matvec(-0.0 * one, x) != matvec(0.0 * one, x)
    # those that were not made leave gaps
    assert [node.order for node in builder.nodes] == [1, 3, 6, 7, 8]


def test_what_is_random_or_python_is_made_each_time(builder):
    x, made = builder.input("x", 2), Repeated(builder)
    for kernel in (NOISE, PYTHON):
        params = {"function": Recorder([], ""), "sizes": (2,)} if kernel.host else {}
        first, second = (made.node(kernel, [x], [2], params)[0] for _ in range(2))
        assert not np.intersect1d(first, second).size


def test_compares_with_few(builder):
    x, made = builder.input("x", 1), Repeated(builder)
    outputs = [
        made.node(MATVEC, [x], [1], {"A": np.full((1, 1), k % (2 * FEW))})[0].item()
        for k in range(4 * FEW)
    ]
    assert outputs[2 * FEW : 3 * FEW] == outputs[:FEW]
    assert len(set(outputs)) == 3 * FEW


def test_what_is_given_may_be_written(builder):
    x, made = builder.input("x", 2), Repeated(builder)
    for _ in range(2):
        (out,) = made.node(PRODUCT, [x, x], [2], {})
        assert out.tolist() == [2, 3]
        out[:] = 0
