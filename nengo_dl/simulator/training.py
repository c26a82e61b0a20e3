"""Training, evaluating and predicting: what the simulator shares with Keras."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np
from nengo.exceptions import SimulationError, SimulatorClosed, ValidationError

from nengo_dl.config import get_setting
from nengo_dl.notices import warn
from nengo_dl.runtime.tensorflow.apart import apart, in_a_scope
from nengo_dl.signatures import checks_keywords
from nengo_dl.simulator.arguments import (
    CompileArguments,
    EvaluateArguments,
    FitArguments,
    PredictArguments,
)
from nengo_dl.simulator.building import optional_flag
from nengo_dl.simulator.legacy import as_keras_optimizer
from nengo_dl.training.advice import (
    form_of_validation,
    spike_training,
    warn_of_one_step,
    warn_of_spikes_without_rates,
)
from nengo_dl.training.data import DataMethods
from nengo_dl.training.probe_names import Results
from nengo_dl.training.turns import in_turn

if TYPE_CHECKING:
    import keras
    from typing_extensions import Unpack


class ProbeDict(dict):
    """Arrays by probe, which are found by the probe's name too."""

    def __init__(self, arrays, names):
        super().__init__(arrays)
        self._by_name = {name: probe for probe, name in names.items()}
        self._older = getattr(names, "older", {})

    def __missing__(self, key):
        if key in self._by_name:
            return self[self._by_name[key]]
        if key in self._older:
            return self[self._older[key]]
        raise KeyError(
            f"no probe {key!r}; this network's probes are "
            + ", ".join(map(repr, self._by_name))
        )


