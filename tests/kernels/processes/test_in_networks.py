"""Processes and synapses in whole networks, against `nengo.Simulator`."""

import nengo
import numpy as np
import pytest
from nengo.builder.processes import SimProcess
from nengo.processes import (
    BrownNoise,
    FilteredNoise,
    Piecewise,
    PresentInput,
    WhiteNoise,
    WhiteSignal,
)
from nengo.utils.graphs import toposort
from nengo.utils.simulator import operator_dependency_graph

import nengo_dl
from nengo_dl.kernels.processes.base import PythonProcess
from tests.networks import Counter, waves

SEED = 11


def driven_by_everything(**settings):
    """Each process of core, as the output of a node and as an input of an ensemble."""
    with nengo.Network(seed=4) as net:
        nengo_dl.configure_settings(dtype="float64", **settings)
        ens = nengo.Ensemble(30, 2, neuron_type=nengo.LIFRate())
        for process in (
            WhiteNoise(nengo.dists.Uniform(-1, 1), scale=False, seed=3),
            FilteredNoise(nengo.Alpha(0.01)),
            BrownNoise(seed=8),
            WhiteSignal(0.06, high=50, y0=0),
            PresentInput([[0.5, -0.5], [1, 0], [0, -1]], 0.013),
            Piecewise({0.02: [1, -1], 0.1: [-0.5, 0]}),
            Piecewise({0: [0, 0], 0.05: [1, -1], 0.2: [0, 0]}, interpolation="linear"),
            Piecewise({0: lambda t: [t, -t], 0.05: [0.5, 0.5]}),
        ):
            node = nengo.Node(process, size_out=2)
            nengo.Connection(node, ens, transform=0.2, synapse=0.01)
            nengo.Probe(node)
        nengo.Probe(ens, synapse=nengo.synapses.Triangle(0.01))
    return net


def noisy(neuron_type=None, noise=None):
    """An ensemble with noise on the current of its neurons, which feeds back."""
    with nengo.Network(seed=4) as net:
        nengo_dl.configure_settings(dtype="float64")
        noise = WhiteNoise(nengo.dists.Gaussian(0, 0.02)) if noise is None else noise
        inp = nengo.Node(waves(1))
        ens = nengo.Ensemble(
            25, 1, noise=noise, neuron_type=neuron_type or nengo.LIFRate()
        )
        nengo.Connection(inp, ens)
        nengo.Connection(ens, ens, synapse=0.05, transform=0.5)
        net.output = nengo.Probe(ens, synapse=0.01)
        net.current = nengo.Probe(ens.neurons, "input")
    return net


def core(net, n_steps, items=1, dt=0.001):
    """What `nengo.Simulator` gives for each probe: ``(items, n_steps, size)``."""
    runs = []
    for item in range(items):
        with nengo.Simulator(net, dt=dt, seed=SEED + item, progress_bar=False) as sim:
            sim.run_steps(n_steps, progress_bar=False)
            runs.append([np.array(sim.data[probe]) for probe in net.all_probes])
    return [np.array(values) for values in zip(*runs)]


def simulator(net, **kwargs):
    return nengo_dl.Simulator(net, seed=SEED, progress_bar=False, **kwargs)


def data_of(sim, net):
    batched = sim.minibatch_size is not None
    return [
        np.array(sim.data[p] if batched else sim.data[p][None]) for p in net.all_probes
    ]


def assert_close(ours, theirs, atol=1e-11):
    assert len(ours) == len(theirs) > 0
    for mine, expected in zip(ours, theirs, strict=True):
        assert mine.shape == expected.shape
        assert np.ptp(expected) > 0.01
        assert np.abs(mine - expected).max() <= atol


# -- the numbers of core ---------------------------------------------------------------


@pytest.mark.parametrize("minibatch_size", (None, 3))
@pytest.mark.parametrize("dt", (0.001, 0.002))
def test_every_process_of_core(minibatch_size, dt):
    net = driven_by_everything()
    theirs = core(net, 150, minibatch_size or 1, dt)
    with simulator(net, dt=dt, minibatch_size=minibatch_size) as sim:
        sim.run_steps(70)
        sim.run_steps(78)
        sim.step()
        sim.step()
        assert_close(data_of(sim, net), theirs)


