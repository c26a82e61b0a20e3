"""Networks that train in a chain of links: the same numbers as in one loop."""

import warnings

import keras
import nengo
import numpy as np
import pytest
import tensorflow as tf

import nengo_dl
from nengo_dl.runtime import program
from nengo_dl.runtime.emit import weights_read
from nengo_dl.runtime.native import spiking_rows
from nengo_dl.runtime.native.compile import available
from nengo_dl.runtime.tensorflow import spiking_products
from nengo_dl.training import advice, tensor_graph, variant
from nengo_dl.training.segments import Segments

STEPS, BATCH = 4, 3


def weighted(rng, pre, post, **kwargs):
    """A connection with random weights."""
    scale = 5 / np.sqrt(pre.size_out)
    weights = scale * rng.normal(size=(post.size_in, pre.size_out))
    kwargs.setdefault("synapse", None)
    return nengo.Connection(pre, post, transform=weights, **kwargs)


def populations(neurons=None, synapse=None, between=None, **settings):
    """Three populations in a row, and probes of all that can be probed.

    ``between``: connects the first with the second.
    """
    rng = np.random.RandomState(0)
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(
            dtype="float64", spiking_training=True, jit=False, trainable=None, **settings
        )
        net.config[nengo.Ensemble].neuron_type = neurons or nengo.LIF(tau_ref=0.001)
        net.inp = nengo.Node(np.zeros(24))
        net.ens = [nengo.Ensemble(n, 1) for n in (30, 32, 28)]
        first, second, third = (ens.neurons for ens in net.ens)
        weighted(rng, net.inp, first, synapse=synapse)
        (between or weighted)(rng, first, second)
        weighted(rng, second, third, synapse=synapse)
        net.out = nengo.Node(size_in=2)
        weighted(rng, third, net.out)
        net.p = nengo.Probe(net.out)
        probed = "input" if neurons else "voltage"
        for target, attr in ((second, probed), (first, None)):
            nengo.Probe(target, attr)
    return net


def skipping():
    net = populations(synapse=0.01)
    with net:
        rng = np.random.RandomState(1)
        weighted(rng, net.ens[0].neurons, net.ens[2].neurons, synapse=0.02)
        weighted(rng, net.inp, net.out, synapse=0.01)
    return net


def learning():
    """The last weights are learned online, and start from what is trained."""
    net = populations()
    with net:
        target = nengo.Node(size_in=2)
        learned = nengo.Connection(
            net.ens[1].neurons,
            target,
            transform=np.zeros((2, 32)),
            learning_rule_type=nengo.PES(1e-4),
        )
        nengo.Connection(net.inp[:2], learned.learning_rule, synapse=None)
        nengo.Connection(target, net.out, synapse=None)
        net.learned = nengo.Probe(learned, "weights")
    return net


def with_layer(layer):
    """A layer of Keras between the first two populations."""

    def between(rng, pre, post):
        node = nengo_dl.Layer(layer())(pre, synapse=None)
        weighted(rng, node, post)

    return populations(between=between)


def with_python():
    """A Python function between them."""

    def between(rng, pre, post):
        node = nengo.Node(lambda t, x: x * np.cos(t), size_in=pre.size_out)
        nengo.Connection(pre, node, synapse=None)
        weighted(rng, node, post)

    return populations(between=between)


def noisy():
    net = populations(synapse=0.01)
    for ens in net.ens[:2]:
        ens.noise = nengo.processes.WhiteNoise(nengo.dists.Gaussian(0, 0.3), seed=1)
    return net


def pictures():
    rng = np.random.RandomState(0)
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(
            dtype="float64", spiking_training=True, jit=False, trainable=None
        )
        net.inp = nengo.Node(np.zeros(24))
        first = nengo.Convolution(3, (6, 4, 1), kernel_size=(3, 3))
        second = nengo.Convolution(2, first.output_shape, kernel_size=(2, 2))
        a, b = (nengo.Ensemble(t.output_shape.size, 1).neurons for t in (first, second))
        nengo.Connection(net.inp, a, transform=first, synapse=None)
        nengo.Connection(a, b, transform=second, synapse=None)
        net.out = nengo.Node(size_in=2)
        weighted(rng, b, net.out)
        net.p = nengo.Probe(net.out)
    return net


