"""One simulator in several threads, and calls of a simulator from inside itself."""

import contextlib
import copy
import pickle
import threading
import time

import nengo
import numpy as np
import pytest
from nengo.exceptions import SimulationError

import nengo_dl

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")


def slow_count(t):
    """A function of time during which other threads get their turn."""
    time.sleep(1e-4)
    return t


def slow_network():
    """A chain of filters behind a slow function: each step shows in the data."""
    with nengo.Network(seed=0) as net:
        node = nengo.Node(slow_count, label="clock")
        passed = nengo.Node(size_in=1)
        nengo.Connection(node, passed, synapse=0.01)
        net.probe = nengo.Probe(passed, synapse=0.01)
    return net


def expected(n_steps):
    net = slow_network()
    with nengo.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(n_steps)
        return sim.data[net.probe].copy()


def in_threads(*functions):
    """Run functions at the same time; raises what one of them raised."""
    errors = []

    def caught(function):
        try:
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=caught, args=(f,)) for f in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive(), "a thread waits for ever"
    if errors:
        raise errors[0]


def test_runs_in_two_threads_follow_one_another(allclose):
    net = slow_network()
    with nengo_dl.Simulator(net, progress_bar=False) as sim:

        def steps():
            for _ in range(40):
                sim.step()

        in_threads(lambda: sim.run_steps(60), steps, lambda: sim.run(0.05))
        assert sim.n_steps == 150
        assert allclose(sim.data[net.probe], expected(150), rtol=1e-5, atol=1e-8)


def test_predict_beside_a_run(allclose):
    net = slow_network()
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        first = sim.predict(n_steps=30)[net.probe]
        outputs = []

        def predict():
            outputs.append(sim.predict(n_steps=30)[net.probe])

        sim.run_steps(10)
        in_threads(lambda: sim.run_steps(100), predict, lambda: sim.run_steps(40))
        assert sim.n_steps == 150
        assert allclose(sim.data[net.probe], expected(150), rtol=1e-5, atol=1e-8)
        # it started after one of the runs, each of which is a whole
        whole = expected(180)
        ends = [whole[n : n + 30] for n in (10, 50, 110, 150)]
        assert any(np.abs(outputs[0][0] - end).max() < 1e-6 for end in ends)
        assert allclose(first[0], expected(30), atol=1e-6)


def test_keras_model_beside_a_run(allclose):
    net = slow_network()
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        data = {"clock": np.ones((1, 20, 1), np.float32)}
        sim.keras_model.predict(data, verbose=0)
        in_threads(
            lambda: sim.run_steps(80),
            lambda: sim.keras_model.predict(data, verbose=0),
        )
        assert allclose(sim.data[net.probe], expected(80), rtol=1e-5, atol=1e-8)


def test_probe_data_can_be_read_while_another_thread_runs(allclose):
    net = slow_network()
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        lengths, done = [], threading.Event()

        def run():
            for _ in range(30):
                sim.run_steps(10)
            done.set()

        def look():
            while not done.is_set():
                lengths.append(len(sim.data[net.probe]))

        in_threads(run, look, look)
        assert lengths and max(lengths) <= 300
        assert allclose(sim.data[net.probe], expected(300), rtol=1e-5, atol=1e-8)


def test_live_values_wait_for_the_run(allclose):
    with nengo.Network(seed=0) as net:
        node = nengo.Node(slow_count)
        ens = nengo.Ensemble(10, 1, neuron_type=nengo.LIFRate())
        nengo.Connection(node, ens)
        out = nengo.Node(size_in=1)
        conn = nengo.Connection(ens, out, learning_rule_type=nengo.PES())
        nengo.Connection(node, conn.learning_rule)
        nengo.Probe(out)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        seen = []

        def look():
            while not sim.n_steps:
                pass
            seen.append(sim.data[conn].weights)

        in_threads(lambda: sim.run_steps(300), look)
        assert allclose(seen[0], sim.data[conn].weights)


def test_pickles_and_copies_have_a_lock_of_their_own(allclose):
    net = slow_network()
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(10)
        for other in (pickle.loads(pickle.dumps(sim)), copy.copy(sim)):
            with other:
                in_threads(lambda: sim.run_steps(20), lambda: other.run_steps(20))  # noqa: B023
                assert other.n_steps == 30
                probe = other.model.probes[0]
                assert allclose(other.data[probe], expected(30), rtol=1e-5, atol=1e-8)
        assert sim.n_steps == 50