@pytest.mark.parametrize("minibatch_size", (None, 3))
def test_every_process_of_core_compiled(minibatch_size):
    net = driven_by_everything(jit=True)
    theirs = core(net, 150, minibatch_size or 1)
    with simulator(net, minibatch_size=minibatch_size) as sim:
        sim.run_steps(70)
        sim.run_steps(80)
        assert_close(data_of(sim, net), theirs)


def test_step_by_step():
    net = driven_by_everything()
    theirs = core(net, 40)
    with simulator(net) as sim:
        for _ in range(40):
            sim.step()
        assert_close(data_of(sim, net), theirs)


@pytest.mark.parametrize(
    "noise", (None, FilteredNoise(nengo.Lowpass(0.01)), BrownNoise(seed=1))
)
@pytest.mark.parametrize("minibatch_size", (None, 3))
def test_noise_of_ensembles(noise, minibatch_size):
    net = noisy(noise=noise)
    theirs = core(net, 90, minibatch_size or 1)
    with simulator(net, minibatch_size=minibatch_size) as sim:
        sim.run_steps(50)
        sim.run_steps(38)
        sim.step()
        sim.step()
        assert_close(data_of(sim, net), theirs)


def test_noise_of_ensembles_does_not_keep_the_loop_from_being_compiled():
    net = noisy(nengo.LIF())
    theirs = core(net, 90)
    with simulator(net) as sim:
        program = sim._program
        program.chooser.jit = True
        sim.run_steps(90)
        ((_, tier),) = program._executors
        assert tier == "tensorflow"
        assert_close(data_of(sim, net), theirs, atol=1e-9)


def test_noise_of_users_runs_ahead_as_well():
    with nengo.Network(seed=4) as net:
        nengo_dl.configure_settings(dtype="float64")
        ens = nengo.Ensemble(5, 1, noise=Counter(), neuron_type=nengo.RectifiedLinear())
        nengo.Probe(ens.neurons, "input")
    with simulator(net, minibatch_size=2) as sim:
        sim.run_steps(30)
        sim.step()
        assert_close(data_of(sim, net), core(net, 31, 2))


class Leak(nengo.Process):
    """A process of a user with state, input and noise."""

    def make_state(self, shape_in, shape_out, dt, dtype=None):
        return {"x": np.zeros(shape_out)}

    def make_step(self, shape_in, shape_out, dt, rng, state):
        def step(t, u):
            state["x"] *= 0.9
            state["x"] += 0.1 * u[: shape_out[0]] + rng.uniform(-0.1, 0.1, shape_out)
            return state["x"]

        return step


class Kick(nengo.synapses.Synapse):
    """A synapse of a user: a low-pass filter whose constant depends on the input."""

    def make_state(self, shape_in, shape_out, dt, dtype=None, y0=0):
        return {"y": np.zeros(shape_out)}

    def make_step(self, shape_in, shape_out, dt, rng, state):
        y = state["y"]

        def step(t, x):
            y[...] += np.where(x > y, 0.5, 0.1) * (x - y)
            return y

        return step


def with_own_processes(minibatch=None):
    with nengo.Network(seed=4) as net:
        nengo_dl.configure_settings(dtype="float64")
        inp = nengo.Node(waves(2))
        ens = nengo.Ensemble(20, 2, neuron_type=nengo.LIFRate())
        node = nengo.Node(Leak(seed=2), size_in=2, size_out=1)
        filtered = nengo.Node(nengo.Lowpass(0.02), size_in=2, size_out=2)
        nengo.Connection(inp, ens, synapse=Kick())
        nengo.Connection(ens, node, synapse=None)
        nengo.Connection(node, ens[0], synapse=0.01, transform=0.5)
        nengo.Connection(ens, filtered, synapse=Kick())
        nengo.Connection(filtered, ens[::-1], synapse=0.02, transform=-0.3)
        for target in (node, filtered, ens):
            nengo.Probe(target, synapse=Kick() if target is ens else None)
    return net


