"""What a layout consists of: tensors, rows, reads, weights; and finding the reads.

`nengo_dl.compiler.layout` makes these; the runtime only looks at them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nengo_dl.compiler.graph import INDEX, ParameterRef, Source
from nengo_dl.compiler.plan import Plan

#: a read of at most this many runs is put together from slices
LONGEST_CONCAT = 6

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
    """One kernel call: what it is, what it reads, which tensors it writes."""

    kernel: Any
    params: Mapping[str, Any]
    reads: tuple[Read, ...]
    outputs: tuple[int, ...]
    labels: tuple[str, ...] = ()


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
class StateSlot:
    """Where one signal's state is: carried array and row of each entry (-1: nowhere)."""

    key: Any
    shape: tuple[int, ...]
    carry: np.ndarray
    row: np.ndarray
    constant: np.ndarray


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
    states : tuple of StateSlot
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
    states: tuple[StateSlot, ...]
    probes: tuple[tuple[Any, int, tuple[int, ...]], ...]
    plan: Plan | None = field(repr=False, default=None)

    @property
    def has_loop(self) -> bool:
        """Whether anything is carried or computed step by step."""
        return bool(self.carry) or bool(self.loop.groups)

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
