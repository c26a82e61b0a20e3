import decimal

import numpy as np
import pytest
import tensorflow as tf
from nengo.exceptions import SimulationError, ValidationError

from nengo_dl.runtime.tensorflow.namespace import (
    TensorFlowNamespace,
    expm1_coefficients,
    fan_out,
    log1p_coefficients,
)

N = 6  # rows of the arrays a, b (any sign) and p (positive)

FILTERS = np.arange(8.0).reshape(2, 2, 2) / 4 - 1


def signals(xp, a):
    """Rows as channels: ``(batch, 3, 2)``."""
    return xp.reshape(xp.transpose(a, (1, 0)), (-1, 3, 2))


def convolved(a):
    x = a.T.reshape(-1, 3, 2)
    return x[:, :2] @ FILTERS[0] + x[:, 1:] @ FILTERS[1]


def convolved_transposed(a):
    x, y = a.T.reshape(-1, 3, 2), np.zeros((a.shape[1], 4, 2))
    for t in range(2):
        y[:, t : t + 3] += x @ FILTERS[t]
    return y


CASES = {  # name -> (what a kernel writes, the same in NumPy)
    "conv": (
        lambda xp, a, b, p: xp.conv(signals(xp, a), FILTERS, (1,), "valid"),
        lambda a, b, p: convolved(a),
    ),
    "conv_transpose": (
        lambda xp, a, b, p: xp.conv_transpose(
            signals(xp, a), FILTERS, (1,), "valid", (4,)
        ),
        lambda a, b, p: convolved_transposed(a),
    ),
    "constant": (lambda xp, a, b, p: xp.constant(b[:1]), lambda a, b, p: b[:1]),
    "float": (lambda xp, a, b, p: a * xp.float(0.1), lambda a, b, p: a * 0.1),
    "take": (
        lambda xp, a, b, p: xp.take(a, [5, 0, 0, 3]),
        lambda a, b, p: a[[5, 0, 0, 3]],
    ),
    "concat": (
        lambda xp, a, b, p: xp.concat([a, b[:2]]),
        lambda a, b, p: np.r_[a, b[:2]],
    ),
    "reshape": (
        lambda xp, a, b, p: xp.reshape(a, (2, 3, -1)),
        lambda a, b, p: a.reshape(2, 3, -1),
    ),
    "transpose": (lambda xp, a, b, p: xp.transpose(a, (1, 0)), lambda a, b, p: a.T),
    "broadcast": (
        lambda xp, a, b, p: xp.broadcast(a[2:3], a.shape),
        lambda a, b, p: np.broadcast_to(a[2:3], a.shape),
    ),
    "zeros": (lambda xp, a, b, p: xp.zeros(a.shape), lambda a, b, p: 0 * a),
    "zeros_like": (lambda xp, a, b, p: xp.zeros_like(a), lambda a, b, p: 0 * a),
    "ones_like": (lambda xp, a, b, p: xp.ones_like(a), lambda a, b, p: 0 * a + 1),
    "where": (
        lambda xp, a, b, p: xp.where(a > b, a, 0.25),
        lambda a, b, p: np.where(a > b, a, 0.25),
    ),
    "maximum": (lambda xp, a, b, p: xp.maximum(a, b), lambda a, b, p: np.maximum(a, b)),
    "relu": (lambda xp, a, b, p: xp.relu(a), lambda a, b, p: np.maximum(a, 0)),
    "minimum": (lambda xp, a, b, p: xp.minimum(a, 0), lambda a, b, p: np.minimum(a, 0)),
    "clip": (
        lambda xp, a, b, p: xp.clip(a, -0.5, p),
        lambda a, b, p: np.clip(a, -0.5, p),
    ),
    "abs": (lambda xp, a, b, p: xp.abs(a), lambda a, b, p: np.abs(a)),
    "sign": (lambda xp, a, b, p: xp.sign(a), lambda a, b, p: np.sign(a)),
    "sqrt": (lambda xp, a, b, p: xp.sqrt(p), lambda a, b, p: np.sqrt(p)),
    "floor": (lambda xp, a, b, p: xp.floor(3 * a), lambda a, b, p: np.floor(3 * a)),
    "exp": (lambda xp, a, b, p: xp.exp(a), lambda a, b, p: np.exp(a)),
    "log": (lambda xp, a, b, p: xp.log(p), lambda a, b, p: np.log(p)),
    "tanh": (lambda xp, a, b, p: xp.tanh(a), lambda a, b, p: np.tanh(a)),
    "sigmoid": (
        lambda xp, a, b, p: xp.sigmoid(a),
        lambda a, b, p: 1 / (1 + np.exp(-a)),
    ),
    "expm1": (
        lambda xp, a, b, p: xp.concat([xp.expm1(a), xp.expm1(a / 50, bound=0.1)]),
        lambda a, b, p: np.r_[np.expm1(a), np.expm1(a / 50)],
    ),
    "log1p": (
        lambda xp, a, b, p: xp.concat([xp.log1p(p), xp.log1p(a / 50, bound=0.1)]),
        lambda a, b, p: np.r_[np.log1p(p), np.log1p(a / 50)],
    ),
    "matmul": (
        lambda xp, a, b, p: xp.matmul(b[:4, :1] * xp.ones_like(a[:1, :1]), a[:1]),
        lambda a, b, p: b[:4, :1] @ a[:1],
    ),
    "matvec": (
        lambda xp, a, b, p: xp.matvec(
            xp.reshape(a, (1, 3, 2, -1)), xp.reshape(b[:2], (1, 2, -1))
        ),
        lambda a, b, p: np.einsum("mkb,kb->mb", a.reshape(3, 2, -1), b[:2])[None],
    ),
    "sum": (
        lambda xp, a, b, p: xp.sum(xp.reshape(a, (3, 2, -1)), 0),
        lambda a, b, p: a.reshape(3, 2, -1).sum(0),
    ),
    "power": (lambda xp, a, b, p: xp.power(p, b), lambda a, b, p: p**b),
    "stop_gradient": (
        lambda xp, a, b, p: xp.stop_gradient(a) * b,
        lambda a, b, p: a * b,
    ),
    "with_gradient": (
        lambda xp, a, b, p: xp.with_gradient(a * b, b * a),
        lambda a, b, p: a * b,
    ),
    "materialize": (lambda xp, a, b, p: xp.materialize(a), lambda a, b, p: a),
    "zero_unless": (lambda xp, a, b, p: xp.zero_unless(a * b, a), lambda a, b, p: a * b),
}
CONTRACT = (
    "float take concat reshape transpose broadcast zeros ones_like zeros_like where "
    "maximum relu minimum clip abs sign sqrt floor exp log tanh sigmoid expm1 log1p "
    "matmul sum power stop_gradient with_gradient materialize zero_unless host_call "
    "tensor_call"
).split()
#: tested in files of their own
ELSEWHERE = {"host_call", "tensor_call"}
WITHOUT_GRADIENT = {"constant", "zeros", "zeros_like", "ones_like", "stop_gradient"}

