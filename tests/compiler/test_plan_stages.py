"""Stages: what runs before the loop over time, in it, and after it."""

import numpy as np
import pytest

from nengo_dl.compiler.graph import GraphBuilder, Kind, ParameterRef
from nengo_dl.compiler.pipeline import PASSES
from nengo_dl.compiler.plan import Stage, one_stage, stages
from tests.compiler.helpers import (
    NETWORKS,
    SQUASH,
    TWIST,
    add,
    case,
    copy,
    matvec,
    probe,
    python_node,
    random_graph,
)
from tests.compiler.reference import edges, reach

BEFORE, LOOP, AFTER = Stage


@pytest.fixture
def pipeline_of_three():
    """Something before, in and after a loop; the elements by name."""
    b, e = GraphBuilder(), {}
    e["x"], e["c"], e["state"] = (
        b.input("x", 3),
        b.constant([1.0] * 3),
        b.state([0.0] * 3),
    )
    e["current"] = matvec(b, np.ones((3, 3)), e["x"])
    e["drive"] = add(b, e["current"], e["c"])
    e["sum"] = add(b, e["drive"], e["state"])
    (e["next"],) = b.node(SQUASH, [e["sum"]], [3], {})
    e["decoded"] = matvec(b, np.ones((3, 3)), e["next"])
    e["output"] = add(b, e["decoded"], e["current"])
    next_states = [(e["state"], e["next"])]
    return b.build([probe(e["output"], e["drive"])], next_states=next_states), e


def test_before_in_and_after_the_loop(pipeline_of_three):
    graph, e = pipeline_of_three
    split = stages(graph)
    expected = {
        BEFORE: ("x", "c", "current", "drive"),
        LOOP: ("state", "sum", "next"),
        AFTER: ("decoded", "output"),
    }
    for stage, names in expected.items():
        for name in names:
            assert (split.element[e[name]] == stage).all(), name
    assert split.node.tolist() == [BEFORE, LOOP, AFTER]


def test_definition_on_random_graphs(rng):
    for _ in range(10):
        graph, _, _ = random_graph(rng)
        split, pairs = stages(graph), edges(graph)
        depends = reach(graph.kind == Kind.STATE, pairs)
        lasting = np.isin(np.arange(graph.size), graph.next[graph.next >= 0])
        feeds = reach(lasting, [(b, a) for a, b in pairs])
        assert np.array_equal(split.element == BEFORE, ~depends)
        assert np.array_equal(split.element == LOOP, depends & feeds)
        for node, stage in zip(graph.nodes, split.node):
            assert stage == split.element[node.elements()].min()


def test_nothing_waits_for_a_later_stage(rng):
    graphs = [random_graph(rng)[0] for _ in range(5)]
    for graph in (*graphs, *(case(name).graph for name in NETWORKS)):
        stage = stages(graph).element
        assert all(stage[a] <= stage[b] for a, b in zip(graph.src, graph.term_owner))
        for node, own in zip(graph.nodes, stages(graph).node):
            assert all((stage[elements] <= own).all() for elements in node.inputs)


@pytest.mark.parametrize("name", ["rates", "sigmoid"])
def test_a_network_without_state_has_no_loop(name):
    graph = case(name).graph
    for transform in PASSES:
        graph = transform(graph)
    split = stages(graph)
    assert not np.isin([LOOP, AFTER], split.element).any()
    assert (split.node == BEFORE).all()


@pytest.mark.parametrize("first", [False, True])
def test_a_node_runs_as_soon_as_one_output_is_needed(first):
    """One output is carried, the other one only probed."""
    b = GraphBuilder()
    x, state = b.input("x", 2), b.state([0.0, 0.0])
    outputs = b.node(TWIST, [x, state], [2, 2], {"gain": np.ones(2)})
    carried, probed = outputs if first else outputs[::-1]
    split = stages(b.build([probe(probed)], next_states=[(state, carried)]))
    assert (split.element[carried] == LOOP).all()
    assert (split.element[probed] == AFTER).all()
    assert split.node.tolist() == [LOOP]