NETWORKS = {
    "filters": lambda: populations(synapse=nengo.Alpha(0.01)),
    "rates": lambda: populations(nengo.RectifiedLinear(amplitude=1e-3), synapse=0.01),
    "truncated": lambda: populations(synapse=0.01, truncate=2),
    "skip": skipping,
    "learning": learning,
    "layer": lambda: with_layer(lambda: keras.layers.Dense(30, dtype="float64")),
    "python": with_python,
    "noise": noisy,
    "convolutions": pictures,
}


def results(net, cut, monkeypatch, n_links):
    """Gradients of all parameters, a training, and what is known after it."""
    with monkeypatch.context() as patch:
        if not cut:
            patch.setattr(program.chain, "cut", lambda *args: None)
        with nengo_dl.Simulator(net, minibatch_size=BATCH, progress_bar=False) as sim:
            keras.utils.set_random_seed(0)
            rng = np.random.RandomState(0)
            x = rng.normal(size=(BATCH, STEPS, 24))
            y = rng.normal(size=(2 * BATCH - 1, STEPS, 2))
            links = sim.tensor_graph.variant(True).links
            assert len(links) == (n_links if cut else 1)
            with tf.GradientTape() as tape:
                outputs = sim.keras_model(x, training=True)
                loss = sum(tf.reduce_sum(out**2) for out in tf.nest.flatten(outputs))
            weights = sim.keras_model.trainable_weights
            found = tf.nest.flatten(outputs)
            found += [g for g in tape.gradient(loss, weights) if g is not None]
            sim.compile(keras.optimizers.SGD(1e-3), loss={net.p: "mse"})
            data = np.concatenate([x, x[:-1]])
            history = sim.fit({net.inp: data}, {net.p: y}, epochs=2, verbose=0)
            found.append(history.history["loss"])
            sim.evaluate({net.inp: x}, {net.p: y[:BATCH]}, verbose=0, stateful=True)
            sim.run_steps(3, data={net.inp: x[:, :3]})
            found += [sim.data[probe] for probe in net.probes]
    return [np.asarray(array) for array in found]


@pytest.mark.parametrize("there, warns", [(2**12, True), (2**30, False), (None, False)])
def test_memory_is_spoken_of_before_it_is_gone(there, warns, monkeypatch):
    monkeypatch.setattr(advice, "physical_memory", lambda: there)
    with nengo_dl.Simulator(populations(), progress_bar=False) as sim:
        there_is = sim.tensor_graph.variant(True)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            advice.warn_of_memory(there_is, 16)
    texts = [str(w.message) for w in caught]
    assert bool(texts) == warns
    if warns:
        assert "16 steps of 1 items" in texts[0] and "checkpoint=4" in texts[0]


def in_segments(net, monkeypatch, n_links):
    """The same, all loops for three of the steps, then for the last one."""
    made = []

    def segments(*args):
        made.append(Segments(*args))
        return made[-1]

    with net:
        nengo_dl.configure_settings(checkpoint=3)
    monkeypatch.setattr(variant, "LEAST_STEPS", 2)
    monkeypatch.setattr(tensor_graph, "Segments", segments)
    found = results(net, True, monkeypatch, n_links)
    assert {s.every for s in made} == {3}
    return found


@pytest.mark.parametrize("name", NETWORKS)
def test_a_chain_computes_what_one_loop_does(name, monkeypatch, allclose):
    n_links = {"convolutions": 2, "rates": 2}.get(name, 3)
    make = NETWORKS[name]
    whole, *others = (results(make(), cut, monkeypatch, n_links) for cut in (False, True))
    if name in ("learning", "noise"):
        others.append(in_segments(make(), monkeypatch, n_links))
    for cut in others:
        assert len(cut) == len(whole) > len(make().probes)
        for one, other in zip(cut, whole, strict=True):
            assert one.shape == other.shape
            assert allclose(one, other, rtol=1e-9, atol=1e-11)
        assert max(np.abs(g).max() for g in cut) > 0


