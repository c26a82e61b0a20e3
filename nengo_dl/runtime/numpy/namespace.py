"""The array namespace on ordinary NumPy arrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from nengo.exceptions import ValidationError

from nengo_dl.kernels import windows
from nengo_dl.runtime.numpy.operations import (
    Concat,
    Copy,
    Embed,
    HostCall,
    Matmul,
    Operation,
    Select,
    Sum,
    Take,
    Ufunc,
)

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
