"""Layers that are a matrix."""

import keras
import nengo
import numpy as np

from nengo_dl.converter.base import LayerConverter, converters, numbers

__all__ = ["ConvertDense"]


@converters.register(keras.layers.Dense)
class ConvertDense(LayerConverter):
    r"""Weighted sums along the last axis.

    .. math:: y_{\ldots j} = f\Bigl(\sum_i x_{\ldots i} W_{ij} + b_j\Bigr)

    An input with several axes is a convolution with a kernel of one position, so that
    all positions share the weights.
    """

    works_per_step = True
    positionwise = True

    def refusal(self):
        """Low-rank updates and quantized weights are left to Keras."""
        return unusual_weights(self.layer)

    def convert(self):
        """A connection to a node or neurons."""
        layer = self.layer
        target = self.target(layer.activation)
        kernel = numbers(layer.kernel)
        self.connect(
            target,
            positionwise(kernel, self.input.shape),
            variable=layer.kernel,
        )
        if layer.use_bias:
            self.add_bias(target, layer.bias, self.channels_of(-1))
        return target.output


def unusual_weights(layer):
    """A reason why the weights of a layer are not one plain matrix; None if they are."""
    if getattr(layer, "lora_enabled", False):
        return "it has low-rank updates (lora_rank)"
    if getattr(layer, "quantization_mode", None) is not None:
        return f"its weights are quantized ({layer.quantization_mode})"
    return None


def positionwise(kernel, shape):
    """The transform that applies a matrix along the last axis.

    Parameters
    ----------
    kernel : (n_in, n_out) ndarray
    shape : tuple of int
        Of the input.

    Returns
    -------
    ~nengo.Dense or ~nengo.Convolution
    """
    positions = int(np.prod(shape[:-1], dtype=int))
    if positions == 1:
        return nengo.Dense(kernel.T.shape, init=kernel.T)
    return nengo.Convolution(
        n_filters=kernel.shape[1],
        input_shape=(positions, kernel.shape[0]),
        kernel_size=(1,),
        strides=(1,),
        padding="valid",
        init=kernel[None],
    )


@converters.register(keras.layers.EinsumDense)
class ConvertEinsumDense(LayerConverter):
    """Sums along the last axis, written as an equation such as ``"abc,cd->abd"``."""

    works_per_step = True

    def transposed(self):
        """Whether the kernel is ``(out, in)``; None if the equation is another one."""
        left, _, result = self.layer.equation.replace(" ", "").partition("->")
        given, _, kernel = left.partition(",")
        front, axis = given[:-1], given[-1]
        if len(kernel) != 2 or not result.startswith(front) or axis not in kernel:
            return None
        new = result[len(front) :]
        if len(new) != 1 or new in given or sorted(kernel) != sorted(axis + new):
            return None
        return kernel[0] == new

    def refusal(self):
        """Only one axis can be summed over, the last one."""
        if self.transposed() is None:
            return f"the equation {self.layer.equation!r} is not along the last axis only"
        bias = self.layer.bias
        if (
            self.temporal
            and bias is not None
            and len(bias.shape) > len(self.output_shape)
        ):
            return "its bias differs between time steps"
        return unusual_weights(self.layer)

    def convert(self):
        """As for Dense."""
        layer = self.layer
        target = self.target(layer.activation)
        kernel = numbers(layer.kernel)
        kernel = kernel.T if self.transposed() else kernel
        transform = positionwise(kernel, self.input.shape)
        self.connect(target, transform, variable=layer.kernel)
        if layer.bias is not None:
            places = np.arange(int(np.prod(layer.bias.shape))).reshape(layer.bias.shape)
            self.add_bias(target, layer.bias, np.broadcast_to(places, self.output_shape))
        return target.output
