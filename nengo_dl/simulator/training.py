"""Training, evaluating and predicting: the methods that the simulator shares with Keras."""

import numpy as np
from nengo.exceptions import SimulationError, SimulatorClosed, ValidationError

from nengo_dl.config import get_setting
from nengo_dl.simulator.inputs import probes_names, resolve_data, resolve_targets


class ProbeDict(dict):
    """Arrays by probe, which are found by the probe's name too."""

    def __init__(self, arrays, names):
        super().__init__(arrays)
        self._by_name = {name: probe for probe, name in names.items()}

    def __missing__(self, key):
        if key in self._by_name:
            return self[self._by_name[key]]
        raise KeyError(
            f"no probe {key!r}; this network's probes are "
            + ", ".join(map(repr, self._by_name))
        )


class TrainingMethods:
    """The part of `Simulator` that works through its ``keras_model``."""

    _losses = frozenset()  # names of the probes that have one

    def compile(self, optimizer="rmsprop", loss=None, metrics=None, loss_weights=None, **kw):
        """Choose how to train and evaluate.

        Parameters
        ----------
        optimizer : str or keras.optimizers.Optimizer
        loss, metrics, loss_weights : optional
            One value for all probes, a list in the order of the probes, or a dict by
            probe or its name. ``metrics`` may be a list of metrics for all probes.
        **kw
            See ``keras.Model.compile``. ``jit_compile`` concerns what is around the
            network; the network's own loop is compiled according to the setting ``jit``.
        """
        side = self._keras_side("compile")
        kw.setdefault("jit_compile", False)
        by_name = {
            "loss": self._for_probes("loss", loss),
            "loss_weights": self._for_probes("loss_weights", loss_weights),
            "metrics": self._for_probes("metrics", metrics, lists=True),
            "weighted_metrics": self._for_probes(
                "weighted_metrics", kw.pop("weighted_metrics", None), lists=True
            ),
        }
        side.model.compile(optimizer=optimizer, **by_name, **kw)
        losses = by_name["loss"] or {}
        self._losses = {name for name, value in losses.items() if value is not None}

    def fit(self, x=None, y=None, n_steps=None, stateful=False, **kwargs):
        """Train the network; see ``keras.Model.fit``.

        Spiking neurons run in their rate form.

        Parameters
        ----------
        x : array or list or dict
            Data for the input nodes, ``(items, steps, size)``. Any number of items.
        y : array or list or dict
            Targets for the probes, ``(items, steps, size)``.
        n_steps : int, optional
            Number of steps, if the data do not tell it.
        stateful : bool
            Carry the state from batch to batch, and keep it afterwards.
        **kwargs
            See ``keras.Model.fit``.

        Returns
        -------
        keras.callbacks.History

        Raises
        ------
        ~nengo.exceptions.ValidationError
            If data or targets do not fit.
        ~nengo.exceptions.SimulationError
            If the network is set to ``inference_only`` or was not compiled.
        """
        side = self._keras_side("fit")
        if self.inference_only:
            raise SimulationError(
                "Simulator.fit: this network has the setting inference_only=True; "
                "remove it (nengo_dl.configure_settings) to train the network"
            )
        self._require_compiled(side, "fit")
        inputs, count, steps = self._inputs(x, n_steps, "Simulator.fit")
        targets = self._targets(y, count, steps, "Simulator.fit")
        if kwargs.get("validation_data") is not None:
            kwargs["validation_data"] = self._validation(kwargs["validation_data"])
        kwargs.setdefault("batch_size", self._batch)
        side.begin(self._n_steps, stateful)
        try:
            history = side.model.fit(inputs, targets, **kwargs)
        finally:
            side.end(stateful, training=True)
            self._parameters_changed()
        return history

    def evaluate(self, x=None, y=None, n_steps=None, stateful=False, **kwargs):
        """Losses and metrics on data; see ``keras.Model.evaluate``.

        Parameters
        ----------
        x, y, n_steps, stateful
            See `fit`. Neurons run as they are, spiking ones with spikes.

        Returns
        -------
        dict
            ``"loss"``, ``"<probe>_loss"``, ``"<probe>_<metric>"``.
        """
        side = self._keras_side("evaluate")
        self._require_compiled(side, "evaluate")
        inputs, count, steps = self._inputs(x, n_steps, "Simulator.evaluate")
        targets = self._targets(y, count, steps, "Simulator.evaluate")
        kwargs.setdefault("batch_size", self._batch)
        kwargs["return_dict"] = True
        self._push_parameters()
        side.begin(self._n_steps, stateful)
        result = side.model.evaluate(inputs, targets, **kwargs)
        side.end(stateful)
        return result

    def predict(self, x=None, n_steps=None, stateful=False, **kwargs):
        """Run the network on data; see ``keras.Model.predict``.

        Parameters
        ----------
        x, n_steps, stateful
            See `fit`. Without data the nodes run their own output.

        Returns
        -------
        dict
            Probe (or its name) -> array ``(items, steps, size)``.
        """
        kwargs.setdefault("batch_size", self._batch)
        return self._predict("predict", x, n_steps, stateful, kwargs)

    def predict_on_batch(self, x=None, n_steps=None, stateful=False, **kwargs):
        """As `predict`, for one batch of ``minibatch_size`` items."""
        return self._predict("predict_on_batch", x, n_steps, stateful, kwargs)

    def _predict(self, method, x, n_steps, stateful, kwargs):
        side = self._keras_side(method)
        inputs, _, steps = self._inputs(x, n_steps, f"Simulator.{method}")
        if method == "predict":
            kwargs.setdefault("verbose", 0)
        self._push_parameters()
        side.begin(self._n_steps, stateful)
        outputs = getattr(side.model, method)(inputs, **kwargs)
        side.end(stateful)
        if stateful:
            self._n_steps += steps
        names = self._probe_names()
        arrays = {p: np.asarray(outputs[name]) for p, name in names.items()}
        return ProbeDict(arrays, names)

    # the Keras side --------------------------------------------------------------

    def _keras_side(self, what):
        """The layer and the model, made on the first use."""
        if self.closed:
            raise SimulatorClosed(f"Simulator cannot {what} because it is closed.")
        if self._keras is None:
            from nengo_dl.tensor_graph import KerasSide

            if not self.model.probes:
                raise ValidationError(
                    "the network has no probes, so there is nothing to train or predict; "
                    "add a nengo.Probe",
                    attr=what,
                    obj=self,
                )
            settings = {
                name: get_setting(self.network, name)
                for name in ("jit", "checkpoint", "truncate", "learning_phase")
            }
            with self._on_device():
                self._keras = KerasSide(
                    self._program,
                    self._parameters,
                    self._node_names,
                    self._probe_names(),
                    settings,
                )
        return self._keras

    def _probe_names(self):
        return probes_names(self.model.probes)

    def _require_compiled(self, side, what):
        if not side.model.compiled:
            raise SimulationError(
                f"Simulator.{what}: call Simulator.compile(optimizer=..., loss=...) first"
            )

    def _parameters_changed(self):
        """Training may have written the variables."""
        self._pull_parameters()

    def _pull_parameters(self):
        """Take over what was written to the variables, by whomever."""
        if self._keras is not None and self._keras.layer.banks.pull():
            self._program.written()

    def _push_parameters(self):
        """The variables take over what was written to the simulator."""
        if self._keras is not None:
            self._keras.layer.banks.push()

    # data ------------------------------------------------------------------------

    def _inputs(self, x, n_steps, where):
        """Arrays for all inputs of the model, the number of items, and of steps."""
        from nengo_dl.tensor_graph import STEPS

        arrays, steps = {}, n_steps
        if x is not None:
            arrays, steps = resolve_data(
                x, self._nodes, None, n_steps, where, self._node_names, self.dtype
            )
        if steps is None:
            raise ValidationError(
                f"{where}: the number of steps is not known; give n_steps, or data "
                f"(items, steps, size) for one of {list(self._node_names.values())}",
                attr="n_steps",
            )
        count = len(next(iter(arrays.values()))) if arrays else self._batch
        rest = [node for node in self._nodes if node not in arrays]
        if rest:
            arrays.update(self._own_output(rest, count, steps))
        inputs = {self._node_names[node]: array for node, array in arrays.items()}
        if not inputs:
            inputs[STEPS] = np.ones((count, steps, 1), self.dtype)
        return inputs, count, steps

    def _own_output(self, nodes, count, steps):
        """What nodes without data put out, for each item."""
        signals = {node: self.model.sig[node]["out"].base for node in nodes}
        values = self._program.outputs_of_nodes(
            set(signals.values()), count, self.seed, self._n_steps, steps
        )
        return {node: values[signal] for node, signal in signals.items()}

    def _targets(self, y, count, steps, where):
        if y is None:
            return None
        names = self._probe_names()
        arrays = resolve_targets(y, self.model.probes, steps, count, where, names)
        missing = [n for p, n in names.items() if p not in arrays and n in self._losses]
        if missing:
            raise ValidationError(
                f"{where}: there is a loss but no target for the probes {missing}; give "
                "targets, or compile with a dict of losses that leaves them out",
                attr="y",
            )
        # Keras asks for a target of each output, also of those without a loss
        nothing = np.zeros((count, 1, 1), self.dtype)
        return {name: arrays.get(probe, nothing) for probe, name in names.items()}

    def _validation(self, data):
        x, y, *rest = data
        where = "Simulator.fit (validation_data)"
        inputs, count, steps = self._inputs(x, None, where)
        return (inputs, self._targets(y, count, steps, where), *rest)

    def _for_probes(self, what, value, lists=False):
        """One value, a list, or a dict by probe or name -> a dict by name."""
        names = self._probe_names()
        if value is None:
            return None
        if isinstance(value, dict):
            known = {**names, **{name: name for name in names.values()}}
            unknown = [key for key in value if key not in known]
            if unknown:
                raise ValidationError(
                    f"{unknown} are no probes of this network; its probes are "
                    f"{list(names.values())}",
                    attr=what,
                )
            return {known[key]: v for key, v in value.items()}
        per_probe = isinstance(value, list | tuple) and (
            not lists or any(isinstance(v, list | tuple) for v in value)
        )
        if not per_probe:
            fresh = [value if i == 0 else _another(value) for i in range(len(names))]
            return dict(zip(names.values(), fresh, strict=True))
        if len(value) != len(names):
            raise ValidationError(
                f"got {len(value)} values for {len(names)} probes "
                f"({list(names.values())})",
                attr=what,
            )
        return dict(zip(names.values(), value, strict=True))


def _another(value):
    """An equal metric or list of them: each probe needs its own, as they hold sums."""
    if isinstance(value, list | tuple):
        return [_another(v) for v in value]
    if hasattr(value, "get_config") and hasattr(value, "update_state"):
        return type(value).from_config(value.get_config())
    return value
