"""The executors that run a compiled loop, chunk by chunk or from sample to sample.

A chunk is a fixed number of steps, the size of the buffers for inputs and outputs; how
many of them are run is an argument of the program. So a run of any length compiles
once, and the memory on the device does not grow with the length of the run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf
from nengo.exceptions import ValidationError

from nengo_dl.compiler.layout import Layout
from nengo_dl.compiler.slots import columns_of
from nengo_dl.runtime.emit import SequenceStages, loop_step
from nengo_dl.runtime.executor import Look, Sampling, Seen, Task
from nengo_dl.runtime.host import InputsInterrupted, Waiting
from nengo_dl.runtime.numpy.namespace import NumpyNamespace
from nengo_dl.runtime.tensorflow.batch_first import (
    TensorStages,
    batch_first_is_faster,
    on_accelerator,
    turn_step,
)
from nengo_dl.runtime.tensorflow.costs import (
    CHUNK_BYTES,
    LONGEST_CHUNK,
    SHORTEST_CHUNK,
    STEPS,
)
from nengo_dl.runtime.tensorflow.loop import (
    ForwardLoop,
    Kept,
    key_of,
    programs,
    without_numbers,
)
from nengo_dl.runtime.tensorflow.switches import tensor_float_32

# chunks -------------------------------------------------------------------------------


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
    tf32: bool = False,
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
    tf32 : bool
        See `.switches.tensor_float_32`.

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
        rounded = tensor_float_32.being(tf32)
        with scope(), rounded, loop.xp.reraise_host_errors():
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


# the loop, chunk by chunk -------------------------------------------------------------


class CompiledLoop:
    """The program of the loop over time, and what it carries from chunk to chunk.

    Parameters
    ----------
    task : Task
        With all probes read in each step.
    jit : bool
        Whether XLA compiles it.
    whole : bool
        Whether the stages before and after the loop are a part of the program. If not,
        whoever holds it runs them in NumPy.

    Attributes
    ----------
    stages : SequenceStages
        What is computed for all steps of a chunk at once.
    turned : bool
        Whether arrays in the loop lie batch first.
    arrays, weights : list of ndarray, list of tensor
        The parameters.
    carry : list of tensor
        The state.
    """

    #: steps that a chunk has at most, if that is to be few
    longest: int | None = None

    def __init__(self, task: Task, jit: bool, whole: bool) -> None:
        self.layout, self.store, self.whole = task.layout, task.store, whole
        self.device, self.tf32 = task.device, task.tensor_float_32
        self.unrolled = None if task.use_loop else task.unroll
        self.every = Look(task.layout, frozenset(), frozenset()).every
        self.kept = None
        if any(group.kernel.tensorflow for group in self.layout.loop.groups):
            self.kept = Kept(self.layout, self.store.dtype)
        options = {"jit": jit, "unroll": task.unroll, "unrolled": not task.use_loop}
        key = key_of(self.layout)
        if key is not None:
            store = self.store
            key = (whole, key, store.batch, store.dtype, self.device, *options.values())
        turned = self._orientation(key, options, task.weights)
        self.stages = self._stages(self.layout, turned)
        self.turned = self.stages.loop_turned
        self.loop = self._program(key, options, self.turned)
        self.write(task.weights)
        self.carry: Any = None
        #: a step whose outputs are being handed over, and what is carried after it
        self._following: tuple = (None, None)
        self._chunks: set[int] = set()

    def _stages(self, layout: Layout, turned: bool | None) -> SequenceStages:
        batch = self.store.batch
        if self.whole:
            return TensorStages(layout, batch, turned)
        return SequenceStages(layout, batch)

    def _orientation(self, key, options: dict, weights: Sequence) -> bool | None:
        """Whether the loop's arrays lie batch first; None leaves it to the rule.

        Where stages are NumPy's, arrays in the loop lie as these make them.
        """
        layout, batch, dtype = self.layout, self.store.batch, self.store.dtype
        loops = layout.has_loop and self.unrolled is None and options["jit"]
        loops = loops and self.whole
        if key is None or batch == 1 or not loops or not on_accelerator(self.device):
            return None

        def run_for(turned: bool):
            loop = self._program(key, options, turned)
            inputs = np.zeros((STEPS, layout.n_inputs, batch), dtype)
            columns = columns_of(layout.states, len(layout.carry), batch)
            sizes = zip((values.size for values in layout.carry), columns, strict=True)
            carry = [np.zeros(size, dtype) for size in sizes]
            carry = [c.T for c in carry] if turned else carry
            with self.scope():
                arguments = [loop.tensors(x) for x in ([inputs], carry, weights)]

            def run():
                with self.scope():
                    outputs, _ = loop(STEPS, arguments[0][0], *arguments[1:])
                    return outputs.numpy()  # waits until they are there

            return run

        return batch_first_is_faster(key, run_for)

    def _program(self, key, options: dict, turned: bool):
        """The loop and its stages, with a ``key`` that of all such networks."""
        if key is None:
            return self._new_program(False, options, turned)
        make = partial(self._new_program, True, options, turned)
        return programs.get((key, turned), make)

    def _new_program(self, shared: bool, options: dict, turned: bool):
        """A new program, which other networks may use as well if it is ``shared``."""
        layout, batch = self.layout, self.store.batch
        layout = without_numbers(layout) if shared else layout
        stages = self._stages(layout, turned)
        step = loop_step(layout, batch) if layout.has_loop else None
        if turned:
            step = turn_step(step)
        if self.kept:
            step = self.kept.wrap(step)
        return ForwardLoop(
            step,
            layout.loop.result.size,
            self.store.dtype,
            turned=turned,
            pre=stages.before if self.whole and stages.needs_before else None,
            post=stages.after if self.whole and stages.needs_after else None,
            **options,
        )

    def load(self) -> None:
        """See `~nengo_dl.runtime.executor.Executor.load`."""
        carry = self.store.load(self.layout.states, self.layout.carry)
        if self.turned:
            carry = [c.T for c in carry]
        with self.scope():
            self.carry = self.loop.tensors(carry)
        self._following = (None, None)

    def save(self) -> None:
        """See `~nengo_dl.runtime.executor.Executor.save`."""
        carry = [np.asarray(c).T if self.turned else np.asarray(c) for c in self.carry]
        self.store.save(self.layout.states, carry)

    def write(self, weights: Sequence) -> None:
        """See `~nengo_dl.runtime.executor.Executor.write`."""
        self.arrays = list(weights)
        with self.scope():
            self.weights = self.loop.tensors(weights)

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Where, and how precisely, TensorFlow computes what is called inside."""
        device = nullcontext() if self.device is None else tf.device(self.device)
        with device, tensor_float_32.being(self.tf32):
            yield

    def begin(self, n_steps: int) -> int:
        """Steps of a chunk for a run of this length, for which it is compiled now."""
        chunk = self.chunk(n_steps)
        self._chunks.add(chunk)
        return chunk

    def chunk(self, n_steps: int) -> int:
        """Steps of a chunk for a run of this length: a power of two, if there is a loop.

        One that was compiled before is taken if it is not much too long.
        """
        if self.longest is not None:
            return self.longest
        if self.unrolled and self.layout.has_loop:
            return self.unrolled
        chunk = chunk_length(
            n_steps,
            self.layout.n_inputs,
            self.layout.n_probed + self.layout.loop.result.size,
            self.store.batch,
            self.store.dtype.itemsize,
        )
        near = [c for c in self._chunks if chunk <= c <= 4 * chunk]
        return min(near, default=chunk)

    def has_compiled(self, n_steps: int) -> bool:
        """Whether so many steps can be run without compiling anything."""
        return self.chunk(n_steps) in self._chunks

    def reaches(self, step: int, carry: list) -> None:
        """Outputs up to this step are being handed over; see `settle`."""
        self._following = step, carry

    def settle(self, step: int) -> None:
        """The state at the end of step ``step``; outputs of later ones were not taken."""
        (following, carry), self._following = self._following, (None, None)
        if following == step:
            self.take(carry)

    def carried(self) -> list:
        """What the loop carries: the state, and variables of Keras layers."""
        return [*self.carry, *(self.kept.values() if self.kept else ())]

    def take(self, carried: list) -> None:
        """The inverse of `carried`."""
        self.carry = carried[: len(self.layout.carry)]
        if self.kept:
            self.kept.assign(carried[len(self.layout.carry) :])


