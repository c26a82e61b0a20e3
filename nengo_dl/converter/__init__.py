"""From Keras models to Nengo networks; layers are in `nengo_dl.converter.layers`."""

from nengo_dl.converter import layers  # noqa: F401  (they register themselves)
from nengo_dl.converter.base import LayerConverter
from nengo_dl.converter.converter import Converter

__all__ = ["Converter", "LayerConverter"]
