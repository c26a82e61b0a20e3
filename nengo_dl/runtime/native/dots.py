"""Products that join the loop in which one of their factors is computed.

A product of a matrix and a vector is a sum over the innermost axis of a loop that
computes the matrix, or, if the matrix has one row, the vector. What the loop has in
registers need not be read again, nor even be written: decoders that learn are changed
and used in one pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np

from nengo_dl.runtime.native.axes import Axes, broadcast_strides, in_order, joined
from nengo_dl.runtime.numpy.codegen import Instruction, View
from nengo_dl.runtime.numpy.namespace import Code, Matmul, Operation


class Dot(Operation):
    """Sums over the last axis of the product of two operands.

    Parameters
    ----------
    shape : tuple of int
        To which both operands are broadcast.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def _compute(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.sum(np.broadcast_to(a, self.shape) * b, -1, keepdims=True)

    def _emit(self, code: Code, args: Sequence[np.ndarray], out: np.ndarray) -> None:
        code.call(lambda: np.copyto(out, self._compute(*args)))


def dot_of(ins: Instruction) -> Instruction | None:
    """A product as sums over the last axis; None if it is not one of a vector each."""
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
    return Instruction(Dot(shape), [a, b], ins.outputs)


def axes_of_dot(ins: Instruction) -> tuple[Axes, list[Axes]]:
    """The axes of a `Dot`, the last one by itself, and the strides of its operands."""
    shape = ins.operation.shape
    table = [broadcast_strides(view, shape) for view in ins.operands]
    axes, table = joined(shape, [*table, (*in_order(shape[:-1]), 0)])
    return axes, table[:-1]


def computed(ins: Instruction) -> list[View]:
    """The operands of which each element is used once: they may be in registers."""
    size = prod(ins.operation.shape)
    return [view for view in ins.operands if view.whole and prod(view.shape) == size]
