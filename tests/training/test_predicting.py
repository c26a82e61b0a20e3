"""Predicting: it agrees with running, from call to call and for any data."""

import types

import nengo
import numpy as np
import pytest
import tensorflow as tf
from nengo.exceptions import SimulatorClosed, ValidationError

import nengo_dl
from nengo_dl.settings import SETTINGS
from nengo_dl.training.trainer import Trainer
from tests import networks

keras = pytest.importorskip("keras")


@pytest.fixture(params=("forward", "keras"), scope="module", autouse=True)
def who_predicts(request):
    """What predicts: what runs forward steps, or the Keras model."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "forward":
            default = SETTINGS["executor"]
            patch.setitem(SETTINGS, "executor", default._replace(default="numpy"))
        else:
            patch.setattr(Trainer, "_keras_alone", lambda self, arguments: True)
        yield request.param


@pytest.mark.parametrize(
    "make, dtype",
    [
        (networks.recurrent, "float32"),
        (networks.recurrent, "float64"),
        (networks.processes, "float32"),
        (networks.python_functions, "float64"),
        (lambda: networks.python_functions(several=True), "float64"),
        (lambda: networks.rates(nengo.LIFRate()), "float32"),
    ],
)
def test_predict_agrees_with_run_steps(make, dtype):
    net = make()
    with net:
        nengo_dl.configure_settings(dtype=dtype)
    with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
        sim.run_steps(50)
        expected = {p: sim.data[p] for p in net.probes if p.sample_every is None}
        sim.reset()
        outputs = sim.predict(n_steps=50)
        assert sim.n_steps == 0
        for probe, values in expected.items():
            found = outputs[probe]
            assert found.dtype == dtype
            tolerance = 1e-12 if dtype == "float64" else 2e-5
            assert np.abs(found - values).max() <= tolerance * max(
                np.abs(values).max(), 1
            )


@pytest.fixture(scope="module")
def spiking():
    """One simulator of spiking neurons for several tests; each leaves it as it was."""
    net = networks.mixed_parameters()
    with net:
        nengo_dl.configure_settings(dtype="float64")
    with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
        yield sim


def test_predict_goes_on_only_if_stateful(spiking):
    sim, (probe,) = spiking, spiking.network.probes
    sim.reset()
    sim.run_steps(60)
    expected = sim.data[probe]
    sim.reset()
    sim.run_steps(20)
    first = sim.predict(n_steps=20)[probe]
    assert np.allclose(first, expected[:, 20:40], rtol=0, atol=1e-12)
    for stateful in (False, True):
        again = sim.predict(n_steps=20, stateful=stateful)[probe]
        assert np.array_equal(again, first)
    assert sim.n_steps == 40
    last = sim.predict_on_batch(n_steps=10, stateful=True)[probe]
    assert np.allclose(last, expected[:, 40:50], rtol=0, atol=1e-12)
    sim.run_steps(10)
    assert sim.n_steps == 60
    found = sim.data[probe][:, 20:]
    assert np.allclose(found, expected[:, 50:], rtol=0, atol=1e-12)


def test_batches_of_a_stateful_call_follow_one_another(spiking):
    sim, (probe,) = spiking, spiking.network.probes
    sim.reset()
    sim.run_steps(45)
    expected = sim.data[probe]
    sim.reset()
    wave = sim.network.nodes[0]
    # given as data for two batches, and as the node's own output in two calls
    times = np.arange(1, 31).reshape(2, 1, 15, 1) * sim.dt
    x = np.vectorize(lambda t: wave.output(t)[0])(times)
    x = np.repeat(x, 2, axis=1).reshape(4, 15, 1)
    given = sim.predict({wave: x}, stateful=True)[probe]
    assert sim.n_steps == 30
    sim.reset()
    own = [sim.predict(n_steps=15, stateful=True)[probe] for _ in range(2)]
    assert np.allclose(np.concatenate(own), given, rtol=0, atol=1e-12)
    assert np.allclose(given[:2], expected[:, :15], rtol=0, atol=1e-12)
    assert np.allclose(given[2:], expected[:, 15:30], rtol=0, atol=1e-12)


def test_any_number_of_items(spiking, rng):
    sim, (probe,) = spiking, spiking.network.probes
    sim.reset()
    sim.run_steps(7)
    x = rng.uniform(-1, 1, (5, 12, 1))
    whole = sim.predict(x)[probe]
    assert whole.shape == (5, 12, 3)
    one_by_one = [sim.predict(x[i : i + 1])[probe] for i in range(5)]
    assert np.allclose(whole, np.concatenate(one_by_one), rtol=0, atol=1e-12)
    single = sim.predict_on_batch(x[4:])[probe]
    assert np.allclose(single, whole[4:], rtol=0, atol=1e-12)
    before = sim.data[probe].copy()
    sim.run_steps(12, data=x[:2], stateful=False)
    assert np.array_equal(sim.data[probe][:, :7], before)
    assert np.allclose(sim.data[probe][:, 7:], whole[:2], rtol=0, atol=1e-12)


@pytest.mark.parametrize("form", ("array", "list", "by node", "by name", "with n_steps"))
def test_forms_of_data(spiking, form, rng):
    sim, (probe,) = spiking, spiking.network.probes
    sim.reset()
    node = sim.network.nodes[0]
    x = rng.uniform(-1, 1, (2, 9, 1))
    given = {
        "array": x,
        "list": [x],
        "by node": {node: x},
        "by name": {"node": x},
        "with n_steps": {"node": x, "n_steps": 9},
    }[form]
    sim.run_steps(9, data=x, stateful=False)
    outputs = sim.predict(given)
    assert np.allclose(outputs[probe], sim.data[probe], rtol=0, atol=1e-12)
    assert outputs["probe"] is outputs[probe]
    with pytest.raises(KeyError, match="no probe 'other'.*'probe'"):
        outputs["other"]


def test_processes_of_nodes_without_data():
    """Each item has the noise of its own seed; a stateful call goes on with it."""
    net = networks.processes()
    with net:
        nengo_dl.configure_settings(dtype="float64")
    noise, _, _, counter, _ = net.probes
    with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
        sim.run_steps(30)
        expected = {p: sim.data[p] for p in (noise, counter)}
        for p in expected:
            assert not np.array_equal(expected[p][0], expected[p][1])
        sim.reset()
        three = sim.predict({"n_steps": 30, "node_2": np.zeros((3, 30, 1))})
        assert np.allclose(three[counter][:2], expected[counter], rtol=0, atol=1e-12)
        assert not np.array_equal(three[counter][2], three[counter][1])
        parts = [sim.predict(n_steps=10, stateful=True)]
        sim.clear_probes()
        sim.run_steps(10)
        parts.append(dict(sim.data))
        parts.append(sim.predict(n_steps=10, stateful=True))
        for p, values in expected.items():
            found = np.concatenate([part[p] for part in parts], axis=1)
            assert np.allclose(found, values, rtol=0, atol=1e-12)


def test_functions_are_called_in_order_also_in_predict():
    """Two functions share an object; one of them is given data in another call."""

    def make(log):
        state = {"total": 0.0}

        def read(t):
            log.append("read")
            return state["total"]

        def add(t, x):
            log.append("add")
            state["total"] += x[0] + 1
            return state["total"]

        with nengo.Network() as net:
            nengo_dl.configure_settings(dtype="float64")
            reader = nengo.Node(read, label="reader")
            adder = nengo.Node(add, size_in=1)
            nengo.Connection(reader, adder, synapse=None)
            probe = nengo.Probe(adder)
        log.clear()
        return net, reader, probe, state

    log = []
    net, reader, probe, state = make(log)
    state["total"] = 0.0
    with nengo.Simulator(net, progress_bar=False) as ref:
        ref.run_steps(5)
    order, expected = list(log), np.array(ref.data[probe])
    log.clear()
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        state["total"] = 0.0
        assert np.array_equal(sim.predict(n_steps=5)[probe][0], expected)
        assert log == order
        log.clear()
        state["total"] = 0.0
        x = np.arange(5.0).reshape(1, 5, 1)
        given = sim.predict({reader: x})[probe]
        assert np.array_equal(given.ravel(), np.cumsum(x + 1))
        assert log == ["add"] * 5
        state["total"] = 0.0
        assert np.array_equal(sim.predict(n_steps=5)[probe][0], expected)


def test_a_probe_without_history_gives_its_last_step():
    net = networks.mixed_parameters()
    with net:
        nengo_dl.configure_settings(keep_history=True)
        last = nengo.Probe(net.ensembles[0], synapse=0.01, label="last")
        net.config[last].keep_history = False
        whole = nengo.Probe(net.ensembles[0], synapse=0.01, label="whole")
    with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
        outputs = sim.predict(n_steps=12)
        assert outputs[last].shape == (2, 1, 1)
        assert np.array_equal(outputs[last], outputs[whole][:, -1:])
        sim.run_steps(12)
        assert np.allclose(sim.data[last], outputs[last], atol=1e-6)
        sim.compile("sgd", loss={last: "mse"})
        history = sim.fit(n_steps=12, y={last: np.zeros((2, 1, 1))}, verbose=0)
        assert set(history.history) == {"loss", "last_loss"}


def test_what_is_exported_starts_from_the_state_at_that_time(tmp_path, rng, allclose):
    import tensorflow as tf

    net = networks.autoencoder(synapse=0.01)
    x = rng.uniform(-1, 1, (2, 5, 2)).astype(np.float32)
    with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
        for how in ("at first", "after steps", "after a reset"):
            if how == "after steps":
                sim.run_steps(20, data=np.ones((2, 20, 2)))
            if how == "after a reset":
                sim.reset()
            path = str(tmp_path / how)
            sim.keras_model.export(path, verbose=False)
            loaded = tf.saved_model.load(path)
            expected = sim.predict(x, verbose=0)[net.out[0]]
            for _ in range(2):  # nothing is kept
                found = loaded.serve({"inp": x})["out0"]
                assert allclose(found, expected, atol=1e-6), how


def learning():
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(dtype="float64")
        stimulus = nengo.Node([0.0])
        ens = nengo.Ensemble(10, 1)
        nengo.Connection(stimulus, ens)
        out = nengo.Node(size_in=1)
        conn = nengo.Connection(ens, out, learning_rule_type=nengo.PES(1e-2))
        nengo.Connection(out, conn.learning_rule, transform=-1)
        nengo.Probe(out, synapse=0.01)
        nengo.Probe(conn, "weights", sample_every=0.004)
    return net


def test_what_is_learned_stays_in_each_place_of_a_batch(rng, monkeypatch):
    """Also in the places that an incomplete batch leaves empty."""
    net, x = learning(), rng.uniform(-1, 1, (5, 9, 1))
    found = []
    for _ in range(2):
        with nengo_dl.Simulator(net, minibatch_size=3, progress_bar=False) as sim:
            first = sim.predict(x)
            weights = np.array(sim.signals[sim.model.sig[net.connections[1]]["weights"]])
            again = sim.predict(x[:3], stateful=True)
            assert sim.n_steps == 9
        found.append((*first.values(), weights, *again.values()))
        monkeypatch.setattr(Trainer, "_keras_alone", lambda self, arguments: True)
    for one, other in zip(*found, strict=True):
        assert one.shape == other.shape
        assert np.allclose(one, other, rtol=0, atol=1e-11)


def test_a_function_that_fails_leaves_the_state_as_it_was(allclose):
    fails = []

    def noise(t):
        if fails and t > fails[0]:
            raise RuntimeError("not now")
        return np.sin(100 * t)

    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(dtype="float64")
        node = nengo.Node(noise)
        probe = nengo.Probe(node, synapse=0.01)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        expected = sim.predict(n_steps=20)[probe]
        sim.run_steps(3)
        for stateful in (False, True):
            fails.append(0.0105)
            with pytest.raises(RuntimeError, match="not now"):
                sim.predict(n_steps=17, stateful=stateful)
            fails.clear()
            assert sim.n_steps == 3
        found = sim.predict(n_steps=17)[probe]
        assert allclose(found, expected[:, 3:], atol=1e-12)


def test_more_items_than_places_and_wrong_arguments(rng):
    net, x = networks.mixed_parameters(), rng.uniform(-1, 1, (5, 4, 1))
    with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
        with pytest.raises(ValidationError, match="got 5 items; expected at most minib"):
            sim.predict_on_batch(x)
        with pytest.raises(ValidationError, match="expected at least 1 item as batch_s"):
            sim.predict(x, batch_size=0)
        one_by_one = sim.predict(x, batch_size=1, verbose=1)
        for probe, values in sim.predict(x).items():
            assert np.allclose(one_by_one[probe], values, atol=1e-6)
        sim.close()
        with pytest.raises(SimulatorClosed):
            sim.predict(x)


def test_keras_is_not_asked_to_compile_what_calls_python(monkeypatch):
    gpu = types.SimpleNamespace(device_type="GPU")  # with which Keras asks for it
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda *_: [gpu])
    with nengo.Network() as net:
        inp = nengo.Node([0.0])
        node = nengo.Node(lambda t, x: x + 1, size_in=1)
        nengo.Connection(inp, node, synapse=None)
        probe = nengo.Probe(node)
    x = np.ones((1, 3, 1))
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        model = sim.keras_model
        assert model.jit_compile is False
        assert np.all(model.predict(x, verbose=0)["probe"] == 2)
        model.compile("sgd", loss="mse")
        assert model.jit_compile is False
        assert sim.predict(x, callbacks=[keras.callbacks.Callback()])[probe].max() == 2
        around = keras.Model(model.inputs, model(model.inputs))
        assert not around.jit_compile


def test_functions_that_nothing_depends_on_do_not_keep_keras_from_compiling():
    with nengo.Network() as net:
        inp = nengo.Node([0.0])
        nengo.Node(lambda t: t)
        nengo.Connection(inp, nengo.Node(lambda t, x: None, size_in=1), synapse=None)
        nengo.Probe(inp)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        assert not sim.tensor_graph.supports_jit  # one of them is called
    net.nodes.pop()
    net.connections.clear()
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        assert sim.tensor_graph.supports_jit
