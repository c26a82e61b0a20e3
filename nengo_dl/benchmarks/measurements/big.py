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

from nengo_dl.benchmarks.memory import PeakMemory, in_new_process, resident
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
Peak: the most memory that the process had in a phase. Exponents: slopes of straight lines
through the logarithms over all sizes; 1 is growth in proportion. Decoders are drawn, not
solved for."""

WATCHED = (
    (simulator, "built_model"),
    *((pipeline, name) for name in ("PASSES", "PARAMETRIC_PASSES", "lower")),
    *((pipeline, name) for name in ("stages", "one_stage", "plan", "layout")),
)
"""Where functions that are phases of their own, and lists of such, are called from."""

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
    with phases("describe the network"):
        net = many_ensembles(n_ensembles, neurons, n_connections)
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
    return phases.rows


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
