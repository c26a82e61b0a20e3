"""Gradients of whole networks against differences, in float64."""

import re

import nengo
import numpy as np
import pytest
from nengo.exceptions import SimulationError, ValidationError

import nengo_dl
from nengo_dl.runtime.tensorflow.namespace import TensorFlowNamespace


def recurrent(**settings):
    """Filters of several orders, feedback, and several sinks."""
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(**settings)
        inp = nengo.Node([0.5])
        ens = nengo.Ensemble(12, 2, neuron_type=nengo.Sigmoid())
        nengo.Connection(inp, ens[0], synapse=None)
        nengo.Connection(ens, ens, synapse=0.005)
        other = nengo.Ensemble(8, 1, neuron_type=nengo.Tanh())
        nengo.Connection(ens[1], other, synapse=nengo.Alpha(0.003))
        third = nengo.LinearFilter([1], [1e-8, 3e-5, 4e-3, 1])
        nengo.Connection(other, ens[1], synapse=third)
        net.probes_ = [nengo.Probe(ens, synapse=0.002), nengo.Probe(other.neurons)]
    return net


def transforms():
    """A convolution and a sparse matrix."""
    with nengo.Network(seed=0) as net:
        inp = nengo.Node(np.zeros(9))
        conv = nengo.Convolution(2, (3, 3, 1), kernel_size=(2, 2))
        ens = nengo.Ensemble(8, 1, neuron_type=nengo.Sigmoid())
        nengo.Connection(inp, ens.neurons, transform=conv, synapse=0.003)
        out = nengo.Node(size_in=3)
        entries = [(0, 1), (1, 7), (2, 0), (2, 3)]
        sparse = nengo.Sparse((3, 8), indices=entries, init=[0.5, -1, 2, 1])
        nengo.Connection(ens.neurons, out, transform=sparse, synapse=None)
        nengo.Probe(out)
    return net


def learning():
    """An online learning rule inside a network that is trained."""
    with nengo.Network(seed=0) as net:
        inp = nengo.Node([0.3])
        a, b, error = (
            nengo.Ensemble(8, 1, neuron_type=nengo.Sigmoid()) for _ in range(3)
        )
        nengo.Connection(inp, a, synapse=None)
        learned = nengo.Connection(
            a, b, learning_rule_type=nengo.PES(1e-3), synapse=0.002
        )
        nengo.Connection(b, error, synapse=0.002)
        nengo.Connection(error, learned.learning_rule, synapse=None)
        nengo.Probe(b, synapse=None)
    return net


@pytest.mark.parametrize(
    "build, options",
    [
        (recurrent, {}),
        (lambda: recurrent(checkpoint=3), {}),
        (lambda: recurrent(use_loop=False), {"unroll_simulation": 4}),
        (transforms, {}),
        (learning, {"minibatch_size": 2}),
    ],
    ids=["recurrent", "checkpoint", "unrolled", "transforms", "learning"],
)
def test_gradients_equal_differences(build, options):
    with nengo_dl.Simulator(build(), progress_bar=False, **options) as sim:
        before = sim.n_steps
        sim.check_gradients(atol=1e-6, rtol=1e-4)
        assert sim.n_steps == before


def test_wrong_gradients_are_found(monkeypatch):
    def wrong(self, x):
        import tensorflow as tf

        return 0.5 * tf.sigmoid(x) + tf.stop_gradient(0.5 * tf.sigmoid(x))

    monkeypatch.setattr(TensorFlowNamespace, "sigmoid", wrong)
    net = recurrent()
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        data = {net.nodes[0]: np.ones((1, 3, 1))}
        with pytest.raises(SimulationError, match="gradient of <Probe.*is wrong") as e:
            sim.check_gradients(data, outputs=net.probes_[:1])
        assert re.search(r"Wrong by themselves: Sigmoid \([^;]*\)$", str(e.value))
        with pytest.raises(ValidationError, match="expected probes"):
            sim.check_gradients(outputs=[net])


def test_unrolled_calls_have_one_number_of_steps(rng, allclose):
    data = rng.randn(2, 4, 1)
    results = []
    for use_loop in (True, False):
        net = recurrent(use_loop=use_loop, dtype="float64")
        probe = net.probes_[0]
        with nengo_dl.Simulator(
            net, minibatch_size=2, unroll_simulation=4, progress_bar=False
        ) as sim:
            sim.compile("sgd", loss={probe: "mse"})
            x, y = {net.nodes[0]: data}, {probe: np.ones((2, 4, 2))}
            loss = sim.fit(x, y, epochs=3, verbose=0).history["loss"]
            sim.run_steps(11)
            results.append([loss, sim.data[probe]])
            if not use_loop:
                with pytest.raises(ValidationError, match="got 3 steps.*use_loop=False"):
                    sim.predict({net.nodes[0]: data[:, :3]})
    for a, b in zip(*results, strict=True):
        assert allclose(a, b, atol=1e-10)


def test_functions_without_a_gradient_are_named():
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(dtype="float64")
        node, out = nengo.Node([0.5]), nengo.Node(lambda t, x: x**2, size_in=1)
        ens = nengo.Ensemble(5, 1, neuron_type=nengo.Tanh())
        nengo.Connection(node, ens, synapse=None)
        nengo.Connection(ens, out, synapse=None)
        nengo.Probe(out)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        with pytest.raises(SimulationError, match=r"themselves: python \(.*lambda.*\)$"):
            sim.check_gradients(np.ones((1, 2, 1)))


def test_right_operations_are_not_named():
    from nengo_dl.training.gradients import wrong_kernels

    net = recurrent()
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        variant = sim.tensor_graph.variant(True)
        program = variant.program
        layout = program.layout(variant.use, fused=True)
        weights = program.weights(layout)
        assert len(layout.loop.groups) > 3
        assert wrong_kernels(layout, weights, {}, 2) == []
