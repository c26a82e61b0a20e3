"""Products from the neurons that spiked, and gathered sums, as machine code."""

import numpy as np
import pytest

from nengo_dl.runtime.native import spikes
from nengo_dl.runtime.native.compile import has_compress
from tests.runtime.native_code import KINDS, machine_function, pytestmark_native

pytestmark = pytestmark_native
every_kind = pytest.mark.parametrize("dtype, width", KINDS)


def spiking(n, rate, dtype, rng):
    """Values of which a share is not zero; one of the zeros is negative."""
    x = np.where(rng.uniform(size=n) < rate, rng.uniform(1, 2, n), 0).astype(dtype)
    x[0] = -0.0
    return x


def assert_close(y, exact, largest):
    assert (np.abs(y - exact) <= 8 * np.finfo(y.dtype).eps * largest).all()


def assert_product(y, a, x, rate):
    """Of two matrices, one of which has that share of elements that are not 0."""
    exact = a.astype(float) @ x.astype(float)
    assert_close(y, exact, abs(a).astype(float) @ abs(x).astype(float))
    if rate == 0:
        assert (y == 0).all()


def assert_few_or_whole(y, a, x, rate, width):
    """A product, in place of which sevens are written if all elements are not 0."""
    if rate == 1:
        assert (y.ravel()[:width] == 7).all()
        assert np.isnan(y.ravel()[width:]).all()
    else:
        assert_product(y, a, x, rate)


def functions(body, dtype, width, arrays):
    """Compiled without, and where there is one with, the instruction that lists lanes."""
    ways = (False, True)[: 1 + has_compress()]
    return [machine_function(body, dtype, width, arrays, compresses=w) for w in ways]


@every_kind
def test_columns_of_spikes(dtype, width, rng):
    for m, k in ((2 * width, 9), (8 * width, 64), (19 * width + 1, 150), (1, 70)):
        a = rng.randn(m, k).astype(dtype)

        def product(code, columns, x, y, room, m=m, k=k):
            spikes.by_spikes(code, columns, x, y, m, k, m * code.size, room)

        room = np.zeros(k + width, "u4")
        for call in functions(product, dtype, width, 4):
            for rate in (0, 0.1, 1):
                x = spiking(k, rate, dtype, rng)
                y = call(a.T, x, np.full(m, np.nan, dtype), room)[2]
                assert_product(y, a, x, rate)


def _list_of_spikes(k, dtype, width, compresses):
    """A function that lists which of ``k`` numbers are not 0, and how many these are."""

    def listed(code, x, room, count):
        def mask_at(i):
            here = code.load(code.at(x, code.times(i, code.size)))
            return code.cmp("une", here, code.const(0.0))

        code.store_index(spikes.noted(code, mask_at, k, room), count)

    return machine_function(listed, dtype, width, 3, compresses=compresses)


@pytest.mark.parametrize("compresses", [False, True])
@every_kind
def test_lists_of_spikes(dtype, width, compresses, rng):
    if compresses and not has_compress():
        pytest.skip("the processor has no instruction that puts lanes side by side")
    for k in (1, width, 5 * width + 3, 64, 150):
        call = _list_of_spikes(k, dtype, width, compresses)
        room = np.zeros(k + width if compresses and width >= 8 else k, "u4")
        for rate in (0, 0.1, 1):
            x = spiking(k, rate, dtype, rng)
            _, found, (count,) = call(x, room, np.zeros(1, "u4"))
            assert np.array_equal(found[:count], np.flatnonzero(x))


@every_kind
def test_items_from_their_own_spikes(dtype, width, rng, monkeypatch):
    """Few elements are looked for; the whole product is computed where there are many."""
    monkeypatch.setattr(spikes.costs, "share_by_item", lambda *sizes: 0.3)
    for m, k, n in ((2 * width, 9, 3), (8 * width, 64, width), (9 * width + 1, 70, 19)):
        a = rng.randn(m, k).astype(dtype)

        def product(code, columns, x, y, room, sizes=(m, k, n)):
            m, k, n = sizes

            def whole():
                code.store(code.const(7.0), y)

            spikes.by_items(code, columns, x, y, sizes, room, whole)

        call = machine_function(product, dtype, width, 4)
        for rate in (0, 0.1, 1):
            x = np.stack([spiking(k, rate, dtype, rng) for _ in range(n)], axis=1)
            y = np.full((m, n), np.nan, dtype)
            y = call(np.ascontiguousarray(a.T), x, y, np.zeros(n * (k + 1), "u4"))[2]
            assert_few_or_whole(y, a, x, rate, width)


@every_kind
def test_rows_that_are_mostly_zero(dtype, width, rng):
    for m, k, n in ((3, 9, width), (17, 70, 2 * width + 1), (5, 3, 9 * width)):

        def product(code, a, x, y, sizes=(m, k, n)):
            spikes.of_spikes(code, a, x, y, sizes)

        call = machine_function(product, dtype, width, 3)
        x = rng.randn(k, n).astype(dtype)
        for rate in (0, 0.1, 1):
            a = np.stack([spiking(k, rate, dtype, rng) for _ in range(m)])
            y = call(a, x, np.full((m, n), np.nan, dtype))[2]
            assert_product(y, a, x, rate)


