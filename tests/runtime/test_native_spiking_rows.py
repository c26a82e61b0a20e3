"""Products of spikes and weights, and the gradient of the weights, against NumPy."""

import contextlib

import numpy as np
import pytest

from nengo_dl.runtime.native import crew, spiking_rows
from nengo_dl.runtime.native.compile import available

pytestmark = pytest.mark.skipif(available() is not None, reason="no machine code here")

# (rows, neurons, targets): whole lines and panels, parts of them, several tiles, one row
SHAPES = [(37, 64, 128), (300, 17, 16), (170, 100, 33), (5, 16, 200), (1, 50, 90)]


def arrays(rng, rows, k, n, dtype="float32", share=0.1):
    x = ((rng.uniform(size=(rows, k)) < share) * rng.normal(size=(rows, k))).astype(dtype)
    a, g = rng.normal(size=(n, k)).astype(dtype), rng.normal(size=(rows, n)).astype(dtype)
    return x, a, g


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_of_spikes(shape, dtype, rng, allclose):
    x, a, g = arrays(rng, *shape, dtype)
    atol = 1e-5 if dtype == "float32" else 1e-13
    y = spiking_rows.product(x, a)
    assert y.dtype == x.dtype and allclose(y, x @ a.T, atol=atol)
    assert allclose(spiking_rows.gradient(x, g), g.T @ x, atol=atol)


@pytest.mark.parametrize("share", [0, 1])
def test_any_share_of_spikes_is_right(share, rng, allclose):
    x, a, g = arrays(rng, 300, 40, 24, share=share)
    y = spiking_rows.product(x, a)
    assert allclose(y, x @ a.T, atol=1e-4)
    assert allclose(spiking_rows.gradient(x, g), g.T @ x, atol=1e-4)


def test_what_is_not_finite_counts(rng):
    x, a, g = arrays(rng, 20, 32, 32)
    x[3, 4], x[5, 6] = np.nan, -0.0
    y = spiking_rows.product(x, a)
    assert np.isnan(y[3]).all() and np.isfinite(np.delete(y, 3, 0)).all()
    d = spiking_rows.gradient(x, g)
    assert np.isnan(d[:, 4]).all() and np.isfinite(np.delete(d, 4, 1)).all()


@pytest.mark.parametrize("around", [contextlib.nullcontext, crew.ready])
@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("n", [70, 64, 300])
def test_threads_give_the_same_bits(n, threads, around, rng, monkeypatch):
    x, a, g = arrays(rng, 700, 75, n)
    alone = spiking_rows.product(x, a), spiking_rows.gradient(x, g)
    monkeypatch.setattr(spiking_rows, "PRODUCT_SHARED", 1)
    with around():
        shared = (
            spiking_rows.product(x, a, threads),
            spiking_rows.gradient(x, g, threads),
        )
    for one, other in zip(alone, shared, strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_without_an_instruction_that_compresses(dtype, rng, monkeypatch):
    x, a, g = arrays(rng, 300, 75, 70, dtype)
    expected = spiking_rows.product(x, a), spiking_rows.gradient(x, g)
    spiking_rows._works.cache_clear()
    monkeypatch.setattr(spiking_rows, "has_compress", lambda: False)
    found = spiking_rows.product(x, a), spiking_rows.gradient(x, g)
    spiking_rows._works.cache_clear()
    assert all(map(np.array_equal, found, expected))


def test_no_rows(rng):
    x, a, g = arrays(rng, 0, 20, 18)
    y = spiking_rows.product(x, a)
    assert y.shape == (0, 18)
    assert np.array_equal(spiking_rows.gradient(x, g), np.zeros((18, 20)))
