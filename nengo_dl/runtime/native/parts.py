"""What is computed of a concatenation, part by part, if that leaves out passes over it.

A loop over everything cannot join the loop that makes one of the parts: it has another
size. If it does little, and the parts are long, it is divided: what it does with a part
joins the loop of that part, and stays in registers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import accumulate, pairwise
from math import prod

from nengo_dl.runtime.native import costs
from nengo_dl.runtime.numpy.codegen import Instruction, Program, Value, View
from nengo_dl.runtime.numpy.namespace import Concat, Copy, Select, Ufunc

#: operations that can be divided
_PLAIN = (Ufunc, Copy, Select)

#: a shape, and the rows at which its parts begin, and where the last one ends
Layout = tuple[tuple[int, ...], tuple[int, ...]]


def divide(program: Program, width: int) -> None:
    """Compute elementwise what is made of concatenations in parts, where that pays.

    Parameters
    ----------
    program : Program
        It is changed. Results are the same to the bit.
    width : int
        Numbers in a vector.
    """
    makers = {out: ins for ins in program.instructions for out in ins.outputs}
    sources: dict[Layout, list[Instruction]] = {}
    for ins in program.instructions:
        if isinstance(ins.operation, Concat) and _is_long(ins, makers, width):
            ends = accumulate((view.shape[0] for view in ins.operands), initial=0)
            layout = ins.outputs[0].shape, tuple(ends)
            sources.setdefault(layout, []).append(ins)
    for layout, concats in sources.items():
        parts = {ins.outputs[0]: list(ins.operands) for ins in concats}
        found = _made_of(program, layout[0], set(parts))
        if 0 < len(found) <= costs.DIVIDED:
            _divide(program, layout, parts, found)


def _is_long(ins: Instruction, makers: dict[Value, Instruction], width: int) -> bool:
    """Whether all parts are some vectors, and one that a loop makes is long."""
    if not 2 <= len(ins.operands) <= costs.PARTS:
        return False
    for view in ins.operands:
        few = prod(view.shape) < costs.PART_VECTORS * width
        alike = view.contiguous and view.value.dtype == ins.outputs[0].dtype
        if few or not alike:
            return False
    return any(
        prod(view.shape) >= costs.LONG_VECTORS * width
        and view.value in makers
        and _is_plain(makers[view.value])
        for view in ins.operands
    )


def _is_plain(ins: Instruction) -> bool:
    return type(ins.operation) in _PLAIN


def _made_of(
    program: Program, shape: tuple[int, ...], values: set[Value]
) -> set[Instruction]:
    """What is computed element by element of some values, and what else that needs."""
    found: set[Instruction] = set()
    able = [ins for ins in program.instructions if _is_divisible(ins, shape)]
    beside: set[Value] = set()
    while True:
        more = {
            ins
            for ins in able
            if ins.outputs[0] in beside
            or any(v.whole and v.value in values for v in ins.operands)
        }
        if more <= found or len(more) > costs.DIVIDED:
            return found | more
        found |= more
        values = values | {ins.outputs[0] for ins in found}
        beside = {view.value for ins in found for view in ins.operands if view.whole}


def _is_divisible(ins: Instruction, shape: tuple[int, ...]) -> bool:
    """Whether an instruction works row by row."""
    if not _is_plain(ins) or ins.outputs[0].home is not None:
        return False
    fits = all(view.shape == shape or prod(view.shape) == 1 for view in ins.operands)
    return fits and ins.outputs[0].shape == shape


def _divide(
    program: Program,
    layout: Layout,
    parts: dict[Value, list[View]],
    found: set[Instruction],
) -> None:
    """Replace instructions by those of the parts of what they compute."""
    shape, ends = layout
    instructions: list[Instruction] = []
    for ins in program.instructions:
        if ins not in found:
            instructions.append(ins)
            continue
        (out,) = ins.outputs
        parts[out] = []
        for k, (start, stop) in enumerate(pairwise(ends)):
            operands = [
                _rows(view, shape, start, stop, k, parts) for view in ins.operands
            ]
            part = Value((stop - start, *shape[1:]), out.dtype)
            instructions.append(Instruction(ins.operation, operands, [part]))
            parts[out].append(View.all_of(part))
        instructions.append(Instruction(Concat(), list(parts[out]), [out]))
    program.instructions = instructions
    for ins in instructions:
        ins.operands = [_of_part(view, parts) for view in ins.operands]
    program.next_carry = [_of_part(view, parts) for view in program.next_carry]
    program.instructions = list(_needed(program, set(parts)))


def _rows(
    view: View,
    shape: tuple[int, ...],
    start: int,
    stop: int,
    k: int,
    parts: dict[Value, list[View]],
) -> View:
    """Some rows of an operand: part ``k``, if it has such parts."""
    if view.shape != shape:
        return view
    if view.whole and view.value in parts:
        return parts[view.value][k]
    array = None if view.array is None else view.array[start:stop]
    offset = view.offset + start * view.strides[0]
    return replace(view, offset=offset, shape=(stop - start, *shape[1:]), array=array)


def _of_part(view: View, parts: dict[Value, list[View]]) -> View:
    """What a view sees, in the part that has all of it, if there is one."""
    start = 0
    for part in parts.get(view.value, ()):
        same = view.contiguous and (view.offset, view.nbytes) == (start, part.nbytes)
        if same and part.whole and part.value.kind == "temp":
            return replace(view, value=part.value, offset=0)
        start += part.nbytes
    return view


def _needed(program: Program, values: set[Value]) -> Iterator[Instruction]:
    """The instructions without concatenations that nothing reads any more."""
    read = {view.value for ins in program.instructions for view in ins.operands}
    read |= {view.value for view in program.next_carry}
    for ins in program.instructions:
        gone = isinstance(ins.operation, Concat) and ins.outputs[0] in values
        if not gone or ins.outputs[0] in read or ins.outputs[0].home is not None:
            yield ins
