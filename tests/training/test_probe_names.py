"""Names that probes of converted networks had in NengoDL 3."""

import pickle

import keras
import nengo
import numpy as np
import pytest
from keras import layers

import nengo_dl
from nengo_dl.training.data import ProbeNames, Results


def converted():
    inputs = keras.Input((4,))
    x = layers.Dense(3, activation="relu", name="hidden")(inputs)
    model = keras.Model(inputs, [layers.Dense(2, name="out")(x), x])
    return nengo_dl.Converter(model)


def test_older_names_of_probes_are_understood_everywhere(rng):
    """In what a simulator is given, and in what it gives."""
    net = converted().net
    x, y = rng.uniform(size=(8, 1, 4)), np.arange(8).reshape(8, 1, 1) % 2
    hidden = rng.uniform(size=(8, 1, 3))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    targets = {"probe": y, "probe_1": hidden}
    with nengo_dl.Simulator(net, minibatch_size=4, progress_bar=False) as sim:
        sim.compile(
            "sgd",
            loss={"probe": loss, "probe_1": "mse"},
            loss_weights={"probe": 1.0, "probe_1": 0.5},
            metrics={"probe": ["accuracy"]},
        )
        history = sim.fit(
            x, targets, validation_data=(x, targets), epochs=2, verbose=0
        ).history
        results = sim.evaluate(x, targets, verbose=0)
        outputs = sim.predict(x)
    pairs = (("probe", "out_output"), ("probe_1", "hidden_output"))
    for older, name in pairs:
        assert results[f"{older}_loss"] == results[f"{name}_loss"]
        assert history[f"val_{older}_loss"] == history[f"val_{name}_loss"]
        assert outputs[older] is outputs[name]
    assert results["probe_accuracy"] == results["out_output_accuracy"]
    assert "probe_loss" not in results and "out_output_loss" in results
    assert pickle.loads(pickle.dumps(results))["probe_loss"] == results["probe_loss"]
    for wrong in ("probe", "probe_2_loss", "probe_mse", "loss_probe"):
        with pytest.raises(KeyError, match=wrong):
            results[wrong]


def test_names_of_today_come_first():
    with nengo.Network() as net:
        a = nengo.Probe(nengo.Node([0.0]), label="a")
        b = nengo.Probe(nengo.Node([0.0]), label="probe")
    net.older_probe_names = {a: "probe", b: "probe_1"}
    names = ProbeNames([a, b], net)
    assert names == {a: "a", b: "probe"} and names.older == {"probe_1": b}
    results = Results({"a_loss": 1, "probe_loss": 2}, names)
    assert results["probe_loss"] == results["probe_1_loss"] == 2
    assert ProbeNames([a, b]).older == {}


def test_a_converted_network_within_another_one(rng):
    with nengo.Network() as net:
        converter = converted()
        nengo.Probe(converter.inputs[converter.model.inputs[0]], label="own")
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        found = sim.predict(rng.uniform(size=(2, 1, 4)))
    assert found["probe"].shape == (2, 1, 2) and found["own"].shape == (2, 1, 4)
