"""Functions of time for many steps at once, with the very numbers of single calls.

A node's ``lambda t: np.sin(8 * t)`` takes longer to be called than a small network takes
for a step. Here such a function is run once, with an array of times in the place of the
time. That is done where it can be seen that nothing else comes out, to the last bit:

- The function is made of arithmetic, comparisons, branches, and functions of ``math`` and
  ``numpy`` that are known here, with numbers and vectors of them. Whatever else its
  code contains (loops, ``try``, calls of other functions, subscripts) excludes it. So it
  has no state and no effects. It may be a method: then it may read attributes.
- In the place of ``math``, ``numpy``, a few builtins, vectors and its object it is given
  stand-ins, which know arrays of times. What they do not know they refuse.
- Additions, multiplications and the like are rounded alike in arrays and numbers. Powers,
  remainders and functions of ``math`` are computed number by number, as Python does it;
  functions of NumPy only if they treat arrays as numbers.
- Where a branch is taken in some steps but not in others, the steps are cut there, and
  each part is run by itself.
- Division by zero, overflow and invalid operations are refused: Python and NumPy differ.
- In each call three steps are compared with what the function itself returns.

Whatever is refused is called step by step, as ever.
"""

from __future__ import annotations

import dis
import math
import operator
import types
from collections.abc import Callable, Sequence
from functools import cache, lru_cache, partial
from typing import Any

import numpy as np

#: steps for which it pays
LEAST_STEPS = 32

#: parts of a chunk of steps, cut where a branch changes
MOST_PARTS = 16

#: integers up to here are numbers of double precision
EXACT = 2**53

#: numbers of all steps beyond which single calls take no longer
MOST_NUMBERS = 2**20

#: what code may consist of
INSTRUCTIONS = frozenset(
    """
    BINARY_ADD BINARY_MODULO BINARY_MULTIPLY BINARY_OP BINARY_POWER BINARY_SUBTRACT
    BINARY_TRUE_DIVIDE BUILD_LIST BUILD_TUPLE CACHE CALL CALL_FUNCTION CALL_METHOD
    COMPARE_OP COPY COPY_FREE_VARS DUP_TOP INPLACE_ADD INPLACE_MODULO INPLACE_MULTIPLY
    INPLACE_POWER INPLACE_SUBTRACT INPLACE_TRUE_DIVIDE JUMP_FORWARD JUMP_IF_FALSE_OR_POP
    JUMP_IF_TRUE_OR_POP LOAD_ATTR LOAD_CONST LOAD_DEREF LOAD_FAST LOAD_FAST_BORROW
    LOAD_FAST_BORROW_LOAD_FAST_BORROW LOAD_FAST_CHECK LOAD_FAST_LOAD_FAST LOAD_GLOBAL
    LOAD_METHOD LOAD_SMALL_INT NOP NOT_TAKEN POP_JUMP_FORWARD_IF_FALSE
    POP_JUMP_FORWARD_IF_TRUE POP_JUMP_IF_FALSE POP_JUMP_IF_TRUE POP_TOP PRECALL PUSH_NULL
    RESUME RETURN_CONST RETURN_VALUE ROT_THREE ROT_TWO STORE_FAST STORE_FAST_LOAD_FAST
    STORE_FAST_STORE_FAST SWAP TO_BOOL UNARY_NEGATIVE UNARY_NOT
    """.split()
)

#: functions of NumPy that are rounded correctly, so that arrays cannot differ
ROUNDED = (np.sqrt, np.absolute, np.fabs, np.floor, np.ceil)

#: and those that have to be compared on this machine, see `alike`
COMPARED = (np.sin, np.cos, np.tan, np.exp, np.tanh)

#: functions of the module ``math``, which are called number by number
OF_NUMBERS = (math.sin, math.cos, math.tan, math.exp, math.tanh, math.sqrt, math.fabs)


#: names of what takes longer to call than arrays of times cost
SLOW = frozenset(f.__name__ for f in (*ROUNDED, *COMPARED, np.array))


class Refused(Exception):
    """Many steps at once might not give what single ones do."""


class _Mixed(Exception):
    """A condition holds in some steps only; ``first`` is the first that differs."""

    def __init__(self, first: int) -> None:
        self.first = first


@cache
def alike(function: np.ufunc) -> bool:
    """Whether a function gives many numbers at once what it gives them one by one.

    To the last bit, that is: some processors have instructions for several numbers, and
    NumPy has other code for them.
    """
    times = np.concatenate([np.arange(-100, 400) * 0.01234, np.arange(1, 20) * 12.34])
    single = np.array([function(t) for t in times.tolist()])
    vectors = [function(times[90 : 90 + n]) for n in range(1, 40)]
    return np.array_equal(function(times), single) and all(
        np.array_equal(vector, single[90 : 90 + len(vector)]) for vector in vectors
    )


