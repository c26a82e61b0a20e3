"""Simulators that run: settings, first results, runs and single steps."""

from __future__ import annotations

import re
import typing
from collections.abc import Callable, Sequence
from typing import Any, Literal

import nengo
import numpy as np
from nengo.exceptions import ValidationError

from nengo_dl.benchmarks.networks import Case
from nengo_dl.benchmarks.networks.chains import chain
from nengo_dl.benchmarks.timing import Times, no_collection, seconds, take_turns
from nengo_dl.config import configure_settings
from nengo_dl.simulator import Simulator

Tier = Literal["auto", "numpy", "native", "tensorflow"]
"""What runs the loop over time."""

LONG_RUN = 1_000_000
"""Steps of a long simulation, a quarter of an hour of simulated time."""

TIERS: dict[Tier, dict[str, Any]] = {
    "auto": {},
    "numpy": {"jit": False},
    "native": {"executor": "native"},
    "tensorflow": {"jit": True},
}
"""The settings for each tier."""

Precision = Literal["float32", "float64"]

DIFFERENCE_STEPS = 100
"""Steps over which outputs are compared. After that the float32 outputs of a spiking
network with feedback drift apart: one spike that comes a step later shifts others."""


def built(
    case: Case | Callable[[], nengo.Network],
    seed: int | None = None,
    settings: dict[str, Any] | None = None,
) -> nengo.Network:
    """A network with a seed and settings.

    ``case``: makes it. ``seed``: instead of the one that the network has. ``settings``:
    for `.configure_settings`.
    """
    net = case()
    if seed is not None:
        net.seed = seed
    if settings:
        with net:
            configure_settings(**settings)
    return net


def warm_up(steps: int = 1, **settings: Any) -> float:
    """Let TensorFlow and both simulators do what they do once per process.

    ``steps``: of the runs. ``**settings``: for `.configure_settings`. Returns: seconds
    that it took.
    """

    def run():
        net = built(lambda: chain(1, 10), settings=settings)
        for simulator in (nengo.Simulator, Simulator):
            with simulator(net, progress_bar=False) as sim:
                sim.run_steps(steps, progress_bar=False)
                sim.step()

    return seconds(run)


def require_machine_code(problem: str) -> None:
    """Raise `RuntimeError` where there is no machine code on this system.

    ``problem``: what cannot be done without it; the message adds the reason.
    """
    from nengo_dl.runtime.native.compile import available

    reason = available()
    if reason is not None:
        raise RuntimeError(f"{problem}: {reason}")


def run_times(sims: Sequence, steps: int, repeats: int) -> list[Times]:
    """Seconds per step of ``run_steps``, for each simulator and round.

    ``steps``: of each run. ``repeats``: number of rounds.
    """
    runs = [lambda sim=sim: sim.run_steps(steps, progress_bar=False) for sim in sims]
    with no_collection():
        times = take_turns(runs, repeats)
    return [tuple(t / steps for t in row) for row in times]


def step_times(sims: Sequence, calls: int, repeats: int) -> list[Times]:
    """Seconds per call of ``step``, for each simulator and round.

    ``calls``: of each round. ``repeats``: number of rounds.
    """

    def call(sim, times):
        for _ in range(times):
            sim.step()

    for sim in sims:
        call(sim, 10)  # the first calls may have something to prepare
    with no_collection():
        runs = [lambda sim=sim: call(sim, calls) for sim in sims]
        times = take_turns(runs, repeats)
    return [tuple(t / calls for t in row) for row in times]


def relative_difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference as a fraction of the largest absolute value expected.

    ``found``: probe data ``(T, d)`` or, in batches, ``(B, T, d)``. ``expected``: probe
    data ``(T, d)``; each batch item is compared with it. Raises `ValidationError` if all
    values expected are zero: agreeing on them would show nothing.
    """
    scale = np.abs(expected).max(initial=0)
    if scale == 0:
        raise ValidationError(
            "the output of nengo.Simulator is zero in all steps that are compared; "
            "a benchmark network has to be driven with a signal",
            attr="probe",
        )
    return float(np.abs(found - expected).max() / scale)


def settle(sim: Any, steps: int) -> None:
    """Let nengo_dl.Simulator run as it does at the end of a long simulation.

    The loop is compiled if NumPy would take longer for `LONG_RUN` steps than that takes.

    ``steps``: of the runs that follow; so many are run, so that they are prepared.
    """
    chooser = sim._program.chooser
    chooser.asked = max(chooser.asked, LONG_RUN)
    sim.run_steps(steps, progress_bar=False)


def count_kernels(sim: Any) -> int | None:
    """The number of kernels per step that the simulator's description tells.

    ``sim``: an open one. Returns: None if it does not describe itself, or does not
    mention kernels.
    """
    if not hasattr(sim, "describe"):
        return None
    found = re.search(r"([\d,]+) kernels", str(sim.describe()))
    return None if found is None else int(found[1].replace(",", ""))


def known_tiers() -> tuple[str, ...]:
    """The names of all tiers."""
    return typing.get_args(Tier)
