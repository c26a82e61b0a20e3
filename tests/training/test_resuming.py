"""Trainings that go on after their process was killed, with the same digits."""

import functools
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import keras
import nengo
import numpy as np
import pytest
from nengo.exceptions import ValidationError

import nengo_dl
from nengo_dl.callbacks import Resume
from nengo_dl.training.resuming import Folder
from tests.networks import Sum

ROOT = Path(__file__).parent.parent.parent
EPOCHS = 4
X = np.random.RandomState(0).uniform(-1, 1, (11, 3, 1))
VALIDATION = {"validation_data": (X[:5], X[:5] ** 2)}


class Interrupted(Exception):
    pass


class Stop(keras.callbacks.Callback):
    """Ends the training, or the process, after a batch of an epoch."""

    def __init__(self, epoch, batch, how="raise"):
        super().__init__()
        self.at, self.how = (epoch, batch), how

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == self.at:
            if self.how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise Interrupted


def dropout():
    """A recurrent ensemble and a layer with dropout."""
    layers = [keras.layers.Dense(6, activation="relu"), keras.layers.Dropout(0.5)]
    layer = keras.Sequential([keras.Input((1,)), *layers, keras.layers.Dense(1)])
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(jit=False)
        net.inp = nengo.Node([0.0], label="inp")
        ens = nengo.Ensemble(8, 1, neuron_type=nengo.LIFRate())
        nengo.Connection(net.inp, ens, synapse=None)
        nengo.Connection(ens, ens, synapse=0.01)
        node = nengo_dl.TensorNode(layer, shape_in=(1,), pass_time=False)
        nengo.Connection(ens, node, synapse=None)
        net.p = nengo.Probe(node, label="p")
    return net


def train(folder, callbacks=(), every="epoch", make=dropout, seed=1, **kwargs):
    """(losses, all parameters) of a training that goes on if there is a file."""
    optimizer = kwargs.pop("optimizer", "adam")
    keras.utils.set_random_seed(seed)  # the values of Keras' layers
    with nengo_dl.Simulator(make(), minibatch_size=4, seed=3, progress_bar=False) as sim:
        sim.compile(optimizer, loss="mse", metrics=["mae"])
        resume = [] if folder is None else [Resume(folder, every=every)]
        options = {"epochs": EPOCHS, "verbose": 0, **kwargs}
        x, y = options.pop("x", X), options.pop("y", X**2)
        found = sim.fit(x, y, callbacks=[*resume, *callbacks], **options)
        values = [v.numpy() for v in sim.keras_model.variables]
        learned = [sim.data[c].weights for c in sim.network.all_connections]
    return found.history, found.epoch, [*values, *learned]


def assert_same(found, expected):
    assert found[0] == expected[0]  # every digit
    assert found[1] == expected[1] == list(range(len(expected[1])))
    for value, other in zip(found[2], expected[2], strict=True):
        assert np.array_equal(value, other)


@pytest.fixture(scope="module")
def whole():
    """A training that nothing interrupts."""
    return train(None, **VALIDATION)


def test_a_killed_process_is_gone_on_from_with_the_same_digits(whole, tmp_path):
    code = (
        "from tests.training.test_resuming import *\n"
        "from tests import quickly\nquickly.in_child()\n"
        "train(sys.argv[1], [Stop(2, 1, 'kill')], **VALIDATION)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)},
        timeout=120,
        check=False,
        capture_output=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == [f"training-00000{n}-00000000.npz" for n in (1, 2)]
    # half of the newest file, as after a crash of a machine that did not keep its word
    newest = tmp_path / names[-1]
    newest.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2])
    with pytest.warns(UserWarning, match="cannot be read .*goes on from the file before"):
        assert_same(train(tmp_path, seed=7, **VALIDATION), whole)


