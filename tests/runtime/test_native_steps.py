"""Steps as machine code do what the recorded ones say, for all shapes and widths."""

import threading

import numpy as np
import pytest

from nengo_dl.runtime.executor import Unsupported
from nengo_dl.runtime.native import costs
from nengo_dl.runtime.native.step import NativeStep
from nengo_dl.runtime.native.writer import writer_of
from nengo_dl.runtime.numpy.namespace import Copy, Mask, Operation
from tests.runtime.namespace_cases import CASES
from tests.runtime.numpy_harness import carries, evaluate
from tests.runtime.test_numpy_codegen import REARRANGED, random_step

TOLERANCE = {"float32": 1e-5, "float64": 1e-13}


def gaps(block):
    """The first byte and the one after the last of all that no value has."""
    ends = [0, *(start + size for start, size in block.taken)]
    starts = [*(start for start, _ in block.taken), block.size]
    return list(zip(ends, starts, strict=True))


def blocks_of(one):
    """Places in each stretch of memory of a step, and its bytes."""
    places = one.places
    return [
        (places.state, one.state),
        (places.memory, one.memory),
        (places.fixed, one.fixed),
    ]


def poison(one):
    """Whatever is read beyond the end of a value is NaN."""
    for block, memory in blocks_of(one):
        for start, stop in gaps(block):
            memory[start:stop] = 0xFF


def is_poisoned(one):
    """Whether nothing was written beyond the end of a value."""
    return all(
        (memory[start:stop] == 0xFF).all()
        for block, memory in blocks_of(one)
        for start, stop in gaps(block)
    )


def compiled(step, carry, xs, weights, dtype, width=None):
    """The outputs of a compiled step, and the step; gaps in its memory are NaN."""
    n_in, batch = xs.shape[1:]
    one = NativeStep(step, carry, n_in, batch, weights, dtype, width=width)
    poison(one)
    out = one.room(len(xs))
    if one.advance(xs, out) != len(xs):
        one.python.raise_failure()
    assert is_poisoned(one)
    return out, one


def assert_agrees(step, carry, xs, weights=(), width=None, tol=None):
    """The same as without recording; exactly if there is no tolerance."""
    dtype = xs.dtype
    with np.errstate(all="ignore"):
        expected, last = evaluate(step, carry, xs, weights, dtype)
        found, one = compiled(step, carry, xs, list(weights), dtype, width)
    pairs = [*zip(expected, found, strict=True), *zip(last, one.carry, strict=True)]
    for a, b in pairs:
        if tol is None:
            np.testing.assert_array_equal(b, a)
        else:
            np.testing.assert_allclose(b, a, atol=tol, rtol=tol)
    return one


def kinds_of(one):
    """The names of the operations that a step consists of."""
    made = [ins for unit in one.plan.units for ins in unit.instructions]
    return {type(ins.operation).__name__ for ins in made}


# -- random steps ----------------------------------------------------------------------


