"""Neuron types beyond those of Nengo; they run in ``nengo.Simulator`` too."""

from __future__ import annotations

from typing import Any

import numpy as np
from nengo.dists import Uniform
from nengo.neurons import LIFRate, RectifiedLinear
from nengo.params import NumberParam

__all__ = ["ClippedReLU", "LeakyReLU", "SoftLIFRate", "SpikingLeakyReLU"]

#: below so many ``sigma`` the softplus function equals the exponential to rounding
LINEAR_TAIL = -37.0


class SoftLIFRate(LIFRate):
    r"""Firing rate of the LIF neuron, with its threshold smoothed.

    .. math::

       r = \frac{a}{\tau_{ref} + \tau_{rc} \ln(1 + 1 / \rho(J - 1))}, \quad
       \rho(x) = \sigma \ln(1 + e^{x / \sigma})

    The rate of `nengo.LIFRate` has an infinite slope at the threshold :math:`J = 1`, and
    none below it. Here the slope is finite, and positive everywhere, so that training
    with gradients gets out of silence. As ``sigma`` goes to zero, it becomes the rate of
    `nengo.LIFRate`.

    Gains and biases are those of a `nengo.LIFRate` neuron with the same maximum rates and
    intercepts, so that one type can take the place of the other in a trained network.
    Hence ``max_rates`` and ``intercepts`` are met approximately, the better the smaller
    ``sigma`` is; decoders are solved with the smoothed rates.

    Parameters
    ----------
    sigma : float, optional
        Width of the smoothed threshold, in units of current (where the threshold is one).
    tau_rc : float, optional
        Membrane time constant in seconds.
    tau_ref : float, optional
        Refractory period in seconds.
    amplitude : float, optional
        Factor of the output.
    initial_state : dict, optional
        There are no state variables, so that it must be empty.

    References
    ----------
    E. Hunsberger and C. Eliasmith (2015). Spiking deep networks with LIF neurons.
    arXiv:1510.08829.

    Examples
    --------
    >>> import nengo, nengo_dl
    >>> with nengo.Network() as net:
    ...     neurons = nengo_dl.SoftLIFRate(sigma=0.1)
    ...     ens = nengo.Ensemble(50, 1, neuron_type=neurons)
    """

    sigma = NumberParam("sigma", low=0, low_open=True)

    def __init__(
        self,
        sigma: float = 1.0,
        tau_rc: float = 0.02,
        tau_ref: float = 0.002,
        amplitude: float = 1,
        initial_state: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(tau_rc, tau_ref, amplitude, initial_state)
        self.sigma = sigma

    def rates(self, x: Any, gain: Any, bias: Any) -> np.ndarray:
        """Smoothed firing rates; see `nengo.neurons.NeuronType.rates`."""
        J = self.current(x, gain, bias)
        out = np.zeros_like(J)
        self.step(1, J, out)
        return out

    def step(self, dt: float, J: np.ndarray, output: np.ndarray) -> None:
        """The rate for each current, into ``output``."""
        x = (J - 1) / self.sigma
        drive = self.sigma * (np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))
        # far below the threshold the drive underflows, its logarithm does not
        tail = x < LINEAR_TAIL
        log = np.log1p(1 / np.where(tail, 1, drive))
        log = np.where(tail, drive - x - np.log(self.sigma), log)
        output[...] = self.amplitude / (self.tau_ref + self.tau_rc * log)


