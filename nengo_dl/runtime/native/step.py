"""Steps as machine code: a step function is recorded, planned, written and compiled."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from ctypes import c_int32, c_int64, c_void_p
from functools import partial
from math import prod
from typing import Any, NoReturn

import numpy as np

from nengo_dl.runtime.executor import Unsupported
from nengo_dl.runtime.native import costs
from nengo_dl.runtime.native import products as _products  # noqa: F401  (makes itself known)
from nengo_dl.runtime.native.axes import in_order
from nengo_dl.runtime.native.blocks import Division, in_threads, processors
from nengo_dl.runtime.native.compile import compile_text, host_width
from nengo_dl.runtime.native.loops import write_loop
from nengo_dl.runtime.native.memory import ROOM, Places, aligned
from nengo_dl.runtime.native.recorder import NativeRecorder
from nengo_dl.runtime.native.rows import WENT_WELL
from nengo_dl.runtime.native.units import Plan
from nengo_dl.runtime.native.writer import Writer
from nengo_dl.runtime.numpy.codegen import Value, View

#: what the machine code calls for a Python function: its number, and that of the step
CALLBACK = ctypes.CFUNCTYPE(c_int32, c_int32, c_int64)

#: arguments of the machine code: state, memory, what is fixed, inputs, outputs, steps,
#: the callback
ARGUMENTS = [*[c_void_p] * 5, c_int64, CALLBACK]

#: and, for all blocks, how many they are, and bytes between their states, inputs, results
OF_BLOCKS = [*ARGUMENTS, *[c_int64] * 4]


class _Calls:
    """What `HostCall.emit` writes to: a list of functions without arguments."""

    def __init__(self) -> None:
        self.functions: list[Callable[[], None]] = []

    def call(self, function: Callable, *args: Any) -> None:
        """Add a function."""
        self.functions.append(partial(function, *args) if args else function)

    def assign(self, target: np.ndarray, source: np.ndarray) -> None:
        """Add a function that copies an array."""
        self.functions.append(lambda: np.copyto(target, source))


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


class Workplace:
    """What one thread computes with.

    Parameters
    ----------
    nbytes : int
        Of the values of a step.

    Attributes
    ----------
    memory, inputs, outputs : ndarray
        Bytes: of the values of a step, and what some steps are given and give.
    """

    def __init__(self, nbytes: int) -> None:
        self.memory, self.inputs, self.outputs = aligned(nbytes), aligned(0), aligned(0)

    def given(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Place for what some steps are given."""
        self.inputs = _enough(self.inputs, prod(shape) * dtype.itemsize)
        return np.ndarray(shape, dtype, self.inputs)

    def results(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Place for what some steps give."""
        self.outputs = _enough(self.outputs, prod(shape) * dtype.itemsize)
        return np.ndarray(shape, dtype, self.outputs)


def _enough(block: np.ndarray, nbytes: int) -> np.ndarray:
    """A block of so many bytes and some room: the one at hand, if it is large enough."""
    return block if block.nbytes >= nbytes + ROOM else aligned(nbytes)


class NativeStep:
    """One time step, and many of them in one call, as machine code.

    Parameters
    ----------
    step : callable
        ``step(xp, carry, x, weights) -> (next_carry, y)``. It is called once, here, with
        lists of recorded arrays (``x`` is None if ``n_in`` is) for one block of items.
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
    items : int, optional
        Items of a block, see `Division`; all of them by default. Only a single block may
        call Python functions.

    Attributes
    ----------
    x, y, dtype, host_log
        See `~nengo_dl.runtime.stepwise.StepProgram`.
    plan : Plan
        What was compiled.
    places : Places
        Where everything lies in the blocks ``state``, ``memory`` and ``fixed``.
    text : str
        Its code in LLVM's language.
    seconds : float
        About how long a step takes.

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
        items: int | None = None,
    ) -> None:
        size = items or batch
        recorder = NativeRecorder(dtype, size)
        self.dtype, self.batch = recorder.dtype, batch
        self.division = Division(batch, size)
        if beside is not None:
            carry, recorder.host_log = beside.carry, beside.host_log
        self.host_log = recorder.host_log
        first = [self._of_first_block(np.asarray(values)) for values in carry]
        given = np.zeros((n_in or 0, size), self.dtype)
        _, y = recorder.take_down(step, first, None if n_in is None else given, weights)
        if y is not None:
            recorder.program.y = recorder.view(y)
        self._row = given.nbytes
        first_plan = None if beside is None else beside.plan
        self.plan = Plan(recorder.program, width or host_width(self.dtype), first_plan)
        writer = Writer(self.plan, self.dtype, self._row)
        self.text = writer.text(write_loop, not self._in_place)
        if writer.hosts and not self._in_place:
            raise Unsupported("Python functions are called for all of a batch at once")
        self.places = writer.places
        self.seconds = self.division.count * costs.seconds_per_step(self.plan)
        self._make_memory(writer.places, given.shape, beside)
        if beside is None:
            self.set_carry(carry)
        self._bind(writer)
        self.refresh()

    def _of_first_block(self, values: np.ndarray) -> np.ndarray:
        """Take the first block, ``(..., size)``, out of values ``(..., batch)``."""
        if self._in_place:
            return np.array(values, self.dtype, order="C")
        block = np.empty((*values.shape[:-1], self.division.size), self.dtype)
        self.division.put(values, 0, block)
        return block

    def _make_memory(
        self, places: Places, given: tuple[int, ...], beside: NativeStep | None
    ) -> None:
        """Memory for everything."""
        y, count = self.plan.y, self.division.count
        self._y_shape = (0, self.division.size) if y is None else y.shape
        self._workplaces = [Workplace(places.memory.size)]
        self.memory, self.fixed = self._workplaces[0].memory, aligned(places.fixed.size)
        self._given_back = 0 if y is None else y.nbytes
        self._result = aligned(count * self._given_back)
        self._stride = places.state.size
        if beside is not None:
            self.state, self._carries = beside.state, beside._carries
            self._given, self.x = beside._given, beside.x
        else:
            self.state, self._given = (
                aligned(count * self._stride),
                aligned(count * self._row),
            )
            self._carries = [self._carried(value) for value in self.plan.program.carry]
            shape = (given[0], self.batch)
            block = self._given if self._in_place else None
            self.x = np.ndarray(shape, self.dtype, block) if self._row else None
        if self._in_place:
            self.y = np.ndarray(self._y_shape, self.dtype, self._result)
        else:
            self.y = np.empty((self._y_shape[0], self.batch), self.dtype)
            self._to_blocks, self._from_blocks = self._copies(given)

    def _copies(self, given: tuple[int, ...]) -> tuple[list[tuple], list[tuple]]:
        """What is copied before and after a single step: from where, and where to."""
        division, inputs = self.division, []
        if self.x is not None:
            blocks = np.ndarray((division.count, *given), self.dtype, self._given)
            inputs = division.pairs(self.x, blocks) + division.padding(self.x, blocks)
        blocks = np.ndarray((division.count, *self._y_shape), self.dtype, self._result)
        return inputs, [pair[::-1] for pair in division.pairs(self.y, blocks)]

    def _carried(self, value: Value) -> np.ndarray:
        """What is carried under one name, ``(blocks, rows, items)``.

        Matrices that lie column by column are ``(blocks, matrices, m, n)``.
        """
        shape, inner = value.shape, in_order(value.shape)
        k = self.plan.program.carry.index(value)
        if k in self.plan.by_columns:
            (count, m, n), apart = self.plan.by_columns[k], self.plan.strides[k]
            shape, inner = (count, m, n), (n * apart, 1, apart)
        strides = (self._stride, *(s * value.dtype.itemsize for s in inner))
        shape, (_, start) = (self.division.count, *shape), self.places.of(value)
        return np.ndarray(shape, value.dtype, self.state, start, strides)

    def _bind(self, writer: Writer) -> None:
        """Compile, and bind the calls of Python functions to memory."""
        module = compile_text(self.text)
        self._run = module.function("run", c_int64, ARGUMENTS)
        if not self._in_place:
            self._run_blocks = module.function("blocks", None, OF_BLOCKS)
        calls = _Calls()
        for ins in writer.hosts:
            args, outs = (
                [writer.places.array(v, self.state, self.memory) for v in views]
                for views in (ins.operands, [View.all_of(out) for out in ins.outputs])
            )
            ins.operation.emit(calls, args, *outs)
        self.python = Python(calls.functions)
        self._callback = CALLBACK(self.python) if calls.functions else CALLBACK()
        blocks = self.state, self.memory, self.fixed, self._given, self._result
        places = (block.ctypes.data for block in blocks)
        self._single = (*places, 1, self._callback)
        apart = self._stride, self._row, self._given_back
        self._single_blocks = (*self._single, self.division.count, *apart)

    @property
    def carry(self) -> list[np.ndarray]:
        """The state, ``(n_i, batch)`` each, in order.

        It is the state itself if there is one block, else copies; copies, too, of what
        lies column by column.
        """
        found = []
        for k, blocks in enumerate(self._carries):
            if k in self.plan.by_columns:
                shape = self.plan.program.carry[k].shape
                blocks = np.ascontiguousarray(blocks).reshape(len(blocks), *shape)
            found.append(blocks[0] if self._in_place else self.division.collected(blocks))
        return found

    @property
    def held(self) -> list[np.ndarray]:
        """The state as it lies in memory: one block of bytes."""
        return [self.state]

    def set_carry(self, values: Sequence[np.ndarray]) -> None:
        """Copy values into the state."""
        blocks, start = self.division.count, self.places.fresh[1]
        np.ndarray((blocks,), np.uint8, self.state, start, (self._stride,))[...] = 1
        for k, (mine, value) in enumerate(zip(self._carries, values, strict=True)):
            blocks, turned = mine, k in self.plan.by_columns
            if turned:
                shape = self.plan.program.carry[k].shape
                blocks = np.empty((len(mine), *shape), mine.dtype)
            if self._in_place:
                blocks[0] = value
            else:
                self.division.spread(np.asarray(value), blocks)
            if turned:
                mine[...] = blocks.reshape(mine.shape)

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
            self.fixed[start:stop] = values.reshape(-1).view(np.uint8)

    def __call__(self) -> None:
        """Run one step, from `x` to `y`."""
        if not self._in_place and self.seconds >= costs.THREADS_SECONDS:
            x = np.empty((0, self.batch), self.dtype) if self.x is None else self.x
            self._advance_blocks(x[None], self.y[None])
        elif not self._in_place:
            for source, target in self._to_blocks:
                target[...] = source
            self._run_blocks(*self._single_blocks)
            for source, target in self._from_blocks:
                target[...] = source
        elif self._run(*self._single) != 1:
            self.python.raise_failure()

    @property
    def _in_place(self) -> bool:
        """Whether inputs and results lie as the machine code has them."""
        return self.division.size == self.batch

    def room(self, steps: int) -> np.ndarray:
        """Memory for what some steps give, ``(steps, *y.shape)``."""
        block = aligned(steps * self.y.nbytes)
        return np.ndarray((steps, *self.y.shape), self.dtype, block)

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
        if not self._in_place:
            return self._advance_blocks(rows, out)
        given = self._workplaces[0].given(rows.shape if self._row else (0,), self.dtype)
        if self._row:
            given[...] = rows
        python = self.python
        python.begin = begin
        blocks = *self._single[:3], given.ctypes.data, out.ctypes.data
        try:
            return self._run(*blocks, len(rows), self._callback)
        finally:
            python.begin = None

    def _advance_blocks(self, rows: np.ndarray, out: np.ndarray) -> int:
        """Run many steps of each block, in threads if there is enough to do."""
        threads, steps = 1, len(rows)
        if steps * self.seconds >= costs.THREADS_SECONDS:
            threads = min(self.division.count, processors())
        if threads == 1:
            self._advance_in_order(rows, out)
            return steps
        while len(self._workplaces) < threads:
            self._workplaces.append(Workplace(self.places.memory.size))
        (state, _, fixed, *_), division = self._single, self.division

        def run(k: int, thread: int) -> None:
            place = self._workplaces[thread]
            given, results = self._rooms(place, steps, ())
            if self._row:
                division.put(rows, k, given)
            self._run(
                *(state + k * self._stride, place.memory.ctypes.data, fixed),
                *(given.ctypes.data, results.ctypes.data, steps, self._callback),
            )
            items = division.items(k)
            out[..., items] = results[..., : items.stop - items.start]

        in_threads(division.count, threads, run)
        return steps

    def _advance_in_order(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Run many steps of one block after the other."""
        division, steps = self.division, len(rows)
        given, results = self._rooms(self._workplaces[0], steps, (division.count,))
        if self._row:
            division.spread(rows, given)
        places = given.ctypes.data, results.ctypes.data, steps, self._callback
        apart = self._stride, steps * self._row, steps * self._given_back
        self._run_blocks(*self._single[:3], *places, division.count, *apart)
        division.collect(results, out)

    def _rooms(
        self, place: Workplace, steps: int, lead: tuple[int, ...]
    ) -> tuple[np.ndarray, np.ndarray]:
        """For what some steps of blocks are given, and for what they give."""
        n_in = 0 if self.x is None else len(self.x)
        given = place.given((*lead, steps, n_in, self.division.size), self.dtype)
        return given, place.results((*lead, steps, *self._y_shape), self.dtype)

    @classmethod
    def beside_it(
        cls, step: Callable, weights: Sequence[np.ndarray], main: NativeStep
    ) -> NativeStep:
        """A step with the state and the input of another one, ``main``."""
        n_in, items = None if main.x is None else len(main.x), main.division.size
        return cls(
            step, [], n_in, main.batch, weights, main.dtype, beside=main, items=items
        )
