"""Networks with Python functions in them."""

from __future__ import annotations

from typing import Any

import nengo
import numpy as np
from nengo.neurons import NeuronType

from nengo_dl.benchmarks.networks.action_selection import selecting
from nengo_dl.benchmarks.networks.base import (
    LIF,
    builder,
    case,
    network,
    probed,
    sizes_of,
)


def squashed(t: float, x: np.ndarray) -> np.ndarray:
    """What the Python nodes in loops compute."""
    return np.tanh(x)


class Recorder:
    """Keeps what it is called with, as a Python node at the end of a network.

    Attributes
    ----------
    last : ndarray
        The latest value.
    calls : int
        How many there were.
    """

    def __init__(self):
        self.last, self.calls = None, 0

    def __call__(self, t: float, x: np.ndarray) -> Any:
        """Take down the value of a step, and count the call."""
        self.last = x.copy()
        self.calls += 1


@builder
@case("closed_loop", dimensions=1, neurons_per_d=100)
def closed_loop(
    dimensions: int = 1, neurons_per_d: int = 100, neuron_type: NeuronType = LIF
) -> nengo.Network:
    """Two ensembles and a Python node in a loop.

    ::

        inp -> first -> Python -> second -> first

    Parameters
    ----------
    dimensions : int
        Of all of them.
    neurons_per_d : float
        Neurons per dimension in each ensemble.
    neuron_type : ~nengo.neurons.NeuronType
        Neurons of both ensembles.

    Returns
    -------
    ~nengo.Network
        With ``inp`` and ``p``, what the second ensemble represents.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If a size is less than 1.
    """
    dimensions, neurons = sizes_of(dimensions, neurons_per_d)
    with network("closed_loop", neuron_type, dimensions, d=dimensions, n=neurons) as net:
        first, second = (nengo.Ensemble(neurons, dimensions) for _ in range(2))
        python = nengo.Node(squashed, dimensions, dimensions, label="python")
        nengo.Connection(net.inp, first)
        nengo.Connection(first, python)
        nengo.Connection(python, second)
        nengo.Connection(second, first, transform=0.5)
    return probed(net, second)


@builder
@case("action_loop", dimensions=16, neurons_per_d=50)
def action_loop(
    dimensions: int = 16, neurons_per_d: int = 50, neuron_type: NeuronType = LIF
) -> nengo.Network:
    """Action selection with a Python node in the loop: an environment.

    What is selected goes to a Python function, which makes that action less attractive.

    Parameters
    ----------
    dimensions : int
        Number of actions.
    neurons_per_d : float
        Neurons per ensemble; there are six ensembles per action.
    neuron_type : ~nengo.neurons.NeuronType
        Neurons of all ensembles.

    Returns
    -------
    ~nengo.Network
        With ``inp`` and ``p``, as `basal_ganglia`.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If a size is less than 1.
    """
    net, selection, thalamus = selecting(
        "action_loop", neuron_type, dimensions, neurons_per_d
    )
    with net:
        actions = net.inp.size_out
        environment = nengo.Node(squashed, actions, actions, label="environment")
        nengo.Connection(thalamus.output, environment)
        nengo.Connection(environment, selection.input, transform=-0.2)
    return probed(net, thalamus.output)


@builder
@case("recorded", dimensions=1, neurons_per_d=100, driven=False)
def recorded(
    dimensions: int = 1,
    neurons_per_d: int = 100,
    neuron_type: NeuronType = LIF,
    driven: bool = True,
    recorder: bool = True,
) -> nengo.Network:
    """Two ensembles in a row, with or without Python at the ends.

    Parameters
    ----------
    dimensions : int
        Of the ensembles.
    neurons_per_d : float
        Neurons per dimension in each ensemble.
    neuron_type : ~nengo.neurons.NeuronType
        Neurons of both ensembles.
    driven : bool
        True: a Python function of time is the input. False: a constant.
    recorder : bool
        Whether the output goes to a Python node (`Recorder`, as ``recorder``), too.

    Returns
    -------
    ~nengo.Network
        With ``inp`` and ``p``, what the last ensemble represents.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If a size is less than 1.
    """
    dimensions, neurons = sizes_of(dimensions, neurons_per_d)
    source = dimensions if driven else np.full(dimensions, 0.7)
    with network("recorded", neuron_type, source, d=dimensions, n=neurons) as net:
        first, second = (nengo.Ensemble(neurons, dimensions) for _ in range(2))
        nengo.Connection(net.inp, first)
        nengo.Connection(first, second, function=np.square)
        if recorder:
            net.recorder = Recorder()
            node = nengo.Node(net.recorder, size_in=dimensions, label="recorder")
            nengo.Connection(second, node, synapse=0.01)
    return probed(net, second)
