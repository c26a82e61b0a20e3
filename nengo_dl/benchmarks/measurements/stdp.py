"""Weights that learn from spikes, beside the same network without their rule."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from nengo_dl.benchmarks import beside, charts
from nengo_dl.benchmarks.networks.learning import stdp
from nengo_dl.benchmarks.registry import Row, measurement
from nengo_dl.benchmarks.runs import TIERS, built, warm_up
from nengo_dl.benchmarks.timing import Times, check_positive, no_collection
from nengo_dl.simulator import Simulator

LIMITS = {("native", 1): 3.0}
"""What the ratio should stay below, by executor and items."""

NOTES = f"""{beside.NOTES} Times are processor time of all threads. In a step 5 % of the
inputs spike. The items of a batch change the same weights (shared_learning="sum")."""


@measurement(beside.COLUMNS, NOTES, beside.goals_met, charts.ratio_bars)
def measure_stdp(
    pixels: int = 784,
    n_neurons: int = 100,
    items: int = 16,
    steps: int = 1000,
    repeats: int = 9,
) -> Iterator[Row]:
    """Measure STDP beside the same network without it, in machine code and TensorFlow.

    Parameters
    ----------
    pixels : int
        Neurons before the connection that learns.
    n_neurons : int
        Neurons behind it.
    items : int
        Items of a batch that learn together, besides a single one.
    steps : int
        Steps of a run; of a batch, a fifth.
    repeats : int
        Rounds.

    Yields
    ------
    dict
        For each executor, one item and so many.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If a number is less than 1.
    """
    check_positive(items=items, steps=steps, repeats=repeats)
    warm_up()
    for batch in dict.fromkeys((1, items)):
        for executor in ("native", "tensorflow"):
            settings = {**TIERS[executor], "shared_learning": "sum"}
            with contextlib.ExitStack() as stack:
                sims = []
                for learns in (True, False):
                    net = built(
                        lambda learns=learns: stdp(pixels, n_neurons, learns),
                        settings=settings,
                    )
                    sim = Simulator(net, minibatch_size=batch, progress_bar=False)
                    sims.append(stack.enter_context(sim))
                count = steps if batch == 1 else max(1, steps // 5)
                ours, theirs = processor_times(sims, count, repeats)
            yield beside.beside_row(
                f"STDP, {pixels} -> {n_neurons}, {executor}, items: {batch}",
                ours,
                "without the rule",
                theirs,
                "us/step",
                LIMITS.get((executor, batch)),
                scale=1e6,
            )


def processor_times(sims: list[Simulator], steps: int, repeats: int) -> list[Times]:
    """Seconds of processor time for a step of each simulator and round."""
    times: list[list[float]] = [[] for _ in sims]
    for sim in sims * 2:  # what is run again may be compiled
        sim.run_steps(steps, progress_bar=False)
    with no_collection():
        for _ in range(repeats):
            for sim, mine in zip(sims, times, strict=True):
                start = time.process_time()
                sim.run_steps(steps, progress_bar=False)
                mine.append((time.process_time() - start) / steps)
    return [tuple(mine) for mine in times]
