"""What networks do in time: spikes, decoded values, and what neurons respond to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import nengo
import numpy as np
from nengo.exceptions import ValidationError
from nengo.utils import ensemble as nengo_ensemble

from nengo_dl.plots.arrays import indices, is_batch, numbers, one_item, step_times
from nengo_dl.plots.axes import axes_or_new, describe, legend, span

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

#: so many lines get an entry in the legend, and so many rows the number of their neuron
MOST_NAMES = 20

#: how neurons are sorted, and what the axis says of it
ORDERS = {"rate": "by rate", "time": "by first spike"}


def raster(
    times: ArrayLike,
    spikes: ArrayLike,
    *,
    ax: Axes | None = None,
    item: int = 0,
    neurons: Any = None,
    sort: str | None = None,
    **line: Any,
) -> Axes:
    """Draw a mark for each time step in which a neuron fires.

    Parameters
    ----------
    times : float or array_like
        In seconds: the length of a step, or the time of each, as ``sim.trange()`` gives
        it.
    spikes : array_like
        What a probe of ``ensemble.neurons`` without a synapse has seen, of shape
        ``(steps, neurons)`` or ``(batch, steps, neurons)``. All values but zero are
        spikes; several in one step are one mark.
    ax : ~matplotlib.axes.Axes, optional
        Where to draw; None: in a new figure.
    item : int
        Which item of a minibatch is drawn.
    neurons : int or array_like, optional
        Some of the neurons only: this number of the most active ones; or those with
        these numbers, from bottom to top, such as
        ``nengo.utils.ensemble.sorted_neurons(ens, sim)``; or a mask.
    sort : {None, "rate", "time"}
        ``"rate"`` puts the most active neurons on top, ``"time"`` those that are the
        first to fire at the bottom.
    **line
        Of ``Axes.plot``, such as ``color`` and ``linewidth``.

    Returns
    -------
    ~matplotlib.axes.Axes

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If the shapes do not fit, or an argument has another value.

    Notes
    -----
    `nengo.utils.matplotlib.rasterplot` makes a line of markers for each neuron, which get
    colors of their own and a size that fits the figure as it is then. Here all marks are
    one line, as high as 0.8 neurons in whatever figure, and drawn as fast for thousands
    of neurons.

    Examples
    --------
    >>> with nengo.Network(seed=0) as net:
    ...     ens = nengo.Ensemble(40, 1)
    ...     nengo.Connection(nengo.Node(lambda t: np.sin(20 * t)), ens)
    ...     spikes = nengo.Probe(ens.neurons)
    >>> with nengo_dl.Simulator(net) as sim:
    ...     sim.run(0.3)
    >>> ax = nengo_dl.plots.raster(sim.trange(), sim.data[spikes], sort="time")
    """
    fired = one_item(spikes, item, "spikes") != 0
    times = step_times(times, len(fired), "spikes")
    rows, notes = _rows(fired, neurons, sort)
    ax = axes_or_new(ax)
    step, row = np.nonzero(fired[:, rows])
    # one line with gaps: from below to above the row of the neuron, and no further
    x = np.repeat(times[step], 3)
    y = (row[:, None] + np.array([-0.4, 0.4, np.nan])).ravel()
    x[2::3] = np.nan
    style = {"color": "black", "linewidth": 0.8, "solid_capstyle": "butt"}
    ax.plot(x, y, **{**style, **line})
    span(ax, times)
    if len(rows):
        ax.set_ylim(-0.6, len(rows) - 0.4)
    if len(rows) <= MOST_NAMES:
        ax.set_yticks(np.arange(len(rows)), labels=rows)
    title = f"item {item}" if is_batch(spikes) else None
    describe(ax, "time (s)", ", ".join(["neuron", *notes]), title)
    legend(ax)
    return ax


def _rows(fired, neurons, sort):
    """The neurons to draw, from bottom to top, and what to say of their choice."""
    n_neurons = fired.shape[1]
    counts = fired.sum(axis=0)
    notes = []
    if neurons is None:
        rows = np.arange(n_neurons)
    elif np.ndim(neurons) == 0:
        if not isinstance(neurons, int | np.integer) or neurons < 1:
            raise ValidationError(
                "must be the number of neurons to draw, or the numbers of these neurons; "
                f"got {neurons!r}",
                attr="neurons",
            )
        rows = np.sort(np.argsort(-counts, kind="stable")[:neurons])
        if len(rows) < n_neurons:
            notes.append(f"the {len(rows)} most active of {n_neurons}")
    else:
        rows = indices(neurons, n_neurons)
        if len(rows) > MOST_NAMES and np.any(rows != np.arange(len(rows))):
            notes.append(f"{len(rows)} of {n_neurons}, as given")
    if sort is None:
        return rows, notes
    if sort not in ORDERS:
        raise ValidationError(
            f"must be None, {' or '.join(map(repr, ORDERS))}; got {sort!r}", attr="sort"
        )
    first = np.where(counts > 0, fired.argmax(axis=0), len(fired))
    key = counts if sort == "rate" else first
    return rows[np.argsort(key[rows], kind="stable")], [*notes, ORDERS[sort]]


def traces(
    times: ArrayLike,
    values: ArrayLike,
    *,
    ax: Axes | None = None,
    item: int = 0,
    target: ArrayLike | None = None,
    synapse: Any = None,
    labels: Sequence[str] | None = None,
    **line: Any,
) -> Axes:
    """Draw values against time, a line for each dimension.

    Parameters
    ----------
    times : float or array_like
        In seconds: the length of a step, or the time of each, as ``sim.trange()`` gives
        it.
    values : array_like
        What a probe has seen: ``(steps,)``, ``(steps, size)`` or
        ``(batch, steps, size)``.
    ax : ~matplotlib.axes.Axes, optional
        Where to draw; None: in a new figure.
    item : int
        Which item of a minibatch is drawn.
    target : array_like, optional
        What the values should be, dashed, in the same shape; with one step, if it does
        not change.
    synapse : float or ~nengo.synapses.Synapse, optional
        Smooths the values, not the target, as a probe with this synapse would have done;
        a number is the time constant of a lowpass filter.
    labels : str or sequence of str, optional
        Names of the dimensions in the legend. None: their numbers, if there are several
        of them and not more than 20.
    **line
        Of ``Axes.plot``, such as ``color`` and ``linewidth``, for the values.

    Returns
    -------
    ~matplotlib.axes.Axes

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If the shapes do not fit, or an argument has another value.

    Examples
    --------
    >>> t = np.arange(1, 501) * 0.001
    >>> target = np.stack([np.sin(12 * t), np.cos(12 * t)], axis=1)
    >>> noisy = target + np.random.RandomState(0).normal(scale=0.3, size=(500, 2))
    >>> ax = nengo_dl.plots.traces(
    ...     t, noisy, target=target, synapse=0.02, labels=["sine", "cosine"]
    ... )
    """
    shown = one_item(values, item, "values")
    times = step_times(times, len(shown), "values")
    if target is not None:
        target = _target(target, item, shown)
    if synapse is not None:
        shown = _filtered(shown, times, synapse)
    n_lines = shown.shape[1]
    names = _names(labels, n_lines, "values" if target is not None else None)
    ax = axes_or_new(ax)
    drawn = [
        ax.plot(times, column, **{"label": name, **line})[0]
        for column, name in zip(shown.T, names, strict=True)
    ]
    for column, of in zip(() if target is None else target.T, drawn):
        color = "black" if n_lines == 1 else of.get_color()
        label = "target" if of is drawn[0] else None
        ax.plot(times, column, color=color, linestyle="--", linewidth=1, label=label)
    span(ax, times)
    describe(ax, "time (s)", "value", f"item {item}" if is_batch(values) else None)
    legend(ax)
    return ax


def _target(target, item, shown):
    """The target of each value that is drawn."""
    found = one_item(target, item, "target")
    if found.shape not in (shown.shape, (1, shown.shape[1])):
        raise ValidationError(
            f"must have as many steps and dimensions as the values, {shown.shape}, or "
            f"one step; got {found.shape}",
            attr="target",
        )
    return np.broadcast_to(found, shown.shape)


def _filtered(values, times, synapse):
    """Values behind a synapse that starts at zero."""
    synapse = nengo.synapses.SynapseParam("synapse").coerce(None, synapse)
    dt = times[1] - times[0] if len(times) > 1 else times[0]
    return synapse.filt(values, dt=dt, axis=0)


def _names(labels, n_lines, alone):
    """The name of each line in the legend; None: no entry."""
    if labels is None:
        if n_lines == 1:
            return [alone]
        return [str(i) if n_lines <= MOST_NAMES else None for i in range(n_lines)]
    labels = [labels] if isinstance(labels, str) else [str(label) for label in labels]
    if len(labels) != n_lines:
        raise ValidationError(
            f"there must be one for each of the {n_lines} dimensions; got {labels!r}",
            attr="labels",
        )
    return labels


def tuning_curves(
    ens: nengo.Ensemble,
    sim: Any,
    *,
    ax: Axes | None = None,
    inputs: ArrayLike | None = None,
    neurons: Any = None,
    **line: Any,
) -> Axes:
    """Draw how the firing rates of an ensemble depend on its input.

    Of an ensemble with one dimension these are the tuning curves, over the values that
    it represents. Of one with more dimensions, each neuron is given its own preferred
    direction. The parameters are those that the simulator has at present, so curves may
    be compared before and after training.

    Parameters
    ----------
    ens : ~nengo.Ensemble
        Of which ensemble.
    sim : Simulator
        A simulator that has it, of Nengo or NengoDL.
    ax : ~matplotlib.axes.Axes, optional
        Where to draw; None: in a new figure.
    inputs : array_like, optional
        At which inputs, ``(n,)``; None: from ``-radius`` to ``radius`` in one dimension,
        and from -1 to 1 in the preferred directions.
    neurons : array_like, optional
        Some of the neurons only: their numbers, or a mask.
    **line
        Of ``Axes.plot``.

    Returns
    -------
    ~matplotlib.axes.Axes

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If there are no such neurons, or the inputs have another shape.

    Examples
    --------
    >>> with nengo.Network(seed=0) as net:
    ...     ens = nengo.Ensemble(20, 1)
    >>> with nengo_dl.Simulator(net) as sim:
    ...     ax = nengo_dl.plots.tuning_curves(ens, sim)
    """
    if inputs is not None:
        inputs = numbers(inputs, "inputs")
        if inputs.ndim != 1:
            raise ValidationError(
                f"must have the shape (n,); got {inputs.shape}", attr="inputs"
            )
    if ens.dimensions == 1:
        at = None if inputs is None else inputs[:, None]
        at, rates = nengo_ensemble.tuning_curves(ens, sim, inputs=at)
        at, xlabel = at[:, 0], "represented value"
    else:
        at, rates = nengo_ensemble.response_curves(ens, sim, inputs=inputs)
        xlabel = "input in the preferred direction"
    # what neurons put out is their rate times the amplitude of a spike
    rates = rates / getattr(ens.neuron_type, "amplitude", 1)
    if neurons is not None:
        rates = rates[:, indices(neurons, rates.shape[1])]
    ax = axes_or_new(ax)
    ax.plot(at, rates, **{"linewidth": 1, **line})
    describe(ax, xlabel, "firing rate (Hz)", ens.label)
    return ax


def firing_rates(spikes: ArrayLike, amplitude: float = 1) -> Any:
    r"""The mean firing rate of each neuron.

    .. math:: r = \frac{1}{T} \sum_t \frac{|s_t|}{c}

    Nothing is drawn.

    Parameters
    ----------
    spikes : array_like
        :math:`s`, what a probe of ``ensemble.neurons`` without a synapse has seen, of
        shape ``(..., steps, neurons)``. A spike has the value ``amplitude / dt``, and
        several in one step the sum of theirs, so the length of a step does not matter.
    amplitude : float
        :math:`c`, the amplitude of the neuron type. That of a layer whose firing rates
        `nengo_dl.Converter` has scaled is divided by the same factor.

    Returns
    -------
    ~numpy.ndarray
        :math:`r` in Hz, ``(..., neurons)``.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If there is no axis for steps, or the amplitude is not positive.

    Examples
    --------
    >>> spikes = np.zeros((100, 2))  # 0.1 seconds of two neurons
    >>> spikes[[10, 40, 70], 1] = 1 / 0.001
    >>> nengo_dl.plots.firing_rates(spikes)
    array([ 0., 30.])
    """
    spikes = numbers(spikes, "spikes")
    if spikes.ndim < 2 or spikes.shape[-2] == 0:
        raise ValidationError(
            f"must have the shape (..., steps, neurons); got {spikes.shape}",
            attr="spikes",
        )
    if not amplitude > 0:
        raise ValidationError(f"must be positive; got {amplitude!r}", attr="amplitude")
    return np.abs(spikes).mean(axis=-2, dtype=float) / amplitude