class Exact:
    """A step of random operations that give the same to the bit, in any order of units.

    Arrays have ``n`` rows or one, and ``batch`` columns or one.
    """

    def __init__(self, seed, n_ops, weights):
        self.seed, self.n_ops, self.weights = seed, n_ops, weights

    def __call__(self, xp, carry, x, weights):
        self.xp, self.rng = xp, np.random.RandomState(self.seed)
        self.n, self.batch = x.shape
        self.pool = [*carry, x, *weights, x[:1], x[:, :1]]
        for _ in range(self.n_ops):
            makers = [self.arithmetic, self.choice, self.rows, self.parts, self.folded]
            self.pool.append(makers[self.rng.randint(len(makers))]())
        return [self.full() for _ in carry], xp.concat([self.full(), self.full()])

    def pick(self):
        late = self.rng.randint(2) and len(self.pool) > 8
        first = len(self.pool) - 4 if late else 0
        return self.pool[self.rng.randint(first, len(self.pool))]

    def full(self):
        return self.xp.broadcast(self.pick(), (self.n, self.batch))

    def arithmetic(self):
        xp, a, b = self.xp, self.pick(), self.pick()
        return [
            lambda: a + b,
            lambda: a - 0.25,
            lambda: xp.clip(a * b, -2, 2),
            lambda: xp.clip(a / (abs(b) + 1), -2, 2),
            lambda: -a,
            lambda: xp.abs(a),
            lambda: xp.floor(a * 3),
            lambda: xp.sign(b),
            lambda: xp.sqrt(xp.abs(a)),
        ][self.rng.randint(9)]()

    def choice(self):
        xp, a, b = self.xp, self.pick(), self.pick()
        condition = [
            lambda: a > b,
            lambda: (a <= b) & (b < 0.5),
            lambda: (a >= 0) | (b < a),
        ][self.rng.randint(3)]()
        return [
            lambda: xp.where(condition, a, b),
            lambda: xp.where(condition, self.pick(), 0),
            lambda: xp.maximum(a, b),
            lambda: xp.minimum(a, 0.5),
            lambda: condition * a,
        ][self.rng.randint(5)]()

    def rows(self):
        x, n = self.full(), self.n
        k = self.rng.randint(n)
        return [
            lambda: self.xp.take(x, self.rng.randint(n, size=n)),
            lambda: x[::-1],
            lambda: x[k : k + 1],
            lambda: self.xp.concat([x[k:], x[:k]]) if k else x,
            lambda: self.xp.concat([x[k:] * 0.5, self.full()[:k]]) if k else x,
        ][self.rng.randint(5)]()

    def parts(self):
        """A part of a concatenation that is used twice."""
        xp, a, b = self.xp, self.full() * 0.5, self.full()
        both = xp.concat([a, b, a])
        k = self.rng.randint(self.n)
        return both[k : k + self.n] + a

    def folded(self):
        """Through another shape, transposed."""
        xp, x = self.xp, self.full()
        size = self.n * self.batch
        k = max(k for k in range(1, 8) if size % k == 0)
        y = xp.reshape(xp.transpose(xp.reshape(x, (k, -1)), (1, 0)), (self.n, self.batch))
        return y * xp.float(0.5)


SHAPES = [(1, 1), (2, 1), (7, 1), (70, 1), (33, 2), (5, 3), (1, 8), (6, 17), (3, 64)]


@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("width", (4, 8, 16))
def test_random_arithmetic_is_exact(width, dtype, rng):
    for seed, shape in zip(rng.randint(2**31, size=len(SHAPES)), SHAPES, strict=True):
        carry = [rng.uniform(-1, 1, shape).astype(dtype) for _ in range(1 + seed % 4)]
        weights = [rng.uniform(-1, 1, s).astype(dtype) for s in (shape, (shape[0], 1))]
        xs = rng.uniform(-1, 1, (3, *shape)).astype(dtype)
        assert_agrees(Exact(seed, 4 + seed % 12, weights), carry, xs, weights, width)


@pytest.mark.parametrize("width", (4, 8))
def test_concatenations_are_divided_whatever_is_computed_of_them(width, monkeypatch, rng):
    """However short the parts are, and however much is computed of them."""
    for name, value in {"PART_VECTORS": 0, "LONG_VECTORS": 0, "DIVIDED": 100}.items():
        monkeypatch.setattr(costs, name, value)
    for seed, shape in zip(rng.randint(2**31, size=len(SHAPES)), SHAPES, strict=True):
        carry = [rng.uniform(-1, 1, shape) for _ in range(1 + seed % 4)]
        weights = [rng.uniform(-1, 1, s) for s in (shape, (shape[0], 1))]
        xs = rng.uniform(-1, 1, (3, *shape))
        assert_agrees(Exact(seed, 4 + seed % 12, weights), carry, xs, weights, width)


@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("batch", (1, 3, 9))
def test_random_steps(dtype, batch, rng):
    for seed in rng.randint(2**31, size=5):
        carry = [rng.uniform(-1, 1, (6, batch)) for _ in range(1 + seed % 5)]
        weights = [rng.uniform(-0.5, 0.5, (6, 6)), rng.uniform(-1, 0, (6, 1))]
        arrays = rng.uniform(-1, 1, (4, 6, batch)), carry, weights
        xs, carry, weights = (
            [a.astype(dtype) for a in x] if isinstance(x, list) else x.astype(dtype)
            for x in arrays
        )
        tol = {"float32": 2e-3, "float64": 1e-9}[dtype]
        assert_agrees(random_step(seed, 1 + seed % 30), carry, xs, weights, tol=tol)


