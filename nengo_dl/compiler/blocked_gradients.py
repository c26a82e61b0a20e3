"""Where gradients end although there is something to train behind."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from nengo_dl.compiler.graph import Flow, Graph, Kind, Node, ParameterRef


def blocked_gradients(graph: Graph, probes: Iterable, trained: Iterable) -> list[Node]:
    """Nodes that gradients of probes arrive at, and do not pass, on their way.

    Parameters
    ----------
    graph : Graph
    probes : iterable
        Keys of probes with a loss.
    trained : iterable
        Keys of the parameters that are trained; or of states, of which the first is.

    Returns
    -------
    list of Node
        Those that depend on a trained parameter, in any step, and have an output whose
        gradient is zero (`Kernel.flat_outputs`) that some probe depends on.
    """
    flow = Flow(graph)
    wanted = _gradient_arrives(graph, flow, set(probes))
    behind = _depends_on(graph, flow, set(trained))
    blocked = []
    for node in graph.nodes:
        outputs = node.kernel.flat_outputs(node)
        arrives = any(wanted[node.elements(output)].any() for output in outputs)
        if arrives and any(behind[elements].any() for elements in node.inputs):
            blocked.append(node)
    return blocked


def _gradient_arrives(graph: Graph, flow: Flow, probes: set) -> np.ndarray:
    """For each element, whether a gradient of a probe arrives there, in any step."""
    wanted = np.zeros(graph.size, bool)
    for probe in graph.probes:
        if probe.key in probes:
            wanted[probe.elements] = True
    passes = np.zeros(graph.size, bool)  # outputs with a gradient
    cut = np.zeros(flow.flat.size, bool)  # inputs without
    first = 0
    for node in graph.nodes:
        flat = node.kernel.flat_outputs(node)
        for output in range(len(node.outputs)):
            passes[node.elements(output)] = output not in flat
        for number, elements in enumerate(node.inputs):
            cut[first : first + elements.size] = number in node.kernel.cut_inputs
            first += elements.size
    lasting = np.flatnonzero(graph.kind == Kind.STATE)
    before = -1
    while np.count_nonzero(wanted) != before:
        before = np.count_nonzero(wanted)
        wanted[graph.src[wanted[flow.rows]]] = True
        nodes = np.zeros(len(graph.nodes), bool)
        nodes[flow.owner[(wanted & passes)[flow.of_node]]] = True
        wanted[flow.flat[nodes[flow.reader] & ~cut]] = True
        wanted[graph.next[lasting[wanted[lasting]]]] = True
    return wanted


def _depends_on(graph: Graph, flow: Flow, trained: set) -> np.ndarray:
    """For each element, whether it depends on a trained parameter, in any step."""
    behind = np.zeros(graph.size, bool)
    for source in graph.parameters:
        if source.key in trained:
            behind[source.elements] = True
    for node in graph.nodes:
        refs = [p for p in node.params.values() if isinstance(p, ParameterRef)]
        if any(ref.key in trained for ref in refs):
            for output in range(len(node.outputs)):
                behind[node.elements(output)] = True
    for reading in graph.states:
        if reading.key in trained:
            behind[reading.elements[reading.elements >= 0]] = True
    lasting = np.flatnonzero(graph.kind == Kind.STATE)
    while True:
        before = np.count_nonzero(behind)
        behind = flow.forward(behind)
        behind[lasting] |= behind[graph.next[lasting]]
        if np.count_nonzero(behind) == before:
            return behind
