"""Nengo objects by what they were in Keras."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

__all__ = ["KerasMapping"]


class KerasMapping(Mapping):
    """A read-only mapping from Keras layers and tensors to Nengo objects.

    Keys are layers, symbolic tensors (``layer.output``, ``model.input``, …), or names of
    layers. Iterating gives the layers or tensors, in the order of the model.

    Parameters
    ----------
    what : str
        What is looked up, for messages.
    """

    def __init__(self, what: str):
        self.what = what
        self._keys = []
        self._entries = {}

    def add(self, obj: Any, key: Any, others: Sequence[Any] = ()) -> None:
        """Make an object known by a key that iterating gives, and by others."""
        if not any(key is known for known in self._keys):
            self._keys.append(key)
        for name in (key, *others):
            self._entries.setdefault(_hashable(name), []).append((name, obj))

    def add_names(self, structure: Any) -> None:
        """Make objects known by the names that a model has for its inputs or outputs.

        Parameters
        ----------
        structure
            A model's tensors; those of a dict are named by its keys.
        """
        if isinstance(structure, Mapping):
            for name, tensor in structure.items():
                if isinstance(name, str) and tensor in self:
                    self._entries[name] = [(name, self[tensor])]

    def arrays(self, data: Any, where: str) -> list[np.ndarray]:
        """One array for each key that iterating gives, in that order.

        Parameters
        ----------
        data : array or list or dict
            As Keras takes them; of a dict, the keys are those of this mapping.
        where : str
            For messages.

        Raises
        ------
        ValueError
            If there are more or less.
        KeyError
            If a key of a dict is unknown.
        """
        if isinstance(data, Mapping):
            given = {id(self[key]): array for key, array in data.items()}
            own = [id(self[key]) for key in self]
            found = [np.asarray(given[obj]) for obj in own if obj in given]
        else:
            found = [np.asarray(array) for array in keras.tree.flatten(data)]
        if len(found) != len(self):
            raise ValueError(
                f"{where}: expected {len(self)} {self.what}, got {len(found)}"
            )
        return found

    def __getitem__(self, key: Any) -> Any:
        found = self._entries.get(_hashable(key), [])
        objects = list({id(obj): obj for _, obj in found}.values())
        if not objects:
            known = ", ".join(repr(getattr(k, "name", k)) for k in self._keys)
            raise KeyError(f"{key!r} is none of the {self.what} of this model: {known}")
        if len(objects) > 1:
            raise KeyError(
                f"{getattr(key, 'name', key)!r} is used {len(objects)} times; look it up "
                "by the tensor of one of its calls instead"
            )
        return objects[0]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def __repr__(self) -> str:
        names = ", ".join(repr(getattr(key, "name", key)) for key in self._keys)
        return f"<{type(self).__name__} of {len(self)} {self.what}: {names}>"

    def __contains__(self, key: Any) -> bool:
        return _hashable(key) in self._entries


def _hashable(key):
    """Layers and tensors by identity, names by value."""
    if isinstance(key, str):
        return key
    if isinstance(key, list | tuple) and len(key) == 1:
        return _hashable(key[0])  # some models have lists of one input
    if isinstance(key, keras.KerasTensor | keras.Operation):
        return id(key)
    raise KeyError(f"expected a Keras layer, tensor or name; got {key!r}")
