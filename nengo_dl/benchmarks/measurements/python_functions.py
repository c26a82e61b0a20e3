"""Networks with Python functions in them."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import nengo
import numpy as np

from nengo_dl.benchmarks import beside, charts
from nengo_dl.benchmarks.networks.python_inside import (
    action_loop,
    closed_loop,
    recorded,
)
from nengo_dl.benchmarks.registry import Row, measurement
from nengo_dl.benchmarks.runs import run_times, settle, warm_up
from nengo_dl.benchmarks.timing import check_positive, private_decoder_cache
from nengo_dl.simulator import Simulator

NOTES = f"""{beside.NOTES} Alone: what the function adds to a step, that is, the time
with it less the time without it, of each round; ours beside the one in core."""

LOOPS: dict[str, tuple[Callable, float]] = {
    "closed loop, 2 ensembles": (closed_loop, 0.7),
    "action selection, Python in the loop": (action_loop, 0.35),
}
"""Networks with Python in a loop, and what the ratio should stay below."""

ENDS: dict[str, dict] = {
    "function of time": {"driven": True, "recorder": False},
    "recorder at the end": {"driven": False, "recorder": True},
}
"""What Python functions outside of loops are added to the network without any."""


@measurement(beside.COLUMNS, NOTES, beside.goals_met, charts.ratio_bars, "python")
def python_functions(
    steps: int = 2000, repeats: int = 9, small: bool = False
) -> Iterator[Row]:
    """Measure Python functions in loops, as inputs and as recorders, beside core.

    Parameters
    ----------
    steps : int
        Steps of each run.
    repeats : int
        Rounds.
    small : bool
        With few neurons, to try it out.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If a number is less than 1.
    """
    check_positive(steps=steps, repeats=repeats)
    sizes = {"dimensions": 2, "neurons_per_d": 5} if small else {}
    warm_up(steps)
    for case, (network, limit) in LOOPS.items():
        core, ours = _times([network(**sizes)], steps, repeats)
        options = {"limit": limit, "scale": 1e6}
        yield beside.beside_row(case, ours, "core", core, "us/step", **options)
    for case, with_python in ENDS.items():
        nets = [
            recorded(**sizes, **with_python),
            recorded(**sizes, driven=False, recorder=False),
        ]
        core, core_without, ours, ours_without = _times(nets, steps, repeats)
        yield beside.beside_row(
            f"{case}, with the network", ours, "core", core, "us/step", scale=1e6
        )
        yield _alone(case, ours, ours_without, core, core_without)


def _times(nets: Sequence[nengo.Network], steps: int, repeats: int) -> list:
    """Seconds per step and round: of core for each network, then of ours."""
    with private_decoder_cache(), contextlib.ExitStack() as stack:
        sims = [
            stack.enter_context(simulator(net, progress_bar=False))
            for simulator in (nengo.Simulator, Simulator)
            for net in nets
        ]
        for sim in sims[len(nets) :]:
            settle(sim, steps)
        run_times(sims, steps, 1)
        return run_times(sims, steps, repeats)


def _alone(case, ours, ours_without, core, core_without) -> Row:
    """What a function adds: the median difference, and the ratio of these two."""
    added = np.median(np.subtract(ours, ours_without))
    core_added = np.median(np.subtract(core, core_without))
    return {
        "case": f"{case}, alone",
        "ours": added * 1e6,
        "beside": "core",
        "theirs": core_added * 1e6,
        "unit": "us/step",
        # differences of noisy times: a negative one is as good as none
        "ratio": max(added, 0.0) / max(core_added, 1e-9),
        "limit": 1.0,
        "goal": "<= 1",
        "rounds": len(ours),
    }
