"""Runs of any number of steps: the compiled loop, chunk by chunk.

A chunk is a fixed number of steps, the size of the buffers for inputs and outputs; how
many of them are run is an argument of the program. So a run of any length compiles
once, and the memory on the device does not grow with the length of the run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial

import numpy as np
import tensorflow as tf
from nengo.exceptions import ValidationError

from nengo_dl.runtime.host import InputsInterrupted
from nengo_dl.runtime.tensorflow.costs import CHUNK_BYTES, LONGEST_CHUNK, SHORTEST_CHUNK
from nengo_dl.runtime.tensorflow.loop import ForwardLoop


def chunk_length(
    n_steps: int,
    n_in: int,
    n_out: int,
    batch: int,
    itemsize: int,
    limit_bytes: int = CHUNK_BYTES,
) -> int:
    """Number of steps in a chunk: a power of two.

    The first from 64 to 1024 that holds the run, or the last. Each size is a program of
    its own, compiled when it is first used. All rows of the buffers are filled and, in
    the stages around the loop, computed on, so they should not be much longer than the
    run. At 1024 steps the cost of a call is 0.2 to 0.3 us a step.

    If the buffers of that many steps were larger than ``limit_bytes``, it is the
    largest power of two with which they are not, but at least 1: steps with so many
    inputs are long themselves.

    Parameters
    ----------
    n_steps : int
        Steps of the whole run.
    n_in, n_out : int
        Rows of inputs and outputs of one step.
    batch : int
        Batch size.
    itemsize : int
        Bytes of one number.
    limit_bytes : int, optional
        Bytes of both buffers, 4 MiB by default.

    Examples
    --------
    >>> chunk_length(100, n_in=1, n_out=1, batch=1, itemsize=4)
    128
    >>> chunk_length(1000, n_in=784, n_out=10, batch=64, itemsize=4)
    16
    """
    chunk = SHORTEST_CHUNK
    while chunk < min(n_steps, LONGEST_CHUNK):
        chunk *= 2
    bytes_per_step = (n_in + n_out) * batch * itemsize
    while chunk > 1 and chunk * bytes_per_step > limit_bytes:
        chunk //= 2
    return chunk


def run_chunks(
    loop: ForwardLoop,
    n_steps: int,
    chunk: int,
    carry: Sequence,
    weights: Sequence,
    *,
    batch: int = 1,
    n_in: int = 0,
    inputs: Callable[[int, int], np.ndarray] | None = None,
    overlap: bool = True,
    device: str | None = None,
) -> Iterator[tuple[np.ndarray, list[tf.Tensor]]]:
    """Run any number of steps, and hand the outputs over as they come.

    While the device computes one chunk, in a thread of its own, the inputs of the next
    one are made here, in the thread of the caller, where Python functions of the user
    and interrupts belong. They are asked for in order, each step once.

    Parameters
    ----------
    loop : ForwardLoop
        The program.
    n_steps : int
        How many steps.
    chunk : int
        Steps of a chunk, see `chunk_length`.
    carry, weights : list of array
        State before the first step, and parameters.
    batch : int, optional
        Batch size ``B``.
    n_in : int, optional
        Rows of the inputs.
    inputs : callable, optional
        ``inputs(start, k)`` returns the inputs of the steps from number ``start`` (from
        0 on) to ``start + k - 1``, ``(k, n_in, B)``; they are copied. Not needed if
        ``n_in`` is 0.
    overlap : bool, optional
        If False, inputs are only made when all steps before have been run and their
        outputs handed over.
    device : str, optional
        Where to compute, as for `tf.device`. A device scope of the caller would not
        reach the other thread.

    Yields
    ------
    outputs : (k, n_out, B) ndarray
        Outputs of the next ``k <= chunk`` steps.
    carry : list of tensor
        State after them.

    Raises
    ------
    Exception
        What ``inputs`` raises, after the outputs of all steps before have been yielded.
        If it raises `.host.InputsInterrupted`, the steps that it holds inputs for count
        as such, and its cause is raised. What the program raises comes at once. If the
        caller stops early, the chunk under way is finished and dropped.
    """
    scope = partial(tf.device, device) if device is not None else nullcontext
    overlap = overlap and inputs is not None and n_steps > chunk
    # kernels must not be traced in another thread, where Keras' settings are not known
    # and a device scope of the caller is not for others who share the program
    with tf.device(device):
        carry, weights = loop.tensors(carry), loop.tensors(weights)
        run = loop.traced(chunk, n_in, batch, carry, weights)

    def compute(x: np.ndarray, carry: list) -> tuple[np.ndarray, list]:
        k = len(x)
        if k < chunk:
            x = np.concatenate([x, np.zeros((chunk - k, *x.shape[1:]), x.dtype)])
        with scope(), loop.xp.reraise_host_errors():
            ys, carry = run(tf.constant(k, tf.int32), tf.constant(x), carry, weights)
            return ys.numpy()[:k], list(carry)

    chunks = _input_chunks(loop, n_steps, chunk, batch, n_in, inputs)
    if not overlap:
        for x in chunks:
            ys, carry = compute(x, carry)
            yield ys, carry
        return
    with ThreadPoolExecutor(1) as worker:
        yield from _pipeline(worker, compute, chunks, carry)


def _pipeline(
    worker: ThreadPoolExecutor, compute: Callable, chunks: Iterator, carry: list
) -> Iterator[tuple[np.ndarray, list[tf.Tensor]]]:
    """One chunk in the worker, the next one's inputs from ``chunks`` meanwhile."""
    running: Future | None = None
    error: BaseException | None = None
    while error is None:
        try:
            x = next(chunks, None)
        except BaseException as raised:
            x, error = None, raised
        done = None
        if running is not None:
            done = running.result()
            carry, running = done[1], None
        if x is not None:
            running = worker.submit(compute, x, carry)
        if done is not None:
            yield done
        if x is None:
            break
    if error is not None:
        raise error


def _input_chunks(
    loop: ForwardLoop,
    n_steps: int,
    chunk: int,
    batch: int,
    n_in: int,
    inputs: Callable | None,
) -> Iterator[np.ndarray]:
    """Inputs of one chunk after the other, until ``inputs`` fails."""
    dtype = loop.xp.dtype
    for start in range(0, n_steps, chunk):
        k = min(chunk, n_steps - start)
        interrupt = None
        if inputs is None:
            x = np.zeros((k, 0, batch), dtype)
        else:
            try:
                x = inputs(start, k)
            except InputsInterrupted as raised:
                x, interrupt = raised.partial, raised
            x = np.array(x, dtype, order="C")
        expected = (k if interrupt is None else len(x), n_in, batch)
        if x.shape != expected:
            raise ValidationError(
                f"inputs for {k} steps from step {start} on have shape {x.shape}; "
                f"expected {expected}, which is (steps, size, batch)",
                attr="inputs",
                obj=loop,
            )
        if len(x):
            yield x
        if interrupt is not None:
            raise interrupt.cause
