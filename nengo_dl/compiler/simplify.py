"""Fewer elements, terms and nodes, with the same values.

`simplify` folds constants and drops copies, `share` finds values that are always equal,
`stack` makes one matrix of those that read the same vector.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import replace
from weakref import WeakValueDictionary

import numpy as np
from nengo.exceptions import BuildError, ValidationError

from nengo_dl.compiler.costs import PLACES, SPARSE_ROW, TABLE_BITS
from nengo_dl.compiler.graph import (
    INDEX,
    Graph,
    GraphBuilder,
    Kind,
    Node,
    ParameterRef,
)
from nengo_dl.compiler.graph_verify import GraphError, verify
from nengo_dl.compiler.readings import Readings
from nengo_dl.compiler.retime import retime
from nengo_dl.compiler.runs import PART, once_each, ranges, starts_of, taken
from nengo_dl.compiler.traits import Kernel

#: a function from a graph to one with the same values, the same graph if it finds nothing
Simplification = Callable[[Graph], Graph]

NODE = int(Kind.NODE)  # the name of an enumeration's member costs more than a comparison


def simplify(
    graph: Graph, rules: tuple[Callable[[Graph], Graph], ...] | None = None
) -> Graph:
    """Apply all simplifications until nothing changes.

    A parameter is never folded: its elements are no constants.
    """
    graph = prune(graph)
    while True:  # of large graphs no more are held than the one and the next
        before, changed, simpler = _measure(graph), False, graph
        for rule in DEFAULT_RULES if rules is None else rules:
            simpler = rule(graph)
            changed |= simpler is not graph
            graph = simpler
        if not changed:
            return graph
        del simpler
        graph = prune(graph)
        if _measure(graph) == before:
            return graph


def _measure(graph: Graph) -> tuple[int, ...]:
    """What every simplification makes smaller."""
    varying = int(np.count_nonzero(graph.kind != Kind.CONSTANT))
    return (graph.size, graph.src.size, len(graph.nodes), varying)


#: graphs that `prune` has given: by their number, as they have no hash
_pruned: WeakValueDictionary[int, Graph] = WeakValueDictionary()


def is_pruned(graph: Graph) -> bool:
    """Whether it is known that all of a graph is needed, so that nobody has to look."""
    return _pruned.get(id(graph)) is graph


def prune(graph: Graph, instead: np.ndarray | None = None) -> Graph:
    """Drop what no probe, no observed state and no side effect needs.

    Parameters
    ----------
    graph : Graph
    instead : ndarray of int, optional
        Read element ``instead[e]`` wherever element ``e`` is read now: what is read no
        longer is dropped.
    """
    if instead is None and is_pruned(graph):
        return graph
    needed = np.zeros(graph.size, bool)
    node_seen = np.zeros(len(graph.nodes), bool)
    effects = [i for i, n in enumerate(graph.nodes) if n.kernel.side_effects]
    frontier = [reading.elements for reading in graph.probes]
    states = Readings.of(graph.states)
    frontier.append(states.held(states.observed))
    node_seen[effects] = True
    flat, reader = graph.node_inputs()
    first = starts_of(reader, len(graph.nodes))  # of what each node reads
    frontier += [flat[first[i] : first[i + 1]] for i in effects]
    sources = (*graph.inputs, *graph.parameters)
    select = _by_kind(graph, needed)
    while frontier:
        if instead is not None:
            frontier = [instead[read] for read in frontier]
        sums, states, outputs = select(frontier)
        frontier = [taken(graph.src, graph.ptr[sums], graph.ptr[sums + 1])]
        frontier.append(graph.next[states])
        reached = np.zeros(len(graph.nodes), bool)
        reached[graph.owner[outputs]] = True
        visited = np.flatnonzero(reached & ~node_seen)
        node_seen[visited] = True
        frontier.append(taken(flat, first[visited], first[visited + 1]))
        frontier = [f for f in frontier if f.size]
    outputs = np.flatnonzero(graph.kind == Kind.NODE)
    needed[outputs] = node_seen[graph.owner[outputs]]  # as a whole
    for source in sources:  # these, too
        here = slice(source.start, source.start + source.size)
        needed[here] = needed[here].any()
    del select, frontier, flat, reader, first
    if instead is not None or not (needed.all() and node_seen.all()):
        graph = graph.only(needed, node_seen, instead)
    _pruned[id(graph)] = graph
    return graph


def _by_kind(graph: Graph, needed: np.ndarray) -> Callable:
    """A function that marks elements as ``needed``.

    Of those that were not it returns the sums, the states and the outputs of nodes, in
    any order. That costs what it is given, however large the graph is.
    """
    place = np.empty(graph.size, INDEX)
    kinds = (Kind.SUM, Kind.STATE, Kind.NODE)
    masks = [graph.kind == kind for kind in kinds]

    def select(arrays: list[np.ndarray]) -> list[np.ndarray]:
        if 8 * sum(array.size for array in arrays) > graph.size:
            new = np.zeros(graph.size, bool)
            for array in arrays:
                new[array] = True
            new &= ~needed
            np.logical_or(needed, new, out=needed)
            return [np.flatnonzero(new & mask) for mask in masks]
        fresh = np.concatenate(arrays)
        fresh = once_each(fresh[~needed[fresh]], place)
        needed[fresh] = True
        kind = graph.kind[fresh]
        return [fresh[kind == of] for of in kinds]

    return select


def used_signals(graph: Graph) -> frozenset:
    """Keys of parameters and states that a probe or a side effect depends on.

    What only an observed state depends on is not among them: no gradient gets there.
    """
    graph = prune(replace(graph, states=Readings.of(graph.states).unobserved()))
    values = [value for node in graph.nodes for value in node.params.values()]
    refs = [value.key for value in values if isinstance(value, ParameterRef)]
    lasting = [reading.key for reading in graph.states if (reading.elements >= 0).any()]
    return frozenset([source.key for source in graph.parameters] + refs + lasting)


def fold(graph: Graph) -> Graph:
    """Add up terms with constant sources, and make constant what has no terms left.

    A state that is its own next value never changes, and a node whose outcome is known
    (a fixed matrix times constants, a kernel that keeps zeros zero) is no node.

    Parameters
    ----------
    graph : Graph

    Returns
    -------
    Graph
    """
    kind, value = graph.kind.copy(), graph.value.copy()
    still = (kind == Kind.STATE) & (graph.next == np.arange(graph.size))
    states = Readings.of(graph.states)
    still[states.held(states.written)] = False
    kind[still] = Kind.CONSTANT
    left = _fold_nodes(graph, kind, value)
    constant = kind[graph.src] == Kind.CONSTANT
    if not constant.any() and graph.scale.all() and (kind == graph.kind).all():
        empty = (kind == Kind.SUM) & (graph.fan_in == 0)
        if not empty.any():
            return graph
    rows = graph.term_owner
    np.add.at(value, rows[constant], graph.scale[constant] * value[graph.src[constant]])
    rest = ~constant & (graph.scale != 0)
    terms_left = np.bincount(rows[rest], minlength=graph.size)
    kind[(kind == Kind.SUM) & (terms_left == 0)] = Kind.CONSTANT
    next_states = np.where(kind == Kind.STATE, graph.next, -1)
    return graph.with_terms(
        rows[rest],
        graph.src[rest],
        graph.scale[rest],
        kind=kind,
        value=value,
        next=next_states,
        **_nodes_left(graph, left, kind),
    )


def _nodes_left(graph: Graph, left: np.ndarray, kind: np.ndarray) -> dict:
    """The changes of a graph in which only some nodes are ``left``."""
    if left.all():
        return {}
    number = np.cumsum(left) - 1
    owner, of_nodes = graph.owner.copy(), kind == NODE
    owner[of_nodes] = number[owner[of_nodes]]
    owner[kind == Kind.CONSTANT] = -1
    nodes = (node for node, stays in zip(graph.nodes, left) if stays)
    return {"nodes": tuple(nodes), "owner": owner}


def _fold_nodes(graph: Graph, kind: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Mark outputs of nodes as constants, where they are known; which nodes are left."""
    constant = kind == Kind.CONSTANT
    left = np.ones(len(graph.nodes), bool)
    for number, node in enumerate(graph.nodes):
        if not node.outputs or not node.inputs:
            continue
        head = node.inputs[0]
        if head.size and not constant[head[0]]:  # tells of most, in a third of the time
            continue
        if not all(constant[i].all() for i in node.inputs):
            continue
        values = [value[i] for i in node.inputs]
        sizes = [size for _, size in node.outputs]
        results = node.kernel.outcome(node.params, values, sizes)
        if results is None:
            continue
        left[number] = False
        for (start, size), result in zip(node.outputs, results):
            kind[start : start + size] = Kind.CONSTANT
            constant[start : start + size] = True
            value[start : start + size] = result
    return left


