"""Learning from spikes natively: whole networks against core Nengo, files, training."""

import pickle
from functools import cache

import nengo
import numpy as np
import pytest
from nengo.exceptions import BuildError, ValidationError
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


@pytest.mark.parametrize("rule", (STDP(0.05), STDP.diehl_cook(0.1)))
def test_scaled_weights_come_back_between_the_bounds(rule):
    """In the step after, also those that no spike would change."""
    net, found = network([[rule, Normalize(5.0, every=0.02)]], executor="native"), []
    for simulator in (nengo.Simulator, nengo_dl.Simulator):
        with simulator(net, progress_bar=False) as sim:
            sim.run_steps(STEPS)
            found.append(np.array(sim.data[net.probes[0]]))
    assert np.abs(found[0] - found[1]).max() <= 1e-12
    outside = (found[1] > 1 + 1e-9).any(axis=(1, 2))
    assert 1 <= outside.sum() <= 2 and not outside[-1]


@pytest.mark.parametrize("executor", ("numpy", "native"))
@pytest.mark.parametrize(
    "rules",
    (
        [STDP.diehl_cook(0.1), Normalize(6.0, every=0.004)],
        [STDP.diehl_cook(0.1), Normalize(6.0)],
        [STDP.diehl_cook(0.1), STDP(0.3, w_max=1.5)],
    ),
)
def test_what_others_did_is_bounded_before_spikes_behind_lower_weights(rules, executor):
    """Rules that spikes before the connection have no part in do it, too."""
    net, found = network([rules], executor=executor), []
    for simulator in (nengo.Simulator, nengo_dl.Simulator):
        with simulator(net, progress_bar=False) as sim:
            sim.run_steps(STEPS)
            found.append(np.array(sim.data[net.probes[0]]))
    outside, fired = found[0].max(axis=2) > 1 + 1e-9, spikes()[1][0] > 0
    assert (outside[:-1] & fired[1:]).any()
    assert np.abs(found[0] - found[1]).max() <= 1e-12


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


@pytest.mark.parametrize(
    "transform, found",
    (
        (
            nengo.Sparse((4, 4), indices=[[0, 1]], init=[0.5]),
            "a transform of the type Sparse",
        ),
        (
            nengo.Convolution(1, (2, 2, 1), kernel_size=(1, 1)),
            "a transform of the type Convolution",
        ),
        (0.5, r"a number as the transform, shape \(\)"),
        ([0.1, 0.2, 0.3, 0.4], r"one number for each neuron .* \(4,\)"),
    ),
    ids=("sparse", "convolution", "number", "vector"),
)
def test_weights_that_are_no_matrix_are_refused(transform, found):
    """By our own message: Nengo's own does not say of which connection."""
    with nengo.Network() as net:
        a, b = nengo.Ensemble(4, 1), nengo.Ensemble(4, 1)
        conn = nengo.Connection(
            a.neurons,
            b.neurons,
            transform=np.ones((4, 4)),
            learning_rule_type=[STDP(), Normalize(1.0)],
            label="plastic",
        )
        conn.transform = transform  # Nengo refuses some of them with the rule, unclearly
    with pytest.raises(BuildError, match=f"plastic.* STDP .* found {found}"):
        nengo_dl.Simulator(net)


@pytest.mark.parametrize("dt", (1e-4, 0.002, 0.01))
def test_other_time_steps(dt):
    """Several rules at once, in core and natively."""
    rates = np.linspace(40, 90, 5)
    with nengo.Network(seed=3) as net:
        nengo_dl.configure_settings(dtype="float64")
        a, b = (
            nengo.Ensemble(
                5,
                1,
                neuron_type=nengo.SpikingRectifiedLinear(
                    initial_state={"voltage": nengo.dists.Uniform(0, 1)}
                ),
                gain=np.ones(5),
                bias=rates,
            )
            for _ in range(2)
        )
        for rules in ([STDP(0.03), STDP(0.02, tau_plus=0.1)], [STDP(0.3, w_max=0.5)]):
            conn = nengo.Connection(
                a.neurons,
                b.neurons,
                transform=np.full((5, 5), 0.3),
                learning_rule_type=[*rules, Normalize(3.0, every=0.03)],
            )
            nengo.Probe(conn, "weights")
            nengo.Probe(conn.learning_rule[0], "pre_trace", sample_every=20 * dt)
    found = []
    for simulator in (nengo.Simulator, nengo_dl.Simulator):
        with simulator(net, dt=dt, progress_bar=False) as sim:
            sim.run_steps(250)
            found.append([np.array(sim.data[probe]) for probe in net.probes])
    for ours, theirs in zip(*found, strict=True):
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs).max() <= 1e-12
    assert np.ptp(found[0][0], axis=0).max() > 1e-3