class _Values:
    """A number in each of many steps, or a vector of numbers.

    Parameters
    ----------
    x : ndarray
        In double precision, ``(steps,)``; of vectors ``(steps, n)``, or ``(1, n)`` if it
        is always the same.
    plain : bool
        Whether they are numbers of Python, not of NumPy.
    """

    __slots__ = ("plain", "x")

    def __init__(self, x: np.ndarray, plain: bool) -> None:
        self.x, self.plain = x, plain

    def _with(self, other: Any, function: Callable, swapped: bool = False) -> _Values:
        y, plain = _number(other)
        x, y = _beside(self.x, y)
        a, b = (y, x) if swapped else (x, y)
        return _Values(function(a, b), self.plain and plain)

    def _compared(self, other: Any, function: Callable) -> _Truth:
        y, plain = _number(other)
        _refuse_vectors(self.x, y)
        return _Truth(function(self.x, y), self.plain and plain)

    def _one_by_one(
        self, other: Any, function: Callable, swapped: bool = False
    ) -> _Values:
        """Compute as numbers of Python, or of NumPy, do it themselves."""
        y, plain = _number(other)
        _refuse_vectors(self.x, y)
        plain = plain and self.plain
        ys = np.broadcast_to(y, self.x.shape)
        pairs = zip(*((a.tolist() if plain else list(a)) for a in (self.x, ys)))
        found = [function(b, a) if swapped else function(a, b) for a, b in pairs]
        if any(isinstance(value, complex) for value in found):
            raise Refused
        return _Values(np.array(found, np.float64), plain)

    def __add__(self, other: Any) -> _Values:
        return self._with(other, np.add)

    __radd__ = __add__

    def __sub__(self, other: Any) -> _Values:
        return self._with(other, np.subtract)

    def __rsub__(self, other: Any) -> _Values:
        return self._with(other, np.subtract, True)

    def __mul__(self, other: Any) -> _Values:
        return self._with(other, np.multiply)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> _Values:
        return self._with(other, np.divide)

    def __rtruediv__(self, other: Any) -> _Values:
        return self._with(other, np.divide, True)

    def __pow__(self, other: Any) -> _Values:
        if self.x.ndim == 2 and type(other) is int and other == 2:
            return _Values(np.square(self.x), False)  # that is what NumPy does
        return self._one_by_one(other, operator.pow)

    def __rpow__(self, other: Any) -> _Values:
        return self._one_by_one(other, operator.pow, True)

    def __mod__(self, other: Any) -> _Values:
        return self._one_by_one(other, operator.mod)

    def __rmod__(self, other: Any) -> _Values:
        return self._one_by_one(other, operator.mod, True)

    def __neg__(self) -> _Values:
        return _Values(-self.x, self.plain)

    def __abs__(self) -> _Values:
        return _Values(np.abs(self.x), self.plain)

    def __lt__(self, other: Any) -> _Truth:
        return self._compared(other, np.less)

    def __le__(self, other: Any) -> _Truth:
        return self._compared(other, np.less_equal)

    def __gt__(self, other: Any) -> _Truth:
        return self._compared(other, np.greater)

    def __ge__(self, other: Any) -> _Truth:
        return self._compared(other, np.greater_equal)

    def __eq__(self, other: Any) -> Any:
        return self._compared(other, np.equal)

    def __ne__(self, other: Any) -> Any:
        return self._compared(other, np.not_equal)

    __hash__: Any = None

    def __bool__(self) -> bool:
        _refuse_vectors(self.x)
        return bool(_Truth(self.x != 0, self.plain))


class _Constant(_Values):
    """A vector that a function names; what would change it in its place is refused."""

    __slots__ = ()

    def __init__(self, vector: np.ndarray) -> None:
        super().__init__(np.array(vector)[None], False)

    def _changed(self, other: Any) -> Any:
        raise Refused

    __iadd__ = __isub__ = __imul__ = __itruediv__ = __ipow__ = __imod__ = _changed


class _Truth:
    """A condition in each of many steps; arguments as those of `_Values`."""

    __slots__ = ("plain", "x")

    def __init__(self, x: np.ndarray, plain: bool) -> None:
        self.x, self.plain = x, plain

    def __mul__(self, other: Any) -> _Values:
        if type(other) is int:  # the product is one, too
            raise Refused
        return _Values(self.x.astype(np.float64), self.plain) * other

    __rmul__ = __mul__

    def __bool__(self) -> bool:
        first = bool(self.x[0])
        others = np.flatnonzero(self.x != first)
        if len(others):
            raise _Mixed(int(others[0]))
        return first


