"""Networks of each neuron type against core Nengo."""

import nengo
import numpy as np
import pytest

import nengo_dl
from nengo_dl.kernels.neurons.base import NeuronKernel
from nengo_dl.neurons import ClippedReLU, LeakyReLU, SoftLIFRate, SpikingLeakyReLU

#: whose numbers are not core's
NOT_CORES = (nengo.PoissonSpiking,)

TYPES = (
    nengo.AdaptiveLIFRate(tau_n=0.1, inc_n=0.02),
    nengo.AdaptiveLIF(tau_n=0.1, inc_n=0.02),
    nengo.Izhikevich(),
    nengo.RegularSpiking(nengo.LIFRate()),
    nengo.RegularSpiking(nengo.Tanh(), amplitude=0.5),
    nengo.StochasticSpiking(nengo.AdaptiveLIFRate(tau_n=0.1), amplitude=2),
    nengo.StochasticSpiking(nengo.Tanh()),
    SoftLIFRate(sigma=0.3),
    LeakyReLU(0.2, amplitude=2),
    ClippedReLU(150, amplitude=0.5),
    nengo.RegularSpiking(ClippedReLU(150)),
    SpikingLeakyReLU(0.2, amplitude=2),
    nengo.RegularSpiking(LeakyReLU()),
)


def driven(neuron_type, **settings):
    """Two populations of a type that merge, with all that can be probed of one."""
    options = {}
    if isinstance(neuron_type, nengo.Izhikevich):
        # with negative currents and steps of 1 ms, Euler's method is unstable; and to
        # find gains and decoders, a long simulation is run for each point
        options = {"gain": nengo.dists.Choice([5]), "bias": nengo.dists.Choice([15])}
        options["n_eval_points"] = 30
    with nengo.Network(seed=4) as net:
        nengo_dl.configure_settings(dtype="float64", **settings)
        for name, value in options.items():
            setattr(net.config[nengo.Ensemble], name, value)
        inp = nengo.Node(lambda t: np.sin(20 * t + np.arange(2)))
        a = nengo.Ensemble(20, 2, neuron_type=neuron_type)
        b = nengo.Ensemble(25, 2, neuron_type=neuron_type)
        nengo.Connection(inp, a)
        nengo.Connection(a, b, synapse=0.01)
        nengo.Probe(b.neurons)
        nengo.Probe(b, synapse=0.02)
        for name in neuron_type.probeable:
            nengo.Probe(a.neurons, name)
    return net


def concrete_types():
    """All neuron types that Nengo exports and that an ensemble can be simulated with."""
    abstract = {
        nengo.neurons.NeuronType,
        nengo.neurons.RatesToSpikesNeuronType,
        nengo.Direct,
    }
    found = [t for t in vars(nengo.neurons).values() if isinstance(t, type)]
    return [
        t for t in found if issubclass(t, nengo.neurons.NeuronType) and t not in abstract
    ]


def test_all_neuron_types_of_nengo_have_a_kernel():
    found = concrete_types()
    assert len(found) >= 12 and nengo.Izhikevich in found
    for kind in found:
        makes_spikes = issubclass(kind, nengo.neurons.RatesToSpikesNeuronType)
        neurons = kind(nengo.LIFRate()) if makes_spikes else kind()
        kernel = NeuronKernel.of(neurons)
        assert kernel is not None and kernel.neuron_type is kind


def test_here_are_all_types_but_those_with_networks_elsewhere():
    elsewhere = (nengo.LIF, nengo.LIFRate, nengo.Sigmoid, nengo.Tanh)
    elsewhere += (nengo.RectifiedLinear, nengo.SpikingRectifiedLinear)
    tested = {type(neurons) for neurons in TYPES}
    assert set(concrete_types()) - tested == {*elsewhere, *NOT_CORES}


@pytest.mark.parametrize("neuron_type", TYPES, ids=str)
@pytest.mark.parametrize("minibatch_size, jit", ((None, False), (3, True)))
def test_equals_core(neuron_type, minibatch_size, jit, allclose):
    net = driven(neuron_type, jit=jit)
    # Nengo's optimizer lets populations share random numbers
    with nengo.Simulator(net, progress_bar=False, optimize=False) as core:
        core.run_steps(150)
    with nengo_dl.Simulator(
        net, progress_bar=False, minibatch_size=minibatch_size
    ) as sim:
        sim.run_steps(150)
    for probe in net.probes:
        expected = core.data[probe]
        assert expected.any()
        ours = sim.data[probe] if minibatch_size is None else sim.data[probe][0]
        assert allclose(ours, expected, rtol=0, atol=1e-11 * np.abs(expected).max())


STARTS = (
    nengo.AdaptiveLIFRate(initial_state={"adaptation": nengo.dists.Uniform(0, 2)}),
    nengo.AdaptiveLIF(
        initial_state={
            "voltage": nengo.dists.Uniform(0.2, 0.9),
            "refractory_time": nengo.dists.Choice([0.0, 0.0015]),
            "adaptation": nengo.dists.Uniform(0, 2),
        }
    ),
    nengo.Izhikevich(
        initial_state={
            "voltage": nengo.dists.Uniform(-70, -60),
            "recovery": nengo.dists.Uniform(-14, -12),
        }
    ),
    nengo.RegularSpiking(
        nengo.LIFRate(), initial_state={"voltage": nengo.dists.Choice([0.25, 0.5])}
    ),
    SpikingLeakyReLU(initial_state={"voltage": nengo.dists.Uniform(-1, 1)}),
)


@pytest.mark.parametrize("neuron_type", STARTS, ids=lambda n: type(n).__name__)
def test_first_states(neuron_type, allclose):
    net = driven(neuron_type, jit=False)
    with nengo.Simulator(net, progress_bar=False) as core:
        core.run_steps(20)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(20)
    for probe in net.probes:
        scale = np.abs(core.data[probe]).max(initial=1)
        assert allclose(sim.data[probe], core.data[probe], atol=1e-9 * scale)
    states = [p for p in net.probes if p.attr in neuron_type.state]
    assert len(states) == len(neuron_type.state)
    assert any(np.ptp(sim.data[p][0]) > 0 for p in states)
