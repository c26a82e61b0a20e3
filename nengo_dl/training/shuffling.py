"""The order of the items of arrays in each epoch of a training.

Keras leaves it to TensorFlow, which repeats one order in every epoch once a seed is set
for the process. Here it is a function of the simulator's seed and the epoch's number.

Imported when it is first needed, because importing TensorFlow takes seconds.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from nengo.exceptions import ValidationError

from nengo_dl.runtime.tensorflow.python_calls import numpy_function


class Order(keras.callbacks.Callback):
    """The order in which items come, another one in each epoch.

    Parameters
    ----------
    live : LiveState
        Counts the epochs of all trainings since the last reset.
    seed : int
    items : int
    first : int
        The number of the first epoch, as Keras was told. From 0 on, epochs are counted
        on from those of earlier trainings; else the caller counts.
    """

    def __init__(self, live: Any, seed: int, items: int, first: int = 0) -> None:
        super().__init__()
        self._live, self._seed, self._items = live, int(seed) % 2**64, items
        self._before = 0 if first else live.epochs
        self._number = self._before + first

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Another epoch, another order."""
        self._number = self._before + epoch
        self._live.epochs = self._number + 1

    def numbers(self) -> np.ndarray:
        """The numbers of all items in the order of the present epoch."""
        rng = np.random.default_rng([self._seed, self._number])
        return rng.permutation(self._items)


def batches(parts: Any, order: Order, items: int, size: int) -> tf.data.Dataset:
    """The batches of an epoch.

    Parameters
    ----------
    parts : nested tuples and dicts of array
        Each ``(items, ...)``.
    order : Order
    items : int
    size : int
        Of all batches but perhaps the last.
    """
    whole = items // size

    def of_batches(_):
        numbers = tf.ensure_shape(numpy_function(order.numbers, [], tf.int64), [items])
        full = tf.reshape(numbers[: whole * size], (whole, size))
        data = tf.data.Dataset.from_tensor_slices(full)
        if items % size:
            rest = tf.data.Dataset.from_tensors(numbers[whole * size :])
            data = data.concatenate(rest)
        return data

    floatx = keras.config.floatx()

    def pick(array, numbers):
        chosen = tf.gather(array, numbers)  # in the type that Keras gives to arrays
        return tf.cast(chosen, floatx) if chosen.dtype.is_floating else chosen

    def picked(numbers, parts):
        return tf.nest.map_structure(lambda array: pick(array, numbers), parts)

    # an epoch asks for its order when it begins, and not ahead of it
    numbers = tf.data.Dataset.range(1).flat_map(of_batches)
    everything = tf.data.Dataset.from_tensors(parts).repeat()
    data = tf.data.Dataset.zip((numbers, everything))
    data = data.map(picked, num_parallel_calls=tf.data.AUTOTUNE)
    count = tf.data.experimental.assert_cardinality(whole + bool(items % size))
    options = tf.data.Options()
    options.experimental_optimization.apply_default_optimizations = False
    return data.apply(count).with_options(options).prefetch(tf.data.AUTOTUNE)


def split(parts: Any, fraction: float, items: int, where: str) -> tuple[Any, Any, int]:
    """Items for training and for validation, of which the latter are the last ones.

    Parameters
    ----------
    parts : nested tuples and dicts of array
    fraction : float
        Of the items that are for validation.
    items : int
    where : str
        For error messages.

    Returns
    -------
    training, validation : as ``parts``
        Views of the same arrays.
    items : int
        For training.
    """
    first = int(np.floor(items * (1.0 - fraction)))
    if first in (0, items):
        raise ValidationError(
            f"validation_split={fraction} of {items} items leaves nothing for "
            f"{'training' if first == 0 else 'validation'}; give more items, or another "
            "fraction",
            attr=where,
        )
    training = tf.nest.map_structure(lambda array: array[:first], parts)
    return training, tf.nest.map_structure(lambda array: array[first:], parts), first