class TensorFlowExecutor:
    """All of the step compiled: a loop, and stages before and after it.

    Parameters
    ----------
    task : Task
        With all probes read in each step.
    jit : bool
        Whether XLA compiles it.
    """

    def __init__(self, task: Task, jit: bool = True) -> None:
        self.layout, self.feed = task.layout, task.feed
        self.compiled = CompiledLoop(task, jit, whole=True)

    def load(self) -> None:
        """See `~nengo_dl.runtime.executor.Executor.load`."""
        self.compiled.load()

    def save(self) -> None:
        """See `~nengo_dl.runtime.executor.Executor.save`."""
        self.compiled.save()

    def write(self, weights: Sequence) -> None:
        """See `~nengo_dl.runtime.executor.Executor.write`."""
        self.compiled.write(weights)

    def has_compiled(self, n_steps: int) -> bool:
        """See `~nengo_dl.runtime.executor.Executor.has_compiled`."""
        return self.compiled.has_compiled(n_steps)

    def run(self, start: int, n_steps: int) -> Iterator[Seen]:
        """See `~nengo_dl.runtime.executor.Executor.run`."""
        compiled, waiting, done = self.compiled, Waiting(self.feed, start), 0
        chunk = compiled.begin(n_steps)
        try:
            for outputs, carry in run_chunks(
                compiled.loop,
                n_steps,
                chunk,
                compiled.carried(),
                compiled.weights,
                batch=compiled.store.batch,
                n_in=compiled.layout.n_inputs,
                inputs=waiting.chunk,
                device=compiled.device,
                tf32=compiled.tf32,
            ):
                done += len(outputs)
                compiled.reaches(start + done, carry)
                yield Seen(len(outputs), ((outputs, compiled.every, False),))
                compiled.take(carry)
                waiting.done(len(outputs))
        finally:
            waiting.put_back()

    def settle(self, step: int) -> None:
        """See `~nengo_dl.runtime.executor.Executor.settle`."""
        self.compiled.settle(step)
        self.feed.skip(step)


