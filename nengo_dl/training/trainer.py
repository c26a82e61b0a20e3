"""Training, evaluating and predicting: what a simulator shares with Keras."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from nengo.exceptions import SimulationError, SimulatorClosed, ValidationError

from nengo_dl.config import get_setting
from nengo_dl.notices import warn
from nengo_dl.runtime.choice import forward_form
from nengo_dl.runtime.tensorflow.switches import apart, in_a_scope
from nengo_dl.training.advice import (
    form_asked_for,
    form_of_validation,
    spike_training,
    warn_of_one_step,
)
from nengo_dl.training.data import (
    ProbeNames,
    Results,
    TrainingData,
    check_sizes,
    for_probes,
    is_for_all_probes,
    is_stream,
)
from nengo_dl.training.mapped import in_memory
from nengo_dl.training.parameters import LiveState
from nengo_dl.training.predicting import ForwardSide, Prediction, signals_of
from nengo_dl.training.shared_calls import call_of
from nengo_dl.training.sharing import Turns

if TYPE_CHECKING:
    import keras
    from nengo import Network, Node, Probe
    from nengo.builder import Model

    from nengo_dl.training.feed import Feed
    from nengo_dl.training.keras_side import KerasSide
    from nengo_dl.training.resuming import Resume
    from nengo_dl.training.streams import Order, Stream


class ProbeDict(dict[Any, Any]):
    """Arrays by probe, which are found by the probe's name too."""

    def __init__(self, arrays: Mapping[Any, Any], names: ProbeNames) -> None:
        super().__init__(arrays)
        self._by_name = {name: probe for probe, name in names.items()}
        self._older = names.older

    def __missing__(self, key: Any) -> Any:
        if key in self._by_name:
            return self[self._by_name[key]]
        if key in self._older:
            return self[self._older[key]]
        raise KeyError(
            f"no probe {key!r}; this network's probes are "
            + ", ".join(map(repr, self._by_name))
        )


