"""Data batch by batch: of ``tf.data``, generators, ``PyDataset``, arrays in some order.

Every element is what a batch of arrays would be: data, or data and targets, or data,
targets and weights. It is checked and completed in the same way, and handed on to Keras.
Imported when it is first needed, because importing Keras takes seconds.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from nengo.exceptions import ValidationError

from nengo_dl.runtime.tensorflow.python_calls import Raised, numpy_function, of_generator
from nengo_dl.training.data import Given, TrainingData
from nengo_dl.training.inputs import N_STEPS, Symbol, sparse_loss, takes_any_shape


def kind_of(value: Any) -> str:
    """What a stream is called in messages."""
    if isinstance(value, tf.data.Dataset):
        return "dataset"
    return "PyDataset" if isinstance(value, keras.utils.PyDataset) else "generator"


class Stream:
    """Data for one call, batch by batch.

    Parameters
    ----------
    about : TrainingData
        What each element is checked against, and completed with.
    where : str
        For error messages.
    targets : bool
        Whether targets are expected beside the data.
    passed : int
        So many elements of a generator are left out, the first ones.

    Attributes
    ----------
    data : tf.data.Dataset or keras.utils.PyDataset
        What Keras is given.
    own : OwnOutputs
        What nodes without data put out.
    error : Raised or None
        What went wrong while data were fetched. TensorFlow only passes on its message.
    """

    def __init__(
        self,
        about: TrainingData,
        source: Any,
        n_steps: int | None,
        stateful: bool,
        where: str,
        targets: bool = True,
        class_weight: Any = None,
        passed: int = 0,
    ) -> None:
        self.about = about
        self._passed = passed
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

    @property
    def stream(self) -> Stream:
        """The stream itself, as of what is made of it."""
        return self

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Context of calls that fetch data: what failed there is raised as it is."""
        self.error = None
        try:
            yield
            return
        except BaseException:
            if self.error is None:
                raise
        self.error.again()

    @contextlib.contextmanager
    def catching(self) -> Iterator[None]:
        """Context of what TensorFlow calls to fetch data."""
        try:
            yield
        except BaseException as error:
            self.error = Raised(error)
            raise

    # one element -----------------------------------------------------------------

    def parts(self, element: Any) -> tuple[Any, Any, Any]:
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
        x, y, weight = (*element, None, None)[:3]
        return x, y, weight

    def check(
        self, element: Any, where: str | None = None, symbolic: bool = False
    ) -> Given:
        """Check one element, and complete it.

        ``element``: arrays, or a `Symbol` in the place of each. ``symbolic``: whether
        they are symbols.
        """
        x, y, weight = self.parts(element)
        where = where or self.where
        given = self.about.given(
            x, y, weight, self.n_steps, where, self.targets, not symbolic
        )
        items, batch = given.items, self.about.batch
        if items is not None and items > batch:
            hint = ""
            if self.kind == "dataset":
                hint = f"; use dataset.batch({batch})"
            raise ValidationError(
                f"a batch has {items} items; expected at most {self.about.largest}{hint}",
                attr=where,
            )
        return given

    def element(self, value: Any, number: int) -> tuple[Any, ...]:
        """One element as Keras takes it: dicts of arrays by name.

        ``value``: what the user's generator or dataset gave. ``number``: of the element.
        """
        where = f"{self.where} (element {number} of the {self.kind})"
        given = self.check(value, where)
        if self.class_weight is not None:
            given = self.about.of_classes(given, self.class_weight, where)
        items = given.items or self.about.batch
        with self._lock:
            own = self.own(items, given.steps or 1, number)
        inputs, targets, weights = self.about.by_names(
            {**given.inputs, **own}, given, items, given.steps
        )
        parts = (inputs,)
        if self.targets:
            parts += ({name: self._plain(y) for name, y in targets.items()},)
        if weights is not None:
            parts += (weights,)
        self._same_form(given, parts, where)
        return parts

    def _plain(self, target):
        """Numbers of classes as such, everything else in the type of the simulator."""
        whole = target.dtype.kind in "iu"
        return target.astype(np.int64 if whole else self.about.dtype, copy=False)

    def _same_form(self, given, parts, where):
        """Check that all elements have the same parts."""
        _, targets, weights = (*parts, {}, {})[:3]
        nodes, probes = self.about.nodes, self.about.names
        form = {
            "data are for": [
                name for node, name in nodes.items() if node in given.inputs
            ],
            "targets are for": [
                n for probe, n in probes.items() if probe in given.targets
            ],
            "the types of targets are": [str(y.dtype) for y in targets.values()],
            "weights are for": list(weights),
        }
        if self._form is None:
            self._form = form
        for what, found in form.items():
            if found != self._form[what]:
                raise ValidationError(
                    f"all elements must be alike: {what} {self._form[what]} in the first "
                    f"one, and {found} in this one",
                    attr=where,
                )

    def begin(self, given: Given) -> None:
        """Before anything runs: what elements are like is known."""
        self.about.warn_of_synapses(given, self.where)
        self.about.feed(given)
        self.steps = given.steps
        self.own = self.about.own_outputs(given, self.stateful)

    def _begin_with(self, first):
        """Begin with the first element; returns what Keras is to expect."""
        given = self.check(first, f"{self.where} (element 0 of the {self.kind})")
        self.begin(given)
        parts = self.element(first, 0)
        # nothing has run yet
        self.own.settle(self.about.first_step)
        self.own = self.about.own_outputs(given, self.stateful)
        return tf.nest.map_structure(_spec, parts)

    # generators ------------------------------------------------------------------

    def _of_iterator(self, source):
        first = next(source, None)
        if first is None:
            raise ValidationError(
                "the generator gives no data; expected at least one batch",
                attr=self.where,
            )
        signature = self._begin_with(first)
        rest = enumerate(itertools.chain([first], source))
        rest = itertools.islice(rest, self._passed, None)
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

        data = of_generator(elements, signature)
        return data.prefetch(1)

    # PyDataset -------------------------------------------------------------------

    def _of_py_dataset(self, source):
        if source.num_batches == 0:
            raise ValidationError("the PyDataset has no batches", attr=self.where)
        first = source[0]
        signature = self._begin_with(first)
        if not self.stateful:
            return CompletedDataset(self, source)

        # batches follow one another in time: no shuffling, no workers

        def elements():
            with self.catching():
                source.on_epoch_begin()
                for number, value in enumerate(source):
                    yield self.element(value, number)
                source.on_epoch_end()

        data = of_generator(elements, signature)
        if source.num_batches is not None:
            data = data.apply(tf.data.experimental.assert_cardinality(source.num_batches))
        return data.prefetch(1)


