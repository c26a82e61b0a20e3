"""A fixed number of steps one after the other, without a loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from nengo.exceptions import ValidationError

from nengo_dl.runtime.tensorflow.loop import Step, call_step, program
from nengo_dl.runtime.tensorflow.namespace import TensorFlowNamespace


class Unrolled:
    """A fixed number of time steps as one function with a gradient.

    Computes what `.bptt.Scan` does, for a number of steps that is known from the start:
    the program holds each of them anew. So it takes the longer to compile the more there
    are, and keeps all that a backward pass may need. In return XLA optimizes across
    steps, and gradients of gradients are available.

    Parameters
    ----------
    step, n_y, dtype, truncate, jit, turned, xp
        See `.bptt.Scan`.
    n_steps : int
        The number of steps.

    Examples
    --------
    >>> def step(xp, carry, x, weights):
    ...     c = carry[0] * weights[0]
    ...     return [c], c
    >>> three = Unrolled(step, n_y=1, n_steps=3, jit=False)
    >>> ys, carry = three(tf.zeros((3, 0, 1)), [tf.ones((1, 1))], [2.0])
    >>> ys.numpy().ravel()
    array([2., 4., 8.], dtype=float32)
    """

    def __init__(
        self,
        step: Step,
        n_y: int,
        dtype: Any = "float32",
        *,
        n_steps: int,
        truncate: int | None = None,
        jit: bool = True,
        turned: bool = False,
        xp: TensorFlowNamespace | None = None,
    ) -> None:
        self.xp = xp or TensorFlowNamespace(dtype, fast=jit)
        self.axes = (2, 1) if turned else (1, 2)  # of rows and of the batch
        self.step = step
        self.n_y = n_y
        self.n_steps = n_steps
        self.truncate = truncate
        self.run = program(self._run, jit)

    def __call__(
        self, xs: Any, carry: Sequence, weights: Sequence, training: bool = False
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Run all steps, and return their outputs and the last state.

        Parameters
        ----------
        xs : (n_steps, n_in, B) array
            Inputs; their number may be unknown while the caller is traced.
        carry : list of (n_i, B) array
            State before the first step.
        weights : list of array or variable
            Parameters.
        training : bool, optional
            Not needed; as for `.bptt.Scan`.

        Returns
        -------
        ys : (n_steps, n_y, B) tensor
            Outputs.
        carry : list of tensor
            State after the last step.

        Raises
        ------
        ~nengo.exceptions.ValidationError
            If there are more or fewer steps, and their number is known.
        """
        xs = self.xp.constant(xs)
        if xs.shape[0] not in (None, self.n_steps):
            raise ValidationError(
                f"got {xs.shape[0]} steps; expected {self.n_steps}, the number that the "
                "program was built for",
                attr="xs",
                obj=self,
            )
        xs = tf.ensure_shape(xs, (self.n_steps, *xs.shape[1:]))
        carry = [self.xp.constant(c) for c in carry]
        with self.xp.reraise_host_errors():
            return self.run(xs, carry, [self.xp.constant(w) for w in weights])

    def _run(self, xs, carry, weights):
        ys = []
        for i in range(self.n_steps):
            if self.truncate and i and i % self.truncate == 0:
                carry = [tf.stop_gradient(c) for c in carry]
            rows, batch = (xs.shape[axis] for axis in self.axes)
            x = xs[i] if rows else None
            shape = (self.n_y, batch)
            carry, y = call_step(self.step, self.xp, carry, x, weights, shape)
            ys.append(y)
        return tf.stack(ys), carry
