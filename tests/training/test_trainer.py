"""Training: it goes down the gradient, and what it writes is run afterwards."""

import nengo
import numpy as np
import pytest
from nengo.exceptions import ValidationError

import nengo_dl
from tests import networks

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")


@pytest.mark.parametrize("settings", ({}, {"jit": False}, {"checkpoint": 3}))
def test_one_step_of_fit_goes_down_the_numeric_gradient(settings):
    """The change of each parameter is -rate times the derivative of the loss.

    The derivative is that of central differences along random directions, on all
    trainable parameters at once and on each alone. With these numbers no neuron comes so
    near to its threshold that a difference goes across it.
    """
    rng = np.random.RandomState(0)
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
    net.config[probe].trainable = True
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


# items, weights, and what Keras makes of them -------------------------------------------


def feed_forward(dtype="float64", **settings):
    """Two probes of a layer of rate neurons; no state, so items are all alike."""
    with nengo.Network(seed=2) as net:
        nengo_dl.configure_settings(dtype=dtype, **settings)
        net.inp = nengo.Node(np.zeros(2), label="inp")
        ens = nengo.Ensemble(12, 2, neuron_type=nengo.RectifiedLinear(), label="ens")
        nengo.Connection(net.inp, ens, synapse=None)
        net.p = nengo.Probe(ens, label="p")
        net.q = nengo.Probe(ens.neurons, label="q")
    return net


@pytest.mark.parametrize("minibatch_size", (1, 4, 5, 16))
def test_losses_and_metrics_are_means_over_all_items(minibatch_size, rng):
    """Also of those in a last batch that is not full."""
    net = feed_forward()
    x = rng.uniform(-1, 1, (10, 3, 2))
    y = np.arange(10)[:, None, None] * rng.uniform(-1, 1, (10, 3, 2))
    weights = np.arange(1.0, 11)
    with nengo_dl.Simulator(
        net, minibatch_size=minibatch_size, progress_bar=False
    ) as sim:
        sim.compile("sgd", {net.p: "mse"}, metrics={net.p: ["mae"]})
        error = sim.predict(x)[net.p] - y
        by_item = np.mean(error**2, axis=(1, 2))
        found = sim.evaluate(x, {"p": y}, verbose=0)
        assert np.isclose(found["loss"], by_item.mean(), rtol=1e-12)
        assert np.isclose(found["p_loss"], by_item.mean(), rtol=1e-12)
        assert np.isclose(found["p_mae"], np.abs(error).mean(), rtol=1e-12)
        found = sim.evaluate(x, {"p": y}, sample_weight=weights, verbose=0)
        assert np.isclose(found["loss"], np.mean(by_item * weights), rtol=1e-12)
        sim.compile(keras.optimizers.SGD(0.0), {net.p: "mse"})
        history = sim.fit(x, {"p": y}, verbose=0).history
        assert np.isclose(history["loss"][0], by_item.mean(), rtol=1e-12)


def test_weights_of_items_and_steps(rng):
    net = feed_forward()
    x = rng.uniform(-1, 1, (5, 3, 2))
    y = {"p": rng.normal(size=(5, 3, 2)), "q": rng.normal(size=(5, 3, 12))}
    wp, wq = rng.uniform(1, 2, 5), rng.uniform(1, 2, (5, 3))
    with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
        sim.compile("sgd", "mse", weighted_metrics=["mae"])
        outputs = sim.predict(x)
        errors = {name: outputs[name] - y[name] for name in y}
        squares = {name: np.mean(e**2, axis=-1) for name, e in errors.items()}
        p, q = np.mean(squares["p"] * wp[:, None]), np.mean(squares["q"] * wq)
        for weights in ([wp, wq], {net.p: wp, "q": wq}):
            found = sim.evaluate(x, y, sample_weight=weights, verbose=0)
            assert np.isclose(found["p_loss"], p, rtol=1e-12)
            assert np.isclose(found["q_loss"], q, rtol=1e-12)
            assert np.isclose(found["loss"], p + q, rtol=1e-12)
            sizes = np.abs(errors["p"]).mean(axis=-1) * wp[:, None]
            assert np.isclose(found["p_mae"], sizes.sum() / wp.sum() / 3, rtol=1e-12)
        # one for all probes, or for one of them
        found = sim.evaluate(x, y, sample_weight=wq, verbose=0)
        assert np.isclose(found["p_loss"], np.mean(squares["p"] * wq), rtol=1e-12)
        found = sim.evaluate(x, y, sample_weight={"p": wp}, verbose=0)
        assert np.isclose(found["q_loss"], np.mean(squares["q"]), rtol=1e-12)
        for bad in (np.ones(4), np.ones((5, 2)), np.ones((5, 3, 1))):
            with pytest.raises(ValidationError, match="sample_weight for Probe 'p'"):
                sim.evaluate(x, y, sample_weight=bad, verbose=0)


