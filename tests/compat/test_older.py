"""Scripts in the style of earlier versions, and what they are told to write instead."""

import pickle
import warnings

import keras
import nengo
import numpy as np
import pytest
import tensorflow as tf
from nengo.exceptions import ConfigError, ValidationError

import nengo_dl
from tests import networks

old = pytest.mark.filterwarnings("ignore:.*is deprecated; write:DeprecationWarning")


def autoencoder(n_probes=1, **settings):
    """One layer with rates near 1, and an input."""
    with nengo.Network(seed=3) as net:
        nengo_dl.configure_settings(**settings)
        net.inp = nengo.Node(np.zeros(2), label="inp")
        net.a = nengo.Ensemble(
            10,
            2,
            neuron_type=nengo.Tanh(tau_ref=1),
            gain=nengo.dists.Uniform(0.5, 1),
            bias=nengo.dists.Uniform(-1, 1),
            label="a",
        )
        nengo.Connection(net.inp, net.a, transform=np.eye(2), synapse=None)
        net.out = [nengo.Probe(net.a, label=f"out{i}") for i in range(n_probes)]
    return net


@pytest.fixture
def data(rng):
    return rng.uniform(-1, 1, size=(8, 1, 2))


def simulator(net, **kwargs):
    return nengo_dl.Simulator(net, **{"minibatch_size": 4, **kwargs}, progress_bar=False)


def trained_today(net, x, y, loss="mse", epochs=3, **kwargs):
    """Loss after training, with the names of today."""
    with simulator(net, seed=0) as sim:
        sim.compile(keras.optimizers.SGD(0.1), loss=loss)
        sim.fit(x, y, epochs=epochs, verbose=0, shuffle=False, **kwargs)
        return sim.evaluate(x, y, verbose=0)["loss"]


def test_training_in_the_style_of_0_x(data, allclose):
    net = autoencoder()
    (probe,) = net.out
    expected = trained_today(net, {net.inp: data}, {probe: data**2})
    with simulator(net, seed=0) as sim:
        with pytest.warns(DeprecationWarning, match="Simulator.train is") as caught:
            sim.train(
                {net.inp: data},
                {probe: data**2},
                keras.optimizers.SGD(0.1),
                n_epochs=3,
                objective="mse",
                shuffle=False,
            )
        (message,) = (str(w.message) for w in caught if w.filename == __file__)
        assert message == (
            "Simulator.train is deprecated; write\n"
            "    sim.compile(optimizer=SGD(...), loss={'out0': "
            "nengo_dl.losses.nan_mse})\n"
            "    sim.fit({'inp': ...}, {'out0': ...}, epochs=3, shuffle=False)"
        )
        with pytest.warns(DeprecationWarning, match=r'sim.evaluate\(.*\)\["loss"\]'):
            loss = sim.loss({net.inp: data}, {probe: data**2}, "mse")
    assert isinstance(loss, float)
    assert allclose(loss, expected, rtol=1e-6)


@old
def test_one_objective_for_all_targets_in_the_style_of_1_x(data, allclose):
    net = autoencoder(n_probes=2)
    first, second = net.out
    expected = trained_today(net, {net.inp: data}, {first: data, second: -data})
    with simulator(net, seed=0) as sim:
        sim.train(
            inputs={net.inp: data},
            targets={first: data, second: -data},
            optimizer=keras.optimizers.SGD(0.1),
            n_epochs=3,
            objective=lambda outputs, targets: tf.reduce_mean((outputs - targets) ** 2),
            shuffle=False,
            summaries=None,
            profile=False,
        )
        loss = sim.loss({net.inp: data}, targets={first: data, second: -data})
        assert allclose(loss, expected, rtol=1e-6)
        one = sim.loss({net.inp: data}, {first: data}, objective={first: "mse"})
        assert 0 < one < loss


@old
def test_training_in_the_style_of_2_x(data, allclose):
    net = autoencoder()
    (probe,) = net.out
    expected = trained_today(net, data, data)

    def my_objective(outputs, targets):
        return tf.reduce_mean(tf.square(targets - outputs))

    for objective in (None, {probe: my_objective}):
        with simulator(net, seed=0) as sim:
            sim.train(
                {net.inp: data, probe: data},
                keras.optimizers.SGD(0.1),
                n_epochs=3,
                objective=objective,
                shuffle=False,
                progress_bar=False,
            )
            loss = sim.loss(
                {net.inp: data, probe: data}, objective=objective, progress_bar=False
            )
        assert allclose(loss, expected, rtol=1e-6)


