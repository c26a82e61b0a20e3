"""Firing rates from activations."""

import keras
import nengo
import numpy as np
import pytest
from keras import layers

import nengo_dl
from nengo_dl.converter.calibrate import BATCH, Largest

from .models import outputs_of, randomized


@pytest.mark.parametrize("percentile", [0.1, 50, 99.9, 100])
@pytest.mark.parametrize("count", [1, 7, 1000])
def test_percentiles_of_numbers_in_parts(count, percentile, rng, allclose):
    numbers = rng.uniform(size=count)
    largest = Largest(count, percentile)
    for part in np.array_split(numbers, 5):
        largest.add(part)
    assert allclose(largest.percentile(), np.percentile(numbers, percentile))
    assert largest.kept.size <= count * (1 - percentile / 100) + 2


def test_calibration(rng):
    inputs = keras.Input((3,))
    shared = layers.Dense(4, activation="relu", name="shared")
    x = shared(layers.Dense(3, activation="relu", name="first")(inputs))
    x = layers.Dense(3, activation="relu", name="silent")(x)
    model = randomized(keras.Model(inputs, x), rng)
    for variable in model.variables:
        variable.assign(keras.ops.abs(variable))
    model.get_layer("silent").set_weights([np.zeros((4, 3)), -np.ones(3)])
    converter = nengo_dl.Converter(
        model, swap_activations={"relu": nengo.SpikingRectifiedLinear()}
    )
    x = rng.uniform(size=(50, 3)).astype("float32")
    with pytest.warns(UserWarning, match="'silent' is silent on these data"):
        scales = converter.calibrate(x, percentile=100, rate=200)
    first = model.get_layer("first")
    highest = np.max(keras.ops.convert_to_numpy(first(x)))
    assert np.isclose(scales[first], 200 / highest)
    assert scales[model.get_layer("silent")] == 1
    rates = [
        nengo.dists.get_samples(ens.gain, 1)[0]
        for ens in converter.net.ensembles
        if ens.label in ("first", "shared")
    ]
    assert np.allclose(rates, [scales[first], scales[shared]])
    for wrong in ({"percentile": 0}, {"rate": -1}, {"data": [x, x]}):
        with pytest.raises(ValueError, match="Converter.calibrate"):
            converter.calibrate(**{"data": x, **wrong})


def hidden_layer(rng):
    inputs = keras.Input((3,))
    x = layers.Dense(5, activation="relu", name="hidden")(inputs)
    return randomized(keras.Model(inputs, layers.Dense(2)(x)), rng)


def test_more_data_than_fit_into_a_batch(rng, allclose):
    model = hidden_layer(rng)
    x = rng.uniform(-1, 1, size=(2 * BATCH + 3, 3)).astype("float32")
    (scale,) = nengo_dl.Converter(model).calibrate(x, percentile=90, rate=50).values()
    active = keras.ops.convert_to_numpy(model.get_layer("hidden")(x))
    assert allclose(scale, 50 / np.percentile(active, 90))


def test_negative_activations_count(rng, allclose):
    inputs = keras.Input((3,))
    model = keras.Model(inputs, layers.LeakyReLU(0.5)(inputs))
    x = -rng.uniform(1, 2, size=(9, 3)).astype("float32")
    (scale,) = nengo_dl.Converter(model).calibrate(x, percentile=100, rate=1).values()
    assert allclose(scale, 1 / np.max(np.abs(0.5 * x)))


def test_layers_that_are_called_several_times(rng, allclose):
    """The call with the largest activations counts."""
    inputs = keras.Input((3,))
    relu = layers.ReLU()
    model = keras.Model(inputs, relu(10.0 * relu(inputs)))
    x = rng.uniform(size=(9, 3)).astype("float32")
    (scale,) = nengo_dl.Converter(model).calibrate(x, percentile=100, rate=1).values()
    assert allclose(scale, 1 / (10 * np.max(x)))


@pytest.mark.parametrize("temporal", [False, True])
def test_layers_inside_of_time_distributed_ones(temporal, rng, allclose):
    inner = keras.Sequential(
        [keras.Input((3,)), layers.Dense(4, activation="relu", name="d"), layers.ReLU()]
    )
    inputs = keras.Input((2, 3))
    model = keras.Model(inputs, layers.TimeDistributed(inner)(inputs))
    converter = nengo_dl.Converter(randomized(model, rng), temporal_model=temporal)
    data = rng.uniform(-1, 1, size=(9, 2, 3)).astype("float32")
    scales = converter.calibrate(data, percentile=80, rate=1)
    dense = inner.get_layer("d")
    active = keras.ops.convert_to_numpy(dense(data))
    assert len(scales) == 2 and allclose(scales[dense], 1 / np.percentile(active, 80))
    assert set(converter.scales.values()) == set(scales.values())


def test_warnings_are_not_repeated(rng):
    inputs = keras.Input((3,))
    x = layers.Softmax()(layers.Dense(3, activation="relu", name="hidden")(inputs))
    model = randomized(keras.Model(inputs, x), rng)
    with pytest.warns(UserWarning, match="becomes a TensorNode") as found:
        converter = nengo_dl.Converter(model, swap_activations={"relu": nengo.LIF()})
    assert len(found) == 1 and found[0].filename == __file__
    data = rng.uniform(size=(9, 3)).astype("float32")
    with pytest.warns(UserWarning, match="the rate of LIF.* is not prop") as found:
        converter.calibrate(data)
    assert len(found) == 1 and found[0].filename == __file__


def test_several_inputs_need_equally_many_samples(rng):
    a, b = keras.Input((3,)), keras.Input((3,))
    converter = nengo_dl.Converter(keras.Model([a, b], layers.ReLU()(a + b)))
    x = rng.uniform(size=(4, 3)).astype("float32")
    assert len(converter.calibrate([x, x])) == 1
    for wrong in ([x, x[:3]], [x[:0], x[:0]]):
        with pytest.raises(ValueError, match=r"equally many samples .* got \[\d, \d\]"):
            converter.calibrate(wrong)


def test_inputs_by_name():
    """Other names are in another order than the inputs of the model."""
    b, a = keras.Input((3,), name="b"), keras.Input((3,), name="a")
    relu = layers.ReLU()
    converter = nengo_dl.Converter(keras.Model([b, a], relu(b - a)))
    data = {"a": np.zeros((2, 3)), "b": np.full((2, 3), 4.0)}
    assert converter.calibrate(data, rate=100) == {relu: 25}


def test_wrong_rates():
    converter = nengo_dl.Converter(keras.Sequential([keras.Input((3,)), layers.ReLU()]))
    for rate in (0, -1, np.inf, {"relu": 100}):
        with pytest.raises(ValueError, match="rate must be positive; got"):
            converter.calibrate(np.ones((2, 3)), rate=rate)


def test_calibrated_spikes_come_near_the_rates(rng):
    """A spiking network of calibrated layers gives what Keras gives, on average."""
    model = hidden_layer(rng)
    x = rng.uniform(size=(20, 3)).astype("float32")
    converter = nengo_dl.Converter(
        model, swap_activations={"relu": nengo.SpikingRectifiedLinear()}
    )
    converter.calibrate(x, rate=400)
    (found,) = outputs_of(converter, x, n_steps=200)
    expected = model.predict(x, verbose=0)
    assert np.max(np.abs(found.mean(axis=1) - expected)) < 0.05 * np.ptp(expected)
