"""Action selection."""

from __future__ import annotations

import nengo
import numpy as np
from nengo.neurons import NeuronType

from nengo_dl.benchmarks.networks.base import LIF, builder, case, counts, network, probed


@builder
@case("action16", dimensions=16, neurons_per_d=50)
def basal_ganglia(
    dimensions: int, neurons_per_d: int, neuron_type: NeuronType = LIF
) -> nengo.Network:
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
    net, _, thalamus = selecting("basal_ganglia", neuron_type, dimensions, neurons_per_d)
    return probed(net, thalamus.output)


def selecting(
    name: str, neuron_type: NeuronType, dimensions: int, neurons_per_d: int
) -> nengo.Network:
    """Basal ganglia and thalamus, driven.

    ``neuron_type``, ``dimensions``, ``neurons_per_d``: see `basal_ganglia`. Returns
    ``net, selection, thalamus``: all of it, and the two in it.
    """
    actions, neurons = counts(dimensions=dimensions, neurons_per_d=neurons_per_d)
    with network(name, neuron_type, actions, d=actions, n=neurons) as net:
        selection = nengo.networks.BasalGanglia(actions, neurons)
        thalamus = nengo.networks.Thalamus(actions, neurons)
        middle = nengo.Node(np.full(actions, 0.5), label="middle")
        nengo.Connection(net.inp, selection.input, transform=0.5, synapse=None)
        nengo.Connection(middle, selection.input, synapse=None)
        nengo.Connection(selection.output, thalamus.input)
    return net, selection, thalamus
