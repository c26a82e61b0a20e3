"""Training: it goes down the gradient, and what it writes is run afterwards."""

import nengo
import numpy as np
import pytest

import nengo_dl
from tests import networks

keras = pytest.importorskip("keras")


@pytest.mark.parametrize("settings", ({}, {"jit": False}, {"checkpoint": 3}))
def test_one_step_of_fit_goes_down_the_numeric_gradient(settings, rng):
    """The change of each parameter is -rate times the derivative of the loss.

    The derivative is that of central differences along random directions, on all
    trainable parameters at once and on each alone.
    """
    net = networks.recurrent_rates(**settings)
    n_steps, rate = 12, 1e-3
    x = {net.inp: rng.uniform(-1, 1, (3, n_steps, 2))}
    y = {
        net.p: rng.uniform(-1, 1, (3, n_steps, 1)),
        net.q: rng.uniform(-1, 1, (3, n_steps, 2)),
    }
    with nengo_dl.Simulator(net, minibatch_size=3, progress_bar=False) as sim:
        sim.compile(keras.optimizers.SGD(rate), loss="mse", loss_weights=[1.0, 0.3])
        rate = float(sim.keras_model.optimizer.learning_rate.numpy())
        variables = sim.keras_model.trainable_variables
        before = [v.numpy() for v in variables]
        sim.fit(x, y, verbose=0)
        gradients = [
            (old - v.numpy()) / rate for old, v in zip(before, variables, strict=True)
        ]

        def loss(values):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)
            return sim.evaluate(x, y, verbose=0)["loss"]

        directions = [[rng.normal(size=v.shape) for v in before]]
        for i in range(len(before)):
            zeros = [np.zeros(v.shape) for v in before]
            zeros[i] = rng.normal(size=before[i].shape)
            directions.append(zeros)
        for direction in directions:
            length = np.sqrt(sum(np.sum(d**2) for d in direction))
            h = 2e-6
            ahead, behind = (
                loss(
                    [
                        b + s * h * d / length
                        for b, d in zip(before, direction, strict=True)
                    ]
                )
                for s in (1, -1)
            )
            numeric = (ahead - behind) / (2 * h)
            analytic = sum(
                np.sum(g * d / length) for g, d in zip(gradients, direction, strict=True)
            )
            assert np.isclose(analytic, numeric, rtol=1e-5, atol=1e-9)
            assert abs(numeric) > 1e-9


def gradient_with(**settings):
    """By how much one step of fit changes each variable."""
    net = networks.recurrent_rates(**settings)
    with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
        sim.compile(keras.optimizers.SGD(1.0), loss={net.p: "mse"})
        variables = sim.keras_model.trainable_variables
        before = [v.numpy() for v in variables]
        y = {net.p: np.ones((2, 8, 1))}
        sim.fit(n_steps=8, y=y, verbose=0)
        return [b - v.numpy() for b, v in zip(before, variables, strict=True)]


def test_settings_of_backpropagation_are_passed_on():
    full = gradient_with(checkpoint=None)
    for a, b in zip(gradient_with(checkpoint=3), full, strict=True):
        assert np.allclose(a, b, rtol=1e-9, atol=1e-14)
    windows = gradient_with(truncate=2)
    assert not np.allclose(windows[0], full[0], rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    "neuron_type", (nengo.LIF(), nengo.SpikingRectifiedLinear(), nengo.LIFRate())
)
def test_training_changes_what_is_run_afterwards(neuron_type):
    net = networks.autoencoder(1, neuron_type, dtype="float64")
    (probe,) = net.out
    x = np.repeat([[[0.5, -0.5]]], 20, axis=1)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(20, data=x)
        untrained = sim.data[probe]
        encoders = sim.data[net.a].scaled_encoders
        sim.compile(keras.optimizers.Adam(1e-4), loss="mse")
        target = np.repeat([[[0.9, 0.1]]], 20, axis=1)
        losses = sim.fit(x, target, epochs=30, verbose=0).history["loss"]
        assert losses[-1] < 0.5 * losses[0]
        assert sim.n_steps == 20  # fit is stateless
        assert not np.array_equal(sim.data[net.a].scaled_encoders, encoders)
        sim.reset(include_trainable=False)
        sim.run_steps(20, data=x)
        assert not np.allclose(sim.data[probe], untrained)
        found = sim.data[probe]
        sim.reset(include_trainable=False)
        assert np.allclose(sim.predict(x)[probe][0], found, rtol=0, atol=1e-12)
        # everything is back, to the bit
        sim.reset()
        sim.run_steps(20, data=x)
        assert np.array_equal(sim.data[probe], untrained)
        assert np.array_equal(sim.data[net.a].scaled_encoders, encoders)


