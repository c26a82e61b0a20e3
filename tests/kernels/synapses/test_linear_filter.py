"""Linear filters of all orders, against core and against their transfer functions."""

import nengo
import numpy as np
import pytest
import scipy.signal
from nengo.builder.operator import Reset
from nengo.builder.processes import SimProcess

import nengo_dl
from nengo_dl.kernels.synapses import linear_filter
from tests.kernels.kernel_harness import (
    DT,
    ITEMS,
    STEPS,
    Bench,
    Case,
    assert_equals_core,
    bench_of_network,
    merged,
    simulate,
    trajectory,
)


def lowpass_chain(tau, order):
    """``order`` low-pass filters one after the other."""
    denominator = np.poly1d([tau, 1]) ** order
    return nengo.LinearFilter([1], denominator.coeffs)


def digital(numerator, denominator):
    """A filter that is given in discrete time, which may pass its input on at once."""
    return nengo.LinearFilter(numerator, denominator, analog=False)


FILTERS = {
    "lowpass": nengo.Lowpass(0.02),
    "long lowpass": nengo.Lowpass(3.0),
    "lowpass shorter than a step": nengo.Lowpass(0.0002),
    "lowpass of almost nothing": nengo.Lowpass(0.02 * DT),
    "lowpass of nothing": nengo.Lowpass(0),
    "alpha": nengo.Alpha(0.01),
    "alpha shorter than a step": nengo.Alpha(0.0003),
    "alpha of nothing": nengo.Alpha(0),
    "double exponential": nengo.synapses.LinearFilter([1], [2e-4, 3e-2, 1]),
    "band-pass": nengo.LinearFilter([0.01, 0], [1e-4, 2e-2, 1]),
    "oscillator": nengo.LinearFilter([1], [1e-4, 2e-3, 1]),
    "order 3": lowpass_chain(0.01, 3),
    "order 4": lowpass_chain(0.01, 4),
    "order 4 with zeros": nengo.LinearFilter(
        [1e-5, 1e-3, 1], [1e-8, 4e-6, 6e-4, 4e-2, 1]
    ),
    "integrator": nengo.LinearFilter([1], [1, 0]),
    "factor": nengo.LinearFilter([0.7], [1]),
    "analog passthrough": nengo.LinearFilter([0.01, 1], [0.02, 1]),
    "digital passthrough": digital([0.5, 0.2], [1, -0.9]),
    "digital passthrough, order 2": digital([0.5, 0.3, 0.1], [1, -0.6, 0.2]),
    "digital passthrough, order 3": digital([0.2, 0, 0, 0.1], [1, -0.6, 0.2, -0.1]),
    "digital passthrough, order 4": digital([1, 0, 0, 0, -0.5], [1, -0.5, 0.1, 0, 0.05]),
    "digital without passthrough": digital([0.3], [1, -0.7]),
    "digital, order 2": digital([0.3, 0.1], [1, -0.5, 0.1]),
    "delay by two steps": digital([1], [1, 0, 0]),
    "moving average": digital([0.25, 0.25, 0.25, 0.25], [1, 0, 0, 0]),
    "digital factor": digital([1.5], [1]),
}


def passes_on(synapse):
    """Whether a filter has state, and passes part of its input on at once."""
    A, _, _, D = synapse._get_ss(DT)
    return len(A) > 0 and bool(np.any(D))


each_filter = pytest.mark.parametrize("name", FILTERS)


def filter_operators(bench, synapse, mode, shape):
    """A filter between an input and a signal to watch; also its state."""
    u, y = bench.feed(*shape), bench.signal(shape)
    initial = synapse.make_state(shape, shape, bench.model.dt)
    state = {name: bench.signal(value, name) for name, value in initial.items()}
    if mode == "inc":
        bench.add(Reset(y, value=-0.5))
    bench.add(SimProcess(synapse, u, y, bench.model.time, mode=mode, state=state))
    bench.watch(y, *state.values())


def bench_of_filters(*synapses, mode="set", shape=(3,), sensitive=1.0):
    bench = Bench()

    def build(bench, variant):
        filter_operators(bench, synapses[variant], mode, shape)

    for variant in range(len(synapses)):
        bench.build(Case("filter", build, sensitive=sensitive), variant)
    return bench


# -- against core ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, mode",
    [
        (name, mode)
        for name in FILTERS
        for mode in ("set", "inc", "update")
        if mode != "inc" or not passes_on(FILTERS[name])
    ],
)
def test_equals_core(name, mode):
    bench = bench_of_filters(FILTERS[name], mode=mode)
    core = assert_equals_core(bench)
    assert np.ptp(core[0]) > 1e-6
    assert_equals_core(bench, batch=1)


