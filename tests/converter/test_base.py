"""What layer converters have to hand."""

import keras
import nengo
import numpy as np
import pytest
from keras import layers

import nengo_dl
from nengo_dl.converter import LayerConverter
from nengo_dl.converter.base import Array, Target, converters, numbers
from nengo_dl.converter.graph_walk import LayerCall, Value
from nengo_dl.converter.making import Maker
from nengo_dl.converter.options import Options


class Identity(LayerConverter):
    """The output of a layer is its input."""

    def convert(self):
        return self.input.obj


@pytest.fixture
def made():
    """A function that gives a converter of one call, in an open network."""

    def make(shape_in, shape_out, temporal=False, cls=Identity, **options):
        layer = layers.Identity(name="layer")
        value = Value((None, *shape_in), "float32")
        output = Value((None, *shape_out), "float32")
        call = LayerCall(layer, (value,), {}, [output], "model/layer")
        shape = shape_in[1:] if temporal else shape_in
        node = nengo.Node(np.zeros(int(np.prod(shape, dtype=int))))
        maker = Maker(net, Options(**options), None)
        return cls(call, [Array(node, shape, temporal)], maker)

    with nengo.Network() as net:
        nengo_dl.configure_settings(trainable=None)
        yield make


def test_numbers():
    variable = keras.Variable(np.float32([1, 2]))
    for tensor in (variable, variable.value, [1, 2], np.array([1, 2])):
        found = numbers(tensor)
        assert found.dtype == np.float64 and found.tolist() == [1, 2]


def test_arrays():
    with nengo.Network():
        neurons = nengo.Ensemble(6, 1).neurons
        assert Array(neurons, (2, 3)).spikes and Array(neurons, (2, 3)).size == 6
        assert not Array(nengo.Node([0]), ()).spikes
        assert Array(nengo.Node([0]), ()).size == 1


def test_shapes_and_axes(made):
    converter = made((4, 5, 6), (4, 3))
    assert converter.output_shape == (4, 3) and converter.output_size == 12
    assert [converter.axis(a) for a in (0, 1, 3, -1, -3)] == [-1, 0, 2, 2, 0]
    assert converter.input.shape == (4, 5, 6) and not converter.temporal


def test_time_is_no_axis(made):
    converter = made((4, 5, 6), (4, 3), temporal=True)
    assert converter.temporal and converter.output_shape == (3,)
    assert [converter.axis(a) for a in (0, 1, 2, -1)] == [-2, -1, 0, 1]


def test_labels_are_unique(made):
    converter = made((2,), (2,))
    labels = [converter.node(2).label, converter.node(3).label]
    assert labels == ["model/layer", "model/layer_2"]
    assert converter.node(2, "sum").label == "model/layer.sum"


def test_targets(made):
    converter = made((2,), (3,), swap_activations={"tanh": nengo.LIFRate()})
    plain = converter.target()
    assert plain.input is plain.output and plain.input.size_in == 3
    neurons = converter.target(keras.activations.relu, size=4).output
    assert neurons.ensemble.n_neurons == 4
    assert neurons.ensemble.neuron_type == nengo.RectifiedLinear()
    swapped = converter.target(keras.activations.tanh).output
    assert swapped.ensemble.neuron_type == nengo.LIFRate()


def test_connections(made):
    converter = made((2,), (3,))
    target = converter.node(3)
    kernel = keras.Variable(np.ones((3, 2)), name="kernel")
    frozen = keras.Variable(np.ones((3, 2)), name="frozen", trainable=False)
    config = converter.maker.net.config
    fixed = converter.connect(target, np.ones((3, 2)))
    trained = converter.connect(Target(target, target), np.ones((3, 2)), variable=kernel)
    kept = converter.connect(target, np.ones((3, 2)), variable=frozen)
    assert [config[c].trainable for c in (fixed, trained, kept)] == [False, True, False]
    assert all(c.pre is converter.input.obj and c.synapse is None for c in (fixed, kept))
    other = converter.node(3)
    assert converter.connect(target, source=other).pre is other
    assert trained.label == "model/layer.kernel"


def test_rearranging_and_biases(made, allclose):
    converter = made((2, 3), (3, 2))
    converter.input.obj.output = np.arange(6.0)
    assert converter.positions().tolist() == [[0, 1, 2], [3, 4, 5]]
    assert converter.channels_of(-1).tolist() == [0, 1, 0, 1, 0, 1]
    assert converter.channels_of(0, (2, 2)).tolist() == [0, 0, 1, 1]
    turned = converter.rearrange(converter.positions().T)
    bias = keras.Variable(np.float32([10, 20]), name="bias")
    converter.add_bias(turned, bias, converter.channels_of(-1))
    converter.add_bias(turned, np.full((3, 2), 100.0))
    probe = nengo.Probe(turned)
    with nengo.Simulator(converter.maker.net, progress_bar=False) as sim:
        sim.step()
    assert allclose(sim.data[probe][0], [110, 123, 111, 124, 112, 125])
    trained = [
        c.label
        for c in converter.maker.net.connections
        if converter.maker.net.config[c].trainable
    ]
    assert trained == ["model/layer.bias"]


def test_what_is_missing_is_named(made):
    class Own(keras.layers.Layer):
        """A layer without a converter."""

    with pytest.raises(TypeError, match=r"Incomplete has no method convert\(\), which"):

        @nengo_dl.Converter.register(Own)
        class Incomplete(LayerConverter):
            """Does not say what becomes of the layer."""

    assert converters.exact(Own) is None

    assert made((2,), (2,)).refusal() is None


def test_all_converters_are_complete():
    """Each is a class with a docstring, for layers, or for operations without a name."""
    assert len(converters) > 50
    for cls, converter in converters.items():
        assert issubclass(cls, keras.Operation), cls
        assert issubclass(converter, LayerConverter) and converter.__doc__, converter
        assert converter.convert is not LayerConverter.convert, converter
