"""Everything that can be probed, against core Nengo."""

import nengo
import numpy as np
import pytest
import scipy.sparse

import nengo_dl
from tests import networks

N_STEPS = 60

NEURONS = {
    "spiking": [nengo.LIF(), nengo.AdaptiveLIF(), nengo.SpikingRectifiedLinear()],
    "rates": [nengo.LIFRate(), nengo.AdaptiveLIFRate(), nengo.Sigmoid(), nengo.Tanh()],
    "other": [
        nengo.RectifiedLinear(),
        nengo.Izhikevich(),
        nengo.RegularSpiking(nengo.LIFRate()),
        nengo.StochasticSpiking(nengo.Tanh()),
    ],
}


def probe_everything(objs):
    """Two probes of each attribute of each object: as it is, and filtered and sampled."""
    probes = []
    for obj in objs:
        for attr in obj.probeable:
            # connections from nodes have no matrix unless they are given one
            if attr == "weights" and isinstance(obj.pre_obj, nengo.Node):
                continue
            probes.append(nengo.Probe(obj, attr))
            probes.append(nengo.Probe(obj, attr, synapse=0.01, sample_every=0.0025))
    return probes


def check_against_core(net, probes, n_steps=N_STEPS):
    with nengo.Simulator(net, optimize=False, progress_bar=False) as ref:
        ref.run_steps(n_steps)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(n_steps)
    for probe in probes:
        found, expected = sim.data[probe], ref.data[probe]
        assert found.shape == expected.shape, probe
        scale = max(np.abs(expected).max(), 1e-3)
        assert np.abs(found - expected).max() <= 1e-9 * scale, (probe, probe.target)


@pytest.mark.parametrize("kind", NEURONS)
def test_ensembles_and_neurons(kind):
    with nengo.Network(seed=1) as net:
        nengo_dl.configure_settings(dtype="float64")
        inp = nengo.Node(networks.waves(2))
        objs = []
        for neuron_type in NEURONS[kind]:
            ens = nengo.Ensemble(15, 2, neuron_type=neuron_type)
            conn = nengo.Connection(inp, ens)
            out = nengo.Connection(ens, ens[0], function=np.prod, synapse=0.02)
            objs += [ens, ens.neurons, conn, out]
        probes = probe_everything(objs)
    check_against_core(net, probes)


def test_nodes_and_ensembles_without_neurons():
    with nengo.Network(seed=1) as net:
        nengo_dl.configure_settings(dtype="float64")
        constant = nengo.Node([0.3, -0.2])
        function = nengo.Node(networks.waves(2))
        process = nengo.Node(nengo.processes.WhiteSignal(1, 10, seed=2), size_out=2)
        passthrough = nengo.Node(size_in=2)
        with_input = nengo.Node(lambda t, x: x**2, size_in=2, size_out=2)
        direct = nengo.Ensemble(1, 2, neuron_type=nengo.Direct())
        objs = [constant, function, process, passthrough, with_input, direct]
        for source in (constant, function, process):
            objs.append(nengo.Connection(source, passthrough, transform=0.5))
        objs.append(nengo.Connection(passthrough, with_input, synapse=None))
        objs.append(nengo.Connection(with_input, direct, function=lambda x: x + 1))
        probes = probe_everything(objs)
    check_against_core(net, probes)


@pytest.mark.parametrize("weights", (False, True))
def test_learning_rules(weights):
    """With a solver for weights, the rules that need them; without, the others too."""
    rules = [nengo.PES(), nengo.RLS(), nengo.Voja()]
    if weights:
        rules = [nengo.PES(), nengo.BCM(), nengo.Oja()]
    solver = nengo.solvers.LstsqL2(weights=weights)
    with nengo.Network(seed=1) as net:
        nengo_dl.configure_settings(dtype="float64")
        inp = nengo.Node(networks.waves(2))
        pre, error = nengo.Ensemble(15, 2), nengo.Node(size_in=2)
        nengo.Connection(inp, pre)
        nengo.Connection(inp, error, transform=-1)
        objs = []
        for rule in rules:
            post = nengo.Ensemble(15, 2)
            conn = nengo.Connection(pre, post, solver=solver, learning_rule_type=rule)
            if isinstance(rule, nengo.PES | nengo.RLS):
                nengo.Connection(error, conn.learning_rule)
            nengo.Connection(post, error)
            objs += [conn, conn.learning_rule]
        probes = probe_everything(objs)
    check_against_core(net, probes)


