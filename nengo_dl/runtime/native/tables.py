"""What tasks of machine code are given: one table of addresses and numbers.

Python writes it, `table_of`, and the code reads its entries in their order, `Table`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nengo_dl.runtime.native.code import Code


class Table:
    """What a task is given: pointers and numbers of eight bytes, read in their order."""

    def __init__(self, code: Code) -> None:
        self.code, self._count = code, 0

    def number(self) -> str:
        """The next one, a number."""
        place = self.code.at("%table", 8 * self._count)
        self._count += 1
        return self.code.load_scalar(place, "i64")

    def pointer(self) -> str:
        """The next one, a pointer."""
        return self.code.emit(f"inttoptr i64 {self.number()} to ptr")

    def room(self) -> str:
        """The next two: where rooms are, and the bytes of one. Gives this thread's."""
        rooms, nbytes = self.pointer(), self.number()
        mine = self.code.emit(f"mul nsw i64 %thread, {nbytes}")
        return self.code.at(rooms, mine)

    def stretch(self) -> tuple[str, str]:
        """The next three: how many of something, for each task but the last, and tasks.

        Gives the first one that is this task's, and how many are.
        """
        everything, each, tasks = self.number(), self.number(), self.number()
        code = self.code
        first = code.emit(f"mul nsw i64 %task, {each}")
        left = code.emit(f"sub nsw i64 {everything}, {first}")
        following = code.plus("%task", 1)
        is_last = code.emit(f"icmp eq i64 {following}, {tasks}")
        return first, code.emit(f"select i1 {is_last}, i64 {left}, i64 {each}")


def parts_of(count: int, unit: int, pieces: int) -> tuple[int, int, int]:
    """How many there are, how many belong to a task, and how many tasks there are.

    Tasks begin at multiples of ``unit``, and the last one has at least so many.

    Examples
    --------
    >>> parts_of(100, 16, 3)
    (100, 32, 3)
    """
    units = max(count // unit, 1)
    each = -(-units // pieces)
    return count, each * unit, -(-units // each)


def table_of(*entries: Any) -> np.ndarray:
    """What `Table` reads: addresses of arrays, and numbers."""
    numbers: list[int] = []
    for entry in entries:
        if isinstance(entry, np.ndarray):
            numbers.append(entry.ctypes.data)
        else:
            numbers += entry if isinstance(entry, tuple) else (entry,)
    return np.array(numbers, np.int64)
