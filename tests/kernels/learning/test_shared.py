"""Rules that all items of a batch share: against the sum of what each item asks for."""

import pickle
from functools import cache

import nengo
import numpy as np
import pytest
from nengo.exceptions import BuildError, ValidationError
from nengo_dl.learning_rules import STDP, ModulatedSTDP, Normalize, TripletSTDP

import nengo_dl
from tests.kernels.learning import rule_networks, test_stdp
from tests.kernels.learning.rule_networks import ITEMS, STEPS, rules_of

NUMPY = {"executor": "numpy"}

#: between them they have PES, BCM, Oja and Voja, of decoders, weights and encoders
VARIANTS = (
    "dict_for_weights",
    "bcm_between_neurons",
    "two_rules_for_the_same_encoders",
    "voja_with_a_signal",
    "oja_in_a_loop",
    "pes_between_parts",
)

#: what learns from spikes, so slowly that no bound is reached; some of one shape
SPIKES = (
    STDP(0.002),
    STDP(0.003, tau_plus=0.01),
    STDP(0.002, mu_plus=1.0, mu_minus=0.5, a_pre=0.5, a_post=-0.3),
    STDP(0.002, a_pre=-0.2, a_post=0.3, mu_minus=1.0),
    STDP(0.002, coincident="causal"),
    [STDP(0.002, w_max=2.0), Normalize(3.0, every=0.02)],
    TripletSTDP(0.02),
    ModulatedSTDP(0.1, tau_e=0.02),
)


def quiet(net, items=ITEMS):
    """A simulator without a progress bar."""
    return nengo_dl.Simulator(net, minibatch_size=items, progress_bar=False)


def learns(name, item=None, **settings):
    """A network by name, for one item or (None) to be given data of all."""
    if name == "spikes":
        return test_stdp.network(SPIKES, item or 0, **settings)
    settings.setdefault("dtype", "float64")
    values = None if item is None else rule_networks.data()[item]
    return rule_networks.network(name, values, **settings)


def given(net, name, items=ITEMS):
    """Data of all items."""
    if name != "spikes":
        return {net.inp: rule_networks.data()[:items]}
    sides = test_stdp.spikes()
    return {n: s[:items] / 0.001 for n, s in zip((net.a, net.b), sides, strict=True)}


def all_rules(net):
    """The learning rules of all connections of a network."""
    learning = [c for c in net.connections if c.learning_rule_type is not None]
    return [rule for conn in learning for rule in rules_of(conn)]


def compared(net):
    """Probes of what each item has: all but of changes, which are added up."""
    return [probe for probe in net.probes if probe.attr != "delta"]


@cache
def core(name, how):
    """What probes show in core, item by item, where each step adds all changes."""
    nets = [learns(name, item) for item in range(ITEMS)]
    sims = [nengo.Simulator(net, progress_bar=False) for net in nets]
    for _ in range(STEPS):
        for sim in sims:
            sim.step()
        for rules in zip(*(all_rules(net) for net in nets), strict=True):
            changes = [
                sim.signals[sim.model.sig[rule]["delta"]]
                for sim, rule in zip(sims, rules, strict=True)
            ]
            once = how == "mean" or isinstance(rules[0].learning_rule_type, Normalize)
            total = np.mean(changes, 0) if once else np.sum(changes, 0)
            for change in changes:
                change.setflags(write=True)
                change[...] = total
    found = [
        [np.array(sim.data[probe]) for probe in compared(net)]
        for sim, net in zip(sims, nets, strict=True)
    ]
    for sim in sims:
        sim.close()
    return found


