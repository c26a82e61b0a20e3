"""Products in compiled steps: the right way for each shape, and the right numbers."""

import numpy as np
import pytest

from nengo_dl.runtime.native import costs, matrices, products, spikes
from nengo_dl.runtime.native.compile import object_code
from nengo_dl.runtime.native.step import NativeStep
from tests.runtime.native_code import pytestmark_native
from tests.runtime.test_native_steps import assert_agrees

pytestmark = pytestmark_native

TOLERANCE = {"float32": 2e-5, "float64": 1e-13}


@pytest.fixture
def ways(monkeypatch):
    """The names of what writes products, in the order in which they are written."""
    taken = []
    for module, names in (
        (matrices, ("by_columns", "by_rows", "by_lanes", "by_blocks")),
        (spikes, ("by_spikes", "by_items", "to_targets", "rows_to_targets")),
        (spikes, ("gathered_lanes", "gathered_rows")),
        (products.blas, ("multiply",)),
    ):
        for name in names:
            noting = noted(taken, name, getattr(module, name))
            monkeypatch.setattr(module, name, noting)
    return taken


def noted(taken, name, write):
    """A function that says that it was called."""

    def note(*args, **kwargs):
        taken.append(name)
        return write(*args, **kwargs)

    return note


def inputs(rng, n, batch, dtype, steps=3):
    return rng.uniform(-1, 1, (steps, n, batch)).astype(dtype)


def spiking(xp, v, x):
    """Neurons that spike now and then: the next state, and spikes."""
    v = v + xp.abs(x)
    spiked = v > 1.5
    return xp.where(spiked, 0, v), xp.where(spiked, 50, 0)


@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_fixed_matrices(dtype, ways, rng):
    shapes = [(1, 1), (40, 3), (2, 70), (300, 50), (20, 200), (700, 90)]
    weights = [rng.uniform(-1, 1, s).astype(dtype) / s[1] for s in shapes]

    def step(xp, carry, x, weights):
        return [], xp.concat([xp.matmul(w, x[: w.shape[1]]) for w in weights])

    xs = inputs(rng, 200, 1, dtype)
    assert_agrees(step, [], xs, weights, width=8, tol=TOLERANCE[dtype])
    rows, columns = "by_rows", "by_columns"
    assert ways == [columns, columns, rows, columns, rows, columns]


@pytest.mark.parametrize("batch", (2, 9, 40))
def test_batches(batch, ways, rng):
    weights = [rng.uniform(-1, 1, s).astype("f4") / 9 for s in ((5, 7), (31, 5))]

    def step(xp, carry, x, weights):
        y = xp.matmul(weights[0], x)
        return [], xp.matmul(weights[1], y)

    assert_agrees(step, [], inputs(rng, 7, batch, "f4"), weights, width=8, tol=2e-5)
    assert ways == ["by_blocks", "by_blocks"]


def test_matrices_that_change(ways, rng):
    def step(xp, carry, x, weights):
        a, b = carry
        y, z = xp.matmul(a, x[:3]), xp.matmul(b, x)
        return [a + 0.1 * z[:1], b - 0.1 * y[:4] * xp.transpose(x, (1, 0))], y

    shapes = [(20, 3), (4, 11)]
    carry = [rng.uniform(-1, 1, s).astype("f4") for s in shapes]
    assert_agrees(step, carry, inputs(rng, 11, 1, "f4"), width=8, tol=2e-5)
    assert ways == ["by_lanes", "by_rows"]


def test_stacks_of_products(rng):
    weights = [rng.uniform(-1, 1, s) for s in ((2, 1, 4, 5), (3, 30, 2), (2, 3, 4, 1))]

    def step(xp, carry, x, weights):
        a, b, c = weights
        y = xp.reshape(x, (3, 5, -1))  # the same for both rows of a
        first = xp.matmul(a, y)  # (2, 3, 4, batch)
        second = xp.matmul(b, xp.reshape(x[:6], (3, 2, -1)))
        batch = x.shape[1]
        parts = [xp.reshape(p, (-1, batch)) for p in (first, second)]
        if batch == 1:
            third = xp.matmul(xp.transpose(c, (0, 1, 3, 2)), first)
            parts.append(xp.reshape(third, (-1, 1)))
        return [], xp.concat(parts)

    for batch in (1, 6):
        xs = inputs(rng, 15, batch, "float64")
        assert_agrees(step, [], xs, weights, width=4, tol=1e-13)


