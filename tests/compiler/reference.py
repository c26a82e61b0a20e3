"""A slow interpreter of element graphs: the reference of all tests in this folder.

It needs no plan and no layout. It knows what the docstrings of `nengo_dl.compiler.graph`
and `nengo_dl.compiler.traits` say, and evaluates one node after the other.
"""

from collections import defaultdict

import numpy as np

from nengo_dl.compiler.graph import Kind, ParameterRef
from nengo_dl.compiler.traits import Params
from nengo_dl.runtime.numpy.namespace import NumpyNamespace

XP = NumpyNamespace("float64")


def interpret(graph, inputs, n_steps, parameters=None, batch=None):
    """What a graph's probes report, step by step.

    Parameters
    ----------
    graph : Graph
    inputs : mapping
        Key -> ``(steps, size, batch)``.
    n_steps : int
    parameters : mapping, optional
        Key -> present value of a parameter.
    batch : int, optional
        Number of columns, where it does not follow from the inputs.

    Returns
    -------
    ndarray
        ``(n_steps, rows of all probes, batch)``.
    """
    return Interpreter(graph, inputs, parameters, batch).run(n_steps)


class Interpreter:
    """Holds the elements' values; see `interpret`."""

    def __init__(self, graph, inputs, parameters=None, batch=None):
        self.graph = graph
        self.inputs = inputs
        self.parameters = parameters or {}
        shapes = [array.shape[2] for array in inputs.values()]
        self.batch = batch or max(shapes, default=1)
        self.order = [
            (self._with_terms(sums), nodes) for sums, nodes in topological_order(graph)
        ]
        self.arguments = [self._arguments(node) for node in graph.nodes]
        lasting = graph.kind == Kind.STATE
        self.states = np.flatnonzero(lasting)
        self.state = self._columns(graph.value[self.states])
        self.steps_run = 0

    def _with_terms(self, sums):
        """Sums, and all their terms: the sum that a term belongs to, and its number."""
        ptr = self.graph.ptr
        terms = [np.arange(ptr[e], ptr[e + 1]) for e in sums]
        rows = np.repeat(sums, [t.size for t in terms])
        return sums, rows, np.concatenate([np.zeros(0, int), *terms])

    def _columns(self, values):
        return np.repeat(np.asarray(values, float)[:, None], self.batch, axis=1)

    def _arguments(self, node):
        """What the kernel finds in ``p``: columns, and stacks of one matrix."""
        kernel = node.kernel
        values = {k: v for k, v in node.params.items() if k not in kernel.matrices}
        arguments = {"groups": 1}
        for name, value in kernel.derive(values).items():
            is_vector = isinstance(value, np.ndarray) and value.ndim
            arguments[name] = value.reshape(-1, 1) if is_vector else value
        for name in kernel.matrices:
            arguments[name] = self._matrix(node.params[name])[None]
        return Params(**arguments)

    def _matrix(self, matrix):
        if not isinstance(matrix, ParameterRef):
            return matrix
        value = np.ravel(self.parameters[matrix.key])
        if matrix.index is not None:
            value = value[np.ravel(matrix.index)]
        return value.reshape(matrix.shape)

    def run(self, n_steps):
        """Advance; what is probed in each step."""
        return np.array([self.step() for _ in range(n_steps)])

    def step(self):
        """One step; the rows of all probes. What was not computed is not a number."""
        graph = self.graph
        values = np.full((graph.size, self.batch), np.nan)
        constant = graph.kind == Kind.CONSTANT
        values[constant] = graph.value[constant, None]
        for source in graph.parameters:
            values[source.elements] = np.reshape(self.parameters[source.key], (-1, 1))
        for source in graph.inputs:
            values[source.elements] = self.inputs[source.key][self.steps_run]
        values[self.states] = self.state
        for sums, nodes in self.order:
            self._sums(*sums, values)
            for number in nodes:
                self._node(number, values)
        self.state = values[graph.next[self.states]]
        self.steps_run += 1
        probed = [values[probe.elements] for probe in graph.probes]
        return np.concatenate([np.zeros((0, self.batch)), *probed])

    def _sums(self, sums, rows, terms, values):
        graph = self.graph
        values[sums] = graph.value[sums, None]
        np.add.at(values, rows, graph.scale[terms, None] * values[graph.src[terms]])

    def _node(self, number, values):
        node = self.graph.nodes[number]
        inputs = [values[elements] for elements in node.inputs]
        results = node.kernel.step(XP, self.arguments[number], *inputs)
        assert len(results) == len(node.outputs)
        for (start, size), result in zip(node.outputs, results):
            values[start : start + size] = np.broadcast_to(result, (size, self.batch))

    def held(self):
        """The present value of each of the graph's states: key -> ``(size, batch)``.

        Not a number where no STATE element holds it. (The last row is for elements -1.)
        """
        held = np.full((self.graph.size + 1, self.batch), np.nan)
        held[self.states] = self.state
        return {r.key: held[r.elements] for r in self.graph.states}


