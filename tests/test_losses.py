"""Losses: values and gradients against NumPy, through Keras and through a simulator."""

import subprocess
import sys

import keras
import nengo
import numpy as np
import pytest
import tensorflow as tf
from nengo.exceptions import ValidationError

import nengo_dl
from nengo_dl.losses import Regularize, nan_mse


def with_gradient(loss, y_true, y_pred):
    y_pred = tf.constant(y_pred)
    with tf.GradientTape() as tape:
        tape.watch(y_pred)
        value = loss(y_true, y_pred)
    return value.numpy(), tape.gradient(value, y_pred).numpy()


def test_nan_mse_is_mse_where_there_are_targets(rng, allclose):
    y_true, y_pred = rng.uniform(-1, 1, size=(2, 3, 4, 5)).astype(np.float32)
    missing = rng.uniform(size=y_true.shape) < 0.5
    missing[0] = True
    error = np.where(missing, 0, y_pred - y_true)
    value, gradient = with_gradient(nan_mse, np.where(missing, np.nan, y_true), y_pred)
    assert allclose(value, (error**2).mean(axis=-1))
    assert allclose(gradient, 2 * error / 5)
    assert not value[0].any() and not gradient[0].any()
    assert allclose(
        nan_mse(y_true, y_pred), keras.losses.mean_squared_error(y_true, y_pred)
    )


@pytest.mark.parametrize("order", [1, 1.5, 2, 3, np.inf])
@pytest.mark.parametrize("axis", [None, 1, 2, -1])
def test_regularize_is_a_norm(order, axis, rng, allclose):
    y = rng.uniform(-1, 1, size=(3, 4, 5)).astype(np.float32)
    if axis is None:
        norms = np.linalg.norm(y.reshape(3, -1), ord=order, axis=1)
    else:
        norms = np.linalg.norm(y, ord=order, axis=axis).mean(axis=1)
    loss = Regularize(order, axis)
    assert allclose(loss.call(None, y), norms, rtol=1e-5)
    assert allclose(loss(np.zeros_like(y), y), norms.mean(), rtol=1e-5)


def test_order_by_name():
    assert Regularize("euclidean").order == Regularize().order == 2


@pytest.mark.parametrize("order", [1, 1.5, 2, np.inf])
def test_gradient_of_regularize(order, rng, allclose):
    y = rng.uniform(0.1, 1, size=(2, 3, 4)) * rng.choice([-1, 1], size=(2, 3, 4))
    loss = Regularize(order, dtype="float64")
    _, gradient = with_gradient(loss, np.zeros_like(y), y)
    numeric = np.zeros_like(y)
    for index in np.ndindex(y.shape):
        step = np.zeros_like(y)
        step[index] = 1e-6
        up, down = (float(loss(y, y + sign * step)) for sign in (1, -1))
        numeric[index] = (up - down) / 2e-6
    assert allclose(gradient, numeric, atol=1e-8)
    _, at_zero = with_gradient(loss, y, np.zeros_like(y))
    assert np.array_equal(at_zero, np.zeros_like(y)) or order == np.inf
    assert np.isfinite(at_zero).all()


@pytest.mark.parametrize("order, axis", [(2, None), (1, -1), (np.inf, 1)])
def test_regularize_is_serializable(order, axis, rng):
    loss = Regularize(order, axis, name="small", reduction="sum")
    config = keras.saving.serialize_keras_object(loss)
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is Regularize and again.get_config() == loss.get_config()
    y = rng.uniform(size=(2, 3, 4))
    assert float(again(y, y)) == float(loss(y, y))


def test_nan_mse_is_serializable():
    config = keras.saving.serialize_keras_object(nan_mse)
    assert keras.saving.deserialize_keras_object(config) is nan_mse


@pytest.mark.parametrize("order", [0.5, 0, -np.inf, np.nan, "fro", True])
def test_order_must_be_that_of_a_norm(order):
    with pytest.raises(ValidationError, match="order.*at least 1"):
        Regularize(order)


@pytest.mark.parametrize("axis", [0, -3])
def test_axis_of_the_batch_is_refused(axis):
    with pytest.raises(ValidationError, match="axis of the batch"):
        Regularize(axis=axis)


def test_in_a_simulator(allclose):
    with nengo.Network(seed=0) as net:
        inp = nengo.Node([0.5, -0.5])
        out = nengo.Node(size_in=2)
        nengo.Connection(inp, out, synapse=None)
        first, second = nengo.Probe(out), nengo.Probe(out)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.compile(
            loss={first: nengo_dl.losses.nan_mse, second: nengo_dl.losses.Regularize()},
            loss_weights={first: 1, second: 0.1},
        )
        target = np.zeros((1, 4, 2))
        target[:, 2:] = np.nan
        found = sim.evaluate(
            y={first: target, second: np.zeros((1, 4, 2))}, n_steps=4, verbose=0
        )
    mse, norm = 0.25 / 2, np.sqrt(8 * 0.25)
    assert allclose(found["loss"], mse + 0.1 * norm, rtol=1e-5)


def test_keras_is_imported_with_the_first_use():
    code = (
        "import sys, nengo_dl; assert 'keras' not in sys.modules; nengo_dl.dists; "
        "assert 'keras' not in sys.modules; nengo_dl.losses.nan_mse; "
        "assert 'keras' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_names_are_errors():
    with pytest.raises(AttributeError, match="nengo_dl.*no attribute 'lossses'"):
        _ = nengo_dl.lossses
