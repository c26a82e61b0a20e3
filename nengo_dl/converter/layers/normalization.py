"""Layers that move and scale each channel."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import keras
import numpy as np

from nengo_dl.converter.base import LayerConverter, converters, numbers

__all__ = []


class ConvertChannelwise(LayerConverter):
    r"""One factor and one offset for each channel, :math:`y = a_c x + b_c`."""

    works_per_step = True

    @abstractmethod
    def coefficients(self) -> tuple[np.ndarray, np.ndarray]:
        """Arrays ``a``, ``b`` that can be broadcast to ``(1, *output_shape)``."""

    def convert(self) -> Any:
        """A connection with the factors, and constants."""
        node = self.node(self.output_size)
        factor, offset = (
            np.broadcast_to(array, (1, *self.output_shape)).ravel()
            for array in self.coefficients()
        )
        self.connect(node, factor)
        if np.any(offset):
            self.add_bias(node, offset)
        return node


@converters.register(keras.layers.BatchNormalization)
class ConvertBatchNormalization(ConvertChannelwise):
    r"""Batch normalization with the moving averages.

    .. math:: y = \gamma \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta
    """

    def refusal(self) -> str | None:
        """Training uses the statistics of the batch."""
        if self.axis(self.layer.axis) < 0:
            return "it normalizes along the axis of time"
        if self.options.inference_only or not self.layer.trainable:
            return None
        return (
            "in training it uses the statistics of the batch; inference_only=True uses "
            "the moving averages"
        )

    def coefficients(self) -> tuple[np.ndarray, np.ndarray]:
        """From the moving averages."""
        layer = self.layer
        factor = 1 / np.sqrt(numbers(layer.moving_variance) + layer.epsilon)
        if layer.gamma is not None:
            factor = factor * numbers(layer.gamma)
        offset = -numbers(layer.moving_mean) * factor
        if layer.beta is not None:
            offset = offset + numbers(layer.beta)
        shape = [1] * (len(self.output_shape) + 1)
        shape[self.axis(layer.axis) + 1] = -1
        return factor.reshape(shape), offset.reshape(shape)


@converters.register(keras.layers.Normalization)
class ConvertNormalization(ConvertChannelwise):
    r"""Normalization with the mean and the variance that the layer was adapted to.

    .. math:: y = \frac{x - \mu}{\max(\sigma, \epsilon)}
    """

    def refusal(self) -> str | None:
        """Mean and variance have to be there, and the same for all time steps."""
        mean = getattr(self.layer, "mean", None)
        if mean is None:
            return "it has not been adapted to data"
        if self.temporal and np.ndim(mean) > 1 and np.shape(mean)[1] != 1:
            return "it normalizes each time step differently"
        return None

    def coefficients(self) -> tuple[np.ndarray, np.ndarray]:
        """From mean and variance."""
        layer = self.layer
        mean, variance = numbers(layer.mean), numbers(layer.variance)
        if self.temporal and mean.ndim > 1:
            mean, variance = mean[:, 0], variance[:, 0]
        deviation = np.maximum(np.sqrt(variance), keras.backend.epsilon())
        if layer.invert:
            return deviation, mean
        return 1 / deviation, -mean / deviation
