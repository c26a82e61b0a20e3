"""Numbers that are none: NaN and infinity in data, targets, weights and parameters.

One NaN spreads to everything that is computed from it, and is hard to trace back; some
neuron types even hide it, because a current that is no number is not above the threshold.
So it is looked for where values come in and where they go out, once each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from nengo.exceptions import ValidationError

AXES = ("item", "step", "dimension")
"""What the axes of data count."""

WAY_OUT = (
    "sim.reset() or sim.load_params(path) gives good values back, and sim.compile a "
    "fresh optimizer; a lower learning rate, or an optimizer with clipnorm, may keep "
    "them good"
)


def is_finite(array: np.ndarray) -> bool:
    """Whether all entries of an array are numbers.

    The sum tells it in one pass without another array: it is a number unless an entry is
    none, or it overflows, which is seen to.

    Examples
    --------
    >>> is_finite(np.array([1.0, np.nan])), is_finite(np.full(9, 1e308))
    (False, True)
    """
    if array.dtype.kind not in "fc":
        return True
    with np.errstate(all="ignore"):
        if np.isfinite(array.sum()):
            return True
    return bool(np.isfinite(array).all())


def check_data(array: np.ndarray, what: str, where: str, way_out: str = "") -> None:
    """Refuse NaN and infinity.

    Parameters
    ----------
    array : array
        ``(items, steps, ...)``, or ``(items,)``.
    what : str
        Such as ``"data for Node 'a'"``.
    where : str
        The method that they were given to.
    way_out : str, optional
        What to do about it, instead of what is said of data.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        Names the item and the step of the first one.
    """
    if is_finite(array):
        return
    wrong = np.argwhere(~np.isfinite(array))
    first = tuple(wrong[0])
    names = (*AXES, *["axis"] * array.ndim)
    place = ", ".join(f"{name} {i}" for name, i in zip(names, first, strict=False))
    rest = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    way_out = way_out or (
        "Everything that is computed from it would be no number either; drop or replace "
        "it (np.nan_to_num, or leave out these items)"
    )
    raise ValidationError(
        f"{what} must be finite numbers; got {array[first]} at {place} (counted from "
        f"0){rest}. {way_out}",
        attr=where,
    )


def way_out_of_overflow(given: np.ndarray, array: np.ndarray) -> str:
    """What to do about numbers that only became infinite in the network's precision.

    Parameters
    ----------
    given, array : array
        As the user gave them, and in that precision.

    Returns
    -------
    str
        Empty if they were no numbers before.
    """
    if not is_finite(given):
        return ""
    return (
        f"The number that was given is beyond {array.dtype.name}, which ends at "
        f"{np.finfo(array.dtype).max:.2g}; scale the data, or call "
        "nengo_dl.configure_settings(dtype='float64') in the network"
    )


def check_targets(
    array: np.ndarray, what: str, where: str, functions: Iterable[Any]
) -> None:
    """Refuse NaN and infinity in targets, if a loss of Keras is going to read them.

    Parameters
    ----------
    array : array
        ``(items, steps, ...)``.
    what, where : str
        See `check_data`.
    functions : iterable
        The losses and metrics that compare them with outputs.

    Notes
    -----
    Losses from elsewhere may have a meaning for NaN, as `nengo_dl.losses.nan_mse` has, or
    may not look at targets at all, as `nengo_dl.losses.Regularize`.
    """
    strict = [f for f in functions if of_keras(f)]
    if not strict:
        return
    name = getattr(strict[0], "name", None) or getattr(strict[0], "__name__", strict[0])
    check_data(
        array,
        what,
        where,
        f"The loss {name!r} gives NaN for it. Where there is no target, use "
        "nengo_dl.losses.nan_mse, for which NaN is no error, or a sample_weight of 0 "
        "with a target of any value",
    )


def of_keras(function: Any) -> bool:
    """Whether a loss or metric is one of Keras' own, which all need numbers."""
    if isinstance(function, str):
        return True
    inner = getattr(function, "fn", None) or getattr(function, "_fn", None)
    if inner is not None:
        function = inner
    named = hasattr(function, "__qualname__")
    module = function.__module__ if named else type(function).__module__
    # code that was run from a string has no module
    return (module or "").partition(".")[0] == "keras"


def check_parameters(values: Iterable[tuple[Any, np.ndarray]], where: str) -> None:
    """Refuse parameters with NaN or infinity.

    Parameters
    ----------
    values : iterable of (Parameter, array)
    where : str

    Raises
    ------
    ~nengo.exceptions.ValidationError
        Names all of them.
    """
    wrong = [parameter for parameter, value in values if not is_finite(value)]
    if wrong:
        raise ValidationError(f"{not_finite(wrong)} {WAY_OUT}", attr=where)


def not_finite(parameters: list) -> str:
    """A sentence that names the parameters that are not finite."""
    shown = [f"{p.name!r} ({p.attr} of {p.obj})" for p in parameters[:5]]
    more = f" and {len(parameters) - 5} more" if len(parameters) > 5 else ""
    word, has = ("parameters", "have") if len(parameters) > 1 else ("parameter", "has")
    return f"the {word} {', '.join(shown)}{more} {has} values that are NaN or infinite."


def checked(value: Callable, parameters: Iterable, where: str) -> Callable:
    """``value``, which gives signals their values, with a check of what it gives.

    Parameters
    ----------
    value : callable
        ``value(signal) -> array``.
    parameters : iterable of Parameter
    where : str
    """
    by_base: dict = {}
    for parameter in parameters:
        by_base.setdefault(parameter.signal.base, []).append(parameter)

    def finite(signal):
        array = np.asarray(value(signal))
        if not is_finite(array):
            found = by_base.get(signal.base, [])
            check_parameters([(p, array) for p in found], where)
        return array

    return finite
