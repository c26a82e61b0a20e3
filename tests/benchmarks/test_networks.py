import pickle

import nengo
import numpy as np
import pytest
from nengo.exceptions import ValidationError

from nengo_dl.benchmarks import networks
from nengo_dl.benchmarks.networks import BUILDERS, CASES, DEFAULT, Case, Waves

DRIVEN = ("basal_ganglia", "cconv", "chain", "integrator", "pes")
SMALL = {name: Case(BUILDERS[name]) for name in DRIVEN}
SMALL["random_network"] = Case(
    networks.random_network, {"n_ensembles": 4, "connections_per_ensemble": 2}
)


def run(net, steps):
    with nengo.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(steps)
        return sim.data[net.p]


@pytest.mark.parametrize("case", SMALL.values(), ids=SMALL)
def test_outputs_follow_the_signal(case):
    net = case(dimensions=3, neurons_per_d=30)
    output = run(net, 1000)  # one period of the slowest wave

    assert output.shape == (1000, 3)
    assert np.all(np.abs(output).max(axis=0) > 0.02)  # no dimension is silent
    assert np.all(output.std(axis=0) > 0.01)  # nor constant
    assert np.abs(output).max() < 5


@pytest.mark.parametrize("case", SMALL.values(), ids=SMALL)
def test_same_network_every_time(case, allclose):
    first, second = (case(dimensions=2, neurons_per_d=10) for _ in range(2))
    # the order in which the terms of a sum are added may differ
    assert allclose(run(first, 50), run(second, 50), atol=1e-10)


@pytest.mark.parametrize("case", SMALL.values(), ids=SMALL)
def test_neuron_type(case):
    net = case(dimensions=2, neurons_per_d=10, neuron_type=nengo.SpikingRectifiedLinear())
    types = {ens.neuron_type for ens in net.all_ensembles}
    assert types == {nengo.SpikingRectifiedLinear()}
    assert net.probe is net.p
    assert net.inp in net.all_nodes


def test_sizes():
    def neurons(net):
        return sorted(ens.n_neurons for ens in net.all_ensembles)

    assert neurons(networks.chain(2, 7, n_ensembles=4)) == [14] * 4
    assert neurons(networks.integrator(3, 8)) == [8] * 3
    assert neurons(networks.pes(5, 4)) == [20]
    # a product has two ensembles, which share its neurons
    assert set(neurons(networks.cconv(4, 10))) == {5}
    # five for each action in the basal ganglia, one in the thalamus
    assert len(neurons(networks.basal_ganglia(4, 9))) == 6 * 4
    # 31.25 neurons in each of 16 dimensions
    assert (
        neurons(
            networks.random_network(16, 31.25, n_ensembles=2, connections_per_ensemble=1)
        )
        == [500] * 2
    )


def test_chain_squares_at_each_link(allclose):
    net = networks.chain(1, 500, nengo.LIFRate(), n_ensembles=2)
    with net:
        slow = nengo.Probe(net.inp, synapse=nengo.synapses.Lowpass(0.01))
    with nengo.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(500)
    # each of the three synapses delays by its time constant, 5 + 5 + 10 ms
    expected = sim.data[slow][:-10] ** 2
    assert allclose(sim.data[net.p][10:][100:], expected[100:], atol=0.15)


def test_learner_learns():
    net = networks.pes(2, 50)
    with net:
        target = nengo.Probe(net.inp, synapse=networks.PROBE_SYNAPSE)
    with nengo.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(1500)
    error = np.square(sim.data[net.p] - sim.data[target]).mean(axis=1)
    assert error[-500:].mean() < 0.5 * error[:100].mean()


def test_random_network_connections():
    net = networks.random_network(2, 10, n_ensembles=6, connections_per_ensemble=3)
    among = [
        (conn.pre, conn.post)
        for conn in net.connections
        if isinstance(conn.pre, nengo.Ensemble) and isinstance(conn.post, nengo.Ensemble)
    ]
    assert len(set(among)) == len(among) == 18
    for ens in net.ensembles:
        assert sum(pre is ens for pre, _ in among) == 3


def test_random_network_without_connections():
    net = networks.random_network(1, 20, n_ensembles=2, connections_per_ensemble=0)
    assert np.abs(run(net, 100)).max() > 0.1


def test_invalid_sizes():
    with pytest.raises(ValidationError, match="dimensions: must be at least 1; got 0"):
        networks.cconv(0, 10)
    with pytest.raises(ValidationError, match="neurons_per_d: must be at least 1"):
        networks.pes(2, 0.1)
    with pytest.raises(ValidationError, match="n_ensembles: must be at least 1"):
        networks.chain(1, 10, n_ensembles=0)
    with pytest.raises(ValidationError, match="there are only 2 ensembles.*got 3"):
        networks.random_network(1, 10, n_ensembles=2, connections_per_ensemble=3)


def test_waves(allclose):
    waves = Waves(50, frequencies=(1, 3))
    t = np.arange(0, 10, 0.001)
    values = np.array([waves(time) for time in t])

    assert values.shape == (10000, 50)
    assert np.abs(values).max() <= 1
    assert allclose(np.square(values).mean(axis=0), 0.5, atol=0.05)
    peaks = np.abs(np.fft.rfft(values, axis=0)).argmax(axis=0) / 10  # Hz
    assert peaks.min() >= 0.9
    assert peaks.max() <= 3.1
    correlation = np.corrcoef(values.T) - np.eye(50)
    assert np.abs(correlation).max() < 0.99  # no two dimensions are the same

    again = pickle.loads(pickle.dumps(waves))
    assert np.array_equal(again(0.3), waves(0.3))


def test_cases_have_the_standard_sizes():
    assert list(networks.chosen_cases()) == list(DEFAULT)
    neurons = {
        "chain": 200,
        "integrator16": 16 * 50,
        "integrator128": 128 * 32,
        "action16": 16 * 6 * 50,
        "learner4": 200,
        "learner64": 2048,
        "web20": 20 * 500,
        "web100": 100 * 128,
    }
    assert {name: CASES[name]().n_neurons for name in neurons} == neurons


def test_chosen_cases():
    assert list(networks.chosen_cases(["lmu", "chain"])) == ["lmu", "chain"]
    with pytest.raises(ValidationError, match="networks: unknown: huge; known: .*chain"):
        networks.chosen_cases(["chain", "huge"])


def test_builders_are_attributes():
    assert networks.chain is BUILDERS["chain"]
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = networks.nothing


def test_new_networks_are_registered_by_decorators(monkeypatch):
    monkeypatch.setattr(networks.base, "BUILDERS", {})
    monkeypatch.setattr(networks.base, "CASES", {})

    @networks.builder
    @networks.case("relay3", dimensions=3)
    def relay(dimensions):
        return dimensions

    assert networks.base.BUILDERS == {"relay": relay}
    assert networks.base.CASES["relay3"]() == 3
    assert networks.base.CASES["relay3"](dimensions=4) == 4


def test_case_sizes_can_be_replaced():
    case = Case(networks.integrator, {"dimensions": 4, "neurons_per_d": 5})
    assert case().n_neurons == 20
    net = case(neurons_per_d=6, neuron_type=nengo.LIFRate())
    assert net.n_neurons == 24
    assert net.all_ensembles[0].neuron_type == nengo.LIFRate()
    assert case.sizes == {"dimensions": 4, "neurons_per_d": 5}
