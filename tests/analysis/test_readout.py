"""Names for neurons, and votes."""

import numpy as np
import pytest
from nengo.exceptions import ValidationError
from nengo_dl.readout import SILENT, name_neurons, vote


def test_names_are_by_mean_responses():
    """A label that occurs seldom is not at a disadvantage."""
    labels = np.array([0] * 8 + [3] * 2)
    counts = np.zeros((10, 3))
    counts[:8, 0], counts[8:, 0] = 2, 3  # a larger sum for 0, a larger mean for 3
    counts[:, 1] = 1  # the same for all
    assert name_neurons(counts, labels).tolist() == [3, 0, SILENT]


def test_votes_are_by_means_of_neurons():
    names = np.array([1, 1, 1, 4, SILENT])
    counts = np.array(
        [[1, 1, 1, 2, 0], [3, 2, 1, 1, 0], [2, 2, 2, 2, 9], [0, 0, 0, 0, 5]]
    )
    assert vote(counts, names).tolist() == [4, 1, 1, SILENT]


def test_steps_are_added_up(rng):
    spikes = rng.uniform(size=(20, 30, 6)) < 0.2
    labels = np.arange(20) % 3
    names = name_neurons(spikes, labels)
    assert np.array_equal(names, name_neurons(spikes.sum(1), labels))
    assert np.array_equal(vote(spikes, names), vote(spikes.sum(1), names))


def test_neurons_that_know_are_right(rng):
    labels = rng.randint(10, size=50)
    counts = 5.0 * (labels[:, None] == np.arange(30) % 10) + rng.uniform(size=(50, 30))
    names = name_neurons(counts, labels)
    seen = np.isin(np.arange(30) % 10, labels)
    assert np.array_equal(names[seen], (np.arange(30) % 10)[seen])
    assert np.array_equal(vote(counts, names), labels)


@pytest.mark.parametrize(
    "call, message",
    (
        (lambda: name_neurons(np.ones(3), [0, 1, 2]), r"spikes .*found \(3,\)"),
        (
            lambda: name_neurons(np.ones((3, 2)), [0, 1]),
            r"3 examples; found shape \(2,\)",
        ),
        (lambda: name_neurons(np.ones((2, 2)), [0, -1]), "from -1 to 0"),
        (lambda: name_neurons(np.ones((2, 2)), [0.5, 1]), "type float64"),
        (lambda: vote(np.ones((3, 2)), [0, 1, 2]), r"2 neurons; found shape \(3,\)"),
        (lambda: vote(np.ones((3, 2)), [-1, -1]), "all of them SILENT"),
        (lambda: vote(np.ones((0, 2)), [1, 1]), r"found \(0, 2\)"),
    ),
)
def test_wrong_arguments(call, message):
    with pytest.raises(ValidationError, match=message):
        call()
