"""What is saved with its state goes on as it would have, random numbers too."""

import io
import json
import pickle
import warnings

import nengo
import numpy as np
import pytest
from nengo.exceptions import ValidationError

import nengo_dl
from tests.simulator.samples import make
from tests.simulator.test_pickling import Leaky, Noise, NoisyFilter


class Queue(nengo.Process):
    """Keeps more than arrays: a list, a count, nothing yet, a generator of its own."""

    def make_state(self, shape_in, shape_out, dt, dtype=None):
        return {}

    def make_step(self, shape_in, shape_out, dt, rng, state):
        state.update(seen=[], n=0, last=None, own=np.random.default_rng(rng.randint(99)))

        def step(t):
            state["n"] += 1
            state["seen"].append(state["own"].uniform())
            last, state["last"] = state["last"], np.array(state["seen"][-3:])
            return np.sum(state["seen"]) + (0 if last is None else last[0])

        return step


class Opened(nengo.Process):
    """Keeps what no file can hold."""

    def make_state(self, shape_in, shape_out, dt, dtype=None):
        return {}

    def make_step(self, shape_in, shape_out, dt, rng, state):
        state["source"] = iter(range(100))
        return lambda t: next(state["source"])


def noise(jit="auto"):
    """Everything that draws random numbers, or keeps something in Python."""
    with nengo.Network(seed=1) as net:
        nengo_dl.configure_settings(jit=jit)
        nodes = [
            nengo.Node(nengo.processes.WhiteNoise(seed=3)),
            nengo.Node(nengo.processes.FilteredNoise(nengo.Alpha(0.01))),
            nengo.Node(nengo.processes.WhiteSignal(0.1, 30)),
            nengo.Node(nengo.processes.BrownNoise()),
            nengo.Node(Noise(), size_out=1),
            nengo.Node(Queue(), size_out=1),
        ]
        noisy = nengo.Ensemble(5, 1, noise=nengo.processes.WhiteNoise(), label="noisy")
        types = (
            nengo.PoissonSpiking(nengo.LIFRate()),
            nengo.StochasticSpiking(nengo.Tanh()),
            Leaky(),
        )
        flat = {"gain": np.full(4, 2.0), "bias": np.ones(4)}
        random = [nengo.Ensemble(4, 1, neuron_type=kind, **flat) for kind in types]
        for node in nodes:
            nengo.Connection(node, noisy, synapse=0.005)
            nengo.Probe(node)
        for ens in random:
            nengo.Connection(nodes[0], ens, synapse=NoisyFilter())
            nengo.Probe(ens.neurons)
        nengo.Probe(noisy.neurons)
    return net


def going_on(net, options, steps=3, **other):
    """Probe data of a simulator, and of one that was given its state."""
    memory = io.BytesIO()
    with nengo_dl.Simulator(net, **options) as sim:
        sim.run_steps(steps)
        sim.save_params(memory, include_state=True)
        sim.clear_probes()
        sim.run_steps(steps)
        expected = [sim.data[probe] for probe in net.all_probes]
    memory.seek(0)
    with nengo_dl.Simulator(net, **{**options, "seed": 99, **other}) as sim:
        sim.run_steps(2)  # it need not be a fresh one
        sim.clear_probes()
        sim.load_params(memory, include_state=True)
        assert sim.n_steps == steps
        sim.run_steps(steps)
        found = [sim.data[probe] for probe in net.all_probes]
        assert np.array_equal(sim.trange(), sim.dt * np.arange(steps + 1, 2 * steps + 1))
        assert len(found[0]) == len(sim.trange()) or options.get("minibatch_size")
    return found, expected


@pytest.mark.filterwarnings("ignore:NengoDL knows no native form")
@pytest.mark.parametrize("minibatch_size", (None, 3))
def test_random_numbers_and_processes_go_on(minibatch_size):
    options = {**make.OPTIONS, "minibatch_size": minibatch_size}
    found, expected = going_on(noise(), options)
    for x, y in zip(found, expected, strict=True):
        assert np.array_equal(x, y)
    assert all(np.std(x) > 0 for x in expected)


@pytest.mark.parametrize("jit", (True, False))
def test_random_numbers_go_on_where_steps_are_compiled(jit):
    net = make.structure("float32")
    with net:
        nengo_dl.configure_settings(jit=jit)
    found, expected = going_on(net, make.OPTIONS, steps=20)
    for x, y in zip(found, expected, strict=True):
        assert np.array_equal(x, y)