def test_files_that_cannot_be_read_are_passed_over(tmp_path):
    folder = Folder(tmp_path / "new", keep=2)
    assert folder.read() is None
    about = {"version": 1, "batch": 0, "values": np.arange(3.0)}
    for epoch in (1, 2, 10):
        folder.write({**about, "epoch": epoch}, {})
    files = sorted(folder.path.iterdir())
    assert [path.name[9:15] for path in files] == ["000002", "000010"]
    data, _, path = folder.read()
    assert data["epoch"] == 10 and path == str(files[1])
    assert np.array_equal(data["values"], np.arange(3.0))
    for content in (b"", files[1].read_bytes()[:200], b"text"):
        files[1].write_bytes(content)
        with pytest.warns(UserWarning, match="cannot be read .*goes on from the file be"):
            assert folder.read()[0]["epoch"] == 2
        nengo_dl.notices.forget()
    folder.write({**about, "epoch": 11, "version": 99}, {})
    with pytest.warns(UserWarning, match="it is of version 99"):
        folder.read()


def test_an_epoch_goes_on_at_its_batch(whole, tmp_path):
    with pytest.raises(Interrupted):
        train(tmp_path, [Stop(1, 1)], every=1, **VALIDATION)
    # to the end, a longer one, and one that has come to its end
    for epochs, expected in ((3, [0, 1, 2] * 2), (EPOCHS, [0, 1, 2]), (EPOCHS, [])):
        seen, options = Seen(), {"seed": epochs, "epochs": epochs, **VALIDATION}
        found = train(tmp_path, [seen], every=1, **options)
        assert seen.batches == expected
        assert len(list(tmp_path.iterdir())) == 2
    assert_same(found, whole)


class Seen(keras.callbacks.Callback):
    """The numbers of all batches."""

    batches = None

    def on_train_begin(self, logs=None):
        self.batches = []

    def on_train_batch_begin(self, batch, logs=None):
        self.batches.append(batch)


def plain():
    """One layer."""
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(jit=False)
        net.inp = nengo.Node([0.0], label="inp")
        out = nengo.Ensemble(4, 1, neuron_type=nengo.RectifiedLinear())
        nengo.Connection(net.inp, out, synapse=None)
        net.p = nengo.Probe(out, label="p")
    return net


def test_a_training_that_was_stopped_has_come_to_its_end(tmp_path):
    stop = keras.callbacks.LambdaCallback()
    stop.on_epoch_end = lambda *args: setattr(stop.model, "stop_training", True)
    first = train(tmp_path, [stop], make=plain)
    assert len(first[1]) == 1
    assert_same(train(tmp_path, seed=7, make=plain), first)


def watchers():
    """Callbacks that count: nothing is better than the first epoch, by so much."""
    about = {"monitor": "loss", "min_delta": 10.0}
    best = {"restore_best_weights": True}
    return [
        keras.callbacks.ReduceLROnPlateau(patience=1, cooldown=1, factor=0.5, **about),
        keras.callbacks.EarlyStopping(patience=4, **best, **about),
        keras.callbacks.EarlyStopping(patience=9, **about),
    ]


def test_callbacks_go_on_counting(tmp_path):
    options = {"make": plain, "epochs": 8, "optimizer": "sgd"}
    expected = train(None, watchers(), **options)
    assert expected[1] == [0, 1, 2, 3, 4]
    for epoch, batch in ((2, 1), (4, 0)):
        with pytest.raises(Interrupted):
            train(tmp_path, [*watchers(), Stop(epoch, batch)], every=1, **options)
    assert_same(train(tmp_path, watchers(), every=1, **options), expected)
    after = train(tmp_path, watchers(), every=1, **options)  # it has come to its end
    assert_same(after, expected)


