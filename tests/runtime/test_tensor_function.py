"""Functions of tensors as parts of a step: what is found out about them, and calls."""

import keras
import nengo
import numpy as np
import pytest
import tensorflow as tf

import nengo_dl
from nengo_dl.runtime.numpy.namespace import NumpyNamespace
from nengo_dl.runtime.tensorflow.namespace import TensorFlowNamespace
from nengo_dl.runtime.tensorflow.tensor_function import TensorFunction, VariableState


def counting(count, gain):
    """A function that reads one Keras variable, and changes another."""

    def function(x, training=False):
        count.assign_add(1.0)
        return x * gain + (1.0 if training else 0.0)

    return TensorFunction(function, (2,), pass_time=False)


def variables():
    gain = keras.Variable(np.full(2, 3.0, np.float32), name="gain")
    return keras.Variable(0.0, trainable=False, name="count"), gain


def test_variables_of_a_plain_function():
    count, gain = variables()
    function = counting(count, gain)
    assert {id(v) for v in function.variables} == {id(count), id(gain)}
    assert [id(v) for v in function.weights] == [id(gain)]
    assert [id(v) for v in function.state_variables] == [id(count)]
    assert (function.shape_out, function.sizes) == ((2,), [2])
    assert count.numpy() == 0  # nothing was computed


@pytest.mark.parametrize("training", (False, True))
def test_calls(training, rng, allclose):
    count, gain = variables()
    function = counting(count, gain)
    x = rng.uniform(size=(2, 5)).astype(np.float32)
    expected = 3 * x + training
    (y,) = NumpyNamespace("float32").tensor_call(function, [x], [], training)
    assert allclose(y, expected) and count.numpy() == 1
    xp, weight = TensorFlowNamespace("float32"), tf.fill((2,), 4.0)
    (y,) = xp.tensor_call(function, [x], [weight], training)
    assert allclose(y, 4 * x + training) and count.numpy() == 2
    xp.kept = {id(count): tf.constant(7.0)}  # as inside a loop
    (y,) = xp.tensor_call(function, [x], [weight], training)
    assert xp.kept[id(count)].numpy() == 8 and count.numpy() == 2


def test_gradients_reach_weights_and_inputs(allclose):
    function = counting(*variables())
    x, weight = tf.ones((2, 5)), tf.fill((2,), 4.0)
    with tf.GradientTape() as tape:
        tape.watch([x, weight])
        (y,) = TensorFlowNamespace("float32").tensor_call(function, [x], [weight], True)
    d_x, d_weight = tape.gradient(y, [x, weight])
    assert allclose(d_x, np.full((2, 5), 4.0)) and allclose(d_weight, [5.0, 5.0])


def test_columns_are_items(rng):
    function = TensorFunction(lambda x: x[:, ::-1, :2], (2, 3), pass_time=False)
    x = rng.uniform(size=(6, 4)).astype(np.float32)
    (y,) = TensorFlowNamespace("float32").tensor_call(function, [x], [], False)
    expected = x.T.reshape(4, 2, 3)[:, ::-1, :2].reshape(4, 4).T
    assert np.array_equal(y, expected)


def test_obstacles():
    fine = TensorFunction(tf.exp, (2,), pass_time=False)
    assert fine.obstacle(True, 3) is None

    def function(x):
        return tf.ensure_shape(tf.numpy_function(np.exp, [x], tf.float32), x.shape)

    bad = TensorFunction(function, (2,), pass_time=False)
    assert bad.obstacle(False, 3) == "PyFunc"


def test_state_can_be_put_back():
    count, _ = variables()
    state = VariableState([count])
    count.assign(3.0)
    kept = state.snapshot()
    count.assign(5.0)
    state.restore(kept)
    assert count.numpy() == 3
    state.reset([])
    assert count.numpy() == 0


