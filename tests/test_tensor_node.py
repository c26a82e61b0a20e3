"""TensorFlow functions, Keras layers and models in networks, against calling them."""

import warnings

import keras
import nengo
import numpy as np
import pytest
import tensorflow as tf
from nengo.exceptions import BuildError, SimulationError, ValidationError

import nengo_dl
from nengo_dl.tensor_node import TensorNode
from tests.tensor_networks import (
    BATCH,
    SIZE,
    STEPS,
    data,
    descended,
    fit,
    network,
    seeded,
    simulator,
    unrolled,
)

# -- what is computed ------------------------------------------------------------------


class Subclassed(keras.Model):
    """A model without a list of its layers."""

    def __init__(self):
        super().__init__()
        self.inner = keras.layers.Dense(4, activation="relu")

    def call(self, x):
        return 2 * self.inner(x)


def functional():
    x = keras.Input((12,))
    y = keras.layers.Reshape((2, 3, 2))(x)
    y = keras.layers.Conv2D(3, 2)(y)
    return keras.Model(x, keras.layers.Flatten()(y))


KINDS = {
    "function": lambda: tf.nn.softplus,
    "layer": lambda: keras.layers.Dense(5),
    "functional": functional,
    "sequential": lambda: keras.Sequential([keras.layers.Dense(4, "tanh")]),
    "subclassed": Subclassed,
}


@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_call(kind, rng, allclose):
    seeded()
    function, x = KINDS[kind](), data(rng, 12)
    net = network(function, size=12)
    expected = np.stack([function(x[:, i]) for i in range(STEPS)], 1)
    assert net.node.shape_out == expected.shape[2:]
    with simulator(net) as sim:
        sim.run_steps(STEPS, data={net.stimulus: x})
        assert allclose(sim.data[net.probe], expected, atol=1e-6)
        sim.run_steps(STEPS + 1100)  # compiled
        after = {net.stimulus: np.tile(x, (1, 200, 1))}
        sim.run_steps(200 * STEPS, data=after)
        assert allclose(sim.data[net.probe][:, -STEPS:], expected, atol=1e-6)
        assert allclose(sim.predict(x)[net.probe], expected, atol=1e-6)


def test_shapes_are_those_of_the_function(rng, allclose):
    kernel = tf.constant(rng.uniform(size=(2, 2, 1, 3)).astype(np.float32))

    def convolve(x):
        assert x.shape[1:] == (4, 5, 1)
        return tf.nn.conv2d(x, kernel, 1, "VALID")

    x = data(rng, 20)
    net = network(convolve, size=20, shape_in=(4, 5, 1))
    assert (net.node.size_in, net.node.shape_out) == (20, (3, 4, 3))
    expected = convolve(x.reshape(-1, 4, 5, 1)).numpy().reshape(BATCH, STEPS, -1)
    with simulator(net) as sim:
        assert allclose(sim.predict(x)[net.probe], expected, atol=1e-6)


@pytest.mark.parametrize("steps", (8, 1200))  # in NumPy, and compiled
def test_time(steps, rng, allclose):
    with nengo.Network() as net:
        a = nengo.Node([0.5, -1.0])
        alone = TensorNode(lambda t: tf.fill((1, 2), tf.sin(30 * t)))
        both = TensorNode(lambda t, x: t * x[:, ::-1], shape_in=(2,))
        nengo.Connection(a, both, synapse=None)
        probes = nengo.Probe(alone), nengo.Probe(both)
    with simulator(net) as sim:
        sim.run_steps(steps)
        t = sim.trange()[:, None]
        sines = np.sin(30 * t) * [1, 1]
        assert allclose(sim.data[probes[0]], [sines] * 2, atol=1e-4)
        assert allclose(sim.data[probes[1]], [t * [-1.0, 0.5]] * 2, atol=1e-6)
        predicted = sim.predict(n_steps=8, stateful=True)
        t = (steps + 1 + np.arange(8)[:, None]) * 0.001
        assert allclose(predicted[probes[1]], [t * [-1.0, 0.5]] * 2, atol=1e-6)


def test_it_runs_once_over_all_steps(rng):
    seen = []

    def function(x):
        seen.append(x.shape[0])
        return 2 * x

    net = network(function)
    with simulator(net) as sim:
        del seen[:]
        sim.predict(data(rng))
        assert set(seen) == {BATCH * STEPS} or set(seen) == {None}
        assert not sim.tensor_graph.variant(False).links[0].layout.has_loop


