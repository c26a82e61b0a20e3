"""Sharing of equal values."""

from __future__ import annotations

import numpy as np

from nengo_dl.compiler.graph import Graph, Kind
from nengo_dl.compiler.simplify import prune, ranges


def share(graph: Graph) -> Graph:
    """Give elements (states too) that always hold equal values one representative.

    Optimistic value numbering (Alpern, Wegman & Zadeck, POPL 1988): start with all
    elements of one kind and equal constants in one class, split classes whose members
    differ in the class of a source, until nothing splits. States take part: equal start
    and equal update is equal for ever. Classes are 64-bit hashes of the unfolded
    definition, so that one round is a few array operations for the whole graph.

    Only valid while the parameters it compares are constants: a parameter that may be
    written equals only itself.
    """
    classes = _static_hash(graph)
    refiner = _Refiner(graph, classes)
    count = -1
    while refiner.elements.size and count != (count := refiner.refine(classes)):
        pass
    alike = refiner.elements  # all others are alone in their class
    _, first, inverse = np.unique(classes[alike], return_index=True, return_inverse=True)
    if first.size == alike.size:
        return graph
    mapping = np.arange(graph.size)
    mapping[alike] = alike[first[inverse]]
    del classes, refiner, alike, inverse  # as much memory as several graphs
    graph = graph.rename(mapping)
    return prune(graph)


#: at most so many counters, which stay in the cache
COUNTERS = 2**20


def _several(classes: np.ndarray) -> tuple[np.ndarray, int]:
    """Which entries may occur more than once, and how many different ones there are.

    Counters of some bits also take a few for repeated that are not: those are only
    looked at again, and to find them costs a third of a search among the repeated ones.
    """
    ordered = np.sort(classes)
    again = int(np.count_nonzero(ordered[1:] == ordered[:-1]))
    if again == 0:
        return np.zeros(classes.size, bool), classes.size
    counters = min(1 << (64 * classes.size).bit_length(), COUNTERS)
    bits = (classes & np.uint64(counters - 1)).view(np.int64)
    return np.bincount(bits)[bits] > 1, classes.size - again


def _mix(x: np.ndarray) -> np.ndarray:
    """SplitMix64's finalizer (Steele, Lea & Flood, OOPSLA 2014): scatters all bits."""
    x = np.asarray(x, np.uint64)
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _bits(values: np.ndarray) -> np.ndarray:
    """Hash of float values by their bits (with -0 as 0)."""
    return _mix((values + 0.0).view(np.uint64) + np.uint64(0x9E3779B97F4A7C15))


def _hash(obj) -> np.uint64:
    return np.uint64(hash(obj) & 0xFFFFFFFFFFFFFFFF)


def _static_hash(graph: Graph) -> np.ndarray:
    """What an element's class depends on besides the classes of what it reads."""
    out = _mix(_bits(graph.value) + graph.kind.astype(np.uint64))
    alone = np.isin(graph.kind, (Kind.INPUT, Kind.PARAMETER))
    out[alone] = _mix(np.flatnonzero(alone).astype(np.uint64) + np.uint64(1 << 40))
    pieces, keys = [], []
    for number, node in enumerate(graph.nodes):
        fingerprint = node.kernel.fingerprint(node)
        key = _hash(("alone", number) if fingerprint is None else fingerprint)
        pieces += [(start, size, part) for part, (start, size) in enumerate(node.outputs)]
        keys += [key] * len(node.outputs)
    if pieces:
        starts, sizes, parts = np.array(pieces).T
        within = ranges(np.zeros_like(sizes), sizes)
        offset = within.astype(np.uint64) + np.repeat(parts << 40, sizes).astype(
            np.uint64
        )
        base = np.repeat(_mix(np.array(keys, np.uint64)), sizes)
        out[np.repeat(starts, sizes) + within] = _mix(_mix(offset) ^ base)
    return out


def _places(graph: Graph) -> np.ndarray:
    """A hash of each node input's position among the inputs of its node."""
    pieces = [(a.size, k << 40) for n in graph.nodes for k, a in enumerate(n.inputs)]
    if not pieces:
        return np.zeros(0, np.uint64)
    sizes, parts = np.array(pieces).T
    within = ranges(np.zeros_like(sizes), sizes)
    return _mix((within + np.repeat(parts, sizes)).astype(np.uint64))


class _Refiner:
    """Computes classes from the classes of what is read, round by round.

    An element that is alone in its class stays alone, so only the others
    (``elements``) are looked at again.
    """

    def __init__(self, graph: Graph, static: np.ndarray):
        self.graph = graph
        self.static = static.copy()
        self.scale = _bits(graph.scale)
        self.rows = graph.term_owner
        self.flat, self.reader = graph.node_inputs()
        self.place = _places(graph)
        self._keep(np.ones(graph.size, bool), static)

    def _keep(self, chosen: np.ndarray, classes: np.ndarray) -> int:
        """Go on with those of the chosen elements that share their class.

        Returns how many classes the chosen elements have.
        """
        elements = np.flatnonzero(chosen)
        several, different = _several(classes[elements])
        elements = elements[several]
        self.elements = elements
        graph = self.graph
        active = np.zeros(graph.size, bool)
        active[elements] = True
        terms = active[self.rows]
        self.src, self.scales = graph.src[terms], self.scale[terms]
        self.sums = elements[graph.fan_in[elements] > 0]
        self.starts = np.concatenate([[0], np.cumsum(graph.fan_in[self.sums])[:-1]])
        self.starts = self.starts.astype(np.int64)
        self.outputs = elements[graph.kind[elements] == Kind.NODE]
        nodes = np.zeros(len(graph.nodes), bool)
        nodes[graph.owner[self.outputs]] = True
        reads = nodes[self.reader]
        self.reads, self.places = self.flat[reads], self.place[reads]
        self.readers = self.reader[reads]
        self.first = np.flatnonzero(np.diff(self.readers, prepend=-1))
        self.states = elements[graph.next[elements] >= 0]
        self.active = active
        return different

    def refine(self, classes: np.ndarray) -> int:
        """One round: writes ``classes``; returns how many there are among the rest."""
        graph, total = self.graph, np.zeros(self.graph.size, np.uint64)
        with np.errstate(over="ignore"):
            if self.sums.size:  # terms in any order
                terms = _mix(classes[self.src] + self.scales)
                total[self.sums] = np.add.reduceat(terms, self.starts)
            if self.first.size:  # inputs in their order
                read = _mix(classes[self.reads] ^ self.places)
                of_node = np.zeros(len(graph.nodes), np.uint64)
                of_node[self.readers[self.first]] = np.add.reduceat(read, self.first)
                total[self.outputs] = of_node[graph.owner[self.outputs]]
            total[self.states] = classes[graph.next[self.states]]
            mine = self.elements
            classes[mine] = _mix(self.static[mine] + _mix(total[mine]))
        return graph.size - mine.size + self._keep(self.active, classes)
