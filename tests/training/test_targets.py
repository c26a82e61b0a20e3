"""Which targets run, for which probes, and what is said of those that do not."""

import warnings

import keras
import nengo
import numpy as np
import pytest
import tensorflow as tf
from nengo.exceptions import ValidationError

import nengo_dl

STEPS = 3


def network(sizes=(2, 3), labels=("p", "q")):
    """Nodes that put out what they are given, and two probes of different sizes."""
    with nengo.Network(seed=0) as net:
        net.nodes_in = [nengo.Node(np.zeros(n), label=f"in{n}") for n in sizes]
        net.ps = []
        for node, size, label in zip(net.nodes_in, sizes, labels, strict=True):
            ens = nengo.Ensemble(5, size, neuron_type=nengo.RectifiedLinear(), label="B")
            out = nengo.Node(size_in=size)
            nengo.Connection(node, ens, synapse=None)
            nengo.Connection(ens, out, synapse=None)
            net.ps.append(nengo.Probe(out, label=label))
        net.decoded = ens
    return net


def simulator(net):
    return nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False)


def data(size, steps=STEPS):
    return np.linspace(-1, 1, 4 * steps * size).reshape(4, steps, size)


def keys(history):
    return set(history.history)


@pytest.mark.parametrize("form", ["array", "dataset", "generator"])
def test_one_array_of_targets_goes_to_the_only_probe_with_a_loss(form):
    net = network((2, 2))
    x, y = {net.nodes_in[0]: data(2)}, data(2)
    arguments = (x, y)
    if form == "dataset":
        named = {"in2": data(2)}
        arguments = (tf.data.Dataset.from_tensor_slices((named, y)).batch(2),)
    elif form == "generator":
        arguments = (({"in2": data(2)[i : i + 2]}, y[i : i + 2]) for i in (0, 2))
        arguments = (arguments,)
    with simulator(net) as sim:
        sim.compile("sgd", loss={net.ps[1]: "mse"})
        with pytest.warns(UserWarning, match="one array for 2 probes.*'q', the only one"):
            history = sim.fit(*arguments, verbose=0)
        assert keys(history) == {"loss", "q_loss"}


def test_one_array_goes_to_the_probe_or_node_that_it_fits():
    net = network()
    with simulator(net) as sim:
        sim.compile("sgd", loss="mse", metrics=["mae"])
        with pytest.warns(UserWarning) as caught:
            history = sim.fit(data(3), data(3), verbose=0)
        said = " ".join(str(warning.message) for warning in caught)
        assert "one array for 2 inputs; it is taken for Node 'in3', the only" in said
        assert "one array for 2 probes; it is taken for Probe 'q', the only" in said
        assert "no targets for the probes 'p'" in said
        assert keys(history) == {"loss", "q_loss", "q_mae"}
        expected = sim.predict({net.nodes_in[1]: data(3)})[net.ps[1]]
        assert np.array_equal(sim.predict(data(3))[net.ps[1]], expected)
        with pytest.raises(ValidationError, match="one array for 2 inputs"):
            sim.predict(data(5))


def test_targets_for_some_probes_of_one_loss():
    net = network()
    y = {net.ps[0]: data(2), net.ps[1]: data(3)}
    with simulator(net) as sim:
        optimizer = keras.optimizers.Adam()
        sim.compile(optimizer, loss="mse")
        options = {"n_steps": STEPS, "verbose": 0}
        assert keys(sim.fit(None, y, **options)) == {"loss", "p_loss", "q_loss"}
        with pytest.warns(UserWarning, match="no targets for the probes 'q'"):
            history = sim.fit(None, {net.ps[0]: data(2)}, **options)
        assert keys(history) == {"loss", "p_loss"}
        assert set(sim.evaluate(None, {"p": data(2)}, **options)) == {"loss", "p_loss"}
        # and back; the optimizer went on
        assert keys(sim.fit(None, y, **options)) == {"loss", "p_loss", "q_loss"}
        assert sim.keras_model.optimizer is optimizer and int(optimizer.iterations) == 6


