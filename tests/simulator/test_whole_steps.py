"""After an exception or an interrupt the simulation goes on at the last whole step."""

import subprocess
import sys
import textwrap

import nengo
import numpy as np
import pytest

import nengo_dl
from tests.kernels.own_operators import Own, machine_maker, silence

STEPS = 12
KINDS = ("source", "node", "synapse", "process", "neurons", "operator")


@pytest.fixture
def machine(monkeypatch):
    return machine_maker(monkeypatch)


class Calls:
    """Counts calls by kind; one of them fails at a certain call, once."""

    def __init__(self):
        self.counts = dict.fromkeys(KINDS, 0)
        self.fails, self.at, self.error = None, 0, None

    def __call__(self, kind):
        if kind == self.fails and self.counts[kind] == self.at:
            self.fails = None
            raise self.error("not now")
        self.counts[kind] += 1


class Mine(nengo.synapses.Synapse):
    def __init__(self, calls, kind):
        super().__init__(default_size_in=1, default_size_out=1)
        vars(self).update(calls=calls, kind=kind)

    def make_state(self, shape_in, shape_out, dt, dtype=None, y0=0):
        return {"y": np.zeros(shape_out)}

    def make_step(self, shape_in, shape_out, dt, rng, state):
        y = state["y"]

        def step(t, x):
            self.calls(self.kind)
            y[...] = 0.8 * y + 0.2 * x + 0.01 * rng.uniform(size=y.shape)
            return y

        return step


class Neurons(nengo.neurons.NeuronType):
    state = {"habit": nengo.dists.Uniform(0, 0)}

    def __init__(self, calls):
        super().__init__()
        vars(self)["calls"] = calls

    def gain_bias(self, max_rates, intercepts):
        return np.ones(len(max_rates)), np.ones(len(max_rates))

    def step(self, dt, J, output, habit):
        self.calls("neurons")
        output[...] = J - habit
        habit += 0.1 * J


def network(calls, machine, jit, feedback):
    """All kinds one behind the other, with filters of Nengo in between."""

    def operator(model, x, y):
        def make(dt, rng, x, y):
            def step():
                calls("operator")
                y[...] = 0.9 * y + x + rng.uniform(size=y.shape)

            return step

        return [Own(make, [x], [y])]

    def source(t):
        calls("source")
        return np.sin(100 * t)

    def function(t, x):
        calls("node")
        return x + 0.1 * calls.counts["node"]

    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(dtype="float64", jit=jit)
        inp = nengo.Node(source)
        node = nengo.Node(function, size_in=1)
        process = nengo.Node(Mine(calls, "process"), size_in=1)
        ens = nengo.Ensemble(3, 1, neuron_type=Neurons(calls))
        own, out = machine(operator), nengo.Node(size_in=1)
        nengo.Connection(inp, node, synapse=0.003)
        nengo.Connection(node, process, synapse=Mine(calls, "synapse"))
        nengo.Connection(process, ens.neurons, transform=np.ones((3, 1)))
        nengo.Connection(ens.neurons, own, synapse=None)
        nengo.Connection(own[0], out, synapse=0.002)
        if feedback:
            nengo.Connection(out, node, synapse=0.004, transform=0.1)
        for obj in (inp, node, process, ens.neurons, own, out):
            nengo.Probe(obj)
    return net


def go_on(sim, n_steps, method, errors):
    """Run as many steps, whatever comes in between."""
    stop = sim.n_steps + n_steps
    while sim.n_steps < stop:
        try:
            if method == "step":
                sim.step()
            else:
                sim.run_steps(stop - sim.n_steps)
        except errors:
            assert {len(sim.data[p]) for p in sim.model.probes} in (
                {sim.n_steps},
                {sim.minibatch_size},
            )


@pytest.mark.parametrize("method", ("run_steps", "step"))
@pytest.mark.parametrize("minibatch_size", (None, 3))
@pytest.mark.parametrize("kind", KINDS)
def test_it_goes_on_at_the_last_whole_step(kind, minibatch_size, method, machine):
    """With the same numbers, and no function is called more often than without."""
    calls = Calls()
    with silence():
        net = network(calls, machine, False, feedback=True)
        sim = nengo_dl.Simulator(
            net, progress_bar=False, seed=1, minibatch_size=minibatch_size
        )
    with sim:
        sim.reset()
        calls.counts.update(dict.fromkeys(KINDS, 0))
        sim.run_steps(STEPS)
        expected = [sim.data[p].copy() for p in net.probes]
        counts = dict(calls.counts)
        for error in (ValueError, KeyboardInterrupt):
            sim.reset()
            calls.counts.update(dict.fromkeys(KINDS, 0))
            calls.fails, calls.error = kind, error
            calls.at = 5 if kind == "source" else 5 * (minibatch_size or 1) + 1
            go_on(sim, STEPS, method, error)
            assert calls.fails is None
            for probe, data in zip(net.probes, expected, strict=True):
                assert np.array_equal(sim.data[probe], data), probe
            assert calls.counts == counts


