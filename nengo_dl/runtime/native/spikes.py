"""The code of products from the neurons that spiked: few operands are not zero.

Elements are compared with 0, many at once, and only those that are not take part. The
results are right for any operand; one without zeros makes them slower.

Rows and columns are as in `nengo_dl.runtime.native.matrices`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial, reduce

import numpy as np

from nengo_dl.compiler.runs import stable_order
from nengo_dl.runtime.native import costs
from nengo_dl.runtime.native.code import Code, Index, Loop
from nengo_dl.runtime.native.matrices import SIDE_BY_SIDE, by_rows, in_tiles, in_vectors

#: lanes that are compared with 0 before the first one that is not is looked at
AT_ONCE = 64

#: numbers of whole rows that are multiplied in the time that one by itself takes
ONE_BY_ONE = 8

#: targets of a neuron that are added to in one round of a loop
TARGETS = 4


def each_nonzero(
    code: Code,
    x: str,
    k: int,
    carried: list[str],
    body: Callable[[Index, list[str]], list[str]],
    kind: str | None = None,
    room: str | None = None,
    ahead: Callable[[Index], None] | None = None,
) -> list[str]:
    """A loop over the elements of a vector of ``k`` numbers that are not 0.

    Parameters
    ----------
    code : Code
        What it is written to.
    x : str
        The address of the numbers.
    k : int
        How many there are.
    carried : list of str
        Values that go from one round to the next: their start.
    body : callable
        ``body(index, carried)`` writes one round; it returns the values for the next.
    kind : str, optional
        The type of the carried values (default: vectors of numbers).
    room : str, optional
        The address of `room_for_list` bytes. Then the elements are listed first where
        that is faster, see `noted`.
    ahead : callable, optional
        ``ahead(index)`` writes what had better happen some rounds before the one of an
        element. It is left out where elements are not listed.

    Returns
    -------
    list of str
        The carried values after the last round.
    """
    mask_at = partial(_nonzero_at, code, x)
    if room is None or not code.compresses:
        return each_set(code, mask_at, k, carried, body, kind)
    count = noted(code, mask_at, k, room)
    with _listed(code, count, room, ahead, carried, kind) as loop:
        loop.next = body(loop.i, list(loop.carried))
    return loop.results


@contextmanager
def _listed(
    code: Code,
    count: str,
    room: str,
    ahead: Callable[[Index], None] | None = None,
    carried: Sequence[str] = (),
    kind: str | None = None,
) -> Iterator[Loop]:
    """A loop over the ``count`` indices of a list, see `each_nonzero`."""
    with code.loop(count, 1, carried, kind, maybe_empty=True) as loop:
        if ahead is not None:
            later = code.emit(f"add i64 {loop.i}, {costs.ROUNDS_AHEAD}")
            there = code.emit(f"icmp slt i64 {later}, {count}")
            later = code.emit(f"select i1 {there}, i64 {later}, i64 {loop.i}")
            ahead(code.load_index(code.at(room, code.times(later, 4))))
        index = code.load_index(code.at(room, code.times(loop.i, 4)))
        element = Loop(index, list(loop.carried))
        yield element
        loop.next = element.next
    element.results = loop.results


def _nonzero_at(code: Code, x: str, i: Index) -> str:
    """The mask of the lanes from an index on that are not 0."""
    place = code.at(x, code.times(i, code.size))
    return code.cmp("une", code.load(place), code.const(0.0))


def each_set(
    code: Code,
    mask_at: Callable[[Index], str],
    k: int,
    carried: list[str],
    body: Callable[[Index, list[str]], list[str]],
    kind: str | None = None,
) -> list[str]:
    """A loop over those of ``k`` lanes that are set in masks, see `each_nonzero`.

    ``mask_at`` gives the mask of the lanes from an index on.
    """
    width = code.width

    def look(start: Index, count: int) -> None:
        nonlocal carried
        masks = []
        for q in range(0, count, width):
            mask = mask_at(code.plus(start, q))
            if count - q < width:
                mask = code.logic("and", mask, code.fixed_mask(count - q))
            masks.append(mask)
        with code.set_bits(code.mask_bits(masks), carried, kind) as bit:
            bit.next = body(code.plus(start, bit.i), bit.carried)
        carried = bit.results

    full = k // AT_ONCE * AT_ONCE
    if full:
        with code.loop(full, AT_ONCE, carried, kind) as loop:
            carried = list(loop.carried)
            look(loop.i, AT_ONCE)
            loop.next = carried
        carried = loop.results
    if full < k:
        look(full, k - full)
    return carried


def by_spikes(
    code: Code,
    columns: str,
    x: str,
    y: str,
    m: int,
    k: int,
    stride: int,
    room: str,
) -> None:
    """The columns of a matrix times the elements of ``x`` that are not 0, added up.

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
    room : str
        The address of `room_for_list` bytes to work with.
    """
    count = _noted(code, x, k, room)
    nbytes = code.width * code.size

    def rows(start: Index, vectors: int, mask: str | None) -> None:
        shift = code.times(start, code.size)
        place, sums = code.at(columns, shift), [code.const(0.0)] * vectors
        with code.loop(count, 1, sums, maybe_empty=True) as loop:
            j = code.load_index(code.at(room, code.times(loop.i, 4)))
            factor = code.splat(code.load_scalar(code.at(x, code.times(j, code.size))))
            column = code.at(place, code.times(j, stride))
            for q in range(vectors):
                part = code.load(code.at(column, q * nbytes))
                loop.next[q] = code.fma(part, factor, loop.carried[q])
        for q, total in enumerate(loop.results):
            last = q == vectors - 1
            there = code.at(code.at(y, shift), q * nbytes)
            code.store(total, there, mask if last else None)

    in_vectors(code, m, SIDE_BY_SIDE, rows)


def _noted(code: Code, x: str, k: int, room: str) -> str:
    """How many of ``k`` numbers are not 0; which ones these are is written down."""
    return noted(code, partial(_nonzero_at, code, x), k, room)


def noted(code: Code, mask_at: Callable[[Index], str], k: int, room: str) -> str:
    """How many of ``k`` lanes are set in masks, see `each_set`.

    Which ones these are is written to ``room``, the address of `room_for_list` bytes.
    Where an instruction puts lanes side by side, that takes no branches: how long does
    not depend on how many are set.
    """
    if code.compresses:
        return _noted_by_vector(code, mask_at, k, room)

    def note(j: Index, count: list[str]) -> list[str]:
        code.store_index(j, code.at(room, code.times(count[0], 4)))
        return [str(code.plus(count[0], 1))]

    (count,) = each_set(code, mask_at, k, ["0"], note, kind="i64")
    return count


def room_for_list(code: Code, k: int) -> int:
    """The bytes that `noted` works with: whole vectors are written."""
    return 4 * (k + code.width if code.compresses else k)


def _noted_by_vector(
    code: Code, mask_at: Callable[[Index], str], k: int, room: str
) -> str:
    """What `noted` gives, a vector at a time."""
    full, rest = k // code.width * code.width, k % code.width
    count = "0"
    if full:
        with code.loop(full, code.width, [count], "i64") as loop:
            loop.next = [append(code, mask_at(loop.i), loop.i, room, loop.carried[0])]
        (count,) = loop.results
    if rest:
        mask = code.logic("and", mask_at(full), code.fixed_mask(rest))
        count = append(code, mask, full, room, count)
    return count


def append(code: Code, mask: str, start: Index, room: str, count: str) -> str:
    """Append the numbers of set lanes, from ``start`` on, to a list; its new length.

    A whole vector is written: what lies behind the list is written later, or room.
    """
    indices = code.compress(code.counted(start), mask)
    place = code.at(room, code.times(count, 4))
    code.do(f"store <{code.width} x i32> {indices}, ptr {place}, align 4")
    return str(code.plus(count, code.count_set(mask)))


def from_rows(code: Code, a: str, x: str, y: str, m: int, k: int, room: str) -> None:
    """Columns of a matrix ``a`` that lies row by row, because it changes: `by_spikes`.

    Some rows are done side by side, one number after the other; where that is more than
    whole rows take, these are multiplied.
    """
    count = _noted(code, x, k, room)
    few = partial(_one_by_one, code, a, x, y, m, k, room, count)
    _by_number(code, count, k // ONE_BY_ONE, few, lambda: by_rows(code, a, x, y, m, k))


def _by_number(
    code: Code,
    count: str,
    limit: int,
    few: Callable[[], None],
    whole: Callable[[], None],
) -> None:
    """The code of one way up to a number of elements that are not 0, else of another."""
    many = code.emit(f"icmp sgt i64 {count}, {limit}")
    once = code.emit(f"zext i1 {many} to i64")
    with code.loop(once, maybe_empty=True):
        whole()
    once = code.emit(f"sub i64 1, {once}")
    with code.loop(once, maybe_empty=True):
        few()


def _one_by_one(
    code: Code, a: str, x: str, y: str, m: int, k: int, room: str, count: str
) -> None:
    """Rows times the numbers that are noted in ``room``."""
    element = code.element

    def rows(start: Index, many: int) -> None:
        first = code.at(a, code.times(start, k * code.size))
        with code.loop(count, 1, ["0.0"] * many, element, maybe_empty=True) as loop:
            j = code.load_index(code.at(room, code.times(loop.i, 4)))
            column = code.times(j, code.size)
            factor = code.load_scalar(code.at(x, column))
            for r in range(many):
                part = code.load_scalar(
                    code.at(code.at(first, r * k * code.size), column)
                )
                part = code.emit(f"fmul {element} {part}, {factor}")
                total = code.emit(f"fadd {element} {loop.carried[r]}, {part}")
                loop.next[r] = total
        for r, total in enumerate(loop.results):
            code.store_scalar(
                total, code.at(y, code.times(code.plus(start, r), code.size))
            )

    in_tiles(code, m, SIDE_BY_SIDE, rows)


def by_items(
    code: Code,
    columns: str,
    x: str,
    y: str,
    sizes: tuple[int, int, int],
    room: str,
    whole: Callable[[], None] | None = None,
    stride: int | None = None,
) -> None:
    """Columns of a matrix, item by item of a batch: see `by_spikes`.

    Where more than a share of the elements is not 0, it is the code of ``whole`` that
    runs, if that is given.

    Parameters
    ----------
    code : Code
        What it is written to.
    columns : str
        The address of the transposed matrix: its columns, one after the other.
    x, y : str
        The addresses of ``(k, n)`` and of ``(m, n)`` numbers.
    sizes : tuple of int
        ``m``, ``k`` and ``n``: the rows and columns of the matrix, and the items.
    room : str
        The address of ``4 n (k + 1)`` bytes to work with.
    whole : callable, optional
        Writes the code of the whole product.
    stride : int, optional
        Numbers from one column to the next; ``m`` by default.
    """
    m, k, n = sizes
    few = partial(_by_items, code, columns, x, y, sizes, room, stride or m)
    if whole is None:
        few()
        return
    limit = int(k * n * costs.share_by_item(m, n, code.width))
    _by_number(code, _number(code, x, k * n), limit, few, whole)


def _by_items(
    code: Code,
    columns: str,
    x: str,
    y: str,
    sizes: tuple[int, int, int],
    room: str,
    stride: int,
) -> None:
    """Write what `by_items` describes, for any number of elements that are not 0."""
    m, k, n = sizes
    nbytes, lists = code.width * code.size, code.at(room, 4 * n)
    _noted_by_item(code, x, k, n, room, lists)
    with code.loop(n) as item:
        mine = code.at(x, code.times(item.i, code.size))
        count = code.load_index(code.at(room, code.times(item.i, 4)))
        noted = code.at(lists, code.times(item.i, 4 * k))
        results = code.at(y, code.times(item.i, code.size))

        def rows(start: Index, vectors: int, mask: str | None) -> None:
            place = code.at(columns, code.times(start, code.size))
            sums = [code.const(0.0)] * vectors
            with code.loop(count, 1, sums, maybe_empty=True) as loop:
                j = code.load_index(code.at(noted, code.times(loop.i, 4)))
                factor = code.at(mine, code.times(j, n * code.size))
                factor = code.splat(code.load_scalar(factor))
                column = code.at(place, code.times(j, stride * code.size))
                for q in range(vectors):
                    part = code.load(code.at(column, q * nbytes))
                    loop.next[q] = code.fma(part, factor, loop.carried[q])
            there = code.at(results, code.times(start, n * code.size))
            for q, total in enumerate(loop.results):
                ragged = mask is not None and q == vectors - 1
                lanes = m % code.width if ragged else code.width
                place = code.at(there, q * n * nbytes)
                code.store_spread(total, place, n * code.size, lanes)

        in_vectors(code, m, SIDE_BY_SIDE, rows)


def of_spikes(code: Code, a: str, x: str, y: str, sizes: tuple[int, int, int]) -> None:
    """``y = a x`` where most of ``a`` is 0: in each row, a few rows of ``x``.

    Parameters
    ----------
    code : Code
        What it is written to.
    a, x, y : str
        The addresses of ``(m, k)``, of ``(k, n)`` and of ``(m, n)`` numbers.
    sizes : tuple of int
        ``m``, ``k`` and ``n``.
    """
    m, k, n = sizes
    nbytes = code.width * code.size
    with code.loop(m) as row:
        mine = code.at(a, code.times(row.i, k * code.size))
        results = code.at(y, code.times(row.i, n * code.size))

        def columns(start: Index, vectors: int, mask: str | None) -> None:
            shift = code.times(start, code.size)
            first = code.at(x, shift)

            def add(j: Index, sums: list[str]) -> list[str]:
                factor = code.at(mine, code.times(j, code.size))
                factor = code.splat(code.load_scalar(factor))
                here = code.at(first, code.times(j, n * code.size))
                parts = (code.load(code.at(here, q * nbytes)) for q in range(vectors))
                return [code.fma(p, factor, s) for p, s in zip(parts, sums, strict=True)]

            sums = each_nonzero(code, mine, k, [code.const(0.0)] * vectors, add)
            for q, total in enumerate(sums):
                place = code.at(code.at(results, shift), q * nbytes)
                code.store(total, place, mask if q == vectors - 1 else None)

        in_vectors(code, n, SIDE_BY_SIDE, columns)


def with_spikes(
    code: Code,
    a: str,
    x: str,
    y: str,
    sizes: tuple[int, int, int],
    room: str,
    whole: Callable[[], None],
) -> None:
    """``y = a x`` where most of ``x`` is 0, number by number.

    Parameters
    ----------
    code : Code
        What it is written to.
    a, x, y : str
        The addresses of ``(m, k)``, of ``(k, n)`` and of ``(m, n)`` numbers.
    sizes : tuple of int
        ``m``, ``k`` and ``n``.
    room : str
        The address of `room_for_numbers` bytes to work with.
    whole : callable
        Writes the code of the product for more numbers that are not 0.
    """
    m, k, n = sizes
    limit = costs.numbers_apart(k * n, code.width)
    count = _number(code, x, k * n)
    columns, factors = code.at(room, 4 * limit), code.at(room, 8 * limit)

    def note(place: Index, number: list[str]) -> list[str]:
        row = code.emit(f"udiv i64 {place}, {n}")
        column = code.emit(f"sub i64 {place}, {code.times(row, n)}")
        at = code.times(number[0], 4)
        code.store_index(code.times(row, code.size), code.at(room, at))
        code.store_index(code.times(column, code.size), code.at(columns, at))
        value = code.load_scalar(code.at(x, code.times(place, code.size)))
        code.store_scalar(value, code.at(factors, code.times(number[0], code.size)))
        return [str(code.plus(number[0], 1))]

    def rows(start: Index, size: int) -> None:
        first = code.at(a, code.times(start, k * code.size))
        results = code.at(y, code.times(start, n * code.size))
        code.clear_bytes(results, size * n * code.size)
        with code.loop(count, maybe_empty=True) as entry:
            at = code.times(entry.i, 4)
            source = code.at(first, code.load_index(code.at(room, at)))
            target = code.at(results, code.load_index(code.at(columns, at)))
            place = code.at(factors, code.times(entry.i, code.size))
            factor = code.load_scalar(place)
            for r in range(size):
                part = code.load_scalar(code.at(source, r * k * code.size))
                part = code.emit(f"fmul {code.element} {part}, {factor}")
                there = code.at(target, r * n * code.size)
                total = code.load_scalar(there)
                total = code.emit(f"fadd {code.element} {total}, {part}")
                code.store_scalar(total, there)

    def few() -> None:
        each_nonzero(code, x, k * n, ["0"], note, kind="i64")
        in_tiles(code, m, TARGETS, rows)

    _by_number(code, count, limit, few, whole)


def room_for_numbers(code: Code, k: int, n: int) -> int:
    """The bytes that `with_spikes` works with."""
    return (8 + code.size) * costs.numbers_apart(k * n, code.width)


def _number(code: Code, x: str, k: int) -> str:
    """How many of ``k`` numbers are not 0."""
    width = code.width
    code.declare("i64 @llvm.ctpop.i64(i64)")

    def counted(start: Index, count: int, total: str) -> str:
        masks = []
        for q in range(0, count, width):
            mask = _nonzero_at(code, x, code.plus(start, q))
            if count - q < width:
                mask = code.logic("and", mask, code.fixed_mask(count - q))
            masks.append(mask)
        bits = code.mask_bits(masks)
        more = code.emit(f"call i64 @llvm.ctpop.i64(i64 {bits})")
        return code.emit(f"add i64 {total}, {more}")

    total, full = "0", k // AT_ONCE * AT_ONCE
    if full:
        with code.loop(full, AT_ONCE, [total], "i64") as loop:
            loop.next = [counted(loop.i, AT_ONCE, loop.carried[0])]
        total = loop.results[0]
    return counted(full, k - full, total) if full < k else total


def _noted_by_item(code: Code, x: str, k: int, n: int, counts: str, lists: str) -> None:
    """Which of the ``k`` numbers of each item are not 0, and how many."""
    code.clear_bytes(counts, 4 * n)

    def note(place: Index, _: list[str]) -> list[str]:
        j = code.emit(f"udiv i64 {place}, {n}")
        item = code.emit(f"sub i64 {place}, {code.times(j, n)}")
        count_at = code.at(counts, code.times(item, 4))
        count = code.load_index(count_at)
        mine = code.at(lists, code.times(item, 4 * k))
        code.store_index(j, code.at(mine, code.times(count, 4)))
        code.store_index(code.plus(count, 1), count_at)
        return []

    each_nonzero(code, x, k * n, [], note)


def targets_of(index: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gathered sums the other way round: where each row goes to.

    Parameters
    ----------
    index : ndarray ``(terms, n)``
        ``y[i] = sum_t weights[t, i] * x[index[t, i]]``.
    k : int
        The elements of ``x``.

    Returns
    -------
    starts : ndarray ``(k + 1,)``
        Where the targets of each element of ``x`` begin in the next one.
    targets : ndarray ``(terms * n,)``
        Indices into ``y``.
    order : ndarray ``(terms * n,)``
        Indices into the weights, of which each belongs to one target.
    """
    order = stable_order(index.reshape(-1), k)
    counts = np.bincount(index.reshape(-1), minlength=k)
    starts = np.concatenate([[0], np.cumsum(counts)])
    return starts.astype(np.uint32), (order % index.shape[1]).astype(np.uint32), order


