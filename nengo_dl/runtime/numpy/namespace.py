"""The array namespace on ordinary NumPy arrays, and the operations that it consists of.

Each operation has two faces. Calling it computes the result in a new array; its ``emit``
writes the statements that compute the same into a buffer that exists already. Statements
are chosen for small arrays, where the cost of a call is what counts: the output is a
positional argument, ``out[...] = x`` is half the price of ``numpy.copyto``, a bound
``dot`` or ``take`` saves the dispatch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from nengo.exceptions import SimulationError, ValidationError

from nengo_dl.kernels import windows
from nengo_dl.runtime.numpy.costs import PRODUCTS_BY_DOT, SUM_BY_ADDS
from nengo_dl.runtime.stepwise import HostLog

# operations ---------------------------------------------------------------------------


class Code(Protocol):
    """What `Operation.emit` writes to."""

    def call(self, function: Callable, *args: Any) -> None:
        """Add the statement ``function(*args)``."""

    def assign(self, target: np.ndarray, source: np.ndarray) -> None:
        """Add the statement ``target[...] = source``."""


class Operation:
    """One array operation without its operands.

    It is no abstract class of `abc`, whose instances take several times as long to be
    told apart: plans ask hundreds of times, and that was 1.5 ms of the first run.

    Attributes
    ----------
    aligned : tuple of int
        The operands that the output may overwrite: those of which an element is not
        read any more once the same element of the output has been written.
    copies : int or None
        The operand that is copied to the output first, unless it is there.
    pure : bool
        Whether the operation may be left out, moved, or run once for ever.
    broadcasts : bool
        Whether the operands are broadcast to the shape of the result.
    one_shape : bool
        Whether NumPy has vectorized it for operands of one shape only, numbers
        excluded.
    """

    aligned: tuple[int, ...] = ()
    copies: int | None = None
    pure = True
    broadcasts = False
    one_shape = False

    def __call__(self, *args: np.ndarray) -> Any:
        """The result for ``args`` (a list if there are several), in a new array."""
        return self._compute(*args)

    def emit(self, code: Code, args: Sequence[np.ndarray], *outs: np.ndarray) -> None:
        """Write the statements that compute the results for ``args`` into ``outs``."""
        self._emit(code, args, *outs)

    # any keywords as well: subclasses name the operands that they take

    def _compute(self, *args: Any, **_: Any) -> Any:
        """See `__call__`."""
        raise NotImplementedError(f"{type(self).__name__} has no method _compute")

    def _emit(self, code: Code, args: Sequence[np.ndarray], *outs: Any, **_: Any) -> None:
        """See `emit`."""
        raise NotImplementedError(f"{type(self).__name__} has no method _emit")


def same_place(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays are the same elements at the same positions."""
    return (
        a.ctypes.data == b.ctypes.data
        and a.shape == b.shape
        and a.strides == b.strides
        and a.dtype == b.dtype
    )


class Ufunc(Operation):
    """An elementwise function of one or two operands (broadcast as NumPy does)."""

    aligned = (0, 1)
    broadcasts = True

    def __init__(self, function: np.ufunc) -> None:
        self.function = function
        self.one_shape = function in (np.maximum, np.minimum)

    def _compute(self, *args: np.ndarray) -> np.ndarray:
        return np.asarray(self.function(*args))

    def _emit(self, code: Code, args: Sequence[np.ndarray], out: np.ndarray) -> None:
        code.call(self.function, *args, out)


class Copy(Operation):
    """The operand in a contiguous array of its own, converted to ``dtype``."""

    aligned = (0,)

    def __init__(self, dtype: np.dtype | None = None) -> None:
        self.dtype = dtype

    def _compute(self, x: np.ndarray) -> np.ndarray:
        return np.array(x, dtype=self.dtype, order="C")

    def _emit(self, code: Code, args: Sequence[np.ndarray], out: np.ndarray) -> None:
        if not same_place(args[0], out):
            code.assign(out, args[0])


class Select(Operation):
    """``a`` where ``condition``, else ``b``, by a masked copy: two statements."""

    aligned = (2,)
    copies = 2
    broadcasts = True

    def _compute(self, condition, a, b) -> np.ndarray:
        return np.asarray(np.where(condition, a, b))

    def _emit(self, code: Code, args: Sequence[np.ndarray], out: np.ndarray) -> None:
        condition, a, b = args
        if not same_place(b, out):
            code.assign(out, b)
        # putmask is the faster one, but pairs elements by flat index
        paired = a.size == 1 or (a.shape == out.shape and a.flags.c_contiguous)
        if condition.shape == out.shape and condition.flags.c_contiguous and paired:
            code.call(np.putmask, out, condition, a)
        else:
            code.call(np.copyto, out, a, "same_kind", condition)


