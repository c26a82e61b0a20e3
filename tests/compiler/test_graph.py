"""The element graph and its builder."""

from dataclasses import replace

import numpy as np
import pytest

from nengo_dl.compiler.graph import (
    MANY,
    Graph,
    GraphBuilder,
    Kind,
    Node,
    ParameterRef,
    Reading,
)
from nengo_dl.compiler.graph_verify import verify
from nengo_dl.compiler.readings import Readings
from nengo_dl.kernels.algebra import PRODUCT
from tests.compiler.helpers import (
    SQUASH,
    TWIST,
    add,
    agree,
    copy,
    matvec,
    probe,
    python_node,
    random_graph,
)
from tests.compiler.reference import interpret


@pytest.fixture
def every_kind():
    """A builder, and elements of each kind by name."""
    b = GraphBuilder()
    e = {"constant": b.constant([0.5, -1.0]), "parameter": b.parameter("w", 2)}
    e["input"] = b.input("x", 2)
    e["state"] = b.state([1.0, 2.0])
    e["sum"] = add(b, e["input"], e["state"], bias=0.25)
    (e["product"],) = b.node(PRODUCT, [e["sum"], e["parameter"]], [2], {}, label="times")
    e["y"], e["z"] = b.node(
        TWIST, [e["product"], e["constant"]], [2, 2], {"gain": np.ones(2)}
    )
    return b, e


@pytest.fixture
def graph(every_kind):
    b, e = every_kind
    states = [Reading("s", e["state"], (2, 1))]
    return b.build([probe(e["z"], e["sum"])], states, [(e["state"], e["y"])])


def test_builder_numbers_elements_one_after_the_other(every_kind):
    b, e = every_kind
    assert np.array_equal(np.concatenate(list(e.values())), np.arange(b.size))


def test_builder_fills_the_columns(every_kind, graph):
    _, e = every_kind
    kinds = [Kind.CONSTANT, Kind.PARAMETER, Kind.INPUT, Kind.STATE, Kind.SUM]
    kinds += [Kind.NODE] * 3
    assert np.array_equal(graph.kind, np.repeat(kinds, 2))
    assert np.array_equal(graph.value[e["constant"]], [0.5, -1])
    assert np.array_equal(graph.value[e["state"]], [1, 2])
    assert np.array_equal(graph.value[e["sum"]], [0.25, 0.25])
    assert np.array_equal(graph.next[e["state"]], e["y"])
    assert (np.delete(graph.next, e["state"]) == -1).all()
    assert np.array_equal(graph.owner[e["product"]], [0, 0])
    assert np.array_equal(graph.owner[e["z"]], [1, 1])
    verify(graph)


def test_builder_makes_nodes_and_sources(every_kind, graph):
    _, e = every_kind
    product, twist = graph.nodes
    assert product.label == "times"
    assert product.order < twist.order
    assert np.array_equal(product.inputs[0], e["sum"])
    assert np.array_equal(twist.elements(1), e["z"])
    assert [s.key for s in (*graph.inputs, *graph.parameters)] == ["x", "w"]
    assert np.array_equal(graph.parameters[0].elements, e["parameter"])


def test_blocks_and_orders_grow_together(every_kind, graph):
    _, e = every_kind
    block = graph.block[e["sum"]]
    assert (block == block[0]).all()
    assert 0 < block[0] < graph.nodes[0].order


def test_sum_takes_its_terms_in_any_order():
    b = GraphBuilder()
    x = b.input("x", 3)
    s = b.sum([1.0, 2.0], np.array([1, 0, 1]), x, np.array([0.1, 0.2, 0.3]))
    empty = b.sum([7.0], np.zeros(0, int), np.zeros(0, int), np.zeros(0))
    graph = b.build()
    assert np.array_equal(graph.fan_in, [0, 0, 0, 1, 2, 0])
    assert np.array_equal(graph.term_owner, [s[0], s[1], s[1]])
    assert np.array_equal(graph.src, x[[1, 0, 2]])
    assert np.array_equal(graph.scale, [0.2, 0.1, 0.3])
    assert graph.value[empty] == 7


def test_state_may_name_its_next_elements_at_once():
    b = GraphBuilder()
    x = b.input("x", 2)
    state = b.state([0, 0], x)
    assert np.array_equal(b.build().next[state], x)


def test_values_are_flattened():
    b = GraphBuilder()
    c, s = b.constant([[1, 2], [3, 4]]), b.state(np.full((2, 1), 5))
    assert np.array_equal(b.build(next_states=[(s, c[:2])]).value, [1, 2, 3, 4, 5, 5])


def test_many_equal_constants_are_one_element():
    builder = GraphBuilder()
    equal = np.full(MANY, 0.5)
    signed = np.where(np.arange(MANY) == 7, -0.0, 0.0)
    elements = [builder.constant(equal), builder.constant(signed)]
    few = builder.constant(equal[:-1])
    assert [e.size for e in (*elements, few)] == [MANY, MANY, MANY - 1]
    assert builder.size == 1 + MANY + MANY - 1
    graph = builder.build()
    for found, values in zip(elements, (equal, signed), strict=True):
        assert graph.value[found].tobytes() == values.tobytes()