def summed(seed, batch):
    """A step of sums and products of random sizes; what is carried is one of them."""
    rng = np.random.RandomState(seed)
    m, k, groups = rng.randint(1, 71, 2).tolist() + [rng.randint(1, 4)]
    shapes = [(m, k), (groups, m, k), (groups, 1, k), (k, 1)]
    index = rng.randint(k, size=(rng.randint(1, 71), m))

    def step(xp, carry, x, weights):
        a, stack, row, column = weights
        inner = carry[0] + xp.matmul(a, x)
        parts = [
            inner,
            xp.matmul(stack, xp.broadcast(x, (groups, k, batch))),
            xp.matmul(row, xp.broadcast(x * column, (groups, k, batch))),
            xp.sum(xp.take(x, index), 0),
            xp.sum(xp.reshape(x * column, (1, k, batch)), 1),
        ]
        rows = [xp.reshape(part, (-1, batch)) for part in parts]
        return [inner], xp.concat(rows)

    return step, (m, k), shapes


@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("width", (4, 8, 16))
def test_random_sums_are_right_to_eight_units(width, dtype, rng):
    """Of the last place of all terms together, whatever their order is."""
    for seed, batch in zip(rng.randint(2**31, size=3), (1, 3, 20), strict=True):
        step, (m, k), shapes = summed(seed, batch)
        weights = [rng.uniform(-1, 1, shape).astype(dtype) for shape in shapes]
        xs = rng.uniform(-1, 1, (2, k, batch)).astype(dtype)
        carry = [rng.uniform(-1, 1, (m, batch)).astype(dtype)]
        found, one = compiled(step, carry, xs, weights, dtype, width)
        exact, sizes = (
            evaluate(
                step, *([f(a) for a in c] for c in (carry, xs, weights)), "longdouble"
            )
            for f in (np.longdouble, lambda a: abs(np.longdouble(a)))
        )
        unit = 8 * np.finfo(dtype).eps
        for y, expected, size in zip(found, exact[0], sizes[0], strict=True):
            assert (abs(y - expected) <= unit * size).all(), (seed, batch)
        assert (abs(one.carry[0] - exact[1][0]) <= unit * sizes[1][0]).all()


@pytest.mark.parametrize("batch, width", [(1, None), (3, 4), (8, 16)])
def test_every_function_of_the_namespace(batch, width, rng):
    """All of them in one step, since each step is compiled."""

    def step(xp, carry, x, weights):
        (p,) = carry
        results = [f(xp, x, p) for _, f, _ in CASES]
        flat = [xp.reshape(y, (-1, 1)) for y in results]
        return [p], xp.broadcast(xp.concat(flat), (sum(len(y) for y in flat), 1))

    for dtype, tol in TOLERANCE.items():
        p = rng.uniform(0.2, 2, (6, batch)).astype(dtype)
        xs = rng.uniform(-2, 2, (2, 6, batch)).astype(dtype)
        assert_agrees(step, [p], xs, width=width, tol=tol)


# -- what is carried -------------------------------------------------------------------


@pytest.mark.parametrize("name", REARRANGED)
def test_carries_change_places(name, rng):
    """Cycles, delays, one result for several carries, and what is read afterwards."""

    def step(xp, carry, x, weights):
        return REARRANGED[name](xp, carry, x), xp.concat([carry[0], x[1:2]])

    xs = rng.uniform(-1, 1, (5, 4, 3))
    one = assert_agrees(step, carries(rng, 3), xs, width=4, tol=1e-13)
    assert len(one.carry) == 3


def test_what_is_carried_is_overwritten_in_place(rng):
    def step(xp, carry, x, weights):
        voltage, time = carry
        spiked = voltage > 0.5
        following = xp.where(spiked, 0, voltage * 0.9 + x)
        return [following, xp.where(spiked, 1.0, time - 0.1)], following * 2

    one = assert_agrees(step, carries(rng, 2), rng.uniform(-1, 1, (9, 4, 3)))
    assert one.plan.copied == 0 and len(one.plan.units) == 1
    assert one.plan.spans == {}  # nothing but the carries is in memory


