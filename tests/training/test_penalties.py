"""Regularizers and constraints of the parameters of a network."""

import warnings

import keras
import nengo
import numpy as np
import pytest
from keras.constraints import MaxNorm, NonNeg
from keras.regularizers import L1, L2

import nengo_dl
from nengo_dl.config import configure_settings
from nengo_dl.training.parameters import ParameterStore

RATE, BATCH = 0.1, 4


def network(rng):
    """Two connections of one shape, a sparse one, and an ensemble."""
    with nengo.Network(seed=0) as net:
        configure_settings(trainable=None, regularizer=None, constraint=None)
        net.inp = nengo.Node(np.zeros(3))
        net.ens = nengo.Ensemble(5, 3, neuron_type=nengo.RectifiedLinear())
        middle, out = nengo.Node(size_in=3), nengo.Node(size_in=3)
        weights = rng.uniform(-1, 1, size=(3, 3, 3))
        net.first = nengo.Connection(net.inp, middle, transform=weights[0], synapse=None)
        net.second = nengo.Connection(middle, out, transform=weights[1], synapse=None)
        sparse = nengo.Sparse(
            (3, 3), indices=[[0, 0], [1, 2], [2, 1]], init=weights[2, 0]
        )
        net.sparse = nengo.Connection(middle, out, transform=sparse, synapse=None)
        nengo.Connection(net.inp, net.ens, synapse=None)
        nengo.Connection(net.ens, out, synapse=None)
        net.probe = nengo.Probe(out)
    return net


def simulator(net, **kwargs):
    return nengo_dl.Simulator(net, minibatch_size=BATCH, progress_bar=False, **kwargs)


def trained(net, x, y):
    """The losses of testing and training, and the parameters after one step."""
    with simulator(net) as sim:
        sim.compile(keras.optimizers.SGD(RATE), loss="mse")
        losses = [sim.evaluate(x, y, verbose=0)["loss"]]
        losses += sim.fit(x, y, verbose=0).history["loss"]
        built = [sim.data[c].weights for c in (net.first, net.second, net.sparse)]
        built[2] = built[2].data
        ens = sim.data[net.ens]
        return losses, [*built, ens.scaled_encoders, ens.bias], sim.keras_model


def test_they_are_added_to_the_gradient_and_obeyed(rng, allclose):
    x, y = rng.uniform(-1, 1, size=(2, BATCH, 1, 3))
    net = network(rng)
    with simulator(net) as sim:
        built = [sim.data[c].weights for c in (net.first, net.second, net.sparse)]
        before = [*built[:2], built[2].data, sim.data[net.ens].scaled_encoders]
        before.append(sim.data[net.ens].bias)
    losses, plain, model = trained(net, x, y)
    banks = len(model.trainable_variables)
    config = net.config
    config[net.first].regularizer = L1(0.3)
    config[net.second].constraint = MaxNorm(0.4, axis=1)
    config[net.sparse].regularizer = L2(0.5)
    config[net.ens].regularizer = L2(0.2)
    config[net.ens.neurons].constraint = NonNeg()
    found, values, model = trained(net, x, y)
    assert len(model.trainable_variables) == banks + 1  # no common one of the first two

    penalty = 0.3 * np.abs(before[0]).sum() + 0.5 * np.square(before[2]).sum()
    penalty += 0.2 * np.square(before[3]).sum()
    assert allclose(found, np.add(losses, penalty), rtol=1e-5)
    expected = list(plain)
    expected[0] = plain[0] - RATE * 0.3 * np.sign(before[0])
    norm = np.linalg.norm(plain[1], axis=1, keepdims=True)
    expected[1] = plain[1] * np.minimum(1, 0.4 / norm)
    expected[2] = plain[2] - RATE * 2 * 0.5 * before[2]
    expected[3] = plain[3] - RATE * 2 * 0.2 * before[3]
    expected[4] = np.maximum(plain[4], 0)
    assert np.any(norm > 0.4) and np.any(plain[4] < 0)
    for value, wanted in zip(values, expected, strict=True):
        assert allclose(value, wanted, atol=1e-6)


def test_what_is_not_trained_has_none(rng, allclose):
    """As in Keras."""
    x, y = rng.uniform(-1, 1, size=(2, BATCH, 1, 3))
    net = network(rng)
    with net:
        configure_settings(trainable=False)
    net.config[net.second].trainable = True
    losses, _, _ = trained(net, x, y)
    net.config[net.first].regularizer = L1(0.3)
    net.config[net.first].constraint = MaxNorm(0.1)
    found, _, model = trained(net, x, y)
    assert allclose(found, losses)
    assert model.losses == [] and len(model.trainable_variables) == 1


def test_of_classes_and_with_double_precision(rng, allclose):
    x, y = rng.uniform(-1, 1, size=(2, BATCH, 1, 3))
    net = network(rng)
    with net:
        configure_settings(dtype="float64")
    losses, _, _ = trained(net, x, y)
    net.config[nengo.Connection].regularizer = lambda weights: keras.ops.sum(weights)
    with simulator(net) as sim:
        total = sum(
            np.sum(getattr(w, "data", w))
            for w in (sim.data[c].weights for c in net.connections)
            if w is not None and np.ndim(w)
        )
        sim.compile("sgd", loss="mse")
        found = sim.evaluate(x, y, verbose=0)["loss"]
    assert allclose(found, losses[0] + total, rtol=1e-9)


def test_parts_of_signals_are_warned_of(rng):
    with nengo.Network(seed=0) as net:
        configure_settings(regularizer=None)
        inp = nengo.Node(np.zeros(3))
        both = [nengo.Ensemble(5, 1, neuron_type=nengo.LIFRate()) for _ in range(2)]
        for ens in both:
            nengo.Connection(inp, ens, transform=np.ones((1, 3)), synapse=None)
            nengo.Probe(ens.neurons)
    net.config[both[0]].regularizer = L1(0.3)
    with nengo.Simulator(net, progress_bar=False) as ref:
        store = ParameterStore(ref.model, "float32")
        assert store.penalized == {}
        assert [entry.obj for entry in store.penalized_parts()] == both[:1]
        with simulator(None, model=ref.model) as sim:
            sim.compile("sgd", loss="mse")
            y = np.zeros((BATCH, 1, 5))
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*should be trained")
                with pytest.warns(UserWarning, match="has no effect: core Nengo"):
                    sim.fit(np.zeros((BATCH, 1, 3)), [y, y], verbose=0)
