"""What became of each layer, as a table."""

from __future__ import annotations

from typing import Any

import numpy as np
from nengo.ensemble import Neurons

from nengo_dl.simulator.data import Table, table

__all__ = ["summary"]

HEADINGS = ("layer", "became", "neurons", "parameters", "why no native form")


def summary(converter: Any) -> Table:
    """See `Converter.summary`."""
    rows: list[tuple[str, ...]] = [HEADINGS]
    for done in converter.conversions:
        layer = done.call.operation
        rows.append(
            (
                f"{done.call.path} ({type(layer).__name__})",
                _became(done, converter),
                str(sum(n.size_out for n in _neurons(done, converter)) or "-"),
                str(_parameters(layer) or "-"),
                converter.why_fallback(done) or "",
            )
        )
    return Table(table(rows))


def _neurons(done, converter):
    """The neurons that one call of a layer (or of a layer inside it) became."""
    inside = f"{done.call.path}/"
    return [
        neurons
        for neurons, call in converter.neuron_calls.items()
        if call is done.call or call.path.startswith(inside)
    ]


def _parameters(layer):
    """Number of elements of all variables of a layer."""
    weights = getattr(layer, "weights", [])
    return sum(int(np.prod(weight.shape, dtype=int)) for weight in weights)


def _became(done, converter):
    """A word for the object that holds a layer's output."""
    if done.reason is not None:
        return "TensorNode"
    if converter.why_fallback(done):
        return "Node, TensorNode"
    obj = done.arrays[0].obj
    given = [id(converter.objects[value]) for value in done.call.inputs]
    if id(obj) in given:
        return "nothing (its input)"
    if isinstance(obj, Neurons):
        scale = converter.scales.get(obj, 1)
        name = type(obj.ensemble.neuron_type).__name__
        return name if scale == 1 else f"{name}, rates x {scale:g}"
    return type(obj).__name__
