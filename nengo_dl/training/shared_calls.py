"""Calls of ``fit`` and ``evaluate``, alone or with a strategy that shares batches."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from nengo.exceptions import ValidationError

if TYPE_CHECKING:
    from nengo_dl.training.keras_side import KerasSide
    from nengo_dl.training.parameters import LiveState
    from nengo_dl.training.resuming import Resume
    from nengo_dl.training.streams import Order


def call_of(side: KerasSide, strategy: Any, stateful: bool, where: str) -> Call:
    """What goes around a call. Raises `ValidationError` if a strategy cannot share it.

    ``where``: for error messages.
    """
    if strategy is None:
        return Call(side, where)
    from nengo_dl.training.replica_checks import check_call, check_strategy

    check_strategy(strategy, where)
    if strategy.num_replicas_in_sync == 1:  # nothing to share
        check_call(side, stateful, where)
        return Call(side, where)
    return SharedCall(side, strategy, stateful, where)


class Call:
    """A call in one process and on one device.

    Parameters
    ----------
    side : KerasSide
    where : str
        For error messages.

    Attributes
    ----------
    replicas : Replicas or None
        What shares its batches.
    """

    replicas: Any = None

    def __init__(self, side: KerasSide, where: str) -> None:
        self.side, self.where = side, where

    def preparing(self, live: LiveState) -> contextlib.AbstractContextManager[Any]:
        """Context of all that comes before the first batch."""
        return contextlib.nullcontext()

    def open(self, resume: Resume | None, arguments: dict[str, Any]) -> None:
        """At its beginning: look where an earlier process left off."""
        if resume is not None:
            resume.open()

    def agree(self, data: Any, order: Order | None, arguments: dict[str, Any]) -> None:
        """At its end: all processes have the same."""

    def callbacks(self, given: Any, trains: bool = True) -> tuple[Any, list[Any]]:
        """Callbacks of the user that take part, and further ones."""
        return given, []

    def running(self) -> contextlib.AbstractContextManager[Any]:
        """Context, within `KerasSide.calls`, of what Keras does."""
        return contextlib.nullcontext()


class SharedCall(Call):
    """A call whose batches replicas share.

    Parameters
    ----------
    strategy : tf.distribute.Strategy
    stateful : bool
        Whether state is to be carried, which is an error.
    """

    def __init__(
        self, side: KerasSide, strategy: Any, stateful: bool, where: str
    ) -> None:
        from nengo_dl.training.replica_checks import check_call

        super().__init__(side, where)
        self.replicas: Any = side.replicas(strategy)
        self._preparation: Any = None
        self._check = lambda: check_call(side, stateful, where)
        self._resume: Any = None
        self._live: Any = None

    @contextlib.contextmanager
    def preparing(self, live: LiveState) -> Iterator[None]:
        """Context of all that comes before the first batch."""
        from nengo_dl.training.replicas import Preparation, lost

        side, seed = self.side, live.seed
        self._live, side.replica_count = live, self.replicas.count
        try:
            with lost(self.replicas, self.where):
                with Preparation(self.replicas, self.where) as self._preparation:
                    self._check()
                    yield
        finally:
            live.seed, side.replica_count = seed, 1

    def open(self, resume: Resume | None, arguments: dict[str, Any]) -> None:
        """Seeds, and where an earlier process left off, are those of the first one."""
        live, position = self._live, None
        if resume is not None:
            resume.open(self.replicas.chief)
            position = resume.position
        told = [live.seed, live.epochs, position is not None, *(position or [0] * 4)]
        live.seed, live.epochs, goes_on, *position = self._preparation.first(told)
        if resume is not None and goes_on:
            counted = self._preparation.first_bytes(resume.counted)
            resume.follow(tuple(position), counted)

    def agree(self, data: Any, order: Order | None, arguments: dict[str, Any]) -> None:
        """All processes run the same; raises `SimulationError` if they do not."""
        from nengo_dl.training.replica_checks import check_network, length_of

        trains = "epochs" in arguments or "fit" in self.where
        for training in (True, False) if trains else (False,):
            check_network(self.replicas, training, self.where)
        length = length_of(data["x"], arguments)
        if length is None and self.replicas.processes > 1:
            raise ValidationError(
                "the number of batches is not known beforehand, so processes could not "
                "end together; give steps_per_epoch (or steps of evaluate)",
                attr=self.where,
            )
        if order is not None:
            about = order.described
            seed, before = self._preparation.first([about["seed"], about["before"]])
            order.go_on_with({**about, "seed": seed, "before": before})
        self._preparation.compare(self._described(data, length, arguments))
        if not self.replicas.chief:
            arguments["verbose"] = 0

    def _described(self, data, length, arguments):
        """What all processes must have in common, by name."""
        side, model = self.side, self.side.model
        names = ("epochs", "initial_epoch", "validation_freq", "validation_steps")
        told = {name: arguments.get(name) for name in names if name in arguments}
        optimizer, validation = model.optimizer, arguments.get("validation_data")
        losses = [
            (p.name, type(p.loss).__name__, p.weight) for p in model.losses_of_probes
        ]
        metrics = [metric.name for metric in model.metrics]
        sizes = getattr(data["x"], "size", arguments.get("batch_size"))
        return {
            "the method": self.where,
            "the variables of the network": [
                (v.path, tuple(v.shape)) for v in model.variables
            ],
            "minibatch_size or dtype": (side.program.batch, side.program.dtype.name),
            "the number of batches, or their size": (length, sizes),
            "the number of batches for validation": (
                type(validation).__name__,
                getattr(validation, "num_batches", None),
            ),
            "the numbers of epochs": told,
            "losses and metrics": (losses, metrics),
            "the optimizer": None if optimizer is None else _config(optimizer),
        }

    def callbacks(self, given: Any, trains: bool = True) -> tuple[Any, list[Any]]:
        """What only writes is left out in all processes but the first one."""
        import keras

        from nengo_dl.training.replicas import WRITERS, Beginning

        lists = isinstance(given, keras.callbacks.CallbackList)
        if not self.replicas.chief:
            users = given.callbacks if lists else keras.tree.flatten(given or [])
            users = [c for c in users if not isinstance(c, WRITERS)]
            if lists:
                given.callbacks[:] = users
            else:
                given = users
        return given, [Beginning(self.replicas)] if trains else []

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Context, within `KerasSide.calls`, of what Keras does."""
        from nengo_dl.training.replicas import agree, lost

        with lost(self.replicas, self.where), self.side.sharing(self.replicas):
            if "evaluate" in self.where:
                agree(self.replicas)
            yield


def _config(optimizer: Any) -> Any:
    """What an optimizer is, without numbers that training changes."""
    config = optimizer.get_config()
    plain = (str, int, float, bool, type(None))
    kept = {k: v for k, v in config.items() if isinstance(v, plain) and k != "name"}
    kept = {k: np.round(v, 12) if isinstance(v, float) else v for k, v in kept.items()}
    kept.pop("learning_rate", None)
    return type(optimizer).__name__, kept
