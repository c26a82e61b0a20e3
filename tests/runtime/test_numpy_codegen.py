"""Generated steps do what the recorded ones say, with as few array calls as possible."""

import tracemalloc

import numpy as np
import pytest

from nengo_dl.runtime.numpy.executor import NumpyStep
from tests.runtime.numpy_harness import assert_replays, carries, tune


def rearranged(xp, a):
    """Rows of ``(6, batch)`` in another order, by a transpose."""
    return xp.reshape(xp.transpose(xp.reshape(a, (2, 3, -1)), (1, 0, 2)), (6, -1))


def outer(xp, a, b):
    """All products of two rows with three rows."""
    return xp.reshape(xp.reshape(a, (2, 1, -1)) * xp.reshape(b, (1, 3, -1)), (6, -1))


def random_step(seed, n_ops):
    """A step of random operations on random earlier results, carries and views."""

    def step(xp, carry, x, weights):
        rng = np.random.RandomState(seed)
        pool = [*carry, x, np.linspace(-1, 1, 6)[:, None] + np.zeros(x.shape, xp.dtype)]
        n, batch = x.shape

        def pick():
            # the last results more often, so that chains are long
            late = rng.randint(2) and len(pool) > 8
            return pool[rng.randint(len(pool) - 4 if late else 0, len(pool))]

        def both():
            return xp.concat([pick(), pick()])

        makers = [
            lambda: pick() + pick(),
            lambda: pick() * pick() - 0.5,
            lambda: xp.tanh(pick()),
            lambda: xp.maximum(pick(), pick()),
            lambda: xp.where(pick() > pick(), pick(), pick()),
            lambda: xp.where(pick() > 0, pick(), 0),
            lambda: xp.concat([pick()[:2], pick()[1:4], pick()[5:]]),
            lambda: xp.concat([xp.tanh(pick()[:2]), xp.tanh(pick()[2:])]),
            lambda: xp.concat([xp.exp(-abs(pick()[:1])), pick()[:-1]]),
            lambda: xp.take(pick(), rng.randint(6, size=6)),
            lambda: pick()[::-1],
            lambda: rearranged(xp, pick()),
            lambda: xp.broadcast(xp.sum(pick(), 0), (6, batch)) * 0.2,
            lambda: xp.sum(xp.concat([pick()[None], pick()[None]]), 0),
            lambda: xp.matmul(weights[0], pick()),
            lambda: outer(xp, pick()[:2], pick()[3:]),
            lambda: both()[3:9],
            lambda: both()[:6] - both()[6:],
            lambda: xp.concat([xp.sum(xp.reshape(both(), (2, 6, -1)), 1)] * 3),
            lambda: pick() * xp.exp(weights[1]),
            lambda: pick() + weights[1],
            lambda: xp.concat(
                xp.host_call(
                    lambda a: [a[0][:3] * 0.5, a[1][2:5]], [pick(), pick()], [3, 3]
                )
            ),
        ]
        for _ in range(n_ops):
            pool.append(makers[rng.randint(len(makers))]())
        following = [pick() for _ in carry]
        following = [xp.tanh(c) if rng.randint(2) else c for c in following]
        return following, pick()

    return step


@pytest.mark.parametrize("batch", (1, 3))
@pytest.mark.parametrize("tuned", (False, True))
def test_random_steps(tuned, batch, rng, monkeypatch):
    if tuned:
        tune(monkeypatch)
    for seed in rng.randint(2**31, size=25):
        n_ops = 1 + seed % 30
        carry = [rng.uniform(-1, 1, (6, batch)) for _ in range(1 + seed % 5)]
        xs = rng.uniform(-1, 1, (6, 6, batch))
        weights = [rng.uniform(-0.5, 0.5, (6, 6)), rng.uniform(-1, 0, (6, 1))]
        with np.errstate(over="ignore", invalid="ignore"):
            assert_replays(random_step(seed, n_ops), carry, xs, weights, tol=1e-9)


