"""Simplifications: the same values from fewer elements, terms and nodes."""

import nengo
import numpy as np
import pytest

from nengo_dl.compiler.graph import GraphBuilder, Kind, ParameterRef, Reading
from nengo_dl.compiler.simplify import (
    DEFAULT_RULES,
    SPARSE_ROW,
    alias,
    fold,
    inline,
    prune,
    simplify,
    sparsify,
)
from nengo_dl.compiler.verify import verify
from nengo_dl.kernels.algebra import PRODUCT, VARYING_MATVEC
from nengo_dl.kernels.learning.pes import PES_DELTA
from nengo_dl.kernels.synapses.linear_filter import ONE_STATE
from tests.compiler.helpers import (
    NETWORKS,
    NOISE,
    SQUASH,
    add,
    agree,
    agree_on_network,
    agree_on_random_graphs,
    case,
    copy,
    kinds,
    make_case,
    matvec,
    probe,
    python_node,
    random_inputs,
    random_parameters,
)
from tests.compiler.reference import interpret
from tests.networks import waves

NONE = np.zeros(0, int), np.zeros(0, int), np.zeros(0)


def only(rule):
    """The one rule, applied until nothing changes."""
    if rule is prune:
        return prune
    return lambda graph: simplify(graph, (rule,))


def check(allclose, rng, graph, rule):
    """A rule keeps the values of a graph that is fed with random ones."""
    verify(graph, "the test")
    changed = rule(graph)
    verify(changed, "the rule")
    inputs, parameters = random_inputs(graph, rng, 8), random_parameters(graph, rng)
    expected = interpret(graph, inputs, 8, parameters, batch=2)
    agree(allclose, interpret(changed, inputs, 8, parameters, batch=2), expected)
    return changed


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
    assert graph.size < before.size
    assert graph.src.size < before.src.size
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
    following = [(needed, y), (forgotten, y)]
    states = [Reading("needed", needed, (2,)), Reading("forgotten", forgotten, (2,))]
    graph = check(allclose, rng, b.build([probe(y)], states, following), prune)
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
    graph = check(allclose, rng, b.build([probe(y, z[:1])]), prune)
    assert graph.size == 4 + 3 + 1 + 3


def test_prune_follows_states_round_in_circles(rng, allclose):
    b = GraphBuilder()
    a, c = b.state([1]), b.state([2])
    graph = b.build([probe(a)], following=[(a, c), (c, a)])
    assert check(allclose, rng, graph, prune).size == 2


@pytest.mark.parametrize("sizes", [(), (2,)])
def test_prune_keeps_side_effects_and_what_they_read(sizes):
    b, log = GraphBuilder(), []
    x, state = b.input("x", 1), b.state([1])
    python_node(b, log, "effect", [add(b, x, state)], sizes)
    b.node(SQUASH, [x], [1], {})
    graph = prune(b.build(following=[(state, x)]))
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
    graph = check(allclose, rng, b.build([probe(y)]), only(fold))
    sums = graph.kind == Kind.SUM
    assert np.array_equal(graph.value[sums], [2, -3])
    assert np.array_equal(graph.fan_in[sums], [1, 1])
    assert kinds(graph)[Kind.CONSTANT] == 0


def test_fold_drops_terms_with_factor_zero(rng, allclose):
    b = GraphBuilder()
    x = b.input("x", 3)
    y = b.sum([0.5], np.zeros(3, int), x, np.array([0.0, 1.0, 0.0]))
    z = b.sum([0.5], np.zeros(3, int), x, np.zeros(3))
    graph = check(allclose, rng, b.build([probe(y, z)]), only(fold))
    assert graph.src.size == 1
    assert kinds(graph)[Kind.CONSTANT] == 1


def test_fold_of_a_chain_needs_no_other_rule(rng, allclose):
    """Also where one round makes something constant and nothing smaller."""
    b = GraphBuilder()
    x = b.input("x", 2)
    y = matvec(b, 1 + np.arange(12.0).reshape(6, 2), b.sum([1.0, 2.0], *NONE))
    z = copy(b, add(b, y, y), bias=1)
    graph = check(allclose, rng, b.build([probe(z, x)]), only(fold))
    assert kinds(graph)[Kind.CONSTANT] == graph.size - 2 == 6


def test_fold_states_that_never_change(rng, allclose):
    b = GraphBuilder()
    a, c = b.state([1.0]), b.state([2.0])
    x = b.input("x", 1)
    y = add(b, a, c, x)
    graph = b.build([probe(y)], following=[(a, a), (c, copy(b, c))])
    graph = check(allclose, rng, graph, simplify)
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
    graph = check(allclose, rng, graph, only(fold))
    assert [node.kernel.name for node in graph.nodes] == ["matmul", "noise"]


def test_fold_keeps_side_effects():
    b, log = GraphBuilder(), []
    (y,) = python_node(b, log, "effect", [b.constant([0.0])], (1,))
    graph = simplify(b.build([probe(y)]))
    assert len(graph.nodes) == 1


