"""The NumPy tier: what a recorded step gives to its user, and what it refuses."""

import numpy as np
import pytest
from nengo.exceptions import SimulationError, ValidationError

from nengo_dl.runtime.numpy import recorder as numpy_recorder
from nengo_dl.runtime.numpy.executor import NumpyNamespace, NumpyStep, _Copies
from tests.runtime.numpy_harness import assert_replays, carries, tune


def test_steps_without_input_output_or_carry():
    clock = NumpyStep(
        lambda xp, c, x, w: ([c[0] + 1], None), [np.zeros((1, 1))], None, 1, [], "float32"
    )
    assert clock.x is None and clock.y is None
    clock()
    clock()
    assert clock.carry[0] == 2

    idle = NumpyStep(lambda xp, c, x, w: ([], 3 * np.ones((2, 1))), [], 0, 1, [], float)
    idle()
    assert idle.n_calls == 0
    assert idle.x.shape == (0, 1)
    assert np.array_equal(idle.y, [[3.0], [3.0]])


def test_empty_arrays(rng):
    def step(xp, carry, x, weights):
        empty = xp.tanh(x[2:2] * 3)
        y = xp.concat([empty, x, carry[0][:0], xp.take(x, [])])
        return [carry[0] * 1, xp.reshape(empty, (0, 3))], y + xp.sum(empty, 0)

    assert_replays(step, [np.ones((1, 3)), np.ones((0, 3))], rng.uniform(0, 1, (3, 4, 3)))


def test_set_carry(rng, allclose):
    sim = NumpyStep(
        lambda xp, c, x, w: ([c[0] * 2, c[0]], c[1]), carries(rng, 2), None, 3, [], float
    )
    buffers = list(sim.carry)
    sim.set_carry([np.ones((4, 3)), np.zeros((4, 3))])
    sim()
    assert all(a is b for a, b in zip(sim.carry, buffers, strict=True))
    assert allclose(sim.carry, [np.full((4, 3), 2), np.ones((4, 3))])
    with pytest.raises(ValidationError, match=r"set_carry was given 1 arrays"):
        sim.set_carry([np.ones((4, 3))])
    with pytest.raises(ValidationError, match=r"different: \[1\]"):
        sim.set_carry([np.ones((4, 3)), np.ones((4, 1))])


def test_initial_carry_is_copied():
    first = np.ones((2, 1), "float32")
    sim = NumpyStep(
        lambda xp, c, x, w: ([c[0] + 1], c[0]), [first], None, 1, [], "float32"
    )
    sim()
    assert np.array_equal(first, [[1], [1]])
    assert np.array_equal(sim.carry[0], [[2], [2]])


@pytest.mark.parametrize("following", ([], [np.zeros((2, 1)), np.zeros((2, 1))]))
def test_next_carry_must_fit(following):
    with pytest.raises(ValidationError, match="the step function returned"):
        NumpyStep(lambda xp, c, x, w: (following, x), [np.zeros((1, 1))], 1, 1, [], float)


def test_what_a_slot_refuses():
    def attempt(function):
        NumpyStep(lambda xp, c, x, w: ([], function(xp, x)), [], 3, 2, [], "float64")

    with pytest.raises(TypeError, match=r"use xp.where"):
        attempt(lambda xp, x: x if x[0, 0] > 0 else -x)
    with pytest.raises(TypeError, match=r"functions of xp instead"):
        attempt(lambda xp, x: np.asarray(x))
    with pytest.raises(TypeError, match="Slot"):
        attempt(lambda xp, x: np.exp(x))
    with pytest.raises(TypeError, match=r"use xp.take for a list of rows"):
        attempt(lambda xp, x: x[[0, 1]])
    with pytest.raises(TypeError, match="expected boolean arrays"):
        attempt(lambda xp, x: x & (x > 0))
    for wrong in ([3], [-1], [0.5], 1):
        with pytest.raises(ValidationError, match="integers from 0 to 2"):
            attempt(lambda xp, x, wrong=wrong: xp.take(x, wrong))


@pytest.mark.parametrize(
    "shape, out, length, loops",
    [
        ((40, 1, 3), (40, 50, 3), 3, 2000),
        ((40, 1), (40, 3), 1, 40),
        ((1, 3), (40, 3), 3, 40),
        ((40, 3), (7, 40, 3), 120, 7),
        ((), (40, 3), 1, 1),
        ((40, 3), (40, 3), 120, 1),
        ((72, 1, 1), (72, 25, 1), 1, 72),
    ],
)
def test_broadcast_loops(shape, out, length, loops):
    assert numpy_recorder.broadcast_loops(shape, out) == (length, loops)


