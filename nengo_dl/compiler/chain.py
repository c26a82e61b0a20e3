"""A step cut into a chain of links, each of which runs for all steps before the next.

A link is a loop over time with what runs before and after it for all steps at once; see
`nengo_dl.compiler.plan.stages`. What feeds forward from one population to the next needs
no common loop: the first population runs for all steps, then the product with the weights
between them is one product for all steps, then the second one runs. This is loop fission
(K. Kennedy and K. S. McKinley (1993), Maximizing loop parallelism and improving data
locality via loop fusion and distribution), with the product as the reason for it.

The units of a step and what they read, the state of the step before included, are a
graph. Its strongly connected components (R. Tarjan (1972), Depth-first search and linear
graph algorithms) cannot be cut. One that holds a state is a loop; a product that is worth
it (`worth_a_cut`) is computed between two loops; all else goes with what it reads. A
network that cannot be cut, or that is not worth it, is a chain of one link.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from nengo_dl.compiler.costs import CHEAP
from nengo_dl.compiler.graph import INDEX, Flow, Graph, GraphBuilder, Kind, Node, Reading
from nengo_dl.compiler.layout import Layout, Read, Sorter, layout, read_of
from nengo_dl.compiler.plan import Planner, Stage, Stages, plan

#: the key of what a link takes from those before it, among its layout's inputs
TAKEN = "taken"

#: the key of what a link gives, its layout's only probe
GIVEN = "given"


@dataclass(frozen=True, eq=False)
class Link:
    """One loop over time, with what runs before and after it for all steps at once.

    Parameters
    ----------
    layout : Layout
        Its probes are one, of the key `GIVEN`: what later links and probes read.
    taken : Read
        The rows of its input of the key `TAKEN`, if it has one: parts of what earlier
        links give, whose numbers take the place of tensors.
    reason : str
        Why it was cut from the link before it.
    """

    layout: Layout
    taken: Read
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Chain:
    """The links of a step in the order in which they run, and where probes find theirs.

    Parameters
    ----------
    links : tuple of Link
    probes : tuple of (key, Read, shape)
        Rows of what links give, as for `Link.taken`.
    """

    links: tuple[Link, ...]
    probes: tuple[tuple, ...]


def whole(layout: Layout) -> Chain:
    """The chain of one link, which is not cut."""
    found = tuple(
        (key, _rows(first, first + int(np.prod(shape))), shape)
        for key, first, shape in layout.probes
    )
    return Chain((Link(layout, read_of(*_NOTHING)),), found)


def cut(
    graph: Graph,
    stepwise_python: bool = False,
    planner: Planner | None = None,
    sorter: Sorter | None = None,
) -> Chain | None:
    """The chain of a graph; None if it is not to be cut.

    Parameters
    ----------
    graph : Graph
    stepwise_python : bool
        Keep nodes that run Python in one loop, so that they run in core's order.
    planner, sorter : callable, optional
        Strategies, see `nengo_dl.compiler.plan` and `nengo_dl.compiler.layout`.
    """
    numbers = link_numbers(graph, stepwise_python)
    if numbers is None:
        return None
    return _Cutter(graph, numbers, planner, sorter).chain()


_NOTHING = np.zeros(0, INDEX), np.zeros(0, INDEX)


def _rows(start: int, stop: int) -> Read:
    """Neighbouring rows of what the first link gives."""
    return read_of(np.zeros(stop - start, INDEX), np.arange(start, stop))


# which link everything belongs to -----------------------------------------------------


class Numbers(NamedTuple):
    """Stages of elements (-1: constants, parameters, inputs) and of nodes.

    Odd ones are loops, ``loops``; even ones run for all steps at once. ``reasons`` tells,
    for each loop but the first, of a product that it was cut for.
    """

    element: np.ndarray
    node: np.ndarray
    loops: np.ndarray
    reasons: tuple[str, ...]

    def link(self, stage: np.ndarray) -> np.ndarray:
        """The link of each stage: a loop with what comes before it; the last one too."""
        found = np.minimum(np.searchsorted(self.loops, stage), self.loops.size - 1)
        return np.where(stage < 0, -1, found)

    def within(self, stage: np.ndarray, link: int) -> np.ndarray:
        """Before, in or after the loop of a link."""
        loop = self.loops[link]
        inside = np.where(stage == loop, Stage.LOOP, Stage.BEFORE)
        return np.where(stage > loop, Stage.AFTER, inside).astype(np.int8)


def worth_a_cut(node: Node) -> bool:
    """Whether a product gains by being computed for all steps at once, between loops.

    It then reads and writes memory for all steps, so it has to compute more than `CHEAP`
    multiplications for each number. Library code for convolutions is worth it always, as
    a compiled loop has nothing as fast.

    Parameters
    ----------
    node : Node
    """
    kernel = node.kernel
    library = kernel.batch_first is not None
    if kernel.host or kernel.stepwise or not (kernel.matrices or library):
        return False
    if library and kernel.matrices:
        return True
    moved = sum(i.size for i in node.inputs) + sum(size for _, size in node.outputs)
    return kernel.cost(node) > CHEAP * moved


def link_numbers(graph: Graph, stepwise_python: bool = False) -> Numbers | None:
    """Which link each element and node of a graph belongs to; None if there is one only.

    Parameters
    ----------
    graph : Graph
    stepwise_python : bool
        Keep nodes that run Python together.
    """
    products = np.array([worth_a_cut(node) for node in graph.nodes], bool)
    states = np.flatnonzero(graph.kind == Kind.STATE)
    common = any(reading.common for reading in graph.states)  # of all items together
    if not products.any() or not states.size or common:
        return None
    unit, n_units = _units(graph)
    before, after = _edges(graph, unit, stepwise_python)
    component = components(n_units, before, after)
    before, after = component[before], component[after]
    across = before != after
    before, after = before[across], after[across]
    n = int(component.max()) + 1
    python = np.array([node.kernel.host for node in graph.nodes], bool)
    stepwise = np.array([node.kernel.stepwise for node in graph.nodes], bool)
    sequential = np.zeros(n, bool)
    sequential[component[unit[states]]] = True
    pinned = stepwise | python if stepwise_python else stepwise
    sequential[component[np.flatnonzero(pinned)]] = True
    parallel = np.zeros(n, bool)
    parallel[component[np.flatnonzero(products | python)]] = True
    parallel &= ~sequential
    stage = _stage_numbers(sequential, parallel, before, after)
    loops = np.unique(stage[sequential])
    if loops.size < 2:
        return None
    free = ~sequential & ~parallel
    cheap = free & _expands(graph, component, unit)
    stage = _sunk(stage, cheap, before, after)
    element = np.full(graph.size, -1, INDEX)
    own = unit >= 0
    element[own] = stage[component[unit[own]]]
    nodes = stage[component[: len(graph.nodes)]]
    numbers = Numbers(element, nodes, loops, ())
    return numbers._replace(reasons=_reasons(graph, products, numbers))


def _reasons(graph, products, numbers) -> tuple[str, ...]:
    """For each link but the first, the largest product that it begins with."""
    link = numbers.link(numbers.node)
    largest: dict[int, tuple[float, str]] = {}
    for i in np.flatnonzero(products).tolist():
        node = graph.nodes[i]
        cost = node.kernel.cost(node)
        text = (
            f"{node.kernel.name} {sum(a.size for a in node.inputs)} -> {node.size}, "
            f"{cost:.0f} multiplications a step"
        )
        largest[link[i]] = max(largest.get(link[i], (0.0, "")), (cost, text))
    return tuple(largest.get(k, (0.0, ""))[1] for k in range(1, numbers.loops.size))


def _stage_numbers(sequential, parallel, before, after) -> np.ndarray:
    """Stages of components: odd ones are loops, even ones run for all steps at once.

    The smallest that grow along the edges; other components go with what they read.
    """
    number = sequential.astype(INDEX)
    while True:
        least = number.copy()
        np.maximum.at(least, after, number[before])
        least += (sequential & (least % 2 == 0)) | (parallel & (least % 2 == 1))
        if np.array_equal(least, number):
            return number
        number = least


def _expands(graph: Graph, component, unit) -> np.ndarray:
    """Components that read no more elements than they compute, and are not probed.

    Biases, for example, and encoders of few inputs. Of what does not change from step to
    step nothing is counted.
    """
    n = int(component.max()) + 1
    flat, reader = graph.node_inputs()
    source = np.concatenate([graph.src, flat])
    readers = np.concatenate([component[unit[graph.term_owner]], component[reader]])
    moves = ~np.isin(graph.kind[source], (Kind.CONSTANT, Kind.PARAMETER))
    code = np.unique(source[moves].astype(np.int64) * n + readers[moves])
    own = np.flatnonzero(unit >= 0)
    expands = np.bincount(code % n, minlength=n) <= np.bincount(
        component[unit[own]], minlength=n
    )
    for probe in graph.probes:
        probed = unit[probe.elements]
        expands[component[probed[probed >= 0]]] = False
    return expands


def _sunk(stage: np.ndarray, cheap: np.ndarray, before, after) -> np.ndarray:
    """Stages, where what is cheap runs in the loop that reads it.

    Otherwise it would be written for all steps, to be read in each.
    """
    never = np.iinfo(stage.dtype).max
    while True:
        soonest = np.full(stage.size, never, stage.dtype)
        np.minimum.at(soonest, before, stage[after])
        sinks = cheap & (stage % 2 == 0) & (soonest % 2 == 1)
        sinks &= (soonest > stage) & (soonest < never)
        if not sinks.any():
            return stage
        stage = np.where(sinks, soonest, stage)


# units, and what reads what -----------------------------------------------------------


def _units(graph: Graph) -> tuple[np.ndarray, int]:
    """The unit of each element (-1: none), and how many there are.

    A unit is a node, the elements of one level of a block of sums, or the states that one
    unit gives the next values of. To take several elements together can only join what
    might have been cut.
    """
    unit = np.full(graph.size, -1, INDEX)
    node = graph.kind == Kind.NODE
    unit[node] = graph.owner[node]
    n = len(graph.nodes)
    sums = np.flatnonzero(graph.kind == Kind.SUM)
    level, _ = Flow(graph).levels()
    highest = int(level.max(initial=0)) + 1
    label = graph.block[sums].astype(np.int64) * highest + level[sums]
    n = _number(unit, sums, label, n)
    # states wait until their successor has a number: a delay of many steps is a line
    waiting = np.flatnonzero(graph.kind == Kind.STATE)
    lasting = np.zeros(graph.size, bool)
    lasting[waiting] = True
    while waiting.size:
        after = graph.next[waiting]
        ready = ~lasting[after] | (unit[after] >= 0)
        ready |= ~ready.any()  # states that hand one value round
        inner = unit[after[ready]] >= 0
        outer = -1 - graph.kind[after[ready]].astype(np.int64) * (graph.size + 1)
        outer -= graph.owner[after[ready]]
        n = _number(unit, waiting[ready], np.where(inner, unit[after[ready]], outer), n)
        waiting = waiting[~ready]
    return unit, n


def _number(unit: np.ndarray, elements: np.ndarray, label: np.ndarray, n: int) -> int:
    """Elements with equal labels become units, numbered from ``n``; the next number."""
    values, place = np.unique(label, return_inverse=True)
    unit[elements] = n + place.ravel()
    return n + values.size


def _edges(graph: Graph, unit, stepwise_python) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (unit that is read, unit that reads it), without doubles.

    Some are tied together: nodes that run Python, if core's order is to be kept; and a
    node with the state that it reads, if that is much more than what it computes: weights
    that are learned online would be handed on for each step.
    """
    flat, reader = graph.node_inputs()
    states = np.flatnonzero(graph.kind == Kind.STATE)
    tied = [(unit[i[0]], number) for number, i in _large_states(graph)]
    python = [i for i, node in enumerate(graph.nodes) if node.kernel.host]
    if stepwise_python and len(python) > 1:
        tied += list(zip(python, python[1:]))
    ties = np.array(tied, INDEX).reshape(-1, 2)
    first = [unit[graph.src], unit[flat], unit[graph.next[states]], *ties.T]
    second = [unit[graph.term_owner], reader, unit[states], *ties[:, ::-1].T]
    before, after = np.concatenate(first), np.concatenate(second)
    inner = (before >= 0) & (before != after)
    code = np.unique(before[inner].astype(np.int64) * graph.size + after[inner])
    return np.divmod(code, graph.size)


