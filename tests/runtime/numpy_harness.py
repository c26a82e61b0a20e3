"""What the tests of the NumPy tier share: steps evaluated in two ways."""

import numpy as np

from nengo_dl.runtime.numpy import recorder as numpy_recorder
from nengo_dl.runtime.numpy.executor import NumpyNamespace, NumpyStep


def tune(monkeypatch):
    """Let small arrays be treated like large ones."""
    monkeypatch.setattr(numpy_recorder, "SELECT_BY_BITS", 0)
    monkeypatch.setattr(numpy_recorder, "SMALL", 0)
    monkeypatch.setattr(numpy_recorder, "LOOP_COST", 1e9)


def run_once(step, x, p, dtype):
    """Output of a step function of ``x`` and ``p``, and of a second run."""
    sim = NumpyStep(
        lambda xp, carry, x, weights: (list(carry), step(xp, x, carry[0])),
        [p],
        len(x),
        x.shape[1],
        [],
        dtype,
    )
    sim.x[...] = x + 1
    sim()
    sim.x[...] = x
    sim()
    return sim.y


def evaluate(step, carry, xs, weights, dtype):
    """The outputs and the last carry, evaluated without recording."""
    xp = NumpyNamespace(dtype)
    outputs = []
    for x in xs:
        carry, y = step(xp, list(carry), x, list(weights))
        carry = [np.array(c, dtype) for c in carry]
        outputs.append(np.array(y, dtype))
    return outputs, carry


def replay(step, carry, xs, weights, dtype):
    """The same with a `NumpyStep`, whose input is overwritten before it is read."""
    sim = NumpyStep(step, carry, *xs[0].shape, weights, dtype)
    outputs = []
    for x in xs:
        sim.x[...] = x
        sim()
        sim.x[...] = np.nan
        outputs.append(sim.y.copy())
    return outputs, sim


def assert_replays(step, carry, xs, weights=(), dtype="float64", tol=1e-13):
    """Both ways give the same; returns the `NumpyStep`."""
    outputs, last = evaluate(step, carry, xs, weights, dtype)
    replayed, sim = replay(step, carry, xs, weights, dtype)
    for a, b in zip(outputs, replayed, strict=True):
        np.testing.assert_allclose(b, a, atol=tol, rtol=tol)
    for a, b in zip(last, sim.carry, strict=True):
        np.testing.assert_allclose(b, a, atol=tol, rtol=tol)
    return sim


def carries(rng, n, rows=4, batch=3):
    return [rng.uniform(-1, 1, (rows, batch)) for _ in range(n)]
