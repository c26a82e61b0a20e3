"""Large probes of which few steps are recorded."""

import contextlib
from collections.abc import Iterator

import nengo
import numpy as np

from nengo_dl.benchmarks import beside, charts
from nengo_dl.benchmarks.registry import Row, measurement
from nengo_dl.benchmarks.runs import TIERS, Tier, run_times, warm_up
from nengo_dl.benchmarks.timing import check_positive
from nengo_dl.config import configure_settings
from nengo_dl.simulator import Simulator

NOTES = f"""{beside.NOTES} All weights of one connection are probed, with samples so many
steps apart; ours in NumPy and compiled, with a learning rule and without one."""

PERIODS = (1000, 100, 10, 2)
"""Steps from sample to sample."""


def network(neurons: int, period: float, learned: bool, tier: Tier) -> nengo.Network:
    """Two ensembles, and a probe of the weights between their neurons.

    ``neurons``: of each ensemble. ``period``: steps from sample to sample. ``learned``:
    whether BCM changes the weights.
    """
    weights = np.random.RandomState(0).randn(neurons, neurons) * 1e-4
    with nengo.Network(seed=0) as net:
        configure_settings(**TIERS[tier])
        pre, post = nengo.Ensemble(neurons, 1), nengo.Ensemble(neurons, 1)
        nengo.Connection(nengo.Node([0.5]), pre)
        rule = nengo.BCM(1e-12) if learned else None
        connection = nengo.Connection(
            pre.neurons, post.neurons, transform=weights, learning_rule_type=rule
        )
        net.p = nengo.Probe(connection, "weights", sample_every=period * 0.001)
        nengo.Probe(post, synapse=0.01)  # or nothing would depend on the weights
    return net


@measurement(beside.COLUMNS, NOTES, beside.goals_met, charts.ratio_bars)
def sampled(
    neurons: int = 400, samples: int = 3, repeats: int = 5, compiled: bool = True
) -> Iterator[Row]:
    """Measure steps with a large probe that is sampled now and then, beside core.

    Parameters
    ----------
    neurons : int
        The weights are a square matrix of so many rows.
    samples : int
        In each run.
    repeats : int
        Rounds.
    compiled : bool
        Whether to measure the compiled loop, too.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If a number is less than 1.
    """
    check_positive(neurons=neurons, samples=samples, repeats=repeats)
    warm_up()
    for period in PERIODS:
        for learned in (False, True):
            for tier in ("numpy", "tensorflow") if compiled else ("numpy",):
                net = network(neurons, period, learned, tier)
                with contextlib.ExitStack() as stack:
                    core, ours = (
                        stack.enter_context(simulator(net, progress_bar=False))
                        for simulator in (nengo.Simulator, Simulator)
                    )
                    steps = max(period * samples, 20)
                    run_times([ours], steps, 1)
                    times = run_times([core, ours], steps, repeats)
                rule = "with BCM" if learned else "without a rule"
                what = f"{neurons} x {neurons} weights every {period:,} steps"
                yield beside.beside_row(
                    f"{what}, {rule}, {tier}",
                    times[1],
                    "core",
                    times[0],
                    "us/step",
                    1.0 if period == PERIODS[0] else None,
                    scale=1e6,
                )
