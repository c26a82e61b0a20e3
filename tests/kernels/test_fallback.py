"""Operators and neuron types without a rule run as Python, as core Nengo runs them."""

import warnings

import nengo
import numpy as np
import pytest
from nengo.builder.operator import Copy, DotInc, Operator, Reset
from nengo.builder.signal import Signal
from nengo.exceptions import BuildError

import nengo_dl
from nengo_dl import notices
from tests import networks
from tests.kernels import own_operators as own
from tests.kernels.own_operators import Own, core, silence, simulate, vector


@pytest.fixture
def machine(monkeypatch):
    """``machine(factory)`` is a node that is made of any operators."""
    return own.machine_maker(monkeypatch)


# -- operators -------------------------------------------------------------------------


@pytest.mark.parametrize("factory", own.FACTORIES, ids=lambda f: f.__name__)
def test_operators_run_as_in_core(machine, allclose, factory):
    """Alone and in feedback, and each batch item as a simulator of its own."""
    net = own.network_of(machine, factory)
    with silence():
        expected = [simulate(core(net, seed=seed)) for seed in (7, 8)]
        with nengo_dl.Simulator(net, progress_bar=False, seed=7) as sim:
            alone = simulate(sim)
            sim.reset(seed=7)
            again = simulate(sim)
        with nengo_dl.Simulator(net, progress_bar=False, seed=7, minibatch_size=2) as sim:
            both = simulate(sim)
    for i in range(2):
        assert np.ptp(expected[0][i]) > 0.1
        assert allclose(alone[i], expected[0][i], rtol=1e-12, atol=1e-12)
        assert np.array_equal(alone[i], again[i])
        for item in range(2):
            assert allclose(both[i][item], expected[item][i], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "factory", (own.sets_some, own.updates, own.tells_the_time, own.counts_whole)
)
def test_single_precision(machine, allclose, factory):
    net = own.network_of(machine, factory, dtype="float32")
    with silence():
        expected = simulate(core(net))
        with nengo_dl.Simulator(net, progress_bar=False) as sim:
            found = simulate(sim)
    for one, other in zip(found, expected, strict=True):
        assert allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("factory", (own.sets_and_looks, own.keeps_state, own.draws))
def test_steps_one_by_one_and_through_keras(machine, allclose, factory):
    """All ways of running give the same."""
    net = own.network_of(machine, factory)
    with silence(), nengo_dl.Simulator(net, progress_bar=False, seed=3) as sim:
        expected = simulate(sim, 8)
        sim.reset(seed=3)
        for _ in range(8):
            sim.step()
        single = [sim.data[p] for p in sim.model.probes]
        sim.reset(seed=3)
        predicted = sim.predict(n_steps=8, verbose=0)
    for probe, one, other in zip(sim.model.probes, expected, single, strict=True):
        assert np.array_equal(one, other)
        assert allclose(predicted[probe][0], one, atol=1e-12)


def test_items_are_independent(machine):
    """Attributes of an operator and generators that it holds are one for each item."""

    class Counts(Own):
        n_calls = 0

        def make_step(self, signals, dt, rng):
            y = signals[self.sets[0]]

            def step():
                self.n_calls += 1
                y[...] = self.n_calls, self.generator.uniform(), 0

            return step

    def factory(model, x, y):
        op = Counts(None, [x], [y])
        op.generator = np.random.RandomState(5)
        return [op]

    net = own.network_of(machine, factory)
    with silence():
        with nengo_dl.Simulator(net, progress_bar=False, minibatch_size=3) as sim:
            first, _ = simulate(sim, 5)
            sim.reset()
            second, _ = simulate(sim, 5)
        reference, _ = simulate(core(net), 5)
    assert np.array_equal(first, second)
    assert np.array_equal(first[:, :, 0], np.tile(np.arange(1, 6), (3, 1)))
    assert np.array_equal(first[0], reference)
    assert len(np.unique(first[:, 0, 1])) == 3


