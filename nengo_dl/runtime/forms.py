"""In which of their forms neurons run: as they are, as rates, or as they are trained."""

from __future__ import annotations

from dataclasses import replace
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