@pytest.mark.parametrize("minibatch_size", (None, 3))
def test_processes_of_users_in_feedback(minibatch_size):
    net = with_own_processes()
    theirs = core(net, 60, minibatch_size or 1)
    with pytest.warns(UserWarning, match="no native form of (Leak|Kick)") as caught:
        sim = simulator(net, minibatch_size=minibatch_size)
    with sim:
        sim.run_steps(30)
        sim.run_steps(29)
        sim.step()
        assert_close(data_of(sim, net), theirs)
    texts = [str(w.message) for w in caught if "native form" in str(w.message)]
    assert len(texts) == 2  # one for each class
    (kick,) = (text for text in texts if "of Kick" in text)
    for part in ("and 2 more", "process_rules.register(Kick)", "each batch item"):
        assert part in kick


def test_data_take_the_place_of_a_process(rng):
    with nengo.Network(seed=4) as net:
        nengo_dl.configure_settings(dtype="float64")
        noise, other = nengo.Node(WhiteNoise(), size_out=2), nengo.Node(BrownNoise())
        p, q = nengo.Probe(noise), nengo.Probe(other, synapse=0.01)
    data = rng.normal(size=(3, 30, 2))
    theirs = core(net, 60, 3)
    with simulator(net, minibatch_size=3) as sim:
        sim.run_steps(30, data={noise: data})
        sim.run_steps(30)
        assert np.array_equal(sim.data[p][:, :30], data)
        # it was not asked for the steps in between
        assert np.array_equal(sim.data[p][:, 30:], theirs[0][:, :30])
        assert np.abs(sim.data[q] - theirs[1]).max() < 1e-12


# -- random numbers --------------------------------------------------------------------


def order_of_processes(net, optimized):
    """In which order processes draw their seeds in core, and those without input alone.

    They are numbered as they were built.
    """
    model = nengo.builder.Model(dt=0.001)
    model.build(net)
    processes = [op for op in model.operators if isinstance(op, SimProcess)]
    graph = operator_dependency_graph(model.operators)
    if optimized:
        nengo.builder.optimizer.optimize(model, graph)
    order = [op for op in toposort(graph) if isinstance(op, SimProcess)]
    numbers = [order.index(op) for op in processes]
    ahead = [n for n, op in zip(numbers, processes, strict=True) if op.input is None]
    return numbers, ahead


@pytest.mark.parametrize("make", (driven_by_everything, noisy, with_own_processes))
def test_the_order_of_core_is_that_without_its_optimizer(make):
    """Core merges no processes, and what draws random numbers stays in its place.

    That is different only for several seedless noises of ensembles, and for seedless
    processes with input. There core itself gives other numbers each time that a script
    runs: its optimizer goes through sets of operators, in the order of their addresses.
    """
    (plain, ahead), (optimized, ahead_too) = (
        order_of_processes(make(), optimized) for optimized in (False, True)
    )
    assert sorted(plain) == sorted(optimized)
    assert ahead == ahead_too


# -- resetting -------------------------------------------------------------------------


def with_processes_to_reset():
    with nengo.Network(seed=4) as net:
        nengo_dl.configure_settings(dtype="float64")
        nodes = [
            nengo.Node(WhiteNoise(), size_out=1),
            nengo.Node(WhiteSignal(0.03, high=50), size_out=1),
            nengo.Node(BrownNoise(), size_out=1),
        ]
        ens = nengo.Ensemble(10, 1, noise=WhiteNoise(), neuron_type=nengo.LIFRate())
        for node in nodes:
            nengo.Probe(node)
        nengo.Probe(ens.neurons, "input")
    return net


def test_reset_starts_processes_again():
    net = with_processes_to_reset()
    with simulator(net, minibatch_size=2) as sim:
        sim.run_steps(40)
        first = data_of(sim, net)
        sim.reset()
        sim.run_steps(15)
        sim.run_steps(25)
        for again, before in zip(data_of(sim, net), first, strict=True):
            assert np.array_equal(again, before)
        sim.reset(seed=SEED + 1)  # the first item is what the second one was
        sim.run_steps(40)
        for shifted, before in zip(data_of(sim, net), first, strict=True):
            assert np.array_equal(shifted[0], before[1])
            assert not np.array_equal(shifted[1], before[1])


