"""Sums that stay between bounds, as machine code, against NumPy."""

import numpy as np
import pytest

from nengo_dl.runtime.native.bounded import between
from nengo_dl.runtime.native.step import NativeStep
from nengo_dl.runtime.numpy.namespace import NumpyNamespace

LOW, HIGH, N = -0.25, 0.5, 37


def keeping(factor, reversed_operands=False, causes=False, other=False):
    """A step that adds what it is given to what it carries, between two bounds."""

    def step(xp, carry, x, weights):
        old = carry[0]
        seen = carry[1] if other else old
        change = xp.maximum(x, (LOW - seen) * factor)
        change = xp.minimum(change, (HIGH - seen) * factor)
        if causes:
            change = xp.zero_unless(change, x)
        new = old + change if reversed_operands else change + old
        return [new, *carry[1:]], new * 2.0

    return step


def sums_of(native):
    """The bounds of all sums that are known to stay between some."""
    made = {
        out: ins
        for u in native.plan.units
        for ins in u.instructions
        for out in ins.outputs
    }
    found = (between(made, ins) for ins in made.values())
    return [(x.low, x.high) for x in found if x is not None]


@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("options", ({}, {"reversed_operands": True}, {"causes": True}))
def test_sums_between_bounds(options, dtype, rng):
    """They never leave them, and are those of NumPy but for the last digits."""
    eps = float(np.finfo(dtype).eps)
    step = keeping(1 - 2 * eps, **options)
    carry = [rng.uniform(LOW, HIGH, (N, 1)).astype(dtype)]
    carry[0][:2, 0] = LOW, HIGH
    native = NativeStep(step, carry, N, 1, [], dtype)
    assert sums_of(native) == [(LOW, HIGH)]
    x = rng.uniform(-0.5, 0.5, (20, N, 1)).astype(dtype)
    x[:, 2] = 0
    found = native.room(20)
    native.advance(x, found)
    for row, y in zip(x, found, strict=True):
        carry, expected = step(NumpyNamespace(dtype), carry, row, [])
        assert np.abs(y - expected).max() <= 16 * eps
        assert (y >= 2 * LOW).all() and (y <= 2 * HIGH).all()
    assert (found == 2 * LOW).any() and (found == 2 * HIGH).any()
    assert np.array_equal(native.carry[0][2], carry[0][2])


def test_what_is_no_number_stays_so():
    """Neither bound takes its place."""
    step = keeping(1.0)
    native = NativeStep(step, [np.full((N, 1), np.nan)], N, 1, [], "float64")
    native.advance(np.ones((1, N, 1)), native.room(1))
    assert np.isnan(native.carry[0]).all()
    native.set_carry([np.zeros((N, 1))])
    native.advance(np.full((1, N, 1), np.nan), native.room(1))
    assert np.isnan(native.carry[0]).all()


@pytest.mark.parametrize(
    "options", ({"factor": 0.5}, {"factor": 1.5}, {"factor": 1.0, "other": True})
)
def test_other_sums(options, rng):
    """Changes that only go a part of the way, too far, or elsewhere."""
    step = keeping(**options)
    carry = [rng.uniform(LOW, HIGH, (N, 1)), rng.uniform(LOW, HIGH, (N, 1))]
    native = NativeStep(step, carry, N, 1, [], "float64")
    assert sums_of(native) == []
    x = rng.uniform(-0.5, 0.5, (N, 1))
    native.advance(x[None], native.room(1))
    after, _ = step(NumpyNamespace("float64"), carry, x, [])
    assert np.allclose(native.carry[0], after[0], rtol=0, atol=1e-15)
