"""Saving, loading and freezing, and networks that live on in core Nengo."""

import nengo
import numpy as np
import pytest
from nengo.exceptions import ValidationError

import nengo_dl
from tests import networks


def double(make, **settings):
    net = make()
    with net:
        nengo_dl.configure_settings(dtype="float64", **settings)
    return net


def change(sim, rng):
    """Write other values into all parameters, as training would."""
    model = sim.keras_model
    model.set_weights(
        [w + 0.1 * rng.normal(size=w.shape) * w for w in model.get_weights()]
    )


def data_of(sim, n_steps=40):
    sim.run_steps(n_steps)
    return {p: sim.data[p].copy() for p in sim.model.probes}


def assert_equal_data(found, expected, exactly=True):
    for probe, values in expected.items():
        if exactly:
            assert np.array_equal(found[probe], values)
        else:
            scale = max(np.abs(values).max(), 1e-3)
            assert np.abs(found[probe] - values).max() <= 1e-9 * scale


def test_parameters_go_to_another_simulator(tmp_path, rng):
    net = double(networks.recurrent)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(30)  # something is learned online
        change(sim, rng)
        sim.save_params(tmp_path / "params")
        encoders = [sim.data[e].scaled_encoders for e in net.all_ensembles]
        weights = [sim.data[c].weights for c in net.all_connections]
        sim.reset(include_trainable=False)
        expected = data_of(sim)
    with nengo_dl.Simulator(net, seed=3, progress_bar=False) as other:
        other.load_params(tmp_path / "params")
        for ens, value in zip(net.all_ensembles, encoders, strict=True):
            assert np.array_equal(other.data[ens].scaled_encoders, value)
        for conn, value in zip(net.all_connections, weights, strict=True):
            assert np.array_equal(other.data[conn].weights, value)
        assert_equal_data(data_of(other), expected)
        # and the built values again
        other.reset()
        assert not np.array_equal(
            other.data[net.ensembles[0]].scaled_encoders, encoders[0]
        )


@pytest.mark.parametrize("opened", (False, True))
@pytest.mark.parametrize("minibatch_size", (None, 2))
def test_the_state_goes_along_if_asked_for(tmp_path, rng, minibatch_size, opened):
    """Also from a network with folded parameters to one with open ones."""
    net = double(networks.recurrent, jit=False)
    options = {"minibatch_size": minibatch_size, "progress_bar": False}
    shape = (minibatch_size or 1, 20, 2)
    data = {net.nodes[0]: rng.uniform(-1, 1, shape)}
    with nengo_dl.Simulator(net, **options) as sim:
        sim.run_steps(20, data=data)
        sim.save_params(tmp_path / "state.npz", include_state=True)
        sim.clear_probes()
        expected = data_of(sim, 20)
    with nengo_dl.Simulator(net, **options) as other:
        if opened:
            change(other, rng)
            other.run_steps(3)
            other.clear_probes()
        other.load_params(tmp_path / "state", include_state=True)
        assert other.n_steps == 20
        assert_equal_data(data_of(other, 20), expected, exactly=not opened)


def test_a_file_that_does_not_fit_changes_nothing(tmp_path, rng):
    net = double(networks.mixed_parameters)
    larger = double(networks.recurrent)
    with nengo_dl.Simulator(larger, progress_bar=False) as sim:
        sim.save_params(tmp_path / "other")
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(5)
        sim.save_params(tmp_path / "mine")
        before = [sim.data[e].scaled_encoders for e in net.ensembles]
        with pytest.raises(
            ValidationError, match="(?s)missing.*not in this network"
        ) as e:
            sim.load_params(tmp_path / "other")
        assert "ensembles[0].encoders has shape (40, 2); expected (20, 1)" in str(e.value)
        with pytest.raises(ValidationError, match="state steps is missing"):
            sim.load_params(tmp_path / "mine", include_state=True)
        with pytest.raises(FileNotFoundError, match="nothing.npz"):
            sim.load_params(tmp_path / "nothing")
        for ens, value in zip(net.ensembles, before, strict=True):
            assert np.array_equal(sim.data[ens].scaled_encoders, value)
        assert sim.n_steps == 5
        sim.load_params(tmp_path / "mine")


def test_loading_between_types(tmp_path):
    """Parameters of a float32 simulator fit one of float64."""
    single, full = networks.mixed_parameters(), double(networks.mixed_parameters)
    with nengo_dl.Simulator(single, progress_bar=False) as sim:
        sim.save_params(tmp_path / "params")
    with nengo_dl.Simulator(full, progress_bar=False) as sim:
        sim.load_params(tmp_path / "params")
        bias = sim.data[full.ensembles[0]].bias
        assert np.array_equal(bias, bias.astype("float32"))


