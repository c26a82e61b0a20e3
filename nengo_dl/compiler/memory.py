"""Where signals are in memory, and what is written there in a step.

Views are index arithmetic; what is `Pending` is frozen into sums when somebody reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from nengo.builder.signal import Signal
from nengo.exceptions import BuildError
from nengo.utils.numpy import is_spmatrix
from numpy.typing import ArrayLike

from nengo_dl.compiler.graph import INDEX
from nengo_dl.notices import warn


def entries(signal: Signal) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a sparse signal was built with.

    Parameters
    ----------
    signal : nengo.builder.Signal
        A sparse one.

    Returns
    -------
    rows, columns : (n,) ndarray of int
    values : (n,) ndarray
        In the order that the values of sparse parameters have everywhere. An entry of
        the matrix may occur several times; then its values are added.
    """
    matrix = signal.initial_value
    if not is_spmatrix(matrix):  # Nengo's own, which does without SciPy
        return matrix.indices[:, 0], matrix.indices[:, 1], np.asarray(matrix.data)
    matrix = matrix.tocoo()
    return matrix.row.astype(np.int64), matrix.col.astype(np.int64), matrix.data


def memory_shape(signal: Signal) -> tuple[int, ...]:
    """The shape of what a signal has in memory: of a sparse one, its `entries`."""
    value = signal.initial_value
    if type(value) is np.ndarray:  # nearly always; to ask Nengo takes longer
        return value.shape
    return (signal.size,) if signal.sparse else signal.shape


def signal_index(signal: Signal) -> np.ndarray:
    """Positions of a signal's entries in its flattened base, in its `memory_shape`."""
    if not signal.is_view:
        return np.arange(signal.size).reshape(memory_shape(signal))
    index = np.full(signal.shape, signal.elemoffset, np.int64)
    for axis, (length, stride) in enumerate(zip(signal.shape, signal.elemstrides)):
        along = [1] * len(signal.shape)
        along[axis] = length
        index += (np.arange(length) * stride).reshape(along)
    return index


def spread(array: ArrayLike, shape: tuple[int, ...]) -> np.ndarray:
    """An array in a shape; ``np.broadcast_to`` where it has another one."""
    array = np.asarray(array)
    return array if array.shape == shape else np.broadcast_to(array, shape)


def source_key(signal: Signal) -> Signal:
    """What stands for the output of a node among what is given to each step.

    Its base, unless other things are in there as well, as in models that Nengo optimized;
    then the signal itself.
    """
    return signal.base if signal.size == signal.base.size else signal


def overlap(first: Signal, second: Signal) -> bool:
    """Whether two signals have entries in common."""
    if first.base is not second.base:
        return False
    return bool(np.isin(signal_index(first), signal_index(second)).any())


def check_views(signals: Iterable[Signal]) -> None:
    """Whether core Nengo finds signals in memory where they were made.

    A view of a view that does not start where the first view does has an offset from the
    first view, but core counts it from the base of both. So core takes other entries of
    the base than the ones that the view was made of, and so do we; the user should know.

    Parameters
    ----------
    signals : iterable of Signal

    Raises
    ------
    BuildError
        If the first values of the two places differ. Core refuses these, too.
    """
    for signal in signals:
        if not signal.is_view or not signal.size:
            continue
        base = signal.base
        start = _address(signal) - _address(base)
        shared = 0 <= start < base.nbytes  # else it is a copy, and has the offset alone
        if not shared or start == signal.offset:
            continue
        problem = (
            f"the signal {signal.name} is a view of a view: it was made of the entries "
            f"of {base.name} from number {start // signal.itemsize} on, but Nengo looks "
            f"for it from number {signal.elemoffset} on, since its offset is counted "
            "from the first view"
        )
        way_out = f"Take it from {base.name} with a single index"
        index = signal_index(signal)
        values = np.ravel(base.initial_value)
        inside = index.min() >= 0 and index.max() < base.size
        if not inside or not np.array_equal(values[index], signal.initial_value):
            raise BuildError(f"{problem}, where there are other values. {way_out}")
        warn(f"{problem}, and uses those entries. {way_out}")


