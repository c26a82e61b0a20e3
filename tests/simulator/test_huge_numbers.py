"""Numbers at the end of what a precision holds."""

import warnings

import nengo
import numpy as np
import pytest

import nengo_dl
from nengo_dl import notices


def scaled(radius, dtype):
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(dtype=dtype, jit=False)
        inp = nengo.Node([0.5 * radius])
        ens = nengo.Ensemble(20, 1, radius=radius, neuron_type=nengo.LIFRate(), label="a")
        nengo.Connection(inp, ens, synapse=None)
        net.rates, net.value = nengo.Probe(ens.neurons), nengo.Probe(ens)
    return net


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("radius, dtype", [(1e30, "float32"), (1e300, "float64")])
def test_a_huge_radius_is_as_in_core(radius, dtype, allclose):
    net = scaled(radius, dtype)
    with nengo.Simulator(net, progress_bar=False) as core:
        core.run_steps(5)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(5)
    rtol = 1e-5 if dtype == "float32" else 1e-12
    for probe in (net.rates, net.value):
        assert allclose(sim.data[probe], core.data[probe], rtol=rtol, atol=0)


def test_a_radius_beyond_the_precision_is_said():
    net = scaled(1e300, "float32")
    with pytest.warns(UserWarning, match=r"probes\[1\].weights were built with numbers"):
        with nengo_dl.Simulator(net, progress_bar=False) as sim:
            sim.run_steps(5)
    with nengo.Simulator(net, progress_bar=False) as core:
        core.run_steps(5)
    # neurons are right: what they get is a sum of products within the range
    assert np.allclose(sim.data[net.rates], core.data[net.rates], rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_functions_beyond_the_precision_are_named(dtype):
    notices.forget()
    with nengo.Network() as net:
        nengo_dl.configure_settings(dtype=dtype, jit=False)
        large = nengo.Node(lambda t: 1e39 * t, label="large")
        small = nengo.Node(lambda t, x: x * 1e-39, size_in=1)
        nengo.Connection(large, small, synapse=None)
        seen, exact = nengo.Probe(large), nengo.Probe(small)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            sim.run(1.0)
    told = [str(w.message) for w in caught if "float32 holds numbers" in str(w.message)]
    assert len(told) == (dtype == "float32")
    assert np.allclose(sim.data[exact].ravel(), sim.trange())
    assert np.isinf(sim.data[seen][-1]) == (dtype == "float32")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_poisson_spikes_of_a_huge_bias(dtype):
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(dtype=dtype, jit=False)
        kind = nengo.PoissonSpiking(nengo.RectifiedLinear())
        bias = np.array([1e4, 1e7, 1e30])
        ens = nengo.Ensemble(3, 1, neuron_type=kind, gain=np.ones(3), bias=bias)
        probe = nengo.Probe(ens.neurons)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(2000)
    counts = sim.data[probe].astype(float) * sim.dt
    expected = bias * sim.dt
    # four standard deviations of the mean of 2000 draws, and rounding
    near = 4 * np.sqrt(expected / 2000) + np.finfo(dtype).eps * expected
    assert (np.abs(counts.mean(0) - expected) <= near).all()
    assert np.allclose(counts[:, :2].std(0), np.sqrt(expected[:2]), rtol=0.06)
