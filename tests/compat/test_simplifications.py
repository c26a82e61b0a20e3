"""Simplifications one by one: the same values, and what each of them removes."""

import numpy as np
import pytest
from nengo.exceptions import BuildError, ValidationError

from nengo_dl.compat.graph_optimizer import (
    default_simplifications,
    remove_constant_copies,
    remove_identity_muls,
    remove_reset_incs,
    remove_unmodified_resets,
    remove_zero_incs,
)
from nengo_dl.compiler.graph import GraphBuilder, Kind
from nengo_dl.compiler.simplify import simplify, simplify_by
from tests.compiler.helpers import (
    NETWORKS,
    agree_on_graph,
    agree_on_network,
    agree_on_random_graphs,
    copy,
    matvec,
    probe,
)

NAMED = [
    remove_unmodified_resets,
    remove_zero_incs,
    remove_identity_muls,
    remove_constant_copies,
    remove_reset_incs,
]


@pytest.mark.parametrize("rule", NAMED)
def test_values_of_random_graphs_stay(rule, rng, allclose):
    agree_on_random_graphs(allclose, rng, rule)


@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_values_of_networks_stay(name, opened, allclose):
    for rule in NAMED:
        agree_on_network(allclose, name, rule, opened)
    all_of_them = simplify_by(default_simplifications)
    one_by_one = agree_on_network(allclose, name, all_of_them, opened)
    at_once = agree_on_network(allclose, name, simplify, opened)
    assert one_by_one.size == at_once.size
    assert one_by_one.src.size == at_once.src.size
    assert len(one_by_one.nodes) == len(at_once.nodes)


def test_no_simplification_at_all(rng, allclose):
    agree_on_random_graphs(allclose, rng, simplify_by([]))


@pytest.fixture
def builder():
    return GraphBuilder()


def test_unmodified_resets(builder, rng, allclose):
    b = builder
    x, reset = b.input("x", 2), b.sum(np.array([3.0, 4.0]), [], [], [])
    graph = b.build(probes=[probe(copy(b, reset), copy(b, x))])
    graph = agree_on_graph(allclose, rng, graph, remove_unmodified_resets)
    assert (graph.kind[reset] == Kind.CONSTANT).all()
    assert remove_unmodified_resets(graph) is graph


def test_zero_incs(builder, rng, allclose):
    b = builder
    x, zero = b.input("x", 2), b.constant(np.zeros(2))
    y = b.sum(np.zeros(2), [0, 1, 0, 1], [*x, *zero], [1.0, 0.0, 2.0, 2.0])
    graph = b.build(probes=[probe(y)])
    graph = agree_on_graph(allclose, rng, graph, remove_zero_incs)
    assert graph.fan_in[y].tolist() == [1, 0]
    assert remove_zero_incs(graph) is graph


def test_identity_muls(builder, rng, allclose):
    b = builder
    x = b.input("x", 3)
    once = matvec(b, np.eye(3), x)
    twice, other = matvec(b, np.eye(3), once), matvec(b, 2 * np.eye(3), once)
    graph = b.build(probes=[probe(twice), probe(other)])
    graph = agree_on_graph(allclose, rng, graph, remove_identity_muls)
    assert np.array_equal(graph.probes[0].elements, x)
    assert np.array_equal(graph.nodes[-1].inputs[0], x)
    assert np.array_equal(graph.probes[1].elements, other)


def test_constant_copies(builder, rng, allclose):
    b = builder
    x, two = b.input("x", 1), b.constant(np.array([2.0]))
    y = b.sum(np.array([1.0]), [0, 0], [*two, *two], [1.0, 3.0])
    mixed = b.sum(np.zeros(1), [0, 0], [*two, *x], [1.0, 1.0])
    graph = b.build(probes=[probe(y), probe(mixed)])
    graph = agree_on_graph(allclose, rng, graph, remove_constant_copies)
    assert graph.kind[y] == Kind.CONSTANT and graph.value[y] == 9
    assert graph.kind[mixed] == Kind.SUM and graph.fan_in[mixed] == 2
    assert remove_constant_copies(graph) is graph


def test_reset_incs(builder, rng, allclose):
    b = builder
    x = b.input("x", 2)
    graph = b.build(probes=[probe(copy(b, x))])
    graph = agree_on_graph(allclose, rng, graph, remove_reset_incs)
    assert np.array_equal(graph.probes[0].elements, x)


def test_what_is_no_graph_is_refused(builder):
    graph = builder.build(probes=[probe(builder.input("x", 1))])

    def forgets(graph):
        graph.size  # noqa: B018 - and nothing is returned

    with pytest.raises(ValidationError, match="simplification forgets returned None"):
        simplify_by([forgets])(graph)


def test_broken_graphs_are_found(builder):
    b = builder
    graph = b.build(probes=[probe(copy(b, b.input("x", 2)))])

    def breaks(graph):
        return graph.rename(np.full(graph.size, graph.size + 7))

    with pytest.raises(BuildError, match="breaks returned .* a term's source"):
        simplify_by([breaks])(graph)
