"""A recorded step as machine code is made of it: every result is computed explicitly.

After `prepare`,

- results and the next carries are values that instructions compute, so that a step
  needs nothing at its end but what is in its list;
- weights and constants lie in order, or are repeated along whole axes;
- weighted sums of rows are one instruction each (`Gathered`);
- single numbers come first, and short work on concatenations is divided (`.parts`);
- operands of products and sums lie in order, and those of Python functions lie in the
  memory of the program.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod

import numpy as np

from nengo_dl.runtime.native import costs
from nengo_dl.runtime.native.parts import divide
from nengo_dl.runtime.numpy.codegen import (
    Instruction,
    Program,
    Value,
    View,
    remove_dead,
)
from nengo_dl.runtime.numpy.namespace import (
    Code,
    Copy,
    Embed,
    HostCall,
    Matmul,
    Operation,
    Select,
    Sum,
    Take,
    Ufunc,
)

#: operations that work element by element
ELEMENTWISE = (Ufunc, Copy, Select)

#: operations that want their operands in order
IN_ORDER = (Matmul, Sum, Take, Embed)


class Gathered(Operation):
    """Sums of weighted rows, ``y[i] = sum_t weights[t, i] * x[index[t, i]]``.

    Parameters
    ----------
    index : ndarray ``(terms, n)``
        Rows of the first operand. The second one are the weights, ``(terms, n, 1)``.
    """

    def __init__(self, index: np.ndarray) -> None:
        self.index = index

    def _compute(self, x: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return np.sum(weights * x[self.index], 0)

    def _emit(self, code: Code, args: Sequence[np.ndarray], out: np.ndarray) -> None:
        x, weights = args
        code.call(lambda: np.sum(weights * x[self.index], 0, out=out))


def prepare(program: Program, width: int) -> Value | None:
    """Bring a recorded step into the form that `.units` expects.

    Parameters
    ----------
    program : Program
        It is changed.
    width : int
        Numbers in a vector.

    Returns
    -------
    Value or None
        The results of the step, which are what probes read.
    """
    remove_dead(program)
    for ins in program.instructions:
        ins.operands = [_lean(view) for view in ins.operands]
    program.next_carry = [_lean(view) for view in program.next_carry]
    _compute_carries(program)
    y = _compute_results(program)
    _gather_sums(program)
    _lay_out_fixed(program, width)
    _straighten(program)
    _numbers_first(program)
    divide(program, width)
    return y


def is_fixed(view: View) -> bool:
    """Whether an operand only changes when weights are written."""
    return view.value.kind in ("weight", "constant")


def copy_of(view: View, home: tuple[Value, int] | None = None) -> Instruction:
    """A copy of a view, in memory of its own or inside another value."""
    return Instruction(Copy(), [view], [Value(view.shape, view.value.dtype, home=home)])


def _lean(view: View) -> View:
    """A constant without the elements that are only repeated."""
    if view.value.kind != "constant" or view.array is None or view.array.ndim == 0:
        return view
    small = _unrepeated(view.array)
    if small.shape == view.array.shape and small.flags.c_contiguous:
        return view
    small = np.array(small, order="C")
    value = Value(small.shape, small.dtype, "constant", small)
    return _repeated(value, view.shape)


def _unrepeated(array: np.ndarray) -> np.ndarray:
    """The part of an array that is not repeated by strides of 0."""
    return array[tuple(slice(0, 1 if s == 0 else None) for s in array.strides)]


def _repeated(value: Value, shape: tuple[int, ...]) -> View:
    """A fixed value, broadcast to a shape."""
    array = np.broadcast_to(value.array, shape)
    return View.of(value, array, value.array)


def _compute_carries(program: Program) -> None:
    """Next carries that are parts of other carries are copied first.

    Nothing has been overwritten then.
    """
    for k, view in enumerate(program.next_carry):
        mine = view.value is program.carry[k] and view.whole
        if view.value.kind == "carry" and not mine and view.nbytes:
            copy = copy_of(view)
            program.instructions.insert(0, copy)
            program.next_carry[k] = View.all_of(copy.outputs[0])


def _compute_results(program: Program) -> Value | None:
    """The results are computed in their place, or copied there as soon as they are there.

    Copies are left to programs that call Python functions, which work in the memory of
    the program.
    """
    if program.y is None or not program.y.nbytes:
        return None
    view = _lean(program.y)
    value, y = view.value, Value(view.shape, view.value.dtype, "y")
    calls = any(isinstance(ins.operation, HostCall) for ins in program.instructions)
    carried = any(view.value is value for view in program.next_carry)
    if value.kind == "temp" and view.whole and not (calls or carried or value.home):
        value.home = (y, 0)
        return y
    place = program.definition(value) + 1
    program.instructions.insert(place, copy_of(view, (y, 0)))
    return y


def _lay_out_fixed(program: Program, width: int) -> None:
    """Weights and constants that do not lie in order are copied, once.

    Those of elementwise instructions may be repeated along axes, unless that leaves
    lanes of vectors empty.
    """
    made: dict[tuple, Value] = {}

    def copied(view: View, shape: tuple[int, ...]) -> View:
        """A copy of what is not repeated, as a view of the same shape."""
        key = (view.value, view.offset, view.shape, view.strides, shape)
        if key not in made:
            array = np.broadcast_to(view.array, shape)
            value = Value(shape, array.dtype, view.value.kind, np.array(array, order="C"))
            if view.value.kind == "weight":
                source = replace(view, array=array)
                program.setup.append(Instruction(Copy(), [source], [value]))
            made[key] = value
        return View.all_of(made[key])

    for ins in program.instructions:
        elementwise = isinstance(ins.operation, ELEMENTWISE)
        for k, view in enumerate(ins.operands):
            if not is_fixed(view):
                continue
            if elementwise and _leaves_lanes_empty(view, ins.outputs[0].shape, width):
                ins.operands[k] = copied(view, ins.outputs[0].shape)
            elif not view.contiguous and elementwise:
                small = _unrepeated(view.array)
                if not small.flags.c_contiguous:
                    part = replace(view, shape=small.shape, array=small)
                    part = replace(part, strides=small.strides)
                    value = copied(part, small.shape).value
                    ins.operands[k] = _repeated(value, view.shape)
            elif not view.contiguous:
                ins.operands[k] = copied(view, view.shape)


def _leaves_lanes_empty(view: View, shape: tuple[int, ...], width: int) -> bool:
    """Whether an operand of a few batch items is better repeated for each of them."""
    if not shape or shape[-1] == 1 or view.shape == shape or prod(view.shape) == 1:
        return False
    if view.shape and view.shape[-1] != 1:
        return False
    vectors = -(-shape[-1] // width)
    wasteful = shape[-1] < costs.FILLED * vectors * width
    return wasteful and prod(shape) <= costs.LARGE


def _gather_sums(program: Program) -> None:
    """Rows that are taken, weighted and added up become one instruction."""
    makers = {out: ins for ins in program.instructions for out in ins.outputs}
    results = (view.value for view in program.next_carry)
    reads = (view.value for ins in program.instructions for view in ins.operands)
    uses = Counter([*reads, *results])

    def only(view: View, kind: type[Operation]) -> Instruction | None:
        """What computes a view, if nothing else reads it."""
        ins = makers.get(view.value)
        if ins is None or uses[view.value] > 1 or not view.whole:
            return None
        return ins if isinstance(ins.operation, kind) else None

    gone: set[Instruction] = set()
    for ins in program.instructions:
        if not isinstance(ins.operation, Sum):
            continue
        found = _weighted_rows(ins.operands[0], ins.operation.axis, only)
        if found is not None:
            made, weights, index = found
            ins.operation = Gathered(index)
            ins.operands = [made[0].operands[0], weights]
            gone.update(made)
    program.instructions = [i for i in program.instructions if i not in gone]


def _weighted_rows(
    view: View, axis: int, only: Callable
) -> tuple[list[Instruction], View, np.ndarray] | None:
    """Terms of a sum that are rows, weighted or not.

    What takes them and, if so, weights them, the weights, and which rows these are.
    """
    shape = view.shape
    if len(shape) == 4 and shape[0] == 1:
        shape, axis = shape[1:], axis - 1
    if len(shape) != 3 or axis != 0:
        return None
    terms, n, batch = shape
    take = only(view, Take)
    if take is not None and _in_rows(take.operands[0], batch):
        ones = np.ones((terms, n, 1), view.value.dtype)
        weights = View.all_of(Value(ones.shape, ones.dtype, "constant", ones))
        return [take], weights, take.operation.index.reshape(terms, n)
    product = only(view, Ufunc)
    if product is None or product.operation.function is not np.multiply:
        return None
    for rows, weights in (product.operands, product.operands[::-1]):
        take = only(rows, Take)
        if take is None or not is_fixed(weights):
            continue
        # one for each term: as (terms, n, 1), or as one column of all
        alike = weights.shape[-3:] == (terms, n, 1)
        alike |= weights.shape == (terms * n, 1)
        if (
            _in_rows(take.operands[0], batch)
            and alike
            and prod(weights.shape) == terms * n
        ):
            index = take.operation.index.reshape(terms, n)
            return [take, product], weights, index
    return None


def _in_rows(view: View, batch: int) -> bool:
    """Whether a view is rows of a number for each batch item."""
    return len(view.shape) == 2 and view.shape[1] == batch and view.contiguous


def _straighten(program: Program) -> None:
    """Copies of operands where instructions cannot read them as they lie."""
    instructions: list[Instruction] = []
    for ins in program.instructions:
        operation = ins.operation
        for k, view in enumerate(ins.operands):
            called = isinstance(operation, HostCall) and view.value.kind == "input"
            ordered = isinstance(operation, IN_ORDER) and not view.contiguous
            if called or ordered:
                instructions.append(copy_of(view))
                ins.operands[k] = View.all_of(instructions[-1].outputs[0])
        instructions.append(ins)
    program.instructions = instructions


def _numbers_first(program: Program) -> None:
    """Single numbers that need no others of the step come before all loops.

    Then loops that need them can be joined with earlier ones.
    """
    carried = {view.value for view in program.next_carry}

    def is_first(ins: Instruction) -> bool:
        """Whether an instruction reads nothing that is computed, nor writes carries."""
        if not isinstance(ins.operation, Ufunc):
            return False
        (out,) = ins.outputs
        ready = all(view.value.kind != "temp" for view in ins.operands)
        return prod(out.shape) == 1 and ready and out.home is None and out not in carried

    early = [ins for ins in program.instructions if is_first(ins)]
    taken = set(early)
    rest = (ins for ins in program.instructions if ins not in taken)
    program.instructions = [*early, *rest]
