"""The NumPy tier: a step function becomes generated Python code of array calls.

A step is written against an array namespace ``xp``. `NumpyNamespace` runs it on
ordinary arrays, operation by operation: slow, but there is nothing to it. `NumpyStep`
runs it once on the slots of a `NumpyRecorder`, which takes down what is done to them,
and replays that into buffers that never move: no array is allocated in a step, a view
costs nothing, and what depends on weights and constants alone is computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from nengo.exceptions import ValidationError

from nengo_dl.runtime.numpy_codegen import Instruction, Program, Value, View, generate
from nengo_dl.runtime.numpy_namespace import NumpyNamespace, is_bool
from nengo_dl.runtime.numpy_ops import (
    BitKeep,
    BitSelect,
    Concat,
    Copy,
    HostCall,
    Mask,
    Matmul,
    Operation,
    Select,
)

__all__ = ["NumpyNamespace", "NumpyRecorder", "NumpyStep", "Slot"]

SELECT_BY_BITS = 2048
"""From this number of elements on, `where` works on bits instead of copying."""

EXPAND_BATCH = 16
"""Constants ``(n, 1)`` are repeated along batches up to this size: the inner loop of a
broadcast is so short there that it takes five times as long."""

NEUTRAL = {np.multiply: 1, np.divide: 1, np.power: 1}
"""Second operands that change nothing."""


def _binary(function: np.ufunc) -> tuple[Callable, Callable]:
    def forward(self: Slot, other: Any) -> Any:
        return self.recorder._ufunc(function, self, other)

    def backward(self: Slot, other: Any) -> Any:
        return self.recorder._ufunc(function, other, self)

    return forward, backward


def _unary(function: np.ufunc) -> Callable:
    return lambda self: self.recorder._ufunc(function, self)


class Slot:
    """A recorded array: what the step function gets in place of one.

    Supports arithmetic (``+ - * / ** @`` and unary ``-``), comparisons, ``& | ^ ~`` on
    booleans, ``abs``, basic indexing, and everything in `NumpyRecorder`. Its values are
    those of the recording, so they must not decide anything: no ``bool(slot)``.

    Parameters
    ----------
    recorder : NumpyRecorder
        Takes down what is done to the slot.
    value : Value
        What the slot shows elements of.
    array : ndarray
        The elements, at the time of the recording.
    view : View
        Which elements these are.
    """

    __array_ufunc__ = None  # `array * slot` is left to the slot

    def __init__(
        self, recorder: NumpyRecorder, value: Value, array: np.ndarray, view: View
    ) -> None:
        self.recorder, self.value, self.array, self.view = recorder, value, array, view

    shape = property(lambda self: self.array.shape, doc="Sizes of the axes.")
    ndim = property(lambda self: self.array.ndim, doc="Number of axes.")
    size = property(lambda self: self.array.size, doc="Number of elements.")
    dtype = property(lambda self: self.array.dtype, doc="Type of the elements.")

    __add__, __radd__ = _binary(np.add)
    __sub__, __rsub__ = _binary(np.subtract)
    __mul__, __rmul__ = _binary(np.multiply)
    __truediv__, __rtruediv__ = _binary(np.divide)
    __and__, __rand__ = _binary(np.logical_and)
    __or__, __ror__ = _binary(np.logical_or)
    __xor__, __rxor__ = _binary(np.logical_xor)
    __lt__, _ = _binary(np.less)
    __le__, _ = _binary(np.less_equal)
    __gt__, _ = _binary(np.greater)
    __ge__, _ = _binary(np.greater_equal)
    __eq__, _ = _binary(np.equal)
    __ne__, _ = _binary(np.not_equal)
    __neg__ = _unary(np.negative)
    __abs__ = _unary(np.absolute)
    __invert__ = _unary(np.logical_not)
    __hash__ = object.__hash__
    del _

    def __pow__(self, other: Any) -> Any:
        return self.recorder.power(self, other)

    def __rpow__(self, other: Any) -> Any:
        return self.recorder.power(other, self)

    def __matmul__(self, other: Any) -> Any:
        return self.recorder.matmul(self, other)

    def __rmatmul__(self, other: Any) -> Any:
        return self.recorder.matmul(other, self)

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, key: Any) -> Any:
        parts = key if isinstance(key, tuple) else (key,)
        basic = (int, np.integer, slice, type(None), type(Ellipsis))
        if not all(isinstance(p, basic) and not isinstance(p, bool) for p in parts):
            raise TypeError(
                f"A recorded array can be indexed with integers and slices only, not "
                f"with {key!r}; use xp.take for a list of rows."
            )
        return self.recorder._view(self, lambda array: array[key])

    def __bool__(self) -> bool:
        raise TypeError(
            "The values of a recorded array differ from step to step, so they cannot "
            "decide which operations make up the step; use xp.where."
        )

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise TypeError(
            "A recorded array cannot become a NumPy array, because its values differ "
            "from step to step; use the functions of xp instead of those of numpy."
        )

    def __repr__(self) -> str:
        return f"<Slot {self.value.kind} {self.shape} {self.dtype}>"


class NumpyRecorder(NumpyNamespace):
    """The array namespace on slots: takes down what the step function does.

    Operations without a slot among their operands are carried out at once. A host call
    is not carried out: its results are zeros during the recording.

    Parameters
    ----------
    dtype : dtype-like
        "float32" or "float64".
    batch : int
        Last axis of the results of a host call without inputs.

    Attributes
    ----------
    program : Program
        What was recorded.
    """

    def __init__(self, dtype: Any, batch: int = 1) -> None:
        super().__init__(dtype)
        self.batch = batch
        self.program = Program()
        self._masks: dict[tuple, Slot] = {}

    def slot(self, array: np.ndarray, kind: str) -> Slot:
        """A slot for an array that does not move: a carry, the input or a weight."""
        value = Value(array.shape, array.dtype, kind, array)
        return Slot(self, value, array, View.of(value, array, array))

    def view(self, x: Any) -> View:
        """``x``, a slot or a constant, as an operand or a result."""
        if isinstance(x, Slot):
            return x.view
        array = self._operand(x)
        value = Value(array.shape, array.dtype, "constant", array)
        return View.of(value, array, array)

    def _view(self, x: Any, function: Callable[[np.ndarray], np.ndarray]) -> Any:
        if not isinstance(x, Slot):
            return super()._view(x, function)
        result = function(x.array)
        if result.size == 0:
            return np.empty(result.shape, result.dtype)
        if not np.may_share_memory(result, x.array):  # NumPy had to copy: so do we
            return self._view(self._apply(Copy(), x), function)
        offset = result.ctypes.data - x.array.ctypes.data + x.view.offset
        moves = x.value.kind == "temp"
        view = View(
            x.value,
            offset,
            result.shape,
            result.strides,
            result.flags.c_contiguous,
            None if moves else result,
        )
        return Slot(self, x.value, result, view)

    def _ufunc(self, function: np.ufunc, *args: Any) -> Any:
        if function in NEUTRAL:
            x, y = args
            if function is np.multiply and not isinstance(x, Slot):
                x, y = y, x
            if self._is_neutral(x, y, NEUTRAL[function]):
                return x
        return super()._ufunc(function, *args)

    def _is_neutral(self, x: Any, y: Any, neutral: float) -> bool:
        if isinstance(y, Slot) or not isinstance(x, Slot) or x.dtype != self.dtype:
            return False
        y = np.asarray(y)
        return np.broadcast_shapes(x.shape, y.shape) == x.shape and (y == neutral).all()

    def _select(self, condition: Any, a: Any, b: Any) -> Any:
        shape = np.broadcast_shapes(*(np.shape(_array(x)) for x in (condition, a, b)))
        numbers = not (is_bool(a) and is_bool(b))
        large = np.prod(shape) >= SELECT_BY_BITS
        if not (isinstance(condition, Slot) and numbers and large):
            return self._apply(Select(), condition, a, b)
        if _is_zero(b):
            return self._apply(BitKeep(), self._mask(condition, False), a)
        if _is_zero(a):
            return self._apply(BitKeep(), self._mask(condition, True), b)
        return self._apply(BitSelect(), self._mask(condition, False), a, b)

    def _mask(self, condition: Slot, inverted: bool) -> Any:
        view = condition.view
        key = (view.value, view.offset, view.shape, view.strides, inverted)
        if key not in self._masks:
            self._masks[key] = self._apply(Mask(self.dtype, inverted), condition)
        return self._masks[key]

    def _apply(self, operation: Operation, *args: Any) -> Any:
        slots = [x for x in args if isinstance(x, Slot)]
        if operation.pure and not slots:
            return super()._apply(operation, *args)
        args = tuple(x if isinstance(x, Slot) else self._operand(x) for x in args)
        if isinstance(operation, HostCall):
            return self._host_call(operation, args)
        result = operation(*(_array(x) for x in args))
        if result.size == 0:
            return result
        if result.dtype.kind == "f":
            result = result.astype(self.dtype, copy=False)
        if result.ndim:
            result = np.ascontiguousarray(result)
        if not isinstance(operation, (Concat, Matmul)):
            args = tuple(_fit_constant(x, result.shape) for x in args)
        once = all(x.value.kind == "weight" for x in slots)
        return self._record(operation, args, [result], once)[0]

    def _host_call(self, operation: HostCall, args: Sequence[Any]) -> list[Any]:
        batch = args[0].shape[-1] if args else self.batch
        results = [np.zeros((size, batch), self.dtype) for size in operation.sizes]
        return self._record(operation, args, results, once=False)

    def _record(
        self,
        operation: Operation,
        args: Sequence[Any],
        results: Sequence[np.ndarray],
        once: bool,
    ) -> list[Slot]:
        """Add an instruction, to those that run once or to those of each step."""
        slots = []
        for array in results:
            value = Value(array.shape, array.dtype, "temp")
            if once:
                value.kind, value.array = "weight", array
            slots.append(Slot(self, value, array, View.of(value, array, array)))
        instruction = Instruction(
            operation, [self.view(x) for x in args], [slot.value for slot in slots]
        )
        target = self.program.setup if once else self.program.instructions
        target.append(instruction)
        return slots


def _array(x: Any) -> np.ndarray:
    return x.array if isinstance(x, Slot) else np.asarray(x)


def _is_zero(x: Any) -> bool:
    return not (isinstance(x, Slot) or np.any(x) or np.any(np.signbit(x)))


def _fit_constant(x: Any, shape: tuple[int, ...]) -> Any:
    """A constant operand in the form that is the fastest for a result of ``shape``."""
    if isinstance(x, Slot) or x.ndim == 0 or x.dtype == bool:
        return x
    first = x.flat[0]
    if (x == first).all() and (np.signbit(x) == np.signbit(first)).all():
        return np.array(first)
    if x.shape != shape and x.shape[-1] == 1 and 1 < shape[-1] <= EXPAND_BATCH:
        return np.ascontiguousarray(np.broadcast_to(x, shape))
    return x


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
        Parameters. They are referenced, not copied: after a change in place the next
        step uses the new values. What the step computes from weights alone (not views
        of them) is computed here and in `refresh`, which has to be called then.
    dtype : dtype-like
        "float32" or "float64", the dtype of everything, weights included.

    Attributes
    ----------
    x : ndarray or None
        Input ``(n_in, batch)``, to be filled before each call.
    y : ndarray or None
        Output ``(n_out, batch)``, valid until the next call or `set_carry`. It may be a
        view of a carry buffer: read it only.
    carry : list of ndarray
        The state, updated in place at the end of each call.
    source : str
        The generated Python code.
    n_calls : int
        Array calls and assignments in a step.

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
    ) -> None:
        recorder = NumpyRecorder(dtype, batch)
        self.dtype = recorder.dtype
        self.carry = [np.array(c, dtype=self.dtype, order="C") for c in carry]
        self.x = None if n_in is None else np.zeros((n_in, batch), self.dtype)
        self._check_weights(weights)
        slots = [recorder.slot(c, "carry") for c in self.carry]
        x = None if self.x is None else recorder.slot(self.x, "input")
        with np.errstate(all="ignore"):
            next_carry, y = step(
                recorder, list(slots), x, [recorder.slot(w, "weight") for w in weights]
            )
        self._check_carry("the step function returned", next_carry)
        program = recorder.program
        program.carry = [slot.value for slot in slots]
        program.next_carry = [recorder.view(c) for c in next_carry]
        if isinstance(y, Slot):
            program.y = y.view
        generated = generate(program)
        self._run, self._setup = generated.step, generated.setup
        constant = None if y is None or program.y else np.array(y, self.dtype)
        self.y = generated.y if program.y else constant
        self.source, self.n_calls = generated.source, generated.n_calls

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
        shapes = [np.shape(_array(value)) for value in values]
        expected = [c.shape for c in self.carry]
        if shapes != expected:
            where = [i for i, s in enumerate(shapes) if expected[i : i + 1] != [s]]
            raise ValidationError(
                f"{what} {len(shapes)} arrays of shapes {shapes}; expected "
                f"{len(expected)} of shapes {expected} (different: {where}).",
                attr="carry",
                obj=self,
            )

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

    def refresh(self) -> None:
        """Compute again what depends on weights alone, after they were changed."""
        self._setup()

    def __call__(self) -> None:
        """Run one step. Floating-point warnings are up to the caller."""
        self._run()
