"""Prescribed error sensitivity: online learning of decoders."""

from nengo.builder.learning_rules import SimPES

from nengo_dl.compiler.lowering import OperatorRule, lowers
from nengo_dl.compiler.traits import Kernel


class PESDelta(Kernel):
    r"""The change of the weights that one step of PES asks for.

    .. math:: \Delta_{ij} = -\frac{\kappa\, dt}{n} E_i a_j

    Parameters: ``shape``, ``(m, n)``; ``factor``, :math:`-\kappa\, dt / n`. Inputs: the
    error ``E``, ``(m, batch)``, and the filtered activities ``a``, ``(n, batch)``.
    Output: ``(m * n, batch)``, row by row.

    The output is all zeros as long as the inputs are, and larger than both: so the
    compiler carries the two factors to the next step instead of the product.

    References: MacNeil & Eliasmith (2011), Fine-tuning and the stability of recurrent
    neural networks, PLoS ONE 6(9).
    """

    name = "PES"
    zero_preserving = True
    merge_limit = 8192

    def step(self, xp, p, error, activities):
        """Outer product for each batch item."""
        m, n = p.shape
        error = xp.reshape(error * p.factor, (p.groups, m, 1, -1))
        activities = xp.reshape(activities, (p.groups, 1, n, -1))
        return (xp.reshape(error * activities, (p.groups * m * n, -1)),)


PES_DELTA = PESDelta()


@lowers(SimPES)
class LowerPES(OperatorRule):
    """Updates ``delta``, which the next step adds to the weights."""

    def lower(self, op, low):
        """One node from error and activities."""
        error, activities = low.read(op.error), low.read(op.pre_filtered)
        m, n = error.size, activities.size
        params = {"shape": (m, n), "factor": -op.learning_rate * low.dt / n}
        inputs = [error, activities]
        (delta,) = low.node(PES_DELTA, inputs, [m * n], params, label=str(op))
        low.update(op.delta, delta)
