"""Planning: what is merged, and in which order it runs."""

import nengo
import numpy as np
import pytest

from nengo_dl.compiler.costs import LONG_SUM
from nengo_dl.compiler.graph import GraphBuilder, Kind, ParameterRef
from nengo_dl.compiler.pipeline import PASSES
from nengo_dl.compiler.plan import Stage, one_stage, plan, stages
from nengo_dl.compiler.simplify import share
from tests.compiler.helpers import (
    NETWORKS,
    SQUASH,
    add,
    case,
    copy,
    make_case,
    matvec,
    probe,
    python_node,
    random_graph,
)
from tests.networks import waves

BEFORE, LOOP, AFTER = Stage


def compiled(graph):
    for transform in PASSES:
        graph = transform(graph)
    return graph


def check(planned):
    """Everything is computed once, in its stage, before it is read; merged by key."""
    graph, done = planned.graph, np.zeros(planned.graph.size, bool)
    computed = np.isin(graph.kind, (Kind.SUM, Kind.NODE))
    done[~computed] = True
    nodes_seen = []
    for stage in Stage:
        for batch in planned.batches[stage]:
            if batch.nodes:
                assert batch.kernel is batch.nodes[0].kernel and not batch.sums.size
            else:
                assert batch.kernel is None and batch.sums.size
            assert len({node.kernel.merge_key(node) for node in batch.nodes}) <= 1
            numbers = [_number(graph, node) for node in batch.nodes]
            nodes_seen += numbers
            assert all(planned.stages.node[i] == stage for i in numbers)
            assert (planned.stages.element[batch.sums] == stage).all()
            assert done[_reads(graph, batch)].all()
            written = [n.elements(k) for n in batch.nodes for k in range(len(n.outputs))]
            written = np.concatenate([batch.sums, *written])
            assert not done[written].any() and np.unique(written).size == written.size
            done[written] = True
    assert done.all()
    assert sorted(nodes_seen) == list(range(len(graph.nodes)))
    return planned


def _number(graph, node):
    return next(i for i, other in enumerate(graph.nodes) if other is node)


def _reads(graph, batch):
    reads = [elements for node in batch.nodes for elements in node.inputs]
    reads += [graph.src[graph.ptr[e] : graph.ptr[e + 1]] for e in batch.sums]
    return np.concatenate([np.zeros(0, int), *reads])


def kernels(batches):
    """Names and sizes of batches."""
    return [
        (b.kernel.name, len(b.nodes)) if b.nodes else ("sum", b.sums.size)
        for b in batches
    ]


def test_random_graphs(rng):
    for _ in range(10):
        graph, _, _ = random_graph(rng)
        for form in (graph, compiled(graph)):
            check(plan(form))
            check(plan(form, one_stage(form)))


@pytest.mark.parametrize("stepwise", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name, stepwise):
    graph = compiled(case(name).graph)
    planned = check(plan(graph, stages(graph, stepwise)))
    check(plan(graph, one_stage(graph)))
    for batches in planned.batches:
        called = [n.order for b in batches for n in b.nodes if n.kernel.host]
        assert called == sorted(called)


def test_stages_are_found_if_none_are_given():
    graph = case("lif").graph
    mine, given = plan(graph), plan(graph, stages(graph))
    assert np.array_equal(mine.stages.element, given.stages.element)
    assert [kernels(b) for b in mine.batches] == [kernels(b) for b in given.batches]
    assert mine.graph is graph


def test_ensembles_with_other_parameters_run_as_one():
    planned = plan(compiled(case("mixed").graph))
    counts = [kernel for batches in planned.batches for kernel in kernels(batches)]
    assert ("LIF", 3) in counts
    assert ("matmul", 3) in counts
    assert ("filter", 4) in counts  # one of the input, which is shared


@pytest.mark.parametrize("form", [stages, one_stage])
def test_number_of_kernels_does_not_grow_with_the_network(form):
    def batches(n_ensembles):
        with nengo.Network(seed=1) as net:
            inp = nengo.Node(waves(n_ensembles))
            array = nengo.networks.EnsembleArray(12, n_ensembles)
            nengo.Connection(inp, array.input)
            nengo.Connection(array.output, array.input, synapse=0.1)
            nengo.Probe(array.output, synapse=0.01)
        graph = compiled(make_case(net).graph)
        return sum(len(batches) for batches in plan(graph, form(graph)).batches)

    assert batches(3) == batches(12) <= 8


def test_waits_until_all_of_a_kind_are_ready():
    """A short chain and a long one: the sums of both ends are merged."""
    b = GraphBuilder()
    x, y = b.input("x", 2), b.input("y", 2)
    short = b.node(SQUASH, [x], [2], {})[0]
    long = b.node(SQUASH, [matvec(b, np.ones((2, 2)), y)], [2], {})[0]
    graph = b.build([probe(copy(b, short, bias=1), copy(b, long, bias=1))])
    before = check(plan(graph)).batches[BEFORE]
    assert kernels(before) == [("matmul", 1), ("squash", 2), ("sum", 4)]


