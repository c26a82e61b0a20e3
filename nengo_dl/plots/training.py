"""What training reports, epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from nengo.exceptions import ValidationError

from nengo_dl.plots.arrays import numbers
from nengo_dl.plots.axes import axes_or_new, describe, legend

if TYPE_CHECKING:
    from matplotlib.axes import Axes

VALIDATION = "val_"


def training_curves(
    history: Any,
    metrics: str | Sequence[str] = "loss",
    *,
    ax: Axes | None = None,
    label: str | None = None,
    validation_freq: int | Sequence[int] = 1,
    **line: Any,
) -> Axes:
    """Draw losses or metrics against epochs, dashed those on validation data.

    Parameters
    ----------
    history : ~keras.callbacks.History or dict
        What ``Simulator.fit`` or ``Model.fit`` returns, or its ``history``: name -> one
        value for each epoch. ``val_...`` are those of the validation data.
    metrics : str or sequence of str
        Which to draw, without ``val_``; for several probes, with the probe's name
        (``"probe_accuracy"``).
    ax : ~matplotlib.axes.Axes, optional
        Where to draw; None: in a new figure.
    label : str, optional
        What the training is called in the legend, where axes show several of them.
    validation_freq : int or sequence of int
        As ``fit`` was given it: the validation data were looked at in each epoch, in
        every second one, or in the epochs of these numbers.
    **line
        Of ``Axes.plot``.

    Returns
    -------
    ~matplotlib.axes.Axes

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If this is no history, or has no such metric.

    Examples
    --------
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> x, y = np.ones((40, 3)), np.ones((40, 1))
    >>> history = model.fit(x, y, epochs=5, validation_split=0.2, verbose=0)
    >>> ax = nengo_dl.plots.training_curves(history)
    >>> ax.set_yscale("log")
    """
    values = getattr(history, "history", history)
    if not isinstance(values, Mapping):
        raise ValidationError(
            "must be what fit returns, or a dict of metrics and their values; "
            f"got {history!r}",
            attr="history",
        )
    metrics = [metrics] if isinstance(metrics, str) else list(metrics)
    curves = [
        curve
        for metric in metrics
        for curve in _curves(history, values, metric, validation_freq)
    ]
    ax = axes_or_new(ax)
    colors = {}
    several = label is not None or len(curves) > 1
    for metric, validation, epochs, found in curves:
        names = [label] if label is not None else []
        names += [metric] if len(metrics) > 1 else []
        names += ["validation"] if validation else [] if names else ["training"]
        style = {"linestyle": "--", "color": colors.get(metric)} if validation else {}
        given = {**line, **style, "label": ", ".join(names) if several else None}
        (drawn,) = ax.plot(epochs, found, **given)
        colors[metric] = drawn.get_color()
    ax.xaxis.get_major_locator().set_params(integer=True)  # pyright: ignore[reportCallIssue]  # MaxNLocator
    describe(ax, "epoch", metrics[0].replace("_", " ") if len(metrics) == 1 else None)
    legend(ax)
    return ax


def _curves(history, values, metric, validation_freq):
    """Yield (metric, whether it is of the validation data, epochs, values)."""
    known = [name for name in values if not name.startswith(VALIDATION)]
    if metric not in known:
        raise ValidationError(
            f"there is no {metric!r} in the history; it has "
            f"{', '.join(map(repr, known)) or 'nothing'}",
            attr="metrics",
        )
    trained = _metric(values, metric)
    epochs = 1 + np.asarray(getattr(history, "epoch", np.arange(len(trained))), int)
    if len(epochs) != len(trained):
        raise ValidationError(
            f"has {len(epochs)} epochs, but {len(trained)} values of {metric!r}",
            attr="history",
        )
    yield metric, False, epochs, trained
    if VALIDATION + metric in values:
        checked = _metric(values, VALIDATION + metric)
        if np.ndim(validation_freq) == 0:
            at = epochs[epochs % validation_freq == 0]
        else:
            at = epochs[np.isin(epochs, list(validation_freq))]
        if len(at) != len(checked):
            raise ValidationError(
                f"there are {len(checked)} values of {VALIDATION + metric!r} in "
                f"{len(epochs)} epochs; with {validation_freq!r} there would be "
                f"{len(at)}. It has to be what fit was given",
                attr="validation_freq",
            )
        yield metric, True, at, checked


def _metric(values, name):
    """The values of a metric, one for each epoch."""
    found = numbers(values[name], f"history[{name!r}]")
    if found.ndim != 1:
        raise ValidationError(
            f"{name!r} must have one number for each epoch; got shape {found.shape}",
            attr="history",
        )
    return found
