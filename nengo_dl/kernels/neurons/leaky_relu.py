"""Leaky rectified linear neurons, as rates and as spikes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nengo_dl.compiler.traits import Array, ArrayNamespace, Params
from nengo_dl.kernels.neurons.base import NeuronKernel
from nengo_dl.neurons import LeakyReLU, SpikingLeakyReLU


def _leaky(xp, p, current):
    """The current, with another slope below zero; at zero, Keras has that one, too."""
    return xp.where(current > 0, current, p.negative_slope * current)


class LeakyReLUKernel(NeuronKernel):
    r"""Rate proportional to the current, with a smaller slope for negative currents.

    .. math:: r = a J \text{ if } J \ge 0, \text{ else } a\, c\, J

    Parameters (one value per neuron): ``negative_slope``, :math:`c`; ``amplitude``,
    :math:`a`, in output units.

    References: Maas, Hannun & Ng (2013), Rectifier nonlinearities improve neural network
    acoustic models, ICML.
    """

    neuron_type = LeakyReLU
    params = ("negative_slope", "amplitude")
    zero_preserving = True

    def step(self, xp: ArrayNamespace, p: Params, current: Array) -> tuple[Array, ...]:
        """One time step; every array is ``(n, batch)``."""
        return (p.amplitude * _leaky(xp, p, current),)


class SpikingLeakyReLUKernel(NeuronKernel):
    r"""Integrates the leaky rectified current; a spike for each unit, of either sign.

    .. math:: v \leftarrow v + f(J)\, dt, \quad s = \frac{a}{dt} [v], \quad
              v \leftarrow v - [v]

    where :math:`f(J)` is :math:`J` or, if it is negative, :math:`c J`, and :math:`[v]`
    is :math:`v` rounded towards zero.

    Parameters (one value per neuron): ``negative_slope``, :math:`c`; ``amplitude``,
    :math:`a`, in output units.

    State: ``voltage``, the part of a spike that is due, in (-1, 1).

    A surrogate gradient is as that of `nengo.SpikingRectifiedLinear`.
    """

    neuron_type = SpikingLeakyReLU
    params = ("negative_slope", "amplitude")
    state = ("voltage",)
    zero_preserving = True
    rate_form = LeakyReLUKernel
    crosses_threshold = True

    def derive(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """The height of one spike that lasts one step."""
        return dict(params, spike=params["amplitude"] / params["dt"])

    def step(
        self, xp: ArrayNamespace, p: Params, current: Array, voltage: Array
    ) -> tuple[Array, ...]:
        """One time step; every array is ``(n, batch)``."""
        voltage = voltage + _leaky(xp, p, current) * p.dt
        size = xp.abs(voltage)
        above = size - xp.maximum(xp.floor(size + 0.5), 1)
        n_spikes = self.spikes(xp, p, xp.floor(size), above, 1.0)
        n_spikes = xp.sign(voltage) * n_spikes
        return n_spikes * p.spike, voltage - n_spikes
