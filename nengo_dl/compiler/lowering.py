"""From operators over shared memory to elements that are defined once.

The operators are walked in core Nengo's order. For each base signal there is an
*environment*: which element holds each of its entries now. Writing to a signal does not
compute anything: ``Reset`` covers a region with a constant, ``Copy`` and the increments
add terms. The first read freezes the region into SUM elements. So a chain of resets and
increments becomes one sum, and views are index arithmetic.

What an operator *updates*, what it carries over from the step before (``carries`` of
its rule) and signals that are incremented but not set become states.

An `OperatorRule` says how one kind of operator becomes elements. It talks to `Lowering`,
which knows where signals are in memory, and what was written there that nobody has read.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from nengo.builder.signal import Signal
from nengo.exceptions import BuildError
from numpy.typing import ArrayLike

from nengo_dl.compiler.common import check_common
from nengo_dl.compiler.graph import Graph, GraphBuilder, ParameterRef
from nengo_dl.compiler.memory import (
    Pending,
    check_views,
    copied,
    covers,
    entries,
    memory_shape,
    signal_index,
    source_key,
    spread,
    views_of,
)
from nengo_dl.compiler.plan import Accesses, operator_order
from nengo_dl.compiler.readings import Reading, Readings
from nengo_dl.compiler.repeated import Lasting, Repeated
from nengo_dl.compiler.traits import Kernel, refuse_abstract
from nengo_dl.compiler.traits import operators as rules
from nengo_dl.notices import label_of
from nengo_dl.surrogates import SpikeTraining

# rules --------------------------------------------------------------------------------

R = TypeVar("R", bound="OperatorRule")


class OperatorRule(ABC):
    """How operators ``op`` of one kind become elements; see `lowers`."""

    def covers(self, op: Any, registered: type) -> bool:
        """Whether the rule of the class ``registered`` is right for the operator ``op``.

        By default operators of a subclass are lowered by the rule of their base class
        unless they have a ``make_step`` of their own, and so do something else.
        """
        own = getattr(type(op), "make_step", None)
        return own is getattr(registered, "make_step", None)

    def carries(self, op: Any) -> Iterable[Signal]:
        """Signals whose previous value the operator uses, although it sets them."""
        return ()

    def reaches(self, op: Any) -> frozenset | None:
        """Tokens of the objects that the operator's Python code may share with others.

        None: any object. Empty: it runs no Python, or nothing that could be shared.
        """
        return frozenset()

    def stepwise(self, op: Any) -> bool:
        """Whether the operator runs Python that needs other signals of its step."""
        return False

    def may_wait(self, op: Any) -> bool:
        """Whether lowering it cannot fail, and makes no object that runs Python.

        A network of nothing but these need not be compiled before it is known what for.
        """
        return False

    def penalizes(self, op: Any, training: bool) -> bool:
        """Whether the operator adds to the losses, with ``low.penalize`` in `lower`.

        Parameters
        ----------
        op : nengo.builder.Operator
        training : bool
            To those of training; else to those of testing.
        """
        return False

    def trains_otherwise(
        self, op: Any, training: bool, spikes: SpikeTraining | None
    ) -> bool:
        """Whether `lower` makes something else of the operator than without training.

        Where no operator of a network is trained otherwise than it runs, what was
        compiled for the one is used for the other. A rule whose `lower` asks
        ``low.options`` for ``training`` or ``spikes`` has to say so here.

        Parameters
        ----------
        op : nengo.builder.Operator
        training : bool
            ``low.options.training``: Keras layers behave as in training.
        spikes : SpikeTraining or None
            ``low.options.spikes``: how neurons are trained.
        """
        return False

    @abstractmethod
    def lower(self, op: Any, low: Lowering) -> None:
        """Describe one operator to ``low``, a `nengo_dl.compiler.lowering.Lowering`."""


def lowers(*operator_classes: type) -> Callable[[type[R]], type[R]]:
    """Class decorator: this `OperatorRule` lowers these operators.

    Operators of subclasses, too, if the rule `covers <OperatorRule.covers>` them.

    Raises
    ------
    TypeError
        If the rule has no method ``lower``.
    """

    def decorate(rule_class: type[R]) -> type[R]:
        refuse_abstract(rule_class)
        for cls in operator_classes:
            rules.add(cls, rule_class())
        return rule_class

    return decorate


def rule_of(op: Any) -> OperatorRule | None:
    """The rule for an operator: of its class, of an ancestor, or of all others.

    None if there is none at all (the kernels, which bring the rules, are not imported).
    """
    for cls in type(op).__mro__:
        rule = rules.exact(cls)
        if rule is not None and rule.covers(op, cls):
            return rule
    return rules.default


def trains_otherwise(model: Any, training: bool, spikes: SpikeTraining | None) -> bool:
    """Whether any operator of a model does, see `OperatorRule.trains_otherwise`."""
    rules = ((rule_of(op), op) for op in model.operators)
    return any(r.trains_otherwise(op, training, spikes) for r, op in rules if r)


def may_wait(model: Any) -> bool:
    """Whether all operators of a model do, see `OperatorRule.may_wait`."""
    rules = ((rule_of(op), op) for op in model.operators)
    return all(rule is not None and rule.may_wait(op) for rule, op in rules)


def unknown_operator(op: Any) -> str:
    """What to tell about an operator without a rule and without a step function."""
    name = type(op).__name__
    known = ", ".join(sorted(cls.__name__ for cls, _ in rules.items()))
    return (
        f"NengoDL has no rule for the operator {name} ({label_of(op)}"
        f"), and cannot run it as "
        f"Python either, since {name} has no make_step(signals, dt, rng). Add that "
        f"method, or a rule: a subclass of nengo_dl.builder.OpBuilder with the decorator "
        f"@nengo_dl.builder.Builder.register({name}), anywhere that is imported before "
        f"the Simulator is made. Known operators: {known}"
    )


# elements -----------------------------------------------------------------------------


@dataclass(frozen=True)
class LoweringOptions:
    """What a graph is made for.

    Parameters
    ----------
    training : bool
        Keras layers behave as in training.
    spikes : SpikeTraining or None
        Neurons as they are trained: spiking ones in their rate form, or with a gradient
        for their spikes. None: neurons as they are.
    parameters : frozenset of Signal
        Base signals whose values are arguments of the program. All other constant
        signals are folded into the graph.
    inputs : frozenset of Signal
        Signals that are given from outside for every step although the network has
        something else for them (nodes that receive data): `source_key` of each.
    hosts : dict
        Operator -> the object that runs it as Python. Shared by all graphs of one
        simulator, so that there is one state for each operator; lowering adds to it.
    penalties : bool
        Whether losses that operators add to those of training are probed, too.
    single : bool
        Whether the simulation has single precision: then between Python functions
        numbers are to keep double precision, and filters may need other coordinates.
    first : mapping
        Base signal -> the values (flat) that it starts with, where they are not those
        that it was built with: operators may write to signals as they make their steps.
    individual : frozenset of Signal
        Those of them whose first values differ between batch items.
    observed : frozenset of Signal
        Base signals whose present values are looked at from outside, whatever is probed.
        Those that operators write are states of the graph, and stay in it.
    written : frozenset of Signal
        Base signals among those whose state is given other values between two steps.
    common : mapping
        Base signal -> `Common`: what is learned of all items of a batch together.
    equal_once : bool
        Whether what equal operators make of the same elements may be made once. Nothing
        that it is made of may be written later, as for `.simplify.share`.
    """

    training: bool = False
    spikes: SpikeTraining | None = None
    parameters: frozenset = frozenset()
    inputs: frozenset = frozenset()
    hosts: dict = field(default_factory=dict, compare=False)
    penalties: bool = False
    single: bool = False
    first: Mapping = field(default_factory=dict, compare=False)
    individual: frozenset = frozenset()
    observed: frozenset = frozenset()
    written: frozenset = frozenset()
    common: Mapping = field(default_factory=dict, compare=False)
    equal_once: bool = False


@dataclass(frozen=True)
class HostSource:
    """An operator that runs as Python, ahead of the steps.

    ``signal`` is what it sets (`source_key`), or None for side effects alone. An
    operator that does not set a signal by itself, but adds to one, stands for what it
    draws; see `Lowering.drawn`. ``size`` is the number of rows that it gives.
    """

    op: object
    signal: Any
    size: int


@dataclass(frozen=True)
class Lowered:
    """A graph, and the operators that feed it, in core's order.

    ``stepwise_python``: all Python functions must run step by step. ``lasting``: the
    signals of states that there are whatever is observed, in their order in the graph.
    ``turned``: see `Lowering.turned`.
    """

    graph: Graph
    sources: tuple[HostSource, ...]
    order: tuple[object, ...]
    stepwise_python: bool
    lasting: tuple[Signal, ...] = ()
    turned: Mapping = field(default_factory=dict)


class Lowering:
    """What a `OperatorRule` talks to.

    All methods take signals (views included) and give or take arrays of element
    numbers in the signal's shape.
    """

    def __init__(self, model: Any, options: LoweringOptions):
        self.model = model
        self.options = options
        self.dt = model.dt
        self.builder = GraphBuilder()
        self._repeated = Repeated(self.builder) if options.equal_once else None
        self.sources: list[HostSource] = []
        found = Accesses.of(model.operators)
        self.order = operator_order(model.operators, found)
        self.rules = [rule_of(op) for op in self.order]
        self._environment: dict[Signal, np.ndarray] = {}
        self._pending: dict[Signal, Pending] = {}
        self._states: dict[Signal, np.ndarray] = {}
        self._updates: list[tuple[Signal, np.ndarray]] = []
        self._penalties: list[Reading] = []
        #: base signal -> matrix; its state is kept in other coordinates, and the signal
        #: is this matrix times the state. None: it is kept in quite another form
        self.turned: dict[Signal, np.ndarray | None] = {}
        self._memo: dict[Hashable, Any] = {}
        self._common = dict(options.common)
        self._given = defaultdict(list)
        for key in options.inputs:
            self._given[key.base].append(key)
        self._data: dict[Signal, np.ndarray] = {}
        #: what `tick` has given no elements, because nobody reads it as yet
        self._unread: set[Signal] = set()
        self._survey(found)
        pairs = zip(self.rules, self.order, strict=True)
        stepwise = [op for rule, op in pairs if rule is not None and rule.stepwise(op)]
        self._calls_python = bool(stepwise)
        self.stepwise_python = self._needs_core_order(stepwise)

    def _needs_core_order(self, stepwise: list) -> bool:
        """Whether all Python has to run step by step, in core's order.

        Functions of time can run ahead of the steps; a function with input outside of
        feedback can run for many steps before or after the loop. That changes the order
        of calls, which shows if two functions share an object. ``stepwise``: see
        `OperatorRule.stepwise`.
        """
        if not stepwise:
            return False
        clock = {self.model.time.base, self.model.step.base}
        if any(clock.issuperset(s.base for s in op.reads) for op in stepwise):
            return True  # it may be a node that is given data in its place
        seen: set = set()
        anything = 0
        for rule, op in zip(self.rules, self.order, strict=True):
            tokens = frozenset() if rule is None else rule.reaches(op)
            if tokens is None:
                anything += 1
            elif tokens & seen:
                return True
            else:
                seen |= tokens
        return anything > 1 or (anything == 1 and bool(seen))

    def _survey(self, found: Accesses) -> None:
        """Which base signals are written how, before anything is lowered."""
        signals = found.signals()
        if any(signal.is_view for signal in signals):
            check_views(views_of(self.order))
        sets, incs = defaultdict(list), defaultdict(list)
        left = self._writes_left = Counter()
        for by_signal, written in ((found.sets, sets), (found.incs, incs)):
            for signal, ops in by_signal.items():
                written[signal.base].append(signal)
                left[signal.base] += len(ops)
        updated = {signal.base for signal in found.updates}
        carried = set()
        for op, rule in zip(self.order, self.rules, strict=True):
            if rule is not None:
                for signal in rule.carries(op):
                    carried.add(signal.base)
        growing = {base for base in incs if not covers(sets[base], incs[base])}
        self._lasting = updated | carried | growing | self.options.individual
        self._varies = self._lasting | set(sets) | set(incs)
        # what is set in each step is otherwise forgotten at its end
        self._observed = self.options.observed & (self._varies | self._given.keys())
        self._is_state = self._lasting | self._observed

    # reading ---------------------------------------------------------------------

    def is_constant(self, signal: Signal) -> bool:
        """Whether a signal has one known value for ever."""
        base = signal.base
        return not (
            base in self._varies or base in self.options.parameters or base in self._given
        )

    def value(self, signal: Signal) -> np.ndarray:
        """The value of a constant signal (or the first value of any other)."""
        value = signal.initial_value
        if type(value) is not np.ndarray and signal.sparse:
            value = entries(signal)[2]
        if self.options.first and signal.base in self.options.first:
            value = self.options.first[signal.base][signal_index(signal)]
        return np.asarray(value, np.float64)

    def matrix(self, signal: Signal) -> np.ndarray | ParameterRef | None:
        """A signal as a node's matrix: its value, a reference, or None if it varies."""
        if self.is_constant(signal):
            return self.value(signal)
        base = signal.base
        if base in self._varies or base not in self.options.parameters:
            return None
        if signal.size == base.size and not signal.is_view:
            return ParameterRef(base, signal.shape)
        return ParameterRef(base, signal.shape, signal_index(signal))

    def read(self, signal: Signal) -> np.ndarray:
        """Elements that hold a signal now; freezes what was written to it."""
        base = signal.base
        if base is signal:
            if base in self._pending:
                self._flush(base)
            return self._current(base).reshape(memory_shape(signal)).copy()
        index = signal_index(signal)
        self._flush(base, index.ravel())
        return self._current(base)[index]

    @property
    def spikes(self) -> SpikeTraining:
        """How neurons are trained; only asked for while they are."""
        if self.options.spikes is None:
            raise ValueError("neurons are lowered as they are, not as they are trained")
        return self.options.spikes

    def data(self, signal: Signal) -> np.ndarray | None:
        """Elements of the data that take a signal's place; None if there are none."""
        if signal.base not in self._given:
            return None
        elements = self._data_of(signal.base)[signal_index(signal)]
        return elements if (elements >= 0).all() else None

    def previous(self, signal: Signal) -> np.ndarray:
        """Elements that held a signal at the end of the step before."""
        base = signal.base
        self._current(base)
        if not signal.is_view:
            return self._states[base].reshape(memory_shape(signal)).copy()
        return self._states[base][signal_index(signal)]

    def sources_of(self, signal: Signal) -> list[Signal | None]:
        """What is copied into a signal, or added to it; None for anything else."""
        found: list[Signal | None] = []
        for op in self.order:
            for written in (*op.sets, *op.incs):
                if written.base is signal.base and written.may_share_memory(signal):
                    found.append(getattr(op, "src", None))
        return found

    def joined(self, signal: Signal) -> str | None:
        """How the items of a batch change a signal that they have in common.

        ``"sum"``, ``"mean"``, or None: each item has a value of its own.
        """
        common = self._common.get(signal.base)
        return None if common is None else common.how

    # writing ---------------------------------------------------------------------

    def share(self, signal: Signal, like: Signal) -> None:
        """A state is common to all items of a batch if another one is."""
        if like.base in self._common:
            self._common[signal.base] = self._common[like.base]

    def set(self, signal: Signal, elements: np.ndarray, index: Any = None) -> None:
        """A region of a signal takes the values of ``elements``."""
        position, shape = self._position(signal, index)
        pending = self._pend(signal.base)
        pending.cover(position)
        pending.add(position, spread(elements, shape).ravel())

    def fill(self, signal: Signal, values: ArrayLike, index: Any = None) -> None:
        """A region of a signal takes constant values."""
        position, shape = self._position(signal, index)
        values = np.asarray(values)
        if values.ndim:
            values = spread(values, shape).ravel()
        self._pend(signal.base).fill(position, values)

    def increment(
        self,
        signal: Signal,
        elements: np.ndarray,
        scale: Any = 1.0,
        index: Any = None,
    ) -> None:
        """A region of a signal grows by ``scale * elements``."""
        position, shape = self._position(signal, index)
        source = spread(elements, shape).ravel()
        if not isinstance(scale, float) and np.ndim(scale):
            scale = spread(np.asarray(scale, np.float64), shape).ravel()
        self._pend(signal.base).add(position, source, scale)

    def define(self, signal: Signal, elements: np.ndarray) -> None:
        """A signal is exactly these elements from now on (nothing to add up)."""
        self._writes_left[signal.base] -= 1
        self._put(signal, _shaped(elements, signal.shape))

    def tick(self, signal: Signal) -> None:
        """A signal is given from outside for each step, such as the time.

        Mostly nobody reads it, as functions of time alone run ahead of the steps: then
        there are no elements, and nothing has to be dropped from the graph.
        """
        unread = signal.base is signal and not self._calls_python
        if unread and signal not in self._is_state:
            self._writes_left[signal] -= 1
            self._unread.add(signal)
        else:
            self.define(signal, self.input(signal, signal.size))

    def update(self, signal: Signal, elements: np.ndarray) -> None:
        """A signal takes these values at the end of the step."""
        self._current(signal.base)
        self._updates.append((signal, _shaped(elements, signal.shape)))

    def penalize(self, op: Any, elements: np.ndarray) -> None:
        """Probe what an operator adds to the losses of training, under its name."""
        elements = np.ravel(elements)
        self._penalties.append(Reading(op, elements, elements.shape))

    # new elements ----------------------------------------------------------------

    def node(
        self,
        kernel: Kernel,
        inputs: Sequence[np.ndarray],
        sizes: Sequence[int],
        params: Mapping[str, Any],
        label: object = "",
    ) -> list[np.ndarray]:
        """Apply a kernel; the elements of each of its outputs.

        Where the outcome is known, they are constants, and there is no node.
        """
        values = []
        for elements in inputs:
            value = self.builder.known(elements)
            if value is None:
                break
            values.append(value)
        if values and len(values) == len(inputs):
            results = kernel.outcome(params, values, sizes)
            if results is not None:
                return [self.builder.constant(result) for result in results]
        node = self.builder.node if self._repeated is None else self._repeated.node
        return node(kernel, inputs, sizes, params, label=label)

    def lasting(
        self, key: Hashable, signal: Signal, make: Callable[[], np.ndarray]
    ) -> np.ndarray:
        """What an operator puts out that keeps one signal from step to step.

        Parameters
        ----------
        key : hashable
            Whatever it depends on besides the present value of ``signal``.
        signal : Signal
            What it keeps, and nobody else writes to.
        make : callable
            Lowers the operator, which updates the signal, and returns what it puts out.
            Not called where the states and outputs of an equal one can be had.
        """
        base, repeated, builder = signal.base, self._repeated, self.builder
        if repeated is None or base is not signal or self._is_peculiar(base):
            return make()
        key = (key, self.value(signal).tobytes())
        found = repeated.lasting.get(key)
        if found is None:
            before, updates = builder.counter, len(self._updates)
            out = make()
            ((_, after),) = self._updates[updates:]
            numbers = builder.counter - before
            repeated.lasting[key] = Lasting(self._states[base], after, out, numbers)
            return out
        builder.counter += found.numbers
        self._states[base] = self._environment[base] = found.state
        self._updates.append((signal, found.after))
        return found.out

    def _is_peculiar(self, base: Signal) -> bool:
        """Whether a state may be unlike others that begin alike and change alike."""
        options = self.options
        return (
            base in self._states
            or base in self._given
            or base in self._common
            or base in options.individual
            or base in options.written
            or self._writes_left[base] > 0
        )

    def affine(
        self, bias: ArrayLike, rows: np.ndarray, sources: np.ndarray, scale: np.ndarray
    ) -> np.ndarray:
        """Elements ``bias[i] + sum(scale * sources)`` over terms with ``rows == i``."""
        return self.builder.sum(bias, rows, sources, np.asarray(scale, np.float64))

    def input(self, key: Hashable, size: int) -> np.ndarray:
        """Elements that are given from outside for each step."""
        return self.builder.input(key, size)

    def host(self, op: Any, make: Callable[[], Any]) -> Any:
        """The object that runs ``op`` as Python, made on the first call for it."""
        if op not in self.options.hosts:
            self.options.hosts[op] = make()
        return self.options.hosts[op]

    def memo(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """``make()``, computed once for each key in this lowering."""
        if key not in self._memo:
            self._memo[key] = make()
        return self._memo[key]

    def source(self, op: Any, signal: Signal | None) -> None:
        """An operator without input, to be run as Python ahead of the steps."""
        if signal is None:
            self.sources.append(HostSource(op, None, 0))
            return
        key = source_key(signal)
        self.sources.append(HostSource(op, key, signal.size))
        self.define(signal, self.input(key, signal.size))

    def drawn(self, op: Any, size: int) -> np.ndarray:
        """Elements that an operator's host object gives, ahead of the steps.

        The host object (see `host`) has ``advance(t)``, which returns ``(batch, size)``
        for one step, or ``draw(times)`` for many; where Keras runs the network it is
        called like the function of a Python node, with the time as its one input.
        """
        self.sources.append(HostSource(op, op, size))
        return self.input(op, size)

    # inside ----------------------------------------------------------------------

    def _current(self, base: Signal) -> np.ndarray:
        """The environment of a base signal, flat; it is replaced, and never written."""
        found = self._environment.get(base)
        if found is not None:
            return found
        if base in self._is_state:
            elements = self._states[base] = self.builder.state(self.value(base))
        elif base in self.options.parameters and base not in self._varies:
            elements = self.builder.parameter(base, base.size)
        elif base in self._unread:
            elements = self.input(base, base.size)
        else:
            elements = self.builder.constant(self.value(base))
        if base in self._given:
            data = self._data_of(base)
            elements = np.where(data >= 0, data, elements)
        self._environment[base] = elements
        return elements

    def _data_of(self, base: Signal) -> np.ndarray:
        """For each entry of a base signal the element of its data, or -1."""
        if base not in self._data:
            self._data[base] = data = np.full(base.size, -1)
            for key in sorted(self._given[base], key=lambda key: key.elemoffset):
                data[signal_index(key).ravel()] = self.builder.input(key, key.size)
        return self._data[base]

    def _begin(self, base: Signal) -> None:
        """Elements for a base signal all of which is written, if they are needed.

        What lasts has elements of its own; for what does not, they would be constants
        that nobody reads.
        """
        if base in self._is_state or base in self._given:
            self._current(base)

    def _put(self, signal: Signal, elements: np.ndarray) -> None:
        """Elements hold a signal now; they have its shape."""
        base = signal.base
        if base is signal:
            self._begin(base)
            self._environment[base] = elements.ravel()
            return
        current = self._current(base).copy()
        current[signal_index(signal)] = elements
        self._environment[base] = current

    def _position(
        self, signal: Signal, index: Any = None
    ) -> tuple[np.ndarray | None, tuple[int, ...]]:
        """Where a region of a signal is in its base, flat, and the region's shape.

        None: it is all of the base, in its order.
        """
        if index is None and signal.base is signal:
            return None, memory_shape(signal)
        position = signal_index(signal)
        position = position if index is None else position[index]
        return position.ravel(), position.shape

    def _pend(self, base: Signal) -> Pending:
        """What is pending for a base signal, to which there is one more write now."""
        self._writes_left[base] -= 1
        pending = self._pending.get(base)
        if pending is None:
            pending = self._pending[base] = Pending(base.size)
        return pending

    def _flush(self, base: Signal, wanted: np.ndarray | None = None) -> None:
        """Freeze what is pending: all of it, or what is read if writes are to come."""
        pending = self._pending.get(base)
        if pending is None:
            return
        more = self._writes_left[base] > 0
        region = pending.region(wanted if more else None)
        if region is None or region.any():
            self._freeze(base, pending, region)
            if more:
                pending.freeze(region)
        if not more:
            del self._pending[base]

    def _freeze(self, base: Signal, pending: Pending, region: np.ndarray | None) -> None:
        """The entries of a region, or all, are what is pending for them."""
        known = self.builder.known
        source = pending.only_source()
        if source is not None and known(source) is None:
            self._begin(base)
            self._environment[base] = source
        elif region is None and pending.covers_all:
            self._begin(base)
            self._environment[base] = self._frozen(*pending.sums(None, None, known))
        else:
            current = self._current(base).copy()
            frozen = self._frozen(*pending.sums(region, current, known))
            current[... if region is None else region] = frozen
            self._environment[base] = current

    def _frozen(self, bias, rows, sources, factors) -> np.ndarray:
        """Elements for sums: new ones only where something has to be added up."""
        if not rows.size:
            return self.builder.constant(bias)
        elements = copied(bias, rows, sources, factors)
        if elements is None:
            elements = self.builder.sum(bias, rows, sources, factors)
        return elements

    def finish(self) -> Lowered:
        """Freeze everything and close the step."""
        for base in list(self._pending):
            self._flush(base)
        for signal, elements in self._updates:
            self._put(signal, elements)
        probes = []
        for probe in self.model.probes:
            signal = self.model.sig[probe]["in"]
            elements = self._current(signal.base)[signal_index(signal)]
            probes.append(Reading(probe, elements.ravel(), memory_shape(signal)))
        graph = self.builder.build(
            probes=[*probes, *self._penalties],
            states=self._state_readings(),
            next_states=self._next_states(),
        )
        check_common(graph, self._common)
        return Lowered(
            graph,
            tuple(self.sources),
            tuple(self.order),
            self.stepwise_python,
            tuple(base for base in self._states if base in self._lasting),
            self.turned,
        )

    def _state_readings(self) -> Readings:
        """All states, in the order in which they were first read."""
        bases, elements = list(self._states), self._states.values()
        among = (self._observed, self.options.written, self._common)
        flags = ([base in some for base in bases] for some in among)
        shapes = [base.shape for base in bases]
        return Readings.from_columns(bases, shapes, elements, *flags)

    def _next_states(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """All states, and what they are in the next step."""
        if not self._states:
            return []
        after = [self._environment[base] for base in self._states]
        return [(np.concatenate([*self._states.values()]), np.concatenate(after))]


def _shaped(elements: Any, shape: tuple[int, ...]) -> np.ndarray:
    """``np.reshape(elements, shape)``."""
    elements = np.asarray(elements)
    return elements if elements.shape == shape else elements.reshape(shape)


def core_order(model: Any) -> list:
    """The operators in the order in which ``nengo.Simulator`` would run them."""
    return operator_order(model.operators)


def lower(model: Any, options: LoweringOptions | None = None) -> Lowered:
    """Turn the operators of a built model into an element graph.

    Parameters
    ----------
    model : nengo.builder.Model
        Only read.
    options : LoweringOptions

    Raises
    ------
    BuildError
        If an operator has no `OperatorRule`, and cannot run as Python either.
    """
    low = Lowering(model, options or LoweringOptions())
    for op, rule in zip(low.order, low.rules, strict=True):
        if rule is None:
            raise BuildError(unknown_operator(op))
        rule.lower(op, low)
    return low.finish()
