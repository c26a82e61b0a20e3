"""Python functions: nodes, and functions on connections from nodes and Direct mode."""

import copy

import numpy as np
from nengo.builder.operator import SimPyFunc
from nengo.exceptions import SimulationError
from nengo.utils.functions import function_name
from nengo.utils.numpy import is_array_like

from nengo_dl.compiler.lowering import OperatorRule, lowers
from nengo_dl.compiler.traits import Kernel
from nengo_dl.kernels.independence import reachable


class Python(Kernel):
    """Calls Python once a step; cannot be compiled, and has no gradient.

    Parameters: ``function``, called with a list of ``(n, batch)`` arrays, returns a list
    of ``(size, batch)`` arrays; ``sizes``, the number of rows of each of them.
    """

    name = "python"
    host = True
    side_effects = True
    differentiable = False

    def step(self, xp, p, *inputs):
        """Hand the arrays over."""
        return tuple(xp.host_call(p.function, list(inputs), list(p.sizes)))


PYTHON = Python()


def step_times(time: np.ndarray, dt: float) -> list[float]:
    """The time of each column as core Nengo gives it to functions.

    Core computes it in double precision as a step number times ``dt``; here it arrives in
    the precision of the simulation, so the step number is taken from it.
    """
    return (np.rint(time[0].astype(np.float64) / dt) * dt).tolist()


def item_generators(first: np.random.RandomState, count: int) -> list:
    """A random number generator for each batch item.

    Parameters
    ----------
    first : numpy.random.RandomState
        The first item gets a copy of it, the others are seeded with numbers drawn from
        such a copy; it is left as it is.
    count : int
        Number of items.
    """
    words = copy.deepcopy(first).randint(0, 2**32, size=4, dtype=np.uint32)
    others = [np.random.RandomState([i, *words]) for i in range(1, count)]
    return [copy.deepcopy(first), *others]


def _ignoring_time(function):
    """A function of nothing as a function of time."""
    return lambda t: function()


class HostFunction:
    """What runs an operator as Python, column by column.

    Columns are batch items, perhaps of several steps, one step after the other.
    Subclasses have ``size``, the number of output rows, and `column_calls`.
    """

    size = 0

    def column_calls(self, arrays):
        """For each column in turn, call the function and yield what it returned.

        Parameters
        ----------
        arrays : list of ndarray
            The inputs, ``(n, columns)`` each.
        """
        raise NotImplementedError(
            f"{type(self).__name__}.column_calls is missing: it must call the function "
            "for each column"
        )

    def attempt(self, arrays):
        """Call for as many columns as go well.

        Returns
        -------
        out : ndarray
            ``(size, columns)``; zeros from the first column on that failed.
        done : int
            How many columns went well.
        error : Exception or None
            What the next one raised.
        """
        out = np.zeros((self.size, arrays[0].shape[1]), arrays[0].dtype)
        done = 0
        try:
            for values in self.column_calls(arrays):
                if self.size:
                    out[:, done] = values
                done += 1
        except Exception as error:
            return out, done, error
        return out, done, None

    def __call__(self, arrays):
        """All columns; raises what the function raises."""
        out, _, error = self.attempt(arrays)
        if error is not None:
            raise error
        return [out] if self.size else []


class PythonFunction(HostFunction):
    """A function of a ``SimPyFunc`` operator, with core's checks of what it returns.

    Parameters
    ----------
    op : SimPyFunc
    dt : float
        Length of a time step in seconds.
    """

    def __init__(self, op, dt: float):
        self.op = op
        self.dt = dt
        self.function = op.fn
        self.size = 0 if op.output is None else op.output.size
        self.shape = None if op.output is None else op.output.shape
        #: one step of a function of time alone (or of nothing), unchecked
        self.advance = op.fn if op.t is not None else _ignoring_time(op.fn)

    @property
    def label(self) -> str:
        """What to call it in messages."""
        return function_name(self.function)

    def checked(self, y) -> np.ndarray:
        """What the function returned, as a flat array.

        Raises
        ------
        SimulationError
            If it is None, not finite, or does not fit the output.
        """
        try:
            if y is None or not np.all(np.isfinite(y)):
                raise SimulationError(
                    f"Function {self.label!r} returned non-finite value {y!r} (for "
                    f"{self.op}); expected {self.size} finite numbers"
                )
            value = np.empty(self.shape)
            value[...] = y  # as core assigns it: leading axes of length one may go
            return value.ravel()
        except (TypeError, ValueError) as e:
            raise SimulationError(
                f"Function {self.label!r} returned a value {y!r} of invalid type "
                f"{type(y)!r} or shape {np.shape(y) if is_array_like(y) else '?'} (for "
                f"{self.op}); expected {self.size} finite numbers"
            ) from e

    def column_calls(self, arrays):
        """Call the function for each column; see `HostFunction`."""
        times = None if self.op.t is None else step_times(arrays[0], self.dt)
        for b in range(arrays[0].shape[1]):
            arguments = [] if times is None else [times[b]]
            if self.op.x is not None:
                # memory of its own, as in core: the function may keep or change it
                x = np.empty(self.op.x.shape)
                x[...] = arrays[-1][:, b].reshape(x.shape)
                arguments.append(x)
            y = self.function(*arguments)
            yield self.checked(y) if self.size else None


@lowers(SimPyFunc)
class LowerFunction(OperatorRule):
    """Sets a signal to what a Python function returns."""

    def reaches(self, op):
        """What the function can share with others; at least it is there itself."""
        tokens = reachable(op.fn)
        return None if tokens is None else tokens | {("operator", id(op))}

    def stepwise(self, op):
        """With input it has to run step by step."""
        return op.x is not None

    def lower(self, op, low):
        """Without input it may run ahead of the steps; else it is a node.

        A node that is given data takes these instead.
        """
        function = low.host(op, lambda: PythonFunction(op, low.dt))
        if op.output is not None and op.output.base in low.options.inputs:
            low.define(op.output, low.input(op.output.base, op.output.size))
            return
        if op.x is None and not low.stepwise_python:
            low.source(op, op.output)
            return
        # a function of nothing is given the time, to know when to run
        signals = op.reads or [low.model.time]
        sizes = (function.size,) if function.size else ()
        params = {"function": function, "sizes": sizes}
        inputs = [low.read(signal) for signal in signals]
        label = function.label
        if op.output is not None:  # of which node or connection it is
            label += f" of {op.output.name.rpartition('.')[0] or op.output.name}"
        outputs = low.node(PYTHON, inputs, sizes, params, label=label)
        if op.output is not None:
            low.define(op.output, outputs[0])
