"""What is read from ``sim.data``: samples of probes, live values of objects."""

import pickle

import nengo
import numpy as np
import pytest
from nengo.builder.connection import BuiltConnection
from nengo.builder.ensemble import BuiltEnsemble
from nengo.exceptions import ValidationError

from nengo_dl.simulator.data import ProbeLog, SimulationData
from nengo_dl.training.parameters import initial_value


def append(log, values, sizes):
    """Append ``values`` (steps first, batch last) in chunks of the given sizes."""
    first = 0
    for size in sizes:
        log.append(values[first : first + size].copy(), first + 1)
        first += size
    assert first == len(values)


@pytest.mark.parametrize("sizes", [[300], [1] * 300, [7] * 42 + [6], [100, 1, 199]])
@pytest.mark.parametrize("looked_at", [False, True])
def test_samples_in_order_whatever_the_chunks(sizes, looked_at, rng):
    values = rng.uniform(size=(300, 2, 3)).astype(np.float32)
    log = ProbeLog((2,), minibatch_size=3)
    first = 0
    for size in sizes:
        append(log, values[first : first + size], [size])
        first += size
        if looked_at:
            assert log.data.shape == (3, first, 2)
            assert np.array_equal(log.data[:, -1], values[first - 1].T)
    assert log.data.dtype == np.float32
    assert np.array_equal(log.data, np.moveaxis(values, -1, 0))


def test_data_without_a_minibatch_have_no_axis_for_it(rng):
    values = rng.uniform(size=(10, 2, 1))
    log = ProbeLog((2,), dtype=np.float64)
    append(log, values, [4, 6])
    assert log.data.shape == (10, 2)
    assert np.array_equal(log.data, values[:, :, 0])


def test_no_data_yet():
    assert ProbeLog((3,)).data.shape == (0, 3)
    assert ProbeLog((3,), minibatch_size=2).data.shape == (2, 0, 3)
    assert ProbeLog((3, 4), keep_history=False).data.shape == (0, 3, 4)
    assert ProbeLog((3,), dtype=np.float64).data.dtype == np.float64


@pytest.mark.parametrize("shape", [(), (2,), (3, 2)])
@pytest.mark.parametrize("flat", [False, True])
def test_signals_of_any_rank(shape, flat, rng):
    values = rng.uniform(size=(5, *shape, 4))
    chunk = values.reshape(5, -1, 4) if flat else values
    log = ProbeLog(shape, minibatch_size=4, dtype=np.float64)
    append(log, chunk, [1, 4])
    assert np.array_equal(log.data, np.moveaxis(values, -1, 0))

    log = ProbeLog(shape, dtype=np.float64)
    append(log, chunk[..., :1], [5])
    assert np.array_equal(log.data, values[..., 0])


@pytest.mark.parametrize("sample_every", [0.001, 0.002, 0.0025, 0.0031, 0.01, 0.03])
@pytest.mark.parametrize("sizes", [[50], [1] * 50, [3, 17, 30]])
def test_sampling_is_that_of_core(sample_every, sizes):
    with nengo.Network() as net:
        ramp = nengo.Node(lambda t: t)
        probe = nengo.Probe(ramp, sample_every=sample_every)
    with nengo.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(50)
        expected = sim.data[probe]
        log = ProbeLog.of_probe(sim.model, probe)
    values = (np.arange(1, 51) * 0.001).reshape(50, 1, 1)
    append(log, values, sizes)
    assert log.data.shape == expected.shape
    assert np.array_equal(np.round(log.data, 9), np.round(expected, 9))


@pytest.mark.parametrize("sample_every, last", [(None, 9), (0.004, 7)])
@pytest.mark.parametrize("sizes", [[10], [1] * 10, [9, 1]])
def test_keep_only_the_last_sample(sample_every, last, sizes):
    with nengo.Network() as net:
        probe = nengo.Probe(nengo.Node(0), sample_every=sample_every)
    model = nengo.builder.Model()
    model.build(net)
    log = ProbeLog.of_probe(model, probe, minibatch_size=2, keep_history=False)

    values = np.arange(20.0).reshape(10, 1, 2)
    append(log, values, sizes)
    data = log.data
    assert data.shape == (2, 1, 1)
    assert np.array_equal(data[:, 0, 0], values[last, 0])
    assert np.array_equal(log.data, data)

    log.append(np.full((1, 1, 2), -1.0), 12)
    assert np.all(log.data == -1)
    assert np.array_equal(data[:, 0, 0], values[last, 0])


