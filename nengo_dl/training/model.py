"""The Keras model around a network: its losses, its results, and what ends a training.

Imported when it is first needed, because importing Keras takes seconds.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf
from nengo.exceptions import SimulationError, ValidationError

from nengo_dl.notices import warn
from nengo_dl.runtime.tensorflow.switches import tensor_float_32
from nengo_dl.tensor_node import TrainsSome
from nengo_dl.training.advice import WAY_OUT, not_finite
from nengo_dl.training.feed import StepOnBatches
from nengo_dl.training.updates import in_one_operation

if TYPE_CHECKING:
    pass


class FunctionLoss(keras.losses.Loss):
    """A function ``f(y_true, y_pred)`` as a loss, averaged over items and steps."""

    def __init__(self, function: Any, name: str) -> None:
        super().__init__(name=name)
        self.function = function

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The function's value for each item."""
        return self.function(y_true, y_pred)


class CrossEntropy(keras.losses.Loss):
    """What Keras means by ``"crossentropy"``: it depends on targets and outputs."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Binary for one output, for classes given by number, or else by probability."""
        if y_pred.shape[-1] == 1:
            return keras.losses.binary_crossentropy(y_true, y_pred)
        if y_true.shape[-1] == 1:
            return keras.losses.sparse_categorical_crossentropy(y_true, y_pred)
        return keras.losses.categorical_crossentropy(y_true, y_pred)


def as_loss(loss: Any) -> Any:
    """Whatever Keras takes for a loss, as a ``keras.losses.Loss``."""
    if isinstance(loss, str) and loss.lower() in ("crossentropy", "ce"):
        return CrossEntropy(name=loss)
    found = keras.losses.get(loss)
    if isinstance(found, keras.losses.Loss):
        return found
    name = getattr(found, "__name__", "")  # that of a lambda is no name for TensorFlow
    return FunctionLoss(found, name if name.isidentifier() else "loss")


class MeanLoss(keras.metrics.Mean):
    """The mean of numbers, each of a batch and weighted by its items.

    The same numbers as those of the class above, from a third of its operations: that one
    asks of each value how its shape goes with that of the weights.
    """

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        """Add the value of a batch."""
        values = tf.convert_to_tensor(values)
        if sample_weight is None or values.shape.rank != 0:
            super().update_state(values, sample_weight)
            return
        weight = tf.cast(sample_weight, self.dtype)
        self.total.assign_add(tf.cast(values, self.dtype) * weight)
        self.count.assign_add(weight)

    def reset_state(self) -> None:
        """Begin anew."""
        for variable in (self.total, self.count):
            variable.value.assign(0.0, read_value=False)

    def result(self) -> Any:
        """The mean so far."""
        total, count = map(tf.convert_to_tensor, (self.total.value, self.count.value))
        return tf.raw_ops.DivNoNan(x=total, y=count)


class ProbeLoss:
    """The loss of one probe, its weight in the sum, and its mean over the batches.

    Parameters
    ----------
    name : str
        The probe's.
    """

    def __init__(self, name: str, loss: Any, weight: float | None) -> None:
        self.name = name
        self.loss = as_loss(loss)
        self.weight = 1.0 if weight is None else weight
        self.mean = MeanLoss(name=f"{name}_loss")

    def __call__(
        self, y: Any, y_pred: Any, sample_weight: Any, replicas: Any = None
    ) -> Any:
        """The weighted loss of one batch, as a scalar; the mean is of the unweighted."""
        value = self.loss(y, y_pred, sample_weight)
        if replicas is not None:
            value = replicas.whole(value, self.loss)
        self.mean.update_state(value, sample_weight=tf.shape(y_pred)[0])
        return tf.cast(value, keras.config.floatx()) * self.weight


