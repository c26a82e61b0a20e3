"""Spike for spike as in another simulator, where that is installed."""

import numpy as np
import pytest
from nengo_dl.learning_rules import STDP, TripletSTDP

from tests.models.pairs import random_spikes, run_operator

brian2 = pytest.importorskip(
    "brian2", reason="the other simulator is Brian2, which the extra brian2 installs"
)

STEPS, N, M = 400, 3, 2

EQUATIONS = "w : 1\n" + "\n".join(
    f"d{trace}/dt = -{trace} / tau_{trace} : 1 (event-driven)"
    for trace in ("r1", "r2", "o1", "o2")
)
DEPRESSION = "w = clip(w - o1 * (down2 + down3 * r2), 0, 1)"
POTENTIATION = "w = clip(w + r1 * (up2 + up3 * o2), 0, 1)"
SEEN_PRE, SEEN_POST = "r1 += 1\nr2 += 1", "o1 += 1\no2 += 1"


def in_brian(rule, sizes, pre, post, weights):
    """What Brian2 makes of it, where ``sizes`` are those of pairs and of triplets."""
    brian2.prefs.codegen.target = "numpy"
    brian2.start_scope()
    ms = brian2.ms
    brian2.defaultclock.dt = 1 * ms
    groups = []
    for spikes in (pre, post):
        times, numbers = np.nonzero(spikes)
        group = brian2.SpikeGeneratorGroup(spikes.shape[1], numbers, times * ms)
        groups.append(group)
    names = {"r1": "tau_plus", "o1": "tau_minus", "r2": "tau_x", "o2": "tau_y"}
    space = {f"tau_{k}": getattr(rule, v, 1.0) * brian2.second for k, v in names.items()}
    space.update(zip(("down2", "down3", "up2", "up3"), sizes, strict=True))
    if rule.coincident == "causal":  # Brian2's own order
        paths = {
            "on_pre": f"{DEPRESSION}\n{SEEN_PRE}",
            "on_post": f"{POTENTIATION}\n{SEEN_POST}",
        }
    else:  # weights before traces
        paths = {
            "on_pre": {"a": DEPRESSION, "c": SEEN_PRE},
            "on_post": {"b": POTENTIATION, "d": SEEN_POST},
        }
    synapses = brian2.Synapses(*groups, EQUATIONS, namespace=space, **paths)
    if rule.coincident != "causal":
        synapses.a.order = synapses.b.order = 0
        synapses.c.order = synapses.d.order = 1
    synapses.connect()
    synapses.w = weights.T.ravel()
    monitor = brian2.StateMonitor(synapses, "w", record=True, when="start")
    network = brian2.Network(*groups, synapses, monitor)
    network.run(STEPS * ms)
    return monitor.w[:].T.reshape(STEPS, N, M).transpose(0, 2, 1)


@pytest.mark.parametrize("coincident", ("ignored", "causal"))
@pytest.mark.parametrize("kind", ("pair", "triplet"))
def test_spike_for_spike(kind, coincident, rng):
    if kind == "pair":
        rule = STDP(0.02, tau_minus=0.03, coincident=coincident)
        sizes = (0.02, 0.0, 0.02, 0.0)
    else:
        rule = TripletSTDP(coincident=coincident)
        sizes = (rule.a2_minus, rule.a3_minus, rule.a2_plus, rule.a3_plus)
    pre, post = random_spikes(rng, STEPS, N, 0.08), random_spikes(rng, STEPS, M, 0.08)
    weights = rng.uniform(0.4, 0.6, (M, N))
    expected = in_brian(rule, sizes, pre, post, weights)
    found = run_operator(rule, pre, post, weights)
    assert np.abs(found - expected).max() <= 1e-13
    assert np.abs(found[-1] - weights).max() > 0.05
