import keras
import pytest
from keras import layers

import nengo_dl
from tests.converter.family_checks import compare_outputs


def test_left_out_for_inference(rng, allclose):
    choices = [
        layers.Dropout(0.5),
        layers.SpatialDropout1D(0.5),
        layers.GaussianNoise(1.0),
        layers.GaussianDropout(0.5),
        layers.AlphaDropout(0.5),
        layers.Identity(),
    ]
    inputs = keras.Input((2, 3))
    model = keras.Model(inputs, [layer(inputs) for layer in choices])
    converter = nengo_dl.Converter(model, allow_fallback=False, inference_only=True)
    assert len(converter.net.all_nodes) == 1
    compare_outputs(
        [layers.Dropout(0.5), layers.Identity()],
        (2, 3),
        rng,
        allclose,
        inference_only=True,
    )


def test_active_in_training_falls_back():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, layers.Dropout(0.5)(inputs))
    with pytest.warns(UserWarning, match="inference_only=True leaves it out"):
        converter = nengo_dl.Converter(model)
    assert converter.verify()
    model = keras.Model(inputs, layers.Dropout(0)(inputs))
    assert nengo_dl.Converter(model, allow_fallback=False).verify()


def test_activity_regularization_is_nothing_but_a_loss():
    """With any layer that is left out; what is lost is tested in test_penalties.py."""
    inputs = keras.Input((3,))
    model = keras.Model(inputs, layers.ActivityRegularization(l1=0.1)(inputs))
    converter = nengo_dl.Converter(model, allow_fallback=False)
    assert converter.layers[model.outputs[0]] is converter.inputs[inputs]
    assert converter.verify()
