"""Cases of neuron types: those of Nengo, and those of ``nengo_dl.neurons``."""

import nengo
import numpy as np
from nengo.builder.neurons import SimNeurons
from scipy import stats

import nengo_dl
from nengo_dl.kernels.neurons.base import neuron_kernels
from nengo_dl.kernels.neurons.loihi import (
    LoihiLIFRateKernel,
    LoihiRectifiedLinearKernel,
)
from tests.kernels.kernel_cases import CASES, currents, neurons, population
from tests.kernels.kernel_harness import DT, ITEMS, STEPS, Case
from tests.kernels.loihi_types import (
    LIFInWholeSteps,
    LoihiLIF,
    LoihiSpikingRectifiedLinear,
    RectifiedInWholeSteps,
    decaying,
    resting,
)


def larger_currents(bench, n):
    """Currents for neurons that take adaptation from them."""
    if bench.rough:
        return currents(bench, n, 2.0**-20)
    # the threshold is never met, whatever the adaptation
    return bench.feed(values=bench.rng.uniform(5, 8, (ITEMS, STEPS, n)))


def adapting(name, make, **options):
    """A case of a neuron type that adapts: ``make(variant)``."""

    def build(bench, variant):
        population(bench, make(variant), larger_currents(bench, 20 + 5 * variant))

    CASES.append(Case(name, build, **options))


adapting(
    "adaptive_lif_rate",
    lambda i: nengo.AdaptiveLIFRate(
        0.05 + 0.1 * i, 0.01 + 0.005 * i, 0.02 + 0.01 * i, 0.002 + 0.001 * i, 1 + i
    ),
)
adapting(
    "adaptive_lif",
    lambda i: nengo.AdaptiveLIF(
        tau_n=0.05 + 0.1 * i,
        inc_n=0.01 + 0.005 * i,
        tau_rc=0.02 + 0.01 * i,
        tau_ref=0.002 + 0.001 * i,
        min_voltage=-0.5 * i,
        amplitude=1 + 0.5 * i,
    ),
    sensitive=5,  # as LIF neurons are
)
neurons(
    "soft_lif_rate",
    lambda i: nengo_dl.SoftLIFRate(0.3 - 0.28 * i, 0.02 + 0.01 * i, 0.002 * i, 1 + i),
)
neurons("leaky_relu", lambda i: nengo_dl.LeakyReLU(0.3 + 0.2 * i, 1 + i))
neurons("clipped_relu", lambda i: nengo_dl.ClippedReLU(3 + i, 0.2 * i, 1 + i))
neurons("spiking_leaky_relu", lambda i: nengo_dl.SpikingLeakyReLU(0.3 + 0.2 * i, 1 + i))


def izhikevich(bench, variant):
    """Currents with which there are spikes, singly and in bursts."""
    neuron_type = nengo.Izhikevich(
        tau_recovery=0.02 + 0.05 * variant,
        coupling=0.2 + 0.05 * variant,
        reset_voltage=-65.0 + 12 * variant,
        reset_recovery=8.0 - 5 * variant,
    )
    n = 20 + 5 * variant
    mean = bench.rng.uniform(10, 30, size=n)
    values = mean + 5 * bench.rng.normal(size=(ITEMS, STEPS, n))
    if bench.rough:
        values[:, :, 0] = 1234.5
        values[:, ::25, 1] = -50.0  # held, this is unstable at steps of this length
    population(bench, neuron_type, bench.feed(values=values))


# from the threshold to the peak of a spike, an error grows several times in each step
CASES.append(Case("izhikevich", izhikevich, sensitive=200))


def given_rates(bench, n, low, high):
    """Rates that vary, in Hz; some are zero."""
    values = bench.rng.uniform(low, high, size=(ITEMS, STEPS, n))
    if bench.rough:
        values[:, :, :2] = 0.0
    return bench.feed(values=values)


def regular_spiking(bench, variant):
    """Rates of both signs, up to two spikes in a step."""
    neuron_type = nengo.RegularSpiking(nengo.Tanh(), amplitude=1 + variant)
    population(bench, neuron_type, given_rates(bench, 20 + variant, -900, 1900))


CASES.append(Case("regular_spiking", regular_spiking))


