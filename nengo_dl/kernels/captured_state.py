"""What Python functions keep from call to call, beside what they are given for it.

A step function may count in a variable that it closes over, collect in a list, or change
an attribute of its object. Two questions are answered here: what of it is the function's
*own*, so that it can be put back; and what else has *changed*, which cannot be put back
because others may look at it (a user's log, say).

An object is owned if it can be reached from the function, but not from what was there
before the function was made: the process or operator that made it, and globals.
"""

from __future__ import annotations

import collections
import functools
import io
import types
from collections.abc import Iterable, Iterator, Sized
from typing import Any

import numpy as np

#: objects and entries of containers looked at before giving up
MOST_OBJECTS, MOST_ENTRIES = 2000, 1000

#: bytes of arrays that are compared to see whether a function changes them
MOST_BYTES = 2**20

_CONSTANTS = (int, float, complex, str, bytes, type(None), range, np.generic)

#: packages whose objects and functions are not gone through
_NOT_THE_USERS = frozenset({"keras", "nengo", "nengo_dl", "numpy", "tensorflow"})

_MISSING = object()


def _is_of_users(cls: type) -> bool:
    """Whether all that objects of a class keep is in their ``__dict__``."""
    *own, last = cls.__mro__
    heap = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement
    return last is object and all(
        c.__flags__ & heap and not getattr(c, "__slots__", ()) for c in own
    )


class _ListLike:
    """Contents of lists and deques."""

    take = staticmethod(list)

    @staticmethod
    def put(obj: Any, content: Any) -> None:
        obj.clear()
        obj.extend(content)

    @staticmethod
    def parts(obj: Any) -> Iterator:
        for i, part in enumerate(obj):
            yield f"[{i}]", part


class _DictLike:
    """Contents of dictionaries whose keys are constants."""

    take = staticmethod(dict)

    @staticmethod
    def put(obj: Any, content: Any) -> None:
        obj.clear()
        obj.update(content)

    @staticmethod
    def parts(obj: Any) -> Iterator:
        for key, part in obj.items():
            yield f"[{key!r}]" if isinstance(key, str | int) else "[...]", part


class _SetLike:
    take = staticmethod(set)
    put = _DictLike.put

    @staticmethod
    def parts(obj: Any) -> Iterator:
        yield from ()


class _Bytes(_SetLike):
    take = staticmethod(bytes)

    @staticmethod
    def put(obj: Any, content: Any) -> None:
        obj[:] = content


class _Array:
    """Contents of arrays; those of objects hold references."""

    @staticmethod
    def take(obj: Any) -> Any:
        return obj.copy()

    @staticmethod
    def put(obj: Any, content: Any) -> None:
        if obj.flags.writeable:
            obj[...] = content

    @staticmethod
    def parts(obj: Any) -> Iterator:
        if obj.dtype == object:
            yield from _ListLike.parts(obj.ravel())


class _Legacy(_SetLike):
    """Random number generators of NumPy, the older ones."""

    @staticmethod
    def take(obj: Any) -> Any:
        return obj.get_state()

    @staticmethod
    def put(obj: Any, content: Any) -> None:
        obj.set_state(content)


class _Generator(_SetLike):
    """Contents of random number generators of NumPy's newer kind."""

    @staticmethod
    def take(obj: Any) -> Any:
        return obj.bit_generator.state

    @staticmethod
    def put(obj: Any, content: Any) -> None:
        obj.bit_generator.state = content


class _Cell:
    """Variables of an enclosing function."""

    @staticmethod
    def take(obj: Any) -> Any:
        try:
            return obj.cell_contents
        except ValueError:  # not filled yet
            return _MISSING

    @staticmethod
    def put(obj: Any, content: Any) -> None:
        if content is _MISSING:
            del obj.cell_contents
        else:
            obj.cell_contents = content

    @staticmethod
    def parts(obj: Any) -> Iterator:
        content = _Cell.take(obj)
        if content is not _MISSING:
            yield "", content


class _Iterator(_SetLike):
    """What can only go on: it is other than before whenever somebody looks."""

    @staticmethod
    def take(obj: Any) -> Any:
        return object()

    @staticmethod
    def put(obj: Any, content: Any) -> None:
        """Nothing can be put back."""


