"""The network as a Keras layer: variables, shapes, and state between calls."""

import nengo
import numpy as np
import pytest

import nengo_dl
from tests import networks

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")


def shared_shapes():
    """Six connections of one shape, two of which are not trainable, and a used node."""
    with nengo.Network(seed=1) as net:
        nengo_dl.configure_settings(dtype="float64", trainable=None)
        net.inp = nengo.Node([0.5, 0.1, -0.4, 0.3], label="inp/put")
        net.array = nengo.networks.EnsembleArray(
            10, 4, neuron_type=nengo.RectifiedLinear(), label="array"
        )
        nengo.Connection(net.inp, net.array.input)
        net.out = nengo.Node(size_in=4)
        nengo.Connection(net.array.output, net.out, synapse=None)
        net.probe = nengo.Probe(net.out, label="out")
        for ens in net.array.ensembles[:2]:
            net.config[ens].trainable = False
        nengo.Ensemble(10, 1, neuron_type=nengo.RectifiedLinear(), label="unused")
    return net


@pytest.fixture(scope="module")
def sim():
    with nengo_dl.Simulator(shared_shapes(), minibatch_size=3, progress_bar=False) as sim:
        yield sim


# variables ------------------------------------------------------------------------------


def test_parameters_of_one_shape_share_a_variable(sim):
    found = {(v.name, v.shape, v.trainable) for v in sim.tensor_graph.weights}
    assert found == {
        ("2_encoders_10x1", (2, 10, 1), True),
        # not trainable by the user's wish, or because no probe depends on it
        ("3_encoders_10x1", (3, 10, 1), False),
        ("4_bias_10", (4, 10), True),
        ("ensembles_unused_.neurons.bias", (10,), False),
        ("4_weights_1x10", (4, 1, 10), True),
    }
    assert sim.keras_model.count_params() == 20 + 30 + 40 + 10 + 40
    assert all(v.dtype == "float64" for v in sim.keras_model.weights)


def test_variables_hold_the_values_of_the_objects(sim):
    banks = sim.tensor_graph.banks
    for ens in sim.network.all_ensembles:
        signal = sim.model.sig[ens]["encoders"]
        number, i = banks.place[signal]
        variable = banks.variables[number]
        value = (
            variable.numpy()[i] if len(banks.signals[number]) > 1 else variable.numpy()
        )
        assert np.array_equal(value, sim.data[ens].scaled_encoders)


def test_writes_to_variables_are_noticed_however_they_are_made(sim):
    banks, (ens, *_) = sim.tensor_graph.banks, sim.network.all_ensembles[2:]
    number, i = banks.place[sim.model.sig[ens]["encoders"]]
    variable = banks.variables[number]
    original = variable.numpy()

    @tf.function
    def in_a_graph():
        variable.value.assign_add(tf.ones_like(variable.value))

    @tf.function(jit_compile=True)
    def compiled():
        variable.value.assign_add(tf.ones_like(variable.value))

    writes = {
        "assign": lambda: variable.assign(variable.value + 1),
        "graph": in_a_graph,
        "xla": compiled,
        "optimizer": lambda: keras.optimizers.SGD(1.0).apply_gradients(
            [(-tf.ones_like(variable.value), variable)]
        ),
        "slice": lambda: variable.value.scatter_nd_add(
            [[i]], tf.ones((1, *variable.shape[1:]), "float64")
        ),
    }
    for step, (name, write) in enumerate(writes.items(), start=1):
        write()
        assert np.allclose(sim.data[ens].scaled_encoders, original[i] + step), name
    assert banks.pull() is False
    variable.assign(original)
    assert banks.pull() is True
    variable.assign(original)  # written, but nothing is different
    assert banks.pull() is False


# shapes ---------------------------------------------------------------------------------


