"""From a recorded step to a Python function of in-place array calls.

A recorded step is a list of instructions in single-assignment form over values. The
passes, in the order in which `generate` calls them:

1. `remove_dead`: drop what no result and no host call needs;
2. `write_back`: plan how each next carry gets into its carry buffer, at best by
   computing it right there;
3. `place_parts`: compute other values, too, right where they would be copied to;
4. `share`: let carries lie in arrays of Python functions, if that is wanted;
5. `allocate`: give each remaining value a place in a few buffers that are used again
   and again;
6. `Writer`: the source of the function, which is compiled and bound to the buffers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import chain
from math import prod
from typing import Any

import numpy as np

from nengo_dl.runtime.numpy.namespace import Concat, Copy, Operation


@dataclass(eq=False)
class Value:
    """What one instruction computes, or a program starts from.

    ``kind`` is "temp" (computed in each step, in a buffer that is allotted later) or
    the name of what has an ``array`` of its own: "carry", "input", "weight" (weights
    and what follows from them alone), "constant".
    ``home`` places a value inside another one, at an offset in bytes.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    kind: str = "temp"
    array: Any = None  # an ndarray, once there is memory
    home: tuple[Value, int] | None = None

    @property
    def nbytes(self) -> int:
        """The size of the value in bytes."""
        return prod(self.shape) * self.dtype.itemsize

    def locate(self) -> tuple[Value, int]:
        """The outermost value that this one lies in, and the offset in it."""
        value, offset = self, 0
        while value.home is not None:
            value, step = value.home
            offset += step
        return value, offset


@dataclass(frozen=True, eq=False)
class View:
    """Some elements of a value: an operand, or a result of the program.

    ``array`` is given if the value does not move, ``None`` for "temp".
    """

    value: Value
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    contiguous: bool
    array: Any = None  # an ndarray, once there is memory

    @classmethod
    def of(
        cls, value: Value, array: np.ndarray, base: np.ndarray, offset: int = 0
    ) -> View:
        """The view that ``array`` is; ``base`` shows ``value`` from ``offset`` on."""
        moves = value.kind == "temp"
        return cls(
            value,
            array.ctypes.data - base.ctypes.data + offset,
            array.shape,
            array.strides,
            array.flags.c_contiguous,
            None if moves else array,
        )

    @classmethod
    def all_of(cls, value: Value) -> View:
        """A value as a whole."""
        strides = np.cumprod((value.dtype.itemsize, *value.shape[:0:-1]))[::-1]
        strides = tuple(int(s) for s in strides[: len(value.shape)])
        return cls(value, 0, value.shape, strides, True, value.array)

    @property
    def whole(self) -> bool:
        """Whether this is each element of the value, in order."""
        return self.contiguous and self.offset == 0 and self.nbytes == self.value.nbytes

    @property
    def nbytes(self) -> int:
        """The size of the value in bytes."""
        return prod(self.shape) * self.value.dtype.itemsize

    def overlaps(self, start: int, stop: int) -> bool:
        """Whether the view may touch the bytes ``start`` to ``stop`` of the value."""
        ends = [(n - 1) * s for n, s in zip(self.shape, self.strides, strict=True)]
        low = self.offset + sum(e for e in ends if e < 0)
        high = self.offset + sum(e for e in ends if e > 0) + self.value.dtype.itemsize
        return low < stop and start < high


@dataclass(eq=False)
class Instruction:
    """An operation with its operands and the values that it computes."""

    operation: Operation
    operands: list[View]
    outputs: list[Value]


@dataclass(eq=False)
class Program:
    """A recorded step: operations, their operands, and what they start from.

    ``setup`` holds what depends on weights alone, ``instructions`` the step.
    """

    instructions: list[Instruction] = field(default_factory=list)
    setup: list[Instruction] = field(default_factory=list)
    carry: list[Value] = field(default_factory=list)
    next_carry: list[View] = field(default_factory=list)
    y: View | None = None

    def definition(self, value: Value) -> int:
        """The position of the instruction that computes ``value``; -1 if none does."""
        for i, instruction in enumerate(self.instructions):
            if value in instruction.outputs:
                return i
        return -1

    def last_read(self, value: Value) -> int:
        """The position of the last instruction that reads ``value``; -1 if none."""
        for i in reversed(range(len(self.instructions))):
            if any(view.value is value for view in self.instructions[i].operands):
                return i
        return -1


def remove_dead(program: Program) -> None:
    """Drop the instructions that neither a result nor a host call needs."""
    ends = [*program.next_carry, *([program.y] if program.y else [])]
    needed = {view.value for view in ends}

    def live(instructions: list[Instruction]) -> list[Instruction]:
        kept = []
        for ins in reversed(instructions):
            if not ins.operation.pure or not needed.isdisjoint(ins.outputs):
                needed.update(view.value for view in ins.operands)
                kept.append(ins)
        return kept[::-1]

    program.instructions = live(program.instructions)
    program.setup = live(program.setup)