def test_noise_of_the_manual():
    """The same numbers as in one run of six steps, which are those of core."""
    with nengo.Network() as net:
        probe = nengo.Probe(nengo.Node(nengo.processes.WhiteNoise(seed=0)))
    with nengo.Simulator(net, progress_bar=False) as ref:
        ref.run_steps(6)
    found, _ = going_on(net, make.OPTIONS)
    assert np.allclose(found[0], ref.data[probe][3:])


def test_states_of_keras_layers_go_on():
    import keras

    keras.utils.set_random_seed(0)
    with nengo.Network(seed=0) as net:
        inp = nengo.Node(nengo.processes.WhiteSignal(0.1, 30, seed=1))
        gru = keras.layers.GRU(3, stateful=True)
        gru.build((2, 1, 1))
        node = nengo_dl.TensorNode(gru, shape_in=(1, 1), pass_time=False)
        nengo.Connection(inp, node, synapse=None)
        nengo.Probe(node)
    found, expected = going_on(net, {**make.OPTIONS, "minibatch_size": 2}, steps=5)
    assert np.array_equal(found[0], expected[0])
    assert np.abs(expected[0]).max() > 0


def test_a_file_holds_no_pickles_but_numbers(tmp_path):
    with nengo_dl.Simulator(make.portable("float32"), **make.OPTIONS) as sim:
        sim.run_steps(3)
        sim.save_params(tmp_path / "x", include_state=True)
    with np.load(tmp_path / "x.npz", allow_pickle=False) as file:
        assert all(file[name].dtype.kind in "fiu" for name in file.files)
        names = [name for name in file.files if name.startswith("state processes")]
        assert "state processes uint32" in names
        json.loads(file["state processes"].tobytes())
    assert (tmp_path / "x.npz").stat().st_size < 20_000


def test_what_cannot_be_saved_is_refused_by_name(tmp_path):
    with nengo.Network() as net:
        nengo.Probe(nengo.Node(Opened(), size_out=1))
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(1)
        sim.save_params(tmp_path / "x")
        with pytest.raises(ValidationError, match="Opened.*range_iterator.*'source'"):
            sim.save_params(tmp_path / "y", include_state=True)
        assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]


@pytest.fixture
def saved(tmp_path):
    """A file with noise, and the network."""
    net = make.portable("float32")
    with nengo_dl.Simulator(net, **make.OPTIONS) as sim:
        sim.run_steps(3)
        sim.save_params(tmp_path / "x", include_state=True)
    with np.load(tmp_path / "x.npz") as file:
        return net, dict(file)


def text(values):
    return values["state processes"].tobytes().decode()


def with_text(values, new):
    return {**values, "state processes": np.frombuffer(new.encode(), np.uint8)}


def changed_files(values):
    yield with_text(values, "{}"), "more numbers than places"
    seed = '["dict",[["seed",6]'
    assert seed.replace("6", str(make.OPTIONS["seed"])) in text(values)
    yield with_text(values, "[" * 100_000), "cannot be read"
    yield with_text(values, '["_class__", []]'), "nothing called"
    yield with_text(values, text(values).replace("MT19937", "MT19938")), "taken over|read"
    yield with_text(values, text(values).replace("[624]", "[623]", 1)), "fit|places"
    yield with_text(values, text(values).replace("uint32", "uint31")), "cannot be read"
    few = {**values, "state processes uint32": values["state processes uint32"][:-1]}
    yield few, "cannot be read"
    bad = {**values, "state processes uint32": values["state processes float64"]}
    yield bad, "another type"
    without = {k: v for k, v in values.items() if k != "state processes"}
    yield without, "cannot be read|state processes"
    flat = {**values, "state processes": values["state processes"][None]}
    yield flat, "too large"


def test_files_that_were_changed_change_nothing(saved):
    net, values = saved
    with nengo_dl.Simulator(net, **make.OPTIONS) as sim:
        sim.run_steps(4)
        before = pickle.dumps(sim)
        count = 0
        for changed, match in changed_files(values):
            memory = io.BytesIO()
            np.savez(memory, **changed)
            memory.seek(0)
            with pytest.raises(ValidationError, match=match):
                sim.load_params(memory, include_state=True)
                pytest.fail(match)
            count += 1
        assert count > 8
        other = pickle.loads(before)
        with other:
            sim.run_steps(4)
            other.run_steps(4)
            for a, b in zip(sim.model.probes, other.model.probes, strict=True):
                assert np.array_equal(sim.data[a], other.data[b])


