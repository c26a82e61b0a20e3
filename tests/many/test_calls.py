"""run_many and iter_many without processes: results, tasks that meet nothing, errors."""

import itertools
import random
import weakref
from concurrent.futures import ThreadPoolExecutor

import nengo
import numpy as np
import pytest
from nengo.exceptions import SimulationError, SimulatorClosed, ValidationError

import nengo_dl
from nengo_dl.notices import warn
from tests.many.helpers import Here, in_a_row, network, response, same

VALUES = [0.1 * n for n in range(7)]


@pytest.fixture(scope="module")
def serial(sim):
    """The results of a loop."""
    return in_a_row(sim, VALUES)


# results ------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", (None, 1, 3, 100))
@pytest.mark.parametrize("executor", (Here, lambda: ThreadPoolExecutor(2)))
def test_results_are_those_of_a_loop(sim, serial, executor, chunk):
    results = nengo_dl.run_many(sim, response, VALUES, executor, chunk=chunk)
    assert same(results, serial)
    assert not same(results[1:], serial[:-1])


def test_results_come_one_by_one(sim, serial):
    many = nengo_dl.iter_many(sim, response, iter(VALUES), Here)
    assert iter(many) is many
    found = dict(many)
    assert sorted(found) == list(range(7))
    assert same([found[n] for n in range(7)], serial)


def test_no_more_runs_than_is_asked_for(sim):
    with ThreadPoolExecutor(1) as pool:
        done = []
        many = nengo_dl.iter_many(sim, lambda sim, n: done.append(n), range(50), pool)
        next(many)
        many.close()
        assert pool.submit(len, "ab").result() == 2  # it stays open


def test_the_simulator_stays_as_it_is(sim):
    sim.run_steps(3)
    before = sim.data[sim.network.probe].copy()
    nengo_dl.run_many(sim, response, VALUES[:2], Here)
    assert sim.n_steps == 3 and sim.seed == 5
    assert np.array_equal(sim.data[sim.network.probe], before)
    sim.reset()


def test_no_tasks(sim):
    assert nengo_dl.run_many(sim, response, [], Here) == []
    assert list(nengo_dl.iter_many(sim, response, [], Here)) == []


def test_an_iterator_is_read_as_far_as_it_is_needed(sim):
    """So tasks may be larger than memory, all together."""
    alive = weakref.WeakSet()

    class Large:
        def __init__(self, number):
            self.number = number
            alive.add(self)

    def tasks():
        for number in range(200):
            assert len(alive) <= 10
            yield Large(number)

    many = nengo_dl.iter_many(sim, lambda sim, task: task.number, tasks(), Here, chunk=2)
    assert [number for number, result in many if number == result] == list(range(200))


def test_an_iterator_that_fails_loses_nothing(sim):
    def tasks():
        yield from range(30)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone") as caught:
        nengo_dl.run_many(sim, lambda sim, task: task, tasks(), Here, chunk=1)
    results = caught.value.results
    assert len(results) == 30 and results[:20] == list(range(20))


def seed_of(sim, task):
    return sim.seed


def test_seeds(sim):
    endless = {"seeds": itertools.count(7), "chunk": np.int64(1)}
    assert nengo_dl.run_many(sim, seed_of, iter("abc"), Here, **endless) == [7, 8, 9]
    assert nengo_dl.run_many(sim, seed_of, "abc", Here) == [5, 6, 7]
    assert nengo_dl.run_many(sim, seed_of, "abc", Here, seeds=[9, 1, 9]) == [9, 1, 9]


def test_seeds_of_batches_do_not_overlap():
    with nengo_dl.Simulator(network(), seed=2**32 - 6, minibatch_size=4) as sim:
        seeds = nengo_dl.run_many(sim, seed_of, "abc", Here)
    assert seeds == [2**32 - 6, 1, 5]  # the last ones there are, and the first ones