def test_order_of_side_effects(machine):
    """An operator and a node that share an object are called in core's order."""
    log = []

    def factory(model, x, y):
        def make(dt, rng, x, y):
            def step():
                y[...] = len(log)
                log.append("operator")

            return step

        return [Own(make, [x], [y])]

    with nengo.Network() as net:
        node = machine(factory)
        other = nengo.Node(lambda t: log.append("node") or len(log))
        nengo.Connection(other, node[0], synapse=None)
        nengo.Probe(node)
    log.clear()
    with silence():
        expected = simulate(core(net), 6)
        called, log[:] = list(log), []
        with nengo_dl.Simulator(net, progress_bar=False) as sim:
            assert np.array_equal(simulate(sim, 6), expected)
    assert log == called == ["node", "operator"] * 6


def test_without_outputs(machine):
    """Operators that only have side effects run, once a step."""
    seen = []

    def factory(model, x, y):
        def make(dt, rng, x):
            return lambda: seen.append(x.copy())

        return [Reset(y), Own(make, [x])]

    net = own.network_of(machine, factory)
    with silence():
        simulate(core(net), 6)
        called, seen[:] = np.array(seen), []
        with nengo_dl.Simulator(net, progress_bar=False) as sim:
            simulate(sim, 6)
    assert np.array_equal(seen, called)


def test_nodes_that_are_given_data(machine, allclose):
    """The data takes the place of what an operator of a node would set."""

    def factory(model, x, y):
        def make(dt, rng, time, y):
            count = []

            def step():
                count.append(1)
                y[...] = len(count), time, rng.uniform()

            return step

        return [Own(make, [model.time], [y])]

    with nengo.Network() as net:
        nengo_dl.configure_settings(dtype="float64")
        node = machine(factory, size_in=0)
        out = nengo.Node(size_in=3)
        nengo.Connection(node, out, transform=2, synapse=None)
        probe = nengo.Probe(out)
    data = np.random.RandomState(0).uniform(size=(1, 5, 3))
    with silence(), nengo_dl.Simulator(net, progress_bar=False, seed=1) as sim:
        (expected,) = simulate(core(net, seed=1), 5)
        assert allclose(simulate(sim, 5)[0], expected, atol=1e-12)
        sim.reset()
        sim.run_steps(5, data={node: data})
        assert allclose(sim.data[probe], 2 * data[0])
        sim.reset()
        assert allclose(sim.predict({node: data}, verbose=0)[probe], 2 * data)
        assert allclose(sim.predict(n_steps=5, verbose=0)[probe][0], expected)


def fails_at(step_number):
    def factory(model, x, y):
        def make(dt, rng, x, y):
            calls = []

            def step():
                calls.append(1)
                if len(calls) > step_number:
                    raise KeyError("my error")
                y[...] = x

            return step

        return [Own(make, [x], [y])]

    return factory


def test_errors_come_out_as_they_are(machine):
    net = own.network_of(machine, fails_at(5))
    with silence(), nengo_dl.Simulator(net, progress_bar=False) as sim:
        with pytest.raises(KeyError, match="my error"):
            sim.run_steps(own.N_STEPS)
        assert sim.n_steps == 5
        sim.reset()
        sim.run_steps(5)


def test_invalid_operations_raise_as_in_core(machine):
    def factory(model, x, y):
        def make(dt, rng, x, y):
            def step():
                y[...] = np.sqrt(x - 10)

            return step

        return [Own(make, [x], [y])]

    net = own.network_of(machine, factory)
    with silence(), pytest.raises(FloatingPointError):
        core(net).run_steps(3)
    with silence(), nengo_dl.Simulator(net, progress_bar=False) as sim:
        with pytest.raises(FloatingPointError):
            sim.run_steps(3)


def test_subclasses_with_a_step_of_their_own(machine, allclose):
    """They are not taken for their base class, which is native."""

    class Twice(DotInc):
        def make_step(self, signals, dt, rng):
            a, x, y = (signals[s] for s in (self.A, self.X, self.Y))

            def step():
                y[...] += 2 * a.dot(x)

            return step

    def factory(model, x, y):
        matrix = Signal(np.arange(9.0).reshape(3, 3), name="matrix", readonly=True)
        return [Reset(y), Twice(matrix, x, y)]

    net = own.network_of(machine, factory, feedback=False)
    expected = simulate(core(net))
    with pytest.warns(UserWarning, match="no native form of the operator Twice"):
        sim = nengo_dl.Simulator(net, progress_bar=False)
    with sim:
        assert allclose(simulate(sim)[1], expected[1], atol=1e-12)


