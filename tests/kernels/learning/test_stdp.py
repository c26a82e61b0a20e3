"""Learning from spikes natively: whole networks against core Nengo, files, training."""

import pickle
from functools import cache

import nengo
import numpy as np
import pytest
from nengo.exceptions import BuildError
from nengo_dl.learning_rules import STDP, ModulatedSTDP, Normalize, TripletSTDP

import nengo_dl
from nengo_dl.compiler.lowering import LoweringOptions
from nengo_dl.compiler.pipeline import compile_model
from nengo_dl.surrogates import SpikeTraining
from tests.models.pairs import neurons_of, random_spikes

STEPS, ITEMS, N, M = 60, 4, 6, 4

#: rules of one kind have one shape, so they are merged
RULES = (
    STDP(0.05),
    STDP(0.05, tau_plus=0.01),
    STDP.diehl_cook(0.1),
    STDP(0.02, mu_plus=1.0, mu_minus=1.0, coincident="causal"),
    [STDP(0.03, w_max=2.0), Normalize(3.0, every=0.02)],
    TripletSTDP(5.0),
    TripletSTDP.fit("hippocampal", learning_rate=5.0, pairing="nearest"),
    ModulatedSTDP(0.5, tau_e=0.02),
)


@cache
def spikes():
    """What neurons on both sides fire, ``(items, steps, neurons)``."""
    rng = np.random.RandomState(2)
    return [
        np.stack([random_spikes(rng, STEPS, n, 0.2) for _ in range(ITEMS)])
        for n in (N, M)
    ]


def network(chosen=RULES, item=0, **settings):
    """Connections between given spikes, each with a rule; probes of all of them."""
    pre, post = (side[item] for side in spikes())
    rng = np.random.RandomState(3)
    with nengo.Network(seed=1) as net:
        nengo_dl.configure_settings(**{"dtype": "float64", **settings})
        (a, net.a), (b, net.b) = neurons_of(pre), neurons_of(post, 2.0)
        net.gate = nengo.Node(nengo.processes.WhiteSignal(1, 50, seed=0))
        net.probes_of = []
        for number, rule in enumerate(chosen):
            conn = nengo.Connection(
                a.neurons,
                b.neurons,
                transform=rng.uniform(0.3, 0.7, (M, N)),
                synapse=None if number % 2 else 0.005,
                learning_rule_type=rule,
            )
            if number in (1, len(RULES) - 1):
                nengo.Connection(net.gate, conn.learning_rule, synapse=None)
            nengo.Probe(conn, "weights")
            rules = conn.learning_rule
            for each in rules if isinstance(rules, list) else [rules]:
                for name in each.probeable[: None if number % 2 else 0]:
                    nengo.Probe(each, name)
    return net


@cache
def core(item):
    """What all probes show in core."""
    net = network(item=item)
    with nengo.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(STEPS)
        return [np.array(sim.data[probe]) for probe in net.probes]


def quiet(net, items=None):
    """A simulator without a progress bar."""
    return nengo_dl.Simulator(net, minibatch_size=items, progress_bar=False)


@pytest.mark.parametrize(
    "executor, items",
    (
        ("numpy", None),
        ("numpy", ITEMS),
        ("native", None),
        ("native", ITEMS),
        ("tensorflow", ITEMS),
    ),
)
def test_all_rules_as_in_core(executor, items):
    net = network(executor=executor)
    data = {
        node: given[: items or 1] / 0.001
        for node, given in zip((net.a, net.b), spikes(), strict=True)
    }
    with quiet(net, items) as sim:
        sim.run_steps(STEPS, data=data if items else None)
        for item in range(items or 1):
            for probe, expected in zip(net.probes, core(item), strict=True):
                found = sim.data[probe][item] if items else sim.data[probe]
                limit = 1e-12 * max(1.0, np.abs(expected).max())
                assert np.abs(found - expected).max() <= limit, probe
                if probe.attr == "weights":
                    assert np.ptp(expected, axis=0).max() > 1e-3


