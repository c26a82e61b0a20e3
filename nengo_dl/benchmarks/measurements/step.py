"""Single steps, as interactive programs make them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import nengo

from nengo_dl.benchmarks import beside, charts
from nengo_dl.benchmarks.memory import settled
from nengo_dl.benchmarks.networks import chosen_cases
from nengo_dl.benchmarks.registry import Names, Row, measurement
from nengo_dl.benchmarks.report import Column
from nengo_dl.benchmarks.runs import step_times, warm_up
from nengo_dl.benchmarks.timing import check_positive, private_decoder_cache
from nengo_dl.simulator import Simulator

LIMITS = {"chain": 0.6, "action16": 0.3}
"""What the ratio should stay below, by network."""

COLUMNS = (
    *beside.COLUMNS,
    Column("bytes per step", "growth", ",.0f"),
    Column("of core", "core_growth", ",.0f"),
    Column("data", "data", ",.0f"),
)

NOTES = f"""{beside.NOTES} Bytes per step: by how much the memory of the process grows
with so many steps one by one, after the first tenth of them; data are the probe data of
one step, which are kept, as numbers of 8 bytes in core and of 4 bytes in ours."""


@measurement(COLUMNS, NOTES, beside.goals_met, charts.ratio_bars)
def measure_step(
    networks: Names | None = None,
    calls: int = 1000,
    repeats: int = 7,
    steps: int = 10_000,
) -> Iterator[Row]:
    """Measure sim.step() beside core's, with probes recorded.

    Parameters
    ----------
    networks : list of str or None
        By default chain and action16.
    calls : int
        Calls of a round.
    repeats : int
        Rounds.
    steps : int
        Steps one by one over which memory is watched.

    Yields
    ------
    dict
        For each network.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If a name is unknown or a number is less than 1.
    """
    check_positive(calls=calls, repeats=repeats, steps=steps)
    cases = chosen_cases(networks, LIMITS)
    warm_up()
    for name, case in cases.items():
        net = case()
        with private_decoder_cache(), contextlib.ExitStack() as stack:
            core = stack.enter_context(nengo.Simulator(net, progress_bar=False))
            ours = stack.enter_context(Simulator(net, progress_bar=False))
            times = step_times((ours, core), calls, repeats)
            row = beside.beside_row(
                f"step() of {name}",
                times[0],
                "core's",
                times[1],
                "us/step",
                LIMITS.get(name),
                scale=1e6,
                growth=growth_per_step(ours, steps),
                core_growth=growth_per_step(core, steps),
                data=4 * sum(probe.size_in for probe in net.all_probes),
            )
        yield row


def growth_per_step(sim: Any, steps: int) -> float:
    """Bytes by which the process grows with each call of ``step``.

    ``steps``: calls that are watched, after a tenth of so many.
    """
    for _ in range(steps // 10):
        sim.step()
    before = settled()
    for _ in range(steps):
        sim.step()
    return (settled() - before) * 2**20 / steps
