"""Classification of images."""

from __future__ import annotations

import math

import nengo
import numpy as np
from nengo.exceptions import ValidationError
from nengo.neurons import NeuronType

from nengo_dl.benchmarks.networks.base import SEED, builder, case, count, network, probed

SPIKING = nengo.SpikingRectifiedLinear(amplitude=0.01)
"""A neuron with the current J fires at J Hz, and puts out 0.01 J on average."""

CURRENT = 100.0
"""Input current of a neuron for a value of one."""

CLASSES = 10


@builder
@case("mnist", filters=(16, 32), size=28)
@case("mnist_layers", everywhere=False, filters=(16, 32), size=28, native=False)
def mnist(
    filters: tuple[int, ...] = (16, 32),
    size: int = 28,
    neuron_type: NeuronType = SPIKING,
    native: bool = True,
) -> nengo.Network:
    r"""A convolutional network of the size that is usual for handwritten digits.

    Each layer halves the image: :math:`a_{l+1} = \sigma(W_l * a_l)` with kernels of
    3 × 3 and strides of 2, and a full matrix to ten outputs. Weights are drawn at random
    (He et al., 2015), because the time that a step takes does not depend on them.

    Parameters
    ----------
    filters : tuple of int
        Number of filters of each convolution.
    size : int
        Pixels along each side of the image.
    neuron_type : ~nengo.neurons.NeuronType
        Neurons after each convolution.
    native : bool
        True: Nengo's convolutions and neurons, which all backends run. False: Keras
        layers in `.TensorNode` objects, and rectified linear units.

    Returns
    -------
    ~nengo.Network
        With ``inp``, the ``size * size`` pixels, and ``p``, the ten outputs.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If a size is less than 1.

    Examples
    --------
    >>> net = mnist(filters=(4,), size=8)
    """
    size = count("size", size)
    channels = [count("filters", n) for n in filters]
    if not channels:
        raise ValidationError("expected at least one convolution; got none", "filters")
    with network("mnist", neuron_type, size**2, size=size, filters=channels) as net:
        output = nengo.Node(size_in=CLASSES, label="output")
        layers = _native_layers if native else _keras_layers
        last = layers(net.inp, channels, size)
        rng = np.random.RandomState(SEED)
        weights = rng.standard_normal((CLASSES, last.size_out))
        weights /= math.sqrt(last.size_out)
        nengo.Connection(last, output, transform=weights, synapse=None)
    return probed(net, output)


def _kernels(filters):
    """Kernels ``(3, 3, channels_in, channels_out)`` for values of one."""
    rng, before = np.random.RandomState(SEED), 1
    for n in filters:
        yield rng.standard_normal((3, 3, before, n)) * math.sqrt(2 / (9 * before))
        before = n


def _native_layers(inp, filters, size):
    """Nengo's convolutions; returns the last neurons."""
    last, shape = inp, (size, size, 1)
    for kernel in _kernels(filters):
        transform = nengo.Convolution(
            kernel.shape[-1],
            shape,
            strides=(2, 2),
            kernel_size=(3, 3),
            padding="same",
            init=kernel * CURRENT,
        )
        shape = transform.output_shape.shape
        neurons = nengo.Ensemble(
            math.prod(shape),
            1,
            gain=nengo.dists.Choice([1]),
            bias=nengo.dists.Choice([0]),
        ).neurons
        synapse = None if last is inp else 0.005
        nengo.Connection(last, neurons, transform=transform, synapse=synapse)
        last = neurons
    return last


def _keras_layers(inp, filters, size):
    """Keras layers, each a node; returns the last one."""
    import keras

    from nengo_dl.tensor_node import TensorNode

    last, shape = inp, (size, size, 1)
    for kernel in _kernels(filters):
        layer = keras.layers.Conv2D(
            kernel.shape[-1],
            3,
            strides=2,
            padding="same",
            activation="relu",
            use_bias=False,
            kernel_initializer=keras.initializers.Constant(kernel),
            data_format="channels_last",
        )
        node = TensorNode(layer, shape_in=shape, pass_time=False)
        shape = node.shape_out
        nengo.Connection(last, node, synapse=None)
        last = node
    return last