def test_parameters_may_change(machine, allclose, tmp_path):
    """What an operator reads of the network's parameters is their present value."""

    def factory(model, x, y):
        (ens,) = [obj for obj in model.params if isinstance(obj, nengo.Ensemble)]
        bias = model.sig[ens.neurons]["bias"]

        def make(dt, rng, x, bias, y):
            def step():
                y[...] = x + bias[:3]

            return step

        return [Own(make, [x, bias], [y])]

    with nengo.Network(seed=1) as net:
        nengo_dl.configure_settings(dtype="float64")
        ens = nengo.Ensemble(10, 1)
        node = machine(factory)
        probe = nengo.Probe(node)
    with silence(), nengo_dl.Simulator(net, progress_bar=False) as sim:
        first = np.array(sim.data[ens].bias)
        sim.run_steps(2)
        assert allclose(sim.data[probe], [first[:3]] * 2)
        sim.save_params(tmp_path / "params")
        stored = dict(np.load(tmp_path / "params.npz"))
        (name,) = [n for n in stored if "bias" in n and stored[n].shape == (10,)]
        stored[name] = stored[name] + 1
        np.savez(tmp_path / "changed", **stored)
        sim.load_params(tmp_path / "changed")
        sim.run_steps(2)
        assert allclose(sim.data[probe][2:], [first[:3] + 1] * 2)
        sim.reset()
        sim.run_steps(2)
        assert allclose(sim.data[probe], [first[:3]] * 2)


# -- messages --------------------------------------------------------------------------


def test_one_warning_for_each_kind(machine):
    def factory(model, x, y):
        return own.increments(model, x, y)

    class Other(Own):
        """Another kind."""

    def others(model, x, y):
        (op,) = own.sets(model, x, y)
        op.__class__ = Other
        return [op]

    with nengo.Network() as net:
        nengo_dl.configure_settings(dtype="float64")
        own.around(machine(factory))
        own.around(machine(others))
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        with nengo_dl.Simulator(net, progress_bar=False) as sim:
            sim.run_steps(3)
            sim.reset()
            sim.run_steps(3)
    messages = [str(w.message) for w in found if "no native form" in str(w.message)]
    assert len(messages) == 2
    (message,) = [m for m in messages if "operator Own (" in m]
    assert "Own{ 'mine'} and 1 more" in message
    assert "runs as Python, once for each batch item in each step" in message
    assert "no gradient" in message
    assert "compiled" not in message  # its operators have no state
    assert "@nengo_dl.builder.Builder.register(Own)" in message


def test_without_a_step_function_there_is_no_way(machine, monkeypatch):
    class Abstract(Own):
        make_step = Operator.make_step

    def factory(model, x, y):
        model.operators.append(Abstract(None, [x], [y]))  # core checks it in `add_op`
        return []

    net = own.network_of(machine, factory)
    with pytest.raises(BuildError, match="no rule for the operator Abstract") as error:
        nengo_dl.Simulator(net, progress_bar=False)
    assert "no make_step(signals, dt, rng)" in str(error.value)
    assert "@nengo_dl.builder.Builder.register(Abstract)" in str(error.value)


def _rule(write):
    """A rule whose `make_step` writes to signals that others work with, too."""

    class WritesFirst(Own):
        def make_step(self, signals, dt, rng):
            arrays = [signals[s] for s in self.all_signals]
            write(rng, *arrays)
            weights = arrays[-1]

            def step():
                weights[...] += 0.01

            return step

    return WritesFirst


def _plain(rng, x, weights):
    weights[...] = 0.5


def _partly(rng, x, weights):
    weights[1:] += 0.25


def _random(rng, x, weights):
    weights[...] = rng.uniform(1, 2, size=weights.shape)


