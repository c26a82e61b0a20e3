"""Runs of any length, chunk by chunk: inputs, outputs and errors in their order."""

import threading

import numpy as np
import pytest
import tensorflow as tf
from nengo.exceptions import ValidationError

from nengo_dl.runtime.host import InputsInterrupted
from nengo_dl.runtime.tensorflow.executor import chunk_length, run_chunks
from nengo_dl.runtime.tensorflow.loop import ForwardLoop
from tests.runtime.small_loop import BATCH, N_IN, arguments, reference, step


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
