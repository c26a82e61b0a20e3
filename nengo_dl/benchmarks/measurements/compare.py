"""Simulators beside each other, on networks of all kinds."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import nengo
import numpy as np

from nengo_dl.benchmarks import charts
from nengo_dl.benchmarks.backends import CORE, OURS, Backend, chosen
from nengo_dl.benchmarks.memory import PeakMemory, in_new_process, settled
from nengo_dl.benchmarks.networks import Case, chosen_cases
from nengo_dl.benchmarks.registry import Names, Row, measurement
from nengo_dl.benchmarks.report import Column
from nengo_dl.benchmarks.runs import (
    DIFFERENCE_STEPS,
    TIERS,
    Precision,
    Tier,
    built,
    count_kernels,
    relative_difference,
    run_times,
    settle,
    step_times,
    warm_up,
)
from nengo_dl.benchmarks.timing import (
    check_positive,
    geometric_mean,
    median,
    private_decoder_cache,
    quartiles,
    seconds,
)

COLUMNS = (
    Column("network", "network", width=15),
    Column("backend", "backend", width=7),
    Column("operators", "operators", ",d"),
    Column("kernels", "kernels", "d"),
    Column("us/step", "us", ",.1f", 9),
    Column("times as fast", "speedup", ",.1f"),
    Column("step() us", "step_us", ",.1f"),
    Column("times as fast", "step_speedup", ",.1f"),
    Column("build s", "build", ",.2f"),
    Column("first run s", "first", ",.2f"),
    Column("second run s", "second", ",.2f"),
    Column("memory MB", "memory", ",.0f"),
    Column("difference", "difference", ".1e"),
)

NOTES = """\
Medians over all seeds and rounds, in which the simulators take turns in one process.
Times as fast: core's time (for as many items) divided by the backend's, the median of
the rounds. Build: from the network to a simulator, with decoders from Nengo's cache.
First and second run: as many steps as the others, but from the start of a simulation;
the others are as in one of a million steps, compiled where that pays.
Memory: the most that build and first run take in a process of their own, over what it
took after a tiny network. Difference: of the outputs from core's in the first 100 steps,
relative to the largest."""


def _speedup_summary(rows: list[Row]) -> dict:
    """Geometric mean and minimum, for each backend besides core."""
    found = {}
    for name in dict.fromkeys(row["backend"] for row in rows):
        speeds = {
            row["network"]: row["speedup"]
            for row in rows
            if row["backend"] == name and row.get("speedup") is not None
        }
        if name == CORE or not speeds:
            continue
        worst = min(speeds, key=speeds.__getitem__)
        mean = geometric_mean(list(speeds.values()))
        found[f"{name}, times as fast as core, geometric mean"] = mean
        found[f"{name}, times as fast as core, at least"] = (
            f"{speeds[worst]:.2f} ({worst})"
        )
    return found


def _plot(figure, rows):
    """Microseconds per step of each backend."""
    networks = list(dict.fromkeys(row["network"] for row in rows))
    series: dict[str, list] = {}
    for name in dict.fromkeys(row["backend"] for row in rows):
        by_network = {r["network"]: r for r in rows if r["backend"] == name}
        found = [by_network.get(network, {}) for network in networks]
        keys = ("us", "us_low", "us_high")
        series[name] = [tuple(row.get(key) or np.nan for key in keys) for row in found]
    axes = figure.add_subplot()
    charts.grouped_bars(axes, networks, series, "microseconds per step")


@measurement(COLUMNS, NOTES, _speedup_summary, _plot)
def compare(
    networks: Names | None = None,
    backends: Names | None = None,
    seeds: int = 3,
    steps: int = 1000,
    repeats: int = 3,
    step_calls: int = 200,
    minibatch_size: int | None = None,
    device: str | None = None,
    tier: Tier = "auto",
    dtype: Precision = "float32",
    memory: bool = True,
) -> Iterator[Row]:
    """Measure simulators beside nengo.Simulator on the standard networks.

    Parameters
    ----------
    networks : list of str or None
        Names with commas between, see "build --help"; by default the ten driven ones.
    backends : list of str or None
        Registered simulators; by default core and dl (nengo_dl.Simulator).
    seeds : int
        With how many seeds each network is built.
    steps : int
        Steps of each run.
    repeats : int
        Rounds for each seed.
    step_calls : int
        Calls of step() in a round.
    minibatch_size : int or None
        Batch size of nengo_dl.Simulator.
    device : str or None
        TensorFlow device of nengo_dl.Simulator, such as /gpu:0.
    tier : str
        What runs the loop over time of nengo_dl.Simulator.
    dtype : str
        Precision of nengo_dl.Simulator.
    memory : bool
        Whether to measure memory, each in a process of its own.

    Yields
    ------
    dict
        For each network and backend.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If a name is unknown or a number is less than 1 (before anything is measured),
        or if core's output is zero.
    """
    cases, found = chosen_cases(networks), chosen(backends)
    check_positive(seeds=seeds, steps=steps, repeats=repeats, step_calls=step_calls)
    settings = {**TIERS[tier], "dtype": dtype}
    ours = {"minibatch_size": minibatch_size, "device": device}
    warm_up(steps, **settings)
    for name, case in cases.items():
        taken = [b for b in found if case.everywhere or b.name == OURS]
        rounds: dict[str, list[dict]] = {backend.name: [] for backend in taken}
        for seed in range(1, seeds + 1):
            net = built(case, seed, settings)
            results = measure_seed(net, taken, steps, repeats, step_calls, ours)
            for backend, result in results.items():
                rounds[backend].append(result)
        for backend in taken:
            results = rounds[backend.name]
            row = _row(name, backend, results, rounds.get(CORE), minibatch_size or 1)
            if memory and results:
                arguments = (backend.name, case, steps, settings, ours)
                row["memory"] = in_new_process(memory_of, *arguments)
            yield row


def measure_seed(
    net: nengo.Network,
    backends: list[Backend],
    steps: int,
    repeats: int,
    step_calls: int,
    ours: dict[str, Any],
) -> dict[str, dict]:
    """Everything about one network, for each backend that can build it.

    ``net``: with the probe of its output as ``p``. ``steps``, ``repeats``,
    ``step_calls``: see `compare`. ``ours``: arguments of `.Simulator`.
    """
    results: dict[str, dict] = {}
    with private_decoder_cache(), contextlib.ExitStack() as stack:
        if backends[0].name == CORE:
            backends[0](net).close()  # solves the decoders
        sims = {}
        for backend in backends:
            result: dict[str, Any] = {}
            sim = _first_result(backend, net, steps, result, ours)
            if sim is not None:
                sims[backend.name] = stack.enter_context(sim)
                results[backend.name] = result
        for result in results.values():
            expected = results[CORE]["output"] if CORE in results else result["output"]
            found = result.pop("output") if result is not results.get(CORE) else expected
            result["difference"] = relative_difference(found, expected)
        for name, sim in sims.items():
            results[name]["second"] = seconds(_run(sim, steps))
            if name == OURS:
                settle(sim, steps)
        simulators = list(sims.values())
        for key, times in (
            ("runs", run_times(simulators, steps, repeats)),
            ("steps", step_times(simulators, step_calls, repeats)),
        ):
            for name, row in zip(sims, times, strict=True):
                results[name][key] = row
        for result in results.values():
            result.pop("output", None)
    return results


def _run(sim: Any, steps: int) -> Callable[[], None]:
    return lambda: sim.run_steps(steps, progress_bar=False)


def _first_result(
    backend: Backend, net: nengo.Network, steps: int, result: dict, ours: dict
) -> Any:
    """Build and run; fills ``result``, and returns the simulator.

    None if it is a third one that cannot run this network.
    """
    made: list = []
    try:
        result["build"] = seconds(lambda: made.append(backend(net, **ours)))
        result["first"] = seconds(_run(made[0], steps))
    except Exception:
        if backend.name in (CORE, OURS):
            raise
        for sim in made:
            sim.close()
        return None
    (sim,) = made
    result["output"] = np.array(sim.data[net.p][..., :DIFFERENCE_STEPS, :])
    result["operators"] = len(sim.model.operators) if hasattr(sim, "model") else None
    result["kernels"] = count_kernels(sim)
    return sim


def _row(name: str, backend: Backend, results: list, core: list | None, items: int):
    """The figures of a backend from those of all seeds."""
    row: Row = {"network": name, "backend": backend.name, "seeds": len(results)}
    if not results:
        return row  # it cannot run this network
    row["minibatch_size"] = items if backend.name == OURS else 1
    for key in ("operators", "kernels"):
        row[key] = results[0][key]
    for key in ("build", "first", "second"):
        row[key] = median([result[key] for result in results])
    row["difference"] = max(result["difference"] for result in results)
    for key, time, speed in (
        ("runs", "us", "speedup"),
        ("steps", "step_us", "step_speedup"),
    ):
        times = [1e6 * t for result in results for t in result[key]]
        row[time] = median(times)
        row[f"{time}_low"], row[f"{time}_high"] = quartiles(times)
        if core is None or backend.name == CORE:
            continue
        reference = [1e6 * t for result in core for t in result[key]]
        ratios = (np.divide(reference, times) * row["minibatch_size"]).tolist()
        row[speed] = median(ratios)
        row[f"{speed}_low"], row[f"{speed}_high"] = quartiles(ratios)
    return row


def memory_of(backend: str, case: Case, steps: int, settings: dict, ours: dict) -> float:
    """MB that build and first run take at most, in a process that does nothing else.

    ``backend``: name of the simulator. ``settings``: for `.configure_settings`. ``ours``:
    arguments of `.Simulator`.
    """
    simulator = chosen([backend])[-1]
    warm_up(steps, **settings)
    net = built(case, settings=settings)
    before = settled()
    with private_decoder_cache(), PeakMemory() as memory, simulator(net, **ours) as sim:
        sim.run_steps(steps, progress_bar=False)
    return max(0.0, memory.peak - before)
