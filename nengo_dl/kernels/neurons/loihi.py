"""The neuron types of ``nengo_loihi``, which fire as often as the chip Loihi does.

They are found by name, so that the package need not be there. What is said of the chip
here is from ``nengo_loihi`` 1.1.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import nengo
import numpy as np
from nengo.builder.signal import Signal

from nengo_dl.compiler.traits import Array, ArrayNamespace, Params
from nengo_dl.kernels.algebra import with_gradients
from nengo_dl.kernels.neurons.base import NeuronKernel, neuron_kernels
from nengo_dl.kernels.neurons.lif import LIFKernel, leaked
from nengo_dl.neurons import SoftLIFRate
from nengo_dl.notices import label_of, warn

if TYPE_CHECKING:
    from nengo_dl.compiler.lowering import Lowering

#: the chip has 12 bits for how much of a voltage is left after a step
DECAY_STEPS = 2**12 - 1


def on_chip(params: Mapping[str, Any], dt: float) -> dict[str, Any]:
    r"""Time constants as the chip has them.

    .. math::

       d = \operatorname{round}\bigl(4095\,(1 - e^{-dt / \tau_{rc}})\bigr) / 4095, \quad
       \tau_{rc} \leftarrow \frac{-dt}{\ln(1 - d)}, \quad
       \tau_{ref} \leftarrow dt \operatorname{round}(\tau_{ref} / dt)

    Parameters
    ----------
    params : dict
        With ``tau_rc`` and ``tau_ref`` in seconds, arrays.
    dt : float
        Length of a time step in seconds.

    Returns
    -------
    dict
        The parameters, with the time constants replaced.
    """
    decay = -np.expm1(-dt / params["tau_rc"])
    decay = np.round(decay * DECAY_STEPS) / DECAY_STEPS
    # all of a voltage may be lost in a step, or nothing of it
    with np.errstate(divide="ignore"):
        tau_rc = -dt / np.log1p(-decay)
    tau_ref = dt * np.round(params["tau_ref"] / dt)
    return dict(params, tau_rc=tau_rc, tau_ref=tau_ref)


class WholeSteps(NeuronKernel):
    """What rates share that are those of spikes with whole steps in between.

    They are steps themselves, so their derivative is zero everywhere. Gradients are those
    of rates without steps.
    """

    differentiable = False
    zero_preserving = True

    def derive(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """The height of one spike that lasts one step."""
        return dict(params, spike=params["amplitude"] / params["dt"])

    def in_whole_steps(
        self, xp: ArrayNamespace, p: Params, firing: Array, period: Array
    ) -> Array:
        r"""The rate :math:`\frac{a}{dt} / \lceil T / dt \rceil` where neurons fire."""
        rate = p.spike / -xp.floor(-(period / p.dt))
        return xp.where(firing, rate, xp.zeros_like(rate))


class LoihiLIFRateKernel(WholeSteps):
    r"""Firing rate of the LIF neuron of the chip.

    .. math::

       T = \tau_{ref} + \tau_{rc} \ln(1 + 1 / (J - 1)), \quad
       r = \frac{a}{dt} \Big/ \left\lceil \frac{T}{dt} \right\rceil
       \quad\text{if } J > 1, \text{ else } 0

    with time constants as in `on_chip`. In training its gradient is that of
    ``nengo.LIFRate`` with these time constants.

    Parameters (one value per neuron): ``tau_rc`` and ``tau_ref`` in seconds,
    ``amplitude`` in output units.
    """

    name = "LoihiLIFRate"
    params = ("tau_rc", "tau_ref", "amplitude")
    smooth_form = SoftLIFRate

    def derive(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """Time constants of the chip, and the height of a spike."""
        return super().derive(on_chip(params, params["dt"]))

    def step(self, xp: ArrayNamespace, p: Params, current: Array) -> tuple[Array, ...]:
        """One time step; every array is ``(n, batch)``."""
        j = current - 1
        firing = j > 0
        j = xp.where(firing, j, xp.ones_like(j))
        period = p.tau_ref + p.tau_rc * xp.log1p(1 / j)
        return (self.in_whole_steps(xp, p, firing, period),)


class LoihiRectifiedLinearKernel(WholeSteps):
    r"""Firing rate of the integrate-and-fire neuron of the chip.

    .. math::

       r = \frac{a}{dt} \Big/ \left\lceil \frac{1}{J\, dt} \right\rceil
       \quad\text{if } J > 0, \text{ else } 0

    In training its gradient is that of ``nengo.RectifiedLinear``.

    Parameters (one value per neuron): ``amplitude`` in output units.
    """

    name = "LoihiRectifiedLinear"
    params = ("amplitude",)

    def step(self, xp: ArrayNamespace, p: Params, current: Array) -> tuple[Array, ...]:
        """One time step; every array is ``(n, batch)``."""
        firing = current > 0
        j = xp.where(firing, current, xp.ones_like(current))
        return (self.in_whole_steps(xp, p, firing, 1 / j),)


def _rates_with_gradient(results, kind, op, low, current, params):
    """Rates in whole steps, with the gradient of those of the neuron type ``kind``."""
    if getattr(op.neurons, "nengo_dl_noise", None) is not None:
        warn(
            f"the noise nengo_dl_noise={op.neurons.nengo_dl_noise} of "
            f"{label_of(op.neurons)} is "
            "left out: neurons are trained with their rates as they are. For noise in "
            "training, connect a keras.layers.GaussianNoise (nengo_dl.Layer) behind them",
            once=("nengo_dl_noise", type(op.neurons)),
        )
    kernel = neuron_kernels.exact(kind)
    assert kernel is not None, f"{kind} has a kernel"
    params = {name: params[name] for name in kernel.params}
    label = f"rates of {label_of(op.neurons)}"
    (like,) = low.node(kernel, [current], [current.size], params, label=label)
    return with_gradients(low, results, {op.output: like})


class LoihiLIFKernel(LIFKernel):
    r"""LIF neuron that spikes at the end of a step, and rests for whole steps.

    .. math:: \tau_{rc} \frac{dv}{dt} = J - v, \quad v > 1 \Rightarrow \text{spike}

    with time constants as in `on_chip`. After a spike the voltage is zero for
    :math:`\tau_{ref}`.

    Parameters and state: those of `LIFKernel`.
    """

    neuron_type = "nengo_loihi.neurons.LoihiLIF"
    rate_form = LoihiLIFRateKernel

    def derive(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """Constants of the exponential; see `LIFKernel.derive`."""
        params = on_chip(params, params["dt"])
        ratio = params["dt"] / np.min(params["tau_rc"])
        return dict(
            params,
            spike=params["amplitude"] / params["dt"],
            minus_rate=-1 / params["tau_rc"],
            largest_exponent=float(ratio),
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
        zero = xp.zeros_like(voltage)
        spikes = xp.where(spiked, zero + p.spike, zero)
        spikes = self.spikes(xp, p, spikes, voltage - 1, p.spike)
        voltage = xp.where(spiked, zero, xp.maximum(voltage, p.min_voltage))
        rest = zero + (p.tau_ref + p.dt)
        refractory_time = xp.where(spiked, rest, refractory_time)
        return spikes, voltage, self.detached(xp, p, refractory_time)

    def rates(
        self, op: Any, low: Lowering, current: np.ndarray
    ) -> dict[Signal, np.ndarray]:
        """Rates in whole steps, whose gradient is that of ``LIFRate`` or a smooth one."""
        results = super().rates(op, low, current)
        if low.spikes.lif_smoothing is not None:
            return results
        params = dict(on_chip(self.values(op.neurons, current.size), low.dt), dt=low.dt)
        return _rates_with_gradient(results, nengo.LIFRate, op, low, current, params)


class LoihiSpikingRectifiedLinearKernel(NeuronKernel):
    r"""Integrates its input, and fires once at most in a step.

    .. math:: v \leftarrow \max(v + J\, dt, 0), \quad v > 1 \Rightarrow \text{spike},
              \quad v \leftarrow 0

    What is above the threshold is lost.

    Parameters (one value per neuron): ``amplitude`` in output units.

    State: ``voltage`` (dimensionless), in [0, 1].
    """

    neuron_type = "nengo_loihi.neurons.LoihiSpikingRectifiedLinear"
    params = ("amplitude",)
    state = ("voltage",)
    rate_form = LoihiRectifiedLinearKernel
    crosses_threshold = True

    def derive(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """The height of one spike that lasts one step."""
        return dict(params, spike=params["amplitude"] / params["dt"])

    def step(
        self, xp: ArrayNamespace, p: Params, current: Array, voltage: Array
    ) -> tuple[Array, ...]:
        """One time step; every array is ``(n, batch)``."""
        voltage = xp.materialize(voltage + current * p.dt)
        spiked = voltage > 1
        zero = xp.zeros_like(voltage)
        spikes = xp.where(spiked, zero + p.spike, zero)
        spikes = self.spikes(xp, p, spikes, voltage - 1, p.spike)
        return spikes, xp.where(spiked, zero, xp.maximum(voltage, 0))

    def rates(
        self, op: Any, low: Lowering, current: np.ndarray
    ) -> dict[Signal, np.ndarray]:
        """Rates in whole steps with the gradient of ``nengo.RectifiedLinear``."""
        results = super().rates(op, low, current)
        params = self.values(op.neurons, current.size)
        return _rates_with_gradient(
            results, nengo.RectifiedLinear, op, low, current, params
        )