def disturbed(program: Program, value: Value, buffer: Value, offset: int) -> int | None:
    """The last read that would find ``value`` in ``buffer`` instead of the carry.

    Only reads of the carry itself count, not of what was placed in its buffer. The
    instruction that computes ``value`` may read the carry if it reads each element
    before it overwrites it.

    Returns
    -------
    int or None
        The position of that read; None if ``value`` may be computed at ``offset``.
    """
    start = program.definition(value)
    for i in reversed(range(start, len(program.instructions))):
        ins = program.instructions[i]
        for k, view in enumerate(ins.operands):
            if view.value is not buffer:
                continue
            if not view.overlaps(offset, offset + value.nbytes):
                continue
            aligned = i == start and k in ins.operation.aligned and view.contiguous
            if not (aligned and (view.offset, view.shape) == (offset, value.shape)):
                return i
    return None


def write_back(program: Program) -> None:
    """Make each next carry end in its carry buffer.

    A value that is computed in the step and used as a whole is computed in the carry
    buffer if nothing reads the old carry later (else it is copied at the end). The
    rest, views of other carries above all, is copied, each as early as its carry is no
    longer needed, so that ``a, b = f(b), a`` copies first. Of a cycle
    (``a, b = b, a``), one value is set aside at the start of the step. So is ``y`` if
    it is not computed.
    """
    computed: dict[Value, tuple[Value, View]] = {}
    pending: dict[Value, View] = {}
    if program.y is not None and program.y.value.kind != "temp":
        program.y = _set_aside(program, program.y)
    for carry, view in zip(program.carry, program.next_carry, strict=True):
        value = view.value
        if carry.nbytes == 0 or (value is carry and view.whole):
            continue
        fits = value.kind == "temp" and view.whole and value.dtype == carry.dtype
        if fits and value not in computed:
            computed[value] = carry, view
        else:
            pending[carry] = view
    while pending:
        read = {view.value for view in pending.values()}
        carry = next((c for c in pending if c not in read), None)
        if carry is None:
            carry = next(iter(pending))
            pending[carry] = _set_aside(program, pending[carry])
            continue
        view = pending.pop(carry)
        ready = max(program.definition(view.value), program.last_read(carry))
        _copy_to_carry(program, carry, view, ready + 1)
    for value, (carry, view) in computed.items():
        _read_earlier(program, value, carry)
        if disturbed(program, value, carry, 0) is not None:
            _postpone(program, value, carry)
        if disturbed(program, value, carry, 0) is None:
            value.home = (carry, 0)
        else:
            _copy_to_carry(program, carry, view, len(program.instructions))


def _copy_to_carry(program: Program, carry: Value, view: View, position: int) -> None:
    out = Value(carry.shape, carry.dtype, home=(carry, 0))
    program.instructions.insert(position, Instruction(Copy(), [view], [out]))


def _set_aside(program: Program, view: View) -> View:
    """A copy of ``view`` that is made at the start of the step."""
    copy = Value(view.shape, view.value.dtype)
    program.instructions.insert(0, Instruction(Copy(), [view], [copy]))
    return View.all_of(copy)


def _read_earlier(program: Program, value: Value, carry: Value) -> None:
    """Read the old ``carry`` before the next one is computed, where possible."""
    start = program.definition(value)
    stop = program.last_read(carry)
    for i in range(start + 1, stop + 1):
        ins = program.instructions[i]
        reads = {view.value for view in ins.operands}
        placed = any(out.home for out in ins.outputs)
        ready = all(program.definition(v) < start for v in reads)
        if carry in reads and ins.operation.pure and ready and not placed:
            program.instructions.insert(start, program.instructions.pop(i))
            start += 1


def _postpone(program: Program, value: Value, carry: Value) -> None:
    """Compute the next ``carry`` after the last read of the old one, where possible."""
    start = program.definition(value)
    stop = program.last_read(carry)
    ins = program.instructions[start]
    between = program.instructions[start + 1 : stop + 1]
    reads = {view.value for view in ins.operands}
    needed = any(view.value is value for i in between for view in i.operands)
    overwritten = any(out.locate()[0] in reads for i in between for out in i.outputs)
    if ins.operation.pure and not needed and not overwritten:
        program.instructions[start : stop + 1] = [*between, ins]


