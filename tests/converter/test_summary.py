"""The table of what became of each layer."""

import keras
import pytest
from keras import layers

import nengo_dl


def rows_of(converter):
    lines = []
    converter.summary(print_fn=lines.append)
    (text,) = lines
    return text.splitlines()


def test_summary():
    inputs = keras.Input((3,))
    x = layers.Dense(4, activation="relu", name="hidden")(inputs)
    x = layers.Softmax(name="classes")(layers.Reshape((2, 2), name="grid")(x))
    with pytest.warns(UserWarning, match="becomes a TensorNode"):
        converter = nengo_dl.Converter(keras.Model(inputs, x), scale_firing_rates=3)
    lines = []
    converter.summary(print_fn=lines.append)
    rows = [row.split() for row in lines[0].splitlines()[2:]]
    assert rows[0] == "hidden (Dense) RectifiedLinear, rates x 3 4 16".split()
    assert rows[1] == "grid (Reshape) nothing (its input) - -".split()
    assert rows[2][:4] == "classes (Softmax) TensorNode -".split()


def test_reasons_of_all_that_falls_back():
    """Also if it is but an activation, or inside of other layers."""
    inputs = keras.Input((4, 3))
    inner = keras.Sequential(
        [keras.Input((3,)), layers.Dense(2, activation="relu"), layers.Softmax()],
        name="inner",
    )
    x = layers.TimeDistributed(inner, name="each")(inputs)
    x = layers.Dense(2, activation="softplus", name="smooth")(x)
    model = keras.Model(inputs, layers.Dense(1, name="native")(x))
    with pytest.warns(UserWarning, match="becomes a TensorNode"):
        converter = nengo_dl.Converter(model)
    _, _, each, smooth, native = rows_of(converter)
    assert each.startswith("each (TimeDistributed)")
    assert each.endswith("there is no converter for Softmax")
    assert each.split()[2:6] == ["Node,", "TensorNode", "8", "8"]  # 2 neurons for each
    assert smooth.split()[2:6] == ["Node,", "TensorNode", "-", "6"]
    assert "the activation 'softplus'" in smooth
    assert native.split()[2:] == ["Node", "-", "3"]


def test_nested_models_and_shared_layers():
    x = keras.Input((3,))
    dense = layers.Dense(3, activation="tanh", name="dense")
    inner = keras.Model(x, dense(x), name="inner")
    inputs = keras.Input((3,))
    converter = nengo_dl.Converter(keras.Model(inputs, dense(inner(inputs) + 1.0)))
    rows = [row.split() for row in rows_of(converter)[2:]]
    assert rows[0] == "inner/dense (Dense) Tanh 3 12".split()
    assert rows[1][-3:] == ["Node", "-", "-"]
    assert rows[2] == "dense (Dense) Tanh 3 12".split()