def to_targets(
    code: Code,
    x: str,
    y: str,
    n: int,
    k: int,
    starts: str,
    targets: str,
    weights: str,
    room: str,
) -> None:
    """Sums of weighted elements of ``x``, from each that is not 0 to its targets.

    Parameters
    ----------
    code : Code
        What it is written to.
    x, y : str
        The addresses of ``k`` and of ``n`` numbers.
    n, k : int
        How many there are.
    starts, targets : str
        The addresses of what `targets_of` gives.
    weights : str
        The address of the weights in the order of the targets.
    room : str
        The address of `room_for_list` bytes for ``k`` to work with.
    """
    code.clear_bytes(y, n * code.size)

    def spread(j: Index, _: list[str]) -> list[str]:
        factor = code.load_scalar(code.at(x, code.times(j, code.size)))

        def add(entry: Index) -> None:
            i = code.load_index(code.at(targets, code.times(entry, 4)))
            weight = code.load_scalar(code.at(weights, code.times(entry, code.size)))
            place = code.at(y, code.times(i, code.size))
            part = code.emit(f"fmul {code.element} {weight}, {factor}")
            old = code.load_scalar(place)
            code.store_scalar(code.emit(f"fadd {code.element} {old}, {part}"), place)

        _each_target(code, j, starts, add)
        return []

    fetch = partial(_fetch_targets, code, starts, targets, weights)
    each_nonzero(code, x, k, [], spread, room=room, ahead=fetch)