@pytest.mark.parametrize("name", [n for n in FILTERS if passes_on(FILTERS[n])])
def test_incrementing_by_what_passes_through(name, allclose):
    """Core itself cannot: the step of such a filter returns one axis too many."""
    runs = [bench_of_filters(FILTERS[name], mode=mode) for mode in ("inc", "set")]
    (sums, *_), (alone, *_) = (simulate(b, "numpy", "float64", ITEMS) for b in runs)
    assert np.ptp(alone) > 0.1
    assert allclose(sums, alone - 0.5, atol=1e-14)


@each_filter
def test_equals_core_in_single_precision(name):
    assert_equals_core(bench_of_filters(FILTERS[name]), dtype="float32")


def test_all_filters_compiled():
    assert_equals_core(bench_of_filters(*FILTERS.values()), "jitted", "float32")


@pytest.mark.parametrize("shape", ((1,), (2, 3), (4, 1)))
@pytest.mark.parametrize(
    "name",
    ("lowpass", "alpha", "digital passthrough", "digital passthrough, order 4", "factor"),
)
def test_shapes(name, shape):
    assert_equals_core(bench_of_filters(FILTERS[name], shape=shape, mode="update"))


# -- what a filter is ------------------------------------------------------------------


def impulse_response(synapse, n_steps=STEPS, dt=DT):
    """What our simulation makes of a single input of one."""
    with nengo.Network() as net:
        inp = nengo.Node(lambda t: float(t < 1.5 * dt))
        nengo.Probe(inp, synapse=synapse)
    (response,) = simulate(bench_of_network(net, dt=dt), "numpy", "float64", 1, n_steps)
    return response[0, :, 0]


@pytest.mark.parametrize("tau", (0.005, 0.02, 0.3))
def test_lowpass_decays_exponentially(tau, allclose):
    response = impulse_response(nengo.Lowpass(tau))
    t = np.arange(STEPS - 1) * DT
    assert response[0] == 0  # what a synapse gives is there in the next step
    expected = (1 - np.exp(-DT / tau)) * np.exp(-t / tau)
    assert allclose(response[1:], expected, atol=1e-13)


def test_digital_filters_are_their_difference_equations(allclose, rng):
    response = impulse_response(FILTERS["moving average"], 10)
    start = np.flatnonzero(response)[0]
    assert allclose(response[start : start + 4], 0.25, atol=1e-14)
    assert np.count_nonzero(np.abs(response) > 1e-14) == 4
    late = impulse_response(FILTERS["delay by two steps"], 10)
    at_once = impulse_response(FILTERS["digital factor"], 10)
    assert np.argmax(late) - np.argmax(at_once) in (1, 2)
    assert allclose(late.sum(), 1, atol=1e-14)
    assert allclose(at_once.max(), 1.5, atol=1e-14)


@pytest.mark.parametrize("order", (2, 3, 4))
def test_a_chain_of_filters_is_one_of_higher_order(order):
    """In the mean: both let the same pass and delay it by the same time."""
    response = impulse_response(lowpass_chain(0.005, order), 400)
    times = np.arange(400) * DT
    assert response.sum() == pytest.approx(1, abs=1e-8)
    assert (response * times).sum() == pytest.approx(order * 0.005, abs=DT)


@pytest.mark.parametrize("dt", (0.0005, 0.002))
def test_other_step_lengths(dt, allclose):
    for synapse in (nengo.Lowpass(0.01), nengo.Alpha(0.01), lowpass_chain(0.01, 3)):
        with nengo.Network() as net:
            inp = nengo.Node(lambda t: np.sin(50 * t))
            nengo.Probe(inp, synapse=synapse)
        bench = bench_of_network(net, dt=dt)
        (ours,), (core,) = simulate(bench, "numpy", "float64", 1), trajectory(bench)[0]
        assert np.ptp(core) > 0.05
        assert allclose(ours[0], core, atol=1e-13)


# -- in networks -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ("lowpass", "alpha", "order 4", "digital passthrough"))
def test_on_connections_and_probes(name):
    synapse = FILTERS[name]
    with nengo.Network(seed=2) as net:
        inp = nengo.Node(lambda t: [np.sin(40 * t), np.cos(30 * t)])
        ens = nengo.Ensemble(20, 2, neuron_type=nengo.LIFRate())
        out = nengo.Node(size_in=2)
        nengo.Connection(inp, ens, synapse=synapse)
        nengo.Connection(ens, out, synapse=synapse, function=lambda x: x[::-1])
        nengo.Connection(ens.neurons[:5], out[0], synapse=synapse, transform=[[0.01] * 5])
        nengo.Connection(out, ens, synapse=nengo.Lowpass(0.1), transform=0.3)
        nengo.Probe(out, synapse=synapse)
        nengo.Probe(ens.neurons, synapse=synapse)
        nengo.Probe(inp)
    bench = bench_of_network(net)
    core = assert_equals_core(bench, batch=1)
    assert min(np.ptp(values) for values in core) > 0.1
    assert_equals_core(bench, dtype="float32", batch=1)


