"""Izhikevich neurons, beyond what the harness compares with core."""

import nengo
import numpy as np
import pytest
import tensorflow as tf

from nengo_dl.compiler.traits import Params
from nengo_dl.kernels.neurons.izhikevich import IzhikevichKernel
from nengo_dl.runtime.numpy.namespace import NumpyNamespace
from nengo_dl.runtime.tensorflow.namespace import TensorFlowNamespace

#: the patterns of the paper, as Nengo's documentation lists them
PATTERNS = {
    "regular": {},
    "bursting": {"reset_voltage": -55, "reset_recovery": 4},
    "chattering": {"reset_voltage": -50, "reset_recovery": 2},
    "fast": {"tau_recovery": 0.1},
    "low threshold": {"coupling": 0.25},
    "resonator": {"tau_recovery": 0.1, "coupling": 0.26},
}


def parameters(neurons, dt=0.001):
    kernel = IzhikevichKernel()
    values = {name: getattr(neurons, name) for name in kernel.params}
    return kernel, Params(**kernel.derive(dict(values, dt=dt)))


@pytest.mark.parametrize("pattern", sorted(PATTERNS))
@pytest.mark.parametrize("dt", (0.001, 0.0002))
def test_equals_the_step_of_nengo(pattern, dt, rng):
    """To the last bit, as rounding errors grow from step to step."""
    neurons = nengo.Izhikevich(**PATTERNS[pattern])
    kernel, p = parameters(neurons, dt)
    xp = NumpyNamespace("float64")
    state = [np.full((20, 3), -65.0), np.full((20, 3), -13.0)]
    expected = [s.copy() for s in state]
    output, total = np.zeros((20, 3)), 0
    mean = rng.uniform(-35, 30, (20, 1))
    for _ in range(400):
        current = mean + rng.normal(size=(20, 3))
        spikes, *state = kernel.step(xp, p, current, *state)
        neurons.step(dt, current, output, *expected)
        assert np.array_equal(spikes, output)
        assert np.array_equal(state[0], expected[0])
        assert np.array_equal(state[1], expected[1])
        total += np.count_nonzero(spikes)
    assert total > 50


def test_gradient_is_zero_through_spikes_and_passes_between_them(allclose):
    kernel, p = parameters(nengo.Izhikevich())
    current = tf.constant([[10.0], [10.0]], tf.float64)
    voltage = tf.constant([[-60.0], [25.0]], tf.float64)
    recovery = tf.constant([[-13.0], [-13.0]], tf.float64)
    xp = TensorFlowNamespace("float64", fast=True)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch((current, voltage))
        spikes, following, _ = kernel.step(xp, p, current, voltage, recovery)
    assert allclose(spikes.numpy()[:, 0], [0, 1000])
    zero = tf.UnconnectedGradients.ZERO
    assert not np.any(tape.gradient(spikes, current, unconnected_gradients=zero))
    # dv'/dv = 1 + 0.08 v + 5 below the threshold, and nothing is left after a reset
    slope = tape.gradient(following, voltage).numpy()[:, 0]
    assert allclose(slope, [1 - 0.08 * 60 + 5, 0])
    assert allclose(tape.gradient(following, current).numpy()[:, 0], [1, 0])
