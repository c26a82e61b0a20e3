"""What happens to tasks whose worker is lost, with executors that pretend it."""

import sys
from concurrent.futures import BrokenExecutor

import pytest
from nengo.exceptions import SimulationError

import nengo_dl
from tests.many.helpers import Fragile, Here


def double(sim, task):
    return 2 * task


EXPECTED = [2 * n for n in range(20)]


def losing(*times):
    """A function that makes executors, of which each loses a task so many times."""
    left = list(times)

    def deadly(number):
        if left and number == left[0]:
            left.pop(0)
            return True
        return False

    return lambda: Fragile(deadly)


@pytest.mark.parametrize("chunk", (None, 1, 7))
@pytest.mark.parametrize("lost", ([0], [3, 9, 19], [4, 4], [19, 19]))
def test_what_was_lost_is_repeated(sim, lost, chunk):
    executor = losing(*lost)
    assert nengo_dl.run_many(sim, double, range(20), executor, chunk=chunk) == EXPECTED


@pytest.mark.parametrize("retries", (1, 2, 3))
@pytest.mark.parametrize("chunk", (None, 5))
def test_nobody_else_is_given_up(sim, chunk, retries):
    """Tasks 5 and 13 end each worker that runs them."""

    def executor():
        return Fragile(lambda number: number in (5, 13))

    arguments = {"on_error": "return", "chunk": chunk, "retries": retries}
    results = nengo_dl.run_many(sim, double, range(20), executor, **arguments)
    failed = [r for r in results if isinstance(r, nengo_dl.Failed)]
    assert [f.number for f in failed] == [5, 13]
    assert f"was lost {retries + 1} times" in failed[0].message
    others = [r for r in results if not isinstance(r, nengo_dl.Failed)]
    assert others == [2 * n for n in range(20) if n not in (5, 13)]


def test_lost_tasks_are_an_error_with_all_results(sim):
    with pytest.raises(SimulationError, match="task 5 of 20 failed.*was lost") as caught:
        nengo_dl.run_many(sim, double, range(20), lambda: Fragile(lambda n: n == 5))
    assert caught.value.results[:5] == EXPECTED[:5]
    assert caught.value.results[5].traceback == ""


def test_no_retries(sim):
    with pytest.raises(SimulationError, match="its worker was lost once"):
        nengo_dl.run_many(sim, double, range(4), losing(0), retries=0)
    assert nengo_dl.run_many(sim, double, range(4), Here, retries=0) == EXPECTED[:4]


def test_workers_that_never_work(sim):
    before = Fragile.made
    with pytest.raises(SimulationError, match="before they give any result") as caught:
        nengo_dl.run_many(sim, double, range(200), lambda: Fragile(lambda n: True))
    assert Fragile.made - before == 5
    assert all(isinstance(r, nengo_dl.Failed) for r in caught.value.results)


def test_a_given_executor_is_not_replaced(sim):
    executor = Fragile(lambda number: number == 13)
    with pytest.raises(SimulationError, match="a function that makes") as caught:
        nengo_dl.run_many(sim, double, range(20), executor, chunk=2)
    assert caught.value.results[:4] == EXPECTED[:4]
    assert caught.value.results[19].message == "it was not run to its end"


class Forgetful(Here):
    """Loses single submissions, as dask does with tasks that end their workers."""

    def __init__(self):
        self.left = 3

    def submit(self, function, /, *args):
        self.left -= 1
        if not self.left:
            return super().submit(self.lose)
        return super().submit(function, *args)

    def lose(self):
        raise OSError("the connection is closed")


def test_single_submissions_that_are_lost(sim):
    assert nengo_dl.run_many(sim, double, range(20), Forgetful()) == EXPECTED


class Shut(Here):
    """Takes nothing, as executors do after their end."""

    def submit(self, function, /, *args):
        raise RuntimeError("cannot schedule new futures after shutdown")


def test_an_executor_that_was_shut_down(sim):
    with pytest.raises(SimulationError, match="takes no tasks: cannot schedule"):
        nengo_dl.run_many(sim, double, range(3), Shut())


class BrokenFromTheStart(Here):
    """Takes nothing since a worker was lost before."""

    def submit(self, function, /, *args):
        raise BrokenExecutor("a child process terminated abruptly")


def test_an_executor_that_was_broken_before(sim):
    with pytest.raises(SimulationError, match="executor is broken"):
        nengo_dl.run_many(sim, double, range(3), BrokenFromTheStart())


# engines ------------------------------------------------------------------------------


@pytest.mark.parametrize("name, package", [("loky", "loky"), ("dask", "distributed")])
def test_missing_packages_are_named(sim, monkeypatch, name, package):
    for module in (package, "joblib.externals.loky"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SimulationError, match=f"pip install {package}"):
        nengo_dl.run_many(sim, double, [1], name)
