"""Predicting, evaluating and training, and how they agree with running."""

import nengo
import numpy as np
import pytest
from nengo.exceptions import ValidationError

import nengo_dl
from tests import networks

keras = pytest.importorskip("keras")


def recurrent_rates(**settings):
    """Recurrence, filters, a product of inputs, rate neurons: all of it smooth."""
    with nengo.Network(seed=2) as net:
        nengo_dl.configure_settings(**{"dtype": "float64", **settings})
        net.inp = nengo.Node([0.3, -0.4], label="inp")
        net.wave = nengo.Node(networks.waves(1), label="wave")
        curves = {"gain": nengo.dists.Uniform(0.5, 2), "bias": nengo.dists.Uniform(-1, 1)}
        net.a = nengo.Ensemble(12, 2, neuron_type=nengo.Sigmoid(), **curves)
        net.b = nengo.Ensemble(10, 1, neuron_type=nengo.Tanh(), **curves)
        nengo.Connection(net.inp, net.a, synapse=0.005)
        nengo.Connection(net.wave, net.a[0], synapse=nengo.Alpha(0.003))
        net.conn = nengo.Connection(
            net.a, net.b, function=lambda x: x[0] * x[1], synapse=0.004
        )
        nengo.Connection(net.b, net.a[1], synapse=0.01, transform=0.5)
        nengo.Connection(net.b, net.b, synapse=0.01, transform=0.3)
        net.p = nengo.Probe(net.b, synapse=0.01, label="p")
        net.q = nengo.Probe(net.a, label="q")
    return net


def autoencoder(n_probes=1, neuron_type=None, synapse=None, **settings):
    """Two rate populations without state."""
    with nengo.Network(seed=3) as net:
        nengo_dl.configure_settings(**settings)
        net.inp = nengo.Node(np.zeros(2), label="inp")
        net.a = nengo.Ensemble(
            30, 2, neuron_type=neuron_type or nengo.RectifiedLinear(), label="a"
        )
        nengo.Connection(net.inp, net.a, synapse=synapse)
        net.out = [
            nengo.Probe(net.a, synapse=synapse, label=f"out{i}") for i in range(n_probes)
        ]
    return net


# agreement with running -----------------------------------------------------------------


@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize(
    "make",
    (
        networks.recurrent,
        networks.processes,
        networks.mixed_parameters,
        networks.python_functions,
        lambda: networks.python_functions(several=True),
        lambda: networks.rates(nengo.LIFRate()),
    ),
)
def test_predict_agrees_with_run_steps(make, dtype):
    net = make()
    with net:
        nengo_dl.configure_settings(dtype=dtype)
    with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
        sim.run_steps(50)
        expected = {p: sim.data[p] for p in net.probes if p.sample_every is None}
        sim.reset()
        outputs = sim.predict(n_steps=50)
        assert sim.n_steps == 0
        for probe, values in expected.items():
            found = outputs[probe]
            assert found.dtype == dtype
            tolerance = 1e-12 if dtype == "float64" else 2e-5
            assert np.abs(found - values).max() <= tolerance * max(
                np.abs(values).max(), 1
            )


@pytest.fixture(scope="module")
def spiking():
    """One simulator of spiking neurons for several tests; each leaves it as it was."""
    net = networks.mixed_parameters()
    with net:
        nengo_dl.configure_settings(dtype="float64")
    with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
        yield sim


def test_predict_goes_on_only_if_stateful(spiking):
    sim, (probe,) = spiking, spiking.network.probes
    sim.reset()
    sim.run_steps(60)
    expected = sim.data[probe]
    sim.reset()
    sim.run_steps(20)
    first = sim.predict(n_steps=20)[probe]
    assert np.allclose(first, expected[:, 20:40], rtol=0, atol=1e-12)
    for stateful in (False, True):
        again = sim.predict(n_steps=20, stateful=stateful)[probe]
        assert np.array_equal(again, first)
    assert sim.n_steps == 40
    last = sim.predict_on_batch(n_steps=10, stateful=True)[probe]
    assert np.allclose(last, expected[:, 40:50], rtol=0, atol=1e-12)
    sim.run_steps(10)
    assert sim.n_steps == 60
    found = sim.data[probe][:, 20:]
    assert np.allclose(found, expected[:, 50:], rtol=0, atol=1e-12)


