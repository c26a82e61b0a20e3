"""The methods that a simulator had in NengoDL 0.x to 2.x, as functions of a simulator.

All of them translate into names of today, with a ``DeprecationWarning`` that shows these.
What cannot be translated raises an error that says what to write instead.

They stand in one table, `OLDER`, of which `Simulator` takes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from nengo.exceptions import ValidationError

from nengo_dl.compat.older_arguments import INSTEAD, bind, deprecated, refuse
from nengo_dl.compat.older_calls import (
    LOSS,
    TRAIN,
    OlderCall,
    as_keras_optimizer,
)
from nengo_dl.notices import warn
from nengo_dl.training.turns import in_turn

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

    Warns
    -----
    DeprecationWarning
        Always; it says what to write instead.
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
