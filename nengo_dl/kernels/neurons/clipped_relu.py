"""Rectified linear neurons with a ceiling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nengo_dl.compiler.traits import Array, ArrayNamespace, Params
from nengo_dl.kernels.neurons.base import NeuronKernel
from nengo_dl.neurons import ClippedReLU


class ClippedReLUKernel(NeuronKernel):
    r"""Rate proportional to the current, up to a ceiling.

    .. math:: r = a \min(J, m) \text{ if } J \ge 0, \text{ else } a\, c\, J

    Parameters (one value per neuron): ``max_value``, :math:`m`, in units of current;
    ``negative_slope``, :math:`c`; ``amplitude``, :math:`a`, in output units.

    References: Howard et al. (2017), MobileNets: Efficient convolutional neural networks
    for mobile vision applications, arXiv:1704.04861.
    """

    neuron_type = ClippedReLU
    params = ("max_value", "negative_slope", "amplitude")
    zero_preserving = True

    def highest_rate(self, neurons: Any) -> float:
        """The ceiling of the rates, in output units."""
        return neurons.amplitude * neurons.max_value

    def derive(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """Add whether there are negative rates at all, a constant of the code."""
        return dict(params, sloped=bool(params["negative_slope"].any()))

    def step(self, xp: ArrayNamespace, p: Params, current: Array) -> tuple[Array, ...]:
        """One time step; every array is ``(n, batch)``."""
        one = xp.ones_like(current)
        rate = xp.where(current > p.max_value, p.max_value * one, xp.relu(current))
        if p.sloped:
            rate = rate + p.negative_slope * xp.minimum(current, 0)
        return (p.amplitude * rate,)
