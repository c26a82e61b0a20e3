"""The executor that runs generated NumPy code, step by step: no tracing, no compiling.

A step is written against an array namespace ``xp``. `NumpyNamespace` runs it on
ordinary arrays, operation by operation: slow, but there is nothing to it. `NumpyStep`
runs it once on the slots of a `NumpyRecorder`, which takes down what is done to them,
and replays that into buffers that never move: no array is allocated in a step, a view
costs nothing, and what depends on weights and constants alone is computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from nengo.exceptions import ValidationError

from nengo_dl.compiler.layout import Layout
from nengo_dl.compiler.namespace import ArrayNamespace
from nengo_dl.runtime.executor import (
    Capability,
    ExecutorKind,
    Task,
    Work,
    executors,
    pays_to_leave_out,
)
from nengo_dl.runtime.numpy import costs
from nengo_dl.runtime.numpy.codegen import generate
from nengo_dl.runtime.numpy.namespace import NumpyNamespace
from nengo_dl.runtime.numpy.recorder import NumpyRecorder, Slot
from nengo_dl.runtime.stepwise import StepwiseExecutor

# one step -----------------------------------------------------------------------------

__all__ = ["NumpyNamespace", "NumpyRecorder", "NumpyStep", "Slot"]


class NumpyStep:
    """One time step as generated NumPy code.

    Parameters
    ----------
    step : callable
        The pure function ``step(xp, carry, x, weights) -> (next_carry, y)``. It is
        called once, here, with lists of recorded arrays (``x`` is None if ``n_in`` is,
        and ``y`` may be None).
    carry : sequence of array
        Initial state. The next carry must have the same shapes.
    n_in : int or None
        Rows of the input.
    batch : int
        Number of items.
    weights : sequence of array
        Parameters. They are referenced, not copied: where the step uses a weight as it
        is, or a view of it, a change in place shows in the next step. What the step
        computes from weights alone, and weights that are repeated for each batch item,
        are computed here and in `refresh`: call it after each change.
    dtype : dtype-like
        "float32" or "float64", the dtype of everything, weights included.
    beside : NumpyStep, optional
        Another step that this one takes the place of now and then: both have one state
        and one input. ``n_in`` is that of the other one then, and so is the state,
        unless ``carry`` is given.
    sharing : bool
        Whether the state may lie in arrays of the Python functions that are called, so
        that nothing is copied. It is not there before `set_carry` then, and lost when
        these functions are called by others.

    Attributes
    ----------
    x : ndarray or None
        Input ``(n_in, batch)``, to be filled before each call.
    y : ndarray or None
        Output ``(n_out, batch)``, valid until the next call or `set_carry`. It may be a
        view of a carry buffer: read it only.
    carry : list of ndarray
        The state, updated in place by each call. If a host call raises, parts of it may
        be those of the next step already.
    host_log : HostLog
        Of its host calls.
    source : str
        The generated Python code.
    n_calls : int
        Array calls and assignments in a step.
    clashes : bool
        Whether it must not have the state of the step that it is ``beside``, because
        that lies in arrays which Python functions write to before the end of the step;
        see `beside_it`.

    Raises
    ------
    ValidationError
        If a weight has another dtype, or the next carry another length or shapes.

    Examples
    --------
    >>> def step(xp, carry, x, weights):
    ...     state = 0.5 * carry[0] + x
    ...     return [state], xp.tanh(state)
    >>> one_step = NumpyStep(step, [np.zeros((1, 1))], 1, 1, [], "float64")
    >>> one_step.x[...] = 1
    >>> one_step()
    >>> one_step()
    >>> one_step.carry[0]
    array([[1.5]])
    >>> print(one_step.source)
    def make(multiply_0, k_1, s_2, v_3, add_4, x_5, tanh_6):
        def step():
            multiply_0(k_1, s_2, v_3)
            add_4(v_3, x_5, s_2)
            tanh_6(s_2, v_3)
        return step
    """

    def __init__(
        self,
        step: Callable,
        carry: Sequence[np.ndarray],
        n_in: int | None,
        batch: int,
        weights: Sequence[np.ndarray],
        dtype: Any,
        beside: NumpyStep | None = None,
        sharing: bool = False,
    ) -> None:
        recorder = NumpyRecorder(dtype, batch)
        self.dtype, self.batch = recorder.dtype, batch
        if beside is None or carry:
            self.carry = [np.array(c, dtype=self.dtype, order="C") for c in carry]
        else:
            self.carry = beside.carry
        if beside is None:
            self.x = None if n_in is None else np.zeros((n_in, batch), self.dtype)
        else:
            self.x, recorder.host_log = beside.x, beside.host_log
        self.host_log = recorder.host_log
        self._check_weights(weights)
        next_carry, y = recorder.take_down(step, self.carry, self.x, weights)
        self._check_carry("the step function returned", next_carry)
        program = recorder.program
        generated = generate(program, sharing)
        self.carry[:] = [value.array for value in program.carry]
        self._run, self._setup = generated.step, generated.setup
        constant = None if y is None or program.y else np.array(y, self.dtype)
        self.y = generated.y if program.y else constant
        self.source, self.n_calls = generated.source, generated.n_calls
        self.clashes = generated.clashes

    def _check_weights(self, weights: Sequence[np.ndarray]) -> None:
        for i, w in enumerate(weights):
            if not isinstance(w, np.ndarray) or w.dtype not in (self.dtype, bool):
                raise ValidationError(
                    f"weight {i} is {getattr(w, 'dtype', type(w).__name__)}; expected "
                    f"an array of {self.dtype}, because weights are not copied.",
                    attr="weights",
                    obj=self,
                )

    def _check_carry(self, what: str, values: Sequence[Any]) -> None:
        shapes = [np.shape(value) for value in values]
        expected = [c.shape for c in self.carry]
        if shapes != expected:
            where = [i for i, s in enumerate(shapes) if expected[i : i + 1] != [s]]
            raise ValidationError(
                f"{what} {len(shapes)} arrays of shapes {shapes}; expected "
                f"{len(expected)} of shapes {expected} (different: {where}).",
                attr="carry",
                obj=self,
            )

    @property
    def held(self) -> list[np.ndarray]:
        """The state as it lies in memory, which is as `carry` has it."""
        return self.carry

    def set_carry(self, values: Sequence[np.ndarray]) -> None:
        """Copy ``values`` into the carry.

        Raises
        ------
        ValidationError
            If the number or the shapes differ from those of the carry.
        """
        self._check_carry("set_carry was given", values)
        for buffer, value in zip(self.carry, values, strict=True):
            buffer[...] = value

    @classmethod
    def beside_it(cls, step: Callable, weights: Sequence, main: NumpyStep) -> NumpyStep:
        """A step with the state and the input of another one, ``main``.

        It copies the state back and forth if nothing else is possible.
        """
        arguments = (main.batch, weights, main.dtype)
        made = cls(step, [], None, *arguments, beside=main)
        return _Apart(step, weights, main) if made.clashes else made

    def refresh(self) -> None:
        """Compute again what depends on weights alone, after they were changed."""
        self._setup()

    def __call__(self) -> None:
        """Run one step. Floating-point warnings are up to the caller."""
        self._run()


class _Apart(NumpyStep):
    """A step that takes the state of another one, and gives it back.

    Parameters
    ----------
    step, weights
        See `NumpyStep`.
    main : NumpyStep
        The other one, which also has the input.
    """

    def __init__(self, step: Callable, weights: Sequence, main: NumpyStep) -> None:
        self.main = main
        arguments = (main.batch, weights, main.dtype)
        super().__init__(step, main.carry, None, *arguments, beside=main)

    def __call__(self) -> None:
        """Run one step; what the other one carries is only written when it is done."""
        self.set_carry(self.main.carry)
        super().__call__()
        self.main.set_carry(self.carry)


#: whole numbers up to this one are different numbers of single precision
MOST_NUMBERED = 2**24


class _Copies(NumpyStep):
    """A step that computes and carries nothing, so that many can be made at once.

    What comes from where is found by running the step on the numbers of its rows, which
    have to be fewer than `MOST_NUMBERED`. The parameters are those of `NumpyStep`.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._find_sources()

    def refresh(self) -> None:
        """See `NumpyStep.refresh`: constants may be others."""
        super().refresh()
        self._find_sources()

    def _find_sources(self) -> None:
        one, other = self._of_numbers(1), self._of_numbers(-1)
        given = (one[:, 0] != other[:, 0]) & ~np.isnan(one[:, 0])
        self._targets = _as_slice(np.flatnonzero(given))
        self._sources = _as_slice(one[given, 0].astype(int) - 1)
        self._fixed = _as_slice(np.flatnonzero(~given))
        self._values = one[~given]

    def _of_numbers(self, sign: int) -> np.ndarray:
        """What the step gives if it is given the number of each row, from 1 on."""
        if self.x is not None:
            self.x[...] = sign * np.arange(1, len(self.x) + 1)[:, None]
        self()
        assert self.y is not None  # else there is nothing to be copied
        return self.y.copy()

    def advance(self, rows: np.ndarray, out: np.ndarray, begin: Callable) -> int:
        """See `~nengo_dl.runtime.stepwise.Journal.advance`; all come to their end."""
        out[:, self._targets] = rows[:, self._sources]
        out[:, self._fixed] = self._values
        return len(rows)