@dataclass(eq=False)
class Trainer:
    """Runs the methods of ``keras.Model`` on a network, and takes its state along.

    What Keras works on is made when it is first needed, because importing Keras takes
    seconds.

    Parameters
    ----------
    model : ~nengo.builder.Model
        Built from the network.
    nodes : dict
        Input node -> name.
    keep_history : dict
        Probe -> False, if only its last step is given.
    one_item : bool
        Whether data may be without the axis for items.
    progress : callable
        ``progress(shown, label, count)`` is a context that shows how far a task has come.

    Attributes
    ----------
    keras : KerasSide or None
        The layer and the model, once they were needed.
    """

    network: Network | None
    model: Model
    live: LiveState
    nodes: dict[Node, str]
    keep_history: dict[Probe, bool]
    turns: Turns
    one_item: bool
    progress: Callable[[bool, str, int], Any]
    keras: KerasSide | None = None

    def __post_init__(self) -> None:
        self.stateful = get_setting(self.network, "stateful")
        self.inference_only = get_setting(self.network, "inference_only")

    @property
    def names(self) -> ProbeNames:
        """The names of the probes, as they are labelled now."""
        return ProbeNames(self.model.probes, self.network)

    # the methods ------------------------------------------------------------------

    def compile(
        self,
        optimizer: Any,
        loss: Any,
        metrics: Any,
        loss_weights: Any,
        arguments: dict[str, Any],
    ) -> None:
        """See `Simulator.compile`; ``arguments`` are the further ones of Keras."""
        side, names = self.side("compile"), self.names
        side.jit = arguments.pop("jit_compile", "auto")
        arguments["jit_compile"] = False if side.jit == "auto" else side.jit
        weighted = arguments.pop("weighted_metrics", None)
        given = {"loss": loss, "metrics": metrics, "weighted_metrics": weighted}
        resolved = {
            name: for_probes(names, name, value, lists=name != "loss")
            for name, value in given.items()
        }
        by_name = set()
        for name, value in resolved.items():
            if value and not is_for_all_probes(given[name], lists=name != "loss"):
                by_name |= {probe for probe, one in value.items() if one is not None}
        resolved["loss_weights"] = for_probes(names, "loss_weights", loss_weights)
        side.compile({"optimizer": optimizer, **resolved, **arguments}, by_name)

    def fit(
        self,
        x: Any,
        y: Any,
        n_steps: int | None,
        stateful: bool,
        strategy: Any,
        arguments: dict[str, Any],
    ) -> keras.callbacks.History:
        """See `Simulator.fit`; ``arguments`` are the further ones of Keras."""
        side, where = self.side("fit"), "Simulator.fit"
        if self.inference_only:
            raise SimulationError(
                "Simulator.fit: this network has the setting inference_only=True; "
                "remove it (nengo_dl.configure_settings) to train the network"
            )
        stateful = self._kept(stateful, where)
        _require_compiled(side, "fit")
        call = call_of(side, strategy, stateful, where)
        with call.preparing(self.live):
            resume = _resumed(arguments.get("callbacks"), x, stateful, arguments)
            call.open(resume, arguments)
            about = (x, y, n_steps, stateful, where, arguments)
            data, streams = self._checked(*about, resume=resume)
            shuffled = not stateful and all(s.kind == "PyDataset" for s in streams)
            arguments.setdefault("shuffle", shuffled)
            one_shape = not streams
            streams += self._validation(side, n_steps, arguments)
            validated = _steps_validated(data["x"], arguments, streams)
            spiking = form_of_validation(self.network, self.model, validated)
            side.warn_before_training()
            side.choose_jit(one_shape)
            order = None
            if one_shape:
                side.warn_of_memory(next(iter(data["x"].values())).shape[1])
                data, order = self._in_batches(side, data, arguments)
            self._feed_validation(side, arguments)
            if resume is not None:
                resume.begin(_training(side, self.live, order, stateful), arguments)
            call.agree(data, order, arguments)
        given, more = call.callbacks(arguments.pop("callbacks", None))
        # callbacks may evaluate
        tests = bool(given) or arguments.get("validation_data") is not None
        callbacks = _callbacks(side, given, order, more)
        about = (side, stateful, streams, True, True, spiking, tests)
        with callbacks as all_callbacks, self._calls(*about), call.running():
            history = side.model.fit(**data, callbacks=all_callbacks, **arguments)
        if resume is not None:
            resume.complete(history)
        history.history = Results(history.history, self.names)
        return history

    def evaluate(
        self,
        x: Any,
        y: Any,
        n_steps: int | None,
        stateful: bool,
        spiking: bool | None,
        strategy: Any,
        arguments: dict[str, Any],
    ) -> dict[str, float]:
        """See `Simulator.evaluate`; ``arguments`` are the further ones of Keras."""
        side, where = self.side("evaluate"), "Simulator.evaluate"
        stateful = self._kept(stateful, where)
        _require_compiled(side, "evaluate")
        spiking = form_asked_for(self.model, spiking)
        call = call_of(side, strategy, stateful, where)
        with call.preparing(self.live):
            call.open(None, arguments)
            data, streams = self._checked(x, y, n_steps, stateful, where, arguments)
            self._warn_of_one_step(data["x"], streams, stateful, spiking, where)
            if not streams and side.model.takes_batches:
                data = {"x": self._feed(_parts(data), arguments.pop("batch_size"))}
            elif not streams:
                data["x"] = in_memory(data["x"], self.live.program.dtype)
            call.agree(data, None, arguments)
        given, _ = call.callbacks(arguments.get("callbacks"), trains=False)
        if given is not None:
            arguments["callbacks"] = given
        with self._calls(side, stateful, streams, spiking=spiking), call.running():
            results = side.model.evaluate(**data, **{**arguments, "return_dict": True})
        values = {k: v if np.ndim(v) else float(v) for k, v in results.items()}
        return Results(values, self.names)

    def predict(
        self,
        method: str,
        x: Any,
        n_steps: int | None,
        stateful: bool,
        spiking: bool | None,
        arguments: dict[str, Any],
    ) -> ProbeDict:
        """See `Simulator.predict` and ``predict_on_batch``: one is the ``method``."""
        where = f"Simulator.{method}"
        if not self.live.closed and not self.model.probes:
            return ProbeDict({}, self.names)
        if self.live.closed:
            raise SimulatorClosed(f"{where}: the simulator is closed.")
        stateful = self._kept(stateful, where)
        spiking = form_asked_for(self.model, spiking)
        if not is_stream(x) and not self._keras_alone(arguments):
            outputs = self._forward(method, x, n_steps, stateful, spiking, arguments)
            if outputs is not None:
                return ProbeDict(outputs, self.names)
        side = self.side(method)
        data, streams = self._checked(
            x, None, n_steps, stateful, where, arguments, targets=False
        )
        if method == "predict_on_batch":
            if streams:
                raise ValidationError(
                    "expected one batch; give data that come batch by batch to "
                    "Simulator.predict",
                    attr=where,
                )
            count = len(next(iter(data["x"].values())))
            _check_one_batch(count, side.program.batch, where)
            del arguments["batch_size"]
        self._warn_of_one_step(data["x"], streams, stateful, spiking, where)
        if method == "predict" and not streams and side.model.takes_batches:
            data = {"x": self._feed(_parts(data), arguments.pop("batch_size"))}
        elif not streams:
            data["x"] = in_memory(data["x"], self.live.program.dtype)
        with self._calls(side, stateful, streams, losses=False, spiking=spiking):
            outputs = getattr(side.model, method)(**data, **arguments)
        return self._by_probe(outputs, where)

    # without Keras ----------------------------------------------------------------

    def _keras_alone(self, arguments: Mapping[str, Any]) -> bool:
        """Whether a call of ``predict`` asks for something that only Keras has."""
        asked = arguments.get("callbacks") or arguments.get("steps") is not None
        return bool(asked) or not self.live.program.use_loop

    def _forward(
        self,
        method: str,
        x: Any,
        n_steps: int | None,
        stateful: bool,
        spiking: bool | None,
        arguments: dict[str, Any],
    ) -> dict[Any, np.ndarray] | None:
        """``predict`` in what runs forward steps; None, if Keras is to do it."""
        live, program, where = self.live, self.live.program, f"Simulator.{method}"
        phase, trains_spikes = (
            get_setting(self.network, name)
            for name in ("learning_phase", "spiking_training")
        )
        form = forward_form(phase, trains_spikes, spiking)
        # one of plain algebra is compiled for the data that there are
        if not program.is_plain and not program.runs_batches((), form):
            return None
        side = ForwardSide(program, self.nodes, self.keep_history)
        about = TrainingData(self.network, side, self.names, live.seed, live.n_steps)
        check_sizes(about.batch, where, n_steps, arguments)
        one = self.one_item
        given = about.given(x, None, None, n_steps, where, targets=False, one_item=one)
        signals = signals_of(program, given.inputs)
        if not program.runs_batches(signals.values(), form):
            return None
        items, size = given.items or about.batch, arguments.get("batch_size")
        if method == "predict_on_batch":
            _check_one_batch(items, about.batch, where)
            size = about.batch
        self._require_full(items, size or about.batch, where)
        about.warn_of_synapses(given, where)
        if spiking is None and not stateful and given.steps == 1:
            warn_of_one_step(self.network, self.model, where)
        shown = arguments.get("verbose") not in (None, 0)
        with self.progress(shown, "Predicting", items) as task:
            prediction = Prediction(live, about, given, stateful, form)
            return prediction.run(size or about.batch, task.step)

    # the Keras side ---------------------------------------------------------------

    def side(self, what: str) -> KerasSide:
        """The layer and the model, made on the first use.

        ``what``: the method or attribute of the simulator that needs them. Raises
        `SimulatorClosed`.
        """
        if self.live.closed:
            raise SimulatorClosed(f"Simulator.{what}: the simulator is closed.")
        side = self.keras
        if side is None:
            with self.turns.reading():
                side = self.keras
                if side is None:  # or another thread has made it meanwhile
                    make = self._new_side
                    side = apart(make, what) if in_a_scope() else make(what)
                    self.keras = side
        return side

    def _new_side(self, what: str) -> KerasSide:
        from nengo_dl.training.keras_side import KerasSide

        if not self.model.probes:
            raise ValidationError(
                "the network has no probes, so there is nothing to train or predict; "
                "add a nengo.Probe",
                attr=f"Simulator.{what}",
            )
        names = ("jit", "checkpoint", "truncate", "learning_phase")
        settings = {name: get_setting(self.network, name) for name in names}
        settings["spikes"] = spike_training(self.network, self.model)
        about = (self.nodes, self.names, self.keep_history, settings)
        return KerasSide(self.live, *about, self.turns)

    def close(self) -> None:
        """Let go of the layer and the model."""
        self.keras = None

    @contextlib.contextmanager
    def _calls(
        self,
        side: KerasSide,
        stateful: bool,
        streams: list[Stream],
        training: bool = False,
        losses: bool = True,
        spiking: bool | None = None,
        tests: bool = True,
    ) -> Iterator[None]:
        """Context of a call of Keras, see `KerasSide.calls`."""
        self.live.parameters.version += 1  # learned values may change
        with contextlib.ExitStack() as stack:
            for stream in streams:
                stack.enter_context(stream.errors())
            with side.calls(stateful, training, losses, spiking, tests):
                yield
        for stream in streams:
            if stream.stateful:
                stream.own.settle(self.live.n_steps)

    def _kept(self, stateful: bool, where: str) -> bool:
        """Whether state is carried, as a call and the setting say."""
        if stateful and not self.stateful:
            warn(
                f"{where}: stateful=True has no effect, because the network has the "
                "setting stateful=False; leave that setting out to carry state from "
                "batch to batch and from call to call",
                once=("stateful", where),
            )
        return stateful and self.stateful

    # data -------------------------------------------------------------------------

    def data(self, side: KerasSide) -> TrainingData:
        """What the data of a call are checked against."""
        about = (self.names, self.live.seed, self.live.n_steps, side.replica_count)
        return TrainingData(self.network, side, *about)

    def _checked(
        self,
        x: Any,
        y: Any,
        n_steps: int | None,
        stateful: bool,
        where: str,
        arguments: dict[str, Any],
        targets: bool = True,
        resume: Resume | None = None,
    ) -> tuple[dict[str, Any], list[Stream]]:
        """Data as arguments for Keras, and the streams among them.

        ``arguments``: the other arguments for Keras; those about the data are completed.
        """
        from nengo_dl.training.streams import Stream

        side = self.side(where)
        about = self.data(side)
        with side.chooses_losses(targets):
            check_sizes(about.batch, where, n_steps, arguments)
            weight = arguments.pop("sample_weight", None)
            classes = arguments.pop("class_weight", None)
            if is_stream(x):
                _refuse_with_streams(y, weight, where, arguments)
                passed = 0 if resume is None else resume.all_batches
                about_them = (n_steps, stateful, where, targets, classes, passed)
                stream = Stream(about, x, *about_them)
                of_validation = "validation_batch_size"
                if "validation_data" in arguments and not arguments.get(of_validation):
                    arguments[of_validation] = about.batch
                return {"x": stream.data}, [stream]
            one = self.one_item and not targets
            given = about.given(x, y, weight, n_steps, where, targets, one_item=one)
            if classes is not None:
                given = about.of_classes(given, classes, where)
            inputs, goals, weights = about.arrays(given, stateful, where)
        if arguments.get("batch_size") is None:
            arguments["batch_size"] = about.batch
        self._require_full(given.items, arguments["batch_size"], where)
        if not targets:
            return {"x": inputs}, []
        return {"x": inputs, "y": goals, "sample_weight": weights}, []

    def _require_full(self, items: int | None, size: int, where: str) -> None:
        """Nothing is to be learned of places of a batch that no item is in."""
        program = self.live.program
        batch = program.batch
        if not program.common or (size == batch and not (items or batch) % batch):
            return
        raise ValidationError(
            f"got {items} items in batches of {size}, but the items of a batch learn "
            f"together (shared_learning), so that batches have to be full: give a "
            f"multiple of {batch} items, the minibatch_size, and no other batch_size",
            attr=where,
        )

    def _validation(
        self, side: KerasSide, n_steps: int | None, arguments: dict[str, Any]
    ) -> list[Stream]:
        """Complete Keras' ``validation_data``; returns the streams among them."""
        from nengo_dl.training.streams import Stream

        data, about = arguments.get("validation_data"), self.data(side)
        if data is None:
            return []
        where = "Simulator.fit (validation_data)"
        fed, streams = side.layer.fed, []
        if is_stream(data):
            streams = [Stream(about, data, n_steps, False, where)]
            arguments["validation_data"] = streams[0].data
        else:
            if not isinstance(data, list | tuple) or len(data) not in (2, 3):
                raise ValidationError(
                    "expected (x, y), (x, y, sample_weight), a tf.data.Dataset, a "
                    f"generator or a PyDataset; got {type(data).__name__}",
                    attr=where,
                )
            x, y, weight = (*data, None)[:3]
            given = about.given(x, y, weight, n_steps if x is None else None, where)
            arrays = about.arrays(given, False, where)
            arguments["validation_data"] = arrays if arrays[2] else arrays[:2]
        if side.layer.fed != fed:
            raise ValidationError(
                "expected data for the same nodes as in x, because Python functions of "
                "this network depend on each other",
                attr=where,
            )
        return streams

    def _in_batches(
        self, side: KerasSide, data: dict[str, Any], arguments: dict[str, Any]
    ) -> tuple[dict[str, Any], Order | None]:
        """Arrays as batches, in an order of our own where they are to be shuffled."""
        from nengo_dl.training.streams import Order, batches, split

        if not side.model.takes_batches:
            data["x"] = in_memory(data["x"], self.live.program.dtype)
        parts, size = _parts(data), arguments.pop("batch_size")
        items = len(next(iter(data["x"].values())))
        fraction = arguments.pop("validation_split", None)
        if not arguments.get("validation_batch_size"):
            arguments["validation_batch_size"] = size
        if fraction and arguments.get("validation_data") is None:
            parts, arguments["validation_data"], items = split(
                parts, fraction, items, "Simulator.fit"
            )
        order = None
        if arguments["shuffle"]:
            first = arguments.get("initial_epoch") or 0
            order = Order(self.live, self.live.seed, items, first)
        if side.model.takes_batches:
            return {"x": self._feed(parts, size, order)}, order
        if order is not None:
            arguments["shuffle"] = False
            dtype = self.live.program.dtype
            return {"x": batches(parts, order, items, size, dtype)}, order
        return {**_named(parts), "batch_size": size}, None

    def _feed_validation(self, side: KerasSide, arguments: dict[str, Any]) -> None:
        """Have arrays for validation come in batches, too."""
        given = arguments.get("validation_data")
        if isinstance(given, tuple) and side.model.takes_batches:
            size = arguments["validation_batch_size"]
            arguments["validation_data"] = self._feed(given, size)
        elif isinstance(given, tuple):
            x = in_memory(given[0], self.live.program.dtype)
            arguments["validation_data"] = (x, *given[1:])

    def _feed(self, parts: Any, size: int, order: Order | None = None) -> Feed:
        from nengo_dl.training.feed import Feed

        numbers = None if order is None else order.numbers
        program = self.live.program
        return Feed(parts, size, program.dtype, numbers, program.device)

    def _warn_of_one_step(
        self,
        data: Any,
        streams: list[Stream],
        stateful: bool,
        spiking: bool | None,
        where: str,
    ) -> None:
        if spiking is None and not stateful and _steps_of(data, streams) == 1:
            warn_of_one_step(self.network, self.model, where)

    def _by_probe(self, outputs: Mapping[str, Any], where: str) -> ProbeDict:
        """What Keras puts out, as arrays."""
        for name, value in outputs.items():
            if not isinstance(value, np.ndarray):
                raise ValidationError(
                    f"the batches differ in their number of steps, so there is no array "
                    f"of all outputs of Probe {name!r}; use Simulator.predict_on_batch "
                    "for each of them",
                    attr=where,
                )
        names = self.names
        return ProbeDict({p: outputs[name] for p, name in names.items()}, names)


