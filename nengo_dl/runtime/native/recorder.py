"""The recorder as machine code wants it: without the detours that only pay in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nengo_dl.runtime.numpy.namespace import NumpyNamespace, Operation, Select, is_bool
from nengo_dl.runtime.numpy.recorder import NumpyRecorder, Slot


class Bounded:
    """A function of NumPy, for arguments of which the size is known.

    Parameters
    ----------
    function : ufunc
        `numpy.expm1` or `numpy.log1p`.
    bound : float
        No argument is larger in absolute value.
    """

    def __init__(self, function: Callable, bound: float) -> None:
        self.function, self.bound = function, float(bound)
        self.__name__ = function.__name__

    def __call__(self, *args: np.ndarray) -> np.ndarray:
        """What the function gives."""
        return self.function(*args)


class Unless(Select):
    """A choice of 0 where the other operand is 0 anyhow, see `.zero_unless`."""


def _bounded(function: np.ufunc, bound: float | None) -> Any:
    """A function, for arguments of a known size if there is a bound."""
    return function if bound is None else Bounded(function, bound)


class NativeRecorder(NumpyRecorder):
    """Takes down what a step does, in the form that machine code is made of.

    Selections stay selections and sums stay sums, no operand is repeated to the shape of
    a result, and what kernels know about arguments is written down.
    """

    def sum(self, x: Any, axis: int) -> Any:
        """See `.ArrayNamespace.sum`."""
        return NumpyNamespace.sum(self, x, axis)

    def expm1(self, x: Any, bound: float | None = None) -> Any:
        """See `.ArrayNamespace.expm1`."""
        return self._ufunc(_bounded(np.expm1, bound), x)

    def log1p(self, x: Any, bound: float | None = None) -> Any:
        """See `.ArrayNamespace.log1p`."""
        return self._ufunc(_bounded(np.log1p, bound), x)

    def zero_unless(self, x: Any, *causes: Any) -> Any:
        """Say so: 0 is chosen where there is no cause, see `.native.events`.

        Where items have arrays of their own, few elements have a cause in none of them. A
        single cause of all is looked at.
        """
        if self.batch > 1 and any(np.prod(cause.shape) > 1 for cause in causes):
            return x
        some: Any = None
        for cause in causes:
            caused = cause if is_bool(cause) else self._ufunc(np.not_equal, cause, 0.0)
            some = caused if some is None else some | caused
        return self._apply(Unless(), some, x, self.zeros_like(x))

    def _select(self, condition: Any, a: Any, b: Any) -> Any:
        return NumpyNamespace._select(self, condition, a, b)

    def _fit(self, x: Any, shape: tuple[int, ...], operation: Operation) -> Any:
        if isinstance(x, Slot) or x.size == 0:
            return x
        first = x.flat[0]
        if x.size == 1:
            return np.array(first)
        same = (x == first).all() and (np.signbit(x) == np.signbit(first)).all()
        return np.array(first) if same else x