# -- weights


def test_weights_may_change_in_place(rng, allclose):
    matrix, rate = rng.uniform(-1, 1, (3, 4)), rng.uniform(-1, 1, (3, 1))
    x = rng.uniform(-1, 1, (4, 2))

    def step(xp, carry, x, weights):
        matrix, rate = weights
        decay = xp.exp(-rate) * 2  # of weights alone: not computed in each step
        return [], xp.matmul(matrix, x) * decay + matrix[:, :1]

    sim = NumpyStep(step, [], 4, 2, [matrix, rate], "float64")
    assert "exp" not in sim.source
    sim.x[...] = x
    for _ in range(2):
        sim()
        expected = matrix @ x * np.exp(-rate) * 2 + matrix[:, :1]
        assert allclose(sim.y, expected, atol=1e-14)
        matrix *= 0.5
        rate += 1
        sim.refresh()
    matrix[...] = 0  # used as it is, so this shows at once
    sim()
    assert allclose(sim.y, 0)


def test_broadcast_weights_follow_after_refresh(rng, allclose, monkeypatch):
    tune(monkeypatch)
    bias = rng.uniform(-1, 1, (4, 1))
    sim = NumpyStep(
        lambda xp, c, x, w: ([], xp.maximum(x + w[0], w[0] * 2)), [], 4, 3, [bias], float
    )
    bias += 1
    sim.refresh()
    sim()
    assert allclose(sim.y, np.maximum(bias, bias * 2) + np.zeros((4, 3)))


def test_weights_of_another_dtype_are_refused():
    with pytest.raises(ValidationError, match="weight 0 is float64; expected an array"):
        NumpyStep(lambda xp, c, x, w: ([], x), [], 1, 1, [np.eye(2)], "float32")


# -- calls of Python


def test_host_calls_run_in_order_once_a_step():
    calls = []

    def host(name, factor):
        def function(arrays):
            calls.append((name, [a.copy() for a in arrays]))
            return [a * factor for a in arrays]

        return function

    def step(xp, carry, x, weights):
        (a,) = xp.host_call(host("first", 2), [carry[0]], [1])
        xp.host_call(lambda arrays: calls.append(("no output", [])) or [], [], [])
        (b,) = xp.host_call(host("second", 3), [a + x], [1])
        return [carry[0] + 1], a

    sim = NumpyStep(step, [np.zeros((1, 2))], 1, 2, [], "float64")
    assert calls == []  # none while recording
    sim.x[...] = 10
    sim()
    sim()
    assert [name for name, _ in calls] == ["first", "no output", "second"] * 2
    assert np.array_equal(calls[3][1], [[[1, 1]]])
    assert np.array_equal(calls[5][1], [[[12, 12]]])
    assert np.array_equal(sim.y, [[2, 2]])


def test_host_call_without_inputs_and_with_kept_arrays(rng):
    kept = []

    def host(arrays):
        kept.append(arrays)
        return [np.full((2, 3), len(kept))]

    def step(xp, carry, x, weights):
        (y,) = xp.host_call(host, [], [2])
        (z,) = xp.host_call(lambda a: [a[0], a[0][::-1]], [y + x], [2, 2])[:1]
        return [y], z

    sim = NumpyStep(step, [np.zeros((2, 3))], 2, 3, [], "float32")
    for i in range(3):
        sim()
        assert np.array_equal(sim.carry[0], np.full((2, 3), i + 1))
        assert np.array_equal(sim.y, sim.carry[0])


def test_host_call_inputs_are_read_only():
    def host(arrays):
        arrays[0][...] = 1
        return []

    sim = NumpyStep(
        lambda xp, c, x, w: (xp.host_call(host, [x], []), x), [], 1, 1, [], "float32"
    )
    with pytest.raises(ValueError, match="read-only"):
        sim()


@pytest.mark.parametrize(
    "result, message",
    [
        ([], r"returned 0 arrays; expected 1, one for each of the sizes \[2\]"),
        ([np.zeros(2)], r"result 0 has shape \(2,\); expected \(2, 3\)"),
        ([0.0], r"host_call\(.*host\): result 0 has shape \(\); expected \(2, 3\)"),
    ],
)
def test_wrong_results_of_host_calls(result, message):
    def host(arrays):
        return result

    def step(xp, carry, x, weights):
        return [], xp.host_call(host, [x], [2])[0]

    sim = NumpyStep(step, [], 1, 3, [], "float64")
    with pytest.raises(SimulationError, match=message):
        sim()
    with pytest.raises(SimulationError, match=message):
        step(NumpyNamespace("float64"), [], np.zeros((1, 3)), [])


