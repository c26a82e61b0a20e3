"""Array operations of the NumPy executor, each with its two faces.

Calling an operation computes the result in a new array; its ``emit`` writes the
statements that compute the same into a buffer that exists already. Statements are
chosen for small arrays, where the cost of a call is what counts: the output is a
positional argument, ``out[...] = x`` is half the price of ``numpy.copyto``, a bound
``dot`` or ``take`` saves the dispatch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from nengo.exceptions import SimulationError

from nengo_dl.runtime.numpy.costs import PRODUCTS_BY_DOT, SUM_BY_ADDS
from nengo_dl.runtime.stepwise import HostLog


class Code(Protocol):
    """What `Operation.emit` writes to."""

    def call(self, function: Callable, *args: Any) -> None:
        """Add the statement ``function(*args)``."""

    def assign(self, target: np.ndarray, source: np.ndarray) -> None:
        """Add the statement ``target[...] = source``."""


class Operation(ABC):
    """One array operation without its operands.

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

    @abstractmethod
    def _compute(self, *args: Any, **_: Any) -> Any:
        """See `__call__`."""

    @abstractmethod
    def _emit(self, code: Code, args: Sequence[np.ndarray], *outs: Any, **_: Any) -> None:
        """See `emit`."""


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