@pytest.mark.parametrize("n", range(1, 18))
def test_results_are_computed_in_their_place(n, rng):
    """Those that are read again, parts of parts and carries as well."""

    def step(xp, carry, x, weights):
        a = xp.tanh(x) + carry[0]
        b = xp.sum(a * a, axis=0)
        inner = xp.concat([a, xp.reshape(b, (1, -1))])
        following = xp.concat([carry[0][1:], x[:1]])
        total = xp.matmul(weights[0], a)
        return [following], xp.concat([inner, x, total, following, a > 0.5])

    xs = rng.uniform(-1, 1, (4, n, 1))
    weights = [rng.uniform(-1, 1, (3, n))]
    one = assert_agrees(step, carries(rng, 1, n, 1), xs, weights, width=8, tol=1e-13)
    made = [ins.outputs[0] for unit in one.plan.units for ins in unit.instructions]
    assert all(value.shape != one.plan.y.shape for value in made)  # no copy of all


def test_a_result_that_is_carried_or_given_is_copied(rng):
    def step(xp, carry, x, weights):
        following = carry[0] * 0.5 + x
        return [following], following

    assert_agrees(step, carries(rng, 1), rng.uniform(-1, 1, (9, 4, 3)))
    same = lambda xp, carry, x, weights: ([carry[0] + 1], x)  # noqa: E731
    assert_agrees(same, carries(rng, 1), rng.uniform(-1, 1, (9, 4, 3)))


@pytest.mark.parametrize("batch, width", [(1, 4), (3, 4), (4, 4), (8, 8), (16, 8)])
def test_constants_are_carried_on(batch, width, rng):
    """For each item, whether or not items fill vectors; a weight as well."""
    constant, reverse = rng.uniform(size=(4, 1)), rng.uniform(size=(5, 4)).T[::-1]

    def step(xp, carry, x, weights):
        same, part, weight, total = carry
        following = [
            xp.broadcast(xp.constant(constant), (4, batch)),
            xp.broadcast(xp.constant(reverse[:, 1:2]), (4, batch)),
            xp.broadcast(weights[0][::-1], (4, batch)),
            total + x + same,
        ]
        return following, xp.concat([same, part, weight, total])

    xs = rng.uniform(-1, 1, (3, 4, batch))
    carry = [rng.uniform(size=(4, batch)) for _ in range(4)]
    assert_agrees(step, carry, xs, [rng.uniform(size=(4, 1))], width=width)


# -- what is fixed ---------------------------------------------------------------------


@pytest.mark.parametrize("batch", (1, 3, 16))
def test_weights_in_any_order_and_their_new_values(batch, rng):
    def step(xp, carry, x, weights):
        a, b, c = weights
        turned = xp.transpose(a, (1, 0))
        y = xp.matmul(turned, x) + xp.matmul(a, x) * b + xp.exp(c)[2:] + turned[:, 1:2]
        return [carry[0] + xp.sum(xp.reshape(y, (2, 2, batch)), 1)], y * b[::-1]

    weights = [rng.uniform(-1, 1, s) for s in ((4, 4), (4, 1), (6, 1))]
    xs = rng.uniform(-1, 1, (3, 4, batch))
    carry = [np.zeros((2, batch))]
    one = assert_agrees(step, carry, xs, weights, tol=1e-13)
    for weight in weights:
        weight *= -1.5
    one.refresh()
    one.set_carry(carry)
    out = one.room(len(xs))
    assert one.advance(xs, out) == len(xs)
    expected, _ = evaluate(step, carry, xs, weights, "float64")
    np.testing.assert_allclose(out, expected, atol=1e-13)


@pytest.mark.parametrize("weighted", (True, False))
@pytest.mark.parametrize("batch", (1, 2, 16))
def test_sums_of_rows(batch, weighted, rng):
    index = rng.randint(30, size=(5, 11))

    def step(xp, carry, x, weights):
        terms = xp.take(x, index)
        if weighted:
            terms = xp.reshape(weights[0], (5, 11, 1)) * terms
        return [carry[0] * 0.5 + xp.sum(terms, 0)], carry[0]

    weights = [rng.uniform(-1, 1, (5, 11))]
    xs = rng.uniform(-1, 1, (3, 30, batch))
    one = assert_agrees(step, [np.zeros((11, batch))], xs, weights, tol=1e-13)
    assert "Gathered" in kinds_of(one) and not {"Take", "Sum"} & kinds_of(one)


