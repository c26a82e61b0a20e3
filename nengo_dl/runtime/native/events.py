"""What seldom happens: who spikes, and what changes by spikes alone.

Most neurons do not fire in a step. A product with what they put out needs the columns of
those that do (`mostly_zero`). Weights that learn from spikes change where there was one,
on either side: such a loop leaves out the rest (`changes_of`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from nengo_dl.runtime.native.preparation import is_fixed
from nengo_dl.runtime.native.recorder import Unless
from nengo_dl.runtime.numpy.codegen import Instruction, Value, View
from nengo_dl.runtime.numpy.namespace import Copy, Select, Take, Ufunc

if TYPE_CHECKING:
    from nengo_dl.runtime.native.units import Plan

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
    return _mostly_zero(plan, view, set())


def _mostly_zero(plan: Plan, view: View, seen: set[Value]) -> bool:
    value = view.value
    if value in seen:
        return False
    seen.add(value)
    if value in plan.parts:
        rest = [part for part in plan.parts[value] if not _is_constant(plan, part)]
        return bool(rest) and all(
            _mostly_zero(plan, View.all_of(part), seen) for part in rest
        )
    if value in plan.program.carry:
        following = plan.program.next_carry[plan.program.carry.index(value)]
        return _mostly_zero(plan, following, seen)
    made = plan.makers.get(value)
    if made is None:
        return False
    operation, operands = made.operation, made.operands
    if isinstance(operation, Select):
        chosen = operands[1:]
        return any(map(_is_zero, chosen)) and all(map(is_fixed, chosen))
    if isinstance(operation, (Copy, Take)):
        return _mostly_zero(plan, operands[0], seen)
    if isinstance(operation, Ufunc) and operation.function is np.floor:
        return True  # numbers of spikes, by what they are
    if isinstance(operation, Ufunc) and operation.function is np.multiply:
        varying = [x for x in operands if not is_fixed(x)]
        return len(varying) == 1 and _mostly_zero(plan, varying[0], seen)
    return False


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
    made, found = plan.makers.get(value), []
    while made is not None and _is_sum(made):
        for k in (0, 1):
            condition = _condition(plan, made.operands[k])
            if condition is not None:
                break
        else:
            return None
        found.append(condition)
        rest = made.operands[1 - k]
        if not rest.whole:
            return None
        if rest.value.kind == "carry":
            return rest.value, found
        made = plan.makers.get(rest.value)
    return None


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
    either = made is not None and isinstance(made.operation, Ufunc)
    if value in inside and either and made.operation.function is np.logical_or:
        yield from causes(plan, (made, 0), inside)
        yield from causes(plan, (made, 1), inside)
    else:
        yield place
