"""Simplification: inputs are carried to the next step instead of a larger output."""

import nengo
import numpy as np

from nengo_dl.compiler.graph import GraphBuilder, Kind, Reading
from nengo_dl.compiler.retime import retime
from nengo_dl.compiler.simplify import simplify
from nengo_dl.compiler.traits import Kernel
from nengo_dl.kernels.algebra import MATVEC, VARYING_MATVEC
from nengo_dl.kernels.learning.pes import PES_DELTA
from nengo_dl.kernels.synapses.linear_filter import ONE_STATE
from tests.compiler.helpers import agree, agree_on_graph, kinds, make_case, probe
from tests.networks import waves


def learner(kernel=PES_DELTA, initial=0.0, m=3, n=4, key="delta"):
    """A state that takes an outer product, applied to a vector in the next step."""
    b = GraphBuilder()
    error, activity, x = b.input("e", m), b.input("a", n), b.input("x", n)
    state = b.state(np.full(m * n, initial))
    params = {"shape": (m, n), "factor": -0.1}
    (delta,) = b.node(kernel, [error, activity], [m * n], params, order=5, label="learn")
    shape = {"shape": (m, n)}
    (y,) = b.node(VARYING_MATVEC, [state, x], [m], shape)
    states = [Reading(key, state, (m, n))]
    return b, b.build([probe(y, state)], states, [(state, delta)])


def test_retime_carries_factors_instead_of_the_product(rng, allclose):
    _, graph = learner()
    retimed = agree_on_graph(allclose, rng, graph, simplify)
    assert kinds(graph)[Kind.STATE] == 12
    assert kinds(retimed)[Kind.STATE] == 3 + 4
    (node,) = (n for n in retimed.nodes if n.kernel is PES_DELTA)
    assert (node.order, node.label) == (5, "learn")
    assert node.params == {"shape": (3, 4), "factor": -0.1}
    by_key = {reading.key: reading for reading in retimed.states}
    assert set(by_key) == {"delta", ("delta", 0), ("delta", 1)}
    assert (by_key["delta"].elements == -1).all()
    assert by_key["delta", 0].shape == (3,) and by_key["delta", 1].shape == (4,)


def test_retime_only_if_that_is_less_to_carry(rng, allclose):
    _, graph = learner(m=2, n=2)  # 4 numbers in either form
    assert kinds(agree_on_graph(allclose, rng, graph, simplify))[Kind.STATE] == 4


def test_retime_only_states_that_start_as_zeros(rng, allclose):
    _, graph = learner(initial=0.5)
    assert kinds(agree_on_graph(allclose, rng, graph, simplify))[Kind.STATE] == 12


def test_retime_only_whole_outputs(rng, allclose):
    b = GraphBuilder()
    e, a = b.input("e", 3), b.input("a", 4)
    params = {"shape": (3, 4), "factor": 1.0}
    (delta,) = b.node(PES_DELTA, [e, a], [12], params)
    part, turned = b.state(np.zeros(6)), b.state(np.zeros(12))
    states = [Reading("part", part, (6,)), Reading("turned", turned, (12,))]
    next_states = [(part, delta[:6]), (turned, delta[::-1])]
    graph = b.build([probe(part, turned)], states, next_states)
    assert kinds(agree_on_graph(allclose, rng, graph, simplify))[Kind.STATE] == 18


def test_retime_only_kernels_that_keep_zeros():
    class Shifted(type(PES_DELTA)):
        zero_preserving = False

    _, graph = learner(Shifted())
    assert kinds(simplify(graph))[Kind.STATE] == 12


def test_retime_leaves_filters(rng, allclose):
    """Their state takes their output, but is an input as well."""
    b = GraphBuilder()
    x, state = b.input("x", 3), b.state(np.zeros(3))
    params = {"a": np.full(3, 0.9), "b": np.full(3, 0.1)}
    (y,) = b.node(ONE_STATE, [x, state], [3], params)
    states = [Reading("X", state, (3,))]
    graph = b.build([probe(y)], states, [(state, y)])
    assert kinds(agree_on_graph(allclose, rng, graph, simplify))[Kind.STATE] == 3


