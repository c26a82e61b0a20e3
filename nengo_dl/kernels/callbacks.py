"""What the runtime may ask of whatever runs as Python: the capabilities of callbacks.

A callback is made once for each operator that has no native form, and lives as long as
the simulation. The runtime never looks at its class; it asks for the attributes of
`Callback`, and calls the methods, which do nothing where there is nothing to do.
"""

from __future__ import annotations

import builtins
import collections
import dis
import functools
import io
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

# what functions keep ------------------------------------------------------------------
#
# A step function may count in a variable that it closes over, collect in a list, or
# change an attribute of its object. Two questions are answered here: what of it is the
# function's *own*, so that it can be put back; and what else has *changed*, which
# cannot be put back because others may look at it (a user's log, say).
#
# An object is owned if it can be reached from the function, but not from what was there
# before the function was made: the process or operator that made it, and globals.

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
            if _entries(obj) <= MOST_ENTRIES:
                yield from _KINDS[type(obj)].parts(obj)
            if isinstance(obj, types.FunctionType) and self.globals_too:
                yield from _globals(obj)
        elif _kind(obj) is _Attributes and not _is_known(type(obj)):
            yield from _Attributes.parts(obj)
            if self.globals_too:
                yield from _methods(type(obj))


def _entries(obj: Any) -> int:
    """How many objects a container may hold; arrays may have no axis at all."""
    if isinstance(obj, np.ndarray):
        return obj.size
    size = getattr(type(obj), "__len__", None)
    return 0 if size is None else size(obj)


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


# what functions share -----------------------------------------------------------------
#
# Two functions of a network can share an object, such as an environment that one of
# them changes and the other looks at. Then the order of their calls matters, and they
# have to run step by step. Functions that reach no object in common may run ahead of
# each other.
#
# What is looked at is what a function can reach by itself: closure, defaults, the
# globals that its code names, the object it is bound to. Numbers, strings and tuples of
# them are no objects to share, nor are the modules ``math`` and ``numpy`` (apart from
# ``numpy.random``, which has a state). Where that does not settle it, the answer is
# that the function may reach anything.

#: modules without a state that functions could share
STATELESS_MODULES = frozenset({"math", "cmath", "operator", "numpy", "numpy.linalg"})

#: packages whose built-in functions keep to their arguments
STATELESS_ROOTS = frozenset({"builtins", "cmath", "math", "numpy", "operator"})

#: builtins that reach beyond the arguments they are given, and attributes that lead to
#: what objects have in common
REACHING = frozenset(
    "__class__ __dict__ __import__ breakpoint compile delattr eval exec globals input "
    "locals open print setattr type vars".split()
)

#: instructions that write to a variable outside of the function
WRITES = frozenset({"STORE_GLOBAL", "DELETE_GLOBAL", "DELETE_DEREF"})

CONSTANTS = (int, float, complex, str, bytes, type(None), range, np.generic, np.ufunc)

#: objects looked at before giving up
MOST_REACHED = 2000


class _Unknown(Exception):
    """A function may reach anything."""


def reachable(function: Any) -> frozenset | None:
    """What a function can share with others.

    Returns
    -------
    frozenset or None
        A token for each object that could be changed; None if it may be anything.

    Examples
    --------
    >>> log = []
    >>> reachable(lambda t: t**2)
    frozenset()
    >>> reachable(lambda t: log.append(t)) == {id(log)}
    True
    >>> reachable(print) is None
    True
    """
    tokens: set = set()
    try:
        _Search(tokens).look_at(function)
    except _Unknown:
        return None
    return frozenset(tokens)


