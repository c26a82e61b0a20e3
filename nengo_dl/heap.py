"""Memory that was freed, and is still the process's own."""

from __future__ import annotations

import sys
from functools import cache
from typing import Any


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
