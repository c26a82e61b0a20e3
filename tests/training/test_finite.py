"""NaN and infinity are refused where they come in and where they go out."""

import warnings

import nengo
import numpy as np
import pytest
from nengo.exceptions import SimulationError, ValidationError

import nengo_dl
from nengo_dl.training.advice import check_data, is_finite

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")


def small():
    """One input, rate neurons, one output."""
    with nengo.Network(seed=0) as net:
        net.inp = nengo.Node([0.0], label="stimulus")
        net.ens = nengo.Ensemble(10, 1, neuron_type=nengo.LIFRate(), label="neurons")
        net.out = nengo.Node(size_in=1)
        nengo.Connection(net.inp, net.ens, synapse=None)
        net.conn = nengo.Connection(net.ens, net.out, synapse=None)
        net.p = nengo.Probe(net.out, label="answer")
    return net


@pytest.fixture(scope="module")
def sim():
    """A compiled simulator; every test leaves its parameters as they were."""
    with nengo_dl.Simulator(small(), minibatch_size=4, progress_bar=False) as sim:
        sim.compile(keras.optimizers.SGD(0.0), "mse")
        yield sim


@pytest.mark.parametrize("method", ("predict", "run_steps"))
def test_data_beyond_the_precision_say_so(sim, method):
    """And NumPy does not warn of the conversion, from inside of the package."""
    x = np.zeros((4, 3, 1))
    x[2, 1] = 1e300
    arguments = {"x": x} if method == "predict" else {"n_steps": 3, "data": x}
    with (
        warnings.catch_warnings(),
        pytest.raises(
            ValidationError, match=r"inf at item 2, step 1.*beyond float32.*3\.4e\+38"
        ),
    ):
        warnings.simplefilter("error")
        getattr(sim, method)(**arguments)
    x[2, 1] = np.inf
    with pytest.raises(ValidationError, match="drop or replace it"):
        getattr(sim, method)(**arguments)


class Batches(keras.utils.PyDataset):
    """Given batches."""

    def __init__(self, *batches):
        super().__init__()
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, i):
        return self.batches[i]


def in_form(form, x, y):
    """Arguments of `fit` with the same items in another form."""
    halves = [(x[:4], y[:4]), (x[4:], y[4:])]
    if form == "arrays":
        return {"x": x, "y": y}
    if form == "dataset":
        return {"x": tf.data.Dataset.from_tensor_slices((x, y)).batch(4)}
    if form == "unknown rank":
        spec = tf.TensorSpec(None, "float32")
        data = tf.data.Dataset.from_generator(
            lambda: iter(halves), output_signature=(spec, spec)
        )
        return {"x": data}
    if form == "generator":
        return {"x": iter(halves)}
    return {"x": Batches(*halves)}


FORMS = ("arrays", "dataset", "unknown rank", "generator", "PyDataset")


@pytest.mark.parametrize("value", (np.nan, np.inf))
@pytest.mark.parametrize("form", FORMS)
def test_data_that_are_no_numbers_are_refused_with_their_place(sim, form, value):
    x, y = np.zeros((8, 3, 1), "float32"), np.zeros((8, 3, 1), "float32")
    x[6, 2] = value
    item = 6 if form == "arrays" else 2
    with pytest.raises(ValidationError) as error:
        sim.fit(**in_form(form, x, y), verbose=0)
    text = str(error.value)
    assert f"data for Node 'stimulus' must be finite numbers; got {value}" in text
    assert f"item {item}, step 2, dimension 0" in text
    assert form == "arrays" or "(element 1 of the " in text


@pytest.mark.parametrize("form", FORMS)
def test_targets_that_are_no_numbers_are_refused_where_keras_reads_them(sim, form):
    x, y = np.zeros((8, 3, 1), "float32"), np.zeros((8, 3, 1), "float32")
    y[7, 1] = np.nan
    with pytest.raises(ValidationError, match="target for Probe 'answer'.*'mse' gives"):
        sim.fit(**in_form(form, x, y), verbose=0)


def by_number(y_true, y_pred):
    """A loss of one's own, for which NaN means something."""
    known = tf.math.is_finite(y_true)
    return tf.reduce_mean(tf.where(known, y_true - y_pred, 0) ** 2, -1)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("loss", (nengo_dl.losses.nan_mse, by_number))
def test_targets_may_be_nan_for_losses_that_say_what_it_means(sim, form, loss):
    x, y = np.ones((8, 3, 1), "float32"), np.zeros((8, 3, 1), "float32")
    y[5:, 1] = np.nan
    sim.compile(keras.optimizers.SGD(0.0), loss)
    history = sim.fit(**in_form(form, x, y), verbose=0).history["loss"]
    sim.compile(keras.optimizers.SGD(0.0), "mse")
    assert 0 < history[0] < np.inf


def test_targets_for_a_loss_that_does_not_look_at_them_may_be_anything(sim):
    y = np.full((4, 3, 1), np.nan)
    sim.compile(keras.optimizers.SGD(0.0), nengo_dl.losses.Regularize())
    found = sim.evaluate(np.zeros((4, 3, 1)), y, verbose=0)["loss"]
    sim.compile(keras.optimizers.SGD(0.0), "mse")
    assert np.isfinite(found)


@pytest.mark.parametrize("metric", ("mae", keras.metrics.MeanAbsoluteError()))
def test_targets_of_a_metric_alone_must_be_numbers(sim, metric):
    y = np.full((4, 3, 1), np.nan)
    sim.compile(loss={}, metrics={sim.model.probes[0]: [metric]})
    with pytest.raises(ValidationError, match="target for Probe 'answer'"):
        sim.evaluate(np.zeros((4, 3, 1)), y, verbose=0)
    sim.compile(keras.optimizers.SGD(0.0), "mse")


