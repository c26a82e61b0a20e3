"""Leaky integrate-and-fire neurons: their rate, and their spikes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import nengo
import numpy as np

from nengo_dl.compiler.traits import Array, ArrayNamespace, Params
from nengo_dl.kernels.neurons.base import NeuronKernel
from nengo_dl.neurons import SoftLIFRate


class LIFRateKernel(NeuronKernel):
    r"""Steady-state firing rate of the LIF neuron.

    .. math::

       r = \frac{a}{\tau_{ref} + \tau_{rc} \ln(1 + 1 / (J - 1))}
       \quad\text{if } J > 1, \text{ else } 0

    Parameters (one value per neuron): ``tau_rc`` and ``tau_ref`` in seconds,
    ``amplitude`` in output units.

    References: Eliasmith & Anderson (2003), *Neural Engineering*, ch. 4.
    """

    neuron_type = nengo.LIFRate
    params = ("tau_rc", "tau_ref", "amplitude")
    zero_preserving = True
    smooth_form = SoftLIFRate

    def highest_rate(self, neurons: Any) -> float:
        """A spike after each refractory period."""
        return neurons.amplitude / neurons.tau_ref if neurons.tau_ref else math.inf

    def step(self, xp: ArrayNamespace, p: Params, current: Array) -> tuple[Array, ...]:
        """One time step; every array is ``(n, batch)``."""
        j = current - 1
        firing = j > 0
        # the branch that is not taken must be finite, or its gradient spoils the other
        j = xp.where(firing, j, xp.ones_like(j))
        rate = p.amplitude / (p.tau_ref + p.tau_rc * xp.log1p(1 / j))
        return (xp.where(firing, rate, xp.zeros_like(rate)),)


def leaked(
    xp: ArrayNamespace, p: Params, current: Array, voltage: Array, refractory_time: Array
) -> Array:
    """The voltage after what a step has left of the refractory period.

    Three results follow from it, and XLA would compute it for each of them (128 x 32
    neurons, one item: 20 against 8.8 us a step), so it is kept.
    """
    active = xp.clip(p.dt - refractory_time, 0, p.dt)
    decay = xp.expm1(active * p.minus_rate, bound=p.largest_exponent)
    return xp.materialize(voltage - (current - voltage) * decay)


class LIFKernel(NeuronKernel):
    r"""Spiking LIF, with the time of the spike interpolated within the step.

    .. math:: \tau_{rc} \frac{dv}{dt} = J - v, \quad v > 1 \Rightarrow \text{spike}

    Parameters (one value per neuron): ``tau_rc``, ``tau_ref`` in seconds, ``amplitude``
    in output units, ``min_voltage`` (dimensionless).

    State: ``voltage`` (dimensionless), ``refractory_time`` (seconds).

    With a surrogate gradient, which goes back in time through the voltage, refractory
    periods are detached, and the reset stops it: a voltage of zero depends on nothing.

    References: Eliasmith & Anderson (2003), *Neural Engineering*, ch. 4.
    """

    neuron_type = nengo.LIF
    params = ("tau_rc", "tau_ref", "amplitude", "min_voltage")
    state = ("voltage", "refractory_time")
    rate_form = LIFRateKernel
    crosses_threshold = True

    def derive(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """Constants of the two exponentials.

        A neuron integrates for at most ``dt`` within a step, so ``expm1`` is taken at
        ``|x| <= dt / tau_rc``. It started the step at ``v <= 1``, so relative to the
        drive it is above threshold by ``(v - 1) / (J - 1) <= 1 - exp(-dt / tau_rc)``.
        """
        ratio = params["dt"] / np.min(params["tau_rc"])
        return dict(
            params,
            spike=params["amplitude"] / params["dt"],
            minus_rate=-1 / params["tau_rc"],
            largest_exponent=float(ratio),
            largest_overshoot=float(-np.expm1(-ratio)),
        )

    def step(
        self,
        xp: ArrayNamespace,
        p: Params,
        current: Array,
        voltage: Array,
        refractory_time: Array,
    ) -> tuple[Array, ...]:
        """One time step; every array is ``(n, batch)``."""
        refractory_time = self.detached(xp, p, refractory_time) - p.dt
        voltage = leaked(xp, p, current, voltage, refractory_time)
        spiked = voltage > 1
        one = xp.ones_like(voltage)
        overshoot = (voltage - 1) / xp.where(spiked, current - 1, one)
        overshoot = xp.where(spiked, overshoot, xp.zeros_like(overshoot))
        # since the voltage crossed one: dt + tau_rc * log(1 - overshoot) into the step
        since = p.dt + p.tau_rc * xp.log1p(-overshoot, bound=p.largest_overshoot)
        zero = xp.zeros_like(voltage)
        spikes = xp.where(spiked, zero + p.spike, zero)
        spikes = self.spikes(xp, p, spikes, voltage - 1, p.spike)
        voltage = xp.where(spiked, zero, xp.maximum(voltage, p.min_voltage))
        # a long expression too: kept, so that it is not split between threads
        refractory_time = xp.materialize(
            xp.where(spiked, p.tau_ref + since, refractory_time)
        )
        return spikes, voltage, self.detached(xp, p, refractory_time)
