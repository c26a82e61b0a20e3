"""Online learning: from an error, and from spikes."""

from __future__ import annotations

import nengo
import numpy as np
from nengo.neurons import NeuronType

from nengo_dl.benchmarks.networks.base import (
    LIF,
    builder,
    case,
    counts,
    network,
    probed,
    sizes_of,
)
from nengo_dl.models.learning_rules import STDP


@builder
@case("learner64", dimensions=64, neurons_per_d=32)
@case("learner4", dimensions=4, neurons_per_d=50)
def pes(
    dimensions: int, neurons_per_d: int, neuron_type: NeuronType = LIF
) -> nengo.Network:
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
    dimensions, neurons = sizes_of(dimensions, neurons_per_d)
    with network("pes", neuron_type, dimensions, d=dimensions, n=neurons) as net:
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
    return probed(net, output)


RATE = 50.0
"""Spikes per second of the inputs of `stdp`: in a step of 1 ms, 5 % of them spike."""

LARGEST = 1e-4
"""The upper bound of their weights, of spikes that are 1000 high."""


@builder
@case("stdp", pixels=784, n_neurons=100)
def stdp(pixels: int, n_neurons: int, learns: bool = True) -> nengo.Network:
    """Spikes that reach a layer of LIF neurons over weights that learn from them.

    Parameters
    ----------
    pixels : int
        Neurons before the connection, which fire at about `RATE`, half as often at first
        and half as often again at last.
    n_neurons : int
        Neurons behind it; they fire at about 20 Hz.
    learns : bool
        Whether the weights change: by STDP of pairs, between hard bounds.

    Returns
    -------
    ~nengo.Network
        With ``inp`` (added to all rates), ``p``, the spikes behind the connection,
        filtered, and ``learned``, the connection.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If a size is less than 1.
    """
    pixels, n_neurons = counts(pixels=pixels, n_neurons=n_neurons)
    rng = np.random.RandomState(0)
    with network("stdp", LIF, 1, pixels=pixels, n=n_neurons) as net:
        pre = nengo.Ensemble(
            pixels,
            1,
            neuron_type=nengo.SpikingRectifiedLinear(),
            gain=np.ones(pixels),
            bias=RATE * rng.uniform(0.5, 1.5, pixels),
            encoders=np.ones((pixels, 1)),
        )
        layer = nengo.Ensemble(
            n_neurons, 1, gain=np.ones(n_neurons), bias=np.full(n_neurons, -0.8)
        )
        nengo.Connection(net.inp, pre, synapse=None)
        scale = 784 / pixels  # so that the layer fires, however many there are
        net.learned = nengo.Connection(
            pre.neurons,
            layer.neurons,
            transform=scale * rng.uniform(0, LARGEST, (n_neurons, pixels)),
            synapse=None,
            learning_rule_type=(
                STDP(0.01 * LARGEST * scale, w_max=LARGEST * scale) if learns else None
            ),
        )
    return probed(net, layer.neurons)
