"""What is written for TensorBoard, and what is kept apart between calls."""

import importlib.util

import keras
import nengo
import numpy as np
import pytest
import tensorflow as tf
from nengo.exceptions import SimulatorClosed, ValidationError
from tensorflow.compat.v1.train import summary_iterator

import nengo_dl
from nengo_dl.callbacks import IsolateState, NengoSummaries, TensorBoard
from tests import networks


def summaries(folder):
    """All values that were written below a folder: ``[(tag, step, array)]``."""
    return [
        (value.tag, event.step, tf.make_ndarray(value.tensor))
        for path in sorted(folder.rglob("*tfevents*"))
        for event in summary_iterator(str(path))
        for value in event.summary.value
        if value.HasField("tensor")
    ]


def small(**settings):
    """One layer, with input data for 6 items and targets."""
    net = networks.autoencoder(**settings)
    return net, np.ones((6, 1, 2)), np.zeros((6, 1, 2))


def learner():
    """A channel that learns online, and its connection."""
    with nengo.Network(seed=0) as net:
        inp = nengo.Node(np.zeros(2))
        networks.pes(inp)
        nengo.Probe(net.ensembles[0])
    return net, next(c for c in net.connections if c.learning_rule_type is not None)


def test_tensorboard_profiles_predict(tmp_path):
    net, x, _ = small()
    with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
        sim.predict(x, callbacks=[TensorBoard(tmp_path / "off")])
        for name, batches in (("one", 1), ("range", (2, 3)), ("text", "3,9")):
            board = TensorBoard(tmp_path / name, profile_batch=batches)
            sim.predict(x, callbacks=[board])
            assert list((tmp_path / name / "predict").rglob("*.xplane.pb"))
        late = TensorBoard(tmp_path / "late", profile_batch=4)  # there are three
        sim.predict(x, callbacks=[late])
    assert not list((tmp_path / "off").rglob("*.xplane.pb"))
    assert not list((tmp_path / "late").rglob("*.xplane.pb"))


def test_tensorboard_writes_what_that_of_keras_does(tmp_path):
    net, x, y = small()
    with nengo_dl.Simulator(net, minibatch_size=3, progress_bar=False) as sim:
        sim.compile(keras.optimizers.SGD(1e-3), loss="mse")
        board = TensorBoard(tmp_path, profile_batch=2, histogram_freq=1)
        history = sim.fit(
            x, y, epochs=2, validation_data=(x, y), verbose=0, callbacks=[board]
        )
        written = {(tag, step): v for tag, step, v in summaries(tmp_path / "train")}
        for epoch, loss in enumerate(history.history["loss"]):
            assert np.isclose(written["epoch_loss", epoch], loss)
        assert any(tag.endswith("/histogram") for tag, _ in written)
        assert list(tmp_path.rglob("*.xplane.pb"))
        assert not (tmp_path / "predict").exists()
        validation = {tag for tag, *_ in summaries(tmp_path / "validation")}
        assert {"epoch_loss", "epoch_out0_loss"} <= validation


def test_summaries_show_parameters_after_each_epoch(tmp_path, rng):
    net, x, y = small(dtype="float64")
    with net:
        indices = [[0, 1], [1, 0], [1, 1]]
        dense = nengo.Connection(net.inp, net.a, transform=np.eye(2), label="dense")
        sparse = nengo.Connection(
            net.inp,
            net.a,
            transform=nengo.Sparse((2, 2), indices, init=rng.uniform(size=3)),
            label="sparse",
            synapse=None,
        )
    objects = [net.a, net.a.neurons, dense, sparse]
    with nengo_dl.Simulator(net, minibatch_size=6, progress_bar=False) as sim:
        sim.compile(keras.optimizers.SGD(1e-3), loss="mse")
        values = []
        look = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: values.append(
                [
                    sim.data[net.a].scaled_encoders,
                    sim.data[net.a].bias,
                    sim.data[dense].weights,
                    sim.data[sparse].weights.data,
                ]
            )
        )
        calls = [look, NengoSummaries(tmp_path, sim, objects)]
        sim.fit(x, y, epochs=2, verbose=0, callbacks=calls)
    written = {(tag, step): v for tag, step, v in summaries(tmp_path)}
    names = [
        *("ensembles['a'].encoders", "ensembles['a'].neurons.bias"),
        *("connections['dense'].weights", "connections['sparse'].weights"),
    ]
    assert set(written) == {(name, epoch) for name in names for epoch in (0, 1)}
    for epoch, arrays in enumerate(values):
        for name, array in zip(names, arrays, strict=True):
            found = written[name, epoch]  # rows of: from, to, how many
            assert found[:, 2].sum() == array.size
            assert np.isclose(found[0, 0], array.min())
            assert np.isclose(found[-1, 1], array.max())
    assert not np.array_equal(values[0][1], values[1][1])


