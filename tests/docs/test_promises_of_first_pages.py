"""What the first pages of the manual promise, to those who come from elsewhere."""

import nengo
import numpy as np
import pytest

import nengo_dl
from tests.docs.promises import promise, simulator

NENGO, KERAS = "docs/coming_from_nengo.rst", "docs/coming_from_keras.rst"
LEARNING = "docs/learning.rst"


def learner(rule):
    """A node, two ensembles that learn to follow it, and probes of their weights."""
    with nengo.Network(seed=0) as net:
        net.stimulus = nengo.Node([0.0])
        net.a = nengo.Ensemble(10, 1, label="a")
        net.b = nengo.Ensemble(10, 1, label="b")
        nengo.Connection(net.stimulus, net.a, synapse=None)
        net.learned = nengo.Connection(
            net.a, net.b, learning_rule_type=rule, label="learned"
        )
        nengo.Connection(net.stimulus, net.learned.learning_rule, synapse=None)
        net.weights = nengo.Probe(net.learned, "weights")
        net.noise = nengo.Probe(nengo.Node(nengo.processes.WhiteNoise()))
        net.p = nengo.Probe(net.a)
    return net


@promise(
    NENGO,
    "The copies share their parameters. Each has its own voltages, filters, random "
    "numbers and, if there are learning rules, its own learned weights.",
)
def test_copies_share_parameters_and_nothing_else():
    net = learner(nengo.PES())
    with net:
        nengo_dl.configure_settings(jit=False)
    data = np.array([0.2, 0.9])[:, None, None].repeat(20, axis=1)
    with simulator(net, minibatch_size=2) as sim:
        assert sim.data[net.a].encoders.shape == (10, 1)
        sim.run_steps(20, data={net.stimulus: data})
        weights = sim.data[net.weights]
        own = [sim.data[net.p], sim.data[net.noise], weights]
    assert np.array_equal(weights[0, 0], weights[1, 0])
    assert not any(np.allclose(a[-1], b[-1]) for a, b in own)


@promise(
    NENGO,
    "the weights of connections (decoders included), the encoders of ensembles, and the "
    "biases of neurons. Not what a learning rule modifies, and not the decoders of "
    "``nengo.Probe(ensemble)``.",
)
def test_the_summary_says_what_is_trained():
    net = learner(nengo.PES())
    with net:
        nengo.Connection(net.a, net.b, label="plain")
    with simulator(net) as sim:
        rows = [line.split() for line in sim.summary().splitlines() if line]
    changed_by = {row[0].split("'")[1]: row[-1] for row in rows if "'" in row[0]}
    assert changed_by["plain"] == changed_by["a"] == changed_by["b"] == "training"
    assert changed_by["learned"] == "rule"
    (probed,) = (row for row in rows if row[0].startswith("probes"))
    assert probed[-1] == "nothing"


@promise(
    NENGO,
    "so decoders are around 0.001, and need small learning rates (0.0001, say). With "
    "``neuron_type=nengo.LIF(amplitude=0.01)`` both get larger by a factor of 100.",
)
def test_the_amplitude_scales_decoders(allclose):
    decoders = []
    for amplitude in (1, 0.01):
        with nengo.Network(seed=0) as net:
            neurons = nengo.LIF(amplitude=amplitude)
            ens = nengo.Ensemble(50, 1, neuron_type=neurons)
            connection = nengo.Connection(ens, nengo.Node(size_in=1))
        with simulator(net) as sim:
            decoders.append(sim.data[connection].weights)
    assert 1e-4 < np.abs(decoders[0]).mean() < 1e-2
    assert allclose(decoders[1], 100 * decoders[0], rtol=1e-3)


@promise(
    KERAS,
    "Biases are trained; gains only with the encoders that they are multiplied with.",
)
def test_gains_are_trained_with_encoders_only():
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(lif_smoothing=0.1)
        node = nengo.Node([0.5])
        whole, neurons = (nengo.Ensemble(5, 1) for _ in range(2))
        nengo.Connection(node, whole, synapse=None)
        nengo.Connection(node, neurons.neurons, transform=np.ones((5, 1)), synapse=None)
        probes = [nengo.Probe(ens.neurons) for ens in (whole, neurons)]
    with simulator(net) as sim:
        before = [(sim.data[ens].gain, sim.data[ens].bias) for ens in (whole, neurons)]
        sim.compile("sgd", loss="mse")
        sim.fit(n_steps=1, y={p: np.ones((1, 1, 5)) for p in probes}, verbose=0)
        after = [(sim.data[ens].gain, sim.data[ens].bias) for ens in (whole, neurons)]
    same = [[np.array_equal(a, b) for a, b in zip(*pair)] for pair in zip(before, after)]
    assert same == [[False, False], [True, False]]


@promise(KERAS, "the whole of ``sim.keras_model`` cannot be saved")
def test_the_error_says_how_to_save_instead(net, tmp_path):
    with simulator(net) as sim:
        with pytest.raises(NotImplementedError, match="sim.save_params.*freeze_params"):
            sim.keras_model.save(tmp_path / "model.keras")


@promise(LEARNING, "Neurons that do not spike can be used, with a warning")
def test_rules_that_learn_from_spikes_warn_of_rates():
    with nengo.Network(seed=0) as net:
        pre, post = (
            nengo.Ensemble(3, 1, neuron_type=kind)
            for kind in (nengo.LIFRate(), nengo.LIF())
        )
        nengo.Connection(
            pre.neurons,
            post.neurons,
            transform=np.full((3, 3), 0.5),
            learning_rule_type=nengo_dl.learning_rules.STDP(),
        )
    with pytest.warns(UserWarning, match="side 'pre' of STDP are LIFRate.*rates instead"):
        with simulator(net) as sim:
            sim.run_steps(2)
