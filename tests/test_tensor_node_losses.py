"""Losses, regularizers and constraints of Keras layers in networks; unrolled loops."""

import pickle

import keras
import nengo
import numpy as np
import pytest
import tensorflow as tf

import nengo_dl
from tests.tensor_networks import (
    BATCH,
    SIZE,
    STEPS,
    data,
    fit,
    fit_keras,
    network,
    seeded,
    simulator,
    unrolled,
)


@keras.saving.register_keras_serializable("nengo_dl_tests")
class Penalized(keras.layers.Layer):
    """A dense layer that adds two losses of its output, one only in training."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(SIZE, activation="tanh")

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x, training=False):
        y = self.dense(x)
        self.add_loss([tf.reduce_mean(y**2), tf.reduce_mean(tf.abs(y))])
        if training:
            self.add_loss(0.5 * tf.reduce_mean(y))
        return y

    @staticmethod
    def losses_of(y, training=True):
        """What it adds for one call."""
        loss = tf.reduce_mean(y**2) + tf.reduce_mean(tf.abs(y))
        return loss + 0.5 * tf.reduce_mean(y) if training else loss


def expected_training(dense, function, penalty, y, rate=0.1):
    """The loss, and the weights after one step down its gradient."""
    with tf.GradientTape() as tape:
        output = function()
        loss = tf.reduce_mean((output - y) ** 2) + penalty(output)
    gradients = tape.gradient(loss, [v.value for v in dense.weights])
    pairs = zip(dense.weights, gradients, strict=True)
    return loss.numpy(), [v.numpy() - rate * g.numpy() for v, g in pairs]


@pytest.mark.parametrize("recurrent", (False, True))
def test_losses_of_layers_are_added(recurrent, rng, allclose):
    """Once for a call with all steps, else the mean over the steps."""
    seeded()
    layer = Penalized()
    net = network(layer, recurrent=recurrent)
    x, y = data(rng), data(rng)
    dense = layer.dense

    def penalty(output, training=True):
        if not recurrent:
            return layer.losses_of(output, training)
        steps = [layer.losses_of(output[:, i], training) for i in range(STEPS)]
        return tf.reduce_mean(steps)

    def function():
        return unrolled(dense, x) if recurrent else dense(x)

    loss, weights = expected_training(dense, function, penalty, y)
    tested = np.mean((function() - y) ** 2) + penalty(function(), False).numpy()
    expected = function()
    with simulator(net) as sim:
        assert allclose(sim.predict(x, verbose=0)[net.probe], expected, atol=1e-6)
        sim.compile(keras.optimizers.SGD(0.1), loss="mse")
        targets = {net.stimulus: x}, {net.probe: y}
        assert allclose(sim.evaluate(*targets, verbose=0)["loss"], tested, atol=1e-6)
        history = sim.fit(*targets, verbose=0).history
        assert allclose(history["loss"][0], loss, atol=1e-6)
        for variable, value in zip(dense.weights, weights, strict=True):
            assert allclose(variable.numpy(), value, atol=1e-6)
        sim.run_steps(STEPS, data={net.stimulus: x})
        if not recurrent:  # then the recurrent connection was trained as well
            assert allclose(sim.data[net.probe], function(), atol=1e-6)
        with pickle.loads(pickle.dumps(sim)) as other:
            other.run_steps(2)


def test_regularizers_and_constraints(rng, allclose):
    """Of weights, biases and activities, as Keras has them."""
    seeded()
    dense = keras.layers.Dense(
        SIZE,
        kernel_regularizer=keras.regularizers.L1(0.1),
        bias_regularizer=keras.regularizers.L2(0.2),
        activity_regularizer=keras.regularizers.L2(0.3),
        kernel_constraint=keras.constraints.MaxNorm(0.4),
    )
    net = network(dense)
    copy = keras.layers.Dense.from_config(dense.get_config())
    reference = keras.Sequential([keras.Input((SIZE,)), copy])
    x, y = data(rng), data(rng)
    with simulator(net) as sim:
        reference.set_weights(dense.get_weights())
        fit(sim, x, y)
        fit_keras(reference, x, y)
    for mine, other in zip(dense.weights, reference.weights, strict=True):
        assert allclose(mine.numpy(), other.numpy(), atol=1e-6)
    assert np.all(np.linalg.norm(dense.kernel, axis=0) < 0.4 + 1e-6)


@pytest.mark.parametrize("recurrent", (False, True))
def test_unrolled_steps(recurrent, rng, allclose):
    """Without a loop, layers train as with one, statistics and losses included."""
    n_steps = 3  # each one is traced
    x, y = data(rng, steps=n_steps), data(rng, steps=n_steps)
    found = []
    for use_loop in (True, False):
        seeded()
        layer, norm = Penalized(), keras.layers.BatchNormalization(momentum=0.8)
        net = network(keras.Sequential([norm, layer]), recurrent=recurrent)
        with net:
            nengo_dl.configure_settings(use_loop=use_loop)
        with nengo_dl.Simulator(
            net, minibatch_size=BATCH, unroll_simulation=n_steps, progress_bar=False
        ) as sim:
            before = sim.predict(x, verbose=0)[net.probe]
            fit(sim, x, y)
            after = sim.predict(x, verbose=0)[net.probe]
        variables = [v.numpy() for v in (*layer.weights, *norm.weights)]
        found.append([before, after, *variables])
    assert not allclose(found[0][0], found[0][1], atol=1e-3)
    for with_loop, without in zip(*found, strict=True):
        assert allclose(without, with_loop, atol=1e-6)


def test_unrolled_cells(rng, allclose):
    """States go from step to step, and from call to call."""
    seeded()
    cell = keras.layers.GRUCell(SIZE)
    net = network(cell)
    with net:
        nengo_dl.configure_settings(use_loop=False)
    x = data(rng)
    expected = keras.layers.RNN(cell, return_sequences=True)(np.tile(x, (1, 2, 1)))
    with nengo_dl.Simulator(
        net, minibatch_size=BATCH, unroll_simulation=STEPS, progress_bar=False
    ) as sim:
        for half in (expected[:, :STEPS], expected[:, STEPS:]):
            found = sim.predict(x, stateful=True, verbose=0)[net.probe]
            assert allclose(found, half, atol=1e-6)


def test_networks_around_layers_with_losses(rng, allclose):
    """Losses of several nodes are added up; weights of connections are trained too."""
    seeded()
    first, second = Penalized(), Penalized()
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(trainable=None)
        net.stimulus = nengo.Node(np.zeros(SIZE))
        a = nengo_dl.Layer(first)(net.stimulus)
        b = nengo_dl.TensorNode(second, shape_in=(SIZE,), pass_time=False)
        weights = rng.uniform(-1, 1, size=(SIZE, SIZE))
        net.conn = nengo.Connection(a, b, transform=weights, synapse=None)
        net.probe = nengo.Probe(b)
    x, y = data(rng), data(rng)
    matrix = tf.Variable(weights, dtype=tf.float32)
    with tf.GradientTape() as tape:
        hidden = first.dense(x)
        output = second.dense(tf.einsum("ij,btj->bti", matrix, hidden))
        loss = tf.reduce_mean((output - y) ** 2)
        loss += Penalized.losses_of(hidden) + Penalized.losses_of(output)
    expected = weights - 0.1 * tape.gradient(loss, matrix)
    with simulator(net) as sim:
        fit(sim, x, y)
        assert allclose(sim.data[net.conn].weights, expected, atol=1e-6)


def test_losses_and_metrics_of_a_compiled_model_stay_its_own(rng, allclose):
    """Also where not all batches are full, so that the number of items is not known."""
    seeded()
    model = keras.Sequential([keras.Input((SIZE,)), keras.layers.Dense(SIZE)])
    model.compile("sgd", "mse", metrics=["accuracy"])
    x, y = data(rng, batch=5), data(rng, batch=5)
    net = network(model)
    with simulator(net) as sim:
        sim.compile(keras.optimizers.SGD(0.0), loss="mse", metrics=["mae"])
        history = sim.fit({net.stimulus: x}, {net.probe: y}, verbose=0).history
        result = sim.evaluate({net.stimulus: x}, {net.probe: y}, verbose=0)
    expected = np.mean((model(x.reshape(-1, SIZE)).numpy() - y.reshape(-1, SIZE)) ** 2)
    assert set(history) == set(result) == {"loss", "probe_loss", "probe_mae"}
    assert allclose([history["loss"][0], result["loss"]], expected, rtol=1e-5)
