"""Layers that change the size of images: elements are repeated, left out or added."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import nengo
import numpy as np

from nengo_dl.converter.base import LayerConverter, converters

__all__ = ["ConvertCropping", "ConvertUpSampling", "ConvertZeroPadding", "place"]


class SpatialConverter(LayerConverter):
    """A layer with channels along one axis, and positions along all others."""

    @property
    def channels_last(self) -> bool:
        """Whether the channels are the last axis."""
        return getattr(self.layer, "data_format", "channels_last") == "channels_last"

    @property
    def channel_axis(self) -> int:
        """Number of the axis of the channels."""
        return -1 if self.channels_last else 0

    @property
    def size(self) -> tuple[int, ...]:
        """Size of the input along the other axes."""
        return self.without_channels(self.input.shape)

    def without_channels(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """A shape, without the axis of the channels."""
        return tuple(shape[:-1] if self.channels_last else shape[1:])

    def with_channels(self, size: Sequence[int], channels: int) -> tuple[int, ...]:
        """A shape, with the axis of the channels at its place."""
        size = tuple(int(n) for n in size)
        return (*size, channels) if self.channels_last else (channels, *size)

    def pairs(self, values: Any) -> list[Any]:
        """Two numbers for each axis that is not that of the channels."""
        return np.reshape(values, (len(self.size), 2)).tolist()

    def for_all_axes(self, per_axis: Sequence[Any], other: Any) -> list[Any]:
        """One entry for each axis of the input; ``other`` for that of the channels."""
        per_axis = list(per_axis)
        return [*per_axis, other] if self.channels_last else [other, *per_axis]


@converters.register(
    keras.layers.UpSampling1D,
    keras.layers.UpSampling2D,
    keras.layers.UpSampling3D,
)
class ConvertUpSampling(SpatialConverter):
    r"""Each position, several times.

    .. math:: y_{p c} = x_{\lfloor p / s \rfloor c}
    """

    def refusal(self) -> str | None:
        """Other interpolations than the nearest position are left to Keras."""
        interpolation = getattr(self.layer, "interpolation", "nearest")
        if interpolation != "nearest":
            return f"its interpolation is {interpolation!r}; only 'nearest' is native"
        return None

    def convert(self) -> Any:
        """A node that picks elements."""
        repeats = np.broadcast_to(self.layer.size, len(self.size))
        positions = self.positions()
        for axis, times in enumerate(self.for_all_axes(repeats.tolist(), 1)):
            positions = np.repeat(positions, times, axis)
        return self.rearrange(positions)


@converters.register(
    keras.layers.Cropping1D,
    keras.layers.Cropping2D,
    keras.layers.Cropping3D,
)
class ConvertCropping(SpatialConverter):
    """All positions but those at the borders."""

    def convert(self) -> Any:
        """A node that picks elements."""
        borders = self.for_all_axes(self.pairs(self.layer.cropping), (0, 0))
        shape = self.input.shape
        inside = tuple(
            slice(first, n - last)
            for n, (first, last) in zip(shape, borders, strict=True)
        )
        return self.rearrange(self.positions()[inside])


@converters.register(
    keras.layers.ZeroPadding1D,
    keras.layers.ZeroPadding2D,
    keras.layers.ZeroPadding3D,
)
class ConvertZeroPadding(SpatialConverter):
    """Zeros around all positions."""

    def convert(self) -> Any:
        """A node of which the input reaches the middle."""
        borders = self.for_all_axes(self.pairs(self.layer.padding), (0, 0))
        return place(self, np.pad(self.positions(), borders, constant_values=-1))


def place(converter: Any, indices: np.ndarray, label: str = "") -> nengo.Node:
    """A node with elements of the input of a layer, and zeros.

    Parameters
    ----------
    converter : LayerConverter
    indices : array_like of int
        For each element of the result, which one of the input it is; -1: zero.
    label : str

    Returns
    -------
    ~nengo.Node
    """
    indices = np.asarray(indices).ravel()
    node = converter.node(indices.size, label)
    places = np.flatnonzero(indices >= 0)
    source = converter.input.obj[indices[places].tolist()]
    converter.connect(node[places.tolist()], source=source)
    return node
