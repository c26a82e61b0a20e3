"""Machine code that leaves out what does not change, against NumPy."""

import numpy as np
import pytest

from nengo_dl.runtime.native.step import NativeStep
from nengo_dl.runtime.numpy.namespace import NumpyNamespace

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
    ),
)
def test_what_has_no_cause_stays(groups, m, n, sides, dtype, rng):
    """With none, few and many causes; whatever has none is kept to the bit.

    Rows nearly fill vectors of any machine: otherwise loops along them stay apart.
    """
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