def test_batches_of_a_stateful_call_follow_one_another(spiking):
    sim, (probe,) = spiking, spiking.network.probes
    sim.reset()
    sim.run_steps(45)
    expected = sim.data[probe]
    sim.reset()
    wave = sim.network.nodes[0]
    # given as data for two batches, and as the node's own output in two calls
    times = np.arange(1, 31).reshape(2, 1, 15, 1) * sim.dt
    x = np.vectorize(lambda t: wave.output(t)[0])(times)
    x = np.repeat(x, 2, axis=1).reshape(4, 15, 1)
    given = sim.predict({wave: x}, stateful=True)[probe]
    assert sim.n_steps == 30
    sim.reset()
    own = [sim.predict(n_steps=15, stateful=True)[probe] for _ in range(2)]
    assert np.allclose(np.concatenate(own), given, rtol=0, atol=1e-12)
    assert np.allclose(given[:2], expected[:, :15], rtol=0, atol=1e-12)
    assert np.allclose(given[2:], expected[:, 15:30], rtol=0, atol=1e-12)


def test_any_number_of_items(spiking, rng):
    sim, (probe,) = spiking, spiking.network.probes
    sim.reset()
    sim.run_steps(7)
    x = rng.uniform(-1, 1, (5, 12, 1))
    whole = sim.predict(x)[probe]
    assert whole.shape == (5, 12, 3)
    one_by_one = [sim.predict(x[i : i + 1])[probe] for i in range(5)]
    assert np.allclose(whole, np.concatenate(one_by_one), rtol=0, atol=1e-12)
    single = sim.predict_on_batch(x[4:])[probe]
    assert np.allclose(single, whole[4:], rtol=0, atol=1e-12)
    before = sim.data[probe].copy()
    sim.run_steps(12, data=x[:2], stateful=False)
    assert np.array_equal(sim.data[probe][:, :7], before)
    assert np.allclose(sim.data[probe][:, 7:], whole[:2], rtol=0, atol=1e-12)


@pytest.mark.parametrize("form", ("array", "list", "by node", "by name", "with n_steps"))
def test_forms_of_data(spiking, form, rng):
    sim, (probe,) = spiking, spiking.network.probes
    sim.reset()
    node = sim.network.nodes[0]
    x = rng.uniform(-1, 1, (2, 9, 1))
    given = {
        "array": x,
        "list": [x],
        "by node": {node: x},
        "by name": {"node": x},
        "with n_steps": {"node": x, "n_steps": 9},
    }[form]
    sim.run_steps(9, data=x, stateful=False)
    outputs = sim.predict(given)
    assert np.allclose(outputs[probe], sim.data[probe], rtol=0, atol=1e-12)
    assert outputs["probe"] is outputs[probe]
    with pytest.raises(KeyError, match="no probe 'other'.*'probe'"):
        outputs["other"]


def test_processes_of_nodes_without_data():
    """Each item has the noise of its own seed; a stateful call goes on with it."""
    net = networks.processes()
    with net:
        nengo_dl.configure_settings(dtype="float64")
    noise, _, _, counter, _ = net.probes
    with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
        sim.run_steps(30)
        expected = {p: sim.data[p] for p in (noise, counter)}
        for p in expected:
            assert not np.array_equal(expected[p][0], expected[p][1])
        sim.reset()
        three = sim.predict({"n_steps": 30, "node_2": np.zeros((3, 30, 1))})
        assert np.allclose(three[counter][:2], expected[counter], rtol=0, atol=1e-12)
        assert not np.array_equal(three[counter][2], three[counter][1])
        parts = [sim.predict(n_steps=10, stateful=True)]
        sim.clear_probes()
        sim.run_steps(10)
        parts.append(dict(sim.data))
        parts.append(sim.predict(n_steps=10, stateful=True))
        for p, values in expected.items():
            found = np.concatenate([part[p] for part in parts], axis=1)
            assert np.allclose(found, values, rtol=0, atol=1e-12)


