"""The recorder as machine code wants it: without the detours that only pay in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nengo_dl.runtime.numpy.namespace import NumpyNamespace, Operation
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

    def _select(self, condition: Any, a: Any, b: Any) -> Any:
        return NumpyNamespace._select(self, condition, a, b)

    def _fit(self, x: Any, shape: tuple[int, ...], operation: Operation) -> Any:
        if isinstance(x, Slot) or x.size == 0:
            return x
        first = x.flat[0]
        same = (x == first).all() and (np.signbit(x) == np.signbit(first)).all()
        return np.array(first) if same else x
