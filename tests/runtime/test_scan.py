import keras
import numpy as np
import pytest
import tensorflow as tf
from nengo.exceptions import ValidationError

from nengo_dl.runtime.tensorflow.batch_first import turn_step
from nengo_dl.runtime.tensorflow.namespace import GradientPlace, TensorFlowNamespace
from nengo_dl.runtime.tensorflow.scan import Scan

STEPS, N_IN, BATCH = 11, 2, 3


def step(xp, carry, x, weights):
    """Two carried arrays that feed each other, and a weight that nothing uses."""
    c, f = carry
    u = xp.matmul(weights[0], c) + f[:1] * 0.1
    if x is not None:
        u = u + xp.matmul(weights[1], x)
    c = xp.tanh(xp.take(u, [3, 1, 0, 2, 4]))
    f = f * 0.9 + weights[2] * c[:2] * c[1:3]
    return [c, f], xp.concat([f, c[:1]])


def python_loop(xs, carry, weights, truncate=None, steps=STEPS):
    """The same for a plain tape to look through."""
    xp, ys = TensorFlowNamespace("float64", fast=False), []
    for i in range(steps):
        if truncate and i and i % truncate == 0:
            carry = [tf.stop_gradient(c) for c in carry]
        carry, y = step(xp, carry, None if xs is None else xs[i], weights)
        ys.append(y)
    return tf.stack(ys), carry


class Problem:
    """Arguments of a scan, and a loss of all that it returns."""

    def __init__(self, rng):
        def variable(*shape):
            return tf.Variable(rng.standard_normal(shape) * 0.6)

        self.weights = [variable(5, 5), variable(5, N_IN), variable(2, 1), variable(2)]
        self.xs = tf.constant(rng.standard_normal((STEPS, N_IN, BATCH)))
        self.carry = [tf.constant(rng.standard_normal((n, BATCH))) for n in (5, 2)]
        self.d_ys = rng.standard_normal((STEPS, 3, BATCH))
        self.d_carry = [rng.standard_normal((n, BATCH)) for n in (5, 2)]

    def loss(self, run, xs, carry, weights):
        ys, last = run(xs, carry, weights)
        ends = [tf.reduce_sum(c * d) for c, d in zip(last, self.d_carry, strict=True)]
        return tf.reduce_sum(ys * self.d_ys) + sum(ends)

    def gradients(self, run, persistent=False):
        """The loss, and its gradients: inputs, carried arrays, weights."""
        with tf.GradientTape(persistent) as tape:
            tape.watch([self.xs, *self.carry])
            loss = self.loss(run, self.xs, self.carry, self.weights)
        sources = [self.xs, *self.carry, *self.weights]
        zero = tf.UnconnectedGradients.ZERO
        return [loss, *tape.gradient(loss, sources, unconnected_gradients=zero)]


@pytest.fixture
def problem(rng):
    return Problem(rng)


def assert_same(actual, expected, allclose, atol=1e-12):
    for a, b in zip(actual, expected, strict=True):
        assert allclose(a, b, atol=atol)


KEEP_4TH = ("auto", 100)  # a budget so small that each fourth step is kept
COMPILED = [((1, None), None), ((3, None), None), (KEEP_4TH, None)]
COMPILED += [((None, None), 4), ((3, None), 4)]
PLAIN = COMPILED + [((100, None), None), ((1, None), 4), (KEEP_4TH, 4)]


@pytest.mark.parametrize(
    "jit, keep, truncate",
    [(True, *case) for case in COMPILED] + [(False, *case) for case in PLAIN],
)
def test_equals_autodiff(jit, keep, truncate, problem, allclose):
    checkpoint, keep_bytes = keep
    scan = Scan(
        step,
        3,
        "float64",
        checkpoint=checkpoint,
        truncate=truncate,
        jit=jit,
        keep_bytes=keep_bytes or 2**28,
    )
    expected = problem.gradients(lambda *args: python_loop(*args, truncate=truncate))
    actual = problem.gradients(lambda *args: scan(*args, training=True))
    assert_same(actual, expected, allclose)


@pytest.mark.parametrize("jit", [True, False])
def test_values(jit, problem, allclose):
    scan = Scan(step, 3, "float64", jit=jit)
    ys, carry = python_loop(problem.xs, problem.carry, problem.weights)
    for training in (False, True):
        actual, last = scan(problem.xs, problem.carry, problem.weights, training=training)
        assert_same([actual, *last], [ys, *carry], allclose, atol=1e-14)


