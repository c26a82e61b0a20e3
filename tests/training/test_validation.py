"""What ``fit`` measures validation data with, and what one step of spikes says."""

import re
import warnings

import keras
import nengo
import numpy as np
import pytest
import tensorflow as tf
from nengo.exceptions import ValidationError

import nengo_dl


def network(neuron_type=None, max_rates=150.0, **settings):
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(**settings)
        net.node = nengo.Node([0.0], label="x")
        ens = nengo.Ensemble(
            20,
            1,
            neuron_type=neuron_type or nengo.LIF(),
            max_rates=nengo.dists.Choice([max_rates]),
            intercepts=nengo.dists.Uniform(-1, 0),
            label="hidden",
        )
        out = nengo.Node(size_in=1)
        nengo.Connection(net.node, ens, synapse=None)
        nengo.Connection(ens, out, synapse=None)
        net.probe = nengo.Probe(out, label="y")
    return net


def data(steps):
    x = np.linspace(-1, 1, 6)[:, None, None].repeat(steps, axis=1)
    return x, x**2


def as_arrays(x, y):
    return {"validation_data": (x, y)}


def as_part(x, y):
    return {"validation_split": 0.5}


def as_dataset(x, y):
    return {"validation_data": tf.data.Dataset.from_tensor_slices((x, y)).batch(3)}


def as_generator(x, y):
    def batches():
        while True:
            yield x[:3], y[:3]
            yield x[3:], y[3:]

    return {"validation_data": batches(), "validation_steps": 2}


def validated(net, steps, given=as_arrays, fit_steps=1):
    """Losses of validation: in ``fit`` without learning, of rates, and of spikes."""
    x, y = data(fit_steps)
    u, v = data(steps)
    with nengo_dl.Simulator(net, minibatch_size=3, progress_bar=False) as sim:
        sim.compile(keras.optimizers.SGD(0.0), loss="mse")
        history = sim.fit(x, y, verbose=0, **given(u, v)).history
        if given is as_part:
            u, v = u[3:], v[3:]
        losses = [
            sim.evaluate(u, v, verbose=0, spiking=spiking)["loss"]
            for spiking in (False, True)
        ]
    assert not np.isclose(*losses)
    return history["val_loss"][0], *losses


MESSAGE = "validation data have one step.*rates.*'hidden'.*validation='spikes'"


@pytest.mark.parametrize("given", [as_arrays, as_part, as_dataset, as_generator])
def test_one_step_is_validated_as_it_is_trained(given):
    with pytest.warns(UserWarning, match=MESSAGE):
        found, rates, _ = validated(network(), 1, given)
    assert np.isclose(found, rates)


def test_it_is_said_once():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        validated(network(), 1)
        validated(network(), 1)
    assert len([w for w in caught if re.search(MESSAGE, str(w.message))]) == 1


@pytest.mark.parametrize(
    "settings, steps, expected",
    [
        ({}, 4, "spikes"),
        ({"validation": "auto"}, 4, "spikes"),
        ({"validation": "spikes"}, 1, "spikes"),
        ({"validation": "rates"}, 1, "rates"),
        ({"validation": "rates"}, 4, "rates"),
        ({"spiking_training": True}, 1, "spikes"),
        ({"learning_phase": True}, 4, "rates"),
        ({"learning_phase": True, "validation": "spikes"}, 4, "spikes"),
        ({"learning_phase": False}, 1, "spikes"),
        ({"learning_phase": False, "validation": "rates"}, 1, "rates"),
    ],
    ids=str,
)
def test_what_validation_runs(settings, steps, expected):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", MESSAGE)
        found, rates, spikes = validated(network(**settings), steps)
    assert np.isclose(found, rates if expected == "rates" else spikes)


def test_neurons_that_spike_in_each_step_are_validated_with_spikes():
    net = network(nengo.SpikingRectifiedLinear(), max_rates=2500.0)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", MESSAGE)
        found, _, spikes = validated(net, 1)
    assert np.isclose(found, spikes)


def test_values_of_the_setting():
    with nengo.Network(), pytest.raises(ValidationError, match="'auto', 'spikes' or 'r"):
        nengo_dl.configure_settings(validation=True)
    with nengo.Network(), pytest.raises(ValidationError, match="'auto', 'spikes' or 'r"):
        nengo_dl.configure_settings(validation="both")


ONE_STEP = "one step of spikes.*'hidden'.*0.15 of the steps.*spiking=False"


@pytest.mark.parametrize("method", ["predict", "predict_on_batch", "evaluate"])
def test_one_step_of_spikes_says_little(method):
    def call(net, steps=1, **options):
        x, y = data(steps)
        x, y = x[:3], y[:3]
        with nengo_dl.Simulator(net, minibatch_size=3, progress_bar=False) as sim:
            if method == "evaluate":
                sim.compile(loss="mse")
                sim.evaluate(x, y, verbose=0, **options)
            else:
                getattr(sim, method)(x, **options)

    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*one step of spikes")
        call(network(), 2)
        call(network(), spiking=False)
        call(network(), spiking=True)  # they know
        call(network(), stateful=True)
        call(network(learning_phase=True))
        call(network(nengo.LIFRate()))
        call(network(nengo.SpikingRectifiedLinear(), max_rates=2500.0))
    with pytest.warns(UserWarning, match=f"Simulator.{method}: running {ONE_STEP}"):
        call(network())
