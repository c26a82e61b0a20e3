"""A chain of loops in training that runs segment by segment of time.

What passes from one loop to the next is kept for all steps until the gradient comes back.
Where that is too much, all links of the chain run for a segment of the steps, and then
for the next one. Only the states between two segments are kept; on the way back a segment
is run once more before its gradient is asked for (checkpointing: T. Chen, B. Xu, C. Zhang
and C. Guestrin, Training deep nets with sublinear memory cost, arXiv:1604.06174, 2016).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

#: bytes of what passes between the loops of a batch, with its gradients, up to which
#: ``checkpoint="auto"`` keeps it for all steps
SEGMENT_BYTES = 2**31

#: steps of the shortest segment. To start all links takes as long as some steps of them;
#: for shorter ones, a single loop has less to do
LEAST_STEPS = 16


class Segments:
    """A function of a segment of time as one of all steps, with its gradient.

    Parameters
    ----------
    run : callable
        ``run(inputs, state, weights, training) -> (outputs, state)``. It depends on
        nothing else and changes nothing. ``inputs`` are tensors ``(batch, steps, size)``,
        ``outputs`` ``(steps, batch, size)``; ``training`` says whether gradients are
        going to be asked for.
    every : int
        Steps of a segment; the last one may be shorter.
    sizes : sequence of int
        Of the outputs.
    trained : sequence of bool
        For each of the weights, whether its gradient is asked for.

    Notes
    -----
    The gradient of the inputs is not computed.

    Examples
    --------
    >>> def run(inputs, state, weights, training):
    ...     level = state[0] + weights[0] * tf.reduce_sum(inputs[0], 1)
    ...     return [tf.transpose(inputs[0], (1, 0, 2))], [level]
    >>> w = tf.Variable(2.0)
    >>> x, level = tf.ones((1, 5, 1)), tf.zeros((1, 1))
    >>> by_two = Segments(run, 2, [1], [True])
    >>> with tf.GradientTape() as tape:
    ...     _, (level,) = by_two([x], [level], [tf.convert_to_tensor(w)])
    >>> float(level), float(tape.gradient(level, w))
    (10.0, 5.0)
    """

    def __init__(
        self,
        run: Callable[..., tuple[list[Any], list[Any]]],
        every: int,
        sizes: Sequence[int],
        trained: Sequence[bool],
    ) -> None:
        self.run, self.every = run, every
        self.sizes, self.trained = list(sizes), list(trained)
        self._program: Any = tf.function(self._differentiable, autograph=False)

    def __call__(
        self, inputs: Sequence[Any], state: Sequence[Any], weights: Sequence[Any]
    ) -> tuple[list[Any], list[Any]]:
        """What comes of all steps, and the state after them."""
        return self._program(list(inputs), list(state), list(weights))

    def _differentiable(self, inputs, state, weights):
        # what defines a gradient is kept until the process ends, see `Scan`
        n, this = len(state), weakref.ref(self)
        inputs = [tf.stop_gradient(x) for x in inputs]

        @tf.custom_gradient
        def segmented(*args):
            args = [tf.stop_gradient(a) for a in args]
            about: Any = this()
            outputs, last, kept = about.forward(inputs, args[:n], args[n:])

            def grad(*upstream):
                d = [
                    tf.zeros_like(y) if g is None else tf.convert_to_tensor(g)
                    for y, g in zip([*outputs, *last], upstream, strict=True)
                ]
                d_outputs, d_last = d[: len(outputs)], d[len(outputs) :]
                about: Any = this()
                return about.backward(inputs, args[n:], kept, d_outputs, d_last)

            return [*outputs, *last], grad

        found = segmented(*state, *weights)
        count = len(found) - n
        return found[:count], found[count:]

    def _cut(self, inputs):
        """How many whole segments there are, and how many steps are left after them."""
        steps = inputs[0].shape[1]
        return divmod(steps, self.every)

    def _trained(self, weights):
        """The weights of which the gradient is asked for."""
        return [w for w, asked in zip(weights, self.trained, strict=True) if asked]

    def _of(self, arrays, number, axis):
        """A whole segment of some arrays."""
        rows = number * self.every + tf.range(self.every)
        return [tf.gather(x, rows, axis=axis) for x in arrays]

    def forward(
        self, inputs: list[Any], state: list[Any], weights: list[Any]
    ) -> tuple[list[Any], list[Any], list[list[Any]]]:
        """Outputs, the state after all steps, and that before each segment.

        The latter are, for each array of the state, those of the whole segments one upon
        the other, and that of the rest.
        """
        whole, rest = self._cut(inputs)
        shapes = [(inputs[0].shape[0], size) for size in self.sizes]
        arrays = [
            tf.TensorArray(inputs[0].dtype, whole, element_shape=(self.every, *shape))
            for shape in shapes
        ]
        kept = [tf.TensorArray(c.dtype, whole, element_shape=c.shape) for c in state]

        def segment(i, state, kept, arrays):
            kept = [k.write(i, c) for k, c in zip(kept, state, strict=True)]
            xs = self._of(inputs, i, 1)
            ys, state = self.run(xs, state, weights, False)
            arrays = [a.write(i, y) for a, y in zip(arrays, ys, strict=True)]
            return i + 1, state, kept, arrays

        _, state, kept, arrays = tf.while_loop(
            lambda i, *_: i < whole,
            segment,
            (tf.constant(0), state, kept, arrays),
            parallel_iterations=1,
        )
        outputs = [
            tf.reshape(a.stack(), (whole * self.every, *shape))
            for a, shape in zip(arrays, shapes, strict=True)
        ]
        between = [[k.stack() for k in kept], list(state)]
        if rest:
            xs = [x[:, whole * self.every :] for x in inputs]
            ys, state = self.run(xs, state, weights, False)
            outputs = [tf.concat(pair, 0) for pair in zip(outputs, ys, strict=True)]
        return outputs, list(state), between

    def backward(
        self,
        inputs: list[Any],
        weights: list[Any],
        kept: list[list[Any]],
        d_outputs: list[Any],
        d_state: list[Any],
    ) -> list[Any]:
        """Gradients of the state at the beginning and of the weights.

        Parameters
        ----------
        inputs, weights : list of tensor
        kept : list of list of tensor
            What `forward` gives.
        d_outputs, d_state : list of tensor
            Gradients of the outputs, and of the state after all steps.
        """
        whole, rest = self._cut(inputs)
        totals = [
            tf.zeros_like(w)
            for w, wanted in zip(weights, self.trained, strict=True)
            if wanted
        ]
        if rest:
            start = whole * self.every
            xs, ys = [x[:, start:] for x in inputs], [d[start:] for d in d_outputs]
            d_state, parts = self._gradients(xs, kept[1], weights, ys, d_state)
            totals = [a + b for a, b in zip(totals, parts, strict=True)]

        def segment(i, d_state, totals):
            state, xs = [k[i] for k in kept[0]], self._of(inputs, i, 1)
            ys = self._of(d_outputs, i, 0)
            d_state, parts = self._gradients(xs, state, weights, ys, d_state)
            totals = [a + b for a, b in zip(totals, parts, strict=True)]
            return i - 1, d_state, totals

        _, d_state, totals = tf.while_loop(
            lambda i, *_: i >= 0,
            segment,
            (tf.constant(whole - 1), d_state, totals),
            parallel_iterations=1,
        )
        found = iter(totals)
        return [*d_state, *(next(found) if wanted else None for wanted in self.trained)]

    def _gradients(self, xs, state, weights, d_outputs, d_state):
        """Gradients of the state before a segment, and of the weights that train."""
        trained = self._trained(weights)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([*state, *trained])
            outputs, after = self.run(xs, state, weights, True)
        zero = tf.UnconnectedGradients.ZERO
        found = tape.gradient(
            [*outputs, *after], [*state, *trained], [*d_outputs, *d_state], zero
        )
        return found[: len(state)], found[len(state) :]
