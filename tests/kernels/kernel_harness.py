"""One harness that tests every kernel against core Nengo.

A *case* builds a few of core's operators over hand-made signals (a `Bench`), with data
for the inputs and with signals to watch. `nengo.Simulator` runs the very same operators,
so what is compared is the meaning of an operator, not of a copy of it:

- `trajectory` runs a bench for many steps in core, `simulate` in one of our tiers;
- `one_step` applies a step to the states that core was in, all steps side by side.

``kernel_gradients.py`` compares gradients with differences, ``kernel_coverage.py`` knows
what must have a case, and the cases are in ``kernel_cases.py``; nothing here knows any
kernel. Benches are made of one case or of many: what compiles slowly is tested with many.
"""

from collections import defaultdict
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field

import nengo
import numpy as np
import tensorflow as tf
from nengo.builder import Model
from nengo.builder.signal import Signal

from nengo_dl.compiler.layout import WeightRef
from nengo_dl.compiler.lowering import LoweringOptions
from nengo_dl.compiler.pipeline import arrange, compile_model
from nengo_dl.compiler.plan import Stage
from nengo_dl.compiler.traits import Params
from nengo_dl.kernels.functions import item_generators
from nengo_dl.runtime.emit import whole_step
from nengo_dl.runtime.executor import Seen, StateStore, Task, executors, pack
from nengo_dl.runtime.numpy.namespace import NumpyNamespace
from nengo_dl.runtime.program import Program, Specialization
from nengo_dl.runtime.tensorflow.batch_first import turn_step
from nengo_dl.runtime.tensorflow.executor import TensorFlowExecutor
from nengo_dl.runtime.tensorflow.namespace import TensorFlowNamespace
from nengo_dl.surrogates import SpikeTraining

DT = 0.001
STEPS = 100
ITEMS = 3  # the largest batch: items of the data
SEED = 17  # of the simulators; batch item b has SEED + b

#: relative to the largest value of a signal: for one step, and after `STEPS` of them
ONE_STEP = {"float64": 1e-12, "float32": 1e-6}
MANY_STEPS = {"float64": 1e-11, "float32": 1e-5}


@dataclass(frozen=True)
class Case:
    """Something to test: operators on a bench.

    Parameters
    ----------
    name : str
    build : callable
        ``build(bench, variant)`` adds the operators; every variant has parameters of
        its own, and must still be merged with the others unless ``merges`` is False.
    merges : bool
        Whether two variants become one batch of each kernel.
    sensitive : float
        By how much the case magnifies rounding errors: a factor for the tolerances.
    own_state : bool
        Whether state is kept in another form than core's, so that no single step can
        start from a state that core was in.
    """

    name: str
    build: Callable
    merges: bool = True
    sensitive: float = 1.0
    own_state: bool = False


class Watch:
    """Stands where core has a probe: a signal that is recorded in each step."""

    sample_every = None

    def __init__(self, signal, label, sensitive):
        self.signal = signal
        self.label = label
        self.sensitive = sensitive


@dataclass
class Bench:
    """Operators with data for their inputs.

    Parameters
    ----------
    rough : bool
        Whether the data may lie on kinks of the operators, where they have no gradient.
    """

    rough: bool = True
    model: Model = field(default_factory=lambda: Model(dt=DT))
    data: dict = field(default_factory=dict)
    parameters: dict = field(default_factory=dict)
    rng: np.random.RandomState = None
    case: Case = None
    runs: dict = field(default_factory=dict)  # item -> what core has for each watch

    def build(self, case, variant):
        """Add one variant of a case."""
        self.rng = np.random.RandomState(sum(map(ord, case.name)) + 1000 * variant)
        self.case, self.label = case, f"{case.name}[{variant}]"
        case.build(self, variant)

    def values(self, *shape, low=-1.0, high=1.0):
        """Random numbers, the same in single and in double precision."""
        return single(self.rng.uniform(low, high, shape))

    def signal(self, initial, name="signal"):
        """A signal that starts with these values (a shape: with zeros)."""
        initial = np.zeros(initial) if isinstance(initial, tuple) else initial
        return Signal(single(initial), name=name)

    def feed(self, *shape, values=None):
        """A signal that is given from outside: ``(ITEMS, STEPS, *shape)``."""
        values = self.values(ITEMS, STEPS, *shape) if values is None else single(values)
        signal = Signal(np.zeros(values.shape[2:]), name="input")
        self.data[signal] = values
        return signal

    def parameter(self, *shape, values=None):
        """A signal that is an argument of the program, since it may be trained."""
        signal = self.signal(self.values(*shape) if values is None else values)
        self.parameters[signal] = signal.initial_value
        return signal

    def add(self, *operators):
        """Operators of core."""
        for op in operators:
            self.model.add_op(op)

    def watch(self, *signals):
        """Signals to compare."""
        for signal in signals:
            watch = Watch(signal, f"{self.label} {signal}", self.case.sensitive)
            self.model.probes.append(watch)
            self.model.sig[watch]["in"] = signal

    @property
    def watches(self):
        """What is compared, in order."""
        return self.model.probes

    def options(self, training=False):
        """How to lower the operators."""
        return LoweringOptions(
            training=training,
            spikes=SpikeTraining() if training else None,
            parameters=frozenset(self.parameters),
            inputs=frozenset(self.data),
        )


