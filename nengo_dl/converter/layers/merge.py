"""Sums of several inputs, and products with constants."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from nengo_dl.converter.base import LayerConverter, converters, numbers
from nengo_dl.converter.graph_walk import operation_of

__all__ = ["ConvertWeightedSum"]


ADD, SUBTRACT = operation_of(lambda x: x + x), operation_of(lambda x: x - x)
MULTIPLY, DIVIDE = operation_of(lambda x: x * x), operation_of(lambda x: x / x)


class ConvertWeightedSum(LayerConverter):
    r"""A node that adds up its inputs, each times a factor.

    .. math:: y = \sum_i c_i x_i

    Inputs with axes of length one are repeated along them.
    """

    works_per_step = True

    def factors(self) -> list[float]:
        """One for each input."""
        return [1.0] * len(self.inputs)

    def refusal(self) -> str | None:
        """All inputs need the same number of axes, that of the batch included."""
        ranks = {len(array.shape) + array.temporal for array in self.inputs}
        return None if len(ranks) == 1 else "its inputs do not have equally many axes"

    def convert(self) -> Any:
        """One connection for each input."""
        node = self.node(self.output_size)
        for array, factor in zip(self.inputs, self.factors(), strict=True):
            source = array.obj
            if array.shape != self.output_shape:
                shape = (1,) * (len(self.output_shape) - len(array.shape)) + array.shape
                places = self.positions(array).reshape(shape)
                places = np.broadcast_to(places, self.output_shape)
                source = array.obj[places.ravel().tolist()]
            self.connect(node, None if factor == 1 else factor, source=source)
        return node


@converters.register(keras.layers.Add)
class ConvertAdd(ConvertWeightedSum):
    """Converts ``Add``: each input counts once."""


@converters.register(keras.layers.Average)
class ConvertAverage(ConvertWeightedSum):
    """Converts ``Average``: each input counts by its share."""

    def factors(self) -> list[float]:
        """Equal factors for all inputs."""
        return [1 / len(self.inputs)] * len(self.inputs)


@converters.register(keras.layers.Subtract)
class ConvertSubtract(ConvertWeightedSum):
    """Converts ``Subtract``: the second input counts negatively."""

    def factors(self) -> list[float]:
        """The second one is negative."""
        return [1.0, -1.0]


class ConvertOperator(LayerConverter):
    """An operator between tensors, or between a tensor and a constant."""

    works_per_step = True

    def operands(self) -> list[Any]:
        """The two arguments: an `Array`, or a constant with the shape of the output.

        Raises `ValueError` if a constant is not the same for all items of a batch and all
        steps.
        """
        arrays = iter(self.inputs)
        values = [id(value) for value in self.call.inputs]
        flat = [*self.call.args, *self.call.kwargs.values()]
        lost = 2 if self.temporal else 1
        operands = []
        for argument in flat:
            if id(argument) in values:
                operands.append(next(arrays))
                continue
            constant = numbers(argument)
            shape = (1,) * lost + self.output_shape
            operands.append(np.asarray(np.broadcast_to(constant, shape)[(0,) * lost]))
        return operands

    def refusal(self) -> str | None:
        """One of the arguments has to be a constant, if they are multiplied."""
        if any(isinstance(a, keras.Variable) for a in self.call.args):
            return "it uses a variable that belongs to no layer"
        try:
            return self.reason(self.operands())
        except ValueError:
            return "a constant differs between items of a batch, or between time steps"

    def reason(self, operands: list[Any]) -> str | None:
        """Why the layer cannot be converted, for `refusal`; None if it can."""
        if self.constants(operands) and self.input.shape != self.output_shape:
            return "a constant gives its input another shape"
        return None

    @staticmethod
    def constants(operands: list[Any]) -> list[Any]:
        """The arguments that are constants and no tensors."""
        return [operand for operand in operands if isinstance(operand, np.ndarray)]

    def scaled(self, factor: float) -> Any:
        """A node with the input times a constant, element by element."""
        node = self.node(self.output_size)
        self.connect(node, np.asarray(factor, np.float64).ravel())
        return node


@converters.register(ADD, SUBTRACT)
class ConvertSum(ConvertOperator, ConvertWeightedSum):
    """``a + b`` and ``a - b``."""

    def factors(self) -> list[float]:
        """The second one may be negative."""
        return [1.0, 1.0 if isinstance(self.layer, ADD) else -1.0]

    def reason(self, operands: list[Any]) -> str | None:
        """Why the layer cannot be converted, for `refusal`; None if it can."""
        if self.constants(operands):
            return super().reason(operands)
        return ConvertWeightedSum.refusal(self)

    def convert(self) -> Any:
        """A node with connections from both."""
        operands = self.operands()
        if not self.constants(operands):
            return ConvertWeightedSum.convert(self)
        node = self.node(self.output_size)
        for operand, factor in zip(operands, self.factors(), strict=True):
            if isinstance(operand, np.ndarray):
                self.add_bias(node, factor * operand)
            else:
                self.connect(node, None if factor == 1 else factor)
        return node


@converters.register(MULTIPLY, DIVIDE)
class ConvertProduct(ConvertOperator):
    """``a * b`` and ``a / b``, where one (of the latter, ``b``) is a constant."""

    def reason(self, operands: list[Any]) -> str | None:
        """Why the layer cannot be converted, for `refusal`; None if it can."""
        if not self.constants(operands):
            return "it multiplies or divides two tensors"
        if isinstance(self.layer, DIVIDE) and isinstance(operands[0], np.ndarray):
            return "it divides by a tensor"
        return super().reason(operands)

    def convert(self) -> Any:
        """Connect the input to a new node, with the constant as its factor."""
        (factor,) = self.constants(self.operands())
        return self.scaled(1 / factor if isinstance(self.layer, DIVIDE) else factor)


@converters.register(keras.layers.Rescaling)
class ConvertRescaling(LayerConverter):
    r"""Rescaling: :math:`y = c x + b`."""

    works_per_step = True

    def refusal(self) -> str | None:
        """Factors for each channel need the channels last."""
        sizes = {np.size(self.layer.scale), np.size(self.layer.offset)} - {1}
        if sizes - {self.output_shape[-1] if self.output_shape else 1}:
            return "its scale or offset does not have one value for each channel"
        return None

    def convert(self) -> Any:
        """A connection with the factor, and a constant."""
        layer = self.layer
        node = self.node(self.output_size)
        scale = np.broadcast_to(np.asarray(layer.scale, np.float64), self.output_shape)
        offset = np.broadcast_to(np.asarray(layer.offset, np.float64), self.output_shape)
        self.connect(node, scale.ravel())
        if np.any(offset):
            self.add_bias(node, offset)
        return node
