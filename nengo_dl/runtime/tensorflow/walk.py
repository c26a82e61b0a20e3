"""The loops over time steps that gradients through time are made of.

Forward, the state before each step is kept, or that before some of them; backward, a
step is computed again from it and the gradient is pulled back through that one step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from nengo_dl.runtime.tensorflow.loop import call_step
from nengo_dl.runtime.tensorflow.replay import Recording, Replaying

if TYPE_CHECKING:
    from nengo_dl.runtime.tensorflow.bptt import Scan


def floats(arrays: Sequence[tf.Tensor], like: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """The ``arrays`` whose companion in ``like`` is of floating point type."""
    pairs = zip(arrays, like, strict=True)
    return [x for x, companion in pairs if companion.dtype.is_floating]


def spread(grads: Sequence, like: Sequence[tf.Tensor]) -> list[tf.Tensor | None]:
    """The inverse of `floats`, with None for the others."""
    rest = iter(grads)
    return [next(rest) if x.dtype.is_floating else None for x in like]


def write(arrays: list, i: Any, values: Sequence[tf.Tensor]) -> list:
    """Write one value into each array of tensors."""
    return [array.write(i, x) for array, x in zip(arrays, values, strict=True)]


class Walk:
    """The loops that the two passes of a `.bptt.Scan` are made of, while it is traced.

    Parameters
    ----------
    scan : Scan
        What is being traced.
    xs : (T, n_in, B) tensor
        Inputs.
    weights : list of tensor
        Parameters.
    host : (T, rows, B) tensor, optional
        Results that host functions are to return; without it they are called.
    """

    def __init__(self, scan: Scan, xs, weights, host=None) -> None:
        self.scan = scan
        self.xs, self.weights, self.host = xs, weights, host
        self.n_in, self.batch = (xs.shape[axis] for axis in scan.axes)
        self.length = tf.shape(xs)[0] if xs.shape[0] is None else xs.shape[0]
        self.to_inputs = scan.input_gradient and self.n_in > 0
        self.host_rows = 0

    def buffers(self, size: Any, specs: Sequence) -> list[tf.TensorArray]:
        """Arrays of ``size`` tensors, one for each tensor (or specification) given."""
        return [
            tf.TensorArray(x.dtype, size, element_shape=x.shape, clear_after_read=False)
            for x in specs
        ]

    def spec(self, shape: Any) -> tf.TensorSpec:
        """What floating point tensors of one shape look like."""
        return tf.TensorSpec(shape, self.scan.xp.dtype)

    def interval(self, carry: Sequence) -> Any:
        """Number of steps between kept states, for the carried arrays given."""
        every = self.scan.checkpoint
        if every is None:
            return 1
        if every != "auto":
            return every
        size = sum(c.dtype.size * c.shape.num_elements() for c in carry)
        longest = self.scan.keep_bytes // max(size, 1)
        if isinstance(self.length, int):
            longer = self.length > longest
            return math.isqrt(self.length - 1) + 1 if longer else 1
        root = tf.math.ceil(tf.sqrt(tf.cast(self.length, tf.float32)))
        return tf.where(self.length > longest, tf.cast(root, tf.int32), 1)

    @staticmethod
    def keeps_all(every: Any) -> bool:
        """Whether it is known that the state of every step is kept."""
        return isinstance(every, int) and every == 1

    def step(self, i: Any, carry: Sequence, x: Any, weights: Sequence) -> tuple:
        """Step ``i``: next state, output, results of host functions."""
        host = self.host
        if host is None:
            xp = Recording(self.scan.xp)
        else:
            xp = Replaying(self.scan.xp, host[i])
        shape = (self.scan.n_y, self.batch)
        x = x if self.n_in else None
        carry, y = call_step(self.scan.step, xp, carry, x, list(weights), shape)
        if host is not None:
            return carry, y, None
        rows = xp.rows(self.batch)
        self.host_rows = rows.shape[0]
        return carry, y, rows

    def host_results(self, host: list) -> tf.Tensor:
        """All that host functions returned; nothing if none was called."""
        if not host or not self.host_rows:
            return tf.zeros((self.length, 0, self.batch), self.scan.xp.dtype)
        shape = (self.xs.shape[0], self.host_rows, self.batch)
        return tf.ensure_shape(host[0].stack(), shape)

    def forward(self, start, stop, carry, ys, kept, host) -> tuple:
        """Steps ``start`` to ``stop - 1``.

        Each of the buffers ``ys`` (outputs), ``kept`` (state before each step, counted
        from ``start``) and ``host`` may be an empty list.
        """

        def body(i, carry, ys, kept, host):
            kept = write(kept, i - start, carry if kept else [])
            carry, y, rows = self.step(i, carry, self.xs[i], self.weights)
            ys = write(ys, i, [y] if ys else [])
            host = write(host, i, [rows] if host else [])
            return i + 1, carry, ys, kept, host

        return tf.while_loop(
            lambda i, *_: i < stop,
            body,
            (tf.convert_to_tensor(start), carry, ys, kept, host),
            parallel_iterations=1,
        )

    def backward(self, start, stop, carries, d_ys, d_carry, totals, d_xs) -> tuple:
        """The pull-back of steps ``stop - 1`` to ``start``.

        ``carries`` are the states before each of them; ``d_carry``, ``totals`` (of
        weights) and ``d_xs`` accumulate gradients.
        """

        def body(i, d_carry, totals, d_xs):
            carry = [c[i - start] for c in carries]
            x = self.xs[i]
            sources = floats(carry, carry) + floats(self.weights, self.weights)
            sources += [x] if d_xs else []
            with tf.GradientTape() as tape:
                tape.watch(sources)
                after, y, _ = self.step(i, carry, x, self.weights)
            grads = tape.gradient(
                [y, *floats(after, after)],
                sources,
                output_gradients=[d_ys[i], *d_carry],
                unconnected_gradients=tf.UnconnectedGradients.ZERO,
            )
            grads = [tf.convert_to_tensor(g) for g in grads]  # makes sparse ones dense
            n = len(d_carry)
            d_carry = self.cut(i, grads[:n])
            totals = [t + g for t, g in zip(totals, grads[n:], strict=False)]
            return i - 1, d_carry, totals, write(d_xs, i, grads[n + len(totals) :])

        return tf.while_loop(
            lambda i, *_: i >= start,
            body,
            (tf.convert_to_tensor(stop) - 1, d_carry, totals, d_xs),
            parallel_iterations=1,
        )

    def cut(self, i: tf.Tensor, d_carry: list) -> list:
        """Gradients of the state before step ``i``, zero if a window starts there."""
        every = self.scan.truncate
        if every is None:
            return d_carry
        ends = (i > 0) & (i % every == 0)
        return [tf.where(ends, tf.zeros_like(d), d) for d in d_carry]
