"""What is trained although an online learning rule changes it.

Each batch item has its own copy of what a rule changes, in the state of the simulation.
Training changes the value that all copies start from: a variable here. How far it has
moved is added to every copy, and the rule goes on from there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from nengo_dl.compiler.lowering import entries
from nengo_dl.runtime.tensorflow.parameter_banks import VariableMemory, for_keras


class StartingValues:
    """One variable for each signal that both training and a rule change.

    Parameters
    ----------
    layer : keras.layers.Layer
        Where the variables belong.
    program : Program
        Whose state has the copies.
    entries : mapping
        Base signal -> its `Parameter`.
    penalized : mapping
        Base signal -> regularizer and constraint, if it has any.
    used : set of Signal
        Those that probes depend on; the others are not trainable.

    Attributes
    ----------
    variables : dict
        Base signal -> variable.
    known : dict
        Base signal -> value of the variable that the copies have taken over.
    """

    def __init__(self, layer, program, entries: Mapping, penalized: Mapping, used):
        self.program = program
        self.variables = {
            signal: layer.add_weight(
                shape=entry.shape,
                initializer="zeros",
                trainable=signal in used,
                name=re.sub(r"[^A-Za-z0-9_.]+", "_", entry.name).strip("_"),
                dtype=program.dtype.name,
                **for_keras(penalized.get(signal, {})),
            )
            for signal, entry in entries.items()
        }
        self._memories = {s: VariableMemory(v) for s, v in self.variables.items()}
        self.known: dict = {}
        self.show()

    def _copies(self, signal) -> np.ndarray:
        """The present values in all items, ``(size, batch)``."""
        value = self.program.store.values.get(signal)
        if value is not None:
            return value
        first = entries(signal)[2] if signal.sparse else signal.initial_value
        first = np.ravel(first).astype(self.program.dtype)
        return np.repeat(first[:, None], self.program.batch, axis=1)

    def show(self) -> None:
        """The variables take the present values of the first item."""
        if self.variables:
            self.program.settle()
        for signal, variable in self.variables.items():
            value = self._copies(signal)[:, 0].reshape(variable.shape)
            if signal not in self.known or not np.array_equal(value, self.known[signal]):
                variable.assign(value)
        self.seen()

    def seen(self) -> None:
        """The copies have taken over what is in the variables."""
        for signal, memory in self._memories.items():
            if memory.changed() or signal not in self.known:
                self.known[signal] = np.array(memory.array)

    def pull(self) -> bool:
        """The copies take over what was written; returns whether there was anything."""
        changed = False
        for signal, memory in self._memories.items():
            if not memory.changed():
                continue
            moved = np.array(memory.array) - self.known[signal]
            if moved.any():
                self.program.settle()
                copies = self._copies(signal) + np.reshape(moved, (-1, 1))
                self.program.store.values[signal] = copies
                self.known[signal] = np.array(memory.array)
                changed = True
        return changed


class Started:
    """How the state of one `Variant` takes part in that.

    Parameters
    ----------
    values : StartingValues
    slots : sequence of StateSlot
        All states of the layout.
    """

    def __init__(self, values: StartingValues, slots):
        self.values = values
        self._places = []
        for slot in slots:
            if slot.key not in values.variables:
                continue
            variable = values.variables[slot.key]
            taken = tf.Variable(tf.zeros(variable.shape, variable.dtype), trainable=False)
            for number in np.unique(slot.carry[slot.carry >= 0]).tolist():
                mine = np.flatnonzero(slot.carry.ravel() == number)
                place = (number, mine, slot.row.ravel()[mine])
                self._places.append((slot.key, variable, taken, place))

    def begin(self) -> None:
        """The state is that of the simulation, as far as it knows the variables."""
        for signal, _, taken, _ in self._places:
            taken.assign(self.values.known[signal])

    def add(self, state: list) -> list:
        """The state ``(rows, batch)`` with how far the variables have moved."""
        state = [tf.convert_to_tensor(array) for array in state]
        for _, variable, taken, (number, mine, rows) in self._places:
            moved = tf.convert_to_tensor(variable.value) - taken
            moved = tf.gather(tf.reshape(moved, [-1]), mine)[:, None]
            moved = tf.repeat(moved, tf.shape(state[number])[1], axis=1)
            state[number] = tf.tensor_scatter_nd_add(state[number], rows[:, None], moved)
        return state

    def took(self) -> None:
        """The state has what is in the variables now."""
        for _, variable, taken, _ in self._places:
            taken.assign(variable.value)

    def settle(self, state: list) -> None:
        """The variables of the state take over how far the others have moved."""
        if self._places:
            for variable, value in zip(state, self.add(state), strict=True):
                variable.assign(value)
            self.took()
