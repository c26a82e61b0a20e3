"""Whole steps: undoing one that did not come to its end.

A step changes its state in place. If a function of the user raises in the middle of it,
or an interrupt comes, half of the state is that of the next step. So the state is copied
now and then, and of the steps since it is written down what they were given and what
Python functions returned to them. That is enough to run them again, bit by bit, without
calling anything: from the copy to any step since.
"""

from __future__ import annotations

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


class Journal:
    """The steps of a program since its state was last copied.

    Parameters
    ----------
    program : StepProgram

    Attributes
    ----------
    most : int
        Steps between two copies.
    """

    def __init__(self, program: StepProgram) -> None:
        self._program = program
        self._log = program.host_log
        given = 0 if program.x is None else program.x.nbytes
        size = given + self._log.columns * program.dtype.itemsize
        self.most = int(np.clip(MOST_BYTES // max(size, 1), 1, MOST_STEPS))
        self._spare: list[np.ndarray] | None = None
        self.forget()

    def forget(self) -> None:
        """The state was changed from outside."""
        self._copy: list[np.ndarray] | None = None
        self._first = 0
        self._steps: list = []
        self._again: dict = {}  # number of a step -> what its functions returned already
        self._log.forget()

    def begin(self, start: int, count: int) -> None:
        """Before steps ``start + 1`` to ``start + count``."""
        if self._copy is not None:
            if self.reached != start:  # another time: what waits is not for it
                self.forget()
            elif len(self._steps) + count <= self.most:
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
        self._first, self._steps = start, []
        self._log.results = None  # of a step before the copy: none of the one to come

    @property
    def reached(self) -> int:
        """The number of the last whole step."""
        return self._first + len(self._steps)

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
        whole = any(log.results is results for _, results in self._steps)
        if not whole:  # what was returned in the step that did not come to its end
            returned = [*(log.results or ()), *log.again]
            if returned:
                self._again[self.reached + 1] = returned
        kept, later = self._steps[: step - self._first], self._steps[step - self._first :]
        for number, (_, results) in enumerate(later, step + 1):
            self._again[number] = results
        self._steps = kept
        program.set_carry(self._copy)
        with np.errstate(all="ignore"):
            for row, results in kept:
                if program.x is not None:
                    program.x[...] = row
                log.again, log.results = list(results), []
                program()
        log.again, log.results = [], None
        return [row for row, _ in later]
