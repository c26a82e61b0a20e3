"""Comparing many layers of a family with Keras, in one network; those without a form."""

import keras
import numpy as np
import pytest

import nengo_dl


def randomize(model, rng):
    """Random weights, the same ones each time."""
    for variable in model.variables:
        variable.assign(rng.uniform(-1, 1, size=variable.shape))


def model_of(layers, shape, rng):
    """A model with one input and an output for each layer, with random weights."""
    inputs = keras.Input(shape)
    model = keras.Model(inputs, [layer(inputs) for layer in layers])
    randomize(model, rng)
    return model


def compare_outputs(layers, shape, rng, allclose, reference=None, **options):
    """Convert layers that read one input; all have to be native, and give the same.

    Parameters
    ----------
    layers : list of keras.layers.Layer
    shape : tuple of int
        Of the input, without the batch.
    rng : numpy.random.RandomState
    allclose : callable
    reference : list of keras.layers.Layer, optional
        Layers with the right outputs, where it is not those of ``layers``.
    **options
        For the Converter.
    """
    model = model_of(layers, shape, rng)
    x = rng.uniform(-1, 1, size=(3, *shape)).astype("float32")
    with_outputs = model if reference is None else model_of(reference, shape, rng)
    expected = with_outputs.predict(x, verbose=0)
    expected = expected if isinstance(expected, list) else [expected]
    converter = nengo_dl.Converter(model, allow_fallback=False, **options)
    with nengo_dl.Simulator(
        converter.net, minibatch_size=len(x), progress_bar=False
    ) as sim:
        found = sim.predict({converter.inputs[model.input]: x.reshape(len(x), 1, -1)})
    for layer, tensor, y in zip(layers, model.outputs, expected, strict=True):
        result = found[converter.outputs[tensor]].reshape(y.shape)
        assert np.ptp(y) > 0, layer.get_config()
        assert allclose(result, y, atol=1e-5, rtol=1e-5), layer.get_config()


def check_fallback(model, rng, reason, warning="becomes a TensorNode"):
    """A model without a native form is refused, or left to Keras with a warning.

    Parameters
    ----------
    model : keras.Model
        With one input.
    rng : numpy.random.RandomState
    reason, warning : str
        What the error and the warning say.
    """
    with pytest.raises(TypeError, match=reason):
        nengo_dl.Converter(model, allow_fallback=False)
    with pytest.warns(UserWarning, match=warning):
        converter = nengo_dl.Converter(model)
    converter.verify(inputs=rng.uniform(size=(2, *model.input_shape[1:])))
