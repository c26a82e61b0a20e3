"""Where the state of each signal is, among what is carried from step to step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, overload

import numpy as np

from nengo_dl.compiler.graph import MANY, Graph, Kind
from nengo_dl.compiler.readings import Readings
from nengo_dl.compiler.records import record
from nengo_dl.compiler.runs import INDEX


@dataclass(frozen=True)
class StateSlot:
    """Where one signal's state is: carried array and row of each entry (-1: nowhere).

    One that is ``common`` to all items of a batch is in carried arrays of one column.
    """

    key: Any
    shape: tuple[int, ...]
    carry: np.ndarray
    row: np.ndarray
    constant: np.ndarray
    common: bool = False

    @property
    def carries(self) -> list[int]:
        """The numbers of the carried arrays that it is in."""
        return np.unique(self.carry[self.carry >= 0]).tolist()


class StateSlots(Sequence[StateSlot]):
    """The slots of all states of a graph, made when somebody looks at one.

    A run that begins with the first values looks at none, and large networks have
    thousands.

    Parameters
    ----------
    graph : Graph
    carried : ndarray of int
        For each tensor the number of the carried array that it is, or -1.
    tensor, row : ndarray of int
        Where each element is in the loop over time.
    """

    def __init__(
        self, graph: Graph, carried: np.ndarray, tensor: np.ndarray, row: np.ndarray
    ) -> None:
        readings = self._readings = Readings.of(graph.states)
        places = partial(_places, graph, carried, tensor, row)
        few = np.repeat(readings.sizes < MANY, readings.sizes)
        self._few = places(readings.elements[few])
        self._large = []
        for k in np.flatnonzero(readings.sizes >= MANY).tolist():
            stop = readings.stops[k]
            start = stop - readings.sizes[k]
            carry, rows, constant = places(readings.elements[start:stop])
            self._large.append((_uniform(carry), rows, _uniform(constant)))
        self._made: tuple[StateSlot, ...] | None = None

    @property
    def any_common(self) -> bool:
        """Whether items of a batch have any of them in common."""
        return bool(self._readings.common.any())

    def __len__(self) -> int:
        return len(self._readings)

    @overload
    def __getitem__(self, index: int) -> StateSlot: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[StateSlot]: ...

    def __getitem__(self, index: int | slice) -> StateSlot | Sequence[StateSlot]:
        return self._all()[index]

    def __iter__(self) -> Iterator[StateSlot]:
        return iter(self._all())

    def _all(self) -> tuple[StateSlot, ...]:
        if self._made is None:
            self._made = tuple(self._slots())
        return self._made

    def _slots(self) -> Iterator[StateSlot]:
        stop, large = 0, iter(self._large)
        for reading in self._readings:
            size = reading.elements.size
            if size < MANY:
                start, stop = stop, stop + size
                carry, row, constant = (array[start:stop] for array in self._few)
            else:
                carry, row, constant = next(large)
            yield record(
                StateSlot,
                key=reading.key,
                shape=reading.shape,
                carry=carry,
                row=row,
                constant=constant,
                common=reading.common,
            )


def _places(
    graph: Graph,
    carried: np.ndarray,
    tensor: np.ndarray,
    row: np.ndarray,
    elements: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Carried arrays, rows and constant values of some elements; see `StateSlots`."""
    if (elements < 0).all():  # there may be no elements at all
        nowhere = np.full(elements.shape, -1, INDEX)
        return nowhere, np.zeros_like(nowhere), np.full(elements.shape, np.nan)
    kind = graph.kind[elements]
    known = (elements >= 0) & (kind == Kind.STATE)
    fixed = (elements >= 0) & (kind == Kind.CONSTANT)
    carry = np.full(elements.shape, -1, INDEX)  # others are in no tensor
    carry[known] = carried[tensor[elements[known]]]
    rows = np.where(known, row[elements], INDEX(0))
    return carry, rows, np.where(fixed, graph.value[elements], np.nan)


def columns_of(slots: Iterable[StateSlot], count: int, batch: int) -> list[int]:
    """How many columns each of ``count`` carried arrays has: ``batch``, or one for all.

    Parameters
    ----------
    slots : iterable of StateSlot
        All states of a layout.
    count, batch : int
    """
    if isinstance(slots, StateSlots) and not slots.any_common:
        return [batch] * count
    once = {number for slot in slots if slot.common for number in slot.carries}
    return [1 if number in once else batch for number in range(count)]


def _uniform(values: np.ndarray) -> np.ndarray:
    """Values as an array, in the memory of a single one if all are equal."""
    first = values[:1]
    equal = values == first
    if values.dtype.kind == "f":
        equal |= (values != values) & (first != first)  # NaN
    if values.size < 2 or not equal.all():
        return values
    return np.broadcast_to(first.copy(), values.shape)