def test_sums_that_are_weighted_by_item_are_not_sums_of_rows(rng):
    """Weights for each batch item, as many as there are rows."""

    def step(xp, carry, x, weights):
        terms = xp.take(x, np.arange(12).reshape(4, 3))
        return [carry[0] + xp.sum(xp.reshape(weights[0], (4, 1, 3)) * terms, 0)], None

    xs, weights = rng.uniform(-1, 1, (3, 12, 3)), [rng.uniform(-1, 1, (4, 3))]
    expected = np.zeros((3, 3))
    one = NativeStep(step, [expected], 12, 3, weights, "float64")
    one.advance(xs, one.room(3))
    for x in xs:
        expected = expected + (weights[0][:, None] * x.reshape(4, 3, 3)).sum(0)
    np.testing.assert_allclose(one.carry[0], expected, atol=1e-13)


# -- loops -----------------------------------------------------------------------------


def test_populations_of_one_size_become_one_loop(rng):
    """Also if one lies in memory as a matrix, and the other one in a row."""

    def step(xp, carry, x, weights):
        matrix = xp.reshape(carry[0], (6, 4, 1)) + xp.reshape(x[:6], (6, 1, 1))
        row = carry[1] * 0.5 + 1
        return [xp.reshape(matrix, (24, 1)), row], row

    xs = rng.uniform(size=(3, 24, 1))
    one = assert_agrees(step, carries(rng, 2, 24, 1), xs, width=4)
    assert [unit.fused for unit in one.plan.units] == [True]
    assert one.plan.units[0].axes == (6, 4)


def test_loops_are_not_joined_if_lanes_would_be_empty(rng):
    def step(xp, carry, x, weights):
        matrix = xp.reshape(carry[0], (10, 5, 1)) + xp.reshape(x[:10], (10, 1, 1))
        row = carry[1] * 0.5 + 1
        return [xp.reshape(matrix, (50, 1)), row], row

    xs = rng.uniform(size=(3, 50, 1))
    one = assert_agrees(step, carries(rng, 2, 50, 1), xs, width=8)
    assert sorted(unit.axes for unit in one.plan.units) == [(10, 5), (50,)]


def test_numbers_come_before_loops(rng):
    """A loop that needs one of them joins the first one of its size."""

    def step(xp, carry, x, weights):
        number, state = carry
        first = xp.tanh(state + x)
        return [number[:1] * 1.0, first], first * (number[:1] * 0.5)

    xs = rng.uniform(-1, 1, (3, 20, 1))
    start = [rng.uniform(size=(1, 1)), rng.uniform(size=(20, 1))]
    one = assert_agrees(step, start, xs, (), 8, 1e-12)
    assert [unit.size for unit in one.plan.units].count(20) == 1


SIZES = [(1, 5, 40), (3, 2, 31), (4, 1, 8), (2, 3, 5)]


@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("groups, m, k", SIZES)
def test_a_matrix_is_changed_and_used_in_one_pass(groups, m, k, dtype, rng):
    """As decoders that learn are."""

    def step(xp, carry, x, weights):
        matrix, old = carry
        rate = xp.reshape(x[:k], (1, 1, k))
        error = xp.reshape(old, (groups, m, 1))
        matrix = xp.reshape(matrix, (groups, m, k)) + 0.1 * error * rate
        activities = xp.reshape(xp.broadcast(x[:k], (k, 1)), (1, k, 1))
        y = xp.reshape(xp.matmul(matrix, activities), (groups * m, 1))
        return [xp.reshape(matrix, (groups * m * k, 1)), xp.tanh(y)], y

    carry = [rng.uniform(-1, 1, (groups * m * k, 1)), rng.uniform(-1, 1, (groups * m, 1))]
    carry = [c.astype(dtype) for c in carry]
    xs = rng.uniform(-1, 1, (4, k + 1, 1)).astype(dtype)
    one = assert_agrees(step, carry, xs, width=8, tol=20 * TOLERANCE[dtype])
    assert ("Total" in kinds_of(one)) == (k >= 8)
    assert one.plan.copied == 0