REARRANGED = {
    "keep": lambda xp, c, x: [c[0], c[1], c[2]],
    "swap": lambda xp, c, x: [c[1], c[0], c[2] + x],
    "rotate": lambda xp, c, x: [c[2], c[0], c[1]],
    "delay": lambda xp, c, x: [c[0] * 0.5 + x, c[0], c[1]],
    "delay of the input": lambda xp, c, x: [x, c[0], c[1]],
    "copies of one": lambda xp, c, x: [c[2] * 0.5 + x, c[2], c[2]],
    "one result twice": lambda xp, c, x: (lambda y: [y, y, y + c[0]])(xp.tanh(c[1] + x)),
    "constants": lambda xp, c, x: [np.ones((4, 3)), xp.zeros((4, 3)), c[0] + c[1]],
    "reversed": lambda xp, c, x: [c[0][::-1], c[1][::-1] + x, c[0]],
    "reshaped swap": lambda xp, c, x: [
        xp.reshape(xp.transpose(xp.reshape(c[1], (2, 2, 3)), (1, 0, 2)), (4, 3)),
        xp.reshape(xp.reshape(c[0], (2, 2, 3)), (4, 3)),
        xp.broadcast(c[0][1:2], (4, 3)),
    ],
    "shift": lambda xp, c, x: [xp.concat([x[:1], c[0][:-1]]), c[1], c[0]],
    "read after": lambda xp, c, x: (
        lambda n: [n, xp.concat([c[0][2:], n[:2]]), xp.take(c[0], [3, 1, 0, 0])]
    )(c[0] * 0.5 + x),
    "rows of one result": lambda xp, c, x: (lambda y: [y[:4], y[4:], c[0] + c[1]])(
        xp.concat([xp.tanh(c[1]), c[0] + x])
    ),
    "set where": lambda xp, c, x: [
        xp.where(c[0] > 0, x, xp.maximum(c[0] + x, -0.5)),
        xp.where(c[0] > 0, c[1], c[2]),
        xp.where(c[1] > c[2], c[2], c[2] * 2),
    ],
}


@pytest.mark.parametrize("name", REARRANGED)
@pytest.mark.parametrize("output", ("old carry", "new carry", "input", "row", "new"))
def test_carry_is_written_after_it_was_read(name, output, rng):
    def step(xp, carry, x, weights):
        following = REARRANGED[name](xp, carry, x)
        y = {
            "old carry": carry[0],
            "new carry": following[0],
            "input": x,
            "row": carry[1][2:],
            "new": carry[0] - carry[1] * following[2],
        }
        return following, y[output]

    assert_replays(step, carries(rng, 3), rng.uniform(-1, 1, (7, 4, 3)))


def test_no_copy_where_the_carry_can_be_computed_in_place():
    def step(xp, carry, x, weights):
        voltage, old = carry
        voltage = voltage + (x - voltage) * 0.1
        return [xp.where(voltage > 1, 0, voltage), voltage], xp.tanh(old)

    sim = NumpyStep(step, [np.zeros((5, 1))] * 2, 5, 1, [], "float64")
    # tanh; subtract, multiply, add; greater, copy, putmask
    assert sim.n_calls == 7
    in_place = NumpyStep(
        lambda xp, c, x, w: ([xp.where(x > 1, 0, c[0] + x)], x * 2),
        [np.zeros((5, 1))],
        5,
        1,
        [],
        "float64",
    )
    assert in_place.n_calls == 4  # add, greater, putmask; multiply


def test_a_result_is_postponed_until_the_old_carry_was_read(rng):
    def step(xp, carry, x, weights):
        following = carry[0] * 0.9 + x
        return [following], xp.tanh(carry[0])

    sim = assert_replays(step, carries(rng, 1), rng.uniform(-1, 1, (5, 4, 3)))
    assert sim.n_calls == 3
    assert "[...]" not in sim.source


def test_an_old_carry_is_read_before_the_result_that_replaces_it(rng):
    def step(xp, carry, x, weights):
        following = xp.tanh(carry[0] + x)
        return [following], following * 2 + xp.exp(carry[0])

    sim = assert_replays(step, carries(rng, 1), rng.uniform(-1, 1, (5, 4, 3)))
    assert sim.n_calls == 5
    assert "[...]" not in sim.source


def test_parts_are_computed_in_their_concatenation(rng):
    def step(xp, carry, x, weights):
        inner = xp.concat([xp.exp(x), x * 2])
        y = xp.concat([inner, xp.tanh(carry[0]), x])
        return [y[:4]], y

    sim = assert_replays(step, carries(rng, 1), rng.uniform(-1, 1, (5, 4, 3)))
    # three functions, the copy of x; the carry is a copy of a view of one of them
    assert sim.n_calls == 5


