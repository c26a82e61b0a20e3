"""What losses and metrics are called, and what they are means of."""

import nengo
import numpy as np
import pytest
from nengo.exceptions import ValidationError

import nengo_dl
from tests import networks

keras = pytest.importorskip("keras")


def names_of(probes, losses, metrics):
    names = {"loss"}
    names |= {f"{p}_loss" for p in losses}
    return names | {f"{p}_{metric}" for p in probes for metric in metrics}


@pytest.mark.parametrize("n_probes", (1, 2))
@pytest.mark.parametrize("n_losses", (1, 2))
def test_names_of_results_are_the_same_for_one_and_for_many(n_probes, n_losses):
    net = networks.autoencoder(n_probes)
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
    net = networks.autoencoder(2, dtype="float64")
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
    net = networks.autoencoder(1, dtype="float64")
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
    net = networks.autoencoder(1, nengo.Sigmoid())
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
    net = networks.autoencoder(2)
    with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
        model = sim.keras_model
        model.compile("sgd", loss=["mse", None])
        x, y = {"inp": np.ones((2, 1, 2))}, np.zeros((2, 1, 2))
        results = model.evaluate(
            x, {"out0": y, "out1": y}, return_dict=True, verbose=0, batch_size=2
        )
        assert set(results) == {"loss", "out0_loss"}