def test_objects_of_the_network_are_those_at_hand(sim):
    """In tasks and in results, also if they are no attributes of the network."""
    net = sim.network

    def run(sim, data):
        sim.run_steps(5, data=data)
        assert net.probe is sim.network.probe  # in the function, too
        return {probe: sim.data[probe] for probe in sim.network.all_probes}

    task = {net.stimulus: np.ones((1, 5, 1))}
    (result,) = nengo_dl.run_many(sim, run, [task], Here)
    assert list(result) == [net.probe] and result[net.probe].shape == (5, 1)


def test_warnings_come_once(sim):
    def warning(sim, task):
        warn("this is wrong")
        return task

    with pytest.warns(UserWarning, match="this is wrong"):
        nengo_dl.run_many(sim, warning, range(3), Here)


def test_global_random_numbers_begin_anew(sim):
    def draw(sim, task):
        return random.random(), np.random.rand()

    np.random.seed(3)
    expected = np.random.RandomState(3).rand()
    results = nengo_dl.run_many(sim, draw, range(3), Here, seeds=[1, 2, 1])
    assert results[0] == results[2] != results[1]
    assert np.random.rand() == expected  # those of this process go on


# tasks do not meet --------------------------------------------------------------------


class Counter:
    """A function of time that counts its calls."""

    def __init__(self):
        self.count = 0

    def __call__(self, t):
        self.count += 1
        return self.count


def test_what_functions_of_nodes_keep_is_that_of_the_call():
    with nengo.Network(seed=0) as net:
        net.probe = nengo.Probe(nengo.Node(Counter(), size_out=1))

    def run(sim, task):
        sim.run_steps(2)
        return sim.data[sim.network.probe].ravel().tolist()

    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        begun = sim.network.nodes[0].output.count
        results = nengo_dl.run_many(sim, run, range(3), Here)
    assert results == [[begun + 1, begun + 2]] * 3


def write(sim, value):
    """Read a parameter, and change it."""
    bias = sim.data[sim.network.ensemble].bias.copy()
    signal = sim.model.sig[sim.network.ensemble.neurons]["bias"]
    sim._live.write({signal: np.full_like(bias, value)})
    return bias


def test_parameters_that_a_task_writes_are_not_seen_by_others(sim):
    bias = sim.data[sim.network.ensemble].bias
    results = nengo_dl.run_many(sim, write, [7.0, 8.0, 9.0], Here)
    assert same(results, [bias] * 3)


def test_written_parameters_are_sent():
    with nengo_dl.Simulator(network(), seed=5, progress_bar=False) as sim:
        write(sim, 7.0)
        results = nengo_dl.run_many(sim, write, [8.0, 9.0], Here)
        assert same(results, [np.full(10, 7.0)] * 2)


def test_what_was_learned_is_sent():
    with nengo.Network(seed=0) as net:
        ens = nengo.Ensemble(10, 1)
        error = nengo.Node([1.0])
        out = nengo.Node(size_in=1)
        conn = nengo.Connection(ens, out, learning_rule_type=nengo.PES(1e-2))
        nengo.Connection(error, conn.learning_rule)
        net.conn, net.probe = conn, nengo.Probe(out)

    def learn(sim, task):
        before = sim.data[sim.network.conn].weights.copy()
        sim.run_steps(10)
        return before, sim.data[sim.network.conn].weights.copy()

    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        built = sim.data[conn].weights.copy()
        sim.run_steps(10)
        learned = sim.data[conn].weights.copy()
        results = nengo_dl.run_many(sim, learn, range(3), Here)
    assert not np.array_equal(built, learned)
    for before, after in results:
        assert np.array_equal(before, learned)
        assert np.array_equal(after, results[0][1]) and not np.array_equal(after, before)


def test_a_task_may_close_the_simulator(sim, serial):
    def run(sim, value):
        with sim:
            return response(sim, value)

    assert same(nengo_dl.run_many(sim, run, VALUES, Here), serial)


# tasks that fail ----------------------------------------------------------------------


