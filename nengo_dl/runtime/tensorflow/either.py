"""One of two functions, as a tensor decides, with a gradient.

TensorFlow does not find its way through functions with a gradient of their own inside of
a condition. Here the condition is inside of the gradient instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf


def either(
    condition: tf.Tensor, first: Callable, second: Callable, args: Sequence
) -> list[tf.Tensor]:
    """``first(*args)`` if the condition holds, else ``second(*args)``.

    Parameters
    ----------
    condition : scalar tensor of bool
    first, second : callable
        Functions of tensors that return a list of tensors, of the same shapes.
    args : list of tensor

    Returns
    -------
    list of tensor

    Notes
    -----
    The gradient takes another forward pass, so the functions must not call Python.

    Examples
    --------
    >>> x = tf.constant(3.0)
    >>> with tf.GradientTape() as tape:
    ...     tape.watch(x)
    ...     (y,) = either(x > 2, lambda x: [x * x], lambda x: [-x], [x])
    >>> float(tape.gradient(y, x))
    6.0
    """

    @tf.custom_gradient
    def chosen(*args):
        args = [tf.stop_gradient(x) for x in args]
        results = tf.cond(condition, lambda: first(*args), lambda: second(*args))

        def gradient(*upstream: Any) -> list:
            def back(function):
                with tf.GradientTape() as tape:
                    tape.watch(args)
                    pairs = zip(function(*args), upstream, strict=True)
                    pairs = [(y, dy) for y, dy in pairs if y.dtype.is_floating]
                sources = [x for x in args if x.dtype.is_floating]
                return tape.gradient(
                    [y for y, _ in pairs],
                    sources,
                    [dy for _, dy in pairs],
                    unconnected_gradients=tf.UnconnectedGradients.ZERO,
                )

            found = iter(tf.cond(condition, lambda: back(first), lambda: back(second)))
            return [next(found) if x.dtype.is_floating else None for x in args]

        return results, gradient

    return chosen(*args)
