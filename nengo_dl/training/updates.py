"""Updates of parameters in one operation, where Keras takes many for the same numbers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from nengo_dl.runtime.native import adam
from nengo_dl.runtime.tensorflow.costs import LEAST_UPDATED
from nengo_dl.runtime.tensorflow.spiking_products import are_allowed, threads

#: attributes of an optimizer that are read here, most of which have no public name
READ = (
    "_momentums",
    "_velocities",
    "_get_variable_index",
    "iterations",
    "beta_1",
    "beta_2",
    "epsilon",
    "amsgrad",
)


@contextlib.contextmanager
def in_one_operation(optimizer: Any) -> Iterator[None]:
    """Context of a training step: an optimizer updates large parameters at once.

    Only Adam of Keras, as it is or within an optimizer that scales losses, and where
    programs may call machine code of ours. All that Keras does with gradients before,
    and with parameters afterwards, stays as it is.

    Parameters
    ----------
    optimizer : keras.optimizers.Optimizer or None
    """
    found = []
    while optimizer is not None and are_allowed():
        found += [optimizer] if _is_adam(optimizer) else []
        optimizer = getattr(optimizer, "inner_optimizer", None)
    for one in found:
        vars(one)["update_step"] = _updating(one, one.update_step)
    try:
        yield
    finally:
        for one in found:
            vars(one).pop("update_step", None)


def _is_adam(optimizer: Any) -> bool:
    """Whether it is Adam as Keras has it, and not changed by anybody."""
    plain = type(optimizer) in (keras.optimizers.Adam, keras.optimizers.AdamW)
    changed = "update_step" in vars(optimizer)
    known = all(hasattr(optimizer, name) for name in READ)
    return plain and known and not changed and not optimizer.amsgrad


def _updating(optimizer: Any, plain: Callable) -> Callable:
    """What takes the place of ``optimizer.update_step``, which is ``plain``."""
    numbers = 1 - optimizer.beta_1, 1 - optimizer.beta_2, optimizer.epsilon

    def updated(p, m, v, gradient, alpha):
        now = np.array([alpha, *numbers], p.dtype)
        return adam.updated(p, m, v, gradient, now, threads())

    def update_step(gradient, variable, learning_rate):
        if not _takes(gradient, variable):
            plain(gradient, variable, learning_rate)
            return
        dtype, index = variable.dtype, optimizer._get_variable_index(variable)
        kept = [optimizer._momentums[index], optimizer._velocities[index]]
        changed = [variable, *(getattr(one, "value", one) for one in kept)]
        given = [tf.convert_to_tensor(one) for one in changed]
        alpha = _rate(optimizer, learning_rate, dtype)
        found = tf.numpy_function(
            updated,
            [*given, tf.cast(gradient, dtype), alpha],
            [dtype] * 3,
            stateful=False,
        )
        for one, value in zip(changed, found, strict=True):
            one.assign(tf.ensure_shape(value, one.shape))

    return update_step


def _takes(gradient: Any, variable: Any) -> bool:
    """Whether parameters are updated here: large ones, with a gradient of all of them."""
    dense = isinstance(gradient, tf.Tensor) and isinstance(variable, tf.Variable)
    if not dense or variable.dtype not in (tf.float32, tf.float64):
        return False
    size = variable.shape.num_elements()
    return size is not None and size >= LEAST_UPDATED


def _rate(optimizer: Any, learning_rate: Any, dtype: Any) -> Any:
    """What momentum is multiplied with, computed as Keras does."""
    ops = keras.ops
    step = ops.cast(optimizer.iterations + 1, dtype)
    powers = [
        ops.power(ops.cast(beta, dtype), step)
        for beta in (optimizer.beta_1, optimizer.beta_2)
    ]
    rate = ops.cast(learning_rate, dtype)
    return rate * ops.sqrt(1 - powers[1]) / (1 - powers[0])
