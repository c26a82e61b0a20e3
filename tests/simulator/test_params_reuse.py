"""Parameters of one simulator in another one: trained, saved, frozen, in other forms."""

import keras
import nengo
import numpy as np
import pytest
from nengo.exceptions import ValidationError

import nengo_dl
from tests import networks


def network(neuron_type=None, synapse=0.01, **settings):
    """All kinds of parameters, with labels: dense, sparse, convolved, of neurons."""
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(**settings)
        net.inp = nengo.Node(networks.waves(4), label="inp")
        kind = {"neuron_type": neuron_type or nengo.LIFRate()}
        curve = {"max_rates": nengo.dists.Uniform(100, 200)}
        net.a = nengo.Ensemble(10, 2, label="a", radius=1.2, **kind, **curve)
        net.b = nengo.Ensemble(12, 1, label="b", **kind, **curve)
        net.dense = nengo.Connection(
            net.inp[:2], net.a, transform=[[1, 0.2], [0.1, 0.8]], label="dense"
        )
        indices = [[0, 1], [1, 3], [1, 0]]
        sparse = nengo.Sparse((2, 4), indices=indices, init=[0.5, 0.3, -0.4])
        nengo.Connection(net.inp, net.a, transform=sparse, label="sparse")
        kernel = nengo.Convolution(3, (2, 2, 1), kernel_size=(2, 2))
        convolved = nengo.Node(size_in=3, label="convolved")
        nengo.Connection(net.inp, convolved, transform=kernel, label="convolution")
        net.decoded = nengo.Connection(
            net.a, net.b, function=lambda x: x[0] * x[1], label="decoded"
        )
        weights = np.linspace(-1e-3, 1e-3, 120).reshape((12, 10))
        nengo.Connection(net.a.neurons, net.b.neurons, transform=weights, label="neurons")
        out = nengo.Node(size_in=4, label="out")
        nengo.Connection(net.b, out[0], label="out")
        nengo.Connection(convolved, out[1:], transform=np.eye(3), label="pass on")
        net.p = nengo.Probe(out, label="p", synapse=synapse)
        net.q = nengo.Probe(net.a, label="q", synapse=synapse)
    net.config[net.q].trainable = True
    return net


def values(sim):
    """The present values of all parameters, by name."""
    return {p.name: sim._live.value(p.signal) for p in sim._live.parameters.entries}


def change(sim, rng):
    """Other values for all parameters, as training would give them."""
    parameters = sim._live.parameters
    sim._live.write(
        {s: v * rng.uniform(0.8, 1.2, size=v.shape) for s, v in parameters.items()}
    )
    return values(sim)


def train(sim, net, rng):
    """Some steps of training, after which every kind of parameter is another one."""
    x = rng.uniform(-1, 1, size=(8, 4, 4))
    before = values(sim)
    sim.compile(keras.optimizers.Adam(1e-4), loss="mse")
    y = [np.zeros((8, 4, probe.size_in)) for probe in net.probes]
    sim.fit(x, y, epochs=2, verbose=0)
    after = values(sim)
    assert not [name for name in after if np.array_equal(before[name], after[name])]


def output(sim, net, n_steps=30):
    sim.run_steps(n_steps)
    return [
        np.reshape(sim.data[probe], (-1, n_steps, probe.size_in))[0]
        for probe in net.probes
    ]


def test_a_trained_and_frozen_network_runs_in_core(rng, allclose):
    net = network(dtype="float64")
    with nengo_dl.Simulator(net, minibatch_size=4, progress_bar=False) as sim:
        train(sim, net, rng)
        expected = output(sim, net)
        sim.freeze_params(net)
    with nengo.Simulator(net, progress_bar=False) as ref:
        for found, value in zip(output(ref, net), expected, strict=True):
            assert allclose(found, value, atol=1e-10)


