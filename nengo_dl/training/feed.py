"""Arrays for Keras, batch by batch, without a copy of all of them.

Keras would make a ``tf.data`` pipeline of arrays: a copy of all data, functions that are
traced in each call, and an iterator in each epoch, which takes longer than training a
small network. Here a batch is cut out of the arrays when it is its turn, and a step is
called with it. Imported when it is first needed, because importing Keras takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from keras.src.trainers.data_adapters.data_adapter import DataAdapter

from nengo_dl.runtime.native.reuse import reused_array
from nengo_dl.runtime.tensorflow.batch_first import on_accelerator
from nengo_dl.training.mapped import is_in_file, let_go


class Batches(Iterator):
    """The batches of one epoch.

    Parameters
    ----------
    feed : Feed
        What they are cut out of.
    """

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self._next = 0
        self._numbers: Any = None

    def __next__(self) -> Any:
        feed, first = self.feed, self._next
        if first >= feed.items:
            raise StopIteration
        if feed.order is not None and self._numbers is None:
            self._numbers = feed.order()  # as the epoch begins, and not before
        self._next = min(first + feed.size, feed.items)
        chosen: Any = slice(first, self._next)
        if self._numbers is not None:
            chosen = self._numbers[chosen]
        with np.errstate(over="ignore"):  # the numbers were checked, in their own types
            batch = tuple(
                {name: feed.tensor(array, chosen, kind) for name, (array, kind) in part}
                for part in feed.parts
            )
        for array in feed.in_files:
            let_go(array)
        return batch


def _copied(array: np.ndarray, chosen: Any, dtype: np.dtype) -> np.ndarray:
    """Some items of an array in memory of their own, where TensorFlow wants it.

    That is used again when TensorFlow holds the batch no longer, so that nothing has to
    be cleared, whatever the C library does with what is free.
    """
    count = chosen.stop - chosen.start if isinstance(chosen, slice) else len(chosen)
    copy = reused_array((count, *array.shape[1:]), dtype)
    if isinstance(chosen, slice) or array.dtype != dtype:
        copy[...] = array[chosen]
    else:  # the numbers are valid; with another mode there would be one more copy
        np.take(array, chosen, axis=0, out=copy, mode="clip")
    return copy


class Feed(DataAdapter):
    """Arrays as Keras takes them in the place of a data set.

    Parameters
    ----------
    parts : tuple of dict
        Data, targets and weights: arrays ``(items, ...)`` by name.
    size : int
        Number of items of all batches but perhaps the last.
    dtype : dtype
        The type that batches of data have, and of targets and weights that are floating
        point numbers.
    order : callable, optional
        Gives the numbers of all items in the order of the present epoch. Default: as they
        are.
    device : str, optional
        Where they go, as for `tf.device`.

    Attributes
    ----------
    step, program : callable or None
        The step that batches went to last, and its program for them.
    in_files : list of ndarray
        Those arrays that are read from files, of which no more is held than a batch.
    """

    def __init__(
        self,
        parts: tuple[dict[str, np.ndarray], ...],
        size: int,
        dtype: np.dtype,
        order: Callable[[], np.ndarray] | None = None,
        device: str | None = None,
    ) -> None:
        self.size, self.order = size, order
        self._handed_over = not on_accelerator(device)
        self.step: Any = None
        self.program: Any = None
        self.items = len(next(iter(parts[0].values())))
        self.parts = tuple(
            [
                (n, (a, dtype if number == 0 or a.dtype.kind == "f" else a.dtype))
                for n, a in part.items()
            ]
            for number, part in enumerate(parts)
        )
        self.in_files = [a for part in parts for a in part.values() if is_in_file(a)]

    @property
    def spec(self) -> Any:
        """What all batches are like, with any number of items if the last has fewer."""
        items = None if self.has_partial_batch else self.size
        return tuple(
            {
                name: tf.TensorSpec((items, *array.shape[1:]), dtype)
                for name, (array, dtype) in part
            }
            for part in self.parts
        )

    def tensor(self, array: np.ndarray, chosen: Any, dtype: np.dtype) -> tf.Tensor:
        """Some items of an array.

        ``tf.constant`` copies an array up to three times, which takes 1.8 ms for a batch
        of 5 MB; one copy that is handed over takes 0.3, and what is small 9 us and not 17
        (``train spikes25``).

        Parameters
        ----------
        array : ndarray
        chosen : slice or ndarray of int
            Which items.
        dtype : dtype
            The type of the tensor.
        """
        plain = dtype.kind in "fi" and dtype.isnative and array.size > 0
        if not (self._handed_over and plain):
            return tf.constant(np.asarray(array[chosen]).astype(dtype, copy=False))
        copy: Any = _copied(array, chosen, dtype)
        return tf.experimental.dlpack.from_dlpack(copy.__dlpack__())

    # what Keras asks for ----------------------------------------------------------

    def get_tf_dataset(self) -> Any:
        """What gives an iterator for each epoch."""
        return self

    def __iter__(self) -> Batches:
        return Batches(self)

    @property
    def num_batches(self) -> int:
        """Number of batches of an epoch."""
        return -(-self.items // self.size)

    @property
    def batch_size(self) -> int:
        """Number of items of all batches but perhaps the last."""
        return self.size

    @property
    def has_partial_batch(self) -> bool:
        """Whether the last batch has fewer items."""
        return self.items % self.size > 0

    @property
    def partial_batch_size(self) -> int | None:
        """Number of items of the last batch, if it has fewer."""
        return self.items % self.size or None


class StepOnBatches:
    """A training or testing step as Keras calls it, with a short way for a `Feed`.

    Parameters
    ----------
    step : callable
        Of the parts of a batch.
    of_keras : callable
        Keras' own function for it, which takes any iterator.
    jit : bool
        Whether XLA compiles the step as a whole.
    """

    def __init__(self, step: Callable, of_keras: Callable, jit: Any) -> None:
        self._of_keras = of_keras
        self._step: Any = tf.function(
            tf.autograph.experimental.do_not_convert(step),
            autograph=False,
            reduce_retracing=True,
            jit_compile=jit,
        )

    def __call__(self, iterator: Any) -> Any:
        """Take the next batch, and give what the step gives."""
        if not isinstance(iterator, Batches):
            return self._of_keras(iterator)
        feed = iterator.feed
        if feed.step is not self:  # found once, and not for each batch
            feed.step = self
            feed.program = _short(self._step.get_concrete_function(feed.spec), feed.spec)
        return feed.program(next(iterator))


def _short(program: Any, spec: Any) -> Callable:
    """A program that is called without a look at what it is given, which is always alike.

    To compare a batch with its specification takes TensorFlow 0.2 of the 0.35 ms before
    the first operation (``train spikes25``). There is no public name for the rest of it.
    """
    flat = tf.nest.flatten(spec)
    given = getattr(program, "inputs", [])[: len(flat)]
    alike = [(x.shape, x.dtype) for x in given] == [(x.shape, x.dtype) for x in flat]
    if not alike or not hasattr(program, "_call_flat"):
        return program

    def call(batch):
        return program._call_flat(tf.nest.flatten(batch), program.captured_inputs)

    return call
