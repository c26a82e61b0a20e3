"""Values whose gradient is that of something else."""

import numpy as np
import pytest
import tensorflow as tf

from nengo_dl.runtime.numpy.namespace import NumpyNamespace
from nengo_dl.runtime.tensorflow.namespace import TensorFlowNamespace

VALUES = np.array([[0.1, -0.0], [np.inf, 1e-45], [3.0, np.nan]], np.float32)


@pytest.mark.parametrize("make", (NumpyNamespace, TensorFlowNamespace))
def test_values_are_the_same_to_the_bit(make):
    xp = make("float32")
    found = np.asarray(xp.with_gradient(VALUES, np.full((3, 2), np.nan, np.float32)))
    assert found.tobytes() == VALUES.tobytes()


@pytest.mark.parametrize("jit", (False, True))
@pytest.mark.parametrize("columns", (2, 1))
def test_the_gradient_goes_to_the_other(jit, columns, allclose):
    xp = TensorFlowNamespace("float64", fast=jit)

    @tf.function(jit_compile=jit, autograph=False)
    def gradients(x, y):
        with tf.GradientTape() as tape:
            tape.watch((x, y))
            z = xp.with_gradient(x * x, 3 * y) * [[1.0, 2.0]]
        return z, tape.gradient(z, (x, y), unconnected_gradients="zero")

    x, y = tf.constant([[2.0, 3.0]], tf.float64), tf.ones((1, columns), tf.float64)
    z, (to_x, to_y) = gradients(x, y)
    assert allclose(z, [[4.0, 18.0]], atol=0)
    assert not np.any(to_x)
    assert allclose(to_y, [[3.0, 6.0]] if columns == 2 else [[9.0]], atol=0)


def test_batches_of_unknown_size(allclose):
    xp = TensorFlowNamespace("float64")

    @tf.function(input_signature=[tf.TensorSpec((2, None), tf.float64)], autograph=False)
    def gradient(x):
        y = tf.ones((2, 1), tf.float64)
        with tf.GradientTape() as tape:
            tape.watch(y)
            z = xp.with_gradient(x, y)
        return z, tape.gradient(z, y)

    x = np.arange(6.0).reshape(2, 3)
    z, to_y = gradient(x)
    assert allclose(z, x, atol=0)
    assert allclose(to_y, [[3.0], [3.0]], atol=0)
