"""Memory that was freed, and is still the process's own; and when it is looked for."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np

#: what the C library of Linux is told to keep: it takes no more than 32 MiB into account
KEPT = 31 << 20


def keep_freed() -> None:
    """Let arrays to come have the memory of arrays that were freed.

    The C library of Linux asks the operating system for each array of more than 128 KiB,
    and gives it back, until it has seen that such arrays come and go: the largest one
    that was freed tells it how large arrays are that it had better keep memory for. One
    that is never written, and so takes no memory, tells as much. Fresh memory of the
    system costs 2 ms for each 4 MiB, which is a tenth of the first result of learner64
    (``first``).

    Examples
    --------
    >>> keep_freed()
    """
    np.empty(KEPT, np.uint8)


def give_back() -> bool:
    """Give freed memory back to the operating system, as far as that can be done.

    The C library of Linux keeps what lies between arrays in use, for those to come. After
    something that took much and left little, that may be most of a process.

    Returns
    -------
    bool
        Whether anything was given back.

    Examples
    --------
    >>> give_back() in (True, False)
    True
    """
    trim = _trim()
    return trim is not None and bool(trim(0))


@cache
def _trim() -> Any:
    """The function ``malloc_trim`` of the GNU C library; None where there is another."""
    if not sys.platform.startswith("linux"):
        return None
    import ctypes

    return getattr(ctypes.CDLL(None), "malloc_trim", None)


@contextlib.contextmanager
def without_collecting() -> Iterator[None]:
    """Inside, Python does not look for garbage that only refers to itself.

    That pays where many objects are made and nearly all of them stay. A large model has
    millions, and Python would look at each of them again and again. Importing this
    package takes 25 of 95 ms less.

    Examples
    --------
    >>> import gc
    >>> with without_collecting():
    ...     gc.isenabled()
    False
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
