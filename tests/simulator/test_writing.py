"""Parameters that something else than fit writes: the user, or a learning rule."""

import nengo
import numpy as np
import pytest

import nengo_dl
from tests import networks

keras = pytest.importorskip("keras")


# parameters written from elsewhere ------------------------------------------------------


def test_weights_set_through_keras_show_everywhere(tmp_path):
    net = networks.autoencoder(1, dtype="float64")
    (probe,) = net.out
    x = np.full((1, 5, 2), 0.5)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(5, data=x)
        model = sim.keras_model
        weights = model.get_weights()
        sim.step()
        model.set_weights([0 * w for w in weights])
        sim.step()
        assert not sim.data[probe][-1].any()
        assert not sim.data[net.a].bias.any()
        assert not sim.predict(x)[probe].any()
        path = tmp_path / "params"
        sim.save_params(path)
        model.set_weights(weights)
        assert sim.data[net.a].bias.any()
        sim.reset(include_trainable=False)
        sim.run_steps(5, data=x)
        trained = sim.data[probe]
        assert np.allclose(trained, sim.predict(x)[probe], rtol=0, atol=1e-12)
        sim.load_params(path)
        assert not any(w.any() for w in model.get_weights())
        model.set_weights(weights)
        sim.load_params(path)  # also if the simulator has not looked since
        assert not any(w.any() for w in model.get_weights())
        file = str(tmp_path / "model.weights.h5")
        model.set_weights(weights)
        model.save_weights(file)
        sim.reset()
        model.set_weights([0 * w for w in weights])
        model.load_weights(file)
        sim.run_steps(5, data=x)
        assert np.allclose(sim.data[probe], trained, rtol=0, atol=1e-12)


def test_steps_after_training_stay_cheap():
    """Once trained, a single step is again one call of the generated code."""
    net = networks.autoencoder(1)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.step()
        sim.compile("sgd", "mse")
        sim.fit(np.ones((1, 2, 2)), np.zeros((1, 2, 2)), verbose=0)
        sim.step()
        calls = []
        sim.run_steps = lambda *args, **kwargs: calls.append(args)
        sim.step()
        assert not calls
        assert sim.n_steps == 3


# online learning ------------------------------------------------------------------------


def learner():
    """A channel that learns online to put out its input."""
    with nengo.Network(seed=1) as net:
        nengo_dl.configure_settings(dtype="float64")
        net.inp = nengo.Node([0.8])
        pre = nengo.Ensemble(20, 1, neuron_type=nengo.RectifiedLinear())
        post = nengo.Node(size_in=1)
        nengo.Connection(net.inp, pre, synapse=None)
        net.conn = nengo.Connection(
            pre, post, function=lambda x: 0, learning_rule_type=nengo.PES(5e-3)
        )
        nengo.Connection(post, net.conn.learning_rule, synapse=0.01)
        nengo.Connection(net.inp, net.conn.learning_rule, transform=-1, synapse=0.01)
        net.out = nengo.Probe(post)
        net.weights = nengo.Probe(net.conn, "weights")
    return net


def test_each_item_learns_for_itself_and_keeps_it():
    net = learner()
    x = np.stack([np.full((40, 1), v) for v in (0.8, -0.5)])
    with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
        first = sim.predict(x)
        assert sim.n_steps == 0
        a, b = first[net.weights][:, -1]
        assert not np.allclose(a, b)
        # the first item's weights are what the simulator shows
        assert np.allclose(sim.data[net.conn].weights, a, atol=1e-4)
        second = sim.predict(x)
        for item in range(2):
            gap = np.abs(second[net.weights][item, 0] - first[net.weights][item, -1])
            step = np.abs(first[net.weights][item, -1] - first[net.weights][item, -2])
            assert gap.max() <= 2 * step.max() + 1e-12
        errors = [np.abs(r[net.out][:, -1] - x[:, -1]).max() for r in (first, second)]
        assert errors[1] < errors[0]
        sim.run_steps(40, data=x)
        start = sim.data[net.weights][:, 0]
        assert np.allclose(start, second[net.weights][:, -1], atol=1e-3)
        sim.reset(include_trainable=False)
        assert np.abs(sim.data[net.conn].weights).max() > 0
        sim.reset()
        assert np.array_equal(sim.data[net.conn].weights, np.zeros((1, 20)))


def test_fit_learns_online_too_and_leaves_the_weights_to_the_rule():
    net = learner()
    x = np.full((2, 30, 1), 0.8)
    y = {net.out: np.zeros((2, 30, 1))}
    with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
        sim.compile(keras.optimizers.SGD(0.0), loss={net.out: "mse"})
        expected = sim.predict(x, stateful=True)
        sim.reset()
        sim.fit(x, y, verbose=0)
        shapes = [w.shape for w in sim.keras_model.weights]
        assert (1, 20) not in shapes
        learned = sim.data[net.conn].weights
        assert np.allclose(learned, expected[net.weights][0, -1], atol=1e-3)
        assert np.abs(learned).max() > 0
