r"""Elementary functions as straight-line vector code: no tables, no branches.

Each function takes a `Code` and the names of vectors, writes what computes it, and
returns the name of the result. Arguments are reduced as Cody and Waite do ("Software
Manual for the Elementary Functions", 1980); what is left is a polynomial, evaluated in
pairs of terms (Estrin), which halves the latency of Horner's scheme. The coefficients
are found here, when a function is first written (about 1 ms), by interpolation at
Chebyshev nodes with 50 decimal digits: they are the same on every machine.

Largest errors in units in the last place (ulp), for finite results:

========================  =======  =======
function                  float32  float64
========================  =======  =======
exp                       1.1      1.1
expm1                     1.7      1.9
log, log1p                0.9      0.9
tanh                      2.5      2.5
expm1, log1p, bound 0.1   0.7      0.7
expm1, bound 0.2          0.8      0.8
========================  =======  =======

Infinities, NaN, subnormal numbers and the sign of zero come out as in NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Context, Decimal, localcontext
from functools import lru_cache

import numpy as np

from nengo_dl.runtime.native.code import Code
from nengo_dl.runtime.native.symbols import PREFIX

#: the digits that coefficients are computed with
PRECISION = Context(prec=50)

#: up to here one polynomial does for the whole function, with errors below 0.8 ulp
EXPM1_BOUND = 0.2
LOG1P_BOUND = 0.1

#: ln 2 in two parts, the first with zeros at its end, so that multiples of it are exact
LN2 = {
    24: (float.fromhex("0x1.63p-1"), float.fromhex("-0x1.bd0105c610ca8p-13")),
    53: (float.fromhex("0x1.62e42feep-1"), float.fromhex("0x1.a39ef35793c76p-33")),
}


# coefficients


def _tail_of_expm1(x: Decimal) -> Decimal:
    """(e^x - 1 - x) / x^2."""
    return (x.exp() - 1 - x) / (x * x)


def _tail_of_log1p(x: Decimal) -> Decimal:
    """(ln(1 + x) - x) / x^2."""
    return ((1 + x).ln() - x) / (x * x)


def _tail_of_log_ratio(z: Decimal) -> Decimal:
    """(ln((1 + s) / (1 - s)) / s - 2) / s^2 for s^2 = z."""
    s = z.sqrt()
    return (((1 + s) / (1 - s)).ln() / s - 2) / z


@lru_cache(maxsize=256)
def fit(
    function: Callable[[Decimal], Decimal], low: float, high: float, degree: int
) -> tuple[float, ...]:
    """Coefficients of the polynomial that equals a function at the Chebyshev nodes.

    Parameters
    ----------
    function : callable
        Of one decimal number, which is never 0.
    low, high : float
        The range of its argument.
    degree : int
        Of the polynomial.

    Returns
    -------
    tuple of float
        The lowest power first.
    """
    with localcontext(PRECISION):
        middle, radius = (
            (Decimal(high) + Decimal(low)) / 2,
            (Decimal(high) - Decimal(low)) / 2,
        )
        count = degree + 1
        # where they lie exactly does not matter, but none may be at 0
        turns = [math.cos((2 * k + 1) * math.pi / (2 * count)) for k in range(count)]
        nodes = [middle + radius * Decimal(t if abs(t) > 1e-9 else 1e-3) for t in turns]
        slopes = [function(x) for x in nodes]
        for order in range(1, count):  # Newton's divided differences
            for k in range(degree, order - 1, -1):
                width = nodes[k] - nodes[k - order]
                slopes[k] = (slopes[k] - slopes[k - 1]) / width
        powers = [slopes[degree]]
        for k in range(degree - 1, -1, -1):  # multiplied out: p -> p (x - x_k) + slope
            shifted = [Decimal(0), *powers]
            powers = [a - nodes[k] * b for a, b in zip(shifted, [*powers, Decimal(0)])]
            powers[0] += slopes[k]
        return tuple(map(float, powers))


def _degree(bound: float, bits: int, derivative: Callable[[int], float]) -> int:
    """The least degree of a tail over ``[-bound, bound]`` for an error of 2^-bits.

    Interpolation at ``n`` Chebyshev nodes is wrong by ``derivative(n) bound^n / 2^(n-1)``
    at most, where ``derivative(n)`` bounds the n-th derivative divided by n!. The tail
    counts ``bound`` times in proportion to the whole.
    """
    degree = 1
    while bound * derivative(degree + 1) * bound ** (degree + 1) / 2**degree > 2.0**-bits:
        degree += 1
    return degree


def polynomial(code: Code, x: str, coefficients: tuple[float, ...]) -> str:
    """A polynomial, the lowest power first: pairs of terms, then Horner over them."""
    terms = [code.const(c) for c in coefficients]
    if len(terms) > 3:
        pairs = [
            code.fma(terms[k + 1], x, terms[k]) if k + 1 < len(terms) else terms[k]
            for k in range(0, len(terms), 2)
        ]
        x, terms = code.op("fmul", x, x), pairs
    total = terms[-1]
    for term in terms[-2::-1]:
        total = code.fma(total, x, term)
    return total


# parts of numbers


def _exponent_bits(code: Code) -> tuple[int, int]:
    """What 1.0 has as its exponent, and how many bits follow the exponent."""
    return (127, 23) if code.bits == 24 else (1023, 52)


def _bits_of(code: Code, number: float) -> int:
    """The bits of a number as an integer."""
    return int(np.array(number, code.dtype).view(f"i{code.size}"))


def _multiple_of_ln2(code: Code, x: str) -> tuple[str, str, str]:
    """``n``, the nearest integer to ``x / ln 2``, and ``x - n ln 2``.

    Returns
    -------
    n : str
        As numbers.
    n_bits : str
        Integers that have ``n`` in their lower half.
    rest : str
        As numbers.
    """
    # beside a large number there is no room for a fraction: the sum is rounded to whole
    # numbers, and they are its last bits
    large = code.const(1.5 * 2.0 ** (code.bits - 1))
    moved = code.fma(x, code.const(1 / math.log(2)), large)
    n = code.op("fsub", moved, large)
    high, low = LN2[code.bits]
    rest = code.fma(n, code.const(-high), x)
    return n, code.as_int(moved), code.fma(n, code.const(-low), rest)


def _power_of_two(code: Code, n: str) -> str:
    """2^n for integers within the exponents of normal numbers; upper bits are dropped."""
    bias, shift = _exponent_bits(code)
    return code.as_float(code.iop("shl", code.iop("add", n, bias), shift))


def _expm1_of_rest(code: Code, x: str) -> str:
    """e^x - 1 for ``|x| <= ln(2) / 2``."""
    tail = fit(_tail_of_expm1, -0.3466, 0.3466, 4 if code.bits == 24 else 10)
    return code.fma(polynomial(code, x, tail), code.op("fmul", x, x), x)


def exp(code: Code, x: str) -> str:
    r"""Compute :math:`e^x`."""
    # beyond, it is infinite or 0
    low, high = (-104.0, 89.0) if code.bits == 24 else (-746.0, 710.0)
    n, n_bits, rest = _multiple_of_ln2(code, code.clamp(x, low, high))
    power = code.op("fadd", _expm1_of_rest(code, rest), code.const(1.0))
    # in two steps, since 2^n may be larger or smaller than any normal number
    n_bits = code.iop("sub", n_bits, _bits_of(code, 1.5 * 2.0 ** (code.bits - 1)))
    bias, _ = _exponent_bits(code)
    half = code.iop("lshr", code.iop("add", n_bits, 2 * bias), 1)
    half = code.iop("sub", half, bias)
    power = code.op("fmul", power, _power_of_two(code, half))
    return code.op("fmul", power, _power_of_two(code, code.iop("sub", n_bits, half)))


def expm1(code: Code, x: str, bound: float | None = None) -> str:
    r""":math:`e^x - 1`.

    Parameters
    ----------
    code : Code
        What it is written to.
    x : str
        The argument.
    bound : float, optional
        The largest absolute value that ``x`` can have. If it is small, one polynomial is
        all: a fifth of the time.
    """
    if bound is not None and bound <= EXPM1_BOUND:
        return _expm1_of_small(code, x, bound)
    high = 89.0 if code.bits == 24 else 710.0
    n, n_bits, rest = _multiple_of_ln2(code, code.clamp(x, -40.0, high))
    small = _expm1_of_rest(code, rest)
    # half of the result, since 2^n may be infinite where the result is not
    scale = _power_of_two(code, code.iop("sub", n_bits, 1))
    half = code.fma(small, scale, code.op("fsub", scale, code.const(0.5)))
    whole = code.op("fadd", half, half)
    result = code.select(code.cmp("oeq", n, code.const(0.0)), small, whole)
    return code.intrinsic("copysign", result, x)  # of zero


def _expm1_of_small(code: Code, x: str, bound: float) -> str:
    """e^x - 1 by one polynomial."""

    def derivative(order: int) -> float:
        return math.exp(bound) / math.factorial(order + 2)

    degree = _degree(bound, code.bits + 2, derivative)
    tail = fit(_tail_of_expm1, -bound, bound, degree)
    return code.fma(polynomial(code, x, tail), code.op("fmul", x, x), x)


def _split(code: Code, x: str) -> tuple[str, str]:
    """``e`` and ``m`` with ``x = 2^e m`` and ``m`` around 1, from sqrt(1/2) to sqrt(2).

    ``x`` must be positive, finite and normal.
    """
    bias, shift = _exponent_bits(code)
    start = _bits_of(code, math.sqrt(0.5))
    above = code.iop("sub", code.as_int(x), start)
    m = code.iop("add", code.iop("and", above, (1 << shift) - 1), start)
    # integers to numbers: as the last bits of a large number, which is subtracted
    biased = code.iop("lshr", code.iop("add", above, bias << shift), shift)
    large = 2.0 ** (code.bits - 1)
    moved = code.as_float(code.iop("or", biased, _bits_of(code, large)))
    return code.op("fsub", moved, code.const(large + bias)), code.as_float(m)


def _log_of_parts(code: Code, f: str, e: str, correction: str) -> str:
    r"""``ln(1 + f) + e ln 2 + correction`` for ``1 + f`` from sqrt(1/2) to sqrt(2).

    With :math:`s = f / (2 + f)` it is
    :math:`\ln(1 + f) = f - f^2/2 + s (f^2/2 + s^2 p(s^2))`, where all but ``f`` is small.
    """
    high, low = LN2[code.bits]
    s = code.op("fdiv", f, code.op("fadd", f, code.const(2.0)))
    z = code.op("fmul", s, s)
    tail = fit(_tail_of_log_ratio, 0.0, 0.0295, 3 if code.bits == 24 else 7)
    p = code.op("fmul", z, polynomial(code, z, tail))
    square = code.op("fmul", code.op("fmul", f, f), code.const(0.5))
    small = code.op("fmul", s, code.op("fadd", square, p))
    small = code.op("fadd", small, code.fma(e, code.const(low), correction))
    rest = code.op("fsub", code.op("fsub", square, small), f)
    return code.op("fsub", code.op("fmul", e, code.const(high)), rest)


def _log_edges(code: Code, x: str, y: str) -> str:
    """``y``, but what the logarithm is of 0, of infinity, and where it is not."""
    infinity, zero = code.const(math.inf), code.const(0.0)
    y = code.select(code.cmp("oeq", x, infinity), infinity, y)
    y = code.select(code.cmp("oeq", x, zero), code.const(-math.inf), y)
    return code.select(code.cmp("ult", x, zero), code.const(math.nan), y)


def log(code: Code, x: str) -> str:
    r""":math:`\ln x`."""
    tiny = code.const(float(np.finfo(code.dtype).tiny))
    subnormal = code.cmp("olt", x, tiny)
    digits = code.bits - 1
    scaled = code.op("fmul", x, code.const(2.0**digits))
    e, m = _split(code, code.select(subnormal, scaled, x))
    e = code.select(subnormal, code.op("fsub", e, code.const(digits)), e)
    f = code.op("fsub", m, code.const(1.0))
    return _log_edges(code, x, _log_of_parts(code, f, e, code.const(0.0)))


def log1p(code: Code, x: str, bound: float | None = None) -> str:
    r""":math:`\ln(1 + x)`; ``bound`` as in `expm1`."""
    if bound is not None and bound <= LOG1P_BOUND:
        return _log1p_of_small(code, x, bound)
    one, zero = code.const(1.0), code.const(0.0)
    u = code.op("fadd", x, one)
    e, m = _split(code, u)
    # what the sum has lost, in proportion
    beside_x = code.op("fsub", one, code.op("fsub", u, x))
    beside_one = code.op("fsub", x, code.op("fsub", u, one))
    lost = code.select(code.cmp("oge", x, one), beside_x, beside_one)
    near = code.cmp("oeq", e, zero)  # nothing need be lost: m - 1 is x
    f = code.select(near, x, code.op("fsub", m, one))
    correction = code.select(near, zero, code.op("fdiv", lost, u))
    y = _log_edges(code, u, _log_of_parts(code, f, e, correction))
    return code.select(code.cmp("oeq", x, zero), x, y)  # with its sign


def _log1p_of_small(code: Code, x: str, bound: float) -> str:
    """ln(1 + x) by one polynomial."""

    def derivative(order: int) -> float:
        return (1 - bound) ** -(order + 2) / (order + 2)

    degree = _degree(bound, code.bits + 2, derivative)
    tail = fit(_tail_of_log1p, -bound, bound, degree)
    return code.fma(polynomial(code, x, tail), code.op("fmul", x, x), x)


def tanh(code: Code, x: str) -> str:
    r""":math:`\tanh x = (e^{2x} - 1) / (e^{2x} + 1)`."""
    size = code.intrinsic("fabs", x)
    t = expm1(code, code.clamp(code.op("fadd", size, size), 0.0, 40.0))
    y = code.op("fdiv", t, code.op("fadd", t, code.const(2.0)))
    return code.intrinsic("copysign", y, x)


def sign(code: Code, x: str) -> str:
    """1 where ``x`` is positive, -1 where it is negative, 0 for both zeros."""
    zero = code.const(0.0)
    y = code.op("fadd", x, zero)  # of -0 it makes 0, and leaves NaN
    y = code.select(code.cmp("ogt", x, zero), code.const(1.0), y)
    return code.select(code.cmp("olt", x, zero), code.const(-1.0), y)


def floor(code: Code, x: str) -> str:
    """The largest integer up to ``x``."""
    return code.intrinsic("floor", x)


def sqrt(code: Code, x: str) -> str:
    """The square root, rounded correctly."""
    return code.intrinsic("sqrt", x)


def absolute(code: Code, x: str) -> str:
    """``x`` without its sign."""
    return code.intrinsic("fabs", x)


def negative(code: Code, x: str) -> str:
    """Compute ``-x``."""
    return code.neg(x)


def maximum(code: Code, a: str, b: str, number: bool = False) -> str:
    """The larger one; NaN if one of them is.

    Parameters
    ----------
    code : Code
        What it is written to.
    a, b : str
        The arguments.
    number : bool
        Whether ``b`` is known not to be NaN, which saves two instructions of three.
    """
    return _extreme(code, "ogt", a, b, number)


def minimum(code: Code, a: str, b: str, number: bool = False) -> str:
    """The smaller one, as `maximum`."""
    return _extreme(code, "olt", a, b, number)


def _extreme(code: Code, how: str, a: str, b: str, number: bool) -> str:
    better = code.select(code.cmp(how, b, a), b, a)  # a if one of them is NaN
    return better if number else code.select(code.cmp("uno", b, b), b, better)


def power(code: Code, x: str, y: str) -> str:
    r""":math:`x^y`, lane by lane, as the C library has it."""
    kind = code.element
    name = f"{PREFIX}pow{'f' if code.bits == 24 else ''}"
    code.declare(f"{kind} @{name}({kind}, {kind})")
    results = []
    for k in range(code.width):
        args = (f"{kind} {code.lane(v, k)}" for v in (x, y))
        results.append(str(code.call(f"@{name}", *args, result=kind)))
    return code.pack(results)


#: functions of one argument by the names of NumPy's
OF_ONE: dict[str, Callable[..., str]] = {
    f.__name__: f
    for f in (absolute, exp, expm1, floor, log, log1p, negative, sign, sqrt, tanh)
}

#: and of two
OF_TWO: dict[str, Callable[..., str]] = {f.__name__: f for f in (maximum, minimum, power)}
