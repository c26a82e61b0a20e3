"""Rows by constant index in TensorFlow, with a gradient that XLA compiles well.

The gradient of a gather is a scatter, a serial loop in XLA on the CPU. It is written as
gathers here: each row adds up what was made of it, which a table tells.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf


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


def gather(x: tf.Tensor, idx: np.ndarray, fast: bool) -> tf.Tensor:
    """Rows ``idx`` of ``x``.

    Parameters
    ----------
    x : tensor
    idx : (m,) ndarray of int
        Not empty; none is negative.
    fast : bool
        Whether it is compiled by XLA: the gradient is no scatter then.
    """
    rows = tf.constant(idx.astype(np.int32))
    if not fast or x.shape[0] is None:
        return tf.gather(x, rows)
    table = fan_out(idx, x.shape[0])
    tables, place = ([table], None) if table is not None else buckets(idx, x.shape[0])

    @tf.custom_gradient
    def take(x):
        return tf.gather(x, rows), lambda dy: _transpose(dy, tables, place)

    return take(x)


def _transpose(
    dy: tf.Tensor, tables: Sequence[np.ndarray], place: np.ndarray | None
) -> tf.Tensor:
    """What is added up in each row."""
    if any((table == dy.shape[0]).any() for table in tables):
        dy = tf.concat([dy, tf.zeros_like(dy[:1])], 0)  # what went nowhere finds zeros
    parts = []
    for table in tables:
        part = tf.gather(dy, tf.constant(table))
        parts.append(part[0] if len(table) == 1 else tf.reduce_sum(part, 0))
    if place is None:
        return parts[0]
    if (place == sum(table.shape[1] for table in tables)).any():
        parts.append(tf.zeros_like(dy[:1]))
    return tf.gather(tf.concat(parts, 0), tf.constant(place.astype(np.int32)))
