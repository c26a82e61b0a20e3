"""Networks of all kinds, and models that were built elsewhere, against core Nengo."""

import nengo
import numpy as np
import pytest
from nengo.builder import Model
from nengo.builder.operator import Copy, DotInc, Reset
from nengo.builder.signal import Signal

import nengo_dl
from tests import networks
from tests.simulator.against_core import check_against_core, double

# networks -------------------------------------------------------------------------------


def test_outputs_changed_after_the_build_do_not_count():
    """In core the built model holds the old function or value."""
    with double() as net:
        constant = nengo.Node([0.5])
        function = nengo.Node(lambda t: t)
        process = nengo.Node(nengo.processes.PresentInput([[1], [2]], 0.002))
        probes = [nengo.Probe(node) for node in (constant, function, process)]
    data = []
    for simulator in (nengo.Simulator, nengo_dl.Simulator):
        with simulator(net, progress_bar=False) as sim:
            old = constant.output, function.output, process.output
            constant.output = [0.7]
            function.output = lambda t: -t
            process.output = nengo.processes.PresentInput([[3]], 0.001)
            sim.run_steps(5)
            sim.reset()
            sim.run_steps(5)
            data.append([sim.data[probe] for probe in probes])
            constant.output, function.output, process.output = old
    for x, y in zip(*data, strict=True):
        assert np.array_equal(x, y)
    assert data[1][0][0] == 0.5


def test_arrays_changed_after_the_build_do_not_count():
    value = np.array([0.5, -0.5])
    matrix = np.eye(2)
    with double() as net:
        node = nengo.Node(value)
        out = nengo.Node(size_in=2)
        nengo.Connection(node, out, transform=matrix, synapse=None)
        probe = nengo.Probe(out)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        value[:] = 9
        matrix[:] = 9
        sim.run_steps(2)
        assert sim.data[probe].tolist() == [[0.5, -0.5]] * 2


def test_networks_in_networks():
    with double(label="outer") as net:
        inp = nengo.Node(networks.waves(2))
        with nengo.Network(label="middle", seed=7) as middle:
            middle.array = nengo.networks.EnsembleArray(15, 2, radius=1.5)
            with nengo.Network(label="inner"):
                product = nengo.networks.Product(20, 2)
                nengo.Probe(product.output, synapse=0.01)
            nengo.Connection(middle.array.output, product.input_a)
            nengo.Connection(middle.array.output, product.input_b)
        nengo.Connection(inp, middle.array.input)
        nengo.Probe(middle.array.output, synapse=0.01)
    check_against_core(net)


def cconv():
    net = nengo.networks.CircularConvolution(8, dimensions=4, seed=1)
    return net, net.input_a, net.output


def basal_ganglia():
    net = nengo.networks.BasalGanglia(dimensions=3, n_neurons_per_ensemble=20, seed=1)
    return net, net.input, net.output


def thalamus():
    net = nengo.networks.Thalamus(dimensions=3, n_neurons_per_ensemble=20, seed=1)
    return net, net.actions.input, net.output


def memory():
    net = nengo.networks.InputGatedMemory(20, dimensions=2, seed=1)
    return net, net.input, net.output


def assoc_mem():
    net = nengo.networks.AssociativeMemory(np.eye(3), n_neurons=20, seed=1)
    net.add_wta_network(1.0)
    return net, net.input, net.output


@pytest.mark.parametrize("make", (cconv, basal_ganglia, thalamus, memory, assoc_mem))
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_networks_that_come_with_nengo(make):
    with double() as net:
        _, inp, out = make()
        nengo.Connection(nengo.Node(networks.waves(inp.size_in)), inp)
        nengo.Probe(out, synapse=0.01)
    check_against_core(net, 30)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_spa():
    spa = pytest.importorskip("nengo.spa")
    with spa.SPA(seed=1) as net:
        nengo_dl.configure_settings(dtype="float64")
        net.vision = spa.Buffer(dimensions=16)
        net.memory = spa.Buffer(dimensions=16)
        net.bg = spa.BasalGanglia(spa.Actions("dot(vision, CAT) --> memory=DOG"))
        net.thalamus = spa.Thalamus(net.bg)
        net.input = spa.Input(vision="CAT")
        nengo.Probe(net.memory.state.output, synapse=0.03)
    check_against_core(net, 20)