@pytest.mark.parametrize("groups, k", [(1, 70), (5, 8), (3, 31)])
def test_sums_over_what_a_loop_computes_need_not_store_it(groups, k, rng):
    """As decoded values of one dimension are; what is no sum may join them."""

    def step(xp, carry, x, weights):
        rates = xp.maximum(carry[0] + x, 0)
        stacked = xp.reshape(rates, (groups, k, 1))
        y = xp.reshape(xp.matmul(weights[0], stacked), (groups, 1))
        z = xp.reshape(xp.matmul(weights[1], stacked), (groups, 1))
        return [rates * 0.5], xp.concat([y, z])

    shape = (groups, 1, k)
    weights = [rng.uniform(-1, 1, shape), rng.uniform(-1, 1, (1, 1, k))]
    carry, xs = carries(rng, 1, groups * k, 1), rng.uniform(-1, 1, (4, groups * k, 1))
    one = assert_agrees(step, carry, xs, weights, width=4, tol=1e-12)
    assert "Total" in kinds_of(one)


LEARNED = [(1, 5, 40), (3, 2, 31), (2, 1, 3), (1, 9, 2)]


@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("batch, width", [(2, 4), (3, 8), (8, 8), (17, 4), (40, 4)])
def test_each_item_s_matrix_is_changed_and_used_in_one_pass(batch, width, dtype, rng):
    for groups, m, k in LEARNED:

        def step(xp, carry, x, weights, shape=(groups, m, k)):
            groups, m, k = shape
            matrix, old = carry
            error = xp.reshape(old, (groups, m, 1, -1)) * weights[0]
            change = error * xp.reshape(x[:k], (1, 1, k, -1))
            matrix = xp.reshape(matrix, (groups, m, k, -1)) + change
            y = xp.matvec(matrix, xp.reshape(x[1:], (groups, k, -1)))
            y = xp.reshape(y, (groups * m, -1))
            return [xp.reshape(matrix, (groups * m * k, -1)), xp.tanh(y)], y

        carry = carries(rng, 1, groups * m * k, batch) + carries(
            rng, 1, groups * m, batch
        )
        carry = [c.astype(dtype) for c in carry]
        xs = rng.uniform(-1, 1, (3, groups * k + 1, batch)).astype(dtype)
        weights = [rng.uniform(-0.1, 0.1, (m, 1, 1)).astype(dtype)]
        tol = 20 * TOLERANCE[dtype]
        one = assert_agrees(step, carry, xs, weights, width, tol)
        full = batch % width == 0
        assert one.plan.copied == 0 and ("Total" in kinds_of(one)) >= full


