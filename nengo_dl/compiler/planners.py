"""Strategies that choose which operations of a stage run together, and in which order.

A planner is a function ``planner(operations, pairs)``. ``operations`` is a sequence of
`Operation`; those with equal keys may become one kernel. ``pairs``, an array ``(2, n)``,
holds who has to wait: operation ``pairs[1, k]`` needs a result of ``pairs[0, k]``. It
returns lists of indices into ``operations``, one list for each kernel, in the order in
which they run.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from nengo.exceptions import ValidationError

from nengo_dl.compiler.graph import Node


@dataclass
class Operation:
    """The smallest thing that is scheduled: a node, or a piece of a block of sums.

    Parameters
    ----------
    key : hashable
        Operations with equal keys may be merged into one kernel.
    order : int
        Place in the order in which core Nengo would compute them.
    stage : int
        Before, in or after the loop over time; the same for all that a planner gets.
    node : Node or None
        The node.
    sums : ndarray of int or None
        The SUM elements, if it is no node.
    """

    key: Hashable
    order: int
    stage: int
    node: Node | None = None
    sums: np.ndarray | None = None

    @property
    def size(self) -> int:
        """Number of elements that it computes."""
        return self.node.size if self.sums is None else self.sums.size


Planner = Callable[[Sequence[Operation], np.ndarray], list[list[int]]]


class _Agenda:
    """What is ready to run, by key, while operations are taken one kind at a time."""

    def __init__(self, operations: Sequence[Operation], pairs: np.ndarray):
        self.operations = operations
        self.waiting = Counter(pairs[1].tolist())
        self.followers = defaultdict(list)
        for before, after in pairs.T.tolist():
            self.followers[before].append(after)
        self.remaining = Counter(op.key for op in operations)
        self.ready: dict[Hashable, list[int]] = {}
        for i, op in enumerate(operations):
            if not self.waiting[i]:
                self.ready.setdefault(op.key, []).append(i)

    def earliest(self, key: Hashable) -> int:
        """Core's place of the first operation that is ready."""
        return min(self.operations[i].order for i in self.ready[key])

    def take(self, key: Hashable) -> tuple[list[int], list[int]]:
        """All that are ready of one kind, and what became ready by that."""
        members = sorted(self.ready.pop(key), key=lambda i: (self.operations[i].order, i))
        self.remaining[key] -= len(members)
        freed = []
        for i in members:
            for follower in self.followers[i]:
                self.waiting[follower] -= 1
                if not self.waiting[follower]:
                    kind = self.operations[follower].key
                    self.ready.setdefault(kind, []).append(follower)
                    freed.append(follower)
        return members, freed

    def put_back(self, key: Hashable, members: list[int], freed: list[int]) -> None:
        """The inverse of `take`."""
        for follower in freed:
            kind = self.operations[follower].key
            self.ready[kind].remove(follower)
            if not self.ready[kind]:
                del self.ready[kind]
        for i in members:
            for follower in self.followers[i]:
                self.waiting[follower] += 1
        self.ready[key] = members
        self.remaining[key] += len(members)


def greedy_planner(operations: Sequence[Operation], pairs: np.ndarray) -> list[list[int]]:
    """The kind of operation of which the largest share is ready, again and again.

    All that are ready of that kind run as one kernel. To wait for the largest share keeps
    the number of kernels small. This is what is done without a setting; it takes time in
    proportion to the number of operations.

    Parameters
    ----------
    operations : sequence of Operation
    pairs : ndarray of int
        ``(2, n)``: operation ``pairs[1, k]`` needs ``pairs[0, k]``.

    Returns
    -------
    list of list of int
        What runs together, in the order in which it runs.

    References
    ----------
    Neubig, Goldberg & Dyer (2017), On-the-fly operation batching in dynamic computation
    graphs, NIPS, whose agenda by average depth this is a variant of.
    """
    agenda, batches = _Agenda(operations, pairs), []
    while agenda.ready:
        key = max(
            agenda.ready,
            key=lambda k: (
                len(agenda.ready[k]) / agenda.remaining[k],
                -agenda.earliest(k),
            ),
        )
        batches.append(agenda.take(key)[0])
    return batches


def tree_planner(
    operations: Sequence[Operation], pairs: np.ndarray, max_depth: int = 3
) -> list[list[int]]:
    """As many operations as possible in the next few kernels, by trying all choices.

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
    agenda, batches = _Agenda(operations, pairs), []

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
    """The order of Kahn (1962): the first in core's order of those that are ready."""
    followers, waiting = defaultdict(list), Counter()
    for before, after in edges:
        followers[before].append(after)
        waiting[after] += 1
    heap = [(order, i) for i, order in enumerate(orders) if not waiting[i]]
    heapq.heapify(heap)
    done = []
    while heap:
        _, i = heapq.heappop(heap)
        done.append(i)
        for follower in followers[i]:
            waiting[follower] -= 1
            if not waiting[follower]:
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


def check_batches(
    batches, operations: Sequence[Operation], pairs: np.ndarray, planner: Planner
) -> list[list[int]]:
    """What a planner returned, if it can be run.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If an operation is left out or occurs twice, if operations that cannot be merged
        are to run together, or one before what it needs.
    """
    name = getattr(planner, "__name__", repr(planner))

    def check(holds: bool, problem: str) -> None:
        if not holds:
            raise ValidationError(
                f"the planner {name} {problem}; expected lists of indices of operations, "
                "one list for each kernel, in the order in which they run, as "
                "nengo_dl.graph_optimizer.noop_planner returns them",
                attr="planner",
            )

    try:
        batches = [[int(i) for i in batch] for batch in batches]
    except (TypeError, ValueError):
        check(False, f"returned {batches!r}")
    place = {i: k for k, batch in enumerate(batches) for i in batch}
    number = sum(map(len, batches))
    check(
        number == len(operations) and place.keys() == set(range(number)),
        f"returned {number} indices for {len(operations)} operations, {len(place)} of "
        "them different",
    )
    for batch in batches:
        kinds = {operations[i].key for i in batch}
        keys = ", ".join(sorted(map(str, kinds)))
        check(len(kinds) == 1, f"merged operations with different keys: {keys}")
    for a, b in pairs.T.tolist():
        check(
            place[a] < place[b],
            f"lets operation {b} run in kernel {place[b]}, but it needs a result of "
            f"operation {a}, which runs in kernel {place[a]}",
        )
    return batches
