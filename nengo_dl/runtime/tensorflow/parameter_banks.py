"""The variables that hold a network's parameters, for Keras."""

import itertools
import re
from collections import defaultdict

import keras
import numpy as np
import tensorflow as tf

from nengo_dl.compiler.graph import ParameterRef


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

    def __init__(self, layer, store, used):
        self.store = store
        self.place = {}
        self.signals = []
        self.variables = []
        groups = defaultdict(list)
        frozen, penalized = store.fixed, store.penalized
        for entry in store.entries:
            base = entry.signal.base
            if base in store and base not in store.layers.variables:
                trainable = base in used and base not in frozen
                own = base if base in penalized else None
                groups[(entry.attr, store[base].shape, trainable, own)].append(entry)
        for (attr, shape, trainable, own), entries in groups.items():
            signals = list(dict.fromkeys(entry.signal.base for entry in entries))
            for i, signal in enumerate(signals):
                self.place[signal] = (len(self.signals), i)
            self.signals.append(signals)
            size = "x".join(map(str, shape)) or "scalar"
            one = len(signals) == 1
            name = entries[0].name if one else f"{len(signals)} {attr} {size}"
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

    def push(self):
        """The variables take the values of the store."""
        for signals, variable, _ in zip(self.signals, self.variables, self._memories):
            values = np.stack([self.store[signal] for signal in signals])
            variable.assign(values[0] if len(signals) == 1 else values)
        for memory in self._memories:
            memory.changed()

    def pull(self):
        """The store takes the values of the variables; returns whether any differs."""
        values = {}
        for signals, memory in zip(self.signals, self._memories):
            if memory.changed():
                array = memory.array
                parts = array[None] if len(signals) == 1 else array
                values.update(zip(signals, parts, strict=True))
        return bool(values) and self.store.write(values)

    def not_finite(self):
        """The signals of which some value is NaN or infinite."""
        found = []
        for signals, variable in zip(self.signals, self.variables):
            value = tf.convert_to_tensor(variable.value)
            # the sum is a number unless a value is none, or it overflows
            if np.isfinite(tf.reduce_sum(value).numpy()):
                continue
            parts = value if len(signals) > 1 else value[None]
            fine = tf.reduce_all(tf.math.is_finite(parts), range(1, parts.shape.rank))
            found += [
                s for s, good in zip(signals, fine.numpy(), strict=True) if not good
            ]
        return found

    def tensor(self, ref):
        """A parameter, or a part of it, as a differentiable tensor."""
        number, i = self.place[ref.key]
        value = dense(tf.convert_to_tensor(self.variables[number].value))
        value = tf.cast(value, self.store.dtype)
        if len(self.signals[number]) > 1:
            value = value[i]
        if ref.index is not None:
            value = tf.gather(tf.reshape(value, [-1]), ref.index.ravel())
        return tf.reshape(value, ref.shape)

    def pack(self, weight):
        """A program's argument as a differentiable tensor."""
        shape = (-1, *weight.items[0].shape) if weight.form == "stack" else (-1, 1)
        parts = []
        for bank, items in itertools.groupby(weight.items, self._bank):
            items = list(items)
            if bank is None:
                several = [self._single(item) for item in items]
            else:
                several = [self._slices(bank, [self.place[i.key][1] for i in items])]
            parts += [tf.reshape(part, shape) for part in several]
        return parts[0] if len(parts) == 1 else tf.concat(parts, 0)

    def _bank(self, item):
        """The number of the variable of which an item is a slice; None if it is none."""
        if not isinstance(item, ParameterRef) or item.index is not None:
            return None
        number = self.place[item.key][0]
        return number if len(self.signals[number]) > 1 else None

    def _single(self, item):
        if isinstance(item, ParameterRef):
            return self.tensor(item)
        return tf.constant(item, self.store.dtype)

    def _slices(self, number, rows):
        """Many slices of one variable at once instead of one by one."""
        bank = dense(tf.convert_to_tensor(self.variables[number].value))
        first, stop = rows[0], rows[0] + len(rows)
        if rows != list(range(first, stop)):
            return tf.gather(bank, rows)
        return bank if stop - first == bank.shape[0] else bank[first:stop]


def dense(value):
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


def for_keras(penalties):
    """Regularizer and constraint as arguments of ``add_weight``."""
    kinds = {"regularizer": Regularizer, "constraint": Constraint}
    return {name: kinds[name](f) for name, f in penalties.items() if f is not None}


class VariableMemory:
    """Where a variable's value lies, to see quickly whether it was written.

    Single steps ask for every variable, so comparing values would cost more than the
    step. TensorFlow never writes to memory that somebody else holds, but takes other
    memory instead: a variable that still lies where it did, while this object holds the
    place, has not been written. On another device than the CPU the value is copied, and
    always counts as changed.
    """

    def __init__(self, variable):
        self._handle, self._dtype = variable.value.handle, variable.value.dtype
        self.array = None

    def changed(self):
        """Whether `array`, the value, is another one than it was at the last call."""
        value = tf.raw_ops.ReadVariableOp(resource=self._handle, dtype=self._dtype)
        try:
            array = np.asarray(memoryview(value))
        except (BufferError, TypeError, ValueError):  # the last one of bfloat16
            array = value.numpy()
        if self.array is not None and np.may_share_memory(array, self.array):
            return False
        self.array = array
        return True
