"""The array namespace of the TensorFlow executor.

Kernels are written once, against a namespace ``xp`` of about thirty array functions.
Here the arrays are TensorFlow tensors, so that a step can be traced into one program,
compiled by XLA and differentiated. Most functions are a line; the others work around
what XLA on the CPU does badly, and say what was measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf
from nengo.exceptions import ValidationError

from nengo_dl.runtime.numpy.namespace import HostCall
from nengo_dl.runtime.tensorflow import convolution
from nengo_dl.runtime.tensorflow.costs import MAX_DEGREE, MOST_RUN, SMALL_BATCH
from nengo_dl.runtime.tensorflow.gather import fan_out, gather, regular
from nengo_dl.runtime.tensorflow.python_calls import numpy_function

# series -------------------------------------------------------------------------------
#
# Polynomials that equal ``expm1`` and ``log1p`` to rounding on a bounded interval.
# Neurons take these functions of small arguments only, of at most ``dt / tau_rc``.
# There a polynomial of a few terms is exact, and unlike the functions it vectorizes:
# 1.6 against 2.9 ns a neuron for 100,000 of them.


def expm1_coefficients(bound: float, eps: float) -> list[float] | None:
    r"""Taylor coefficients of :math:`(e^x - 1) / x`, enough for ``|x| <= bound``.

    .. math:: e^x - 1 = x \sum_{j=0}^{N-1} \frac{x^j}{(j+1)!} + R_N

    Parameters
    ----------
    bound : float
        Largest absolute value of the argument, not negative.
    eps : float
        Spacing of the floating point numbers at one.

    Returns
    -------
    list of float or None
        Coefficients, lowest power first, so that the relative error of the sum is below
        ``eps / 4`` (half of what rounding the result costs); None if that takes more
        than `MAX_DEGREE` of them.

    Notes
    -----
    With :math:`b` the bound, the terms left out shrink by at least :math:`b / (N + 2)`
    from one to the next, so
    :math:`|R_N| \le \frac{|x|^{N+1}}{(N+1)!} \left(1 - \frac{b}{N+2}\right)^{-1}`.
    And :math:`(e^x - 1) / x` grows with :math:`x`, so
    :math:`|e^x - 1| \ge |x| (1 - e^{-b}) / b`. The quotient is largest at
    :math:`|x| = b`.
    """
    if bound == 0:
        return [1.0]
    slope = -math.expm1(-bound) / bound
    for n in range(1, MAX_DEGREE + 1):
        if bound >= n + 2:
            continue
        remainder = bound**n / math.factorial(n + 1) / (1 - bound / (n + 2))
        if remainder <= eps / 4 * slope:
            return [1 / math.factorial(j + 1) for j in range(n)]
    return None


def log1p_coefficients(bound: float, eps: float) -> list[float] | None:
    r"""Taylor coefficients of :math:`\ln(1 + x) / x`, enough for ``|x| <= bound``.

    .. math:: \ln(1 + x) = x \sum_{j=0}^{N-1} \frac{(-x)^j}{j+1} + R_N

    Parameters and result are those of `expm1_coefficients`.

    Notes
    -----
    The terms left out are at most a geometric series,
    :math:`|R_N| \le \frac{|x|^{N+1}}{(N+1) (1 - b)}`, for a bound :math:`b < 1`. And
    :math:`\ln(1 + x) / x` falls with :math:`x`, so
    :math:`|\ln(1 + x)| \ge |x| \ln(1 + b) / b`.
    """
    if bound == 0:
        return [1.0]
    if bound >= 1:
        return None
    slope = math.log1p(bound) / bound
    for n in range(1, MAX_DEGREE + 1):
        if bound**n / ((n + 1) * (1 - bound)) <= eps / 4 * slope:
            return [(-1) ** j / (j + 1) for j in range(n)]
    return None


# memory for what several operations read ----------------------------------------------
#
# XLA on the CPU evaluates an elementwise expression again in each operation that reads
# it, and if it is long, splits it between threads, which takes longer than a few
# thousand neurons do where the other core is busy. It does neither where the expression
# is written into a part of a larger buffer. So the loop carries buffers of two parts.
# The first one is written and read; which one it is, the program is told when it runs,
# or the compiler would see that the rest of the buffer has no use.
#
# Membrane voltages of 4,096 LIF neurons that three operations read, one item, us a
# step: 20 recomputed, 9 to 16 (idle or busy second core) through a gather, 8 through a
# buffer.


class Measure:
    """Stands in for `Scratch` when it is found out which buffers a step needs.

    Attributes
    ----------
    shapes : list of tuple of int
        Shapes of what was kept.
    forms : list of tuple of int
        Forms in which carried arrays that lie batch first come out of the step, without
        the batch; see `.batch_first.turn_step`.
    """

    def __init__(self) -> None:
        self.shapes: list[tuple] = []
        self.forms: list[tuple] = []

    def keep(self, x: tf.Tensor) -> tf.Tensor:
        """The array itself."""
        self.shapes.append(tuple(x.shape))
        return x


class Scratch:
    """The buffers of one step.

    Parameters
    ----------
    buffers : list of tf.TensorArray
        One of two elements for each call of `keep`, in their order; see `Scratch.empty`.
    part : scalar tensor of int32
        The element to use, which is always the first: a zero that the compiler does not
        know to be one.

    Attributes
    ----------
    buffers : list of tf.TensorArray
        The same after what was kept until now.
    """

    def __init__(self, buffers: Sequence[tf.TensorArray], part: tf.Tensor) -> None:
        self.buffers = list(buffers)
        self.part = part
        self.used = 0

    @staticmethod
    def empty(shape: tuple[int, ...], dtype: Any) -> tf.TensorArray:
        """A buffer for arrays of a shape."""
        return tf.TensorArray(dtype, 2, element_shape=shape, clear_after_read=False)

    def keep(self, x: tf.Tensor) -> tf.Tensor:
        """Write an array into the next buffer, and read it from there."""
        buffer = self.buffers[self.used].write(self.part, x)
        self.buffers[self.used] = buffer
        self.used += 1
        return buffer.read(0)


class GradientPlace:
    """Where the gradient of an array is written before others are made of it.

    The gradient of a neuron's new potential is often that of its input, and that of the
    potential before is made of it. XLA would compute it for both. So it is written where
    the input's gradient belongs, and read from there (one loop backward of 25 steps, 64
    items and 256 neurons: 0.46 instead of 0.55 ms; of 10, 32 and 5,408: 1.9 of 2.4).

    Parameters
    ----------
    array : tf.TensorArray
        Gradients of the inputs of all steps.
    shape : tuple of int
        Of each of them.
    i : tensor of int32
        The step.
    zero : scalar tensor of int32
        That the compiler does not know to be one, see `Scratch`.

    Attributes
    ----------
    array : tf.TensorArray
        The same after what was written.
    kept : tensor or None
        What was written, read from there.
    """

    def __init__(
        self, array: tf.TensorArray, shape: tuple[int, ...], i: Any, zero: tf.Tensor
    ) -> None:
        self.array, self.shape = array, tuple(shape)
        self.kept: tf.Tensor | None = None
        self._places = i, i + zero

    def watch(self, x: tf.Tensor) -> tf.Tensor:
        """The array itself, whose gradient is kept if it is the first of that shape."""
        if tuple(x.shape) != self.shape:
            return x
        return tf.custom_gradient(lambda x: (tf.identity(x), self._keep))(x)

    def _keep(self, gradient):
        if self.kept is not None:
            return gradient
        written, read = self._places
        self.array = self.array.write(written, gradient)
        self.kept = self.array.read(read)
        return self.kept

    def holds(self, gradient: tf.Tensor) -> bool:
        """Whether a gradient, that of the input, is what was kept."""
        while gradient is not self.kept and gradient.op.type in ("Identity", "Reshape"):
            gradient = gradient.op.inputs[0]
        return gradient is self.kept


def measure(xp: Any, step: Callable, specs: Sequence[Sequence[tf.Tensor]]) -> Measure:
    """What a step keeps and carries in which shapes.

    Parameters
    ----------
    xp : TensorFlowNamespace
        The namespace that the step is traced with.
    step : callable
        The step, a function of lists of tensors.
    specs : list of list of tensor
        Tensors of which the arguments have the shapes and types.

    Notes
    -----
    Small steps are run once, with zeros: operation by operation, they run in a fraction
    of the time that they take to trace (a chain of five populations of different types,
    30 neurons each: 14 instead of 90 ms). Others are traced, and the trace is thrown
    away.
    """

    def look() -> Measure:
        xp.scratch = Measure()
        step(*([tf.zeros(t.shape, t.dtype) for t in spec] for spec in specs))
        return xp.scratch

    try:
        return _by_running(look, specs) or _by_tracing(look)
    finally:
        xp.scratch = None


def _by_running(look: Callable[[], Measure], specs: Sequence) -> Measure | None:
    """What ``look`` finds where operations run at once; None if they had better not."""
    shapes = [t.shape for spec in specs for t in spec]
    if not all(shape.is_fully_defined() for shape in shapes):
        return None
    if sum(shape.num_elements() for shape in shapes) > MOST_RUN:
        return None
    with tf.init_scope():
        if not tf.executing_eagerly():
            return None
        try:
            with tf.device("/CPU:0"):
                return look()
        except Exception:  # the trace says what is wrong, if anything is
            return None


def _by_tracing(look: Callable[[], Measure]) -> Measure:
    """What ``look`` finds in a graph that is thrown away."""
    try:
        with tf.Graph().as_default():
            return look()
    except RuntimeError:
        # the step reads variables or tensors from outside, which only the graph of a
        # function can do; that one takes longer to make
        measures: list[Measure] = []
        function = tf.function(lambda: measures.append(look()), autograph=False)
        function.get_concrete_function()
        return measures[-1]


# the namespace ------------------------------------------------------------------------

__all__ = ["TensorFlowNamespace", "fan_out"]

Array = Any  # a tensor, or a NumPy array or number that stands for a constant one


def interrupt_behind(error: BaseException) -> BaseException | None:
    """The interrupt that an error was raised from, or while it was handled, if any."""
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        if isinstance(cause, KeyboardInterrupt | SystemExit):
            return cause
        seen.append(cause)
        cause = cause.__cause__ or cause.__context__
    return None


class TensorFlowNamespace:
    """The functions that kernels call, on TensorFlow tensors.

    All arrays are of one floating point type. Numbers and NumPy arrays may stand
    wherever an array may; they become constants of that type and never widen a result.
    The operators ``+ - * / < <= > >=`` and slices of rows come with the tensors.

    Shapes are those that a trace knows. The last axis (the batch) may be unknown; where
    a kernel passes it on, as ``x.shape[-1]``, `reshape` and `broadcast` look it up.

    Parameters
    ----------
    dtype : dtype
        ``float32`` or ``float64``.
    fast : bool, optional
        Use the formulations that XLA compiles well: polynomials, products written as
        multiply-and-reduce, gathers instead of scatters in gradients. Set to False for
        programs that are not compiled, where each operation costs a dispatch. Results
        agree to rounding.

    Attributes
    ----------
    dtype : numpy.dtype
        Type of all arrays.
    host_errors : list of BaseException
        What functions called by `host_call` raised; see `reraise_host_errors`.
    scratch : Scratch, Measure or None
        Where `materialize` keeps arrays, inside a loop.
    place : GradientPlace or None
        Where it keeps the gradient of one.
    kept : dict or None
        Present values of variables that a loop carries, see `.loop.Kept`.
    items : int or tensor or None
        How many of the ``batch`` items there are, if functions of tensors are to see no
        others; None: all.

    Examples
    --------
    >>> xp = TensorFlowNamespace("float32")
    >>> xp.maximum(xp.zeros((2, 1)), [[-1.0], [2.0]]).numpy().ravel()
    array([0., 2.], dtype=float32)
    """

    def __init__(self, dtype: Any, fast: bool = True) -> None:
        self.dtype = np.dtype(dtype)
        if self.dtype not in (np.float32, np.float64):
            raise ValidationError(
                f"expected 'float32' or 'float64', got {self.dtype.name!r}",
                attr="dtype",
                obj=self,
            )
        self.fast = fast
        self.eps = float(np.finfo(self.dtype).eps)
        self.host_errors: list[BaseException] = []
        self.scratch: Scratch | Measure | None = None
        self.place: GradientPlace | None = None
        self.kept: dict[int, tf.Tensor] | None = None
        self.items: Any = None
        self.batch: int | None = None

    @contextmanager
    def of_items(self, items: Any, batch: int) -> Iterator[None]:
        """Context of the stages of a batch that is not full; see ``items``."""
        self.items, self.batch = items, batch
        try:
            yield
        finally:
            self.items = None

    # ---- constants ----------------------------------------------------------------

    def float(self, v: Any) -> np.floating:
        """The number ``v`` as a scalar of `dtype`."""
        return self.dtype.type(v)

    def constant(self, x: Array) -> tf.Tensor:
        """A tensor as it is; anything else as a constant of `dtype`."""
        if tf.is_tensor(x):
            return tf.convert_to_tensor(x)  # reads a variable
        return tf.constant(np.asarray(x, self.dtype))

    def zeros(self, shape: Sequence[int]) -> tf.Tensor:
        """An array of zeros."""
        return tf.zeros(self._shape(shape), self.dtype)

    def zeros_like(self, x: Array) -> tf.Tensor:
        """An array of zeros, shaped as ``x``."""
        return tf.zeros_like(self.constant(x), self.dtype)

    def ones_like(self, x: Array) -> tf.Tensor:
        """An array of ones, shaped as ``x``."""
        return tf.ones_like(self.constant(x), self.dtype)

    # ---- shapes and rows ----------------------------------------------------------

    def take(self, x: Array, idx: Array) -> tf.Tensor:
        """Rows ``idx`` of ``x``, as ``x[idx]`` for constant non-negative integers.

        Rows that follow a rule are slices and broadcasts, see `.gather.regular`, which
        XLA fuses with what reads them; the rest is a gather.

        The gradient of a gather is no scatter, see `.gather`: 33.9 instead of 92.8 us
        for a permutation of 4096 x 16.
        """
        x = self.constant(x)
        idx = self._index(idx, x.shape[0])
        flat = idx.ravel()
        if flat.size == 0:
            rows = x[:0]
        else:
            rows = regular(x, flat)
            rows = gather(x, flat, self.fast) if rows is None else rows
        return rows if idx.ndim == 1 else self.reshape(rows, idx.shape + x.shape[1:])

    def concat(self, arrays: Sequence[Array]) -> tf.Tensor:
        """The arrays one below the other (along axis 0)."""
        arrays = [self.constant(x) for x in arrays]
        return arrays[0] if len(arrays) == 1 else tf.concat(arrays, 0)

    def reshape(self, x: Array, shape: Sequence[int]) -> tf.Tensor:
        """The elements of ``x`` in another shape, of which one size may be -1."""
        x = self.constant(x)
        shape = tuple(shape)
        if None in shape and -1 not in shape:
            shape = tuple(-1 if s is None else s for s in shape)
        return tf.reshape(x, self._shape(shape, x))

    def transpose(self, x: Array, perm: Sequence[int]) -> tf.Tensor:
        """Axes in the order ``perm``."""
        return tf.transpose(self.constant(x), perm)

    def broadcast(self, x: Array, shape: Sequence[int]) -> tf.Tensor:
        """The array repeated to ``shape``, as `numpy.broadcast_to`."""
        x = self.constant(x)
        return tf.broadcast_to(x, self._shape(shape, x))

    # ---- elementwise --------------------------------------------------------------

    def where(self, c: Array, a: Array, b: Array) -> tf.Tensor:
        """``a`` where ``c``, else ``b``."""
        c = c if tf.is_tensor(c) else tf.constant(np.asarray(c, bool))
        return tf.where(c, self.constant(a), self.constant(b))

    def maximum(self, a: Array, b: Array) -> tf.Tensor:
        """The larger one; where they are equal, ``a`` gets the gradient.

        Not a number in ``a`` stays so; in ``b`` XLA may return ``a``.
        """
        return tf.maximum(self.constant(a), self.constant(b))

    def relu(self, x: Array) -> tf.Tensor:
        """The positive part; the gradient is zero where ``x`` is zero."""
        return tf.nn.relu(self.constant(x))

    def minimum(self, a: Array, b: Array) -> tf.Tensor:
        """The smaller one, with the rules of `maximum`."""
        return tf.minimum(self.constant(a), self.constant(b))

    def clip(self, x: Array, lo: Array, hi: Array) -> tf.Tensor:
        """``x``, or the limit that it exceeds.

        The gradient is that of ``where(x < lo, lo, where(x > hi, hi, x))``: one within
        the limits, the limits included.
        """
        return self.maximum(self.minimum(x, hi), lo)

    def abs(self, x: Array) -> tf.Tensor:
        """Absolute value."""
        return tf.abs(self.constant(x))

    def sign(self, x: Array) -> tf.Tensor:
        """-1, 0 or 1."""
        return tf.sign(self.constant(x))

    def sqrt(self, x: Array) -> tf.Tensor:
        """Square root."""
        return tf.sqrt(self.constant(x))

    def floor(self, x: Array) -> tf.Tensor:
        """Largest integer that is not larger; its gradient is zero."""
        return tf.floor(self.constant(x))

    def exp(self, x: Array) -> tf.Tensor:
        """The exponential."""
        return tf.exp(self.constant(x))

    def log(self, x: Array) -> tf.Tensor:
        """Natural logarithm."""
        return tf.math.log(self.constant(x))

    def tanh(self, x: Array) -> tf.Tensor:
        """Hyperbolic tangent."""
        return tf.tanh(self.constant(x))

    def sigmoid(self, x: Array) -> tf.Tensor:
        """``1 / (1 + exp(-x))``."""
        return tf.sigmoid(self.constant(x))

    def power(self, x: Array, y: Array) -> tf.Tensor:
        """``x`` to the power ``y``."""
        return tf.pow(self.constant(x), self.constant(y))

    def expm1(self, x: Array, bound: float | None = None) -> tf.Tensor:
        r"""``exp(x) - 1``, exact to rounding for small ``x`` too.

        With ``bound``, a number that ``|x|`` never exceeds, it may become a polynomial,
        see `expm1_coefficients`. Outside of the bound the result then has no
        meaning.
        """
        return self._series(expm1_coefficients, tf.math.expm1, x, bound)

    def log1p(self, x: Array, bound: float | None = None) -> tf.Tensor:
        """``log(1 + x)``, exact to rounding for small ``x`` too.

        ``bound`` is as in `expm1`, with `log1p_coefficients`.
        """
        return self._series(log1p_coefficients, tf.math.log1p, x, bound)

    # ---- contractions -------------------------------------------------------------

    def sum(self, x: Array, axis: int) -> tf.Tensor:
        """Sum over one axis."""
        return tf.reduce_sum(self.constant(x), axis)

    def matmul(self, a: Array, b: Array) -> tf.Tensor:
        """The matrix product of the last two axes, as `numpy.matmul`.

        ``[G, m, k] @ [G, k, B]``, measured inside a compiled loop in float32, best of
        several in us (dot; multiply and reduce; transposed, ``(b' a')'``; dot of ``b``
        next to a copy of itself; a broadcast product):

        ================= ======= ====== ====== ====== ====== =====
        shapes            batch   dot    reduce transp copy   broad
        ================= ======= ====== ====== ====== ====== =====
        [128, 32, 1]      1       0.4    0.3    0.4    0.4    0.3
        [128, 32, 1]      16      16.8   15.6   17.6          15.2
        [128, 1, 32]      1       3.2    1.7    3.2    6.8
        [128, 1, 32]      3       11.8   2.7    11.6
        [128, 1, 32]      16      25.3   13.7   42.2
        [20, 1, 500]      1       12.8   4.2    12.4   18.9
        [20, 1, 500]      16      154    182    168
        [1, 64, 2048]     1       5.1    60.1   6.7    26.3
        [1, 64, 2048]     16      30.5   372    30.4
        [1, 2000, 50]     1       4.9    22.7   5.0    17.7
        [1, 2000, 50]     16      43.0   337    49.3
        [20, 16, 500]     1       8.8    27.6   8.5    60.0
        [20, 16, 500]     16      173    585    177
        [1, 1, 2000]      1       0.3    1.1    0.5    0.6
        ================= ======= ====== ====== ====== ====== =====

        So: a product over an inner size of one is a broadcast; several matrices of one
        row are multiplied and reduced while the batch is small; all else, a single
        vector included, is a dot. One matrix against a stack is as fast as any
        rearrangement of it.
        """
        a, b = self.constant(a), self.constant(b)
        if not self.fast:
            return tf.matmul(a, b)
        if a.shape[-1] == 1:
            return a * b
        stacks = a.shape.rank == b.shape.rank == 3 and a.shape[0] == b.shape[0]
        if not stacks:
            return tf.matmul(a, b)
        if a.shape[0] == 1:
            return tf.matmul(a[0], b[0])[None]
        batch = b.shape[-1]
        if a.shape[1] == 1 and batch is not None and batch < SMALL_BATCH:
            product = tf.transpose(a, (0, 2, 1)) * b
            return tf.reduce_sum(product, 1, keepdims=True)
        return tf.matmul(a, b)

    def matvec(self, a: Array, x: Array) -> tf.Tensor:
        """Products of matrices and vectors, see `.ArrayNamespace.matvec`."""
        groups, _, k, _ = a.shape
        return self.sum(self.constant(a) * self.reshape(x, (groups, 1, k, -1)), 2)

    # ---- convolutions -------------------------------------------------------------

    def conv(
        self,
        x: Array,
        w: Array,
        strides: Sequence[int],
        padding: str,
        groups: int = 1,
    ) -> tf.Tensor:
        """Convolution, see `.ArrayNamespace.conv` and `.convolution`."""
        x, w = self.constant(x), self.constant(w)
        return convolution.conv(x, w, strides, padding, groups, self.fast)

    def conv_transpose(
        self,
        x: Array,
        w: Array,
        strides: Sequence[int],
        padding: str,
        size: Sequence[int],
    ) -> tf.Tensor:
        """Transposed convolution, see `.ArrayNamespace.conv_transpose`."""
        x, w = self.constant(x), self.constant(w)
        return convolution.conv_transpose(x, w, strides, padding, size, self.fast)

    # ---- hints and calls ----------------------------------------------------------

    def stop_gradient(self, x: Array) -> tf.Tensor:
        """The array itself, through which no gradient flows."""
        return tf.stop_gradient(self.constant(x))

    def with_gradient(self, x: Array, like: Array) -> Array:
        """``x`` to the bit, with the gradient of ``like``, which has its shape."""

        @tf.custom_gradient
        def first(x, like):
            return tf.identity(x), lambda dy: (tf.zeros_like(x), dy)

        x, like = self.constant(x), self.constant(like)
        if like.shape != x.shape:
            like = like + tf.zeros_like(x)
        return first(tf.stop_gradient(x), like)

    def zero_unless(self, x: Array, *causes: Array) -> Array:
        """``x``; all of it is computed, which is cheaper than branches."""
        return x

    def materialize(self, x: Array) -> Array:
        """The array itself, computed once and kept, however many read it.

        XLA on the CPU evaluates an elementwise expression again in each loop that reads
        it. At small batches this prevents it, with the `scratch` of a loop, or with a
        gather of all rows in their order (a neuron's input current in convolutions of 16
        dimensions: 27 to 6 us a step). From a batch of `SMALL_BATCH` on, where
        vectorized recomputing is cheaper than the gather, it does nothing. The gradient
        passes unchanged.
        """
        x = self.constant(x)
        batch = x.shape[-1]
        if not self.fast or batch is None or batch >= SMALL_BATCH:
            return x if self.place is None else self.place.watch(x)
        if self.scratch is not None:
            return self.scratch.keep(x)

        @tf.custom_gradient
        def gather_all(x):
            rows = tf.constant(np.arange(x.shape[0], dtype=np.int32))
            return tf.gather(x, rows), lambda dy: dy

        return gather_all(x)

    def host_call(
        self, fn: Callable, inputs: Sequence[Array], sizes: Sequence[int]
    ) -> list[tf.Tensor]:
        """See `.ArrayNamespace.host_call`.

        XLA cannot compile a program that holds one.
        """
        inputs = [tf.stop_gradient(self.constant(x)) for x in inputs]
        checked = HostCall(fn, sizes)
        batch = inputs[0].shape[-1] if inputs else None

        def call(*arrays: np.ndarray) -> list[np.ndarray]:
            for x in arrays:
                x.flags.writeable = False
            try:
                # copies, as TensorFlow takes the memory over and ``fn`` may reuse it
                return [np.array(r, self.dtype, order="C") for r in checked(*arrays)]
            except BaseException as error:
                self.host_errors.append(error)
                raise

        types = [tf.as_dtype(self.dtype)] * len(checked.sizes)
        results: Any = numpy_function(call, inputs, types)
        if not checked.sizes:  # called for its side effects
            return []
        if tf.is_tensor(results):  # one result, not in a trace
            results = [results]
        return [
            tf.ensure_shape(result, (size, batch))
            for result, size in zip(results, checked.sizes, strict=True)
        ]

    def tensor_call(
        self, function: Any, inputs: Sequence[Array], weights: Sequence, training: bool
    ) -> list[tf.Tensor]:
        """Call a function of tensors, see `.ArrayNamespace.tensor_call`."""
        if isinstance(self.scratch, Measure) and tf.executing_eagerly():
            # nothing but shapes is asked for; run, it may change variables
            return [self.zeros((size, inputs[0].shape[-1])) for size in function.sizes]
        return function.in_program(self, inputs, weights, training)

    @contextmanager
    def reraise_host_errors(self) -> Iterator[None]:
        """Let errors of functions called by `host_call` come out as they were raised.

        TensorFlow turns an exception in such a function into an error of its own that
        names neither the type nor the place. Around the execution of a program (not its
        trace) this puts the original in its stead. So it does for an interrupt that came
        while TensorFlow's own code ran, which may end in a ``SystemError``.
        """
        self.host_errors.clear()
        try:
            yield
        except (tf.errors.OpError, SystemError) as error:
            original = interrupt_behind(error)
            if self.host_errors:
                original = self.host_errors.pop(0)
            if original is not None:
                raise original from None
            raise

    # ---- inside -------------------------------------------------------------------

    def _shape(self, shape: Sequence[int | None], like: tf.Tensor | None = None) -> Any:
        """A shape whose unknown last size is that of ``like``."""
        shape = tuple(shape)
        if None not in shape:
            return shape
        if like is None or None in shape[:-1]:
            raise ValidationError(
                f"shape {shape} is not known when the program is built. Only the last "
                "size may be unknown, and only where there is an array to take it from "
                "(zeros_like, broadcast, reshape); or give a fixed batch size",
                attr="shape",
                obj=self,
            )
        return (*shape[:-1], tf.shape(like)[-1])

    def _index(self, idx: Array, n: int) -> np.ndarray:
        """Constant row numbers, checked: XLA would clamp what is out of range."""
        idx = np.asarray(idx)
        if idx.size == 0:  # an empty list is an array of floats
            idx = idx.astype(np.int32)
        if idx.dtype.kind not in "iu" or idx.ndim == 0:
            raise ValidationError(
                f"expected an array of integers, got {idx.dtype.name} of shape "
                f"{idx.shape}",
                attr="take",
                obj=self,
            )
        if idx.size and (idx.min() < 0 or idx.max() >= n):
            raise ValidationError(
                f"rows {idx.min()} to {idx.max()} asked for; the array has rows 0 to "
                f"{n - 1}",
                attr="take",
                obj=self,
            )
        return idx.astype(np.int64)

    def _series(
        self, coefficients: Callable, function: Callable, x: Array, bound: float | None
    ) -> tf.Tensor:
        """``x`` times a polynomial if there is a short one, else ``function(x)``."""
        x = self.constant(x)
        if bound is None:
            return function(x)
        bound = float(bound)
        if not (math.isfinite(bound) and bound >= 0):
            raise ValidationError(
                f"expected a finite number that is not negative, got {bound}",
                attr="bound",
                obj=self,
            )
        c = coefficients(bound, self.eps) if self.fast else None
        if c is None:
            return function(x)
        result = c[-1]
        for coefficient in reversed(c[:-1]):  # Horner
            result = result * x + coefficient
        return x * result
