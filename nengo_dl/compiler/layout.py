"""Where every element lives: tensors, rows, and how each operation finds its inputs.

A batch of the plan writes one tensor for each of its outputs. A read is a slice, else a
few slices one below the other, else a gather with constant indices; nothing is ever
scattered. A state has no memory of its own: it adopts the place of the element that
holds its next value, in the copy of that tensor that is carried to the next step.

A sorter is a function ``sorter(plan)`` that returns one number for each element of the
plan's graph. Sums that are computed together are laid out with these numbers growing.
What reads them finds them one below the other then, or else has to gather them.
`order_signals` is the one that is used unless the user sets another.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from nengo.exceptions import ValidationError

from nengo_dl.compiler.common import common_elements
from nengo_dl.compiler.costs import LONGEST_CONCAT
from nengo_dl.compiler.graph import INDEX, Graph, Kind, ParameterRef, Source
from nengo_dl.compiler.plan import Batch, Plan, Stage
from nengo_dl.compiler.runs import ranges, taken
from nengo_dl.compiler.slots import StateSlot, StateSlots
from nengo_dl.compiler.traits import structural

# what a layout consists of ------------------------------------------------------------

#: rows per batch item that a read of -1 finds: a tensor that is always zero
ZERO = -1


@dataclass(frozen=True)
class Read:
    """How to get ``size`` rows: slices one below the other, then perhaps a gather.

    ``parts`` are (tensor, start, stop), with tensor `ZERO` for one row of zeros.
    """

    parts: tuple[tuple[int, int, int], ...]
    index: np.ndarray | None
    size: int

    @property
    def form(self) -> str:
        """``"slice"``, ``"concat"`` or ``"gather"``."""
        if self.index is not None:
            return "gather"
        return "slice" if len(self.parts) == 1 else "concat"


@dataclass(frozen=True)
class Weight:
    """An argument of the program.

    ``items`` are arrays or references to parameters. ``form`` says how they become one
    array: ``"stack"``, along a new first axis; ``"column"``, flattened one below the
    other as ``(n, 1)``.
    """

    form: str
    items: tuple[np.ndarray | ParameterRef, ...]

    @property
    def constant(self) -> bool:
        """Whether no item is a reference to a parameter."""
        return all(isinstance(item, np.ndarray) for item in self.items)


@dataclass(frozen=True)
class WeightRef:
    """Stands for a weight in the parameters of a group."""

    number: int


@dataclass(frozen=True)
class Group:
    """One kernel call: what it is, what it reads, which tensors it writes.

    ``labels`` are those of its nodes, objects or texts, see `nengo_dl.notices.text_of`.
    """

    kernel: Any
    params: Mapping[str, Any]
    reads: tuple[Read, ...]
    outputs: tuple[int, ...]
    labels: tuple[object, ...] = ()


@dataclass(frozen=True)
class StageLayout:
    """One stage of a step: its groups, and what it hands on.

    ``sources`` maps ``"constant"``, ``"parameter"``, ``"inputs"`` and, in the loop,
    ``("carry", i)`` to tensor numbers. ``result`` is what the stage gives: in the stage
    before the loop the rows that the loop is given each step, in the loop the rows it
    reports, in the stage after it the probes.
    """

    groups: tuple[Group, ...]
    sources: Mapping[Any, int]
    result: Read
    next_state: tuple[Read, ...] = ()

    @property
    def batch_first(self) -> bool:
        """Whether arrays had better lie in memory with the batch first.

        So it is where there is library code that wants it, unless more rows are gathered
        than go through that code.
        """
        wanted = gathered = 0
        for group in self.groups:
            rows, least = sum(r.size for r in group.reads), group.kernel.batch_first
            if least is not None and rows >= least:
                wanted += rows
            gathered += sum(r.size for r in group.reads if r.form == "gather")
        return wanted > gathered


@dataclass(frozen=True)
class Layout:
    """Everything that is needed to emit a program.

    Parameters
    ----------
    before, loop, after : StageLayout
    sizes : list of int
        Rows of each tensor.
    constants : ndarray
        Rows of the tensor of constants.
    inputs : tuple of Source
        Rows of what is given from outside for each step, in this order.
    weights : tuple of Weight
    carry : tuple of ndarray
        First values of each carried array.
    states : sequence of StateSlot
    probes : tuple of (key, first row, shape)
        Rows of the final result.
    """

    before: StageLayout
    loop: StageLayout
    after: StageLayout
    sizes: tuple[int, ...]
    constants: np.ndarray
    inputs: tuple[Source, ...]
    weights: tuple[Weight, ...]
    carry: tuple[np.ndarray, ...]
    states: Sequence[StateSlot]
    probes: tuple[tuple[Any, int, tuple[int, ...]], ...]
    plan: Plan | None = field(repr=False, default=None)

    @property
    def has_loop(self) -> bool:
        """Whether anything is carried or computed step by step."""
        return bool(self.carry) or bool(self.loop.groups)

    @property
    def computes(self) -> bool:
        """Whether a step computes or carries anything.

        If not, what is probed is what is given, or constant.
        """
        return bool(self.carry) or bool(self.groups())

    @property
    def n_inputs(self) -> int:
        """Rows given from outside for each step."""
        return sum(source.size for source in self.inputs)

    @property
    def n_probed(self) -> int:
        """Rows of the final result."""
        return self.after.result.size

    def groups(self) -> tuple[Group, ...]:
        """The groups of all stages."""
        return self.before.groups + self.loop.groups + self.after.groups


class View:
    """Places of elements as one stage sees them."""

    def __init__(self, n_elements: int):
        self.tensor = np.full(n_elements, ZERO - 1, INDEX)
        self.row = np.zeros(n_elements, INDEX)

    def place(self, elements: np.ndarray, tensor: int) -> None:
        """Elements are the rows of a tensor, in this order."""
        self.tensor[elements] = tensor
        self.row[elements] = np.arange(elements.size)

    def has(self, elements: np.ndarray) -> np.ndarray:
        """Which elements have a place."""
        return self.tensor[elements] > ZERO - 1

    def read(self, elements: np.ndarray) -> Read:
        """The cheapest way to read elements (-1: a zero) in this order."""
        elements = np.asarray(elements).ravel()
        if elements.size == 0:
            return Read((), None, 0)
        absent = elements < 0
        tensor = np.where(absent, ZERO, self.tensor[elements])
        row = np.where(absent, 0, self.row[elements])
        if (tensor < ZERO).any():
            missing = elements[tensor < ZERO][:5].tolist()
            raise AssertionError(f"elements {missing} are read before they are written")
        return read_of(tensor, row)


def read_of(tensor: np.ndarray, row: np.ndarray) -> Read:
    """The cheapest way to read these rows of these tensors, in this order."""
    if tensor.size == 0:
        return Read((), None, 0)
    jumps = (np.diff(tensor) != 0) | (np.diff(row) != 1)
    starts = np.concatenate([[0], np.flatnonzero(jumps) + 1])
    if starts.size <= LONGEST_CONCAT and not (tensor == ZERO).any():
        stops = np.append(starts[1:], tensor.size)
        parts = tuple(
            (int(tensor[a]), int(row[a]), int(row[a] + b - a))
            for a, b in zip(starts, stops)
        )
        return Read(parts, None, tensor.size)
    parts, index, offset = [], np.zeros(row.size, np.int64), 0
    for t in np.unique(tensor):
        mine = tensor == t
        low, high = int(row[mine].min()), int(row[mine].max()) + 1
        parts.append((int(t), low, high))
        index[mine] = row[mine] - low + offset
        offset += high - low
    return Read(tuple(parts), index, row.size)


def places_of(read: Read) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of `read_of`: the tensor and the row of each row that is read."""
    parts = [(np.full(b - a, t), np.arange(a, b)) for t, a, b in read.parts]
    empty = np.zeros(0, np.int64)
    tensor = np.concatenate([empty, *(t for t, _ in parts)])
    row = np.concatenate([empty, *(r for _, r in parts)])
    return (tensor, row) if read.index is None else (tensor[read.index], row[read.index])