@pytest.mark.parametrize("kind", ("source", "node", "synapse", "process"))
def test_it_goes_on_where_functions_run_for_many_steps(kind, machine):
    """Before and after a compiled loop."""
    calls = Calls()
    with silence(), nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(dtype="float64", jit=True)

        def source(t):
            calls("source")
            return np.sin(100 * t)

        def function(t, x):
            calls("node")
            return x + 0.1 * calls.counts["node"]

        inp = nengo.Node(source)
        process = nengo.Node(Mine(calls, "process"), size_in=1)
        ens = nengo.Ensemble(10, 1)
        node, out = nengo.Node(function, size_in=1), nengo.Node(size_in=1)
        nengo.Connection(inp, process, synapse=None)
        nengo.Connection(process, ens)
        nengo.Connection(ens, node, synapse=0.002)
        nengo.Connection(node, out, synapse=Mine(calls, "synapse"))
        for obj in (inp, process, ens, node, out):
            nengo.Probe(obj)
        sim = nengo_dl.Simulator(net, progress_bar=False, seed=1, minibatch_size=2)
    with sim:
        sim.reset()
        calls.counts.update(dict.fromkeys(KINDS, 0))
        sim.run_steps(80)
        expected = [sim.data[p].copy() for p in net.probes]
        counts = dict(calls.counts)
        for error in (ValueError, KeyboardInterrupt):
            sim.reset()
            calls.counts.update(dict.fromkeys(KINDS, 0))
            calls.fails, calls.error = kind, error
            calls.at = 70 if kind == "source" else 141
            go_on(sim, 80, "run_steps", error)
            for probe, data in zip(net.probes, expected, strict=True):
                assert np.allclose(sim.data[probe], data, rtol=1e-12, atol=0), probe
            assert calls.counts == counts


@pytest.mark.parametrize("method", ("run_steps", "step"))
def test_functions_of_time_before_the_one_that_fails_are_not_called_again(method):
    calls = Calls()

    class Ahead(nengo.Process):
        def make_step(self, shape_in, shape_out, dt, rng, state):
            def step(t):
                calls("process")
                return rng.uniform(size=shape_out)

            return step

    def function(kind):
        def of_time(t):
            calls(kind)
            return t

        return of_time

    with nengo.Network() as net:
        nengo_dl.configure_settings(dtype="float64")
        nodes = [nengo.Node(function("source")), nengo.Node(Ahead(default_size_in=0))]
        nodes += [nengo.Node(function("node")), nengo.Node(Ahead(default_size_in=0))]
        for node in nodes:
            nengo.Probe(node)
    with nengo_dl.Simulator(net, progress_bar=False, seed=1, minibatch_size=3) as sim:
        calls.counts.update(dict.fromkeys(KINDS, 0))
        sim.run_steps(STEPS)
        expected = [sim.data[p].copy() for p in net.probes]
        counts = dict(calls.counts)
        for kind in ("source", "node", "process"):
            sim.reset()
            calls.counts.update(dict.fromkeys(KINDS, 0))
            calls.fails, calls.error = kind, ValueError
            calls.at = 5 if kind != "process" else 32
            go_on(sim, STEPS, method, ValueError)
            for probe, data in zip(net.probes, expected, strict=True):
                assert np.array_equal(sim.data[probe], data), (probe, kind)
            assert calls.counts == counts


def test_interrupts_at_any_time_lose_nothing():
    """Ctrl-C wherever the program is: in functions, in steps, between them."""
    script = """
        import os, signal, threading, time
        import nengo, nengo_dl
        import numpy as np

        # what runs in the background of a shell ignores interrupts
        signal.signal(signal.SIGINT, signal.default_int_handler)

        def interrupt(seconds):
            time.sleep(seconds)
            os.kill(os.getpid(), signal.SIGINT)

        with nengo.Network(seed=0) as net:
            nengo_dl.configure_settings(dtype="float64")
            inp = nengo.Node(lambda t: np.sin(10 * t))
            a, b = nengo.Ensemble(20, 1), nengo.Ensemble(20, 1)
            nengo.Connection(inp, a)
            conn = nengo.Connection(a, b, learning_rule_type=nengo.PES())
            nengo.Connection(b, conn.learning_rule, synapse=nengo.Alpha(0.01))
            node = nengo.Node(lambda t, x: x**2, size_in=1)
            nengo.Connection(b, node)
            nengo.Connection(node, a, transform=0.1)
            probes = [nengo.Probe(x, synapse=0.01) for x in (a, b, node)]
            probes.append(nengo.Probe(conn, "weights", sample_every=0.003))
        with nengo_dl.Simulator(net, progress_bar=False) as sim:
            sim.run_steps(9000)
            expected = [sim.data[p].copy() for p in probes]
            sim.reset()
            count = 0
            while sim.n_steps < 9000:
                seconds = 0.0005 + 0.0005 * (count % 7)
                other = threading.Thread(target=interrupt, args=(seconds,))
                try:
                    other.start()
                    sim.run_steps(min(600, 9000 - sim.n_steps))
                    other.join()
                    time.sleep(0.01)
                except KeyboardInterrupt:
                    count += 1
                    other.join()
            assert count > 10, count
            for probe, data in zip(probes, expected):
                assert np.array_equal(sim.data[probe], data), (probe, count)
            print("whole", len(sim.trange()))
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.stdout.split() == ["whole", "9000"], run.stderr[-3000:]
