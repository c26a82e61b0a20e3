"""Small things that scripts for NengoDL 3 do."""

import keras
import nengo
import numpy as np
import pytest
import tensorflow as tf
from nengo.exceptions import SimulationError

import nengo_dl


def small(**settings):
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(**settings)
        net.node = nengo.Node([0.5], label="in")
        net.ens = nengo.Ensemble(
            6, 1, neuron_type=nengo.RectifiedLinear(), label="hidden"
        )
        net.conn = nengo.Connection(net.node, net.ens, synapse=None)
        net.out = nengo.Node(size_in=1)
        net.second = nengo.Connection(net.ens, net.out, synapse=None, label="readout")
        net.probe = nengo.Probe(net.out, label="p")
    return net


def simulator(net, **kwargs):
    return nengo_dl.Simulator(net, progress_bar=False, **kwargs)


@pytest.mark.parametrize("name", ["batch_size", "validation_batch_size"])
def test_a_large_batch_size_warns(name):
    x = np.ones((5, 1, 1))
    with simulator(small(), minibatch_size=2) as sim:
        sim.compile("sgd", "mse")
        options = {"validation_data": (x, x)} if name != "batch_size" else {}
        with pytest.warns(UserWarning, match=f"{name}=32 .*minibatch_size .2., which"):
            history = sim.fit(x, x, verbose=0, **{name: 32}, **options).history
        assert np.isfinite(history["loss"]).all()


def test_predict_without_probes():
    with nengo.Network() as net:
        node = nengo.Node([0.0])
        nengo.Connection(node, nengo.Ensemble(3, 1))
    with simulator(net) as sim:
        assert sim.predict(np.ones((1, 2, 1))) == {}
        assert sim.predict(n_steps=2) == {} == sim.predict_on_batch(n_steps=2)


def test_targets_of_weights_may_be_flat(rng):
    net = small()
    with net:
        nengo.Probe(net.second, "weights", label="w")
    with simulator(net) as sim:
        sim.compile("sgd", loss={"w": "mse"})
        target = rng.uniform(size=(1, 2, 1, 6))
        options = {"n_steps": 2, "verbose": 0}
        losses = [
            sim.evaluate(None, {"w": y}, **options)["loss"]
            for y in (target, target.reshape(1, 2, 6))
        ]
        assert losses[0] == losses[1] > 0


@pytest.mark.parametrize("method", ["fit", "evaluate", "predict", "predict_on_batch"])
def test_a_state_that_a_setting_forbids(method):
    x = np.ones((1, 1, 1))
    arguments = (x,) if method.startswith("predict") else (x, x)
    with simulator(small(stateful=False)) as sim:
        sim.compile("sgd", "mse")
        with pytest.warns(UserWarning, match=f"{method}: stateful=True has no effect"):
            getattr(sim, method)(*arguments, stateful=True)
        assert sim.n_steps == 0


def test_data_and_times_go_together_without_state():
    net = small(stateful=False, jit=False)
    with simulator(net) as sim:
        for _ in range(2):
            sim.run_steps(3)
            assert len(sim.trange()) == len(sim.data[net.probe])


def test_parameters_of_neurons():
    net = small()
    with simulator(net) as sim:
        found = sim.get_nengo_params(net.ens.neurons)
        whole = sim.get_nengo_params(net.ens)
        assert set(found) == {"gain", "bias", "max_rates", "intercepts"}
        assert np.array_equal(found["bias"], whole["bias"])
        both = sim.get_nengo_params([net.ens.neurons, net.second], as_dict=True)
        assert set(both) == {"hidden", "readout"}
    with nengo.Network():
        nengo.Ensemble(6, 1, **found)


def test_a_layer_with_one_input_is_not_given_the_time(allclose):
    class OfTwo(keras.layers.Layer):
        def call(self, t, x):
            return t + x

    layer = keras.layers.Dense(2)
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    with nengo.Network() as net:
        nodes = [
            nengo_dl.TensorNode(layer, shape_in=(3,)),
            nengo_dl.TensorNode(model, shape_in=(3,), pass_time=True),
            nengo_dl.TensorNode(OfTwo(), shape_in=(3,)),
            nengo_dl.TensorNode(lambda t, x: tf.cast(t, x.dtype) + x, shape_in=(3,)),
        ]
        probes = [nengo.Probe(node) for node in nodes]
    assert [node.pass_time for node in nodes] == [False, False, True, True]
    with simulator(net) as sim:
        sim.run_steps(2)
        for probe, size in zip(probes, (2, 1, 3, 3), strict=True):
            assert sim.data[probe].shape == (2, size)
        assert allclose(sim.data[probes[2]][1], 0.002)


def test_gradients_at_a_kink_are_right():
    """Every neuron is at its threshold in what the node puts out."""
    with nengo.Network(seed=0) as net:
        node = nengo.Node([0.0])
        ens = nengo.Ensemble(
            4,
            1,
            neuron_type=nengo.RectifiedLinear(),
            gain=np.ones(4),
            bias=np.zeros(4),
        )
        nengo.Connection(node, ens, synapse=None)
        out = nengo.Node(size_in=1)
        nengo.Connection(ens.neurons, out, transform=np.ones((1, 4)), synapse=None)
        nengo.Probe(out)
    with simulator(net) as sim:
        sim.check_gradients()


def test_a_wrong_gradient_names_the_connection():
    @tf.custom_gradient
    def wrong(x):
        return x**2, lambda dy: 3 * dy

    with small() as net:
        last = nengo_dl.TensorNode(lambda x: wrong(x), shape_in=(1,), pass_time=False)
        nengo.Connection(net.out, last, synapse=None)
        probe = nengo.Probe(last)
    net.config[net.ens].trainable = False
    net.config[net.ens.neurons].trainable = False
    net.config[net.conn].trainable = False
    with simulator(net) as sim:
        sim.check_gradients(outputs=[net.probe])
        with pytest.raises(
            SimulationError,
            match=r"connections\['readout'\].w.*themselves: tensor_call \(.*\)$",
        ):
            sim.check_gradients(outputs=[probe])
