r"""Surrogate gradients: what is taken for the derivative of a spike.

A spike is a step function of the membrane potential, :math:`s = \Theta(x)`, whose
derivative is zero or infinite. With the setting ``spiking_training``, `.Simulator.fit`
runs the spikes themselves, and goes back through them as if their derivative were a
*surrogate* [1]_: a function of how far the potential is from the threshold. The forward
pass is that of inference, to the bit.

.. math::

   \frac{\partial s}{\partial v} := \frac{a}{\Delta t} \, \frac{h(x)}{v_{th} - v_{reset}},
   \qquad x = \frac{v - v_{th}}{v_{th} - v_{reset}}

with the height of a spike, :math:`a / \Delta t`. The distance :math:`x` has no unit: 0 at
the threshold, -1 at the reset potential. :math:`v` is the potential before the reset, and
the gradient goes back in time through its dynamics (backpropagation through time). What
a reset takes away from the potential has no gradient of its own, and neither have
refractory periods [2]_; only neurons without leak, such as
`nengo.SpikingRectifiedLinear`, count it, since nothing else would limit how long their
potential remembers.

References
----------
.. [1] E. O. Neftci, H. Mostafa and F. Zenke (2019). Surrogate gradient learning in
   spiking neural networks. IEEE Signal Processing Magazine 36(6). An overview.
.. [2] F. Zenke and T. P. Vogels (2021). The remarkable robustness of surrogate gradient
   learning for instilling complex function in spiking neural networks. Neural
   Computation 33(4).

Examples
--------
>>> with nengo.Network() as net:
...     nengo_dl.configure_settings(
...         spiking_training=True, surrogate=nengo_dl.surrogates.Triangle(width=0.5)
...     )
"""

from __future__ import annotations

import math
import numbers
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from nengo.exceptions import ValidationError

__all__ = [
    "ArcTan",
    "FastSigmoid",
    "Gaussian",
    "RateDerivative",
    "StraightThrough",
    "Surrogate",
    "Triangle",
]


class Surrogate(ABC):
    """Base of all surrogates; to add one, write `derivative`.

    Surrogates are values: they do not change, and those with equal parameters are equal.

    Attributes
    ----------
    params : tuple of str
        The attributes that hold its parameters.
    of_membrane : bool
        Whether it is a function of the membrane potential, given by `derivative`. False:
        see `RateDerivative`.

    Examples
    --------
    >>> class Box(nengo_dl.surrogates.Surrogate):
    ...     def derivative(self, xp: Any, x: Any) -> Any:
    ...         return xp.where(xp.abs(x) < 0.5, xp.ones_like(x), xp.zeros_like(x))
    """

    params: tuple[str, ...] = ()
    of_membrane = True

    @abstractmethod
    def derivative(self, xp: Any, x: Any) -> Any:
        """What is taken for the derivative of one spike.

        Parameters
        ----------
        xp : array namespace
            NumPy, or what kernels compute with (see `.Kernel.step`).
        x : array
            Distance from the threshold, without unit: 0 at the threshold, -1 at the
            reset potential.

        Returns
        -------
        array, shaped as ``x``
        """

    def _values(self):
        return tuple(getattr(self, name) for name in self.params)

    def __eq__(self, other: Any) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        return hash((type(self), self._values()))

    def __repr__(self) -> str:
        pairs = zip(self.params, self._values(), strict=True)
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in pairs)})"

    def _positive(self, name, value):
        """A parameter that has to be a positive number."""
        number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if not number or not 0 < value < math.inf:  # pyright: ignore[reportOperatorIssue]  # numbers.Real
            raise ValidationError(
                f"expected a finite number greater than 0, got {value!r}",
                attr=name,
                obj=type(self),
            )
        return float(value)


class RateDerivative(Surrogate):
    r"""The gradient of the rate form: of how many spikes there are on average.

    .. math:: \frac{\partial s}{\partial J} := \frac{\partial r(J)}{\partial J}

    where :math:`J` is the input current of the same step and :math:`r` the firing rate
    that it would lead to if it lasted. The membrane potential is left out, so nothing
    flows back in time through the neuron; synapses and recurrent connections do carry
    gradients back. This is what is done without any surrogate (``surrogate=None``). It
    fits every spiking neuron that has a rate form.

    References
    ----------
    .. [1] E. Hunsberger and C. Eliasmith (2015). Spiking deep networks with LIF neurons.
       arXiv:1510.08829.
    .. [2] J. H. Lee, T. Delbruck and M. Pfeiffer (2016). Training deep spiking neural
       networks using backpropagation. Frontiers in Neuroscience 10.
    """

    of_membrane = False

    def derivative(self, xp: Any, x: Any) -> Any:
        """There is none: it is no function of the membrane potential."""
        raise TypeError(
            "nengo_dl.surrogates.RateDerivative is the gradient of the rate form, no "
            "function of the membrane potential; it has no derivative(xp, x)"
        )


class FastSigmoid(Surrogate):
    r"""The derivative of a fast sigmoid, known from SuperSpike.

    .. math:: h(x) = \frac{1}{(1 + \beta |x|)^2}

    Parameters
    ----------
    slope : float, optional
        :math:`\beta`, without unit: the larger, the narrower.

    References
    ----------
    .. [1] F. Zenke and S. Ganguli (2018). SuperSpike: supervised learning in multilayer
       spiking neural networks. Neural Computation 30(6).
    """

    params = ("slope",)

    def __init__(self, slope: float = 10.0) -> None:
        self.slope = self._positive("slope", slope)

    def derivative(self, xp: Any, x: Any) -> Any:
        """See `Surrogate.derivative`."""
        y = 1 + self.slope * xp.abs(x)
        return 1 / (y * y)