def test_data_are_read_only_and_keep_what_they_showed():
    log = ProbeLog((1,))
    seen = []
    for i in range(20):
        log.append(np.full((1, 1, 1), i, np.float32), i + 1)
        seen.append(log.data)
    for i, data in enumerate(seen):
        assert np.array_equal(data[:, 0], np.arange(i + 1))
        with pytest.raises(ValueError, match="read-only"):
            data[0] = 1

    log.clear()
    assert log.data.shape == (0, 1)
    log.append(np.full((1, 1, 1), 5, np.float32), 1)
    assert np.array_equal(log.data, [[5]])
    assert np.array_equal(seen[-1][:, 0], np.arange(20))


def test_logs_can_be_pickled(rng):
    values = rng.uniform(size=(6, 2, 1)).astype(np.float32)
    log = ProbeLog((2,))
    append(log, values[:4], [2, 2])
    assert len(log.data) == 4
    log.append(values[4:5], 5)
    copy = pickle.loads(pickle.dumps(log))
    copy.append(values[5:], 6)
    assert np.array_equal(copy.data, values[:, :, 0])
    assert len(log.data) == 5


@pytest.fixture
def net():
    with nengo.Network(seed=0) as net:
        net.node = nengo.Node([0])
        net.ens = nengo.Ensemble(5, 1)
        net.conn = nengo.Connection(net.ens, net.ens)
        net.probe = nengo.Probe(net.ens)
    return net


class Source:
    """Present values of a model's signals, with a count of the reads."""

    def __init__(self):
        self.factor, self.version, self.reads = 1, 0, 0

    def values(self, signal):
        self.reads += 1
        return self.factor * initial_value(signal)


def simulation_data(net, source, **kwargs):
    model = nengo.builder.Model()
    model.build(net)
    logs = {net.probe: ProbeLog.of_probe(model, net.probe)}
    return model, logs, SimulationData(model, logs, source.values, **kwargs)


def test_mapping_of_all_built_objects(net):
    model, logs, data = simulation_data(net, Source())
    assert set(data) == set(model.params)
    assert len(data) == len(model.params)
    assert net.ens in data and net.probe in data and net in data
    assert data[net] is None and data[net.node] is None
    assert f"{len(data)} objects" in repr(data)

    with nengo.Network():
        other = nengo.Ensemble(3, 1)
    for unknown in (other, net.ens.neurons, "ens"):
        assert unknown not in data
        with pytest.raises(KeyError):
            data[unknown]
    with pytest.raises(TypeError):
        data[net.ens] = None


def test_probe_data(net):
    _, logs, data = simulation_data(net, Source())
    assert data[net.probe].shape == (0, 1)
    logs[net.probe].append(np.ones((3, 1, 1)), 1)
    assert np.array_equal(data[net.probe], np.ones((3, 1)))
    assert not data[net.probe].flags.writeable


def test_live_values(net):
    source = Source()
    model, _, data = simulation_data(net, source)
    assert isinstance(data[net.ens], BuiltEnsemble)
    assert isinstance(data[net.conn], BuiltConnection)
    for live, core in zip(data[net.ens], model.params[net.ens], strict=True):
        assert np.array_equal(live, core)

    source.factor = 2
    core = model.params[net.ens]
    assert np.array_equal(data[net.ens].scaled_encoders, 2 * core.scaled_encoders)
    assert np.array_equal(data[net.ens].bias, 2 * core.bias)
    assert np.array_equal(data[net.conn].weights, 2 * model.params[net.conn].weights)
    assert data[net.conn].solver_info is model.params[net.conn].solver_info


def test_values_are_computed_once_per_version(net):
    source = Source()
    _, _, data = simulation_data(net, source, version=lambda: source.version)
    first = data[net.conn]
    assert data[net.conn] is first
    assert source.reads == 1

    source.factor, source.version = 3, 1
    assert np.array_equal(data[net.conn].weights, 3 * first.weights)
    assert source.reads == 2
    data.reset()
    assert np.array_equal(data[net.conn].weights, 3 * first.weights)
    assert source.reads == 3


def test_get_params(net):
    source = Source()
    _, _, data = simulation_data(net, source)
    source.factor = 2
    bias, encoders, weights = data.get_params(
        (net.ens.neurons, "bias"), (net.ens, "scaled_encoders"), (net.conn, "weights")
    )
    assert np.array_equal(bias, data[net.ens].bias)
    assert np.array_equal(encoders, data[net.ens].scaled_encoders)
    assert np.array_equal(weights, data[net.conn].weights)
    assert data.get_params() == []

    with pytest.raises(
        ValidationError, match="no parameter 'bias'; it has 'eval_points'"
    ):
        data.get_params((net.conn, "bias"))
    for obj, attr in ((net.probe, "shape"), (net.node, "weights")):
        with pytest.raises(ValidationError, match="it has none"):
            data.get_params((obj, attr))
    with pytest.raises(KeyError):
        data.get_params((net.ens[0], "bias"))