class _Attributes:
    """Objects whose attributes are all that they keep, and functions."""

    @staticmethod
    def take(obj: Any) -> Any:
        return dict(vars(obj))

    @staticmethod
    def put(obj: Any, content: Any) -> None:
        vars(obj).clear()
        vars(obj).update(content)

    @staticmethod
    def parts(obj: Any) -> Iterator:
        for name, part in vars(obj).items():
            yield f".{name}", part
        if isinstance(obj, types.FunctionType):
            yield from _inside(obj)


def _inside(function) -> Iterator:
    """What a function holds besides attributes: (name, part)."""
    yield from zip(function.__code__.co_freevars, function.__closure__ or ())
    for value in (
        *(function.__defaults__ or ()),
        *(function.__kwdefaults__ or {}).values(),
    ):
        yield "its default argument", value


_KINDS = {
    list: _ListLike,
    collections.deque: _ListLike,
    dict: _DictLike,
    collections.defaultdict: _DictLike,
    collections.OrderedDict: _DictLike,
    collections.Counter: _DictLike,
    set: _SetLike,
    bytearray: _Bytes,
    np.ndarray: _Array,
    np.random.RandomState: _Legacy,
    np.random.Generator: _Generator,
    types.CellType: _Cell,
    types.FunctionType: _Attributes,
}


def _kind(obj):
    """How the contents of an object are taken down and put back; None if they are not."""
    kind = _KINDS.get(type(obj))
    if kind is None and hasattr(type(obj), "__next__") and not isinstance(obj, io.IOBase):
        return _Iterator
    if kind is None and _is_of_users(type(obj)) and hasattr(obj, "__dict__"):
        return _Attributes
    return kind


def _is_known(cls_or_function) -> bool:
    """Whether a class or function belongs to a package that users build upon."""
    return (cls_or_function.__module__ or "").split(".")[0] in _NOT_THE_USERS


class _Walk:
    """All objects that can be reached, each once, with a name for it.

    Parameters
    ----------
    outside : dict
        Identity -> object: what is not gone through.
    globals_too : bool
        Whether the globals that functions name are gone through.
    """

    def __init__(self, outside: Any, globals_too: bool):
        self.outside = outside
        self.globals_too = globals_too
        self.found: dict[int, tuple[object, str]] = {}

    def go(self, obj: Any, name: str) -> None:
        """Go through an object and what it holds."""
        todo = [(obj, name)]
        while todo and len(self.found) < MOST_OBJECTS:
            obj, name = todo.pop()
            if isinstance(obj, (*_CONSTANTS, type, types.ModuleType)):
                continue
            if id(obj) in self.found or id(obj) in self.outside:
                continue
            if not isinstance(obj, tuple | types.MethodType | functools.partial):
                self.found[id(obj)] = obj, name
            todo += [(p, _joined(name, n)) for n, p in self._parts(obj)][::-1]

    def _parts(self, obj) -> Iterator:
        if isinstance(obj, tuple):
            yield from _ListLike.parts(obj[:MOST_ENTRIES])
        elif isinstance(obj, types.MethodType):
            yield "", obj.__self__
            yield "", obj.__func__
        elif isinstance(obj, functools.partial):
            for part in (obj.func, *obj.args, *obj.keywords.values()):
                yield "", part
        elif isinstance(obj, np.ndarray) and obj.base is not None:
            yield "", obj.base
        elif type(obj) in _KINDS:
            if isinstance(obj, types.FunctionType) and _is_known(obj):
                return
            if not isinstance(obj, Sized) or len(obj) <= MOST_ENTRIES:
                yield from _KINDS[type(obj)].parts(obj)
            if isinstance(obj, types.FunctionType) and self.globals_too:
                yield from _globals(obj)
        elif _kind(obj) is _Attributes and not _is_known(type(obj)):
            yield from _Attributes.parts(obj)
            if self.globals_too:
                yield from _methods(type(obj))


def _joined(name: str, part: str) -> str:
    return f"{name}{part}" if part[:1] in (".", "[", "") else part


def _globals(function) -> Iterator:
    """The globals that a function names."""
    for name in _names(function.__code__):
        if name in function.__globals__:
            yield name, function.__globals__[name]


def _names(code) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _methods(cls: type) -> Iterator:
    """The functions of a class, but those of packages that users build upon."""
    for base in cls.__mro__[:-1]:
        for value in vars(base).values() if not _is_known(base) else ():
            value = getattr(value, "__func__", getattr(value, "fget", value))
            if isinstance(value, types.FunctionType):
                yield "", value


