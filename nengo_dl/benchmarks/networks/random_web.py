"""Ensembles connected at random."""

from __future__ import annotations

import nengo
import numpy as np
from nengo.exceptions import ValidationError
from nengo.neurons import NeuronType

from nengo_dl.benchmarks.networks.base import (
    LIF,
    SEED,
    builder,
    case,
    count,
    network,
    probed,
    sizes_of,
)


@builder
@case(
    "web100",
    dimensions=8,
    neurons_per_d=16,
    n_ensembles=100,
    connections_per_ensemble=5,
)
@case(  # 500 neurons in each ensemble
    "web20",
    dimensions=16,
    neurons_per_d=31.25,
    n_ensembles=20,
    connections_per_ensemble=5,
)
def random_network(
    dimensions: int,
    neurons_per_d: int,
    neuron_type: NeuronType = LIF,
    n_ensembles: int = 20,
    connections_per_ensemble: int = 5,
) -> nengo.Network:
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
    dimensions, neurons = sizes_of(dimensions, neurons_per_d)
    total = count("n_ensembles", n_ensembles)
    fan_out = count("connections_per_ensemble", connections_per_ensemble, least=0)
    if fan_out > total:
        raise ValidationError(
            f"there are only {total} ensembles (n_ensembles) to connect to; got "
            f"{connections_per_ensemble!r}",
            attr="connections_per_ensemble",
        )
    with network("random_network", neuron_type, dimensions, d=dimensions, n=total) as net:
        rng = np.random.RandomState(SEED)
        average = nengo.Node(size_in=dimensions, label="average")
        ensembles = [nengo.Ensemble(neurons, dimensions) for _ in range(total)]
        for pre in ensembles:
            nengo.Connection(net.inp, pre, transform=1 / np.sqrt(dimensions))
            nengo.Connection(pre, average, transform=1 / total)
            for post in rng.choice(total, size=fan_out, replace=False):
                # all that an ensemble gets from others is less than its own input
                nengo.Connection(pre, ensembles[post], transform=0.5 / fan_out)
    return probed(net, average)