@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_products_from_spikes(dtype, ways, rng):
    weights = [rng.uniform(-1, 1, (33, 91)).astype(dtype) / 9]

    def step(xp, carry, x, weights):
        v, filtered = carry
        v, spikes = spiking(xp, v, x)
        bias = np.ones((1, 1), dtype)
        product = xp.matmul(weights[0], xp.concat([spikes * 0.1, bias]))
        return [v, 0.9 * filtered + product], filtered

    carry = [rng.uniform(0, 1, (90, 1)), np.zeros((33, 1))]
    carry = [c.astype(dtype) for c in carry]
    assert_agrees(
        step, carry, inputs(rng, 90, 1, dtype, 6), weights, width=8, tol=TOLERANCE[dtype]
    )
    assert ways == ["by_spikes"]


@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("lead, batch", (((), 5), ((), 11), ((3,), 8)))
def test_products_from_the_spikes_of_items(lead, batch, dtype, ways, rng):
    """Of one matrix, or a stack; steps in which many neurons spike are among them."""
    m, k = 33, 91
    weights = [rng.uniform(-1, 1, (*lead, m, k)).astype(dtype) / 9]
    groups = lead[0] if lead else 1

    def step(xp, carry, x, weights):
        v, spikes = spiking(xp, carry[0], x)
        return [v], xp.matmul(weights[0], xp.reshape(spikes, (*lead, k, batch)))

    def flat(xp, carry, x, weights):
        after, y = step(xp, carry, x, weights)
        return after, xp.reshape(y, (groups * m, batch))

    carry = [rng.uniform(0, 1, (groups * k, batch)).astype(dtype)]
    x = inputs(rng, groups * k, batch, dtype, 8)
    x *= np.linspace(0, 3, 8).astype(dtype)[:, None, None]
    assert_agrees(flat, carry, x, weights, width=8, tol=TOLERANCE[dtype])
    assert ways == ["by_items", "by_blocks"]


def test_large_matrices_are_not_kept_twice(ways, rng, monkeypatch):
    monkeypatch.setattr(costs, "ENTRIES_TWICE", 40 * 60 - 1)
    weights = [rng.uniform(-1, 1, (40, 60)).astype("f4") / 9]

    def step(xp, carry, x, weights):
        v, spikes = spiking(xp, carry[0], x)
        return [v], xp.matmul(weights[0], spikes)

    carry = [rng.uniform(0, 1, (60, 3)).astype("f4")]
    assert_agrees(step, carry, inputs(rng, 60, 3, "f4"), weights, width=8, tol=2e-5)
    assert ways == ["by_blocks"]


def test_spikes_of_the_step_before(ways, rng):
    weights = [rng.uniform(-1, 1, (40, 40)).astype("f4") / 9]

    def step(xp, carry, x, weights):
        v, before = carry
        v, spikes = spiking(xp, v, x + xp.matmul(weights[0], before))
        return [v, spikes * 0.01], spikes

    carry = [rng.uniform(0, 1, (40, 1)).astype("f4"), np.zeros((40, 1), "f4")]
    assert_agrees(step, carry, inputs(rng, 40, 1, "f4", 6), weights, width=8, tol=2e-5)
    assert ways == ["by_spikes"]


@pytest.mark.parametrize("column", (False, True))
@pytest.mark.parametrize(
    "batch, spiked, count, way",
    (
        (1, False, 4, "gathered_lanes"),
        (1, True, 4, "to_targets"),
        (11, False, 12, "gathered_rows"),
        (11, True, 4, "gathered_rows"),
        (11, True, 12, "rows_to_targets"),
    ),
)
def test_gathered_sums(batch, spiked, count, way, column, ways, rng):
    """Weights may be one column, which is how those of sparse transforms are."""
    index = rng.randint(0, 50, (count, 30))
    weights = [rng.uniform(-1, 1, (count * 30, 1) if column else (count, 30, 1))]

    def step(xp, carry, x, weights):
        v, rows = spiking(xp, carry[0], x) if spiked else (carry[0], x)
        terms = xp.take(rows, index.ravel())
        if column:
            return [v], xp.sum(xp.reshape(terms * weights[0], (count, 30, -1)), 0)
        return [v], xp.sum(xp.reshape(terms, (count, 30, -1)) * weights[0], 0)

    carry = [rng.uniform(0, 1, (50, batch))]
    assert_agrees(
        step, carry, inputs(rng, 50, batch, "f8", 5), weights, width=4, tol=1e-13
    )
    assert ways == [way]


