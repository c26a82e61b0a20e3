import json

import numpy as np
import pytest
import tensorflow as tf

import nengo_dl
from nengo_dl.benchmarks.__main__ import main
from nengo_dl.benchmarks.by_hand import ByHand
from nengo_dl.benchmarks.measurements import train
from nengo_dl.benchmarks.measurements.train import (
    PlainLoop,
    feed_forward,
    measure_checkpoints,
    measure_feed_forward,
    measure_loop,
    measure_spiking,
    states_megabytes,
)
from nengo_dl.benchmarks.networks.spiking_layers import spiking_layers
from nengo_dl.benchmarks.peers import Layers
from nengo_dl.runtime.tensorflow.scan import Scan

LAYERS = Layers("perceptron", (6, 20, 12, 3), n_steps=3, batch=2, batches=2)
TINY = {"n_steps": 3, "batch": 2, "batches": 2, "repeats": 1}


def test_plain_loop_is_the_same_loop(rng, allclose):
    def step(xp, carry, x, weights):
        c = xp.tanh(xp.matmul(weights[0], carry[0]) + x)
        return [c], c[:1]

    scan = Scan(step, 1, "float64", jit=False)
    arrays = [rng.randn(4, 3, 2), rng.randn(3, 2), rng.randn(3, 3)]
    xs, carry, weight = (tf.constant(array) for array in arrays)
    results = []
    for loop in (scan, PlainLoop(scan)):
        with tf.GradientTape() as tape:
            tape.watch([xs, carry, weight])
            ys, (last,) = loop(xs, [carry], [weight], training=True)
            total = tf.reduce_sum(ys**2) + tf.reduce_sum(last)
        results.append([ys, last, *tape.gradient(total, [xs, carry, weight])])
    for a, b in zip(*results, strict=True):
        assert allclose(a, b, atol=1e-12)


@pytest.mark.parametrize("measure", [measure_loop, measure_checkpoints])
def test_measure_loop(measure):
    row = measure(dimensions=2, neurons_per_d=8, **TINY)
    assert row["ours"] > 0 and row["theirs"] > 0 and row["steps"] == 3
    assert row["step_ms"] == row["ours"] / 3
    assert "integrator 2x8, T=3" in row["case"]
    assert ("memory_ratio" in row) == (measure is measure_checkpoints)


@pytest.mark.parametrize("n_steps", [1, 4])
def test_measure_feed_forward(n_steps):
    row = measure_feed_forward(sizes=(4, 3, 2), **{**TINY, "n_steps": n_steps})
    assert row["ours"] > 0 and row["theirs"] > 0 and row["beside"] == "keras.Model"


@pytest.mark.parametrize(
    "kind, sizes",
    [
        ("perceptron", (6, 20, 12, 3)),
        ("recurrent", (6, 8, 3)),
        ("pictures", (784, 3)),
    ],
)
def test_layers_by_hand_are_the_same_layers(kind, sizes, rng, allclose):
    net = spiking_layers(kind, sizes)
    x = (rng.uniform(size=(2, 5, sizes[0])) < 0.3).astype(np.float32)
    y = rng.randint(sizes[-1], size=2)
    written = ByHand(kind, sizes, 1e-3)
    expected = np.transpose(written(tf.constant(x)), (1, 0, 2))
    with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
        with tf.GradientTape() as tape:
            outputs = sim.keras_model(x, training=True)
            (out,) = tf.nest.flatten(outputs)
            loss = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(
                    np.broadcast_to(y[:, None], (2, 5)), out
                )
            )
        ours = tape.gradient(loss, sim.keras_model.trainable_weights)
        with tf.GradientTape() as tape:
            outputs = written(tf.constant(x))
            loss = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(
                    np.broadcast_to(y, (5, 2)), outputs
                )
            )
        theirs = tape.gradient(loss, written.variables)
    assert np.abs(expected).max() > 0 and allclose(out, expected, atol=1e-5)
    norms = [sorted(float(tf.norm(g)) for g in grads) for grads in (ours, theirs)]
    assert len(norms[0]) == len(norms[1]) and norms[0][-1] > 0
    assert allclose(*norms, rtol=1e-3, atol=1e-6)


def test_measure_spiking():
    row = measure_spiking(LAYERS, repeats=1)
    assert row["ours"] > 0 and row["theirs"] > 0 and row["beside"] == "by hand"


def test_feed_forward_has_these_sizes():
    net = feed_forward((5, 4, 3))
    assert net.inp.size_out == 5 and net.p.size_in == 3 and net.n_neurons == 4


def test_size_of_the_states():
    sizes = []
    for checkpoint in (None, 4, 10):
        settings = {"checkpoint": checkpoint}
        sim, _ = train._loop_trainer(2, 8, 20, 3, 1, False, settings)
        sizes.append(states_megabytes(sim, 20))
    assert sizes[0] > 0 and np.allclose(np.divide(sizes, sizes[0]) * 20, [20, 9, 12])


def test_command(monkeypatch, capsys, tmp_path):
    def one(repeats):
        return {"case": "one", "ours": 1.0, "theirs": 2.0, "ratio": 0.5, "steps": repeats}

    monkeypatch.setattr(train, "CASES", {"one": one})
    file = tmp_path / "figures.json"
    with pytest.raises(SystemExit) as info:
        main(["train", "--repeats", "7", "--json", str(file)])
    assert info.value.code == 0
    assert "one" in capsys.readouterr().out
    report = json.loads(file.read_text(encoding="utf-8"))
    assert report["rows"][0]["steps"] == 7 and report["rows"][0]["ratio"] == 0.5
    with pytest.raises(SystemExit) as info:
        main(["train", "--cases", "two"])
    assert info.value.code == 1
    assert "unknown: two; known: one" in capsys.readouterr().err
