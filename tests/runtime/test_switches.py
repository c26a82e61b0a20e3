"""What TensorFlow was told for the whole process is no reason to fail."""

import contextlib
import warnings

import keras
import nengo
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import config

import nengo_dl
from nengo_dl.runtime.tensorflow import costs, switches

X = np.ones((2, 5, 1))


@contextlib.contextmanager
def check_numerics():
    tf.debugging.enable_check_numerics()
    try:
        yield
    finally:
        tf.debugging.disable_check_numerics()


@contextlib.contextmanager
def eagerly():
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


@contextlib.contextmanager
def deterministic():
    tf.keras.utils.set_random_seed(0)
    tf.config.experimental.enable_op_determinism()
    try:
        yield
    finally:
        config.disable_op_determinism()


def network(neurons, synapse):
    with nengo.Network(seed=0) as net:
        node = nengo.Node([0.0])
        ens = nengo.Ensemble(8, 1, neuron_type=neurons)
        nengo.Connection(node, ens, synapse=synapse)
        net.p = nengo.Probe(ens, synapse=synapse)
    return net


def results(neurons, synapse):
    net = network(neurons, synapse)
    with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
        sim.run_steps(30)
        ran = np.array(sim.data[net.p])
        sim.reset()
        predicted = sim.predict(X)[net.p]
        sim.compile("sgd", loss="mse")
        loss = sim.fit(X, X, verbose=0, shuffle=False).history["loss"]
        return ran, predicted, loss


@pytest.mark.parametrize("switch", (check_numerics, eagerly, deterministic))
@pytest.mark.parametrize(
    "neurons, synapse", ((nengo.LIF(), 0.01), (nengo.RectifiedLinear(), None))
)
def test_auto_steps_back(
    switch, neurons, synapse, monkeypatch, allclose, no_machine_code
):
    monkeypatch.setattr(costs, "COMPILE_SECONDS", 0.0)
    expected = results(neurons, synapse)
    with switch(), warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        stepped_back = results(neurons, synapse)
    for one, other in zip(stepped_back, expected, strict=True):
        assert allclose(one, other, atol=1e-6)
    said = [w for w in found if "enable_check_numerics" in str(w.message)]
    assert len(said) == (switch is check_numerics)
    assert not [w for w in found if "jit_compile" in str(w.message)]


def test_nothing_is_tried_as_long_as_there_is_no_reason(monkeypatch):
    monkeypatch.setattr(tf, "function", None)
    assert switches.may_compile("auto") and switches.may_compile(True)
    monkeypatch.undo()
    with check_numerics():
        assert switches.may_compile(True)
        with pytest.warns(UserWarning, match="enable_check_numerics"):
            assert not switches.may_compile("auto")


@pytest.fixture
def enabled():
    """Whether TensorFlow rounds to TensorFloat-32, which is what it does by default."""
    is_enabled = tf.config.experimental.tensor_float_32_execution_enabled
    before = is_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(True)
    yield is_enabled
    tf.config.experimental.enable_tensor_float_32_execution(before)


@pytest.mark.parametrize("allowed", (False, True))
def test_float32_is_float32_in_calls_of_a_simulator(allowed, enabled):
    found = []

    class Looks(keras.callbacks.Callback):
        def on_batch_end(self, batch, logs=None):
            found.append(enabled())

    def look(x):
        seen = tf.py_function(lambda x: found.append(enabled()) or x, [x], x.dtype)
        return tf.ensure_shape(seen, x.shape)

    net = network(nengo.RectifiedLinear(), 0.01)
    with net:
        nengo_dl.configure_settings(
            executor="tensorflow", jit=False, tensor_float_32=allowed
        )
        node = nengo_dl.TensorNode(look, shape_in=(1,), pass_time=False)
        nengo.Connection(net.all_ensembles[0], node)
        nengo.Probe(node)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        found.clear()
        sim.run_steps(2)
        assert found and set(found) == {allowed}
        found.clear()
        sim.compile("sgd", loss="mse")
        sim.fit(X[:1], {net.p: X[:1]}, verbose=0, callbacks=[Looks()])
        assert found and set(found) == {allowed}
        assert enabled()


def test_a_precision_holds_until_its_last_user_has_gone(enabled):
    first, second = (switches.tensor_float_32.being(value) for value in (False, True))
    with first:
        second.__enter__()
        assert enabled()
    assert enabled()
    second.__exit__(None, None, None)
    with switches.tensor_float_32.being(False):
        assert not enabled()
    assert enabled()
