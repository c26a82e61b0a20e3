"""Rules for operators: which one is taken, and what it may ask for."""

import numpy as np
import pytest
from nengo.builder.operator import DotInc, Operator
from nengo.builder.signal import Signal
from nengo.exceptions import BuildError

from nengo_dl.compiler.lowering import OperatorRule, lowers, rule_of
from nengo_dl.compiler.traits import operators
from tests.compiler.bench import N_STEPS, Bench
from tests.compiler.reference import interpret

NONE = np.zeros(0, int), np.zeros(0, int), np.zeros(0)


@pytest.fixture
def bench():
    return Bench()


class Unheard(Operator):
    """Some operator of a user."""

    def __init__(self, signal):
        super().__init__(tag="mine")
        self.sets, self.incs, self.reads, self.updates = [signal], [], [], []


class Rewritten(DotInc):
    """Stores its matrix differently, say."""


class Stepping(Unheard):
    """Has a step function."""

    def make_step(self, signals, dt, rng):
        return lambda: None


def test_unknown_operators_name_the_way_out(bench):
    op = Unheard(Signal(np.zeros(2), name="s"))
    bench.model.operators.append(op)
    with pytest.raises(BuildError) as error:
        bench.lower()
    message = str(error.value)
    assert f"no rule for the operator Unheard ({op})" in message
    assert "@nengo_dl.builder.Builder.register(Unheard)" in message
    assert "make_step(signals, dt, rng)" in message
    assert "DotInc" in message  # among the known ones


def test_without_kernels_there_is_no_rule_at_all(bench, monkeypatch):
    monkeypatch.setattr(operators, "default", None)
    bench.add(Stepping(Signal(np.zeros(2), name="s")))
    with pytest.raises(BuildError, match="no rule for the operator Stepping"):
        bench.lower()


def test_rules_of_a_base_class(monkeypatch):
    """They hold for subclasses, unless these override ``make_step``."""
    entries = dict(operators._entries)
    monkeypatch.setattr(operators, "_entries", entries)

    @lowers(Unheard)
    class LowerUnheard(OperatorRule):
        """Does nothing."""

        def lower(self, op, low):
            pass

    class Same(Unheard):
        """Changes nothing."""

    class Liberal(LowerUnheard):
        def covers(self, op, registered):
            return registered is Unheard

    (signal,) = Unheard(Signal(np.zeros(2))).sets
    default = operators.default
    assert isinstance(rule_of(Unheard(signal)), LowerUnheard)
    assert isinstance(rule_of(Same(signal)), LowerUnheard)
    assert rule_of(Stepping(signal)) is default is not None
    operators.add(Unheard, Liberal())
    assert isinstance(rule_of(Stepping(signal)), Liberal)
    # a product of another kind stores its matrix in its own way
    product = Rewritten(Signal(np.eye(2)), Signal(np.ones(2)), Signal(np.ones(2)))
    assert rule_of(product) is default


def test_a_rule_of_a_user(bench, allclose, monkeypatch):
    """Twice the value of the step before, plus one; with what rules may ask for."""
    entries = dict(operators._entries)
    monkeypatch.setattr(operators, "_entries", entries)
    calls = []

    @lowers(Unheard)
    class LowerUnheard(OperatorRule):
        def carries(self, op):
            return op.sets

        def lower(self, op, low):
            (signal,) = op.sets
            before = low.previous(signal)
            one = low.memo(
                "one", lambda: calls.append("made") or low.affine([1.0], *NONE)
            )
            same = low.memo("one", lambda: calls.append("made again"))
            assert same is one
            rows = np.arange(before.size)
            low.define(signal, low.affine(np.ones(2), rows, before, 2 * np.ones(2)))

    y = Signal(np.array([0.0, 1.0]), name="y")
    bench.add(Unheard(y))
    bench.watch(y)
    got = interpret(bench.lower().graph, bench.inputs(), N_STEPS)[:, :, 0]
    assert calls == ["made"]
    expected = [[2**t - 1, 2 * 2**t - 1] for t in range(1, N_STEPS + 1)]
    assert allclose(got, expected)


def test_a_rule_has_to_say_what_it_does():
    class Silent(OperatorRule):
        """Has no method lower."""

    with pytest.raises(TypeError, match=r"Silent has no method lower\(\), which is abs"):
        lowers(Unheard)(Silent)
    assert not isinstance(operators.exact(Unheard), Silent)

    class Idle(OperatorRule):
        def lower(self, op, low):
            raise AssertionError

    rule, op = Idle(), Unheard(Signal(np.zeros(2)))
    assert not list(rule.carries(op))
    assert rule.reaches(op) == frozenset() and not rule.stepwise(op)
