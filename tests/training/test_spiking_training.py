"""Training with spikes forward, and with surrogate or rate gradients backward."""

import nengo
import numpy as np
import pytest

import nengo_dl
from nengo_dl import surrogates
from nengo_dl.compiler.traits import Params
from nengo_dl.kernels.neurons.base import NeuronKernel
from nengo_dl.notices import text_of
from nengo_dl.runtime.tensorflow.namespace import TensorFlowNamespace
from nengo_dl.surrogates import (
    ArcTan,
    FastSigmoid,
    Gaussian,
    RateDerivative,
    Triangle,
)
from tests.simulator.spiking import SPIKING, driven, inputs, simulator

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")

DT = 0.001


def run(sim, x, training):
    """Outputs of the layer in the one or other phase."""
    found = sim.tensor_graph({"inp": tf.constant(x, sim.dtype)}, training=training)
    return [found[name].numpy() for name in sorted(found)]


def gradients(sim, x, factors, wanted):
    """Derivatives of ``sum(factors * outputs)`` with respect to objects' parameters."""
    layer = sim.tensor_graph
    with tf.GradientTape() as tape:
        found = layer({"inp": tf.constant(x, sim.dtype)}, training=True)
        total = sum(
            tf.reduce_sum(found[name] * f)
            for name, f in zip(sorted(found), factors, strict=True)
        )
    values = [v.value for v in layer.banks.variables]
    slopes = tape.gradient(total, values, unconnected_gradients="zero")
    result = []
    for obj, attr in wanted:
        signal = sim.model.sig[obj][attr]
        number, i = layer.banks.place[signal]
        slope = slopes[number].numpy()
        result.append(slope[i] if len(layer.banks.signals[number]) > 1 else slope)
    return result


def weights_of(net):
    return [(conn, "weights") for conn in net.conns]


# -- forward -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype, jit", (("float64", False), ("float32", "auto")))
def test_the_forward_pass_is_that_of_inference(dtype, jit, rng):
    """With the derivative of rates, and with surrogates."""
    settings = {"dtype": dtype, "jit": jit, "spiking_training": True, "surrogate": None}
    net = driven(*SPIKING, *SPIKING, **settings)
    for ens in net.ens[len(SPIKING) :]:
        net.config[ens].surrogate = Triangle()
    x = inputs(rng)
    with simulator(net) as sim:
        inference, training = run(sim, x, False), run(sim, x, True)
        for a, b in zip(inference, training, strict=True):
            assert np.array_equal(a, b) and np.ptp(a) > 0
            assert len(np.unique(a)) < 10  # spikes


def test_fit_has_the_loss_of_evaluate(rng):
    net = driven(*SPIKING[1:3], spiking_training=True, surrogate=FastSigmoid())
    x = inputs(rng, items=4)
    y = [rng.uniform(0, 500, (4, 20, 5)) for _ in net.out]
    with simulator(net) as sim:
        sim.compile(keras.optimizers.SGD(0.0), loss="mse")
        expected = sim.evaluate(x, y, verbose=0)["loss"]
        history = sim.fit(x, y, verbose=0).history["loss"]
        assert np.isclose(history[0], expected, rtol=1e-14)


def test_without_the_setting_it_is_the_rate_form(rng):
    net = driven(nengo.LIF(), surrogate=Triangle())
    x = inputs(rng)
    with simulator(net) as sim:
        (found,) = run(sim, x, True)
        weights = net.conns[0].transform.init
        current = (x @ weights.T).reshape(-1, 5)
        rates = nengo.LIF().rates(current, np.ones(5), np.zeros(5))
        assert np.allclose(found, rates.reshape(found.shape), rtol=1e-12)


