"""Cases of what learns from spikes: rules, and a neuron type."""

import nengo
import numpy as np
from nengo.builder.operator import Copy, DotInc, Reset
from nengo_dl.learning_rules import STDP, ModulatedSTDP, Normalize, TripletSTDP

import nengo_dl
from nengo_dl.models.plasticity import (
    SimModulatedSTDP,
    SimNormalize,
    SimSTDP,
    SimTripletSTDP,
)
from tests.kernels.kernel_cases import CASES, case, neurons, population
from tests.kernels.kernel_harness import DT, ITEMS, STEPS, Case


def learner(bench, m, n):
    """Weights at work, and the signal of their change: output, weights and change."""
    weights = bench.signal(bench.values(m, n, low=0.3, high=0.7))
    y, delta = bench.signal((m,)), bench.signal((m, n), "delta")
    bench.add(Reset(y), DotInc(weights, bench.feed(n), y), Copy(delta, weights, inc=True))
    return y, weights, delta


def spikes(bench, n, height):
    """Spikes at random; away from kinks there is always some part of one."""
    some = bench.rng.uniform(size=(ITEMS, STEPS, n)) < 0.2
    values = some if bench.rough else 0.05 + 0.1 * some
    return bench.feed(values=values * height / DT)


def plastic(bench, operator, rule, m, n, gate=None):
    """A rule with feeds for all that it reads: output, weights, change, traces."""
    y, weights, delta = learner(bench, m, n)
    traces = {
        name: bench.signal((n if before else m,), name)
        for name, (before, _) in operator.TRACES.items()
    }
    gate = bench.feed(1) if gate is None else gate
    heights = (1.0, 2.0)
    inputs = [spikes(bench, n, heights[0]), spikes(bench, m, heights[1])]
    parts = [*inputs, weights, gate, delta, traces, rule, heights]
    watched = [y, weights, delta, *traces.values()]
    if operator is SimModulatedSTDP:
        watched.append(bench.signal((m, n), "eligibility"))
        parts.insert(0, watched[-1])
    bench.add(operator(*parts))
    return watched


@case()
def stdp_of_one_shape(bench, variant):
    """All pairs, whatever the weight; the change is carried as its factors."""
    rule = STDP(0.05, 1.0, 0.9, 0.02 + 0.01 * variant, 0.03)
    bench.watch(*plastic(bench, SimSTDP, rule, 4, 9)[:2])


@case()
def stdp_with_delta(bench, variant):
    """The nearest pairs, in order, as far from the bounds as they are; what spikes do."""
    rule = STDP(
        0.04,
        a_pre=0.1,
        a_post=-0.2,
        mu_plus=1.0,
        mu_minus=1.0,
        pairing="nearest",
        coincident="causal",
    )
    bench.watch(*plastic(bench, SimSTDP, rule, 3, 8))


@case()
def stdp_of_single_spikes(bench, variant):
    """What spikes do by themselves, in the other direction, without a power."""
    rule = STDP(0.04, a_pre=-0.1, a_post=0.2, mu_plus=1.0, coincident="causal")
    bench.watch(*plastic(bench, SimSTDP, rule, 2, 7)[:2])
    rule = STDP.vogels(5.0, 0.02)
    rule = STDP(0.02, rule.a_plus, rule.a_minus, a_pre=rule.a_pre, a_post=-0.1)
    bench.watch(*plastic(bench, SimSTDP, rule, 3, 7)[:2])


@case()
def stdp_with_a_fixed_gate(bench, variant):
    """One number for all items, and a power that is not one, of nothing that is lost."""
    gate = bench.signal(np.array([0.5 + 0.25 * variant]))
    rule = STDP(0.0005, mu_plus=0.3, mu_minus=0.4)
    bench.watch(*plastic(bench, SimSTDP, rule, 3, 6, gate)[:2])
    rule = STDP.diehl_cook(0.02)
    bench.watch(*plastic(bench, SimSTDP, rule, 5, 6, gate)[:2])