def test_summaries_of_weights_that_are_learned_online(tmp_path):
    net, conn = learner()
    probe = net.probes[-1]
    x, y = np.ones((1, 5, 2)), np.zeros((1, 5, 1))
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.compile(keras.optimizers.SGD(0.0), loss={probe: "mse"})
        one = NengoSummaries(tmp_path, sim, conn)
        sim.fit({net.nodes[0]: x}, {probe: y}, epochs=2, verbose=0, callbacks=[one])
        last = sim.data[conn].weights
    (_, _, first), (_, _, second) = summaries(tmp_path)
    assert np.abs(last).max() > 0
    assert np.isclose(second[0, 0], last.min()) and np.isclose(second[-1, 1], last.max())
    assert np.abs(first).max() > 0 and not np.array_equal(first, second)


def test_summaries_check_their_objects(tmp_path):
    net, *_ = small()
    with net:
        direct = nengo.Ensemble(1, 2, neuron_type=nengo.Direct(), label="direct")
        plain = nengo.Connection(net.inp, direct)
    other = networks.autoencoder()
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        for wrong in (net.inp, net.out[0], net, "a"):
            with pytest.raises(ValidationError, match="objects: .*expected ensembles"):
                NengoSummaries(tmp_path, sim, [net.a, wrong])
        for absent in (other.a, other.a.neurons, direct, plain):
            with pytest.raises(ValidationError, match="objects: the simulated network h"):
                NengoSummaries(tmp_path, sim, absent)
        for no_simulator in (net, None, sim.keras_model):
            with pytest.raises(ValidationError, match=r"sim: expected a nengo_dl.Sim"):
                NengoSummaries(tmp_path, no_simulator, net.a)
            with pytest.raises(ValidationError, match=r"sim: expected a nengo_dl.Sim"):
                IsolateState(no_simulator)
    with pytest.raises(SimulatorClosed):
        IsolateState(sim)


def test_missing_package_is_named(tmp_path, monkeypatch):
    net, *_ = small()
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *args: None if name == "tensorboard" else found(name, *args),
    )
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        with pytest.raises(ImportError, match=r"nengo-dl\[tensorboard\]"):
            TensorBoard(tmp_path)
        with pytest.raises(ImportError, match=r"NengoSummaries.*nengo-dl\[tensorboard\]"):
            NengoSummaries(tmp_path, sim, net.a)
        IsolateState(sim)  # does without


def memory():
    """Something that counts its input for ever, in the graph and in a Python process."""
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(dtype="float64")
        net.inp = nengo.Node([0.0], label="inp")
        net.count = nengo.Node(size_in=1)
        nengo.Connection(net.inp, net.count, synapse=None)
        nengo.Connection(net.count, net.count, synapse=0)
        net.python = nengo.Node(networks.Sum(), size_in=1, size_out=1)
        nengo.Connection(net.count, net.python, synapse=0)
        net.p, net.q = nengo.Probe(net.count, label="p"), nengo.Probe(net.python)
        ens = nengo.Ensemble(5, 1)  # something to train
        nengo.Connection(net.inp, ens)
        net.r = nengo.Probe(ens, label="r")
    return net