class TrainingMethods(DataMethods):
    """The part of `Simulator` that works through its ``keras_model``."""

    @in_turn
    @checks_keywords(CompileArguments)
    def compile(
        self,
        optimizer: str | keras.optimizers.Optimizer = "rmsprop",
        loss: Any = None,
        metrics: Any = None,
        loss_weights: Any = None,
        **kw: Unpack[CompileArguments],
    ) -> None:
        """Choose how to train and evaluate.

        Parameters
        ----------
        optimizer : str or keras.optimizers.Optimizer
        loss, loss_weights : optional
            One value for all probes, a list in the order of the probes, or a dict by
            probe or its name. Probes without a loss need no targets. Of one loss for all
            probes, those take part that targets are given for.
        metrics : optional
            A list of metrics for all probes, a list of such lists in the order of the
            probes, or a dict of them by probe or its name.
        **kw
            See ``keras.Model.compile``. ``jit_compile`` concerns what is around the
            network; the network's own loop is compiled according to the setting ``jit``.
            With "auto", the default, XLA compiles whole training steps where it makes
            them faster: networks without state and without convolutions, trained on
            arrays. Give False if a loss or a metric cannot be compiled.

        Raises
        ------
        ~nengo.exceptions.ValidationError
            If a probe is unknown, or a list does not have one value for each probe.

        Examples
        --------
        >>> with nengo.Network() as net:
        ...     probe = nengo.Probe(nengo.Ensemble(20, 1))
        >>> with nengo_dl.Simulator(net) as sim:
        ...     sim.compile(keras.optimizers.Adam(1e-3), loss={probe: "mse"})
        """
        optimizer = as_keras_optimizer(optimizer, "Simulator.compile")
        side = self._keras_side("compile")
        side.jit = kw.pop("jit_compile", "auto")
        kw["jit_compile"] = False if side.jit == "auto" else side.jit
        weighted = kw.pop("weighted_metrics", None)
        given = {"loss": loss, "metrics": metrics, "weighted_metrics": weighted}
        resolved = {
            name: self._for_probes(name, value, lists=name != "loss")
            for name, value in given.items()
        }
        by_name = set()
        for name, value in resolved.items():
            if not self._for_all_probes(given[name], lists=name != "loss"):
                by_name |= {probe for probe, one in value.items() if one is not None}
        resolved["loss_weights"] = self._for_probes("loss_weights", loss_weights)
        side.compile({"optimizer": optimizer, **resolved, **kw}, by_name)

    @in_turn
    @checks_keywords(FitArguments)
    def fit(
        self,
        x: Any = None,
        y: Any = None,
        n_steps: int | None = None,
        stateful: bool = False,
        **kwargs: Unpack[FitArguments],
    ) -> keras.callbacks.History:
        """Train the network; see ``keras.Model.fit``.

        Spiking neurons run in their rate form, or as spikes if the network has the
        setting ``spiking_training``. What gets no gradient is named in a warning.

        Parameters
        ----------
        x : array or list or dict or tf.data.Dataset or iterator or PyDataset
            Data for the input nodes, ``(items, steps, size)``: one array, a list in the
            order of the nodes, or a dict by node or its name. Any number of items.
            Nodes without data run their own output.

            Or batch by batch, each of at most ``minibatch_size`` items: elements of a
            ``tf.data.Dataset``, of a generator or of a ``keras.utils.PyDataset`` are
            ``(x, y)`` or ``(x, y, sample_weight)``, each in the form that the argument
            has. They may differ in their number of items and steps.
        y : array or list or dict
            Targets for the probes, ``(items, steps, size)``, of weights and encoders
            ``(items, steps, rows, columns)``; one step for probes that keep no history.
            Whole numbers ``(items, steps, 1)`` are numbers of classes. None, if ``x``
            gives them.
        n_steps : int, optional
            Number of steps, if the data do not tell it.
        stateful : bool
            Carry the state from batch to batch, and keep it afterwards. False: each
            batch starts from the state as it is now.
        **kwargs
            See ``keras.Model.fit``. ``validation_data`` are ``(x, y)``, ``(x, y,
            sample_weight)``, or come batch by batch like ``x``. ``sample_weight`` is one
            array for all probes or a list or dict of them, ``(items,)`` or ``(items,
            steps)``. ``class_weight`` is for targets of one probe that are numbers of
            classes. Validation runs neurons as ``evaluate`` does, or as the setting
            ``validation`` says: by default as rates, if these are trained and the
            validation data have one step. By default ``batch_size`` is
            ``minibatch_size``, and items are shuffled unless the call is stateful. The
            order of arrays follows the simulator's seed and the number of the epoch,
            which counts on from call to call until ``reset``, or from ``initial_epoch``.

        Returns
        -------
        keras.callbacks.History
            With the keys ``"loss"``, ``"<probe>_loss"``, ``"<probe>_<metric>"``, and
            the same with ``"val_"`` in front.

        Raises
        ------
        ~nengo.exceptions.ValidationError
            If data or targets do not fit, or are NaN or infinite.
        ~nengo.exceptions.SimulationError
            If the network is set to ``inference_only`` or was not compiled; or if, after
            an epoch, some parameter has values that are NaN or infinite. With the
            callback ``keras.callbacks.TerminateOnNaN`` training then ends with a warning.

        Notes
        -----
        Weights that are learned online go on to be learned, also with
        ``stateful=False``.

        Losses and metrics are means over all items, also if the last batch has fewer.

        Examples
        --------
        >>> with nengo.Network() as net:
        ...     a = nengo.Node([0.0], label="in")
        ...     b = nengo.Ensemble(20, 1, neuron_type=nengo.RectifiedLinear())
        ...     connection = nengo.Connection(a, b, synapse=None)
        ...     probe = nengo.Probe(b, label="out")
        >>> x = np.random.uniform(-1, 1, size=(64, 1, 1))
        >>> with nengo_dl.Simulator(net, minibatch_size=32) as sim:
        ...     sim.compile("adam", loss="mse")
        ...     history = sim.fit(x[:32], x[:32] ** 2, epochs=2, verbose=0)

        The same data in another form:

        >>> data = tf.data.Dataset.from_tensor_slices(({"in": x}, {"out": x**2}))
        >>> with nengo_dl.Simulator(net, minibatch_size=32) as sim:
        ...     sim.compile("adam", loss="mse")
        ...     history = sim.fit(data.batch(32), epochs=2, verbose=0)
        >>> len(history.history["loss"])
        2
        """
        side = self._keras_side("fit")
        if self.inference_only:
            raise SimulationError(
                "Simulator.fit: this network has the setting inference_only=True; "
                "remove it (nengo_dl.configure_settings) to train the network"
            )
        stateful = self._kept(stateful, "Simulator.fit")
        self._require_compiled("fit")
        where = "Simulator.fit"
        data, streams = self._keras_data(x, y, n_steps, stateful, where, kwargs)
        shuffled = not stateful and all(s.kind == "PyDataset" for s in streams)
        kwargs.setdefault("shuffle", shuffled)
        one_shape = not streams
        streams += self._validation(n_steps, kwargs)
        validated = _steps_validated(data["x"], kwargs, streams)
        spiking = form_of_validation(self.network, self.model, validated)
        side.warn_before_training()
        side.choose_jit(one_shape)
        order = None
        if one_shape and kwargs["shuffle"]:
            data, order = self._shuffled(data, kwargs)
        callbacks = self._callbacks(side, kwargs.pop("callbacks", None), order)
        calls = self._calls(side, stateful, streams, training=True, spiking=spiking)
        with callbacks as all_callbacks, calls:
            history = side.model.fit(**data, callbacks=all_callbacks, **kwargs)
        history.history = Results(history.history, self._probe_names())
        return history

    @in_turn
    @checks_keywords(EvaluateArguments)
    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        n_steps: int | None = None,
        stateful: bool = False,
        *,
        spiking: bool | None = None,
        **kwargs: Unpack[EvaluateArguments],
    ) -> dict[str, float]:
        """Losses and metrics on data; see ``keras.Model.evaluate``.

        Parameters
        ----------
        x, y, n_steps, stateful
            See `fit`. Neurons run as they are, spiking ones with spikes.
        spiking : bool, optional
            False: spiking neurons run in their rate form; see `run_steps`.

        Returns
        -------
        dict
            ``"loss"``, ``"<probe>_loss"``, ``"<probe>_<metric>"``.
        """
        side = self._keras_side("evaluate")
        stateful = self._kept(stateful, "Simulator.evaluate")
        self._require_compiled("evaluate")
        where = "Simulator.evaluate"
        spiking = self._spiking(spiking)
        data, streams = self._keras_data(x, y, n_steps, stateful, where, kwargs)
        self._warn_of_one_step(data["x"], streams, stateful, spiking, where)
        with self._calls(side, stateful, streams, spiking=spiking):
            results = side.model.evaluate(**data, **{**kwargs, "return_dict": True})
        values = {k: v if np.ndim(v) else float(v) for k, v in results.items()}
        return Results(values, self._probe_names())

    @in_turn
    @checks_keywords(PredictArguments)
    def predict(
        self,
        x: Any = None,
        n_steps: int | None = None,
        stateful: bool = False,
        *,
        spiking: bool | None = None,
        **kwargs: Unpack[PredictArguments],
    ) -> ProbeDict:
        """Run the network on data; see ``keras.Model.predict``.

        Parameters
        ----------
        x, n_steps, stateful
            See `fit`.
        spiking : bool, optional
            False: spiking neurons run in their rate form; see `run_steps`.

        Returns
        -------
        dict
            Probe (or its name) -> array ``(items, steps, size)``; of one step for
            probes that keep no history, else of all steps, whatever ``sample_every`` the
            probe has.

        Examples
        --------
        >>> with nengo.Network() as net:
        ...     a = nengo.Node([0.0])
        ...     b = nengo.Ensemble(20, 2)
        ...     connection = nengo.Connection(a, b[0])
        ...     probe = nengo.Probe(b, synapse=0.01)
        >>> with nengo_dl.Simulator(net, minibatch_size=8) as sim:
        ...     outputs = sim.predict(np.ones((20, 100, 1)))
        >>> outputs[probe].shape
        (20, 100, 2)
        """
        kwargs = {"verbose": 0, **kwargs}
        return self._predict("predict", x, n_steps, stateful, spiking, kwargs)

    @in_turn
    def predict_on_batch(
        self,
        x: Any = None,
        n_steps: int | None = None,
        stateful: bool = False,
        *,
        spiking: bool | None = None,
    ) -> ProbeDict:
        """As `predict`, for one batch of at most ``minibatch_size`` items."""
        return self._predict("predict_on_batch", x, n_steps, stateful, spiking, {})

    def _predict(self, method, x, n_steps, stateful, spiking, kwargs):
        where = f"Simulator.{method}"
        if not self.closed and not self.model.probes:
            return ProbeDict({}, self._probe_names())
        side = self._keras_side(method)
        stateful = self._kept(stateful, where)
        one = method == "predict_on_batch"
        spiking = self._spiking(spiking)
        data, streams = self._keras_data(
            x, None, n_steps, stateful, where, kwargs, targets=False
        )
        if one and streams:
            raise ValidationError(
                "expected one batch; give data that come batch by batch to "
                "Simulator.predict",
                attr=where,
            )
        if one:
            del kwargs["batch_size"]
            count = len(next(iter(data["x"].values())))
            if count > self._batch:
                raise ValidationError(
                    f"got {count} items; expected at most minibatch_size={self._batch}. "
                    "Use Simulator.predict, which goes from batch to batch",
                    attr=where,
                )
        self._warn_of_one_step(data["x"], streams, stateful, spiking, where)
        with self._calls(side, stateful, streams, losses=False, spiking=spiking):
            outputs = getattr(side.model, method)(**data, **kwargs)
        return self._by_probe(outputs, where)

    def _by_probe(self, outputs, where):
        """What Keras puts out, as arrays."""
        names = self._probe_names()
        for name, value in outputs.items():
            if not isinstance(value, np.ndarray):
                raise ValidationError(
                    f"the batches differ in their number of steps, so there is no array "
                    f"of all outputs of Probe {name!r}; use Simulator.predict_on_batch "
                    "for each of them",
                    attr=where,
                )
        arrays = {p: outputs[name] for p, name in names.items()}
        return ProbeDict(arrays, names)

    def _kept(self, stateful, where):
        """Whether state is carried, as a call and the setting say."""
        if stateful and not self.stateful:
            warn(
                f"{where}: stateful=True has no effect, because the network has the "
                "setting stateful=False; leave that setting out to carry state from "
                "batch to batch and from call to call",
                once=("stateful", where),
            )
        return stateful and self.stateful

    def _spiking(self, spiking):
        """The argument of that name, checked."""
        spiking = optional_flag("spiking", spiking, self)
        if spiking is False:
            warn_of_spikes_without_rates(self.model)
        return spiking

    def _shuffled(self, data, kwargs):
        """Arrays as batches in an order of our own, and that order."""
        from nengo_dl.training.shuffling import Order, batches, split

        parts = data["x"], data["y"]
        parts += () if data["sample_weight"] is None else (data["sample_weight"],)
        size = kwargs.pop("batch_size")
        items = len(next(iter(data["x"].values())))
        fraction = kwargs.pop("validation_split", None)
        if not kwargs.get("validation_batch_size"):
            kwargs["validation_batch_size"] = size
        if fraction and kwargs.get("validation_data") is None:
            parts, kwargs["validation_data"], items = split(
                parts, fraction, items, "Simulator.fit"
            )
        first = kwargs.get("initial_epoch") or 0
        order = Order(self._live, self.seed, items, first)
        kwargs["shuffle"] = False
        return {"x": batches(parts, order, items, size)}, order

    @staticmethod
    def _callbacks(side, given, order):
        """The callbacks of a training, with those that every one has."""
        from keras.callbacks import TerminateOnNaN

        from nengo_dl.training.epochs import FiniteParameters, with_callbacks

        def first(users):
            stop = any(isinstance(callback, TerminateOnNaN) for callback in users)
            own = [FiniteParameters(side, stop)]
            return own if order is None else [*own, order]

        return with_callbacks(given, first)

    def _warn_of_one_step(self, data, streams, stateful, spiking, where):
        if spiking is None and not stateful and _steps_of(data, streams) == 1:
            warn_of_one_step(self.network, self.model, where)

    # the Keras side --------------------------------------------------------------

    def _keras_side(self, what):
        """The layer and the model, made on the first use."""
        if self.closed:
            raise SimulatorClosed(f"Simulator.{what}: the simulator is closed.")
        if self._keras is None:
            with self._turns.reading():
                if self._keras is None:  # or another thread has made it meanwhile
                    make = self._new_keras_side
                    self._keras = apart(make, what) if in_a_scope() else make(what)
        return self._keras

    def _new_keras_side(self, what):
        from nengo_dl.training.keras_side import KerasSide

        if not self.model.probes:
            raise ValidationError(
                "the network has no probes, so there is nothing to train or predict; "
                "add a nengo.Probe",
                attr=what,
                obj=self,
            )
        names = ("jit", "checkpoint", "truncate", "learning_phase")
        settings = {name: get_setting(self.network, name) for name in names}
        settings["spikes"] = spike_training(self.network, self.model)
        return KerasSide(
            self._live,
            self._node_names,
            self._probe_names(),
            {probe: log.keep_history for probe, log in self._logs.items()},
            settings,
            self.device,
            self._turns,
        )

    @contextlib.contextmanager
    def _calls(
        self, side, stateful, streams=(), training=False, losses=True, spiking=None
    ):
        """Around a call of Keras."""
        self.data.reset()  # learned values may change
        with contextlib.ExitStack() as stack:
            for stream in streams:
                stack.enter_context(stream.errors())
            with side.calls(stateful, training, losses, spiking):
                yield
        for stream in streams:
            if stream.stateful:
                stream.own.settle(self.n_steps)

    def _keras_data(self, x, y, n_steps, stateful, where, kwargs, targets=True):
        """Data as arguments for Keras, and the streams among them.

        Parameters
        ----------
        kwargs : dict
            The other arguments for Keras; those about the data are completed.
        """
        with self._keras.chooses_losses(targets):
            return self._checked_data(x, y, n_steps, stateful, where, kwargs, targets)

    def _checked_data(self, x, y, n_steps, stateful, where, kwargs, targets):
        from nengo_dl.training.streams import Stream, is_stream

        self._check_sizes(where, n_steps, kwargs)
        weight = kwargs.pop("sample_weight", None)
        classes = kwargs.pop("class_weight", None)
        if is_stream(x):
            self._refuse_with_streams(y, weight, where, kwargs)
            stream = Stream(self, x, n_steps, stateful, where, targets, classes)
            if "validation_data" in kwargs and not kwargs.get("validation_batch_size"):
                kwargs["validation_batch_size"] = self._batch
            return {"x": stream.data}, [stream]
        one = self.minibatch_size is None and not targets
        given = self._given(x, y, weight, n_steps, where, targets, one_item=one)
        if classes is not None:
            given = self._of_classes(given, classes, where)
        inputs, goals, weights = self._arrays(given, stateful, where)
        if kwargs.get("batch_size") is None:
            kwargs["batch_size"] = self._batch
        if not targets:
            return {"x": inputs}, []
        return {"x": inputs, "y": goals, "sample_weight": weights}, []

    @staticmethod
    def _refuse_with_streams(y, weight, where, kwargs):
        """Arguments that only go with arrays."""
        refused = {
            "y": (y is not None, "each element is (x, y)"),
            "sample_weight": (
                weight is not None,
                "each element is (x, y, sample_weight)",
            ),
            "batch_size": (kwargs.get("batch_size") is not None, "elements are batches"),
            "validation_split": (
                bool(kwargs.get("validation_split")),
                "use validation_data",
            ),
        }
        for name, (is_given, instead) in refused.items():
            if is_given:
                raise ValidationError(
                    f"{name} goes with arrays, not with data that come batch by batch: "
                    f"{instead}",
                    attr=where,
                )

    def _validation(self, n_steps, kwargs):
        """Complete Keras' ``validation_data``; returns the streams among them."""
        from nengo_dl.training.streams import Stream, is_stream

        data, side = kwargs.get("validation_data"), self._keras
        if data is None:
            return []
        where = "Simulator.fit (validation_data)"
        fed, streams = side.layer.fed, []
        if is_stream(data):
            streams = [Stream(self, data, n_steps, False, where)]
            kwargs["validation_data"] = streams[0].data
        else:
            if not isinstance(data, list | tuple) or len(data) not in (2, 3):
                raise ValidationError(
                    "expected (x, y), (x, y, sample_weight), a tf.data.Dataset, a "
                    f"generator or a PyDataset; got {type(data).__name__}",
                    attr=where,
                )
            x, y, weight = (*data, None)[:3]
            given = self._given(x, y, weight, n_steps if x is None else None, where)
            arrays = self._arrays(given, False, where)
            kwargs["validation_data"] = arrays if arrays[2] else arrays[:2]
        if side.layer.fed != fed:
            raise ValidationError(
                "expected data for the same nodes as in x, because Python functions of "
                "this network depend on each other",
                attr=where,
            )
        return streams


def _steps_of(data, streams):
    """The number of steps of data for Keras; None if only running tells."""
    return streams[-1].steps if streams else next(iter(data.values())).shape[1]


def _steps_validated(data, arguments, streams):
    """The same of the data for validation, with Keras' other arguments; None if none."""
    given = arguments.get("validation_data")
    if isinstance(given, tuple):
        return _steps_of(given[0], [])
    if given is not None:
        return _steps_of(None, streams)
    return _steps_of(data, []) if arguments.get("validation_split") else None
