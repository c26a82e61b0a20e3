"""Firing rates from the activations that a model has on data."""

import warnings

import keras
import numpy as np

__all__ = ["rate_scales"]


def rate_scales(converter, data, percentile, rate):
    """See `Converter.calibrate`.

    Returns
    -------
    dict
        Layer -> factor.
    """
    if not 0 < percentile <= 100:
        raise ValueError(
            f"Converter.calibrate: percentile must be in (0, 100]; got {percentile!r}"
        )
    if not rate > 0:
        raise ValueError(f"Converter.calibrate: rate must be positive; got {rate!r}")
    highest = {}
    wanted = {id(call): call for call in converter.neuron_calls.values()}
    for call, outputs in _activations(converter, data):
        if id(call) not in wanted:
            continue
        (output,) = outputs
        value = float(
            np.percentile(np.abs(keras.ops.convert_to_numpy(output)), percentile)
        )
        layer = call.operation
        highest[layer] = max(value, highest.get(layer, 0))
    scales = {}
    for layer, value in highest.items():
        if value == 0:
            warnings.warn(
                f"Converter.calibrate: the layer {layer.name!r} is silent on these data; "
                "its firing rates are not scaled",
                stacklevel=3,
            )
        scales[layer] = rate / value if value else 1.0
    return scales


def _activations(converter, data):
    """Each call of a layer, with its outputs for the data."""
    graph = converter.graph
    arrays = keras.tree.flatten(data)
    if len(arrays) != len(graph.inputs):
        raise ValueError(
            f"Converter.calibrate: expected {len(graph.inputs)} inputs, got {len(arrays)}"
        )
    tensors = {
        value: keras.ops.convert_to_tensor(array, value.dtype)
        for value, array in zip(graph.inputs, arrays, strict=True)
    }
    for call in graph.calls:
        outputs = call.apply([tensors[value] for value in call.inputs])
        tensors.update(zip(call.outputs, outputs, strict=True))
        yield call, outputs
