"""Reading answers from neurons that learned without labels: names for neurons, and votes.

Where nobody says during learning what an image shows, neurons learn to answer to
something, and what that is has to be found out afterwards. With some examples whose
labels are known, each neuron is named after the label that it answers to most; then
neurons vote. No weight changes by that.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from nengo.exceptions import ValidationError

__all__ = ["SILENT", "name_neurons", "vote"]

#: the name of neurons that never fired, and the answer where no named neuron fired
SILENT = -1


def name_neurons(spikes: Any, labels: Any) -> np.ndarray:
    r"""Name each neuron after the label that it answers to most.

    .. math:: n_i = \arg\max_k \frac{1}{N_k} \sum_{b: l_b = k} r_{bi}

    where :math:`r_{bi}` is how much neuron :math:`i` fired for example :math:`b`, and
    :math:`N_k` the number of examples with label :math:`k`: a mean for each label, so it
    makes no difference how often labels occur.

    Parameters
    ----------
    spikes : array_like ``(examples, neurons)`` or ``(examples, steps, neurons)``
        What neurons fired: counts, rates, or the data of a probe of them, which is
        added up over the steps.
    labels : array_like of int ``(examples,)``
        One for each example, 0 or more.

    Returns
    -------
    ndarray of int ``(neurons,)``
        Names. Of two labels that a neuron answers to equally it is the smaller one. A
        neuron that never fired is `SILENT`, -1.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If shapes do not fit, or labels are no whole numbers of 0 or more.

    References
    ----------
    P. U. Diehl and M. Cook (2015). Unsupervised learning of digit recognition using
    spike-timing-dependent plasticity. Frontiers in Computational Neuroscience 9.

    Examples
    --------
    >>> counts = [[5, 0, 0], [4, 1, 0], [0, 3, 0]]
    >>> nengo_dl.readout.name_neurons(counts, [7, 7, 2]).tolist()
    [7, 2, -1]
    """
    counts = _counts("name_neurons", spikes)
    labels = np.asarray(labels)
    whole = labels.dtype.kind in "iu" and (labels >= 0).all()
    if not whole or labels.shape != counts.shape[:1]:
        raise ValidationError(
            "name_neurons: labels must be whole numbers of 0 or more, one for each of "
            f"the {len(counts)} examples; found shape {labels.shape} and type "
            f"{labels.dtype}"
            + (f", from {labels.min()} to {labels.max()}" if labels.size else ""),
            attr="labels",
        )
    known = np.unique(labels)
    means = np.array([counts[labels == label].mean(axis=0) for label in known])
    return np.where(counts.any(axis=0), known[means.argmax(axis=0)], SILENT)


def vote(spikes: Any, names: Any) -> np.ndarray:
    r"""Let named neurons say what each example is.

    .. math:: a_b = \arg\max_k \frac{1}{M_k} \sum_{i: n_i = k} r_{bi}

    where :math:`M_k` is the number of neurons with the name :math:`k`: many neurons of
    one name do not outvote a few of another one.

    Parameters
    ----------
    spikes : array_like ``(examples, neurons)`` or ``(examples, steps, neurons)``
        As for `name_neurons`.
    names : array_like of int ``(neurons,)``
        From `name_neurons`. Neurons that are `SILENT` have no vote.

    Returns
    -------
    ndarray of int ``(examples,)``
        Labels. Of two with equally many votes it is the smaller one. Where no named
        neuron fired it is `SILENT`, -1, which equals no label.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If shapes do not fit, or no neuron has a name.

    Examples
    --------
    >>> names = [7, 2, 2, -1]
    >>> counts = [[1, 3, 3, 9], [5, 2, 0, 0], [0, 0, 0, 4]]
    >>> nengo_dl.readout.vote(counts, names).tolist()
    [2, 7, -1]
    """
    counts, names = _counts("vote", spikes), np.asarray(names)
    if names.shape != counts.shape[1:] or names.dtype.kind not in "iu":
        raise ValidationError(
            f"vote: names must be whole numbers, one for each of the {counts.shape[1]} "
            f"neurons; found shape {names.shape} and type {names.dtype}",
            attr="names",
        )
    known = np.unique(names[names != SILENT])
    if not known.size:
        raise ValidationError(
            "vote: at least one neuron must have a name; found all of them SILENT. Show "
            "more examples, or see to it that neurons fire",
            attr="names",
        )
    means = np.stack([counts[:, names == name].mean(axis=1) for name in known], axis=1)
    return np.where(means.max(axis=1) > 0, known[means.argmax(axis=1)], SILENT)


def _counts(function, spikes):
    """What neurons fired for each example, ``(examples, neurons)``."""
    spikes = np.asarray(spikes, dtype=np.float64)
    if spikes.ndim not in (2, 3) or 0 in spikes.shape:
        raise ValidationError(
            f"{function}: expected spikes of shape (examples, neurons) or (examples, "
            f"steps, neurons); found {spikes.shape}",
            attr="spikes",
        )
    return spikes if spikes.ndim == 2 else spikes.sum(axis=1)


def __dir__() -> list[str]:
    return sorted(__all__)  # what completion offers
