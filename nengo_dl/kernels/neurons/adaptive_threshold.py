"""Leaky integrate-and-fire neurons whose threshold adapts to their own activity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from nengo_dl.compiler.traits import Array, ArrayNamespace, Params
from nengo_dl.kernels.learning.outer import Change, ways
from nengo_dl.kernels.neurons.base import NeuronKernel
from nengo_dl.kernels.neurons.lif import leaked
from nengo_dl.models.neurons import AdaptiveThresholdLIF, AdaptiveThresholdLIFRate

if TYPE_CHECKING:
    from nengo_dl.compiler.lowering import Lowering


def _kept(params):
    """What is left of the adaptation after a step; all of it where it never grows."""
    decay = np.exp(-params["dt"] / params["tau_theta"])
    return np.where(np.asarray(params["inc_theta"]) > 0, decay, 1.0)


class ThresholdOfAll(Change):
    r"""A threshold that all items of a batch have in common, and each makes rise.

    .. math:: \theta \leftarrow \theta e^{-dt / \tau_\theta} + g \sum_b r_b

    Parameters, one value per neuron: ``kept``, :math:`e^{-dt / \tau_\theta}`; ``growth``,
    :math:`g`, for an output of one. Inputs: :math:`\theta`, ``(n, 1)``; the output of the
    neurons, :math:`r`, and what becomes of :math:`\theta` in each item by itself,
    ``(n, batch)``. Output: ``(n, 1)``.
    """

    name = "threshold"
    vectors = ("kept", "growth")
    by_item = (1, 2)

    def step(
        self, xp: ArrayNamespace, p: Params, theta: Array, output: Array, alone: Array
    ) -> tuple[Array, ...]:
        """One time step; of a single item it is what it is without the others."""
        if alone.shape[1] == 1:
            return (alone,)
        return (theta * p.kept + self.joined(xp, output) * p.growth,)


THRESHOLDS_OF_ALL = ways(ThresholdOfAll)


class SharingThresholds:
    """What the spiking and the rate form have in common: how thresholds may be shared."""

    adapting = ("theta",)

    def apply(self, op: Any, low: Lowering, current: np.ndarray, **more: Any) -> dict:
        """See `NeuronKernel.apply`; one more node for thresholds that items share."""
        kernel: Any = super()
        results = kernel.apply(op, low, current, **more)
        theta = op.state.get("theta")
        how = None if theta is None else low.joined(theta)
        if how is not None:
            n = current.size
            own: Any = self
            values = dict(own.values(op.neurons, n), dt=low.dt)
            growth = values["inc_theta"] * low.dt / values["amplitude"]
            params = {"kept": np.broadcast_to(_kept(values), n), "growth": growth}
            inputs = [low.previous(theta).ravel(), results[op.output], results[theta]]
            joining = THRESHOLDS_OF_ALL[how]
            (results[theta],) = low.node(joining, inputs, [n], params, label="threshold")
        return results


class AdaptiveThresholdLIFRateKernel(SharingThresholds, NeuronKernel):
    r"""Firing rate of a LIF neuron, with a threshold that grows with its own activity.

    .. math::

       r = \frac{a}{\tau_{ref} + \tau_{rc} \ln(1 + \vartheta / (J - \vartheta))}
       \quad\text{if } J > \vartheta = 1 + \theta, \text{ else } 0, \qquad
       \theta \leftarrow \theta e^{-dt / \tau_\theta} + c\, r\, dt / a

    Parameters (one value per neuron): ``tau_rc``, ``tau_ref`` in seconds, ``amplitude``,
    :math:`a`, in output units, ``tau_theta``, :math:`\tau_\theta`, in seconds,
    ``inc_theta``, :math:`c`.

    State: ``theta``, :math:`\theta` before the decay, as a fraction of the threshold of
    one. In the first formula it is that after it.

    References: Bellec, Salaj, Subramoney, Legenstein & Maass (2018), Long short-term
    memory and learning-to-learn in networks of spiking neurons, NeurIPS.
    """

    neuron_type = AdaptiveThresholdLIFRate
    params = ("tau_rc", "tau_ref", "amplitude", "tau_theta", "inc_theta")
    state = ("theta",)
    zero_preserving = True

    def derive(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """How much of the adaptation is left after a step, and its growth by a rate."""
        growth = params["inc_theta"] * params["dt"] / params["amplitude"]
        return dict(params, kept=_kept(params), growth=growth)

    def step(
        self, xp: ArrayNamespace, p: Params, current: Array, theta: Array
    ) -> tuple[Array, ...]:
        """One time step; every array is ``(n, batch)``."""
        theta = theta * p.kept
        threshold = theta + 1
        j = current - threshold
        firing = j > 0
        # the branch that is not taken must be finite, or its gradient spoils the other
        j = xp.where(firing, j, xp.ones_like(j))
        rate = p.amplitude / (p.tau_ref + p.tau_rc * xp.log1p(threshold / j))
        rate = xp.where(firing, rate, xp.zeros_like(rate))
        return rate, theta + p.growth * rate


class AdaptiveThresholdLIFKernel(SharingThresholds, NeuronKernel):
    r"""Spiking LIF, with a threshold that rises with each of its own spikes.

    .. math::

       \tau_{rc} \frac{dv}{dt} = J - v, \quad
       v > 1 + \theta \Rightarrow \text{spike}, \; \theta \leftarrow \theta + c, \quad
       \tau_\theta \frac{d\theta}{dt} = -\theta

    Parameters (one value per neuron): those of the LIF neuron, ``tau_theta``,
    :math:`\tau_\theta`, in seconds, ``inc_theta``, :math:`c`.

    State: ``voltage`` (dimensionless), ``refractory_time`` (seconds), ``theta``,
    :math:`\theta`, as a fraction of the threshold of one.

    In training it is `AdaptiveThresholdLIFRateKernel`: the same threshold, driven by
    rates. A surrogate gradient goes back in time through the voltage and the threshold;
    refractory periods are detached, and the reset stops it.

    References: Diehl & Cook (2015), Unsupervised learning of digit recognition using
    spike-timing-dependent plasticity, Frontiers in Computational Neuroscience 9.
    """

    neuron_type = AdaptiveThresholdLIF
    params = (
        "tau_rc",
        "tau_ref",
        "amplitude",
        "min_voltage",
        "tau_theta",
        "inc_theta",
    )
    state = ("voltage", "refractory_time", "theta")
    rate_form = AdaptiveThresholdLIFRateKernel
    crosses_threshold = True

    def derive(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """Constants of the exponentials, and how far a voltage can come in a step."""
        ratio = params["dt"] / params["tau_rc"]
        longest = -np.expm1(-ratio)
        return dict(
            params,
            spike=params["amplitude"] / params["dt"],
            minus_rate=-1 / params["tau_rc"],
            kept=_kept(params),
            longest=longest,
            largest_exponent=float(np.max(ratio)),
            largest_part=float(np.max(longest)),
        )

    def step(
        self,
        xp: ArrayNamespace,
        p: Params,
        current: Array,
        voltage: Array,
        refractory_time: Array,
        theta: Array,
    ) -> tuple[Array, ...]:
        """One time step; every array is ``(n, batch)``."""
        theta = xp.materialize(theta * p.kept)
        threshold = theta + 1
        refractory_time = self.detached(xp, p, refractory_time) - p.dt
        voltage = leaked(xp, p, current, voltage, refractory_time)
        spiked = voltage > threshold
        zero, one = xp.zeros_like(voltage), xp.ones_like(voltage)
        # which part of the way to the current lies above the threshold; a voltage that
        # the threshold came down to was there from the beginning of the step. The state
        # stands on the left: a current may be constant, a plain tensor, which compares
        # itself with nothing that lies batch first
        rising = spiked & (voltage < current)
        part = (voltage - threshold) / xp.where(rising, current - threshold, one)
        part = xp.where(rising, xp.minimum(part, p.longest), zero + p.longest)
        part = xp.where(spiked, part, zero)
        since = p.dt + p.tau_rc * xp.log1p(-part, bound=p.largest_part)
        above = (voltage - threshold) / threshold
        n_spikes = self.spikes(xp, p, xp.where(spiked, one, zero), above, 1.0)
        voltage = xp.where(spiked, zero, xp.maximum(voltage, p.min_voltage))
        refractory_time = xp.materialize(
            xp.where(spiked, p.tau_ref + since, refractory_time)
        )
        theta = theta + p.inc_theta * n_spikes
        state = voltage, self.detached(xp, p, refractory_time), theta
        return n_spikes * p.spike, *state
