"""The jitted loop, with Python functions before or after it.

A function with input that takes no part in feedback does not have to run inside the
loop: it can be called for the steps of a chunk before the loop runs them, or after.
Everything in the loop stays compiled.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from nengo_dl.compiler.layout import Layout
from nengo_dl.runtime.emit import SequenceStages
from nengo_dl.runtime.executor import Seen, Task
from nengo_dl.runtime.host import InputsInterrupted
from nengo_dl.runtime.numpy.namespace import NumpyNamespace
from nengo_dl.runtime.tensorflow.executor import TensorFlowExecutor


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


class StagedExecutor(TensorFlowExecutor):
    """A `TensorFlowExecutor` whose stages around the loop are run in NumPy.

    For layouts with Python in the stages before or after the loop and none in it. If a
    function raises, the steps before are run and reported, as if it had been called step
    by step. What functions returned for later steps waits until these are run.
    """

    stages_on_device = False

    #: of the chunks that the loop was compiled for
    _lengths: frozenset | set = frozenset()

    def __init__(self, task: Task, jit: bool = True) -> None:
        self._returned: dict = {}
        self._reached = None
        super().__init__(task, jit)

    def _stages(self, layout: Layout, turned: bool | None) -> SequenceStages:
        return SequenceStages(layout, self.store.batch)

    def has_compiled(self, n_steps: int) -> bool:
        """See `TensorFlowExecutor.has_compiled`."""
        return self.chunk(n_steps) in self._lengths

    def load(self) -> None:
        """See `TensorFlowExecutor.load`."""
        super().load()
        self._returned, self._reached = {}, None

    def run(self, start: int, n_steps: int) -> Iterator[Seen]:
        """See `TensorFlowExecutor.run`."""
        chunk = self.chunk(n_steps)
        self._lengths = {*self._lengths, chunk}
        done = 0
        while done < n_steps:
            k = min(chunk, n_steps - done)
            outputs, carry, cause = self._chunk(start + done, k, chunk)
            done += len(outputs)
            if len(outputs):
                self._following = start + done, carry
                yield Seen(len(outputs), ((outputs, self.every, False),))
                self.settle(start + done)
            if cause is not None:
                raise cause

    def settle(self, step: int) -> None:
        """The state at the end of step ``step``; outputs of later ones were not taken."""
        super().settle(step)
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
        xp = self._namespace()
        tensors = [rows]
        if self.stages.needs_before:
            tensors = self.stages.before(xp, rows, self.arrays)
        k, cause, tensors = self._until_failure(xp, len(rows), cause, tensors)
        ys, carry = self._loop(k, tensors[0], length)
        if not self.stages.needs_after:
            return ys, carry, cause
        xp = self._namespace()
        outputs = self.stages.after(xp, tensors, ys, self.arrays)
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
        carry = self.carried()
        if not self.layout.has_loop:
            return np.zeros((k, 0, self.store.batch), self.store.dtype), carry
        padded = np.zeros((length, *given.shape[1:]), self.store.dtype)
        padded[:k] = given[:k]
        with self.scope():
            ys, carry = self.loop(k, padded, carry, self.weights)
        return ys.numpy()[:k], list(carry)
