"""Programs that fit another network of the same structure."""

from threading import Thread

import keras
import nengo
import numpy as np
import pytest
import tensorflow as tf

import nengo_dl
from nengo_dl.runtime.program import Specialization
from nengo_dl.runtime.tensorflow import executor, loop
from nengo_dl.runtime.tensorflow.loop import Programs, call_step, key_of
from nengo_dl.surrogates import ArcTan
from nengo_dl.training.model import NengoModel


def kept_in(programs, monkeypatch):
    """Let programs be kept there and nowhere else."""
    monkeypatch.setattr("nengo_dl.runtime.tensorflow.executor.programs", programs)
    monkeypatch.setattr("nengo_dl.training.variant.programs", programs)


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """No programs of other tests, and none left behind."""
    programs = Programs()
    kept_in(programs, monkeypatch)
    return programs


@pytest.fixture(scope="module")
def compiled():
    """The programs that are there after the network has run."""
    programs = Programs()
    with pytest.MonkeyPatch.context() as patch:
        kept_in(programs, patch)
        run(network())
    assert len(programs) == 1
    return programs


def network(seed=0, neurons=20, tau=0.01, tau_rc=0.02, function=None, **settings):
    with nengo.Network(seed=seed) as net:
        nengo_dl.configure_settings(jit=True, **settings)
        stimulus = nengo.Node([0.5] if function is None else function)
        net.config[nengo.Ensemble].neuron_type = nengo.LIF(tau_rc=tau_rc)
        a, b = nengo.Ensemble(neurons, 1), nengo.Ensemble(neurons + 3, 2)
        nengo.Connection(stimulus, a)
        nengo.Connection(a, b[1], transform=2, synapse=tau)
        net.p = nengo.Probe(b, synapse=0.02)
    return net


def run(net, steps=20, **kwargs):
    with nengo_dl.Simulator(net, progress_bar=False, **kwargs) as sim:
        sim.run_steps(steps)
        return sim.data[net.p]


def in_training(net, surrogate=None, tensor_node=False, batch=2, **kwargs):
    """A simulator that is ready to train a network."""
    with net:
        if surrogate is not None:
            nengo_dl.configure_settings(surrogate=surrogate)
        if tensor_node:
            ensemble = net.ensembles[1]
            nengo.Connection(nengo_dl.Layer(tf.tanh)(ensemble), ensemble)
    sim = nengo_dl.Simulator(net, minibatch_size=batch, progress_bar=False, **kwargs)
    sim.compile(keras.optimizers.SGD(1e-5), loss="mse")
    return sim


def loop_of(sim):
    """The loop that it is trained in, not traced before it is needed."""
    (link,) = sim.tensor_graph.variant(True).links
    return link.scan(sim.tensor_graph.trained_weights(link))


def trained(net, **kwargs):
    """The losses of a network in training, and the loop that it was trained in."""
    with in_training(net, **kwargs) as sim:
        size = 3 * sim.minibatch_size * 4 * 2
        targets = np.linspace(-1, 1, size).reshape(-1, 4, 2)
        options = {"epochs": 3, "shuffle": False, "verbose": 0}
        history = sim.fit(n_steps=4, y=targets, **options).history
        return history["loss"], loop_of(sim)


def key(net):
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        return key_of(sim._live.program.layout(Specialization()))


def test_another_seed_runs_the_same_program(fresh, allclose):
    for seed in range(3):
        net = network(seed, dtype="float64")
        ours = run(net)
        with nengo.Simulator(net, progress_bar=False) as core:
            core.run_steps(20)
        assert allclose(ours, core.data[net.p], atol=1e-12)
    assert len(fresh) == 1
    (program,) = fresh._programs.values()
    assert len(program._traced) == 1


@pytest.mark.parametrize(
    "other",
    (
        {"neurons": 21},
        {"tau_rc": 0.03},
        {"tau": None},
        {"dtype": "float64"},
        {"unroll": 2},
        {"batch": 2},
    ),
    ids=str,
)
def test_another_structure_is_another_program(other, fresh, compiled, monkeypatch):
    # where there is a GPU, batches would be measured in two programs
    monkeypatch.setattr(executor, "on_accelerator", lambda device: False)
    other = dict(other)
    unroll, batch = other.pop("unroll", 1), other.pop("batch", None)
    fresh._programs.update(compiled._programs)
    run(network(**other), unroll_simulation=unroll, minibatch_size=batch)
    assert len(fresh) == 2


def test_numbers_in_the_program_are_in_the_key():
    assert key(network()) == key(network(seed=3)) == key(network(tau=0.02))
    assert key(network()) != key(network(tau_rc=0.03))


def test_python_functions_are_never_shared():
    with nengo.Network() as net:
        a, b = nengo.Node(size_in=1), nengo.Ensemble(10, 1)
        c = nengo.Node(lambda t, x: -x, size_in=1)
        nengo.Connection(a, b)
        nengo.Connection(b, c)
        nengo.Connection(c, b)
        net.p = nengo.Probe(b)
    assert key(net) is None


