"""The operator of processes and synapses: natively, ahead of the steps, or as Python.

A process with a rule in `process_rules` becomes nodes of the graph. The others run the
step function that they make, as in core Nengo. Without input that happens ahead of the
steps: step by step, or for many steps at once if `draw_rules` has a rule. With input it
happens in each step, and the user is told what that costs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from nengo.base import Process
from nengo.builder.processes import SimProcess
from nengo.dists import Distribution
from nengo.exceptions import SimulationError
from nengo.params import iter_params

from nengo_dl.compiler.lowering import OperatorRule, lowers
from nengo_dl.compiler.traits import Registry
from nengo_dl.kernels.callbacks import CapturedState, reachable, reached
from nengo_dl.kernels.functions import (
    PYTHON,
    Attempt,
    HostFunction,
    others,
    step_times,
    warn_of_python,
)
from nengo_dl.notices import label_of

if TYPE_CHECKING:
    from nengo_dl.compiler.lowering import Lowering

#: nengo.Process subclass -> function (op, low) that gives the elements of the output
process_rules: Registry = Registry("process rules")

#: nengo.Process subclass -> function (PythonProcess) that gives a function of times
#: ``(k,)``, which returns what ``k`` calls of the step functions would, bit by bit, as
#: ``(k, batch, size)``; or that gives None where this cannot be vouched for
draw_rules: Registry = Registry("rules for drawing ahead")


#: mode of a process -> the method of a `nengo_dl.compiler.lowering.Lowering`
WRITES = {"set": "define", "inc": "increment", "update": "update"}


def unchanged_rule(rules: Registry, process: Any) -> Callable | None:
    """The rule for a process, or None if it has none or overrides ``make_step``."""
    for cls in type(process).__mro__:
        rule = rules.exact(cls)
        if rule is not None:
            return rule if type(process).make_step is cls.make_step else None
    return None


def native_rule(process: Any) -> Callable | None:
    """The rule that makes a process native; None if it runs as Python."""
    return unchanged_rule(process_rules, process)


def put_back(state: dict, values: dict) -> None:
    """Give a state the values that it had, its arrays in place where they still fit."""
    for name in [name for name in state if name not in values]:
        del state[name]
    for name, value in values.items():
        now = state.get(name)
        alike = isinstance(now, np.ndarray) and now.shape == np.shape(value)
        if now is not None and alike and now.dtype == value.dtype:
            now[...] = value
        else:
            state[name] = copy.deepcopy(value)


def captured(function: Any, name: str) -> Any:
    """The value of a variable that a function closes over; None if it has none such."""
    code = getattr(function, "__code__", None)
    if code is None or name not in code.co_freevars:
        return None
    return function.__closure__[code.co_freevars.index(name)].cell_contents


class PythonProcess(HostFunction):
    """A process with a step function in Python, one for each batch item.

    Parameters
    ----------
    op : SimProcess
    dt : float
        Length of a time step in seconds.

    Attributes
    ----------
    steps : list of callable
        The step function of each item.
    rngs : list of numpy.random.RandomState
        The random numbers of each item.
    states : list of dict
        The state of each item: name -> array, changed in place.
    """

    per_item = stateful = True

    def __init__(self, op: Any, dt: float):
        self.op = op
        self.dt = dt
        self.size = op.output.size
        self.shape = op.output.shape
        self._shape_in = None if op.input is None else op.input.shape
        self.steps: list = []
        self.rngs: list = []
        self.states: list[dict] = []
        self._captured: list[CapturedState] = []
        self._begun: dict = {}  # a time -> outputs of some items, and of how many
        self._draw: Callable | None = None

    @property
    def label(self) -> str:
        """What the process is called in messages."""
        return label_of(self.op.process)

    @property
    def why(self) -> str:
        """Why the process runs step by step, in words."""
        if self.op.input is not None:
            return "a process with input"
        return "it shares an object with a function"

    def reset(self, rngs: Sequence[np.random.RandomState]) -> None:
        """Start afresh, each batch item with its own random number generator."""
        process, shape = self.op.process, self.op.output.shape
        shape_in = self.op.input.shape if self.op.input is not None else (0,)
        self.rngs, self.states, self.steps, self._captured = list(rngs), [], [], []
        self._begun = {}
        users = list(_functions_of_users(process))
        before = reached([process]) if users else {}
        for rng in self.rngs:
            state = {k: v.initial_value.copy() for k, v in self.op.state.items()}
            self.states.append(state)
            self.steps.append(process.make_step(shape_in, shape, self.dt, rng, state))
            if users:
                given = [rng, state, *state.values()]
                self._captured.append(CapturedState(self.steps[-1:], before, given))
        rule = unchanged_rule(draw_rules, process) if self.op.input is None else None
        self._draw = None if rule is None else rule(self)

    def snapshot(self) -> list:
        """Random numbers and state as they are now, for `restore`.

        What a process keeps elsewhere than in its ``state`` is not part of it.
        """
        return [
            (rng.get_state(), copy.deepcopy(state))
            for rng, state in zip(self.rngs, self.states)
        ]

    def restore(self, snapshot: Any, first_item: int = 0) -> None:
        """Go back to a snapshot: the batch items from ``first_item`` on."""
        self._begun = {}
        items = islice(zip(self.rngs, self.states, snapshot), first_item, None)
        for rng, state, (numbers, values) in items:
            rng.set_state(numbers)
            put_back(state, values)

    keep_instead = "keep it in the dict that make_state returns"

    def captured(self) -> list[CapturedState]:
        """What the step functions keep beside what `snapshot` is about, by item."""
        return self._captured

    def advance(self, t: float) -> np.ndarray:
        """One step of a process without input: ``(batch, size)``."""
        out, i = self._begun.pop(t, None) or (
            np.empty((len(self.steps), *self.op.output.shape)),
            0,
        )
        try:
            while i < len(out):
                self._put(out, i, self.steps[i](t))
                i += 1
        except BaseException:  # the items before go on from there
            self._begun = {t: (out, i)}
            raise
        return out.reshape(len(out), -1)

    def _put(self, out, i: int, value) -> None:
        """Assign what a step function returned, as core does: leading axes may go."""
        try:
            out[i] = value
        except (TypeError, ValueError) as error:
            raise SimulationError(
                f"{self.label}: its step function returned {value!r}, which does not fit "
                f"the output of shape {out[i].shape} (for {label_of(self.op)})"
            ) from error

    @property
    def goes_on(self) -> bool:
        """Whether a step depends on those before, not on the time alone."""
        rule = unchanged_rule(draw_rules, self.op.process)
        return not (self.draws and getattr(rule, "of_time", False))

    @property
    def draws(self) -> bool:
        """Whether `draw` computes many steps at once, without running a user's code."""
        return self._draw is not None

    def draw(self, times: Sequence[float] | np.ndarray) -> np.ndarray:
        """The next steps, ``(len(times), batch, size)``; only if `draws`.

        Parameters
        ----------
        times : sequence of float
            In seconds; one for each step.
        """
        if self._draw is None:
            raise TypeError(f"{self.label} is not drawn ahead of the steps")
        values = self._draw(np.asarray(times, np.float64))
        return np.asarray(values).reshape(len(times), len(self.steps), self.size)

    def column_calls(self, arrays: Sequence[np.ndarray], first: int = 0) -> Iterator[Any]:
        """One step for each column; see `nengo_dl.kernels.functions.HostFunction`."""
        time, *x = arrays
        out = np.empty((1, *self.shape))
        for b, t in enumerate(step_times(time, self.dt)[first:], first):
            # memory of its own, as in core: the function may keep or change it
            items = [i[:, b].astype(np.float64).reshape(self._shape_in) for i in x]
            try:
                value = self.steps[b % len(self.steps)](t, *items)
            except StopIteration as stop:
                raise self.exhausted() from stop
            self._put(out, 0, value)
            yield out.ravel()

    def values(self, arrays: Sequence[np.ndarray], dtype: Any = None) -> np.ndarray:
        """Steps as of `HostFunction`; a single one, as in most runs, without detours."""
        if arrays[0].shape[1] != 1 or self.draws:
            return super().values(arrays, dtype)
        (out,) = self.column_calls(arrays)
        return out[:, None]

    def attempt(
        self, arrays: Sequence[np.ndarray], dtype: Any = None, begun: Any = None
    ) -> Attempt:
        """Some steps; see `nengo_dl.kernels.functions.HostFunction`."""
        if not self.draws:
            return super().attempt(arrays, dtype, begun)
        times = step_times(arrays[0], self.dt)
        values = self.draw(times[:: len(self.steps)]).reshape(len(times), self.size)
        return values.T.astype(dtype or arrays[0].dtype), len(times), None