class InverseSampling(np.random.RandomState):
    """Poisson numbers by a way that takes one uniform number for each of them."""

    def poisson(self, lam, size):
        """The smallest numbers that are exceeded with less than a given probability."""
        return stats.poisson.isf(self.random_sample(size), lam)


def at_random(bench, neuron_type, rates):
    """A population that makes spikes of rates, with a generator of its own."""
    rng = InverseSampling(bench.rng.randint(1000))
    output = bench.signal(rates.shape, "output")
    bench.add(SimNeurons(neuron_type, rates, output, state={"rng": rng}))
    bench.watch(output)


def stochastic_spiking(bench, variant):
    """Rates of both signs, and positive ones."""
    n, amplitude = 20 + variant, 1 + variant
    signed = nengo.StochasticSpiking(nengo.Tanh(), amplitude)
    positive = nengo.StochasticSpiking(nengo.LIFRate(), amplitude)
    at_random(bench, signed, given_rates(bench, n, -900, 1900))
    at_random(bench, positive, given_rates(bench, n, 0, 1900))


CASES.append(Case("stochastic_spiking", stochastic_spiking))


def poisson_spiking(bench, variant):
    """Rates of both signs, and of positive ones; bounds of several kinds."""
    n, amplitude = 20 + variant, 1 + variant
    signed = nengo.PoissonSpiking(nengo.Tanh(0.001 * (1 + variant)), amplitude)
    low = nengo.PoissonSpiking(nengo.Sigmoid(0.0025 + 0.001 * variant), amplitude)
    at_random(bench, signed, given_rates(bench, n, -490, 490))
    at_random(bench, low, given_rates(bench, n, 0, 280))


CASES.append(Case("poisson_spiking", poisson_spiking))


def poisson_spiking_without_bound(bench, variant):
    """As many spikes in a step as the distribution is exact for."""
    neuron_type = nengo.PoissonSpiking(nengo.RectifiedLinear(), 1 + variant)
    at_random(bench, neuron_type, given_rates(bench, 20 + variant, 0, 5990))


CASES.append(Case("poisson_spiking_without_bound", poisson_spiking_without_bound))


def rates_and_spikes(bench, variant):
    """The base type and the spikes as core builds them: two operators."""
    base = nengo.AdaptiveLIFRate(tau_n=0.05 + 0.1 * variant)
    rates = population(bench, base, larger_currents(bench, 10 + variant))
    population(bench, nengo.RegularSpiking(base, 1 + variant), rates)


CASES.append(Case("rates_and_spikes", rates_and_spikes))


neurons(
    "loihi_lif",
    lambda i: LoihiLIF(0.02 + 0.01 * i, 0.002 + 0.001 * i, -0.5 * i, 1 + 0.5 * i),
    sensitive=5,  # as LIF neurons are
)
neurons("loihi_spiking_rectified_linear", lambda i: LoihiSpikingRectifiedLinear(1 + i))


def in_whole_steps(name, kernel, make, current):
    """A case of rates that only training knows: here they are a neuron type."""
    neuron_kernels.add(type(make(0)), kernel())
    neuron_kernels.exact(type(make(0))).neuron_type = type(make(0))

    def build(bench, variant):
        neurons = make(variant)
        # periods between whole steps, so that rounding does not make one step more of it
        steps = bench.rng.randint(8, 300, (ITEMS, STEPS, 20 + variant))
        period = DT * (steps - bench.rng.uniform(0.2, 0.8, steps.shape))
        values = current(neurons, period)
        values[:, :, :2] = [-1, 0]
        population(bench, neurons, bench.feed(values=values))

    CASES.append(Case(name, build))


def current_of_lif(neurons, period):
    """The current with which the neurons of the chip have this period."""
    tau_rc, tau_ref = decaying(neurons.tau_rc, DT), resting(neurons.tau_ref, DT)
    return 1 + 1 / np.expm1((period - tau_ref) / tau_rc)


in_whole_steps(
    "loihi_lif_rate",
    LoihiLIFRateKernel,
    lambda i: LIFInWholeSteps(0.02 + 0.01 * i, 0.002 + 0.001 * i, 1 + i),
    current_of_lif,
)
in_whole_steps(
    "loihi_rectified_linear",
    LoihiRectifiedLinearKernel,
    lambda i: RectifiedInWholeSteps(1 + i),
    lambda neurons, period: 1 / period,
)
