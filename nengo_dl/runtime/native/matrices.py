r"""The code of one matrix product, ``y = a x``, in the ways that suit its shape.

All functions write to a `Code`. They are given addresses, and sizes: ``m`` rows and
``k`` columns of ``a``, and ``n`` columns of ``x`` and ``y``, which lie in order, row by
row. Sums are kept in registers, in some order that depends on the sizes alone. Vectors
may read up to 64 bytes beyond the end of each operand, and what they find there does
not matter; nothing is written beyond the end of ``y``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nengo_dl.runtime.native.code import Code, Index

#: sums that are computed side by side, so that none has to wait for itself: a
#: multiplication takes four cycles, and two begin in each
SIDE_BY_SIDE = 8

#: columns up to which what they are multiplied with is kept in registers
FEW = 12

#: sums that are kept in registers, and vectors of columns of them: for processors whose
#: vectors have 64 bytes (32 registers), and for all others (16)
TILES = {True: (24, 4), False: (12, 2)}

#: bytes of ``x`` that are read again and again while they are in the first cache
BLOCK_BYTES = 2**14


def in_tiles(
    code: Code, count: int, most: int, body: Callable[[Index, int], None]
) -> None:
    """Call ``body(start, size)`` for stretches of ``count``: full ones in one loop."""
    full, rest = divmod(count, most)
    if full:
        with code.loop(full * most, most) as loop:
            body(loop.i, most)
    if rest:
        body(full * most, rest)


def in_vectors(
    code: Code, count: int, most: int, body: Callable[[Index, int, str | None], None]
) -> None:
    """Call ``body(start, vectors, mask)`` for stretches of ``count`` numbers.

    ``start`` counts numbers. The mask is that of the last one of the vectors; None if it
    is full. Up to ``most`` vectors come at a time.
    """
    step = most * code.width
    full = count // step * step
    if full:
        with code.loop(full, step) as loop:
            body(loop.i, most, None)
    if full < count:
        vectors = -(-(count - full) // code.width)
        body(full, vectors, code.ragged(count, full + (vectors - 1) * code.width))


# one column


def by_columns(
    code: Code, columns: str, x: str, y: str, m: int, k: int, stride: int
) -> None:
    """The columns of the matrix times the elements of ``x``, added up.

    Parameters
    ----------
    code : Code
        What it is written to.
    columns : str
        The address of the transposed matrix: its columns, one after the other.
    x, y : str
        The addresses of ``k`` and of ``m`` numbers.
    m, k : int
        The rows and columns of the matrix.
    stride : int
        Bytes from one column to the next.
    """
    vectors, nbytes = -(-m // code.width), code.width * code.size
    if k <= FEW:
        _few_columns(code, columns, x, y, m, k, stride)
        return
    many = min(SIDE_BY_SIDE, vectors)
    if vectors > many and vectors % many:  # as equal as they can be
        many = -(-vectors // -(-vectors // many))
    chains = max(1, min(SIDE_BY_SIDE // many, k // 4))

    def rows(start: Index, count: int, mask: str | None) -> None:
        place = code.at(columns, code.times(start, code.size))
        sums = [code.const(0.0)] * (count * chains)
        full = k // chains * chains

        def column(sums: list[str], j: Index, chain: int) -> None:
            factor = code.splat(code.load_scalar(code.at(x, code.times(j, code.size))))
            here = code.at(place, code.times(j, stride))
            for q in range(count):
                part = code.load(code.at(here, q * code.width * code.size))
                at = chain * count + q
                sums[at] = code.fma(part, factor, sums[at])

        with code.loop(full, chains, sums) as loop:
            for chain in range(chains):
                column(loop.next, code.plus(loop.i, chain), chain)
        sums = loop.results
        for j in range(full, k):
            column(sums, j, 0)
        for q in range(count):
            place = code.at(code.at(y, code.times(start, code.size)), q * nbytes)
            total = _added(code, sums[q::count])
            code.store(total, place, mask if q == count - 1 else None)

    in_vectors(code, m, many, rows)


def _few_columns(
    code: Code, columns: str, x: str, y: str, m: int, k: int, stride: int
) -> None:
    """All columns at once, vector by vector of rows."""
    factors = [code.splat(code.load_scalar(code.at(x, j * code.size))) for j in range(k)]

    def rows(start: Index, count: int, mask: str | None) -> None:
        place = code.at(columns, code.times(start, code.size))
        total = code.op("fmul", code.load(place), factors[0])
        for j in range(1, k):
            total = code.fma(code.load(code.at(place, j * stride)), factors[j], total)
        code.store(total, code.at(y, code.times(start, code.size)), mask)

    in_vectors(code, m, 1, rows)


def _added(code: Code, vectors: Sequence[str]) -> str:
    """The sum of some vectors, in pairs."""
    vectors = list(vectors)
    while len(vectors) > 1:
        pairs = [
            code.op("fadd", vectors[i], vectors[i + 1])
            for i in range(0, len(vectors) - 1, 2)
        ]
        vectors = pairs + vectors[len(vectors) // 2 * 2 :]
    return vectors[0]


def by_rows(code: Code, a: str, x: str, y: str, m: int, k: int) -> None:
    """Each row times ``x``, four rows at a time; the addresses as in `by_columns`.

    Parameters
    ----------
    code : Code
        What it is written to.
    a, x, y : str
        The addresses of the matrix, row by row, of ``k`` and of ``m`` numbers.
    m, k : int
        The rows and columns of the matrix.
    """

    def rows(start: Index, count: int) -> None:
        first = code.at(a, code.times(start, k * code.size))
        places = [code.at(first, r * k * code.size) for r in range(count)]
        sums = _dot(code, places, x, k)
        code.store_totals(sums, code.at(y, code.times(start, code.size)))

    in_tiles(code, m, 4, rows)


def _dot(code: Code, rows: Sequence[str], x: str, k: int) -> list[str]:
    """Vectors of which the totals are rows times ``x``."""
    count, width = len(rows), code.width
    chains = max(1, min(SIDE_BY_SIDE // count, k // (2 * width)))
    stride = chains * width
    full = k // stride * stride
    sums = [code.const(0.0)] * (count * chains)

    def part(sums: list[str], i: Index, chain: int, lanes: int) -> None:
        shift = code.times(i, code.size)
        factor = code.load(code.at(x, shift))
        for r, row in enumerate(rows):
            at = chain * count + r
            total = code.fma(code.load(code.at(row, shift)), factor, sums[at])
            if lanes < width:  # what lies behind may be anything
                total = code.select(code.fixed_mask(lanes), total, sums[at])
            sums[at] = total

    if full:
        with code.loop(full, stride, sums) as loop:
            for chain in range(chains):
                part(loop.next, code.plus(loop.i, chain * width), chain, width)
        sums = loop.results
    for i in range(full, k, width):
        part(sums, i, 0, min(width, k - i))
    return [_added(code, sums[r::count]) for r in range(count)]


def by_lanes(code: Code, a: str, x: str, y: str, m: int, k: int) -> None:
    """One row in each lane: for matrices of very few columns that change all the time.

    The arguments are those of `by_rows`.
    """
    factors = [code.splat(code.load_scalar(code.at(x, j * code.size))) for j in range(k)]

    def rows(start: Index, count: int) -> None:
        place = code.at(a, code.times(start, k * code.size))
        total = None
        for j, factor in enumerate(factors):
            lanes = [
                code.load_scalar(code.at(place, (r * k + j) * code.size))
                for r in range(count)
            ]
            column = code.load(place) if k == 1 else code.pack(lanes)
            if total is None:
                total = code.op("fmul", column, factor)
            else:
                total = code.fma(column, factor, total)
        assert total is not None
        mask = code.fixed_mask(count) if count < code.width else None
        code.store(total, code.at(y, code.times(start, code.size)), mask)

    in_tiles(code, m, code.width, rows)


# many columns


def by_blocks(code: Code, a: str, x: str, y: str, m: int, k: int, n: int) -> None:
    """Blocks of rows by vectors of columns, of which the sums are in registers.

    Parameters
    ----------
    code : Code
        What it is written to.
    a, x, y : str
        The addresses of ``m`` by ``k``, of ``k`` by ``n`` and of ``m`` by ``n`` numbers.
    m, k, n : int
        Sizes.
    """
    nbytes = code.width * code.size
    vectors = min(TILES[nbytes == 64][1], -(-n // code.width))
    depth = max(16, BLOCK_BYTES // (vectors * nbytes))
    if k <= 2 * depth:
        _column_blocks(code, a, x, y, (m, k, n), k, True)
        return
    # parts of x that stay in the first cache while all rows are multiplied with them
    parts = -(-k // depth)
    depth = k // parts
    _column_blocks(code, a, x, y, (m, k, n), k - (parts - 1) * depth, True)
    done = k - (parts - 1) * depth
    with code.loop((parts - 1) * depth, depth) as loop:
        first = code.plus(loop.i, done)
        here = code.at(a, code.times(first, code.size))
        there = code.at(x, code.times(first, n * code.size))
        _column_blocks(code, here, there, y, (m, k, n), depth, False)


def _column_blocks(
    code: Code,
    a: str,
    x: str,
    y: str,
    sizes: tuple[int, int, int],
    depth: int,
    anew: bool,
) -> None:
    """A product over ``depth`` columns of ``a``: put into ``y``, or added to it."""
    m, k, n = sizes
    registers, most = TILES[code.width * code.size == 64]

    def columns(start: Index, count: int, mask: str | None) -> None:
        shift = code.times(start, code.size)
        here, there = code.at(x, shift), code.at(y, shift)

        def rows(first: Index, many: int) -> None:
            place = code.at(a, code.times(first, k * code.size))
            results = code.at(there, code.times(first, n * code.size))
            _block(code, place, here, results, (many, count), (k, n), depth, anew, mask)

        in_tiles(code, m, min(8, registers // count), rows)

    in_vectors(code, n, most, columns)


def _block(
    code: Code,
    a: str,
    x: str,
    y: str,
    block: tuple[int, int],
    strides: tuple[int, int],
    depth: int,
    anew: bool,
    mask: str | None,
) -> None:
    """Some rows by some vectors of columns (``block``).

    ``strides`` are numbers in a row of ``a``, and in one of ``x`` and ``y``; ``mask``
    is that of the last vector.
    """
    many, count = block
    k, n = (s * code.size for s in strides)
    nbytes = code.width * code.size
    places = [[code.at(y, r * n + q * nbytes) for q in range(count)] for r in range(many)]
    sums = [code.const(0.0)] * (many * count)
    if not anew:
        sums = [code.load(place) for row in places for place in row]
    with code.loop(depth, carried=sums) as loop:
        row = code.at(x, code.times(loop.i, n))
        parts = [code.load(code.at(row, q * nbytes)) for q in range(count)]
        column = code.at(a, code.times(loop.i, code.size))
        for r in range(many):
            factor = code.splat(code.load_scalar(code.at(column, r * k)))
            for q, part in enumerate(parts):
                at = r * count + q
                loop.next[at] = code.fma(part, factor, loop.carried[at])
    for r, row_places in enumerate(places):
        for q, place in enumerate(row_places):
            last = q == count - 1
            code.store(loop.results[r * count + q], place, mask if last else None)
