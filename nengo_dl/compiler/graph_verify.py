"""The rules that every graph keeps between passes.

They are checked in tests, and with ``NENGO_DL_VERIFY=1``.
"""

from __future__ import annotations

import numpy as np

from nengo_dl.compiler.graph import Flow, Graph, Kind


class GraphError(AssertionError):
    """A pass produced a graph that breaks a rule; a bug in NengoDL, not in a model."""


def verify(graph: Graph, after: str = "lowering") -> None:
    """Check the rules that every graph keeps between passes.

    Each element is defined exactly once, everything that is read exists, only states
    reach into the next step, terms belong to sums, and one step has no cycle.

    Parameters
    ----------
    graph : Graph
    after : str
        Name of the pass, for the message.

    Raises
    ------
    GraphError
    """

    def check(condition, message):
        if not np.all(condition):
            raise GraphError(f"after {after}: {message}")

    size = graph.size
    for name in ("owner", "value", "next", "block"):
        check(getattr(graph, name).shape == (size,), f"{name} has not {size} entries")
    ends = (graph.ptr.size, graph.ptr[0], graph.ptr[-1], graph.scale.size)
    check(ends == (size + 1, 0, graph.src.size, graph.src.size), "terms do not add up")
    defined = np.isin(graph.kind, (Kind.CONSTANT, Kind.STATE, Kind.SUM)).astype(int)
    for kind, number, who, start, length in _owned(graph):
        here = slice(start, start + length)
        check(0 <= start <= start + length <= size, f"{who} has no place for its values")
        mine = (graph.kind[here] == kind) & (graph.owner[here] == number)
        check(mine, f"{who} and its elements do not know of each other")
        defined[here] += 1
    check(defined == 1, f"elements {np.flatnonzero(defined != 1)[:9]} not defined once")
    check(np.isfinite(graph.value) | (graph.kind != Kind.CONSTANT), "constant not finite")
    lasting = graph.kind == Kind.STATE
    check((graph.next >= 0) == lasting, "`next` belongs to states and only to them")
    check(graph.next < size, "a state's next element does not exist")
    check((graph.kind == Kind.SUM) | (graph.fan_in == 0), "terms outside of sums")
    check((graph.src >= 0) & (graph.src < size), "a term's source does not exist")
    for node in graph.nodes:
        for elements in node.inputs:
            check((elements >= 0) & (elements < size), f"{node} reads what is not there")
    for probe in graph.probes:
        check((probe.elements >= 0) & (probe.elements < size), f"{probe.key} is lost")
    _check_acyclic(graph, check)


def _owned(graph: Graph):
    """All runs of elements that nodes and sources own: kind, number, who, start, size."""
    for number, node in enumerate(graph.nodes):
        for start, length in node.outputs:
            yield Kind.NODE, number, node, start, length
    for kind, sources in ((Kind.INPUT, graph.inputs), (Kind.PARAMETER, graph.parameters)):
        for number, source in enumerate(sources):
            yield kind, number, source, source.start, source.size


def _check_acyclic(graph: Graph, check) -> None:
    """Longest paths must settle after as many rounds as there are things on a path."""
    flow = Flow(graph)
    longest = len(graph.nodes) + np.unique(graph.block).size + 2
    reached = np.isin(graph.kind, (Kind.SUM, Kind.NODE))
    for _ in range(longest * 2 + graph.size):
        # keep what depends on something that is left: in the end only cycles are
        left = np.zeros(graph.size, bool)
        left[flow.rows[reached[graph.src]]] = True
        nodes = np.zeros(len(graph.nodes), bool)
        nodes[flow.reader[reached[flow.flat]]] = True
        left[flow.of_node] |= nodes[flow.owner]
        left &= reached
        if np.array_equal(left, reached):
            break
        reached = left
    check(~reached, f"elements {np.flatnonzero(reached)[:9]} depend on themselves")
