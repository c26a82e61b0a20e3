"""Layouts: the emitted programs against the interpreter, and where things are."""

import numpy as np
import pytest

from nengo_dl.compiler.graph import GraphBuilder, Kind, Reading
from nengo_dl.compiler.layout import layout
from nengo_dl.compiler.pipeline import arrange
from nengo_dl.compiler.plan import one_stage, plan
from nengo_dl.kernels.algebra import VARYING_MATVEC
from nengo_dl.kernels.synapses.linear_filter import ONE_STATE
from nengo_dl.runtime.emit import whole_step
from tests.compiler.helpers import (
    NETWORKS,
    SQUASH,
    add,
    agree,
    case,
    copy,
    kinds,
    matvec,
    probe,
    python_node,
    random_graph,
)
from tests.compiler.programs import (
    check,
    compare_random,
    compiled,
    first_carry,
    given_rows,
    layouts,
    program_weights,
    run_fused,
    run_split,
)
from tests.compiler.reference import XP, Interpreter, interpret

# -- programs


@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name, opened, allclose):
    it = case(name, opened)
    for graph in (it.graph, compiled(it.graph)):
        fused, split = layouts(graph, stepwise_python=it.lowered.stepwise_python)
        agree(allclose, run_fused(fused, **it.arguments()), it.expected)
        agree(allclose, run_split(split, **it.arguments()), it.expected)
        assert [key for key, _, _ in split.probes] == it.model.probes


@pytest.mark.parametrize("batch", [1, 3])
def test_random_graphs(rng, allclose, batch):
    for _ in range(15):
        graph, _, _ = random_graph(rng)
        compare_random(allclose, rng, graph, batch)
        compare_random(allclose, rng, compiled(graph), batch)


def test_random_graphs_with_python(rng, allclose):
    """The same values in any stage; in core's order wherever all run step by step."""
    for _ in range(10):
        log = []
        graph, inputs, parameters = random_graph(rng, log=log)
        graph = compiled(graph)
        expected = interpret(graph, inputs, 12, parameters)
        calls = [name for name, _ in log]
        assert calls
        fused, pinned = layouts(graph, stepwise_python=True)
        for run, program in ((run_fused, fused), (run_split, pinned)):
            log.clear()
            agree(allclose, run(program, inputs, 12, parameters), expected)
            assert [name for name, _ in log] == calls
        free = check(arrange(graph))
        agree(allclose, run_split(free, inputs, 12, parameters), expected)


def test_matrices_that_vary(rng, allclose):
    """Products of a matrix per batch item, merged, for one item and for several."""
    b = GraphBuilder()
    outputs = []
    for k in range(3):
        a, x = b.input(f"a{k}", 6), b.input(f"x{k}", 2)
        outputs += b.node(VARYING_MATVEC, [a, x], [3], {"shape": (3, 2)})
    graph = b.build([probe(*outputs)])
    for batch in (1, 4):
        compare_random(allclose, rng, graph, batch)


# -- states


def carried(it):
    return [first.size for first in it.carry]


def test_states_adopt_the_place_of_what_comes_next(rng, allclose):
    """All states of merged nodes are one carried array: the kernel's own result."""
    b = GraphBuilder()
    outputs, next_states, readings = [], [], []
    for k, n in enumerate((2, 3, 4)):
        state = b.state(np.full(n, 0.1 * k))
        params = {"a": np.full(n, 0.9), "b": np.full(n, 0.1)}
        (y,) = b.node(ONE_STATE, [b.input(f"x{k}", n), state], [n], params)
        outputs.append(y)
        next_states.append((state, y))
        readings.append(Reading(k, state, (n,)))
    graph = b.build([probe(*outputs)], readings, next_states)
    for it in compare_random(allclose, rng, graph):
        (group,) = it.loop.groups
        assert np.array_equal(it.carry[0], np.repeat([0, 0.1, 0.2], (2, 3, 4)))
        assert it.loop.next_state[0].parts == ((group.outputs[0], 0, 9),)
        assert group.reads[1].form == "slice"
        rows = np.concatenate([slot.row for slot in it.states])
        assert sorted(rows) == list(range(9))
        assert all((slot.carry == 0).all() for slot in it.states)


