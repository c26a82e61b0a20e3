"""Simplifications: the same values from fewer elements, terms and nodes."""

from dataclasses import replace

import numpy as np
import pytest

from nengo_dl.compiler.costs import SPARSE_ROW
from nengo_dl.compiler.graph import GraphBuilder, Kind, ParameterRef, Reading
from nengo_dl.compiler.graph_verify import verify
from nengo_dl.compiler.simplify import (
    DEFAULT_RULES,
    alias,
    fold,
    inline,
    is_pruned,
    prune,
    simplify,
    sparsify,
)
from nengo_dl.kernels.algebra import PRODUCT
from nengo_dl.kernels.functions import PYTHON
from tests.compiler.helpers import (
    NETWORKS,
    NOISE,
    SQUASH,
    Recorder,
    add,
    agree_on_graph,
    agree_on_network,
    agree_on_random_graphs,
    case,
    copy,
    kinds,
    matvec,
    probe,
    python_node,
)
from tests.compiler.reference import interpret

NONE = np.zeros(0, int), np.zeros(0, int), np.zeros(0)

#: of the networks, those of which lowering makes nothing that could be left out
NOTHING_TO_DO = ("rates", "filtered_rates", "sigmoid", "mixed")


def only(rule):
    """The one rule, applied until nothing changes."""
    if rule is prune:
        return prune
    return lambda graph: simplify(graph, (rule,))


RULES = [prune, *DEFAULT_RULES]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_each_rule_keeps_the_values_of_random_graphs(rule, rng, allclose):
    agree_on_random_graphs(allclose, rng, only(rule))


def test_all_rules_keep_the_values_of_random_graphs(rng, allclose):
    agree_on_random_graphs(allclose, rng, simplify)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("name", NETWORKS)
def test_each_rule_keeps_the_values_of_networks(rule, name, allclose):
    agree_on_network(allclose, name, only(rule))


@pytest.mark.parametrize("name", NETWORKS)
def test_all_rules_keep_the_values_of_networks(name, allclose):
    graph = agree_on_network(allclose, name, simplify)
    before = case(name).graph
    assert graph.size < before.size or name in NOTHING_TO_DO
    assert graph.src.size <= before.src.size  # lowering leaves copies out
    assert len(graph.nodes) <= len(before.nodes)


@pytest.mark.parametrize("name", NETWORKS)
def test_open_parameters_are_not_folded(name, allclose):
    """The graph is right for other values of the parameters than the network's own."""
    graph = agree_on_network(allclose, name, simplify, opened=True)
    before = case(name, opened=True).graph
    assert {p.key for p in graph.parameters} == {p.key for p in before.parameters}
    assert _references(graph) == _references(before) > 0


def _references(graph):
    matrices = [m for node in graph.nodes for m in node.params.values()]
    return sum(isinstance(m, ParameterRef) for m in matrices)


@pytest.mark.parametrize("name", NETWORKS)
def test_simplifying_again_changes_nothing(name):
    graph = simplify(case(name).graph)
    again = simplify(graph)
    assert (again.size, again.src.size) == (graph.size, graph.src.size)
    assert len(again.nodes) == len(graph.nodes)


# -- prune


def test_prune_drops_what_nobody_needs(rng, allclose):
    b = GraphBuilder()
    x, unused = b.input("x", 2), b.input("unused", 3)
    b.node(SQUASH, [unused], [3], {})
    copy(b, unused)
    needed, forgotten = b.state([0, 0]), b.state([0, 0])
    y = add(b, x, needed)
    next_states = [(needed, y), (forgotten, y)]
    states = [Reading("needed", needed, (2,)), Reading("forgotten", forgotten, (2,))]
    graph = agree_on_graph(allclose, rng, b.build([probe(y)], states, next_states), prune)
    assert graph.size == 6
    assert graph.nodes == ()
    assert [source.key for source in graph.inputs] == ["x"]
    assert (graph.states[0].elements >= 0).all()
    assert (graph.states[1].elements == -1).all()


def test_prune_keeps_sources_and_outputs_as_a_whole(rng, allclose):
    b = GraphBuilder()
    x, w = b.input("x", 4), b.parameter("w", 3)
    (y,) = b.node(SQUASH, [x[1:2]], [1], {})
    (z,) = b.node(SQUASH, [w], [3], {})
    graph = agree_on_graph(allclose, rng, b.build([probe(y, z[:1])]), prune)
    assert graph.size == 4 + 3 + 1 + 3


def test_prune_follows_states_round_in_circles(rng, allclose):
    b = GraphBuilder()
    a, c = b.state([1]), b.state([2])
    graph = b.build([probe(a)], next_states=[(a, c), (c, a)])
    assert agree_on_graph(allclose, rng, graph, prune).size == 2


