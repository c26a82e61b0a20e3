"""What kernels may call: the contract of array namespaces.

A kernel is written once, against a namespace ``xp``. Whatever has these functions can run
all kernels: on arrays of NumPy, on tensors of TensorFlow, on slots of a recorder.
`~nengo_dl.runtime.numpy.namespace.NumpyNamespace` is the reference;
``tests/runtime/test_conformance.py`` compares every namespace with NumPy.

*Arrays.* What the functions take and return are arrays of one floating-point type,
``dtype``, or of booleans where the result of a comparison is meant. Python numbers and
NumPy arrays may stand wherever an array may; they become constants and never widen a
result. Shapes are tuples of int. The last axis is that of the batch items; arrays that
are the same for all items have one column.

*Operators.* Arrays have ``+ - * /``, unary ``-``, ``< <= > >=``, ``& |`` on booleans,
and slices of rows, ``x[a:b]``, with the rules of NumPy for shapes; and the attributes
``shape`` and ``dtype``. Booleans are 0 and 1 in arithmetic. Nothing is ever changed in
place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np

#: an array of the namespace, or a constant that stands for one
Array: TypeAlias = Any


class ArrayNamespace(Protocol):
    """The functions that kernels call.

    Attributes
    ----------
    dtype : numpy.dtype
        The type of all arrays, ``float32`` or ``float64``.
    """

    dtype: np.dtype

    # ---- constants ----------------------------------------------------------------

    def float(self, value: Any, /) -> Any:
        """A number as a scalar of `dtype`."""

    def constant(self, value: Array, /) -> Array:
        """An array as it is; anything else as a constant array of `dtype`."""

    def zeros(self, shape: Sequence[int], /) -> Array:
        """Zeros of a shape that is known."""

    def zeros_like(self, x: Array, /) -> Array:
        """Zeros in the shape of ``x``."""

    def ones_like(self, x: Array, /) -> Array:
        """Ones in the shape of ``x``."""

    # ---- rows and shapes ----------------------------------------------------------

    def take(self, x: Array, idx: np.ndarray, /) -> Array:
        """Rows ``x[idx]``.

        Parameters
        ----------
        x : array ``(n, ...)``
        idx : ndarray of int
            Constant, of any shape, from 0 to ``n - 1``.

        Raises
        ------
        ValidationError
            If an index is no integer, negative or too large.
        """

    def concat(self, arrays: Sequence[Array], /) -> Array:
        """Arrays one below the other, along axis 0."""

    def reshape(self, x: Array, shape: Sequence[int], /) -> Array:
        """The elements of ``x`` in another shape, of which one size may be -1."""

    def transpose(self, x: Array, perm: Sequence[int], /) -> Array:
        """Axes in the order ``perm``."""

    def broadcast(self, x: Array, shape: Sequence[int], /) -> Array:
        """An array repeated to ``shape``, as `numpy.broadcast_to`."""

    # ---- elementwise --------------------------------------------------------------

    def where(self, c: Array, a: Array, b: Array, /) -> Array:
        """``a`` where ``c``, else ``b``."""

    def maximum(self, a: Array, b: Array, /) -> Array:
        """The larger one; where both are equal, ``a`` gets the gradient."""

    def minimum(self, a: Array, b: Array, /) -> Array:
        """The smaller one, with the gradient of `maximum`."""

    def relu(self, x: Array, /) -> Array:
        """The positive part; its gradient is zero where ``x`` is zero."""

    def clip(self, x: Array, lo: Array, hi: Array, /) -> Array:
        """``x``, or the limit that it exceeds; at the limits the gradient is one."""

    def abs(self, x: Array, /) -> Array:
        """The absolute value."""

    def sign(self, x: Array, /) -> Array:
        """-1, 0 or 1."""

    def sqrt(self, x: Array, /) -> Array:
        """The square root."""

    def floor(self, x: Array, /) -> Array:
        """The largest integer that is not larger, as a floating-point number."""

    def exp(self, x: Array, /) -> Array:
        """The exponential."""

    def log(self, x: Array, /) -> Array:
        """The natural logarithm."""

    def tanh(self, x: Array, /) -> Array:
        """The hyperbolic tangent."""

    def sigmoid(self, x: Array, /) -> Array:
        """``1 / (1 + exp(-x))``, without a warning or an overflow for any ``x``."""

    def expm1(self, x: Array, /, bound: Any = None) -> Array:
        """``exp(x) - 1`` to full precision.

        Parameters
        ----------
        x : array
        bound : float, optional
            ``|x|`` never exceeds it. A cheaper formula may be used then, which need not
            hold elsewhere.
        """

    def log1p(self, x: Array, /, bound: Any = None) -> Array:
        """``log(1 + x)`` to full precision; ``bound`` is that of `expm1`."""

    def power(self, x: Array, y: Array, /) -> Array:
        """``x`` to the power of ``y``."""

    # ---- sums and products --------------------------------------------------------

    def sum(self, x: Array, axis: int, /) -> Array:
        """The sum over one axis, which is gone then."""

    def matmul(self, a: Array, b: Array, /) -> Array:
        """The product of matrices or of stacks of them, as `numpy.matmul`.

        Stacks are ``(groups, m, k)`` and ``(groups, k, batch)``; either may have one
        group for all of the other.
        """

    def matvec(self, a: Array, x: Array, /) -> Array:
        """Products of matrices and vectors that both differ between batch items.

        ``(groups, m, k, batch)`` and ``(groups, k, batch)`` give ``(groups, m, batch)``.
        """

    # ---- convolutions -------------------------------------------------------------

    def conv(
        self,
        x: Array,
        w: Array,
        strides: Sequence[int],
        padding: str,
        groups: int = 1,
        /,
    ) -> Array:
        r"""Convolution (without flipping the filters) over one or more axes.

        .. math:: y_{b p k} = \sum_{t, c} w_{t c k} \, x_{b, s p + t, c}

        Parameters
        ----------
        x : array ``(batch, *sizes, channels)``
        w : array ``(*kernel, channels / groups, filters)``
        strides : sequence of int
            One for each axis.
        padding : str
            "same" or "valid", see `nengo_dl.kernels.windows.forward`.
        groups : int
            Channels and filters fall into so many groups that are independent.

        Returns
        -------
        array ``(batch, *counts, filters)``
        """

    def conv_transpose(
        self,
        x: Array,
        w: Array,
        strides: Sequence[int],
        padding: str,
        size: Sequence[int],
        /,
    ) -> Array:
        r"""The transpose of the convolution that makes the sizes of ``x`` of ``size``.

        .. math:: y_{b q k} = \sum_{s p + t = q} \sum_c w_{t c k} \, x_{b p c}

        Parameters
        ----------
        x : array ``(batch, *sizes, channels)``
        w : array ``(*kernel, channels, filters)``
        strides : sequence of int
            One for each axis.
        padding : str
            "same" or "valid", see `nengo_dl.kernels.windows.transposed`.
        size : sequence of int
            Sizes of the axes of the result.

        Returns
        -------
        array ``(batch, *size, filters)``
        """

    # ---- hints and calls ----------------------------------------------------------

    def stop_gradient(self, x: Array, /) -> Array:
        """``x``, through which no gradient flows."""

    def with_gradient(self, x: Array, like: Array, /) -> Array:
        """``x`` to the bit, with the gradient of ``like``, which has its shape."""

    def materialize(self, x: Array, /) -> Array:
        """``x``; a hint that several expressions read it."""

    def zero_unless(self, x: Array, /, *causes: Array) -> Array:
        """``x``; a hint that it is 0 wherever all of ``causes`` are.

        What is added there changes nothing: it can be left out. ``causes`` are broadcast
        to the shape of ``x``, one of them along its rows, say, another along its columns.
        """

    def host_call(
        self, fn: Callable, inputs: Sequence[Array], sizes: Sequence[int], /
    ) -> list[Array]:
        """Call a Python function of NumPy arrays, ``fn(arrays) -> arrays``.

        It is called once in each step, at its place among the other calls, whether or
        not its results are used; its gradient is zero.

        Parameters
        ----------
        fn : callable
            Gets a list of read-only arrays, valid during the call, one for each of
            ``inputs``; returns a list of arrays, one for each of ``sizes``, which it may
            use again.
        inputs : list of array ``(n_i, batch)``
        sizes : list of int
            Rows of each result.

        Returns
        -------
        list of array ``(size, batch)``

        Raises
        ------
        SimulationError
            If ``fn`` returns another number of arrays, or other shapes.
        """
        ...

    def tensor_call(
        self,
        function: Any,
        inputs: Sequence[Array],
        weights: Sequence[Array],
        training: bool,
        /,
    ) -> list[Array]:
        """Call a function of TensorFlow tensors.

        Namespaces that know nothing of tensors call it as Python:
        ``host_call(function.on_host(training), inputs, function.sizes)``.

        Parameters
        ----------
        function : TensorFunction
            See `nengo_dl.runtime.tensorflow.tensor_function`.
        inputs : list of array ``(n_i, batch)``
        weights : list of array
            The present values of its parameters; `on_host` does without them, since it
            has the same values in variables of its own.
        training : bool
            Whether Keras layers behave as in training.

        Returns
        -------
        list of array ``(size, batch)``
        """
        ...
