"""What a loop keeps has the values of what it would compute again."""

import numpy as np
import pytest
import tensorflow as tf

from nengo_dl.runtime.tensorflow import namespace
from nengo_dl.runtime.tensorflow.loop import ForwardLoop
from nengo_dl.runtime.tensorflow.namespace import TensorFlowNamespace, measure


def keeping(xp, carry, x, weights):
    """A step that keeps two arrays of different sizes."""
    (state,) = carry
    state = xp.materialize(0.9 * state + x)
    pair = xp.materialize(xp.sum(state, 0)[None] * xp.tanh(state[:2]))
    return [state - 0.1 * xp.concat([pair, pair[:1]])], pair


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("unroll, steps", [(1, 7), (3, 7), (3, 6), (4, 3)])
def test_loop_that_keeps_equals_one_that_does_not(rng, allclose, dtype, unroll, steps):
    x = rng.randn(8, 3, 2).astype(dtype)
    start = [rng.randn(3, 2).astype(dtype)]
    results = []
    for jit in (True, False):
        loop = ForwardLoop(keeping, n_y=2, dtype=dtype, jit=jit, unroll=unroll)
        ys, carry = loop(steps, x, start, [])
        results.append((ys.numpy()[:steps], carry[0].numpy()))
        assert loop.xp.scratch is None
    rtol = 1e-6 if dtype == "float32" else 1e-14
    for kept, again in zip(*results, strict=True):
        assert np.ptp(again) > 0.1
        assert allclose(kept, again, rtol=rtol, atol=rtol)


def test_measure_tells_the_shapes_and_leaves_no_trace():
    xp = TensorFlowNamespace("float32")
    carry = [tf.ones((3, 2))]

    def step(carry, x):
        return keeping(xp, carry, x[0], [])

    assert measure(xp, step, (carry, carry)).shapes == [(3, 2), (2, 2)]
    assert xp.scratch is None


def test_measure_of_a_step_that_reads_variables_and_tensors_from_outside():
    xp = TensorFlowNamespace("float32")
    variable, tensor = tf.Variable([[2.0]]), tf.constant([[3.0]])

    def step(carry):
        xp.materialize(carry[0] * variable)
        return [xp.materialize(carry[0][:2] + tensor)]

    assert measure(xp, step, ([tf.ones((3, 2))],)).shapes == [(3, 2), (2, 2)]
    assert xp.scratch is None


def test_failing_step_leaves_no_scratch_behind():
    xp = TensorFlowNamespace("float32")

    def step(carry):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        measure(xp, step, ([],))
    assert xp.scratch is None


def count_traces(step):
    """The step, and how it was called: "run" or "traced"."""
    calls = []

    def counted(*args):
        calls.append("run" if tf.executing_eagerly() else "traced")
        return step(*args)

    return counted, calls


def test_small_steps_are_run_and_not_traced_to_be_measured():
    xp = TensorFlowNamespace("float32")
    step, calls = count_traces(lambda carry, x: keeping(xp, carry, x[0], []))

    @tf.function(autograph=False)
    def program(carry):
        shapes.append(measure(xp, step, ([carry], [carry])).shapes)

    shapes: list = []
    program.get_concrete_function(tf.TensorSpec((3, 2), tf.float32))
    assert shapes == [[(3, 2), (2, 2)]]
    assert calls == ["run"]


def test_large_steps_and_those_of_unknown_shapes_are_traced(monkeypatch):
    xp = TensorFlowNamespace("float32")
    step, calls = count_traces(lambda carry: [xp.materialize(carry[0])])
    unknown = tf.TensorSpec((3, None), tf.float32)
    with pytest.raises(Exception, match="None"):
        measure(xp, step, ([unknown],))
    monkeypatch.setattr(namespace, "MOST_RUN", 5)
    assert measure(xp, step, ([tf.ones((3, 2))],)).shapes == [(3, 2)]
    assert calls == ["traced"]


def test_functions_of_tensors_are_not_called_to_be_measured():
    xp = TensorFlowNamespace("float32")

    class Function:
        sizes = (2, 4)

        def in_program(self, xp, inputs, weights, training):
            raise AssertionError

    def call(carry):
        kept = [xp.materialize(2 * carry[0])]
        first, second = xp.tensor_call(Function(), kept, [], False)
        return [xp.materialize(first), xp.materialize(second)]

    step, calls = count_traces(call)
    found = measure(xp, step, ([tf.ones((3, 5))],))
    assert found.shapes == [(3, 5), (2, 5), (4, 5)]
    assert calls == ["run"]


def test_functions_of_tensors_without_input_are_traced_to_be_measured():
    xp = TensorFlowNamespace("float32")

    class Function:
        sizes = (2,)

        def in_program(self, xp, inputs, weights, training):
            return [xp.zeros((2, 5))]

    step, calls = count_traces(
        lambda: [xp.materialize(y) for y in xp.tensor_call(Function(), [], [], False)]
    )
    assert measure(xp, step, ()).shapes == [(2, 5)]
    assert calls == ["run", "traced"]
