"""A step with state to run in loops, and the same in NumPy."""

import numpy as np

N_IN, BATCH = 2, 3


def step(xp, carry, x, weights):
    """Two carried arrays, one of which feeds the other."""
    fast, slow = carry
    fast = xp.tanh(xp.matmul(weights[0], fast) + xp.concat([x, x]))
    slow = slow * 0.9 + weights[1] * fast[:1]
    return [fast, slow], xp.concat([fast[1:2], slow])


def arguments(rng, dtype="float64"):
    carry = [rng.standard_normal((4, BATCH)), rng.standard_normal((1, BATCH))]
    weights = [rng.standard_normal((4, 4)) / 2, np.array([[0.1]])]
    return [[x.astype(dtype) for x in group] for group in (carry, weights)]


def reference(inputs, carry, weights):
    """The same in NumPy."""
    (fast, slow), outputs = carry, []
    for x in inputs:
        fast = np.tanh(weights[0] @ fast + np.concatenate([x, x]))
        slow = slow * 0.9 + weights[1] * fast[:1]
        outputs.append(np.concatenate([fast[1:2], slow]))
    return np.array(outputs).reshape(-1, 2, BATCH), [fast, slow]