def _address(signal: Signal) -> int:
    """Where the first entry of a signal is in memory."""
    return signal.initial_value.__array_interface__["data"][0]


def covers(sets: list[Signal], incs: list[Signal]) -> bool:
    """Whether all that is incremented was set before, in the same step."""
    base = incs[0].base
    if any(signal.size == base.size for signal in sets):
        return True
    covered = np.zeros(base.size, bool)
    for signal in sets:
        covered[signal_index(signal)] = True
    return all(covered[signal_index(signal)].all() for signal in incs)


class Pending:
    """Writes to one base signal that nobody has read yet.

    Attributes
    ----------
    terms : list of (positions, elements, factors)
        What is added.
    bias : ndarray
        Constants that were set.
    covered, frozen : ndarray of bool
        Which entries were set, so that older values do not count; which were read, so
        that they cannot change any more in this step.
    """

    def __init__(self, size: int):
        self.terms: list[tuple[np.ndarray, np.ndarray, np.ndarray | float]] = []
        self.bias = np.zeros(size)
        self.covered = np.zeros(size, bool)
        self.frozen = np.zeros(size, bool)

    def region(self, wanted: np.ndarray | None) -> np.ndarray:
        """Which entries there are to freeze: all, or among those that are wanted."""
        if wanted is None:
            return ~self.frozen
        region = np.zeros(self.frozen.size, bool)
        region[wanted] = True
        return region & ~self.frozen

    def only_source(self) -> np.ndarray | None:
        """What all entries are copies of, if nothing else was written; else None."""
        if len(self.terms) != 1 or self.bias.any() or not self.covered.all():
            return None
        position, source, factor = self.terms[0]
        whole = position.size == self.covered.size and not self.frozen.any()
        if not whole or np.ndim(factor) or factor != 1:
            return None
        return source if (position == np.arange(position.size)).all() else None

    def sums(
        self, region: np.ndarray, current: np.ndarray, known: Callable | None = None
    ) -> Any:
        """What the entries of a region are: arguments of `.graph.GraphBuilder.sum`.

        Parameters
        ----------
        region : ndarray of bool
        current : ndarray
            The elements that hold the signal before these writes.
        known : callable, optional
            Tells the values of elements that are constants: those are added up here.

        Returns
        -------
        bias, rows, sources, factors : ndarray
            Rows are counted within the region.
        """
        whole = bool(region.all())
        row_of = np.cumsum(region, dtype=INDEX) - 1
        row_of[~region] = -1
        bias = self.bias[region]
        empty = np.zeros(0, INDEX)
        rows, sources = [empty], [empty]
        factors: list[np.ndarray] = [np.zeros(0)]
        terms: list[tuple[np.ndarray, np.ndarray, Any]] = self.terms
        remaining = np.flatnonzero(region & ~self.covered)
        if remaining.size:
            terms = [*terms, (remaining, current[remaining], 1.0)]
        for position, source, factor in terms:
            row = row_of[position]
            if np.ndim(factor) == 0:
                factor = np.full(position.shape, factor, np.float64)
            if not whole and not (inside := row >= 0).all():
                row, source, factor = row[inside], source[inside], factor[inside]
            values = None if known is None else known(source)
            if values is not None:
                if values.any():
                    np.add.at(bias, row, factor * values)
                continue
            rows.append(row)
            sources.append(source)
            factors.append(factor)
        return bias, *map(np.concatenate, (rows, sources, factors))


def copied(bias: np.ndarray, rows: np.ndarray, sources: np.ndarray, factors: np.ndarray):
    """The elements that sums are nothing but copies of, or None.

    Arguments as for `.graph.GraphBuilder.sum`.
    """
    if rows.size != bias.size or bias.any() or not (factors == 1).all():
        return None
    elements = np.full(bias.size, -1, INDEX)
    elements[rows] = sources
    return elements if (elements >= 0).all() else None
