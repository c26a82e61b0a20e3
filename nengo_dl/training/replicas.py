"""Training steps that several devices or processes share, through ``tf.distribute``.

All variables stay ordinary ones, and so does everything that looks at them. Each replica
takes its part of the items of a batch, and computes gradients and sums from values that
it is handed; these are added up by the strategy, and applied once in each process, which
all hold the same values before and after. Imported when it is first needed, because
importing Keras takes seconds.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf
from nengo.exceptions import SimulationError

from nengo_dl.runtime.tensorflow.randomness import is_seed
from nengo_dl.training.feed import Batches
from nengo_dl.training.model import gradients_of_one_replica
from nengo_dl.training.replica_checks import (
    check_metrics,
    reads_time,
    synchronized_layers,
)

if TYPE_CHECKING:
    from nengo_dl.training.keras_side import KerasSide

#: callbacks that only write: the first process is enough for it
WRITERS = (
    keras.callbacks.ModelCheckpoint,
    keras.callbacks.BackupAndRestore,
    keras.callbacks.TensorBoard,
    keras.callbacks.CSVLogger,
)

#: how far apart the seeds of two replicas are
SEEDS_APART = 65536

#: what TensorFlow raises where another process does not answer
LOST = (
    tf.errors.UnavailableError,
    tf.errors.InternalError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
)


class Replicas:
    """What shares the items of each batch, for one model.

    Parameters
    ----------
    side : KerasSide
        The layer and the model.
    strategy : tf.distribute.Strategy

    Attributes
    ----------
    count : int
        Number of replicas in all processes; ``local`` of them are in this one.
    processes, number : int
        How many processes there are, and which one this is.
    """

    def __init__(self, side: KerasSide, strategy: Any) -> None:
        self.side, self.strategy = side, strategy
        self.count = strategy.num_replicas_in_sync
        resolver = strategy.cluster_resolver
        spec = resolver.cluster_spec().as_dict() if resolver is not None else {}
        self.processes = sum(map(len, spec.values())) or 1
        self.local = self.count // self.processes
        self.number = 0
        if (
            resolver is not None and self.processes > 1
        ):  # as TensorFlow counts: the chief, if any, comes first
            after = "chief" in spec and resolver.task_type != "chief"
            self.number = resolver.task_id + after
        #: steps that were traced, by what they were traced for
        self.functions: dict[Any, Callable] = {}
        #: what part of the items of a batch a replica has, while its step is traced
        self.share: Any = None

    @property
    def chief(self) -> bool:
        """Whether this is the first process."""
        return self.number == 0

    # sums over replicas -----------------------------------------------------------

    def sum(self, function: Callable[[Any], Any]) -> Any:
        """The sums over all replicas of the tensors that a function of its number gives.

        One operation for each type: it takes as long for many numbers as for one.
        """

        def local():
            context = tf.distribute.get_replica_context()
            values = function(context.replica_id_in_sync_group)
            flat = tf.nest.flatten(values)
            found: list[Any] = [None] * len(flat)
            for kind in sorted({v.dtype.name for v in flat}):
                places = [i for i, v in enumerate(flat) if v.dtype.name == kind]
                parts = [tf.reshape(flat[i], [-1]) for i in places]
                pack = context.all_reduce(tf.distribute.ReduceOp.SUM, tf.concat(parts, 0))
                sizes = [flat[i].shape.num_elements() for i in places]
                for i, part in zip(places, tf.split(pack, sizes), strict=True):
                    found[i] = tf.reshape(part, flat[i].shape)
            return tf.nest.pack_sequence_as(values, found)

        results = self.strategy.run(local)
        first = self.strategy.experimental_local_results
        return tf.nest.map_structure(lambda value: first(value)[0], results)

    def agree(self, variables: list[Any]) -> None:
        """All processes take the values that the first one has."""
        if self.processes == 1:
            return

        sums = self._of_first([_summable(tf.convert_to_tensor(v)) for v in variables])
        for variable, value in zip(variables, sums, strict=True):
            variable.assign(tf.cast(value, variable.dtype))

    # traced once for each list of shapes, and not in each call

    @functools.cached_property
    def _of_first(self) -> Callable:
        """The tensors of the first process."""

        def own(number, tensors):
            first = tf.equal(number, 0)
            return [tf.where(first, t, tf.zeros_like(t)) for t in tensors]

        return tf.function(
            lambda tensors: self.sum(lambda number: own(number, tensors)), autograph=False
        )

    @functools.cached_property
    def _of_all(self) -> Callable:
        """A row of numbers of each process."""

        def own(number, mine):
            rows = tf.range(self.processes)[:, None]
            here = tf.equal(rows * self.local, number)  # its first replica
            return tf.where(here, mine, tf.zeros_like(mine))

        return tf.function(
            lambda mine: self.sum(lambda number: own(number, mine)), autograph=False
        )

    def exchange(self, numbers: list[int]) -> np.ndarray:
        """The whole numbers of all processes, ``(processes, numbers)``."""
        mine = np.array([numbers], np.int64)
        if self.processes == 1:
            return mine

        return self._of_all(tf.constant(mine)).numpy()

    def bytes_of_first(self, data: bytes, length: int) -> bytes:
        """The bytes of the first process, of which all know how many there are."""
        if self.processes == 1 or not length:
            return data[:length]
        words = np.zeros(-(-length // 8), np.int64)
        if self.chief:
            words.view(np.uint8)[:length] = np.frombuffer(data, np.uint8)
        variable = tf.Variable(tf.convert_to_tensor(words))
        self.agree([variable])
        return variable.numpy().tobytes()[:length]

    # steps ------------------------------------------------------------------------

    def whole(self, value: Any, loss: Any) -> Any:
        """The loss of one replica's items as that of the whole batch would count it.

        Keras divides losses by the number of replicas. Of sums the parts add up; each is
        multiplied by its share of the items later.
        """
        if loss.reduction == "sum":
            return value / tf.cast(self.share, value.dtype)
        return value * self.count

    def function(self, training: bool) -> Callable:
        """A training or testing step of the model, for Keras."""
        model, layer = self.side.model, self.side.layer
        form = None if training else layer.spiking
        key = (training, form, layer.fed, self.side.program.generation)
        key += (bool(model.jit_training),)
        made: Any = self.functions.get(key)
        if made is None or made.compiled_as is not model.compiled_as:
            made = self.functions[key] = SharedStep(self, training)
        return made

    def part(self, data: Any, items: Any, number: Any) -> tuple[Any, Any]:
        """The items of one replica, at least one; and how many really are its own."""
        start, stop = items * number // self.count, items * (number + 1) // self.count
        own = stop - start
        if not isinstance(own, int):
            start, stop = tf.minimum(start, items - 1), tf.maximum(stop, start + 1)
        elif not own:
            start = min(start, items - 1)
            stop = start + 1
        even = isinstance(items, int) and items % self.count == 0

        def cut(array):
            found = array[start:stop]
            if even:
                found.set_shape((items // self.count, *found.shape[1:]))
            return found

        return tf.nest.map_structure(cut, data), own


def _summable(tensor: tf.Tensor) -> tf.Tensor:
    return tensor if tensor.dtype.is_floating else tf.cast(tensor, tf.int64)


class SharedStep:
    """A step as Keras calls it: with an iterator of batches for all replicas together.

    Parameters
    ----------
    replicas : Replicas
    training : bool
        Whether it trains, or measures losses and metrics only.
    """

    def __init__(self, replicas: Replicas, training: bool) -> None:
        self.replicas, self.training = replicas, training
        self.side, self.model = replicas.side, replicas.side.model
        self.compiled_as = self.model.compiled_as
        self._prepared = False
        self._step: Any = tf.function(
            tf.autograph.experimental.do_not_convert(self._shared),
            autograph=False,
            reduce_retracing=True,
        )

    def __call__(self, iterator: Any) -> Any:
        """Take the next batch, and give losses and metrics so far."""
        if not isinstance(iterator, Batches):
            data = next(iterator)
            self._prepare(data)
            return self._step(data)
        feed = iterator.feed
        if feed.step is not self:  # found once, and not for each batch
            if not self._prepared:
                self._prepare(tf.nest.map_structure(_zeros, feed.spec))
            feed.step = self
            feed.program = self._step.get_concrete_function(feed.spec)
        return feed.program(next(iterator))

    def _prepare(self, data):
        """Before the first batch: find all variables, which must be there by now."""
        if self._prepared:
            return
        self._prepared, model = True, self.model
        model.make_metrics(data)
        check_metrics(model)
        self._weights = model.trainable_weights if self.training else []
        self._sums = [v for metric in model.metrics for v in metric.variables]
        random = self.side.program.random_variables()
        known = {id(v) for v in (*self._sums, *self._weights)}
        others = {id(v): v for v in (*model.variables, *random)}
        self._others = [v for key, v in others.items() if key not in known]
        drawn = {id(v) for v in random}
        self._seeds = [
            (is_seed(v) or id(v) in drawn) and not tf.as_dtype(v.dtype).is_floating
            for v in self._others
        ]
        # what is compiled may not read variables of another device, such as the time
        alone = self.replicas.local == 1 or not reads_time(self.side, self.training)
        jit = self.training and model.jit_training and alone
        jit = jit and not synchronized_layers(self.side)
        self._local: Any = self._of_part
        if jit:  # a layer that looks at all replicas may not be in a function of its own
            self._local = tf.function(self._of_part, autograph=False, jit_compile=True)

    def _shared(self, data):
        """A whole step: of all replicas, then what follows from it."""
        model, replicas = self.model, self.replicas
        first = tf.nest.flatten(data)[0]
        items = first.shape[0] if first.shape[0] is not None else tf.shape(first)[0]
        values, before = (
            [tf.convert_to_tensor(v.value) for v in variables]
            for variables in (self._weights, self._others)
        )
        kind = self.side.program.dtype
        scale = tf.ones((), kind)
        if self.training:
            scale = tf.cast(model.optimizer.scale_loss(scale), kind)

        def of_replica(number):
            part, own = replicas.part(data, items, number)
            share = tf.cast(own, kind) / tf.cast(items, kind)
            number = tf.convert_to_tensor(number)
            shifted = [
                b + tf.cast(number * SEEDS_APART, b.dtype) if seed else b
                for b, seed in zip(before, self._seeds, strict=True)
            ]
            return self._local(part, share, scale, values, before, shifted, number)

        results = replicas.sum(of_replica)
        if self._weights:
            gradients = zip(results["gradients"], self._weights, strict=True)
            with gradients_of_one_replica(model.optimizer, model.distribute_strategy):
                model.optimizer.apply_gradients(gradients)
        for variable, delta in zip(self._sums, results["sums"], strict=True):
            variable.assign_add(delta)
        for number, value in results["others"].items():
            variable = self._others[number]
            variable.assign(tf.cast(value, variable.dtype))
        return model.get_metrics_result()

    def _of_part(self, data, share, scale, values, before, shifted, number):
        """What one replica adds, from its items; of none of them if its share is 0."""
        model, training = self.model, self.training
        x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
        mapping = [(v, tf.zeros(v.shape, v.dtype)) for v in self._sums]
        mapping += zip(self._weights, values, strict=True)
        mapping += zip(self._others, shifted, strict=True)
        there = share > 0
        self.replicas.share = tf.where(there, share, 1)
        scope = keras.StatelessScope(state_mapping=mapping, collect_losses=True)
        try:
            with scope, tf.GradientTape() as tape:
                tape.watch(values)
                outputs = model(x, training=training)
                loss = model.compute_loss(x, y, outputs, weight, training=training)
                items = tf.shape(next(iter(outputs.values())))[0]
                model._loss_tracker.update_state(loss, sample_weight=items)
                model.compute_metrics(x, y, outputs, weight)
                loss = tf.cast(loss, share.dtype) * share * scale
        finally:
            self.replicas.share = None
        gradients = []
        if values:
            zeros = tf.UnconnectedGradients.ZERO
            gradients = tape.gradient(loss, values, unconnected_gradients=zeros)
        sums = [scope.get_current_value(v) for v in self._sums]
        changed = {}
        for i, variable in enumerate(self._others):
            value = scope.get_current_value(variable)
            if not training or value is None or value is shifted[i]:
                continue
            if value.dtype.is_floating:
                changed[i] = value * tf.cast(share, value.dtype)
            else:  # the first replica's, of which the seeds are as they were
                value = tf.cast(value, tf.int64)
                changed[i] = tf.where(tf.equal(number, 0), value, tf.zeros_like(value))
        return {
            "gradients": [tf.convert_to_tensor(g) for g in gradients],
            "sums": [tf.where(there, v, tf.zeros_like(v)) for v in sums],
            "others": changed,
        }


def _zeros(spec: tf.TensorSpec) -> tf.Tensor:
    return tf.zeros([n or 1 for n in spec.shape], spec.dtype)


# around a call ------------------------------------------------------------------------


class Beginning(keras.callbacks.Callback):
    """When all other callbacks have begun: all processes take what the first one has."""

    comes_last = 2

    def __init__(self, replicas: Replicas) -> None:
        super().__init__()
        self.replicas = replicas

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Send variables around, and where training begins."""
        agree(self.replicas)
        model = self.replicas.side.model
        found = self.replicas.exchange([int(model._initial_epoch or 0)])
        model._initial_epoch = int(found[0, 0]) or None


