"""Very large models: time and memory of everything that happens to them."""

from __future__ import annotations

import collections
import contextlib
import functools
import gc
import time
from collections.abc import Callable, Iterator
from typing import Any

import nengo

from nengo_dl.benchmarks.memory import MB, PeakMemory, in_new_process, resident
from nengo_dl.benchmarks.networks.many_ensembles import many_ensembles
from nengo_dl.benchmarks.registry import Row, measurement
from nengo_dl.benchmarks.report import Column
from nengo_dl.benchmarks.runs import warm_up
from nengo_dl.benchmarks.timing import check_positive, exponent, no_decoder_cache
from nengo_dl.compiler import pipeline
from nengo_dl.simulator import Simulator, simulator

COLUMNS = (
    Column("ensembles", "ensembles", ",d"),
    Column("phase", "phase", width=26),
    Column("seconds", "seconds", ",.2f", 9),
    Column("peak MB", "peak", ",.0f", 8),
    Column("MB after it", "after", ",.0f"),
)

NOTES = """\
Each size in a process of its own. Indented phases are part of the next one that is not.
Peak: the most memory that the process had in a phase. Below: what building and the first
step take for each neuron, ensemble and connection of the largest size, as a share of the
ceiling (74 s and 4 GB for 1.2 million neurons), and for 22 million by the curve.
Exponents: slopes of straight lines through the logarithms over all sizes; 1 is growth in
proportion. Decoders are drawn, not solved for."""

WATCHED = (
    (simulator, "built_model"),
    *((pipeline, name) for name in ("PASSES", "PARAMETRIC_PASSES", "lower")),
    *((pipeline, name) for name in ("stages", "one_stage", "plan", "layout")),
)
"""Where functions that are phases of their own, and lists of such, are called from."""

BUILD = ("build and compile", "first step")
"""What happens before a network runs."""

CEILING = {"us": 74e6 / 1.2e6, "bytes": 4e9 / 1.2e6}
"""What building may take for each neuron, in all and at most."""

WHOLE_MACHINE = 22_000_000
"""As many neurons as 128 GB held once; how long it takes to build them is of interest."""

LEAST = 0.05
"""Seconds: phases that are always shorter say nothing about growth."""


def _growth(rows: list[Row]) -> dict:
    """Fitted exponents of time, for each phase that takes long enough."""
    found = {}
    for phase in dict.fromkeys(row["phase"] for row in rows):
        chosen = [row for row in rows if row["phase"] == phase]
        sizes = [row["ensembles"] for row in chosen]
        times = [row["seconds"] for row in chosen]
        if len(set(sizes)) < 2 or max(times) < LEAST or min(times) <= 0:
            continue
        found[f"exponent of {phase.strip()}"] = exponent(sizes, times)
    return found | _for_each(rows)


def _for_each(rows: list[Row]) -> dict:
    """What one neuron, ensemble and connection costs in the largest network.

    And what very many would, by a line through the logarithms of all sizes.
    """
    totals: dict[int, dict] = {}
    for row in rows:
        if "neurons" in row and row["phase"] in BUILD:
            total = totals.setdefault(row["neurons"], {"us": 0.0, "bytes": 0.0, **row})
            total["us"] += row["seconds"] * 1e6
            total["bytes"] = max(total["bytes"], (row["peak"] - row["before"]) * MB)
    if not totals:
        return {}
    sizes, found = sorted(totals), {}
    largest = totals[sizes[-1]]
    for unit in CEILING:
        for name in ("neuron", "ensemble", "connection"):
            found[f"{unit} per {name}"] = largest[unit] / largest[f"{name}s"]
    costs = {unit: [totals[size][unit] for size in sizes] for unit in CEILING}
    for unit, ceiling in CEILING.items():
        found[f"{unit} of the ceiling"] = found[f"{unit} per neuron"] / ceiling
        slope = exponent(sizes, costs[unit]) if len(sizes) > 1 else 1.0
        factor = (WHOLE_MACHINE / sizes[-1]) ** slope
        many = f"for {WHOLE_MACHINE / 1e6:.0f} million neurons"
        name, scale = {"us": ("minutes", 6e7), "bytes": ("GB", 1e9)}[unit]
        found[f"{name} {many}"] = largest[unit] * factor / scale
    return found


def _plot(figure, rows):
    """Seconds and memory of each phase of the largest size."""
    largest = max(row["ensembles"] for row in rows)
    rows = [row for row in rows if row["ensembles"] == largest]
    left, right = figure.subplots(1, 2, sharey=True)
    at = range(len(rows))
    left.barh(at, [row["seconds"] for row in rows])
    right.barh(at, [row["peak"] for row in rows])
    left.set_yticks(at, [row["phase"] for row in rows])
    left.invert_yaxis()
    left.set_xlabel("seconds")
    right.set_xlabel("peak MB")