def test_learning_goes_on_where_it_was_frozen(tmp_path):
    """In core, and with weights of another simulator, whatever their rule is."""
    nets = [network([rule], jit=False) for rule in (STDP(0.05), STDP(0.01))]
    learned = [net.connections[2] for net in nets]
    with quiet(nets[0]) as sim, quiet(nets[1]) as other:
        sim.run_steps(30)
        weights = sim.data[learned[0]].weights
        sim.freeze_params(nets[0])
        sim.save_params(tmp_path / "learned")
        other.load_params(tmp_path / "learned.npz")
        assert np.array_equal(other.data[learned[1]].weights, weights)
        other.run_steps(20)
        assert np.array_equal(other.data[nets[1].probes[0]][0], weights)
    with nengo.Simulator(nets[0], progress_bar=False) as sim:
        sim.run_steps(30)
        seen = sim.data[nets[0].probes[0]]
    assert np.array_equal(seen[0], weights) and np.ptp(seen, axis=0).max() > 0.01


@pytest.mark.parametrize("executor", ("numpy", "native"))
@pytest.mark.parametrize("include_state", (False, True))
def test_weights_beyond_the_bounds_are_not_loaded(tmp_path, executor, include_state):
    """They come from a rule with others; nothing is changed."""
    wide = network([STDP(0.05, w_min=-1)], executor=executor)
    narrow = network([STDP(0.05, w_max=0.5)], executor=executor)
    narrow.connections[2].transform = np.full((M, N), 0.4)
    with quiet(wide) as sim, quiet(narrow) as other:
        sim.save_params(tmp_path / "wide", include_state=include_state)
        found = r"weights from 0\.3\d* to 0\.6\d*, .* w_min=0 and w_max=0\.5 .* STDP"
        with pytest.raises(ValidationError, match=found):
            other.load_params(tmp_path / "wide", include_state=include_state)
        assert (other.data[narrow.connections[2]].weights == 0.4).all()


def test_what_rounding_leads_beyond_the_bounds_is_loaded(tmp_path):
    """Single precision has no 0.3; what is above it starts on the bound."""
    rules, weights = [STDP(0.05, w_max=0.3)], np.full((M, N), 0.3)
    with nengo.Network() as net:
        nengo_dl.configure_settings(dtype="float64", jit=False)
        a, b = nengo.Ensemble(N, 1), nengo.Ensemble(M, 1)
        conn = nengo.Connection(
            a.neurons, b.neurons, transform=weights, learning_rule_type=rules
        )
    with quiet(net) as sim:
        sim.save_params(tmp_path / "learned")
        with np.load(tmp_path / "learned.npz") as file:
            values = {k: v.astype("float32").astype("float64") for k, v in file.items()}
        (name,) = (k for k in values if k.endswith("weights"))
        assert values[name].max() > 0.3
        np.savez(tmp_path / "single.npz", **values)
        sim.load_params(tmp_path / "single")
        assert (sim.data[conn].weights == 0.3).all()