def rows_to_targets(
    code: Code,
    x: str,
    y: str,
    sizes: tuple[int, int, int],
    starts: str,
    targets: str,
    weights: str,
    room: str,
) -> None:
    """Write what `to_targets` writes, for rows of a batch.

    A row that is 0 for all items is left out.

    Parameters
    ----------
    code : Code
        What it is written to.
    x, y : str
        The addresses of ``(k, batch)`` and of ``(n, batch)`` numbers.
    sizes : tuple of int
        ``n``, ``k`` and ``batch``.
    starts, targets, weights : str
        As of `to_targets`.
    room : str
        The address of 4 ``k`` bytes to work with.
    """
    n, k, batch = sizes
    row, nbytes = batch * code.size, code.width * code.size
    code.clear_bytes(y, n * row)

    def columns(start: Index, vectors: int, mask: str | None) -> None:
        shift = code.times(start, code.size)
        here, there = code.at(x, shift), code.at(y, shift)
        count = _noted_rows(code, here, k, row, vectors, mask, room)
        with _listed(code, count, room, partial(_fetch_targets, code, *tables)) as one:
            mine = code.at(here, code.times(one.i, row))
            factors = [code.load(code.at(mine, q * nbytes)) for q in range(vectors)]

            def add(entry: Index) -> None:
                i = code.load_index(code.at(targets, code.times(entry, 4)))
                place = code.at(weights, code.times(entry, code.size))
                weight = code.splat(code.load_scalar(place))
                sums = code.at(there, code.times(i, row))
                for q, factor in enumerate(factors):
                    place = code.at(sums, q * nbytes)
                    new = code.fma(weight, factor, code.load(place))
                    code.store(new, place, mask if q == vectors - 1 else None)

            _each_target(code, one.i, starts, add)

    tables = starts, targets, weights
    in_vectors(code, batch, SIDE_BY_SIDE, columns)


