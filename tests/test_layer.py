"""Networks that are written layer by layer."""

import keras
import nengo
import numpy as np
import pytest
import tensorflow as tf
from nengo.exceptions import ValidationError

import nengo_dl


def predictions(net, probe, x):
    with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
        return sim.predict(x)[probe]


def test_layers_one_after_the_other(rng, allclose):
    keras.utils.set_random_seed(0)
    dense = keras.layers.Dense(10)
    x = rng.uniform(-1, 1, (2, 4, 5)).astype(np.float32)
    with nengo.Network() as net:
        a = nengo.Node(np.zeros(5))
        b = nengo_dl.Layer(dense)(a)
        bias = {"gain": nengo.dists.Choice([1]), "bias": nengo.dists.Choice([0.1])}
        c = nengo_dl.Layer(nengo.RectifiedLinear())(b, **bias)
        d = nengo_dl.Layer(tf.exp)(c[:4], transform=0.5)
        p = nengo.Probe(d)
    assert isinstance(c, nengo.ensemble.Neurons) and c.size_in == 10
    assert (b.shape_in, b.shape_out) == ((5,), (10,))
    expected = tf.exp(0.5 * tf.nn.relu(dense(x) + 0.1)[..., :4])
    assert allclose(predictions(net, p, x), expected, atol=1e-5)


def test_sizes_follow_from_what_is_connected(rng):
    with nengo.Network():
        a = nengo.Node(np.zeros(6))
        ensemble = nengo.Ensemble(10, 2)
        make = nengo_dl.Layer(lambda x: 2 * x)
        convolution = nengo.Convolution(3, (2, 3, 1), kernel_size=(1, 1))
        assert make(a).shape_in == (6,)
        assert make(a[:2]).shape_in == (2,)
        assert make(ensemble).shape_in == (2,)
        assert make(ensemble.neurons).shape_in == (10,)
        assert make(a, transform=rng.uniform(size=(4, 6))).shape_in == (4,)
        assert make(a, transform=nengo.Dense((3, 6), np.ones((3, 6)))).shape_in == (3,)
        assert make(a, transform=convolution).shape_in == (18,)
        assert make(a, shape_in=(2, 3)).shape_in == (2, 3)
        assert make(a, shape_in=6).shape_out == (6,)
        neurons = nengo_dl.Layer(nengo.LIF())(a, shape_in=(3, 2), label="neurons")
        assert neurons.size_in == 6 and neurons.ensemble.label == "neurons"


def test_connections(rng):
    with nengo.Network() as net:
        nengo_dl.configure_settings(trainable=True)
        a = nengo.Node(np.zeros(3))
        node, conn = nengo_dl.Layer(lambda x: 2 * x)(a, return_conn=True)
        _, other = nengo_dl.Layer(tf.exp)(node, synapse=0.1, return_conn=True)
        direct = nengo.Connection(a, node, synapse=None)
    assert conn.synapse is None and conn.pre is a and conn.post is node
    assert other.synapse == nengo.Lowpass(0.1)
    assert net.config[conn].trainable is False
    assert net.config[direct].trainable is True


def test_arguments_of_nodes(rng, allclose):
    with nengo.Network() as net:
        a = nengo.Node(np.zeros(3))
        layer = nengo_dl.Layer(lambda t, x: x + t)
        node = layer(a, pass_time=True, shape_out=(3,), label="plus time")
        p = nengo.Probe(node)
    assert node.label == "plus time" and "Layer(" in str(layer)
    x = rng.uniform(-1, 1, (2, 4, 3)).astype(np.float32)
    expected = x + 0.001 * np.arange(1, 5)[:, None]
    assert allclose(predictions(net, p, x), expected, atol=1e-6)


def test_older_spelling():
    with nengo.Network():
        a = nengo.Node(np.zeros(3))
        with pytest.warns(DeprecationWarning, match=r"use nengo_dl.Layer\(f\)\(x"):
            node = nengo_dl.tensor_layer(a, lambda x: x[:, :2])
        assert node.size_out == 2
        with pytest.warns(DeprecationWarning, match="use nengo_dl.Layer"):
            node = nengo_dl.tensor_layer(a, keras.layers.Dense, units=4, label="dense")
        assert (node.size_out, node.label, node.tensor_func.units) == (4, "dense", 4)
        with pytest.warns(DeprecationWarning, match="use nengo_dl.Layer"):
            node = nengo_dl.tensor_layer(a, tf.nn.leaky_relu, alpha=0.5)
        assert node.tensor_func([-2.0]).numpy() == [-1.0]


@pytest.mark.parametrize("shape_in", [(7, 9, 1), (65,), 3])
def test_a_shape_of_another_size_is_named(shape_in):
    with nengo.Network():
        a = nengo.Node(np.zeros(64))
        with pytest.raises(ValidationError, match="connection from .* gives 64"):
            nengo_dl.Layer(keras.layers.Conv2D(4, 3))(a, shape_in=shape_in)


@pytest.mark.parametrize("shape_in", [(8, 8), None])
def test_a_shape_that_a_layer_does_not_take_is_named(shape_in):
    with nengo.Network():
        a = nengo.Node(np.zeros(64))
        with pytest.raises(
            ValidationError, match=r"\(height, width, channels\)"
        ) as error:
            nengo_dl.Layer(keras.layers.Conv2D(4, 3))(a, shape_in=shape_in)
        assert str(shape_in or (64,)) in str(error.value)
        assert isinstance(error.value.__cause__, ValueError)  # of Keras


def test_a_random_transform_gives_any_size():
    with nengo.Network():
        a = nengo.Node(np.zeros(4))
        glorot = nengo_dl.dists.Glorot()
        layer = nengo_dl.Layer(keras.layers.ReLU())(a, transform=glorot, shape_in=(6,))
        assert layer.size_in == 6
        neurons = nengo_dl.Layer(nengo.LIF())(a, transform=glorot, shape_in=5)
        assert neurons.size_in == 5


def test_several_inputs_are_answered_with_the_way_to_have_them():
    with nengo.Network():
        a, b = nengo.Node([0, 0]), nengo.Node([0])
        with pytest.raises(ValidationError, match=r"a list of 2.*tf\.split"):
            nengo_dl.Layer(keras.layers.Add())([a, b])
        with pytest.raises(ValidationError, match="got 'a'"):
            nengo_dl.Layer(keras.layers.ReLU())("a")
