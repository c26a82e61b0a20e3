"""Data that come batch by batch: ``tf.data``, generators, ``keras.utils.PyDataset``.

Every element is what a batch of arrays would be: data, or data and targets, or data,
targets and weights. It is checked and completed in the same way, and handed on to Keras.
Imported when it is first needed, because importing Keras takes seconds.
"""

import contextlib
import itertools
import threading
from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf
from nengo.exceptions import ValidationError

from nengo_dl.simulator.inputs import N_STEPS, Symbol
from nengo_dl.tensor_graph import STEPS


def is_stream(value):
    """Whether data come batch by batch: a dataset, or an iterator such as a generator."""
    kinds = tf.data.Dataset | keras.utils.PyDataset
    return isinstance(value, kinds) or hasattr(value, "__next__")


def kind_of(value):
    """What a stream is called in messages."""
    if isinstance(value, tf.data.Dataset):
        return "dataset"
    return "PyDataset" if isinstance(value, keras.utils.PyDataset) else "generator"


class Stream:
    """Data for one call, batch by batch.

    Parameters
    ----------
    sim : Simulator
    source : tf.data.Dataset or iterator or keras.utils.PyDataset
    n_steps : int or None
    stateful : bool
    where : str
        For error messages.
    targets : bool
        Whether targets are expected beside the data.
    class_weight : dict, optional

    Attributes
    ----------
    data : tf.data.Dataset or keras.utils.PyDataset
        What Keras is given.
    own : OwnOutputs
        What nodes without data put out.
    error : Exception or None
        What went wrong while data were fetched. TensorFlow only passes on its message.
    """

    def __init__(
        self, sim, source, n_steps, stateful, where, targets=True, class_weight=None
    ):
        self.sim = sim
        self.kind = kind_of(source)
        self.n_steps = n_steps
        self.stateful = stateful
        self.where = where
        self.targets = targets
        self.class_weight = class_weight
        self.error = None
        self._form = None
        self._lock = threading.Lock()
        if self.kind == "dataset":
            self.data = SymbolicStream(self, source).data
        elif self.kind == "PyDataset":
            self.data = self._of_py_dataset(source)
        else:
            self.data = self._of_iterator(source)

    @contextlib.contextmanager
    def errors(self):
        """Around calls that fetch data: what failed there is raised as it is."""
        self.error = None
        try:
            yield
        except Exception:
            if self.error is not None:
                raise self.error from None
            raise

    @contextlib.contextmanager
    def catching(self):
        """Around what TensorFlow calls to fetch data."""
        try:
            yield
        except Exception as error:
            self.error = error
            raise

    # one element -----------------------------------------------------------------

    def parts(self, element):
        """(x, y, weight) of an element, as Keras sees it."""
        if isinstance(element, list):
            element = tuple(element)
        if not isinstance(element, tuple):
            element = (element,)
        if not 1 <= len(element) <= 3:
            raise ValidationError(
                f"each element must be x, (x, y) or (x, y, sample_weight); got a tuple "
                f"of {len(element)}",
                attr=self.where,
            )
        return (*element, None, None)[:3]

    def check(self, element, where=None):
        """One element, checked.

        Parameters
        ----------
        element
            Arrays, or a `Symbol` in the place of each.
        where : str, optional
        """
        x, y, weight = self.parts(element)
        where = where or self.where
        symbolic = any(isinstance(a, Symbol) for a in tf.nest.flatten([x, y]))
        given = self.sim._given(
            x, y, weight, self.n_steps, where, self.targets, not symbolic
        )
        items, batch = given.items, self.sim._batch
        if items is not None and items > batch:
            hint = ""
            if self.kind == "dataset":
                hint = f": dataset.batch({batch}), not more"
            raise ValidationError(
                f"a batch has {items} items; expected at most minibatch_size={batch}"
                f"{hint}",
                attr=where,
            )
        return given

    def element(self, value, number):
        """One element as Keras takes it: dicts of arrays by name.

        Parameters
        ----------
        value
            What the user's generator or dataset gave.
        number : int
            Of the element.
        """
        where = f"{self.where} (element {number} of the {self.kind})"
        given = self.check(value, where)
        if self.class_weight is not None:
            given = self.sim._of_classes(given, self.class_weight, where)
        with self._lock:
            own = self.own(given.items, given.steps, number)
        inputs, targets, weights = self.sim._by_names(
            {**given.inputs, **own}, given, given.items, given.steps
        )
        if not self.targets:
            return (inputs,)
        targets = {name: self._plain(y) for name, y in targets.items()}
        parts = (inputs, targets) if weights is None else (inputs, targets, weights)
        self._same_form(given, parts, where)
        return parts

    def _plain(self, target):
        """Numbers of classes as such, everything else in the type of the simulator."""
        whole = target.dtype.kind in "iu"
        return target.astype(np.int64 if whole else self.sim.dtype, copy=False)

    def _same_form(self, given, parts, where):
        """That all elements have the same parts."""
        names = {**self.sim._node_names, **self.sim._probe_names()}
        form = {
            "data for": [names[node] for node in self.sim._nodes if node in given.inputs],
            "targets for": [n for n in parts[1] if names_key(given.targets, names, n)],
            "types of targets": [str(y.dtype) for y in parts[1].values()],
            "axes of weights": [w.ndim for w in parts[2].values()] if parts[2:] else [],
        }
        if self._form is None:
            self._form = form
        for what, found in form.items():
            if found != self._form[what]:
                raise ValidationError(
                    f"all elements must be alike; {what} the first one: "
                    f"{self._form[what]}, for this one: {found}",
                    attr=where,
                )

    def begin(self, given):
        """Before anything runs: the first element is known."""
        self.sim._warn_of_synapses(given.steps, self.where)
        self.sim._feed(given)
        self.own = self.sim._own_outputs(given, self.stateful)

    # generators ------------------------------------------------------------------

    def _of_iterator(self, source):
        first = next(source, None)
        if first is None:
            raise ValidationError(
                "the generator gives no data; expected at least one batch",
                attr=self.where,
            )
        self.begin(self.check(first, f"{self.where} (element 0 of the generator)"))
        signature = self._signature(self.element(first, 0))
        self.begin(self.check(first))  # nothing has run yet
        rest = enumerate(itertools.chain([first], source))
        rounds = itertools.count()

        def elements():
            with self.catching():
                another, count = next(rounds), 0
                for number, value in rest:
                    yield self.element(value, number)
                    count += 1
                if another and not count:
                    raise ValidationError(
                        "the generator has come to its end in an earlier epoch; give "
                        "the number of batches of an epoch (steps_per_epoch or "
                        "validation_steps), or data that can be read again",
                        attr=self.where,
                    )

        data = tf.data.Dataset.from_generator(elements, output_signature=signature)
        return data.prefetch(1)

    def _signature(self, parts):
        def spec(array):
            shape = (None, None, array.shape[2]) if array.ndim == 3 else array.shape
            if array.ndim < 3:
                shape = (None,) * array.ndim
            return tf.TensorSpec(shape, array.dtype)

        return tf.nest.map_structure(spec, parts)

    # PyDataset -------------------------------------------------------------------

    def _of_py_dataset(self, source):
        if source.num_batches == 0:
            raise ValidationError("the PyDataset has no batches", attr=self.where)
        first = source[0]
        self.begin(self.check(first, f"{self.where} (element 0 of the PyDataset)"))
        if not self.stateful:
            return CompletedDataset(self, source)
        # batches follow one another in time: no shuffling, no workers
        signature = self._signature(self.element(first, 0))
        self.begin(self.check(first))

        def elements():
            with self.catching():
                source.on_epoch_begin()
                for number, value in enumerate(source):
                    yield self.element(value, number)
                source.on_epoch_end()

        data = tf.data.Dataset.from_generator(elements, output_signature=signature)
        if source.num_batches is not None:
            data = data.apply(tf.data.experimental.assert_cardinality(source.num_batches))
        return data.prefetch(1)