def _parts(data: Mapping[str, Any]) -> tuple[Any, ...]:
    """Data, targets and weights as one tuple, as far as there are any."""
    return tuple(part for part in data.values() if part is not None)


def _named(parts: tuple[Any, ...]) -> dict[str, Any]:
    """Name data, targets and weights as the arguments of Keras are named."""
    return dict(zip(("x", "y", "sample_weight"), parts, strict=False))


def _require_compiled(side: KerasSide, method: str) -> None:
    if not side.model.compiled:
        raise SimulationError(
            f"Simulator.{method}: call Simulator.compile(optimizer=..., loss=...) first"
        )
    if method == "fit" and side.model.optimizer is None:
        raise SimulationError(
            "Simulator.fit: Simulator.compile was called with optimizer=None; call "
            "it with an optimizer"
        )


def _check_one_batch(count: int, batch: int, where: str) -> None:
    if count > batch:
        raise ValidationError(
            f"got {count} items; expected at most minibatch_size={batch}. "
            "Use Simulator.predict, which goes from batch to batch",
            attr=where,
        )


def _refuse_with_streams(
    y: Any, weight: Any, where: str, arguments: Mapping[str, Any]
) -> None:
    """Arguments that only go with arrays."""
    split = bool(arguments.get("validation_split"))
    refused = {
        "y": (y is not None, "each element is (x, y)"),
        "sample_weight": (weight is not None, "each element is (x, y, sample_weight)"),
        "batch_size": (arguments.get("batch_size") is not None, "elements are batches"),
        "validation_split": (split, "use validation_data"),
    }
    for name, (is_given, instead) in refused.items():
        if is_given:
            raise ValidationError(
                f"{name} goes with arrays, not with data that come batch by batch: "
                f"{instead}",
                attr=where,
            )


