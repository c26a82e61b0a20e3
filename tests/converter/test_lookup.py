import keras
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