def test_trained_parameters_as_arguments_by_label(rng, allclose):
    net = network(dtype="float64")
    with nengo_dl.Simulator(net, minibatch_size=4, progress_bar=False) as sim:
        change(sim, rng)
        objects = [net.a, net.b, net.dense, net.decoded]
        params = sim.get_nengo_params(objects, as_dict=True)
        assert set(params) == {"a", "b", "dense", "decoded"}
        activity = sim.data[net.a]
    with nengo.Network() as other:
        inp = nengo.Node(np.zeros(2))
        rate = nengo.LIFRate()
        a = nengo.Ensemble(10, 2, radius=1.2, neuron_type=rate, **params["a"])
        b = nengo.Ensemble(12, 1, neuron_type=rate, **params["b"])
        nengo.Connection(inp, a, **params["dense"])
        nengo.Connection(a, b, **params["decoded"])
    with nengo.Simulator(other, progress_bar=False) as ref:
        assert allclose(ref.data[a].bias, activity.bias)
        assert allclose(ref.data[a].scaled_encoders, activity.scaled_encoders)


def test_rates_are_trained_and_spikes_are_run(rng, tmp_path, allclose):
    """Loading needs the same parameters, not the same neurons, synapses or batch."""
    rates, spikes = network(), network(nengo.LIF(), synapse=0.05)
    with nengo_dl.Simulator(rates, minibatch_size=4, progress_bar=False) as sim:
        trained = change(sim, rng)
        sim.save_params(tmp_path / "plain")
        sim.run_steps(3)
        sim.save_params(tmp_path / "state", include_state=True)
        sim.freeze_params(rates)
    for file in ("plain", "state"):  # state in the file is passed over
        with nengo_dl.Simulator(spikes, progress_bar=False) as sim:
            sim.load_params(tmp_path / file)
            for parameter in sim._live.parameters.entries:
                value = sim._live.value(parameter.signal)
                assert np.array_equal(value, trained[parameter.name])
            assert sim.n_steps == 0


def test_state_says_what_it_depends_on(tmp_path):
    net = networks.mixed_parameters()
    with nengo_dl.Simulator(net, minibatch_size=4, progress_bar=False) as sim:
        sim.save_params(tmp_path / "state", include_state=True)
        sim.save_params(tmp_path / "plain")
    with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
        with pytest.raises(
            ValidationError, match=r"\(\d+, 4\); expected \(\d+, 2\)"
        ) as e:
            sim.load_params(tmp_path / "state", include_state=True)
        assert "fit, but not the state, which depends on minibatch_size" in str(e.value)
        assert "nothing was loaded" in str(e.value)
        with pytest.raises(ValidationError, match="holds no state: load it without"):
            sim.load_params(tmp_path / "plain", include_state=True)
        sim.load_params(tmp_path / "state")


@pytest.mark.parametrize("extra", ({}, {"ids": np.arange(2)}, {"x": np.array([None])}))
def test_files_of_earlier_versions_are_recognised(extra, tmp_path):
    np.savez_compressed(tmp_path / "old.npz", np.ones((20, 1)), np.ones(20), **extra)
    net = networks.mixed_parameters()
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        before = sim.data[net.ensembles[0]].bias
        with pytest.raises(ValidationError, match=r"old.npz' holds 2 arrays by pos") as e:
            sim.load_params(tmp_path / "old")
        for name in extra:
            assert repr(name) in str(e.value)
        assert "Simulator.freeze_params" in str(e.value)
        assert np.array_equal(sim.data[net.ensembles[0]].bias, before)


def test_weights_of_the_keras_model(rng, tmp_path):
    """Keras may save and load the variables; the simulation takes part in it."""
    net, path = network(), str(tmp_path / "x.weights.h5")
    with nengo_dl.Simulator(net, minibatch_size=4, progress_bar=False) as sim:
        change(sim, rng)
        sim.keras_model.save_weights(path)
        bias, expected = sim.data[net.a].bias, output(sim, net)
    with nengo_dl.Simulator(net, minibatch_size=4, progress_bar=False) as sim:
        built = output(sim, net)
        assert not np.array_equal(built[0], expected[0])
        assert not np.array_equal(sim.data[net.a].bias, bias)
        sim.reset()
        sim.keras_model.load_weights(path)
        assert np.array_equal(sim.data[net.a].bias, bias)
        for found, value in zip(output(sim, net), expected, strict=True):
            assert np.array_equal(found, value)
        sim.reset()  # as built
        for found, value in zip(output(sim, net), built, strict=True):
            assert np.array_equal(found, value)
        sim.keras_model.set_weights([w * 0 for w in sim.keras_model.get_weights()])
        assert not np.any(sim.data[net.a].bias)
