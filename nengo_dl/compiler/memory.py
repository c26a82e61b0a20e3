"""Where signals are in memory, and what is written there in a step.

Views are index arithmetic; what is `Pending` is frozen into sums when somebody reads it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import lru_cache
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


#: positions of so many entries are made once: large models have many small signals
FEW = 1024


@lru_cache(maxsize=512)
def _few_positions(shape: tuple[int, ...]) -> np.ndarray:
    index = np.arange(math.prod(shape)).reshape(shape)
    index.setflags(write=False)
    return index


def signal_index(signal: Signal) -> np.ndarray:
    """Positions of a signal's entries in its flattened base, in its `memory_shape`.

    They may be held by others as well, and are only read.
    """
    if not signal.is_view:
        shape = memory_shape(signal)
        if (size := math.prod(shape)) <= FEW:
            return _few_positions(shape)
        return np.arange(size).reshape(shape)
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


def writes_of(operators: Iterable[Any]) -> dict[Signal, list[Signal]]:
    """What operators set or update: each base signal, with what is written of it."""
    writes = defaultdict(list)
    for op in operators:
        for signal in (*op.sets, *op.updates):
            writes[signal.base].append(signal)
    return writes


def views_of(operators: Iterable[Any]) -> list[Signal]:
    """The signals of some operators that are views of others, each of them once."""
    return list(
        dict.fromkeys(
            [
                signal
                for op in operators
                for signals in (op.reads, op.sets, op.incs, op.updates)
                for signal in signals
                if signal.is_view
            ]
        )
    )


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
    if any(signal is base or signal.size == base.size for signal in sets):
        return True
    covered = np.zeros(base.size, bool)
    for signal in sets:
        covered[signal_index(signal)] = True
    return all(covered[signal_index(signal)].all() for signal in incs)


def are_zeros(values: np.ndarray) -> bool:
    """Whether all values are zeros, and none is -0.0.

    Examples
    --------
    >>> are_zeros(np.zeros(2)), are_zeros(np.array([0.0, -0.0]))
    (True, False)
    """
    if values.size > FEW:
        return not values.view(np.int64).any()
    return not values.tobytes().strip(b"\0")  # of few in a sixth of the time


class Pending:
    """Writes to one base signal that nobody has read yet.

    Positions are those of a base's entries; None stands for all of them in their order,
    as of most writes.

    Attributes
    ----------
    terms : list of (positions, elements, factors)
        What is added.
    """

    def __init__(self, size: int):
        self.size = size
        self.terms: list[tuple[np.ndarray | None, np.ndarray, np.ndarray | float]] = []
        self._bias: np.ndarray | None = None  # constants that were set; None: zeros
        #: which entries were set, so that older values do not count; True: all
        self._covered: np.ndarray | bool = False
        #: which were read, so that they cannot change any more in this step
        self._frozen: np.ndarray | None = None

    def cover(self, position: np.ndarray | None) -> None:
        """Entries are set: what they were before does not count."""
        if position is None:
            self._covered = True
        elif self._covered is not True:
            if self._covered is False:
                self._covered = np.zeros(self.size, bool)
            self._covered[position] = True

    def fill(self, position: np.ndarray | None, values: ArrayLike) -> None:
        """Entries are set to constants."""
        self.cover(position)
        values = np.asarray(values, np.float64)
        if self._bias is None:
            if are_zeros(values):
                return
            self._bias = np.zeros(self.size)
        self._bias[... if position is None else position] = values

    def add(
        self,
        position: np.ndarray | None,
        source: np.ndarray,
        factor: np.ndarray | float = 1.0,
    ) -> None:
        """Elements are added to entries, each multiplied by its factor."""
        self.terms.append((position, source, factor))

    def freeze(self, region: np.ndarray | None) -> None:
        """The entries of a region, or all, cannot change any more in this step."""
        if region is None:
            self._frozen = np.ones(self.size, bool)
        elif self._frozen is None:
            self._frozen = region.copy()
        else:
            self._frozen |= region

    def region(self, wanted: np.ndarray | None) -> np.ndarray | None:
        """Which entries there are to freeze, all or among those that are wanted.

        An array of bool; None: each of them.
        """
        if wanted is None:
            if self._frozen is None:
                return None if self.size else np.zeros(0, bool)
            return ~self._frozen
        region = np.zeros(self.size, bool)
        region[wanted] = True
        return region if self._frozen is None else region & ~self._frozen

    @property
    def covers_all(self) -> bool:
        """Whether all entries were set at once, so that no older value counts."""
        return self._covered is True

    def only_source(self) -> np.ndarray | None:
        """What all entries are copies of, if nothing else was written; else None."""
        if len(self.terms) != 1:
            return None
        position, source, factor = self.terms[0]
        if (type(factor) is not float and np.ndim(factor)) or factor != 1:
            return None
        if self._covered is not True and self._older().any():
            return None
        if self._frozen is not None and self._frozen.any():
            return None
        if self._bias is not None and self._bias.any():
            return None
        if position is None:
            return source
        in_order = position.size == self.size and (position == np.arange(self.size)).all()
        return source if in_order else None

    def sums(
        self,
        region: np.ndarray | None,
        current: np.ndarray | None,
        known: Callable | None = None,
    ) -> Any:
        """What the entries of a region are: arguments of `.graph.GraphBuilder.sum`.

        Parameters
        ----------
        region : ndarray of bool or None
            None: all entries.
        current : ndarray or None
            The elements that hold the signal before these writes. None: all entries were
            set, see `covers_all`.
        known : callable, optional
            Tells the values of elements that are constants: those are added up here.

        Returns
        -------
        bias, rows, sources, factors : ndarray
            Rows are counted within the region.
        """
        bias = np.zeros(self.size) if self._bias is None else self._bias
        if region is None:
            row_of, bias = np.arange(self.size, dtype=INDEX), bias.copy()
        else:
            row_of = np.cumsum(region, dtype=INDEX) - 1
            row_of[~region] = -1
            bias = bias[region]
        whole = region is None or bool(region.all())
        empty = np.zeros(0, INDEX)
        rows, sources = [empty], [empty]
        factors: list[np.ndarray] = [np.zeros(0)]
        terms: list[tuple[np.ndarray | None, np.ndarray, Any]] = self.terms
        if self._covered is not True:  # something of what was before may be left
            older = self._older() if region is None else region & self._older()
            remaining = np.flatnonzero(older)
            if remaining.size and current is not None:
                terms = [*terms, (remaining, current[remaining], 1.0)]
        for position, source, factor in terms:
            row = row_of if position is None else row_of[position]
            if not isinstance(factor, np.ndarray) or factor.ndim == 0:
                factor = np.full(row.shape, factor, np.float64)
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

    def _older(self) -> np.ndarray:
        """Which entries were not set: what they were before counts."""
        if isinstance(self._covered, np.ndarray):
            return ~self._covered
        return np.full(self.size, not self._covered)


def copied(bias: np.ndarray, rows: np.ndarray, sources: np.ndarray, factors: np.ndarray):
    """The elements that sums are nothing but copies of, or None.

    Arguments as for `.graph.GraphBuilder.sum`.
    """
    if rows.size != bias.size or bias.any() or not (factors == 1).all():
        return None
    elements = np.full(bias.size, -1, INDEX)
    elements[rows] = sources
    return elements if (elements >= 0).all() else None
