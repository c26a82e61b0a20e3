"""Networks to measure simulators on.

Each builder returns a `nengo.Network` with the attributes ``inp``, the input node, and
``p`` (also ``probe``), the probe of its output. The input is a signal that changes all
the time: a network that is fed with zeros spends its time differently, and its output
says nothing about whether it was computed correctly.

`CASES` are the builders with the sizes that are measured by default.
"""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import nengo
import numpy as np
from nengo.exceptions import ValidationError

LIF = nengo.LIF()
"""The neurons of all builders, unless they are told otherwise."""

SEED = 1
"""All networks are built with it, so each is the same every time."""

PROBE_SYNAPSE = 0.01
"""Seconds: time constant of the filter on the probed outputs."""


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
    >>> nengo.Node(Waves(16))
    """

    def __init__(self, dimensions, frequencies=(1.0, 5.0)):
        low, high = frequencies
        index = np.arange(1, dimensions + 1)
        golden = (1 + np.sqrt(5)) / 2
        self.angular = 2 * np.pi * (low + (high - low) * (index * golden % 1))
        self.phase = 2 * np.pi * (index * np.sqrt(2) % 1)

    def __call__(self, t):
        """The values at time ``t`` (seconds), an array of shape ``(dimensions,)``."""
        return np.sin(self.angular * t + self.phase)


def _count(what, value, least=1):
    """Round a size to an integer, and check it."""
    rounded = int(round(value))
    if rounded < least:
        raise ValidationError(f"must be at least {least}; got {value!r}", attr=what)
    return rounded


def _sizes(dimensions, neurons_per_d):
    """Number of dimensions, and of neurons in an ensemble that has all of them."""
    dimensions = _count("dimensions", dimensions)
    return dimensions, _count("neurons_per_d", neurons_per_d * dimensions)


def _network(name, neuron_type, **sizes):
    """An empty network with a seed, whose ensembles have these neurons."""
    described = ", ".join(f"{key}={value}" for key, value in sizes.items())
    net = nengo.Network(label=f"{name}({described})", seed=SEED)
    net.config[nengo.Ensemble].neuron_type = neuron_type
    return net


def _probe(net, obj):
    """Probe the output of a network."""
    with net:
        net.p = net.probe = nengo.Probe(obj, synapse=PROBE_SYNAPSE, label="p")
    return net


def chain(dimensions=1, neurons_per_d=100, neuron_type=LIF, n_ensembles=2):
    """Ensembles in a row, each of which passes on the square of what it represents.

    The smallest network of the set: the time it takes is overhead.

    Parameters
    ----------
    dimensions : int
        Dimensions of every ensemble.
    neurons_per_d : float
        Neurons per dimension; an ensemble has ``neurons_per_d * dimensions``, rounded.
    neuron_type : ~nengo.neurons.NeuronType
        Neurons of all ensembles.
    n_ensembles : int
        Length of the row.

    Returns
    -------
    ~nengo.Network
        With ``inp`` and ``p`` of ``dimensions`` dimensions.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If a size is less than 1.

    Examples
    --------
    >>> net = chain(dimensions=2, neurons_per_d=50, n_ensembles=5)
    """
    dimensions, neurons = _sizes(dimensions, neurons_per_d)
    n_ensembles = _count("n_ensembles", n_ensembles)
    with _network("chain", neuron_type, d=dimensions, n=n_ensembles) as net:
        net.inp = nengo.Node(Waves(dimensions), label="inp")
        row = [nengo.Ensemble(neurons, dimensions) for _ in range(n_ensembles)]
        nengo.Connection(net.inp, row[0])
        for pre, post in zip(row, row[1:], strict=False):
            nengo.Connection(pre, post, function=np.square)
    return _probe(net, row[-1])


def integrator(dimensions, neurons_per_d, neuron_type=LIF):
    """Integrators, one ensemble per dimension, that feed back to themselves.

    Parameters
    ----------
    dimensions : int
        Number of ensembles, each of one dimension.
    neurons_per_d : float
        Neurons in each of them, rounded.
    neuron_type : ~nengo.neurons.NeuronType
        Neurons of all ensembles.

    Returns
    -------
    ~nengo.Network
        With ``inp`` and ``p`` of ``dimensions`` dimensions.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If a size is less than 1.
    """
    dimensions = _count("dimensions", dimensions)
    neurons = _count("neurons_per_d", neurons_per_d)
    feedback = 0.1  # seconds: the longer the time constant, the less it drifts
    with _network("integrator", neuron_type, d=dimensions, n=neurons) as net:
        net.inp = nengo.Node(Waves(dimensions), label="inp")
        array = nengo.networks.EnsembleArray(neurons, dimensions)
        # an input u adds `feedback * u` through the filter, so the value grows by u
        # per second; the factor 5 makes use of the range of the neurons
        nengo.Connection(net.inp, array.input, transform=5 * feedback, synapse=feedback)
        nengo.Connection(array.output, array.input, synapse=feedback)
    return _probe(net, array.output)


def cconv(dimensions, neurons_per_d, neuron_type=LIF):
    """Circular convolution of a vector that changes with one that does not.

    Parameters
    ----------
    dimensions : int
        Dimensions of the vectors.
    neurons_per_d : float
        Neurons for each product of two numbers, rounded; there are about two products
        per dimension, and each has two ensembles that share its neurons.
    neuron_type : ~nengo.neurons.NeuronType
        Neurons of all ensembles.

    Returns
    -------
    ~nengo.Network
        With ``inp`` and ``p`` of ``dimensions`` dimensions, and ``other``, the node of
        the constant vector.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If a size is less than 1.

    Examples
    --------
    >>> net = cconv(dimensions=16, neurons_per_d=50, neuron_type=nengo.LIF())
    """
    dimensions = _count("dimensions", dimensions)
    neurons = _count("neurons_per_d", neurons_per_d)
    with _network("cconv", neuron_type, d=dimensions, n=neurons) as net:
        net.inp = nengo.Node(Waves(dimensions), label="inp")
        constant = np.random.RandomState(SEED).standard_normal(dimensions)
        net.other = nengo.Node(constant / np.linalg.norm(constant), label="other")
        product = nengo.networks.CircularConvolution(neurons, dimensions)
        # sines have a mean square of 1/2; this makes the vector about one unit long
        nengo.Connection(net.inp, product.input_a, transform=np.sqrt(2 / dimensions))
        nengo.Connection(net.other, product.input_b)
    return _probe(net, product.output)


def basal_ganglia(dimensions, neurons_per_d, neuron_type=LIF):
    """Action selection: basal ganglia and thalamus, one dimension per action.

    Parameters
    ----------
    dimensions : int
        Number of actions.
    neurons_per_d : float
        Neurons per ensemble, rounded; there are six ensembles per action.
    neuron_type : ~nengo.neurons.NeuronType
        Neurons of all ensembles.

    Returns
    -------
    ~nengo.Network
        With ``inp`` (how good each action is, from 0 to 1) and ``p`` (about 1 for the
        action selected, 0 for the others).

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If a size is less than 1.
    """
    actions = _count("dimensions", dimensions)
    neurons = _count("neurons_per_d", neurons_per_d)
    with _network("basal_ganglia", neuron_type, d=actions, n=neurons) as net:
        net.inp = nengo.Node(Waves(actions), label="inp")
        selection = nengo.networks.BasalGanglia(actions, neurons)
        thalamus = nengo.networks.Thalamus(actions, neurons)
        middle = nengo.Node(np.full(actions, 0.5), label="middle")
        nengo.Connection(net.inp, selection.input, transform=0.5, synapse=None)
        nengo.Connection(middle, selection.input, synapse=None)
        nengo.Connection(selection.output, thalamus.input)
    return _probe(net, thalamus.output)


def pes(dimensions, neurons_per_d, neuron_type=LIF):
    """One ensemble that learns online, with PES, to pass its input on.

    Parameters
    ----------
    dimensions : int
        Dimensions of the input.
    neurons_per_d : float
        Neurons per dimension; the ensemble has ``neurons_per_d * dimensions``, rounded.
    neuron_type : ~nengo.neurons.NeuronType
        Neurons of the ensemble.

    Returns
    -------
    ~nengo.Network
        With ``inp`` and ``p`` (what the learned connection gives) of ``dimensions``
        dimensions.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If a size is less than 1.
    """
    dimensions, neurons = _sizes(dimensions, neurons_per_d)
    with _network("pes", neuron_type, d=dimensions, n=neurons) as net:
        net.inp = nengo.Node(Waves(dimensions), label="inp")
        pre = nengo.Ensemble(neurons, dimensions, radius=np.sqrt(dimensions))
        output = nengo.Node(size_in=dimensions, label="output")
        nengo.Connection(net.inp, pre)
        learned = nengo.Connection(
            pre,
            output,
            function=np.negative,  # to begin with it does the opposite
            learning_rule_type=nengo.PES(learning_rate=5e-3),
        )
        # the error: what it gives, less what it should give
        nengo.Connection(output, learned.learning_rule)
        nengo.Connection(net.inp, learned.learning_rule, transform=-1)
    return _probe(net, output)


def random_network(
    dimensions,
    neurons_per_d,
    neuron_type=LIF,
    n_ensembles=20,
    connections_per_ensemble=5,
):
    """Ensembles that each project to several others, drawn at random.

    Parameters
    ----------
    dimensions : int
        Dimensions of every ensemble.
    neurons_per_d : float
        Neurons per dimension; an ensemble has ``neurons_per_d * dimensions``, rounded.
    neuron_type : ~nengo.neurons.NeuronType
        Neurons of all ensembles.
    n_ensembles : int
        Number of ensembles.
    connections_per_ensemble : int
        How many ensembles (it may be one of them itself) each projects to; from 0 to
        ``n_ensembles``.

    Returns
    -------
    ~nengo.Network
        With ``inp`` and ``p`` (the average of all ensembles) of ``dimensions``
        dimensions.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If a size is less than 1, or there are not enough ensembles to connect to.
    """
    dimensions, neurons = _sizes(dimensions, neurons_per_d)
    total = _count("n_ensembles", n_ensembles)
    fan_out = _count("connections_per_ensemble", connections_per_ensemble, least=0)
    if fan_out > total:
        raise ValidationError(
            f"there are only {total} ensembles (n_ensembles) to connect to; got "
            f"{connections_per_ensemble!r}",
            attr="connections_per_ensemble",
        )
    with _network("random_network", neuron_type, d=dimensions, n=total) as net:
        rng = np.random.RandomState(SEED)
        net.inp = nengo.Node(Waves(dimensions), label="inp")
        average = nengo.Node(size_in=dimensions, label="average")
        ensembles = [nengo.Ensemble(neurons, dimensions) for _ in range(total)]
        for pre in ensembles:
            nengo.Connection(net.inp, pre, transform=1 / np.sqrt(dimensions))
            nengo.Connection(pre, average, transform=1 / total)
            for post in rng.choice(total, size=fan_out, replace=False):
                # all that an ensemble gets from others is less than its own input
                nengo.Connection(pre, ensembles[post], transform=0.5 / fan_out)
    return _probe(net, average)


BUILDERS: Mapping[str, Callable[..., nengo.Network]] = MappingProxyType(
    {
        builder.__name__: builder
        for builder in (chain, integrator, cconv, basal_ganglia, pes, random_network)
    }
)
"""All builders, by name."""


@dataclasses.dataclass(frozen=True)
class Case:
    """A builder and the sizes to build with.

    Calling it builds the network; keyword arguments replace some of the sizes.

    Parameters
    ----------
    builder : callable
        One of the builders of this module, or any function that returns a network with
        the attributes ``inp`` and ``p``.
    sizes : dict
        Keyword arguments for it.

    Examples
    --------
    >>> net = CASES["integrator16"](neuron_type=nengo.LIFRate())
    """

    builder: Callable[..., nengo.Network]
    sizes: Mapping[str, Any]

    def __call__(self, **sizes) -> nengo.Network:
        """Build the network."""
        return self.builder(**{**self.sizes, **sizes})


def _case(builder, dimensions, neurons_per_d, **sizes):
    return Case(
        builder, {"dimensions": dimensions, "neurons_per_d": neurons_per_d, **sizes}
    )


CASES: Mapping[str, Case] = MappingProxyType(
    {
        "chain": _case(chain, 1, 100, n_ensembles=2),
        "integrator16": _case(integrator, 16, 50),
        "integrator128": _case(integrator, 128, 32),
        "convolution16": _case(cconv, 16, 50),
        "convolution128": _case(cconv, 128, 64),
        "action16": _case(basal_ganglia, 16, 50),
        "learner4": _case(pes, 4, 50),
        "learner64": _case(pes, 64, 32),
        # 500 neurons in each ensemble
        "web20": _case(
            random_network, 16, 31.25, n_ensembles=20, connections_per_ensemble=5
        ),
        "web100": _case(
            random_network, 8, 16, n_ensembles=100, connections_per_ensemble=5
        ),
    }
)
"""The networks that are measured by default, by name."""
