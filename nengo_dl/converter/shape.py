"""Layers that rearrange their input."""

import keras
import numpy as np

from nengo_dl.converter.base import LayerConverter, converters

__all__ = []


class ConvertSameOrder(LayerConverter):
    """Layers that only give their input another shape: nothing is needed."""

    def convert(self):
        """The object that there is already."""
        return self.input.obj


@converters.register(keras.layers.Reshape)
class ConvertReshape(ConvertSameOrder):
    """Reshape: elements stay in C order."""


@converters.register(keras.layers.Flatten)
class ConvertFlatten(ConvertSameOrder):
    """Flatten; of data with the channels first, channels become the last axis."""

    def convert(self):
        """The input itself, or its elements in another order."""
        channels_first = self.layer.data_format == "channels_first"
        if not channels_first or len(self.input.shape) < 2:
            return super().convert()
        return self.rearrange(np.moveaxis(self.positions(), 0, -1))


@converters.register(keras.layers.Permute)
class ConvertPermute(LayerConverter):
    """Permute: the same elements in another order."""

    def convert(self):
        """A node that picks them."""
        axes = [axis - 1 for axis in self.layer.dims]
        return self.rearrange(self.positions().transpose(axes))


@converters.register(keras.layers.Concatenate)
class ConvertConcatenate(LayerConverter):
    """Concatenate: a node that has all inputs, each at its places."""

    works_per_step = True

    def refusal(self):
        """In temporal models, steps cannot be put one after another."""
        if self.axis(self.layer.axis) < 0:
            return "it concatenates along the axis of the batch or of time"
        return None

    def convert(self):
        """Connections to parts of a node."""
        axis = self.axis(self.layer.axis)
        node = self.node(self.output_size)
        places = np.arange(self.output_size).reshape(self.output_shape)
        first = 0
        for array in self.inputs:
            length = array.shape[axis]
            part = places.take(range(first, first + length), axis).ravel()
            first += length
            contiguous = part[-1] - part[0] + 1 == part.size
            index = slice(part[0], part[-1] + 1) if contiguous else part.tolist()
            self.connect(node[index], source=array)
        return node
