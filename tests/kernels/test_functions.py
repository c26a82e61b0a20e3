"""Python functions: what they get, what they may return, and in which order they run."""

import math
from itertools import pairwise

import nengo
import numpy as np
import pytest
from nengo.builder import Model
from nengo.builder.operator import SimPyFunc
from nengo.exceptions import SimulationError

from nengo_dl.kernels.functions import step_times
from nengo_dl.runtime.program import Program
from tests.kernels.kernel_harness import Bench, Case, every_step, simulate, trajectory

KINDS = ("time", "input", "both", "nothing")


def function_bench(function, kind, size=2, watched=True):
    """A bench with one function, called with what ``kind`` says."""
    bench = Bench()

    def build(bench, variant):
        output = bench.signal((size,))
        time = bench.model.time if kind in ("time", "both") else None
        x = bench.feed(3) if kind in ("input", "both") else None
        bench.add(SimPyFunc(output, function, time, x))
        if watched:
            bench.watch(output)

    bench.build(Case("function", build), 0)
    return bench


def values_of(bench, tier="numpy", dtype="float64", batch=1, n_steps=3):
    """What is watched, ``(batch, steps, size)``."""
    return simulate(bench, tier, dtype, batch, n_steps)[0]


def run_program(network, n_steps, dtype="float32", start=0, dt=0.001, jit="auto"):
    """Run a network: ``(steps, rows, batch)``."""
    model = Model(dt=dt)
    model.build(network)
    program = Program(model, {}, 1, dtype, jit)
    program.reset(0)
    return np.concatenate(list(every_step(program.run(start, n_steps))))


def type_name(value):
    """What to call a value: the same in all test processes."""
    return type(value).__name__


# -- values ----------------------------------------------------------------------------

FITTING = (
    3,
    True,
    2.5,
    np.float32(0.1),
    np.int64(-4),
    [1, 2],
    (0.1, 0.2),
    range(2),
    np.array([0.5, 1.5]),
    np.array([[0.5, 1.5]]),
    np.array([[[7.0]]]),
    np.array(2, np.uint8),
)

