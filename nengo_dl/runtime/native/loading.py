"""The shared library of llvmlite, loaded while a simulator is being built.

It is large, and the system's loader takes 8 to 17 ms for it. That needs no Python: a
thread of its own does it, beside the build, and `import llvmlite.binding` finds it done.
Nothing depends on it. Whatever is unusual about a system or a package, nothing is done
ahead, and the import does all by itself.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nengo_dl.runtime.native.blocks import processors

#: what comes after the name of a shared library
SUFFIX = ".dylib" if sys.platform == "darwin" else ".so"

_thread: threading.Thread | None = None


def begin() -> None:
    """Begin to load the library, once in a process; return without waiting for it.

    Where there is one processor, nothing would be gained.
    """
    global _thread
    if _thread is not None or "llvmlite.binding" in sys.modules or processors() < 2:
        return
    path, load = _library(), _loader()
    if path is None or load is None:
        return
    thread = threading.Thread(target=load, args=(os.fsencode(path),), name="nengo_dl")
    try:
        thread.start()
    except RuntimeError:  # there can be no more threads, or the process is ending
        return
    _thread = thread
    # a child has no thread that goes on, and would find the library half loaded
    os.register_at_fork(before=wait)


def wait() -> None:
    """Wait until the library is loaded, if `begin` has begun to."""
    if _thread is not None:
        _thread.join()


def _library() -> Path | None:
    """Where the library is, without importing anything; None if that is not clear."""
    try:
        spec = find_spec("llvmlite")
    except (ImportError, ValueError):
        return None
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder) / "binding" / f"libllvmlite{SUFFIX}"
        if path.is_file():
            return path
    return None


def _loader() -> Any:
    """``dlopen``, called so that other threads go on; None where there is none."""
    if os.name != "posix":
        return None
    try:
        dlopen = ctypes.CDLL(None).dlopen
    except (AttributeError, OSError):
        return None
    dlopen.argtypes, dlopen.restype = [ctypes.c_char_p, ctypes.c_int], ctypes.c_void_p
    return lambda path: dlopen(path, os.RTLD_NOW | os.RTLD_LOCAL)
