"""Time and probes: operators that compute nothing by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nengo.builder.operator import TimeUpdate
from nengo.builder.probe import SimProbe

from nengo_dl.compiler.lowering import OperatorRule, lowers

if TYPE_CHECKING:
    from nengo_dl.compiler.lowering import Lowering


@lowers(TimeUpdate)
class LowerTimeUpdate(OperatorRule):
    """``step += 1; time = step * dt``: both are given to every step from outside."""

    def lower(self, op: TimeUpdate, low: Lowering) -> None:
        """Declare them as inputs; they vanish again where nothing reads them."""
        for signal in (op.step, op.time):
            low.define(signal, low.input(signal, signal.size))


@lowers(SimProbe)
class LowerProbe(OperatorRule):
    """Marks a signal as read; what a probe records is taken at the end of a step."""

    def lower(self, op: SimProbe, low: Lowering) -> None:
        """Freeze the signal, as the operator's place in core's order demands."""
        low.read(op.signal)