@measurement(COLUMNS, NOTES, _growth, _plot)
def big(
    n_ensembles: int = 20_000,
    neurons: int = 60,
    connections_per_ensemble: float = 4.5,
    sizes: int = 3,
    steps: int = 100,
    core: bool = False,
) -> Iterator[Row]:
    """Measure time and memory of each pass over a model of the size of Spaun.

    Parameters
    ----------
    n_ensembles : int
        Ensembles of the largest size.
    neurons : int
        Neurons of an ensemble on average.
    connections_per_ensemble : float
        Connections, divided by ensembles.
    sizes : int
        How many sizes, each a quarter of the next, from which growth is fitted.
    steps : int
        Steps of the runs.
    core : bool
        Whether nengo.Simulator builds and runs it, too (three steps).

    Yields
    ------
    dict
        For each size and phase.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If a number is less than 1.
    """
    check_positive(n_ensembles=n_ensembles, neurons=neurons, sizes=sizes, steps=steps)
    for k in reversed(range(sizes)):
        n = max(1, n_ensembles // 4**k)
        links = max(1, round(n * connections_per_ensemble))
        yield from in_new_process(measure_passes, n, neurons, links, steps, core)


def measure_passes(
    n_ensembles: int, neurons: int, n_connections: int, steps: int, core: bool = False
) -> list[Row]:
    """Build, compile and run a network of `.many_ensembles`.

    ``steps``: steps of each run. ``core``: whether `nengo.Simulator` does it, too.
    Returns for each phase.
    """
    warm_up(2000)  # so many that TensorFlow is loaded
    gc.freeze()  # what is there already need not be looked at again and again
    phases = Phases(n_ensembles)
    before = resident()
    with phases("describe the network"):
        net = many_ensembles(n_ensembles, neurons, n_connections)
    size = {"neurons": net.n_neurons, "connections": len(net.all_connections)}
    size["before"] = before
    with no_decoder_cache(), contextlib.ExitStack() as stack:
        with phases("build and compile"), watched_passes(phases):
            sim = stack.enter_context(Simulator(net, progress_bar=False))
        with phases("first step"), watched_passes(phases):
            sim.step()
        with phases(f"first {steps} steps"), watched_passes(phases):
            sim.run_steps(steps, progress_bar=False)
        with phases(f"{steps} steps again"), watched_passes(phases):
            sim.run_steps(steps, progress_bar=False)
        with phases(f"{steps} steps"):
            sim.run_steps(steps, progress_bar=False)
    gc.unfreeze()
    if core:
        with phases("core: build"), no_decoder_cache():
            reference = nengo.Simulator(net, progress_bar=False)
        with reference, phases("core: 3 steps"):
            reference.run_steps(3, progress_bar=False)
    return [row | size for row in phases.rows]


class Phases:
    """Measures what happens inside ``with phases(name):``, also one in another.

    Parameters
    ----------
    n_ensembles : int
        For the rows.

    Attributes
    ----------
    rows : list of dict
        In the order in which the phases ended.
    """

    def __init__(self, n_ensembles: int):
        self.rows: list[Row] = []
        self._size = n_ensembles
        self._depth = 0
        self._lost = 0.0  # seconds that measuring itself took
        self._names: collections.Counter = collections.Counter()

    @contextlib.contextmanager
    def __call__(self, name: str) -> Any:
        """Measure a phase; the second one of a name gets a number."""
        entered = time.perf_counter()
        self._depth += 1
        try:
            with PeakMemory() as memory:
                start = time.perf_counter()
                self._lost += start - entered
                lost = self._lost
                yield
                stop = time.perf_counter()
        finally:
            self._depth -= 1
        self._names[name] += 1
        number = self._names[name]
        self.rows.append({
            "ensembles": self._size,
            "phase": "  " * self._depth + name + (f" {number}" if number > 1 else ""),
            "seconds": stop - start - (self._lost - lost),
            "peak": memory.peak,
            "after": resident(),
        })  # fmt: skip
        self._lost += time.perf_counter() - stop


@contextlib.contextmanager
def watched_passes(phases: Phases) -> Iterator[None]:
    """Inside, Nengo's builder and each pass of the compiler are phases."""

    def watched(function: Callable) -> Callable:
        @functools.wraps(function)
        def call(*args, **kwargs):
            with phases(function.__name__):
                return function(*args, **kwargs)

        return call

    before = [(owner, name, getattr(owner, name)) for owner, name in WATCHED]
    for owner, name, value in before:
        several = isinstance(value, tuple)
        setattr(owner, name, tuple(map(watched, value)) if several else watched(value))
    try:
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)
