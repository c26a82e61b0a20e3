"""Machine code that leaves out what does not change, against NumPy."""

from typing import Any

import numpy as np
import pytest

from nengo_dl.runtime.native.step import NativeStep
from nengo_dl.runtime.numpy.namespace import NumpyNamespace
from nengo_dl.runtime.stepwise import Journal

STEPS = 12


def learning(groups, m, n, sides=("rows", "columns")):
    """A step of matrices that change where there is a cause, and a product with them.

    It is given ``groups * (n + m)`` numbers; those above 1 are spikes.
    """

    def step(xp, carry, x, weights):
        s, z = xp.floor(x[: groups * n]), xp.floor(x[groups * n :])
        row = xp.reshape(s, (groups, 1, n, -1))
        column = xp.reshape(z, (groups, m, 1, -1))
        w = xp.reshape(carry[0], (groups, m, n, -1))
        change, causes = 0.0, []
        if "rows" in sides:
            change, causes = column * (0.1 - w), [column]
        if "columns" in sides:
            change, causes = change + row * (w * 0.25 - 0.01), [*causes, row]
        change = xp.zero_unless(change, *causes)
        new = carry[0] + xp.reshape(change, (groups * m * n, -1))
        product = xp.matmul(
            xp.reshape(new, (groups, m, n)), xp.reshape(s, (groups, n, 1))
        )
        return [new], xp.reshape(product, (groups * m, 1))

    return step