def test_weights_are_written(rng):
    """Transposed matrices and lists of targets follow."""
    index = rng.randint(0, 50, (4, 30))
    weights = [rng.uniform(-1, 1, s) for s in ((60, 20), (4, 30, 1), (30, 50))]

    def step(xp, carry, x, weights):
        v, spikes = spiking(xp, carry[0], x)
        terms = xp.reshape(xp.take(spikes, index.ravel()), (4, 30, 1))
        sums = xp.sum(terms * weights[1], 0)
        products = xp.matmul(weights[0], x[:20]), sums, xp.matmul(weights[2], spikes)
        return [v], xp.concat(products)

    carry, xs = [rng.uniform(0, 1, (50, 1))], inputs(rng, 50, 1, "f8", 4)
    one = NativeStep(step, carry, 50, 1, weights, "float64")
    for w in weights:
        w *= 1.5
    one.refresh()
    out, anew = one.room(4), NativeStep(step, carry, 50, 1, weights, "float64")
    one.advance(xs, out)
    expected = anew.room(4)
    anew.advance(xs, expected)
    assert out.tobytes() == expected.tobytes()
    assert abs(out).min(axis=0).max() > 0


@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_large_products_by_blas(dtype, ways, monkeypatch, rng):
    pytest.importorskip("scipy")
    monkeypatch.setattr(costs, "BLAS_PRODUCTS", 1)
    weights = [rng.uniform(-1, 1, (6, 10)).astype(dtype)]

    def step(xp, carry, x, weights):
        return [], xp.matmul(weights[0], x)

    xs = inputs(rng, 10, 9, dtype)
    assert_agrees(step, [], xs, weights, tol=TOLERANCE[dtype])
    assert ways == ["multiply"]


def test_small_products_and_those_without_scipy_do_without_blas(monkeypatch):
    assert not products.blas.pays(10, 10, 10)
    monkeypatch.setattr(products.blas, "_installed", lambda: False)
    assert not products.blas.pays(4096, 4096, 64)


def test_sums_without_terms():
    def step(xp, carry, x, weights):
        return [], xp.matmul(weights[0], x[:0]) + x[:3]

    xs = np.ones((2, 3, 1), "f4")
    assert_agrees(step, [], xs, [np.zeros((3, 0), "f4")])


@pytest.mark.parametrize(
    "triple",
    ("aarch64-unknown-linux-gnu", "arm64-apple-macosx11.0.0", "x86_64-pc-windows-msvc"),
)
def test_other_machines_have_code_for_whole_steps(triple, rng):
    """Compiled, and not run: of all kinds of products, and of functions."""
    index = rng.randint(0, 50, (4, 30))
    shapes = (30, 50), (40, 3), (4, 30, 1), (9, 70)
    weights = [rng.uniform(-1, 1, shape).astype("f4") for shape in shapes]

    def step(xp, carry, x, weights):
        v, spikes = spiking(xp, carry[0], xp.tanh(x) + xp.exp(-x) + xp.log1p(xp.abs(x)))
        dense, few, gathered, rows = weights
        terms = xp.reshape(xp.take(spikes, index.ravel()), (4, 30, -1))
        wide = xp.concat([spikes, spikes[:20]])
        parts = xp.matmul(dense, spikes), xp.matmul(few, x[:3]), xp.matmul(rows, wide)
        return [v], xp.concat([*parts, xp.sum(terms * gathered, 0)])

    for batch in (1, 6):
        carry = [np.zeros((50, batch), "f4")]
        one = NativeStep(step, carry, 50, batch, weights, "float32", width=4)
        assert len(object_code(one.text, triple)) > 2000
