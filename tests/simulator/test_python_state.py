"""What Python functions keep is part of what a batch starts from."""

import warnings

import keras
import nengo
import numpy as np
import pytest
from nengo.builder.operator import Reset

import nengo_dl
from nengo_dl import notices
from tests.kernels.own_operators import Own, machine_maker, silence, vector

STEPS = 5


@pytest.fixture
def machine(monkeypatch):
    return machine_maker(monkeypatch)


class Delay(nengo.synapses.Synapse):
    """Keeps its state in the dict that it is given."""

    def __init__(self, steps):
        self.steps = steps
        super().__init__(default_size_in=1, default_size_out=1)

    def make_state(self, shape_in, shape_out, dt, dtype=None, y0=0):
        return {"buf": np.zeros((self.steps, *shape_in))}

    def make_step(self, shape_in, shape_out, dt, rng, state):
        buf = state["buf"]

        def step(t, x):
            out = buf[0].copy()
            buf[:-1] = buf[1:]
            buf[-1] = x
            return out

        return step


class Renewing(Delay):
    """Puts other arrays into that dict."""

    def make_step(self, shape_in, shape_out, dt, rng, state):
        def step(t, x):
            out, state["buf"] = state["buf"][0], np.append(state["buf"][1:], [x], axis=0)
            return out

        return step


