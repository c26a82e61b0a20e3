"""Very many ensembles, as in models of whole brains."""

from __future__ import annotations

import nengo
import numpy as np
from nengo.neurons import NeuronType

from nengo_dl.benchmarks.networks.base import (
    LIF,
    SEED,
    builder,
    case,
    counts,
    network,
    probed,
)

SIZES = (0.75, 1.0, 1.25)
"""Sizes of ensembles, as fractions of the mean."""


@builder
@case("million", n_ensembles=20_000, neurons=60, n_connections=90_000)
def many_ensembles(
    n_ensembles: int = 20_000,
    neurons: int = 60,
    n_connections: int = 90_000,
    neuron_type: NeuronType = LIF,
) -> nengo.Network:
    """Ensembles of one dimension in three sizes, connected at random.

    Decoders are drawn, not solved for: solving takes as long in every simulator, and is
    not what is measured. The default size is that of Spaun: 1.2 million neurons.

    Parameters
    ----------
    n_ensembles : int
        Number of ensembles.
    neurons : int
        Neurons of an ensemble on average.
    n_connections : int
        Connections between ensembles, and from the input to the first of them.
    neuron_type : ~nengo.neurons.NeuronType
        Neurons of all ensembles.

    Returns
    -------
    ~nengo.Network
        With ``inp`` of one dimension and ``p``, the sum over 16 ensembles.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If a size is less than 1.

    References
    ----------
    .. [1] C. Eliasmith et al. (2012). A large-scale model of the functioning brain.
       Science 338(6111).
    """
    total, mean, links = counts(
        n_ensembles=n_ensembles, neurons=neurons, n_connections=n_connections
    )
    rng = np.random.RandomState(SEED)
    sizes = [max(1, round(mean * fraction)) for fraction in SIZES]
    with network("many_ensembles", neuron_type, 1, n=total, connections=links) as net:
        # decoders are given, so there is no need for many points
        net.config[nengo.Ensemble].n_eval_points = 10
        ensembles = [nengo.Ensemble(sizes[i % len(sizes)], 1) for i in range(total)]
        fed = ensembles[: max(1, min(total // 20, links // 10))]
        for ens in fed:
            nengo.Connection(net.inp, ens)
        pairs = rng.randint(total, size=(links - len(fed), 2))
        strength = 0.5 * total / max(1, len(pairs))
        for pre, post in pairs:
            _connect(rng, ensembles[pre], ensembles[post], strength)
        output = nengo.Node(size_in=1, label="output")
        for ens in ensembles[:16]:
            _connect(rng, ens, output, 1)
    return probed(net, output)


def _connect(rng, pre, post, strength):
    """A connection with drawn decoders."""
    # encoders are -1 and 1, so that positive decoders give something positive
    decoders = rng.uniform(0, 0.01 / pre.n_neurons, (pre.n_neurons, 1))
    solver = nengo.solvers.NoSolver(decoders)
    nengo.Connection(pre, post, solver=solver, transform=strength)
