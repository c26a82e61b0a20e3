"""Prescribed error sensitivity: online learning of decoders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nengo.builder.learning_rules import SimPES

from nengo_dl.compiler.lowering import OperatorRule, lowers
from nengo_dl.kernels.learning.outer import OuterProduct, spread, ways

if TYPE_CHECKING:
    from nengo_dl.compiler.lowering import Lowering


class PESDelta(OuterProduct):
    r"""The change of the weights that one step of PES asks for.

    .. math:: \Delta_{ij} = -\frac{\kappa\, dt}{n} E_i a_j

    Parameters: ``shape``, ``(m, n)``; ``factor``, :math:`-\kappa\, dt / n`. Inputs: the
    error ``E``, ``(m, batch)``, and the filtered activities ``a``, ``(n, batch)``.
    Output: ``(m * n, batch)``, row by row.

    References: MacNeil & Eliasmith (2011), Fine-tuning and the stability of recurrent
    neural networks, PLoS ONE 6(9).
    """

    name = "PES"


PES_DELTAS = ways(PESDelta)
PES_DELTA = PES_DELTAS[None]

#: the way out where an operator of one's own does not fit its weights
ONE_FOR_EACH = "There must be one error for each row of the weights"


@lowers(SimPES)
class LowerPES(OperatorRule):
    """Updates ``delta``, which the next step adds to the weights."""

    def lower(self, op: SimPES, low: Lowering) -> None:
        """One node from error and activities."""
        m, n = op.delta.shape
        error, activities = low.read(op.error), low.read(op.pre_filtered)
        factor = -op.learning_rate * low.dt / activities.size
        params = {"shape": (m, n), "factor": factor}
        error = spread(op, "the error", error, m, ONE_FOR_EACH)
        activities = spread(op, "the presynaptic activity", activities, n)
        inputs = [error, activities]
        kernel = PES_DELTAS[low.joined(op.delta)]
        (delta,) = low.node(kernel, inputs, [m * n], params, label=op)
        low.update(op.delta, delta)