@pytest.mark.parametrize("shape, axis", [((4, 6, 8), 1), ((9, 16), 0), ((2, 3, 40), 1)])
def test_several_sums_across_rows_of_one_loop(shape, axis, rng):
    """With truth values and rows that are the same for all terms."""

    def step(xp, carry, x, weights):
        values = xp.tanh(xp.reshape(x, shape) + weights[0])
        positive = xp.where(values > 0, values, 0)
        sums = [xp.sum(v, axis) for v in (values, positive, values * positive)]
        return [carry[0] + x], xp.concat([xp.reshape(s, (-1, shape[-1])) for s in sums])

    size = int(np.prod(shape))
    xs = rng.uniform(-1, 1, (2, size // shape[-1], shape[-1]))
    row = rng.uniform(-1, 1, shape[-1:])
    carry = carries(rng, 1, size // shape[-1], shape[-1])
    one = assert_agrees(step, carry, xs, [row], width=8, tol=1e-13)
    assert "Total" in kinds_of(one)


# -- Python, and what there is no code for ---------------------------------------------


def doubled(fail=()):
    """A step that calls a function, which fails in some of its calls."""
    calls = []

    def function(arrays):
        calls.append(arrays[0].flags.writeable)
        if len(calls) in fail:
            raise RuntimeError("not now")
        return [arrays[0] * 2, arrays[1][:1]]

    def step(xp, carry, x, weights):
        y, z = xp.host_call(function, [carry[0] + x, np.ones((3, 2))], [4, 1])
        return [carry[0] * 0.5 + y], y + z

    return step, calls


def test_functions_are_called_with_what_is_in_memory(rng):
    step, calls = doubled()
    xs = rng.uniform(-1, 1, (5, 4, 2))
    assert_agrees(step, carries(rng, 1, 4, 2), xs, tol=1e-13)
    # never while it was recorded, and nothing can be changed
    assert calls == [True] * 5 + [False] * 5


def test_a_function_that_fails_ends_the_run_after_whole_steps(rng):
    step, _ = doubled(fail={4})
    one = NativeStep(step, carries(rng, 1, 4, 2), 4, 2, [], "float64")
    xs = rng.uniform(-1, 1, (5, 4, 2))
    assert one.advance(xs, one.room(5)) == 3
    with pytest.raises(RuntimeError, match="not now"):
        one.python.raise_failure()
    assert one.python.failure is None


class Unknown(Operation):
    def _compute(self, x):
        return x

    def _emit(self, code, args, *outs):
        code.assign(outs[0], args[0])


def test_what_there_is_no_code_for_is_refused():
    with pytest.raises(Unsupported, match="no machine code for Mask"):
        writer_of(Mask(np.dtype("f4")))
    with pytest.raises(Unsupported, match="no machine code for Unknown"):
        writer_of(Unknown())
    with pytest.raises(Unsupported):  # it is part of a loop, and has no code of its own
        writer_of(Copy())


def test_two_threads_run_one_piece_of_machine_code(rng):
    def step(xp, carry, x, weights):
        return [xp.tanh(carry[0] * weights[0] + x)], carry[0]

    xs = rng.uniform(-1, 1, (20000, 4, 3))
    weights = [[np.full((4, 1), w)] for w in (0.5, -0.75)]
    steps = [NativeStep(step, [np.zeros((4, 3))], 4, 3, w, "float64") for w in weights]
    assert steps[0].text == steps[1].text
    outs = [one.room(len(xs)) for one in steps]
    threads = [
        threading.Thread(target=one.advance, args=(xs, out))
        for one, out in zip(steps, outs, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for w, out in zip(weights, outs, strict=True):
        expected, _ = evaluate(step, [np.zeros((4, 3))], xs[:50], w, "float64")
        np.testing.assert_allclose(out[:50], expected, atol=1e-13)


# -- many units ------------------------------------------------------------------------


def alike(xp, carry, x, weights):
    """Twenty small populations that do the same, one after the other."""
    following, out = [], []
    for k, (state, w) in enumerate(zip(carry, weights, strict=True)):
        y = xp.matmul(w, xp.tanh(state + x))
        following.append(xp.where(y > 0.1 * (k % 3), y * 0.5, state - 0.25 * y))
        out.append(xp.sum(xp.reshape(y, (2, 3, -1)), 0))
    return following, xp.concat(out)


@pytest.mark.parametrize("apart", (10, 10_000))
def test_units_that_do_the_same_have_their_code_in_common(apart, monkeypatch, rng):
    monkeypatch.setattr(costs, "UNITS_APART", apart)
    monkeypatch.setattr(costs, "LONG", 1)
    carry = [rng.uniform(-1, 1, (6, 1)) for _ in range(20)]
    weights = [rng.uniform(-1, 1, (6, 6)) for _ in range(20)]
    xs = rng.uniform(-1, 1, (3, 6, 1))
    one = assert_agrees(alike, carry, xs, weights, tol=1e-12)
    assert len(one.plan.units) > 60
    parts = one.text.count("define internal")
    assert 3 <= parts <= 12 if apart == 10 else parts == 0


def test_loops_have_an_end(monkeypatch, rng):
    """What has nothing to do with a long loop is left out of it."""

    def step(xp, carry, x, weights):
        return [xp.tanh(c * 0.5) - c * c + 1 for c in carry], None

    carry = [rng.uniform(-1, 1, (5, 1)) for _ in range(6)]
    lengths = {}
    for long in (8, 1000):
        monkeypatch.setattr(costs, "LONG", long)
        one = assert_agrees(step, carry, np.zeros((2, 1, 1)), tol=1e-12)
        lengths[long] = [len(unit.instructions) for unit in one.plan.units]
    assert len(lengths[1000]) == 1 and len(lengths[8]) == 3