def test_layers_around_spiking_neurons(rng, allclose):
    # what the layer in front hands to the loop lies in memory with the batch first
    seeded()
    with nengo.Network(seed=0) as net:
        image = nengo.Node(np.zeros(25))
        conv = nengo_dl.Layer(keras.layers.Conv2D(2, 3))(image, shape_in=(5, 5, 1))
        neurons = nengo_dl.Layer(nengo.LIF(amplitude=0.01))(conv)
        probe = nengo.Probe(nengo_dl.Layer(keras.layers.Dense(3))(neurons), synapse=0.1)
    x = rng.uniform(1, 5, size=(2, 12, 25))
    with nengo_dl.Simulator(net, minibatch_size=2) as sim:
        predicted = sim.predict(x)[probe]
        sim.run_steps(12, data={image: x})  # NumPy
        assert np.abs(predicted).max() > 0
        assert allclose(predicted, sim.data[probe], atol=1e-5)
        sim.compile("sgd", loss="mse")
        losses = sim.fit(x, np.ones((2, 12, 3)), epochs=2, verbose=0).history["loss"]
        assert losses[1] < losses[0]


@pytest.mark.parametrize("jit", (False, "auto"))
def test_recurrent_loop(jit, rng, allclose):
    seeded()
    dense = keras.layers.Dense(SIZE, activation="tanh")
    net = network(dense, recurrent=True)
    with net:
        nengo_dl.configure_settings(jit=jit)
    x = data(rng)
    long = np.tile(x, (1, 190, 1))
    expected = unrolled(dense, long).numpy()
    with simulator(net) as sim:
        sim.run_steps(STEPS, data={net.stimulus: x})
        assert allclose(sim.data[net.probe], expected[:, :STEPS], atol=1e-6)
        sim.reset()
        assert allclose(sim.predict(x)[net.probe], expected[:, :STEPS], atol=1e-6)
        if jit == "auto":
            sim.run_steps(long.shape[1], data={net.stimulus: long})
            assert allclose(sim.data[net.probe], expected, atol=1e-6)


def test_double_precision(rng, allclose):
    seeded()
    dense = keras.layers.Dense(SIZE, dtype="float64")
    net = network(lambda x: tf.exp(dense(x)), recurrent=True, shape_out=(SIZE,))
    dense.build((None, SIZE))
    with net:
        nengo_dl.configure_settings(dtype="float64")
    x = data(rng).astype(np.float64)
    expected = unrolled(lambda v: tf.exp(dense(v)), x)
    with simulator(net) as sim:
        sim.run_steps(STEPS, data={net.stimulus: x})
        assert allclose(sim.data[net.probe], expected, rtol=0, atol=1e-12)
        sim.reset()
        found = sim.predict(x)[net.probe]
        assert found.dtype == np.float64
        assert allclose(found, expected, rtol=0, atol=1e-12)


def test_what_cannot_be_compiled_runs_anyway(rng, allclose):
    def function(x):
        return tf.ensure_shape(tf.py_function(tf.tanh, [x], x.dtype), x.shape)

    net = network(function, recurrent=True)
    x = data(rng, steps=1100)
    expected = unrolled(tf.tanh, x)
    with simulator(net) as sim:
        with pytest.warns(UserWarning, match="uses the operation .*PyFunc") as found:
            sim.run_steps(1100, data={net.stimulus: x})
            sim.reset(include_probes=False)
            predicted = sim.predict(x[:, :STEPS])[net.probe]
        assert len([w for w in found if "PyFunc" in str(w.message)]) == 1
        assert allclose(sim.data[net.probe], expected, atol=1e-6)
        assert allclose(predicted, expected[:, :STEPS], atol=1e-6)


# -- memory ----------------------------------------------------------------------------


def stacked_cells(size):
    cells = [keras.layers.LSTMCell(2), keras.layers.GRUCell(size)]
    return keras.layers.StackedRNNCells(cells)


