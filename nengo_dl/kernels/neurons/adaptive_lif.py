"""Leaky integrate-and-fire neurons that adapt to their own activity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import nengo

from nengo_dl.compiler.traits import Array, ArrayNamespace, Params
from nengo_dl.kernels.neurons.lif import LIFKernel, LIFRateKernel


def _derive_adaptation(params):
    """How much of the way adaptation goes within a step."""
    return dict(params, adapting=params["dt"] / params["tau_n"])


def _adapt(p, adaptation, output):
    """Adaptation after a step with this output."""
    return adaptation + p.adapting * (p.inc_n * output - adaptation)


class AdaptiveLIFRateKernel(LIFRateKernel):
    r"""Firing rate of the LIF neuron, with a current that grows with its own activity.

    .. math::

       r = f_{LIF}(J - n), \quad \tau_n \frac{dn}{dt} = c\, r - n

    Parameters (one value per neuron): ``tau_rc``, ``tau_ref`` and ``tau_n``,
    :math:`\tau_n`, in seconds, ``amplitude`` in output units, ``inc_n``, :math:`c`.

    State: ``adaptation``, :math:`n`, in units of current. Euler's method.

    References: La Camera, Rauch, Lüscher, Senn & Fusi (2004), Minimal models of adapted
    neuronal response to in vivo-like input currents, Neural Computation 16(10).
    """

    neuron_type = nengo.AdaptiveLIFRate
    params = (*LIFRateKernel.params, "tau_n", "inc_n")
    state = ("adaptation",)

    def derive(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """See `_derive_adaptation`."""
        return _derive_adaptation(super().derive(params))

    def step(  # pyright: ignore[reportIncompatibleMethodOverride]  # one state more
        self, xp: ArrayNamespace, p: Params, current: Array, adaptation: Array
    ) -> tuple[Array, ...]:
        """One time step; every array is ``(n, batch)``."""
        (rate,) = super().step(xp, p, current - adaptation)
        return rate, _adapt(p, adaptation, rate)


class AdaptiveLIFKernel(LIFKernel):
    r"""Spiking LIF, with a current that grows with each of its own spikes.

    .. math::

       \tau_{rc} \frac{dv}{dt} = J - n - v, \quad v > 1 \Rightarrow \text{spike},
       \quad \tau_n \frac{dn}{dt} = c\, s - n

    where :math:`s` is the output, spikes as high as ``amplitude / dt``.

    Parameters (one value per neuron): those of the LIF neuron, ``tau_n``,
    :math:`\tau_n`, in seconds, ``inc_n``, :math:`c`.

    State: ``voltage`` (dimensionless), ``refractory_time`` (seconds), ``adaptation``,
    :math:`n`, in units of current. Euler's method.

    In training it is `AdaptiveLIFRateKernel`: the same adaptation, driven by rates.

    References: La Camera, Rauch, Lüscher, Senn & Fusi (2004), Minimal models of adapted
    neuronal response to in vivo-like input currents, Neural Computation 16(10).
    """

    neuron_type = nengo.AdaptiveLIF
    params = (*LIFKernel.params, "tau_n", "inc_n")
    state = (*LIFKernel.state, "adaptation")
    rate_form = AdaptiveLIFRateKernel

    def derive(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """Constants of the LIF neuron, and those of the adaptation."""
        return _derive_adaptation(super().derive(params))

    def step(  # pyright: ignore[reportIncompatibleMethodOverride]  # one state more
        self,
        xp: ArrayNamespace,
        p: Params,
        current: Array,
        voltage: Array,
        refractory_time: Array,
        adaptation: Array,
    ) -> tuple[Array, ...]:
        """One time step; every array is ``(n, batch)``."""
        current = xp.materialize(current - adaptation)
        spikes, *state = super().step(xp, p, current, voltage, refractory_time)
        return spikes, *state, _adapt(p, adaptation, spikes)