def test_functions_are_called_in_order_also_in_predict():
    """Two functions share an object; one of them is given data in another call."""

    def make(log):
        state = {"total": 0.0}

        def read(t):
            log.append("read")
            return state["total"]

        def add(t, x):
            log.append("add")
            state["total"] += x[0] + 1
            return state["total"]

        with nengo.Network() as net:
            nengo_dl.configure_settings(dtype="float64")
            reader = nengo.Node(read, label="reader")
            adder = nengo.Node(add, size_in=1)
            nengo.Connection(reader, adder, synapse=None)
            probe = nengo.Probe(adder)
        log.clear()
        return net, reader, probe, state

    log = []
    net, reader, probe, state = make(log)
    state["total"] = 0.0
    with nengo.Simulator(net, progress_bar=False) as ref:
        ref.run_steps(5)
    order, expected = list(log), np.array(ref.data[probe])
    log.clear()
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        state["total"] = 0.0
        assert np.array_equal(sim.predict(n_steps=5)[probe][0], expected)
        assert log == order
        log.clear()
        state["total"] = 0.0
        x = np.arange(5.0).reshape(1, 5, 1)
        given = sim.predict({reader: x})[probe]
        assert np.array_equal(given.ravel(), np.cumsum(x + 1))
        assert log == ["add"] * 5
        state["total"] = 0.0
        assert np.array_equal(sim.predict(n_steps=5)[probe][0], expected)


def test_a_probe_without_history_gives_its_last_step():
    net = networks.mixed_parameters()
    with net:
        nengo_dl.configure_settings(keep_history=True)
        last = nengo.Probe(net.ensembles[0], synapse=0.01, label="last")
        net.config[last].keep_history = False
        whole = nengo.Probe(net.ensembles[0], synapse=0.01, label="whole")
    with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
        outputs = sim.predict(n_steps=12)
        assert outputs[last].shape == (2, 1, 1)
        assert np.array_equal(outputs[last], outputs[whole][:, -1:])
        sim.run_steps(12)
        assert np.allclose(sim.data[last], outputs[last], atol=1e-6)
        sim.compile("sgd", loss={last: "mse"})
        history = sim.fit(n_steps=12, y={last: np.zeros((2, 1, 1))}, verbose=0)
        assert set(history.history) == {"loss", "last_loss"}


# results --------------------------------------------------------------------------------


def names_of(probes, losses, metrics):
    names = {"loss"}
    names |= {f"{p}_loss" for p in losses}
    return names | {f"{p}_{metric}" for p in probes for metric in metrics}


@pytest.mark.parametrize("n_probes", (1, 2))
@pytest.mark.parametrize("n_losses", (1, 2))
def test_names_of_results_are_the_same_for_one_and_for_many(n_probes, n_losses):
    net = autoencoder(n_probes)
    probes = [p.label for p in net.out]
    losses = probes[:n_losses]
    with nengo_dl.Simulator(net, minibatch_size=4, progress_bar=False) as sim:
        loss = dict.fromkeys(losses, "mse") if n_losses < n_probes else "mse"
        sim.compile("sgd", loss=loss, metrics=["mae", keras.metrics.MeanSquaredError()])
        x = np.ones((6, 1, 2))
        y = {p: np.zeros((6, 1, 2)) for p in probes}
        history = sim.fit(x, y, validation_data=(x, y), epochs=2, verbose=0).history
        expected = names_of(probes, losses, ("mae", "mean_squared_error"))
        assert set(history) == expected | {f"val_{name}" for name in expected}
        assert all(len(values) == 2 for values in history.values())
        results = sim.evaluate(x, y, verbose=0)
        assert set(results) == expected
        assert all(isinstance(value, float) for value in results.values())
        mse = [results[f"{p}_mean_squared_error"] for p in losses]
        assert np.allclose([results[f"{p}_loss"] for p in losses], mse, rtol=1e-5)
        assert np.isclose(results["loss"], sum(mse), rtol=1e-5)


