"""Index arithmetic: over which axes a loop runs, and how arrays lie along them.

Axes are tuples of sizes, strides count elements. Both are listed from the outermost axis
to the innermost one.
"""

from __future__ import annotations

from collections.abc import Sequence

from nengo_dl.runtime.numpy.codegen import View

Axes = tuple[int, ...]


def strides_of(view: View) -> Axes:
    """The strides of a view, in elements."""
    return tuple(s // view.value.dtype.itemsize for s in view.strides)


def in_order(sizes: Sequence[int]) -> Axes:
    """The strides of an array that lies in order.

    Examples
    --------
    >>> in_order((4, 3, 2))
    (6, 2, 1)
    """
    strides, step = [], 1
    for n in reversed(sizes):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


def broadcast_strides(view: View, shape: Sequence[int]) -> Axes:
    """The strides of an operand for a result of some shape: 0 where it is repeated."""
    own = zip(view.shape, strides_of(view), strict=True)
    lead = len(shape) - len(view.shape)
    return (0,) * lead + tuple(0 if n == 1 else s for n, s in own)


def joined(sizes: Sequence[int], table: Sequence[Axes]) -> tuple[Axes, list[Axes]]:
    """Join adjacent axes of the same elements where all strides allow it.

    Parameters
    ----------
    sizes : sequence of int
    table : sequence of tuple
        The strides of each array.

    Examples
    --------
    >>> joined((5, 1, 3), [(3, 0, 1), (1, 0, 0)])
    ((5, 3), [(3, 1), (1, 0)])
    >>> joined((5, 3), [(3, 1), (0, 0)])
    ((15,), [(1,), (0,)])
    """
    kept: list[int] = []
    columns: list[list[int]] = []
    for d, n in enumerate(sizes):
        if n == 1:
            continue
        column = [row[d] for row in table]
        if kept and all(s == t * n for s, t in zip(columns[-1], column, strict=True)):
            kept[-1] *= n
            columns[-1] = column
        else:
            kept.append(n)
            columns.append(column)
    rows = [tuple(column[k] for column in columns) for k in range(len(table))]
    return tuple(kept), rows


def refined(a: Axes, b: Axes) -> Axes | None:
    """Axes that are parts of those of both; None if there are none.

    Examples
    --------
    >>> refined((1800,), (72, 25))
    (72, 25)
    >>> refined((2, 3), (3, 2)) is None
    True
    """
    if a == b:
        return a
    ends = sorted({*_inner(a), *_inner(b)})
    sizes, last = [], 1
    for end in ends:
        if end % last:
            return None
        sizes.append(end // last)
        last = end
    return tuple(reversed(sizes))


def _inner(axes: Axes) -> list[int]:
    """The number of elements in the last axis, the last two, and so on."""
    found, total = [], 1
    for n in reversed(axes):
        total *= n
        found.append(total)
    return found


def split(axes: Axes, strides: Axes, finer: Axes) -> Axes:
    """The strides along ``finer`` axes, which are parts of ``axes``.

    Examples
    --------
    >>> split((6,), (2,), (3, 2))
    (4, 2)
    """
    if axes == finer:
        return strides
    found: list[int] = []
    d, rest, step = len(axes), 1, 0
    for n in reversed(finer):
        if rest == 1 and d:
            d -= 1
            rest, step = axes[d], strides[d]
        found.append(step)
        step *= n
        rest //= n
    return tuple(reversed(found))
