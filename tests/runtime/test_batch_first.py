"""Arrays that lie in memory with the batch first: the same numbers as any others."""

import keras
import nengo
import numpy as np
import pytest
import tensorflow as tf

import nengo_dl
from nengo_dl.kernels.algebra import VaryingMatVec
from nengo_dl.runtime.tensorflow.batch_first import (
    BatchFirst,
    BatchFirstNamespace,
    plain,
    turn_step,
)
from nengo_dl.runtime.tensorflow.namespace import TensorFlowNamespace, measure
from nengo_dl.training import variant

BELOW = TensorFlowNamespace("float64")
XP = BatchFirstNamespace(BELOW)


def turned(array):
    """An array ``(*sizes, batch)`` that lies batch first."""
    return BatchFirst(tf.constant(np.moveaxis(array, -1, 0)))


def turned_tensor(x):
    """As `turned`, of a tensor ``(n, batch)`` that a tape watches."""
    return BatchFirst(tf.transpose(x))


def both(function, *arrays):
    """A function of arrays that lie as they look, and of arrays that lie batch first."""
    expected = function(BELOW, *[tf.constant(x) for x in arrays])
    return function(XP, *[turned(x) for x in arrays]), expected


# -- functions -------------------------------------------------------------------------

ROWS = np.array([3, 0, 2, 2, 5, 1])


def matrix_form(xp, x):
    """Rows of 2 x 3 matrices that were computed as such and look flat."""
    columns = tf.constant([[[1.0], [2.0], [3.0]]], tf.float64)
    return xp.reshape(xp.reshape(x, (2, 3, 4)) * columns, (6, 4))