_cache = {}


def operands(batch, dtype):
    rng = np.random.RandomState(batch)
    a, b, p = (rng.standard_normal((N, batch)) for _ in range(3))
    return [x.astype(dtype) for x in (a, b, np.abs(p) + 0.1)]


def results(dtype, batch, fast, jit):
    """All cases as one program (compiling costs more than computing)."""
    key = dtype, batch, fast, jit
    if key not in _cache:
        xp = TensorFlowNamespace(dtype, fast=fast)
        a, b, p = operands(batch, dtype)

        @tf.function(jit_compile=jit, autograph=False)
        def program(a, p):  # b is a constant
            return {name: case[0](xp, a, b, p) for name, case in CASES.items()}

        outputs = program(tf.constant(a), tf.constant(p))
        _cache[key] = {name: value.numpy() for name, value in outputs.items()}
    return _cache[key]


def test_cases_cover_the_contract():
    assert set(CONTRACT) - set(CASES) == ELSEWHERE
    public = {name for name in dir(TensorFlowNamespace) if not name.startswith("_")}
    assert public == set(CASES) | ELSEWHERE | {"of_items", "reraise_host_errors"}
    assert TensorFlowNamespace("float32").dtype == np.float32


@pytest.mark.parametrize("jit", [True, False])
def test_relu_has_no_gradient_at_zero(jit):
    """As in Keras; many currents are zero as long as all biases are."""

    @tf.function(jit_compile=jit, autograph=False)
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = TensorFlowNamespace("float32", fast=jit).relu(x)
        return tape.gradient(y, x)

    assert gradient(tf.constant([-1.0, 0.0, 2.0])).numpy().tolist() == [0, 0, 1]


@pytest.mark.parametrize("jit, fast", [(True, True), (False, True), (False, False)])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_equals_numpy(name, dtype, batch, jit, fast, allclose):
    expected = CASES[name][1](*operands(batch, dtype))
    actual = results(dtype, batch, fast, jit)[name]
    assert actual.dtype == dtype
    assert actual.shape == expected.shape
    tol = 1e-6 if dtype == "float32" else 1e-14
    assert allclose(actual, expected, atol=tol, rtol=4 * tol)


