"""A loop of elementwise steps that is trained, as machine code: forward and backward.

XLA compiles such a loop in a fifth of a second, and runs it on one thread, with buffers
that are cleared first. Here the state of each step is written where the backward loop
reads it, and threads share the items. See `nengo_dl.runtime.native.traced` for the step.

Arrays are ``(steps, items, n)``. Items go in *portions*, which follow from the shape
alone: what is summed over items and steps is summed for each portion, and then for all of
them, so that results are the same to the bit however many threads there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nengo_dl.runtime.executor import Unsupported
from nengo_dl.runtime.native.code import Code, Index, module_text
from nengo_dl.runtime.native.compile import compile_text, host_width
from nengo_dl.runtime.native.costs import LOOP_SHARED
from nengo_dl.runtime.native.crew import PARAMETERS, Work, shared
from nengo_dl.runtime.native.elementwise import EXTREMES, UFUNCS
from nengo_dl.runtime.native.reuse import reused_array
from nengo_dl.runtime.native.traced import (
    Tracer,
    Value,
    needed,
    operands,
    pulled_back,
)

#: numbers of a step that a portion has at most, so that states stay in the first cache
PORTION = 4096

#: portions of a batch, at least: for so many threads there is something to do
PORTIONS = 4


@dataclass(frozen=True)
class Shape:
    """What a loop is made for.

    Attributes
    ----------
    given : int
        Numbers that a step is given for each item.
    carried : tuple of int
        The same for each carried array.
    columns : tuple of int
        Numbers of each weight, which all items have in common.
    items : int
    by_items : bool
        Whether what it is given lies ``(items, steps, n)``, and its gradient, too.
    """

    given: int
    carried: tuple[int, ...]
    columns: tuple[int, ...]
    items: int
    by_items: bool = False


def pieces(value: Value) -> list[tuple[int, Value]]:
    """The parts of a result, each with its first row."""
    parts = value.args if value.operation == "concat" else (value,)
    found, start = [], 0
    for part in parts:
        found.append((start, part))
        start += part.shape[0]
    return found


class TrainedLoop:
    """Machine code of a loop over steps and of its gradient.

    Parameters
    ----------
    step : callable
        ``step(xp, carry, x, weights) -> (carry, y)`` on arrays ``(n, items)``.
    shape : Shape
    trained : sequence of bool
        Of which weights there is to be a gradient.
    dtype : dtype

    Raises
    ------
    Unsupported
        If the step is anything else than elementwise.
    """

    def __init__(
        self, step: Callable, shape: Shape, trained: Sequence[bool], dtype: Any
    ) -> None:
        self.shape, self.dtype = shape, np.dtype(dtype)
        self.trained = [k for k, wanted in enumerate(trained) if wanted]
        tracer = Tracer(dtype, shape.items)
        carry = [
            tracer.leaf(("carry", k), 0, n, shape.items) for k, n in _numbered(shape)
        ]
        x = tracer.leaf("x", 0, shape.given, shape.items) if shape.given else None
        weights = [
            tracer.leaf(("weight", k), 0, n, 1) for k, n in enumerate(shape.columns)
        ]
        after, y = step(tracer, carry, x, weights)
        self._after = [pieces(tracer.constant(value)) for value in after]
        self._y = [] if y is None else pieces(tracer.constant(y))
        self.size = self._common_size()
        self.results = len(self._y) * self.size
        upstream = [
            (part, tracer.leaf(source, start, self.size, shape.items))
            for source, parts in self._destinations()
            for start, part in parts
        ]
        found = pulled_back(upstream)
        leaves = [v for v in tracer.values if v.operation == "leaf"]
        self._gradients = [(v, found[v.number]) for v in leaves if v.number in found]
        self._check_overlap()
        portion = min(PORTION // self.size, -(-shape.items // PORTIONS))
        self.portion = max(portion, 1)
        self.portions = -(-shape.items // self.portion)
        self._works = self._compiled()

    # the step ----------------------------------------------------------------------

    def _destinations(self) -> list[tuple[Any, list]]:
        """Each result, by what its gradient is read from, with its parts."""
        states = [(("d_carry", k), parts) for k, parts in enumerate(self._after)]
        return [("d_y", self._y), *states]

    def _common_size(self) -> int:
        """How many neurons there are in everything that is computed."""
        parts = [part for _, found in self._destinations() for _, part in found]
        computed = [v for v in needed(parts) if v.operation != "constant"]
        sizes = {v.shape[0] for v in computed}
        if len(sizes) != 1 or any(p.operation in ("constant", "concat") for p in parts):
            raise Unsupported("results of different neurons")
        if any(p.shape[1] == 1 for p in parts):
            raise Unsupported("results that all items have in common")
        (size,) = sizes
        if any(
            len(found) * size != n for found, n in zip(self._after, self.shape.carried)
        ):
            raise Unsupported("carried arrays of another size")
        return size

    def _check_overlap(self) -> None:
        """No two leaves may have some rows of one source in common, but not all."""
        places = [v.args for v, _ in self._gradients]
        for source, start in places:
            for other, begin in places:
                if source == other and 0 < abs(start - begin) < self.size:
                    raise Unsupported("rows that are read in different ways")

    # its code ----------------------------------------------------------------------

    def _compiled(self) -> tuple[Work, Work]:
        width = host_width(self.dtype)
        texts = []
        for name, write in (("forward", self._forward), ("backward", self._backward)):
            code = Code(self.dtype, width)
            write(code)
            texts.append(code.function(name, PARAMETERS))
        module = compile_text(module_text(texts))
        return Work(module, "forward"), Work(module, "backward")

    def _forward(self, code: Code) -> None:
        """The table: steps, x, y, states of each carried array, weights."""
        shape = self.shape
        bases = _Bases(code, shape)
        x, y = bases.take(shape.given, shape.by_items), bases.take(self.results)
        states = [bases.take(n) for n in shape.carried]
        columns = [bases.take(0) for _ in shape.columns]

        def body(t: str, item: str) -> tuple[dict, list]:
            sources = {"x": x(t, item)}
            sources |= {("carry", k): at(t, item) for k, at in enumerate(states)}
            sources |= {("weight", k): at(t, item) for k, at in enumerate(columns)}
            following = str(code.plus(t, 1))
            targets = [(y(t, item), start, part) for start, part in self._y]
            for at, parts in zip(states, self._after, strict=True):
                place = at(following, item)
                targets += [(place, start, part) for start, part in parts]
            return sources, targets

        self._loops(code, bases.n_steps, body, False)

    def _backward(self, code: Code) -> None:
        """The table: steps, x, d_y, d_x, states, weights, gradients of both."""
        shape = self.shape
        bases = _Bases(code, shape)
        x, d_y = bases.take(shape.given, shape.by_items), bases.take(self.results)
        d_x = bases.take(shape.given, shape.by_items)
        states = [bases.take(n) for n in shape.carried]
        columns = [bases.take(0) for _ in shape.columns]
        d_states = [bases.take(n) for n in shape.carried]
        sums = [bases.take_portions(n) for n in shape.columns]

        def body(t: str, item: str) -> tuple[dict, list]:
            sources = {"x": x(t, item), "d_y": d_y(t, item)}
            sources |= {("carry", k): at(t, item) for k, at in enumerate(states)}
            sources |= {("weight", k): at(t, item) for k, at in enumerate(columns)}
            # two places that take turns, so that what is read is not what is written
            turn = code.emit(f"and i64 {t}, 1")
            other = code.emit(f"xor i64 {turn}, 1")
            sources |= {("d_carry", k): at(other, item) for k, at in enumerate(d_states)}
            targets: list = []
            done = set()
            for leaf, gradient in self._gradients:
                source, start = leaf.args
                if source == "x":
                    targets.append((d_x(t, item), start, gradient))
                elif source[0] == "carry":
                    done.add((source[1], start))
                    place = d_states[source[1]](turn, item)
                    targets.append((place, start, gradient))
                elif source[0] == "weight" and source[1] in self.trained:
                    targets.append((sums[source[1]](t, item), start, gradient, True))
            for k, n in enumerate(shape.carried):
                for start in range(0, n, self.size):
                    if (k, start) not in done:
                        targets.append((d_states[k](turn, item), start, None))
            return sources, targets

        self._loops(code, bases.n_steps, body, True)

    def _loops(self, code: Code, n_steps: str, body: Callable, backwards: bool) -> None:
        """Steps, the items of a portion, and vectors of neurons."""
        first = code.emit(f"mul nsw i64 %task, {self.portion}")
        left = code.emit(f"sub nsw i64 {self.shape.items}, {first}")
        fewer = code.emit(f"icmp slt i64 {left}, {self.portion}")
        count = code.emit(f"select i1 {fewer}, i64 {left}, i64 {self.portion}")
        with code.loop(n_steps) as steps:
            t = str(steps.i)
            if backwards:
                t = code.emit(f"sub nsw i64 {n_steps}, {code.plus(t, 1)}")
            with code.loop(count) as items:
                item = str(code.plus(items.i, first))
                sources, targets = body(t, item)
                whole = self.size // code.width * code.width
                if whole:
                    with code.loop(whole, code.width) as vector:
                        self._vector(code, sources, targets, vector.i, code.width)
                if whole < self.size:
                    self._vector(code, sources, targets, whole, self.size - whole)

    def _vector(
        self, code: Code, sources: dict, targets: list, i: Index, lanes: int
    ) -> None:
        """What is computed of some neurons of one item in one step."""

        def place(base: str, start: int) -> str:
            return code.at(base, code.times(code.plus(i, start), code.size))

        names: dict[int, str] = {}
        for value in needed([t[2] for t in targets if t[2] is not None]):
            if value.operation == "leaf":
                source, start = value.args
                names[value.number] = _load(code, place(sources[source], start), lanes)
            else:
                names[value.number] = _compute(code, value, names)
        for base, start, value, *summed in targets:
            there = place(base, start)
            name = code.const(0.0) if value is None else names[value.number]
            if summed:
                name = code.op("fadd", _load(code, there, lanes), name)
            _store(code, name, there, lanes)

    # running it --------------------------------------------------------------------

    def forward(
        self, x: np.ndarray, carry: Sequence, weights: Sequence, threads: int = 1
    ) -> tuple:
        """All steps.

        Parameters
        ----------
        x : (steps, items, n) array
            ``(items, steps, n)`` if it lies so; see `Shape`.
        carry : list of (items, n) array
        weights : list of (n, 1) array
        threads : int, optional

        Returns
        -------
        y : ndarray
        states : list of (steps + 1, items, n) ndarray
            What is carried, before the first step and after each of them.
        """
        steps, shape = self._steps(x), self.shape
        y = reused_array((steps, shape.items, self.results), self.dtype)
        states = []
        for before in carry:
            states.append(reused_array((steps + 1, *before.shape), self.dtype))
            states[-1][0] = before
        arrays = [np.ascontiguousarray(x), y, *states, *map(_plain, weights)]
        self._run(self._works[0], arrays, steps, threads)
        return y, states

    def backward(
        self,
        x: np.ndarray,
        d_y: np.ndarray,
        states: Sequence,
        weights: Sequence,
        d_carry: Sequence,
        threads: int = 1,
    ) -> tuple:
        """The gradients of what the loop is given, from those of what it gives.

        Parameters
        ----------
        x, states, weights
            See `forward`.
        d_y : (steps, items, n) array
        d_carry : list of (items, n) array
            The gradients of the last state.
        threads : int, optional

        Returns
        -------
        d_x : ndarray
        d_carry : list of ndarray
            Of the first state.
        d_weights : list of (n, 1) ndarray
            Of those that are trained.
        """
        steps, shape = self._steps(x), self.shape
        d_x = reused_array(x.shape, self.dtype)
        read = sum(v.args[0] == "x" for v, _ in self._gradients) * self.size
        if read < shape.given:
            d_x[...] = 0
        turns = [reused_array((2, *d.shape), self.dtype) for d in d_carry]
        for turn, last in zip(turns, d_carry, strict=True):
            turn[steps % 2] = last
        sums = [np.zeros((self.portions, n), self.dtype) for n in shape.columns]
        given = map(np.ascontiguousarray, (x, d_y))
        arrays = [*given, d_x, *map(np.ascontiguousarray, states), *map(_plain, weights)]
        self._run(self._works[1], [*arrays, *turns, *sums], steps, threads)
        d_weights = [np.add.reduce(sums[k], 0)[:, None] for k in self.trained]
        return d_x, [turn[0] for turn in turns], d_weights

    def _steps(self, x: np.ndarray) -> int:
        return x.shape[1 if self.shape.by_items else 0]

    def _run(self, work: Work, arrays: list, steps: int, threads: int) -> None:
        numbers = [steps, *(array.ctypes.data for array in arrays)]
        threads = shared(threads, steps * self.shape.items * self.size, LOOP_SHARED)
        if steps:
            work(np.array(numbers, np.int64), self.portions, threads)


def _numbered(shape: Shape) -> list[tuple[int, int]]:
    return list(enumerate(shape.carried))


def _plain(column: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(column).reshape(-1)


class _Bases:
    """Where arrays begin, one after the other in the table."""

    def __init__(self, code: Code, shape: Shape) -> None:
        self.code, self.shape = code, shape
        self._count = 0
        self.n_steps = code.load_scalar("%table", "i64")

    def _next(self) -> str:
        self._count += 1  # behind the number of steps
        place = self.code.at("%table", 8 * self._count)
        return self.code.emit(f"load ptr, ptr {place}, align 8")

    def take(self, n: int, by_items: bool = False) -> Callable[[str, str], str]:
        """Give what says where a row of an array ``(steps, items, n)`` begins.

        With ``by_items`` it lies ``(items, steps, n)``.
        """
        base, code = self._next(), self.code

        def at(t: str, item: str) -> str:
            if by_items:
                row = code.plus(code.emit(f"mul nsw i64 {item}, {self.n_steps}"), t)
            else:
                row = code.plus(code.times(t, self.shape.items), item)
            return code.at(base, code.times(row, n * code.size))

        return at

    def take_portions(self, n: int) -> Callable[[str, str], str]:
        """Give what says where the present row of ``(portions, n)`` begins."""
        base, code = self._next(), self.code
        return lambda t, item: code.at(base, code.times("%task", n * code.size))


def _compute(code: Code, value: Value, names: dict[int, str]) -> str:
    """The vector, or the mask, that a value is."""
    operation = value.operation
    if operation == "constant":
        return code.const(value.args[0])
    args = [names[arg.number] for arg in operands(value)]
    if operation in ("with_gradient", "stop_gradient"):
        return args[0]
    if operation == "where":
        return code.select(*args)
    if operation in EXTREMES:
        known = [arg.operation == "constant" for arg in value.args]
        a, b = args[::-1] if known[0] else args
        return EXTREMES[operation](code, a, b, any(known))
    return UFUNCS[operation](code, *args)


def _load(code: Code, place: str, lanes: int) -> str:
    """A vector, or its first lanes and zeros."""
    if lanes == code.width:
        return code.load(place)
    numbers = [code.load_scalar(code.at(place, q * code.size)) for q in range(lanes)]
    return code.pack([*numbers, *[code.number(0.0)] * (code.width - lanes)])


def _store(code: Code, vector: str, place: str, lanes: int) -> None:
    """Write a vector, or its first lanes."""
    if lanes == code.width:
        code.store(vector, place)
        return
    for q in range(lanes):
        code.store_scalar(code.lane(vector, q), code.at(place, q * code.size))
