"""Action selection."""

import nengo
import numpy as np

from nengo_dl.benchmarks.networks.base import (
    LIF,
    Waves,
    builder,
    case,
    count,
    new_network,
    probed,
)


@builder
@case("action16", dimensions=16, neurons_per_d=50)
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
    actions = count("dimensions", dimensions)
    neurons = count("neurons_per_d", neurons_per_d)
    with new_network("basal_ganglia", neuron_type, d=actions, n=neurons) as net:
        net.inp = nengo.Node(Waves(actions), label="inp")
        selection = nengo.networks.BasalGanglia(actions, neurons)
        thalamus = nengo.networks.Thalamus(actions, neurons)
        middle = nengo.Node(np.full(actions, 0.5), label="middle")
        nengo.Connection(net.inp, selection.input, transform=0.5, synapse=None)
        nengo.Connection(middle, selection.input, synapse=None)
        nengo.Connection(selection.output, thalamus.input)
    return probed(net, thalamus.output)