def _large_states(graph: Graph):
    """Nodes that read much more state than they compute, with those elements."""
    for number, node in enumerate(graph.nodes):
        for elements in node.inputs:
            large = elements.size > CHEAP * max(node.size, 1)
            if large and (graph.kind[elements] == Kind.STATE).all():
                yield number, elements


def components(n: int, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The strongly connected component of each of ``n`` things.

    Parameters
    ----------
    n : int
    before, after : ndarray of int
        Edges.

    Returns
    -------
    ndarray of int
        Numbers from 0 on; equal ones for what can be reached from each other.

    Examples
    --------
    >>> components(4, np.array([0, 1, 2, 2]), np.array([1, 2, 1, 3])).tolist()
    [2, 1, 1, 0]
    """
    order = np.argsort(before, kind="stable")
    successors = after[order].tolist()
    first = np.searchsorted(before[order], np.arange(n + 1)).tolist()
    component, index, low = [-1] * n, [-1] * n, [0] * n
    at, found, count, stack = first[:-1], 0, 0, []
    for root in range(n):
        if index[root] >= 0:
            continue
        path = [root]
        while path:
            v = path[-1]
            if index[v] < 0:
                index[v] = low[v] = count
                count += 1
                stack.append(v)
            while at[v] < first[v + 1]:
                w = successors[at[v]]
                if index[w] < 0:
                    path.append(w)
                    break
                if component[w] < 0:
                    low[v] = min(low[v], low[w])
                at[v] += 1
            else:
                path.pop()
                if low[v] == index[v]:
                    w = -1
                    while w != v:
                        w = stack.pop()
                        component[w] = found
                    found += 1
    return np.array(component, INDEX)


# cutting ------------------------------------------------------------------------------


class _Cutter:
    """Makes a chain of a graph whose elements are numbered by link."""

    def __init__(self, graph, numbers, planner, sorter) -> None:
        self.graph, self.numbers = graph, numbers
        self.link = numbers.link(numbers.element)
        self.node_link = numbers.link(numbers.node)
        self.reasons = ("", *numbers.reasons)
        self.planner, self.sorter = planner, sorter
        #: in which link's result an element is, and its row there
        self.home = np.full(graph.size, -1, INDEX)
        self.row = np.zeros(graph.size, INDEX)

    def chain(self) -> Chain:
        """All links, one after the other."""
        graph = self.graph
        n_links = int(self.link.max()) + 1
        probed = np.zeros(graph.size, bool)
        for probe in graph.probes:
            probed[probe.elements] = True
        source, reader = self._reads(n_links)
        links = []
        for k in range(n_links):
            mine = self.link == k
            foreign = (reader == k) & (self.link[source] != k)
            later = np.zeros(graph.size, bool)
            later[source[(reader != k) & (self.link[source] == k)]] = True
            given = np.flatnonzero((later | probed) & mine)
            if k == n_links - 1:  # constants and inputs that are probed
                rest = np.flatnonzero(probed & (self.link < 0))
                given = np.concatenate([given, rest])
            taken = np.unique(source[foreign])
            taken = taken[self.link[taken] >= 0]
            sub, split = self._subgraph(k, mine, taken, given)
            made = layout(plan(sub, split, self.planner), self.sorter)
            read = read_of(self.home[taken], self.row[taken])
            links.append(Link(made, read, self.reasons[k]))
            self.home[given], self.row[given] = k, np.arange(given.size)
        probes = tuple(
            (p.key, read_of(self.home[p.elements], self.row[p.elements]), p.shape)
            for p in graph.probes
        )
        return Chain(tuple(links), probes)

    def _reads(self, n_links) -> tuple[np.ndarray, np.ndarray]:
        """Every read: the element, and the link that reads it."""
        graph = self.graph
        flat, reader = graph.node_inputs()
        states = np.flatnonzero(graph.kind == Kind.STATE)
        source = np.concatenate([graph.src, flat, graph.next[states]])
        by_node = self.node_link[reader] if reader.size else reader
        link = np.concatenate([self.link[graph.term_owner], by_node, self.link[states]])
        return source, link

    def _subgraph(self, k, mine, taken, given) -> tuple[Graph, Stages]:
        """The graph of one link: what it takes is an input, what it gives a probe."""
        builder = GraphBuilder.extending(self.graph)
        new = builder.input(TAKEN, taken.size) if taken.size else taken
        mapping = np.arange(builder.size, dtype=INDEX)
        mapping[taken] = new
        graph = builder.build()
        own = np.append(mine, np.ones(graph.size - mine.size, bool))
        here = np.append(own, False)  # the last: -1 stays -1
        states = tuple(
            replace(r, elements=np.where(here[r.elements] | fixed, r.elements, -1))
            for r in graph.states
            for fixed in [graph.kind[r.elements] == Kind.CONSTANT]
            if here[r.elements].any()
        )
        chosen = (Reading(GIVEN, given, (given.size,)),)
        graph = replace(graph, probes=chosen, states=states).rename(mapping)
        nodes = self.node_link == k
        kept = own | self._outside(graph, own, nodes)
        element = np.append(self.numbers.element, np.full(taken.size, -1))[kept]
        split = self.numbers.within(element, k)
        by_node = self.numbers.within(self.numbers.node[nodes], k)
        return graph.keep(kept, nodes), Stages(split, by_node)

    @staticmethod
    def _outside(graph: Graph, own: np.ndarray, nodes: np.ndarray) -> np.ndarray:
        """Constants, parameters and inputs that one link reads; sources as a whole."""
        read = np.zeros(graph.size + 1, bool)
        read[graph.src[own[graph.term_owner]]] = True
        read[graph.next[own & (graph.kind == Kind.STATE)]] = True
        for node, here in zip(graph.nodes, nodes, strict=True):
            for elements in node.inputs if here else ():
                read[elements] = True
        for reading in (*graph.probes, *graph.states):
            read[reading.elements] = True
        read = read[:-1]
        for source in (*graph.inputs, *graph.parameters):
            if read[source.elements].any():
                read[source.elements] = True
        lasting = (Kind.CONSTANT, Kind.PARAMETER, Kind.INPUT)
        return read & np.isin(graph.kind, lasting)
