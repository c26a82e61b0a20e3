"""What is said where something cannot be converted, or is not what one may expect."""

import pickle

import keras
import nengo
import numpy as np
import pytest
from keras import layers

import nengo_dl
from nengo_dl import notices


def masked(length):
    inputs = keras.Input((length, 3))
    x = layers.LSTM(4)(layers.Masking(name="mask")(inputs))
    return keras.Model(inputs, x)


def embedded(length):
    inputs = keras.Input((length,), dtype="int32")
    x = layers.LSTM(4)(layers.Embedding(9, 4, mask_zero=True, name="mask")(inputs))
    return keras.Model(inputs, x)


@pytest.mark.parametrize("temporal", (False, True))
@pytest.mark.parametrize("make", (masked, embedded))
def test_masks_are_named_and_not_what_keras_adds_for_them(make, temporal):
    if make is embedded and temporal:
        return  # steps of an embedding have no axis
    with pytest.raises(TypeError, match="'mask' .* masks of time steps .*sample_weight"):
        nengo_dl.Converter(make(5), temporal_model=temporal)


@pytest.mark.parametrize(
    "layer, message",
    (
        (layers.LSTM(4, go_backwards=True), "go_backwards"),
        (layers.GRU(4, dropout=0.5), "inference_only=True leaves it out"),
        (layers.Bidirectional(layers.LSTM(4)), "no converter for Bidirectional"),
    ),
    ids=lambda value: getattr(value, "name", ""),
)
def test_advice_for_recurrent_layers_does_not_repeat_what_is_set(layer, message):
    inputs = keras.Input((5, 3))
    model = keras.Model(inputs, layer(inputs))
    with pytest.raises(TypeError, match=message) as error:
        nengo_dl.Converter(model, temporal_model=True)
    assert "TimeDistributed" not in str(error.value)
    assert "with temporal_model=True it runs" not in str(error.value)


def test_a_sequence_that_is_not_the_steps_of_the_simulation():
    inputs = keras.Input((5, 3))
    x = layers.Reshape((2, 2))(layers.LSTM(4)(inputs))
    model = keras.Model(inputs, layers.GRU(4, name="second")(x))
    with pytest.warns(UserWarning, match="'second' .*return_sequences=False"):
        nengo_dl.Converter(model, temporal_model=True)


def test_models_of_the_older_keras_are_named():
    older = type("Functional", (), {"__module__": "tf_keras.src.engine.functional"})
    for model in (older(), older):
        with pytest.raises(TypeError, match="a Functional of tf_keras, which is Keras 2"):
            nengo_dl.Converter(model)
    with pytest.raises(TypeError, match="expected a keras.Model, got the class Model"):
        nengo_dl.Converter(keras.Model)


# -- neurons that hardly ever spike ----------------------------------------------------


def warnings_of(net, recwarn):
    notices.forget()
    recwarn.clear()
    with nengo_dl.Simulator(net, progress_bar=False):
        pass
    return [str(w.message) for w in recwarn if "in a second" in str(w.message)]


@pytest.mark.parametrize(
    "neurons, options, slow",
    (
        (nengo.SpikingRectifiedLinear(), {}, True),
        (nengo.RegularSpiking(nengo.RectifiedLinear()), {}, True),
        (nengo.SpikingRectifiedLinear(), {"scale_firing_rates": 100}, False),
        (nengo.SpikingRectifiedLinear(), {"scale_firing_rates": {"first": 9}}, True),
        (nengo.LIF(), {}, False),  # silent at an activation of one, whatever the scale
        (nengo.RectifiedLinear(), {}, False),
    ),
    ids=str,
)
def test_spikes_that_are_few_are_announced_when_they_are_run(
    neurons, options, slow, rng, recwarn
):
    inputs = keras.Input((4,))
    x = layers.Dense(8, activation="relu", name="first")(inputs)
    x = layers.Dense(8, activation="relu", name="second")(x)
    model = keras.Model(inputs, layers.Dense(2)(x))
    swaps = {"relu": neurons}
    converter = nengo_dl.Converter(model, swap_activations=swaps, **options)
    assert not [w for w in recwarn if "in a second" in str(w.message)]
    found = warnings_of(converter.net, recwarn)
    assert len(found) == slow
    if slow:
        first = "'second'" if options else "'first' and 1 more"
        assert first in found[0] and "Converter.calibrate(data)" in found[0]
    converter.calibrate(np.abs(rng.uniform(size=(20, 4))))
    assert warnings_of(converter.net, recwarn) == []


# -- what conversions cost, and how they are shown ---------------------------------------


def pooling():
    inputs = keras.Input((4, 4, 1), name="image")
    x = layers.Flatten(name="flat")(layers.MaxPooling2D(name="pool")(inputs))
    return keras.Model(inputs, layers.Dense(2, "softmax", name="out")(x), name="cnn")


def test_what_averages_instead_of_maxima_cost_is_said():
    with pytest.warns(UserWarning, match="accuracy may be lost"):
        nengo_dl.Converter(pooling())
    with pytest.warns(UserWarning, match="not trained for.*Simulator.fit") as found:
        nengo_dl.Converter(pooling(), max_to_avg_pool=True)
    texts = [str(w.message) for w in found]
    assert sum("not trained for" in text for text in texts) == 1
    assert any("end in logits" in text for text in texts)


@pytest.mark.filterwarnings("ignore:Converter")
def test_a_softmax_of_its_own_is_answered_alike():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, layers.Activation("softmax")(inputs))
    with pytest.raises(TypeError, match="end in logits"):
        nengo_dl.Converter(model, allow_fallback=False)


@pytest.mark.filterwarnings("ignore:Converter")
def test_conversions_and_lookups_show_what_they_hold():
    converter = nengo_dl.Converter(pooling())
    assert repr(converter).startswith("<Converter of 'cnn': 3 layers, 2 with a Tensor")
    assert repr(converter.inputs) == "<KerasMapping of 1 inputs: 'image'>"
    assert "'image', 'pool', 'flat', 'out'" in repr(converter.layers)


@pytest.mark.filterwarnings("ignore:Converter")
def test_data_in_the_shape_of_the_model(rng, allclose):
    """Images of one step, and of several; other shapes are refused."""
    model = pooling()
    net = nengo_dl.Converter(model).net
    images = rng.uniform(size=(6, 4, 4, 1)).astype("float32")
    expected = model.predict(images, verbose=0)
    with nengo_dl.Simulator(net, minibatch_size=3, progress_bar=False) as sim:
        for x in (images, {"image": images}, images.reshape(6, 1, 16), images[:, None]):
            assert allclose(sim.predict(x)["probe"][:, 0], expected, atol=1e-6)
        moving = np.repeat(images[:, None], 4, axis=1)
        assert sim.predict(moving)["probe"].shape == (6, 4, 2)
        sim.compile("sgd", loss="mse")
        assert sim.evaluate(images, expected[:, None], verbose=0)["loss"] < 1e-10
        with pytest.raises(nengo.exceptions.ValidationError, match="expected"):
            sim.predict(images[:, :3])
    copied = pickle.loads(pickle.dumps(net.nodes[0]))
    assert copied.item_shape == (4, 4, 1)
