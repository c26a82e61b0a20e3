"""Showing the user how far a long task has come."""

import sys
import time
from datetime import datetime

from nengo.exceptions import ValidationError
from nengo.rc import rc
from nengo.utils.progress import NoProgressBar, Progress, ProgressBar, to_progressbar

#: A task that ends sooner, in seconds, is not shown in the terminal.
DELAY = 0.5

#: Time between two updates of what is shown, in seconds.
INTERVAL = 0.1


def progress(progress_bar, label, max_value=None, delay=DELAY, last=True):
    """Follow a task, as a context manager.

    Parameters
    ----------
    progress_bar : bool or None or ~nengo.utils.progress.ProgressBar
        True shows tasks that take long enough on ``stderr``, if that is a terminal, and
        unless Nengo's configuration says otherwise (``nengo.rc["progress"]``). False or
        None show nothing. A progress bar of Nengo's is given every update.
    label : str
        What is done, such as ``"Simulating"``.
    max_value : int, optional
        Number of steps of the task; None if it is not known.
    delay : float
        Seconds until something is shown in the terminal.
    last : bool
        False: another task follows on the same bar, which is closed only if this one
        fails.

    Returns
    -------
    Task or NoTask
        ``update(n)`` tells that ``n`` steps are done, ``step(n=1)`` that ``n`` more
        are. May also be given to ``model.build(network, progress=…)``, which then enters
        and leaves it.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If ``progress_bar`` is something else.

    Examples
    --------
    >>> with progress(False, "Simulating", 1000) as task:
    ...     for i in range(0, 1000, 100):
    ...         task.update(i + 100)
    """
    if not (
        progress_bar is None
        or isinstance(progress_bar, bool)
        or callable(getattr(progress_bar, "update", None))
    ):
        raise ValidationError(
            "must be True, False or an instance of nengo.utils.progress.ProgressBar; "
            f"got {progress_bar!r}",
            attr="progress_bar",
        )
    display = _display(progress_bar, delay) if progress_bar else None
    return NoTask() if display is None else Task(display, label, max_value, last)


def _display(progress_bar, delay):
    """The progress bar that shows a task, or None."""
    if progress_bar is True:
        wanted = rc["progress"]["progress_bar"].lower()
        if wanted in ("auto", "true", "yes", "on", "1"):
            terminal = sys.stderr is not None and sys.stderr.isatty()
            return TerminalBar(delay) if terminal else None
        progress_bar = to_progressbar(True)
    return None if isinstance(progress_bar, NoProgressBar) else progress_bar


class NoTask:
    """A task that is not shown. It has the methods of `Task`, which do nothing."""

    __slots__ = ("max_steps",)

    def update(self, n):
        """Do nothing."""

    def step(self, n=1):
        """Do nothing."""

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        return None


class Task(Progress):
    """A task that is shown by a progress bar.

    The bar is updated by the task's own calls, at most once in `INTERVAL`; there is no
    thread.

    Parameters
    ----------
    display : ~nengo.utils.progress.ProgressBar
        What shows the task.
    label : str
        What is done.
    max_value : int, optional
        Number of steps, if it is known.
    last : bool
        Whether the bar is closed afterwards, also if the task does not fail.
    """

    def __init__(self, display, label, max_value=None, last=True):
        super().__init__(label, max_steps=max_value or None)
        self._display = display
        self._last = last
        self._next_update = 0.0

    def __enter__(self):
        super().__enter__()
        self._show()
        return self

    def __exit__(self, *exc_info):
        # the builder of networks leaves the task that it was given, before we do
        if not self.finished:
            super().__exit__(*exc_info)
            self._display.update(self)
            if self._last or not self.success:
                self._display.close()

    def update(self, n):
        """Tell that ``n`` steps are done, counted from the start of the task."""
        self.n_steps = n
        self._show()

    def step(self, n=1):
        """Tell that ``n`` more steps are done."""
        self.update(self.n_steps + n)

    def _show(self):
        now = time.monotonic()
        if now >= self._next_update:
            self._next_update = now + INTERVAL
            self._display.update(self)


class TerminalBar(ProgressBar):
    """A line on ``stderr`` that shows a task, drawn by the package ``progressbar2``.

    Parameters
    ----------
    delay : float
        Seconds that a task must have run to be shown.
    """

    def __init__(self, delay=DELAY):
        super().__init__()
        self.delay = delay
        self._bar = None

    def update(self, progress):
        """Draw the line, if the task has run for long enough."""
        if self._bar is None:
            if progress.finished or progress.elapsed_seconds() < self.delay:
                return
            self._bar = self._start(progress)
        if not progress.finished:
            if progress.max_steps is None:
                self._bar.update(force=True)
            else:
                n_steps = min(progress.n_steps, progress.max_steps)
                self._bar.update(n_steps, force=True)
            return
        self._bar.finish(dirty=not progress.success)
        self._bar = None

    @staticmethod
    def _start(progress):
        import progressbar as pb  # here, as most runs end without ever showing a bar

        if progress.max_steps is None:
            max_value = pb.UnknownLength
            widgets = [pb.AnimatedMarker(), " ", pb.Timer()]
        else:
            max_value = progress.max_steps
            widgets = [pb.Percentage(), " ", pb.Bar(), " ", pb.ETA()]
        return pb.ProgressBar(
            max_value=max_value,
            widgets=[progress.name_during, " ", *widgets],
            fd=sys.stderr,
            start_time=datetime.fromtimestamp(progress.time_start),
        ).start()
