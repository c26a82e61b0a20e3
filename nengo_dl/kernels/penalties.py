"""What activities add to the losses of training."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from nengo.builder.operator import Operator
from nengo.builder.signal import Signal

from nengo_dl.compiler.lowering import OperatorRule, lowers

if TYPE_CHECKING:
    from nengo_dl.compiler.lowering import Lowering


class SimPenalty(Operator):
    """Add a function of a signal to the losses of training; nothing at other times.

    Parameters
    ----------
    x : Signal
    penalty : callable
        ``penalty(y)`` gives a scalar for what the signal was, ``(items, steps, size)``.
    tag : str, optional

    Notes
    -----
    1. sets ``[]``
    2. incs ``[]``
    3. reads ``[x]``
    4. updates ``[]``
    """

    def __init__(self, x: Signal, penalty: Callable[..., Any], tag: str | None = None):
        super().__init__(tag=tag)
        self.x, self.penalty = x, penalty
        self.sets, self.incs, self.reads, self.updates = [], [], [x], []

    @property
    def _descstr(self):
        return f"{self.x} -> {self.penalty}"

    def make_step(
        self, signals: Any, dt: float, rng: np.random.RandomState
    ) -> Callable[[], None]:
        """A step for core Nengo, which does not train: it does nothing."""
        return lambda: None


@lowers(SimPenalty)
class LowerPenalty(OperatorRule):
    """Probes the signal, if losses are asked for."""

    def penalizes(self, op: SimPenalty, training: bool) -> bool:
        """Always True: the operator does nothing else."""
        return True

    def lower(self, op: SimPenalty, low: Lowering) -> None:
        """No node: what is made of the values is not part of a step."""
        if low.options.penalties:
            low.penalize(op, low.read(op.x))
