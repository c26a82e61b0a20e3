"""Spiking neurons with the two variables of Izhikevich (2003)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import nengo
import numpy as np

from nengo_dl.compiler.traits import Array, ArrayNamespace, Params
from nengo_dl.kernels.neurons.base import NeuronKernel

#: currents below this make Euler's method unstable at steps of 1 ms
LOWEST_CURRENT = -30.0

#: where a spike has its top, in mV
PEAK = 30.0

#: the equations are in milliseconds
MS_PER_SECOND = 1000.0


class IzhikevichKernel(NeuronKernel):
    r"""Two differential equations that show the spiking patterns of cortical cells.

    .. math::

       \frac{dv}{dt} = 0.04 v^2 + 5 v + 140 - u + J, \quad
       \frac{du}{dt} = a (b v - u), \quad
       v \ge 30 \Rightarrow \text{spike}, v \leftarrow c, u \leftarrow u + d

    with time in milliseconds, :math:`J \ge -30`, and Euler's method; :math:`u` already
    sees the voltage after a spike.

    Parameters (one value per neuron): ``tau_recovery``, :math:`a`, per millisecond;
    ``coupling``, :math:`b`; ``reset_voltage``, :math:`c`, in mV; ``reset_recovery``,
    :math:`d`.

    State: ``voltage``, :math:`v`, in mV; ``recovery``, :math:`u`.

    There is no closed form of the firing rate, so training runs the spikes themselves.
    They are steps of constant height: the gradient with respect to the current is zero
    through the output, and passes through the state between spikes only. It takes a
    surrogate gradient to train them (with the setting ``spiking_training``).

    References: Izhikevich (2003), Simple model of spiking neurons, IEEE Transactions on
    Neural Networks 14(6).
    """

    neuron_type = nengo.Izhikevich
    params = ("tau_recovery", "coupling", "reset_voltage", "reset_recovery")
    state = ("voltage", "recovery")
    crosses_threshold = True

    def derive(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """The height of one spike that lasts one step, and the way from the reset."""
        way = np.maximum(PEAK - params["reset_voltage"], 1.0)
        return dict(params, spike=1 / params["dt"], per_way=1 / way)

    def step(
        self,
        xp: ArrayNamespace,
        p: Params,
        current: Array,
        voltage: Array,
        recovery: Array,
    ) -> tuple[Array, ...]:
        """One time step; every array is ``(n, batch)``."""
        # in core's order of operations: the upstroke magnifies errors of rounding
        current = xp.maximum(current, LOWEST_CURRENT)
        parabola = 0.04 * (voltage * voltage) + 5 * voltage + 140
        slope = (parabola - recovery + current) * MS_PER_SECOND
        voltage = xp.materialize(voltage + slope * p.dt)
        spiked = voltage >= PEAK
        zero = xp.zeros_like(voltage)
        spikes = xp.where(spiked, zero + p.spike, zero)
        spikes = self.spikes(xp, p, spikes, (voltage - PEAK) * p.per_way, p.spike)
        voltage = xp.where(spiked, zero + p.reset_voltage, voltage)
        slope = p.tau_recovery * (p.coupling * voltage - recovery) * MS_PER_SECOND
        recovery = recovery + slope * p.dt
        recovery = xp.where(spiked, recovery + p.reset_recovery, recovery)
        return spikes, voltage, recovery
