"""Weights of Keras layers in networks: trained, shared, saved and restored."""

import pickle
import warnings

import keras
import nengo
import numpy as np
import pytest
import tensorflow as tf
from nengo.exceptions import SimulationError

import nengo_dl
from tests.tensor_networks import (
    SIZE,
    STEPS,
    data,
    descended,
    fit,
    fit_keras,
    network,
    seeded,
    simulator,
    unrolled,
)

# -- training --------------------------------------------------------------------------


@pytest.mark.parametrize("recurrent", (False, True))
def test_training_equals_keras(recurrent, rng, allclose):
    seeded()
    dense = keras.layers.Dense(SIZE, activation="tanh")
    net = network(dense, recurrent=recurrent)
    x, y = data(rng), data(rng)
    expected = descended(
        lambda: unrolled(dense, x) if recurrent else dense(x), dense.weights, y
    )
    with simulator(net) as sim:
        # with the weight of the recurrent connection
        assert sim.keras_model.count_params() == 12 + recurrent
        fit(sim, x, y)
        for weight, value in zip(dense.weights, expected, strict=True):
            assert allclose(weight.numpy(), value, atol=1e-6)
        sim.run_steps(STEPS, data={net.stimulus: x})  # with the new weights
        if not recurrent:
            assert allclose(sim.data[net.probe], dense(x), atol=1e-6)


def test_weights_of_a_type_that_numpy_does_not_have(rng, allclose):
    dense = keras.layers.Dense(SIZE, dtype="bfloat16")
    net = network(dense)
    x, y = data(rng), data(rng)
    with simulator(net) as sim:
        for _ in range(2):
            expected = tf.cast(dense(x), tf.float32)
            sim.reset(include_trainable=False)
            sim.run_steps(STEPS, data={net.stimulus: x})
            assert allclose(sim.data[net.probe], expected, atol=0.02)
            before = np.float32(dense.kernel.numpy())
            fit(sim, x, y)
            assert np.any(np.float32(dense.kernel.numpy()) != before)


def test_layers_that_learn_statistics(rng, allclose):
    layers = keras.layers
    seeded()
    model = keras.Sequential(
        [layers.Dense(3), layers.BatchNormalization(), layers.Dropout(0.5, seed=3)]
    )
    net = network(model)
    reference = keras.models.clone_model(model)
    reference.build((None, SIZE))
    reference.set_weights(model.get_weights())
    x, y = data(rng), data(rng)
    with simulator(net) as sim:
        before = [v.numpy() for v in model.variables]
        sim.predict(x)
        sim.run_steps(STEPS, data={net.stimulus: x})
        for variable, value in zip(model.variables, before, strict=True):
            assert np.array_equal(variable, value)
        fit(sim, x, y)
        fit_keras(reference, x, y)
        for mine, other in zip(model.weights, reference.weights, strict=True):
            assert allclose(mine.numpy(), other.numpy(), atol=1e-6)
        expected = reference(x.reshape(-1, SIZE)).numpy().reshape(x.shape)
        assert allclose(sim.predict(x)[net.probe], expected, atol=1e-6)


