import keras
import nengo
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import nengo_dl
from nengo_dl.converter.activations import activation_name, activation_of, find_neurons
from nengo_dl.converter.options import Options
from tests.converter.family_checks import compare_outputs
from tests.converter.models import outputs_of, randomized, verified


def test_native_activations(rng, allclose):
    choices = [
        layers.Activation(name)
        for name in ("linear", "relu", "leaky_relu", "sigmoid", "tanh")
    ]
    choices += [
        layers.Activation(tf.nn.relu),
        layers.ReLU(),
        layers.ReLU(negative_slope=0.3),
        layers.ReLU(max_value=6),
        layers.ReLU(max_value=0.5, negative_slope=0.1),
        layers.Activation("relu6"),
        layers.LeakyReLU(0.1),
        layers.Dense(2, activation="leaky_relu"),
    ]
    compare_outputs(choices, (2, 3), rng, allclose)


def test_names():
    for function in (tf.nn.relu, keras.activations.relu, keras.ops.relu, "relu"):
        assert activation_name(function) == "relu"
    assert activation_name(nengo.RectifiedLinear()) == "relu"
    assert activation_name(None) == "linear"
    assert activation_name(keras.activations.gelu) is None
    assert activation_name("gelu") is None


@pytest.mark.parametrize(
    "key",
    [
        "relu",
        tf.nn.relu,
        keras.activations.relu,
        nengo.RectifiedLinear,
        nengo.RectifiedLinear(),
    ],
)
def test_swapping(key):
    options = Options(swap_activations={key: nengo.LIF()})
    assert find_neurons(keras.activations.relu, options) == (nengo.LIF(), True)
    assert find_neurons(keras.activations.tanh, options)[0] == nengo.Tanh(tau_ref=1)


def test_swapping_what_is_not_native():
    options = Options(swap_activations={keras.activations.softplus: nengo.LIFRate()})
    assert find_neurons(keras.activations.softplus, options) == (nengo.LIFRate(), True)
    assert find_neurons(keras.activations.gelu, options) == (None, False)


def test_swapped_layers(rng, allclose):
    inputs = keras.Input((3,))
    x = layers.Dense(4, activation="relu")(inputs)
    x = layers.LeakyReLU(0.2)(layers.Dense(3)(x))
    model = keras.Model(inputs, x)
    swaps = {"relu": nengo.Sigmoid(tau_ref=1), nengo_dl.LeakyReLU: nengo.Tanh(tau_ref=1)}
    converter = nengo_dl.Converter(model, swap_activations=swaps)
    types = [ens.neuron_type for ens in converter.net.ensembles]
    assert nengo.Sigmoid(tau_ref=1) in types and nengo.Tanh(tau_ref=1) in types

    data = rng.uniform(-1, 1, size=(2, 3)).astype("float32")
    hidden = keras.activations.sigmoid(data @ model.layers[1].kernel)
    expected = keras.activations.tanh(hidden @ model.layers[2].kernel)
    assert allclose(outputs_of(converter, data)[0][:, 0], expected.numpy(), atol=1e-6)


def test_other_activations_become_tensor_nodes(rng):
    inputs = keras.Input((3,))
    x = layers.Dense(4, activation="softmax", name="classes")(inputs)
    x = layers.ReLU(max_value=0.5, threshold=0.2)(x)
    model = keras.Model(inputs, x)
    with pytest.warns(UserWarning) as messages:
        verified(model, rng, native=False)
    text = " ".join(str(message.message) for message in messages)
    assert "'classes' (Dense) becomes a TensorNode: there is no neuron type" in text
    assert "max_value=0.5, threshold=0.2" in text
    with pytest.raises(TypeError, match="activation 'softmax'"):
        nengo_dl.Converter(model, allow_fallback=False)


def test_layers_as_activations(rng, allclose):
    choices = [
        layers.Dense(3, activation=layers.LeakyReLU(0.1)),
        layers.Dense(3, activation=layers.ReLU(negative_slope=0.4)),
        layers.Activation(layers.Activation("tanh")),
    ]
    compare_outputs(choices, (4,), rng, allclose)


def test_activation_of_layers():
    class Shifted(layers.ReLU):
        def call(self, x):
            return super().call(x - 1)

    shifted, bounded = Shifted(), layers.ReLU(max_value=2, threshold=1)
    assert activation_of(shifted) is shifted and activation_of(bounded) is bounded
    assert activation_of(layers.ReLU(2, 0.1)) == nengo_dl.ClippedReLU(2, 0.1)
    assert activation_of(layers.ReLU()) is keras.activations.relu
    assert activation_of(layers.ReLU(6)) is keras.activations.relu6
    assert activation_of(layers.ReLU(6, threshold=1)).threshold == 1
    assert activation_of(layers.LeakyReLU(0.2)) == nengo_dl.LeakyReLU(0.2)


