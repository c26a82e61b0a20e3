import keras
import nengo
import pytest
from keras import layers

import nengo_dl
from nengo_dl.converter import LayerConverter
from nengo_dl.converter.base import converters

from .models import randomized, verified


def test_several_inputs_and_outputs_in_mid_model(rng):
    a, b = keras.Input((3,), name="a"), keras.Input((2, 2), name="b")
    x = layers.Concatenate()([a, layers.Flatten()(b)])
    x = layers.Dense(4, activation="relu", name="x")(x)
    y = layers.Dense(2, name="y")(x)
    model = keras.Model({"a": a, "b": b}, {"y": y, "x": x, "a": a})
    converter = verified(model, rng)
    assert [node.label for node in converter.inputs.values()] == ["a", "b"]
    # the tensors of inputs and outputs are looked up among layers, too
    for tensor in (a, b):
        assert converter.layers[tensor] is converter.inputs[tensor]
    assert converter.layers[model.outputs[0]] is not None
    assert converter.outputs["y"] is converter.outputs[y]
    assert converter.inputs["b"] is converter.inputs[b]
    assert converter.layers["x"].ensemble.n_neurons == 4
    assert converter.layers[model.get_layer("y")] is converter.layers[y]


def test_models_inside_models(rng):
    innermost = keras.Sequential(
        [keras.Input((3,)), layers.Dense(3, activation="tanh"), layers.ReLU()]
    )
    x = keras.Input((3,))
    inner = keras.Model(x, [innermost(x), layers.Dense(3)(x)])
    inputs = keras.Input((3,))
    y, z = inner(inputs)
    y, _ = inner(layers.Add()([y, z]))
    converter = verified(keras.Model(inputs, [y, z]), rng)
    assert converter.outputs[z] in converter.net.probes


def test_one_output_twice(rng):
    x = keras.Input((3,))
    inner = keras.Model(x, [layers.Dense(3, name="a")(x), layers.Dense(2)(x)])
    inputs = keras.Input((3,))
    y, z = inner(inputs)
    model = keras.Model(inputs, [y, z, y])
    converter = nengo_dl.Converter(randomized(model, rng))
    assert converter.verify(atol=1e-6)
    assert len(converter.net.probes) == 2
    assert [id(tensor) for tensor in converter.outputs] == [id(y), id(z)]
    assert converter.outputs["a"] is converter.outputs[y]


def test_sequential(rng):
    model = keras.Sequential(
        [keras.Input((2, 3)), layers.Flatten(), layers.Dense(4, activation="relu")]
    )
    converter = verified(model, rng)
    assert converter.inputs[model.inputs[0]].size_out == 6


def test_double_precision(rng, allclose):
    inputs = keras.Input((3,), dtype="float64")
    x = layers.Dense(4, activation="tanh", dtype="float64")(inputs)
    model = randomized(keras.Model(inputs, x), rng)
    assert nengo_dl.Converter(model).verify(atol=1e-14, rtol=1e-12)


def test_data_are_for_the_inputs_of_the_model_only(rng, allclose):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2), layers.Rescaling(1, 2)])
    randomized(model, rng)
    converter = nengo_dl.Converter(model)
    x = rng.uniform(size=(2, 3)).astype("float32")
    with nengo_dl.Simulator(converter.net, minibatch_size=2, progress_bar=False) as sim:
        (found,) = sim.predict(x[:, None], verbose=0).values()
    assert allclose(found[:, 0], model.predict(x, verbose=0), atol=1e-6)


class Double(layers.Layer):
    def call(self, x):
        return 2 * x


def test_own_layer_falls_back_until_it_is_registered(rng):
    inputs = keras.Input((3,))
    model = keras.Model(inputs, layers.Dense(2)(Double(name="own")(inputs)))
    with pytest.warns(UserWarning, match="'own' .* no converter for Double"):
        verified(model, rng, native=False)
    try:

        @nengo_dl.Converter.register(Double)
        class ConvertDouble(LayerConverter):
            def convert(self):
                node = self.node(self.output_size)
                self.connect(node, 2.0)
                return node

        verified(model, rng)
        with pytest.raises(TypeError, match="axis 1 is the time"):
            nengo_dl.Converter(
                keras.Model(x := keras.Input((4, 3)), Double()(x)),
                allow_fallback=False,
                temporal_model=True,
            )
    finally:
        del converters._entries[Double]


def test_overridden_call_is_not_taken_for_the_original(rng):
    class Squared(layers.Dense):
        def call(self, x):
            return super().call(x) ** 2

    class Renamed(layers.Dense):
        pass

    inputs = keras.Input((3,))
    with pytest.warns(UserWarning, match="call method of its own"):
        verified(keras.Model(inputs, Squared(2)(inputs)), rng, native=False)
    assert nengo_dl.Converter(
        keras.Model(inputs, Renamed(2)(inputs)), allow_fallback=False
    ).verify(atol=1e-6)


def test_registering_something_else():
    with pytest.raises(TypeError, match="expected a subclass of"):
        nengo_dl.Converter.register(Double)(Double)
    with pytest.raises(TypeError, match="expected classes of Keras layers, got 'Dense'"):
        nengo_dl.Converter.register("Dense")


def test_layer_converters_of_earlier_versions_are_refused_when_registered():
    class Older(LayerConverter):
        def convert(self, node_id):
            """As it was in NengoDL 3."""

    with pytest.raises(TypeError, match=r"Older.convert\(self, node_id\) takes arg"):
        nengo_dl.Converter.register(Double)(Older)
    assert converters.exact(Double) is None


@pytest.mark.parametrize(
    "result, message",
    (
        (lambda self: self.node(5), "size 5 for an output of 'own'"),
        (lambda self: None, r"convert gave \[None\] for 'own'; expected a Nengo object"),
        (lambda self: [self.node(3)] * 2, "for each of its outputs, .* shapes .*3"),
    ),
)
def test_wrong_results_are_named(result, message):
    class ConvertWrongly(LayerConverter):
        def convert(self):
            return result(self)

    inputs = keras.Input((3,))
    model = keras.Model(inputs, Double(name="own")(inputs))
    nengo_dl.Converter.register(Double)(ConvertWrongly)
    try:
        with pytest.raises(ValueError, match=message):
            nengo_dl.Converter(model)
    finally:
        del converters._entries[Double]


def test_unknown_shapes():
    inputs = keras.Input((None, 3))
    with pytest.raises(ValueError, match="all axes but the first have to be known"):
        nengo_dl.Converter(keras.Model(inputs, layers.ReLU()(inputs)))
    inputs = keras.Input((3,))
    with pytest.raises(ValueError, match=r"expected \(batch, time"):
        nengo_dl.Converter(
            keras.Model(inputs, layers.ReLU()(inputs)), temporal_model=True
        )


def test_keys_without_effect_are_warned_of():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, layers.ReLU()(inputs))
    with pytest.warns(UserWarning, match=r"swap_activations\['tanh'\] had no effect"):
        nengo_dl.Converter(model, swap_activations={"tanh": nengo.LIF()})
    with pytest.warns(UserWarning, match=r"scale_firing_rates\['dense'\] had no"):
        nengo_dl.Converter(model, scale_firing_rates={"dense": 2})