def test_chain_of_one_kind_takes_turns():
    b = GraphBuilder()
    x = [b.input("x", 2), b.input("y", 2)]
    for _ in range(3):
        x = [b.node(SQUASH, [part], [2], {})[0] for part in x]
    batches = check(plan(b.build([probe(*x)]))).batches[BEFORE]
    assert kernels(batches) == [("squash", 2)] * 3


def test_members_of_a_batch_are_in_core_s_order():
    b = GraphBuilder()
    x = b.input("x", 2)
    orders = [7, 3, 5]
    nodes = [b.node(SQUASH, [x], [2], {}, order=order)[0] for order in orders]
    (batch,) = plan(b.build([probe(*nodes)])).batches[BEFORE]
    assert [node.order for node in batch.nodes] == [3, 5, 7]


def test_matrices_of_one_shape_are_merged(rng):
    b = GraphBuilder()
    x, y = b.input("x", 6), b.input("y", 6)
    matrices = [rng.uniform(size=(2, 6)), ParameterRef("w", (2, 6)), np.ones((3, 6))]
    outputs = [matvec(b, m, u) for m, u in zip(matrices, (x, y, x))]
    batches = check(plan(b.build([probe(*outputs)]))).batches[BEFORE]
    assert sorted(kernels(batches)) == [("matmul", 1), ("matmul", 2)]


def test_stages_are_not_merged():
    b = GraphBuilder()
    x, state = b.input("x", 2), b.state([0.0, 0.0])
    (ahead,) = b.node(SQUASH, [x], [2], {})
    (inside,) = b.node(SQUASH, [state], [2], {})
    (behind,) = b.node(SQUASH, [inside], [2], {})
    graph = b.build([probe(ahead, behind)], next_states=[(state, inside)])
    planned = check(plan(graph))
    assert [kernels(batches) for batches in planned.batches] == [[("squash", 1)]] * 3
    fused = check(plan(graph, one_stage(graph)))
    assert [kernels(b) for b in fused.batches] == [[], [("squash", 2), ("squash", 1)], []]


def test_long_sums_are_not_gathered():
    b = GraphBuilder()
    x = b.input("x", LONG_SUM)
    outputs = [copy(b, x, scale=2.0), copy(b, x, scale=3.0), copy(b, x[1:], scale=4.0)]
    outputs.append(copy(b, x[:9], scale=5.0))
    batches = check(plan(b.build([probe(*outputs)]))).batches[BEFORE]
    sizes = sorted(size for _, size in kernels(batches))
    assert sizes == [LONG_SUM, LONG_SUM, LONG_SUM - 1 + 9]


def test_parts_of_a_block_on_several_levels(rng):
    """Once values are shared, entries of one block may be computed from one another."""
    b = GraphBuilder()
    x = b.input("x", 1)
    y = add(b, x, x)
    (z,) = b.node(SQUASH, [y], [1], {})
    block = b.sum(np.zeros(2), np.array([0, 0, 1]), np.concatenate([x, x, z]), np.ones(3))
    graph = share(b.build([probe(block, z)]))
    assert graph.block[graph.probes[0].elements[0]] != 0
    mapping = np.arange(graph.size)
    mapping[graph.nodes[0].inputs[0]] = graph.probes[0].elements[0]
    check(plan(graph.rename(mapping)))
    # and with no sharing: entry 1 of the block reads what is computed from entry 0
    b = GraphBuilder()
    x, hole = b.input("x", 1), b.constant([0.0])
    block = b.sum(np.zeros(2), np.array([0, 1]), np.concatenate([x, hole]), np.ones(2))
    (z,) = b.node(SQUASH, [block[:1]], [1], {})
    graph = b.build([probe(block)])
    mapping = np.arange(graph.size)
    mapping[hole] = z
    batches = check(plan(graph.rename(mapping))).batches[BEFORE]
    assert kernels(batches) == [("sum", 1), ("squash", 1), ("sum", 1)]


def test_python_runs_in_core_s_order():
    """Whatever the order in which it would be ready, and never two at once."""
    b, log = GraphBuilder(), []
    x = b.input("x", 1)
    slow = x
    for _ in range(4):
        (slow,) = b.node(SQUASH, [slow], [1], {})
    python_node(b, log, "third", [x], order=103)
    python_node(b, log, "first", [slow], order=101)
    (y,) = python_node(b, log, "second", [x], (1,), order=102)
    planned = check(plan(b.build([probe(y)])))
    called = [n.label for batch in planned.batches[BEFORE] for n in batch.nodes]
    assert [label for label in called if label] == ["first", "second", "third"]
    assert all(len(b.nodes) == 1 for b in planned.batches[BEFORE])


def test_node_without_output_or_input_is_planned():
    b, log = GraphBuilder(), []
    python_node(b, log, "sink", [b.input("x", 1)])
    python_node(b, log, "alone", [])
    assert kernels(check(plan(b.build())).batches[BEFORE]) == [("python", 1)] * 2


def test_empty_graph():
    assert plan(GraphBuilder().build()).batches == ((), (), ())
