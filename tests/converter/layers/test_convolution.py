"""Convolutions of all kinds."""

import keras
import nengo
import numpy as np
import pytest

import nengo_dl
from tests.converter.family_checks import check_fallback, compare_outputs, randomize
from tests.versions import release

L = keras.layers
FIRST = {"data_format": "channels_first"}
SAME = {"padding": "same"}
RELU = {"activation": "relu"}

CASES = {
    "1d": (
        (6, 4),
        lambda: [
            L.Conv1D(3, 3, **RELU),
            L.Conv1D(2, 2, strides=2, use_bias=False, **SAME),
            L.Conv1D(4, 2, groups=2, **SAME),
            L.Conv1D(2, 3, dilation_rate=2, **SAME),
            L.Conv1D(3, 2, padding="causal", **RELU),
            L.Conv1D(2, 3, strides=2, padding="causal"),
            L.Conv1D(2, 2, dilation_rate=3, padding="causal"),
            L.Conv1D(2, 9, **SAME),
        ],
    ),
    "1d, channels first": (
        (3, 6),
        lambda: [
            L.SeparableConv1D(2, 3, **SAME, **FIRST),
            L.DepthwiseConv1D(2, depth_multiplier=2, **FIRST),
        ],
    ),
    "2d": (
        (6, 5, 2),
        lambda: [
            L.Conv2D(3, 3, **RELU),
            L.Conv2D(2, (2, 3), strides=2, **SAME),
            L.Conv2D(2, (3, 2), strides=(2, 1), use_bias=False),
            L.Conv2D(4, 2, groups=2, strides=(1, 2), **SAME),
            L.Conv2D(3, (3, 2), dilation_rate=(2, 1), **RELU),
            L.Conv2D(2, 2, dilation_rate=(3, 2), **SAME),
            L.Conv2D(4, 2, dilation_rate=2, groups=2),
            L.Conv2D(3, 1),
        ],
    ),
    "3d": (
        (3, 4, 5, 2),
        lambda: [
            L.Conv3D(2, 2, **RELU),
            L.Conv3D(3, (1, 2, 3), strides=(2, 1, 2), **SAME),
            L.Conv3D(2, 2, dilation_rate=(1, 2, 3)),
        ],
    ),
    "transposed 1d": (
        (4, 2),
        lambda: [
            L.Conv1DTranspose(3, 3, **RELU),
            L.Conv1DTranspose(2, 2, strides=3),
            L.Conv1DTranspose(2, 3, strides=2, **SAME),
            L.Conv1DTranspose(2, 3, strides=2, output_padding=1),
        ],
    ),
    "transposed 2d": (
        (3, 4, 2),
        lambda: [
            L.Conv2DTranspose(3, (3, 2), **RELU),
            L.Conv2DTranspose(2, 2, strides=(2, 3), use_bias=False),
            L.Conv2DTranspose(2, 3, strides=2, **SAME),
            L.Conv2DTranspose(2, 3, strides=(2, 3), output_padding=(1, 2), **SAME),
        ],
    ),
    "transposed 3d": (
        (2, 3, 2, 2),
        lambda: [
            L.Conv3DTranspose(2, (2, 1, 3), strides=(1, 2, 1)),
            L.Conv3DTranspose(2, 2, strides=2, **SAME, **RELU),
        ],
    ),
    "channel by channel 1d": (
        (6, 3),
        lambda: [
            L.DepthwiseConv1D(2, depth_multiplier=2, **RELU),
            L.DepthwiseConv1D(3, strides=2, **SAME),
            L.SeparableConv1D(4, 3, **RELU),
            L.SeparableConv1D(2, 2, strides=2, depth_multiplier=2, **SAME),
            L.SeparableConv1D(2, 2, dilation_rate=2),
        ],
    ),
    "channel by channel 2d": (
        (6, 5, 2),
        lambda: [
            L.DepthwiseConv2D((2, 3), depth_multiplier=3, **RELU),
            L.DepthwiseConv2D(2, strides=2, use_bias=False, **SAME),
            L.DepthwiseConv2D(2, dilation_rate=(2, 1), **SAME),
            L.DepthwiseConv2D((2, 1), dilation_rate=(3, 1), **FIRST),
            L.SeparableConv2D(3, 2, **RELU),
            L.SeparableConv2D(2, (3, 2), depth_multiplier=2, **SAME),
            L.SeparableConv2D(2, 2, dilation_rate=2),
        ],
    ),
}


