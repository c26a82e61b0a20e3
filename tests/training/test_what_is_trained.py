"""What training changes, and what stays as it is."""

import keras
import nengo
import numpy as np
from nengo.exceptions import SimulationError

import nengo_dl


def names_of_trained(sim):
    return {entry.name for entry in sim._live.parameters.entries if entry.trainable}


def value_of(name, sim):
    (entry,) = [e for e in sim._live.parameters.entries if e.name == name]
    return np.array(sim._live.value(entry.signal))


def test_decoders_of_a_probe_do_not_diverge(rng):
    """They see hundreds of Hz, and took the loss to 1e23 in an epoch."""
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(trainable=None)
        node = nengo.Node([0.0])
        ens = nengo.Ensemble(60, 1, neuron_type=nengo.LIFRate())
        nengo.Connection(node, ens, synapse=None)
        probe = nengo.Probe(ens)
    x = rng.uniform(-1, 1, size=(128, 1, 1))
    losses = {}
    for asked in (None, False, True):
        net.config[probe].trainable = asked
        with nengo_dl.Simulator(net, minibatch_size=16, progress_bar=False) as sim:
            before = value_of("probes[0].weights", sim)
            sim.compile(keras.optimizers.SGD(1e-2), loss="mse")
            try:
                found = sim.fit(x, x**2, shuffle=False, verbose=0).history["loss"][0]
            except SimulationError as error:  # worse than 1e23
                assert asked and "NaN or infinite" in str(error)
                found = np.inf
            losses[asked] = found
            after = value_of("probes[0].weights", sim)
            assert np.array_equal(before, after) == (asked is not True)
            assert ("probes[0].weights" in names_of_trained(sim)) == (asked is True)
    assert losses[None] == losses[False] < 1
    assert not losses[True] < 1e3


def test_layers_are_not_frozen_with_the_network():
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(trainable=False)
        node = nengo.Node([1.0])
        ens = nengo.Ensemble(10, 1, neuron_type=nengo.RectifiedLinear())
        layers = []
        for _ in range(2):
            layer = keras.layers.Dense(1)
            found = nengo_dl.Layer(layer)(ens.neurons, synapse=None)
            layers.append((found, layer, nengo.Probe(found)))
        nengo.Connection(node, ens, synapse=None)
    net.config[layers[1][0]].trainable = False
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        assert len(sim.keras_model.trainable_weights) == 2
        before = [layer.get_weights() for _, layer, _ in layers]
        sim.compile(keras.optimizers.SGD(1e-3), loss="mse")
        y = {probe: np.ones((1, 1, 1)) for _, _, probe in layers}
        sim.fit(n_steps=1, y=y, verbose=0)
        after = [layer.get_weights() for _, layer, _ in layers]
    assert not np.array_equal(before[0][0], after[0][0])
    assert np.array_equal(before[1][0], after[1][0])
