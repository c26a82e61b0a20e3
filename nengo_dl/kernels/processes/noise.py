"""Noise, drawn for many steps at once: white, filtered, Brownian."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from nengo.dists import PDF, Choice, Exponential, Gaussian, SqrtBeta, Uniform
from nengo.processes import FilteredNoise, WhiteNoise
from nengo.synapses import LinearFilter

from nengo_dl.kernels.processes.base import draw_rules

#: distributions that ask their generator once, for an array in the order of its rows: one
#: draw of ``k`` rows is the same numbers as ``k`` draws of one row
ROW_BY_ROW = (Choice, Exponential, Gaussian, PDF, SqrtBeta, Uniform)


def _row_by_row(dist, size: int) -> bool:
    """Whether a distribution may be asked for many steps at once."""
    if isinstance(dist, Choice) and dist.dimensions != size:
        return False  # it raises an error when it is asked
    return type(dist) in ROW_BY_ROW


def _white(runner) -> Callable | None:
    """A function of the number of steps that draws ``(k, batch, size)`` numbers."""
    process, size = runner.op.process, runner.size
    if not _row_by_row(process.dist, size):
        return None
    factor = 1.0 / np.sqrt(runner.dt)

    def draw(k):
        numbers = [process.dist.sample(n=k, d=size, rng=rng) for rng in runner.rngs]
        x = np.stack(numbers, axis=1)
        return factor * x if process.scale else x

    return draw


@draw_rules.register(WhiteNoise)
def white_noise(runner: Any) -> Callable | None:
    r"""Independent numbers, :math:`x_t / \sqrt{dt}` if they are scaled."""
    draw = _white(runner)
    return None if draw is None else lambda times: draw(len(times))


@draw_rules.register(FilteredNoise)
def filtered_noise(runner: Any) -> Callable | None:
    """White noise through a synapse, among them Brownian noise."""
    synapse = runner.op.process.synapse
    draw = _white(runner)
    own = type(synapse).__module__ != "nengo.synapses"
    if draw is None or own:
        return None
    if type(synapse).make_step is LinearFilter.make_step:
        A, _, _, D = synapse._get_ss(runner.dt)
        double = all(state["X"].dtype == np.float64 for state in runner.states)
        if len(A) == 1 and not np.any(D) and double:
            return _one_state(runner, draw)
    shape = runner.op.output.shape
    filters = [
        synapse.make_step(shape, shape, runner.dt, rng, state)
        for rng, state in zip(runner.rngs, runner.states)
    ]

    def filtered(times):
        x = draw(len(times))
        out = np.empty(x.shape)
        for i, t in enumerate(times.tolist()):
            for b, step in enumerate(filters):
                out[i, b] = step(t, x[i, b])
        return out

    return filtered


def _one_state(runner, draw) -> Callable:
    r"""All items side by side: :math:`y_t = a y_{t-1} + b x_t`."""
    A, B, C, _ = runner.op.process.synapse._get_ss(runner.dt)
    a, b = A.item(), C.item() * B.item()

    def filtered(times):
        x = b * draw(len(times))
        y = np.stack([state["X"][0] for state in runner.states])
        if a == 1 and len(x):
            x[0] += y
            out = np.add.accumulate(x, axis=0)
            y = out[-1]
        else:
            out = np.empty(x.shape)
            for i, driven in enumerate(x):
                y *= a
                y += driven
                out[i] = y
        for state, last in zip(runner.states, y):
            state["X"][0] = last
        return out

    return filtered
