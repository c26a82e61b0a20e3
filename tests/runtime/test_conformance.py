"""Every array namespace and every executor against its contract.

Whoever adds one adds it to ``KINDS`` (executors that are registered are found) and, if it
has a namespace of its own, to ``NAMESPACES``.
"""

import inspect
from functools import cache

import nengo
import numpy as np
import pytest
from nengo.builder import Model
from nengo.exceptions import SimulationError, ValidationError

import nengo_dl
from nengo_dl.runtime import executor as sampling_rules
from nengo_dl.runtime.executor import (
    Capability,
    ExecutorKind,
    Executors,
    Sampling,
    Task,
    executors,
)
from nengo_dl.runtime.namespace import ArrayNamespace
from nengo_dl.runtime.program import Program, Specialization
from tests.random_networks import compare
from tests.runtime.eager import EagerKind
from tests.runtime.namespace_cases import CASES

KINDS = {name: executors.find(name) for name in executors.names}
KINDS["eager"] = EagerKind()

SEED, STEPS = 3, 30
TOLERANCE = {"float32": 2e-5, "float64": 1e-10}

FUNCTIONS = {
    name
    for name, value in vars(ArrayNamespace).items()
    if inspect.isfunction(value) and not name.startswith("_")
}


# -- namespaces ------------------------------------------------------------------------


def not_compiled(dtype):
    from nengo_dl.runtime.tensorflow.namespace import TensorFlowNamespace

    return TensorFlowNamespace(dtype, fast=False)


def batch_first(dtype):
    from nengo_dl.runtime.tensorflow.batch_first import BatchFirstNamespace

    return BatchFirstNamespace(KINDS["tensorflow"].namespace(dtype))


NAMESPACES = {
    "numpy": KINDS["numpy"].namespace,
    "tensorflow": KINDS["tensorflow"].namespace,
    "tensorflow, not compiled": not_compiled,
    "tensorflow, batch first": batch_first,
    "eager": KINDS["eager"].namespace,
}


def as_numpy(y):
    """A result as an ordinary array."""
    return np.asarray(y.plain() if hasattr(y, "plain") else y)


def test_every_function_of_the_contract_has_a_case():
    elsewhere = {"tensor_call"}  # test_tensor_function.py
    assert FUNCTIONS == {name for name, _, _ in CASES} | elsewhere
    assert all(inspect.getdoc(getattr(ArrayNamespace, name)) for name in FUNCTIONS)


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_namespaces_take_the_arguments_of_the_contract(namespace):
    xp = NAMESPACES[namespace]("float32")
    assert xp.dtype == np.float32
    for name in FUNCTIONS:
        contract = inspect.signature(getattr(ArrayNamespace, name))
        required = [
            p
            for p in list(contract.parameters.values())[1:]
            if p.default is inspect.Parameter.empty
        ]
        inspect.signature(getattr(xp, name)).bind(*required)


@pytest.mark.parametrize("batch", (1, 3))
@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("namespace", NAMESPACES)
def test_functions_equal_numpy(namespace, dtype, batch, rng, allclose):
    xp = NAMESPACES[namespace](dtype)
    x = rng.uniform(-2, 2, (6, batch)).astype(dtype)
    p = rng.uniform(0.2, 2, (6, batch)).astype(dtype)
    tolerance = {"float32": 1e-5, "float64": 1e-13}[dtype]
    for i, (name, step, expected) in enumerate(CASES):
        y = as_numpy(step(xp, xp.constant(x), xp.constant(p)))
        assert y.dtype == dtype, (i, name)
        assert allclose(y, expected(x, p), atol=tolerance, rtol=tolerance), (i, name)


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_rows_that_do_not_exist_are_refused(namespace):
    xp = NAMESPACES[namespace]("float32")
    x = xp.constant(np.zeros((3, 2)))
    for wrong in ([3], [-1], [0.5]):
        with pytest.raises(ValidationError):
            xp.take(x, np.array(wrong))


