import nengo
import numpy as np
import pytest
from nengo.exceptions import BuildError

import nengo_dl
from nengo_dl.converter.connections import TiedConnection


def tied_network(rng):
    with nengo.Network(seed=0) as net:
        net.x = nengo.Node([1.0, -2.0])
        net.y = nengo.Node(size_in=2)
        net.z = nengo.Node(size_in=2)
        first = nengo.Connection(
            net.x, net.y, transform=rng.uniform(size=(2, 2)), synapse=None
        )
        net.tied = TiedConnection(
            net.y, net.z, transform=np.zeros((2, 2)), synapse=None, tied_to=first
        )
        net.first, net.probe = first, nengo.Probe(net.z)
    return net


def test_weights_are_those_of_the_other_connection(rng, allclose):
    net = tied_network(rng)
    matrix = net.first.transform.init
    expected = matrix @ matrix @ [1.0, -2.0]
    for simulator in (nengo.Simulator, nengo_dl.Simulator):
        with simulator(net, progress_bar=False) as sim:
            sim.run_steps(2)
            assert allclose(sim.data[net.probe][-1], expected)
            assert allclose(sim.data[net.tied].weights, matrix)


def test_training_changes_both_alike(rng, allclose):
    net = tied_network(rng)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        assert len(sim.keras_model.trainable_variables) == 1
        sim.compile("sgd", loss="mse")
        sim.fit(n_steps=1, y=np.ones((1, 1, 2)), epochs=3, verbose=0)
        weights = np.array(sim.data[net.first].weights)
        assert not allclose(weights, net.first.transform.init)
        assert allclose(sim.data[net.tied].weights, weights)


def test_copies_are_tied_to_the_copy(rng):
    net = tied_network(rng).copy()
    tied = next(c for c in net.connections if isinstance(c, TiedConnection))
    assert tied.tied_to in net.connections


def test_shapes_have_to_agree():
    with nengo.Network() as net:
        x, y = nengo.Node([1.0, 2.0]), nengo.Node(size_in=3)
        first = nengo.Connection(x, y, transform=np.ones((3, 2)))
        TiedConnection(x, y[0], transform=np.ones((1, 2)), tied_to=first)
    with pytest.raises(BuildError, match=r"weights of shape \(3, 2\); expected \(1, 2\)"):
        nengo.Simulator(net, progress_bar=False)