def counts(sim, net):
    """What both counters say next."""
    return [sim.predict(np.zeros((1, 1, 1)))[p][0, 0, 0] for p in (net.p, net.q)]


@pytest.mark.parametrize("isolated", (True, False))
def test_state_of_training_is_isolated(isolated):
    net = memory()
    x = np.ones((4, 3, 1))
    y = {net.p: np.zeros((4, 3, 1)), net.r: np.zeros((4, 3, 1))}
    with nengo_dl.Simulator(net, minibatch_size=1, progress_bar=False) as sim:
        sim.run_steps(2, {net.inp: np.ones((1, 2, 1))})
        before = counts(sim, net)
        assert before[0] == 2
        sim.compile(
            keras.optimizers.SGD(0.0),
            loss={net.p: "mae", net.r: "mse"},
            loss_weights={net.p: 1, net.r: 0},
        )
        history = sim.fit(
            x,
            y,
            epochs=2,
            stateful=True,
            shuffle=False,
            verbose=0,
            validation_data=(x, y),
            callbacks=[IsolateState(sim)] if isolated else [],
        ).history
        # steps 1 to 12 of the first epoch, then from the beginning or further on
        first = 2 + np.arange(1, 13).mean()
        assert np.allclose(history["p_loss"], [first, first + (0 if isolated else 12)])
        assert np.allclose(history["val_p_loss"], 2 + np.arange(1, 4).mean())
        if isolated:
            assert counts(sim, net) == before
            assert sim.n_steps == 2
        else:
            assert counts(sim, net)[0] == 2 + 24
            assert sim.n_steps == 2 + 24


def test_validation_does_not_disturb_a_stateful_fit():
    """Python processes are the same objects in training and in validation."""
    last = []
    for validated in (True, False):
        net = memory()
        x, y = np.ones((2, 3, 1)), {net.r: np.zeros((2, 3, 1))}
        with nengo_dl.Simulator(net, minibatch_size=1, seed=0, progress_bar=False) as sim:
            sim.compile(keras.optimizers.SGD(0.0), loss={net.r: "mse"})
            sim.fit(
                x,
                y,
                epochs=2,
                stateful=True,
                verbose=0,
                validation_data=(x, y) if validated else None,
            )
            last.append(counts(sim, net))
    assert last[0] == last[1]


def test_state_of_evaluating_and_predicting_is_isolated():
    net = memory()
    x = np.ones((3, 4, 1))
    with nengo_dl.Simulator(net, minibatch_size=1, progress_bar=False) as sim:
        before = counts(sim, net)
        isolate = [IsolateState(sim)]
        for _ in range(2):
            found = sim.predict(x, stateful=True, callbacks=isolate)[net.p]
            assert np.array_equal(found.ravel(), np.arange(1, 13))
        assert sim.n_steps == 0 and counts(sim, net) == before
        sim.compile(loss={net.p: "mae"})
        for _ in range(2):
            y = {net.p: np.zeros((3, 4, 1))}
            loss = sim.evaluate(x, y, stateful=True, verbose=0, callbacks=isolate)
            assert np.isclose(loss["loss"], np.arange(1, 13).mean())
        assert sim.n_steps == 0 and counts(sim, net) == before
        sim.predict(x, stateful=True)
        assert sim.n_steps == 12 and counts(sim, net)[0] == 12


def test_what_is_learned_online_is_kept():
    net, conn = learner()
    x = np.ones((2, 10, 2))
    found = []
    for isolated in (True, False):
        with nengo_dl.Simulator(net, seed=0, progress_bar=False) as sim:
            call = IsolateState(sim) if isolated else keras.callbacks.Callback()
            sim.predict({net.nodes[0]: x}, stateful=True, callbacks=[call])
            found.append(sim.data[conn].weights)
            assert sim.n_steps == (0 if isolated else 20)
    assert np.abs(found[0]).max() > 0
    assert np.array_equal(*found)