@pytest.mark.parametrize("sizes", [(), (2,)])
def test_prune_keeps_side_effects_and_what_they_read(sizes):
    b, log = GraphBuilder(), []
    x, state = b.input("x", 1), b.state([1])
    python_node(b, log, "effect", [add(b, x, state)], sizes)
    b.node(SQUASH, [x], [1], {})
    graph = prune(b.build(next_states=[(state, x)]))
    verify(graph)
    assert [node.label for node in graph.nodes] == ["effect"]
    interpret(graph, {"x": np.ones((3, 1, 1))}, 3)
    assert len(log) == 3


def test_prune_drops_nodes_without_readers_even_if_all_elements_stay():
    """What a node puts out may have become constant."""
    b = GraphBuilder()
    c = b.constant([1.0, 2.0])
    y = matvec(b, np.arange(10.0).reshape(5, 2), c)
    graph = prune(fold(b.build([probe(c, y)])))
    verify(graph)
    assert graph.nodes == ()


def test_a_pruned_graph_is_not_touched():
    b = GraphBuilder()
    graph = b.build([probe(copy(b, b.input("x", 2)))])
    assert prune(graph) is graph


def test_only_the_graph_that_was_pruned_is_known_to_be():
    b = GraphBuilder()
    b.input("not read", 1)
    graph = b.build([probe(copy(b, b.input("x", 2))), probe(b.input("y", 1))])
    assert not is_pruned(graph)
    pruned = prune(graph)
    assert is_pruned(pruned) and prune(pruned) is pruned
    unknown = replace(pruned)
    assert not is_pruned(unknown)
    assert prune(unknown) is unknown  # looked at again, and found to be so
    assert not is_pruned(pruned.rename(np.arange(pruned.size)))
    less = prune(replace(pruned, probes=pruned.probes[:1]))
    assert less.size == pruned.size - 1


def test_prune_looks_at_what_is_read_instead(rng):
    """As if it had been renamed before."""
    b = GraphBuilder()
    x, y = b.input("x", 2), b.input("y", 2)
    s = b.state([0, 0])
    first, second = copy(b, x), add(b, x, y)
    graph = b.build([probe(add(b, second, s))], next_states=[(s, second)])
    mapping = np.arange(graph.size)
    mapping[second] = first
    pruned, apart = prune(graph, mapping), prune(graph.rename(mapping))
    assert is_pruned(pruned)
    assert [source.key for source in pruned.inputs] == ["x"]
    assert pruned.size == apart.size == graph.size - 4
    inputs = {"x": rng.uniform(size=(5, 2, 2))}
    expected = interpret(apart, inputs, 5)
    assert np.array_equal(interpret(pruned, inputs, 5), expected)


# -- fold


def test_fold_adds_up_constants(rng, allclose):
    b = GraphBuilder()
    x, c = b.input("x", 2), b.constant([2.0, 3.0])
    y = b.sum(
        [1.0, 0.0],
        np.array([0, 0, 1, 1]),
        np.concatenate([x[:1], c[:1], x[1:], c[1:]]),
        np.array([1.0, 0.5, 1.0, -1.0]),
    )
    graph = agree_on_graph(allclose, rng, b.build([probe(y)]), only(fold))
    sums = graph.kind == Kind.SUM
    assert np.array_equal(graph.value[sums], [2, -3])
    assert np.array_equal(graph.fan_in[sums], [1, 1])
    assert kinds(graph)[Kind.CONSTANT] == 0


def test_fold_drops_terms_with_factor_zero(rng, allclose):
    b = GraphBuilder()
    x = b.input("x", 3)
    y = b.sum([0.5], np.zeros(3, int), x, np.array([0.0, 1.0, 0.0]))
    z = b.sum([0.5], np.zeros(3, int), x, np.zeros(3))
    graph = agree_on_graph(allclose, rng, b.build([probe(y, z)]), only(fold))
    assert graph.src.size == 1
    assert kinds(graph)[Kind.CONSTANT] == 1


def test_fold_of_a_chain_needs_no_other_rule(rng, allclose):
    """Also where one round makes something constant and nothing smaller."""
    b = GraphBuilder()
    x = b.input("x", 2)
    y = matvec(b, 1 + np.arange(12.0).reshape(6, 2), b.sum([1.0, 2.0], *NONE))
    z = copy(b, add(b, y, y), bias=1)
    graph = agree_on_graph(allclose, rng, b.build([probe(z, x)]), only(fold))
    assert kinds(graph)[Kind.CONSTANT] == graph.size - 2 == 6