@case()
def triplets(bench, variant):
    """Two traces on each side."""
    rule = TripletSTDP.fit("hippocampal", learning_rate=2.0)
    bench.watch(*plastic(bench, SimTripletSTDP, rule, 3, 6)[:2])
    rule = TripletSTDP(3.0, coincident="causal", pairing="nearest")
    bench.watch(*plastic(bench, SimTripletSTDP, rule, 3, 5))


@case()
def modulated_stdp(bench, variant):
    """Changes that wait for a reward, of either sign."""
    rule = ModulatedSTDP(1.0, tau_e=0.05)
    bench.watch(*plastic(bench, SimModulatedSTDP, rule, 3, 6)[:2])
    rule = ModulatedSTDP(1.0, mu_minus=1.0, coincident="causal", a_pre=0.1)
    bench.watch(*plastic(bench, SimModulatedSTDP, rule, 2, 5))


@case()
def normalize(bench, variant):
    """Sums over both axes, in each step and in some."""
    for axis, period in (("pre", 1), ("post", 7 + variant)):
        y, weights, delta = learner(bench, 3, 6)
        count = None if period == 1 else bench.signal((1,), "count")
        rule = Normalize(1.5, axis=axis)
        bench.add(SimNormalize(weights, delta, count, rule, period))
        bench.watch(y, weights, delta)


@case()
def stdp_of_scaled_weights(bench, variant):
    """Weights that leave the bounds in some steps, because they are scaled."""
    rule = STDP(0.05)
    y, weights = plastic(bench, SimSTDP, rule, 4, 6)[:2]
    delta, count = bench.signal((4, 6), "scaling"), bench.signal((1,), "count")
    bench.add(
        Copy(delta, weights, inc=True),
        SimNormalize(weights, delta, count, Normalize(8.0), 5 + variant),
    )
    bench.watch(y, weights)


@case()
def normalize_zeros(bench, variant):
    """A neuron whose weights are all zero keeps them."""
    values = np.eye(3)[:2] if bench.rough else bench.values(2, 3, low=0.5)
    weights, delta = bench.signal(values + variant * values), bench.signal((2, 3))
    bench.add(
        Copy(delta, weights, inc=True),
        SimNormalize(weights, delta, None, Normalize(2.0, axis="post"), 1),
    )
    bench.watch(weights)


def steady(bench, n):
    """Currents that no threshold comes near to slowly."""
    values = bench.rng.uniform(3, 9, n) + bench.rng.normal(size=(ITEMS, STEPS, n))
    if bench.rough:
        values[:, :, :4] = [0.0, -50.0, 1234.5, -1.0]
    return bench.feed(values=values)


def rising_threshold(bench, variant):
    """A threshold that comes down fast enough to meet voltages, and one that stays."""
    kinds = [
        nengo_dl.AdaptiveThresholdLIF(
            0.02 + 0.01 * variant,
            0.002 + 0.001 * variant,
            -0.5 * variant,
            1 + 0.5 * variant,
            tau_theta=0.01 + 0.01 * variant,
            inc_theta=0.5 + 0.1 * variant,
        ),
        nengo_dl.AdaptiveThresholdLIF(
            inc_theta=0, initial_state={"theta": nengo.dists.Uniform(0, 1)}
        ),
    ]
    for kind in kinds:
        population(bench, kind, steady(bench, 20 + 5 * variant))


CASES.append(Case("adaptive_threshold_lif", rising_threshold, sensitive=20))
neurons(
    "adaptive_threshold_lif_rate",
    lambda i: nengo_dl.AdaptiveThresholdLIFRate(
        0.02 + 0.01 * i, 0.002 + 0.001 * i, 1 + i, 0.05 + 0.1 * i, 0.1 + 0.1 * i
    ),
    sensitive=5,
)
