"""Circular convolution."""

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


@builder
@case("convolution128", dimensions=128, neurons_per_d=64)
@case("convolution16", dimensions=16, neurons_per_d=50)
def cconv(
    dimensions: int, neurons_per_d: int, neuron_type: NeuronType = LIF
) -> nengo.Network:
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
    dimensions, neurons = counts(dimensions=dimensions, neurons_per_d=neurons_per_d)
    with network("cconv", neuron_type, dimensions, d=dimensions, n=neurons) as net:
        constant = np.random.RandomState(SEED).standard_normal(dimensions)
        net.other = nengo.Node(constant / np.linalg.norm(constant), label="other")
        product = nengo.networks.CircularConvolution(neurons, dimensions)
        # sines have a mean square of 1/2; this makes the vector about one unit long
        nengo.Connection(net.inp, product.input_a, transform=np.sqrt(2 / dimensions))
        nengo.Connection(net.other, product.input_b)
    return probed(net, product.output)
