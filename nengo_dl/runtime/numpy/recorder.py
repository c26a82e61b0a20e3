"""Recording a step: slots stand for arrays, and what is done to them is taken down."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nengo_dl.runtime.numpy.codegen import Instruction, Program, Value, View
from nengo_dl.runtime.numpy.costs import (
    CALL_COST,
    LARGE,
    LOOP_COST,
    ROW_COST,
    SELECT_BY_BITS,
    SHORT_LOOP,
    SMALL,
    SUM_BY_ADDS,
)
from nengo_dl.runtime.numpy.namespace import (
    BitKeep,
    BitSelect,
    Copy,
    HostCall,
    HostLog,
    Mask,
    NumpyNamespace,
    Operation,
    Select,
    is_bool,
)

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
        if Ellipsis not in parts:
            parts += (Ellipsis,)  # so that NumPy gives a view even of one element
        return self.recorder._view(self, lambda array: array[parts])

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
    host_log : HostLog
        Of all host calls.
    """

    def __init__(self, dtype: Any, batch: int = 1) -> None:
        super().__init__(dtype)
        self.batch = batch
        self.program = Program()
        self.host_log = HostLog()
        self._made: dict[tuple, Slot] = {}
        self._parts: dict[Value, list[Any]] = {}

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

    def take_down(
        self,
        step: Callable,
        carry: Sequence[np.ndarray],
        x: np.ndarray | None,
        weights: Sequence[np.ndarray],
    ) -> tuple[Sequence[Any], Any]:
        """Record a step function; `program` is complete then.

        Parameters
        ----------
        step : callable
            ``step(xp, carry, x, weights) -> (next_carry, y)``, called once.
        carry, x, weights : arrays
            What it is given, as slots.

        Returns
        -------
        tuple
            What it returned.
        """
        slots = [self.slot(c, "carry") for c in carry]
        given = None if x is None else self.slot(x, "input")
        with np.errstate(all="ignore"):
            following, y = step(
                self, list(slots), given, [self.slot(w, "weight") for w in weights]
            )
        self.program.carry = [slot.value for slot in slots]
        self.program.next_carry = [self.view(c) for c in following]
        self.program.y = y.view if isinstance(y, Slot) else None
        return following, y

    # -- what is free: views, neutral operands

    def _view(self, x: Any, function: Callable[[np.ndarray], np.ndarray]) -> Any:
        if not isinstance(x, Slot):
            return super()._view(x, function)
        result = function(x.array)
        if result.size == 0:
            return np.empty(result.shape, result.dtype)
        if not np.may_share_memory(result, x.array):  # NumPy had to copy: so do we
            return self._view(self._apply(Copy(), x), function)
        view = View.of(x.value, result, x.array, x.view.offset)
        if view.contiguous and x.value in self._parts:
            part = self._within_part(view)
            if part is not None:
                return part
        return Slot(self, x.value, result, view)

    def _within_part(self, view: View) -> Any:
        """Elements as a view of the only part of a concatenation that they are in.

        Then the concatenation need not be made for them.
        """
        start = view.offset
        for part in self._parts[view.value]:
            array = _array(part)
            if 0 <= start and start + view.nbytes <= array.nbytes:
                if not array.flags.c_contiguous:
                    return None
                first = start // array.itemsize
                elements = slice(first, first + view.nbytes // array.itemsize)
                return self._elements(part, elements, view.shape)
            start -= array.nbytes
        return None

    def _elements(self, x: Any, elements: slice, shape: tuple[int, ...]) -> Any:
        """Consecutive elements of a contiguous array, in another shape."""
        return self._view(x, lambda a: a.reshape(-1)[elements].reshape(shape))

    def concat(self, arrays: Sequence[Any]) -> Any:
        """``arrays`` one below the other (along axis 0)."""
        arrays = [
            x if isinstance(x, Slot) else self._operand(x) for x in self._numbers(arrays)
        ]
        arrays = [x for x in arrays if x.shape[0]] or arrays[:1]
        result = super().concat(arrays)
        if len(arrays) > 1 and isinstance(result, Slot):
            self._parts[result.value] = arrays
        return result

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

    # -- the same result by a faster way

    def sum(self, x: Any, axis: int) -> Any:
        """The sum over one axis; a product with ones where NumPy's loops are short."""
        axis = range(len(x.shape))[axis]
        shape, n = x.shape[:axis] + x.shape[axis + 1 :], x.shape[axis]
        outer, inner = math.prod(x.shape[:axis]), math.prod(x.shape[axis + 1 :])
        few = n <= SUM_BY_ADDS or outer * n * inner < SMALL
        if not isinstance(x, Slot) or few or inner >= SHORT_LOOP:
            return super().sum(x, axis)
        ones = np.ones(n, self.dtype)
        if inner == 1:
            y = self.matmul(self.reshape(x, (outer, n)), ones[:, None])
        else:
            y = self.matmul(ones[None], self.reshape(x, (outer, n, inner)))
        return self.reshape(y, shape)

    def _select(self, condition: Any, a: Any, b: Any) -> Any:
        shapes = [np.shape(_array(x)) for x in (condition, a, b)]
        shape = np.broadcast_shapes(*shapes)
        numbers = not (is_bool(a) and is_bool(b))
        large = math.prod(shape) >= SELECT_BY_BITS
        if not (isinstance(condition, Slot) and numbers and large):
            return self._apply(Select(), condition, a, b)
        if _is_zero(b) and np.broadcast_shapes(*shapes[:2]) == shape:
            return self._apply(BitKeep(), self._mask(condition, False), a)
        if _is_zero(a) and np.broadcast_shapes(*shapes[::2]) == shape:
            return self._apply(BitKeep(), self._mask(condition, True), b)
        return self._apply(BitSelect(), self._mask(condition, False), a, b)

    def _mask(self, condition: Slot, inverted: bool) -> Any:
        mask = Mask(self.dtype, inverted)
        return self._once(condition, inverted, lambda: self._apply(mask, condition))

    def _fit(self, x: Any, shape: tuple[int, ...], operation: Operation) -> Any:
        """An operand in the form that is the fastest for a result of ``shape``."""
        size = math.prod(shape)
        if x.dtype != self.dtype:
            return x
        if not isinstance(x, Slot):
            first = x.flat[0]
            if (x == first).all() and (np.signbit(x) == np.signbit(first)).all():
                fill = operation.one_shape and SMALL <= size <= LARGE
                return np.full(shape, first) if fill else np.array(first)
        if x.shape in (shape, ()) or size < SMALL:
            return x
        length, loops = broadcast_loops(x.shape, shape)
        if loops * LOOP_COST <= CALL_COST:
            return x
        if not isinstance(x, Slot) or x.value.kind == "weight":  # it is done only once
            if size > LARGE:
                return x
            return self._once(x, shape, lambda: self._repeated(x, shape))
        if loops * LOOP_COST <= size // length * ROW_COST + CALL_COST:
            return x
        return self._once(x, shape, lambda: self._take_rows(x, shape, length))

    def _repeated(self, x: Any, shape: tuple[int, ...]) -> Any:
        return self._apply(Copy(), self.broadcast(x, shape))

    def _take_rows(self, x: Slot, shape: tuple[int, ...], length: int) -> Slot:
        """``x`` broadcast to ``shape``, row by row: ten times as fast for short rows."""
        size = math.prod(shape)
        elements = np.arange(x.size).reshape(x.shape)
        rows = np.broadcast_to(elements, shape).reshape(size // length, length)[:, 0]
        taken = self.take(self.reshape(x, (-1, length)), rows // length)
        return self.reshape(taken, shape)

    def _once(self, x: Any, key: Any, make: Callable[[], Any]) -> Any:
        """What ``make`` gives, made only once for the elements of ``x`` and ``key``."""
        if not isinstance(x, Slot):
            return make()
        view = x.view
        key = (view.value, view.offset, view.shape, view.strides, key)
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    # -- taking down

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
        once = all(x.value.kind == "weight" for x in slots)
        if operation.broadcasts and not once:
            args = tuple(self._fit(x, result.shape, operation) for x in args)
        return self._record(operation, args, [result], once)[0]

    def _host_call(self, operation: HostCall, args: Sequence[Any]) -> list[Any]:
        batch = args[0].shape[-1] if args else self.batch
        results = [np.zeros((size, batch), self.dtype) for size in operation.sizes]
        operation.log = self.host_log
        # what it returns is written when it has looked at everything
        operation.aligned = tuple(range(len(args)))
        operation.resumes = batch > 1 and hasattr(operation.function, "attempt")
        self.host_log.columns += batch * sum(operation.sizes)
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


def broadcast_loops(shape: tuple[int, ...], out: tuple[int, ...]) -> tuple[int, int]:
    """How NumPy walks through an operand that is broadcast.

    Parameters
    ----------
    shape, out : tuple of int
        Shape of the operand and of the result.

    Returns
    -------
    length : int
        Elements in a row, the axes at the end that are not repeated.
    loops : int
        Number of inner loops; 1 if nothing is repeated.

    Examples
    --------
    >>> broadcast_loops((40, 1, 3), (40, 50, 3))
    (3, 2000)
    >>> broadcast_loops((40, 1), (40, 3))
    (1, 40)
    """
    pairs = list(zip((1,) * (len(out) - len(shape)) + shape, out, strict=True))[::-1]
    matching = 0
    while matching < len(pairs) and pairs[matching][0] == pairs[matching][1]:
        matching += 1
    length = math.prod(b for _, b in pairs[:matching])
    run = length
    if length == 1:
        repeated = matching
        while repeated < len(pairs) and pairs[repeated][0] == 1:
            repeated += 1
        run = math.prod(b for _, b in pairs[:repeated])
    return length, math.prod(out) // max(run, 1)