MISFITS = (
    None,
    np.nan,
    -np.inf,
    [1, np.nan],
    [None, 1],
    [1, 2, 3],
    [],
    {},
    {1: 2},
    "a",
    [[1], [2]],
    object(),
    1j,
    iter([1, 2]),
    10**400,
    np.array(["1", "2"]),
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", FITTING, ids=type_name)
def test_values_are_taken_as_core_takes_them(value, kind, allclose):
    bench = function_bench(lambda *args: value, kind)
    expected = trajectory(bench)[0][0][:3]
    assert expected.any()
    assert allclose(values_of(bench)[0], expected, atol=0, rtol=0)


@pytest.mark.parametrize("watched", (True, False))
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", MISFITS[:-1], ids=type_name)
def test_values_that_do_not_fit(value, kind, watched):
    def misfitting(*args):
        return value

    bench = function_bench(misfitting, kind, watched=watched)
    with pytest.raises(SimulationError):
        trajectory(bench)
    with pytest.raises(SimulationError, match="misfitting"):
        simulate(bench, "numpy", "float64", 1, 3)


def test_text_is_no_number():
    bench = function_bench(lambda x: MISFITS[-1], "input")
    with pytest.raises(SimulationError, match="invalid type"):
        values_of(bench)


@pytest.mark.parametrize("kind", ("input", "both"))
def test_messages_name_function_value_and_size(kind):
    def with_a_long_name(*args):
        return [1, 2, 3]

    with pytest.raises(SimulationError) as error:
        values_of(function_bench(with_a_long_name, kind))
    assert "'with_a_long_name'" in str(error.value)
    assert "[1, 2, 3]" in str(error.value)
    assert "expected 2 finite numbers" in str(error.value)
    bench = function_bench(lambda *args: [0, np.inf], kind)
    with pytest.raises(SimulationError, match=r"non-finite value \[0, inf\]"):
        values_of(bench)


def test_message_of_a_function_of_time_names_the_time():
    def diverging(t):
        return [0, 1 / (t < 0.0025)] if t < 0.0025 else [0, np.inf]

    with pytest.raises(SimulationError, match=r"'diverging' .* t=0.003 .* 2 finite"):
        values_of(function_bench(diverging, "time"), n_steps=5)


@pytest.mark.parametrize("value", ([1.0, 2.0], "a", 1j, 10**400), ids=type_name)
def test_message_names_the_one_function_of_many_that_does_not_fit(value):
    with nengo.Network() as net:
        nengo.Node(lambda t: [t, t], size_out=2, label="before")
        nengo.Node(lambda t: t if t < 0.0025 else value, size_out=1, label="wrong")
        nengo.Node(lambda t: t, size_out=1, label="behind")
    with pytest.raises(SimulationError, match="t=0.003") as error:
        run_program(net, 5, jit=False)
    assert "<Node 'wrong'> returned a value" in str(error.value)
    assert f"{value!r} of invalid type {type(value)!r}" in str(error.value)
    assert "before" not in str(error.value) and "behind" not in str(error.value)


def test_a_function_that_is_not_written_in_python_raises_its_own_error():
    """What another one returned before has nothing to do with it."""
    with nengo.Network() as net:
        nengo.Node(lambda t: [t, t], size_out=2)
        nengo.Node(math.acosh, size_out=1)
    with pytest.raises(ValueError, match="math domain error|expected argument"):
        run_program(net, 5, jit=False)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tier", ("numpy", "tensorflow"))
def test_errors_of_the_function_come_out(kind, tier):
    class OwnError(Exception):
        pass

    calls = []

    def failing(*args):
        calls.append(args)
        if len(calls) == 3:
            raise OwnError("the third call")
        return 1

    with pytest.raises(OwnError, match="the third call"):
        values_of(function_bench(failing, kind), tier, n_steps=5)
    assert len(calls) == 3


def test_errors_in_tensorflow_are_the_same():
    bench = function_bench(lambda x: [1, 2, 3], "input")
    with pytest.raises(SimulationError, match="expected 2 finite numbers"):
        values_of(bench, "tensorflow")


@pytest.mark.parametrize("kind", ("time", "both"))
def test_steps_before_an_error_are_kept(kind, allclose):
    def failing(t, x=None):
        if t > 0.0045:
            raise ValueError("too late")
        return [t, -t]

    bench = function_bench(failing, kind)
    program = Program(bench.model, {}, 1, "float64")
    rows = []
    with pytest.raises(ValueError, match="too late"):
        rows.extend(every_step(program.run(0, 10)))
        pytest.fail("no error")
    rows = []
    with pytest.raises(ValueError, match="too late"):
        for chunk in every_step(Program(bench.model, {}, 1, "float64").run(0, 10)):
            rows.append(chunk[:, 0, 0])
    assert allclose(np.concatenate(rows), [0.001, 0.002, 0.003, 0.004], atol=0, rtol=0)


def test_a_function_without_output_may_return_anything():
    calls = []
    bench = Bench()

    def ignored(t, x):
        calls.append((t, x.copy()))
        return "anything"

    def build(bench, variant):
        x = bench.feed(2)
        bench.add(SimPyFunc(None, ignored, bench.model.time, x))

    bench.build(Case("sink", build), 0)
    assert simulate(bench, "numpy", "float64", 3, 4) == []
    assert [t for t, _ in calls] == [
        t for t in (0.001, 0.002, 0.003, 0.004) for _ in "abc"
    ]
    (x,) = bench.data
    expected = bench.data[x][:3, :4].transpose(1, 0, 2).reshape(12, 2)
    assert np.array_equal([x for _, x in calls], expected)


# -- arguments -------------------------------------------------------------------------


@pytest.mark.parametrize("tier", ("numpy", "tensorflow"))
@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_arguments_are_of_the_types_that_core_gives(dtype, tier):
    seen = []

    def look(t, x):
        seen.append((type(t), type(x), x.dtype, x.shape, x.flags.writeable))
        return x[:2]

    bench = function_bench(look, "both")
    trajectory(bench)
    (expected,) = set(seen)
    seen.clear()
    values_of(bench, tier, dtype, batch=3, n_steps=64)
    assert set(seen) == {expected} and len(seen) == 3 * 64


@pytest.mark.parametrize("tier", ("numpy", "tensorflow"))
@pytest.mark.parametrize("kind", ("input", "both"))
def test_items_are_called_in_order_with_copies_of_their_own(kind, tier, allclose):
    kept = []

    def selfish(*args):
        x = args[-1]
        kept.append((x, x.copy()))
        result = x[:2].copy()
        x[...] = np.nan
        return result

    bench = function_bench(selfish, kind)
    (data,) = bench.data.values()
    values = values_of(bench, tier, batch=3, n_steps=64)
    assert allclose(values, data[:, :64, :2], atol=0, rtol=0)
    given = np.array([before for _, before in kept]).reshape(64, 3, 3)
    assert allclose(given, data[:, :64].transpose(1, 0, 2), atol=0, rtol=0)
    assert all(np.isnan(x).all() for x, _ in kept)
    for (a, _), (b, _) in pairwise(kept):
        assert not np.shares_memory(a, b)


def test_changing_the_input_changes_nothing_else(allclose):
    def overwrite(x):
        x[...] = 100
        return 0

    bench = Bench()

    def build(bench, variant):
        x, outputs = bench.feed(2), [bench.signal((2,)) for _ in range(3)]
        for function, output in zip((lambda x: x, overwrite, lambda x: x), outputs):
            bench.add(SimPyFunc(output, function, None, x))
        bench.watch(*outputs)

    bench.build(Case("overwrite", build), 0)
    (data,) = bench.data.values()
    first, none, last = simulate(bench, "numpy", "float64", 3, 5)
    assert not none.any()
    assert allclose(first, data[:, :5], atol=0, rtol=0)
    assert allclose(last, data[:, :5], atol=0, rtol=0)


def test_a_returned_buffer_may_be_reused(allclose):
    buffer = np.zeros(2)

    def reuse(x):
        buffer[...] = x[:2]
        return buffer

    bench = function_bench(reuse, "input")
    (data,) = bench.data.values()
    values = values_of(bench, batch=3, n_steps=5)
    assert allclose(values, data[:, :5, :2], atol=0, rtol=0)


@pytest.mark.parametrize("shape", ((2, 3), (1, 1)))
def test_inputs_keep_their_shape(shape, allclose):
    bench = Bench()

    def build(bench, variant):
        x, output = bench.feed(*shape), bench.signal(shape[::-1])
        bench.add(SimPyFunc(output, lambda x: x.T * 2, None, x))
        bench.watch(output)

    bench.build(Case("shape", build), 0)
    core = np.array([trajectory(bench, item)[0][0][:3] for item in range(3)])
    assert allclose(values_of(bench, batch=3), core, atol=0, rtol=0)


# -- time ------------------------------------------------------------------------------


@pytest.mark.parametrize("dt", (0.001, 0.0007, 1 / 3))
@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("start", (0, 1_000_000, 5_000_000))
def test_times_are_those_of_core(start, dtype, dt):
    ahead, stepwise = [], []
    with nengo.Network() as net:
        nengo.Node(lambda t: ahead.append(t) or t)
    with nengo.Network() as other:
        nengo.Node(lambda t, x: stepwise.append(t), size_in=1)
    for network in (net, other):
        run_program(network, 300, dtype, start, dt)
    expected = [(start + i) * dt for i in range(1, 301)]
    for times in (ahead, stepwise):
        assert times[1:] == expected  # after a call that finds out the size
        assert {type(t) for t in times} == {float}


def test_core_computes_times_that_way():
    times = []
    with nengo.Network() as net:
        nengo.Node(lambda t: times.append(t) or t)
    with nengo.Simulator(net, dt=0.0007, progress_bar=False) as sim:
        times.clear()
        sim.run_steps(300)
    assert times == [i * 0.0007 for i in range(1, 301)]


def test_step_times_recovers_steps_from_single_precision():
    steps = np.r_[np.arange(1, 100_000, 7), np.arange(7_999_000, 8_000_000)]
    rows = (steps * 0.001).astype(np.float32)[None]
    assert step_times(rows, 0.001) == (steps * 0.001).tolist()
    for first in (0, 5000, len(steps) - 3):  # few columns
        columns = slice(first, first + 3)
        assert step_times(rows[:, columns], 0.001) == (steps[columns] * 0.001).tolist()


# -- calls -------------------------------------------------------------------------------


def test_functions_run_once_a_step_for_each_item():
    calls = []
    bench = function_bench(lambda x: calls.append(0) or 1, "input", watched=False)
    for batch in (1, 3):
        calls.clear()
        simulate(bench, "numpy", "float32", batch, 7)
        assert len(calls) == 7 * batch
    calls.clear()
    bench = function_bench(lambda t: calls.append(0) or 1, "time", watched=False)
    simulate(bench, "numpy", "float32", 3, 7)
    assert len(calls) == 7  # the same for all items: called once


@pytest.mark.parametrize("jit", (False, True))
@pytest.mark.parametrize("batch", (1, 3))
def test_equal_inputs_are_calls_of_their_own(batch, jit, allclose):
    calls = []

    def count(t, x):
        calls.append((t, *x))
        return [t, len(calls)]

    with nengo.Network() as net:
        node = nengo.Node(count, size_in=1, size_out=2)
        nengo.Connection(nengo.Node([0.5]), node, synapse=None)
        nengo.Probe(node)
    model = Model(dt=0.001)
    model.build(net)
    program = Program(model, {}, batch, "float64", jit)
    rows = np.concatenate(list(every_step(program.run(0, 4))))
    times = 0.001 * np.arange(1, 5)
    assert calls == [(t, 0.5) for t in times for _ in range(batch)]
    assert allclose(rows[:, 0], np.repeat(times[:, None], batch, 1), atol=0, rtol=0)
    assert allclose(rows[:, 1].ravel(), np.arange(1, 4 * batch + 1), atol=0, rtol=0)
