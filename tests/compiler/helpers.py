"""Compiled networks and handmade graphs that the tests of the compiler share."""

from dataclasses import dataclass, replace
from functools import cache

import nengo
import numpy as np

from nengo_dl import kernels  # noqa: F401, registers all of them
from nengo_dl.compiler.graph import Graph, GraphBuilder, Kind, ParameterRef, Reading
from nengo_dl.compiler.graph_verify import verify
from nengo_dl.compiler.lowering import Lowered, LoweringOptions, lower
from nengo_dl.compiler.traits import Kernel
from nengo_dl.kernels.algebra import MATVEC, PRODUCT, VARYING_MATVEC
from nengo_dl.kernels.functions import PYTHON
from nengo_dl.kernels.learning.pes import PES_DELTA
from nengo_dl.kernels.synapses.linear_filter import ONE_STATE
from nengo_dl.runtime.host import InputFeed
from tests import networks
from tests.compiler.reference import interpret

N_STEPS = 50
SEED = 1

NETWORKS = {
    "lif": networks.recurrent,
    "spiking_relu": lambda: networks.recurrent(nengo.SpikingRectifiedLinear()),
    "tanh": lambda: networks.recurrent(nengo.Tanh(), learning=False),
    "python": networks.python_functions,
    "python_apart": lambda: networks.python_functions(feedback=False),
    "python_several": lambda: networks.python_functions(several=True),
    "processes": networks.processes,
    "rates": lambda: networks.rates(nengo.LIFRate()),
    "filtered_rates": lambda: networks.rates(nengo.RectifiedLinear(), synapse=0.01),
    "sigmoid": lambda: networks.rates(nengo.Sigmoid()),
    "mixed": networks.mixed_parameters,
}


@dataclass(frozen=True)
class Case:
    """A lowered network, what it is fed, and what its probes report.

    ``expected`` is what the interpreter makes of the lowered graph, ``core`` what
    ``nengo.Simulator`` makes of the network; both ``(steps, rows, batch)``, where
    ``core`` has the first batch item alone. ``signals`` are core's at the end.
    """

    model: nengo.builder.Model
    lowered: Lowered
    hosts: dict
    inputs: dict
    parameters: dict
    core: np.ndarray
    signals: dict
    expected: np.ndarray

    @property
    def graph(self) -> Graph:
        return self.lowered.graph

    @property
    def batch(self) -> int:
        return self.expected.shape[2]

    def arguments(self):
        """What `interpret` and the programs need besides a graph or layout.

        Starts the network's own processes anew.
        """
        seed_processes(self.lowered, self.hosts, self.batch)
        return {
            "inputs": self.inputs,
            "n_steps": N_STEPS,
            "parameters": self.parameters,
            "batch": self.batch,
        }

    def run(self, graph: Graph):
        """What the interpreter makes of a graph for this network."""
        return interpret(graph, **self.arguments())


def case(name: str, opened: bool = False) -> Case:
    """One of `NETWORKS`, made once; ``opened``: what may be trained is a parameter.

    The values of parameters are not those that the network was built with, so nobody
    can use those by mistake; ``core`` knows nothing of that.
    """
    return _case(name, opened)


@cache
def _case(name, opened):
    return make_case(NETWORKS[name](), opened)


def make_case(net: nengo.Network, opened: bool = False) -> Case:
    """Run a network in core, and lower it."""
    with nengo.Simulator(net, seed=SEED, optimize=False, progress_bar=False) as sim:
        model = sim.model
        core = np.array([_core_step(sim) for _ in range(N_STEPS)])[:, :, None]
        signals = {signal: np.copy(value) for signal, value in sim.signals.items()}
    parameters = trainable(model) if opened else {}
    hosts: dict = {}
    options = LoweringOptions(parameters=frozenset(parameters), hosts=hosts)
    lowered = lower(model, options)
    inputs = network_inputs(model, lowered, hosts, batch=2)
    unknown = np.zeros((0, 0, 2))
    made = Case(model, lowered, hosts, inputs, parameters, core, signals, unknown)
    return replace(made, expected=made.run(lowered.graph))


def _core_step(sim):
    sim.step()
    probed = [sim.signals[sim.model.sig[p]["in"]] for p in sim.model.probes]
    return np.concatenate([np.ravel(value) for value in probed])