class Closure(Delay):
    """Keeps its state in variables, lists and objects of its own."""

    class Tally:
        def __init__(self):
            self.total = 0.0

    def make_state(self, shape_in, shape_out, dt, dtype=None, y0=0):
        return {}

    def make_step(self, shape_in, shape_out, dt, rng, state):
        count, seen, tally = 0, [], self.Tally()

        def step(t, x):
            nonlocal count
            count += 1
            seen.append(x.copy())
            tally.total += x.sum()
            return seen[len(seen) // 2] + 10 * count + tally.total

        return step


class Drawing(Delay):
    """Draws random numbers."""

    def make_state(self, shape_in, shape_out, dt, dtype=None, y0=0):
        return {}

    def make_step(self, shape_in, shape_out, dt, rng, state):
        return lambda t, x: x + rng.uniform(size=shape_out)


class Ahead(nengo.Process):
    """Has no input, so it may run ahead of the steps."""

    def make_step(self, shape_in, shape_out, dt, rng, state):
        count = 0

        def step(t):
            nonlocal count
            count += 1
            return np.full(shape_out, count + rng.uniform())

        return step


class Forgetful(nengo.neurons.NeuronType):
    """Has a state, and draws."""

    state = {"habit": nengo.dists.Uniform(0, 0)}

    def make_state(self, n_neurons, rng=np.random, dtype=None):
        state = super().make_state(n_neurons, rng, dtype)
        return {**state, "rng": np.random.RandomState(3)}

    def gain_bias(self, max_rates, intercepts):
        return np.ones(len(max_rates)), np.ones(len(max_rates))

    def step(self, dt, J, output, habit, rng):
        output[...] = J + habit + rng.uniform(size=J.shape)
        habit += J


def counting(model, x, y):
    """An operator that counts in its closure, its attribute and its array."""

    class Counting(Own):
        count = 0

        def make_step(self, signals, dt, rng):
            x, y = (signals[s] for s in self.all_signals)
            calls = []

            def step():
                calls.append(1)
                self.count += 1
                y[...] += x + len(calls) + self.count

            return step

    return [Reset(vector(1)), Counting(None, [x], [y])]


KINDS = {
    "state": Delay(2),
    "replaced state": Renewing(2),
    "closure": Closure(2),
    "random numbers": Drawing(2),
    "no input": "no input",
    "neurons": "neurons",
    "operator": "operator",
}


def network(kinds, machine, jit="auto"):
    """A node that is given data, and probes of what keeps a state."""
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(jit=jit, dtype="float64", trainable=False)
        net.inp = nengo.Node([0.0])
        for kind in kinds:
            probed = nengo.Node(size_in=1)
            if isinstance(kind, nengo.Process):
                nengo.Connection(net.inp, probed, synapse=kind)
            elif kind == "neurons":
                neurons = nengo.Ensemble(3, 1, neuron_type=Forgetful()).neurons
                ones = np.ones((3, 1))
                nengo.Connection(net.inp, neurons, transform=ones, synapse=None)
                nengo.Connection(neurons, probed, transform=ones.T, synapse=None)
            elif kind == "no input":
                options = {"noise": Ahead(seed=None), "gain": [1], "bias": [1]}
                neuron_type = nengo.RectifiedLinear()
                ens = nengo.Ensemble(1, 1, neuron_type=neuron_type, **options)
                nengo.Connection(ens.neurons, probed, synapse=None)
            else:
                node = machine(counting)
                nengo.Connection(net.inp, node[0], synapse=None)
                nengo.Connection(node[0], probed, synapse=None)
            nengo.Probe(probed)
    return net


def simulator(net, **kwargs):
    with silence():
        return nengo_dl.Simulator(net, progress_bar=False, seed=1, **kwargs)


@pytest.mark.parametrize("jit", (False, True))
def test_each_batch_starts_from_the_state_at_the_call(jit, machine, allclose):
    """`predict`, `evaluate`, `fit`, its validation, the model alone, `run_steps`."""
    net = network(KINDS.values(), machine, jit)
    x = np.tile(np.arange(1.0, STEPS + 1)[:, None], (5, 1, 1))
    with simulator(net, minibatch_size=2) as ref:
        ref.run_steps(3, data=x[:2, :3])
        ref.run_steps(STEPS, data=x[:2])
        right = {p: ref.data[p][:, 3:] for p in net.probes}
    with simulator(net, minibatch_size=2) as sim:
        sim.run_steps(3, data=x[:2, :3])
        y = sim.predict(x)
        alone = sim.keras_model.predict(x, batch_size=2, verbose=0)
        for p, goal in right.items():
            assert np.ptp(goal) > 0
            assert allclose(y[p], np.concatenate([goal, goal, goal[:1]]), atol=1e-12)
            assert allclose(alone[sim.get_name(p)], y[p], atol=1e-12)
        sim.compile(keras.optimizers.SGD(0.0), loss="mse")
        loss = sum(np.mean(goal**2) for goal in right.values())
        targets = {p: np.zeros((4, STEPS, 1)) for p in net.probes}
        assert allclose(sim.evaluate(x[:4], targets, verbose=0)["loss"], loss)
        validation = x[:4], targets
        history = sim.fit(x[:4], targets, epochs=2, validation_data=validation, verbose=0)
        assert allclose(history.history["loss"], [loss, loss])
        assert allclose(history.history["val_loss"], [loss, loss])
        sim.run_steps(STEPS, data=x[:2], stateful=False)
        sim.run_steps(STEPS, data=x[:2])
        for p, goal in right.items():
            assert allclose(sim.data[p][:, -STEPS:], goal, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_reset_restores_what_functions_keep(kind, machine):
    x = np.ones((1, 4, 1))
    with simulator(network([KINDS[kind]], machine, False)) as sim:
        (probe,) = sim.model.probes
        sim.run_steps(4, data=x)
        first = sim.data[probe].copy()
        sim.reset()
        sim.run_steps(4, data=x)
        assert np.array_equal(sim.data[probe], first)


def test_places_without_items_keep_what_their_functions_keep(machine, allclose):
    """Of a batch that is not complete, where state is carried."""
    x = np.tile(np.arange(1.0, STEPS + 1)[:, None], (3, 1, 1))
    with simulator(network([Closure(2)], machine), minibatch_size=3) as sim:
        (probe,) = sim.model.probes
        right = sim.predict(x)[probe]
        sim.predict(x[:1], stateful=True)
        y = sim.predict(x, stateful=True)[probe]
        assert allclose(y[1:], right[1:], atol=1e-12)
        assert not np.allclose(y[0], right[0])


class Attribute(Closure):
    """Keeps its state where it cannot be put back."""

    def __init__(self, steps):
        super().__init__(steps)
        vars(self)["history"] = []

    def make_step(self, shape_in, shape_out, dt, rng, state):
        def step(t, x):
            self.history.append(1)
            return x + len(self.history)

        return step


def test_state_that_cannot_be_put_back_is_named_once(machine):
    notices.forget()
    log, unchanged = [], {"a": np.zeros(3)}

    def noting(t, x):
        log.append(float(unchanged["a"][0]))
        return x

    net = network([Attribute(2)], machine)
    with net:
        node = nengo.Node(noting, size_in=1, size_out=1)
        nengo.Connection(net.inp, node)
        nengo.Probe(node)
    x = np.ones((3, 4, 1))
    with simulator(net) as sim, warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        sim.predict(x, stateful=True)
        assert not [w for w in found if "not put back" in str(w.message)]
        sim.predict(x)
        sim.predict(x)
        sim.run_steps(3, stateful=False)
    found = [w for w in found if "not put back" in str(w.message)]
    assert len(found) == 2
    assert {w.filename for w in found} == {__file__}
    (process,) = [str(w.message) for w in found if "Attribute" in str(w.message)]
    assert "'self.history'" in process
    assert "make_state" in process
    (function,) = [str(w.message) for w in found if "noting" in str(w.message)]
    assert "'log'" in function
    assert "unchanged" not in function


@pytest.mark.parametrize("method", ("run_steps", "predict"))
def test_inputs_that_wait_for_their_steps_go_on_waiting(method):
    """Functions were called for them ahead of a step that failed."""
    calls, fails = [], []

    def function(t, x):
        if fails and t > fails[0]:
            fails.pop()
            raise ValueError("not now")
        return x

    with nengo.Network() as net:
        noise = nengo.Node(nengo.processes.WhiteNoise(scale=False, seed=0))
        counter = nengo.Node(lambda t: calls.append(t) or len(calls), size_out=1)
        node = nengo.Node(function, size_in=1)
        nengo.Connection(noise, node, synapse=None)
        nengo.Connection(node, node, synapse=0, transform=0.1)
        probes = [nengo.Probe(obj) for obj in (noise, counter, node)]
    with simulator(net) as sim:
        sim.run_steps(20)
        expected = [sim.data[p].copy() for p in probes]
        sim.reset()
        calls.clear()
        fails.append(0.0045)
        with pytest.raises(ValueError, match="not now"):
            sim.run_steps(20)
        count = len(calls)
        if method == "predict":
            sim.predict(n_steps=3)
        else:
            sim.run_steps(3, stateful=False)
        del calls[count:]
        sim.run_steps(16)
        for probe, data in zip(probes, expected, strict=True):
            assert np.array_equal(sim.data[probe][-16:], data[4:])


def test_functions_that_change_nothing_are_not_warned_of(machine):
    notices.forget()
    with simulator(network([Closure(2)], machine)) as sim, warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        x = np.ones((3, 4, 1))
        assert sim.predict(x)[sim.model.probes[0]].shape == (3, 4, 1)
