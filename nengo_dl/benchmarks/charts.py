"""Charts of measurements, with matplotlib."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

COLORS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377")
"""Distinguishable for most people, also without colors (P. Tol, 2021)."""


def require_matplotlib() -> None:
    """Make sure that charts can be drawn.

    Raises `ImportError` if matplotlib is missing; says how to get it.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "charts are drawn with matplotlib, which is not installed; "
            "pip install 'nengo-dl[benchmarks]' brings it"
        ) from error


def draw(path: str, plot: Callable, rows: Sequence[Mapping]) -> None:
    """Make a chart and write it to a file.

    ``path``: the file; its suffix says in which format (``.svg``, ``.png``, ``.pdf``).
    ``plot``: ``plot(figure, rows)`` draws it. ``rows``: what was measured.
    """
    require_matplotlib()
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    # the same figures give the same file
    with rc_context({"svg.hashsalt": "nengo_dl", "font.size": 9}):
        figure = Figure(figsize=(8, 4.5), layout="constrained")
        plot(figure, rows)
        metadata = {"Date": None} if str(path).endswith(".svg") else None
        figure.savefig(path, metadata=metadata)


def grouped_bars(
    axes: Any,
    groups: Sequence[str],
    series: Mapping[str, Sequence[tuple[float, float, float]]],
    unit: str,
    log: bool = True,
) -> None:
    """Bars side by side in groups, with error bars.

    ``groups``: what stands below each group. ``series``: name -> for each group (value,
    low, high). ``unit``: of the values. ``log``: whether the axis is logarithmic.
    """
    x, width = np.arange(len(groups)), 0.8 / max(1, len(series))
    for i, (name, values) in enumerate(series.items()):
        value, low, high = np.array(values, dtype=float).T
        at = x + (i - (len(series) - 1) / 2) * width
        errors = np.clip([value - low, high - value], 0, None).tolist()
        color = COLORS[i % len(COLORS)]
        axes.bar(at, value, width, yerr=errors, capsize=2, label=name, color=color)
    axes.set_xticks(x, groups, rotation=30, ha="right")
    axes.set_ylabel(unit)
    if log:
        axes.set_yscale("log")
    axes.legend()


def ratio_bars(figure: Any, rows: Sequence[Mapping]) -> None:
    """A bar for the ratio of each row, with its goal as a mark.

    ``rows``: with "case", "ratio", and "ratio_low" and "ratio_high" for the error bars;
    "limit" if there is a goal.
    """
    rows = [row for row in rows if row.get("ratio") is not None]
    axes, y = figure.add_subplot(), np.arange(len(rows))
    ratios = np.array([row["ratio"] for row in rows], dtype=float)
    low = [row.get("ratio_low") or row["ratio"] for row in rows]
    high = [row.get("ratio_high") or row["ratio"] for row in rows]
    errors = np.clip([ratios - low, high - ratios], 0, None).tolist()
    axes.barh(y, ratios, xerr=errors, capsize=2, color=COLORS[0])
    limits = [(i, row["limit"]) for i, row in enumerate(rows) if row.get("limit")]
    if limits:
        at, values = zip(*limits, strict=True)
        axes.plot(values, at, "|", color=COLORS[1], markersize=18, label="goal")
        axes.legend()
    axes.set_yticks(y, [f"{row['case']}\n({row['beside']})" for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel("time as a fraction of the other's")
