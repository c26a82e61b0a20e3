"""Layers that are a matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import nengo
import numpy as np

from nengo_dl.converter.base import converters, numbers
from nengo_dl.converter.layers.weighted import WeightedSums

if TYPE_CHECKING:
    from nengo_dl.converter.base import Target

__all__ = ["ConvertDense", "ConvertEinsumDense"]


@converters.register(keras.layers.Dense)
class ConvertDense(WeightedSums):
    r"""Weighted sums along the last axis.

    .. math:: y_{\ldots j} = f\Bigl(\sum_i x_{\ldots i} W_{ij} + b_j\Bigr)

    An input with several axes is a convolution with a kernel of one position, so that
    all positions share the weights.
    """

    works_per_step = True
    positionwise = True

    def transposed(self) -> bool | None:
        """Whether the layer's kernel is ``(n_out, n_in)``."""
        return False

    def kernel(self) -> np.ndarray:
        """The matrix, ``(n_in, n_out)``."""
        kernel = numbers(self.layer.kernel)
        return kernel.T if self.transposed() else kernel

    def weigh(self, target: Target | Any) -> None:
        """Connect the input by one matrix of weights.

        A layer that is called with one position here and several ones there is a
        convolution everywhere, because connections with the same weights need them in
        the same form.
        """
        kernel = self.kernel()
        positions = self.input.size // kernel.shape[0]
        transposed = bool(self.transposed())
        if positions == 1 and len(self.maker.input_shapes(self.layer)) <= 1:
            transform = nengo.Dense(kernel.T.shape, init=kernel.T)
            transposed = not transposed
        else:
            transform = nengo.Convolution(
                n_filters=kernel.shape[1],
                input_shape=(positions, kernel.shape[0]),
                kernel_size=(1,),
                strides=(1,),
                padding="valid",
                init=kernel[None],
            )
        kernel = self.layer.kernel
        self.connect(target, transform, variable=kernel, transposed=transposed)


@converters.register(keras.layers.EinsumDense)
class ConvertEinsumDense(ConvertDense):
    """Sums along the last axis, written as an equation such as ``"abc,cd->abd"``."""

    positionwise = False  # its bias may differ

    def transposed(self) -> bool | None:
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

    def refusal(self) -> str | None:
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
        return super().refusal()

    def bias_channels(self) -> np.ndarray:
        """The bias has one or several of the axes of the output."""
        shape = self.layer.bias.shape
        places = np.arange(int(np.prod(shape))).reshape(shape)
        return np.broadcast_to(places, self.output_shape)
