"""Poisson distributed numbers of spikes against the distribution itself."""

from functools import cache

import nengo
import numpy as np
import pytest
from scipy import stats

import nengo_dl
from nengo_dl.kernels.neurons.base import NeuronKernel
from nengo_dl.kernels.neurons.poisson import (
    EXACT_UP_TO,
    NEGLIGIBLE,
    PoissonSpikingKernel,
    cornish_fisher,
    count,
    terms,
)
from nengo_dl.neurons import LeakyReLU, SoftLIFRate
from nengo_dl.runtime.numpy.namespace import NumpyNamespace
from nengo_dl.runtime.tensorflow.namespace import TensorFlowNamespace

NAMESPACES = {
    "numpy": NumpyNamespace,
    "tensorflow": lambda dtype: TensorFlowNamespace(dtype, fast=False),
    "fast": lambda dtype: TensorFlowNamespace(dtype, fast=True),
}


def grid(n):
    """Probabilities at equal distances, ``(n, 1)``."""
    return (np.arange(n)[:, None] + 0.5) / n


@cache
def exact_counts(expected, dtype):
    """Probabilities, rounded, and the numbers of spikes at which they are reached."""
    u = grid(100_000).astype(dtype)
    return u, stats.poisson.isf(u.astype(float), expected)


@pytest.mark.parametrize("expected", (0.001, 0.2, 1.0, 3.7, EXACT_UP_TO))
@pytest.mark.parametrize("namespace", sorted(NAMESPACES))
@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_inverse_of_the_distribution(expected, namespace, dtype):
    u, exact = exact_counts(expected, dtype)
    xp = NAMESPACES[namespace](dtype)
    found = np.asarray(count(xp, np.full((1, 1), expected, dtype), u, terms(expected)))
    differ = np.count_nonzero(found != exact)
    assert differ <= (0 if dtype == "float64" else 3)  # within rounding of a step
    assert np.abs(found - exact).max() <= 1


def test_small_probabilities_are_kept_in_single_precision():
    """The upper tail is where the uniform numbers are small, and so precise."""
    u = np.array([[1e-6], [1e-7], [3e-8], [0.0], [1.0], [1 - 2.0**-24]])
    xp = NumpyNamespace("float32")
    found = count(xp, np.full((1, 1), 0.5, "float32"), u.astype("float32"), terms(0.5))
    assert np.array_equal(found[:3], stats.poisson.isf(u[:3], 0.5))
    assert found[3] == terms(0.5) and not found[4:].any()


def test_terms():
    for expected in (0.0, 1e-9, 0.1, 0.5, 1.0, 2.0, EXACT_UP_TO):
        n = terms(expected)
        assert stats.poisson.sf(n, expected) < 1.01 * NEGLIGIBLE
        assert n == 1 or stats.poisson.sf(n - 1, expected) > 0.99 * NEGLIGIBLE


@pytest.mark.parametrize("expected", (EXACT_UP_TO, 11.3, 50.0, 1000.0))
@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_many_spikes_are_nearly_poisson_distributed(expected, dtype):
    n = 400_000
    xp = NumpyNamespace(dtype)
    found = cornish_fisher(xp, np.full((1, 1), expected, dtype), grid(n).astype(dtype))
    found = np.asarray(found, np.float64).ravel()
    assert found.min() >= 0 and np.array_equal(found, np.rint(found))
    most = int(found.max()) + 1
    share = np.bincount(found.astype(int), minlength=most) / n
    exact = stats.poisson.pmf(np.arange(most), expected)
    assert 0.5 * np.abs(share - exact).sum() < 1.4e-3
    assert abs(found.mean() / expected - 1) < 2e-4
    assert abs(found.var() / expected - 1) < 1e-3


def test_extreme_numbers_are_finite():
    u = np.array([[0.0], [1.0], [0.5]])
    for dtype in ("float32", "float64"):
        xp = NumpyNamespace(dtype)
        found = cornish_fisher(xp, np.full((1, 1), 100.0, dtype), u.astype(dtype))
        assert 150 < found[0] < 300 and 30 < found[1] < 70 and 99 <= found[2] <= 101


