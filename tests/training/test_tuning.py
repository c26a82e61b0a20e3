"""What is shown of an ensemble whose parameters were changed fits together."""

import zipfile

import nengo
import numpy as np
import pytest

import nengo_dl
from nengo_dl.simulator.objects import Tuning, rates_and_intercepts, split

NEURON_TYPES = [
    nengo.LIF(amplitude=0.5),
    nengo.LIFRate(tau_rc=0.05),
    nengo.AdaptiveLIF(),
    nengo.RectifiedLinear(amplitude=2),
    nengo.SpikingRectifiedLinear(),
    nengo.Sigmoid(),
    nengo.Tanh(),
    nengo.Izhikevich(),
    nengo.RegularSpiking(nengo.LIFRate()),
    nengo.StochasticSpiking(nengo.LIFRate()),
    nengo_dl.SoftLIFRate(),
]


def network(seed=0, neuron_type=None, **ensemble):
    """Two ensembles, one with a radius and more dimensions."""
    neuron_type = neuron_type or nengo.LIFRate()
    with nengo.Network(seed=seed) as net:
        nengo_dl.configure_settings(dtype="float64", jit=False)
        net.inp = nengo.Node([0.3, -0.4])
        net.a = nengo.Ensemble(30, 2, radius=1.5, neuron_type=neuron_type, **ensemble)
        net.b = nengo.Ensemble(20, 1, neuron_type=neuron_type)
        nengo.Connection(net.inp, net.a, synapse=None)
        nengo.Connection(net.a, net.b, function=np.prod, synapse=0.005)
        net.probe = nengo.Probe(net.b, synapse=0.01)
        net.rates = nengo.Probe(net.b.neurons)
    return net


def train(sim, rng):
    """Other encoders and biases, some far from where they were."""
    encoders = {
        ens: sim.model.sig[ens]["encoders"] for ens in (sim.network.a, sim.network.b)
    }
    values = {}
    for ens, signal in encoders.items():
        scaled = sim._live.value(signal)
        values[signal] = scaled * rng.normal(1, 0.6, scaled.shape)
        signal = sim.model.sig[ens.neurons]["bias"]
        values[signal] = sim._live.value(signal) * rng.normal(1, 1, signal.shape)
    sim._live.write(values)


def check(built, ens):
    """Everything fits together, as core Nengo defines it."""
    scaled = built.encoders * (built.gain / ens.radius)[:, None]
    np.testing.assert_allclose(scaled, built.scaled_encoders, rtol=1e-13, atol=1e-15)
    rates = ens.neuron_type.rates(1.0, built.gain, built.bias)[0]
    silent = rates == 0
    assert np.array_equal(built.max_rates == 0, silent)
    found = ens.neuron_type.max_rates_intercepts(built.gain, built.bias)
    amplitude = getattr(ens.neuron_type, "amplitude", 1)
    close = np.isclose(built.max_rates, rates / amplitude)
    assert (close | np.isclose(built.max_rates, rates)).all()
    np.testing.assert_allclose(built.intercepts, found[1])
    assert not any(np.isnan(part).any() for part in built)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("neuron_type", NEURON_TYPES, ids=str)
def test_trained_ensembles_have_encoders_of_unit_length(neuron_type, rng):
    net = network(neuron_type=neuron_type)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        built = sim.model.params[net.a]
        train(sim, rng)
        for ens in (net.a, net.b):
            live = sim.data[ens]
            np.testing.assert_allclose(np.linalg.norm(live.encoders, axis=1), 1)
            assert (live.gain > 0).all() and not np.allclose(live.gain, 1)
            with np.errstate(all="ignore"):
                check_quietly(live, ens)
        sim.reset()
        assert all(np.array_equal(x, y) for x, y in zip(sim.data[net.a], built))


