"""Arrays in files that are mapped into memory: read in parts, and given back."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

#: How many bytes of a file are read before what was read is given back.
BLOCK = 2**23


def let_go(array: np.ndarray) -> None:
    """Give back the memory of what was read of an array in a file.

    The next access reads it from the file again, or from what the operating system has
    kept of it. Arrays in memory are left alone, and so are files of which changes are not
    written back (mode ``"c"``).

    Parameters
    ----------
    array : ndarray
        A `numpy.memmap`, or a view of one.
    """
    pages = _pages(array)
    if pages is not None and hasattr(mmap, "MADV_DONTNEED"):
        pages.madvise(mmap.MADV_DONTNEED)


def is_in_file(array: np.ndarray) -> bool:
    """Whether `let_go` gives anything back of an array."""
    return _pages(array) is not None


def in_blocks(array: np.ndarray) -> Iterator[np.ndarray]:
    """An array in parts along its first axis, if it is in a file; else as a whole.

    Parameters
    ----------
    array : ndarray

    Yields
    ------
    ndarray
        Views of it. What was read of one is given back before the next.
    """
    if not array.ndim or _pages(array) is None:
        yield array
        return
    size = max(1, BLOCK // max(1, array.nbytes // max(1, len(array))))
    for first in range(0, len(array), size):
        yield array[first : first + size]
        let_go(array)


def in_memory(arrays: Mapping[str, np.ndarray], dtype: np.dtype) -> dict[str, np.ndarray]:
    """Arrays of a type; those that have it already as they are.

    Parameters
    ----------
    arrays : mapping
    dtype : dtype
    """
    return {name: array.astype(dtype, copy=False) for name, array in arrays.items()}


def _pages(array: Any) -> mmap.mmap | None:
    """What an array's file is mapped to; None if there is none to be read again."""
    if type(array) is np.ndarray and array.base is None:
        return None
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap) and array.mode == "c":
            return None
        array = array.base
    return array if isinstance(array, mmap.mmap) else None
