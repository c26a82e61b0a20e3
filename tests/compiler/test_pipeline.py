"""The whole compiler: passes in their order, checked where that is asked for."""

import gc
import logging
import weakref
from dataclasses import replace

import nengo
import numpy as np
import pytest
from nengo.builder import Model

from nengo_dl.benchmarks.networks.many_ensembles import many_ensembles
from nengo_dl.compiler import pipeline, plan
from nengo_dl.compiler.graph_verify import GraphError, verify
from nengo_dl.compiler.lowering import LoweringOptions, lower
from nengo_dl.compiler.pipeline import PASSES, arrange, compile_model
from nengo_dl.compiler.plan import Stage
from nengo_dl.compiler.simplify import prune, simplify
from nengo_dl.surrogates import SpikeTraining
from tests import networks
from tests.compiler.helpers import (
    NETWORKS,
    SEED,
    agree,
    agree_on_random_graphs,
    case,
)
from tests.compiler.programs import run_fused, run_split


def together(graph):
    for transform in PASSES:
        graph = transform(graph)
    return graph


def test_random_graphs(rng, allclose):
    agree_on_random_graphs(allclose, rng, together)


@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_from_model_to_probes(name, opened, allclose):
    """All passes, both forms of program, against the lowered graph and core Nengo."""
    it = case(name, opened)
    options = LoweringOptions(parameters=frozenset(it.parameters), hosts=it.hosts)
    compiled = compile_model(it.model, options)
    verify(compiled.graph, "all passes")
    for fused, run in ((True, run_fused), (False, run_split)):
        program = arrange(compiled.graph, fused, compiled.stepwise_python)
        got = run(program, **it.arguments())
        agree(allclose, got, it.expected)
        if not opened:
            agree(allclose, got[:, :, :1], it.core)


def test_what_lowering_found_is_handed_on():
    for name in ("processes", "python", "python_several"):
        model = case(name).model
        lowered, compiled = lower(model), compile_model(model)
        assert compiled.sources == lowered.sources
        assert compiled.order == lowered.order
        assert compiled.stepwise_python is lowered.stepwise_python


def test_every_pass_is_reported():
    compiled = compile_model(case("lif").model)
    names = [report.name for report in compiled.reports]
    assert names == ["lower", "simplify", "share", "simplify", "stack"]
    first, last = compiled.reports[0], compiled.reports[-1]
    assert (last.elements, last.nodes) == (compiled.graph.size, len(compiled.graph.nodes))
    assert last.terms == compiled.graph.src.size
    assert first.elements > last.elements and first.terms > last.terms
    assert all(report.seconds >= 0 for report in compiled.reports)


def test_passes_are_logged(caplog):
    with caplog.at_level(logging.DEBUG, logger="nengo_dl"):
        compile_model(case("rates").model)
    for transform in PASSES:
        assert f"name='{transform.__name__}'" in caplog.text


def test_passes_of_the_user():
    seen = []

    def look(graph):
        seen.append(graph)
        return graph

    model = case("rates").model
    compiled = compile_model(model, passes=(look, prune, look))
    assert [report.name for report in compiled.reports] == [
        "lower",
        "look",
        "prune",
        "look",
    ]
    assert compiled.graph.nodes is seen[1].nodes  # kept in less space
    assert np.array_equal(compiled.graph.kind, seen[1].kind)
    assert compile_model(model, passes=()).graph.size == seen[0].size


def breaking(graph):
    """Loses all nodes."""
    return type(graph)(**{**vars(graph), "nodes": ()})


@pytest.mark.parametrize("value", ["1", "yes"])
def test_verification_can_be_asked_for(monkeypatch, value):
    monkeypatch.setenv("NENGO_DL_VERIFY", value)
    with pytest.raises(GraphError, match="after breaking"):
        compile_model(case("rates").model, passes=(breaking,))


@pytest.mark.parametrize("value", ["", "0", None])
def test_verification_costs_nothing_by_default(monkeypatch, value):
    if value is None:
        monkeypatch.delenv("NENGO_DL_VERIFY", raising=False)
    else:
        monkeypatch.setenv("NENGO_DL_VERIFY", value)
    graph = compile_model(case("rates").model, passes=(breaking,)).graph
    assert graph.nodes == ()


@pytest.mark.parametrize("name", NETWORKS)
def test_all_passes_keep_the_rules(monkeypatch, name):
    monkeypatch.setenv("NENGO_DL_VERIFY", "1")
    it = case(name, opened=True)
    for parameters in (frozenset(), frozenset(it.parameters)):
        compiled = compile_model(it.model, LoweringOptions(parameters=parameters))
        assert compiled.graph.size


def test_compiling_twice_gives_the_same():
    model = case("lif").model
    mine, again = compile_model(model).graph, compile_model(model).graph
    for name in ("kind", "owner", "value", "next", "block", "ptr", "src", "scale"):
        assert np.array_equal(getattr(mine, name), getattr(again, name)), name


