"""Ctrl-C that waits for the end of a step.

An interrupt may come between any two instructions: after a function of the user has
returned, and before that was written down, say. While a simulation runs, it therefore
waits until the step is whole. It comes at once where a function of the user is running,
which may take long, and so does a second one from a user who does not want to wait.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

from nengo_dl.notices import of_libraries, of_package

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
