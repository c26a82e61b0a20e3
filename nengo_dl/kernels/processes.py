"""Processes: those with a rule of their own run natively, all others as Python."""

import numpy as np
from nengo.builder.processes import SimProcess

from nengo_dl.compiler.lowering import OperatorRule, lowers
from nengo_dl.compiler.registry import Registry
from nengo_dl.kernels.functions import PYTHON, HostFunction, step_times
from nengo_dl.kernels.independence import reachable

#: nengo.Process subclass -> function (op, low) that gives the elements of the output
process_rules: Registry = Registry("process rules")


def native_rule(process):
    """The rule for a process, or None if it has none or overrides ``make_step``."""
    for cls in type(process).__mro__:
        rule = process_rules.exact(cls)
        if rule is not None:
            return rule if type(process).make_step is cls.make_step else None
    return None


class PythonProcess(HostFunction):
    """A process with a step function in Python, one for each batch item.

    Parameters
    ----------
    op : SimProcess
    dt : float
        Length of a time step in seconds.
    """

    def __init__(self, op, dt: float):
        self.op = op
        self.dt = dt
        self.size = op.output.size
        self._steps = []
        self._states = []

    @property
    def label(self) -> str:
        """What to call it in messages."""
        return str(self.op.process)

    def reset(self, rngs) -> None:
        """Start afresh, each batch item with its own random number generator."""
        shape_in = self.op.input.shape if self.op.input is not None else (0,)
        self._steps, self._states = [], []
        for rng in rngs:
            state = {k: v.initial_value.copy() for k, v in self.op.state.items()}
            self._states.append((rng, state))
            self._steps.append(
                self.op.process.make_step(
                    shape_in, self.op.output.shape, self.dt, rng, state
                )
            )

    def snapshot(self) -> list:
        """Random numbers and state as they are now, for `restore`.

        What a process keeps elsewhere than in its ``state`` is not part of it.
        """
        return [
            (rng.get_state(), {name: value.copy() for name, value in state.items()})
            for rng, state in self._states
        ]

    def restore(self, snapshot) -> None:
        """Go back to a snapshot."""
        for (rng, state), (numbers, values) in zip(self._states, snapshot):
            rng.set_state(numbers)
            for name, value in values.items():
                state[name][...] = value

    def advance(self, t: float) -> np.ndarray:
        """One step of a process without input: ``(batch, size)``."""
        return np.array([np.ravel(step(t)) for step in self._steps])

    def column_calls(self, arrays):
        """One step for each column; see `nengo_dl.kernels.functions.HostFunction`."""
        time, *x = arrays
        for b, t in enumerate(step_times(time, self.dt)):
            items = [i[:, b].astype(np.float64).reshape(self.op.input.shape) for i in x]
            yield np.ravel(self._steps[b % len(self._steps)](t, *items))


@lowers(SimProcess)
class LowerProcess(OperatorRule):
    """A node's process, or a synapse on a connection or probe."""

    def reaches(self, op):
        """Nengo's own processes keep to themselves; a user's may share objects."""
        module = type(op.process).__module__
        alone = native_rule(op.process) is not None or module.startswith("nengo.")
        if alone:
            return frozenset()
        tokens = reachable(op.process.make_step)
        return None if tokens is None else tokens | {("operator", id(op))}

    def stepwise(self, op):
        """A process in Python with input has to run step by step."""
        return op.input is not None and native_rule(op.process) is None

    def lower(self, op, low):
        """Find out what the output is, then set, increment or update the signal."""
        rule = native_rule(op.process)
        if op.mode == "set" and op.output.base in low.options.inputs:
            low.host(op, lambda: PythonProcess(op, low.dt))
            low.define(op.output, low.input(op.output.base, op.output.size))
            return
        if op.input is None and op.mode == "set" and not low.stepwise_python:
            low.host(op, lambda: PythonProcess(op, low.dt))
            low.source(op, op.output)
            return
        if op.input is not None and rule is not None:
            elements = rule(op, low)
        else:
            elements = self._python(op, low)
        write = {"set": low.define, "inc": low.increment, "update": low.update}
        write[op.mode](op.output, np.reshape(elements, op.output.shape))

    @staticmethod
    def _python(op, low):
        """A node that calls the process's own step function."""
        function = low.host(op, lambda: PythonProcess(op, low.dt))
        inputs = [low.read(signal) for signal in op.reads]  # time, then any input
        size = op.output.size
        params = {"function": function, "sizes": (size,)}
        return low.node(PYTHON, inputs, [size], params, label=function.label)[0]
