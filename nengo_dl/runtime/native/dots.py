"""Sums that join the loop in which their terms are computed.

A product of a matrix and a vector is a sum over the innermost axis of a loop that
computes the matrix, or, if the matrix has one row, the vector. Where each item of a batch
has a matrix of its own, it is a sum over the axis before that of the items. What the loop
has in registers need not be read again, nor even be written: decoders that learn are
changed and used in one pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np

from nengo_dl.runtime.native import costs
from nengo_dl.runtime.native.axes import Axes, broadcast_strides, in_order, joined
from nengo_dl.runtime.numpy.codegen import Instruction, View
from nengo_dl.runtime.numpy.namespace import Code, Matmul, Operation, Sum


class Total(Operation):
    """Sums over one axis: of one operand, or of the product of two.

    Parameters
    ----------
    shape : tuple of int
        To which the operands are broadcast.
    axis : int
        Of the sum.

    Attributes
    ----------
    tail : tuple of int
        The axis of the sum, and how many elements lie behind it, if there are any: loops
        that compute the terms must not split them.
    """

    def __init__(self, shape: tuple[int, ...], axis: int) -> None:
        self.shape, self.axis = shape, axis
        inner = prod(shape[axis + 1 :])
        self.tail: Axes = (shape[axis], inner) if inner > 1 else (shape[axis],)

    def _compute(self, *terms: np.ndarray) -> np.ndarray:
        product = np.broadcast_to(terms[0], self.shape)
        for other in terms[1:]:
            product = product * other
        return np.sum(product, self.axis)

    def _emit(self, code: Code, args: Sequence[np.ndarray], out: np.ndarray) -> None:
        code.call(lambda: np.copyto(out, self._compute(*args).reshape(out.shape)))


def total_of(ins: Instruction) -> Instruction | None:
    """A sum, or a product as sums over the last axis; None if it is neither."""
    if isinstance(ins.operation, Sum):
        total = Total(ins.operands[0].shape, ins.operation.axis)
        between = prod(total.tail[1:])
        if not ins.operands[0].nbytes or between > costs.BETWEEN_TERMS:
            return None
        return Instruction(total, ins.operands, ins.outputs)
    if not isinstance(ins.operation, Matmul) or ins.operands[1].shape[-1] != 1:
        return None
    a, b = ins.operands
    if not (a.contiguous and b.contiguous and a.nbytes):
        return None
    shape = (*ins.outputs[0].shape[:-1], a.shape[-1])
    row = (*b.shape[:-2], 1, b.shape[-2])
    array = None if b.array is None else b.array.reshape(row)
    strides = tuple(s * b.value.dtype.itemsize for s in in_order(row))
    b = replace(b, shape=row, strides=strides, array=array)
    return Instruction(Total(shape, len(shape) - 1), [a, b], ins.outputs)


def axes_of_total(ins: Instruction) -> tuple[Axes, list[Axes], Axes]:
    """The axes of a `Total`, those of its tail apart; strides of operands; the tail."""
    total = ins.operation
    assert isinstance(total, Total)
    shape, axis = total.shape, total.axis
    table = [broadcast_strides(view, shape) for view in ins.operands]
    own = in_order((*shape[:axis], 1, *shape[axis + 1 :]))
    own = (*own[:axis], 0, *own[axis + 1 :])
    axes, table = joined(shape, [*table, own])
    return axes, table[:-1], total.tail


def computed(ins: Instruction) -> list[View]:
    """The operands of which each element is used once: they may be in registers."""
    assert isinstance(ins.operation, Total)
    size = prod(ins.operation.shape)
    return [view for view in ins.operands if view.whole and prod(view.shape) == size]
