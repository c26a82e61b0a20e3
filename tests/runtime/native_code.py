"""Machine code for tests: a function of arrays that are read and written in place."""

import ctypes

import numpy as np
import pytest

from nengo_dl.runtime.native.code import Code, module_text
from nengo_dl.runtime.native.compile import available, compile_text

#: for modules whose tests run machine code
pytestmark_native = pytest.mark.skipif(
    available() is not None, reason=f"no machine code here: {available()}"
)

#: bytes in front of and behind arrays, of which vectors read some
MARGIN = 128

#: the widths that processors have; all of them are right everywhere
WIDTHS = {"float32": (4, 8, 16), "float64": (2, 4, 8)}
KINDS = [(dtype, width) for dtype, widths in WIDTHS.items() for width in widths]


def block(array, fill=0xFF):
    """A copy with margins of NaN (bytes ``fill``) around it, at a multiple of 64."""
    array = np.ascontiguousarray(array)
    raw = np.full(array.nbytes + 2 * MARGIN + 64, fill, np.uint8)
    start = -raw.ctypes.data % 64 + MARGIN
    view = raw[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


def machine_function(body, dtype, width, arrays=2, functions=(), compresses=False):
    """Compile ``body(code, *names of pointers)``; a function of as many arrays.

    The arrays go in place where they are the work of `block`, whose margins are checked;
    others are copied to one.
    """
    code = Code(dtype, width, compresses)
    names = [f"%p{k}" for k in range(arrays)]
    body(code, *names)
    made = code.function("test", [f"ptr {name}" for name in names])
    module = compile_text(module_text([made, *functions]))
    native = module.function("test", None, [ctypes.c_void_p] * arrays)

    def call(*args):
        blocks = [a if margin(a) is not None else block(a) for a in args]
        native(*(b.ctypes.data for b in blocks))
        for b in blocks:
            before, after = margin(b)
            assert (before == 0xFF).all() and (after == 0xFF).all()
        return blocks

    return call


def margin(array):
    """The bytes around an array that `block` made; None for other arrays."""
    raw = array.base
    while isinstance(raw, np.ndarray) and raw.base is not None:
        raw = raw.base
    if not isinstance(raw, np.ndarray) or raw.dtype != np.uint8:
        return None
    start = array.ctypes.data - raw.ctypes.data
    end = start + array.nbytes
    return raw[start - MARGIN : start], raw[end : end + MARGIN]
