"""Convolutions in TensorFlow, where XLA on the CPU compiles them well and where not.

Measured on two cores, milliseconds forward, and forward and backward (14 x 14 x 16,
3 x 3, 32 filters, batch 64; in 3-D 6 x 6 x 6 x 4, 8 filters, batch 16):

========================= =============== ============= ===============
what                      convolution     patches       not compiled
========================= =============== ============= ===============
float32                   1.2, 3.3        3.3, 5.9      1.0, 3.0
float32, 3-D              9.9, 15.9       0.7, 2.4      0.6, 1.2
float64                   25.8, 99.7      9.5, 22.7     5.7, 15.5
4 groups, one by one      5.4, 7.8        5.2, 6.4      3.5, 5.9
4 groups, filled up       1.2, 4.3                      1.8, 5.2
16 groups, one by one     15.5, 21.4                    4.6, 19.1
16 groups, filled up      3.2, 4.3                      0.9, 4.0
========================= =============== ============= ===============

So: compiled in double precision or in 3-D, windows are put side by side and multiplied
with the filters (`patches`), since XLA has library code for the others only. That code is
slow for pictures of few channels: 2.0 ms forward for one channel (28 x 28, 3 x 3, 16
filters, batch 64), 3.5 for three, where the sum of shifted pictures (`shifts`), which is
fused with what follows, takes 0.5 and 0.8; backward it is the other way round. Groups are
made one convolution by filling up the filters with zeros, `BUNDLE` groups at a time;
TensorFlow's own grouped convolution has no gradient in double precision, none in 3-D,
and takes 99 ms where it is compiled.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from nengo_dl.compiler.namespace import Array
from nengo_dl.kernels import windows
from nengo_dl.runtime.tensorflow.costs import BUNDLE, FEW


def conv(
    x: Array,
    w: Array,
    strides: Sequence[int],
    padding: str,
    groups: int,
    fast: bool,
) -> Array:
    """See `.NumpyNamespace.conv`; ``fast``: to be compiled by XLA."""
    if groups == 1:
        return _conv(x, w, strides, padding, fast)
    channels, filters = w.shape[-2], w.shape[-1] // groups
    parts = []
    for first in range(0, groups, BUNDLE):
        count = min(BUNDLE, groups - first)
        mine = x[..., first * channels : (first + count) * channels]
        own = w[..., first * filters : (first + count) * filters]
        parts.append(_conv(mine, fill_up(own, count), strides, padding, fast))
    return parts[0] if len(parts) == 1 else tf.concat(parts, -1)


def conv_transpose(
    x: Array,
    w: Array,
    strides: Sequence[int],
    padding: str,
    size: Sequence[int],
    fast: bool,
) -> Array:
    """See `.NumpyNamespace.conv_transpose`; ``fast``: to be compiled by XLA."""
    kernel = w.shape[:-2]
    if fast and _by_patches(x):
        spans = windows.transposed(x.shape[1:-1], kernel, strides, padding, size)
        flipped = tf.reverse(w, range(len(kernel)))
        return patches(dilate(x, strides), flipped, spans)
    shape = (tf.shape(x)[0] if x.shape[0] is None else x.shape[0], *size, w.shape[-1])
    w = tf.linalg.matrix_transpose(w)  # TensorFlow has the result's channels first
    strides = tuple(strides)
    function: Any = tf.nn.conv3d_transpose if len(kernel) == 3 else tf.nn.conv2d_transpose
    if len(kernel) == 1:  # as a picture of one row
        y = function(
            x[:, None],
            w[None],
            (shape[0], 1, *shape[1:]),
            (1, *strides),
            padding.upper(),
        )
        return y[:, 0]
    return function(x, w, shape, strides, padding.upper())


def _by_patches(x: Array) -> bool:
    """Whether XLA has no library code for a convolution of ``x``."""
    return x.dtype != tf.float32 or x.shape.rank > 4


def _conv(x, w, strides, padding, fast):
    if fast and _by_patches(x):
        spans = windows.forward(x.shape[1:-1], w.shape[:-2], strides, padding)
        return patches(x, w, spans)

    def library(x, w):
        return tf.nn.convolution(x, w, strides=tuple(strides), padding=padding.upper())

    if not fast or math.prod(w.shape[:-1]) > FEW:
        return library(x, w)

    @tf.custom_gradient
    def shifted(x, w):
        def gradient(dy):
            with tf.GradientTape() as tape:
                tape.watch([x, w])
                y = library(x, w)
            return tape.gradient(y, [x, w], output_gradients=dy)

        spans = windows.forward(x.shape[1:-1], w.shape[:-2], strides, padding)
        return shifts(x, w, spans), gradient

    return shifted(x, w)


def shifts(x: Array, w: Array, spans: Sequence[windows.Windows]) -> Array:
    """The sum over all taps and channels of ``x``, shifted, times one number a filter."""
    y = 0
    for tap, seen in _windows(x, w.shape[:-2], spans):
        for channel in range(w.shape[-2]):
            y = y + seen[..., channel : channel + 1] * w[(*tap, channel)]
    return y


def fill_up(w: Array, groups: int) -> Array:
    """Filters of all channels that do what those of groups do.

    Parameters
    ----------
    w : tensor ``(*kernel, channels / groups, filters)``
    groups : int

    Returns
    -------
    tensor ``(*kernel, channels, filters)``
        Zero where a channel and a filter are in different groups.
    """
    if groups == 1:
        return w
    channels, filters = w.shape[-2], w.shape[-1] // groups
    own = np.kron(np.eye(groups), np.ones((channels, filters)))
    repeated = tf.tile(w, (*[1] * (w.shape.rank - 2), groups, 1))
    return repeated * tf.constant(own, w.dtype)


def dilate(x: Array, strides: Sequence[int]) -> Array:
    """``x`` with ``stride - 1`` zeros between the entries of each of its axes."""
    for axis, stride in enumerate(strides, 1):
        if stride == 1:
            continue
        shape = [-1 if n is None else n for n in x.shape]
        n = shape[axis]
        border = [[0, 0]] * (axis + 1) + [[0, stride - 1]]
        border += [[0, 0]] * (len(shape) - axis - 1)
        x = tf.pad(tf.expand_dims(x, axis + 1), border)
        x = tf.reshape(x, (*shape[:axis], n * stride, *shape[axis + 1 :]))
        x = x[(slice(None),) * axis + (slice(0, (n - 1) * stride + 1),)]
    return x


def patches(x: Array, w: Array, spans: Sequence[windows.Windows]) -> Array:
    """All windows of ``x`` side by side, times the filters.

    The windows are slices, so the gradient consists of slices and sums, no scatter.
    """
    kernel, (channels, filters) = w.shape[:-2], w.shape[-2:]
    seen = [part for _, part in _windows(x, kernel, spans)]
    length = math.prod(kernel) * channels
    rows = tf.reshape(tf.concat(seen, -1), (-1, length))
    y = tf.matmul(rows, tf.reshape(w, (length, filters)))
    return tf.reshape(y, (-1, *(span.count for span in spans), filters))


def _windows(x: Array, kernel: Sequence[int], spans: Sequence[windows.Windows]):
    """For each tap, its indices and what it sees of ``x`` at all positions."""
    inside = [slice(None)]
    border = [[0, 0]]
    for n, span in zip(x.shape[1:-1], spans, strict=True):
        inside.append(slice(max(-span.before, 0), n - max(-span.after, 0)))
        border.append([max(span.before, 0), max(span.after, 0)])
    x = tf.pad(x[tuple(inside)], [*border, [0, 0]])
    for tap in itertools.product(*map(range, kernel)):
        along = [
            slice(t, t + (span.count - 1) * span.stride + 1, span.stride)
            for t, span in zip(tap, spans, strict=True)
        ]
        yield tap, x[(slice(None), *along)]
