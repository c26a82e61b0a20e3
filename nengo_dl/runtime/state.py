"""The one place where what lasts from call to call is kept."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from nengo_dl.compiler.layout import StateSlot


class StateStore:
    """State of the simulation by signal, independent of any program's layout.

    A program that is about to run takes its carried arrays from here, and gives them
    back when another one takes over. Values are arrays ``(size, batch)``.
    """

    def __init__(self, batch: int, dtype):
        self.batch = batch
        self.dtype = np.dtype(dtype)
        self.values: dict[object, np.ndarray] = {}

    def clear(self) -> None:
        """Back to the first values."""
        self.values.clear()

    def load(
        self, slots: Iterable[StateSlot], initial: Iterable[np.ndarray]
    ) -> list[np.ndarray]:
        """Carried arrays ``(rows, batch)`` for a layout.

        Parameters
        ----------
        slots : iterable of StateSlot
            The layout's states.
        initial : iterable of ndarray
            First values of each carried array, for what was never stored.
        """
        carry = [
            np.repeat(values.astype(self.dtype)[:, None], self.batch, axis=1)
            for values in initial
        ]
        for slot in slots:
            stored = self.values.get(slot.key)
            if stored is None:
                continue
            for number in np.unique(slot.carry[slot.carry >= 0]).tolist():
                mine = slot.carry == number
                carry[number][slot.row[mine]] = stored[mine]
        return carry

    def save(self, slots: Iterable[StateSlot], carry: list[np.ndarray]) -> None:
        """Take over what a program carries.

        Entries that no element of the program holds keep what they were.
        """
        for slot in slots:
            held = slot.carry >= 0
            if not held.any():
                continue
            value = self.values.get(slot.key)
            if value is None:
                value = np.zeros((slot.carry.size, self.batch), self.dtype)
                value[~np.isnan(slot.constant)] = slot.constant[
                    ~np.isnan(slot.constant), None
                ]
            value = value.copy()
            for number in np.unique(slot.carry[held]).tolist():
                mine = slot.carry == number
                value[mine] = carry[number][slot.row[mine]]
            self.values[slot.key] = value

    def fits(self, slots: Iterable[StateSlot], initial: Iterable[np.ndarray]) -> bool:
        """Whether a layout can hold all values: those that share a place are equal."""
        slots = list(slots)
        carry = self.load(slots, initial)
        for slot in slots:
            stored = self.values.get(slot.key)
            if stored is None:
                continue
            fixed = ~np.isnan(slot.constant)
            constant = slot.constant[fixed, None].astype(self.dtype)
            if (stored[fixed] != constant).any():
                return False
            for number in np.unique(slot.carry[slot.carry >= 0]).tolist():
                mine = slot.carry == number
                if (carry[number][slot.row[mine]] != stored[mine]).any():
                    return False
        return True

    def copy(self) -> dict[object, np.ndarray]:
        """All values, to be given to `restore` later."""
        return dict(self.values)

    def restore(self, values: dict[object, np.ndarray], keep=()) -> None:
        """Values from `copy`, but for the signals to ``keep`` as they are now."""
        kept = {key: self.values[key] for key in keep if key in self.values}
        self.values = {**values, **kept}
