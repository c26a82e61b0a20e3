"""Where a step is cut into a chain of links, and what each of them holds."""

import nengo
import numpy as np
import pytest

import nengo_dl
from nengo_dl.compiler import chain
from nengo_dl.compiler.graph import Kind
from nengo_dl.compiler.graph_verify import verify
from nengo_dl.compiler.lowering import LoweringOptions
from nengo_dl.compiler.pipeline import PARAMETRIC_PASSES, compile_model
from nengo_dl.notices import text_of


def graph_of(net):
    """The graph that training the network is compiled from."""
    model = nengo.builder.Model(dt=0.001)
    model.build(net)
    written = {
        s.base for op in model.operators for s in (*op.sets, *op.updates, *op.incs)
    }
    read = {s.base for op in model.operators for s in op.reads}
    options = LoweringOptions(parameters=frozenset(read - written))
    return compile_model(model, options, PARAMETRIC_PASSES).graph


def layers(*sizes, synapse=None, skip=False, recurrent=False):
    """Populations, each connected to the next with weights of its own."""
    rng = np.random.RandomState(0)
    with nengo.Network(seed=0) as net:
        last = net.inp = nengo.Node(np.zeros(sizes[0]))
        populations = [nengo.Ensemble(n, 1).neurons for n in sizes[1:-1]]
        out = nengo.Node(size_in=sizes[-1])
        for target in [*populations, out]:
            weights = rng.normal(size=(target.size_in, last.size_out))
            nengo.Connection(last, target, transform=weights, synapse=synapse)
            last = target
        if skip:
            weights = rng.normal(size=(sizes[-1], sizes[1]))
            nengo.Connection(populations[0], out, transform=weights, synapse=None)
        if recurrent:
            weights = rng.normal(size=(sizes[1], sizes[1]))
            nengo.Connection(*populations[:1] * 2, transform=weights, synapse=0)
        net.p = nengo.Probe(out)
    return net


# components ---------------------------------------------------------------------------


def reachable(n, before, after):
    """Which of ``n`` things can be reached from which, themselves included."""
    found = np.eye(n, dtype=bool)
    found[before, after] = True
    for k in range(n):
        found |= found[:, k : k + 1] & found[k]
    return found


@pytest.mark.parametrize("n, edges", [(1, 0), (6, 7), (9, 10), (30, 35), (30, 90)])
def test_components_are_what_can_be_reached_from_each_other(n, edges, rng):
    for _ in range(10):
        before, after = rng.randint(n, size=(2, edges))
        component = chain.components(n, before, after)
        found = reachable(n, before, after)
        assert np.array_equal(component[:, None] == component, found & found.T)


def test_components_of_a_long_line_and_a_long_circle():
    """Longer than Python functions may call each other."""
    n = 20_000
    line = np.arange(n - 1)
    assert np.unique(chain.components(n, line, line + 1)).size == n
    assert not chain.components(n, np.arange(n), (np.arange(n) + 1) % n).any()


# where it is cut ----------------------------------------------------------------------


def links_of(net):
    """For each link, how many nodes run before, in and after its loop."""
    cut = chain.cut(graph_of(net))
    if cut is None:
        return None
    stages = [(x.layout.before, x.layout.loop, x.layout.after) for x in cut.links]
    return [tuple(len(stage.groups) for stage in each) for each in stages]


def test_populations_run_one_after_the_other():
    """The product between them is computed for all steps, the bias where it is added."""
    graph = graph_of(layers(40, 60, 50, 3))
    cut = chain.cut(graph)
    first, second = cut.links
    assert [g.kernel.name for g in first.layout.before.groups] == ["matmul"]
    assert [g.kernel.name for g in first.layout.loop.groups] == [
        "product",  # of gains
        "sum",
        "LIF",
    ]
    assert not first.layout.after.groups and not first.taken.size
    assert [g.kernel.name for g in second.layout.before.groups] == ["matmul"]
    assert second.taken.parts == ((0, 0, 60),) and second.taken.index is None
    assert "60 -> 50, 3000 multiplications" in second.reason
    ((_, read, shape),) = cut.probes
    assert read.parts == ((1, 0, 3),) and shape == (3,)


@pytest.mark.parametrize(
    "net, n_links",
    [
        (layers(40, 60, 3), None),  # one population
        (layers(40, 60, 3, recurrent=True), None),  # its product stays inside
        (layers(4, 6, 5, 3), None),  # products too small to write what they read
        (layers(40, 60, 50, 70, 3), 3),
        (layers(40, 60, 50, 3, skip=True), 2),
        (layers(40, 60, 50, 3, recurrent=True), 2),
    ],
)
def test_number_of_links(net, n_links):
    found = links_of(net)
    assert (found and len(found)) == n_links