def test_learning_phase_chooses_between_spikes_and_rates(rng):
    x = inputs(rng)
    with simulator(driven(nengo.LIF())) as sim:
        (spikes,), (rates,) = run(sim, x, False), run(sim, x, True)
    assert set(np.unique(spikes)) == {0, 1000} and len(np.unique(rates)) > 50
    for phase, expected in ((True, rates), (False, spikes)):
        with simulator(driven(nengo.LIF(), learning_phase=phase)) as sim:
            for training in (True, False):
                assert np.array_equal(run(sim, x, training)[0], expected)
    both = driven(nengo.LIF(), learning_phase=True, spiking_training=True)
    with simulator(both) as sim:
        assert np.array_equal(sim.predict(x)[both.out[0]], spikes)


# -- backward ----------------------------------------------------------------------------


def reference(neurons, surrogate, x, weights, recurrent, keep, factors):
    """Backpropagation through time by hand: LIF neurons with filtered recurrence.

    Returns
    -------
    spikes : (T, n) array
    gradients of sum(factors * spikes) with respect to both matrices
    """
    n_steps, n = len(x), len(weights)
    voltage, refractory, filtered = np.zeros((3, n))
    spikes, past = np.zeros((n_steps, n)), []
    for t in range(n_steps):
        current = weights @ x[t] + recurrent @ filtered
        refractory = refractory - DT
        decay = np.expm1(-np.clip(DT - refractory, 0, DT) / neurons.tau_rc)
        above = voltage - (current - voltage) * decay
        fired = above > 1
        since = DT + neurons.tau_rc * np.log1p(-(above - 1)[fired] / (current - 1)[fired])
        refractory[fired] = neurons.tau_ref + since
        spikes[t] = fired / DT
        past.append((filtered, decay, above, fired))
        voltage = np.where(fired, 0, np.maximum(above, 0))
        filtered = keep * filtered + (1 - keep) * spikes[t]

    to_voltage, to_filtered = np.zeros((2, n))
    to_weights, to_recurrent = np.zeros_like(weights), np.zeros_like(recurrent)
    for t in reversed(range(n_steps)):
        filtered, decay, above, fired = past[t]
        to_spikes = factors[t] + (1 - keep) * to_filtered
        to_above = to_voltage * ~fired * (above >= 0)
        to_above += to_spikes / DT * surrogate.derivative(np, above - 1)
        to_current = -decay * to_above
        to_weights += np.outer(to_current, x[t])
        to_recurrent += np.outer(to_current, filtered)
        to_filtered = keep * to_filtered + recurrent.T @ to_current
        to_voltage = (1 + decay) * to_above
    return spikes, to_weights, to_recurrent


@pytest.mark.parametrize("surrogate", (Triangle(0.8, 0.6), ArcTan()), ids=repr)
def test_gradients_equal_those_by_hand(surrogate, rng, allclose):
    tau = 0.004
    neurons = nengo.LIF(initial_state={"voltage": nengo.dists.Choice([0])})
    net = driven(neurons, spiking_training=True, surrogate=surrogate)
    recurrent = rng.uniform(-2e-3, 2e-3, (5, 5))
    with net:
        (ens,) = net.ens
        conn = nengo.Connection(
            ens.neurons, ens.neurons, transform=recurrent, synapse=tau
        )
    x, factors = inputs(rng, 2, 40), rng.normal(size=(2, 40, 5))
    with simulator(net) as sim:
        wanted = [*weights_of(net), (conn, "weights")]
        found = gradients(sim, x, [factors], wanted)
        (spikes,) = run(sim, x, True)
    expected = [
        reference(
            neurons,
            surrogate,
            x[item],
            net.conns[0].transform.init,
            recurrent,
            np.exp(-DT / tau),
            factors[item],
        )
        for item in range(2)
    ]
    assert allclose(spikes, [e[0] for e in expected], atol=0)
    assert (spikes.sum((0, 1)) > 3000).all()
    for k, gradient in enumerate(found, start=1):
        assert np.abs(gradient).min() > 0
        assert allclose(gradient, sum(e[k] for e in expected), rtol=1e-9)