def single(values):
    """Round to single precision, in double precision."""
    return np.asarray(values, np.float32).astype(np.float64)


def bench_of(*cases, variants=1, rough=True):
    """A bench with so many variants of each case."""
    bench = Bench(rough)
    for case in cases:
        for variant in range(variants):
            bench.build(case, variant)
    return bench


def bench_of_network(network, sensitive=1.0, dt=DT):
    """A bench with the operators of a network, whose probes are watched."""
    bench = Bench(model=Model(dt=dt))
    bench.model.build(network)
    probes, bench.model.probes = bench.model.probes, []
    for probe in probes:
        watch = Watch(bench.model.sig[probe]["in"], str(probe), sensitive)
        bench.model.probes.append(watch)
        bench.model.sig[watch]["in"] = watch.signal
    return bench


# -- core ------------------------------------------------------------------------------


def trajectory(bench, item=0, states=()):
    """Run a bench in `nengo.Simulator`.

    Parameters
    ----------
    bench : Bench
    item : int
        Which batch item's data to run.
    states : list of Signal
        Signals that are rounded to single precision before each step, and recorded.

    Returns
    -------
    watched : list of (STEPS, size) array
        One for each of ``bench.watches``.
    before : list of (STEPS, size) array
        The values of ``states`` before each step.
    """
    watched = [[] for _ in bench.watches]
    before = [[] for _ in states]
    with numbers_of(bench, item):
        _run_core(bench, item, states, watched, before)
    return [np.array(w) for w in watched], [np.array(b) for b in before]


@contextmanager
def numbers_of(bench, item):
    """Generators of random numbers that lie in operators are those of a batch item."""
    kept = []
    for op in bench.model.operators:
        for rng in getattr(op, "state_extra", {}).values():
            kept.append((rng, rng.get_state()))
            rng.set_state(item_generators(rng, ITEMS)[item].get_state())
    yield
    for rng, state in kept:
        rng.set_state(state)


def _run_core(bench, item, states, watched, before):
    """Run core, and append to ``watched`` and ``before``."""
    with _not_probed(bench.model) as watches, np.errstate(all="ignore"):
        sim = nengo.Simulator(
            None, model=bench.model, seed=SEED + item, progress_bar=False, optimize=False
        )
        kept = list(zip([sim.signals[s] for s in states], before, strict=True))
        given = [(sim.signals[s], values[item]) for s, values in bench.data.items()]
        seen = [sim.signals[watch.signal] for watch in watches]
        with sim:
            for step in range(STEPS):
                for array, record in kept:
                    value = single(array)
                    _write(array, value)
                    record.append(value.ravel())
                for array, values in given:
                    _write(array, values[step])
                sim.step()
                for array, record in zip(seen, watched, strict=True):
                    record.append(array.ravel().copy())


@contextmanager
def _not_probed(model):
    """Let core not record what is watched here: each value twice."""
    probes, model.probes = model.probes, []
    try:
        yield probes
    finally:
        model.probes = probes