def test_fold_keeps_parameters(rng, allclose):
    b = GraphBuilder()
    w = b.parameter("w", 2)
    y = add(b, w, w, b.constant([1.0, 0.0]))
    graph = check(allclose, rng, b.build([probe(y)]), simplify)
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
    graph = check(allclose, rng, graph, only(alias))
    assert kinds(graph)[Kind.SUM] == 0
    assert graph.size == 2 + 2 + 6
    assert np.array_equal(graph.next[graph.states[0].elements], graph.inputs[0].elements)


@pytest.mark.parametrize("change", [{"bias": 0.5}, {"scale": -1.0}])
def test_alias_takes_only_pure_copies(rng, allclose, change):
    b = GraphBuilder()
    y = copy(b, b.input("x", 2), **change)
    graph = check(allclose, rng, b.build([probe(y)]), only(alias))
    assert kinds(graph)[Kind.SUM] == 2


def test_alias_swaps_states(rng, allclose):
    """Copies of each other's last values: what is read is the value before."""
    b = GraphBuilder()
    a, c = b.state([1.0]), b.state([2.0])
    graph = b.build([probe(a, c)], following=[(a, copy(b, c)), (c, copy(b, a))])
    graph = check(allclose, rng, graph, only(alias))
    assert graph.size == 2
    assert np.array_equal(interpret(graph, {}, 2)[:, :, 0], [[1, 2], [2, 1]])


# -- inline


def test_inline_makes_one_sum_of_a_tree(rng, allclose):
    b = GraphBuilder()
    x, y = b.input("x", 2), b.input("y", 2)
    left, right = add(b, x, y, bias=1.0), copy(b, x, scale=3.0)
    total = add(b, copy(b, left, scale=0.5), right)
    graph = check(allclose, rng, b.build([probe(total)]), only(inline))
    assert kinds(graph)[Kind.SUM] == 2
    assert np.array_equal(graph.value[graph.kind == Kind.SUM], [0.5, 0.5])
    assert (graph.fan_in[graph.kind == Kind.SUM] == 3).all()


def test_inline_does_no_work_twice(rng, allclose):
    """A sum of several terms with two readers stays; a scaled copy is moved to both."""
    b = GraphBuilder()
    x, y = b.input("x", 1), b.input("y", 1)
    shared, scaled = add(b, x, y), copy(b, x, scale=2.0)
    first, second = add(b, shared, scaled), add(b, shared, scaled, y)
    graph = check(allclose, rng, b.build([probe(first, second)]), only(inline))
    assert kinds(graph)[Kind.SUM] == 3


@pytest.mark.parametrize("reader", ["node", "probe", "state"])
def test_inline_keeps_what_others_read(rng, allclose, reader):
    b = GraphBuilder()
    x, state = b.input("x", 2), b.state([0, 0])
    inner = add(b, x, x, bias=0.1)
    outer = add(b, inner, x)
    (y,) = b.node(SQUASH, [inner if reader == "node" else outer], [2], {})
    probed = probe(outer, y, state, inner if reader == "probe" else x)
    following = [(state, inner if reader == "state" else outer)]
    graph = b.build([probed], following=following)
    assert kinds(check(allclose, rng, graph, only(inline)))[Kind.SUM] == 4


def test_inline_of_sums_read_twice_by_one_sum(rng, allclose):
    b = GraphBuilder()
    x = b.input("x", 2)
    inner = add(b, x, x[::-1])
    outer = b.sum([0.0], np.zeros(3, int), inner[[0, 0, 1]], np.array([1.0, 2.0, 3.0]))
    check(allclose, rng, b.build([probe(outer)]), only(inline))


def test_inlined_bias_is_scaled(rng, allclose):
    b = GraphBuilder()
    constant = b.sum([2.0], *NONE)
    graph = b.build([probe(add(b, copy(b, constant, scale=-3.0), b.input("x", 1)))])
    graph = check(allclose, rng, graph, only(inline))
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
    graph = check(allclose, rng, b.build([probe(y)]), only(sparsify))
    becomes_sums = per_row <= SPARSE_ROW
    assert graph.count("matmul") == (not becomes_sums)
    assert graph.src.size == becomes_sums * 8 * per_row
    assert kinds(graph)[Kind.SUM] == becomes_sums * 8


def test_sparsify_looks_at_the_longest_row(rng, allclose):
    b = GraphBuilder()
    matrix = sparse_matrix(rng, (8, 12), 1)
    matrix[3] = 1
    y = matvec(b, matrix, b.input("x", 12))
    graph = check(allclose, rng, b.build([probe(y)]), only(sparsify))
    assert graph.count("matmul") == 1


@pytest.mark.parametrize("shape, sums", [((8, 3), 0), ((5, 1), 0), ((1, 1), 1)])
def test_sparsify_leaves_full_matrices(rng, allclose, shape, sums):
    """A narrow matrix without zeros is a good matrix; one number is no matrix."""
    b = GraphBuilder()
    y = matvec(b, rng.uniform(1, 2, size=shape), b.input("x", shape[1]))
    graph = check(allclose, rng, b.build([probe(y)]), only(sparsify))
    assert kinds(graph)[Kind.SUM] == sums