def alias(graph: Graph) -> Graph:
    """Read the source of a pure copy instead of the copy.

    Parameters
    ----------
    graph : Graph

    Returns
    -------
    Graph
    """
    copies = np.flatnonzero(
        (graph.kind == Kind.SUM) & (graph.fan_in == 1) & (graph.value == 0)
    )
    copies = copies[graph.scale[graph.ptr[copies]] == 1]
    if copies.size == 0:
        return graph
    mapping = np.arange(graph.size, dtype=INDEX)
    mapping[copies] = graph.src[graph.ptr[copies]]
    while True:  # copies of copies
        further = mapping[mapping]
        if (further == mapping).all():
            return graph.rename(mapping)
        mapping = further


def inline(graph: Graph) -> Graph:
    """Put the terms of a sum in place of it, where only sums read it.

    A sum of several terms is only moved into a single reader, so no work is doubled.

    Parameters
    ----------
    graph : Graph

    Returns
    -------
    Graph
    """
    is_sum = graph.kind == Kind.SUM
    if not is_sum[graph.src].any():
        return graph
    used_by_sums = np.bincount(graph.src, minlength=graph.size)
    exposed = np.zeros(graph.size, bool)
    exposed[graph.node_inputs()[0]] = True
    exposed[graph.next[graph.next >= 0]] = True
    for probe in graph.probes:
        exposed[probe.elements] = True
    fan_in = graph.fan_in
    movable = is_sum & ~exposed & (used_by_sums > 0)
    movable &= (fan_in == 1) | (used_by_sums == 1)
    if not movable.any():
        return graph
    # one layer at a time: what is moved must not itself contain something movable
    rows = graph.term_owner
    inner = np.zeros(graph.size, bool)
    inner[rows[movable[graph.src]]] = True
    movable &= ~inner
    hit = movable[graph.src]
    if not hit.any():
        return graph
    value = graph.value.copy()
    moved, reader, factor = graph.src[hit], rows[hit], graph.scale[hit]
    np.add.at(value, reader, factor * graph.value[moved])
    positions = ranges(graph.ptr[moved], graph.ptr[moved + 1])
    repeats = fan_in[moved]
    stay = ~hit & ~movable[rows]
    return graph.with_terms(
        np.concatenate([rows[stay], np.repeat(reader, repeats)]),
        np.concatenate([graph.src[stay], graph.src[positions]]),
        np.concatenate(
            [graph.scale[stay], np.repeat(factor, repeats) * graph.scale[positions]]
        ),
        value=value,
    )


