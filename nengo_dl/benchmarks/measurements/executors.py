"""The executors of forward steps beside one another: steps, first results, memory."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from nengo.builder import Model

from nengo_dl.benchmarks.memory import PeakMemory, in_new_process
from nengo_dl.benchmarks.networks import CASES, chosen_cases
from nengo_dl.benchmarks.registry import Names, Row, measurement
from nengo_dl.benchmarks.report import Column
from nengo_dl.benchmarks.runs import (
    TIERS,
    Tier,
    built,
    require_machine_code,
    run_times,
    warm_up,
)
from nengo_dl.benchmarks.timing import (
    check_positive,
    geometric_mean,
    no_decoder_cache,
    private_decoder_cache,
    ratio,
    seconds,
)
from nengo_dl.environment import CACHE
from nengo_dl.simulator import Simulator

NETWORKS = ("chain", "integrator16", "integrator128", "convolution16", "action16")
NETWORKS += ("learner4", "learner64", "web20", "web100")
"""The networks that are measured unless others are named."""

FIRST_STEPS = 1000
"""Steps of a first result: a second of simulated time, as a notebook's cell runs."""

COLUMNS = (
    Column("network", "network", width=15),
    Column("items", "items", "d", 5),
    Column("NumPy us", "numpy", ",.1f", 9),
    Column("native us", "native", ",.1f", 9),
    Column("TensorFlow us", "tensorflow", ",.1f", 13),
    Column("NumPy / native", "numpy_ratio", ".2f"),
    Column("TF / native", "ratio", ".2f"),
    Column("first s", "first", ".3f", 7),
    Column("from disk", "disk", ".3f"),
    Column("more MB", "more", ".0f"),
)

NOTES = f"""Microseconds of a step: the least of all rounds, in which the executors take
turns in one process, Python functions as inputs included; ratios are medians within the
rounds. First: seconds from the model that Nengo's builder has made to the output of
{FIRST_STEPS:,} steps, native, in a process of its own, with the passes of the compiler
and the making of machine code; from disk: the same in another process with the folder of
{CACHE}, in which the first one left its machine code. More MB: memory of that process at
its highest, beside that of another one that does the same with NumPy. All threads that
there are take part; started by "taskset -c 0" the command shows what one of them does."""


def _summary(rows: Sequence[Row]) -> dict[str, float]:
    """Geometric means of the ratio to TensorFlow, for each number of items."""
    return {
        f"geometric mean of TensorFlow / native, {items} items": geometric_mean(
            [row["ratio"] for row in rows if row["items"] == items]
        )
        for items in sorted({row["items"] for row in rows})
    }


@measurement(COLUMNS, NOTES, _summary)
def measure_executors(
    networks: Names | None = None,
    steps: int = 1000,
    items: int = 64,
    repeats: int = 7,
    processes: bool = True,
) -> Iterator[Row]:
    """Measure the executors of forward steps: steps, batches, first results, memory.

    Parameters
    ----------
    networks : list of str or None
        By default the standard ones without the largest convolution.
    steps : int
        Steps of a round with one item; of a batch, fewer by its items.
    items : int
        Items of a batch; with 1 only single items are measured.
    repeats : int
        Rounds.
    processes : bool
        Whether to measure first results, in processes of their own.

    Yields
    ------
    dict
        For each network, with one item and in a batch.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If a name is unknown or a number is less than 1.
    RuntimeError
        If there is no machine code on this system.
    """
    check_positive(steps=steps, items=items, repeats=repeats)
    require_machine_code("executors cannot be compared")
    names = list(chosen_cases(networks, NETWORKS))
    warm_up()
    warm_up(jit=True)
    for name in names:
        row = _steps(name, 1, steps, repeats)
        if processes:
            row |= first_results(name)
        yield row
        if items > 1:
            yield _steps(name, items, max(1, steps // items), repeats)


def _steps(name: str, items: int, steps: int, repeats: int) -> Row:
    """Microseconds of a step with each executor; NumPy only for one item."""
    tiers: list[Tier] = ["native", "tensorflow"]
    if items == 1:
        tiers.append("numpy")
    with private_decoder_cache(), contextlib.ExitStack() as stack:
        sims = []
        for tier in tiers:
            net = built(CASES[name], settings=TIERS[tier])
            sim = Simulator(net, progress_bar=False, minibatch_size=items)
            sims.append(stack.enter_context(sim))
            for _ in range(2):  # what is run again may be compiled
                sims[-1].run_steps(steps, progress_bar=False)
        times = dict(zip(tiers, run_times(sims, steps, repeats), strict=True))
    row: Row = {"network": name, "items": items, "rounds": repeats}
    row |= {tier: 1e6 * min(found) for tier, found in times.items()}
    row["ratio"] = ratio(times["tensorflow"], times["native"])
    if "numpy" in times:
        row["numpy_ratio"] = ratio(times["numpy"], times["native"])
    return row


class First(NamedTuple):
    """What a process of its own measured: seconds, and MB at the highest."""

    seconds: float
    memory: float


def first_results(name: str) -> Row:
    """First results of a network, each in a process of its own.

    Parameters
    ----------
    name : str
        Of a network in ``CASES``.

    Returns
    -------
    dict
        Seconds of the first process, of a second one that finds its machine code on the
        disk, and by how many MB the memory is above that of NumPy's executor.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        first = in_new_process(first_result, name, "native", folder)
        again = in_new_process(first_result, name, "native", folder)
    numpy = in_new_process(first_result, name, "numpy", None)
    more = first.memory - numpy.memory
    return {"first": first.seconds, "disk": again.seconds, "more": more}


def first_result(name: str, tier: Tier, folder: str | None) -> First:
    """From a model that is built to the output of `FIRST_STEPS` steps, in this process.

    Parameters
    ----------
    name : str
        Of a network in ``CASES``.
    tier : str
        Which executor.
    folder : str or None
        Where machine code is kept, for the whole rest of the process; None: nowhere.
    """
    os.environ.pop(CACHE, None)
    if folder is not None:
        os.environ[CACHE] = folder
    net, model = built(CASES[name], settings=TIERS[tier]), Model(dt=0.001)

    def run() -> None:
        with Simulator(None, model=model, progress_bar=False) as sim:
            sim.run_steps(FIRST_STEPS, progress_bar=False)

    with PeakMemory() as memory, no_decoder_cache():
        model.build(net)  # as long with each executor: not in the figure
        elapsed = seconds(run)
    return First(elapsed, memory.peak)
