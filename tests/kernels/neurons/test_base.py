"""What neuron kernels share: registration, lowering, merging, the rate form."""

import nengo
import numpy as np
import pytest

from nengo_dl.compiler.layout import WeightRef
from nengo_dl.compiler.pipeline import arrange, compile_model
from nengo_dl.kernels.neurons.base import NeuronKernel, neuron_kernels
from nengo_dl.kernels.neurons.lif import LIFKernel, LIFRateKernel
from nengo_dl.runtime.numpy.namespace import NumpyNamespace
from tests.kernels.kernel_cases import population
from tests.kernels.kernel_gradients import Point, analytic, gradient_errors
from tests.kernels.kernel_harness import (
    ITEMS,
    Bench,
    Case,
    Step,
    assert_equals_core,
    bench_of_network,
    merged,
    trajectory,
)


def populations(*neuron_types, n=6):
    """A bench with a population of each type."""
    bench = Bench(rough=False)
    for number, neuron_type in enumerate(neuron_types):

        def build(bench, variant, neuron_type=neuron_type):
            values = bench.values(ITEMS, 100, n + variant, low=-1, high=8)
            population(bench, neuron_type, bench.feed(values=values))

        bench.build(Case("population", build), number)
    return bench


@pytest.fixture
def own_registry(monkeypatch):
    """Registrations that end with the test."""
    monkeypatch.setattr(neuron_kernels, "_entries", dict(neuron_kernels._entries))


# -- finding a kernel ------------------------------------------------------------------


def test_subclasses_that_change_no_step_have_the_kernel_of_their_base():
    class Renamed(nengo.LIF):
        pass

    kernel = NeuronKernel.of(Renamed())
    assert isinstance(kernel, LIFKernel)
    assert kernel is NeuronKernel.of(nengo.LIF())
    assert_equals_core(populations(Renamed(tau_rc=0.03)))


def test_other_neuron_types_have_none():
    class Leaky(nengo.LIF):
        def step(self, dt, J, output, voltage, refractory_time):
            output[...] = J

    class Unknown(nengo.neurons.NeuronType):
        def step(self, dt, J, output):
            output[...] = J

    assert NeuronKernel.of(Leaky()) is NeuronKernel.of(Unknown()) is None


def test_a_kernel_needs_nothing_but_a_class(own_registry):
    """Subclassing registers; then the type runs, is merged, and has a gradient."""

    class Square(nengo.neurons.NeuronType):
        gain = nengo.params.NumberParam("gain")

        def __init__(self, gain=1.0):
            super().__init__()
            self.gain = gain

        def step(self, dt, J, output):
            output[...] = self.gain * np.maximum(J, 0) ** 2

    class SquareKernel(NeuronKernel):
        """Rate that is the square of the current."""

        neuron_type = Square
        params = ("gain",)

        def step(self, xp, p, current):
            rectified = xp.maximum(current, 0)
            return (p.gain * rectified * rectified,)

    assert SquareKernel.name == "Square" and SquareKernel.vectors == ("gain",)
    assert isinstance(neuron_kernels.exact(Square), SquareKernel)
    bench = populations(Square(0.5), Square(2.0))
    assert merged(bench) == {"Square": [2]}
    assert_equals_core(bench)
    point = Point.of(bench)
    assert max(gradient_errors(point, analytic(point, fast=True))) < 1e-6


def test_subclasses_without_a_type_are_not_registered(own_registry):
    before = len(neuron_kernels)

    class Between(NeuronKernel):
        """A base of other kernels."""

    assert len(neuron_kernels) == before
    assert Between.neuron_type is None


# -- parameters ------------------------------------------------------------------------


def test_values_are_one_per_neuron(allclose):
    values = LIFKernel().values(nengo.LIF(0.03, 0.004, amplitude=2), 5)
    assert set(values) == set(LIFKernel.params)
    assert allclose(values["tau_rc"], np.full(5, 0.03))
    assert allclose(values["amplitude"], np.full(5, 2.0))
    assert {v.dtype.name for v in values.values()} == {"float64"}


