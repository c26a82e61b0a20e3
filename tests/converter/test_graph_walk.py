import keras
import pytest
import tensorflow as tf
from keras import layers

import nengo_dl
from nengo_dl.converter.graph_walk import Value, walk

from .models import verified


def paths(model):
    return [call.path for call in walk(model).calls]


def test_calls_come_after_what_they_need():
    inputs = keras.Input((3,))
    a = layers.Dense(3, name="a")(inputs)
    b = layers.Dense(3, name="b")(a)
    output = layers.Add(name="sum")([b, a, inputs])
    graph = walk(keras.Model(inputs, output))
    known = list(graph.inputs)
    for call in graph.calls:
        assert all(any(value is k for k in known) for value in call.inputs)
        known += call.outputs
    assert [call.path for call in graph.calls] == ["a", "b", "sum"]
    assert graph.outputs[0] is graph.calls[-1].outputs[0]


def test_models_inside_are_looked_into_each_time():
    innermost = keras.Sequential([keras.Input((3,)), layers.Dense(3, name="d")], name="s")
    x = keras.Input((3,))
    inner = keras.Model(x, innermost(x), name="m")
    inputs = keras.Input((3,))
    model = keras.Model(inputs, inner(inner(inputs)))
    assert paths(model) == ["m/s/d", "m/s/d"]
    graph = walk(model)
    assert graph.calls[1].inputs[0] is graph.calls[0].outputs[0]
    # the same array under all of its names
    assert any(inner.outputs[0] is tensor for tensor in graph.outputs[0].tensors)
    assert any(model.outputs[0] is tensor for tensor in graph.outputs[0].tensors)


def test_what_the_outputs_do_not_need_is_left_out():
    inputs = keras.Input((3,))
    layers.Dense(5, name="unused")(inputs)
    model = keras.Model(inputs, layers.Dense(2, name="used")(inputs))
    assert paths(model) == ["used"]


def test_apply_fills_in_tensors():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, (inputs * 2.0) - inputs)
    double, minus = walk(model).calls
    assert [type(v) for v in double.inputs] == [Value]
    (result,) = minus.apply([keras.ops.ones((1, 3)), keras.ops.zeros((1, 3))])
    assert result.numpy().tolist() == [[1, 1, 1]]


def test_model_with_a_call_of_its_own_stays_one_call():
    class Own(keras.Model):
        def __init__(self):
            super().__init__(name="own")
            self.dense = layers.Dense(2)

        def call(self, x):
            return self.dense(x)

    inputs = keras.Input((3,))
    assert paths(keras.Model(inputs, Own()(inputs))) == ["own"]
    with pytest.raises(TypeError, match="'own' is a Own, which is neither"):
        walk(Own())


def test_model_made_for_any_shape_stays_one_call():
    inner = keras.Sequential([keras.Input((None, 1)), layers.Conv1D(2, 3)], name="inner")
    inputs = keras.Input((6, 1))
    assert paths(keras.Model(inputs, inner(inputs))) == ["inner"]


@pytest.mark.parametrize("declared, given", (((3, 1), (3,)), ((3,), (3, 1))))
def test_models_inside_take_what_keras_takes(declared, given, rng):
    """An axis of length one more, or less, than was declared."""
    inner_inputs = keras.Input(declared)
    x = layers.Flatten(name="f")(inner_inputs)
    inner = keras.Model(inner_inputs, layers.Dense(2, name="d")(x), name="inner")
    inputs = keras.Input(given)
    model = keras.Model(inputs, inner(layers.ReLU(name="r")(inputs)))
    assert paths(model) == ["r", "inner/declared_shape", "inner/f", "inner/d"]
    verified(model, rng)


def test_models_without_a_graph_are_refused():
    with pytest.raises(ValueError, match="does not know the shape"):
        walk(keras.Sequential([layers.Dense(2)]))
    with pytest.raises(TypeError, match="expected a keras.Model"):
        walk(layers.Dense(2))


def test_shapes_that_keras_leaves_open_are_found_out():
    inputs = keras.Input((4, 2))
    x = layers.EinsumDense("abc,cd->abd", (None, 5))(inputs)
    model = keras.Model(inputs, layers.Dense(3)(x))
    assert model.output_shape == (None, None, 3)
    assert [c.outputs[0].shape[1:] for c in walk(model).calls] == [(4, 5), (4, 3)]


def test_shapes_that_nobody_knows_are_refused():
    def found(x):
        return tf.boolean_mask(x, [True, False, True], axis=1)[:, : tf.shape(x)[0]]

    inputs = keras.Input((3,))
    lambda_layer = layers.Lambda(found, output_shape=(None,), name="found")
    model = keras.Model(inputs, lambda_layer(inputs))
    with pytest.raises(ValueError, match="the layer 'found' has shape .None, None."):
        with pytest.warns(UserWarning, match="no converter for Lambda"):
            nengo_dl.Converter(model)


def test_other_arguments_are_kept_but_for_training():
    inputs = keras.Input((4, 3))
    x = layers.MultiHeadAttention(1, 2)(inputs, inputs, use_causal_mask=True)
    x = layers.Dropout(0.5)(x, training=True)
    attention, dropout = walk(keras.Model(inputs, x)).calls
    assert attention.kwargs["use_causal_mask"] is True
    assert "training" not in dropout.kwargs
