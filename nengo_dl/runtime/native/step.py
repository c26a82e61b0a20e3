"""Steps as machine code: a step function is recorded, planned, written and compiled."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from ctypes import c_int32, c_int64, c_void_p
from typing import Any, NoReturn

import numpy as np

from nengo_dl.runtime.native import products  # noqa: F401  (makes itself known)
from nengo_dl.runtime.native.compile import compile_text, host_width
from nengo_dl.runtime.native.loops import write_loop
from nengo_dl.runtime.native.memory import ROOM, Places, aligned
from nengo_dl.runtime.native.recorder import NativeRecorder
from nengo_dl.runtime.native.rows import WENT_WELL
from nengo_dl.runtime.native.units import Plan
from nengo_dl.runtime.native.writer import Writer
from nengo_dl.runtime.numpy.codegen import View

#: what the machine code calls for a Python function: its number, and that of the step
CALLBACK = ctypes.CFUNCTYPE(c_int32, c_int32, c_int64)

#: arguments of the machine code: state, memory, inputs, outputs, steps, the callback
ARGUMENTS = [c_void_p, c_void_p, c_void_p, c_void_p, c_int64, CALLBACK]


class _Calls:
    """What `HostCall.emit` writes to: a list of functions without arguments."""

    def __init__(self) -> None:
        self.functions: list[Callable[[], None]] = []

    def call(self, function: Callable, *args: Any) -> None:
        """Add a function."""
        self.functions.append(function)


class Python:
    """The functions that machine code calls.

    Parameters
    ----------
    functions : list of callable
        By their number; without arguments.

    Attributes
    ----------
    begin : callable or None
        Called with the number of a step, counted from 0 in each call of the machine code,
        before the first function in it.
    failure : BaseException or None
        What was raised: it cannot pass through machine code.
    """

    def __init__(self, functions: list[Callable[[], None]]) -> None:
        self.functions = functions
        self.begin: Callable[[int], None] | None = None
        self.failure: BaseException | None = None

    def __call__(self, number: int, step: int) -> int:
        """Call one of them; see `WENT_WELL`."""
        try:
            if number == 0 and self.begin is not None:
                self.begin(step)
            self.functions[number]()
        except BaseException as error:  # interrupts too
            self.failure = error
            return not WENT_WELL
        return WENT_WELL

    def raise_failure(self) -> NoReturn:
        """Raise what ended a call of the machine code."""
        failure, self.failure = self.failure, None
        if failure is None:  # an interrupt between here and there
            raise KeyboardInterrupt
        raise failure


class NativeStep:
    """One time step, and many of them in one call, as machine code.

    Parameters
    ----------
    step : callable
        ``step(xp, carry, x, weights) -> (next_carry, y)``. It is called once, here, with
        lists of recorded arrays (``x`` is None if ``n_in`` is).
    carry : sequence of array
        Initial state. The next carry has the same shapes.
    n_in : int or None
        Rows of the input.
    batch : int
        Number of items.
    weights : sequence of array
        Parameters. They are referenced, not copied; after a change call `refresh`.
    dtype : dtype-like
        "float32" or "float64", the dtype of everything.
    beside : NativeStep, optional
        Another step that this one takes the place of now and then: both have one state,
        one input and one log. ``carry`` is empty then.
    width : int, optional
        Numbers in a vector; by default as many as this machine has.

    Attributes
    ----------
    x, y, carry, dtype, host_log
        See `~nengo_dl.runtime.stepwise.StepProgram`.
    plan : Plan
        What was compiled.
    places : Places
        Where everything lies in the blocks ``state`` and ``memory``.
    text : str
        Its code in LLVM's language.

    Raises
    ------
    Unsupported
        If there is no code for something.

    Examples
    --------
    >>> def step(xp, carry, x, weights):
    ...     state = 0.5 * carry[0] + x
    ...     return [state], xp.tanh(state)
    >>> several = NativeStep(step, [np.zeros((1, 1))], 1, 1, [], "float64")
    >>> out = several.room(2)
    >>> several.advance(np.ones((2, 1, 1)), out)
    2
    >>> several.carry[0]
    array([[1.5]])
    """

    def __init__(
        self,
        step: Callable,
        carry: Sequence[np.ndarray],
        n_in: int | None,
        batch: int,
        weights: Sequence[np.ndarray],
        dtype: Any,
        beside: NativeStep | None = None,
        width: int | None = None,
    ) -> None:
        recorder = NativeRecorder(dtype, batch)
        self.dtype, self.batch = recorder.dtype, batch
        if beside is not None:
            carry, recorder.host_log = beside.carry, beside.host_log
        self.host_log = recorder.host_log
        first = [np.array(c, dtype=self.dtype, order="C") for c in carry]
        given = np.zeros((n_in or 0, batch), self.dtype)
        _, y = recorder.take_down(step, first, None if n_in is None else given, weights)
        if y is not None:
            recorder.program.y = recorder.view(y)
        self._row = given.nbytes
        self.plan = Plan(recorder.program, width or host_width(self.dtype))
        writer = Writer(self.plan, self.dtype, self._row)
        self.text = writer.text(write_loop)
        self.places = writer.places
        self._make_memory(writer.places, given.shape, beside)
        if beside is None:
            self.set_carry(first)
        self._bind(writer)
        self.refresh()

    def _make_memory(
        self, places: Places, given: tuple[int, ...], beside: NativeStep | None
    ) -> None:
        """Memory for everything."""
        y = self.plan.y
        self._y_shape = (0, self.batch) if y is None else y.shape
        self.memory = aligned(places.memory.size)
        self._result = aligned(0 if y is None else y.nbytes)
        self.y = np.ndarray(self._y_shape, self.dtype, self._result)
        if beside is not None:
            self.state, self.carry = beside.state, beside.carry
            self._given, self.x = beside._given, beside.x
        else:
            self.state, self._given = aligned(places.state.size), aligned(self._row)
            views = [View.all_of(value) for value in self.plan.program.carry]
            self.carry = [places.array(v, self.state, self.memory) for v in views]
            self.x = np.ndarray(given, self.dtype, self._given) if self._row else None
        self._chunk = self._given

    def _bind(self, writer: Writer) -> None:
        """Compile, and bind the calls of Python functions to memory."""
        self._run = compile_text(self.text).function("run", c_int64, ARGUMENTS)
        calls = _Calls()
        for ins in writer.hosts:
            args, outs = (
                [writer.places.array(v, self.state, self.memory) for v in views]
                for views in (ins.operands, [View.all_of(out) for out in ins.outputs])
            )
            ins.operation.emit(calls, args, *outs)
        self.python = Python(calls.functions)
        self._callback = CALLBACK(self.python) if calls.functions else CALLBACK()
        self._blocks = self.state.ctypes.data, self.memory.ctypes.data
        places = self._given.ctypes.data, self._result.ctypes.data
        self._single = (*self._blocks, *places, 1, self._callback)

    def set_carry(self, values: Sequence[np.ndarray]) -> None:
        """Copy values into the state."""
        for mine, value in zip(self.carry, values, strict=True):
            mine[...] = value

    def refresh(self) -> None:
        """Compute again what depends on weights alone, after they were changed."""
        with np.errstate(all="ignore"):
            for ins in self.plan.program.setup:
                array = ins.outputs[0].array
                assert array is not None  # it is the same for all steps
                array[...] = ins.operation(*(view.array for view in ins.operands))
        for start, make in self.places.tables:
            values = np.ascontiguousarray(make())
            stop = start + values.nbytes
            self.memory[start:stop] = values.reshape(-1).view(np.uint8)

    def __call__(self) -> None:
        """Run one step, from `x` to `y`."""
        if self._run(*self._single) != 1:
            self.python.raise_failure()

    def room(self, steps: int) -> np.ndarray:
        """Memory for what some steps give, ``(steps, *y.shape)``."""
        block = aligned(steps * self.y.nbytes)
        return np.ndarray((steps, *self._y_shape), self.dtype, block)

    def advance(
        self,
        rows: np.ndarray,
        out: np.ndarray,
        begin: Callable[[int], None] | None = None,
    ) -> int:
        """Run many steps.

        Parameters
        ----------
        rows : ndarray ``(steps, n, batch)``
            What they are given.
        out : ndarray
            For what they give: from `room`, or some steps of that.
        begin : callable, optional
            See `Python`.

        Returns
        -------
        int
            How many steps came to their end. If they are not all, ``python.failure`` is
            what the next one raised.
        """
        if self._row:
            if self._chunk.nbytes < rows.nbytes + ROOM:
                self._chunk = aligned(rows.nbytes)
            np.ndarray(rows.shape, self.dtype, self._chunk)[...] = rows
        python = self.python
        python.begin = begin
        places = self._chunk.ctypes.data, out.ctypes.data
        try:
            return self._run(*self._blocks, *places, len(rows), self._callback)
        finally:
            python.begin = None

    @classmethod
    def beside_it(
        cls, step: Callable, weights: Sequence[np.ndarray], main: NativeStep
    ) -> NativeStep:
        """A step with the state and the input of another one, ``main``."""
        n_in = None if main.x is None else len(main.x)
        return cls(step, [], n_in, main.batch, weights, main.dtype, beside=main)
