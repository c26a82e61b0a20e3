"""The neuron types of ``nengo_dl.neurons``, in core Nengo and natively."""

import nengo
import numpy as np
import pytest
import tensorflow as tf
from nengo.exceptions import ValidationError

import nengo_dl
from nengo_dl.compiler.traits import Params
from nengo_dl.kernels.neurons.base import NeuronKernel
from nengo_dl.neurons import LeakyReLU, SoftLIFRate, SpikingLeakyReLU
from nengo_dl.runtime.numpy.namespace import NumpyNamespace
from nengo_dl.runtime.tensorflow.namespace import TensorFlowNamespace

TYPES = (SoftLIFRate, LeakyReLU, SpikingLeakyReLU)
each_type = pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.__name__)


def rates_of(neurons, J):
    """Rates for currents."""
    return neurons.rates(np.reshape(J, (-1, 1)), np.ones(1), np.zeros(1))[:, 0]


# -- as any neuron type ----------------------------------------------------------------


def test_defaults():
    soft, leaky, spiking = (kind() for kind in TYPES)
    found = (soft.sigma, soft.tau_rc, soft.tau_ref, soft.amplitude)
    assert found == (1.0, 0.02, 0.002, 1)
    for neurons in (leaky, spiking):
        assert (neurons.negative_slope, neurons.amplitude) == (0.3, 1)
        assert neurons.negative
    assert spiking.spiking and not leaky.spiking and not soft.spiking
    assert SoftLIFRate(0.5, 0.03, 0.001, 2) == SoftLIFRate(
        sigma=0.5, tau_rc=0.03, tau_ref=0.001, amplitude=2
    )
    assert SoftLIFRate(0.5) != SoftLIFRate(0.4) and LeakyReLU(0.1) != LeakyReLU(0.2)
    assert repr(LeakyReLU(0.1)) == "LeakyReLU(negative_slope=0.1)"
    assert {nengo_dl.SoftLIFRate, nengo_dl.LeakyReLU, nengo_dl.SpikingLeakyReLU} == {
        *TYPES
    }


def test_wrong_arguments():
    for sigma in (0, -1, "wide"):
        with pytest.raises(ValidationError, match="sigma"):
            SoftLIFRate(sigma=sigma)
    with pytest.raises(ValidationError, match="negative_slope"):
        LeakyReLU(negative_slope=None)
    with pytest.raises(ValidationError, match="voltage"):
        LeakyReLU(initial_state={"voltage": [0.0]})


@each_type
def test_represents_in_core(kind, rng, allclose):
    """With the intercepts and rates that ensembles have by themselves."""
    with nengo.Network(seed=1) as net:
        inp = nengo.Node(lambda t: np.sin(6 * t))
        ens = nengo.Ensemble(100, 1, neuron_type=kind())
        nengo.Connection(inp, ens)
        value = nengo.Probe(inp, synapse=0.02)
        decoded = nengo.Probe(ens, synapse=0.02)
    with nengo.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(500)
    error = sim.data[decoded][50:] - sim.data[value][50:]
    assert np.sqrt(np.mean(error**2)) < 0.1


# -- the smoothed rate -----------------------------------------------------------------


def reference(J, sigma, tau_rc=0.02, tau_ref=0.002):
    """The equation in extended precision."""
    x = (np.asarray(J, np.longdouble) - 1) / sigma
    drive = sigma * np.logaddexp(np.longdouble(0), x)
    return 1 / (tau_ref + tau_rc * (np.log1p(drive) - np.log(drive)))


def soft_parameters(kernel, sigma):
    """What the kernel's step gets."""
    values = {"tau_rc": 0.02, "tau_ref": 0.002, "amplitude": 1.0, "sigma": sigma}
    return Params(**kernel.derive(values))


CURRENTS = np.concatenate([np.linspace(-30, 30, 601), [-500, -90, 100, 1e4, 1e8]])


@pytest.mark.parametrize("sigma", (0.05, 0.3, 1.0, 10.0))
def test_soft_lif_equation(sigma, allclose):
    J = CURRENTS[(CURRENTS - 1) / sigma > -11000]  # there extended precision ends
    expected = reference(J, sigma).astype(float)
    assert allclose(rates_of(SoftLIFRate(sigma), J), expected, rtol=1e-13, atol=0)
    kernel = NeuronKernel.of(SoftLIFRate())
    p = soft_parameters(kernel, sigma)
    for dtype, rtol in (("float64", 1e-13), ("float32", 2e-6)):
        for xp in (NumpyNamespace(dtype), TensorFlowNamespace(dtype, fast=True)):
            (rate,) = kernel.step(xp, p, xp.constant(J[:, None]))
            assert allclose(np.asarray(rate)[:, 0], expected, rtol=rtol, atol=0)


def test_soft_lif_becomes_lif(allclose):
    J = np.concatenate([np.linspace(-5, 0.99, 50), np.linspace(1.01, 20, 50)])
    hard = rates_of(nengo.LIFRate(), J)
    difference = [
        np.abs(rates_of(SoftLIFRate(sigma), J) - hard).max()
        for sigma in (1, 0.1, 0.01, 1e-5)
    ]
    assert np.all(np.diff(difference) < 0) and difference[-1] < 0.1
    higher = rates_of(SoftLIFRate(0.3), J) - hard
    assert (higher[J < 5] > 0).all() and (higher > -1e-9).all()