def trainable(model):
    """Encoders, biases and weights that no operator changes, with other values."""
    rng = np.random.RandomState(0)
    written = {s.base for op in model.operators for s in (*op.sets, *op.incs)}
    written |= {s.base for op in model.operators for s in op.updates}
    values = {}
    for built in model.sig.values():
        for attribute in ("encoders", "bias", "weights"):
            signal = built.get(attribute)
            if signal is not None and signal.base not in written:
                values[signal.base] = signal.base.initial_value * rng.uniform(
                    0.8, 1.2, size=signal.base.shape
                )
    return values


def seed_processes(lowered, hosts, batch):
    """As a simulator's reset; the first batch item as core with the seed `SEED`."""
    rngs = [np.random.RandomState(SEED + b) for b in range(batch)]
    for op in lowered.order:
        process = getattr(op, "process", None)
        if process is not None:
            own = [process.get_rng(rng) for rng in rngs]
            if op in hosts:
                hosts[op].reset(own)


def network_inputs(model, lowered, hosts, batch):
    """What the network's own sources give: signal -> ``(steps, size, batch)``.

    The second batch item gets other values (the same for processes with a seed).
    """
    seed_processes(lowered, hosts, batch)
    arguments = (hosts, model.dt, batch, float)
    rows = InputFeed.of_sources(lowered.sources, *arguments).chunk(0, N_STEPS)
    steps = np.broadcast_to(np.arange(1.0, N_STEPS + 1)[:, None, None], (N_STEPS, 1, 2))
    inputs = {model.step.base: steps, model.time.base: steps * model.dt}
    first = 0
    for source in lowered.sources:
        if source.signal is not None:
            values = rows[:, first : first + source.signal.size].copy()
            values[:, :, 1] *= 0.7
            inputs[source.signal] = values
            first += source.signal.size
    return inputs


# -- handmade graphs


def probe(*arrays):
    """One reading of all these elements."""
    elements = np.concatenate([np.ravel(a) for a in arrays]).astype(int)
    return Reading("probe", elements, elements.shape)


def copy(builder, elements, bias=0.0, scale=1.0):
    """Sums of one term each."""
    n = len(elements)
    rows = np.arange(n)
    return builder.sum(np.full(n, bias), rows, elements, np.full(n, float(scale)))


def add(builder, *arrays, bias=0.0):
    """The sum of arrays of elements of one size."""
    n = len(arrays[0])
    rows = np.tile(np.arange(n), len(arrays))
    source = np.concatenate(arrays)
    return builder.sum(np.full(n, bias), rows, source, np.ones(source.size))


def matvec(builder, matrix, x):
    """A product with a matrix (an array or a `ParameterRef`)."""
    return builder.node(MATVEC, [x], [matrix.shape[0]], {"A": matrix})[0]


def random_inputs(graph, rng, n_steps=N_STEPS, batch=2):
    """Values for all inputs of a graph."""
    size = {source.key: source.size for source in graph.inputs}
    return {k: rng.uniform(-1, 1, size=(n_steps, n, batch)) for k, n in size.items()}


def random_parameters(graph, rng):
    """Values for all parameters, those of matrices included."""
    values = {s.key: rng.uniform(-1, 1, size=s.size) for s in graph.parameters}
    for node in graph.nodes:
        for matrix in node.params.values():
            if isinstance(matrix, ParameterRef) and matrix.key not in values:
                values[matrix.key] = rng.uniform(-1, 1, size=matrix.shape)
    return values


class Twist(Kernel):
    """Two outputs, of which the first is mostly state: for tests of stages and plan."""

    name = "twist"
    vectors = ("gain",)

    def step(self, xp, p, x, y):
        return xp.tanh(y + p.gain * x), xp.tanh(x - 0.5 * y)


class Squash(Kernel):
    """A bounded function that is not zero at zero."""

    name = "squash"

    def step(self, xp, p, x):
        return (xp.tanh(x + 0.1),)


class Noise(Kernel):
    """Equals no other node: stands for what draws random numbers."""

    name = "noise"

    def fingerprint(self, node):
        return None

    def step(self, xp, p, x):
        return (x * 2,)


TWIST, SQUASH, NOISE = Twist(), Squash(), Noise()


