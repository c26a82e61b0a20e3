"""Averages and maxima over positions."""

import keras
import numpy as np
import pytest

import nengo_dl
from tests.converter.family_checks import check_fallback, compare_outputs, randomize

L = keras.layers
FIRST = {"data_format": "channels_first"}
SAME = {"padding": "same"}

CASES = {
    "1d": (
        (7, 3),
        lambda: [
            L.AveragePooling1D(2),
            L.AveragePooling1D(3, strides=2, **SAME),
            L.AveragePooling1D(2, strides=1, **FIRST),
            L.AveragePooling1D(2, **SAME, **FIRST),
            L.GlobalAveragePooling1D(),
            L.GlobalAveragePooling1D(keepdims=True, **FIRST),
        ],
    ),
    "2d": (
        (6, 5, 2),
        lambda: [
            L.AveragePooling2D(2),
            L.AveragePooling2D((3, 2), strides=(1, 3)),
            L.AveragePooling2D(3, strides=2, **SAME),
            L.AveragePooling2D((4, 3), strides=(3, 1), **SAME),
            L.AveragePooling2D((2, 1), strides=1, **FIRST),
            L.AveragePooling2D(3, strides=(2, 1), **SAME, **FIRST),
            L.GlobalAveragePooling2D(keepdims=True),
            L.GlobalAveragePooling2D(**FIRST),
        ],
    ),
    "3d": (
        (3, 4, 5, 2),
        lambda: [
            L.AveragePooling3D((2, 1, 3), strides=(1, 2, 2)),
            L.AveragePooling3D(2, **SAME),
            L.AveragePooling3D(2, strides=1, **FIRST, **SAME),
            L.GlobalAveragePooling3D(),
            L.GlobalAveragePooling3D(keepdims=True, **FIRST),
        ],
    ),
}


@pytest.mark.parametrize("rank", CASES)
def test_averages(rank, rng, allclose):
    shape, make = CASES[rank]
    compare_outputs(make(), shape, rng, allclose)


def test_many_channels(rng, allclose):
    """Few enough entries that the matrix stays sparse; 1 % is not dense."""
    compare_outputs(
        [L.AveragePooling2D(3, strides=2, **SAME), L.GlobalAveragePooling2D()],
        (5, 6, 40),
        rng,
        allclose,
    )


MAXIMA = {
    "1d": (
        (5, 2),
        [L.MaxPooling1D, L.AveragePooling1D],
        [L.GlobalMaxPooling1D, L.GlobalAveragePooling1D],
    ),
    "2d": (
        (4, 3, 2),
        [L.MaxPooling2D, L.AveragePooling2D],
        [L.GlobalMaxPooling2D, L.GlobalAveragePooling2D],
    ),
    "3d": (
        (2, 3, 4, 2),
        [L.MaxPooling3D, L.AveragePooling3D],
        [L.GlobalMaxPooling3D, L.GlobalAveragePooling3D],
    ),
}


@pytest.mark.parametrize("rank", MAXIMA)
def test_maxima_as_averages(rank, rng, allclose):
    shape, windows, everywhere = MAXIMA[rank]
    maximum, average = (
        [pooling(2, strides=1, **SAME), everything()]
        for pooling, everything in zip(windows, everywhere, strict=True)
    )
    compare_outputs(maximum, shape, rng, allclose, average, max_to_avg_pool=True)


def test_maxima_stay_exact(rng):
    """Without being told otherwise, a maximum is a maximum."""
    inputs = keras.Input((4, 4, 1))
    x = L.MaxPooling2D(2)(inputs)
    model = keras.Model(inputs, [x, L.GlobalMaxPooling2D()(x)])
    option = "max_to_avg_pool=True"
    check_fallback(model, rng, f"MaxPooling2D.*{option}", option)


def test_trained_through(rng):
    """Gradients reach what is before, and averages are not trained."""
    inputs = keras.Input((4, 3, 1))
    x = L.Conv2D(2, 2, activation="relu")(inputs)
    x = L.AveragePooling2D(2, strides=1, padding="same")(x)
    x = L.Conv2D(2, 2)(x)
    model = keras.Model(inputs, L.GlobalAveragePooling2D()(x))
    randomize(model, rng)
    converter = nengo_dl.Converter(model, allow_fallback=False)
    converter.verify(training=True, atol=1e-5, rtol=1e-4)


def test_big_pictures(allclose):
    """No matrix with zeros in it is made."""
    inputs = keras.Input((224, 224, 3))
    model = keras.Model(inputs, L.AveragePooling2D(2)(inputs))
    converter = nengo_dl.Converter(model, allow_fallback=False)
    (connection,) = converter.net.all_connections
    matrix = connection.transform.sample()
    assert matrix.data.shape == (224 * 224 * 3,)
    assert allclose(matrix.data, np.full(224 * 224 * 3, 0.25))
