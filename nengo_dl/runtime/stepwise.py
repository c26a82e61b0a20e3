"""Executors that go step by step: what is common to all of them.

An executor needs more than the code of a step: inputs, a state that is that of a whole
step whatever happens, probes that are read at their samples only. All of that is here,
around any object that runs one step in place; see `StepProgram`.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Protocol

import numpy as np

from nengo_dl.notices import of_libraries, of_package
from nengo_dl.runtime.costs import (
    CHUNK_BYTES,
    CHUNK_STEPS,
    JOURNAL_BYTES,
    JOURNAL_STEPS,
    SETS,
)
from nengo_dl.runtime.emit import whole_step
from nengo_dl.runtime.executor import Look, Seen, Task
from nengo_dl.runtime.host import InputsInterrupted

# interrupts ---------------------------------------------------------------------------
#
# An interrupt may come between any two instructions: after a function of the user has
# returned, and before that was written down, say. While a simulation runs, it therefore
# waits until the step is whole. It comes at once where a function of the user is
# running, which may take long, and so does a second one from a user who does not want
# to wait.

#: seconds after which a second interrupt does not wait any more
PATIENCE = 1.0


class Interrupts:
    """Whether an interrupt waits, in the thread that runs the simulation.

    Attributes
    ----------
    came : float or None
        When it came.
    """

    def __init__(self) -> None:
        self.came: float | None = None
        self.raised = False

    def check(self) -> None:
        """Between two steps: raise what waits."""
        if self.came is not None and not self.raised:
            self.raised = True
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        impatient = self.came is not None and time.monotonic() > self.came + PATIENCE
        if impatient or in_users_code(frame):
            self.raised = True
            signal.default_int_handler(number, frame)
        if self.came is None:
            self.came = time.monotonic()


#: of the run that waits for its steps; others have nothing to wait for
waiting = Interrupts()


def in_users_code(frame: FrameType | None) -> bool:
    """Whether code of the user runs, or of a library that it has called."""
    while frame is not None:
        if of_package(frame):
            return False
        if not of_libraries(frame):
            return True
        frame = frame.f_back
    return True


@contextlib.contextmanager
def between_steps() -> Iterator[Interrupts]:
    """Inside, an interrupt waits for `Interrupts.check` of `waiting`.

    That is so in the main thread, which is the one that gets it, and if nobody else
    takes care of interrupts. At the latest it comes at the end.
    """
    global waiting
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield Interrupts()
        return
    before, waiting = waiting, Interrupts()
    mine = waiting
    signal.signal(signal.SIGINT, mine._handle)
    try:
        yield mine
        mine.check()
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        waiting = before


# undoing a step -----------------------------------------------------------------------
#
# A step changes its state in place. If a function of the user raises in the middle of
# it, or an interrupt comes, half of the state is that of the next step. So the state is
# copied now and then, and of the steps since it is written down what they were given
# and what Python functions returned to them. That is enough to run them again, bit by
# bit, without calling anything: from the copy to any step since.


class HostLog:
    """What the Python functions of a step returned, so that it can be run once more.

    Attributes
    ----------
    results : list of list of ndarray or None
        Of the present step, so far: what each call returned, in their order.
    again : list of list of ndarray
        What the next calls are to return instead of calling.
    begun : dict
        Function -> what it returned for some columns before it failed, and how many.
    columns : int
        How many numbers all calls of a step return.
    """

    def __init__(self) -> None:
        self.results: list | None = None
        self.columns = 0
        self.forget()

    def forget(self) -> None:
        """The functions are called for another step."""
        self.again: list = []
        self.begun: dict = {}


@dataclass
class Stretch:
    """Steps that are run in one call.

    Attributes
    ----------
    rows : ndarray
        What each of them is given, ``(steps, n, batch)``.
    whole : int
        How many came to their end.
    results : list of list
        What functions returned in each step, so far; the last one may have failed.
        Empty if nothing is called.
    """

    rows: np.ndarray
    whole: int = 0
    results: list = field(default_factory=list)

    def steps(self) -> list[tuple]:
        """Each whole step: what it was given, and what its functions returned."""
        results = self.results or [[]] * self.whole
        return list(zip(self.rows[: self.whole], results))


class Journal:
    """The steps of a program since its state was last copied.

    Parameters
    ----------
    program : StepProgram
    most_steps : int
        Steps after which the state is copied at the latest.

    Attributes
    ----------
    most : int
        Steps between two copies.
    """

    def __init__(self, program: StepProgram, most_steps: int = JOURNAL_STEPS) -> None:
        self._program = program
        self._log = program.host_log
        given = 0 if program.x is None else program.x.nbytes
        size = given + self._log.columns * program.dtype.itemsize
        self.most = int(np.clip(JOURNAL_BYTES // max(size, 1), 1, most_steps))
        self._spare: list[np.ndarray] | None = None
        self.forget()

    def forget(self) -> None:
        """The state was changed from outside."""
        self._copy: list[np.ndarray] | None = None
        self._begin(0)
        self._again: dict = {}  # number of a step -> what its functions returned already
        self._log.forget()

    def _begin(self, first: int) -> None:
        self._first, self._count = first, 0
        #: what each step was given and what its functions returned, or a stretch of them
        self._steps: list = []

    def begin(self, start: int, count: int) -> None:
        """Before steps ``start + 1`` to ``start + count``."""
        if self._copy is not None:
            if self.reached != start:  # another time: what waits is not for it
                self.forget()
            elif self._count + count <= self.most:
                return
        # into memory that is there, but not over the copy that is valid until then; they
        # change places at the end, because an interrupt may come before
        copy = self._spare
        if copy is None:
            copy = [block.copy() for block in self._program.held]
        else:
            for mine, block in zip(copy, self._program.held, strict=True):
                mine[...] = block
        self._copy, self._spare = copy, self._copy
        self._begin(start)
        self._log.results = None  # of a step before the copy: none of the one to come

    @property
    def reached(self) -> int:
        """The number of the last whole step."""
        return self._first + self._count

    def run(self, row: np.ndarray | None, program: StepProgram | None = None) -> None:
        """One step, which is given ``row``.

        Parameters
        ----------
        row : ndarray or None
        program : StepProgram, optional
            One beside the journal's, which shares its state.
        """
        log = self._log
        if self._again:
            log.again = list(self._again.pop(self.reached + 1, ()))
        log.results = results = []
        (program or self._program)()
        self._steps.append((row, results))
        self._count += 1

    def advance(self, rows: np.ndarray, out: np.ndarray) -> int:
        """Some steps in one call, of programs that have the method ``advance``.

        Parameters
        ----------
        rows : ndarray ``(steps, n, batch)``
            What they are given.
        out : ndarray
            For what they give.

        Returns
        -------
        int
            How many came to their end.
        """
        stretch, first = Stretch(rows), self.reached + 1
        self._steps.append(stretch)
        log = self._log

        def begin(number: int) -> None:
            """Before the first function is called in one of them."""
            log.again = list(self._again.pop(first + number, ()))
            log.results = []
            stretch.results.append(log.results)
            if waiting.came is not None:
                waiting.check()

        program: Any = self._program
        stretch.whole = program.advance(rows, out, begin)
        self._count += stretch.whole
        return stretch.whole

    def back(self, step: int) -> list:
        """To the end of step ``step``.

        Returns
        -------
        list
            What the steps after it were given.
        """
        if self._copy is None or step < self._first:
            return []
        log, program = self._log, self._program
        steps = self._flat()
        # what was returned in the step that did not come to its end
        for number, results in enumerate(self._unfinished(steps), self.reached + 1):
            if results:
                self._again[number] = results
        kept, later = steps[: step - self._first], steps[step - self._first :]
        for number, (_, results) in enumerate(later, step + 1):
            self._again[number] = results
        self._steps, self._count = [*kept], len(kept)
        for block, copied in zip(program.held, self._copy, strict=True):
            block[...] = copied
        with np.errstate(all="ignore"):
            for row, results in kept:
                if program.x is not None:
                    program.x[...] = row
                log.again, log.results = list(results), []
                program()
        log.again, log.results = [], None
        return [row for row, _ in later]

    def _flat(self) -> list[tuple]:
        """All whole steps, one by one."""
        steps: list[tuple] = []
        for entry in self._steps:
            steps += entry.steps() if isinstance(entry, Stretch) else [entry]
        return steps

    def _unfinished(self, steps: list[tuple]) -> list[list]:
        """What was returned after these whole steps, step by step."""
        log = self._log
        last = self._steps[-1] if self._steps else None
        found = last.results[last.whole :] if isinstance(last, Stretch) else []
        known = [results for _, results in steps] + found
        if log.results is not None and not any(log.results is r for r in known):
            found = [*found, log.results]
        found = [list(results) for results in found]
        if log.again:
            found = found or [[]]
            found[-1] += log.again
        return found


# executors that go step by step -------------------------------------------------------


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
    held : list of ndarray
        All that goes from one step to the next, as it lies in memory. What is copied from
        there may be copied back later.
    dtype : dtype
        Of all of these.
    host_log : HostLog
        Of the Python functions that it calls, see `Journal`.
    """

    x: np.ndarray | None
    y: np.ndarray
    carry: list[np.ndarray]
    dtype: np.dtype
    host_log: Any

    @property
    def held(self) -> list[np.ndarray]:
        """See above."""
        ...

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
    items : int, optional
        For how many items step functions are; by default, for all of the batch.
    """

    chunk_steps, chunk_bytes = CHUNK_STEPS, CHUNK_BYTES

    def __init__(
        self, task: Task, make: Callable, beside: Callable, items: int | None = None
    ) -> None:
        self.feed, self.store = task.feed, task.store
        self.weights = list(task.weights)
        self.sampling = task.sampling
        self.items = items or self.store.batch
        self.sampled = frozenset(self.sampling.periods)
        self.whole = task.layout
        self.between = Look(task.layout, self.sampled, frozenset())
        self.layout = layout = self.between.layout
        self.program: StepProgram = make(
            whole_step(layout, self.items),
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
            step = whole_step(look.layout, self.items)
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
                    if waiting.came is not None:
                        waiting.check()
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
        program, run, interrupts = self.program, self.journal.run, waiting
        for row, y in zip(rows, out):
            if interrupts.came is not None:
                interrupts.check()
            if program.x is not None:
                program.x[...] = row
            run(row)
            y[...] = program.y
            self._done += 1

    def _advance(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Run steps without samples in one call of the program's method ``advance``."""
        if waiting.came is not None:
            waiting.check()
        self._done += self.journal.advance(rows, out)

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
            self.feed.one(start)
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
