"""Layers that do nothing but during training."""

from __future__ import annotations

from typing import Any

import keras

from nengo_dl.converter.base import LayerConverter, converters

__all__ = []


@converters.register(keras.layers.Identity, keras.layers.ActivityRegularization)
class ConvertIdentity(LayerConverter):
    """Nothing is needed; what is added to the loss is not the output's business."""

    works_per_step = True

    def convert(self) -> Any:
        """The object that there is already."""
        return self.input.obj


@converters.register(
    keras.layers.Dropout,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
    keras.layers.GaussianDropout,
    keras.layers.AlphaDropout,
    keras.layers.GaussianNoise,
)
class ConvertNoise(ConvertIdentity):
    """Dropout and noise, which are left out where nothing is trained."""

    def refusal(self) -> str | None:
        """Why a layer that acts in training cannot be left out."""
        layer = self.layer
        if self.options.inference_only or not layer.trainable:
            return None
        if not getattr(layer, "rate", getattr(layer, "stddev", 1)):
            return None
        return "it is active in training; inference_only=True leaves it out"
