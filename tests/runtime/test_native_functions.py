"""Elementary functions of machine code: errors in ulp, and special values."""

import time

import numpy as np
import pytest

from nengo_dl.runtime.native import functions
from nengo_dl.runtime.native.code import Code
from tests.runtime.native_code import KINDS, machine_function, pytestmark_native

pytestmark = pytestmark_native
every_kind = pytest.mark.parametrize("dtype, width", KINDS)
needs_long_double = pytest.mark.skipif(
    np.finfo(np.longdouble).nmant < 63, reason="no type here is more exact than float64"
)

SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1, -1, 2, -2, 88.7, -103, 709.7, -745, 1e4]


def evaluate(bodies, dtype, width, *arrays):
    """Rows of ``body(code, *x)`` for each element."""
    n = len(arrays[0])

    def write(code, y, *xs):
        with code.loop(n, width) as loop:
            offset, mask = code.times(loop.i, code.size), code.ragged(n, loop.i)
            args = [code.load(code.at(x, offset)) for x in xs]
            for k, body in enumerate(bodies):
                place = code.at(code.at(y, offset), k * n * code.size)
                code.store(body(code, *args), place, mask)

    call = machine_function(write, dtype, width, len(arrays) + 1)
    return call(np.zeros((len(bodies), n), dtype), *arrays)[0]


def arguments(name, dtype, rng, n=4000):
    """Of all sizes, close to where functions change, and where results are subnormal."""
    info = np.finfo(dtype)
    largest, least = np.log(float(info.max)), np.log(float(info.smallest_subnormal))
    sizes = np.exp(rng.uniform(least, 3, n)) * rng.choice([-1, 1], n)
    if name == "log":
        sizes = np.exp(rng.uniform(least, largest, n))
        return np.concatenate([sizes, rng.uniform(0.5, 2, n), 1 + 1e-4 * rng.randn(n)])
    if name == "log1p":
        over = np.exp(rng.uniform(3, largest, n))
        return np.concatenate([sizes[sizes > -1], over, rng.uniform(-1, 3, n)])
    return np.concatenate([sizes, rng.uniform(least, largest, n), rng.uniform(-3, 3, n)])


def errors(y, exact):
    """In units in the last place of ``y``'s type, of what is finite."""
    near = exact.astype(y.dtype)
    finite = np.isfinite(near)
    np.testing.assert_array_equal(y[~finite], near[~finite])
    unit = np.spacing(np.abs(near[finite])).astype(np.longdouble)
    return np.abs(y[finite].astype(np.longdouble) - exact[finite]) / unit


LIMITS = {"exp": 1.1, "expm1": 1.9, "log": 0.9, "log1p": 0.9, "tanh": 2.5}


@needs_long_double
@every_kind
def test_errors_and_special_values(dtype, width, rng):
    points = [arguments(name, dtype, rng) for name in LIMITS]
    x = np.concatenate([SPECIAL, *points]).astype(dtype)
    results = evaluate([functions.OF_ONE[name] for name in LIMITS], dtype, width, x)
    with np.errstate(all="ignore"):
        for y, (name, limit) in zip(results, LIMITS.items()):
            exact = getattr(np, name)(x.astype(np.longdouble))
            assert errors(y, exact).max() <= limit, name
            if name != "exp":
                zero = x == 0
                assert (np.signbit(y) == np.signbit(getattr(np, name)(x)))[zero].all()


@needs_long_double
@every_kind
@pytest.mark.parametrize(
    "name, bound",
    (
        ("expm1", 0.05),
        ("expm1", 0.2),
        ("log1p", 0.0488),
        ("log1p", 0.1),
        ("log1p", 1e-9),
    ),
)
def test_errors_within_bounds(name, bound, dtype, width, rng):
    x = rng.uniform(-bound, bound, 4000).astype(dtype)
    x[:4] = bound, -bound, 0, np.nan
    function = functions.OF_ONE[name]
    y = evaluate([lambda c, v: function(c, v, bound=bound)], dtype, width, x)[0]
    limit = 0.7 if bound <= 0.1 else 0.8
    assert errors(y, getattr(np, name)(x.astype(np.longdouble))).max() <= limit
    assert np.isnan(y[3])


