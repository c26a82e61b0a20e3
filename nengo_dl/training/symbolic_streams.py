"""Elements of a ``tf.data.Dataset``, checked and completed inside of TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from nengo.exceptions import ValidationError

from nengo_dl.runtime.tensorflow.python_calls import numpy_function
from nengo_dl.training.inputs import N_STEPS, Symbol
from nengo_dl.training.targets import sparse_loss, takes_any_shape

if TYPE_CHECKING:
    from nengo_dl.training.streams import Stream


class SymbolicStream:
    """A ``tf.data.Dataset``: what its ``element_spec`` tells is checked at once.

    The rest, such as the number of items, is checked as elements come, inside of
    TensorFlow; Python is called only if something does not fit, to say what.

    Parameters
    ----------
    stream : Stream
    source : tf.data.Dataset
    """

    def __init__(self, stream: Stream, source: Any) -> None:
        self.stream, self.about = stream, stream.about
        self.spec = source.element_spec
        given, _ = self._check(self.spec)
        stream.begin(given)
        self.data = source.enumerate().map(self._convert)

    def _check(self, element):
        """An element of symbols, and its entry for the number of steps."""
        x, y, weight = self.stream.parts(element)
        entry = None
        if isinstance(x, Mapping) and N_STEPS not in self.about.nodes.values():
            x = dict(x)
            entry = x.pop(N_STEPS, None)
        parts = tf.nest.map_structure(symbol, (x, y, weight))
        given = self.stream.check(parts, symbolic=True)
        if given.steps is None and not given.inputs and entry is None:
            raise ValidationError(
                "the number of steps is not known; give n_steps", attr=self.stream.where
            )
        if self.stream.class_weight is not None:
            self.about.classes(given, self.stream.where)
        return given, entry

    @tf.autograph.experimental.do_not_convert
    def _convert(self, number, element):
        given, entry = self._check(element)
        checked = self._checked(given, element, entry, number)
        with tf.control_dependencies([checked]):
            return self._parts(given, entry, number)

    def _parts(self, given, entry, number):
        """The parts of an element as Keras takes them."""
        about, names = self.about, self.about.names
        items, steps = self._sizes(given, entry)
        known = given.steps
        inputs = {}
        for node, value in given.inputs.items():
            x = tf.cast(value.tensor, about.dtype)
            inputs[node] = tf.ensure_shape(x, (None, known, node.size_out))
        inputs.update(self._own(number, items, steps, known))
        inputs = {about.nodes[node]: x for node, x in inputs.items()}
        if not inputs:
            inputs[N_STEPS] = tf.ones((items, steps, 1), about.dtype)
        if not self.stream.targets:
            return (inputs,)
        nothing = tf.zeros((items, 1, 1), about.dtype)
        given_targets = {names[p]: self._target(p, y) for p, y in given.targets.items()}
        targets = {name: given_targets.get(name, nothing) for name in names.values()}
        weights = given.weights
        if self.stream.class_weight is not None:
            ((name, y),) = given_targets.items()
            weights = {name: self._of_classes(y)}
        elif weights is not None:
            weights = {name: self._weight(w, items) for name, w in weights.items()}
        if weights is None:
            return inputs, targets
        ones = tf.ones((items, 1), about.dtype)
        return inputs, targets, {name: weights.get(name, ones) for name in targets}

    def _sizes(self, given, entry):
        """The numbers of items and of steps, as tensors."""
        arrays = [*given.inputs.values(), *given.targets.values()]
        first = arrays[0].tensor if arrays else entry
        if given.steps is not None:
            steps = tf.constant(given.steps)
        elif given.inputs:
            steps = tf.shape(next(iter(given.inputs.values())).tensor)[1]
        else:
            steps = tf.cast(tf.reshape(entry, [-1])[0], tf.int32)
        return tf.shape(first)[0], steps

    def _target(self, probe, value):
        steps = self.about.steps_of(probe, None)
        shape = self.about.shapes[probe]
        if value.dtype.kind in "iu":
            shape = (None,) * len(shape)
            return tf.ensure_shape(value.tensor, (None, steps, *shape))
        y = tf.cast(value.tensor, self.about.dtype)
        read = self.about.compared(probe)
        if takes_any_shape(read):
            if y.shape.rank is None:  # Keras' losses cannot do without
                y = tf.ensure_shape(y, (None,) * (2 + len(shape)))
            return y
        if sparse_loss(read) is not None and value.shape[2:] == (1,):
            shape = (1,)
        return tf.ensure_shape(y, (None, steps, *shape))

    def _weight(self, value, items):
        """Always with two axes, of which the second may have length 1."""
        weight = tf.reshape(tf.cast(value.tensor, self.about.dtype), (items, -1))
        return tf.ensure_shape(weight, (None, None))

    def _of_classes(self, y):
        """The weights of the classes in targets ``(items, steps, 1)``."""
        table = self.about.class_table(self.stream.class_weight, self.stream.where)
        others = tf.constant(len(table) - 1, tf.int64)
        numbers = tf.cast(y[:, :, 0], tf.int64)
        numbers = tf.where(numbers < 0, others, tf.minimum(numbers, others))
        return tf.gather(table, numbers)

    def _own(self, number, items, steps, known):
        """What nodes without data put out."""
        own = self.stream.own
        nodes = list(own.signals)
        if not nodes:
            return {}
        if own.fixed and known is not None:
            return {
                node: tf.broadcast_to(tf.constant(value), (items, known, node.size_out))
                for node, value in own(1, known).items()
            }

        def call(number, items, steps):
            with self.stream.catching():
                values = own(int(items), int(steps), int(number))
                return [np.asarray(values[node], self.about.dtype) for node in nodes]

        dtype = tf.as_dtype(self.about.dtype)
        values: Any = numpy_function(call, [number, items, steps], [dtype] * len(nodes))
        for node, value in zip(nodes, values, strict=True):
            value.set_shape((None, known, node.size_out))
        return dict(zip(nodes, values, strict=True))

    # checks of elements as they come ---------------------------------------------

    def _checked(self, given, element, entry, number):
        """Whether an element fits in what its specification leaves open."""
        fits = self._conditions(given, entry)
        if fits is None:
            return self._report(element, number)
        return tf.cond(
            tf.reduce_all(fits),
            lambda: tf.constant(0),
            lambda: self._report(element, number),
        )

    def _conditions(self, given, entry):
        """What has to hold for the shapes; None if Python has to look at them."""
        weights = {self._probe(n): w for n, w in (given.weights or {}).items()}
        all_arrays = [*given.inputs.items(), *given.targets.items(), *weights.items()]
        if any(array.tensor.shape.rank is None for _, array in all_arrays):
            return None
        items, steps = self._sizes(given, entry)
        shapes = self.about.shapes
        fits = [items <= self.about.batch, items > 0, steps > 0]
        if entry is not None:
            fits.append(tf.reduce_all(tf.equal(entry, tf.cast(steps, entry.dtype))))
        for obj, array in all_arrays:
            shape = tf.shape(array.tensor)
            sizes = (obj.size_out,) if obj in given.inputs else shapes[obj]
            read = self.about.compared(obj)
            sparse = sparse_loss(read)
            if array.shape[2:] == (1,) and (array.dtype.kind in "iu" or sparse):
                if sparse is not None and obj in given.targets:
                    fits.append(_in_range(array.tensor, sizes[-1], sparse))
                sizes = (1,)
            expected = (items, self.about.steps_of(obj, steps), *sizes)[: array.ndim]
            if takes_any_shape(read):
                expected = (items,)
            fits += [tf.equal(shape[i], n) for i, n in enumerate(expected)]
            if array.tensor.dtype.is_floating:  # a NaN anywhere makes the sum one
                fits.append(tf.math.is_finite(tf.reduce_sum(array.tensor)))
        return fits

    def _probe(self, name):
        return next(p for p, n in self.about.names.items() if n == name)

    def _report(self, element, number):
        """Have Python check an element, which raises what is wrong."""

        def look(number, *arrays):
            where = f"{self.stream.where} (element {number} of the dataset)"
            with self.stream.catching():
                element = tf.nest.pack_sequence_as(self.spec, arrays)
                self.stream.check(element, where)
            return np.int32(0)

        return numpy_function(look, [number, *tf.nest.flatten(element)], tf.int32)


def _in_range(numbers, size, loss):
    """Whether all numbers of classes are such."""
    fits = tf.logical_and(numbers >= 0, numbers < tf.cast(size, numbers.dtype))
    ignored = getattr(loss, "ignore_class", None)
    if ignored is not None:
        fits = tf.logical_or(fits, tf.equal(numbers, tf.cast(ignored, numbers.dtype)))
    return tf.logical_or(tf.reduce_all(fits), size == 1)


def symbol(tensor: Any) -> Any:
    """The `Symbol` of a tensor or of its specification; None for no tensor."""
    if not isinstance(tensor, tf.Tensor | tf.TensorSpec):
        return tensor
    unknown = tensor.shape.rank is None
    shape = (None,) * 3 if unknown else tensor.shape.as_list()
    return Symbol(shape, tensor.dtype.as_numpy_dtype, tensor, unknown)
