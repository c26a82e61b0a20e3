"""Probes that are read at their samples only.

A probe of 400 x 400 weights with ``sample_every=1.0`` shows one step of a thousand. To
read it in all of them takes longer than the steps themselves, so a program runs the steps
in between without it. Small probes are read each step: that costs less than it takes to
ask whether to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from nengo_dl.compiler.layout import Layout, looking_at

#: steps that are looked through at once for samples
WINDOW = 4096

#: estimated seconds for reading a probe, for each byte; one of fewer bytes is never worth
#: a program of its own (``python -m nengo_dl.benchmarks sampled``)
BYTE_SECONDS, LEAST_BYTES = 1e-9, 4096


def pays_to_leave_out(n_bytes: float, period: float, seconds: float) -> bool:
    """Whether it pays to leave a probe out between its samples.

    Parameters
    ----------
    n_bytes : float
        What the probe sees in a step.
    period : float
        Steps between two samples.
    seconds : float
        What it costs for each sample.
    """
    if n_bytes < LEAST_BYTES:
        return False
    return BYTE_SECONDS * n_bytes * (period - 1) > seconds


class Seen(NamedTuple):
    """What probes saw in some steps.

    Attributes
    ----------
    steps : int
        How many.
    parts : tuple
        ``(rows, probes, sampled)``: an array ``(n, rows, batch)``; for each probe its
        first row and the one after its last; whether the array has samples alone. If
        not, it has all the steps.
    """

    steps: int
    parts: tuple[tuple[np.ndarray, tuple[tuple[Any, int, int], ...], bool], ...]


class Sampling:
    """The times at which probes are read: periods, and those of the last step alone.

    Parameters
    ----------
    periods : mapping
        Probe -> number of steps between two samples. Of the steps 1, 2, ... those with
        ``step % period < 1`` are samples, as in core Nengo.
    last : set
        Those of them of which only the last sample of a run is wanted.
    """

    def __init__(self, periods: Mapping[Any, float], last: Any = ()) -> None:
        self.periods = dict(periods)
        self.last = frozenset(last)

    def among(self, probes: Any) -> Sampling:
        """The sampling of some of the probes alone."""
        periods = {p: period for p, period in self.periods.items() if p in probes}
        return Sampling(periods, self.last & set(periods))

    def due(self, step: int) -> frozenset:
        """Which probes have a sample in one step that is a run of its own."""
        return frozenset(p for p, period in self.periods.items() if step % period < 1)

    def samples(self, start: int, n_steps: int) -> Iterator[tuple[int, frozenset]]:
        """Steps of a run with samples, in order, and the probes that have one there.

        Parameters
        ----------
        start : int
            Number of steps before the run.
        n_steps : int
        """
        final = {probe: self._final(probe, start, n_steps) for probe in self.last}
        for first in range(start + 1, start + n_steps + 1, WINDOW):
            steps = np.arange(first, min(first + WINDOW, start + n_steps + 1))
            found: dict[int, list] = {}
            for probe, period in self.periods.items():
                if probe in final:
                    mine = [final[probe]] if final[probe] in steps else []
                else:
                    mine = steps[steps % period < 1].tolist()
                for step in mine:
                    found.setdefault(step, []).append(probe)
            for step in sorted(found):
                yield step, frozenset(found[step])

    def _final(self, probe: Any, start: int, n_steps: int) -> int | None:
        """The last step of a run that is a sample of a probe."""
        stop = start + n_steps
        while stop > start:
            steps = np.arange(max(start, stop - WINDOW) + 1, stop + 1)
            found = steps[steps % self.periods[probe] < 1]
            if found.size:
                return int(found[-1])
            stop = int(steps[0]) - 1
        return None


class Look:
    """Which rows of a result belong to which probe, those of each step first.

    Parameters
    ----------
    layout : Layout
        The whole step.
    sampled : frozenset
        Its probes that are read at their samples only.
    due : frozenset
        Those of them that are read.
    """

    def __init__(self, layout: Layout, sampled: frozenset, due: frozenset) -> None:
        probes = [key for key, _, _ in layout.probes]
        every = [key for key in probes if key not in sampled]
        self.layout = layout
        if sampled:
            self.layout = looking_at(layout, [*every, *(k for k in probes if k in due)])
        rows = [(k, a, a + int(np.prod(s))) for k, a, s in self.layout.probes]
        self.every = tuple(rows[: len(every)])
        #: rows of each step
        self.n_every = self.every[-1][2] if self.every else 0
        self.due = tuple((k, a - self.n_every, b - self.n_every) for k, a, b in rows)
        self.due = self.due[len(every) :]

    def part(self, rows: np.ndarray) -> tuple:
        """The samples in ``(steps, n, batch)``, as a part of `Seen`."""
        return rows[:, self.n_every :], self.due, True
