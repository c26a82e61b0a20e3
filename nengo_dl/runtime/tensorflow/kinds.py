"""The two kinds of executors that compile a loop, with Python around it and without.

A simulation in NumPy starts at once. A compiled loop first costs the import of
TensorFlow, 2 to 5 seconds and some 650 MB, and then the compiling. So it has to be worth
that. TensorFlow itself is only imported when an executor is made.
"""

from __future__ import annotations

import math
from typing import Any

from nengo_dl.compiler.namespace import ArrayNamespace
from nengo_dl.runtime.costs import SHORT_RUN
from nengo_dl.runtime.executor import (
    Capability,
    Executor,
    ExecutorKind,
    Task,
    Work,
    executors,
    pays_to_leave_out,
)
from nengo_dl.runtime.native import executor as _native  # noqa: F401  (it comes after)
from nengo_dl.runtime.numpy.executor import seconds_per_step
from nengo_dl.runtime.tensorflow import costs
from nengo_dl.runtime.tensorflow.switches import may_compile


def seconds_before_compiling(work: Work) -> float:
    """How much time in NumPy is taken before a loop is compiled."""
    imported = work.on_accelerator or work.has_tensors
    return costs.IMPORTED_SECONDS if imported else costs.COMPILE_SECONDS


def seconds_compiled(work: Work) -> float:
    """About how long one step takes in the compiled loop."""
    products, others = work.operations
    small = work.batch < costs.SMALL_BATCH
    product = costs.SMALL_PRODUCT_SECONDS if small else costs.PRODUCT_SECONDS
    kernels = costs.KERNEL_SECONDS * len(work.layout.groups())
    return kernels + product * products + costs.OPERATION_SECONDS * others


def pays_beside(work: Work) -> bool:
    """Whether a step is much faster than in machine code, and long enough to matter."""
    ours = seconds_compiled(work)
    rival = math.inf if work.rival is None else work.rival
    return ours > costs.LEAST_SECONDS and costs.TIMES_FASTER * ours <= rival


class TensorFlowKind(ExecutorKind):
    """The whole simulation as one compiled program."""

    name = "tensorflow"
    capabilities = Capability.STAGES | Capability.COMPILES

    @property
    def family(self) -> str:
        """See `ExecutorKind.family`: one name for all that run in TensorFlow."""
        return "tensorflow"

    def namespace(self, dtype: Any) -> ArrayNamespace:
        """See `ExecutorKind.namespace`."""
        from nengo_dl.runtime.tensorflow.namespace import TensorFlowNamespace

        return TensorFlowNamespace(dtype)

    def make(self, task: Task) -> Executor:
        """See `ExecutorKind.make`; compiled, unless functions of tensors prevent it."""
        from nengo_dl.runtime.tensorflow.executor import (
            SampledExecutor,
            TensorFlowExecutor,
        )

        kind = SampledExecutor if task.sampling.periods else TensorFlowExecutor
        return kind(task, jit=task.xla and self._compilable(task, task.layout.groups()))

    def pays(self, work: Work) -> bool:
        """See `ExecutorKind.pays`."""
        if work.rival is not None:
            return pays_beside(work) and may_compile("auto")
        if work.n_steps <= SHORT_RUN:
            return False
        seconds = seconds_per_step(work.layout, work.batch) * work.asked
        return seconds > seconds_before_compiling(work) and may_compile("auto")

    def because(self, work: Work) -> str:
        """See `ExecutorKind.because`."""
        if work.rival is not None:
            ours = seconds_compiled(work)
            return (
                f"a step is estimated to take {1e3 * ours:.1f} ms in TensorFlow, and "
                f"{1e3 * work.rival:.1f} ms in machine code"
            )
        return (
            "the steps since the last reset are estimated to take more than "
            f"{seconds_before_compiling(work):g} s in NumPy"
        )

    def reads_samples_only(self, n_bytes: float, period: float) -> bool:
        """See `ExecutorKind.reads_samples_only`."""
        return pays_to_leave_out(n_bytes, period, costs.SAMPLE_SECONDS)

    @staticmethod
    def _compilable(task: Task, groups: Any) -> bool:
        """Whether XLA can compile the functions of tensors that the users brought."""
        if not any(group.kernel.tensorflow for group in groups):
            return True
        from nengo_dl.runtime.tensorflow.loop import compilable

        return compilable(groups, task.store.batch)


class StagedKind(TensorFlowKind):
    """A compiled loop, with Python functions before or after it."""

    name = "staged"
    capabilities = TensorFlowKind.capabilities | Capability.PYTHON_AROUND_LOOP

    def make(self, task: Task) -> Executor:
        """See `ExecutorKind.make`."""
        from nengo_dl.runtime.tensorflow.executor import StagedExecutor

        return StagedExecutor(
            task, jit=task.xla and self._compilable(task, task.layout.loop.groups)
        )

    def reads_samples_only(self, n_bytes: float, period: float) -> bool:
        """Never: Python functions read all steps of a chunk at once."""
        return False


executors.register(TensorFlowKind(), before="native")
executors.register(StagedKind(), before="native")
