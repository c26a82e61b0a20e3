"""Adaptive LIF neurons, beyond what the harness compares with core."""

import nengo
import numpy as np

import nengo_dl
from nengo_dl.kernels.neurons.adaptive_lif import (
    AdaptiveLIFKernel,
    AdaptiveLIFRateKernel,
)
from nengo_dl.kernels.neurons.base import NeuronKernel
from nengo_dl.runtime.numpy.namespace import NumpyNamespace
from tests.kernels.kernel_cases import population
from tests.kernels.kernel_harness import ITEMS, STEPS, Bench, Case, Step


def test_training_keeps_the_adaptation(allclose):
    """The rate form has the adaptation of core's rate type, and no other state."""
    neurons = nengo.AdaptiveLIF(tau_n=0.05, inc_n=0.02, amplitude=2)
    rate = nengo.AdaptiveLIFRate(tau_n=0.05, inc_n=0.02, amplitude=2)
    bench = Bench()

    def build(bench, variant):
        current = bench.feed(values=bench.rng.uniform(0, 8, (ITEMS, STEPS, 6)))
        population(bench, neurons, current)

    bench.build(Case("adaptive", build), 0)
    step = Step(bench, 1, training=True)
    assert step.kernels() == {NeuronKernel.of(rate)}
    (signal,) = bench.data
    carry, xp = step.carry("float64"), NumpyNamespace("float64")
    adaptation, output = np.zeros(6), np.zeros(6)
    for current in bench.data[signal][0]:
        given = step.inputs("float64", {signal: current[:, None]})
        carry, y = step.function(xp, carry, given, [])
        rate.step(0.001, current, output, adaptation)
        assert allclose(step.watched(y)[0][:, 0], output, rtol=1e-12)
    assert adaptation.any()
    watched = dict(zip(("output", *neurons.state), step.watched(y), strict=True))
    assert allclose(watched["adaptation"][:, 0], adaptation, rtol=1e-12)
    # what the rates do not need stays as it was
    first = bench.watches[1].signal.initial_value
    assert allclose(watched["voltage"][:, 0], first, atol=0)


def test_rate_form_is_the_mean_of_the_spikes(allclose):
    """Both settle where rate and adaptation fit each other."""
    settled = []
    for kind in (nengo.AdaptiveLIF, nengo.AdaptiveLIFRate):
        with nengo.Network(seed=1) as net:
            nengo_dl.configure_settings(jit=True)
            ens = nengo.Ensemble(
                8,
                1,
                neuron_type=kind(tau_n=0.2, inc_n=0.05),
                gain=np.ones(8),
                bias=np.linspace(2, 10, 8),
            )
            probe = nengo.Probe(ens.neurons)
        with nengo_dl.Simulator(net, progress_bar=False) as sim:
            sim.run_steps(3000)
        settled.append(sim.data[probe][1000:].mean(axis=0))
    assert allclose(settled[0], settled[1], atol=0.7)  # a spike or two in two seconds
    assert (settled[1] < nengo.LIFRate().rates(1, np.ones(8), np.linspace(1, 9, 8))).all()


def test_kernels_extend_those_of_lif():
    lif, rate = (NeuronKernel.of(kind()) for kind in (nengo.LIF, nengo.LIFRate))
    for extended, base in ((AdaptiveLIFKernel, lif), (AdaptiveLIFRateKernel, rate)):
        assert issubclass(extended, type(base))
        assert extended.params == (*base.params, "tau_n", "inc_n")
        assert extended.state == (*base.state, "adaptation")
    assert AdaptiveLIFKernel.rate_form is AdaptiveLIFRateKernel
