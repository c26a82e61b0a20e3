"""The builder of machine code: each of its methods, for all widths."""

import re

import numpy as np
import pytest

from nengo_dl.runtime.native.code import Code
from tests.runtime.native_code import KINDS, block, machine_function, pytestmark_native

pytestmark = pytestmark_native
every_kind = pytest.mark.parametrize("dtype, width", KINDS)


def over(bodies, dtype, width, *arrays):
    """Rows of ``body(code, *x)`` vector by vector; ``arrays`` are full vectors."""
    n = arrays[0].size

    def write(code, y, *xs):
        with code.loop(n, width) as loop:
            offset = code.times(loop.i, code.size)
            args = [code.load(code.at(x, offset)) for x in xs]
            for k, body in enumerate(bodies):
                place = code.at(code.at(y, offset), k * n * code.size)
                code.store(body(code, *args), place)

    call = machine_function(write, dtype, width, len(arrays) + 1)
    return call(np.zeros((len(bodies), n), dtype), *arrays)[0]


@every_kind
def test_arithmetic_comparison_and_selection(dtype, width, rng):
    a, b = rng.uniform(-9, 9, (2, 4 * width)).astype(dtype)
    a[:3] = b[0], np.nan, -0.0
    table = {
        lambda c, x, y: c.op("fsub", x, y): a - b,
        lambda c, x, y: c.op("fdiv", x, y): a / b,
        lambda c, x, y: c.neg(x): -a,
        lambda c, x, y: c.intrinsic("fabs", x): abs(a),
        lambda c, x, y: c.intrinsic("floor", y): np.floor(b),
        lambda c, x, y: c.intrinsic("roundeven", y): np.rint(b),
        lambda c, x, y: c.intrinsic("copysign", y, x): np.copysign(b, a),
        lambda c, x, y: c.select(c.cmp("oge", x, y), x, y): np.where(a >= b, a, b),
        lambda c, x, y: c.select(c.cmp("une", x, y), x, c.const(0.1)): np.where(
            a != b, a, np.array(0.1, dtype)
        ),
        lambda c, x, y: c.select(c.invert(c.cmp("uno", x, x)), x, y): np.where(
            np.isnan(a), b, a
        ),
        lambda c, x, y: c.clamp(x, -2.5, 3.0): np.clip(a, -2.5, 3.0),
        lambda c, x, y: c.as_float(c.as_int(x)): a,
        lambda c, x, y: c.as_float(c.iop("or", c.as_int(x), c.as_int(x))): a,
    }
    results = over(table, dtype, width, a, b)
    for y, expected in zip(results, table.values()):
        assert y.tobytes() == expected.tobytes()


@every_kind
def test_fma_rounds_once(dtype, width):
    eps = np.finfo(dtype).eps
    x = np.full(width, 1 + eps, dtype)
    y = over([lambda c, a: c.fma(a, a, c.const(-1 - 2 * eps))], dtype, width, x)
    assert (y == eps**2).all()


@every_kind
def test_numbers_are_exact(dtype, width):
    values = [0.1, -0.0, np.inf, -np.inf, np.nan, 1e-42, 1e300, np.finfo(dtype).max]
    bodies = [lambda c, _, v=value: c.const(v) for value in values]
    results = over(bodies, dtype, width, np.zeros(width, dtype))
    for y, value in zip(results, values):
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(y, np.full(width, value).astype(dtype))
        assert np.signbit(y[0]) == np.signbit(value)


@every_kind
@pytest.mark.parametrize("n", (1, 3, 16, 21, 40))
def test_ragged_ends_are_left_alone(dtype, width, n, rng):
    x = rng.uniform(size=n).astype(dtype)

    def double(code, y, x):
        with code.loop(n, width) as loop:
            offset = code.times(loop.i, code.size)
            v = code.load(code.at(x, offset))
            mask = code.ragged(n, loop.i)
            code.store(code.op("fadd", v, v), code.at(y, offset), mask)

    # the margins of blocks are checked in there
    y, _ = machine_function(double, dtype, width)(np.zeros(n, dtype), x)
    assert (y == x + x).all()


