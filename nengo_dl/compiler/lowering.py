"""From operators over shared memory to elements that are defined once.

The operators are walked in core Nengo's order. For each base signal there is an
*environment*: which element holds each of its entries now. Writing to a signal does not
compute anything: ``Reset`` covers a region with a constant, ``Copy`` and the increments
add terms. The first read freezes the region into SUM elements. So a chain of resets and
increments becomes one sum, and views are index arithmetic.

What an operator *updates*, what it carries over from the step before (`OperatorRule`'s
``carries``) and signals that are incremented but not set become states.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from nengo.builder.signal import Signal
from nengo.exceptions import BuildError

from nengo_dl.compiler.graph import Graph, GraphBuilder, ParameterRef, Reading
from nengo_dl.compiler.order import operator_order
from nengo_dl.compiler.registry import operators as rules
from nengo_dl.surrogates import SpikeTraining


@dataclass(frozen=True)
class LoweringOptions:
    """What a graph is made for.

    Parameters
    ----------
    training : bool
        Neurons as they are trained: spiking ones in their rate form, or see ``spikes``.
    spikes : SpikeTraining
        What that means for spiking neurons.
    parameters : frozenset of Signal
        Base signals whose values are arguments of the program. All other constant
        signals are folded into the graph.
    inputs : frozenset of Signal
        Base signals that are given from outside for every step although the network
        has a constant for them (nodes that receive data).
    hosts : dict
        Operator -> the object that runs it as Python. Shared by all graphs of one
        simulator, so that there is one state for each operator; lowering adds to it.
    """

    training: bool = False
    spikes: SpikeTraining = SpikeTraining()
    parameters: frozenset = frozenset()
    inputs: frozenset = frozenset()
    hosts: dict = field(default_factory=dict, compare=False)


class OperatorRule:
    """How one kind of operator becomes elements; see `lowers`."""

    def covers(self, op, registered: type) -> bool:
        """Whether the rule, registered for a class of operators, is right for ``op``.

        By default operators of a subclass are lowered by the rule of their base class
        unless they have a ``make_step`` of their own, and so do something else.
        """
        own = getattr(type(op), "make_step", None)
        return own is getattr(registered, "make_step", None)

    def carries(self, op) -> Iterable[Signal]:
        """Signals whose previous value the operator uses, although it sets them."""
        return ()

    def reaches(self, op) -> frozenset | None:
        """Tokens of the objects that the operator's Python code may share with others.

        None: any object. Empty: it runs no Python, or nothing that could be shared.
        """
        return frozenset()

    def stepwise(self, op) -> bool:
        """Whether the operator runs Python that needs other signals of its step."""
        return False

    def lower(self, op, low: Lowering) -> None:
        """Describe one operator to ``low``."""
        raise NotImplementedError(
            f"{type(self).__name__}.lower is missing: it must say which elements "
            f"{type(op).__name__} reads and writes"
        )


def lowers(*operator_classes: type):
    """Class decorator: this `OperatorRule` lowers these operators.

    Operators of subclasses, too, if the rule `covers <OperatorRule.covers>` them.
    """

    def decorate(rule_class):
        for cls in operator_classes:
            rules.add(cls, rule_class())
        return rule_class

    return decorate


def rule_of(op) -> OperatorRule | None:
    """The rule for an operator: of its class, of an ancestor, or of all others.

    None if there is none at all (the kernels, which bring the rules, are not imported).
    """
    for cls in type(op).__mro__:
        rule = rules.exact(cls)
        if rule is not None and rule.covers(op, cls):
            return rule
    return rules.default


@dataclass(frozen=True)
class HostSource:
    """An operator that runs as Python, ahead of the steps.

    ``signal`` is the base signal that it sets, or None if it only has side effects. An
    operator that does not set a signal by itself, but adds to one, stands for what it
    draws; see `Lowering.drawn`. ``size`` is the number of rows that it gives.
    """

    op: object
    signal: Any
    size: int


@dataclass(frozen=True)
class Lowered:
    """A graph, and the operators that feed it, in core's order.

    ``stepwise_python``: all Python functions must run step by step.
    """

    graph: Graph
    sources: tuple[HostSource, ...]
    order: tuple[object, ...]
    stepwise_python: bool


class _Pending:
    """Writes to one base signal that nobody has read yet."""

    def __init__(self, size: int):
        self.terms: list[tuple[np.ndarray, np.ndarray, np.ndarray | float]] = []
        self.bias = np.zeros(size)
        self.covered = np.zeros(size, bool)
        self.frozen = np.zeros(size, bool)


def signal_index(signal: Signal) -> np.ndarray:
    """Positions of a signal's entries in its flattened base, in the signal's shape."""
    if not signal.is_view:
        return np.arange(signal.size).reshape(signal.shape)
    index = np.full(signal.shape, signal.elemoffset, np.int64)
    for axis, (length, stride) in enumerate(zip(signal.shape, signal.elemstrides)):
        along = [1] * len(signal.shape)
        along[axis] = length
        index += (np.arange(length) * stride).reshape(along)
    return index


class Lowering:
    """What an `OperatorRule` talks to.

    All methods take signals (views included) and give or take arrays of element
    numbers in the signal's shape.
    """

    def __init__(self, model, options: LoweringOptions):
        self.model = model
        self.options = options
        self.dt = model.dt
        self.builder = GraphBuilder()
        self.sources: list[HostSource] = []
        self.order = core_order(model)
        self._environment: dict[Signal, np.ndarray] = {}
        self._pending: dict[Signal, _Pending] = {}
        self._states: dict[Signal, np.ndarray] = {}
        self._updates: list[tuple[Signal, np.ndarray]] = []
        self._memo: dict[Hashable, Any] = {}
        self._survey()
        self.stepwise_python = self._needs_core_order()

    def _needs_core_order(self) -> bool:
        """Whether all Python has to run step by step, in core's order.

        Functions of time can run ahead of the steps; a function with input outside of
        feedback can run for many steps before or after the loop. That changes the order
        of calls, which shows if two functions share an object.
        """
        found = [(rule_of(op), op) for op in self.order]
        found = [(rule, op) for rule, op in found if rule is not None]
        stepwise = [op for rule, op in found if rule.stepwise(op)]
        if not stepwise:
            return False
        clock = {self.model.time.base, self.model.step.base}
        if any(clock.issuperset(s.base for s in op.reads) for op in stepwise):
            return True  # it may be a node that is given data in its place
        seen: set = set()
        anything = 0
        for rule, op in found:
            tokens = rule.reaches(op)
            if tokens is None:
                anything += 1
            elif tokens & seen:
                return True
            else:
                seen |= tokens
        return anything > 1 or (anything == 1 and bool(seen))

    def _survey(self) -> None:
        """Which base signals are written how, before anything is lowered."""
        self._writes_left: Counter = Counter()
        sets, incs = defaultdict(list), defaultdict(list)
        updated, carried = set(), set()
        for op in self.order:
            for signals, by_base in ((op.sets, sets), (op.incs, incs)):
                for signal in signals:
                    by_base[signal.base].append(signal)
                    self._writes_left[signal.base] += 1
            updated.update(signal.base for signal in op.updates)
            rule = rule_of(op)
            if rule is not None:
                carried.update(signal.base for signal in rule.carries(op))
        growing = {base for base in incs if not _covers(sets[base], incs[base])}
        self._is_state = updated | carried | growing
        self._varies = self._is_state | set(sets) | set(incs)

    # reading ---------------------------------------------------------------------

    def is_constant(self, signal: Signal) -> bool:
        """Whether a signal has one known value for ever."""
        base = signal.base
        return not (
            base in self._varies
            or base in self.options.parameters
            or base in self.options.inputs
        )

    def value(self, signal: Signal) -> np.ndarray:
        """The value of a constant signal (or the first value of any other)."""
        return np.asarray(signal.initial_value, np.float64)

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
        index = signal_index(signal)
        self._flush(signal.base, index.ravel())
        return self._current(signal.base)[index]

    def previous(self, signal: Signal) -> np.ndarray:
        """Elements that held a signal at the end of the step before."""
        self._current(signal.base)
        return self._states[signal.base][signal_index(signal)]

    # writing ---------------------------------------------------------------------

    def set(self, signal: Signal, elements, index=None) -> None:
        """A region of a signal takes the values of ``elements``."""
        position = self._position(signal, index)
        pending = self._cover(signal, position)
        source = np.broadcast_to(elements, position.shape).ravel()
        pending.terms.append((position.ravel(), source, 1.0))

    def fill(self, signal: Signal, values) -> None:
        """A signal takes constant values."""
        position = signal_index(signal)
        pending = self._cover(signal, position)
        pending.bias[position] = values

    def increment(self, signal: Signal, elements, scale=1.0, index=None) -> None:
        """A region of a signal grows by ``scale * elements``."""
        position = self._position(signal, index)
        self._writes_left[signal.base] -= 1
        source = np.broadcast_to(elements, position.shape).ravel()
        if np.ndim(scale):
            scale = np.broadcast_to(scale, position.shape).ravel()
        self._pend(signal.base).terms.append((position.ravel(), source, scale))

    def define(self, signal: Signal, elements) -> None:
        """A signal is exactly these elements from now on (nothing to add up)."""
        self._writes_left[signal.base] -= 1
        self._current(signal.base)[signal_index(signal)] = np.reshape(
            elements, signal.shape
        )

    def update(self, signal: Signal, elements) -> None:
        """A signal takes these values at the end of the step."""
        self._current(signal.base)
        self._updates.append((signal, np.reshape(elements, signal.shape)))

    # new elements ----------------------------------------------------------------

    def node(self, kernel, inputs, sizes, params, label="") -> list[np.ndarray]:
        """Apply a kernel; the elements of each of its outputs."""
        return self.builder.node(kernel, inputs, sizes, params, label=label)

    def affine(self, bias, rows, sources, scale) -> np.ndarray:
        """Elements ``bias[i] + sum(scale * sources)`` over terms with ``rows == i``."""
        return self.builder.sum(bias, rows, sources, np.asarray(scale, np.float64))

    def input(self, key: Hashable, size: int) -> np.ndarray:
        """Elements that are given from outside for each step."""
        return self.builder.input(key, size)

    def host(self, op, make: Callable[[], Any]) -> Any:
        """The object that runs ``op`` as Python, made on the first call for it."""
        if op not in self.options.hosts:
            self.options.hosts[op] = make()
        return self.options.hosts[op]

    def memo(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """``make()``, computed once for each key in this lowering."""
        if key not in self._memo:
            self._memo[key] = make()
        return self._memo[key]

    def source(self, op, signal: Signal | None) -> None:
        """An operator without input, to be run as Python ahead of the steps."""
        if signal is None:
            self.sources.append(HostSource(op, None, 0))
            return
        self.sources.append(HostSource(op, signal.base, signal.size))
        self.define(signal, self.input(signal.base, signal.size))

    def drawn(self, op, size: int) -> np.ndarray:
        """Elements that an operator's host object gives, ahead of the steps.

        The host object (see `host`) has ``advance(t)``, which returns ``(batch, size)``
        for one step, or ``draw(times)`` for many; where Keras runs the network it is
        called like the function of a Python node, with the time as its one input.
        """
        self.sources.append(HostSource(op, op, size))
        return self.input(op, size)

    # inside ----------------------------------------------------------------------

    def _current(self, base: Signal) -> np.ndarray:
        """The environment of a base signal, flat."""
        if base in self._environment:
            return self._environment[base]
        if base in self._is_state:
            elements = self.builder.state(self.value(base))
            self._states[base] = elements.copy()
            elements = elements.copy()
        elif base in self.options.parameters and base not in self._varies:
            elements = self.builder.parameter(base, base.size)
        elif base in self.options.inputs and base not in self._varies:
            elements = self.builder.input(base, base.size)
        else:
            elements = self.builder.constant(self.value(base))
        self._environment[base] = elements
        return elements

    def _position(self, signal: Signal, index) -> np.ndarray:
        position = signal_index(signal)
        return position if index is None else position[index]

    def _pend(self, base: Signal) -> _Pending:
        if base not in self._pending:
            self._pending[base] = _Pending(base.size)
        return self._pending[base]

    def _cover(self, signal: Signal, position: np.ndarray) -> _Pending:
        self._writes_left[signal.base] -= 1
        pending = self._pend(signal.base)
        pending.covered[position] = True
        return pending

    def _flush(self, base: Signal, wanted: np.ndarray | None = None) -> None:
        """Freeze what is pending: all of it, or what is read if writes are to come."""
        pending = self._pending.get(base)
        if pending is None:
            return
        region = ~pending.frozen
        if self._writes_left[base] > 0 and wanted is not None:
            asked = np.zeros_like(region)
            asked[wanted] = True
            region &= asked
        if not region.any():
            return
        current = self._current(base)
        positions = np.flatnonzero(region)
        rows, sources, scales = _terms_within(region, pending.terms)
        open_positions = np.flatnonzero(region & ~pending.covered)
        row_of = np.cumsum(region) - 1
        rows.append(row_of[open_positions])
        sources.append(current[open_positions])
        scales.append(np.ones(open_positions.size))
        current[positions] = self.builder.sum(
            pending.bias[positions],
            np.concatenate(rows),
            np.concatenate(sources),
            np.concatenate(scales),
        )
        pending.frozen[positions] = True

    def finish(self) -> Lowered:
        """Freeze everything and close the step."""
        for base in list(self._pending):
            self._flush(base)
        for signal, elements in self._updates:
            self._current(signal.base)[signal_index(signal)] = elements
        probes = []
        for probe in self.model.probes:
            signal = self.model.sig[probe]["in"]
            elements = self._current(signal.base)[signal_index(signal)]
            probes.append(Reading(probe, elements.ravel(), signal.shape))
        graph = self.builder.build(
            probes=probes,
            states=[
                Reading(base, elements, base.shape)
                for base, elements in self._states.items()
            ],
            following=[
                (elements, self._environment[base])
                for base, elements in self._states.items()
            ],
        )
        return Lowered(
            graph, tuple(self.sources), tuple(self.order), self.stepwise_python
        )


def _covers(sets: list[Signal], incs: list[Signal]) -> bool:
    """Whether all that is incremented was set before, in the same step."""
    base = incs[0].base
    if any(signal.size == base.size for signal in sets):
        return True
    covered = np.zeros(base.size, bool)
    for signal in sets:
        covered[signal_index(signal)] = True
    return all(covered[signal_index(signal)].all() for signal in incs)


def _terms_within(region: np.ndarray, terms):
    """The parts of pending terms that fall into a region, with rows counted in it."""
    row_of = np.where(region, np.cumsum(region) - 1, -1)
    rows, sources, scales = [], [], []
    for position, source, scale in terms:
        row = row_of[position]
        inside = row >= 0
        scale = np.broadcast_to(np.asarray(scale, np.float64), position.shape)
        if not inside.all():
            row, source, scale = row[inside], source[inside], scale[inside]
        rows.append(row)
        sources.append(source)
        scales.append(scale)
    return rows, sources, scales


def core_order(model) -> list:
    """The operators in the order in which ``nengo.Simulator`` would run them."""
    return operator_order(model.operators)


def lower(model, options: LoweringOptions | None = None) -> Lowered:
    """Turn the operators of a built model into an element graph.

    Parameters
    ----------
    model : nengo.builder.Model
        Only read.
    options : LoweringOptions

    Returns
    -------
    Lowered

    Raises
    ------
    BuildError
        If an operator has no `OperatorRule`, and cannot run as Python either.
    """
    low = Lowering(model, options or LoweringOptions())
    for op in low.order:
        rule = rule_of(op)
        if rule is None:
            raise BuildError(unknown_operator(op))
        rule.lower(op, low)
    return low.finish()


def unknown_operator(op) -> str:
    """What to tell about an operator without a rule and without a step function."""
    name = type(op).__name__
    known = ", ".join(sorted(cls.__name__ for cls, _ in rules.items()))
    return (
        f"NengoDL has no rule for the operator {name} ({op}), and cannot run it as "
        f"Python either, since {name} has no make_step(signals, dt, rng). Add that "
        f"method, or a rule: a subclass of nengo_dl.builder.OpBuilder with the decorator "
        f"@nengo_dl.builder.Builder.register({name}), anywhere that is imported before "
        f"the Simulator is made. Known operators: {known}"
    )
