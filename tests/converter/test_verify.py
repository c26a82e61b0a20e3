"""Comparing networks with the models that they were made of."""

import keras
import nengo
import numpy as np
import pytest
from keras import layers

import nengo_dl
from nengo_dl.converter.verify import largest_differences

from .models import randomized


def test_largest_differences():
    expected = np.array([[1.0, 2.0], [3.0, 4.0]])
    assert largest_differences(expected + 1e-3, expected, 1e-2, 0) is None
    assert largest_differences(expected * 1.001, expected, 0, 1e-2) is None
    # of each element, the scale is the largest value in all items
    near_zero = np.array([[1e-9, 3.0], [1.0, 1e-9]])
    assert not largest_differences(near_zero + [[9e-6, 2.9e-5]], near_zero, 0, 1e-5)
    assert largest_differences(near_zero + [[0, 3.1e-5]], near_zero, 0, 1e-5)
    assert not largest_differences(near_zero + 1e-3, near_zero, 0, 0, [[0.001, 0.0011]])
    assert largest_differences(near_zero + 2e-3, near_zero, 0, 0, [[0.001, 0.0011]])
    found = expected + [[0, 0.5], [-1, 0]]
    text = largest_differences(found, expected, 1e-2, 0)
    assert text.startswith("differs from Keras in 2 of 4 elements; the largest ")
    assert "1 at (1, 0), where 3 was expected and 2 found" in text
    found[0, 0] = np.nan
    text = largest_differences(found, expected, 1e-2, 0)
    assert "in 3 of 4" in text and "at (0, 0), where 1 was expected and nan found" in text


def test_verification_finds_differences(rng):
    inputs = keras.Input((3,))
    model = keras.Model(inputs, layers.Dense(2, name="out")(inputs))
    converter = nengo_dl.Converter(model)
    weights = model.get_weights()
    assert converter.verify(inputs=np.ones((2, 3)), atol=1e-6)
    model.layers[-1].bias.assign([0.0, 0.5])
    with pytest.raises(
        ValueError, match=r"'out_output' differs .* is 0.5 at \(\d, 0, 1\)"
    ):
        converter.verify(atol=1e-6)
    with pytest.raises(ValueError, match="expected 1 inputs, got 2"):
        converter.verify(inputs=[np.ones((2, 3))] * 2)
    model.set_weights(weights)
    converter.verify(training=True, atol=1e-6)
    for before, after in zip(weights, model.get_weights(), strict=True):
        assert np.array_equal(before, after)


def test_training_is_compared(rng):
    """A network that is trained otherwise than Keras does not pass."""
    inputs = keras.Input((3,))
    model = keras.Model(inputs, layers.Dense(2, name="out")(inputs))
    converter = nengo_dl.Converter(randomized(model, rng))
    for connection in converter.net.connections:
        converter.net.config[connection].trainable = connection.label == "out.bias"
    assert converter.verify(atol=1e-6)
    with pytest.raises(ValueError, match="after training, the output 'out_output'"):
        converter.verify(training=True, atol=1e-6)


def test_neither_of_them_is_changed(rng):
    """Also not the layers that TensorNodes share with the model."""
    inputs = keras.Input((3,))
    x = layers.BatchNormalization()(layers.Dense(4)(inputs))
    x = layers.GaussianNoise(0.5)(layers.Dropout(0.5, seed=1)(x))
    model = randomized(keras.Model(inputs, x), rng)
    before = [variable.numpy() for variable in model.variables]
    with pytest.warns(UserWarning, match="becomes a TensorNode"):
        converter = nengo_dl.Converter(model)
    assert converter.verify(training=True, atol=1e-5)
    for old, variable in zip(before, model.variables, strict=True):
        assert np.array_equal(old, variable.numpy())
    assert not model.compiled
    assert converter.verify(atol=1e-5)


def test_inputs_by_name(rng):
    a, b = keras.Input((3,), name="b"), keras.Input((2,), name="a")
    model = keras.Model({"b": a, "a": b}, layers.Concatenate()([a, b]))
    converter = nengo_dl.Converter(model)
    data = {"b": rng.uniform(size=(5, 3)), "a": rng.uniform(size=(5, 2))}
    assert converter.verify()
    assert converter.verify(inputs=data)
    other = nengo_dl.Converter(
        keras.Model([a, b], {"sum": layers.Concatenate(name="c")([a, b])})
    )
    assert other.verify(inputs=data)  # the first input is "b"
    assert other.outputs["sum"] is other.outputs["c"]


