"""Every function of the contract of array namespaces, with what NumPy makes of it."""

import numpy as np


def flat(xp, array):
    """All elements as rows ``(n, batch)``, whatever the shape."""
    return xp.reshape(array, (-1, array.shape[-1]))


def picture(xp, x):
    """Rows as places and channels: ``(batch, 3, 2)``."""
    return xp.reshape(xp.transpose(x, (1, 0)), (-1, 3, 2))


def rows(xp, y):
    """The reverse of `picture`."""
    return xp.transpose(xp.reshape(y, (y.shape[0], -1)), (1, 0))


FILTERS = np.arange(8.0).reshape(2, 2, 2) / 4 - 1


def convolved(x):
    x = x.T.reshape(-1, 3, 2)
    y = x @ FILTERS[0]
    y[:, :2] += x[:, 1:] @ FILTERS[1]  # as many windows as places, zeros at the end
    return y.reshape(len(x), -1).T


def convolved_transposed(x):
    x, y = x.T.reshape(-1, 3, 2), np.zeros((x.shape[1], 6, 2))
    for t in range(2):
        y[:, t::2] += x @ FILTERS[t]
    return y.reshape(len(x), -1).T


# (namespace function, the step on x (6, B) and positive p (6, B), plain NumPy)
CASES = [
    ("float", lambda xp, x, p: x * xp.float(0.1), lambda x, p: x * x.dtype.type(0.1)),
    ("constant", lambda xp, x, p: x * xp.constant([[0.1]]), lambda x, p: x * 0.1),
    ("take", lambda xp, x, p: xp.take(x, [4, 0, 0, 5]), lambda x, p: x[[4, 0, 0, 5]]),
    ("take", lambda xp, x, p: xp.take(x, [1, 3, 5]), lambda x, p: x[1::2]),
    ("take", lambda xp, x, p: xp.take(x, [3]), lambda x, p: x[3:4]),
    ("take", lambda xp, x, p: xp.take(x[::-1], [2, 0]), lambda x, p: x[[3, 5]]),
    (
        "take",
        lambda xp, x, p: flat(xp, xp.take(x, np.array([[0, 5], [2, 1]]))),
        lambda x, p: x[[0, 5, 2, 1]],
    ),
    ("concat", lambda xp, x, p: xp.concat([p, x[1:3]]), lambda x, p: np.r_[p, x[1:3]]),
    ("concat", lambda xp, x, p: xp.concat([x + 1]), lambda x, p: x + 1),
    (
        "concat",
        lambda xp, x, p: xp.concat([x + 1, xp.concat([x * p, p]), p[:2]]),
        lambda x, p: np.r_[x + 1, x * p, p, p[:2]],
    ),
    (
        "concat",
        lambda xp, x, p: xp.concat([x[i : i + 1] for i in (5, 3, 4, 0, 1, 2, 0, 5)]),
        lambda x, p: x[[5, 3, 4, 0, 1, 2, 0, 5]],
    ),
    (
        "reshape",
        lambda xp, x, p: flat(xp, xp.reshape(x, (2, 3, -1)) * 2),
        lambda x, p: x * 2,
    ),
    (
        "transpose",
        lambda xp, x, p: flat(
            xp, xp.transpose(xp.reshape(x, (2, 3, x.shape[1])), (1, 0, 2))
        ),
        lambda x, p: x[[0, 3, 1, 4, 2, 5]],
    ),
    (
        "broadcast",
        lambda xp, x, p: flat(xp, xp.broadcast(x[:1], (3, x.shape[1]))),
        lambda x, p: x[[0, 0, 0]],
    ),
    ("zeros", lambda xp, x, p: x + xp.zeros(x.shape), lambda x, p: x),
    ("zeros_like", lambda xp, x, p: xp.zeros_like(x), lambda x, p: 0 * x),
    ("ones_like", lambda xp, x, p: xp.ones_like(x) - x, lambda x, p: 1 - x),
    (
        "where",
        lambda xp, x, p: xp.where(x > 0, x, p),
        lambda x, p: np.where(x > 0, x, p),
    ),
    (
        "where",
        lambda xp, x, p: xp.where(x > 0, 0, p),
        lambda x, p: np.where(x > 0, 0, p),
    ),
    (
        "where",
        lambda xp, x, p: xp.where(x > 0, x, 0),
        lambda x, p: np.where(x > 0, x, 0),
    ),
    (
        "where",
        lambda xp, x, p: xp.where(x[:1] > 0, x[1:2], p),
        lambda x, p: np.where(x[:1] > 0, x[1:2], p),
    ),
    ("maximum", lambda xp, x, p: xp.maximum(x, p), np.maximum),
    ("maximum", lambda xp, x, p: xp.maximum(0.1, x), lambda x, p: np.maximum(x, 0.1)),
    ("relu", lambda xp, x, p: xp.relu(x), lambda x, p: np.maximum(x, 0)),
    ("minimum", lambda xp, x, p: xp.minimum(x, p), np.minimum),
    ("clip", lambda xp, x, p: xp.clip(x, -0.5, p), lambda x, p: np.clip(x, -0.5, p)),
    ("abs", lambda xp, x, p: xp.abs(x), lambda x, p: np.abs(x)),
    ("sign", lambda xp, x, p: xp.sign(x), lambda x, p: np.sign(x)),
    ("sqrt", lambda xp, x, p: xp.sqrt(p), lambda x, p: np.sqrt(p)),
    ("floor", lambda xp, x, p: xp.floor(x), lambda x, p: np.floor(x)),
    ("exp", lambda xp, x, p: xp.exp(x), lambda x, p: np.exp(x)),
    ("log", lambda xp, x, p: xp.log(p), lambda x, p: np.log(p)),
    ("tanh", lambda xp, x, p: xp.tanh(x), lambda x, p: np.tanh(x)),
    ("sigmoid", lambda xp, x, p: xp.sigmoid(x), lambda x, p: 1 / (1 + np.exp(-x))),
    ("expm1", lambda xp, x, p: xp.expm1(x * 1e-3), lambda x, p: np.expm1(x * 1e-3)),
    ("expm1", lambda xp, x, p: xp.expm1(x, bound=9.0), lambda x, p: np.expm1(x)),
    ("log1p", lambda xp, x, p: xp.log1p(p * 1e-3), lambda x, p: np.log1p(p * 1e-3)),
    ("log1p", lambda xp, x, p: xp.log1p(p, bound=9.0), lambda x, p: np.log1p(p)),
    ("power", lambda xp, x, p: xp.power(p, x), lambda x, p: p**x),
    ("power", lambda xp, x, p: xp.power(x, 2), lambda x, p: x**2),
    ("power", lambda xp, x, p: xp.power(x, 1), lambda x, p: x),
    (
        "matmul",
        lambda xp, x, p: xp.matmul(np.arange(12.0).reshape(2, 6), x),
        lambda x, p: np.arange(12.0).reshape(2, 6) @ x,
    ),
    (
        "matmul",
        lambda xp, x, p: flat(
            xp,
            xp.matmul(np.arange(12.0).reshape(2, 2, 3), xp.reshape(x, (2, 3, -1))),
        ),
        lambda x, p: (np.arange(12.0).reshape(2, 2, 3) @ x.reshape(2, 3, -1)).reshape(
            4, -1
        ),
    ),
    (
        "matmul",
        lambda xp, x, p: flat(
            xp, xp.matmul(np.arange(12.0).reshape(6, 2, 1), xp.reshape(x, (6, 1, -1)))
        ),
        lambda x, p: (np.arange(12.0).reshape(6, 2, 1) * x[:, None]).reshape(12, -1),
    ),
    (
        "matvec",
        lambda xp, x, p: flat(
            xp, xp.matvec(xp.reshape(x, (1, 3, 2, -1)), xp.reshape(x[:2], (1, 2, -1)))
        ),
        lambda x, p: np.einsum("mkb,kb->mb", x.reshape(3, 2, -1), x[:2]),
    ),
    (
        "sum",
        lambda xp, x, p: xp.sum(xp.reshape(x, (6, 1, -1)), 0),
        lambda x, p: x.sum(0)[None],
    ),
    (
        "sum",
        lambda xp, x, p: xp.sum(xp.reshape(x, (2, 3, -1)), 1),
        lambda x, p: x.reshape(2, 3, -1).sum(1),
    ),
    (
        "sum",
        lambda xp, x, p: xp.sum(xp.reshape(x, (3, 2, -1)), -2),
        lambda x, p: x.reshape(3, 2, -1).sum(1),
    ),
    ("sum", lambda xp, x, p: xp.sum(xp.reshape(x, (1, 6, -1)), 0), lambda x, p: x),
    (
        "conv",
        lambda xp, x, p: rows(xp, xp.conv(picture(xp, x), FILTERS, (1,), "same")),
        lambda x, p: convolved(x),
    ),
    (
        "conv_transpose",
        lambda xp, x, p: rows(
            xp, xp.conv_transpose(picture(xp, x), FILTERS, (2,), "valid", (6,))
        ),
        lambda x, p: convolved_transposed(x),
    ),
    ("stop_gradient", lambda xp, x, p: xp.stop_gradient(x), lambda x, p: x),
    ("with_gradient", lambda xp, x, p: xp.with_gradient(x, 2 * p), lambda x, p: x),
    ("materialize", lambda xp, x, p: xp.materialize(x), lambda x, p: x),
    (
        "zero_unless",
        lambda xp, x, p: xp.zero_unless(xp.relu(x), x > 0),
        lambda x, p: np.maximum(x, 0),
    ),
    (
        "host_call",
        lambda xp, x, p: xp.concat(
            xp.host_call(lambda a: [a[0] * a[1], a[0][:1]], [x, p], [6, 1])
        ),
        lambda x, p: np.r_[x * p, x[:1]],
    ),
]