class Recorder:
    """A Python function that writes down that it was called, and with what."""

    def __init__(self, log, name, sizes=()):
        self.log, self.name, self.sizes = log, name, sizes

    def __call__(self, arrays):
        self.log.append((self.name, [array.copy() for array in arrays]))
        total = sum(array.sum(0) for array in arrays)
        return [np.tile(np.sin(total), (size, 1)) for size in self.sizes]


def python_node(builder, log, name, inputs, sizes=(), **kwargs):
    """A node that calls a `Recorder`."""
    params = {"function": Recorder(log, name, sizes), "sizes": tuple(sizes)}
    return builder.node(PYTHON, inputs, sizes, params, label=name, **kwargs)


class RandomGraph:
    """A graph of random operations on what there is already; see `random_graph`."""

    def __init__(self, rng, log=None):
        self.rng = rng
        self.log = log
        self.builder = GraphBuilder()
        self.next_states, self.states = [], []
        self.matrices = [rng.uniform(-0.5, 0.5, size=(3, 6)), np.zeros((2, 4))]
        self.matrices += [np.eye(3), rng.uniform(size=(6, 6)) * (rng.rand(6, 6) < 0.3)]
        self.pool = np.zeros(0, int)

    def offer(self, elements):
        self.pool = np.concatenate([self.pool, np.ravel(elements)])

    def pick(self, size):
        """Elements one after the other, or any."""
        first = self.rng.randint(self.pool.size)
        near = self.pool[first : first + size]
        if near.size == size and self.rng.rand() < 0.5:
            return near
        return self.rng.choice(self.pool, size=size)

    def make(self, n_operations):
        b, rng = self.builder, self.rng
        for k in range(2):
            self.offer(b.input(f"input {k}", rng.randint(1, 5)))
        self.offer(b.constant([0, 0, 1, 0.5]))
        self.offer(b.parameter("parameter", 3))
        for n in rng.randint(1, 5, size=4):
            # among equal first values some states will be equal for ever
            state = b.state(rng.choice([0.0, 0.0, 0.25], size=n))
            self.states.append(state)
            self.offer(state)
        kinds = [
            self.sum,
            self.sum,
            self.copies,
            self.matrix,
            self.matrix,
            self.reference,
        ]
        kinds += [
            self.product,
            self.squash,
            self.filter,
            self.outer,
            self.twist,
            self.twin,
        ]
        kinds += [] if self.log is None else [self.python, self.sink]
        for make in rng.choice(kinds, size=n_operations):
            self.offer(make())
        next_states = [(state, self.bounded(state.size)) for state in self.states]
        probes = [Reading(f"probe {k}", self.pick(4), (4,)) for k in range(3)]
        states = [Reading(f"state {k}", s, s.shape) for k, s in enumerate(self.states)]
        return b.build(probes, states, [*next_states, *self.next_states])

    def bounded(self, size):
        """The next value of a state: some that cannot grow from step to step."""
        if self.rng.rand() < 0.3:
            return self.rng.choice(self.pool[: 12 + size], size=size)
        return self.squash(size)

    def sum(self):
        rng, n = self.rng, self.rng.randint(1, 6)
        n_terms = rng.randint(0, 4 * n)
        bias = rng.choice([0.0, 0.0, 0.3], size=n)
        rows = rng.randint(n, size=n_terms)
        scale = rng.choice([0.0, 1.0, 1.0, -0.5, 0.7], size=n_terms)
        return self.builder.sum(bias, rows, self.pick(n_terms), scale)

    def copies(self):
        return copy(self.builder, self.pick(self.rng.randint(1, 6)))

    def matrix(self):
        matrix = self.matrices[self.rng.randint(len(self.matrices))]
        return matvec(self.builder, matrix, self.pick(matrix.shape[1]))

    def reference(self):
        part = None if self.rng.rand() < 0.5 else np.arange(7, -1, -1)
        ref = ParameterRef("weights" if part is None else "partly", (2, 4), part)
        return matvec(self.builder, ref, self.pick(4))

    def product(self):
        n = self.rng.randint(1, 5)
        arrays = [self.squash(n), self.squash(n)]
        return self.builder.node(PRODUCT, arrays, [n], {})[0]

    def squash(self, size=None):
        size = self.rng.randint(1, 5) if size is None else size
        return self.builder.node(SQUASH, [self.pick(size)], [size], {})[0]

    def filter(self):
        n = self.rng.randint(1, 4)
        params = {"a": np.full(n, 0.8), "b": np.full(n, 0.2)}
        state = self.builder.state(np.zeros(n))
        (y,) = self.builder.node(ONE_STATE, [self.pick(n), state], [n], params)
        self.next_states.append((state, y))
        return y

    def outer(self):
        """An outer product that is carried to the next step, and applied there."""
        error, activity, x = self.squash(3), self.squash(4), self.squash(4)
        state = self.builder.state(np.zeros(12))
        params = {"shape": (3, 4), "factor": -0.1}
        (delta,) = self.builder.node(PES_DELTA, [error, activity], [12], params)
        self.next_states.append((state, delta))
        shape = {"shape": (3, 4)}
        return self.builder.node(VARYING_MATVEC, [state, x], [3], shape)[0]

    def twist(self):
        n = self.rng.randint(1, 4)
        state = self.builder.state(np.zeros(n))
        params = {"gain": self.rng.uniform(-1, 1, size=n)}
        y, z = self.builder.node(TWIST, [self.pick(n), state], [n, n], params)
        self.next_states.append((state, y))
        return np.concatenate([y, z])

    def python(self):
        name = f"python {len(self.builder.nodes)}"
        return python_node(self.builder, self.log, name, [self.pick(3)], (2,))[0]

    def sink(self):
        name = f"sink {len(self.builder.nodes)}"
        python_node(self.builder, self.log, name, [self.pick(2), self.pick(1)])
        return np.zeros(0, int)

    def twin(self):
        """Once more what there is already, so that there is something to share."""
        nodes = [
            n for n in self.builder.nodes if n.kernel.name not in ("twist", "python")
        ]
        if not nodes:
            return self.copies()
        node = nodes[self.rng.randint(len(nodes))]
        sizes = [size for _, size in node.outputs]
        return self.builder.node(node.kernel, node.inputs, sizes, node.params)[0]