def test_names_and_shapes_of_inputs_and_outputs(sim):
    model = sim.keras_model
    assert [i.name for i in model.inputs] == ["inp_put"]
    assert model.inputs[0].shape == (None, None, 4)
    assert model.output_names == ["out"]
    spec = sim.tensor_graph.compute_output_spec({"inp_put": keras.KerasTensor((5, 7, 4))})
    assert spec["out"].shape == (5, 7, 4)
    assert spec["out"].dtype == "float64"


def test_the_layer_runs_as_any_other(sim, rng):
    x = rng.uniform(-1, 1, (3, 6, 4))
    expected = sim.predict(x)["out"]
    for n_items in (1, 2, 3):
        found = sim.tensor_graph({"inp_put": tf.constant(x[:n_items])})["out"]
        assert found.shape == (n_items, 6, 4)
        assert np.allclose(found, expected[:n_items], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "make",
    (
        lambda: networks.rates(nengo.LIFRate()),
        lambda: networks.rates(nengo.LIFRate(), 0.01),
        networks.mixed_parameters,
        lambda: networks.python_functions(feedback=False),
    ),
)
def test_one_trace_serves_all_numbers_of_steps_and_items(make):
    net = make()
    with net:
        nengo_dl.configure_settings(dtype="float64")
    with nengo_dl.Simulator(net, minibatch_size=3, progress_bar=False) as sim:
        sim.run_steps(13)
        expected = {probe: sim.data[probe] for probe in net.probes}
        sim.reset()
        traces = []
        for n_steps, n_items in ((4, 3), (6, 2), (13, 3), (5, 1), (9, 2)):
            node = net.nodes[0]
            values = np.array([node.output(t) for t in 0.001 * np.arange(1, n_steps + 1)])
            x = np.repeat(values[None], n_items, axis=0)
            outputs = sim.predict({node: x}, callbacks=[keras.callbacks.Callback()])
            for probe, values in expected.items():
                part = values[:n_items, :n_steps]
                assert np.allclose(outputs[probe], part, rtol=0, atol=1e-12)
            function = sim.keras_model.predict_function
            traces.append(function.experimental_get_tracing_count())
        # one for the first shape, one for all others
        assert traces == [1, 2, 2, 2, 2]


def test_gradients_of_a_model_around_the_layer(sim, rng):
    """The layer's gradient reaches what comes before it, and its own parameters."""
    layer = sim.tensor_graph
    x = tf.Variable(rng.uniform(0.2, 1, (2, 4, 4)))
    weights = layer.trainable_weights

    def value(x):
        return tf.reduce_sum(layer({"inp_put": x}, training=True)["out"] ** 2)

    with tf.GradientTape() as tape:
        y = value(x)
    gradient, *others = tape.gradient(y, [x, *(w.value for w in weights)])
    for g, weight in zip(others, weights, strict=True):
        assert g.shape == weight.shape
        assert np.isfinite(g).all()
        assert np.any(g != 0)
    direction = rng.normal(size=x.shape)
    h = 1e-6
    numeric = (value(x + h * direction) - value(x - h * direction)) / (2 * h)
    analytic = np.sum(gradient.numpy() * direction)
    assert np.isclose(analytic, numeric, rtol=1e-6)


# state ----------------------------------------------------------------------------------


def test_state_is_no_part_of_the_weights():
    net = networks.recurrent()
    with nengo_dl.Simulator(net, minibatch_size=2, progress_bar=False) as sim:
        sim.predict(n_steps=2)
        layer = sim.tensor_graph
        assert layer.variant(False).state
        n_weights = len(sim.keras_model.weights)
        assert n_weights == len(layer.banks.variables)
        # the learned weights alone are kept by calls that keep nothing else
        variant = layer.variant(False)
        learned = sum(int(rows.sum()) for rows in variant.learned)
        assert learned == 40


def test_keras_cannot_save_it_and_the_error_says_what_can(sim, tmp_path):
    with pytest.raises(NotImplementedError, match=r"sim\.save_params"):
        sim.keras_model.save(tmp_path / "model.keras")