def test_a_filter_belongs_to_the_loop_that_it_follows():
    """No product lies between the two, so there is nothing to gain."""
    assert links_of(layers(40, 60, 50, 3, synapse=0.01)) == [(1, 4, 0), (1, 5, 0)]


def test_learned_weights_are_not_handed_on():
    """Neither are they where the error comes from outside."""
    with nengo.Network(seed=0) as net:
        stimulus, error = nengo.Node(np.zeros(40)), nengo.Node(np.zeros(2))
        first, pre = (nengo.Ensemble(60, 1).neurons for _ in range(2))
        weights = np.random.RandomState(0).normal(size=(60, 60))
        nengo.Connection(stimulus, first[:40], synapse=0.01)
        nengo.Connection(first, pre, transform=weights, synapse=0.01)
        post = nengo.Node(size_in=2)
        learned = nengo.Connection(
            pre,
            post,
            transform=np.zeros((2, 60)),
            learning_rule_type=nengo.PES(),
            synapse=None,
        )
        nengo.Connection(error, learned.learning_rule, synapse=None)
        nengo.Probe(post)
    cut = chain.cut(graph_of(net))
    assert len(cut.links) == 2
    # the loop that has the weights reports what they give, not themselves
    last = cut.links[-1].layout
    assert max(values.size for values in last.carry) >= 120
    assert last.loop.result.size <= 60 + 2


def test_python_functions_keep_to_their_order():
    with nengo.Network(seed=0) as net:
        stimulus = nengo.Node(np.zeros(40))
        first, second = (nengo.Ensemble(n, 1).neurons for n in (60, 50))
        rng = np.random.RandomState(0)
        called = [nengo.Node(lambda t, x: x, size_in=50) for _ in range(2)]
        for pre, post in ((stimulus, first), (first, second)):
            weights = rng.normal(size=(post.size_in, pre.size_out))
            nengo.Connection(pre, post, transform=weights, synapse=None)
        for node in called:
            nengo.Connection(second, node, synapse=None)
            nengo.Probe(node)
    graph = graph_of(net)
    for stepwise in (True, False):
        links = chain.cut(graph, stepwise_python=stepwise).links
        stages = {
            (k, name)
            for k, link in enumerate(links)
            for name in ("before", "loop", "after")
            for group in getattr(link.layout, name).groups
            if group.kernel.host
        }
        assert stages == {(1, "loop" if stepwise else "after")}


# what links hold ----------------------------------------------------------------------


@pytest.mark.parametrize("skip", (True, False))
def test_every_node_and_state_is_in_one_link(skip):
    graph = graph_of(layers(40, 60, 50, 70, 3, synapse=0.01, skip=skip))
    graphs = [link.layout.plan.graph for link in chain.cut(graph).links]
    for part in graphs:
        verify(part)
    for kind in (Kind.SUM, Kind.NODE, Kind.STATE):
        counted = [np.count_nonzero(part.kind == kind) for part in graphs]
        assert sum(counted) == np.count_nonzero(graph.kind == kind)
    labels = [text_of(node.label) for part in graphs for node in part.nodes]
    assert sorted(labels) == sorted(text_of(node.label) for node in graph.nodes)
    held = sum(
        int((reading.elements >= 0).sum()) for part in graphs for reading in part.states
    )
    assert held == sum(int((r.elements >= 0).sum()) for r in graph.states)


def test_delays_of_many_steps_stay_whole():
    """States that hand a value on, each to the next, wait for one another."""
    net = layers(40, 60, 50, 3)
    with net:
        slow = nengo.synapses.Triangle(0.02)
        nengo.Connection(net.inp[:3], net.probes[0].target, synapse=slow)
    graph = graph_of(net)
    links = chain.cut(graph).links
    assert len(links) == 2
    states = [np.count_nonzero(x.layout.plan.graph.kind == Kind.STATE) for x in links]
    assert sum(states) == np.count_nonzero(graph.kind == Kind.STATE)


def test_settings_that_bound_what_steps_hold_keep_one_loop():
    net = layers(40, 60, 50, 3)
    for checkpoint, n_links in ((4, 1), ("auto", 2), (None, 2)):
        with net:
            nengo_dl.configure_settings(checkpoint=checkpoint, spiking_training=True)
        with nengo_dl.Simulator(net, progress_bar=False) as sim:
            assert len(sim.tensor_graph.variant(True).links) == n_links


def test_description():
    net = layers(40, 60, 50, 3)
    with net:
        nengo_dl.configure_settings(spiking_training=True)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        assert "one after the other" not in sim.describe()
        sim.tensor_graph.variant(True)
        text = sim.describe()
    assert "for batches of training, 2 loops run one after the other:" in text
    assert "cut, as a product is worth it: matmul 60 -> 50, 3000 multiplications" in text
    assert "  before loop 2: matmul\n" in text
