"""Products of large matrices by the BLAS that SciPy brings, where it is installed.

From some size on, its blocking for all levels of caches and its threads are worth a
call. The machine code calls it by a pointer; no Python is involved.
"""

from __future__ import annotations

import importlib.util
from functools import cache

import numpy as np

from nengo_dl.runtime.native import costs
from nengo_dl.runtime.native.symbols import PREFIX
from nengo_dl.runtime.native.writer import Writer


@cache
def _installed() -> bool:
    """Whether SciPy is there; it is imported when a large product is compiled."""
    return importlib.util.find_spec("scipy") is not None


def pays(m: int, k: int, n: int) -> bool:
    """Whether a product of ``m`` by ``k`` by ``n`` numbers is left to BLAS."""
    return m * k * n >= costs.BLAS_PRODUCTS and _installed()


def multiply(writer: Writer, a: str, x: str, y: str, m: int, k: int, n: int) -> None:
    """Write ``y = a x`` as one call.

    Parameters
    ----------
    writer : Writer
        What it is written to.
    a, x, y : str
        The addresses of ``m`` by ``k``, of ``k`` by ``n`` and of ``m`` by ``n`` numbers.
    m, k, n : int
        Sizes.
    """
    code = writer.code
    # it reads matrices column by column: ours are transposed there, and so is the product
    arguments = np.zeros(1, [("factors", code.dtype, 2), ("sizes", "i4", 3), ("t", "S1")])
    arguments["sizes"], arguments["factors"] = (n, m, k), (1, 0)
    arguments["t"] = b"N"
    raw = arguments.view(np.uint8)
    table = writer.table(("gemm", m, k, n), lambda: raw)
    shifts = arguments.dtype.fields
    assert shifts is not None  # it is a structure
    one, zero = (f"ptr {code.at(table, i * code.size)}" for i in range(2))
    first = shifts["sizes"][1]
    pn, pm, pk = (f"ptr {code.at(table, first + 4 * i)}" for i in range(3))
    letter = f"ptr {code.at(table, shifts['t'][1])}"
    name = f"@{PREFIX}{'s' if code.bits == 24 else 'd'}gemm"
    code.declare(f"void {name}({', '.join(['ptr'] * 13)})")
    sizes = letter, letter, pn, pm, pk, one
    code.call(name, *sizes, f"ptr {x}", pn, f"ptr {a}", pk, zero, f"ptr {y}", pn)
