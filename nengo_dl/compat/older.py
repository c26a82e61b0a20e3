"""The methods that a simulator had in NengoDL 0.x to 2.x, as functions of a simulator.

All of them translate into names of today, and each call warns with a
``DeprecationWarning`` that shows these. What cannot be translated raises an error that
says what to write instead.

They stand in one table, `OLDER`, of which `Simulator` takes them.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from nengo import Probe
from nengo.exceptions import ValidationError

from nengo_dl.notices import unexpected, warn
from nengo_dl.settings import validate_setting
from nengo_dl.training.sharing import in_turn

#: arguments of ``run_batch``, in their order
RUN_BATCH = (
    *("data", "outputs", "extra_feeds", "extra_fetches", "n_epochs", "truncation"),
    *("shuffle", "profile", "training", "callback", "combine", "isolate_state"),
)


def tensorboard(sim: Any) -> Any:
    """(str or None) The folder that was given as the older argument of this name."""
    return sim._older.get("tensorboard")


def unroll(sim: Any) -> Any:
    """(int) Older name of ``unroll_simulation``."""
    deprecated("Simulator.unroll", "sim.unroll_simulation")
    return sim.unroll_simulation


def training_step(sim: Any) -> Any:
    """(int) Number of batches trained so far; older name of ``iterations``."""
    deprecated("Simulator.training_step", "sim.keras_model.optimizer.iterations")
    optimizer = sim.keras_model.optimizer if sim.keras_model.compiled else None
    return 0 if optimizer is None else int(optimizer.iterations.numpy())


def train(sim: Any, *args: Any, **kwargs: Any) -> Any:
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
    objective : dict or callable or str or None
        ``f(outputs, targets)`` or ``f(outputs)`` by probe or tuple of probes,
        ``"mse"``, or None, if the targets are the gradients themselves.
    summaries : list
        ``"loss"``, and objects for `nengo_dl.callbacks.NengoSummaries`, written to
        the folder that `Simulator` was given as ``tensorboard``.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        For what there is no more: optimizers of TensorFlow 1, ``extra_feeds``,
        ``truncation``, ``profile``. It says what to write instead.
    """
    call = OlderCall(sim, "train", TRAIN, args, kwargs)
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
    _compile(sim, call, optimizer)
    summaries = _summaries(sim, options.get("summaries"))
    steps = call.n_steps
    return sim.fit(
        call.x or None, call.y, n_steps=steps, callbacks=summaries, **arguments
    )


def loss(sim: Any, *args: Any, **kwargs: Any) -> Any:
    """The value of an objective: older name of ``compile`` and ``evaluate``.

    Either ``loss(data, objective=None, ...)`` or ``loss(inputs, targets,
    objective="mse")``.

    Parameters
    ----------
    data, objective
        See `train`.

    Returns
    -------
    float
        The sum over all probes.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        With ``training=True``, ``combine`` or ``extra_feeds``.
    """
    call = OlderCall(sim, "loss", LOSS, args, kwargs)
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
    _compile(sim, call, None)
    verbose = {} if call.options.get("progress_bar", True) else {"verbose": 0}
    result = sim.evaluate(call.x or None, call.y, n_steps=call.n_steps, **verbose)
    return result["loss"]


def _compile(sim: Any, call: OlderCall, optimizer: Any) -> None:
    """Compile, unless this is what was compiled last."""
    model = sim.keras_model
    before, known, losses = sim._older_compiled or (None, None, None)
    mine = losses is not None and losses is model.losses_of_probes
    if mine and known == call.objectives and optimizer in (None, before):
        return
    if optimizer is None and model.compiled:
        optimizer = model.optimizer
    single, joint = call.losses()
    sim.compile(optimizer or "sgd", loss=single)
    model.joint_losses = tuple(joint)
    sim._older_compiled = optimizer, call.objectives, model.losses_of_probes


def _summaries(sim: Any, summaries: Any) -> list[Any] | None:
    if not summaries:
        return None
    folder = sim._older.get("tensorboard")
    if folder is None:
        warn(
            "Simulator.train: summaries are not written, because the Simulator was "
            "made without tensorboard='a folder'"
        )
        return None
    from nengo_dl import callbacks

    found = []
    if "loss" in summaries:
        found.append(callbacks.TensorBoard(folder))
    objects = [obj for obj in summaries if not isinstance(obj, str)]
    if objects:
        found.append(callbacks.NengoSummaries(folder, sim, objects))
    return found


