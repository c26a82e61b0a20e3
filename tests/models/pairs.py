"""Sums over all pairs of spikes, for comparison; and networks of given spikes."""

import nengo
import numpy as np
from nengo.builder import Signal

from nengo_dl.models import plasticity

DT = 0.001


def random_spikes(rng, steps, n, probability=0.1):
    """Zeros and ones, ``(steps, n)``; many of them in the same steps."""
    return (rng.uniform(size=(steps, n)) < probability).astype(float)


OPERATORS = {
    "STDP": plasticity.SimSTDP,
    "ModulatedSTDP": plasticity.SimModulatedSTDP,
    "TripletSTDP": plasticity.SimTripletSTDP,
}


def run_operator(rule, pre, post, weights, gate=1.0, dt=DT, dtype="float64"):
    """What the step function of a rule makes of spikes, ``(steps, n)`` each.

    Returns
    -------
    (steps, n_post, n_pre) array
        The weights that each step finds.
    """
    operator = OPERATORS[type(rule).__name__]
    n, m = pre.shape[1], post.shape[1]
    names = {name: n if before else m for name, (before, _) in operator.TRACES.items()}
    traces = {name: Signal(shape=(size,), name=name) for name, size in names.items()}
    parts = [Signal(shape=(size,)) for size in (n, m)]
    parts += [Signal(shape=(m, n)), Signal(shape=(1,)), Signal(shape=(m, n))]
    parts += [traces, rule, (1.0, 1.0)]
    if operator is plasticity.SimModulatedSTDP:
        parts.insert(0, Signal(shape=(m, n)))
    op = operator(*parts)
    signals = {s: np.zeros(s.shape, dtype) for s in (*op.reads, *op.updates)}
    w = signals[op.weights]
    w[...] = weights
    step = op.make_step(signals, dt, None)
    seen = []
    for t in range(len(pre)):
        w += signals[op.delta]
        seen.append(w.copy())
        signals[op.pre][...], signals[op.post][...] = pre[t] / dt, post[t] / dt
        signals[op.gate][...] = np.broadcast_to(gate, len(pre))[t]
        step()
    return np.array(seen)


def brute_force(rule, pre, post, weights):
    """The same as a sum over all earlier spikes, for one synapse after the other."""
    steps, n = pre.shape
    m = post.shape[1]
    seen = np.zeros((steps, m, n))
    for i in range(m):
        for j in range(n):
            seen[:, i, j] = _one_synapse(rule, pre[:, j], post[:, i], weights[i, j])
    return seen


def trace(spikes, tau, nearest, until):
    """What is left in step ``until`` of the spikes before it."""
    times = np.flatnonzero(spikes[:until])
    times = times[-1:] if nearest else times
    return np.exp(-(until - times) * DT / tau).sum()


def _one_synapse(rule, pre, post, w):
    nearest, causal = rule.pairing == "nearest", rule.coincident == "causal"
    span, seen = rule.w_max - rule.w_min, []
    for t in range(len(pre)):
        seen.append(w)
        x = trace(pre, rule.tau_plus, nearest, t)
        y = trace(post, rule.tau_minus, nearest, t)
        if causal and pre[t]:
            x = 1 if nearest else x + 1
        change = 0.0
        if pre[t]:
            part = ((w - rule.w_min) / span) ** rule.mu_minus
            change = -rule.learning_rate * part * rule.a_minus * y
        if causal:
            w, change = min(max(w + change, rule.w_min), rule.w_max), 0.0
        if post[t]:
            part = ((rule.w_max - w) / span) ** rule.mu_plus
            change += rule.learning_rate * part * rule.a_plus * x
        w = min(max(w + change, rule.w_min), rule.w_max)
    return seen


def neurons_of(spikes, amplitude=1.0):
    """An ensemble that fires when it is told to, one step long, and its neurons.

    What else reaches the neurons is far too little for a spike.
    """
    n = spikes.shape[1]
    kind = nengo.SpikingRectifiedLinear(
        amplitude, initial_state={"voltage": nengo.dists.Choice([0.5])}
    )
    ens = nengo.Ensemble(n, 1, neuron_type=kind, gain=np.full(n, 1e-9), bias=np.zeros(n))
    node = nengo.Node(nengo.processes.PresentInput(spikes / DT, DT))
    nengo.Connection(node, ens.neurons, transform=1e9, synapse=None)
    return ens, node


def network(rule, pre, post, weights, **settings):
    """A connection that learns from given spikes; everything in it is probed."""
    import nengo_dl

    with nengo.Network(seed=1) as net:
        nengo_dl.configure_settings(**settings)
        (a, net.a), (b, net.b) = neurons_of(pre), neurons_of(post, 2.0)
        net.conn = nengo.Connection(
            a.neurons,
            b.neurons,
            transform=weights,
            synapse=None,
            learning_rule_type=rule,
        )
        net.weights = nengo.Probe(net.conn, "weights")
        rules = net.conn.learning_rule
        net.rules = rules if isinstance(rules, list) else [rules]
        for rule in net.rules:
            for name in rule.probeable:
                nengo.Probe(rule, name)
    return net
