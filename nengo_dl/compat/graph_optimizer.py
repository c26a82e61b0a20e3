"""Strategies of the compiler, for ``configure_settings``.

===================  =================================================================
setting              takes one of
===================  =================================================================
``planner``          `greedy_planner` (as without a setting), `tree_planner`,
                     `transitive_planner`, `noop_planner`: what runs together
``sorter``           `order_signals` (as without a setting), `noop_order_signals`: the
                     order in memory
``simplifications``  a list of functions such as `default_simplifications`
===================  =================================================================

They have an influence on speed, not on results, but for rounding. Functions of one's own
may take their place; what they are given and have to return is said in
`nengo_dl.compiler.plan`, `nengo_dl.compiler.layout` and
`nengo_dl.compiler.simplify.simplify_by`. The compiler itself has one strategy of each
kind; the others are here for scripts of NengoDL 3, and for comparisons. Of the
simplifications, the first five do what rules of the same names did with operators then;
without a setting the others do their work in fewer steps.

Examples
--------
>>> from nengo_dl import graph_optimizer
>>> with nengo.Network() as net:
...     nengo_dl.configure_settings(
...         planner=graph_optimizer.noop_planner,
...         simplifications=[graph_optimizer.remove_zero_incs],
...     )
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence

import numpy as np

from nengo_dl.compiler.graph import Graph, Kind
from nengo_dl.compiler.layout import order_signals
from nengo_dl.compiler.plan import Agenda, Operation, Plan, Waiting, greedy_planner
from nengo_dl.compiler.simplify import (
    Simplification,
    alias,
    fold,
    inline,
    retime,
    sparsify,
)

__all__ = [
    "alias",
    "default_simplifications",
    "fold",
    "greedy_planner",
    "inline",
    "noop_order_signals",
    "noop_planner",
    "order_signals",
    "remove_constant_copies",
    "remove_identity_muls",
    "remove_reset_incs",
    "remove_unmodified_resets",
    "remove_zero_incs",
    "retime",
    "sparsify",
    "transitive_planner",
    "tree_planner",
]


def tree_planner(
    operations: Sequence[Operation], pairs: np.ndarray, max_depth: int = 3
) -> list[list[int]]:
    """Plan by trying all choices: most operations in the next few kernels.

    Of all sequences of ``max_depth`` kernels the one that runs most operations is found,
    and its first kernel is taken; then again. That is seldom better than
    `greedy_planner`, and takes as many trials for each kernel as there are kinds that are
    ready, to the power of ``max_depth``: for networks of some hundred operations.

    Parameters
    ----------
    operations : sequence of Operation
    pairs : ndarray of int
        ``(2, n)``: operation ``pairs[1, k]`` needs ``pairs[0, k]``.
    max_depth : int
        How many kernels to look ahead.

    Returns
    -------
    list of list of int
        What runs together, in the order in which it runs.
    """
    agenda, batches = Agenda(operations, pairs), []

    def most(depth: int) -> int:
        """How many operations the next ``depth`` kernels can run."""
        best = 0
        for key in list(agenda.ready) if depth else ():
            members, freed = agenda.take(key)
            best = max(best, len(members) + most(depth - 1))
            agenda.put_back(key, members, freed)
        return best

    def worth(key: Hashable) -> tuple[int, int]:
        earliest = agenda.earliest(key)
        members, freed = agenda.take(key)
        value = len(members) + most(max_depth - 1)
        agenda.put_back(key, members, freed)
        return value, -earliest

    while agenda.ready:
        batches.append(agenda.take(max(list(agenda.ready), key=worth))[0])
    return batches


def transitive_planner(
    operations: Sequence[Operation], pairs: np.ndarray
) -> list[list[int]]:
    """Merge what does not depend on each other, the most frequent kinds first.

    Two operations of one kind can run together if none needs the other, directly or
    through others: that is read off the transitive closure of ``pairs``, in which merged
    operations count as one. Time and memory grow with the square of the number of
    operations.

    Parameters
    ----------
    operations : sequence of Operation
    pairs : ndarray of int
        ``(2, n)``: operation ``pairs[1, k]`` needs ``pairs[0, k]``.

    Returns
    -------
    list of list of int
        What runs together, in the order in which it runs.
    """
    before, after = _closure(operations, pairs)  # sets of operations, as bits of integers
    members = {i: [i] for i in range(len(operations))}
    kinds = defaultdict(list)
    for i in sorted(members, key=lambda i: (operations[i].order, i)):
        kinds[operations[i].key].append(i)
    for group in sorted(kinds.values(), key=len, reverse=True):
        merged: list[int] = []
        for i in group:
            apart = (g for g in merged if not (before[g] | after[g]) >> i & 1)
            home = next(apart, None)
            if home is None:
                merged.append(i)
                continue
            members[home] += members.pop(i)
            _merge(before, after, home, i)
    batches = list(members.values())
    number = {i: k for k, batch in enumerate(batches) for i in batch}
    edges = {(number[a], number[b]) for a, b in pairs.T.tolist()}
    orders = [min(operations[i].order for i in batch) for batch in batches]
    return [batches[k] for k in _in_order(orders, edges)]


def noop_planner(operations: Sequence[Operation], pairs: np.ndarray) -> list[list[int]]:
    """Every operation is a kernel of its own, in core's order: nothing is merged.

    Parameters
    ----------
    operations : sequence of Operation
    pairs : ndarray of int
        ``(2, n)``: operation ``pairs[1, k]`` needs ``pairs[0, k]``.

    Returns
    -------
    list of list of int
        One list for each operation, in the order in which they run.
    """
    orders = [operation.order for operation in operations]
    return [[i] for i in _in_order(orders, map(tuple, pairs.T.tolist()))]


def _in_order(orders: Sequence[int], edges: Iterable[tuple[int, int]]) -> list[int]:
    """Again and again the first in core's order of those that are ready."""
    waiting = Waiting.of_pairs(edges)
    heap = [(order, i) for i, order in enumerate(orders) if not waiting.number[i]]
    heapq.heapify(heap)
    done = []
    while heap:
        done.append(heapq.heappop(heap)[1])
        for follower in waiting.done(done[-1]):
            heapq.heappush(heap, (orders[follower], follower))
    return done