@pytest.mark.parametrize("loss", [{"p": "mse", "q": "mse"}, ["mse", "mse"]], ids=str)
def test_losses_by_name_need_their_targets(loss):
    net = network()
    with simulator(net) as sim:
        sim.compile("sgd", loss=loss)
        with pytest.raises(ValidationError, match="no target for the probes 'q'"):
            sim.fit(None, {net.ps[0]: data(2)}, n_steps=STEPS)


@pytest.mark.parametrize("form", ["array", "dataset"])
def test_a_loss_of_ones_own_takes_any_targets(form):
    """Of another size, of fewer steps; it is the loss that knows what they mean."""

    def last_norm(y_true, y_pred):
        norm = keras.ops.sum(y_pred[:, -1:] ** 2, axis=-1, keepdims=True)
        return keras.ops.mean((y_true[:, -1:, :1] - norm) ** 2, axis=-1)

    net = network()
    (p, _) = net.ps
    with simulator(net) as sim:
        sim.compile("sgd", loss={p: last_norm})
        output = sim.predict(None, n_steps=STEPS)[p][0, -1]
        expected = np.mean((0.5 - np.sum(output**2)) ** 2)
        for y in (np.full((4, 1, 1), 0.5), np.full((4, STEPS, 7), 0.5)):
            arguments = {"x": None, "y": {"p": y}, "n_steps": STEPS}
            if form == "dataset":
                source = ({"in2": np.zeros((4, STEPS, 2))}, {"p": y})
                source = tf.data.Dataset.from_tensor_slices(source).batch(2)
                arguments = {"x": source}
            found = sim.evaluate(verbose=0, **arguments)["loss"]
            assert np.isclose(found, expected, rtol=1e-5)
        sim.compile("sgd", loss={p: "mse"})
        with pytest.raises(ValidationError, match="because the probe's size_in is 2"):
            sim.evaluate(None, {p: np.zeros((4, STEPS, 7))}, n_steps=STEPS)
        with pytest.raises(ValidationError, match="3 steps.*keep_history.*np.repeat"):
            sim.evaluate(None, {p: np.zeros((4, 1, 2))}, n_steps=STEPS)


SPARSE = [
    "sparse_categorical_crossentropy",
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    keras.losses.sparse_categorical_crossentropy,
]


@pytest.mark.parametrize("form", ["array", "dataset"])
@pytest.mark.parametrize("loss", SPARSE, ids=["name", "object", "function"])
def test_numbers_of_classes_that_there_are_not(loss, form):
    net = network()
    y = np.zeros((4, STEPS, 1), int)
    with simulator(net) as sim:
        sim.compile("sgd", loss={"q": loss})

        def fit(y):
            if form == "array":
                return sim.fit(None, {"q": y}, n_steps=STEPS, verbose=0)
            source = ({"in3": np.zeros((4, STEPS, 3))}, {"q": y})
            source = tf.data.Dataset.from_tensor_slices(source).batch(2)
            return sim.fit(source, verbose=0)

        fit(y)
        for number in (3, -1):
            y[1, 2] = number
            message = f"Probe 'q' has class {number} in item 1, step 2; .* from 0 to 2"
            with pytest.raises(ValidationError, match=message):
                fit(y)
        with pytest.raises(ValidationError, match="Count from 0: subtract 1"):
            fit(np.arange(1, 5).reshape(4, 1, 1).repeat(STEPS, 1).clip(1, 3))


def test_ignored_classes_may_have_any_number():
    net = network()
    loss = keras.losses.SparseCategoricalCrossentropy(ignore_class=-1)
    with simulator(net) as sim:
        sim.compile("sgd", loss={"q": loss})
        sim.fit(None, {"q": np.full((4, STEPS, 1), -1)}, n_steps=STEPS, verbose=0)


class Frame:
    """What NumPy and this package see of a table of pandas."""

    def __init__(self, values):
        self.values, self.index = values, range(len(values))

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.values, dtype)


