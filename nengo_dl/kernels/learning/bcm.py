"""Bienenstock-Cooper-Munro: Hebbian learning with a sliding threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nengo.builder.learning_rules import SimBCM

from nengo_dl.compiler.costs import LARGE_MATRIX
from nengo_dl.compiler.lowering import OperatorRule, lowers
from nengo_dl.compiler.traits import Array, ArrayNamespace, Params
from nengo_dl.kernels.learning.outer import Change, flat, spread, ways

if TYPE_CHECKING:
    from nengo_dl.compiler.lowering import Lowering


class BCMDelta(Change):
    r"""The change of the weights that one step of BCM asks for.

    .. math:: \Delta_{ij} = \kappa\, dt\; b_i (b_i - \theta_i)\, a_j

    Parameters: ``shape``, ``(m, n)``; ``factor``, :math:`\kappa\, dt`. Inputs: filtered
    activities of the postsynaptic neurons ``b`` and their threshold ``theta``,
    ``(m, batch)``, and those of the presynaptic ones ``a``, ``(n, batch)``. Output:
    ``(m * n, batch)``, row by row.

    References: Bienenstock, Cooper & Munro (1982), Theory for the development of neuron
    selectivity, J. Neurosci. 2(1).
    """

    name = "BCM"
    zero_preserving = True
    zero_inputs = (0,)
    merge_limit = LARGE_MATRIX
    by_item = (0, 1, 2)

    def step(
        self, xp: ArrayNamespace, p: Params, post: Array, theta: Array, pre: Array
    ) -> tuple[Array, ...]:
        """What belongs to a neuron is computed before anything of the matrix's size."""
        column = post * (post - theta) * p.factor
        return (flat(xp, p, self.outer(xp, p, column, pre)),)


BCM_DELTAS = ways(BCMDelta)


@lowers(SimBCM)
class LowerBCM(OperatorRule):
    """Updates ``delta``, which the next step adds to the weights."""

    def lower(self, op: SimBCM, low: Lowering) -> None:
        """One node from the activities of both sides."""
        m, n = op.delta.shape
        inputs = [
            spread(op, "the postsynaptic activity", low.read(op.post_filtered), m),
            spread(op, "the threshold theta", low.read(op.theta), m),
            spread(op, "the presynaptic activity", low.read(op.pre_filtered), n),
        ]
        params = {"shape": (m, n), "factor": op.learning_rate * low.dt}
        kernel = BCM_DELTAS[low.joined(op.delta)]
        (delta,) = low.node(kernel, inputs, [m * n], params, label=op)
        low.update(op.delta, delta)