def test_empty_builder_gives_an_empty_graph():
    graph = GraphBuilder().build()
    verify(graph)
    assert graph.size == 0
    flat, reader = graph.node_inputs()
    assert flat.size == reader.size == 0


def test_node_without_output():
    b = GraphBuilder()
    assert python_node(b, [], "sink", [b.input("x", 2)]) == []
    (node,) = b.build().nodes
    assert node.size == 0


def test_a_node_can_be_given_one_more_output():
    b = GraphBuilder()
    x = b.input("x", 2)
    (first,) = python_node(b, [], "function", [x], [2])
    other = b.constant([1.0])
    more = b.widen(0, 3)
    graph = b.build(probes=[Reading("p", np.concatenate([first, more, other]), (6,))])
    verify(graph)
    (node,) = graph.nodes
    assert node.elements().tolist() == first.tolist()
    assert node.elements(1).tolist() == more.tolist() == [5, 6, 7]


def test_extending_keeps_everything_and_adds(graph, allclose, rng):
    b = GraphBuilder.extending(graph)
    twice = add(b, graph.probes[0].elements, graph.probes[0].elements)
    extended = b.build(probes=[probe(graph.probes[0].elements, twice)])
    verify(extended)
    assert extended.states == graph.states
    assert extended.nodes == graph.nodes
    assert extended.block[twice[0]] > max(node.order for node in graph.nodes)
    arguments = {"x": rng.uniform(size=(5, 2, 2))}, 5, {"w": np.array([0.5, 2.0])}
    y = interpret(extended, *arguments)
    agree(allclose, y[:, :4], interpret(graph, *arguments))
    agree(allclose, y[:, 4:], 2 * y[:, :4])


def test_extending_by_nothing_gives_an_equal_graph(graph):
    again = GraphBuilder.extending(graph).build()
    for name in ("kind", "owner", "value", "next", "block", "ptr", "src", "scale"):
        assert np.array_equal(getattr(again, name), getattr(graph, name)), name
    assert again.probes == graph.probes


def test_count(graph):
    assert graph.count("product") == graph.count("twist") == 1
    assert graph.count("matmul") == 0
    assert graph.count("sum") == 1


def test_node_inputs_go_with_their_readers(every_kind, graph):
    _, e = every_kind
    flat, reader = graph.node_inputs()
    expected = [e["sum"], e["parameter"], e["product"], e["constant"]]
    assert np.array_equal(flat, np.concatenate(expected))
    assert np.array_equal(reader, [0, 0, 0, 0, 1, 1, 1, 1])


def test_rename_changes_all_readers(every_kind, graph):
    _, e = every_kind
    mapping = np.arange(graph.size)
    mapping[e["z"]], mapping[e["y"]] = e["input"], e["constant"]
    mapping[e["sum"]], mapping[e["state"]] = e["product"], e["parameter"]
    renamed = graph.rename(mapping)
    assert np.array_equal(renamed.next[e["state"]], e["constant"])
    assert np.array_equal(renamed.nodes[0].inputs[0], e["product"])
    assert np.array_equal(renamed.probes[0].elements, [*e["input"], *e["product"]])
    assert np.array_equal(renamed.states[0].elements, e["parameter"])
    terms = renamed.src[renamed.term_owner == e["sum"][0]]
    assert sorted(terms) == [e["parameter"][0], e["input"][0]]
    assert (renamed.next[e["input"]] == -1).all()
    assert np.array_equal(graph.next[e["state"]], e["y"])  # the old one is as it was


def test_rename_leaves_lost_states_lost(graph):
    lost = Reading("lost", np.array([-1, 4]), (2,))
    graph = Graph(**{**vars(graph), "states": (lost,)})
    mapping = np.arange(graph.size)[::-1].copy()
    (reading,) = graph.rename(mapping).states
    assert np.array_equal(reading.elements, [-1, graph.size - 5])


def test_rename_keeps_readings_of_elements_that_stay(every_kind, graph):
    _, e = every_kind
    mapping = np.arange(graph.size, dtype=np.int32)
    mapping[e["z"]] = e["input"]
    states = Readings.of(graph.states)
    graph = replace(graph, states=states.having(states.elements.astype(np.int32)))
    assert graph.rename(mapping).states is graph.states
    mapping[e["state"]] = e["parameter"]
    assert np.array_equal(graph.rename(mapping).states[0].elements, e["parameter"])


