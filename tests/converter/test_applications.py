"""Beginnings of well-known networks, with random weights."""

import keras
import numpy as np
import pytest

import nengo_dl

SIZE = (32, 32, 3)


def beginning(model, last, rng):
    """A network up to a layer, with statistics of data that it was shown."""
    x = model.get_layer(last).output
    model = keras.Model(model.input, keras.layers.GlobalAveragePooling2D()(x))
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
            layer.gamma.assign(rng.uniform(0.5, 1.5, size=layer.gamma.shape))
            layer.beta.assign(rng.uniform(-0.3, 0.3, size=layer.beta.shape))
    model(rng.uniform(-1, 1, size=(8, *SIZE)).astype("float32"), training=True)
    return model


def residual(rng):
    model = keras.applications.ResNet50(input_shape=SIZE, weights=None)
    return beginning(model, "conv2_block2_out", rng)


def dense(rng):
    model = keras.applications.DenseNet121(input_shape=SIZE, weights=None)
    return beginning(model, "conv2_block2_concat", rng)


MAXIMUM = "a maximum has no native form"
CASES = {
    "ResNet": (residual, "MaxPooling2D", MAXIMUM),
    "DenseNet": (dense, "MaxPooling2D", MAXIMUM),
}


@pytest.mark.parametrize("name", CASES)
def test_outputs_are_those_of_keras(name, rng):
    """What has no native form is a TensorNode, and the summary says why."""
    make, fallback, reason = CASES[name]
    keras.utils.set_random_seed(0)
    model = make(rng)
    with pytest.warns(UserWarning, match="becomes a TensorNode"):
        converter = nengo_dl.Converter(model, inference_only=True)
    lines = []
    converter.summary(lambda text: lines.extend(text.splitlines()[2:]))
    assert len(lines) == len(model.layers) - 1
    for line in lines:
        native = f"({fallback})" not in line
        assert ("TensorNode" in line) == (reason in line) == (not native)

    x = rng.uniform(-1, 1, size=(3, *SIZE)).astype("float32")
    assert np.all(np.std(model(x), axis=0) > 1e-3)
    assert converter.verify(inputs=x, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "name, alpha, neurons", (("MobileNet", 0.25, 27), ("MobileNetV2", 0.35, 35))
)
def test_whole_networks_without_a_fallback(name, alpha, neurons, rng):
    options = {"input_shape": SIZE, "alpha": alpha, "weights": None, "classes": 10}
    make = getattr(keras.applications, name)
    keras.utils.set_random_seed(0)
    model = make(**options, classifier_activation=None)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
            layer.beta.assign(rng.uniform(0, 3, size=layer.beta.shape))
    model(rng.uniform(-1, 1, size=(8, *SIZE)).astype("float32"), training=True)
    converter = nengo_dl.Converter(model, inference_only=True, allow_fallback=False)
    kinds = [type(e.neuron_type) for e in converter.net.ensembles if e.label != "one"]
    assert kinds == [nengo_dl.ClippedReLU] * neurons

    x = rng.uniform(-1, 1, size=(3, *SIZE)).astype("float32")
    assert np.all(np.std(model(x), axis=0) > 1e-4)
    assert converter.verify(inputs=x)