def test_fold_states_that_never_change(rng, allclose):
    b = GraphBuilder()
    a, c = b.state([1.0]), b.state([2.0])
    x = b.input("x", 1)
    y = add(b, a, c, x)
    graph = b.build([probe(y)], next_states=[(a, a), (c, copy(b, c))])
    graph = agree_on_graph(allclose, rng, graph, simplify)
    assert kinds(graph)[Kind.STATE] == 0
    assert graph.value[graph.kind == Kind.SUM] == 3


def test_fold_matrices_of_constants_and_zeros(rng, allclose):
    b = GraphBuilder()
    c, zero = b.constant(rng.uniform(size=3)), b.constant(np.zeros(3))
    fixed = matvec(b, rng.uniform(size=(7, 3)), c)
    nothing = matvec(b, ParameterRef("w", (7, 3)), zero)
    opened = matvec(b, ParameterRef("w", (7, 3)), c)
    (product,) = b.node(PRODUCT, [zero, zero], [3], {})
    (noise,) = b.node(NOISE, [zero], [3], {})
    graph = b.build([probe(fixed, nothing, opened, product, noise)])
    graph = agree_on_graph(allclose, rng, graph, only(fold))
    assert [node.kernel.name for node in graph.nodes] == ["matmul", "noise"]


def test_fold_keeps_side_effects():
    class Quiet(type(PYTHON)):
        zero_preserving = True

    b, log = GraphBuilder(), []
    params = {"function": Recorder(log, "effect", (1,)), "sizes": (1,)}
    (y,) = b.node(Quiet(), [b.constant([0.0])], [1], params)
    interpret(simplify(b.build([probe(y)])), {}, 1)
    assert len(log) == 1


def test_fold_keeps_parameters(rng, allclose):
    b = GraphBuilder()
    w = b.parameter("w", 2)
    y = add(b, w, w, b.constant([1.0, 0.0]))
    graph = agree_on_graph(allclose, rng, b.build([probe(y)]), simplify)
    assert kinds(graph)[Kind.PARAMETER] == 2
    assert np.array_equal(graph.value[graph.kind == Kind.SUM], [1, 0])


# -- alias


def test_alias_reads_sources_of_copies(rng, allclose):
    b = GraphBuilder()
    x = b.input("x", 2)
    again = copy(b, copy(b, copy(b, x)))
    state = b.state([0, 0])
    y = matvec(b, rng.uniform(size=(6, 2)), again)
    states = [Reading("s", state, (2,))]
    graph = b.build([probe(again, y, state)], states, [(state, again)])
    graph = agree_on_graph(allclose, rng, graph, only(alias))
    assert kinds(graph)[Kind.SUM] == 0
    assert graph.size == 2 + 2 + 6
    assert np.array_equal(graph.next[graph.states[0].elements], graph.inputs[0].elements)


@pytest.mark.parametrize("change", [{"bias": 0.5}, {"scale": -1.0}])
def test_alias_takes_only_pure_copies(rng, allclose, change):
    b = GraphBuilder()
    y = copy(b, b.input("x", 2), **change)
    graph = agree_on_graph(allclose, rng, b.build([probe(y)]), only(alias))
    assert kinds(graph)[Kind.SUM] == 2


def test_alias_swaps_states(rng, allclose):
    """Copies of each other's last values: what is read is the value before."""
    b = GraphBuilder()
    a, c = b.state([1.0]), b.state([2.0])
    graph = b.build([probe(a, c)], next_states=[(a, copy(b, c)), (c, copy(b, a))])
    graph = agree_on_graph(allclose, rng, graph, only(alias))
    assert graph.size == 2
    assert np.array_equal(interpret(graph, {}, 2)[:, :, 0], [[1, 2], [2, 1]])


# -- inline


def test_inline_makes_one_sum_of_a_tree(rng, allclose):
    b = GraphBuilder()
    x, y = b.input("x", 2), b.input("y", 2)
    left, right = add(b, x, y, bias=1.0), copy(b, x, scale=3.0)
    total = add(b, copy(b, left, scale=0.5), right)
    graph = agree_on_graph(allclose, rng, b.build([probe(total)]), only(inline))
    assert kinds(graph)[Kind.SUM] == 2
    assert np.array_equal(graph.value[graph.kind == Kind.SUM], [0.5, 0.5])
    assert (graph.fan_in[graph.kind == Kind.SUM] == 3).all()


def test_inline_does_no_work_twice(rng, allclose):
    """A sum of several terms with two readers stays; a scaled copy is moved to both."""
    b = GraphBuilder()
    x, y = b.input("x", 1), b.input("y", 1)
    shared, scaled = add(b, x, y), copy(b, x, scale=2.0)
    first, second = add(b, shared, scaled), add(b, shared, scaled, y)
    graph = agree_on_graph(allclose, rng, b.build([probe(first, second)]), only(inline))
    assert kinds(graph)[Kind.SUM] == 3


