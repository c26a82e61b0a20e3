"""From a prepared step to units: fused loops, and everything else, in their order.

Elementwise instructions over the same elements become one loop, whatever they belong
to: what they pass on to each other stays in registers. An instruction joins the first
loop that comes after all that it reads, or that computes it element by element.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

from nengo_dl.runtime.native import column_major, costs
from nengo_dl.runtime.native.axes import (
    Axes,
    broadcast_strides,
    in_order,
    joined,
    refined,
    split,
)
from nengo_dl.runtime.native.dots import Total, axes_of_total, computed, total_of
from nengo_dl.runtime.native.events import changes_of, is_seldom, mostly_zero
from nengo_dl.runtime.native.preparation import ELEMENTWISE, copy_of, prepare
from nengo_dl.runtime.numpy.codegen import Instruction, Program, Value, View
from nengo_dl.runtime.numpy.namespace import Concat


@dataclass(eq=False)
class Unit:
    """Elementwise instructions of one loop, or one other instruction.

    Attributes
    ----------
    instructions : list of Instruction
    axes : tuple of int
        What a loop runs over.
    fused : bool
        Whether it is a loop of elementwise instructions.
    last : bool
        Whether it writes to carries at the end of the step.
    tail : tuple of int
        The innermost axes, if there are sums over them, see `Total`; else empty.
    closed : bool
        Whether only what reads its results may join, so that it can be left out.
    matrix : tuple of int
        The innermost axes if they must be rows and columns of matrices; else empty.
    """

    instructions: list[Instruction]
    axes: Axes = ()
    fused: bool = False
    last: bool = False
    tail: Axes = ()
    closed: bool = False
    matrix: Axes = ()

    @property
    def size(self) -> int:
        """How many elements a loop has."""
        return prod(self.axes)


class Plan:
    """The units of a step, and which values have a place in memory.

    Parameters
    ----------
    program : Program
        As it was recorded; it is changed.
    width : int
        Numbers in a vector.
    beside : Plan, optional
        Of another program with the same state.

    Attributes
    ----------
    by_columns : dict
        The carries that lie column by column: their numbers, and the axes of matrices.
    strides : dict
        How many numbers there are from one column of them to the next, see
        `column_major.stride`.
    units : list of Unit
        In the order in which they run.
    y : Value or None
        What the step gives.
    stored : set of Value
        The values that are in memory; the others only exist within one loop.
    spans : dict
        Value -> the first and the last unit that its memory is needed in.
    copied : int
        How many carries are written at the end of the step, because something reads the
        old one after the next one was there.
    """

    def __init__(self, program: Program, width: int, beside: Plan | None = None) -> None:
        self.program, self.width = program, width
        self.y = prepare(program, width)
        self.units: list[Unit] = []
        self.unit_of: dict[Value, int] = {}
        self.parts: dict[Value, list[Value]] = {}
        self.makers = {out: ins for ins in program.instructions for out in ins.outputs}
        self._place_matrices(beside)
        self._axes: dict[Instruction, tuple[Axes, list[Axes]]] = {}
        self._loops: dict[tuple[int, bool], list[int]] = defaultdict(list)
        self._carried = {view.value for view in program.next_carry if view.whole}
        for ins in program.instructions:
            self._place(ins)
        self.copied = self._write_carries()
        self.stored = set(self._in_memory())
        self.spans = self._spans()

    def _place_matrices(self, beside: Plan | None) -> None:
        """Find the matrices that change seldom, and how they lie."""
        matrices = column_major.changing(self)
        shared = column_major.shared(self)
        if beside is None:
            chosen = column_major.choose(self, shared | matrices)
            self.by_columns = {k: (shared | matrices)[k] for k in chosen}
            seldom = self.by_columns.keys() & matrices.keys()
            self.strides = {
                k: column_major.stride(m, self.program.carry[k].dtype, k in seldom)
                for k, (_, m, _) in self.by_columns.items()
            }
        else:
            self.by_columns, self.strides = beside.by_columns, beside.strides
        pairs = list(zip(self.program.carry, self.program.next_carry, strict=True))

        def values(found: Mapping[int, Axes]) -> dict[Value, Axes]:
            """The values of carries before and after the step."""
            both = ((pairs[k][0], pairs[k][1].value, axes) for k, axes in found.items())
            return {x: axes for old, new, axes in both for x in (old, new)}

        turned = values(self.by_columns)
        self._turned = {self.program.carry[k]: n for k, n in self.strides.items()}
        column_major.straighten(self, turned)
        for k in self.by_columns.keys() - matrices.keys():
            turned |= column_major.turn_products(self, self.by_columns[k])
        self._matrices = column_major.computed_with(self, values(matrices) | turned)

    # units

    def _place(self, ins: Instruction) -> None:
        for out in ins.outputs:
            self.makers[out] = ins
        if isinstance(ins.operation, Concat):
            self._concat(ins)
        elif isinstance(ins.operation, ELEMENTWISE):
            self._join(ins)
        elif not self._join_as_total(ins):
            self._append(Unit([ins]))

    def _append(self, unit: Unit) -> None:
        if unit.fused:
            self._loops[unit.size, unit.last].append(len(self.units))
        for ins in unit.instructions:
            for out in ins.outputs:
                self.unit_of[out] = len(self.units)
        self.units.append(unit)

    def _concat(self, ins: Instruction) -> None:
        """Parts are computed where they belong, or copied there."""
        (out,), offset = ins.outputs, 0
        self.parts[out] = []
        for view in ins.operands:
            part = view.value
            if self._movable(view, out) and part not in self._carried:
                part.home = (out, offset)
            else:
                copy = copy_of(view, (out, offset))
                self._place(copy)
                part = copy.outputs[0]
            self.parts[out].append(part)
            offset += view.nbytes
        self.unit_of[out] = max(self.unit_of[part] for part in self.parts[out])

    @staticmethod
    def _movable(view: View, target: Value) -> bool:
        """Whether a value has no place yet, and may get one in another value."""
        value = view.value
        return (
            value.kind == "temp"
            and value.home is None
            and view.whole
            and value.dtype == target.dtype
        )

    def axes(self, ins: Instruction) -> tuple[Axes, list[Axes]]:
        """The axes of an elementwise instruction, and the strides of its operands."""
        if ins not in self._axes:
            shape = ins.outputs[0].shape
            table = [broadcast_strides(view, shape) for view in ins.operands]
            axes, table = joined(shape, [*table, in_order(shape)])
            matrix = self._matrix_of(ins)
            finer = matrix and column_major.by_rows_and_columns(axes, matrix)
            if finer:
                table = [split(axes, strides, finer) for strides in table]
                axes = finer
            self._axes[ins] = axes, table[:-1]
        return self._axes[ins]

    def _matrix_of(self, ins: Instruction) -> Axes:
        """How matrices that change seldom are divided, if it reads or changes any."""
        values = [*(view.value for view in ins.operands), *ins.outputs]
        values += [out.home[0] for out in ins.outputs if out.home is not None]
        return next((self._matrices[v] for v in values if v in self._matrices), ())

    def lies_by_columns(self, value: Value) -> bool:
        """Whether a value is in matrices that lie column by column."""
        return value.locate()[0] in self._turned

    def column_stride(self, value: Value) -> int:
        """Numbers from one column to the next, if a value lies column by column."""
        return self._turned[value.locate()[0]]

    def carried_bytes(self, k: int) -> int:
        """How much room a carry needs in memory."""
        carry = self.program.carry[k]
        if k not in self.by_columns:
            return carry.nbytes
        count, _, n = self.by_columns[k]
        return count * n * self.strides[k] * carry.dtype.itemsize

    def _rows_and_columns(self, ins: Instruction) -> Axes:
        """What the innermost axes of an instruction's loop must be; empty: whatever."""
        matrix = self._matrix_of(ins)[1:]
        return matrix if self.axes(ins)[0][-2:] == matrix else ()

    def _join(self, ins: Instruction, first: int = 0, last: bool = False) -> None:
        """Put an elementwise instruction into a loop."""
        axes, _ = self.axes(ins)
        size = prod(axes)
        made = {self.unit_of.get(view.value, -1) for view in ins.operands}
        first = max([first, *made])
        if is_seldom(self, ins):
            matrix = self._rows_and_columns(ins)
            self._append(Unit([ins], axes, True, last, closed=True, matrix=matrix))
            return
        self._sink(size, last, first)
        for i in self._loops[size, last]:
            unit = self.units[i]
            if unit.closed and i not in made:
                continue
            if i < first or not all(self._readable(v, i, size) for v in ins.operands):
                continue
            if len(unit.instructions) >= costs.LONG and i not in made:
                continue
            if self._add(unit, ins, axes):
                self.unit_of[ins.outputs[0]] = i
                return
        self._append(Unit([ins], axes, True, last, matrix=self._rows_and_columns(ins)))

    def _sink(self, size: int, last: bool, first: int) -> None:
        """Let a large loop that came too early run last, if nothing has read it yet.

        Then an instruction can join it that needs the results of unit ``first``.
        """
        early = [i for i in self._loops[size, last] if not self.units[i].closed]
        if size < costs.SUNK or len(early) != 1 or early[0] >= first:
            return
        (i,) = early
        outputs = {out for ins in self.units[i].instructions for out in ins.outputs}
        held = {part for parts in self.parts.values() for part in parts}
        after = (ins for unit in self.units[i + 1 :] for ins in unit.instructions)
        read = {view.value for ins in after for view in ins.operands}
        if outputs & (held | read):
            return
        self.units.append(self.units.pop(i))
        end = len(self.units) - 1

        def moved(j: int) -> int:
            return end if j == i else j - (j > i)

        self.unit_of = {value: moved(j) for value, j in self.unit_of.items()}
        for key, loops in self._loops.items():
            self._loops[key] = sorted(map(moved, loops))

    def _add(self, unit: Unit, ins: Instruction, axes: Axes) -> bool:
        """Add an instruction to a loop, unless their axes do not go together."""
        common = refined(unit.axes, axes)
        matrix = self._rows_and_columns(ins) or unit.matrix
        if common is None or not (matrix or self._full(unit.axes, axes, common)):
            return False
        if unit.tail and common[-len(unit.tail) :] != unit.tail:
            return False
        if matrix and (unit.tail or common[-2:] != matrix):
            return False
        unit.axes, unit.matrix = common, matrix
        unit.instructions.append(ins)
        return True

    def _join_as_total(self, ins: Instruction) -> bool:
        """Let the loop that computes terms of sums compute the sums, too."""
        total = total_of(ins)
        if total is None:
            return False
        axes, table, tail = axes_of_total(total)
        for view in computed(total):
            i = self.unit_of.get(view.value)
            if i is None or not self.units[i].fused or view.value in self.parts:
                continue
            unit = self.units[i]
            if any(out in self._matrices for x in unit.instructions for out in x.outputs):
                continue  # a loop that may go column by column
            others = [x for x in total.operands if x is not view]
            if changes_of(self, view.value) and any(mostly_zero(self, x) for x in others):
                return False  # both need a few elements, but not the same
            ready = all(self.unit_of.get(x.value, -1) < i for x in others)
            # axes that split the terms would split the sums
            whole = refined(unit.axes, axes) or ()
            if not ready or whole[-len(tail) :] != tail or unit.tail not in ((), tail):
                continue
            if len(tail) == 1 and tail[0] < self.width:
                continue
            if self._add(unit, total, axes):
                unit.tail = tail
                self._axes[total] = axes, table
                self.makers[total.outputs[0]] = total
                self.unit_of[total.outputs[0]] = i
                return True
        return False

    def _readable(self, view: View, i: int, size: int) -> bool:
        """Whether loop ``i`` may read an operand."""
        ready = self.unit_of.get(view.value, -1)
        same = view.whole and prod(view.shape) == size and view.value not in self.parts
        return ready < i or (ready == i and same)

    def _full(self, mine: Axes, other: Axes, common: Axes) -> bool:
        """Whether vectors over the common axes are about as full as over both."""

        def filled(axes: Axes) -> float:
            n = axes[-1] if axes else 1
            return n / (-(-n // self.width) * self.width)

        if mine == other:
            return True
        return filled(common) >= costs.AS_FULL * max(filled(mine), filled(other))

    # carries

    def _write_carries(self) -> int:
        """Compute each next carry where the old one was, or copy it there at the end."""
        taken: set[Value] = set()
        late: list[tuple[Value, View]] = []
        reads = self._reads_of_carries()
        for carry, view in zip(self.program.carry, self.program.next_carry, strict=True):
            if not carry.nbytes or (view.value is carry and view.whole):
                continue
            value = view.value
            fits = self._movable(view, carry) and value not in taken
            if fits and not self._disturbs(value, reads[carry]):
                value.home = (carry, 0)
                taken.add(value)
            else:
                late.append((carry, view))
        start = len(self.units)
        for carry, view in late:
            copy = copy_of(view, (carry, 0))
            self.makers[copy.outputs[0]] = copy
            self._join(copy, start, last=True)
        return len(late)

    def _reads_of_carries(self) -> dict[Value, list[tuple[int, View]]]:
        """The units that read each carry, and what of it."""
        reads: dict[Value, list[tuple[int, View]]] = {c: [] for c in self.program.carry}
        for j, unit in enumerate(self.units):
            for ins in unit.instructions:
                for view in ins.operands:
                    if view.value in reads:
                        reads[view.value].append((j, view))
        return reads

    def _disturbs(self, value: Value, reads: list[tuple[int, View]]) -> bool:
        """Whether something still reads what is overwritten if a value is put there."""
        written = list(self._written(value, 0))
        return not all(self._before(j, view, *w) for j, view in reads for w in written)

    def _written(self, value: Value, offset: int) -> Iterator[tuple[int, int, Value]]:
        """By which unit each piece of a value is written: unit, offset, piece."""
        if value not in self.parts:
            yield self.unit_of[value], offset, value
            return
        for part in self.parts[value]:
            yield from self._written(part, offset)
            offset += part.nbytes

    def _before(self, j: int, view: View, i: int, offset: int, piece: Value) -> bool:
        """Whether unit ``j`` reads the old carry before unit ``i`` writes a piece."""
        if j < i or not view.overlaps(offset, offset + piece.nbytes):
            return True
        unit = self.units[i]
        same = view.contiguous and view.offset == offset
        same = same and prod(view.shape) == prod(piece.shape) == unit.size
        return j == i and unit.fused and same

    # memory

    def _in_memory(self) -> Iterator[Value]:
        """Values that something reads elsewhere, or that have their place."""
        for i, unit in enumerate(self.units):
            for ins in unit.instructions:
                for view in ins.operands:
                    if not unit.fused or self.unit_of.get(view.value, -1) != i:
                        yield view.value
                for out in ins.outputs:
                    total = isinstance(ins.operation, Total)
                    if out.home is not None or not unit.fused or total:
                        yield out

    def _spans(self) -> dict[Value, tuple[int, int]]:
        first: dict[Value, int] = {}
        last: dict[Value, int] = {}
        for i, unit in enumerate(self.units):
            for ins in unit.instructions:
                for value in (*ins.outputs, *(view.value for view in ins.operands)):
                    root = value.locate()[0]
                    if root.kind == "temp" and value in self.stored:
                        first.setdefault(root, i)
                        last[root] = i
        return {value: (first[value], last[value]) for value in first}
