"""Neurons with a hyperbolic tangent as their rate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import nengo

from nengo_dl.compiler.traits import Array, ArrayNamespace, Params
from nengo_dl.kernels.neurons.base import NeuronKernel


class TanhKernel(NeuronKernel):
    r"""Rate, positive or negative, that saturates at ``1 / tau_ref``.

    .. math:: r = \frac{\tanh(J)}{\tau_{ref}}

    Parameters (one value per neuron): ``tau_ref`` in seconds.
    """

    neuron_type = nengo.Tanh
    params = ("tau_ref",)
    zero_preserving = True

    def derive(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """The highest rate, in Hz."""
        return dict(params, highest=1 / params["tau_ref"])

    def highest_rate(self, neurons: Any) -> float:
        """The rate at which the neuron saturates, in Hz."""
        return 1 / neurons.tau_ref

    def step(self, xp: ArrayNamespace, p: Params, current: Array) -> tuple[Array, ...]:
        """One time step; every array is ``(n, batch)``."""
        return (p.highest * xp.tanh(current),)
