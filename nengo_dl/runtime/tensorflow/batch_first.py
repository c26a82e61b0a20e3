"""Arrays of the TensorFlow executor that lie in memory with the batch first.

Kernels see arrays ``(n, batch)``. That is the better order where many small matrices are
multiplied and rows are gathered. But library code for convolutions wants ``(batch, ...,
channels)``, and to turn an array of a few megabytes around before and after each of them
takes as long as the convolution. Here an array only *looks* feature-major: it lies in
memory with the last axis first, elementwise functions work on it as it lies, and a
transpose that asks for the batch first gets it for nothing.

A converted network (two convolutions, two dense layers, 28 x 28, batch 64, two cores),
milliseconds: a batch of training 11 instead of 27 (Keras 10.5); a step of spikes 2.7
instead of 12 (the forward pass of Keras 1.6).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from nengo_dl.compiler.layout import Layout
from nengo_dl.compiler.namespace import Array
from nengo_dl.runtime.emit import Emitter, SequenceStages
from nengo_dl.runtime.tensorflow.costs import ARRANGED, REPEATS, SMALL_BATCH
from nengo_dl.runtime.tensorflow.gather import gather, regular
from nengo_dl.runtime.tensorflow.loop import Programs
from nengo_dl.runtime.tensorflow.namespace import Measure, TensorFlowNamespace
from nengo_dl.runtime.tensorflow.spiking_products import dense, times


class BatchFirst:
    """An array ``(*sizes, batch)`` that lies in memory as ``(batch, *sizes)``.

    Parameters
    ----------
    kept : tensor
        It as it lies in memory, ``(batch, *form)``.
    sizes : sequence of int, optional
        How it looks, where that is another shape than its form: a reshape that nobody
        needed yet. A compiled loop finds row and column of each entry by division where
        what it writes is flat and what it reads is a matrix; 2.5 instead of 1.5 ms for a
        learned matrix (64 x 2,048, 64 items).
    """

    __array_ufunc__ = None  # NumPy arrays on the left leave operators to this class

    def __init__(self, kept: Array, sizes: Sequence[int] | None = None) -> None:
        self.kept = kept
        self.form = tuple(kept.shape[1:])
        self.sizes = self.form if sizes is None else tuple(sizes)

    @property
    def value(self) -> Array:
        """The array as it lies in memory, in the shape ``(batch, *sizes)``."""
        return self.formed(self.sizes)

    def formed(self, form: Sequence[int]) -> Array:
        """The entries of the array as ``(batch, *form)``."""
        return _formed(self.kept, form)

    @property
    def shape(self) -> tf.TensorShape:
        """The shape that kernels see, ``(*sizes, batch)``."""
        return tf.TensorShape([*self.sizes, self.kept.shape[0]])

    @property
    def dtype(self) -> tf.DType:
        """The type of the entries."""
        return self.kept.dtype

    def plain(self) -> Array:
        """The array as an ordinary tensor, which lies in memory as it looks."""
        rank = len(self.sizes) + 1
        return tf.transpose(self.value, (*range(1, rank), 0))

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            return BatchFirst(self.value[:, key])
        return self.plain()[key]

    def __neg__(self) -> BatchFirst:
        return BatchFirst(-self.kept, self.sizes)


def _formed(x: Array, form: Sequence[int]) -> Array:
    """The entries of ``(batch, ...)`` as ``(batch, *form)``."""
    if tuple(x.shape[1:]) == tuple(form):
        return x
    batch = tf.shape(x)[0] if x.shape[0] is None else x.shape[0]
    return tf.reshape(x, (batch, *form))


def _aligned(arrays: Sequence[Any]) -> list:
    """Arrays that are to be combined entry by entry, all as they lie batch first."""
    shapes = [len(x.shape) for x in arrays if hasattr(x, "shape")]
    rank = max(shapes, default=0)
    dtype = next(x.dtype for x in arrays if isinstance(x, BatchFirst))
    return [_turned(x, rank, dtype) for x in arrays]


def _together(function: Callable, arrays: Sequence[Any]) -> BatchFirst:
    """What a function of entries makes of arrays, in the form that one of them lies in.

    If all look the same, that with the most axes: entries of a matrix stay a matrix.
    """
    mine = [x for x in arrays if isinstance(x, BatchFirst)]
    form, sizes = max((x.form for x in mine), key=len), mine[0].sizes
    alike = all(x.sizes == sizes for x in mine) and all(
        np.ndim(x) == 0 or tuple(x.shape[:-1]) == sizes
        for x in arrays
        if not isinstance(x, BatchFirst)
    )
    if not alike or form == sizes:
        return BatchFirst(function(*_aligned(arrays)))
    rank, dtype = len(sizes) + 1, mine[0].dtype
    formed = [
        x.formed(form) if isinstance(x, BatchFirst) else _turned(x, rank, dtype)
        for x in arrays
    ]
    formed = [x if np.ndim(x) == 0 else _formed(x, form) for x in formed]
    return BatchFirst(function(*formed), sizes)


def _turned(x: Any, rank: int, dtype: Any) -> Any:
    """An array of any kind with the last of its ``rank`` axes first in memory."""
    if isinstance(x, BatchFirst):
        x = x.value
        for _ in range(rank - x.shape.rank):
            x = tf.expand_dims(x, 1)
        return x
    if not tf.is_tensor(x):
        if np.ndim(x) == 0:
            return x
        kind = np.asarray(x).dtype.kind
        x = tf.constant(x, tf.bool if kind == "b" else dtype)
    if x.shape.rank == 0:
        return x
    x = tf.convert_to_tensor(x)  # reads a variable
    for _ in range(rank - x.shape.rank):
        x = tf.expand_dims(x, 0)
    if x.shape[-1] == 1 and x.shape.is_fully_defined():
        return tf.reshape(x, (1, *x.shape[:-1]))
    return tf.transpose(x, (rank - 1, *range(rank - 1)))


def _operator(name: str) -> Callable:
    """A binary operator of Python on arrays as they lie."""

    def operate(self, other):
        def function(a, b):
            return getattr(tf.convert_to_tensor(a), name)(b)

        return _together(function, [self, other])

    return operate


for _name in ("add", "sub", "mul", "truediv", "and", "or"):
    setattr(BatchFirst, f"__{_name}__", _operator(f"__{_name}__"))
    setattr(BatchFirst, f"__r{_name}__", _operator(f"__r{_name}__"))
for _name in ("lt", "le", "gt", "ge"):
    setattr(BatchFirst, f"__{_name}__", _operator(f"__{_name}__"))


def plain(x: Any) -> Any:
    """An array that lies as it looks; others than `BatchFirst` as they are."""
    return x.plain() if isinstance(x, BatchFirst) else x


def _elementwise(name: str) -> Callable:
    """A function of the namespace that works entry by entry."""

    def function(self, *arrays, **options):
        method = getattr(self.xp, name)
        if not any(isinstance(x, BatchFirst) for x in arrays):
            return method(*arrays, **options)
        return _together(partial(method, **options), arrays)

    function.__name__ = name
    function.__doc__ = f"See `.TensorFlowNamespace.{name}`."
    return function


class BatchFirstNamespace:
    """A namespace whose arrays may lie in memory with the batch first.

    Results are those of the namespace below, to rounding. What this one does not do with
    arrays as they lie, it does with arrays that lie as they look.

    Parameters
    ----------
    xp : TensorFlowNamespace
        The namespace below.
    product : callable, optional
        The product ``x @ a.T`` of rows with one matrix.

    Examples
    --------
    >>> xp = BatchFirstNamespace(TensorFlowNamespace("float32"))
    >>> pictures = BatchFirst(tf.ones((2, 3)))  # two of them, three pixels each
    >>> pictures.shape, (2 * pictures).value.shape
    (TensorShape([3, 2]), TensorShape([2, 3]))
    """

    def __init__(
        self, xp: TensorFlowNamespace, product: Callable[[Any, Any], Any] = dense
    ) -> None:
        self.xp, self.product = xp, product
        self.dtype, self.eps, self.fast = xp.dtype, xp.eps, xp.fast
        self.float, self.zeros = xp.float, xp.zeros

    _name = ""
    for _name in (
        *("zeros_like", "ones_like", "where", "maximum", "minimum", "clip", "relu"),
        *("abs", "sign", "sqrt", "floor", "exp", "log", "tanh", "sigmoid", "power"),
        *("expm1", "log1p", "stop_gradient", "with_gradient"),
    ):
        locals()[_name] = _elementwise(_name)
    del _name

    def constant(self, x: Any) -> Any:
        """An array as it is; anything else as a constant."""
        return x if isinstance(x, BatchFirst) else self.xp.constant(x)

    # ---- shapes and rows ----------------------------------------------------------

    def take(self, x: Any, idx: Any) -> Any:
        """Rows ``idx`` of ``x``."""
        if not isinstance(x, BatchFirst):
            return self.xp.take(x, idx)
        idx = np.asarray(idx)
        flat, rest = idx.ravel(), x.value.shape[2:]
        if flat.size == 0 or rest.rank:
            return self.xp.take(x.plain(), idx)
        y = regular(x.value, flat, axis=1)
        y = gather(x.value, flat, self.fast, axis=1) if y is None else y
        y = y if idx.ndim == 1 else tf.reshape(y, (self._batch(x), *idx.shape))
        return BatchFirst(y)

    def concat(self, arrays: Sequence[Any]) -> Any:
        """The arrays one below the other."""
        if not any(isinstance(x, BatchFirst) for x in arrays):
            return self.xp.concat(arrays)
        values = _aligned(arrays)
        return BatchFirst(values[0] if len(values) == 1 else tf.concat(values, 1))

    def reshape(self, x: Any, shape: Sequence[int]) -> Any:
        """The entries in another shape, without a transpose if the last axis stays."""
        if not isinstance(x, BatchFirst):
            return self.xp.reshape(x, shape)
        if None in x.sizes:  # where the number of steps is not known
            return self.xp.reshape(x.plain(), shape)
        sizes, batch = list(shape[:-1]), shape[-1]
        n, known = math.prod(x.sizes), x.kept.shape[0]
        if -1 in sizes:
            if batch in (-1, None) or batch != known:
                return self.xp.reshape(x.plain(), shape)
            rest = math.prod(size for size in sizes if size != -1)
            sizes[sizes.index(-1)] = n // rest
        if math.prod(sizes) != n or (batch not in (-1, None) and batch != known):
            return self.xp.reshape(x.plain(), shape)
        return BatchFirst(x.kept, sizes)

    def transpose(self, x: Any, perm: Sequence[int]) -> Any:
        """Axes in the order ``perm``."""
        x = self.constant(x)
        last = len(perm) - 1
        if not isinstance(x, BatchFirst):
            if perm[-1] != 0 or last == 0:
                return self.xp.transpose(x, perm)
            return BatchFirst(_permuted(x, (0, *perm[:-1])))
        lies = [0 if axis == last else axis + 1 for axis in perm]
        if perm[-1] == last:
            return BatchFirst(_permuted(x.value, (0, *lies[:-1])))
        return _permuted(x.value, lies)

    def broadcast(self, x: Any, shape: Sequence[int]) -> Any:
        """The array repeated to ``shape``."""
        x = self.constant(x)
        one = x.shape[-1] == 1 and shape[-1] not in (1, None, -1)
        if not isinstance(x, BatchFirst) and not one:
            return self.xp.broadcast(x, shape)
        value = _turned(x, len(shape), x.dtype)
        batch = tf.shape(value)[0] if shape[-1] in (None, -1) else shape[-1]
        return BatchFirst(tf.broadcast_to(value, (batch, *shape[:-1])))

    # ---- contractions -------------------------------------------------------------

    def sum(self, x: Any, axis: int) -> Any:
        """Sum over one axis."""
        if not isinstance(x, BatchFirst):
            return self.xp.sum(x, axis)
        rank = x.value.shape.rank
        axis = axis % rank
        if axis == rank - 1:
            return tf.reduce_sum(x.value, 0)
        return BatchFirst(tf.reduce_sum(x.value, axis + 1))

    def matmul(self, a: Any, b: Any) -> Any:
        """The matrix product of the last two axes."""
        shape = a.shape
        if isinstance(a, BatchFirst) or not isinstance(b, BatchFirst):
            return self.xp.matmul(plain(a), plain(b))
        if shape[-1] == 1:
            return a * b if len(shape) == len(b.shape) else self.xp.matmul(a, b.plain())
        a = self.xp.constant(a)
        if len(shape) == 2 and b.value.shape.rank == 2:
            return BatchFirst(self.product(b.value, a))
        if len(shape) == 3 and b.value.shape.rank == 3 and shape[0] == b.shape[0] == 1:
            return BatchFirst(self.product(b.value[:, 0], a[0])[:, None])
        return self.xp.matmul(a, b.plain())

    def matvec(self, a: Any, x: Any) -> Any:
        """Products of matrices and vectors, see `.ArrayNamespace.matvec`.

        What takes 3.1 ms as products and sums (64 x 2,048, 64 items), takes 0.9 as dots.
        """
        if isinstance(a, BatchFirst) and isinstance(x, BatchFirst):
            return BatchFirst(tf.linalg.matvec(a.value, x.value))
        return self.xp.matvec(plain(a), plain(x))

    def conv(self, x: Any, w: Any, *options: Any) -> Array:
        """See `.TensorFlowNamespace.conv`."""
        return self.xp.conv(plain(x), plain(w), *options)

    def conv_transpose(self, x: Any, w: Any, *options: Any) -> Array:
        """See `.TensorFlowNamespace.conv_transpose`."""
        return self.xp.conv_transpose(plain(x), plain(w), *options)

    # ---- hints and calls ----------------------------------------------------------

    def zero_unless(self, x: Any, *causes: Any) -> Any:
        """``x``; all of it is computed."""
        return x

    def materialize(self, x: Any) -> Any:
        """See `.TensorFlowNamespace.materialize`; only in a loop, with its `scratch`."""
        if not isinstance(x, BatchFirst):
            return self.xp.materialize(x)
        few = x.kept.shape[0] is not None and x.kept.shape[0] < SMALL_BATCH
        if not few and self.xp.place is not None:
            return BatchFirst(self.xp.place.watch(x.value), x.sizes)
        if not few or self.xp.scratch is None:
            return x
        return BatchFirst(self.xp.scratch.keep(x.kept), x.sizes)

    def host_call(self, fn: Callable, inputs: Sequence, sizes: Sequence[int]) -> list:
        """See `.TensorFlowNamespace.host_call`."""
        return self.xp.host_call(fn, [plain(x) for x in inputs], sizes)

    def tensor_call(
        self, function: Any, inputs: Sequence, weights: Sequence, training: bool
    ) -> list:
        """See `.TensorFlowNamespace.tensor_call`."""
        inputs = [plain(x) for x in inputs]
        return self.xp.tensor_call(function, inputs, weights, training)

    # ---- inside -------------------------------------------------------------------

    @staticmethod
    def _batch(x: BatchFirst) -> Any:
        known = x.kept.shape[0]
        return tf.shape(x.kept)[0] if known is None else known


def _permuted(x: Array, perm: Sequence[int]) -> Array:
    """A transpose, unless the axes are in order."""
    return x if list(perm) == list(range(len(perm))) else tf.transpose(x, perm)


def turn_step(step: Callable | None, outputs: bool = False) -> Callable | None:
    """A step whose carried arrays and inputs lie in memory with the batch first.

    Parameters
    ----------
    step : callable
        ``step(xp, carry, x, weights) -> (carry, y)``; see `.loop.ForwardLoop`.
    outputs : bool, optional
        Whether ``y`` is to be ``(batch, n_y)``, too.

    Returns
    -------
    callable
        The same for carried arrays ``(batch, n_i)`` and ``x`` of shape ``(batch, n_x)``.
        A carried array may also be given as ``(batch, *form)``, with as many entries;
        it is returned as it was given. `.namespace.measure` is told the forms in which
        they come out of the step.
    """
    if step is None:
        return None

    def turned(xp, carry, x, weights):
        inside = BatchFirstNamespace(xp)
        x = None if x is None else BatchFirst(x)
        flat = [BatchFirst(c, [math.prod(c.shape[1:])]) for c in carry]
        after, y = step(inside, flat, x, weights)
        after = [
            c if isinstance(c, BatchFirst) else BatchFirst(_turned(c, 2, xp.dtype))
            for c in after
        ]
        if isinstance(xp.scratch, Measure):
            xp.scratch.forms = [c.form for c in after]
        formed = [c.formed(o.shape[1:]) for c, o in zip(after, carry, strict=True)]
        return formed, lying(y, xp.dtype) if outputs else plain(y)

    return turned


def lying(y: Any, dtype: Any) -> Any:
    """An array ``(n, batch)`` of any kind as ``(batch, n)``."""
    return y if y is None else _turned(y, 2, dtype)


# stages around the loop ---------------------------------------------------------------


class TensorStages(SequenceStages):
    """The stages around a loop of TensorFlow.

    Parameters
    ----------
    layout : Layout
        The step.
    batch : int
        Number of batch items.
    turned : bool, optional
        Whether arrays in the loop lie in memory with the batch first, by default as its
        kernels want it.
    """

    def __init__(self, layout: Layout, batch: int, turned: bool | None = None) -> None:
        super().__init__(layout, batch)
        self.turned = layout.before.batch_first or layout.after.batch_first
        self.loop_turned = layout.loop.batch_first if turned is None else turned
        self.needs_before |= self.loop_turned

    def _namespace(self, xp: Any) -> Any:
        return BatchFirstNamespace(xp) if self.turned else xp

    def _side_by_side(self, xp, sequence):
        if not self.turned:
            return super()._side_by_side(xp, sequence)
        # the last transpose is none: so the array lies with the columns first
        n = sequence.shape[1]
        flat = xp.reshape(xp.transpose(sequence, (0, 2, 1)), (-1, n))
        return xp.transpose(flat, (1, 0))

    def _one_by_one(self, xp, rows, sequence, turn=False):
        if not self.turned:
            return super()._one_by_one(xp, rows, sequence, turn)
        shape = (sequence.shape[0], self.batch, rows.shape[0])
        flat = xp.reshape(xp.transpose(rows, (1, 0)), shape)
        return plain(flat) if turn else xp.transpose(flat, (0, 2, 1))


class Trajectories(SequenceStages):
    """The stages around a loop where all arrays lie ``(steps, batch, n)``.

    So nothing is turned around: what is given to a stage, steps and items side by side,
    are the rows of a matrix, and so is what it gives.

    Parameters
    ----------
    layout : Layout
        The step.
    batch : int
        Number of batch items.
    """

    def _nothing(self, sequence):
        return sequence[..., :0]

    def _namespace(self, xp: Any) -> Any:
        return BatchFirstNamespace(xp, times)

    def _side_by_side(self, xp, sequence):
        return BatchFirst(tf.reshape(sequence, (-1, sequence.shape[2])))

    def _one_by_one(self, xp, rows, sequence, turn=False):
        rows, shape = lying(rows, xp.dtype), tf.shape(sequence)
        sizes = [n if n is not None else shape[i] for i, n in enumerate(sequence.shape)]
        return tf.reshape(rows, (sizes[0], sizes[1], rows.shape[1]))

    def _emitter(self, xp, sequence, weights):
        if None not in sequence.shape[:2].as_list():
            return Emitter(self.layout, xp, math.prod(sequence.shape[:2]), weights)
        like = BatchFirst(tf.reshape(tf.reduce_sum(sequence, 2), (-1, 1)))
        return Emitter(self.layout, xp, None, weights, like)


# by trying both -----------------------------------------------------------------------
#
# On a CPU the kernels know (`StageLayout.batch_first`): it was measured once, and a
# script gives the same numbers on every machine. What is faster on an accelerator
# depends on the device, on the batch and on the network. So there the first simulator
# of a structure runs some steps both ways, feature-major and batch first, and all
# others of that structure in this process do as it found out. Results differ by
# rounding only.

#: what was found out, by structure and device
_found = Programs(size=ARRANGED)


def on_accelerator(device: str | None) -> bool:
    """Whether TensorFlow computes on something else than a CPU.

    Parameters
    ----------
    device : str or None
        As for `tf.device`; None for what TensorFlow takes by itself, which is a GPU if
        there is one.
    """
    if device is None:
        return bool(tf.config.list_logical_devices("GPU"))
    kind = tf.DeviceSpec.from_string(device).device_type
    return kind is not None and kind.upper() != "CPU"


def seconds(run: Callable[[], object]) -> float:
    """The shortest time of a few runs, of which the first one does not count."""
    run()
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times)


def batch_first_is_faster(key: Hashable, run_for: Callable[[bool], Callable]) -> bool:
    """Whether a loop is faster if its arrays lie batch first, on the device at hand.

    Parameters
    ----------
    key : hashable
        The structure and the device; measured once for each.
    run_for : callable
        ``run_for(turned)`` returns a function without arguments that runs some steps
        in one of the two ways and waits for them.
    """

    def measure() -> bool:
        feature_major, batch_first = (seconds(run_for(t)) for t in (False, True))
        return batch_first < feature_major

    return _found.get(key, measure)