@old
def test_optimizers_go_on_where_they_were(data):
    net = autoencoder()
    (probe,) = net.out
    optimizer = keras.optimizers.Adam(1e-2)
    feeds = {net.inp: data, probe: data}
    with simulator(net) as sim:
        assert sim.training_step == 0
        sim.train(feeds, optimizer, n_epochs=2)
        train_function = sim.keras_model.train_function
        assert sim.training_step == 4
        sim.loss(feeds)
        sim.train(feeds, optimizer)
        assert sim.training_step == 6
        assert sim.keras_model.train_function is train_function  # not traced again
        sim.loss(feeds, {probe: lambda x, y: tf.reduce_max(abs(x - y))})
        sim.train(feeds, optimizer)
        assert sim.training_step == 8


def test_names_of_attributes():
    """Those of NengoDL 3 and Keras 2 that scripts read."""
    net = autoencoder()
    with simulator(net) as sim:
        with pytest.warns(DeprecationWarning, match="write\n    sim.unroll_simulation"):
            assert sim.unroll == sim.unroll_simulation == 1
        assert sim.keras_model.input_names == [sim.get_name(net.inp)]
        assert isinstance(sim.data, nengo_dl.simulator.SimulationData)
        assert list(sim.data) == list(sim.data.keys()) and net.out[0] in list(sim.data)


@old
def test_objectives_without_targets(data, allclose):
    net = autoencoder(n_probes=2)
    first, second = net.out
    with simulator(net, seed=0) as sim:
        with pytest.warns(DeprecationWarning, match=r"losses.Regularize\(order=1, ax"):
            small = nengo_dl.objectives.Regularize(order=1, weight=0.5)
        output = sim.predict(data)[first]
        feeds = {net.inp: data}
        assert allclose(
            sim.loss(feeds, {first: small}),
            0.5 * np.abs(output).sum(axis=(1, 2)).mean(),
            rtol=1e-5,
        )
        before = sim.loss({**feeds, second: data}, {first: small, second: "mse"})
        sim.train(
            {**feeds, second: data},
            keras.optimizers.SGD(1e-2),
            objective={first: small, second: nengo_dl.objectives.mse},
        )
        assert sim.loss({**feeds, second: data}, {first: small, second: "mse"}) < before


@old
def test_weights_are_kept_small(data, allclose):
    net = autoencoder()
    (probe,) = net.out
    with net:
        nengo_dl.configure_settings(keep_history=True)
        weights = nengo.Probe(net.connections[0], "weights")
        last = nengo.Probe(net.a)
    net.config[last].keep_history = False
    small = nengo_dl.objectives.Regularize(order=1)
    objective = {probe: "mse", weights: small, last: small}
    feeds = {net.inp: data, probe: data}
    with simulator(net, seed=0) as sim:
        before = np.abs(sim.data[net.connections[0]].weights).sum()
        found = sim.loss(feeds, {weights: small})
        assert allclose(found, before, rtol=1e-5)
        sim.train(feeds, keras.optimizers.SGD(1e-2), objective=objective)
        assert np.abs(sim.data[net.connections[0]].weights).sum() < before


@old
def test_objective_of_several_probes(data, allclose):
    net = autoencoder(n_probes=2)
    both = tuple(net.out)

    def difference(outputs, targets):
        (a, b), (c, d) = outputs, targets
        return tf.reduce_mean((a + 2 * b - c - d) ** 2)

    feeds = {net.inp: data, both[0]: data, both[1]: -data}
    with simulator(net, seed=0) as sim:
        outputs = sim.predict(data)
        expected = np.mean((outputs[both[0]] + 2 * outputs[both[1]]) ** 2)
        with pytest.warns(DeprecationWarning, match="nengo.Node.*probe that"):
            loss = sim.loss(feeds, {both: difference})
        assert allclose(loss, expected, rtol=1e-5)
        sim.train(feeds, keras.optimizers.SGD(0.05), objective={both: difference})
        assert sim.loss(feeds, {both: difference}) < loss


