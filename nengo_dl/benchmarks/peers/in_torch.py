"""Spiking layers in libraries for PyTorch: snnTorch, SpikingJelly and Norse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from nengo_dl.benchmarks.networks.spiking_layers import DECAY, SLOPE
from nengo_dl.benchmarks.peers import EPSILON, LEARNING_RATE, Layers, Training

torch: Any = import_module("torch")


class FastSigmoid(torch.autograd.Function):
    """Spikes, whose gradient is that of a fast sigmoid (Zenke and Ganguli 2018)."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        """One where ``x`` is above zero."""
        ctx.save_for_backward(x)
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, d: Any) -> Any:
        """The surrogate gradient."""
        (x,) = ctx.saved_tensors
        return d / (1 + SLOPE * x.abs()) ** 2


def dense(weights: np.ndarray, bias: bool) -> Any:
    """A product with a matrix ``(out, in)``, perhaps with biases of zero."""
    module = torch.nn.Linear(*weights.shape[::-1], bias=bias)
    with torch.no_grad():
        module.weight.copy_(torch.from_numpy(weights))
        if bias:
            module.bias.zero_()
    return module


def convolution(kernel: np.ndarray, stride: int) -> Any:
    """A convolution with a kernel ``(rows, columns, in, out)``."""
    arranged = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
    out, channels, *size = arranged.shape
    module = torch.nn.Conv2d(channels, out, size, stride=stride, bias=False)
    with torch.no_grad():
        module.weight.copy_(torch.from_numpy(arranged))
    return module


def products(layers: Layers) -> list[Any]:
    """What is between the neurons: one module for each layer and the output.

    Convolutions have their channels first here, so the output's weights are put in that
    order.
    """
    weights = layers.weights()
    if layers.kind == "pictures":
        read = weights[2].reshape(-1, 12, 12, 16).transpose(0, 3, 1, 2)
        read = np.ascontiguousarray(read.reshape(len(read), -1))
        flat = torch.nn.Flatten()
        convolved = [convolution(weights[0], 1), convolution(weights[1], 2)]
        return [*convolved, torch.nn.Sequential(flat, dense(read, False))]
    if layers.kind == "recurrent":
        weights.pop(1)
    last = len(weights) - 1
    return [dense(array, i < last) for i, array in enumerate(weights)]


class AllSteps(torch.nn.Module):
    """Layer by layer, each for all steps.

    Parameters
    ----------
    products : sequence of torch.nn.Module
        See `products`.
    neurons : sequence of callable
        For each layer: from currents ``(steps, items, ...)`` to spikes.
    """

    def __init__(self, products: Sequence[Any], neurons: Sequence[Callable]) -> None:
        super().__init__()
        self.products, self.neurons = torch.nn.ModuleList(products), list(neurons)
        self.held = torch.nn.ModuleList(  # so that what they learn is found
            n for n in neurons if isinstance(n, torch.nn.Module)
        )

    def forward(self, x: Any) -> Any:
        """Outputs ``(steps, items, n)``."""
        for product, neurons in zip(self.products, [*self.neurons, None], strict=True):
            rows = product(x.flatten(0, 1)).unflatten(0, x.shape[:2])
            x = rows if neurons is None else neurons(rows)
        return x


class StepByStep(torch.nn.Module):
    """Step by step, each through all layers.

    Parameters
    ----------
    products : sequence of torch.nn.Module
        See `products`.
    neurons : sequence of torch.nn.Module
        For each layer: ``(currents, *state) -> (spikes, *state)``.
    start : callable
        Gives the first state of a layer, a tuple.
    """

    def __init__(
        self, products: Sequence[Any], neurons: Sequence[Any], start: Callable
    ) -> None:
        super().__init__()
        self.products = torch.nn.ModuleList(products)
        self.neurons, self.start = torch.nn.ModuleList(neurons), start

    def forward(self, x: Any) -> Any:
        """Outputs ``(steps, items, n)``."""
        states = [self.start() for _ in self.neurons]
        outputs = []
        for value in x:
            for i, neurons in enumerate(self.neurons):
                value, *states[i] = neurons(self.products[i](value), *states[i])
            outputs.append(self.products[-1](value))
        return torch.stack(outputs)


def training(layers: Layers, network: Any) -> Training:
    """Trains a network with cross-entropy in each step, and Adam."""
    adam = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, eps=EPSILON)
    pictures = layers.kind == "pictures"

    def train(x: np.ndarray, y: np.ndarray) -> float:
        steps = torch.from_numpy(x).transpose(0, 1)
        if pictures:
            steps = steps.unflatten(2, (1, 28, 28))
        adam.zero_grad(set_to_none=True)
        outputs = network(steps)
        classes = torch.from_numpy(y).expand(outputs.shape[:2])
        loss = torch.nn.functional.cross_entropy(outputs.flatten(0, 1), classes.flatten())
        loss.backward()
        adam.step()
        return loss.item()

    return train


def snntorch(layers: Layers) -> Training:
    """Layers of ``snntorch.Leaky``, ``RLeaky`` where they are recurrent."""
    snn, surrogate = import_module("snntorch"), import_module("snntorch.surrogate")
    options = {"beta": DECAY, "spike_grad": surrogate.fast_sigmoid(slope=SLOPE)}
    modules = products(layers)
    if layers.kind == "recurrent":
        n = layers.sizes[1]
        neurons = snn.RLeaky(linear_features=n, **options)
        neurons.recurrent = dense(layers.weights()[1], False)
        populations = [Remembering(neurons)]
        return training(layers, StepByStep(modules, populations, neurons.init_rleaky))
    populations = [snn.Leaky(**options) for _ in modules[1:]]

    def start() -> tuple:
        return (populations[0].init_leaky(),)

    return training(layers, StepByStep(modules, populations, start))


class Remembering(torch.nn.Module):
    """Neurons that return their spikes as part of their state, too.

    Parameters
    ----------
    neurons : torch.nn.Module
        From currents, spikes and potentials to spikes and potentials.
    """

    def __init__(self, neurons: Any) -> None:
        super().__init__()
        self.neurons = neurons

    def forward(self, currents: Any, spikes: Any, potentials: Any) -> tuple:
        """Spikes, and the state of the next step."""
        spikes, potentials = self.neurons(currents, spikes, potentials)
        return spikes, spikes, potentials


def spikingjelly(layers: Layers) -> Training:
    """Layers of ``LIFNode``, for all steps at once where they are not recurrent.

    It subtracts the threshold before the potential decays, not after it, so its spikes
    and losses are a little different.
    """
    neuron = import_module("spikingjelly.activation_based.neuron")
    functional = import_module("spikingjelly.activation_based.functional")
    recurrent = layers.kind == "recurrent"

    def lif() -> Any:
        return neuron.LIFNode(
            tau=1 / (1 - DECAY),
            decay_input=False,
            v_reset=None,
            surrogate_function=FastSigmoid.apply,
            detach_reset=True,
            step_mode="s" if recurrent else "m",
        )

    modules = products(layers)
    populations = [lif() for _ in modules[1:]]
    if recurrent:
        feedback, (single,) = dense(layers.weights()[1], False), populations
        populations = [Recurrent(single, feedback)]
    network = AllSteps(modules, populations)

    class Fresh(torch.nn.Module):
        """The network, whose state begins anew for each batch."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: Any) -> Any:
            functional.reset_net(network)
            return network(x)

    return training(layers, Fresh())


