"""Checks of what is to be drawn."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from nengo.exceptions import ValidationError


def numbers(values: Any, attr: str) -> np.ndarray:
    """An array of numbers."""
    try:
        found = np.asarray(values)
    except ValueError as error:  # lists of different lengths
        raise ValidationError(f"must be an array of numbers: {error}", attr) from error
    if found.dtype.kind not in "biuf":
        raise ValidationError(
            f"must be an array of numbers; got {type(values).__name__} of {found.dtype}",
            attr=attr,
        )
    return found


def one_item(values: Any, item: int, attr: str) -> np.ndarray:
    """What one item of a minibatch has, ``(steps, size)``.

    ``values``: ``(steps,)``, ``(steps, size)`` or ``(batch, steps, size)``. ``item``: its
    number; matters only if there is a batch. ``attr``: for error messages.
    """
    values = numbers(values, attr)
    if values.ndim == 1:
        return values[:, None]
    if values.ndim == 2:
        return values
    if values.ndim != 3:
        raise ValidationError(
            "must have the shape (steps, size) or (batch, steps, size); "
            f"got {values.shape}",
            attr=attr,
        )
    try:
        return values[operator.index(item)]
    except (IndexError, TypeError) as error:
        raise ValidationError(
            f"must be the number of one of the {len(values)} items of {attr!r}, from 0 "
            f"on; got {item!r}",
            attr="item",
        ) from error


def is_batch(values: Any) -> bool:
    """Whether values have an axis for items, and more than one of them."""
    shape = np.shape(values)
    return len(shape) == 3 and shape[0] > 1


def step_times(times: Any, n_steps: int, attr: str) -> np.ndarray:
    """The times of steps, in seconds.

    ``times``: the length of a step, or the time of each. ``n_steps``: how many steps
    there are. ``attr``: what has so many, for error messages.
    """
    found = numbers(times, "times")
    if found.ndim == 0:
        if not found > 0:
            raise ValidationError(
                f"the length of a step must be positive; got {times!r}", attr="times"
            )
        return found * np.arange(1, n_steps + 1)
    if found.shape != (n_steps,):
        raise ValidationError(
            f"must be the length of a step, or one time for each of the {n_steps} steps "
            f"of {attr!r}; got an array of shape {found.shape}. A probe with "
            "sample_every has fewer steps: sim.trange(sample_every=...) gives its times",
            attr="times",
        )
    return found


def indices(neurons: Any, n_neurons: int) -> np.ndarray:
    """Numbers of neurons, from numbers or from a mask.

    Raises `ValidationError` if there are no such neurons.
    """
    found = numbers(neurons, "neurons")
    if found.dtype == bool and found.shape == (n_neurons,):
        return np.flatnonzero(found)
    if found.ndim != 1 or found.dtype.kind not in "iu":
        raise ValidationError(
            f"must be numbers of neurons, or a mask of length {n_neurons}; got an array "
            f"of {found.dtype} of shape {found.shape}",
            attr="neurons",
        )
    wrong = found[(found < -n_neurons) | (found >= n_neurons)]
    if wrong.size:
        raise ValidationError(
            f"there are {n_neurons} neurons, from 0 to {n_neurons - 1}; got {wrong[0]}",
            attr="neurons",
        )
    return found % n_neurons


def as_fractions(values: Any, attr: str) -> np.ndarray:
    """Numbers from 0 to 1, ``(n,)``."""
    found = numbers(values, attr)
    if found.ndim != 1:
        raise ValidationError(
            "must be one fraction for each point, of shape (n,); "
            f"got {found.shape}. step_accuracy(outputs, labels) makes them of outputs",
            attr=attr,
        )
    wrong = found[(found < 0) | (found > 1)]
    if wrong.size:
        raise ValidationError(
            f"must be fractions from 0 to 1, which are drawn as percent; got {wrong[0]}",
            attr=attr,
        )
    return found