def test_equal_parameters_are_numbers_and_others_columns():
    def parameters(*neuron_types):
        bench = populations(*neuron_types)
        layout = arrange(compile_model(bench.model, bench.options()).graph, fused=True)
        (group,) = [g for g in layout.loop.groups if isinstance(g.kernel, LIFKernel)]
        return group.params

    p = parameters(nengo.LIF(0.02, 0.002), nengo.LIF(0.02, 0.002))
    assert p["tau_rc"] == 0.02 and p["groups"] == 2
    p = parameters(nengo.LIF(0.02, 0.002), nengo.LIF(0.03, 0.002))
    assert isinstance(p["tau_rc"], WeightRef) and p["tau_ref"] == 0.002


def test_neurons_of_one_type_are_merged_whatever_their_parameters():
    bench = populations(
        nengo.LIF(0.02), nengo.Tanh(), nengo.LIF(0.05, amplitude=3), nengo.LIFRate(0.1)
    )
    assert merged(bench) == {"LIF": [2], "Tanh": [1], "LIFRate": [1]}
    assert_equals_core(bench)


def test_more_neurons_than_the_merge_limit_run_alone(monkeypatch):
    monkeypatch.setattr(LIFKernel, "merge_limit", 6)
    bench = populations(nengo.LIF(0.02), nengo.LIF(0.05), nengo.LIF(0.04), n=5)
    assert merged(bench) == {"LIF": [1, 2]}  # of five, six and seven
    assert_equals_core(bench)


def test_initial_states(allclose):
    start = {
        "voltage": nengo.dists.Uniform(0.2, 0.9),
        "refractory_time": nengo.dists.Choice([0.0, 0.0015, 0.01]),
    }
    with nengo.Network(seed=1) as net:
        ens = nengo.Ensemble(
            30, 1, neuron_type=nengo.LIF(initial_state=start), max_rates=[200] * 30
        )
        nengo.Connection(nengo.Node(0.3), ens)
        nengo.Probe(ens.neurons)
        nengo.Probe(ens.neurons, "voltage")
        nengo.Probe(ens.neurons, "refractory_time")
    bench = bench_of_network(net)
    core = trajectory(bench)[0]
    assert core[0].any() and np.ptp(core[1][0]) > 0.3
    assert_equals_core(bench)
    assert_equals_core(bench, "jitted")


# -- training --------------------------------------------------------------------------


SPIKING = (nengo.LIF(0.03, 0.001, amplitude=2), nengo.SpikingRectifiedLinear(3))


@pytest.mark.parametrize("neuron_type", SPIKING, ids=lambda n: type(n).__name__)
def test_training_runs_the_rate_form(neuron_type, allclose):
    bench = populations(neuron_type)
    kernel = NeuronKernel.of(neuron_type)
    step = Step(bench, ITEMS, training=True)
    assert {type(k) for k in step.kernels()} == {kernel.rate_form}
    (x,) = bench.data
    current = bench.data[x][:, 7].T
    xp = NumpyNamespace("float64")
    given = step.inputs("float64", {x: current})
    carry, y = step.function(xp, step.carry("float64"), given, step.weights("float64"))
    rates = neuron_type.rates(current.T, np.ones(6), np.zeros(6)).T
    assert np.ptp(rates) > 10
    assert allclose(step.watched(y)[0], rates, rtol=1e-12, atol=0)
    before = step.carry("float64")
    assert all(allclose(a, b, atol=0) for a, b in zip(carry, before, strict=True))


def test_rate_neurons_train_as_they_are():
    for neuron_type in (nengo.LIFRate(), nengo.Tanh(), nengo.Sigmoid()):
        bench = populations(neuron_type)
        kinds = [
            {type(k) for k in Step(bench, 1, training=training).kernels()}
            for training in (False, True)
        ]
        assert kinds[0] == kinds[1] == {type(NeuronKernel.of(neuron_type))}


def test_rate_forms_have_known_state_and_parameters():
    for _, kernel in neuron_kernels.items():
        if kernel.rate_form is not None:
            assert set(kernel.rate_form.state) < set(kernel.state)
            assert set(kernel.rate_form.params) <= set(kernel.params)
        assert kernel.materialize == NeuronKernel.materialize
    assert LIFKernel.rate_form is LIFRateKernel