@old
def test_targets_that_are_gradients(data, allclose):
    """With None as the objective, what is given for a probe is the gradient itself."""
    net = autoencoder(dtype="float64")
    (probe,) = net.out
    found = []
    for era in (0, 1, 2):
        with simulator(net, seed=0, minibatch_size=8) as sim:
            sgd = keras.optimizers.SGD(1e-2)
            if era == 0:  # by hand: the error of the mean square
                sim.compile(sgd, loss="mse")
                sim.fit(data, np.zeros_like(data), verbose=0)
            error = 2 * sim.predict(data)[probe] / data.size
            if era == 1:
                sim.train({net.inp: data}, {probe: error}, sgd, objective=None)
            if era == 2:
                sim.train({net.inp: data, probe: error}, sgd, objective={probe: None})
            found.append(sim.data[net.a].bias)
    assert allclose(found[1], found[0], atol=1e-12)
    assert allclose(found[2], found[0], atol=1e-12)


@old
def test_a_number_of_steps_as_data():
    with nengo.Network(seed=0) as net:
        inp = nengo.Node([0.5])
        ens = nengo.Ensemble(
            10, 1, neuron_type=nengo.Tanh(tau_ref=1), gain=np.ones(10), bias=np.ones(10)
        )
        nengo.Connection(inp, ens, synapse=None)
        probe = nengo.Probe(ens)
    with simulator(net, minibatch_size=None) as sim:
        objective = {probe: lambda outputs: tf.reduce_mean(outputs**2)}
        before = sim.loss(5, objective)
        output = sim.predict(n_steps=5)[probe]
        assert np.isclose(before, np.mean(output**2), rtol=1e-5)
        sim.train(5, keras.optimizers.SGD(1e-3), objective=objective)
        assert sim.loss(5, objective) < before


def test_input_feeds():
    with nengo.Network() as net:
        node = nengo.Node([0])
        probe = nengo.Probe(node)
    mini, n_steps = 3, 5
    values = np.ones((mini, n_steps, 1)) + np.arange(mini)[:, None, None]
    with simulator(net, minibatch_size=mini) as sim:
        with pytest.warns(DeprecationWarning, match=r"run_steps\(..., data=") as caught:
            sim.run_steps(n_steps, input_feeds={node: values})
            sim.run(n_steps * sim.dt, input_feeds={node: values})
            sim.step(input_feeds={node: values[:, :1]})
        assert [w.filename for w in caught] == [__file__] * 3
        expected = np.concatenate([values, values, values[:, :1]], axis=1)
        assert np.array_equal(sim.data[probe], expected)
        with pytest.raises(TypeError, match="both data and input_feeds"):
            sim.run_steps(n_steps, {node: values}, input_feeds={node: values})
        sim.run_steps(1, input_feeds=None, profile=False)
        with pytest.raises(TypeError, match="unexpected argument 'input_feed'"):
            sim.run_steps(n_steps, input_feed={node: values})
        assert sim.n_steps == 12


@pytest.mark.parametrize("dtype", (tf.float64, np.float64, "float64"))
def test_dtype_as_an_argument(dtype):
    net = networks.mixed_parameters()
    with pytest.warns(DeprecationWarning, match=r"settings\(dtype='float64'\)") as caught:
        sim = simulator(net, minibatch_size=None, dtype=dtype)
    assert [w.filename for w in caught if "dtype" in str(w.message)] == [__file__]
    with sim, nengo.Simulator(net, progress_bar=False) as ref:
        sim.run_steps(50)
        ref.run_steps(50)
        (probe,) = net.probes
        assert sim.data[probe].dtype == np.float64
        assert np.allclose(sim.data[probe], ref.data[probe], atol=1e-12)
    with simulator(net) as other:  # the network itself was not changed
        assert other.dtype == np.float32


def test_older_arguments_survive_pickling():
    with nengo.Network(seed=0) as net:
        nengo.Probe(nengo.Ensemble(10, 1))
    with pytest.warns(DeprecationWarning, match="tensorboard"):
        sim = simulator(net, dtype="float64", tensorboard="logs")
    with sim, pickle.loads(pickle.dumps(sim)) as other:
        assert other.dtype == np.float64
        assert other.tensorboard == sim.tensorboard == "logs"


