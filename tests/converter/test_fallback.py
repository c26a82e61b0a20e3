"""Layers that Keras itself runs, inside the network."""

import keras
import numpy as np
import pytest
from keras import layers

import nengo_dl
from nengo_dl.converter.fallback import FlatCall, obstacle, report
from nengo_dl.converter.graph_walk import walk
from nengo_dl.converter.options import Options

from .models import outputs_of, randomized, verified


class Both(layers.Layer):
    """Two inputs, one of whole numbers, and two outputs."""

    def call(self, x, y):
        return x + 1, y @ keras.ops.ones((2, 2), y.dtype)


def test_several_inputs_outputs_and_whole_numbers(rng):
    a, b = keras.Input((3,)), keras.Input((2,), dtype="int32")

    x, y = Both()(a, y=layers.Embedding(5, 2)(b)[:, 0])
    model = randomized(keras.Model([a, b], [x, y]), rng)
    with pytest.warns(UserWarning, match="becomes a TensorNode"):
        converter = nengo_dl.Converter(model)
    data = [rng.uniform(size=(4, 3)).astype("float32"), rng.randint(5, size=(4, 2))]
    expected = model.predict(data, verbose=0)
    for found, y in zip(outputs_of(converter, data), expected, strict=True):
        assert np.allclose(found[:, 0], y, atol=1e-6)


def test_conditions_and_whole_numbers_inside(rng):
    ops = keras.ops
    a = keras.Input((4,))
    largest = ops.reshape(ops.argmax(a, axis=-1), (-1, 1))
    bins = ops.digitize(a, np.array([0.3, 0.6]))
    outputs = [
        ops.where(a > 0.5, a, 0.1 * a),
        layers.Flatten()(layers.Embedding(4, 2)(largest)),
        0.5 * ops.cast(bins, "float32"),
    ]
    model = randomized(keras.Model(a, outputs), rng)
    data = rng.uniform(size=(5, 4)).astype("float32")
    expected = model.predict(data, verbose=0)
    with pytest.warns(UserWarning, match="becomes a TensorNode"):
        converter = nengo_dl.Converter(model)
    for found, y in zip(outputs_of(converter, [data]), expected, strict=True):
        assert np.ptp(y) > 0
        assert np.allclose(found[:, 0], y, atol=1e-6)


def test_flat_calls(rng, allclose):
    """All inputs side by side; with time, one step of it."""
    a, b = keras.Input((2, 3)), keras.Input((3,))
    (call,) = walk(keras.Model([a, b], layers.Dot(axes=(2, 1))([a, b]))).calls
    flat = FlatCall(call, [(2, 3), (3,)])
    assert flat.built  # Keras does not trace it once more to find that out
    x = rng.uniform(size=(4, 2, 3)).astype("float32")
    y = rng.uniform(size=(4, 3)).astype("float32")
    found = flat(np.concatenate([x.reshape(4, -1), y], axis=1))
    assert found.shape == (4, 2)
    assert allclose(found.numpy(), np.einsum("bij,bj->bi", x, y), atol=1e-6)

    steps = keras.Input((5, 3))
    (call,) = walk(keras.Model(steps, layers.Softmax()(steps))).calls
    found = FlatCall(call, [(3,)], time=True)(y)
    assert allclose(found.numpy(), keras.ops.softmax(y).numpy(), atol=1e-6)


def test_trained_with_everything_that_keras_adds(rng):
    """Regularizers, constraints and losses of layers that stay Keras layers."""
    inputs = keras.Input((4,))
    x = layers.ActivityRegularization(l2=0.1)(layers.Dense(4)(inputs))
    x = layers.Reshape((2, 2))(x)
    x = layers.MultiHeadAttention(
        2,
        2,
        kernel_regularizer=keras.regularizers.L2(0.1),
        kernel_constraint=keras.constraints.MaxNorm(0.5),
        activity_regularizer=keras.regularizers.L1(0.1),
    )(x, x)
    model = keras.Model(inputs, layers.Flatten()(x))
    with pytest.warns(UserWarning, match="becomes a TensorNode"):
        verified(model, rng, native=False)


def test_activations_without_neurons_keep_their_shape(rng):
    """A softmax is over the last axis, not over everything."""
    inputs = keras.Input((2, 3))
    model = keras.Model(inputs, layers.Dense(4, activation="softmax")(inputs))
    with pytest.warns(UserWarning, match="the activation 'softmax'"):
        verified(model, rng, native=False)


def test_layers_with_weights_as_activations(rng):
    inputs = keras.Input((3,))
    prelu = layers.PReLU(name="prelu")
    model = keras.Model(inputs, layers.Dense(4, activation=prelu, name="d")(inputs))
    with pytest.warns(UserWarning, match="the activation 'prelu'"):
        converter = verified(model, rng, native=False)
    assert isinstance(converter.layers["d"], nengo_dl.TensorNode)


def test_whether_it_trains_is_decided_by_keras(rng):
    """An argument ``training`` of a call is overruled by `fit` and `predict`."""
    inputs = keras.Input((3,))
    x = layers.BatchNormalization()(inputs, training=False)
    dropped = layers.Dropout(0.5)(layers.Dense(2)(x), training=True)
    data = rng.uniform(size=(4, 3)).astype("float32")
    model = randomized(keras.Model(inputs, dropped), rng)
    with pytest.warns(UserWarning, match="becomes a TensorNode"):
        converter = nengo_dl.Converter(model)
    for made in (converter, nengo_dl.Converter(model, inference_only=True)):
        (found,) = outputs_of(made, data)
        assert np.allclose(found[:, 0], model.predict(data, verbose=0), atol=1e-6)
    with pytest.warns(UserWarning, match="statistics of the batch"):
        verified(keras.Model(inputs, x), rng, native=False)


@pytest.mark.parametrize(
    "layer, reason",
    [
        (layers.Softmax(), None),
        (layers.Softmax(axis=1), "axis 1 is the time"),
        (layers.LayerNormalization(axis=[1, 2]), "axis 1 is the time"),
        (layers.PReLU(shared_axes=[1]), None),
        (layers.PReLU(), "axis 1 is the time"),
        (layers.Conv1D(2, 2), "axis 1 is the time"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_obstacles_in_temporal_models(layer, reason):
    inputs = keras.Input((4, 3))
    (call,) = walk(keras.Model(inputs, layer(inputs))).calls
    found = obstacle(call, temporal=True)
    assert found is None if reason is None else reason in found
    assert obstacle(call, temporal=False) is None


def test_reports():
    inputs = keras.Input((3,))
    (call,) = walk(keras.Model(inputs, layers.Softmax(name="s")(inputs))).calls
    options = Options()
    text = r"layer 's' \(Softmax\) becomes a TensorNode: for a reason"
    with pytest.warns(UserWarning, match=text) as found:
        report(call, "for a reason", options)
        report(call, "for a reason", options)
    assert len(found) == 1
    with pytest.raises(TypeError, match=r"'s' \(Softmax\) has no native form: because"):
        report(call, "because", Options(allow_fallback=False))
