"""The Keras model around a network, and its connection with the simulation.

Imported when it is first needed, because importing Keras takes seconds.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf
from nengo.exceptions import SimulationError

from nengo_dl.notices import warn
from nengo_dl.runtime.tensorflow.python_calls import original_errors
from nengo_dl.runtime.tensorflow.switches import deterministic
from nengo_dl.tensor_node import TrainsSome

if TYPE_CHECKING:
    from nengo_dl.runtime.host import HostsThen
    from nengo_dl.training.live import LiveState
    from nengo_dl.training.turns import Turns
from nengo_dl.training.advice import warn_before_training
from nengo_dl.training.defaults import tensorflow_defaults
from nengo_dl.training.inputs import N_STEPS
from nengo_dl.training.loss_names import check_names
from nengo_dl.training.tensor_graph import TensorGraph


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


class ProbeLoss:
    """The loss of one probe, its weight in the sum, and its mean over the batches.

    Parameters
    ----------
    name : str
        The probe's.
    loss : str or callable or keras.losses.Loss
    weight : float or None
    """

    def __init__(self, name: str, loss: Any, weight: float | None) -> None:
        self.name = name
        self.loss = as_loss(loss)
        self.weight = 1.0 if weight is None else weight
        self.mean = keras.metrics.Mean(name=f"{name}_loss")

    def __call__(self, y: Any, y_pred: Any, sample_weight: Any) -> Any:
        """The weighted loss of one batch, as a scalar; the mean is of the unweighted."""
        value = self.loss(y, y_pred, sample_weight)
        self.mean.update_state(value, sample_weight=tf.shape(y_pred)[0])
        return tf.cast(value, keras.config.floatx()) * self.weight


class NengoModel(TrainsSome, keras.Model):
    """A functional model whose results are named the same for one probe as for many.

    They are ``loss``, ``<probe>_loss`` for each probe that has a loss, and
    ``<probe>_<metric>``. Keras itself leaves out the second if there is but one, and the
    name of the probe if there is but one probe.
    """

    turns: Any = None  # of the simulator, one thread at a time
    before_calls: Callable[[], None] | None = (
        None  # called before methods that train, evaluate or predict
    )
    around_evaluate: Callable[[], Any] = (
        contextlib.nullcontext
    )  # of each call, also of those in `fit`
    around_export: Callable[[], Any] = (
        contextlib.nullcontext
    )  # raises an error if it cannot be exported
    around_prediction: Callable[[], Any] = contextlib.nullcontext  # of one batch
    jit_training: bool | None = (
        None  # whether a training step is compiled as a whole; None: as asked
    )
    compiled_as: object = None  # another object each time
    losses_of_probes: tuple[ProbeLoss, ...] = ()
    compared: Mapping[str, Any] = MappingProxyType(
        {}
    )  # what compares with targets, by names of probes
    joint_losses: tuple[
        Any, ...
    ] = ()  # of several probes: functions of all targets and outputs by name
    needs_targets: frozenset[str] = (
        frozenset()
    )  # the names of probes with a loss or a metric

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
        """See ``keras.Model.compile``; losses may be given by the names of probes."""
        super().compile(
            optimizer=optimizer, loss=loss, loss_weights=loss_weights, **kwargs
        )
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
        asked = self.jit_compile
        if self.jit_training is not None:
            self.jit_compile = self.jit_training and not self.run_eagerly
        try:
            return super().make_train_function(force)
        finally:
            self.jit_compile = asked

    def make_test_function(self, force: bool = False) -> Any:
        """See ``keras.Model``."""
        self._begin()
        return super().make_test_function(force)

    def make_predict_function(self, force: bool = False) -> Any:
        """See ``keras.Model``."""
        self._begin()
        return super().make_predict_function(force)

    def fit(self, *args: Any, **kwargs: Any) -> Any:
        """See ``keras.Model.fit``."""
        return self.turns.call("keras_model.fit", super().fit, *args, **kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """See ``keras.Model.evaluate``."""
        method = super().evaluate

        def evaluate():
            with self.around_evaluate():
                return method(*args, **kwargs)

        return self.turns.call("keras_model.evaluate", evaluate)

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """See ``keras.Model.predict``."""
        return self.turns.call("keras_model.predict", super().predict, *args, **kwargs)

    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """See ``keras.Model.train_on_batch``."""
        method = super().train_on_batch
        return self.turns.call("keras_model.train_on_batch", method, *args, **kwargs)

    def test_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """See ``keras.Model.test_on_batch``."""
        method = super().test_on_batch
        return self.turns.call("keras_model.test_on_batch", method, *args, **kwargs)

    def predict_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """See ``keras.Model.predict_on_batch``."""
        method = super().predict_on_batch
        return self.turns.call("keras_model.predict_on_batch", method, *args, **kwargs)

    def export(self, filepath: Any, *args: Any, **kwargs: Any) -> Any:
        """See ``keras.Model.export``; not of networks that call Python functions.

        Each call of what is written starts from the state of the simulation as it is now.

        Raises
        ------
        ~nengo.exceptions.SimulationError
            If a file could only be used in this process.
        """
        self._begin()
        with self.around_export():
            return super().export(filepath, *args, **kwargs)

    def train_step(self, data):
        """See ``keras.Model``."""
        with gradients_of_one_replica(self.optimizer, self.distribute_strategy):
            return super().train_step(data)

    def predict_step(self, data: Any) -> Any:
        """See ``keras.Model``; losses that are not asked for are not computed."""
        with self.around_prediction():
            return super().predict_step(data)

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
            total.append(loss(y[loss.name], y_pred[loss.name], weight))
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


@contextlib.contextmanager
def without_warnings_of_retracing() -> Iterator[None]:
    """Context of calls of Keras: every model has a function of its own to trace.

    TensorFlow takes those of several simulators for one that is traced again and again.
    """
    thread = threading.get_ident()

    def shown(record):
        ours = record.thread == thread and "tf.function retracing" in str(record.msg)
        return not ours

    logger = tf.get_logger()
    logger.addFilter(shown)
    try:
        yield
    finally:
        logger.removeFilter(shown)


@contextlib.contextmanager
def whole_errors() -> Iterator[None]:
    """Context of calls of Keras in which errors keep their cause and their text.

    Where Keras leaves its own lines out of tracebacks, it takes the causes of errors away
    with them, and makes new ones of those that layers raise. The setting is one of this
    thread alone.
    """
    filtered = keras.config.is_traceback_filtering_enabled()
    keras.config.disable_traceback_filtering()
    try:
        yield
    finally:
        if filtered:
            keras.config.enable_traceback_filtering()


class KerasSide:
    """The layer, the model around it, and their connection with the simulation.

    Parameters
    ----------
    live : LiveState
    nodes, probes : dict
        Node or probe -> name.
    keep_history : dict
        Probe -> False, if only its last step is given.
    settings : dict
        See `TensorGraph`.
    turns : Turns
    """

    def __init__(
        self,
        live: LiveState,
        nodes: dict[Any, str],
        probes: dict[Any, str],
        keep_history: dict[Any, bool],
        settings: dict[str, Any],
        turns: Turns,
    ) -> None:
        self.live = live
        self.program = live.program
        self._warned_for = None
        #: what `Simulator.compile` was given as ``jit_compile``
        self.jit = "auto"
        dtype = self.program.dtype.name
        with self.defaults():
            self.layer = TensorGraph(
                self.program, live.parameters, nodes, probes, keep_history, settings
            )
            shapes = {name: (None, node.size_out) for node, name in nodes.items()}
            inputs = {
                name: keras.Input(shape, name=name, dtype=dtype)
                for name, shape in (shapes or {N_STEPS: (None, 1)}).items()
            }
            outputs = self.layer(inputs)
            new: Any = NengoModel  # of a class of Keras, which has no types
            self.model: NengoModel = new(
                inputs=inputs, outputs=outputs, name="nengo_model"
            )
        self.model.output_names = list(probes.values())
        self.model.untrained = self.layer.untrained
        self.model.turns = turns
        self.model.before_calls = self._before_calls
        self.model.around_evaluate = self._aside
        self.model.around_prediction = self.layer.without_losses
        self.model.around_export = self._exporting
        self._traced = {}  # what Keras has traced for other forms of the neurons
        self.layer.around_batches = self._around_batch
        #: what batches begin with: whether they train -> `Hosts`; None goes on
        self._begins: dict[bool, HostsThen | None] = {True: None, False: None}
        self._generation = self.program.generation
        self._compiled: Any = None  # with which arguments, by us
        self._compiled_as = None  # the model's mark of that
        self._left_out = frozenset()
        self.choosing = False
        self._handed_over = False
        self._first_processes = None  # while `fit` runs, as they were before
        live.banks, live.starting = self.layer.banks, self.layer.starting

    def warn_before_training(self) -> None:
        """Warn of what the user may not expect of training, once for each compiling."""
        if self._warned_for is self.model.losses_of_probes:
            return
        self._warned_for = self.model.losses_of_probes
        names = {loss.name for loss in self.model.losses_of_probes}
        probes = [p for p, name in self.layer.probe_names.items() if name in names]
        with self.defaults():
            warn_before_training(self.layer, self.live.parameters, probes)

    def not_finite(self) -> list[Any]:
        """While `fit` runs: parameters that have values that are NaN or infinite."""
        bases = {*self.layer.banks.not_finite(), *self.layer.variant(True).not_finite()}
        return [p for p in self.live.parameters.entries if p.signal.base in bases]

    def defaults(self) -> contextlib.AbstractContextManager[None]:
        """Where TensorFlow puts new things, and the type that Keras gives them."""
        return tensorflow_defaults(self.program.device, self.program.dtype)

    # what is compared with targets ------------------------------------------------

    def compile(self, arguments: dict[str, Any], by_name: set[str]) -> None:
        """Compile the model.

        Parameters
        ----------
        arguments : dict
            Those of ``keras.Model.compile``, by name of probe.
        by_name : set of str
            Probes whose losses or metrics were given by name: they need targets.
        """
        check_names(arguments)
        self._compile(arguments)
        self._compiled = arguments, by_name, self.model.compared
        self._left_out, self._compiled_as = frozenset(), self.model.compiled_as

    def _compile(self, arguments):
        with self.defaults():
            self.model.compile(**arguments)

    @property
    def compared(self) -> Mapping[str, Any]:
        """Name of a probe -> the losses and metrics that it was compiled with."""
        ours = self._compiled_as is self.model.compiled_as and self._compiled
        return self._compiled[2] if ours else self.model.compared

    @contextlib.contextmanager
    def chooses_losses(self, chooses: bool) -> Iterator[None]:
        """Context of checks of data that say which of the losses for all probes count."""
        before, self.choosing = self.choosing, chooses
        try:
            yield
        finally:
            self.choosing = before

    def leave_out(self, names: frozenset[str], described: list[str], where: str) -> None:
        """Go without the losses and metrics of probes that there are no targets for.

        Only those that were given for all probes at once: the ones that were given by
        name stay. It lasts until there are other targets.
        """
        if self._compiled is None or self._compiled_as is not self.model.compiled_as:
            return  # the model was compiled by itself
        arguments, by_name, compared = self._compiled
        names &= frozenset(compared)
        nothing_left = names == frozenset(compared)
        if names == self._left_out or names & by_name or nothing_left:
            return
        if names:
            warn(
                f"{where}: no targets for the probes {', '.join(described)}; the loss "
                "and the metrics, which were given for all, are those of the others. "
                "Give a dict of losses to Simulator.compile to say which probes count",
                once=("no targets", *sorted(names)),
            )
        arguments = {**arguments, "optimizer": self.model.optimizer}
        for name, values in arguments.items():
            if name in ("loss", "loss_weights", "metrics", "weighted_metrics") and values:
                left = {n: one for n, one in values.items() if n not in names}
                arguments[name] = left or None
        self._compile(arguments)
        self._left_out, self._compiled_as = names, self.model.compiled_as

    def choose_jit(self, fixed_shapes: bool) -> None:
        """Decide before training whether its steps are compiled as a whole.

        Parameters
        ----------
        fixed_shapes : bool
            Whether all batches have one shape, but for the last one. Each shape is
            compiled anew.
        """
        model, jit = self.model, None
        if self.jit == "auto":
            fuses = fixed_shapes and self.layer.variant(True).fuses
            jit = fuses and not deterministic()
        if jit != model.jit_training:
            model.jit_training, model.train_function = jit, None

    def feed(self, names: Iterable[str]) -> None:
        """Say which nodes are given data in the next calls; see `Program.fed_among`.

        What Keras has traced is for one choice of them.
        """
        signals = {self.layer.signals[name] for name in names}
        if not self.program.stepwise_python or self.layer.fed == signals:
            return
        self.layer.fed = frozenset(signals)
        self.forget_traces()

    def forget_traces(self) -> None:
        """Make Keras trace everything anew."""
        model = self.model
        model.train_function = model.test_function = model.predict_function = None
        self._traced.clear()

    @contextlib.contextmanager
    def form(self, spiking: bool | None) -> Iterator[None]:
        """Context of calls: how neurons run where nothing is trained, see `.form_of`.

        What Keras has traced is for one form; that of the other ones is kept.
        """
        before = self.layer.spiking
        self._change_form(spiking)
        try:
            yield
        finally:
            self._change_form(before)

    def _change_form(self, spiking):
        model, before = self.model, self.layer.spiking
        if spiking == before:
            return
        functions = model.test_function, model.predict_function
        self._traced[before] = (model.compiled_as, *functions)
        compiled_as, *functions = self._traced.pop(spiking, (None, None, None))
        if compiled_as is not model.compiled_as:
            functions = None, None
        model.test_function, model.predict_function = functions
        self.layer.spiking = spiking

    def _before_calls(self):
        """The model by itself starts from the state as it is now, and keeps none."""
        if not self._handed_over:
            self.live.pull()
            self.program.settle()
            for variant in self.layer.variants:
                variant.begin(self.live.n_steps, False)
            first = self.program.hosts_now()
            self._begins = {True: first, False: first}

    def _around_batch(self, what, training, items):
        """Let Python functions start each batch alike, where state is not carried.

        Called from inside of the model, as a batch begins and as it ends. Where state is
        carried, the places that an incomplete batch leaves empty keep theirs.
        """
        first, begins = self._begins[training], what == "begins"
        if first is not None and (begins or not self._handed_over):
            first.between_batches()
            if not self._handed_over:
                first.report()
        elif first is None and items < self.program.batch:
            if begins:
                self._partial = self.program.hosts_now()
            else:
                self._partial.between_batches(items, noting=False)

    @contextlib.contextmanager
    def _exporting(self):
        """Context in which a file is written that other programs are to run."""
        python = self.layer.variant(False, losses=False).python_parts
        if python:
            shown = ", ".join(python[:5]) + (", ..." if len(python) > 5 else "")
            raise SimulationError(
                "the Keras model cannot be exported, because the network calls Python "
                f"functions, which a file cannot hold: {shown}. Give nodes data instead "
                "of functions, write functions in TensorFlow (nengo_dl.TensorNode), or "
                "save the parameters alone with Simulator.save_params"
            )
        with self.defaults():
            yield

    @contextlib.contextmanager
    def _aside(self):
        """Context of validation: processes of training go on as if there were none."""
        first = self._first_processes
        if first is None:
            yield
            return
        now = self.program.hosts_now()
        try:
            yield
        finally:
            now.put_back()

    @contextlib.contextmanager
    def calls(
        self,
        stateful: bool,
        training: bool = False,
        losses: bool = True,
        spiking: bool | None = None,
    ) -> Iterator[None]:
        """Context of calls of the model: hand the state over, and take it back.

        Parameters
        ----------
        stateful : bool
            Whether the state is carried from call to call and kept. Validation in
            between always starts from the state at the beginning, and keeps nothing.
        training : bool
        losses : bool
            Whether they are asked for.
        spiking : bool or None
            How neurons run where nothing is trained, see `.form_of`.
        """
        live = self.live
        live.pull()
        self.program.settle()
        if self._generation != self.program.generation:
            self._generation = self.program.generation
            self.forget_traces()
        self.layer.starting.show()
        processes = self.program.hosts_now()
        with self.defaults(), contextlib.ExitStack() as stack:
            stack.enter_context(whole_errors())
            stack.enter_context(original_errors())
            stack.enter_context(without_warnings_of_retracing())
            stack.enter_context(self.form(spiking))
            variant = self.layer.variant(training, losses)
            others = [self.layer.variant(False)] if training else []
            for each in [variant, *others]:
                each.begin(live.n_steps, stateful and each is variant)
                stack.enter_context(each.xp.reraise_host_errors())
            before = self._handed_over, self._first_processes, self._begins
            self._handed_over = True
            self._first_processes = processes if training else None
            self._begins = {True: processes, False: processes}
            if stateful:
                self._begins[training] = None
            try:
                yield
            except BaseException:
                self.forget_traces()  # a trace that failed would fail ever after
                raise
            finally:
                self._handed_over, self._first_processes, self._begins = before
                n_steps = variant.end()
                if stateful:
                    live.n_steps = n_steps
                else:
                    processes.put_back()
                processes.report()
                live.pull()
