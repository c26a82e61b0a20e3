"""What is made on first use is right in whatever context comes first."""

import contextlib
import threading

import keras
import nengo
import numpy as np
import pytest
import tensorflow as tf

import nengo_dl

X = np.ones((2, 4, 1), np.float32)


def network(jit="auto"):
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(jit=jit)
        node = nengo.Node([0.0], label="in")
        ens = nengo.Ensemble(6, 1, neuron_type=nengo.LIF())
        nengo.Connection(node, ens)
        net.p = nengo.Probe(ens, synapse=0.01, label="out")
    return net


def uses(jit):
    """Every first use of a new simulator: outputs, and the names of its variables."""
    net = network(jit)
    with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
        sim.run_steps(20)
        ran = np.array(sim.data[net.p])
        sim.reset()
        names = [variable.path for variable in sim.keras_model.variables]
        predicted = sim.predict(X)[net.p]
        sim.compile("sgd", loss="mse")
        loss = sim.fit(X, X, verbose=0, shuffle=False).history["loss"]
        return names, ran, predicted, loss, sim.predict(X)[net.p]


def in_function(call):
    found = []

    @tf.function(autograph=False)
    def function():
        found.append(call())
        return tf.zeros(())

    function()
    return found[0]


def in_thread(call):
    found = []
    thread = threading.Thread(target=lambda: found.append(call()))
    thread.start()
    thread.join()
    return found[0]


def within(make):
    def run(call):
        with make():
            return call()

    return run


CONTEXTS = {
    "function": in_function,
    "thread": in_thread,
    "tape": within(tf.GradientTape),
    "graph": within(lambda: tf.Graph().as_default()),
    "strategy": within(lambda: tf.distribute.MirroredStrategy(["/cpu:0"]).scope()),
    "name": within(lambda: tf.name_scope("a")),
    "keras name": within(lambda: keras.name_scope("a")),
    "device": within(lambda: tf.device("/cpu:0")),
    "stateless": within(keras.StatelessScope),
}


@pytest.fixture(scope="module")
def expected():
    return {jit: uses(jit) for jit in ("auto", True)}


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("jit", ("auto", True))
def test_first_use(context, jit, expected, allclose):
    names, *values = CONTEXTS[context](lambda: uses(jit))
    assert names == expected[jit][0]
    for found, known in zip(values, expected[jit][1:], strict=True):
        assert allclose(found, known, atol=1e-6)


def test_a_model_that_is_first_called_in_a_training_step_of_ones_own(allclose):
    """The gradients are there, and so are the variables."""
    net = network()
    with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:

        @tf.function(autograph=False)
        def step(x):
            with tf.GradientTape() as tape:
                model = sim.keras_model
                loss = tf.reduce_mean((model({"in": x}, training=True)["out"] - 1) ** 2)
            gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
            return loss, [g for g in gradients if g is not None]

        loss, gradients = step(tf.constant(X))
        assert np.isfinite(loss) and gradients
        assert any(np.abs(gradient).max() > 0 for gradient in gradients)
        assert allclose(
            loss, np.mean((sim.keras_model({"in": X}, training=True)["out"] - 1) ** 2)
        )


def test_errors_come_out_of_other_contexts():
    net = network()
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        with tf.Graph().as_default(), contextlib.suppress(ZeroDivisionError):
            sim.run(0.001)
            with pytest.raises(nengo.exceptions.ValidationError, match="negative"):
                sim.run_steps(-1)
        assert sim.n_steps == 1