def sparsify(graph: Graph) -> Graph:
    """Fixed matrices with few nonzeros in each row become sums.

    Parameters
    ----------
    graph : Graph

    Returns
    -------
    Graph
    """
    matrices = [(node, node.matrix) for node in graph.nodes]
    found = [(n, m) for n, m in matrices if isinstance(m, np.ndarray) and _is_sparse(m)]
    if not found:
        return graph
    builder = GraphBuilder.extending(graph)
    mapping = np.arange(graph.size, dtype=INDEX)
    for node, matrix in found:
        nonzero = matrix != 0
        rows, columns = np.nonzero(nonzero)
        elements = builder.sum(
            np.zeros(matrix.shape[0]),
            rows,
            node.inputs[0][columns],
            matrix[rows, columns],
            order=node.order,
        )
        mapping[node.elements()] = elements
    extended = builder.build()
    mapping = np.concatenate([mapping, np.arange(graph.size, extended.size, dtype=INDEX)])
    return extended.rename(mapping)


def _is_sparse(matrix: np.ndarray) -> bool:
    """Whether the rows of a matrix are no longer than sums had better be."""

    def is_long(row: int) -> bool:
        return row > SPARSE_ROW or (row == matrix.shape[1] and matrix.shape != (1, 1))

    if is_long(int(np.count_nonzero(matrix[:1]))):
        return False  # so are most, and the other rows need not be counted
    return not is_long(int((matrix != 0).sum(1).max(initial=0)))


