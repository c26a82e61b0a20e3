import keras
import numpy as np
import pytest
from keras import layers

import nengo_dl
from tests.converter.family_checks import compare_outputs
from tests.converter.models import randomized, verified


def test_batch_normalization(rng, allclose):
    choices = [
        layers.BatchNormalization(),
        layers.BatchNormalization(axis=1, epsilon=0.1),
        layers.BatchNormalization(axis=2, center=False),
        layers.BatchNormalization(scale=False),
    ]
    inputs = keras.Input((2, 3, 4))
    model = keras.Model(inputs, [layer(inputs) for layer in choices])
    verified(model, rng, training=False, inference_only=True)


def test_batch_normalization_that_is_trained_falls_back(rng):
    inputs = keras.Input((3,))
    norm = layers.BatchNormalization()
    model = keras.Model(inputs, norm(inputs))
    with pytest.raises(TypeError, match="inference_only=True uses the moving averages"):
        nengo_dl.Converter(model, allow_fallback=False)
    with pytest.warns(UserWarning, match="statistics of the batch"):
        verified(model, rng, native=False)
    norm.trainable = False
    assert nengo_dl.Converter(model, allow_fallback=False).verify(atol=1e-6)


def test_normalization(rng, allclose):
    data = rng.uniform(-3, 5, size=(10, 2, 3))
    choices = [
        layers.Normalization(axis=-1),
        layers.Normalization(axis=None, invert=True),
        layers.Normalization(axis=(1, 2)),
    ]
    for layer in choices:
        layer.adapt(data)
    choices.append(layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[2.0, 3.0, 4.0]))
    inputs = keras.Input((2, 3))
    model = keras.Model(inputs, [layer(inputs) for layer in choices])
    converter = nengo_dl.Converter(model, allow_fallback=False)
    x = data.astype("float32")
    assert np.ptp(model.predict(x, verbose=0)[0]) > 1
    assert converter.verify(inputs=x, atol=1e-6)


def test_layers_after_it_are_trained(rng):
    inputs = keras.Input((3,))
    norm = layers.BatchNormalization(trainable=False)
    x = layers.Dense(2)(norm(layers.Dense(3, activation="relu")(inputs)))
    verified(keras.Model(inputs, x), rng)


def test_rescaling_of_channels(rng, allclose):
    compare_outputs([layers.Rescaling([1.0, 2.0])], (3, 2), rng, allclose)


def test_nothing_is_lost_through_batch_normalization(rng):
    """In double precision the output is that of Keras to rounding."""
    double = {"dtype": "float64"}
    inputs = keras.Input((4, 4, 2), **double)
    x = inputs
    for _ in range(3):
        x = layers.Conv2D(3, 2, padding="same", **double)(x)
        x = layers.ReLU(**double)(layers.BatchNormalization(epsilon=1e-3, **double)(x))
    x = layers.Dense(2, **double)(layers.GlobalAveragePooling2D(**double)(x))
    model = randomized(keras.Model(inputs, x), rng)
    converter = nengo_dl.Converter(model, allow_fallback=False, inference_only=True)
    assert np.ptp(model.predict(rng.uniform(size=(4, 4, 4, 2)), verbose=0)) > 0.1
    assert converter.verify(atol=1e-12, rtol=1e-12)