def _closure(operations, pairs) -> tuple[list[int], list[int]]:
    """For each operation all that it needs, and all that need it."""
    before, after = [0] * len(operations), [0] * len(operations)
    edges = pairs.T.tolist()
    position = np.argsort(_in_order([op.order for op in operations], map(tuple, edges)))
    edges.sort(key=lambda edge: position[edge[1]])
    for a, b in edges:
        before[b] |= before[a] | 1 << a
    edges.sort(key=lambda edge: -position[edge[0]])
    for a, b in edges:
        after[a] |= after[b] | 1 << b
    return before, after


def _merge(before: list[int], after: list[int], home: int, other: int) -> None:
    """From now on two operations are one."""
    both = 1 << home | 1 << other
    before[home] |= before[other]
    after[home] |= after[other]
    for i in _bits(before[home]):
        after[i] |= after[home] | both
    for i in _bits(after[home]):
        before[i] |= before[home] | both


def _bits(number: int) -> Iterable[int]:
    """The places of all ones."""
    while number:
        lowest = number & -number
        yield lowest.bit_length() - 1
        number ^= lowest


def noop_order_signals(plan: Plan) -> np.ndarray:
    """Leave sums in the order in which the compiler met them.

    Parameters
    ----------
    plan : Plan

    Returns
    -------
    ndarray of int
        For each element its number.
    """
    return np.arange(plan.graph.size)


def remove_unmodified_resets(graph: Graph) -> Graph:
    """What is set and never added to is a constant.

    Parameters
    ----------
    graph : Graph

    Returns
    -------
    Graph
    """
    return _constants(graph, (graph.kind == Kind.SUM) & (graph.fan_in == 0))


def remove_zero_incs(graph: Graph) -> Graph:
    """Nothing is added where a factor or a constant is zero.

    Parameters
    ----------
    graph : Graph

    Returns
    -------
    Graph
    """
    nothing = (graph.kind == Kind.CONSTANT) & (graph.value == 0)
    rest = ~nothing[graph.src] & (graph.scale != 0)
    if rest.all():
        return graph
    return graph.with_terms(graph.term_owner[rest], graph.src[rest], graph.scale[rest])


def remove_identity_muls(graph: Graph) -> Graph:
    """A product with an identity matrix is its other factor.

    Parameters
    ----------
    graph : Graph

    Returns
    -------
    Graph
    """
    mapping = np.arange(graph.size)
    for node in graph.nodes:
        matrix = node.matrix
        if not isinstance(matrix, np.ndarray) or matrix.shape[0] != matrix.shape[1]:
            continue
        if np.array_equal(matrix, np.eye(len(matrix))):
            mapping[node.elements()] = node.inputs[0]
    if np.array_equal(mapping, np.arange(graph.size)):
        return graph
    while not np.array_equal(mapping, mapping[mapping]):  # one behind the other
        mapping = mapping[mapping]
    return graph.rename(mapping)


def remove_constant_copies(graph: Graph) -> Graph:
    """A sum of constants is a constant.

    Parameters
    ----------
    graph : Graph

    Returns
    -------
    Graph
    """
    rows, constant = graph.term_owner, graph.kind[graph.src] == Kind.CONSTANT
    varying = np.bincount(rows[~constant], minlength=graph.size)
    known = (graph.kind == Kind.SUM) & (graph.fan_in > 0) & (varying == 0)
    if not known.any():
        return graph
    value, mine = graph.value.copy(), known[rows]
    np.add.at(value, rows[mine], graph.scale[mine] * graph.value[graph.src[mine]])
    others = ~mine
    summed = graph.with_terms(
        rows[others], graph.src[others], graph.scale[others], value=value
    )
    return _constants(summed, known)


def remove_reset_incs(graph: Graph) -> Graph:
    """What is set to zero and then added to once is what was added.

    Parameters
    ----------
    graph : Graph

    Returns
    -------
    Graph
    """
    return alias(graph)


default_simplifications: list[Simplification] = [
    remove_unmodified_resets,
    remove_zero_incs,
    remove_identity_muls,
    remove_constant_copies,
    remove_reset_incs,
    sparsify,
    fold,
    alias,
    inline,
    retime,
]
"""All simplifications, in the order in which they are applied."""


def _constants(graph: Graph, chosen: np.ndarray) -> Graph:
    """The graph with the chosen sums, which have no terms, as constants."""
    if not chosen.any():
        return graph
    kind = np.where(chosen, Kind.CONSTANT, graph.kind).astype(graph.kind.dtype)
    return graph.with_terms(graph.term_owner, graph.src, graph.scale, kind=kind)
