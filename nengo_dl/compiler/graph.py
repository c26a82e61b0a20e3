"""The element graph: one time step of a network in single-assignment form.

Every scalar that a step touches has a number, its *element*. An element is one of

===========  =======================================================================
`Kind`       what its value is
===========  =======================================================================
CONSTANT     ``value``
PARAMETER    an entry of a parameter that may be trained or written
INPUT        given from outside for every step (data, functions of time)
STATE        the value that element ``next`` had at the previous step; ``value`` first
SUM          ``value + sum(scale * source)`` over its terms
NODE         an entry of an output of a `Node`
===========  =======================================================================

Everything that is affine is a SUM, element by element, in three flat arrays (compressed
rows); everything else is a `Node` with a kernel. So the passes are array programs, and
no pass needs to know what any kernel computes.

A graph is a value: passes return new graphs, and the arrays of a graph are never
written after it was made.

`Flow` tells which elements depend on which.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from functools import cached_property, partial
from itertools import compress
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from nengo_dl.compiler.readings import Reading, Readings
from nengo_dl.compiler.records import like, record
from nengo_dl.compiler.runs import (
    INDEX,
    once_each,
    ranges,
    stable_order,
    starts_of,
    taken,
    true_runs,
)
from nengo_dl.compiler.traits import Kernel

#: from how many elements on it is worth a look whether they are all equal
MANY = 1024


class Kind(IntEnum):
    """What an element is; see the table in this module's docstring."""

    CONSTANT = 0
    PARAMETER = 1
    INPUT = 2
    STATE = 3
    SUM = 4
    NODE = 5


@dataclass(frozen=True)
class ParameterRef:
    """A matrix of a node that is read from a parameter instead of being constant.

    Parameters
    ----------
    key : hashable
        The parameter (a Nengo signal).
    shape : tuple of int
        Shape of the matrix.
    index : ndarray of int or None
        Flat positions within the parameter, if the matrix is only a part of it.
    """

    key: Hashable
    shape: tuple[int, ...]
    index: np.ndarray | None = None

    @property
    def fingerprint(self) -> tuple:
        """What two equal references have in common, hashable."""
        part = None if self.index is None else self.index.tobytes()
        return (id(self.key), self.shape, part)


@dataclass(frozen=True)
class Node:
    """One application of a kernel.

    Parameters
    ----------
    kernel : Kernel
        What is computed.
    inputs : tuple of ndarray of int
        The elements read, one array for each of the kernel's arguments.
    outputs : tuple of (int, int)
        First element and size of each output.
    params : mapping
        The kernel's parameters: arrays with one value per output element, matrices
        (`numpy.ndarray` or `ParameterRef`) or plain hashable values.
    order : int
        Position in the order in which core Nengo would compute it.
    label : object
        The operator it came from, or a text, for messages. Its text is
        `nengo_dl.notices.text_of` it, which takes too long to be asked for each node.
    """

    kernel: Kernel
    inputs: tuple[np.ndarray, ...]
    outputs: tuple[tuple[int, int], ...]
    params: Mapping[str, Any]
    order: int
    label: object = ""

    @property
    def size(self) -> int:
        """Number of elements of the first output (0 if there is none)."""
        return self.outputs[0][1] if self.outputs else 0

    @property
    def matrix(self) -> Any:
        """What it multiplies with if it is a product and nothing else, or None."""
        name = self.kernel.matrix
        return None if name is None else self.params.get(name)

    def elements(self, output: int = 0) -> np.ndarray:
        """The elements of one output."""
        start, size = self.outputs[output]
        return np.arange(start, start + size)

    def __repr__(self) -> str:
        return f"<Node {self.kernel.name} {[size for _, size in self.outputs]}>"


@dataclass(frozen=True)
class Source:
    """A run of INPUT or PARAMETER elements and where their values come from."""

    key: Hashable
    start: int
    size: int

    @property
    def elements(self) -> np.ndarray:
        """The elements of this source."""
        return np.arange(self.start, self.start + self.size)