KEEPS = {
    "slice": lambda xp, x: x[1:4],
    "negative": lambda xp, x: -x,
    "number on the left": lambda xp, x: 2.0 / (x + 3.0),
    "array on the left": lambda xp, x: np.arange(6.0)[:, None] - x,
    "column": lambda xp, x: x * tf.constant(np.arange(6.0)[:, None]),
    "same shape": lambda xp, x: x + tf.constant(np.arange(24.0).reshape(6, 4)),
    "other ranks": lambda xp, x: x[:3] * xp.reshape(x, (2, 3, 4)),
    "condition": lambda xp, x: xp.where(x > 0, x, xp.exp(x)),
    "two conditions": lambda xp, x: xp.where((x > 0) & (x < 1), x, xp.zeros_like(x)),
    "constant condition": lambda xp, x: xp.where(np.arange(6)[:, None] < 3, x, 0.0),
    "bounded": lambda xp, x: xp.expm1(x / 100, 0.1) + xp.log1p(x / 100, 0.1),
    "clip": lambda xp, x: xp.clip(x, -0.5, np.linspace(0, 1, 6)[:, None]),
    "power": lambda xp, x: xp.power(xp.abs(x), 1.5),
    "take": lambda xp, x: xp.take(x, ROWS),
    "take a table": lambda xp, x: xp.take(x, ROWS.reshape(2, 3)),
    "take every second": lambda xp, x: xp.take(x, np.array([0, 2, 4])),
    "take a block again": lambda xp, x: xp.take(x, np.tile([1, 2], 3)),
    "take each again": lambda xp, x: xp.take(x, np.repeat([1, 2], 3)),
    "concat": lambda xp, x: xp.concat([x, tf.constant(np.ones((2, 4))), x[:1]]),
    "reshape": lambda xp, x: xp.reshape(x, (3, 2, -1)),
    "reshape with the batch": lambda xp, x: xp.reshape(x, (-1, 2, 4)),
    "transpose": lambda xp, x: xp.transpose(xp.reshape(x, (3, 2, 4)), (1, 0, 2)),
    "broadcast": lambda xp, x: xp.broadcast(x[:1], (6, 4)),
    "sum of rows": lambda xp, x: xp.sum(xp.reshape(x, (3, 2, 4)), 1),
    "matmul": lambda xp, x: xp.matmul(tf.constant(np.arange(12.0).reshape(2, 6)), x),
    "matmul of one": lambda xp, x: xp.matmul(
        tf.constant(np.arange(12.0).reshape(1, 2, 6)), xp.reshape(x, (1, 6, 4))
    ),
    "column times rows": lambda xp, x: xp.matmul(
        tf.constant(np.arange(6.0).reshape(2, 3, 1)), xp.reshape(x[:2], (2, 1, 4))
    ),
    "matrices times vectors": lambda xp, x: xp.matvec(
        xp.reshape(x, (1, 3, 2, 4)), xp.reshape(x[:2], (1, 2, 4))
    ),
    "gradient of another": lambda xp, x: xp.with_gradient(xp.sign(x), x * 2),
    "matrix and flat": lambda xp, x: xp.exp(x) - matrix_form(xp, x),
    "two matrices": lambda xp, x: (
        matrix_form(xp, x) * xp.reshape(xp.reshape(x, (3, 2, 4)), (6, 4))
    ),
    "matrix and column": lambda xp, x: (
        matrix_form(xp, x) * tf.constant(np.arange(6.0)[:, None]) + 1
    ),
    "matrix and items": lambda xp, x: (
        matrix_form(xp, x) + tf.constant(np.arange(24.0).reshape(6, 4))
    ),
    "matrix and row": lambda xp, x: (
        matrix_form(xp, x) + tf.constant(np.arange(4.0)[None])
    ),
    "some of a matrix": lambda xp, x: xp.take(-matrix_form(xp, x)[1:], ROWS[2:] - 1),
    "matrix or nothing": lambda xp, x: xp.where(x > 0, matrix_form(xp, x), 0.0),
}
GIVES_UP = {
    "matmul of several": lambda xp, x: xp.matmul(
        tf.constant(np.arange(12.0).reshape(2, 2, 3)), xp.reshape(x, (2, 3, 4))
    ),
    "batch in the middle": lambda xp, x: xp.transpose(
        xp.reshape(x, (3, 2, 4)), (0, 2, 1)
    ),
    "batch first": lambda xp, x: xp.transpose(x, (1, 0)),
    "sum over the batch": lambda xp, x: xp.sum(x, 1),
    "batch mixed with rows": lambda xp, x: xp.reshape(x, (8, 3)),
    "one row": lambda xp, x: x[2],
}


