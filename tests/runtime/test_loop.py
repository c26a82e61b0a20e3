import threading

import numpy as np
import pytest
import tensorflow as tf
from nengo.exceptions import ValidationError

from nengo_dl.runtime.host import InputsInterrupted
from nengo_dl.runtime.loop import ForwardLoop, chunk_length, run_chunks

N_IN, BATCH = 2, 3


def step(xp, carry, x, weights):
    """Two carried arrays, one of which feeds the other."""
    fast, slow = carry
    fast = xp.tanh(xp.matmul(weights[0], fast) + xp.concat([x, x]))
    slow = slow * 0.9 + weights[1] * fast[:1]
    return [fast, slow], xp.concat([fast[1:2], slow])


def arguments(rng, dtype="float64"):
    carry = [rng.standard_normal((4, BATCH)), rng.standard_normal((1, BATCH))]
    weights = [rng.standard_normal((4, 4)) / 2, np.array([[0.1]])]
    return [[x.astype(dtype) for x in group] for group in (carry, weights)]


def reference(inputs, carry, weights):
    """The same in NumPy."""
    (fast, slow), outputs = carry, []
    for x in inputs:
        fast = np.tanh(weights[0] @ fast + np.concatenate([x, x]))
        slow = slow * 0.9 + weights[1] * fast[:1]
        outputs.append(np.concatenate([fast[1:2], slow]))
    return np.array(outputs).reshape(-1, 2, BATCH), [fast, slow]


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