# -- how many terms a population needs -------------------------------------------------


def derived(base, dt=0.001):
    kernel = PoissonSpikingKernel()
    values = kernel.values(nengo.PoissonSpiking(base), 3)
    return kernel.derive(dict(values, dt=dt))


@pytest.mark.parametrize(
    "base, highest",
    (
        (nengo.LIFRate(tau_ref=0.002, amplitude=2), 1000),
        (nengo.AdaptiveLIFRate(tau_ref=0.004), 250),
        (SoftLIFRate(tau_ref=0.004), 250),
        (nengo.Sigmoid(0.0025), 400),
        (nengo.Tanh(0.005), 200),
        (nengo.LIFRate(tau_ref=0), np.inf),
        (nengo.RectifiedLinear(), np.inf),
        (LeakyReLU(), np.inf),
    ),
    ids=str,
)
def test_bounds_of_rates(base, highest, rng):
    assert NeuronKernel.of(base).highest_rate(base) == pytest.approx(highest)
    rates = base.rates(rng.uniform(-300, 300, (100, 1)), np.ones(1), np.zeros(1))
    assert np.abs(rates).max() <= highest * (1 + 1e-12)
    p = derived(base)
    assert p["beyond"] == (highest == np.inf)
    assert p["terms"] == terms(min(highest * 0.001, EXACT_UP_TO))


def test_long_steps_need_more_terms():
    assert derived(nengo.LIFRate(), 0.01)["terms"] == terms(5.0)
    assert derived(nengo.LIFRate(), 0.1)["beyond"]


# -- simulations against core ----------------------------------------------------------


def test_spikes_of_a_network_are_distributed_as_in_core():
    """Counts of all neurons and steps, at rates that are held."""
    n, steps = 200, 500
    rates = np.array([20.0, 200.0, 1500.0, 7000.0, 20000.0]).repeat(n // 5)
    with nengo.Network(seed=1) as net:
        nengo_dl.configure_settings(jit=True)
        ens = nengo.Ensemble(
            n,
            1,
            neuron_type=nengo.PoissonSpiking(nengo.RectifiedLinear()),
            gain=np.ones(n),
            bias=rates,
        )
        probe = nengo.Probe(ens.neurons)
    with nengo_dl.Simulator(net, progress_bar=False, minibatch_size=2) as sim:
        sim.run_steps(steps)
    with nengo.Simulator(net, progress_bar=False) as core:
        core.run_steps(steps)
    ours, theirs = sim.data[probe] * 0.001, core.data[probe] * 0.001
    for i, rate in enumerate(np.unique(rates)):
        part = slice(i * n // 5, (i + 1) * n // 5)
        mean = rate * 0.001
        for counts in (ours[0][:, part], ours[1][:, part], theirs[:, part]):
            # five standard errors of mean and variance
            error = 5 / np.sqrt(counts.size)
            assert abs(counts.mean() - mean) < error * np.sqrt(mean)
            spread = np.sqrt(2 * mean**2 + mean)
            assert abs(counts.var() - mean) < error * spread
        # one step tells nothing about the next, nor one neuron about another
        x = ours[0][:, part] - mean
        for product in (x[1:] * x[:-1], x[:, 1:] * x[:, :-1]):
            assert abs(product.mean()) < 5 * mean / np.sqrt(product.size)


def test_negative_rates_give_negative_spikes():
    with nengo.Network(seed=1) as net:
        ens = nengo.Ensemble(
            30,
            1,
            neuron_type=nengo.PoissonSpiking(nengo.Tanh(), amplitude=2),
            gain=np.ones(30),
            bias=np.repeat([-1, 0, 1], 10),
        )
        probe = nengo.Probe(ens.neurons)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(400)
    negative, none, positive = np.split(sim.data[probe], 3, axis=1)
    assert negative.max() == 0 and not none.any() and positive.min() == 0
    rate = 2 * np.tanh(1) / 0.0025
    error = 5 * np.sqrt(2 * rate * 1000 / 4000)
    assert abs(positive.mean() - rate) < error and abs(negative.mean() + rate) < error
