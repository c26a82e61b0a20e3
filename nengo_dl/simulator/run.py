"""Running a network step by step: what its probes see, and how far it has come."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from nengo import Network
from nengo.builder import Model
from nengo.exceptions import ValidationError

from nengo_dl.config import get_setting
from nengo_dl.notices import warn
from nengo_dl.simulator.data import ProbeLog

if TYPE_CHECKING:
    from nengo import Probe
    from nengo.utils.progress import ProgressBar

    from nengo_dl.simulator.simulator import Simulator


import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from html import escape
from typing import TYPE_CHECKING

from nengo.exceptions import SimulatorClosed
from nengo.rc import rc
from nengo.utils.progress import NoProgressBar, Progress, ProgressBar, to_progressbar

from nengo_dl.compat.older import older_data
from nengo_dl.compiler.memory import source_key
from nengo_dl.runtime.choice import Form, forward_form
from nengo_dl.runtime.executor import Seen
from nengo_dl.runtime.stepwise import between_steps
from nengo_dl.simulator.data import RecordedSteps, SimulationData
from nengo_dl.simulator.saving import Beginning
from nengo_dl.training.advice import form_asked_for
from nengo_dl.training.inputs import resolve_data
from nengo_dl.training.parameters import LiveState
from nengo_dl.training.sharing import PATIENCE, Turns

if TYPE_CHECKING:
    from nengo import Network, Node, Probe
    from nengo.builder import Model
    from typing_extensions import Self


@dataclass(eq=False)
class Run:
    """A simulation that goes on step by step, and the data of its probes.

    Parameters
    ----------
    model : ~nengo.builder.Model
        Built from the network.
    logs : dict
        The `ProbeLog` of each probe.
    nodes : dict
        Input node -> name.
    one_item : bool
        Whether data may be without the axis for items.

    Attributes
    ----------
    recorded : RecordedSteps
        Of which steps there are probe data.
    beginning : Beginning
        What Python functions kept when the processes began.
    """

    network: Network | None
    model: Model
    live: LiveState
    logs: dict[Probe, ProbeLog]
    nodes: dict[Node, str]
    turns: Turns
    one_item: bool
    beginning: Beginning = field(init=False)

    def __post_init__(self) -> None:
        live = self.live
        self.stateful = get_setting(self.network, "stateful")
        self.recorded = RecordedSteps()
        about = (live.value, live.version, self.turns.reading, live.loaded)
        self.data = SimulationData(self.model, self.logs, *about)

    def begin(self, seed: int) -> None:
        """The first state, with processes of a seed: from here on it can run."""
        self.live.process_seed = seed
        self.live.program.reset(seed)
        self.look_at_processes()

    def look_at_processes(self) -> None:
        """Processes have begun: note what Python functions keep at present."""
        self.beginning = Beginning(self.live.program)

    def form(self, spiking: bool | None) -> Form:
        """In which form a call that needs no gradients runs."""
        return forward_form(
            get_setting(self.network, "learning_phase"),
            get_setting(self.network, "spiking_training"),
            spiking,
        )

    # running ----------------------------------------------------------------------

    def run_steps(
        self,
        n_steps: int,
        data: Any,
        bar: bool | ProgressBar | None,
        stateful: bool,
        form: Form | None,
    ) -> None:
        """Advance by a number of steps; see `Simulator.run_steps`.

        ``form``: None: as the settings say.
        """
        arrays = self._by_signal(data, n_steps)
        live, program = self.live, self.live.program
        live.pull()
        before = None if stateful and self.stateful else live.snapshot()
        try:
            with progress(bar, "Simulating", n_steps) as task, between_steps() as ctrl_c:
                done = 0
                steps = (live.n_steps, n_steps)
                for seen in program.run(*steps, arrays, form, task.compiling):
                    self._record_seen(seen)
                    done += seen.steps
                    task.update(done)
                    ctrl_c.check()
        except BaseException:
            program.settle_at(live.n_steps)
            raise
        finally:
            if before is not None:
                live.restore(before)
                self.data.reset()

    def step(self) -> bool:
        """One step if nothing but a step of NumPy is to be done; whether it was run."""
        if not self.stateful:
            return False
        live, program = self.live, self.live.program
        if live.banks is not None or live.parameters.layers.variables:
            live.pull()
        try:
            rows = program.step(live.n_steps)
            if rows is None:
                return False
            if isinstance(rows, Seen):
                self._record_seen(rows)
            else:
                self._record(rows)
        except BaseException:
            program.settle_at(live.n_steps)
            raise
        return True

    def _by_signal(self, data: Any, n_steps: int) -> Mapping[Any, np.ndarray]:
        """The data of nodes, checked, by the signals that they are given for."""
        if data is None:
            return {}
        program = self.live.program
        arrays, _ = resolve_data(
            data,
            list(self.nodes),
            program.batch,
            n_steps,
            where="Simulator.run_steps",
            names=self.nodes,
            dtype=program.dtype,
            one_item=self.one_item,
        )
        return {source_key(self.model.sig[node]["out"]): a for node, a in arrays.items()}

    def _record_seen(self, seen: Seen) -> None:
        """Store what probes saw and move time on."""
        first = self.live.n_steps + 1
        marks = [log.mark() for log in self.logs.values()]
        try:
            for rows, probes, sampled in seen.parts:
                for probe, start, stop in probes:
                    log, values = self.logs[probe], rows[:, start:stop]
                    if sampled:
                        log.add(values)
                    else:
                        log.append(values, first)
            self.recorded.add(first, seen.steps)
            self.live.n_steps += seen.steps
        except BaseException:  # an interrupt: all of it, or nothing
            if self.live.n_steps < first:
                for log, mark in zip(self.logs.values(), marks, strict=True):
                    log.undo(mark)
                self.recorded.undo(first)
            raise

    def _record(self, rows: np.ndarray) -> None:
        """Store probe data of one step ``(1, rows, batch)`` and move time on."""
        live = self.live
        first = live.n_steps + 1
        try:
            for probe, start, stop in live.program.probe_rows:
                self.logs[probe].append(rows[:, start:stop], first)
            self.recorded.add(first, len(rows))
            live.n_steps += len(rows)
        except BaseException:  # an interrupt: all of it, or nothing
            if live.n_steps < first:
                for log in self.logs.values():
                    log.undo_step(rows)
                self.recorded.undo(first)
            raise

    # going back -------------------------------------------------------------------

    def reset(
        self, include_trainable: bool, include_probes: bool, include_processes: bool
    ) -> None:
        """Back to the first step; see `Simulator.reset`."""
        live, program = self.live, self.live.program
        kept = {}
        if include_trainable:
            live.reset_parameters()
        else:
            kept = live.learned()
        if include_processes:
            live.process_seed = live.seed
            live.epochs = 0
        program.reset(live.seed, processes=include_processes)
        if include_processes:
            self.look_at_processes()
        program.store.values.update(kept)
        live.n_steps = 0
        if include_probes:
            self.clear_probes()
        self.data.reset()

    def clear_probes(self) -> None:
        """Forget all probe data; the simulation goes on where it is."""
        for log in self.logs.values():
            log.clear()
        self.recorded.clear()
        self.data.reset()

    def times(self, period: float) -> np.ndarray:
        """The times of the steps that there are probe data of, every so many steps."""
        steps = self.recorded.numbers
        return self.model.dt * steps[steps % period < 1]


# what users call ----------------------------------------------------------------


def run(sim: Simulator, time_in_seconds: float, arguments: dict[str, Any]) -> None:
    """See `Simulator.run`; ``arguments`` are for ``run_steps``."""
    sim._require_open("run")
    n_steps = steps_of(time_in_seconds, sim.dt, sim)
    if n_steps == 0:
        warn(
            f"{time_in_seconds} results in running for 0 timesteps. Simulator still "
            f"at time {sim.time}. A step takes {sim.dt} seconds"
        )
        return
    sim.run_steps(n_steps, **arguments)


def run_steps(
    sim: Simulator,
    n_steps: Any,
    data: Any,
    progress_bar: Any,
    stateful: bool,
    spiking: bool | None,
    older: dict[str, Any],
) -> None:
    """See `Simulator.run_steps`."""
    sim._require_open("run")
    spiking = form_asked_for(sim.model, spiking)
    form = None if spiking is None else sim._run.form(spiking)
    n_steps = older.pop("steps", None) if n_steps is None else n_steps
    steps = whole_steps(n_steps, sim)
    data = older_data("run_steps", data, older) if older else data
    shown = sim.progress_bar if progress_bar is None else progress_bar
    sim._run.run_steps(steps, data, shown, stateful, form)


def step(sim: Simulator, arguments: Mapping[str, Any]) -> None:
    """See `Simulator.step`; ``arguments`` are for ``run_steps``."""
    if sim.closed:
        raise SimulatorClosed("Simulator cannot run because it is closed.")
    # as `in_turn`, without the cost of a wrapper
    turns = sim._turns
    if turns.holder is not None:
        turns.refuse_inside("step")
    while not turns.lock.acquire(timeout=PATIENCE):
        turns.refuse_awaited("step")
    before, turns.holder = turns.holder, "step"
    turns.thread = threading.get_ident()
    try:
        if arguments or not sim._run.step():
            sim.run_steps(1, **{"progress_bar": False, **arguments})
    except Exception as error:
        turns.add_place(error)
        raise
    finally:
        turns.holder = before
        turns.lock.release()


def trange(sim: Simulator, sample_every: float | None, dt: float | None) -> np.ndarray:
    """See `Simulator.trange`."""
    if dt is not None:
        if sample_every is not None:
            raise ValidationError(
                "Cannot specify both `dt` and `sample_every`. Use `sample_every` only.",
                attr="dt",
                obj=sim,
            )
        warn("`dt` is deprecated. Use `sample_every` instead.", DeprecationWarning)
        sample_every = dt
    if sample_every is None:
        return sim._run.times(1)
    return sim._run.times(period(sample_every, sim) / sim.dt)


# showing how far a long task has come -------------------------------------------

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


# what Python functions keep ------------------------------------------------------


# how long to run, and how often to look -----------------------------------------


def whole_steps(n_steps: Any, obj: Any = None) -> int:
    """A number of steps: whole and not negative.

    Raises `ValidationError` if it is something else.
    """
    try:
        steps = int(n_steps)
    except (TypeError, ValueError, OverflowError):
        steps = None
    if steps is None or steps != n_steps or isinstance(n_steps, str | bytes):
        raise ValidationError(
            f"expected a whole number of steps, got {n_steps!r}", attr="n_steps", obj=obj
        )
    if steps < 0:
        raise ValidationError(
            f"must not be negative (got {steps})", attr="n_steps", obj=obj
        )
    return steps


#: a number of steps beyond which not every step has a time of its own
MOST_STEPS = 2**53


def real_number(value: Any) -> float | None:
    """A real number as such; None if it is something else."""
    if isinstance(value, str | bytes) or np.ndim(value):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def steps_of(time_in_seconds: Any, dt: float, obj: Any = None) -> int:
    """How many steps come nearest to a length of time.

    ``time_in_seconds``: finite, and at least 0. ``dt``: length of a step in seconds.
    ``obj``: for the message. Raises `ValidationError` if it is anything else.

    Examples
    --------
    >>> steps_of(0.0102, dt=0.001)
    10
    """
    seconds, problem = real_number(time_in_seconds), None
    if seconds is None:
        seconds = math.nan
    if not math.isfinite(seconds):
        problem = f"expected a length of time in seconds, got {time_in_seconds!r}"
    elif seconds < 0:
        problem = f"must be positive (got {seconds:g})"
    elif seconds / dt >= MOST_STEPS:
        problem = f"{seconds:g} seconds are more than {MOST_STEPS:.0e} steps of {dt:g}"
    if problem is not None:
        raise ValidationError(problem, attr="time_in_seconds", obj=obj)
    return int(np.round(seconds / dt))


def period(sample_every: Any, obj: Any = None) -> float:
    """The sampling period of a probe in seconds, as a number.

    Raises `ValidationError` if it is no positive finite number.
    """
    value = real_number(sample_every)
    if value is None or not 0 < value < math.inf:
        raise ValidationError(
            f"expected a positive number of seconds; got {sample_every!r}",
            attr="sample_every",
            obj=obj,
        )
    return value
