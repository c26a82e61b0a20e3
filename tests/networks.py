"""Small networks that the tests compare with core Nengo; every one is driven."""

import nengo
import numpy as np

import nengo_dl


def waves(size, seed=0):
    """A function of time in [-1, 1]^size."""
    rng = np.random.RandomState(seed)
    frequency, phase = rng.uniform(0.5, 6, size), rng.uniform(0, 6, size)
    return lambda t: np.sin(2 * np.pi * frequency * t + phase)


def recurrent(neuron_type=None, learning=True):
    """Slices, transforms, functions, recurrence, a product and online learning."""
    with nengo.Network(seed=3) as net:
        if neuron_type is not None:
            net.config[nengo.Ensemble].neuron_type = neuron_type
        inp = nengo.Node(waves(2))
        constant = nengo.Node([0.3, -0.2])
        a, b = nengo.Ensemble(40, 2), nengo.Ensemble(50, 2, radius=1.5)
        array = nengo.networks.EnsembleArray(20, 5)
        nengo.Connection(inp, a)
        nengo.Connection(constant, a, transform=0.5, synapse=0.02)
        nengo.Connection(a, b, function=lambda x: [x[1], -x[0]])
        nengo.Connection(b, b, transform=[[0.9, 0.2], [-0.2, 0.9]], synapse=0.1)
        nengo.Connection(a[1], b[0], synapse=0.02, transform=0.5)
        nengo.Connection(b, array.input[1:3])
        nengo.Connection(a, array.input[[4, 0]], synapse=None, function=np.square)
        nengo.Connection(array.output, array.input[::-1], synapse=0.05, transform=0.5)
        out = nengo.Node(size_in=8)
        nengo.Connection(b, out[:2], synapse=0.02)
        nengo.Connection(array.output, out[2:7], synapse=nengo.Alpha(0.02))
        nengo.Connection(a.neurons[:3], out[7], transform=np.ones((1, 3)) * 1e-3)
        nengo.Probe(out)
        nengo.Probe(a, synapse=0.01)
        nengo.Probe(b.neurons)
        nengo.Probe(inp, synapse=0.03)
        if learning:
            pes(inp)
    return net


def pes(inp):
    """A channel that learns to pass on its input (in the present network)."""
    pre, post = nengo.Ensemble(40, 1), nengo.Node(size_in=1)
    nengo.Connection(inp[0], pre)
    conn = nengo.Connection(
        pre, post, function=lambda x: 0, learning_rule_type=nengo.PES(1e-3)
    )
    nengo.Connection(post, conn.learning_rule)
    nengo.Connection(inp[1], conn.learning_rule, transform=-1)
    nengo.Probe(conn, "weights", sample_every=0.005)


class Counter(nengo.Process):
    """A process of a user: counts, in steps of random size."""

    def make_step(self, shape_in, shape_out, dt, rng, state):
        """See `nengo.Process`."""
        total = np.zeros(shape_out)

        def step(t, x=0):
            total[...] += 0.001 * rng.uniform(size=shape_out) + 0.001 * np.sum(x)
            return total.copy()

        return step


class Sum(nengo.Process):
    """Adds up its input, as Python."""

    def make_state(self, shape_in, shape_out, dt, dtype=None):
        return {"total": np.zeros(shape_out)}

    def make_step(self, shape_in, shape_out, dt, rng, state):
        def step(t, x):
            state["total"] += x
            return state["total"].copy()

        return step


def python_functions(feedback=True, several=False):
    """Python functions with input, in and out of feedback; Direct mode."""
    with nengo.Network(seed=5) as net:
        inp = nengo.Node(waves(1))
        a = nengo.Ensemble(30, 1)
        nengo.Connection(inp, a)
        f = nengo.Node(lambda t, x: np.tanh(2 * x) + 0.1 * t, size_in=1)
        nengo.Connection(a, f, synapse=0.01)
        if feedback:
            nengo.Connection(f, a, transform=0.3, synapse=0.02)
        nengo.Probe(f)
        nengo.Probe(a, synapse=0.01)
        if several:
            direct = nengo.Ensemble(1, 2, neuron_type=nengo.Direct())
            nengo.Connection(inp, direct[0])
            nengo.Connection(f, direct[1], synapse=None)
            out = nengo.Node(size_in=1)
            nengo.Connection(direct, out, function=lambda x: x[0] * x[1], synapse=0.005)
            sink = nengo.Node(lambda t, x: None, size_in=1)
            nengo.Connection(out, sink)
            process = nengo.Node(Counter(), size_in=1, size_out=2)
            nengo.Connection(out, process)
            nengo.Probe(out)
            nengo.Probe(process)
    return net