def _spec(array):
    """What later arrays in the place of this one are to be like."""
    size = array.shape[2:]
    return tf.TensorSpec((None,) * (array.ndim - len(size)) + size, array.dtype)


class CompletedDataset(keras.utils.PyDataset):
    """A user's dataset, whose elements are checked and completed."""

    def __init__(self, stream: Stream, source: keras.utils.PyDataset) -> None:
        super().__init__(
            workers=source.workers,
            use_multiprocessing=source.use_multiprocessing,
            max_queue_size=source.max_queue_size,
        )
        self.stream, self.source = stream, source
        self._steps = {}

    @property
    def num_batches(self) -> int | None:
        """Number of batches in an epoch, None if there is no end."""
        return self.source.num_batches

    def on_epoch_begin(self) -> None:
        """At the beginning of each epoch."""
        self.source.on_epoch_begin()

    def on_epoch_end(self) -> None:
        """At the end of each epoch."""
        self.source.on_epoch_end()

    def __getitem__(self, number: int) -> Any:
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


# elements of a tf.data.Dataset, inside of TensorFlow ----------------------------


class SymbolicStream:
    """A ``tf.data.Dataset``: what its ``element_spec`` tells is checked at once.

    The rest, such as the number of items, is checked as elements come, inside of
    TensorFlow; Python is called only if something does not fit, to say what.
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


# the order of the items of arrays in each epoch ---------------------------------
#
# Keras leaves it to TensorFlow, which repeats one order in every epoch once a seed is
# set for the process. Here it is a function of the simulator's seed and the epoch's
# number.


class Order(keras.callbacks.Callback):
    """The order in which items come, another one in each epoch.

    Parameters
    ----------
    live : LiveState
        Counts the epochs of all trainings since the last reset.
    first : int
        The number of the first epoch, as Keras was told. From 0 on, epochs are counted
        on from those of earlier trainings; else the caller counts.
    """

    def __init__(self, live: Any, seed: int, items: int, first: int = 0) -> None:
        super().__init__()
        self._live, self._seed, self._items = live, int(seed) % 2**64, items
        self._before = 0 if first else live.epochs
        self._number = self._before + first

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Another epoch, another order."""
        self._number = self._before + epoch
        self._live.epochs = self._number + 1

    @property
    def described(self) -> dict[str, int]:
        """All that the order depends on but the number of the epoch."""
        return {"seed": self._seed, "before": self._before, "items": self._items}

    def go_on_with(self, described: dict[str, int]) -> None:
        """Order items as another one that was `described` does."""
        self._seed, self._before = described["seed"], described["before"]

    def numbers(self) -> np.ndarray:
        """The numbers of all items in the order of the present epoch."""
        rng = np.random.default_rng([self._seed, self._number])
        return rng.permutation(self._items)


