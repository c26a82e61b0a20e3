"""Nested plain data as arrays of numbers: what processes keep, in files without pickles.

Plain are numbers, text, arrays, lists, tuples, dicts, sets, deques of such, and random
number generators. How they are nested is written as JSON; what is in arrays goes to one
array for each type of number.
"""

from __future__ import annotations

import collections
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

#: generators of random numbers that NumPy has, by what they are made of
BIT_GENERATORS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")

#: what JSON says of everything but what it has itself
TAGS = frozenset(
    ("list tuple set deque dict complex bytes array scalar RandomState Generator").split()
)

_NUMBERS = "fiubc"


class NotPlain(Exception):
    """Something that cannot be written.

    Parameters
    ----------
    obj : object
    place : str
        Where it is, such as ``['a'][3]``.
    """

    def __init__(self, obj: object, place: str):
        super().__init__(f"an object of type {type(obj).__name__} at {place}")
        self.obj, self.place = obj, place


class _Writer:
    def __init__(self):
        self.arrays: dict[str, list[np.ndarray]] = {}

    def form(self, obj: Any, place: str) -> Any:
        """What JSON says of an object."""
        if obj is None or type(obj) in (bool, int, float, str):
            return obj
        if isinstance(obj, np.ndarray | np.generic) and obj.dtype.kind in _NUMBERS:
            array = np.asarray(obj)
            self.arrays.setdefault(array.dtype.name, []).append(array.ravel())
            tag = "array" if isinstance(obj, np.ndarray) else "scalar"
            return [tag, array.dtype.name, list(array.shape)]
        writer = _WRITERS.get(type(obj))
        if writer is None:
            raise NotPlain(obj, place or "its own place")
        return writer(self, obj, place)

    def forms(self, items, place: str) -> list:
        return [self.form(item, f"{place}[{i}]") for i, item in enumerate(items)]

    def pairs(self, obj: dict, place: str) -> list:
        return [
            [self.form(key, f"a key of {place}"), self.form(value, f"{place}[{key!r}]")]
            for key, value in obj.items()
        ]


_WRITERS: dict[type, Callable] = {
    list: lambda w, obj, place: ["list", w.forms(obj, place)],
    tuple: lambda w, obj, place: ["tuple", w.forms(obj, place)],
    set: lambda w, obj, place: ["set", w.forms(sorted(obj, key=repr), place)],
    collections.deque: lambda w, obj, place: ["deque", obj.maxlen, w.forms(obj, place)],
    dict: lambda w, obj, place: ["dict", w.pairs(obj, place)],
    complex: lambda w, obj, place: ["complex", obj.real, obj.imag],
    bytes: lambda w, obj, place: ["bytes", w.form(np.frombuffer(obj, "u1"), place)],
    np.random.RandomState: lambda w, obj, place: [
        "RandomState",
        w.form(obj.get_state(), place),
    ],
    np.random.Generator: lambda w, obj, place: [
        "Generator",
        w.form(obj.bit_generator.state, place),
    ],
}


class _Reader:
    def __init__(self, arrays: Mapping[str, np.ndarray]):
        self.arrays = arrays
        self.done = dict.fromkeys(arrays, 0)

    def value(self, form: Any) -> Any:
        """The object that a form describes."""
        if not isinstance(form, list):
            return form
        tag, *parts = form
        if tag not in TAGS:
            raise ValueError(f"there is nothing called {tag!r}")
        return getattr(self, f"_{tag}")(*parts)

    def _list(self, items):
        return [self.value(item) for item in items]

    def _tuple(self, items):
        return tuple(self._list(items))

    def _set(self, items):
        return set(self._list(items))

    def _deque(self, maxlen, items):
        return collections.deque(self._list(items), maxlen)

    def _dict(self, pairs):
        return {self.value(key): self.value(value) for key, value in pairs}

    def _complex(self, real, imag):
        return complex(real, imag)

    def _bytes(self, form):
        return self.value(form).tobytes()

    def _array(self, dtype, shape):
        first = self.done[dtype]
        last = first + int(np.prod(shape, dtype=object))
        values = self.arrays[dtype][first:last]
        self.done[dtype] = last
        return values.reshape(shape).copy()

    def _scalar(self, dtype, shape):
        return self._array(dtype, shape)[()]

    def _RandomState(self, form):
        rng = np.random.RandomState()
        rng.set_state(self.value(form))
        return rng

    def _Generator(self, form):
        state = self.value(form)
        name = state["bit_generator"]
        if name not in BIT_GENERATORS:
            raise ValueError(f"there is no generator {name!r}")
        rng = np.random.Generator(getattr(np.random, name)())
        rng.bit_generator.state = state
        return rng