def agree(replicas: Replicas) -> None:
    """All processes take the variables that the first one has."""
    if replicas.processes == 1:
        return
    side = replicas.side
    model, optimizer = side.model, side.model.optimizer
    if optimizer is not None and not optimizer.built and model.trainable_variables:
        with side.defaults():
            optimizer.build(model.trainable_variables)
    variables = [*model.variables, *side.program.random_variables()]
    variables += [] if optimizer is None else optimizer.variables
    once = {id(v): v for v in variables}
    replicas.agree(list(once.values()))


#: how many numbers processes exchange at a time, besides whether one has failed
NUMBERS = 8


class Preparation:
    """Context of all that comes before the first batch: if one process fails, all do.

    Without it the others would wait for a process that raised an error by itself.

    Parameters
    ----------
    replicas : Replicas
    where : str
        For error messages.
    """

    def __init__(self, replicas: Replicas, where: str) -> None:
        self.replicas, self.where = replicas, where
        self._told = replicas.processes == 1

    def __enter__(self) -> Preparation:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if error is not None and not self._told:
            self._told = True
            with contextlib.suppress(*LOST):
                self.replicas.exchange([1, *[0] * NUMBERS])

    def _exchange(self, numbers: list[int]) -> np.ndarray:
        numbers = [*numbers, *[0] * (NUMBERS - len(numbers))]
        found = self.replicas.exchange([0, *numbers])
        failed = [str(n) for n in np.flatnonzero(found[:, 0])]
        if failed:
            self._told = True
            raise SimulationError(
                f"{self.where}: process {', '.join(failed)} of this strategy raised an "
                "error before its first batch; see what it says. Nothing was computed"
            )
        return found[:, 1:]

    def first(self, numbers: list[int]) -> list[int]:
        """The numbers of the first process, each below ``2**64``."""
        signed = np.array([n % 2**64 for n in numbers], np.uint64).view(np.int64)
        found = self._exchange([int(n) for n in signed])[0].copy()
        return [int(n) for n in found.view(np.uint64)[: len(numbers)]]

    def first_bytes(self, data: bytes) -> bytes:
        """The bytes of the first process."""
        (length,) = self.first([len(data)])
        return self.replicas.bytes_of_first(data, length)

    def compare(self, what: Mapping[str, Any]) -> None:
        """Check that all processes were given the same; ``what``: things by name.

        Raises `SimulationError` in all of them.
        """
        found = self._exchange([_hash(value) for value in what.values()])
        self._told = True
        differ = [
            f"{name} (here: {_short(value)})"
            for number, (name, value) in enumerate(what.items())
            if len(set(found[:, number])) > 1
        ]
        if differ:
            raise SimulationError(
                f"{self.where}: the {self.replicas.processes} processes of this strategy "
                f"differ in {', and '.join(differ)}. All of them have to run the same "
                "script with the same data in the same order; this is process "
                f"{self.replicas.number}"
            )


def _hash(value: Any) -> int:
    digest = hashlib.sha256(str(value).encode()).digest()
    return int.from_bytes(digest[:8], "little", signed=True)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


@contextlib.contextmanager
def lost(replicas: Replicas | None, where: str) -> Iterator[None]:
    """Context of calls in which other processes may be lost. Raises `SimulationError`."""
    try:
        yield
    except LOST as error:
        if replicas is None or replicas.processes == 1:
            raise
        raise SimulationError(
            f"{where}: process {replicas.number} lost the connection to another process "
            f"of its strategy ({type(error).__name__}), which has ended, or raised an "
            "error of its own. Start all of them again; with the callback "
            "nengo_dl.callbacks.Resume they go on where the training was"
        ) from error