def test_state_of_another_network_is_named(saved, tmp_path):
    net, _ = saved
    with net:
        nengo.Probe(nengo.Node(nengo.processes.WhiteNoise(), label="new"))
    with nengo_dl.Simulator(net, **make.OPTIONS) as sim:
        with pytest.raises(ValidationError, match="WhiteNoise.*missing|not in this") as e:
            sim.load_params(tmp_path / "x", include_state=True)
        assert "without include_state" in str(e.value)


# times -----------------------------------------------------------------------------


@pytest.mark.parametrize("minibatch_size", (None, 2))
def test_there_is_a_time_for_all_data_that_there_are(minibatch_size, tmp_path):
    with nengo.Network() as net:
        node = nengo.Node(lambda t: t)
        probe, sampled = nengo.Probe(node), nengo.Probe(node, sample_every=0.002)
    with nengo_dl.Simulator(
        net, minibatch_size=minibatch_size, progress_bar=False
    ) as sim:

        def times():
            for p, period in ((probe, None), (sampled, 0.002)):
                data = sim.data[p] if minibatch_size is None else sim.data[p][0]
                found = sim.trange(sample_every=period)
                assert np.allclose(found, data[:, 0])
            return np.rint(sim.trange() / sim.dt).astype(int).tolist()

        sim.run_steps(5)
        assert times() == [1, 2, 3, 4, 5]
        sim.save_params(tmp_path / "x", include_state=True)
        sim.clear_probes()
        assert times() == []
        sim.step()
        sim.run_steps(2)
        assert times() == [6, 7, 8]
        sim.reset(include_probes=False)
        sim.run_steps(2)
        assert times() == [6, 7, 8, 1, 2]
        sim.load_params(tmp_path / "x", include_state=True)
        sim.run_steps(1)
        assert times() == [6, 7, 8, 1, 2, 6]
        sim.run_steps(2, stateful=False)
        sim.run_steps(1)
        assert times() == [6, 7, 8, 1, 2, 6, 7, 8, 7]
        sim.reset()
        assert times() == []
        sim.run_steps(1)
        assert times() == [1]


def test_times_grow_with_data_where_nothing_is_carried():
    with nengo.Network() as net:
        nengo_dl.configure_settings(stateful=False)
        probe = nengo.Probe(nengo.Node(lambda t: t))
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        for _ in range(2):
            sim.run_steps(3)
            sim.step()
        assert sim.n_steps == 0
        assert np.allclose(sim.trange(), sim.data[probe][:, 0])


def test_times_are_pickled():
    with nengo_dl.Simulator(make.portable("float32"), **make.OPTIONS) as sim:
        sim.run_steps(5)
        sim.clear_probes()
        sim.run_steps(2)
        with pickle.loads(pickle.dumps(sim)) as other:
            other.run_steps(1)
            sim.run_steps(1)
            assert np.array_equal(other.trange(), [0.006, 0.007, 0.008])
            assert np.array_equal(other.trange(), sim.trange())


# what is kept where no file can hold it ----------------------------------------------


class Hidden(nengo.Process):
    """Counts in a variable of its step function."""

    def make_step(self, shape_in, shape_out, dt, rng, state):
        count, unchanged = 0, np.ones(3)

        def step(t, x=None):
            nonlocal count
            count += 1
            return count * unchanged[0]

        return step


@pytest.mark.filterwarnings("ignore:NengoDL knows no native form")
@pytest.mark.parametrize("size_in", (0, 1))
def test_state_in_variables_of_step_functions_is_refused(size_in, tmp_path):
    with nengo.Network() as net:
        nengo.Probe(nengo.Node(Hidden(), size_in=size_in, size_out=1))
    with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
        sim.save_params(tmp_path / "begin", include_state=True)  # nothing has changed
        sim.run_steps(2)
        with pytest.raises(ValidationError, match="Hidden.*keeps 'count'.*make_state"):
            sim.save_params(tmp_path / "x", include_state=True)
        assert not (tmp_path / "x.npz").exists()
        sim.save_params(tmp_path / "x")
        sim.load_params(tmp_path / "begin", include_state=True)
        sim.save_params(tmp_path / "again", include_state=True)
        sim.run_steps(1)
        with pytest.raises(ValidationError, match="keeps 'count'"):
            sim.save_params(tmp_path / "y", include_state=True)
        sim.reset()
        sim.save_params(tmp_path / "y", include_state=True)