def test_gradient_without_training_recomputes(problem, allclose):
    scan = Scan(step, 3, "float64", jit=False, checkpoint=3)
    actual = problem.gradients(scan)
    assert_same(actual, problem.gradients(python_loop), allclose)


def test_inference_saves_nothing(problem):
    scan = Scan(step, 3, "float64", jit=False)
    scan(problem.xs, problem.carry, problem.weights)
    assert scan._saving.experimental_get_tracing_count() == 0


def test_finite_differences(problem, allclose):
    scan = Scan(step, 3, "float64", jit=False, checkpoint=4)
    values = [tf.convert_to_tensor(w) for w in problem.weights[:3]]

    def loss(xs, c, f, *weights):
        def run(*args):
            return scan(*args, training=True)

        return problem.loss(run, xs, [c, f], [*weights, problem.weights[3]])

    points = [problem.xs, *problem.carry, *values]
    analytic, numeric = tf.test.compute_gradient(loss, points, delta=1e-5)
    assert_same(analytic, numeric, allclose, atol=1e-7)


@pytest.mark.parametrize("jit", [True, False])
def test_without_inputs(jit, problem, allclose):
    scan = Scan(step, 3, "float64", jit=jit)
    sources = [problem.weights[0], *problem.carry]
    grads = []
    for run in (
        lambda *args: python_loop(None, *args),
        lambda *args: scan(None, *args, n_steps=STEPS, training=True),
    ):
        with tf.GradientTape() as tape:
            tape.watch(problem.carry)
            ys, last = run(problem.carry, problem.weights)
            loss = tf.reduce_sum(ys * problem.d_ys) + tf.reduce_sum(last[0])
        grads.append([loss, *tape.gradient(loss, sources)])
    assert_same(grads[1], grads[0], allclose)


@pytest.mark.parametrize("jit, keep_bytes", [(True, 1000), (False, 1000), (False, 2**20)])
def test_number_of_steps_unknown_in_trace(jit, keep_bytes, problem, allclose):
    scan = Scan(step, 3, "float64", jit=jit, keep_bytes=keep_bytes)
    shape = tf.TensorSpec((None, N_IN, BATCH), tf.float64)

    @tf.function(input_signature=[shape], autograph=False)
    def outer(xs):  # not compiled, as Keras' training step
        with tf.GradientTape() as tape:
            tape.watch(xs)
            ys, last = scan(xs, problem.carry, problem.weights, training=True)
            loss = tf.reduce_sum(ys) + tf.reduce_sum(last[0])
        grads = tape.gradient(loss, [xs, *problem.weights[:3]])
        return [loss, *grads]

    for steps in (STEPS, 4):
        with tf.GradientTape() as tape:
            xs = problem.xs[:steps]
            tape.watch(xs)
            ys, last = python_loop(xs, problem.carry, problem.weights, steps=steps)
            loss = tf.reduce_sum(ys) + tf.reduce_sum(last[0])
        expected = tape.gradient(loss, [xs, *problem.weights[:3]])
        assert_same(outer(xs), [loss, *expected], allclose)


@pytest.mark.parametrize("persistent", [True, False])
@pytest.mark.parametrize("jit", [True, False])
def test_a_tape_after_a_program_of_unknown_length(jit, persistent, problem, allclose):
    """As with a training whose last batch is smaller, and gradients asked for later."""
    scan = Scan(step, 3, "float64", jit=jit)
    shape = tf.TensorSpec((None, N_IN, BATCH), tf.float64)

    @tf.function(input_signature=[shape], autograph=False)
    def outer(xs):
        with tf.GradientTape() as tape:
            ys, _ = scan(xs, problem.carry, problem.weights, training=True)
            loss = tf.reduce_sum(ys)
        return tape.gradient(loss, problem.weights[0])

    outer(problem.xs)
    found = problem.gradients(lambda *args: scan(*args, training=True), persistent)
    assert_same(found, problem.gradients(python_loop), allclose)


def test_programs_are_traced_once(problem):
    scan = Scan(step, 3, "float64", jit=False)
    for _ in range(3):
        problem.gradients(lambda *args: scan(*args, training=True))
        scan(problem.xs, problem.carry, problem.weights)
    for program in (scan._plain, scan._saving, scan._backward):
        assert program.experimental_get_tracing_count() == 1


def test_input_gradient_can_be_left_out(problem, allclose):
    scan = Scan(step, 3, "float64", jit=False, input_gradient=False)
    actual = problem.gradients(lambda *args: scan(*args, training=True))
    expected = problem.gradients(python_loop)
    assert not np.any(actual[1])
    assert_same(actual[2:], expected[2:], allclose)


