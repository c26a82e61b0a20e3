"""What a user gets for bad input: the error, what it names, and what is left after it."""

import warnings

import nengo
import numpy as np
import pytest
from nengo.exceptions import (
    ReadonlyError,
    SimulationError,
    ValidationError,
)

import nengo_dl
from tests import networks
from tests.networks import small


@pytest.fixture
def sim():
    with nengo_dl.Simulator(small(), minibatch_size=2, progress_bar=False) as sim:
        yield sim


# running --------------------------------------------------------------------------------


def test_negative_time(sim):
    with pytest.raises(ValidationError, match="positive"):
        sim.run(-0.1)
    with pytest.raises(ValidationError, match="n_steps.*must not be negative.*-3"):
        sim.run_steps(-3)
    assert sim.n_steps == 0


@pytest.mark.parametrize("seconds", (0, 0.0001, 0.0004999))
def test_a_time_of_no_steps_warns(sim, seconds):
    sim.run_steps(4)
    with pytest.warns(UserWarning, match="0 timesteps.*still at time 0.004"):
        sim.run(seconds)
    assert sim.n_steps == 4


def test_no_steps(sim):
    sim.run_steps(0)
    assert sim.n_steps == 0
    assert sim.data[sim.network.probe].shape == (2, 0, 1)


@pytest.mark.parametrize("n_steps", (1.5, "3", None, float("nan")))
def test_not_a_number_of_steps(sim, n_steps):
    with pytest.raises(ValidationError, match="whole number of steps"):
        sim.run_steps(n_steps)


def test_numbers_of_steps_of_any_whole_type(sim):
    for n_steps in (np.int64(2), 2.0, np.float32(2)):
        sim.run_steps(n_steps)
    assert sim.n_steps == 6
    sim.run_steps(steps=3)  # core's name
    assert sim.n_steps == 9
    with pytest.raises(TypeError, match="steps"):
        sim.run_steps(3, steps=3)


@pytest.mark.parametrize("name", ("dg", "step_order", "rng", "sess", "other"))
def test_attributes_that_there_are_not(sim, name):
    assert not hasattr(sim, name)
    with pytest.raises(AttributeError) as error:
        getattr(sim, name)
    assert error.value.name == name
    start = f"'Simulator' object has no attribute '{name}'"
    assert str(error.value).startswith(start)
    assert (str(error.value) == start) == (name == "other")


def test_a_property_that_fails_says_why(sim, monkeypatch):
    monkeypatch.delattr(sim, "model")
    with pytest.raises(AttributeError, match="'model'"):
        _ = sim.dt


@pytest.mark.parametrize(
    "data, message",
    [
        (np.ones((2, 5)), r"Node 'stimulus' has shape \(2, 5\).*3 axes"),
        (np.ones((2, 5, 2)), r"Node 'stimulus' has shape \(2, 5, 2\).*size_out is 1"),
        (np.ones((3, 5, 1)), "Node 'stimulus' has 3 items.*expected 2"),
        (np.ones((2, 4, 1)), "Node 'stimulus' has 4 steps.*expected 5"),
        ({"stimulux": np.ones((2, 5, 1))}, "'stimulux'.*unknown.*'stimulus'"),
        ({"stimulus": [["a"] * 5] * 2}, "Node 'stimulus' must be real numbers"),
    ],
)
def test_data_that_do_not_fit(sim, data, message):
    with pytest.raises(ValidationError, match=message):
        sim.run_steps(5, data=data)
    assert sim.n_steps == 0
    sim.run_steps(5)
    assert sim.data[sim.network.probe].shape == (2, 5, 1)


def test_data_for_what_is_not_an_input():
    net = small()
    with net:
        inner = nengo.Node(size_in=1, label="inner")
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        with pytest.raises(ValidationError, match="'inner'.*not an input"):
            sim.run_steps(5, data={inner: np.ones((1, 5, 1))})
        with pytest.raises(ValidationError, match="'ens'.*not an input"):
            sim.run_steps(5, data={net.ens: np.ones((1, 5, 1))})


