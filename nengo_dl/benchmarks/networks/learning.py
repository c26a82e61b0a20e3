"""Online learning."""

from __future__ import annotations

import nengo
import numpy as np
from nengo.neurons import NeuronType

from nengo_dl.benchmarks.networks.base import (
    LIF,
    builder,
    case,
    network,
    probed,
    sizes_of,
)


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
