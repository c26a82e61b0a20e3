"""Spikes that are made of rates: random numbers, chunks, reset, training."""

import nengo
import numpy as np
import pytest

import nengo_dl
from nengo_dl.kernels.neurons.base import NeuronKernel
from nengo_dl.kernels.neurons.spikes_of_rates import (
    RegularSpikingKernel,
    UniformDraws,
)
from nengo_dl.runtime.numpy.namespace import NumpyNamespace
from tests.kernels.kernel_cases import population
from tests.kernels.kernel_harness import ITEMS, STEPS, Bench, Case, Step

RANDOM = (nengo.StochasticSpiking, nengo.PoissonSpiking)
each_random = pytest.mark.parametrize("kind", RANDOM, ids=lambda kind: kind.__name__)


def at_random(kind, jit=False, base=None, seed=2):
    """A population that fires at random, and its probe."""
    with nengo.Network(seed=seed) as net:
        nengo_dl.configure_settings(jit=jit)
        ens = nengo.Ensemble(15, 1, neuron_type=kind(base or nengo.LIFRate()))
        nengo.Probe(ens.neurons)
    return net


def spikes_of(net, n_steps=(60,), **kwargs):
    """What is probed in runs of so many steps."""
    with nengo_dl.Simulator(net, progress_bar=False, **kwargs) as sim:
        for n in n_steps:
            sim.run_steps(n)
        return sim.data[net.probes[0]]


# -- random numbers --------------------------------------------------------------------


@each_random
def test_items_are_independent_and_the_first_is_that_of_a_single_run(kind):
    net = at_random(kind)
    alone = spikes_of(net)
    items = spikes_of(net, minibatch_size=3)
    assert np.array_equal(items[0], alone)
    assert len({item.tobytes() for item in items}) == 3
    # no item repeats what another one had some steps before
    for lag in range(1, 5):
        assert not np.array_equal(items[0, lag:], items[1, :-lag])
        assert not np.array_equal(items[1, lag:], items[2, :-lag])


@each_random
def test_numbers_do_not_depend_on_how_they_are_drawn(kind):
    expected = spikes_of(at_random(kind), (60,), minibatch_size=2)
    parts = (7, 1, 1, 40, 11)
    for jit in (False, True):
        found = spikes_of(at_random(kind, jit), parts, minibatch_size=2)
        assert np.array_equal(found, expected)


@each_random
def test_reset_begins_anew(kind):
    net = at_random(kind)
    with nengo_dl.Simulator(net, progress_bar=False, minibatch_size=2) as sim:
        (probe,) = net.probes
        sim.run_steps(50)
        first = sim.data[probe].copy()
        sim.reset()
        sim.run_steps(50)
        assert np.array_equal(sim.data[probe], first)
        sim.run_steps(50)
        assert not np.array_equal(sim.data[probe][:, 50:], first)


@each_random
def test_the_seed_of_the_network_makes_the_numbers(kind):
    first = spikes_of(at_random(kind), seed=1)
    assert np.array_equal(spikes_of(at_random(kind), seed=2), first)
    with nengo.Network(seed=3) as net:
        ens = nengo.Ensemble(
            15, 1, neuron_type=kind(nengo.LIFRate()), gain=[1] * 15, bias=[5] * 15
        )
        same = nengo.Ensemble(
            15, 1, neuron_type=kind(nengo.LIFRate()), gain=[1] * 15, bias=[5] * 15
        )
        a, b = nengo.Probe(ens.neurons), nengo.Probe(same.neurons)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(50)
    assert not np.array_equal(sim.data[a], sim.data[b])


@each_random
def test_the_model_is_left_as_it_is(kind):
    model = nengo.builder.Model()
    model.build(at_random(kind))
    (op,) = [op for op in model.operators if getattr(op, "state_extra", None)]
    before = op.state_extra["rng"].get_state()
    host = UniformDraws(op, 0.001)
    host.reset([None] * 3)
    drawn = host.draw([0.001, 0.002])
    assert drawn.shape == (2, 3, 15) and 0 <= drawn.min() and drawn.max() < 1
    after = op.state_extra["rng"].get_state()
    assert after[2] == before[2] and np.array_equal(after[1], before[1])
    # what is drawn first is what the generator itself would give
    assert np.array_equal(drawn[0, 0], op.state_extra["rng"].random_sample(15))


