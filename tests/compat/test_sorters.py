"""Strategies of the order in memory."""

import numpy as np
import pytest
from nengo.exceptions import ValidationError

from nengo_dl.compat.graph_optimizer import noop_order_signals
from nengo_dl.compiler.layout import order_signals, ranks
from nengo_dl.compiler.pipeline import PASSES, arrange
from nengo_dl.compiler.plan import plan
from tests.compiler.helpers import NETWORKS, case


def compiled(name):
    graph = case(name).graph
    for transform in PASSES:
        graph = transform(graph)
    return graph


def places(layout):
    """Tensors and rows that are read, as far as they depend on the order."""
    return [
        (group.kernel.name, read.form, read.parts)
        for group in layout.groups()
        for read in group.reads
    ]


@pytest.mark.parametrize("name", NETWORKS)
def test_without_a_sorter_signals_are_ordered(name):
    graph = compiled(name)
    assert places(arrange(graph)) == places(arrange(graph, sorter=order_signals))
    planned = plan(graph)
    assert np.array_equal(ranks(planned, None), order_signals(planned))


def test_what_is_read_first_comes_first():
    planned = plan(compiled("lif"))
    rank = order_signals(planned)
    read = np.concatenate([
        elements
        for batches in planned.batches
        for batch in batches
        for arguments in zip(*(node.inputs for node in batch.nodes))
        for elements in arguments
    ])  # fmt: skip
    first = read[np.sort(np.unique(read, return_index=True)[1])]
    assert (np.diff(rank[first]) > 0).all()
    unread = np.setdiff1d(np.arange(planned.graph.size), read)
    assert rank[unread].max() > rank[read].max()


def test_ordering_saves_gathers():
    graph = compiled("mixed")
    forms = {
        sorter.__name__: [form for _, form, _ in places(arrange(graph, sorter=sorter))]
        for sorter in (order_signals, noop_order_signals)
    }
    ours, without = forms["order_signals"], forms["noop_order_signals"]
    assert ours.count("gather") <= without.count("gather")


@pytest.mark.parametrize(
    "result", [np.zeros(3), "abc", lambda plan: np.array(["a"] * plan.graph.size)]
)
def test_other_results_are_refused(result):
    def mine(plan):
        return result(plan) if callable(result) else result

    planned = plan(compiled("lif"))
    message = rf"the sorter mine returned an array .* {planned.graph.size} elements"
    with pytest.raises(ValidationError, match=message):
        ranks(planned, mine)