def topological_order(graph):
    """Sums and nodes such that all is computed before it is read.

    Nodes that call Python come in core's order, so each waits for the one before.

    Returns
    -------
    list of (ndarray, list)
        Sums and nodes, by number, that can be computed at the same time; round by round.
    """
    sums = np.flatnonzero(graph.kind == Kind.SUM).tolist()
    reads = {
        ("sum", e): graph.src[graph.ptr[e] : graph.ptr[e + 1]].tolist() for e in sums
    }
    maker = {e: ("sum", e) for e in sums}
    for i, node in enumerate(graph.nodes):
        reads["node", i] = [e for elements in node.inputs for e in elements.tolist()]
        for k in range(len(node.outputs)):
            maker.update(dict.fromkeys(node.elements(k).tolist(), ("node", i)))
    needs = {t: {maker[e] for e in read if e in maker} for t, read in reads.items()}
    python = [i for i, node in enumerate(graph.nodes) if node.kernel.host]
    python.sort(key=lambda i: graph.nodes[i].order)
    for before, after in zip(python, python[1:]):
        needs["node", after].add(("node", before))
    return [
        (
            np.array([e for kind, e in ready if kind == "sum"], int),
            [i for kind, i in ready if kind == "node"],
        )
        for ready in _rounds(needs)
    ]


def _rounds(needs):
    """Kahn's algorithm: in each round all that waits for nothing more."""
    waiting = {thing: len(others) for thing, others in needs.items()}
    followers = defaultdict(list)
    for thing, others in needs.items():
        for other in others:
            followers[other].append(thing)
    ready = [thing for thing, count in waiting.items() if not count]
    done = 0
    while ready:
        yield ready
        done += len(ready)
        candidates = [f for thing in ready for f in followers[thing]]
        for follower in candidates:
            waiting[follower] -= 1
        ready = [f for f in dict.fromkeys(candidates) if not waiting[f]]
    assert done == len(needs), "the graph has a cycle"


# -- dependencies, edge by edge


def edges(graph):
    """Pairs (element, element computed from it in the same step)."""
    pairs = list(zip(graph.src.tolist(), graph.term_owner.tolist()))
    for node in graph.nodes:
        outputs = [e for k in range(len(node.outputs)) for e in node.elements(k)]
        inputs = [e for elements in node.inputs for e in elements]
        pairs += [(a, b) for a in inputs for b in outputs]
    return pairs


def reach(start, pairs):
    """All elements that paths from ``start`` lead to."""
    reached, followers = set(np.flatnonzero(start)), {}
    for a, b in pairs:
        followers.setdefault(a, []).append(b)
    waiting = list(reached)
    while waiting:
        for b in followers.get(waiting.pop(), ()):
            if b not in reached:
                reached.add(b)
                waiting.append(b)
    return np.isin(np.arange(start.size), list(reached))
