"""Convolutions and their transposes, over any number of axes.

===========================  ========================================================
filters                      become
===========================  ========================================================
constant, or a parameter     a `Convolution` or a `TransposedConvolution`
changed by other operators   a `VaryingMatVec` for each filter: all windows are the
                             matrix, the filter is the vector
===========================  ========================================================
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import TYPE_CHECKING

import numpy as np
from nengo.builder.transforms import ConvInc, ConvTransposeInc

from nengo_dl.compiler.lowering import OperatorRule, lowers
from nengo_dl.compiler.traits import Array, ArrayNamespace, Kernel, Params
from nengo_dl.kernels import windows
from nengo_dl.kernels.algebra import VARYING_MATVEC

if TYPE_CHECKING:
    from nengo_dl.compiler.graph import Node
    from nengo_dl.compiler.lowering import Lowering


class Convolution(Kernel):
    r"""Windows of a signal with one or more axes, each times the same filters.

    .. math:: y_{p k} = \sum_{t, c} W_{t c k} \, x_{s p + t, c}

    Parameters: ``W``, ``(*kernel, channels / channel_groups, filters)``;
    ``input_shape`` and ``output_shape``, with the channels last or first
    (``channels_last``); ``strides``, :math:`s`; ``padding``, "same" or "valid";
    ``channel_groups``. Input and output: ``(n, batch)``, flattened.

    Convolutions are not merged: side by side they would be a convolution in groups,
    which no library code is fast at.
    """

    name = "conv"
    matrices = ("W",)
    zero_preserving = True
    batch_first = 1

    def merge_key(self, node: Node) -> Hashable:
        """Convolutions are merged with nothing."""
        return (self.name, id(node))

    def cost(self, node: Node) -> float:
        """Each filter, once for each position."""
        shape, last = node.params["output_shape"], node.params["channels_last"]
        positions = math.prod(shape[:-1] if last else shape[1:])
        return float(math.prod(node.params["W"].shape) * positions)

    def step(self, xp: ArrayNamespace, p: Params, x: Array) -> tuple[Array, ...]:
        """Batch first, channels last, as library code wants it; and back."""
        n = len(p.input_shape)
        batch = x.shape[-1]
        x = xp.reshape(x, (*p.input_shape, -1))
        order = (n, *range(n)) if p.channels_last else (n, *range(1, n), 0)
        y = self.apply(xp, p, xp.transpose(x, order))
        order = (*range(1, n + 1), 0) if p.channels_last else (n, *range(1, n), 0)
        y = xp.transpose(y, order)
        return (xp.reshape(y, (math.prod(p.output_shape), batch)),)

    def apply(self, xp: ArrayNamespace, p: Params, x: Array) -> Array:
        """From ``(batch, *sizes, channels)`` to ``(batch, *counts, filters)``."""
        return xp.conv(x, p.W[0], p.strides, p.padding, p.channel_groups)


class TransposedConvolution(Convolution):
    r"""The transpose of the convolution that makes the input's shape of the output's.

    .. math:: y_{q k} = \sum_{s p + t = q} \sum_c W_{t c k} \, x_{p c}

    Parameters as of `Convolution`, of which ``strides`` and ``padding`` are those of
    the convolution that is transposed; ``W``, ``(*kernel, channels, filters)``.
    """

    name = "conv_transpose"

    def cost(self, node: Node) -> float:
        """Each filter, once for each position of the input."""
        shape, last = node.params["input_shape"], node.params["channels_last"]
        positions = math.prod(shape[:-1] if last else shape[1:])
        return float(math.prod(node.params["W"].shape) * positions)

    def apply(self, xp: ArrayNamespace, p: Params, x: Array) -> Array:
        """From ``(batch, *sizes, channels)`` to ``(batch, *sizes, filters)``."""
        shape = p.output_shape
        size = shape[:-1] if p.channels_last else shape[1:]
        return xp.conv_transpose(x, p.W[0], p.strides, p.padding, size)


CONVOLUTION = Convolution()
TRANSPOSED_CONVOLUTION = TransposedConvolution()


@lowers(ConvInc)
class LowerConvInc(OperatorRule):
    """``Y += conv(W, X)``."""

    kernel = CONVOLUTION

    def may_wait(self, op: ConvInc) -> bool:
        """Whether compiling may wait for data; it may, as this is plain algebra."""
        return True

    def lower(self, op: ConvInc, low: Lowering) -> None:
        """One node, and its output as terms of ``Y``."""
        x = low.read(op.X).ravel()
        filters = low.matrix(op.W)
        if filters is None:
            low.increment(op.Y, self._varying(op, low, x).reshape(op.Y.shape))
            return
        conv = op.conv
        params = {
            "W": filters,
            "input_shape": _ints(conv.input_shape.shape),
            "output_shape": _ints(conv.output_shape.shape),
            "strides": _ints(conv.strides),
            "padding": conv.padding,
            "channels_last": bool(conv.channels_last),
            "channel_groups": int(conv.groups),
        }
        (y,) = low.node(self.kernel, [x], [op.Y.size], params, label=op)
        low.increment(op.Y, y.reshape(op.Y.shape))

    def _varying(self, op, low, x):
        """Filters that change: one product of all windows with each of them."""
        conv = op.conv
        filters = low.read(op.W)
        groups = int(conv.groups)
        channels, each = filters.shape[-2], filters.shape[-1] // groups
        x = x.reshape(conv.input_shape.shape)
        x = x if conv.channels_last else np.moveaxis(x, 0, -1)
        seen = self._windows(conv, x, low.builder.constant([0.0])[0])
        outputs = []
        for k in range(filters.shape[-1]):
            first = k // each * channels
            matrix = seen[..., first : first + channels].reshape(len(seen), -1)
            params = {"shape": matrix.shape}
            vector = filters[..., k].ravel()
            (y,) = low.node(
                VARYING_MATVEC, [matrix, vector], [len(seen)], params, label=op
            )
            outputs.append(y)
        axis = 1 if conv.channels_last else 0
        return np.stack(outputs, axis)

    def _windows(self, conv, x, zero):
        """Elements ``(positions, taps, channels)`` that each window shows."""
        spans = windows.forward(
            x.shape[:-1], conv.kernel_size, conv.strides, conv.padding
        )
        return _seen(x, conv.kernel_size, spans, None, zero)


@lowers(ConvTransposeInc)
class LowerConvTransposeInc(LowerConvInc):
    """``Y += conv_transpose(W, X)``."""

    kernel = TRANSPOSED_CONVOLUTION

    def _windows(self, conv, x, zero):
        """Windows as `LowerConvInc` has them; taps are in the order of the filters."""
        kernel, size = conv.kernel_size, conv.output_shape.spatial_shape
        spans = windows.transposed(x.shape[:-1], kernel, conv.strides, conv.padding, size)
        return _seen(x, kernel, spans, conv.strides, zero)[:, ::-1]


def _seen(x, kernel, spans, dilation, zero):
    frame = windows.embedding(x.shape[:-1], spans, dilation)
    embedded = np.full((*frame.shape, x.shape[-1]), zero)
    embedded[frame.place] = x[frame.inside]
    seen = windows.sliding(embedded[None], kernel, spans)
    return seen.reshape(-1, math.prod(kernel), x.shape[-1])


def _ints(shape):
    """A tuple of ordinary integers, which Nengo's shapes not always are."""
    return tuple(int(n) for n in shape)
