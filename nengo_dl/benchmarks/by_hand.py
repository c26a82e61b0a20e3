"""Spiking layers written in TensorFlow by hand, for comparison.

What somebody would write who knows TensorFlow well and this one network: products and
convolutions of all steps at once, and for each layer of neurons a compiled loop forward
and another one backward, which computes the surrogate gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from nengo_dl.benchmarks.networks.spiking_layers import DECAY, SLOPE, random_weights


def _loop(length: int, shape: Any, step: Callable, first: list, backwards: bool) -> Any:
    """What ``step(i, *state) -> (next state, value)`` gives in each step, stacked."""
    last = length - 1
    values = tf.TensorArray(tf.float32, length, element_shape=shape)

    def body(count, state, values):
        i = last - count if backwards else count
        state, value = step(i, *state)
        return count + 1, state, values.write(i, value)

    start = (tf.constant(0), first, values)
    *_, values = tf.while_loop(lambda i, *_: i < length, body, start)
    return values.stack()


def _potentials(currents: Any, feedback: Any = None) -> Any:
    """Potentials of neurons ``(steps, items, n)``; ``feedback``: weights ``(n, n)``."""
    shape = currents.shape[1:]

    def step(i, v):
        spikes = tf.cast(v > 1, tf.float32)
        v = DECAY * v + currents[i] - spikes
        v = v if feedback is None else v + tf.matmul(spikes, feedback)
        return [v], v

    return _loop(currents.shape[0], shape, step, [tf.zeros(shape)], False)


def _pulled_back(potentials: Any, d_spikes: Any, feedback: Any = None) -> Any:
    """Gradients of the currents from those of the spikes."""
    shape = potentials.shape[1:]

    def step(i, d):
        arriving = d_spikes[i]
        if feedback is not None:
            arriving += tf.matmul(d, feedback, transpose_b=True)
        slope = 1 / tf.square(1 + SLOPE * tf.abs(potentials[i] - 1))
        d = DECAY * d + arriving * slope
        return [d], d

    return _loop(potentials.shape[0], shape, step, [tf.zeros(shape)], True)


FORWARD = tf.function(_potentials, jit_compile=True, autograph=False)
BACKWARD = tf.function(_pulled_back, jit_compile=True, autograph=False)


@tf.custom_gradient
def neurons(currents: Any) -> Any:
    """Spikes of neurons that do not see each other."""
    potentials = FORWARD(tf.stop_gradient(currents))  # no tape looks into the loop
    return tf.cast(potentials > 1, tf.float32), lambda d: BACKWARD(potentials, d)


@tf.custom_gradient
def recurrent_neurons(currents: Any, feedback: Any) -> Any:
    """Spikes of neurons that see those of the step before."""
    currents, feedback = tf.stop_gradient(currents), tf.stop_gradient(feedback)
    potentials, n = FORWARD(currents, feedback), currents.shape[2]
    spikes = tf.cast(potentials > 1, tf.float32)

    def gradient(d):
        d = BACKWARD(potentials, d, feedback)
        before, after = (tf.reshape(x, (-1, n)) for x in (spikes[:-1], d[1:]))
        return d, tf.matmul(before, after, transpose_a=True)

    return spikes, gradient


class ByHand:
    """A network of `.networks.spiking_layers` and its training.

    Parameters
    ----------
    kind : str
    sizes : tuple of int
    learning_rate : float
    """

    def __init__(self, kind: str, sizes: tuple[int, ...], learning_rate: float) -> None:
        self.kind = kind
        weights = random_weights(kind, sizes)
        if kind == "pictures":
            weights = [*weights[:-1], weights[-1].T]
        else:
            weights = [w.T for w in weights]
        biases = [np.zeros(n) for n in sizes[1:-1]] if kind != "pictures" else []
        variable: Any = tf.Variable
        self.weights, self.biases = (
            [variable(x.astype(np.float32)) for x in arrays]
            for arrays in (weights, biases)
        )
        self.variables = [*self.weights, *self.biases]
        self.optimizer: Any = keras.optimizers.Adam(learning_rate)
        self.optimizer.build(self.variables)
        self.train: Any = tf.function(self._train, autograph=False)

    def __call__(self, x: Any) -> Any:
        """Outputs ``(steps, items, n)`` of inputs ``(items, steps, n)``."""
        items, steps, _ = x.shape
        h = tf.reshape(tf.transpose(x, (1, 0, 2)), (steps * items, -1))
        if self.kind == "pictures":
            h = tf.reshape(h, (-1, 28, 28, 1))
            for kernel, stride in zip(self.weights[:-1], (1, 2)):
                currents = tf.nn.conv2d(h, kernel, stride, "VALID")
                spikes = neurons(tf.reshape(currents, (steps, items, -1)))
                h = tf.reshape(spikes, currents.shape)
            h = tf.reshape(h, (steps * items, -1))
        elif self.kind == "recurrent":
            currents = tf.matmul(h, self.weights[0]) + self.biases[0]
            currents = tf.reshape(currents, (steps, items, -1))
            feedback = tf.convert_to_tensor(self.weights[1])
            h = tf.reshape(recurrent_neurons(currents, feedback), (steps * items, -1))
        else:
            for weights, bias in zip(self.weights[:-1], self.biases):
                currents = tf.reshape(tf.matmul(h, weights) + bias, (steps, items, -1))
                h = tf.reshape(neurons(currents), (steps * items, -1))
        return tf.reshape(tf.matmul(h, self.weights[-1]), (steps, items, -1))

    def _train(self, x, y):
        """One batch; ``y``: the class of each item."""
        with tf.GradientTape() as tape:
            outputs = self(x)
            classes = tf.broadcast_to(y, outputs.shape[:2])
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(classes, outputs)
            loss = tf.reduce_mean(losses)
        self.optimizer.apply(tape.gradient(loss, self.variables), self.variables)
        return loss