def test_indexed_outputs(problem, allclose):
    """The gradient of a gather comes as slices."""
    scan = Scan(step, 3, "float64", jit=False)
    grads = []
    for run in (python_loop, lambda *args: scan(*args, training=True)):
        with tf.GradientTape() as tape:
            ys, _ = run(problem.xs, problem.carry, problem.weights)
            loss = tf.reduce_sum(tf.gather(ys, [2, 10, 2]))
        grads.append(tape.gradient(loss, problem.weights[:3]))
    assert_same(grads[1], grads[0], allclose)


def test_integers_are_carried_without_gradient(rng, allclose):
    def count(xp, carry, x, weights):
        number, total = carry
        scale = tf.cast(number + weights[1], xp.dtype)
        total = total + scale * weights[0] * x
        return [number + 1, total], total

    xs = tf.constant(rng.standard_normal((5, 1, 2)))
    carry = [tf.constant([[0, 0]]), tf.zeros((1, 2), tf.float64)]
    weights = [tf.Variable(2.0, dtype=tf.float64), tf.constant(1)]
    scan = Scan(count, 1, "float64", jit=False, checkpoint=2)
    with tf.GradientTape() as tape:
        tape.watch([xs, carry[1]])
        ys, last = scan(xs, carry, weights, training=True)
        loss = tf.reduce_sum(last[1])
    assert last[0].numpy().tolist() == [[5, 5]]
    grads = tape.gradient(loss, [xs, carry[1], weights[0]])
    numbers = np.arange(1, 6)[:, None, None] * np.ones((1, 1, 2))
    assert_same(grads, [2 * numbers, [[1, 1]], (numbers * xs.numpy()).sum()], allclose)


# ---- Python functions -------------------------------------------------------------


def host_step(calls):
    """A step that calls Python twice, in a way that depends on how often it did."""

    def fn(arrays):
        calls.append("fn")
        return [arrays[0] ** 2 + len(calls), arrays[0][:1]]

    def other(arrays):
        calls.append("other")
        return [np.full_like(arrays[0], len(calls))]

    def step(xp, carry, x, weights):
        a, b = xp.host_call(fn, [carry[0]], [2, 1])
        (c,) = xp.host_call(other, [a], [2])
        after = weights[0] * xp.tanh(carry[0] + x) + 0.1 * a * b + 0.01 * c
        return [after], after[:1]

    return step


@pytest.mark.parametrize("checkpoint", [1, 3])
def test_python_is_called_once_a_step(checkpoint, rng, allclose):
    xs = tf.constant(rng.standard_normal((7, 2, BATCH)))
    start = tf.constant(rng.standard_normal((2, BATCH)))
    w = tf.Variable(rng.standard_normal((2, 1)))

    def gradients(run):
        with tf.GradientTape() as tape:
            tape.watch([xs, start])
            ys, carry = run(xs, [start], [w])
            loss = tf.reduce_sum(ys**2) + tf.reduce_sum(carry[0])
        return [loss, *tape.gradient(loss, [xs, start, w])]

    def plain(xs, carry, weights):
        xp, step, ys = TensorFlowNamespace("float64"), host_step([]), []
        for i in range(7):
            carry, y = step(xp, carry, xs[i], weights)
            ys.append(y)
        return tf.stack(ys), carry

    calls = []
    scan = Scan(host_step(calls), 1, "float64", jit=False, checkpoint=checkpoint)
    actual = gradients(lambda *args: scan(*args, training=True))
    assert calls == ["fn", "other"] * 7
    assert_same(actual, gradients(plain), allclose)


def test_errors_of_python_functions_reach_the_caller():
    def fn(arrays):
        raise OSError("no such device")

    def broken(xp, carry, x, weights):
        return xp.host_call(fn, carry, [1]), x

    scan = Scan(broken, 1, jit=False)
    with pytest.raises(OSError, match="no such device"):
        scan(np.zeros((2, 1, 1)), [np.zeros((1, 1))], [])


# ---- arguments --------------------------------------------------------------------


@pytest.mark.parametrize(
    "kwargs",
    [{"checkpoint": x} for x in (0, -1, 1.5, "all", True)]
    + [{"truncate": x} for x in (0, "auto", 2.0)],
    ids=str,
)
def test_intervals_are_checked(kwargs):
    with pytest.raises(ValidationError, match="expected .*None or an integer"):
        Scan(step, 3, **kwargs)


