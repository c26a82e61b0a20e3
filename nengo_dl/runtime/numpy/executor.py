"""The executor that runs generated NumPy code, step by step: no tracing, no compiling."""

from __future__ import annotations

from functools import partial
from typing import Any

from nengo_dl.runtime.executor import Capability, ExecutorKind, Task, Work, executors
from nengo_dl.runtime.numpy import costs
from nengo_dl.runtime.numpy.namespace import NumpyNamespace
from nengo_dl.runtime.numpy.step import NumpyStep
from nengo_dl.runtime.sampling import pays_to_leave_out
from nengo_dl.runtime.stepwise import StepwiseExecutor


class NumpyKind(ExecutorKind):
    """Everything, at once, and anything for small networks and short runs."""

    name = "numpy"
    capabilities = Capability.PYTHON_IN_LOOP | Capability.SINGLE_STEPS

    def namespace(self, dtype: Any) -> NumpyNamespace:
        """See `ExecutorKind.namespace`."""
        return NumpyNamespace(dtype)

    def make(self, task: Task) -> StepwiseExecutor:
        """See `ExecutorKind.make`; the state may lie in arrays of Python functions."""
        make = partial(NumpyStep, sharing=True)
        return StepwiseExecutor(task, make, NumpyStep.beside_it)

    def because(self, work: Work) -> str:
        """See `ExecutorKind.because`."""
        return "it needs no time to start"

    def reads_samples_only(self, n_bytes: float, period: float) -> bool:
        """See `ExecutorKind.reads_samples_only`."""
        return pays_to_leave_out(n_bytes, period, costs.SAMPLE_SECONDS)


executors.register(NumpyKind())
