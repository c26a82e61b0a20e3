"""Every function of the array namespace, recorded and not, against plain NumPy."""

import numpy as np
import pytest

from nengo_dl.runtime.numpy.executor import NumpyNamespace, NumpyRecorder, NumpyStep
from tests.runtime.namespace_cases import CASES as CONTRACT
from tests.runtime.numpy_harness import run_once, tune
from tests.versions import release

TOLERANCE = {"float32": 1e-6, "float64": 1e-14}


def as_number(xp, condition):
    return xp.where(condition, 1.0, 0.0)


# what the NumPy namespace does with booleans besides
CASES = [
    *CONTRACT,
    ("concat", lambda xp, x, p: xp.concat([x > 0, p]), lambda x, p: np.r_[x > 0, p]),
    (
        "where",
        lambda xp, x, p: as_number(xp, xp.where(x > 0, p > 1, p < 1)),
        lambda x, p: np.where(x > 0, p > 1, p < 1),
    ),
    (
        "sum",
        lambda xp, x, p: xp.sum(xp.reshape(x > 0, (1, 6, -1)), 1),
        lambda x, p: (x > 0).sum(0)[None],
    ),
]

OPERATORS = [
    lambda x, p: x + p,
    lambda x, p: 1.5 + x - 2,
    lambda x, p: 3 - x,
    lambda x, p: np.float64(0.3) * x / 7,
    lambda x, p: x / p,
    lambda x, p: np.linspace(1, 2, 6)[:, None] / p,
    lambda x, p: np.linspace(0, 2, 6)[:, None] * x - np.full((6, 1), 0.1),
    lambda x, p: -x + abs(x),
    lambda x, p: x**2 + 2**x + p**0.5,
    lambda x, p: x * 1 + np.ones((6, 1)) * x + x / 1.0,
    lambda x, p: 1.0 * (x < p),
    lambda x, p: 1.0 * (x <= 0) + 2.0 * (x >= 0.5) + 4.0 * (0 > x),
    lambda x, p: 1.0 * ((x > 0) & (p > 1) | ~(x > 0.5)),
    lambda x, p: 1.0 * ((x > 0) ^ (p > 1)) + p * (x > 0),
    lambda x, p: 1.0 * (x == x) + 1.0 * (x != x) + (x > 0) * (p > 1) * p,
    lambda x, p: x[1:4] + x[-3:] * x[:1],
    lambda x, p: x[2][None] + x[::2, :],
    lambda x, p: np.eye(6)[:2] @ x + np.eye(6)[:2] @ p,
]


def may_be_rounded(name, tuned):
    """Whether generated code computes a function in another order than plain NumPy."""
    numpy = release(np)
    return (
        # slices that are added up take the terms in another order than NumPy's sum
        (tuned and name == "sum")
        # older ones multiply arrays that are not contiguous without BLAS
        or (name in ("conv", "conv_transpose") and numpy < (2, 3))
        # NumPy 1 rounds x**1, where nothing is to be computed
        or (name == "power" and numpy < (2, 0))
    )


@pytest.mark.parametrize("batch", (1, 3))
@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("tuned", (False, True))
@pytest.mark.parametrize(
    "name, step, expected", CASES, ids=[f"{i}-{c[0]}" for i, c in enumerate(CASES)]
)
def test_function_equals_numpy(
    name, step, expected, tuned, dtype, batch, rng, allclose, monkeypatch
):
    if tuned:
        tune(monkeypatch)
    x = rng.uniform(-2, 2, (6, batch)).astype(dtype)
    p = rng.uniform(0.2, 2, (6, batch)).astype(dtype)
    with np.errstate(all="raise"):
        y = run_once(step, x, p, dtype)
    eager = step(NumpyNamespace(dtype), x, p)
    assert y.dtype == eager.dtype == dtype
    tol = TOLERANCE[dtype]
    assert allclose(y, expected(x.astype(dtype), p), atol=tol, rtol=tol)
    rounding = 4 * np.finfo(dtype).eps if may_be_rounded(name, tuned) else 0
    assert allclose(y, eager, atol=rounding, rtol=rounding)


def test_every_function_has_a_case():
    public = {n for n in dir(NumpyNamespace) if not n.startswith("_")}
    elsewhere = {"tensor_call"}  # test_tensor_function.py
    assert public == {name for name, _, _ in CASES} | elsewhere
    assert {"take", "host_call", "log1p", "float"} <= public
    assert public <= set(dir(NumpyRecorder))


@pytest.mark.parametrize("batch", (1, 3))
@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("step", OPERATORS, ids=range(len(OPERATORS)))
def test_operators_equal_numpy(step, dtype, batch, rng, allclose):
    x = rng.uniform(-2, 2, (6, batch)).astype(dtype)
    p = rng.uniform(0.2, 2, (6, batch)).astype(dtype)
    y = run_once(lambda xp, x, p: step(x, p), x, p, dtype)
    assert y.dtype == dtype
    tol = TOLERANCE[dtype]
    assert allclose(y, step(x, p), atol=tol, rtol=tol)


@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_everything_has_the_same_dtype(dtype):
    seen = []

    def step(xp, carry, x, weights):
        a = x * np.float64(0.1) + np.linspace(0, 1, 4)[:, None] * carry[0]
        b = xp.where(a > np.arange(4)[:, None], a, 2) + 3 * xp.sigmoid(-a)
        c = xp.host_call(lambda arrays: [arrays[0].astype(float)], [b], [4])[0]
        d = xp.maximum(c, 1) + (c > 0) + xp.power(xp.abs(c), 0.3) + 2**c
        seen.extend([a.dtype, b.dtype, c.dtype, d.dtype, xp.float(1).dtype])
        return [d], xp.concat([d, np.ones((1, 3))])

    sim = NumpyStep(step, [np.zeros((4, 3))], 4, 3, [], dtype)
    sim()
    seen.extend([sim.x.dtype, sim.y.dtype, sim.carry[0].dtype])
    assert set(seen) == {np.dtype(dtype)}


def test_sigmoid_does_not_overflow(allclose):
    x = np.array([[-1e4, -800.0, -90.0, 0.0, 90.0, 800.0, 1e4]]).T
    for dtype in ("float32", "float64"):
        with np.errstate(over="raise", invalid="raise", divide="raise"):
            y = run_once(lambda xp, x, p: xp.sigmoid(x), x, x, dtype)
        expected = np.array([0, 0, np.exp(-90.0), 0.5, 1, 1, 1])
        assert allclose(y.ravel(), expected, atol=1e-37, rtol=1e-6)
