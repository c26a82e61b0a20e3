"""In which forms a network is compiled, and how often it was.

Neurons run as they are, as rates, or as they are trained.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from nengo_dl.surrogates import SpikeTraining


class Form(NamedTuple):
    """How a network runs in one call.

    Parameters
    ----------
    training : bool
        Whether Keras layers inside the network behave as in training.
    spikes : SpikeTraining or None
        How neurons are trained: as rates, or with a gradient for their spikes. None:
        neurons as they are.
    """

    training: bool = False
    spikes: SpikeTraining | None = None


AS_THEY_ARE = Form()


def form_of(
    training: bool,
    phase: bool | None,
    trained: SpikeTraining,
    spiking: bool | None = None,
) -> Form:
    """The form of a call.

    Parameters
    ----------
    training : bool
        Whether the call trains, or behaves so for Keras.
    phase : bool or None
        The setting ``learning_phase``: takes the place of ``training``.
    trained : SpikeTraining
        How neurons are trained, as the settings say.
    spiking : bool or None
        Takes the place of both for neurons, not for Keras layers: True for neurons as
        they are, False for their rates.

    Examples
    --------
    >>> form_of(False, None, SpikeTraining())
    Form(training=False, spikes=None)
    >>> form_of(False, None, SpikeTraining(), spiking=False).spikes.spiking
    False
    """
    learning = training if phase is None else phase
    if spiking is None:
        return Form(learning, trained if learning else None)
    if not spiking:
        return Form(learning, replace(trained, spiking=False))
    return Form(learning, trained if learning and trained.spiking else None)


def forward_form(
    phase: bool | None, trains_spikes: bool, spiking: bool | None = None
) -> Form:
    """The form of a call that needs no gradients: what they are is left out."""
    form = form_of(False, phase, SpikeTraining(trains_spikes), spiking)
    if form.spikes is not None and form.spikes.spiking:
        return form._replace(spikes=None)
    return form


def as_rates(spikes: SpikeTraining | None) -> bool:
    """Whether neurons run in their rate form."""
    return spikes is not None and not spikes.spiking


# how often ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Specialization:
    """What a network is compiled for: the key of a compiled program.

    Parameters
    ----------
    open : bool
        Parameters are arguments. False: they are folded into the graph, and what is
        equal because its parameters are equal is computed once. That holds until
        something writes a parameter; then the network is compiled once more, open.
    training : bool
        Keras layers behave as in training.
    spikes : SpikeTraining or None
        Neurons as they are trained; None: as they are (see `Form`).
    fed : frozenset of Signal
        Signals of constant nodes that are given data.
    penalties : bool
        Losses that TensorNodes add to those of training are probed, too.
    whole : bool
        All probes are read in each step, also those that only keep samples. To the
        compiler that makes no difference.
    """

    open: bool = False
    training: bool = False
    fed: frozenset = frozenset()
    spikes: SpikeTraining | None = None
    penalties: bool = False
    whole: bool = False


def _reason(use: Specialization) -> str:
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

    def compiles(self, use: Specialization) -> None:
        """The network is compiled for a use."""
        self.compiled.append(_reason(use) + self._again)

    def arranges(self, use: Specialization, fused: bool) -> None:
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
