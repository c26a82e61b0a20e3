"""The layer and the Keras model of a network, and their connection with the simulation.

Imported when it is first needed, because importing Keras takes seconds.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf
from nengo.exceptions import SimulationError

from nengo_dl.notices import warn
from nengo_dl.runtime.native import crew, reuse
from nengo_dl.runtime.tensorflow.batch_first import on_accelerator
from nengo_dl.runtime.tensorflow.python_calls import original_errors
from nengo_dl.runtime.tensorflow.spiking_products import allowed
from nengo_dl.runtime.tensorflow.switches import deterministic
from nengo_dl.training.advice import warn_before_training, warn_of_memory
from nengo_dl.training.inputs import N_STEPS
from nengo_dl.training.model import NengoModel, check_names
from nengo_dl.training.sharing import tensorflow_defaults
from nengo_dl.training.tensor_graph import TensorGraph

if TYPE_CHECKING:
    from nengo_dl.runtime.host import HostsThen
    from nengo_dl.training.parameters import LiveState
    from nengo_dl.training.replicas import Replicas
    from nengo_dl.training.sharing import Turns


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
    nodes, probes : dict
        Node or probe -> name.
    keep_history : dict
        Probe -> False, if only its last step is given.
    settings : dict
        See `TensorGraph`.
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
        self.model.tf32 = self.program.tensor_float_32
        self.model.jit_compile = False  # until it is compiled, too
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
        self._shared: dict[int, Replicas] = {}  # by what shares batches
        self.replica_count = 1  # while data of a call are checked
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

    def warn_of_memory(self, n_steps: int) -> None:
        """Warn before a training that takes more memory than there is."""
        warn_of_memory(self.layer.variant(True), n_steps)

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

        ``arguments``: those of ``keras.Model.compile``, by name of probe. ``by_name``:
        probes whose losses or metrics were given by name: they need targets.
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

        ``fixed_shapes``: whether all batches have one shape, but for the last one. Each
        shape is compiled anew.
        """
        model, jit = self.model, None
        if self.jit == "auto":
            fuses = fixed_shapes and self.layer.variant(True).fuses
            jit = fuses and not deterministic()
        if jit != model.jit_training:
            model.jit_training, model.train_function = jit, None

    def _may_call_machine_code(self, training: bool) -> bool:
        """Whether operations of ours may be in the programs: not in those of XLA."""
        compiled = self.jit is True or (training and self.model.jit_training)
        shared = self.replica_count > 1
        return not (compiled or shared or on_accelerator(self.program.device))

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
        for replicas in self._shared.values():
            replicas.functions.clear()

    def replicas(self, strategy: Any) -> Replicas:
        """What shares batches by a strategy, with what it has traced before."""
        from nengo_dl.training.replicas import Replicas

        found = self._shared.get(id(strategy))
        if found is None:
            found = self._shared[id(strategy)] = Replicas(self, strategy)
        return found

    @contextlib.contextmanager
    def sharing(self, replicas: Replicas | None) -> Iterator[None]:
        """Context within `calls`: batches are shared by replicas, if there are any."""
        model = self.model
        before = model.train_function, model.test_function
        if replicas is not None:
            model.replicas, model.train_function, model.test_function = (
                replicas,
                None,
                None,
            )
        try:
            yield
        finally:
            if replicas is not None:
                model.replicas = None
                model.train_function, model.test_function = before

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
        tests: bool = True,
    ) -> Iterator[None]:
        """Context of calls of the model: hand the state over, and take it back.

        ``stateful``: whether the state is carried from call to call and kept. Validation
        in between always starts from the state at the beginning, and keeps nothing.
        ``losses``: whether they are asked for. ``spiking``: how neurons run where nothing
        is trained, see `.form_of`. ``tests``: whether it may be tested while it trains.
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
            stack.enter_context(allowed(self._may_call_machine_code(training)))
            stack.enter_context(crew.ready())
            stack.enter_context(reuse.keeping())
            variant = self.layer.variant(training, losses)
            others = [self.layer.variant(False)] if training and tests else []
            for each in [variant, *others]:
                each.begin(live.n_steps, stateful and each is variant)
                stack.enter_context(each.reraise_host_errors())
            before = self._handed_over, self._first_processes, self._begins
            was_in_fit, self.layer.in_fit = self.layer.in_fit, training
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
                self.layer.in_fit = was_in_fit
                n_steps = variant.end()
                if stateful:
                    live.n_steps = n_steps
                else:
                    processes.put_back()
                processes.report()
                live.pull()
