"""Sharing: what is always equal is computed once, states included."""

import nengo
import numpy as np
import pytest

from nengo_dl.compiler.graph import GraphBuilder, Kind, ParameterRef, Reading
from nengo_dl.compiler.simplify import (
    _several,
    _static_hash,
    prune,
    share,
    simplify,
)
from nengo_dl.kernels.algebra import PRODUCT
from nengo_dl.kernels.synapses.linear_filter import ONE_STATE
from tests.compiler.helpers import (
    NETWORKS,
    NOISE,
    SQUASH,
    TWIST,
    add,
    agree,
    agree_on_graph,
    agree_on_network,
    agree_on_random_graphs,
    case,
    copy,
    kinds,
    make_case,
    matvec,
    probe,
    python_node,
)
from tests.compiler.reference import interpret
from tests.networks import waves

#: of the networks, those in which no two values are always equal
NOTHING_EQUAL = ("rates", "sigmoid")


def check(allclose, rng, graph):
    return agree_on_graph(allclose, rng, graph, share)


def test_keeps_the_values_of_random_graphs(rng, allclose):
    agree_on_random_graphs(allclose, rng, share)
    agree_on_random_graphs(allclose, rng, lambda graph: share(simplify(graph)), count=5)


@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_keeps_the_values_of_networks(name, opened, allclose):
    graph = agree_on_network(allclose, name, share, opened)
    lowered = prune(case(name, opened).graph)
    assert graph.size < lowered.size or name in NOTHING_EQUAL
    again = share(graph)
    assert again.size == graph.size


def test_hashes_part_by_part_are_those_of_the_whole(monkeypatch):
    graph = case("processes", False).graph
    whole, _ = _static_hash(graph)
    monkeypatch.setattr("nengo_dl.compiler.simplify.PART", 7)
    assert np.array_equal(_static_hash(graph)[0], whole)
    assert np.unique(whole).size > graph.size / 10


@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_known_to_be_alone_is(name, opened):
    graph = case(name, opened).graph
    classes, alone = _static_hash(graph)
    numbers, counts = np.unique(classes, return_counts=True)
    assert (counts[np.searchsorted(numbers, classes[alone])] == 1).all()


def test_merges_equal_decoders(allclose):
    """One ensemble, five equal connections: one product and one filter."""
    with nengo.Network(seed=1) as net:
        inp = nengo.Node(waves(2))
        pre = nengo.Ensemble(30, 2, seed=1)
        nengo.Connection(inp, pre)
        for _ in range(5):
            post = nengo.Node(size_in=2)
            nengo.Connection(pre, post, synapse=0.01, seed=2)
            nengo.Probe(post)
    it = make_case(net)
    simplified = simplify(it.graph)
    graph = simplify(share(simplified))
    agree(allclose, it.run(graph), it.expected)
    counts = [[g.count(k) for k in ("matmul", "filter")] for g in (simplified, graph)]
    assert counts == [[2 + 4, 1 + 5], [2, 2]]


def test_equal_ensembles_become_one(allclose):
    """Neurons whose start and input are equal always spike together."""
    with nengo.Network(seed=1) as net:
        inp = nengo.Node(waves(2))
        for bias in (0, 0, 1):
            ens = nengo.Ensemble(20, 2, seed=3)
            nengo.Connection(inp, ens)
            if bias:
                nengo.Connection(nengo.Node([0.1, 0]), ens)
            nengo.Probe(ens.neurons)
    it = make_case(net)
    graph = simplify(share(simplify(it.graph)))
    agree(allclose, it.run(graph), it.expected)
    assert it.graph.count("LIF") == 3
    assert graph.count("LIF") == 2


def test_states_need_equal_starts_and_equal_updates(rng, allclose):
    b = GraphBuilder()
    x, y = b.input("x", 1), b.input("y", 1)
    starts = [(0, x), (0, x), (1, x), (0, y), (1, x)]
    states = [b.state([start]) for start, _ in starts]
    next_states = [(s, add(b, s, source)) for s, (_, source) in zip(states, starts)]
    readings = [Reading(k, s, (1,)) for k, s in enumerate(states)]
    graph = b.build([probe(*states)], readings, next_states)
    shared = check(allclose, rng, graph)
    assert kinds(shared)[Kind.STATE] == kinds(shared)[Kind.SUM] == 3
    held = [reading.elements[0] for reading in shared.states]
    assert held[0] == held[1] and held[2] == held[4]
    assert len(set(held)) == 3


