"""Legendre memory units of the package keras-lmu in networks."""

import keras
import nengo
import numpy as np
import pytest

import nengo_dl

keras_lmu = pytest.importorskip(
    "keras_lmu", reason="needs the package keras-lmu (the extra lmu)"
)

STEPS = 12


def options():
    return {
        "memory_d": 1,
        "order": 6,
        "theta": STEPS,
        "hidden_cell": keras.layers.SimpleRNNCell(5),
    }


def network(function, shape_in):
    """A network with a node that reads a sequence, or one step of it."""
    with nengo.Network(seed=0) as net:
        net.stimulus = nengo.Node(np.zeros(shape_in[0]))
        net.node = nengo_dl.TensorNode(function, shape_in=shape_in, pass_time=False)
        nengo.Connection(net.stimulus, net.node, synapse=None)
        net.probe = nengo.Probe(net.node)
    return net


def trained(net, x, y, weights):
    """The losses of some epochs; whether all weights changed."""
    before = [weight.numpy() for weight in weights]
    with nengo_dl.Simulator(net, minibatch_size=len(x), progress_bar=False) as sim:
        sim.compile(keras.optimizers.Adam(0.01), loss="mse")
        losses = sim.fit(x, y, epochs=20, verbose=0).history["loss"]
    pairs = zip(before, weights, strict=True)
    return losses, [not np.array_equal(old, new.numpy()) for old, new in pairs]


def test_layer(rng, allclose):
    """A whole sequence in each step of the simulation."""
    keras.utils.set_random_seed(0)
    layer = keras_lmu.LMU(**options())
    net = network(layer, (STEPS, 1))
    x = rng.uniform(-1, 1, size=(4, 1, STEPS)).astype("float32")
    with nengo_dl.Simulator(net, minibatch_size=4, progress_bar=False) as sim:
        found = sim.predict(x, verbose=0)[net.probe]
    assert allclose(found[:, 0], layer(x.reshape(4, STEPS, 1)), atol=1e-6)
    y = np.full((4, 1, 5), 0.5, "float32")
    losses, changed = trained(net, x, y, layer.trainable_weights)
    assert losses[-1] < 0.5 * losses[0] and all(changed) and changed


def test_cell(rng, allclose):
    """One step of the sequence in each step of the simulation."""
    keras.utils.set_random_seed(0)
    cell = keras_lmu.LMUCell(**options())
    net = network(cell, (1,))
    x = rng.uniform(-1, 1, size=(4, STEPS, 1)).astype("float32")
    with nengo_dl.Simulator(net, minibatch_size=4, progress_bar=False) as sim:
        found = sim.predict(x, verbose=0)[net.probe]
    expected = keras.layers.RNN(cell, return_sequences=True)(x)
    assert allclose(found, expected, atol=1e-5)
    y = np.full((4, STEPS, 5), 0.5, "float32")
    losses, changed = trained(net, x, y, cell.trainable_weights)
    assert losses[-1] < 0.8 * losses[0] and all(changed) and changed


def test_converted(rng):
    inputs = keras.Input((None, 1))
    rnn = keras.layers.RNN(keras_lmu.LMUCell(**options()), return_sequences=True)
    model = keras.Model(inputs, keras.layers.Dense(2)(rnn(inputs)))
    converter = nengo_dl.Converter(model, temporal_model=True)
    assert converter.verify(atol=1e-5)
    assert converter.verify(training=True, atol=1e-5)
