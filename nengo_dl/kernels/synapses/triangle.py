"""The triangular synapse: a finite impulse response."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import numpy as np
from nengo.synapses import Triangle

from nengo_dl.compiler.traits import Array, ArrayNamespace, Kernel, Params
from nengo_dl.kernels.processes.base import process_rules

if TYPE_CHECKING:
    from nengo_dl.compiler.graph import Node
    from nengo_dl.compiler.lowering import Lowering


class TappedDelayLine(Kernel):
    r"""A weighted sum of an input and of what it was in the steps before.

    .. math:: y_t = \sum_{k=0}^{K} h_k u_{t-k}

    Parameters: ``taps`` (tuple), :math:`h`. Inputs: ``u``, ``(n, batch)``, then the
    inputs of the :math:`K` steps before, the latest first, ``(K n, batch)``. Outputs:
    ``y``, then those inputs for the next step. Delay lines of one form are merged.
    """

    name = "delay_line"
    zero_preserving = True

    def merge_key(self, node: Node) -> Hashable:
        """Only lines of equally many signals lie side by side."""
        return (super().merge_key(node), node.size)

    def step(
        self, xp: ArrayNamespace, p: Params, u: Array, line: Array
    ) -> tuple[Array, ...]:
        """One time step."""
        past, batch = len(p.taps) - 1, line.shape[1]
        n = u.shape[0] // p.groups
        if u.shape[1] != batch:  # a constant
            u = xp.broadcast(u, (u.shape[0], batch))
        next_state = []
        for g in range(p.groups):
            first = g * n * past
            next_state.append(u[g * n : (g + 1) * n])
            if past > 1:
                next_state.append(line[first : first + n * (past - 1)])
        weights = xp.constant(np.array(p.taps[1:]).reshape(1, 1, past))
        lines = xp.reshape(line, (p.groups, past, n * batch))
        late = xp.reshape(xp.matmul(weights, lines), u.shape)
        return u * p.taps[0] + late, xp.concat(next_state)


DELAY_LINE = TappedDelayLine()


@process_rules.register(Triangle)
def lower_triangle(op: Any, low: Lowering) -> np.ndarray:
    """The output of a triangle; the inputs of the last steps go to the next one.

    Core keeps these, times the smallest weight, in a ring ``X`` whose latest entry is the
    first, and makes the output ``Y`` of its value in the step before. Here it is the sum
    itself, so that rounding errors do not add up.
    """
    n_taps, _, smallest = op.process._get_coefficients(low.dt)
    taps = np.arange(n_taps, 0, -1.0)
    u = low.read(op.input).ravel()
    u = low.affine(np.zeros(u.size), np.arange(u.size), u, np.full(u.size, smallest))
    ring, output = op.state["X"], op.state["Y"]
    low.turned[ring.base] = None  # core moves around in it
    row = -np.arange(n_taps) % n_taps  # of the ring: that of the input k steps ago
    y = u
    if n_taps > 1:
        line = low.previous(ring).reshape(n_taps, u.size)[row[:-1]]
        params, sizes = {"taps": tuple(taps.tolist())}, [u.size, line.size]
        y, kept = low.node(DELAY_LINE, [u, line.ravel()], sizes, params, label=op)
        next_state = np.empty((n_taps, u.size), np.int64)
        next_state[row] = np.concatenate([kept.reshape(line.shape), line[-1:]])
        low.update(ring, next_state)
    kept = low.value(ring).reshape(n_taps, u.size)[row]
    rest = low.value(output).ravel() - taps @ kept  # of what came before all these
    if not rest.any():
        return y
    return low.affine(rest, np.arange(u.size), y, np.ones(u.size))
