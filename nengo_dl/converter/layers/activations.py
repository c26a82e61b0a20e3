"""Layers that consist of an activation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import nengo

from nengo_dl.converter.activations import (
    OPERATIONS,
    activation_of,
    advice_for,
    find_neurons,
    swapped,
)
from nengo_dl.converter.base import LayerConverter, converters

if TYPE_CHECKING:
    from nengo_dl.converter.base import Target


class ConvertElementwise(LayerConverter):
    """A function of each element: neurons with their input."""

    works_per_step = True
    positionwise = True

    def refusal(self) -> str | None:
        """Fall back if neither a neuron type nor a swap is known."""
        if find_neurons(self.layer, self.options)[1]:
            return None
        if swapped(self.layer, self.options)[1]:
            return None  # a TensorNode of what takes its place, not of the layer
        name = getattr(activation_of(self.layer), "__name__", "")
        return f"there is no neuron type for {self.describe()}{advice_for(name)}"

    def describe(self) -> str:
        """The function, for messages."""
        function = activation_of(self.layer)
        return f"the activation {getattr(function, '__name__', function)!r}"

    def convert(self) -> Any:
        """Connect the input to neurons."""
        target = self.target(self.layer)
        if target.input is target.output and not self.is_neurons(target):
            return self.input.obj
        self.connect(target)
        return target.output

    @staticmethod
    def is_neurons(target: Target | Any) -> bool:
        """Whether there is anything to compute."""
        return isinstance(target.output, nengo.ensemble.Neurons)


@converters.register(keras.layers.Activation)
class ConvertActivation(ConvertElementwise):
    """Activation: neurons of the type that has the same output."""


@converters.register(keras.layers.ReLU)
class ConvertReLU(ConvertElementwise):
    r"""Converts ``ReLU`` layers that have no ``threshold`` to neurons.

    .. math:: f(x) = \min(\max(x, 0), m) + c \min(x, 0)

    With ``max_value=6`` it is the activation ``relu6``.
    """

    def describe(self) -> str:
        """The parameters of the layer, as text for the summary."""
        layer = self.layer
        return f"max_value={layer.max_value}, threshold={layer.threshold}"


@converters.register(keras.layers.LeakyReLU)
class ConvertLeakyReLU(ConvertElementwise):
    r"""LeakyReLU: :math:`f(x) = x` if :math:`x \ge 0`, else :math:`c x`."""


@converters.register(*OPERATIONS)
class ConvertActivationFunction(ConvertElementwise):
    """An activation that is called as a function, such as ``keras.ops.relu(x)``."""