def random_graph(rng, n_operations=25, log=None):
    """A graph, values for its inputs and for its parameters.

    There are sums (with zero factors and constant terms), copies, products, sparse,
    dense and repeated matrices, matrices that are parameters, filters, outer products
    carried to the next step, and states that follow anything. With a ``log`` there are
    Python functions, too, which write their calls to it.
    """
    graph = RandomGraph(rng, log).make(n_operations)
    verify(graph, "random_graph")
    return graph, random_inputs(graph, rng, 12), random_parameters(graph, rng)


def kinds(graph):
    """Number of elements of each kind."""
    return {kind: int((graph.kind == kind).sum()) for kind in Kind}


def agree(allclose, actual, expected):
    """Equal to rounding; neither may be empty, or not a number."""
    assert expected.size
    assert np.isfinite(expected).all()
    assert allclose(actual, expected, atol=1e-12, rtol=1e-12)


def agree_on_graph(allclose, rng, graph, transform):
    """A pass keeps the probes of a graph fed with random values; gives what it made."""
    verify(graph, "the test")
    changed = transform(graph)
    verify(changed, "the pass")
    inputs, parameters = random_inputs(graph, rng, 8), random_parameters(graph, rng)
    expected = interpret(graph, inputs, 8, parameters, batch=2)
    agree(allclose, interpret(changed, inputs, 8, parameters, batch=2), expected)
    return changed


def agree_on_random_graphs(allclose, rng, transform, count=20):
    """A pass keeps the probes of random graphs, and a well-formed graph."""
    for _ in range(count):
        graph, inputs, parameters = random_graph(rng)
        expected = interpret(graph, inputs, 12, parameters)
        changed = transform(graph)
        verify(changed, "the pass")
        assert [p.key for p in changed.probes] == [p.key for p in graph.probes]
        agree(allclose, interpret(changed, inputs, 12, parameters), expected)


def agree_on_network(allclose, name, transform, opened=False):
    """A pass keeps a network's probes and a well-formed graph, which is returned."""
    it = case(name, opened)
    graph = transform(it.graph)
    verify(graph, "the pass")
    agree(allclose, it.run(graph), it.expected)
    return graph