def test_states_of_equal_start_and_successor_share_a_row(rng, allclose):
    b = GraphBuilder()
    x = b.input("x", 2)
    states = [b.state([0.0, 0.5]) for _ in range(3)]
    y = add(b, x, *states)
    readings = [Reading(k, s, (2,)) for k, s in enumerate(states)]
    graph = b.build([probe(*states)], readings, [(s, y) for s in states])
    for it in compare_random(allclose, rng, graph):
        assert carried(it) == [2]
        assert all(np.array_equal(slot.row, it.states[0].row) for slot in it.states)


def test_states_of_other_start_are_copied(rng, allclose):
    b = GraphBuilder()
    x = b.input("x", 2)
    states = [b.state([0.0, 0.5]), b.state([1.0, 0.5])]
    y = add(b, x, *states, *states)
    graph = b.build([probe(*states)], next_states=[(s, y) for s in states])
    for it in compare_random(allclose, rng, graph):
        assert sorted(carried(it)) == [1, 2]


@pytest.mark.parametrize("what", ["input", "constant", "parameter", "before", "state"])
def test_states_that_take_over_what_the_loop_does_not_compute(rng, allclose, what):
    b = GraphBuilder()
    source = {
        "input": lambda: b.input("y", 2),
        "constant": lambda: b.constant([0.25, 0.5, 0.75])[1:],
        "parameter": lambda: b.parameter("w", 3)[:2],
        "before": lambda: copy(b, b.input("y", 2), scale=2.0),
        "state": lambda: b.state([5.0, 6.0], 0),
    }[what]()
    late, sum_ = b.state([1.0, 2.0]), b.state([0.0, 0.0])
    y = add(b, late, sum_, b.input("x", 2))
    next_states = [(late, source), (sum_, y)]
    if what == "state":
        next_states.append((source, late[::-1]))
    graph = b.build([probe(y, late)], next_states=next_states)
    for it in compare_random(allclose, rng, graph):
        assert sum(carried(it)) == kinds(graph)[Kind.STATE]


def test_only_a_part_of_a_result_is_carried(rng, allclose):
    b = GraphBuilder()
    x, state = b.input("x", 4), b.state([0.0])
    inside = np.concatenate([x[:3], state])
    (y,) = b.node(SQUASH, [inside], [4], {})
    graph = b.build([probe(y)], next_states=[(state, y[2:3])])
    compare_random(allclose, rng, graph)


@pytest.mark.parametrize("name", ["lif", "filtered_rates", "mixed", "python_several"])
def test_slots_say_where_each_signal_s_state_is(name, allclose):
    """After some steps the carried arrays hold what the interpreter's states hold."""
    it = case(name)
    for graph in (it.graph, compiled(it.graph)):
        program = arrange(graph, fused=True)
        arguments = it.arguments()
        n_steps, batch = arguments.pop("n_steps"), it.batch
        reference = Interpreter(graph, **arguments)
        reference.run(n_steps)
        held = reference.held()
        carry = _carry_after(program, it.arguments()["inputs"], n_steps, batch, it)
        assert {slot.key for slot in program.states} == set(held)
        for slot in program.states:
            known = slot.carry >= 0
            rows = [carry[c][r] for c, r in zip(slot.carry[known], slot.row[known])]
            assert allclose(np.reshape(rows, (-1, batch)), held[slot.key][known])
            assert np.isnan(held[slot.key][~known]).all()
            assert np.prod(slot.shape) == slot.carry.size