def test_labels():
    assert TensorFunction(tf.exp, (2,), pass_time=False).label == "exp"
    assert TensorFunction(keras.layers.Dense(2, name="d"), (2,), None, False).label == "d"
    assert TensorFunction(tf.exp, (2,), pass_time=False, label="mine").label == "mine"


class Penalized(keras.layers.Layer):
    """Adds losses, one of them only in training."""

    def call(self, x, training=False):
        self.add_loss([tf.reduce_sum(x), tf.ones(2)])
        if training:
            self.add_loss(10 * tf.reduce_mean(x))
        return x


def test_losses_are_one_more_row():
    function = TensorFunction(Penalized(), (2,), pass_time=False)
    assert function.penalized(False) and function.penalized(True)
    assert not TensorFunction(tf.exp, (2,), pass_time=False).penalized(True)
    with_losses = function.with_penalties()
    assert function.sizes == [2] and with_losses.sizes == [2, 1]
    x = np.float32([[1, 2, 3], [4, 5, 6]])
    (y,), _ = function([tf.constant(x)])
    assert np.array_equal(y, x)
    for training, expected in ((False, 23), (True, 58)):
        (y, losses), _ = with_losses([tf.constant(x)], training=training)
        assert np.array_equal(y, x)
        assert np.array_equal(losses, [[expected] * 3])
    for given in (function, with_losses, function):
        results = given.on_host(False)([np.zeros((2, 3), np.float32)])
        assert [result.shape[0] for result in results] == given.sizes
    assert with_losses.obstacle(False, 3) is None


class OfOneSize(keras.layers.Layer):
    """A layer with a state for each place of a batch of eight."""

    def build(self, shape):
        """Its state."""
        self.total = self.add_weight(shape=(8, 3), initializer="zeros", trainable=False)

    def call(self, x):
        """The sum of all steps."""
        self.total.assign(self.total + x)
        return self.total + 0.0


def test_layers_that_take_one_size_of_batches_only(allclose):
    with nengo.Network() as net:
        node = nengo.Node([1.0, 2.0, 3.0])
        layer = nengo_dl.Layer(OfOneSize())(node)
        probe = nengo.Probe(layer)
    with nengo_dl.Simulator(net, minibatch_size=8, progress_bar=False) as sim:
        sim.run_steps(4)
        expected = np.arange(1, 5)[:, None] * [1.0, 2.0, 3.0]
        assert allclose(sim.data[probe], np.tile(expected, (8, 1, 1)))


CONVOLUTIONS = {
    "transposed": (keras.layers.Conv1DTranspose(2, 2, dilation_rate=2), (4, 1)),
    "channels": (keras.layers.Conv2D(2, 2, data_format="channels_first"), (1, 4, 4)),
    "plain": (keras.layers.Conv2D(2, 2), (4, 4, 1)),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_that_a_cpu_cannot_compute_are_compiled(name, rng, allclose):
    """Some CPUs lack the code, for gradients if not for values; XLA has it for all."""
    layer, shape = CONVOLUTIONS[name]
    function = TensorFunction(layer, shape, pass_time=False)
    x = rng.uniform(-1, 1, (3, *shape)).astype("float32")
    rows = x.reshape(3, -1).T
    layer.build((None, *shape))

    @tf.function(autograph=False, jit_compile=True)
    def reference(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
        return y, tape.gradient(y, [x, layer.kernel.value])

    y, expected = reference(tf.constant(x))

    @tf.function(autograph=False)
    def program(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            ((out,), _) = function([x], (), True)
        return out, tape.gradient(out, [x, layer.kernel.value])

    out, gradients = program(tf.constant(rows))
    y = y.numpy().reshape(3, -1).T
    assert allclose(out, y)
    assert allclose(gradients[0], expected[0].numpy().reshape(3, -1).T)
    assert allclose(gradients[1], expected[1])
    assert allclose(function.on_host(False)([rows])[0], y)
    assert not (name == "plain" and function.only_compiled(True))
