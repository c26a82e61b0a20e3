"""Strategies of merging: each runs everything once, in an order that works."""

import numpy as np
import pytest
from nengo.exceptions import ValidationError

from nengo_dl.compat.graph_optimizer import (
    noop_planner,
    transitive_planner,
    tree_planner,
)
from nengo_dl.compiler.pipeline import PASSES
from nengo_dl.compiler.plan import (
    Operation,
    check_batches,
    greedy_planner,
    one_stage,
    plan,
)
from nengo_dl.notices import text_of
from tests.compiler.helpers import NETWORKS, case

PLANNERS = [greedy_planner, tree_planner, transitive_planner, noop_planner]


def operations(kinds):
    """One operation for each letter, in this order."""
    return [Operation(kind, order, 0) for order, kind in enumerate(kinds)]


def pairs(*edges):
    """Who needs whom, ``(before, after)``."""
    return np.array(edges, np.int64).reshape(-1, 2).T


def random_operations(rng, n=40, kinds=4):
    """Operations that need some earlier ones, shuffled."""
    place = rng.permutation(n)
    edges = [
        (place[before], place[after])
        for after in range(1, n)
        for before in rng.choice(after, size=min(after, rng.randint(3)), replace=False)
    ]
    kind_of = rng.randint(kinds, size=n)
    ops = [Operation(f"kind {kind}", int(rng.randint(9)), 0) for kind in kind_of]
    return ops, pairs(*edges)


@pytest.mark.parametrize("planner", PLANNERS)
def test_random_operations(planner, rng):
    for _ in range(10):
        ops, edges = random_operations(rng)
        batches = check_batches(planner(ops, edges), ops, edges, planner)
        again = planner(ops, edges)
        assert again == batches  # it does not depend on chance
        if planner is not noop_planner:
            assert len(batches) < len(noop_planner(ops, edges)) == len(ops)


@pytest.mark.parametrize("planner", PLANNERS)
def test_networks(planner):
    for name in NETWORKS:
        graph = case(name).graph
        for transform in PASSES:
            graph = transform(graph)
        planned = plan(graph, one_stage(graph), planner)
        (batches,) = [b for b in planned.batches if b]
        ours = [b for b in plan(graph, one_stage(graph)).batches if b][0]
        names = sorted(text_of(node.label) for b in batches for node in b.nodes)
        assert names == sorted(text_of(node.label) for b in ours for node in b.nodes)
        if planner is greedy_planner:
            assert len(batches) == len(ours)
        if planner is noop_planner:
            assert len(batches) >= len(graph.nodes) > 0
            assert all(len(b.nodes) <= 1 for b in batches)


@pytest.mark.parametrize("planner", PLANNERS)
def test_nothing_to_do(planner):
    assert planner([], pairs()) == []


@pytest.mark.parametrize("planner", [greedy_planner, tree_planner, transitive_planner])
def test_equal_operations_that_need_nothing_are_one(planner):
    assert planner(operations("aba"), pairs()) in ([[0, 2], [1]], [[1], [0, 2]])


def test_noop_follows_core():
    ops = [Operation("a", order, 0) for order in (5, 1, 3, 2)]
    assert noop_planner(ops, pairs()) == [[1], [3], [2], [0]]
    assert noop_planner(ops, pairs((0, 1))) == [[3], [2], [0], [1]]


def test_greedy_waits_for_the_largest_share():
    """All of kind b are ready, but only one of two of kind a, which one of b frees."""
    ops, edges = operations("aabb"), pairs((2, 1))
    assert greedy_planner(ops, edges) == [[2, 3], [0, 1]]


def test_looking_ahead_finds_what_the_greedy_one_does_not():
    """One of two of kind b is ready, two of three of kind a: only b first is best."""
    ops, edges = operations("aaabbc"), pairs((3, 2), (2, 5), (5, 4))
    greedy, tree = greedy_planner(ops, edges), tree_planner(ops, edges)
    assert len(tree) == 4 < len(greedy)
    assert tree[0] == [3]
    assert len(tree_planner(ops, edges, max_depth=1)) == len(greedy)


def test_transitive_closure_sees_what_is_merged_as_one():
    """Merged, 0 and 3 need 1 and are needed by 2: so those two must stay apart."""
    ops = operations("abba")
    batches = transitive_planner(ops, pairs((0, 2), (1, 3)))
    assert sorted(map(sorted, batches)) in ([[0], [1, 2], [3]], [[0, 3], [1], [2]])
    chain = transitive_planner(operations("aba"), pairs((0, 1), (1, 2)))
    assert chain == [[0], [1], [2]]


@pytest.mark.parametrize(
    "batches, problem",
    [
        ([[0, 1]], "returned 2 indices for 3 operations"),
        ([[0], [1], [1]], "returned 3 indices for 3 operations, 2 of them different"),
        ([[0], [1], [3]], "returned 3 indices for 3"),
        ([[0, 2], [1]], "merged operations with different keys: a, b"),
        ([[1], [0], [2]], "lets operation 1 run in kernel 0, but it needs a result of"),
        ([[0, 1], [2]], "lets operation 1 run in kernel 0, but it needs"),
        ([[0], [], [1], [2]], "merged operations with different keys"),
        ([0, 1, 2], "returned"),
        (None, "returned None"),
    ],
)
def test_what_cannot_be_run_is_refused(batches, problem):
    def mine(ops, edges):
        return batches

    ops, edges = operations("aab"), pairs((0, 1))
    with pytest.raises(ValidationError, match=f"the planner mine {problem}"):
        check_batches(batches, ops, edges, mine)
