"""Training of what an online learning rule changes, where it is asked for."""

import keras
import nengo
import numpy as np
import pytest

import nengo_dl

STEPS = 12
RULES = {
    "PES": nengo.PES(2e-3),
    "RLS": nengo.RLS(1e-2),
    "Oja": nengo.Oja(1e-4),
    "Voja": nengo.Voja(1e-1),
}


def network(rule, start=None, trainable=True, **settings):
    """Smooth neurons; ``start`` are the values that the rule begins with."""
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(
            dtype="float64", jit=False, trainable=False, **settings
        )
        net.inp = nengo.Node([0.4, -0.3], label="inp")
        kind = {"neuron_type": nengo.Tanh()}
        gain, bias = nengo.dists.Uniform(0.5, 1), nengo.dists.Uniform(0.1, 0.5)
        pre = nengo.Ensemble(4, 2, gain=gain, bias=bias, **kind)
        if rule == "Voja" and start is not None:
            kind.update(encoders=start, normalize_encoders=False)
        post = nengo.Ensemble(
            3, 2, label="post", gain=np.ones(3), bias=np.array([0.1, 0.3, 0.5]), **kind
        )
        weights = np.linspace(-1, 1, 12 if rule == "Oja" else 8)
        if start is not None and rule != "Voja":
            weights = start
        nengo.Connection(net.inp, pre, synapse=None)
        if rule == "Voja":
            net.conn = nengo.Connection(net.inp, post, synapse=None)
            net.conn.learning_rule_type, net.out = RULES[rule], post.neurons
            net.learned = post
        elif rule == "Oja":
            weights = 1e-2 * np.reshape(weights, (3, 4))
            net.conn = nengo.Connection(pre.neurons, post.neurons, transform=weights)
            net.conn.learning_rule_type, net.out = RULES[rule], post.neurons
        else:
            net.out = nengo.Node(size_in=2)
            weights = 1e-3 * np.reshape(weights, (2, 4))
            net.conn = nengo.Connection(pre.neurons, net.out, transform=weights)
            net.conn.learning_rule_type = RULES[rule]
            nengo.Connection(net.inp, net.conn.learning_rule, transform=-1, synapse=None)
            nengo.Connection(net.out, net.conn.learning_rule, synapse=0.003)
        if rule != "Voja":
            net.learned = net.conn
        net.probe = nengo.Probe(net.out, synapse=0.005)
    if trainable is not None:
        net.config[net.learned].trainable = trainable
    return net


def learned(sim):
    built = sim.data[sim.network.learned]
    name = "scaled_encoders" if hasattr(built, "scaled_encoders") else "weights"
    return getattr(built, name).copy()


def data(net):
    """Two items, and targets of zeros."""
    x = np.array([[0.4, -0.3], [-0.2, 0.6]])[:, None] * np.ones((1, STEPS, 1))
    return {net.inp: x}, {net.probe: np.zeros((2, STEPS, net.probe.size_in))}


def fitted(net, rate, **kwargs):
    """What is learned by two items after a batch, and with which loss."""
    with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
        x, y = data(net)
        sim.compile(keras.optimizers.SGD(rate), loss="mse")
        losses = sim.fit(x, y, verbose=0, shuffle=False, **kwargs).history["loss"]
        copies = sim._live.learned()
        (copies,) = copies.values()
        return learned(sim), copies, losses


def loss_in_core(net, n_steps=STEPS):
    losses = []
    for x in data(net)[0][net.inp]:
        net.inp.output = x[0]
        with nengo.Simulator(net, progress_bar=False) as sim:
            sim.run_steps(n_steps)
        losses.append(np.mean(sim.data[net.probe] ** 2))
    return np.mean(losses)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.filterwarnings("ignore:.*will be trained")
def test_what_a_rule_modifies_is_trained_if_asked_for(rule):
    """The gradient is that of the values that all items start with."""
    rate = 1e-5 if rule != "Voja" else 1e-6
    after, copies, losses = fitted(network(rule), rate)
    plain, plain_copies, _ = fitted(network(rule), 0.0)
    net = network(rule)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        start = learned(sim)
    assert losses[0] == pytest.approx(loss_in_core(net), rel=1e-9)
    gradient = (plain - after) / rate
    assert np.abs(gradient).max() > 0
    # all items are moved alike, each from where the rule took it
    moved = (plain_copies - copies) / rate
    size = np.abs(gradient).max()
    assert np.allclose(moved, gradient.reshape(-1, 1), rtol=0, atol=1e-5 * size)
    assert np.abs(plain_copies[:, 0] - plain_copies[:, 1]).max() > 0
    scale = {"Oja": 1e-2, "Voja": 1.0}.get(rule, 1e-3)
    step = 1e-4
    for i in (0, start.size // 2, start.size - 1):
        direction = np.zeros(start.size)
        direction[i] = step
        up, down = (
            loss_in_core(
                network(rule, start / scale + np.reshape(s * direction, start.shape))
            )
            for s in (1, -1)
        )
        expected = (up - down) / (2 * step * scale)
        assert gradient.flat[i] == pytest.approx(expected, rel=1e-4, abs=1e-6 * size)


@pytest.mark.filterwarnings("ignore:.*will be trained")
@pytest.mark.parametrize("stateful", [False, True])
def test_training_goes_on_from_batch_to_batch(stateful):
    _, _, losses = fitted(network("RLS"), 1e-5, epochs=4, stateful=stateful)
    _, _, without = fitted(network("RLS"), 0.0, epochs=4, stateful=stateful)
    assert losses[0] == pytest.approx(without[0])
    assert (np.array(losses[1:]) < without[1:]).all()


@pytest.mark.parametrize("trainable", [None, False])
def test_it_is_not_trained_otherwise(trainable):
    net = network("PES", trainable=trainable)
    net.config[nengo.Connection].trainable = True  # of the class, not of the object
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        shapes = [tuple(v.shape) for v in sim.keras_model.trainable_weights]
        assert len(sim._live.parameters.learned) == 1
    assert (2, 4) not in shapes  # other connections have smaller weights


def test_fit_says_that_both_change_it():
    net = network("PES")
    with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
        sim.compile("sgd", loss="mse")
        with pytest.warns(
            UserWarning, match=r"weights will be trained \(trainable=True\)"
        ):
            sim.fit(*data(net), verbose=0)


def test_its_variable_is_one_of_the_model(tmp_path):
    """Whatever Keras writes there moves all items."""
    net = network("PES")
    with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
        sim.run_steps(5, data={net.inp: data(net)[0][net.inp][:, :5]})
        before = sim._live.learned()
        first = learned(sim)
        (signal,) = before
        (variable,) = sim.keras_model.trainable_weights
        assert np.array_equal(variable.numpy(), first)
        variable.assign(first + 0.25)
        assert np.allclose(learned(sim), first + 0.25)
        assert np.allclose(sim._live.learned()[signal], before[signal] + 0.25)
        sim.keras_model.save_weights(tmp_path / "all.weights.h5")
        variable.assign(first)
        sim.keras_model.load_weights(tmp_path / "all.weights.h5")
        assert np.allclose(learned(sim), first + 0.25)
        sim.save_params(tmp_path / "params")
        sim.reset()
        assert not np.allclose(learned(sim), first + 0.25)
        sim.load_params(tmp_path / "params")
        assert np.allclose(learned(sim), first + 0.25)
        sim.predict(data(net)[0])  # begins with what was loaded
        assert np.allclose(learned(sim), first + 0.25, atol=0.1)


def test_its_gradient_is_checked():
    net = network("PES")
    with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
        sim.check_gradients({net.inp: data(net)[0][net.inp]})