def reached(roots: Iterable) -> dict[int, object]:
    """What functions can reach before they are run: identity -> object.

    Globals that they name are gone through, too.
    """
    walk = _Walk({}, globals_too=True)
    for root in roots:
        walk.go(root, "")
    return {key: obj for key, (obj, _) in walk.found.items()}


class Contents:
    """The contents of some objects at one moment.

    Parameters
    ----------
    objects : iterable of (object, str)
        With their names.
    most_bytes : int or None
        Arrays are left out once they are more than this, all in all.
    """

    def __init__(self, objects: Iterable, most_bytes: int | None = None):
        self._kept = []
        left = most_bytes
        for obj, name in objects:
            kind = _kind(obj)
            if kind is None:
                continue
            if left is not None and isinstance(obj, np.ndarray):
                if obj.nbytes > left:
                    continue
                left -= obj.nbytes
            self._kept.append((obj, name, kind, kind.take(obj)))

    @property
    def objects(self) -> list:
        """The objects whose contents were taken down."""
        return [obj for obj, *_ in self._kept]

    @property
    def names(self) -> list[str]:
        """The names of these objects, for messages."""
        return [name for _, name, *_ in self._kept]

    def put_back(self) -> None:
        """Give the objects these contents again."""
        for obj, _, kind, content in self._kept:
            kind.put(obj, content)

    def changed(self) -> list[str]:
        """The names of the objects, and of their attributes, that have other contents."""
        names: dict[str, None] = {}
        for obj, name, kind, content in self._kept:
            now = kind.take(obj)
            if kind is _Attributes:
                for key in {**content, **now}:
                    if not _same(now.get(key, _MISSING), content.get(key, _MISSING)):
                        names[_joined(name, f".{key}")] = None
            elif not _same_content(now, content):
                names[name] = None
        return list(names)


def _same(a, b) -> bool:
    """Whether two entries are the same object, or equal constants."""
    return a is b or (isinstance(a, _CONSTANTS) and _equal(a, b))


def _equal(a, b) -> bool:
    return type(a) is type(b) and bool(a == b or (a != a and b != b))


def _same_content(a, b) -> bool:
    """Whether contents are the same; what they refer to is compared by itself."""
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(_same_entry, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(map(_same_entry, a.values(), b.values()))
    return _same(a, b) or (isinstance(a, set) and a == b)


def _same_entry(a, b) -> bool:
    """For the states of generators, too, which hold arrays."""
    if isinstance(a, np.ndarray | dict):
        return a is b or (type(a) is type(b) and _same_content(a, b))
    return _same(a, b)


class CapturedState:
    """The state that functions capture: what is theirs, and what else they change.

    Parameters
    ----------
    functions : sequence of callable
        Those of one batch item.
    outside : dict or None
        From `reached`: what was there before the functions were made; None: everything.
    given : sequence
        Arrays and generators that whoever calls the functions looks after.

    Examples
    --------
    >>> log = []
    >>> def make():
    ...     count = [0]
    ...     def step():
    ...         count[0] += 1
    ...         log.append(count[0])
    ...         return count[0]
    ...     return step
    >>> outside = reached([make])
    >>> step = make()
    >>> state = CapturedState([step], outside)
    >>> own, others = state.own(), state.others()
    >>> step(), step()
    (1, 2)
    >>> own.put_back()
    >>> step()
    1
    >>> others.changed()
    ['log']
    """

    def __init__(self, functions: Iterable, outside: dict | None, given: Iterable = ()):
        self.functions = list(functions)
        self.outside = outside
        self.given = {id(obj): obj for obj in given}

    def own(self) -> Contents:
        """What the functions keep, and nobody else can reach."""
        return Contents(self._own().values())

    def others(self) -> Contents:
        """What else they reach, as far as it can be seen whether it changes."""
        own = {
            key for key, (obj, _) in self._own().items() if _kind(obj) is not _Iterator
        }
        found = self._walk(self.given, True)
        return Contents((v for key, v in found.items() if key not in own), MOST_BYTES)

    def _own(self) -> dict:
        if self.outside is None:
            return {}
        return self._walk({**self.outside, **self.given}, False)

    def _walk(self, outside, globals_too: bool) -> dict:
        walk = _Walk(outside, globals_too)
        for function in self.functions:
            walk.go(function, "")
        return walk.found