@every_kind
@pytest.mark.parametrize("truth", (False, True))
def test_the_first_lanes_are_written_and_nothing_else(dtype, width, truth, rng):
    """As many stores as lanes there may be, one behind the other."""
    kind, size = (bool, 1) if truth else (dtype, np.dtype(dtype).itemsize)
    counts = range(1, width + 1)
    x = rng.uniform(size=width) < 0.5 if truth else rng.uniform(size=width).astype(dtype)

    def store(code, y, x):
        load, write = (code.load, code.store)
        if truth:
            load, write = code.load_bool, code.store_bool
        place = sum(counts)
        for count in counts:  # the last one first: what lies behind must stay
            place -= counts[-count]
            mask = code.fixed_mask(counts[-count])
            write(load(x), code.at(y, place * size), mask)

    y, _ = machine_function(store, dtype, width)(np.zeros(sum(counts), kind), x)
    np.testing.assert_array_equal(y, np.concatenate([x[:n] for n in counts]))


@every_kind
@pytest.mark.parametrize("n", (3, 37))
def test_truth_values(dtype, width, n, rng):
    a, b = rng.uniform(size=(2, n)) < 0.5

    def logic(code, y, a, b):
        with code.loop(n, width) as loop:
            p, q = (code.load_bool(code.at(x, loop.i)) for x in (a, b))
            one = code.splat_bool(b)
            either = code.logic("or", p, code.invert(q))
            value = code.select_mask(one, either, code.logic("and", p, q))
            code.store_bool(value, code.at(y, loop.i), code.ragged(n, loop.i))

    y, _, _ = machine_function(logic, dtype, width, 3)(np.zeros(n, bool), a, b)
    expected = a | ~b if b[0] else a & b
    assert (y == expected).all()


@every_kind
def test_carried_values_and_sums_of_lanes(dtype, width, rng):
    x = rng.randint(-99, 99, (5, 4 * width)).astype(dtype)  # sums are exact

    def sums(code, y, x):
        rows = []
        for row in range(5):
            with code.loop(4 * width, width, [code.const(0.0)]) as loop:
                place = code.at(x, row * 4 * width * code.size)
                v = code.load(code.at(place, code.times(loop.i, code.size)))
                loop.next = [code.op("fadd", loop.carried[0], v)]
            rows += loop.results
        code.store_totals(rows, y)

    y, _ = machine_function(sums, dtype, width)(np.zeros(5, dtype), x)
    assert (y == x.sum(axis=1)).all()


@every_kind
def test_totals_do_not_depend_on_how_many_there_are(dtype, width, rng):
    x = rng.randn(5, width).astype(dtype)

    def totals(code, one, together, x):
        rows = [code.load(code.at(x, k * width * code.size)) for k in range(5)]
        code.store_totals(rows, together)
        for k, row in enumerate(rows):
            code.store_scalar(code.total(row), code.at(one, k * code.size))

    zeros = np.zeros(5, dtype)
    one, together, _ = machine_function(totals, dtype, width, 3)(zeros, zeros, x)
    assert one.tobytes() == together.tobytes()
    np.testing.assert_allclose(one, x.sum(axis=1), atol=40 * np.finfo(dtype).eps)


@every_kind
@pytest.mark.parametrize("chosen", ([], [0], "last", "all", [1, 3]))
def test_set_bits(dtype, width, chosen, rng):
    x = np.zeros(width, dtype)
    lanes = {"last": [width - 1], "all": range(width)}.get(str(chosen), chosen)
    lanes = [k for k in lanes if k < width]
    x[lanes] = rng.uniform(1, 2, len(lanes))

    def spread(code, y, x):
        zero = code.const(0.0)
        mask = code.cmp("une", code.load(x), zero)
        with code.set_bits(code.mask_bits([mask]), [zero]) as bit:
            offset = code.times(bit.i, code.size)
            value = code.load_scalar(code.at(x, offset))
            code.store_scalar(value, code.at(y, offset))
            bit.next = [code.op("fadd", bit.carried[0], code.splat(value))]
        code.store(bit.results[0], code.at(y, width * code.size))

    y, _ = machine_function(spread, dtype, width)(np.zeros(2 * width, dtype), x)
    assert (y[:width] == x).all()
    np.testing.assert_allclose(y[width:], x.sum(), rtol=1e-6)


@every_kind
def test_bits_of_several_masks(dtype, width, rng):
    many = 64 // width
    x = rng.choice([0, 1], 64).astype(dtype)

    def number(code, found, x):
        parts = [code.load(code.at(x, k * width * code.size)) for k in range(many)]
        masks = [code.cmp("une", part, code.const(0.0)) for part in parts]
        with code.set_bits(code.mask_bits(masks), ["0"], kind="i64") as bit:
            place = code.at(found, code.times(bit.carried[0], 4))
            code.store_index(bit.i, place)
            bit.next = [code.plus(bit.carried[0], 1)]

    found, _ = machine_function(number, dtype, width)(np.full(64, 99, "u4"), x)
    expected = np.flatnonzero(x)
    assert found[: len(expected)].tolist() == expected.tolist()
    assert (found[len(expected) :] == 99).all()