def test_results_are_means_over_items_whatever_the_batches(rng):
    """Keras weighs the batches of a probe's loss alike, however many items they have."""
    net = autoencoder(2, dtype="float64")
    x, targets = rng.uniform(-1, 1, (7, 1, 2)), rng.uniform(-1, 1, (2, 7, 1, 2))
    with nengo_dl.Simulator(net, minibatch_size=3, progress_bar=False) as sim:
        sim.compile(
            "sgd", loss=["mse", "mae"], loss_weights=[2.0, 0.5], metrics=[["mae"], []]
        )
        results = sim.evaluate(x, list(targets), verbose=0)
        outputs = sim.predict(x)
        errors = [outputs[p] - y for p, y in zip(net.out, targets, strict=True)]
        mse, mae = np.mean(errors[0] ** 2), np.mean(np.abs(errors[1]))
        assert np.isclose(results["out0_loss"], mse, rtol=1e-12)
        assert np.isclose(results["out1_loss"], mae, rtol=1e-12)
        assert np.isclose(results["loss"], 2 * mse + 0.5 * mae, rtol=1e-12)
        assert np.isclose(results["out0_mae"], np.mean(np.abs(errors[0])), rtol=1e-12)
        assert set(results) == {"loss", "out0_loss", "out1_loss", "out0_mae"}


@pytest.mark.parametrize("shape", ((4,), (4, 3)))
def test_sample_weights(shape, rng):
    net = autoencoder(1, dtype="float64")
    x, y = rng.uniform(-1, 1, (2, 4, 3, 2))
    weight = rng.uniform(size=shape)
    with nengo_dl.Simulator(net, minibatch_size=4, progress_bar=False) as sim:
        sim.compile("sgd", loss="mse")
        results = sim.evaluate(x, y, sample_weight=weight, verbose=0)
        error = np.mean((sim.predict(x)[net.out[0]] - y) ** 2, axis=-1)
        full = weight if weight.ndim == 2 else weight[:, None]
        assert np.isclose(results["loss"], np.mean(full * error), rtol=1e-12)
        assert np.isclose(results["out0_loss"], results["loss"], rtol=1e-12)
        by_name = {"sample_weight": {"out0": weight}, "verbose": 0}
        data = (x, y, [weight])
        history = sim.fit(x, y, validation_data=data, **by_name).history
        assert np.isclose(history["loss"][0], results["loss"], rtol=1e-12)
        assert history["val_loss"][0] != history["loss"][0]  # after one step down
        with pytest.raises(ValidationError, match=r"Probe 'out0'.*\(3, 4\)"):
            sim.evaluate(x, y, sample_weight=np.ones((3, 4)))


@pytest.mark.parametrize(
    "loss",
    (
        "crossentropy",
        "sparse_categorical_crossentropy",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        lambda y_true, y_pred: keras.ops.mean(keras.ops.abs(y_pred), axis=-1),
    ),
)
def test_losses_of_all_kinds(loss):
    net = autoencoder(1, nengo.Sigmoid())
    x, y = np.ones((3, 1, 2)), np.array([[[0]], [[1]], [[1]]])
    with nengo_dl.Simulator(net, minibatch_size=3, progress_bar=False) as sim:
        sim.compile("sgd", loss=loss, metrics=["accuracy"])
        results = sim.evaluate(x, y, verbose=0)
        assert set(results) >= {"loss", "out0_loss"}
        assert len(results) == 3
        assert np.isfinite(results["loss"])
        output = sim.predict(x)[net.out[0]]
        if callable(loss) and not isinstance(loss, keras.losses.Loss):
            assert np.isclose(results["loss"], np.abs(output).mean(), rtol=1e-5)


def test_keras_used_directly_names_results_alike():
    net = autoencoder(2)
    with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
        model = sim.keras_model
        model.compile("sgd", loss=["mse", None])
        x, y = {"inp": np.ones((2, 1, 2))}, np.zeros((2, 1, 2))
        results = model.evaluate(
            x, {"out0": y, "out1": y}, return_dict=True, verbose=0, batch_size=2
        )
        assert set(results) == {"loss", "out0_loss"}


