"""Convolutions, transposed, in groups, and in two steps.

Keras and Nengo have the same order of filters, ``(*kernel, channels / groups,
filters)``, and TensorFlow's way to pad, so that a layer is a connection to a node or to
neurons. Where Nengo has no such convolution, the input is put into another order first:

- ``padding="causal"``: with zeros before it.
- ``dilation_rate``, :math:`d`: an output only depends on every :math:`d`-th position, so
  that there are :math:`d` pictures (for each axis) which have nothing to do with each
  other. They are put below each other; then an ordinary convolution with the same
  filters treats all of them, and what is in two pictures is not used. In contrast to
  filters with zeros in them, this is also trained as in Keras.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import keras
import nengo
import numpy as np

from nengo_dl.converter.base import converters, numbers
from nengo_dl.converter.layers.spatial import SpatialConverter, place
from nengo_dl.converter.layers.weighted import WeightedSums
from nengo_dl.kernels import windows

if TYPE_CHECKING:
    from nengo_dl.converter.base import Target

__all__ = [
    "ConvertConvolution",
    "ConvertDepthwiseConvolution",
    "ConvertSeparableConvolution",
    "ConvertTransposedConvolution",
]


@converters.register(keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
class ConvertConvolution(WeightedSums, SpatialConverter):
    r"""Windows, each times the same filters.

    .. math:: y_{p k} = f\Bigl(\sum_{t, c} W_{t c k} \, x_{s p + d t, c} + b_k\Bigr)
    """

    def weigh(self, target: Target | Any) -> None:
        """Connect the input by one convolution."""
        layer = self.layer
        self.convolve(target, numbers(layer.kernel), layer.kernel, layer.groups)

    def bias_channels(self) -> np.ndarray:
        """One value for each channel."""
        return self.channels_of(self.channel_axis)

    def windows(self) -> Any:
        """Where the windows lie along each axis; with dilation, from end to end."""
        layer = self.layer
        causal = layer.padding == "causal"
        extent = [
            (k - 1) * d + 1
            for k, d in zip(layer.kernel_size, layer.dilation_rate, strict=True)
        ]
        before = [n - 1 if causal else 0 for n in extent]
        size = [n + b for n, b in zip(self.size, before, strict=True)]
        padding = "valid" if causal else layer.padding
        spans = windows.forward(size, extent, layer.strides, padding)
        return [
            span._replace(before=span.before + b)
            for span, b in zip(spans, before, strict=True)
        ]

    def convolve(
        self, target: Target | Any, kernel: np.ndarray, variable: Any, groups: int
    ) -> None:
        """Connect the input to a target with the layer's strides, padding and dilation.

        Parameters
        ----------
        target : Target or ~nengo.Node
        kernel : (*kernel, channels / groups, filters) ndarray
        variable : keras.Variable
        groups : int
        """
        layer = self.layer
        plain = max(layer.dilation_rate) == 1
        if plain and layer.padding != "causal":
            transform = self.transform(
                kernel, self.input.shape, groups, layer.strides, layer.padding
            )
            self.connect(target, transform, variable=variable)
            return
        spans = self.windows()
        frame = self._frame(spans)
        source = place(self, frame, "padded")
        strides = layer.strides if plain else None
        transform = self.transform(kernel, frame.shape, groups, strides)
        if plain:
            self.connect(target, transform, variable=variable, source=source)
            return
        mixed = self.node(transform.size_out, "dilated")
        self.connect(mixed, transform, variable=variable, source=source)
        picks = self._picks(spans, frame.shape, transform.output_shape.shape)
        self.connect(target, source=mixed[picks.ravel().tolist()])

    def transform(
        self,
        kernel: np.ndarray,
        shape: tuple[int, ...],
        groups: int = 1,
        strides: tuple[int, ...] | None = None,
        padding: str = "valid",
    ) -> Any:
        """A convolution of an array of this shape."""
        rank = len(shape) - 1
        return nengo.Convolution(
            n_filters=kernel.shape[-1],
            input_shape=tuple(shape),
            kernel_size=kernel.shape[:-2],
            strides=tuple(strides or (1,) * rank),
            padding=padding,
            channels_last=self.channels_last,
            init=kernel,
            groups=groups,
        )

    def _frame(self, spans):
        """The input with its borders; all pictures of a dilation below each other.

        Returns
        -------
        ndarray of int
            The number of each element, or -1 for zero.
        """
        dilation = self.layer.dilation_rate
        axes = []  # of each axis: (pictures, length), positions of the input
        for n, d, span in zip(self.size, dilation, spans, strict=True):
            length = -(-(n + span.before + span.after) // d)
            place_in = np.arange(length) * d + np.arange(d)[:, None] - span.before
            axes.append(np.where((place_in >= 0) & (place_in < n), place_in, -1))
        rank = len(axes)
        index, missing = np.zeros((1,) * (2 * rank), int), np.zeros(1, bool)
        for axis, (n, table) in enumerate(zip(self.size, axes, strict=True)):
            shape = [1] * (2 * rank)
            shape[axis], shape[rank + axis] = table.shape
            index = index * n + table.reshape(shape)
            missing = missing | (table < 0).reshape(shape)
        lengths = [table.shape[1] for table in axes]
        size = (-1, *lengths[1:])
        elements = np.moveaxis(self.positions(), self.channel_axis, -1)
        elements = elements.reshape(-1, elements.shape[-1])[index.reshape(size)]
        elements[missing.reshape(size)] = -1
        return np.moveaxis(elements, -1, self.channel_axis)

    def _picks(self, spans, frame, result):
        """Where the outputs are in what came of a frame with several pictures."""
        dilation = self.layer.dilation_rate
        pictures = int(np.prod(dilation))
        frame, size = self.without_channels(frame), self.without_channels(result)
        first = frame[0] // pictures  # rows of one picture
        start = np.meshgrid(
            *(np.arange(span.count) * span.stride for span in spans), indexing="ij"
        )
        picture, place_in = 0, []
        for position, d in zip(start, dilation, strict=True):
            picture = picture * d + position % d
            place_in.append(position // d)
        place_in[0] = place_in[0] + picture * first
        elements = np.arange(int(np.prod(result))).reshape(result)
        elements = np.moveaxis(elements, self.channel_axis, -1).reshape(*size, -1)
        return np.moveaxis(elements[tuple(place_in)], -1, self.channel_axis)


@converters.register(keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
class ConvertDepthwiseConvolution(ConvertConvolution):
    r"""Each channel with its own filters: a convolution with a group for each channel.

    .. math:: y_{p, c m + j} = f\Bigl(\sum_t W_{t c j} \, x_{s p + d t, c} + b\Bigr)
    """

    def weigh(self, target: Target | Any) -> None:
        """Connect the input by one convolution."""
        self.convolve_channels(target, self.layer.kernel)

    def convolve_channels(self, target: Target | Any, variable: Any) -> None:
        """Connect each channel of the input to as many as there are filters for it."""
        kernel = numbers(variable)
        channels = kernel.shape[-2]
        kernel = kernel.reshape(*kernel.shape[:-2], 1, -1)
        self.convolve(target, kernel, variable, channels)


@converters.register(keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)
class ConvertSeparableConvolution(ConvertDepthwiseConvolution):
    """Each channel with its own filters, then weighted sums of the channels."""

    def weigh(self, target: Target | Any) -> None:
        """A convolution to a node, and one of single positions from there."""
        layer = self.layer
        pointwise = numbers(layer.pointwise_kernel)
        size = [span.count for span in self.windows()]
        shape = self.with_channels(size, pointwise.shape[-2])
        between = self.node(math.prod(shape), "depthwise")
        self.convolve_channels(between, layer.depthwise_kernel)
        self.connect(
            target,
            self.transform(pointwise, shape),
            variable=layer.pointwise_kernel,
            source=between,
        )


@converters.register(
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)
class ConvertTransposedConvolution(ConvertConvolution):
    r"""The transpose of the convolution that makes the input's shape of the output's.

    .. math:: y_{q k} = f\Bigl(\sum_{s p + t = q} \sum_c W_{t k c} \, x_{p c} + b_k\Bigr)
    """

    def refusal(self) -> str | None:
        """Dilation and sizes that no convolution leads back from are left to Keras."""
        layer = self.layer
        if max(layer.dilation_rate) > 1:
            return f"it is a transposed convolution with dilation {layer.dilation_rate}"
        size = self.without_channels(self.output_shape)
        spans = windows.forward(size, layer.kernel_size, layer.strides, layer.padding)
        if tuple(span.count for span in spans) != self.size:
            return (
                f"no convolution makes {self.size} of its output's size {size} "
                f"(output_padding={layer.output_padding})"
            )
        return super().refusal()

    def weigh(self, target: Target | Any) -> None:
        """Connect the input by one transposed convolution."""
        layer = self.layer
        kernel = numbers(layer.kernel).swapaxes(-1, -2)
        transform = nengo.transforms.ConvolutionTranspose(
            n_filters=layer.filters,
            input_shape=self.input.shape,
            output_shape=self.output_shape,
            kernel_size=tuple(layer.kernel_size),
            strides=tuple(layer.strides),
            padding=layer.padding,
            channels_last=self.channels_last,
            init=kernel,
        )
        self.connect(target, transform, variable=layer.kernel, transposed=True)
