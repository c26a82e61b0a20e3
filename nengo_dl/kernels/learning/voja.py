"""Vector Oja: encoders that turn to the inputs that their neurons fire at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from nengo.builder.learning_rules import SimVoja

from nengo_dl.compiler.costs import LARGE_MATRIX
from nengo_dl.compiler.lowering import OperatorRule, lowers
from nengo_dl.compiler.traits import Array, ArrayNamespace, Params
from nengo_dl.kernels.learning.outer import (
    Change,
    columns,
    flat,
    matrices,
    rows,
    spread,
    ways,
)

if TYPE_CHECKING:
    from nengo_dl.compiler.lowering import Lowering


class VojaDelta(Change):
    r"""The change of the scaled encoders that one step of Voja asks for.

    .. math:: \Delta_{ij} = \kappa\, dt\; L\, b_i (s_i x_j - E_{ij})

    Parameters: ``shape``, ``(m, n)``; ``factor``, :math:`\kappa\, dt`; ``scale``,
    :math:`s`, gain over radius of each neuron, once for each entry of its row. Inputs:
    filtered activities ``b``, ``(m, batch)``; the decoded input ``x``, ``(n, batch)``;
    the scaled encoders ``E``, ``(m * n, batch)``; the learning signal ``L``,
    ``(1, batch)``. Output: ``(m * n, batch)``, row by row.

    References: Voelker, Crawford & Eliasmith (2014), Learning large-scale
    heteroassociative memories in spiking neurons, Unconventional Computation and
    Natural Computation.
    """

    name = "Voja"
    vectors = ("scale",)
    zero_preserving = True
    zero_inputs = (0,)
    merge_limit = LARGE_MATRIX
    operations = 5
    by_item = (0, 1, 3)

    def step(
        self,
        xp: ArrayNamespace,
        p: Params,
        post: Array,
        decoded: Array,
        encoders: Array,
        learning: Array,
    ) -> tuple[Array, ...]:
        """What belongs to a neuron is computed before anything of the matrix's size."""
        m, n = p.shape
        signal = xp.reshape(learning * p.factor, (p.groups, 1, -1))
        gain = xp.reshape(post, (p.groups, m, -1)) * signal
        scale = p.scale
        if len(getattr(scale, "shape", ())) > 0:  # not one number for all
            scale = xp.reshape(scale, (p.groups, m, n, 1))
        encoders = matrices(xp, p, encoders)
        if self.items is None or post.shape[1] == 1:
            distance = rows(xp, p, decoded) * scale - encoders
            return (flat(xp, p, columns(xp, p, gain) * distance),)
        back = columns(xp, p, self.joined(xp, gain)) * encoders
        return (flat(xp, p, self.outer(xp, p, gain, decoded) * scale - back),)


VOJA_DELTAS = ways(VojaDelta)


@lowers(SimVoja)
class LowerVoja(OperatorRule):
    """Updates ``delta``, which the next step adds to the encoders."""

    def lower(self, op: SimVoja, low: Lowering) -> None:
        """One node from activities, decoded input, encoders and learning signal."""
        m, n = op.delta.shape
        inputs = [
            spread(op, "the postsynaptic activity", low.read(op.post_filtered), m),
            spread(op, "the decoded input", low.read(op.pre_decoded), n),
            low.read(op.scaled_encoders),
            spread(op, "the learning signal", low.read(op.learning_signal), 1),
        ]
        scale = np.broadcast_to(np.ravel(op.scale), (m,)).astype(np.float64)
        params = {
            "shape": (m, n),
            "factor": op.learning_rate * low.dt,
            "scale": np.repeat(scale, n),
        }
        kernel = VOJA_DELTAS[low.joined(op.delta)]
        (delta,) = low.node(kernel, inputs, [m * n], params, label=op)
        low.update(op.delta, delta)
