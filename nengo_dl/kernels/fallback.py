"""Operators that no rule is known for: they run as Python, as in core Nengo.

Each batch item has a step function of its own, made by the operator's ``make_step``, and
arrays of its own for the signals that it works on. In every step the arrays are filled
with what the operator may look at, the function is called, and what it wrote is taken
out:

=================  =============================  ======================================
signals that it    hold before the call           and after the call give
=================  =============================  ======================================
reads              their present value            nothing
sets               their value one step ago       their present value
increments         zero                           what is added
updates            their present value            their value in the next step
=================  =============================  ======================================
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from nengo.builder.operator import Operator
from nengo.builder.signal import Signal, SignalDict
from nengo.exceptions import BuildError

from nengo_dl.compiler.costs import FEW_BYTES, KEPT_BYTES, LARGE_BYTES, LARGE_SIGNAL
from nengo_dl.compiler.lowering import OperatorRule, unknown_operator
from nengo_dl.compiler.memory import signal_index
from nengo_dl.compiler.traits import operators
from nengo_dl.kernels.callbacks import Callback, CapturedState, reachable, reached
from nengo_dl.kernels.functions import (
    PYTHON,
    Attempt,
    HostFunction,
    as_slice,
    item_generators,
    others,
    same_memory,
    step_times,
    warn_of_python,
)
from nengo_dl.notices import label_of

if TYPE_CHECKING:
    from nengo_dl.compiler.lowering import Lowering


class _Arrays(SignalDict):
    """A `SignalDict` that shares no memory with the model.

    ``flat`` has the memory of each base signal as a vector that can always be written,
    also where the step function gets a read-only array.

    Parameters
    ----------
    memory : dict, optional
        Base signal -> memory for it, if there is some already.
    """

    def __init__(self, memory: Any = None):
        super().__init__()
        self.flat = {}
        self.memory = {} if memory is None else memory

    def init(self, signal: Signal) -> None:
        """Make the array of a signal."""
        base = signal.base
        if not (base.sparse or base in self):
            if base in self.memory:
                self.memory[base][...] = base.initial_value
            else:
                self.memory[base] = np.array(base.initial_value, order="C")
            array = self.memory[base].view()
            self.flat[base] = array.reshape(-1)
            array.setflags(write=not base.readonly)
            dict.__setitem__(self, base, array)
        if signal not in self:
            super().init(signal)

    def take(self, first: dict) -> None:
        """Start from other values than those that the signals were built with."""
        for base, flat in self.flat.items():
            if base in first:
                flat[...] = first[base]

    def put_changed(self, first: dict) -> None:
        """Add what was changed since to the values that the signals start from."""
        for base, flat in self.flat.items():
            before = np.ravel(first.get(base, base.initial_value))
            if not np.array_equal(flat, before, equal_nan=flat.dtype.kind in "fc"):
                first[base] = flat.copy()


class _Item:
    """One batch item of an operator: its arrays, its random numbers, its step."""

    def __init__(
        self,
        op: Any,
        dt: float,
        rng: np.random.RandomState,
        own_rngs: Any,
        before: Any,
        first: dict,
        memory: Any,
    ):
        self.rngs = [rng, *own_rngs.values()]
        self.arrays = _Arrays(memory)
        # a copy, because step functions may count in attributes of their operator
        op = _with_generators(op, own_rngs)
        op.init_signals(self.arrays)
        self.arrays.take(first)
        self.step = op.make_step(self.arrays, dt, rng)
        self.arrays.put_changed(first)
        given = [self.arrays, *self.arrays.values(), *self.rngs]
        self.captured = CapturedState([self.step, op], before, given)


def _generators(op):
    """Random number generators that an operator holds: (attribute, key) -> generator."""
    found = {}
    for name, value in vars(op).items():
        parts = value.items() if isinstance(value, dict) else [(None, value)]
        for key, part in parts:
            if isinstance(part, np.random.RandomState):
                found[name, key] = part
    return found


def _with_generators(op, generators):
    """A copy of an operator that holds these generators instead of its own."""
    op = copy.copy(op)
    for (name, key), rng in generators.items():
        if key is not None:
            rng = {**getattr(op, name), key: rng}
        vars(op)[name] = rng
    return op


class PythonOperator(Callback):
    """An operator as Python: the step functions of all batch items.

    Parameters
    ----------
    op : Operator
    dt : float
        Length of a time step in seconds.
    kind : type
        What no rule is known for: the operator's class, or that of its neurons.
    """

    def __init__(self, op: Any, dt: float, kind: type | None = None):
        self.op = op
        self.dt = dt
        self.kind = kind or type(op)
        self.items: list[_Item] = []
        #: of the first item: base signal -> array, the same for ever, since graphs may
        #: keep their state in it
        self.memory: dict = {}
        #: the `OperatorCall` that the arrays hold the constants of
        self.user: OperatorCall | None = None

    @property
    def label(self) -> str:
        """What the operator is called in messages."""
        return label_of(self.op)

    per_item = stateful = True
    #: making the step functions may write to signals, see `reset`
    writes_first = True

    def reset(
        self, rngs: Sequence[np.random.RandomState], first: Sequence[dict] | None = None
    ) -> None:
        """Start afresh, with new step functions.

        Parameters
        ----------
        rngs : sequence of numpy.random.RandomState
            One for each batch item. As in core Nengo they are shared with all other
            operators. Generators that the operator holds itself start again, too.
        first : sequence of dict, optional
            For each batch item, base signal -> its values (flat) where they are not
            those that it was built with: earlier operators wrote them as they made
            their steps. What this one writes is added.
        """
        first = first or [{} for _ in rngs]
        held = {
            key: item_generators(rng, len(rngs))
            for key, rng in _generators(self.op).items()
        }
        self.user = None
        before = reached(_attributes(self.op))
        before |= {id(part): part for part in _signals(self.op)}
        self.items = []
        for i, rng in enumerate(rngs):
            own = {key: generators[i] for key, generators in held.items()}
            memory = {} if i else self.memory
            item = _Item(self.op, self.dt, rng, own, before, first[i], memory)
            self.items.append(item)

    def snapshot(self) -> list:
        """Arrays and random numbers as they are now, for `restore`.

        What a step function keeps elsewhere, in its closure say, is not part of it.
        """
        return [
            (
                [rng.get_state() for rng in item.rngs],
                {base: flat.copy() for base, flat in item.arrays.flat.items()},
            )
            for item in self.items
        ]

    def restore(self, snapshot: Any, first_item: int = 0) -> None:
        """Go back to a snapshot: the batch items from ``first_item`` on."""
        self.user = None
        items = islice(zip(self.items, snapshot), first_item, None)
        for item, (numbers, arrays) in items:
            for rng, state in zip(item.rngs, numbers):
                rng.set_state(state)
            for base, values in arrays.items():
                item.arrays.flat[base][...] = values

    keep_instead = "keep it in a signal, or in a variable that make_step makes"

    def captured(self) -> list[CapturedState]:
        """What the step functions keep beside what `snapshot` is about, by item."""
        return [item.captured for item in self.items]


class OperatorCall(HostFunction):
    """How one graph calls a `PythonOperator`: which values go in and come out.

    Parameters
    ----------
    host : PythonOperator
    clock : dict
        "time" or "step" -> the base signal that holds it.
    """

    def __init__(self, host: PythonOperator, clock: Any):
        self.host = host
        self.clock = clock
        self._constants: list = []
        self._given: list[_Given] = []
        self._zeros: list = []
        self._results: list = []
        self._n_small = 0
        self._n_large = 0
        self._pieces: list[slice] = []  # the rows of each output
        self._used: deque = deque()
        self._small = False  # whether the last output takes more small signals
        self.size = 0

    @property
    def label(self) -> str:
        """What the operator is called in messages."""
        return self.host.label

    why = "an operator without a native form"

    def host_object(self) -> Any:
        """The operator, which several graphs may call."""
        return self.host

    def constant(self, signal: Signal, values: Any) -> None:
        """Say that a signal keeps these values for good."""
        self._constants.append((signal.base, _positions(signal), np.ravel(values)))

    def give(self, signal: Signal, own: bool = False) -> bool:
        """A signal takes the next rows of the small input, or an input of its own.

        Parameters
        ----------
        signal : Signal
        own : bool
            Nobody but the operator writes to it: the array still has what was written
            in the step before, and is looked at only if that may not be so.

        Returns
        -------
        bool
            Whether it is large, and has an input of its own.
        """
        large = signal.size >= LARGE_SIGNAL
        whole = np.issubdtype(signal.base.initial_value.dtype, np.integer)
        if large:
            self._n_large += 1
            place = self._n_large, slice(None)
        else:
            first, self._n_small = self._n_small, self._n_small + signal.size
            place = 0, slice(first, self._n_small)
        given = _Given(signal.base, _positions(signal), *place, whole, own and large)
        self._given.append(given)
        return large

    def take(
        self, signal: Signal, mask: np.ndarray | None = None, clear: bool = False
    ) -> None:
        """A signal, or its entries under a mask, gives the next rows of the result.

        ``clear``: it is zero before the call.
        """
        positions = _positions(signal, mask)
        size = signal.size if mask is None else int(np.count_nonzero(mask))
        rows = slice(self.size, self.size + size)
        self.size += size
        self._results.append((signal.base, positions, rows))
        small = size < LARGE_SIGNAL
        if small and self._small:
            self._pieces[-1] = slice(self._pieces[-1].start, self.size)
        elif size:
            self._pieces.append(rows)
        self._small = small and bool(size or self._small)
        if clear:
            self._zeros.append((signal.base, positions))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Rows of each output: small signals together, large ones by themselves."""
        return tuple(piece.stop - piece.start for piece in self._pieces)

    @property
    def in_double(self) -> bool:
        """Whether it can be given digits: not if some signals are large."""
        return not self._n_large and len(self._pieces) < 2

    def outputs(self, out: Any) -> list[np.ndarray]:
        """The rows of each output, as `HostFunction` wants them."""
        return [out[piece] for piece in self._pieces]

    def shared(self) -> list[tuple[np.ndarray, int, int | None]]:
        """See `HostFunction`: large signals as a whole, mentioned once, of one item."""
        if len(self.host.items) != 1:
            return []
        flat = self.host.items[0].arrays.flat
        others = [base for base, *_ in (*self._constants, *self._zeros)]
        found = []
        for given in self._given:
            base = given.base
            rows = [r[2] for r in self._results if r[0] is base]
            alone = [g.base for g in self._given].count(base) == 1 and base not in others
            whole = given.number and given.positions == slice(0, base.size)
            if not (alone and whole and len(rows) == int(given.own)):
                continue
            returned = self._output(rows[0]) if rows else None
            if not rows or returned is not None:
                found.append((flat[base], given.number + bool(self._n_small), returned))
        return found

    def _output(self, rows: slice) -> int | None:
        """The output that has exactly these rows."""
        return self._pieces.index(rows) if rows in self._pieces else None

    def attempt(
        self, arrays: Sequence[np.ndarray], dtype: Any = None, begun: Any = None
    ) -> Attempt:
        """One step for each column; see `nengo_dl.kernels.functions.HostFunction`.

        What signals hold is copied once on the way in, unless it is the same memory, and
        once on the way out.
        """
        out = self._out(arrays[0].shape[1], np.dtype(dtype or arrays[0].dtype))
        done = 0
        if begun is not None:
            done = begun[1]
            out[:, :done] = begun[0][:, :done]
        try:
            for flat in self.column_calls(arrays, done):
                for base, positions, rows in self._results:
                    out[rows, done] = flat[base][positions]
                done += 1
        except BaseException as error:
            self.host.user = None  # arrays hold half a step
            out[:, done:] = 0
            return out, done, error
        return out, done, None

    def _out(self, n_columns: int, dtype: np.dtype) -> np.ndarray:
        """An array for what is returned.

        To get large ones from the system takes longer than to fill them, so they are
        used in turn. Who keeps them (to run a step again) keeps fewer than there are.
        """
        size = self.size * n_columns * dtype.itemsize
        if size < LARGE_BYTES:
            return np.empty((self.size, n_columns), dtype)
        out = self._used.popleft() if self._used else None
        if out is None or out.shape[1] != n_columns or out.dtype != dtype:
            self._used.clear()
            for _ in range(max(KEPT_BYTES // size, 1) + 3):
                self._used.append(np.empty((self.size, n_columns), dtype))
            out = np.empty((self.size, n_columns), dtype)
        self._used.append(out)
        return out

    def column_calls(self, arrays: Sequence[np.ndarray], first: int = 0) -> Iterator[Any]:
        """Columns as in `HostFunction`; what is yielded are the arrays of the item."""
        time, *given = arrays
        if not self._n_small:
            given = [time[:0], *given]
        if self.host.user is not self:
            self._take_over(given)
        items = self.host.items
        for b, t in enumerate(step_times(time, self.host.dt)[first:], first):
            item = items[b % len(items)]
            flat = item.arrays.flat
            self._fill(flat, given, b, t)
            # invalid operations are errors in core, too
            with np.errstate(invalid="raise", divide="ignore", over="warn"):
                item.step()
            yield flat

    def _take_over(self, arrays) -> None:
        """The arrays were filled for another graph before, or in another step."""
        for b, item in enumerate(self.host.items):
            flat = item.arrays.flat
            for base, positions, values in self._constants:
                flat[base][positions] = values
            for given in self._given:
                if given.own:
                    given.put_if_changed(flat, arrays, b)
        self.host.user = self

    def _fill(self, flat, arrays, b: int, t: float) -> None:
        """What the step function may look at."""
        for given in self._given:
            if not given.own:
                given.put(flat, arrays, b)
        for base, positions in self._zeros:
            flat[base][positions] = 0
        if "time" in self.clock:
            flat[self.clock["time"]][...] = t
        if "step" in self.clock:
            flat[self.clock["step"]][...] = round(t / self.host.dt)


class _Given(NamedTuple):
    """Where a signal's values come from and go to; see `OperatorCall.give`."""

    base: Signal
    positions: slice | np.ndarray
    number: int
    rows: slice
    whole: bool
    own: bool

    def put(self, flat: dict, arrays: Sequence[np.ndarray], b: int) -> None:
        """Into the arrays of an item, from column ``b``."""
        new = arrays[self.number][self.rows, b]
        if self.number and same_memory(new, flat[self.base]):
            return
        flat[self.base][self.positions] = np.rint(new) if self.whole else new

    def put_if_changed(
        self, flat: dict[Any, np.ndarray], arrays: Sequence[np.ndarray], b: int
    ) -> None:
        """Write values as `put` does, but leave alone what differs by rounding only."""
        new = arrays[self.number][self.rows, b]
        if same_memory(new, flat[self.base]):
            return
        now = flat[self.base][self.positions]
        if not np.array_equal(now.astype(new.dtype), new, equal_nan=True):
            self.put(flat, arrays, b)


def _positions(signal, mask=None):
    """Where a signal is in its flat base: a slice if possible."""
    index = signal_index(signal)
    return as_slice(np.ravel(index if mask is None else index[mask]))


class PythonRule(OperatorRule):
    """Runs an operator's own step function in each step of each batch item.

    It lowers all operators that no other rule is known for, with a warning. Registered
    for a class of operators, as `nengo_dl.builder.PythonOpBuilder`, it does not warn.
    """

    def carries(self, op: Any) -> Iterable[Signal]:
        """Whatever it sets: its step function may look at what it set before."""
        return op.sets

    def reaches(self, op: Any) -> frozenset | None:
        """What its code and its attributes lead to, and the common random numbers."""
        parts = _attributes(op)
        for cls in type(op).__mro__:
            if not cls.__module__.startswith(("nengo.", "builtins")):
                # what makes an operator is not called any more
                parts += [v for name, v in vars(cls).items() if name != "__init__"]
        tokens = reachable(tuple(parts))
        if tokens is None:
            return None
        return tokens | {("operator", id(op)), "random numbers of the simulator"}

    def stepwise(self, op: Any) -> bool:
        """Always True: such an operator never runs ahead of the steps."""
        return True

    def kind(self, op: Any) -> type:
        """What no rule is known for."""
        return type(op)

    def announce(self, op: Any, low: Lowering) -> None:
        """Called once for each operator of a simulator, before it is used."""

    def lower(self, op: Any, low: Lowering) -> None:
        """One node, with all that the operator looks at and all that it writes."""
        step = getattr(type(op), "make_step", Operator.make_step)
        if step is Operator.make_step:
            raise BuildError(unknown_operator(op))
        if op not in low.options.hosts:
            self.announce(op, low)
        host = low.host(op, lambda: PythonOperator(op, low.dt, self.kind(op)))
        if _is_given(op, low):
            for signal in op.sets:
                data = low.data(signal)
                if data is not None:  # `_is_given` says that there are some
                    low.define(signal, data)
            return
        call = OperatorCall(host, _clock(op, low))
        inputs = [low.read(low.model.time)]  # so that it runs in each step
        given = list(self._inputs(op, low, call))
        small = [elements.ravel() for elements, large in given if not large]
        if small:
            inputs.append(np.concatenate(small))
        inputs += [elements.ravel() for elements, large in given if large]
        masks = _first_mentions(op.incs)
        for signal in (*op.sets, *op.updates):
            call.take(signal)
        for signal, mask in zip(op.incs, masks):
            call.take(signal, mask, clear=True)
        params = {"function": call, "sizes": call.sizes}
        outputs = low.node(PYTHON, inputs, call.sizes, params, label=host.label)
        results = np.concatenate(outputs) if outputs else np.zeros(0, int)
        self._write(op, low, results, masks)

    def _inputs(self, op, low, call):
        """For each signal that is given, its elements, and whether it is large."""
        clock = set(call.clock.values())
        for signal in op.reads:
            if signal.sparse or signal.base in clock:
                continue
            if low.is_constant(signal):
                call.constant(signal, low.value(signal))
                continue
            yield low.read(signal), call.give(signal)
        for signal in self.carries(op):
            yield low.previous(signal), call.give(signal, _is_own(op, signal, low))
        for signal in op.updates:
            yield low.read(signal), call.give(signal, _is_own(op, signal, low))

    @staticmethod
    def _write(op, low, results, masks) -> None:
        """The results go where the operator wrote; given data goes first."""
        first = 0
        for signal in (*op.sets, *op.updates):
            elements = results[first : first + signal.size].reshape(signal.shape)
            first += signal.size
            data = low.data(signal)
            elements = elements if data is None else data
            (low.define if signal in op.sets else low.update)(signal, elements)
        for signal, mask in zip(op.incs, masks):
            size = int(np.count_nonzero(mask))
            low.increment(signal, results[first : first + size], index=mask)
            first += size


def _attributes(op) -> list:
    """What an operator holds besides signals."""
    return [value for value in vars(op).values() if not _is_signals(value)]


def _signals(op) -> list:
    """The signals of an operator, and the lists that hold them."""
    lists = [value for value in vars(op).values() if _is_signals(value)]
    return [*lists, *op.all_signals]


def _is_signals(value) -> bool:
    """Whether an attribute of an operator is a signal, or a list of signals."""
    values = value if isinstance(value, list) else [value]
    return all(isinstance(v, Signal) for v in values)


def _is_given(op, low) -> bool:
    """Whether all that an operator writes is data of nodes."""
    fed = [low.data(signal) is not None for signal in op.sets]
    return bool(fed) and all(fed) and not (op.incs or op.updates)


def _is_own(op, signal, low) -> bool:
    """Whether a signal is written by nobody but one operator, and as a whole."""

    def writers():
        for other in low.order:
            for written in (*other.sets, *other.incs, *other.updates):
                if written.base is signal.base:
                    yield other

    alone = signal.size == signal.base.size and list(writers()) == [op]
    return alone and low.data(signal) is None and signal not in op.reads


def _clock(op, low):
    """Which of the model's own clock signals an operator reads, and does not set."""
    names = {"time": low.model.time.base, "step": low.model.step.base}
    read = {signal.base for signal in op.reads}
    return {name: base for name, base in names.items() if base in read}


def _first_mentions(signals):
    """For each signal, which of its entries no earlier one has, as masks."""
    seen: dict = {}
    masks = []
    for signal in signals:
        taken = seen.setdefault(signal.base, np.zeros(signal.base.size, bool))
        index = signal_index(signal)
        masks.append(~taken[index])
        taken[index] = True
    return masks


class UnknownOperator(PythonRule):
    """What lowers all operators that no rule is known for; it warns."""

    def advice(self, op: Any) -> tuple[str, str]:
        """What there is no native form of, and how to add one."""
        name = type(op).__name__
        way_out = (
            "register a nengo_dl.builder.OpBuilder with "
            f"@nengo_dl.builder.Builder.register({name})"
        )
        return f"the operator {name}", way_out

    def place(self, op: Any) -> str:
        """Where the operator is in the network, for messages."""
        return label_of(op)

    def announce(self, op: Any, low: Lowering) -> None:
        """Warn, once for all operators of a kind."""
        kind = self.kind(op)
        alike = [o for o in low.order if type(o) is type(op) and self.kind(o) is kind]
        what, way_out = self.advice(op)
        costs = copied(self._copied_bytes(op, low))
        if any(True for _ in (*self.carries(op), *op.updates)):
            costs += ", keeps the loop from being compiled"
        warn_of_python(kind, what, f"{self.place(op)}{others(alike)}", costs, way_out)

    def _copied_bytes(self, op, low) -> int:
        """How many bytes are copied in a step: what is given, and what is written.

        With one batch item it may be less, see `OperatorCall.shared`.
        """
        given = [s for s in op.reads if not (s.sparse or low.is_constant(s))]
        signals = [
            *given,
            *self.carries(op),
            *op.sets,
            *op.incs,
            *op.updates,
            *op.updates,
        ]
        size = sum(signal.size for signal in signals)
        own = [s for s in (*self.carries(op), *op.updates) if _is_own(op, s, low)]
        return 8 * (size - sum(s.size for s in own if s.size >= LARGE_SIGNAL))


def copied(size: int) -> str:
    """What to say about bytes that are copied in each step; nothing, if they are few."""
    if size < FEW_BYTES:
        return ""
    amount = f"{size / 2**20:.1f} MB" if size >= 2**20 else f"{size / 2**10:.0f} kB"
    return f", copies up to {amount} of signals in each of them"


operators.default = UnknownOperator()
