"""Leaky integrate-and-fire neurons that adapt to their own activity."""

import nengo

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

    def derive(self, params):
        """See `_derive_adaptation`."""
        return _derive_adaptation(super().derive(params))

    def step(self, xp, p, current, adaptation):
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

    def derive(self, params):
        """Constants of the LIF neuron, and those of the adaptation."""
        return _derive_adaptation(super().derive(params))

    def step(self, xp, p, current, voltage, refractory_time, adaptation):
        """One time step; every array is ``(n, batch)``."""
        current = xp.materialize(current - adaptation)
        spikes, *state = super().step(xp, p, current, voltage, refractory_time)
        return spikes, *state, _adapt(p, adaptation, spikes)
