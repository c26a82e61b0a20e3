"""Arrays come in batches that are cut out of them, with the results of tf.data."""

import nengo
import numpy as np
import pytest

import nengo_dl

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")

from nengo_dl.runtime.native import reuse  # noqa: E402
from nengo_dl.training import feed as feeds  # noqa: E402
from nengo_dl.training.feed import Feed  # noqa: E402
from nengo_dl.training.model import NengoModel  # noqa: E402


def network(dtype="float32"):
    """What a batch gets depends on those before: weights are trained."""
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(dtype=dtype, jit=False)
        net.inp = nengo.Node([0.0, 0.0])
        ens = nengo.Ensemble(5, 2, neuron_type=nengo.RectifiedLinear())
        nengo.Connection(net.inp, ens, synapse=None)
        net.value = nengo.Probe(ens, synapse=0.01, label="value")
        net.classes = nengo.Probe(ens, label="classes")
    return net


@pytest.fixture
def pipeline(monkeypatch):
    """The other way, which there is for several replicas."""

    def choose():
        monkeypatch.setattr(NengoModel, "takes_batches", False)

    return choose


def test_a_feed_is_as_a_pipeline(rng, pipeline):
    """Incomplete batches, weights, whole numbers, validation; outside of ``with``."""
    x, y = rng.uniform(-1, 1, (2, 7, 3, 2))
    numbers = rng.randint(2, size=(7, 3, 1))
    weight = rng.uniform(0.5, 2, 7)

    def histories():
        net = network("float64")
        sim = nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False)
        from_logits = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        losses = {net.value: "mse", net.classes: from_logits}
        sim.compile(keras.optimizers.SGD(0.1), losses, metrics={net.value: "mae"})
        targets = {net.value: y, net.classes: numbers}
        options = {"verbose": 0, "epochs": 2, "sample_weight": weight}
        found = [
            sim.fit(x, targets, validation_split=0.3, **options).history,
            sim.fit(x, targets, shuffle=False, validation_split=0.3, **options).history,
            sim.evaluate(x, targets, verbose=0, batch_size=1, steps=3),
        ]
        sim.close()
        return found

    found = histories()
    pipeline()
    expected = histories()
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for name, value in other.items():
            assert np.allclose(one[name], value, rtol=1e-12, atol=0), name


def test_batches_are_cut_out_when_it_is_their_turn(rng):
    x, y = rng.uniform(-1, 1, (5, 2, 1)), np.arange(5)[:, None, None]
    order, asked = np.array([3, 0, 4, 1, 2]), []

    def numbers():
        asked.append(1)
        return order

    feed = Feed(({"x": x}, {"y": y}), 2, np.dtype("float32"), numbers)
    assert (feed.num_batches, feed.batch_size, feed.partial_batch_size) == (3, 2, 1)
    batches = iter(feed)
    assert not asked
    found = list(batches)
    assert len(asked) == 1
    for i, (data, targets) in enumerate(found):
        chosen = order[2 * i : 2 * i + 2]
        assert (data["x"].dtype, targets["y"].dtype) == (tf.float32, tf.int64)
        assert np.array_equal(data["x"], x[chosen].astype(np.float32))
        assert np.array_equal(targets["y"], y[chosen])
    assert next(batches, None) is None


@pytest.mark.parametrize("kind", ["float32", "float64", ">f4", "int32"])
@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("size", [16, 2**16])
def test_memory_of_batches_is_handed_over(rng, kind, ordered, size):
    raw = rng.randint(100, size=size + 1).astype(kind)
    x = raw[1:].reshape(4, -1, 2)[:, ::2]  # begins anywhere, and is not contiguous
    order = np.array([3, 0, 1, 2])
    feed = Feed(
        ({"x": x}, {"y": x}), 3, np.dtype("float32"), order.copy if ordered else None
    )
    given = x[order] if ordered else x
    for (data, targets), first in zip(feed, (0, 3), strict=True):
        chosen = given[first : first + 3].astype(np.float32)
        assert data["x"].dtype == tf.float32
        assert np.array_equal(data["x"], chosen)
        assert np.array_equal(targets["y"], chosen)
        assert tf.reduce_sum(data["x"]) == chosen.sum(dtype="float64")


@pytest.mark.parametrize("steps", [1, 2**16])
def test_changing_arrays_between_epochs_changes_no_batch_before(rng, steps):
    x = rng.uniform(-1, 1, (2, steps, 1)).astype(np.float32)
    ((data,),) = Feed(({"x": x},), 2, x.dtype)
    before = x.copy()
    x[...] = 0
    assert np.array_equal(data["x"], before)


@pytest.mark.parametrize("lacks", ["_call_flat", "inputs"])
def test_steps_are_called_where_tensorflow_lacks_a_short_way(lacks, rng, monkeypatch):
    x, y = rng.uniform(-1, 1, (2, 5, 3, 2))

    def losses():
        net = network("float64")
        with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
            sim.compile(keras.optimizers.SGD(0.1), {net.value: "mse"})
            return sim.fit(x, {net.value: y}, epochs=2, verbose=0).history["loss"]

    class Without:
        def __init__(self, program):
            self.program = program

        def __getattr__(self, name):
            if name == lacks:
                raise AttributeError(name)
            return getattr(self.program, name)

        def __call__(self, batch):
            called.append(batch)
            return self.program(batch)

    called, short = [], feeds._short
    expected = losses()
    monkeypatch.setattr(feeds, "_short", lambda p, spec: short(Without(p), spec))
    assert losses() == expected
    assert len(called) == 6


def test_calls_do_not_trace_again(rng):
    """Neither other epochs and calls nor incomplete batches."""
    traced = []

    def loss(y_true, y_pred):
        traced.append(y_pred.shape)
        return tf.reduce_mean(y_pred - y_true, -1)

    net = network()
    x = rng.uniform(-1, 1, (5, 2, 2))
    with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
        sim.compile(keras.optimizers.SGD(0.0), {net.value: loss})
        for count in (5, 4, 3, 1):
            sim.fit(x[:count], {net.value: x[:count]}, epochs=2, verbose=0)
        assert len(traced) == 1
        for count in (5, 4, 1):
            sim.evaluate(x[:count], {net.value: x[:count]}, verbose=0)
        assert len(traced) == 2


@pytest.mark.parametrize("options", [{"run_eagerly": True}, {"steps_per_execution": 2}])
def test_other_ways_of_keras_to_call_a_step(options, rng):
    net = network()
    x = rng.uniform(-1, 1, (4, 2, 2))
    with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
        output = sim.predict(x)[net.value]
        sim.compile(keras.optimizers.SGD(0.0), {net.value: "mse"}, **options)
        found = sim.fit(x, {net.value: x}, verbose=0).history["loss"]
    assert np.allclose(found, np.mean((output - x) ** 2), rtol=1e-5)


def test_memory_of_batches_is_used_again_when_nobody_has_it(rng):
    x = rng.normal(size=(8, 300, 200)).astype(np.float32)
    with reuse.keeping():
        held = [data["x"] for (data,) in Feed(({"x": x},), 2, x.dtype)]
        for k, batch in enumerate(held):  # none was written over
            assert np.array_equal(batch, x[2 * k : 2 * k + 2])
        kept = reuse._store.nbytes
        assert kept == x.nbytes
        del held, batch
        for _ in range(3):
            for (_,) in Feed(({"x": x},), 2, x.dtype):
                pass
        assert reuse._store.nbytes == kept