@pytest.mark.parametrize(
    "loss, y, steps, advice",
    [
        (SPARSE[0], np.zeros(4, int), 1, "array[:, None, None]"),
        (SPARSE[0], np.zeros((4, 1), int), 1, "array[:, None, :]"),
        (SPARSE[0], np.zeros(4, int), 5, "np.repeat(array[:, None, None], 5, axis=1)"),
        (SPARSE[0], np.zeros((4, 5), int), 5, "array[:, :, None]"),
        (SPARSE[1], np.eye(3)[[0, 1, 2, 0]], 1, "np.argmax(array, axis=-1)[:, None, N"),
        (SPARSE[1], np.eye(3)[[[0], [1], [2], [0]]], 1, "np.argmax(array, axis=-1)[..."),
        ("mse", np.zeros((4, 3)), 1, "array[:, None, :]"),
        ("mse", np.zeros((4, 3)), 5, "np.repeat(array[:, None, :], 5, axis=1)"),
        ("mse", Frame(np.zeros((4, 3))), 1, "df.values[:, None, :]"),
    ],
)
def test_the_axis_that_fits_is_named(loss, y, steps, advice):
    net = network()
    with simulator(net) as sim:
        sim.compile("sgd", loss={"q": loss})
        with pytest.raises(ValidationError) as caught:
            sim.fit(None, {"q": y}, n_steps=steps)
    assert advice in str(caught.value)


def test_the_axis_that_fits_data_is_named():
    net = network((1, 3))
    with simulator(net) as sim:
        for value, advice in (
            (Frame(np.zeros((4, 3))), "df.values[:, None, :]"),
            (np.zeros((4, 3)), "array[:, None, :]"),
        ):
            with pytest.raises(ValidationError) as caught:
                sim.predict({"in3": value})
            assert advice in str(caught.value)


@pytest.mark.parametrize(
    "argument, value, near",
    [
        ("loss", "msee", "'mse'"),
        ("loss", "mean_square_error", "'mean_squared_error'"),
        ("loss", {"p": "sparse_crossentropy"}, "parse"),
        ("metrics", ["accurracy"], "'accuracy'"),
        ("optimizer", "adan", "'Adam'"),
    ],
)
def test_misspelt_names_list_near_ones(argument, value, near):
    net = network()
    with simulator(net) as sim:
        with pytest.raises(ValidationError, match=f"Keras has no .*did you mean.*{near}"):
            sim.compile(**{"optimizer": "sgd", "loss": "mse", argument: value})


def test_messages_say_what_is_probed():
    net = network(labels=(None, None))
    with net:
        nengo.Probe(net.decoded)
        nengo.Probe(net.decoded[0])
        unlabelled = nengo.Node([0.25])
        nengo.Connection(unlabelled, net.decoded[0])
    with simulator(net) as sim:
        sim.compile("sgd", loss=dict.fromkeys(net.all_probes, "mse"))
        with pytest.raises(ValidationError) as caught:
            sim.fit(None, {"probe": data(2)}, n_steps=STEPS)
        assert "'probe_2' (decoded output of 'B')" in str(caught.value)
        assert "'probe_3' (decoded output of 'B'[0:1])" in str(caught.value)
        with pytest.raises(
            ValidationError, match=r"'probe_2' \(decoded output of 'B'\) h"
        ):
            sim.fit(None, {"probe_2": data(5)}, n_steps=STEPS)
        with pytest.raises(ValidationError, match=r"Node 'node' \(output \[0.25\]\) has"):
            sim.predict({unlabelled: data(2)})


def test_nothing_is_said_where_nothing_is_chosen():
    net = network()
    with simulator(net) as sim, warnings.catch_warnings():
        warnings.simplefilter("error")
        sim.compile("sgd", loss="mse")
        y = {net.ps[0]: data(2), net.ps[1]: data(3)}
        sim.fit(dict(zip(net.nodes_in, (data(2), data(3)), strict=True)), y, verbose=0)