@every_kind
def test_numbers_one_by_one(dtype, width, rng, monkeypatch):
    """Few are looked for; the whole product is computed where there are many."""
    monkeypatch.setattr(spikes.costs, "numbers_apart", lambda count, width: count // 4)
    for m, k, n in ((3, 9, 7), (17, 16, 2 * width + 1), (8, 3, 9 * width)):

        def product(code, a, x, y, room, sizes=(m, k, n)):
            def whole():
                code.store(code.const(7.0), y)

            spikes.with_spikes(code, a, x, y, sizes, room, whole)

        call = machine_function(product, dtype, width, 4)
        a = rng.randn(m, k).astype(dtype)
        for rate in (0, 0.1, 1):
            x = spiking(k * n, rate, dtype, rng).reshape(k, n)
            y = call(a, x, np.full((m, n), np.nan, dtype), np.zeros(4 * k * n, "u4"))[2]
            assert_few_or_whole(y, a, x, rate, width)


@every_kind
def test_not_a_number_counts_as_a_spike(dtype, width):
    x, columns = np.array([0, np.nan], dtype), np.ones((2, width), dtype)

    def product(code, columns, x, y, room):
        spikes.by_spikes(code, columns, x, y, width, 2, width * code.size, room)

    call = machine_function(product, dtype, width, 4)
    y = call(columns, x, np.zeros(width, dtype), np.zeros(2, "u4"))[2]
    assert np.isnan(y).all()


def gathered_case(dtype, rng, terms=7, n=45, k=90, batch=None):
    index = rng.randint(0, k - 5, (terms, n))  # the last rows go nowhere
    index[:3, :2] = 4  # one row to a sum more than once
    weights = rng.randn(terms, n).astype(dtype)
    x = spiking(k if batch is None else (k, batch), 0.3, dtype, rng)
    rows = x[index].astype(float) * weights.reshape(terms, n, *[1] * (x.ndim - 1))
    exact, largest = rows.sum(axis=0), abs(rows).sum(axis=0)
    return index, weights, x, exact, largest


@every_kind
def test_spikes_to_their_targets(dtype, width, rng):
    index, weights, x, exact, largest = gathered_case(dtype, rng)
    (_, n), k = index.shape, len(x)
    starts, targets, order = spikes.targets_of(index, k)

    def spread(code, x, y, starts, targets, weights, room):
        spikes.to_targets(code, x, y, n, k, starts, targets, weights, room)

    ordered, room = weights.reshape(-1)[order], np.zeros(k + width, "u4")
    for call in functions(spread, dtype, width, 6):
        y = call(x, np.full(n, np.nan, dtype), starts, targets, ordered, room)[1]
        assert_close(y, exact, largest)


@every_kind
def test_rows_of_spikes_to_their_targets(dtype, width, rng):
    for batch in (3, width, 2 * width + 1, 9 * width):
        index, weights, x, exact, largest = gathered_case(dtype, rng, batch=batch)
        x[7] = 0
        rows = x[index].astype(float) * weights[..., None]
        exact, largest = rows.sum(axis=0), abs(rows).sum(axis=0)
        sizes = n, k, batch = index.shape[1], *x.shape
        starts, targets, order = spikes.targets_of(index, k)

        def spread(code, x, y, starts, targets, weights, room, sizes=sizes):
            spikes.rows_to_targets(code, x, y, sizes, starts, targets, weights, room)

        call = machine_function(spread, dtype, width, 6)
        y, ordered = np.full((n, batch), np.nan, dtype), weights.reshape(-1)[order]
        y = call(x, y, starts, targets, ordered, np.zeros(k, "u4"))[1]
        assert_close(y, exact, largest)


@every_kind
@pytest.mark.parametrize("terms", (1, 4))
def test_gathered_sums(dtype, width, terms, rng):
    index, weights, x, exact, largest = gathered_case(dtype, rng, terms)
    n, places = index.shape[1], (index * x.itemsize).astype("u4")

    def gather(code, x, y, places, weights):
        spikes.gathered_lanes(code, x, y, terms, n, places, weights)

    call = machine_function(gather, dtype, width, 4)
    y = call(x, np.full(n, np.nan, dtype), places, weights)[1]
    assert_close(y, exact, largest)


@every_kind
@pytest.mark.parametrize("batch", (2, 21))
def test_gathered_sums_of_rows(dtype, width, batch, rng):
    index, weights, x, exact, largest = gathered_case(dtype, rng, batch=batch)
    terms, n = index.shape
    places = np.ascontiguousarray(index.T * batch * x.itemsize).astype("u4")

    def gather(code, x, y, places, weights):
        spikes.gathered_rows(code, x, y, terms, n, batch, places, weights)

    call = machine_function(gather, dtype, width, 4)
    y = call(x, np.full((n, batch), np.nan, dtype), places, weights.T)[1]
    assert_close(y, exact, largest)
