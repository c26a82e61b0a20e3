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
