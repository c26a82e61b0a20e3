"""Spikes of a Poisson process with given rates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import nengo
import numpy as np

from nengo_dl.compiler.traits import Array, ArrayNamespace, Params
from nengo_dl.kernels.neurons.base import NeuronKernel
from nengo_dl.kernels.neurons.spikes_of_rates import SpikesOfRates, UniformDraws

#: up to so many spikes a step are expected where the distribution is exact
EXACT_UP_TO = 6.0

#: probability with which there are more spikes in a step than are looked for
NEGLIGIBLE = 1e-9

#: the next value below one in single precision is as far away
NEARLY_ONE = 2.0**-25


class PoissonSpikingKernel(SpikesOfRates):
    r"""A number of spikes that is Poisson distributed, in each step anew.

    .. math::

       P(N = k) = \frac{\lambda^k}{k!} e^{-\lambda}, \quad \lambda = |r|\, dt, \quad
       s = \frac{a}{dt} \operatorname{sign}(r)\, N

    Parameters: ``amplitude``, :math:`a`, in output units, and ``highest``, what
    :math:`|r|` never exceeds, in Hz (one value per neuron each); ``signed``, whether
    rates may be negative. The input is :math:`r`, in Hz.

    Core Nengo asks its generator for numbers until it is satisfied, so that how many it
    takes depends on the rates. Here one uniform number for each neuron and step, drawn
    ahead, goes through the inverse of the distribution: :math:`N` is the number of all
    :math:`k \ge 1` with :math:`u < P(N \ge k)`. The spikes are others than those of core
    Nengo, with the same distribution.

    The sum over :math:`k` has as many terms as it takes for the highest rate, see
    `terms`. Where that is not bounded, the distribution is exact up to
    :math:`\lambda = 6` (at steps of 1 ms, 6000 Hz); beyond, see `cornish_fisher`.

    Gradients are zero; in training they are those of the rates.
    """

    neuron_type = nengo.PoissonSpiking
    params = ("amplitude", "highest")
    draws = UniformDraws
    differentiable = False
    operations = 60

    def values(self, neurons: Any, n_neurons: int) -> dict[str, Any]:
        """The amplitude, and what the kernel of the base type knows of its rates."""
        base = neurons.base_type
        kernel = NeuronKernel.of(base)
        highest = math.inf if kernel is None else kernel.highest_rate(base)
        return {
            "amplitude": np.full(n_neurons, neurons.amplitude, np.float64),
            "highest": np.full(n_neurons, highest, np.float64),
            "signed": bool(neurons.negative),
        }

    def derive(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """How many terms are needed, and whether the rates may go beyond them."""
        expected = float(np.max(params["highest"], initial=0.0) * params["dt"])
        return dict(
            super().derive(params),
            terms=terms(min(expected, EXACT_UP_TO)),
            beyond=expected > EXACT_UP_TO,
        )

    def step(
        self, xp: ArrayNamespace, p: Params, rate: Array, uniform: Array
    ) -> tuple[Array, ...]:
        """One time step; every array is ``(n, batch)``."""
        expected = p.dt * (xp.abs(rate) if p.signed else rate)
        few = xp.minimum(expected, EXACT_UP_TO) if p.beyond else expected
        n_spikes = count(xp, few, uniform, p.terms)
        if p.beyond:
            many = expected > EXACT_UP_TO
            larger = cornish_fisher(xp, xp.maximum(expected, EXACT_UP_TO), uniform)
            n_spikes = xp.where(many, larger, n_spikes)
        if p.signed:
            n_spikes = n_spikes * xp.sign(rate)
        return (p.spike * n_spikes,)


def terms(expected: float) -> int:
    r"""The smallest number of spikes that is exceeded with probability below 1e-9.

    Parameters
    ----------
    expected : float
        Expected number of spikes.

    Examples
    --------
    >>> terms(0.5), terms(6.0)
    (9, 26)
    """
    probability = math.exp(-expected)
    at_most = probability
    k = 0
    while 1 - at_most >= NEGLIGIBLE:
        k += 1
        probability *= expected / k
        at_most += probability
    return max(k, 1)


def count(xp: ArrayNamespace, expected: Array, uniform: Array, n_terms: int) -> Array:
    """How many ``k`` from 1 to ``n_terms`` there are with ``uniform < P(N >= k)``."""
    # the probabilities of k spikes, summed from the small ones: what is left when large
    # ones are taken from one is all rounding error in single precision
    probability = xp.exp(-expected)
    probabilities = []
    for k in range(1, n_terms + 1):
        probability = probability * (expected * (1 / k))
        probabilities.append(probability)
    at_least = [probabilities.pop()]
    while probabilities:
        at_least.append(at_least[-1] + probabilities.pop())
    n_spikes = xp.zeros_like(uniform)
    for k in range(1, n_terms + 1):  # the last one that is large enough
        n_spikes = xp.where(uniform < at_least.pop(), float(k), n_spikes)
    return n_spikes


def cornish_fisher(xp: ArrayNamespace, expected: Array, uniform: Array) -> Array:
    r"""Approximate number of spikes where many are expected.

    .. math::

       N \approx \lambda + \sigma z + \frac{z^2 - 1}{6} - \frac{z^3 - z}{72 \sigma},
       \quad \sigma^2 = \lambda - \tfrac{1}{12}

    rounded, where :math:`u` is the probability that a normal variable exceeds
    :math:`z`. Rounding adds 1/12 to the variance, which is taken off beforehand. At
    :math:`\lambda = 6` the probabilities are off by 0.0014 in all (half the sum of all
    differences), mean and variance by less than one part in 1000; at higher rates by
    less.

    References: Cornish & Fisher (1938), Moments and cumulants in the specification of
    distributions, Revue de l'Institut International de Statistique 5(4). Normal
    quantile: Abramowitz & Stegun (1964), 26.2.23, to 4.5e-4.
    """
    upper = uniform < 0.5
    tail = xp.where(
        upper, xp.maximum(uniform, 1e-30), xp.maximum(1 - uniform, NEARLY_ONE)
    )
    t = xp.sqrt(-2 * xp.log(tail))
    z = t - (2.515517 + t * (0.802853 + t * 0.010328)) / (
        1 + t * (1.432788 + t * (0.189269 + t * 0.001308))
    )
    z = xp.where(upper, z, -z)
    spread = xp.sqrt(expected - 1 / 12)
    skewed = (z * z - 1) * (1 / 6) - (z * z * z - z) / (72 * spread)
    return xp.maximum(xp.floor(expected + spread * z + skewed + 0.5), 0)
