"""Older names of what is in `nengo_dl.losses` now, for scripts for NengoDL 2.

They are for ``Simulator.train`` and ``Simulator.loss``, which take functions of outputs
and targets in this order; losses for ``Simulator.compile`` have targets first.
"""

from __future__ import annotations

from typing import Any

from keras import ops

from nengo_dl import losses
from nengo_dl.notices import warn

__all__ = ["Regularize", "mse"]


def mse(outputs: Any, targets: Any) -> Any:
    """Mean squared error, in which targets that are NaN count as zero error.

    Parameters
    ----------
    outputs, targets : tensor
        ``(batch, steps, d)``.

    Returns
    -------
    tensor
        The mean over everything, a scalar.

    Warns
    -----
    DeprecationWarning
        If it is called directly; as an ``objective`` it needs no call.
    """
    warn(
        "nengo_dl.objectives.mse(outputs, targets) is deprecated; write "
        "nengo_dl.losses.nan_mse(targets, outputs), which gives the error of each step",
        DeprecationWarning,
    )
    return ops.mean(losses.nan_mse(targets, outputs))


class Regularize:
    """The norm of outputs as an objective, see `nengo_dl.losses.Regularize`.

    Parameters
    ----------
    order : float, optional
        Order of the norm.
    axis : int, optional
        Along which axis of ``(batch, steps, d)``; default: all but the batch.
    weight : float, optional
        What the norm is multiplied with.

    Warns
    -----
    DeprecationWarning
        Always; it says what to write instead.
    """

    def __init__(
        self, order: float = 2, axis: int | None = None, weight: float | None = None
    ):
        warn(
            f"nengo_dl.objectives.Regularize(order={order}, axis={axis}, "
            f"weight={weight}) is deprecated; write nengo_dl.losses.Regularize("
            f"order={order}, axis={axis}) as a loss for Simulator.compile"
            + ("" if weight is None else f", with loss_weights={{probe: {weight}}}"),
            DeprecationWarning,
        )
        self.order, self.axis, self.weight = order, axis, weight
        self._loss = losses.Regularize(order=order, axis=axis)

    def __call__(self, outputs: Any) -> Any:
        """The weighted norm, averaged over the items of the batch; a scalar."""
        norm = ops.mean(self._loss.call(None, outputs))
        return norm if self.weight is None else self.weight * norm