def sometimes(sim, task):
    """Errors of several kinds; one of them cannot be unpickled."""
    if task == "exit":
        raise SystemExit(3)
    if task == "nengo":
        raise ValidationError("a wrong value", attr="size")
    if task == "lambda":
        return (n for n in range(3))
    return task


TASKS = ["a", "exit", "b", "nengo", "lambda"]


def test_failures_in_the_place_of_results(sim):
    results = nengo_dl.run_many(sim, sometimes, TASKS, Here, on_error="return")
    assert [results[0], results[2]] == ["a", "b"]
    first, second, third = results[1], results[3], results[4]
    assert isinstance(first, nengo_dl.Failed) and (first.number, first.task) == (
        1,
        "exit",
    )
    assert first.message == "SystemExit: 3"
    assert "a wrong value" in second.message and "in sometimes" in second.traceback
    assert "the result, a generator, cannot be pickled" in third.message


def test_failures_are_raised_when_all_is_done(sim):
    with pytest.raises(SimulationError, match="tasks 1, 3, 4 of 5 failed") as caught:
        nengo_dl.run_many(sim, sometimes, TASKS, Here)
    assert "SystemExit: 3" in str(caught.value) and "in sometimes" in str(caught.value)
    results = caught.value.results
    assert results[0] == "a" and results[3].number == 3


def test_failures_are_raised_after_the_last_result(sim):
    found = []
    with pytest.raises(SimulationError, match="tasks 1, 3, 4 of 5") as caught:
        for number, result in nengo_dl.iter_many(sim, sometimes, TASKS, Here):
            found.append((number, result))
    assert sorted(found) == [(0, "a"), (2, "b")]
    assert [failed.number for failed in caught.value.results] == [1, 3, 4]


def test_failures_one_by_one(sim):
    found = dict(nengo_dl.iter_many(sim, sometimes, TASKS, Here, on_error="return"))
    assert found[0] == "a" and found[3].task == "nengo"


# arguments ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change, message",
    [
        ({"executor": 0}, "executor: got 0; expected None"),
        ({"executor": "thread"}, "executor: got thread"),
        ({"executor": lambda: 3}, "the function returned 3"),
        ({"seeds": [1]}, "one for each task, 2; got 1"),
        ({"seeds": [1, None]}, "got None among them"),
        ({"seeds": [1, -2]}, "got -2"),
        ({"seeds": itertools.count()}, "one for each task, 2; got more"),
        ({"seeds": [1], "tasks": iter([1, 2])}, "got 1, and there is a task 1"),
        ({"seeds": 3}, "seeds: expected a list, or .* got 3"),
        ({"tasks": 3}, "tasks: expected a list, or .* got 3"),
        ({"chunk": 0}, "at least 1, got 0"),
        ({"retries": -1}, "from 0 on; got -1"),
        ({"on_error": "skip"}, "'raise' or 'return'; got 'skip'"),
        ({"function": 3}, "takes a simulator and a task; got 3"),
        ({"sim": "sim"}, "expected a nengo_dl.Simulator; got sim"),
        ({"tasks": [1, (n for n in range(2))]}, "task 1, a generator, cannot be pickled"),
        ({"folder": __file__}, "folder: .* cannot be written to"),
    ],
)
def test_wrong_arguments(sim, change, message):
    given = {"sim": sim, "function": response, "tasks": [1, 2], "executor": Here}
    with pytest.raises(ValidationError, match=message):
        nengo_dl.run_many(**{**given, **change})


def test_iter_many_checks_at_once(sim):
    with pytest.raises(ValidationError, match="chunk"):
        nengo_dl.iter_many(sim, response, [1], Here, chunk=-1)


def test_closed_simulator():
    with nengo_dl.Simulator(network(), progress_bar=False) as sim:
        pass
    with pytest.raises(SimulatorClosed, match="call it inside the with"):
        nengo_dl.run_many(sim, response, [1], Here)
