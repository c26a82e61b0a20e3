"""Other libraries that train spiking layers: what they are given, and how they run."""

import concurrent.futures

import numpy as np
import pytest
import tensorflow as tf
from nengo.exceptions import ValidationError

from nengo_dl.benchmarks import peers
from nengo_dl.benchmarks.by_hand import ByHand
from nengo_dl.benchmarks.measurements import train
from nengo_dl.benchmarks.peers import Layers, Peer, Worker

KINDS = {
    "perceptron": Layers("perceptron", (6, 20, 12, 3), 7, 4, 2),
    "recurrent": Layers("recurrent", (6, 8, 3), 7, 4, 2),
    "pictures": Layers("pictures", (784, 3), 3, 4, 2),
}

SAME = {"snntorch": 1e-5, "jax": 1e-5}
"""How near the losses are; the neurons of other libraries are reset in other ways."""


def counting(layers):
    """Does not learn: the loss is the number of batches so far."""
    shapes = []

    def training(x, y):
        shapes.append((x.shape, y.shape))
        return float(len(shapes))

    return training


FAKE = Peer("Counting", ("numpy",), f"{__name__}:counting")


@pytest.fixture
def in_threads(monkeypatch):
    def pool(workers, mp_context):
        assert workers == 1 and mp_context.get_start_method() == "spawn"
        return concurrent.futures.ThreadPoolExecutor(workers)

    monkeypatch.setattr(concurrent.futures, "ProcessPoolExecutor", pool)


def test_worker(in_threads):
    layers = KINDS["perceptron"]
    with Worker(FAKE, layers) as worker:
        assert worker.first_batch() == 1.0
        assert worker.epoch() > 0 and worker.epoch() > 0
    running = peers._running.pop()
    assert running.train(*running.batches[0]) == 6.0  # two epochs of two batches
    assert [x.shape for x, y in running.batches] == [(4, 7, 6)] * 2


def test_layers_have_spikes_and_float32_weights():
    layers = Layers(n_steps=4, batches=2)
    x, y = layers.data()
    assert x.shape == (128, 4, 784) and set(np.unique(x)) == {0, 1}
    assert 0.09 < x.mean() < 0.11 and y.shape == (128,) and y.max() == 9
    assert [w.shape for w in layers.weights()] == [(256, 784), (128, 256), (10, 128)]
    assert all(w.dtype == np.float32 for w in layers.weights())
    assert layers.case == "perceptron 784-256-128-10, T=4"


def test_measure_peer(in_threads):
    row = train.measure_peer(KINDS["perceptron"], FAKE, repeats=1)
    peers._running.pop()
    assert row["beside"] == f"Counting {np.__version__}" and row["ratio"] > 0
    assert row["limit"] is None and row["loss"] == 1.0 and row["loss_difference"] > 0


def test_chosen(monkeypatch):
    absent = Peer("Absent", ("no_such_library", "numpy"), "")
    monkeypatch.setattr(peers, "PEERS", {"counting": FAKE, "absent": absent})
    assert peers.chosen(None) == [FAKE] == peers.chosen(["counting"])
    with pytest.raises(ValidationError, match="unknown: torch; known: counting, absent"):
        peers.chosen(["torch"])
    with pytest.raises(ModuleNotFoundError, match="pip install no_such_library numpy"):
        peers.chosen(["absent"])


@pytest.mark.parametrize("name", peers.PEERS)
def test_layers_of_libraries_are_these_layers(name):
    peer = peers.PEERS[name]
    if not peer.installed:
        pytest.skip(f"{peer.title} is not installed; no dependency of tests is as heavy")
    for layers in KINDS.values():
        x, y = (array[: layers.batch] for array in layers.data())
        written = ByHand(layers.kind, layers.sizes, peers.LEARNING_RATE)
        expected = [float(written.train(tf.constant(x), tf.constant(y))) for _ in "123"]
        with Worker(peer, layers) as worker:  # PyTorch and TensorFlow in one may crash
            losses = [worker.first_batch() for _ in expected]
        assert losses[0] > losses[1] > losses[2]
        assert losses == pytest.approx(expected, rel=SAME.get(name, 0.05))