@pytest.mark.filterwarnings("error:Sparse operations require Scipy")
@pytest.mark.parametrize("distribution", (False, True))
def test_sparse_transforms_do_without_scipy(monkeypatch, distribution, rng):
    """Core falls back to dense matrices, with a warning."""
    indices = np.array([[0, 0], [1, 1], [0, 2], [1, 3]])
    init = nengo.dists.Uniform(0.25, 0.75) if distribution else rng.uniform(size=4)
    with double() as net:
        a, b = nengo.Node(networks.waves(4)), nengo.Node(size_in=2)
        transform = nengo.Sparse((2, 4), indices=indices, init=init)
        conn = nengo.Connection(a, b, transform=transform)
        probe = nengo.Probe(b)
    monkeypatch.setattr(nengo.transforms, "scipy_sparse", None)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(20)
        weights = sim.data[conn].weights.toarray()
    assert np.array_equal(np.argwhere(weights), np.argwhere(weights > 0))
    assert np.count_nonzero(weights) == 4
    conn.transform = weights
    with nengo.Simulator(net, progress_bar=False) as ref:
        ref.run_steps(20)
    assert np.allclose(sim.data[probe], ref.data[probe], rtol=1e-9, atol=1e-12)


def test_objects_that_were_removed_before_the_build():
    with double() as net:
        keep = nengo.Ensemble(10, 1)
        gone = nengo.Ensemble(10, 1)
        inp = nengo.Node([0.3])
        nengo.Connection(inp, keep)
        conn = nengo.Connection(inp, gone)
        probe, old = nengo.Probe(keep), nengo.Probe(gone)
    net.ensembles.remove(gone)
    net.connections.remove(conn)
    net.probes.remove(old)
    check_against_core(net, 10)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(3)
        assert len(sim.data[probe]) == 3
        for obj in (gone, conn, old):
            assert obj not in sim.data
            with pytest.raises(KeyError):
                sim.data[obj]


# models ---------------------------------------------------------------------------------


@pytest.mark.parametrize("optimize", (True, False))
def test_models_built_by_core(optimize):
    """Optimized ones have merged operators and views of merged signals."""
    net = networks.recurrent()
    with net:
        nengo_dl.configure_settings(dtype="float64")
    with nengo.Simulator(net, optimize=optimize, progress_bar=False) as ref:
        operators = list(ref.model.operators)
        params = dict(ref.model.params)
        with nengo_dl.Simulator(None, model=ref.model, progress_bar=False) as sim:
            sim.run_steps(30)
            found = {probe: sim.data[probe].copy() for probe in ref.model.probes}
        assert ref.model.operators == operators
        assert dict(ref.model.params) == params
        ref.run_steps(30)
        for probe, values in found.items():
            assert np.allclose(values, ref.data[probe], rtol=1e-9, atol=1e-9)


def test_networks_built_into_a_model_with_something_in_it():
    """As for back ends that put operators of their own beside those of a network."""
    model = Model()
    count, one = Signal([0.0], name="count"), Signal([1.0], name="one")
    model.add_op(DotInc(one, one, count))
    with double() as net:
        probe = nengo.Probe(nengo.Node([0.5]))
    with nengo_dl.Simulator(net, model=model, progress_bar=False) as sim:
        sim.run_steps(3)
        assert sim.model is model
        assert model.toplevel is net
        assert sim.data[probe].tolist() == [[0.5]] * 3


def test_first_values_of_signals_stay():
    """Increments of nothing leave what was there at first, of any shape."""
    zero, one, five = Signal([0.0]), Signal([1.0]), Signal([5.0])
    column, row = Signal([[0.0], [0.0], [0.0]]), Signal([1.0, 2.0, 3.0])
    seen = Signal(np.zeros(4), name="seen")
    model = Model()
    with nengo.Network() as net:
        node = nengo.Node(size_in=4)
        probe = nengo.Probe(node)
    model.build(net)
    model.operators += [
        DotInc(zero, zero, five),
        DotInc(column, one, row),
        Copy(five, model.sig[node]["in"][:1], inc=True),
        Copy(row, model.sig[node]["in"][1:], inc=True),
        Reset(seen, value=2.0),
    ]
    with nengo_dl.Simulator(None, model=model, progress_bar=False) as sim:
        sim.run_steps(3)
        assert sim.data[probe].tolist() == [[5, 1, 2, 3]] * 3
