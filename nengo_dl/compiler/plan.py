"""Merging: which operations run together, in which order.

A planner is a function ``planner(operations, pairs)``. ``operations`` is a sequence of
`Operation`; those with equal keys may become one kernel. ``pairs``, an array ``(2, n)``,
holds who has to wait: operation ``pairs[1, k]`` needs a result of ``pairs[0, k]``. It
returns lists of indices into ``operations``, one list for each kernel, in the order in
which they run. `greedy_planner` is the one that is used unless the user sets another.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from nengo.exceptions import ValidationError

from nengo_dl.compiler.flow import Flow
from nengo_dl.compiler.graph import Graph, Kind, Node
from nengo_dl.compiler.stages import Stage, Stages, stages
from nengo_dl.compiler.traits import Kernel

#: sums at least this long are kernels of their own: gathering them costs more than a call
LONG_SUM = 4096


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
    sums : ndarray of int
        The SUM elements, if it is no node.
    """

    key: Hashable
    order: int
    stage: int
    node: Node | None = None
    sums: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def size(self) -> int:
        """Number of elements that the operation computes."""
        return self.sums.size if self.node is None else self.node.size


Planner = Callable[[Sequence[Operation], np.ndarray], list[list[int]]]


@dataclass(frozen=True)
class Batch:
    """Operations that become one kernel: nodes, or SUM elements (``nodes`` empty)."""

    kernel: Kernel | None
    nodes: tuple[Node, ...]
    sums: np.ndarray


@dataclass(frozen=True)
class Plan:
    """A graph, and for each stage its batches in the order in which they run."""

    graph: Graph
    stages: Stages
    batches: tuple[tuple[Batch, ...], tuple[Batch, ...], tuple[Batch, ...]]


def plan(
    graph: Graph, split: Stages | None = None, planner: Planner | None = None
) -> Plan:
    """Choose what is merged.

    Parameters
    ----------
    graph : Graph
    split : Stages, optional
        Which stage everything belongs to.
    planner : callable, optional
        The strategy, see above; by default `greedy_planner`.

    Returns
    -------
    Plan

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If what a planner of the user's returns cannot be run.
    """
    split = stages(graph) if split is None else split
    units, unit_of = _units(graph, split)
    pairs = _dependencies(graph, units, unit_of)
    stage_of = np.array([unit.stage for unit in units], dtype=np.int64)
    batches = []
    for stage in Stage:
        chosen = np.flatnonzero(stage_of == stage)
        place = np.full(len(units), -1, np.int64)
        place[chosen] = np.arange(chosen.size)
        inside = (stage_of[pairs[0]] == stage) & (stage_of[pairs[1]] == stage)
        mine, waits = [units[i] for i in chosen.tolist()], place[pairs[:, inside]]
        if planner is None:
            merged = greedy_planner(mine, waits)
        else:
            merged = check_batches(planner(mine, waits), mine, waits, planner)
        batches.append(tuple(_batch([mine[i] for i in members]) for members in merged))
    return Plan(graph, split, tuple(batches))


def _units(graph: Graph, split: Stages) -> tuple[list[Operation], np.ndarray]:
    """Nodes, and pieces of sum blocks of one stage and level; which one owns what.

    Elements of a block may lie on different levels once equal values are shared. Pieces
    of one level cannot depend on each other, so pieces have no cycles.
    """
    units: list[Operation] = []
    unit_of = np.full(graph.size, -1, np.int64)
    for number, node in enumerate(graph.nodes):
        key = ("node", node.kernel.merge_key(node))
        units.append(Operation(key, node.order, int(split.node[number]), node))
        for start, size in node.outputs:
            unit_of[start : start + size] = number
    level, _ = Flow(graph).levels()
    sums = np.flatnonzero(graph.kind == Kind.SUM)
    highest = int(level.max(initial=0)) + 1
    label = (graph.block[sums].astype(np.int64) * highest + level[sums]) * len(Stage)
    _, piece = np.unique(label + split.element[sums], return_inverse=True)
    order = np.argsort(piece, kind="stable")
    cuts = np.flatnonzero(np.diff(piece[order])) + 1
    for members in np.split(sums[order], cuts) if sums.size else ():
        unit_of[members] = len(units)
        key = ("sum", len(units) if members.size >= LONG_SUM else -1)
        first = members[0]
        unit = Operation(key, int(graph.block[first]), int(split.element[first]))
        unit.sums = members
        units.append(unit)
    return units, unit_of


def _dependencies(graph: Graph, units, unit_of) -> np.ndarray:
    """Pairs (unit, unit that needs it), without doubles."""
    flat, reader = graph.node_inputs()
    before = np.concatenate([unit_of[graph.src], unit_of[flat]])
    after = np.concatenate([unit_of[graph.term_owner], reader])
    edges = before >= 0
    codes = np.unique(before[edges] * len(units) + after[edges])
    python = [i for i, u in enumerate(units) if u.node is not None and u.node.kernel.host]
    python.sort(key=lambda i: units[i].order)  # Python runs in core's order
    chain = [a * len(units) + b for a, b in zip(python, python[1:])]
    codes = np.unique(np.concatenate([codes, np.array(chain, np.int64)]))
    return np.stack(np.divmod(codes, max(len(units), 1))).astype(np.int64)


def _batch(units: list[Operation]) -> Batch:
    if units[0].node is None:
        return Batch(None, (), np.concatenate([u.sums for u in units]))
    nodes = tuple(u.node for u in units if u.node is not None)
    return Batch(nodes[0].kernel, nodes, np.zeros(0, np.int64))


class Agenda:
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
    agenda, batches = Agenda(operations, pairs), []
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


def check_batches(
    batches: Any, operations: Sequence[Operation], pairs: np.ndarray, planner: Planner
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