def test_what_functions_of_nodes_change_is_named(tmp_path):
    log, constant = [], np.ones(3)
    with nengo.Network() as net:
        quiet = nengo.Node(lambda t: t + constant[0], label="quiet")
        loud = nengo.Node(lambda t, x: log.append(x.copy()), size_in=1, label="loud")
        nengo.Connection(quiet, loud)
        nengo.Probe(quiet)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            sim.save_params(tmp_path / "x", include_state=True)
        sim.run_steps(2)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            sim.save_params(tmp_path / "x", include_state=True)
        (text,) = (str(w.message) for w in caught)
        assert "can reach 'log', which changed" in text
        assert "nengo.Process" in text
        sim.load_params(tmp_path / "x", include_state=True)


# interruptions -------------------------------------------------------------------------


class Fails:
    """A function that can be pickled and fails in step 100, once it is told to."""

    def __init__(self):
        self.at = 0.1

    def __call__(self, t, x):
        if abs(t - self.at) < 1e-9:
            self.at = -1.0  # not again
            raise KeyboardInterrupt
        return x


def through_a_file(sim):
    memory = io.BytesIO()
    sim.save_params(memory, include_state=True)
    memory.seek(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the function is changed, and says so
        other = nengo_dl.Simulator(sim.network, seed=9, progress_bar=False)
    other.load_params(memory, include_state=True)
    return other


def through_a_pickle(sim):
    return pickle.loads(pickle.dumps(sim))


def after_a_call_that_leaves_no_trace(sim):
    other = through_a_file(sim)
    other.run_steps(3, stateful=False)
    return other


def with_other_parameters(sim):
    """Which is another program: what waited in one goes on in the other."""
    memory, changed = io.BytesIO(), io.BytesIO()
    sim.save_params(memory)
    memory.seek(0)
    with np.load(memory) as file:
        np.savez(changed, **{name: 1.01 * file[name] for name in file.files})
    changed.seek(0)
    sim.load_params(changed)
    return sim


@pytest.mark.filterwarnings("ignore:Simulator.save_params.*can reach")
@pytest.mark.parametrize("jit", (False, True))
@pytest.mark.parametrize(
    "onwards",
    (
        through_a_file,
        through_a_pickle,
        after_a_call_that_leaves_no_trace,
        with_other_parameters,
    ),
)
def test_no_random_numbers_are_lost_by_an_interruption(onwards, jit):
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(jit=jit)
        noise, fails = nengo.Node(nengo.processes.WhiteNoise()), Fails()
        node = nengo.Node(fails, size_in=1)
        nengo.Connection(noise, node, synapse=None)
        nengo.Probe(node)
        nengo.Probe(nengo.Ensemble(3, 1))
    fails.at = -1.0
    with nengo.Simulator(net, seed=3, progress_bar=False) as ref:
        ref.run_steps(110)
        expected = ref.data[net.probes[0]]
    fails.at = 0.1
    with nengo_dl.Simulator(net, seed=3, progress_bar=False) as sim:
        with pytest.raises(KeyboardInterrupt):
            sim.run_steps(200)
        assert sim.n_steps == 99
        other = onwards(sim)
        other.clear_probes()
        other.run_steps(11)
        found = other.data[other.network.probes[0]]
        assert np.allclose(found, expected[99:], atol=1e-4)
        if other is not sim:
            other.close()


@pytest.mark.filterwarnings("ignore:Simulator.fit. there is nothing to train")
def test_random_numbers_of_training_go_on(tmp_path):
    """Dropout in a fit after loading draws what it would have drawn."""
    import keras

    def trained(sim):
        sim.compile(optimizer=keras.optimizers.SGD(0.0), loss="mse")
        data = np.ones((2, 1, 8)), np.zeros((2, 1, 8))
        history = sim.fit(*data, epochs=3, shuffle=False, verbose=0).history["loss"]
        return np.array(history)

    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(stateful=False)
        inp = nengo.Node(np.ones(8))
        nengo.Probe(nengo_dl.Layer(keras.layers.Dropout(0.5))(inp))
    options = {"minibatch_size": 2, "progress_bar": False, "seed": 3}
    with nengo_dl.Simulator(net, **options) as sim:
        first = trained(sim)
        sim.save_params(tmp_path / "state", include_state=True)
        expected = trained(sim)
    assert not np.array_equal(first, expected)
    with nengo_dl.Simulator(net, **options) as sim:
        sim.load_params(tmp_path / "state", include_state=True)
        assert np.array_equal(trained(sim), expected)
        sim.load_params(tmp_path / "state", include_state=True)
        assert np.array_equal(trained(sim), expected)
        sim.reset()
        assert np.array_equal(trained(sim), first)
