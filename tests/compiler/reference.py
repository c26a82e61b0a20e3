"""A slow interpreter of element graphs: the reference of all tests in this folder.

It needs no plan and no layout. It knows what the docstrings of `nengo_dl.compiler.graph`
and `nengo_dl.compiler.traits` say, and evaluates one node after the other.
"""

import heapq
from collections import defaultdict

import numpy as np

from nengo_dl.compiler.graph import Kind, ParameterRef
from nengo_dl.compiler.traits import Params
from nengo_dl.runtime.emit import loop_step, whole_step
from nengo_dl.runtime.numpy_namespace import NumpyNamespace
from nengo_dl.runtime.tiers import SequenceStages, pack

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
        self.order = topological_order(graph)
        self.arguments = [self._arguments(node) for node in graph.nodes]
        lasting = graph.kind == Kind.STATE
        self.states = np.flatnonzero(lasting)
        self.state = self._columns(graph.value[self.states])
        self.steps_run = 0

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
        for sums, node in self.order:
            if node is None:
                self._sums(sums, values)
            else:
                self._node(node, values)
        self.state = values[graph.next[self.states]]
        self.steps_run += 1
        probed = [values[probe.elements] for probe in graph.probes]
        return np.concatenate([np.zeros((0, self.batch)), *probed])

    def _sums(self, sums, values):
        graph = self.graph
        values[sums] = graph.value[sums, None]
        for e in sums:
            terms = slice(graph.ptr[e], graph.ptr[e + 1])
            values[e] += graph.scale[terms] @ values[graph.src[terms]]

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

    Nodes that call Python come in core's order, so each waits for the one before. Yields
    pairs (elements of sums, None) or (no elements, number of a node).
    """
    things = [("node", i) for i in range(len(graph.nodes))]
    things += [("sum", e) for e in np.flatnonzero(graph.kind == Kind.SUM).tolist()]
    maker = {}
    for i, node in enumerate(graph.nodes):
        for k in range(len(node.outputs)):
            maker.update(dict.fromkeys(node.elements(k).tolist(), ("node", i)))
    maker.update({e: ("sum", e) for name, e in things if name == "sum"})
    needs = {thing: set() for thing in things}
    for thing in things:
        needs[thing] |= {maker[e] for e in _read(graph, thing) if e in maker}
    python = [i for i, node in enumerate(graph.nodes) if node.kernel.host]
    python.sort(key=lambda i: graph.nodes[i].order)
    for before, after in zip(python, python[1:]):
        needs[("node", after)].add(("node", before))
    order = _sorted(needs)
    assert len(order) == len(things), "the graph has a cycle"
    return [(np.array([n]), None) if kind == "sum" else ((), n) for kind, n in order]


def _read(graph, thing):
    kind, number = thing
    if kind == "sum":
        return graph.src[graph.ptr[number] : graph.ptr[number + 1]].tolist()
    return np.concatenate([[], *graph.nodes[number].inputs]).astype(int).tolist()


def _sorted(needs):
    """Kahn's algorithm, always with the first thing that is ready."""
    waiting = {thing: len(others) for thing, others in needs.items()}
    followers = defaultdict(list)
    for thing, others in needs.items():
        for other in others:
            followers[other].append(thing)
    ready = [thing for thing, count in waiting.items() if not count]
    heapq.heapify(ready)
    order = []
    while ready:
        order.append(heapq.heappop(ready))
        for follower in followers[order[-1]]:
            waiting[follower] -= 1
            if not waiting[follower]:
                heapq.heappush(ready, follower)
    return order


# -- programs: what the interpreter is compared with


def given_rows(layout, inputs, n_steps, batch):
    """What a program is given from outside: ``(steps, rows, batch)``."""
    rows = [np.broadcast_to(inputs[s.key], (n_steps, s.size, batch)) for s in layout.inputs]
    for source, before in zip(layout.inputs, np.cumsum([0] + [r.shape[1] for r in rows])):
        assert source.start == before
    return np.concatenate([np.zeros((n_steps, 0, batch)), *rows], axis=1)


def program_weights(layout, parameters):
    """The program's arguments."""
    return [pack(w, (parameters or {}).__getitem__, float) for w in layout.weights]


def first_carry(layout, batch):
    """The arrays that are carried into the first step."""
    return [np.repeat(c[:, None], batch, axis=1) for c in layout.carry]


def run_fused(layout, inputs, n_steps, parameters=None, batch=None):
    """Run a layout of a single stage step by step; as `interpret`."""
    batch = batch or max((a.shape[2] for a in inputs.values()), default=1)
    step = whole_step(layout, batch)
    given = given_rows(layout, inputs, n_steps, batch)
    weights, carry = program_weights(layout, parameters), first_carry(layout, batch)
    out = []
    for t in range(n_steps):
        x = given[t] if layout.n_given else None
        shapes = [c.shape for c in carry]
        carry, y = step(XP, carry, x, weights)
        assert [c.shape for c in carry] == shapes
        out.append(y)
    return np.array(out)


def run_split(layout, inputs, n_steps, parameters=None, batch=None):
    """Run a layout with stages for all steps at once around its loop; as `interpret`."""
    batch = batch or max((a.shape[2] for a in inputs.values()), default=1)
    stages = SequenceStages(layout, batch)
    weights, carry = program_weights(layout, parameters), first_carry(layout, batch)
    tensors = stages.before(XP, given_rows(layout, inputs, n_steps, batch), weights)
    outputs = None
    if layout.has_loop:
        step, rows = loop_step(layout, batch), []
        for t in range(n_steps):
            x = tensors[0][t] if layout.before.result.size else None
            carry, y = step(XP, carry, x, weights)
            rows.append(y)
        outputs = np.array(rows)
    return stages.after(XP, tensors, outputs, weights)