@dataclass(frozen=True)
class Graph:
    """One time step; see the module's docstring.

    Parameters
    ----------
    kind, owner, value, next, block : ndarray
        One entry per element. ``owner`` is the index of an element's node, input or
        parameter. ``block`` numbers the SUM elements that were written together and
        grows in core's order; it guides scheduling only.
    ptr, src, scale : ndarray
        Terms of SUM element ``e``: ``src[ptr[e]:ptr[e + 1]]`` and ``scale[...]``.
    nodes, inputs, parameters : tuple
        `Node` and `Source` objects.
    probes : tuple of Reading
        What a step reports.
    states : sequence of Reading
        For each signal that lasts from step to step, the elements that hold its value
        at the start of a step.
    """

    kind: np.ndarray
    owner: np.ndarray
    value: np.ndarray
    next: np.ndarray
    block: np.ndarray
    ptr: np.ndarray
    src: np.ndarray
    scale: np.ndarray
    nodes: tuple[Node, ...] = ()
    inputs: tuple[Source, ...] = ()
    parameters: tuple[Source, ...] = ()
    probes: tuple[Reading, ...] = ()
    states: Sequence[Reading] = ()
    notes: tuple[str, ...] = field(default=(), compare=False)

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.kind.size

    @property
    def fan_in(self) -> np.ndarray:
        """Number of terms of each element (0 for all but SUM)."""
        return np.diff(self.ptr)

    @property
    def term_owner(self) -> np.ndarray:
        """The SUM element that each term belongs to."""
        return np.repeat(np.arange(self.size, dtype=INDEX), self.fan_in)

    def count(self, kernel_name: str) -> int:
        """Number of nodes with a kernel of that name (``"sum"`` counts blocks)."""
        if kernel_name == "sum":
            return np.unique(self.block[self.kind == Kind.SUM]).size
        return sum(node.kernel.name == kernel_name for node in self.nodes)

    def node_inputs(self) -> tuple[np.ndarray, np.ndarray]:
        """All inputs of all nodes: (elements, index of the node that reads them)."""
        arrays = [array for node in self.nodes for array in node.inputs]
        counts = [len(node.inputs) for node in self.nodes]
        reader = np.repeat(np.arange(len(counts), dtype=INDEX), counts)
        flat = np.concatenate(arrays) if arrays else np.zeros(0, INDEX)
        return flat, np.repeat(reader, [array.size for array in arrays])

    def compact(self) -> Graph:
        """A graph that is equal, for keeping: columns of one number hold it once."""
        names = ("owner", "value", "next", "block", "ptr")
        return replace(self, **{name: stored_once(getattr(self, name)) for name in names})

    def rename(self, mapping: np.ndarray) -> Graph:
        """Read element ``mapping[e]`` wherever element ``e`` is read now."""
        mapping = mapping.astype(INDEX, copy=False)
        return replace(
            self,
            next=np.append(mapping, INDEX(-1))[self.next],  # the last: -1 stays -1
            src=mapping[self.src],
            nodes=_reading(self.nodes, mapping),
            probes=tuple(Readings.of(self.probes).renamed(mapping)),
            states=Readings.of(self.states).renamed(mapping),
        )

    def with_terms(
        self, rows: np.ndarray, src: np.ndarray, scale: np.ndarray, **changes: Any
    ) -> Graph:
        """A graph with these terms: ``rows`` are SUM elements, in any order."""
        if (rows[1:] < rows[:-1]).any():
            order = stable_order(rows, self.size)
            rows, src, scale = rows[order], src[order], scale[order]
        src = src.astype(INDEX, copy=False)
        ptr = starts_of(rows, self.size)
        return replace(self, ptr=ptr, src=src, scale=scale, **changes)

    def keep(self, elements: np.ndarray, nodes: np.ndarray | None = None) -> Graph:
        """Only the elements where ``elements`` is True, numbered afresh.

        Nodes, inputs and parameters stay or go as a whole: with one of their elements
        all of them must be kept. Nodes with side effects stay in any case, unless
        ``nodes``, True for each node that may stay, says otherwise.
        """
        alive = _alive_nodes(self, elements)
        return self.only(elements, alive if nodes is None else alive & nodes)

    def only(
        self, elements: np.ndarray, alive: np.ndarray, instead: np.ndarray | None = None
    ) -> Graph:
        """What `keep` gives, for those who know which nodes stay: ``alive``.

        ``instead``: what `rename` would have been given before, which costs as much
        again as this does.
        """
        mapping = np.full(self.size + 1, -1, INDEX)  # the last: -1 stays -1
        mapping[:-1][elements] = np.arange(np.count_nonzero(elements), dtype=INDEX)
        read = mapping if instead is None else mapping[np.append(instead, -1)]
        renumber = np.cumsum(alive, dtype=INDEX) - 1
        inputs, input_number = _kept_sources(self.inputs, elements, mapping)
        parameters, parameter_number = _kept_sources(self.parameters, elements, mapping)
        kind, owner = self.kind[elements], self.owner[elements]
        for of, numbers in (
            (Kind.NODE, renumber),
            (Kind.INPUT, input_number),
            (Kind.PARAMETER, parameter_number),
        ):
            if not np.array_equal(numbers, np.arange(numbers.size)):
                chosen = kind == of
                owner[chosen] = numbers[owner[chosen]]
        starts, stops = true_runs(elements)
        first, last = self.ptr[starts], self.ptr[stops]  # of the terms of each run
        fan_in = taken(self.fan_in, starts, stops)
        ptr = np.zeros(fan_in.size + 1, INDEX)
        np.cumsum(fan_in, out=ptr[1:], dtype=INDEX)
        del fan_in
        return replace(
            self,
            kind=kind,
            owner=owner,
            value=taken(self.value, starts, stops),
            next=read[taken(self.next, starts, stops)],
            block=taken(self.block, starts, stops),
            ptr=ptr,
            src=read[taken(self.src, first, last)],
            scale=taken(self.scale, first, last),
            nodes=_moved(list(compress(self.nodes, alive)), mapping, read),
            inputs=inputs,
            parameters=parameters,
            probes=tuple(Readings.of(self.probes).renamed(read)),
            states=Readings.of(self.states).renamed(read),
        )


