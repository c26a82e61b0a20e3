"""Rows that are given to every step from outside: data, time, functions, processes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from math import isfinite
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from nengo import Node, Process
from nengo.builder.operator import SimPyFunc
from nengo.exceptions import SimulationError
from nengo.utils.functions import function_name
from nengo.utils.numpy import is_array_like, maxint

from nengo_dl.compiler.exact_callbacks import Digits, to_digits
from nengo_dl.compiler.graph import Source
from nengo_dl.compiler.lowering import HostSource
from nengo_dl.kernels.at_once import LEAST_STEPS
from nengo_dl.kernels.functions import HostFunction, warn_of_hidden_state
from nengo_dl.notices import ADDRESS, label_of, of_package, warn

if TYPE_CHECKING:
    from nengo_dl.runtime.program import Program


#: the types of plain numbers, and none at all
FLOATS = frozenset((float, np.float64, np.float32))
NUMBERS, NOTHING = FLOATS | {int}, frozenset()


class InputsInterrupted(Exception):
    """A function failed in the middle of a chunk.

    Whoever asked for the chunk runs the steps that there are inputs for, and raises
    ``cause`` then: what a simulator that goes step by step would have done.

    Parameters
    ----------
    partial : ndarray
        The rows of the steps before the failure, ``(steps, n, batch)``.
    cause : BaseException
        What the function raised.
    """

    def __init__(self, partial: np.ndarray, cause: BaseException):
        super().__init__(f"inputs ended after {len(partial)} steps: {cause!r}")
        self.partial = partial
        self.cause = cause


class _Column:
    """Where one source's values go: rows ``start:stop`` of each step (None: nowhere).

    ``digits`` are the rows of their digits, if other functions read them.
    """

    def __init__(self, source: HostSource, host, rows, digits):
        self.op = source.op
        self.key = source.signal
        self.size = source.size
        self.host = host
        self.rows: tuple[int, int] | None = rows
        self.digits: tuple[int, int] | None = digits
        self.per_item = host.per_item

    @property
    def one_number(self) -> bool:
        """Whether the function returns one number, for all items."""
        return self.size == 1 and not self.per_item

    def put(self, out: np.ndarray, values: np.ndarray) -> None:
        """Values ``(..., size, items)`` into the rows of steps ``(..., n, batch)``."""
        if self.rows is None:
            return
        a, b = self.rows
        out[..., a:b, :] = values
        if self.digits is not None:
            a, b = self.digits
            out[..., a:b, :] = to_digits(values)

    def put_number(self, out: np.ndarray, value: float) -> None:
        """Copy the one number that a function gave for a step into ``(n, batch)``."""
        if self.digits is not None:
            self.put(out, np.full((1, 1), value))
        elif self.rows is not None:
            out[self.rows[0]] = value

    @property
    def name(self) -> str:
        """What to call the function in messages: by itself, and by its node."""
        owner = getattr(self.key, "name", "").rpartition(".")[0]
        of = f" of {ADDRESS.sub('', owner)}" if owner else ""
        return f"{self.host.label!r}{of}"

    @property
    def draws(self) -> bool:
        """Whether the host gives many steps at once, apart from all others."""
        return self.host.draws


class InputFeed:
    """Evaluates everything that runs ahead of the steps, in core's order.

    Parameters
    ----------
    inputs : sequence of Source
        Which rows there are (``layout.inputs``).
    sources : sequence of HostSource
        Operators without input, in core's order.
    hosts : mapping
        Operator -> the object that runs it.
    dt : float
        Length of a step in seconds.
    batch : int
    dtype : dtype
    time, step : Signal, optional
        The model's own clock signals.
    """

    def __init__(
        self,
        inputs: Sequence[Source],
        sources: Sequence[HostSource],
        hosts: Mapping,
        dt: float,
        batch: int,
        dtype: Any,
        time: Any = None,
        step: Any = None,
    ) -> None:
        self.dt, self.batch, self.dtype = dt, batch, np.dtype(dtype)
        self.inputs = tuple(inputs)
        self.n_rows = sum(source.size for source in inputs)
        self._rows = {s.key: (s.start, s.start + s.size) for s in inputs}
        clock = {"time": time, "step": step}
        self._clock = {k: self._rows[s] for k, s in clock.items() if s in self._rows}
        rows = self._rows.get
        self._columns = [
            _Column(s, hosts[s.op], rows(s.signal), rows(Digits(s.signal)))
            for s in sources
        ]
        self._data: dict[object, np.ndarray] = {}
        self._first = 0
        self._ahead: tuple[int, np.ndarray] | None = None
        #: a time, and what some functions returned for it before another one failed
        self._half: tuple[float, dict] = (np.nan, {})

    @classmethod
    def of_sources(
        cls,
        sources: Sequence[HostSource],
        hosts: Mapping,
        dt: float,
        batch: int,
        dtype: Any,
    ) -> InputFeed:
        """A feed with the rows of these sources alone, one after the other."""
        inputs, first = [], 0
        for source in sources:
            if source.signal is not None:
                inputs.append(Source(source.signal, first, source.size))
                first += source.size
        return cls(inputs, sources, hosts, dt, batch, dtype)

    def use(self, data: Mapping[object, np.ndarray], first_step: int) -> None:
        """From ``first_step`` on, take signals from arrays ``(batch, steps, size)``."""
        if data or self._data:
            self.forget()
        self._data = {s: np.asarray(a, self.dtype) for s, a in data.items()}
        self._first = first_step

    def put_back(self, start: int, rows: np.ndarray) -> None:
        """Take back rows of the steps after step ``start``, which were not run after all.

        They are what these steps are given later: no function is called twice for a step,
        and no random numbers are skipped.
        """
        if not len(rows):
            return
        if self._ahead is not None and self._ahead[0] == start + len(rows):
            rows = np.concatenate([rows, self._ahead[1]])
        self._ahead = (start, rows)

    @property
    def waiting(self) -> tuple[int, np.ndarray] | None:
        """What was put back: the step before, and the rows; for `wait`."""
        return self._ahead

    def wait(self, waiting: tuple[int, np.ndarray] | None) -> None:
        """What was `waiting` before is put back once more."""
        self._ahead = waiting

    @property
    def waiting_by_source(self) -> tuple[int, dict[object, np.ndarray]] | None:
        """What is `waiting`, with the rows of each source, ``(steps, size, batch)``."""
        if self._ahead is None:
            return None
        start, rows = self._ahead
        return start, {key: rows[:, a:b] for key, (a, b) in self._rows.items()}

    def wait_by_source(self, start: int, rows: Mapping[object, np.ndarray]) -> None:
        """Take over what is `waiting_by_source` in another feed, if it has all rows."""
        if self._rows.keys() <= rows.keys() and self._rows:
            length = len(next(iter(rows.values())))
            out = np.empty((length, self.n_rows, self.batch), self.dtype)
            for key, (a, b) in self._rows.items():
                out[:, a:b] = rows[key]
            self._ahead = (start, out)

    def skip(self, step: int) -> None:
        """Do without what was put back for steps up to ``step``: they were run."""
        if self._ahead is not None and self._ahead[0] < step:
            begin, rows = self._ahead
            self._ahead = None
            self.put_back(step, rows[step - begin :])

    def forget(self) -> None:
        """Do without what was put back."""
        self._ahead, self._half = None, (np.nan, {})

    def chunk(self, start: int, k: int) -> np.ndarray:
        """Rows of ``k`` steps after step ``start``: ``(k, n, batch)``.

        Raises
        ------
        InputsInterrupted
            If a function raises or returns what does not fit; it holds the rows of the
            steps before.
        """
        if self._ahead is None:
            return self._made(start, k)
        (begin, rows), self._ahead = self._ahead, None
        if begin != start:
            return self._made(start, k)
        self.put_back(start + k, rows[k:])
        rows = rows[:k]
        if len(rows) == k:
            return rows
        try:
            more = self._made(start + len(rows), k - len(rows))
        except InputsInterrupted as interrupted:
            partial = np.concatenate([rows, interrupted.partial])
            raise InputsInterrupted(partial, interrupted.cause) from None
        return np.concatenate([rows, more])

    def one(self, start: int) -> np.ndarray:
        """Rows of the one step after step ``start``: ``(n, batch)``.

        What a function raises is raised.
        """
        try:
            return self.chunk(start, 1)[0]
        except InputsInterrupted as interrupted:
            cause = interrupted.cause
        raise cause

    def _made(self, start: int, k: int) -> np.ndarray:
        """See `chunk`; every function is called."""
        out = np.zeros((k, self.n_rows, self.batch), self.dtype)
        times = (np.arange(start + 1, start + k + 1) * self.dt).tolist()
        for name, (a, _) in self._clock.items():
            values = times if name == "time" else np.arange(start + 1, start + k + 1)
            out[:, a, :] = np.asarray(values)[:, None]
        for signal, array in self._data.items():
            if signal in self._rows:
                a, b = self._rows[signal]
                offset = start - self._first
                values = array[:, offset : offset + k].transpose(1, 2, 0)
                out[:, a:b] = values
                if Digits(signal) in self._rows:
                    a, b = self._rows[Digits(signal)]
                    out[:, a:b] = to_digits(values)
        active = [c for c in self._columns if self._is_active(c)]
        if active:
            self._evaluate(active, times, out)
        return out

    @property
    def has_sources(self) -> bool:
        """Whether anything has to be called, for its effects if not for its values."""
        return bool(self._columns)

    def single(self, start: int, out: np.ndarray) -> None:
        """Rows of the one step after step ``start``, without data, into ``out``.

        Parameters
        ----------
        start : int
        out : ndarray
            ``(n, batch)``.
        """
        if self._ahead is not None:
            out[...] = self.one(start)
            return
        t = (start + 1) * self.dt
        for name, (a, _) in self._clock.items():
            out[a] = t if name == "time" else start + 1
        half = self._half[1] if self._half[0] == t else {}
        for column in self._columns:
            if column in half:
                value = half[column]
            else:
                try:
                    value = column.host.advance(t)
                except BaseException as error:
                    self._half = (t, half)
                    if isinstance(error, StopIteration):
                        raise column.host.exhausted() from error
                    raise
            if len(self._columns) > 1:
                half[column] = value
            if not column.size:
                continue
            if type(value) in FLOATS and column.one_number and isfinite(value):
                column.put_number(out, value)
                continue
            value = value.T if column.per_item else column.host.checked(value)[:, None]
            column.put(out, value)

    def _is_active(self, column: _Column) -> bool:
        return column.key not in self._data

    def _evaluate(self, active, times, out) -> None:
        """All functions step by step, as core would call them; the rest at once.

        What gives many steps at once keeps to itself, so that it makes no difference when
        it does so. If a function fails, it gives no more than whole steps need.
        """
        together = [column for column in active if not column.draws]
        done, failure = len(times), None
        if together and not self._at_once(together, times, out):
            done, failure = self._step_by_step(together, times, out)
        for column in active:
            if column.draws:
                values = column.host.draw(times[:done])
                column.put(out[:done], values.transpose(0, 2, 1))
        if failure is not None:
            raise InputsInterrupted(out[:done], failure)

    def _at_once(self, active, times, out) -> bool:
        """Compute functions of time for all steps, see `nengo_dl.kernels.at_once`.

        All of them or none: one that has to be called may change what others look at.
        """
        if len(times) < LEAST_STEPS or not any(c.host.pays_at_once for c in active):
            return False
        if not all(column.host.may_run_at_once for column in active):
            return False
        found = []
        for column in active:
            values = column.host.at_once(times)
            if values is None:
                return False
            with np.errstate(over="ignore"):
                if not np.isfinite(values.astype(self.dtype, copy=False)).all():
                    return False
            found.append(values[:, :, None])
        for column, values in zip(active, found, strict=True):
            column.put(out, values)
        return True

    def _step_by_step(self, active, times, out):
        """Rows of functions that have to be called in turn.

        Returns
        -------
        done : int
            How many steps went well.
        failure : BaseException or None
            What was raised in the next one.
        """
        buffers = [self._buffer(column, len(times)) for column in active]
        done, failure = self._call(active, buffers, times)
        for column, buffer in zip(active, buffers, strict=True):
            if buffer is not None and not column.per_item:
                done, failure = self._first_bad(column, buffer, times, done, failure)
            if buffer is not None:
                per_item = column.per_item
                items = buffer.transpose(0, 2, 1) if per_item else buffer[:, :, None]
                column.put(out[:done], items[:done])
        return done, failure

    def _call(self, active, buffers, times):
        """Call all functions of the list in each step; see `_step_by_step`.

        A memory view takes a number in a tenth of the time that an array takes. What is
        no plain number (an array that the function may go on to change, None) goes into
        the array, which knows what to make of it.
        """
        calls: list[Any] = [
            (
                column.host.advance,
                buffer,
                NUMBERS if buffer is not None and column.one_number else NOTHING,
                None if buffer is None else memoryview(buffer.reshape(-1)),
            )
            for column, buffer in zip(active, buffers, strict=True)
        ]
        done, i, value = 0, 0, None
        try:
            if len(calls) == 1 and calls[0][1] is not None:
                ((advance, buffer, numbers, places),) = calls
                for t in times:
                    value = advance(t)
                    if type(value) in numbers:
                        places[done] = value
                    else:
                        buffer[done] = value
                    done += 1
            else:
                half = self._half[1] if self._half[0] == times[0] else {}
                for t in times:
                    for i, (advance, buffer, numbers, places) in enumerate(calls):
                        if half and active[i] in half:
                            value = half[active[i]]
                        else:
                            value = advance(t)
                        if type(value) in numbers:
                            places[done] = value
                        elif buffer is not None:
                            buffer[done] = value
                    done += 1
                    half = {}
        except BaseException as error:  # interrupts too: what went well is not lost
            returned = {
                column: None if buffer is None else buffer[done].copy()
                for column, buffer in zip(active[:i], buffers)
            }
            self._half = (times[done], returned)
            failure = error
            if isinstance(error, StopIteration):
                failure = active[i].host.exhausted()
                failure.__cause__ = error
            elif isinstance(error, (TypeError, ValueError, OverflowError)):
                failure = self._misfit(active[i], buffers[i], times[done], value, error)
            return done, failure
        return done, None

    def _buffer(self, column: _Column, k: int) -> np.ndarray | None:
        if not column.size:
            return None
        shape = (k, self.batch, column.size) if column.per_item else (k, column.size)
        return np.empty(shape)

    def _first_bad(self, column: _Column, buffer, times, done, failure):
        """The step at which a function returned what is not finite, if it did."""
        with np.errstate(over="ignore"):
            kept = buffer[:done].astype(self.dtype, copy=False)
        if np.isfinite(kept).all():
            return done, failure
        finite = np.isfinite(buffer[:done])
        if finite.all():
            _warn_of_overflow(column, buffer[:done][~np.isfinite(kept)][0], self.dtype)
            return done, failure
        step = int(np.flatnonzero(~finite.all(axis=1))[0])
        return step, SimulationError(
            f"Function {column.name} returned non-finite value "
            f"{buffer[step]} at t={times[step]:g} (for {column.op}); expected "
            f"{buffer.shape[1]} finite numbers"
        )

    @staticmethod
    def _misfit(column, buffer, t: float, value: Any, error: Exception) -> Exception:
        """A clearer error where the value of a function did not fit its output.

        The function itself may have raised as well; then its own error is the answer.
        """
        trace = error.__traceback__
        if buffer is None or (trace is not None and trace.tb_next is not None):
            return error
        try:
            np.empty(buffer.shape[1:])[...] = value
            return error  # of a function that is not written in Python
        except (TypeError, ValueError, OverflowError) as found:
            if type(value) not in NUMBERS and str(found) != str(error):
                return error  # then the value is that of the function before
        shape = np.shape(cast(Any, value)) if is_array_like(value) else "?"
        problem = SimulationError(
            f"Function {column.name} returned a value {value!r} of invalid type "
            f"{type(value)!r} or shape {shape} at t={t:g} (for {column.op}); expected "
            f"{column.size} finite numbers"
        )
        problem.__cause__ = error
        return problem


def column_in(values: Mapping) -> tuple[object, float | None]:
    """Which host a method of `InputFeed` is calling, and at what time.

    Parameters
    ----------
    values : mapping
        The local variables of the method's frame; see `nengo_dl.runtime.host`.

    Returns
    -------
    host : object or None
        None if it does not call any.
    t : float or None
    """
    if "calls" in values and "active" in values:  # InputFeed._call
        column, t = values["active"][values["i"]], values.get("t")
    else:
        column, t = values.get("column"), values.get("t")
    return getattr(column, "host", None), t


def _warn_of_overflow(column: _Column, value: float, dtype) -> None:
    """A value is a number, but not in the precision of the simulation."""
    warn(
        f"Function {column.name} returned {value:g}, but {dtype} holds numbers up to "
        f"{np.finfo(dtype).max:.2g} only: what reads it, but for other Python functions, "
        "gets infinity. Scale it, or call nengo_dl.configure_settings(dtype='float64') "
        "in the network",
        once=("overflow", column.name),
    )


class Waiting:
    """Rows of a feed that were asked for, for steps that have not been run yet.

    Parameters
    ----------
    feed : InputFeed
    start : int
        The step after which the run starts.
    """

    def __init__(self, feed: InputFeed, start: int):
        self.feed = feed
        self.start = start
        self._done = 0
        self._rows: list[np.ndarray] = []

    def chunk(self, first: int, k: int) -> np.ndarray:
        """Rows of ``k`` steps, of the run's steps from number ``first`` on."""
        try:
            rows = self.feed.chunk(self.start + first, k)
        except InputsInterrupted as interrupted:
            self._rows.append(interrupted.partial)
            raise
        self._rows.append(rows)
        return rows

    def done(self, k: int) -> None:
        """The first ``k`` steps of those that are waiting, a chunk, have been run."""
        self._rows.pop(0)
        self._done += k

    def put_back(self) -> None:
        """The others will not be run now."""
        if self._rows:
            self.feed.put_back(self.start + self._done, np.concatenate(self._rows))


