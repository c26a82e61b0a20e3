"""Loops of elementwise steps as machine code, against the loops of TensorFlow."""

import nengo
import numpy as np
import pytest

import nengo_dl
from nengo_dl.compiler.traits import Params
from nengo_dl.kernels.neurons.base import neuron_kernels
from nengo_dl.runtime.executor import Unsupported
from nengo_dl.runtime.native import trained_loops
from nengo_dl.runtime.native.compile import available
from nengo_dl.runtime.native.trained_loops import Shape, TrainedLoop

tf = pytest.importorskip("tensorflow")

from nengo_dl.runtime.tensorflow import native_loops  # noqa: E402
from nengo_dl.runtime.tensorflow.batch_first import turn_step  # noqa: E402
from nengo_dl.runtime.tensorflow.native_loops import NativeLoop  # noqa: E402
from nengo_dl.runtime.tensorflow.scan import Scan  # noqa: E402
from nengo_dl.runtime.tensorflow.spiking_products import allowed  # noqa: E402

pytestmark = pytest.mark.skipif(available() is not None, reason="no machine code here")


def leaky(xp, carry, x, weights):
    """Two filters, one after the other, with a bias and a weight that is not trained."""
    first = 0.5 * carry[0] + (x + weights[0]) * weights[1]
    second = xp.where(first > 0.2, carry[1] - first / 3, xp.abs(carry[1]) * 0.9)
    return [first, second], xp.relu(second)


def everything(xp, carry, x, weights):
    """Each operation that there is machine code for."""
    a, b = x[:5], x[5:10]
    v = xp.maximum(carry[0] * 0.8, a) - xp.minimum(b, 0.3)
    v = xp.clip(v, -1, 2) + xp.exp(-xp.abs(a)) / (1.5 + b * b) - xp.expm1(0.1 * b)
    w = xp.log1p(xp.relu(v)) + xp.stop_gradient(a) * xp.sign(b) + xp.floor(3 * a)
    w = w + xp.sqrt(2 + a) * xp.log(2 + b) - xp.tanh(v)
    both = (v > 0) & (b <= 0.1) | (a >= 1)
    y = xp.with_gradient(xp.where(both, xp.ones_like(v), xp.zeros_like(v)), w * v)
    return [xp.materialize(-v)], xp.concat([y, w])


def neurons(kind, **params):
    """Steps of neurons with a surrogate gradient."""
    kernel = neuron_kernels.exact(kind)
    values = kernel.derive({"dt": 0.001, **params})
    p = Params(**values, surrogate=nengo_dl.surrogates.FastSigmoid(10))

    def step(xp, carry, x, weights):
        spikes, *state = kernel.step(xp, p, 20 * x + weights[0], *carry)
        return state, spikes

    return step


LIF = neurons(nengo.LIF, tau_rc=0.02, tau_ref=0.002, amplitude=1.0, min_voltage=0.0)
IF = neurons(nengo.SpikingRectifiedLinear, amplitude=1.0)

# step, rows given, carried, results, weights, which of them are trained
CASES = {
    "leaky": (leaky, 21, (21, 21), 21, (21, 21), (True, False)),
    "everything": (everything, 12, (5,), 10, (), ()),
    "LIF": (LIF, 33, (33, 33), 33, (33,), (True,)),
    "IF": (IF, 16, (16,), 16, (16,), (False,)),
}


def arrays(rng, case, steps, items, dtype):
    _, given, carried, results, columns, _ = CASES[case]
    shapes = [(steps, items, given), *((items, n) for n in carried)]
    shapes += [(n, 1) for n in columns]
    shapes += [(steps, items, results), *((items, n) for n in carried)]
    return [rng.uniform(-1, 1, size=shape).astype(dtype) for shape in shapes]


def native(case, values, items, dtype, threads=1, by_items=False):
    step, given, carried, _, columns, trained = CASES[case]
    shape = Shape(given, carried, columns, items, by_items)
    loop = TrainedLoop(step, shape, trained, dtype)
    n, m = 1 + len(carried), 1 + len(carried) + len(columns)
    x, carry, weights = values[0], values[1:n], values[n:m]
    y, states = loop.forward(x, carry, weights, threads)
    back = loop.backward(x, values[m], states, weights, values[m + 1 :], threads)
    return [y, *(s[-1] for s in states)], [back[0], *back[1], *back[2]]