@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("rule", (STDP(0.3), STDP(0.9, coincident="causal", w_min=0.1)))
def test_bounds_hold_for_many_steps(rule, dtype):
    """A hundred thousand, in each of which much changes; seen after each hundred."""
    steps, part = 100_000, 20_000
    net = network([rule], dtype=dtype, executor="native")
    rng = np.random.RandomState(0)
    with net:
        (conn,) = (c for c in net.connections if c.learning_rule_type is not None)
        probe = nengo.Probe(conn, "weights", sample_every=0.1)
    net.probes.remove(net.probes[0])
    with quiet(net) as sim:
        for _ in range(steps // part):
            data = {n: random_spikes(rng, part, n.size_out, 0.2) for n in (net.a, net.b)}
            sim.run_steps(part, data={n: x[None] / 0.001 for n, x in data.items()})
        seen = sim.data[probe]
    assert len(seen) == steps // 100 and seen.dtype == dtype
    assert rule.w_min <= seen.min() <= rule.w_min + 1e-6
    assert rule.w_max - 1e-6 <= seen.max() <= rule.w_max


def test_changes_are_carried_as_their_factors():
    """Without a probe of it no change is kept: it is computed as it is added."""
    with quiet(network([STDP(0.05)])) as sim:
        graph = compile_model(sim.model, LoweringOptions()).graph
    held = [r.key for r in graph.states if (r.elements >= 0).any()]
    assert graph.count("STDP") == 1
    assert not any(getattr(key, "name", None) == "Delta" for key in held)


def test_what_was_learned_lasts(tmp_path):
    """In files, in pickles, and in the network, where core goes on with it."""
    net = network([STDP(0.05), STDP.diehl_cook()], jit=False)
    conn = net.connections[2]
    with quiet(net) as sim:
        sim.run_steps(30)
        sim.save_params(tmp_path / "half", include_state=True)
        copy = pickle.loads(pickle.dumps(sim))
        learned = sim.data[conn].weights
        sim.run_steps(30)
        expected = sim.data[net.probes[0]][30:]
    for other in (copy, quiet(net)):
        with other:
            if other is not copy:
                other.load_params(tmp_path / "half.npz", include_state=True)
            other.run_steps(30)
            probe = other.model.probes[0]
            assert np.array_equal(other.data[probe][-30:], expected)
    with quiet(net) as sim:
        sim.run_steps(30)
        sim.freeze_params(net)
    with nengo.Simulator(net, progress_bar=False) as sim:
        frozen = sim.data[conn].weights
    assert np.array_equal(frozen, learned) and np.ptp(learned) > 0.1


def plastic(**settings):
    """Two ensembles that fire, with a rule in between."""
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(**settings)
        a, b = nengo.Ensemble(5, 1), nengo.Ensemble(4, 1)
        nengo.Connection(nengo.Node([0.5]), a)
        conn = nengo.Connection(
            a.neurons,
            b.neurons,
            transform=np.full((4, 5), 0.5),
            learning_rule_type=STDP(0.1),
        )
        net.weights = nengo.Probe(conn, "weights")
    return net


def test_rates_teach_nothing():
    """A warning says so; spikes that are trained with a gradient do."""
    net = plastic(jit=False)
    with quiet(net) as sim:
        with pytest.warns(UserWarning, match=r"STDP.* is suspended.*spiking_training"):
            sim.run_steps(40, spiking=False)
        assert (sim.data[net.weights] == 0.5).all()
        sim.run_steps(40)
        assert np.ptp(sim.data[net.weights]) > 1e-3
        model = sim.model
    for spiking in (False, True):
        options = LoweringOptions(training=True, spikes=SpikeTraining(spiking=spiking))
        assert compile_model(model, options).graph.count("STDP") == int(spiking)


def test_sparse_weights_are_refused():
    with nengo.Network() as net:
        a, b = nengo.Ensemble(4, 1), nengo.Ensemble(4, 1)
        nengo.Connection(
            a.neurons,
            b.neurons,
            transform=nengo.Sparse((4, 4), indices=[[0, 1]], init=[0.5]),
            learning_rule_type=[STDP(), Normalize(1.0)],
            label="plastic",
        )
    with pytest.raises(BuildError, match="plastic.* STDP .* found a .* Sparse"):
        nengo_dl.Simulator(net)
