"""Layers of spiking neurons as deep learning has them: no synapses, one weight each."""

from __future__ import annotations

from typing import Any

import nengo
import numpy as np
from nengo.dists import Choice
from nengo.params import NumberParam

from nengo_dl.builder import NeuronKernel
from nengo_dl.config import configure_settings
from nengo_dl.surrogates import FastSigmoid

#: of the potential from step to step, and of the surrogate gradient
DECAY, SLOPE = 0.9, 25.0


class Leaky(nengo.neurons.NeuronType):
    r"""Neurons whose potential decays, and falls by the threshold after a spike.

    .. math:: v_t = \beta v_{t-1} + J_t - [v_{t-1} > 1], \qquad s_t = [v_t > 1]

    Parameters
    ----------
    decay : float
        :math:`\beta`.
    """

    spiking = True
    state = {"voltage": Choice([0])}
    decay = NumberParam("decay", low=0, high=1)

    def __init__(self, decay: float = DECAY) -> None:
        super().__init__()
        self.decay = decay

    def gain_bias(self, max_rates: Any, intercepts: Any) -> tuple:
        """No gain and no bias: layers have weights."""
        return np.ones_like(max_rates), np.zeros_like(max_rates)

    def max_rates_intercepts(self, gain: Any, bias: Any) -> tuple:
        """Maximum rates and intercepts of neurons without gain."""
        return np.ones_like(gain), np.zeros_like(bias)

    def rates(self, x: Any, gain: Any, bias: Any) -> Any:
        """Spikes of a step for a constant current, about."""
        return np.clip(self.current(x, gain, bias), 0, 1)

    def step(self, dt: float, J: Any, output: Any, voltage: Any) -> None:
        """One time step, as core Nengo runs it."""
        voltage[...] = self.decay * voltage + J - (voltage > 1)
        output[...] = voltage > 1


class LeakyKernel(NeuronKernel):
    """Steps of `Leaky` neurons in simulators of this package, with a surrogate."""

    neuron_type = Leaky
    params = ("decay",)
    state = ("voltage",)
    crosses_threshold = True

    def step(self, xp: Any, p: Any, current: Any, voltage: Any) -> tuple:
        """One time step."""
        one, zero = xp.ones_like(voltage), xp.zeros_like(voltage)
        reset = self.detached(xp, p, xp.where(voltage > 1, one, zero))
        voltage = xp.materialize(p.decay * voltage + current - reset)
        fired = xp.where(voltage > 1, one, zero)
        return self.spikes(xp, p, fired, voltage - 1, 1.0), voltage


def random_weights(kind: str, sizes: tuple[int, ...], seed: int = 0) -> list[np.ndarray]:
    """The weights that a network of `spiking_layers` starts with, in its order."""
    rng = np.random.RandomState(seed)
    if kind == "pictures":
        filters = [rng.randn(3, 3, 1, 8) / 3 + 0.1, rng.randn(3, 3, 8, 16) / 6 + 0.02]
        return [*filters, rng.randn(sizes[-1], 16 * 12**2) / 32]
    shapes = list(zip(sizes[1:], sizes))
    if kind == "recurrent":
        shapes.insert(1, (sizes[1], sizes[1]))
    return [1.5 * rng.randn(*shape) / np.sqrt(shape[1]) for shape in shapes]


def spiking_layers(kind: str, sizes: tuple[int, ...]) -> nengo.Network:
    """A network of spiking layers that is trained through its spikes.

    Parameters
    ----------
    kind : str
        ``"perceptron"``, ``"recurrent"`` (its only layer feeds back to itself, a step
        later), or ``"pictures"``: two convolutions on 28 x 28 pixels.
    sizes : tuple of int
        Of the input, of the layers, and of the output.

    Returns
    -------
    ~nengo.Network
        With ``inp`` and ``p``.
    """
    weights = random_weights(kind, sizes)
    with nengo.Network(seed=0, label=kind) as net:
        surrogate = FastSigmoid(SLOPE)
        configure_settings(spiking_training=True, surrogate=surrogate, trainable=None)
        ensembles = net.config[nengo.Ensemble]
        ensembles.neuron_type = Leaky()
        ensembles.gain, ensembles.bias = Choice([1]), Choice([0])
        last = net.inp = nengo.Node(np.zeros(sizes[0]))
        transforms: list[Any] = list(weights)
        if kind == "pictures":
            shape: Any = (28, 28, 1)
            for i, strides in enumerate(((1, 1), (2, 2))):
                n = weights[i].shape[-1]
                options = {"strides": strides, "init": weights[i]}
                transforms[i] = nengo.Convolution(n, shape, **options)
                shape = transforms[i].output_shape
        elif kind == "recurrent":
            transforms.pop(1)
        for transform in transforms[:-1]:
            size = getattr(transform, "size_out", None) or transform.shape[0]
            layer = nengo.Ensemble(size, 1).neurons
            nengo.Connection(last, layer, transform=transform, synapse=None)
            last = layer
            net.config[layer].trainable = kind != "pictures"  # their biases
        if kind == "recurrent":
            nengo.Connection(last, last, transform=weights[1], synapse=0)
        out = nengo.Node(size_in=sizes[-1])
        nengo.Connection(last, out, transform=transforms[-1], synapse=None)
        net.p = nengo.Probe(out)
    return net
