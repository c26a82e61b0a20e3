"""All learning rules, in whole networks, against core Nengo."""

from functools import cache

import nengo
import numpy as np
import pytest

import nengo_dl
from nengo_dl.runtime.program import Specialization
from tests.kernels.learning.rule_networks import (
    ITEMS,
    STEPS,
    VARIANTS,
    data,
    network,
    rules_of,
)

NUMPY = {"dtype": "float64", "jit": False}
COMPILED = {"dtype": "float64", "jit": True}

each_variant = pytest.mark.parametrize("name", VARIANTS)


@cache
def core(name, item):
    """What core's probes have, in order, if it is given the data of one item."""
    net = network(name, data()[item])
    with nengo.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(STEPS)
        return [np.array(sim.data[probe]) for probe in net.probes]


def quiet(net, minibatch_size=None):
    """A simulator without a progress bar."""
    return nengo_dl.Simulator(net, minibatch_size=minibatch_size, progress_bar=False)


def assert_same(ours, theirs, probes, tolerance=1e-10):
    """Every probe's data, to rounding relative to their largest value."""
    for probe, mine, expected in zip(probes, ours, theirs, strict=True):
        limit = tolerance * np.abs(expected).max(initial=1e-12)
        assert np.abs(mine - expected).max() <= limit, probe


def check_items(sim, name):
    """Run; each item has what core has with its data."""
    net = sim.network
    sim.run_steps(STEPS, data={net.inp: data()})
    for item in range(ITEMS):
        ours = [sim.data[probe][item] for probe in net.probes]
        assert_same(ours, core(name, item), net.probes)


@each_variant
def test_one_item(name):
    net = network(name, data()[0], **NUMPY)
    with quiet(net) as sim:
        sim.run_steps(STEPS - 20)
        sim.run_steps(20)
        ours = [sim.data[probe] for probe in net.probes]
    assert_same(ours, core(name, 0), net.probes)


@each_variant
def test_each_item_learns_by_itself(name):
    net = network(name, **NUMPY)
    with quiet(net, ITEMS) as sim:
        check_items(sim, name)
        for probe in filter(shows_what_is_learned, net.probes):
            values = sim.data[probe]
            assert np.abs(values - values[:, :1]).max() > 1e-7
            assert np.abs(values[0, -1] - values[1, -1]).max() > 1e-8


def shows_what_is_learned(probe):
    """Whether a rule changes what a probe shows."""
    if isinstance(probe.target, nengo.Connection) and probe.attr == "weights":
        return any(rule.modifies != "encoders" for rule in rules_of(probe.target))
    return probe.attr == "scaled_encoders"


@pytest.mark.parametrize(
    "name", ("dict_for_weights", "list_for_decoders", "two_rules_for_the_same_encoders")
)
def test_compiled(name):
    net = network(name, **COMPILED)
    with quiet(net, ITEMS) as sim:
        check_items(sim, name)


@pytest.mark.parametrize("name", ("dict_for_weights", "voja_with_a_signal", "rls"))
def test_single_precision(name):
    """For as long as no spike moves: rounding errors grow with each of them."""
    net = network(name, data()[0], jit=False)
    with quiet(net) as sim:
        sim.run_steps(30)
        for probe, theirs in zip(net.probes, core(name, 0), strict=True):
            limit = 1e-4 * np.abs(theirs[:30]).max(initial=1e-12)
            assert np.abs(sim.data[probe] - theirs[:30]).max() <= limit, probe


@pytest.mark.parametrize(
    "name, kernel, change",
    (
        ("bcm", "BCM", (12, 14)),
        ("oja", "Oja", (12, 14)),
        ("voja", "Voja", (12, 2)),
        ("rls", "outer_product", (2, 14)),
        ("pes_between_neurons", "PES", (12, 14)),
    ),
)
def test_a_change_that_nobody_probes_is_carried_as_its_factors(name, kernel, change):
    net = network(name, data()[0], **NUMPY)
    watched = [i for i, probe in enumerate(net.probes) if probe.attr != "delta"]
    net.probes[:] = [net.probes[i] for i in watched]
    expected = core(name, 0)
    with quiet(net) as sim:
        sim.run_steps(STEPS)
        ours = [sim.data[probe] for probe in net.probes]
        graph = sim._program.compiled(Specialization()).graph
    assert_same(ours, [expected[i] for i in watched], net.probes)
    shapes = {n.params["shape"] for n in graph.nodes if n.kernel.name == kernel}
    assert change in shapes
    held = [r.key for r in graph.states if (r.elements >= 0).any()]
    carried = {key[0].shape for key in held if isinstance(key, tuple)}
    assert carried == {change}  # as parts of it
    assert not any(key.name == "Delta" for key in held if not isinstance(key, tuple))