@pytest.mark.parametrize("name", sorted(set(CASES) - WITHOUT_GRADIENT))
def test_gradients_match_finite_differences(name, allclose):
    xp = TensorFlowNamespace("float64")
    a, b, p = (tf.constant(x) for x in operands(2, "float64"))
    analytic, numeric = tf.test.compute_gradient(
        lambda a, p: CASES[name][0](xp, a, b, p), [a, p], delta=1e-5
    )
    for x, y in zip(analytic, numeric, strict=True):
        assert allclose(x, y, atol=1e-8)


def test_stop_gradient_stops(rng):
    xp = TensorFlowNamespace("float64")
    x = tf.constant(rng.standard_normal((3, 2)))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = xp.stop_gradient(x) * x
    assert np.array_equal(tape.gradient(y, x), x)


@pytest.mark.parametrize("jit", [True, False])
def test_with_gradient_has_the_value_of_one_and_the_gradient_of_the_other(rng, jit):
    a, b = (tf.constant(rng.standard_normal(shape)) for shape in ((3, 2), (3, 1)))

    @tf.function(jit_compile=jit, autograph=False)
    def value_and_gradients(a, b):
        with tf.GradientTape() as tape:
            tape.watch([a, b])
            y = TensorFlowNamespace("float64", fast=jit).with_gradient(a * a, 3 * b)
        return y, tape.gradient(y, [a, b])

    y, (to_a, to_b) = value_and_gradients(a, b)
    assert np.array_equal(y, a * a)
    assert to_a is None or not np.any(to_a)
    assert np.array_equal(to_b, np.full((3, 1), 6.0))  # of both columns


