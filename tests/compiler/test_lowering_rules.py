"""Lowering: Python functions in core's order, and rules for operators."""

import nengo
import numpy as np
import pytest
from nengo.builder.operator import DotInc, Operator
from nengo.builder.signal import Signal
from nengo.exceptions import BuildError

from nengo_dl.compiler import registry
from nengo_dl.compiler.lowering import (
    LoweringOptions,
    OperatorRule,
    lower,
    lowers,
    rule_of,
)
from tests.compiler.bench import N_STEPS, Bench
from tests.compiler.helpers import agree, case, make_case
from tests.compiler.reference import interpret

NONE = np.zeros(0, int), np.zeros(0, int), np.zeros(0)


@pytest.fixture
def bench():
    return Bench()


def test_hosts_are_made_once():
    model = case("python_several").model
    hosts = {}
    lower(model, LoweringOptions(hosts=hosts))
    made = dict(hosts)
    graph = lower(model, LoweringOptions(hosts=hosts)).graph
    assert hosts == made and len(made) > 3
    called = [n.params["function"] for n in graph.nodes if n.kernel.host]
    assert set(called) <= set(made.values())


# -- Python in core's order


def functions(*nodes):
    """A network of such nodes; those with input are driven by an ensemble."""
    with nengo.Network(seed=0) as net:
        ens = nengo.Ensemble(10, 1)
        nengo.Connection(nengo.Node(0.5), ens)
        for size_in, function in nodes:
            node = nengo.Node(function, size_in=size_in, size_out=1)
            if size_in:
                nengo.Connection(ens, node, synapse=0.01)
            nengo.Probe(node)
    return net


def lists(shared):
    """Two lists, or the same one twice."""
    first = []
    return first, first if shared else []


def logged(log, *names):
    """Functions of time or input that append to a list."""
    return [lambda t, *x, name=name: log.append(name) or t for name in names]


@pytest.mark.parametrize("shared", [False, True])
def test_functions_that_share_an_object_run_step_by_step(shared, allclose):
    """Else a function of time runs ahead of the steps."""
    a, b = lists(shared)
    (ahead,), (inside,) = logged(a, "ahead"), logged(b, "inside")
    it = make_case(functions((0, ahead), (1, inside)))
    agree(allclose, it.expected[:, :, :1], it.core)
    assert it.lowered.stepwise_python is shared
    assert len(it.lowered.sources) == (not shared)
    assert it.graph.count("python") == 1 + shared


def test_functions_of_time_never_need_to_run_step_by_step():
    """All of them run ahead together, in core's order."""
    log = []
    it = make_case(functions(*((0, f) for f in logged(log, "first", "second"))))
    assert not it.lowered.stepwise_python
    assert len(it.lowered.sources) == 2


@pytest.mark.parametrize("name", ["processes", "lif"])
def test_networks_without_functions_of_input_do_not_run_step_by_step(name):
    lowered = case(name).lowered
    assert not lowered.stepwise_python
    assert lowered.sources
    assert lowered.graph.count("python") == 0


def test_python_comes_in_core_s_order():
    """The order of the calls, in the reference, is that of core's simulator."""
    log = []
    names = ["first", "second", "third"]
    net = functions(*zip((1, 0, 1), logged(log, *names)))
    with nengo.Simulator(net, progress_bar=False, optimize=False) as sim:
        log.clear()
        sim.step()
    expected = list(log)
    assert sorted(expected) == names
    it = make_case(net)
    nodes = sorted((n for n in it.graph.nodes if n.kernel.host), key=lambda n: n.order)
    called = [op for op in it.lowered.order if op in it.hosts]
    assert [n.params["function"] for n in nodes] == [it.hosts[op] for op in called]
    log.clear()
    interpret(it.graph, {key: x[:, :, :1] for key, x in it.inputs.items()}, 2)
    assert log == expected * 2


def test_sources_come_in_core_s_order():
    lowered = case("processes").lowered
    order = list(lowered.order)
    positions = [order.index(source.op) for source in lowered.sources]
    assert positions == sorted(positions)
    assert len(positions) == 4


# -- rules


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
    monkeypatch.setattr(registry.operators, "default", None)
    bench.add(Stepping(Signal(np.zeros(2), name="s")))
    with pytest.raises(BuildError, match="no rule for the operator Stepping"):
        bench.lower()


def test_rules_of_a_base_class(monkeypatch):
    """They hold for subclasses, unless these override ``make_step``."""
    entries = dict(registry.operators._entries)
    monkeypatch.setattr(registry.operators, "_entries", entries)

    @lowers(Unheard)
    class LowerUnheard(OperatorRule):
        """Does nothing."""

    class Same(Unheard):
        """Changes nothing."""

    class Liberal(LowerUnheard):
        def covers(self, op, registered):
            return registered is Unheard

    (signal,) = Unheard(Signal(np.zeros(2))).sets
    default = registry.operators.default
    assert isinstance(rule_of(Unheard(signal)), LowerUnheard)
    assert isinstance(rule_of(Same(signal)), LowerUnheard)
    assert rule_of(Stepping(signal)) is default is not None
    registry.operators.add(Unheard, Liberal())
    assert isinstance(rule_of(Stepping(signal)), Liberal)
    # a product of another kind stores its matrix in its own way
    product = Rewritten(Signal(np.eye(2)), Signal(np.ones(2)), Signal(np.ones(2)))
    assert rule_of(product) is default


def test_a_rule_of_a_user(bench, allclose, monkeypatch):
    """Twice the value of the step before, plus one; with what rules may ask for."""
    entries = dict(registry.operators._entries)
    monkeypatch.setattr(registry.operators, "_entries", entries)
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
    with pytest.raises(NotImplementedError, match="OperatorRule.lower is missing"):
        OperatorRule().lower(Unheard(Signal(np.zeros(2))), None)
    rule, op = OperatorRule(), Unheard(Signal(np.zeros(2)))
    assert not list(rule.carries(op))
    assert rule.reaches(op) == frozenset() and not rule.stepwise(op)
