"""What simulators are called with, checked: networks, times, seeds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from nengo import Network
from nengo.builder import Model
from nengo.exceptions import ValidationError

#: one more than the largest number that NumPy's generators take as a seed
SEEDS = 2**32

#: a number of steps beyond which not every step has a time of its own
MOST_STEPS = 2**53


def _number(value: Any) -> float | None:
    """A real number as such; None if it is something else."""
    if isinstance(value, str | bytes) or np.ndim(value):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def steps_of(time_in_seconds: Any, dt: float, obj: Any = None) -> int:
    """How many steps come nearest to a length of time.

    Parameters
    ----------
    time_in_seconds : float
        Finite, and at least 0.
    dt : float
        Length of a step in seconds.
    obj : Simulator, optional
        For the message.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If it is anything else.

    Examples
    --------
    >>> steps_of(0.0102, dt=0.001)
    10
    """
    seconds, problem = _number(time_in_seconds), None
    if seconds is None:
        seconds = math.nan
    if not math.isfinite(seconds):
        problem = f"expected a length of time in seconds, got {time_in_seconds!r}"
    elif seconds < 0:
        problem = f"must be positive (got {seconds:g})"
    elif seconds / dt >= MOST_STEPS:
        problem = f"{seconds:g} seconds are more than {MOST_STEPS:.0e} steps of {dt:g}"
    if problem is not None:
        raise ValidationError(problem, attr="time_in_seconds", obj=obj)
    return int(np.round(seconds / dt))


def period(sample_every: Any, obj: Any = None) -> float:
    """The sampling period of a probe in seconds, as a number.

    Raises
    ------
    ValidationError
        If it is no positive finite number.
    """
    value = _number(sample_every)
    if value is None or not 0 < value < math.inf:
        raise ValidationError(
            f"expected a positive number of seconds; got {sample_every!r}",
            attr="sample_every",
            obj=obj,
        )
    return value


def step_length(dt: Any) -> float:
    """The length of a step in seconds: finite, and more than 0.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If it is anything else.
    """
    seconds = _number(dt)
    if seconds is None or not (math.isfinite(seconds) and seconds > 0):
        raise ValidationError(
            f"expected the length of a step in seconds, more than 0, such as 0.001; got "
            f"{dt!r}",
            attr="dt",
        )
    return seconds


def seed_number(seed: Any, items: int = 1) -> int | None:
    """A seed of random numbers, or None.

    Parameters
    ----------
    seed : int or None
    items : int
        How many seeds there have to be from this one on: one for each batch item.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If it is anything else.
    """
    if seed is None:
        return None
    whole = isinstance(seed, int | np.integer) and not isinstance(seed, bool)
    if not whole or not 0 <= seed <= SEEDS - items:
        raise ValidationError(
            f"expected a whole number from 0 to {SEEDS - items}, or None for a random "
            f"one; got {seed!r}",
            attr="seed",
        )
    return int(seed)


def check_network(network: Any, model: Any) -> None:
    """What is to be simulated: a network, a built model, or both.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If it is anything else.
    """
    if network is None and model is None:
        raise ValidationError(
            "either a network or a built model must be given; got None for both",
            attr="network",
        )
    if network is not None and not isinstance(network, Network):
        advice = "put what is to be simulated into a `with nengo.Network() as net:`"
        if isinstance(network, type):
            advice = f"make one: {network.__name__}(...)"
        elif isinstance(network, Model):
            advice = "write Simulator(None, model=...)"
        kind = type(network).__name__
        raise ValidationError(
            f"expected a nengo.Network, got {network!r} ({kind}); {advice}",
            attr="network",
        )
    if model is not None and not isinstance(model, Model):
        raise ValidationError(
            f"expected a nengo.builder.Model, got {model!r} ({type(model).__name__})",
            attr="model",
        )
