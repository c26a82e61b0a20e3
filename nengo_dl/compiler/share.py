"""Sharing of equal values."""

from __future__ import annotations

import numpy as np

from nengo_dl.compiler.graph import Graph, Kind
from nengo_dl.compiler.simplify import prune


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
    static = _static_hash(graph)
    flat, reader = graph.node_inputs()
    place = _places(graph)
    classes = static
    count = np.unique(classes).size
    while True:
        classes = _refine(graph, static, classes, flat, reader, place)
        refined = np.unique(classes).size
        if refined == count:
            break
        count = refined
    _, first, inverse = np.unique(classes, return_index=True, return_inverse=True)
    mapping = first[inverse]
    if (mapping == np.arange(graph.size)).all():
        return graph
    return prune(graph.rename(mapping))


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
    for number, node in enumerate(graph.nodes):
        fingerprint = node.kernel.fingerprint(node)
        key = ("alone", number) if fingerprint is None else fingerprint
        base = _mix(_hash(key))
        for part, (start, size) in enumerate(node.outputs):
            offset = np.arange(size, dtype=np.uint64) + np.uint64(part << 40)
            out[start : start + size] = _mix(_mix(offset) ^ base)
    return out


def _places(graph: Graph) -> np.ndarray:
    """A hash of each node input's position among the inputs of its node."""
    places = [
        np.arange(array.size, dtype=np.uint64) + np.uint64(k << 40)
        for node in graph.nodes
        for k, array in enumerate(node.inputs)
    ]
    return _mix(np.concatenate(places)) if places else np.zeros(0, np.uint64)


def _refine(graph, static, classes, flat, reader, place) -> np.ndarray:
    """One round: classes from the classes of what is read."""
    with np.errstate(over="ignore"):
        # sums: terms in any order
        terms = _mix(classes[graph.src] + _bits(graph.scale))
        total = np.zeros(graph.size, np.uint64)
        filled = graph.fan_in > 0
        if terms.size:
            total[filled] = np.add.reduceat(terms, graph.ptr[:-1][filled])
        # nodes: inputs in their order
        if flat.size:
            reads = _mix(classes[flat] ^ place)
            starts = np.flatnonzero(np.diff(reader, prepend=-1))
            of_node = np.zeros(len(graph.nodes), np.uint64)
            of_node[reader[starts]] = np.add.reduceat(reads, starts)
            mine = graph.kind == Kind.NODE
            total[mine] = of_node[graph.owner[mine]]
        lasting = graph.next >= 0
        total[lasting] = classes[graph.next[lasting]]
        return _mix(static + _mix(total))
