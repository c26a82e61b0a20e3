"""Which operations of a step have a gradient that is not that of what they compute.

Each kernel call of one step is differentiated for itself, at the values that it has in
that step, and compared with a quotient of differences: the check of a composition is
localized by checks of its parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import tensorflow as tf

from nengo_dl.compiler.layout import Group, Layout, WeightRef
from nengo_dl.compiler.traits import Params
from nengo_dl.runtime.emit import loop_step
from nengo_dl.runtime.tensorflow.namespace import TensorFlowNamespace

#: steps that are run before operations are looked at, so that filters are not at rest
STEPS = 3

#: how far a value is moved, and by how much derivatives may differ, relative and absolute
MOVE, TOLERANCE = 1e-6, 1e-3


def wrong_kernels(layout: Layout, weights: list, rows: Mapping, items: int) -> list[str]:
    """Descriptions of the kernel calls whose own gradient is wrong, in their order.

    Parameters
    ----------
    layout : Layout
        A step in a single stage.
    weights : list of ndarray
        The program's arguments.
    rows : mapping
        Source key -> ``(size, items)`` values that the step is given; zeros for others.
    items : int
        Number of batch items.

    Returns
    -------
    list of str
        What has no gradient at all (Python functions) is among them.
    """
    calls: list[_Call] = []
    groups = tuple(replace(g, kernel=_Call(g, calls)) for g in layout.loop.groups)
    step = loop_step(replace(layout, loop=replace(layout.loop, groups=groups)), items)
    xp = TensorFlowNamespace("float64", fast=False)
    none = [np.zeros((source.size, items)) for source in layout.inputs]
    given = [rows.get(s.key, zero) for s, zero in zip(layout.inputs, none, strict=True)]
    x = tf.constant(np.concatenate([np.zeros((0, items)), *given]))
    shapes = [(len(first), items) for first in layout.carry]
    carry = [
        tf.constant(np.broadcast_to(first.reshape(len(first), -1), shape))
        for first, shape in zip(layout.carry, shapes, strict=True)
    ]
    arguments = [tf.constant(w, "float64") for w in weights]
    for _ in range(STEPS):
        calls.clear()
        carry, _y = step(xp, carry, x, arguments)
    rng = np.random.RandomState(0)
    return [call.described() for call in calls if call.is_wrong(xp, rng)]


class _Call:
    """A kernel in one place of a step, which notes what it is given."""

    def __init__(self, group: Group, calls: list):
        self.group, self.calls = group, calls

    def __getattr__(self, name):
        return getattr(self.group.kernel, name)

    def step(self, xp, p, *inputs):
        """One time step of the kernel; the call is noted."""
        self.params, self.inputs = vars(p), inputs
        self.calls.append(self)
        return self.group.kernel.step(xp, p, *inputs)

    def described(self) -> str:
        """The kernel, and where it is in the network."""
        labels = ", ".join(dict.fromkeys(filter(None, self.group.labels[:3])))
        return (
            f"{self.group.kernel.name} ({labels})" if labels else self.group.kernel.name
        )

    def is_wrong(self, xp, rng) -> bool:
        """Whether its gradient along a direction at random is another derivative."""
        kernel = self.group.kernel
        if not kernel.differentiable:
            return any(tf.is_tensor(x) for x in self.inputs)
        names = [k for k, v in self.group.params.items() if isinstance(v, WeightRef)]
        free = [n for n in range(len(self.inputs)) if n not in kernel.cut_inputs]
        start = [self.inputs[n] for n in free] + [self.params[name] for name in names]
        start = [tf.cast(tf.convert_to_tensor(x), "float64") for x in start]
        factors: list = []

        def value(*moved):
            inputs = list(self.inputs)
            for n, x in zip(free, moved):
                inputs[n] = x
            more = dict(zip(names, moved[len(free) :]))
            results = kernel.step(xp, Params(**{**self.params, **more}), *inputs)
            if not factors:
                factors.extend(rng.normal(size=result.shape) for result in results)
            return tf.add_n([tf.reduce_sum(r * f) for r, f in zip(results, factors)])

        with tf.GradientTape() as tape:
            tape.watch(start)
            now = value(*start)
        gradients = tape.gradient(
            now, start, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        direction = [rng.normal(size=x.shape) * (1 + np.abs(x)) for x in start]
        pairs = zip(gradients, direction, strict=True)
        analytic = float(sum(np.sum(tf.convert_to_tensor(g) * d) for g, d in pairs))
        up, down = (
            float(value(*[x + s * MOVE * d for x, d in zip(start, direction)]))
            for s in (1, -1)
        )
        sides = np.array([up - float(now), float(now) - down]) / MOVE
        slack = TOLERANCE * (1 + np.abs(sides).max())
        return not sides.min() - slack <= analytic <= sides.max() + slack
