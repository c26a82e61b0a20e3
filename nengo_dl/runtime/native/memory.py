"""The memory of a program: where each value lies, and what is there from the start.

All addresses are offsets behind a few pointers that the machine code is given, so the
code can be shared by many simulators, each with memory of its own. Every value begins at
a multiple of 64 bytes and has some room behind it, because vectors read beyond ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from nengo_dl.runtime.native.preparation import is_fixed
from nengo_dl.runtime.native.units import Plan
from nengo_dl.runtime.numpy.codegen import Value, View

#: bytes behind every value that may be read, and where values begin
ROOM, ALIGNMENT = 128, 64

#: the pointers that the code is given: what is carried; what is computed in a step; what
#: only changes with the weights; the inputs and results of the present step
STATE, MEMORY, FIXED, INPUTS, RESULTS = "%state", "%memory", "%fixed", "%x", "%y"


def aligned(nbytes: int) -> np.ndarray:
    """Bytes of 0, so many and some room behind them."""
    return from_line(np.zeros(nbytes + ROOM + ALIGNMENT, np.uint8), nbytes + ROOM)


def from_line(raw: np.ndarray, nbytes: int) -> np.ndarray:
    """Leave out the bytes before the first with which a cache line begins.

    Parameters
    ----------
    raw : ndarray of bytes
        At least ``nbytes + ALIGNMENT`` of them.
    nbytes : int
    """
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + nbytes]


def aligned_array(shape: Sequence[int], dtype: Any) -> np.ndarray:
    """An array that begins where a cache line does, so that vectors lie within one.

    What is in it is not defined.

    Examples
    --------
    >>> aligned_array((3, 5), "float32").ctypes.data % 64
    0
    """
    nbytes = math.prod(shape) * np.dtype(dtype).itemsize
    raw = np.empty(nbytes + ALIGNMENT, np.uint8)
    return from_line(raw, nbytes).view(dtype).reshape(shape)


class Block:
    """Places in one stretch of memory that are given away one after the other.

    Attributes
    ----------
    size : int
        Bytes that are given away.
    taken : list of tuple
        The first byte and the number of bytes of each place, without its room.
    """

    def __init__(self) -> None:
        self.size = 0
        self.taken: list[tuple[int, int]] = []

    def take(self, nbytes: int) -> int:
        """The first byte of a new place."""
        start = self.size
        self.taken.append((start, nbytes))
        self.size += -(-(nbytes + ROOM) // ALIGNMENT) * ALIGNMENT
        return start


class Places:
    """Where the values of a plan lie.

    Parameters
    ----------
    plan : Plan

    Attributes
    ----------
    state, memory, fixed : Block
        What is carried from step to step, what is computed in each step, and what only
        changes with the weights.
    fresh : tuple
        Pointer and offset of a byte of the state: 1 in the first step after the state was
        written to from outside.
    tables : list of tuple
        What is in ``fixed``: the first byte, and a function that gives the present
        values.
    """

    def __init__(self, plan: Plan) -> None:
        self.state, self.memory, self.fixed = Block(), Block(), Block()
        self.tables: list[tuple[int, Callable[[], np.ndarray]]] = []
        self._tables: dict[Hashable, int] = {}
        self._places: dict[Value, tuple[str, int]] = {}
        for k, carry in enumerate(plan.program.carry):
            self._places[carry] = STATE, self.state.take(plan.carried_bytes(k))
        self.fresh = STATE, self.state.take(1)
        if plan.y is not None:
            self._places[plan.y] = RESULTS, 0
        self._share(plan.spans)

    def _share(self, spans: dict[Value, tuple[int, int]]) -> None:
        """Values that are not needed at the same time get the same place."""
        free: list[tuple[int, int]] = []  # bytes, start
        live: list[tuple[int, int, int]] = []  # last unit, bytes, start
        for value, (first, last) in sorted(spans.items(), key=lambda item: item[1][0]):
            free += [(size, start) for until, size, start in live if until < first]
            live = [place for place in live if place[0] >= first]
            fitting = [place for place in free if place[0] >= value.nbytes]
            if fitting:
                size, start = min(fitting)
                free.remove((size, start))
            else:
                size, start = value.nbytes, self.memory.take(value.nbytes)
            live.append((last, size, start))
            self._places[value] = MEMORY, start

    def of(self, value: Value) -> tuple[str, int]:
        """The pointer and the offset behind it at which a value begins."""
        root, offset = value.locate()
        if root.kind == "input":
            return INPUTS, offset
        if root.kind in ("weight", "constant"):
            array = root.array
            assert array is not None  # only what is computed in a step has none
            return FIXED, offset + self.table(root, lambda: array)
        pointer, start = self._places[root]
        return pointer, start + offset

    def of_view(self, view: View) -> tuple[str, int]:
        """The pointer and the offset behind it at which a view begins."""
        pointer, start = self.of(view.value)
        return pointer, start + view.offset

    def table(self, key: Hashable, make: Callable[[], np.ndarray]) -> int:
        """The first byte in `fixed` of values that only change with the weights.

        Parameters
        ----------
        key : hashable
            The same for the same values, which are there once.
        make : callable
            Gives the present values, an array in the type that it has in memory.
        """
        if key not in self._tables:
            self._tables[key] = self.fixed.take(make().nbytes)
            self.tables.append((self._tables[key], make))
        return self._tables[key]

    def array(self, view: View, state: np.ndarray, memory: np.ndarray) -> np.ndarray:
        """A view as an array, in memory that was made for these places."""
        if is_fixed(view):
            assert view.array is not None
            return view.array
        pointer, start = self.of_view(view)
        block = {STATE: state, MEMORY: memory}[pointer]
        return np.ndarray(view.shape, view.value.dtype, block, start, view.strides)