def stored_once(array: np.ndarray) -> np.ndarray:
    """An array that holds one row in memory if all rows are equal and there are many."""
    same = array.size > MANY and array.strides[0] and (array == array[0]).all()
    return np.broadcast_to(array[:1].copy(), array.shape) if same else array


def _reading(nodes: Sequence[Node], mapping: np.ndarray) -> tuple[Node, ...]:
    """Nodes that read element ``mapping[e]``; those for which it is ``e`` stay."""
    arrays = [array for node in nodes for array in node.inputs]
    flat = np.concatenate([np.zeros(0, INDEX), *arrays])
    others = np.flatnonzero(mapping[flat] != flat)
    ends = np.cumsum([array.size for array in arrays])
    changed = np.zeros(len(arrays), bool)
    changed[np.searchsorted(ends, others, side="right")] = True
    changed, start, found = changed.tolist(), 0, []
    for node in nodes:
        stop = start + len(node.inputs)
        if any(changed[start:stop]):
            inputs = tuple([mapping[array] for array in node.inputs])
            node = like(node, "inputs", inputs)
        found.append(node)
        start = stop
    return tuple(found)


def _moved(
    nodes: Sequence[Node], mapping: np.ndarray, read: np.ndarray
) -> tuple[Node, ...]:
    """Nodes whose outputs have the numbers that ``mapping`` gives, inputs ``read``."""
    arrays = [array for node in nodes for array in node.inputs]
    moved = read[np.concatenate([np.zeros(0, INDEX), *arrays])]
    outputs = [node.outputs for node in nodes]
    starts = [start if size else 0 for node in outputs for start, size in node]
    first = iter(mapping[np.array(starts, np.int64)].tolist())
    copies, stop = [], 0
    for node in nodes:
        inputs = []
        for array in node.inputs:
            start, stop = stop, stop + array.size
            inputs.append(moved[start:stop])
        copy = like(node, "inputs", tuple(inputs))
        written = [
            (start if size else 0, size) for (_, size), start in zip(node.outputs, first)
        ]
        copy.__dict__["outputs"] = tuple(written)  # nobody else has it yet
        copies.append(copy)
    return tuple(copies)


