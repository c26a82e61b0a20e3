"""What the page on TensorFlow inside of networks promises in words."""

import keras
import nengo
import numpy as np
import pytest
import tensorflow as tf
from nengo.exceptions import BuildError

import nengo_dl
from tests.docs.promises import promise, simulator

PAGE = "docs/tensor_node.rst"


def network(**settings):
    net = nengo.Network(seed=0)
    with net:
        nengo_dl.configure_settings(jit=False, **settings)
        net.a = nengo.Node(np.zeros(2), label="a")
    return net


@promise(
    PAGE,
    "The function is called as ``f(t, x)``, ``f(t)`` (without a ``shape_in``) or, with "
    "``pass_time=False``, ``f(x)``. ``t`` is the time in seconds, a scalar; ``x`` is a "
    "tensor ``(batch,) + shape_in``, of the simulator's type. It returns a tensor "
    "``(batch,) + shape_out``.",
)
def test_how_functions_are_called():
    seen = {}

    def of_both(t, x):
        seen["both"] = (t.shape.rank, x.shape[1:], x.dtype)
        return x[:, 0] + tf.cast(t, x.dtype)

    def of_time(t):
        return tf.reshape(tf.cast(t, tf.float64), (1, 1)) * np.ones((3, 1))

    def of_input(x):
        seen["input"] = (x.shape[1:], x.dtype)
        return 2 * x

    net = network(dtype="float64")
    with net:
        both = nengo_dl.TensorNode(of_both, shape_in=(1, 2), shape_out=(2,))
        time = nengo_dl.TensorNode(of_time, shape_out=(1,))
        given = nengo_dl.TensorNode(
            of_input, shape_in=(2, 1), shape_out=(2, 1), pass_time=False
        )
        nengo.Connection(net.a, both, synapse=None)
        nengo.Connection(net.a, given, synapse=None)
        probes = [nengo.Probe(node) for node in (both, time, given)]
    with simulator(net, minibatch_size=3) as sim:
        sim.run_steps(2, data={net.a: np.ones((3, 2, 2))})
        found = [sim.data[probe] for probe in probes]
    assert seen["both"] == (0, (1, 2), tf.float64)
    assert seen["input"] == ((2, 1), tf.float64)
    times = np.array([0.001, 0.002])
    assert np.allclose(found[0], 1 + times[None, :, None])
    assert np.allclose(found[1][0, :, 0], times)
    assert np.array_equal(found[2], np.full((3, 2, 2), 2.0))


@promise(
    PAGE,
    "If ``shape_out`` is not given, the function is tried out with a batch of a few "
    "items when the node is made.",
)
def test_functions_are_tried_out():
    seen = []

    def function(x):
        seen.append(x.shape[0])
        return x[:, :1]

    with network():
        node = nengo_dl.TensorNode(function, shape_in=(4,), pass_time=False)
        assert node.shape_out == (1,) and 1 < seen[0] < 10
        seen.clear()
        nengo_dl.TensorNode(function, (4,), shape_out=(1,), pass_time=False)
        assert not seen


@promise(
    PAGE,
    "what is trained here is seen wherever else the layer is used, and a value that is "
    "written to the layer is used by the network. A layer that is used in several nodes "
    "has its weights once.",
)
def test_weights_stay_those_of_the_layer():
    dense = keras.layers.Dense(2, use_bias=False)
    net = network()
    with net:
        first = nengo_dl.Layer(dense)(net.a)
        probe = nengo.Probe(nengo_dl.Layer(dense)(first))
    ones = np.ones((1, 1, 2), "float32")
    with simulator(net) as sim:
        assert sim.keras_model.count_params() == 4
        dense.set_weights([np.eye(2) * 3])
        sim.run_steps(1, data={net.a: ones})
        assert np.allclose(sim.data[probe], 9)
        sim.compile(keras.optimizers.SGD(0.01), loss="mse")
        sim.fit(ones, 0 * ones, verbose=0)
        assert dense.get_weights()[0][0, 0] < 3
        expected = dense(dense(ones[0])).numpy()
        assert np.allclose(sim.predict(ones)[probe][0], expected)


