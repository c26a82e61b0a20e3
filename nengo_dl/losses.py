"""Losses for ``Simulator.compile``, besides those of Keras.

Importing this module imports Keras, which takes seconds.
"""

from __future__ import annotations

from typing import Any, Literal

import keras
import numpy as np
from keras import ops
from nengo.exceptions import ValidationError

__all__ = ["Regularize", "nan_mse"]


@keras.saving.register_keras_serializable("nengo_dl")
def nan_mse(y_true: Any, y_pred: Any) -> Any:
    r"""Mean squared error in which targets that are NaN count as zero error.

    .. math:: \frac{1}{d} \sum_i [y_i \text{ is a number}] (y_i - \hat y_i)^2

    The mean is over all entries of the last axis, those without a target included. Use
    it where there are targets for some time steps or some dimensions only.

    Parameters
    ----------
    y_true : tensor
        Targets, ``(batch, steps, d)``, with NaN where there is none.
    y_pred : tensor
        Output of a probe, of the same shape.

    Returns
    -------
    tensor
        ``(batch, steps)``.

    Examples
    --------
    >>> with nengo.Network() as net:
    ...     probe = nengo.Probe(nengo.Ensemble(20, 1))
    >>> targets = np.full((4, 10, 1), np.nan)
    >>> targets[:, -1] = 1  # only the last step counts
    >>> with nengo_dl.Simulator(net, minibatch_size=4) as sim:
    ...     sim.compile("adam", loss=nengo_dl.losses.nan_mse)
    ...     history = sim.fit(n_steps=10, y=targets, verbose=0)
    """
    y_pred = ops.convert_to_tensor(y_pred)
    y_true = ops.cast(y_true, y_pred.dtype)
    missing = ops.isnan(y_true)
    # the target is replaced, and not the error: NaN times zero would be a NaN gradient
    errors = y_pred - ops.where(missing, ops.stop_gradient(y_pred), y_true)
    return ops.mean(ops.square(errors), axis=-1)


@keras.saving.register_keras_serializable("nengo_dl")
class Regularize(keras.losses.Loss):
    r"""The norm of a probe's output, whatever the target.

    .. math:: \| y \|_p = \left( \sum_i |y_i|^p \right)^{1/p}

    Keeps activities small during training. Keras wants targets for every probe with a
    loss; any array of the right shape will do. How much the norm counts beside the
    losses of other probes is set by ``loss_weights`` of ``Simulator.compile``.

    Parameters
    ----------
    order : float or "euclidean", optional
        :math:`p`, at least 1; may be ``np.inf``, for the largest absolute value.
        ``"euclidean"`` is 2.
    axis : int, optional
        Along which axis of the output ``(batch, steps, d)`` to take the norm: 1 for time,
        2 for the dimensions of the probe. What is left of other axes is averaged.
        Default: all axes but the batch.
    **kwargs
        ``reduction``, ``name`` and ``dtype``, as for any ``keras.losses.Loss``.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If the order is less than 1, or the axis is that of the batch.

    Examples
    --------
    >>> with nengo.Network() as net:
    ...     ens = nengo.Ensemble(20, 1)
    ...     output, activity = nengo.Probe(ens), nengo.Probe(ens.neurons)
    >>> with nengo_dl.Simulator(net) as sim:
    ...     sim.compile(
    ...         "adam",
    ...         loss={output: "mse", activity: nengo_dl.losses.Regularize(order=1)},
    ...         loss_weights={output: 1, activity: 1e-3},
    ...     )
    """

    def __init__(
        self,
        order: float | Literal["euclidean"] = 2,
        axis: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        order = 2 if order == "euclidean" else order
        if isinstance(order, str | bool) or not order >= 1:
            raise ValidationError(
                f"expected a number of at least 1 (np.inf for the largest absolute "
                f"value), got {order!r}",
                attr="order",
                obj=self,
            )
        if axis in (0, -3):
            raise ValidationError(
                "is the axis of the batch, whose items are independent; expected 1 for "
                "time, 2 for dimensions, or None for both",
                attr="axis",
                obj=self,
            )
        self.order = order
        self.axis = axis

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The norm of each item, ``(batch,)``.

        Parameters
        ----------
        y_true : tensor
            Not used.
        y_pred : tensor
            ``(batch, steps, d)``.
        """
        size = ops.abs(ops.convert_to_tensor(y_pred))
        axis = tuple(range(1, len(size.shape))) if self.axis is None else self.axis
        if np.isinf(self.order):
            norm = ops.max(size, axis=axis)
        elif self.order == 1:
            norm = ops.sum(size, axis=axis)
        else:
            norm = _root(ops.sum(size**self.order, axis=axis), self.order)
        rest = tuple(range(1, len(norm.shape)))
        return ops.mean(norm, axis=rest) if rest else norm

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs to make an equal loss."""
        return {**super().get_config(), "order": self.order, "axis": self.axis}


def _root(total, order):
    """``total ** (1 / order)`` with a gradient of zero, not infinity, at zero."""
    positive = total > 0
    safe = ops.where(positive, total, ops.ones_like(total))
    return ops.where(positive, safe ** (1 / order), ops.zeros_like(total))


def __dir__() -> list[str]:
    return sorted(__all__)  # what completion offers