# where everything lives ---------------------------------------------------------------

Sorter = Callable[[Plan], np.ndarray]


class _Maker:
    """Builds a `Layout`; one method for each part of it."""

    def __init__(self, plan: Plan, rank: np.ndarray):
        self.plan = plan
        self.graph: Graph = plan.graph
        self.sizes: list[int] = []
        self.weights: list[Weight] = []
        self.views = {stage: View(self.graph.size) for stage in Stage}
        self.sources: dict[Stage, dict] = {stage: {} for stage in Stage}
        self.groups: dict[Stage, tuple[Group, ...]] = {}
        self.rank = rank

    def tensor(self, rows: int) -> int:
        """A new tensor's number."""
        self.sizes.append(rows)
        return len(self.sizes) - 1

    def weight(self, form: str, items) -> WeightRef:
        """A new argument of the program."""
        self.weights.append(Weight(form, tuple(items)))
        return WeightRef(len(self.weights) - 1)

    def make(self) -> Layout:
        """Lay out the three stages and what passes between them."""
        graph = self.graph
        probed = [p.elements for p in graph.probes]
        wanted = np.concatenate(probed) if probed else np.zeros(0, np.int64)
        constants = self._shared_sources()
        self._place_inputs()
        outputs = {s: self._output_tensors(s) for s in Stage}
        carry, slots, copied = self._carry(outputs[Stage.LOOP])
        fed = self._loop_input(copied, wanted)
        self._stage_groups(Stage.BEFORE, outputs)
        before = self._finish(Stage.BEFORE, self.views[Stage.BEFORE].read(fed))
        self._stage_groups(Stage.LOOP, outputs)
        next_state = self._next_state(carry)
        reported = self._loop_output(wanted)
        result = self.views[Stage.LOOP].read(reported)
        loop = self._finish(Stage.LOOP, result, next_state)
        self._after_sources(reported)
        self._stage_groups(Stage.AFTER, outputs)
        after = self._finish(Stage.AFTER, self.views[Stage.AFTER].read(wanted))
        return Layout(
            before=before,
            loop=loop,
            after=after,
            sizes=tuple(self.sizes),
            constants=constants,
            inputs=self._inputs,
            weights=tuple(self.weights),
            carry=tuple(values for _, values in carry),
            states=slots,
            probes=_probe_rows(graph),
            plan=self.plan,
        )

    # sources -----------------------------------------------------------------------

    def _shared_sources(self) -> np.ndarray:
        """Constants and parameters: one tensor each, for all stages."""
        graph = self.graph
        constant = np.flatnonzero(graph.kind == Kind.CONSTANT)
        parameter = np.flatnonzero(graph.kind == Kind.PARAMETER)
        for name, elements in (("constant", constant), ("parameter", parameter)):
            if elements.size == 0:
                continue
            number = self.tensor(elements.size)
            for stage in Stage:
                self.views[stage].place(elements, number)
                self.sources[stage][name] = number
        self.parameter_weight = None
        if parameter.size:
            refs = [ParameterRef(s.key, (s.size,)) for s in graph.parameters]
            self.parameter_weight = self.weight("column", refs)
        return graph.value[constant]

    def _place_inputs(self) -> None:
        elements, offset, sources = [], 0, []
        for source in self.graph.inputs:
            elements.append(source.elements)
            sources.append(Source(source.key, offset, source.size))
            offset += source.size
        self._inputs = tuple(sources)
        self._outside = np.concatenate([np.zeros(0, np.int64), *elements])
        if offset:
            number = self.tensor(offset)
            self.views[Stage.BEFORE].place(self._outside, number)
            self.sources[Stage.BEFORE]["inputs"] = number

    def _output_tensors(self, stage: Stage) -> list[list[tuple[int, np.ndarray]]]:
        """Number the tensors that each batch of a stage writes, and place elements."""
        view, tensors = self.views[stage], []
        for batch in self.plan.batches[stage]:
            if batch.kernel is None:
                pieces = _buckets(self.graph, batch.sums, self.rank)
            else:
                outputs = np.array([node.outputs for node in batch.nodes], np.int64)
                starts, sizes = outputs.reshape(len(batch.nodes), -1, 2).T
                pieces = [ranges(*part) for part in zip(starts, starts + sizes)]
            tensors.append([(self.tensor(e.size), e) for e in pieces])
            for number, elements in tensors[-1]:
                view.place(elements, number)
        return tensors

    def _carry(self, tensors):
        """Places of states: in carried copies of the tensors that hold their next value.

        Two states with one successor but different first values cannot share a row; the
        later one is copied explicitly, and so is a state whose successor is computed
        outside the loop.
        """
        graph, view = self.graph, self.views[Stage.LOOP]
        states = np.flatnonzero(graph.kind == Kind.STATE)
        after = graph.next[states]
        home, row = view.tensor[after].copy(), view.row[after]
        shared = self.sources[Stage.LOOP].values()
        home[np.isin(home, list(shared))] = ZERO - 1
        # the first state of each place decides its first value
        place = home.astype(np.int64) * (1 + max(self.sizes, default=0)) + row
        _, first, inverse = np.unique(place, return_index=True, return_inverse=True)
        value = graph.value[states]
        adopts = (home >= 0) & (value == value[first[inverse.ravel()]])
        carry, number_of = [], {}
        for t in np.unique(home[adopts]).tolist():
            mine = adopts & (home == t)
            initial = np.zeros(self.sizes[t])
            initial[row[mine]] = value[mine]
            number_of[t] = self._carried(carry, t, initial)
            view.tensor[states[mine]] = number_of[t]
            view.row[states[mine]] = row[mine]
        rest = states[~adopts]
        once = common_elements(graph)[rest]
        for copied in (rest[~once], rest[once]):
            if copied.size:
                self._carried(carry, copied, graph.value[copied])
        return carry, self._slots(), graph.next[rest]

    def _carried(self, carry, tensor, initial) -> int:
        number = self.tensor(initial.size)
        self.sources[Stage.LOOP][("carry", len(carry))] = number
        carry.append((tensor, initial))
        if isinstance(tensor, np.ndarray):  # elements that are copied
            self.views[Stage.LOOP].place(tensor, number)
        return number

    def _slots(self) -> StateSlots:
        """For each signal's state, where its entries are carried."""
        carried = np.full(len(self.sizes), -1, np.int64)
        for key, number in self.sources[Stage.LOOP].items():
            if isinstance(key, tuple):
                carried[number] = key[1]
        view = self.views[Stage.LOOP]
        return StateSlots(self.graph, carried, view.tensor, view.row)

    # between the stages ------------------------------------------------------------

    def _loop_input(self, copied: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """Elements from before the loop that are read in it, in the order they come."""
        read = [copied]
        for batch in self.plan.batches[Stage.LOOP]:
            read.extend(i for node in batch.nodes for i in node.inputs)
            read.append(_terms(self.graph, batch.sums)[0])
        needed = np.zeros(self.graph.size, bool)
        needed[np.concatenate(read)] = True
        if self._fused():
            needed[wanted] = True
        before = self.views[Stage.BEFORE]
        needed &= before.tensor >= 0
        for name in ("constant", "parameter"):
            needed &= before.tensor != self.sources[Stage.BEFORE].get(name, ZERO - 1)
        fed = np.flatnonzero(needed)
        fed = fed[np.lexsort([before.row[fed], before.tensor[fed]])]
        outside = self._outside
        if fed.size == outside.size or self._fused():
            if np.isin(fed, outside).all():
                fed = outside  # hand on everything, as it is
        if fed.size:
            number = self.tensor(fed.size)
            self.views[Stage.LOOP].place(fed, number)
            self.sources[Stage.LOOP]["inputs"] = number
        return fed

    def _fused(self) -> bool:
        """Whether everything happens in the loop, probes included."""
        return bool((self.plan.stages.element == Stage.LOOP).all())

    def _next_state(self, carry) -> tuple[Read, ...]:
        """What each carried array becomes: a tensor, or copies of elements."""
        view, reads = self.views[Stage.LOOP], []
        for tensor, initial in carry:
            if isinstance(tensor, np.ndarray):
                reads.append(view.read(self.graph.next[tensor]))
            else:
                reads.append(Read(((tensor, 0, initial.size),), None, initial.size))
        return tuple(reads)

    def _loop_output(self, wanted: np.ndarray) -> np.ndarray:
        """Elements of the loop that are probed or read after it."""
        read = [wanted]
        for batch in self.plan.batches[Stage.AFTER]:
            read.extend(i for node in batch.nodes for i in node.inputs)
            read.append(_terms(self.graph, batch.sums)[0])
        read = np.concatenate(read)
        loop, before = self.views[Stage.LOOP], self.views[Stage.BEFORE]
        shared = [self.sources[Stage.LOOP].get(n, -9) for n in ("constant", "parameter")]
        mine = loop.has(read) & ~np.isin(loop.tensor[read], shared)
        if not self._fused():
            mine &= ~before.has(read)  # the stage after the loop finds those itself
        read = read[mine]
        _, first = np.unique(read, return_index=True)
        return read[np.sort(first)]

    def _after_sources(self, reported: np.ndarray) -> None:
        """The stage after the loop sees what ran before it and what the loop reported."""
        before, after = self.views[Stage.BEFORE], self.views[Stage.AFTER]
        seen = before.tensor >= 0
        after.tensor[seen], after.row[seen] = before.tensor[seen], before.row[seen]
        if reported.size:
            number = self.tensor(reported.size)
            after.place(reported, number)
            self.sources[Stage.AFTER]["inputs"] = number

    # groups ------------------------------------------------------------------------

    def _stage_groups(self, stage: Stage, outputs) -> None:
        groups = []
        for batch, tensors in zip(self.plan.batches[stage], outputs[stage]):
            if batch.kernel is None:
                groups += [self._sum_group(stage, t, e) for t, e in tensors]
            else:
                groups.append(self._node_group(stage, batch, tensors))
        self.groups[stage] = tuple(groups)

    def _sum_group(self, stage: Stage, tensor: int, elements: np.ndarray) -> Group:
        """A bucket of sums with about the same number of terms."""
        graph = self.graph
        sources, scale = _term_table(graph, elements)
        live = sources >= 0
        params: dict[str, Any] = {
            "terms": sources.shape[0],
            "scale": None,
            "bias": None,
        }
        if (scale[live] != 1).any():
            uniform = live.all() and (scale == scale.flat[0]).all()
            column = scale.reshape(-1, 1)
            params["scale"] = (
                float(scale.flat[0]) if uniform else self.weight("column", [column])
            )
        bias = graph.value[elements]
        if bias.any() or sources.shape[0] == 0:
            params["bias"] = self.weight("column", [bias])
        reads = self._term_reads(stage, sources) if sources.shape[0] else ()
        return Group(structural["sum"], params, reads, (tensor,))

    def _term_reads(self, stage: Stage, sources: np.ndarray) -> tuple[Read, ...]:
        """All terms as one read, or one read for all first terms, and so on.

        One by one where that saves putting them one below the other, or a gather, as for
        a bias of each channel and a convolution.
        """
        view = self.views[stage]
        together = view.read(sources)
        kernel = structural["sum"]
        if together.form == "slice" or len(sources) > kernel.longest_chain:
            return (together,)
        apart = tuple(view.read(term) for term in sources)
        if all(read.form == "slice" for read in apart):
            return apart
        gathered = sum(read.size for read in apart if read.form == "gather")
        saves = together.form == "gather" and 2 * gathered <= together.size
        return apart if saves else (together,)

    def _node_group(self, stage: Stage, batch: Batch, tensors) -> Group:
        nodes, kernel = batch.nodes, batch.nodes[0].kernel
        values: dict[str, Any] = dict(kernel.static(nodes[0]))
        for name in kernel.vectors:
            values[name] = np.concatenate([np.ravel(n.params[name]) for n in nodes])
        params = {k: self._vector(v) for k, v in kernel.derive(values).items()}
        for name in kernel.matrices:
            params[name] = self._stacked([n.params[name] for n in nodes])
        params["groups"] = len(nodes)
        reads = tuple(
            self.views[stage].read(np.concatenate(arrays))
            for arrays in zip(*(node.inputs for node in nodes))
        )
        return Group(
            kernel,
            params,
            reads,
            tuple(number for number, _ in tensors),
            tuple(node.label for node in nodes),
        )

    def _vector(self, value):
        """One number if all entries are equal, else a column of the program."""
        if not isinstance(value, np.ndarray):
            return float(value) if isinstance(value, np.floating) else value
        if value.ndim == 0 or (value.size and (value == value.flat[0]).all()):
            return float(value.flat[0])
        return self.weight("column", [value])

    def _stacked(self, matrices) -> WeightRef:
        """Matrices of one shape as one argument; equal constant ones only once."""
        first = matrices[0]
        same = len(matrices) > 1 and all(
            isinstance(m, np.ndarray) and np.array_equal(m, first) for m in matrices
        )
        return self.weight("stack", [first] if same else matrices)

    def _finish(self, stage: Stage, result: Read, next_state=()) -> StageLayout:
        sources = dict(self.sources[stage])
        if self.parameter_weight is not None:
            sources["parameter weight"] = self.parameter_weight.number
        return StageLayout(self.groups[stage], sources, result, next_state)


def layout(plan: Plan, sorter: Sorter | None = None) -> Layout:
    """Give every element of a plan its place.

    Parameters
    ----------
    plan : Plan
    sorter : callable, optional
        In which order sums lie, see above; by default
        `order_signals`.
    """
    return _Maker(plan, ranks(plan, sorter)).make()


def _buckets(graph: Graph, sums: np.ndarray, rank: np.ndarray) -> list[np.ndarray]:
    """Sums with 0, 1, 2, 3-4, 5-8, ... terms, each in the order of their readers."""
    fan_in = graph.fan_in[sums]
    power = 2 ** np.ceil(np.log2(np.maximum(fan_in, 1))).astype(np.int64)
    bucket = np.where(fan_in <= 2, fan_in, power)
    parts = [sums[bucket == b] for b in np.unique(bucket)]
    return [part[np.argsort(rank[part], kind="stable")] for part in parts]


def _terms(graph: Graph, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All terms of some sums: sources and factors, flat."""
    starts, stops = graph.ptr[sums], graph.ptr[sums + 1]
    return taken(graph.src, starts, stops), taken(graph.scale, starts, stops)


def _term_table(graph: Graph, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Terms as ``(longest, n)`` tables, filled up with -1 and factor 0."""
    fan_in = graph.fan_in[sums]
    longest = int(fan_in.max(initial=0))
    sources = np.full((longest, sums.size), -1, np.int64)
    scale = np.zeros((longest, sums.size))
    column = np.repeat(np.arange(sums.size), fan_in)
    row = np.arange(fan_in.sum()) - np.repeat(np.cumsum(fan_in) - fan_in, fan_in)
    sources[row, column], scale[row, column] = _terms(graph, sums)
    return sources, scale


def _probe_rows(graph: Graph):
    rows, first = [], 0
    for probe in graph.probes:
        rows.append((probe.key, first, probe.shape))
        first += probe.elements.size
    return tuple(rows)


def order_signals(plan: Plan) -> np.ndarray:
    """Order sums as their first readers read them, which is the default.

    Parameters
    ----------
    plan : Plan

    Returns
    -------
    ndarray of int
        For each element a number that grows with the place of its first reader.
    """
    rank = np.full(plan.graph.size, np.iinfo(np.int64).max // 2)
    position = 0
    for stage in Stage:
        for batch in plan.batches[stage]:
            for arrays in zip(*(node.inputs for node in batch.nodes)):
                read = np.concatenate(arrays)
                place = position + np.arange(read.size)
                np.minimum.at(rank, read, place)
                position += read.size
    return rank


def ranks(plan: Plan, sorter: Sorter | None) -> np.ndarray:
    """What a sorter returned, if it can be used.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If it is not one number for each element.
    """
    if sorter is None:
        return order_signals(plan)
    name = getattr(sorter, "__name__", repr(sorter))
    rank = np.asarray(sorter(plan))
    if rank.shape != (plan.graph.size,) or rank.dtype.kind not in "iuf":
        raise ValidationError(
            f"the sorter {name} returned an array of shape {rank.shape} and type "
            f"{rank.dtype}; expected one number for each of the {plan.graph.size} "
            "elements of the graph, as nengo_dl.graph_optimizer.noop_order_signals "
            "returns them",
            attr="sorter",
        )
    return rank


def looking_at(layout: Layout, keys: Sequence[Any]) -> Layout:
    """A layout whose result is some of its probes.

    All that is computed for the others alone goes with them, but for its state: the
    filter of a probe takes every step, whether or not anybody looks. Carried arrays,
    weights and what is given to a step are those of ``layout``, so that steps of both can
    follow one another.

    Parameters
    ----------
    layout : Layout
    keys : sequence
        The probes, in the order in which their rows are to come.
    """
    found = {key: (first, shape) for key, first, shape in layout.probes}
    rows, probes, start = [np.zeros(0, np.int64)], [], 0
    for key in keys:
        first, shape = found[key]
        size = int(np.prod(shape))
        rows.append(np.arange(first, first + size))
        probes.append((key, start, shape))
        start += size
    tensor, row = places_of(layout.after.result)
    chosen = np.concatenate(rows)
    result = read_of(tensor[chosen], row[chosen])
    groups = _alive(layout.after.groups, result)
    after = dataclasses.replace(layout.after, result=result, groups=groups)
    chosen_layout = dataclasses.replace(layout, after=after, probes=tuple(probes))
    return _reporting_less(chosen_layout)


def _alive(groups: tuple[Group, ...], result: Read) -> tuple[Group, ...]:
    """The groups that a result needs, and those that do something else as well."""
    needed = {tensor for tensor, _, _ in result.parts}
    kept = []
    for group in reversed(groups):
        if (
            group.kernel.host
            or group.kernel.side_effects
            or not needed.isdisjoint(group.outputs)
        ):
            needed |= {t for read in group.reads for t, _, _ in read.parts}
            kept.append(group)
    return tuple(kept[::-1])


def _reporting_less(layout: Layout) -> Layout:
    """The loop reports what the stage after it reads, and nothing else."""
    after = layout.after
    given = after.sources.get("inputs")
    if given is None:
        return layout
    reads = [after.result, *(read for group in after.groups for read in group.reads)]
    used = np.zeros(layout.sizes[given], bool)
    for read in reads:
        tensor, row = places_of(read)
        used[row[tensor == given]] = True
    if used.all():
        return layout
    number = np.cumsum(used) - 1

    def moved(read: Read) -> Read:
        tensor, row = places_of(read)
        mine = tensor == given
        return read_of(tensor, np.where(mine, number[row * mine], row))

    tensor, row = places_of(layout.loop.result)
    loop = dataclasses.replace(layout.loop, result=read_of(tensor[used], row[used]))
    groups = tuple(
        dataclasses.replace(group, reads=tuple(moved(read) for read in group.reads))
        for group in after.groups
    )
    sources = {k: v for k, v in after.sources.items() if k != "inputs" or used.any()}
    after = dataclasses.replace(
        after, result=moved(after.result), groups=groups, sources=sources
    )
    sizes = list(layout.sizes)
    sizes[given] = int(used.sum())
    return dataclasses.replace(layout, loop=loop, after=after, sizes=tuple(sizes))