class Mask(Operation):
    """All bits set where ``condition`` (or, inverted, where not), as integers.

    What `BitSelect` and `BitKeep` read. The integers are as wide as ``dtype``.
    """

    def __init__(self, dtype: np.dtype, inverted: bool = False) -> None:
        self.dtype = np.dtype(f"i{dtype.itemsize}")
        self.inverted = inverted
        self.one = np.ones((), self.dtype)

    def _compute(self, condition) -> np.ndarray:
        condition = np.asarray(condition)
        bits = ~condition if self.inverted else condition
        return np.array(-bits.astype(self.dtype))

    def _emit(self, code: Code, args: Sequence[np.ndarray], out: np.ndarray) -> None:
        code.assign(out, args[0])
        if self.inverted:
            code.call(np.subtract, out, self.one, out)
        else:
            code.call(np.negative, out, out)


def _bits(x: np.ndarray) -> np.ndarray:
    return x.view(np.dtype(f"i{x.dtype.itemsize}"))


class BitSelect(Operation):
    """``a`` where ``mask``, else ``b``, by ``((a ^ b) & mask) ^ b`` on the bits.

    Three vectorized passes without a branch: for some thousands of elements and more
    it takes a third to a tenth of the time of a masked copy, whatever the condition.
    """

    aligned = (1,)  # b is read again in the last pass
    broadcasts = True

    def _compute(self, mask, a, b) -> np.ndarray:
        return np.asarray(np.where(mask.astype(bool), a, b))

    def _emit(self, code: Code, args: Sequence[np.ndarray], out: np.ndarray) -> None:
        mask, a, b, out = (_bits(x) for x in (*args, out))
        code.call(np.bitwise_xor, a, b, out)
        code.call(np.bitwise_and, out, mask, out)
        code.call(np.bitwise_xor, out, b, out)


class BitKeep(Operation):
    """``a`` where ``mask``, else 0, by ``a & mask`` on the bits."""

    aligned = (1,)
    broadcasts = True

    def _compute(self, mask, a) -> np.ndarray:
        return np.asarray(np.where(mask.astype(bool), a, a.dtype.type(0)))

    def _emit(self, code: Code, args: Sequence[np.ndarray], out: np.ndarray) -> None:
        mask, a = args
        code.call(np.bitwise_and, _bits(a), _bits(mask), _bits(out))


