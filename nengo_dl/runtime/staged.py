"""The jitted loop, with Python functions before or after it.

A function with input that takes no part in feedback does not have to run inside the
loop: it can be called for the steps of a chunk before the loop runs them, or after.
Everything in the loop stays compiled.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nengo_dl.runtime.host import InputsInterrupted
from nengo_dl.runtime.numpy_namespace import NumpyNamespace
from nengo_dl.runtime.tiers import TensorFlowTier


class SequenceNamespace(NumpyNamespace):
    """Eager NumPy that goes on with zeros where a Python function fails.

    Attributes
    ----------
    done : int or None
        Columns before the first failure; None if there was none.
    error : BaseException or None
        What was raised.
    """

    def __init__(self, dtype):
        super().__init__(dtype)
        self.done: int | None = None
        self.error: BaseException | None = None

    def host_call(self, fn, inputs, sizes):
        """Call for all columns; remember the first that failed."""
        if not hasattr(fn, "attempt"):
            return super().host_call(fn, inputs, sizes)
        out, done, error = fn.attempt(list(inputs))
        if error is not None and (self.done is None or done < self.done):
            self.done, self.error = done, error
        return [np.asarray(result, self.dtype) for result in fn.outputs(out)]


class StagedTier(TensorFlowTier):
    """A `TensorFlowTier` whose stages around the loop are run in NumPy.

    For layouts with Python in the stages before or after the loop and none in it. If a
    function raises, the steps before are run and reported, as if it had been called step
    by step.
    """

    stages_on_device = False

    #: of the chunks that the loop was compiled for
    _lengths: frozenset | set = frozenset()

    def has_compiled(self, n_steps: int) -> bool:
        """See `TensorFlowTier.has_compiled`."""
        return self.chunk(n_steps) in self._lengths

    def run(self, start: int, n_steps: int) -> Iterator[np.ndarray]:
        """Advance by ``n_steps`` after step ``start``; yield ``(steps, rows, batch)``."""
        chunk = self.chunk(n_steps)
        self._lengths = {*self._lengths, chunk}
        done = 0
        while done < n_steps:
            k = min(chunk, n_steps - done)
            outputs, cause = self._chunk(start + done, k, chunk)
            if len(outputs):
                yield outputs
            if cause is not None:
                raise cause
            done += k

    def _chunk(self, start: int, k: int, length: int):
        """Outputs of ``k`` steps, or of those before a failure, and what failed."""
        cause = None
        try:
            rows = self.feed.chunk(start, k)
        except InputsInterrupted as interrupted:
            rows, cause = interrupted.partial, interrupted.cause
        try:
            outputs, cause = self._run_rows(rows, cause, length)
        except BaseException:
            self.feed.put_back(start, rows)
            raise
        self.feed.put_back(start + len(outputs), rows[len(outputs) :])
        return outputs, cause

    def _run_rows(self, rows, cause, length):
        """See `_chunk`, with what the steps are given."""
        xp = SequenceNamespace(self.store.dtype)
        tensors = [rows]
        if self.stages.needs_before:
            tensors = self.stages.before(xp, rows, self.arrays)
        k, cause, tensors = self._until_failure(xp, len(rows), cause, tensors)
        carry = self.carried()
        ys = self._loop(k, tensors[0], carry, length)
        if not self.stages.needs_after:
            return ys, cause
        xp = SequenceNamespace(self.store.dtype)
        outputs = self.stages.after(xp, tensors, ys, self.arrays)
        if xp.error is None:
            return outputs, cause
        # the state after the last step that went well
        k = xp.done // self.store.batch
        self._loop(k, tensors[0], carry, length)
        return outputs[:k], xp.error

    def _until_failure(self, xp, k, cause, tensors):
        """Cut what was computed before the loop at the first step that failed."""
        if xp.error is None:
            return k, cause, tensors
        k = xp.done // self.store.batch
        columns = k * self.store.batch
        return k, xp.error, [tensors[0][:k], *(t[:, :columns] for t in tensors[1:])]

    def _loop(self, k: int, given: np.ndarray, carry, length: int) -> np.ndarray:
        """Run ``k`` steps of the loop from a state; keeps the state after them."""
        if not self.layout.has_loop:
            return np.zeros((k, 0, self.store.batch), self.store.dtype)
        padded = np.zeros((length, *given.shape[1:]), self.store.dtype)
        padded[:k] = given[:k]
        with self.scope():
            ys, carried = self.loop(k, padded, carry, self.weights)
            self.take(carried)
        return ys.numpy()[:k]
