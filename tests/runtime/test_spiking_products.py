"""Products in training that look at the neurons that spiked, against dense ones."""

import numpy as np
import pytest
import tensorflow as tf

from nengo_dl.runtime.native import spiking_rows
from nengo_dl.runtime.native.compile import available
from nengo_dl.runtime.tensorflow import spiking_products

ROWS, K, N = 48, 24, 20


@pytest.fixture
def small(monkeypatch):
    """Products of any size are worth it, and what is called is noted."""
    monkeypatch.setattr(spiking_products, "LEAST_PRODUCT", 1)
    called = []
    for name in ("product", "gradient"):
        plain = getattr(spiking_rows, name)

        def noting(*args, plain=plain, name=name):
            called.append(name)
            return plain(*args)

        monkeypatch.setattr(spiking_rows, name, noting)
    spiking_products._program.cache_clear()
    yield called
    spiking_products._program.cache_clear()


def with_gradients(product, x, a):
    """A product and its gradients, as part of a program."""

    @tf.function(autograph=False)
    def program(x, a):
        with tf.GradientTape() as tape:
            tape.watch([x, a])
            y = product(x, a)
            loss = tf.reduce_sum(tf.sin(y))
        return y, *tape.gradient(loss, [x, a])

    return [v.numpy() for v in program(tf.constant(x), tf.constant(a))]


def spikes(rng, share):
    x = (rng.uniform(size=(ROWS, K)) < share) * rng.uniform(1, 2, size=(ROWS, K))
    return x, rng.normal(size=(N, K))


@pytest.mark.skipif(available() is not None, reason="no machine code here")
@pytest.mark.parametrize("share, used", [(0.05, ["product", "gradient"]), (0.5, [])])
def test_few_spikes_are_looked_at_one_by_one(share, used, small, rng, allclose):
    arrays = spikes(rng, share)
    with spiking_products.allowed():
        found = with_gradients(spiking_products.times, *arrays)
    assert small == used
    expected = with_gradients(spiking_products.dense, *arrays)
    assert all(allclose(a, b, atol=1e-12) for a, b in zip(found, expected, strict=True))


def test_only_where_it_is_allowed(small, rng):
    arrays = spikes(rng, 0.05)
    found = with_gradients(spiking_products.times, *arrays)
    with spiking_products.allowed(False):
        again = with_gradients(spiking_products.times, *arrays)
    expected = with_gradients(spiking_products.dense, *arrays)
    assert small == []
    for a, b, c in zip(found, again, expected, strict=True):
        assert np.array_equal(a, c) and np.array_equal(b, c)


def test_small_products_stay_dense(small, monkeypatch, rng):
    monkeypatch.setattr(spiking_products, "LEAST_PRODUCT", ROWS * K * N + 1)
    with spiking_products.allowed():
        with_gradients(spiking_products.times, *spikes(rng, 0.05))
    assert small == []
