"""The present values of all parameters of a simulator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from nengo.builder import Model, Signal

from nengo_dl.training.layer_variables import LayerVariables
from nengo_dl.training.parameters import Parameter, collect_parameters, initial_value


class ParameterStore(Mapping[Signal, np.ndarray]):
    """Base signal -> value, for every parameter that no operator changes.

    Parameters
    ----------
    model : ~nengo.builder.Model
    dtype : dtype
        The simulator's.

    Attributes
    ----------
    entries : list of Parameter
        All parameters, those that are learned online included; these are no keys,
        because their values are part of the simulation's state. In a model that core's
        optimizer has changed, several may be parts of one base signal.
    learned : frozenset of Signal
        Base signals of those.
    initial : dict
        The values that the parameters were built with.
    layers : LayerVariables
        Those that are variables of Keras layers.
    version : int
        Grows with every change.
    """

    def __init__(self, model: Model, dtype: Any) -> None:
        self.dtype = np.dtype(dtype)
        self.entries = collect_parameters(model)
        self.learned = frozenset(p.signal.base for p in self.entries if p.learned)
        self.version = 0
        self._held: dict[Signal, np.ndarray] = {}
        changed = {
            signal.base
            for op in model.operators
            for signal in (*op.sets, *op.incs, *op.updates)
        }
        with np.errstate(over="ignore"):
            self.initial = {
                p.signal.base: np.asarray(initial_value(p.signal.base), self.dtype)
                for p in self.entries
                if p.signal.base not in changed
            }
        self._values = dict(self.initial)
        self.layers = LayerVariables(model, self.entries)

    def __getitem__(self, signal: Signal) -> np.ndarray:
        return self._values[signal] if signal in self._values else self._held[signal]

    def __iter__(self) -> Iterator[Signal]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, signal: object) -> bool:
        return signal in self._values or signal in self._held

    @property
    def fixed(self) -> set[Signal]:
        """Base signals that training leaves as they are, at least in part."""
        return {entry.signal.base for entry in self.entries if not entry.trainable}

    @property
    def penalized(self) -> dict[Signal, dict[str, Any]]:
        """Base signal -> its regularizer and constraint, where it has any.

        Several connections may have one array of weights; the first that says something
        counts. Parts of an array have none, see `penalized_parts`.
        """
        found = {}
        for entry in self.entries:
            own = {"regularizer": entry.regularizer, "constraint": entry.constraint}
            if any(own.values()) and not entry.signal.is_view:
                found.setdefault(entry.signal, own)
        return found

    def overflown(self) -> list[Parameter]:
        """Parameters that were built with numbers that the type cannot hold."""
        if self.dtype == np.float64:
            return []
        infinite = {s for s, value in self.initial.items() if np.isinf(value).any()}
        return [
            entry
            for entry in self.entries
            if entry.signal.base in infinite
            and np.isfinite(initial_value(entry.signal)).all()
        ]

    def penalized_parts(self) -> list[Parameter]:
        """Parameters whose regularizer or constraint cannot be obeyed.

        They are parts of one signal with others, see `merged_with_fixed`.
        """
        return [
            entry
            for entry in self.entries
            if entry.signal.is_view and (entry.regularizer or entry.constraint)
        ]

    def merged_with_fixed(self) -> list[Parameter]:
        """Parameters that can only be trained together with what must not be.

        They are parts of one signal with what is not trainable, or with what operators
        change, which happens where core Nengo optimizes a model.
        """
        fixed = self.fixed
        both = self.trained_and_learned
        return [
            entry
            for entry in self.entries
            if entry.trainable
            and entry.signal not in both
            and (entry.signal.base in fixed or entry.signal.base not in self._values)
        ]

    @property
    def trained_and_learned(self) -> dict[Signal, Parameter]:
        """Base signal -> what is to be trained although operators change it."""
        return {
            entry.signal: entry
            for entry in self.entries
            if entry.trainable
            and not entry.signal.is_view
            and entry.signal not in self._values
        }

    def write(self, values: Mapping[Signal, Any]) -> bool:
        """Take over other values; returns whether any is different."""
        different = {
            signal: np.array(value, self.dtype)
            for signal, value in values.items()
            if not np.array_equal(value, self._values[signal])
        }
        for signal, value in different.items():
            value.setflags(write=False)
            self._values[signal] = value
        self.version += bool(different)
        return bool(different)

    def written(self) -> dict[Signal, np.ndarray]:
        """Base signal -> present value, for those that have another than at first."""
        return {s: v for s, v in self._values.items() if v is not self.initial[s]}

    def held(self) -> dict[Signal, np.ndarray]:
        """What was given to `hold`."""
        return dict(self._held)

    def hold(self, values: Mapping[Signal, np.ndarray]) -> None:
        """Keep last values of what is learned online, for a closed simulator."""
        self._held = dict(values)
