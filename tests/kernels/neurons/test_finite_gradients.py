"""Gradients are numbers, whatever the current: thresholds, zeros and large values."""

import nengo
import numpy as np
import pytest
import tensorflow as tf

import nengo_dl
from nengo_dl.kernels.neurons.base import neuron_kernels
from nengo_dl.runtime.tensorflow.namespace import TensorFlowNamespace
from tests.kernels.neurons.test_lif import parameters

#: besides those of the registry with their default values
SPECIAL = {
    "LIFRate without refractory time": nengo.LIFRate(tau_ref=0),
    "LIFRate with tiny time constant": nengo.LIFRate(tau_rc=1e-6),
    "SoftLIFRate, sharp": nengo_dl.SoftLIFRate(sigma=1e-4),
    "SoftLIFRate without refractory time": nengo_dl.SoftLIFRate(tau_ref=0),
    "Tanh without refractory time": nengo.Tanh(tau_ref=1e-6),
    "LeakyReLU, flat": nengo_dl.LeakyReLU(negative_slope=0),
}


def trained_types():
    """A neuron type for each kernel that training uses."""
    types = {}
    for _, kernel in neuron_kernels.items():
        kernel = kernel if kernel.rate_form is None else kernel.rate_form()
        rate_type = kernel.neuron_type
        if not kernel.differentiable and rate_type is None:
            continue  # steps, which are given the gradient of another kernel
        # spikes that are made of the rates of another type are trained as that type
        made = issubclass(rate_type, nengo.neurons.RatesToSpikesNeuronType)
        if not made and rate_type.__module__.startswith("nengo"):
            types[rate_type.__name__] = rate_type()
    return {**types, **SPECIAL}


def currents(dtype):
    """What is exactly at, just beside, and far from anything."""
    info = np.finfo(dtype)
    thresholds = np.array([-1, 0, 1, 2], dtype)
    beside = [np.nextafter(thresholds, dtype(s * np.inf)) for s in (-1, 1)]
    near = [thresholds + dtype(s * 10.0**-k) for s in (-1, 1) for k in range(1, 16, 2)]
    far = [s * 10.0**k for s in (-1, 1) for k in range(1, 16)]
    tiny = [info.tiny, -info.tiny, info.eps, -info.eps, -0.0]
    return np.concatenate([thresholds, *beside, *near, far, tiny]).astype(dtype)


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gradients_are_finite(dtype, fast):
    values = currents(dtype)
    xp = TensorFlowNamespace(dtype, fast=fast)

    def of_one(neuron_type, current, zeros):
        """The output and the new state, and the gradients of their sum."""
        kernel = neuron_kernels.find(type(neuron_type))
        p = parameters(kernel, neuron_type, len(values))
        for key, value in vars(p).items():
            if isinstance(value, np.ndarray):
                setattr(p, key, value.astype(dtype))
        state = [tf.identity(zeros) for _ in kernel.state]
        with tf.GradientTape() as tape:
            tape.watch([current, *state])
            results = kernel.step(xp, p, current, *state)
            total = tf.add_n([tf.reduce_sum(r) for r in results])
        return results, tape.gradient(
            total, [current, *state], unconnected_gradients="zero"
        )

    @tf.function(jit_compile=fast, autograph=False)
    def of_all(*arrays):  # one program: compiling takes longer than computing
        return {name: of_one(kind, *arrays) for name, kind in trained_types().items()}

    failures = []
    column = tf.constant(values[:, None])
    found = of_all(column, tf.zeros_like(column))
    for name, (results, gradients) in found.items():
        for what, arrays in (("output", results), ("gradient", gradients)):
            for array in arrays:
                bad = ~np.isfinite(array[:, 0])
                if bad.any():
                    failures.append((name, what, values[bad].tolist()))
    assert len(trained_types()) >= len(SPECIAL) + 8 and not failures