@pytest.mark.parametrize("jit", (False, True))
@pytest.mark.parametrize("write", (_plain, _partly, _random))
@pytest.mark.parametrize("kind", ("updates", "sets", "incs"))
def test_signals_are_live_when_steps_are_made(kind, write, jit, machine, allclose):
    """What is written then is where they start, also after `reset`."""

    def factory(model, x, y):
        weights = vector(3, 0.125, name="weights")
        op = _rule(write)(None, [x], **{kind: [weights]})
        return [op, Copy(weights, y)]

    net = own.network_of(machine, factory)
    with net:
        nengo_dl.configure_settings(jit=jit)
    with core(net, seed=3) as sim:
        expected = simulate(sim, 4)
    with silence():
        sim = nengo_dl.Simulator(net, progress_bar=False, minibatch_size=2, seed=3)
    with sim:
        for _ in range(2):
            found = simulate(sim, 4)
            for one, other in zip(found, expected, strict=True):
                assert np.ptp(other) > 0.01
                assert allclose(one[0], other, atol=1e-12)
            assert np.array_equal(found[0][0], found[0][1]) == (write is not _random)
            sim.reset()
        sim.reset(include_processes=False)
        assert allclose(simulate(sim, 4)[0][0], expected[0], atol=1e-12)


@pytest.mark.parametrize("write", (_plain, _random))
def test_constants_are_live_when_steps_are_made(write, machine, allclose):
    """A signal that no step writes, but the making of one; others read it."""

    def factory(model, x, y):
        constant, count = vector(3, 0.125, name="constant"), vector(3, name="count")

        class Writes(Own):
            def make_step(self, signals, dt, rng):
                x, constant, count = (signals[s] for s in self.all_signals)
                write(rng, x, constant)

                def step():
                    count[...] += constant

                return step

        op = Writes(None, [x, constant], updates=[count])

        def reads(dt, rng, constant, total):
            first = constant.copy()

            def step():
                total[...] += first

            return step

        total = vector(3, name="total")
        after = Own(reads, [constant], updates=[total])
        copies = [Copy(s, y, inc=True) for s in (constant, total, count)]
        return [op, after, Reset(y), *copies]

    net = own.network_of(machine, factory, feedback=False)
    with core(net, seed=3) as sim:
        expected = simulate(sim, 4)
    with silence():
        sim = nengo_dl.Simulator(net, progress_bar=False, minibatch_size=2, seed=3)
    with sim:
        for seed in (3, 4, 3):
            sim.reset(seed=seed)
            found = simulate(sim, 4)
        predicted = sim.predict(n_steps=4)
        for probe, one, other in zip(sim.model.probes, found, expected, strict=True):
            assert allclose(one[0], other, atol=1e-12)
            assert predicted[probe].shape == (2, 4, 3)
        sim.reset()
        again = sim.predict(n_steps=4)
        for probe, one in zip(sim.model.probes, found, strict=True):
            assert allclose(again[probe], one, atol=1e-12)


# -- neurons ---------------------------------------------------------------------------


class Adapting(nengo.neurons.NeuronType):
    """Rectified rates that get used to their input; core Nengo has no such type."""

    state = {"habit": nengo.dists.Uniform(0, 1)}
    spiking = False

    def gain_bias(self, max_rates, intercepts):
        return np.full(len(max_rates), 2.0), np.full(len(max_rates), 0.5)

    def rates(self, x, gain, bias):
        return np.maximum(self.current(x, gain, bias), 0)

    def step(self, dt, J, output, habit):
        output[J > habit] = (J - habit)[J > habit]
        habit += dt / 0.01 * (J - habit)


class Noisy(Adapting):
    """Draws random numbers."""

    state = {}

    def make_state(self, n_neurons, rng=np.random, dtype=None):
        return {"rng": np.random.RandomState(rng.randint(1000))}

    def step(self, dt, J, output, rng):
        output[...] = np.maximum(J + rng.normal(size=J.shape), 0)


class Shy(nengo.LIF):
    """A known type with another step."""

    def step(self, dt, J, output, voltage, refractory_time):
        super().step(dt, J - 1, output, voltage, refractory_time)


@pytest.mark.parametrize("neuron_type", (Adapting, Noisy, Shy))
def test_neurons_run_as_in_core(allclose, neuron_type):
    net = networks.recurrent(neuron_type(), learning=False)
    with net:
        nengo_dl.configure_settings(dtype="float64")
    # merged by core's optimizer, the neurons would draw other numbers
    with core(net) as sim:
        expected = simulate(sim)
    message = f"neuron type {neuron_type.__name__} .*<Ensemble .* and 6 more"
    with pytest.warns(UserWarning, match=message):
        sim = nengo_dl.Simulator(net, progress_bar=False, minibatch_size=3)
    with sim:
        found = simulate(sim)
        sim.reset()
        again = simulate(sim)
    for one, other, same in zip(found, expected, again, strict=True):
        assert np.ptp(other) > 0.01
        assert allclose(one[0], other, rtol=1e-10, atol=1e-10)
        assert np.array_equal(one, same)
    assert np.array_equal(found[0][1], found[0][2]) == (neuron_type is not Noisy)


