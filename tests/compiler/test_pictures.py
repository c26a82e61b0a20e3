"""Networks, operators, graphs and layouts as drawings."""

import nengo
import numpy as np
import pytest

from nengo_dl import kernels  # noqa: F401, registers all of them
from nengo_dl.compiler import pipeline
from nengo_dl.compiler.graph import GraphBuilder, Kind, ParameterRef
from nengo_dl.compiler.lowering import lower
from nengo_dl.compiler.pictures import (
    LIMIT,
    LONGEST,
    name_of,
    picture_of_graph,
    picture_of_layout,
    picture_of_network,
    picture_of_operators,
    short,
)
from tests import networks
from tests.compiler.helpers import SQUASH, add, matvec, probe, python_node


def small():
    """Two ensembles, one with feedback that a probe shares."""
    with nengo.Network(seed=0) as net:
        stimulus = nengo.Node(np.sin, label="stimulus")
        a, b = nengo.Ensemble(20, 1, label="a"), nengo.Ensemble(20, 1, label="b")
        nengo.Connection(stimulus, a, synapse=None)
        nengo.Connection(a, a, synapse=0.1)
        nengo.Connection(a, b, function=np.square, synapse=0.01)
        nengo.Probe(a, synapse=0.1)
        nengo.Probe(b)
    return net


def built(net):
    model = nengo.builder.Model(dt=0.001)
    model.build(net)
    return model


def heads(drawing):
    return [box.lines[0] for box in drawing.boxes]


def box(drawing, *lines):
    """The one box that has these among its lines."""
    (found,) = [b for b in drawing.boxes if set(lines) <= set(b.lines)]
    return found


def leads(drawing, a, b):
    """The arrows from one box to another."""
    return [w for w in drawing.arrows if (w.source, w.target) == (a.key, b.key)]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("<Ensemble 'a'>.signal", "a.signal"),
        ("<Neurons of <Ensemble 'a'>>.voltage", "a.voltage"),
        ("<Ensemble (unlabeled) at 0x7f>.bias", "Ensemble.bias"),
        ("<Connection from <Node 'x'> to <Ensemble 'a'>>", "from x to a"),
        ("<Probe of 'decoded_output' of <Ensemble 'a'>>", "probe of a"),
        ("Dense(shape=(1, 1)).weighted.Lowpass(tau=0.1)", "Lowpass(tau=0.1)"),
        ("Inc{Signal(name=x, shape=(1,)) -> Signal(y, shape=(1,)) 'x to y'}", "x to y"),
        ("a" * 100, "a" * (LONGEST - 1) + "…"),
    ],
)
def test_short_names(text, expected):
    assert short(text) == expected


def test_names_of_keys():
    signal = nengo.builder.Signal(np.zeros(2), name="<Ensemble 'a'>.signal")
    assert name_of(signal) == "a.signal"
    assert name_of((signal, 1)) == "a.signal, factor 1"
    assert name_of(nengo.builder.Signal(np.zeros(2))) == ""


def test_network():
    net = small()
    picture = picture_of_network(net)
    assert sorted(heads(picture)) == ["Ensemble"] * 2 + ["Node"] + ["Probe"] * 2
    a, b = box(picture, "a"), box(picture, "b")
    assert "20 neurons, 1 d" in a.lines
    (arrow,) = leads(picture, a, b)
    assert arrow.label == "Lowpass(tau=0.01)"
    assert len(leads(picture, a, a)) == 1
    assert len(picture.arrows) == 5


def test_network_with_everything():
    """Neurons, slices, learning rules and subnetworks lead to objects with a box."""
    picture = picture_of_network(networks.recurrent())
    assert len(picture.svg()) > 1000


def test_operators():
    model = built(small())
    picture = picture_of_operators(model)
    names = sorted(type(op).__name__ for op in model.operators)
    assert sorted(heads(picture)) == names
    copy = box(picture, "from a to a")
    (filtered,) = [w.source for w in picture.arrows if w.target == copy.key and w.back]
    assert "Lowpass(tau=0.1)" in picture.boxes[filtered].lines
    encoding, neurons = box(picture, "a encoding"), heads(picture).index("SimNeurons")
    assert leads(picture, copy, encoding)
    assert leads(picture, encoding, picture.boxes[neurons]) or leads(
        picture, encoding, picture.boxes[heads(picture).index("SimNeurons", neurons + 1)]
    )