def names_key(targets, names, name):
    """Whether there is a target for the probe of this name."""
    return any(names[probe] == name for probe in targets)


class CompletedDataset(keras.utils.PyDataset):
    """A user's dataset, whose elements are checked and completed.

    Parameters
    ----------
    stream : Stream
    source : keras.utils.PyDataset
    """

    def __init__(self, stream, source):
        super().__init__(
            workers=source.workers,
            use_multiprocessing=source.use_multiprocessing,
            max_queue_size=source.max_queue_size,
        )
        self.stream, self.source = stream, source
        self._steps = {}

    @property
    def num_batches(self):
        """Number of batches in an epoch, None if there is no end."""
        return self.source.num_batches

    def on_epoch_begin(self):
        """At the beginning of each epoch."""
        self.source.on_epoch_begin()

    def on_epoch_end(self):
        """At the end of each epoch."""
        self.source.on_epoch_end()

    def __getitem__(self, number):
        with self.stream.catching():
            parts = self.stream.element(self.source[number], number)
            self._check_steps(next(iter(parts[0].values())).shape[1], number)
            return parts

    def _check_steps(self, steps, number):
        """Keras decides by the first two elements whether numbers of steps differ."""
        if number < 2:
            self._steps[number] = steps
        if len(set(self._steps.values())) == 1 and steps not in self._steps.values():
            raise ValidationError(
                f"element {number} of the PyDataset has {steps} steps, the first ones "
                f"have {self._steps[0]}. Keras takes elements of different numbers of "
                "steps only if the first two differ; or use a generator or a "
                "tf.data.Dataset",
                attr=self.stream.where,
            )