def run_batch(sim: Any, *args: Any, **kwargs: Any) -> Any:
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
    names = ", ".join(f"{sim.get_name(node)!r}: ..." for node in inputs)
    given = f"{{{names}}}" if inputs else f"n_steps={steps}"
    deprecated(
        "Simulator.run_batch",
        f"sim.predict({given}, stateful={stateful})"
        + f"[{sim.get_name(next(iter(outputs)))!r}]",
    )
    size = sim.minibatch_size or 1
    count = len(next(iter(inputs.values()))) if inputs else size
    if count % size:
        warn(
            f"Simulator.run_batch: {count} items are no multiple of minibatch_size "
            f"({size}), so the last {count % size} are left out; Simulator.predict "
            "takes any number"
        )
    values = {probe: [] for probe in outputs}
    rng = np.random.RandomState(sim.seed)
    for _ in range(options.get("n_epochs", 1)):
        order = rng.permutation(count) if options.get("shuffle") else range(count)
        for first in range(0, count - size + 1, size):
            rows = np.asarray(order[first : first + size])
            batch = {node: np.asarray(v)[rows] for node, v in inputs.items()}
            found = sim.predict_on_batch(batch or None, steps, stateful)
            for probe, function in outputs.items():
                value = found[probe]
                value = value if function is None else np.asarray(function(value))
                values[probe].append(value)
    combine = options.get("combine") or np.stack
    return {probe: combine(value) for probe, value in values.items()}


def print_params(sim: Any, msg: str | None = None) -> None:
    """Print the present values of all parameters.

    Parameters
    ----------
    msg : str, optional
        A title.
    """
    deprecated("Simulator.print_params", "print(sim.data[obj])")
    print("" if msg is None else f"{msg}:")
    for parameter in sim._files.entries:
        print(f"{parameter.name}\n{np.asarray(sim._live.value(parameter.signal))}")


def soft_reset(
    sim: Any, include_trainable: bool = False, include_probes: bool = False
) -> None:
    """Back to the first step, but with all processes going on; see `reset`.

    Parameters
    ----------
    include_trainable : bool
        Also give all parameters the values that they were built with.
    include_probes : bool
        Also forget all probe data.
    """
    deprecated(
        "Simulator.soft_reset",
        f"sim.reset(include_trainable={include_trainable}, "
        f"include_probes={include_probes}, include_processes=False)",
    )
    sim.reset(
        include_trainable=include_trainable,
        include_probes=include_probes,
        include_processes=False,
    )


#: name -> what `Simulator` has under this name beside its methods of today
OLDER: dict[str, Any] = {
    **{f.__name__: in_turn(f) for f in (train, loss, run_batch, print_params)},
    **{f.__name__: property(f) for f in (tensorboard, unroll, training_step)},
    soft_reset.__name__: soft_reset,
}


# what older methods were called with, and what there is instead -----------------

#: for what cannot be translated: what to write instead
INSTEAD = {
    "extra_feeds": "there are no placeholders to feed any more; add a nengo.Node for the "
    "values, and give its data with those of the other nodes",
    "extra_fetches": "there is no session to fetch tensors from any more; add a "
    "nengo.Probe for what you want to see",
    "profile": "write sim.predict(x, callbacks=[nengo_dl.callbacks.TensorBoard(log_dir, "
    "profile_batch=1)]), or the same with sim.fit",
    "truncation": "write nengo_dl.configure_settings(truncate={value!r}) in the network",
    "session_config": "TensorFlow has no sessions any more; write tf.config, for example "
    "tf.config.experimental.set_memory_growth(gpu, True), before making the simulator",
    "step_blocks": "write Simulator(..., unroll_simulation={value!r})",
    "callback": "write sim.predict(x, callbacks=[...]) with a keras.callbacks.Callback",
}

#: names that the package had, and what there is instead
GONE = {
    "configure_trainable": "write nengo_dl.configure_settings(trainable=False) within "
    "'with net:', and net.config[obj].trainable",
    "DATA_DIR": "folders are given by you, to callbacks for example",
    "utils": "it was for internal use, and has no successor",
}


def deprecated(old: str, new: str) -> None:
    """Warn, where the user's code calls this package, that there is a newer spelling."""
    text = f"{old} is deprecated; write\n    {new}"
    warn(text, DeprecationWarning)


