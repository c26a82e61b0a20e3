"""What layers with weights have in common."""

import keras
import pytest
from keras import layers

import nengo_dl
from nengo_dl.converter.base import converters
from nengo_dl.converter.layers.weighted import WeightedSums

ALL = [cls for cls, found in converters.items() if issubclass(found, WeightedSums)]


def test_families():
    """Everything with a kernel, and nothing else."""
    names = {cls.__name__.rstrip("123D") for cls in ALL if cls.__name__ != "Dense"}
    assert {"Conv", "DepthwiseConv", "SeparableConv", "EinsumDense"} <= names
    assert all("Conv" in cls.__name__ or "Dense" in cls.__name__ for cls in ALL)
    assert len(ALL) == 2 + 3 + 3 + 2 + 2


CHOICES = [layers.Dense(2), layers.EinsumDense("...a,ab->...b", 2), layers.Conv1D(2, 2)]


@pytest.mark.parametrize("layer", CHOICES, ids=lambda layer: layer.name)
def test_low_rank_updates_that_are_added_later(layer):
    """A layer is native until it is changed."""
    inputs = keras.Input((3, 4))
    model = keras.Model(inputs, layer(inputs))
    nengo_dl.Converter(model, allow_fallback=False)
    layer.enable_lora(1)
    with pytest.raises(TypeError, match="low-rank updates"):
        nengo_dl.Converter(model, allow_fallback=False)


def test_quantized_weights():
    inputs = keras.Input((4,))
    layer = layers.Dense(2)
    model = keras.Model(inputs, layer(inputs))
    layer.quantize("int8")
    with pytest.raises(TypeError, match=r"weights are quantized \(int8\)"):
        nengo_dl.Converter(model, allow_fallback=False)


def test_incomplete_converters_are_named():
    class Own(layers.Layer):
        """A layer without a converter."""

    with pytest.raises(TypeError, match=r"Unweighted has no method weigh\(\), which is"):

        @nengo_dl.Converter.register(Own)
        class Unweighted(WeightedSums):
            """Does not say how."""

    assert converters.exact(Own) is None
