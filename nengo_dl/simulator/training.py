"""Training, evaluating and predicting: what the simulator shares with Keras."""

import warnings

import numpy as np
from nengo.exceptions import SimulationError, SimulatorClosed, ValidationError

from nengo_dl.config import get_setting
from nengo_dl.simulator.inputs import probes_names, resolve_data, resolve_targets
from nengo_dl.simulator.training_advice import spike_training


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

    def compile(
        self, optimizer="rmsprop", loss=None, metrics=None, loss_weights=None, **kw
    ):
        """Choose how to train and evaluate.

        Parameters
        ----------
        optimizer : str or keras.optimizers.Optimizer
        loss, loss_weights : optional
            One value for all probes, a list in the order of the probes, or a dict by
            probe or its name. Probes without a loss need no targets.
        metrics : optional
            A list of metrics for all probes, a list of such lists in the order of the
            probes, or a dict of them by probe or its name.
        **kw
            See ``keras.Model.compile``. ``jit_compile`` concerns what is around the
            network; the network's own loop is compiled according to the setting ``jit``.

        Raises
        ------
        ~nengo.exceptions.ValidationError
            If a probe is unknown, or a list does not have one value for each probe.

        Examples
        --------
        >>> sim.compile(keras.optimizers.Adam(1e-3), loss={probe: "mse"})
        """
        side = self._keras_side("compile")
        kw.setdefault("jit_compile", False)
        weighted = kw.pop("weighted_metrics", None)
        with side.defaults():
            side.model.compile(
                optimizer=optimizer,
                loss=self._for_probes("loss", loss),
                loss_weights=self._for_probes("loss_weights", loss_weights),
                metrics=self._for_probes("metrics", metrics, lists=True),
                weighted_metrics=self._for_probes(
                    "weighted_metrics", weighted, lists=True
                ),
                **kw,
            )

    def fit(self, x=None, y=None, n_steps=None, stateful=False, **kwargs):
        """Train the network; see ``keras.Model.fit``.

        Spiking neurons run in their rate form, or as spikes if the network has the
        setting ``spiking_training``. What gets no gradient is named in a warning.

        Parameters
        ----------
        x : array or list or dict
            Data for the input nodes, ``(items, steps, size)``. Any number of items.
            Nodes without data run their own output.
        y : array or list or dict
            Targets for the probes, ``(items, steps, size)``; one step for probes that
            keep no history.
        n_steps : int, optional
            Number of steps, if the data do not tell it.
        stateful : bool
            Carry the state from batch to batch, and keep it afterwards. False: each
            batch starts from the state as it is now.
        **kwargs
            See ``keras.Model.fit``.

        Returns
        -------
        keras.callbacks.History
            With the keys ``"loss"``, ``"<probe>_loss"``, ``"<probe>_<metric>"``, and
            the same with ``"val_"`` in front.

        Raises
        ------
        ~nengo.exceptions.ValidationError
            If data or targets do not fit.
        ~nengo.exceptions.SimulationError
            If the network is set to ``inference_only`` or was not compiled.

        Notes
        -----
        Weights that are learned online go on to be learned, also with
        ``stateful=False``.
        """
        side = self._keras_side("fit")
        if self.inference_only:
            raise SimulationError(
                "Simulator.fit: this network has the setting inference_only=True; "
                "remove it (nengo_dl.configure_settings) to train the network"
            )
        stateful = stateful and self.stateful
        inputs, targets = self._training_data("fit", x, y, n_steps, stateful, kwargs)
        if kwargs.get("validation_data") is not None:
            kwargs["validation_data"] = self._validation(
                side, kwargs["validation_data"], n_steps
            )
        side.warn_before_training()
        with self._calls(side, stateful, training=True):
            return side.model.fit(inputs, targets, **kwargs)

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
        stateful = stateful and self.stateful
        data = self._training_data("evaluate", x, y, n_steps, stateful, kwargs)
        with self._calls(side, stateful):
            results = side.model.evaluate(*data, **{**kwargs, "return_dict": True})
        return {k: v if np.ndim(v) else float(v) for k, v in results.items()}

    def predict(self, x=None, n_steps=None, stateful=False, **kwargs):
        """Run the network on data; see ``keras.Model.predict``.

        Parameters
        ----------
        x, n_steps, stateful
            See `fit`.

        Returns
        -------
        dict
            Probe (or its name) -> array ``(items, steps, size)``; of one step for
            probes that keep no history.

        Examples
        --------
        >>> sim.predict(np.ones((32, 100, 1)))[probe].shape
        (32, 100, 2)
        """
        kwargs = {"verbose": 0, **kwargs}
        self._set_batch_size("predict", kwargs)
        return self._predict("predict", x, n_steps, stateful, kwargs)

    def predict_on_batch(self, x=None, n_steps=None, stateful=False, **kwargs):
        """As `predict`, for one batch of at most ``minibatch_size`` items."""
        return self._predict("predict_on_batch", x, n_steps, stateful, kwargs)

    def _predict(self, method, x, n_steps, stateful, kwargs):
        side = self._keras_side(method)
        where, stateful = f"Simulator.{method}", stateful and self.stateful
        inputs, count, _ = self._inputs(x, n_steps, where, stateful)
        if method == "predict_on_batch" and count > self._batch:
            raise ValidationError(
                f"got {count} items; expected at most minibatch_size={self._batch}. Use "
                "Simulator.predict, which goes from batch to batch",
                attr=where,
            )
        with self._calls(side, stateful):
            outputs = getattr(side.model, method)(inputs, **kwargs)
        names = self._probe_names()
        arrays = {p: np.asarray(outputs[name]) for p, name in names.items()}
        return ProbeDict(arrays, names)

    # the Keras side --------------------------------------------------------------

    def _keras_side(self, what):
        """The layer and the model, made on the first use."""
        if self.closed:
            raise SimulatorClosed(f"Simulator.{what}: the simulator is closed.")
        if self._keras is None:
            from nengo_dl.simulator.keras_side import KerasSide

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
            self._keras = KerasSide(
                self._live,
                self._node_names,
                self._probe_names(),
                {probe: log.keep_history for probe, log in self._logs.items()},
                settings,
                self.device,
            )
        return self._keras

    def _calls(self, side, stateful, training=False):
        self.data.reset()  # learned values may change
        return side.calls(stateful, training)

    def _probe_names(self):
        return probes_names(self.model.probes)

    def _set_batch_size(self, method, kwargs):
        """By default, and at most, ``minibatch_size``."""
        for name in ("batch_size", "validation_batch_size"):
            size = kwargs.get(name)
            if size is not None and size > self._batch:
                raise ValidationError(
                    f"{name}={size} is more than this simulator's minibatch_size "
                    f"({self._batch}); leave it out, or build the Simulator with a "
                    "larger minibatch_size",
                    attr=f"Simulator.{method}",
                )
        if kwargs.get("batch_size") is None:
            kwargs["batch_size"] = self._batch

    # data ------------------------------------------------------------------------

    def _training_data(self, method, x, y, n_steps, stateful, kwargs):
        """Inputs and targets, and ``kwargs`` with the batch size."""
        if not self._keras.model.compiled:
            raise SimulationError(
                f"Simulator.{method}: call Simulator.compile(optimizer=..., loss=...) "
                "first"
            )
        self._set_batch_size(method, kwargs)
        where = f"Simulator.{method}"
        inputs, targets = self._inputs_and_targets(x, y, n_steps, where, stateful)
        weight = kwargs.get("sample_weight")
        if weight is not None:
            kwargs["sample_weight"] = self._sample_weights(weight, targets, where)
        return inputs, targets

    def _inputs_and_targets(self, x, y, n_steps, where, stateful):
        if y is None:
            raise ValidationError(
                "there are no targets; give an array, a list, or a dict by probe",
                attr=where,
            )
        probes, names = self.model.probes, self._probe_names()
        found = resolve_targets(y, probes, where=where, names=names)
        count = len(next(iter(found.values()))) if found else None
        inputs, count, steps = self._inputs(x, n_steps, where, stateful, count)
        steps = {p: steps if self._logs[p].keep_history else 1 for p in probes}
        arrays = resolve_targets(y, probes, steps, count, where, names)
        needed = self._keras.model.needs_targets
        missing = [n for p, n in names.items() if p not in arrays and n in needed]
        if missing:
            raise ValidationError(
                f"there is a loss or metric but no target for the probes {missing}; give "
                "targets, or compile with dicts of losses and metrics that leave these "
                "probes out",
                attr=where,
            )
        # Keras asks for a target of each output, also of those without a loss
        nothing = np.zeros((count, 1, 1), self.dtype)
        targets = {name: arrays.get(probe, nothing) for probe, name in names.items()}
        return inputs, targets

    def _sample_weights(self, value, targets, where):
        """Weights of items, or of items and steps, for each probe."""
        if not isinstance(value, dict | list | tuple):
            value = dict.fromkeys(targets, value)
        given = self._for_probes("sample_weight", value)
        weights = {}
        for name, target in targets.items():
            weight = np.asarray(given.get(name, np.ones(len(target))), self.dtype)
            if weight.shape not in (target.shape[:1], target.shape[:2]):
                raise ValidationError(
                    f"the sample_weight for Probe {name!r} has shape {weight.shape}; "
                    f"expected {target.shape[:1]}, one for each item, or "
                    f"{target.shape[:2]}, one for each of its steps too",
                    attr=where,
                )
            weights[name] = weight
        return weights

    def _validation(self, side, data, n_steps):
        """Keras' ``validation_data``: (x, y) or (x, y, sample weights)."""
        if not isinstance(data, list | tuple) or len(data) not in (2, 3):
            raise ValidationError(
                f"expected (x, y) or (x, y, sample_weight), got {type(data).__name__}",
                attr="Simulator.fit (validation_data)",
            )
        x, y, *weights = data
        fed = side.layer.fed
        where = "Simulator.fit (validation_data)"
        n_steps = n_steps if x is None else None
        data = self._inputs_and_targets(x, y, n_steps, where, False)
        if weights:
            data = (*data, self._sample_weights(weights[0], data[1], where))
        if side.layer.fed != fed:
            raise ValidationError(
                "expected data for the same nodes as in x, because Python functions of "
                "this network depend on each other",
                attr=where,
            )
        return data

    def _inputs(self, x, n_steps, where, stateful, count=None):
        """Arrays for all inputs of the model, the number of items, and of steps."""
        from nengo_dl.tensor_graph import STEPS

        arrays, steps = {}, n_steps
        if x is not None:
            arrays, steps = resolve_data(
                x, self._nodes, None, n_steps, where, self._node_names, self.dtype
            )
        if steps is None:
            raise ValidationError(
                "the number of steps is not known; give n_steps, or data (items, steps, "
                f"size) for one of {list(self._node_names.values())}",
                attr=where,
            )
        if steps < 1:
            raise ValidationError(f"expected at least 1 step, got {steps}", attr=where)
        fixed = self._keras.layer.fixed_steps
        if fixed not in (None, steps):
            raise ValidationError(
                f"got {steps} steps; with the setting use_loop=False, exactly "
                f"unroll_simulation={fixed} are unrolled. Build the Simulator with "
                f"unroll_simulation={steps}, or leave the setting out",
                attr=where,
            )
        if steps == 1:
            self._warn_of_synapses(where)
        if arrays:
            count = len(next(iter(arrays.values())))
        elif count is None:
            count = self._batch
        if count == 0:
            raise ValidationError("expected at least 1 item, got 0", attr=where)
        names = self._node_names
        self._keras.feed([names[node] for node in arrays])
        rest = [node for node in self._nodes if node not in arrays]
        if rest:
            arrays.update(self._own_output(rest, count, steps, stateful))
        inputs = {names[node]: array for node, array in arrays.items()}
        if not inputs:
            inputs[STEPS] = np.ones((count, steps, 1), self.dtype)
        return inputs, count, steps

    def _own_output(self, nodes, count, steps, stateful):
        """What nodes without data put out, for each item.

        In stateful calls batches follow one another in time, and each item goes on with
        the processes of its place in the batch.
        """
        signals = {node: self.model.sig[node]["out"].base for node in nodes}
        program, first = self._program, self.n_steps
        wanted = set(signals.values())
        if stateful:
            batches = -(-count // self._batch)
            values = program.outputs_of_nodes(wanted, self._batch, first, batches * steps)
            values = {s: _in_batches(v, batches)[:count] for s, v in values.items()}
        else:
            values = program.outputs_of_nodes(wanted, count, first, steps, self.seed)
        # what is computed step by step inside the network is no input
        none = np.zeros((1, 1, 1), self.dtype)
        return {
            node: values[signal]
            if signal in values
            else np.broadcast_to(none, (count, steps, node.size_out))
            for node, signal in signals.items()
        }

    def _warn_of_synapses(self, where):
        network = self.network
        parts = [] if network is None else network.all_connections + network.all_probes
        delayed = [part for part in parts if part.synapse is not None]
        if delayed:
            warnings.warn(
                f"{where}: running one step, but {len(delayed)} connections or probes "
                "have synapses, which need more steps to pass something on "
                f"({delayed[0]} is one). Did you mean synapse=None?",
                stacklevel=4,
            )

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
            value = [value if i == 0 else _another(value) for i in range(len(names))]
        elif len(value) != len(names):
            raise ValidationError(
                f"got {len(value)} values for {len(names)} probes "
                f"({list(names.values())})",
                attr=what,
            )
        return dict(zip(names.values(), value, strict=True))


def _in_batches(array, batches):
    """From ``(batch, batches * steps, size)`` to ``(batches * batch, steps, size)``."""
    batch, _, size = array.shape
    array = array.reshape((batch, batches, -1, size))
    return array.transpose((1, 0, 2, 3)).reshape((batches * batch, -1, size))


def _another(value):
    """An equal metric or list of them: each probe needs its own, as they hold sums."""
    if isinstance(value, list | tuple):
        return [_another(v) for v in value]
    if hasattr(value, "get_config") and hasattr(value, "update_state"):
        return type(value).from_config(value.get_config())
    return value
