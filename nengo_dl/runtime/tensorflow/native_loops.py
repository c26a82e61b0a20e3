"""Loops over time that are trained, in machine code of ours where they can be.

A loop of neurons alone is elementwise: what is multiplied with matrices comes before it
and after it. XLA takes a fifth of a second to compile it and clears all that it will
write; see `nengo_dl.runtime.native.trained_loops`. What is no such loop is left to
`.scan.Scan`.

TensorFlow calls that code as Python, see `.spiking_products`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from nengo_dl.runtime.native.trained_loops import Shape, TrainedLoop
from nengo_dl.runtime.tensorflow.costs import LEAST_NUMBERS
from nengo_dl.runtime.tensorflow.spiking_products import are_allowed, threads


class NativeLoop:
    """A loop of which machine code is made for each shape that it is called with.

    Parameters
    ----------
    step : callable
        ``step(xp, carry, x, weights) -> (carry, y)`` on arrays ``(n, batch)``, see
        `.emit.loop_step`.
    read : sequence of int
        Which weights the step reads.
    trained : sequence of bool
        For each weight, whether there is to be a gradient.
    """

    def __init__(
        self, step: Callable, read: Sequence[int], trained: Sequence[bool]
    ) -> None:
        self.step, self.read = step, list(read)
        self.count, self.trained = len(trained), [bool(trained[k]) for k in self.read]
        self._programs: dict[Any, Any] = {}

    def __call__(
        self, xs: Any, carry: Sequence, weights: Sequence, by_items: Any = None
    ) -> Any:
        """Outputs of all steps and the last state; None if it is no loop for this.

        Parameters
        ----------
        xs : (steps, items, n) tensor
        carry : list of (items, n) tensor
        weights : list of tensor
        by_items : (items, steps, n) tensor, optional
            What ``xs`` was turned from. It is read instead, so that nothing is turned.
        """
        if not are_allowed() or not carry or None in xs.shape.as_list():
            return None
        largest = max(c.shape[-1] for c in carry)
        numbers = xs.shape[0] * xs.shape[1] * largest
        if numbers < LEAST_NUMBERS:
            return None
        columns = [weights[k] for k in self.read]
        if any(w.shape.rank != 2 or w.shape[1] != 1 for w in columns):
            return None
        if any(c.shape.rank != 2 or c.shape[0] != xs.shape[1] for c in carry):
            return None
        dtypes = {x.dtype for x in (xs, *carry, *columns)}
        if dtypes not in ({tf.float32}, {tf.float64}):
            return None
        shape = Shape(
            xs.shape[2],
            tuple(c.shape[1] for c in carry),
            tuple(w.shape[0] for w in columns),
            xs.shape[1],
            by_items is not None,
        )
        key = shape, xs.dtype
        if key not in self._programs:
            self._programs[key] = self._program(shape, xs.dtype)
        program = self._programs[key]
        if program is None:
            return None
        ys, *last = program(xs if by_items is None else by_items, list(carry), columns)
        return ys, last

    def _program(self, shape: Shape, dtype: Any) -> Any:
        """The loop with its gradient as a program of its own; None if there is none."""

        def step(xp: Any, carry: list, x: Any, read: list) -> tuple:
            weights: list = [None] * self.count
            for k, weight in zip(self.read, read, strict=True):
                weights[k] = weight
            return self.step(xp, carry, x, weights)

        try:
            loop = TrainedLoop(step, shape, self.trained, dtype.as_numpy_dtype)
        except Exception:  # kernels of users may do with a tensor whatever they like
            return None
        return tf.function(_differentiable(loop, dtype), autograph=False)


def _differentiable(loop: TrainedLoop, dtype: Any) -> Callable:
    """A function of tensors that runs a loop.

    TensorFlow keeps what defines a gradient until the process ends, and with it this
    program: it holds the machine code, and no training step.
    """
    n, shape = len(loop.shape.carried), loop.shape

    def run(xs, carry, columns):
        @tf.custom_gradient
        def scan(xs, *args):
            carry, columns = args[:n], args[n:]

            def forward(xs, *arrays):
                y, states = loop.forward(xs, arrays[:n], arrays[n:], threads())
                return [y, *states]

            kinds = [dtype] * (1 + n)
            ys, *states = tf.numpy_function(forward, [xs, *args], kinds, stateful=False)
            steps = xs.shape[1 if shape.by_items else 0]
            ys = tf.ensure_shape(ys, (steps, shape.items, loop.results))
            last = [
                tf.ensure_shape(state[-1], before.shape)
                for state, before in zip(states, carry, strict=True)
            ]

            def grad(d_ys, *d_last):
                def backward(xs, d_ys, *arrays):
                    m = len(arrays) - n
                    parts = arrays[:n], arrays[n:m], arrays[m:]
                    d_x, d_carry, d_w = loop.backward(xs, d_ys, *parts, threads())
                    return [d_x, *d_carry, *d_w]

                given = [xs, d_ys, *states, *columns, *d_last]
                kinds = [dtype] * (1 + n + len(loop.trained))
                found = tf.numpy_function(backward, given, kinds, stateful=False)
                d_x, d_carry, d_w = found[0], found[1 : n + 1], iter(found[n + 1 :])
                wanted = [k in loop.trained for k in range(len(columns))]
                d_columns = [next(d_w) if yes else None for yes in wanted]
                gradients = [d_x, *d_carry, *d_columns]
                for g, like in zip(gradients, (xs, *args), strict=True):
                    if g is not None:
                        g.set_shape(like.shape)
                return gradients

            return [ys, *last], grad

        return scan(xs, *carry, *columns)

    return run