def test_numbers_can_be_taken_back():
    model = nengo.builder.Model()
    model.build(at_random(nengo.StochasticSpiking))
    (op,) = [op for op in model.operators if getattr(op, "state_extra", None)]
    host = UniformDraws(op, 0.001)
    host.reset([None] * 2)
    host.advance(0.001)
    kept = host.snapshot()
    single = host.advance(0.002)
    host.restore(kept)
    assert np.array_equal(host.draw([0.002])[0], single)
    host.restore(kept)
    columns = host.attempt([np.full((1, 4), 0.002)])[0]
    assert columns.shape == (15, 4) and np.array_equal(columns[:, :2].T, single)


@each_random
def test_predict_draws_too(kind):
    with nengo.Network(seed=1) as net:
        inp = nengo.Node([0.5])
        ens = nengo.Ensemble(10, 1, neuron_type=kind(nengo.RectifiedLinear()))
        nengo.Connection(inp, ens, synapse=None)
        probe = nengo.Probe(ens.neurons)
    data = np.full((2, 30, 1), 0.5)
    with nengo_dl.Simulator(net, progress_bar=False, minibatch_size=2) as sim:
        found = sim.predict({inp: data})[probe]
        sim.run_steps(30, data={inp: data})
        assert found.any() and np.array_equal(found, sim.data[probe])


# -- training --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", (*RANDOM, nengo.RegularSpiking))
def test_training_passes_rates_on(kind, allclose):
    neurons = kind(nengo.LIFRate(), amplitude=0.5)
    bench = Bench()

    def build(bench, variant):
        rates = bench.feed(values=bench.rng.uniform(0, 400, (ITEMS, STEPS, 6)))
        population_with_numbers(bench, neurons, rates)

    bench.build(Case("spikes", build), 0)
    step = Step(bench, ITEMS, training=True)
    assert not step.runs_ahead and type(NeuronKernel.of(neurons)) not in step.kernels()
    (signal,) = bench.data
    rates = bench.data[signal][:, 3].T
    carry, given = step.carry("float64"), step.inputs("float64", {signal: rates})
    _, y = step.function(NumpyNamespace("float64"), carry, given, [])
    assert allclose(step.watched(y)[0], 0.5 * rates, rtol=1e-12, atol=0)


def population_with_numbers(bench, neurons, rates):
    """A population, with a generator if its type asks for one."""
    if isinstance(neurons, RANDOM):
        output = bench.signal(rates.shape)
        state = {"rng": np.random.RandomState(0)}
        bench.add(nengo.builder.neurons.SimNeurons(neurons, rates, output, state=state))
        bench.watch(output)
    else:
        population(bench, neurons, rates)


# -- finding a kernel ------------------------------------------------------------------


def test_base_types_may_be_subclasses_or_unknown(allclose):
    class Renamed(nengo.LIFRate):
        pass

    class Unknown(nengo.neurons.NeuronType):
        def step(self, dt, J, output):
            output[...] = 50 * np.maximum(J, 0)

        def gain_bias(self, max_rates, intercepts):
            return np.ones(len(max_rates)), np.ones(len(max_rates))

    class Mine(nengo.RegularSpiking):
        pass

    assert isinstance(NeuronKernel.of(Mine(nengo.LIFRate())), RegularSpikingKernel)
    for base, warns in ((Renamed(), False), (Unknown(), True)):
        with nengo.Network(seed=1) as net:
            nengo_dl.configure_settings(dtype="float64")
            ens = nengo.Ensemble(15, 1, neuron_type=Mine(base))
            probe = nengo.Probe(ens.neurons)
        with nengo.Simulator(net, progress_bar=False) as core:
            core.run_steps(40)
        if warns:
            with pytest.warns(UserWarning, match="Unknown"):
                found = spikes_of(net, (40,))
        else:
            found = spikes_of(net, (40,))
        assert core.data[probe].any() and allclose(found, core.data[probe], atol=0)
