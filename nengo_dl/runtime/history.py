"""How often a network was compiled and arranged, and what for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from nengo_dl.surrogates import SpikeTraining


class Use(Protocol):
    """For which of its uses a network is compiled, see `.program.Specialization`."""

    @property
    def open(self) -> bool:
        """Whether parameters are arguments."""
        ...

    @property
    def training(self) -> bool:
        """Whether Keras layers behave as in training."""
        ...

    @property
    def spikes(self) -> SpikeTraining | None:
        """Neurons as they are trained."""
        ...

    @property
    def fed(self) -> frozenset:
        """Signals of constant nodes that are given data."""
        ...

    @property
    def penalties(self) -> bool:
        """Whether losses that operators add are computed."""
        ...


def _reason(use: Use) -> str:
    """What a network is compiled for, in words."""
    parts = ["parameters as arguments" if use.open else "parameters as they were built"]
    if use.training:
        parts.append("Keras layers as in training")
    if use.spikes is not None:
        spiking = use.spikes.spiking
        parts.append("gradients of spikes" if spiking else "neurons in their rate form")
    if use.fed:
        parts.append(f"data for {len(use.fed)} constant nodes")
    if use.penalties:
        parts.append("losses of operators")
    return ", ".join(parts)


class History:
    """What was compiled and arranged since a program was made, in that order.

    To compile is to make a graph of the model's operators; to arrange is to give the
    elements of a graph their places in memory. Both are done once for each use of the
    network, and once more if something else that they depend on has changed.
    """

    def __init__(self) -> None:
        self.compiled: list[str] = []
        self.arranged: list[str] = []
        self._again = ""

    def compiles(self, use: Use) -> None:
        """The network is compiled for a use."""
        self.compiled.append(_reason(use) + self._again)

    def arranges(self, use: Use, fused: bool) -> None:
        """A graph is arranged, for single steps (``fused``) or for many at a time."""
        form = "for single steps" if fused else "for many steps at a time"
        self.arranged.append(f"{_reason(use)}, {form}{self._again}")

    def forget(self, why: str) -> None:
        """Everything is made anew from here on, for some reason."""
        self._again = f" (again: {why})"

    def lines(self) -> Iterator[str]:
        """The history as lines of text."""
        for what, reasons in (("compiled", self.compiled), ("arranged", self.arranged)):
            times = "once" if len(reasons) == 1 else f"{len(reasons)} times"
            yield f"{what} {times}:"
            yield from (f"  {reason}" for reason in reasons)