@pytest.mark.parametrize("closed", (False, True))
def test_a_frozen_network_runs_in_core(rng, closed):
    net = double(lambda: networks.recurrent(learning=False))
    sim = nengo_dl.Simulator(net, progress_bar=False)
    with sim:
        change(sim, rng)
        sim.reset(include_trainable=False)
        expected = data_of(sim)
        if not closed:
            sim.freeze_params(net)
    if closed:
        sim.freeze_params(net)
    for simulator in (nengo.Simulator, nengo_dl.Simulator):
        with simulator(net, progress_bar=False) as other:
            assert_equal_data(data_of(other), expected, exactly=False)


def test_learned_weights_freeze_too():
    net = double(networks.recurrent)
    conn = next(c for c in net.connections if c.learning_rule_type is not None)
    sim = nengo_dl.Simulator(net, progress_bar=False)
    with sim:
        sim.run_steps(50)
        weights = sim.data[conn].weights
    assert np.array_equal(sim.data[conn].weights, weights)
    assert np.abs(weights).max() > 0
    sim.freeze_params(conn)
    with nengo.Simulator(net, progress_bar=False) as ref:
        assert np.allclose(ref.data[conn].weights, weights, rtol=1e-12)


@pytest.mark.parametrize("closed", (False, True))
def test_arguments_for_new_objects(rng, closed):
    def make(**params):
        with nengo.Network(seed=0) as net:
            nengo_dl.configure_settings(dtype="float64")
            inp = nengo.Node(networks.waves(2))
            net.a = nengo.Ensemble(15, 2, label="a", **params.get("a", {}))
            out = nengo.Node(size_in=1)
            nengo.Connection(inp, net.a)
            net.conn = nengo.Connection(
                net.a, out, label="conn", **params.get("conn", {"function": np.prod})
            )
            net.probe = nengo.Probe(out, synapse=0.01)
        return net

    net = make()
    sim = nengo_dl.Simulator(net, progress_bar=False)
    with sim:
        change(sim, rng)
        expected = data_of(sim)[net.probe]
        if not closed:
            params = sim.get_nengo_params([net.a, net.conn], as_dict=True)
    if closed:
        params = sim.get_nengo_params([net.a, net.conn], as_dict=True)
    new = make(**params)
    with nengo.Simulator(new, progress_bar=False) as ref:
        ref.run_steps(40)
        assert np.allclose(ref.data[new.probe], expected, rtol=0, atol=1e-12)


def test_live_values_of_built_objects(rng):
    net = double(networks.mixed_parameters)
    ens, conn = net.ensembles[0], net.connections[1]
    with nengo.Simulator(net, progress_bar=False) as ref:
        built, weights = ref.data[ens], ref.data[conn].weights
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        assert all(
            np.array_equal(a, b) for a, b in zip(sim.data[ens], built, strict=True)
        )
        change(sim, rng)
        live = sim.data[ens]
        assert sim.data[ens] is live  # nothing changed in between
        assert not np.array_equal(live.bias, built.bias)
        assert np.array_equal(np.abs(live.encoders), np.abs(built.encoders))
        assert not np.array_equal(live.gain, built.gain)
        bias, found = sim.data.get_params((ens.neurons, "bias"), (conn, "weights"))
        assert bias is live.bias
        assert not np.array_equal(found, weights)
    assert np.array_equal(sim.data[ens].bias, live.bias)


def test_loaded_weights_of_equal_learning_rules_stay_apart(tmp_path):
    """Two rules that always agree are computed once, but not after loading."""
    with nengo.Network(seed=0) as net:
        inp, post = nengo.Node([0.5]), nengo.Node(size_in=1)
        pre = nengo.Ensemble(10, 1)
        nengo.Connection(inp, pre)
        rules = []
        for _ in range(2):
            conn = nengo.Connection(
                pre, post, function=lambda x: [0], learning_rule_type=nengo.PES()
            )
            nengo.Connection(post, conn.learning_rule)
            rules.append(conn)
        nengo.Probe(post)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.save_params(tmp_path / "p")
        with np.load(tmp_path / "p.npz") as file:
            values = dict(file)
        learned = [p.name for p in sim._live.parameters.entries if p.obj in rules]
        assert len(learned) == 2
        for i, name in enumerate(learned):
            values[name] = np.full_like(values[name], 0.1 * (i + 1))
        np.savez(tmp_path / "q.npz", **values)
        sim.load_params(tmp_path / "q")
        sim.run_steps(2)
        first, second = (sim.data[conn].weights for conn in rules)
        np.testing.assert_allclose(second - first, 0.1, atol=1e-3)