RATES = (
    (nengo.LIF(0.01, amplitude=2), nengo.LIFRate(0.01, amplitude=2)),
    (nengo.SpikingRectifiedLinear(), nengo.RectifiedLinear()),
    (nengo_dl.SpikingLeakyReLU(), nengo_dl.LeakyReLU()),
    (nengo.RegularSpiking(nengo.Sigmoid()), nengo.Sigmoid()),
    (nengo.StochasticSpiking(nengo.Tanh(), amplitude=1), nengo.Tanh()),
    (nengo.PoissonSpiking(nengo.RectifiedLinear()), nengo.RectifiedLinear()),
)


def test_the_rate_derivative_is_that_of_the_rate_form(rng, allclose):
    x = inputs(rng)
    factors = [rng.normal(size=(2, 20, 5)) for _ in RATES]
    found = []
    for which, surrogate in ((0, RateDerivative()), (0, None), (1, None)):
        net = driven(
            *(pair[which] for pair in RATES), spiking_training=True, surrogate=surrogate
        )
        with simulator(net) as sim:
            found.append(gradients(sim, x, factors, weights_of(net)))
    for spikes, default, rates in zip(*found, strict=True):
        assert allclose(spikes, rates, rtol=1e-12)
        assert np.array_equal(spikes, default)
        assert np.abs(rates).max() > 0


def test_adaptation_has_a_gradient(rng, allclose):
    """Its gradient is that of the rate form too, at the adaptation by spikes."""
    x, factors = inputs(rng), [rng.normal(size=(2, 20, 5))]
    found = []
    for inc_n in (0.0, 0.05):
        net = driven(nengo.AdaptiveLIF(tau_n=0.02, inc_n=inc_n), spiking_training=True)
        with simulator(net) as sim:
            found.append(gradients(sim, x, factors, weights_of(net))[0])
    net = driven(nengo.LIFRate())
    with simulator(net) as sim:
        (plain,) = gradients(sim, x, factors, weights_of(net))
    assert allclose(found[0], plain, rtol=1e-12)
    assert not np.allclose(found[1], plain, rtol=1e-2)


def test_one_spike_for_each_unit_of_current(rng):
    """Without leak, a unit of current counts for about one spike, whenever it came."""
    net = driven(
        nengo.SpikingRectifiedLinear(),
        nengo.RegularSpiking(nengo.RectifiedLinear()),
        nengo_dl.SpikingLeakyReLU(),
        spiking_training=True,
        surrogate=Triangle(),
    )
    n_steps = 200
    x = inputs(rng, 2, n_steps)
    with simulator(net) as sim:
        ones = [np.full((2, n_steps, 5), 1.0)] * 3
        for slope in gradients(sim, x, ones, weights_of(net)):
            assert np.allclose(slope, x.sum((0, 1)), rtol=0.05)


def test_surrogates_make_izhikevich_neurons_trainable(rng):
    x, factors = inputs(rng, n_steps=40), [np.ones((2, 40, 5))]
    for surrogate, trained in ((None, False), (FastSigmoid(), True)):
        net = driven(nengo.Izhikevich(), spiking_training=True, surrogate=surrogate)
        with simulator(net) as sim:
            (slope,) = gradients(sim, x, factors, weights_of(net))
        assert np.isfinite(slope).all()
        assert bool(np.any(slope)) == trained


def test_surrogates_of_single_ensembles():
    types = (nengo.LIF(), nengo.RegularSpiking(nengo.LIFRate()), nengo.LIF(), nengo.LIF())
    net = driven(*types, spiking_training=True, surrogate=FastSigmoid())
    with net:
        with nengo.Network() as inner:
            nengo_dl.configure_settings(surrogate=Gaussian())
            inside = nengo.Ensemble(7, 1, label="inside")
        nengo.Probe(inside.neurons)
    for ens, surrogate in zip(net.ens, (Triangle(), ArcTan(), RateDerivative())):
        net.config[ens].surrogate = surrogate
    with simulator(net) as sim:
        variant = sim.tensor_graph.variant(True)
        nodes = variant.program.compiled(variant.use).graph.nodes
    assert inner.ensembles
    found = {
        text_of(node.label).split("'")[1]: node.params["surrogate"]
        for node in nodes
        if "surrogate" in node.params
    }
    expected = {"ens0": Triangle(), "ens1": ArcTan(), "ens3": FastSigmoid()}
    assert found == {**expected, "inside": Gaussian()}