# one moment ---------------------------------------------------------------------------


class HostsThen:
    """What the Python functions of a program kept at one moment of this process."""

    def __init__(self, program: Program):
        self._program = program
        self._snapshot = program.snapshot_hosts()
        captured = {op: host.captured() for op, host in program.hosts.items()}
        self._own = [[item.own() for item in items] for items in captured.values()]
        self._others = {op: [i.others() for i in items] for op, items in captured.items()}
        self._waiting = {e.feed: e.feed.waiting for e in program.executors}
        self._pending = program.pending
        self._changed: dict = {}

    def between_batches(
        self, first_item: int = 0, noting: bool = True, sources: bool = True
    ) -> None:
        """Go back within a call: all but Keras variables.

        Without ``sources``, the processes of nodes without input are left alone as well.
        """
        hosts = self._program.hosts
        but = {op for op in self._snapshot if hosts[op].of_tensors}
        if not sources:
            but |= {source.op for source in self._program.sources}
        self.put_back(first_item, noting, but)

    def put_back(
        self, first_item: int = 0, noting: bool = False, but: Collection = ()
    ) -> None:
        """Go back: the batch items from ``first_item`` on.

        Parameters
        ----------
        first_item : int
        noting : bool
            Whether `report` is to tell what could not be put back.
        but : collection of Operator
            What is left as it is.
        """
        snapshot = {op: kept for op, kept in self._snapshot.items() if op not in but}
        self._program.restore_hosts(snapshot, first_item)
        self._program.pending = self._pending
        for items in self._own:
            for contents in items[first_item:]:
                contents.put_back()
        for feed, rows in self._waiting.items():
            feed.wait(rows)
        for op, items in self._others.items() if noting else ():
            names = dict.fromkeys(name for item in items for name in item.changed())
            if names:
                self._changed.setdefault(op, {}).update(names)

    def report(self) -> None:
        """Warn of what could not be put back, once for each cause."""
        for op, names in self._changed.items():
            warn_of_hidden_state(self._program.hosts[op], list(names))
        self._changed = {}


