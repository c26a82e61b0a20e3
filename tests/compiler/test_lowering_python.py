"""Lowering: Python functions, in core's order."""

import nengo
import pytest

from nengo_dl.compiler.lowering import LoweringOptions, lower
from tests.compiler.helpers import agree, case, make_case
from tests.compiler.reference import interpret


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