def test_networks_carry_the_factors_of_pes(allclose):
    with nengo.Network(seed=0) as net:
        inp = nengo.Node(waves(2))
        pre, post = nengo.Ensemble(30, 2), nengo.Node(size_in=2)
        nengo.Connection(inp, pre)
        conn = nengo.Connection(pre, post, learning_rule_type=nengo.PES(1e-3))
        nengo.Connection(post, conn.learning_rule)
        nengo.Probe(conn, "weights")
    it = make_case(net)
    graph = simplify(it.graph)
    agree(allclose, it.run(graph), it.expected)
    assert np.abs(it.expected[-1] - it.expected[0]).max() > 1e-6  # something was learned
    (delta,) = (n for n in it.graph.nodes if n.kernel is PES_DELTA)
    (retimed,) = (n for n in graph.nodes if n.kernel is PES_DELTA)
    assert np.isin(delta.elements(), it.graph.next).all()
    assert not np.isin(retimed.elements(), graph.next).any()
    assert all((graph.kind[i] == Kind.STATE).all() for i in retimed.inputs)


class Decaying(Kernel):
    """Grows with an outer product and forgets: ``u (v - u w)``."""

    name = "decaying"
    zero_preserving = True
    zero_inputs = (0,)

    def step(self, xp, p, u, v, w):
        """One time step."""
        m, n = p.shape
        u, v = xp.reshape(u, (m, 1, -1)), xp.reshape(v, (1, n, -1))
        change = u * (v - u * xp.reshape(w, (m, n, -1)))
        return (xp.reshape(change, (m * n, -1)),)


def forgetful(kernel, weights, lasting=True):
    """Weights whose change depends on themselves, or on inputs as large as they are."""
    m, n = 3, 4
    b = GraphBuilder()
    u, v = b.input("u", m), b.input("v", n)
    state, delta = b.state(weights), b.state(np.zeros(m * n))
    places = np.tile(np.arange(m * n), 2)
    terms = np.concatenate([state, delta])
    now = b.sum(np.zeros(m * n), places, terms, np.ones(2 * m * n))
    large = now if lasting else b.input("w", m * n)
    (change,) = b.node(kernel, [u, v, large], [m * n], {"shape": (m, n)})
    states = [Reading("weights", state, (m, n)), Reading("delta", delta, (m, n))]
    next_states = [(state, now), (delta, change)]
    return b.build([probe(now)], states, next_states)


def test_retime_reads_weights_where_they_are_carried_anyhow(rng, allclose):
    graph = forgetful(Decaying(), rng.normal(size=12))
    retimed = agree_on_graph(allclose, rng, graph, simplify)
    assert kinds(graph)[Kind.STATE] == 12 + 12
    assert kinds(retimed)[Kind.STATE] == 12 + 3 + 4
    (node,) = retimed.nodes
    held = {reading.key: reading.elements for reading in retimed.states}
    assert np.array_equal(node.inputs[2], held["weights"])


def test_retime_only_large_inputs_that_are_carried(rng, allclose):
    graph = forgetful(Decaying(), rng.normal(size=12), lasting=False)
    retimed = agree_on_graph(allclose, rng, graph, simplify)
    assert kinds(retimed)[Kind.STATE] == 12 + 12


def test_retime_only_if_the_small_inputs_are_enough_for_zeros(rng, allclose):
    class Whole(Decaying):
        zero_inputs = None

    graph = forgetful(Whole(), rng.normal(size=12))
    retimed = agree_on_graph(allclose, rng, graph, simplify)
    assert kinds(retimed)[Kind.STATE] == 12 + 12


def test_factors_are_carried_as_they_are(rng, allclose):
    """Even one that is a larger output itself: what is stored has fixed names."""
    b = GraphBuilder()
    e, a = b.input("e", 1), b.input("a", 4)
    (error,) = b.node(MATVEC, [e], [3], {"A": rng.normal(size=(3, 1))})
    delta = b.state(np.zeros(12))
    params = {"shape": (3, 4), "factor": 1.0}
    (product,) = b.node(PES_DELTA, [error, a], [12], params)
    states, next_states = [Reading("delta", delta, (3, 4))], [(delta, product)]
    graph = b.build([probe(delta)], states, next_states)
    retimed = agree_on_graph(allclose, rng, graph, simplify)
    assert kinds(retimed)[Kind.STATE] == 3 + 4
    keys = {reading.key for reading in retimed.states}
    assert keys == {"delta", ("delta", 0), ("delta", 1)}


def test_states_of_a_graph_without_elements():
    gone = Reading("s", np.array([-1, -1]), (2,))
    graph = GraphBuilder().build(states=[gone])
    assert retime(graph) is graph
