"""From Keras models to Nengo networks: one file for each family of layers."""

from nengo_dl.converter import (  # noqa: F401  (they register themselves)
    activations,
    convolution,
    dense,
    merge,
    normalization,
    pooling,
    recurrent,
    regularization,
    shape,
    spatial,
)
from nengo_dl.converter.base import LayerConverter
from nengo_dl.converter.converter import Converter

__all__ = ["Converter", "LayerConverter"]
