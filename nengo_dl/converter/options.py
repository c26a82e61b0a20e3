"""The arguments of a `Converter`, checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import keras
from nengo.neurons import NeuronType
from nengo.synapses import Lowpass, Synapse

from nengo_dl.notices import warn

__all__ = ["Options"]


@dataclass
class Options:
    """What was chosen; see `Converter` for the meaning of each.

    Attributes
    ----------
    used : set
        Keys of ``swap_activations`` and ``scale_firing_rates`` that had an effect.
    warned : set
        What was warned of.
    """

    allow_fallback: bool = True
    inference_only: bool = False
    max_to_avg_pool: bool = False
    split_shared_weights: bool = False
    swap_activations: Mapping | None = None
    scale_firing_rates: Any = None
    synapse: Any = None
    temporal_model: bool = False
    used: set = field(default_factory=set)
    warned: set = field(default_factory=set)

    def __post_init__(self) -> None:
        swaps = self.swap_activations
        if swaps is not None and not isinstance(swaps, Mapping):
            raise TypeError(
                "Converter: swap_activations must be a dict with an activation, or its "
                f"name, for each neuron type; got {swaps!r}"
            )
        self.swap_activations = dict(swaps or {})
        for key, neurons in self.swap_activations.items():
            self.swap_activations[key] = _swap(key, neurons)
        self.synapse = _synapse(self.synapse)
        scales = self.scale_firing_rates
        self.scales = dict(scales) if isinstance(scales, Mapping) else {}
        self.scale = 1 if scales is None or isinstance(scales, Mapping) else scales
        for scale in (self.scale, *self.scales.values()):
            number = isinstance(scale, Real) and not isinstance(scale, bool)
            if not number or not 0 < scale < float("inf"):  # pyright: ignore[reportOperatorIssue]  # numbers.Real
                raise ValueError(
                    "Converter: scale_firing_rates must be a number greater than 0, or a "
                    f"dict with one for each layer; got {scale!r}"
                )

    def scale_of(self, layer: Any) -> float:
        """The factor by which the input of a layer's neurons is to be scaled."""
        for key, scale in self.scales.items():
            if key is layer or key == layer.name:
                self.used.add(id(key))
                return float(scale)
        return float(self.scale)

    def warn(self, text: str) -> None:
        """Warn, where the user's code calls this package; of each thing only once."""
        if text in self.warned:
            return
        self.warned.add(text)
        warn(text)

    def unused(self) -> Iterator[tuple[str, Any]]:
        """Keys that had no effect, as pairs (argument, key)."""
        for name in ("swap_activations", "scales"):
            for key in getattr(self, name):
                if id(key) not in self.used:
                    yield "scale_firing_rates" if name == "scales" else name, key


def _swap(key, value):
    """What takes the place of an activation: a neuron type, a function, or None."""
    try:
        known = value if isinstance(value, NeuronType) else keras.activations.get(value)
    except (TypeError, ValueError):
        known = type
    if isinstance(known, type):
        raise TypeError(
            f"Converter: swap_activations[{key!r}] must be a Nengo neuron type such as "
            "nengo.SpikingRectifiedLinear(), a Keras activation (or its name), or None; "
            f"got {value!r}"
        )
    return None if value is None else known


def _synapse(synapse):
    if synapse is None or isinstance(synapse, Synapse):
        return synapse
    if isinstance(synapse, Real) and not isinstance(synapse, bool):
        return Lowpass(float(synapse))
    raise TypeError(
        "Converter: synapse must be a Nengo synapse, the time constant of a lowpass "
        f"filter in seconds, or None; got {synapse!r}"
    )
