"""The code of one elementwise instruction on one vector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

from nengo_dl.runtime.executor import Unsupported
from nengo_dl.runtime.native import functions
from nengo_dl.runtime.native.code import Code
from nengo_dl.runtime.native.recorder import Bounded
from nengo_dl.runtime.numpy.codegen import Instruction, View
from nengo_dl.runtime.numpy.namespace import Copy, Select, Ufunc


@dataclass(frozen=True)
class Operand:
    """One operand, in a register.

    Attributes
    ----------
    name : str
        The vector, or the mask of truth values.
    truth : bool
        Whether it is a mask.
    is_number : bool
        Whether it is known not to be NaN.
    """

    name: str
    truth: bool
    is_number: bool = False


def known(code: Code, view: View) -> Operand | None:
    """An operand that is one constant; None if it is not."""
    if view.value.kind != "constant" or prod(view.value.shape) != 1:
        return None
    assert view.array is not None
    number = view.array.reshape(-1)[0]
    if view.value.dtype == bool:
        return Operand(code.mask_const(bool(number)), True)
    return Operand(code.const(number), False, bool(number == number))


def compute(code: Code, ins: Instruction, args: Sequence[Operand]) -> str:
    """The vector or the mask that an instruction gives.

    Raises
    ------
    Unsupported
        If there is no code for it.
    """
    operation = ins.operation
    names = [x.name for x in args]
    if isinstance(operation, Copy):
        return _converted(code, args[0], ins.outputs[0].dtype == bool)
    if isinstance(operation, Select):
        condition, a, b = args
        choose = code.select_mask if a.truth and b.truth else code.select
        return choose(_truth(code, condition), a.name, b.name)
    assert isinstance(operation, Ufunc)  # there are no others
    function = operation.function
    name = function.__name__
    if isinstance(function, Bounded):
        return getattr(functions, name)(code, names[0], function.bound)
    if name in EXTREMES:
        if args[0].is_number:
            names.reverse()
        a, b = names
        return EXTREMES[name](code, a, b, any(x.is_number for x in args))
    if name not in UFUNCS:
        raise Unsupported(f"there is no machine code for numpy.{name}")
    return UFUNCS[name](code, *names)


def clamped(code: Code, x: str, low: float, high: float) -> str:
    """A vector between two bounds; NaN stays NaN."""
    above = functions.maximum(code, x, code.const(low), number=True)
    return functions.minimum(code, above, code.const(high), number=True)


def _truth(code: Code, x: Operand) -> str:
    return x.name if x.truth else code.cmp("une", x.name, code.const(0))


def _converted(code: Code, x: Operand, to_truth: bool) -> str:
    if x.truth and not to_truth:
        return code.select(x.name, code.const(1), code.const(0))
    return _truth(code, x) if to_truth else x.name


def _arithmetic(name: str) -> Callable[..., str]:
    return lambda code, a, b: code.op(name, a, b)


def _comparison(how: str) -> Callable[..., str]:
    return lambda code, a, b: code.cmp(how, a, b)


def _logical(name: str) -> Callable[..., str]:
    return lambda code, a, b: code.logic(name, a, b)


#: functions that are simpler if one operand is known not to be NaN
EXTREMES = {"maximum": functions.maximum, "minimum": functions.minimum}

#: what writes the code of each function of NumPy
UFUNCS: dict[str, Callable[..., str]] = {
    "add": _arithmetic("fadd"),
    "subtract": _arithmetic("fsub"),
    "multiply": _arithmetic("fmul"),
    "divide": _arithmetic("fdiv"),
    "greater": _comparison("ogt"),
    "greater_equal": _comparison("oge"),
    "less": _comparison("olt"),
    "less_equal": _comparison("ole"),
    "equal": _comparison("oeq"),
    "not_equal": _comparison("une"),
    "logical_and": _logical("and"),
    "logical_or": _logical("or"),
    "logical_xor": _logical("xor"),
    "logical_not": lambda code, x: code.invert(x),
    **functions.OF_ONE,
    "power": functions.power,
}
