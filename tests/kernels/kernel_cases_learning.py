"""Cases of online learning rules, each with the operators that core puts beside it."""

import numpy as np
from nengo.builder.learning_rules import SimBCM, SimOja, SimRLS, SimVoja
from nengo.builder.operator import Copy, DotInc, Reset

from tests.kernels.kernel_cases import case


def learner(bench, weights, x):
    """Weights at work, and the signal of their change: output and change."""
    y, delta = bench.signal(weights.shape[:1]), bench.signal(weights.shape, "delta")
    bench.add(Reset(y), DotInc(weights, x, y), Copy(delta, weights, inc=True))
    return y, delta


def bcm(bench, m, n, pre=None):
    """A rule with feeds for all that it reads: output, weights, change."""
    pre = bench.feed(n) if pre is None else pre
    weights = bench.signal(bench.values(m, n))
    y, delta = learner(bench, weights, pre)
    bench.add(SimBCM(pre, bench.feed(m), bench.feed(m), delta, 2.0))
    return y, weights, delta


def oja(bench, m, n, post=None):
    """A rule with feeds for all that it reads: output, weights, change."""
    pre, post = bench.feed(n), bench.feed(m) if post is None else post
    weights = bench.signal(bench.values(m, n))
    y, delta = learner(bench, weights, pre)
    bench.add(SimOja(pre, post, weights, delta, 2.0, 0.7))
    return y, weights, delta


def voja(bench, m, n, scale=None):
    """A rule with feeds for all that it reads: output, encoders, change."""
    encoders, x = bench.signal(bench.values(m, n)), bench.feed(n)
    y, delta = learner(bench, encoders, x)
    learning = bench.signal((1,))
    scale = bench.values(m, low=0.5, high=2.0) if scale is None else scale
    bench.add(
        Reset(learning, value=1.0),
        Copy(bench.feed(1), learning, inc=True),
        SimVoja(x, bench.feed(m), encoders, delta, scale, learning, 2.0),
    )
    return y, encoders, delta


def rls(bench, m, n, rate=0.1):
    """A rule with feeds for all that it reads: output, weights, change, inverse."""
    activities, weights = bench.feed(n), bench.signal(bench.values(m, n))
    y, delta = learner(bench, weights, activities)
    inverse = bench.signal(rate * np.eye(n), "inv_gamma")
    bench.add(SimRLS(activities, bench.feed(m), delta, inverse))
    return y, weights, delta, inverse


@case()
def bcm_of_one_shape(bench, variant):
    """A change that is carried as its factors."""
    bench.watch(*bcm(bench, 4, 9)[:2])


@case()
def bcm_with_delta(bench, variant):
    """The change itself."""
    bench.watch(*bcm(bench, 3, 8))


@case()
def oja_of_one_shape(bench, variant):
    """A change that depends on the weights, carried as its factors."""
    bench.watch(*oja(bench, 5, 8)[:2])


@case()
def oja_with_delta(bench, variant):
    """The change itself; and one neuron, whose factors are as many as its weights."""
    bench.watch(*oja(bench, 3, 7), *oja(bench, 1, 6)[:2])


@case()
def voja_of_one_shape(bench, variant):
    """Encoders of several dimensions, carried as factors, and of one."""
    bench.watch(*voja(bench, 6, 3)[:2], *voja(bench, 6, 1)[:2])


@case()
def voja_with_delta(bench, variant):
    """The change itself, with one scale for all neurons."""
    bench.watch(*voja(bench, 5, 2, np.full(5, 1.5)))


@case(sensitive=10)
def rls_of_one_shape(bench, variant):
    """The inverse correlations and what they are used for."""
    bench.watch(*rls(bench, 2, 7)[:2])


@case(sensitive=10)
def rls_with_delta(bench, variant):
    """All signals of the rule; and one neuron."""
    bench.watch(*rls(bench, 3, 6), *rls(bench, 2, 1))


@case()
def rules_with_constant_inputs(bench, variant):
    """Activities that are the same for all items, next to some that are not."""
    constant = bench.signal(bench.values(4))
    bench.watch(*bcm(bench, 4, 4, pre=constant)[:2], *oja(bench, 4, 6, post=constant)[:2])
