"""Integrators: networks that remember what they were given."""

from __future__ import annotations

import nengo
from nengo.neurons import NeuronType

from nengo_dl.benchmarks.networks.base import LIF, builder, case, counts, network, probed


@builder
@case("integrator128", dimensions=128, neurons_per_d=32)
@case("integrator16", dimensions=16, neurons_per_d=50)
def integrator(
    dimensions: int, neurons_per_d: int, neuron_type: NeuronType = LIF
) -> nengo.Network:
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
    dimensions, neurons = counts(dimensions=dimensions, neurons_per_d=neurons_per_d)
    feedback = 0.1  # seconds: the longer the time constant, the less it drifts
    with network("integrator", neuron_type, dimensions, d=dimensions, n=neurons) as net:
        array = nengo.networks.EnsembleArray(neurons, dimensions)
        # an input u adds `feedback * u` through the filter, so the value grows by u
        # per second; the factor 5 makes use of the range of the neurons
        nengo.Connection(net.inp, array.input, transform=5 * feedback, synapse=feedback)
        nengo.Connection(array.output, array.input, synapse=feedback)
    return probed(net, array.output)