def processes():
    """Nodes that are processes, with and without a seed of their own."""
    with nengo.Network(seed=6) as net:
        nodes = [
            nengo.Node(nengo.processes.WhiteSignal(0.5, high=20), size_out=2),
            nengo.Node(nengo.processes.WhiteNoise(seed=3), size_out=1),
            nengo.Node(nengo.processes.PresentInput([[0.1], [0.7], [-0.3]], 0.007)),
            nengo.Node(Counter(), size_out=2),
        ]
        ens = nengo.Ensemble(30, 2)
        nengo.Connection(nodes[0], ens)
        nengo.Connection(nodes[1], ens[0], synapse=0.05)
        for node in nodes:
            nengo.Probe(node)
        nengo.Probe(ens, synapse=nengo.Alpha(0.01))
    return net


def rates(neuron_type, synapse=None):
    """Two layers of rate neurons; without a synapse there is no state at all."""
    with nengo.Network(seed=7) as net:
        inp = nengo.Node(waves(3))
        a = nengo.Ensemble(20, 3, neuron_type=neuron_type)
        b = nengo.Ensemble(25, 2, neuron_type=neuron_type)
        nengo.Connection(inp, a, synapse=synapse)
        nengo.Connection(a, b, function=lambda x: x[:2] * x[1:], synapse=synapse)
        nengo.Probe(b)
        nengo.Probe(a.neurons)
    return net


def mixed_parameters():
    """Ensembles of one type with different parameters, which are merged."""
    with nengo.Network(seed=8) as net:
        inp = nengo.Node(waves(1))
        out = nengo.Node(size_in=3)
        for i, tau in enumerate((0.02, 0.03, 0.05)):
            kind = nengo.LIF(tau_rc=tau, tau_ref=0.001 * (1 + i), amplitude=1 + 0.5 * i)
            max_rates = nengo.dists.Uniform(100, 200)
            ens = nengo.Ensemble(20, 1, neuron_type=kind, max_rates=max_rates)
            nengo.Connection(inp, ens)
            nengo.Connection(ens, out[i], synapse=0.01 * (1 + i))
        nengo.Probe(out)
    return net


def recurrent_rates(**settings):
    """Recurrence, filters, a product of inputs, rate neurons: all of it smooth."""
    with nengo.Network(seed=2) as net:
        nengo_dl.configure_settings(**{"dtype": "float64", **settings})
        net.inp = nengo.Node([0.3, -0.4], label="inp")
        net.wave = nengo.Node(waves(1), label="wave")
        curves = {"gain": nengo.dists.Uniform(0.5, 2), "bias": nengo.dists.Uniform(-1, 1)}
        net.a = nengo.Ensemble(12, 2, neuron_type=nengo.Sigmoid(), **curves)
        net.b = nengo.Ensemble(10, 1, neuron_type=nengo.Tanh(), **curves)
        nengo.Connection(net.inp, net.a, synapse=0.005)
        nengo.Connection(net.wave, net.a[0], synapse=nengo.Alpha(0.003))
        net.conn = nengo.Connection(
            net.a, net.b, function=lambda x: x[0] * x[1], synapse=0.004
        )
        nengo.Connection(net.b, net.a[1], synapse=0.01, transform=0.5)
        nengo.Connection(net.b, net.b, synapse=0.01, transform=0.3)
        net.p = nengo.Probe(net.b, synapse=0.01, label="p")
        net.q = nengo.Probe(net.a, label="q")
    return net


def small(probe=True):
    """One ensemble of a few neurons; everything has a label."""
    with nengo.Network(seed=0) as net:
        net.node = nengo.Node([0.5], label="stimulus")
        net.ens = nengo.Ensemble(10, 1, label="ens")
        net.conn = nengo.Connection(net.node, net.ens)
        if probe:
            net.probe = nengo.Probe(net.ens, synapse=0.01, label="out")
    return net


def autoencoder(n_probes=1, neuron_type=None, synapse=None, **settings):
    """Two rate populations without state."""
    with nengo.Network(seed=3) as net:
        nengo_dl.configure_settings(**settings)
        net.inp = nengo.Node(np.zeros(2), label="inp")
        net.a = nengo.Ensemble(
            30, 2, neuron_type=neuron_type or nengo.RectifiedLinear(), label="a"
        )
        nengo.Connection(net.inp, net.a, synapse=synapse)
        net.out = [
            nengo.Probe(net.a, synapse=synapse, label=f"out{i}") for i in range(n_probes)
        ]
    return net
