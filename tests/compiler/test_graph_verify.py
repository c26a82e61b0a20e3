"""Verification: well-formed graphs pass, and every kind of broken graph is found."""

from dataclasses import replace

import numpy as np
import pytest

from nengo_dl.compiler.graph import GraphBuilder, Kind, Reading
from nengo_dl.compiler.graph_verify import GraphError, verify
from tests.compiler.helpers import NETWORKS, SQUASH, TWIST, add, case, probe, random_graph


def build():
    """A graph with an element of each kind, and the elements by name."""
    b = GraphBuilder()
    e = {"constant": b.constant([1.0, 2.0]), "parameter": b.parameter("w", 2)}
    e["input"], e["state"] = b.input("x", 2), b.state([0.0, 0.0])
    e["sum"] = add(b, e["input"], e["state"], e["constant"])
    gain = {"gain": np.ones(2)}
    e["y"], e["z"] = b.node(TWIST, [e["sum"], e["parameter"]], [2, 2], gain)
    e["last"] = add(b, e["y"], e["z"])
    states = [Reading("s", e["state"], (2,))]
    return b.build([probe(e["last"])], states, [(e["state"], e["y"])]), e


def changed(array, index, value):
    array = array.copy()
    array[index] = value
    return array


def node_with(graph, **changes):
    return {"nodes": (replace(graph.nodes[0], **changes),)}


def source_with(graph, **changes):
    return (replace(graph, **changes),)


def outputs(*outputs):
    return lambda g, e: node_with(g, outputs=outputs)


# what is broken -> (what the message says, the changes that break it)
BROKEN = {
    "short column": ("value has not", lambda g, e: {"value": g.value[:-1]}),
    "short block": ("block has not", lambda g, e: {"block": g.block[1:]}),
    "no node": ("not defined once", lambda g, e: {"nodes": ()}),
    "no input": ("not defined once", lambda g, e: {"inputs": ()}),
    "no parameter": ("not defined once", lambda g, e: {"parameters": ()}),
    "lost output": ("not defined once", outputs((10, 2))),
    "output twice": ("not defined once", outputs((10, 2), (10, 2), (12, 2))),
    "output of a sum": ("know of each other", outputs((8, 2), (10, 2), (12, 2))),
    "output beyond": ("no place", outputs((10, 2), (12, 2), (15, 3))),
    "output below": ("no place", outputs((-1, 1), (10, 2), (12, 2))),
    "constant output": (
        "know of each other",
        lambda g, e: {"kind": changed(g.kind, e["y"], Kind.CONSTANT)},
    ),
    "other owner": ("know of each other", lambda g, e: {"owner": g.owner + 1}),
    "input of a node": (
        "know of each other",
        lambda g, e: {"inputs": source_with(g.inputs[0], start=10)},
    ),
    "long parameter": (
        "know of each other",
        lambda g, e: {"parameters": source_with(g.parameters[0], size=3)},
    ),
    "constant": (
        "not finite",
        lambda g, e: {"value": changed(g.value, e["constant"], np.nan)},
    ),
    "state without next": (
        "`next` belongs to states",
        lambda g, e: {"next": changed(g.next, e["state"][0], -1)},
    ),
    "next of a sum": (
        "`next` belongs to states",
        lambda g, e: {"next": changed(g.next, e["sum"][0], 0)},
    ),
    "next beyond": (
        "next element does not exist",
        lambda g, e: {"next": changed(g.next, e["state"], g.size)},
    ),
    "terms of a node": (
        "terms outside of sums",
        lambda g, e: {"ptr": changed(g.ptr, e["y"][1], g.ptr[e["y"][0]] - 1)},
    ),
    "terms of an input": (
        "terms outside of sums",
        lambda g, e: {"ptr": changed(g.ptr, slice(e["state"][0], e["sum"][0] + 1), 1)},
    ),
    "missing terms": ("terms do not add up", lambda g, e: {"src": g.src[:-1]}),
    "missing factors": ("terms do not add up", lambda g, e: {"scale": g.scale[1:]}),
    "short pointers": ("terms do not add up", lambda g, e: {"ptr": g.ptr[:-1]}),
    "source beyond": (
        "term's source does not exist",
        lambda g, e: {"src": changed(g.src, 0, g.size)},
    ),
    "source below": (
        "term's source does not exist",
        lambda g, e: {"src": changed(g.src, 0, -1)},
    ),
    "node input beyond": (
        "reads what is not there",
        lambda g, e: node_with(g, inputs=(e["sum"], np.array([0, 99]))),
    ),
    "node input below": (
        "reads what is not there",
        lambda g, e: node_with(g, inputs=(e["sum"], np.array([0, -1]))),
    ),
    "probe": ("probe is lost", lambda g, e: {"probes": (probe([0, -1]),)}),
    "cycle of sums": (
        "depend on themselves",
        lambda g, e: {"src": np.where(g.src == e["input"][0], e["sum"][0], g.src)},
    ),
    "cycle through a node": (
        "depend on themselves",
        lambda g, e: {"src": np.where(g.src == e["input"][0], e["z"][0], g.src)},
    ),
    "node reads itself": (
        "depend on themselves",
        lambda g, e: node_with(g, inputs=(e["sum"], e["z"])),
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_graphs_are_found(what):
    message, changes = BROKEN[what]
    graph, elements = build()
    verify(graph)
    broken = replace(graph, **changes(graph, elements))
    with pytest.raises(GraphError, match=message) as error:
        verify(broken, after="some pass")
    assert str(error.value).startswith("after some pass: ")


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_pass(name):
    assert verify(case(name).graph) is None


def test_lost_states_pass():
    """No element need hold a signal's state any more."""
    graph, _ = build()
    verify(replace(graph, states=(Reading("s", np.array([-1, -1]), (2,)),)))


def test_feedback_through_time_passes():
    b = GraphBuilder()
    state = b.state([0.0])
    (y,) = b.node(SQUASH, [state], [1], {})
    verify(b.build([probe(y)], next_states=[(state, y)]))


def test_long_chains_pass_and_long_cycles_do_not(rng):
    b = GraphBuilder()
    x = first = b.input("x", 1)
    for _ in range(60):
        x = add(b, x, first)
    graph = b.build([probe(x)])
    verify(graph)
    cycle = replace(graph, src=np.where(graph.src == first[0], x[0], graph.src))
    with pytest.raises(GraphError, match="depend on themselves"):
        verify(cycle)


def test_any_element_that_is_added_or_lost_is_found(rng):
    graph, _, _ = random_graph(rng)
    for number in range(len(graph.nodes)):
        fewer = graph.nodes[:number] + graph.nodes[number + 1 :]
        with pytest.raises(GraphError):
            verify(replace(graph, nodes=fewer))
        twice = (*graph.nodes, graph.nodes[number])
        with pytest.raises(GraphError):
            verify(replace(graph, nodes=twice))


def test_errors_are_assertions():
    """They speak of a bug in the compiler, not of one in a model."""
    assert issubclass(GraphError, AssertionError)