def test_metrics_of_several_probes(rng):
    net = feed_forward()
    y = [np.zeros((2, 1, 2)), np.zeros((2, 1, 12))]
    with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
        metric = keras.metrics.MeanAbsoluteError(name="size")
        sim.compile("sgd", ["mse", "mae"], metrics=["mse", metric])
        found = sim.evaluate(np.ones((2, 1, 2)), y, verbose=0)
        names = [f"{p}_{m}" for p in "pq" for m in ("loss", "mse", "size")]
        assert set(found) == {"loss", *names}
        assert np.isclose(found["p_loss"], found["p_mse"])
        assert np.isclose(found["q_loss"], found["q_size"])
        assert found["p_size"] != found["q_size"]
        sim.compile("sgd", {"q": "mse"}, metrics={net.q: metric})
        found = sim.evaluate(np.ones((2, 1, 2)), {"q": y[1]}, verbose=0)
        assert set(found) == {"loss", "q_loss", "q_size"}


def test_the_optimizer_goes_on(rng):
    """From call to call and to other data, with the schedule of its learning rate."""
    net = feed_forward()
    x, y = rng.uniform(-1, 1, (6, 1, 2)), {"p": rng.uniform(-1, 1, (6, 1, 2))}
    schedule = keras.optimizers.schedules.ExponentialDecay(1e-3, 1, 0.5)
    weights = []
    with nengo_dl.Simulator(net, minibatch_size=3, progress_bar=False) as sim:
        for calls in ([4], [1, 3]):
            sim.reset()
            sim.compile(keras.optimizers.Adam(schedule), {"p": "mse"})
            done = 0
            for epochs in calls:
                history = sim.fit(
                    x,
                    y,
                    initial_epoch=done,
                    epochs=done + epochs,
                    shuffle=False,
                    verbose=0,
                )
                assert history.epoch == list(range(done, done + epochs))
                done += epochs
            optimizer = sim.keras_model.optimizer
            assert optimizer.iterations.numpy() == 8
            assert np.isclose(optimizer.learning_rate.numpy(), 1e-3 * 0.5**8)
            weights.append(sim.keras_model.get_weights())
        for a, b in zip(*weights, strict=True):
            assert np.array_equal(a, b)
        other = rng.uniform(-1, 1, (2, 4, 2))
        sim.fit(other, {"p": other}, verbose=0)
        assert sim.keras_model.optimizer.iterations.numpy() == 9


def test_callbacks_steps_and_splits(rng):
    net = feed_forward("float32")
    x, y = rng.uniform(-1, 1, (10, 1, 2)), {"p": np.zeros((10, 1, 2))}
    seen = []
    count = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(batch),
        on_test_batch_end=lambda batch, logs: seen.append(-batch - 1),
    )
    with nengo_dl.Simulator(net, minibatch_size=3, progress_bar=False) as sim:
        sim.compile("sgd", {"p": "mse"})
        split = {"validation_split": 0.4, "validation_batch_size": 2}
        sim.fit(x, y, callbacks=[count], verbose=0, **split)
        assert seen == [0, 1, -1, -2]
        seen.clear()
        kwargs = {"validation_data": (x, y), "validation_steps": 1}
        sim.fit(x, y, steps_per_epoch=2, callbacks=[count], verbose=0, **kwargs)
        assert seen == [0, 1, -1]


# the Keras model by itself --------------------------------------------------------------


def test_the_model_by_itself(rng, tmp_path):
    net = feed_forward("float32")
    net.config[nengo.Probe].trainable = True
    x, y = rng.uniform(-1, 1, (4, 5, 2)).astype("float32"), np.zeros((4, 5, 2))
    with nengo_dl.Simulator(net, minibatch_size=4, progress_bar=False) as sim:
        model = sim.keras_model
        assert [tensor.name for tensor in model.inputs] == ["inp"]
        assert model.output_names == ["p", "q"]
        assert sim.tensor_graph in model.layers
        assert model.count_params() == sum(w.size for w in model.get_weights()) > 0
        lines = []
        model.summary(print_fn=lines.append)
        assert "TensorGraph" in "\n".join(map(str, lines))
        outputs = model.predict({"inp": x}, verbose=0)
        assert set(outputs) == {"p", "q"}
        untrained = sim.predict(x)["p"]  # by machine code: equal within rounding
        assert np.allclose(outputs["p"], untrained, rtol=0, atol=1e-6)
        assert np.allclose(model(x)["p"], outputs["p"], atol=1e-6)

        path = str(tmp_path / "net.weights.h5")
        model.save_weights(path)
        sim.compile(keras.optimizers.SGD(1e-6), {"p": "mse"})
        targets = {"p": y, "q": np.zeros((4, 1, 1))}
        first = model.train_on_batch({"inp": x}, targets, return_dict=True)["loss"]
        second = model.test_on_batch({"inp": x}, targets, return_dict=True)["loss"]
        assert second < first
        trained = sim.predict(x)["p"]
        assert not np.allclose(trained, outputs["p"], atol=1e-4)
        sim.run_steps(5, data=x)
        assert np.allclose(sim.data[net.p], trained, atol=1e-6)
        model.load_weights(path)
        assert np.array_equal(sim.predict(x)["p"], untrained)
        assert np.array_equal(model.predict({"inp": x}, verbose=0)["p"], outputs["p"])