def test_gradients_stop_there(allclose):
    """Training works; what comes before the neurons in Python does not learn."""
    with nengo.Network(seed=2) as net:
        nengo_dl.configure_settings(dtype="float64")
        inp = nengo.Node(np.zeros(1))
        a = nengo.Ensemble(10, 1, neuron_type=nengo.RectifiedLinear())
        b = nengo.Ensemble(10, 1, neuron_type=Adapting())
        before = nengo.Connection(inp, a, synapse=None)
        between = nengo.Connection(a, b, synapse=None)
        out = nengo.Node(size_in=1)
        after = nengo.Connection(b, out, synapse=None)
        probe = nengo.Probe(out)
    connections = before, between, after
    with silence(), nengo_dl.Simulator(net, progress_bar=False, minibatch_size=2) as sim:
        old = [np.array(sim.data[c].weights) for c in connections]
        sim.compile("sgd", loss="mse")
        x, y = np.ones((4, 5, 1)), np.full((4, 5, 1), 0.3)
        loss = sim.fit({inp: x}, {probe: y}, epochs=3, verbose=0).history["loss"]
        new = [np.array(sim.data[c].weights) for c in connections]
    changed = [not np.array_equal(*pair) for pair in zip(old, new, strict=True)]
    assert changed == [False, False, True]
    assert loss[-1] < loss[0] and np.isfinite(loss).all()


class Silent(Operator):
    """As the operators that are passed around in forums: without ``super().__init__``."""

    def __init__(self, x, y):
        self.reads, self.sets, self.incs, self.updates = [x], [y], [], []

    def make_step(self, signals, dt, rng):
        x, y = signals[self.reads[0]], signals[self.sets[0]]

        def step():
            if x[0] > 5:
                raise StopIteration
            y[...] = 2 * x

        return step


class Mute(Adapting):
    """Neurons that cannot be printed."""

    def __repr__(self):
        raise AttributeError("no text")

    __str__ = __repr__


def test_labels_cannot_fail(machine):
    """Operators and neuron types need not have a text."""
    notices.forget()
    net = own.network_of(machine, lambda model, x, y: [Silent(x, y)], feedback=False)
    with pytest.raises(AttributeError):
        str(Silent(None, None))
    with pytest.warns(UserWarning, match=r"operator Silent \(a Silent\)") as found:
        with nengo_dl.Simulator(net, progress_bar=False) as sim:
            sim.run_steps(3)
            assert "a Silent" in sim.describe()
            assert "a Silent" in sim.describe(html=True)
    (warning,) = [w for w in found if "native form" in str(w.message)]
    assert warning.filename == __file__
    with pytest.warns(UserWarning, match="neuron type Mute"), nengo.Network() as net:
        nengo.Probe(nengo.Ensemble(3, 1, neuron_type=Mute()).neurons)
        with nengo_dl.Simulator(net, progress_bar=False) as sim:
            sim.run_steps(3)
            assert "a SimNeurons" in sim.describe()


def test_a_cause_is_said_once_at_the_line_of_the_user(machine):
    """Shortly, the same text in every process, and only what is so."""
    notices.forget()

    def factory(model, x, y):
        state = vector(3)
        make = own.sets(model, x, y)[0].function
        return [
            Own(make, reads=[x, vector(3, 0.7, readonly=True)], sets=[y]),
            Reset(state),
        ]

    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        for _ in range(3):
            net = own.network_of(machine, factory, feedback=False)
            with nengo_dl.Simulator(net, progress_bar=False):
                pass
    (warning,) = [w for w in found if "no native form" in str(w.message)]
    text = str(warning.message)
    assert warning.filename == __file__
    assert len(text) < 350
    assert "0x" not in text
    assert "feedback" not in text
    assert "docs/extending.rst" in text