def test_graph_before_and_after_the_passes():
    graph = lower(built(small())).graph
    before = picture_of_graph(graph, "lowered")
    assert before.title == "lowered"
    assert heads(before).count("LIF") == 2
    assert heads(before).count("matmul 1×20") == 4
    assert heads(before).count("filter") == 3
    for transform in pipeline.PASSES:
        graph = transform(graph)
    after = picture_of_graph(graph)
    # the probe shares decoder and filter with the feedback, whose decoder is stacked
    # with the one of the other function
    assert heads(after).count("matmul 1×20") == 1
    assert heads(after).count("matmul 2×20") == 1
    assert heads(after).count("filter") == 2
    assert len(after.boxes) < len(before.boxes)


def test_every_edge_of_a_graph_is_in_the_picture():
    graph = lower(built(small())).graph
    picture = picture_of_graph(graph)
    counted = sum(int(w.label) for w in picture.arrows if not w.back)
    flat, reader = graph.node_inputs()
    reads = {(s, ("sum", r)) for s, r in zip(graph.src, graph.term_owner)}
    # what one box reads twice is one arrow: here all sums read different elements
    reads |= set(zip(flat.tolist(), (("node", r) for r in reader.tolist())))
    reads |= {(e, p.key) for p in graph.probes for e in p.elements}
    varying = [pair for pair in reads if graph.kind[pair[0]] != Kind.CONSTANT]
    assert counted == len(varying)


def test_states_have_arrows_back():
    picture = picture_of_graph(lower(built(small())).graph)
    states = [b for b in picture.boxes if b.lines[0] == "state"]
    targets = {w.target for w in picture.arrows if w.back}
    assert states and targets == {b.key for b in states}


@pytest.fixture
def handmade():
    """A parameter, a state, constants, and Python."""
    b = GraphBuilder()
    x, state = b.input("x", 4), b.state([0.0, 0.0])
    (y,) = b.node(SQUASH, [x[:2]], [2], {})
    (z,) = b.node(SQUASH, [x[2:]], [2], {})
    next_states = add(b, y, z, state, b.constant([1.0, 2.0]))
    (called,) = python_node(b, [], "called", [next_states], (1,))
    out = matvec(b, ParameterRef("w", (3, 2)), next_states)
    return b.build([probe(out, called)], next_states=[(state, next_states)])


def test_handmade_graph(handmade):
    picture = picture_of_graph(handmade)
    total = box(picture, "sum")
    assert "of 4 terms" in total.lines
    assert "reads 2 constants" in total.lines
    assert box(picture, "matmul 3×2").style == "node"
    (python,) = [b for b in picture.boxes if b.style == "python"]
    assert python.tip == "called"
    assert [w.label for w in leads(picture, total, python)] == ["2"]


def test_layout(handmade):
    picture = picture_of_layout(pipeline.arrange(handmade))
    merged = box(picture, "squash (2 merged)")
    assert "before the loop" in merged.lines
    assert "after the loop" in box(picture, "matmul").lines
    given, carried = box(picture, "given"), box(picture, "carried 0")
    assert [w.label for w in leads(picture, given, merged)] == ["4"]
    (back,) = [w for w in picture.arrows if w.back]
    assert back.target == carried.key
    assert "in the loop" in box(picture, "sum").lines
    assert box(picture, "to the loop").style == "hand"
    assert box(picture, "probes").style == "probe"


def test_layout_of_a_single_stage(handmade):
    picture = picture_of_layout(pipeline.arrange(handmade, fused=True))
    inside = [b for b in picture.boxes if "in the loop" in b.lines]
    assert len(inside) == len([b for b in picture.boxes if b.style in ("node", "python")])


def test_large_graphs_are_condensed():
    with nengo.Network(seed=0) as net:
        array = nengo.networks.EnsembleArray(5, 80)
        nengo.Connection(nengo.Node(np.zeros(80)), array.input)
        nengo.Probe(array.output)
    model = built(net)
    graph = lower(model).graph
    for picture in (
        picture_of_graph(graph),
        picture_of_operators(model),
        picture_of_network(net),
        picture_of_layout(pipeline.arrange(graph)),
    ):
        assert len(picture.boxes) <= LIMIT
        assert len(picture.svg()) < 200_000
    assert "80 × LIF" in heads(picture_of_graph(graph))


def test_empty_graph():
    graph = GraphBuilder().build()
    assert picture_of_graph(graph).boxes == ()
    assert picture_of_layout(pipeline.arrange(graph)).boxes == ()