class Around(keras.layers.Layer):
    """A layer that does not ask whether it is trained, around one that does."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, x):
        return self.inner(x)


def test_layers_in_layers_know_that_they_are_trained(rng, allclose):
    norm = keras.layers.BatchNormalization(momentum=0.5)
    net = network(Around(norm))
    x, y = data(rng), data(rng)
    with simulator(net) as sim:
        sim.predict(x)
        assert np.array_equal(norm.moving_mean.numpy(), np.zeros(SIZE))
        fit(sim, x, y)
    assert allclose(norm.moving_mean.numpy(), 0.5 * x.mean((0, 1)), atol=1e-6)


def test_statistics_in_a_loop(rng, allclose):
    seeded()
    norm = keras.layers.BatchNormalization(momentum=0.8)
    other = keras.layers.BatchNormalization(momentum=0.8)
    net = network(norm, recurrent=True)
    other.build((None, SIZE))
    x, y = data(rng), data(rng)
    expected = descended(
        lambda: unrolled(lambda v: other(v, training=True), x),
        other.trainable_variables,
        y,
    )
    with simulator(net) as sim:
        fit(sim, x, y)
    moving = [v.numpy() for v in other.non_trainable_variables]
    for weight, value in zip(norm.weights, [*expected, *moving], strict=True):
        assert allclose(weight.numpy(), value, atol=1e-5)


def test_random_numbers_in_a_loop(rng, allclose):
    """The backward pass has the numbers of the forward one; each step has its own."""
    seeds = keras.random.SeedGenerator(4)
    gain = keras.Variable(np.ones(SIZE, np.float32), name="gain")

    def function(x, training=False):
        if not training:
            return gain * x
        return gain * x + keras.random.uniform(tf.shape(x), seed=seeds)

    net = network(function, recurrent=True)
    x, y = data(rng), data(rng)
    first = seeds.state.numpy()
    with simulator(net) as sim:
        fit(sim, x, y)
    found = gain.numpy()
    assert np.array_equal(seeds.state.numpy(), first)  # the simulation has its own
    gain.assign(np.ones(SIZE))
    expected = descended(lambda: unrolled(lambda v: function(v, True), x), [gain], y)
    assert allclose(found, expected[0], atol=1e-6)


def test_what_is_trained(rng):
    seeded()
    d, e, f = (keras.layers.Dense(SIZE) for _ in range(3))
    e.trainable = False
    with nengo.Network() as net:
        nengo_dl.configure_settings(trainable=None)
        net.stimulus = nengo.Node(np.zeros(SIZE))
        x = nengo_dl.Layer(d)(net.stimulus)
        y = nengo_dl.Layer(e)(x)
        net.probe = nengo.Probe(nengo_dl.Layer(f)(y))
        nengo_dl.Layer(keras.layers.Dense(1))(y)  # which nobody sees
    net.config[x].trainable = False
    with simulator(net) as sim:
        before = [layer.get_weights()[0] for layer in (d, e, f)]
        model = sim.keras_model
        assert {id(v) for v in model.trainable_weights} == {id(v) for v in f.weights}
        assert len(model.non_trainable_weights) == 6
        assert len(model.trainable_variables) + len(model.non_trainable_variables) == 8
        assert model.count_params() == 3 * 12 + 4
        fit(sim, data(rng), data(rng))
        changed = [
            not np.array_equal(layer.get_weights()[0], old)
            for layer, old in zip((d, e, f), before, strict=True)
        ]
        assert changed == [False, False, True]
        assert d.trainable and f.trainable


@pytest.mark.parametrize("at_first", (True, False))
def test_layers_that_are_frozen_later_or_released(at_first, rng):
    seeded()
    dense, norm = keras.layers.Dense(SIZE, name="d"), keras.layers.BatchNormalization()
    dense.build((None, SIZE))
    dense.trainable = at_first
    net = network(keras.Sequential([dense, norm]))
    x, y = data(rng), data(rng)
    with simulator(net) as sim:
        for trainable in (at_first, not at_first):
            dense.trainable = norm.trainable = trainable
            before = [v.numpy() for v in (dense.kernel, norm.gamma)]
            with warnings.catch_warnings(record=True) as found:
                warnings.simplefilter("always")
                fit(sim, x, y)
            changed = [
                not np.array_equal(v.numpy(), value)
                for v, value in zip((dense.kernel, norm.gamma), before, strict=True)
            ]
            assert changed == [trainable and at_first, trainable]
            told = any("d/kernel" in str(w.message) for w in found)
            assert told == (trainable and not at_first)


@pytest.mark.parametrize("recurrent", (False, True))
def test_gradients_can_be_checked(recurrent, rng):
    seeded()
    dense = keras.layers.Dense(SIZE, activation="tanh")
    layers = [dense, keras.layers.BatchNormalization(), keras.layers.Dropout(0.3)]
    model = keras.Sequential(layers[:1] if recurrent else layers)
    net = network(model, recurrent=recurrent)
    with simulator(net) as sim:
        before = [v.numpy() for v in model.variables]
        sim.check_gradients(outputs=net.probe)
        sim.check_gradients(data(rng))
        for variable, value in zip(model.variables, before, strict=True):
            assert np.array_equal(variable.numpy(), value)


def test_wrong_gradients_of_functions_are_found():
    @tf.custom_gradient
    def twice(x):
        return 2 * x, lambda upstream: upstream

    dense = keras.layers.Dense(SIZE)
    dense.build((None, SIZE))
    before = dense.kernel.numpy()
    net = network(lambda x: twice(dense(x)))
    with simulator(net) as sim:
        with pytest.raises(SimulationError, match="respect to parameter .* is wrong"):
            sim.check_gradients()
        assert np.array_equal(dense.kernel.numpy(), before)


def test_gradients_in_half_precision_are_not_checked():
    net = network(keras.layers.Dense(SIZE, dtype="mixed_float16"))
    with simulator(net) as sim:
        with pytest.raises(SimulationError, match="float16, which is too coarse"):
            sim.check_gradients()


def test_a_layer_used_twice_shares_its_weights(rng, allclose):
    seeded()
    dense, x, y = keras.layers.Dense(SIZE), data(rng), data(rng)
    with nengo.Network() as net:
        net.stimulus = nengo.Node(np.zeros(SIZE))
        first = nengo_dl.Layer(dense)(net.stimulus)
        net.probe = nengo.Probe(nengo_dl.Layer(dense)(first))
    expected = descended(lambda: dense(dense(x)), dense.weights, y)
    with simulator(net) as sim:
        assert sim.keras_model.count_params() == 12
        assert len(sim.keras_model.trainable_weights) == 2
        fit(sim, x, y)
    for weight, value in zip(dense.weights, expected, strict=True):
        assert allclose(weight.numpy(), value, atol=1e-6)


def test_functions_that_call_layers(rng):
    seeded()
    dense = keras.layers.Dense(SIZE)
    dense.build((None, SIZE))
    net = network(lambda x: tf.sin(dense(x)))
    with simulator(net) as sim:
        model = sim.keras_model
        assert {id(v) for v in model.trainable_weights} == {id(v) for v in dense.weights}
        before = dense.get_weights()
        fit(sim, data(rng), data(rng))
        assert not np.array_equal(before[0], dense.get_weights()[0])


# -- weights in and out ----------------------------------------------------------------


def test_weights_are_kept_saved_and_restored(rng, allclose, tmp_path):
    dense, x = keras.layers.Dense(SIZE), data(rng)
    dense.build((None, SIZE))
    pretrained = [rng.uniform(size=w.shape).astype(np.float32) for w in dense.weights]
    dense.set_weights(pretrained)
    net = network(dense)

    def equals(values):
        return all(map(np.array_equal, dense.get_weights(), values))

    with simulator(net) as sim:
        assert equals(pretrained)
        sim.save_params(tmp_path / "params")
        dense.set_weights([2 * w for w in pretrained])  # and the network sees it
        sim.run_steps(STEPS, data={net.stimulus: x})
        assert allclose(sim.data[net.probe], dense(x), atol=1e-6)
        sim.load_params(tmp_path / "params")
        assert equals(pretrained)
        assert allclose(sim.predict(x)[net.probe], dense(x), atol=1e-6)
        sim.keras_model.save_weights(tmp_path / "keras.weights.h5")
        fit(sim, x, data(rng))
        trained = dense.get_weights()
        assert not equals(pretrained)
        sim.keras_model.load_weights(tmp_path / "keras.weights.h5")
        assert equals(pretrained)
        dense.set_weights(trained)
        sim.reset(include_trainable=False)
        assert equals(trained)
        sim.reset()
        assert equals(pretrained)
        sim.run_steps(STEPS, data={net.stimulus: x})
        assert allclose(sim.data[net.probe], dense(x), atol=1e-6)


def test_names_of_parameters_do_not_depend_on_other_layers(tmp_path):
    for i in range(2):
        model = keras.Sequential([keras.layers.Dense(4), keras.layers.Dense(2)])
        with simulator(network(model, label="net")) as sim:
            sim.save_params(tmp_path / f"{i}.npz")
        with np.load(tmp_path / f"{i}.npz") as file:
            assert sorted(file) == [
                f"nodes['net'].{name}"
                for name in ("bias", "bias#2", "kernel", "kernel#2")
            ]


def test_pickles(rng):
    seeded()
    net = network(keras.layers.Dense(SIZE), recurrent=True)
    x = data(rng)
    with simulator(net) as sim:
        sim.run_steps(STEPS, data={net.stimulus: x})
        with pickle.loads(pickle.dumps(sim)) as other:
            for each in (sim, other):
                each.run_steps(4)
            (probe,) = other.model.probes
            assert np.array_equal(sim.data[net.probe], other.data[probe])
