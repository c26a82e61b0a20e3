"""Pickles and copies of simulators go on where the original was."""

import copy
import pickle
import warnings

import nengo
import numpy as np
import pytest
from nengo.exceptions import SimulatorClosed

import nengo_dl


class Countdown:
    """A function of time with state of its own, which is pickled with it."""

    def __init__(self, n):
        self.n = n

    def __call__(self, t):
        self.n -= 1
        return 0.01 * self.n


class Noise(nengo.Process):
    """Random numbers from the generator of the run, added up."""

    def make_state(self, shape_in, shape_out, dt, dtype=None):
        return {"total": np.zeros(shape_out)}

    def make_step(self, shape_in, shape_out, dt, rng, state):
        def step(t):
            state["total"] += rng.uniform(-0.1, 0.1, size=shape_out)
            return state["total"]

        return step


class Leaky(nengo.neurons.NeuronType):
    """A neuron type of a user, with state; it runs as Python."""

    spiking = False
    negative = False
    state = {"voltage": nengo.dists.Uniform(0, 1)}

    def rates(self, x, gain, bias):
        return np.maximum(self.current(x, gain, bias), 0)

    def step(self, dt, J, output, voltage):
        voltage += 10 * dt * (J - voltage)
        output[...] = np.maximum(voltage, 0)


class NoisyFilter(nengo.synapses.Synapse):
    """A synapse of a user, with state and random numbers; it runs as Python."""

    def make_state(self, shape_in, shape_out, dt, dtype=None, y0=0):
        return {"y": np.zeros(shape_out)}

    def make_step(self, shape_in, shape_out, dt, rng, state):
        def step(t, x):
            state["y"][...] = 0.9 * state["y"] + 0.1 * x
            return state["y"] + rng.uniform(0, 0.01, size=shape_out)

        return step


def square(x):
    return x**2


def small(**settings):
    """Everything that lasts: filters, voltages, learned weights, random numbers."""
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(dtype="float64", **settings)
        inputs = [
            nengo.Node(nengo.processes.WhiteSignal(1, high=20)),
            nengo.Node(nengo.processes.WhiteNoise()),
            nengo.Node(Noise(), size_out=1),
            nengo.Node(Countdown(100)),
        ]
        ens = nengo.Ensemble(30, 1, noise=nengo.processes.FilteredNoise(seed=None))
        for node in inputs:
            nengo.Connection(node, ens, synapse=0.01)
        nengo.Connection(ens, ens, function=square, synapse=nengo.Alpha(0.02))
        out, error = nengo.Node(size_in=1), nengo.Node(size_in=1)
        learned = nengo.Connection(ens, out, learning_rule_type=nengo.PES())
        nengo.Connection(out, error)
        nengo.Connection(inputs[0], error, transform=-1)
        nengo.Connection(error, learned.learning_rule)
        nengo.Probe(ens, synapse=0.01)
        nengo.Probe(ens.neurons, sample_every=0.003)
        nengo.Probe(learned, "weights")
        nengo.Probe(out)
    return net


def layers(neuron_type, **settings):
    """Two layers, with a constant as input."""
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(**settings)
        net.inp = nengo.Node([0.3, -0.4])
        a = nengo.Ensemble(20, 2, neuron_type=neuron_type)
        b = nengo.Ensemble(20, 2, neuron_type=neuron_type)
        nengo.Connection(net.inp, a, synapse=None)
        nengo.Connection(a, b, function=square, synapse=0.01)
        nengo.Probe(b, synapse=0.01)
    return net


def again(sim):
    """What becomes of it through a pickle."""
    return pickle.loads(pickle.dumps(sim))


def probe_data(sim):
    return [sim.data[probe] for probe in sim.model.probes]


def assert_same_data(a, b):
    for x, y in zip(probe_data(a), probe_data(b), strict=True):
        assert np.array_equal(x, y)


@pytest.mark.parametrize("minibatch_size, jit", [(None, False), (2, False), (2, True)])
def test_a_pickled_simulator_goes_on_where_it_was(minibatch_size, jit):
    with nengo_dl.Simulator(
        small(jit=jit), seed=3, minibatch_size=minibatch_size, progress_bar=False
    ) as sim:
        sim.run_steps(23)
        with again(sim) as other:
            assert other.n_steps == 23
            assert (other.seed, other.dt) == (3, 0.001)
            assert other.minibatch_size == minibatch_size
            assert_same_data(sim, other)
            sim.run_steps(20)
            other.run_steps(20)
            assert other.n_steps == 43
            assert_same_data(sim, other)
            assert np.array_equal(sim.trange(), other.trange())