@pytest.mark.parametrize(
    "settings, steps, segment",
    [
        ({}, 1000, None),  # it all fits
        ({"checkpoint": 20}, 100, 20),
        ({"checkpoint": 20}, 20, None),
        ({"checkpoint": 20, "truncate": 10}, 100, None),
        ({"checkpoint": None}, 10**9, None),
    ],
)
def test_steps_of_a_segment(settings, steps, segment):
    with nengo_dl.Simulator(populations(**settings), progress_bar=False) as sim:
        there = sim.tensor_graph.variant(True)
    assert there.segment_of(steps) == segment
    assert len(there.links) == (1 if "truncate" in settings else 3)


def test_segments_are_as_long_as_memory_allows():
    with nengo_dl.Simulator(populations(), progress_bar=False) as sim:
        there = sim.tensor_graph.variant(True)
    steps = there.segment_of(10**9)
    assert steps is not None
    assert there.bytes_of_steps(steps) <= 2**31 < there.bytes_of_steps(steps + 1)


@pytest.mark.parametrize("make", [with_python, NETWORKS["layer"]])
def test_what_may_not_run_twice_keeps_one_loop(make):
    net = make()
    with net:
        nengo_dl.configure_settings(checkpoint=20)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        there = sim.tensor_graph.variant(True)
    assert there.segment_of(100) is None and len(there.links) == 1


def test_loops_have_gradients_of_the_weights_that_they_read():
    with nengo_dl.Simulator(populations(), progress_bar=False) as sim:
        graph = sim.tensor_graph
        for link in graph.variant(True).links:
            asked = graph.trained_weights(link)
            read = weights_read(link.layout.loop)
            assert any(asked) and len(read) < len(asked)
            found = link.scan(asked)._trained
            assert found == tuple(a and n in read for n, a in enumerate(asked))


@pytest.mark.parametrize("stateful", [False, True])
def test_state_is_kept_if_it_is_carried(stateful, allclose):
    net = populations()
    with nengo_dl.Simulator(net, minibatch_size=BATCH, progress_bar=False) as sim:
        links = sim.tensor_graph.variant(True).links
        before = [array for link in links for array in link.arrays()]
        data = 50 * np.random.RandomState(1).uniform(size=(BATCH, STEPS, 24))
        sim.compile(keras.optimizers.SGD(0.0), loss={net.p: "mse"})
        sim.fit(data, {net.p: np.ones((BATCH, STEPS, 2))}, stateful=stateful, verbose=0)
        after = [array for link in links for array in link.arrays()]
        assert [a.shape[1] for a in after] == [BATCH] * len(before)
        assert all(map(np.array_equal, before, after)) == (not stateful)
        if stateful:
            with nengo_dl.Simulator(net, minibatch_size=BATCH, progress_bar=False) as run:
                run.run_steps(STEPS, data={net.inp: data})
                expected = run.data[net.probes[1]][:, -1]
            assert any(
                a.shape[0] == 32 and allclose(a, expected.T, rtol=1e-9) for a in after
            )


@pytest.mark.skipif(available() is not None, reason="no machine code here")
def test_products_from_the_neurons_that_spiked(monkeypatch, allclose):
    called = []

    def noting(*args, plain=spiking_rows.gradient):
        called.append(args[0].shape)
        return plain(*args)

    def trained(**costs):
        for name, value in costs.items():
            monkeypatch.setattr(spiking_products, name, value)
        spiking_products._program.cache_clear()
        net = populations()
        with nengo_dl.Simulator(net, minibatch_size=BATCH) as sim:
            data = np.random.RandomState(1).uniform(size=(BATCH, STEPS, 24))
            y = np.ones((BATCH, STEPS, 2))
            sim.compile(keras.optimizers.SGD(0.1), loss={net.p: "mse"})
            history = sim.fit(data, {net.p: y}, epochs=2, verbose=0)
            return [history.history["loss"], *sim.keras_model.get_weights()]

    monkeypatch.setattr(spiking_rows, "gradient", noting)
    dense = trained()
    assert not called
    few = trained(LEAST_PRODUCT=1, MOST_SPIKES=1.0)
    spiking_products._program.cache_clear()
    assert {shape[0] for shape in called} == {BATCH * STEPS}
    for a, b in zip(few, dense, strict=True):
        assert allclose(a, b, atol=1e-12)