@promise(
    PAGE,
    "``configure_settings( trainable=False)``, which freezes what Nengo's objects have, "
    "leaves layers alone. A layer that was not trainable when the simulator was made "
    "stays so in this simulator.",
)
def test_which_layers_are_trained():
    layers = [keras.layers.Dense(2, use_bias=False) for _ in range(3)]
    layers[1].trainable = False
    net = network(trainable=False)
    with net:
        x = net.a
        for layer in layers:
            x = nengo_dl.Layer(layer)(x)
        net.config[x].trainable = False
        nengo.Probe(x)
    with simulator(net) as sim:
        layers[1].trainable = True
        trained = sim.keras_model.trainable_weights
        assert [weight is layers[0].kernel for weight in trained] == [True]


@promise(
    PAGE,
    "A node that takes no part in a recurrent loop, and is not given the time, is "
    "called once for many steps at a time, with steps and batch items side by side. Do "
    "not rely on ``x.shape[0]`` being the ``minibatch_size``; it may even be unknown "
    "(``None``).",
    "With ``pass_time=True`` a node always runs step by step.",
)
@pytest.mark.parametrize("pass_time", [False, True])
def test_steps_lie_side_by_side(pass_time):
    net = network()
    args = ("t", "x") if pass_time else ("x",)

    def size(*given):
        x = given[-1]
        return x[:, :1] * 0 + tf.cast(tf.shape(x)[0], x.dtype)

    functions = {("x",): lambda x: size(x), ("t", "x"): lambda t, x: size(t, x)}
    with net:
        node = nengo_dl.TensorNode(
            functions[args], shape_in=(2,), shape_out=(1,), pass_time=pass_time
        )
        nengo.Connection(net.a, node, synapse=None)
        probe = nengo.Probe(node)
    with simulator(net, minibatch_size=2) as sim:
        rows = sim.predict(np.zeros((2, 5, 2)))[probe]
    assert np.all(rows == 2) if pass_time else np.all(rows > 2)


@promise(
    PAGE,
    "the same seed of the simulator gives the same numbers, compiled or not, "
    "``sim.reset`` starts them again, and simulators do not disturb each other.",
    "Seeds of single operations (``tf.random.normal(shape, seed=3)``) and "
    "``tf.random.set_seed`` have no effect here.",
)
def test_random_numbers_follow_the_simulator():
    net = network()
    with net:
        noise = nengo_dl.Layer(lambda x: x + tf.random.normal(tf.shape(x), seed=3))(net.a)
        probe = nengo.Probe(noise)
    found = []
    for seed in (1, 1, 2):
        tf.random.set_seed(len(found))
        with simulator(net, seed=seed) as sim:
            sim.run_steps(4)
            found.append(sim.data[probe])
            sim.reset()
            sim.run_steps(4)
            assert np.array_equal(sim.data[probe], found[-1])
    assert np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])
    assert len(np.unique(found[0])) == 8


@promise(
    PAGE,
    "has a state for each batch item, which starts with zeros and goes from step to "
    "step with the simulation's: ``sim.reset`` forgets it,",
)
def test_cells_have_a_state_for_each_item():
    net = network()
    cell = keras.layers.GRUCell(3)
    with net:
        probe = nengo.Probe(nengo_dl.Layer(cell)(net.a))
    x = np.stack([np.zeros((4, 2)), np.ones((4, 2))]).astype("float32")
    with simulator(net, minibatch_size=2) as sim:
        for _ in range(2):
            sim.run_steps(4, data={net.a: x})
            state = [tf.zeros((2, 3))]
            for step in range(4):
                output, state = cell(x[:, step], state)
                assert np.allclose(sim.data[probe][:, step], output, atol=1e-5)
            sim.reset()


@promise(PAGE, "It has to be built for the simulator's ``minibatch_size``.")
def test_stateful_layers_know_the_size_of_the_batch():
    net = network()
    with net:
        rnn = keras.layers.SimpleRNN(2, stateful=True)
        rnn.build((3, 1, 2))
        node = nengo_dl.Layer(rnn)(net.a, shape_in=(1, 2))
        nengo.Probe(node)
    with simulator(net, minibatch_size=3) as sim:
        sim.run_steps(2)
        assert sim.n_steps == 2


@promise(PAGE, "``nengo.Simulator`` cannot run these nodes, and says so.")
def test_core_says_that_it_cannot():
    net = network()
    with net:
        nengo.Probe(nengo_dl.Layer(tf.tanh)(net.a))
    with pytest.raises(BuildError, match="TensorNode"):
        nengo.Simulator(net, progress_bar=False)
