"""Two axes exchanged, with gradients, against ``tf.transpose``."""

import numpy as np
import pytest
import tensorflow as tf

from nengo_dl.runtime.tensorflow.exchange import exchanged
from nengo_dl.runtime.tensorflow.spiking_products import allowed


@pytest.mark.parametrize("allows", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("shape", [(5, 4, 3), (1, 4, 3), (5, 4, 1), (0, 4, 3), (2, 3, 0)])
def test_axes_are_exchanged(shape, dtype, allows, rng):
    x = rng.normal(size=shape).astype(dtype)
    x[:1, :1, :1] = np.nan

    def transpose(x):
        return tf.transpose(x, (1, 0, 2))

    def with_gradients(exchange):
        @tf.function(autograph=False)
        def program(x):
            with tf.GradientTape() as outer:
                outer.watch(x)
                with tf.GradientTape() as tape:
                    tape.watch(x)
                    y = exchange(x)
                    loss = tf.reduce_sum(y**3 * tf.reshape(factors, y.shape))
                first = tape.gradient(loss, x)
            return y, first, outer.gradient(first, x)

        factors = tf.range(x.size, dtype=tf.float32)
        factors = tf.cast(factors, dtype)
        return [v.numpy() for v in program(tf.constant(x))]

    with allowed(allows):
        found = with_gradients(exchanged)
    for a, b in zip(found, with_gradients(transpose), strict=True):
        assert a.dtype == b.dtype and np.array_equal(a, b, equal_nan=True)


def test_shapes_that_are_known_stay_known():
    with allowed():
        shape = exchanged(tf.zeros((2, 3, 4))).shape
        assert shape == (3, 2, 4)