# ---- chunks -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "n_steps, rows, batch, expected",
    [(1, 2, 1, 64), (64, 2, 1, 64), (65, 2, 1, 128), (512, 2, 1, 512)]
    + [(513, 2, 1, 1024), (10**6, 2, 1, 1024), (10**6, 0, 1, 1024)]
    + [(10**6, 800, 64, 16), (1000, 10**6, 8, 1), (10, 2**14, 1, 64)],
)
def test_chunk_length(n_steps, rows, batch, expected):
    chunk = chunk_length(n_steps, rows // 2, rows - rows // 2, batch, 4)
    assert chunk == expected
    assert chunk == 1 or chunk * rows * batch * 4 <= 2**22


def chunked(loop, n_steps, data, carry, weights, overlap=True, asked=None, fail=None):
    """What `run_chunks` yields, and the error that it ends with."""

    def inputs(start, k):
        if asked is not None:
            asked.append((start, k, threading.current_thread()))
        if fail is not None:
            fail(start, k)
        return data[start : start + k]

    outputs, error = [np.zeros((0, 2, BATCH))], None
    try:
        for ys, after in run_chunks(
            loop,
            n_steps,
            4,
            carry,
            weights,
            batch=BATCH,
            n_in=N_IN,
            inputs=inputs,
            overlap=overlap,
        ):
            outputs.append(ys)
            carry = after
    except Exception as raised:
        error = raised
    return np.concatenate(outputs), carry, error


@pytest.fixture(scope="module")
def plain_loop():
    return ForwardLoop(step, 2, "float64", jit=False)


@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize("n_steps", [0, 3, 4, 11, 12])
def test_chunks_equal_one_run(plain_loop, n_steps, overlap, rng, allclose):
    carry, weights = arguments(rng)
    data = rng.standard_normal((n_steps, N_IN, BATCH))
    asked = []
    ys, after, error = chunked(plain_loop, n_steps, data, carry, weights, overlap, asked)
    expected, state = reference(data, carry, weights)
    assert error is None
    assert allclose(ys, expected, atol=1e-13)
    assert allclose(after[0], state[0], atol=1e-13)
    # each step once, in order, in the caller's thread
    starts = list(range(0, n_steps, 4))
    assert [a[:2] for a in asked] == [(s, min(4, n_steps - s)) for s in starts]
    assert {a[2] for a in asked} <= {threading.current_thread()}


def test_chunks_compile_once(rng, allclose):
    carry, weights = arguments(rng)
    data = rng.standard_normal((10, N_IN, BATCH))
    loop = ForwardLoop(step, 2, "float64", jit=True)
    ys, _, _ = chunked(loop, 10, data, carry, weights)
    assert allclose(ys, reference(data, carry, weights)[0], atol=1e-13)
    assert loop.run.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize("done", [0, 2, 4, 6, 9])
def test_steps_before_a_failure_are_run(plain_loop, done, overlap, rng, allclose):
    carry, weights = arguments(rng)
    data = rng.standard_normal((12, N_IN, BATCH))
    cause = ZeroDivisionError("of the user")

    def fail(start, k):
        if start + k > done:
            raise InputsInterrupted(data[start:done], cause)

    ys, after, error = chunked(plain_loop, 12, data, carry, weights, overlap, fail=fail)
    assert error is cause
    expected, state = reference(data[:done], carry, weights)
    assert allclose(ys, expected, atol=1e-13)
    assert allclose(after[0], state[0], atol=1e-13)


@pytest.mark.parametrize("overlap", [True, False])
def test_other_errors_come_after_the_steps_before(plain_loop, overlap, rng, allclose):
    carry, weights = arguments(rng)
    data = rng.standard_normal((12, N_IN, BATCH))

    def fail(start, k):
        if start == 8:
            raise KeyError("third chunk")

    ys, _, error = chunked(plain_loop, 12, data, carry, weights, overlap, fail=fail)
    assert isinstance(error, KeyError)
    assert allclose(ys, reference(data[:8], carry, weights)[0], atol=1e-13)


def test_inputs_are_made_while_the_device_computes(rng):
    """The first chunk ends only when the second one's inputs have been asked for."""
    asked = threading.Event()
    waited = []

    def wait(arrays):
        waited.append(asked.wait(timeout=60))
        return [arrays[0]]

    def slow(xp, carry, x, weights):
        return carry, xp.host_call(wait, [x], [1])[0]

    def inputs(start, k):
        if start > 0:
            asked.set()
        return np.full((k, 1, 1), start)

    loop = ForwardLoop(slow, 1, jit=False)
    chunks = run_chunks(loop, 4, 2, [], [], n_in=1, inputs=inputs)
    outputs = [ys.ravel().tolist() for ys, _ in chunks]
    assert outputs == [[0, 0], [2, 2]]
    assert waited == [True] * 4


def test_outputs_come_before_later_inputs_without_overlap():
    order = []

    def inputs(start, k):
        order.append(f"inputs {start}")
        return np.zeros((k, 1, 1))

    loop = ForwardLoop(lambda xp, c, x, w: (c, x), 1, jit=False)
    for _ in run_chunks(loop, 4, 2, [], [], n_in=1, inputs=inputs, overlap=False):
        order.append("outputs")
    assert order == ["inputs 0", "outputs", "inputs 2", "outputs"]


def test_stopping_early_ends_the_worker():
    before = threading.active_count()
    loop = ForwardLoop(lambda xp, c, x, w: ([c[0] + 1], c[0]), 1, jit=False)
    chunks = run_chunks(loop, 100, 2, [np.zeros((1, 1))], [])
    ys, _ = next(chunks)
    chunks.close()
    assert ys.ravel().tolist() == [0, 1]
    assert threading.active_count() == before


def test_errors_of_host_functions_reach_the_caller():
    def fn(arrays):
        if arrays[0] >= 3:
            raise OverflowError("too much")
        return [arrays[0] + 1]

    def count(xp, carry, x, weights):
        carry = xp.host_call(fn, carry, [1])
        return carry, carry[0]

    loop = ForwardLoop(count, 1, jit=False)
    outputs = []
    with pytest.raises(OverflowError, match="too much"):
        for ys, _ in run_chunks(loop, 100, 2, [np.zeros((1, 1))], []):
            outputs.extend(ys.ravel().tolist())
    assert outputs == [1, 2]


def test_inputs_of_a_wrong_shape(plain_loop, rng):
    carry, weights = arguments(rng)
    data = rng.standard_normal((3, N_IN, BATCH))
    _, _, error = chunked(plain_loop, 4, data, carry, weights)
    assert isinstance(error, ValidationError)
    assert "(3, 2, 3)" in str(error) and "expected (4, 2, 3)" in str(error)


def test_inputs_may_reuse_their_memory(plain_loop, rng, allclose):
    carry, weights = arguments(rng)
    data = rng.standard_normal((12, N_IN, BATCH))
    buffer = np.zeros((4, N_IN, BATCH))

    def inputs(start, k):
        buffer[:] = data[start : start + k]
        return buffer

    chunks = run_chunks(
        plain_loop, 12, 4, carry, weights, batch=BATCH, n_in=N_IN, inputs=inputs
    )
    ys = np.concatenate([ys for ys, _ in chunks])
    assert allclose(ys, reference(data, carry, weights)[0], atol=1e-13)


@pytest.mark.parametrize("overlap", [True, False])
def test_device(plain_loop, overlap, rng, monkeypatch):
    carry, weights = arguments(rng)
    data = rng.standard_normal((8, N_IN, BATCH))
    scopes, caller = [], threading.current_thread()

    def device(name, original=tf.device):
        scopes.append((name, threading.current_thread() is caller))
        return original(name)

    monkeypatch.setattr(tf, "device", device)
    chunks = run_chunks(
        plain_loop,
        8,
        4,
        carry,
        weights,
        batch=BATCH,
        n_in=N_IN,
        inputs=lambda start, k: data[start : start + k],
        overlap=overlap,
        device="/cpu:0",
    )
    assert sum(len(ys) for ys, _ in chunks) == 8
    assert ("/cpu:0", not overlap) in scopes[1:]
