"""run_many with processes: equal results, whatever dies, is interrupted or left out."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
from nengo.exceptions import SimulationError

import nengo_dl
from nengo_dl.many import engines, processes
from tests.many.helpers import (
    die,
    in_a_row,
    kill,
    look_around,
    response,
    same,
    time_limit,
    troubled,
)

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")

VALUES = np.linspace(-1, 1, 40)


@pytest.fixture(autouse=True)
def limited():
    """Whatever hangs is ended, and with the call its workers."""
    with time_limit(60):
        yield


@pytest.fixture(scope="module")
def serial(sim):
    """The results of a loop."""
    return in_a_row(sim, VALUES)


@pytest.fixture(scope="module")
def pool():
    """Two processes that many tests share."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        yield pool


def ended(pid):
    """Whether a process has ended, which may take some moments."""
    for _ in range(100):
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("chunk", (None, 1, 5))
def test_results_are_those_of_a_loop(sim, serial, pool, chunk):
    assert same(nengo_dl.run_many(sim, response, VALUES, pool, chunk=chunk), serial)


def test_large_simulators_are_read_from_files(sim, serial, pool, tmp_path):
    results = nengo_dl.run_many(sim, response, VALUES, pool, folder=tmp_path)
    assert same(results, serial) and not list(tmp_path.iterdir())


def test_errors_and_warnings(sim, pool):
    with pytest.warns(
        UserWarning, match=r"in task \d of run_many: something odd"
    ) as told:
        results = nengo_dl.run_many(sim, troubled, range(7), pool, on_error="return")
    assert len(told) == 1 and told[0].filename == __file__
    assert results[4].message == "Speechless: <its text cannot be made>"
    assert results[5].message == "KeyboardInterrupt: "
    assert "its result cannot be unpickled (ValueError" in results[6].message
    assert "a wrong value" in results[1].message and "troubled" in results[1].traceback
    assert os.getpid() not in results


def test_three_workers_are_killed_and_nothing_is_lost(sim, serial, tmp_path):
    marks = {4: tmp_path / "a", 20: tmp_path / "b", 39: tmp_path / "c"}
    tasks = [(value, marks.get(n)) for n, value in enumerate(VALUES)]
    assert same(nengo_dl.run_many(sim, kill, tasks, 2, chunk=6), serial)
    assert all(mark.exists() for mark in marks.values())


def test_a_task_that_always_ends_its_worker(sim):
    with pytest.raises(
        SimulationError, match="task 2 of 6 failed.*was lost 2 times"
    ) as e:
        nengo_dl.run_many(sim, die, range(6), 2, retries=1)
    assert [r for r in e.value.results if r in range(6)] == [0, 1, 3, 4, 5]


def test_workers_of_our_own(sim, monkeypatch):
    for name in (*processes.SINGLE, "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    before = dict(os.environ)
    many = nengo_dl.iter_many(sim, look_around, range(100), 1)
    _, (threads, tensorflow, worker) = next(many)
    assert threads == ["1", "1", str(processes.processors())] and not tensorflow
    assert dict(os.environ) == before and sys.modules["__main__"].__name__ == "__main__"
    many.close()
    assert ended(worker)


def test_forked_processes_are_warned_of(sim, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", sys)
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as forks:
        with pytest.warns(UserWarning, match="hangs in a forked process"):
            engines.warn_of_forks(forks)


# scripts ------------------------------------------------------------------------------

#: the package that is tested, also if another one is installed
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

SCRIPT = """
import os, sys, time
import nengo
import nengo_dl
from nengo_dl.many import pickles
if sys.argv[1:] == ["plain"]:
    pickles.has_cloudpickle.__code__ = (lambda: False).__code__

print("reading", flush=True)
with nengo.Network(seed=0) as net:
    probe = nengo.Probe(nengo.Node(SQUARE, size_out=1))
    nengo.Node(size_in=1)

def run(sim, task):
    sim.run_steps(3)
    print("pid", os.getpid(), flush=True)
    time.sleep(SLEEP)
    return task * sim.data[probe][-1, 0]

def main():
    sim = nengo_dl.Simulator(net, progress_bar=False)
    print(nengo_dl.run_many(sim, run, range(4), 1, retries=0), flush=True)
    sim.close()
"""


def script(end, square="lambda t: (1000 * t) ** 2", sleep=0):
    text = SCRIPT.replace("SQUARE", square).replace("SLEEP", str(sleep))
    return textwrap.dedent(text) + end


def run(path, *arguments):
    command = [sys.executable, str(path), *arguments]
    options = {"capture_output": True, "text": True, "env": ENVIRONMENT}
    return subprocess.run(command, timeout=50, **options)


def test_a_script_needs_no_guard(tmp_path):
    """And may have lambdas, and read its probes by their name in the script."""
    pytest.importorskip("cloudpickle")
    path = tmp_path / "script.py"
    path.write_text(script("main()\n"))
    done = run(path)
    assert "[0.0, 9.0, 18.0, 27.0]" in done.stdout.replace("np.float32", "").replace(
        "(", ""
    ).replace(")", ""), done.stderr
    assert done.stdout.count("reading") == 1 and not done.stderr


def test_without_cloudpickle_a_guard_is_asked_for(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(script("main()\n", square="[9.0]"))
    done = run(path, "plain")
    assert "Put the call below if __name__ == '__main__'" in done.stderr
    assert "before they give any result" in done.stderr and done.returncode == 1


def started(path):
    """A running script, and the worker that it has started."""
    process = subprocess.Popen(
        [sys.executable, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        start_new_session=True,
        # shells let what runs in the background ignore Ctrl-C, and it inherits that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    for line in process.stdout:
        if line.startswith("pid"):
            return process, int(line.split()[1])
    raise AssertionError(process.stderr.read())


def finish(process):
    """End a script in any case."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)


@pytest.fixture
def sleeping(tmp_path):
    pytest.importorskip("cloudpickle")
    path = tmp_path / "script.py"
    path.write_text(script("main()\n", sleep=100))
    process, worker = started(path)
    yield process, worker
    finish(process)


def test_ctrl_c_ends_it_at_once(sleeping):
    process, worker = sleeping
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, errors = process.communicate(timeout=60)
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert errors.count("Traceback") == 1  # nothing of the workers
    assert ended(worker)


def test_no_worker_outlives_its_parent(sleeping):
    process, worker = sleeping
    process.kill()
    assert ended(worker)


# other engines ------------------------------------------------------------------------


def test_loky(sim, serial, tmp_path):

    try:
        engines.engine("loky")
    except SimulationError:
        pytest.skip("needs loky, or joblib")
    mark = tmp_path / "a"
    tasks = [(value, mark if n == 8 else None) for n, value in enumerate(VALUES)]
    assert same(nengo_dl.run_many(sim, kill, tasks, "loky"), serial)


def test_dask(sim, serial, tmp_path):

    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    mark = tmp_path / "a"
    tasks = [(value, mark if n == 8 else None) for n, value in enumerate(VALUES)]
    with distributed.Client(processes=True, silence_logs=50, **options) as client:
        assert same(nengo_dl.run_many(sim, kill, tasks, client), serial)
        assert same(nengo_dl.run_many(sim, response, VALUES, "dask"), serial)
        assert client.status == "running"
