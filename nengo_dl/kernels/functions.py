"""Python functions: nodes, and functions on connections from nodes and Direct mode."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
from nengo.builder.operator import SimPyFunc
from nengo.exceptions import SimulationError
from nengo.utils.functions import function_name
from nengo.utils.numpy import is_array_like

from nengo_dl.compiler.costs import FEW_COLUMNS
from nengo_dl.compiler.exact_callbacks import COUNT, from_digits, to_digits
from nengo_dl.compiler.lowering import OperatorRule, lowers
from nengo_dl.compiler.traits import Array, ArrayNamespace, Kernel, Params
from nengo_dl.kernels.at_once import alike, at_once, may_be, pays
from nengo_dl.kernels.callbacks import Callback, CapturedState, reachable
from nengo_dl.notices import label_of, warn

if TYPE_CHECKING:
    from nengo_dl.compiler.graph import Node
    from nengo_dl.compiler.lowering import Lowering


class Python(Kernel):
    """Calls Python once a step; cannot be compiled, and has no gradient.

    Parameters: ``function``, called with a list of ``(n, batch)`` arrays, returns a list
    of ``(size, batch)`` arrays; ``sizes``, the number of rows of each of them.
    """

    name = "python"
    host = True
    side_effects = True
    differentiable = False

    def in_double(self, node: Node) -> bool:
        """Functions that know how to give and to take digits."""
        return getattr(node.params["function"], "in_double", False)

    def giving_digits(
        self, params: Mapping[str, Any], rows: np.ndarray
    ) -> Mapping[str, Any]:
        """The function also returns the digits of some rows."""
        function = InDouble.of(params["function"]).giving(rows)
        return {**params, "function": function, "sizes": function.sizes}

    def taking_digits(
        self, params: Mapping[str, Any], masks: Sequence[np.ndarray]
    ) -> Mapping[str, Any]:
        """The function is given digits."""
        return {**params, "function": InDouble.of(params["function"]).taking(masks)}

    def step(self, xp: ArrayNamespace, p: Params, *inputs: Array) -> tuple[Array, ...]:
        """Hand the arrays over."""
        return tuple(xp.host_call(p.function, list(inputs), list(p.sizes)))


PYTHON = Python()

#: types of single numbers that are known to fit an output of size 1
NUMBERS = frozenset({float, np.float64, bool, np.bool_})


def step_times(time: np.ndarray, dt: float) -> list[float]:
    """The time of each column as core Nengo gives it to functions.

    Core computes it in double precision as a step number times ``dt``; here it arrives in
    the precision of the simulation, so the step number is taken from it.
    """
    times = time[0]
    if times.size < FEW_COLUMNS:
        return [round(t / dt) * dt for t in times.tolist()]
    return (np.rint(times.astype(np.float64) / dt) * dt).tolist()


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


#: functions of NumPy that give an array what they give each of its numbers, where
#: `nengo_dl.kernels.at_once.alike` finds that so
OF_ARRAYS = (np.sin, np.cos)


def _ignoring_time(function):
    """A function of nothing as a function of time."""
    return lambda t: function()


#: results of the columns that went well, how many they are, what the next one raised
Attempt: TypeAlias = tuple[np.ndarray, int, BaseException | None]

NO_ROWS = np.zeros(0, np.int64)


class HostFunction(Callback):
    """What runs an operator as Python, column by column.

    Columns are batch items, perhaps of several steps, one step after the other.
    Subclasses have ``size``, the number of output rows, and `column_calls`.
    """

    size = 0
    #: whether it can be given digits, and give them
    in_double = True
    #: why it runs step by step, in words
    why = "a function with input"
    #: what to call it in messages
    label = "a Python function"

    def column_calls(self, arrays: Sequence[np.ndarray], first: int = 0) -> Iterator[Any]:
        """For each column in turn, call the function and yield what it returned.

        Parameters
        ----------
        arrays : list of ndarray
            The inputs, ``(n, columns)`` each.
        first : int
            The column to begin with.
        """
        raise NotImplementedError(
            f"{type(self).__name__}.column_calls is missing: it must call the function "
            "for each column"
        )

    def host_object(self) -> Any:
        """What keeps the state between calls, and knows its operator as ``op``."""
        return self

    @property
    def sizes(self) -> tuple[int, ...]:
        """Rows of each output."""
        return (self.size,) if self.size else ()

    def shared(self) -> list[tuple[np.ndarray, int, int | None]]:
        """Arrays of the function that what it is called with may lie in.

        Returns
        -------
        list
            For each one: the array, which input it holds before the call, and which
            output after it. None: the function only reads it.
        """
        return []

    def attempt(
        self, arrays: Sequence[np.ndarray], dtype: Any = None, begun: Any = None
    ) -> Attempt:
        """Call for as many columns as go well.

        Parameters
        ----------
        arrays : list of ndarray
            The inputs, ``(n, columns)`` each.
        dtype : dtype, optional
            Of the result; by default that of the inputs.
        begun : (ndarray, int), optional
            ``out`` and ``done`` of an earlier attempt: it is called for the others.

        Returns
        -------
        out : ndarray
            ``(size, columns)``; zeros from the first column on that failed.
        done : int
            How many columns went well.
        error : BaseException or None
            What the next one raised; interrupts too, so that no column is lost.
        """
        out = np.zeros((self.size, arrays[0].shape[1]), dtype or arrays[0].dtype)
        done = 0
        if begun is not None:
            done = begun[1]
            out[:, :done] = begun[0][:, :done]
        try:
            for values in self.column_calls(arrays, done):
                if self.size:
                    out[:, done] = values
                done += 1
        except BaseException as error:
            return out, done, error
        return out, done, None

    def exhausted(self) -> SimulationError:
        """What to raise for a ``StopIteration``, which is for the end of loops only."""
        return SimulationError(
            f"{self.label} raised StopIteration: what it iterates over has come to its "
            f"end (for {getattr(self, 'op', self)}). Run fewer steps, or let it return a "
            "value after the end as well, as with next(iterator, 0.0)"
        )

    def values(self, arrays: Sequence[np.ndarray], dtype: Any = None) -> np.ndarray:
        """All columns of `attempt`; raises what the function raises."""
        out, _, error = self.attempt(arrays, dtype)
        if error is not None:
            raise error
        return out

    def __call__(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """All columns, as one array for each output."""
        return self.outputs(self.values(arrays))

    def outputs(self, out: Any) -> list[np.ndarray]:
        """What `attempt` or `values` returned, as one array for each output."""
        return [out] if self.size else []


class InDouble(HostFunction):
    """A function that is given or gives digits; see `nengo_dl.compiler.exact_callbacks`.

    Parameters
    ----------
    function : HostFunction
    taken : tuple of ndarray of bool, optional
        For each input of the function, which of its rows come as digits: they are the
        last array that is given. The arrays before are the inputs without those rows.
    given : ndarray of int, optional
        The rows of the output whose digits are a second output.
    """

    def __init__(
        self,
        function: HostFunction,
        taken: Sequence[np.ndarray] = (),
        given: np.ndarray = NO_ROWS,
    ):
        self.function = function
        self.size = function.size
        self.taken, self.given = taken, given
        self._given = as_slice(given)
        # of each input with digits: which it is, its size, its rows with digits and the
        # others, and where the digits' numbers are
        self._parts = []
        first = 0
        for number, mask in enumerate(taken):
            exact, others = np.flatnonzero(mask), np.flatnonzero(~mask)
            if exact.size:
                part = slice(first, first + exact.size)
                rows = as_slice(exact), as_slice(others) if others.size else None
                self._parts.append((number, mask.size, *rows, part))
                first = part.stop

    def host_object(self) -> Any:
        """The object of the function, which several graphs may call."""
        return self.function.host_object()

    @classmethod
    def of(cls, function: Any) -> InDouble:
        """The function, ready for `taking` and `giving`."""
        return function if isinstance(function, cls) else cls(function)

    def taking(self, masks: Sequence[np.ndarray]) -> InDouble:
        """A copy of this callback that is given its input as digits."""
        return InDouble(self.function, masks, self.given)

    def giving(self, rows: np.ndarray) -> InDouble:
        """A copy of this callback that gives its output as digits, too."""
        return InDouble(self.function, self.taken, rows)

    @property
    def label(self) -> str:
        """What the function is called in messages."""
        return self.function.label

    @property
    def why(self) -> str:
        """Why the function runs step by step, in words."""
        return self.function.why

    @property
    def sizes(self) -> tuple[int, ...]:
        """Rows of each output."""
        digits = COUNT * len(self.given)
        return (self.size, digits) if digits else self.function.sizes

    def attempt(
        self, arrays: Sequence[np.ndarray], dtype: Any = None, begun: Any = None
    ) -> Attempt:
        """Values as of `HostFunction`, in double precision if digits are wanted."""
        return self.function.attempt(*self._in_double(arrays, dtype), begun)

    def values(self, arrays: Sequence[np.ndarray], dtype: Any = None) -> np.ndarray:
        """Values as of `HostFunction`, in double precision if digits are wanted."""
        return self.function.values(*self._in_double(arrays, dtype))

    def _in_double(self, arrays, dtype):
        """The inputs of the function, and the type of its output."""
        dtype = dtype or arrays[0].dtype
        if self._parts:
            arrays = self._completed(arrays)
        return arrays, np.float64 if len(self.given) else dtype

    def _completed(self, arrays):
        """The inputs of the function, with the rows that came as digits."""
        *inputs, digits = arrays
        numbers = from_digits(digits)
        for number, size, rows, others, part in self._parts:
            if others is None:
                inputs.insert(number, numbers[part])
            else:
                x = np.empty((size, numbers.shape[1]))
                x[rows], x[others] = numbers[part], inputs[number]
                inputs[number] = x
        return inputs

    def outputs(self, out: Any) -> list[np.ndarray]:
        """What `attempt` returned and, if they are wanted, its digits."""
        if len(self.given):
            return [out, to_digits(out[self._given])]
        return self.function.outputs(out)


def same_memory(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two arrays, each without gaps or a column, are the same numbers."""
    first, second = one.__array_interface__, other.__array_interface__
    same = first["data"][0] == second["data"][0] and one.size == other.size
    return same and one.dtype == other.dtype