class LeakyReLU(RectifiedLinear):
    r"""Rate proportional to the current, with another slope for negative currents.

    .. math:: r = a J \text{ if } J \ge 0, \text{ else } a\, c\, J

    Gains and biases are those of `nengo.RectifiedLinear`: the rate is zero at the
    intercept, negative on one side of it, and ``max_rates`` (times ``amplitude``) at the
    end of the other.

    Parameters
    ----------
    negative_slope : float, optional
        Slope for negative currents, :math:`c`.
    amplitude : float, optional
        Factor of the output, :math:`a`.
    initial_state : dict, optional
        There are no state variables, so that it must be empty.

    References
    ----------
    A. L. Maas, A. Y. Hannun and A. Y. Ng (2013). Rectifier nonlinearities improve neural
    network acoustic models. ICML.

    Examples
    --------
    >>> import nengo_dl
    >>> rates = nengo_dl.LeakyReLU(0.1).rates([-1, 0.5], gain=[100], bias=[0])
    >>> rates.ravel().tolist()
    [-10.0, 50.0]
    """

    negative = True

    negative_slope = NumberParam("negative_slope")

    def __init__(
        self,
        negative_slope: float = 0.3,
        amplitude: float = 1,
        initial_state: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(amplitude, initial_state)
        self.negative_slope = negative_slope

    def _leaky(self, J):
        return np.where(J < 0, self.negative_slope * J, J)

    def rates(self, x: Any, gain: Any, bias: Any) -> np.ndarray:
        """Rates, also of spikes; see `nengo.neurons.NeuronType.rates`."""
        return self.amplitude * self._leaky(self.current(x, gain, bias))

    def step(self, dt: float, J: np.ndarray, output: np.ndarray) -> None:
        """The rate for each current, into ``output``."""
        output[...] = self.amplitude * self._leaky(J)


class ClippedReLU(RectifiedLinear):
    r"""Rate proportional to the current, up to a ceiling.

    .. math:: r = a \min(J, m) \text{ if } J \ge 0, \text{ else } a\, c\, J

    Gains and biases are those of `nengo.RectifiedLinear`; ``max_rates`` above the ceiling
    are not reached. Spikes with these rates are those of ``nengo.RegularSpiking`` (or
    ``nengo.PoissonSpiking``, ``nengo.StochasticSpiking``) with this as the base type.

    Parameters
    ----------
    max_value : float, optional
        Ceiling of the current, :math:`m`; the rate is at most ``amplitude * max_value``.
    negative_slope : float, optional
        Slope for negative currents, :math:`c`.
    amplitude : float, optional
        Factor of the output, :math:`a`.
    initial_state : dict, optional
        There are no state variables, so that it must be empty.

    References
    ----------
    A. G. Howard et al. (2017). MobileNets: Efficient convolutional neural networks for
    mobile vision applications. arXiv:1704.04861.

    Examples
    --------
    >>> import nengo_dl
    >>> rates = nengo_dl.ClippedReLU(6).rates([-1, 0.02, 0.5], gain=[100], bias=[0])
    >>> rates.ravel().tolist()
    [0.0, 2.0, 6.0]
    """

    max_value = NumberParam("max_value", low=0)
    negative_slope = NumberParam("negative_slope")

    def __init__(
        self,
        max_value: float = 6.0,
        negative_slope: float = 0.0,
        amplitude: float = 1,
        initial_state: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(amplitude, initial_state)
        self.max_value = max_value
        self.negative_slope = negative_slope

    @property
    def negative(self) -> bool:
        """Whether rates can be negative."""
        return self.negative_slope != 0

    def _clipped(self, J):
        below = self.negative_slope * np.minimum(J, 0)
        return np.clip(J, 0, self.max_value) + below

    def rates(self, x: Any, gain: Any, bias: Any) -> np.ndarray:
        """Rates; see `nengo.neurons.NeuronType.rates`."""
        return self.amplitude * self._clipped(self.current(x, gain, bias))

    def step(self, dt: float, J: np.ndarray, output: np.ndarray) -> None:
        """The rate for each current, into ``output``."""
        output[...] = self.amplitude * self._clipped(J)


class SpikingLeakyReLU(LeakyReLU):
    r"""Spikes at the rate of `LeakyReLU`, negative ones for negative currents.

    .. math:: v \leftarrow v + f(J)\, dt, \quad s = \frac{a}{dt} [v], \quad
              v \leftarrow v - [v]

    where :math:`f(J)` is :math:`J` or, if it is negative, :math:`c J`, and :math:`[v]` is
    :math:`v` rounded towards zero: a neuron stays silent until a whole spike of one sign
    is due. Several spikes in one step make a higher one.

    Parameters
    ----------
    negative_slope : float, optional
        Slope for negative currents, :math:`c`.
    amplitude : float, optional
        Factor of the output, :math:`a`; spikes are ``amplitude / dt`` high.
    initial_state : dict, optional
        First values of ``voltage``, the part of a spike that is due: a distribution or
        an array. Uniform in [0, 1) if it is not given.

    Examples
    --------
    >>> import nengo, nengo_dl
    >>> with nengo.Network() as net:
    ...     start = {"voltage": nengo.dists.Choice([0])}
    ...     neurons = nengo_dl.SpikingLeakyReLU(0.1, initial_state=start)
    ...     ens = nengo.Ensemble(50, 1, neuron_type=neurons)
    """

    state = {"voltage": Uniform(low=0, high=1)}
    spiking = True

    def step(  # pyright: ignore[reportIncompatibleMethodOverride]  # it has a state
        self, dt: float, J: np.ndarray, output: np.ndarray, voltage: np.ndarray
    ) -> None:
        """One time step: spikes into ``output``; changes ``voltage``."""
        voltage += self._leaky(J) * dt
        n_spikes = np.trunc(voltage)
        output[...] = (self.amplitude / dt) * n_spikes
        voltage -= n_spikes


def __dir__() -> list[str]:
    return sorted(__all__)  # what completion offers
