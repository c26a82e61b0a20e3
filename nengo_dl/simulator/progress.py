"""Showing the user how far a long task has come."""

from __future__ import annotations

import sys
import threading
import time
from datetime import datetime, timedelta
from html import escape
from typing import TYPE_CHECKING, Any

from nengo.exceptions import ValidationError
from nengo.rc import rc
from nengo.utils.progress import NoProgressBar, Progress, ProgressBar, to_progressbar

if TYPE_CHECKING:
    from typing_extensions import Self

#: A task that ends sooner, in seconds, is not shown in a terminal or notebook.
DELAY = 0.5

#: Time between two updates of what is shown, in seconds.
INTERVAL = 0.1

#: Tasks with so many steps are shown after `DELAY` even if nothing is known of the first
#: steps yet, which may have to be compiled. That takes a thread, too much for few steps.
MANY_STEPS = 500

#: What a terminal shows before the first steps, instead of an estimate.
STARTING = "%(elapsed)s so far"


def progress(
    progress_bar: bool | ProgressBar | None,
    label: str,
    max_value: int | None = None,
    delay: float = DELAY,
    last: bool = True,
    slow_steps: bool = False,
) -> Any:
    """Follow a task, as a context manager.

    Parameters
    ----------
    progress_bar : bool or None or ~nengo.utils.progress.ProgressBar
        True shows tasks that take long enough: in a notebook below the cell, in a
        terminal on ``stderr``. Where ``stderr`` is a file nothing is shown, so that it
        does not get into logs. Nengo's configuration may say otherwise
        (``nengo.rc["progress"]``). False or None show nothing. A progress bar of Nengo's
        is given every update, such as ``nengo.utils.progress.WriteProgressToFile``.
    label : str
        What is done, such as ``"Simulating"``.
    max_value : int, optional
        Number of steps of the task; None if it is not known.
    delay : float
        Seconds until something is shown in a terminal or notebook.
    last : bool
        False: another task follows on the same bar, which is closed only if this one
        fails.
    slow_steps : bool
        Whether a single step may take long, so that few of them are shown, too.

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
    if display is None:
        return NoTask()
    return Task(display, label, max_value, last, slow_steps)


def _display(progress_bar: bool | ProgressBar | None, delay: float) -> ProgressBar | None:
    """The progress bar that shows a task, or None."""
    if progress_bar is True:
        wanted = rc["progress"]["progress_bar"].lower()
        if wanted in ("auto", "true", "yes", "on", "1"):
            if _in_notebook():
                return NotebookBar(delay)
            terminal = sys.stderr is not None and sys.stderr.isatty()
            return TerminalBar(delay) if terminal else None
        progress_bar = to_progressbar(True)
    return None if isinstance(progress_bar, NoProgressBar) else progress_bar


def _in_notebook() -> bool:
    """Whether a kernel runs this, for a notebook or something like it."""
    ipython = sys.modules.get("IPython")  # a kernel has imported it long ago
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


class NoTask:
    """A task that is not shown. It has the methods of `Task`, which do nothing."""

    __slots__ = ("max_steps",)

    def update(self, n: int) -> None:
        """Do nothing: this task is not shown."""

    def step(self, n: int = 1) -> None:
        """Do nothing: this task is not shown."""

    def compiling(self) -> None:
        """Do nothing: this task is not shown."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: Any) -> None:
        return None


class Task(Progress):
    """A task that is shown by a progress bar.

    The bar is updated by the task's own calls, at most once in `INTERVAL`. A `DelayedBar`
    is also updated by a thread, in case that there are no calls for a while: before the
    first steps, everything is compiled.

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
    slow_steps : bool
        Whether a single step may take long.
    """

    def __init__(
        self,
        display: ProgressBar,
        label: str,
        max_value: int | None = None,
        last: bool = True,
        slow_steps: bool = False,
    ) -> None:
        super().__init__(label, max_steps=max_value or None)
        self._slow_steps = slow_steps
        self._display = display
        self._last = last
        self._next_update = 0.0
        self._lock = threading.Lock()
        self._thread = None
        self._over = threading.Event()

    def __enter__(self) -> Self:
        super().__enter__()
        self._show()
        many = self.max_steps is None or self.max_steps >= MANY_STEPS or self._slow_steps
        if many and isinstance(self._display, DelayedBar):
            self._thread = threading.Thread(target=self._keep_showing, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *exc_info: Any) -> None:
        # the builder of networks leaves the task that it was given, before we do
        if self.finished:
            return
        self._over.set()
        with self._lock:
            super().__exit__(*exc_info)
            self._display.update(self)
            if self._last or not self.success:
                self._display.close()

    def update(self, n: int) -> None:
        """Tell that ``n`` steps are done, counted from the start of the task."""
        self.name_during = self.name_after
        self.n_steps = n
        self._show()

    def step(self, n: int = 1) -> None:
        """Tell that ``n`` more steps are done."""
        self.update(self.n_steps + n)

    def compiling(self) -> None:
        """Tell that what the steps need is compiled, until the first of them are done."""
        self.name_during = "Compiling"

    def _keep_showing(self) -> None:
        while not self._over.wait(self._display.delay + INTERVAL):
            self._show()

    def _show(self) -> None:
        now = time.monotonic()
        if now >= self._next_update:
            self._next_update = now + INTERVAL
            with self._lock:
                if not self.finished:  # meanwhile
                    self._display.update(self)