def as_slice(rows: np.ndarray) -> slice | np.ndarray:
    """Rows that follow one another as a slice, others as they are."""
    rows = np.asarray(rows)
    if rows.size and np.all(np.diff(rows) == 1):
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return rows


def warn_of_hidden_state(host: Any, names: list[str]) -> None:
    """Say that a host's functions keep state where it cannot be put back.

    Parameters
    ----------
    host : HostFunction or PythonOperator
    names : list of str
        Where it is kept.
    """
    shown = ", ".join(repr(name or "itself") for name in names[:5])
    shown += f" and {len(names) - 5} more" if len(names) > 5 else ""
    warn(
        f"{host.label} changes {shown} while it runs, which is not put back: without "
        "stateful=True every batch starts from the state at the time of the call, but "
        "what is changed there goes on from batch to batch. If its output depends on it, "
        f"{host.keep_instead}, or give stateful=True",
        once=("hidden state", host.label, *names),
    )


def others(alike: list) -> str:
    """How many functions there are beside the one that is named."""
    return f" and {len(alike) - 1} more" if len(alike) > 1 else ""


def warn_of_python(kind: type, what: str, where: str, costs: str, way_out: str) -> None:
    """Say, once for each kind, that something runs as Python.

    Parameters
    ----------
    kind : type
        What no rule is known for.
    what, where : str
        What to call it, and which of the network are meant.
    costs : str
        What that costs besides calls, if anything, after a comma.
    way_out : str
        How to make it native.
    """
    warn(
        f"NengoDL knows no native form of {what} ({where}): it runs as Python, once for "
        f"each batch item in each step{costs}, and has no gradient. To make it native, "
        f"{way_out}; docs/extending.rst has an example.",
        once=("no native form", f"{kind.__module__}.{kind.__qualname__}"),
    )