class NengoModel(TrainsSome, keras.Model):
    """A functional model whose results are named the same for one probe as for many.

    They are ``loss``, ``<probe>_loss`` for each probe that has a loss, and
    ``<probe>_<metric>``. Keras itself leaves out the second if there is but one, and the
    name of the probe if there is but one probe.
    """

    turns: Any = None  # of the simulator, one thread at a time
    replicas: Any = None  # what shares batches, while a call has a strategy
    tf32: bool = False  # see `.switches.tensor_float_32`
    #: called before methods that train, evaluate or predict
    before_calls: Callable[[], None] | None = None
    #: of each call, also of those in `fit`
    around_evaluate: Callable[[], Any] = contextlib.nullcontext
    #: raises an error if it cannot be exported
    around_export: Callable[[], Any] = contextlib.nullcontext
    around_prediction: Callable[[], Any] = contextlib.nullcontext  # of one batch
    #: whether a training step is compiled as a whole; None: as asked
    jit_training: bool | None = None
    compiled_as: object = None  # another object each time
    _metrics_made: object = None  # for which of them metrics have their variables
    losses_of_probes: tuple[ProbeLoss, ...] = ()
    #: what compares with targets, by names of probes
    compared: Mapping[str, Any] = MappingProxyType({})
    #: of several probes: functions of all targets and outputs by name
    joint_losses: tuple[Any, ...] = ()
    #: the names of probes with a loss or a metric
    needs_targets: frozenset[str] = frozenset()

    @property
    def input_names(self) -> list[str]:
        """(list of str) The names of the inputs, in their order, as Keras 2 had them."""
        return [tensor.name for tensor in self.inputs]

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        **kwargs: Any,
    ) -> None:
        """See ``keras.Model.compile``; losses may be given by the names of probes.

        The loop over time is compiled by itself, so ``jit_compile="auto"`` asks XLA for
        nothing more. Keras would take that for True where there is a GPU.
        """
        if kwargs.get("jit_compile", "auto") == "auto":
            kwargs["jit_compile"] = False
        super().compile(
            optimizer=optimizer, loss=loss, loss_weights=loss_weights, **kwargs
        )
        self._loss_tracker = MeanLoss(name="loss")
        losses, weights = self._by_probe(loss), self._by_probe(loss_weights)
        compared = {}
        for values in (losses, kwargs.get("metrics"), kwargs.get("weighted_metrics")):
            for name, value in values.items() if isinstance(values, dict) else ():
                if value is not None:
                    compared.setdefault(name, []).append(value)
        self.needs_targets = frozenset(compared)
        # where there is a loss, it decides which targets make sense
        read = {
            name: _flat(losses.get(name) or found) for name, found in compared.items()
        }
        self.compared = MappingProxyType(read)
        # a tuple of objects that Keras does not look into
        self.losses_of_probes = tuple(
            ProbeLoss(name, one, weights.get(name))
            for name, one in losses.items()
            if one is not None
        )
        self.joint_losses = ()
        self.compiled_as = object()

    def make_train_function(self, force: bool = False) -> Any:
        """See ``keras.Model``."""
        self._begin()
        optimizer, trained = self.optimizer, self.trainable_variables
        if optimizer is not None and not optimizer.built and trained:
            # where a training step makes variables, TensorFlow traces it twice
            with self.distribute_strategy.scope():
                optimizer.build(trained)
        if self.replicas is not None:
            self.train_function = self.replicas.function(training=True)
            return self.train_function
        asked = self.jit_compile
        if self.jit_training is not None:
            self.jit_compile = self.jit_training and not self.run_eagerly
        try:
            super().make_train_function(force)
            self.train_function = self._on_batches(self.train_step, self.train_function)
        finally:
            self.jit_compile = asked
        return self.train_function

    def make_test_function(self, force: bool = False) -> Any:
        """See ``keras.Model``."""
        self._begin()
        if self.replicas is not None:
            self.test_function = self.replicas.function(training=False)
            return self.test_function
        super().make_test_function(force)
        self.test_function = self._on_batches(self.test_step, self.test_function)
        return self.test_function

    @property
    def takes_batches(self) -> bool:
        """Whether batches may be handed over one by one, in no ``tf.data`` pipeline."""
        alone = not tf.distribute.has_strategy()
        alone = alone and self.distribute_strategy is tf.distribute.get_strategy()
        return alone and getattr(self, "steps_per_execution", 1) == 1

    def _on_batches(self, step, of_keras):
        """Keras' function for a step, which also takes the batches of a `Feed`."""
        if self.run_eagerly or isinstance(of_keras, StepOnBatches):
            return of_keras
        return StepOnBatches(step, of_keras, self.jit_compile)

    def make_predict_function(self, force: bool = False) -> Any:
        """See ``keras.Model``."""
        self._begin()
        return super().make_predict_function(force)

    def fit(self, *args: Any, **kwargs: Any) -> Any:
        """See ``keras.Model.fit``."""
        return self._call("fit", super().fit, *args, **kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """See ``keras.Model.evaluate``."""
        method = super().evaluate

        def evaluate():
            with self.around_evaluate():
                return method(*args, **kwargs)

        return self._call("evaluate", evaluate)

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """See ``keras.Model.predict``."""
        return self._call("predict", super().predict, *args, **kwargs)

    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """See ``keras.Model.train_on_batch``."""
        return self._call("train_on_batch", super().train_on_batch, *args, **kwargs)

    def test_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """See ``keras.Model.test_on_batch``."""
        return self._call("test_on_batch", super().test_on_batch, *args, **kwargs)

    def predict_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """See ``keras.Model.predict_on_batch``."""
        return self._call("predict_on_batch", super().predict_on_batch, *args, **kwargs)

    def _call(self, name: str, method: Callable, *args: Any, **kwargs: Any) -> Any:
        """Call a method of Keras when it is this thread's turn, in our precision."""
        with tensor_float_32.being(self.tf32):
            return self.turns.call(f"keras_model.{name}", method, *args, **kwargs)

    def export(self, filepath: Any, *args: Any, **kwargs: Any) -> Any:
        """See ``keras.Model.export``; not of networks that call Python functions.

        Each call of what is written starts from the state of the simulation as it is now.

        Raises `SimulationError` if a file could only be used in this process.
        """
        self._begin()
        with self.around_export():
            return super().export(filepath, *args, **kwargs)

    def train_step(self, data):
        """See ``keras.Model``."""
        one = gradients_of_one_replica(self.optimizer, self.distribute_strategy)
        with one, in_one_operation(self.optimizer):
            return super().train_step(data)

    def predict_step(self, data: Any) -> Any:
        """See ``keras.Model``; losses that are not asked for are not computed."""
        with self.around_prediction():
            return super().predict_step(data)

    def make_metrics(self, data: Any) -> None:
        """Let metrics make their variables, which they do when they are first updated.

        ``data``: the parts of a batch.
        """
        if self._metrics_made is self.compiled_as:
            return
        self._metrics_made = self.compiled_as
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        y = {name: target[:1] for name, target in y.items()}
        outputs = {
            name: tf.zeros((1, y[name].shape[1], *spec.shape[2:]), spec.dtype)
            for name, spec in self.output.items()
        }
        self.compute_metrics(x, y, outputs, None)
        self.reset_metrics()

    def _begin(self) -> None:
        if self.before_calls is not None:
            self.before_calls()

    def _by_probe(self, values: Any) -> dict[str, Any]:
        if isinstance(values, dict):
            return values
        if not isinstance(values, list | tuple):
            values = [values] * len(self.output_names)
        return dict(zip(self.output_names, values, strict=True))

    @property
    def metrics(self) -> list[Any]:
        """All that is averaged over batches."""
        return [*super().metrics, *(loss.mean for loss in self.losses_of_probes)]

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """The weighted sum of the losses of all probes that have one."""
        total = [keras.ops.sum(loss) for loss in self.losses]
        for loss in self.losses_of_probes:
            weight = sample_weight
            if isinstance(weight, dict):
                weight = weight.get(loss.name)
            if weight is not None and weight.shape.rank == 1:
                weight = weight[:, None]  # one for each item, the same in all steps
            about = y[loss.name], y_pred[loss.name], weight, self.replicas
            total.append(loss(*about))
        total += [loss(y, y_pred) for loss in self.joint_losses]
        if not total:
            raise ValueError("No loss to compute. Provide a `loss` in `compile()`.")
        return sum(total)

    def get_metrics_result(self) -> dict[str, Any]:
        """``loss``, ``<probe>_loss`` and ``<probe>_<metric>``."""
        result = {}
        for metric in self.metrics:
            value = metric.result()
            if not isinstance(value, dict):
                result[metric.name] = value
            elif len(self.output_names) > 1:
                result.update(value)
            else:
                (probe,) = self.output_names
                result.update({f"{probe}_{name}": v for name, v in value.items()})
        return result


def _flat(value: Any) -> list[Any]:
    """A loss, a metric, or lists of metrics, as one list."""
    if isinstance(value, list | tuple):
        return [part for one in value for part in _flat(one)]
    return [] if value is None else [value]


@contextlib.contextmanager
def gradients_of_one_replica(optimizer, strategy):
    """Context of a training step: no sum over replicas, where there is but one.

    Keras takes an operation with a gradient of its own for it. TensorFlow keeps those
    until the process ends, and with this one all of the training step.
    """
    found, name = [], "_all_reduce_sum_gradients"
    if strategy.num_replicas_in_sync == 1:
        while optimizer is not None:
            found += [vars(optimizer)] if hasattr(optimizer, name) else []
            optimizer = getattr(optimizer, "inner_optimizer", None)
    for attributes in found:
        attributes[name] = list
    try:
        yield
    finally:
        for attributes in found:
            attributes.pop(name, None)


# what happens between the epochs of a training ----------------------------------


class FiniteParameters(keras.callbacks.Callback):
    """Ends a training whose parameters are no numbers any more.

    A loss may hide it: a neuron whose current is NaN does not fire. It looks before all
    other callbacks, so that none of them writes such parameters over good ones.

    Parameters
    ----------
    stop : bool
        End it with a warning instead of an error, as `keras.callbacks.TerminateOnNaN`
        does.
    """

    def __init__(self, side: Any, stop: bool) -> None:
        super().__init__()
        self.side, self.stop = side, stop

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Look at all parameters."""
        wrong = self.side.not_finite()
        if not wrong:
            return
        text = f"Simulator.fit: after epoch {epoch + 1}, {not_finite(wrong)} {WAY_OUT}"
        if not self.stop:
            raise SimulationError(
                f"{text}. With the callback keras.callbacks.TerminateOnNaN training ends "
                "without an error"
            )
        warn(text)
        self.side.model.stop_training = True


@contextlib.contextmanager
def with_callbacks(given: Any, first: Callable[[list[Any]], list[Any]]) -> Iterator[Any]:
    """The user's callbacks, behind some more, and in front of those that come last.

    ``first``: ``first(callbacks)`` makes the list of the others. Yields what Keras is to
    be given.
    """
    lists = isinstance(given, keras.callbacks.CallbackList)
    users = given.callbacks if lists else keras.tree.flatten(given)
    users = [callback for callback in users if callback is not None]
    own = first(users)
    every = sorted([*own, *users], key=lambda c: getattr(c, "comes_last", False))
    if not lists:
        yield every
        return
    for callback in own:  # a list that the user made has all that they need
        callback.set_model(given.model)
        callback.set_params(given.params)
    before, given.callbacks[:] = list(given.callbacks), every
    try:
        yield given
    finally:
        given.callbacks[:] = before


# names of losses, metrics and optimizers: an error says which are near ----------

#: what ``compile`` of Keras knows besides the contents of its modules
ALIASES = ("mse", "mae", "mape", "msle", "kld", "accuracy", "acc", "crossentropy", "ce")


def check_names(arguments: Mapping) -> None:
    """Check that all strings among the arguments of ``compile`` name something.

    ``arguments``: ``optimizer``, and by name of probe ``loss``, ``metrics``,
    ``weighted_metrics``. Raises `ValidationError`: it lists the names that are near.
    """
    _check(arguments["optimizer"], "optimizer", keras.optimizers)
    for argument in ("loss", "metrics", "weighted_metrics"):
        module = keras.losses if argument == "loss" else keras.metrics
        for probe, value in (arguments.get(argument) or {}).items():
            for one in _strings(value):
                _check(one, argument, module, f" of Probe {probe!r}")


def _strings(value: Any) -> Iterable[str]:
    if isinstance(value, list | tuple):
        for one in value:
            yield from _strings(one)
    elif isinstance(value, str):
        yield value


def _check(value: Any, argument: str, module: Any, whose: str = "") -> None:
    if not isinstance(value, str) or value in ALIASES:
        return
    try:
        found = module.get(value)
    except (ValueError, TypeError, AttributeError):
        found = None
    if found is not None:
        return
    helpers = ("get", "serialize", "deserialize")
    names = [n for n in dir(module) if not n.startswith("_") and n not in helpers]
    names += ALIASES if module is not keras.optimizers else ()
    plain = {name.lower().replace("_", ""): name for name in names}
    wanted = value.lower().replace("_", "")
    near = difflib.get_close_matches(wanted, plain, n=3, cutoff=0.5)
    meant = ", ".join(repr(plain[name]) for name in near)
    raise ValidationError(
        f"Keras has no {argument} {value!r}{whose}"
        + (f"; did you mean {meant}?" if near else f"; see {module.__name__}"),
        attr="Simulator.compile",
    )