def test_bounds_make_code_short():
    lines = {}
    for bound in (None, 0.05, 0.5):
        code = Code("float32", 8)
        functions.expm1(code, "%x", bound=bound)
        lines[bound] = len(code)
    assert lines[0.05] < lines[None] / 2
    assert lines[0.5] == lines[None]  # too large for one polynomial


@every_kind
def test_exact_functions(dtype, width, rng):
    x = rng.uniform(-9, 9, 45).astype(dtype)
    x[:9] = 0.0, -0.0, np.inf, -np.inf, np.nan, 2.5, -2.5, 1e20, 1e-42
    names = "absolute", "floor", "negative", "sign", "sqrt"
    results = evaluate([functions.OF_ONE[name] for name in names], dtype, width, x)
    for y, name in zip(results, names):
        with np.errstate(invalid="ignore"):
            expected = getattr(np, name)(x)
        np.testing.assert_array_equal(y, expected)
        number = ~np.isnan(expected)
        assert (np.signbit(y) == np.signbit(expected))[number].all(), name


@every_kind
def test_larger_and_smaller(dtype, width, rng):
    a, b = rng.randint(-3, 3, (2, 50)).astype(dtype)
    a[:3], b[2:4] = np.nan, np.nan
    largest, least = evaluate([functions.maximum, functions.minimum], dtype, width, a, b)
    np.testing.assert_array_equal(largest, np.maximum(a, b))
    np.testing.assert_array_equal(least, np.minimum(a, b))
    b[2:4] = 0.5
    known = [
        lambda c, x, y: functions.maximum(c, x, y, number=True),
        lambda c, x, y: functions.minimum(c, x, y, number=True),
    ]
    largest, least = evaluate(known, dtype, width, a, b)
    np.testing.assert_array_equal(largest, np.maximum(a, b))
    np.testing.assert_array_equal(least, np.minimum(a, b))


@needs_long_double
@every_kind
def test_powers(dtype, width, rng):
    x, y = rng.uniform(0, 5, 50).astype(dtype), rng.uniform(-4, 4, 50).astype(dtype)
    x[:6], y[:6] = (0, 0, -2, -2, np.nan, np.inf), (0, -1, 3, 0.5, 0, 2)
    result = evaluate([functions.power], dtype, width, x, y)[0]
    with np.errstate(all="ignore"):
        exact = np.power(x.astype(np.longdouble), y.astype(np.longdouble))
    assert errors(result, exact).max() <= 1


def test_results_do_not_depend_on_the_width(rng):
    names = [n for n in functions.OF_ONE if n not in ("sqrt", "floor")]
    bodies = [functions.OF_ONE[name] for name in names]
    for dtype in ("float32", "float64"):
        x = rng.uniform(-5, 5, 400).astype(dtype)
        results = [evaluate(bodies, dtype, width, x).tobytes() for width in (4, 8)]
        assert results[0] == results[1]


def test_coefficients_are_found_quickly():
    best = np.inf
    for _ in range(3):
        functions.fit.cache_clear()
        start = time.perf_counter()
        functions.expm1(Code("float64", 8), "%x", bound=0.05)
        functions.log1p(Code("float64", 8), "%x", bound=0.05)
        best = min(best, time.perf_counter() - start)
    assert best < 0.05  # 2 ms here, on machines that do much else besides


def test_polynomials_equal_functions_at_their_nodes():
    coefficients = functions.fit(lambda x: 2 + 3 * x * x, -1.0, 2.0, 4)
    np.testing.assert_allclose(coefficients, [2, 0, 3, 0, 0], atol=1e-16)