CALLS = {
    "run": lambda sim: sim.run(0.01),
    "run_steps": lambda sim: sim.run_steps(3),
    "step": lambda sim: sim.step(),
    "reset": lambda sim: sim.reset(),
    "clear_probes": lambda sim: sim.clear_probes(),
    "close": lambda sim: sim.close(),
    "predict": lambda sim: sim.predict(n_steps=3),
    "save_params": lambda sim: sim.save_params("never"),
    "__getstate__": lambda sim: pickle.dumps(sim),
}


class Caller:
    """Calls a simulator at one time; as a function of time, or with an input."""

    def __init__(self, call, at=0.005):
        self.call, self.at = call, at
        self.sim = None

    def __call__(self, t, *x):
        if self.sim is not None and round(t / 0.001) == round(self.at / 0.001):
            self.call(self.sim)
        return t


def calling_network(call, size_in=0, feedback=False):
    caller = Caller(call)
    with nengo.Network(seed=0) as net:
        node = nengo.Node(lambda t, *x: caller(t, *x), size_in=size_in, label="f")
        if feedback:
            nengo.Connection(node, node, synapse=0.01)
        net.probe = nengo.Probe(node)
    return net, caller


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("size_in", (0, 1))
def test_node_that_calls_its_own_simulator(name, size_in):
    net, caller = calling_network(CALLS[name], size_in)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        caller.sim = sim
        with pytest.raises(
            SimulationError,
            match=f"Simulator.{name} was called from the function of Node 'f' at t=0.005",
        ):
            sim.run_steps(10)
        assert sim.n_steps == 4  # the steps before stay, and it can go on
        caller.sim = None
        sim.run_steps(6)
        assert np.allclose(sim.data[net.probe].ravel(), sim.trange(), atol=1e-6)


def test_step_from_inside_a_step():
    net, caller = calling_network(CALLS["step"], feedback=True, size_in=1)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        caller.sim = sim
        with pytest.raises(SimulationError, match="Node 'f' at t=0.005"):
            for _ in range(10):
                sim.step()
        assert sim.n_steps == 4


@pytest.mark.parametrize("method", ("predict", "evaluate", "fit"))
@pytest.mark.parametrize("feedback", (True, False))
def test_call_from_a_thread_of_tensorflow(method, feedback):
    net, caller = calling_network(CALLS["run"], size_in=1, feedback=feedback)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.compile("sgd", loss="mse")
        caller.sim = sim
        y = {} if method == "predict" else {"y": {net.probe: np.zeros((1, 10, 1))}}
        with pytest.raises(SimulationError, match="of Node 'f' at t=0.005"):
            getattr(sim, method)(n_steps=10, **y)
        assert sim.n_steps == 0


class Process(nengo.Process):
    """A process whose step calls a simulator."""

    caller = None

    def make_step(self, shape_in, shape_out, dt, rng, state):
        return lambda t: type(self).caller(t)


class CallingNeurons(nengo.RectifiedLinear):
    """Neurons of a user, whose step calls a simulator."""

    caller = None

    def step(self, dt, J, output):
        output[...] = J
        type(self).caller(0.005)


WHERE = {
    "process": "the process of Node 'noise' at t=0.005",
    "connection": "the function of <Connection from",
    "neurons": "CallingNeurons.* at t=0.005",
}


@pytest.mark.parametrize("where", WHERE)
def test_whatever_of_a_user_runs_in_a_step(where):
    caller = Caller(CALLS["run"])
    Process.caller = CallingNeurons.caller = caller
    with nengo.Network(seed=0) as net:
        node, end = nengo.Node([1.0]), nengo.Node(size_in=1)
        if where == "process":
            node = nengo.Node(Process(default_size_out=1), label="noise")
            nengo.Connection(node, end)
        elif where == "neurons":
            ens = nengo.Ensemble(3, 1, neuron_type=CallingNeurons())
            nengo.Connection(node, ens)
            nengo.Connection(ens, end)
        else:
            nengo.Connection(node, end, function=lambda x: caller(0.005))
        nengo.Probe(end)
    own = where == "neurons"
    with pytest.warns(UserWarning) if own else contextlib.nullcontext():
        sim = nengo_dl.Simulator(net, progress_bar=False)
    with sim:
        sim.run_steps(4)  # calls of the others do not tell the time
        caller.sim = sim
        with pytest.raises(SimulationError, match=WHERE[where]) as caught:
            sim.run_steps(10)
        assert "0x" not in str(caught.value)


