"""Small Keras models, and running a network that was made of one."""

import keras
import numpy as np

import nengo_dl


def randomized(model, rng):
    """Give all variables of a model random values, positive where they are variances."""
    for variable in model.variables:
        if "seed" not in variable.path:
            value = rng.uniform(-1, 1, size=variable.shape)
            variable.assign(np.abs(value) if "variance" in variable.path else value)
    return model


def outputs_of(converter, arrays, n_steps=1):
    """What the network gives for arrays ``(items, …)``, in the order of the model."""
    arrays = arrays if isinstance(arrays, list) else [arrays]
    inputs = keras.tree.flatten(converter.model.inputs)
    data = {
        converter.inputs[tensor]: np.repeat(x.reshape(len(x), 1, -1), n_steps, axis=1)
        for tensor, x in zip(inputs, arrays, strict=True)
    }
    with nengo_dl.Simulator(
        converter.net, minibatch_size=len(arrays[0]), progress_bar=False, seed=0
    ) as sim:
        found = sim.predict(data, verbose=0)
    return [found[converter.outputs[tensor]] for tensor in converter.model.outputs]


def verified(model, rng, training=True, native=True, **options):
    """Convert a model, and compare with Keras, also after training."""
    randomized(model, rng)
    converter = nengo_dl.Converter(model, allow_fallback=not native, **options)
    assert converter.verify(atol=1e-6)
    if training:
        assert converter.verify(training=True, atol=1e-6)
    return converter