def place_parts(program: Program) -> None:
    """Compute values right where they would be copied to.

    The parts of a concatenation are computed in its buffer. An operand that is copied
    to the output first, and read by nothing else, is computed in the output's buffer if
    that is fixed (else `allocate` lets the output overwrite it). From the last
    instruction to the first, because a part may be a concatenation itself.
    """
    for i in reversed(range(len(program.instructions))):
        ins = program.instructions[i]
        if not ins.outputs:
            continue
        out = ins.outputs[0]
        if isinstance(ins.operation, Concat):
            offset = 0
            for view in ins.operands:
                _place(program, view, out, offset)
                offset += view.nbytes
        elif ins.operation.copies is not None and out.home:
            view = ins.operands[ins.operation.copies]
            if _ends_in(program, i, view, out):
                _place(program, view, out, 0)


def _ends_in(program: Program, i: int, view: View, out: Value) -> bool:
    """Whether nothing but one operand of instruction ``i`` reads the value of ``view``.

    A concatenation is left alone, since its parts may be read later.
    """
    value = view.value
    reads = [v for v in program.instructions[i].operands if v.value is value]
    later = program.last_read(value) > i or (program.y and program.y.value is value)
    if later or len(reads) > 1 or view.shape != out.shape:
        return False
    start = program.definition(value)
    return start >= 0 and not isinstance(program.instructions[start].operation, Concat)


def _place(program: Program, view: View, out: Value, offset: int) -> None:
    value = view.value
    if value.kind != "temp" or value.home or not view.whole or value.dtype != out.dtype:
        return
    buffer, start = out.locate()
    if buffer.kind == "carry":
        if disturbed(program, value, buffer, start + offset) is not None:
            return
    value.home = (out, offset)


def share(program: Program) -> None:
    """Let carries lie in the arrays that Python functions look at and write to.

    A function may have arrays of its own for what it is given. Where one of its inputs
    is a carry as a whole, as it is when the function is called, the array becomes the
    buffer of this carry, and nothing is copied. What it writes there must be the next
    carry, and nobody may read the old one later (`write_back` found that out).
    """
    taken: set[Value] = set()
    for ins in program.instructions:
        for array, given, returned in getattr(ins.operation, "shared", ()):
            carry, _ = ins.operands[given].value.locate()
            fits = (array.nbytes, array.dtype) == (carry.nbytes, carry.dtype)
            if carry.kind == "carry" and carry not in taken and fits:
                if _is_carry(ins, given, returned, carry):
                    taken.add(carry)
                    carry.array = array.reshape(carry.shape)


def _is_carry(ins: Instruction, given: int, returned: int | None, carry: Value) -> bool:
    """Whether an operand of a call is a carry as a whole, and a result the next one."""
    view = ins.operands[given]
    placed = view.whole and view.nbytes == carry.nbytes
    if not placed or view.value.locate() != (carry, 0):
        return False
    return returned is None or ins.outputs[returned].locate() == (carry, 0)


def clashes(program: Program) -> bool:
    """Whether Python functions write to carries that are still needed.

    That is so if the carries were shared by another program, and this one computes them
    in another order.
    """
    for ins in program.instructions:
        for array, result, number in getattr(ins.operation, "shared", ()):
            for carry in program.carry:
                shared = np.may_share_memory(array, carry.array)
                if shared and not _is_carry(ins, result, number, carry):
                    return True
    return False


def allocate(program: Program) -> dict[Value, np.ndarray]:
    """Give each value that is not placed elsewhere a buffer of bytes.

    A buffer is free again after the last read. An elementwise instruction may overwrite
    an operand that nothing reads later.
    """
    first: dict[Value, int] = {}
    last: dict[Value, int] = {}
    for i, ins in enumerate(program.instructions):
        for value in chain(ins.outputs, (view.value for view in ins.operands)):
            root = value.locate()[0]
            if root.kind == "temp":
                first.setdefault(root, i)
                last[root] = i
    if program.y is not None:
        last[program.y.value.locate()[0]] = len(program.instructions)
    born, dying = defaultdict(list), defaultdict(list)
    for root, i in first.items():
        born[i].append(root)
        dying[last[root]].append(root)

    buffers: dict[Value, np.ndarray] = {}
    free: list[np.ndarray] = []
    for i, ins in enumerate(program.instructions):
        for root in born[i]:
            donor = _donor(ins, root, dying[i])
            if donor is not None:
                dying[i].remove(donor)
                buffers[root] = buffers[donor]
                continue
            fitting = [k for k, b in enumerate(free) if b.nbytes >= root.nbytes]
            if fitting:
                best = min(fitting, key=lambda k: free[k].nbytes)
                buffers[root] = free.pop(best)
            else:
                buffers[root] = np.empty(root.nbytes, np.uint8)
        free.extend(buffers[root] for root in dying[i])
    return buffers