class _Search:
    """Walks through what can be reached from a function."""

    def __init__(self, tokens: set):
        self.tokens = tokens
        self.seen: set = set()

    def look_at(self, obj: Any) -> None:
        """Add the tokens of an object and of what it holds."""
        if isinstance(obj, CONSTANTS) or id(obj) in self.seen:
            return
        self.seen.add(id(obj))
        if len(self.seen) > MOST_REACHED:
            raise _Unknown
        if isinstance(obj, types.FunctionType):
            self._function(obj)
        elif isinstance(obj, types.ModuleType):
            if obj.__name__ not in STATELESS_MODULES:
                raise _Unknown
        elif isinstance(obj, types.MethodType):
            self.look_at(obj.__func__)
            self.look_at(obj.__self__)
        elif isinstance(obj, functools.partial):
            for part in (obj.func, *obj.args, *obj.keywords.values()):
                self.look_at(part)
        elif isinstance(obj, types.BuiltinFunctionType):
            self._builtin(obj)
        elif isinstance(obj, tuple | frozenset):
            for part in obj:
                self.look_at(part)
        elif isinstance(obj, type):
            if obj.__module__ not in ("builtins", "numpy"):
                raise _Unknown
        else:
            self._changeable(obj)

    def _function(self, function) -> None:
        if vars(function):  # attributes, which may be set like those of other objects
            self.tokens.add(id(function))
            self.look_at(vars(function))
        for cell in function.__closure__ or ():
            try:
                self.look_at(cell.cell_contents)
            except ValueError:  # a cell that is not filled yet
                raise _Unknown from None
        for default in function.__defaults__ or ():
            self.look_at(default)
        for default in (function.__kwdefaults__ or {}).values():
            self.look_at(default)
        self._code(function.__code__, function.__globals__)

    def _code(self, code, namespace) -> None:
        """Globals by name; names of attributes are among them, and do no harm."""
        for instruction in dis.get_instructions(code):
            outer = instruction.argval in code.co_freevars
            if instruction.opname in WRITES or (
                instruction.opname == "STORE_DEREF" and outer
            ):
                raise _Unknown  # a variable that any function might read
            if instruction.opname == "IMPORT_NAME":
                if instruction.argval not in STATELESS_MODULES:
                    raise _Unknown
        for name in code.co_names:
            if name == "random":
                self.tokens.add("random numbers")
            if name in namespace:
                self.look_at(namespace[name])
            elif name in REACHING and hasattr(builtins, name):
                raise _Unknown
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                self._code(constant, namespace)

    def _builtin(self, function) -> None:
        if function.__name__ in REACHING:
            raise _Unknown
        owner = function.__self__
        if owner is not None and not isinstance(owner, types.ModuleType):
            self.look_at(owner)
        elif (function.__module__ or "").split(".")[0] not in (
            "builtins",
            "math",
            "numpy",
        ):
            raise _Unknown

    def _changeable(self, obj) -> None:
        """A list, an array, an object of a user's class: it counts, and its parts do."""
        self.tokens.add(id(obj))
        if isinstance(obj, np.ndarray):
            if obj.base is not None:
                self.look_at(obj.base)
            if obj.dtype == object:
                raise _Unknown
            return
        if isinstance(obj, dict):
            parts = [*obj.keys(), *obj.values()]
        elif isinstance(obj, list | set):
            parts = list(obj)
        else:
            if not hasattr(obj, "__dict__") or type(obj).__mro__[1:] != (object,):
                raise _Unknown
            parts = [*_class_parts(type(obj)), *vars(obj).values()]
        for part in parts:
            self.look_at(part)


def _class_parts(cls) -> list:
    """What all objects of a class have: methods, properties and other attributes."""
    parts = []
    for value in vars(cls).values():
        if isinstance(value, classmethod):
            raise _Unknown  # it may set attributes of the class
        if isinstance(value, staticmethod):
            value = value.__func__
        if isinstance(value, property):
            parts += [value.fget, value.fset, value.fdel]
        elif not isinstance(value, types.GetSetDescriptorType):
            parts.append(value)
    return parts


# callbacks ----------------------------------------------------------------------------


class Callback:
    """Base of everything that runs as Python beside the steps, or inside of them.

    Attributes
    ----------
    per_item : bool
        Each batch item has one of its own, with random numbers of its own. What
        ``advance`` returns has an axis for the item then.
    stateful : bool
        `snapshot` and `restore` are about something.
    goes_on : bool
        A step depends on those before, not on the time alone.
    writes_first : bool
        `reset` takes the values that signals start with as a second argument, and adds
        to them.
    draws : bool
        `draw` computes many steps at once, without running code of a user.
    may_run_at_once : bool
        `at_once` is worth a try: nothing but numbers that its function names decides what
        that returns.
    pays_at_once : bool
        Calls take longer than that does.
    of_tensors : bool
        The state is in variables of TensorFlow.
    states : sequence of dict
        For each batch item, the state in core Nengo: name -> array.
    random_variables : sequence of keras.Variable
        The state of the random numbers of functions of tensors.
    kind : type or None
        The class that has no native form, if messages should name it.
    """

    per_item = False
    stateful = False
    goes_on = True
    writes_first = False
    draws: Any = False
    may_run_at_once = False
    pays_at_once = False
    of_tensors = False
    states: Any = ()
    random_variables: Sequence = ()
    kind: type | None = None

    def reset(self, rngs: Sequence[np.random.RandomState]) -> None:
        """Start afresh, with a generator for each batch item."""

    def snapshot(self) -> Any:
        """The present state, for `restore`."""
        return None

    def restore(self, snapshot: Any, first_item: int = 0) -> None:
        """Go back to a snapshot: the batch items from ``first_item`` on."""

    def captured(self) -> list[CapturedState]:
        """What it keeps beside what `snapshot` is about."""
        return []

    def draw(self, times: Sequence[float]) -> np.ndarray:
        """The next steps, ``(len(times), batch, size)``; only if `draws`."""
        raise NotImplementedError(
            f"{type(self).__name__}.draw is missing: what draws must compute many steps"
        )

    def at_once(self, times: Sequence[float]) -> np.ndarray | None:
        """All of these steps, ``(len(times), size)``; None if it has to be called."""
        return None

    def reseed(self, seed: int, number: int) -> None:
        """Draw random numbers of a seed; ``number`` tells callbacks apart."""

    def random_numbers(self) -> Mapping:
        """The state of `random_variables`, for `go_on_with`."""
        return {}

    def go_on_with(self, numbers: Mapping) -> None:
        """Draw the random numbers that come after; see `random_numbers`."""

    def draw_as_layers_would(self) -> None:
        """Draw what Keras layers would draw next outside of the simulation."""