def test_circles_of_states_are_shared(rng, allclose):
    """Two rings of equal states: nothing but optimism finds that they are equal."""
    b = GraphBuilder()
    rings = [[b.state([v]) for v in (1.0, 2.0, 3.0)] for _ in range(2)]
    next_states = [(ring[k], ring[k - 1]) for ring in rings for k in range(3)]
    graph = b.build([probe(*rings[0], *rings[1])], next_states=next_states)
    assert check(allclose, rng, graph).size == 3


def test_rings_that_differ_late_are_not_shared(rng, allclose):
    b = GraphBuilder()
    starts = [0.0] * 12, [0.0] * 11 + [1.0]
    rings = [[b.state([v]) for v in values] for values in starts]
    next_states = [(ring[k], ring[k - 1]) for ring in rings for k in range(12)]
    graph = b.build([probe(rings[0][5], rings[1][5])], next_states=next_states)
    shared = check(allclose, rng, graph)
    first, second = shared.probes[0].elements
    assert first != second
    assert kinds(shared)[Kind.STATE] == 1 + 12  # the first ring is one number for ever


def test_sums_in_any_order_of_terms(rng, allclose):
    b = GraphBuilder()
    x, y = b.input("x", 2), b.input("y", 2)
    sums = [add(b, x, y), add(b, y, x), add(b, x, y, bias=0.1), add(b, x, y, y)]
    sums += [add(b, x, copy(b, y, scale=-1))]
    assert kinds(check(allclose, rng, b.build([probe(*sums)])))[Kind.SUM] == 4 * 2 + 2


def test_sums_with_other_factors_differ(rng, allclose):
    b = GraphBuilder()
    x = b.input("x", 1)
    sums = [copy(b, x, scale=s) for s in (1.0, -1.0, 0.5, 0.5)]
    assert kinds(check(allclose, rng, b.build([probe(*sums)])))[Kind.SUM] == 3


def test_constants_with_and_without_sign_of_zero():
    b = GraphBuilder()
    graph = share(b.build([probe(b.constant([0.0, -0.0, 1.0, 1.0, -1.0]))]))
    assert np.array_equal(graph.value, [0, 1, -1])


def test_entries_of_one_node_can_be_equal(rng, allclose):
    """Equal rows of a product read the same, but are different places of it."""
    b = GraphBuilder()
    y = matvec(b, np.ones((6, 3)), b.input("x", 3))
    graph = check(allclose, rng, b.build([probe(y)]))
    assert kinds(graph)[Kind.NODE] == 6


def test_inputs_of_nodes_count_in_their_order(rng, allclose):
    b = GraphBuilder()
    x, y = b.input("x", 2), b.input("y", 2)
    params = {"gain": np.ones(2)}
    pairs = [(x, y), (y, x), (x, y), (x[::-1], y)]
    nodes = [b.node(TWIST, pair, [2, 2], params) for pair in pairs]
    graph = b.build([probe(*(output for outputs in nodes for output in outputs))])
    assert check(allclose, rng, graph).count("twist") == 3


def test_parameters_of_nodes_count(rng, allclose):
    b = GraphBuilder()
    x, s = b.input("x", 2), b.state([0.0, 0.0])
    a_values = (np.full(2, 0.9), np.full(2, 0.8), np.full(2, 0.9))
    nodes = []
    for a in a_values:
        (y,) = b.node(ONE_STATE, [x, s], [2], {"a": a, "b": 1 - a})
        nodes.append(y)
    graph = b.build([probe(*nodes)], next_states=[(s, nodes[0])])
    assert check(allclose, rng, graph).count("filter") == 2


def test_references_equal_only_themselves(rng, allclose):
    """Two parameters may hold equal values now, and others later."""
    b = GraphBuilder()
    x = b.input("x", 4)
    part = np.arange(8)[::-1]
    refs = [ParameterRef(k, (2, 4)) for k in ("v", "w", "w")]
    refs += [ParameterRef("w", (2, 4), part), ParameterRef("w", (2, 4), part.copy())]
    graph = b.build([probe(*(matvec(b, ref, x) for ref in refs))])
    assert check(allclose, rng, graph).count("matmul") == 3