@pytest.mark.parametrize("executor", ("numpy", "native"))
def test_scaled_weights_are_loaded_on_the_bounds(tmp_path, executor):
    """Where they are beyond them for one step; with the state they go on as they were."""
    net = network([[STDP(0.05), Normalize(5.0, every=0.02)]], executor=executor)
    with quiet(net) as sim, quiet(net) as other:
        sim.run_steps(21)
        sim.save_params(tmp_path / "scaled", include_state=True)
        before = sim.data[net.connections[2]].weights
        sim.run_steps(20)
        expected = sim.data[net.probes[0]][21:]
        other.load_params(tmp_path / "scaled", include_state=True)
        other.run_steps(20)
        assert np.array_equal(other.data[net.probes[0]], expected)
        with pytest.warns(UserWarning, match="w_max=1 .* STDP, where another rule"):
            other.load_params(tmp_path / "scaled")
        after = other.data[net.connections[2]].weights
    assert before.max() > 1.001 and np.array_equal(after, np.minimum(before, 1))


@pytest.mark.parametrize("simulator", (nengo.Simulator, nengo_dl.Simulator))
@pytest.mark.parametrize("w_max", (0.1, 0.3, 0.7))
def test_weights_that_reached_a_bound_can_be_frozen(w_max, simulator):
    """Single precision has none of these numbers, and rounds two of them up."""
    rule = STDP(1.0, w_max=w_max, a_minus=0, a_post=1.0)
    net = network([rule], dtype="float32", jit=False)
    conn = net.connections[2]
    conn.transform = np.full((M, N), w_max / 2)
    with quiet(net) as sim:
        sim.run_steps(STEPS)
        weights = sim.data[conn].weights
        assert np.float32(weights.max()) == np.float32(w_max)
        (params,) = sim.get_nengo_params([conn])
        sim.freeze_params(net)
    frozen = params["transform"].init
    assert np.array_equal(frozen, conn.transform.init) and frozen.max() <= w_max
    assert np.allclose(frozen, weights, rtol=1e-7, atol=0)
    with simulator(net, progress_bar=False) as sim:
        sim.run_steps(2)
        assert np.allclose(sim.data[net.probes[0]][0], frozen, rtol=1e-7, atol=0)


def test_weights_on_a_bound_that_nothing_changed_are_frozen_as_they_were_built():
    net = network([STDP(1.0, w_max=0.3)], dtype="float32", jit=False)
    conn = net.connections[2]
    conn.transform = built = np.linspace(0.1, 0.3, M * N).reshape(M, N)
    with quiet(net) as sim:
        sim.freeze_params(net)
    assert np.array_equal(conn.transform.init, built)


def test_scaled_weights_are_frozen_on_the_bounds():
    """Where they are beyond them for one step."""
    net = network([[STDP(0.05), Normalize(5.0, every=0.02)]], jit=False)
    conn = net.connections[2]
    with quiet(net) as sim:
        sim.run_steps(21)
        before = sim.data[conn].weights
        with pytest.warns(UserWarning, match="freeze_params: .* w_max=1 .* STDP, where"):
            sim.freeze_params(net)
    assert before.max() > 1.001
    with nengo.Simulator(net, progress_bar=False) as sim:
        assert np.array_equal(sim.data[conn].weights, np.minimum(before, 1))


@pytest.mark.parametrize("executor", ("native", "numpy"))
def test_weights_beyond_their_bounds_come_back_in_the_next_step(executor):
    """A change that was under way is made again where a run left the state as it was."""
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(dtype="float64", executor=executor)
        populations = []
        for times in ((5, 12), (8, 10, 16)):
            spikes = nengo.Node(lambda t, times=times: 1e3 * (round(t / 1e-3) in times))
            kind = nengo.SpikingRectifiedLinear()
            neurons = nengo.Ensemble(1, 1, neuron_type=kind, gain=[1], bias=[0]).neurons
            nengo.Connection(spikes, neurons, synapse=None)
            populations.append(neurons)
        rule = STDP(0.4, a_minus=0)
        learned = nengo.Connection(
            *populations, transform=[[0.5]], learning_rule_type=rule
        )
        weights = nengo.Probe(learned, "weights")
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(8)
        sim.run_steps(6, stateful=False)
        sim.run_steps(6)
        after = sim.data[weights][-6:, 0, 0]
    assert after[0] > 1.3 and np.allclose(after[1:], 1, rtol=0, atol=1e-12)
