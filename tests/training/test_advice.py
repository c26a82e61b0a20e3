"""What is warned of before training."""

import warnings

import nengo
import numpy as np
import pytest

import nengo_dl
from nengo_dl.surrogates import Triangle
from tests.simulator.spiking import SPIKING, driven, inputs, simulator

keras = pytest.importorskip("keras")


def training_warnings(net, loss="mse"):
    """What is warned of before training."""
    with simulator(net) as sim:
        sim.compile(keras.optimizers.SGD(0.0), loss=loss)
        with warnings.catch_warnings(record=True) as record:
            warnings.simplefilter("always")
            for _ in range(2):
                sim._trainer.side("fit").warn_before_training()
    messages = [str(w.message) for w in record]
    return [message for message in messages if message.startswith("Simulator.fit: ")]


def test_fit_warns_once_where_it_is_called(rng):
    net = driven(nengo.Izhikevich(), trainable=False)
    x, y = inputs(rng, n_steps=3), np.zeros((2, 3, 5))
    with simulator(net) as sim:
        sim.compile(keras.optimizers.SGD(0.0), loss="mse")
        with pytest.warns(UserWarning, match="nothing to train") as record:
            sim.fit(x, y, verbose=0)
            sim.fit(x, y, verbose=0)
    (ours,) = [w for w in record if "Simulator.fit" in str(w.message)]
    assert ours.filename == __file__


def test_what_can_be_trained_is_not_warned_of():
    assert training_warnings(driven(*SPIKING[:5])) == []
    assert training_warnings(driven(*SPIKING[:5], spiking_training=True)) == []
    net = driven(*SPIKING, spiking_training=True, surrogate=Triangle())
    assert training_warnings(net) == []


@pytest.mark.parametrize("settings", ({}, {"spiking_training": True}), ids=repr)
def test_spikes_without_gradient_are_named(settings):
    (found,) = training_warnings(driven(nengo.Izhikevich(), nengo.LIF(), **settings))
    assert "Izhikevich() in <Ensemble 'ens0'>" in found and "ens1" not in found
    assert "spiking_training=True, surrogate=..." in found


def test_inference_in_fit_has_no_gradient():
    (found,) = training_warnings(driven(nengo.LIF(), learning_phase=False))
    assert "LIF() in <Ensemble 'ens0'>" in found


def test_python_functions_are_named_where_they_matter():
    net = driven(nengo.LIF())
    with net:
        between = nengo.Node(lambda t, x: x**2, size_in=5, label="between")
        nengo.Connection(net.ens[0].neurons, between, synapse=0.01)
        behind = nengo.Node(size_in=5, label="behind")
        nengo.Connection(between, behind)
        probe = nengo.Probe(behind)
        aside = nengo.Node(lambda t, x: x, size_in=2, label="aside")
        conn = nengo.Connection(net.inp, aside, synapse=None)
        nengo.Probe(aside)
        nengo_dl.configure_settings(trainable=None)
    net.config[conn].trainable = False
    (found,) = training_warnings(net)
    assert "'between'" in found and "Python functions have no gradient" in found
    assert "aside" not in found and "surrogate" not in found
    assert training_warnings(net, loss={net.out[0]: "mse"}) == []
    assert len(training_warnings(net, loss={probe: "mse"})) == 1


def test_trained_objects_with_a_learning_rule_are_named():
    net = driven(nengo.LIFRate(), trainable=None)
    with net:
        post, pre = nengo.Node(size_in=1), nengo.Ensemble(10, 1)
        conn = nengo.Connection(
            pre, post, learning_rule_type=nengo.PES(), label="learned"
        )
        nengo.Connection(post, conn.learning_rule)
        nengo.Probe(post)
    assert training_warnings(net) == []
    net.config[conn].trainable = True
    (found,) = training_warnings(net)
    assert "connections['learned'].weights will be trained" in found
    assert "learned online, too" in found


def test_nothing_to_train_is_said():
    (found,) = training_warnings(driven(nengo.LIF(), trainable=False))
    assert "there is nothing to train" in found
