"""What can be looked at is right, whether or not a probe depends on it."""

import pickle

import keras
import nengo
import numpy as np
import pytest
import scipy.sparse
from nengo.builder import Builder, Operator, Signal
from nengo.builder.learning_rules import SimPES
from nengo.builder.operator import Copy, Reset
from nengo.exceptions import ValidationError
from nengo.learning_rules import LearningRuleType

import nengo_dl
from nengo_dl.training.parameters import collect_parameters

STEPS = 30


class Decay(LearningRuleType):
    """A rule of one's own: weights decay; its operator runs as Python."""

    modifies = "weights"
    probeable = ()

    def __init__(self):
        super().__init__(0.01, size_in=0)


class SimDecay(Operator):
    """``weights *= 0.99``."""

    def __init__(self, weights):
        super().__init__()
        self.sets, self.incs, self.reads, self.updates = [], [], [], [weights]

    def make_step(self, signals, dt, rng):
        weights = signals[self.updates[0]]

        def step():
            weights[...] *= 0.99

        return step


@Builder.register(Decay)
def build_decay(model, decay, rule):
    """One operator, and nothing else."""
    weights = model.sig[rule.connection]["weights"]
    weights.readonly = False
    model.add_op(SimDecay(weights))
    model.params[rule] = {}


class Told(LearningRuleType):
    """A rule of one's own: decoders are what it is told, or the last change by PES."""

    modifies = "decoders"
    probeable = ()

    def __init__(self, whole):
        super().__init__(1.0, size_in="post")
        self.whole = whole


@Builder.register(Told)
def build_told(model, told, rule):
    """Native operators that write to the decoders, and nothing else."""
    conn = rule.connection
    weights = model.sig[conn]["weights"]
    weights.readonly = False
    model.sig[rule]["in"] = signal = Signal(np.zeros(rule.size_in), name="Told.in")
    model.add_op(Reset(signal))
    if told.whole:
        activities = model.sig[conn.pre_obj.neurons]["out"]
        model.add_op(SimPES(activities, signal, weights, told.learning_rate))
    else:
        model.add_op(Copy(signal, weights[:, 0]))
    model.params[rule] = {}


def zeros(x):
    """What decoders of zeros decode."""
    return np.zeros(2)


def network(**settings):
    """Every rule on a channel of its own, and a probe of something else."""
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(dtype="float64", **settings)
        net.inp = nengo.Node([0.5, -0.3])
        error = nengo.Node([0.2, 0.4])

        def population(n=6):
            ens = nengo.Ensemble(n, 2, neuron_type=nengo.LIFRate())
            nengo.Connection(net.inp, ens, synapse=None)
            return ens

        for rule in (nengo.PES(1e-3), nengo.RLS(1e-2), Told(True), Told(False)):
            out = nengo.Node(size_in=2)
            conn = nengo.Connection(
                population(), out, function=zeros, learning_rule_type=rule
            )
            nengo.Connection(error, conn.learning_rule, synapse=None)
        for rule in (nengo.BCM(1e-9), nengo.Oja(1e-6), Decay()):
            pre, post = population(), population()
            nengo.Connection(
                pre.neurons,
                post.neurons,
                transform=np.full((6, 6), 1e-3),
                learning_rule_type=rule,
            )
        nengo.Connection(population(), population(), learning_rule_type=nengo.Voja())
        net.probed = population()
        net.probe = nengo.Probe(net.probed)
    return net


def learned(sim):
    """The values of everything that a rule changes, by name."""
    values = {}
    for p in collect_parameters(sim.model):
        if p.learned:
            attr = "scaled_encoders" if p.attr == "encoders" else p.attr
            values[p.name] = getattr(sim.data[p.obj], attr)
    return values


def in_core(net, n_steps):
    """The same in core Nengo, whose ``sim.data`` has the values of the build."""
    with nengo.Simulator(net, progress_bar=False, optimize=False) as sim:
        for _ in range(n_steps):
            sim.step()
        return {
            p.name: sim.signals[p.signal].copy()
            for p in collect_parameters(sim.model)
            if p.learned
        }