def test_sequences_of_any_length(rng):
    inputs = keras.Input((None, 2))
    x = layers.SimpleRNN(3, return_sequences=True)(inputs)
    model = randomized(keras.Model(inputs, [x, layers.GRU(2)(x)]), rng)
    converter = nengo_dl.Converter(model, temporal_model=True)
    assert converter.verify(inputs=rng.uniform(size=(2, 9, 2)), atol=1e-6)


def test_other_neurons_do_not_pass(rng):
    inputs = keras.Input((3,))
    model = keras.Model(inputs, layers.Dense(4, activation="tanh")(inputs))
    converter = nengo_dl.Converter(
        randomized(model, rng), swap_activations={"tanh": nengo.RectifiedLinear()}
    )
    with pytest.raises(ValueError, match="differs from Keras in"):
        converter.verify(atol=1e-3)


# -- rounding, and what is none --------------------------------------------------------


def cancelling(rng):
    """Sums of large numbers that are nearly zero."""
    inputs = keras.Input((6,))
    large = layers.Dense(32)(inputs)
    model = keras.Model(inputs, layers.Dense(3)(layers.Dense(16)(large)))
    randomized(model, rng)
    _, first, second, last = model.layers
    first.kernel.assign(np.repeat(1e3 * rng.normal(size=(6, 16)), 2, axis=1))
    second.kernel.assign(np.repeat([[1.0], [-1.0 + 1e-4]], 16, axis=1).repeat(16, 0)[:32])
    signs = np.tile([[1.0], [-1.0]], (16, 16))
    second.kernel.assign(signs * (1 + 1e-4 * rng.normal(size=(32, 16))))
    second.bias.assign(np.zeros(16))
    return model


def deep(rng):
    inputs = keras.Input((8, 8, 2))
    x = inputs
    for _ in range(6):
        x = layers.Conv2D(8, 3, padding="same", activation="relu")(x)
        x = layers.BatchNormalization()(x)
    outputs = [layers.Dense(5)(layers.Flatten()(x)), layers.GlobalAveragePooling2D()(x)]
    return randomized(keras.Model(inputs, outputs), rng)


def temporal(rng):
    inputs = keras.Input((12, 3))
    x = layers.LSTM(16, return_sequences=True)(inputs)
    return randomized(keras.Model(inputs, layers.Dense(2)(x)), rng)


RIGHT = {"cancelling": cancelling, "deep": deep, "temporal": temporal}


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("seed", range(3))
def test_right_conversions_pass_with_the_default_tolerances(name, seed):
    model = RIGHT[name](np.random.RandomState(seed))
    options = {"inference_only": True, "temporal_model": name == "temporal"}
    converter = nengo_dl.Converter(model, **options)
    before = model.get_weights()
    assert converter.verify()
    for a, b in zip(before, model.get_weights(), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("error", (1e-2, 1e-3))
def test_wrong_conversions_do_not_pass(name, error):
    """One weight, or one bias, is off by more than rounding is."""
    model = RIGHT[name](np.random.RandomState(0))
    options = {"inference_only": True, "temporal_model": name == "temporal"}
    for position in {"cancelling": (0,), "deep": (0, 1), "temporal": (-2, -1)}[name]:
        converter = nengo_dl.Converter(model, **options)
        weights = model.weights[position]
        value = weights.numpy()
        wrong = value.copy()
        wrong.flat[np.argmax(np.abs(wrong))] *= 1 + error
        weights.assign(wrong)
        with pytest.raises(ValueError, match="differs from Keras"):
            converter.verify()
        weights.assign(value)


def test_right_training_passes_with_the_default_tolerances(rng):
    inputs = keras.Input((5,))
    x = inputs
    for _ in range(4):
        x = layers.Dense(12, activation="tanh")(x)
    model = randomized(keras.Model(inputs, layers.Dense(3)(x)), rng)
    converter = nengo_dl.Converter(model)
    assert converter.verify(training=True)
    for connection in converter.net.connections:
        if connection.label == "dense.bias":
            converter.net.config[connection].trainable = False
    with pytest.raises(ValueError, match="after training"):
        converter.verify(training=True)


@pytest.mark.parametrize("dtype", ("bfloat16", "mixed_bfloat16", "float16"))
def test_half_precision_is_compared_as_such(dtype, rng):
    """By its own rounding; what is wrong by more is noticed."""
    inputs = keras.Input((4,), dtype=dtype.removeprefix("mixed_"))
    x = layers.Dense(8, activation="relu", dtype=dtype)(inputs)
    model = keras.Model(inputs, layers.Dense(2, dtype=dtype, name="out")(x))
    converter = nengo_dl.Converter(model)
    assert converter.verify()
    model.layers[-1].bias.assign([0.5, 0.0])
    with pytest.raises(ValueError, match="'out_output' differs from Keras"):
        converter.verify()