class _Row:
    """What ``numpy.array`` made of some numbers: it can be returned."""

    __slots__ = ("parts",)

    def __init__(self, parts: Any) -> None:
        if type(parts) not in (list, tuple):
            raise Refused
        self.parts = parts


def _beside(x: Any, y: Any) -> tuple[Any, Any]:
    """Numbers and vectors of all steps, so that they are combined step by step."""
    if np.ndim(x) == np.ndim(y) == 2 and x.shape[1] != y.shape[1]:
        raise Refused
    if np.ndim(x) == 1 and np.ndim(y) == 2:
        return x[:, None], y
    if np.ndim(x) == 2 and np.ndim(y) == 1:
        return x, y[:, None]
    return x, y


def _refuse_vectors(*arrays: Any) -> None:
    """Let only numbers pass."""
    if any(np.ndim(x) == 2 for x in arrays):
        raise Refused


def _number(value: Any) -> tuple[Any, bool]:
    """What arrays are computed with, and whether it is of Python."""
    if isinstance(value, _Values):
        return value.x, value.plain
    if type(value) is int and abs(value) <= EXACT:
        return float(value), True
    if type(value) is float:
        return value, True
    if type(value) is np.float64:
        return float(value), False
    raise Refused


class _Module:
    """Stands in for a module: it has what is known of it."""

    def __init__(self, module: types.ModuleType) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return _stand_in(getattr(self._module, name))


class _Object:
    """Stands in for the object of a method: it has what is known of its attributes."""

    def __init__(self, obj: Any) -> None:
        self._obj = obj

    def __getattr__(self, name: str) -> Any:
        places = [vars(c) for c in type(self._obj).__mro__]
        found = [place[name] for place in places if name in place]
        if name in vars(self._obj) and not found:
            return _stand_in(vars(self._obj)[name])
        raise Refused  # a method, a property, or a default of the class


def _stand_in(value: Any) -> Any:
    """What a function is given in the place of what it names."""
    if type(value) in (int, float, np.float64):
        return value
    if type(value) is np.ndarray:
        if value.ndim != 1 or value.dtype != np.float64 or not value.size:
            raise Refused
        return _Constant(value)
    if isinstance(value, types.ModuleType):
        if value is not np and value is not math:
            raise Refused
        return _Module(value)
    if isinstance(value, np.ufunc):
        known = value in ROUNDED or (value in COMPARED and alike(value))
        if not known:
            raise Refused
        return lambda *args: _of_numpy(value, args)
    if value is np.array:
        return _Row
    if any(value is function for function in OF_NUMBERS):
        return lambda x: _of_math(value, x)
    raise Refused


def _of_numpy(function: np.ufunc, args: Sequence) -> Any:
    numbers = [_number(a)[0] for a in args]
    if len(args) != function.nin:
        raise Refused
    if not any(isinstance(a, _Values) for a in args):
        return function(*args)
    return _Values(function(*numbers), False)


def _of_math(function: Callable, x: Any) -> Any:
    values, _ = _number(x)
    _refuse_vectors(values)
    if not isinstance(x, _Values):
        return function(values)
    return _Values(np.array([function(v) for v in values.tolist()]), True)


def _float(x: Any) -> Any:
    if isinstance(x, (_Values, _Truth)):
        _refuse_vectors(x.x)
        return _Values(x.x.astype(np.float64), True)
    _number(x)
    return float(x)


#: builtins that are known; the others are not there
BUILTINS = {"abs": abs, "float": _float, "max": max, "min": min}


@lru_cache(maxsize=256)
def _is_simple(code: types.CodeType) -> bool:
    """Whether code takes numbers, and does nothing but compute with them."""
    if code.co_kwonlyargcount or code.co_cellvars:
        return False
    if code.co_flags & (0x04 | 0x08 | 0x20 | 0x80 | 0x200):  # *args, generators, ...
        return False
    if getattr(code, "co_exceptiontable", b""):
        return False
    found = {instruction.opname for instruction in dis.get_instructions(code)}
    return found <= INSTRUCTIONS


@lru_cache(maxsize=256)
def _globals_of(code: types.CodeType) -> frozenset[str]:
    """The names of globals and builtins in code."""
    found = dis.get_instructions(code)
    return frozenset(i.argval for i in found if i.opname == "LOAD_GLOBAL")


