"""Memory of large arrays that is used again, while a training lasts.

Each batch needs the same arrays: what loops give, their states and gradients. New memory
is cleared by the system, one page after the other: 2.5 ms of processor time for a batch
of ``train pictures``, since the C library gives megabytes back that are free at the end
of what it has. Here they stay until the last `keeping` is left.

Whoever holds such an array, or a view of it, holds its memory. So that is free when
nothing but the `Store` refers to it.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from nengo_dl.runtime.native.costs import LEAST_KEPT, MOST_KEPT
from nengo_dl.runtime.native.memory import ALIGNMENT, aligned_array, from_line


def _references(arrays: list[np.ndarray], k: int) -> int:
    """How many there are to an array, as Python counts them here."""
    return sys.getrefcount(arrays[k])


#: the same for an array that nothing but the list refers to
_ALONE = _references([np.empty(1)], 0)


class Store:
    """Memory by its size.

    Attributes
    ----------
    nbytes : int
        Of all that is kept, in use or not.
    """

    def __init__(self) -> None:
        self._kept: dict[int, list[np.ndarray]] = {}
        self._lock = threading.Lock()
        self.nbytes = 0

    def take(self, nbytes: int) -> np.ndarray:
        """Bytes that nobody else has, the first of them where a cache line begins."""
        with self._lock:
            kept = self._kept.setdefault(nbytes, [])
            free = (k for k in range(len(kept)) if _references(kept, k) == _ALONE)
            k = next(free, len(kept))
            if k == len(kept):
                new = np.empty(nbytes + ALIGNMENT, np.uint8)
                if self.nbytes + nbytes > MOST_KEPT:
                    return from_line(new, nbytes)
                self.nbytes += nbytes
                kept.append(new)
            return from_line(kept[k], nbytes)


_lock = threading.Lock()
_wanted = 0
_store: Store | None = None


@contextlib.contextmanager
def keeping() -> Iterator[None]:
    """Context in which the memory of `reused_array` is kept for the next one."""
    global _wanted, _store
    with _lock:
        _wanted += 1
        _store = _store or Store()
    try:
        yield
    finally:
        with _lock:
            _wanted -= 1
            _store = _store if _wanted else None


def _in_a_copy() -> None:
    """Another thread may have had a lock when the process was copied."""
    global _lock, _store
    _lock, _store = threading.Lock(), _store and Store()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_a_copy)


def reused_array(shape: Sequence[int], dtype: Any) -> np.ndarray:
    """An array as of `.aligned_array`, in memory that was used before if there is some.

    What is in it is not defined.

    Examples
    --------
    >>> with keeping():
    ...     place = reused_array((300, 500), "float32").ctypes.data
    ...     reused_array((500, 300), "float32").ctypes.data == place
    True
    """
    dtype, store = np.dtype(dtype), _store
    nbytes = math.prod(shape) * dtype.itemsize
    if store is None or nbytes < LEAST_KEPT:
        return aligned_array(shape, dtype)
    return store.take(nbytes).view(dtype).reshape(shape)