def test_parameters_and_inputs_equal_only_themselves(rng, allclose):
    b = GraphBuilder()
    sources = [b.parameter("v", 2), b.parameter("w", 2), b.input("x", 2), b.input("y", 2)]
    graph = check(allclose, rng, b.build([probe(*(copy(b, s) for s in sources))]))
    assert graph.size == 16


def test_what_draws_random_numbers_is_not_shared(rng, allclose):
    b = GraphBuilder()
    x = b.input("x", 2)
    nodes = [b.node(kernel, [x], [2], {})[0] for kernel in (NOISE, NOISE, SQUASH, SQUASH)]
    graph = check(allclose, rng, b.build([probe(*nodes)]))
    assert graph.count("noise") == 2
    assert graph.count("squash") == 1


def test_python_is_not_shared():
    b, log = GraphBuilder(), []
    x = b.input("x", 1)
    first, second = (python_node(b, log, "f", [x], (1,))[0] for _ in range(2))
    params = b.nodes[0].params
    (third,) = b.node(b.nodes[0].kernel, [x], [1], params)
    graph = share(b.build([probe(first, second, third)]))
    interpret(graph, {"x": np.ones((1, 1, 1))}, 1)
    assert len(log) == 3


def test_what_reads_different_python_differs(rng):
    b, log = GraphBuilder(), []
    x = b.input("x", 1)
    called = [python_node(b, log, "f", [x], (1,))[0] for _ in range(2)]
    squashed = [b.node(SQUASH, [y], [1], {})[0] for y in called]
    assert share(b.build([probe(*squashed)])).count("squash") == 2


def test_long_chains_are_told_apart_at_their_ends(rng, allclose):
    """As many rounds as it takes."""
    b = GraphBuilder()
    x = b.input("x", 1)
    ends = []
    for first in (x, x, copy(b, x, scale=2.0)):
        for _ in range(40):
            (first,) = b.node(SQUASH, [first], [1], {})
        ends.append(first)
    graph = check(allclose, rng, b.build([probe(*ends)]))
    assert graph.count("squash") == 80


def test_products_of_equal_factors(rng, allclose):
    b = GraphBuilder()
    x = b.input("x", 2)
    copies = [copy(b, x, bias=0.5) for _ in range(4)]
    pairs = [copies[:2], copies[2:], [copies[1], copies[1]]]
    nodes = [b.node(PRODUCT, pair, [2], {})[0] for pair in pairs]
    graph = check(allclose, rng, b.build([probe(*nodes)]))
    assert graph.count("product") == 1
    assert kinds(graph)[Kind.SUM] == 2


def test_nothing_to_share_returns_the_graph():
    b = GraphBuilder()
    graph = b.build([probe(copy(b, b.input("x", 3)))])
    assert share(graph) is graph
    empty = GraphBuilder().build()
    assert share(empty).size == 0


def test_the_first_of_several_stays():
    """Whatever the hashes are, so a script gives the same graph each time it runs."""
    b = GraphBuilder()
    x = b.input("x", 1)
    names = [f"node {k}" for k in range(9)]
    nodes = [b.node(SQUASH, [x], [1], {}, label=name)[0] for name in names]
    (node,) = share(b.build([probe(*nodes[::-1])])).nodes
    assert node.label == "node 0"


def test_no_repeated_class_is_missed(rng):
    classes = rng.randint(0, 2**64, size=3000, dtype=np.uint64)
    classes[rng.permutation(3000)[:600]] = np.repeat(classes[:200], 3)
    _, inverse, counts = np.unique(classes, return_inverse=True, return_counts=True)
    several, different = _several(classes)
    assert different == counts.size < 3000
    assert several[counts[inverse] > 1].all()
    assert np.count_nonzero(several & (counts[inverse] == 1)) < 100


def test_matrices_that_begin_alike_are_compared_as_a_whole(rng, allclose):
    b = GraphBuilder()
    x, one = b.input("x", 2), np.array([[1.0, 2.0], [3.0, 4.0]])
    other = np.array([[1.0, 2.0], [3.0, 5.0]])
    outputs = [matvec(b, matrix, x) for matrix in (one, other, one.copy(), -one, one.T)]
    graph = check(allclose, rng, b.build([probe(*outputs)]))
    assert graph.count("matmul") == 4
