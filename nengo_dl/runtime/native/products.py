"""The code of matrix products and of weighted sums of rows."""

from __future__ import annotations

from math import prod

import numpy as np

from nengo_dl.runtime.native.preparation import Gathered
from nengo_dl.runtime.native.writer import Writer, writes
from nengo_dl.runtime.numpy.codegen import Instruction
from nengo_dl.runtime.numpy.operations import Matmul


@writes(Matmul)
def multiply(writer: Writer, ins: Instruction) -> None:
    """A stack of products, each row by row: sums of rows of the second factor."""
    a, b = ins.operands
    (out,) = ins.outputs
    code, size = writer.code, writer.code.size
    (m, k), n = a.shape[-2:], b.shape[-1]
    step_a = 0 if prod(a.shape[:-2]) == 1 else m * k * size
    step_b = 0 if prod(b.shape[:-2]) == 1 else k * n * size
    left, right, target = writer.operand(a), writer.operand(b), writer.result(out)
    with code.loop(prod(out.shape[:-2])) as group, code.loop(m) as row:
        matrix = code.at(left, code.times(group.i, step_a))
        factors = code.at(matrix, code.times(row.i, k * size))
        rows = code.at(right, code.times(group.i, step_b))
        place = code.at(target, code.times(group.i, m * n * size))
        place = code.at(place, code.times(row.i, n * size))
        with code.loop(n, code.width) as column:
            shift = code.times(column.i, code.size)
            with code.loop(k, carried=[code.const(0.0)]) as term:
                factor = code.at(factors, code.times(term.i, size))
                x = code.at(code.at(rows, shift), code.times(term.i, n * size))
                factor = code.splat(code.load_scalar(factor))
                term.next = [code.fma(factor, code.load(x), term.carried[0])]
            mask = code.ragged(n, column.i)
            code.store(term.results[0], code.at(place, shift), mask)


@writes(Gathered)
def gather(writer: Writer, ins: Instruction) -> None:
    """Weighted sums of rows, by a table of where these begin."""
    x, weights = ins.operands
    (out,) = ins.outputs
    code, size = writer.code, writer.code.size
    terms, n = ins.operation.index.shape
    batch = x.shape[1]
    begin = np.ascontiguousarray(ins.operation.index * batch * size, np.uint32)
    table = writer.table(ins, lambda: begin)
    source, factors = writer.operand(x), writer.operand(weights)
    target = writer.result(out)
    with code.loop(n) as row, code.loop(batch, code.width) as column:
        shift = code.times(column.i, size)
        with code.loop(terms, carried=[code.const(0.0)]) as term:
            number = code.plus(code.times(term.i, n), row.i)
            place = code.load_index(code.at(table, code.times(number, 4)))
            place = code.at(code.at(source, place), shift)
            factor = code.load_scalar(code.at(factors, code.times(number, size)))
            product = code.fma(code.splat(factor), code.load(place), term.carried[0])
            term.next = [product]
        place = code.at(code.at(target, code.times(row.i, batch * size)), shift)
        code.store(term.results[0], place, code.ragged(batch, column.i))
