"""The methods that a simulator had in NengoDL 0.x to 2.x."""

from collections.abc import Mapping

import numpy as np
from nengo.exceptions import ValidationError

from nengo_dl.notices import warn
from nengo_dl.simulator.legacy.arguments import INSTEAD, bind, deprecated, refuse
from nengo_dl.simulator.legacy.calls import (
    LOSS,
    TRAIN,
    OlderCall,
    as_keras_optimizer,
)
from nengo_dl.training.turns import in_turn

#: arguments of ``run_batch``, in their order
RUN_BATCH = (
    *("data", "outputs", "extra_feeds", "extra_fetches", "n_epochs", "truncation"),
    *("shuffle", "profile", "training", "callback", "combine", "isolate_state"),
)

#: what every object has, and this class too
_KEPT = ("__dir__", "__doc__", "__module__")


class OlderNames:
    """Methods of a `Simulator` as they were called in NengoDL 0.x to 2.x."""

    _older = {}  # what `older_options` gives
    _older_compiled = None

    def __dir__(self):
        """All names but the older ones, which completion need not offer."""
        return sorted(set(super().__dir__()) - set(vars(OlderNames)) | set(_KEPT))

    @property
    def tensorboard(self):
        """(str or None) The folder that was given as the older argument of this name."""
        return self._older.get("tensorboard")

    @property
    def unroll(self):
        """(int) Older name of ``unroll_simulation``."""
        deprecated("Simulator.unroll", "sim.unroll_simulation")
        return self.unroll_simulation

    @property
    def training_step(self):
        """(int) Number of batches trained so far; older name of ``iterations``."""
        deprecated("Simulator.training_step", "sim.keras_model.optimizer.iterations")
        optimizer = self.keras_model.optimizer if self.keras_model.compiled else None
        return 0 if optimizer is None else int(optimizer.iterations.numpy())

    @in_turn
    def train(self, *args, **kwargs):
        """Train the network: older name of ``compile`` and ``fit``.

        Either ``train(data, optimizer, n_epochs=1, objective=None, ...)``, with arrays by
        node and probe or a number of steps as ``data``, or, older still,
        ``train(inputs, targets, optimizer, n_epochs=1, objective="mse", ...)``.

        Parameters
        ----------
        data : dict or int
            Arrays by node and probe, ``(items, steps, size)``.
        optimizer : keras.optimizers.Optimizer
            Called again with the same one, training goes on where it was.
        n_epochs : int
        objective : dict or callable or str or None
            ``f(outputs, targets)`` or ``f(outputs)`` by probe or tuple of probes,
            ``"mse"``, or None, if the targets are the gradients themselves.
        shuffle, progress_bar : bool
        summaries : list
            ``"loss"``, and objects for `nengo_dl.callbacks.NengoSummaries`, written to
            the folder that `Simulator` was given as ``tensorboard``.

        Returns
        -------
        keras.callbacks.History

        Warns
        -----
        DeprecationWarning
            Always; it says what to write instead.

        Raises
        ------
        ~nengo.exceptions.ValidationError
            For what there is no more: optimizers of TensorFlow 1, ``extra_feeds``,
            ``truncation``, ``profile``. It says what to write instead.
        """
        call = OlderCall(self, "train", TRAIN, args, kwargs)
        options = call.options
        if "optimizer" not in options:
            raise TypeError("Simulator.train needs an optimizer")
        optimizer = as_keras_optimizer(options["optimizer"])
        arguments = {"epochs": options.get("n_epochs", 1)}
        if not options.get("shuffle", True):
            arguments["shuffle"] = False
        if not options.get("progress_bar", True):
            arguments["verbose"] = 0
        deprecated("Simulator.train", call.spelled("fit", optimizer, **arguments))
        self._compile_older(call, optimizer)
        summaries = self._older_summaries(options.get("summaries"))
        steps = call.n_steps
        return self.fit(
            call.x or None, call.y, n_steps=steps, callbacks=summaries, **arguments
        )

    @in_turn
    def loss(self, *args, **kwargs):
        """The value of an objective: older name of ``compile`` and ``evaluate``.

        Either ``loss(data, objective=None, ...)`` or ``loss(inputs, targets,
        objective="mse")``.

        Parameters
        ----------
        data, objective
            See `train`.
        progress_bar : bool

        Returns
        -------
        float
            The sum over all probes.

        Warns
        -----
        DeprecationWarning
            Always; it says what to write instead.

        Raises
        ------
        ~nengo.exceptions.ValidationError
            With ``training=True``, ``combine`` or ``extra_feeds``.
        """
        call = OlderCall(self, "loss", LOSS, args, kwargs)
        if call.options.get("combine", np.mean) is not np.mean:
            raise ValidationError(
                "Simulator.loss averages over batches; for anything else, combine what "
                "Simulator.predict gives",
                attr="combine",
            )
        if call.options.get("training"):
            raise ValidationError(
                "Simulator.loss runs the network as Simulator.evaluate does; write "
                "nengo_dl.configure_settings(learning_phase=True) in the network",
                attr="training",
            )
        deprecated("Simulator.loss", call.spelled("evaluate") + '["loss"]')
        self._compile_older(call, None)
        verbose = {} if call.options.get("progress_bar", True) else {"verbose": 0}
        result = self.evaluate(call.x or None, call.y, n_steps=call.n_steps, **verbose)
        return result["loss"]

    def _compile_older(self, call, optimizer):
        """Compile, unless this is what was compiled last."""
        model = self.keras_model
        before, known, losses = self._older_compiled or (None, None, None)
        mine = losses is not None and losses is model.losses_of_probes
        if mine and known == call.objectives and optimizer in (None, before):
            return
        if optimizer is None and model.compiled:
            optimizer = model.optimizer
        single, joint = call.losses()
        self.compile(optimizer or "sgd", loss=single)
        model.joint_losses = tuple(joint)
        self._older_compiled = optimizer, call.objectives, model.losses_of_probes

    def _older_summaries(self, summaries):
        if not summaries:
            return None
        if self.tensorboard is None:
            warn(
                "Simulator.train: summaries are not written, because the Simulator was "
                "made without tensorboard='a folder'"
            )
            return None
        from nengo_dl import callbacks

        found = []
        if "loss" in summaries:
            found.append(callbacks.TensorBoard(self.tensorboard))
        objects = [obj for obj in summaries if not isinstance(obj, str)]
        if objects:
            found.append(callbacks.NengoSummaries(self.tensorboard, self, objects))
        return found

    @in_turn
    def run_batch(self, *args, **kwargs):
        """Run batch after batch: older name of ``predict``.

        ``run_batch(data, outputs, n_epochs=1, shuffle=False, combine=np.stack,
        isolate_state=True, ...)``.

        Parameters
        ----------
        data : dict or int
            Arrays by node, ``(items, steps, size)``, or a number of steps.
        outputs : list or dict
            Probes; or a function ``f(output)`` by probe, None for the output itself.
        combine : callable
            Makes one value of those of all batches.
        isolate_state : bool
            False: the state is carried from batch to batch.

        Returns
        -------
        dict
            For each probe, the combined values.

        Warns
        -----
        DeprecationWarning
            Always; it says what to write instead.

        Raises
        ------
        ~nengo.exceptions.ValidationError
            For what there is no more: ``training=True``, ``extra_feeds``,
            ``extra_fetches``, ``callback``, ``truncation``, ``profile``.
        """
        options = bind("run_batch", RUN_BATCH, args, kwargs)
        refused = {name: options.pop(name, None) for name in INSTEAD if name in RUN_BATCH}
        refuse("Simulator.run_batch", **refused)
        if options.get("training"):
            raise ValidationError(
                "Simulator.run_batch does not train any more; write sim.compile(...) and "
                "sim.fit(...)",
                attr="training",
            )
        outputs = options["outputs"]
        if not isinstance(outputs, Mapping):
            outputs = dict.fromkeys(
                outputs if isinstance(outputs, list | tuple) else [outputs]
            )
        data, stateful = options.get("data"), not options.get("isolate_state", True)
        steps = None if isinstance(data, Mapping) else data
        inputs = data if isinstance(data, Mapping) else {}
        names = ", ".join(f"{self.get_name(node)!r}: ..." for node in inputs)
        given = f"{{{names}}}" if inputs else f"n_steps={steps}"
        deprecated(
            "Simulator.run_batch",
            f"sim.predict({given}, stateful={stateful})"
            + f"[{self.get_name(next(iter(outputs)))!r}]",
        )
        size = self.minibatch_size or 1
        count = len(next(iter(inputs.values()))) if inputs else size
        if count % size:
            warn(
                f"Simulator.run_batch: {count} items are no multiple of minibatch_size "
                f"({size}), so the last {count % size} are left out; Simulator.predict "
                "takes any number"
            )
        values = {probe: [] for probe in outputs}
        rng = np.random.RandomState(self.seed)
        for _ in range(options.get("n_epochs", 1)):
            order = rng.permutation(count) if options.get("shuffle") else range(count)
            for first in range(0, count - size + 1, size):
                rows = np.asarray(order[first : first + size])
                batch = {node: np.asarray(v)[rows] for node, v in inputs.items()}
                found = self.predict_on_batch(batch or None, steps, stateful)
                for probe, function in outputs.items():
                    value = found[probe]
                    value = value if function is None else np.asarray(function(value))
                    values[probe].append(value)
        combine = options.get("combine") or np.stack
        return {probe: combine(value) for probe, value in values.items()}

    @in_turn
    def print_params(self, msg=None):
        """Print the present values of all parameters.

        Parameters
        ----------
        msg : str, optional
            A title.

        Warns
        -----
        DeprecationWarning
            Always; it says what to write instead.
        """
        deprecated("Simulator.print_params", "print(sim.data[obj])")
        print("" if msg is None else f"{msg}:")
        for parameter in self._entries:
            print(f"{parameter.name}\n{self._live_value(parameter)}")

    def soft_reset(self, include_trainable=False, include_probes=False):
        """Back to the first step, but with all processes going on; see `reset`.

        Parameters
        ----------
        include_trainable : bool
            Also give all parameters the values that they were built with.
        include_probes : bool
            Also forget all probe data.

        Warns
        -----
        DeprecationWarning
            Always; it says what to write instead.
        """
        deprecated(
            "Simulator.soft_reset",
            f"sim.reset(include_trainable={include_trainable}, "
            f"include_probes={include_probes}, include_processes=False)",
        )
        self.reset(
            include_trainable=include_trainable,
            include_probes=include_probes,
            include_processes=False,
        )