def to_arrays(obj: Any, prefix: str) -> dict[str, np.ndarray]:
    """An object as arrays of numbers.

    Parameters
    ----------
    obj : object
        Plain data.
    prefix : str
        What names of the arrays begin with.

    Returns
    -------
    dict
        Under ``prefix`` the JSON, as bytes; under ``prefix`` and the name of a type the
        numbers of that type, one after the other.

    Raises
    ------
    NotPlain
        If there is something else in it.

    Examples
    --------
    >>> arrays = to_arrays({"y": np.zeros(3), "seen": [1, None]}, "process")
    >>> list(arrays)
    ['process', 'process float64']
    >>> from_arrays(arrays, "process")
    {'y': array([0., 0., 0.]), 'seen': [1, None]}
    """
    writer = _Writer()
    text = json.dumps(writer.form(obj, ""), separators=(",", ":"))
    arrays = {prefix: np.frombuffer(text.encode(), np.uint8)}
    for name, parts in writer.arrays.items():
        arrays[f"{prefix} {name}"] = np.concatenate(parts)
    return arrays


def from_arrays(arrays: Mapping[str, np.ndarray], prefix: str) -> Any:
    """The object that `to_arrays` was given.

    Parameters
    ----------
    arrays : mapping
        Others may be among them.
    prefix : str

    Raises
    ------
    ValueError
        If something is wrong with them.
    """
    numbers = {
        name[len(prefix) + 1 :]: value
        for name, value in arrays.items()
        if name.startswith(f"{prefix} ")
    }
    try:
        reader = _Reader(numbers)
        if any(name != value.dtype.name for name, value in numbers.items()):
            raise ValueError("an array is of another type than its name says")
        text = np.asarray(arrays[prefix], np.uint8).tobytes().decode()
        value = reader.value(json.loads(text))
    except (
        ValueError,
        TypeError,
        AttributeError,
        KeyError,
        OverflowError,
        RecursionError,
    ) as error:
        raise ValueError(f"{prefix} cannot be read: {error}") from error
    if any(reader.done[name] != value.size for name, value in numbers.items()):
        raise ValueError(f"{prefix} has more numbers than places for them")
    return value


def difference(found: Any, present: Any, place: str = "") -> str | None:
    """How an object differs in form from one that it is to take the place of.

    Lists may have become longer, and what is None may have become something else.

    Parameters
    ----------
    found, present : object
        Plain data.
    place : str
        What they are called.

    Returns
    -------
    str or None
    """
    if found is None or present is None:
        return None
    if type(found) is not type(present):
        kinds = type(found).__name__, type(present).__name__
        return f"{place or 'it'} is of type {kinds[0]}; expected {kinds[1]}"
    if isinstance(present, np.ndarray):
        if (found.shape, found.dtype) != (present.shape, present.dtype):
            return (
                f"{place or 'it'} is an array {found.shape} of {found.dtype}; expected "
                f"{present.shape} of {present.dtype}"
            )
    elif isinstance(present, tuple):
        if len(found) != len(present):
            return f"{place or 'it'} has {len(found)} parts; expected {len(present)}"
        parts = zip(range(len(present)), found, present)
        return _first_difference(parts, place)
    elif isinstance(present, dict):
        common = [key for key in present if key in found]
        return _first_difference(((k, found[k], present[k]) for k in common), place)
    return None


def _first_difference(parts, place: str) -> str | None:
    problems = (difference(f, p, f"{place}[{key!r}]") for key, f, p in parts)
    return next((problem for problem in problems if problem is not None), None)