def check(sim, n_steps):
    """Compare with core; everything must have been learned."""
    expected, found = in_core(sim.network, n_steps), learned(sim)
    assert len(expected) == 8 and expected.keys() == found.keys()
    with nengo_dl.Simulator(sim.network, progress_bar=False) as other:
        first = learned(other)
    for name, value in expected.items():
        assert not np.allclose(value, first[name], rtol=1e-9, atol=0), name
        np.testing.assert_allclose(found[name], value, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("jit", [False, True])
def test_what_is_learned_is_there_although_nothing_probed_depends_on_it(jit):
    with nengo_dl.Simulator(network(jit=jit), progress_bar=False) as sim:
        sim.run_steps(STEPS)
        check(sim, STEPS)
        sim.step()
        check(sim, STEPS + 1)
        sim.reset()
        sim.run_steps(3)
        check(sim, 3)
        again = pickle.loads(pickle.dumps(learned(sim)))
    assert learned(sim).keys() == again.keys()
    for name, value in learned(sim).items():  # also when it is closed
        assert np.array_equal(value, again[name])


def test_what_is_learned_is_saved_and_frozen_and_pickled(tmp_path):
    net = network(jit=False)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(STEPS)
        values = learned(sim)
        sim.save_params(tmp_path / "values")
        again = pickle.loads(pickle.dumps(sim))
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.load_params(tmp_path / "values")
        loaded = learned(sim)
        sim.freeze_params(net)
    frozen = in_core(net, 0)
    with again:
        for name, value in values.items():
            assert np.array_equal(loaded[name], value), name
            assert np.array_equal(learned(again)[name], value), name
            np.testing.assert_allclose(frozen[name], value, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("method", ["predict", "evaluate", "fit"])
@pytest.mark.parametrize("stateful", [False, True])
def test_calls_of_keras_learn_although_nothing_probed_depends_on_it(method, stateful):
    net, n = network(stateful=True), 7
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        x = {net.inp: np.broadcast_to([0.5, -0.3], (1, n, 2))}
        sim.compile("sgd", loss="mse")
        if method == "predict":
            sim.predict(x, stateful=stateful)
        else:
            call = getattr(sim, method)
            call(x, {net.probe: np.zeros((1, n, 2))}, stateful=stateful, verbose=0)
        assert sim.n_steps == (n if stateful else 0)
        check(sim, n)


def test_what_only_learning_depends_on_gets_no_gradient():
    net = network()
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        shapes = [tuple(v.shape) for v in sim.keras_model.trainable_weights]
    # biases and encoders of the ensemble that is probed
    assert sorted(shapes) == [(6,), (6, 2)]


def test_state_that_was_not_simulated_is_not_taken_for_real(tmp_path):
    """What is saved with state goes on as if nothing had been saved, or is refused."""

    def build(*attributes, transform=1.0, probe_a=True):
        with nengo.Network(seed=0) as net:
            nengo_dl.configure_settings(dtype="float64", jit=False)
            a, b = (nengo.Ensemble(5, 1, label=label) for label in "ab")
            nengo.Connection(nengo.Node([0.5]), a)
            nengo.Connection(a, b, transform=transform)
            net.other = nengo.Probe(a if probe_a else b.neurons, synapse=0.01)
            net.shown = [nengo.Probe(b.neurons, name) for name in attributes]
        return net

    def run(net, n_steps=30, **state):
        with nengo_dl.Simulator(net, progress_bar=False) as sim:
            if "load" in state:
                sim.load_params(tmp_path / state["load"], include_state=True)
            sim.run_steps(n_steps)
            if "save" in state:
                sim.save_params(tmp_path / state["save"], include_state=True)
            return {p: np.array(sim.data[p]) for p in net.shown + [net.other]}

    run(build(), save="without")
    net = build("voltage", "output")
    run(net, save="with")
    expected = run(net, 60)
    for probe, data in run(net, load="with").items():
        assert np.array_equal(data, expected[probe][30:])
    other = build()
    for path in ("without", "with"):  # what nothing depends on here makes no difference
        assert np.array_equal(
            run(other, load=path)[other.other], expected[net.other][30:]
        )
    for attribute in ("voltage", "output"):
        with pytest.raises(ValidationError, match="lacks the state of .*'b'.*voltage"):
            run(build(attribute), load="without")
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.load_params(tmp_path / "without")

    # decoders of 0 are no reason to refuse a file: they are in it, too
    zeros = build("voltage", transform=0.0, probe_a=False)
    run(zeros, save="zeros")
    found = run(build("voltage", probe_a=False), load="zeros")
    for x, y in zip(found.values(), run(zeros, 60).values(), strict=True):
        assert np.array_equal(x, y[30:])


def test_what_is_not_simulated_with_other_weights_is_not_asked_for(tmp_path, rng):
    """After a load, columns of a sparse matrix that are empty are left out."""
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(dtype="float64", jit=False)
        between, ens = nengo.Node(size_in=16), nengo.Ensemble(5, 2)
        weights = np.where(np.arange(16) % 5, rng.uniform(-1, 1, (2, 16)), 0)
        image = nengo.Node(size_in=9)
        nengo.Connection(nengo.Node(np.sin), image, transform=rng.uniform(-1, 1, (9, 1)))
        kernels = nengo.Convolution(4, (3, 3, 1), kernel_size=(2, 2))
        nengo.Connection(image, between, transform=kernels)
        sparse = nengo.Sparse((2, 16), init=scipy.sparse.csr_matrix(weights))
        nengo.Connection(between, ens, transform=sparse, synapse=None)
        probe = nengo.Probe(ens)
    path = tmp_path / "values"
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.save_params(path)
        with np.load(path.with_suffix(".npz")) as file:
            changed = {n: x / 2 if x.ndim == 2 else x for n, x in file.items()}
        np.savez(path, **changed)
        sim.load_params(path)
        sim.run_steps(STEPS)
        sim.save_params(path, include_state=True)
        sim.run_steps(STEPS)
        expected = sim.data[probe][STEPS:]
    with np.load(path.with_suffix(".npz")) as file:
        assert any(name.endswith(" idle") for name in file.files)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.load_params(path, include_state=True)
        sim.run_steps(STEPS)
        assert np.allclose(sim.data[probe], expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("jit", [False, True])
def test_what_a_rule_leaves_as_it_is_can_be_loaded_and_trained(jit, tmp_path):
    """It is no constant, although nothing in the network changes it."""
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(dtype="float64", jit=jit, trainable=False)
        net.inp = nengo.Node([0.5, -0.3])
        ens, out = nengo.Ensemble(6, 2, neuron_type=nengo.Tanh()), nengo.Node(size_in=2)
        nengo.Connection(net.inp, ens, synapse=None)
        conn = nengo.Connection(ens, out, learning_rule_type=Told(False), synapse=None)
        nengo.Connection(nengo.Node([1e-3, 2e-3]), conn.learning_rule, synapse=None)
        probe = nengo.Probe(out)
    net.config[conn].trainable = True
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.save_params(tmp_path / "values")
        with np.load(tmp_path / "values.npz") as file:
            values = {name: file[name] for name in file.files}
        (name,) = [name for name in values if values[name].shape == (2, 6)]
        values[name] = 2 * values[name]
        np.savez(tmp_path / "values", **values)
        sim.load_params(tmp_path / "values")
        sim.run_steps(3)
        weights = sim.data[conn].weights
        assert np.array_equal(weights[:, 0], [1e-3, 2e-3])
        assert np.array_equal(weights[:, 1:], values[name][:, 1:])
        built = sim.data[ens]
        x = (built.encoders @ [0.5, -0.3])[None]
        (rates,) = nengo.Tanh().rates(x, built.gain, built.bias)
        np.testing.assert_allclose(sim.data[probe][-1], weights @ rates, rtol=1e-9)
        sim.compile(keras.optimizers.SGD(1e-6), loss="mse")
        with pytest.warns(UserWarning, match="will be trained"):
            sim.fit(n_steps=3, y={probe: np.zeros((1, 3, 2))}, verbose=0)
        moved = sim.data[conn].weights - weights
        expected = -1e-6 * np.outer(sim.data[probe][-1], rates)  # of two outputs
        np.testing.assert_allclose(moved[:, 1:], expected[:, 1:], rtol=1e-5)
