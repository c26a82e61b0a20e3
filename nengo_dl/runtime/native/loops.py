"""The code of fused loops: vectors along the innermost axis, loops around them.

All operands are loaded before anything is stored, so that what is carried may be
overwritten element by element. What does not depend on the innermost axis is loaded
before the loop along it. The last, ragged vector of a row leaves alone what lies behind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial, reduce

from nengo_dl.runtime.native import costs
from nengo_dl.runtime.native.axes import Axes, in_order, joined, split
from nengo_dl.runtime.native.bounded import between
from nengo_dl.runtime.native.code import Index
from nengo_dl.runtime.native.dots import Total
from nengo_dl.runtime.native.elementwise import Operand, clamped, compute, known
from nengo_dl.runtime.native.events import causes, changes_of, left_out
from nengo_dl.runtime.native.matrices import in_tiles, in_vectors
from nengo_dl.runtime.native.recorder import Unless
from nengo_dl.runtime.native.spikes import noted, room_for_list
from nengo_dl.runtime.native.units import Unit
from nengo_dl.runtime.native.writer import Writer
from nengo_dl.runtime.numpy.codegen import Instruction, Value, View

#: one operand in memory: pointer, offset, strides along the axes of the loop, type
Key = tuple[str, int, Axes, str]


def write_loop(writer: Writer, unit: Unit) -> None:
    """Write the code of a unit of elementwise instructions."""
    loop = _Loop(writer, unit)
    if not loop.totals and len(loop.axes) > 1:
        found = causes_of(loop)
        loop = _LoopOfChanges(writer, unit, found) if found else loop
    condition = None if loop.stores else left_out(unit)
    if condition is None:
        loop.write()
        return
    code = writer.code
    for total in loop.totals:
        code.clear_bytes(writer.result(total), total.nbytes)
    flag = code.load_scalar(writer.operand(condition), "i8")
    once = code.emit(f"zext i8 {flag} to i64")
    with code.loop(once, maybe_empty=True):
        loop.write()


def _strides_of_totals(unit: Unit) -> Axes:
    """The strides of the results of sums along the axes of their loop."""
    first = len(unit.axes) - max(1, len(unit.tail))
    own = in_order((*unit.axes[:first], *unit.axes[first + 1 :]))
    return (*own[:first], 0, *own[first:])


class _Loop:
    """One loop while it is written.

    Parameters
    ----------
    writer : Writer
    unit : Unit
    """

    def __init__(self, writer: Writer, unit: Unit) -> None:
        self.writer, self.code, self.unit = writer, writer.code, unit
        self.inside = [out for ins in unit.instructions for out in ins.outputs]
        self._makers = {out: ins for ins in unit.instructions for out in ins.outputs}
        self.keys: dict[tuple[Instruction, int], Key] = {}
        loads: dict[Key, View] = {}
        for ins in unit.instructions:
            axes, table = writer.plan.axes(ins)
            for k, (view, strides) in enumerate(zip(ins.operands, table, strict=True)):
                if view.value in self.inside or known(self.code, view) is not None:
                    continue
                strides = split(axes, strides, unit.axes)
                key = self._key(view, self._in_memory(view.value, strides))
                loads.setdefault(key, view)
                self.keys[ins, k] = key
        stored = writer.plan.stored
        self.loads = loads
        sums = (ins for ins in unit.instructions if isinstance(ins.operation, Total))
        totals = [ins.outputs[0] for ins in sums]
        self.stores = [out for out in self.inside if out in stored and out not in totals]
        own = in_order(unit.axes)
        by_row = _strides_of_totals(unit)
        table = [key[2] for key in loads]
        table += [self._in_memory(out, own) for out in self.stores]
        table += [by_row for _ in totals]
        axes = unit.axes
        if any(map(writer.plan.lies_by_columns, self.stores)):
            axes = (*axes[:-2], *axes[:-3:-1])
            table = [(*row[:-2], *row[:-3:-1]) for row in table]
        axes, table = joined(axes, table)
        if not axes:
            axes, table = (1,), [(0,) for _ in table]
        self.axes: Axes = axes
        self.table: list[Axes] = table
        views = list(loads.values())
        self.items = [view.value.dtype.itemsize for view in views]
        self.items += [out.dtype.itemsize for out in (*self.stores, *totals)]
        self.totals = totals

    def _in_memory(self, value: Value, strides: Axes) -> Axes:
        """The strides of a value that lies in order or, maybe, column by column."""
        plan, (m, n) = self.writer.plan, (0, 0, *self.unit.axes)[-2:]
        if not plan.lies_by_columns(value):
            return strides
        apart = plan.column_stride(value)
        return (*(s // (m * n) * (apart * n) for s in strides[:-2]), 1, apart)

    def _key(self, view: View, strides: Axes) -> Key:
        return (*self.writer.places.of_view(view), strides, view.value.dtype.str)

    def write(self) -> None:
        """Write everything."""
        places = [self.writer.pointer(key[:2]) for key in self.loads]
        places += [self.writer.result(out) for out in (*self.stores, *self.totals)]
        self._nest(0, places)

    def _nest(self, d: int, pointers: list[str]) -> None:
        """Loops from axis ``d`` on; ``pointers`` are where operands and results begin."""
        across = len(self.unit.tail) == 2
        if across and len(self.axes) - d <= 3:
            self._rows_with_totals(d, pointers)
        elif d == len(self.axes) - 1:
            self._row(pointers)
        else:
            with self.code.loop(self.axes[d]) as loop:
                self._nest(d + 1, self._moved(pointers, d, loop.i))

    def _row(self, pointers: list[str]) -> None:
        """The innermost axis."""
        code, n, width = self.code, self.axes[-1], self.code.width
        full, rest = divmod(n, width)
        strides, fixed = [row[-1] for row in self.table], self._fixed(pointers)
        if self.totals:
            self._row_with_totals(pointers, fixed)
            return
        spread = any(s not in (0, 1) for s in strides)
        if full and rest and (full > costs.RAGGED_APART or spread):
            with code.loop(full * width, width) as loop:
                self._vectors(loop.i, pointers, fixed, None)
            self._vectors(full * width, pointers, fixed, rest)
        elif not full:
            self._vectors(0, pointers, fixed, rest)
        else:
            with code.loop(n, width) as loop:
                self._vectors(loop.i, pointers, fixed, n if rest else None)

    def _fixed(self, pointers: list[str]) -> dict[Key, str]:
        """What is the same all along the innermost axis: loaded, in all lanes."""
        return {
            key: self._repeated(view, pointers[k])
            for k, (key, view) in enumerate(self.loads.items())
            if self.table[k][-1] == 0
        }

    def _row_with_totals(self, pointers: list[str], fixed: dict[Key, str]) -> None:
        """The innermost axis, with sums over it, which begin at 0 for each row.

        Where there is little else to do, some vectors are added up side by side, so that
        none of the sums has to wait for itself.
        """
        code, n, width, many = self.code, self.axes[-1], self.code.width, len(self.totals)
        few = len(self.unit.instructions) <= costs.FEW_INSTRUCTIONS
        chains = costs.SUMS_SIDE_BY_SIDE if few else 1
        sums = [code.const(0.0)] * (many * chains)
        full = n // (chains * width) * chains * width
        if full:
            with code.loop(full, chains * width, sums) as loop:
                for k in range(0, many * chains, many):
                    i = code.plus(loop.i, k // many * width)
                    mine = loop.carried[k : k + many]
                    loop.next[k : k + many] = self._vectors(
                        i, pointers, fixed, None, mine
                    )
            sums = list(loop.results)
        for i in range(full, n, width):
            count = n - i if n - i < width else None
            sums[:many] = self._vectors(i, pointers, fixed, count, sums[:many])
        for k, place in enumerate(pointers[len(pointers) - many :]):
            first, *others = sums[k::many]
            for other in others:
                first = code.op("fadd", first, other)
            code.store_scalar(code.total(first), place)

    def _rows_with_totals(self, d: int, pointers: list[str]) -> None:
        """The last two axes, with sums over the first of them, one in each lane.

        Some steps of the axis before them, if there is one (then it is axis ``d``), are
        done side by side, so that what is the same for all of them is loaded once.
        """
        code, width = self.code, self.code.width
        least = max(1, costs.UNROLLED // len(self.unit.instructions))
        vectors = min(costs.SUMS_IN_REGISTERS, least, -(-self.axes[-1] // width))
        outer = self.axes[d] if len(self.axes) - d == 3 else 1

        def rows(first: Index, count: int) -> None:
            here = []
            for r in range(count):
                at = code.plus(first, r)
                here.append(self._moved(pointers, d, at) if outer > 1 else pointers)
            in_vectors(
                code, self.axes[-1], vectors, lambda i, many, _: self._tile(here, i, many)
            )

        in_tiles(code, outer, min(least, costs.SUMS_IN_REGISTERS) // vectors, rows)

    def _moved(self, pointers: list[str], d: int, i: Index) -> list[str]:
        """Where operands and results are, ``i`` steps along axis ``d`` on."""
        code = self.code
        rows = zip(pointers, self.table, self.items, strict=True)
        return [code.at(p, code.times(i, strides[d] * n)) for p, strides, n in rows]

    def _tile(self, rows: list[list[str]], start: Index, vectors: int) -> None:
        """Some vectors of the last axis, for all elements of the one before it.

        ``rows`` are the places of operands and results for some steps of the axis before
        these two.
        """
        code, many = self.code, len(self.totals)
        n, inner = self.axes[-2], self.axes[-1]
        rows = [self._moved(pointers, -1, start) for pointers in rows]
        # ragged vectors only come last, where the start is known
        left = inner - start if isinstance(start, int) else inner
        lanes = [left - v * code.width for v in range(vectors)]
        counts = [c if c < code.width else None for c in lanes]
        first = [self._same(pointers, -2, counts, {}) for pointers in rows]
        tile = len(rows) * vectors * many
        chains = max(1, min(costs.SUMS_SIDE_BY_SIDE // tile, n))

        def term(i: Index, sums: list[str]) -> None:
            """Add to the sums of one chain what has the index ``i``."""
            known: dict = {}
            for r, pointers in enumerate(rows):
                here = self._moved(pointers, -2, i)
                if r == 0 and len(rows) > 1:
                    known = self._same(here, -3, counts, first[0])
                for v, count in enumerate(counts):
                    k = (r * vectors + v) * many
                    fixed = known.get(v, {}) | first[r][v]
                    sums[k : k + many] = self._vectors(
                        v * code.width, here, fixed, count, sums[k : k + many]
                    )

        full = n // chains * chains
        with code.loop(full, chains, [code.const(0.0)] * (tile * chains)) as loop:
            for k in range(chains):
                mine = loop.next[k * tile : (k + 1) * tile]
                term(code.plus(loop.i, k), mine)
                loop.next[k * tile : (k + 1) * tile] = mine
        sums = list(loop.results)
        for i in range(full, n):
            mine = sums[:tile]
            term(i, mine)
            sums[:tile] = mine
        for k in range(tile):
            place, q = divmod(k, many)
            r, v = divmod(place, vectors)
            total, *others = sums[k::tile]
            for other in others:
                total = code.op("fadd", total, other)
            there = code.at(rows[r][q - many], v * code.width * code.size)
            count = counts[v]
            code.store(total, there, None if count is None else code.fixed_mask(count))

    def _same(
        self,
        pointers: list[str],
        d: int,
        counts: Sequence[int | None],
        known: Mapping[int, Mapping[Key, str]],
    ) -> dict[int, dict[Key, str]]:
        """What is the same all along axis ``d``: loaded, for each vector."""
        found: dict[int, dict[Key, str]] = {v: {} for v in range(len(counts))}
        for k, (key, view) in enumerate(self.loads.items()):
            if self.table[k][d]:
                continue
            for v, count in enumerate(counts):
                if key in known.get(v, {}):
                    continue
                lanes = self.code.width if count is None else count
                i = v * self.code.width
                found[v][key] = self._load(view, pointers[k], self.table[k][-1], i, lanes)
        return found

    def _vectors(
        self,
        i: int | str,
        pointers: Sequence[str],
        fixed: dict[Key, str],
        count: int | None,
        sums: Sequence[str] = (),
    ) -> list[str]:
        """One vector of everything, from element ``i`` on; returns the sums after it.

        ``count`` is None if all lanes are in use; else the number of those that are, or,
        within a loop, the number of elements of the row.
        """
        code = self.code
        mask = None
        if count is not None:
            mask = code.fixed_mask(count) if isinstance(i, int) else code.ragged(count, i)
        loaded = dict(fixed)
        for k, (key, view) in enumerate(self.loads.items()):
            if key not in loaded:
                lanes = code.width if count is None else min(count, code.width)
                loaded[key] = self._load(view, pointers[k], self.table[k][-1], i, lanes)
        values, factors = self._compute(loaded)
        for k, out in enumerate(self.stores, len(self.loads)):
            stride = self.table[k][-1]
            place = code.at(pointers[k], code.times(i, stride * self.items[k]))
            if stride != 1:  # then the last vector is written by itself, see `_row`
                nbytes, kind = stride * self.items[k], "i1" if out.dtype == bool else None
                code.store_spread(values[out].name, place, nbytes, count, kind)
                continue
            store = code.store_bool if out.dtype == bool else code.store
            store(values[out].name, place, mask)
        after = []
        for terms, old in zip(factors, sums, strict=True):
            first, *others = terms
            if others:
                new = code.fma(first, others[0], old)
            else:
                new = code.op("fadd", first, old)
            after.append(new if mask is None else code.select(mask, new, old))
        return after

    def _compute(
        self, loaded: dict[Key, str]
    ) -> tuple[dict[Value, Operand], list[list[str]]]:
        """What each instruction gives, and the factors of the terms of each sum."""
        code = self.code
        values: dict[Value, Operand] = {}
        factors: list[list[str]] = []
        for ins in self.unit.instructions:
            count = len(ins.operands)
            args = [self._operand(ins, k, values, loaded) for k in range(count)]
            out, sum_between = ins.outputs[0], between(self._makers, ins)
            if isinstance(ins.operation, Total):
                factors.append([x.name for x in args])
            elif sum_between is not None:
                change = self._operand(*sum_between.change, values, loaded)
                total = code.op("fadd", change.name, args[sum_between.old].name)
                total = clamped(code, total, sum_between.low, sum_between.high)
                values[out] = Operand(total, False)
            else:
                values[out] = Operand(self._value(ins, args), out.dtype == bool)
        return values, factors

    def _operand(
        self,
        ins: Instruction,
        k: int,
        values: Mapping[Value, Operand],
        loaded: Mapping[Key, str],
    ) -> Operand:
        """One operand of an instruction: computed before, known, or loaded."""
        view = ins.operands[k]
        found = values.get(view.value) or known(self.code, view)
        return found or Operand(loaded[self.keys[ins, k]], view.value.dtype == bool)

    def _value(self, ins: Instruction, args: list[Operand]) -> str:
        """What an instruction gives; what is 0 without a cause need not be chosen."""
        if isinstance(ins.operation, Unless):
            return args[1].name
        return compute(self.code, ins, args)

    def _repeated(self, view: View, place: str) -> str:
        """One element in all lanes."""
        code = self.code
        if view.value.dtype == bool:
            return code.splat_bool(place)
        return code.splat(code.load_scalar(place))

    def _load(self, view: View, place: str, stride: int, i: int | str, lanes: int) -> str:
        """Elements at equal distances, no more than there are."""
        if stride == 0:
            return self._repeated(view, place)
        code, item = self.code, view.value.dtype.itemsize
        place = code.at(place, code.times(i, stride * item))
        truth = view.value.dtype == bool
        if stride == 1:
            return code.load_bool(place) if truth else code.load(place)
        kind = "i8" if truth else code.element
        vector, x = code.vector(kind), "zeroinitializer"
        for k in range(lanes):
            one = code.load_scalar(code.at(place, k * stride * item), kind)
            x = code.emit(f"insertelement {vector} {x}, {kind} {one}, i64 {k}")
        return code.emit(f"trunc {vector} {x} to {code.vector('i1')}") if truth else x


# loops that leave out what does not change


def causes_of(loop: _Loop) -> list[int]:
    """Numbers of the operands that say where something changes, see `.events`.

    Empty if more is stored than changes of a few rows and columns.
    """
    plan, found, inside = loop.writer.plan, set(), set(loop.inside)
    numbers = {key: k for k, key in enumerate(loop.loads)}
    for out in loop.stores:
        change = changes_of(plan, out)
        if change is None or out.home != (change[0], 0):
            return []
        for condition in change[1]:
            for place in causes(plan, condition, inside):
                if place not in loop.keys:
                    return []
                found.add(numbers[loop.keys[place]])
    truths = {k for k, v in enumerate(loop.loads.values()) if v.value.dtype == bool}
    known = truths == found and all(_along_one_axis(loop.table[k][-2:]) for k in found)
    return sorted(found) if known else []


def _along_one_axis(strides: Axes) -> bool:
    """Whether there is one truth for each row, or one for each column, side by side."""
    return 0 in strides and max(strides) <= 1


class _LoopOfChanges(_Loop):
    """A loop over two axes or more whose results only change where there is a cause.

    First the rows that have one, as a whole: the product of the step before has read
    them, so that they are still in the first cache. Then the columns, each with a row in
    every lane of vectors that are not too wide; rows that have a cause, too, keep what
    they are. Where many columns have a cause, all rows are done as a whole, and nothing
    else; and so they are in the first step after something was written from outside,
    which may change by itself, like weights beyond their bounds.

    Parameters
    ----------
    writer, unit
        As of `_Loop`.
    causes : list of int
        What `causes_of` gives.
    """

    def __init__(self, writer: Writer, unit: Unit, causes: list[int]) -> None:
        super().__init__(writer, unit)
        self.of_rows = [k for k in causes if self.table[k][-1] == 0]
        self.of_columns = [k for k in causes if self.table[k][-1] != 0]

    def _nest(self, d: int, pointers: list[str]) -> None:
        """Loops from axis ``d`` on; ``pointers`` are where operands and results begin."""
        code, n = self.code, self.axes[-1]
        if d < len(self.axes) - 2:
            super()._nest(d, pointers)
            return
        code.comment("only where there is a cause")
        many, changing = self.writer.is_fresh(), None
        if self.of_columns:
            columns, count = self._noted(-1, pointers)
            limit = int(n * costs.COLUMNS_APART)
            more = code.emit(f"icmp sgt i64 {count}, {limit}")
            many = code.emit(f"or i1 {many}, {more}")
            changing = columns, code.emit(f"select i1 {many}, i64 0, i64 {count}")
        rows, count = self._noted(-2, pointers, [code.splat(many, "i1")])
        with code.loop(count, maybe_empty=True) as row:
            i = code.load_index(code.at(rows, code.times(row.i, 4)))
            self._row(self._moved(pointers, -2, i))
        if changing is not None:
            with code.narrowed(min(code.width, costs.COLUMN_LANES)):
                self._columns(pointers, *changing)

    def _masks(self, axis: int, pointers: list[str], i: Index) -> list[str]:
        """Which rows (-2) or columns (-1) from ``i`` on have a cause."""
        code, found = self.code, []
        for k in self.of_rows if axis == -2 else self.of_columns:
            place = code.at(pointers[k], code.times(i, self.table[k][axis]))
            beside = self.table[k][axis] == 1
            found.append(code.load_bool(place) if beside else code.splat_bool(place))
        return found

    def _noted(
        self, axis: int, pointers: list[str], others: Sequence[str] = ()
    ) -> tuple[str, str]:
        """Where the rows or columns that have a cause are written down; and how many.

        ``others`` are masks of more of them.
        """
        code, n = self.code, self.axes[axis]
        room = self.writer.room(room_for_list(code, n), f"axis {axis}")

        def mask_at(i: Index) -> str:
            return self._either([*self._masks(axis, pointers, i), *others])

        return room, noted(code, mask_at, n, room)

    def _either(self, masks: Sequence[str]) -> str:
        """The lanes that are set in one of the masks."""
        return reduce(partial(self.code.logic, "or"), masks)

    def _columns(self, pointers: list[str], columns: str, count: str) -> None:
        """The columns that have a cause, in all rows that have none.

        The last vector of rows begins where it ends with the last row: the ones that it
        has in common with the one before are left alone.
        """
        code, width, m = self.code, self.code.width, self.axes[-2]
        some = code.emit(f"icmp sgt i64 {count}, 0")
        tiles = code.emit(f"select i1 {some}, i64 {-(-m // width)}, i64 0")
        with code.loop(tiles, maybe_empty=True) as tile:
            first, start, keep = code.times(tile.i, width), 0, []
            if m > width:
                last = code.emit(f"icmp sgt i64 {first}, {m - width}")
                start = code.emit(f"select i1 {last}, i64 {m - width}, i64 {first}")
            if m > width and m % width:
                again = code.emit(f"sub i64 {first}, {start}")
                keep = [code.lanes_below(again)]
            here = self._moved(pointers, -2, start)
            keep += self._masks(-2, pointers, start)
            self._tile_of_columns(here, columns, count, keep)

    def _tile_of_columns(
        self, pointers: list[str], columns: str, count: str, keep: list[str]
    ) -> None:
        """Columns one after the other, with a row in each lane.

        Those in the masks ``keep`` stay what they are.
        """
        code, lanes = self.code, min(self.code.width, self.axes[-2])
        strides = [row[-2] for row in self.table]
        common: dict[Key, str] = {}
        kept = self._either(keep) if keep else None
        for k, (key, view) in enumerate(self.loads.items()):
            if view.value.dtype == bool:
                common[key] = code.mask_const(True)  # nobody asks, see `_value`
            elif self.table[k][-1] == 0:
                common[key] = self._load(view, pointers[k], strides[k], 0, lanes)
        with code.loop(count) as column:
            index = code.load_index(code.at(columns, code.times(column.i, 4)))
            here, loaded = self._moved(pointers, -1, index), dict(common)
            for k, (key, view) in enumerate(self.loads.items()):
                if key not in loaded:
                    loaded[key] = self._load(view, here[k], strides[k], 0, lanes)
            values, _ = self._compute(loaded)
            for k, out in enumerate(self.stores, len(self.loads)):
                new, place = values[out].name, self.writer.places.of(out)
                if kept is not None:  # what was there is among what was loaded
                    old = next(x for key, x in loaded.items() if key[:2] == place)
                    new = code.select(kept, old, new)
                code.store_spread(new, here[k], strides[k] * code.size, lanes)
