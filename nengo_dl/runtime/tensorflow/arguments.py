"""Which arguments a function of tensors takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable

BY_NAME = ("training", "mask")
"""Arguments that Keras hands over by name."""


def parameters_of(function: Callable) -> list[inspect.Parameter] | None:
    """All parameters of a function; None if they are not known."""
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None


def takes_training(function: Callable) -> bool:
    """Whether it has an argument ``training``."""
    return any(p.name == "training" for p in parameters_of(function) or ())


def wrong_arguments(function: Callable, given: list[str]) -> str | None:
    """Why a function cannot be called with so many arguments; None if it can.

    Parameters
    ----------
    function : callable
    given : list of str
        Names of the arguments that it would be given by position, among them ``"t"`` and
        ``"x"``.
    """
    known = parameters_of(function)
    if known is None or any(p.kind is p.VAR_POSITIONAL for p in known):
        return None
    known = [p for p in known if p.kind is not p.VAR_KEYWORD and p.name not in BY_NAME]
    taken = [p for p in known if p.kind is not p.KEYWORD_ONLY]
    least = sum(p.default is p.empty for p in taken)
    if least <= len(given) <= len(taken):
        return None
    hint = ""
    if len(given) > least and "t" in given:
        hint = "; with pass_time=False it is not given the time"
    elif len(given) < least and "t" not in given:
        hint = "; with pass_time=True it is given the time, too"
    elif len(given) < least and "x" not in given:
        hint = "; with a shape_in it is given an input, too"
    names = ", ".join(p.name for p in taken)
    return f"takes ({names}), but is called as f({', '.join(given)}){hint}"
