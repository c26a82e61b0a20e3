"""Regularizers and constraints of layers in networks, compared with Keras itself."""

import pickle

import keras
import nengo
import numpy as np
import pytest
from keras import constraints, layers, regularizers

import nengo_dl
from nengo_dl.converter.base import numbers
from nengo_dl.converter.penalties import (
    ActivityPenalty,
    PenaltyNode,
    WeightOrder,
    penalties_of,
)

from .models import randomized

BATCH = 4


def trained_alike(model, rng, allclose):
    """Losses of testing and training, and outputs afterwards, are those of Keras."""
    randomized(model, rng)
    converter = nengo_dl.Converter(model, allow_fallback=False)
    x = rng.uniform(-1, 1, size=(7, *model.input_shape[1:])).astype("float32")
    y = rng.uniform(-1, 1, size=(7, *model.output_shape[1:])).astype("float32")
    flat = x.reshape(7, 1, -1), y.reshape(7, 1, -1)
    with nengo_dl.Simulator(
        converter.net, minibatch_size=BATCH, progress_bar=False
    ) as sim:
        sim.compile(keras.optimizers.SGD(0.1), loss="mse")
        tested = sim.evaluate(*flat, verbose=0)["loss"]
        fit = {"epochs": 2, "shuffle": False, "verbose": 0}
        losses = sim.fit(*flat, **fit).history["loss"]
        outputs = sim.predict(flat[0])[converter.probes[0]]
    model.compile(keras.optimizers.SGD(0.1), loss="mse")
    expected = model.evaluate(x, y, batch_size=BATCH, verbose=0)
    assert allclose(tested, expected, rtol=1e-5)
    expected = model.fit(x, y, batch_size=BATCH, **fit).history["loss"]
    assert allclose(losses, expected, rtol=1e-5)
    expected = model.predict(x, verbose=0)
    assert allclose(outputs[:, 0], expected.reshape(7, -1), atol=1e-6)
    return converter


def test_of_kernels_biases_and_activities(rng, allclose):
    """Also while the model stays a network that Nengo itself runs."""
    inputs = keras.Input((3,))
    x = layers.Dense(
        4,
        activation="relu",
        kernel_regularizer=regularizers.L1L2(0.1, 0.3),
        bias_regularizer=regularizers.L1(0.2),
        activity_regularizer=regularizers.L2(0.7),
        kernel_constraint=constraints.MaxNorm(0.4, axis=0),
        bias_constraint=constraints.NonNeg(),
    )(inputs)
    x = layers.ActivityRegularization(l1=0.3)(layers.Reshape((2, 2))(x))
    x = layers.Dense(3, kernel_constraint=constraints.UnitNorm(axis=1))(x)
    x = layers.EinsumDense(
        "abc,dc->abd",
        (2, 2),
        bias_axes="d",
        kernel_constraint=constraints.MaxNorm(0.3, axis=1),
        activity_regularizer="l2",
        name="einsum",
    )(x)
    x = layers.Dense(2, activation="tanh", kernel_regularizer="l2")(layers.Flatten()(x))
    model = keras.Model(inputs, x)
    trained_alike(model, rng, allclose)
    converter = nengo_dl.Converter(model)
    assert converter.verify(atol=1e-6)
    assert converter.verify(training=True, atol=1e-6)
    with nengo.Simulator(converter.net, progress_bar=False) as sim:
        sim.run_steps(2)
        assert np.all(np.isfinite(sim.data[converter.probes[0]]))


def test_of_convolutions(rng, allclose):
    """Filters in another order than Nengo's, or in another shape."""
    inputs = keras.Input((4, 5, 2))
    x = layers.Conv2D(
        3,
        2,
        kernel_constraint=constraints.MaxNorm(0.7, axis=[0, 1, 2]),
        kernel_regularizer=regularizers.L2(0.1),
    )(inputs)
    x = layers.DepthwiseConv2D(
        2,
        depth_multiplier=2,
        depthwise_constraint=constraints.MaxNorm(0.6, axis=[0, 1, 3]),
        depthwise_regularizer=regularizers.L1(0.1),
    )(x)
    x = layers.SeparableConv2D(
        3,
        2,
        padding="same",
        depthwise_constraint=constraints.UnitNorm(axis=[0, 1]),
        pointwise_constraint=constraints.UnitNorm(axis=3),
        pointwise_regularizer=regularizers.L1(0.1),
        bias_regularizer=regularizers.L2(0.1),
    )(x)
    x = layers.Conv2DTranspose(
        2,
        (1, 2),
        kernel_constraint=constraints.MaxNorm(0.5, axis=[0, 1, 2]),
        activity_regularizer=regularizers.L1(0.1),
    )(x)
    trained_alike(keras.Model(inputs, layers.Flatten()(x)), rng, allclose)


