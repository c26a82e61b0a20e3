"""Matrices that lie column by column, because most of what happens happens to columns.

Weights that learn from spikes change where there was one. A spike before the connection
is about a column, twice: it is added to what the neurons behind it are given, and its
weights change. A spike behind the connection is about a row, once. So columns should lie
together: where neurons fire at equal rates, most of the numbers that are touched then
lie side by side, whatever the shape of the matrix.

Items of a batch that learn together change most of a matrix in each step, but each has
few spikes: what it is given is the sum of a few columns, and what the items ask for are
products with spikes, which are computed column by column, too.

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
from nengo_dl.runtime.native.events import Place, changes_of, is_seldom, mostly_zero
from nengo_dl.runtime.native.preparation import ELEMENTWISE, copy_of, is_fixed
from nengo_dl.runtime.numpy.codegen import Instruction, Value, View
from nengo_dl.runtime.numpy.namespace import Concat, Copy, Matmul, Sum

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


def shared(plan: Plan) -> dict[int, Axes]:
    """The carries that are one matrix, which a batch changes and multiplies with spikes.

    Parameters
    ----------
    plan : Plan

    Returns
    -------
    dict
        As of `changing`.
    """
    found = {}
    for k, following in enumerate(plan.program.next_carry):
        carry, value = plan.program.carry[k], following.value
        alone = carry.shape[-1:] == (1,) and value in plan.makers and following.whole
        if not alone:
            continue
        readers = _readers(plan, {carry, value})
        products = [(ins, view) for ins, i, view in readers if _multiplies(plan, ins, i)]
        shapes = {view.shape for _, view in products}
        if len(shapes) != 1 or any(ins.operands[1].shape[-1] == 1 for ins, _ in products):
            continue
        *lead, m, n = shapes.pop()
        if prod(lead) == 1 and m * n == prod(carry.shape) and min(m, n) > 1:
            found[k] = (1, m, n)
    return found


def choose(plan: Plan, matrices: Mapping[int, Axes]) -> frozenset[int]:
    """Which of the carries of `changing` and `shared` had better lie column by column.

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
    readers = list(_readers(plan, values))
    able = all(goes_along(ins, k, view, axes) for ins, k, view in readers)
    if not able or not _keeps(plan.makers[following], axes):
        return False
    change = changes_of(plan, following)
    if change is None:  # most of it changes, see `shared`
        pays = costs.by_items(axes[1], axes[2], plan.width)
        return pays and not _adds_up(plan, axes) and _by_products(plan, number, axes)
    pays = any(_by_columns(place, axes) for place in change[1])
    pays &= axes[1] >= costs.SPIKED_VECTORS * plan.width
    return pays and any(_multiplies(plan, ins, k) for ins, k, _ in readers)


def _adds_up(plan: Plan, axes: Axes) -> bool:
    """Whether sums are taken in each step of what has as many elements as matrices."""
    for ins in plan.program.instructions:
        if not isinstance(ins.operation, Sum):
            continue
        made = ins
        while isinstance(made.operation, (Sum, *ELEMENTWISE)) and not is_seldom(
            plan, made
        ):
            view = made.operands[0]
            if view.value not in plan.makers:
                break
            made = plan.makers[view.value]
        if prod(ins.operands[0].shape) == prod(axes) and not is_seldom(plan, made):
            return True
    return False


def _by_products(plan: Plan, number: int, axes: Axes) -> bool:
    """Whether all that a matrix is changed by can lie like itself: products do."""
    carry, following = plan.program.carry[number], plan.program.next_carry[number].value
    kept = {view.value for view in plan.program.next_carry}
    for value in computed_with(plan, {following: axes}):
        made = plan.makers.get(value)
        if value is carry or (
            made is not None and isinstance(made.operation, ELEMENTWISE)
        ):
            continue
        if made is None or not _readers_of_product(plan, made, axes, kept):
            return False
    return True


def _readers(plan: Plan, values: set[Value]) -> Iterator[tuple[Instruction, int, View]]:
    """The instructions that read one of some values, and where."""
    for ins in plan.program.instructions:
        for k, view in enumerate(ins.operands):
            if view.value in values:
                yield ins, k, view


def _multiplies(plan: Plan, ins: Instruction, k: int) -> bool:
    """Whether an operand is a matrix that is multiplied with spikes."""
    product = isinstance(ins.operation, Matmul) and k == 0
    return product and mostly_zero(plan, ins.operands[1])


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
        return k == 0 and view.shape[-2:] == axes[1:]
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