@pytest.mark.parametrize(
    "call",
    (
        lambda sim, x: sim.run_steps(3, data=x),
        lambda sim, x: sim.run(0.003, data=x),
        lambda sim, x: sim.predict(x),
        lambda sim, x: sim.predict_on_batch(x),
        lambda sim, x: sim.evaluate(x, np.zeros_like(x), verbose=0),
        lambda sim, x: sim.fit(
            np.zeros_like(x),
            np.zeros_like(x),
            validation_data=(x, np.zeros_like(x)),
            verbose=0,
        ),
    ),
)
def test_every_method_refuses_data_that_are_no_numbers(sim, call):
    x = np.zeros((4, 3, 1))
    x[2, 1] = np.nan
    with pytest.raises(ValidationError, match="'stimulus'.*item 2, step 1"):
        call(sim, x)


def test_weights_must_be_numbers(sim):
    x, weights = np.zeros((4, 3, 1)), np.array([1, 1, np.nan, 1])
    with pytest.raises(ValidationError, match="sample_weight for Probe 'answer'.*item 2"):
        sim.fit(x, x, sample_weight=weights, verbose=0)
    with pytest.raises(ValidationError, match="class_weight must be finite.*class 1"):
        sim.fit(x, x.astype(int), class_weight={0: 1, 1: np.inf}, verbose=0)


def broken(sim):
    """A simulator, trained at a rate that no parameter survives."""
    sim.compile(keras.optimizers.SGD(1e38), "mse")
    return {"x": np.ones((16, 1, 1)), "y": np.full((16, 1, 1), 1e3), "verbose": 0}


def test_training_to_parameters_that_are_no_numbers_is_an_error():
    with nengo_dl.Simulator(small(), minibatch_size=4, progress_bar=False) as sim:
        with pytest.raises(SimulationError) as error:
            sim.fit(epochs=3, **broken(sim))
        assert "after epoch 1" in str(error.value)
        assert "bias of <Neurons of <Ensemble" in str(error.value)
        assert "TerminateOnNaN" in str(error.value)
        sim.reset()
        sim.compile(keras.optimizers.SGD(1e-3), "mse")
        x = np.ones((4, 1, 1))
        assert np.isfinite(sim.fit(x, x, verbose=0).history["loss"]).all()


@pytest.mark.parametrize("as_list", (False, True))
def test_terminate_on_nan_ends_a_training_without_an_error(as_list, tmp_path):
    callbacks = [keras.callbacks.TerminateOnNaN()]
    with nengo_dl.Simulator(small(), minibatch_size=4, progress_bar=False) as sim:
        arguments = broken(sim)
        if as_list:
            callbacks = keras.callbacks.CallbackList(
                callbacks, add_history=True, model=sim.keras_model
            )
        with pytest.warns(UserWarning, match="after epoch 1, the parameters"):
            history = sim.fit(epochs=5, callbacks=callbacks, **arguments)
        assert len(history.history["loss"]) == 1


def test_good_weights_are_not_overwritten_by_a_checkpoint_with_nan(tmp_path):
    path = tmp_path / "best.weights.h5"
    checkpoint = keras.callbacks.ModelCheckpoint(path, save_weights_only=True)
    with nengo_dl.Simulator(small(), minibatch_size=4, progress_bar=False) as sim:
        with pytest.raises(SimulationError):
            sim.fit(callbacks=[checkpoint], **broken(sim))
    assert not path.exists()


@pytest.mark.parametrize("learned", (False, True))
def test_parameters_that_are_no_numbers_are_neither_saved_nor_frozen(learned, tmp_path):
    net = small()
    if learned:
        net.conn.learning_rule_type = nengo.PES()
        with net:
            nengo.Connection(net.out, net.conn.learning_rule, synapse=None)
    with nengo_dl.Simulator(net, minibatch_size=4, progress_bar=False) as sim:
        signal = sim.model.sig[net.conn]["weights"]
        values = {signal: np.full(signal.shape, np.nan)}
        (sim._live.write_learned if learned else sim._live.write)(values)
        sim.data.reset()
        name = r"Simulator.{}: the parameter .*\(weights of <Connection"
        path = tmp_path / "params.npz"
        with pytest.raises(ValidationError, match=name.format("save_params")):
            sim.save_params(path)
        with pytest.raises(ValidationError, match=name.format("freeze_params")):
            sim.freeze_params(net)
        with pytest.raises(ValidationError, match=name.format("get_nengo_params")):
            sim.get_nengo_params([net.conn])
        assert not path.exists()


def test_what_a_rule_learns_is_looked_at_after_each_epoch():
    net = small()
    net.conn.learning_rule_type = nengo.PES(learning_rate=1e30)
    with net:
        nengo.Connection(net.out, net.conn.learning_rule, synapse=None, transform=1e20)
    with nengo_dl.Simulator(net, minibatch_size=4, progress_bar=False) as sim:
        sim.compile(keras.optimizers.SGD(0.0), "mse")
        x = np.ones((4, 20, 1))
        with pytest.raises(SimulationError, match=r"weights of <Connection"):
            sim.fit(x, x, verbose=0)


def test_an_overflow_of_the_sum_is_no_nan():
    big = np.full((10, 4, 1), 3e38, "float32")
    assert is_finite(big)
    check_data(big, "data", "test")
    assert is_finite(np.arange(3))
    assert not is_finite(np.array([np.inf, -np.inf]))
