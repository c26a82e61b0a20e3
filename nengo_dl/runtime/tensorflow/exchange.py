"""Two axes exchanged on a processor.

oneDNN, which TensorFlow calls for it, makes a plan for each call: 46 us for 25 by 64 rows
of 10 numbers, and 14 where they are taken for whole numbers, which it leaves to
TensorFlow's own code (``train spikes25``).
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from nengo_dl.runtime.tensorflow.spiking_products import are_allowed


def exchanged(x: Any) -> Any:
    """A tensor with its first two axes exchanged.

    Parameters
    ----------
    x : (a, b, n) tensor

    Returns
    -------
    (b, a, n) tensor

    Examples
    --------
    >>> exchanged(tf.zeros((2, 3, 4))).shape
    TensorShape([3, 2, 4])
    """
    if x.dtype != tf.float32 or not are_allowed():
        return tf.transpose(x, (1, 0, 2))
    a, b, n = x.shape
    return tf.ensure_shape(_program(x), (b, a, n))


@tf.function(
    autograph=False, input_signature=[tf.TensorSpec((None, None, None), tf.float32)]
)
def _program(x):
    """A program of its own: TensorFlow keeps what defines a gradient for ever."""
    return _with_gradient(x)


@tf.custom_gradient
def _with_gradient(x):
    whole = tf.transpose(tf.bitcast(x, tf.int32), (1, 0, 2))
    return tf.bitcast(whole, tf.float32), _with_gradient
