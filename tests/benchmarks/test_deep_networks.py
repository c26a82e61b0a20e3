"""The networks of deep learning: images, memory units; and those with Python inside."""

import keras
import nengo
import numpy as np
import pytest
from nengo.exceptions import ValidationError

import nengo_dl
from nengo_dl.benchmarks import lmu, mnist
from nengo_dl.benchmarks.keras_cells import LMUCell
from nengo_dl.benchmarks.networks import many_ensembles, python_inside
from nengo_dl.benchmarks.networks.legendre import draw_weights, legendre_delay


def run(net, steps, simulator=nengo_dl.Simulator):
    with net:
        nengo_dl.configure_settings(dtype="float64")
    with simulator(net, progress_bar=False) as sim:
        sim.run_steps(steps)
        return sim.data[net.p]


def test_legendre_delay_is_the_exact_discretization(allclose):
    signal = pytest.importorskip("scipy.signal", reason="comes with the tests extra")
    order, theta = 12, 30
    i, j = np.arange(order)[:, None], np.arange(order)[None]
    a = np.where(i < j, -1.0, (-1.0) ** (i - j + 1)) * (2 * i + 1) / theta
    b = (-1.0) ** i * (2 * i + 1) / theta
    system = (a, b, np.eye(order), np.zeros((order, 1)))
    expected = signal.cont2discrete(system, 1.0, "zoh")
    found = legendre_delay(order, theta)
    assert allclose(found[0], expected[0], atol=1e-13)
    assert allclose(found[1], expected[1], atol=1e-13)


def test_legendre_delay_delays(allclose):
    theta = 40
    a, b = legendre_delay(12, theta)
    x = np.sin(np.arange(200) * 2 * np.pi / 100)
    m, delayed = np.zeros((12, 1)), []
    for value in x:
        m = a @ m + b * value
        delayed.append(m.sum())  # all polynomials are 1 at the far end of the window
    assert allclose(delayed[100:], x[100 - theta : -theta], atol=0.1)


def reference_lmu(net, steps, units, order, theta):
    """The equations, step by step."""
    w = draw_weights(1, units, order)
    a, b = legendre_delay(order, theta)
    h, m, outputs = np.zeros(units), np.zeros(order), []
    for k in range(steps):
        x = net.inp.output((k + 1) * 0.001)
        u = w["u_x"] @ x + w["u_h"] @ h + w["u_m"] @ m
        m = a @ m + b @ u
        h = np.tanh(w["h_x"] @ x + w["h_h"] @ h + w["h_m"] @ m)
        outputs.append(h)
    return np.array(outputs)


def test_lmu_follows_its_equations(allclose):
    sizes = {"units": 6, "order": 5, "theta": 20}
    net = lmu(**sizes)
    with net:
        raw = nengo.Probe(net.p.target, synapse=None)
    with nengo.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(30)
    expected = reference_lmu(net, 30, **sizes)
    assert np.abs(expected).max() > 0.1
    assert allclose(sim.data[raw], expected, atol=1e-10)


def test_lmu_as_a_tensor_node_is_the_native_one(allclose):
    sizes = {"dimensions": 2, "units": 6, "order": 5, "theta": 20}
    native, layer = (run(lmu(native=n, **sizes), 30) for n in (True, False))
    assert native.shape == (30, 6) and np.abs(native).max() > 0.01
    assert allclose(native, layer, atol=1e-6)


def test_lmu_as_a_tensor_node_in_the_compiled_loop(allclose):
    # its matrices A and B are variables that nothing trains and nothing changes
    results = []
    for jit in (False, True):
        net = lmu(units=4, order=3, theta=10, native=False)
        with net:
            nengo_dl.configure_settings(jit=jit)
        results.append(run(net, 20))
    assert np.abs(results[0]).max() > 0.01
    assert allclose(results[1], results[0], atol=1e-6)


def test_lmu_cell_in_keras(allclose):
    weights, system = draw_weights(1, 4, 3), legendre_delay(3, 10)
    layer = keras.layers.RNN(LMUCell(4, 3, system, weights), return_sequences=True)
    net = lmu(units=4, order=3, theta=10)
    x = np.array([net.inp.output((k + 1) * 0.001) for k in range(20)])
    found = keras.ops.convert_to_numpy(layer(x[None]))
    assert allclose(found[0], reference_lmu(net, 20, 4, 3, 10), atol=1e-5)
    assert len(layer.trainable_weights) == 6 and len(layer.non_trainable_weights) == 2


def test_mnist_native_and_with_layers_agree_in_rate_form(allclose):
    sizes = {"filters": (3, 4), "size": 8}
    rate = nengo.RectifiedLinear(amplitude=0.01)
    nets = [mnist(neuron_type=rate, **sizes), mnist(native=False, **sizes)]
    for net in nets:
        net.inp.output = np.linspace(-1, 1, 64)  # until the synapses have settled
    native, layers = (run(net, 150)[-1] for net in nets)
    assert native.shape == (10,) and np.abs(native).max() > 0.1
    assert allclose(native, layers, atol=1e-4 * np.abs(layers).max())


def test_mnist_spikes():
    net = mnist(filters=(2,), size=6)
    assert net.n_neurons == 3 * 3 * 2 and net.inp.size_out == 36
    output = run(net, 200, nengo.Simulator)
    assert output.shape == (200, 10) and np.all(output.std(axis=0) > 0)


def test_mnist_mistakes():
    with pytest.raises(ValidationError, match="at least one convolution"):
        mnist(filters=())
    with pytest.raises(ValidationError, match="size: must be at least 1"):
        mnist(size=0)


@pytest.mark.parametrize(
    "net",
    [
        python_inside.closed_loop(2, 10),
        python_inside.action_loop(2, 10),
        python_inside.recorded(2, 10),
        python_inside.recorded(2, 10, driven=False, recorder=False),
        many_ensembles.many_ensembles(30, 8, 90),
    ],
    ids=["closed_loop", "action_loop", "recorded", "not recorded", "many_ensembles"],
)
def test_same_outputs_in_both_simulators(net, allclose):
    expected = run(net, 40, nengo.Simulator)
    assert np.abs(expected).max() > 0.05
    assert allclose(run(net, 40), expected, atol=1e-9)


def test_recorder_sees_every_step():
    net = python_inside.recorded(2, 10)
    before = net.recorder.calls  # to find out whether it returns something
    run(net, 25, nengo.Simulator)
    assert net.recorder.calls - before == 25
    assert net.recorder.last.shape == (2,) and net.recorder.last.any()


def test_many_ensembles_have_these_sizes():
    net = many_ensembles.many_ensembles(40, 8, 100)
    assert len(net.all_ensembles) == 40
    assert {ens.n_neurons for ens in net.all_ensembles} == {6, 8, 10}
    assert len(net.all_connections) == 100 + 16  # those to the output
    assert abs(net.n_neurons - 40 * 8) <= 4
    with pytest.raises(ValidationError, match="n_connections: must be at least 1"):
        many_ensembles.many_ensembles(4, 8, 0)
