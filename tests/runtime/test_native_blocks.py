"""Items of a batch that run in blocks and in threads do what they do together."""

import threading
import time
from types import SimpleNamespace

import nengo
import numpy as np
import pytest

import nengo_dl
from nengo_dl.runtime.executor import Unsupported
from nengo_dl.runtime.native import blocks, costs
from nengo_dl.runtime.native import step as steps
from nengo_dl.runtime.native.blocks import (
    Companion,
    Division,
    in_threads,
    processors,
)
from nengo_dl.runtime.native.step import NativeStep
from tests.runtime.native_code import pytestmark_native as pytestmark
from tests.runtime.numpy_harness import evaluate
from tests.runtime.test_native_steps import is_poisoned, poison

__all__ = ["pytestmark"]


def step(xp, carry, x, weights):
    """A product, and a matrix of each item that learns."""
    v, matrix = carry
    v = 0.5 * v + xp.tanh(xp.matmul(weights[0], v)) + x[:1]
    error = xp.reshape(x, (1, 2, 1, -1))
    matrix = matrix + xp.reshape(error * xp.reshape(v, (1, 1, 5, -1)), (10, -1))
    y = xp.matvec(xp.reshape(matrix, (1, 2, 5, -1)), xp.reshape(v, (1, 5, -1)))
    return [v, matrix], xp.concat([v, xp.reshape(y, (2, -1))])


def setting(batch, rng, n_steps=4, dtype="float64"):
    """State, inputs and weights for `step`."""
    carry = [rng.uniform(-1, 1, (n, batch)).astype(dtype) for n in (5, 10)]
    xs = rng.uniform(-1, 1, (n_steps, 2, batch)).astype(dtype)
    return carry, xs, [rng.uniform(-1, 1, (5, 5)).astype(dtype)]


# -- blocks ----------------------------------------------------------------------------