class DelayedBar(ProgressBar):
    """Shows tasks that take long enough, and those that do not end at once.

    Parameters
    ----------
    delay : float
        Seconds that a task must have run to be shown.
    """

    def __init__(self, delay: float = DELAY) -> None:
        super().__init__()
        self.delay = delay

    def too_early(self, progress: Progress) -> bool:
        """Whether a task that is not shown yet should stay so."""
        return progress.finished or progress.elapsed_seconds() < self.delay


class NotebookBar(DelayedBar):
    """An output of a notebook's cell that changes as a task goes on.

    It is plain HTML, with text for those who show no HTML. So it is there in a notebook
    that was saved, too, in its last state. (The bars of Nengo are drawn by scripts, which
    do not run there, and by a plugin that is rarely installed.)
    """

    _handle = None

    def update(self, progress: Progress) -> None:
        """Change the output; make it, if the task has run for long enough."""
        from IPython.display import display

        if self._handle is not None:
            self._handle.update(_texts(progress), raw=True)
        elif not self.too_early(progress):
            self._handle = display(_texts(progress), raw=True, display_id=True)
        if progress.finished:
            self._handle = None  # the next task has an output of its own


def _texts(progress: Progress) -> Any:
    """A task as a bundle of texts by type, which notebooks choose from."""
    elapsed = timedelta(seconds=round(progress.elapsed_seconds()))
    known = progress.max_steps is not None
    if progress.finished:
        state = f"{'took' if progress.success else 'stopped after'} {elapsed}"
    elif known and progress.n_steps:
        state = f"{timedelta(seconds=round(progress.eta()))} left"
    else:
        state = f"{elapsed} so far"
    if known:
        state = f"{progress.progress:.0%}, {state}"
        value = f'value="{progress.progress:.3f}"'
    else:  # moves to and fro until the end
        value = 'value="1"' if progress.finished else ""
    label = progress.name_after if progress.finished else progress.name_during
    bar = f'<progress max="1" {value} style="width: 20em"></progress>'
    return {
        "text/plain": f"{label}: {state}",
        "text/html": f"<div>{escape(label)} {bar} {state}</div>",
    }


class TerminalBar(DelayedBar):
    """A line on ``stderr`` that shows a task, drawn by the package ``progressbar2``."""

    _bar = None

    def update(self, progress: Progress) -> None:
        """Draw the line, if the task has run for long enough."""
        if self._bar is None:
            # while TensorFlow is imported, what it writes to stderr goes through a file
            if self.too_early(progress) or not sys.stderr.isatty():
                return
            self._bar, self._label = self._start(progress)
        self._label.update_mapping(label=progress.name_during)
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
    def _start(progress: Progress) -> Any:
        import progressbar as pb  # here, as most runs end without ever showing a bar

        if progress.max_steps is None:
            max_value = pb.UnknownLength
            widgets = [pb.AnimatedMarker(), " ", pb.Timer()]
        else:
            max_value = progress.max_steps
            widgets = [
                pb.Percentage(),
                " ",
                pb.Bar(),
                " ",
                pb.ETA(format_not_started=STARTING),
            ]
        label = pb.FormatCustomText("%(label)s", {"label": progress.name_during})
        bar = pb.ProgressBar(
            max_value=max_value,
            widgets=[label, " ", *widgets],
            fd=sys.stderr,
            start_time=datetime.fromtimestamp(progress.time_start),
        )
        return bar.start(), label
