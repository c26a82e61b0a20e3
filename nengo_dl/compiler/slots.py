"""Where the state of each signal is, among what is carried from step to step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

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


def state_slots(
    graph: Graph, carried: np.ndarray, tensor: np.ndarray, row: np.ndarray
) -> Iterator[StateSlot]:
    """The slots of all states of a graph.

    Parameters
    ----------
    graph : Graph
    carried : ndarray of int
        For each tensor the number of the carried array that it is, or -1.
    tensor, row : ndarray of int
        Where each element is in the loop over time.
    """

    def found(elements: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Carried arrays, rows and constant values."""
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

    readings, stop = Readings.of(graph.states), 0
    few = readings.elements[np.repeat(readings.sizes < MANY, readings.sizes)]
    carries, rows, constants = found(few)
    for reading in readings:
        if reading.elements.size < MANY:
            start, stop = stop, stop + reading.elements.size
            own = slice(start, stop)
            where = carries[own], rows[own], constants[own]
        else:
            carry, its_rows, constant = found(reading.elements)
            where = _uniform(carry), its_rows, _uniform(constant)
        yield record(
            StateSlot,
            key=reading.key,
            shape=reading.shape,
            carry=where[0],
            row=where[1],
            constant=where[2],
            common=reading.common,
        )


def _uniform(values: np.ndarray) -> np.ndarray:
    """Values as an array, in the memory of a single one if all are equal."""
    first = values[:1]
    equal = values == first
    if values.dtype.kind == "f":
        equal |= (values != values) & (first != first)  # NaN
    if values.size < 2 or not equal.all():
        return values
    return np.broadcast_to(first.copy(), values.shape)