@old
def test_summaries(data, tmp_path):
    net = autoencoder()
    (probe,) = net.out
    feeds = {net.inp: data, probe: data}
    objects = ["loss", net.a, net.a.neurons, net.connections[0]]
    with simulator(net, tensorboard=str(tmp_path)) as sim:
        sim.train(feeds, keras.optimizers.SGD(0.1), summaries=objects)
        assert len(list(tmp_path.rglob("*tfevents*"))) > 1
    with simulator(net, tensorboard=None) as sim:
        assert sim.tensorboard is None
        with pytest.warns(UserWarning, match="made without tensorboard="):
            sim.train(feeds, keras.optimizers.SGD(0.1), summaries=["loss"])


@pytest.mark.parametrize("name", ("include_local", "include_non_trainable"))
def test_older_arguments_of_saving(name, tmp_path):
    net, path = networks.mixed_parameters(), tmp_path / "saved"
    with simulator(net) as sim, simulator(net) as other:
        sim.run_steps(3)
        with pytest.warns(DeprecationWarning, match="include_state=True") as caught:
            sim.save_params(path, include_global=True, **{name: True})
        assert [w.filename for w in caught] == [__file__]
        with pytest.warns(DeprecationWarning, match="include_state=False"):
            other.load_params(path, **{name: False})
        assert other.n_steps == 0
        with pytest.warns(DeprecationWarning, match="load_params.path, include_state=T"):
            other.load_params(path, **{name: True})
        assert other.n_steps == 3
        with pytest.raises(ValidationError, match="leave out include_global"):
            sim.save_params(path, include_global=False)
        with pytest.raises(TypeError, match="unexpected argument 'include_all'"):
            sim.save_params(path, include_all=True)


@old
def test_run_batch(data):
    net = autoencoder()
    (probe,) = net.out
    with simulator(net) as sim:
        expected = sim.predict(data)[probe]
        found = sim.run_batch({net.inp: data}, {probe: None})[probe]
        assert found.shape == (2, 4, 1, 2)  # batches are stacked
        assert np.array_equal(found.reshape(expected.shape), expected)
        found = sim.run_batch({net.inp: data}, [probe], combine=np.concatenate)
        assert np.array_equal(found[probe], expected)
        found = sim.run_batch({net.inp: data}, {probe: tf.reduce_sum}, combine=np.sum)
        assert np.isclose(found[probe], expected.sum(), rtol=1e-5)
        with pytest.warns(UserWarning, match="last 3 are left out"):
            found = sim.run_batch({net.inp: data[:7]}, [probe])[probe]
        assert found.shape == (1, 4, 1, 2)
        twice = sim.run_batch(
            {net.inp: data}, [probe], n_epochs=2, shuffle=True, combine=np.concatenate
        )
        assert np.allclose(
            np.sort(twice[probe], axis=0), np.sort(np.tile(expected, (2, 1, 1)), axis=0)
        )
        with pytest.raises(ValidationError, match="sim.compile.*and sim.fit"):
            sim.run_batch({net.inp: data}, [probe], training=True)
        with pytest.raises(ValidationError, match="extra_fetches any more: .*Probe"):
            sim.run_batch({net.inp: data}, [probe], extra_fetches=[1])


@old
def test_run_batch_can_carry_the_state():
    net = networks.processes()
    probe = net.probes[-1]
    with simulator(net, minibatch_size=1, seed=0) as sim:
        found = sim.run_batch(6, {probe: None}, n_epochs=2, isolate_state=False)[probe]
        assert sim.n_steps == 12
    with simulator(net, minibatch_size=1, seed=0) as sim:
        sim.run_steps(12)
        assert np.allclose(found.reshape((12, -1)), sim.data[probe][0], atol=1e-5)


def test_print_params(capsys):
    net = autoencoder()
    with simulator(net) as sim:
        with pytest.warns(DeprecationWarning, match=r"print\(sim.data\[obj\]\)"):
            sim.print_params("before training")
    text = capsys.readouterr().out
    assert text.startswith("before training:\n")
    assert "ensembles['a'].encoders\n" in text


def test_direct_calls_of_objectives(rng):
    x, y = rng.uniform(size=(2, 4, 3, 2)).astype("float32")
    y[0] = np.nan
    with pytest.warns(DeprecationWarning, match=r"nan_mse\(targets, outputs\)"):
        value = nengo_dl.objectives.mse(x, y)
    assert np.isclose(value, np.nansum((x - y) ** 2) / x.size)


