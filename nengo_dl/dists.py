"""Distributions to start training from; they run in ``nengo.Simulator`` too."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from nengo.dists import Distribution
from nengo.params import EnumParam, NumberParam

__all__ = ["Glorot", "He", "TruncatedNormal", "VarianceScaling"]

#: standard deviation of a standard normal distribution that is cut off at +-2:
#: sqrt(1 - 2 * 2 * phi(2) / (Phi(2) - Phi(-2))), phi its density, Phi its integral
STDDEV_WITHIN_2 = 0.8796256610342398


class TruncatedNormal(Distribution):
    r"""A normal distribution, without what is further from the mean than a limit.

    .. math:: p(x) \propto e^{-(x - \mu)^2 / 2 \sigma^2}, \quad |x - \mu| \le l

    Parameters
    ----------
    mean : float, optional
        :math:`\mu`.
    stddev : float, optional
        :math:`\sigma`, the standard deviation before anything is cut off; not negative.
    limit : float, optional
        :math:`l`; not negative. Default: two standard deviations.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If ``stddev`` or ``limit`` is negative.

    Examples
    --------
    >>> samples = nengo_dl.dists.TruncatedNormal(mean=1, stddev=0.1).sample(1000)
    >>> bool(samples.min() >= 0.8 and samples.max() <= 1.2)
    True
    """

    mean = NumberParam("mean")
    stddev = NumberParam("stddev", low=0)
    limit = NumberParam("limit", low=0, optional=True)

    def __init__(
        self, mean: float = 0, stddev: float = 1, limit: float | None = None
    ) -> None:
        super().__init__()
        self.mean = mean
        self.stddev = stddev
        self.limit = limit

    def sample(self, n: int, d: int | None = None, rng: Any = np.random) -> np.ndarray:
        """Draw ``(n, d)`` samples, or ``(n,)`` if ``d`` is None."""
        limit = 2 * self.stddev if self.limit is None else self.limit
        samples = np.zeros(self._sample_shape(n, d))
        if self.stddev > 0 and limit > 0:
            missing = np.ones(samples.shape, dtype=bool)
            while missing.any():
                drawn, kept = self._propose(int(missing.sum()), limit, rng)
                samples[missing] = drawn
                missing[missing] = ~kept
        return self.mean + samples

    def _propose(self, size, limit, rng):
        """Samples, and which of them to keep; the others have to be drawn again.

        More than half of them are kept, whatever the limit: within one standard
        deviation the density is so flat that samples are drawn evenly, and thinned out.
        """
        if limit > self.stddev:
            drawn = rng.normal(0, self.stddev, size=size)
            return drawn, np.abs(drawn) <= limit
        drawn = rng.uniform(-limit, limit, size=size)
        return drawn, rng.uniform(size=size) <= np.exp(-0.5 * (drawn / self.stddev) ** 2)


class VarianceScaling(Distribution):
    r"""Zero mean, and a variance that fits the size of the matrix that is drawn.

    .. math:: \operatorname{Var}(W_{ij}) = \text{scale} / \text{fan}

    A sum of :math:`\text{fan}` products of weights and independent inputs then has the
    variance of one input, times ``scale``.

    Parameters
    ----------
    scale : float, optional
        Factor on the variance; not negative.
    mode : {"fan_in", "fan_out", "fan_avg"}, optional
        What counts of a matrix ``(n, d)``: the number of inputs, ``d``, or of outputs,
        ``n``, or the average of both. Vectors are matrices with ``d`` = 1.
    distribution : {"uniform", "normal"}, optional
        Its shape. The normal distribution is cut off at two standard deviations, and its
        variance is the one above after that.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If an argument has a value that it cannot have.

    Examples
    --------
    >>> weights = nengo_dl.dists.VarianceScaling(2, mode="fan_in").sample(100, 400)
    >>> weights.shape, round(float(weights.var()), 3)
    ((100, 400), 0.005)
    """

    scale = NumberParam("scale", low=0)
    mode = EnumParam("mode", values=("fan_in", "fan_out", "fan_avg"))
    distribution = EnumParam("distribution", values=("uniform", "normal"))

    def __init__(
        self,
        scale: float = 1,
        mode: Literal["fan_in", "fan_out", "fan_avg"] = "fan_avg",
        distribution: Literal["uniform", "normal"] = "uniform",
    ) -> None:
        super().__init__()
        self.scale = scale
        self.mode = mode
        self.distribution = distribution

    def sample(self, n: int, d: int | None = None, rng: Any = np.random) -> np.ndarray:
        """Draw ``(n, d)`` samples, or ``(n,)`` if ``d`` is None."""
        fan_in, fan_out = (1 if d is None else d), n
        fans = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}
        stddev = np.sqrt(self._variance() / max(fans[self.mode], 1))
        if self.distribution == "normal":
            return TruncatedNormal(0, stddev / STDDEV_WITHIN_2).sample(n, d, rng)
        limit = np.sqrt(3) * stddev  # the variance of a uniform distribution is limit^2/3
        return rng.uniform(-limit, limit, size=self._sample_shape(n, d))

    def _variance(self) -> float:
        """The variance of a sum of products with inputs of unit variance."""
        return self.scale


class Glorot(VarianceScaling):
    r"""Weights that keep the variance of activities and of gradients from layer to layer.

    .. math::

       \operatorname{Var}(W_{ij}) =
       \text{scale} \frac{2}{\text{fan}_{in} + \text{fan}_{out}}

    For neurons whose response is linear around zero, such as `nengo.Tanh`.

    Parameters
    ----------
    scale : float, optional
        Factor on the variance; not negative.
    distribution : {"uniform", "normal"}, optional
        See `VarianceScaling`.

    References
    ----------
    Glorot & Bengio (2010), *Understanding the difficulty of training deep feedforward
    neural networks*, AISTATS.

    Examples
    --------
    >>> with nengo.Network():
    ...     a, b = nengo.Node(np.ones(4)), nengo.Node(size_in=2)
    ...     connection = nengo.Connection(a, b, transform=nengo_dl.dists.Glorot())
    """

    def __init__(
        self,
        scale: float = 1,
        distribution: Literal["uniform", "normal"] = "uniform",
    ) -> None:
        super().__init__(scale=scale, mode="fan_avg", distribution=distribution)


class _AsInThePaper(float):
    """The default of `He`, which reads 1: once what the paper has."""


_AS_IN_THE_PAPER = _AsInThePaper(1)


class He(VarianceScaling):
    r"""Weights that keep the variance from layer to layer of rectified neurons.

    .. math:: \operatorname{Var}(W_{ij}) = \frac{2}{\text{fan}_{in}}

    Rectified neurons, such as `nengo.RectifiedLinear`, pass on half of what they get;
    the two makes up for that.

    Parameters
    ----------
    scale : float, optional
        Left out, the variance is the one above, that of the paper. A number that is given
        is a factor on a standard deviation without the two, as in NengoDL 3:
        :math:`\operatorname{Var}(W_{ij}) = \text{scale}^2 / \text{fan}_{in}`. So
        ``He()`` and ``He(np.sqrt(2))`` are the same, and ``He(1)`` has half of their
        variance. Not negative.
    distribution : {"uniform", "normal"}, optional
        See `VarianceScaling`.

    References
    ----------
    He et al. (2015), *Delving deep into rectifiers*, ICCV.

    Examples
    --------
    >>> with nengo.Network():
    ...     a, b = nengo.Node(np.ones(4)), nengo.Node(size_in=2)
    ...     connection = nengo.Connection(a, b, transform=nengo_dl.dists.He())
    """

    def __init__(
        self,
        scale: float = _AS_IN_THE_PAPER,
        distribution: Literal["uniform", "normal"] = "normal",
    ) -> None:
        scale = np.sqrt(2) if isinstance(scale, _AsInThePaper) else scale
        super().__init__(scale=scale, mode="fan_in", distribution=distribution)

    def _variance(self) -> float:
        return self.scale**2


def __dir__() -> list[str]:
    return sorted(__all__)  # what completion offers