def _carry_after(program, inputs, n_steps, batch, it):
    it.arguments()  # starts the processes anew
    step, carry = whole_step(program, batch), first_carry(program, batch)
    weights = program_weights(program, it.parameters)
    for x in given_rows(program, inputs, n_steps, batch):
        carry, _ = step(XP, carry, x if program.n_inputs else None, weights)
    return carry


def test_slots_of_constant_and_of_lost_states():
    b = GraphBuilder()
    fixed, live = b.constant([3.0]), b.state([1.0])
    y = add(b, live, b.input("x", 1))
    reading = Reading("s", np.array([fixed[0], -1, live[0]]), (3, 1))
    (slot,) = arrange(b.build([probe(y)], [reading], [(live, y)])).states
    assert slot.shape == (3, 1)
    assert slot.carry.tolist() == [-1, -1, 0]
    assert np.array_equal(slot.constant, [3, np.nan, np.nan], equal_nan=True)


# -- stages


@pytest.mark.parametrize("name", ["rates", "sigmoid"])
@pytest.mark.parametrize("opened", [False, True])
def test_a_network_without_state_has_no_loop(name, opened):
    split = arrange(compiled(case(name, opened).graph))
    assert not split.has_loop
    assert split.carry == split.loop.next_state == ()
    assert split.before.groups


@pytest.mark.parametrize("name", ["lif", "filtered_rates", "processes"])
def test_a_network_with_state_has_a_loop(name):
    split = arrange(compiled(case(name).graph))
    assert split.has_loop
    assert split.loop.groups and split.carry


def test_the_last_layer_comes_after_the_loop():
    """The filters between two layers are the loop; what they feed is not."""
    split = arrange(compiled(case("filtered_rates").graph))
    names = [[g.kernel.name for g in s.groups] for s in (split.loop, split.after)]
    for stage in names:
        assert stage.count("RectifiedLinear") == 1
    assert ["filter" in stage for stage in names] == [True, False]


def test_python_stays_in_the_loop_if_it_has_to():
    b = GraphBuilder()
    x, state = b.input("x", 1), b.state([0.0])
    python_node(b, [], "before", [x])
    (y,) = python_node(b, [], "inside", [add(b, x, state)], (1,))
    python_node(b, [], "after", [y])
    graph = b.build([probe(y)], next_states=[(state, y)])

    def python(it):
        stages = (it.before, it.loop, it.after)
        return [[label for g in stage.groups for label in g.labels] for stage in stages]

    free, pinned = arrange(graph), arrange(graph, stepwise_python=True)
    assert python(free) == [["before"], ["inside"], ["after"]]
    assert python(pinned) == [[], ["before", "inside", "after"], []]


def test_python_is_called_in_core_s_order_step_by_step():
    b, log = GraphBuilder(), []
    x, state = b.input("x", 1), b.state([0.0])
    (first,) = python_node(b, log, "first", [x], (1,))
    python_node(b, log, "sink", [copy(b, x, bias=1)])
    (second,) = python_node(b, log, "second", [add(b, first, state)], (1,))
    python_node(b, log, "third", [state])
    graph = b.build([probe(second)], next_states=[(state, second)])
    inputs = {"x": np.linspace(0, 1, 6).reshape(3, 1, 2)}
    interpret(graph, inputs, 3)
    expected, names = list(log), [name for name, _ in log]
    assert names == ["first", "sink", "second", "third"] * 3
    fused, pinned = layouts(graph, stepwise_python=True)
    for run, program in ((run_fused, fused), (run_split, pinned)):
        log.clear()
        run(program, inputs, 3)
        assert [name for name, _ in log] == names
        for (_, mine), (_, reference) in zip(log, expected):
            assert np.array_equal(mine, reference)


