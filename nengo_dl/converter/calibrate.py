"""Firing rates from the activations that a model has on data."""

from __future__ import annotations

from numbers import Real
from typing import Any

import keras
import numpy as np

from nengo_dl.converter.graph_walk import Value, calls_of

__all__ = ["rate_scales"]

#: number of samples that go through the model at once
BATCH = 64


def rate_scales(
    converter: Any, data: Any, percentile: float, rate: float
) -> dict[Any, Any]:
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
    if not isinstance(rate, Real) or not 0 < rate < float("inf"):
        raise ValueError(f"Converter.calibrate: rate must be positive; got {rate!r}")
    graph, arrays = converter.graph, _arrays(converter, data)
    wanted = {id(call.operation) for call in converter.neuron_calls.values()}
    activations = {}
    for first in range(0, len(arrays[0]), BATCH):
        tensors = {
            value: keras.ops.convert_to_tensor(array[first : first + BATCH], value.dtype)
            for value, array in zip(graph.inputs, arrays, strict=True)
        }
        for number, (layer, outputs) in enumerate(_run(graph.calls, tensors)):
            if id(layer) in wanted:
                output = np.abs(keras.ops.convert_to_numpy(outputs[0]))
                if number not in activations:
                    size = output.size // len(tensors[graph.inputs[0]]) * len(arrays[0])
                    activations[number] = layer, Largest(size, percentile)
                activations[number][1].add(output)
    highest = {}
    for layer, largest in activations.values():
        highest[layer] = max(largest.percentile(), highest.get(layer, 0))
    for layer, value in highest.items():
        if value == 0:
            converter.options.warn(
                f"Converter.calibrate: the layer {layer.name!r} is silent on these data; "
                "its firing rates are not scaled"
            )
    return {layer: rate / value if value else 1.0 for layer, value in highest.items()}


class Largest:
    """A percentile of numbers that come in parts; keeps only those that it depends on.

    Parameters
    ----------
    count : int
        How many numbers there will be.
    """

    def __init__(self, count: int, percentile: float):
        position = (count - 1) * percentile / 100  # among all numbers, in order
        self.fraction = position - int(position)
        self.n_kept = count - int(position)
        self.kept = np.zeros(0)

    def add(self, numbers: np.ndarray) -> None:
        """Keep the largest ones of these numbers and of those before."""
        numbers = np.concatenate([self.kept, np.ravel(numbers)])
        if numbers.size > self.n_kept:
            numbers = np.partition(numbers, -self.n_kept)[-self.n_kept :]
        self.kept = numbers

    def percentile(self) -> float:
        """The percentile, interpolated between two numbers as NumPy does."""
        low, *above = np.sort(self.kept)[:2]
        return float(low + self.fraction * (above[0] - low) if above else low)


def _arrays(converter, data):
    """The data of each input."""
    arrays = converter.inputs.arrays(data, "Converter.calibrate")
    lengths = {len(array) for array in arrays}
    if len(lengths) > 1 or lengths == {0}:
        raise ValueError(
            "Converter.calibrate: expected equally many samples of all inputs, at least "
            f"one; got {[len(array) for array in arrays]}"
        )
    return arrays


def _run(calls, tensors):
    """Make calls; each layer that is called, with its outputs.

    ``calls``: list of LayerCall. ``tensors``: value -> tensor. Outputs are added.
    """
    for call in calls:
        inputs = [tensors[value] for value in call.inputs]
        layer = call.operation
        if isinstance(layer, keras.layers.TimeDistributed) and len(inputs) == 1:
            yield from _run_inside(call, inputs[0])
        outputs = call.apply(inputs)
        tensors.update(zip(call.outputs, outputs, strict=True))
        yield layer, outputs


def _run_inside(call, tensor):
    """The layers inside a TimeDistributed layer, with the entries as a batch."""
    shape = tuple(tensor.shape)[2:]
    value = Value((None, *shape), call.inputs[0].dtype)
    calls, _ = calls_of(call.operation.layer, value, call.path)
    yield from _run(calls, {value: keras.ops.reshape(tensor, (-1, *shape))})
