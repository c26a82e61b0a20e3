"""Networks in which one connection learns online, for each way in which one can."""

import nengo
import numpy as np
from nengo.solvers import LstsqL2

import nengo_dl

STEPS = 60
ITEMS = 3

VARIANTS = {}


def variant(build):
    """Decorator: ``build(net)`` connects ``net.pre`` to ``net.post`` with some rules."""
    VARIANTS[build.__name__] = build
    return build


def data(items=ITEMS, steps=STEPS):
    """What the input node is given: other values for each item."""
    rng = np.random.RandomState(3)
    frequency, phase = rng.uniform(5, 40, (2, items, 1, 2))
    times = np.arange(1, steps + 1)[:, None] * 0.001
    return np.sin(frequency * times + phase)


def network(name, values=None, **settings):
    """A variant's network.

    Parameters
    ----------
    name : str
        A key of `VARIANTS`.
    values : (steps, 2) array, optional
        What the input node puts out. None: zeros, to be given data.
    **settings
        Of the simulator of this package.
    """

    def play(t):
        return values[int(round(t / 0.001)) - 1]

    with nengo.Network(seed=11) as net:
        nengo_dl.configure_settings(**settings)
        net.inp = nengo.Node(np.zeros(2) if values is None else play)
        net.pre = nengo.Ensemble(14, 2, radius=1.2)
        net.post = nengo.Ensemble(12, 2, radius=0.8)
        nengo.Connection(net.inp, net.pre, synapse=0.002)
        net.learning = VARIANTS[name](net)
        net.out = nengo.Probe(net.post, synapse=0.01)
        net.spikes = nengo.Probe(net.post.neurons)
        probe_rules(net.learning)
    return net


def probe_rules(connections):
    """Probes of all that can be probed."""
    for conn in connections:
        if not isinstance(conn.pre_obj, nengo.Node):
            nengo.Probe(conn, "weights")
        for rule in rules_of(conn):
            for attr in rule.probeable:
                nengo.Probe(rule, attr)


def rules_of(conn):
    """The learning rules of a connection, in order."""
    rules = conn.learning_rule
    if isinstance(rules, dict):
        return list(rules.values())
    return rules if isinstance(rules, list) else [rules]


def weights(m, n, scale):
    """A fixed matrix."""
    return np.random.RandomState(0).normal(size=(m, n)) * scale


def full(net, rules, **kwargs):
    """A decoded connection with weights between all neurons."""
    return nengo.Connection(
        net.pre,
        net.post,
        solver=LstsqL2(weights=True),
        learning_rule_type=rules,
        **kwargs,
    )


def direct(net, rules):
    """A connection from neurons to neurons."""
    return nengo.Connection(
        net.pre.neurons,
        net.post.neurons,
        transform=weights(12, 14, 1e-2),
        learning_rule_type=rules,
    )


def teach(net, rule, target=None):
    """An error: what ``target`` holds minus a rotated input."""
    if target is not None:
        nengo.Connection(target, rule, synapse=0.003)
    nengo.Connection(net.inp, rule, transform=[[0, -1], [1, 0]], synapse=None)


# -- BCM and Oja -----------------------------------------------------------------------


@variant
def bcm(net):
    return [full(net, nengo.BCM(3e-7))]


@variant
def bcm_between_neurons(net):
    rule = nengo.BCM(
        1e-5, nengo.Alpha(0.004), nengo.LinearFilter([1], [1e-4, 0.02, 1]), 0.01
    )
    return [direct(net, rule)]


@variant
def bcm_partly_unfiltered(net):
    return [direct(net, nengo.BCM(1e-9, None, 0.004, nengo.Lowpass(0)))]


@variant
def oja(net):
    return [full(net, nengo.Oja(3e-5, beta=0.5))]


@variant
def oja_between_neurons(net):
    return [direct(net, nengo.Oja(1e-5, nengo.Lowpass(0), nengo.Alpha(0.01), beta=2.0))]


@variant
def oja_in_a_loop(net):
    net.post = net.pre
    conn = full(net, nengo.Oja(1e-5, post_synapse=None))
    return [conn]


# -- Voja ------------------------------------------------------------------------------


@variant
def voja(net):
    conn = nengo.Connection(net.pre, net.post, learning_rule_type=nengo.Voja(0.3))
    return [conn]