# building -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, value",
    [
        ("minibatch_size", 0),
        ("minibatch_size", -1),
        ("minibatch_size", 2.5),
        ("minibatch_size", True),
        ("unroll_simulation", 0),
        ("unroll_simulation", None),
        ("device", "fast one"),
        ("device", 0),
        ("progress_bar", "yes"),
    ],
)
def test_arguments_that_do_not_fit(name, value):
    with pytest.raises(ValidationError, match=name):
        nengo_dl.Simulator(small(), **{"progress_bar": False, name: value})


def test_nothing_to_simulate():
    with pytest.raises(ValidationError, match="network or a built model"):
        nengo_dl.Simulator(None)


def test_what_has_no_kernel_is_named_and_runs():
    class Unknown(nengo.neurons.RectifiedLinear):
        def step(self, dt, J, output):
            output[...] = J

    with nengo.Network() as net:
        ens = nengo.Ensemble(10, 1, neuron_type=Unknown())
        probe = nengo.Probe(ens.neurons)
    with pytest.warns(UserWarning, match="Unknown.*NeuronKernel"):
        sim = nengo_dl.Simulator(net, progress_bar=False)
    with sim:
        sim.run_steps(3)
        assert np.allclose(sim.data[probe][0], sim.data[ens].bias)


def test_read_only(sim):
    with pytest.raises(ReadonlyError, match="dt"):
        sim.dt = 0.1
    sim.run_steps(3)
    with pytest.raises(ValueError, match="read-only"):
        sim.data[sim.network.probe][...] = 0
    with pytest.raises(TypeError):
        sim.data[sim.network.probe] = 0


def test_settings_of_inner_networks_warn():
    with nengo.Network() as net:
        with nengo.Network(label="inner"):
            nengo_dl.configure_settings(dtype="float64")
    with pytest.warns(UserWarning, match="'dtype'.*inner.*no effect"):
        nengo_dl.Simulator(net, progress_bar=False).close()


# devices --------------------------------------------------------------------------------


def test_a_device_that_is_not_there_warns_and_the_cpu_takes_over():
    with pytest.warns(UserWarning, match=r"'/gpu:12'.*no? ?.*GPU"):
        sim = nengo_dl.Simulator(small(), device="/gpu:12", progress_bar=False)
    with sim:
        sim.run_steps(5)
        assert sim.device == "/cpu:0"
        assert sim.data[sim.network.probe].shape == (5, 1)
        assert sim.predict(n_steps=5)["out"].shape == (1, 5, 1)


@pytest.mark.parametrize("device", ("/cpu:0", "/device:CPU:0", "cpu:0"))
def test_the_cpu_is_always_there(device):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        with nengo_dl.Simulator(small(), device=device, progress_bar=False) as sim:
            sim.run_steps(2)
            assert sim.device == device


def test_new_variables_are_on_the_device_and_of_the_type():
    import keras
    import tensorflow as tf

    net = small()
    with net:
        nengo_dl.configure_settings(dtype="float64")
    before = keras.config.floatx(), keras.config.dtype_policy()
    with nengo_dl.Simulator(net, device="/cpu:0", progress_bar=False) as sim:
        assert tf.Variable(1.0).device.endswith("CPU:0")
        assert keras.Variable(np.ones(3)).dtype == "float64"
        assert keras.layers.Dense(2).compute_dtype == "float64"
        sim.run_steps(2)
    assert (keras.config.floatx(), keras.config.dtype_policy()) == before


# networks without this or that ----------------------------------------------------------


def test_without_probes():
    net = small(probe=False)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(5)
        sim.step()
        assert sim.n_steps == 6
        assert sim.predict(n_steps=5) == {}
        for call in (
            lambda: sim.compile("sgd", "mse"),
            lambda: sim.keras_model,
        ):
            with pytest.raises(ValidationError, match="no probes.*nengo.Probe"):
                call()


def test_without_probes_functions_still_run():
    seen = []
    with nengo.Network() as net:
        nengo.Node(lambda t: seen.append(t), size_out=0)
        inp = nengo.Node(np.sin)
        sink = nengo.Node(lambda t, x: seen.append(float(x[0])), size_in=1)
        nengo.Connection(inp, sink, synapse=None)
    seen.clear()  # Nengo itself has tried them
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(3)
        assert np.allclose(seen, [0.001, 0.001, 0.002, 0.002, 0.003, 0.003], atol=1e-6)