def check_quietly(live, ens):
    """`check`, in which Nengo's own formulas may warn."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(live, ens)


def test_neurons_that_never_fire_have_no_rate():
    gain, bias = np.array([1.0, 2.0, 0.0, 0.0, 0.0]), np.array([-30.0, -0.5, 3.0, 0.5, 1])
    rates, intercepts = rates_and_intercepts(nengo.LIF(), gain, bias)
    assert np.array_equal(rates > 0, [False, True, True, False, False])
    assert np.array_equal(intercepts, [31, 0.75, -np.inf, np.inf, np.inf])
    at_three = 1 / (0.002 + 0.02 * np.log1p(1 / 2))
    assert np.isclose(rates[2], at_three)


def test_lengths_and_signs_are_those_of_the_build():
    encoders = np.array([[3.0, 4.0], [0.6, -0.8], [0.0, 0.0], [1.0, 0.0], [1, 0]])
    gain = np.array([2.0, -1.0, 3.0, 4.0, 0.0])
    radius = 2.0
    scaled = encoders * (gain / radius)[:, None]
    reference = Tuning(scaled, encoders, gain)
    assert split(scaled, radius, reference) is reference
    other = scaled + [[1, 1], [0.1, 0.2], [1, 1], [0, 0], [3, 0]]
    found = split(other, radius, reference)
    assert np.array_equal(found.encoders[3], encoders[3]) and found.gain[3] == 4
    np.testing.assert_allclose(np.linalg.norm(found.encoders, axis=1)[:2], [5, 1])
    assert found.gain[1] < 0  # so that encoders keep their side
    np.testing.assert_allclose(found.gain[2:], [3, 4, 6])
    np.testing.assert_allclose(found.encoders * (found.gain / radius)[:, None], other)
    tiny = split(other * 1e-300, radius * 1e300, reference)
    np.testing.assert_allclose(tiny.gain[:2], np.abs(found.gain[:2]) * [1, -1])


def test_what_was_loaded_is_what_was_saved(tmp_path, rng):
    """Also where encoders were built with another length."""
    ensemble = {
        "encoders": nengo.dists.Gaussian(0, 1),
        "normalize_encoders": False,
        "neuron_type": nengo.LIFRate(),
    }
    with nengo_dl.Simulator(network(0, **ensemble), progress_bar=False) as sim:
        train(sim, rng)
        sim.save_params(tmp_path / "params")
        saved = [sim.data[ens] for ens in (sim.network.a, sim.network.b)]
    net = network(1, **ensemble)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.load_params(tmp_path / "params")
        for ens, expected in zip((net.a, net.b), saved, strict=True):
            live = sim.data[ens]
            check_quietly(live, ens)
            assert np.array_equal(live.gain, expected.gain)
            for x, y in zip(live[1:], expected[1:], strict=True):
                np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-15)
        params = sim.get_nengo_params(net.a)
        assert np.array_equal(params["gain"], saved[0].gain)
        sim.run_steps(30)
        sim.freeze_params(net)
    with nengo.Simulator(net, progress_bar=False) as core:
        core.run_steps(30)
        assert np.array_equal(core.data[net.a].gain, saved[0].gain)
    np.testing.assert_allclose(core.data[net.rates], sim.data[net.rates], rtol=1e-9)
    np.testing.assert_allclose(core.data[net.probe], sim.data[net.probe], rtol=1e-9)


def test_files_without_gains_are_read(tmp_path, rng):
    net = network()
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        train(sim, rng)
        saved = sim.data[net.a]
        sim.save_params(tmp_path / "new")
    with zipfile.ZipFile(tmp_path / "new.npz") as new:
        names = [name for name in new.namelist() if not name.endswith(".gain.npy")]
        assert len(names) == len(new.namelist()) - 2
        with zipfile.ZipFile(tmp_path / "old.npz", "w") as old:
            for name in names:
                old.writestr(name, new.read(name))
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.load_params(tmp_path / "old")
        np.testing.assert_allclose(sim.data[net.a].gain, saved.gain)
        np.testing.assert_allclose(sim.data[net.a].encoders, saved.encoders)


@pytest.mark.parametrize("voja", [False, True])
def test_gains_that_something_else_was_built_with_stay(voja, rng, tmp_path):
    """A frozen network multiplies by them, and gives the same output all the same."""
    net = network()
    with net:
        if voja:
            rule = nengo.Voja(1e-2)
            nengo.Connection(net.inp[0], net.b, learning_rule_type=rule, synapse=None)
        else:
            transform = rng.uniform(0, 1, (20, 2))
            nengo.Connection(net.inp, net.b.neurons, transform=transform, synapse=None)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        if voja:
            sim.run_steps(40)  # encoders move
        else:
            train(sim, rng)
        assert np.array_equal(sim.data[net.b].gain, sim.model.params[net.b].gain)
        check_quietly(sim.data[net.b], net.b)
        lengths = np.linalg.norm(sim.data[net.b].encoders, axis=1)
        assert not np.allclose(lengths, 1)
        sim.freeze_params(net)
        sim.save_params(tmp_path / "params")
        sim.reset(include_trainable=False)
        sim.run_steps(30)
    with nengo.Simulator(net, progress_bar=False) as core:
        core.run_steps(30)
    np.testing.assert_allclose(core.data[net.rates], sim.data[net.rates], rtol=1e-9)
    other = network(seed=1)
    with other:
        nengo.Connection(other.inp, other.b.neurons, transform=np.ones((20, 2)))
    if not voja:
        with nengo_dl.Simulator(other, progress_bar=False) as sim:
            with pytest.warns(
                UserWarning, match=r"ensembles\[1\].gain of the file differ"
            ):
                sim.load_params(tmp_path / "params")
