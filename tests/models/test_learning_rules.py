"""Learning from spikes, in Nengo: against sums over pairs, closed forms, experiments."""

import pickle
import warnings

import nengo
import numpy as np
import pytest
from nengo.exceptions import BuildError, ValidationError
from nengo_dl.learning_rules import STDP, ModulatedSTDP, Normalize, TripletSTDP

import nengo_dl
from tests.models.pairs import (
    DT,
    brute_force,
    network,
    random_spikes,
    run_operator,
)

EXPONENTS = ({}, {"mu_plus": 1.0, "mu_minus": 1.0})


def core(net, steps):
    """A network in ``nengo.Simulator``, after some steps."""
    with nengo.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(steps)
    return sim


# -- values ----------------------------------------------------------------------------


@pytest.mark.parametrize("exponents", EXPONENTS, ids=("additive", "multiplicative"))
@pytest.mark.parametrize("coincident", ("ignored", "causal"))
@pytest.mark.parametrize("pairing", ("all", "nearest"))
def test_sums_over_pairs(pairing, coincident, exponents, rng):
    rule = STDP(
        0.02,
        a_minus=0.8,
        tau_minus=0.03,
        pairing=pairing,
        coincident=coincident,
        **exponents,
    )
    pre, post = random_spikes(rng, 400, 3), random_spikes(rng, 400, 2)
    assert (pre.T @ post).sum() > 5  # there are coincidences
    weights = rng.uniform(0.4, 0.6, (2, 3))
    found = run_operator(rule, pre, post, weights)
    assert np.abs(found - brute_force(rule, pre, post, weights)).max() <= 1e-14
    assert np.ptp(found, axis=0).min() > 0.02


def test_networks_in_core(rng):
    """The build function gives the operator what it has to read."""
    rule = STDP(0.05)
    pre, post = random_spikes(rng, 100, 3), random_spikes(rng, 100, 2)
    weights = rng.uniform(0.4, 0.6, (2, 3))
    net = network(rule, pre, post, weights)
    sim = core(net, 100)
    expected = run_operator(rule, pre, post, weights)
    assert np.abs(sim.data[net.weights] - expected).max() <= 1e-14
    assert np.abs(expected[-1] - weights).max() > 0.05


def pair(lag, dt, steps=None):
    """One spike on either side, the one behind the connection ``lag`` steps later."""
    pre, post = np.zeros((2, abs(lag) + 3, 1))
    pre[max(-lag, 0)] = post[max(lag, 0)] = 1
    return pre, post


@pytest.mark.parametrize("dt", (1e-3, 1e-4))
def test_window(dt):
    """The same for all time steps."""
    rule = STDP(0.01, a_plus=1.0, a_minus=0.9, tau_plus=0.02, tau_minus=0.03)
    for milliseconds in (-100, -20, -1, 1, 10, 100):
        pre, post = pair(round(milliseconds * 1e-3 / dt), dt)
        change = run_operator(rule, pre, post, 0.5, dt=dt)[-1] - 0.5
        lag = milliseconds * 1e-3
        up, down = 0.01 * np.exp(-lag / 0.02), -0.009 * np.exp(lag / 0.03)
        assert change[0, 0] == pytest.approx(up if lag > 0 else down, abs=1e-12)
    pre, post = pair(0, dt)
    assert run_operator(rule, pre, post, 0.5, dt=dt)[-1, 0, 0] == 0.5
    causal = STDP(0.01, coincident="causal")
    found = run_operator(causal, pre, post, 0.5, dt=dt)[-1, 0, 0]
    assert found == pytest.approx(0.51, abs=1e-12)


def test_amplitude_makes_no_difference(rng):
    """Behind the connection spikes are twice as high, and count once."""
    pre, post = pair(5, DT)
    net = network(STDP(0.1), pre, post, np.array([[0.5]]))
    change = core(net, 8).data[net.weights][-1, 0, 0] - 0.5
    assert change == pytest.approx(0.1 * np.exp(-5e-3 / 0.02), abs=1e-12)


