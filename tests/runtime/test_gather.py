"""The transpose of taking rows."""

import numpy as np
import pytest
import tensorflow as tf

from nengo_dl.runtime.tensorflow.gather import buckets, gather

INDICES = {
    "permutation": [3, 0, 2, 1],
    "one row often": [0] * 20 + [3],
    "powers": [5] * 9 + [1] * 4 + [2] * 3 + [0, 3, 3],
    "one row": [2],
}


@pytest.mark.parametrize("name", INDICES)
def test_buckets(name):
    idx, n = np.array(INDICES[name]), 7
    tables, place = buckets(idx, n)
    assert sum(table.size for table in tables) < 2 * idx.size
    columns = [column for table in tables for column in table.T.tolist()]
    for row in range(n):
        positions = np.flatnonzero(idx == row).tolist()
        if positions:
            found = columns[place[row]]
            assert [p for p in found if p < idx.size] == positions
        else:
            assert place[row] == len(columns)


@pytest.mark.parametrize("jit", (False, True))
@pytest.mark.parametrize("name", INDICES)
def test_gradient(name, jit, rng, allclose):
    idx = np.array(INDICES[name])
    dy = rng.normal(size=(idx.size, 2))

    @tf.function(jit_compile=jit, autograph=False)
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = gather(x, idx, fast=True)
        return y, tape.gradient(y, x, output_gradients=tf.constant(dy))

    x = rng.normal(size=(7, 2))
    y, dx = gradient(tf.constant(x))
    assert np.array_equal(y, x[idx])
    expected = np.zeros((7, 2))
    np.add.at(expected, idx, dy)
    assert allclose(dx.numpy(), expected, atol=1e-14)


def test_no_scatter_in_gradients(rng):
    """In the programs that XLA compiles, a scatter is a serial loop on the CPU."""
    idx = np.array(INDICES["powers"])

    @tf.function(autograph=False)
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.reduce_sum(gather(x, idx, fast=True) ** 2)
        return tape.gradient(y, x)

    graph = gradient.get_concrete_function(tf.zeros((7, 2))).graph
    kinds = {operation.type for operation in graph.get_operations()}
    assert not any("Scatter" in kind or "Segment" in kind for kind in kinds)
    assert "GatherV2" in kinds
