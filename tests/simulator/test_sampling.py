"""Probes with ``sample_every``, and those that keep their last step alone."""

import nengo
import numpy as np
import pytest

import nengo_dl
from nengo_dl.compiler.layout import looking_at
from nengo_dl.runtime import executor as contract
from nengo_dl.runtime import stepwise
from nengo_dl.runtime.executor import Sampling, executors
from nengo_dl.runtime.native.executor import NativeExecutor
from nengo_dl.runtime.numpy import costs as numpy_costs
from nengo_dl.runtime.program import Specialization
from nengo_dl.runtime.tensorflow import costs as tensorflow_costs

PERIODS = (2, 7.3, 10, 64, 1000)


@pytest.fixture
def sampled_always(monkeypatch):
    """Also small probes are read at their samples only."""
    for costs in (numpy_costs, tensorflow_costs):
        monkeypatch.setattr(costs, "SAMPLE_SECONDS", 0.0)
    monkeypatch.setattr(contract, "LEAST_BYTES", 1)


def network(periods=PERIODS, jit=False, rule=True, dtype="float64", **settings):
    """Three probes for each period, and one that is read in each step."""
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(jit=jit, dtype=dtype, **settings)
        node = nengo.Node(nengo.processes.WhiteSignal(0.5, high=5, seed=1))
        pre, post = nengo.Ensemble(10, 1), nengo.Ensemble(8, 1)
        nengo.Connection(node, pre)
        learned = nengo.Connection(
            pre.neurons,
            post.neurons,
            transform=np.full((8, 10), 1e-3),
            learning_rule_type=nengo.BCM(1e-6) if rule else None,
        )
        for period in periods:
            every = None if period is None else period * 0.001
            nengo.Probe(learned, "weights", sample_every=every)
            nengo.Probe(post, synapse=0.01, sample_every=every)
            nengo.Probe(post.neurons, "voltage", sample_every=every)
        nengo.Probe(pre, synapse=0.02)
    return net


def in_core(net, n_steps):
    with nengo.Simulator(net, progress_bar=False, optimize=False) as sim:
        sim.run_steps(n_steps)
        return {probe: sim.data[probe].copy() for probe in net.all_probes}


def assert_as_core(sim, expected, allclose, item=None):
    for probe, data in expected.items():
        found = sim.data[probe] if item is None else sim.data[probe][item]
        assert found.shape == data.shape, probe
        assert allclose(found, data, atol=1e-9, rtol=1e-7), probe


@pytest.mark.parametrize("jit", (False, True))
@pytest.mark.parametrize("rule", (False, True))
def test_samples_are_those_of_core(jit, rule, sampled_always, allclose):
    net = network(jit=jit, rule=rule)
    expected = in_core(net, 1100)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        for n_steps in (1, 6, 40, 953, 100):
            sim.run_steps(n_steps)
        executor = sim._program._executors[sim._program._active]
        assert executor.sampling.periods
        assert_as_core(sim, expected, allclose)


@pytest.mark.parametrize("jit", (False, True))
def test_each_item_of_a_batch_has_its_samples(jit, sampled_always, allclose):
    net = network((3, 20), jit=jit)
    expected = in_core(net, 70)
    with nengo_dl.Simulator(net, minibatch_size=3, progress_bar=False) as sim:
        sim.run_steps(70)
        for item in range(3):
            assert_as_core(sim, expected, allclose, item)


def test_single_steps_have_samples(sampled_always, allclose):
    net = network((3, 7.3))
    expected = in_core(net, 40)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        for _ in range(20):
            sim.step()
        sim.run_steps(5)
        for _ in range(15):
            sim.step()
        assert_as_core(sim, expected, allclose)


def test_written_weights_and_reset(sampled_always, allclose):
    net = network((4,), rule=False)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(30)
        sim._program.written()
        sim.run_steps(30)
        first = {probe: sim.data[probe].copy() for probe in net.all_probes}
        assert_as_core(sim, in_core(net, 60), allclose)
        sim.reset()
        sim.run_steps(60)
        for probe, data in first.items():
            assert allclose(sim.data[probe], data, atol=1e-9)


def test_only_sampled_probes(sampled_always, allclose):
    for jit in (False, True):
        with nengo.Network(seed=0) as net:
            nengo_dl.configure_settings(jit=jit, dtype="float64")
            ens = nengo.Ensemble(5, 1)
            nengo.Probe(ens, synapse=0.01, sample_every=0.01)
        expected = in_core(net, 95)
        with nengo_dl.Simulator(net, progress_bar=False) as sim:
            sim.run_steps(95)
            assert_as_core(sim, expected, allclose)