@pytest.mark.parametrize("kind", CASES)
def test_outputs(kind, rng, allclose):
    shape, make = CASES[kind]
    compare_outputs(make(), shape, rng, allclose)


CHANNELS_FIRST = {
    "1d": lambda f: L.Conv1D(3, 2, strides=2, padding="same", data_format=f),
    "1d, causal": lambda f: L.Conv1D(2, 2, padding="causal", data_format=f),
    "1d, dilated": lambda f: L.Conv1D(2, 2, dilation_rate=2, data_format=f),
    "2d": lambda f: L.Conv2D(2, (2, 3), activation="relu", data_format=f),
    "2d, groups": lambda f: L.Conv2D(4, 2, groups=2, data_format=f),
    "2d, dilated": lambda f: L.Conv2D(2, 2, dilation_rate=(1, 2), data_format=f),
    "3d": lambda f: L.Conv3D(2, 2, padding="same", data_format=f),
    "1d, transposed": lambda f: L.Conv1DTranspose(3, 2, strides=2, data_format=f),
    "2d, transposed": lambda f: L.Conv2DTranspose(3, 2, strides=2, data_format=f),
    "2d, separable": lambda f: L.SeparableConv2D(3, 2, data_format=f),
}


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_channels_first(rank, rng, allclose):
    """Like the same layer with the channels last, which Keras has on all devices."""
    shape = (3, 4, 5)[-rank:]
    inputs = {f: keras.Input((*shape, 2) if f == LAST else (2, *shape)) for f in BOTH}
    cases = [make for name, make in CHANNELS_FIRST.items() if name[0] == str(rank)]
    models = {}
    for f in BOTH:
        models[f] = keras.Model(inputs[f], [make(f)(inputs[f]) for make in cases])
    for a, b in zip(*(model.variables for model in models.values()), strict=True):
        a.assign(rng.uniform(-1, 1, size=a.shape))
        b.assign(a)
    x = rng.uniform(-1, 1, size=(2, *shape, 2))
    expected = keras.tree.flatten(models[LAST].predict(x, verbose=0))
    converter = nengo_dl.Converter(models["channels_first"], allow_fallback=False)
    data = np.moveaxis(x, -1, 1).reshape(2, 1, -1)
    with nengo_dl.Simulator(converter.net, minibatch_size=2, progress_bar=False) as sim:
        found = sim.predict({converter.inputs[models["channels_first"].input]: data})
    for tensor, y in zip(models["channels_first"].outputs, expected, strict=True):
        y = np.moveaxis(y, -1, 1)
        result = found[converter.outputs[tensor]].reshape(y.shape)
        assert allclose(result, y, atol=1e-5, rtol=1e-5)


LAST = "channels_last"
BOTH = (LAST, "channels_first")


def test_in_core_nengo(rng, allclose):
    """All of it is Nengo: its own simulator gives the same output."""
    inputs = keras.Input((4, 3, 2))
    outputs = [
        L.Conv2D(2, 2, dilation_rate=2, **SAME, **RELU)(inputs),
        L.Conv2DTranspose(2, 2, strides=2)(inputs),
        L.SeparableConv2D(2, 2)(inputs),
    ]
    model = keras.Model(inputs, outputs)
    x = rng.uniform(-1, 1, size=(1, 4, 3, 2))
    converter = nengo_dl.Converter(model, allow_fallback=False)
    converter.inputs[inputs].output = x.ravel()
    with nengo.Simulator(converter.net, progress_bar=False) as sim:
        sim.run_steps(1)
    for tensor, y in zip(outputs, model.predict(x, verbose=0), strict=True):
        assert allclose(sim.data[converter.outputs[tensor]][0], y.ravel(), atol=1e-5)


