"""What the compiler tells people."""

import numpy as np
import pytest

from nengo_dl.compiler.describe import (
    PassReport,
    describe,
    summarize,
    weight_size,
)
from nengo_dl.compiler.graph import GraphBuilder, ParameterRef
from nengo_dl.compiler.layout import Weight
from nengo_dl.compiler.pipeline import arrange
from tests.compiler.helpers import SQUASH, add, matvec, probe, python_node


@pytest.fixture
def graph():
    """Two merged kernels before the loop, one sum and some Python in it, one after it."""
    b = GraphBuilder()
    x, state = b.input("x", 4), b.state([0.0, 0.0])
    (y,) = b.node(SQUASH, [x[:2]], [2], {})
    (z,) = b.node(SQUASH, [x[2:]], [2], {})
    next_states = add(b, y, z, state)
    (called,) = python_node(b, [], "called", [next_states], (1,))
    python_node(b, [], "sink", [next_states])
    out = matvec(b, ParameterRef("w", (3, 2)), next_states)
    graph = b.build([probe(out, called)], next_states=[(state, next_states)])
    return graph


def test_report_of_a_pass(graph):
    report = PassReport.of("some", graph, 0.5)
    assert (report.name, report.seconds) == ("some", 0.5)
    assert (report.elements, report.nodes, report.terms) == (4 + 2 + 4 + 2 + 1 + 3, 5, 6)


def test_weights_are_counted_entry_by_entry():
    items = (np.zeros((2, 3)), ParameterRef("w", (4, 5)))
    assert weight_size(Weight("stack", items)) == 26


def test_summary(graph):
    summary = summarize(arrange(graph), operators=17, itemsize=4, batch=3)
    assert summary.operators == 17
    assert summary.kernels == 5
    assert summary.stages == {"before": 1, "loop": 1, "after": 3}
    assert summary.carried_bytes == 2 * 4 * 3
    assert summary.weight_bytes == 6 * 4
    why = "a function with input"
    assert summary.python == (("called", why), ("sink", why))
    assert summary.reads == {"slice": 7}  # two sums read each of their terms by itself


def test_description_is_a_page_for_people(graph):
    reports = [PassReport("lower", 100, 20, 300, 0.25), PassReport("share", 9, 8, 7, 0)]
    text = describe(arrange(graph, stepwise_python=True), reports, 17, 8, 1)
    lines = text.splitlines()
    assert lines[0] == "17 operators -> 5 kernels"
    assert lines[2].split() == ["lower", "100", "20", "300", "0.250"]
    assert lines[3].split() == ["share", "9", "8", "7", "0.000"]
    positions = [lines.index(f"{name} the loop:") for name in ("before", "in", "after")]
    assert positions == sorted(positions)
    assert lines[positions[0] + 1] == "  squash of 2 nodes, 4 rows"
    assert "  sum, 2 rows" in lines[positions[1] : positions[2]]
    assert lines[positions[2] + 1] == "  matmul of 1 nodes, 3 rows"
    assert "carried: 16 bytes; weights: 48 bytes" in lines
    assert lines[-2:] == [
        "runs as Python, step by step (a function with input): called",
        "runs as Python, step by step (a function with input): sink",
    ]


def test_stages_without_kernels_are_left_out(graph):
    text = describe(arrange(graph, fused=True), [], 17, 8, 1)
    assert "in the loop:" in text
    assert "before the loop:" not in text
    assert "after the loop:" not in text


def test_empty_graph_is_described():
    assert "0 kernels" in describe(arrange(GraphBuilder().build()), [], 0, 4, 1)
