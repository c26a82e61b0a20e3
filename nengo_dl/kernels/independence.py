"""Which Python functions may influence each other.

Two functions of a network can share an object, such as an environment that one of them
changes and the other looks at. Then the order of their calls matters, and they have to
run step by step. Functions that reach no object in common may run ahead of each other.

What is looked at is what a function can reach by itself: closure, defaults, the globals
that its code names, the object it is bound to. Numbers, strings and tuples of them are
no objects to share, nor are the modules ``math`` and ``numpy`` (apart from
``numpy.random``, which has a state). Where that does not settle it, the answer is that
the function may reach anything.
"""

from __future__ import annotations

import builtins
import dis
import functools
import types
from typing import Any

import numpy as np

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
MOST_OBJECTS = 2000


class _Unknown(Exception):
    """A function may reach anything."""


def reachable(function: Any) -> frozenset | None:
    """What a function can share with others.

    Parameters
    ----------
    function : callable

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
        if len(self.seen) > MOST_OBJECTS:
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
