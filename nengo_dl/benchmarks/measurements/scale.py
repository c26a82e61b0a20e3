"""How costs grow with the size of a network, of a batch, and of a run."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import nengo
import numpy as np

from nengo_dl.benchmarks import charts
from nengo_dl.benchmarks.networks.integrators import integrator
from nengo_dl.benchmarks.networks.many_ensembles import many_ensembles
from nengo_dl.benchmarks.networks.random_web import random_network
from nengo_dl.benchmarks.registry import Names, Row, measurement
from nengo_dl.benchmarks.report import Column
from nengo_dl.benchmarks.runs import built, settle, warm_up
from nengo_dl.benchmarks.timing import (
    check_positive,
    chosen_names,
    exponent,
    median,
    no_collection,
    private_decoder_cache,
    quartiles,
    seconds,
    take_turns,
)
from nengo_dl.simulator import Simulator


@dataclasses.dataclass(frozen=True)
class Axis:
    """Something that is made larger.

    Parameters
    ----------
    sizes : sequence of int
        From small to large.
    network : callable
        The network of a size.
    batched : bool
        Whether the size is that of the batch.
    lengthens : bool
        Whether the size is the number of steps.
    """

    sizes: Sequence[int]
    network: Callable[[int], nengo.Network]
    batched: bool = False
    lengthens: bool = False


AXES: dict[str, Axis] = {
    # neurons in eight ensembles with drawn decoders, because to solve for those of very
    # large ones would take longer than all else; ensembles; posts of each ensemble
    "neurons": Axis(
        (400, 1600, 6400, 25_600, 102_400), lambda n: many_ensembles(8, n // 8, 24)
    ),
    "ensembles": Axis((8, 32, 128, 512, 2048), lambda n: integrator(n, 50)),
    "connections": Axis((1, 2, 4, 8, 16, 32), lambda n: _web(64, n)),
    "batch": Axis((1, 4, 16, 64, 256), lambda n: integrator(16, 50), batched=True),
    "steps": Axis(
        (100, 1000, 10_000, 100_000), lambda n: integrator(16, 50), lengthens=True
    ),
}
"""Everything that can be made larger, by name."""

COST_KEYS = ("build", "first", "run", "core")
"""Costs that exponents are fitted to."""

COLUMNS = (
    Column("axis", "axis", width=11),
    Column("size", "size", ",d", 8),
    Column("operators", "operators", ",d"),
    Column("build s", "build", ",.3f"),
    Column("first run s", "first", ",.3f"),
    Column("run s", "run", ",.4f", 8),
    Column("us/step", "us", ",.1f", 9),
    Column("core run s", "core", ",.4f"),
    Column("core/ours", "speedup", ",.1f"),
)

NOTES = """\
One size changes, all others stay. Run: the median time of the steps (of all items, if
there is a batch; core runs the items one after the other), the two simulators in turn.
First run: as many steps, where the loop may be compiled. Exponents: slopes of straight
lines through the logarithms, over all sizes and, of the run, over the larger half of
them, where the fixed costs are a smaller part; 1 is growth in proportion."""


def _web(n_ensembles, fan_out):
    """Ensembles that project to others; ``n_ensembles * fan_out`` connections."""
    sizes = {"n_ensembles": n_ensembles, "connections_per_ensemble": fan_out}
    return random_network(4, 16, **sizes)


def _exponents(rows: list[Row]) -> dict:
    """Fitted exponents of each cost, for each axis."""
    found = {}
    for name in dict.fromkeys(row["axis"] for row in rows):
        chosen = [row for row in rows if row["axis"] == name]
        if len(chosen) < 2:
            continue
        sizes = [row["size"] for row in chosen]
        slopes = []
        for key in COST_KEYS:
            costs = [row[key] for row in chosen if row.get(key) is not None]
            if len(costs) == len(chosen):
                slopes.append(f"{key} {exponent(sizes, costs):.2f}")
        half = max(2, (len(chosen) + 1) // 2)
        tail = exponent(sizes[-half:], [row["run"] for row in chosen[-half:]])
        slopes.append(f"run of the larger {half} {tail:.2f}")
        found[f"exponents for {name}"] = ", ".join(slopes)
    return found


def _plot(figure, rows):
    """One panel for each axis: run times of both, and their fitted lines."""
    names = list(dict.fromkeys(row["axis"] for row in rows))
    columns = min(3, len(names))
    panels = figure.subplots(-(-len(names) // columns), columns, squeeze=False)
    for axes in panels.flat[len(names) :]:
        axes.remove()
    for axes, name in zip(panels.flat, names, strict=False):
        chosen = [row for row in rows if row["axis"] == name]
        sizes = [row["size"] for row in chosen]
        for i, key in enumerate(("run", "core")):
            costs = [row.get(key) for row in chosen]
            if None in costs:
                continue
            errors = [
                [row[key] - row[f"{key}_low"] for row in chosen],
                [row[f"{key}_high"] - row[key] for row in chosen],
            ]
            color, label = charts.COLORS[i], {"run": "ours"}.get(key, key)
            axes.errorbar(sizes, costs, errors, fmt="o", color=color, capsize=2)
            slope = exponent(sizes, costs) if len(set(sizes)) > 1 else 0.0
            middle = np.exp(np.mean(np.log(costs) - slope * np.log(sizes)))
            line = middle * np.array(sizes, float) ** slope
            axes.plot(sizes, line, color=color, label=f"{label}: {slope:.2f}")
        axes.set(xscale="log", yscale="log", xlabel=name)
        axes.minorticks_off()
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes], fontsize="x-small")
        axes.legend(title="exponent", fontsize="small")
    for axes in panels[:, 0]:
        axes.set_ylabel("seconds of a run")


@measurement(COLUMNS, NOTES, _exponents, _plot)
def scale(
    axes: Names | None = None,
    points: int = 6,
    steps: int = 1000,
    repeats: int = 3,
    core: bool = True,
) -> Iterator[Row]:
    """Measure how costs grow with neurons, ensembles, connections, batch and steps.

    Parameters
    ----------
    axes : list of str or None
        Any of neurons, ensembles, connections, batch, steps.
    points : int
        At most so many sizes of each, from the smallest on.
    steps : int
        Steps of a run.
    repeats : int
        Runs of each size; the median counts.
    core : bool
        Whether nengo.Simulator is measured, too.

    Yields
    ------
    dict
        For each axis and size.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If a name is unknown or a number is less than 1 (before anything is measured).
    """
    names = chosen_names("axes", axes, AXES)
    check_positive(points=points, steps=steps, repeats=repeats)
    warm_up(2000)  # so many that the loop is compiled
    for name in names:
        for size in AXES[name].sizes[:points]:
            yield {"axis": name, **measure_size(AXES[name], size, steps, repeats, core)}


def measure_size(axis: Axis, size: int, steps: int, repeats: int, core: bool) -> Row:
    """One size of an axis.

    ``steps``, ``repeats``, ``core``: see `scale`.
    """
    net = built(lambda: axis.network(size))
    steps = size if axis.lengthens else steps
    items = size if axis.batched else 1
    made: list = []
    with private_decoder_cache(), contextlib.ExitStack() as stack:
        reference = stack.enter_context(nengo.Simulator(net, progress_bar=False))
        options = {"minibatch_size": items, "progress_bar": False}
        build = seconds(lambda: made.append(Simulator(net, **options)))
        ours = stack.enter_context(made[0])
        runs = [lambda: ours.run_steps(steps, progress_bar=False)]
        first = seconds(runs[0])
        settle(ours, steps)
        if core:
            runs.append(lambda: reference.run_steps(steps, progress_bar=False))
        with no_collection():
            times = take_turns(runs, repeats)
        row: dict[str, Any] = {"size": size, "operators": len(ours.model.operators)}
    row |= {"build": build, "first": first, "us": median(times[0]) / steps * 1e6}
    for key, values in zip(("run", "core"), times, strict=False):
        count = items if key == "core" else 1
        row[key] = median(values) * count
        row[f"{key}_low"], row[f"{key}_high"] = (q * count for q in quartiles(values))
    row["speedup"] = row["core"] / row["run"] if core else None
    return row
