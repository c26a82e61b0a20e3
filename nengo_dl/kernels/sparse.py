"""Products with sparse matrices, given by their entries or by blocks.

========================  ===========================================================
matrix                    becomes
========================  ===========================================================
constant                  terms of the sums that it increments, one for each entry;
                          a `MatVec` if it is not sparse enough for that to pay
parameter                 a `WeightedSum` for all rows with about the same number of
                          entries
blocks (``BsrDotInc``)    a `MatVec` for each block (or a `VaryingMatVec`)
========================  ===========================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from nengo.builder.operator import BsrDotInc, SparseDotInc
from nengo.exceptions import BuildError

from nengo_dl.compiler.costs import is_dense
from nengo_dl.compiler.graph import ParameterRef
from nengo_dl.compiler.lowering import OperatorRule, lowers
from nengo_dl.compiler.memory import entries
from nengo_dl.compiler.runs import stable_order
from nengo_dl.compiler.traits import Array, ArrayNamespace, Kernel, Params
from nengo_dl.kernels.algebra import MATVEC, VARYING_MATVEC
from nengo_dl.notices import label_of

if TYPE_CHECKING:
    from nengo_dl.compiler.lowering import Lowering


class WeightedSum(Kernel):
    r"""Sums of the same number of terms, whose factors may be trained.

    .. math:: y_i = \sum_j A_{ji} x_{ji}

    Parameters: ``A``, ``(terms, n)``. Input: ``x``, ``(terms * n, batch)``, all first
    terms, then all second ones, and so on.
    """

    name = "weighted_sum"
    matrices = ("A",)
    zero_preserving = True

    def step(self, xp: ArrayNamespace, p: Params, x: Array) -> tuple[Array, ...]:
        """Add up the weighted terms."""
        stacked, terms, n = p.A.shape
        if terms == 1:
            a = xp.reshape(p.A, (stacked, n, 1))
            y = a * xp.reshape(x, (p.groups, n, -1))
        else:
            a = xp.reshape(p.A, (stacked, terms, n, 1))
            y = xp.sum(a * xp.reshape(x, (p.groups, terms, n, -1)), 1)
        return (xp.reshape(y, (p.groups * n, -1)),)


WEIGHTED_SUM = WeightedSum()


@lowers(SparseDotInc)
class LowerSparseDotInc(OperatorRule):
    """``Y += A.dot(X)`` with a sparse ``A``."""

    def lower(self, op: SparseDotInc, low: Lowering) -> None:
        """Terms, or sums of weighted terms."""
        x = low.read(op.X).ravel()
        rows, columns, values = entries(op.A)
        if low.is_constant(op.A):
            self._constant(op, low, x, rows, columns, values)
        elif op.A in low.options.parameters:
            self._parameter(op, low, x, rows, columns)
        else:
            raise BuildError(
                f"{label_of(op)}: the sparse matrix {label_of(op.A)}"
                f" is changed by another operator, which "
                "is not possible; use a dense matrix for weights that change"
            )

    @staticmethod
    def _constant(op, low, x, rows, columns, values):
        if is_dense(rows.size, op.Y.size * x.size):
            matrix = np.zeros((op.Y.size, x.size))
            np.add.at(matrix, (rows, columns), values)
            (y,) = low.node(MATVEC, [x], [len(matrix)], {"A": matrix}, label=op)
            low.increment(op.Y, y.reshape(op.Y.shape))
            return
        index = np.unravel_index(rows, op.Y.shape)
        low.increment(op.Y, x[columns], np.asarray(values, np.float64), index)

    @staticmethod
    def _parameter(op, low, x, rows, columns):
        zero = low.builder.constant([0.0])[0]
        outputs, places = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for mine, table in _tables(rows, op.Y.size):
            missing = table < 0
            numbers = np.where(missing, 0, table)  # any: they are multiplied with zero
            terms = np.where(missing, zero, x[columns[numbers]])
            params = {"A": ParameterRef(op.A, numbers.shape, numbers)}
            (y,) = low.node(WEIGHTED_SUM, [terms], [mine.size], params, label=op)
            outputs.append(y)
            places.append(mine)
        index = np.unravel_index(np.concatenate(places), op.Y.shape)
        low.increment(op.Y, np.concatenate(outputs), index=index)


def _tables(rows, n):
    """Rows by their number of entries: 1, 2, 3 or 4, 5, 6 to 8, 9 to 11 and so on.

    Two sizes for each doubling, so that few of the entries of a table are missing.

    Yields
    ------
    chosen : (m,) ndarray of int
        Rows.
    table : (longest, m) ndarray of int
        Their entries, then -1.
    """
    counts = np.bincount(rows, minlength=n)
    order = stable_order(rows, n)
    first = np.cumsum(counts) - counts
    size = np.where(counts > 0, np.ceil(2 * np.log2(np.maximum(counts, 1))), -1)
    for s in np.unique(size[size >= 0]):
        chosen = np.flatnonzero(size == s)
        nth = np.arange(counts[chosen].max())[:, None]
        present = nth < counts[chosen]
        position = np.where(present, first[chosen] + nth, 0)
        yield chosen, np.where(present, order[position], -1)


@lowers(BsrDotInc)
class LowerBsrDotInc(OperatorRule):
    """``Y += A.dot(X)`` with an ``A`` of blocks, which core's optimizer makes."""

    def lower(self, op: BsrDotInc, low: Lowering) -> None:
        """A product for each block, in the order of the rows of blocks."""
        x = low.read(op.X).ravel()
        n_blocks, m, k = op.A.shape
        matrix = low.matrix(op.A)
        outputs = []
        for b in range(n_blocks):
            first = int(op.indices[b]) * k
            inputs = [x[first : first + k]]
            if matrix is None:
                kernel, params = VARYING_MATVEC, {"shape": (m, k)}
                inputs.insert(0, low.read(op.A)[b])
            else:
                kernel, params = MATVEC, {"A": _block(matrix, b)}
            outputs += low.node(kernel, inputs, [m], params, label=op)
        block_rows = np.repeat(np.arange(len(op.indptr) - 1), np.diff(op.indptr))
        rows = (block_rows[:, None] * m + np.arange(m)).ravel()
        index = np.unravel_index(rows, op.Y.shape)
        low.increment(op.Y, np.concatenate(outputs), index=index)


def _block(matrix, b):
    """One of several stacked matrices: a constant, or a reference."""
    if isinstance(matrix, np.ndarray):
        return np.ascontiguousarray(matrix[b])
    index = matrix.index
    if index is None:
        index = np.arange(int(np.prod(matrix.shape))).reshape(matrix.shape)
    return ParameterRef(matrix.key, matrix.shape[1:], index[b])
