"""Recursive least squares: online learning of decoders with their second moments."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from nengo.builder.learning_rules import SimRLS

from nengo_dl.compiler.lowering import OperatorRule, lowers
from nengo_dl.compiler.traits import Array, ArrayNamespace, Kernel, Params
from nengo_dl.kernels.algebra import VARYING_MATVEC
from nengo_dl.kernels.learning.outer import OUTER_PRODUCT, spread
from nengo_dl.notices import label_of

if TYPE_CHECKING:
    from nengo_dl.compiler.lowering import Lowering


class RLSGain(Kernel):
    r"""How much an error changes the weight of each neuron.

    .. math:: k = \frac{g}{1 + r^T g}, \quad g = P r

    With the inverse correlations after the step, :math:`P' = P - k g^T`, this is
    :math:`P' r`.

    Parameters: ``size``, ``n``. Inputs: the filtered activities ``r`` and their product
    with the inverse correlations ``g``, ``(n, batch)``. Output: ``k``, ``(n, batch)``.
    """

    name = "RLS"
    zero_preserving = True
    operations = 4

    def step(
        self, xp: ArrayNamespace, p: Params, activities: Array, product: Array
    ) -> tuple[Array, ...]:
        """One sum over the neurons of each merged rule."""
        shape = (p.groups, p.size, -1)
        total = xp.sum(xp.reshape(activities * product, shape), 1)
        divisor = xp.reshape(total + 1, (p.groups, 1, -1))
        gain = xp.reshape(product, shape) / divisor
        return (xp.reshape(gain, (p.groups * p.size, -1)),)


RLS_GAIN = RLSGain()

#: the way out where weights do not belong to what the error is of
DECODED = (
    "RLS takes the error of each output as it is: let it learn decoders (no "
    "`solver.weights`, no neurons after it), or use PES, which encodes the error"
)


@lowers(SimRLS)
class LowerRLS(OperatorRule):
    r"""Updates ``delta``, which the next step adds to the weights, and ``inv_gamma``.

    .. math::

        P(t) &= P(t - 1) - k g^T \\
        \Delta_{ij} &= -E_i k_j

    with :math:`g` and :math:`k` of `RLSGain`: a product of a matrix and a vector, and
    outer products.

    References: Sussillo & Abbott (2009), Generating coherent patterns of activity from
    chaotic neural networks, Neuron 63(4).
    """

    def lower(self, op: SimRLS, low: Lowering) -> None:
        """Four nodes; what is learned is a product of two vectors."""
        m, n = op.delta.shape
        activities = low.read(op.pre_filtered)
        error = spread(op, "the error", low.read(op.error), m, DECODED)
        label, size, state = label_of(op), activities.size, low.read(op.inv_gamma)
        inputs, params = [state, activities], {"shape": (size, size)}
        (product,) = low.node(VARYING_MATVEC, inputs, [size], params, label=label)
        inputs, params = [activities, product], {"size": size}
        (gain,) = low.node(RLS_GAIN, inputs, [size], params, label=label)

        params = {"shape": (size, size), "factor": -1.0}
        inputs = [gain, product]
        (change,) = low.node(OUTER_PRODUCT, inputs, [size**2], params, label=label)
        places, terms = np.arange(size**2), np.concatenate([state.ravel(), change])
        scale = np.ones(terms.size)
        next_state = low.affine(np.zeros(size**2), np.tile(places, 2), terms, scale)
        low.update(op.inv_gamma, next_state)

        gain = spread(op, "the presynaptic activity", gain, n)
        params = {"shape": (m, n), "factor": -1.0}
        (delta,) = low.node(OUTER_PRODUCT, [error, gain], [m * n], params, label=label)
        low.update(op.delta, delta)