def test_with_terms_sorts_by_sum_and_keeps_the_order_within(every_kind, graph):
    _, e = every_kind
    a, b = e["sum"]
    src = np.array([0, 1, 2, 3])
    changed = graph.with_terms(
        np.array([b, a, b, a]), src, src / 10, value=graph.value * 2
    )
    assert np.array_equal(changed.term_owner, [a, a, b, b])
    assert np.array_equal(changed.src, [1, 3, 0, 2])
    assert np.array_equal(changed.scale, np.array([1, 3, 0, 2]) / 10)
    assert np.array_equal(changed.value, graph.value * 2)


def test_keep_numbers_afresh(every_kind, graph, allclose, rng):
    """Without the first node: what read it reads the constants instead."""
    _, e = every_kind
    mapping = np.arange(graph.size)
    mapping[e["product"]] = e["constant"]
    graph = graph.rename(mapping)
    keep = np.ones(graph.size, bool)
    keep[e["product"]] = keep[e["parameter"]] = False
    kept = graph.keep(keep)
    verify(kept)
    assert kept.size == graph.size - 4
    assert [node.kernel for node in kept.nodes] == [TWIST]
    assert (kept.owner[kept.kind == Kind.NODE] == 0).all()
    assert kept.parameters == ()
    inputs = {"x": rng.uniform(size=(5, 2, 2))}
    expected = interpret(graph, inputs, 5, {"w": np.ones(2)})
    agree(allclose, interpret(kept, inputs, 5), expected)


def test_keep_loses_states_but_not_side_effects():
    b = GraphBuilder()
    x = b.input("x", 1)
    s = b.state([0, 0])
    python_node(b, [], "sink", [x])
    b.node(SQUASH, [x], [1], {})
    states = [Reading("s", s, (2,))]
    graph = b.build(states=states, next_states=[(s, np.repeat(x, 2))])
    keep = np.ones(graph.size, bool)
    keep[s[0]] = keep[graph.nodes[1].elements()] = False
    kept = graph.keep(keep)
    verify(kept)
    assert [node.label for node in kept.nodes] == ["sink"]
    assert np.array_equal(kept.states[0].elements, [-1, 1])
    assert kept.states[0].shape == (2,)


def test_only_reads_other_elements_as_rename_does(every_kind, graph):
    _, e = every_kind
    mapping = np.arange(graph.size)
    mapping[e["product"]], mapping[e["y"]] = e["constant"], e["parameter"]
    needed = np.ones(graph.size, bool)
    needed[e["product"]] = False
    alive = np.array([node.kernel is not PRODUCT for node in graph.nodes])
    at_once = graph.only(needed, alive, mapping)
    verify(at_once)
    apart = graph.rename(mapping).only(needed, alive)
    assert np.array_equal(at_once.next, apart.next)
    assert np.array_equal(at_once.src, apart.src)
    for mine, other in zip(at_once.nodes, apart.nodes, strict=True):
        assert mine.outputs == other.outputs
        assert all(map(np.array_equal, mine.inputs, other.inputs))
    for readings in ("probes", "states"):
        pairs = zip(getattr(at_once, readings), getattr(apart, readings), strict=True)
        assert all(np.array_equal(a.elements, b.elements) for a, b in pairs)


def test_keep_everything_keeps_everything(rng, allclose):
    graph, inputs, parameters = random_graph(rng)
    kept = graph.keep(np.ones(graph.size, bool))
    expected = interpret(graph, inputs, 12, parameters)
    agree(allclose, interpret(kept, inputs, 12, parameters), expected)


def test_node_describes_itself():
    node = Node(TWIST, (), ((3, 2), (8, 2)), {}, order=1)
    assert node.size == 2
    assert np.array_equal(node.elements(), [3, 4])
    assert np.array_equal(node.elements(1), [8, 9])
    assert repr(node) == "<Node twist [2, 2]>"


def test_reference_to_a_part_of_a_parameter(allclose, rng):
    b = GraphBuilder()
    x = b.input("x", 2)
    index = np.array([[5, 0], [1, 1], [4, 2]])
    y = matvec(b, ParameterRef("w", (3, 2), index), x)
    w = rng.uniform(size=(2, 3))
    u = rng.uniform(size=(4, 2, 1))
    graph = b.build(probes=[probe(y)])
    expected = w.ravel()[index] @ u
    agree(allclose, interpret(graph, {"x": u}, 4, {"w": w}), expected)


def test_reference_of_the_tests_computes_by_the_definition(allclose, rng):
    """A leaky sum, and its last value times two plus one."""
    b = GraphBuilder()
    x, s = b.input("x", 1), b.state([0.5])
    y = b.sum([0.0], np.array([0, 0]), np.concatenate([x, s]), np.array([1, 0.9]))
    late = copy(b, s, bias=1, scale=2)
    graph = b.build([probe(y, late)], next_states=[(s, y)])
    u = rng.uniform(size=(6, 1, 2))
    state, expected = np.full((1, 2), 0.5), []
    for x in u:
        expected.append(np.concatenate([x + 0.9 * state, 2 * state + 1]))
        state = x + 0.9 * state
    agree(allclose, interpret(graph, {"x": u}, 6), np.array(expected))