@pytest.mark.parametrize(
    "make", (keras.layers.LSTMCell, keras.layers.GRUCell, stacked_cells)
)
def test_cells(make, rng, allclose):
    seeded()
    cell = make(SIZE)
    rnn = keras.layers.RNN(cell, return_sequences=True)
    net = network(cell)
    x, y = data(rng), data(rng)
    expected = rnn(x)
    with simulator(net) as sim:
        sim.run_steps(STEPS, data={net.stimulus: x})
        assert allclose(sim.data[net.probe], expected, atol=1e-6)
        sim.reset()
        for _ in range(2):  # each call starts afresh
            assert allclose(sim.predict(x)[net.probe], expected, atol=1e-6)
        weights = descended(lambda: rnn(x), cell.trainable_variables, y)
        fit(sim, x, y)
        for weight, value in zip(cell.trainable_variables, weights, strict=True):
            assert allclose(weight.numpy(), value, atol=1e-6)


def test_layers_with_a_state_of_their_own(rng, allclose):
    seeded()
    gru = keras.layers.GRU(SIZE, stateful=True)
    gru.build((BATCH, 1, SIZE))
    net = network(gru, shape_in=(1, SIZE))
    x = data(rng)
    expected = keras.layers.RNN(gru.cell, return_sequences=True)(x)
    with simulator(net) as sim:
        sim.run_steps(2, data={net.stimulus: x[:, :2]})
        sim.run_steps(STEPS - 2, data={net.stimulus: x[:, 2:]})
        assert allclose(sim.data[net.probe], expected, atol=1e-6)
        sim.reset()
        for _ in range(2):
            assert allclose(sim.predict(x)[net.probe], expected, atol=1e-6)
        sim.predict(x[:, :2], stateful=True)
        sim.run_steps(STEPS - 2, data={net.stimulus: x[:, 2:]})
        assert allclose(sim.data[net.probe], expected[:, 2:], atol=1e-6)
        sim.reset()
        sim.run_steps(1200, data={net.stimulus: np.tile(x, (1, 200, 1))})
        assert allclose(sim.data[net.probe][:, :STEPS], expected, atol=1e-6)


# -- what is wrong ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "function, message",
    [
        (lambda x: None, "returned NoneType None; expected a TensorFlow tensor"),
        (lambda x: np.zeros((2, 3)), "returned ndarray"),
        (lambda x: [x, x], "returned list"),
        (lambda x: tf.reduce_sum(x), r"shape \(\); expected one that is known"),
        (lambda x: tf.zeros((7, 3)), r"shape \(7, 3\) for a batch of 3 items"),
        (lambda x: tf.cast(x, tf.int32), "dtype int32; expected float32"),
        (lambda x: tf.cast(x, tf.float64), "dtype float64; expected float32"),
    ],
)
def test_wrong_results(function, message):
    with nengo.Network(), pytest.raises(ValidationError, match=message):
        TensorNode(function, shape_in=(SIZE,), pass_time=False)


def test_wrong_shape_out_is_found_when_it_is_built():
    net = network(lambda x: x, shape_out=(4,))
    with pytest.raises(ValidationError, match=r"3 numbers .*expected shape_out=\(4,\)"):
        simulator(net)


def test_wrong_batch_size_of_a_function_of_time():
    with nengo.Network() as net:
        node = TensorNode(lambda t: tf.zeros((5, 1)) + t)
        nengo.Probe(node)
    with simulator(net) as sim:
        with pytest.raises(ValidationError, match="5 items; expected 2, or 1"):
            sim.run_steps(3)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"tensor_func": 3}, "expected a function of tensors"),
        ({"tensor_func": tf.exp, "pass_time": False}, "give a shape_in"),
        ({"tensor_func": tf.exp, "shape_in": (2, 0)}, "expected the shape of one item"),
        ({"tensor_func": tf.exp, "shape_in": "ab"}, "expected the shape of one item"),
        ({"tensor_func": keras.layers.ReLU}, r"the class ReLU. Give an instance, ReLU\("),
        (
            {"tensor_func": lambda inputs: inputs, "shape_in": (3,)},
            r"takes \(inputs\), but is called as f\(t, x\); with pass_time=False",
        ),
        (
            {"tensor_func": lambda t, x: x, "shape_in": (3,), "pass_time": False},
            r"takes \(t, x\), but is called as f\(x\); with pass_time=True",
        ),
        ({"tensor_func": lambda t, x: x}, "is called as f.t.; with a shape_in"),
    ],
)
def test_wrong_arguments(arguments, message):
    with nengo.Network(), pytest.raises(ValidationError, match=message):
        TensorNode(**arguments)