def protocol(rate, lag=0.01, pairs=60):
    """The change by pairs of spikes at a rate, as in Pfister & Gerstner (2006)."""
    steps = int((pairs - 1) / rate / DT) + 100
    pre, post = np.zeros((2, steps, 1))
    times = (np.arange(pairs) / rate / DT).astype(int)
    pre[times + 20] = post[times + 20 + round(lag / DT)] = 1
    return run_operator(TripletSTDP(w_max=2.0), pre, post, 0.5)[-1, 0, 0] / 0.5 - 1


def test_triplets_depend_on_the_rate():
    """Sjöström et al. (2001): no potentiation by rare pairs, a strong one by many."""
    for rate in (0.1, 1):
        assert abs(30 * protocol(rate, pairs=2)) < 0.02  # as much as 60 of them
    assert protocol(50) > protocol(40) > 0.5
    assert 4 * protocol(10, lag=-0.01, pairs=15) < -0.1


def test_fits():
    assert TripletSTDP.fit("visual") == TripletSTDP()
    found = TripletSTDP.fit("hippocampal", w_min=-1)
    assert (found.a2_plus, found.a3_plus) == (6.1e-3, 6.7e-3)
    assert (found.a2_minus, found.a3_minus) == (1.6e-3, 1.4e-3)
    assert (found.tau_x, found.tau_y, found.w_min) == (0.946, 0.027, -1)
    assert (found.tau_plus, found.tau_minus) == (0.0168, 0.0337)


def test_a_reward_after_a_pair():
    """The eligibility of one pair, gathered by a pulse: a geometric series."""
    pre, post = (np.concatenate([s, np.zeros((60, 1))]) for s in pair(5, DT))
    rule = ModulatedSTDP(0.5, tau_e=0.1)
    reward = np.zeros(len(pre))
    reward[25:45] = 2.0
    found = run_operator(rule, pre, post, 0.4, reward)[:, 0, 0]
    made = 0.5 * np.exp(-5e-3 / 0.02)
    ages = (np.arange(25, 45) - 5) * DT
    assert found[-1] - 0.4 == pytest.approx(
        2.0 * DT * made * np.exp(-ages / 0.1).sum(), abs=1e-12
    )
    assert np.array_equal(found[:26], np.full(26, 0.4))  # only a reward changes it
    punished = run_operator(rule, pre, post, 0.4, -reward)[:, 0, 0]
    assert punished[-1] < 0.4


@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_weights_never_leave_the_bounds(dtype, rng):
    """Odd bounds, and changes that are as large as the way between them."""
    low, high = np.dtype(dtype).type(-0.7), np.dtype(dtype).type(0.3)
    rule = STDP(0.4, w_min=float(low), w_max=float(high), a_pre=0.1)
    pre, post = random_spikes(rng, 1500, 40, 0.3), random_spikes(rng, 1500, 30, 0.3)
    found = run_operator(rule, pre, post, 0.1, dtype=dtype)
    assert found.dtype == dtype
    assert found.min() == low and found.max() == high


def test_a_closed_gate_leaves_weights_as_they_are(rng):
    pre, post = random_spikes(rng, 300, 4), random_spikes(rng, 300, 3)
    weights = rng.uniform(0, 1, (3, 4))
    for rule in (STDP(0.1, a_pre=0.2), TripletSTDP(), STDP.diehl_cook()):
        found = run_operator(rule, pre, post, weights, gate=0.0)
        assert (found == weights).all()
    up = run_operator(STDP(1e-4), pre, post, 0.5)[-1] - 0.5
    down = run_operator(STDP(1e-4), pre, post, 0.5, gate=-1.0)[-1] - 0.5
    assert np.abs(up + down).max() < 1e-14 and np.abs(up).max() > 1e-4


