"""Values whose gradient is that of something else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from nengo.builder.signal import Signal

from nengo_dl.compiler.traits import Array, ArrayNamespace, Kernel, Params

if TYPE_CHECKING:
    from nengo_dl.compiler.lowering import Lowering


class WithGradient(Kernel):
    """A value with the gradient of something else, which is about the same.

    For training only, where it joins spikes with rates. Parameters: none. Inputs: the
    value; what gets the gradient in its place. All are ``(n, batch)``.
    """

    name = "with_gradient"
    operations = 1
    cut_inputs = (0,)

    def step(
        self, xp: ArrayNamespace, p: Params, value: Array, like: Array
    ) -> tuple[Array, ...]:
        """One time step."""
        return (xp.with_gradient(value, like),)


WITH_GRADIENT = WithGradient()


def with_gradients(
    low: Lowering, values: Mapping[Signal, np.ndarray], likes: Mapping[Signal, np.ndarray]
) -> dict[Signal, np.ndarray]:
    """Signals with the gradients of others.

    Parameters
    ----------
    low : Lowering
    values : dict
        Signal -> elements.
    likes : dict
        The same, for those signals whose gradients are replaced.

    Returns
    -------
    dict
        Signal -> elements, equal to ``values``.
    """
    joined = dict(values)
    for signal, like in likes.items():
        pair = [values[signal], like]
        (joined[signal],) = low.node(WITH_GRADIENT, pair, [like.size], {})
    return joined