def check(sim, name, how, tolerance=1e-10):
    """Run; each item has what it has where the changes of all are added up by hand."""
    net = sim.network
    data = given(net, name)
    for part in (slice(0, 25), slice(25, STEPS)):  # goes on where it was
        sim.run_steps(
            part.stop - part.start, data={n: x[:, part] for n, x in data.items()}
        )
    for item, expected in enumerate(core(name, how)):
        for probe, theirs in zip(compared(net), expected, strict=True):
            limit = tolerance * max(np.abs(theirs).max(), 1e-12)
            assert np.abs(sim.data[probe][item] - theirs).max() <= limit, probe
    learned = [p for p in net.probes if p.attr in ("weights", "scaled_encoders")]
    assert learned
    for probe in learned:
        values = sim.data[probe]
        assert (values == values[:1]).all()  # of all items


@pytest.mark.parametrize("name", (*VARIANTS, "spikes"))
def test_sum_of_what_items_ask_for(name):
    with quiet(learns(name, shared_learning="sum", **NUMPY)) as sim:
        check(sim, name, "sum")
        values = sim._program.store.values
        sim._program.settle()
        common = sim._program.common
        assert common
        assert all(values[s].shape[1] == 1 for s in common if s in values)


@pytest.mark.parametrize(
    "name, how, executor",
    (
        ("dict_for_weights", "sum", "native"),
        ("spikes", "mean", "native"),
        ("dict_for_weights", "mean", "tensorflow"),
        ("spikes", "sum", "tensorflow"),
    ),
)
def test_in_machine_code_and_compiled(name, how, executor):
    with quiet(learns(name, shared_learning=how, executor=executor)) as sim:
        check(sim, name, how)


@pytest.mark.parametrize("executor", ("numpy", "native"))
def test_in_single_precision(executor):
    settings = {"dtype": "float32", "shared_learning": "sum", "executor": executor}
    with quiet(learns("spikes", **settings)) as sim:
        check(sim, "spikes", "sum", 3e-6)


@pytest.mark.parametrize("name", (*VARIANTS, "spikes"))
def test_a_batch_of_one_learns_by_itself(name):
    """To the bit what it learns without the setting."""
    found = []
    for how in (None, "sum", "mean"):
        with quiet(learns(name, shared_learning=how, **NUMPY), 1) as sim:
            sim.run_steps(STEPS, data=given(sim.network, name, 1))
            found.append([sim.data[probe] for probe in sim.network.probes])
    for alone, *together in zip(*found, strict=True):
        assert all(np.array_equal(alone, other) for other in together)


def pair(rule=None, **settings):
    """A connection from neurons to neurons that learns from given spikes."""
    rule = STDP(0.05) if rule is None else rule
    return test_stdp.network([rule], **settings)


@pytest.mark.parametrize("executor", ("numpy", "native"))
def test_bounds_hold_for_the_sum(executor):
    """It is clipped after the changes of all items have been added up."""
    settings = {"dtype": "float32", "shared_learning": "sum", "executor": executor}
    with quiet(pair(STDP(0.3), **settings)) as sim:
        net = sim.network
        sim.run_steps(STEPS, data=given(net, "spikes"))
        weights = sim.data[net.probes[0]]
    assert 0 <= weights.min() < 1e-30 and 1 - 1e-6 < weights.max() <= 1


def test_what_was_learned_together_lasts(tmp_path):
    """In files, pickles, the network, over resets; and single steps go on with it."""
    net = pair(shared_learning="sum", **NUMPY)
    (conn,) = (c for c in net.connections if c.learning_rule_type is not None)
    first, second = (
        {node: x[:, part] for node, x in given(net, "spikes").items()}
        for part in (slice(30), slice(30, STEPS))
    )
    with quiet(net) as sim:
        built = sim.data[conn].weights
        sim.run_steps(30, data=first)
        sim.save_params(tmp_path / "half", include_state=True)
        copy = pickle.loads(pickle.dumps(sim))
        learned = sim.data[conn].weights
        sim.freeze_params(net)
        sim.run_steps(30, data=second)
        expected = sim.data[net.probes[0]][:, 30:]
        at_half = sim.data[net.probes[0]][1, 29]
        last = sim.data[conn].weights
        sim.reset(include_trainable=False)
        assert np.array_equal(sim.data[conn].weights, last)
        sim.reset()
        assert np.array_equal(sim.data[conn].weights, built)
    assert np.array_equal(learned, at_half) and np.ptp(learned - built) > 0.1
    for other in (copy, quiet(net)):
        with other:
            if other is not copy:
                other.load_params(tmp_path / "half.npz", include_state=True)
            inputs = [n for n in other.network.nodes if n.size_in == 0][:2]
            data = dict(zip(inputs, second.values(), strict=True))
            other.run_steps(30, data=data)
            probe = other.network.probes[0]
            assert np.array_equal(other.data[probe][:, -30:], expected)
    with nengo.Simulator(net, progress_bar=False) as core_sim:
        assert np.array_equal(core_sim.data[conn].weights, learned)


