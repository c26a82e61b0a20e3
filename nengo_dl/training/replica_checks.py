"""What strategies cannot share between devices, found before the first batch.

Imported when it is first needed, because importing Keras takes seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf
from nengo.exceptions import ValidationError

from nengo_dl.notices import warn

if TYPE_CHECKING:
    from nengo_dl.training.keras_side import KerasSide
    from nengo_dl.training.replicas import Replicas

#: how losses may be made of those of items: sums of parts are the whole
REDUCTIONS = ("sum_over_batch_size", "mean", "sum")

SUPPORTED = (
    "tf.distribute.MirroredStrategy (several devices of one process), "
    "tf.distribute.MultiWorkerMirroredStrategy (several processes) and "
    "tf.distribute.OneDeviceStrategy"
)


def check_strategy(strategy: Any, where: str) -> None:
    """Check that a strategy is one whose replicas all have the same values.

    Raises `ValidationError`.
    """
    if not isinstance(strategy, tf.distribute.Strategy):
        raise ValidationError(
            f"strategy is a {type(strategy).__name__}, {strategy!r}; expected a "
            f"tf.distribute.Strategy: {SUPPORTED}",
            attr=where,
        )
    supported = (
        tf.distribute.MirroredStrategy,
        tf.distribute.MultiWorkerMirroredStrategy,
        tf.distribute.OneDeviceStrategy,
    )
    default = type(strategy).__name__ == "_DefaultDistributionStrategy"
    if not isinstance(strategy, supported) and not default:
        raise ValidationError(
            f"strategy is a {type(strategy).__name__}; supported are {SUPPORTED}",
            attr=where,
        )


def check_call(side: KerasSide, stateful: bool, where: str) -> None:
    """Check that replicas can share the calls of a model. Raises `ValidationError`."""
    model, program = side.model, side.program
    optimizer = getattr(model, "optimizer", None)
    made_in = getattr(optimizer, "_distribution_strategy", None)
    scoped = made_in is not None and made_in is not tf.distribute.get_strategy()
    learned = side.live.parameters.learned
    executions = getattr(model, "steps_per_execution", 1)
    wrong = {
        "the optimizer was made in strategy.scope(); make it outside, and give strategy= "
        "here": scoped,
        f"the simulator was built with device={program.device!r}; leave out device: the "
        "strategy says which devices there are": program.device is not None,
        "with stateful=True, the state of each item stays on its replica; leave out "
        "stateful": stateful,
        f"the network has online learning rules ({len(learned)} of its parameters are "
        "learned), and each item learns its own on its replica; leave out strategy, or "
        "freeze what was learned (Simulator.freeze_params)": bool(learned),
        f"it was compiled with steps_per_execution={executions}; leave it out, or "
        "strategy": executions > 1,
        "it was compiled with run_eagerly=True; leave it out, or strategy": bool(
            model.run_eagerly
        ),
    }
    for text, is_so in wrong.items():
        if is_so:
            raise ValidationError(text, attr=where)
    _check_losses(model, where)


def _check_losses(model: Any, where: str) -> None:
    for loss in model.losses_of_probes:
        reduction = loss.loss.reduction
        if reduction not in REDUCTIONS:
            raise ValidationError(
                f"the loss of Probe {loss.name!r} has the reduction {reduction!r}, of "
                f"which parts do not add up; expected one of {', '.join(REDUCTIONS)}",
                attr=where,
            )


def check_network(replicas: Replicas, training: bool, where: str) -> None:
    """Check what runs on each replica. Raises `ValidationError`."""
    side = replicas.side
    variant = side.layer.variant(training)
    if replicas.local > 1 and variant.calls_python:
        shown = ", ".join(variant.python_parts[:5])
        raise ValidationError(
            f"{replicas.local} replicas in one process cannot call its Python functions "
            f"({shown}) side by side; use one process for each device "
            "(tf.distribute.MultiWorkerMirroredStrategy)",
            attr=where,
        )
    layers = synchronized_layers(side)
    carried = {id(v) for link in variant.links for v in link.kept.variables}
    for layer in layers:
        if any(id(v) in carried for v in layer.variables):
            raise ValidationError(
                f"the layer {layer.name!r} with synchronized=True is in the loop over "
                "time, where replicas cannot exchange anything; leave out synchronized, "
                "or put the layer behind what has state",
                attr=where,
            )
    own = [layer for layer in _normalizing(side) if layer not in layers]
    if training and own:
        warn(
            f"{where}: the layer {own[0].name!r} normalizes with the statistics of the "
            "items of its own replica, which are fewer than those of the batch; "
            "keras.layers.BatchNormalization(synchronized=True) takes those of all",
            once=("normalization of replicas", where),
        )


def _normalizing(side: KerasSide) -> list[Any]:
    """All layers for normalization by batches in the network."""
    found = []
    for top in side.live.parameters.layers.objects:
        if isinstance(top, keras.layers.Layer):
            found += [
                layer
                for layer in top._flatten_layers()
                if isinstance(layer, keras.layers.BatchNormalization)
            ]
    return found


def synchronized_layers(side: KerasSide) -> list[Any]:
    """Layers that take the statistics of all replicas."""
    return [layer for layer in _normalizing(side) if layer.synchronized]


def reads_time(side: KerasSide, training: bool) -> bool:
    """Whether a compiled network reads a variable of its own: what time it is."""
    given = set(side.layer.signals.values())
    links = side.layer.variant(training).links
    sources = [source for link in links for source in link.layout.inputs]
    return any(source.key not in given for source in sources)


def check_metrics(model: Any) -> None:
    """Check that what metrics hold adds up over replicas. Raises `ValidationError`."""
    every = [one for m in model.metrics for one in getattr(m, "metrics", [m])]
    for metric in every:
        for variable in metric.variables:
            if variable.aggregation != "sum":
                raise ValidationError(
                    f"the metric {metric.name!r} holds {variable.name!r}, of which parts "
                    f"do not add up (aggregation {variable.aggregation!r}; expected "
                    "'sum'), so replicas cannot share it; leave out the metric, or "
                    "strategy",
                    attr="Simulator.compile",
                )


def length_of(data: Any, arguments: Mapping[str, Any]) -> Any:
    """The number of batches of an epoch; None if only its end tells."""
    given = arguments.get("steps_per_epoch") or arguments.get("steps")
    if given is not None:
        return int(given)
    if isinstance(data, tf.data.Dataset):
        count = int(data.cardinality())
        return None if count < 0 else count
    return getattr(data, "num_batches", None)
