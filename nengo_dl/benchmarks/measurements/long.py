"""Runs of millions of steps."""

from collections.abc import Iterator

import numpy as np

from nengo_dl.benchmarks import charts
from nengo_dl.benchmarks.memory import settled
from nengo_dl.benchmarks.networks import CASES
from nengo_dl.benchmarks.registry import Row, measurement
from nengo_dl.benchmarks.report import Column
from nengo_dl.benchmarks.runs import warm_up
from nengo_dl.benchmarks.timing import check_positive, chosen_names, seconds
from nengo_dl.config import configure_settings
from nengo_dl.simulator import Simulator

PARTS = 10
"""Parts of a run."""

COLUMNS = (
    Column("run", "run", width=24),
    Column("part", "part", "d"),
    Column("steps so far", "done", ",d", 12),
    Column("us/step", "us", ",.3f", 8),
    Column("memory MB", "memory", ",.1f"),
    Column("without data MB", "rest", ",.1f"),
)

NOTES = """\
Each run in ten parts. Memory: what the process has after the part; without data: less
the probe data so far, which are kept in the second run."""


def _flatness(rows: list[Row]) -> dict:
    """How speed and memory change from the second part to the last."""
    found = {}
    for name in dict.fromkeys(row["run"] for row in rows):
        part = [row for row in rows if row["run"] == name][1:]
        if not part:
            continue
        times = [row["us"] for row in part]
        found[f"{name}, slowest part / fastest"] = max(times) / min(times)
        found[f"{name}, last part / second"] = times[-1] / times[0]
        grown = part[-1]["rest"] - part[0]["rest"]
        found[f"{name}, growth besides data, MB"] = float(np.round(grown, 2))
    return found


def _plot(figure, rows):
    """Speed and memory over the steps."""
    upper, lower = figure.subplots(2, 1)
    for i, name in enumerate(dict.fromkeys(row["run"] for row in rows)):
        part = [row for row in rows if row["run"] == name]
        x, options = [row["part"] for row in part], {"color": charts.COLORS[i]}
        upper.plot(x, [row["us"] for row in part], "o-", label=name, **options)
        lower.plot(x, [row["memory"] for row in part], "o-", **options)
        lower.plot(x, [row["rest"] for row in part], "o--", **options)
    for axes in (upper, lower):
        axes.margins(y=0.15)
        axes.set_ylim(bottom=0)
    upper.set(ylabel="us/step")
    lower.set(ylabel="MB (dashed: without data)", xlabel="part")
    upper.legend()


@measurement(COLUMNS, NOTES, _flatness, _plot)
def long(
    network: str = "chain", steps: int = 10_000_000, recorded_steps: int = 1_000_000
) -> Iterator[Row]:
    """Measure speed and memory of long runs, with and without recorded probes.

    Parameters
    ----------
    network : str
        Name of a standard network.
    steps : int
        Of the run that keeps the last step of the probes only (keep_history=False).
    recorded_steps : int
        Of the run that keeps all of them.

    Yields
    ------
    dict
        For each tenth of each run.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If the network is unknown or a number is less than 1.
    """
    check_positive(steps=steps, recorded_steps=recorded_steps)
    chosen_names("network", [network], CASES)
    warm_up(2000)
    yield from run_in_parts("keep_history=False", network, steps, False)
    yield from run_in_parts("recorded", network, recorded_steps, True)


def run_in_parts(name: str, network: str, steps: int, keep: bool) -> Iterator[Row]:
    """Run a network for many steps, in parts, and tell the memory of each part.

    ``name``: of the run, for the table. ``steps``: of all parts together. ``keep``:
    whether all probe data are kept.
    """
    net = CASES[network]()
    with net:
        configure_settings(keep_history=keep)
    size = sum(probe.size_in for probe in net.all_probes) * 4
    with Simulator(net, progress_bar=False) as sim:
        for part in range(1, PARTS + 1):
            count = steps * part // PARTS - sim.n_steps
            elapsed = seconds(lambda n=count: sim.run_steps(n, progress_bar=False))
            memory = settled()
            data = size * sim.n_steps / 2**20 if keep else 0.0
            yield {
                "run": f"{network}, {name}",
                "part": part,
                "done": sim.n_steps,
                "us": elapsed / max(count, 1) * 1e6,
                "memory": memory,
                "rest": memory - data,
            }
