"""Calling Python functions once although a step is computed twice.

The backward pass of a loop computes each step again. A Python function may have a state
of its own (an environment, a log), so it is not called again: one namespace keeps what
the functions of a step return, the other returns it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

from nengo_dl.runtime.tensorflow.namespace import Array, TensorFlowNamespace


class Recording(TensorFlowNamespace):
    """A namespace that keeps what the host functions of one step return.

    Parameters
    ----------
    xp : TensorFlowNamespace
        The namespace to be like.
    """

    def __init__(self, xp: TensorFlowNamespace) -> None:
        super().__init__(xp.dtype, xp.fast)
        self.host_errors = xp.host_errors
        self.results: list[tf.Tensor] = []

    def host_call(
        self, fn: Callable, inputs: Sequence[Array], sizes: Sequence[int]
    ) -> list[tf.Tensor]:
        """Call the function, and keep the results."""
        results = super().host_call(fn, inputs, sizes)
        self.results += results
        return results

    def rows(self, batch: int) -> tf.Tensor:
        """All results of the step so far, one below the other, ``(rows, batch)``."""
        return self.concat(self.results) if self.results else self.zeros((0, batch))


class Replaying(TensorFlowNamespace):
    """A namespace whose host functions return what they returned before.

    Parameters
    ----------
    xp : TensorFlowNamespace
        The namespace to be like.
    rows : (rows, batch) tensor
        What `Recording.rows` was at the end of the step.
    """

    def __init__(self, xp: TensorFlowNamespace, rows: tf.Tensor) -> None:
        super().__init__(xp.dtype, xp.fast)
        self.rows = rows

    def host_call(
        self, fn: Callable, inputs: Sequence[Array], sizes: Sequence[int]
    ) -> list[tf.Tensor]:
        """The next recorded results, in place of a call."""
        results = []
        for size in sizes:
            results.append(self.rows[:size])
            self.rows = self.rows[size:]
        return results