def test_python_out_of_the_loop_is_called_once_for_all_steps():
    b, log = GraphBuilder(), []
    x, state = b.input("x", 1), b.state([0.0])
    y = add(b, x, state)
    (before,) = python_node(b, log, "before", [x], (1,))
    (after,) = python_node(b, log, "after", [y], (1,))
    graph = b.build([probe(before, after)], next_states=[(state, y)])
    inputs = {"x": np.linspace(0, 1, 6).reshape(3, 1, 2)}
    run_split(check(arrange(graph)), inputs, 3)
    assert [name for name, _ in log] == ["before", "after"]
    assert np.array_equal(log[0][1][0], inputs["x"].reshape(1, 6))  # step by step
    assert np.array_equal(log[1][1][0], inputs["x"].cumsum(0).reshape(1, 6))


def test_side_effects_without_anything_else():
    b, log = GraphBuilder(), []
    python_node(b, log, "sink", [b.input("x", 2)])
    fused, split = layouts(b.build())
    inputs = {"x": np.arange(8.0).reshape(2, 2, 2)}
    assert run_fused(fused, inputs, 2).shape == (2, 0, 2)
    assert len(log) == 2
    assert run_split(split, inputs, 2).shape == (2, 0, 2)
    assert len(log) == 3


def test_probes_of_what_is_not_computed(rng, allclose):
    """Inputs, constants, parameters and states, twice and in any order."""
    b = GraphBuilder()
    x, c, w = b.input("x", 3), b.constant([1.0, 2.0]), b.parameter("w", 2)
    state = b.state([0.5, 0.25])
    probes = [
        Reading("all", np.concatenate([c, x[::-1], w, state, x]), (12,)),
        Reading("again", np.array([w[0], w[0], c[1], state[1]]), (2, 2)),
        Reading("none", np.zeros(0, int), (0,)),
    ]
    graph = b.build(probes, next_states=[(state, x[:2])])
    for it in compare_random(allclose, rng, graph):
        assert it.probes == (("all", 0, (12,)), ("again", 12, (2, 2)), ("none", 16, (0,)))


def test_constant_results_have_a_column_for_each_item(rng, allclose):
    b = GraphBuilder()
    c, w, x = b.constant([1.0, 2.0]), b.parameter("w", 2), b.input("x", 2)
    y = matvec(b, rng.uniform(size=(5, 2)), add(b, c, w))
    state = b.state(np.zeros(5))
    graph = b.build([probe(y, state, x)], next_states=[(state, y)])
    compare_random(allclose, rng, graph)


def test_several_inputs_some_unread(rng, allclose):
    b = GraphBuilder()
    first, unread, last = b.input("a", 2), b.input("b", 3), b.input("c", 2)
    state = b.state([0.0])
    y = add(b, first[:1], state, last[1:])
    graph = b.build([probe(y, unread[:1])], next_states=[(state, y)])
    for it in compare_random(allclose, rng, graph):
        assert [(s.key, s.start, s.size) for s in it.inputs] == [
            ("a", 0, 2),
            ("b", 2, 3),
            ("c", 5, 2),
        ]


def test_what_is_read_and_never_written_is_found():
    """A plan that forgets a node can not be laid out."""
    b = GraphBuilder()
    x = b.input("x", 2)
    y = matvec(b, np.ones((3, 2)), copy(b, x, bias=1))
    planned = plan(b.build([probe(y)]))
    before, *others = planned.batches
    broken = type(planned)(planned.graph, planned.stages, (before[1:], *others))
    with pytest.raises(AssertionError, match="read before they are written"):
        layout(broken)


def test_empty_graph():
    for split in (None, one_stage(GraphBuilder().build())):
        it = check(layout(plan(GraphBuilder().build(), split)))
        assert not it.has_loop
        assert it.groups() == ()
        assert run_fused(it, {}, 3).shape == (3, 0, 1)


def test_constants_are_the_graph_s():
    graph = compiled(case("lif").graph)
    expected = graph.value[graph.kind == Kind.CONSTANT]
    assert expected.size
    for it in layouts(graph):
        assert np.array_equal(it.constants, expected)