class SymbolicStream:
    """A ``tf.data.Dataset``: what its ``element_spec`` tells is checked at once.

    The rest, such as the number of items, is checked as elements come, inside of
    TensorFlow; Python is called only if something does not fit, to say what.

    Parameters
    ----------
    stream : Stream
    source : tf.data.Dataset
    """

    def __init__(self, stream, source):
        self.stream, self.sim = stream, stream.sim
        self.spec = source.element_spec
        self.given = self._check(self.spec)
        stream.begin(self.given)
        self._flat = tf.nest.flatten(self.spec)
        self.data = source.enumerate().map(self._convert)

    def _check(self, element):
        """The element with symbols in the place of tensors; their checks."""
        x, y, weight = self.stream.parts(element)
        x, self._entry = without_steps(x)
        parts = tf.nest.map_structure(symbol, (x, y, weight))
        given = self.stream.check(parts)
        if given.steps is None and not given.inputs and self._entry is None:
            raise ValidationError(
                "the number of steps is not known; give n_steps", attr=self.stream.where
            )
        if self.stream.class_weight is not None:
            self.sim._classes(given, self.stream.where)
        return given

    @tf.autograph.experimental.do_not_convert
    def _convert(self, number, *element):
        element = element[0] if len(element) == 1 else element
        if isinstance(self.spec, tuple) and len(self.spec) == 1:
            element = (element,)
        given = self._check(element)
        entry = self._entry
        checked = self._checked(given, element, entry)
        with tf.control_dependencies([checked]):
            return self._parts(given, entry, number)

    def _parts(self, given, entry, number):
        """What Keras takes."""
        sim, names = self.sim, self.sim._probe_names()
        items, steps = self._sizes(given, entry)
        known = given.steps
        inputs = {}
        for node, value in given.inputs.items():
            x = tf.cast(value.tensor, sim.dtype)
            inputs[node] = tf.ensure_shape(x, (None, known, node.size_out))
        inputs.update(self._own(number, items, steps, known))
        inputs = {sim._node_names[node]: x for node, x in inputs.items()}
        if not inputs:
            inputs[STEPS] = tf.ones((items, steps, 1), sim.dtype)
        if not self.stream.targets:
            return (inputs,)
        nothing = tf.zeros((items, 1, 1), sim.dtype)
        given_targets = {names[p]: self._target(p, y) for p, y in given.targets.items()}
        targets = {name: given_targets.get(name, nothing) for name in names.values()}
        weights = given.weights
        if self.stream.class_weight is not None:
            weights = self._of_classes(given_targets)
        elif weights is not None:
            weights = {n: tf.cast(w.tensor, sim.dtype) for n, w in weights.items()}
        if weights is None:
            return inputs, targets
        ones = tf.ones((items,), sim.dtype)
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
        steps = None if self.sim._logs[probe].keep_history else 1
        y = value.tensor
        if value.dtype.kind not in "iu":
            y = tf.cast(y, self.sim.dtype)
        return tf.ensure_shape(y, (None, steps, None))

    def _of_classes(self, targets):
        ((name, y),) = (
            (n, y) for n, y in targets.items() if n in self._names_of_given_targets()
        )
        table = self.sim._class_table(self.stream.class_weight, self.stream.where)
        others = len(table) - 1
        numbers = tf.cast(y[:, :, 0], tf.int64)
        numbers = tf.where(numbers < 0, tf.cast(others, tf.int64), numbers)
        return {name: tf.gather(table, tf.minimum(numbers, others))}

    def _names_of_given_targets(self):
        names = self.sim._probe_names()
        return {names[probe] for probe in self.given.targets}

    def _own(self, number, items, steps, known):
        """What nodes without data put out."""
        own = self.stream.own
        nodes = list(own.signals)
        if not nodes:
            return {}
        if own.fixed and known is not None:
            values = [tf.constant(value) for value in own(1, known).values()]
            return {
                node: tf.repeat(value, items, axis=0)
                for node, value in zip(nodes, values, strict=True)
            }

        def call(number, items, steps):
            with self.stream.catching():
                values = own(int(items), int(steps), int(number))
                return [np.asarray(values[node], self.sim.dtype) for node in nodes]

        dtype = tf.as_dtype(self.sim.dtype)
        values = tf.numpy_function(call, [number, items, steps], [dtype] * len(nodes))
        for node, value in zip(nodes, values, strict=True):
            value.set_shape((None, known, node.size_out))
        return dict(zip(nodes, values, strict=True))

    # checks of elements as they come ---------------------------------------------

    def _checked(self, given, element, entry):
        """Whether an element fits in what its specification leaves open."""
        flat = tf.nest.flatten(element)
        fits = self._conditions(given, entry)
        if fits is None:
            return self._report(flat)
        if not fits:
            return tf.constant(0)
        return tf.cond(
            tf.reduce_all(fits), lambda: tf.constant(0), lambda: self._report(flat)
        )

    def _conditions(self, given, entry):
        """What has to hold for the shapes; None if Python has to look at them."""
        arrays = {**given.inputs, **given.targets}
        tensors = [a.tensor for a in arrays.values()]
        weights = [w.tensor for w in (given.weights or {}).values()]
        if any(t.shape.rank is None for t in [*tensors, *weights]):
            return None
        items, steps = self._sizes(given, entry)
        shapes = []
        if entry is not None:
            shapes.append((tf.reshape(entry, [-1]), (steps,), (None,)))
        for obj, value in arrays.items():
            size = getattr(obj, "size_out", None) or obj.size_in
            if value.dtype.kind in "iu" and obj in given.targets:
                size = value.shape[2]
            expected = (items, self._steps_of(obj, steps), size)
            shapes.append((tf.shape(value.tensor), expected, value.shape))
        for name, weight in (given.weights or {}).items():
            rank = weight.tensor.shape.rank
            probe = self._probe(name)
            expected = (items, self._steps_of(probe, steps))[:rank]
            shapes.append((tf.shape(weight.tensor), expected, weight.shape))
        fits = [items <= self.sim._batch, items > 0, steps > 0]
        for found, expected, known in shapes:
            for i, (number, length) in enumerate(zip(expected, known, strict=True)):
                if number is not None and not isinstance(length, int):
                    fits.append(tf.reduce_all(tf.equal(found[i], tf.cast(number, found.dtype))))
                elif number is not None and i < 2:
                    fits.append(tf.equal(tf.cast(number, tf.int32), length))
        return fits

    def _steps_of(self, obj, steps):
        log = self.sim._logs.get(obj)
        return steps if log is None or log.keep_history else 1

    def _probe(self, name):
        return next(p for p, n in self.sim._probe_names().items() if n == name)

    def _report(self, flat):
        """Have Python check an element of these shapes, which raises what is wrong."""
        shapes = [tf.shape(tensor, tf.int64) for tensor in flat]
        entry = self._entry
        values = [] if entry is None else [tf.cast(entry, tf.int64)]

        def look(number, *arrays):
            with self.stream.catching():
                shapes, values = arrays[: len(flat)], arrays[len(flat) :]
                self.stream.check(self._stand_in(shapes, values))
                return np.int32(0)

        return tf.numpy_function(look, [0, *shapes, *values], tf.int32)

    def _stand_in(self, shapes, values):
        """An element of arrays that have these shapes."""
        arrays = [
            np.broadcast_to(np.zeros((), spec.dtype.as_numpy_dtype), shape)
            for spec, shape in zip(self._flat, shapes, strict=True)
        ]
        element = tf.nest.pack_sequence_as(self.spec, arrays)
        x, y, weight = self.stream.parts(element)
        if values:
            x = {**x, N_STEPS: values[0]}
        return (x, y, weight) if self.stream.targets else (x,)


def without_steps(x):
    """Data without their entry for the number of steps, and that entry."""
    if isinstance(x, Mapping) and N_STEPS in x:
        return {key: value for key, value in x.items() if key != N_STEPS}, x[N_STEPS]
    return x, None


def symbol(tensor):
    """The `Symbol` of a tensor or of its specification; None for no tensor."""
    if not isinstance(tensor, tf.Tensor | tf.TensorSpec):
        return tensor
    shape = tensor.shape
    shape = (None,) * 3 if shape.rank is None else shape.as_list()
    return Symbol(shape, tensor.dtype.as_numpy_dtype, tensor)