def _called(function: Any) -> tuple[types.FunctionType, Any] | None:
    """What a call of something runs, and the object that it is given before the time.

    None where that is not clear: if it is not written in Python, or if the object finds
    its attributes in a way of its own.
    """
    if type(function) is types.FunctionType:
        return None if vars(function) else (function, None)
    if type(function) is types.MethodType:
        code, obj = function.__func__, function.__self__
    else:
        places = (vars(c) for c in type(function).__mro__)
        calls = (place["__call__"] for place in places if "__call__" in place)
        code, obj = next(calls, None), function
    own = (
        isinstance(obj, type)
        or not hasattr(obj, "__dict__")
        or type(obj).__getattribute__ is not object.__getattribute__
        or hasattr(type(obj), "__getattr__")
    )
    return None if own or type(code) is not types.FunctionType else (code, obj)


def may_be(function: Any) -> bool:
    """Whether a function may be one that runs at once; what it names is looked at later.

    Parameters
    ----------
    function : callable
        Of the time; perhaps a method, or an object.
    """
    called = _called(function)
    if called is None:
        return False
    plain, obj = called
    code, arguments = plain.__code__, 1 if obj is None else 2
    expected = arguments + len(plain.__defaults__ or ())
    return code.co_argcount == expected and _is_simple(code)


def pays(function: Any) -> bool:
    """Whether calls of a function take long: those of NumPy's functions do.

    Parameters
    ----------
    function : callable
        For which `may_be` is true.
    """
    called = _called(function)
    return called is not None and not SLOW.isdisjoint(called[0].__code__.co_names)


def _prepared(function: Any) -> Callable:
    """The function, with stand-ins for what it names.

    That is looked up anew each time, since it may have changed.
    """
    called = _called(function)
    if called is None:
        raise Refused
    plain, obj = called
    code, found = plain.__code__, {}
    for name in _globals_of(code):
        if name in plain.__globals__:
            found[name] = _stand_in(plain.__globals__[name])
        elif name not in BUILTINS:
            raise Refused
    found["__builtins__"] = BUILTINS
    cells = (cell.cell_contents for cell in plain.__closure__ or ())
    closure = tuple(types.CellType(_stand_in(value)) for value in cells)
    defaults = tuple(map(_stand_in, plain.__defaults__ or ()))
    made = types.FunctionType(code, found, code.co_name, defaults, closure or None)
    return made if obj is None else partial(made, _Object(obj))


def at_once(function: Any, times: Sequence[float], size: int) -> np.ndarray | None:
    """What a function returns in many steps; None where it has to be called in each.

    Parameters
    ----------
    function : callable
        For which `may_be` is true.
    times : sequence of float
        Of the steps.
    size : int
        How many numbers it should return.

    Returns
    -------
    ndarray or None
        ``(steps, size)`` in double precision.

    Examples
    --------
    >>> at_once(lambda t: 1 if t < 0.1 else t**2, [0.05, 0.1, 3.0], 1)
    array([[1.  ],
           [0.01],
           [9.  ]])
    >>> at_once(lambda t: str(t), [0.05, 0.1], 1)
    """
    if np.geterr()["under"] != "ignore" or len(times) * size > MOST_NUMBERS:
        return None
    try:
        with np.errstate(all="raise", under="ignore"):
            out = _in_parts(_prepared(function), np.asarray(times, np.float64), size)
            for k in {0, len(times) // 2, len(times) - 1}:
                if not _equals(function(times[k]), out[k]):
                    return None
    except Exception:  # of any kind: it comes again when the function is called
        return None
    return out


def _in_parts(function: Callable, times: np.ndarray, size: int) -> np.ndarray:
    """What it returns, part by part."""
    out = np.empty((len(times), size))
    start, stop, cuts = 0, len(times), 0
    while start < len(times):
        try:
            value = function(_Values(times[start:stop], True))
        except _Mixed as mixed:
            cuts += 1
            if cuts > MOST_PARTS:
                raise Refused from None
            stop = start + mixed.first
            continue
        _fill(out[start:stop], value)
        start, stop = stop, len(times)
    return out


def _fill(out: np.ndarray, value: Any) -> None:
    """Write what was returned, ``(steps, size)``."""
    if type(value) is _Row:
        value = value.parts
    if isinstance(value, _Values) and value.x.ndim == 2:
        if value.x.shape[1] != out.shape[1]:
            raise Refused
        out[...] = value.x
        return
    parts: Any = value if type(value) in (list, tuple) else [value]
    if len(parts) != out.shape[1]:
        raise Refused
    for column, part in enumerate(parts):
        if type(part) is _Truth:
            out[:, column] = part.x
        else:
            numbers = _number(part)[0]
            _refuse_vectors(numbers)
            out[:, column] = numbers


def _equals(value: Any, row: np.ndarray) -> bool:
    """Whether a single call has returned a row, to the bit."""
    single = np.empty(row.shape)
    single[...] = value
    return single.tobytes() == row.tobytes()