def batches(
    parts: Any, order: Order, items: int, size: int, dtype: np.dtype
) -> tf.data.Dataset:
    """The batches of an epoch as a data set, where a `Feed` will not do.

    ``parts``: each ``(items, ...)``. ``size``: of all batches but perhaps the last.
    ``dtype``: what arrays of floating point numbers become.
    """
    whole = items // size

    def of_batches(_):
        numbers = tf.ensure_shape(numpy_function(order.numbers, [], tf.int64), [items])
        full = tf.reshape(numbers[: whole * size], (whole, size))
        data = tf.data.Dataset.from_tensor_slices(full)
        if items % size:
            rest = tf.data.Dataset.from_tensors(numbers[whole * size :])
            data = data.concatenate(rest)
        return data

    def pick(array, numbers):
        chosen = tf.gather(array, numbers)
        return tf.cast(chosen, dtype) if chosen.dtype.is_floating else chosen

    def picked(numbers, parts):
        return tf.nest.map_structure(lambda array: pick(array, numbers), parts)

    # an epoch asks for its order when it begins, and not ahead of it
    numbers = tf.data.Dataset.range(1).flat_map(of_batches)
    everything = tf.data.Dataset.from_tensors(parts).repeat()
    data = tf.data.Dataset.zip((numbers, everything))
    data = data.map(picked, num_parallel_calls=tf.data.AUTOTUNE)
    count = tf.data.experimental.assert_cardinality(whole + bool(items % size))
    options = tf.data.Options()
    options.experimental_optimization.apply_default_optimizations = False
    return data.apply(count).with_options(options).prefetch(tf.data.AUTOTUNE)


def split(parts: Any, fraction: float, items: int, where: str) -> tuple[Any, Any, int]:
    """Items for training and for validation, of which the latter are the last ones.

    ``fraction``: of the items that are for validation. ``where``: for error messages.
    Returns ``training, validation``: views of the same arrays. Returns ``items``: for
    training.
    """
    first = int(np.floor(items * (1.0 - fraction)))
    if first in (0, items):
        raise ValidationError(
            f"validation_split={fraction} of {items} items leaves nothing for "
            f"{'training' if first == 0 else 'validation'}; give more items, or another "
            "fraction",
            attr=where,
        )
    training = tf.nest.map_structure(lambda array: array[:first], parts)
    return training, tf.nest.map_structure(lambda array: array[first:], parts), first