def _resumed(
    callbacks: Any, x: Any, stateful: bool, arguments: Mapping[str, Any]
) -> Resume | None:
    """What lets a training go on that another process began, if it is among these."""
    if not callbacks:
        return None
    from nengo_dl.training.resuming import check_source, resume_among

    resume = resume_among(callbacks)
    if resume is not None:
        check_source(x, stateful, arguments)
    return resume


def _training(*about: Any) -> Any:
    from nengo_dl.training.resuming import Training

    return Training(*about)


def _callbacks(
    side: KerasSide, given: Any, order: Order | None, more: list[Any]
) -> contextlib.AbstractContextManager[Any]:
    """The callbacks of a training, with those that every one has."""
    from keras.callbacks import TerminateOnNaN

    from nengo_dl.training.model import FiniteParameters, with_callbacks

    def first(users: list[Any]) -> list[Any]:
        stop = any(isinstance(callback, TerminateOnNaN) for callback in users)
        own = [FiniteParameters(side, stop)]
        own += [] if order is None else [order]
        return [*own, *more]

    return with_callbacks(given, first)


def _steps_of(data: Any, streams: list[Stream]) -> int | None:
    """The number of steps of data for Keras; None if only running tells."""
    return streams[-1].steps if streams else next(iter(data.values())).shape[1]


def _steps_validated(
    data: Any, arguments: Mapping[str, Any], streams: list[Stream]
) -> int | None:
    """The steps of the data for validation, with Keras' other arguments; None if none."""
    given = arguments.get("validation_data")
    if isinstance(given, tuple):
        return _steps_of(given[0], [])
    if given is not None:
        return _steps_of(None, streams)
    return _steps_of(data, []) if arguments.get("validation_split") else None
