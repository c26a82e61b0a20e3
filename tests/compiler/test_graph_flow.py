"""Which elements depend on which, against a search along every single edge."""

import numpy as np

from nengo_dl.compiler.graph import Flow, GraphBuilder, Kind
from tests.compiler.helpers import (
    SQUASH,
    TWIST,
    add,
    case,
    copy,
    probe,
    python_node,
    random_graph,
)
from tests.compiler.reference import edges, reach


def chosen(graph, *elements):
    return np.isin(np.arange(graph.size), np.concatenate(elements))


def test_reachability_on_random_graphs(rng):
    for _ in range(10):
        graph, _, _ = random_graph(rng)
        flow, pairs = Flow(graph), edges(graph)
        start = rng.rand(graph.size) < 0.05
        before = start.copy()
        assert np.array_equal(flow.forward(start), reach(start, pairs))
        backwards = [(b, a) for a, b in pairs]
        assert np.array_equal(flow.backward(start), reach(start, backwards))
        assert np.array_equal(start, before)


def test_levels_on_random_graphs(rng):
    for _ in range(10):
        graph, _, _ = random_graph(rng)
        level, node_level = Flow(graph).levels()
        longest = {}
        for a, b in edges(graph):
            longest[b] = max(longest.get(b, 0), level[a] + 1)
        assert np.array_equal(level, [longest.get(e, 0) for e in range(graph.size)])
        for node, its_level in zip(graph.nodes, node_level):
            assert (level[node.elements()] == its_level).all()


def test_levels_grow_along_a_network():
    graph = case("lif").graph
    level, _ = Flow(graph).levels()
    source = np.isin(graph.kind, (Kind.CONSTANT, Kind.INPUT, Kind.STATE))
    assert (level[source] == 0).all()
    assert (level[graph.src] < level[graph.term_owner]).all()


def test_time_makes_no_edge():
    b = GraphBuilder()
    state = b.state([0.0, 0.0])
    y = copy(b, state)
    graph = b.build([probe(y)], next_states=[(state, y)])
    flow = Flow(graph)
    assert np.array_equal(flow.forward(chosen(graph, y)), chosen(graph, y))
    assert np.array_equal(flow.backward(chosen(graph, state)), chosen(graph, state))


def test_nodes_pass_on_from_any_input_to_all_outputs():
    b = GraphBuilder()
    x, u = b.input("x", 2), b.input("u", 2)
    y, z = b.node(TWIST, [x, u], [2, 2], {"gain": np.ones(2)})
    graph = b.build([probe(y, z)])
    flow = Flow(graph)
    reached = flow.forward(chosen(graph, u[:1]))
    assert np.array_equal(reached, chosen(graph, u[:1], y, z))
    needed = flow.backward(chosen(graph, z[1:]))
    assert np.array_equal(needed, chosen(graph, x, u, z[1:]))


def test_nodes_without_output_have_a_level():
    b = GraphBuilder()
    (y,) = b.node(SQUASH, [b.input("x", 2)], [2], {})
    python_node(b, [], "sink", [add(b, y, y)])
    _, node_level = Flow(b.build()).levels()
    assert node_level.tolist() == [1, 3]


def test_empty_graph():
    flow = Flow(GraphBuilder().build())
    level, node_level = flow.levels()
    assert level.size == node_level.size == flow.forward(np.zeros(0, bool)).size == 0
