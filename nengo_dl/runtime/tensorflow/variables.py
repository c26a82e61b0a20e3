"""The Keras variables that hold a network's parameters, and what learning starts from."""

from __future__ import annotations

import itertools
import math
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from nengo_dl.compiler.graph import ParameterRef
from nengo_dl.compiler.layout import StateSlot, Weight
from nengo_dl.compiler.memory import entries

# parameters ---------------------------------------------------------------------------


class ParameterBanks:
    """The Keras variables that hold a network's parameters.

    Parameters of one shape share a variable, one slice for each: an optimizer then
    works on a few large arrays instead of thousands of small ones. Those with a
    regularizer or a constraint have one of their own, which Keras treats accordingly.

    Parameters
    ----------
    layer : keras.layers.Layer
        Where the variables belong.
    store : ParameterStore
    used : set of Signal
        Parameters that the probes depend on; the others are not trainable.
    """

    def __init__(self, layer: keras.layers.Layer, store: Any, used: Collection) -> None:
        self.store = store
        self.place: dict = {}
        self.signals: list[list] = []
        self.variables: list = []
        groups = defaultdict(list)
        frozen, penalized = store.fixed, store.penalized
        for entry in store.entries:
            base = entry.signal.base
            if base in store and base not in store.layers.variables:
                trainable = base in used and base not in frozen
                own = base if base in penalized else None
                groups[(entry.attr, store[base].shape, trainable, own)].append(entry)
        for (attr, shape, trainable, own), members in groups.items():
            signals = list(dict.fromkeys(entry.signal.base for entry in members))
            for i, signal in enumerate(signals):
                self.place[signal] = (len(self.signals), i)
            self.signals.append(signals)
            size = "x".join(map(str, shape)) or "scalar"
            one = len(signals) == 1
            name = members[0].name if one else f"{len(signals)} {attr} {size}"
            self.variables.append(
                layer.add_weight(
                    shape=shape if one else (len(signals), *shape),
                    initializer="zeros",
                    trainable=trainable,
                    name=re.sub(r"[^A-Za-z0-9_.]+", "_", name).strip("_"),
                    dtype=store.dtype.name,
                    **for_keras(penalized.get(own, {})),
                )
            )
        self._memories = [VariableMemory(variable) for variable in self.variables]
        self.push()
        for signal, variable in store.layers.variables.items():
            self.place[signal] = (len(self.signals), 0)
            self.signals.append([signal])
            self.variables.append(variable)

    def trains(self, signal: Any) -> bool:
        """Whether training may change a signal, as its variable is at present."""
        return bool(self.variables[self.place[signal][0]].trainable)

    def push(self) -> None:
        """The variables take the values of the store."""
        for signals, variable, _ in zip(self.signals, self.variables, self._memories):
            values = np.stack([self.store[signal] for signal in signals])
            variable.assign(values[0] if len(signals) == 1 else values)
        for memory in self._memories:
            memory.changed()

    def pull(self) -> bool:
        """The store takes the values of the variables; returns whether any differs."""
        values: dict = {}
        for signals, memory in zip(self.signals, self._memories):
            if memory.changed():
                array = memory.array
                parts = array[None] if len(signals) == 1 else array
                values.update(zip(signals, parts, strict=True))
        return bool(values) and self.store.write(values)

    def not_finite(self) -> list:
        """The signals of which some value is NaN or infinite."""
        found: list = []
        for signals, variable in zip(self.signals, self.variables):
            value = tf.convert_to_tensor(variable.value)
            array = _in_memory(value)
            total = tf.reduce_sum(value).numpy() if array is None else _total(array)
            # the sum is a number unless a value is none, or it overflows
            if np.isfinite(total):
                continue
            parts = value if len(signals) > 1 else value[None]
            fine = tf.reduce_all(tf.math.is_finite(parts), range(1, parts.shape.rank))
            found += [
                s for s, good in zip(signals, fine.numpy(), strict=True) if not good
            ]
        return found

    def tensor(self, ref: ParameterRef, shape: tuple[int, ...]) -> tf.Tensor:
        """A parameter, or a part of it, as a differentiable tensor of some shape."""
        number, i = self.place[ref.key]
        value = tf.convert_to_tensor(self.variables[number].value)
        value = tf.cast(value, self.store.dtype)
        if len(self.signals[number]) > 1:
            value = value[i]
        if ref.index is not None:
            value = tf.gather(tf.reshape(value, [-1]), ref.index.ravel())
        return tf.reshape(value, shape)  # which makes it `dense`

    def pack(self, weight: Weight) -> tf.Tensor:
        """A program's argument as a differentiable tensor."""
        shape = (-1, *weight.items[0].shape) if weight.form == "stack" else (-1, 1)
        parts = []
        for bank, alike in itertools.groupby(weight.items, self._bank):
            items: list[Any] = list(alike)
            if bank is None:
                several = [self._single(item, shape) for item in items]
            else:
                rows = [self.place[item.key][1] for item in items]
                several = [self._slices(bank, rows)]
            parts += [_reshaped(part, shape) for part in several]
        return parts[0] if len(parts) == 1 else tf.concat(parts, 0)

    def _bank(self, item):
        """The number of the variable of which an item is a slice; None if it is none."""
        if not isinstance(item, ParameterRef) or item.index is not None:
            return None
        number = self.place[item.key][0]
        return number if len(self.signals[number]) > 1 else None

    def _single(self, item, shape):
        if isinstance(item, ParameterRef):
            rest = math.prod(shape[1:])
            return self.tensor(item, (math.prod(item.shape) // max(rest, 1), *shape[1:]))
        return tf.constant(item, self.store.dtype)

    def _slices(self, number, rows):
        """Many slices of one variable at once instead of one by one."""
        bank = dense(tf.convert_to_tensor(self.variables[number].value))
        first, stop = rows[0], rows[0] + len(rows)
        if rows != list(range(first, stop)):
            return tf.gather(bank, rows)
        return bank if stop - first == bank.shape[0] else bank[first:stop]


def _reshaped(value: tf.Tensor, shape: tuple[int, ...]) -> tf.Tensor:
    """A value of a shape with one -1, as it is if that is its own."""
    size = value.shape.num_elements()
    rest = int(np.prod(shape[1:]))
    same = size is not None and value.shape == (size // max(rest, 1), *shape[1:])
    return value if same else tf.reshape(value, shape)


def dense(value: tf.Tensor) -> tf.Tensor:
    """A value whose gradient is one array, not slices with their indices.

    Optimizers differ in what they do with slices; the whole array is used anyway. It is
    the gradient of reshaping that makes the array: one of our own would be registered
    in TensorFlow for ever, with the training step around it.
    """
    known = value.shape.is_fully_defined()
    return tf.reshape(value, value.shape if known else tf.shape(value))


class _Applied:
    """A function of weights as an object of a class that Keras wants.

    Older releases of Keras take no other functions as regularizers and constraints.
    """

    def __init__(self, function):
        self.function = function

    def __call__(self, weights):
        return self.function(weights)


class Regularizer(_Applied, keras.regularizers.Regularizer):
    """Any function as a regularizer."""


class Constraint(_Applied, keras.constraints.Constraint):
    """Any function as a constraint."""


def for_keras(penalties: Mapping) -> dict[str, Any]:
    """Regularizer and constraint as arguments of ``add_weight``."""
    kinds = {"regularizer": Regularizer, "constraint": Constraint}
    return {name: kinds[name](f) for name, f in penalties.items() if f is not None}


def _in_memory(value: Any) -> np.ndarray | None:
    """A tensor as an array in the same memory; None if NumPy cannot look at that."""
    try:
        return np.asarray(memoryview(value))
    except (BufferError, TypeError, ValueError):  # the last one of bfloat16
        return None


def _total(array: np.ndarray) -> Any:
    """The sum of all numbers: an operation of TensorFlow takes five times as long."""
    with np.errstate(all="ignore"):
        return np.add.reduce(array, axis=None)


class VariableMemory:
    """Where a variable's value lies, to see quickly whether it was written.

    Single steps ask for every variable, so comparing values would cost more than the
    step. TensorFlow never writes to memory that somebody else holds, but takes other
    memory instead: a variable that still lies where it did, while this object holds the
    place, has not been written. On another device than the CPU the value is copied, and
    always counts as changed.
    """

    def __init__(self, variable: Any) -> None:
        self._handle, self._dtype = variable.value.handle, variable.value.dtype
        self.array: Any = None

    def changed(self) -> bool:
        """Whether `array`, the value, is another one than it was at the last call."""
        value = tf.raw_ops.ReadVariableOp(resource=self._handle, dtype=self._dtype)
        array = _in_memory(value)
        array = value.numpy() if array is None else array
        if self.array is not None and np.may_share_memory(array, self.array):
            return False
        self.array = array
        return True


# values that learning rules start from ------------------------------------------------
#
# What is trained although an online learning rule changes it. Each batch item has its
# own copy of what a rule changes, in the state of the simulation. Training changes the
# value that all copies start from: a variable here. How far it has moved is added to
# every copy, and the rule goes on from there.


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

    def __init__(
        self,
        layer: keras.layers.Layer,
        program: Any,
        entries: Mapping,
        penalized: Mapping,
        used: Collection,
    ) -> None:
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
    turned : bool, optional
        Whether they lie ``(batch, rows)``, and not ``(rows, batch)``.
    """

    def __init__(
        self, values: StartingValues, slots: Iterable[StateSlot], turned: bool = False
    ) -> None:
        self.values, self.turned = values, turned
        self._places = []
        for slot in slots:
            if slot.key not in values.variables:
                continue
            variable = values.variables[slot.key]
            taken = tf.Variable(tf.zeros(variable.shape, variable.dtype), trainable=False)
            for number in slot.carries:
                mine = np.flatnonzero(slot.carry.ravel() == number)
                place = (number, mine, slot.row.ravel()[mine])
                self._places.append((slot.key, variable, taken, place))

    def begin(self) -> None:
        """The state is that of the simulation, as far as it knows the variables."""
        for signal, _, taken, _ in self._places:
            taken.assign(self.values.known[signal])

    def add(self, state: list) -> list:
        """The state with how far the variables have moved."""
        state = [tf.convert_to_tensor(array) for array in state]
        for _, variable, taken, (number, mine, rows) in self._places:
            moved = tf.convert_to_tensor(variable.value) - taken
            moved = tf.gather(tf.reshape(moved, [-1]), mine)[:, None]
            before = tf.transpose(state[number]) if self.turned else state[number]
            moved = tf.repeat(moved, tf.shape(before)[1], axis=1)
            after = tf.tensor_scatter_nd_add(before, rows[:, None], moved)
            state[number] = tf.transpose(after) if self.turned else after
        return state

    @property
    def any(self) -> bool:
        """Whether variables take part in the state at all."""
        return bool(self._places)

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
