"""Spiking layers in JAX, by hand and with Spyx."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from nengo_dl.benchmarks.networks.spiking_layers import DECAY, SLOPE
from nengo_dl.benchmarks.peers import EPSILON, LEARNING_RATE, Layers, Training

jax: Any = import_module("jax")
jnp: Any = import_module("jax.numpy")
optax: Any = import_module("optax")

Forward = Callable[[Any, Any], Any]
"""From parameters and inputs ``(steps, items, ...)`` to outputs of all steps."""


@jax.custom_jvp
def spikes(x: Any) -> Any:
    """One where ``x`` is above zero; the gradient is that of a fast sigmoid."""
    return (x > 0).astype(x.dtype)


@spikes.defjvp
def _surrogate(primals: tuple, tangents: tuple) -> tuple:
    (x,), (dx,) = primals, tangents
    return spikes(x), dx / (1 + SLOPE * jnp.abs(x)) ** 2


def neurons(currents: Any) -> Any:
    """Spikes of neurons that do not see each other, of all steps."""

    def step(v: Any, current: Any) -> tuple:
        reset = jax.lax.stop_gradient((v > 1).astype(v.dtype))
        v = DECAY * v + current - reset
        return v, spikes(v - 1)

    return jax.lax.scan(step, jnp.zeros_like(currents[0]), currents)[1]


def recurrent_neurons(currents: Any, feedback: Any) -> Any:
    """Spikes of neurons that see those of the step before."""

    def step(state: tuple, current: Any) -> tuple:
        v, before = state
        reset = jax.lax.stop_gradient(before)
        v = DECAY * v + current + before @ feedback - reset
        now = spikes(v - 1)
        return (v, now), now

    zeros = jnp.zeros_like(currents[0])
    return jax.lax.scan(step, (zeros, zeros), currents)[1]


def convolved(x: Any, kernel: Any, stride: int) -> Any:
    """Convolution of pictures ``(..., rows, columns, channels)`` without padding."""
    flat = x.reshape(-1, *x.shape[-3:])
    axes = ("NHWC", "HWIO", "NHWC")
    strides = (stride, stride)
    y = jax.lax.conv_general_dilated(
        flat, kernel, strides, "VALID", dimension_numbers=axes
    )
    return y.reshape(*x.shape[:-3], *y.shape[1:])


def _perceptron(parameters: dict, x: Any) -> Any:
    *hidden, last = parameters["weights"]
    for weights, bias in zip(hidden, parameters["biases"], strict=True):
        x = neurons(x @ weights + bias)
    return x @ last


def _recurrent(parameters: dict, x: Any) -> Any:
    inside, feedback, out = parameters["weights"]
    (bias,) = parameters["biases"]
    return recurrent_neurons(x @ inside + bias, feedback) @ out


def _pictures(parameters: dict, x: Any) -> Any:
    *kernels, out = parameters["weights"]
    for kernel, stride in zip(kernels, (1, 2), strict=True):
        x = neurons(convolved(x, kernel, stride))
    return x.reshape(*x.shape[:2], -1) @ out


FORWARD: dict[str, Forward] = {
    "perceptron": _perceptron,
    "recurrent": _recurrent,
    "pictures": _pictures,
}
"""The layers of each kind."""


def by_hand(layers: Layers) -> Training:
    """Layer by layer: products of all steps, and a ``lax.scan`` for each layer."""
    weights = layers.weights()
    pictures = layers.kind == "pictures"
    arranged = [w if w.ndim == 4 else w.T for w in weights]
    sizes = () if pictures else layers.sizes[1:-1]
    parameters = {"weights": arranged, "biases": [np.zeros(n, np.float32) for n in sizes]}
    return training(layers, jax.tree.map(jnp.asarray, parameters), FORWARD[layers.kind])


def training(layers: Layers, parameters: Any, forward: Forward) -> Training:
    """Trains with cross-entropy in each step, and Adam; all of it is compiled."""
    adam = optax.adam(LEARNING_RATE, eps=EPSILON)
    pictures = layers.kind == "pictures"

    def loss_of(parameters: Any, x: Any, y: Any) -> Any:
        steps = jnp.swapaxes(x, 0, 1)
        if pictures:
            steps = steps.reshape(*steps.shape[:2], 28, 28, 1)
        outputs = forward(parameters, steps)
        classes = jnp.broadcast_to(y, outputs.shape[:2])
        losses = optax.softmax_cross_entropy_with_integer_labels(outputs, classes)
        return losses.mean()

    @jax.jit
    def update(parameters: Any, state: Any, x: Any, y: Any) -> tuple:
        loss, gradients = jax.value_and_grad(loss_of)(parameters, x, y)
        changes, state = adam.update(gradients, state, parameters)
        return optax.apply_updates(parameters, changes), state, loss

    now = [parameters, adam.init(parameters)]

    def train(x: np.ndarray, y: np.ndarray) -> float:
        *now[:], loss = update(*now, x, y)
        return float(loss)

    return train


def spyx(layers: Layers) -> Training:
    """Layers of ``spyx.nn.LIF``, ``RLIF`` where they are recurrent.

    Its surrogate gradient is SuperSpike, the fast sigmoid under another name. Its neurons
    spike a step later, learn their decay, and let gradients pass their reset, so its
    spikes and losses are different.
    """
    nnx, snn = import_module("flax.nnx"), import_module("spyx.nn")
    random = nnx.Rngs(0)
    options = {
        "beta": DECAY,
        "activation": import_module("spyx.axn").superspike(SLOPE),
        "rngs": random,
    }
    weights = layers.weights()

    def dense(matrix: np.ndarray, bias: bool) -> Any:
        n_out, n_in = matrix.shape
        module = nnx.Linear(n_in, n_out, use_bias=bias, rngs=random)
        module.kernel[...] = jnp.asarray(matrix.T)
        return module

    def convolution(kernel: np.ndarray, stride: int) -> Any:
        *size, n_in, n_out = kernel.shape
        module = nnx.Conv(
            n_in,
            n_out,
            size,
            strides=stride,
            padding="VALID",
            use_bias=False,
            rngs=random,
        )
        module.kernel[...] = jnp.asarray(kernel)
        return module

    if layers.kind == "pictures":
        modules = [
            convolution(weights[0], 1),
            snn.LIF((26, 26, 8), **options),
            convolution(weights[1], 2),
            snn.LIF((12, 12, 16), **options),
            lambda x: x.reshape(len(x), -1),
        ]
    elif layers.kind == "recurrent":
        population = snn.RLIF(layers.sizes[1:2], **options)
        population.recurrent_w[...] = jnp.asarray(weights[1].T)
        modules = [dense(weights[0], True), population]
    else:
        modules = []
        for matrix in weights[:-1]:
            modules += [dense(matrix, True), snn.LIF(matrix.shape[:1], **options)]
    network = snn.Sequential(*modules, dense(weights[-1], False))
    graph, parameters, rest = nnx.split(network, nnx.Param, ...)

    def forward(parameters: Any, x: Any) -> Any:
        return snn.run(nnx.merge(graph, parameters, rest), x)[0]

    return training(layers, parameters, forward)