def computed_with(plan: Plan, values: Mapping[Value, Axes]) -> dict[Value, Axes]:
    """What matrices are computed from, element by element.

    Loops over it have to be ones over rows and columns from the beginning, or what is
    computed first would be a loop of its own.

    Parameters
    ----------
    plan : Plan
    values : dict
        Matrices -> how many there are, and their rows and columns.

    Returns
    -------
    dict
        Of the same kind, for ``values`` and all that has as many elements.
    """
    found, waiting = dict(values), list(values)
    while waiting:
        value = waiting.pop()
        made = plan.makers.get(value)
        if made is None or not isinstance(made.operation, ELEMENTWISE):
            continue
        for view in made.operands:
            mine = prod(view.value.shape) == prod(found[value]) and view.whole
            if mine and not is_fixed(view) and view.value not in found:
                found[view.value] = found[value]
                waiting.append(view.value)
    return found


def turn_products(plan: Plan, axes: Axes) -> dict[Value, Axes]:
    r"""Products that change a matrix that lies column by column, computed like that.

    .. math:: (A B)^T = B^T A^T

    Parameters
    ----------
    plan : Plan
        Its program is changed.
    axes : tuple of int
        The number of matrices, 1, and its rows and columns.

    Returns
    -------
    dict
        The products -> ``axes``.
    """
    program, found = plan.program, {}
    kept = {view.value for view in program.next_carry}
    for ins in list(program.instructions):
        readers = _readers_of_product(plan, ins, axes, kept)
        if not readers:
            continue
        (out,), (a, b) = ins.outputs, ins.operands
        new = Value(axes[:0:-1], out.dtype)
        ins.operands, ins.outputs = (
            [_flipped(plan, b, ins), _flipped(plan, a, ins)],
            [new],
        )
        plan.makers[new] = ins
        for reader, k, view in readers:
            reader.operands[k] = _seen_turned(new, view.shape)
        found[new] = axes
    read = {view.value for ins in program.instructions for view in ins.operands} | kept
    program.instructions = [
        ins
        for ins in program.instructions
        if not isinstance(ins.operation, Copy)
        or ins.outputs[0].home is not None
        or ins.outputs[0] in read
    ]
    return found


def _readers_of_product(
    plan: Plan, ins: Instruction, axes: Axes, kept: set[Value]
) -> list[tuple[Instruction, int, View]]:
    """What reads a product that can be turned; empty if it cannot."""
    if not isinstance(ins.operation, Matmul) or any(map(is_fixed, ins.operands)):
        return []
    (out,) = ins.outputs
    readers = list(_readers(plan, {out}))
    plain = out.shape == axes[1:] and out.home is None and out not in kept
    able = all(_reads_matrix(reader, view, axes) for reader, _, view in readers)
    return readers if plain and able else []


def _reads_matrix(ins: Instruction, view: View, axes: Axes) -> bool:
    """Whether a loop over rows and columns reads a product, which has these axes."""
    if not isinstance(ins.operation, ELEMENTWISE) or not view.whole:
        return False
    return tuple(n for n in view.shape if n > 1) == axes[1:] and _keeps(ins, axes)


def _seen_turned(value: Value, shape: tuple[int, ...]) -> View:
    """A matrix as what it was before it was turned, with axes of 1 anywhere."""
    m, item = value.shape[1], value.dtype.itemsize
    steps = iter((item, m * item))
    strides = tuple(next(steps) if size > 1 else item for size in shape)
    return View(value, 0, shape, strides, False)


def _flipped(plan: Plan, view: View, reader: Instruction) -> View:
    """The transposed matrix, in order; what was transposed before is taken as it was."""
    made = plan.makers.get(view.value)
    if made is not None and isinstance(made.operation, Copy) and view.whole:
        (source,) = made.operands
        back = replace(source, shape=source.shape[::-1], strides=source.strides[::-1])
        in_line = tuple(s * source.value.dtype.itemsize for s in in_order(back.shape))
        if source.shape == view.shape and back.strides == in_line:
            array = None if source.array is None else source.array.T
            return replace(back, contiguous=True, array=array)
    array = None if view.array is None else view.array.T
    flipped = replace(
        view,
        shape=view.shape[::-1],
        strides=view.strides[::-1],
        contiguous=False,
        array=array,
    )
    copy = copy_of(flipped)
    plan.makers[copy.outputs[0]] = copy
    program = plan.program
    program.instructions.insert(program.instructions.index(reader), copy)
    return View.all_of(copy.outputs[0])


def stride(m: int, dtype: np.dtype, seldom: bool) -> int:
    """How many numbers there are from one column to the next.

    Columns that change as a whole begin where a cache line does, if little memory is lost
    by that: a vector that is written across two lines takes twice as long.

    Parameters
    ----------
    m : int
        Numbers of a column.
    dtype : dtype
        Their type.
    seldom : bool
        Whether columns only change where there is a cause. Otherwise all of them do, and
        lie side by side.

    Examples
    --------
    >>> stride(100, np.dtype("float32"), True), stride(17, np.dtype("float32"), True)
    (112, 17)
    """
    line = costs.ROW_BYTES // dtype.itemsize
    padded = -(-m // line) * line
    return padded if seldom and padded <= costs.PADDED * m else m