@pytest.mark.parametrize("simulator", (nengo.Simulator, nengo_dl.Simulator))
def test_gates_in_networks(simulator, rng):
    """What is connected is the gate, and not added to one."""
    pre, post = random_spikes(rng, 60, 4), random_spikes(rng, 60, 3)
    weights = rng.uniform(0.4, 0.6, (3, 4))
    found = []
    for gate in (None, 1.0, 0.0, -1.0):
        net = network(STDP(1e-3), pre, post, weights, jit=False, dtype="float64")
        if gate is not None:
            with net:
                node = nengo.Node([gate])
                nengo.Connection(node, net.conn.learning_rule, synapse=None)
        with simulator(net, progress_bar=False) as sim:
            sim.run_steps(60)
        found.append(sim.data[net.weights])
    assert np.array_equal(found[0], found[1]) and (found[2] == weights).all()
    assert np.abs(found[1] + found[3] - 2 * weights).max() < 1e-14
    assert np.ptp(found[1]) > 1e-3


def test_vogels_holds_a_rate(rng):
    """More spikes than wanted make inhibition stronger, fewer make it weaker."""
    pre = random_spikes(rng, 2000, 1, 0.02)
    rule = STDP.vogels(10.0, learning_rate=1e-3)
    often, seldom = (random_spikes(rng, 2000, 1, p) for p in (0.03, 0.002))
    assert run_operator(rule, pre, often, -0.5)[-1] < -0.505
    assert run_operator(rule, pre, seldom, -0.5)[-1] > -0.495


# -- normalization ---------------------------------------------------------------------


@pytest.mark.parametrize("axis", ("pre", "post"))
def test_normalize(axis, rng):
    weights = rng.uniform(-1, 1, (3, 4))
    weights[1], weights[:, 2] = 0, 0
    nothing = np.zeros((10, 4)), np.zeros((10, 3))
    net = network([Normalize(2.0, every=4 * DT, axis=axis)], *nothing, weights)
    found = core(net, 10).data[net.weights]
    assert (found[:4] == weights).all()  # changed in step 4, seen one later
    sums = np.abs(found[4:]).sum(axis=2 if axis == "pre" else 1)
    assert np.isclose(np.sort(sums, axis=1)[:, 1:], 2.0, rtol=1e-14).all()
    assert (sums.min(axis=1) == 0).all()
    assert (np.sign(found) == np.sign(weights)).all()


# -- as objects ------------------------------------------------------------------------