class PythonFunction(HostFunction):
    """A function of a ``SimPyFunc`` operator, with core's checks of what it returns.

    Parameters
    ----------
    op : SimPyFunc
    dt : float
        Length of a time step in seconds.
    """

    def __init__(self, op: Any, dt: float):
        self.op = op
        self.dt = dt
        self.function = op.fn
        self.size = 0 if op.output is None else op.output.size
        self.shape: Any = None if op.output is None else op.output.shape
        self._timed = op.t is not None
        self._shape_in = None if op.x is None else op.x.shape
        #: one step of a function of time alone (or of nothing), unchecked
        self.advance = op.fn if op.t is not None else _ignoring_time(op.fn)

    @property
    def label(self) -> str:
        """What the function is called in messages."""
        return function_name(self.function)

    @property
    def draws(self) -> bool:
        """Whether it is a function of NumPy that may be given many times at once."""
        known = any(self.function is function for function in OF_ARRAYS)
        return known and self._timed and self.size == 1 and alike(self.function)

    def draw(self, times: Sequence[float]) -> np.ndarray:
        """The next steps, ``(len(times), 1, 1)``; only if `draws`."""
        return self.function(np.asarray(times)).reshape(-1, 1, 1)

    @property
    def may_run_at_once(self) -> bool:
        """See `Callback`."""
        return self._timed and self.size > 0 and may_be(self.function)

    @property
    def pays_at_once(self) -> bool:
        """See `Callback`."""
        return self.may_run_at_once and pays(self.function)

    def at_once(self, times: Sequence[float]) -> np.ndarray | None:
        """See `Callback`."""
        return at_once(self.function, times, self.size)

    @property
    def why(self) -> str:
        """Why the function runs step by step, in words."""
        if self._shape_in is not None:
            return "a function with input"
        return "it shares an object with another function"

    keep_instead = "make the node of a nengo.Process that keeps it in its state"

    def captured(self) -> list[CapturedState]:
        """What the function keeps: all of it is the user's, nothing is put back."""
        return [CapturedState([self.function], None)]

    def checked(self, y: Any) -> np.ndarray:
        """What the function returned, as a flat array.

        Raises
        ------
        SimulationError
            If it is None, not finite, or does not fit the output.
        """
        if self.size == 1 and type(y) in NUMBERS and isfinite(y):  # in most cases
            return np.array([y], np.float64)
        try:
            if y is None or not np.isfinite(y).all():
                raise SimulationError(
                    f"Function {self.label!r} returned non-finite value {y!r} (for "
                    f"{label_of(self.op)}); expected {self.size} finite numbers"
                )
            value = np.empty(self.shape)
            value[...] = y  # as core assigns it: leading axes of length one may go
            return value.ravel()
        except (TypeError, ValueError) as e:
            shape = np.shape(cast(Any, y)) if is_array_like(y) else "?"
            raise SimulationError(
                f"Function {self.label!r} returned a value {y!r} of invalid type "
                f"{type(y)!r} or shape {shape} (for "
                f"{label_of(self.op)}); expected {self.size} finite numbers"
            ) from e

    def column_calls(self, arrays: Sequence[np.ndarray], first: int = 0) -> Iterator[Any]:
        """Call the function for each column; see `HostFunction`."""
        n_columns = arrays[0].shape[1]
        times = step_times(arrays[0], self.dt) if self._timed else [None] * n_columns
        for b, t in enumerate(times[first:], first):
            yield self._called(t, arrays[-1][:, b])

    def values(self, arrays: Sequence[np.ndarray], dtype: Any = None) -> np.ndarray:
        """See `HostFunction`; one column, as in most runs, without detours."""
        if arrays[0].shape[1] != 1:
            return super().values(arrays, dtype)
        t = round(arrays[0].item() / self.dt) * self.dt if self._timed else None
        out = self._called(t, arrays[-1][:, 0])
        return np.zeros((0, 1)) if out is None else out[:, None]

    def _called(self, t: float | None, x: np.ndarray) -> np.ndarray | None:
        """What the function returns, checked; None if it has no output."""
        arguments: list[Any] = [t] if self._timed else []
        if self._shape_in is not None:
            # memory of its own, as in core: the function may keep or change it
            x = np.array(x, np.float64)
            arguments.append(x if len(self._shape_in) == 1 else x.reshape(self._shape_in))
        try:
            y = self.function(*arguments)
        except StopIteration as stop:
            raise self.exhausted() from stop
        return self.checked(y) if self.size else None