class Doubling:
    """A function that doubles an array of its own, in place."""

    sizes = (4,)

    def __init__(self):
        self.own = np.full((4, 1), np.nan)

    def shared(self):
        """What it is given may lie in its array, and so may what it returns."""
        return [(self.own, 0, 0)]

    def __call__(self, arrays):
        (given,) = arrays
        if not np.may_share_memory(given, self.own):
            self.own[...] = given
        self.own *= 2
        return [self.own.copy()]


def doubling(function):
    """Steps that double their carry, without and with a look back when that is done."""

    def step(xp, carry, x, weights):
        return xp.host_call(function, [carry[0]], [4]), carry[0] + 1

    def looking(xp, carry, x, weights):
        (new,) = xp.host_call(function, [carry[0]], [4])
        return [new], 10 * new + carry[0]

    return step, looking


def test_carries_lie_in_the_arrays_of_functions():
    function = Doubling()
    step, _ = doubling(function)
    sim = NumpyStep(step, [np.ones((4, 1))], None, 1, [], float, sharing=True)
    assert np.may_share_memory(sim.carry[0], function.own)
    sim.set_carry([np.ones((4, 1))])
    for i in range(3):
        sim()
        assert np.array_equal(sim.carry[0], np.full((4, 1), 2.0 ** (i + 1)))
        assert np.array_equal(sim.y, np.full((4, 1), 2.0**i + 1))


def test_carries_that_are_needed_afterwards_do_not_lie_there():
    function = Doubling()
    _, looking = doubling(function)
    sim = NumpyStep(looking, [np.ones((4, 1))], None, 1, [], float, sharing=True)
    assert not np.may_share_memory(sim.carry[0], function.own)
    for i in range(3):
        sim()
        assert np.array_equal(sim.y, np.full((4, 1), 21 * 2.0**i))


def test_a_step_beside_takes_a_copy_of_what_functions_overwrite():
    function = Doubling()
    step, looking = doubling(function)
    sim = NumpyStep(step, [np.ones((4, 1))], None, 1, [], float, sharing=True)
    alike = NumpyStep.beside_it(step, [], sim)
    other = NumpyStep.beside_it(looking, [], sim)
    assert alike.carry is sim.carry and other.carry is not sim.carry
    sim.set_carry([np.ones((4, 1))])
    for i in range(0, 9, 3):
        sim()
        other()
        assert np.array_equal(other.y, np.full((4, 1), 21 * 2.0 ** (i + 1)))
        alike()
        assert np.array_equal(sim.carry[0], np.full((4, 1), 2.0 ** (i + 3)))


@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("order", ([0, 1, 2, 3], [1, 2], [3, 0, 0], []))
def test_copies_of_many_steps_equal_single_ones(order, dtype, rng):
    """Rows in any order, between constants, which may be no numbers, or change."""
    weights = [np.array([[np.nan], [2], [-1]], dtype)]

    def step(xp, carry, x, w):
        fixed = xp.broadcast(w[0], (3, 2))
        return [], xp.concat([fixed[:2], xp.take(x, order), fixed[2:]])

    copies, single = (
        kind(step, [], 4, 2, weights, dtype) for kind in (_Copies, NumpyStep)
    )
    rows = rng.uniform(-3, 3, size=(5, 4, 2)).astype(dtype)
    for last in (-1, np.inf):
        weights[0][2] = last
        copies.refresh()
        single.refresh()
        out = np.empty((5, *copies.y.shape), dtype)
        assert copies.advance(rows, out, lambda number: None) == 5
        for row, found in zip(rows, out, strict=True):
            single.x[...] = row
            single()
            assert np.array_equal(found, single.y, equal_nan=True)
        assert np.all(out[:, -1] == last)


def test_copies_of_steps_that_are_given_nothing():
    fixed = np.array([[1.0], [3.0]])
    copies = _Copies(lambda xp, c, x, w: ([], w[0]), [], None, 1, [fixed], "float64")
    out = np.empty((3, 2, 1))
    assert copies.advance(np.empty((3, 0, 1)), out, lambda number: None) == 3
    assert np.array_equal(out, np.broadcast_to(fixed, (3, 2, 1)))
