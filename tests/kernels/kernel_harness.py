"""One harness that tests every kernel against core Nengo.

A *case* builds a few of core's operators over hand-made signals (a `Bench`), with data
for the inputs and with signals to watch. `nengo.Simulator` runs the very same operators,
so what is compared is the meaning of an operator, not of a copy of it:

- `trajectory` runs a bench for many steps in core, `simulate` in one of our tiers;
- `one_step` applies a step to the states that core was in, all steps side by side;
- `gradient_errors` compares gradients with central differences.

Benches are made of one case or of many: what compiles slowly is tested with many. Cases
are in ``kernel_cases.py``; nothing here knows any kernel.
"""

import importlib
import pkgutil
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import nengo
import numpy as np
import tensorflow as tf
from nengo.builder import Model
from nengo.builder.neurons import SimNeurons
from nengo.builder.processes import SimProcess
from nengo.builder.signal import Signal

from nengo_dl import kernels
from nengo_dl.compiler import registry
from nengo_dl.compiler.layout import WeightRef
from nengo_dl.compiler.lowering import LoweringOptions
from nengo_dl.compiler.pipeline import arrange, compile_model
from nengo_dl.compiler.stages import Stage
from nengo_dl.compiler.traits import Kernel, Params
from nengo_dl.kernels.neurons.base import NeuronKernel, neuron_kernels
from nengo_dl.kernels.processes import process_rules
from nengo_dl.runtime.emit import whole_step
from nengo_dl.runtime.numpy_namespace import NumpyNamespace
from nengo_dl.runtime.program import Program, Specialization
from nengo_dl.runtime.state import StateStore
from nengo_dl.runtime.tensorflow_tier import TensorFlowNamespace
from nengo_dl.runtime.tiers import NumpyTier, TensorFlowTier, pack

DT = 0.001
STEPS = 100
ITEMS = 3  # the largest batch: items of the data
SEED = 17  # of the simulators; batch item b has SEED + b

#: relative to the largest value of a signal: for one step, and after `STEPS` of them
ONE_STEP = {"float64": 1e-12, "float32": 1e-6}
MANY_STEPS = {"float64": 1e-11, "float32": 1e-5}

