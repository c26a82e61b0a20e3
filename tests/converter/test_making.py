import keras
import nengo
import numpy as np
import pytest
from keras import layers

import nengo_dl
from nengo_dl.converter.connections import TiedConnection

from .models import outputs_of, randomized, verified


def two_layers(rng):
    inputs = keras.Input((4,))
    x = layers.Dense(20, activation="relu", name="hidden")(inputs)
    return randomized(keras.Model(inputs, layers.Dense(2, name="out")(x)), rng)


@pytest.mark.parametrize(
    "neurons",
    [
        nengo.SpikingRectifiedLinear(),
        nengo.RegularSpiking(nengo.RectifiedLinear(), amplitude=1),
        nengo.PoissonSpiking(nengo.RectifiedLinear()),
        nengo.StochasticSpiking(nengo.RectifiedLinear()),
    ],
    ids=lambda neurons: type(neurons).__name__,
)
def test_scaled_rates_give_the_same_output(neurons, rng):
    model = two_layers(rng)
    converter = nengo_dl.Converter(
        model,
        swap_activations={"relu": neurons},
        scale_firing_rates={"hidden": 5000},
        synapse=0.05,
    )
    x = rng.uniform(size=(3, 4)).astype("float32")
    (found,) = outputs_of(converter, x, n_steps=300)
    expected = model.predict(x, verbose=0)
    error = np.abs(found[:, 150:].mean(axis=1) - expected)
    assert np.max(error) < 0.1 * np.ptp(expected)


def test_scaling_is_exact_for_rates(rng):
    model = two_layers(rng)
    converter = nengo_dl.Converter(model, scale_firing_rates=100)
    assert converter.verify(atol=1e-5)
    (scale,) = converter.scales.values()
    assert scale == 100
    assert converter.verify(training=True, atol=1e-5)


def test_warning_where_scaling_changes_the_output(rng):
    model = two_layers(rng)
    with pytest.warns(UserWarning, match="is not proportional to its input"):
        nengo_dl.Converter(
            model, swap_activations={"relu": nengo.LIF()}, scale_firing_rates=2
        )
    inputs = keras.Input((4,))
    squashed = keras.Model(inputs, layers.Dense(2, activation="sigmoid")(inputs))
    with pytest.warns(UserWarning, match="has no amplitude"):
        converter = nengo_dl.Converter(squashed, scale_firing_rates=2)
    assert converter.verify(atol=1e-6)


def test_parameters_go_from_rates_to_scaled_spikes(rng, tmp_path, allclose):
    model = two_layers(rng)
    x = rng.uniform(size=(2, 1, 4))
    rates = nengo_dl.Converter(model)
    with nengo_dl.Simulator(rates.net, minibatch_size=2, progress_bar=False) as sim:
        sim.compile("sgd", loss="mse")
        sim.fit(x, np.ones((2, 1, 2)), verbose=0)
        sim.save_params(tmp_path / "params.npz")
        trained = sim.predict(x, verbose=0)[rates.outputs["out"]]
    spikes = nengo_dl.Converter(
        model,
        swap_activations={"relu": nengo.SpikingRectifiedLinear()},
        scale_firing_rates=2000,
        synapse=nengo.Alpha(0.01),
    )
    with nengo_dl.Simulator(spikes.net, minibatch_size=2, progress_bar=False) as sim:
        sim.load_params(tmp_path / "params.npz")
        found = sim.predict(np.tile(x, (1, 100, 1)), verbose=0)[spikes.outputs["out"]]
    assert allclose(found[:, -1:], trained, atol=0.05)
    assert not np.allclose(trained[:, 0], model.predict(x[:, 0], verbose=0), atol=0.05)


def test_synapses_are_on_what_comes_out_of_neurons(rng):
    inputs = keras.Input((4,))
    hidden = layers.Dense(3, activation="relu")(inputs)
    model = keras.Model(inputs, [layers.Dense(2)(hidden), hidden])
    net = nengo_dl.Converter(model, synapse=0.1).net
    filtered = [c for c in net.all_connections if c.synapse == nengo.Lowpass(0.1)]
    assert [c.post_obj.size_in for c in filtered] == [2]
    assert [p.synapse for p in net.all_probes] == [None, nengo.Lowpass(0.1)]


