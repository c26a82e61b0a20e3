"""Many runs of one simulator on several processes."""

import concurrent.futures
import functools
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from nengo_dl.benchmarks import beside, charts
from nengo_dl.benchmarks.networks import chosen_cases
from nengo_dl.benchmarks.registry import Row, measurement
from nengo_dl.benchmarks.report import Column
from nengo_dl.benchmarks.timing import check_positive, seconds
from nengo_dl.many import iter_many
from nengo_dl.many.processes import processors
from nengo_dl.simulator import Simulator

OVERHEAD = "overhead"
"""What the rows about tasks that do nothing begin with: all of their time is overhead."""

NOTES = """Time per task of ``iter_many`` beside a loop that resets one simulator for
each task, in turns; medians of rounds, and the ratio is the median of those within each
round. First result: seconds from the call on, in which processes start and take the
simulator; the time per task is counted from there on. Tasks that do nothing but return
their number show what ``iter_many`` itself costs."""

COLUMNS = (*beside.COLUMNS, Column("first result s", "first", ",.2f"))
"""Of the table."""


def nothing(sim: Simulator, number: int) -> int:
    """A task that takes no time."""
    return number


def response(sim: Simulator, number: int, steps: int) -> np.ndarray:
    """A task that runs."""
    sim.run_steps(steps, progress_bar=False)
    return np.array(sim.data[sim.network.all_probes[0]][-1])


def most_overhead(rows: list[Row]) -> dict[str, float]:
    """The largest figure of tasks that do nothing."""
    found = [row["ours"] for row in rows if row["case"].startswith(OVERHEAD)]
    return {"largest overhead, ms per task": max(found)} if found else {}


@measurement(COLUMNS, NOTES, most_overhead, charts.ratio_bars)
def many(
    network: str = "integrator16",
    tasks: int = 200,
    steps: int = 100,
    workers: int | None = None,
    repeats: int = 5,
) -> Iterator[Row]:
    """Measure many runs of one simulator: first result, and time per task.

    Parameters
    ----------
    network : str
        One of the standard networks.
    tasks : int
        Number of tasks in each round, at least 2.
    steps : int
        Steps of each task.
    workers : int or None
        Number of processes; by default one for each processor.
    repeats : int
        Rounds.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If the name is unknown, a number is less than 1, or there is one task alone.
    """
    check_positive(tasks=tasks - 1, steps=steps, repeats=repeats, workers=workers or 1)
    workers = workers or processors()
    here = functools.partial(concurrent.futures.ThreadPoolExecutor, 1)
    places: dict[str, Any] = {"in this process": here, "1 process": 1}
    if workers > 1:
        places[f"{workers} processes"] = workers
    run = functools.partial(response, steps=steps)
    (case,) = chosen_cases([network]).values()
    with Simulator(case(), seed=0, progress_bar=False) as sim:
        run(sim, 0)
        for task, function in {OVERHEAD: nothing, f"{steps:,} steps": run}.items():
            for place, executor in places.items():
                about = (sim, function, tasks, executor)
                yield _row(f"{task}, {place}", *about, repeats)


def _row(
    case: str, sim: Simulator, function: Callable, tasks: int, executor: Any, repeats: int
) -> Row:
    """The figures of a loop and of `run_many`, which take turns."""
    ours, theirs, first = [], [], []
    for number in range(repeats):
        for who in ("many", "loop")[:: (-1) ** number]:
            if who == "loop":
                loop = functools.partial(_loop, sim, function, tasks)
                theirs.append(seconds(loop) / tasks)
            else:
                begun, each = _times(sim, function, tasks, executor)
                first.append(begun)
                ours.append(each)
    more = {"scale": 1e3, "first": float(np.median(first)), "tasks": tasks}
    return beside.beside_row(case, ours, "a loop", theirs, "ms/task", **more)


def _loop(sim: Simulator, function: Callable, tasks: int) -> None:
    for number in range(tasks):
        sim.reset(seed=number)
        function(sim, number)


def _times(
    sim: Simulator, function: Callable, tasks: int, executor: Any
) -> tuple[float, float]:
    """Seconds until the first result, and of each task after it."""
    began = time.perf_counter()
    results = iter_many(sim, function, range(tasks), executor)
    next(results)
    first = time.perf_counter()
    for _ in results:
        pass
    return first - began, (time.perf_counter() - first) / (tasks - 1)