@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize(
    "groups, m, n, sides",
    (
        (1, 5, 203, ("rows", "columns")),
        (1, 7, 64, ("rows", "columns")),
        (2, 3, 70, ("rows", "columns")),
        (1, 4, 47, ("rows",)),
        (1, 4, 47, ("columns",)),
        (1, 37, 79, ("rows", "columns")),  # more rows than a vector has lanes
        (2, 19, 79, ("rows", "columns")),
        (1, 34, 47, ("rows",)),
        (1, 34, 47, ("columns",)),
        (1, 40, 100, ("rows", "columns")),  # rows that leave much of their last vector
        (1, 100, 21, ("rows", "columns")),
        (2, 33, 18, ("columns",)),
        (1, 2, 17, ("rows",)),
    ),
)
def test_what_has_no_cause_stays(groups, m, n, sides, dtype, rng):
    """With none, few and many causes; whatever has none is kept to the bit."""
    step = learning(groups, m, n, sides)
    weights = rng.uniform(size=(groups * m * n, 1)).astype(dtype)
    native = NativeStep(step, [weights], groups * (n + m), 1, [], dtype)
    assert "only where there is a cause" in native.text
    shares = np.repeat([0, 0.02, 0.2, 0.6, 1, 0.05], STEPS // 6)[:, None, None]
    x = rng.uniform(size=(STEPS, groups * (n + m), 1)) + shares
    found, expected, xp = native.room(STEPS), [], NumpyNamespace(dtype)
    assert native.advance(x.astype(dtype), found) == STEPS
    carry = [weights]
    for row in x.astype(dtype):
        before = carry[0]
        carry, y = step(xp, carry, row, [])
        expected.append(y)
    tolerance = 2e-5 if dtype == "float32" else 1e-13
    scale = np.abs(expected).max()
    assert np.abs(found - np.array(expected)).max() <= tolerance * scale
    assert np.abs(native.carry[0] - carry[0]).max() <= tolerance
    before = native.carry[0].copy()
    native.advance(np.zeros((1, *x.shape[1:]), dtype), native.room(1))
    assert np.array_equal(native.carry[0], before)


@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("m, n", ((40, 12), (17, 203), (33, 64), (100, 7), (64, 21)))
def test_vectors_of_any_width_change_the_same(m, n, dtype, rng):
    """To the bit: the widest ones are divided where columns change."""
    step, found = learning(1, m, n), []
    weights = rng.uniform(size=(m * n, 1)).astype(dtype)
    shares = np.repeat([0.02, 0, 0.05, 0.1, 0.6, 1], STEPS // 6)[:, None, None]
    x = (rng.uniform(size=(STEPS, n + m, 1)) + shares).astype(dtype)
    for width in (2, 4, 8, 16, 32):
        native = NativeStep(step, [weights], n + m, 1, [], dtype, width=width)
        assert "only where there is a cause" in native.text
        native.advance(x, native.room(STEPS))
        found.append(native.carry[0].copy())
    assert not np.array_equal(found[0], weights)
    assert all(np.array_equal(values, found[0]) for values in found)


def test_results_that_show_the_weights_are_complete(rng):
    """What probes show is written as a whole in each step."""
    inner = learning(1, 3, 20)

    def step(xp, carry, x, weights):
        after, _ = inner(xp, carry, x, weights)
        return after, after[0]

    weights = rng.uniform(size=(60, 1))
    native = NativeStep(step, [weights], 23, 1, [], "float64")
    x = rng.uniform(size=(4, 23, 1)) + 0.1
    found, carry = native.room(4), [weights]
    native.advance(x, found)
    for row, shown in zip(x, found, strict=True):
        carry, y = step(NumpyNamespace("float64"), carry, row, [])
        assert np.allclose(shown, y, rtol=0, atol=1e-14)


@pytest.mark.parametrize("m, n", ((1, 1), (3, 5), (33, 20), (7, 64)))
def test_what_is_written_from_outside_may_change_by_itself(m, n, rng):
    """Like weights beyond their bounds, which come back in the next step."""

    def step(xp, carry, x, weights):
        w = xp.reshape(carry[0], (m, n, 1))
        row, column = xp.floor(x[:n]), xp.floor(x[n:])
        row, column = xp.reshape(row, (1, n, 1)), xp.reshape(column, (m, 1, 1))
        change = xp.minimum(row * 0.1 + column * 0.2, 1.0 - w)
        change = xp.zero_unless(change, column, row)
        new = carry[0] + xp.reshape(change, (m * n, 1))
        s = xp.reshape(x[:n], (n, 1))
        return [new], xp.matmul(xp.reshape(new, (m, n)), xp.floor(s))

    weights = rng.uniform(0.5, 1.5, size=(m * n, 1))
    native = NativeStep(step, [weights], n + m, 1, [], "float64", width=8)
    nothing, room = np.zeros((1, n + m, 1)), native.room(1)
    for _ in range(2):
        native.advance(nothing, room)
        assert np.array_equal(native.carry[0], np.minimum(weights, 1))
        native.set_carry([weights])


def by_columns(native):
    """What lies column by column."""
    return list(native.plan.by_columns.values())


@pytest.mark.parametrize(
    "groups, m, n, sides, expected",
    (
        (1, 40, 100, ("rows", "columns"), [(1, 40, 100)]),
        (2, 33, 18, ("columns",), [(2, 33, 18)]),
        (1, 40, 100, ("rows",), []),  # no columns change
        (1, 5, 203, ("rows", "columns"), []),  # fewer rows than products of spikes want
    ),
)
def test_columns_that_change_lie_together(groups, m, n, sides, expected, rng):
    """The state can be read and written in order all the same."""
    step = learning(groups, m, n, sides)
    weights = rng.uniform(size=(groups * m * n, 1))
    native = NativeStep(step, [weights], groups * (n + m), 1, [], "float64", width=8)
    assert by_columns(native) == expected
    assert np.array_equal(native.carry[0], weights)
    native.set_carry([weights[::-1]])
    assert np.array_equal(native.carry[0], weights[::-1])
    rows, lanes = weights[::-1].reshape(groups, m, n), n
    if expected:
        rows, lanes = np.swapaxes(rows, 1, 2), native.plan.strides[0]
        assert lanes == -(-m // 8) * 8  # each column begins with a cache line
    count = groups * rows.shape[1] * lanes
    lies = native.state[: 8 * count].view("float64").reshape(groups, -1, lanes)
    assert np.array_equal(lies[..., : rows.shape[2]], rows)


def test_blocks_of_single_items_lie_column_by_column_too(rng):
    """Each item has a state of its own."""
    items, (m, n) = 3, (33, 20)
    step = learning(1, m, n)
    weights = rng.uniform(size=(m * n, items))
    x = rng.uniform(size=(STEPS, n + m, items)) + 0.1
    native = NativeStep(step, [weights], n + m, items, [], "float64", items=1)
    assert by_columns(native) == [(1, m, n)]
    assert np.array_equal(native.carry[0], weights)
    found = native.room(STEPS)
    native.advance(x, found)
    for item in range(items):
        mine = slice(item, item + 1)
        alone = NativeStep(step, [weights[:, mine]], n + m, 1, [], "float64")
        expected = alone.room(STEPS)
        alone.advance(x[..., mine], expected)
        assert np.array_equal(found[..., mine], expected)
        assert np.array_equal(native.carry[0][:, mine], alone.carry[0])


@pytest.mark.parametrize("shown", ("all", "turned", "some", "truth", "sum", "before"))
def test_what_shows_weights_beside_the_step(shown, rng):
    """A second step with the same state reads more, in order or by copies."""
    m, n = 36, 20
    inner = learning(1, m, n)

    def look(xp, carry, x, weights):
        after, y = inner(xp, carry, x, weights)
        w = xp.reshape(after[0], (m, n))
        more = {
            "all": lambda: after[0],
            "turned": lambda: xp.reshape(xp.transpose(w, (1, 0)), (m * n, 1)),
            "some": lambda: xp.reshape(w[:, 3:5], (2 * m, 1)) * 2.0,
            "truth": lambda: xp.where(after[0] > 0.5, after[0], 0.25),
            "sum": lambda: xp.reshape(xp.sum(w, 0), (n, 1)),
            "before": lambda: carry[0] * 2.0,
        }[shown]()
        return after, xp.concat([y, more])

    weights = rng.uniform(size=(m * n, 1))
    main = NativeStep(inner, [weights], n + m, 1, [], "float64")
    assert by_columns(main) == [(1, m, n)]
    beside = NativeStep.beside_it(look, [], main)
    assert beside.plan.by_columns == main.plan.by_columns
    x = rng.uniform(size=(6, n + m, 1)) + 0.1
    carry = [weights]
    for t, row in enumerate(x):
        program = beside if t % 2 else main
        found = program.room(1)
        program.advance(row[None], found)
        carry, y = (look if t % 2 else inner)(NumpyNamespace("float64"), carry, row, [])
        assert np.abs(found[0] - y).max() <= 1e-13 * max(1, np.abs(y).max())
        assert np.abs(main.carry[0] - carry[0]).max() <= 1e-14


@pytest.mark.parametrize("m, n", ((40, 30), (33, 20)))
def test_steps_are_undone(m, n, rng):
    """To the bit, from what was copied as it lies in memory."""
    weights = rng.uniform(size=(m * n, 1))
    native = NativeStep(learning(1, m, n), [weights], n + m, 1, [], "float64")
    assert by_columns(native) == [(1, m, n)]
    program: Any = native
    x, journal = rng.uniform(size=(9, n + m, 1)) + 0.1, Journal(program)
    found = native.room(9)
    journal.begin(0, 9)
    journal.advance(x[:5], found[:5])
    middle = native.carry[0].copy()
    journal.advance(x[5:], found[5:])
    after = native.carry[0].copy()
    assert np.array_equal(journal.back(5), x[5:])
    assert np.array_equal(native.carry[0], middle) and not np.array_equal(middle, after)
    again = native.room(4)
    journal.advance(x[5:], again)
    assert np.array_equal(again, found[5:]) and np.array_equal(native.carry[0], after)


def test_many_steps_of_learning_in_one_call():
    """A matrix with few changes does not look as if each number took long."""
    m, n = 100, 784
    weights = np.ones((m * n, 1))
    native = NativeStep(learning(1, m, n), [weights], n + m, 1, [], "float32")
    assert 1e-6 < native.seconds < 1e-4


def together(m, n, batch):
    """A step of a matrix that all items change by the products of spikes and traces."""

    def step(xp, carry, x, weights):
        s, z = xp.floor(x[:n]), xp.floor(x[n:])
        traces = carry[1] * 0.9 + x * 0.1
        pre, post = traces[:n], traces[n:]
        up = xp.matmul(z, xp.transpose(pre, (1, 0)))
        down = xp.matmul(post, xp.transpose(s, (1, 0)))
        w = xp.reshape(carry[0], (m, n, 1))
        change = xp.reshape(up * 0.1 - down * 0.2, (m, n, 1)) * (1.0 - w)
        new = carry[0] + xp.reshape(change, (m * n, 1)) * (1 / batch)
        return [new, traces], xp.matmul(xp.reshape(new, (m, n)), s)

    return step


@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("m, n, batch", ((33, 90, 5), (48, 45, 16), (20, 200, 3)))
def test_items_that_learn_together(m, n, batch, dtype, rng):
    """Their matrix lies column by column, and so do the products that change it."""
    step = together(m, n, batch)
    carry = [rng.uniform(size=(m * n, 1)), np.zeros((n + m, batch))]
    carry = [values.astype(dtype) for values in carry]
    native = NativeStep(step, carry, n + m, batch, [], dtype, width=8)
    assert by_columns(native) == [(1, m, n)]
    shapes = [value.shape for value in native.plan.stored]
    assert (n, m) in shapes and (m, n) not in shapes and (batch, n) not in shapes
    shares = np.repeat([0, 0.02, 0.2, 0.6, 1, 0.05], STEPS // 6)[:, None, None]
    x = (rng.uniform(size=(STEPS, n + m, batch)) + shares).astype(dtype)
    found, expected = native.room(STEPS), []
    assert np.array_equal(native.carry[0], carry[0])
    assert native.advance(x, found) == STEPS
    for row in x:
        carry, y = step(NumpyNamespace(dtype), carry, row, [])
        expected.append(y)
    tolerance = 2e-5 if dtype == "float32" else 1e-13
    scale = np.abs(expected).max()
    assert np.abs(found - np.array(expected)).max() <= tolerance * scale
    assert np.abs(native.carry[0] - carry[0]).max() <= tolerance


@pytest.mark.parametrize("seldom", (False, True))
def test_sums_that_are_seldom_taken(seldom, rng):
    """A cause of all items is looked at; sums of each step want rows in order."""
    m, n, batch = 33, 70, 4
    inner = together(m, n, batch)

    def step(xp, carry, x, weights):
        w = xp.reshape(carry[0], (m, n, 1))
        due = x[:1, :1] if seldom else xp.ones_like(x[:1, :1])
        seen = xp.zero_unless(w, due > 0.9) if seldom else w
        total = xp.reshape(xp.sum(xp.abs(seen), 1), (m, 1, 1))
        less = w * total * xp.where(due > 0.9, -0.001, 0.0)
        less = xp.zero_unless(less, due > 0.9) if seldom else less
        (new, traces), _ = inner(xp, carry, x, weights)
        new = new + xp.reshape(less, (m * n, 1))
        return [new, traces], xp.matmul(xp.reshape(new, (m, n)), xp.floor(x[:n]))

    carry = [rng.uniform(size=(m * n, 1)), np.zeros((n + m, batch))]
    native = NativeStep(step, carry, n + m, batch, [], "float64", width=8)
    assert by_columns(native) == ([(1, m, n)] if seldom else [])
    x = rng.uniform(size=(30, n + m, batch)) + 0.05
    found = native.room(30)
    native.advance(x, found)
    for row, y in zip(x, found, strict=True):
        carry, expected = step(NumpyNamespace("float64"), carry, row, [])
        assert np.abs(y - expected).max() <= 1e-12 * np.abs(expected).max()
    assert np.abs(native.carry[0] - carry[0]).max() <= 1e-12
    assert (x[:, 0, 0] > 0.9).any() and (x[:, 0, 0] <= 0.9).any()


def test_matrices_that_other_products_read_stay_in_order(rng):
    """What is added to itself transposed is not turned."""
    n, batch = 40, 4

    def step(xp, carry, x, weights):
        s = xp.floor(x)
        change = xp.matmul(s, xp.transpose(x, (1, 0)))
        both = change + xp.transpose(change, (1, 0))
        w = carry[0] + xp.reshape(both, (n * n, 1)) * 0.01
        return [w], xp.matmul(xp.reshape(w, (n, n)), s)

    carry = [rng.uniform(size=(n * n, 1))]
    native = NativeStep(step, carry, n, batch, [], "float64", width=8)
    x = rng.uniform(size=(5, n, batch)) + 0.1
    found = native.room(5)
    native.advance(x, found)
    for row, y in zip(x, found, strict=True):
        carry, expected = step(NumpyNamespace("float64"), carry, row, [])
        assert np.allclose(y, expected, rtol=1e-12, atol=0)
    assert np.allclose(native.carry[0], carry[0], rtol=1e-12, atol=0)


def test_batches_compute_everything():
    """Few columns have no cause in any item."""

    def step(xp, carry, x, weights):
        change = xp.zero_unless(carry[0] * x, x)
        return [carry[0] + change], x

    carry = [np.ones((8, 4))]
    native = NativeStep(step, carry, 8, 4, [], "float64")
    assert " select " not in native.text
    native.advance(np.ones((1, 8, 4)), native.room(1))
    assert np.array_equal(native.carry[0], np.full((8, 4), 2.0))
