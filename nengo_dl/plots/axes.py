"""Axes to draw into, and what is written around them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nengo.exceptions import ValidationError

from nengo_dl.plots.arrays import as_fractions

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: lines for values to compare with, the usual one first
REFERENCE_STYLES = (":", "--", "-.")


def axes_or_new(ax: Any) -> Axes:
    """The given axes, or those of a new figure.

    Raises `ImportError` if there is no matplotlib; says how to get it. Raises
    `ValidationError` if ``ax`` is something else.
    """
    if ax is None:
        try:
            from matplotlib import pyplot
        except ImportError as error:
            raise ImportError(
                "nengo_dl.plots draws with matplotlib, which is not installed; install "
                'it with the extra of that name: pip install "nengo-dl[plots]"'
            ) from error
        _, ax = pyplot.subplots(layout="constrained")
    if not callable(getattr(ax, "plot", None)) or not hasattr(ax, "get_xlabel"):
        raise ValidationError(
            "must be the axes of a matplotlib figure, such as figure.subplots() gives; "
            f"got {ax!r}",
            attr="ax",
        )
    return ax


def describe(
    ax: Any,
    xlabel: str | None = None,
    ylabel: str | None = None,
    title: str | None = None,
) -> None:
    """Label axes, where they have no label yet.

    Axes that share theirs with others below, and therefore show no numbers, get no
    label for them either.
    """
    if xlabel and not ax.get_xlabel():
        if _has_numbers(ax.xaxis):
            ax.set_xlabel(xlabel)
    if ylabel and not ax.get_ylabel():
        if _has_numbers(ax.yaxis):
            ax.set_ylabel(ylabel)
    if title and not ax.get_title():
        ax.set_title(title)


def _has_numbers(axis):
    """Whether an axis shows numbers (on the left, or below)."""
    return axis.get_major_ticks(1)[0].label1.get_visible()


def span(ax: Any, times: Any) -> None:
    """Show all steps, from where the first one starts."""
    if len(times) > 1:
        ax.set_xlim(2 * times[0] - times[1], times[-1])


def legend(ax: Any) -> None:
    """Add a legend, if there is anything to explain."""
    if ax.get_legend_handles_labels()[0]:
        ax.legend()


def draw_references(ax: Any, references: Mapping[str, float] | None) -> None:
    """Horizontal lines at fractions, on an axis in percent.

    Raises `ValidationError` if they are no dict of name -> fraction.
    """
    if not isinstance(references, Mapping):
        raise ValidationError(
            "must be a dict of names and fractions, such as {'chance': 0.1}; "
            f"got {references!r}",
            attr="references",
        )
    for index, (name, value) in enumerate(references.items()):
        style = REFERENCE_STYLES[index % len(REFERENCE_STYLES)]
        (value,) = as_fractions([value], f"references[{name!r}]")
        ax.axhline(100 * value, color="black", linestyle=style, label=str(name))
