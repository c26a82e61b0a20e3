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

import ctypes
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from nengo_dl.runtime.native.blocks import in_threads
from nengo_dl.runtime.native.code import Code, Index, module_text
from nengo_dl.runtime.native.compile import compile_text, host_width
from nengo_dl.runtime.native.matrices import SIDE_BY_SIDE
from nengo_dl.runtime.native.memory import aligned_array
from nengo_dl.runtime.native.spikes import each_nonzero

#: rows of ``x`` of which it is noted at a time what is not zero, before a panel is read
#: for all of them, while it is in a cache
ROWS = 128

#: the same for the gradient, where a panel of the gradient of ``y`` stays in a cache
GRADIENT_ROWS = 256

#: bytes of a row that are compared with 0 at a time for the gradient: a cache line
LINE = 64

#: multiplications of a product without zeros from which on threads share it: to begin and
#: end one takes 0.1 ms
THREADS_WORK = 2**27

#: pieces of work for each thread: the last ones to end are short
PIECES = 4


def panels_of(n: int, width: int) -> tuple[int, int]:
    """How many panels ``n`` targets are cut into, and how many vectors one has.

    Examples
    --------
    >>> panels_of(256, 8), panels_of(100, 8)
    ((4, 8), (2, 7))
    """
    vectors = -(-n // width)
    count = -(-vectors // SIDE_BY_SIDE)
    return count, -(-vectors // count)


def product_code(code: Code, k: int, n: int) -> None:
    """The body of ``product(x, w, y, room, rows)``.

    Parameters
    ----------
    code : Code
        What it is written to. ``%x``: rows of ``k`` numbers; ``%w``: weights in panels,
        see `in_panels`; ``%y``: rows of ``n``. ``%room``: bytes to work with.
    k, n : int
        At least as many as a vector has lanes.
    """
    size, lists = code.size, code.at("%room", 8 * ROWS)
    with code.loop("%rows", ROWS) as tile:
        count = _at_most(code, code.emit(f"sub nsw i64 %rows, {tile.i}"), ROWS)
        x = code.at("%x", code.times(tile.i, k * size))
        y = code.at("%y", code.times(tile.i, n * size))
        with code.loop(count) as row:
            found = code.at(lists, code.times(row.i, 4 * k))

            def note(j: Index, number: list[str], found: str = found) -> list[str]:
                code.store_index(j, code.at(found, code.times(number[0], 4)))
                return [str(code.plus(number[0], 1))]

            here = code.at(x, code.times(row.i, k * size))
            (number,) = each_nonzero(code, here, k, ["0"], note, kind="i64")
            _store_number(code, number, code.at("%room", code.times(row.i, 8)))

        def panel(start: Index, weights: str, vectors: int, lanes: int) -> None:
            with code.loop(count) as row:
                number = code.load_scalar(code.at("%room", code.times(row.i, 8)), "i64")
                found = code.at(lists, code.times(row.i, 4 * k))
                here = code.at(x, code.times(row.i, k * size))
                sums = [code.const(0.0)] * vectors
                rows = weights, _row_bytes(code, n)
                sums = _gathered(code, (number, found), here, rows, sums, by_index=True)
                target = code.at(y, code.times(row.i, n * size))
                target = code.at(target, code.times(start, size))
                _store(code, sums, target, lanes)

        _each_panel(code, n, "%w", k, panel)


def gradient_code(code: Code, k: int, n: int) -> None:
    """The body of ``gradient(x, g, d, turned, room, rows, first, last)``.

    Parameters
    ----------
    code : Code
        What it is written to. ``%x``, ``%g``: rows of ``k`` and of ``n`` numbers; ``%d``:
        ``k`` rows of ``n``; those from ``%first`` to ``%last`` are written, which
        are multiples of the numbers in a cache line, or ``k``. ``%turned``: the same as
        ``n`` rows of ``k``. ``%room``: bytes to work with.
    k, n : int
        At least as many as a cache line holds.
    """
    size, lanes = code.size, LINE // code.size
    full, rest = k // lanes * lanes, k % lanes
    lists = code.at("%room", panels_bytes(n, code.width, size))
    with code.loop("%rows", GRADIENT_ROWS) as tile:
        left = code.emit(f"sub nsw i64 %rows, {tile.i}")
        count = _at_most(code, left, GRADIENT_ROWS)
        x = code.at("%x", code.times(tile.i, k * size))
        _pack(code, code.at("%g", code.times(tile.i, n * size)), "%room", count, n)
        stop = _at_most(code, "%last", full)
        span = code.emit(f"sub nsw i64 {stop}, %first")
        with code.loop(span, lanes, maybe_empty=True) as loop:
            line = code.at(lists, code.times(loop.i, _list_bytes(size)))
            start = code.at(x, code.times(code.plus(loop.i, "%first"), size))
            _note_rows(code, start, k, count, line, lanes)
        if rest:
            # the last features: a line that ends where the row does
            mine = code.emit(f"icmp eq i64 %last, {k}")
            once = code.emit(f"zext i1 {mine} to i64")
            with code.loop(once, maybe_empty=True):
                offset = code.emit(f"sub nsw i64 {k - lanes}, %first")
                line = code.at(lists, code.times(offset, _list_bytes(size)))
                _note_rows(code, code.at(x, (k - lanes) * size), k, count, line, rest)
        clear = code.splat(code.emit(f"icmp eq i64 {tile.i}, 0"), "i1")

        def panel(start: Index, rows: str, vectors: int, some: int) -> None:
            with code.loop(code.emit("sub nsw i64 %last, %first")) as feature:
                found = code.at(lists, code.times(feature.i, _list_bytes(size)))
                j = code.plus(feature.i, "%first")
                place = code.at("%d", code.times(j, n * size))
                place = code.at(place, code.times(start, size))
                sums = _load(code, place, vectors, some)
                sums = [code.select(clear, code.const(0.0), s) for s in sums]
                numbered = _numbered(code, found)
                factors = code.at(numbered[1], 4 * GRADIENT_ROWS)
                panel_rows = rows, _row_bytes(code, n)
                sums = _gathered(code, numbered, factors, panel_rows, sums)
                _store(code, sums, place, some)

        _each_panel(code, n, "%room", GRADIENT_ROWS, panel)
    _turn(code, k, n)


def _turn(code: Code, k: int, n: int) -> None:
    """Copy columns ``%first`` to ``%last`` of ``turned`` from rows of ``d``.

    A vector of a row goes to as many rows of ``turned``, whose cache lines the next
    features fill. NumPy would do it while it keeps other threads waiting for Python.
    """
    size = code.size

    def column(target: Index) -> None:
        row = code.at("%turned", code.times(target, k * size))
        source = code.at("%d", code.times(target, size))
        with code.loop(code.emit("sub nsw i64 %last, %first")) as feature:
            j = code.plus(feature.i, "%first")
            vector = code.load(code.at(source, code.times(j, n * size)))
            code.store_spread(vector, code.at(row, code.times(j, size)), k * size)

    with code.loop(n // code.width, 1) as loop:
        column(code.times(loop.i, code.width))
    if n % code.width:
        column(n - code.width)  # some of them once more


def _list_bytes(size: int) -> int:
    """Bytes for the rows in which a feature is not zero: how many, which, its values."""
    return 8 + (4 + size) * GRADIENT_ROWS


def panels_bytes(n: int, width: int, size: int) -> int:
    """Bytes of the rows of a gradient that are summed up at a time, in panels."""
    count, vectors = panels_of(n, width)
    return count * vectors * width * size * GRADIENT_ROWS


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
    size, lanes = code.size, LINE // code.size
    for j in range(lanes - new, lanes):
        _store_number(code, "0", code.at(lists, j * _list_bytes(size)))
    with code.loop(count) as row:
        here = code.at(x, code.times(row.i, k * size))
        masks = [
            code.cmp("une", code.load(code.at(here, q * size)), code.const(0.0))
            for q in range(0, lanes, code.width)
        ]
        bits = code.mask_bits(masks)
        if new < lanes:
            keep = (1 << lanes) - (1 << (lanes - new))
            bits = code.emit(f"and i64 {bits}, {keep}")
        with code.set_bits(bits) as bit:
            found = code.at(lists, code.times(bit.i, _list_bytes(size)))
            number, indices = _numbered(code, found)
            code.store_index(row.i, code.at(indices, code.times(number, 4)))
            value = code.load_scalar(code.at(here, code.times(bit.i, size)))
            values = code.at(indices, 4 * GRADIENT_ROWS)
            code.store_scalar(value, code.at(values, code.times(number, size)))
            _store_number(code, str(code.plus(number, 1)), found)


def _pack(code: Code, g: str, panels: str, count: str, n: int) -> None:
    """Copy rows of ``n`` numbers into panels."""

    def panel(start: Index, place: str, vectors: int, lanes: int) -> None:
        with code.loop(count) as row:
            source = code.at(g, code.times(row.i, n * code.size))
            source = code.at(source, code.times(start, code.size))
            target = code.at(place, code.times(row.i, _row_bytes(code, n)))
            for q, vector in enumerate(_load(code, source, vectors, lanes)):
                code.store(vector, code.at(target, q * code.width * code.size))

    _each_panel(code, n, panels, GRADIENT_ROWS, panel)


def _row_bytes(code: Code, n: int) -> int:
    """Bytes from one row of a panel to the next."""
    return panels_of(n, code.width)[1] * code.width * code.size


def _each_panel(
    code: Code,
    n: int,
    panels: str,
    rows: int,
    body: Callable[[Index, str, int, int], None],
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
    """
    count, vectors = panels_of(n, code.width)
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


def _at_most(code: Code, i: str, most: int) -> str:
    """The smaller one of two indices."""
    less = code.emit(f"icmp slt i64 {i}, {most}")
    return code.emit(f"select i1 {less}, i64 {i}, i64 {most}")


def _store_number(code: Code, number: str, place: str) -> None:
    code.do(f"store i64 {number}, ptr {place}, align 8")


def _gathered(
    code: Code,
    found: tuple[str, str],
    factors: str,
    rows: tuple[str, int],
    sums: list[str],
    by_index: bool = False,
) -> list[str]:
    """Add rows of a panel, each times a factor, to some vectors of sums.

    Parameters
    ----------
    code : Code
    found : tuple of (str, str)
        How many rows; where their indices are, four bytes each.
    factors : str
        Where the factors are: of the rows that were found, or of all rows if they are
        found there ``by_index``.
    rows : tuple of (str, int)
        Where the panel begins, and how many bytes from one row to the next.
    sums : list of str
    by_index : bool, optional
    """
    number, indices = found
    nbytes = code.width * code.size
    with code.loop(number, 1, sums, maybe_empty=True) as loop:
        j = code.load_index(code.at(indices, code.times(loop.i, 4)))
        place = code.at(factors, code.times(j if by_index else loop.i, code.size))
        factor = code.splat(code.load_scalar(place))
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


def in_panels(a: np.ndarray) -> np.ndarray:
    """The weights of a matrix as `product` reads them.

    Parameters
    ----------
    a : (n, k) array

    Returns
    -------
    (panels, k, targets) ndarray
        For each panel, and each of the ``k`` neurons, the weights to the targets of the
        panel, and zeros if there are fewer targets.
    """
    n, k = a.shape
    count, width = panel_shape(n, a.dtype)
    padded = np.pad(a, [(0, count * width - n), (0, 0)])
    panels = aligned_array((count, k, width), a.dtype)
    panels[...] = padded.reshape(count, width, k).transpose(0, 2, 1)
    return panels


def panel_shape(n: int, dtype: Any) -> tuple[int, int]:
    """How many panels there are for ``n`` targets, and how many targets are in one."""
    width = host_width(dtype)
    count, vectors = panels_of(n, width)
    return count, vectors * width


def least_size(dtype: Any) -> int:
    """How many neurons there must be on either side of a matrix.

    Examples
    --------
    >>> least_size("float32")
    16
    """
    return LINE // np.dtype(dtype).itemsize


@functools.lru_cache(maxsize=64)
def _functions(dtype: np.dtype, k: int, n: int) -> tuple[Any, Any]:
    """The machine code of both functions for one shape."""
    width = host_width(dtype)
    product, gradient = Code(dtype, width), Code(dtype, width)
    product_code(product, k, n)
    gradient_code(gradient, k, n)
    places = [*(f"ptr %{name}" for name in ("x", "w", "y", "room")), "i64 %rows"]
    names = "x", "g", "d", "turned", "room"
    others = [*(f"ptr %{name}" for name in names), "i64 %rows"]
    others += ["i64 %first", "i64 %last"]
    texts = product.function("product", places), gradient.function("gradient", others)
    module = compile_text(module_text(texts))
    kinds = [ctypes.c_void_p] * 5 + [ctypes.c_int64] * 3
    return (
        module.function("product", None, kinds[1 : len(places) + 1]),
        module.function("gradient", None, kinds),
    )


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
    x, w = np.ascontiguousarray(x), in_panels(a)
    y = aligned_array((rows, n), x.dtype)  # others TensorFlow copies
    function, _ = _functions(x.dtype, k, n)
    room = 8 * ROWS + 4 * k * ROWS
    start, weights, target = (array.ctypes.data for array in (x, w, y))

    def piece(first: int, last: int, place: int) -> None:
        source = start + first * x.strides[0]
        function(source, weights, target + first * y.strides[0], place, last - first)

    threads = threads if rows * k * n >= THREADS_WORK else 1
    pieces = threads * PIECES if threads > 1 else 1
    _in_pieces(rows, ROWS, pieces, threads, room, piece)
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
    d, turned = (aligned_array(shape, x.dtype) for shape in ((k, n), (n, k)))
    _, function = _functions(x.dtype, k, n)
    lanes = LINE // x.itemsize

    places = [array.ctypes.data for array in (x, g, d, turned)]

    def piece(first: int, last: int, place: int) -> None:
        # a function of all features: it finds its own
        function(*places, place, rows, first, last)

    pieces = threads if rows * k * n >= THREADS_WORK else 1
    most = -(-k // pieces) + 2 * lanes  # features in a piece
    room = panels_bytes(n, host_width(x.dtype), x.itemsize) + most * _list_bytes(
        x.itemsize
    )
    _in_pieces(k, lanes, pieces, pieces, room, piece)
    return turned


def _in_pieces(
    count: int,
    unit: int,
    pieces: int,
    threads: int,
    room: int,
    piece: Callable[[int, int, int], None],
) -> None:
    """Call ``piece(first, last, place)`` for stretches of ``count``, in threads.

    Parameters
    ----------
    count, unit : int
        How many there are; pieces begin at multiples of ``unit``.
    pieces, threads : int
        How many at most.
    room : int
        How many bytes there are to be at ``place``.
    piece : callable
    """
    units = max(count // unit, min(count, 1))
    pieces = min(units, pieces)
    threads = min(pieces, threads)
    bounds = [unit * (units * q // pieces) for q in range(pieces)] + [count]
    rooms = [aligned_array((room,), np.uint8) for _ in range(threads)]

    def run(task: int, thread: int) -> None:
        piece(bounds[task], bounds[task + 1], rooms[thread].ctypes.data)

    in_threads(pieces, threads, run)
