"""Weights that are scaled until they add up to a given number."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nengo_dl.compiler.costs import LARGE_MATRIX
from nengo_dl.compiler.lowering import OperatorRule, lowers
from nengo_dl.compiler.traits import Array, ArrayNamespace, Kernel, Params
from nengo_dl.kernels.learning.outer import columns, flat, matrices, rows
from nengo_dl.models.plasticity import SimNormalize
from nengo_dl.notices import label_of

if TYPE_CHECKING:
    from nengo_dl.compiler.lowering import Lowering


class StepCounter(Kernel):
    r"""Counts steps, and tells in which of them a number of steps is complete.

    .. math:: k \leftarrow (k + 1) \bmod N

    Parameters: ``period``, :math:`N`, one for each count. Input: the count
    :math:`k`, ``(1, batch)``. Outputs: 1 where it has become zero, else 0; and the count.
    """

    name = "step_counter"
    vectors = ("period",)

    def step(self, xp: ArrayNamespace, p: Params, count: Array) -> tuple[Array, ...]:
        """One time step; every array is ``(n, batch)``."""
        count = count + 1
        due = count >= p.period
        one, zero = xp.ones_like(count), xp.zeros_like(count)
        return xp.where(due, one, zero), xp.where(due, zero, count)


class NormalizeDelta(Kernel):
    r"""The change that gives all sums of the weights of a neuron the same value.

    .. math:: \Delta_{ij} = q \left( \frac{W}{\sum_j |w_{ij}|} - 1 \right) w_{ij}

    Parameters: ``shape``, ``(m, n)``; ``total``, :math:`W`; ``axis``, 1 for sums over
    :math:`j`, 0 for sums over :math:`i`. Inputs: the weights ``w``, ``(m * n, batch)``,
    and :math:`q`, ``(1, batch)``, 1 in steps in which they change, else 0. Output:
    ``(m * n, batch)``, row by row.

    References: Goodhill & Barrow (1994), The role of weight normalization in competitive
    learning, Neural Computation 6.
    """

    name = "normalize"
    zero_preserving = True
    zero_inputs = (1,)
    merge_limit = LARGE_MATRIX
    operations = 4

    def step(
        self, xp: ArrayNamespace, p: Params, weights: Array, due: Array
    ) -> tuple[Array, ...]:
        """One time step; a sum of zero is left alone."""
        w = matrices(xp, p, weights)
        when = xp.reshape(due, (p.groups, 1, 1, -1))
        found = xp.sum(xp.abs(xp.zero_unless(w, when)), 1 + p.axis)
        some = found > 0
        ratio = p.total / xp.where(some, found, xp.ones_like(found)) - 1
        ratio = xp.where(some, ratio, xp.zeros_like(ratio))
        ratio = xp.reshape(due, (p.groups, 1, -1)) * ratio
        along = columns if p.axis == 1 else rows
        return (flat(xp, p, xp.zero_unless(w * along(xp, p, ratio), when)),)


STEP_COUNTER = StepCounter()
NORMALIZE_DELTA = NormalizeDelta()


@lowers(SimNormalize)
class LowerNormalize(OperatorRule):
    """Updates ``delta``, which the next step adds to the weights."""

    def lower(self, op: SimNormalize, low: Lowering) -> None:
        """One node from the weights, and one that counts steps."""
        m, n = op.delta.shape
        if op.count is not None:
            low.share(op.count, like=op.delta)
        if op.count is None:
            nothing = np.zeros(0, int)
            due = low.affine(np.ones(1), nothing, nothing, np.zeros(0))
        else:
            inputs, label = [low.previous(op.count).ravel()], label_of(op)
            params = {"period": np.full(1, float(op.period))}
            due, count = low.node(STEP_COUNTER, inputs, [1, 1], params, label=label)
            low.update(op.count, count)
        axis = 1 if op.rule.axis == "pre" else 0
        params = {"shape": (m, n), "total": float(op.rule.total), "axis": axis}
        inputs = [low.read(op.weights), due]
        (delta,) = low.node(NORMALIZE_DELTA, inputs, [m * n], params, label=op)
        low.update(op.delta, delta)