@pytest.mark.parametrize("name", [*KEEPS, *GIVES_UP])
def test_functions(name, rng):
    function = {**KEEPS, **GIVES_UP}[name]
    found, expected = both(function, rng.normal(size=(6, 4)))
    assert isinstance(found, BatchFirst) == (name in KEEPS)
    assert tuple(found.shape) == tuple(expected.shape)
    assert np.allclose(plain(found), expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("name", [*KEEPS, *GIVES_UP])
def test_gradients(name, rng):
    function = {**KEEPS, **GIVES_UP}[name]
    x = tf.constant(rng.normal(size=(6, 4)))
    gradients = []
    for wrap, xp in ((lambda x: x, BELOW), (turned_tensor, XP)):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = plain(function(xp, wrap(x)))
            factors = np.arange(1.0, y.shape.num_elements() + 1).reshape(y.shape)
            total = tf.reduce_sum(y * factors)
        gradients.append(tape.gradient(total, x))
    assert np.allclose(*gradients, rtol=1e-12, atol=1e-12)


def test_matrices_stay_matrices_where_they_look_flat(rng):
    x = turned(rng.normal(size=(6, 4)))
    matrix = matrix_form(XP, x)
    assert matrix.form == (2, 3) and matrix.sizes == (6,) and matrix.shape[0] == 6
    for y in (matrix + x, x * matrix, -matrix, XP.exp(matrix), 1.0 - matrix):
        assert y.form == (2, 3) and y.sizes == (6,)
    assert XP.reshape(matrix, (2, 3, 4)).value is matrix.kept


def test_transposes_move_nothing(rng):
    pictures = tf.constant(rng.normal(size=(4, 6)))
    x = XP.reshape(BatchFirst(pictures), (3, 2, -1))
    first = XP.transpose(x, (2, 0, 1))
    assert tf.is_tensor(first)
    assert np.array_equal(first, tf.reshape(pictures, (4, 3, 2)))
    back = XP.transpose(first, (1, 2, 0))
    assert back.value is first


def test_python_sees_arrays_as_they_look(rng):
    x, seen = rng.normal(size=(3, 4)), []

    def function(arrays):
        seen.append(arrays[0])
        return [arrays[0][:2]]

    (y,) = XP.host_call(function, [turned(x)], [2])
    assert np.array_equal(seen[0], x) and np.array_equal(y, x[:2])


# -- whole programs --------------------------------------------------------------------


def pictures(neuron_type, synapse=0.005):
    """Convolutions between spiking neurons, so that they are in the loop."""
    with nengo.Network(seed=1) as net:
        net.inp = nengo.Node(np.zeros(36))
        first = nengo.Convolution(3, (6, 6, 1), kernel_size=(3, 3))
        second = nengo.Convolution(2, first.output_shape, kernel_size=(2, 2))
        layers = [
            nengo.Ensemble(conv.output_shape.size, 1, neuron_type=neuron_type).neurons
            for conv in (first, second)
        ]
        nengo.Connection(net.inp, layers[0], transform=first, synapse=None)
        nengo.Connection(layers[0], layers[1], transform=second, synapse=synapse)
        out = nengo.Node(size_in=3)
        weights = np.random.RandomState(2).normal(size=(3, layers[1].size_in)) / 100
        nengo.Connection(layers[1], out, transform=weights, synapse=synapse)
        net.p = nengo.Probe(out)
        net.spikes = nengo.Probe(layers[1])
    return net


def test_a_loop_equals_core(rng, allclose):
    net = pictures(nengo.LIF())
    with net:
        nengo_dl.configure_settings(dtype="float64", jit=True)
    x = rng.normal(size=(3, 40, 36))
    options = {"device": "/cpu:0", "progress_bar": False}  # where there is a rule
    with nengo_dl.Simulator(net, minibatch_size=3, **options) as sim:
        sim.run_steps(15, data={net.inp: x[:, :15]})
        sim.run_steps(25, data={net.inp: x[:, 15:]})
        ours = [sim.data[net.p], sim.data[net.spikes]]
        assert all(t.compiled.turned for t in sim._live.program._executors.values())
    for item in range(3):
        with pictures_with(x[item]) as (core_net, core):
            core.run_steps(40)
            assert allclose(ours[0][item], core.data[core_net.p], atol=1e-10)
            assert allclose(ours[1][item], core.data[core_net.spikes], atol=1e-7)


class pictures_with:
    """Core Nengo on one item."""

    def __init__(self, x):
        self.net = pictures(nengo.LIF())
        self.net.inp.output = lambda t: x[int(round(t / 0.001)) - 1]

    def __enter__(self):
        self.sim = nengo.Simulator(self.net, progress_bar=False)
        return self.net, self.sim.__enter__()

    def __exit__(self, *args):
        self.sim.__exit__(*args)


class learning:
    """A learning connection with 4 x 60 weights, and what it is asked for."""

    def __init__(self, dtype="float64"):
        with nengo.Network(seed=3) as self.net:
            nengo_dl.configure_settings(dtype=dtype, jit=True)
            inp = nengo.Node(lambda t: np.sin(20 * t * np.arange(1, 5)))
            pre, error = nengo.Ensemble(60, 4), nengo.Node(size_in=4)
            out = nengo.Node(size_in=4)
            rule = nengo.PES(learning_rate=1e-3)
            learned = nengo.Connection(pre, out, learning_rule_type=rule)
            nengo.Connection(inp, pre)
            nengo.Connection(out, error)
            nengo.Connection(inp, error, transform=-1)
            nengo.Connection(error, learned.learning_rule)
            self.probe = nengo.Probe(out)
            self.weights = nengo.Probe(learned, "weights", sample_every=0.02)


@pytest.mark.parametrize("batch", (1, 3))
def test_learned_matrices_equal_core(batch, monkeypatch, allclose):
    """Weights are carried as matrices, chunk after chunk, and read as such."""
    monkeypatch.setattr(VaryingMatVec, "batch_first", 1)
    model = learning()
    # there is a rule for CPUs; elsewhere both ways are measured
    options = {"minibatch_size": batch, "device": "/cpu:0", "progress_bar": False}
    with nengo_dl.Simulator(model.net, **options) as sim:
        sim.run_steps(30)
        sim.run_steps(70)
        (tier,) = (t for t in sim._live.program._executors.values())
        loop = tier.compiled
        assert loop.turned and max(c.shape[-1] for c in loop.carry) >= 240
        ours = [sim.data[model.probe], sim.data[model.weights]]
    with nengo.Simulator(model.net, progress_bar=False) as core:
        core.run_steps(100)
    assert np.ptp(core.data[model.weights], axis=0).max() > 1e-5
    for mine, probe in zip(ours, (model.probe, model.weights)):
        for item in np.reshape(mine, (batch, *core.data[probe].shape)):
            assert allclose(item, core.data[probe], atol=1e-10)


def test_a_step_returns_carried_arrays_as_they_were_given(rng):
    """And tells in which form they come out of it."""

    def step(xp, carry, x, weights):
        columns = tf.constant([[[1.0], [2.0]]], tf.float64)
        matrix = xp.reshape(carry[0], (3, 2, -1)) * columns
        return [xp.reshape(matrix, (6, -1)), carry[1] + 1.0], None

    state = [tf.constant(rng.normal(size=(4, 6))), tf.zeros((4, 5), tf.float64)]
    turned_step, xp = turn_step(step), TensorFlowNamespace("float64")
    found = measure(xp, lambda carry: turned_step(xp, carry, None, []), [state])
    assert found.forms == [(3, 2), (5,)]
    flat, _ = turned_step(xp, state, None, [])
    formed, _ = turned_step(xp, [tf.reshape(state[0], (4, 3, 2)), state[1]], None, [])
    assert flat[0].shape == (4, 6) and formed[0].shape == (4, 3, 2)
    assert np.array_equal(flat[0], np.tile([1.0, 2.0], 3) * state[0])
    assert np.array_equal(tf.reshape(formed[0], (4, 6)), flat[0])
    assert np.array_equal(formed[1], np.ones((4, 5)))


@pytest.mark.parametrize("use_loop", (True, False))
def test_training_equals_arrays_that_lie_as_they_look(use_loop, rng, monkeypatch):
    n_steps = 5 if use_loop else 3  # each one is traced, with its gradient
    x, y = rng.normal(size=(4, n_steps, 36)), rng.normal(size=(4, n_steps, 3))
    trained = []
    for turns in (True, False):
        if not turns:
            monkeypatch.setattr(variant, "lies_batch_first", lambda layout: False)
        net = pictures(nengo.LIF(), synapse=0.01)
        with net:
            nengo_dl.configure_settings(
                dtype="float64", spiking_training=True, use_loop=use_loop
            )
        unroll = 1 if use_loop else n_steps
        with nengo_dl.Simulator(
            net, minibatch_size=4, unroll_simulation=unroll, progress_bar=False
        ) as sim:
            assert sim.tensor_graph.variant(True).links[0].turned == turns
            sim.compile(keras.optimizers.SGD(0.1), loss={net.p: "mse"})
            before = [v.numpy() for v in sim.keras_model.trainable_weights]
            sim.fit({net.inp: x}, {net.p: y}, verbose=0)
            after = [v.numpy() for v in sim.keras_model.trainable_weights]
            trained.append(
                np.concatenate([np.ravel(a - b) for a, b in zip(after, before)])
            )
    assert np.abs(trained[1]).max() > 1e-6
    assert np.allclose(*trained, rtol=1e-8, atol=1e-12)


def test_any_number_of_steps_ahead_of_a_loop(rng, allclose):
    """TensorFlow does not know it any more once it has seen several."""
    layers = keras.layers
    model = keras.Sequential([keras.Input((4, 4, 1)), layers.Conv2D(2, 2)])
    with nengo.Network(seed=0) as net:
        inp = nengo.Node(np.zeros(16))
        convolved = nengo_dl.TensorNode(model, shape_in=(4, 4, 1), pass_time=False)
        nengo.Connection(inp, convolved, synapse=None)
        neurons = nengo.networks.EnsembleArray(5, 18)
        nengo.Connection(convolved, neurons.input, synapse=None)
        probe = nengo.Probe(neurons.output, synapse=0.02)
    x = rng.uniform(size=(2, 7, 16))
    with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
        found = [sim.predict(x[:, :n])[probe] for n in (2, 7, 5)]
    with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
        expected = sim.predict(x)[probe]
    for y in found:
        assert allclose(y, expected[:, : y.shape[1]], atol=1e-6)


def left_to_themselves():
    """Neurons of all kinds that nothing is connected to: they have constant currents."""
    rate = nengo.LIFRate()
    kinds = [
        *(nengo.LIF(), rate, nengo.AdaptiveLIF(), nengo.AdaptiveLIFRate()),
        *(nengo.RectifiedLinear(), nengo.SpikingRectifiedLinear(), nengo.Izhikevich()),
        *(nengo.Sigmoid(), nengo.Tanh(), nengo.RegularSpiking(rate)),
        *(nengo.PoissonSpiking(rate), nengo.StochasticSpiking(rate)),
        *(nengo_dl.AdaptiveThresholdLIF(), nengo_dl.AdaptiveThresholdLIFRate()),
        *(nengo_dl.SoftLIFRate(), nengo_dl.LeakyReLU(), nengo_dl.SpikingLeakyReLU()),
        nengo_dl.ClippedReLU(),
    ]
    with nengo.Network(seed=4) as net:
        nengo_dl.configure_settings(dtype="float64", spiking_training=True)
        net.inp, out = nengo.Node([0.0]), nengo.Node(size_in=1)
        nengo.Connection(net.inp, out)
        for kind in kinds:
            ens = nengo.Ensemble(
                5, 1, neuron_type=kind, gain=np.ones(5), bias=np.linspace(0.5, 3, 5)
            )
            nengo.Connection(ens.neurons, out, transform=np.full((1, 5), 1e-3))
        net.p = nengo.Probe(out)
    return net


def test_neurons_with_constant_currents(rng, monkeypatch):
    x, y = rng.normal(size=(3, 6, 1)), rng.normal(size=(3, 6, 1))
    trained = []
    for turns in (True, False):
        monkeypatch.setattr(
            variant, "lies_batch_first", lambda layout, turns=turns: turns
        )
        net = left_to_themselves()
        with nengo_dl.Simulator(net, minibatch_size=3, progress_bar=False) as sim:
            links = sim.tensor_graph.variant(True).links
            assert any(link.turned for link in links) == turns
            sim.compile(keras.optimizers.SGD(0.1), loss={net.p: "mse"})
            sim.fit({net.inp: x}, {net.p: y}, verbose=0)
            after = [v.numpy().ravel() for v in sim.keras_model.trainable_weights]
            trained.append(np.concatenate(after))
    assert np.allclose(*trained, rtol=1e-8, atol=1e-12)
