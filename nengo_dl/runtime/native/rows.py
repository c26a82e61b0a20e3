"""The code of what is neither elementwise nor a product: rows, sums, and Python."""

from __future__ import annotations

from math import prod

import numpy as np

from nengo_dl.runtime.native.axes import in_order, joined
from nengo_dl.runtime.native.writer import Writer, writes
from nengo_dl.runtime.numpy.codegen import Instruction
from nengo_dl.runtime.numpy.namespace import Embed, HostCall, Sum, Take

#: single numbers that are moved in one round of a loop: with 8 a step of ``web100`` takes
#: as long or 2 % longer, and LLVM 1.4 ms more; with 2 it takes 2 % longer
MOVED = 4

#: vectors of a sum that are added up side by side
SIDE_BY_SIDE = 4

#: what the Python side returns if all went well; nothing else is 1 by accident
WENT_WELL = 1


@writes(Take)
def take(writer: Writer, ins: Instruction) -> None:
    """Copy rows, by a table of where they begin."""
    (view,), (out,) = ins.operands, ins.outputs
    assert isinstance(ins.operation, Take)
    code, index = writer.code, ins.operation.index
    row = prod(view.shape[1:]) * out.dtype.itemsize
    begin = np.ascontiguousarray(index.ravel() * row, np.uint32)
    table = writer.table(ins, lambda: begin)
    source, target = writer.operand(view), writer.result(out)

    def move(i: int | str, count: int) -> None:
        entries = code.at(table, code.times(i, 4))
        places = code.at(target, code.times(i, row))
        for k in range(count):
            here = code.at(source, code.load_index(code.at(entries, 4 * k)))
            there = code.at(places, k * row)
            if row == code.size:
                code.store_scalar(code.load_scalar(here), there)
            else:
                code.copy_bytes(there, here, row)

    many = MOVED if row == code.size else 1
    full = index.size // many * many
    if full:
        with code.loop(full, many) as loop:
            move(loop.i, many)
    if full < index.size:
        move(full, index.size - full)


@writes(Embed)
def embed(writer: Writer, ins: Instruction) -> None:
    """Zeros everywhere, then the operand in its place."""
    (view,), (out,) = ins.operands, ins.outputs
    code, item = writer.code, out.dtype.itemsize
    assert isinstance(ins.operation, Embed)
    numbers = np.arange(prod(out.shape)).reshape(out.shape)[ins.operation.place]
    theirs = tuple(s // numbers.itemsize for s in numbers.strides)
    axes, (source, target) = joined(numbers.shape, [in_order(numbers.shape), theirs])
    if not axes or target[-1] != 1:
        axes, source, target = (*axes, 1), (*source, 1), (*target, 1)
    place = writer.result(out)
    code.clear_bytes(place, out.nbytes)

    def nest(d: int, here: str, there: str) -> None:
        if d == len(axes) - 1:
            code.copy_bytes(there, here, axes[-1] * item)
            return
        with code.loop(axes[d]) as loop:
            one = code.at(here, code.times(loop.i, source[d] * item))
            nest(d + 1, one, code.at(there, code.times(loop.i, target[d] * item)))

    nest(0, writer.operand(view), code.at(place, int(numbers.flat[0]) * item))


@writes(Sum)
def add_up(writer: Writer, ins: Instruction) -> None:
    """Sums over one axis: along vectors if it is the last one, else across them."""
    (view,), (out,) = ins.operands, ins.outputs
    assert isinstance(ins.operation, Sum)
    code, axis, shape = writer.code, ins.operation.axis, view.shape
    outer, n, inner = prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :])
    source, target = writer.operand(view), writer.result(out)
    with code.loop(outer) as loop:
        here = code.at(source, code.times(loop.i, n * inner * code.size))
        there = code.at(target, code.times(loop.i, inner * code.size))
        if inner == 1:
            code.store_scalar(_total(writer, here, n), there)
        else:
            _columns(writer, here, there, n, inner)


def _total(writer: Writer, place: str, n: int) -> str:
    """The sum of numbers that lie side by side."""
    code, width = writer.code, writer.code.width
    many = SIDE_BY_SIDE if n >= SIDE_BY_SIDE * width else 1
    sums = [code.const(0.0)] * many
    done = n // (many * width) * many * width
    if done:
        with code.loop(done, many * width, sums) as loop:
            first = code.at(place, code.times(loop.i, code.size))
            loop.next = [
                code.op("fadd", x, code.load(code.at(first, k * width * code.size)))
                for k, x in enumerate(loop.carried)
            ]
        sums = loop.results
    while done < n:
        x = code.load(code.at(place, done * code.size))
        if n - done < width:
            x = code.select(code.fixed_mask(n - done), x, code.const(0.0))
        sums[0] = code.op("fadd", sums[0], x)
        done += width
    total = sums[0]
    for x in sums[1:]:
        total = code.op("fadd", total, x)
    return code.total(total)


def _columns(writer: Writer, here: str, there: str, n: int, inner: int) -> None:
    """The sums of each column of ``n`` rows of ``inner`` numbers."""
    code, row = writer.code, inner * writer.code.size
    with code.loop(inner, code.width) as loop:
        shift = code.times(loop.i, code.size)
        first = code.at(here, shift)
        with code.loop(n - 1, carried=[code.load(first)]) as terms:
            place = code.at(code.at(first, row), code.times(terms.i, row))
            terms.next = [code.op("fadd", terms.carried[0], code.load(place))]
        mask = code.ragged(inner, loop.i)
        code.store(terms.results[0], code.at(there, shift), mask)


@writes(HostCall)
def call_python(writer: Writer, ins: Instruction) -> None:
    """Call the Python side; the run ends with the step before if it fails."""
    code = writer.code
    number, step = len(writer.hosts), writer.step
    writer.hosts.append(ins)
    done = code.call("%call", f"i32 {number}", f"i64 {step}", result="i32")
    failed = code.emit(f"icmp ne i32 {done}, {WENT_WELL}")
    code.return_if(failed, f"i64 {step}")
