import keras
import numpy as np
import pytest

from nengo_dl.converter.lookup import KerasMapping


def test_lookup():
    layer, other = keras.layers.ReLU(name="a"), keras.layers.ReLU(name="b")
    tensor = keras.Input((2,))
    mapping = KerasMapping("layers")
    mapping.add("first", layer, (tensor, "a"))
    assert (
        mapping[layer] == mapping[tensor] == mapping["a"] == mapping[[tensor]] == "first"
    )
    assert list(mapping) == [layer] and len(mapping) == 1
    assert layer in mapping and other not in mapping
    with pytest.raises(KeyError, match="none of the layers of this model: 'a'"):
        mapping[other]
    with pytest.raises(KeyError, match="expected a Keras layer"):
        mapping[3]


def test_what_is_used_twice_is_looked_up_by_tensor():
    layer = keras.layers.ReLU(name="a")
    tensors = [keras.Input((2,)), keras.Input((2,))]
    mapping = KerasMapping("layers")
    for name, tensor in zip("xy", tensors, strict=True):
        mapping.add(name, layer, (tensor,))
    assert mapping[tensors[1]] == "y"
    with pytest.raises(KeyError, match="used 2 times"):
        mapping[layer]


def test_names_of_a_model():
    a, b = keras.Input((2,), name="a"), keras.Input((2,), name="b")
    mapping = KerasMapping("inputs")
    mapping.add("x", a, ("a",))
    mapping.add("y", b, ("b",))
    mapping.add_names([a, b])
    mapping.add_names({"b": a, "c": b})  # which names the model knows them by
    assert [mapping[name] for name in "abc"] == ["x", "x", "y"]
    assert list(mapping) == [a, b]


def test_arrays_in_the_order_of_the_mapping():
    tensors = [keras.Input((2,), name=name) for name in ("b", "a")]
    mapping = KerasMapping("inputs")
    for tensor in tensors:
        mapping.add(object(), tensor, (tensor.name,))
    one, two = np.ones((1, 2)), np.zeros((1, 2))
    for data in ([one, two], {"a": two, "b": one}, dict(zip(tensors, [one, two]))):
        found = mapping.arrays(data, "here")
        assert found[0] is one and found[1] is two
    for data, number in (([one], 1), ({"a": two}, 1), ([one] * 3, 3)):
        with pytest.raises(ValueError, match=f"here: expected 2 inputs, got {number}"):
            mapping.arrays(data, "here")
    with pytest.raises(KeyError, match="'c' is none of the inputs"):
        mapping.arrays({"a": two, "c": one}, "here")
