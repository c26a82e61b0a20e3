import keras
import numpy as np
import pytest
from keras import layers

import nengo_dl
from tests.converter.family_checks import compare_outputs
from tests.converter.models import verified


def test_merging_layers(rng):
    a, b = keras.Input((2, 3)), keras.Input((2, 3))
    wide = keras.Input((1, 3))
    outputs = [
        layers.Add()([a, b, a]),
        layers.Average()([a, b, b]),
        layers.Subtract()([a, b]),
        layers.Add()([a, wide]),
        a + b,
        a - b,
        wide - a,
    ]
    model = keras.Model([a, b, wide], outputs)
    verified(model, rng, training=False)


def test_products_with_constants(rng):
    a = keras.Input((2, 3))
    outputs = [
        a * 2.0,
        3.0 * a,
        a / 4.0,
        a + 1.5,
        1.5 - a,
        a * np.arange(3.0, dtype="float32"),
        a + np.arange(6.0, dtype="float32").reshape(1, 2, 3),
    ]
    verified(keras.Model(a, outputs), rng, training=False)


def test_rescaling(rng, allclose):
    choices = [layers.Rescaling(2.0, -1.0), layers.Rescaling([1.0, 2.0, 3.0], [0, 0, 1])]
    compare_outputs(choices, (2, 3), rng, allclose)


def test_training_through_sums(rng):
    inputs = keras.Input((3,))
    x = layers.Dense(3, activation="tanh")(inputs)
    x = layers.Rescaling(0.5, 1.0)(layers.Average()([x, inputs]))
    verified(keras.Model(inputs, layers.Dense(2)(x) - 1.0), rng)


def multiplied(a):
    return a * a


def divided(a):
    return 1.0 / a


def enlarged(a):
    return a + np.ones((1, 2, 1), "float32")


def across_the_batch(a):
    return a + np.ones((3, 1, 1), "float32")


@pytest.mark.parametrize(
    "function, reason",
    [
        (multiplied, "multiplies or divides two tensors"),
        (divided, "divides by a tensor"),
        (enlarged, "another shape"),
        (across_the_batch, "differs between items"),
    ],
)
def test_other_operators_fall_back(function, reason):
    inputs = keras.Input((1, 3), batch_size=3 if function is across_the_batch else None)
    with pytest.raises(TypeError, match=reason):
        nengo_dl.Converter(keras.Model(inputs, function(inputs)), allow_fallback=False)


def test_multiplied_tensors_are_a_tensor_node(rng):
    a, b = keras.Input((3,)), keras.Input((3,))
    x = layers.Multiply()([layers.Dense(3)(a), b])
    with pytest.warns(UserWarning, match="no converter for Multiply"):
        verified(keras.Model([a, b], x), rng, native=False)


def test_scalars(rng):
    """Inputs without any axis but that of the batch."""
    inputs = keras.Input(())
    verified(keras.Model(inputs, 3.0 - inputs * 2.0), rng, training=False)