def test_signals_show_one_value_for_all():
    net = pair(shared_learning="sum", **NUMPY)
    with quiet(net) as sim:
        (conn,) = (c for c in net.connections if c.learning_rule_type is not None)
        signal = sim.model.sig[conn]["weights"]
        sim.signals  # noqa: B018  (from now on all of them are kept)
        sim.run_steps(STEPS, data=given(net, "spikes"))
        shown = sim.signals[signal]
        assert np.array_equal(shown, sim.data[net.probes[0]][:, -1])


def test_which_connections_share():
    """A setting of a connection stands above that of the network, None too."""
    net = test_stdp.network([STDP(0.05)] * 3, shared_learning="mean", **NUMPY)
    conns = [c for c in net.connections if c.learning_rule_type is not None]
    net.config[conns[1]].shared_learning = None
    net.config[conns[2]].shared_learning = "sum"
    weights = [p for p in net.probes if p.attr == "weights"]
    with quiet(net) as sim:
        sim.run_steps(STEPS, data=given(net, "spikes"))
        equal = [(sim.data[p] == sim.data[p][:1]).all() for p in weights]
        moved = [np.abs(sim.data[p][0, -1] - sim.data[p][0, 0]).max() for p in weights]
    assert equal == [True, False, True]
    assert moved[2] > 1.5 * moved[0]
    with pytest.raises(ValidationError, match="None, 'sum' or 'mean'; got 'max'"):
        net.config[conns[0]].shared_learning = "max"


def test_rules_without_a_form_for_all_are_named():
    net = learns("rls", shared_learning="sum")
    with pytest.raises(BuildError, match="shared_learning='sum', but something"):
        quiet(net)
    net = learns("two_rules_for_the_same_encoders")
    with net:
        nengo_dl.configure_settings()
    net.config[net.learning[0]].shared_learning = "sum"
    with pytest.raises(BuildError, match="rule of another connection that learns"):
        quiet(net)


def answering(**settings):
    """A network that learns by itself, and has something to be trained, too."""
    with nengo.Network(seed=5) as net:
        nengo_dl.configure_settings(dtype="float64", shared_learning="sum", **settings)
        net.inp = nengo.Node(np.zeros(2))
        pre = nengo.Ensemble(10, 2, neuron_type=nengo.LIFRate())
        nengo.Connection(net.inp, pre, synapse=None)
        net.out = nengo.Node(size_in=2)
        net.conn = nengo.Connection(
            pre, net.out, learning_rule_type=nengo.PES(1e-3, pre_synapse=None)
        )
        nengo.Connection(net.out, net.conn.learning_rule, synapse=0.002)
        nengo.Connection(net.inp, net.conn.learning_rule, transform=-0.5)
        net.probe = nengo.Probe(net.out)
    return net