def test_parts_of_objects():
    with nengo.Network(seed=1) as net:
        nengo_dl.configure_settings(dtype="float64")
        inp = nengo.Node(networks.waves(3))
        ens = nengo.Ensemble(20, 3)
        nengo.Connection(inp[[2, 0]], ens[:2])
        direct = nengo.Connection(ens.neurons[:4], ens.neurons[::5], transform=1e-3)
        probes = [
            nengo.Probe(ens[0], synapse=0.01),
            nengo.Probe(ens[::-1]),
            nengo.Probe(inp[[1, 1, 0]]),
            nengo.Probe(ens.neurons[::3]),
            nengo.Probe(ens.neurons[[7, 7, 0]], "voltage"),
            nengo.Probe(ens.neurons[-1], "input", synapse=0.005),
            nengo.Probe(ens, solver=nengo.solvers.LstsqL2(reg=0.3)),
            nengo.Probe(direct, "weights"),
            nengo.Probe(direct, "input"),
            nengo.Probe(direct),
        ]
    check_against_core(net, probes)


@pytest.mark.parametrize(
    "options",
    [
        {
            "indices": [[0, 1], [0, 1], [3, 2]],
            "init": [1.0, 0.25, -3.0],
        },  # one entry twice
        {"init": scipy.sparse.csc_matrix([[0, 2.0], [1, 0], [0, 0], [3, 4]])},
        {"init": scipy.sparse.csr_matrix((4, 3))},  # no entries
    ],
)
def test_sparse_weights(options):
    """They are matrices, one for each sample."""
    n_in = options["init"].shape[1] if "indices" not in options else 3
    with nengo.Network() as net:
        nengo_dl.configure_settings(dtype="float64")
        transform = nengo.Sparse((4, n_in), **options)
        node = nengo.Node(np.ones(n_in))
        conn = nengo.Connection(node, nengo.Node(size_in=4), transform=transform)
        probe = nengo.Probe(conn, "weights", sample_every=0.002)
    with nengo.Simulator(net, optimize=False, progress_bar=False) as ref:
        ref.run_steps(5)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(4)
        sim.step()
        assert sim.predict(n_steps=2)[probe].shape == (1, 2, transform.init.size)
    found, expected = sim.data[probe], ref.data[probe]
    assert found.shape == expected.shape == (2,)
    for matrix, other in zip(found, expected, strict=True):
        assert type(matrix) is type(other)
        assert np.array_equal(matrix.toarray(), other.toarray())


@pytest.mark.parametrize("form", (None, "coo", "csr", "csc"))
def test_sparse_weights_of_a_batch_after_training(form):
    with nengo.Network() as net:
        node, out = nengo.Node([1.0, 2.0]), nengo.Node(size_in=2)
        transform = nengo.Sparse((2, 2), indices=[[0, 1], [1, 0]], init=[1.0, 2.0])
        if form is not None:
            given = scipy.sparse.coo_matrix([[0, 1.0], [2, 0]]).asformat(form)
            transform = nengo.Sparse((2, 2), init=given)
        conn = nengo.Connection(node, out, transform=transform, synapse=None)
        probe, target = nengo.Probe(conn, "weights"), nengo.Probe(out)
    with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
        sim.run_steps(1)
        sim.compile("sgd", loss={target: "mse"})
        sim.fit(n_steps=1, y={target: np.zeros((2, 1, 2))}, verbose=0)
        sim.run_steps(1)
        before, after = sim.data[probe][1]
        assert np.array_equal(before.toarray(), [[0, 1], [2, 0]])
        assert np.array_equal(after.toarray(), sim.data[conn].weights.toarray())
        assert not np.array_equal(after.toarray(), before.toarray())
    if form is not None:  # what the network was given stays as it was
        assert given.dtype == float and np.array_equal(given.toarray(), [[0, 1], [2, 0]])


@pytest.mark.parametrize("keep_history", (True, False))
def test_sampling_that_does_not_fit_the_steps(keep_history):
    with nengo.Network(seed=1) as net:
        nengo_dl.configure_settings(dtype="float64")
        inp = nengo.Node(networks.waves(1))
        periods = [0.0005, 0.001, 0.0015, 0.0031, 0.01, 0.1]
        probes = [nengo.Probe(inp, sample_every=period) for period in periods]
        nengo_dl.configure_settings(keep_history=keep_history)
    with nengo.Simulator(net, progress_bar=False) as ref:
        ref.run_steps(37)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(30)
        sim.run_steps(7)
        for probe in probes:
            expected = ref.data[probe]
            expected = expected if keep_history else expected[-1:]
            if len(expected):
                assert np.allclose(sim.data[probe], expected, rtol=1e-12, atol=0)
            assert len(sim.data[probe]) == len(expected)