def test_functions_of_time_do_not_matter(fresh):
    first = run(network(function=lambda t: np.sin(100 * t)))
    second = run(network(function=lambda t: np.cos(100 * t)))
    assert len(fresh) == 1 and not np.allclose(first, second)


def test_training_shares_the_loop(fresh, allclose):
    """Also where the weights are others, and results are as if it did not."""
    expected, alone = trained(network(1))
    fresh.clear()
    shared = [trained(network(seed)) for seed in (0, 1)]
    assert shared[0][1] is shared[1][1] is not alone
    assert allclose(shared[1][0], expected, rtol=1e-5)
    for losses, _ in shared:
        assert len(set(losses)) == 3  # it learns
    assert shared[0][0] != shared[1][0]
    assert len(fresh) == 1  # none for tests, which nobody asked for


SPIKES = {"spiking_training": True}


@pytest.mark.parametrize(
    "one, other",
    (
        ({}, {"neurons": 21}),
        ({}, {"checkpoint": 2}),
        ({}, {"truncate": 2}),
        ({}, {"use_loop": False}),
        ({}, {"dtype": "float64"}),
        ({}, {"batch": 3}),
        ({}, SPIKES),
        (SPIKES, {"surrogate": ArcTan(), **SPIKES}),
        ({"surrogate": ArcTan(), **SPIKES}, {"surrogate": ArcTan(3.0), **SPIKES}),
    ),
    ids=str,
)
def test_what_is_trained_in_another_way_has_a_loop_of_its_own(one, other):
    loops = []
    for settings in (one, other):
        settings = dict(settings)
        options = {n: settings.pop(n) for n in ("surrogate", "batch") if n in settings}
        with in_training(network(**settings), unroll_simulation=4, **options) as sim:
            loops.append(loop_of(sim))
    assert loops[0] is not loops[1]


def test_networks_with_tensor_nodes_share_nothing(fresh):
    _, first = trained(network(), tensor_node=True)
    with in_training(network(), tensor_node=True) as sim:
        assert loop_of(sim) is not first and len(fresh) == 0


def test_what_is_equal_in_python_may_differ_here():
    values = (True, 1, 1.0, np.float32(1), 0.0, -0.0, "1", (1,), None)
    keys = [loop._key(value) for value in values]
    assert len(set(keys)) == len(values)
    arrays = (np.zeros(2), np.zeros((2, 1)), np.zeros(2, np.float32), np.ones(2))
    assert len({loop._key(array) for array in arrays}) == len(arrays)
    assert loop._key({"a": 1, "b": 2}) == loop._key({"b": 2, "a": 1})


def test_what_has_no_key():
    with pytest.raises(loop.Unique):
        loop._key(np.array([object()]))
    with pytest.raises(loop.Unique):
        loop._key({"a": set()})


def test_the_last_programs_are_kept():
    programs, made = Programs(size=2), []

    def make(name):
        made.append(name)
        return name

    for name in ("a", "b", "a", "c", "a", "b"):
        assert programs.get(name, lambda name=name: make(name)) == name
    assert made == ["a", "b", "c", "b"]
    assert len(programs) == 2
    assert programs.get(None, lambda: make("once")) == "once" and len(programs) == 2
    programs.clear()
    assert len(programs) == 0


def test_kept_programs_hold_no_arrays_of_the_network():
    with nengo_dl.Simulator(network(), progress_bar=False) as sim:
        layout = sim._live.program.layout(Specialization())
    bare = loop.without_numbers(layout)
    assert bare.plan is None and bare.weights == () and bare.states == ()
    assert not any(values.any() for values in bare.carry)
    assert bare.n_inputs == layout.n_inputs and bare.has_loop == layout.has_loop


def test_one_program_in_two_threads(fresh, allclose):
    nets = [network(seed) for seed in (0, 1)]
    alone = [run(net, 50) for net in nets]
    fresh.clear()
    found = [None, None]

    def work(i):
        found[i] = run(nets[i], 50)

    threads = [Thread(target=work, args=(i,)) for i in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(fresh) == 1
    for i in (0, 1):
        assert allclose(found[i], alone[i])


def fitted(sim):
    """One training step with an optimizer of its own."""
    sim.compile(keras.optimizers.Adam(1e-4), loss="mse")
    sim.fit(n_steps=4, y=np.zeros((2, 4, 2)), verbose=0)


@pytest.fixture
def steps_traced(monkeypatch):
    """What is counted up whenever a step of a loop in training is traced."""
    counted = []

    def call(*args):
        counted.append(1)
        return call_step(*args)

    monkeypatch.setattr("nengo_dl.runtime.tensorflow.scan.call_step", call)
    return counted


def test_training_again_traces_no_loop_and_one_training_step(steps_traced):
    settings = {"minibatch_size": 2, "progress_bar": False}
    calls, first = [], None
    train_step = NengoModel.train_step

    def step(self, data):
        calls.append(1)
        return train_step(self, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NengoModel, "train_step", step)
        for net in (network(), network()):
            with nengo_dl.Simulator(net, **settings) as sim:
                for _ in range(2):
                    fitted(sim)
                    first = first or len(steps_traced)
    assert first == len(steps_traced) > 0
    assert len(calls) == 4  # once for each compiling
