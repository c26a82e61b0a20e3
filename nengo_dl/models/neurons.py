"""Neuron types for networks that learn from spikes."""

from __future__ import annotations

from typing import Any

import numpy as np
from nengo.dists import Choice
from nengo.neurons import LIF, LIFRate
from nengo.params import NumberParam

__all__ = ["AdaptiveThresholdLIF", "AdaptiveThresholdLIFRate"]


class AdaptiveThresholdLIFRate(LIFRate):
    r"""Firing rate of a LIF neuron, with a threshold that grows with its own activity.

    .. math::

       r = \frac{a}{\tau_{ref} + \tau_{rc} \ln(1 + \vartheta / (J - \vartheta))}
       \quad\text{if } J > \vartheta, \text{ else } 0

    where :math:`\vartheta = 1 + \theta`, and :math:`\theta` grows by the number of spikes
    that are expected in a step, as it does in `AdaptiveThresholdLIF`:

    .. math:: \theta \leftarrow \theta e^{-dt / \tau_\theta} + c\, r\, dt / a

    Gains and biases are those of a `nengo.LIFRate` neuron: they hold for
    :math:`\theta = 0`.

    Parameters
    ----------
    tau_rc : float, optional
        Membrane time constant in seconds.
    tau_ref : float, optional
        Refractory period in seconds.
    amplitude : float, optional
        Factor of the output, :math:`a`.
    tau_theta : float, optional
        Time constant in seconds with which the threshold comes down again.
    inc_theta : float, optional
        Growth of the threshold by each spike, :math:`c`, as a fraction of the threshold
        of one. With 0 the threshold stays as it is for ever.
    initial_state : dict, optional
        First values of ``theta``: a distribution or an array. Zero if it is not given.

    Examples
    --------
    >>> import nengo, nengo_dl
    >>> with nengo.Network() as net:
    ...     neurons = nengo_dl.AdaptiveThresholdLIFRate(tau_theta=0.5, inc_theta=0.05)
    ...     ens = nengo.Ensemble(50, 1, neuron_type=neurons)
    """

    state = {"theta": Choice([0])}

    tau_theta = NumberParam("tau_theta", low=0, low_open=True)
    inc_theta = NumberParam("inc_theta", low=0)

    def __init__(
        self,
        tau_rc: float = 0.02,
        tau_ref: float = 0.002,
        amplitude: float = 1,
        tau_theta: float = 1e4,
        inc_theta: float = 0.004,
        initial_state: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(tau_rc, tau_ref, amplitude, initial_state)
        self.tau_theta = tau_theta
        self.inc_theta = inc_theta

    def step(  # pyright: ignore[reportIncompatibleMethodOverride]  # it has a state
        self, dt: float, J: np.ndarray, output: np.ndarray, theta: np.ndarray
    ) -> None:
        """One time step: rates into ``output``; changes ``theta``."""
        theta *= _kept(self, dt)
        threshold = 1 + theta
        above = J - threshold
        firing = above > 0
        ratio = threshold[firing] / above[firing]
        output[...] = 0
        output[firing] = self.amplitude / (self.tau_ref + self.tau_rc * np.log1p(ratio))
        theta += output * (self.inc_theta * dt / self.amplitude)


class AdaptiveThresholdLIF(LIF):
    r"""A LIF neuron whose threshold rises with each of its spikes.

    .. math::

       \tau_{rc} \frac{dv}{dt} = J - v, \quad
       v > 1 + \theta \Rightarrow \text{spike}, \; v \leftarrow 0,
       \; \theta \leftarrow \theta + c, \quad
       \tau_\theta \frac{d\theta}{dt} = -\theta

    A neuron that has fired often needs a larger current from then on, so that none of a
    population stays the one that always answers. `nengo.AdaptiveLIF` subtracts its
    adaptation from the current instead: there noise around the lowest voltage still leads
    to spikes, however far the neuron has adapted.

    The time of a spike is interpolated within the step, as in `nengo.LIF`; where the
    threshold came down to the voltage, it is the beginning of the step. With
    ``inc_theta`` and :math:`\theta` zero it is a `nengo.LIF` neuron, whose gains and
    biases it has.

    Parameters
    ----------
    tau_rc : float, optional
        Membrane time constant in seconds.
    tau_ref : float, optional
        Refractory period in seconds.
    min_voltage : float, optional
        The lowest voltage, as a fraction of the threshold of one; not above zero.
    amplitude : float, optional
        Factor of the output; spikes are ``amplitude / dt`` high.
    tau_theta : float, optional
        :math:`\tau_\theta`, with which the threshold comes down again, in seconds.
    inc_theta : float, optional
        Growth of the threshold by each spike, :math:`c`, as a fraction of the threshold
        of one. With 0 the threshold stays as it is for ever: so a network is tested with
        the thresholds ``seen`` that another one has learned,
        ``AdaptiveThresholdLIF(inc_theta=0, initial_state={"theta": seen})``.
    initial_state : dict, optional
        First values of ``voltage`` (uniform in [0, 1) if they are not given),
        ``refractory_time`` in seconds and ``theta`` (zero): distributions or arrays.

    Notes
    -----
    The defaults are those of Diehl & Cook (2015) as fractions of the threshold: 0.05 mV
    of 13 mV. With ``tau_theta`` of 0.2 to 2 seconds it is the adaptive neuron of
    Bellec et al. (2018). When trained as rates it is `AdaptiveThresholdLIFRate`; a
    surrogate gradient is taken of the distance from the present threshold, as a fraction
    of it.

    References
    ----------
    P. U. Diehl and M. Cook (2015). Unsupervised learning of digit recognition using
    spike-timing-dependent plasticity. Frontiers in Computational Neuroscience 9.

    G. Bellec, D. Salaj, A. Subramoney, R. Legenstein and W. Maass (2018). Long short-term
    memory and learning-to-learn in networks of spiking neurons. NeurIPS.

    Examples
    --------
    >>> import nengo, nengo_dl
    >>> with nengo.Network() as net:
    ...     neurons = nengo_dl.AdaptiveThresholdLIF(tau_theta=0.5, inc_theta=0.05)
    ...     ens = nengo.Ensemble(50, 1, neuron_type=neurons)
    ...     thresholds = nengo.Probe(ens.neurons, "theta")
    """

    state = {**LIF.state, "theta": Choice([0])}

    tau_theta = NumberParam("tau_theta", low=0, low_open=True)
    inc_theta = NumberParam("inc_theta", low=0)

    def __init__(
        self,
        tau_rc: float = 0.02,
        tau_ref: float = 0.002,
        min_voltage: float = 0,
        amplitude: float = 1,
        tau_theta: float = 1e4,
        inc_theta: float = 0.004,
        initial_state: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(tau_rc, tau_ref, min_voltage, amplitude, initial_state)
        self.tau_theta = tau_theta
        self.inc_theta = inc_theta

    def step(  # pyright: ignore[reportIncompatibleMethodOverride]  # one state more
        self,
        dt: float,
        J: np.ndarray,
        output: np.ndarray,
        voltage: np.ndarray,
        refractory_time: np.ndarray,
        theta: np.ndarray,
    ) -> None:
        """One time step: spikes into ``output``; changes the state."""
        theta *= _kept(self, dt)
        threshold = 1 + theta
        refractory_time -= dt
        active = np.clip(dt - refractory_time, 0, dt)
        voltage -= (J - voltage) * np.expm1(-active / self.tau_rc)
        spiked = voltage > threshold
        output[...] = spiked * (self.amplitude / dt)

        v, over, drive = voltage[spiked], threshold[spiked], J[spiked]
        longest = -np.expm1(-dt / self.tau_rc)  # what the voltage can cross in a step
        rising = drive > v
        part = (v - over) / np.where(rising, drive - over, 1)
        part = np.where(rising, np.minimum(part, longest), longest)
        refractory_time[spiked] = self.tau_ref + dt + self.tau_rc * np.log1p(-part)
        np.maximum(voltage, self.min_voltage, out=voltage)
        voltage[spiked] = 0
        theta[spiked] += self.inc_theta


def _kept(neurons, dt):
    """What is left of the adaptation after a step; all of it if it never grows."""
    return np.exp(-dt / neurons.tau_theta) if neurons.inc_theta else 1.0


def __dir__() -> list[str]:
    return sorted(__all__)  # what completion offers