def _write(array, value):
    """Put a value where operators of core find it."""
    writeable = array.flags.writeable
    array.setflags(write=True)
    array[...] = value
    array.setflags(write=writeable)


# -- our tiers -------------------------------------------------------------------------


def program_of(bench, dtype, batch):
    """A program for a bench, its processes seeded."""
    parameters = {s: v.astype(dtype) for s, v in bench.parameters.items()}
    program = Program(bench.model, parameters, batch, dtype, jit=True)
    program.is_open = bool(parameters)
    program.reset(SEED)
    return program


def every_step(chunks):
    """What is probed in each step, ``(steps, rows, batch)``, as a run goes on.

    Programs tell which steps probes were read in; tiers without sampled probes need not.
    """
    for chunk in chunks:
        if isinstance(chunk, Seen):
            ((rows, _, sampled),) = chunk.parts
            assert not sampled
            chunk = rows
        yield chunk


def simulate(bench, tier, dtype, batch, n_steps=STEPS):
    """Run a bench in one of our tiers: ``(batch, n_steps, size)`` for each watch.

    The tier "program" is what a `Program` chooses that was told to compile.
    """
    program = program_of(bench, dtype, batch)
    data = {s: d[:batch].reshape(batch, STEPS, -1) for s, d in bench.data.items()}
    if tier == "program":
        chunks = program.run(0, n_steps, data)
    else:
        runner = tier_of(program, bench, tier)
        runner.feed.use(data, 0)
        runner.load()
        chunks = runner.run(0, n_steps)
    rows = np.concatenate(list(every_step(chunks)))
    assert rows.dtype == dtype
    return [rows[:, a:b].transpose(2, 0, 1) for _, a, b in program.probe_rows]


def tier_of(program, bench, tier):
    """One of the tiers for a bench, whatever the program itself would choose."""
    use = Specialization(open=bool(bench.parameters), fed=frozenset(bench.data))
    direct = tier in ("numpy", "native")
    layout = program.layout(use, fused=direct)
    feed, weights = program.feed(use, layout), program.weights(layout)
    task = Task(layout, feed, program.store, weights)
    if direct:
        return executors.find(tier).make(task)
    return TensorFlowExecutor(task, jit=tier == "jitted")


def merged(bench):
    """How many nodes each batch of a bench's step has, by the name of its kernel."""
    graph = compile_model(bench.model, bench.options()).graph
    layout = arrange(graph, fused=True)
    found = defaultdict(list)
    for batch in layout.plan.batches[Stage.LOOP]:
        if batch.nodes:
            found[batch.kernel.name].append(len(batch.nodes))
    return {name: sorted(counts) for name, counts in found.items()}


def mismatches(watches, ours, theirs, tolerances, dtype):
    """Where two simulations differ by more than the tolerance, in words."""
    found = []
    for watch, mine, core in zip(watches, ours, theirs, strict=True):
        assert mine.shape == core.shape
        limit = tolerances[dtype] * watch.sensitive * scale(core)
        error = np.abs(mine - core).max(initial=0)
        if not error <= limit:  # nor if it is not a number
            found.append(f"{watch.label}: {error:.1e}, expected {limit:.1e} at most")
    return found


def assert_equals_core(bench, tier="numpy", dtype="float64", batch=ITEMS):
    """Compare many steps with core, item by item.

    Returns
    -------
    list of (batch, STEPS, size) array
        What core has for each watch.
    """
    for item in range(batch):
        if item not in bench.runs:
            bench.runs[item] = trajectory(bench, item)[0]
    runs = [bench.runs[item] for item in range(batch)]
    core = [np.stack(watched) for watched in zip(*runs)]
    ours = simulate(bench, tier, dtype, batch)
    assert mismatches(bench.watches, ours, core, MANY_STEPS, dtype) == []
    return core


# -- one step, by itself ---------------------------------------------------------------