class ArcTan(Surrogate):
    r"""The derivative of an arctangent.

    .. math:: h(x) = \frac{\alpha / 2}{1 + (\frac{\pi}{2} \alpha x)^2}

    Parameters
    ----------
    alpha : float, optional
        :math:`\alpha`, without unit: the larger, the narrower and the higher.

    References
    ----------
    .. [1] W. Fang, Z. Yu, Y. Chen, T. Masquelier, T. Huang and Y. Tian (2021).
       Incorporating learnable membrane time constant to enhance learning of spiking
       neural networks. ICCV.
    """

    params = ("alpha",)

    def __init__(self, alpha: float = 2.0) -> None:
        self.alpha = self._positive("alpha", alpha)

    def derivative(self, xp: Any, x: Any) -> Any:
        """See `Surrogate.derivative`."""
        y = (math.pi / 2 * self.alpha) * x
        return (self.alpha / 2) / (1 + y * y)


class Triangle(Surrogate):
    r"""A triangle around the threshold.

    .. math:: h(x) = c \max\left(0, 1 - \frac{|x|}{w}\right)

    Parameters
    ----------
    width : float, optional
        :math:`w`, half of the base, without unit.
    height : float, optional
        :math:`c`; less than one dampens what flows back through many steps (Bellec et
        al. use 0.3).

    References
    ----------
    .. [1] S. K. Esser et al. (2016). Convolutional networks for fast, energy-efficient
       neuromorphic computing. PNAS 113(41).
    .. [2] G. Bellec, D. Salaj, A. Subramoney, R. Legenstein and W. Maass (2018). Long
       short-term memory and learning-to-learn in networks of spiking neurons. NeurIPS.
    """

    params = ("width", "height")

    def __init__(self, width: float = 1.0, height: float = 1.0) -> None:
        self.width = self._positive("width", width)
        self.height = self._positive("height", height)

    def derivative(self, xp: Any, x: Any) -> Any:
        """See `Surrogate.derivative`."""
        return self.height * xp.maximum(1 - xp.abs(x) / self.width, 0)


class Gaussian(Surrogate):
    r"""The density of a normal distribution.

    .. math:: h(x) = \frac{1}{\sqrt{2 \pi} \, \sigma} e^{-x^2 / (2 \sigma^2)}

    Parameters
    ----------
    sigma : float, optional
        :math:`\sigma`, without unit.

    References
    ----------
    .. [1] B. Yin, F. Corradi and S. M. Bohté (2021). Accurate and efficient time-domain
       classification with adaptive spiking recurrent neural networks. Nature Machine
       Intelligence 3.
    """

    params = ("sigma",)

    def __init__(self, sigma: float = 0.5) -> None:
        self.sigma = self._positive("sigma", sigma)

    def derivative(self, xp: Any, x: Any) -> Any:
        """See `Surrogate.derivative`."""
        y = x / self.sigma
        return 1 / (math.sqrt(2 * math.pi) * self.sigma) * xp.exp(-0.5 * (y * y))


class StraightThrough(Surrogate):
    r"""The gradient goes straight through, as if a spike were the potential itself.

    .. math:: h(x) = 1 \quad (\text{if } |x| \le w, \text{ else } 0)

    Parameters
    ----------
    width : float or None, optional
        :math:`w`, without unit; None for no limit.

    References
    ----------
    .. [1] Y. Bengio, N. Léonard and A. Courville (2013). Estimating or propagating
       gradients through stochastic neurons for conditional computation.
       arXiv:1308.3432.
    .. [2] I. Hubara, M. Courbariaux, D. Soudry, R. El-Yaniv and Y. Bengio (2016).
       Binarized neural networks. NeurIPS. With a limit.
    """

    params = ("width",)

    def __init__(self, width: float | None = None) -> None:
        self.width = None if width is None else self._positive("width", width)

    def derivative(self, xp: Any, x: Any) -> Any:
        """See `Surrogate.derivative`."""
        one = xp.ones_like(x)
        if self.width is None:
            return one
        return xp.where(xp.abs(x) <= self.width, one, xp.zeros_like(x))


def surrogate_named(name: str) -> Surrogate:
    """Look up a surrogate by its name; its parameters are the default ones.

    Parameters
    ----------
    name : str
        That of the class, in any case and with or without underscores.

    Raises
    ------
    ValueError
        If there is none.

    Examples
    --------
    >>> surrogate_named("fast_sigmoid") == nengo_dl.surrogates.FastSigmoid()
    True
    """
    plain = name.replace("_", "").lower()
    for known in __all__:
        found = globals()[known]
        if known.lower() == plain and found is not Surrogate:
            return found()
    raise ValueError(name)


@dataclass(frozen=True)
class SpikeTraining:
    """How the neurons of a network are trained.

    Parameters
    ----------
    spiking : bool
        Neurons spike in training, too. False: they take their rate form.
    surrogate : Surrogate
        How gradients go through spikes, unless ``own`` says something else.
    own : tuple of (hashable, Surrogate)
        The same for single populations, by the signals of their outputs.
    lif_smoothing : float or None
        The gradient of LIF rates is that of `.SoftLIFRate` with this ``sigma``.
    """

    spiking: bool = False
    surrogate: Surrogate = RateDerivative()
    own: tuple[tuple[Any, Surrogate], ...] = ()
    lif_smoothing: float | None = None

    def surrogate_of(self, signal: Any) -> Surrogate:
        """The surrogate of a population, by the signal of its output."""
        return dict(self.own).get(signal, self.surrogate)


def __dir__() -> list[str]:
    return sorted(__all__)  # what completion offers
