"""Models that core Nengo optimized: signals are merged, and nodes have parts of them."""

import nengo
import numpy as np
import pytest
from nengo.builder import Model

import nengo_dl

N_STEPS = 12


def several_nodes(dtype="float64"):
    """A network whose node outputs end up in one signal each time they are merged."""
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(dtype=dtype)
        net.ins = [
            nengo.Node(lambda t: [t, 2 * t]),
            nengo.Node(lambda t: [3 * t, 4 * t]),
            nengo.Node([0.3, 0.4]),
            nengo.Node([0.5, 0.6]),
            nengo.Node(nengo.processes.WhiteSignal(1, high=10), size_out=2),
        ]
        for i, node in enumerate(net.ins):
            ens = nengo.Ensemble(10, 2, seed=i)
            nengo.Connection(node, ens, synapse=None)
            nengo.Probe(ens)
            nengo.Probe(node)
        doubling = nengo.Node(lambda t, x: x * 2, size_in=2)
        nengo.Connection(net.ins[0], doubling, synapse=None)
        nengo.Probe(doubling)
    return net


def optimized(net):
    model = Model(dt=0.001)
    model.build(net)
    with nengo.Simulator(None, model=model, progress_bar=False):
        return model


@pytest.mark.parametrize("given", ((), (0, 3), (1, 2, 4)))
def test_nodes_with_parts_of_signals(given, rng, allclose):
    net = several_nodes()
    model = optimized(net)
    assert sum(model.sig[node]["out"].is_view for node in net.ins) > 1
    data = {net.ins[i]: rng.standard_normal((1, N_STEPS, 2)) for i in given}
    found = []
    for source in ({"network": net}, {"network": None, "model": model}):
        with nengo_dl.Simulator(**source, seed=1, progress_bar=False) as sim:
            sim.run_steps(N_STEPS, data=data)
            run = [sim.data[probe].copy() for probe in net.probes]
            if given == (0, 3):
                sim.reset(seed=1)
                predicted = sim.predict(data, n_steps=N_STEPS)
                run += [predicted[probe] for probe in net.probes]
            found.append(run)
    for x, y in zip(*found, strict=True):
        assert np.abs(x).max() > 0
        assert allclose(x, y, atol=1e-12)


def test_optimized_models_agree_with_core(allclose):
    net = several_nodes()
    model = Model(dt=0.001)
    model.build(net)
    with nengo.Simulator(None, model=model, seed=2, progress_bar=False) as core:
        with nengo_dl.Simulator(None, model=model, seed=2, progress_bar=False) as sim:
            for simulator in (core, sim):
                simulator.run_steps(N_STEPS)
            for probe in net.probes:
                assert allclose(sim.data[probe], core.data[probe], atol=1e-9)


def partly_trained():
    """Three ensembles, one of which is not to be trained."""
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(trainable=None)
        net.inp = nengo.Node([0.5, 0.2])
        output = nengo.Node(size_in=2)
        rates = nengo.RectifiedLinear()
        net.ens = [nengo.Ensemble(10, 2, label=f"e{i}", neuron_type=rates) for i in "012"]
        for ens in net.ens:
            nengo.Connection(net.inp, ens, synapse=None)
            nengo.Connection(ens, output, synapse=None)
        net.probe = nengo.Probe(output)
        net.config[net.ens[1]].trainable = False
        net.config[net.ens[1].neurons].trainable = False
    return net


def training(sim, net):
    """Fit, and tell which of the ensembles' biases changed."""
    x = np.ones((4, 3, 2))
    sim.compile("sgd", "mse")
    before = [sim.data[ens].bias.copy() for ens in net.ens]
    sim.fit({net.inp: x}, {net.probe: x}, verbose=0)
    after = [sim.data[ens].bias for ens in net.ens]
    return [not np.array_equal(b, a) for b, a in zip(before, after, strict=True)]


def test_parameters_that_cannot_be_trained_by_themselves_are_named(recwarn):
    net = partly_trained()
    model = optimized(net)
    biases = [model.sig[ens.neurons]["bias"].base for ens in net.ens]
    shared = [i for i in (0, 2) if biases[i] is biases[1]]
    assert shared
    with nengo_dl.Simulator(None, model=model, progress_bar=False) as sim:
        changed = training(sim, net)
    assert changed == [i not in (1, *shared) for i in range(3)]
    messages = [str(w.message) for w in recwarn if "should be trained" in str(w.message)]
    assert len(messages) == 1
    named = [i for i in range(3) if f"ensembles['e{i}'].neurons.bias" in messages[0]]
    assert named == shared
    assert "nengo_dl.Simulator(network)" in messages[0]


@pytest.mark.parametrize("built_by_core", (False, True))
def test_parameters_of_models_as_they_were_built_are_trained(built_by_core, recwarn):
    net = partly_trained()
    model = None
    if built_by_core:
        model = Model(dt=0.001)
        model.build(net)
    network = None if built_by_core else net
    with nengo_dl.Simulator(network, model=model, progress_bar=False) as sim:
        assert training(sim, net) == [True, False, True]
    assert not [w for w in recwarn if "should be trained" in str(w.message)]
