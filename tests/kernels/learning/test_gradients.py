"""Rules that learn while the network is trained: gradients flow through what they do."""

import keras
import nengo
import numpy as np
import pytest

import nengo_dl

N, STEPS = 6, 25
RULES = ("PES", "BCM", "Oja", "Voja", "RLS")


def fixed(seed, m, n, scale):
    """A matrix that is the same in each network."""
    return np.random.RandomState(seed).uniform(-0.5, 1, (m, n)) * scale


def signal(t):
    """What drives all networks."""
    return np.sin(40 * t + np.arange(2))


def population(bias):
    """Neurons that are active all the time: their rates have no kinks on the way."""
    rng = np.random.RandomState(8)
    return nengo.Ensemble(
        N,
        2,
        neuron_type=nengo.RectifiedLinear(),
        encoders=rng.normal(size=(N, 2)),
        normalize_encoders=False,
        gain=rng.uniform(5, 10, N),
        bias=bias,
    )


def biases():
    """One vector for each of `RULES`."""
    return np.random.RandomState(4).uniform(60, 90, (len(RULES), N))


def network(values, learning=1.0):
    """A channel for each rule, after neurons with these biases."""
    with nengo.Network(seed=0) as net:
        net.inp = nengo.Node(signal)
        net.trained, net.learned, net.outputs = [], [], []
        for name, bias in zip(RULES, values, strict=True):
            pre = population(bias)
            nengo.Connection(net.inp, pre, synapse=None)
            conn, out = CHANNELS[name](net, pre, learning)
            net.trained.append(pre)
            net.learned.append(conn)
            net.outputs.append(nengo.Probe(out, synapse=0.01))
    return net


def to_node(rule):
    """Decoders that learn from an error."""

    def connect(net, pre, learning):
        out = nengo.Node(size_in=2)
        conn = nengo.Connection(
            pre.neurons,
            out,
            transform=fixed(1, 2, N, 1e-3),
            learning_rule_type=rule(learning),
        )
        nengo.Connection(out, conn.learning_rule, synapse=0.002)
        nengo.Connection(net.inp, conn.learning_rule, transform=-1)
        return conn, out

    return connect


def to_neurons(rule):
    """Weights between neurons."""

    def connect(net, pre, learning):
        post = population(np.full(N, 70.0))
        conn = nengo.Connection(
            pre.neurons,
            post.neurons,
            transform=fixed(2, N, N, 0.05),
            learning_rule_type=rule(learning),
        )
        return conn, post.neurons

    return connect


def to_encoders(rule):
    """Encoders that turn to what they are given."""

    def connect(net, pre, learning):
        post = population(np.full(N, 70.0))
        conn = nengo.Connection(
            pre.neurons,
            post,
            transform=fixed(3, 2, N, 5e-3),
            learning_rule_type=rule(learning),
        )
        return conn, post.neurons

    return connect


CHANNELS = {
    "PES": to_node(lambda rate: nengo.PES(2e-3 * rate)),
    "BCM": to_neurons(lambda rate: nengo.BCM(1e-5 * rate, theta_synapse=0.02)),
    "Oja": to_neurons(lambda rate: nengo.Oja(1e-4 * rate)),
    "Voja": to_encoders(lambda rate: nengo.Voja(0.1 * rate)),
    "RLS": to_node(lambda rate: nengo.RLS(1e-2 * max(rate, 1e-9))),
}


def losses(values, learning=1.0):
    """The mean squared output of each channel, in core Nengo."""
    net = network(values, learning)
    with nengo.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(STEPS)
        return np.array([np.mean(sim.data[out] ** 2) for out in net.outputs])


def slopes(direction, learning=1.0, width=1e-3):
    """How fast each channel's loss changes with its own biases, by differences."""
    up, down = (biases() + sign * width * direction for sign in (1, -1))
    return (losses(up, learning) - losses(down, learning)) / (2 * width)


def test_training_goes_through_the_rules(rng):
    net, rate = network(biases()), 1e-4
    with net:
        nengo_dl.configure_settings(dtype="float64", jit=False, trainable=False)
        for pre in net.trained:
            net.config[pre.neurons].trainable = True
    targets = {out: np.zeros((1, STEPS, out.size_in)) for out in net.outputs}
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.compile(keras.optimizers.SGD(rate), loss="mse")
        history = sim.fit(y=targets, n_steps=STEPS, verbose=0)
        after = np.array([sim.data[pre].bias for pre in net.trained])
        shown = [sim.data[conn].weights for conn in net.learned]
        built = [sim.model.params[conn].weights for conn in net.learned]
    assert history.history["loss"][0] == pytest.approx(losses(biases()).sum(), rel=1e-9)
    gradient = (biases() - after) / rate
    for _ in range(2):
        direction = rng.normal(size=gradient.shape)
        found = (gradient * direction).sum(1)
        expected = slopes(direction)
        size = np.abs(gradient * direction).sum(1)
        assert np.abs(found - expected).max() <= (1e-6 * size).max()
        assert (np.abs(found - expected) <= 1e-5 * size).all()
        # it would be another gradient if the rules did nothing
        assert (np.abs(found - slopes(direction, learning=0.0)) > 1e-3 * size).all()
    changed = [np.abs(a - b).max() > 1e-6 for a, b in zip(shown, built, strict=True)]
    assert changed == [name != "Voja" for name in RULES]


def test_what_rules_change_is_not_trained():
    net = network(biases())
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        entries = {(p.obj, p.attr): p for p in sim._live.parameters.entries}
        for name, conn in zip(RULES, net.learned, strict=True):
            key = (conn.post_obj, "encoders") if name == "Voja" else (conn, "weights")
            assert entries[key].learned and not entries[key].trainable
        voja = net.learned[RULES.index("Voja")]
        assert entries[voja, "weights"].trainable
        assert entries[voja.post_obj.neurons, "bias"].trainable