def test_core_nengo_cannot_run_it():
    net = network(tf.exp)
    with pytest.raises(BuildError, match="is a TensorNode.*Use nengo_dl.Simulator"):
        nengo.Simulator(net, progress_bar=False)
    with pytest.raises(SimulationError, match="cannot be called"):
        net.node.output(0.0, np.zeros(SIZE))


def train_function(function):
    with nengo.Network() as net:
        a = nengo.Node([1.0])
        node = nengo_dl.TensorNode(function, shape_in=(1,), pass_time=False)
        ens = nengo.Ensemble(5, 1, neuron_type=nengo.RectifiedLinear())
        nengo.Connection(a, node, synapse=None)
        nengo.Connection(a, ens, synapse=None)
        nengo.Probe(node)
        out = nengo.Node(size_in=1)
        nengo.Connection(ens, out, synapse=None)
        nengo.Probe(out)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.compile("sgd", loss="mse")
        sim.fit(np.ones((1, 1, 1)), [np.ones((1, 1, 1))] * 2, verbose=0)


def test_variables_of_tensorflow_are_not_trained_and_it_says_so():
    own = tf.Variable([[2.0]], name="factor")
    with pytest.warns(UserWarning, match=r"tf.Variable objects \(factor\)") as caught:
        train_function(lambda x: x @ own)
    assert "keras.Variable" in str(caught[0].message)
    assert own.numpy() == 2.0


@pytest.mark.parametrize("settings", ({}, {"jit": False}, {"use_loop": False}), ids=str)
def test_variables_of_tensorflow_are_constants_in_loops(settings, allclose):
    """What lies before them is trained as it is with a constant."""
    losses = []
    for factor in (tf.constant([[2.0]]), tf.Variable([[2.0]]), keras.Variable([[2.0]])):
        with nengo.Network() as net, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            nengo_dl.configure_settings(**settings)
            a, b = nengo.Node([1.0]), nengo.Node(size_in=1)
            nengo.Connection(a, b, transform=[[0.5]], synapse=0.01)
            out = nengo_dl.Layer(lambda x, by=factor: x @ by)(b, shape_in=(1,))
            nengo.Probe(out)
            with nengo_dl.Simulator(net, unroll_simulation=3, progress_bar=False) as sim:
                sim.compile(keras.optimizers.SGD(1.0), loss="mse")
                x, y = np.ones((1, 3, 1)), np.ones((1, 3, 1))
                fit = sim.fit(x, y, epochs=3, verbose=0, shuffle=False)
        losses.append(fit.history["loss"])
    constant, variable, of_keras = losses
    assert constant[0] > constant[-1]
    assert allclose(variable, constant)
    assert of_keras[-1] < constant[-1]


def test_variables_of_keras_are_trained_without_a_word():
    own = keras.Variable([[2.0]])
    dense = keras.layers.Dense(1)
    dense.build((None, 1))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train_function(lambda x: dense(x @ own))
        train_function(keras.layers.Dense(1))
    assert not [w for w in caught if "tf.Variable" in str(w.message)]
    assert np.asarray(own)[0, 0] != 2.0


@pytest.mark.parametrize(
    "function, message",
    (
        (np.sin, "TensorNode 'mine' is np.sin, .*write tf.sin"),
        (np.log1p, "TensorNode 'mine' is np.log1p, .*write tf.math.log1p"),
        (lambda x: np.cos(x), r"TensorNode 'mine' calls a function of NumPy.*keras.ops"),
    ),
)
def test_functions_of_numpy_are_named(function, message):
    with nengo.Network(), pytest.raises(ValidationError, match=message):
        nengo_dl.TensorNode(function, shape_in=(2,), pass_time=False, label="mine")


def test_a_shape_that_a_built_layer_does_not_take_is_named():
    layer = keras.layers.Conv2D(3, 3)
    layer.build((None, 8, 8, 1))
    with nengo.Network(), pytest.raises(ValidationError, match="items of the shape"):
        nengo_dl.TensorNode(layer, shape_in=(8, 8), pass_time=False)


def test_functions_are_given_what_tensorflow_gives():
    found = []

    def parts(x):
        first, second = halves = tf.split(x, 2, axis=1)
        found.append(type(halves))
        halves[0] = second  # as Keras does with the weights of a GRU on a GPU
        return halves[0] + first

    with nengo.Network() as net:
        node = TensorNode(parts, shape_in=(2,), pass_time=False)
        nengo.Probe(node)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(2)
    assert set(found) == {list}