def test_loops_that_may_be_empty(rng):
    counts = np.array([0, 3, 1, 0], np.int32)

    def count(code, y, counts):
        with code.loop(4) as outer:
            n = code.load_index(code.at(counts, code.times(outer.i, 4)))
            start = [code.const(7.0)]
            with code.loop(n, carried=start, maybe_empty=True) as inner:
                inner.next = [code.op("fadd", inner.carried[0], code.const(1.0))]
            place = code.at(y, code.times(outer.i, code.size))
            code.store_scalar(code.lane(inner.results[0], 0), place)

    y, _ = machine_function(count, "float32", 8)(np.zeros(4, "f4"), counts)
    assert y.tolist() == [7, 10, 8, 7]


def test_bytes_copied_and_cleared(rng):
    x = rng.randint(0, 255, 3000).astype(np.uint8)

    def copies(code, y, x):
        code.copy_bytes(y, x, 100)
        code.copy_bytes(code.at(y, 100), code.at(x, 100), 2800)
        code.clear_bytes(code.at(y, 2900), 60)

    y, _ = machine_function(copies, "float64", 2)(block(np.full(3000, 9, "u1")), x)
    assert (y[:2900] == x[:2900]).all()
    assert (y[2900:2960] == 0).all() and (y[2960:] == 9).all()


def test_numbers_that_lie_apart(rng):
    x = rng.randn(8, 3).astype("f4")

    def back(code, y, x):
        code.store_spread(code.load(x), code.at(y, 4), 12)

    y, _ = machine_function(back, "float32", 8)(np.zeros((8, 3), "f4"), x)
    assert (y[:, 1] == x.ravel()[:8]).all() and not y[:, [0, 2]].any()

    def truths(code, y, x):
        mask = code.cmp("ogt", code.load(x), code.const(0.0))
        code.store_spread(mask, code.at(y, 1), 3, count=5, kind="i1")

    y, _ = machine_function(truths, "float32", 8)(np.zeros((8, 3), "u1"), x)
    assert (y[:5, 1] == (x.ravel()[:5] > 0)).all() and not y[5:].any()
    assert not y[:, [0, 2]].any()


def test_vectors_of_fewer_lanes_in_between():
    def body(code, y):
        with code.narrowed(4):
            code.store(code.const(1.0), code.at(y, 8 * 4))
            with pytest.raises(ZeroDivisionError), code.narrowed(2):
                raise ZeroDivisionError
            assert code.width == 4
        code.store(code.const(2.0), y)

    (y,) = machine_function(body, "float32", 8, arrays=1)(np.zeros(16, "f4"))
    assert y.tolist() == 8 * [2] + 4 * [1] + 4 * [0]


def test_calls_and_early_returns():
    part = Code("float32", 8)
    part.store(part.op("fmul", part.load("%x"), part.const(2.0)), "%x")
    part = part.function("part", ["ptr %x"], private=True)

    def body(code, x, stop):
        code.call("@part", f"ptr {x}")
        first = code.load_scalar(stop, "i8")
        code.return_if(code.emit(f"icmp ne i8 {first}, 0"), "void")
        code.call("@part", f"ptr {x}")

    call = machine_function(body, "float32", 8, functions=[part])
    ones = np.ones(8, "f4")
    assert (call(ones, np.array([0], "u1"))[0] == 4).all()
    assert (call(ones, np.array([1], "u1"))[0] == 2).all()


def test_indices_are_computed_where_they_are_known():
    code = Code("float64", 4)
    assert code.times(3, 8) == 24 and code.plus(3, 4) == 7
    assert code.times("%i", 1) == "%i" and code.times("%i", 0) == 0
    assert code.plus(0, "%i") == code.plus("%i", 0) == "%i"
    assert code.at("%p", 0) == "%p"
    assert len(code) == 0


def test_what_cannot_be_built_is_refused():
    with pytest.raises(ValueError, match=re.escape("expected float32 or float64")):
        Code("int32", 4)
    with pytest.raises(ValueError, match="width is 6; expected a power of two"):
        Code("float32", 6)
    with pytest.raises(ValueError, match="the end is 0; expected a positive number"):
        with Code("float32", 4).loop(0):
            raise AssertionError("the body of a loop without rounds")
