"""Memory inside a compiled loop for what several operations read.

XLA on the CPU evaluates an elementwise expression again in each operation that reads it,
and if it is long, splits it between threads, which takes longer than a few thousand
neurons do where the other core is busy. It does neither where the expression is written
into a part of a larger buffer. So the loop carries buffers of two parts. The first one is
written and read; which one it is, the program is told when it runs, or the compiler would
see that the rest of the buffer has no use.

Membrane voltages of 4,096 LIF neurons that three operations read, one item, us a step:
20 recomputed, 9 to 16 (idle or busy second core) through a gather, 8 through a buffer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf


class Measure:
    """Stands in for `Scratch` when it is found out which buffers a step needs.

    Attributes
    ----------
    shapes : list of tuple of int
        Shapes of what was kept.
    forms : list of tuple of int
        Forms in which carried arrays that lie batch first come out of the step, without
        the batch; see `.batch_first.turn_step`.
    """

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self.forms: list[tuple[int, ...]] = []

    def keep(self, x: tf.Tensor) -> tf.Tensor:
        """The array itself."""
        self.shapes.append(tuple(x.shape))
        return x


class Scratch:
    """The buffers of one step.

    Parameters
    ----------
    buffers : list of tf.TensorArray
        One of two elements for each call of `keep`, in their order; see `Scratch.empty`.
    part : scalar tensor of int32
        The element to use, which is always the first: a zero that the compiler does not
        know to be one.

    Attributes
    ----------
    buffers : list of tf.TensorArray
        The same after what was kept until now.
    """

    def __init__(self, buffers: Sequence[tf.TensorArray], part: tf.Tensor) -> None:
        self.buffers = list(buffers)
        self.part = part
        self.used = 0

    @staticmethod
    def empty(shape: tuple[int, ...], dtype: Any) -> tf.TensorArray:
        """A buffer for arrays of a shape."""
        return tf.TensorArray(dtype, 2, element_shape=shape, clear_after_read=False)

    def keep(self, x: tf.Tensor) -> tf.Tensor:
        """Write an array into the next buffer, and read it from there."""
        buffer = self.buffers[self.used].write(self.part, x)
        self.buffers[self.used] = buffer
        self.used += 1
        return buffer.read(0)


def measure(xp, step: Callable, specs: Sequence[Sequence[tf.Tensor]]) -> Measure:
    """What a step keeps and carries in which shapes, from a trace that is thrown away.

    Parameters
    ----------
    xp : TensorFlowNamespace
        The namespace that the step is traced with.
    step : callable
        The step, a function of lists of tensors.
    specs : list of list of tensor
        Tensors of which the arguments have the shapes and types.

    Returns
    -------
    Measure
    """

    def trace() -> Measure:
        xp.scratch = Measure()
        step(*([tf.zeros(t.shape, t.dtype) for t in spec] for spec in specs))
        return xp.scratch

    try:
        with tf.Graph().as_default():
            return trace()
    except RuntimeError:
        # the step reads variables or tensors from outside, which only the graph of a
        # function can do; that one takes longer to make
        measures: list[Measure] = []
        function = tf.function(lambda: measures.append(trace()), autograph=False)
        function.get_concrete_function()
        return measures[-1]
    finally:
        xp.scratch = None