def test_random_spikes_have_the_rate_derivative_only():
    net = driven(
        nengo.StochasticSpiking(nengo.LIFRate()),
        spiking_training=True,
        surrogate=Triangle(),
    )
    with simulator(net) as sim:
        with pytest.warns(UserWarning, match=r"Triangle\(.*Stochastic.*its rates"):
            assert sim.tensor_graph.variant(True).use.spikes.surrogate == Triangle()


# -- lif_smoothing -----------------------------------------------------------------------


@pytest.mark.parametrize("spiking", (False, True))
def test_lif_smoothing_changes_the_gradient_only(spiking, rng, allclose):
    x, factors, found = inputs(rng), [rng.normal(size=(2, 20, 5))] * 2, []
    types = (nengo.LIF(tau_ref=0.003, amplitude=2), nengo.LIFRate(0.03))
    soft = (
        nengo_dl.SoftLIFRate(0.2, tau_ref=0.003, amplitude=2),
        nengo_dl.SoftLIFRate(0.2, 0.03),
    )
    for kinds, sigma in ((types, 0.2), (types, None), (soft, None), (soft, 0.5)):
        net = driven(*kinds, lif_smoothing=sigma, spiking_training=spiking)
        with simulator(net) as sim:
            outputs = run(sim, x, True)
            found.append((outputs, gradients(sim, x, factors, weights_of(net))))
    smoothed, plain, expected, as_it_is = found
    for i in range(2):
        assert np.array_equal(smoothed[0][i], plain[0][i])
        assert allclose(smoothed[1][i], expected[1][i], rtol=1e-12)
        assert not np.allclose(smoothed[1][i], plain[1][i], rtol=1e-2)
        assert np.array_equal(as_it_is[1][i], expected[1][i])


# -- at thresholds -----------------------------------------------------------------------


SURROGATES = [getattr(surrogates, name) for name in surrogates.__all__]
SURROGATES = [kind() for kind in SURROGATES if kind is not surrogates.Surrogate]


@pytest.mark.parametrize("surrogate", SURROGATES, ids=repr)
@pytest.mark.parametrize("neurons", SPIKING, ids=lambda n: type(n).__name__)
def test_gradients_are_finite_at_the_threshold(neurons, surrogate):
    """Currents and potentials that are exactly at the threshold, zero, and far off."""
    xp = TensorFlowNamespace("float32", fast=False)
    kernel = NeuronKernel.of(neurons)
    values = dict(kernel.values(neurons, 1), dt=DT)
    if surrogate.of_membrane:
        values["surrogate"] = surrogate
    derived = kernel.derive(values).items()
    p = Params(**{k: v[0] if isinstance(v, np.ndarray) else v for k, v in derived})
    currents = np.array([0, 1, np.nextafter(1, 2), 2, -1, 1000, -1e4, 1e4])
    potentials = np.array([0, 1, np.nextafter(1, 0), 0.5, -1, 30])
    grids = np.meshgrid(currents, potentials, *[[0, DT, 2 * DT]] * 2)
    used = grids[: 1 + len(kernel.state)]
    inputs = [tf.constant(grid.ravel()[None], tf.float32) for grid in used]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = kernel.step(xp, p, *inputs)
    found = [np.asarray(g) for g in tape.gradient(outputs, inputs) if g is not None]
    # a voltage above one cannot come from a current below: nengo.LIF has no value then
    valid = np.all([np.isfinite(y) for y in outputs], axis=0)
    assert valid.mean() > 0.8 and found
    assert all(np.isfinite(g[valid]).all() for g in found)
