"""Gradients of a step with respect to all its arguments, against central differences."""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from nengo_dl.runtime.numpy.namespace import NumpyNamespace
from nengo_dl.runtime.tensorflow.namespace import TensorFlowNamespace
from tests.kernels.kernel_harness import ITEMS, STEPS, Step, core_steps, scale, turned

#: states at which gradients are taken, and how far they may be off
POINTS, GRADIENT = 16, 1e-6


@dataclass
class Point:
    """Where gradients are taken: a step, its arguments, and factors for its results."""

    step: Step
    arguments: list
    factors: list

    @classmethod
    def of(cls, bench, mixed=True):
        """States that core went through, and the inputs of those steps.

        States are ``mixed`` with their mean, lest one is exactly on a kink.
        """
        chosen = np.linspace(0, ITEMS * STEPS - 1, POINTS).astype(int)
        _, before, data, _ = core_steps(bench)
        step = Step(bench, POINTS)
        data = {signal: values[..., chosen] for signal, values in data.items()}
        rng = np.random.RandomState(5)
        carry = step.carry("float64", [values[:, chosen] for values in before])
        share = [mixed * rng.uniform(0.05, 0.2, c.shape) for c in carry]
        pairs = zip(carry, share, strict=True)
        carry = [c + s * (c.mean(1, keepdims=True) - c) for c, s in pairs]
        arguments = [carry, step.inputs("float64", data), step.weights("float64")]
        following, y = step.function(NumpyNamespace("float64"), *arguments)
        factors = [rng.normal(size=np.shape(a)) for a in (*following, y)]
        factors = [f / scale(a) for f, a in zip(factors, (*following, y), strict=True)]
        return cls(step, arguments, factors)

    def flat(self):
        """All arguments: carried arrays, inputs, weights."""
        carry, x, weights = self.arguments
        return [*carry, x, *weights]

    def objective(self, xp, *arguments, turn=False):
        """A weighted sum of all results, a number."""
        function = turned(self.step.function) if turn else self.step.function
        n = len(self.arguments[0])
        carry, x, weights = list(arguments[:n]), arguments[n], list(arguments[n + 1 :])
        following, y = function(xp, carry, x, weights)
        total = 0.0
        for factor, result in zip(self.factors, (*following, y), strict=True):
            total = total + xp.sum(xp.reshape(result * factor, (-1,)), 0)
        return total


def analytic(point, fast, jit=False, turn=False):
    """Gradients of `Point.objective` with respect to all its arguments.

    With ``turn``, arrays lie in memory with the batch first.
    """
    xp = TensorFlowNamespace("float64", fast=fast)

    def gradients(*arguments):
        with tf.GradientTape() as tape:
            tape.watch(arguments)
            value = xp.constant(point.objective(xp, *arguments, turn=turn))
        return tape.gradient(
            value, arguments, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )

    function = gradients
    if jit:
        function = tf.function(gradients, jit_compile=True, autograph=False)
    found = function(*[tf.constant(a) for a in point.flat()])
    return [tf.convert_to_tensor(g).numpy() for g in found]


def gradient_errors(point, gradients, directions=3, width=1e-6):
    """How far gradients are from central differences, relative to their size.

    Every argument is moved by itself, in random directions.

    Returns
    -------
    list of float, one for each argument
    """
    xp, flat = NumpyNamespace("float64"), point.flat()
    rng = np.random.RandomState(6)
    errors = []
    for i, (argument, gradient) in enumerate(zip(flat, gradients, strict=True)):
        worst = 0.0
        for _ in range(directions if argument.size else 0):
            direction = rng.normal(size=argument.shape) * scale(argument)

            def value(distance, i=i, direction=direction):
                moved = [*flat[:i], flat[i] + distance * direction, *flat[i + 1 :]]
                return float(point.objective(xp, *moved))

            numeric = (value(width) - value(-width)) / (2 * width)
            size = max(np.abs(gradient * direction).sum(), 1e-2)
            worst = max(worst, abs(numeric - (gradient * direction).sum()) / size)
        errors.append(worst)
    return errors
