"""The update of Adam in one pass, against NumPy: the same numbers to the bit."""

import contextlib

import numpy as np
import pytest

from nengo_dl.runtime.native import adam, crew
from nengo_dl.runtime.native.compile import available

pytestmark = pytest.mark.skipif(available() is not None, reason="no machine code here")


def expected(p, m, v, g, numbers):
    alpha, some_m, some_v, epsilon = numbers
    m = m + (g - m) * some_m
    v = v + (g * g - v) * some_v
    return p - (m * alpha) / (np.sqrt(v) + epsilon), m, v


def arrays(rng, shape, dtype):
    p, m, v, g = rng.normal(size=(4, *shape)) * 10 ** rng.uniform(-5, 2, (4, *shape))
    numbers = np.array([1e-3, 0.1, 1e-3, 1e-7], dtype)
    return [*(x.astype(dtype) for x in (p, m, v * v, g)), numbers]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(16,), (17,), (100, 33), (3, adam.UPDATE_PIECE)])
def test_numbers_are_those_of_numpy(shape, dtype, rng):
    given = arrays(rng, shape, dtype)
    copies = [x.copy() for x in given]
    found = adam.updated(*given)
    for one, other in zip(found, expected(*given), strict=True):
        assert one.dtype == dtype and np.array_equal(one, other)
    assert all(map(np.array_equal, given, copies))  # nothing is changed in place


def test_what_is_not_finite(rng):
    given = arrays(rng, (40,), "float32")
    given[3][:3] = np.nan, np.inf, 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        wanted = expected(*given)
    for one, other in zip(adam.updated(*given), wanted, strict=True):
        assert np.array_equal(one, other, equal_nan=True)


@pytest.mark.parametrize("around", [contextlib.nullcontext, crew.ready])
def test_threads_give_the_same_bits(around, rng, monkeypatch):
    given = arrays(rng, (5 * adam.UPDATE_PIECE + 7,), "float32")
    alone = adam.updated(*given)
    monkeypatch.setattr(adam, "UPDATE_SHARED", 1)
    with around():
        found = adam.updated(*given, threads=3)
    assert all(map(np.array_equal, found, alone))
