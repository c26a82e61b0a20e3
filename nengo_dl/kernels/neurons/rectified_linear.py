"""Rectified linear neurons, as rates and as spikes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import nengo

from nengo_dl.compiler.traits import Array, ArrayNamespace, Params
from nengo_dl.kernels.neurons.base import NeuronKernel


class RectifiedLinearKernel(NeuronKernel):
    r"""Firing rate proportional to the positive part of the current.

    .. math:: r = a \max(J, 0)

    Parameters (one value per neuron): ``amplitude`` in output units.

    References: Nair & Hinton (2010), Rectified linear units improve restricted
    Boltzmann machines, ICML.
    """

    neuron_type = nengo.RectifiedLinear
    params = ("amplitude",)
    zero_preserving = True

    def step(self, xp: ArrayNamespace, p: Params, current: Array) -> tuple[Array, ...]:
        """One time step; every array is ``(n, batch)``."""
        rate = xp.relu(current)
        if isinstance(p.amplitude, float) and p.amplitude == 1:
            return (rate,)  # a product is another pass over memory, unless XLA fuses it
        return (p.amplitude * rate,)


class SpikingRectifiedLinearKernel(NeuronKernel):
    r"""Integrates the rectified current and fires once for each unit of it.

    .. math:: v \leftarrow v + \max(J, 0)\, dt, \quad
              s = \frac{a}{dt} \lfloor v \rfloor, \quad v \leftarrow v - \lfloor v \rfloor

    Parameters (one value per neuron): ``amplitude`` in output units.

    State: ``voltage``, the fraction of a spike that is due, in [0, 1).

    A surrogate gradient sees the threshold that is nearest. It goes through the reset,
    too: then each unit of current counts for about one spike, however long ago it was.
    """

    neuron_type = nengo.SpikingRectifiedLinear
    params = ("amplitude",)
    state = ("voltage",)
    rate_form = RectifiedLinearKernel
    crosses_threshold = True

    def derive(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """The height of one spike that lasts one step."""
        return dict(params, spike=params["amplitude"] / params["dt"])

    def step(
        self, xp: ArrayNamespace, p: Params, current: Array, voltage: Array
    ) -> tuple[Array, ...]:
        """One time step; every array is ``(n, batch)``."""
        voltage = voltage + xp.maximum(current, 0) * p.dt
        n_spikes = xp.floor(voltage)
        above = voltage - xp.maximum(xp.floor(voltage + 0.5), 1)
        n_spikes = self.spikes(xp, p, n_spikes, above, 1.0)
        return n_spikes * p.spike, voltage - n_spikes
