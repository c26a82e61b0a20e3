"""Calls of ``Simulator.train`` and ``Simulator.loss``, with objectives as losses."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from nengo import Probe
from nengo.exceptions import ValidationError

from nengo_dl.compat.older_arguments import INSTEAD, bind, refuse

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
    sim : Simulator
    method : str
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
