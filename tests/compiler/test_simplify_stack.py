"""Stacking: matrices that read the same vector become one."""

import nengo
import numpy as np
import pytest

from nengo_dl.compiler.graph import GraphBuilder, ParameterRef
from nengo_dl.compiler.simplify import simplify, stack
from tests.compiler.helpers import (
    NETWORKS,
    SQUASH,
    agree,
    agree_on_graph,
    agree_on_network,
    agree_on_random_graphs,
    make_case,
    matvec,
    probe,
)
from tests.networks import waves


def check(allclose, rng, graph):
    return agree_on_graph(allclose, rng, graph, stack)


def test_keeps_the_values_of_random_graphs(rng, allclose):
    agree_on_random_graphs(allclose, rng, stack)


@pytest.mark.parametrize("name", NETWORKS)
def test_keeps_the_values_of_networks(name, allclose):
    graph = agree_on_network(allclose, name, lambda graph: stack(simplify(graph)))
    read = [n.inputs[0].tobytes() for n in graph.nodes if n.kernel.matrix]
    assert len(read) == len(set(read))


def test_matrices_of_any_height_are_stacked_in_order(rng, allclose):
    b = GraphBuilder()
    x = b.input("x", 5)
    matrices = [rng.uniform(size=(m, 5)) for m in (2, 7, 1)]
    graph = b.build([probe(*(matvec(b, m, x) for m in matrices[::-1]))])
    (node,) = check(allclose, rng, graph).nodes
    assert np.array_equal(node.params["A"], np.concatenate(matrices[::-1]))
    assert node.order == min(n.order for n in graph.nodes)


def test_what_reads_the_parts_reads_the_whole(rng, allclose):
    b = GraphBuilder()
    x = b.input("x", 5)
    y, z = matvec(b, rng.uniform(size=(2, 5)), x), matvec(b, rng.uniform(size=(3, 5)), x)
    (s,) = b.node(SQUASH, [np.concatenate([z[1:], y])], [4], {})
    state = b.state(np.zeros(3))
    graph = b.build([probe(s, state)], next_states=[(state, z)])
    graph = check(allclose, rng, graph)
    assert graph.count("matmul") == 1


def test_other_vectors_are_left_alone(rng, allclose):
    """Also those with the same elements in another order, or some of them."""
    b = GraphBuilder()
    x = b.input("x", 5)
    reads = [x, x[::-1], x[:4]]
    matrices = [rng.uniform(size=(2, read.size)) for read in reads]
    graph = b.build([probe(*map(lambda m, r: matvec(b, m, r), matrices, reads))])
    assert check(allclose, rng, graph) is graph


def test_parameters_are_left_alone(rng, allclose):
    b = GraphBuilder()
    x = b.input("x", 5)
    matrices = [ParameterRef("v", (2, 5)), ParameterRef("w", (2, 5))]
    matrices.append(rng.uniform(size=(2, 5)))
    graph = b.build([probe(*(matvec(b, m, x) for m in matrices))])
    assert check(allclose, rng, graph) is graph


def test_decoders_of_several_functions_are_one_product(allclose):
    with nengo.Network(seed=1) as net:
        inp = nengo.Node(waves(2))
        ens = nengo.Ensemble(30, 2)
        nengo.Connection(inp, ens)
        for function in (np.square, np.sin, lambda x: x[0] * x[1]):
            post = nengo.Node(size_in=np.size(function(np.ones(2))))
            nengo.Connection(ens, post, function=function)
            nengo.Probe(post)
    it = make_case(net)
    before = simplify(it.graph)
    after = stack(before)
    agree(allclose, it.run(after), it.expected)
    assert before.count("matmul") - after.count("matmul") == 2
