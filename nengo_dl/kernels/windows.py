"""Where the windows of a convolution lie: sizes and borders, axis by axis.

Borders may be negative: so many entries are cut off instead of added.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Windows(NamedTuple):
    """How a convolution goes along one axis.

    ``count`` windows, ``stride`` apart, over the input with ``before`` and ``after``
    zeros at its ends.
    """

    count: int  # pyright: ignore[reportIncompatibleMethodOverride]  # of tuples
    stride: int
    before: int
    after: int


def forward(
    size: Sequence[int], kernel: Sequence[int], strides: Sequence[int], padding: str
) -> list[Windows]:
    r"""The windows of a convolution.

    .. math::
        n_{same} = \lceil n / s \rceil, \quad n_{valid} = \lceil (n - k + 1) / s \rceil

    Parameters
    ----------
    size, kernel, strides : sequence of int
        One entry for each axis.
    padding : str
        "same": as many zeros as make ``n_same`` windows, the odd one at the end.
        "valid": none.

    Returns
    -------
    list of Windows

    Examples
    --------
    >>> forward((5,), (2,), (1,), "same")
    [Windows(count=5, stride=1, before=0, after=1)]
    """
    found = []
    for n, k, s in zip(size, kernel, strides, strict=True):
        count = -(-n // s) if padding == "same" else -(-(n - k + 1) // s)
        total = max((count - 1) * s + k - n, 0)
        found.append(Windows(count, s, total // 2, total - total // 2))
    return found


def transposed(
    size: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    padding: str,
    result: Sequence[int],
) -> list[Windows]:
    """The windows of a transposed convolution, over its dilated input.

    It is the transpose of the convolution that makes ``size`` of ``result``: the input
    with ``stride - 1`` zeros between its entries, convolved with the flipped kernel.

    Parameters
    ----------
    size, kernel, strides, padding
        As in `forward`; ``size`` is that of the input.
    result : sequence of int
        Size of the output.

    Returns
    -------
    list of Windows
        ``stride`` is one everywhere.

    Examples
    --------
    >>> transposed((2,), (3,), (2,), "valid", (5,))
    [Windows(count=5, stride=1, before=2, after=2)]
    """
    found = []
    for n, k, s, m in zip(size, kernel, strides, result, strict=True):
        extent = (n - 1) * s + 1  # of the dilated input
        cut = max(extent - 1 + k - m, 0) // 2 if padding == "same" else 0
        before = k - 1 - cut
        found.append(Windows(m, 1, before, m + k - 1 - extent - before))
    return found


class Embedding(NamedTuple):
    """How an array is put into its borders.

    The entries ``inside`` come to the places ``place`` of an array of zeros of the
    shape ``shape``.
    """

    shape: tuple[int, ...]
    inside: tuple[slice, ...]
    place: tuple[slice, ...]


def embedding(
    size: Sequence[int], spans: Sequence[Windows], dilation: Sequence[int] | None = None
) -> Embedding:
    """Where entries are once the borders of windows are there.

    Parameters
    ----------
    size : sequence of int
        Of the array without borders.
    spans : sequence of Windows
    dilation : sequence of int, optional
        Distances of the entries; default one, no zeros between them.

    Examples
    --------
    >>> embedding((3,), [Windows(4, 1, 1, 0)]).place
    (slice(1, 4, 1),)
    """
    shape, inside, place = [], [], []
    for n, d, span in zip(size, dilation or (1,) * len(spans), spans, strict=True):
        total = span.before + (n - 1) * d + 1 + span.after
        first = -(min(span.before, 0) // d)  # entries fall off at either end
        last = min(n - 1, (total - 1 - span.before) // d)
        shape.append(total)
        inside.append(slice(first, last + 1))
        place.append(slice(span.before + first * d, span.before + last * d + 1, d))
    return Embedding(tuple(shape), tuple(inside), tuple(place))


def sliding(
    array: np.ndarray, kernel: Sequence[int], spans: Sequence[Windows]
) -> np.ndarray:
    """All windows of an embedded array, as a view.

    Parameters
    ----------
    array : (batch, *sizes, channels) ndarray
    kernel : sequence of int
    spans : sequence of Windows

    Returns
    -------
    (batch, *counts, *kernel, channels) ndarray
    """
    n = len(spans)
    axes = tuple(range(1, n + 1))
    seen = np.lib.stride_tricks.sliding_window_view(array, tuple(kernel), axes)  # pyright: ignore[reportCallIssue, reportArgumentType]  # several axes
    steps = (slice(None), *(slice(None, None, span.stride) for span in spans))
    return np.moveaxis(seen[steps], n + 1, -1)
