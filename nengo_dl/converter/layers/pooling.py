"""Layers that average over positions."""

from __future__ import annotations

from typing import Any

import keras
import nengo
import numpy as np

from nengo_dl.converter.base import LayerConverter, converters
from nengo_dl.converter.layers.spatial import SpatialConverter
from nengo_dl.kernels import windows

__all__ = [
    "ConvertAveragePooling",
    "ConvertGlobalAveragePooling",
    "ConvertGlobalMaxPooling",
    "ConvertMaxPooling",
]


@converters.register(
    keras.layers.AveragePooling1D,
    keras.layers.AveragePooling2D,
    keras.layers.AveragePooling3D,
)
class ConvertAveragePooling(SpatialConverter):
    r"""Converts average pooling to a connection with a fixed sparse matrix.

    .. math:: y_{p c} = \frac{1}{|W_p|} \sum_{q \in W_p} x_{q c}

    :math:`W_p` are the positions of window :math:`p` that are in the picture: with
    ``padding="same"`` windows at the borders have fewer.
    """

    def convert(self) -> Any:
        """A constant sparse matrix."""
        node = self.node(self.output_size)
        shape = (self.output_size, self.input.size)
        transform = nengo.Sparse(shape, *self.entries())
        self.connect(node, transform)
        return node

    def spans(self) -> Any:
        """The length of the windows, and where they lie, for each axis."""
        layer = self.layer
        lengths = layer.pool_size
        return lengths, windows.forward(self.size, lengths, layer.strides, layer.padding)

    def entries(self) -> Any:
        """Indices ``(n, 2)`` and values ``(n,)`` of the matrix."""
        lengths, spans = self.spans()
        axes = [
            _along_axis(n, length, span)
            for n, length, span in zip(self.size, lengths, spans, strict=True)
        ]
        counts = [span.count for span in spans]
        channels = self.input.shape[self.channel_axis]
        rows = np.zeros((1, 1), int)  # (entries, channels), in the shape of the output
        columns, values = rows, np.ones(1)
        for n, count, (to, origin, share) in zip(self.size, counts, axes, strict=True):
            rows = (rows[:, None] * count + to[:, None]).reshape(-1, 1)
            columns = (columns[:, None] * n + origin[:, None]).reshape(-1, 1)
            values = np.outer(values, share).ravel()
        c = np.arange(channels)
        if self.channels_last:
            rows, columns = rows * channels + c, columns * channels + c
        else:
            rows = rows + c * int(np.prod(counts))
            columns = columns + c * int(np.prod(self.size))
        indices = np.stack([rows.ravel(), columns.ravel()], 1)
        return indices, np.repeat(values, channels)


def _along_axis(n, length, span):
    """Windows along one axis: of each entry, which window, which position, its share."""
    to = np.repeat(np.arange(span.count), length)
    origin = to * span.stride - span.before + np.tile(np.arange(length), span.count)
    inside = (origin >= 0) & (origin < n)
    to, origin = to[inside], origin[inside]
    return to, origin, 1 / np.bincount(to, minlength=span.count)[to]


@converters.register(
    keras.layers.GlobalAveragePooling1D,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalAveragePooling3D,
)
class ConvertGlobalAveragePooling(ConvertAveragePooling):
    r"""Averages over all positions.

    .. math:: y_c = \frac{1}{n} \sum_p x_{p c}
    """

    def spans(self) -> Any:
        """One window, which covers all positions."""
        return self.size, [windows.Windows(1, 1, 0, 0) for _ in self.size]


class ConvertMaximum(LayerConverter):
    """Maxima, which are averages if the user wants it so."""

    def refusal(self) -> str | None:
        """Fall back, unless averages are wanted."""
        if self.options.max_to_avg_pool:
            return None
        return (
            "a maximum has no native form; with max_to_avg_pool=True it becomes an "
            "average, which spikes can be used with, but which computes something else: "
            "unless the model is trained with average pooling, accuracy may be lost"
        )

    def convert(self) -> Any:
        """An average, which is not what the model was trained with."""
        self.options.warn(
            "Converter: max_to_avg_pool=True replaces maxima by averages, which the "
            "weights of this model were not trained for; a network that was right in 92 "
            "% of all cases was right in 13 % afterwards. Compare the outputs, and train "
            "the network (Simulator.fit), or the model with average pooling"
        )
        return super().convert()


@converters.register(
    keras.layers.MaxPooling1D,
    keras.layers.MaxPooling2D,
    keras.layers.MaxPooling3D,
)
class ConvertMaxPooling(ConvertMaximum, ConvertAveragePooling):
    """Maxima over windows: averages with ``max_to_avg_pool``, else a TensorNode."""


@converters.register(
    keras.layers.GlobalMaxPooling1D,
    keras.layers.GlobalMaxPooling2D,
    keras.layers.GlobalMaxPooling3D,
)
class ConvertGlobalMaxPooling(ConvertMaximum, ConvertGlobalAveragePooling):
    """Maxima over all positions: averages with ``max_to_avg_pool``, else a TensorNode."""
