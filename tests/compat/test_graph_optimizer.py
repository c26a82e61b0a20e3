"""Strategies of the compiler as settings: other programs, the same results."""

from functools import cache

import keras
import nengo
import numpy as np
import pytest
from nengo.exceptions import ValidationError

import nengo_dl
from nengo_dl import graph_optimizer
from tests.networks import recurrent

PLANNERS = ("greedy_planner", "tree_planner", "transitive_planner", "noop_planner")


def outputs(net, n_steps=40):
    """Everything that is probed, in single steps and a compiled run; and how many
    kernels there are."""
    with nengo_dl.Simulator(net, progress_bar=False, seed=0) as sim:
        for _ in range(5):
            sim.step()
        sim.run_steps(n_steps)
        layouts = sim._live.program._layouts.values()
        kernels = max(len(layout.groups()) for layout in layouts)
        return {p: np.array(sim.data[p]) for p in net.all_probes}, kernels


def ours(**settings):
    """What the probes of the test network have, in order, and how many kernels it has."""
    net = recurrent()
    with net:
        nengo_dl.configure_settings(dtype="float64", jit=True, **settings)
    found, kernels = outputs(net)
    return [found[probe] for probe in net.all_probes], kernels


by_default = cache(ours)


@cache
def in_core():
    """What the probes of the test network have in core, in order."""
    net = recurrent()
    with nengo.Simulator(net, progress_bar=False, seed=0) as core:
        core.run_steps(45)
        return [np.array(core.data[probe]) for probe in net.all_probes]


def compare(allclose, **settings):
    """The test network with settings, in core and in ours."""
    found, kernels = ours(**settings) if settings else by_default()
    for values, expected in zip(found, in_core(), strict=True):
        assert allclose(values, expected, atol=1e-9)
    return kernels


@pytest.mark.parametrize("name", PLANNERS)
def test_planners(name, allclose):
    kernels = compare(allclose, planner=getattr(graph_optimizer, name))
    merged = compare(allclose)
    if name == "noop_planner":
        assert kernels > merged
    elif name == "greedy_planner":
        assert kernels == merged


@pytest.mark.parametrize("name", ["order_signals", "noop_order_signals"])
def test_sorters(name, allclose):
    compare(allclose, sorter=getattr(graph_optimizer, name))


@pytest.mark.parametrize(
    "rules",
    [
        [],
        [graph_optimizer.remove_zero_incs],
        graph_optimizer.default_simplifications[:5],
        graph_optimizer.default_simplifications,
    ],
)
def test_simplifications(rules, allclose):
    compare(allclose, simplifications=rules)


def test_functions_of_ones_own(allclose):
    called = []

    def planner(operations, pairs):
        called.append("planner")
        assert all(op.size > 0 for op in operations if op.sums is not None)
        return graph_optimizer.greedy_planner(operations, pairs)

    def sorter(plan):
        called.append("sorter")
        return -np.arange(plan.graph.size)

    def rule(graph):
        called.append("rule")
        return graph

    compare(allclose, planner=planner, sorter=sorter, simplifications=[rule])
    assert {"planner", "sorter", "rule"} == set(called)


def test_training_uses_them_too(rng, allclose):
    x, y = rng.normal(size=(4, 6, 2)), rng.normal(size=(4, 6, 1))
    losses = []
    for settings in (
        {},
        {
            "planner": graph_optimizer.noop_planner,
            "sorter": graph_optimizer.noop_order_signals,
            "simplifications": [],
        },
    ):
        with nengo.Network(seed=0) as net:
            nengo_dl.configure_settings(dtype="float64", **settings)
            inp = nengo.Node(np.zeros(2))
            ens = nengo.Ensemble(15, 2, neuron_type=nengo.LIFRate())
            out = nengo.Node(size_in=1)
            nengo.Connection(inp, ens, synapse=None)
            nengo.Connection(ens, out, function=np.prod, synapse=0.01)
            net.p = nengo.Probe(out)
        with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
            sim.compile(keras.optimizers.Adam(1e-3), "mse")
            history = sim.fit(
                {inp: x}, {net.p: y}, epochs=3, shuffle=False, verbose=0
            ).history
        losses.append(history["loss"])
    assert losses[0][-1] < losses[0][0]
    assert allclose(losses[0], losses[1], rtol=1e-6)


def test_errors_come_with_the_simulator():
    with nengo.Network() as net:
        nengo_dl.configure_settings(planner=lambda operations, pairs: [])
        nengo.Probe(nengo.Ensemble(5, 1))
    with pytest.raises(ValidationError, match=r"planner <lambda> returned 0 indices"):
        with nengo_dl.Simulator(net, progress_bar=False) as sim:
            sim.run_steps(3)


def with_constants():
    """Constants that reach neurons by matrices, and neurons that never fire."""
    with nengo.Network(seed=0) as net:
        a, still = nengo.Node([0.5]), nengo.Node([0.0])
        ens, out = nengo.Ensemble(10, 1), nengo.Node(size_in=1)
        nengo.Connection(a, ens)
        nengo.Connection(still, ens.neurons, transform=np.ones((10, 1)), synapse=None)
        quiet = nengo.Ensemble(
            3,
            1,
            gain=np.ones(3),
            bias=np.zeros(3),
            neuron_type=nengo.RectifiedLinear(),
        )
        nengo.Connection(quiet.neurons, out, transform=np.ones((1, 3)))
        nengo.Connection(ens, out, synapse=None)
        nengo.Probe(out)
    return net


@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize(
    "rules",
    [
        graph_optimizer.default_simplifications,
        graph_optimizer.default_simplifications[::-1],
        *([rule] for rule in graph_optimizer.default_simplifications),
    ],
    ids=lambda rules: f"{len(rules)}-{rules[0].__name__}",
)
def test_simplifications_of_constants(rules, opened, allclose):
    net = with_constants()
    with net:
        nengo_dl.configure_settings(dtype="float64", jit=False, simplifications=rules)
    (probe,) = net.probes
    with nengo_dl.Simulator(net, progress_bar=False, seed=0) as sim:
        if opened:
            sim._program.written()
        sim.run_steps(10)
        found = sim.data[probe]
    with nengo.Simulator(net, progress_bar=False, seed=0) as core:
        core.run_steps(10)
    assert allclose(found, core.data[probe], atol=1e-9)
