"""Carry what a node reads from step to step, instead of what it puts out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import compress

import numpy as np

from nengo_dl.compiler.common import common_elements
from nengo_dl.compiler.graph import INDEX, Graph, GraphBuilder, Kind, Node
from nengo_dl.compiler.readings import Reading, Readings


def retime(graph: Graph) -> Graph:
    """Carry a node's inputs to the next step instead of its larger output.

    A state that starts as zeros and takes the whole output of a node, whose kernel keeps
    zeros zero, equals that node applied to delayed inputs. An outer product of ``m`` and
    ``n`` entries is then carried as ``m + n`` numbers instead of ``m * n``. Inputs as
    large as the output must be carried anyhow, such as weights that their own change
    depends on.

    Parameters
    ----------
    graph : Graph

    Returns
    -------
    Graph
    """
    found = []
    for reading in _maybe_retimable(graph):
        is_factor = isinstance(reading.key, tuple)  # else names would depend on values
        node = None if is_factor else _whole_output(graph, reading.elements)
        if node is not None:
            found.append((reading, node))
    if not found:
        return graph
    builder = GraphBuilder.extending(graph)
    mapping = np.arange(graph.size, dtype=INDEX)
    next_states, states = [], []
    held = _held(graph)  # the state that holds an element one step later
    common = common_elements(graph)
    for reading, node in found:
        large = [k for k in _free_inputs(node) if (held[node.inputs[k]] >= 0).all()]
        sizes = [i.size for k, i in enumerate(node.inputs) if k not in large]
        if sum(sizes) >= node.size:
            continue
        delayed = []
        for k, inputs in enumerate(node.inputs):
            if k in large:
                delayed.append(held[inputs])
                continue
            state = builder.state(np.zeros(inputs.size))
            next_states.append((state, inputs))
            states.append(
                replace(
                    reading,
                    key=(reading.key, k),
                    elements=state,
                    shape=inputs.shape,
                    common=reading.common and bool(common[inputs].all()),
                )
            )
            delayed.append(state)
        (out,) = builder.node(
            node.kernel, delayed, [node.size], node.params, node.order, node.label
        )
        mapping[reading.elements] = out
    if not states:
        return graph
    extended = builder.build(states=(*graph.states, *states), next_states=next_states)
    mapping = np.concatenate([mapping, np.arange(graph.size, extended.size, dtype=INDEX)])
    return _forget(extended.rename(mapping))


def _held(graph: Graph) -> np.ndarray:
    """For each element the first state that holds it one step later, or -1."""
    held = np.full(graph.size, -1, INDEX)
    carried = np.flatnonzero(graph.next >= 0)[::-1]
    held[graph.next[carried]] = carried
    return held


def _free_inputs(node) -> list[int]:
    """Inputs as large as the output, whose first values make no difference to zeros."""
    enough = node.kernel.zero_inputs
    return [
        k
        for k, inputs in enumerate(node.inputs)
        if enough is not None and k not in enough and inputs.size >= node.size
    ]


def _maybe_retimable(graph: Graph) -> Iterator[Reading]:
    """The states that nobody writes whose first element takes that of such a node.

    That tells of most that they need not be looked at as a whole.
    """
    states = Readings.of(graph.states)
    some = np.flatnonzero((states.sizes > 0) & ~states.written)
    first = states.elements[(states.stops - states.sizes)[some]]
    after = np.append(graph.next, INDEX(-1))[first]  # the last: of -1
    some, after = some[after >= 0], after[after >= 0]
    of_nodes = graph.kind[after] == Kind.NODE
    some, number = some[of_nodes], graph.owner[after[of_nodes]]
    retimable = np.zeros(len(graph.nodes), bool)
    for k in np.unique(number).tolist():
        retimable[k] = _is_retimable(graph.nodes[k])
    chosen = np.zeros(len(states), bool)
    chosen[some[retimable[number]]] = True
    if chosen.any():
        yield from compress(states, chosen.tolist())


def _is_retimable(node: Node) -> bool:
    """Whether inputs of a node could be carried in place of its only output."""
    # With a matrix, whether it is a node depends on its values while they are folded;
    # then the state of that program would have no place in the open one.
    kernel = node.kernel
    if not kernel.zero_preserving or kernel.host or kernel.matrices:
        return False
    if len(node.outputs) != 1:
        return False
    return kernel.zero_inputs is not None or not _reads_as_much(node)  # else no gain


def _whole_output(graph: Graph, elements: np.ndarray):
    """The retimable node whose only output these zero-initialised states take."""
    node = graph.nodes[graph.owner[graph.next[elements[0]]]]
    if (elements < 0).any():
        return None
    is_state = (graph.kind[elements] == Kind.STATE).all()
    if not is_state or graph.value[elements].any():
        return None
    return node if np.array_equal(graph.next[elements], node.elements()) else None


def _reads_as_much(node: Node) -> bool:
    """Whether what a node reads is as large as its output, or larger."""
    left = node.size
    for inputs in node.inputs:  # mostly the first of them is
        left -= inputs.size
        if left <= 0:
            return True
    return left <= 0


def _forget(graph: Graph) -> Graph:
    """Where a state is computed from others now, no element holds it."""
    states = Readings.of(graph.states)
    held = states.elements
    held = np.where((graph.kind[held] == Kind.NODE) & (held >= 0), INDEX(-1), held)
    return replace(graph, states=states.having(held))
