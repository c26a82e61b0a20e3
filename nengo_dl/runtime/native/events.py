"""What seldom happens: who spikes, and what changes by spikes alone.

Most neurons do not fire in a step. A product with what they put out needs the columns of
those that do (`mostly_zero`). Weights that learn from spikes change where there was one,
on either side: such a loop leaves out the rest (`changes_of`).
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from nengo_dl.runtime.native.dots import Total
from nengo_dl.runtime.native.preparation import is_fixed
from nengo_dl.runtime.native.recorder import Unless
from nengo_dl.runtime.numpy.codegen import Instruction, Value, View
from nengo_dl.runtime.numpy.namespace import Concat, Copy, Select, Take, Ufunc

if TYPE_CHECKING:
    from nengo_dl.runtime.native.units import Plan, Unit

#: an operand of an instruction: which one
Place = tuple[Instruction, int]


def mostly_zero(plan: Plan, view: View) -> bool:
    """Whether an operand is the spikes of neurons: a fixed value or 0, or their number.

    Constants beside spikes do not count. It need not be certain: products are right for
    any operand.

    Parameters
    ----------
    plan : Plan
        Of the step in which it is computed.
    view : View
        The operand.
    """
    return _mostly_zero(plan, view.value, _stretch(view), set())


#: some rows of a value: the first one, and the one behind the last
Rows = tuple[int, int]


def _stretch(view: View) -> Rows | None:
    """The rows of its value that a view has; None if it has something else of it."""
    shape = view.value.shape
    row = prod(shape[1:]) * view.value.dtype.itemsize
    if not view.contiguous or not row or view.offset % row or view.nbytes % row:
        return None
    first = view.offset // row
    return first, first + view.nbytes // row


def _mostly_zero(plan: Plan, value: Value, rows: Rows | None, seen: set[Value]) -> bool:
    if value in seen:
        return False
    seen.add(value)

    def again(view: View) -> bool:
        """Whether these rows of an operand are."""
        mine = _stretch(view)
        if mine is not None and rows is not None and view.shape[:1] == value.shape[:1]:
            mine = mine[0] + rows[0], mine[0] + rows[1]
        return _mostly_zero(plan, view.value, mine, seen)

    made = plan.makers.get(value)
    if value in plan.parts or (made is not None and isinstance(made.operation, Concat)):
        rest = [
            part for part in _parts(plan, value, rows) if not _is_constant(plan, part)
        ]
        return bool(rest) and all(
            _mostly_zero(plan, part, (0, part.shape[0]), seen) for part in rest
        )
    if value in plan.program.carry:
        return again(plan.program.next_carry[plan.program.carry.index(value)])
    if made is None:
        return False
    operation, operands = made.operation, made.operands
    if isinstance(operation, Select):
        chosen = operands[1:]
        return any(map(_is_zero, chosen)) and all(map(is_fixed, chosen))
    if isinstance(operation, (Copy, Take)):
        return again(operands[0])
    if isinstance(operation, Ufunc) and operation.function is np.floor:
        return True  # numbers of spikes, by what they are
    if isinstance(operation, Ufunc) and operation.function is np.multiply:
        varying = [x for x in operands if not is_fixed(x)]
        each = [x for x in varying if prod(x.shape) == prod(value.shape)]
        return len(each) == 1 and again(each[0])
    if isinstance(operation, Ufunc) and operation.function is np.add:
        rest = [x for x in operands if not _adds_nothing(x, value, rows)]
        return len(rest) == 1 and again(rest[0])
    return False


def _parts(plan: Plan, value: Value, rows: Rows | None) -> Iterator[Value]:
    """The parts of a concatenation that have some of its rows."""
    parts = plan.parts.get(value)
    if parts is None:
        parts = [view.value for view in plan.makers[value].operands]
    start = 0
    for part in parts:
        stop = start + (part.shape[0] if part.shape else 1)
        if rows is None or (start < rows[1] and rows[0] < stop):
            yield part
        start = stop


def _adds_nothing(view: View, result: Value, rows: Rows | None) -> bool:
    """Whether an operand of a sum is 0 in some rows, unless weights are changed."""
    if not is_fixed(view) or view.array is None:
        return False
    array = view.array
    if rows is not None and view.shape[:1] == result.shape[:1]:
        array = array[slice(*rows)]
    return not np.any(array)


def _is_constant(plan: Plan, value: Value) -> bool:
    """Whether a part of a concatenation is a copy of a constant."""
    made = plan.makers.get(value)
    return (
        made is not None
        and isinstance(made.operation, Copy)
        and is_fixed(made.operands[0])
    )


def _is_zero(view: View) -> bool:
    """Whether an operand is 0 for ever."""
    return view.value.kind == "constant" and not np.any(view.array)


def changes_of(plan: Plan, value: Value) -> tuple[Value, list[Place]] | None:
    """A carry to which only something is added that is 0 unless a condition holds.

    Parameters
    ----------
    plan : Plan
    value : Value

    Returns
    -------
    (Value, list) or None
        The carry; and the conditions, as operands of instructions. None if the value is
        something else.
    """
    carries: list[Value] = []
    found: list[Place] = []
    if not _terms(plan, value, carries, found) or len(carries) != 1 or not found:
        return None
    return carries[0], found


def _terms(plan: Plan, value: Value, carries: list[Value], found: list[Place]) -> bool:
    """Collect the terms of a sum; whether there are none but carries and changes."""
    made = plan.makers.get(value)
    if made is None or not _is_sum(made):
        return False
    for view in made.operands:
        condition = _condition(plan, view)
        if not view.whole:
            return False
        if condition is not None:
            found.append(condition)
        elif view.value.kind == "carry":
            carries.append(view.value)
        elif not _terms(plan, view.value, carries, found):
            return False
    return True


def _is_sum(ins: Instruction) -> bool:
    return isinstance(ins.operation, Ufunc) and ins.operation.function is np.add


def _condition(plan: Plan, view: View) -> Place | None:
    """Where the condition stands without which an operand is 0."""
    made = plan.makers.get(view.value)
    if made is None or not isinstance(made.operation, Unless) or not view.whole:
        return None
    return made, 0


def causes(
    plan: Plan, place: Place, inside: frozenset[Value] | set[Value]
) -> Iterator[Place]:
    """The conditions of which one must hold, taken from outside of a loop.

    Parameters
    ----------
    plan : Plan
    place : Place
        Of the condition as a whole.
    inside : set of Value
        What the loop computes.
    """
    ins, k = place
    value = ins.operands[k].value
    made = plan.makers.get(value)
    operation = None if made is None else made.operation
    either = isinstance(operation, Ufunc) and operation.function is np.logical_or
    if made is not None and either and value in inside:
        yield from causes(plan, (made, 0), inside)
        yield from causes(plan, (made, 1), inside)
    else:
        yield place


def is_seldom(plan: Plan, ins: Instruction) -> bool:
    """Whether an instruction begins what is 0 in most steps, by a single condition.

    What it chooses is there before the step, so that it need not be computed either.
    """
    if not isinstance(ins.operation, Unless):
        return False
    condition, chosen, _ = ins.operands
    return prod(condition.shape) == 1 and chosen.value not in plan.makers


def left_out(unit: Unit) -> View | None:
    """The condition without which all sums of a unit are 0; None if there is none."""
    first, *others = unit.instructions
    known = (np.absolute,)
    if not unit.closed or not isinstance(first.operation, Unless):
        return None
    for ins in others:
        elementwise = isinstance(ins.operation, Ufunc) and ins.operation.function in known
        if not elementwise and not isinstance(ins.operation, Total):
            return None
    return first.operands[0]