class Take(Operation):
    """The rows ``index`` of the operand (all of them in range, none negative)."""

    def __init__(self, index: np.ndarray) -> None:
        self.index = index

    def _compute(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(x.take(self.index, 0))

    def _emit(self, code: Code, args: Sequence[np.ndarray], out: np.ndarray) -> None:
        # mode "raise" would go through a buffer, to keep `out` whole if it raises
        code.call(args[0].take, self.index, 0, out, "clip")


class Concat(Operation):
    """The operands one below the other (along axis 0)."""

    MANY = 8  # from here on one call is cheaper than one assignment for each part

    def _compute(self, *args: np.ndarray) -> np.ndarray:
        return np.concatenate(args, 0)

    def _emit(self, code: Code, args: Sequence[np.ndarray], out: np.ndarray) -> None:
        start = 0
        missing = []
        for part in args:
            place = out[start : start + len(part)]
            start += len(part)
            if not same_place(part, place):
                missing.append((place, part))
        if len(missing) == len(args) >= self.MANY:
            code.call(np.concatenate, list(args), 0, out)
            return
        for place, part in missing:
            code.assign(place, part)


class Embed(Operation):
    """The operand in an array of zeros.

    Parameters
    ----------
    shape : tuple of int
        Shape of the result.
    place : tuple of slice
        Where the operand stands in it.
    """

    def __init__(self, shape: tuple[int, ...], place: tuple[slice, ...]) -> None:
        self.shape = shape
        self.place = place

    def _compute(self, x: np.ndarray) -> np.ndarray:
        result = np.zeros(self.shape, x.dtype)
        result[self.place] = x
        return result

    def _emit(self, code: Code, args: Sequence[np.ndarray], out: np.ndarray) -> None:
        code.call(out.fill, 0)  # the buffer has been used for something else since
        code.assign(out[self.place], args[0])


class Sum(Operation):
    """The sum over one axis, of at least two terms."""

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def _compute(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(np.add.reduce(x, self.axis))

    def _emit(self, code: Code, args: Sequence[np.ndarray], out: np.ndarray) -> None:
        (x,) = args
        n = x.shape[self.axis]
        if x.ndim == 1 or n > SUM_BY_ADDS:
            code.call(np.add.reduce, x, self.axis, None, out)
            return
        before = (slice(None),) * self.axis
        terms = [x[(*before, i)] for i in range(n)]
        code.call(np.add, terms[0], terms[1], out)
        for term in terms[2:]:
            code.call(np.add, out, term, out)


class Matmul(Operation):
    """The matrix product, or a stack of them, as `numpy.matmul`."""

    def _compute(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray(np.matmul(a, b))

    def _emit(self, code: Code, args: Sequence[np.ndarray], out: np.ndarray) -> None:
        a, b = args
        if a.ndim == b.ndim == 2:
            code.call(a.dot, b, out)
        elif max(a.ndim, b.ndim) == out.ndim == 3 and len(out) <= PRODUCTS_BY_DOT:
            a = np.broadcast_to(a, (len(out), *a.shape[-2:]))
            b = np.broadcast_to(b, (len(out), *b.shape[-2:]))
            for i in range(len(out)):
                code.call(a[i].dot, b[i], out[i])
        else:
            code.call(np.matmul, a, b, out)


class HostCall(Operation):
    """A call of a Python function of arrays, ``function(list) -> list``.

    Not pure: it is called once a step, at its place among the other host calls.

    Parameters
    ----------
    function : callable
        Gets the inputs as read-only arrays that are valid during the call only, and
        returns one array ``(size, batch)`` for each of ``sizes``.
    sizes : sequence of int
        Rows of each result.
    """

    pure = False

    def __init__(self, function: Any, sizes: Sequence[int]) -> None:
        self.log = HostLog()
        self.function = function
        self.sizes = [int(size) for size in sizes]
        self.resumes = False

    def results(self, args: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Call the function and check the number of results."""
        returned = self._returned if self.resumes else self.function
        results = [np.asarray(r) for r in returned(list(args))]
        if len(results) != len(self.sizes):
            raise SimulationError(
                f"{self.label}: the function returned {len(results)} arrays; expected "
                f"{len(self.sizes)}, one for each of the sizes {self.sizes}."
            )
        return results

    def _returned(self, args: list[np.ndarray]) -> Sequence:
        """What the function returns; after a failure it goes on where it was."""
        function, begun = self.function, self.log.begun
        out, done, error = function.attempt(args, begun=begun.pop(function, None))
        if error is not None:
            begun[function] = out, done
            raise error
        return function.outputs(out)

    def check(self, i: int, result: np.ndarray, shape: tuple[int, ...]) -> None:
        """Refuse a result that would only fit by broadcasting."""
        if result.shape != shape:
            raise SimulationError(
                f"{self.label}: result {i} has shape {result.shape}; expected {shape}, "
                "which is (size, batch)."
            )

    @property
    def label(self) -> str:
        """The function's name, for messages."""
        return f"host_call({getattr(self.function, '__qualname__', self.function)!s})"

    def _compute(self, *args: np.ndarray) -> list[np.ndarray]:
        results = self.results(args)
        for i, (result, size) in enumerate(zip(results, self.sizes, strict=True)):
            batch = args[0].shape[-1:] if args else result.shape[-1:]
            self.check(i, result, (size, *batch))
        return results

    @property
    def shared(self) -> list:
        """See `nengo_dl.kernels.functions.HostFunction`."""
        shared = getattr(self.function, "shared", None)
        return shared() if shared else []

    def there(self, outs: Sequence[np.ndarray]) -> set[int]:
        """The outputs that the function writes where they belong."""
        return {
            number
            for array, _, number in self.shared
            if number is not None and np.shares_memory(array, outs[number])
        }

    def _emit(self, code: Code, args: Sequence[np.ndarray], *outs: np.ndarray) -> None:
        inputs = [x.view() for x in args]
        for x in inputs:
            x.flags.writeable = False

        log, call = self.log, self.results
        there = self.there(outs)

        def host() -> None:
            called = not log.again
            results = call(inputs) if called else log.again.pop(0)
            if log.results is not None:
                log.results.append(results)
            for i, (out, r) in enumerate(zip(outs, results, strict=True)):
                self.check(i, r, out.shape)
                if not (called and i in there):
                    out[...] = r

        code.call(host)


# the namespace ------------------------------------------------------------------------

LOGICAL = (np.logical_and, np.logical_or, np.logical_xor, np.logical_not)


def is_bool(x: Any) -> bool:
    """Whether ``x``, an array or a number, is boolean."""
    return isinstance(x, bool) or getattr(x, "dtype", None) == np.dtype(bool)


class NumpyNamespace:
    """The array namespace on ordinary NumPy arrays.

    Python numbers and arrays of other floating-point types become ``dtype``; boolean
    operands of arithmetic become 0 and 1.

    Parameters
    ----------
    dtype : dtype-like
        "float32" or "float64".

    Examples
    --------
    >>> xp = NumpyNamespace("float32")
    >>> xp.clip(np.array([[-1.0], [0.5]]), 0, 1)
    array([[0. ],
           [0.5]], dtype=float32)
    """

    def __init__(self, dtype: Any) -> None:
        self.dtype = np.dtype(dtype)
        # exp of this is finite, and as good as infinite in 1 / (1 + exp(x))
        self._largest_exponent = float(np.floor(np.log(np.finfo(self.dtype).max)))

    def float(self, value: Any) -> np.floating:
        """A scalar of the namespace's dtype."""
        return self.dtype.type(value)

    def constant(self, value: Any) -> np.ndarray:
        """A constant array of the namespace's dtype."""
        return np.asarray(value, self.dtype)

    # -- how an operation is carried out: the recorder overrides these three

    def _apply(self, operation: Operation, *args: Any) -> Any:
        return operation(*(self._operand(x) for x in args))

    def _view(self, x: Any, function: Callable[[np.ndarray], np.ndarray]) -> Any:
        return function(self._operand(x))

    def _select(self, condition: Any, a: Any, b: Any) -> Any:
        return self._apply(Select(), condition, a, b)

    def _operand(self, x: Any) -> np.ndarray:
        """``x`` as an array of ``dtype``, or of bool."""
        x = np.asarray(x)
        return x if x.dtype == bool else x.astype(self.dtype, copy=False)

    def _ufunc(self, function: np.ufunc, *args: Any) -> Any:
        """Apply an elementwise function; arithmetic takes booleans as 0 and 1."""
        args = tuple(x if hasattr(x, "dtype") else self._operand(x) for x in args)
        logical = function in LOGICAL
        if logical and any(x.dtype != bool for x in args):
            raise TypeError(
                f"{function.__name__} of arrays of {[str(x.dtype) for x in args]}; "
                "expected boolean arrays, such as the result of a comparison."
            )
        if not logical:
            args = tuple(self._number(x) for x in args)
        return self._apply(Ufunc(function), *args)

    def _number(self, x: Any) -> Any:
        """``x``, with booleans converted to 0 and 1."""
        return self._apply(Copy(self.dtype), x) if is_bool(x) else x

    def _numbers(self, arrays: Sequence[Any]) -> list[Any]:
        """``arrays``, converted to numbers unless all of them are booleans."""
        if all(is_bool(x) for x in arrays):
            return list(arrays)
        return [self._number(x) for x in arrays]

    # -- rows and shapes

    def take(self, x: Any, idx: Any) -> Any:
        """See `.ArrayNamespace.take`; rows at equal distances are a view."""
        n, idx = x.shape[0], np.asarray(idx)
        if idx.size == 0:  # an empty list is an array of floats
            idx = idx.astype(np.intp)
        valid = idx.dtype.kind in "iu" and idx.ndim
        if not valid or (idx.size and not 0 <= idx.min() <= idx.max() < n):
            raise ValidationError(
                f"expected an array of integers from 0 to {n - 1}, the rows of the "
                f"array; got {idx.dtype} from {idx.min()} to {idx.max()}",
                attr="take",
                obj=self,
            )
        if idx.ndim == 1 and idx.size:
            first, last = int(idx[0]), int(idx[-1])
            step = (last - first) // (idx.size - 1) if idx.size > 1 else 1
            if step > 0 and (idx == first + step * np.arange(idx.size)).all():
                return self._view(x, lambda array: array[first : last + 1 : step])
        return self._apply(Take(idx.astype(np.intp)), self._contiguous(x))

    def _contiguous(self, x: Any) -> Any:
        return self._view(x, np.ascontiguousarray)

    def concat(self, arrays: Sequence[Any]) -> Any:
        """``arrays`` one below the other (along axis 0)."""
        arrays = self._numbers(arrays)
        return arrays[0] if len(arrays) == 1 else self._apply(Concat(), *arrays)

    def reshape(self, x: Any, shape: Sequence[int]) -> Any:
        """``x`` in another shape, of which one size may be -1."""
        return self._view(x, lambda array: array.reshape(shape))

    def transpose(self, x: Any, perm: Sequence[int]) -> Any:
        """``x`` with its axes in the order ``perm``."""
        return self._view(x, lambda array: array.transpose(perm))

    def broadcast(self, x: Any, shape: Sequence[int]) -> Any:
        """``x`` repeated to ``shape`` by NumPy's rules."""
        return self._view(x, lambda array: np.broadcast_to(array, shape))

    def zeros(self, shape: Sequence[int]) -> np.ndarray:
        """An array of zeros of this shape."""
        return np.zeros(shape, self.dtype)

    def zeros_like(self, x: Any) -> np.ndarray:
        """Zeros in the shape of ``x``."""
        return np.zeros(x.shape, self.dtype)

    def ones_like(self, x: Any) -> np.ndarray:
        """Ones in the shape of ``x``."""
        return np.ones(x.shape, self.dtype)

    # -- elementwise

    def where(self, c: Any, a: Any, b: Any) -> Any:
        """``a`` where ``c``, else ``b``."""
        return self._select(c, *self._numbers((a, b)))

    def maximum(self, a: Any, b: Any) -> Any:
        """The larger of ``a`` and ``b``."""
        return self._ufunc(np.maximum, a, b)

    def relu(self, x: Any) -> Any:
        """The positive part; the gradient is zero where ``x`` is zero."""
        return self.maximum(x, 0)

    def minimum(self, a: Any, b: Any) -> Any:
        """The smaller of ``a`` and ``b``."""
        return self._ufunc(np.minimum, a, b)

    def clip(self, x: Any, lo: Any, hi: Any) -> Any:
        """``x``, or the limit that it exceeds."""
        return self.maximum(self.minimum(x, hi), lo)

    def abs(self, x: Any) -> Any:
        """The absolute value."""
        return self._ufunc(np.absolute, x)

    def sign(self, x: Any) -> Any:
        """-1, 0 or 1."""
        return self._ufunc(np.sign, x)

    def sqrt(self, x: Any) -> Any:
        """The square root."""
        return self._ufunc(np.sqrt, x)

    def floor(self, x: Any) -> Any:
        """The largest integer that is not larger, as a floating-point number."""
        return self._ufunc(np.floor, x)

    def exp(self, x: Any) -> Any:
        """The exponential."""
        return self._ufunc(np.exp, x)

    def log(self, x: Any) -> Any:
        """The natural logarithm."""
        return self._ufunc(np.log, x)

    def tanh(self, x: Any) -> Any:
        """The hyperbolic tangent."""
        return self._ufunc(np.tanh, x)

    def sigmoid(self, x: Any) -> Any:
        """``1 / (1 + exp(-x))``, without overflow for any ``x``."""
        exponent = self.minimum(self._ufunc(np.negative, x), self._largest_exponent)
        return self._ufunc(np.divide, 1.0, self._ufunc(np.add, self.exp(exponent), 1.0))

    def expm1(self, x: Any, bound: float | None = None) -> Any:
        """``exp(x) - 1`` to full precision, whatever ``bound`` is."""
        return self._ufunc(np.expm1, x)

    def log1p(self, x: Any, bound: float | None = None) -> Any:
        """``log(1 + x)`` to full precision, whatever ``bound`` is."""
        return self._ufunc(np.log1p, x)

    def power(self, x: Any, y: Any) -> Any:
        """``x`` to the power of ``y``."""
        if isinstance(y, (int, float)) and y == 2:
            return self._ufunc(np.multiply, x, x)
        return self._ufunc(np.power, x, y)

    # -- reductions and products

    def matmul(self, a: Any, b: Any) -> Any:
        """The matrix product, or a stack of them, as `numpy.matmul`."""
        a, b = self._number(a), self._number(b)
        if min(len(a.shape), len(b.shape)) > 2 and a.shape[-1] == b.shape[-2] == 1:
            return self._ufunc(np.multiply, a, b)
        return self._apply(Matmul(), a, b)

    def sum(self, x: Any, axis: int) -> Any:
        """The sum over one axis."""
        axis = range(len(x.shape))[axis]
        if x.shape[axis] == 1:
            return self.reshape(x, x.shape[:axis] + x.shape[axis + 1 :])
        return self._apply(Sum(axis), self._number(x))

    def matvec(self, a: Any, x: Any) -> Any:
        """See `.ArrayNamespace.matvec`."""
        groups, _, k, _ = a.shape
        return self.sum(a * self.reshape(x, (groups, 1, k, -1)), 2)

    # -- convolutions

    def conv(
        self,
        x: Any,
        w: Any,
        strides: Sequence[int],
        padding: str,
        groups: int = 1,
    ) -> Any:
        """See `.ArrayNamespace.conv`; one product of all windows with the filters."""
        kernel = w.shape[:-2]
        spans = windows.forward(x.shape[1:-1], kernel, strides, padding)
        return self._conv(self._embed(x, spans), w, spans, groups)

    def conv_transpose(
        self,
        x: Any,
        w: Any,
        strides: Sequence[int],
        padding: str,
        size: Sequence[int],
    ) -> Any:
        """See `.ArrayNamespace.conv_transpose`."""
        kernel = w.shape[:-2]
        spans = windows.transposed(x.shape[1:-1], kernel, strides, padding, size)
        flip = (slice(None, None, -1),) * len(kernel)
        w = self._view(w, lambda array: array[flip])
        return self._conv(self._embed(x, spans, strides), w, spans, 1)

    def _embed(
        self,
        x: Any,
        spans: Sequence[windows.Windows],
        dilation: Sequence[int] | None = None,
    ) -> Any:
        """``x`` with the borders of ``spans``, and zeros between its entries."""
        frame = windows.embedding(x.shape[1:-1], spans, dilation)
        shape = (x.shape[0], *frame.shape, x.shape[-1])
        if shape == x.shape:
            return self._contiguous(x)
        x = self._view(x, lambda array: array[(slice(None), *frame.inside)])
        return self._apply(Embed(shape, (slice(None), *frame.place)), self._number(x))

    def _conv(self, x: Any, w: Any, spans: Sequence[windows.Windows], groups: int) -> Any:
        """Windows of the embedded ``x`` times the filters."""
        kernel, (channels, filters) = w.shape[:-2], w.shape[-2:]
        batch, counts = x.shape[0], tuple(span.count for span in spans)
        rows, taps = batch * math.prod(counts), math.prod(kernel)
        seen = self._view(x, lambda array: windows.sliding(array, kernel, spans))
        if groups == 1:
            seen = self.reshape(seen, (rows, taps * channels))
            y = self.matmul(seen, self.reshape(w, (taps * channels, filters)))
            return self.reshape(y, (batch, *counts, filters))
        each = filters // groups
        seen = self._view(
            seen, lambda a: np.moveaxis(a.reshape(*a.shape[:-1], groups, channels), -2, 0)
        )  # channels may be taken apart without a copy, whatever the strides are
        seen = self.reshape(seen, (groups, rows, taps * channels))
        w = self.transpose(self.reshape(w, (taps, channels, groups, each)), (2, 0, 1, 3))
        w = self._contiguous(self.reshape(w, (groups, taps * channels, each)))
        y = self.transpose(self.matmul(seen, w), (1, 0, 2))
        return self.reshape(y, (batch, *counts, filters))

    # -- hints and Python code

    def stop_gradient(self, x: Any) -> Any:
        """``x``; there are no gradients here."""
        return x

    def with_gradient(self, x: Any, like: Any) -> Any:
        """``x``; there are no gradients here."""
        return x

    def materialize(self, x: Any) -> Any:
        """``x``; each value is computed once anyway."""
        return x

    def zero_unless(self, x: Any, *causes: Any) -> Any:
        """``x``; all of it is computed."""
        return x

    def host_call(
        self, fn: Callable, inputs: Sequence[Any], sizes: Sequence[int]
    ) -> list[Any]:
        """See `.ArrayNamespace.host_call`."""
        return self._apply(HostCall(fn, sizes), *inputs)

    def tensor_call(
        self, function: Any, inputs: Sequence[Any], weights: Sequence, training: bool
    ) -> list[Any]:
        """See `.ArrayNamespace.tensor_call`; the function is called as Python."""
        return self.host_call(function.on_host(training), inputs, function.sizes)