def test_arguments_are_checked(problem):
    scan = Scan(step, 3, "float64", jit=False)
    xs, carry, weights = problem.xs, problem.carry, problem.weights
    with pytest.raises(ValidationError, match="number of steps has to be given"):
        scan(None, carry, weights)
    with pytest.raises(ValidationError, match="got 5, but the inputs are 11 steps"):
        scan(xs, carry, weights, n_steps=5)
    with pytest.raises(ValidationError, match=r"shape \(11, 2\)"):
        scan(xs[:, :, 0], carry, weights)
    with pytest.raises(ValidationError, match="one step at least"):
        scan(xs[:0], carry, weights)
    with pytest.raises(ValidationError, match="weight 0 is of type float32"):
        scan(xs, carry, [tf.zeros((5, 5)), *weights[1:]])

    @tf.function(input_signature=[tf.TensorSpec((5, None), tf.float64)], autograph=False)
    def outer(c):
        return scan(xs, [c, carry[1]], weights)[0]

    with pytest.raises(ValidationError, match="Give a fixed batch size"):
        outer(carry[0])


# ---- Keras ------------------------------------------------------------------------


class Leaky(keras.layers.Layer):
    """A leaky integrator of unknown gain and leak, ``(batch, time, 1)``."""

    def __init__(self, jit):
        super().__init__()
        self.scan = Scan(self.one_step, 1, jit=jit, checkpoint=3)
        self.gain = self.add_weight(shape=(1, 1), initializer="ones")
        self.leak = self.add_weight(shape=(1, 1), initializer="zeros")

    @staticmethod
    def one_step(xp, carry, x, weights):
        c = carry[0] * weights[1] + weights[0] * x
        return [c], c

    def call(self, inputs, training=None):
        xs = tf.transpose(inputs, (1, 2, 0))
        start = tf.zeros((1, inputs.shape[0]))
        ys, _ = self.scan(xs, [start], [self.gain, self.leak], training=bool(training))
        return tf.transpose(ys, (2, 0, 1))


@pytest.mark.parametrize("jit", [True, False])
def test_keras_fit(jit, rng, allclose):
    x = rng.standard_normal((16, 10, 1)).astype("float32")
    y, c = np.zeros_like(x), 0
    for i in range(10):
        c = 0.5 * c + 2 * x[:, i]
        y[:, i] = c
    inputs = keras.Input(batch_shape=(16, 10, 1))
    layer = Leaky(jit)
    model = keras.Model(inputs, layer(inputs))
    model.compile(keras.optimizers.Adam(0.05), loss="mse", jit_compile=False)
    before = model.evaluate(x, y, batch_size=16, verbose=0)
    model.fit(np.tile(x, (200, 1, 1)), np.tile(y, (200, 1, 1)), batch_size=16, verbose=0)
    assert model.evaluate(x, y, batch_size=16, verbose=0) < 1e-3 * before
    assert allclose(layer.gain, [[2]], atol=0.05)
    assert allclose(layer.leak, [[0.5]], atol=0.05)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("factor", [1, 2])
def test_gradient_of_the_input_is_read_where_it_is_written(
    turned, factor, rng, monkeypatch, allclose
):
    held = []

    def noting(place, gradient, plain=GradientPlace.holds):
        held.append(plain(place, gradient))
        return held[-1]

    monkeypatch.setattr(GradientPlace, "holds", noting)

    def step(xp, carry, x, weights):
        x = x if factor == 1 else x * factor
        v = xp.materialize(carry[0] * 0.9 + x - xp.tanh(carry[0]) * weights[0])
        return [v], xp.tanh(v)

    step = turn_step(step, outputs=True) if turned else step
    xs, c = rng.normal(size=(4, 3, 8)), rng.normal(size=(3, 8))
    xs, c = (np.swapaxes(a, -1, -2) if turned else a for a in (xs, c))
    found = []
    for places in (False, True):
        scan = Scan(step, 3, "float64", turned=turned, places=places)
        x, start, w = (tf.constant(a, "float64") for a in (xs, c, 0.3))
        with tf.GradientTape() as tape:
            tape.watch([x, start, w])
            ys, _ = scan(x, [start], [w], training=True)
        found.append(tape.gradient(ys, [x, start, w]))
    assert held and set(held) == {factor == 1}
    for one, other in zip(*found, strict=True):
        assert allclose(one, other, rtol=1e-13, atol=1e-13)
