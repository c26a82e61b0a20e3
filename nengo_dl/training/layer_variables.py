"""The variables of Keras layers in a network, and their place among its parameters."""

from __future__ import annotations

from collections.abc import Set
from typing import TYPE_CHECKING, Any

import numpy as np
from nengo.builder import Model, Signal

from nengo_dl.tensor_node import layer_parameters, layers_of

if TYPE_CHECKING:
    from nengo_dl.training.parameter_store import ParameterStore
    from nengo_dl.training.parameters import Parameter


class LayerVariables:
    """Keras variables that users brought, and what the simulator knows of their values.

    They stay where they are, in the user's layers, so that what is trained here is seen
    there, and the other way round.

    Parameters
    ----------
    model : ~nengo.builder.Model
    entries : list of Parameter
        The parameters of the model; those of layers among them.

    Attributes
    ----------
    variables : dict
        Signal -> Keras variable.
    objects : list
        The layers; of plain functions, the variables that they use.
    """

    def __init__(self, model: Model, entries: list[Parameter]) -> None:
        self.variables = {s: variable for _, _, s, variable in layer_parameters(model)}
        self.objects = layers_of(model)
        self._trainable = {e.signal: e.trainable for e in entries}
        self._memories: dict[Signal, Any] = {}
        self._frozen = [v for v in self.variables.values() if not v.trainable]

    def thawed(self) -> list[Any]:
        """Variables that were made trainable since, which has no effect."""
        return [variable for variable in self._frozen if variable.trainable]

    def untrained(self, used: Set[Signal]) -> frozenset[int]:
        """Variables that Keras would train, and the network does not.

        Parameters
        ----------
        used : set of Signal
            Parameters that the probes depend on.

        Returns
        -------
        frozenset of int
            What ``id`` gives for them.
        """
        return frozenset(
            id(variable)
            for signal, variable in self.variables.items()
            if signal not in used or not self._trainable[signal]
        )

    def push(self, store: ParameterStore) -> None:
        """The variables take the values of the store, where it has others."""
        for signal, variable in self.variables.items():
            value = store[signal]
            if not np.array_equal(variable.numpy().astype(store.dtype), value):
                variable.assign(value)

    def changed(self, store: ParameterStore) -> dict[Signal, np.ndarray]:
        """The values that are not those of the store: signal -> array."""
        found = {}
        for signal, memory in self._places().items():
            if memory.changed():
                array = np.asarray(memory.array, store.dtype)
                if not np.array_equal(array, store[signal]):
                    found[signal] = array
        return found

    def _places(self) -> dict[Signal, Any]:
        """Where the values lie, to see quickly which ones were written."""
        if not self._memories and self.variables:
            from nengo_dl.runtime.tensorflow.variables import VariableMemory

            self._memories = {s: VariableMemory(v) for s, v in self.variables.items()}
        return self._memories
