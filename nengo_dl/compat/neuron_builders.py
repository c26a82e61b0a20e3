"""Where packages that were written for NengoDL 3 register neuron types.

``nengo_loihi`` and ``nengo_extras`` write classes of their own into
``SimNeuronsBuilder.TF_NEURON_IMPL``. These classes belonged to another way of simulating;
they are remembered and never called. Neuron types that NengoDL knows run natively
(`nengo_loihi.neurons.LoihiLIF` and ``LoihiSpikingRectifiedLinear`` are among them), all
others as Python, with a warning. How to give a type of your own a native form is on the
page "Your own objects" of the manual.

Examples
--------
>>> from nengo_dl import neuron_builders
>>> class MyBuilder(neuron_builders.LIFBuilder):
...     pass
>>> neuron_builders.SimNeuronsBuilder.TF_NEURON_IMPL[nengo.LIF] = MyBuilder
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "LIFBuilder",
    "LIFRateBuilder",
    "RectifiedLinearBuilder",
    "SimNeuronsBuilder",
    "SpikingRectifiedLinearBuilder",
]


class _OlderBuilder:
    """A name of NengoDL 3 that other classes may derive from, and that nothing calls."""

    def __init__(self, *args: Any, **kwargs: Any):
        raise TypeError(
            f"{type(self).__name__}: the classes in nengo_dl.neuron_builders belonged to "
            "NengoDL 3 and compute nothing any more. Write a subclass of "
            "nengo_dl.builder.NeuronKernel instead; docs/extending.rst has an example"
        )


class SimNeuronsBuilder(_OlderBuilder):
    """What built neurons in NengoDL 3.

    Attributes
    ----------
    TF_NEURON_IMPL : dict
        Neuron type -> what was registered for it; has no effect.
    """

    TF_NEURON_IMPL: dict[type, Any] = {}


class RectifiedLinearBuilder(_OlderBuilder):
    """What built `nengo.RectifiedLinear` in NengoDL 3."""


class SpikingRectifiedLinearBuilder(_OlderBuilder):
    """What built `nengo.SpikingRectifiedLinear` in NengoDL 3."""


class LIFRateBuilder(_OlderBuilder):
    """What built `nengo.LIFRate` in NengoDL 3."""


class LIFBuilder(_OlderBuilder):
    """What built `nengo.LIF` in NengoDL 3."""
