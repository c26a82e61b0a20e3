"""Many ranges of numbers at a time.

The terms of sums, the readers of elements and the outputs of nodes are ranges in flat
arrays. Mostly one begins where another ends, so that a few long slices do for all.
"""

from __future__ import annotations

import numpy as np

#: of numbers of elements: half the memory of what NumPy takes by itself
INDEX = np.int32

#: how many numbers of large arrays are worked on at a time: they stay in the cache
PART = 1 << 16

#: up to how many slices are taken one by one: a slice costs what some hundred numbers do
SLICES = 64


def joined(starts: np.ndarray, stops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fewer ranges with the same numbers in the same order.

    Parameters
    ----------
    starts, stops : ndarray of int
        A range ends before its stop.

    Returns
    -------
    starts, stops : ndarray of int
        Those that follow one another are one range.
    """
    apart = np.flatnonzero(starts[1:] != stops[:-1])
    if apart.size + 1 >= starts.size:
        return starts, stops
    return starts[np.append(0, apart + 1)], stops[np.append(apart, starts.size - 1)]


def ranges(starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """All integers of several ranges, one range after the other."""
    starts, stops = joined(starts, stops)
    if starts.size == 1:
        return np.arange(starts[0], stops[0])
    lengths = stops - starts
    offsets = np.cumsum(lengths) - lengths
    return np.arange(lengths.sum()) + np.repeat(starts - offsets, lengths)


def taken(array: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """``array[ranges(starts, stops)]``, which may be a view."""
    starts, stops = joined(starts, stops)
    if starts.size == 1:
        return array[starts[0] : stops[0]]
    if 0 < starts.size <= SLICES:
        pieces = zip(starts.tolist(), stops.tolist(), strict=True)
        return np.concatenate([array[start:stop] for start, stop in pieces])
    return array[ranges(starts, stops)]


def true_runs(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the runs of True in a mask start, and where they stop."""
    edges = np.flatnonzero(mask[1:] != mask[:-1]) + 1
    if mask.size and mask[0]:
        edges = np.append(0, edges)
    if mask.size and mask[-1]:
        edges = np.append(edges, mask.size)
    return edges[::2], edges[1::2]


def once_each(numbers: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Each of some numbers once, in any order.

    Parameters
    ----------
    numbers : ndarray of int
    place : ndarray of int
        Memory with an entry for each number there may be, which is written.
    """
    if 8 * numbers.size > place.size:  # a mask costs less than so many scattered writes
        seen = np.zeros(place.size, bool)
        seen[numbers] = True
        return np.flatnonzero(seen)
    order = np.arange(numbers.size, dtype=place.dtype)
    place[numbers] = order
    return numbers[place[numbers] == order]


def stable_order(numbers: np.ndarray, bound: int) -> np.ndarray:
    """The order in which numbers ascend; equal ones stay as they come.

    Digits of 16 bits are sorted by counting, so that time grows with how many numbers
    there are: ten millions take a sixth of what comparing them takes.

    Parameters
    ----------
    numbers : ndarray of int
        From 0 on.
    bound : int
        They are less than this, which is 2^32 at most.

    Examples
    --------
    >>> stable_order(np.array([3, 1, 3, 0]), 4)
    array([3, 1, 0, 2])
    """
    order = np.argsort(numbers.astype(np.uint16), kind="stable")  # modulo 2^16
    if bound > 2**16:
        upper = (numbers >> 16).astype(np.uint16)[order]
        order = order[np.argsort(upper, kind="stable")]
    return order


def starts_of(rows: np.ndarray, size: int) -> np.ndarray:
    """Where the terms of each of ``size`` elements begin, and the last ones end.

    ``rows``: the element of each term, in ascending order. They are counted part by part,
    because NumPy counts in numbers of twice the size.
    """
    ptr = np.zeros(size + 1, INDEX)
    firsts = range(0, rows.size, PART)
    for part in (rows[first : first + PART] for first in firsts):
        counted = np.bincount(part - part[0])
        ptr[part[0] + 1 : part[0] + 1 + counted.size] += counted.astype(INDEX)
    return np.cumsum(ptr, out=ptr, dtype=INDEX)
