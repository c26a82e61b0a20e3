"""What runs a network: the contract of executors, and the registry that finds them.

The compiler makes a `~nengo_dl.compiler.layout.Layout`: which arrays are carried from
step to step, what is given to a step, and which kernels it applies. An `Executor` runs
it. How to write one, and how the runtime finds it, is all in this module and in
`.namespace`; ``tests/runtime/test_conformance.py`` runs whatever is registered.

The functions of one step come from `.emit`: ``whole_step(layout, batch)`` is a pure
function ``step(xp, carry, x, weights) -> (next_carry, y)`` for layouts of a single stage.
``carry`` are arrays ``(n_i, batch)``, ``x`` are the inputs of the step,
``(layout.n_inputs, batch)``, or None if that is 0, and ``y`` are the rows that are
probed, ``(layout.n_probed, batch)``. Layouts with stages for all steps at once are run by
``SequenceStages`` and ``loop_step``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Flag
from typing import Any, NamedTuple, Protocol

import numpy as np

from nengo_dl.compiler.graph import ParameterRef
from nengo_dl.compiler.layout import Layout, StateSlot, Weight, looking_at
from nengo_dl.compiler.namespace import ArrayNamespace
from nengo_dl.compiler.slots import columns_of
from nengo_dl.runtime.costs import BYTE_SECONDS, LEAST_BYTES, WINDOW
from nengo_dl.runtime.host import InputFeed

# sampling -----------------------------------------------------------------------------
#
# A probe of 400 x 400 weights with ``sample_every=1.0`` shows one step of a thousand.
# To read it in all of them takes longer than the steps themselves, so a program runs
# the steps in between without it. Small probes are read each step: that costs less than
# it takes to ask whether to.


def pays_to_leave_out(n_bytes: float, period: float, seconds: float) -> bool:
    """Whether it pays to leave a probe out between its samples.

    Parameters
    ----------
    n_bytes : float
        What the probe sees in a step.
    period : float
        Steps between two samples.
    seconds : float
        What it costs for each sample.
    """
    if n_bytes < LEAST_BYTES:
        return False
    return BYTE_SECONDS * n_bytes * (period - 1) > seconds


class Seen(NamedTuple):
    """What probes saw in some steps.

    Attributes
    ----------
    steps : int
        How many.
    parts : tuple
        ``(rows, probes, sampled)``: an array ``(n, rows, batch)``; for each probe its
        first row and the one after its last; whether the array has samples alone. If
        not, it has all the steps.
    """

    steps: int
    parts: tuple[tuple[np.ndarray, tuple[tuple[Any, int, int], ...], bool], ...]


class Sampling:
    """The times at which probes are read: periods, and those of the last step alone.

    Parameters
    ----------
    periods : mapping
        Probe -> number of steps between two samples. Of the steps 1, 2, ... those with
        ``step % period < 1`` are samples, as in core Nengo.
    last : set
        Those of them of which only the last sample of a run is wanted.
    """

    def __init__(self, periods: Mapping[Any, float], last: Any = ()) -> None:
        self.periods = dict(periods)
        self.last = frozenset(last)

    def among(self, probes: Any) -> Sampling:
        """The sampling of some of the probes alone."""
        periods = {p: period for p, period in self.periods.items() if p in probes}
        return Sampling(periods, self.last & set(periods))

    def due(self, step: int) -> frozenset:
        """Which probes have a sample in one step that is a run of its own."""
        return frozenset(p for p, period in self.periods.items() if step % period < 1)

    def samples(self, start: int, n_steps: int) -> Iterator[tuple[int, frozenset]]:
        """Steps of a run with samples, in order, and the probes that have one there.

        Parameters
        ----------
        start : int
            Number of steps before the run.
        n_steps : int
        """
        final = {probe: self._final(probe, start, n_steps) for probe in self.last}
        for first in range(start + 1, start + n_steps + 1, WINDOW):
            steps = np.arange(first, min(first + WINDOW, start + n_steps + 1))
            found: dict[Any, list] = {}
            for probe, period in self.periods.items():
                if probe in final:
                    mine = [final[probe]] if final[probe] in steps else []
                else:
                    mine = steps[steps % period < 1].tolist()
                for step in mine:
                    found.setdefault(step, []).append(probe)
            for step in sorted(found):
                yield step, frozenset(found[step])

    def _final(self, probe: Any, start: int, n_steps: int) -> int | None:
        """The last step of a run that is a sample of a probe."""
        stop = start + n_steps
        while stop > start:
            steps = np.arange(max(start, stop - WINDOW) + 1, stop + 1)
            found = steps[steps % self.periods[probe] < 1]
            if found.size:
                return int(found[-1])
            stop = int(steps[0]) - 1
        return None


class Look:
    """Which rows of a result belong to which probe, those of each step first.

    Parameters
    ----------
    layout : Layout
        The whole step.
    sampled : frozenset
        Its probes that are read at their samples only.
    due : frozenset
        Those of them that are read.
    """

    def __init__(self, layout: Layout, sampled: frozenset, due: frozenset) -> None:
        probes = [key for key, _, _ in layout.probes]
        every = [key for key in probes if key not in sampled]
        self.layout = layout
        if sampled:
            self.layout = looking_at(layout, [*every, *(k for k in probes if k in due)])
        rows = [(k, a, a + int(np.prod(s))) for k, a, s in self.layout.probes]
        self.every = tuple(rows[: len(every)])
        #: rows of each step
        self.n_every = self.every[-1][2] if self.every else 0
        self.due = tuple((k, a - self.n_every, b - self.n_every) for k, a, b in rows)
        self.due = self.due[len(every) :]

    def part(self, rows: np.ndarray) -> tuple:
        """The samples in ``(steps, n, batch)``, as a part of `Seen`."""
        return rows[:, self.n_every :], self.due, True


# state --------------------------------------------------------------------------------


class StateStore:
    """State of the simulation by signal, independent of any program's layout.

    A program that is about to run takes its carried arrays from here, and gives them
    back when another one takes over. Values are arrays ``(size, batch)``; ``(size, 1)``
    of what all items have in common.
    """

    def __init__(self, batch: int, dtype: Any) -> None:
        self.batch = batch
        self.dtype = np.dtype(dtype)
        self.values: dict[object, np.ndarray] = {}

    def clear(self) -> None:
        """Back to the first values."""
        self.values.clear()

    def load(
        self, slots: Iterable[StateSlot], initial: Iterable[np.ndarray]
    ) -> list[np.ndarray]:
        """Carried arrays for a layout.

        They are ``(rows, batch)``; ``(rows, 1)`` of what all items have in common, which
        is what the first one has, if they differ.

        Parameters
        ----------
        slots : iterable of StateSlot
            The layout's states.
        initial : iterable of ndarray
            First values of each carried array, for what was never stored.
        """
        slots = slots if isinstance(slots, Sequence) else list(slots)
        initial = list(initial)
        columns = columns_of(slots, len(initial), self.batch)
        carry = [
            np.repeat(values.astype(self.dtype)[:, None], n, axis=1)
            for values, n in zip(initial, columns, strict=True)
        ]
        for slot in slots if self.values else ():
            stored = self.values.get(slot.key)
            if stored is None:
                continue
            for number in slot.carries:
                mine = slot.carry == number
                carry[number][slot.row[mine]] = stored[mine][:, : columns[number]]
        return carry

    def save(self, slots: Iterable[StateSlot], carry: list[np.ndarray]) -> None:
        """Take over what a program carries.

        Entries that no element of the program holds keep what they were.
        """
        for slot in slots:
            held = slot.carry >= 0
            if not held.any():
                continue
            value = self.values.get(slot.key)
            if value is None:
                columns = 1 if slot.common else self.batch
                value = np.zeros((slot.carry.size, columns), self.dtype)
                value[~np.isnan(slot.constant)] = slot.constant[
                    ~np.isnan(slot.constant), None
                ]
            value = value[:, :1].copy() if slot.common else value.copy()
            for number in slot.carries:
                mine = slot.carry == number
                value[mine] = carry[number][slot.row[mine]]
            self.values[slot.key] = value

    def fits(self, slots: Iterable[StateSlot], initial: Iterable[np.ndarray]) -> bool:
        """Whether a layout can hold all values: those that share a place are equal."""
        slots = list(slots)
        carry = self.load(slots, initial)
        for slot in slots:
            stored = self.values.get(slot.key)
            if stored is None:
                continue
            fixed = ~np.isnan(slot.constant)
            constant = slot.constant[fixed, None].astype(self.dtype)
            if (stored[fixed] != constant).any():
                return False
            for number in slot.carries:
                mine = slot.carry == number
                if (carry[number][slot.row[mine]] != stored[mine]).any():
                    return False
        return True

    def copy(self) -> dict[object, np.ndarray]:
        """All values, to be given to `restore` later."""
        return dict(self.values)

    def restore(self, values: Mapping[object, np.ndarray], keep: Iterable = ()) -> None:
        """Values from `copy`, but for the signals to ``keep`` as they are now."""
        kept = {key: self.values[key] for key in keep if key in self.values}
        self.values = {**values, **kept}


def first_of(base, first: Mapping) -> np.ndarray:
    """What a base signal starts with, flat."""
    return np.ravel(first.get(base, base.initial_value))


def start_equal(items: Sequence[Mapping], others: Sequence[Mapping]) -> bool:
    """Whether signals start with the same values."""
    return all(
        a.keys() == b.keys() and all(_same(a[base], b[base]) for base in a)
        for a, b in zip(items, others)
    )


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")


def individual(items: Sequence[Mapping]) -> frozenset:
    """The base signals that batch items start with different values of."""
    bases = {base for first in items for base in first}
    return frozenset(
        base
        for base in bases
        if any(not _same(first_of(base, items[0]), first_of(base, i)) for i in items)
    )


# the contract -------------------------------------------------------------------------


class Capability(Flag):
    """What an executor can do; the runtime chooses by these, never by a name."""

    NONE = 0
    #: Python functions may be called for many steps, before or after the loop over time
    PYTHON_AROUND_LOOP = 1
    #: Python functions may be called inside a step, once each, in their order. It
    #: includes the other one: in layouts of a single stage, all are in the step
    PYTHON_IN_LOOP = 2 | PYTHON_AROUND_LOOP
    #: takes layouts with stages before and after the loop, which compute all steps of a
    #: chunk at once; others are given layouts of a single stage
    STAGES = 4
    #: something is compiled before the first step, which takes seconds; the user's
    #: setting ``jit`` asks for it or rules it out
    COMPILES = 8
    #: has the method ``step``, for single steps without the cost of a run
    SINGLE_STEPS = 16
    #: steps are machine code that is there after milliseconds, so that it does not matter
    #: how many of them there are; the user's setting ``jit=False`` rules it out
    MACHINE_CODE = 64


class Unsupported(Exception):
    """An executor cannot run a layout; its text says what it cannot run, and why.

    Raised by `ExecutorKind.make`, before anything has changed. The network then runs
    in another executor, unless the user asked for this one.
    """


@dataclass(frozen=True, eq=False)
class Task:
    """What an executor is made for.

    Attributes
    ----------
    layout : Layout
        The step. Of a single stage, unless the executor has `Capability.STAGES`.
    feed : InputFeed
        ``feed.chunk(start, k)`` makes the rows that the ``k`` steps after step ``start``
        are given, ``(k, layout.n_inputs, batch)``, and calls the functions that have no
        input. It has to be called for each step once and in order, also if
        ``layout.n_inputs`` is 0.
    store : StateStore
        Where the state is while no executor has it. Its attributes ``batch`` and
        ``dtype`` are those of the simulation.
    weights : list of ndarray
        The arguments of the program, in the order of ``layout.weights``.
    sampling : Sampling
        The probes that may be read at their samples only. They are among those for which
        `ExecutorKind.reads_samples_only` was true, so there are none by default.
    unroll : int
        How many steps one trip of a compiled loop should make.
    use_loop : bool
        False: ``unroll`` steps are to be compiled without a loop.
    device : str or None
        The device that the user asked for, as for `tf.device`.
    xla : bool
        False: the user's setting ``jit`` rules out that XLA compiles anything.
    tensor_float_32 : bool
        Whether a GPU may round the factors of products to 10 bits, which is faster.
    """

    layout: Layout
    feed: InputFeed
    store: StateStore
    weights: list[np.ndarray]
    sampling: Sampling = Sampling({})
    unroll: int = 1
    use_loop: bool = True
    device: str | None = None
    xla: bool = True
    tensor_float_32: bool = False


class Executor(Protocol):
    """A step that has been made ready to run, and the state while it runs.

    The arrays that are carried belong to the executor between `load` and `save`;
    otherwise the state is in the store. Steps count from 1: "after step ``start``" means
    that ``start`` steps have been run since the last reset.

    *Whole steps.* Whatever happens, the state that others see is that at the end of a
    step. What ends a run early is an exception of a Python function, an interrupt, or a
    caller that takes no more of what `run` yields. In the first two cases `run` yields
    the steps before the failure, then raises what was raised. The state is then that at
    the end of the last step that was yielded. What the feed made for later steps goes
    back with ``feed.put_back(step, rows)``, and what functions returned in the step that
    did not come to its end is returned to it when it is run again: no function is called
    twice for a step, and no random number is skipped. `.host.Waiting` keeps the inputs of
    those who run ahead, `.stepwise.Journal` the steps of those who work in place.

    Attributes
    ----------
    layout : Layout
        What it runs.
    feed : InputFeed
        What gives it its inputs; the one it was made with.
    """

    layout: Layout
    feed: InputFeed

    def load(self) -> None:
        """Take the state from the store: ``store.load(layout.states, layout.carry)``.

        Nothing that was remembered of earlier steps is valid any more.
        """

    def save(self) -> None:
        """Put the state into the store: ``store.save(layout.states, carry)``.

        ``carry`` is a list of arrays ``(n_i, batch)``. The executor keeps the state, and
        goes on with it if it is not told to `load`.
        """

    def write(self, weights: Sequence[np.ndarray]) -> None:
        """Use other values of the parameters from now on.

        Parameters
        ----------
        weights : sequence of ndarray
            Of the same shapes as in the `Task`.
        """

    def has_compiled(self, n_steps: int) -> bool:
        """Whether a run of so many steps starts without compiling anything."""
        ...

    def run(self, start: int, n_steps: int) -> Iterator[Seen]:
        """Advance by ``n_steps`` after step ``start``; see above for how a run ends.

        Any number of steps may be run before what they gave is yielded, but not more
        than memory allows: users run millions of steps. While `.stepwise` makes
        Ctrl-C wait for the end of a step, whoever runs many steps in Python looks at
        ``stepwise.waiting`` between them.

        Yields
        ------
        Seen
            What probes saw in the next steps: the rows of all probes of the layout, or
            of those that are read in each step, and the samples of the others.
        """
        ...

    def settle(self, step: int) -> None:
        """The state is to be that at the end of step ``step``.

        Called after a run that ended early: the steps up to ``step`` were taken by the
        caller, and the state is that of this step or of a later one. Inputs of the steps
        after it go back to the feed.
        """


class SteppingExecutor(Executor, Protocol):
    """An executor with `Capability.SINGLE_STEPS`."""

    def step(self, start: int) -> np.ndarray | Seen:
        """The one step after step ``start``, without data that were given to nodes.

        If it raises, `settle` is called before anything else.

        Returns
        -------
        ndarray or Seen
            ``(1, rows, batch)``, the rows of all probes; `Seen` if some of them are read
            at their samples only.
        """
        ...


@dataclass(frozen=True)
class Work:
    """How much there is to run, for the choice of an executor.

    Attributes
    ----------
    layout : Layout
        Of a single stage.
    batch : int
        Number of batch items.
    n_steps : int
        Steps of the run at hand.
    asked : int
        Steps of all long runs since the last reset, this one included. The choice never
        looks at a clock: a script runs in the same way in every process.
    device : str or None
        The device that the user asked for.
    rival : float or None
        Seconds that a step is estimated to take in the executor with
        `Capability.MACHINE_CODE` that would run it. ``n_steps`` and ``asked`` are to make
        no difference then: the choice is one of network, settings and batch alone, so
        that any cut of a run into pieces gives the same numbers.
    """

    layout: Layout
    batch: int
    n_steps: int
    asked: int
    device: str | None = None
    rival: float | None = None

    @property
    def on_accelerator(self) -> bool:
        """Whether the user asked for a device that is no CPU."""
        return self.device is not None and "cpu" not in self.device.lower()

    @property
    def operations(self) -> tuple[float, float]:
        """Elementary operations of a step, of all items: of products, and all others.

        Products are those with matrices that all items have in common, convolutions
        included. Matrices that each item has of its own, because they learn, are read
        once for every item: memory decides, as with elementwise operations.
        """
        assert self.layout.plan is not None  # only what is kept of programs has none
        graph = self.layout.plan.graph
        products, others = 0.0, float(graph.src.size)
        for node in graph.nodes:
            kernel = node.kernel
            if kernel.matrices or kernel.joins_items:
                products += kernel.cost(node)
            else:
                others += kernel.cost(node)
        return products * self.batch, others * self.batch

    @property
    def shares_arrays(self) -> bool:
        """Whether a Python operator can work in the state itself, without copies."""
        functions = [g.params.get("function") for g in self.layout.groups()]
        shared = [getattr(function, "shared", None) for function in functions]
        return any(asks is not None and asks() for asks in shared)

    @property
    def has_tensors(self) -> bool:
        """Whether functions of TensorFlow tensors are called in a step."""
        return any(group.kernel.tensorflow for group in self.layout.groups())


class ExecutorKind(ABC):
    """One way to run networks: what it can do, when it pays, and how one is made.

    Attributes
    ----------
    name : str
        Short and unique.
    capabilities : Capability
        What it can do.
    family : str
        What the user's setting ``executor`` calls it; its name by default.
    """

    name: str
    capabilities: Capability = Capability.NONE

    @property
    def family(self) -> str:
        """What the setting ``executor`` calls it; its name by default."""
        return self.name

    def missing(self) -> str | None:
        """What is missing in this process for it to run anything; None: nothing."""
        return None

    def begin(self) -> None:
        """Begin what takes its time once in a process, without waiting for it.

        Called before a network is built that this kind may run. It may raise nothing,
        and nothing may depend on it. By default there is nothing to do.
        """
        return None

    @abstractmethod
    def namespace(self, dtype: Any) -> ArrayNamespace:
        """The array functions that kernels are given.

        Parameters
        ----------
        dtype : dtype
            ``float32`` or ``float64``.
        """

    @abstractmethod
    def make(self, task: Task) -> Executor:
        """An executor, without the state: that comes with `Executor.load`."""

    def pays(self, work: Work) -> bool:
        """Whether some work is worth what it costs to get started with it.

        Kinds are asked in the order of the registry; the first one that can run a
        network and says that it pays is taken. True by default.
        """
        return True

    def because(self, work: Work) -> str:
        """Why `pays` is what it is for some work, in words, for `.Simulator.describe`."""
        return "it is asked first"

    def seconds_per_step(self, work: Work) -> float:
        """About how long a step takes, estimated from its plan; infinite by default.

        Asked of executors with `Capability.MACHINE_CODE`, see `Work`.
        """
        return float("inf")

    def reads_samples_only(self, n_bytes: float, period: float) -> bool:
        """Whether a probe should be left out between its samples; no by default.

        Parameters
        ----------
        n_bytes : float
            What the probe sees in a step.
        period : float
            Steps between two samples.
        """
        return False


class Executors:
    """The registry: all kinds of executors, those to be asked first at the front.

    Examples
    --------
    >>> executors.find("numpy").capabilities & Capability.COMPILES
    <Capability.NONE: 0>
    """

    def __init__(self) -> None:
        self._kinds: list[ExecutorKind] = []

    def register(self, kind: ExecutorKind, before: str | None = None) -> None:
        """Add a kind at the end, or before the one with a name.

        Raises
        ------
        ValueError
            If its name is taken, or ``before`` names nothing.
        """
        if kind.name in self.names:
            raise ValueError(
                f"there is an executor {kind.name!r} already; give this one another name"
            )
        place = len(self._kinds) if before is None else self._index(before)
        self._kinds.insert(place, kind)

    def remove(self, name: str) -> None:
        """Forget the kind of this name."""
        del self._kinds[self._index(name)]

    @contextmanager
    def using(self, kind: ExecutorKind) -> Iterator[None]:
        """A kind that is asked first, as long as the context lasts."""
        self.register(kind, before=self.names[0] if self._kinds else None)
        try:
            yield
        finally:
            self.remove(kind.name)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all kinds, in the order in which they are asked."""
        return tuple(kind.name for kind in self._kinds)

    def find(self, name: str) -> ExecutorKind:
        """The kind of this name."""
        return self._kinds[self._index(name)]

    def able(self, needs: Capability) -> tuple[ExecutorKind, ...]:
        """The kinds that can do all of this, in the order in which they are asked."""
        return tuple(k for k in self._kinds if needs in k.capabilities)

    def _index(self, name: str) -> int:
        for i, kind in enumerate(self._kinds):
            if kind.name == name:
                return i
        raise ValueError(
            f"there is no executor {name!r}; there are {', '.join(self.names)}"
        )


#: all kinds of executors of this process
executors = Executors()


def pack(weight: Weight, values: Any, dtype: Any) -> np.ndarray:
    """An argument of a program as one array.

    Parameters
    ----------
    weight : Weight
        What it consists of.
    values : callable
        Parameter key -> its present value.
    dtype : dtype
        ``float32`` or ``float64``.
    """
    items = []
    for item in weight.items:
        if isinstance(item, ParameterRef):
            value = np.ravel(values(item.key))
            value = value if item.index is None else value[np.ravel(item.index)]
            item = value.reshape(item.shape)
        items.append(item)
    with np.errstate(over="ignore"):  # the user was told when the simulator was made
        if weight.form == "stack":
            return np.stack(items).astype(dtype)
        return np.concatenate([np.ravel(i) for i in items]).reshape(-1, 1).astype(dtype)
