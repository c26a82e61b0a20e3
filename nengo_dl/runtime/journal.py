"""Whole steps: undoing one that did not come to its end.

A step changes its state in place. If a function of the user raises in the middle of it,
or an interrupt comes, half of the state is that of the next step. So the state is copied
now and then, and of the steps since it is written down what they were given and what
Python functions returned to them. That is enough to run them again, bit by bit, without
calling anything: from the copy to any step since.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from nengo_dl.runtime.stepwise import StepProgram

#: steps after which the state is copied at the latest
MOST_STEPS = 256

#: bytes that are kept of the steps since
MOST_BYTES = 2**24


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

    def __init__(self, program: StepProgram, most_steps: int = MOST_STEPS) -> None:
        self._program = program
        self._log = program.host_log
        given = 0 if program.x is None else program.x.nbytes
        size = given + self._log.columns * program.dtype.itemsize
        self.most = int(np.clip(MOST_BYTES // max(size, 1), 1, most_steps))
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
        self._steps: list[tuple | Stretch] = []

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
            copy = [carried.copy() for carried in self._program.carry]
        else:
            for mine, carried in zip(copy, self._program.carry, strict=True):
                mine[...] = carried
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

        stretch.whole = self._program.advance(rows, out, begin)
        self._count += stretch.whole
        return stretch.whole

    def back(self, step: int) -> list[np.ndarray | None]:
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
        self._steps, self._count = list(kept), len(kept)
        program.set_carry(self._copy)
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