def test_batches_of_keras_learn_one_after_the_other():
    """Each goes on with what the one before has learned; `fit` leaves it behind."""
    net, batches = answering(**NUMPY), rule_networks.data(2 * ITEMS, 20)
    with quiet(net) as sim:
        expected = []
        for batch in np.split(batches, 2):
            sim.reset(include_trainable=False)
            sim.run_steps(20, data={net.inp: batch})
            expected.append(sim.data[net.probe])
        learned = sim.data[net.conn].weights
    expected = np.concatenate(expected)
    with quiet(net) as sim:
        found = sim.predict({net.inp: batches}, stateful=False)[net.probe]
        assert np.abs(found - expected).max() < 1e-12
        assert np.array_equal(sim.data[net.conn].weights, learned)
        with pytest.raises(ValidationError, match="a multiple of 3 items"):
            sim.predict({net.inp: batches[:4]})
    with quiet(net) as sim:
        sim.compile("sgd", "mse")
        targets = {net.probe: np.zeros((2 * ITEMS, 20, 2))}
        with pytest.raises(ValidationError, match="learn together"):
            sim.fit({net.inp: batches[:4]}, {net.probe: targets[net.probe][:4]})
        sim.keras_model.optimizer.learning_rate = 0.0
        sim.fit({net.inp: batches}, targets, shuffle=False, verbose=0)
        assert np.abs(sim.data[net.conn].weights - learned).max() < 1e-12


def rising(item=None, **settings):
    """Neurons with thresholds that adapt, for one item or (None) to be given data."""
    play = None if item is None else lambda t: currents()[item, round(t / 0.001) - 1]
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(dtype="float64", **settings)
        net.inp = nengo.Node(np.zeros(4) if play is None else play)
        kind = nengo_dl.AdaptiveThresholdLIF(inc_theta=0.02, tau_theta=0.5, amplitude=2)
        net.ens = nengo.Ensemble(
            4, 1, neuron_type=kind, gain=np.ones(4), bias=np.zeros(4)
        )
        nengo.Connection(net.inp, net.ens.neurons, synapse=None)
        net.theta = nengo.Probe(net.ens.neurons, "theta")
        net.spikes = nengo.Probe(net.ens.neurons)
    return net


def currents():
    """What drives them, ``(items, steps, neurons)``."""
    return np.random.RandomState(1).uniform(1, 6, (ITEMS, STEPS, 4))


@pytest.mark.parametrize("executor", ("numpy", "native", "tensorflow"))
def test_thresholds_that_rise_with_the_spikes_of_all(executor):
    """As in core, where the spikes of all items are counted by hand."""
    sims = [nengo.Simulator(rising(item), progress_bar=False) for item in range(ITEMS)]
    theta = np.zeros(4)
    for _ in range(STEPS):
        for sim in sims:
            sim.step()
        spikes = np.sum([s.data[s.model.toplevel.spikes][-1] for s in sims], 0) * 0.001
        theta = theta * np.exp(-0.001 / 0.5) + 0.02 * spikes / 2
        for sim in sims:
            signal = sim.signals[sim.model.sig[sim.model.toplevel.ens.neurons]["theta"]]
            signal.setflags(write=True)
            signal[...] = theta
    net = rising(executor=executor, shared_learning="sum")
    net.config[net.ens.neurons].shared_learning = "sum"
    with quiet(net) as sim:
        sim.run_steps(STEPS, data={net.inp: currents()})
        for item, expected in enumerate(sims):
            spikes = expected.data[expected.model.toplevel.spikes]
            assert np.array_equal(sim.data[net.spikes][item], spikes)
        seen = sim.data[net.theta]
        assert np.abs(seen[:, -1] - theta).max() < 1e-12 and theta.min() > 0.2


def test_thresholds_are_shared_where_that_is_asked_for():
    """By itself, a setting of the network shares what connections learn."""
    found = []
    for settings in ({}, {"shared_learning": "sum"}):
        net = rising(**NUMPY, **settings)
        with quiet(net) as sim:
            sim.run_steps(STEPS, data={net.inp: currents()})
            found.append(sim.data[net.theta])
    assert np.array_equal(*found) and np.ptp(found[0][:, -1], axis=0).min() > 0
    net = rising(**NUMPY)
    net.ens.neuron_type = nengo.LIF()
    del net.probes[0]
    net.config[net.ens.neurons].shared_learning = "mean"
    with pytest.raises(ValidationError, match="of type LIF have nothing"):
        quiet(net)
