"""Rows by constant index in TensorFlow, with a gradient that XLA compiles well.

The gradient of a gather is a scatter, a serial loop in XLA on the CPU. It is written as
gathers here: each row adds up what was made of it, which a table tells.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from nengo_dl.compiler.namespace import Array


def fan_out(idx: np.ndarray, n: int) -> np.ndarray | None:
    """Where each of ``n`` rows went when ``idx`` was taken: the transpose of a take.

    Parameters
    ----------
    idx : (m,) ndarray of int
        The rows taken.
    n : int
        How many rows there were.

    Returns
    -------
    (fan, n) ndarray of int, or None
        Column ``r`` holds the positions of ``r`` in ``idx``, then ``m`` for "nowhere".
        None if some rows are taken much more often than others, so that more than half
        of the table would be padding.
    """
    m = idx.size
    counts = np.bincount(idx, minlength=n)
    fan = int(counts.max(initial=0))
    if m == 0 or fan * n > 2 * m:
        return None
    return _table(idx, np.arange(n), counts)


def buckets(idx: np.ndarray, n: int) -> tuple[list[np.ndarray], np.ndarray]:
    """The transpose of a take of which some rows are taken more often than others.

    Parameters
    ----------
    idx : (m,) ndarray of int
        The rows taken.
    n : int
        How many rows there were.

    Returns
    -------
    tables : list of (fan, count) ndarray of int
        As of `fan_out`, one for the rows that are taken once, twice, 3 or 4, 5 to 8
        times and so on; together not twice as large as ``idx``.
    place : (n,) ndarray of int
        For each row its column among all those of the tables, one table after the
        other; for a row that was never taken the number of columns.
    """
    counts = np.bincount(idx, minlength=n)
    power = np.where(counts > 0, np.ceil(np.log2(np.maximum(counts, 1))), -1)
    place = np.full(n, np.count_nonzero(counts))
    tables, columns = [], 0
    for p in np.unique(power[power >= 0]):
        rows = np.flatnonzero(power == p)
        place[rows] = columns + np.arange(rows.size)
        columns += rows.size
        tables.append(_table(idx, rows, counts))
    return tables, place


def _table(idx: np.ndarray, rows: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The positions of ``rows`` in ``idx``, one column each, then ``idx.size``."""
    column = np.full(counts.size, -1)
    column[rows] = np.arange(rows.size)
    order = np.argsort(idx, kind="stable")
    taken = idx[order]
    nth = np.arange(idx.size) - (np.cumsum(counts) - counts)[taken]
    mine = column[taken] >= 0
    fan = int(counts[rows].max(initial=0))
    table = np.full((fan, rows.size), idx.size, np.int32)
    table[nth[mine], column[taken[mine]]] = order[mine]
    return table


def regular(x: Array, idx: np.ndarray, axis: int = 0) -> Array | None:
    """Rows ``idx`` of ``x`` where they follow a rule that needs no gather.

    Rows at equal distances, in increasing order, are a slice. A block of rows again and
    again (a bias of each channel, spread over all positions), or each row of a block the
    same number of times, is a broadcast, whose gradient is a sum.

    Parameters
    ----------
    x : tensor
    idx : (m,) ndarray of int
        Not empty; none is negative.
    axis : int
        The axis of the rows.

    Returns
    -------
    tensor or None
        None if there is no such rule.
    """
    front = (slice(None),) * axis
    first, last = int(idx[0]), int(idx[-1])
    step = 1 if idx.size == 1 else int(idx[1]) - first
    if step > 0 and np.array_equal(idx, first + step * np.arange(idx.size)):
        if idx.size == x.shape[axis] and step == 1:
            return x
        return x[(*front, slice(first, last + 1, step))]
    n = last - first + 1
    if n < 1 or idx.size % n:
        return None
    block, times = np.arange(first, last + 1), idx.size // n
    if np.array_equal(idx, np.tile(block, times)):
        at = axis
    elif np.array_equal(idx, np.repeat(block, times)):
        at = axis + 1
    else:
        return None
    rows = tf.expand_dims(x[(*front, slice(first, last + 1))], at)
    shape = [tf.shape(x)[i] if size is None else size for i, size in enumerate(x.shape)]
    before, after = shape[:axis], shape[axis + 1 :]
    sizes = (times, n) if at == axis else (n, times)
    return tf.reshape(
        tf.broadcast_to(rows, (*before, *sizes, *after)), (*before, idx.size, *after)
    )


def gather(x: Array, idx: np.ndarray, fast: bool, axis: int = 0) -> Array:
    """Rows ``idx`` of ``x``.

    Parameters
    ----------
    x : tensor
    idx : (m,) ndarray of int
        Not empty; none is negative.
    fast : bool
        Whether it is compiled by XLA: the gradient is no scatter then.
    axis : int
        The axis of the rows, 0 or 1.
    """
    rows = tf.constant(idx.astype(np.int32))
    size = x.shape[axis]
    if not fast or size is None:
        return tf.gather(x, rows, axis=axis)
    table = fan_out(idx, size)
    tables, place = ([table], None) if table is not None else buckets(idx, size)

    @tf.custom_gradient
    def take(x):
        y = tf.gather(x, rows, axis=axis)
        return y, lambda dy: _transpose(dy, tables, place, axis)

    return take(x)


def _transpose(
    dy: Array, tables: Sequence[np.ndarray], place: np.ndarray | None, axis: int
) -> Array:
    """What is added up in each row."""
    size = dy.shape[axis]
    none = tf.zeros_like(dy[:1] if axis == 0 else dy[:, :1])
    if any((table == size).any() for table in tables):
        dy = tf.concat([dy, none], axis)  # what went nowhere finds zeros
    parts = []
    for table in tables:
        if len(table) == 1:
            parts.append(tf.gather(dy, tf.constant(table[0]), axis=axis))
        else:
            part = tf.gather(dy, tf.constant(table), axis=axis)
            parts.append(tf.reduce_sum(part, axis))
    if place is None:
        return parts[0]
    if (place == sum(table.shape[1] for table in tables)).any():
        parts.append(none)
    rows = tf.constant(place.astype(np.int32))
    return tf.gather(tf.concat(parts, axis), rows, axis=axis)