def _alive_nodes(graph: Graph, elements: np.ndarray) -> np.ndarray:
    """Which nodes stay: those with a kept element, and those with side effects."""
    alive = np.array([node.kernel.side_effects for node in graph.nodes], dtype=bool)
    kept = elements & (graph.kind == Kind.NODE)
    alive[graph.owner[kept]] = True
    return alive


def _kept_sources(sources, elements, mapping):
    """Sources with a kept element, moved, and each old source's new number."""
    kept, numbers = [], np.full(len(sources), -1, INDEX)
    for i, source in enumerate(sources):
        if source.size == 0 or elements[source.start]:
            numbers[i] = len(kept)
            start = int(mapping[source.start]) if source.size else 0
            kept.append(replace(source, start=start))
    return tuple(kept), numbers


class _Runs:
    """Runs of consecutive elements of one kind, column by column, as those of a graph.

    A number in a column stands for all elements of a run, an array for each of them.
    """

    def __init__(self) -> None:
        self.start: list[int] = []
        self.length: list[int] = []
        self.kind: list[Kind] = []
        self.owner: list[int] = []
        self.block: list[int] = []
        self.value: list[Any] = []
        self.next: list[Any] = []
        #: the runs for which there is an array, by column
        self.arrays: dict[str, list[int]] = {"value": [], "next": []}

    def add(
        self, start: int, size: int, kind: Kind, owner: int, block: int, value, next_
    ) -> None:
        """One more run of ``size`` elements, the first of which is ``start``."""
        if type(value) is np.ndarray:
            self.arrays["value"].append(len(self.start))
        if type(next_) is np.ndarray:
            self.arrays["next"].append(len(self.start))
        self.start.append(start)
        self.length.append(size)
        self.kind.append(kind)
        self.owner.append(owner)
        self.block.append(block)
        self.value.append(value)
        self.next.append(next_)

    def column(self, name: str, dtype: Any) -> np.ndarray:
        """A column with an entry for each element."""
        entries, arrays = getattr(self, name), self.arrays.get(name, ())
        numbers = list(entries) if arrays else entries
        for i in arrays:
            numbers[i] = 0
        out = np.repeat(np.array(numbers, dtype), self.length)
        first = self.start[0] if self.start else 0
        for i in arrays:
            start = self.start[i] - first
            out[start : start + self.length[i]] = entries[i]
        return out