def test_the_model_by_itself_starts_from_the_present_state():
    net = networks.recurrent_rates()
    x = np.ones((2, 4, 2))
    with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
        model = sim.keras_model
        given = {"inp": x, "wave": np.zeros((2, 4, 1))}
        data = {tensor.name: given[tensor.name] for tensor in model.inputs}
        for _ in range(2):
            expected = sim.predict(data)
            found = model.predict(data, verbose=0)
            assert np.allclose(found["p"], expected["p"], rtol=0, atol=1e-12)
            assert np.array_equal(model.predict(data, verbose=0)["p"], found["p"])
            sim.run_steps(4, data={"inp": x})


@pytest.mark.parametrize("form", ("arrays", "dataset", "unknown", "generator"))
def test_losses_of_weights(form, rng, allclose):
    tf = pytest.importorskip("tensorflow")
    with nengo.Network(seed=0) as net:
        a = nengo.Node([0.0])
        ens = nengo.Ensemble(4, 1, neuron_type=nengo.Tanh())
        weights = rng.uniform(-1, 1, (4, 1))
        connection = nengo.Connection(a, ens.neurons, transform=weights, synapse=None)
        probe = nengo.Probe(ens, label="out")
        matrix = nengo.Probe(connection, "weights", label="weights")
    x, y = rng.uniform(-1, 1, (6, 2, 1)), rng.uniform(-1, 1, (6, 2, 4, 1))
    with nengo_dl.Simulator(net, minibatch_size=3, progress_bar=False) as sim:
        data = {sim.get_name(a): x.astype("float32")}, {"weights": y.astype("float32")}
        sim.compile(keras.optimizers.SGD(1.0), loss={matrix: "mse"})
        if form == "arrays":
            result = sim.evaluate(*data, verbose=0)
        else:
            dataset = tf.data.Dataset.from_tensor_slices(data).batch(3)
            if form == "unknown":
                spec = tf.nest.map_structure(
                    lambda s: tf.TensorSpec(None, s.dtype), dataset.element_spec
                )
                batches = list(dataset)
                dataset = tf.data.Dataset.from_generator(
                    lambda: iter(batches), output_signature=spec
                )
            given = iter(list(dataset)) if form == "generator" else dataset
            result = sim.evaluate(given, verbose=0)
        assert allclose(result["weights_loss"], np.mean((weights - y) ** 2), rtol=1e-5)
        assert sim.predict(x)[matrix].shape == y.shape
        assert sim.predict(x)[probe].shape == x.shape
        sim.fit(*data, verbose=0, batch_size=3, shuffle=False)
        expected = weights
        for batch in (y[:3], y[3:]):
            expected = expected - 2 * np.mean(expected - batch, axis=(0, 1)) / 4
        assert allclose(sim.data[connection].weights, expected, atol=1e-5)


class FakeAdam:
    """An optimizer of the package tf_keras."""


FakeAdam.__module__, FakeAdam.__name__ = "tf_keras.src.optimizers.adam", "Adam"


@pytest.mark.parametrize(
    "optimizer, message",
    [
        (
            lambda: tf.compat.v1.train.AdamOptimizer(0.1),
            r"keras\.optimizers\.Adam\(0\.1\)",
        ),
        (
            lambda: FakeAdam(),
            r"Adam is an optimizer of tf_keras.*keras\.optimizers\.Adam",
        ),
        (lambda: keras.optimizers.Adam, r"got the class Adam; write Adam\(\.\.\.\)"),
    ],
)
def test_optimizers_that_keras_cannot_use_are_named(optimizer, message):
    with nengo.Network() as net:
        nengo.Probe(nengo.Node([0.0]))
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        with pytest.raises(ValidationError, match=f"Simulator.compile: .*{message}"):
            sim.compile(optimizer(), loss="mse")
