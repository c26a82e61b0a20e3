"""The compiled loop: steps, stages around it, and what does not fit."""

import numpy as np
import pytest
import tensorflow as tf
from nengo.exceptions import ValidationError

from nengo_dl.runtime.tensorflow.loop import ForwardLoop
from tests.runtime.small_loop import BATCH, N_IN, arguments, reference, step


@pytest.mark.parametrize("jit", [True, False])
@pytest.mark.parametrize("unroll", [1, 3])
def test_loop_runs_exactly_n_steps(unroll, jit, rng, allclose):
    carry, weights = arguments(rng)
    inputs = rng.standard_normal((8, N_IN, BATCH))
    loop = ForwardLoop(step, 2, "float64", jit=jit, unroll=unroll)
    for n in (0, 1, 3, 5, 8):
        outputs, after = loop(n, inputs, carry, weights)
        expected, state = reference(inputs[:n], carry, weights)
        assert outputs.shape == (8, 2, BATCH)
        assert allclose(outputs[:n], expected, atol=1e-14)
        for a, b in zip(after, state, strict=True):
            assert allclose(a, b, atol=1e-14)
    assert loop.run.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("jit", [True, False])
def test_stages_run_for_all_steps_at_once(jit, rng, allclose):
    carry, weights = arguments(rng)
    inputs = rng.standard_normal((4, 5, BATCH))
    weights += [rng.standard_normal((N_IN, 5)), rng.standard_normal((3, 2))]

    def pre(xp, inputs, weights):
        return [xp.matmul(weights[2], inputs), inputs[:, :1]]

    def post(xp, tensors, ys, weights):
        return xp.matmul(weights[3], ys) * tensors[1]

    loop = ForwardLoop(step, 2, "float64", jit=jit, pre=pre, post=post)
    outputs, after = loop(3, inputs, carry, weights)
    ys, state = reference(weights[2] @ inputs[:3], carry, weights)
    assert outputs.shape == (4, 3, BATCH)
    assert allclose(outputs[:3], weights[3] @ ys * inputs[:3, :1], atol=1e-13)
    assert allclose(after[0], state[0], atol=1e-13)


def test_without_loop_or_inputs(rng):
    inputs = rng.standard_normal((4, 2, BATCH))
    stages = ForwardLoop(None, 0, "float64", jit=False, pre=lambda xp, x, w: [x * w[0]])
    outputs, carry = stages(4, inputs, [], [2.0])
    assert np.array_equal(outputs, 2 * inputs) and carry == []

    def count(xp, carry, x, weights):
        assert x is None
        return [carry[0] + 1], None

    loop = ForwardLoop(count, 0, jit=False)
    outputs, carry = loop(5, np.zeros((8, 0, 2)), [np.zeros((1, 2))], [])
    assert outputs.shape == (8, 0, 2)
    assert carry[0].numpy().tolist() == [[5, 5]]


def test_integers_are_carried(rng):
    def count(xp, carry, x, weights):
        return [carry[0] + 1], tf.cast(carry[0], xp.dtype)

    loop = ForwardLoop(count, 1, jit=False)
    start = tf.constant([[7]], tf.int32)
    outputs, carry = loop(2, np.zeros((2, 0, 1)), [start], [])
    assert outputs.numpy().ravel().tolist() == [7, 8]
    assert carry[0].dtype == tf.int32 and carry[0].numpy() == 9


@pytest.mark.parametrize(
    "bad, match",
    [
        (lambda xp, c, x, w: (c + c, x), "returned 2 carried arrays for 1"),
        (lambda xp, c, x, w: ([c[0][:1]], x), r"\(2, 1\) before the step and \(1, 1\)"),
        (
            lambda xp, c, x, w: (c, x[:1]),
            r"output has shape \(1, 1\); expected \(2, 1\)",
        ),
        (lambda xp, c, x, w: (c, None), r"output has shape \(0, 1\)"),
    ],
)
def test_steps_that_do_not_fit(bad, match):
    loop = ForwardLoop(bad, 2, jit=False)
    with pytest.raises(ValidationError, match=match):
        loop(1, np.zeros((1, 2, 1)), [np.zeros((2, 1))], [])


def test_arguments_are_checked():
    with pytest.raises(ValidationError, match="unroll"):
        ForwardLoop(step, 2, unroll=0)
    loop = ForwardLoop(step, 2, jit=False)
    with pytest.raises(ValidationError, match="9 steps asked for"):
        loop(9, np.zeros((8, 2, 1)), [], [])


def test_several_programs_do_not_warn_of_retracing(caplog):
    for _ in range(8):
        loop = ForwardLoop(lambda xp, c, x, w: (c, None), 0, jit=False)
        loop(1, np.zeros((1, 0, 1)), [np.zeros((1, 1))], [])
    assert "retracing" not in caplog.text