DEFAULT_RULES = (sparsify, fold, alias, inline, retime)


def simplify_by(rules: Sequence[Simplification]) -> Simplification:
    """A pass that applies the user's choice of simplifications until nothing changes.

    Parameters
    ----------
    rules : sequence of callable

    Returns
    -------
    callable
        From a `Graph` to a `Graph`. It raises `~nengo.exceptions.ValidationError` if a
        rule returns something else, and `~nengo.exceptions.BuildError` if what it returns
        is no valid graph.
    """

    def checked(rule: Simplification) -> Simplification:
        name = getattr(rule, "__name__", repr(rule))

        def apply(graph: Graph) -> Graph:
            simpler = rule(graph)
            if not isinstance(simpler, Graph):
                raise ValidationError(
                    f"the simplification {name} returned {simpler!r}; expected a "
                    "nengo_dl.compiler.graph.Graph, the one that it was given if there "
                    "is nothing to change",
                    attr="simplifications",
                )
            if simpler is not graph:
                try:
                    verify(simpler, name)
                except GraphError as error:
                    raise BuildError(
                        f"the simplification {name} returned a graph that breaks a rule, "
                        f"{error}; the rules are in nengo_dl.compiler.graph"
                    ) from error
            return simpler

        return apply

    chosen = tuple(checked(rule) for rule in rules)

    def simplify_as_set(graph: Graph) -> Graph:
        return simplify(graph, chosen)

    return simplify_as_set


# equal values -------------------------------------------------------------------------


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
    classes, alone = _static_hash(graph)
    refiner = _Refiner(graph, classes, alone)
    del alone
    count = -1
    while refiner.elements.size and count != (count := refiner.refine(classes)):
        pass
    alike = refiner.elements  # all others are alone in their class
    _, first, inverse = np.unique(classes[alike], return_index=True, return_inverse=True)
    if first.size == alike.size:
        return graph
    mapping = np.arange(graph.size, dtype=INDEX)
    mapping[alike] = alike[first[inverse]]
    del classes, refiner, alike, inverse  # as much memory as several graphs
    return prune(graph, mapping)


def _several(classes: np.ndarray) -> tuple[np.ndarray, int]:
    """Which entries may occur more than once, and how many different ones there are.

    A table of the upper bits of those that do also finds a few that do not: they are only
    looked at again, and it costs a small part of a search among the repeated ones.
    """
    ordered = np.sort(classes)
    again = ordered[1:][ordered[1:] == ordered[:-1]]
    del ordered
    if again.size == 0:
        return np.zeros(classes.size, bool), classes.size
    bits = min((PLACES * again.size).bit_length(), TABLE_BITS)
    shift = np.uint64(64 - bits)
    repeated = np.zeros(1 << bits, bool)
    repeated[(again >> shift).view(np.int64)] = True
    return repeated[(classes >> shift).view(np.int64)], classes.size - again.size


def _scatter(x: np.ndarray) -> np.ndarray:
    """SplitMix64's finalizer (Steele, Lea & Flood, OOPSLA 2014): scatters all bits.

    Of ``x`` itself, 64-bit numbers, which are returned; part by part, in the cache.
    """
    for first in range(0, x.size, PART):
        part = x[first : first + PART]
        part ^= part >> np.uint64(30)
        part *= np.uint64(0xBF58476D1CE4E5B9)
        part ^= part >> np.uint64(27)
        part *= np.uint64(0x94D049BB133111EB)
        part ^= part >> np.uint64(31)
    return x


def _mix(x: np.ndarray) -> np.ndarray:
    """`_scatter` of a copy."""
    return _scatter(np.array(x, np.uint64))


