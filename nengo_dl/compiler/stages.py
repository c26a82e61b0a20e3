"""What has to run step by step, and what can run for all steps at once."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from nengo_dl.compiler.flow import Flow
from nengo_dl.compiler.graph import Graph, Kind

#: multiplications for each element that cost about as much as to write and read it
CHEAP = 8


class Stage(IntEnum):
    """When something is computed: before the loop over time, in it, or after it."""

    BEFORE = 0
    LOOP = 1
    AFTER = 2


@dataclass(frozen=True)
class Stages:
    """The stage of each element and of each node."""

    element: np.ndarray
    node: np.ndarray


def stages(graph: Graph, stepwise_python: bool = False) -> Stages:
    """Split a step into what runs before the loop over time, in it, and after it.

    What depends on no state is computed before the loop for all steps at once, so that T
    small products become one large one; unless to keep the results for the loop costs
    more than to compute them. What no state depends on is computed after it.

    Parameters
    ----------
    graph : Graph
    stepwise_python : bool
        Keep nodes that run Python in the loop, so that they run in core's order, step by
        step. Needed when several of them may share an object.
    """
    flow = Flow(graph)
    depends = graph.kind == Kind.STATE
    feeds = np.zeros(graph.size, bool)
    feeds[graph.next[graph.next >= 0]] = True
    pinned = [
        i
        for i, n in enumerate(graph.nodes)
        if n.kernel.stepwise or (n.kernel.host and stepwise_python)
    ]
    for i in pinned:
        for start, size in graph.nodes[i].outputs:
            depends[start : start + size] = True
            feeds[start : start + size] = True
        for elements in graph.nodes[i].inputs:
            feeds[elements] = True
    depends, feeds = flow.forward(depends), flow.backward(feeds)
    if (depends & feeds).any():
        cheap = _expanding(graph, feeds & ~depends)
        for i in cheap:
            start, size = graph.nodes[i].outputs[0]
            depends[start : start + size] = True
        pinned += cheap
        depends = flow.forward(depends)
    element = np.where(depends, np.where(feeds, Stage.LOOP, Stage.AFTER), Stage.BEFORE)
    node = np.full(len(graph.nodes), Stage.BEFORE)
    node[flow.reader[depends[flow.flat]]] = Stage.AFTER  # unless an output says more
    # a node runs as soon as one of its outputs is needed
    np.minimum.at(node, graph.owner[flow.of_node], element[flow.of_node])
    node[pinned] = Stage.LOOP
    return Stages(element.astype(np.int8), node.astype(np.int8))


def _expanding(graph: Graph, before: np.ndarray) -> list[int]:
    """Nodes that are cheaper to compute in the loop than to keep their outputs for it.

    What is computed before the loop for all steps is written to memory and read again in
    each step, some nanoseconds for each element. So currents of many neurons that encode
    a few inputs are left to the loop (action selection with 1,600 of 4,800 neurons there:
    11 instead of 23 us a step). Parameters are not, as their gradients are one large
    product.
    """
    chosen = []
    for i, node in enumerate(graph.nodes):
        matrix = node.matrix
        if not isinstance(matrix, np.ndarray) or not before[node.elements()].all():
            continue
        grows = node.size > node.inputs[0].size
        if grows and node.kernel.cost(node) <= CHEAP * node.size:
            chosen.append(i)
    return chosen


def one_stage(graph: Graph) -> Stages:
    """Everything in the loop: the form that single steps run."""
    return Stages(
        np.full(graph.size, Stage.LOOP, np.int8),
        np.full(len(graph.nodes), Stage.LOOP, np.int8),
    )
