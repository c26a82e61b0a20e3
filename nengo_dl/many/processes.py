"""Worker processes of our own: those of the standard library, spawned, and well-behaved.

``concurrent.futures.ProcessPoolExecutor`` does the work. What is added: scripts need no
``if __name__ == "__main__"`` where cloudpickle is installed, Ctrl-C reaches the parent
alone, which then ends the workers, no worker outlives its parent, and each computes in
as many threads as there are processors for it.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any

from nengo_dl.many.pickles import has_cloudpickle

#: set in workers: the process that started them
STARTED_BY = "NENGO_DL_MANY_STARTED_BY"

#: whether this process is a worker that has begun to work
_begun = False

#: what does not give the same numbers with another number of threads
SINGLE = (
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "TF_NUM_INTEROP_THREADS",
    "TF_NUM_INTRAOP_THREADS",
)


def processors() -> int:
    """How many processors this process may use.

    Examples
    --------
    >>> processors() >= 1
    True
    """
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return os.cpu_count() or 1


def read_by_worker() -> bool:
    """Whether a worker that is about to start reads the user's script just now."""
    return not _begun and os.environ.get(STARTED_BY) == str(os.getppid())


class OwnProcess(SpawnProcess):
    """A spawned process that starts in surroundings of its own."""

    #: environment variables; an attribute of the class, which is not sent along
    surroundings: dict[str, str] = {}

    def start(self) -> None:
        """Start the process; what it inherits is put back before this returns."""
        with _environment(self.surroundings), _no_interrupts(), _other_main():
            super().start()


class OwnContext(SpawnContext):
    """Makes spawned processes, and knows them.

    Parameters
    ----------
    workers : int
        How many there will be, which share the processors.
    """

    def __init__(self, workers: int) -> None:
        super().__init__()
        self.workers = workers
        self.started: list[SpawnProcess] = []

    # executors call it as a method, while the base class has a class there
    def Process(  # pyright: ignore[reportIncompatibleVariableOverride]  # a class there
        self, *args: Any, **kwargs: Any
    ) -> SpawnProcess:
        """A process that is not yet started."""
        process = OwnProcess(*args, **kwargs)
        OwnProcess.surroundings = _threads(self.workers)
        self.started.append(process)
        return process

    def kill(self) -> None:
        """End all processes at once."""
        for process in self.started:
            with contextlib.suppress(ValueError, AttributeError):  # it never began
                process.kill()


class _Member:
    """One process, and what it was given to do."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.given: list[Future] = []
        self.begin()

    def begin(self) -> None:
        """Get a process, which starts when there is something to do."""
        self.context = OwnContext(self.workers)
        self.pool = ProcessPoolExecutor(1, self.context, initializer=_begin)

    def busy(self) -> int:
        """How much there is to do."""
        self.given = [future for future in self.given if not future.done()]
        return len(self.given)

    def submit(self, function: Callable[..., Any], *args: Any) -> Future:
        """Give it more to do; if the process was lost, to another one."""
        try:
            future = self.pool.submit(function, *args)
        except BrokenExecutor:
            self.pool.shutdown()
            self.begin()
            future = self.pool.submit(function, *args)
        self.given.append(future)
        return future


class Crew(Executor):
    """Spawned processes, each an executor of its own: if one is lost, others go on.

    A lost process is replaced when there is more to do. The futures of what it was given
    raise ``BrokenExecutor``.

    Parameters
    ----------
    workers : int
        How many.
    """

    def __init__(self, workers: int) -> None:
        self._max_workers = workers
        self.members = [_Member(workers) for _ in range(workers)]

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        """See ``concurrent.futures.Executor.submit``."""
        member = min(self.members, key=_Member.busy)
        return member.submit(functools.partial(fn, **kwargs), *args)

    def kill_workers(self) -> None:
        """End all processes at once."""
        for member in self.members:
            member.context.kill()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """See ``concurrent.futures.Executor.shutdown``."""
        for waits in (False, wait):  # tell all of them before waiting for one
            for member in self.members:
                member.pool.shutdown(wait=waits, cancel_futures=cancel_futures)


def _begin() -> None:
    """What a worker does first."""
    global _begun
    _begun = True
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Without a parent nobody would ever send work, or tell this process to end."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


# what a process inherits --------------------------------------------------------------


def _threads(workers: int) -> dict[str, str]:
    """Environment variables for workers; what users set themselves stays."""
    found: dict[str, str] = dict.fromkeys(SINGLE, "1")
    found["OMP_NUM_THREADS"] = str(max(1, processors() // workers))
    found = {name: os.environ.get(name, value) for name, value in found.items()}
    return {**found, STARTED_BY: str(os.getpid())}


@contextlib.contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _no_interrupts() -> Iterator[None]:
    """Hold Ctrl-C back: processes started now never see it, ours does afterwards."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _other_main() -> Iterator[None]:
    """Hide the user's script: workers need not read it if functions come by value.

    So a script needs no ``if __name__ == "__main__"``, and none of its work is done
    again in each worker.
    """
    main = sys.modules["__main__"]
    if not has_cloudpickle():
        yield
        return
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