class GraphBuilder:
    """Collects elements one group after another; `build` makes the `Graph`.

    The only mutable form of a graph. Lowering fills it; passes that add elements to a
    graph start from `extending`.
    """

    def __init__(self):
        self.size = 0
        self._runs = _Runs()
        self._terms: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self.nodes: list[Node] = []
        self.inputs: list[Source] = []
        self.parameters: list[Source] = []
        self.counter = 0
        self._base: Graph | None = None

    @classmethod
    def extending(cls, graph: Graph) -> GraphBuilder:
        """A builder whose first elements are those of ``graph``."""
        builder = cls()
        builder._base = graph
        builder.size = graph.size
        builder.nodes = list(graph.nodes)
        builder.inputs = list(graph.inputs)
        builder.parameters = list(graph.parameters)
        builder.counter = max(
            [int(graph.block.max(initial=0)), *(node.order for node in graph.nodes)]
        )
        return builder

    def _add(
        self,
        kind: Kind,
        size: int,
        owner: int = -1,
        value: Any = 0.0,
        next_: Any = -1,
        block: int = 0,
    ) -> np.ndarray:
        start = self.size
        self._runs.add(start, size, kind, owner, block, value, next_)
        self.size += size
        return np.arange(start, start + size, dtype=INDEX)

    def constant(self, values: ArrayLike) -> np.ndarray:
        """Elements that hold ``values`` (flattened); one for many that are equal."""
        values = np.asarray(values, np.float64).ravel()
        bits = values.view(np.int64)
        if bits.size >= MANY and (bits == bits[0]).all():
            return np.full(bits.size, self.constant(values[:1])[0], INDEX)
        return self._add(Kind.CONSTANT, values.size, value=values)

    def known(self, elements: np.ndarray) -> np.ndarray | None:
        """The values of elements that are constants, added together; None for others."""
        flat, runs = np.asarray(elements).ravel(), self._runs
        # as a number of Python, which is compared several times as fast
        number = bisect_right(runs.start, flat.item(0)) - 1 if flat.size else -1
        if number < 0 or runs.kind[number] != Kind.CONSTANT:
            return None
        start = runs.start[number]
        if flat.min() < start or flat.max() >= start + runs.length[number]:
            return None
        return runs.value[number][flat - start]

    def state(
        self, initial: ArrayLike, next_elements: np.ndarray | None = None
    ) -> np.ndarray:
        """Elements that start as ``initial``; the next ones may be given in `build`."""
        initial = np.asarray(initial, np.float64).ravel()
        after = -1 if next_elements is None else next_elements
        return self._add(Kind.STATE, initial.size, value=initial, next_=after)

    def input(self, key: Hashable, size: int) -> np.ndarray:
        """Elements whose values are given for every step."""
        self.inputs.append(Source(key, self.size, size))
        return self._add(Kind.INPUT, size, owner=len(self.inputs) - 1)

    def parameter(self, key: Hashable, size: int) -> np.ndarray:
        """Elements that hold a parameter, in the order of its flattened array."""
        self.parameters.append(Source(key, self.size, size))
        return self._add(Kind.PARAMETER, size, owner=len(self.parameters) - 1)

    def sum(
        self,
        bias: ArrayLike,
        rows: np.ndarray,
        src: np.ndarray,
        scale: np.ndarray,
        order: int | None = None,
    ) -> np.ndarray:
        """Elements ``bias[i] + sum of scale * src`` over the terms with ``rows == i``."""
        bias = np.asarray(bias, np.float64).ravel()
        self.counter += 1
        block = self.counter if order is None else order
        elements = self._add(Kind.SUM, bias.size, value=bias, block=block)
        rows = np.array(rows, INDEX)  # a copy
        rows += elements[0] if bias.size else 0
        self._terms.append((rows, np.asarray(src, INDEX), scale))
        return elements

    def node(
        self,
        kernel: Kernel,
        inputs: Sequence[ArrayLike],
        sizes: Sequence[int],
        params: Mapping[str, Any],
        order: int | None = None,
        label: object = "",
    ) -> list[np.ndarray]:
        """Apply a kernel; returns the elements of each output."""
        self.counter += 1
        outputs, arrays = [], []
        for size in sizes:
            outputs.append((self.size, size))
            arrays.append(self._add(Kind.NODE, size, owner=len(self.nodes)))
        inputs = tuple([np.asarray(i, INDEX).ravel() for i in inputs])
        order = self.counter if order is None else order
        self.nodes.append(
            record(
                Node,
                kernel=kernel,
                inputs=inputs,
                outputs=tuple(outputs),
                params=params,
                order=order,
                label=label,
            )
        )
        return arrays

    def widen(self, number: int, size: int) -> np.ndarray:
        """Add an output to a node there is already; returns its elements."""
        elements = self._add(Kind.NODE, size, owner=number)
        node = self.nodes[number]
        outputs = (*node.outputs, (int(elements[0]), size))
        self.nodes[number] = replace(node, outputs=outputs)
        return elements

    def build(
        self,
        probes: Sequence[Reading] = (),
        states: Sequence[Reading] = (),
        next_states: Iterable[tuple[np.ndarray, np.ndarray]] = (),
    ) -> Graph:
        """The graph of everything that was added, which is not written any more.

        Parameters
        ----------
        probes, states : sequence of Reading
        next_states : iterable of (elements, elements)
            STATE elements and the elements that hold their next values.
        """
        next_elements = self._column("next", INDEX)
        for elements, successors in next_states:
            next_elements[elements] = successors
        base, empty = self._base, np.zeros(0, INDEX)
        graph = Graph(
            kind=self._column("kind", np.int8),
            owner=self._column("owner", INDEX),
            value=self._column("value", np.float64),
            next=next_elements,
            block=self._column("block", INDEX),
            ptr=np.zeros(self.size + 1, INDEX),
            src=empty,
            scale=np.zeros(0),
            nodes=tuple(self.nodes),
            inputs=tuple(self.inputs),
            parameters=tuple(self.parameters),
            probes=tuple(probes) or (base.probes if base is not None else ()),
            states=states or (base.states if base is not None else ()),
            notes=base.notes if base is not None else (),
        )
        self._runs = _Runs()  # of large networks they are as large as the graph
        terms = [(empty, empty, np.zeros(0)), *self._terms]
        self._terms.clear()
        rows, src, scale = map(list, zip(*terms))
        del terms
        graph = graph.with_terms(*(_joined(parts) for parts in (rows, src, scale)))
        return graph if base is None else _behind(base, graph)

    def _column(self, name: str, dtype) -> np.ndarray:
        """One per-element array out of the collected runs."""
        added = self._runs.column(name, dtype)
        if self._base is None:
            return added
        return np.concatenate([getattr(self._base, name), added], dtype=dtype)