#: states at which gradients are taken, and how far they may be off
POINTS, GRADIENT = 16, 1e-6


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
    """

    name: str
    build: Callable
    merges: bool = True
    sensitive: float = 1.0


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
    sim = nengo.Simulator(
        None, model=bench.model, seed=SEED + item, progress_bar=False, optimize=False
    )
    with sim, np.errstate(all="ignore"):
        for step in range(STEPS):
            for signal, record in zip(states, before, strict=True):
                value = single(sim.signals[signal])
                _write(sim.signals, signal, value)
                record.append(value.ravel())
            for signal, values in bench.data.items():
                _write(sim.signals, signal, values[item, step])
            sim.step()
            for watch, record in zip(bench.watches, watched, strict=True):
                record.append(sim.signals[watch.signal].ravel().copy())
    return [np.array(w) for w in watched], [np.array(b) for b in before]


def _write(signals, signal, value):
    """Put a value where operators of core find it."""
    array = signals[signal]
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
    rows = np.concatenate(list(chunks))
    assert rows.dtype == dtype
    return [rows[:, a:b].transpose(2, 0, 1) for _, a, b in program.probe_rows]


def tier_of(program, bench, tier):
    """One of the tiers for a bench, whatever the program itself would choose."""
    use = Specialization(open=bool(bench.parameters), fed=frozenset(bench.data))
    layout = program.layout(use, fused=tier == "numpy")
    feed, weights = program.feed(use, layout), program.weights(layout)
    if tier == "numpy":
        return NumpyTier(layout, feed, program.store, weights)
    jit = tier == "jitted"
    return TensorFlowTier(layout, feed, program.store, weights, jit=jit)


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
        rows = np.zeros((self.layout.n_given, self.columns), dtype)
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
}


def one_step(bench, namespace, dtype):
    """One step from each of the states that core went through.

    Returns
    -------
    ours, core's : lists of (size, columns) arrays, one for each watch
    """
    step, values, data, expected = _core_steps(bench)
    xp = NAMESPACES[namespace](dtype)
    carry, weights = step.carry(dtype, values), step.weights(dtype)
    with np.errstate(all="ignore"):
        _, y = step.function(xp, carry, step.inputs(dtype, data), weights)
    return step.watched(np.asarray(y)), expected


def _core_steps(bench):
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


# -- gradients -------------------------------------------------------------------------


@dataclass
class Point:
    """Where gradients are taken: a step, its arguments, and factors for its results."""

    step: Step
    arguments: list
    factors: list

    @classmethod
    def of(cls, bench, mixed=True):
        """States that core went through, and the inputs of those steps.

        States are ``mixed`` with their mean, lest one is exactly on a kink.
        """
        chosen = np.linspace(0, ITEMS * STEPS - 1, POINTS).astype(int)
        _, before, data, _ = _core_steps(bench)
        step = Step(bench, POINTS)
        data = {signal: values[..., chosen] for signal, values in data.items()}
        rng = np.random.RandomState(5)
        carry = step.carry("float64", [values[:, chosen] for values in before])
        share = [mixed * rng.uniform(0.05, 0.2, c.shape) for c in carry]
        pairs = zip(carry, share, strict=True)
        carry = [c + s * (c.mean(1, keepdims=True) - c) for c, s in pairs]
        arguments = [carry, step.inputs("float64", data), step.weights("float64")]
        following, y = step.function(NumpyNamespace("float64"), *arguments)
        factors = [rng.normal(size=np.shape(a)) for a in (*following, y)]
        factors = [f / scale(a) for f, a in zip(factors, (*following, y), strict=True)]
        return cls(step, arguments, factors)

    def flat(self):
        """All arguments: carried arrays, inputs, weights."""
        carry, x, weights = self.arguments
        return [*carry, x, *weights]

    def objective(self, xp, *arguments):
        """A weighted sum of all results, a number."""
        n = len(self.arguments[0])
        carry, x, weights = list(arguments[:n]), arguments[n], list(arguments[n + 1 :])
        following, y = self.step.function(xp, carry, x, weights)
        total = 0.0
        for factor, result in zip(self.factors, (*following, y), strict=True):
            total = total + xp.sum(xp.reshape(result * factor, (-1,)), 0)
        return total


def scale(array):
    """The largest magnitude, or one."""
    return float(np.abs(array).max(initial=0)) or 1.0


def analytic(point, fast, jit=False):
    """Gradients of `Point.objective` with respect to all its arguments."""
    xp = TensorFlowNamespace("float64", fast=fast)

    def gradients(*arguments):
        with tf.GradientTape() as tape:
            tape.watch(arguments)
            value = xp.constant(point.objective(xp, *arguments))
        return tape.gradient(
            value, arguments, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )

    function = tf.function(gradients, jit_compile=True) if jit else gradients
    found = function(*[tf.constant(a) for a in point.flat()])
    return [tf.convert_to_tensor(g).numpy() for g in found]


def gradient_errors(point, gradients, directions=3, width=1e-6):
    """How far gradients are from central differences, relative to their size.

    Every argument is moved by itself, in random directions.

    Returns
    -------
    list of float, one for each argument
    """
    xp, flat = NumpyNamespace("float64"), point.flat()
    rng = np.random.RandomState(6)
    errors = []
    for i, (argument, gradient) in enumerate(zip(flat, gradients, strict=True)):
        worst = 0.0
        for _ in range(directions if argument.size else 0):
            direction = rng.normal(size=argument.shape) * scale(argument)

            def value(distance, i=i, direction=direction):
                moved = [*flat[:i], flat[i] + distance * direction, *flat[i + 1 :]]
                return float(point.objective(xp, *moved))

            numeric = (value(width) - value(-width)) / (2 * width)
            size = max(np.abs(gradient * direction).sum(), 1e-2)
            worst = max(worst, abs(numeric - (gradient * direction).sum()) / size)
        errors.append(worst)
    return errors


# -- what there is to test -------------------------------------------------------------


def all_kernels():
    """Every kernel class of the package that can be applied."""
    for module in pkgutil.walk_packages(kernels.__path__, kernels.__name__ + "."):
        importlib.import_module(module.name)
    found, classes = [], [Kernel]
    while classes:
        cls = classes.pop()
        classes += cls.__subclasses__()
        if is_ours(cls) and cls.step is not Kernel.step and cls is not NeuronKernel:
            found.append(cls)
    return sorted(set(found), key=lambda cls: cls.__name__)


def is_ours(cls):
    """Whether a class is part of the package, and not of some test."""
    return cls.__module__.startswith(kernels.__name__ + ".")


def registered():
    """Everything that must have a case: kernels, operators, neurons, processes."""
    rules = registry.operators.items()
    return {
        "kernel": set(all_kernels()),
        "operator": {op for op, rule in rules if is_ours(type(rule))},
        "neuron type": {
            t for t, kernel in neuron_kernels.items() if is_ours(type(kernel))
        },
        "process": {p for p, rule in process_rules.items() if is_ours(rule)},
    }


@cache
def covered_by(case):
    """What a case tests, in the terms of `registered`."""
    bench = bench_of(case)
    operators = bench.model.operators
    return {
        "kernel": {type(kernel) for kernel in Step(bench, 1).kernels()},
        "operator": {type(op) for op in operators},
        "neuron type": {type(op.neurons) for op in operators if type(op) is SimNeurons},
        "process": {type(op.process) for op in operators if type(op) is SimProcess},
    }


def forgotten(wanted, cases):
    """What has no case: names, by kind."""
    return [
        f"{kind} {cls.__name__}"
        for kind, classes in wanted.items()
        for cls in sorted(classes, key=lambda cls: cls.__name__)
        if not any(cls in covered_by(case)[kind] for case in cases)
    ]


@cache
def runs_python(case, ahead=False):
    """Whether a case calls Python in each step (or ``ahead`` of the steps).

    A step that calls Python cannot be compiled; and Python may remember other steps.
    """
    step = Step(bench_of(case), 1)
    return (ahead and step.runs_ahead) or any(kernel.host for kernel in step.kernels())


def benches_without_merging(cases):
    """Sort cases into as few groups as possible so that none is merged with another."""
    groups = []
    for case in cases:
        mine = set(_merge_keys(case))
        for members, taken in groups:
            if not mine & taken:
                members.append(case)
                taken |= mine
                break
        else:
            groups.append(([case], mine))
    return [tuple(members) for members, _ in groups]


def _merge_keys(case):
    bench = bench_of(case)
    graph = compile_model(bench.model, bench.options()).graph
    return [node.kernel.merge_key(node) for node in graph.nodes]
