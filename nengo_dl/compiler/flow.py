"""Which elements depend on which: levels and reachability within one step."""

from __future__ import annotations

import numpy as np

from nengo_dl.compiler.graph import Graph, Kind


class Flow:
    """The edges of a graph's step as flat arrays.

    An edge leads from an element that is read to what reads it: a SUM element, or a node
    with all its outputs. Edges through time (from ``next`` to a state) are left out, so
    the edges have no cycle.
    """

    def __init__(self, graph: Graph):
        self.graph = graph
        self.flat, self.reader = graph.node_inputs()
        self.rows = graph.term_owner
        self.of_node = np.flatnonzero(graph.kind == Kind.NODE)
        self.owner = graph.owner[self.of_node]

    def forward(self, start: np.ndarray) -> np.ndarray:
        """Elements that depend on any where ``start`` is True (those included)."""
        reached = start.copy()
        while True:
            before = np.count_nonzero(reached)
            reached[self.rows[reached[self.graph.src]]] = True
            nodes = np.zeros(len(self.graph.nodes), bool)
            nodes[self.reader[reached[self.flat]]] = True
            reached[self.of_node] |= nodes[self.owner]
            if np.count_nonzero(reached) == before:
                return reached

    def backward(self, start: np.ndarray) -> np.ndarray:
        """Elements that any where ``start`` is True depends on (those included)."""
        needed = start.copy()
        while True:
            before = np.count_nonzero(needed)
            needed[self.graph.src[needed[self.rows]]] = True
            nodes = np.zeros(len(self.graph.nodes), bool)
            nodes[self.owner[needed[self.of_node]]] = True
            needed[self.flat[nodes[self.reader]]] = True
            if np.count_nonzero(needed) == before:
                return needed

    def levels(self) -> tuple[np.ndarray, np.ndarray]:
        """Length of the longest path to each element, and to each node."""
        graph = self.graph
        level = np.zeros(graph.size, np.int64)
        node_level = np.zeros(len(graph.nodes), np.int64)
        sums = np.flatnonzero(graph.fan_in)
        starts = graph.ptr[sums]
        first = np.flatnonzero(np.diff(self.reader, prepend=-1))
        readers = self.reader[first]
        while True:
            before = level.copy()
            if sums.size:
                level[sums] = 1 + np.maximum.reduceat(level[graph.src], starts)
            if first.size:
                node_level[readers] = 1 + np.maximum.reduceat(level[self.flat], first)
                level[self.of_node] = node_level[self.owner]
            if np.array_equal(level, before):
                return level, node_level