def test_a_step_that_reads_no_function_raises_what_one_raises():
    with nengo.Network() as net:
        nengo_dl.configure_settings(jit=False)
        nengo.Node(lambda t: 1 / round(t - 0.002, 6), size_out=1)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.step()
        with pytest.raises(ZeroDivisionError):
            sim.step()
        assert sim.n_steps == 1


def test_without_inputs():
    with nengo.Network(seed=0) as net:
        ens = nengo.Ensemble(10, 1)
        probe = nengo.Probe(ens, synapse=0.01)
    with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
        sim.run_steps(20)
        expected = sim.data[probe].copy()
        sim.reset()
        assert np.allclose(sim.predict(n_steps=20)[probe], expected, atol=1e-6)
        assert sim.predict_on_batch(n_steps=20)[probe].shape == (2, 20, 1)
        with pytest.raises(ValidationError, match="number of steps is not known"):
            sim.predict()
        with pytest.raises(ValidationError, match="0 inputs|no inputs"):
            sim.predict(np.ones((2, 5, 1)))
        sim.compile("sgd", "mse")
        y = np.zeros((5, 10, 1))
        history = sim.fit(n_steps=10, y=y, verbose=0).history
        assert set(history) == {"loss", "probe_loss"}
        assert set(sim.evaluate(n_steps=10, y=y, verbose=0)) == {"loss", "probe_loss"}


def test_an_empty_network():
    with nengo.Network() as net:
        pass
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(3)
        assert sim.n_steps == 3


# training -------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ("fit", "evaluate"))
def test_before_compile(sim, method):
    with pytest.raises(SimulationError, match=f"{method}.*compile"):
        getattr(sim, method)(n_steps=2, y=np.zeros((2, 2, 1)))


def test_without_an_optimizer(sim):
    y = np.zeros((2, 2, 1))
    sim.compile(optimizer=None, loss="mse")
    with pytest.raises(SimulationError, match="compile was called with optimizer=None"):
        sim.fit(n_steps=2, y=y)
    assert np.isfinite(sim.evaluate(n_steps=2, y=y, verbose=0)["loss"])


def test_inference_only():
    net = small()
    with net:
        nengo_dl.configure_settings(inference_only=True)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.compile("sgd", "mse")
        with pytest.raises(SimulationError, match="inference_only"):
            sim.fit(n_steps=2, y=np.zeros((1, 2, 1)))
        assert sim.predict(n_steps=2)["out"].shape == (1, 2, 1)


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"y": np.zeros((2, 5))}, r"Probe 'out' has shape \(2, 5\)"),
        ({"y": np.zeros((2, 5, 2))}, r"Probe 'out'.*\(batch, steps, 1\)"),
        ({"y": np.zeros((2, 1, 1))}, "Probe 'out'.*expected 5"),
        ({"y": np.zeros((3, 5, 1))}, "Probe 'out' has 3 items.*expected 2"),
        ({"y": {"in": np.zeros((2, 5, 1))}}, "'in'.*unknown.*'out'"),
        ({"y": [np.zeros((2, 5, 1))] * 2}, "2 arrays for 1 probes"),
        ({"y": None}, "no targets"),
        ({"x": lambda: iter([1]), "y": None}, "a generator .* x is a function"),
        ({"y": {}}, "no target for the probes 'out'"),
        ({"x": np.ones((2, 4, 1))}, "Node 'stimulus' has 4 steps.*expected 5"),
        ({"x": np.ones((2, 5, 3))}, "Node 'stimulus'.*size_out is 1"),
        ({"validation_data": np.zeros(3)}, "validation_data.*sample_weight"),
        ({"x": np.ones((0, 5, 1)), "y": np.ones((0, 5, 1))}, "at least 1 item"),
        ({"x": None, "n_steps": 0}, "at least 1 step as n_steps.*got 0"),
        ({"n_steps": 5.0}, "at least 1 step as n_steps, a whole number; got 5.0"),
        ({"n_steps": np.zeros((2, 5, 1))}, "as n_steps, a whole number; got a ndarray"),
        ({"batch_size": 0}, "at least 1 item as batch_size, a whole number; got 0"),
        ({"batch_size": 2.5}, "at least 1 item as batch_size, .* got 2.5"),
        ({"validation_batch_size": "a"}, "as validation_batch_size, .* got 'a'"),
        ({"validation_split": 1.5}, "validation_split is a fraction .* got 1.5"),
        ({"x": None, "n_steps": None}, "number of steps is not known"),
    ],
)
def test_training_data_that_do_not_fit(sim, kwargs, message):
    sim.compile("sgd", "mse")
    good = {"x": np.ones((2, 5, 1)), "y": np.zeros((2, 5, 1)), "n_steps": 5}
    with pytest.raises(ValidationError, match=message):
        sim.fit(**{**good, **kwargs}, verbose=0)


