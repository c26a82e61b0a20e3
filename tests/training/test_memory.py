"""What is left of trainings that are over."""

import gc
import weakref

import keras
import nengo
import numpy as np
import pytest
import tensorflow as tf

import nengo_dl


def network(python=False):
    with nengo.Network(seed=0) as net:
        inp = nengo.Node([0.5])
        ens = nengo.Ensemble(10, 1, neuron_type=nengo.LIFRate())
        nengo.Connection(inp, ens, synapse=None)
        if python:
            node = nengo.Node(lambda t, x: x + 1, size_in=1)
            nengo.Connection(ens, node)
        nengo.Probe(ens, synapse=0.01)
    return net, inp, net.probes[0]


def arguments(data, x, y, inp, probe):
    """The same data in several forms."""
    if data == "arrays":
        return {"x": {inp: x}, "y": {probe: y}}
    if data == "generator":
        return {"x": iter([({inp: x}, {probe: y})] * 2), "steps_per_epoch": 2}
    dataset = tf.data.Dataset.from_tensors(({"input": x}, {"probe": y}))
    return {"x": dataset}


@pytest.mark.parametrize("python", (False, True))
@pytest.mark.parametrize("data", ("arrays", "generator", "dataset"))
def test_nothing_is_left_of_closed_simulators(data, python):
    """No Keras model, no graph of TensorFlow, no simulator, none of the first round."""
    x, y = np.ones((4, 3, 1)), np.zeros((4, 3, 1))
    models, graphs = [], []
    for _ in range(3):
        net, inp, probe = network(python)
        inp.label, probe.label = "input", "probe"
        with nengo_dl.Simulator(net, minibatch_size=4, progress_bar=False) as sim:
            sim.compile(optimizer=keras.optimizers.SGD(0.01), loss="mse")
            sim.fit(**arguments(data, x, y, inp, probe), verbose=0)
            models += [weakref.ref(sim.keras_model), weakref.ref(sim)]
        del sim, net, inp, probe
        gc.collect()
        found = [o for o in gc.get_objects() if isinstance(o, tf.Graph)]
        graphs.append(len(found))
        del found
    assert [model() for model in models] == [None] * len(models)
    # loops that call Python are those of one network, and are left as they are
    assert python or graphs[1] == graphs[2]


def test_training_steps_go_with_their_compile():
    net, inp, probe = network()
    x, y = np.ones((4, 3, 1)), np.zeros((4, 3, 1))
    graphs = []
    with nengo_dl.Simulator(net, minibatch_size=4, progress_bar=False) as sim:
        for _ in range(3):
            sim.compile(optimizer=keras.optimizers.Adam(0.01), loss="mse")
            sim.fit({inp: x}, {probe: y}, verbose=0)
            gc.collect()
            found = [o for o in gc.get_objects() if isinstance(o, tf.Graph)]
            graphs.append(len(found))
            del found
    assert graphs[1] == graphs[2]
