"""What is computed of concatenations joins the loops of their parts."""

import pytest

from nengo_dl.runtime.native import costs
from nengo_dl.runtime.native.parts import divide
from nengo_dl.runtime.numpy.codegen import Program
from tests.runtime.native_code import pytestmark_native
from tests.runtime.numpy_harness import carries
from tests.runtime.test_native_steps import assert_agrees

pytestmark = pytestmark_native

WIDTH = 8
LONG, SHORT = costs.LONG_VECTORS * WIDTH, costs.PART_VECTORS * WIDTH + 3


def traces(extra=0, factor=None):
    """Spikes beside currents, filtered, and their traces, as learning rules need them."""

    def step(xp, carry, x, weights):
        voltage, filtered, trace = carry
        total = voltage[:LONG] + x[:LONG]
        spikes = xp.floor(total)
        currents = xp.matmul(weights[0], spikes)
        both = xp.concat([currents, spikes]) * weights[1] + weights[2]
        if factor is not None:
            both = both * factor(xp)
        for _ in range(extra):
            both = both * 0.5 + 0.25
        seen = filtered[SHORT:] * 0.5
        order = xp.concat([both[SHORT:], both[:SHORT] + voltage[LONG:]])
        following = xp.concat([total - spikes, both[:SHORT]])
        return [following, both, trace * 0.9 + order], seen

    return step


def agreed(rng, step):
    n = LONG + SHORT
    weights = [rng.uniform(-1, 1, s) for s in ((SHORT, LONG), (n, 1), (n, 1))]
    xs = rng.uniform(0, 1, (5, n, 1))
    return assert_agrees(step, carries(rng, 3, n, 1), xs, weights, WIDTH, 1e-12)


def loops(one):
    """The sizes of all loops."""
    return sorted(unit.size for unit in one.plan.units if unit.fused)


def test_filters_and_traces_join_the_loop_of_the_spikes(rng):
    one = agreed(rng, traces())
    assert loops(one) == [SHORT, LONG]
    assert one.plan.copied == 0


def test_long_chains_are_not_divided(rng):
    """Whatever they would gain: each part has all of their code."""
    one = agreed(rng, traces(extra=costs.DIVIDED))
    assert LONG + SHORT in loops(one)


@pytest.mark.parametrize("name", ("LONG_VECTORS", "PART_VECTORS"))
def test_short_parts_are_not_divided(name, monkeypatch, rng):
    monkeypatch.setattr(costs, name, costs.LONG_VECTORS + 1)
    assert LONG + SHORT in loops(agreed(rng, traces()))


def test_constants_are_divided_like_weights(rng):
    factors = rng.uniform(0.5, 1, (LONG + SHORT, 1))
    one = agreed(rng, traces(factor=lambda xp: xp.constant(factors)))
    assert loops(one) == [SHORT, LONG]


def test_parts_of_another_type_are_not_divided(rng):
    """They are converted where they are put together."""

    def step(xp, carry, x, weights):
        both = xp.concat([x > 0.5, x * 0.5])
        return [both * 2.0 + carry[0]], both

    xs = rng.uniform(0, 1, (3, LONG, 1))
    assert_agrees(step, carries(rng, 1, 2 * LONG, 1), xs, (), WIDTH)


def test_programs_without_concatenations_stay():
    program = Program()
    divide(program, WIDTH)
    assert program.instructions == []
