"""Matrix products as machine code, in all the ways in which they are computed."""

import numpy as np
import pytest

from nengo_dl.runtime.native import matrices
from tests.runtime.native_code import KINDS, machine_function, pytestmark_native

pytestmark = pytestmark_native
every_kind = pytest.mark.parametrize("dtype, width", KINDS)


def transposed(code, a, x, y, m, k):
    matrices.by_columns(code, a, x, y, m, k, m * code.size)


def assert_products(write, shapes, dtype, width, rng):
    """Compare ``write(code, a, x, y, m, k[, n])`` with NumPy."""
    for m, k, n in shapes:
        a, x = rng.randn(m, k).astype(dtype), rng.randn(k, n).astype(dtype)
        sizes = (m, k, n) if write is matrices.by_blocks else (m, k)
        call = machine_function(
            lambda code, a, x, y, s=sizes: write(code, a, x, y, *s), dtype, width, 3
        )
        given = a.T if write is transposed else a
        y = call(given, x, np.full((m, n), np.nan, dtype))[2]
        exact = a.astype(float) @ x.astype(float)
        largest = np.abs(a).astype(float) @ np.abs(x).astype(float)
        assert (np.abs(y - exact) <= 4 * np.finfo(dtype).eps * largest).all(), (m, k, n)


@every_kind
def test_by_columns(dtype, width, rng):
    shapes = [(1, 1, 1), (width, 3, 1), (5 * width + 1, 12, 1), (3, 20, 1)]
    shapes += [(2 * width, 33, 1), (8 * width, 50, 1), (9 * width + 2, 13, 1)]
    shapes += [(20 * width - 1, 14, 1)]
    assert_products(transposed, shapes, dtype, width, rng)


@every_kind
def test_by_rows(dtype, width, rng):
    shapes = [(1, 1, 1), (2, width, 1), (4, 3 * width + 1, 1), (5, 70, 1), (11, 200, 1)]
    assert_products(matrices.by_rows, shapes, dtype, width, rng)


@every_kind
def test_by_lanes(dtype, width, rng):
    shapes = [(1, 1, 1), (width, 2, 1), (3 * width + 1, 3, 1), (2 * width - 1, 1, 1)]
    assert_products(matrices.by_lanes, shapes, dtype, width, rng)


@every_kind
def test_by_blocks(dtype, width, rng):
    shapes = [(1, 1, 2), (7, 5, width), (13, 3, 4 * width + 1), (25, 9, 9 * width - 1)]
    shapes += [(3, 8, 3), (2, 40, 8 * width)]
    assert_products(matrices.by_blocks, shapes, dtype, width, rng)


def test_by_blocks_in_parts(rng, monkeypatch):
    monkeypatch.setattr(matrices, "BLOCK_BYTES", 64)
    shapes = [(5, 33, 20), (14, 70, 70), (3, 100, 8)]
    assert_products(matrices.by_blocks, shapes, "float32", 8, rng)