def test_spiking_neurons_train_in_rate_form():
    rates = {}
    x, y = np.full((2, 10, 2), 0.5), np.zeros((2, 10, 2))
    for neuron_type in (nengo.LIF(), nengo.LIFRate()):
        net = networks.autoencoder(1, neuron_type, dtype="float64")
        with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
            sim.compile(keras.optimizers.SGD(1e-4), loss="mse")
            history = sim.fit(x, y, verbose=0).history["loss"]
            rates[type(neuron_type)] = (
                history[0],
                [v.numpy() for v in sim.keras_model.trainable_variables],
                sim.predict(x)[net.out[0]],
            )
    spiking, rate = rates[nengo.LIF], rates[nengo.LIFRate]
    assert spiking[0] == rate[0]
    for a, b in zip(spiking[1], rate[1], strict=True):
        assert np.array_equal(a, b)
    assert not np.allclose(spiking[2], rate[2])  # outside of fit it spikes


def test_learning_phase_can_be_forced():
    x = np.full((2, 10, 2), 0.5)
    outputs = []
    for neuron_type, phase in ((nengo.LIF(), True), (nengo.LIFRate(), None)):
        net = networks.autoencoder(1, neuron_type, dtype="float64", learning_phase=phase)
        with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
            outputs.append(sim.predict(x)[net.out[0]])
    assert np.array_equal(*outputs)


def test_what_is_not_trainable_stays(rng):
    net = networks.recurrent_rates(trainable=None)
    net.config[net.conn].trainable = False
    net.config[nengo.ensemble.Neurons].trainable = False
    with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
        sim.compile(keras.optimizers.SGD(0.1), loss={net.p: "mse"})
        before = {
            "weights": sim.data[net.conn].weights,
            "bias": sim.data[net.a].bias,
            "encoders": sim.data[net.a].encoders,
        }
        sim.fit(n_steps=5, y={net.p: rng.normal(size=(4, 5, 1))}, verbose=0)
        assert np.array_equal(sim.data[net.conn].weights, before["weights"])
        assert np.array_equal(sim.data[net.a].bias, before["bias"])
        assert not np.array_equal(sim.data[net.a].encoders, before["encoders"])


@pytest.mark.parametrize("count", (1, 4, 7))
def test_fit_with_any_number_of_items(count, rng):
    """A last batch that is not full is completed, and what completes it has no effect."""
    x, y = rng.uniform(-1, 1, (2, count, 1, 2))
    weights = []
    for minibatch_size in (4, 1 if count == 1 else count):
        net = networks.autoencoder(1, dtype="float64")
        with nengo_dl.Simulator(
            net, minibatch_size=minibatch_size, progress_bar=False
        ) as sim:
            sim.compile(keras.optimizers.SGD(1e-3), loss="mse")
            batch_size = min(4, minibatch_size)
            losses = sim.fit(
                x, y, epochs=2, shuffle=False, batch_size=batch_size, verbose=0
            ).history["loss"]
            weights.append((losses, sim.keras_model.get_weights()))
    (losses_a, a), (losses_b, b) = weights
    assert np.allclose(losses_a, losses_b, rtol=1e-12)
    for first, second in zip(a, b, strict=True):
        assert np.allclose(first, second, rtol=1e-12)


def test_validation_split_and_early_stopping(rng):
    x, y = rng.uniform(-1, 1, (2, 10, 1, 2))
    net = networks.autoencoder(1)
    with nengo_dl.Simulator(net, minibatch_size=4, progress_bar=False) as sim:
        sim.compile(keras.optimizers.SGD(0.0), loss="mse")
        stop = keras.callbacks.EarlyStopping("val_out0_loss", mode="min")
        history = sim.fit(
            x, y, validation_split=0.2, epochs=9, callbacks=[stop], verbose=0
        ).history
        assert set(history) == {"loss", "out0_loss", "val_loss", "val_out0_loss"}
        assert len(history["loss"]) == 2


def test_stateful_fit_goes_on_and_validation_does_not_count(rng):
    net = networks.recurrent_rates()
    x = {net.inp: rng.uniform(-1, 1, (4, 6, 2))}
    y = {net.p: np.zeros((4, 6, 1))}
    with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
        sim.compile(keras.optimizers.SGD(0.0), loss={net.p: "mse"})
        sim.run_steps(3)
        data = (x, y)
        sim.fit(x, y, stateful=True, shuffle=False, validation_data=data, verbose=0)
        assert sim.n_steps == 15
        found = sim.predict({net.inp: x[net.inp][:2]})[net.p]
        sim.reset()
        sim.run_steps(3)
        sim.predict(x, stateful=True)
        assert sim.n_steps == 15
        expected = sim.predict({net.inp: x[net.inp][:2]})[net.p]
        assert np.allclose(found, expected, rtol=0, atol=1e-12)


def test_without_targets_for_probes_that_have_no_loss(rng):
    net = networks.recurrent_rates()
    with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
        sim.compile("sgd", loss={net.p: "mse"}, metrics={"p": ["mae"]})
        y = rng.normal(size=(2, 4, 1))
        results = sim.evaluate(n_steps=4, y={"p": y}, verbose=0)
        assert set(results) == {"loss", "p_loss", "p_mae"}
        error = sim.predict(n_steps=4)[net.p] - y
        assert np.isclose(results["loss"], np.mean(error**2), rtol=1e-12)
