"""Rectified linear neurons, beyond what the harness compares with core."""

import nengo
import numpy as np
import pytest
import tensorflow as tf

from nengo_dl.compiler.traits import Params
from nengo_dl.kernels.neurons.rectified_linear import (
    RectifiedLinearKernel,
    SpikingRectifiedLinearKernel,
)
from nengo_dl.runtime.numpy.namespace import NumpyNamespace
from nengo_dl.runtime.tensorflow.namespace import TensorFlowNamespace

DT = 0.001


def column(*values, dtype="float64"):
    return np.array(values, dtype).reshape(-1, 1)


def spiking(amplitude=1.0, dt=DT):
    """A kernel and its parameters."""
    kernel = SpikingRectifiedLinearKernel()
    return kernel, Params(**kernel.derive({"amplitude": amplitude, "dt": dt}))


def run(current, n_steps, dtype="float64", voltage=None, amplitude=1.0):
    """Spikes ``(n_steps, n)`` for constant currents, and the last voltage."""
    kernel, p = spiking(amplitude)
    xp = NumpyNamespace(dtype)
    current = np.asarray(current, dtype).reshape(-1, 1)
    voltage = np.zeros_like(current) if voltage is None else voltage
    spikes = []
    for _ in range(n_steps):
        s, voltage = kernel.step(xp, p, current, voltage)
        spikes.append(s.ravel())
    return np.array(spikes), voltage


# -- rates -----------------------------------------------------------------------------


@pytest.mark.parametrize("fast", (False, True))
@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_rate_and_gradient(fast, dtype, allclose):
    x = tf.constant(column(-3, -1e-30, -0.0, 0.0, 1e-30, 2, 1e30, dtype=dtype))
    p = Params(amplitude=0.5)
    with tf.GradientTape() as tape:
        tape.watch(x)
        (rate,) = RectifiedLinearKernel().step(TensorFlowNamespace(dtype, fast), p, x)
    gradient = tape.gradient(rate, x).numpy().ravel()
    assert allclose(rate.numpy().ravel()[[0, 2, 3, 5]], [0, 0, 0, 1], atol=0)
    assert not gradient[:2].any()
    assert allclose(gradient[4:], 0.5, atol=0)
    # at zero, anything between the slopes on both sides
    assert np.isfinite(gradient).all() and ((0 <= gradient) & (gradient <= 0.5)).all()


# -- spikes ----------------------------------------------------------------------------


def test_no_spike_is_lost(rng, allclose):
    """All that is integrated is either spikes or still in the voltage."""
    current = rng.uniform(-500, 5000, 200)
    start = rng.uniform(0, 1, (200, 1))
    spikes, voltage = run(current, 1000, voltage=start.copy())
    total = start.ravel() + 1000 * np.maximum(current, 0) * DT
    assert allclose(spikes.sum(0) * DT + voltage.ravel(), total, rtol=1e-11)
    assert ((0 <= voltage) & (voltage < 1)).all()


@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_spikes_are_whole_numbers(dtype, allclose):
    spikes, _ = run([100.5, 1500.25, 10500.5, 0, -7], 500, dtype, amplitude=0.5)
    numbers = spikes.astype(float) * DT / 0.5
    assert allclose(numbers, np.rint(numbers), atol=1e-4)
    assert set(np.rint(numbers[:, 1])) == {1, 2}
    assert set(np.rint(numbers[:, 2])) == {10, 11}
    assert not numbers[:, 3:].any()
    counts = np.rint(numbers).sum(0)
    assert np.abs(counts - [50, 750, 5250, 0, 0]).max() <= 1


@pytest.mark.parametrize("amplitude, dt", ((1.0, 0.001), (0.01, 0.001), (2.0, 0.0005)))
def test_equals_the_step_of_nengo(amplitude, dt, rng):
    neurons = nengo.SpikingRectifiedLinear(amplitude=amplitude)
    kernel, p = spiking(amplitude, dt)
    xp = NumpyNamespace("float64")
    voltage = rng.uniform(0, 1, (30, 3))
    expected, output = voltage.copy(), np.zeros((30, 3))
    total = 0
    for _ in range(200):
        current = rng.normal(400, 800, (30, 3))
        spikes, voltage = kernel.step(xp, p, current, voltage)
        neurons.step(dt, current, output, expected)
        assert np.array_equal(spikes, output) and np.array_equal(voltage, expected)
        total += np.count_nonzero(spikes)
    assert total > 1000


def test_gradients_pass_through_the_voltage_alone():
    kernel, p = spiking()
    x, v = tf.constant(column(300.0)), tf.constant(column(0.9))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([x, v])
        spikes, voltage = kernel.step(TensorFlowNamespace("float64"), p, x, v)
    assert spikes.numpy() == 1 / DT
    assert tape.gradient(voltage, v).numpy() == 1
    assert tape.gradient(voltage, x).numpy() == DT
    zero = tf.UnconnectedGradients.ZERO
    assert tape.gradient(spikes, x, unconnected_gradients=zero).numpy() == 0