@variant
def voja_with_a_signal(net):
    rule = nengo.Voja(0.3, post_synapse=nengo.Alpha(0.004))
    conn = nengo.Connection(net.inp, net.post, learning_rule_type=rule)
    nengo.Connection(net.inp[0], conn.learning_rule, transform=0.7, synapse=None)
    switch = nengo.Node(lambda t: -1 if t > 0.04 else 0)
    nengo.Connection(switch, conn.learning_rule, synapse=None)
    return [conn]


@variant
def voja_from_neurons_to_a_part(net):
    rule = nengo.Voja(0.1, post_synapse=None)
    conn = nengo.Connection(
        net.pre.neurons,
        net.post[1],
        transform=weights(1, 14, 1e-3),
        learning_rule_type=rule,
    )
    return [conn]


@variant
def two_rules_for_the_same_encoders(net):
    first = nengo.Connection(net.inp, net.post, learning_rule_type=nengo.Voja(0.3))
    rules = {"encode": nengo.Voja(0.1), "decode": nengo.PES(1e-3)}
    second = nengo.Connection(
        net.pre, net.post, function=lambda x: x[::-1], learning_rule_type=rules
    )
    teach(net, second.learning_rule["decode"], net.post)
    return [first, second]


@variant
def pes_through_encoders_that_are_learned(net):
    first = nengo.Connection(net.inp, net.post, learning_rule_type=nengo.Voja(0.3))
    second = full(net, nengo.PES(2e-3, pre_synapse=nengo.Lowpass(0)))
    teach(net, second.learning_rule)
    return [first, second]


# -- RLS and PES -----------------------------------------------------------------------


@variant
def rls(net):
    conn = nengo.Connection(
        net.pre, net.post, function=lambda x: [0, 0], learning_rule_type=nengo.RLS(0.02)
    )
    teach(net, conn.learning_rule, net.post)
    return [conn]


@variant
def rls_from_neurons(net):
    target = nengo.Node(size_in=3)
    rule = nengo.RLS(0.5, pre_synapse=nengo.Alpha(0.003))
    conn = nengo.Connection(
        net.pre.neurons,
        target[[0, 2]],
        transform=weights(2, 14, 1e-3),
        learning_rule_type=rule,
    )
    teach(net, conn.learning_rule)
    nengo.Connection(target[:2], net.post)
    return [conn]


@variant
def rls_with_one_error_for_all_neurons(net):
    one = nengo.Ensemble(9, 1)
    rule = nengo.RLS(1e-3, pre_synapse=None)
    conn = nengo.Connection(
        net.pre[0], one, solver=LstsqL2(weights=True), learning_rule_type=rule
    )
    nengo.Connection(net.inp[0], conn.learning_rule, synapse=None)
    nengo.Connection(one, net.post[1])
    return [conn]


@variant
def pes_between_neurons(net):
    conn = direct(net, nengo.PES(5e-3))
    teach(net, conn.learning_rule)
    return [conn]


@variant
def pes_between_parts(net):
    rule = nengo.PES(5e-3, pre_synapse=nengo.Alpha(0.004))
    neurons = nengo.Connection(
        net.pre.neurons[2:8],
        net.post.neurons[::3],
        transform=weights(4, 6, 1e-2),
        learning_rule_type=rule,
    )
    nengo.Connection(net.inp, neurons.learning_rule, synapse=None)
    states = nengo.Connection(
        net.pre[1],
        net.post[0],
        solver=LstsqL2(weights=True),
        learning_rule_type=nengo.PES(1e-3, pre_synapse=None),
    )
    nengo.Connection(net.inp[1], states.learning_rule, synapse=0.002)
    decoded = nengo.Connection(
        net.pre[[1, 0, 1]],
        net.post[[1, 1]],
        function=lambda x: x[1:],
        learning_rule_type=nengo.PES(1e-3),
    )
    teach(net, decoded.learning_rule)
    return [neurons, states, decoded]


# -- several ---------------------------------------------------------------------------


@variant
def list_for_decoders(net):
    rules = [nengo.PES(1e-3), nengo.RLS(0.01, pre_synapse=0.01)]
    conn = nengo.Connection(net.pre, net.post, learning_rule_type=rules)
    for rule in conn.learning_rule:
        teach(net, rule, net.post)
    return [conn]


@variant
def dict_for_weights(net):
    rules = {"b": nengo.BCM(1e-7), "o": nengo.Oja(2e-5), "p": nengo.PES(1e-3)}
    conn = full(net, rules)
    teach(net, conn.learning_rule["p"], net.post)
    return [conn]
