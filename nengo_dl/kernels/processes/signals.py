"""Signals that are functions of time, computed for many steps at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from nengo.processes import Piecewise, PresentInput, WhiteSignal

from nengo_dl.kernels.processes.base import captured, draw_rules


def _of_time(rule: Callable) -> Callable:
    """Mark a rule: what it draws depends on the time alone, so that nothing is kept."""
    vars(rule)["of_time"] = True
    return rule


def _for_all_items(runner, function) -> Callable:
    """A function of times that gives ``(k, size)``, repeated for each batch item."""
    items, size = len(runner.steps), runner.size

    def draw(times):
        values = np.asarray(function(times)).reshape(len(times), 1, size)
        return np.broadcast_to(values, (len(times), items, size))

    return draw


@draw_rules.register(WhiteSignal)
@_of_time
def white_signal(runner: Any) -> Callable | None:
    """A row of the table of one period that the step function has made."""
    tables = [captured(step, "signal") for step in runner.steps]
    shape, dt = runner.op.output.shape, runner.dt
    if any(not isinstance(table, np.ndarray) for table in tables):
        return None
    for table, step in zip(tables, runner.steps):
        if table.shape[1:] != shape or not np.shares_memory(step(dt), table):
            return None

    def draw(times):
        number = np.rint(times / dt).astype(np.int64)
        return np.stack([table[number % len(table)] for table in tables], axis=1)

    return draw


@draw_rules.register(PresentInput)
@_of_time
def present_input(runner: Any) -> Callable:
    """One row after the other, each for the same length of time."""
    process, dt = runner.op.process, runner.dt
    rows = process.inputs.reshape(len(process.inputs), -1)
    length = float(process.presentation_time)

    def present(times):
        # a little more, as a step may begin a rounding error before its row does
        number = ((times - dt) / length + 1e-7).astype(np.int64)
        return rows[number % len(rows)]

    return _for_all_items(runner, present)


@draw_rules.register(Piecewise)
@_of_time
def piecewise(runner: Any) -> Callable | None:
    """Values that begin at given times, or interpolation between them."""
    process = runner.op.process
    if any(callable(value) for value in process.data.values()):
        return None
    if process.interpolation != "zero":
        f = captured(runner.steps[0], "f")
        return None if f is None else _for_all_items(runner, f)
    starts, values = zip(*sorted(process.data.items()))
    starts = np.asarray(starts)
    if starts.dtype.kind not in "iuf":
        return None
    table = np.stack([np.zeros(runner.size), *values])

    def look_up(times):
        return table[np.searchsorted(starts, times + 0.5 * runner.dt)]

    return _for_all_items(runner, look_up)