def test_sparsify_leaves_parameters(rng, allclose):
    b = GraphBuilder()
    y = matvec(b, ParameterRef("w", (8, 12)), b.input("x", 12))
    graph = check(allclose, rng, b.build([probe(y)]), simplify)
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


# -- retime


def learner(kernel=PES_DELTA, initial=0.0, m=3, n=4, key="delta"):
    """A state that takes an outer product, applied to a vector in the next step."""
    b = GraphBuilder()
    error, activity, x = b.input("e", m), b.input("a", n), b.input("x", n)
    state = b.state(np.full(m * n, initial))
    params = {"shape": (m, n), "factor": -0.1}
    (delta,) = b.node(kernel, [error, activity], [m * n], params, order=5, label="learn")
    shape = {"shape": (m, n)}
    (y,) = b.node(VARYING_MATVEC, [state, x], [m], shape)
    states = [Reading(key, state, (m, n))]
    return b, b.build([probe(y, state)], states, [(state, delta)])


def test_retime_carries_factors_instead_of_the_product(rng, allclose):
    _, graph = learner()
    retimed = check(allclose, rng, graph, simplify)
    assert kinds(graph)[Kind.STATE] == 12
    assert kinds(retimed)[Kind.STATE] == 3 + 4
    (node,) = (n for n in retimed.nodes if n.kernel is PES_DELTA)
    assert (node.order, node.label) == (5, "learn")
    assert node.params == {"shape": (3, 4), "factor": -0.1}
    by_key = {reading.key: reading for reading in retimed.states}
    assert set(by_key) == {"delta", ("delta", 0), ("delta", 1)}
    assert (by_key["delta"].elements == -1).all()
    assert by_key["delta", 0].shape == (3,) and by_key["delta", 1].shape == (4,)


def test_retime_only_if_that_is_less_to_carry(rng, allclose):
    _, graph = learner(m=2, n=2)  # 4 numbers in either form
    assert kinds(check(allclose, rng, graph, simplify))[Kind.STATE] == 4


def test_retime_only_states_that_start_as_zeros(rng, allclose):
    _, graph = learner(initial=0.5)
    assert kinds(check(allclose, rng, graph, simplify))[Kind.STATE] == 12


def test_retime_only_whole_outputs(rng, allclose):
    b = GraphBuilder()
    e, a = b.input("e", 3), b.input("a", 4)
    params = {"shape": (3, 4), "factor": 1.0}
    (delta,) = b.node(PES_DELTA, [e, a], [12], params)
    part, turned = b.state(np.zeros(6)), b.state(np.zeros(12))
    states = [Reading("part", part, (6,)), Reading("turned", turned, (12,))]
    following = [(part, delta[:6]), (turned, delta[::-1])]
    graph = b.build([probe(part, turned)], states, following)
    assert kinds(check(allclose, rng, graph, simplify))[Kind.STATE] == 18


def test_retime_only_kernels_that_keep_zeros():
    class Shifted(type(PES_DELTA)):
        zero_preserving = False

    _, graph = learner(Shifted())
    assert kinds(simplify(graph))[Kind.STATE] == 12


def test_retime_leaves_filters(rng, allclose):
    """Their state takes their output, but is an input as well."""
    b = GraphBuilder()
    x, state = b.input("x", 3), b.state(np.zeros(3))
    params = {"a": np.full(3, 0.9), "b": np.full(3, 0.1)}
    (y,) = b.node(ONE_STATE, [x, state], [3], params)
    states = [Reading("X", state, (3,))]
    graph = b.build([probe(y)], states, [(state, y)])
    assert kinds(check(allclose, rng, graph, simplify))[Kind.STATE] == 3


def test_networks_carry_the_factors_of_pes(allclose):
    with nengo.Network(seed=0) as net:
        inp = nengo.Node(waves(2))
        pre, post = nengo.Ensemble(30, 2), nengo.Node(size_in=2)
        nengo.Connection(inp, pre)
        conn = nengo.Connection(pre, post, learning_rule_type=nengo.PES(1e-3))
        nengo.Connection(post, conn.learning_rule)
        nengo.Probe(conn, "weights")
    it = make_case(net)
    graph = simplify(it.graph)
    agree(allclose, it.run(graph), it.expected)
    assert np.abs(it.expected[-1] - it.expected[0]).max() > 1e-6  # something was learned
    (delta,) = (n for n in it.graph.nodes if n.kernel is PES_DELTA)
    (retimed,) = (n for n in graph.nodes if n.kernel is PES_DELTA)
    assert np.isin(delta.elements(), it.graph.next).all()
    assert not np.isin(retimed.elements(), graph.next).any()
    assert all((graph.kind[i] == Kind.STATE).all() for i in retimed.inputs)


def test_rules_of_the_user_take_the_place_of_ours():
    b = GraphBuilder()
    y = copy(b, copy(b, b.input("x", 2)))
    graph, seen = b.build([probe(y)]), []

    def look(graph):
        seen.append(graph.size)
        return alias(graph)

    assert simplify(graph, (look,)).size == 2
    assert seen == [6, 2]