def test_blocks_of_sums_are_split():
    b = GraphBuilder()
    x, state = b.input("x", 1), b.state([0.0])
    y = b.sum(np.zeros(2), np.array([0, 1]), np.concatenate([x, state]), np.ones(2))
    split = stages(b.build([probe(y)], next_states=[(state, y[1:])]))
    assert split.element[y].tolist() == [BEFORE, LOOP]


@pytest.mark.parametrize(
    "rows, columns, parameter, stage",
    [
        (40, 2, False, Stage.LOOP),  # many currents of a few inputs
        (40, 2, True, Stage.BEFORE),  # the gradient is one large product
        (40, 20, False, Stage.BEFORE),  # more work than memory
        (2, 4, False, Stage.BEFORE),  # less to keep than there was
    ],
)
def test_what_is_cheaper_to_compute_than_to_keep(rows, columns, parameter, stage, rng):
    b = GraphBuilder()
    x = b.input("x", columns)
    matrix = rng.normal(size=(rows, columns))
    matrix = ParameterRef("A", matrix.shape) if parameter else matrix
    y = matvec(b, matrix, x)
    seen = matvec(b, rng.normal(size=(rows, columns)), x)  # by a probe alone
    state = b.state(np.zeros(rows))
    graph = b.build(
        probes=[probe(state), probe(seen)],
        next_states=[(state, add(b, state, y))],
    )
    split = stages(graph)
    assert (split.element[y] == stage).all() and split.node[0] == stage
    assert (split.element[seen] == Stage.BEFORE).all()
    assert split.node[1] == Stage.BEFORE


def test_states_that_only_store_need_no_loop_to_be_read():
    """What a state is read for may come after the loop."""
    b = GraphBuilder()
    x, state = b.input("x", 1), b.state([0.0])
    split = stages(b.build([probe(state)], next_states=[(state, copy(b, x))]))
    assert split.element.tolist() == [BEFORE, AFTER, BEFORE]


@pytest.fixture
def python():
    """Python before the loop, in it and after it; one without output; its elements."""
    b, log, e = GraphBuilder(), [], {}
    e["x"], e["state"] = b.input("x", 1), b.state([0.0])
    (e["ahead"],) = python_node(b, log, "ahead", [e["x"]], (1,))
    (e["inside"],) = python_node(b, log, "inside", [add(b, e["x"], e["state"])], (1,))
    (e["behind"],) = python_node(b, log, "behind", [e["inside"]], (1,))
    python_node(b, log, "sink of input", [e["x"]])
    python_node(b, log, "sink of state", [e["state"]])
    python_node(b, log, "from nothing", [], ())
    e["read"] = copy(b, e["ahead"], bias=1)
    graph = b.build(
        [probe(e["behind"], e["read"])], next_states=[(e["state"], e["inside"])]
    )
    return graph, e


def test_python_runs_where_it_belongs(python):
    graph, e = python
    split = stages(graph)
    assert split.node.tolist() == [BEFORE, LOOP, AFTER, BEFORE, AFTER, BEFORE]
    assert split.element[e["read"]] == BEFORE


def test_python_that_must_keep_its_order_runs_in_the_loop(python):
    """With it what it reads; what reads it comes after."""
    graph, e = python
    split = stages(graph, stepwise_python=True)
    assert (split.node == LOOP).all()
    for name in ("ahead", "inside", "behind"):
        assert split.element[e[name]] == LOOP, name
    assert split.element[e["read"]] == AFTER
    assert split.element[e["x"]] == BEFORE


def test_what_python_reads_is_not_put_off():
    """A decoded value would come after the loop, did no Python function read it."""
    b = GraphBuilder()
    state = b.state([0.0])
    (y,) = b.node(SQUASH, [state], [1], {})
    decoded = copy(b, y, scale=2.0)
    python_node(b, [], "sink", [decoded])
    graph = b.build([probe(decoded)], next_states=[(state, y)])
    assert stages(graph).element[decoded] == AFTER
    assert stages(graph, stepwise_python=True).element[decoded] == LOOP


def test_one_stage_is_the_loop(pipeline_of_three):
    graph, _ = pipeline_of_three
    split = one_stage(graph)
    assert split.element.shape == (graph.size,) and (split.element == LOOP).all()
    assert split.node.shape == (len(graph.nodes),) and (split.node == LOOP).all()