def _as_slice(index: np.ndarray) -> np.ndarray | slice:
    """Numbers as a slice, if they come one after the other."""
    first = index[0] if index.size else 0
    if np.array_equal(index, np.arange(first, first + index.size)):
        return slice(first, first + index.size)
    return index


# the executors ------------------------------------------------------------------------


class CopyingExecutor(StepwiseExecutor):
    """An `~nengo_dl.runtime.executor.Executor` of steps that compute nothing.

    Parameters
    ----------
    task : Task
        With a layout of a single stage, see `.Layout.computes`.
    """

    chunk_steps, chunk_bytes = costs.COPIED_STEPS, costs.COPIED_BYTES

    def __init__(self, task: Task) -> None:
        super().__init__(task, _Copies, NumpyStep.beside_it)

    def _stretch(self, rows: np.ndarray, out: np.ndarray) -> None:
        self._advance(rows, out)


def seconds_per_step(layout: Layout, batch: int) -> float:
    """About how long one step takes.

    Parameters
    ----------
    layout : Layout
        Of a single stage (``arrange(graph, fused=True)``).
    batch : int
        Number of batch items.
    """
    assert layout.plan is not None  # only what is kept of programs has none
    graph = layout.plan.graph
    operations = graph.src.size + sum(n.kernel.cost(n) for n in graph.nodes)
    kernels = len(layout.groups())
    return costs.KERNEL_SECONDS * kernels + costs.OPERATION_SECONDS * operations * batch


class NumpyKind(ExecutorKind):
    """Everything, at once, and anything for small networks and short runs."""

    name = "numpy"
    capabilities = Capability.PYTHON_IN_LOOP | Capability.SINGLE_STEPS

    def namespace(self, dtype: Any) -> ArrayNamespace:
        """See `ExecutorKind.namespace`."""
        return NumpyNamespace(dtype)

    def make(self, task: Task) -> StepwiseExecutor:
        """See `ExecutorKind.make`; the state may lie in arrays of Python functions."""
        if not task.layout.computes and task.layout.n_inputs < MOST_NUMBERED:
            return CopyingExecutor(task)
        make = partial(NumpyStep, sharing=True)
        return StepwiseExecutor(task, make, NumpyStep.beside_it)

    def because(self, work: Work) -> str:
        """See `ExecutorKind.because`."""
        return "it needs no time to start"

    def reads_samples_only(self, n_bytes: float, period: float) -> bool:
        """See `ExecutorKind.reads_samples_only`."""
        return pays_to_leave_out(n_bytes, period, costs.SAMPLE_SECONDS)


executors.register(NumpyKind())