@pytest.mark.parametrize(
    "optimizer, instead",
    [
        (lambda train: train.GradientDescentOptimizer(0.1), r"optimizers.SGD\(0.1\)"),
        (lambda train: train.AdamOptimizer(1e-4), r"optimizers.Adam\(0.0001\)"),
        (lambda train: train.MomentumOptimizer(0.1, 0.9), r"SGD\(0.1, momentum="),
        (lambda train: train.RMSPropOptimizer(0.1), r"optimizers.RMSprop\(0.1\)"),
    ],
)
def test_optimizers_of_tensorflow_1(optimizer, instead, data):
    net = autoencoder()
    with simulator(net) as sim:
        feeds = {net.inp: data, net.out[0]: data}
        with pytest.raises(ValidationError, match=instead):
            sim.train(feeds, optimizer(tf.compat.v1.train))


def test_what_cannot_be_translated(data):
    net = autoencoder()
    feeds = {net.inp: data, net.out[0]: data}
    for name, value, instead in (
        ("extra_feeds", {"x": 1}, "add a nengo.Node"),
        ("truncation", 5, r"configure_settings\(truncate=5\)"),
        ("profile", True, "callbacks.TensorBoard"),
    ):
        with simulator(net) as sim:
            with pytest.raises(ValidationError, match=f"{name}: .*{instead}"):
                sim.train(feeds, keras.optimizers.SGD(0.1), **{name: value})
    with simulator(net) as sim:
        with pytest.raises(ValidationError, match="run_steps does not take extra_feeds"):
            sim.run_steps(3, extra_feeds={"x": 1})
        with pytest.raises(ValidationError, match="combine"):
            sim.loss(feeds, combine=np.sum)
        with pytest.raises(ValidationError, match="learning_phase=True"):
            sim.loss(feeds, training=True)
        with pytest.raises(ValidationError, match="objective: expected a function"):
            sim.loss(feeds, {net.out[0]: 3})
        with pytest.raises(TypeError, match="unexpected argument 'epochs'"):
            sim.train(feeds, keras.optimizers.SGD(0.1), epochs=3)
        with pytest.raises(TypeError, match="two values for 'optimizer'"):
            sim.train(feeds, "sgd", optimizer="sgd")
        with pytest.raises(TypeError, match="needs an optimizer"):
            sim.train(feeds)
        with pytest.raises(TypeError, match="at most 6 arguments"):
            sim.loss(feeds, None, np.mean, None, True, False, None)


@pytest.mark.parametrize(
    "name, instead",
    [
        ("configure_trainable", "write nengo_dl.configure_settings(trainable=False)"),
        ("DATA_DIR", "folders are given by you"),
        ("utils", "has no successor"),
        ("other", ""),
    ],
)
def test_names_of_the_package_that_are_gone(name, instead):
    assert not hasattr(nengo_dl, name)
    with pytest.raises(AttributeError) as error:
        getattr(nengo_dl, name)
    start = f"module 'nengo_dl' has no attribute '{name}'"
    assert str(error.value).startswith(start) and instead in str(error.value)
    assert (str(error.value) == start) == (name == "other")
    assert error.value.name == name and error.value.obj is nengo_dl


def test_older_arguments_of_the_simulator_that_cannot_be_translated():
    net = autoencoder()
    for arguments, instead in (
        ({"step_blocks": 10}, r"Simulator\(..., unroll_simulation=10\)"),
        ({"session_config": {"a": 1}}, "set_memory_growth"),
        ({"tensorboard": True}, "expected a folder"),
        ({"dtype": "int8"}, "must be 'float32' or 'float64'"),
    ):
        with pytest.raises(ValidationError, match=instead):
            simulator(net, **arguments)
    with pytest.raises(TypeError, match="unexpected argument 'mini'"):
        simulator(net, mini=3)
    with net, pytest.raises(ConfigError, match="session_config.*tf.config"):
        nengo_dl.configure_settings(session_config={"gpu_options.allow_growth": True})
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        with simulator(net, tensorboard=False, step_blocks="deprecated", dtype=None):
            pass
