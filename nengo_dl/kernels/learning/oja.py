"""Oja's rule: Hebbian learning with forgetting."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nengo.builder.learning_rules import SimOja

from nengo_dl.compiler.costs import LARGE_MATRIX
from nengo_dl.compiler.lowering import OperatorRule, lowers
from nengo_dl.compiler.traits import Array, ArrayNamespace, Params
from nengo_dl.kernels.learning.outer import (
    Change,
    columns,
    flat,
    matrices,
    spread,
    ways,
)

if TYPE_CHECKING:
    from nengo_dl.compiler.lowering import Lowering


class OjaDelta(Change):
    r"""The change of the weights that one step of Oja's rule asks for.

    .. math:: \Delta_{ij} = \kappa\, dt\; b_i (a_j - \beta b_i W_{ij})

    Parameters: ``shape``, ``(m, n)``; ``factor``, :math:`\kappa\, dt`; ``beta``,
    :math:`\beta`. Inputs: filtered activities of the postsynaptic neurons ``b``,
    ``(m, batch)``, and of the presynaptic ones ``a``, ``(n, batch)``; the weights ``W``,
    ``(m * n, batch)``. Output: ``(m * n, batch)``, row by row.

    References: Oja (1982), A simplified neuron model as a principal component analyzer,
    J. Math. Biol. 15(3).
    """

    name = "Oja"
    zero_preserving = True
    zero_inputs = (0,)
    merge_limit = LARGE_MATRIX
    operations = 4
    by_item = (0, 1)

    def step(
        self, xp: ArrayNamespace, p: Params, post: Array, pre: Array, weights: Array
    ) -> tuple[Array, ...]:
        """What belongs to a neuron is computed before anything of the matrix's size."""
        decay = self.joined(xp, post * post * (p.factor * p.beta))
        decay = columns(xp, p, decay)
        growth = self.outer(xp, p, post * p.factor, pre)
        return (flat(xp, p, growth - decay * matrices(xp, p, weights)),)


OJA_DELTAS = ways(OjaDelta)


@lowers(SimOja)
class LowerOja(OperatorRule):
    """Updates ``delta``, which the next step adds to the weights."""

    def lower(self, op: SimOja, low: Lowering) -> None:
        """One node from the activities of both sides and the weights."""
        m, n = op.delta.shape
        inputs = [
            spread(op, "the postsynaptic activity", low.read(op.post_filtered), m),
            spread(op, "the presynaptic activity", low.read(op.pre_filtered), n),
            low.read(op.weights),
        ]
        factor = op.learning_rate * low.dt
        params = {"shape": (m, n), "factor": factor, "beta": op.beta}
        kernel = OJA_DELTAS[low.joined(op.delta)]
        (delta,) = low.node(kernel, inputs, [m * n], params, label=op)
        low.update(op.delta, delta)
