"""Ensembles in a row."""

from __future__ import annotations

import nengo
import numpy as np
from nengo.neurons import NeuronType

from nengo_dl.benchmarks.networks.base import (
    LIF,
    builder,
    case,
    count,
    network,
    probed,
    sizes_of,
)


@builder
@case("chain", dimensions=1, neurons_per_d=100, n_ensembles=2)
def chain(
    dimensions: int = 1,
    neurons_per_d: int = 100,
    neuron_type: NeuronType = LIF,
    n_ensembles: int = 2,
) -> nengo.Network:
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
    dimensions, neurons = sizes_of(dimensions, neurons_per_d)
    n_ensembles = count("n_ensembles", n_ensembles)
    with network("chain", neuron_type, dimensions, d=dimensions, n=n_ensembles) as net:
        row = [nengo.Ensemble(neurons, dimensions) for _ in range(n_ensembles)]
        nengo.Connection(net.inp, row[0])
        for pre, post in zip(row, row[1:], strict=False):
            nengo.Connection(pre, post, function=np.square)
    return probed(net, row[-1])
