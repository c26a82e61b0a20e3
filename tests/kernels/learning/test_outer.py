"""Outer products, and what fits the weights that a rule changes."""

import nengo
import numpy as np
import pytest
from nengo.builder import Model
from nengo.builder.learning_rules import SimBCM, SimOja, SimPES, SimRLS, SimVoja
from nengo.builder.signal import Signal
from nengo.exceptions import BuildError

import nengo_dl
from nengo_dl.compiler.lowering import lower
from nengo_dl.compiler.traits import Params
from nengo_dl.kernels.learning.outer import (
    OUTER_PRODUCT,
    columns,
    flat,
    matrices,
    rows,
    spread,
)
from nengo_dl.runtime.numpy.namespace import NumpyNamespace
from tests.kernels.kernel_harness import Bench, Case, assert_equals_core

XP = NumpyNamespace("float64")


def zeros(*shape):
    """A signal of zeros."""
    return Signal(np.zeros(shape), name="signal")


def oja(post, pre, m, n):
    """An operator whose weights have shape ``(m, n)``."""
    return SimOja(zeros(pre), zeros(post), zeros(m, n), zeros(m, n), 1.0, 1.0)


@pytest.mark.parametrize("batch", (1, 3))
def test_places_of_rows_and_columns(batch, rng):
    p = Params(shape=(3, 4), groups=2)
    u, v = rng.normal(size=(6, batch)), rng.normal(size=(8, batch))
    w = rng.normal(size=(24, batch))
    both = columns(XP, p, u) + rows(XP, p, v) + matrices(XP, p, w)
    for group in range(2):
        for i in range(3):
            for j in range(4):
                expected = u[3 * group + i] + v[4 * group + j]
                expected = expected + w[12 * group + 4 * i + j]
                assert np.array_equal(both[group, i, j], expected)
    assert np.array_equal(flat(XP, p, matrices(XP, p, w)), w)


@pytest.mark.parametrize("batch", (1, 3))
@pytest.mark.parametrize("m, n", ((1, 1), (1, 5), (5, 1), (3, 4)))
def test_outer_products(m, n, batch, rng, allclose):
    u, v = rng.normal(size=(2, m, batch)), rng.normal(size=(2, n, batch))
    p = Params(shape=(m, n), factor=0.5, groups=2)
    arguments = u.reshape(-1, batch), v.reshape(-1, batch)
    (product,) = OUTER_PRODUCT.step(XP, p, *arguments)
    expected = 0.5 * np.einsum("gmb,gnb->gmnb", u, v)
    assert allclose(product, expected.reshape(-1, batch), atol=1e-14)


def test_a_factor_that_all_items_share(rng):
    u, v = rng.normal(size=(3, 1)), rng.normal(size=(2, 4))
    p = Params(shape=(3, 2), factor=1.0, groups=1)
    (product,) = OUTER_PRODUCT.step(XP, p, u, v)
    assert np.array_equal(product.reshape(3, 2, 4), u[:, None] * v[None])


def test_one_element_is_spread_over_an_axis():
    op = oja(1, 4, 3, 4)
    assert spread(op, "x", np.array([7]), 3).tolist() == [7, 7, 7]
    assert spread(op, "x", np.array([7, 8, 9]), 3).tolist() == [7, 8, 9]


def test_what_does_not_fit_is_named():
    with pytest.raises(BuildError) as error:
        spread(oja(2, 4, 3, 4), "the postsynaptic activity", np.arange(2), 3)
    for text in ("SimOja", "(3, 4)", "the postsynaptic activity", "3 entries", "has 2"):
        assert text in str(error.value)


@pytest.mark.parametrize("rule", (nengo.BCM(), nengo.Oja(), nengo.RLS()), ids=str)
def test_rules_of_parts_of_neurons(rule):
    """Core fails in the first step, since the rule reads all neurons."""
    with nengo.Network(seed=0) as net:
        a, b = nengo.Ensemble(6, 1), nengo.Ensemble(5, 1)
        nengo.Connection(
            a.neurons[:4], b.neurons, transform=np.ones((5, 4)), learning_rule_type=rule
        )
    with pytest.raises(BuildError, match=r"\(5, 4\).*presynaptic activity.*has 6"):
        nengo_dl.Simulator(net, progress_bar=False)
    with nengo.Simulator(net, progress_bar=False) as core, pytest.raises(ValueError):
        core.step()


def test_a_single_neuron_stands_for_all():
    """As core's arrays do: one entry is repeated along its axis of the weights."""

    def build(bench, variant):
        one, learning = bench.feed(1), bench.feed(1)
        deltas = [bench.signal((3, 4)) for _ in range(4)]
        weights = [bench.signal(bench.values(3, 4)) for _ in range(2)]
        three, four, scale = bench.feed(3), bench.feed(4), bench.values(1)
        bench.add(
            SimBCM(one, three, one, deltas[0], 2.0),
            SimOja(one, one, weights[0], deltas[1], 2.0, 0.5),
            SimVoja(one, three, weights[1], deltas[2], scale, learning, 2.0),
            SimRLS(four, one, deltas[3], bench.signal(0.1 * np.eye(4))),
        )
        bench.watch(*deltas)

    bench = Bench()
    bench.build(Case("single", build), 0)
    assert_equals_core(bench)


def test_pes_with_another_error():
    model = Model()
    error, delta = zeros(2), zeros(3, 4)
    model.add_op(SimPES(zeros(4), error, delta, 1.0))
    with pytest.raises(BuildError, match="the error must have 3 entries"):
        lower(model)


def test_rls_between_neurons():
    """Core fails in the first step: there are fewer errors than neurons."""
    with nengo.Network(seed=0) as net:
        a, b = nengo.Ensemble(6, 2), nengo.Ensemble(5, 2)
        nengo.Connection(
            a.neurons,
            b.neurons,
            transform=np.ones((5, 6)),
            learning_rule_type=nengo.RLS(),
        )
    with pytest.raises(BuildError, match="the error must have 5 .* has 2.* use PES"):
        nengo_dl.Simulator(net, progress_bar=False)