def test_of_shared_layers_and_inner_models(rng, allclose):
    """Weights count once, activities in each call."""
    shared = layers.Dense(
        3,
        activation="sigmoid",
        kernel_regularizer=regularizers.L2(0.2),
        kernel_constraint=constraints.MaxNorm(0.6),
        bias_regularizer=regularizers.L1(0.3),
        activity_regularizer=regularizers.L2(0.2),
    )
    inner = keras.Sequential([keras.Input((3,)), shared])
    inputs = keras.Input((3,))
    model = keras.Model(inputs, shared(inner(shared(inputs))))
    converter = trained_alike(model, rng, allclose)
    nodes = [node for node in converter.net.nodes if isinstance(node, PenaltyNode)]
    assert len(nodes) == 3
    split = nengo_dl.Converter(model, split_shared_weights=True)
    config = split.net.config
    copies = [c for c in split.net.connections if "kernel" in (c.label or "")]
    assert len(copies) == 3
    assert all(config[c].regularizer.function is not None for c in copies)


@pytest.mark.parametrize("sequences", (True, False))
def test_of_layers_in_time(sequences, rng, allclose):
    """Steps are an axis of what the regularizer sees, or the last one is all."""
    inputs = keras.Input((4, 2))
    inside = keras.Sequential(
        [keras.Input((2,)), layers.Dense(3, activity_regularizer="l2")]
    )
    x = layers.Dense(3, kernel_constraint=constraints.MaxNorm(0.5))(inputs)
    x = layers.TimeDistributed(layers.Dense(2, activity_regularizer="l1"))(x)
    x = layers.TimeDistributed(inside, activity_regularizer="l1")(x)
    x = layers.SimpleRNN(
        3,
        return_sequences=sequences,
        activity_regularizer=regularizers.L2(0.4),
        kernel_regularizer=regularizers.L2(0.1),
        recurrent_constraint=constraints.UnitNorm(),
    )(x)
    x = layers.Dense(2, activity_regularizer=regularizers.L1(0.4))(x)
    model = keras.Model(inputs, x)
    randomized(model, rng)
    converter = nengo_dl.Converter(model, allow_fallback=False, temporal_model=True)
    data = rng.uniform(-1, 1, size=(BATCH, 4, 2)).astype("float32")
    y = np.zeros((BATCH, *model.output_shape[1:]), "float32")
    model.compile("sgd", "mse")
    expected = model.evaluate(data, y, batch_size=BATCH, verbose=0)
    with nengo_dl.Simulator(
        converter.net, minibatch_size=BATCH, progress_bar=False
    ) as sim:
        sim.compile("sgd", "mse")
        y = y if sequences else y[:, None]
        assert allclose(sim.evaluate(data, y, verbose=0)["loss"], expected, rtol=1e-5)
    assert converter.verify(training=True, inputs=[data], atol=1e-6)


def test_activities_of_many_steps(rng, allclose):
    """The mean, where the model knows of no time; no cost where nobody asks for it."""
    inputs = keras.Input((3,))
    dense = layers.Dense(3, activity_regularizer=regularizers.L1(0.7))
    x = layers.Dense(2, activation="relu")(dense(inputs))
    model = randomized(keras.Model(inputs, x), rng)
    x = rng.uniform(-1, 1, size=(3, 3)).astype("float32")
    y = np.zeros((3, 2), "float32")
    model.compile("sgd", "mse")
    expected = model.evaluate(x, y, verbose=0)
    converter = nengo_dl.Converter(model)
    net = pickle.loads(pickle.dumps(converter.net))
    for network in (converter.net, net):
        with nengo_dl.Simulator(network, minibatch_size=4, progress_bar=False) as sim:
            sim.compile("sgd", "mse")
            data = [np.repeat(array[:, None], 5, axis=1) for array in (x, y)]
            for _ in range(2):
                found = sim.evaluate(*data, verbose=0)["loss"]
                assert allclose(found, expected, rtol=1e-5)
                through_keras = {"callbacks": [keras.callbacks.Callback()]}
                found = sim.predict(data[0], stateful=True, **through_keras)
                (outputs,) = found.values()
            assert allclose(outputs[:, 0], model.predict(x, verbose=0), atol=1e-6)
            assert sim.n_steps == 10
            probed = [len(v.chain.probes) for v in sim.tensor_graph.variants]
            assert probed == [2, 1]