TRAINED = {
    "1d": (
        (6, 2),
        lambda x: [
            L.Conv1D(2, 3, padding="causal", activation="relu")(x),
            L.Conv1D(2, 2, dilation_rate=2)(x),
            L.SeparableConv1D(3, 2, strides=2)(x),
        ],
    ),
    "2d": (
        (5, 4, 2),
        lambda x: [
            L.Conv2D(4, 2, groups=2, activation="tanh", padding="same")(x),
            L.Conv2D(2, 2, dilation_rate=(2, 1), padding="same")(x),
            L.Conv2DTranspose(2, 3, strides=2, padding="same")(x),
        ],
    ),
}


@pytest.mark.parametrize("rank", TRAINED)
def test_trained_like_keras(rank, rng):
    """Filters and biases are shared by all positions, whatever happens to them."""
    shape, make = TRAINED[rank]
    inputs = keras.Input(shape)
    model = keras.Model(inputs, make(inputs))
    randomize(model, rng)
    converter = nengo_dl.Converter(model, allow_fallback=False)
    converter.verify(training=True, atol=1e-5, rtol=1e-4)


def test_called_twice(rng):
    """A layer that is called for pictures of two sizes has one array of filters."""
    inputs = keras.Input((4, 4, 1))
    layer = L.Conv2D(1, 2, padding="same", activation="relu")
    x = L.Cropping2D(1)(layer(inputs))
    model = keras.Model(inputs, layer(x))
    randomize(model, rng)
    converter = nengo_dl.Converter(model, allow_fallback=False)
    converter.verify(training=True, atol=1e-5, rtol=1e-4)
    with nengo_dl.Simulator(converter.net, progress_bar=False) as sim:
        sizes = [np.prod(w.shape) for w in sim.keras_model.trainable_weights]
    assert sum(sizes) == 4 + 1


def test_dilated_and_transposed_becomes_tensor_node(rng):
    """What Nengo has no convolution for is left to Keras."""
    inputs = keras.Input((4, 1))
    model = keras.Model(inputs, L.Conv1DTranspose(2, 2, dilation_rate=2)(inputs))
    check_fallback(model, rng, "transposed convolution with dilation")


@pytest.mark.skipif(
    release(keras) < (3, 11), reason="older ones take no output_padding of 0"
)
def test_size_without_way_back():
    """A transposed convolution that is none: its size leads to another one."""
    inputs = keras.Input((3, 1))
    layer = L.Conv1DTranspose(1, 2, strides=2, output_padding=0, padding="same")
    model = keras.Model(inputs, layer(inputs))
    with pytest.raises(TypeError, match=r"output_padding=\(0,\)"):
        nengo_dl.Converter(model, allow_fallback=False)


def test_low_rank_updates():
    """What is not one array of filters is left to Keras."""
    inputs = keras.Input((4, 4, 1))
    model = keras.Model(inputs, L.Conv2D(2, 2, lora_rank=1)(inputs))
    with pytest.raises(TypeError, match="low-rank"):
        nengo_dl.Converter(model, allow_fallback=False)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
def test_gradient_of_neurons_without_input(activation):
    """Currents that are exactly zero have the gradient that they have in Keras."""
    inputs = keras.Input((4, 4, 1))
    x = L.Conv2D(2, 2, kernel_initializer="zeros", activation=activation)(inputs)
    model = keras.Model(inputs, L.Conv2D(2, 2, kernel_initializer="ones")(x))
    converter = nengo_dl.Converter(model, allow_fallback=False)
    converter.verify(training=True, atol=1e-5, rtol=1e-4)