def test_a_function_may_look_at_its_simulator():
    with nengo.Network(seed=0) as net:
        ens = nengo.Ensemble(4, 1)
        seen = []

        def look(t):
            if sims:
                seen.append((sims[0].data[ens].gain, sims[0].n_steps))
            return t

        sims = []
        node = nengo.Node(look)
        nengo.Probe(node)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sims.append(sim)
        sim.run_steps(3)
        assert len(seen) == 3
        assert np.all(seen[0][0] == sim.data[ens].gain)


def test_a_function_may_run_another_simulator():
    inner = slow_network()
    with nengo_dl.Simulator(inner, progress_bar=False) as other:

        def run_other(t):
            other.step()
            return other.data[inner.probe][-1]

        with nengo.Network() as net:
            node = nengo.Node(run_other, size_out=1)
            probe = nengo.Probe(node)
        with nengo_dl.Simulator(net, progress_bar=False) as sim:
            other.reset()
            sim.run_steps(20)
            assert np.allclose(sim.data[probe], other.data[inner.probe], atol=1e-6)


def test_simulators_do_not_wait_for_one_another():
    inside, other_ran = threading.Event(), threading.Event()
    in_time = []

    def wait_for_the_other(t):
        inside.set()
        in_time.append(other_ran.wait(timeout=60))
        return t

    with nengo.Network() as net:
        nengo.Probe(nengo.Node(wait_for_the_other, size_out=1))
    simulators = [
        nengo_dl.Simulator(each, progress_bar=False) for each in (net, slow_network())
    ]
    with simulators[0] as waiting, simulators[1] as other:
        thread = threading.Thread(target=waiting.step)
        thread.start()
        assert inside.wait(timeout=60)
        other.step()
        other_ran.set()
        thread.join()
        assert in_time[0] and other.n_steps == 1


def test_callbacks_between_batches_may_call(tmp_path):
    with nengo.Network(seed=0) as net:
        node = nengo.Node([0.0])
        ens = nengo.Ensemble(5, 1, neuron_type=nengo.RectifiedLinear())
        nengo.Connection(node, ens, synapse=None)
        probe = nengo.Probe(ens)
    x = np.ones((4, 3, 1))
    with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
        seen = []

        class Look(keras.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                seen.append(sim.predict(x)[probe])
                sim.save_params(tmp_path / "params")
                assert sim.data[ens].bias.shape == (5,)

        sim.compile("sgd", loss="mse")
        sim.fit(x, x, epochs=2, callbacks=[Look()], verbose=0)
        assert len(seen) == 2
        assert (tmp_path / "params.npz").exists()
        assert np.allclose(seen[-1], sim.predict(x)[probe], atol=1e-6)


def test_data_that_come_batch_by_batch_may_not_run_it():
    with nengo.Network(seed=0) as net:
        node = nengo.Node([0.0])
        probe = nengo.Probe(node)
    x = np.ones((1, 3, 1))
    with nengo_dl.Simulator(net, progress_bar=False) as sim:

        def batches():
            yield x, x
            sim.run(0.01)

        sim.compile("sgd", loss="mse")
        with pytest.raises(SimulationError, match="what gives data to it"):
            sim.evaluate(batches())
        # and a TensorFlow function that is not known to be of the network
        dataset = tf.data.Dataset.from_tensors(x).map(
            lambda a: tf.ensure_shape(
                tf.numpy_function(lambda b: sim.step() or b, [a], tf.float64), x.shape
            )
        )
        with pytest.raises(Exception, match="in a TensorFlow program"):
            sim.predict(dataset)
        assert sim.n_steps == 0
        assert probe in net.all_probes


@pytest.mark.parametrize("method", ("run_steps", "step"))
@pytest.mark.parametrize("outer", ("run_steps", "step"))
def test_threads_that_a_step_waits_for_are_refused(method, outer):
    """Instead of waiting for one another for ever."""
    errors = []

    def inside(t):
        def call():
            try:
                sim.run_steps(1) if method == "run_steps" else sim.step()
            except SimulationError as error:
                errors.append(str(error))

        thread = threading.Thread(target=call, daemon=True)
        thread.start()
        thread.join(20)
        assert not thread.is_alive()
        return t

    with nengo.Network() as net:
        probe = nengo.Probe(nengo.Node(inside, size_out=1, label="starts"))
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(1) if outer == "run_steps" else sim.step()
        assert len(sim.data[probe]) == 1
    assert len(errors) == 1
    assert f"Simulator.{method} was called from a thread that" in errors[0]
    assert "starts" in errors[0]