class Step:
    """One step of a bench as a function of (state, inputs, parameters).

    Nothing is simplified, so every kernel is applied as the operators say. The columns
    of all arrays are independent of each other.
    """

    def __init__(self, bench, columns, training=False):
        self.bench = bench
        self.columns = columns
        options = bench.options(training)
        compiled = compile_model(bench.model, options, passes=())
        self.runs_ahead = bool(compiled.sources)
        self.layout = arrange(compiled.graph, fused=True)
        self.function = whole_step(self.layout, columns)
        held = [slot for slot in self.layout.states if (slot.carry >= 0).any()]
        self.states = [slot.key for slot in held]

    def carry(self, dtype, values=None):
        """Carried arrays that hold these values of the states, ``(size, columns)``."""
        store = StateStore(self.columns, dtype)
        if values is not None:
            for signal, value in zip(self.states, values, strict=True):
                store.values[signal] = value.astype(dtype)
        return store.load(self.layout.states, self.layout.carry)

    def inputs(self, dtype, data=None):
        """What is given to the step, ``(rows, columns)``; ``data``: signal -> array."""
        rows = np.zeros((self.layout.n_inputs, self.columns), dtype)
        for source in self.layout.inputs:
            if source.key in (data or {}):
                rows[source.start : source.start + source.size] = data[source.key]
        return rows

    def weights(self, dtype):
        """The arguments of the program."""
        values = self.bench.parameters.__getitem__
        return [pack(weight, values, dtype) for weight in self.layout.weights]

    def kernels(self):
        """The kernels that the step applies."""
        return {group.kernel for group in self.layout.groups()}

    def applications(self, dtype):
        """(kernel, its parameters, sizes of inputs, sizes of outputs) of each batch."""
        weights = self.weights(dtype)
        for group in self.layout.groups():
            values = {
                name: weights[v.number] if isinstance(v, WeightRef) else v
                for name, v in group.params.items()
            }
            read = [read.size for read in group.reads]
            written = [self.layout.sizes[tensor] for tensor in group.outputs]
            yield group.kernel, Params(**values), read, written

    def nodes(self):
        """All nodes of the graph."""
        return self.layout.plan.graph.nodes

    def watched(self, y):
        """The rows of each watch."""
        return [
            y[first : first + int(np.prod(shape))]
            for _, first, shape in self.layout.probes
        ]


NAMESPACES = {
    "numpy": lambda dtype: NumpyNamespace(dtype),
    "tensorflow": lambda dtype: TensorFlowNamespace(dtype, fast=False),
    "tensorflow fast": lambda dtype: TensorFlowNamespace(dtype, fast=True),
    "batch first": lambda dtype: TensorFlowNamespace(dtype, fast=True),
}


def turned(function):
    """A step as of `.turn_step`, with arguments and results as of the step itself."""
    inner = turn_step(function)

    def step(xp, carry, x, weights):
        carry = [tf.transpose(c) for c in carry]
        following, y = inner(xp, carry, tf.transpose(x), weights)
        return [tf.transpose(c) for c in following], y

    return step


def one_step(bench, namespace, dtype):
    """One step from each of the states that core went through.

    Returns
    -------
    ours, core's : lists of (size, columns) arrays, one for each watch
    """
    step, values, data, expected = core_steps(bench)
    xp = NAMESPACES[namespace](dtype)
    carry, weights = step.carry(dtype, values), step.weights(dtype)
    function = turned(step.function) if namespace == "batch first" else step.function
    with np.errstate(all="ignore"):
        _, y = function(xp, carry, step.inputs(dtype, data), weights)
    return step.watched(np.asarray(y)), expected


def core_steps(bench):
    """A step, its states and inputs at all steps of core, and what core made of them."""
    if not hasattr(bench, "core_steps"):
        step = Step(bench, ITEMS * STEPS)
        runs = [trajectory(bench, item, step.states) for item in range(ITEMS)]
        expected = [np.concatenate(w).T for w in zip(*(run[0] for run in runs))]
        before = [np.concatenate(b).T for b in zip(*(run[1] for run in runs))]
        data = {s: d.reshape(ITEMS * STEPS, -1).T for s, d in bench.data.items()}
        numbers = np.tile(np.arange(1.0, STEPS + 1), ITEMS)
        data[bench.model.step], data[bench.model.time] = numbers, numbers * DT
        bench.core_steps = step, before, data, expected
    return bench.core_steps


def scale(array):
    """The largest magnitude, or one."""
    return float(np.abs(array).max(initial=0)) or 1.0