def _behind(base: Graph, graph: Graph) -> Graph:
    """A graph with the terms of its first elements, which are those of ``base``, too."""
    if not base.src.size:
        return graph
    ptr = graph.ptr + base.ptr[-1]
    ptr[: base.size] = base.ptr[:-1]
    if not graph.src.size:
        return replace(graph, ptr=ptr, src=base.src, scale=base.scale)
    src, scale = (
        np.concatenate(parts)
        for parts in ((base.src, graph.src), (base.scale, graph.scale))
    )
    return replace(graph, ptr=ptr, src=src, scale=scale)


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """Arrays one after the other, which are not held any longer."""
    whole = np.concatenate(parts)
    parts.clear()
    return whole


# which elements depend on which -------------------------------------------------------


class Flow:
    """The edges of a graph's step as flat arrays.

    An edge leads from an element that is read to what reads it: a SUM element, or a node
    with all its outputs. Edges through time (from ``next`` to a state) are left out, so
    the edges have no cycle.
    """

    def __init__(self, graph: Graph):
        self.graph = graph
        self.flat, self.reader = graph.node_inputs()
        self.rows = graph.term_owner
        self.of_node = np.flatnonzero(graph.kind == Kind.NODE)
        self.owner = graph.owner[self.of_node]

    @cached_property
    def _readers(self) -> tuple[np.ndarray, np.ndarray]:
        """Where the readers of each element begin, and all of them.

        A reader is a SUM element, or the number of a node behind all elements.
        """
        size = self.graph.size
        read = np.concatenate([self.graph.src, self.flat])
        first = np.zeros(size + 1, INDEX)
        np.cumsum(np.bincount(read, minlength=size), out=first[1:])
        order = stable_order(read, size)
        reader = np.concatenate([self.rows, self.reader + INDEX(size)])[order]
        return first, reader

    @cached_property
    def _outputs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where the outputs of each node begin; of all of them the first and last."""
        outputs = [output for node in self.graph.nodes for output in node.outputs]
        start, length = np.array(outputs, np.int64).reshape(-1, 2).T
        counts = [len(node.outputs) for node in self.graph.nodes]
        return np.cumsum([0, *counts]), start, start + length

    def _read_by(self, elements: np.ndarray) -> np.ndarray:
        """All that read some elements, once for each time that they read one."""
        first, reader = self._readers
        return taken(reader, first[elements], first[elements + 1])

    def _elements(self, readers: np.ndarray) -> np.ndarray:
        """The elements of some readers, each of which is there once."""
        size = self.graph.size
        nodes = readers[readers >= size] - size
        if not nodes.size:
            return readers
        first, start, stop = self._outputs
        outputs = ranges(first[nodes], first[nodes + 1])
        return np.concatenate([
            readers[readers < size], ranges(start[outputs], stop[outputs])
        ])  # fmt: skip

    def _once(self) -> Callable[[np.ndarray], np.ndarray]:
        """A function that leaves each element or reader once in an array of them."""
        place = np.empty(self.graph.size + len(self.graph.nodes), INDEX)
        return partial(once_each, place=place)

    # Each round costs what it reaches: paths through deep networks have hundreds.

    def forward(self, start: np.ndarray) -> np.ndarray:
        """Elements that depend on any where ``start`` is True (those included)."""
        graph, once = self.graph, self._once()
        reached = np.append(start, np.zeros(len(graph.nodes), bool))
        fresh = np.flatnonzero(start)
        while fresh.size:
            readers = self._read_by(fresh)
            readers = once(readers[~reached[readers]])
            reached[readers] = True
            fresh = self._elements(readers)
            reached[fresh] = True
        return reached[: graph.size]

    def backward(self, start: np.ndarray) -> np.ndarray:
        """Elements that any where ``start`` is True depends on (those included)."""
        graph, once = self.graph, self._once()
        needed, seen = start.copy(), np.zeros(len(graph.nodes), bool)
        fresh = np.flatnonzero(start)
        while fresh.size:
            nodes = np.zeros(seen.size, bool)
            nodes[graph.owner[fresh[graph.kind[fresh] == Kind.NODE]]] = True
            new = np.flatnonzero(nodes & ~seen).tolist()
            seen |= nodes
            terms = taken(graph.src, graph.ptr[fresh], graph.ptr[fresh + 1])
            read = [terms, *(i for k in new for i in graph.nodes[k].inputs)]
            fresh = np.concatenate(read)
            fresh = once(fresh[~needed[fresh]])
            needed[fresh] = True
        return needed

    def levels(self) -> tuple[np.ndarray, np.ndarray]:
        """Length of the longest path to each element, and to each node."""
        graph, size, once = self.graph, self.graph.size, self._once()
        waits = np.bincount(self.reader, minlength=len(graph.nodes))
        waiting = np.concatenate([graph.fan_in, waits.astype(INDEX)])
        level, number = np.zeros(waiting.size, np.int64), 0
        first = waiting[:size] == 0
        first[self.of_node] = waiting[size + self.owner] == 0
        fresh = np.flatnonzero(first)
        while fresh.size:
            number += 1
            readers = self._read_by(fresh)
            if 8 * readers.size > waiting.size:  # to count costs less than so many writes
                waiting -= np.bincount(readers, minlength=waiting.size).astype(INDEX)
            else:
                np.subtract.at(waiting, readers, 1)
            readers = once(readers[waiting[readers] == 0])
            level[readers] = number
            fresh = self._elements(readers)
            level[fresh] = number
        return level[:size], level[size:]
