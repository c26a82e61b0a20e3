"""Keras variables that change in the loop over time; what cannot be compiled there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from nengo_dl.notices import warn


class Kept:
    """Variables that functions in the loop change, carried through it.

    Parameters
    ----------
    layout : Layout
    dtype : dtype
        The program's, which all carried numbers have that are not integers.
    """

    def __init__(self, layout: Any, dtype: Any) -> None:
        self.dtype = np.dtype(dtype)
        self.variables: list = []
        self._state: set[int] = set()
        for group in tensor_groups(layout.loop.groups):
            function, training = group.params["function"], group.params["training"]
            self._state |= {id(v) for v in function.state_variables}
            known = {id(v) for v in self.variables}
            new = {id(v): v for v in function.updated(training) if id(v) not in known}
            self.variables += new.values()

    def values(self) -> list[tf.Tensor]:
        """The present values of the variables, as the loop carries them."""
        values = [tf.convert_to_tensor(v.value) for v in self.variables]
        return [tf.cast(x, self.dtype) if x.dtype.is_floating else x for x in values]

    def assign(self, values: Sequence, carrying: Any = True) -> None:
        """Give the variables other values; state takes them only if it is to be kept.

        Parameters
        ----------
        values : list of tensor
        carrying : bool or tensor
        """
        for variable, value in zip(self.variables, values, strict=True):
            value = tf.cast(tf.stop_gradient(value), variable.dtype)
            if id(variable) in self._state and carrying is not True:
                value = tf.where(carrying, value, variable.value)
            variable.assign(value)

    def wrap(self, step: Callable | None, places: int | None = None) -> Callable | None:
        """A step that carries the variables behind everything else.

        Parameters
        ----------
        step : callable
        places : int, optional
            For batches that are not full, of so many places: the number of items that
            count is carried, too, behind these.
        """
        if step is None:
            return step
        if places is not None:
            return _counting(self.wrap(step), places)
        if not self.variables:
            return step
        n = len(self.variables)

        def wrapped(xp, carry, x, weights):
            xp.kept = {id(v): c for v, c in zip(self.variables, carry[-n:], strict=True)}
            following, y = step(xp, carry[:-n], x, weights)
            kept, xp.kept = xp.kept, None
            return [*following, *(kept[id(v)] for v in self.variables)], y

        return wrapped


def _counting(step: Callable, places: int) -> Callable:
    """A step that is told, as the last carried array, how many items count."""

    def counting(xp, carry, x, weights):
        *carry, items = carry
        xp.items, xp.batch = items[0], places
        following, y = step(xp, carry, x, weights)
        xp.items = None
        return [*following, items], y

    return counting


def batchwise(groups: Sequence) -> bool:
    """Whether some function among these may look at all items of a batch together."""
    return any(
        group.params["function"].batchwise(group.params["training"])
        for group in tensor_groups(groups)
    )


def tensor_groups(groups: Sequence) -> list:
    """The kernel calls among ``groups`` that call a function of tensors."""
    return [group for group in groups if group.kernel.tensorflow]


def compilable(groups: Sequence, batch: int) -> bool:
    """Whether XLA can compile the functions among these groups; warns if it cannot."""
    for group in tensor_groups(groups):
        function = group.params["function"]
        obstacle = function.obstacle(group.params["training"], batch)
        if obstacle is None:
            continue
        if not function.warned:
            function.warned = True
            label = function.label or "(without label)"
            warn(
                f"TensorNode {label} uses the operation {obstacle}, which XLA "
                "cannot compile, so that the network around it is not compiled either "
                "and runs more slowly. Replace this operation to avoid it"
            )
        return False
    return True