def test_arrange_fused_is_one_stage():
    graph = simplify(case("lif").graph)
    fused, split = arrange(graph, fused=True), arrange(graph)
    assert not fused.before.groups and not fused.after.groups
    assert split.before.groups
    assert (fused.plan.stages.node == Stage.LOOP).all()


def test_arrange_keeps_python_in_the_loop_if_asked():
    graph = simplify(case("python_apart").graph)
    free, pinned = arrange(graph), arrange(graph, stepwise_python=True)
    assert [any(g.kernel.host for g in it.after.groups) for it in (free, pinned)] == [
        True,
        False,
    ]


def test_few_kernels_are_left():
    """The figures of the design: operators against kernels."""
    it = case("lif")
    compiled = compile_model(it.model)
    kernels = arrange(compiled.graph, fused=True).groups()
    assert len(it.model.operators) > 100
    assert len(kernels) < 30


def test_training_form_compiles(allclose):
    """Rates in place of spikes; checked against core with rate neurons."""
    with nengo.Network(seed=2) as net:
        inp = nengo.Node(networks.waves(2))
        ens = nengo.Ensemble(20, 2, neuron_type=nengo.LIF(), seed=4)
        nengo.Connection(inp, ens, synapse=0.01)
        nengo.Probe(ens.neurons)
    model = Model(dt=0.001)
    model.build(net)
    hosts = {}
    compiled = compile_model(model, LoweringOptions(spikes=SpikeTraining(), hosts=hosts))
    ens.neuron_type = nengo.LIFRate()
    with nengo.Simulator(net, seed=SEED, progress_bar=False, optimize=False) as sim:
        sim.run_steps(20)
        expected = sim.data[net.probes[0]]
    (source,) = compiled.sources
    function = hosts[source.op].advance
    x = np.array([function(0.001 * t) for t in range(1, 21)])[:, :, None]
    got = run_split(arrange(compiled.graph), {source.signal: x}, 20)
    agree(allclose, got[:, :, 0], expected)
    assert got.max() > 0


def test_graphs_of_earlier_passes_are_let_go():
    """Of large networks each takes hundreds of MB."""
    seen = []

    def first(graph):
        seen.append(weakref.ref(graph))
        return replace(graph)

    def second(graph):
        assert seen[0]() is None and graph is not None
        return graph

    model = Model()
    model.build(networks.processes())
    assert compile_model(model, passes=(first, second)).graph.size > 0


def test_memory_of_passes_over_large_graphs_is_given_back(monkeypatch):
    calls = []
    monkeypatch.setattr(pipeline, "give_back", lambda: calls.append(1))
    model = Model()
    model.build(networks.processes())
    arrange(compile_model(model).graph)
    assert not calls
    monkeypatch.setattr(pipeline, "LARGE", 1)
    arrange(compile_model(model).graph)
    assert len(calls) == 1  # of what both have left
    monkeypatch.setattr(pipeline, "VERY_LARGE", 1)
    compiled = compile_model(model)
    assert len(calls) == 2
    arrange(compiled.graph)
    assert len(calls) == 3


@pytest.mark.parametrize("name", NETWORKS)
def test_nodes_in_another_order_give_the_same_bits(name, monkeypatch):
    it = case(name, False)
    compiled = compile_model(it.model, LoweringOptions(hosts=it.hosts))
    for fused, run in ((True, run_fused), (False, run_split)):
        found = []
        for least in (10**9, 1):
            monkeypatch.setattr(plan, "LINED_UP", least)
            program = arrange(compiled.graph, fused, compiled.stepwise_python)
            found.append(run(program, **it.arguments()))
        assert np.array_equal(*found)


def test_large_networks_read_slices(monkeypatch):
    model = Model()
    model.build(many_ensembles(80, 10, 400))
    graph = compile_model(model).graph
    gathered = []
    for least in (10**9, 1):
        monkeypatch.setattr(plan, "LINED_UP", least)
        reads = [read for group in arrange(graph, True).groups() for read in group.reads]
        gathered.append(sum(read.size for read in reads if read.form == "gather"))
    assert gathered[1] < 0.6 * gathered[0]


def test_no_garbage_is_looked_for_meanwhile():
    """Each look at the millions of objects of a large model takes a second."""
    looks = []

    def note(result):
        looks.append(gc.isenabled())
        return result

    def refused(graph):
        raise GraphError("no graph")

    model = Model()
    model.build(many_ensembles(4, 5, 6))
    compiled = compile_model(model, passes=(note,))
    arrange(
        compiled.graph, planner=lambda ops, pairs: note(plan.greedy_planner(ops, pairs))
    )
    assert looks and not any(looks)
    assert gc.isenabled()
    with pytest.raises(GraphError):
        compile_model(model, passes=(refused,))
    assert gc.isenabled()
