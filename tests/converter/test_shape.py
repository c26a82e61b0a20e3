import keras
import pytest
from keras import layers

import nengo_dl

from .family_checks import compare_outputs
from .models import verified


def test_rearranging(rng, allclose):
    choices = [
        layers.Reshape((4, 6)),
        layers.Reshape((-1, 2)),
        layers.Flatten(),
        layers.Flatten(data_format="channels_first"),
        layers.Permute((3, 1, 2)),
    ]
    compare_outputs(choices, (2, 3, 4), rng, allclose)


def test_what_stays_in_order_needs_no_objects():
    inputs = keras.Input((2, 3))
    flat = layers.Flatten(name="flat")(inputs)
    converter = nengo_dl.Converter(keras.Model(inputs, flat))
    assert converter.layers["flat"] is converter.inputs[inputs]
    assert len(converter.net.all_nodes) == 1


@pytest.mark.parametrize("axis", [1, 2, -1])
def test_concatenating(rng, axis):
    shape = [2, 3, 4]
    other = list(shape)
    other[axis if axis < 0 else axis - 1] = 2
    a, b = keras.Input(shape), keras.Input(other)
    x = layers.Concatenate(axis=axis)([a, b, a])
    verified(keras.Model([a, b], x), rng, training=False)


def test_training_through_permutation(rng):
    inputs = keras.Input((2, 3))
    x = layers.Permute((2, 1))(layers.Dense(4, activation="relu")(inputs))
    x = layers.Concatenate(axis=1)([x, layers.Permute((2, 1))(inputs)])
    verified(keras.Model(inputs, layers.Dense(2)(x)), rng)