@pytest.mark.parametrize("key", ["relu6", keras.activations.relu6])
def test_swapping_bounded_rectification(key):
    """As a layer and as an activation."""
    inputs = keras.Input((3,))
    x = layers.ReLU(6, name="layer")(layers.Dense(4, activation="relu6")(inputs))
    model = keras.Model(inputs, x)
    converter = nengo_dl.Converter(model, allow_fallback=False)
    types = [ens.neuron_type for ens in converter.net.ensembles if ens.label != "one"]
    assert types == [nengo_dl.ClippedReLU(6)] * 2
    converter = nengo_dl.Converter(
        model, allow_fallback=False, swap_activations={key: nengo.LIF()}
    )
    types = [ens.neuron_type for ens in converter.net.ensembles if ens.label != "one"]
    assert types == [nengo.LIF()] * 2


def test_functions_instead_of_layers(rng):
    """With swaps, too."""
    inputs = keras.Input((3,))
    x = layers.Dense(4)(inputs)
    functions = [
        keras.ops.relu,
        keras.ops.sigmoid,
        keras.ops.tanh,
        lambda x: keras.ops.leaky_relu(x, 0.1),
        keras.activations.relu,
        lambda x: keras.activations.relu(x, negative_slope=0.3),
    ]
    model = keras.Model(inputs, [function(x) for function in functions])
    verified(model, rng)
    functions = [
        keras.ops.relu6,
        lambda x: keras.activations.relu(x, 0, 2),
        lambda x: keras.activations.relu(x, threshold=0.5),
    ]
    bounded = keras.Model(inputs, [function(x) for function in functions])
    with pytest.warns(UserWarning, match="becomes a TensorNode: there is no neuron type"):
        converter = nengo_dl.Converter(bounded, swap_activations={"relu6": nengo.LIF()})
    first, second, third = (converter.layers[tensor] for tensor in bounded.outputs)
    assert first.ensemble.neuron_type == nengo.LIF()
    assert second.ensemble.neuron_type == nengo_dl.ClippedReLU(2)
    assert isinstance(third, nengo_dl.TensorNode)


@pytest.mark.parametrize("value", (keras.activations.tanh, "tanh", tf.nn.tanh))
def test_functions_take_the_place_of_others(value, rng, allclose):
    """Native ones, and those that become a TensorNode."""
    inputs = keras.Input((3,))
    x = layers.ReLU()(layers.Dense(4, activation="relu")(inputs))
    model = randomized(keras.Model(inputs, layers.Activation("gelu")(x)), rng)
    data = rng.uniform(-1, 1, size=(2, 3)).astype("float32")
    hidden = np.tanh(np.tanh(data @ model.layers[1].kernel + model.layers[1].bias))
    swaps = {"relu": value, "gelu": keras.activations.softplus}
    with pytest.warns(UserWarning, match="'softplus'"):
        converter = nengo_dl.Converter(model, swap_activations=swaps)
    found = outputs_of(converter, data)[0][:, 0]
    assert allclose(found, np.log1p(np.exp(hidden)), atol=1e-5)


def test_ceilings_are_scaled(rng, allclose, recwarn):
    """Of rates and of spikes: the output stays as it is."""
    inputs = keras.Input((3,))
    model = randomized(keras.Model(inputs, layers.Dense(9, "relu6")(inputs)), rng)
    data = np.concatenate([rng.uniform(-1, 1, (4, 3)), rng.uniform(5, 9, (4, 3))])
    expected = model.predict(data.astype("float32"), verbose=0)
    assert (expected == 6).any() and (expected == 0).any() and (expected % 6).any()
    rates = nengo_dl.Converter(model, scale_firing_rates=50)
    assert allclose(outputs_of(rates, data)[0][:, 0], expected, rtol=1e-5)
    start = {"voltage": nengo.dists.Choice([0.5])}
    spikes = nengo.RegularSpiking(nengo_dl.ClippedReLU(6), initial_state=start)
    spiking = nengo_dl.Converter(
        model, scale_firing_rates=50, swap_activations={"relu6": spikes}
    )
    found = outputs_of(spiking, data, n_steps=200)[0].mean(axis=1)
    assert allclose(found, expected, atol=0.6 / (50 * 0.2))
    assert not [w for w in recwarn if "changes what" in str(w.message)]
