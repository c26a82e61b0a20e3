"""How often answers are right: after each step, and by firing rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from nengo.exceptions import ValidationError

from nengo_dl.plots.arrays import as_fractions, numbers, step_times
from nengo_dl.plots.axes import axes_or_new, describe, draw_references, legend

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

YLABEL = "correct answers (%)"


def step_accuracy(
    outputs: ArrayLike, labels: ArrayLike, *, mean: bool = False
) -> np.ndarray:
    r"""How many items of a batch are classified correctly, after each step.

    .. math:: a_t = \frac{1}{N} \sum_i [\arg\max_k y_{itk} = l_i]

    Nothing is drawn; see `accuracy_over_time`.

    Parameters
    ----------
    outputs : array_like
        :math:`y`, ``(batch, steps, classes)``, as ``Simulator.predict`` gives it.
    labels : array_like
        :math:`l`, the right classes as integers: ``(batch,)``, or ``(batch, steps)`` if
        they change. Further axes of length one are ignored, so targets of ``fit`` may be
        given as they are.
    mean : bool
        True: the answer after a step is that of the mean output of all steps up to then.
        False: that of the output itself.

    Returns
    -------
    ~numpy.ndarray
        :math:`a`, fractions from 0 to 1, ``(steps,)``.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If the shapes do not fit.

    Examples
    --------
    >>> outputs = np.array([[[0.1, 0.0], [0.1, 0.3]], [[0.5, 0.4], [0.9, 0.2]]])
    >>> nengo_dl.plots.step_accuracy(outputs, [1, 0])
    array([0.5, 1. ])
    """
    values = numbers(outputs, "outputs")
    if values.ndim != 3 or values.shape[-1] < 2:
        raise ValidationError(
            "must have the shape (batch, steps, classes), with two classes or more; "
            f"got {values.shape}",
            attr="outputs",
        )
    labels = _labels(labels, values)
    if mean:
        n = np.arange(1, values.shape[1] + 1)
        values = np.cumsum(values, axis=1) / n[:, None]
    return np.mean(values.argmax(axis=-1) == labels, axis=0)


def _labels(labels, outputs):
    """Labels that can be compared with the answers: ``(batch, steps)`` or with one."""
    n_items, n_steps, n_classes = outputs.shape
    found = numbers(labels, "labels")
    shape = found.shape
    while found.ndim > 2 and found.shape[-1] == 1:
        found = found[..., 0]
    if found.ndim == 1:
        found = found[:, None]
    if found.shape not in ((n_items, 1), (n_items, n_steps)):
        one_hot = found.shape[-1:] == (n_classes,)
        raise ValidationError(
            f"must have the shape ({n_items},) or ({n_items}, {n_steps}), as outputs of "
            f"shape {outputs.shape} need them; got {shape}"
            + ("; if they are one-hot, labels.argmax(axis=-1) helps" if one_hot else ""),
            attr="labels",
        )
    if np.any(found != np.round(found)) or found.min() < 0 or found.max() >= n_classes:
        raise ValidationError(
            f"must be integers from 0 to {n_classes - 1}, the numbers of the classes; "
            f"got values from {found.min()} to {found.max()}",
            attr="labels",
        )
    return found


def accuracy_over_time(
    times: ArrayLike,
    accuracy: ArrayLike,
    *,
    ax: Axes | None = None,
    references: Mapping[str, float] | None = None,
    **line: Any,
) -> Axes:
    """Draw how often answers are right, against simulated time.

    A network of spiking neurons needs some time to answer. The curve shows how much of
    it: the longer it looks, the more often it is right.

    Parameters
    ----------
    times : float or array_like
        In seconds: the length of a step, or the time of each, as ``sim.trange()`` gives
        it.
    accuracy : array_like
        Fractions from 0 to 1, ``(steps,)``, such as `step_accuracy` returns.
    ax : ~matplotlib.axes.Axes, optional
        Where to draw; None: in a new figure.
    references : dict, optional
        Name -> accuracy for horizontal lines to compare with.
    **line
        Of ``Axes.plot``, such as ``label``.

    Returns
    -------
    ~matplotlib.axes.Axes

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If the lengths differ, or there are no fractions.

    Examples
    --------
    >>> rng = np.random.RandomState(0)
    >>> labels = np.arange(100) % 10
    >>> outputs = np.eye(10)[labels][:, None] + rng.normal(size=(100, 50, 10))
    >>> accuracy = nengo_dl.plots.step_accuracy(outputs, labels, mean=True)
    >>> ax = nengo_dl.plots.accuracy_over_time(
    ...     0.001, accuracy, label="mean output", references={"chance": 0.1}
    ... )
    """
    accuracy = as_fractions(accuracy, "accuracy")
    times = step_times(times, len(accuracy), "accuracy")
    ax = axes_or_new(ax)
    ax.plot(times, 100 * accuracy, **line)
    draw_references(ax, references or {})
    describe(ax, "time (s)", YLABEL)
    legend(ax)
    return ax


def accuracy_over_rates(
    rates: ArrayLike,
    accuracy: ArrayLike,
    *,
    ax: Axes | None = None,
    names: Sequence[str] | None = None,
    references: Mapping[str, float] | None = None,
    log: bool = True,
    **line: Any,
) -> Axes:
    """Draw how often answers are right, against how often neurons fire.

    One point for each of several networks that differ in their firing rates: those that
    `nengo_dl.Converter` makes with different ``scale_firing_rates``, for example. Rates
    are what answers cost.

    Parameters
    ----------
    rates : array_like
        The mean firing rate of each, in Hz, ``(n,)``, in any order; `firing_rates` makes
        them of spikes. May be another cost, such as spikes per neuron; label the axis
        then.
    accuracy : array_like
        Fractions from 0 to 1, ``(n,)``.
    ax : ~matplotlib.axes.Axes, optional
        Where to draw; None: in a new figure.
    names : sequence, optional
        What is written beside each point, ``(n,)``: what was varied.
    references : dict, optional
        Name -> accuracy for horizontal lines to compare with, such as that of the Keras
        model.
    log : bool
        Whether the axis of the rates is logarithmic.
    **line
        Of ``Axes.plot``, such as ``label``.

    Returns
    -------
    ~matplotlib.axes.Axes

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If the lengths differ, there are no fractions, or a rate is not positive on a
        logarithmic axis.

    Examples
    --------
    >>> scales, rates, accuracy = [10, 50, 250], [0.6, 2.9, 14.8], [0.41, 0.93, 0.96]
    >>> ax = nengo_dl.plots.accuracy_over_rates(
    ...     rates, accuracy, names=scales, references={"Keras": 0.97}
    ... )
    """
    accuracy = as_fractions(accuracy, "accuracy")
    rates = numbers(rates, "rates")
    if rates.shape != accuracy.shape:
        raise ValidationError(
            f"there must be one rate for each of the {len(accuracy)} values of "
            f"'accuracy'; got an array of shape {rates.shape}",
            attr="rates",
        )
    if log and np.any(rates <= 0):
        raise ValidationError(
            f"must be positive on a logarithmic axis; got {rates.min()}. log=False makes "
            "the axis linear",
            attr="rates",
        )
    if names is not None and len(names) != len(rates):
        raise ValidationError(
            f"there must be one for each of the {len(rates)} rates; got {len(names)}",
            attr="names",
        )
    ax = axes_or_new(ax)
    order = np.argsort(rates, kind="stable")
    ax.plot(rates[order], 100 * accuracy[order], **{"marker": "o", **line})
    for name, rate, fraction in zip(names or (), rates, accuracy):
        ax.annotate(
            str(name), (rate, 100 * fraction), xytext=(4, -4), va="top",
            textcoords="offset points", fontsize="small",
        )  # fmt: skip
    if log:
        _log_axis(ax)
    draw_references(ax, references or {})
    describe(ax, "mean firing rate (Hz)", YLABEL)
    legend(ax)
    return ax


def _log_axis(ax):
    """Make the lower axis logarithmic, with ordinary numbers at 1, 2, 5, 10, ..."""
    from matplotlib.ticker import LogLocator, NullFormatter

    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter(NullFormatter())
