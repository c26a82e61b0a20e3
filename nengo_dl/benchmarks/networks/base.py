"""What all networks to measure on are made with, and where they make themselves known.

A builder is a function that returns a `nengo.Network` with the attributes ``inp``, its
input node, and ``p`` (also ``probe``), the probe of its output. The input is a signal
that changes all the time: a network that is fed with zeros spends its time differently,
and its output says nothing about whether it was computed correctly.

`BUILDERS` has all of them by name. `CASES` are builders with sizes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import nengo
import numpy as np
from nengo.exceptions import ValidationError
from nengo.neurons import NeuronType

from nengo_dl.benchmarks.timing import chosen_names

LIF = nengo.LIF()
"""The neurons of all builders, unless they are told otherwise."""

SEED = 1
"""All networks are built with it, so each is the same every time."""

PROBE_SYNAPSE = 0.01
"""Seconds: time constant of the filter on the probed outputs."""

BUILDERS: dict[str, Callable[..., nengo.Network]] = {}
"""All builders, by name."""


@dataclasses.dataclass(frozen=True)
class Case:
    """A builder and the sizes to build with.

    Calling it builds the network; keyword arguments replace some of the sizes.

    Parameters
    ----------
    builder : callable
        One of ``BUILDERS``, or any function that returns a network with the attributes
        ``inp`` and ``p``.
    sizes : dict
        Keyword arguments for it.
    everywhere : bool
        Whether all backends can run it; a `.TensorNode` runs here only.

    Examples
    --------
    >>> from nengo_dl.benchmarks import CASES
    >>> net = CASES["integrator16"](neuron_type=nengo.LIFRate())
    """

    builder: Callable[..., nengo.Network]
    sizes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    everywhere: bool = True

    def __call__(self, **sizes: Any) -> nengo.Network:
        """Build the network of this case, perhaps with other sizes."""
        return self.builder(**{**self.sizes, **sizes})


CASES: dict[str, Case] = {}
"""Networks with standard sizes, by name."""

DEFAULT = ("chain", "integrator16", "integrator128", "convolution16", "convolution128")
DEFAULT += ("action16", "learner4", "learner64", "web20", "web100")
"""The networks that are measured unless others are named, from simple to complicated."""


def builder(function: Callable[..., nengo.Network]) -> Callable[..., nengo.Network]:
    """Decorator: make a builder known by its name.

    Parameters
    ----------
    function : callable
        Returns a network; see the top of this module.
    """
    BUILDERS[function.__name__] = function
    return function


def case(name: str, everywhere: bool = True, **sizes: Any) -> Callable:
    """Decorator: make a builder with certain sizes known by another name.

    Parameters
    ----------
    name : str
    everywhere : bool
        See `Case`.
    **sizes
        Keyword arguments of the builder.
    """

    def register(function):
        CASES[name] = Case(function, sizes, everywhere)
        return function

    return register


def chosen_cases(
    names: Iterable[str] | None = None, default: Iterable[str] = DEFAULT
) -> dict[str, Case]:
    """The standard networks of these names; None: those measured by default.

    Parameters
    ----------
    names, default : iterable of str
        See `.timing.chosen_names`.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If a name is unknown.
    """
    names = chosen_names("networks", names, CASES, default)
    return {name: CASES[name] for name in names}


class Waves:
    r"""A smooth function of time, one sine per dimension.

    .. math:: u_i(t) = \sin\left(2 \pi (f_i t + \phi_i)\right), \quad
       f_i = f_{min} + (f_{max} - f_{min}) (i g \bmod 1)

    The frequencies and the phases :math:`\phi_i = i \sqrt{2} \bmod 1` (in turns) are
    spread evenly, whatever the number of dimensions is, because the golden ratio
    :math:`g` and :math:`\sqrt 2` are irrational. No two dimensions are alike.

    Parameters
    ----------
    dimensions : int
        Number of dimensions.
    frequencies : tuple of float
        Lowest and highest frequency, in Hz.

    Examples
    --------
    >>> with nengo.Network():
    ...     node = nengo.Node(Waves(16))
    >>> node.size_out
    16
    """

    def __init__(self, dimensions: int, frequencies: tuple[float, ...] = (1.0, 5.0)):
        low, high = frequencies
        index = np.arange(1, dimensions + 1)
        golden = (1 + np.sqrt(5)) / 2
        self.angular = 2 * np.pi * (low + (high - low) * (index * golden % 1))
        self.phase = 2 * np.pi * (index * np.sqrt(2) % 1)

    def __call__(self, t: float) -> np.ndarray:
        """The values at time ``t`` (seconds), an array of shape ``(dimensions,)``."""
        return np.sin(self.angular * t + self.phase)


def count(what: str, value: float, least: int = 1) -> int:
    """Round a size to an integer, and check it."""
    rounded = int(round(value))
    if rounded < least:
        raise ValidationError(f"must be at least {least}; got {value!r}", attr=what)
    return rounded


def counts(**values: Any) -> tuple[int, ...]:
    """Several sizes as integers, checked, in the order of the arguments."""
    return tuple(count(what, value) for what, value in values.items())


def sizes_of(dimensions: int, neurons_per_d: int) -> tuple[int, int]:
    """Number of dimensions, and of neurons in an ensemble that has all of them."""
    dimensions = count("dimensions", dimensions)
    return dimensions, count("neurons_per_d", neurons_per_d * dimensions)


def network(name: str, neuron_type: NeuronType, source: Any, **sizes: Any) -> Any:
    """A network with a seed, whose ensembles have these neurons, and its input node.

    ``source``: how many dimensions of `Waves` the input has; or what else its node puts
    out. ``**sizes``: for the label.
    """
    described = ", ".join(f"{key}={value}" for key, value in sizes.items())
    with nengo.Network(label=f"{name}({described})", seed=SEED) as net:
        net.config[nengo.Ensemble].neuron_type = neuron_type
        output = Waves(source) if isinstance(source, int) else source
        net.inp = nengo.Node(output, label="inp")
    return net


def probed(net: nengo.Network, obj: Any) -> nengo.Network:
    """Probe the output of a network."""
    with net:
        net.p = net.probe = nengo.Probe(obj, synapse=PROBE_SYNAPSE, label="p")
    return net
