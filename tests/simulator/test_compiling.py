"""How often a network is compiled: once for each of its uses, and never twice for one."""

import nengo
import numpy as np
import pytest

import nengo_dl
from tests.runtime.native_code import pytestmark_native


def network(neuron_type, **settings):
    """A population between an input and a probe."""
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(**settings)
        stimulus = nengo.Node(np.sin)
        ens = nengo.Ensemble(10, 1, neuron_type=neuron_type)
        nengo.Connection(stimulus, ens)
        nengo.Probe(ens, synapse=0.01)
    return net


def whole_script(sim):
    """Build, run briefly, run long, fit, and run again; all of it twice."""
    x = np.ones((2, 3, 1))
    for _ in range(2):
        sim.run_steps(3)
        sim.step()
        sim._program.chooser.asked = 10**7  # as after many steps
        sim.run_steps(300)
        sim.compile("sgd", loss="mse")
        sim.fit(x, x, verbose=0)
        sim.run_steps(3)
        sim.step()
        sim.evaluate(x, x, verbose=0)
        sim.predict(x)
        sim.run_steps(300)
        sim.reset(include_trainable=False)


BUILT, OPEN = "parameters as they were built", "parameters as arguments"
SINGLE, MANY = ", for single steps", ", for many steps at a time"


def test_a_network_is_compiled_when_the_simulator_is_made():
    with nengo_dl.Simulator(network(nengo.LIF()), progress_bar=False) as sim:
        history = sim._program.history
        assert history.compiled == [BUILT]
        assert history.arranged == []
        sim.step()
        sim.run_steps(2)
        sim.reset()
        sim.step()
        assert history.compiled == [BUILT]
        assert history.arranged == [BUILT + SINGLE]


@pytest.mark.parametrize(
    "neuron_type, training",
    [
        # rates are trained as they run
        (nengo.RectifiedLinear(), None),
        (nengo.LIFRate(), None),
        (nengo.LIF(), "neurons in their rate form"),
    ],
)
@pytest.mark.parametrize(
    "machine_code", (pytest.param(True, marks=pytestmark_native), False)
)
def test_compiled_no_more_often_than_uses_differ(
    neuron_type, training, machine_code, request
):
    if not machine_code:
        request.getfixturevalue("no_machine_code")
    net = network(neuron_type)
    with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
        whole_script(sim)
        history = sim._program.history
        forms = [OPEN] if training is None else [OPEN, f"{OPEN}, {training}"]
        assert sorted(history.compiled) == sorted([BUILT, *forms])
        # steps one by one in machine code and NumPy, many at a time in TensorFlow,
        # training in it alone
        built = {BUILT + SINGLE} if machine_code else {BUILT + SINGLE, BUILT + MANY}
        expected = built | {OPEN + SINGLE, *(use + MANY for use in forms)}
        assert len(history.arranged) == len(set(history.arranged))
        assert built | {OPEN + MANY} <= set(history.arranged) <= expected


def test_smoothed_rates_are_trained_otherwise():
    settings = {"lif_smoothing": 0.1}
    for neuron_type, differs in ((nengo.LIFRate(), True), (nengo.Tanh(), False)):
        net = network(neuron_type, **settings)
        with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
            layer = sim.tensor_graph
            assert (layer.variant(True).chain is layer.variant(False).chain) != differs


def test_keras_layers_are_trained_otherwise():
    keras = pytest.importorskip("keras")
    with nengo.Network() as net:
        node = nengo_dl.TensorNode(keras.layers.Dropout(0.5), shape_in=(2,))
        nengo.Connection(nengo.Node([1.0, 1.0]), node, synapse=None)
        nengo.Probe(node)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        layer = sim.tensor_graph
        assert layer.variant(True).chain is not layer.variant(False).chain
        compiled = sim._program.history.compiled
        assert sum("Keras layers as in training" in line for line in compiled) == 1


def test_description_tells_how_often_and_why():
    net = network(nengo.LIF())
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.step()
        lines = sim.describe().splitlines()
        assert lines[-5:] == [
            "compiled once:",
            f"  {BUILT}",
            "arranged 2 times:",
            f"  {BUILT}{SINGLE}",
            f"  {BUILT}{MANY}",
        ]
        assert f"compiled once:\n  {BUILT}\n" in sim.describe(html=True)
        assert sim.signals  # from here on all of them are computed
        sim.step()
        again = sim.describe()
        assert f"compiled 2 times:\n  {BUILT}\n" in again
        assert f"{BUILT} (again: all signals are looked at)" in again


def test_a_pickle_is_compiled_once():
    import pickle

    net = network(nengo.LIF())
    net.nodes[0].output = [0.5]
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.step()
        with pickle.loads(pickle.dumps(sim)) as other:
            other.step()
            assert other._program.history.compiled == [BUILT]
            assert other._program.history.arranged == [BUILT + SINGLE]
