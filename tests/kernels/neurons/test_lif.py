"""LIF neurons, beyond what the harness compares with core."""

import nengo
import numpy as np
import pytest
import tensorflow as tf

from nengo_dl.compiler.traits import Params
from nengo_dl.kernels.neurons.lif import LIFKernel, LIFRateKernel
from nengo_dl.runtime.numpy.executor import NumpyStep
from nengo_dl.runtime.numpy.namespace import NumpyNamespace
from nengo_dl.runtime.tensorflow.namespace import TensorFlowNamespace

DT = 0.001
NAMESPACES = {
    "numpy": NumpyNamespace,
    "tensorflow": lambda dtype: TensorFlowNamespace(dtype, fast=False),
    "fast": lambda dtype: TensorFlowNamespace(dtype, fast=True),
}
each_namespace = pytest.mark.parametrize("namespace", sorted(NAMESPACES))


def parameters(kernel, neuron_type, n=1, dt=DT):
    """What a kernel's step gets for ``n`` equal neurons."""
    values = dict(kernel.values(neuron_type, n), dt=dt)
    derived = kernel.derive(values)
    columns = {
        name: v.reshape(-1, 1) if isinstance(v, np.ndarray) and v.ndim else v
        for name, v in derived.items()
    }
    return Params(groups=1, **columns)


def run(neuron_type, current, n_steps, namespace="numpy", dtype="float64", dt=DT, v0=0.0):
    """Spikes ``(n_steps, n)`` of neurons with constant currents, and their last state."""
    kernel = LIFKernel()
    xp = NAMESPACES[namespace](dtype)
    current = np.reshape(current, (-1, 1)).astype(dtype)
    p = parameters(kernel, neuron_type, len(current), dt)
    for name, value in vars(p).items():
        if isinstance(value, np.ndarray):
            setattr(p, name, value.astype(dtype))
    start = [np.full(current.shape, v0, dtype), np.zeros(current.shape, dtype)]
    if namespace == "numpy":  # the generated code is faster

        def step(xp, carry, x, weights):
            spikes, *carry = kernel.step(xp, p, x, *carry)
            return carry, spikes

        one_step = NumpyStep(step, start, len(current), 1, [], dtype)
        one_step.x[...] = current
        spikes = []
        for _ in range(n_steps):
            one_step()
            spikes.append(one_step.y[:, 0].copy())
        return np.array(spikes), one_step.carry

    @tf.function(autograph=False, jit_compile=namespace == "fast")
    def loop(voltage, refractory_time):
        buffer = tf.TensorArray(dtype, n_steps, element_shape=current.shape)

        def body(i, buffer, *state):
            spikes, *state = kernel.step(xp, p, xp.constant(current), *state)
            return i + 1, buffer.write(i, spikes), *state

        state = (tf.constant(0), buffer, voltage, refractory_time)
        _, buffer, *state = tf.while_loop(lambda i, *_: i < n_steps, body, state)
        return buffer.stack(), state

    spikes, state = loop(*map(tf.constant, start))
    return spikes.numpy()[:, :, 0], [s.numpy() for s in state]


# -- spikes ----------------------------------------------------------------------------


@pytest.mark.parametrize("tau_rc", (0.02, 0.0008, 0.3))
@pytest.mark.parametrize("tau_ref", (0.0, 0.002, 0.0013))
@pytest.mark.parametrize("dt", (0.001, 0.0001))
def test_equals_the_step_of_nengo(tau_rc, tau_ref, dt, rng, allclose):
    """Currents that change in each step, for many steps, without the operator."""
    n, batch, steps = 40, 3, 300
    neurons = nengo.LIF(tau_rc, tau_ref, min_voltage=-0.7, amplitude=0.3)
    mean = rng.uniform(-2, 10, (n, 1))
    current = mean + rng.normal(size=(steps, n, batch))
    kernel, p = LIFKernel(), parameters(LIFKernel(), neurons, n, dt)
    xp = NumpyNamespace("float64")
    state = [rng.uniform(size=(n, batch)), np.zeros((n, batch))]
    expected = [s.copy() for s in state]
    output = np.zeros((n, batch))
    total, ours, theirs = 0, [], []
    for J in current:
        spikes, *state = kernel.step(xp, p, J, *state)
        neurons.step(dt, J, output, *expected)
        assert np.array_equal(spikes, output)
        ours.append([np.array(s) for s in state])
        theirs.append([s.copy() for s in expected])
        total += np.count_nonzero(spikes)
    ours, theirs = np.array(ours), np.array(theirs)
    assert allclose(ours[:, 0], theirs[:, 0], atol=1e-11)
    assert allclose(ours[:, 1], theirs[:, 1], atol=1e-13)
    assert total > 20