@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_soft_lif_gradient_is_finite_and_positive(dtype, allclose):
    kernel = NeuronKernel.of(SoftLIFRate())
    p = soft_parameters(kernel, 0.3)
    J = np.array([-1e5, -40, -11, -10, -1, 0.9, 1, 1.1, 5, 30, 1e3])
    x = tf.constant(J[:, None].astype(dtype))
    with tf.GradientTape() as tape:
        tape.watch(x)
        (rate,) = kernel.step(TensorFlowNamespace(dtype, fast=True), p, x)
    found = tape.gradient(rate, x).numpy()[:, 0]
    width = np.longdouble(1e-6)
    assert np.isfinite(found).all() and (found > 0).all()
    J, found = J[1:], found[1:]  # what is left out is beyond extended precision
    numeric = (reference(J + width, 0.3) - reference(J - width, 0.3)) / (2 * width)
    assert allclose(found[:-1], numeric[:-1].astype(float), rtol=1e-4)


def test_soft_lif_has_gains_of_lif(rng):
    max_rates, intercepts = rng.uniform(5, 400, 20), rng.uniform(-0.9, 0.9, 20)
    soft, hard = SoftLIFRate(0.1), nengo.LIFRate()
    gain, bias = soft.gain_bias(max_rates, intercepts)
    assert np.array_equal((gain, bias), hard.gain_bias(max_rates, intercepts))
    found = np.concatenate(soft.max_rates_intercepts(gain, bias))
    assert np.abs(found / np.concatenate([max_rates, intercepts]) - 1).max() < 1e-9


# -- leaky rectified lines -------------------------------------------------------------


@pytest.mark.parametrize("kind", (LeakyReLU, SpikingLeakyReLU))
def test_leaky_tuning_curves(kind, rng, allclose):
    neurons = kind(0.2)
    max_rates, intercepts = rng.uniform(100, 300, 15), rng.uniform(-0.9, 0.9, 15)
    gain, bias = neurons.gain_bias(max_rates, intercepts)
    assert allclose(neurons.rates(np.ones((1, 15)), gain, bias), max_rates[None])
    assert allclose(neurons.rates(intercepts[None], gain, bias), 0, atol=1e-10)
    below = neurons.rates(intercepts[None] - 0.1, gain, bias)
    assert allclose(below, -0.2 * 0.1 * gain[None])
    found = neurons.max_rates_intercepts(gain, bias)
    assert allclose(np.array(found), np.array([max_rates, intercepts]))
    twice = kind(0.2, amplitude=2).rates([-1, 1], np.ones(1), np.zeros(1))
    assert allclose(twice[:, 0], [-0.4, 2])


@pytest.mark.parametrize("dt", (0.001, 0.0005))
@pytest.mark.parametrize("amplitude", (1, 0.1))
def test_leaky_spikes_come_at_the_rate(dt, amplitude):
    neurons = SpikingLeakyReLU(0.25, amplitude)
    J = np.array([-4000.0, -400, -30, -0.5, 0, 0.5, 30, 400, 2500])
    voltage, output = np.zeros(J.shape), np.zeros(J.shape)
    total, n_steps = np.zeros(J.shape), 2000
    for _ in range(n_steps):
        neurons.step(dt, J, output, voltage)
        counts = output * dt / amplitude
        assert np.abs(counts - np.rint(counts)).max() < 1e-9
        assert (counts * J >= 0).all() and np.abs(voltage).max() < 1
        total += counts
    expected = rates_of(neurons, J) / amplitude * n_steps * dt
    assert np.abs(total - expected).max() <= 1


def test_leaky_neurons_wait_for_a_whole_spike():
    """A current around zero makes no spikes of alternating signs."""
    neurons = SpikingLeakyReLU(1.0)
    voltage, output, total = np.zeros(1), np.zeros(1), 0
    for i in range(1000):
        neurons.step(0.001, np.array([(-1.0) ** i * 200]), output, voltage)
        total += np.count_nonzero(output)
    assert total == 0


def test_training_runs_the_leaky_rate():
    kernel = NeuronKernel.of(SpikingLeakyReLU())
    assert kernel.rate_form is type(NeuronKernel.of(LeakyReLU()))


def test_swapping_types_keeps_gains(allclose):
    """What was trained with one type runs with the other."""
    probes = {}
    for neurons in (LeakyReLU(), SpikingLeakyReLU()):
        with nengo.Network(seed=2) as net:
            ens = nengo.Ensemble(50, 1, neuron_type=neurons)
            nengo.Connection(nengo.Node(0.5), ens)
            probe = nengo.Probe(ens, synapse=0.05)
        with nengo_dl.Simulator(net, progress_bar=False) as sim:
            sim.run_steps(300)
        probes[type(neurons)] = sim.data[probe][-100:].mean()
    assert allclose(probes[SpikingLeakyReLU], probes[LeakyReLU], atol=0.03)
