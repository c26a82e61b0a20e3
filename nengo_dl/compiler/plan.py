"""What runs when: stages, which operations run together, and in which order.

Stages are what runs before, in and after the loop over time; in each of them, operations
of one kind are merged.

A planner is a function ``planner(operations, pairs)``. ``operations`` is a sequence of
`Operation`; those with equal keys may become one kernel. ``pairs``, an array ``(2, n)``,
holds who has to wait: operation ``pairs[1, k]`` needs a result of ``pairs[0, k]``. It
returns lists of indices into ``operations``, one list for each kernel, in the order in
which they run. `greedy_planner` is the one that is used unless the user sets another.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from itertools import accumulate, chain
from typing import Any, Generic, TypeVar

import numpy as np
from nengo.exceptions import BuildError, ValidationError

from nengo_dl.compiler.common import common_elements
from nengo_dl.compiler.costs import CHEAP, LINED_UP, LONG_SUM
from nengo_dl.compiler.graph import Flow, Graph, Kind, Node
from nengo_dl.compiler.runs import ranges, taken
from nengo_dl.compiler.traits import Kernel
from nengo_dl.notices import label_of

T = TypeVar("T", bound=Hashable)


class Waiting(Generic[T]):
    """Who still waits for whom, while one after the other is done (Kahn, CACM 1962).

    Parameters
    ----------
    followers : mapping
        Each thing that somebody waits for -> those that wait for it.
    """

    def __init__(self, followers: Mapping[T, Iterable[T]]) -> None:
        self.followers = followers
        # a list, like all that is counted: what is no mapping takes 0.2 ms to be found
        # out, once for each type
        self.number = Counter([*chain.from_iterable(followers.values())])

    @classmethod
    def of_pairs(cls, pairs: Iterable[tuple[T, T]]) -> Waiting[T]:
        """The book of what pairs ``(before, after)`` say."""
        followers = defaultdict(list)
        for before, after in pairs:
            followers[before].append(after)
        return cls(followers)

    def done(self, thing: T) -> list[T]:
        """Something is done; returns those that waited for nothing else."""
        freed, number = [], self.number
        for follower in self.followers.get(thing, ()):
            left = number[follower] = number[follower] - 1
            if not left:
                freed.append(follower)
        return freed

    def put_back(self, thing: T) -> None:
        """The inverse of `done`."""
        self.number.update(self.followers.get(thing, ()))


# the order of core Nengo --------------------------------------------------------------


@dataclass(frozen=True)
class Accesses:
    """What operators do with signals: signal -> the operators that do it, in order."""

    sets: Mapping[Any, list] = field(default_factory=lambda: defaultdict(list))
    incs: Mapping[Any, list] = field(default_factory=lambda: defaultdict(list))
    reads: Mapping[Any, list] = field(default_factory=lambda: defaultdict(list))
    updates: Mapping[Any, list] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def of(cls, operators: Iterable) -> Accesses:
        """Ask each of some operators once which signals it sets, reads and so on."""
        found = cls()
        sets, incs, reads, updates = found.sets, found.incs, found.reads, found.updates
        for op in operators:
            for signal in op.sets:
                sets[signal].append(op)
            for signal in op.incs:
                incs[signal].append(op)
            for signal in op.reads:
                reads[signal].append(op)
            for signal in op.updates:
                updates[signal].append(op)
        return found

    def signals(self) -> list:
        """All signals, each of them once."""
        return list({**self.sets, **self.incs, **self.reads, **self.updates})


def operator_order(operators: Iterable, found: Accesses | None = None) -> list:
    """The operators as ``nengo.Simulator`` would run them.

    Within a step, all that is set in a signal comes first, then its increments, then its
    reads, then its updates; signals that are views of one base share memory. Of the many
    orders that keep to this, Python functions with side effects can tell one from
    another. So this is core's very order, found in time that grows with the number of
    dependencies.

    Parameters
    ----------
    operators : iterable of nengo.builder.Operator
        Only read.
    found : Accesses, optional
        Those of the operators, if they are there.

    Returns
    -------
    list of nengo.builder.Operator
        Every operator behind all that it depends on; among those that could run next,
        the one that has been ready for longest.

    Raises
    ------
    BuildError
        If operators depend on each other in a circle, or if two of them set (or update)
        the same memory.
    """
    successors = dependents(operators, found)
    waiting = Waiting(successors)
    ready = deque(op for op in successors if not waiting.number[op])
    ordered = []
    while ready:
        ordered.append(ready.popleft())
        ready.extend(waiting.done(ordered[-1]))
    if len(ordered) < len(successors):
        stuck = {op for op, number in waiting.number.items() if number}
        raise BuildError(_circle_message(stuck, successors))
    return ordered


def dependents(operators: Iterable, found: Accesses | None = None) -> dict:
    """Operator -> those that have to run after it, in the order in which core adds them.

    Parameters
    ----------
    operators : iterable of nengo.builder.Operator
    found : Accesses, optional
        Those of the operators, if they are there.

    Returns
    -------
    dict
        The values are dicts without values, used as ordered sets.
    """
    successors: dict = {op: {} for op in operators}
    found = found or Accesses.of(successors)
    sets, incs, reads, updates = found.sets, found.incs, found.reads, found.updates
    overlapping = _overlaps(found.signals())
    for by_signal, verb in ((sets, "set"), (updates, "update")):
        _require_one_each(by_signal, overlapping, verb)
    for later, earlier in (
        (incs, (sets,)),
        (reads, (sets, incs)),
        (updates, (sets, incs, reads)),
    ):
        for signal, posts in later.items():
            for other in overlapping.get(signal, (signal,)):
                for by_signal in earlier:
                    for pre in by_signal.get(other, ()):
                        behind = successors[pre]
                        for post in posts:  # nearly always one
                            behind[post] = None
    return successors


def _overlaps(signals: Iterable) -> dict:
    """Signal -> the signals that may share memory with it, itself among them.

    Those that nothing else shares a base with are left out. As in core, what counts are
    the first and the last byte of a view.
    """
    by_base = defaultdict(list)
    for signal in signals:
        by_base[signal.base].append(signal)
    overlapping = {}
    for group in by_base.values():
        if len(group) > 1:
            overlapping.update(_overlaps_in_base(group))
    return overlapping


def _overlaps_in_base(signals: list) -> dict:
    """Which signals of one base overlap, by their intervals of memory."""
    spans = {signal: _span(signal.initial_value) for signal in signals}
    low = min(start for start, _ in spans.values())
    high = max(stop for _, stop in spans.values())
    whole = [signal for signal in signals if spans[signal] == (low, high)]
    parts = sorted(
        (signal for signal in signals if spans[signal] != (low, high)),
        key=lambda signal: spans[signal][0],
    )
    starts = [spans[signal][0] for signal in parts]
    furthest = list(accumulate((spans[signal][1] for signal in parts), max))
    overlapping = {}
    for signal, (start, stop) in spans.items():
        if start == stop:  # empty: shares nothing
            overlapping[signal] = [signal]
            continue
        found = list(whole)
        index = bisect_left(starts, stop) - 1
        while index >= 0 and furthest[index] > start:
            first, last = spans[parts[index]]
            if first < last and last > start:
                found.append(parts[index])
            index -= 1
        overlapping[signal] = found
    return overlapping


def _span(array) -> tuple[int, int]:
    """The first byte of an array in memory, and the one after its last."""
    start = stop = array.__array_interface__["data"][0]
    if not array.size:
        return start, start
    for length, stride in zip(array.shape, array.strides):
        reach = (length - 1) * stride
        start, stop = start + min(reach, 0), stop + max(reach, 0)
    return start, stop + array.itemsize


def _require_one_each(by_signal: Mapping, overlapping: dict, verb: str) -> None:
    """No memory is set (or updated) by more than one operator."""
    for signal, ops in by_signal.items():
        others = overlapping.get(signal, ())
        if len(others) > 1:
            ops = [op for other in others for op in by_signal.get(other, ())]
        if len(ops) > 1:
            raise BuildError(
                f"{len(ops)} operators {verb} the signal {signal.name} (or views that "
                f"overlap it); expected one at most. They are: {_names(ops)}. One may "
                f"{verb} it, the others have to increment it"
            )


def _circle_message(stuck: set, successors: dict) -> str:
    """What to tell about operators that wait for each other; ``stuck`` cannot run."""
    before = {post: pre for pre in successors if pre in stuck for post in successors[pre]}
    op = next(iter(before.keys() & stuck))
    passed: dict = {}
    while op not in passed:
        passed[op] = None
        op = before[op]
    circle = list(passed)
    circle = circle[circle.index(op) :][::-1]
    return (
        "the network has a loop without delay: within one time step, each of these "
        f"operators needs the result of the one before, and the first that of the last: "
        f"{_names(circle)}. Too many connections have synapse=None; give one of this "
        "loop a synapse (synapse=0 delays by a single step)"
    )


def _names(ops: list) -> str:
    shown = ", ".join(label_of(op) for op in ops[:5])
    return shown + (f" and {len(ops) - 5} more" if len(ops) > 5 else "")


# stages -------------------------------------------------------------------------------


class Stage(IntEnum):
    """When something is computed: before the loop over time, in it, or after it."""

    BEFORE = 0
    LOOP = 1
    AFTER = 2


@dataclass(frozen=True)
class Stages:
    """The stage of each element and of each node."""

    element: np.ndarray
    node: np.ndarray


def stages(
    graph: Graph, stepwise_python: bool = False, flow: Flow | None = None
) -> Stages:
    """Split a step into what runs before the loop over time, in it, and after it.

    What depends on no state is computed before the loop for all steps at once, so that T
    small products become one large one; unless to keep the results for the loop costs
    more than to compute them. What no state depends on is computed after it.

    Parameters
    ----------
    graph : Graph
    stepwise_python : bool
        Keep nodes that run Python in the loop, so that they run in core's order, step by
        step. Needed when several of them may share an object.
    flow : Flow, optional
        That of the graph, if it is there.
    """
    flow = flow or Flow(graph)
    depends = graph.kind == Kind.STATE
    feeds = np.zeros(graph.size, bool)
    feeds[graph.next[graph.next >= 0]] = True
    pinned = [
        i
        for i, n in enumerate(graph.nodes)
        if n.kernel.stepwise
        or n.kernel.joins_items
        or (n.kernel.host and stepwise_python)
    ]
    for i in pinned:
        for start, size in graph.nodes[i].outputs:
            depends[start : start + size] = True
            feeds[start : start + size] = True
        for elements in graph.nodes[i].inputs:
            feeds[elements] = True
    depends, feeds = flow.forward(depends), flow.backward(feeds)
    if (depends & feeds).any():
        cheap = _expanding(graph, feeds & ~depends)
        for i in cheap:
            start, size = graph.nodes[i].outputs[0]
            depends[start : start + size] = True
        pinned += cheap
        depends = flow.forward(depends)
    before, loop, after = (np.int8(s) for s in (Stage.BEFORE, Stage.LOOP, Stage.AFTER))
    element = np.where(depends, np.where(feeds, loop, after), before)
    node = np.full(len(graph.nodes), before)
    node[flow.reader[depends[flow.flat]]] = after  # unless an output says more
    # a node runs as soon as one of its outputs is needed
    np.minimum.at(node, graph.owner[flow.of_node], element[flow.of_node])
    node[pinned] = loop
    return Stages(element, node)


def _expanding(graph: Graph, before: np.ndarray) -> list[int]:
    """Nodes that are cheaper to compute in the loop than to keep their outputs for it.

    What is computed before the loop for all steps is written to memory and read again in
    each step, some nanoseconds for each element. So currents of many neurons that encode
    a few inputs are left to the loop (action selection with 1,600 of 4,800 neurons there:
    11 instead of 23 us a step). Parameters are not, as their gradients are one large
    product.
    """
    chosen = []
    for i, node in enumerate(graph.nodes):
        if not isinstance(node.matrix, np.ndarray):
            continue
        start, size = node.outputs[0]
        if not before[start : start + size].all():
            continue
        grows = node.size > node.inputs[0].size
        if grows and node.kernel.cost(node) <= CHEAP * node.size:
            chosen.append(i)
    return chosen


def one_stage(graph: Graph) -> Stages:
    """Everything in the loop: the form that single steps run."""
    return Stages(
        np.full(graph.size, Stage.LOOP, np.int8),
        np.full(len(graph.nodes), Stage.LOOP, np.int8),
    )


# merging ------------------------------------------------------------------------------


NO_SUMS = np.zeros(0, np.int64)


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
    sums: np.ndarray = field(default_factory=lambda: NO_SUMS)

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
    graph: Graph,
    split: Stages | None = None,
    planner: Planner | None = None,
    flow: Flow | None = None,
) -> Plan:
    """Choose what is merged.

    Parameters
    ----------
    graph : Graph
    split : Stages, optional
        Which stage everything belongs to.
    planner : callable, optional
        The strategy, see above; by default `greedy_planner`.
    flow : Flow, optional
        That of the graph, if it is there.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If what a planner of the user's returns cannot be run.
    """
    flow = flow or Flow(graph)
    split = stages(graph, flow=flow) if split is None else split
    units, unit_of = _units(flow, split)
    pairs = _dependencies(flow, units, unit_of)
    del flow
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
        found = [_batch([mine[i] for i in members]) for members in merged]
        if len(graph.nodes) >= LINED_UP:
            _line_up(graph, found)
        batches.append(tuple(found))
    return Plan(graph, split, tuple(batches))


def _line_up(graph: Graph, batches: list[Batch]) -> None:
    """Let the nodes of each batch stand in the order in which others need them.

    Those whose inputs one batch writes stand together, and among them each stands where
    its output is read first. So reads of large networks are slices, where otherwise each
    value would be gathered. Batches are replaced by others in their place.
    """
    writer = np.full(graph.size, -1, np.int64)
    for number, batch in enumerate(batches):
        outputs = [output for node in batch.nodes for output in node.outputs]
        starts, sizes = np.array(outputs, np.int64).reshape(-1, 2).T
        writer[ranges(starts, starts + sizes)] = number
    first = np.full(graph.size, np.iinfo(np.int64).max)  # place of the first reader
    for number in reversed(range(len(batches))):
        batch, place = batches[number], number * graph.size
        starts, stops = graph.ptr[batch.sums], graph.ptr[batch.sums + 1]
        reader = np.repeat(batch.sums, stops - starts)
        np.minimum.at(first, taken(graph.src, starts, stops), first[reader])
        if len(batch.nodes) > 1 and not batch.nodes[0].kernel.host:
            batch = replace(batch, nodes=_in_order(graph, batch.nodes, writer, first))
            batches[number] = batch
        for arrays in zip(*(node.inputs for node in batch.nodes)):
            read = np.concatenate(arrays)
            np.minimum.at(first, read, place + np.arange(read.size))
            place += read.size


def _in_order(
    graph: Graph, nodes: tuple[Node, ...], writer: np.ndarray, first: np.ndarray
) -> tuple[Node, ...]:
    """Nodes of one batch: by who writes for them, then by who reads them first.

    ``writer``, ``first``: of each element, the number of the batch that writes it, and
    the place at which it is read first.
    """
    if not all(node.size and node.inputs and node.inputs[0].size for node in nodes):
        return nodes
    read = np.array([node.inputs[0][0] for node in nodes])
    sums = graph.ptr[read + 1] > graph.ptr[read]
    read[sums] = graph.src[graph.ptr[read[sums]]]  # a sum stands where its terms do
    places = first[[node.outputs[0][0] for node in nodes]]
    order = np.lexsort([places, writer[read]])
    return tuple([nodes[i] for i in order.tolist()])


def _units(flow: Flow, split: Stages) -> tuple[list[Operation], np.ndarray]:
    """Nodes, and pieces of sum blocks of one stage and level; which one owns what.

    Elements of a block may lie on different levels once equal values are shared. Pieces
    of one level cannot depend on each other, so pieces have no cycles. What all items of
    a batch have in common is apart from the rest: it is computed once.
    """
    graph = flow.graph
    units: list[Operation] = []
    unit_of = np.full(graph.size, -1, np.int64)
    common = common_elements(graph)
    any_common = bool(common.any())
    for node, stage in zip(graph.nodes, split.node.tolist(), strict=True):
        once = any_common and bool(node.outputs) and bool(common[node.outputs[0][0]])
        key = ("node", node.kernel.merge_key(node), once)
        units.append(Operation(key, node.order, stage, node))
    unit_of[flow.of_node] = flow.owner
    level, _ = flow.levels()
    sums = np.flatnonzero(graph.kind == Kind.SUM)
    highest = int(level.max(initial=0)) + 1
    label = (graph.block[sums].astype(np.int64) * highest + level[sums]) * len(Stage)
    label = (label + split.element[sums]) * 2 + common[sums]
    _, piece = np.unique(label, return_inverse=True)
    order = np.argsort(piece, kind="stable")
    cuts = np.flatnonzero(np.diff(piece[order])) + 1
    for members in np.split(sums[order], cuts) if sums.size else ():
        unit_of[members] = len(units)
        first = members[0]
        apart = len(units) if members.size >= LONG_SUM else -1
        key = ("sum", apart, bool(common[first]))
        unit = Operation(key, int(graph.block[first]), int(split.element[first]))
        unit.sums = members
        units.append(unit)
    return units, unit_of


def _dependencies(flow: Flow, units, unit_of) -> np.ndarray:
    """Pairs (unit, unit that needs it), without doubles."""
    before = np.concatenate([unit_of[flow.graph.src], unit_of[flow.flat]])
    after = np.concatenate([unit_of[flow.rows], flow.reader])
    edges = before >= 0
    codes = before[edges] * len(units) + after[edges]
    if len(units) ** 2 < codes.size:  # there are few pairs: they are counted, not sorted
        codes = np.flatnonzero(np.bincount(codes))
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
        self.waiting = Waiting.of_pairs(pairs.T.tolist())
        self.remaining = Counter([op.key for op in operations])
        self.ready: dict[Hashable, list[int]] = {}
        for i, op in enumerate(operations):
            if not self.waiting.number[i]:
                self.ready.setdefault(op.key, []).append(i)

    def earliest(self, key: Hashable) -> int:
        """Core's place of the first operation that is ready."""
        return min(self.operations[i].order for i in self.ready[key])

    def take(self, key: Hashable) -> tuple[list[int], list[int]]:
        """All that are ready of one kind, and what became ready by that."""
        members = sorted(self.ready.pop(key), key=lambda i: (self.operations[i].order, i))
        self.remaining[key] -= len(members)
        freed = [follower for i in members for follower in self.waiting.done(i)]
        for follower in freed:
            kind = self.operations[follower].key
            self.ready.setdefault(kind, []).append(follower)
        return members, freed

    def put_back(self, key: Hashable, members: list[int], freed: list[int]) -> None:
        """The inverse of `take`."""
        for follower in freed:
            kind = self.operations[follower].key
            self.ready[kind].remove(follower)
            if not self.ready[kind]:
                del self.ready[kind]
        for i in members:
            self.waiting.put_back(i)
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
        shares = {k: len(x) / agenda.remaining[k] for k, x in agenda.ready.items()}
        largest = max(shares.values())
        first = [k for k, share in shares.items() if share == largest]
        # not asked of each kind: most wait for the rest, and are many
        key = min(first, key=agenda.earliest) if len(first) > 1 else first[0]
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