def _donor(ins: Instruction, out: Value, dying: list[Value]) -> Value | None:
    """An operand that ``out`` may overwrite, all its reads being aligned."""
    if ins.outputs != [out]:
        return None
    for k in ins.operation.aligned:
        if k >= len(ins.operands) or ins.operands[k].value not in dying:
            continue
        value = ins.operands[k].value
        if value.dtype == out.dtype and all(
            j in ins.operation.aligned and view.whole and view.shape == out.shape
            for j, view in enumerate(ins.operands)
            if view.value.locate()[0] is value
        ):
            return value
    return None


class Writer:
    """Source code and what its names stand for.

    Arrays and functions become variables of an enclosing function, so a call in the
    step costs no look-up in a dictionary.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.bound: dict[str, Any] = {}
        self.names: dict[Any, str] = {}
        self.hints: dict[Any, str] = {}

    def call(self, function: Callable, *args: Any) -> None:
        """Add the statement ``function(*args)``."""
        name = self._name(id(function), getattr(function, "__name__", "f"), function)
        self.lines.append(f"{name}({', '.join(self._argument(a) for a in args)})")

    def assign(self, target: np.ndarray, source: np.ndarray) -> None:
        """Add the statement ``target[...] = source``."""
        self.lines.append(f"{self._argument(target)}[...] = {self._argument(source)}")

    def hint(self, array: np.ndarray, letter: str) -> None:
        """Let the name of ``array`` begin with ``letter``."""
        self.hints[_key(array)] = letter

    def _argument(self, x: Any) -> str:
        if x is None or isinstance(x, (int, str)):
            return repr(x)
        if isinstance(x, list):
            return self._name(id(x), "list", x)
        return self._name(_key(x), self.hints.get(_key(x), "v"), x)

    def _name(self, key: Any, prefix: str, x: Any) -> str:
        if key not in self.names:
            self.names[key] = f"{prefix.strip('<>')}_{len(self.names)}"
            self.bound[self.names[key]] = x
        return self.names[key]

    def source(self) -> str:
        """The module: a function that binds the names and returns the step."""
        lines = self.lines or ["return"]
        return "\n".join(
            [
                f"def make({', '.join(self.bound)}):",
                "    def step():",
                *(f"        {line}" for line in lines),
                "    return step",
            ]
        )

    def compile(self) -> Callable[[], None]:
        """The step itself."""
        scope: dict[str, Any] = {}
        exec(compile(self.source(), "<generated NumPy step>", "exec"), scope)
        return scope["make"](**self.bound)


def _key(array: np.ndarray) -> tuple:
    # a read-only array (broadcast, say) must not stand for one that is written to
    place = array.ctypes.data, array.shape, array.strides
    return (*place, array.dtype, array.flags.writeable)


def _write(
    instructions: Iterable[Instruction], resolve: Callable[[View], np.ndarray]
) -> Writer:
    """The statements of ``instructions``; ``resolve`` gives the arrays of views."""
    letters = {"carry": "s", "input": "x", "weight": "w", "constant": "k"}
    writer = Writer()

    def array(view: View) -> np.ndarray:
        result = resolve(view)
        if view.value.kind in letters:
            writer.hint(result, letters[view.value.kind])
        return result

    for ins in instructions:
        outs = [array(View.all_of(value)) for value in ins.outputs]
        ins.operation.emit(writer, [array(v) for v in ins.operands], *outs)
    return writer


@dataclass
class Generated:
    """What `generate` gives: the functions, their source and the output buffer.

    ``clashes``: the step must not be called with carries that another one shares.
    """

    step: Callable[[], None]
    setup: Callable[[], None]
    y: np.ndarray | None
    source: str
    n_calls: int
    clashes: bool


def generate(program: Program, sharing: bool = False) -> Generated:
    """Turn a recorded step into functions of in-place array calls.

    Parameters
    ----------
    program : Program
    sharing : bool
        Whether carries may get other buffers, see `share`.
    """
    remove_dead(program)
    write_back(program)
    place_parts(program)
    if sharing:
        share(program)
    buffers = allocate(program)

    def resolve(view: View) -> np.ndarray:
        if view.array is not None and view.value.kind != "carry":
            return view.array
        root, offset = view.value.locate()
        buffer = buffers[root] if root.kind == "temp" else root.array
        return np.ndarray(
            view.shape, view.value.dtype, buffer, offset + view.offset, view.strides
        )

    setup = _write(program.setup, resolve)
    writer = _write(program.instructions, resolve)
    y = None if program.y is None else resolve(program.y)
    step, n_calls = writer.compile(), len(writer.lines)
    source, clash = writer.source(), clashes(program)
    return Generated(step, setup.compile(), y, source, n_calls, clash)
