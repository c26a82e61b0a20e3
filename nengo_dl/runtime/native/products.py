"""Matrix products and gathered sums: which way is taken for which shape.

The ways themselves are in `nengo_dl.runtime.native.matrices` and
`nengo_dl.runtime.native.spikes`.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np

from nengo_dl.runtime.native import blas, costs, matrices, spikes
from nengo_dl.runtime.native.axes import in_order, joined
from nengo_dl.runtime.native.events import mostly_zero
from nengo_dl.runtime.native.preparation import Gathered, is_fixed
from nengo_dl.runtime.native.writer import Writer, writes
from nengo_dl.runtime.numpy.codegen import Instruction, View
from nengo_dl.runtime.numpy.namespace import Matmul

#: what writes one product: addresses of the matrix, as it lies for that in one way or
#: more, of what it is multiplied with, and of the result
Way = Callable[..., None]


@writes(Matmul)
def multiply(writer: Writer, ins: Instruction) -> None:
    """A product of matrices, or of stacks of them."""
    a, x = ins.operands
    (out,) = ins.outputs
    if not out.nbytes:
        return
    if not a.nbytes:  # sums without terms
        writer.code.clear_bytes(writer.result(out), out.nbytes)
        return
    m, n = a.shape[-2], x.shape[-1]
    way = _way if n == 1 else _way_of_batch
    matrices, write = way(writer, a, x, m, n)
    views = (*[a] * len(matrices), x, View.all_of(out))
    places = (*matrices, writer.operand(x), writer.result(out))
    sizes = [prod(view.shape[-2:]) for view in views]  # they lie in order
    if writer.plan.lies_by_columns(a.value):
        sizes[0] = writer.plan.column_stride(a.value) * a.shape[-1]
    _stack(writer, views, sizes, out.shape[:-2], places, write)


def _stack(
    writer: Writer,
    views: tuple[View, ...],
    steps: list[int],
    lead: tuple[int, ...],
    places: tuple[str, ...],
    write: Way,
) -> None:
    """Products one after the other, for all axes but the last two.

    ``steps`` are the numbers from one matrix to the next.
    """
    code, table = writer.code, []
    for view, step in zip(views, steps, strict=True):
        sizes = view.shape[:-2]
        own = (s * step if n > 1 else 0 for s, n in zip(in_order(sizes), sizes))
        table.append((0,) * (len(lead) - len(sizes)) + tuple(own))
    axes, table = joined(lead, table)

    def nest(d: int, here: tuple[str, ...]) -> None:
        if d == len(axes):
            write(*here)
            return
        with code.loop(axes[d]) as loop:
            rows = zip(here, table, strict=True)
            nest(
                d + 1,
                tuple(code.at(p, code.times(loop.i, s[d] * code.size)) for p, s in rows),
            )

    nest(0, places)


def _way(writer: Writer, a: View, x: View, m: int, n: int) -> tuple[list[str], Way]:
    """Where the matrix lies, in order or column by column, and what multiplies."""
    code, k, fixed = writer.code, a.shape[-1], is_fixed(a)
    stride, spiking = m * code.size, mostly_zero(writer.plan, x)
    many = m >= costs.SPIKED_VECTORS * code.width
    by_columns = writer.plan.lies_by_columns(a.value)
    if by_columns:
        stride = writer.plan.column_stride(a.value) * code.size
    if by_columns or (fixed and many and spiking):
        room = writer.room(spikes.room_for_list(code, k))
        place = writer.operand(a) if by_columns else _columns(writer, a)
        return [place], lambda a, x, y: spikes.by_spikes(
            code, a, x, y, m, k, stride, room
        )
    if fixed and costs.by_columns(m, k, code.width):
        return [_columns(writer, a)], lambda a, x, y: matrices.by_columns(
            code, a, x, y, m, k, stride
        )
    here = [writer.operand(a)]
    if not fixed and spiking:
        room = writer.room(spikes.room_for_list(code, k))
        return here, lambda a, x, y: spikes.from_rows(code, a, x, y, m, k, room)
    if not fixed and k <= code.width // 2 and m >= code.width:
        return here, lambda a, x, y: matrices.by_lanes(code, a, x, y, m, k)
    return here, lambda a, x, y: matrices.by_rows(code, a, x, y, m, k)


def _way_of_batch(
    writer: Writer, a: View, x: View, m: int, n: int
) -> tuple[list[str], Way]:
    """What `_way` gives, for several items."""
    code, k, plan = writer.code, a.shape[-1], writer.plan
    large = blas.pays(m, k, n) and len(a.shape) == len(x.shape) == 2
    here = [writer.operand(a)]

    def whole(a: str, x: str, y: str) -> None:
        """All entries of the matrix."""
        if large:
            blas.multiply(writer, a, x, y, m, k, n)
        else:
            matrices.by_blocks(code, a, x, y, m, k, n)

    sizes = m, k, n
    if plan.lies_by_columns(a.value):
        room, stride = writer.room(4 * n * (k + 1)), plan.column_stride(a.value)
        return here, lambda a, x, y: spikes.by_items(
            code, a, x, y, sizes, room, stride=stride
        )
    if not is_fixed(a) and n >= code.width and mostly_zero(plan, a):
        return here, lambda a, x, y: spikes.of_spikes(code, a, x, y, sizes)
    if not is_fixed(a) and n >= code.width and mostly_zero(plan, x):
        room = writer.room(spikes.room_for_numbers(code, k, n))
        return here, lambda a, x, y: spikes.with_spikes(
            code, a, x, y, sizes, room, lambda: whole(a, x, y)
        )
    pays = is_fixed(a) and costs.by_items(m, k, code.width)
    if not (pays and mostly_zero(plan, x)):
        return here, whole
    room = writer.room(4 * n * (k + 1))

    def from_spikes(a: str, columns: str, x: str, y: str) -> None:
        """The columns of neurons that spiked, or all, where these are many."""
        spikes.by_items(code, columns, x, y, sizes, room, lambda: whole(a, x, y))

    return [*here, _columns(writer, a)], from_spikes


def _columns(writer: Writer, a: View) -> str:
    """The address of a fixed matrix, or of a stack of them, column by column."""
    array = a.array
    assert array is not None  # it is fixed

    def transposed() -> np.ndarray:
        return np.ascontiguousarray(np.swapaxes(array, -1, -2))

    return writer.table((a.value, a.offset, a.shape, "columns"), transposed)


@writes(Gathered)
def gather(writer: Writer, ins: Instruction) -> None:
    """Weighted sums of rows."""
    x, weights = ins.operands
    assert isinstance(ins.operation, Gathered)
    index, (out,) = ins.operation.index, ins.outputs
    code, (terms, n) = writer.code, index.shape
    if not out.nbytes:
        return
    k, batch = x.shape
    here, there = writer.operand(x), writer.result(out)
    given = weights.array
    assert given is not None  # they are fixed
    given = given.reshape(terms, n)
    many = batch == 1 or terms >= costs.TERMS_BY_ROW
    if many and mostly_zero(writer.plan, x):
        starts, targets, order = spikes.targets_of(index, k)
        tables = (
            writer.table((ins, "starts"), lambda: starts),
            writer.table((ins, "targets"), lambda: targets),
            writer.table((ins, "by target"), lambda: given.reshape(-1)[order]),
            writer.room(spikes.room_for_list(code, k)),
        )
        if batch > 1:
            spikes.rows_to_targets(code, here, there, (n, k, batch), *tables)
        else:
            spikes.to_targets(code, here, there, n, k, *tables)
    elif batch > 1:
        places = writer.table((ins, "rows"), lambda: _bytes(index.T, batch * code.size))
        factors = writer.table((ins, "by row"), lambda: np.ascontiguousarray(given.T))
        sizes = terms, n, batch
        spikes.gathered_rows(code, here, there, *sizes, places, factors)
    else:
        places = writer.table((ins, "lanes"), lambda: _bytes(index, code.size))
        factors = writer.operand(weights)
        spikes.gathered_lanes(code, here, there, terms, n, places, factors)


def _bytes(index: np.ndarray, row: int) -> np.ndarray:
    """Where rows begin."""
    return np.ascontiguousarray(index * row, np.uint32)
