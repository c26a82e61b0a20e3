"""What steps cost as machine code: every figure that this executor decides by.

Estimates are made from the plan of a step alone, never from a clock: the same calls run
in the same way in every process.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from nengo_dl.runtime.numpy.namespace import Matmul

if TYPE_CHECKING:
    from nengo_dl.compiler.layout import Layout
    from nengo_dl.runtime.executor import Work
    from nengo_dl.runtime.native.units import Plan

#: steps that are run in one call at most, and about how many bytes of inputs and results
CHUNK_STEPS, CHUNK_BYTES = 1024, 2**24

#: seconds after which a call ends, so that Ctrl-C is noticed
CALL_SECONDS = 0.1

#: estimated seconds for a multiplication of a product, and for an instruction on one
#: element of a loop: on the safe side
PRODUCT_SECONDS, ELEMENT_SECONDS = 0.1e-9, 0.2e-9

#: the same for an instruction of a loop over a matrix that a rule changes, if it is one
#: of `PLAIN`: all of 100 by 784 numbers with STDP take 10 us, with 10 instructions each
PLAIN_SECONDS = 0.03e-9

#: functions of which a processor computes a vector at once
PLAIN = frozenset(
    (np.add, np.subtract, np.multiply, np.maximum, np.minimum, np.logical_or)
)

#: the same for products of matrices that several items have in common (``batch``)
SHARED_PRODUCT_SECONDS, SHARED_BY = 0.04e-9, 8

#: seconds for leaving a probe out until its next sample, for each sample: one more call
SAMPLE_SECONDS = 5e-6

#: share of the lanes that are in use below which operands are repeated for each item
FILLED = 0.75

#: loops are joined if the lanes in use are no less than this, relative to before
AS_FULL = 0.9

#: instructions of a loop from which on it is only joined by what reads its results: what
#: compilers do with longer ones takes more and more time, and registers run out
LONG = 40

#: elements that a weight may have after it was repeated
LARGE = 2**20

#: vectors of a sum in a loop that are added up side by side, if no more than so many
#: instructions are in it
SUMS_SIDE_BY_SIDE, FEW_INSTRUCTIONS = 4, 6

#: elements between two terms of a sum up to which the loop that computes the terms adds
#: them up, too; vectors of such sums that are kept in registers, and instructions that
#: are written one after the other for them
BETWEEN_TERMS, SUMS_IN_REGISTERS, UNROLLED = 1024, 8, 64

#: elements from which on a loop waits for those that may join it (``stdp``)
SUNK = 4096

#: instructions that are divided among the parts of concatenations at most, parts at most,
#: vectors of each part at least, and of one that a loop makes: with STDP from 784 neurons
#: to 100, a step of 2.05 us takes 1.94 if spikes are filtered, and traces of them kept,
#: in the loops of the neurons (``stdp``)
DIVIDED, PARTS, PART_VECTORS, LONG_VECTORS = 8, 4, 4, 32

#: share of the columns of a matrix up to which those that change are taken from where
#: they lie: a number costs about six times as much then. Changes of 4 operations in 100
#: rows of 784 numbers, 3 % of which change as a whole, take 0.57 of the time of all rows
#: with 5 % of the columns, 0.82 with 10 %, 1.01 with 15 %, 1.23 with 20 %; in 784 rows of
#: 100 numbers 0.37, 0.59, 0.82 and 1.07, in 400 of 400 0.55, 0.79, 1.00 and 1.17
#: (vectors of 512 bits). STDP between bounds takes, with columns of 100 numbers and 784
#: of them, 0.42, 0.63, 0.83 and 1.02 (7.1 us), with 784 and 100 0.49, 0.74, 0.96 and 1.22
COLUMNS_APART = 0.15

#: rows of a column that change in one vector at most: more are put together from so many
#: pieces that a processor waits for them. With 8 numbers of 4 bytes, where the matrix is
#: in a cache and 2 % to 10 % of the columns change, a step takes 0.93 to 1.00 of the time
#: with 16 (``stdp``: 1.93 us of 1.97); 4 of 8 bytes take 1.02 to 1.08 of the time of 8
COLUMN_LANES = 8

#: how much longer columns of a matrix may be made so that they begin with a cache line
PADDED = 1.25

#: vectors from which on the last, ragged one is written apart from the loop
RAGGED_APART = 4


def seconds_per_step(plan: Plan) -> float:
    """About how long one step takes, Python functions left out.

    Parameters
    ----------
    plan : Plan
    """
    products = elements = 0.0
    for unit in plan.units:
        for ins in unit.instructions:
            if isinstance(ins.operation, Matmul):
                shape = ins.outputs[0].shape
                each = product_seconds(shape[-1])
                products += prod(shape) * ins.operands[0].shape[-1] * each
            else:
                sizes = (prod(view.shape) for view in (*ins.operands, *ins.outputs))
                plain = getattr(ins.operation, "function", None) in PLAIN
                each = PLAIN_SECONDS if plain and unit.matrix else ELEMENT_SECONDS
                elements += each * max(sizes, default=0)
    return max(products + elements, 1e-9)


def product_seconds(columns: int) -> float:
    """About how long a multiplication with an entry of a matrix takes.

    Parameters
    ----------
    columns : int
        How many vectors the matrix is multiplied with at a time.
    """
    return SHARED_PRODUCT_SECONDS if columns >= SHARED_BY else PRODUCT_SECONDS


#: units of a step beyond which those that do the same have their code in common: calls
#: of it take 1 to 5 ns, and most networks have no more units than this
UNITS_APART = 48

#: estimated seconds for each kernel of a step, and for each elementary operation beside
#: products, of a step that has not been planned yet (``compare``, ``batch``)
KERNEL_SECONDS, OPERATION_SECONDS = 0.1e-6, 0.05e-9


def seconds_before_planning(work: Work) -> float:
    """About how long one step takes that has not been planned yet."""
    products, others = work.operations
    kernels = KERNEL_SECONDS * len(work.layout.groups())
    each = product_seconds(work.batch)
    return kernels + each * products + OPERATION_SECONDS * others


#: estimated seconds of a call from which on its blocks are run in several threads: to
#: start and to await a second one takes 0.11 to 0.16 ms, and 0.3 to 0.5 ms where other
#: processes want the processors, too
THREADS_SECONDS = 3e-3

#: bytes of a row of a block at most, a cache line: what a block of more items carries is
#: less often in the caches
ROW_BYTES = 64

#: what a step of items costs, relative to what each place of a block adds: an item by
#: itself, and a block of any size beside its places (``batch``)
ALONE, EACH_BLOCK = 1.5, 1.0


def items_of_block(layout: Layout, batch: int, dtype: np.dtype, width: int) -> int:
    """How many items of a batch run their steps together, apart from the others.

    One by itself, or so many that all vectors are full. Networks in which Python is
    called keep their batch together: functions are called once for all items. So do
    those in which all items change the same weights.

    Parameters
    ----------
    layout : Layout
        Of a single stage.
    batch : int
        How many items there are.
    dtype : dtype
        Of the numbers.
    width : int
        Numbers in a vector.
    """
    kernels = [group.kernel for group in layout.groups()]
    if any(kernel.called_for_each or kernel.joins_items for kernel in kernels):
        return batch
    most = max(width, ROW_BYTES // dtype.itemsize)
    prices = {1: ALONE * batch}
    for size in range(width, most + 1, width):
        prices[size] = -(-batch // size) * (size + EACH_BLOCK)
    return min(prices, key=lambda size: (prices[size], size))


#: vectors of rows from which on products are taken from the neurons that spiked. 60
#: populations of 200 neurons in a ring take, with 8 rows, vectors of 16 and the default
#: rates, 0.99 of the time of whole products, with 12 rows 0.84, with 16 0.72, with 31
#: 0.72; where they fire a fourth as often 0.79, 0.73, 0.66 and 0.63
SPIKED_VECTORS = 0.75

#: vectors of rows, and entries of a matrix, from which on the items of a batch may be
#: multiplied one by one, from the neurons that spiked: with 5 % of them, 16 items and
#: vectors of 16 numbers, 24 by 100 take 0.93 of the time of a whole product, 32 by 40
#: 0.98, 100 by 20 1.03, but 32 by 100 0.75, 50 by 50 0.60 and 100 by 784 0.37
ROWS_BY_ITEM, ENTRIES_BY_ITEM = 2, 2048

#: entries of a matrix up to which it is kept a second time for that, column by column
ENTRIES_TWICE = 2**24

#: the share of the elements up to which they are, of very many rows, and vectors of rows
#: for which it is half as large: what it takes to find an element is as much as some
#: vectors of sums. Both take as long with 15 % of the elements and 32 rows, with 29 %
#: and 64 or 100, with 35 % and 400
SHARE_BY_ITEM, FINDING = 0.3, 4


def by_items(m: int, k: int, width: int) -> bool:
    """Whether items of a batch may be multiplied one by one, see `spikes.by_items`.

    Parameters
    ----------
    m, k : int
        The rows and columns of the matrix.
    width : int
        Numbers in a vector.
    """
    return m >= ROWS_BY_ITEM * width and ENTRIES_BY_ITEM <= m * k <= ENTRIES_TWICE


def share_by_item(m: int, n: int, width: int) -> float:
    """The share of elements that are not 0 up to which this pays.

    Parameters
    ----------
    m, n : int
        The rows of the matrix, and the items.
    width : int
        Numbers in a vector. Whole products compute all lanes, also those without items.
    """
    vectors, lanes = -(-m // width), -(-n // width) * width
    return SHARE_BY_ITEM * vectors / (vectors + FINDING) * lanes / n


#: terms of sums from which on items of a batch have them from the neurons that spiked:
#: with 16 items, each with spikes of its own, a step takes 1.12 of the time with 5 terms,
#: 0.97 with 10, 0.80 with 20; with 125 of 1,000 neurons 0.35, of 4,000 with 250 0.19
TERMS_BY_ROW = 8

#: how many rounds before a neuron's targets are added to the lines of them and of their
#: weights are fetched, and how many lines of each: with 4,000 neurons and 20 or 80 each
#: a step takes 0.85 of the time, with 12,000 and 80 0.91, with 1,000 and 20 0.94; where
#: all of it is in a cache (1,000 and 100, 300 and 10) the same (webs as of ``rivals``)
ROUNDS_AHEAD, LINES_AHEAD = 2, 3

#: the share of the numbers of a matrix up to which those that are not 0 are multiplied
#: one by one with another matrix that changes, times the numbers in a vector. With
#: vectors of 16, 784 by 16 and 16 by 100 take 0.51 of a whole product with 2 %, 0.73 with
#: 4 %, 0.90 with 6 % and 1.33 with 10 %; 100 by 16 and 16 by 400 take 0.64, 1.00, 1.38
#: and 2.13
NUMBERS_APART = 0.8


def numbers_apart(count: int, width: int) -> int:
    """How many of ``count`` numbers `spikes.with_spikes` multiplies one by one."""
    return max(1, int(count * NUMBERS_APART / width))


#: multiplications of a product that is worth a call of BLAS: on one core, 33 million are
#: done 1.2 to 1.5 times as fast here as there, 67 million about as fast, 270 million up
#: to 1.6 times as slowly
BLAS_PRODUCTS = 64 * 1024 * 1024

#: columns up to which a fixed matrix is multiplied by columns, and rows in proportion to
#: columns from which on it is, too
FEW_COLUMNS, MANY_ROWS = 64, 4


def by_columns(m: int, k: int, width: int) -> bool:
    """Whether a fixed matrix of ``m`` by ``k`` numbers is multiplied by columns.

    Otherwise it is multiplied by rows, each of which ends with a sum of lanes.
    """
    return (m >= width or k < 4) and (k <= FEW_COLUMNS or m > MANY_ROWS * k)


#: multiplications of a product with spikes, those with zeros counted, and numbers of a
#: trained loop, from which on threads share it that are ready. With one spike in ten, two
#: threads take for 2**22.6, 2**23.6, 2**24.6 and 2**25.6 multiplications 0.89, 0.83, 0.77
#: and 0.70 of the time of one, and for the gradient 1.08, 0.97, 0.85 and 0.68; for
#: 2**16.6, 2**17.6 and 2**18.6 numbers of a loop 1.06, 0.98 and 0.94 forward, and 1.12,
#: 0.90 and 0.90 backward (``train spikes25``)
PRODUCT_SHARED, LOOP_SHARED = 2**24, 2**18

#: the same for parameters of an update, and how many of them are a task: two threads take
#: 1.07 of the time of one for 2**16, 0.91 for 2**17, 0.72 for 2**18 (``train spikes25``)
UPDATE_SHARED, UPDATE_PIECE = 2**17, 2**14

#: how many times as much it has to be if threads begin for it: 0.1 ms for each
NOT_READY = 8

#: how often a thread looks for work before it sleeps: some 0.05 ms. A batch takes 1.01,
#: 1.03, 1.05 and 1.07 of the time with 500, 8000, 30000 and 100000, since threads of
#: TensorFlow want the processor, too (``train spikes25``)
LOOKS = 2000

#: the same for one that waits for the end of what others have taken, before it offers
#: its processor to others each time. A batch takes 1.01 of the time with 200, and as long
#: with 2000 and with 200000 (``train spikes25``)
PATIENCE = 20000

#: bytes of an array from which on its memory is used again, and bytes that are kept for
#: that at most. Where the C library keeps what is free by itself, a batch takes as long
#: with 2**12 to 2**25 bytes at least, and if nothing is kept, within 3 of 100 parts
#: (``train spikes25``, ``train spikes100``, ``train pictures``)
LEAST_KEPT, MOST_KEPT = 2**17, 2**28