def test_merging():
    """Filters of one state merge whatever their constants, others if they are equal."""
    lowpasses = [nengo.Lowpass(tau) for tau in (0.001, 0.01, 0.1)]
    assert merged(bench_of_filters(*lowpasses)) == {"filter": [3]}
    alphas = [nengo.Alpha(tau) for tau in (0.01, 0.01, 0.02)]
    assert merged(bench_of_filters(*alphas)) == {"state_space_filter": [1, 2]}
    assert merged(bench_of_filters(FILTERS["factor"])) == {}
    # those of high order are products of matrices, which may differ
    high = [lowpass_chain(tau, 4) for tau in (0.01, 0.01, 0.02)]
    assert merged(bench_of_filters(*high)) == {"dense_filter": [3]}


def test_high_orders_equal_what_is_written_out(monkeypatch, allclose):
    names = [name for name, f in FILTERS.items() if len(f._get_ss(DT)[0]) > 1]
    bench = bench_of_filters(*(FILTERS[name] for name in names))
    written_out = simulate(bench, "numpy", "float64", ITEMS)
    for limit in (1, 9):
        monkeypatch.setattr(linear_filter, "WRITTEN_OUT", limit)
        for ours, theirs in zip(
            simulate(bench, "numpy", "float64", ITEMS), written_out, strict=True
        ):
            assert allclose(ours, theirs, atol=1e-11 * max(1, np.abs(theirs).max()))


@pytest.mark.parametrize(
    "design",
    [
        scipy.signal.butter(2, 0.005),
        scipy.signal.butter(6, 0.01),
        scipy.signal.butter(3, [0.01, 0.02], "bandpass"),
        scipy.signal.ellip(5, 0.1, 40, 0.02),
        ([0, 0, 0, 1e-6], np.poly([0.98, 0.99, 0.985])),
    ],
)
def test_digital_filters_with_poles_close_together_in_single_precision(design):
    """Rounding the coefficients of their difference equations would spoil them."""
    with nengo.Network() as net:
        node = nengo.Node(lambda t: np.sin(9 * t) + np.sin(70 * t) + 0.5)
        probe = nengo.Probe(node, synapse=digital(*design))
    with nengo.Simulator(net, progress_bar=False) as core:
        core.run_steps(1000)
    expected = core.data[probe]
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(1000)
        assert np.abs(sim.data[probe] - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize(
    "poles",
    [
        [0.3],
        [0.9, 0.9, 0.9],
        [0.5 + 0.2j, 0.5 - 0.2j, 0.1],
        [0.9 + 0.01j, 0.9 - 0.01j] * 2,
        [0.0] * 4,
        [-0.5, 0.2j, -0.2j, 1.0, 1.0],
    ],
)
def test_schur_s_form(poles, allclose):
    A = np.eye(len(poles), k=-1)
    A[0] = -np.real(np.poly(poles))[1:]  # as in the state space of a digital filter
    T, Q = linear_filter.real_schur(A)
    assert allclose(Q @ Q.T, np.eye(len(A)), atol=1e-14)
    assert allclose(Q @ T @ Q.T, A, atol=1e-11)
    below = np.diag(T, -1)
    assert not np.tril(T, -2).any()
    assert np.count_nonzero(below) <= np.count_nonzero(np.imag(poles)) // 2
    assert allclose(np.poly(T), np.poly(poles).real, atol=1e-12)


def test_a_filter_starts_at_rest_and_forgets():
    """A constant input of one ends in the filter's gain for constants."""
    for name in ("lowpass", "alpha", "order 3", "digital passthrough, order 2"):
        synapse = FILTERS[name]
        with nengo.Network() as net:
            nengo.Probe(nengo.Node(lambda t: 1.0), synapse=synapse)
        (values,) = simulate(bench_of_network(net), "numpy", "float64", 1, 100)
        numerator, denominator = np.sum(synapse.num), np.sum(synapse.den)
        if synapse.analog:  # at s = 0, not at z = 1
            numerator, denominator = synapse.num[-1], synapse.den[-1]
        assert abs(values[0, 0, 0]) < 0.51
        assert values[0, -1, 0] == pytest.approx(numerator / denominator, rel=0.01)
