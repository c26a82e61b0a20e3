"""Matrices that lie column by column, because most of what happens happens to columns.

Weights that learn from spikes change where there was one. A spike before the connection
is about a column, twice: it is added to what the neurons behind it are given, and its
weights change. A spike behind the connection is about a row, once. So columns should lie
together: where neurons fire at equal rates, most of the numbers that are touched then
lie side by side, whatever the shape of the matrix.

Only the state of machine code lies like that. What is read from it and written to it
from outside is in order, row by row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from nengo_dl.runtime.native import costs
from nengo_dl.runtime.native.axes import (
    Axes,
    broadcast_strides,
    in_order,
    joined,
    refined,
    split,
)
from nengo_dl.runtime.native.events import Place, changes_of, mostly_zero
from nengo_dl.runtime.native.preparation import ELEMENTWISE, copy_of
from nengo_dl.runtime.numpy.codegen import Instruction, Value, View
from nengo_dl.runtime.numpy.namespace import Concat, Matmul

if TYPE_CHECKING:
    from nengo_dl.runtime.native.units import Plan


def changing(plan: Plan) -> dict[int, Axes]:
    """The carries that are matrices, and only change where there is a cause.

    Parameters
    ----------
    plan : Plan
        Which knows its program, and what computes each value.

    Returns
    -------
    dict
        The number of a carry -> how many matrices lie in it, one after the other, and
        their rows and columns.
    """
    found = {}
    for k, following in enumerate(plan.program.next_carry):
        change = changes_of(plan, following.value) if following.whole else None
        if change is None or change[0] is not plan.program.carry[k]:
            continue
        shapes = {ins.outputs[0].shape for ins, _ in change[1]}
        *lead, m, n, items = (1, 1, *shapes.pop())
        if not shapes and items == 1 and min(m, n) > 1:
            found[k] = (prod(lead), m, n)
    return found


def choose(plan: Plan, matrices: Mapping[int, Axes]) -> frozenset[int]:
    """Which of the carries that `changing` gives had better lie column by column.

    A cause may be one of a column, something multiplies them with spikes, and everything
    else works element by element.
    """
    chosen = (k for k, axes in matrices.items() if _had_better(plan, k, axes))
    return frozenset(chosen)


def _had_better(plan: Plan, number: int, axes: Axes) -> bool:
    """What `choose` decides about a carry."""
    following = plan.program.next_carry[number].value
    values = {plan.program.carry[number], following}
    if sum(view.value in values for view in plan.program.next_carry) > 1:
        return False
    if axes[1] < costs.SPIKED_VECTORS * plan.width:
        return False
    readers = list(_readers(plan, values))
    able = all(goes_along(ins, k, view, axes) for ins, k, view in readers)
    if not able or not _keeps(plan.makers[following], axes):
        return False
    change = changes_of(plan, following)
    assert change is not None  # that is why it is asked about
    pays = any(_by_columns(place, axes) for place in change[1])
    return pays and any(_multiplies(plan, ins, k) for ins, k, _ in readers)


def _readers(plan: Plan, values: set[Value]) -> Iterator[tuple[Instruction, int, View]]:
    """The instructions that read one of some values, and where."""
    for ins in plan.program.instructions:
        for k, view in enumerate(ins.operands):
            if view.value in values:
                yield ins, k, view


def _multiplies(plan: Plan, ins: Instruction, k: int) -> bool:
    """Whether an operand, which `goes_along`, is multiplied with spikes."""
    return isinstance(ins.operation, Matmul) and mostly_zero(plan, ins.operands[1])


def goes_along(ins: Instruction, k: int, view: View, axes: Axes) -> bool:
    """Whether an instruction can read matrices that lie column by column.

    Parameters
    ----------
    ins : Instruction
    k : int
        The number of the operand.
    view : View
        The operand.
    axes : tuple of int
        How many matrices there are, and their rows and columns.
    """
    if not view.whole:
        return False
    if isinstance(ins.operation, Matmul):
        one = k == 0 and ins.operands[1].shape[-1] == 1
        return one and view.shape[-2:] == axes[1:]
    if isinstance(ins.operation, Concat):  # it is copied, element by element
        return True
    return isinstance(ins.operation, ELEMENTWISE) and _keeps(ins, axes)


def by_rows_and_columns(axes: Axes, matrix: Axes) -> Axes | None:
    """Axes of a loop, so refined that the last two are rows and columns.

    None if they do not go together.

    Parameters
    ----------
    axes : tuple of int
    matrix : tuple of int
        How many matrices there are, and their rows and columns.
    """
    finer = refined(axes, matrix)
    return finer if finer is not None and finer[-2:] == matrix[1:] else None


def _keeps(ins: Instruction, axes: Axes) -> bool:
    """Whether a loop over what an instruction gives can be one over rows and columns."""
    shape = ins.outputs[0].shape
    table = [broadcast_strides(view, shape) for view in ins.operands]
    own, _ = joined(shape, [*table, in_order(shape)])
    return by_rows_and_columns(own, axes) is not None


def _by_columns(place: Place, axes: Axes) -> bool:
    """Whether a condition may hold in one column and not in another one."""
    ins, k = place
    shape = ins.outputs[0].shape
    own, (strides,) = joined(shape, [broadcast_strides(ins.operands[k], shape)])
    common = by_rows_and_columns(own, axes)
    return common is not None and split(own, strides, common)[-1] != 0


def straighten(plan: Plan, values: Mapping[Value, Axes]) -> None:
    """Copies, in order, for all that cannot read matrices that lie column by column."""
    instructions: list[Instruction] = []
    for ins in plan.program.instructions:
        for k, view in enumerate(ins.operands):
            axes = values.get(view.value)
            if axes is None or goes_along(ins, k, view, axes):
                continue
            copy = copy_of(View.all_of(view.value))
            plan.makers[copy.outputs[0]] = copy
            instructions.append(copy)
            ins.operands[k] = replace(view, value=copy.outputs[0], array=None)
        instructions.append(ins)
    plan.program.instructions = instructions


def turned(blocks: np.ndarray, axes: Axes) -> np.ndarray:
    """Matrices that lie row by row, column by column; a copy.

    Parameters
    ----------
    blocks : ndarray ``(..., matrices * m * n, 1)``
    axes : tuple of int
        ``(matrices, m, n)``. With ``(matrices, n, m)`` it is the way back.

    Examples
    --------
    >>> turned(np.arange(6)[:, None], (1, 2, 3)).ravel()
    array([0, 3, 1, 4, 2, 5])
    """
    matrices = blocks.reshape((*blocks.shape[:-2], *axes))
    return np.ascontiguousarray(np.swapaxes(matrices, -1, -2)).reshape(blocks.shape)
