"""Executors that go step by step: what is common to all of them.

An executor needs more than the code of a step: inputs, a state that is that of a whole
step whatever happens, probes that are read at their samples only. All of that is here,
around any object that runs one step in place; see `StepProgram`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from nengo_dl.runtime import interrupts
from nengo_dl.runtime.emit import whole_step
from nengo_dl.runtime.executor import Task
from nengo_dl.runtime.host import InputsInterrupted
from nengo_dl.runtime.journal import Journal
from nengo_dl.runtime.sampling import Look, Seen

#: steps whose probe data are handed over at once, and about how many bytes at most (one
#: step may have more)
CHUNK_STEPS, CHUNK_BYTES = 256, 2**22

#: so many sets of probes that are read together get a program of their own
SETS = 8


class StepProgram(Protocol):
    """One step that works in place, with buffers of its own.

    Attributes
    ----------
    x : ndarray or None
        What the step is given, ``(n_inputs, batch)``; filled before each call.
    y : ndarray
        What the step gives, ``(n_y, batch)``, valid until the next call.
    carry : list of ndarray
        The state, ``(n_i, batch)`` each. If a call raises, parts of it may be those of
        the next step already.
    dtype : dtype
        Of all of these.
    host_log : HostLog
        Of the Python functions that it calls, see `.journal`.
    """

    x: np.ndarray | None
    y: np.ndarray
    carry: list[np.ndarray]
    dtype: np.dtype
    host_log: Any

    def __call__(self) -> None:
        """Run one step in place."""

    def set_carry(self, values: Sequence[np.ndarray]) -> None:
        """Copy values into the state."""

    def refresh(self) -> None:
        """The weights, which the step shares with whoever made it, have changed."""


class StepwiseExecutor:
    """An `~.executor.Executor` around programs of one step.

    Parameters
    ----------
    task : Task
        With a layout of a single stage.
    make : callable
        ``make(step, carry, n_inputs, batch, weights, dtype)`` returns the `StepProgram`
        of a step function (see `.emit.whole_step`).
    beside : callable
        ``beside(step, weights, main)`` returns one that takes the place of another
        program, ``main``, now and then: both have one state, one input and one log.
    """

    chunk_steps, chunk_bytes = CHUNK_STEPS, CHUNK_BYTES

    def __init__(self, task: Task, make: Callable, beside: Callable) -> None:
        self.feed, self.store = task.feed, task.store
        self.weights = list(task.weights)
        self.sampling = task.sampling
        self.sampled = frozenset(self.sampling.periods)
        self.whole = task.layout
        self.between = Look(task.layout, self.sampled, frozenset())
        self.layout = layout = self.between.layout
        self.program: StepProgram = make(
            whole_step(layout, self.store.batch),
            self.store.load(layout.states, layout.carry),
            layout.n_inputs or None,
            self.store.batch,
            self.weights,
            self.store.dtype,
        )
        self._beside = beside
        self._looks: dict[frozenset, tuple[Look, StepProgram]] = {}
        self.journal = Journal(self.program, self.chunk_steps)
        self.longest = self._longest()

    def _longest(self) -> int:
        """Steps that are run at once: their inputs and outputs are held until then."""
        shapes = {key: shape for key, _, shape in self.whole.probes}
        numbers = self.layout.n_inputs + self.layout.n_probed
        numbers += sum(
            np.prod(shapes[probe]) / period
            for probe, period in self.sampling.periods.items()
            if probe not in self.sampling.last
        )
        size = numbers * self.store.batch * self.store.dtype.itemsize
        return min(self.chunk_steps, max(1, int(self.chunk_bytes / max(size, 1))))

    def load(self) -> None:
        """See `~.executor.Executor.load`."""
        self.program.set_carry(self.store.load(self.layout.states, self.layout.carry))
        self.journal.forget()

    def save(self) -> None:
        """See `~.executor.Executor.save`."""
        self.store.save(self.layout.states, self.program.carry)

    def write(self, weights: Sequence[np.ndarray]) -> None:
        """See `~.executor.Executor.write`."""
        for mine, new in zip(self.weights, weights, strict=True):
            mine[...] = new
        self.program.refresh()
        for _, program in self._looks.values():
            program.refresh()
        self.journal.forget()

    def has_compiled(self, n_steps: int) -> bool:
        """See `~.executor.Executor.has_compiled`: all was done when it was made."""
        return True

    def _look(self, due: frozenset) -> tuple[Look, StepProgram]:
        """The program that reads at least the probes that are due."""
        if due not in self._looks:
            if len(self._looks) >= SETS:
                due = self.sampled
            look = Look(self.whole, self.sampled, due)
            step = whole_step(look.layout, self.store.batch)
            self._looks[due] = look, self._beside(step, self.weights, self.program)
        return self._looks[due]

    def run(self, start: int, n_steps: int) -> Iterator[Seen]:
        """See `~.executor.Executor.run`."""
        samples = self.sampling.samples(start, n_steps) if self.sampled else iter(())
        self._samples, self._next = samples, next(samples, (0, frozenset()))
        done = 0
        while done < n_steps:
            k = min(self.longest, self.journal.most, n_steps - done)
            cause = None
            try:
                rows = self.feed.chunk(start + done, k)
            except InputsInterrupted as interrupted:
                rows, cause = interrupted.partial, interrupted.cause
            yield from self._steps(rows, start + done)
            if cause is not None:
                raise cause
            done += k

    def _steps(self, rows: np.ndarray, start: int) -> Iterator[Seen]:
        """Run one step for each entry of ``rows``, after step ``start``."""
        self.journal.begin(start, len(rows))
        out = self._room(len(rows))
        parts: list[tuple] = []
        sampled: list[int] = []  # steps of which there are parts
        self._done = 0
        try:
            with np.errstate(all="ignore"):
                while self._done < len(rows):
                    # the place of the next sample among the rows
                    due = self._next[0] - start - 1
                    if due != self._done:
                        stop = due if self._done < due < len(rows) else len(rows)
                        self._stretch(rows[self._done : stop], out[self._done : stop])
                        continue
                    if interrupts.waiting.came is not None:
                        interrupts.waiting.check()
                    out[due], part = self._sample(rows[due])
                    sampled.append(start + due + 1)
                    parts.append(part)
                    self._next = next(self._samples, (0, frozenset()))
                    self._done += 1
        except BaseException:  # interrupts too: what was computed is not lost
            done = self._done
            self.journal.back(start + done)
            del parts[sum(step <= start + done for step in sampled) :]
            self.feed.put_back(start + done, rows[done:])
            if done:
                yield Seen(done, ((out[:done], self.between.every, False), *parts))
            raise
        yield Seen(self._done, ((out, self.between.every, False), *parts))

    def _room(self, steps: int) -> np.ndarray:
        """For what some steps give."""
        return np.empty((steps, *self.program.y.shape), self.store.dtype)

    def _stretch(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Run steps without samples; `_done` counts those of which ``out`` is there."""
        program, run, waiting = self.program, self.journal.run, interrupts.waiting
        for row, y in zip(rows, out):
            if waiting.came is not None:
                waiting.check()
            if program.x is not None:
                program.x[...] = row
            run(row)
            y[...] = program.y
            self._done += 1

    def _sample(self, row: np.ndarray) -> tuple[np.ndarray, tuple]:
        """Run a step of which some probes have a sample: the other rows, and a part."""
        wanted = self._next[1]
        look, program = self._look(wanted)
        if self.program.x is not None:
            self.program.x[...] = row
        self.journal.run(row, program)
        samples = program.y[look.n_every :].copy()
        due = tuple(probe for probe in look.due if probe[0] in wanted)
        return program.y[: look.n_every], (samples[None], due, True)

    def step(self, start: int) -> np.ndarray | Seen:
        """See `~.executor.Executor.step`."""
        main = self.program
        due = self.sampling.due(start + 1) if self.sampled else None
        look, program = self._look(due) if due else (self.between, main)
        self.journal.begin(start, 1)
        if main.x is not None:
            self.feed.single(start, main.x)
        elif self.feed.has_sources:
            self.feed.chunk(start, 1)
        row = None if main.x is None else main.x.copy()
        with np.errstate(all="ignore"):
            self.journal.run(row, program)
        rows = program.y[None].copy()
        if not self.sampled:
            return rows
        every = (rows[:, : look.n_every], look.every, False)
        return Seen(1, (every, look.part(rows)) if due else (every,))

    def settle(self, step: int) -> None:
        """See `~.executor.Executor.settle`.

        What was given to the steps after it, and what their functions returned, waits
        until they are run again.
        """
        later = self.journal.back(step)
        if self.program.x is not None and len(later):
            self.feed.put_back(step, np.stack(later))