def test_slices_of_a_concatenation_read_its_parts(rng):
    def step(xp, carry, x, weights):
        both = xp.concat([carry[0], x])
        return [xp.tanh(both[:4] + both[4:])], both[5:7] * 2

    sim = assert_replays(step, carries(rng, 1), rng.uniform(-1, 1, (5, 4, 3)))
    assert sim.n_calls == 3


def test_dead_operations_are_left_out():
    def step(xp, carry, x, weights):
        unused = xp.exp(xp.tanh(x))
        half = unused[:1] + xp.matmul(weights[0], x)  # noqa: F841
        return [carry[0] + 1], x * 2

    sim = NumpyStep(step, [np.zeros((1, 1))], 2, 1, [np.eye(2)], "float64")
    assert sim.n_calls == 2
    assert "exp" not in sim.source and "dot" not in sim.source


def test_views_are_free(rng):
    def step(xp, carry, x, weights):
        y = xp.reshape(xp.broadcast(x[None, 1:3], (2, 2, 3)), (4, 3))
        y = xp.transpose(xp.reshape(y, (2, 2, 3)), (1, 0, 2))[1]
        return [], xp.take(y, [0, 1]) * 3

    sim = assert_replays(step, [], rng.uniform(-1, 1, (3, 4, 3)))
    assert sim.n_calls == 2  # a reshape of a broadcast is a copy, in NumPy too


def test_neutral_operands_cost_nothing(rng):
    def step(xp, carry, x, weights):
        ones = np.ones((4, 1))
        return [], 1.0 * (x * ones / xp.ones_like(x)) ** 1 + 1

    assert assert_replays(step, [], rng.uniform(-1, 1, (3, 4, 3))).n_calls == 1


def test_constants_keep_their_shape_and_sign_of_zero(rng, monkeypatch):
    tune(monkeypatch)

    def step(xp, carry, x, weights):
        y = x[:1] * np.ones((4, 1))
        z = xp.where(x[:1] > 0, x[:1], np.zeros((4, 3)))
        nothing = xp.where(x > 5, 1, -0.0)
        return [], xp.concat([y, z, 1 / nothing])

    with np.errstate(divide="ignore"):
        assert_replays(step, [], rng.uniform(-1, 1, (3, 4, 3)))


def test_no_array_is_allocated_in_a_step(rng):
    n = 20000

    def step(xp, carry, x, weights):
        voltage = xp.clip(carry[0] + (x - carry[0]) * 0.1, -1, 1)
        spiked = voltage > 0.5
        parts = xp.concat([xp.expm1(voltage[: n // 2]), carry[1][n // 2 :]])
        gathered = xp.take(parts, np.arange(n)[::-1])
        grouped = xp.reshape(gathered, (n // 10, 10, 2))
        total = xp.reshape(xp.sum(grouped, 1), (n // 10, 1, 2)) * grouped
        product = xp.matmul(weights[0], total)
        y = xp.sigmoid(xp.reshape(product, (n, 2)) + weights[1])
        following = [xp.where(spiked, 0, voltage), carry[0], xp.where(spiked, y, parts)]
        return following, y

    weights = [rng.rand(n // 10, 10, 10), rng.rand(n, 1)]
    sim = NumpyStep(step, [np.zeros((n, 2))] * 3, n, 2, weights, "float64")
    sim()
    tracemalloc.start()
    for _ in range(3):
        sim()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000  # one array has 320,000 bytes


def test_buffers_are_used_again():
    def step(xp, carry, x, weights):
        y = x
        for _ in range(50):
            y = xp.tanh(y) + xp.exp(y)
        return [], y

    n = 100_000
    tracemalloc.start()
    sim = NumpyStep(step, [], n, 1, [], "float64")
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert sim.n_calls == 150
    assert held < 5 * 8 * n


def test_source_names_what_it_does():
    sim = NumpyStep(
        lambda xp, c, x, w: ([xp.tanh(c[0])], w[0] @ x),
        [np.zeros((1, 1))],
        2,
        1,
        [np.eye(2)],
        float,
    )
    lines = sim.source.splitlines()
    assert lines[0].startswith("def make(")
    assert [line.split("_")[0].strip() for line in lines[2:4]] == ["tanh", "dot"]
    assert len(lines) == 2 + sim.n_calls + 1
