"""Neuron types of ``nengo_loihi``: found by name, as core runs them, and trained."""

import copy
import sys

import keras
import nengo
import numpy as np
import pytest
import tensorflow as tf

import nengo_dl
from nengo_dl import notices, surrogates
from nengo_dl.kernels.neurons.base import NeuronKernel, neuron_kernels
from nengo_dl.kernels.neurons.loihi import LoihiLIFKernel, on_chip
from tests.kernels.loihi_types import LoihiLIF, LoihiSpikingRectifiedLinear

TYPES = (
    LoihiLIF(),
    LoihiLIF(tau_rc=0.013, tau_ref=0.0034, min_voltage=-0.5, amplitude=0.5),
    LoihiLIF(tau_ref=0),
    LoihiSpikingRectifiedLinear(),
    LoihiSpikingRectifiedLinear(amplitude=2),
)
each_type = pytest.mark.parametrize("neuron_type", TYPES, ids=str)


def channel(neuron_type, **settings):
    """Two populations in a loop."""
    with nengo.Network(seed=1) as net:
        nengo_dl.configure_settings(dtype="float64", **settings)
        net.config[nengo.Ensemble].max_rates = nengo.dists.Uniform(100, 200)
        inp = nengo.Node(lambda t: [np.sin(30 * t), np.cos(20 * t)])
        a = nengo.Ensemble(30, 2, neuron_type=neuron_type)
        b = nengo.Ensemble(25, 2, neuron_type=neuron_type)
        nengo.Connection(inp, a, synapse=0.005)
        nengo.Connection(a, b, synapse=0.005)
        nengo.Connection(b, a, transform=0.5, synapse=0.01)
        for ensemble in (a, b):
            nengo.Probe(ensemble.neurons)
            nengo.Probe(ensemble.neurons, "voltage")
    return net


@each_type
@pytest.mark.parametrize("jit, dt", ((False, 0.001), (False, 0.0004), (True, 0.001)))
def test_equals_core_spike_for_spike(neuron_type, jit, dt, allclose, recwarn):
    net = channel(neuron_type, jit=jit)
    with nengo.Simulator(net, dt=dt, progress_bar=False) as core:
        core.run_steps(200)
    with nengo_dl.Simulator(net, dt=dt, progress_bar=False) as sim:
        sim.run_steps(200)
    for spikes, voltage in zip(net.probes[::2], net.probes[1::2], strict=True):
        assert np.count_nonzero(core.data[spikes]) > 20
        assert np.array_equal(sim.data[spikes], core.data[spikes])
        assert allclose(sim.data[voltage], core.data[voltage], atol=1e-12)
    assert not [w for w in recwarn if "native form" in str(w.message)]


def test_kernels_are_found_by_name_alone():
    assert "nengo_loihi" not in sys.modules
    assert isinstance(NeuronKernel.of(LoihiLIF()), LoihiLIFKernel)
    another = type("LoihiLIF", (LoihiLIF,), {"__module__": "somewhere.else"})
    assert NeuronKernel.of(another()) is NeuronKernel.of(LoihiLIF())
    own = type("Own", (LoihiLIF,), {"step": lambda self, dt, J, output, **state: None})
    assert NeuronKernel.of(own()) is None
    assert isinstance(NeuronKernel.of(nengo.LIF()), type(neuron_kernels.exact(nengo.LIF)))


def test_hooks_of_other_packages_are_remembered():
    builders = nengo_dl.neuron_builders
    known = builders.SimNeuronsBuilder.TF_NEURON_IMPL
    LoihiLIF()
    assert known[LoihiLIF] is builders.LIFBuilder
    names = [name for name in vars(builders) if name.endswith("Builder")]
    assert "SimNeuronsBuilder" in names
    for name in names:
        with pytest.raises(TypeError, match="NengoDL 3 .* subclass of .*NeuronKernel"):
            getattr(builders, name)([], None, None)


