r"""Products of a matrix with many vectors of spikes, and the gradient of the matrix.

For a training, spikes of all steps and items lie side by side, as the rows of an array
``x``. Few of them are not zero, and only those take part:

.. math::

    y_r = \sum_{k:\, x_{rk} \ne 0} x_{rk} \, w_k, \qquad
    \frac{\partial L}{\partial w_k} =
        \sum_{r:\, x_{rk} \ne 0} x_{rk} \frac{\partial L}{\partial y_r},

where :math:`w_k` are the weights from neuron ``k``. What is not zero costs as many
multiplications as there are targets, and a read of their weights. Sums are kept in
registers, for a *panel* of targets at a time. What is read for a panel lies side by side:
pieces of rows that are a power of two apart would share few places in the caches.

Sums go from the first element to the last one, however the work is shared by threads: the
results are the same to the bit.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from nengo_dl.runtime.native.code import Code, Index, module_text
from nengo_dl.runtime.native.compile import compile_text, has_compress, host_width
from nengo_dl.runtime.native.costs import PRODUCT_SHARED
from nengo_dl.runtime.native.crew import PARAMETERS, Work, shared
from nengo_dl.runtime.native.matrices import SIDE_BY_SIDE
from nengo_dl.runtime.native.reuse import reused_array
from nengo_dl.runtime.native.spikes import append, each_nonzero
from nengo_dl.runtime.native.tables import Table, parts_of, table_of

#: rows of ``x`` of which it is noted at a time what is not zero, before a panel is read
#: for all of them, while it is in a cache
ROWS = 128

#: the same for the gradient, where a panel of the gradient of ``y`` stays in a cache
GRADIENT_ROWS = 256

#: bytes of a row that are compared with 0 at a time for the gradient: a cache line
LINE = 64

#: pieces of work for each thread: the last ones to end are short
PIECES = 4


def wide(width: int) -> int:
    """Vectors of a panel of a gradient: half of the registers that there are."""
    return 2 * SIDE_BY_SIDE if width > 8 else SIDE_BY_SIDE


def panels_of(n: int, width: int, most: int = SIDE_BY_SIDE) -> tuple[int, int]:
    """How many panels ``n`` targets are cut into, and how many vectors one has.

    Examples
    --------
    >>> panels_of(256, 8), panels_of(100, 8)
    ((4, 8), (2, 7))
    """
    vectors = -(-n // width)
    count = -(-vectors // most)
    return count, -(-vectors // count)


def product_code(code: Code, k: int, n: int) -> None:
    """The body of ``product(table, task, thread)``, for some of the rows.

    Parameters
    ----------
    code : Code
        What it is written to. The table: ``x``, rows of ``k`` numbers; the weights in
        panels; ``y``, rows of ``n``; room for each thread, and how many bytes that is;
        how many rows there are, and how many belong to a task.
    k, n : int
        At least as many as a vector has lanes.
    """
    size, table = code.size, Table(code)
    all_x, weights, all_y = table.pointer(), table.pointer(), table.pointer()
    room = table.room()
    first, rows = table.stretch()
    lists = code.at(room, 8 * ROWS)
    with code.loop(rows, ROWS) as tile:
        count = _at_most(code, code.emit(f"sub nsw i64 {rows}, {tile.i}"), ROWS)
        row_0 = code.plus(tile.i, first)
        x = code.at(all_x, code.times(row_0, k * size))
        y = code.at(all_y, code.times(row_0, n * size))
        with code.loop(count) as row:
            found = code.at(lists, code.times(row.i, 4 * k))
            number = _note_columns(
                code, code.at(x, code.times(row.i, k * size)), k, found
            )
            _store_number(code, number, code.at(room, code.times(row.i, 8)))

        def panel(start: Index, weights: str, vectors: int, lanes: int) -> None:
            with code.loop(count) as row:
                number = code.load_scalar(code.at(room, code.times(row.i, 8)), "i64")
                found = code.at(lists, code.times(row.i, 4 * k))
                here = code.at(x, code.times(row.i, k * size))
                sums = [code.const(0.0)] * vectors
                panel_rows = weights, _row_bytes(code, n)
                sums = _gathered(code, (number, found), (here, size), panel_rows, sums)
                target = code.at(y, code.times(row.i, n * size))
                target = code.at(target, code.times(start, size))
                _store(code, sums, target, lanes)

        _each_panel(code, n, weights, k, panel)


def _note_columns(code: Code, x: str, k: int, found: str) -> str:
    """Write a list of the columns in which a row is not zero; give how many there are.

    Whole vectors are written where an instruction puts lanes side by side: what lies
    behind is written later, or room.
    """
    if not code.compresses:

        def note(j: Index, number: list[str]) -> list[str]:
            code.store_index(j, code.at(found, code.times(number[0], 4)))
            return [str(code.plus(number[0], 1))]

        return each_nonzero(code, x, k, ["0"], note, kind="i64")[0]

    def vector(start: Index, number: str, keep: str | None = None) -> str:
        here = code.load(code.at(x, code.times(start, code.size)))
        mask = code.cmp("une", here, code.const(0.0))
        mask = mask if keep is None else code.logic("and", mask, keep)
        return append(code, mask, start, found, number)

    full, rest = k // code.width * code.width, k % code.width
    with code.loop(full, code.width, ["0"], "i64") as loop:
        loop.next = [vector(loop.i, loop.carried[0])]
    (number,) = loop.results
    if rest:
        last = code.fixed_mask(code.width - rest)
        number = vector(k - code.width, number, code.invert(last))
    return number


def gradient_code(code: Code, k: int, n: int) -> None:
    """The body of ``gradient(table, task, thread)``, for some of the features.

    Parameters
    ----------
    code : Code
        What it is written to. The table: ``x``, rows of ``k`` numbers; ``g``, rows of
        ``n``, in panels if `packs` says so (see `packing_code`); ``d``: ``k`` rows of
        ``n``; the same as ``n`` rows of ``k``; room for each thread, and how many bytes
        that is; how many features there are, and how many belong to a task: a multiple
        of the numbers in a cache line; how many tasks; how many rows.
    k, n : int
        At least as many as a cache line holds.
    """
    size, table = code.size, Table(code)
    all_x, all_g, d, turned = (table.pointer() for _ in range(4))
    lists = table.room()
    first, features = table.stretch()
    rows = table.number()
    last = str(code.plus(first, features))
    packed = packs(n, code.width)
    with code.loop(rows, GRADIENT_ROWS) as tile:
        left = code.emit(f"sub nsw i64 {rows}, {tile.i}")
        count = _at_most(code, left, GRADIENT_ROWS)
        x = code.at(all_x, code.times(tile.i, k * size))
        row_bytes = _row_bytes(code, n, wide(code.width)) if packed else n * size
        panels, _ = panels_of(n, code.width, wide(code.width))
        g = code.at(all_g, code.times(tile.i, panels * row_bytes))
        _note_features(code, x, k, count, lists, (first, last))
        clear = code.splat(code.emit(f"icmp eq i64 {tile.i}, 0"), "i1")

        def panel(start: Index, rows: str, vectors: int, some: int) -> None:
            with code.loop(features) as feature:
                found = code.at(lists, code.times(feature.i, LIST_BYTES))
                j = code.plus(feature.i, first)
                place = code.at(d, code.times(j, n * size))
                place = code.at(place, code.times(start, size))
                sums = _load(code, place, vectors, some)
                sums = [code.select(clear, code.const(0.0), s) for s in sums]
                factors = code.at(x, code.times(j, size)), k * size
                there = _numbered(code, found)
                sums = _gathered(code, there, factors, (rows, row_bytes), sums)
                _store(code, sums, place, some)

        _each_panel(code, n, g, GRADIENT_ROWS, panel, wide(code.width))
    _turn(code, k, n, (d, turned), (first, features))


def _note_features(
    code: Code, x: str, k: int, count: str, lists: str, span: tuple[str, str]
) -> None:
    """Write for each feature of a stretch a list of the rows in which it is not zero.

    Parameters
    ----------
    code : Code
    x, k, count : str, int, str
        Where the first row is; features of a row; how many rows there are.
    lists : str
        Where the list of the first feature of the stretch is.
    span : tuple of (str, str)
        The first feature, and the one behind the last.
    """
    size, lanes = code.size, LINE // code.size
    full, rest = k // lanes * lanes, k % lanes
    first, last = span
    stop = _at_most(code, last, full)
    length = code.emit(f"sub nsw i64 {stop}, {first}")
    with code.loop(length, lanes, maybe_empty=True) as loop:
        line = code.at(lists, code.times(loop.i, LIST_BYTES))
        start = code.at(x, code.times(code.plus(loop.i, first), size))
        _note_rows(code, start, k, count, line, lanes)
    if rest:
        # the last features: a line that ends where the row does
        mine = code.emit(f"icmp eq i64 {last}, {k}")
        once = code.emit(f"zext i1 {mine} to i64")
        with code.loop(once, maybe_empty=True):
            offset = code.emit(f"sub nsw i64 {k - lanes}, {first}")
            line = code.at(lists, code.times(offset, LIST_BYTES))
            _note_rows(code, code.at(x, (k - lanes) * size), k, count, line, rest)


def _turn(
    code: Code, k: int, n: int, places: tuple[str, str], span: tuple[str, str]
) -> None:
    """Copy features ``span``, the first one and how many, from rows to columns.

    A vector of a row goes to as many rows of the other array, whose cache lines the next
    features fill.
    """
    size, (d, turned), (first, features) = code.size, places, span

    def column(target: Index) -> None:
        row = code.at(turned, code.times(target, k * size))
        source = code.at(d, code.times(target, size))
        with code.loop(features) as feature:
            j = code.plus(feature.i, first)
            vector = code.load(code.at(source, code.times(j, n * size)))
            code.store_spread(vector, code.at(row, code.times(j, size)), k * size)

    with code.loop(n // code.width, 1) as loop:
        column(code.times(loop.i, code.width))
    if n % code.width:
        column(n - code.width)  # some of them once more


def _numbered(code: Code, found: str) -> tuple[str, str]:
    """How many rows a list has, and where the first one is."""
    return code.load_scalar(found, "i64"), code.at(found, 8)


def _note_rows(code: Code, x: str, k: int, count: str, lists: str, new: int) -> None:
    """Write for each feature of a line a list of the rows in which it is not zero.

    Parameters
    ----------
    code : Code
    x, k, count : str, int, str
        Where the line of the first row is; features of a row; how many rows there are.
    lists : str
        Where the list of the first feature is.
    new : int
        How many features, the last ones of the line, are looked at.
    """
    lanes = LINE // code.size
    for j in range(lanes - new, lanes):
        _store_number(code, "0", code.at(lists, j * LIST_BYTES))
    if not (code.compresses and lanes == code.width):
        with code.loop(count) as row:
            _note_row(code, x, k, row.i, lists, new)
        return
    whole = code.emit(f"and i64 {count}, {-lanes}")
    with code.loop(whole, lanes, maybe_empty=True) as rows:
        _note_square(code, x, k, rows.i, lists, new)
    left = code.emit(f"sub nsw i64 {count}, {whole}")
    with code.loop(left, maybe_empty=True) as row:
        _note_row(code, x, k, code.plus(row.i, whole), lists, new)


def _note_row(code: Code, x: str, k: int, row: Index, lists: str, new: int) -> None:
    """Append a row to the lists of the features in which it is not zero."""
    size, lanes = code.size, LINE // code.size
    here = code.at(x, code.times(row, k * size))
    masks = [
        code.cmp("une", code.load(code.at(here, q * size)), code.const(0.0))
        for q in range(0, lanes, code.width)
    ]
    bits = code.mask_bits(masks)
    if new < lanes:
        keep = (1 << lanes) - (1 << (lanes - new))
        bits = code.emit(f"and i64 {bits}, {keep}")
    with code.set_bits(bits) as bit:
        found = code.at(lists, code.times(bit.i, LIST_BYTES))
        number, indices = _numbered(code, found)
        code.store_index(row, code.at(indices, code.times(number, 4)))
        _store_number(code, str(code.plus(number, 1)), found)


def _note_square(code: Code, x: str, k: int, row: Index, lists: str, new: int) -> None:
    """Append as many rows as there are lanes to the lists of a line of features.

    The masks of the rows are turned: a bit of all of them is the mask of a feature.
    """
    lanes, kind = code.width, code.vector(code.integer)
    masks = "poison"
    for q in range(lanes):
        here = code.load(code.at(x, code.times(code.plus(row, q), k * code.size)))
        mask = code.cmp("une", here, code.const(0.0))
        bits = code.emit(f"bitcast {code.vector('i1')} {mask} to i{lanes}")
        bits = code.emit(f"zext i{lanes} {bits} to {code.integer}")
        masks = code.emit(f"insertelement {kind} {masks}, {code.integer} {bits}, i64 {q}")
    for j in range(lanes - new, lanes):
        found = code.at(lists, j * LIST_BYTES)
        number, indices = _numbered(code, found)
        bit = code.iop("and", masks, 1 << j)
        mask = code.emit(f"icmp ne {kind} {bit}, {code.iconst(0)}")
        _store_number(code, append(code, mask, row, indices, number), found)


#: bytes for the rows in which a feature is not zero: how many, which, and room for those
#: that are written with the last ones
LIST_BYTES = 8 + 4 * GRADIENT_ROWS + 4 * LINE


def packs(n: int, width: int) -> bool:
    """Whether rows of ``n`` numbers are copied into panels, and not read as they are."""
    return n % width != 0 or panels_of(n, width, wide(width))[0] > 1


def packing_code(code: Code, n: int) -> None:
    """The body of ``packing(table, task, thread)``: rows of ``n`` numbers into panels.

    The table: the rows; the panels; how many rows there are. A task is `GRADIENT_ROWS`.
    """
    table = Table(code)
    all_g, all_panels, rows = table.pointer(), table.pointer(), table.number()
    first = code.times("%task", GRADIENT_ROWS)
    left = code.emit(f"sub nsw i64 {rows}, {first}")
    count, most = _at_most(code, left, GRADIENT_ROWS), wide(code.width)
    g = code.at(all_g, code.times(first, n * code.size))
    row_bytes = _row_bytes(code, n, most)
    whole = panels_of(n, code.width, most)[0] * row_bytes
    panels = code.at(all_panels, code.times(first, whole))

    def panel(start: Index, place: str, vectors: int, lanes: int) -> None:
        with code.loop(count) as row:
            source = code.at(g, code.times(row.i, n * code.size))
            source = code.at(source, code.times(start, code.size))
            target = code.at(place, code.times(row.i, row_bytes))
            for q, vector in enumerate(_load(code, source, vectors, lanes)):
                code.store(vector, code.at(target, q * code.width * code.size))

    _each_panel(code, n, panels, GRADIENT_ROWS, panel, most)


def weights_code(code: Code, k: int, n: int) -> None:
    """The body of ``weights(table, task, thread)``: a matrix as `product_code` reads it.

    The table: ``n`` rows of ``k`` weights; the panels; how many vectors of a row there
    are, the last of which ends where the row does, and how many belong to a task.
    """
    size, table = code.size, Table(code)
    a, panels = table.pointer(), table.pointer()
    first, vectors = table.stretch()
    row_bytes = _row_bytes(code, n)
    with code.loop(vectors) as vector:
        start = code.times(code.plus(vector.i, first), code.width)
        start = _at_most(code, start, k - code.width)
        source = code.at(a, code.times(start, size))

        def panel(target: Index, place: str, several: int, lanes: int) -> None:
            rows = code.at(source, code.times(target, k * size))
            place = code.at(place, code.times(start, row_bytes))
            with code.loop((several - 1) * code.width + lanes) as row:
                numbers = code.load(code.at(rows, code.times(row.i, k * size)))
                column = code.at(place, code.times(row.i, size))
                code.store_spread(numbers, column, row_bytes)

        _each_panel(code, n, panels, k, panel)


def _row_bytes(code: Code, n: int, most: int = SIDE_BY_SIDE) -> int:
    """Bytes from one row of a panel to the next."""
    return panels_of(n, code.width, most)[1] * code.width * code.size


def _each_panel(
    code: Code,
    n: int,
    panels: str,
    rows: int,
    body: Callable[[Index, str, int, int], None],
    most: int = SIDE_BY_SIDE,
) -> None:
    """Write what is done for each panel of ``n`` targets.

    Parameters
    ----------
    code : Code
    n : int
    panels, rows : str, int
        Where the first panel begins; each has so many rows.
    body : callable
        ``body(start, place, vectors, lanes)``: the first target, where its panel begins,
        and how many vectors there are, of which the last one has so many lanes in use.
    most : int, optional
        Vectors of a panel at most.
    """
    count, vectors = panels_of(n, code.width, most)
    step = vectors * code.width
    nbytes = rows * step * code.size
    whole = count if n == count * step else count - 1
    if whole:
        with code.loop(whole) as loop:
            place = code.at(panels, code.times(loop.i, nbytes))
            body(code.times(loop.i, step), place, vectors, code.width)
    if whole < count:
        left = n - whole * step
        some = -(-left // code.width)
        lanes = left - (some - 1) * code.width
        body(whole * step, code.at(panels, whole * nbytes), some, lanes)


def _at_most(code: Code, i: Index, most: int) -> str:
    """The smaller one of two indices."""
    less = code.emit(f"icmp slt i64 {i}, {most}")
    return code.emit(f"select i1 {less}, i64 {i}, i64 {most}")


def _store_number(code: Code, number: str, place: str) -> None:
    code.do(f"store i64 {number}, ptr {place}, align 8")


def _gathered(
    code: Code,
    found: tuple[str, str],
    factors: tuple[str, int],
    rows: tuple[str, int],
    sums: list[str],
) -> list[str]:
    """Add rows of a panel, each times a factor, to some vectors of sums.

    Parameters
    ----------
    code : Code
    found : tuple of (str, str)
        How many rows; where their indices are, four bytes each.
    factors, rows : tuple of (str, int)
        Where those of the first row of all begin, and how many bytes from one to the
        next.
    sums : list of str
    """
    number, indices = found
    nbytes = code.width * code.size
    with code.loop(number, 1, sums, maybe_empty=True) as loop:
        j = code.load_index(code.at(indices, code.times(loop.i, 4)))
        factor = code.load_scalar(code.at(factors[0], code.times(j, factors[1])))
        factor = code.splat(factor)
        row = code.at(rows[0], code.times(j, rows[1]))
        for q in range(len(sums)):
            part = code.load(code.at(row, q * nbytes))
            loop.next[q] = code.fma(part, factor, loop.carried[q])
    return loop.results


def _load(code: Code, place: str, vectors: int, lanes: int) -> list[str]:
    """Vectors that lie side by side, the last one of ``lanes`` numbers and zeros."""
    nbytes = code.width * code.size
    full = vectors if lanes == code.width else vectors - 1
    found = [code.load(code.at(place, q * nbytes)) for q in range(full)]
    if full < vectors:
        last = code.at(place, full * nbytes)
        numbers = [code.load_scalar(code.at(last, q * code.size)) for q in range(lanes)]
        zeros = [code.number(0.0)] * (code.width - lanes)
        found.append(code.pack([*numbers, *zeros]))
    return found


def _store(code: Code, vectors: list[str], place: str, lanes: int) -> None:
    """Write vectors side by side, of the last one ``lanes`` numbers."""
    nbytes = code.width * code.size
    full = len(vectors) if lanes == code.width else len(vectors) - 1
    for q in range(full):
        code.store(vectors[q], code.at(place, q * nbytes))
    if full < len(vectors):
        last = code.at(place, full * nbytes)
        for q in range(lanes):
            number = code.lane(vectors[-1], q)
            code.store_scalar(number, code.at(last, q * code.size))


def least_size(dtype: Any) -> int:
    """How many neurons there must be on either side of a matrix.

    Examples
    --------
    >>> least_size("float32")
    16
    """
    return LINE // np.dtype(dtype).itemsize


@functools.lru_cache(maxsize=64)
def _works(dtype: np.dtype, k: int, n: int) -> dict[str, Work]:
    """The machine code for one shape."""
    width = host_width(dtype)
    bodies = {
        "weights": functools.partial(weights_code, k=k, n=n),
        "product": functools.partial(product_code, k=k, n=n),
        "packing": functools.partial(packing_code, n=n),
        "gradient": functools.partial(gradient_code, k=k, n=n),
    }
    texts = []
    for name, write in bodies.items():
        code = Code(dtype, width, has_compress())
        write(code)
        texts.append(code.function(name, PARAMETERS))
    module = compile_text(module_text(texts))
    return {name: Work(module, name) for name in bodies}


def product(x: np.ndarray, a: np.ndarray, threads: int = 1) -> np.ndarray:
    """The product of spikes and weights, ``x @ a.T``.

    Parameters
    ----------
    x : (rows, k) array
        The result is right whatever it holds; it takes long if few elements are zero.
    a : (n, k) array
        Of the same type. Both ``k`` and ``n`` are at least `least_size`.
    threads : int, optional
        How many may compute, if there is enough to do for them.

    Returns
    -------
    (rows, n) ndarray

    Examples
    --------
    >>> spikes = np.eye(20, dtype="float32")
    >>> a = np.arange(400, dtype="float32").reshape(20, 20)
    >>> bool((product(spikes, a) == a.T).all())
    True
    """
    (rows, k), n = x.shape, len(a)
    x, a = np.ascontiguousarray(x), np.ascontiguousarray(a)
    y = reused_array((rows, n), x.dtype)  # others TensorFlow copies
    if not rows:
        return y
    works, width = _works(x.dtype, k, n), host_width(x.dtype)
    threads = shared(threads, rows * k * n, PRODUCT_SHARED)
    count, vectors = panels_of(n, width)
    w = reused_array((count, k, vectors * width), x.dtype)
    if n < count * vectors * width:
        w[-1, :, n % (vectors * width) :] = 0
    pieces = PIECES * threads if threads > 1 else 1
    parts = parts_of(-(-k // width), 1, pieces)
    works["weights"](table_of(a, w, parts), parts[2], threads)
    nbytes = 8 * ROWS + 4 * k * ROWS + LINE
    rooms = reused_array((threads, nbytes), np.uint8)
    parts = parts_of(rows, 1, pieces)
    works["product"](table_of(x, w, y, rooms, nbytes, parts), parts[2], threads)
    return y


def gradient(x: np.ndarray, g: np.ndarray, threads: int = 1) -> np.ndarray:
    """The gradient of the weights of `product`, ``g.T @ x``.

    Parameters
    ----------
    x : (rows, k) array
    g : (rows, n) array
        The gradient of the product.
    threads : int, optional

    Returns
    -------
    (n, k) ndarray

    Examples
    --------
    >>> spikes = np.eye(20, dtype="float32")
    >>> g = np.arange(400, dtype="float32").reshape(20, 20)
    >>> bool((gradient(spikes, g) == g.T).all())
    True
    """
    (rows, k), n = x.shape, g.shape[1]
    if not rows:
        return np.zeros((n, k), x.dtype)
    x, g = np.ascontiguousarray(x), np.ascontiguousarray(g)
    d, turned = (reused_array(shape, x.dtype) for shape in ((k, n), (n, k)))
    works, width = _works(x.dtype, k, n), host_width(x.dtype)
    threads = shared(threads, rows * k * n, PRODUCT_SHARED)
    if packs(n, width):
        count, vectors = panels_of(n, width, wide(width))
        tiles = -(-rows // GRADIENT_ROWS)
        shape = tiles, count, GRADIENT_ROWS, vectors * width
        panels = reused_array(shape, x.dtype)
        works["packing"](table_of(g, panels, rows), tiles, threads)
        g = panels
    parts = parts_of(k, LINE // x.itemsize, PIECES * threads if threads > 1 else 1)
    most = k - parts[1] * (parts[2] - 1), parts[1]
    nbytes = max(most) * LIST_BYTES
    rooms = reused_array((threads, nbytes), np.uint8)
    table = table_of(x, g, d, turned, rooms, nbytes, parts, rows)
    works["gradient"](table, parts[2], threads)
    return turned