@each_namespace
@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_spikes_come_at_the_rate(namespace, dtype):
    """Because the time of a spike is interpolated within the step."""
    neurons = nengo.LIF(tau_rc=0.02, tau_ref=0.002, amplitude=2)
    current = np.array([0.5, 1.0, 1.05, 1.5, 3.0, 10.0, 100.0])
    spikes, _ = run(neurons, current, 2000, namespace, dtype)
    assert set(np.unique(spikes)) == {0, 2 / DT}
    counts = np.count_nonzero(spikes, axis=0)
    expected = nengo.LIF().rates(current[:, None], 1, 0)[:, 0] * 2
    assert np.abs(counts - expected).max() <= 1.5
    assert not counts[:2].any() and counts[-1] > 900


@each_namespace
def test_all_namespaces_spike_in_the_same_steps(namespace, rng):
    current = rng.uniform(1.1, 20, 50)
    expected, _ = run(nengo.LIF(), current, 300)
    for dtype in ("float64", "float32"):
        spikes, _ = run(nengo.LIF(), current, 300, namespace, dtype)
        differ = (spikes != expected).any(axis=1)
        assert np.count_nonzero(differ) <= (0 if dtype == "float64" else 2)


@each_namespace
@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_a_current_at_threshold_never_makes_a_spike(namespace, dtype):
    spikes, (voltage, _) = run(nengo.LIF(), [1.0, 1 - 1e-7], 3000, namespace, dtype)
    assert not spikes.any()
    assert (voltage <= 1).all() and (voltage > 0.999).all()


@each_namespace
@pytest.mark.parametrize("min_voltage", (0, -1, -np.inf))
def test_the_voltage_has_a_floor(namespace, min_voltage, allclose):
    neurons = nengo.LIF(tau_rc=0.02, min_voltage=min_voltage)
    _, (voltage, _) = run(neurons, [-5.0], 10, namespace)
    free = -5 * (1 - np.exp(-10 * DT / 0.02))
    assert allclose(voltage, max(free, min_voltage), atol=1e-12)


@each_namespace
def test_one_spike_a_step_at_most(namespace):
    spikes, (_, refractory_time) = run(nengo.LIF(tau_ref=0), [1e6], 50, namespace)
    assert (spikes == 1 / DT).all()
    assert (refractory_time >= 0).all()  # dt if it spiked at the very start of the step


# -- the constants that bound exponents ------------------------------------------------


@pytest.mark.parametrize("ratio", (1e-4, 0.05, 0.5, 3.0))
@pytest.mark.parametrize("dtype, tolerance", (("float64", 1e-13), ("float32", 2e-6)))
def test_polynomials_are_exact_for_all_time_constants(ratio, dtype, tolerance, rng):
    """One step from any state that can occur, with and without polynomials."""
    neurons = nengo.LIF(tau_rc=DT / ratio, tau_ref=0.002)
    kernel, p = LIFKernel(), parameters(LIFKernel(), neurons)
    current = rng.uniform(1.5, 200, (500, 1)).astype(dtype)
    voltage = rng.uniform(0, 1, (500, 1)).astype(dtype)
    voltage[:20] = 1
    refractory_time = rng.choice([-0.3, 0, DT / 3, DT, 1.7 * DT], (500, 1)).astype(dtype)
    state = current, voltage, refractory_time
    exact = kernel.step(NumpyNamespace("float64"), p, *(s.astype(float) for s in state))
    found = kernel.step(TensorFlowNamespace(dtype), p, *map(tf.constant, state))
    assert np.count_nonzero(exact[0]) > 10
    for mine, theirs in zip(found, exact, strict=True):
        limit = tolerance * max(np.abs(theirs).max(), neurons.tau_rc)
        assert np.abs(mine.numpy() - theirs).max() <= limit


