"""Parameters updated in one operation, against Keras: the same numbers to the bit."""

import nengo
import numpy as np
import pytest

import nengo_dl

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")

from nengo_dl.runtime.native import adam  # noqa: E402
from nengo_dl.runtime.native.compile import available  # noqa: E402
from nengo_dl.runtime.tensorflow.spiking_products import allowed  # noqa: E402
from nengo_dl.training import updates  # noqa: E402

pytestmark = pytest.mark.skipif(available() is not None, reason="no machine code here")
Adam, AdamW = keras.optimizers.Adam, keras.optimizers.AdamW


@pytest.fixture
def called(monkeypatch):
    """All parameters are large enough; the sizes of those that are updated."""
    found = []

    def noting(p, *args, plain=adam.updated):
        found.append(p.size)
        return plain(p, *args)

    monkeypatch.setattr(adam, "updated", noting)
    monkeypatch.setattr(updates, "LEAST_UPDATED", 16)
    return found


def trained(make, allows, dtype="float32", sparse=False):
    """All variables after some steps of an optimizer."""
    rng = np.random.RandomState(0)
    shapes = [(20, 5), (16,), (3,)]
    variables = [keras.Variable(rng.normal(size=s), dtype=dtype) for s in shapes]
    optimizer = make()
    optimizer.build(variables)

    @tf.function(autograph=False)
    def step(*gradients):
        if sparse:
            few = tf.IndexedSlices(gradients[0][:3], tf.range(3), (20, 5))
            gradients = [few, *gradients[1:]]
        with updates.in_one_operation(optimizer):
            optimizer.apply(list(gradients), variables)

    with allowed(allows):
        for _ in range(7):
            step(*(tf.constant(rng.normal(size=s), dtype) for s in shapes))
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    assert "update_step" not in vars(inner)
    return [v.numpy() for v in [*variables, *optimizer.variables]]


class Changed(Adam):
    def update_step(self, gradient, variable, learning_rate):
        super().update_step(2 * gradient, variable, learning_rate)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "make",
    [
        Adam,
        lambda: Adam(0.1, 0.8, 0.99, 1e-3),
        lambda: Adam(keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)),
        lambda: Adam(weight_decay=0.1, clipnorm=0.5),
        lambda: Adam(global_clipnorm=0.5, use_ema=True, ema_overwrite_frequency=3),
        lambda: Adam(clipvalue=0.1, loss_scale_factor=4.0),
        lambda: Adam(gradient_accumulation_steps=3),
        lambda: AdamW(weight_decay=0.1),
        lambda: keras.optimizers.LossScaleOptimizer(Adam(0.1), initial_scale=8.0),
    ],
)
def test_numbers_are_those_of_keras(make, dtype, called):
    expected = trained(make, False, dtype)
    assert not called
    found = trained(make, True, dtype)
    assert set(called) == {100, 16}
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype and np.array_equal(one, other)


@pytest.mark.parametrize(
    "make, options",
    [
        (lambda: Adam(amsgrad=True), {}),
        (Changed, {}),
        (keras.optimizers.SGD, {}),
        (Adam, {"dtype": "bfloat16"}),
    ],
)
def test_what_is_left_to_keras(make, options, called):
    found, expected = (trained(make, allows, **options) for allows in (True, False))
    assert not called
    for one, other in zip(found, expected, strict=True):
        assert np.array_equal(one, other)


def test_gradients_of_some_rows_are_left_to_keras(called):
    found, expected = (trained(Adam, allows, sparse=True) for allows in (True, False))
    assert set(called) == {16}
    for one, other in zip(found, expected, strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_training_is_the_same(dtype, called, monkeypatch, rng):
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(dtype=dtype, spiking_training=True)
        inp = nengo.Node(np.zeros(8))
        ens = nengo.Ensemble(30, 8, neuron_type=nengo.LIF())
        nengo.Connection(inp, ens, synapse=None)
        probe = nengo.Probe(ens, synapse=0.01)
    x, y = rng.uniform(-1, 1, (2, 12, 6, 8))

    def results():
        with nengo_dl.Simulator(net, minibatch_size=4, progress_bar=False) as sim:
            sim.compile(Adam(0.01), loss={probe: "mse"})
            losses = sim.fit(x, {probe: y}, epochs=3, shuffle=False, verbose=0)
            again = sim.fit(x, {probe: y}, epochs=2, shuffle=False, verbose=0)
            lists = losses.history["loss"], again.history["loss"]
            return [*lists, *sim.keras_model.get_weights()]

    found = results()
    assert called
    monkeypatch.setattr(updates, "LEAST_UPDATED", 10**9)
    called.clear()
    for one, other in zip(found, results(), strict=True):
        assert np.array_equal(one, other)
    assert not called
