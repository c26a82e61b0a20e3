"""Functions of other libraries that machine code calls, by address.

The text names them; where they are is looked up while it is linked. So the text is the
same in each process, and no system needs a linker that knows these libraries.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import sys
from collections.abc import Callable

#: what all names begin with, so that none of the process is met by accident
PREFIX = "nengo_dl_"


def _c_library_function(name: str) -> int:
    """The address of a function of the C library."""
    if sys.platform == "win32":
        library = ctypes.CDLL("ucrtbase")
    else:
        library = ctypes.CDLL(ctypes.util.find_library("m"))
    address = ctypes.cast(getattr(library, name), ctypes.c_void_p).value
    assert address is not None  # ctypes has raised AttributeError then
    return address


def _blas_function(name: str) -> int:
    """The address of a function of the BLAS that SciPy brings."""
    from scipy.linalg import cython_blas

    capsule = cython_blas.__pyx_capi__[name]
    api = ctypes.pythonapi
    api.PyCapsule_GetName.restype = ctypes.c_char_p
    api.PyCapsule_GetName.argtypes = [ctypes.py_object]
    api.PyCapsule_GetPointer.restype = ctypes.c_void_p
    api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    return api.PyCapsule_GetPointer(capsule, api.PyCapsule_GetName(capsule))


#: where each name leads to
FINDERS: dict[str, Callable[[], int]] = {
    f"{PREFIX}powf": lambda: _c_library_function("powf"),
    f"{PREFIX}pow": lambda: _c_library_function("pow"),
    f"{PREFIX}read": lambda: _c_library_function("read"),
    f"{PREFIX}write": lambda: _c_library_function("write"),
    f"{PREFIX}sched_yield": lambda: _c_library_function("sched_yield"),
    f"{PREFIX}sgemm": lambda: _blas_function("sgemm"),
    f"{PREFIX}dgemm": lambda: _blas_function("dgemm"),
}


def find(name: str) -> int:
    """The address of the function that the text calls ``name``."""
    if name not in FINDERS:
        raise KeyError(f"no function is known as {name!r}; expected one of {[*FINDERS]}")
    return FINDERS[name]()
