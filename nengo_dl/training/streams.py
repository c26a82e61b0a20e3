"""Data that come batch by batch: ``tf.data``, generators, ``keras.utils.PyDataset``.

Every element is what a batch of arrays would be: data, or data and targets, or data,
targets and weights. It is checked and completed in the same way, and handed on to Keras.
Imported when it is first needed, because importing Keras takes seconds.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from nengo.exceptions import ValidationError

from nengo_dl.runtime.tensorflow.python_calls import Raised, of_generator
from nengo_dl.training.data import Given, TrainingData
from nengo_dl.training.symbolic_streams import SymbolicStream


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
    ) -> None:
        self.about = about
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

        Parameters
        ----------
        element
            Arrays, or a `Symbol` in the place of each.
        where : str, optional
        symbolic : bool
            Whether they are symbols.
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
                f"a batch has {items} items; expected at most minibatch_size={batch}"
                f"{hint}",
                attr=where,
            )
        return given

    def element(self, value: Any, number: int) -> tuple[Any, ...]:
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
    """A user's dataset, whose elements are checked and completed.

    Parameters
    ----------
    stream : Stream
    source : keras.utils.PyDataset
    """

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