def test_time_constants_are_those_of_the_chip(allclose):
    given = {
        "tau_rc": np.array([0.02, 1e-5, 1e3]),
        "tau_ref": np.array([0.0024, 0, 3e-4]),
    }
    found = on_chip(given, 0.001)
    assert allclose(found["tau_ref"], [0.002, 0, 0])
    # nothing is left of a voltage after a step, or all of it
    assert np.exp(-0.001 / found["tau_rc"][0]) * 4095 == pytest.approx(3895)
    assert found["tau_rc"][1] == 0 and np.isinf(found["tau_rc"][2])


# -- training --------------------------------------------------------------------------


def layer(neuron_type, **settings):
    """Neurons with currents of their own."""
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(dtype="float64", **settings)
        inp = nengo.Node(np.zeros(40), label="currents")
        ens = nengo.Ensemble(
            40,
            1,
            neuron_type=copy.copy(neuron_type),
            gain=nengo.dists.Choice([1]),
            bias=nengo.dists.Choice([0]),
        )
        nengo.Connection(inp, ens.neurons, synapse=None)
        nengo.Probe(ens.neurons, label="rates")
    return net, ens


def trained_bias(neuron_type, current, **settings):
    """By how much a step of descent of the sum of outputs moves each neuron's bias."""
    net, ens = layer(neuron_type, **settings)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.compile(keras.optimizers.SGD(1.0), loss=lambda y, x: tf.reduce_sum(x))
        target = np.zeros((1, 1, 40))
        before = sim.evaluate(current[None, None], target, verbose=0)["loss"]
        loss = sim.fit(current[None, None], target, verbose=0).history["loss"][0]
        return -sim.data[ens].bias, loss, before


@each_type
def test_trains_rates_in_whole_steps_with_the_gradient_of_rates(neuron_type, allclose):
    current = np.concatenate([np.linspace(-1, 4, 39), [1500]])
    lif = isinstance(neuron_type, nengo.LIF)
    expected = neuron_type.rates(current[None].T, 1, 0)
    moved, loss, _ = trained_bias(neuron_type, current)
    assert loss == pytest.approx(expected.sum(), rel=1e-12)
    values = {"tau_rc": 0.0, "tau_ref": 0.0, "amplitude": neuron_type.amplitude}
    smooth = nengo.RectifiedLinear(neuron_type.amplitude)
    if lif:
        values = {name: np.float64(getattr(neuron_type, name)) for name in values}
        smooth = nengo.LIFRate(**{k: float(v) for k, v in on_chip(values, 1e-3).items()})
    width = 1e-6
    above, below = (
        smooth.rates((current + w)[:, None], 1, 0).ravel() for w in (width, -width)
    )
    safe = np.abs(current - (1 if lif else 0)) > 1e-2
    assert allclose(moved[safe], ((above - below) / 2 / width)[safe], rtol=1e-4)
    assert np.count_nonzero(moved) > 10


def test_other_gradients(allclose):
    """The smooth one of LIF neurons, and a surrogate through spikes."""
    current = np.linspace(-1, 4, 40)
    moved, _, _ = trained_bias(LoihiLIF(), current, lif_smoothing=0.1)
    sharp, _, _ = trained_bias(LoihiLIF(), current)
    just_below = (current > 0.7) & (current < 1)
    assert moved[just_below].all() and not sharp[just_below].any()
    for neuron_type in (LoihiLIF(), LoihiSpikingRectifiedLinear()):
        moved, loss, before = trained_bias(
            neuron_type,
            current,
            spiking_training=True,
            surrogate=surrogates.FastSigmoid(),
        )
        assert loss == before and moved.any()


def test_noise_of_training_is_refused_aloud():
    notices.forget()
    noise = type("Noise", (), {"__repr__": lambda self: "Noise()"})()
    with pytest.warns(UserWarning, match=r"nengo_dl_noise=Noise\(\).*GaussianNoise"):
        trained_bias(LoihiLIF(nengo_dl_noise=noise), np.linspace(0, 4, 40))
