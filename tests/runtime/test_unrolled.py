import numpy as np
import pytest
import tensorflow as tf
from nengo.exceptions import ValidationError

from nengo_dl.runtime.tensorflow.loop import ForwardLoop
from nengo_dl.runtime.tensorflow.scan import Scan, Unrolled


def step(xp, carry, x, weights):
    w, v = weights
    c = xp.tanh(xp.matmul(w, carry[0]) + x)
    return [c, carry[1] + c], xp.matmul(v, c * carry[1])


class Problem:
    steps = 5

    def __init__(self, rng):
        self.xs = tf.constant(rng.randn(self.steps, 3, 2))
        self.carry = [tf.constant(rng.randn(3, 2)) for _ in range(2)]
        self.weights = [tf.constant(rng.randn(3, 3)), tf.constant(rng.randn(4, 3))]
        self.target = tf.constant(rng.randn(self.steps, 4, 2))

    def values_and_gradients(self, run):
        sources = [self.xs, *self.carry, *self.weights]
        with tf.GradientTape() as tape:
            tape.watch(sources)
            ys, last = run(self.xs, self.carry, self.weights, training=True)
            loss = tf.reduce_sum((ys - self.target) ** 2) + tf.reduce_sum(last[1] ** 2)
        return [ys, *last, *tape.gradient(loss, sources)]


@pytest.mark.parametrize("jit", [True, False])
@pytest.mark.parametrize("truncate", [None, 2])
def test_equals_the_loop(jit, truncate, rng, allclose):
    problem = Problem(rng)
    unrolled = Unrolled(
        step, 4, "float64", n_steps=problem.steps, truncate=truncate, jit=jit
    )
    loop = Scan(step, 4, "float64", truncate=truncate, jit=False)
    found = problem.values_and_gradients(unrolled)
    expected = problem.values_and_gradients(loop)
    for a, b in zip(found, expected, strict=True):
        assert allclose(a, b, rtol=1e-9, atol=1e-9)


def test_another_number_of_steps(rng):
    problem = Problem(rng)
    unrolled = Unrolled(step, 4, "float64", n_steps=4, jit=False)
    with pytest.raises(ValidationError, match="got 5 steps; expected 4"):
        unrolled(problem.xs, problem.carry, problem.weights)


def test_there_is_no_loop(rng):
    problem = Problem(rng)
    unrolled = Unrolled(step, 4, "float64", n_steps=problem.steps, jit=False)
    graph = unrolled.run.get_concrete_function(
        problem.xs, problem.carry, problem.weights
    ).graph
    kinds = {op.type for op in graph.get_operations()}
    assert "Tanh" in kinds and not any("While" in kind for kind in kinds)


@pytest.mark.parametrize("n", [0, 1, 3, 5])
def test_forward_loop_unrolled_runs_exactly_n(n, rng, allclose):
    problem = Problem(rng)
    arguments = (problem.xs, problem.carry, problem.weights)
    plain = ForwardLoop(step, 4, "float64", jit=False)
    unrolled = ForwardLoop(step, 4, "float64", jit=True, unrolled=True)
    expected, after = plain(n, *arguments)
    found, carry = unrolled(n, *arguments)
    assert allclose(found[:n], expected[:n], atol=1e-12)
    for a, b in zip(carry, after, strict=True):
        assert np.all(np.isfinite(a)) and allclose(a, b, atol=1e-12)
