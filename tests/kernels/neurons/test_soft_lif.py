"""The smoothed rate of LIF neurons."""

import numpy as np
import pytest
import tensorflow as tf

import nengo_dl
from nengo_dl.compiler.traits import Params
from nengo_dl.kernels.neurons.base import neuron_kernels
from nengo_dl.runtime.executor import executors
from tests import quickly

TAU_RC, TAU_REF, AMPLITUDE = 0.02, 0.002, 1.5


@pytest.fixture
def graphs_rewritten():
    """TensorFlow rewrites graphs before it runs them, as it does for users."""
    quickly.run_as_traced(False)
    yield
    quickly.run_as_traced()


def slope(current, sigma):
    """The derivative of the rate by the current."""
    x = (current - 1) / sigma
    # log(1 + exp(x)), and its derivative
    drive = sigma * np.logaddexp(0, x)
    rise = np.exp(-np.logaddexp(0, -x))
    period = TAU_REF + TAU_RC * np.log1p(1 / drive)
    return AMPLITUDE * TAU_RC * rise / (period**2 * drive * (1 + drive))


@pytest.mark.parametrize("compiled", ["by TensorFlow", "by XLA"])
@pytest.mark.parametrize("sigma", [1e-4, 0.02, 0.25, 1.0])
@pytest.mark.parametrize("dtype, rtol", [(np.float32, 2e-5), (np.float64, 1e-12)])
def test_slope_is_exact_far_below_the_threshold(
    compiled, sigma, dtype, rtol, allclose, graphs_rewritten
):
    """TensorFlow adds up the parts of a gradient in an order of its own."""
    kernel = neuron_kernels.exact(nengo_dl.SoftLIFRate)
    values = {"tau_rc": TAU_RC, "tau_ref": TAU_REF, "amplitude": AMPLITUDE}
    params = Params(**kernel.derive({**values, "sigma": sigma}))
    xp = executors.find("tensorflow").namespace(dtype)

    @tf.function(jit_compile=compiled == "by XLA")
    def gradient(current):
        with tf.GradientTape() as tape:
            tape.watch(current)
            (rate,) = kernel.step(xp, params, current)
        return tape.gradient(rate, current)

    current = 1 + sigma * np.linspace(-60, 60, 2401)[:, None]
    current = current.astype(dtype)
    assert 1.0 in current  # the threshold itself
    found = gradient(tf.constant(current)).numpy()
    assert found.dtype == dtype
    assert allclose(found, slope(current.astype(float), sigma), rtol=rtol, atol=0)