def test_probes_that_compile_does_not_know(sim):
    with pytest.raises(ValidationError, match="loss.*'in'.*no probes.*'out'"):
        sim.compile("sgd", loss={"in": "mse"})
    with pytest.raises(ValidationError, match="loss_weights.*2 values for 1 probes"):
        sim.compile("sgd", loss="mse", loss_weights=[1.0, 2.0])
    with pytest.raises(ValueError, match="[Oo]ptimizer|nonsense"):
        sim.compile("nonsense", loss="mse")


def test_more_than_a_batch_at_once(sim):
    with pytest.raises(ValidationError, match="3 items.*minibatch_size=2"):
        sim.predict_on_batch(np.ones((3, 4, 1)))
    with pytest.raises(ValueError, match="at most 2 items"):
        sim.keras_model.predict({"stimulus": np.ones((3, 4, 1))}, verbose=0)


def test_one_step_through_synapses_warns(sim):
    with pytest.warns(UserWarning, match="one step.*synapse=None"):
        sim.predict(np.ones((2, 1, 1)))
    with nengo.Network() as net:
        node = nengo.Node([1])
        ens = nengo.Ensemble(10, 1)
        nengo.Connection(node, ens, synapse=None)
        nengo.Probe(ens)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        with nengo_dl.Simulator(net, progress_bar=False) as other:
            other.predict(np.ones((1, 1, 1)))


def test_one_step_warns_of_the_synapses_of_trained_probes_only():
    with nengo.Network() as net:
        ens = nengo.Ensemble(10, 1)
        nengo.Connection(nengo.Node([1]), ens, synapse=None)
        probe, filtered = nengo.Probe(ens), nengo.Probe(ens, synapse=0.01)
    x = np.ones((2, 1, 1))
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.compile("sgd", loss="mse")
        with pytest.warns(UserWarning, match="one step.*synapse=None"):
            sim.fit(x, {probe: x, filtered: x}, verbose=0)
        sim.compile("sgd", loss={probe: "mse"})
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "Simulator.fit: running one step")
            sim.fit(x, {probe: x}, verbose=0)


def test_a_fit_that_failed_does_not_spoil_the_next(sim):
    def bad(y_true, y_pred):
        raise RuntimeError("a loss with a bug")

    y = np.zeros((2, 5, 1))
    sim.compile("sgd", loss=bad)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="a loss with a bug"):
            sim.fit(n_steps=5, y=y, verbose=0)
    sim.compile("sgd", loss="mse")
    assert np.isfinite(sim.fit(n_steps=5, y=y, verbose=0).history["loss"]).all()

    state = {"fails": True}

    def sometimes(y_true, y_pred):
        if state["fails"]:
            raise RuntimeError("not yet")
        return (y_true - y_pred) ** 2

    sim.compile("adam", loss=sometimes, metrics=["mae"])
    with pytest.raises(RuntimeError, match="not yet"):
        sim.fit(n_steps=5, y=y, verbose=0)
    state["fails"] = False
    history = sim.fit(n_steps=5, y=y, verbose=0).history
    assert set(history) == {"loss", "out_loss", "out_mae"}


def test_functions_that_depend_on_each_other_need_the_same_inputs():
    net = networks.python_functions(several=True)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        probe = net.probes[0]
        sim.compile("sgd", loss={probe: "mse"})
        y = {probe: np.zeros((1, 3, 1))}
        x = {net.nodes[0]: np.ones((1, 3, 1))}
        with pytest.raises(ValidationError, match="same nodes as in x"):
            sim.fit(n_steps=3, y=y, validation_data=(x, y), verbose=0)