@pytest.mark.filterwarnings("ignore::UserWarning")  # of what runs as Python
@pytest.mark.parametrize("minibatch_size", (None, 2))
def test_state_of_all_kinds_is_pickled(minibatch_size):
    neuron_types = [
        Leaky(),
        nengo.Direct(),
        nengo.AdaptiveLIF(),
        nengo.PoissonSpiking(nengo.LIFRate()),
        nengo.StochasticSpiking(nengo.RectifiedLinear()),
    ]
    with nengo.Network(seed=1) as net:
        inp = nengo.Node(nengo.processes.WhiteSignal(1, 10))
        pre, out = nengo.Ensemble(10, 1), nengo.Node(size_in=1)
        conn = nengo.Connection(pre, out, learning_rule_type=nengo.RLS())
        nengo.Connection(out, conn.learning_rule)
        nengo.Probe(conn, "weights")
        for neuron_type in neuron_types:
            gain = {} if isinstance(neuron_type, nengo.Direct) else {"gain": np.ones(10)}
            bias = {"bias": np.ones(10)} if gain else {}
            ens = nengo.Ensemble(10, 1, neuron_type=neuron_type, **gain, **bias)
            nengo.Connection(inp, ens, synapse=NoisyFilter())
            if gain:
                nengo.Connection(ens.neurons[0], pre, synapse=nengo.Triangle(0.01))
                nengo.Probe(ens.neurons)
            else:
                nengo.Connection(ens, pre, function=square, synapse=nengo.Alpha(0.01))
        nengo.Probe(pre.neurons)
    with nengo_dl.Simulator(
        net, minibatch_size=minibatch_size, progress_bar=False
    ) as sim:
        sim.run_steps(31)
        with again(sim) as other:
            sim.run_steps(30)
            other.run_steps(30)
            assert_same_data(sim, other)


def test_a_pickle_of_a_pickle_after_a_reset():
    with nengo_dl.Simulator(small(), seed=3, progress_bar=False) as sim:
        sim.run_steps(5)
        sim.reset(seed=8, include_processes=False)
        sim.run_steps(5)
        with again(sim) as once, again(once) as twice:
            for each in (sim, once, twice):
                each.run_steps(5)
            assert twice.seed == 8
            assert_same_data(sim, twice)
            sim.reset()
            twice.reset()
            # what a function keeps is its own business, and not reset
            for each in (sim, twice):
                each.network.all_nodes[3].output.n = 100
                each.run_steps(10)
            assert_same_data(sim, twice)


def test_changed_parameters_are_pickled():
    net = layers(nengo.LIFRate())
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        for variable in sim.keras_model.trainable_variables:
            variable.assign(variable * 1.5)
        sim.run_steps(5)
        with again(sim) as other:
            sim.run_steps(5)
            other.run_steps(5)
            assert_same_data(sim, other)
            for mine, theirs in zip(
                net.all_ensembles, other.network.all_ensembles, strict=True
            ):
                for x, y in zip(sim.data[mine], other.data[theirs], strict=True):
                    assert np.array_equal(x, y)
            # after a reset of the parameters both are as they were built
            for each in (sim, other):
                each.reset()
                each.run_steps(5)
            assert_same_data(sim, other)


def test_training_goes_on_after_compiling_again():
    net = layers(nengo.RectifiedLinear())
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.compile("sgd", "mse")
        x = np.full((1, 5, 2), 0.5)
        with again(sim) as other:
            with pytest.raises(RuntimeError, match="compile"):
                other.fit(x, x, verbose=0)
            other.compile("sgd", "mse")
            mine = sim.fit(x, x, epochs=2, verbose=0).history["loss"]
            theirs = other.fit(x, x, epochs=2, verbose=0).history["loss"]
            assert mine == theirs


def test_options_and_settings_are_pickled():
    net = layers(nengo.RectifiedLinear(), dtype="float64", keep_history=False)
    bar = nengo.utils.progress.TerminalProgressBar()
    with nengo_dl.Simulator(
        net,
        dt=0.002,
        unroll_simulation=4,
        device="/cpu:0",
        optimize=False,
        progress_bar=False,
    ) as sim:
        sim.progress_bar = bar
        sim.run_steps(4, progress_bar=False)
        with again(sim) as other:
            assert isinstance(other.progress_bar, type(bar))
            assert (other.dt, other.unroll_simulation) == (0.002, 4)
            assert (other.device, other.optimize) == ("/cpu:0", False)
            assert other.dtype == "float64"
            assert [len(data) for data in probe_data(other)] == [1] * len(net.all_probes)
            assert_same_data(sim, other)


def test_a_closed_simulator_stays_closed_and_keeps_its_data():
    with nengo_dl.Simulator(small(), progress_bar=False) as sim:
        sim.run_steps(5)
    other = again(sim)
    assert other.closed
    assert other.n_steps == 5
    assert_same_data(sim, other)
    (learned,) = [c for c in other.network.all_connections if c.learning_rule]
    (mine,) = [c for c in sim.network.all_connections if c.learning_rule]
    assert np.array_equal(other.data[learned].weights, sim.data[mine].weights)
    with pytest.raises(SimulatorClosed):
        other.step()
    assert again(other).closed


