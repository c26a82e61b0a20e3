"""Products of weights with spikes in a training, from the neurons that spiked.

What a stage beside the loops multiplies with a matrix are the spikes of all steps and
items, of which nine in ten elements or more are zero. A product, and the gradient of its
matrix, then cost a fraction in machine code that looks at the others only; see
`nengo_dl.runtime.native.spiking_rows`. Whether they do is found out for each batch, from
a sample of its rows: the choice depends on the numbers alone, so that the same training
has the same results. The gradient of the spikes is dense.

TensorFlow calls that code as Python. Files and programs compiled by XLA cannot hold it;
it is called only where a simulator runs its own model on a CPU, inside of `allowed`.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import numpy as np
import tensorflow as tf

from nengo_dl.runtime.native import spiking_rows
from nengo_dl.runtime.native.blocks import processors
from nengo_dl.runtime.native.compile import available
from nengo_dl.runtime.tensorflow.costs import (
    LEAST_PRODUCT,
    MOST_SPIKES,
    SAMPLED_ROWS,
)

_allowed: ContextVar[bool] = ContextVar("products from spikes", default=False)


@contextlib.contextmanager
def allowed(yes: bool = True) -> Iterator[None]:
    """Context of programs that may call machine code of ours.

    Parameters
    ----------
    yes : bool
        Whether they may, as far as it depends on where they run.

    Examples
    --------
    >>> with allowed():
    ...     times(tf.ones((2, 3)), tf.ones((4, 3))).shape
    TensorShape([2, 4])
    """
    token = _allowed.set(yes and available() is None)
    try:
        yield
    finally:
        _allowed.reset(token)


def are_allowed() -> bool:
    """Whether the present program may call machine code of ours."""
    return _allowed.get()


def times(x: Any, a: Any) -> Any:
    """``x @ a.T``, of what is not zero in ``x`` where that is faster.

    Parameters
    ----------
    x : (rows, k) tensor
    a : (n, k) tensor

    Returns
    -------
    (rows, n) tensor
    """
    k, n = a.shape[1], a.shape[0]
    if not _worth_it(x.shape[0], k, n, x.dtype):
        return dense(x, a)
    return _program(x.dtype, k, n)(x, a)


def _worth_it(rows: int | None, k: int | None, n: int | None, dtype: tf.DType) -> bool:
    """Whether a product may be large enough, as far as its shape is known."""
    if not _allowed.get() or k is None or n is None:
        return False
    if rows is not None and rows * k * n < LEAST_PRODUCT:
        return False
    return min(k, n) >= spiking_rows.least_size(dtype.as_numpy_dtype)


@functools.lru_cache(maxsize=64)
def _program(dtype: tf.DType, k: int, n: int) -> Any:
    """The product as a program of its own, with its gradient.

    TensorFlow keeps what defines a gradient until the process ends, and with it the
    program around: that is this small one, and no training step.
    """
    signature = [tf.TensorSpec((None, k), dtype), tf.TensorSpec((n, k), dtype)]

    @tf.function(autograph=False, input_signature=signature)
    def program(x, a):
        @tf.custom_gradient
        def product(x, a):
            y, few = _call(_product_of_few, [x, a], (x.dtype, tf.bool))
            few.set_shape(())
            y = tf.cond(few, lambda: y, lambda: dense(x, a))
            y = tf.ensure_shape(y, (None, n))

            def grad(g):
                d_a = tf.cond(few, lambda: _gradient(x, g), lambda: _dense_gradient(x, g))
                return tf.matmul(g, a), d_a

            return y, grad

        return product(x, a)

    return program


def few_spikes(x: np.ndarray, n: int) -> bool:
    """Whether few elements of a matrix are not zero, and its product is large.

    Parameters
    ----------
    x : (rows, k) array
    n : int
        Of the product ``(rows, n)``.

    Examples
    --------
    >>> few_spikes(np.eye(1000, 500), 100), few_spikes(np.ones((1000, 500)), 100)
    (True, False)
    """
    if x.size * n < LEAST_PRODUCT:
        return False
    # odd, so that of steps times items not the same items are looked at in each step
    sample = x[:: len(x) // SAMPLED_ROWS | 1]
    return int(np.count_nonzero(sample)) <= MOST_SPIKES * sample.size


def dense(x: Any, a: Any) -> Any:
    """``x @ a.T``, of all elements."""
    return tf.matmul(x, a, transpose_b=True)


def _dense_gradient(x, g):
    return tf.matmul(g, x, transpose_a=True)


def _gradient(x, g):
    d = _call(_gradient_of_weights, [x, g], x.dtype)
    return tf.ensure_shape(d, (g.shape[1], x.shape[1]))


def _call(function, arrays, dtypes):
    return tf.numpy_function(function, arrays, dtypes, stateful=False)


def _product_of_few(x: np.ndarray, a: np.ndarray) -> tuple[np.ndarray, np.bool_]:
    """The product and whether it was computed: both in one call, which takes 0.1 ms."""
    if few_spikes(x, len(a)):
        return spiking_rows.product(x, a, threads()), np.True_
    return np.empty((0, len(a)), x.dtype), np.False_


def _gradient_of_weights(x: np.ndarray, g: np.ndarray) -> np.ndarray:
    return spiking_rows.gradient(x, g, threads())


def threads() -> int:
    """How many threads TensorFlow may use for one operation."""
    return _most_threads() or processors()


@functools.cache
def _most_threads() -> int:
    """What TensorFlow was told, which does not change once it has begun; 0 if nothing.

    TensorFlow makes a message of all its settings to tell: 10 us by itself, 77 under a
    profiler in a training, which asked eight times a batch (``train spikes25``).
    """
    return tf.config.threading.get_intra_op_parallelism_threads()