RULES = (
    STDP(),
    STDP.diehl_cook(),
    ModulatedSTDP(tau_e=0.3),
    TripletSTDP.fit("hippocampal"),
    Normalize(2.0, every=0.1),
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_rules_are_values(rule):
    copy = pickle.loads(pickle.dumps(rule))
    assert copy == rule and hash(copy) == hash(rule) and repr(copy) == repr(rule)
    assert rule.modifies == "weights"
    with pytest.raises(nengo.exceptions.ReadonlyError):
        rule.learning_rate = 2.0


def test_defaults():
    found = {name: getattr(STDP(), name) for name in ("w_min", "w_max", "a_pre")}
    assert found == {"w_min": 0.0, "w_max": 1.0, "a_pre": 0.0}
    assert STDP().size_in == ModulatedSTDP().size_in == TripletSTDP().size_in == 1
    assert STDP().learning_rate == 1e-2 and TripletSTDP().learning_rate == 1.0
    assert repr(STDP(tau_plus=0.01)) == "STDP(tau_plus=0.01)"
    assert nengo_dl.learning_rules.STDP is STDP


@pytest.mark.parametrize(
    "make, message",
    (
        (lambda: STDP(w_min=1.0, w_max=1.0), "w_min=1.0, w_max=1.0"),
        (lambda: STDP(mu_plus=0.5, w_max=np.inf), "mu_plus=0.5 .* w_max=inf"),
        (lambda: STDP(tau_minus=0), "tau_minus.*got 0"),
        (lambda: STDP(np.nan), "STDP.learning_rate: Must be a number; got nan"),
        (lambda: STDP(a_plus=np.nan), "STDP.a_plus: Must be a number; got nan"),
        (lambda: STDP(np.inf), "STDP.learning_rate: Must be finite; got inf"),
        (lambda: STDP(a_pre=-np.inf), "STDP.a_pre: Must be finite; got -inf"),
        (lambda: STDP(mu_minus=np.inf), "mu_minus: Must be finite"),
        (lambda: Normalize(1, every=np.inf), "every: Must be finite"),
        (lambda: STDP.vogels(-5), "vogels: .* firing rate .* got -5"),
        (lambda: STDP.vogels("often"), "vogels: .* got 'often'"),
        (lambda: ModulatedSTDP(tau_e=-1.0), "tau_e.*got -1"),
        (lambda: TripletSTDP(tau_y=0), "tau_y.*got 0"),
        (lambda: STDP(pairing="both"), "pairing.*'both'"),
        (lambda: STDP(coincident="never"), "coincident.*'never'"),
        (lambda: TripletSTDP.fit("rat"), "hippocampal.*visual.*'rat'"),
        (lambda: Normalize(0), "total.*got 0"),
        (lambda: Normalize(1, axis="both"), "axis.*'both'"),
    ),
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValidationError, match=message):
        make()


def connected(rule, transform=0.5, pre=lambda ens: ens.neurons, kind=None):
    """A network with a rule on a connection between two ensembles, and the connection."""
    with nengo.Network(seed=0) as net:
        types = {} if kind is None else {"neuron_type": kind}
        a, b = nengo.Ensemble(4, 1, **types), nengo.Ensemble(4, 1)
        conn = nengo.Connection(
            pre(a),
            b.neurons,
            transform=np.full((4, pre(a).size_out), transform),
            learning_rule_type=rule,
            label="plastic",
        )
    return net, conn


@pytest.mark.parametrize(
    "rule, options, message",
    (
        (STDP(), {"transform": 1.5}, "w_min=0.0 and w_max=1.0 .* from 1.5 to 1.5"),
        (
            STDP(w_max=0.3),
            {"transform": float(np.float32(0.3))},
            "w_max=0.3 .* from 0.300000012 to 0.300000012",
        ),
        (TripletSTDP(w_min=-3, w_max=-2), {}, "w_min=-3 .* from 0.5"),
        (STDP(), {"pre": lambda ens: ens.neurons[:2]}, "'pre' must .* found"),
        (ModulatedSTDP(), {"pre": lambda ens: ens.neurons[::-1]}, "'pre' must"),
        (Normalize(1, every=1e-4), {}, "every=0.0001"),
    ),
)
def test_connections_that_do_not_fit(rule, options, message):
    net, conn = connected(rule, **options)
    with net:
        if rule.size_in:
            nengo.Connection(nengo.Node([1.0]), conn.learning_rule)
    for simulator in (nengo.Simulator, nengo_dl.Simulator):
        with pytest.raises(BuildError, match=f"plastic.*{message}"):
            simulator(net, progress_bar=False)


def test_connections_between_ensembles_have_no_spikes():
    """Also where there are weights between all neurons, as solvers make them."""
    with nengo.Network(seed=0) as net:
        nengo.Connection(
            nengo.Ensemble(4, 1),
            nengo.Ensemble(4, 1),
            solver=nengo.solvers.LstsqL2(weights=True),
            learning_rule_type=STDP(w_min=-9, w_max=9),
        )
    for simulator in (nengo.Simulator, nengo_dl.Simulator):
        with pytest.raises(BuildError, match="'pre' must .* found"):
            simulator(net, progress_bar=False)


def test_warnings():
    with pytest.warns(UserWarning, match="'pre' .*LIFRate.* no correlations"):
        core(connected(STDP(), kind=nengo.LIFRate())[0], 1)
    with pytest.warns(UserWarning, match="plastic.*never changes a weight"):
        core(connected(ModulatedSTDP())[0], 1)
    net, conn = connected(ModulatedSTDP())
    with net:
        nengo.Connection(nengo.Node([1.0]), conn.learning_rule)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        core(net, 1)