# training -------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", ({}, {"jit": False}, {"checkpoint": 3}))
def test_one_step_of_fit_goes_down_the_numeric_gradient(settings, rng):
    """The change of each parameter is -rate times the derivative of the loss.

    The derivative is that of central differences along random directions, on all
    trainable parameters at once and on each alone.
    """
    net = recurrent_rates(**settings)
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
    net = recurrent_rates(**settings)
    with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
        sim.compile(keras.optimizers.SGD(1.0), loss={net.p: "mse"})
        variables = sim.keras_model.trainable_variables
        before = [v.numpy() for v in variables]
        y = {net.p: np.ones((2, 8, 1))}
        sim.fit(n_steps=8, y=y, verbose=0)
        return [b - v.numpy() for b, v in zip(before, variables, strict=True)]


def test_settings_of_backpropagation_are_passed_on():
    full = gradient_with(checkpoint=None)
    for checkpoint in ("auto", 3):
        for a, b in zip(gradient_with(checkpoint=checkpoint), full, strict=True):
            assert np.allclose(a, b, rtol=1e-9, atol=1e-14)
    windows = gradient_with(truncate=2)
    assert not np.allclose(windows[0], full[0], rtol=1e-3, atol=0)
    for a, b in zip(gradient_with(truncate=8), full, strict=True):
        assert np.allclose(a, b, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize(
    "neuron_type", (nengo.LIF(), nengo.SpikingRectifiedLinear(), nengo.LIFRate())
)
def test_training_changes_what_is_run_afterwards(neuron_type):
    net = autoencoder(1, neuron_type, dtype="float64")
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
        net = autoencoder(1, neuron_type, dtype="float64")
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
        net = autoencoder(1, neuron_type, dtype="float64", learning_phase=phase)
        with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
            outputs.append(sim.predict(x)[net.out[0]])
    assert np.array_equal(*outputs)


def test_what_is_not_trainable_stays(rng):
    net = recurrent_rates(trainable=None)
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
        net = autoencoder(1, dtype="float64")
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
    net = autoencoder(1)
    with nengo_dl.Simulator(net, minibatch_size=4, progress_bar=False) as sim:
        sim.compile(keras.optimizers.SGD(0.0), loss="mse")
        stop = keras.callbacks.EarlyStopping("val_out0_loss", mode="min")
        history = sim.fit(
            x, y, validation_split=0.2, epochs=9, callbacks=[stop], verbose=0
        ).history
        assert set(history) == {"loss", "out0_loss", "val_loss", "val_out0_loss"}
        assert len(history["loss"]) == 2


def test_stateful_fit_goes_on_and_validation_does_not_count(rng):
    net = recurrent_rates()
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
    net = recurrent_rates()
    with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
        sim.compile("sgd", loss={net.p: "mse"}, metrics={"p": ["mae"]})
        y = rng.normal(size=(2, 4, 1))
        results = sim.evaluate(n_steps=4, y={"p": y}, verbose=0)
        assert set(results) == {"loss", "p_loss", "p_mae"}
        error = sim.predict(n_steps=4)[net.p] - y
        assert np.isclose(results["loss"], np.mean(error**2), rtol=1e-12)


# parameters written from elsewhere ------------------------------------------------------


def test_weights_set_through_keras_show_everywhere(tmp_path):
    net = autoencoder(1, dtype="float64")
    (probe,) = net.out
    x = np.full((1, 5, 2), 0.5)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(5, data=x)
        model = sim.keras_model
        weights = model.get_weights()
        sim.step()
        model.set_weights([0 * w for w in weights])
        sim.step()
        assert not sim.data[probe][-1].any()
        assert not sim.data[net.a].bias.any()
        assert not sim.predict(x)[probe].any()
        path = tmp_path / "params"
        sim.save_params(path)
        model.set_weights(weights)
        assert sim.data[net.a].bias.any()
        sim.reset(include_trainable=False)
        sim.run_steps(5, data=x)
        trained = sim.data[probe]
        assert np.allclose(trained, sim.predict(x)[probe], rtol=0, atol=1e-12)
        sim.load_params(path)
        assert not any(w.any() for w in model.get_weights())
        model.set_weights(weights)
        sim.load_params(path)  # also if the simulator has not looked since
        assert not any(w.any() for w in model.get_weights())
        file = str(tmp_path / "model.weights.h5")
        model.set_weights(weights)
        model.save_weights(file)
        sim.reset()
        model.set_weights([0 * w for w in weights])
        model.load_weights(file)
        sim.run_steps(5, data=x)
        assert np.allclose(sim.data[probe], trained, rtol=0, atol=1e-12)


def test_steps_after_training_stay_cheap():
    """Once trained, a single step is again one call of the generated code."""
    net = autoencoder(1)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.step()
        sim.compile("sgd", "mse")
        sim.fit(np.ones((1, 2, 2)), np.zeros((1, 2, 2)), verbose=0)
        sim.step()
        calls = []
        sim.run_steps = lambda *args, **kwargs: calls.append(args)
        sim.step()
        assert not calls
        assert sim.n_steps == 3


# online learning ------------------------------------------------------------------------


def learner():
    """A channel that learns online to put out its input."""
    with nengo.Network(seed=1) as net:
        nengo_dl.configure_settings(dtype="float64")
        net.inp = nengo.Node([0.8])
        pre = nengo.Ensemble(20, 1, neuron_type=nengo.RectifiedLinear())
        post = nengo.Node(size_in=1)
        nengo.Connection(net.inp, pre, synapse=None)
        net.conn = nengo.Connection(
            pre, post, function=lambda x: 0, learning_rule_type=nengo.PES(5e-3)
        )
        nengo.Connection(post, net.conn.learning_rule, synapse=0.01)
        nengo.Connection(net.inp, net.conn.learning_rule, transform=-1, synapse=0.01)
        net.out = nengo.Probe(post)
        net.weights = nengo.Probe(net.conn, "weights")
    return net


def test_each_item_learns_for_itself_and_keeps_it():
    net = learner()
    x = np.stack([np.full((40, 1), v) for v in (0.8, -0.5)])
    with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
        first = sim.predict(x)
        assert sim.n_steps == 0
        a, b = first[net.weights][:, -1]
        assert not np.allclose(a, b)
        # the first item's weights are what the simulator shows
        assert np.allclose(sim.data[net.conn].weights, a, atol=1e-4)
        second = sim.predict(x)
        for item in range(2):
            gap = np.abs(second[net.weights][item, 0] - first[net.weights][item, -1])
            step = np.abs(first[net.weights][item, -1] - first[net.weights][item, -2])
            assert gap.max() <= 2 * step.max() + 1e-12
        errors = [np.abs(r[net.out][:, -1] - x[:, -1]).max() for r in (first, second)]
        assert errors[1] < errors[0]
        sim.run_steps(40, data=x)
        start = sim.data[net.weights][:, 0]
        assert np.allclose(start, second[net.weights][:, -1], atol=1e-3)
        sim.reset(include_trainable=False)
        assert np.abs(sim.data[net.conn].weights).max() > 0
        sim.reset()
        assert np.array_equal(sim.data[net.conn].weights, np.zeros((1, 20)))


def test_fit_learns_online_too_and_leaves_the_weights_to_the_rule():
    net = learner()
    x = np.full((2, 30, 1), 0.8)
    y = {net.out: np.zeros((2, 30, 1))}
    with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
        sim.compile(keras.optimizers.SGD(0.0), loss={net.out: "mse"})
        expected = sim.predict(x, stateful=True)
        sim.reset()
        sim.fit(x, y, verbose=0)
        shapes = [w.shape for w in sim.keras_model.weights]
        assert (1, 20) not in shapes
        learned = sim.data[net.conn].weights
        assert np.allclose(learned, expected[net.weights][0, -1], atol=1e-3)
        assert np.abs(learned).max() > 0