def test_networks_without_state(sampled_always, allclose):
    for jit in (False, True):
        with nengo.Network(seed=0) as net:
            nengo_dl.configure_settings(jit=jit, dtype="float64")
            node = nengo.Node(np.sin)
            ens = nengo.Ensemble(5, 1, neuron_type=nengo.Tanh())
            nengo.Connection(node, ens, synapse=None)
            nengo.Probe(ens, sample_every=0.005)
            nengo.Probe(ens.neurons, synapse=None)
        expected = in_core(net, 95)
        with nengo_dl.Simulator(net, progress_bar=False) as sim:
            sim.run_steps(95)
            assert_as_core(sim, expected, allclose)


def test_functions_are_called_in_every_step(sampled_always, allclose):
    calls = []
    for jit in (False, True):
        with nengo.Network(seed=0) as net:
            nengo_dl.configure_settings(jit=jit, dtype="float64")
            node = nengo.Node(lambda t: t)
            recorder = nengo.Node(lambda t, x: calls.append(t) or 2 * x, size_in=1)
            nengo.Connection(node, recorder, synapse=0.01)
            nengo.Probe(recorder, sample_every=0.01)
        expected = in_core(net, 45)
        calls.clear()
        with nengo_dl.Simulator(net, progress_bar=False) as sim:
            calls.clear()
            sim.run_steps(45)
            assert len(calls) == 45
            assert_as_core(sim, expected, allclose)


def test_a_failure_leaves_the_samples_before_it(sampled_always, allclose):
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(jit=False, dtype="float64")

        def fails(t, x):
            if failing and round(t * 1000) == 38:
                raise ZeroDivisionError
            return x

        failing = []
        node = nengo.Node(lambda t: t)
        inside = nengo.Node(fails, size_in=1)
        nengo.Connection(node, inside, synapse=0.01)
        nengo.Probe(inside, sample_every=0.005)
        nengo.Probe(inside)
    expected = in_core(net, 60)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        failing.append(1)
        with pytest.raises(ZeroDivisionError):
            sim.run_steps(60)
        assert sim.n_steps == 37
        assert [len(sim.data[probe]) for probe in net.all_probes] == [7, 37]
        failing.clear()
        sim.run_steps(23)
        assert_as_core(sim, expected, allclose)


@pytest.mark.parametrize("jit", (False, True))
def test_the_last_step_alone(jit, sampled_always, allclose):
    net = network((None, 7), jit=jit)
    expected = in_core(net, 100)
    with net:
        nengo_dl.configure_settings(keep_history=False)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(40)
        sim.run_steps(58)  # ends with a sample
        assert sim.n_steps == 98
        sim.run_steps(2)  # has none
        for probe, data in expected.items():
            assert allclose(sim.data[probe], data[-1:], atol=1e-9)


def test_what_is_held_is_bounded_by_bytes(monkeypatch, sampled_always):
    net = network((None, 2))
    for executor in (stepwise.StepwiseExecutor, NativeExecutor):
        monkeypatch.setattr(executor, "chunk_bytes", 20_000)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        most = 0
        for seen in sim._program.run(0, 100):
            most = max(most, sum(rows.nbytes for rows, _, _ in seen.parts))
    assert 5_000 < most < 30_000


def test_a_large_probe_is_left_out_and_a_small_one_is_not():
    def choose(name, n_bytes, period):
        return executors.find(name).reads_samples_only(n_bytes, period)

    assert choose("numpy", 640_000, 1000) and choose("tensorflow", 640_000, 1000)
    assert choose("numpy", 640_000, 2) and choose("tensorflow", 640_000, 2)
    assert not choose("numpy", 4, 1000) and not choose("tensorflow", 4, 1000)
    assert not choose("numpy", 640_000, 1) and not choose("staged", 640_000, 1000)
    assert not choose("numpy", 4, float("inf"))


def test_the_step_between_samples_does_less():
    net = network((1000,))
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        layout = sim._program.layout(Specialization(), fused=True)
        keys = [key for key, _, shape in layout.probes if shape == (1,)]
        less = looking_at(layout, keys)
    assert less.n_probed == 2 < layout.n_probed
    assert less.carry == layout.carry


@pytest.mark.parametrize("period", (*PERIODS, 2.5, 1.0001))
def test_samples_are_steps_of_the_period(period):
    steps = np.arange(4000, 14000)
    expected = steps[steps % period < 1].tolist()
    found = Sampling({"p": period}).samples(3999, 10000)
    assert [step for step, _ in found] == expected
    last = Sampling({"p": period}, {"p"}).samples(3999, 10000)
    assert [step for step, _ in last] == expected[-1:]