def test_reset_without_processes_goes_on_with_their_numbers():
    """Time starts again, the numbers do not: what depends on time alone repeats."""
    net = with_processes_to_reset()
    noise, signal, brown, current = core(net, 80)
    with simulator(net) as sim:
        sim.run_steps(40)
        sim.reset(include_processes=False)
        assert sim.n_steps == 0
        sim.run_steps(39)
        sim.step()
        ours = data_of(sim, net)
    for mine, theirs in zip(ours, (noise, signal, brown, current), strict=True):
        assert mine.shape == (1, 40, theirs.shape[2])
    assert np.array_equal(ours[0], noise[:, 40:])
    assert np.array_equal(ours[1], signal[:, :40])
    assert np.array_equal(ours[2], brown[:, 40:])
    assert np.abs(ours[3] - current[:, 40:]).max() < 1e-12


def test_not_stateful_runs_leave_processes_as_they_were():
    net = with_processes_to_reset()
    with simulator(net) as sim:
        sim.run_steps(20)
        before = data_of(sim, net)
        sim.run_steps(30, stateful=False)
        sim.run_steps(20)
        after = data_of(sim, net)
    for mine, first, theirs in zip(after, before, core(net, 40), strict=True):
        assert np.abs(mine[:, :20] - theirs[:, :20]).max() < 1e-12
        assert np.array_equal(first, mine[:, :20])
        assert np.abs(mine[:, -20:] - theirs[:, 20:]).max() < 1e-12


# -- functions that fail ---------------------------------------------------------------


@pytest.mark.parametrize("before", (True, False))
@pytest.mark.parametrize("bad", ("raises", "not finite"))
def test_numbers_after_a_failure_are_those_of_single_steps(before, bad, monkeypatch):
    """However far ahead they were drawn."""

    def run(bad, single):
        failed = []

        def function(t):
            if t > 0.0205 and not failed:
                failed.append(t)
                if bad == "raises":
                    raise RuntimeError("once")
                return np.nan
            return t

        outputs = [WhiteNoise(), function] if before else [function, WhiteNoise()]
        with nengo.Network(seed=4) as net:
            nengo_dl.configure_settings(dtype="float64")
            for output in outputs:
                nengo.Probe(nengo.Node(output, size_out=1))
        with simulator(net) as sim:
            with pytest.raises((RuntimeError, nengo.exceptions.SimulationError)):
                for _ in range(50) if single else (50,):
                    sim.run_steps(1 if single else 50)
            assert sim.n_steps == 20
            sim.run_steps(10)
            return data_of(sim, net)

    at_once = run(bad, single=False)
    monkeypatch.setattr(PythonProcess, "draws", False)
    for mine, theirs in zip(at_once, run("raises", single=True), strict=True):
        assert mine.shape == theirs.shape == (1, 30, 1)
        assert np.array_equal(mine, theirs)


# -- on the Keras side -----------------------------------------------------------------


@pytest.mark.parametrize("minibatch_size", (None, 2))
def test_noise_of_ensembles_in_predict(minibatch_size):
    net = noisy()
    items = minibatch_size or 1
    theirs = core(net, 30, items)
    with simulator(net, minibatch_size=minibatch_size) as sim:
        found = sim.predict(n_steps=30)
        assert_close([found[net.output], found[net.current]], theirs)
        sim.run_steps(30)  # as if nothing had happened
        assert_close(data_of(sim, net), theirs)


def test_noise_of_ensembles_in_training():
    net = noisy(nengo.RectifiedLinear())
    with simulator(net, minibatch_size=2) as sim:
        sim.compile("sgd", loss={net.output: "mse"})
        x, y = np.zeros((4, 10, 1)), np.zeros((4, 10, 1))
        first = sim.evaluate(x, {net.output: y}, verbose=0)["loss"]
        again = sim.evaluate(x, {net.output: y}, verbose=0)["loss"]
        losses = sim.fit(x, {net.output: y}, epochs=3, verbose=0).history["loss"]
    assert first == again > 0
    assert len(set(losses)) == 3 and np.isfinite(losses).all()
