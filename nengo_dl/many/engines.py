"""What runs tasks: our own processes, or whatever has the interface of an executor."""

from __future__ import annotations

import contextlib
import importlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import numpy as np
from nengo.exceptions import SimulationError, ValidationError

from nengo_dl.many.processes import Crew, processors
from nengo_dl.notices import label_of, warn

#: engines with a name, and the package that each of them needs
PACKAGES = {"loky": "loky", "dask": "distributed"}


class Engine(ABC):
    """Where executors come from, and how they are ended.

    Attributes
    ----------
    executor : Executor
        The present one.
    """

    #: whether there is another executor if one is broken
    renewable = True
    #: whether it replaces lost workers, so that the others go on
    heals = False
    #: whether workers may be on other machines
    remote = False

    executor: Executor

    @property
    def workers(self) -> int:
        """How many tasks run at a time, as far as that is known."""
        return workers_of(self.executor)

    @abstractmethod
    def begin(self) -> None:
        """Get an executor."""

    @abstractmethod
    def end(self, quickly: bool) -> None:
        """Give the executor back.

        ``quickly``: whatever runs is not waited for, where it can be ended.
        """


class OwnProcesses(Engine):
    """Spawned processes.

    Parameters
    ----------
    count : int
        How many.
    """

    heals = True

    def __init__(self, count: int) -> None:
        self.count = count

    @property
    def workers(self) -> int:
        """How many processes there are."""
        return self.count

    def begin(self) -> None:
        """See `Engine.begin`."""
        self.executor = self.crew = Crew(self.count)

    def end(self, quickly: bool) -> None:
        """See `Engine.end`."""
        if quickly:
            self.crew.kill_workers()
        self.executor.shutdown(wait=True, cancel_futures=True)


class Made(Engine):
    """Executors that a function makes.

    Parameters
    ----------
    make : callable
        Without arguments.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make

    def begin(self) -> None:
        """See `Engine.begin`; what is made must be an executor."""
        made = self.make()
        if not isinstance(made, Executor):
            raise ValidationError(
                f"executor: the function returned {label_of(made)}; expected a "
                "concurrent.futures.Executor",
                attr="run_many",
            )
        self.executor = made
        self.remote = not on_this_machine(made)
        warn_of_forks(made)

    def end(self, quickly: bool) -> None:
        """See `Engine.end`."""
        if quickly:
            kill = getattr(self.executor, "kill_workers", None)  # Python 3.14
            if kill is not None:
                kill()
            self.executor.shutdown(wait=False)
        else:
            self.executor.shutdown(wait=True)


class Given(Engine):
    """An executor of the user's, which is neither ended nor replaced.

    Parameters
    ----------
    executor : Executor
        The executor.
    """

    renewable = False

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self.remote = not on_this_machine(executor)

    def begin(self) -> None:
        """See `Engine.begin`: it is there."""
        warn_of_forks(self.executor)

    def end(self, quickly: bool) -> None:
        """See `Engine.end`: it stays."""


class Loky(Engine):
    """The workers of loky, which stay for the next call."""

    def __init__(self) -> None:
        self.loky = _imported("loky")

    def begin(self) -> None:
        """See `Engine.begin`."""
        self.executor = self.loky.get_reusable_executor(processors(), timeout=300)

    def end(self, quickly: bool) -> None:
        """See `Engine.end`."""
        if quickly:
            self.executor.shutdown(wait=True, kill_workers=True)  # pyright: ignore[reportCallIssue]  # loky's own


class Dask(Engine):
    """The workers of a dask cluster.

    Parameters
    ----------
    client : distributed.Client or None
        None: the one that was made last, else one of this machine, for this call.
    """

    remote = True

    def __init__(self, client: Any = None) -> None:
        self.distributed = _imported("dask")
        self.client: Any = client
        self.own = False

    @property
    def workers(self) -> int:
        """Threads of all workers there are now."""
        return max(1, sum(self.client.ncores().values()))

    def begin(self) -> None:
        """See `Engine.begin`."""
        if self.client is None:
            with contextlib.suppress(ValueError):  # there is none
                self.client = self.distributed.default_client()
        if self.client is None:
            options = {"processes": True, "dashboard_address": None}
            self.client = self.distributed.Client(threads_per_worker=1, **options)
            self.own = True
        self.executor = self.client.get_executor(pure=False)

    def end(self, quickly: bool) -> None:
        """See `Engine.end`."""
        if self.own:
            self.client.close()
            self.client, self.own = None, False


def _imported(name: str) -> Any:
    package = PACKAGES[name]
    for module in (package, *(["joblib.externals.loky"] if name == "loky" else [])):
        with contextlib.suppress(ImportError):
            return importlib.import_module(module)
    raise SimulationError(
        f"run_many: the executor {name!r} needs the package {package}, which is not "
        f"installed: pip install {package}. Without an executor, processes of this "
        "machine are used, which need nothing"
    )


def engine(executor: Any) -> Engine:
    """The engine that the argument ``executor`` of `.run_many` asks for.

    Raises `ValidationError` for whatever is none, and `SimulationError` if its package is
    missing.
    """
    whole = isinstance(executor, int | np.integer) and not isinstance(executor, bool)
    if executor is None:
        return OwnProcesses(processors())
    if whole and executor >= 1:
        return OwnProcesses(int(executor))
    if executor == "loky":
        return Loky()
    if executor == "dask":
        return Dask()
    if isinstance(executor, Executor):
        return Given(executor)
    if type(executor).__module__.partition(".")[0] == "distributed":
        if hasattr(executor, "get_executor"):
            return Dask(executor)
    if callable(executor):
        return Made(executor)
    raise ValidationError(
        f"executor: got {label_of(executor)}; expected None for a process on each "
        "processor, a number of processes, 'loky', 'dask', a dask client, a "
        "concurrent.futures.Executor, or a function that makes one",
        attr="run_many",
    )


def workers_of(executor: Executor) -> int:
    """How many tasks an executor runs at a time; if unknown, one for each processor."""
    count = getattr(executor, "_max_workers", None)
    return count if isinstance(count, int) and count > 0 else processors()


def on_this_machine(executor: Executor) -> bool:
    """Whether the workers of an executor surely are on this machine."""
    if isinstance(executor, ProcessPoolExecutor | ThreadPoolExecutor):
        return True
    return "loky" in type(executor).__module__


def warn_of_forks(executor: Executor) -> None:
    """Warn of processes that are copies of one in which TensorFlow has threads."""
    if not isinstance(executor, ProcessPoolExecutor) or "tensorflow" not in sys.modules:
        return
    context = getattr(executor, "_mp_context", None)
    if context is not None and context.get_start_method(allow_none=True) == "fork":
        warn(
            "run_many: the executor forks its processes, and TensorFlow is imported. "
            "Whatever runs in TensorFlow hangs in a forked process. Leave the executor "
            "out, or give ProcessPoolExecutor the argument "
            "mp_context=multiprocessing.get_context('spawn')",
            once="run_many forks",
        )
