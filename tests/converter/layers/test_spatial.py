"""Layers that repeat, leave out and add positions."""

import keras
import numpy as np
import pytest

import nengo_dl
from tests.converter.family_checks import check_fallback, compare_outputs, randomize

L = keras.layers
FIRST = {"data_format": "channels_first"}

CASES = {
    "1d": (
        (5, 2),
        lambda: [
            L.UpSampling1D(3),
            L.Cropping1D((1, 2)),
            L.Cropping1D(0),
            L.ZeroPadding1D(2),
            L.ZeroPadding1D((0, 3), **FIRST),
        ],
    ),
    "2d": (
        (6, 5, 2),
        lambda: [
            L.UpSampling2D((3, 2)),
            L.UpSampling2D(2, **FIRST),
            L.Cropping2D(((1, 2), (0, 3))),
            L.Cropping2D(((1, 0), (0, 1)), **FIRST),
            L.Cropping2D(1),
            L.ZeroPadding2D(((1, 2), (0, 3))),
            L.ZeroPadding2D(((1, 0), (2, 1)), **FIRST),
        ],
    ),
    "3d": (
        (3, 4, 2, 3),
        lambda: [
            L.UpSampling3D((2, 1, 3)),
            L.UpSampling3D(2, **FIRST),
            L.Cropping3D(((1, 0), (1, 2), (0, 1))),
            L.Cropping3D(((1, 1), (0, 1), (1, 0)), **FIRST),
            L.ZeroPadding3D(((1, 0), (1, 2), (0, 1))),
            L.ZeroPadding3D(1, **FIRST),
        ],
    ),
}


@pytest.mark.parametrize("rank", CASES)
def test_outputs(rank, rng, allclose):
    shape, make = CASES[rank]
    compare_outputs(make(), shape, rng, allclose)


def test_trained_through(rng):
    """Gradients reach what is before; neurons are read through their synapse."""
    inputs = keras.Input((2, 3, 1))
    x = L.Conv2D(2, 2, padding="same", activation="relu")(inputs)
    x = L.UpSampling2D(2)(x)
    x = L.ZeroPadding2D(((1, 0), (0, 2)))(x)
    x = L.Cropping2D(((0, 2), (1, 0)))(x)
    model = keras.Model(inputs, L.Dense(2)(L.Flatten()(x)))
    randomize(model, rng)
    nengo_dl.Converter(model, allow_fallback=False).verify(
        training=True, atol=1e-5, rtol=1e-4
    )


def test_other_interpolations(rng):
    """Only the nearest position is native."""
    inputs = keras.Input((3, 2, 1))
    model = keras.Model(inputs, L.UpSampling2D(2, interpolation="bilinear")(inputs))
    warning = "becomes a TensorNode: its interpolation"
    check_fallback(model, rng, "interpolation is 'bilinear'", warning)


def test_zeros_are_filtered_like_the_rest(allclose):
    """A synapse between neurons and padding has its effect on what is not padding."""
    inputs = keras.Input((2, 1))
    x = L.ReLU()(inputs)
    model = keras.Model(inputs, L.ZeroPadding1D(1)(x))
    converter = nengo_dl.Converter(model, allow_fallback=False, synapse=0.002)
    data = np.ones((1, 3, 2))
    with nengo_dl.Simulator(converter.net, progress_bar=False) as sim:
        y = sim.predict({converter.inputs[inputs]: data})
        y = y[converter.outputs[model.output]][0]
    expected = 1 - np.exp(-0.5 * np.arange(3))
    expected = np.stack([0 * expected, expected, expected, 0 * expected], 1)
    assert allclose(y, expected, atol=1e-6)
