"""How often answers are right: the numbers, and their curves."""

import numpy as np
import pytest
from nengo.exceptions import ValidationError

from nengo_dl.plots import accuracy_over_rates, accuracy_over_time, step_accuracy


def slowly(outputs, labels, mean):
    """The same as `step_accuracy`, one item and one step after the other."""
    n_items, n_steps, _ = outputs.shape
    right = np.zeros(n_steps)
    for i in range(n_items):
        for t in range(n_steps):
            seen = outputs[i, : t + 1].mean(axis=0) if mean else outputs[i, t]
            right[t] += np.argmax(seen) == labels[i, t]
    return right / n_items


@pytest.mark.parametrize("mean", [False, True])
def test_step_accuracy(rng, mean, allclose):
    labels = rng.randint(3, size=(30, 1))
    outputs = rng.normal(size=(30, 8, 3)) + np.eye(3)[labels]
    wanted = slowly(outputs, np.repeat(labels, 8, axis=1), mean)
    for shape in ((30,), (30, 1), (30, 1, 1)):
        given = labels.reshape(shape)
        assert allclose(step_accuracy(outputs, given, mean=mean), wanted)
    assert allclose(step_accuracy(outputs, labels[:, 0].astype(float), mean=mean), wanted)


def test_step_accuracy_with_labels_that_change(rng, allclose):
    labels = rng.randint(3, size=(30, 8))
    outputs = rng.normal(size=(30, 8, 3)) + np.eye(3)[labels]
    wanted = slowly(outputs, labels, mean=False)
    assert 0.2 < wanted.mean() < 0.9
    assert allclose(step_accuracy(outputs, labels), wanted)
    assert allclose(step_accuracy(outputs, labels[:, :, None]), wanted)


@pytest.mark.parametrize(
    "shape, labels, match",
    [
        ((4, 5), [0] * 4, r"outputs: must have the shape \(batch, steps, classes\)"),
        ((4, 5, 1), [0] * 4, "with two classes or more"),
        (
            (4, 5, 3),
            [0] * 3,
            r"labels: must have the shape \(4,\) or \(4, 5\).*\(3,\)",
        ),
        ((4, 5, 3), np.eye(4, 3), r"got \(4, 3\); if they are one-hot, labels.argmax"),
        ((4, 5, 3), [0, 1, 2, 3], "integers from 0 to 2, .*; got values from 0 to 3"),
        ((4, 5, 3), [0, 1, 2, -1], "integers from 0 to 2"),
        ((4, 5, 3), [0.5, 1, 2, 0], "integers from 0 to 2"),
    ],
)
def test_step_accuracy_of_wrong_data(shape, labels, match):
    with pytest.raises(ValidationError, match=match):
        step_accuracy(np.zeros(shape), labels)


def legend_of(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_accuracy_over_time(ax):
    accuracy = np.array([0.1, 0.5, 0.9])
    references = {"Keras": 0.95, "chance": 0.1}
    drawn = accuracy_over_time(
        0.002, accuracy, ax=ax, references=references, label="spikes", color="red"
    )
    assert drawn is ax
    curve, keras, chance = ax.lines
    np.testing.assert_allclose(curve.get_xdata(), [0.002, 0.004, 0.006])
    np.testing.assert_allclose(curve.get_ydata(), [10, 50, 90])
    assert curve.get_color() == "red"
    np.testing.assert_allclose(keras.get_ydata(), [95, 95])
    np.testing.assert_allclose(chance.get_ydata(), [10, 10])
    assert keras.get_linestyle() != chance.get_linestyle()
    assert legend_of(ax) == ["spikes", "Keras", "chance"]
    assert ax.get_xlabel() == "time (s)"
    assert ax.get_ylabel() == "correct answers (%)"


def test_several_curves_in_the_same_axes(ax):
    for name in ("a", "b"):
        accuracy_over_time([0.1, 0.2], [0.5, 0.6], ax=ax, label=name)
    assert len(ax.lines) == 2
    assert legend_of(ax) == ["a", "b"]


def test_one_curve_needs_no_legend(ax):
    accuracy_over_time(0.1, [0.5, 0.6], ax=ax)
    assert ax.get_legend() is None


@pytest.mark.parametrize(
    "accuracy, arguments, match",
    [
        ([10, 50, 90], {}, "accuracy: must be fractions from 0 to 1.*; got 10"),
        ([0.5, -0.1, 0.1], {}, "must be fractions"),
        (np.zeros((4, 3, 2)), {}, r"got \(4, 3, 2\). step_accuracy\(outputs, labels\)"),
        ([0.1, 0.2], {}, r"times: .* for each of the 2 steps of 'accuracy'"),
        ([0.1] * 3, {"references": [0.5]}, "references: must be a dict of names and"),
        ([0.1] * 3, {"references": {"x": 95}}, r"references\['x'\]: must be fractions"),
    ],
)
def test_accuracy_over_time_of_wrong_data(ax, accuracy, arguments, match):
    with pytest.raises(ValidationError, match=match):
        accuracy_over_time([0.1, 0.2, 0.3], accuracy, ax=ax, **arguments)


def test_accuracy_over_rates(ax):
    rates, accuracy = [30, 3, 300], [0.8, 0.4, 0.9]
    drawn = accuracy_over_rates(
        rates, accuracy, ax=ax, names=["b", "a", "c"], references={"Keras": 0.95}
    )
    assert drawn is ax
    curve, keras = ax.lines
    np.testing.assert_allclose(curve.get_xdata(), [3, 30, 300])  # sorted
    np.testing.assert_allclose(curve.get_ydata(), [40, 80, 90])
    assert curve.get_marker() == "o"
    np.testing.assert_allclose(keras.get_ydata(), [95, 95])
    beside = {text.get_text(): text.xy for text in ax.texts}
    assert beside == {"a": (3, 40), "b": (30, 80), "c": (300, 90)}
    assert ax.get_xscale() == "log"
    assert ax.xaxis.get_major_formatter()(20) == "20"
    assert ax.get_xlabel() == "mean firing rate (Hz)"
    assert legend_of(ax) == ["Keras"]


def test_accuracy_over_another_cost(ax):
    ax.set_xlabel("spikes per neuron")
    accuracy_over_rates([0, 5], [0.1, 0.9], ax=ax, log=False, marker="x")
    assert ax.get_xlabel() == "spikes per neuron"
    assert ax.get_xscale() == "linear"
    assert ax.lines[0].get_marker() == "x"


@pytest.mark.parametrize(
    "rates, arguments, match",
    [
        ([1, 2, 3], {}, r"one rate for each of the 2 values of 'accuracy'.*\(3,\)"),
        ([0, 2], {}, "must be positive on a logarithmic axis; got 0. log=False"),
        ([1, 2], {"names": ["a"]}, "names: there must be one for each of the 2 rates"),
    ],
)
def test_accuracy_over_rates_of_wrong_data(ax, rates, arguments, match):
    with pytest.raises(ValidationError, match=match):
        accuracy_over_rates(rates, [0.1, 0.9], ax=ax, **arguments)
    assert not ax.lines