class Recurrent(torch.nn.Module):
    """Neurons that see the spikes of the step before.

    Parameters
    ----------
    neurons : torch.nn.Module
        From the currents of a step to its spikes; it keeps its state itself.
    feedback : torch.nn.Module
        From spikes to currents.
    """

    def __init__(self, neurons: Any, feedback: Any) -> None:
        super().__init__()
        self.neurons, self.feedback = neurons, feedback

    def forward(self, currents: Any) -> Any:
        """Spikes ``(steps, items, n)``."""
        spikes, outputs = torch.zeros_like(currents[0]), []
        for current in currents:
            spikes = self.neurons(current + self.feedback(spikes))
            outputs.append(spikes)
        return torch.stack(outputs)


def norse(layers: Layers) -> Training:
    """Layers of ``LIF`` without a synapse, ``LIFRecurrent`` where they are recurrent.

    Its potential jumps to zero after a spike instead of falling by the threshold, so its
    spikes and losses are different. Currents are scaled, because its potential takes in
    the share ``1 - decay`` of them.
    """
    # Norse imports TensorBoard, and that TensorFlow: PyTorch's compiler has to come
    # before TensorFlow does, or the process ends while it is imported.
    import_module("torch._dynamo")
    library = import_module("norse.torch")
    dt, scale = 1e-3, 1 / (1 - DECAY)
    parameters = library.LIFParameters(
        tau_mem_inv=torch.as_tensor((1 - DECAY) / dt),
        tau_syn_inv=torch.as_tensor(1 / dt),
        v_th=torch.as_tensor(1.0),
        method="super",
        alpha=torch.as_tensor(SLOPE),
    )
    modules = products(layers)
    with torch.no_grad():
        for module in modules[:-1]:
            module.weight.mul_(scale)

    def first(neurons: Any) -> Callable:
        return torch.nn.Sequential(neurons, First())

    if layers.kind == "recurrent":
        n = layers.sizes[1]
        weights = torch.from_numpy(layers.weights()[1]) * scale
        neurons = library.LIFRecurrent(
            n, n, parameters, dt=dt, input_weights=torch.eye(n), recurrent_weights=weights
        )
        return training(layers, AllSteps(modules, [first(neurons)]))
    populations = [first(library.LIF(parameters, dt=dt)) for _ in modules[1:]]
    return training(layers, AllSteps(modules, populations))


class First(torch.nn.Module):
    """The first of what a module returns: the spikes, without the state."""

    def forward(self, both: Any) -> Any:
        """The first of two."""
        return both[0]