def refuse(where: str, **arguments: Any) -> None:
    """Raise an error for the first argument that says anything."""
    for name, value in arguments.items():
        if value is None or value is False:
            continue
        raise ValidationError(
            f"{where} does not take {name} any more: "
            + INSTEAD[name].format(value=value),
            attr=name,
        )


def bind(
    method: str, names: tuple[str, ...], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    """Positional and named arguments of an older method as a dict."""
    if len(args) > len(names):
        raise TypeError(f"Simulator.{method} takes at most {len(names)} arguments")
    found: dict[str, Any] = dict(zip(names, args, strict=False))
    for name, value in kwargs.items():
        if name not in names:
            raise TypeError(f"Simulator.{method} got an unexpected argument {name!r}")
        if name in found:
            raise TypeError(f"Simulator.{method} got two values for {name!r}")
        found[name] = value
    return found


def older_options(
    older: Mapping[str, Any], method: Callable[..., Any]
) -> dict[str, str | None]:
    """Older arguments of `Simulator`, checked.

    ``older``: ``dtype``, ``tensorboard``; others are refused. ``method``: what was given
    them, whose other arguments may be meant. Returns: ``dtype``, a name or None;
    ``tensorboard``, a folder or None.
    """
    found: dict[str, str | None] = dict.fromkeys(("dtype", "tensorboard"))
    for name, value in older.items():
        if name not in {*found, "session_config", "step_blocks"}:
            raise unexpected(method, "Simulator", name)
        if name == "dtype" and value is not None:
            found[name] = validate_setting("dtype", value)
            deprecated(
                "Simulator(dtype=...)",
                f"nengo_dl.configure_settings(dtype={found[name]!r})  # in the network",
            )
        if name == "tensorboard" and value not in (None, False):
            if value is True:
                raise ValidationError(
                    "expected a folder to write to, got True; write "
                    "nengo_dl.callbacks.TensorBoard('a/folder') among the callbacks of "
                    "Simulator.fit instead",
                    attr="tensorboard",
                )
            found[name] = os.fspath(value)
            deprecated(
                "Simulator(tensorboard=...)",
                "sim.fit(..., callbacks=[nengo_dl.callbacks.TensorBoard("
                f"{found[name]!r})])",
            )
        if name in INSTEAD and value != "deprecated":
            refuse("Simulator", **{name: value})
    return found


def older_data(method: str, data: Any, older: Mapping[str, Any]) -> Any:
    """Data for nodes, which had an older name.

    ``method``: which method was given them. ``data``: data under their present name.
    ``older``: ``input_feeds``; others are refused.
    """
    for name, value in older.items():
        if name not in ("input_feeds", "profile", "extra_feeds"):
            raise TypeError(f"Simulator.{method} got an unexpected argument {name!r}")
        if name in INSTEAD:
            refuse(f"Simulator.{method}", **{name: value})
    if older.get("input_feeds") is None:
        return data
    if data is not None:
        raise TypeError(f"Simulator.{method} got both data and input_feeds, its old name")
    deprecated(f"{method}(..., input_feeds=...)", f"sim.{method}(..., data=...)")
    return older["input_feeds"]


def older_saving(method: str, include_state: bool, older: Mapping[str, bool]) -> bool:
    """Whether to save or load what is not trained, which had older names.

    ``method``: ``"save_params"`` or ``"load_params"``. ``include_state``: the same under
    its present name. ``older``: ``include_local`` and ``include_non_trainable``;
    ``include_global``, which has to be True.
    """
    for name, value in older.items():
        if name not in ("include_global", "include_local", "include_non_trainable"):
            raise TypeError(f"Simulator.{method} got an unexpected argument {name!r}")
        if name != "include_global":
            include_state = include_state or bool(value)
        elif not value:
            raise ValidationError(
                f"Simulator.{method} is always about the parameters; leave out "
                "include_global",
                attr=name,
            )
    if older:
        deprecated(
            f"{method}({', '.join(f'{name}=...' for name in older)})",
            f"sim.{method}(path, include_state={include_state})",
        )
    return include_state


# training and losses, with objectives as losses ---------------------------------

#: arguments of older methods, in their order; before 2.0 inputs and targets were two
TRAIN = (
    *("optimizer", "n_epochs", "objective", "shuffle", "truncation", "summaries"),
    *("profile", "extra_feeds", "progress_bar"),
)
LOSS = ("objective", "combine", "extra_feeds", "progress_bar", "training")

#: ``tf.train`` optimizer -> Keras optimizer
OPTIMIZERS = {
    "GradientDescentOptimizer": "SGD({rate})",
    "MomentumOptimizer": "SGD({rate}, momentum=...)",
    "AdamOptimizer": "Adam({rate})",
    "AdagradOptimizer": "Adagrad({rate})",
    "AdadeltaOptimizer": "Adadelta({rate})",
    "RMSPropOptimizer": "RMSprop({rate})",
    "FtrlOptimizer": "Ftrl({rate})",
}


def as_keras_optimizer(optimizer: Any, where: str = "Simulator.train") -> Any:
    """An optimizer of Keras as it is; an error for one of TensorFlow 1 or tf_keras."""
    name, package = type(optimizer).__name__, type(optimizer).__module__
    if isinstance(optimizer, type):
        raise ValidationError(
            f"{where}: expected an optimizer, got the class {optimizer.__name__}; write "
            f"{optimizer.__name__}(...)",
            attr="optimizer",
        )
    if package.partition(".")[0] == "tf_keras":
        raise ValidationError(
            f"{where}: {name} is an optimizer of tf_keras, which is Keras 2; write "
            f"keras.optimizers.{name}(...), of Keras 3, which tf.keras is as well unless "
            "TF_USE_LEGACY_KERAS is set",
            attr="optimizer",
        )
    modules = [cls.__module__ for cls in type(optimizer).__mro__]
    if "tensorflow.python.training.optimizer" not in modules:
        return optimizer
    rate = getattr(optimizer, "_learning_rate", getattr(optimizer, "_lr", "..."))
    new = OPTIMIZERS.get(name, "SGD({rate})  # or another one").format(rate=rate)
    raise ValidationError(
        f"{where}: {name} is an optimizer of TensorFlow 1, which cannot be used "
        f"any more; write keras.optimizers.{new}",
        attr="optimizer",
    )


def takes_targets(objective: Any) -> bool:
    """Whether an objective is a function of outputs and targets, not of outputs only."""
    if objective is None or isinstance(objective, str):
        return True
    try:
        parameters = inspect.signature(objective).parameters.values()
    except (TypeError, ValueError):  # built in, or no function at all
        return True
    needed = [
        p
        for p in parameters
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        and p.default is inspect.Parameter.empty
    ]
    return len(needed) != 1


def is_mse(objective: Any) -> bool:
    """Whether this is the mean squared error, by one of the names that it had."""
    if objective == "mse":
        return True
    module = sys.modules.get("nengo_dl.compat.objectives")
    return module is not None and objective is module.mse


def gradient_loss(y_true: Any, y_pred: Any) -> Any:
    """A loss whose gradient with respect to the outputs is what is given as targets."""
    from keras import ops

    return ops.sum(y_true * y_pred)


def as_loss(objective: Any) -> Callable[..., Any]:
    """An objective ``f(outputs, targets)`` as a loss ``f(y_true, y_pred)``."""
    if objective is None:
        return gradient_loss
    if is_mse(objective):
        from nengo_dl.losses import nan_mse

        return nan_mse
    if not callable(objective):
        raise ValidationError(
            f"expected a function of outputs and targets, or 'mse', got {objective!r}",
            attr="objective",
        )
    if takes_targets(objective):
        return lambda y_true, y_pred: objective(y_pred, y_true)
    return lambda y_true, y_pred: objective(y_pred)


def spelling(objective: Any) -> str:
    """How the loss for an objective is written today."""
    if objective is None:
        return "lambda y_true, y_pred: keras.ops.sum(y_true * y_pred)"
    if is_mse(objective):
        return "nengo_dl.losses.nan_mse"
    name = getattr(objective, "__name__", type(objective).__name__)
    arguments = "y_pred, y_true" if takes_targets(objective) else "y_pred"
    return f"lambda y_true, y_pred: {name}({arguments})"


class JointObjective:
    """An objective of several probes: a function of tuples of outputs and targets."""

    def __init__(self, objective: Any, names: list[str]) -> None:
        self.loss = as_loss(objective)
        self.names = names

    def __call__(self, y: Mapping[str, Any], y_pred: Mapping[str, Any]) -> Any:
        """A scalar, from dicts of targets and outputs by name."""
        targets = tuple(y[name] for name in self.names)
        return self.loss(targets, tuple(y_pred[name] for name in self.names))


class OlderCall:
    """What a call of ``train`` or ``loss`` asks for.

    Parameters
    ----------
    names : tuple of str
        Its arguments after the data.
    args, kwargs
        What it was called with.

    Attributes
    ----------
    x, y : dict
        Arrays by node, and by probe.
    n_steps : int or None
        Number of steps, if there are no data for nodes that tell it.
    objectives : dict
        By probe, or by tuple of probes.
    options : dict
        All other arguments.
    """

    def __init__(
        self,
        sim: Any,
        method: str,
        names: tuple[str, ...],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self.sim = sim
        two = not {"inputs", "targets"}.isdisjoint(kwargs) or (
            len(args) > 1 and _holds_data(args[1])
        )
        options = bind(
            method, (("inputs", "targets") if two else ("data",)) + names, args, kwargs
        )
        refuse(
            f"Simulator.{method}",
            **{name: options.pop(name, None) for name in INSTEAD if name in names},
        )
        data = options.pop("data", None)
        default = "mse"
        if two:
            data = {**(options.pop("inputs", None) or {}), **(options.pop("targets"))}
        elif options.get("objective") is None:
            options["objective"] = default  # None meant this, not gradients
        self.n_steps = None
        if isinstance(data, Mapping):
            self.y = {k: v for k, v in data.items() if isinstance(k, Probe)}
            self.x = {k: v for k, v in data.items() if not isinstance(k, Probe)}
        else:
            self.x, self.y, self.n_steps = {}, {}, data
        objective = options.pop("objective", default)
        if not isinstance(objective, Mapping):
            objective = dict.fromkeys(self.y, objective)
        self.objectives = dict(objective)
        self.options = options
        if self.n_steps is None and not self.x and self.y:
            self.n_steps = np.shape(next(iter(self.y.values())))[1]
        self._add_targets()

    def _add_targets(self) -> None:
        """Keras wants targets everywhere, also where the objective takes none."""
        some = [*self.x.values(), *self.y.values()]
        count = len(some[0]) if some else self.sim.minibatch_size or 1
        steps: Any = np.shape(some[0])[1] if some else self.n_steps
        sig, keep_history = self.sim.model.sig, self.sim._trainer.keep_history
        for probes, objective in self.objectives.items():
            if takes_targets(objective):
                continue
            for probe in probes if isinstance(probes, tuple) else (probes,):
                kept, shape = steps if keep_history[probe] else 1, sig[probe]["in"].shape
                self.y.setdefault(probe, np.zeros((count, kept, *shape)))

    def losses(self) -> tuple[dict[Any, Any], list[JointObjective]]:
        """The losses by probe, and those of several probes."""
        single, joint = {}, []
        for probes, objective in self.objectives.items():
            if isinstance(probes, tuple):
                names = [self.sim.get_name(probe) for probe in probes]
                joint.append(JointObjective(objective, names))
            else:
                single[probes] = as_loss(objective)
        return single, joint

    def spelled(self, method: str, optimizer: Any = None, **arguments: Any) -> str:
        """How it is written today."""
        name = self.sim.get_name
        losses = ", ".join(
            f"{tuple(map(name, p)) if isinstance(p, tuple) else name(p)!r}: {spelling(o)}"
            for p, o in self.objectives.items()
        )
        x = "{" + ", ".join(f"{name(node)!r}: ..." for node in self.x) + "}"
        y = "{" + ", ".join(f"{name(probe)!r}: ..." for probe in self.y) + "}"
        if not self.x:
            x = "None"
            arguments["n_steps"] = self.n_steps
        given = "".join(f", {key}={value!r}" for key, value in arguments.items())
        cls = type(optimizer).__name__
        first = "" if optimizer is None else f"optimizer={cls}(...), "
        if isinstance(optimizer, str):
            first = f"optimizer={optimizer!r}, "
        lines = [
            f"sim.compile({first}loss={{{losses}}})",
            f"sim.{method}({x}, {y}{given})",
        ]
        if any(isinstance(probes, tuple) for probes in self.objectives):
            lines.append(
                "# for a loss of several probes: connect what they probe to one "
                "nengo.Node(size_in=...), and probe that"
            )
        return "\n    ".join(lines)


def _holds_data(value: Any) -> bool:
    """Whether this is a dict of arrays, not of objectives."""
    return isinstance(value, Mapping) and all(np.ndim(v) for v in value.values())
