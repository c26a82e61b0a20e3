"""Curves of training: which values stand at which epochs."""

import keras
import pytest
from nengo.exceptions import ValidationError

from nengo_dl.plots import training_curves

HISTORY = {
    "loss": [3.0, 2.0, 1.0, 0.5],
    "accuracy": [0.1, 0.5, 0.6, 0.7],
    "val_loss": [3.5, 2.5, 1.5, 1.4],
}


def curves(ax):
    """Label -> (epochs, values)."""
    return {
        line.get_label(): (list(line.get_xdata()), list(line.get_ydata()))
        for line in ax.lines
    }


def test_loss_and_loss_on_validation_data(ax):
    assert training_curves(HISTORY, ax=ax) is ax
    assert curves(ax) == {
        "training": ([1, 2, 3, 4], HISTORY["loss"]),
        "validation": ([1, 2, 3, 4], HISTORY["val_loss"]),
    }
    training, validation = ax.lines
    assert validation.get_color() == training.get_color()
    assert (training.get_linestyle(), validation.get_linestyle()) == ("-", "--")
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", "loss")
    assert len(ax.get_legend().get_texts()) == 2
    ax.figure.canvas.draw()
    assert all(tick == round(tick) for tick in ax.get_xticks())


def test_a_single_curve_needs_no_legend(ax):
    training_curves(HISTORY, "accuracy", ax=ax, color="red")
    (line,) = ax.lines
    assert list(line.get_ydata()) == HISTORY["accuracy"]
    assert line.get_color() == "red"
    assert ax.get_ylabel() == "accuracy"
    assert ax.get_legend() is None


def test_several_metrics(ax):
    training_curves(HISTORY, ["loss", "accuracy"], ax=ax)
    assert list(curves(ax)) == ["loss", "loss, validation", "accuracy"]
    colors = [line.get_color() for line in ax.lines]
    assert colors[0] == colors[1] != colors[2]
    assert ax.get_ylabel() == ""


def test_several_trainings(ax):
    for name in ("Keras", "Nengo"):
        training_curves(HISTORY, ax=ax, label=name)
    assert list(curves(ax)) == [
        "Keras", "Keras, validation", "Nengo", "Nengo, validation"
    ]  # fmt: skip


def test_history_of_keras(ax, rng):
    x, y = rng.normal(size=(40, 3)), rng.normal(size=(40, 1))
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    history = model.fit(
        x,
        y,
        initial_epoch=2,
        epochs=7,
        validation_split=0.2,
        validation_freq=3,
        verbose=0,
    )
    training_curves(history, ax=ax, validation_freq=3)
    assert curves(ax) == {
        "training": ([3, 4, 5, 6, 7], history.history["loss"]),
        "validation": ([3, 6], history.history["val_loss"]),
    }
    training_curves(history, ax=ax, validation_freq=[3, 6])
    assert list(ax.lines[-1].get_xdata()) == [3, 6]


@pytest.mark.parametrize(
    "history, arguments, match",
    [
        ([1, 2], {}, r"history: must be what fit returns, or a dict .*; got \[1, 2\]"),
        (HISTORY, {"metrics": "mae"}, "no 'mae' in the history; it has 'loss', 'accur"),
        ({}, {}, "no 'loss' in the history; it has nothing"),
        ({"loss": [[1, 2]]}, {}, r"'loss' must have one number for each epoch; got"),
        (
            {"loss": [1, 2, 3], "val_loss": [1]},
            {},
            "validation_freq: there are 1 values of 'val_loss' in 3 epochs; .* be 3",
        ),
    ],
)
def test_what_is_no_history(ax, history, arguments, match):
    with pytest.raises(ValidationError, match=match):
        training_curves(history, ax=ax, **arguments)
    assert not ax.lines


def test_numbers_of_epochs_and_values_differ(ax):
    history = keras.callbacks.History()
    history.epoch, history.history = [0, 1], {"loss": [1.0]}
    with pytest.raises(ValidationError, match="has 2 epochs, but 1 values of 'loss'"):
        training_curves(history, ax=ax)
    assert not ax.lines
