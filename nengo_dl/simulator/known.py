"""Which objects of a network are known: all that they do when they are built."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from nengo.params import (
    BoolParam,
    FrozenObject,
    NdarrayParam,
    NumberParam,
    Parameter,
    ShapeParam,
    StringParam,
)

#: Objects of these packages compute what they do from their arguments only, and keep no
#: generator of random numbers that they are called with.
KNOWN_PACKAGES = ("nengo", "nengo_dl")

#: Parameters that hold no objects which do anything. Exactly these; that of arrays has a
#: subclass for arrays or distributions.
_PLAIN = frozenset({BoolParam, NdarrayParam, NumberParam, ShapeParam, StringParam})


def is_known(obj: Any) -> bool:
    """Whether an object, if it does anything, is from a known package.

    So have to be the objects that it is made of.
    """
    return not isinstance(obj, FrozenObject) or consists_of(obj, _of_known_package)


def consists_of(obj: Any, known: Callable[[Any], bool]) -> bool:
    """Whether a solver, neuron type or the like is known, and so are its parts."""
    parts = [getattr(obj, name) for name in _part_names(type(obj))]
    return known(obj) and all(
        consists_of(part, known) for part in parts if isinstance(part, FrozenObject)
    )


def _of_known_package(obj: Any) -> bool:
    return _in_known_package(type(obj))


@cache
def _in_known_package(cls: type) -> bool:
    return cls.__module__.partition(".")[0] in KNOWN_PACKAGES


@cache
def _part_names(cls: type) -> list[str]:
    """The parameters of a class that may hold other objects."""
    return [
        name
        for name in dir(cls)
        if isinstance(parameter := getattr(cls, name), Parameter)
        and type(parameter) not in _PLAIN
    ]