def test_of_filtered_and_spiking_neurons(rng, allclose):
    """In their rate form without a filter, which is what is trained in general."""
    inputs = keras.Input((3,))
    relu = layers.Dense(6, activation="relu", activity_regularizer=regularizers.L2(0.1))
    model = keras.Model(inputs, layers.Dense(2)(relu(inputs)))
    spiking = {"swap_activations": {"relu": nengo.SpikingRectifiedLinear()}}
    randomized(model, rng)
    x = rng.uniform(-1, 1, size=(BATCH, 1, 3))
    y = np.zeros((BATCH, 1, 2))
    found = []
    for options in ({}, {**spiking, "scale_firing_rates": 100}):
        converter = nengo_dl.Converter(model, **options)
        with nengo_dl.Simulator(
            converter.net, minibatch_size=BATCH, progress_bar=False
        ) as sim:
            sim.compile(keras.optimizers.SGD(0.1), loss="mse")
            found.append(sim.fit(x, y, epochs=3, verbose=0).history["loss"])
    assert allclose(found[0], found[1], rtol=1e-5)
    assert found[0][0] > found[0][-1]
    filtered = nengo_dl.Converter(model, synapse=0.01, **spiking)
    (connection,) = (
        c for c in filtered.net.connections if isinstance(c.post_obj, PenaltyNode)
    )
    assert connection.synapse == nengo.Lowpass(0.01)


def test_none_for_inference(rng):
    inputs = keras.Input((3,))
    dense = layers.Dense(2, kernel_regularizer="l2", activity_regularizer="l2")
    model = keras.Model(inputs, layers.ActivityRegularization(0.1)(dense(inputs)))
    net = nengo_dl.Converter(model, inference_only=True).net
    assert not any(isinstance(node, PenaltyNode) for node in net.nodes)
    assert nengo_dl.config.resolve_penalties(net, "regularizer") == {}


def test_orders_of_weights(rng, allclose):
    value = rng.uniform(size=(2, 3))
    order = WeightOrder((2, 3), (1, 3, 2), transposed=True)
    assert not order.trivial and WeightOrder((2, 3), (2, 3)).trivial
    assert allclose(order.to_nengo(value), value.T[None])
    assert allclose(order.to_keras(value.T[None]), value)

    first = layers.Dense(3, kernel_constraint=constraints.MaxNorm(0.5, axis=0))
    first.build((None, 2))
    first.kernel.assign(value)
    weights = numbers(first.kernel)
    found, fits = penalties_of(first.kernel, weights.T, transposed=True)
    assert fits and set(found) == {"constraint"}
    expected = first.kernel_constraint(weights).numpy().T
    assert allclose(found["constraint"](weights.T), expected)
    assert penalties_of(first.kernel, weights) == (
        {"constraint": first.kernel_constraint},
        True,
    )
    assert not penalties_of(first.kernel, weights.T)[1]
    assert not penalties_of(first.kernel, weights[:1])[1]
    assert not penalties_of(first.kernel, nengo.dists.Uniform(0, 1))[1]
    assert penalties_of(first.bias, np.zeros((5, 5))) == ({}, True)


def test_weights_in_an_unknown_order_are_warned_of(rng):
    """Of layers that users convert."""

    class Own(layers.Dense):
        """A dense layer that is converted by other means."""

    @nengo_dl.Converter.register(Own)
    class ConvertOwn(nengo_dl.converter.LayerConverter):
        """Says nothing of the order."""

        def convert(self):
            target = self.target()
            kernel = self.layer.kernel
            self.connect(
                target, nengo.Dense((2, 3), init=numbers(kernel).T), variable=kernel
            )
            return target.output

    inputs = keras.Input((3,))
    layer = Own(2, kernel_regularizer="l2", use_bias=False, name="own")
    model = randomized(keras.Model(inputs, layer(inputs)), rng)
    text = "regularizer of 'kernel' of the layer 'own' are not carried over.*transposed"
    with pytest.warns(UserWarning, match=text):
        converter = nengo_dl.Converter(model)
    assert converter.verify()


def test_activity_penalties(rng, allclose):
    y = rng.uniform(size=(2, 3, 4)).astype("float32")
    total = keras.ops.sum
    mean = ActivityPenalty(total, (2, 2), per_item=True)
    assert allclose(mean(y), y.sum() / 6)
    assert allclose(ActivityPenalty(total, (4,), per_item=False)(y), y.sum() / 3)
    last = ActivityPenalty(total, (4,), "last", per_item=True)
    assert allclose(last(y), y[:, -1].sum() / 2)

    def shape(x):
        return keras.ops.cast(keras.ops.shape(x)[1], "float32")

    assert allclose(ActivityPenalty(shape, (2, 2), "axis", False)(y), 3)
    assert allclose(ActivityPenalty(shape, (2, 2), "last", False)(y), 2)