def _noted_rows(
    code: Code, x: str, k: int, row: int, vectors: int, last: str | None, room: str
) -> str:
    """How many of ``k`` rows are not 0 all along; which ones these are is written down.

    ``last`` is the mask of the lanes of the last vector that belong to a row.
    """
    with code.loop(k, 1, ["0"], "i64") as loop:
        here, found = code.at(x, code.times(loop.i, row)), []
        for q in range(vectors):
            place = code.at(here, q * code.width * code.size)
            mask = code.cmp("une", code.load(place), code.const(0.0))
            keep = last if q == vectors - 1 else None
            found.append(mask if keep is None else code.logic("and", mask, keep))
        bits = code.mask_bits([reduce(partial(code.logic, "or"), found)])
        # a row that is 0 is written over by the next one
        code.store_index(loop.i, code.at(room, code.times(loop.carried[0], 4)))
        more = code.emit(f"zext i1 {code.emit(f'icmp ne i64 {bits}, 0')} to i64")
        loop.next = [str(code.plus(loop.carried[0], more))]
    return loop.results[0]


def _each_target(code: Code, j: Index, starts: str, add: Callable[[Index], None]) -> None:
    """A loop over the entries of one element of what `targets_of` gives."""
    place = code.at(starts, code.times(j, 4))
    first, last = code.load_index(place), code.load_index(code.at(place, 4))
    count = code.emit(f"sub i64 {last}, {first}")
    full = code.emit(f"and i64 {count}, {-TARGETS}")
    with code.loop(full, TARGETS, maybe_empty=True) as loop:
        for q in range(TARGETS):
            add(code.plus(code.plus(first, loop.i), q))
    rest = code.emit(f"sub i64 {count}, {full}")
    with code.loop(rest, maybe_empty=True) as loop:
        add(code.plus(code.plus(first, full), loop.i))


