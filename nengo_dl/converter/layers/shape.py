"""Layers that rearrange their input."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from nengo_dl.converter.base import LayerConverter, converters
from nengo_dl.converter.graph_walk import operation_of

__all__ = []


class ConvertSameOrder(LayerConverter):
    """Layers that only give their input another shape: nothing is needed."""

    def convert(self) -> Any:
        """The object that there is already."""
        return self.input.obj


@converters.register(keras.layers.Reshape)
class ConvertReshape(ConvertSameOrder):
    """Reshape: elements stay in C order."""


@converters.register(keras.layers.Flatten)
class ConvertFlatten(ConvertSameOrder):
    """Flatten; of data with the channels first, channels become the last axis."""

    def convert(self) -> Any:
        """The input itself, or its elements in another order."""
        channels_first = self.layer.data_format == "channels_first"
        if not channels_first or len(self.input.shape) < 2:
            return super().convert()
        return self.rearrange(np.moveaxis(self.positions(), 0, -1))


@converters.register(keras.layers.Permute)
class ConvertPermute(LayerConverter):
    """Permute: the same elements in another order."""

    def convert(self) -> Any:
        """A node that picks the elements in the order of the new axes."""
        axes = [axis - 1 for axis in self.layer.dims]
        return self.rearrange(self.positions().transpose(axes))


@converters.register(
    keras.layers.Concatenate, operation_of(lambda x: keras.ops.concatenate([x, x], 1))
)
class ConvertConcatenate(LayerConverter):
    """Concatenate: a node that has all inputs, each at its places."""

    works_per_step = True

    def refusal(self) -> str | None:
        """Why the axis of the batch, or of time, cannot be concatenated along."""
        if self.axis(self.layer.axis) < 0:
            return "it concatenates along the axis of the batch or of time"
        return None

    def convert(self) -> Any:
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


@converters.register(
    operation_of(lambda x: x[:, 0]),
    operation_of(lambda x: keras.ops.expand_dims(x, 1)),
    operation_of(lambda x: keras.ops.flip(x, 1)),
    operation_of(lambda x: keras.ops.moveaxis(x, 1, 2)),
    operation_of(lambda x: keras.ops.repeat(x, 2, 1)),
    operation_of(lambda x: keras.ops.reshape(x, (-1, 4))),
    operation_of(lambda x: keras.ops.roll(x, 1, 1)),
    operation_of(lambda x: keras.ops.split(x, 2, 1)),
    operation_of(lambda x: keras.ops.squeeze(x[:, :1], 1)),
    operation_of(lambda x: keras.ops.swapaxes(x, 1, 2)),
    operation_of(lambda x: keras.ops.tile(x, (1, 2, 1))),
    operation_of(lambda x: keras.ops.transpose(x, (0, 2, 1))),
    operation_of(lambda x: keras.ops.unstack(x, axis=1)),
)
class ConvertRearrangement(LayerConverter):
    """A function of ``keras.ops`` that gives elements of its input in another order.

    In which one is found out by applying it to their numbers.
    """

    def refusal(self) -> str | None:
        """Batch items have to stay apart."""
        if len(self.inputs) != 1:
            return "it has several inputs"
        return None if self.indices else "it mixes the items of a batch"

    @cached_property
    def indices(self) -> list[np.ndarray] | None:
        """Which elements of the input the outputs have; None if items are mixed."""
        size = self.input.size
        items = np.stack([self.positions(), self.positions() + size])
        try:
            found = self.call.apply([keras.ops.convert_to_tensor(items)])
        except (ValueError, tf.errors.OpError):
            return None  # it is only meant for another number of items
        found = [keras.ops.convert_to_numpy(array) for array in found]
        for array, shape in zip(found, self.output_shapes, strict=True):
            if array.shape != (2, *shape) or np.any(array[1] != array[0] + size):
                return None
            if np.any(array[0] >= size):
                return None
        return [array[0] for array in found]

    def convert(self) -> Any:
        """Nodes that pick elements."""
        unchanged = np.arange(self.input.size)
        return [
            self.input.obj
            if np.array_equal(indices.ravel(), unchanged)
            else self.rearrange(indices)
            for indices in self.indices or ()
        ]