def counting(**settings):
    """A network that learns online, and counts its steps as Python."""
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(jit=False, **settings)
        net.inp = nengo.Node([0.0], label="inp")
        a, b = (nengo.Ensemble(6, 1, neuron_type=nengo.LIFRate()) for _ in range(2))
        nengo.Connection(net.inp, a, synapse=0.01)
        conn = nengo.Connection(
            a, b, function=lambda x: 0 * x, learning_rule_type=nengo.PES(1e-3)
        )
        nengo.Connection(net.inp, conn.learning_rule, synapse=None, transform=-1)
        noise = nengo.Node(nengo.processes.FilteredNoise(seed=2), size_in=0)
        total = nengo.Node(Sum(), size_in=1, size_out=1)
        nengo.Connection(noise, total, synapse=None)
        out = nengo.Node(size_in=1)
        nengo.Connection(b, out)
        nengo.Connection(total, out, synapse=None)
        net.p = nengo.Probe(out, label="p")
    return net


@pytest.mark.parametrize(
    ("stateful", "settings"),
    [(False, {}), (True, {}), (True, {"shared_learning": "sum"})],
)
def test_the_state_of_the_simulation_goes_on(stateful, settings, tmp_path):
    options = {"make": functools.partial(counting, **settings), "stateful": stateful}
    options |= {"epochs": 3, "optimizer": "sgd"}
    if settings:  # batches have to be full
        options |= {"x": X[:8], "y": X[:8] ** 2}
    expected = train(None, **options)
    with pytest.raises(Interrupted):
        train(tmp_path, [Stop(1, 1)], every=1, **options)
    assert_same(train(tmp_path, every=1, **options), expected)


def test_generators_are_passed_over(tmp_path):
    def elements():
        for number in range(12):
            part = X[number % 8 :][:3]
            yield part, part**2

    options = {"y": None, "steps_per_epoch": 3, "make": plain}
    expected = train(None, x=elements(), **options)
    with pytest.raises(Interrupted):
        train(tmp_path, [Stop(2, 1)], every=1, x=elements(), **options)
    assert_same(train(tmp_path, every=1, seed=7, x=elements(), **options), expected)


def test_files_of_other_trainings_are_refused(tmp_path):
    train(tmp_path, make=plain, epochs=1)
    with pytest.raises(ValidationError, match="of another training:\n.*in the file"):
        train(tmp_path, make=counting)
    with pytest.raises(ValidationError, match="optimizer: .*momentum"):
        train(tmp_path, make=plain, optimizer="sgd")
    with pytest.raises(ValidationError, match="11 items in the file, 4 items here"):
        train(tmp_path, make=plain, x=X[:4], y=X[:4])
    with pytest.raises(ValidationError, match="11 items in the file, nothing here"):
        train(tmp_path, make=plain, shuffle=False)


def test_what_cannot_go_on_is_refused(tmp_path):
    class Data(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, number):
            return X[:4], X[:4]

    with pytest.raises(ValidationError, match="give shuffle=False"):
        train(tmp_path, make=plain, x=Data(), y=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = {"make": plain, "y": None, "shuffle": False}
        assert len(train(tmp_path, x=Data(), epochs=1, **options)[1]) == 1
        with pytest.raises(ValidationError, match="give arrays instead of a PyDataset"):
            train(tmp_path, x=Data(), stateful=True, **options)
        with pytest.raises(ValidationError, match="cannot be read again"):
            train(tmp_path, make=plain, validation_data=iter([(X[:4], X[:4])]))
        with pytest.raises(ValidationError, match="expected one callbacks.Resume, got 2"):
            train(tmp_path, make=plain, callbacks=[Resume(tmp_path)])
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "in it"):
        seen = Seen()
        with pytest.raises(ValidationError, match="no folder that can be written to"):
            train(folder, make=plain, callbacks=[seen])
        assert seen.batches is None
    for wrong in (
        *({"every": 0}, {"every": "batch"}, {"keep": 0}, {"keep": True}),
        {"folder": 3},
    ):
        with pytest.raises(ValidationError, match=f"Resume.{next(iter(wrong))}"):
            Resume(**{"folder": tmp_path, **wrong})
    with pytest.raises(ValidationError, match="goes with Simulator.fit"):
        Resume(tmp_path).on_train_begin()