@pytest.mark.parametrize("copied", (copy.copy, copy.deepcopy))
def test_copies_go_on_for_themselves(copied):
    net = layers(nengo.LIF())
    with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
        sim.run_steps(10)
        with copied(sim) as other:
            assert (other.model is sim.model) == (copied is copy.copy)
            other.run_steps(10)
            assert (sim.n_steps, other.n_steps) == (10, 20)
            before = [data.copy() for data in probe_data(sim)]
            sim.run_steps(10)
            assert_same_data(sim, other)
            for data, old in zip(probe_data(sim), before, strict=True):
                assert np.array_equal(data[:, :10], old)
        assert other.closed
        assert not sim.closed
        sim.run_steps(1)


@pytest.mark.parametrize("copied", (again, copy.deepcopy, copy.copy))
def test_data_alone(copied):
    """Pickles and deep copies of ``sim.data`` stay as they are."""
    net = small()
    ens, probe = net.ensembles[0], net.probes[0]
    (conn,) = (c for c in net.connections if c.learning_rule is not None)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(20)
        bias, weights = sim.data[ens].bias, sim.data[conn].weights
        expected = sim.data[probe].copy()
        if copied is copy.copy:
            data = copied(sim.data)
        else:
            data, ens, conn, probe = copied([sim.data, ens, conn, probe])
        assert len(data) == len(sim.data)
        sim.run_steps(20)
    assert np.array_equal(data[ens].bias, bias)
    assert np.array_equal(data[probe][:20], expected)
    if copied is copy.copy:
        assert data[probe].shape == sim.data[probe].shape
        return
    assert np.array_equal(data[conn].weights, weights)
    assert data[probe].shape == expected.shape
    data, probe = again([data, probe])
    assert np.array_equal(data[probe], expected)


def test_what_cannot_be_pickled_gives_the_error_of_core():
    with nengo.Network() as net:
        nengo.Probe(nengo.Node(lambda t: t))
    with nengo.Simulator(net, progress_bar=False) as ref:
        with pytest.raises(Exception) as expected:
            pickle.dumps(ref)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        with pytest.raises(type(expected.value)) as found:
            pickle.dumps(sim)
        assert "lambda" in str(found.value)
        sim.run_steps(2)  # nothing has happened to it


def test_pickles_that_cannot_be_read_leave_no_open_simulator():
    with nengo_dl.Simulator(small(), progress_bar=False) as sim:
        state = sim.__getstate__()
    other = nengo_dl.Simulator.__new__(nengo_dl.Simulator)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(KeyError):
            other.__setstate__({k: v for k, v in state.items() if k != "parameters"})
        assert other.closed
        del other


@pytest.mark.parametrize("copied", (pickle.dumps, copy.deepcopy))
def test_pickles_leave_out_the_cache_of_decoders(copied, tmp_path):
    """Its index, of everything that was ever solved, is larger than the simulator."""
    path = nengo.rc.get("decoder_cache", "path")
    nengo.rc.set("decoder_cache", "enabled", "True")  # as outside of the tests
    nengo.rc.set("decoder_cache", "path", str(tmp_path / "cache"))
    try:
        with nengo_dl.Simulator(small(), progress_bar=False) as sim:
            assert str(tmp_path) in repr(sim.model.decoder_cache.cache_dir)
            for obj in (sim, sim.data, sim.model):
                found = copied(obj)
                if copied is pickle.dumps:
                    assert str(tmp_path).encode() not in found
                    found = pickle.loads(found)
                model = getattr(found, "model", getattr(found, "_model", found))
                assert isinstance(model, nengo.builder.Model)
                assert isinstance(model.decoder_cache, nengo.cache.NoDecoderCache)
                if obj is sim:
                    found.run_steps(2)
                    found.close()
    finally:
        nengo.rc.set("decoder_cache", "path", path)
        nengo.rc.set("decoder_cache", "enabled", "False")


def test_noise_in_training_is_pickled():
    """Dropout and noise go on, in fit and where the training phase is forced."""
    keras = pytest.importorskip("keras")
    with nengo.Network(seed=3) as net:
        nengo_dl.configure_settings(learning_phase=True)
        inp = nengo.Node([1.0, 1.0])
        out = nengo_dl.Layer(keras.layers.GaussianNoise(1.0))(inp)
        nengo.Probe(nengo_dl.Layer(keras.layers.Dense(1))(out), label="out")
    x, y = np.ones((4, 1, 2)), np.ones((4, 1, 1))

    def go_on(sim):
        sim.compile(keras.optimizers.SGD(0.0), loss="mse")
        losses = sim.fit(x, y, epochs=2, verbose=0).history["loss"]
        sim.run_steps(3)
        return losses, sim.data[sim.model.probes[0]][:, -3:].copy()

    with nengo_dl.Simulator(net, minibatch_size=4, progress_bar=False) as sim:
        before, _ = go_on(sim)
        pickled = pickle.dumps(sim)
        expected, data = go_on(sim)
    assert len({*before, *expected}) == 4
    with pickle.loads(pickled) as sim:
        losses, found = go_on(sim)
    assert losses == expected
    assert np.array_equal(found, data)