# whose function is running ------------------------------------------------------------
#
# Nothing is written down while functions are called, since that would be paid for in
# each step. Who wants to know is in an exceptional situation, and looks at the frames
# of a thread.

#: where TensorFlow calls Python from its programs
_TENSORFLOW = str(Path("tensorflow", "python", "ops", "script_ops.py"))


class UsersCode(NamedTuple):
    """A call of something that the user brought.

    Attributes
    ----------
    op : Operator
        Whose function it is.
    t : float or None
        The time of the step, if the call knows it.
    """

    op: Any
    t: float | None


def frames(frame: FrameType | None) -> Iterator[FrameType]:
    """A frame and all that led to it, the innermost one first."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def users_code(frame: FrameType) -> UsersCode | None:
    """The call of the user's code that a frame of this package makes, if it does."""
    if not of_package(frame):
        return None
    values = frame.f_locals
    me = values.get("self")
    if isinstance(me, InputFeed):
        host, t = column_in(values)
    elif isinstance(me, HostFunction):
        host, t = me.host_object(), values.get("t")
    else:
        return None
    op = getattr(host, "op", None)
    return None if op is None else UsersCode(op, t if isinstance(t, float) else None)


def called_by_tensorflow(frame: FrameType) -> bool:
    """Whether this is where a TensorFlow program calls Python."""
    return frame.f_code.co_filename.endswith(_TENSORFLOW)