def test_bounds_follow_the_shortest_time_constant():
    p = LIFKernel().derive(
        {
            "tau_rc": np.array([0.02, 0.005, 0.1]),
            "tau_ref": np.full(3, 0.002),
            "amplitude": np.ones(3),
            "min_voltage": np.zeros(3),
            "dt": DT,
        }
    )
    assert p["largest_exponent"] == pytest.approx(0.2)
    assert p["largest_overshoot"] == pytest.approx(1 - np.exp(-0.2))


# -- rates -----------------------------------------------------------------------------


def gradient_of_rate(current, dtype, fast=True, tau_rc=0.02, tau_ref=0.002, amplitude=1):
    """The rate and its derivative at some currents."""
    p = parameters(LIFRateKernel(), nengo.LIFRate(tau_rc, tau_ref, amplitude))
    x = tf.constant(np.reshape(current, (-1, 1)), dtype)
    with tf.GradientTape() as tape:
        tape.watch(x)
        (rate,) = LIFRateKernel().step(TensorFlowNamespace(dtype, fast=fast), p, x)
    return rate.numpy().ravel(), tape.gradient(rate, x).numpy().ravel()


@pytest.mark.parametrize("fast", (False, True))
@pytest.mark.parametrize("dtype, tolerance", (("float64", 1e-12), ("float32", 1e-5)))
def test_rate_and_gradient_have_their_closed_form(dtype, tolerance, fast):
    j = np.float32([0.01, 0.5, 1, 3, 30, 1000]).astype(float)
    tau_rc, tau_ref, amplitude = 0.03, 0.001, 2.0
    rate, gradient = gradient_of_rate(1 + j, dtype, fast, tau_rc, tau_ref, amplitude)
    j = (1 + j).astype(dtype).astype(float) - 1
    expected = amplitude / (tau_ref + tau_rc * np.log1p(1 / j))
    slope = expected**2 / amplitude * tau_rc / (j * (j + 1))
    assert np.abs(rate / expected - 1).max() < tolerance
    assert np.abs(gradient / slope - 1).max() < tolerance


@pytest.mark.parametrize("fast", (False, True))
@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_gradients_at_and_around_the_threshold(dtype, fast):
    one = np.ones(1, dtype)
    above, below = np.nextafter(one, 2 * one), np.nextafter(one, 0 * one)
    current = np.r_[one, above, below, 0.0, -0.0, -1e30, 1e30, 1 + 1e-30, -1]
    rate, gradient = gradient_of_rate(current.astype(dtype), dtype, fast)
    assert np.isfinite(rate).all() and np.isfinite(gradient).all()
    silent = current.astype(dtype) <= 1
    assert not rate[silent].any() and not gradient[silent].any()
    assert rate[1] > 0 and gradient[1] > 0
    assert rate[6] == pytest.approx(500)


def test_spikes_themselves_have_no_gradient():
    """What training runs instead is the rate form; voltages pass gradients on."""
    p = parameters(LIFKernel(), nengo.LIF())
    x, v, r = (tf.constant([[value]], "float64") for value in (4.0, 0.95, 0.0))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([x, v])
        spikes, voltage, refractory = LIFKernel().step(
            TensorFlowNamespace("float64"), p, x, v, r
        )
    assert spikes.numpy() == 1 / DT and voltage.numpy() == 0
    zero = tf.UnconnectedGradients.ZERO
    for source in (x, v):
        assert tape.gradient(spikes, source, unconnected_gradients=zero).numpy() == 0
        assert tape.gradient(voltage, source, unconnected_gradients=zero).numpy() == 0
        assert tape.gradient(refractory, source).numpy() != 0  # when it spiked