def _fetch_targets(code: Code, starts: str, targets: str, weights: str, j: Index) -> None:
    """Begin to load the first targets and weights of an element."""
    first = code.load_index(code.at(starts, code.times(j, 4)))
    for table, size in ((targets, 4), (weights, code.size)):
        place = code.at(table, code.times(first, size))
        for line in range(costs.LINES_AHEAD):
            code.prefetch(code.at(place, line * costs.ROW_BYTES))


# gathered sums of all rows


def gathered_lanes(
    code: Code, x: str, y: str, terms: int, n: int, places: str, weights: str
) -> None:
    """``y[i] = sum_t weights[t, i] * x[index[t, i]]``, one sum in each lane.

    Parameters
    ----------
    code : Code
        What it is written to.
    x, y : str
        The addresses of some numbers, and of ``n`` numbers.
    terms, n : int
        How many terms each sum has, and how many sums there are.
    places : str
        The address of ``(terms, n)`` unsigned integers of four bytes: how many bytes
        behind ``x`` each term is.
    weights : str
        The address of ``(terms, n)`` numbers.
    """

    def sums(start: Index, lanes: int) -> None:
        here, there = code.at(places, code.times(start, 4)), code.times(start, code.size)
        first = code.at(weights, there)

        def term(t: Index) -> tuple[str, str]:
            entries = code.at(here, code.times(t, 4 * n))
            found = []
            for lane in range(lanes):
                shift = code.load_index(code.at(entries, 4 * lane))
                found.append(code.load_scalar(code.at(x, shift)))
            return code.pack(found), code.load(
                code.at(first, code.times(t, n * code.size))
            )

        # added to -0, the first product is what it is, its sign included; a loop of all
        # terms is half as much code as one for the others
        with code.loop(terms, carried=[code.const(-0.0)]) as loop:
            loop.next = [code.fma(*term(loop.i), loop.carried[0])]
        total = loop.results[0]
        mask = code.fixed_mask(lanes) if lanes < code.width else None
        code.store(total, code.at(y, there), mask)

    in_tiles(code, n, code.width, sums)