@pytest.mark.parametrize("batch, size", [(1, 1), (6, 1), (6, 2), (7, 4), (3, 8)])
def test_items_are_spread_and_collected(batch, size, rng):
    division = Division(batch, size)
    assert division.count == -(-batch // size)
    values = rng.rand(3, 4, batch)
    spread = np.full((division.count, 3, 4, size), np.nan)
    division.spread(values, spread)
    assert np.array_equal(division.collected(spread), values)
    places = np.moveaxis(spread, 0, -2).reshape(3, 4, -1)
    assert (places[..., batch:] == values[..., -1:]).all()


@pytest.mark.parametrize("batch, items", [(5, 1), (5, 2), (5, 8), (9, 4), (8, 4)])
def test_blocks_do_what_the_whole_batch_does(batch, items, rng, allclose):
    carry, xs, weights = setting(batch, rng)
    expected, last = evaluate(step, carry, xs, weights, "float64")
    one = NativeStep(step, carry, 2, batch, weights, "float64", items=items)
    poison(one)
    found = one.room(len(xs))
    assert one.advance(xs[:3], found[:3]) == 3
    one.x[...] = xs[3]
    one()
    assert is_poisoned(one)
    assert allclose(found[:3], expected[:3])
    assert allclose(one.y, expected[3])
    for mine, theirs in zip(one.carry, last, strict=True):
        assert allclose(mine, theirs)
    # other weights, and from the start
    one.set_carry(carry)
    weights[0] *= 2
    one.refresh()
    one.advance(xs, found)
    assert allclose(found, evaluate(step, carry, xs, weights, "float64")[0])


def test_blocks_of_a_step_beside_another_have_its_state(rng, allclose):
    carry, xs, weights = setting(5, rng, 3)
    main = NativeStep(step, carry, 2, 5, weights, "float64", items=2)
    other = NativeStep.beside_it(step, weights, main)
    for x, one in zip(xs, (main, other, main), strict=True):
        main.x[...] = x
        one()
    expected, last = evaluate(step, carry, xs, weights, "float64")
    assert allclose(main.y, expected[-1])
    assert all(map(allclose, other.carry, last))


def test_steps_without_inputs_or_results(rng, allclose):
    def decay(xp, carry, x, weights):
        return [0.5 * carry[0]], None

    state = rng.rand(2, 5)
    one = NativeStep(decay, [state], None, 5, [], "float64", items=2)
    one()
    assert one.advance(np.empty((2, 0, 5)), one.room(2)) == 2
    assert allclose(one.carry[0], state / 8)


def test_functions_are_not_called_block_by_block():
    def calls(xp, carry, x, weights):
        return carry, xp.host_call(lambda arrays: [arrays[0]], [carry[0]], [2])[0]

    with pytest.raises(Unsupported, match="all of a batch at once"):
        NativeStep(calls, [np.zeros((2, 5))], None, 5, [], "float64", items=2)


@pytest.mark.parametrize("threads", (2, 3, 7))
def test_threads_make_no_difference(threads, rng, monkeypatch):
    """To the bit; and what is left of a call is not seen by the next one."""
    monkeypatch.setattr(steps, "processors", lambda: threads)
    carry, xs, weights = setting(11, rng, 20, "float32")
    results = []
    for seconds in (np.inf, 0.0):
        monkeypatch.setattr(costs, "THREADS_SECONDS", seconds)
        one = NativeStep(step, carry, 2, 11, weights, "float32", items=2)
        out = one.room(len(xs))
        for part in (slice(0, 3), slice(3, 19)):
            one.advance(xs[part], out[part])
        one.x[...] = xs[19]
        one()
        results.append([out[:19], one.y, *one.carry])
        assert len(one._workplaces) == (1 if seconds else min(threads, 6))
    assert all(map(np.array_equal, *results))


# -- threads ---------------------------------------------------------------------------


@pytest.mark.parametrize("threads", (1, 2, 5))
def test_each_task_is_done_once(threads):
    done = []
    in_threads(20, threads, lambda task, thread: done.append((task, thread)))
    assert sorted(task for task, _ in done) == list(range(20))
    assert {thread for _, thread in done} <= set(range(threads))


@pytest.mark.parametrize("error", (ValueError, KeyboardInterrupt))
def test_what_a_thread_raises_comes_when_all_have_ended(error):
    ended, both = [], threading.Barrier(2, timeout=30)

    def work(task, thread):
        both.wait()
        if thread == 1:
            raise error("not now")
        both_failed.wait(timeout=0.05)
        ended.append(task)

    both_failed = threading.Event()
    with pytest.raises(error, match="not now"):
        in_threads(2, 2, work)
    assert len(ended) == 1


def test_where_no_thread_can_begin_the_present_one_does_it_all(monkeypatch):
    def start(function, arguments):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(blocks, "start_new_thread", start)
    done = []
    in_threads(3, 4, lambda task, thread: done.append((task, thread)))
    assert done == [(0, 0), (1, 0), (2, 0)]


def test_an_interrupt_while_threads_are_awaited(monkeypatch):
    """They have ended when it comes on: they write to the state."""
    wait, ended, go = Companion.wait, [], threading.Event()

    def interrupted(self):
        if not go.is_set():
            go.set()
            raise KeyboardInterrupt
        wait(self)

    monkeypatch.setattr(Companion, "wait", interrupted)

    def work(task, thread):
        if thread:
            go.wait(30)
            ended.append(task)
        else:
            started.wait(30)

    started = threading.Event()

    def both(task, thread):
        if thread:
            started.set()
        work(task, thread)

    with pytest.raises(KeyboardInterrupt):
        in_threads(2, 2, both)
    assert len(ended) == 1


@pytest.mark.parametrize("begun", (False, True))
def test_an_interrupt_while_threads_begin(begun, monkeypatch):
    """A thread that is in no list does not take a task."""
    start, done, over = blocks.start_new_thread, [], []

    def interrupted(function, arguments):
        if begun:
            start(lambda: (function(), over.append(1)), arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(blocks, "start_new_thread", interrupted)
    with pytest.raises(KeyboardInterrupt):
        in_threads(20, 2, lambda task, thread: done.append(task))
    for _ in range(3000):
        if len(over) == begun:
            break
        time.sleep(0.01)
    assert len(over) == begun
    assert not done


@pytest.mark.parametrize("limit, count", [("1", 1), ("2,4", 2), ("64", 4), ("", 4)])
def test_processors_that_may_be_used(limit, count, monkeypatch):
    monkeypatch.setattr(blocks.os, "sched_getaffinity", lambda pid: range(4), False)
    monkeypatch.setenv("OMP_NUM_THREADS", limit)
    assert processors() == count
    monkeypatch.delattr(blocks.os, "sched_getaffinity")
    monkeypatch.setattr(blocks.os, "cpu_count", lambda: None)
    assert processors() == 1


# -- simulators ------------------------------------------------------------------------


def layout(called=False, joins=()):
    kernel = SimpleNamespace(called_for_each=called, joins_items=joins)
    return SimpleNamespace(groups=lambda: [SimpleNamespace(kernel=kernel)])


@pytest.mark.parametrize(
    "batch, width, items",
    [(1, 8, 1), (2, 8, 1), (6, 8, 1), (7, 8, 8), (8, 8, 8), (16, 8, 16), (20, 8, 8)]
    + [(64, 8, 16), (64, 16, 16), (9, 16, 1), (12, 16, 16), (3, 4, 1), (4, 4, 4)],
)
def test_items_of_a_block(batch, width, items):
    """A function of network and batch; they stay together where Python is called.

    So do those that learn together.
    """
    single = np.dtype("float32")
    assert costs.items_of_block(layout(), batch, single, width) == items
    for together in (layout(called=True), layout(joins=(0,))):
        assert costs.items_of_block(together, batch, single, width) == batch


@pytest.mark.parametrize("batch", (3, 20))
def test_a_network_that_learns(batch, rng, monkeypatch, allclose):
    """Each item as core has it alone, in threads, in pieces, and with samples."""
    monkeypatch.setattr(costs, "THREADS_SECONDS", 0.0)
    monkeypatch.setattr(steps, "processors", lambda: 2)
    with nengo.Network(seed=1) as net:
        stimulus = nengo.Node(np.zeros(2))
        pre, post = nengo.Ensemble(20, 2), nengo.Ensemble(20, 2)
        nengo.Connection(stimulus, pre, synapse=None)
        learned = nengo.Connection(pre, post, learning_rule_type=nengo.PES(1e-3))
        nengo.Connection(post, learned.learning_rule)
        probe = nengo.Probe(post, synapse=0.01)
        weights = nengo.Probe(learned, "weights", sample_every=0.01)
        nengo_dl.configure_settings(executor="native", dtype="float64")
    data = rng.uniform(-1, 1, (batch, 25, 2))
    threads, run = set(), steps.in_threads

    def noted(tasks, many, work):
        threads.add(many)
        run(tasks, many, work)

    monkeypatch.setattr(steps, "in_threads", noted)
    with nengo_dl.Simulator(net, minibatch_size=batch, progress_bar=False) as sim:
        sim.run_steps(13, data={stimulus: data[:, :13]})
        sim.run_steps(12, data={stimulus: data[:, 13:]})
        found = sim.data[probe], sim.data[weights]
    for k in (0, 1, batch - 1):
        with net:
            stimulus.output = lambda t, k=k: data[k, round(t / 0.001) - 1]
        with nengo.Simulator(net, progress_bar=False) as core:
            core.run_steps(25)
        assert allclose(found[0][k], core.data[probe])
        assert allclose(found[1][k], core.data[weights])
    assert threads == {2}