def _functions_of_users(process):
    """What a process calls that is not Nengo's own."""
    if not type(process).__module__.startswith("nengo."):
        yield process.make_step
        return
    parts = [getattr(process, name) for name in iter_params(process)]
    for part in parts:
        if isinstance(part, dict):  # the pieces of `nengo.processes.Piecewise`
            yield from (value for value in part.values() if callable(value))
        elif type(part).__module__.startswith("nengo."):
            continue
        elif isinstance(part, Distribution):
            yield part.sample
        elif isinstance(part, Process):
            yield part.make_step


def _warn_of_cost(op, low) -> None:
    """Say, once for each class, that processes run as Python, and what to do about it."""
    kind = type(op.process)
    alike = [
        other
        for other in low.order
        if isinstance(other, SimProcess)
        and type(other.process) is kind
        and other.input is not None
    ]
    place = label_of(op.input.name.rpartition(".")[0] or op.input.name, 60)
    warn_of_python(
        kind,
        kind.__name__,
        f"behind {place}" + others(alike),
        "",
        f"register a rule with @process_rules.register({kind.__name__}) of "
        "nengo_dl.kernels.processes.base",
    )


@lowers(SimProcess)
class LowerProcess(OperatorRule):
    """A node's process, noise, or a synapse on a connection or probe."""

    def reaches(self, op: SimProcess) -> frozenset | None:
        """Nengo's own processes keep to themselves; a user's may share objects."""
        if native_rule(op.process) is not None:
            return frozenset()
        tokens = {("operator", id(op))}
        functions = list(_functions_of_users(op.process))
        for function in functions:
            found = reachable(function)
            if found is None:
                return None
            tokens |= found
        return frozenset(tokens if functions else ())

    def stepwise(self, op: SimProcess) -> bool:
        """A process in Python with input has to run step by step."""
        return op.input is not None and native_rule(op.process) is None

    def lower(self, op: SimProcess, low: Lowering) -> None:
        """Find out what the output is, then set, increment or update the signal."""
        data = low.data(op.output) if op.mode == "set" else None
        if data is not None:
            low.host(op, lambda: PythonProcess(op, low.dt))
            low.define(op.output, data)
            return
        ahead = op.input is None and not low.stepwise_python
        if ahead and op.mode == "set":
            low.host(op, lambda: PythonProcess(op, low.dt))
            low.source(op, op.output)
            return
        native = None if op.input is None else native_rule(op.process)
        if native is not None:
            elements = native(op, low)
        elif ahead:
            low.host(op, lambda: PythonProcess(op, low.dt))
            elements = low.drawn(op, op.output.size)
        else:
            elements = self._python(op, low)
        output = op.output
        write = getattr(low, WRITES[op.mode])
        write(output, np.asarray(elements).reshape(output.shape))

    @staticmethod
    def _python(op, low):
        """A node that calls the process's own step function."""

        def make():
            if op.input is not None:
                _warn_of_cost(op, low)
            return PythonProcess(op, low.dt)

        function = low.host(op, make)
        inputs = [low.read(signal) for signal in op.reads]  # time, then any input
        size = op.output.size
        params = {"function": function, "sizes": (size,)}
        return low.node(PYTHON, inputs, [size], params, label=function.label)[0]
