"""What somebody outside looks at: elements with a name, by themselves and in columns."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from nengo_dl.compiler.records import like, record
from nengo_dl.compiler.runs import INDEX

FLAGS = ("observed", "written", "common")
"""The fields of a `Reading` that are True or False."""


@dataclass(frozen=True)
class Reading:
    """Elements that somebody outside looks at: a probe, or one signal's state.

    For a state, an entry is -1 where no element holds it any more. A state that is
    ``observed`` is looked at from outside whether or not a probe depends on it. One that
    is ``written`` may be given other values from outside between two steps. One that is
    ``common`` has one value for all items of a batch.
    """

    key: Hashable
    elements: np.ndarray
    shape: tuple[int, ...]
    observed: bool = False
    written: bool = False
    common: bool = False


class Readings(Sequence[Reading]):
    """Many readings, which may have all their elements in one array.

    Every pass gives elements other numbers, and large networks have thousands of states:
    to rename them is one operation of NumPy. A `Reading` is made when somebody asks for
    one.

    Parameters
    ----------
    keys, shapes : list
        Of each of them.
    sizes : ndarray of int
        How many elements each has.
    elements : ndarray of int
        Those of all, one behind the other.
    observed, written, common : ndarray of bool
        See `Reading`.

    Examples
    --------
    >>> readings = Readings.of([Reading("a", np.array([3, 5]), (2,))])
    >>> readings.renamed(np.arange(6) + 10)[0].elements
    array([13, 15])
    """

    def __init__(
        self,
        keys: Sequence[Hashable],
        shapes: Sequence[tuple[int, ...]],
        sizes: np.ndarray,
        elements: np.ndarray,
        observed: np.ndarray,
        written: np.ndarray,
        common: np.ndarray,
    ) -> None:
        self.keys, self.shapes, self.sizes = keys, shapes, sizes
        self.elements = elements
        self.observed, self.written, self.common = observed, written, common

    @classmethod
    def of(cls, readings: Iterable[Reading]) -> Readings:
        """Readings in columns; themselves if they are."""
        if isinstance(readings, Readings):
            return readings
        found = tuple(readings)
        return cls.from_columns(
            [reading.key for reading in found],
            [reading.shape for reading in found],
            [reading.elements for reading in found],
            *([getattr(reading, flag) for reading in found] for flag in FLAGS),
        )

    @classmethod
    def from_columns(
        cls,
        keys: Sequence[Hashable],
        shapes: Sequence[tuple[int, ...]],
        elements: Iterable[np.ndarray],
        *flags: Sequence[bool],
    ) -> Readings:
        """Readings with what each field is for all of them, field by field."""
        arrays = [np.ravel(array) for array in elements]
        sizes = np.array([array.size for array in arrays], np.int64)
        flat = np.concatenate([np.zeros(0, INDEX), *arrays])
        return cls(keys, shapes, sizes, flat, *(np.array(flag, bool) for flag in flags))

    @property
    def stops(self) -> np.ndarray:
        """Where the elements of each of them end."""
        return np.cumsum(self.sizes)

    def held(self, chosen: np.ndarray) -> np.ndarray:
        """The elements of some of them, ``chosen`` for each: those that there are."""
        if not chosen.any():
            return np.zeros(0, INDEX)
        found = self.elements[np.repeat(chosen, self.sizes)]
        return found[found >= 0]

    def having(self, elements: np.ndarray) -> Readings:
        """Readings of other elements, which are like these in all else."""
        return like(self, "elements", elements)

    def unobserved(self) -> Readings:
        """Readings of these elements, of which none is observed."""
        return like(self, "observed", np.zeros_like(self.observed))

    def renamed(self, mapping: np.ndarray) -> Readings:
        """Readings of the elements that a mapping gives in place of theirs; -1 stays."""
        moved = mapping[self.elements]
        moved[self.elements < 0] = -1
        if moved.dtype == self.elements.dtype and np.array_equal(moved, self.elements):
            return self  # as where matrices are stacked
        return self.having(moved)

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[Reading]:
        start = 0
        flags = (getattr(self, flag).tolist() for flag in FLAGS)
        for key, shape, stop, observed, written, common in zip(
            self.keys, self.shapes, self.stops.tolist(), *flags, strict=True
        ):
            elements, start = self.elements[start:stop], stop
            yield record(
                Reading,
                key=key,
                elements=elements,
                shape=shape,
                observed=observed,
                written=written,
                common=common,
            )

    @overload
    def __getitem__(self, index: int) -> Reading: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Reading]: ...

    def __getitem__(self, index: int | slice) -> Reading | Sequence[Reading]:
        return tuple(self)[index]

    def __repr__(self) -> str:
        return f"<Readings of {len(self)}>"