def through_tensorflow(scan, case, values, training=True):
    _, _, carried, _, columns, trained = CASES[case]
    n, m = 1 + len(carried), 1 + len(carried) + len(columns)
    given = [tf.constant(x) for x in values[:m]]
    with tf.GradientTape() as tape:
        tape.watch(given)
        y, last = scan(given[0], given[1:n], given[n:], training=training)
        pairs = zip([y, *last], values[m:], strict=True)
        loss = tf.add_n([tf.reduce_sum(a * b) for a, b in pairs])
    sources = [*given[:n], *(w for w, yes in zip(given[n:], trained) if yes)]
    return [y, *last], tape.gradient(loss, sources)


def scan_of(case, dtype, **options):
    step, _, _, results, _, trained = CASES[case]
    options = {"turned": True, "trained": trained, "jit": False, **options}
    return Scan(turn_step(step, outputs=True), results, dtype, **options)


def assert_alike(found, expected, dtype):
    tolerance = 2e-4 if dtype == "float32" else 1e-11
    for one, other in zip(found, expected, strict=True):
        scale = np.abs(other).max() + 1e-3
        assert np.abs(one - np.asarray(other)).max() <= tolerance * scale


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES)
def test_of_one_step_after_the_other(case, dtype, rng):
    values = arrays(rng, case, 7, 5, dtype)
    expected = through_tensorflow(scan_of(case, dtype), case, values)
    for found, wanted in zip(native(case, values, 5, dtype), expected, strict=True):
        assert_alike(found, wanted, dtype)