@lowers(SimPyFunc)
class LowerFunction(OperatorRule):
    """Sets a signal to what a Python function returns."""

    def reaches(self, op: SimPyFunc) -> frozenset | None:
        """What the function can share with others; at least it is there itself.

        A function of NumPy is not even that: nothing that others do changes it.
        """
        if any(op.fn is function for function in OF_ARRAYS):
            return frozenset()
        tokens = reachable(op.fn)
        return None if tokens is None else tokens | {("operator", id(op))}

    def stepwise(self, op: SimPyFunc) -> bool:
        """Whether the function has input, and so has to run step by step."""
        return op.x is not None

    def lower(self, op: SimPyFunc, low: Lowering) -> None:
        """Without input it may run ahead of the steps; else it is a node.

        A node that is given data takes these instead.
        """
        function = low.host(op, lambda: PythonFunction(op, low.dt))
        data = None if op.output is None else low.data(op.output)
        if data is not None:
            low.define(op.output, data)
            return
        if op.x is None and not low.stepwise_python:
            low.source(op, op.output)
            return
        # a function of nothing is given the time, to know when to run
        signals = op.reads or [low.model.time]
        sizes = function.sizes
        params = {"function": function, "sizes": sizes}
        inputs = [low.read(signal) for signal in signals]
        label = function.label
        if op.output is not None:  # of which node or connection it is
            label += f" of {op.output.name.rpartition('.')[0] or op.output.name}"
        outputs = low.node(PYTHON, inputs, sizes, params, label=label)
        if op.output is not None:
            low.define(op.output, outputs[0])