# from sample to sample ----------------------------------------------------------------

#: all probes of a layout are read in each step
NONE = Sampling({})


class SampledExecutor:
    """The compiled loop, from one sample to the next; the step with it by itself.

    Steps without a sample run in a program that leaves large probes out, steps with one
    in a program that does not.

    Parameters
    ----------
    task : Task
        With probes that are read at their samples only.
    jit : bool
        See `TensorFlowExecutor`.
    """

    def __init__(self, task: Task, jit: bool = True) -> None:
        self.layout, self.feed, self.sampling = task.layout, task.feed, task.sampling
        sampled = frozenset(self.sampling.periods)
        self.looks = [Look(task.layout, sampled, due) for due in (frozenset(), sampled)]
        self.between, self.single = (
            TensorFlowExecutor(replace(task, layout=look.layout, sampling=NONE), jit)
            for look in self.looks
        )
        self.single.compiled.longest = 1
        self._owner = self.between

    def load(self) -> None:
        """Take the state from the store."""
        self._owner = self.between
        self.between.load()

    def save(self) -> None:
        """Put the state into the store."""
        self._owner.save()

    def settle(self, step: int) -> None:
        """See `TensorFlowExecutor`."""
        self._owner.settle(step)

    def write(self, weights: Sequence) -> None:
        """Use other values of the parameters from now on."""
        self.between.write(weights)
        self.single.write(weights)

    def has_compiled(self, n_steps: int) -> bool:
        """Whether samples were taken; stretches between them are of any length."""
        return self.single.has_compiled(1)

    def _hand_over(self, other: TensorFlowExecutor) -> TensorFlowExecutor:
        """Let one of both have the state."""
        if other is not self._owner:
            mine, theirs = self._owner.compiled, other.compiled
            theirs.carry = mine.carry
            if theirs.turned != mine.turned:
                theirs.carry = [tf.transpose(c) for c in mine.carry]
            self._owner = other
        return other

    def run(self, start: int, n_steps: int) -> Iterator[Seen]:
        """Advance by ``n_steps`` after step ``start``; yields what probes saw."""
        done = 0
        for step, due in self.sampling.samples(start, n_steps):
            if step > start + done + 1:
                yield from self._stretch(start + done, step - 1 - start - done)
            yield from self._sample(step - 1, due)
            done = step - start
        if done < n_steps:
            yield from self._stretch(start + done, n_steps - done)

    def _stretch(self, start: int, n_steps: int) -> Iterator[Seen]:
        """Steps without a sample."""
        yield from self._hand_over(self.between).run(start, n_steps)

    def _sample(self, start: int, due: frozenset) -> Iterator[Seen]:
        """The step with a sample of some probes."""
        look = self.looks[1]
        for _, ((rows, _, _),) in self._hand_over(self.single).run(start, 1):
            samples, probes, _ = look.part(rows)
            probes = tuple(probe for probe in probes if probe[0] in due)
            every = (rows[:, : look.n_every], look.every, False)
            yield Seen(len(rows), (every, (samples, probes, True)))