def test_more_neurons_than_a_portion_has(rng):
    n = trained_loops.PORTION + 5
    shape = Shape(n, (n,), (n,), 3)
    loop = TrainedLoop(IF, shape, (True,), "float64")
    x, d_y = (rng.uniform(-1, 1, (4, 3, n)) for _ in range(2))
    state, d_last = (rng.uniform(0, 0.5, (3, n)) for _ in range(2))
    bias = rng.uniform(0, 1, (n, 1))
    scan = Scan(turn_step(IF, outputs=True), n, "float64", turned=True, jit=False)
    y, states = loop.forward(x, [state], [bias])
    found = loop.backward(x, d_y, states, [bias], [d_last])
    given = [tf.constant(a) for a in (x, state, bias)]
    with tf.GradientTape() as tape:
        tape.watch(given)
        wanted, last = scan(given[0], [given[1]], [given[2]], training=True)
        loss = tf.reduce_sum(wanted * d_y) + tf.reduce_sum(last[0] * d_last)
    expected = tape.gradient(loss, given)
    assert_alike([y, states[0][-1]], [wanted, last[0]], "float64")
    assert_alike([found[0], *found[1], *found[2]], expected, "float64")


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_give_the_same_bits(threads, rng, monkeypatch):
    values = arrays(rng, "LIF", 6, 9, "float32")
    alone = native("LIF", values, 9, "float32")
    monkeypatch.setattr(trained_loops, "LOOP_SHARED", 1)
    shared = native("LIF", values, 9, "float32", threads)
    for one, other in zip(sum(alone, []), sum(shared, []), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("case", CASES)
def test_what_lies_item_by_item(case, rng):
    """The same to the bit, and so does its gradient."""
    x, *others = arrays(rng, case, 7, 9, "float32")
    expected = native(case, [x, *others], 9, "float32")
    turned = [np.ascontiguousarray(x.swapaxes(0, 1)), *others]
    found = native(case, turned, 9, "float32", by_items=True)
    found[1][0] = found[1][0].swapaxes(0, 1)
    for one, other in zip(sum(found, []), sum(expected, []), strict=True):
        assert np.array_equal(one, other)


def test_without_steps(rng):
    values = arrays(rng, "leaky", 0, 3, "float32")
    (y, *last), (d_x, *d_carry, d_bias) = native("leaky", values, 3, "float32")
    assert y.shape == (0, 3, 21) and d_x.shape == (0, 3, 21)
    for one, other in zip([*last, *d_carry], [*values[1:3], *values[6:]], strict=True):
        assert np.array_equal(one, other)
    assert not d_bias.any()


def of_other_steps():
    def rows(xp, carry, x, weights):
        return [(x + carry[0])[:2]], x

    def gathered(xp, carry, x, weights):
        return carry, xp.take(x, np.arange(4)[::-1])

    def product(xp, carry, x, weights):
        return carry, xp.matmul(np.eye(4), x)

    def constants(xp, carry, x, weights):
        return carry, x * np.arange(4.0)[:, None]

    def nothing(xp, carry, x, weights):
        return [xp.zeros_like(carry[0])], x

    def sizes(xp, carry, x, weights):
        return carry, x[:2]

    def overlap(xp, carry, x, weights):
        return [carry[0] + x[0:3] * x[1:4]], carry[0]

    found = (rows, gathered, product, constants, nothing, sizes, overlap)
    return [pytest.param(step, id=step.__name__) for step in found]


@pytest.mark.parametrize("step", of_other_steps())
def test_what_is_no_such_step(step):
    with pytest.raises(Unsupported):
        n = 3 if step.__name__ == "overlap" else 4
        TrainedLoop(step, Shape(4, (n,), (), 2), [], "float32")


@pytest.fixture
def small(monkeypatch):
    """Loops of any number of steps are in machine code."""
    monkeypatch.setattr(native_loops, "LEAST_NUMBERS", 1)


def test_sizes_that_it_is_not_worth_it_for(rng, small, monkeypatch):
    loop = NativeLoop(leaky, range(2), (True, False))
    x, *rest = (tf.constant(a) for a in arrays(rng, "leaky", 4, 3, "float32"))
    with allowed():
        assert loop(x, rest[:2], rest[2:4]) is not None
        monkeypatch.setattr(native_loops, "LEAST_NUMBERS", 253)
        assert loop(x, rest[:2], rest[2:4]) is None


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("case", CASES)
def test_in_a_scan(case, rng, monkeypatch):
    called = []
    forward = TrainedLoop.forward
    monkeypatch.setattr(
        TrainedLoop, "forward", lambda *args: called.append(1) or forward(*args)
    )
    step, _, _, _, columns, trained = CASES[case]
    loop = NativeLoop(step, range(len(columns)), trained)
    scan = scan_of(case, "float32", native=loop)
    values = arrays(rng, case, 4, 3, "float32")
    expected = through_tensorflow(scan, case, values)
    assert not called  # a file may be made of it
    with allowed():
        found = through_tensorflow(scan, case, values)
        assert len(called) == 1
        through_tensorflow(scan, case, values, training=False)
        assert len(called) == 1
    for one, other in zip(found, expected, strict=True):
        assert_alike(one, other, "float32")


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("options", [{"checkpoint": 2}, {"truncate": 2}])
def test_less_is_kept_where_it_is_asked_for(options, rng, monkeypatch):
    monkeypatch.setattr(TrainedLoop, "forward", None)
    step, _, _, _, columns, trained = CASES["leaky"]
    loop = NativeLoop(step, range(len(columns)), trained)
    scan = scan_of("leaky", "float32", native=loop, **options)
    values = arrays(rng, "leaky", 4, 3, "float32")
    with allowed():
        found = through_tensorflow(scan, "leaky", values)
    expected = through_tensorflow(scan_of("leaky", "float32", **options), "leaky", values)
    for one, other in zip(found, expected, strict=True):
        assert_alike(one, other, "float32")


@pytest.mark.usefixtures("small")
def test_networks_are_trained_by_it(rng, monkeypatch):
    """And the weights are those of the loops of XLA."""
    losses, called = {}, []
    forward = TrainedLoop.forward
    monkeypatch.setattr(
        TrainedLoop, "forward", lambda *args: called.append(1) or forward(*args)
    )
    x, y = rng.uniform(-1, 1, (6, 5, 4)), rng.uniform(-1, 1, (6, 5, 2))
    for machine_code in (True, False):
        with nengo.Network(seed=0) as net:
            nengo_dl.configure_settings(spiking_training=True, trainable=None)
            inp = nengo.Node(np.zeros(4))
            ens = nengo.Ensemble(24, 4, neuron_type=nengo.LIF())
            net.config[ens.neurons].trainable = True
            nengo.Connection(inp, ens, synapse=None)
            p = nengo.Probe(nengo.Node(size_in=2))
            nengo.Connection(ens, p.target, synapse=None, function=lambda x: x[:2])
        if not machine_code:
            monkeypatch.setattr(NativeLoop, "__call__", lambda *args: None)
        with nengo_dl.Simulator(net, minibatch_size=3, progress_bar=False) as sim:
            sim.compile(tf.keras.optimizers.SGD(1e-6), loss="mse")
            history = sim.fit({inp: x}, {p: y}, epochs=3, shuffle=False, verbose=0)
            losses[machine_code] = history.history["loss"]
            assert bool(called) == machine_code
            called.clear()
    assert np.allclose(losses[True], losses[False], rtol=1e-4)
    assert losses[True][0] != losses[True][-1]
