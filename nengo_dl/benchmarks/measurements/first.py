"""First results: from a network to the output of the first steps."""

from collections.abc import Iterator

import nengo
import numpy as np

from nengo_dl.benchmarks import beside, charts
from nengo_dl.benchmarks.networks import Case, chosen_cases
from nengo_dl.benchmarks.processes import process_row
from nengo_dl.benchmarks.registry import Names, Row, measurement
from nengo_dl.benchmarks.report import Column
from nengo_dl.benchmarks.runs import TIERS, Tier, built, warm_up
from nengo_dl.benchmarks.timing import (
    check_positive,
    median,
    private_decoder_cache,
    seconds,
)
from nengo_dl.simulator import Simulator

NETWORKS = ("chain", "learner4", "learner64", "integrator16", "convolution16", "action16")
"""The standard networks of about 1,000 operators at most."""

LENGTHS = (1_000, 2_000, 10_000)
"""Numbers of first steps: a notebook's run, and some seconds of simulated time."""

COLUMNS = (
    *beside.COLUMNS,
    Column("operators", "operators", ",d"),
    Column("very first s", "very_first", ",.3f"),
    Column("more MB", "more", ",.0f"),
)

NOTES = f"""{beside.NOTES} Import, and what TensorFlow does once in a process, come
before. Each round has another seed, so that weights differ; Nengo's cache has the
decoders. First result: build and run of the first steps, in the structure's first and
in all later simulators (the very first takes no part in the median). Compiled: the same
with the loop compiled from the first step on; the second simulator of a structure
beside the first one. Process: a script that builds and runs a network, from its first
line to its last, with all that it imports; in processor time, and with the memory that it
has at most beside that of the script with core."""


@measurement(COLUMNS, NOTES, beside.goals_met, charts.ratio_bars)
def first(
    networks: Names | None = None,
    steps: int | None = None,
    repeats: int = 5,
    compiled: bool = True,
    processes: bool = True,
) -> Iterator[Row]:
    """Measure build and first steps beside core, and the second simulator's.

    Parameters
    ----------
    networks : list of str or None
        By default all standard ones of about 1,000 operators at most.
    steps : int or None
        First steps; by default 1,000, 2,000 and 10,000.
    repeats : int
        Rounds, each with another seed.
    compiled : bool
        Whether to measure with the loop compiled, too.
    processes : bool
        Whether to measure whole processes, too.

    Yields
    ------
    dict
        For each network one row for each number of steps, and one for compiled ones;
        then one for a process of each number of steps.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If a name is unknown or a number is less than 1.
    """
    lengths = LENGTHS if steps is None else (steps,)
    check_positive(steps=min(lengths), repeats=repeats)
    cases = chosen_cases(networks, NETWORKS)
    warm_up(lengths[0])
    warm_up(lengths[0], jit=True)
    for name, case in cases.items():
        for length in lengths:
            yield _beside_core(name, case, length, repeats)
        if compiled:
            yield _second(name, case, lengths[0], repeats)
    for length in lengths if processes else ():
        yield process_row(length, repeats)


def first_result(simulator: type, net: nengo.Network, steps: int) -> tuple[float, int]:
    """Seconds of build and run, and the number of operators."""
    sims: list = []

    def build_and_run():
        sims.append(simulator(net, progress_bar=False))
        sims[0].run_steps(steps, progress_bar=False)

    elapsed = seconds(build_and_run)
    with sims[0] as sim:
        return elapsed, len(sim.model.operators)


def _network(case: Case, seed: int, tier: Tier = "auto") -> nengo.Network:
    """A network with a seed, whose decoders are in Nengo's cache."""
    net = built(case, seed, TIERS[tier])
    nengo.Simulator(net, progress_bar=False).close()
    return net


def _beside_core(name: str, case: Case, steps: int, repeats: int) -> Row:
    """Build and first steps of both simulators in turn."""
    core, ours, operators = [], [], 0
    with private_decoder_cache():
        very_first, operators = first_result(Simulator, _network(case, 0), steps)
        for seed in range(1, repeats + 1):
            net, turns = (
                _network(case, seed),
                [(Simulator, ours), (nengo.Simulator, core)],
            )
            for simulator, times in turns[:: (-1) ** seed]:
                times.append(first_result(simulator, net, steps)[0])
    return beside.beside_row(
        f"{name}, build and {steps:,} steps",
        ours,
        "core",
        core,
        "s",
        1.0,
        operators=operators,
        very_first=very_first,
    )


def _second(name: str, case: Case, steps: int, repeats: int) -> Row:
    """The later simulators of one structure, compiled, beside its first one."""
    with private_decoder_cache():
        times = [
            first_result(Simulator, _network(case, seed, "tensorflow"), steps)[0]
            for seed in range(repeats + 1)
        ]
    very_first, later = times[0], times[1:]
    row = beside.beside_row(
        f"{name}, compiled, another seed",
        later,
        "the structure's first",
        [very_first] * len(later),
        "s",
        very_first=very_first,
    )
    return row | {"saved": float(np.subtract(very_first, median(later)))}
