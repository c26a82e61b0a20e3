"""What looks at all items of a batch together sees those that were given, no others."""

import nengo
import numpy as np
import pytest

import nengo_dl

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")

ITEMS, STEPS, SIZE = 13, 3, 2


def norm():
    return keras.layers.BatchNormalization(momentum=0.5)


class Centred(keras.layers.Layer):
    """A layer of one's own: what differs from the mean of the batch, in any phase."""

    def call(self, x):
        """Also adds a loss that is a mean over the batch."""
        self.add_loss(keras.ops.mean(keras.ops.max(x, axis=0)))
        return x - keras.ops.mean(x, axis=0)


def centred(x):
    """The same as a function."""
    return x - tf.reduce_mean(x, 0)


def network(functions, where):
    """Functions before, in or after a loop over time, or without one."""
    with nengo.Network(seed=0) as net:
        net.inp = nengo.Node(np.zeros(SIZE))
        x = net.inp
        if where == "after":
            x = nengo.Node(size_in=SIZE)
            nengo.Connection(net.inp, x, synapse=0.003)
        for name, function in functions.items():
            node = nengo_dl.TensorNode(function, shape_in=(SIZE,), pass_time=False)
            nengo.Connection(x, node, synapse=None)
            if where == "in":
                nengo.Connection(node, node, synapse=0.005, transform=0.5)
            synapse = 0.004 if where == "before" else None
            nengo.Probe(node, synapse=synapse, label=name)
    return net


MAKE = {"norm": norm, "Centred": Centred, "centred": lambda: centred}


def losses_of(sim, kinds, x, y, parts):
    """Losses of a training on batches, part by part of the items."""
    names = [f"{kind}_{value}" for kind in kinds for value in ("loss", "mae")]
    losses = []
    for part in parts:
        targets = dict.fromkeys(kinds, y[part])
        history = sim.fit(x[part], targets, shuffle=False, verbose=0).history
        losses.append({name: history[name][0] for name in ("loss", *names)})
    return losses


def trained(kinds, where, places, x, y):
    """Losses and statistics of a training, and what is given afterwards."""
    layers = {kind: MAKE[kind]() for kind in kinds}
    net = network(layers, where)
    with nengo_dl.Simulator(net, minibatch_size=places, progress_bar=False) as sim:
        sim.compile(keras.optimizers.SGD(0.0), "mse", metrics=["mae"])
        losses = losses_of(sim, kinds, x, y, WHOLE)
        statistics = {
            kind: [v.numpy() for v in getattr(layer, "variables", ())]
            for kind, layer in layers.items()
        }
        predicted = sim.predict(x)
    return losses, statistics, {p.label: predicted[p] for p in net.probes}


WHOLE = [slice(None)]


def data(rng):
    """Inputs of items that differ, and targets."""
    x = rng.uniform(-1, 1, (ITEMS, STEPS, SIZE)) + np.arange(ITEMS)[:, None, None]
    return x, rng.uniform(-1, 1, (ITEMS, STEPS, SIZE))


@pytest.fixture(scope="module", params=("alone", "before", "in", "after"))
def trainings(request):
    """All functions in one network, with as many places as items and with more."""
    x, y = data(np.random.RandomState(0))
    return [trained(MAKE, request.param, n, x, y) for n in (ITEMS, 16)]


@pytest.mark.parametrize("kind", MAKE)
def test_an_incomplete_batch_is_as_one_of_its_size(kind, trainings, allclose):
    expected, found = trainings
    for a, b in zip(expected[1][kind], found[1][kind], strict=True):
        assert allclose(a, b, rtol=1e-5, atol=1e-6)
    for name in (
        "loss",
        f"{kind}_loss",
        f"{kind}_mae",
    ):  # penalties too
        assert allclose(found[0][0][name], expected[0][0][name], rtol=1e-5)
    assert allclose(found[2][kind], expected[2][kind], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("where", ("before", "in"))
def test_the_last_batch_of_several(where, rng, allclose):
    x, y = data(rng)
    layer, found, statistics = norm(), [], []
    with nengo_dl.Simulator(
        network({"norm": layer}, where), minibatch_size=8, progress_bar=False
    ) as sim:
        sim.compile(keras.optimizers.SGD(0.0), "mse", metrics=["mae"])
        initial = layer.get_weights()
        for parts in ([slice(0, 8), slice(8, None)], WHOLE):
            layer.set_weights(initial)
            found.append(losses_of(sim, ["norm"], x, y, parts))
            statistics.append(layer.get_weights())
    apart, at_once = found
    for name in ("loss", "norm_mae"):
        mean = (8 * apart[0][name] + 5 * apart[1][name]) / ITEMS
        assert allclose(at_once[0][name], mean, rtol=1e-5)
    assert not np.array_equal(statistics[0][-1], initial[-1])
    for a, b in zip(*statistics, strict=True):
        assert allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize("places", (16, 8))
def test_statistics_are_those_of_keras(places, rng, allclose):
    x, _ = data(rng)
    layer, reference = norm(), norm()
    net = network({"norm": layer}, "before")
    model = keras.Sequential([keras.Input((STEPS, SIZE)), reference])
    options = {"shuffle": False, "verbose": 0, "epochs": 2}
    model.compile(keras.optimizers.SGD(0.0), "mse")
    model.fit(x, 0 * x, batch_size=places, **options)
    with nengo_dl.Simulator(net, minibatch_size=places, progress_bar=False) as sim:
        sim.compile(keras.optimizers.SGD(0.0), "mse")
        sim.fit(x, 0 * x, **options)
    for a, b in zip(layer.variables, reference.variables, strict=True):
        assert allclose(a.numpy(), b.numpy(), rtol=1e-5)


@pytest.mark.parametrize("jit", (False, "auto"))
def test_gradients_in_a_loop_are_those_of_the_items_alone(jit, rng, allclose):
    x = rng.uniform(-1, 1, (5, STEPS, SIZE))
    y = rng.uniform(-1, 1, (5, STEPS, SIZE))
    found = []
    for places, streamed in ((5, False), (8, False), (8, True)):
        layer = norm()
        net = network({"norm": layer}, "in")
        with net:
            nengo_dl.configure_settings(jit=jit)
        with nengo_dl.Simulator(net, minibatch_size=places, progress_bar=False) as sim:
            sim.compile(keras.optimizers.SGD(0.1), "mse")
            given = (x, y)
            if streamed:
                given = (tf.data.Dataset.from_tensor_slices(given).batch(5),)
            sim.fit(*given, shuffle=False, verbose=0)
        found.append([v.numpy() for v in layer.variables])
    for other in found[1:]:
        assert all(
            allclose(a, b, atol=1e-5) for a, b in zip(found[0], other, strict=True)
        )
