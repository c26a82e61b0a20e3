"""What the neurons of an ensemble respond to, from the present values of parameters.

Training and loading change two arrays: ``scaled_encoders = encoders * gain / radius`` and
``bias``. All that Nengo says of an ensemble besides follows from them.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
from nengo.neurons import NeuronType


class Tuning(NamedTuple):
    """What fixes how scaled encoders are split into encoders and gains.

    Attributes
    ----------
    scaled_encoders, encoders : (n_neurons, dimensions) ndarray
    gain : (n_neurons,) ndarray
    """

    scaled_encoders: np.ndarray
    encoders: np.ndarray
    gain: np.ndarray


def split(
    scaled: np.ndarray, radius: float, reference: Tuning, keep_gain: bool = False
) -> Tuning:
    """Encoders and gains that go with scaled encoders.

    Encoders have the length that they have in the reference; the gain of a neuron takes
    what its scaled encoder is longer or shorter by, ``gain = |scaled| radius /
    |encoder|``, and has the sign of the reference. Without a length, the gain is kept.

    Parameters
    ----------
    scaled : (n_neurons, dimensions) ndarray
    radius : float
        That of the ensemble.
    reference : Tuning
        Neurons whose scaled encoders are those of the reference are like it.
    keep_gain : bool
        Give everything to the encoders: for what a learning rule changes, which knows the
        gains of the build.

    Returns
    -------
    Tuning
    """
    changed = differ(scaled, reference.scaled_encoders)
    gain = reference.gain
    if not changed.any():
        return reference
    if not keep_gain:
        norm = _length(scaled) * radius
        length = _length(reference.encoders)
        kept = np.where(gain != 0, gain, norm)
        found = np.divide(norm, length, out=kept, where=length > 0)
        found = np.where(length > 0, np.copysign(found, gain), found)
        gain = np.where(changed, found, gain)
    return Tuning(scaled, divided(scaled, gain, radius, reference, changed), gain)


def differ(vectors: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which of ``(n, d)`` vectors differ by more than rounding to single precision."""
    with np.errstate(over="ignore"):
        rounded = others.astype(np.float32).astype(others.dtype)
    return ((vectors != others) & (vectors != rounded)).any(axis=1)


def _length(vectors):
    """Lengths of ``(n, d)`` vectors, however large or small their entries are."""
    return np.hypot.reduce(vectors, axis=1, initial=0.0)


def divided(
    scaled: np.ndarray,
    gain: np.ndarray,
    radius: float,
    reference: Tuning,
    changed: np.ndarray,
) -> np.ndarray:
    """Encoders before the scaling.

    Parameters
    ----------
    scaled : (n_neurons, dimensions) ndarray
    gain : (n_neurons,) ndarray
    radius : float
    reference : Tuning
        Whose encoders the other neurons have, and those without a gain.
    changed : (n_neurons,) ndarray of bool

    Returns
    -------
    (n_neurons, dimensions) ndarray
    """
    scale = (gain / radius)[:, None]
    encoders = np.array(reference.encoders)
    return np.divide(scaled, scale, out=encoders, where=changed[:, None] & (scale != 0))


def rates_and_intercepts(
    neuron_type: NeuronType, gain: np.ndarray, bias: np.ndarray
) -> tuple[Any, Any]:
    """Maximum rates and intercepts that go with gains and biases.

    As ``neuron_type.max_rates_intercepts`` gives them, whose formulas are only right for
    neurons that fire. Where they differ from the rate at the end of the range, at 1, that
    rate counts: 0 for neurons that never fire.

    Parameters
    ----------
    neuron_type : ~nengo.neurons.NeuronType
    gain, bias : (n_neurons,) ndarray

    Returns
    -------
    max_rates, intercepts : (n_neurons,) ndarray or None
        None, if the neuron type has none. A neuron without a gain that never fires has
        the intercept ``inf``.
    """
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about neurons that never fire
        max_rates, intercepts = neuron_type.max_rates_intercepts(gain, bias)
        if max_rates is None:
            return max_rates, intercepts
        intercepts = np.where(np.isnan(intercepts), np.inf, intercepts)
        if neuron_type.spiking and type(neuron_type).rates is NeuronType.rates:
            # one step is no rate: the formula is all that there is
            return np.where(np.isfinite(max_rates), max_rates.clip(0), 0), intercepts
        rates = np.reshape(neuron_type.rates(1.0, gain, bias), np.shape(gain))
    rates = np.where(np.isfinite(rates), rates, 0)
    usable = np.isclose(max_rates, rates)
    rates = rates / getattr(neuron_type, "amplitude", 1)  # which formulas leave out
    usable |= np.isclose(max_rates, rates)
    return np.where(usable, max_rates, rates), intercepts