def test_clip_gradient_includes_the_limits():
    xp = TensorFlowNamespace("float64")
    x = tf.constant([[-2.0], [-1.0], [0.0], [1.0], [2.0]], tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = xp.clip(x, -1, 1)
    assert tape.gradient(y, x).numpy().ravel().tolist() == [0, 1, 1, 1, 0]


def test_constants_never_widen(rng):
    xp = TensorFlowNamespace("float32")
    x = tf.constant(rng.standard_normal((3, 1)), tf.float32)
    wide = rng.standard_normal((3, 1))
    for y in (
        xp.maximum(x, wide),
        xp.where(wide > 0, wide, x),
        xp.clip(x, np.float64(-1), 1),
        xp.power(xp.abs(x), np.float64(2)),
        xp.concat([x, wide]),
        xp.matmul(wide.T, x),
        x * xp.float(np.pi),
    ):
        assert y.dtype == tf.float32


@pytest.mark.parametrize("dtype", ["float16", "int32"])
def test_other_types_are_refused(dtype):
    with pytest.raises(ValidationError, match="expected 'float32' or 'float64'"):
        TensorFlowNamespace(dtype)


# ---- polynomials ------------------------------------------------------------------

SERIES = {"expm1": expm1_coefficients, "log1p": log1p_coefficients}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bound", [1e-5, 1e-3, 0.05, 0.3, 0.6, 1.5])
@pytest.mark.parametrize("name", SERIES)
def test_series_are_correct_to_rounding(name, bound, dtype):
    eps = np.finfo(dtype).eps
    x = np.linspace(-bound, bound, 4001).astype(dtype)
    x = x[(x != 0) & (np.abs(x) <= bound) & (x > -0.99)]
    actual = getattr(TensorFlowNamespace(dtype), name)(x, bound=bound).numpy()
    exact = getattr(np, name)(x.astype(np.longdouble))
    assert actual.dtype == dtype
    assert np.max(np.abs(actual - exact) / np.abs(exact)) < 4 * eps


@pytest.mark.parametrize("name", SERIES)
@pytest.mark.parametrize("eps", [2.0**-23, 2.0**-52])
@pytest.mark.parametrize("bound", [1e-4, 0.01, 0.05, 0.25])
def test_remainder_of_series(name, eps, bound):
    """In 60 digits: the terms left out do not matter, and none could be left out."""
    with decimal.localcontext() as context:
        context.prec = 60
        coefficients = SERIES[name](bound, eps)
        if coefficients is None:  # more terms than it is worth
            assert bound == 0.25
            return

        def error(x, n):
            x = decimal.Decimal(x)
            one = decimal.Decimal(1)
            exact = x.exp() - 1 if name == "expm1" else (1 + x).ln()
            terms = []
            for j in range(n):
                c = one / (j + 1)
                if name == "expm1":
                    for i in range(1, j + 1):
                        c /= i
                else:
                    c *= (-1) ** j
                assert float(c) == pytest.approx(coefficients[j], rel=1e-15)
                terms.append(c * x ** (j + 1))
            return abs(sum(terms) / exact - 1)

        n = len(coefficients)
        assert max(error(bound, n), error(-bound, n)) <= eps / 4
        if n > 2:
            assert max(error(bound, n - 2), error(-bound, n - 2)) > eps / 4


def test_series_that_would_be_long_are_not_used(rng):
    assert log1p_coefficients(1.0, 1e-7) is None
    assert expm1_coefficients(50.0, 1e-7) is None
    assert expm1_coefficients(0.0, 1e-7) == log1p_coefficients(0.0, 1e-7) == [1.0]
    x = rng.uniform(0, 40, size=(5, 1))
    xp = TensorFlowNamespace("float64")
    assert np.array_equal(xp.expm1(x, bound=50), tf.math.expm1(x))
    assert np.array_equal(xp.log1p(x, bound=50), tf.math.log1p(x))


@pytest.mark.parametrize("bound", [-1, np.inf, np.nan])
def test_bound_is_checked(bound):
    with pytest.raises(ValidationError, match="bound"):
        TensorFlowNamespace("float32").expm1(np.zeros((1, 1)), bound=bound)


# ---- rows -------------------------------------------------------------------------

INDICES = {
    "all": np.arange(8),
    "slice": np.arange(2, 7),
    "strided": np.arange(1, 8, 3),
    "one": [5],
    "repeated": [3, 3, 3, 3],
    "reversed": np.arange(8)[::-1],
    "permuted": [3, 1, 0, 2, 7, 4, 6, 5],
    "evenly": [7, 6, 5, 4, 3, 2, 1, 0, 0, 1, 2, 3, 4, 5, 6, 7],
    "some": [0, 1, 2, 3, 4, 6, 5],
    "unevenly": [0, 5, 0, 0, 5, 0, 2],
    "matrix": [[1, 5], [0, 1], [7, 7]],
    "none": [],
}


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("name", INDICES)
def test_take_and_its_gradient(name, fast, rng, allclose):
    xp = TensorFlowNamespace("float64", fast=fast)
    idx = np.asarray(INDICES[name], int)
    x = tf.constant(rng.standard_normal((8, 3)))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = xp.take(x, idx)
    assert np.array_equal(y, x.numpy()[idx])
    dy = rng.standard_normal(y.shape)
    dx = tape.gradient(y, x, output_gradients=tf.constant(dy))
    expected = np.zeros((8, 3))
    np.add.at(expected, idx, dy)
    assert allclose(tf.convert_to_tensor(dx), expected, atol=1e-14)


def test_fan_out():
    assert fan_out(np.array([2, 0, 1]), 3).tolist() == [[1, 2, 0]]
    assert fan_out(np.array([0, 1, 1, 0, 2]), 3).tolist() == [[0, 1, 4], [3, 2, 5]]
    assert fan_out(np.array([0, 0, 0, 0, 1]), 3) is None  # mostly padding
    assert fan_out(np.array([], int), 3) is None


@pytest.mark.parametrize(
    "idx, match", [([0, 8], "rows 0 to 8"), ([-1], "rows -1"), ([0.5], "integers")]
)
def test_take_checks_indices(idx, match):
    with pytest.raises(ValidationError, match=match):
        TensorFlowNamespace("float32").take(np.zeros((8, 1)), idx)


def test_unknown_batch(rng):
    xp = TensorFlowNamespace("float64")

    @tf.function(input_signature=[tf.TensorSpec((6, None), tf.float64)], autograph=False)
    def program(x):
        batch = x.shape[-1]
        y = xp.reshape(x, (2, 3, batch))
        z = xp.materialize(xp.matmul(np.ones((2, 1, 3)), y))
        return xp.broadcast(xp.reshape(z, (1, -1, batch)), (2, 2, batch))

    x = rng.standard_normal((6, 4))
    sums = np.stack([x[:3].sum(0), x[3:].sum(0)])
    assert np.allclose(program(x), np.stack([sums, sums]), atol=1e-14)
    with pytest.raises(ValidationError, match="fixed batch size"):
        xp.zeros((3, None))


# ---- products ---------------------------------------------------------------------

SHAPES = [
    ((4, 3), (3, 2)),
    ((4, 3), (3, 1)),
    ((4, 1), (1, 2)),
    ((1, 3), (3, 2)),
    ((5, 4, 3), (5, 3, 2)),
    ((5, 4, 1), (5, 1, 2)),
    ((5, 1, 3), (5, 3, 1)),
    ((5, 1, 3), (5, 3, 16)),
    ((1, 4, 3), (1, 3, 2)),
    ((4, 3), (5, 3, 2)),
    ((4, 1), (5, 1, 2)),
    ((5, 1, 3), (3, 2)),
    ((1, 4, 3), (5, 3, 2)),
]


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_matmul_and_its_gradient(shapes, fast, rng, allclose):
    xp = TensorFlowNamespace("float64", fast=fast)
    a, b = (tf.constant(rng.standard_normal(shape)) for shape in shapes)
    with tf.GradientTape() as tape:
        tape.watch([a, b])
        y = xp.matmul(a, b)
    assert allclose(y, np.matmul(a, b), atol=1e-14)
    dy = tf.constant(rng.standard_normal(y.shape))
    grads = tape.gradient(y, [a, b], output_gradients=dy)
    with tf.GradientTape() as tape:
        tape.watch([a, b])
        y = tf.matmul(a, b)
    for x, expected in zip(grads, tape.gradient(y, [a, b], dy), strict=True):
        assert allclose(x, expected, atol=1e-13)


# ---- host calls -------------------------------------------------------------------


def test_host_call(rng):
    xp = TensorFlowNamespace("float32")
    seen = []
    buffer = np.zeros((2, 3))  # a function may keep its memory

    def fn(arrays):
        seen.append([(x.dtype, x.shape, x.flags.writeable) for x in arrays])
        buffer[:] = arrays[0][:2] + len(seen)
        return [buffer, arrays[1].sum(0, keepdims=True)]

    @tf.function(autograph=False)
    def program(a, b):
        first = xp.host_call(fn, [a, b], [2, 1])
        assert [x.shape.as_list() for x in first] == [[2, 3], [1, 3]]
        xp.host_call(lambda arrays: seen.append("no result") or [], [a], [])
        return first + xp.host_call(fn, [a, b], [2, 1])

    a, b = (rng.standard_normal((n, 3)).astype("float32") for n in (4, 5))
    outputs = [x.numpy() for x in program(a, b)]
    shapes = [(np.float32, (4, 3), False), (np.float32, (5, 3), False)]
    assert seen == [shapes, "no result", shapes]
    assert np.allclose(outputs[0], a[:2] + 1)
    assert np.allclose(outputs[1], b.sum(0), atol=1e-6)
    assert np.allclose(outputs[2], a[:2] + 3)


def test_host_call_has_no_gradient(rng):
    xp = TensorFlowNamespace("float64")
    x = tf.constant(rng.standard_normal((2, 1)))
    with tf.GradientTape() as tape:
        tape.watch(x)
        (y,) = xp.host_call(lambda arrays: [2 * arrays[0]], [x], [2])
        z = x * y
    assert np.array_equal(tape.gradient(z, x), 2 * x)


@pytest.mark.parametrize(
    "result, match",
    [
        ([np.zeros((1, 2))] * 2, "returned 2 arrays; expected 1"),
        ([np.zeros((1, 1))], r"shape \(1, 1\); expected \(1, 2\)"),
        ([np.zeros(2)], r"shape \(2,\); expected \(1, 2\)"),
    ],
)
def test_host_call_checks_results(result, match):
    xp = TensorFlowNamespace("float32")
    with pytest.raises(SimulationError, match=match), xp.reraise_host_errors():
        xp.host_call(lambda arrays: result, [np.zeros((3, 2))], [1])


def test_errors_of_host_functions_come_out_as_they_were():
    xp = TensorFlowNamespace("float32")

    class OwnError(Exception):
        pass

    def fn(arrays):
        raise OwnError("from a function")

    program = tf.function(lambda x: xp.host_call(fn, [x], [1]), autograph=False)
    with pytest.raises(OwnError, match="from a function"), xp.reraise_host_errors():
        program(tf.zeros((1, 1)))
    with pytest.raises(tf.errors.InvalidArgumentError), xp.reraise_host_errors():
        tf.reshape(tf.zeros(3), (2, 2))  # not a host function's


def test_interrupts_come_out_of_errors_of_the_interpreter():
    """TensorFlow's own code may turn one into a `SystemError`."""
    xp = TensorFlowNamespace("float32")
    with pytest.raises(KeyboardInterrupt), xp.reraise_host_errors():
        raise SystemError("returned a result with an exception set") from (
            KeyboardInterrupt()
        )
    with pytest.raises(SystemError, match="other"), xp.reraise_host_errors():
        raise SystemError("other")