def _bits(values: np.ndarray) -> np.ndarray:
    """Hash of float values by their bits (with -0 as 0)."""
    bits = (values + 0.0).view(np.uint64)
    bits += np.uint64(0x9E3779B97F4A7C15)
    return _scatter(bits)


def _hash(obj) -> int:
    return hash(obj) & 0xFFFFFFFFFFFFFFFF


def _offsets(sizes: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """A hash of each place in arrays of some ``sizes``, which are parts of others."""
    place = np.repeat((parts << 40) - (np.cumsum(sizes) - sizes), sizes)
    place += np.arange(place.size)
    return _scatter(place.view(np.uint64))


def _batches(sizes: np.ndarray) -> Iterator[slice]:
    """Slices of ``sizes`` that add up to about `PART`, or of one that is larger."""
    number = np.cumsum(sizes) // PART
    ends = [*(np.flatnonzero(np.diff(number)) + 1), sizes.size]
    yield from map(slice, [0, *ends], ends)


def _static_hash(graph: Graph) -> tuple[np.ndarray, np.ndarray]:
    """What an element's class depends on besides the classes of what it reads.

    And which elements are alone in their class by that: what is given from outside, and
    outputs of a node that is like no other.
    """
    out = _bits(graph.value)
    out += graph.kind.view(np.uint8)
    _scatter(out)
    alone = np.isin(graph.kind, (Kind.INPUT, Kind.PARAMETER))
    out[alone] = _mix(np.flatnonzero(alone) + (1 << 40))
    outputs = [output for node in graph.nodes for output in node.outputs]
    if not outputs:
        return out, alone
    starts, sizes = np.array(outputs, np.int64).T
    counts = np.array([len(node.outputs) for node in graph.nodes])
    parts = np.arange(starts.size) - np.repeat(np.cumsum(counts) - counts, counts)
    hashes = np.array(_node_hashes(graph.nodes), np.uint64)
    _, which, alike = np.unique(hashes, return_inverse=True, return_counts=True)
    unique = np.repeat(alike[which.ravel()] == 1, counts)
    alone[ranges(starts[unique], (starts + sizes)[unique])] = True
    bases = np.repeat(_mix(hashes), counts)
    for some in _batches(sizes):
        size, start = sizes[some], starts[some]
        found = _offsets(size, parts[some])
        found ^= np.repeat(bases[some], size)
        out[ranges(start, start + size)] = _scatter(found)
    return out, alone


def _node_hashes(nodes: Sequence[Node]) -> list[int]:
    """A hash of each node's fingerprint; of one that equals no other, of its number."""
    sketches = [_sketch(node) for node in nodes]
    several = {key for key, count in Counter(sketches).items() if count > 1}
    hashes = []
    for number, (node, sketch) in enumerate(zip(nodes, sketches, strict=True)):
        found = node.kernel.fingerprint(node) if sketch in several else None
        hashes.append(_hash(("alone", number) if found is None else found))
    return hashes


def _sketch(node: Node) -> Hashable:
    """Something that nodes with equal fingerprints have in common, quickly.

    To look at the first entry of matrices tells most of them apart, and costs a small
    part of a hash of all entries.
    """
    kernel = node.kernel
    if type(kernel).fingerprint is not Kernel.fingerprint:
        return kernel.name  # it says what is equal, in its own way
    values = [node.params[name] for name in kernel.matrices]
    firsts = [v.flat[:1].tobytes() for v in values if isinstance(v, np.ndarray)]
    return kernel.name, node.size, len(node.outputs), *firsts


class _Refiner:
    """Computes classes from the classes of what is read, round by round.

    An element that is alone in its class stays alone, so only the others
    (``elements``) are looked at again.
    """

    def __init__(self, graph: Graph, classes: np.ndarray, alone: np.ndarray):
        self.graph = graph
        self.elements = np.arange(graph.size, dtype=INDEX)
        self.static = classes  # of the elements
        self.scale = _bits(graph.scale)
        self.flat, self.reader = graph.node_inputs()
        inputs = [
            (a.size, part) for node in graph.nodes for part, a in enumerate(node.inputs)
        ]
        self.places = _offsets(*np.array(inputs, np.int64).reshape(-1, 2).T)
        several = ~alone & (graph.kind == NODE)  # there is another node like theirs
        rest = np.flatnonzero(~alone & ~several)
        several[rest] = _several(classes[rest])[0]
        self._keep(several)

    def _keep(self, several: np.ndarray) -> None:
        """Go on with some of the elements, ``several``: those that share their class.

        What is looked at grows with their number, however large the graph is.
        """
        graph = self.graph
        self.elements = elements = self.elements[several]
        self.static = self.static[several]
        starts, stops = graph.ptr[elements], graph.ptr[elements + 1]
        self.sums = np.flatnonzero(stops > starts)  # places among the elements
        starts, stops = starts[self.sums], stops[self.sums]
        self.src = taken(graph.src, starts, stops)
        self.scales = taken(self.scale, starts, stops)
        fan_in = stops - starts
        self.starts = np.cumsum(fan_in, dtype=np.int64) - fan_in
        kind = graph.kind[elements]
        self.outputs = np.flatnonzero(kind == NODE)
        self.owner = graph.owner[elements[self.outputs]]
        nodes = np.zeros(len(graph.nodes), bool)
        nodes[self.owner] = True
        reads = nodes[self.reader]
        if not reads.all():
            self.flat, self.reader = self.flat[reads], self.reader[reads]
            self.places = self.places[reads]
        begins = np.ones(self.reader.size, bool)
        begins[1:] = self.reader[1:] != self.reader[:-1]
        self.first = np.flatnonzero(begins)
        self.states = np.flatnonzero(kind == Kind.STATE)
        self.next = graph.next[elements[self.states]]

    def refine(self, classes: np.ndarray) -> int:
        """One round: writes ``classes``; returns how many there are among the rest."""
        graph, mine = self.graph, self.elements
        total = np.zeros(mine.size, np.uint64)
        if self.sums.size:  # terms in any order
            terms = classes[self.src]
            terms += self.scales
            total[self.sums] = np.add.reduceat(_scatter(terms), self.starts)
            del terms
        if self.first.size:  # inputs in their order
            read = classes[self.flat]
            read ^= self.places
            of_node = np.zeros(len(graph.nodes), np.uint64)
            of_node[self.reader[self.first]] = np.add.reduceat(_scatter(read), self.first)
            del read
            total[self.outputs] = of_node[self.owner]
        total[self.states] = classes[self.next]
        found = _scatter(total)
        found += self.static
        classes[mine] = _scatter(found)
        several, different = _several(found)
        del total, found
        self._keep(several)
        return graph.size - mine.size + different


# matrices that read the same vector ---------------------------------------------------


def _stacked(builder: GraphBuilder, nodes: list) -> np.ndarray:
    """A node that multiplies with the matrices of some, one below the other."""
    first = min(nodes, key=lambda node: node.order)
    name = first.kernel.matrix
    matrix = np.concatenate([node.params[name] for node in nodes])
    (out,) = builder.node(
        first.kernel,
        first.inputs,
        [matrix.shape[0]],
        {**first.params, name: matrix},
        order=first.order,
        label=first.label,
    )
    return out


def stack(graph: Graph) -> Graph:
    """Make one matrix of all fixed matrices that are applied to the same elements.

    The decoders of one ensemble for several functions become one product. Only where the
    kernel is nothing but a product (trait ``matrix``) and the matrices are constants.
    """
    readers = defaultdict(list)
    for node in graph.nodes:
        if isinstance(node.matrix, np.ndarray):
            readers[(node.kernel.name, node.inputs[0].tobytes())].append(node)
    groups = [nodes for nodes in readers.values() if len(nodes) > 1]
    if not groups:
        return graph
    builder = GraphBuilder.extending(graph)
    mapping = np.arange(graph.size, dtype=INDEX)
    for nodes in groups:
        mapping[np.concatenate([n.elements() for n in nodes])] = _stacked(builder, nodes)
    size, held = graph.size, [builder.build()]
    del graph, builder, readers, groups  # of large graphs, one is enough
    mapping = np.concatenate([mapping, np.arange(size, held[0].size, dtype=INDEX)])
    return prune(held.pop(), mapping)