def gathered_rows(
    code: Code, x: str, y: str, terms: int, n: int, batch: int, places: str, weights: str
) -> None:
    """Write what `gathered_lanes` writes, for rows of ``batch`` numbers each.

    ``places`` and ``weights`` are ``(n, terms)`` here.
    """
    row = batch * code.size
    with code.loop(n) as outer:
        entries = code.at(places, code.times(outer.i, 4 * terms))
        factors = code.at(weights, code.times(outer.i, terms * code.size))
        results = code.at(y, code.times(outer.i, row))

        def columns(start: Index, vectors: int, mask: str | None) -> None:
            shift = code.times(start, code.size)
            with code.loop(terms, 1, [code.const(0.0)] * vectors) as loop:
                here = code.load_index(code.at(entries, code.times(loop.i, 4)))
                place = code.at(code.at(x, here), shift)
                factor = code.at(factors, code.times(loop.i, code.size))
                factor = code.splat(code.load_scalar(factor))
                for q in range(vectors):
                    part = code.load(code.at(place, q * code.width * code.size))
                    loop.next[q] = code.fma(part, factor, loop.carried[q])
            for q, total in enumerate(loop.results):
                there = code.at(code.at(results, shift), q * code.width * code.size)
                code.store(total, there, mask if q == vectors - 1 else None)

        in_vectors(code, batch, SIDE_BY_SIDE, columns)