def shared(rng):
    inputs = keras.Input((3,))
    layer = layers.Dense(3, activation="tanh", name="layer")
    return randomized(keras.Model(inputs, layer(layer(inputs))), rng)


def test_shared_weights_stay_shared(rng):
    converter = verified(shared(rng), rng)
    tied = [c for c in converter.net.connections if isinstance(c, TiedConnection)]
    assert len(tied) == 1


def test_shared_weights_can_be_split(rng):
    converter = nengo_dl.Converter(shared(rng), split_shared_weights=True)
    assert converter.verify(atol=1e-6)
    with pytest.raises(ValueError, match="after training"):
        converter.verify(training=True, atol=1e-6)
    with nengo_dl.Simulator(converter.net, progress_bar=False) as sim:
        sizes = [v.shape.num_elements() for v in sim.keras_model.trainable_weights]
    assert sum(sizes) == 2 * (3 * 3 + 3)


def test_runs_in_core_nengo(rng, allclose):
    model = two_layers(rng)
    converter = nengo_dl.Converter(model)
    x = rng.uniform(size=4)
    node = converter.inputs[model.input]
    node.output = x
    with nengo.Simulator(converter.net, progress_bar=False) as sim:
        sim.step()
    expected = model.predict(x[None], verbose=0)
    assert allclose(sim.data[converter.outputs[model.output]], expected, atol=1e-6)


def test_factors_of_each_layer(rng):
    """By layer and by name, inside of models and of other layers; exact for rates."""
    inner = keras.Sequential(
        [keras.Input((4,)), layers.Dense(3, activation="relu", name="inside")]
    )
    inputs = keras.Input((2, 4))
    x = layers.TimeDistributed(inner)(inputs)
    x = layers.LeakyReLU(0.3, name="leaky")(layers.Dense(3)(x))
    model = keras.Model(inputs, layers.Dense(2, activation="relu", name="out")(x))
    factors = {inner.get_layer("inside"): 10, "leaky": 200}
    converter = nengo_dl.Converter(randomized(model, rng), scale_firing_rates=factors)
    found = {n.ensemble.label: scale for n, scale in converter.scales.items()}
    assert found["leaky"] == 200 and found["out"] == 1
    assert {scale for label, scale in found.items() if "inside" in label} == {10}
    assert converter.verify(atol=1e-5)
    assert converter.verify(training=True, atol=1e-5)


def test_regular_spikes_are_those_of_the_wrapped_type(rng, allclose):
    """A wrapper's amplitude is divided, and the rate of what it wraps is scaled."""
    model = two_layers(rng)
    x = rng.uniform(size=(3, 4)).astype("float32")
    spikes = []
    for neurons in (
        nengo.SpikingRectifiedLinear(),
        nengo.RegularSpiking(nengo.RectifiedLinear()),
    ):
        converter = nengo_dl.Converter(
            model, swap_activations={"relu": neurons}, scale_firing_rates=150
        )
        (ensemble,) = (e for e in converter.net.ensembles if e.label == "hidden")
        assert np.isclose(ensemble.neuron_type.amplitude, 1 / 150)
        (found,) = outputs_of(converter, x, n_steps=200)
        spikes.append(found.mean(axis=1))
    assert np.ptp(spikes[0]) > 0.5
    assert allclose(spikes[0], spikes[1], atol=0.15)


def test_one_number_for_all_neurons_is_stored_once():
    """Gains, biases, encoders and what follows from them, however large a layer is."""
    inputs = keras.Input((8, 8, 1))
    outputs = keras.layers.Conv2D(32, 3, padding="same", activation="relu")(inputs)
    model = keras.Model(inputs, outputs)
    activations = {keras.activations.relu: nengo.RectifiedLinear()}
    net = nengo_dl.Converter(model, swap_activations=activations).net
    (layer,) = (ens for ens in net.ensembles if ens.n_neurons == 2048)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        built = sim.model.params[layer]
        assert len(built.eval_points) < layer.n_neurons
        for name in ("gain", "max_rates", "intercepts", "encoders"):
            assert getattr(built, name).strides[0] == 0, name
            shown = getattr(sim.data[layer], name)
            assert shown.shape[0] == layer.n_neurons and len(np.unique(shown)) == 1