def name_of_users_code(model: Any, op: Any) -> str:
    """What an operator runs, in the words of Nengo: "the function of Node 'f'"."""
    written = [*op.sets, *op.incs, *op.updates]
    what = "process" if hasattr(op, "process") else "function"
    for obj, signals in model.sig.items():
        own = isinstance(obj, Node) and signals.get("out")
        if own and any(signal.base is own.base for signal in written):
            return f"the {what} of Node {obj.label or function_name(obj.output)!r}"
    if isinstance(op, SimPyFunc) and op.output is not None:
        connection = op.output.name.rpartition(".")[0] or op.output.name
        return f"the function of {ADDRESS.sub('', connection)}"
    return f"the step function of {label_of(getattr(op, 'process', op))}"


def has_constant_inputs(model: Any) -> bool:
    """Whether a model has nodes that put out constants, which data may replace."""
    return any(
        isinstance(obj, Node) and obj.size_in == 0 and isinstance(obj.output, np.ndarray)
        for obj in model.params
    )


def seed_processes(
    order: Sequence,
    operators: Sequence,
    hosts: Mapping,
    first: list,
    seed: int,
    count: int,
) -> None:
    """Random numbers for each of ``count`` items as core gives them, in core's order.

    ``order``: all operators in that order. ``operators``: the same, as they were built.
    ``hosts``: what runs them as Python. ``first``: for each item, where operators put
    what they write to signals as they make their steps.
    """
    rngs = [np.random.RandomState(seed + i) for i in range(count)]
    for op in order:
        process, host = getattr(op, "process", None), hosts.get(op)
        if process is None:
            # operators without a process take numbers from the common ones
            if host is not None:
                host.reset(rngs, *([first] if host.writes_first else ()))
            continue
        # every process draws a seed, also where it makes no use of it
        if host is None and type(process).get_rng is Process.get_rng:
            for rng in rngs if process.seed is None else ():
                rng.randint(maxint)  # as it does, and makes a generator of it
            continue
        own = [process.get_rng(rng) for rng in rngs]
        if host is not None:
            host.reset(own)
    for number, op in enumerate(operators):
        if op in hosts:
            hosts[op].reseed(int(seed) % 2**64, number)
