"""The executor that runs machine code: many steps in one call."""

from __future__ import annotations

from functools import cache, partial
from importlib.util import find_spec
from typing import Any, cast

import numpy as np

from nengo_dl.heap import without_collecting
from nengo_dl.runtime.executor import (
    Capability,
    ExecutorKind,
    Task,
    Unsupported,
    Work,
    executors,
    pays_to_leave_out,
)
from nengo_dl.runtime.native import costs, loading
from nengo_dl.runtime.native.compile import available, host_width
from nengo_dl.runtime.native.step import NativeStep
from nengo_dl.runtime.numpy import executor as _numpy  # noqa: F401  (it comes after)
from nengo_dl.runtime.numpy.namespace import NumpyNamespace
from nengo_dl.runtime.stepwise import StepwiseExecutor


class NativeExecutor(StepwiseExecutor):
    """An `~nengo_dl.runtime.executor.Executor` of machine code.

    Parameters
    ----------
    task : Task
        With a layout of a single stage.

    Raises
    ------
    Unsupported
        If there is no machine code for something in it.
    """

    chunk_steps, chunk_bytes = costs.CHUNK_STEPS, costs.CHUNK_BYTES

    def __init__(self, task: Task) -> None:
        batch, dtype = task.store.batch, np.dtype(task.store.dtype)
        items = costs.items_of_block(task.layout, batch, dtype, host_width(dtype))
        make = partial(NativeStep, items=items)
        super().__init__(task, make, NativeStep.beside_it, items)
        #: the program, as what it is
        self._native = cast(NativeStep, self.program)
        longest = max(1, int(costs.CALL_SECONDS / self._native.seconds))
        self.longest = min(self.longest, longest)

    def _room(self, steps: int) -> np.ndarray:
        return self._native.room(steps)

    def _stretch(self, rows: np.ndarray, out: np.ndarray) -> None:
        self._advance(rows, out)
        if self._native.python.failure is not None:
            self._native.python.raise_failure()


@cache
def _there() -> bool:
    """Whether llvmlite is installed."""
    try:
        return find_spec("llvmlite") is not None
    except (ImportError, ValueError):  # something stands in its way, or in its place
        return False


class NativeKind(ExecutorKind):
    """Everything, after some milliseconds, where llvmlite is there."""

    name = "native"
    capabilities = (
        Capability.PYTHON_IN_LOOP | Capability.SINGLE_STEPS | Capability.MACHINE_CODE
    )

    def namespace(self, dtype: Any) -> NumpyNamespace:
        """See `ExecutorKind.namespace`; steps are recorded, so that is NumPy's."""
        return NumpyNamespace(dtype)

    def make(self, task: Task) -> NativeExecutor:
        """See `ExecutorKind.make`; here llvmlite is imported."""
        with without_collecting():
            reason = available()
            if reason is not None:
                raise Unsupported(reason)
            return NativeExecutor(task)

    def begin(self) -> None:
        """See `ExecutorKind.begin`: LLVM is loaded in a thread of its own."""
        loading.begin()

    def missing(self) -> str | None:
        """See `ExecutorKind.missing`; llvmlite is looked for, but not imported."""
        return None if _there() else "llvmlite is not installed"

    def pays(self, work: Work) -> bool:
        """See `ExecutorKind.pays`: for whatever runs on the CPU, and not as Python."""
        return not (work.on_accelerator or work.has_tensors or work.shares_arrays)

    def because(self, work: Work) -> str:
        """See `ExecutorKind.because`."""
        if work.on_accelerator:
            return f"it runs on the CPU, and the device {work.device!r} was asked for"
        if work.has_tensors:
            return "functions of tensors are called in a step"
        if work.shares_arrays:
            return "operators that run as Python work on large arrays, without copies"
        return "machine code for the CPU"

    def seconds_per_step(self, work: Work) -> float:
        """See `ExecutorKind.seconds_per_step`."""
        return costs.seconds_before_planning(work)

    def reads_samples_only(self, n_bytes: float, period: float) -> bool:
        """See `ExecutorKind.reads_samples_only`."""
        return pays_to_leave_out(n_bytes, period, costs.SAMPLE_SECONDS)


executors.register(NativeKind(), before="numpy")