@pytest.mark.parametrize("reader", ["node", "probe", "state"])
def test_inline_keeps_what_others_read(rng, allclose, reader):
    b = GraphBuilder()
    x, state = b.input("x", 2), b.state([0, 0])
    inner = add(b, x, x, bias=0.1)
    outer = add(b, inner, x)
    (y,) = b.node(SQUASH, [inner if reader == "node" else outer], [2], {})
    probed = probe(outer, y, state, inner if reader == "probe" else x)
    next_states = [(state, inner if reader == "state" else outer)]
    graph = b.build([probed], next_states=next_states)
    assert kinds(agree_on_graph(allclose, rng, graph, only(inline)))[Kind.SUM] == 4


def test_inline_of_sums_read_twice_by_one_sum(rng, allclose):
    b = GraphBuilder()
    x = b.input("x", 2)
    inner = add(b, x, x[::-1])
    outer = b.sum([0.0], np.zeros(3, int), inner[[0, 0, 1]], np.array([1.0, 2.0, 3.0]))
    agree_on_graph(allclose, rng, b.build([probe(outer)]), only(inline))


def test_inlined_bias_is_scaled(rng, allclose):
    b = GraphBuilder()
    constant = b.sum([2.0], *NONE)
    graph = b.build([probe(add(b, copy(b, constant, scale=-3.0), b.input("x", 1)))])
    graph = agree_on_graph(allclose, rng, graph, only(inline))
    assert graph.value[graph.kind == Kind.SUM] == -6


# -- sparsify


def sparse_matrix(rng, shape, per_row):
    matrix = np.zeros(shape)
    for row in matrix:
        columns = rng.permutation(shape[1])[:per_row]
        row[columns] = rng.uniform(1, 2, size=per_row)
    return matrix


@pytest.mark.parametrize("per_row", range(SPARSE_ROW + 3))
def test_sparsify_matrices_with_few_nonzeros_in_a_row(rng, allclose, per_row):
    b = GraphBuilder()
    y = matvec(b, sparse_matrix(rng, (8, 12), per_row), b.input("x", 12))
    graph = agree_on_graph(allclose, rng, b.build([probe(y)]), only(sparsify))
    becomes_sums = per_row <= SPARSE_ROW
    assert graph.count("matmul") == (not becomes_sums)
    assert graph.src.size == becomes_sums * 8 * per_row
    assert kinds(graph)[Kind.SUM] == becomes_sums * 8


def test_sparsify_looks_at_the_longest_row(rng, allclose):
    b = GraphBuilder()
    matrix = sparse_matrix(rng, (8, 12), 1)
    matrix[3] = 1
    y = matvec(b, matrix, b.input("x", 12))
    graph = agree_on_graph(allclose, rng, b.build([probe(y)]), only(sparsify))
    assert graph.count("matmul") == 1


@pytest.mark.parametrize("shape, sums", [((8, 3), 0), ((5, 1), 0), ((1, 1), 1)])
def test_sparsify_leaves_full_matrices(rng, allclose, shape, sums):
    """A narrow matrix without zeros is a good matrix; one number is no matrix."""
    b = GraphBuilder()
    y = matvec(b, rng.uniform(1, 2, size=shape), b.input("x", shape[1]))
    graph = agree_on_graph(allclose, rng, b.build([probe(y)]), only(sparsify))
    assert kinds(graph)[Kind.SUM] == sums


def test_sparsify_leaves_parameters(rng, allclose):
    b = GraphBuilder()
    y = matvec(b, ParameterRef("w", (8, 12)), b.input("x", 12))
    graph = agree_on_graph(allclose, rng, b.build([probe(y)]), simplify)
    assert graph.count("matmul") == 1


def test_sparsified_sums_keep_the_place_of_the_node(rng):
    b = GraphBuilder()
    x = b.input("x", 12)
    first = copy(b, x)
    y = matvec(b, sparse_matrix(rng, (8, 12), 2), first)
    last = copy(b, y)
    graph = sparsify(b.build([probe(last)]))
    blocks = [graph.block[e] for e in (first, graph.src[graph.ptr[last]], last)]
    assert [np.unique(block).size for block in blocks] == [1, 1, 1]
    assert blocks[0][0] < blocks[1][0] < blocks[2][0]


def test_rules_of_the_user_take_the_place_of_ours():
    b = GraphBuilder()
    y = copy(b, copy(b, b.input("x", 2)))
    graph, seen = b.build([probe(y)]), []

    def look(graph):
        seen.append(graph.size)
        return alias(graph)

    assert simplify(graph, (look,)).size == 2
    assert seen == [6, 2]