@pytest.mark.parametrize("namespace", NAMESPACES)
@pytest.mark.parametrize("padding", ("same", "valid"))
@pytest.mark.parametrize("groups", (1, 2))
def test_convolutions_are_those_of_the_reference(
    namespace, padding, groups, rng, allclose
):
    reference, xp = KINDS["numpy"].namespace("float64"), NAMESPACES[namespace]("float64")
    x, w = rng.normal(size=(2, 7, 6, 4)), rng.normal(size=(3, 2, 4 // groups, 6))
    expected = reference.conv(x, w, (2, 3), padding, groups)
    found = xp.conv(xp.constant(x), xp.constant(w), (2, 3), padding, groups)
    assert allclose(as_numpy(found), expected)
    w = rng.normal(size=(3, 2, 6, 5))
    expected = reference.conv_transpose(expected, w, (2, 3), padding, (7, 6))
    found = xp.conv_transpose(found, xp.constant(w), (2, 3), padding, (7, 6))
    assert allclose(as_numpy(found), expected)


# -- networks --------------------------------------------------------------------------


def neurons():
    """State, recurrence, and an input that may be given data."""
    with nengo.Network(seed=1) as net:
        net.inp = nengo.Node(lambda t: np.sin(40 * t))
        ens = nengo.Ensemble(8, 2, neuron_type=nengo.LIFRate(), seed=2)
        nengo.Connection(net.inp, ens[0])
        net.conn = nengo.Connection(ens, ens, synapse=0.01, transform=0.7)
        nengo.Probe(ens, synapse=0.02)
        nengo.Probe(ens.neurons)
    return net


def stateless():
    """No loop at all: what goes in comes out in the same step."""
    with nengo.Network(seed=1) as net:
        net.inp = nengo.Node(lambda t: [np.cos(t), t])
        out = nengo.Node(size_in=2)
        nengo.Connection(net.inp, out, transform=[[1, 2], [0, 1]], synapse=None)
        nengo.Probe(out, synapse=None)
    return net


def processes():
    """Random numbers, other ones for each batch item."""
    with nengo.Network(seed=1) as net:
        net.inp = nengo.Node(nengo.processes.WhiteNoise(seed=None), size_out=2)
        ens = nengo.Ensemble(5, 2, neuron_type=nengo.RectifiedLinear(), seed=2)
        nengo.Connection(net.inp, ens, synapse=0.01)
        nengo.Probe(ens, synapse=0.01)
    return net


def python(inside, calls=None):
    """Functions with input, which are part of a loop or are not, and one without.

    Each of them calls an object of its own: those that share one run step by step.
    """
    calls = dict.fromkeys(CALLED, abs) if calls is None else calls
    of_source, of_first, of_second = (calls[name] for name in CALLED)

    def source(t):
        of_source(1)
        return np.sin(30 * t)

    def first(t, x):
        of_first(1)
        return x * x + 0.1

    def second(t, x):
        of_second(1)
        return np.cos(x) + t

    with nengo.Network(seed=1) as net:
        net.inp = nengo.Node(source)
        a, b = nengo.Node(first, size_in=1), nengo.Node(second, size_in=1)
        nengo.Connection(net.inp, a, synapse=0.005)
        nengo.Connection(a, b, synapse=None)
        if inside:
            nengo.Connection(b, a, synapse=0.01, transform=0.5)
        # a filter behind them would put them between two parts of the loop
        nengo.Probe(b, synapse=0.003 if inside else None)
        nengo.Probe(a)
    return net


CALLED = ("source", "first", "second")

NETWORKS = {
    "neurons": (neurons, Capability.NONE),
    "stateless": (stateless, Capability.NONE),
    "processes": (processes, Capability.NONE),
    "python around": (lambda: python(False), Capability.PYTHON_AROUND_LOOP),
    "python inside": (lambda: python(True), Capability.PYTHON_IN_LOOP),
}

CASES_OF_KINDS = [
    pytest.param(kind, name, id=f"{kind.name}-{name}")
    for kind in KINDS.values()
    for name, (_, needs) in NETWORKS.items()
    if needs in kind.capabilities
]


class Bench:
    """A network, and executors for it."""

    def __init__(self, net, batch=1, dtype="float64", trained=None):
        self.net, self.batch = net, batch
        self.model = Model(dt=0.001)
        self.model.build(net)
        parameters = {}
        if trained is not None:
            signal = self.model.sig[trained]["weights"]
            parameters[signal] = np.array(signal.initial_value, dtype)
        self.program = Program(self.model, parameters, batch, dtype)
        self.program.is_open = bool(parameters)
        self.use = Specialization(open=bool(parameters))
        self.program.reset(SEED)

    def task(self, kind, sampling=None):
        program = self.program
        layout = program.layout(
            self.use, fused=Capability.STAGES not in kind.capabilities
        )
        feed, weights = program.feed(self.use, layout), program.weights(layout)
        sampling = Sampling({}) if sampling is None else sampling
        return Task(layout, feed, program.store, weights, sampling)

    def executor(self, kind, sampling=None):
        """One that has the state."""
        executor = kind.make(self.task(kind, sampling))
        executor.load()
        return executor

    def rows(self, seen):
        """What probes saw in some steps that were read each: ``(steps, n, batch)``."""
        found = {}
        for rows, probes, sampled in seen.parts:
            assert not sampled and rows.shape[0] == seen.steps
            found |= {probe: rows[:, a:b] for probe, a, b in probes}
        assert found.keys() == set(self.model.probes)
        return np.concatenate([found[probe] for probe in self.model.probes], axis=1)

    def run(self, executor, start, n_steps):
        parts = [self.rows(seen) for seen in executor.run(start, n_steps)]
        assert sum(len(part) for part in parts) == n_steps
        return np.concatenate(parts)

    def core(self, n_steps=STEPS):
        """What core Nengo has in all steps, item by item."""
        items = []
        for item in range(self.batch):
            with nengo.Simulator(
                None, model=self.model, seed=SEED + item, progress_bar=False
            ) as sim:
                sim.run_steps(n_steps)
                data = [np.array(sim.data[probe]) for probe in self.model.probes]
            items.append(np.concatenate(data, axis=1))
        return np.stack(items, axis=2)


@cache
def core(name, batch):
    """As `Bench.core`; Python functions have no state, so it is the same each time."""
    return Bench(NETWORKS[name][0](), batch).core()


def bench_of(name, batch=1, dtype="float64"):
    return Bench(NETWORKS[name][0](), batch, dtype)


# -- executors -------------------------------------------------------------------------


@pytest.mark.as_users
@pytest.mark.parametrize("dtype, batch", [("float64", 3), ("float32", 1)])
@pytest.mark.parametrize("kind, name", CASES_OF_KINDS)
def test_runs_equal_core(kind, name, dtype, batch, allclose):
    bench = bench_of(name, batch, dtype)
    found = bench.run(bench.executor(kind), 0, STEPS)
    assert found.dtype == dtype
    tolerance, expected = TOLERANCE[dtype], core(name, batch)
    scale = max(1, np.abs(expected).max())
    assert allclose(found, expected, atol=tolerance * scale)


@pytest.mark.parametrize("kind, name", CASES_OF_KINDS)
def test_runs_in_pieces_equal_one_run(kind, name, allclose):
    bench = bench_of(name)
    executor = bench.executor(kind)
    assert executor.layout.states is not None and executor.feed is not None
    found, start = [], 0
    for piece in (1, 17, STEPS - 18):
        found.append(bench.run(executor, start, piece))
        assert executor.has_compiled(piece)
        start += piece
    scale = np.abs(core(name, 1)).max()
    assert allclose(np.concatenate(found), core(name, 1), atol=1e-10 * scale)


@pytest.mark.parametrize("kind, name", CASES_OF_KINDS)
def test_the_state_goes_through_the_store(kind, name, allclose):
    """Saved by one executor, and loaded by another one of any kind, and back."""
    bench, expected = bench_of(name, batch=2), core(name, 2)
    mine, other = bench.executor(kind), bench.executor(KINDS["numpy"])
    found, start = [], 0
    for executor, piece in ((mine, 7), (other, 5), (mine, 9), (other, STEPS - 21)):
        executor.load()
        found.append(bench.run(executor, start, piece))
        executor.save()
        start += piece
    scale = np.abs(expected).max()
    assert allclose(np.concatenate(found), expected, atol=1e-10 * scale)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_an_executor_keeps_the_state_that_it_saved(kind, allclose):
    bench = bench_of("neurons")
    executor = bench.executor(kind)
    bench.run(executor, 0, 10)
    executor.save()
    before = {key: value.copy() for key, value in bench.program.store.values.items()}
    found = bench.run(executor, 10, STEPS - 10)
    assert allclose(found, core("neurons", 1)[10:], atol=1e-8)
    for key, value in bench.program.store.values.items():
        assert np.array_equal(value, before[key])


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_parameters_that_are_written_count_from_the_next_step(kind, allclose):
    net = neurons()
    bench, plain = (Bench(net, trained=net.conn) for _ in range(2))
    executor, reference = bench.executor(kind), plain.executor(KINDS["numpy"])
    ((signal, value),) = bench.program.parameters.items()
    for start in (0, 8):
        found, expected = bench.run(executor, start, 8), plain.run(reference, start, 8)
        assert allclose(found, expected, atol=1e-9)
        ((other, theirs),) = plain.program.parameters.items()
        value *= -0.5
        theirs *= -0.5
        executor.write(bench.program.weights(executor.layout))
        reference.write(plain.program.weights(reference.layout))
    assert not np.array_equal(value, signal.initial_value)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_data_take_the_place_of_functions(kind, rng, allclose):
    bench, plain = bench_of("neurons", 2), bench_of("neurons", 2)
    data = rng.uniform(-1, 1, (2, STEPS, 1))
    runs = []
    for one, what in ((bench, kind), (plain, KINDS["numpy"])):
        executor = one.executor(what)
        executor.feed.use({one.model.sig[one.net.inp]["out"]: data}, 0)
        runs.append(one.run(executor, 0, STEPS))
    assert allclose(*runs, atol=1e-8)
    assert not np.allclose(runs[0][..., 0], runs[0][..., 1])


class Calls:
    """Counts calls that succeed; one of them fails, once."""

    def __init__(self):
        self.count, self.at, self.error = 0, None, None

    def __call__(self, number):
        if self.count == self.at:
            self.at = None
            raise self.error
        self.count += number


FAILURES = [
    pytest.param(kind, inside, name, id=f"{kind.name}-{inside}-{name}")
    for kind in KINDS.values()
    for inside, needs in (
        (False, Capability.PYTHON_AROUND_LOOP),
        (True, Capability.PYTHON_IN_LOOP),
    )
    if needs in kind.capabilities
    for name in CALLED
]


@pytest.mark.parametrize("error", (RuntimeError("not now"), KeyboardInterrupt()))
@pytest.mark.parametrize("kind, inside, name", FAILURES)
def test_a_run_ends_with_the_last_whole_step_and_goes_on(
    kind, inside, name, error, allclose
):
    calls = {called: Calls() for called in CALLED}
    bench = Bench(python(inside, calls))
    executor = bench.executor(kind)
    for one in calls.values():
        one.count = 0  # building called some of them
    calls[name].at, calls[name].error = 11, error
    found = []
    with pytest.raises(type(error)) as raised:
        for seen in executor.run(0, STEPS):
            found.append(bench.rows(seen))
    assert raised.value is error
    done = sum(len(part) for part in found)
    executor.settle(done)
    assert done == 11
    found.append(bench.run(executor, done, STEPS - done))
    expected = core("python inside" if inside else "python around", 1)
    assert allclose(np.concatenate(found), expected, atol=1e-10)
    assert [one.count for one in calls.values()] == [STEPS] * 3


@pytest.mark.parametrize("kind, name", CASES_OF_KINDS)
def test_a_run_may_be_left(kind, name, allclose):
    """What the caller did not take is as if it had not been run."""
    bench, expected = bench_of(name), core(name, 1)
    executor = bench.executor(kind)
    run, found = executor.run(0, STEPS), []
    found.append(bench.rows(next(run)))
    run.close()
    done = len(found[0])
    executor.settle(done)
    if done < STEPS:
        run = executor.run(done, STEPS - done)
        next(run)  # not taken
        run.close()
        executor.settle(done)
        found.append(bench.run(executor, done, STEPS - done))
    scale = np.abs(expected).max()
    assert allclose(np.concatenate(found), expected, atol=1e-10 * scale)


@pytest.mark.parametrize("period, last", [(4.3, False), (1000, False), (7, True)])
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_probes_are_read_at_their_samples(kind, period, last, monkeypatch, allclose):
    monkeypatch.setattr(sampling_rules, "LEAST_BYTES", 1)
    bench, expected = bench_of("neurons"), core("neurons", 1)
    every, sampled = bench.model.probes
    if not kind.reads_samples_only(1e9, period):
        assert not kind.reads_samples_only(1e9, float("inf"))
        return  # then it is never asked to
    sampling = Sampling({sampled: period}, {sampled} if last else ())
    executor = bench.executor(kind, sampling)
    steps, rows, samples = 0, [], []
    for seen in executor.run(0, STEPS):
        for part, probes, only in seen.parts:
            columns = {probe: part[:, a:b] for probe, a, b in probes}
            assert set(columns) == {sampled if only else every}
            (samples if only else rows).extend(*columns.values())
        steps += seen.steps
    assert steps == len(rows) == STEPS
    assert allclose(rows, expected[:, :2], atol=1e-9)
    at = [number for number, _ in sampling.samples(0, STEPS)]
    assert len(samples) == len(at)
    for number, sample in zip(at, samples, strict=True):
        assert allclose(sample, expected[number - 1, 2:], atol=1e-8)


@pytest.mark.parametrize(
    "kind, name",
    [c for c in CASES_OF_KINDS if Capability.SINGLE_STEPS in c.values[0].capabilities],
)
def test_single_steps_equal_a_run(kind, name, allclose):
    bench = bench_of(name, batch=2)
    executor = bench.executor(kind)
    found = [np.array(executor.step(start)) for start in range(STEPS)]
    assert all(rows.shape[0] == 1 for rows in found)
    expected = core(name, 2)
    scale = np.abs(expected).max()
    assert allclose(np.concatenate(found), expected, atol=1e-10 * scale)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_wrong_results_of_functions_are_refused(kind):
    if Capability.PYTHON_IN_LOOP not in kind.capabilities:
        with pytest.raises(SimulationError):
            xp = kind.namespace("float32")
            xp.host_call(lambda a: [a[0][:1]], [xp.zeros((2, 1))], [2])
        return
    xp = kind.namespace("float32")
    with pytest.raises(SimulationError):
        xp.host_call(lambda a: [a[0], a[0]], [xp.zeros((2, 1))], [2])


# -- the registry ----------------------------------------------------------------------


class Nothing(ExecutorKind):
    name = "nothing"

    def namespace(self, dtype):
        raise NotImplementedError

    def make(self, task):
        raise NotImplementedError


def test_kinds_are_found_by_name_and_by_what_they_can_do():
    registry, one, two = Executors(), Nothing(), Nothing()
    two.name, two.capabilities = "two", Capability.PYTHON_IN_LOOP
    registry.register(one)
    registry.register(two, before="nothing")
    assert registry.names == ("two", "nothing")
    assert registry.find("two") is two
    assert registry.able(Capability.NONE) == (two, one)
    assert registry.able(Capability.PYTHON_AROUND_LOOP) == (two,)
    assert registry.able(Capability.COMPILES) == ()
    with pytest.raises(ValueError, match="there is an executor 'two' already"):
        registry.register(two)
    with pytest.raises(ValueError, match="no executor 'three'; there are two, nothing"):
        registry.find("three")
    registry.remove("two")
    assert registry.names == ("nothing",)


def test_a_kind_says_how_it_is_made():
    with pytest.raises(TypeError, match="abstract"):
        ExecutorKind()


def test_a_kind_that_is_registered_runs_simulators(allclose):
    kind, before = EagerKind(), executors.names
    with neurons() as net:
        nengo_dl.configure_settings(dtype="float64")
    with executors.using(kind):
        assert executors.names == ("eager", *before)
        with nengo_dl.Simulator(net, seed=SEED, progress_bar=False) as sim:
            sim.run_steps(10)
            sim.step()
            sim.run_steps(STEPS - 11)
            found = [sim.data[probe] for probe in net.all_probes]
    assert executors.names == before and kind.made == 1
    with nengo.Simulator(net, seed=SEED, progress_bar=False) as sim:
        sim.run_steps(STEPS)
        for probe, data in zip(net.all_probes, found, strict=True):
            assert allclose(data, sim.data[probe], atol=1e-8)


def test_another_executor_runs_random_networks(rng):
    kind = EagerKind()
    with executors.using(kind):
        seen = compare.search(8, int(rng.randint(10**9)), "numpy")
    assert seen["agree"] >= 8 and kind.made >= 8
