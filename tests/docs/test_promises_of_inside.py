"""What the page on the way of a network through the compiler promises in words."""

import nengo
import numpy as np
import pytest

from nengo_dl.compiler.graph import Kind
from nengo_dl.compiler.lowering import lower
from nengo_dl.compiler.pipeline import arrange, compile_model
from nengo_dl.compiler.plan import Stage, stages
from nengo_dl.compiler.simplify import share, simplify, stack
from tests.docs.promises import promise

PAGE = "docs/inside.rst"


def built(net):
    """The model of a network."""
    model = nengo.builder.Model(dt=0.001)
    model.build(net)
    return model


@pytest.fixture(scope="module")
def model():
    """The network of the page."""
    with nengo.Network(seed=0) as net:
        stimulus = nengo.Node(lambda t: np.sin(6 * t))
        a, b = nengo.Ensemble(20, 1), nengo.Ensemble(20, 1)
        nengo.Connection(stimulus, a, synapse=None)
        nengo.Connection(a, a, synapse=0.1)
        nengo.Connection(a, b, function=np.square, synapse=0.01)
        nengo.Probe(a, synapse=0.1)
        nengo.Probe(b)
    return built(net)


@pytest.fixture(scope="module")
def graphs(model):
    """Its graph, after one pass after the other."""
    lowered = lower(model).graph
    simple = simplify(lowered)
    shared = simplify(share(simple))
    return lowered, simple, shared, stack(shared)


@promise(PAGE, "print(len(sim.model.operators)) # 30")
def test_core_calls_as_many_functions(model):
    assert len(model.operators) == 30


@promise(
    PAGE,
    "Time and the number of the step have no elements, because nothing looks at them",
)
def test_nobody_counts_steps(model, graphs):
    keys = {source.key for source in graphs[0].inputs}
    assert not keys & {model.time.base, model.step.base}
    assert len(keys) == 1  # the function's, which is called ahead of the steps


@promise(PAGE, "The biases, which the operators copy, are part of the sums.")
def test_biases_are_no_elements(graphs):
    assert not (graphs[0].kind == Kind.CONSTANT).any()


@promise(PAGE, "lowering has left nothing to do for them")
def test_there_is_nothing_to_simplify(graphs):
    lowered, simple, *_ = graphs
    assert simple.size == lowered.size and len(simple.nodes) == len(lowered.nodes)
    assert simple.src.size == lowered.src.size


@promise(
    PAGE,
    "The network decodes ``a`` twice in the same way, once to feed it back and once for "
    "the probe, and filters both with the same time constant.",
    "Two matrices that read the same vector are one matrix with more rows",
)
def test_equal_filters_are_shared_and_decoders_stacked(graphs):
    _, simple, shared, stacked = graphs
    assert (simple.count("filter"), shared.count("filter")) == (3, 2)
    products = [graph.count("matmul") for graph in (simple, shared, stacked)]
    assert products == [6, 5, 4]
    decoders = [node for node in stacked.nodes if node.size == 2]
    assert [node.kernel.name for node in decoders] == ["matmul"]


@promise(
    PAGE,
    "and the decoder of ``probe_b`` after it: one product of a matrix with all steps",
    "The two ensembles have one LIF kernel here, and the filters one filter kernel.",
)
def test_stages_and_kernels_are_as_told(graphs):
    graph = graphs[-1]
    after = [
        node
        for node, stage in zip(graph.nodes, stages(graph).node, strict=True)
        if stage == Stage.AFTER
    ]
    assert [node.kernel.name for node in after] == ["matmul"]
    assert after[0].elements().tolist() == graph.probes[-1].elements.ravel().tolist()
    kernels = [group.kernel.name for group in arrange(graph).loop.groups]
    assert kernels.count("LIF") == kernels.count("filter") == 1


@promise(
    PAGE,
    "A network of a thousand ensembles of one size has hardly more kernels than this "
    "one.",
)
def test_many_ensembles_need_no_more_kernels():
    counts = []
    for number in (2, 30):
        with nengo.Network(seed=0) as net:
            for _ in range(number):
                a, b = nengo.Ensemble(5, 1), nengo.Ensemble(5, 1)
                nengo.Connection(a, a, synapse=0.1)
                nengo.Connection(a, b)
                nengo.Probe(b, synapse=0.01)
        counts.append(len(arrange(compile_model(built(net)).graph).groups()))
    assert counts[0] == counts[1] < 10


@promise(
    PAGE,
    "Networks without any state, such as the rates of a feed-forward network in "
    "training, have no loop at all.",
)
def test_networks_without_state_have_no_loop():
    with nengo.Network(seed=0) as net:
        node = nengo.Node([0.5])
        ens = nengo.Ensemble(5, 1, neuron_type=nengo.LIFRate())
        nengo.Connection(node, ens, synapse=None)
        nengo.Probe(ens.neurons)
    assert not arrange(compile_model(built(net)).graph).has_loop
