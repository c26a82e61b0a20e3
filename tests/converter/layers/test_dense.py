import keras
import pytest
from keras import layers

import nengo_dl
from tests.converter.family_checks import compare_outputs
from tests.converter.models import verified


def test_options_on_vectors(rng, allclose):
    choices = [
        layers.Dense(3),
        layers.Dense(3, use_bias=False, activation="relu"),
        layers.Dense(2, activation="tanh"),
        layers.EinsumDense("ab,bc->ac", 3, bias_axes="c"),
        layers.EinsumDense("...x,yx->...y", (4,), activation="sigmoid"),
    ]
    compare_outputs(choices, (5,), rng, allclose)


def test_options_on_several_axes(rng, allclose):
    choices = [
        layers.Dense(3),
        layers.Dense(2, activation="relu"),
        layers.EinsumDense("abcd,de->abce", (2, 3, 4), bias_axes="e"),
        layers.EinsumDense("abcd,de->abce", (None, None, 4), bias_axes="e"),
        layers.EinsumDense("abcd,ed->abce", (2, 3, 4), bias_axes="be"),
        layers.EinsumDense("...x,xy->...y", 2),
    ]
    compare_outputs(choices, (2, 3, 5), rng, allclose)


def test_training(rng):
    inputs = keras.Input((2, 5))
    x = layers.Dense(4, activation="relu")(inputs)
    x = layers.EinsumDense("abc,dc->abd", (2, 3), bias_axes="bd")(x)
    fixed = layers.Dense(2, activation="sigmoid", trainable=False)
    converter = verified(keras.Model(inputs, fixed(x)), rng)
    with nengo_dl.Simulator(converter.net, progress_bar=False) as sim:
        sizes = sorted(v.shape.num_elements() for v in sim.keras_model.trainable_weights)
    assert sum(sizes) == (5 + 1) * 4 + 4 * 3 + 2 * 3


@pytest.mark.parametrize("equation", ["abc,cde->abde", "abc,bcd->abd", "abc,bd->acd"])
def test_other_equations_fall_back(equation):
    shapes = {"abc,cde->abde": (2, 3, 4), "abc,bcd->abd": (2, 4), "abc,bd->acd": (3, 4)}
    inputs = keras.Input((2, 3))
    model = keras.Model(inputs, layers.EinsumDense(equation, shapes[equation])(inputs))
    with pytest.raises(TypeError, match="is not along the last axis only"):
        nengo_dl.Converter(model, allow_fallback=False)


def test_low_rank_updates_fall_back():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(3, lora_rank=1)(inputs))
    with pytest.raises(TypeError, match="low-rank"):
        nengo_dl.Converter(model, allow_fallback=False)


def test_called_for_one_and_for_several_positions(rng):
    """Shared weights, although one call alone would be another transform."""
    layer = layers.Dense(3, activation="relu")
    a, b = keras.Input((4,)), keras.Input((2, 4))
    converter = verified(keras.Model([a, b], [layer(a), layer(b)]), rng)
    with nengo_dl.Simulator(converter.net, progress_bar=False) as sim:
        sizes = [v.shape.num_elements() for v in sim.keras_model.trainable_weights]
    assert sum(sizes) == (4 + 1) * 3