# with Python around the loop ----------------------------------------------------------


class SequenceNamespace(NumpyNamespace):
    """Eager NumPy that goes on with zeros where a Python function fails.

    Parameters
    ----------
    dtype : dtype
    batch : int
        Columns of one step.
    returned : dict
        Function -> what it returned already, from the first column on, and how many
        columns that is: it is called for the others. What it returns is added.

    Attributes
    ----------
    done : int or None
        Columns before the first failure; None if there was none.
    error : BaseException or None
        What was raised.
    """

    def __init__(self, dtype: Any, batch: int, returned: dict) -> None:
        super().__init__(dtype)
        self.batch = batch
        self.returned = returned
        self.done: Any = None
        self.error: BaseException | None = None

    def host_call(self, fn: Any, inputs: Sequence, sizes: Sequence[int]) -> list:
        """Call for all columns; remember the first that failed.

        After a failure it is called for whole steps before that alone: it would be given
        zeros for the others.
        """
        if not hasattr(fn, "attempt"):
            return super().host_call(fn, inputs, sizes)
        inputs = list(inputs)
        columns = inputs[0].shape[1]
        if self.error is not None:
            columns = min(columns, self.done // self.batch * self.batch)
        begun = self.returned.get(fn)
        if begun is None or begun[1] < columns:
            out, done, error = fn.attempt([x[:, :columns] for x in inputs], begun=begun)
            self.returned[fn] = out, done
            if error is not None and (self.done is None or done < self.done):
                self.done, self.error = done, error
        out, done = self.returned[fn]
        whole = np.zeros((len(out), inputs[0].shape[1]), out.dtype)
        done = min(done, columns)
        whole[:, :done] = out[:, :done]
        return [np.asarray(result, self.dtype) for result in fn.outputs(whole)]


class StagedExecutor:
    """A compiled loop with stages around it that are run in NumPy.

    A function with input that takes no part in feedback does not have to run inside the
    loop: it can be called for the steps of a chunk before the loop runs them, or after.
    Everything in the loop stays compiled.

    For layouts with Python in the stages before or after the loop and none in it. If a
    function raises, the steps before are run and reported, as if it had been called step
    by step. What functions returned for later steps waits until these are run.

    Parameters
    ----------
    task : Task
        With all probes read in each step.
    jit : bool
        Whether XLA compiles the loop.
    """

    def __init__(self, task: Task, jit: bool = True) -> None:
        self.layout, self.feed, self.store = task.layout, task.feed, task.store
        self.compiled = CompiledLoop(task, jit, whole=False)
        self._forget()

    def _forget(self) -> None:
        """What functions returned for later steps is for another time."""
        self._returned: dict = {}
        self._reached: int | None = None

    def load(self) -> None:
        """See `~nengo_dl.runtime.executor.Executor.load`."""
        self.compiled.load()
        self._forget()

    def save(self) -> None:
        """See `~nengo_dl.runtime.executor.Executor.save`."""
        self.compiled.save()

    def write(self, weights: Sequence) -> None:
        """See `~nengo_dl.runtime.executor.Executor.write`."""
        self.compiled.write(weights)

    def has_compiled(self, n_steps: int) -> bool:
        """See `~nengo_dl.runtime.executor.Executor.has_compiled`."""
        return self.compiled.has_compiled(n_steps)

    def run(self, start: int, n_steps: int) -> Iterator[Seen]:
        """See `~nengo_dl.runtime.executor.Executor.run`."""
        chunk, done = self.compiled.begin(n_steps), 0
        while done < n_steps:
            k = min(chunk, n_steps - done)
            outputs, carry, cause = self._chunk(start + done, k, chunk)
            done += len(outputs)
            if len(outputs):
                self.compiled.reaches(start + done, carry)
                yield Seen(len(outputs), ((outputs, self.compiled.every, False),))
                self.settle(start + done)
            if cause is not None:
                raise cause

    def settle(self, step: int) -> None:
        """See `~nengo_dl.runtime.executor.Executor.settle`."""
        self.compiled.settle(step)
        self.feed.skip(step)
        if self._reached is not None and step > self._reached:
            columns = (step - self._reached) * self.store.batch
            self._reached, self._returned = (
                step,
                {
                    fn: (out[:, columns:], done - columns)
                    for fn, (out, done) in self._returned.items()
                    if done > columns
                },
            )

    def _chunk(self, start: int, k: int, length: int):
        """Outputs of ``k`` steps, or of those before a failure, and what failed.

        Nothing is changed but what waits: `settle` goes on.
        """
        if self._reached != start:
            self._reached, self._returned = start, {}
        cause = None
        try:
            rows = self.feed.chunk(start, k)
        except InputsInterrupted as interrupted:
            rows, cause = interrupted.partial, interrupted.cause
        try:
            return self._run_rows(rows, cause, length)
        finally:
            self.feed.put_back(start, rows)

    def _namespace(self) -> SequenceNamespace:
        return SequenceNamespace(self.store.dtype, self.store.batch, self._returned)

    def _run_rows(self, rows, cause, length):
        """Outputs, what is carried, and what failed; see `_chunk`."""
        xp, stages = self._namespace(), self.compiled.stages
        tensors = [rows]
        if stages.needs_before:
            tensors = stages.before(xp, rows, self.compiled.arrays)
        k, cause, tensors = self._until_failure(xp, len(rows), cause, tensors)
        ys, carry = self._loop(k, tensors[0], length)
        if not stages.needs_after:
            return ys, carry, cause
        xp = self._namespace()
        outputs = stages.after(xp, tensors, ys, self.compiled.arrays)
        if xp.error is None:
            return outputs, carry, cause
        # the state after the last step that went well
        k = xp.done // self.store.batch
        _, carry = self._loop(k, tensors[0], length)
        return outputs[:k], carry, xp.error

    def _until_failure(self, xp, k, cause, tensors):
        """Cut what was computed before the loop at the first step that failed."""
        if xp.error is None:
            return k, cause, tensors
        k = xp.done // self.store.batch
        columns = k * self.store.batch
        return k, xp.error, [tensors[0][:k], *(t[:, :columns] for t in tensors[1:])]

    def _loop(self, k: int, given: np.ndarray, length: int):
        """``k`` steps of the loop: what they give, and what is carried after them."""
        compiled, carry = self.compiled, self.compiled.carried()
        if not self.layout.has_loop:
            return np.zeros((k, 0, self.store.batch), self.store.dtype), carry
        padded = np.zeros((length, *given.shape[1:]), self.store.dtype)
        padded[:k] = given[:k]
        with compiled.scope():
            ys, carry = compiled.loop(k, padded, carry, compiled.weights)
        return ys.numpy()[:k], list(carry)
