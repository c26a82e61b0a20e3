import keras
import pytest
from keras import layers

import nengo_dl
from tests.converter.family_checks import compare_outputs
from tests.converter.models import verified


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


def rearranged(x):
    """Every function of ``keras.ops`` that is native because it only moves elements."""
    ops = keras.ops
    first, second = ops.split(x, 2, axis=2)
    return [
        ops.reshape(x, (-1, 12)),
        ops.transpose(x, (0, 2, 1)),
        ops.squeeze(ops.expand_dims(x, 1), 1)[..., 1:3],
        ops.flip(x, 1),
        ops.moveaxis(x, 1, 2),
        ops.swapaxes(x, 2, 1),
        x[:, 0],
        x[:, 1:, ::2],
        ops.repeat(x, 2, axis=1),
        ops.tile(x, (1, 2, 1)),
        ops.roll(x, 1, axis=2),
        second,
        ops.concatenate([first, second, first], axis=-1),
        *ops.unstack(x, axis=1),
    ]


def test_functions_that_move_elements(rng):
    inputs = keras.Input((3, 4))
    x = layers.Dense(4, activation="tanh")(inputs)
    verified(keras.Model(inputs, rearranged(x)), rng)


def across_items(x):
    return keras.ops.reshape(x, (1, 12))


def reversed_items(x):
    return keras.ops.flip(x, 0)


def rolled_items(x):
    return keras.ops.roll(x, 1, axis=0)


@pytest.mark.parametrize("function", [across_items, reversed_items, rolled_items])
def test_functions_across_items_fall_back(function):
    inputs = keras.Input((3, 4), batch_size=1)
    model = keras.Model(inputs, function(inputs))
    with pytest.raises(TypeError, match="it mixes the items of a batch"):
        nengo_dl.Converter(model, allow_fallback=False)
