"""What workers do: tasks, one after the other, each in a simulator as it was sent.

A worker keeps the simulator between tasks, since resetting one takes a thousandth of the
time of unpickling and compiling it. What a reset does not bring back (parameters that a
task has written, objects that a node's function has changed) is noticed, and then the
simulator is unpickled once more. So no task sees what another one did.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import pickle
import random
import threading
import time
import traceback
import warnings
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from nengo_dl.many.parcels import Parcel
from nengo_dl.many.pickles import Translator
from nengo_dl.many.tasks import Item, Outcome, Reply

#: what Nengo warns of whenever a node without a function is unpickled
OF_UNPICKLING = "'Node.size_out' is being overwritten"

#: what each thread keeps: a simulator is used by one at a time
_kept = threading.local()


class Workplace:
    """The simulator of a worker, and what is called with it.

    Parameters
    ----------
    data : bytes
        From `.pickles.pickled_simulator`.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._unpickle()

    def _unpickle(self) -> None:
        self.sim, self.function = pickle.loads(self.data)
        # one that is let go of without being closed says so
        self._finalizer = weakref.finalize(self, self.sim.close)
        self._finalizer.atexit = False
        self.translator = Translator(self.sim)
        live = self.sim._live
        self._learned = {s: np.array(v) for s, v in live.learned().items()}
        self._loaded = dict(live.loaded)
        self._version = live.parameters.version
        self._beginning = self.sim._run.beginning if live.program.hosts else None

    def _as_sent(self) -> bool:
        """Whether a reset brings back all that was sent."""
        if self.sim.closed:
            return False
        live = self.sim._live
        live.pull()
        if live.parameters.version != self._version or live.loaded != self._loaded:
            return False
        return self._beginning is None or not self._beginning.others_changed()

    def reset(self, seed: int) -> None:
        """The simulator as it was sent, at its first step, with a seed."""
        if not self._as_sent():
            self._finalizer()
            self._unpickle()
        self.sim.reset(seed=seed, include_trainable=False)
        learned = {signal: value.copy() for signal, value in self._learned.items()}
        self.sim._program.store.values.update(learned)

    def run(self, item: Item) -> bytes:
        """The pickled result of a task; raises whatever goes wrong."""
        task = self.translator.loads(item.task)
        self.reset(item.seed)
        result = self.function(self.sim, task)
        try:
            return self.translator.dumps(result)
        except Exception as error:
            raise TypeError(
                f"the result, a {type(result).__name__}, cannot be pickled "
                f"({type(error).__name__}: {error}). Return arrays, numbers, or plain "
                "data made of them"
            ) from error


def work(parcel: Parcel, items: Sequence[Item]) -> Reply:
    """Run tasks; called in a worker.

    Parameters
    ----------
    parcel : Parcel
        Simulator and function.
    items : sequence of Item
        The tasks.

    Returns
    -------
    Reply
        Errors of tasks are in it as text: an exception that cannot be unpickled would
        break the executor, and lose what all others did.
    """
    elsewhere = os.getpid() != parcel.sender
    with _surroundings() if elsewhere else contextlib.nullcontext():
        try:
            place = _workplace(parcel)
        except Exception as error:
            name = type(error).__name__
            return Reply(unusable=f"{name}: {_text(error)}\n{_trace(error)}")
        began = time.perf_counter()
        outcomes = [_outcome(place, item, elsewhere) for item in items]
        return Reply(outcomes, time.perf_counter() - began)


def _workplace(parcel: Parcel) -> Workplace:
    """What this thread keeps of an earlier submission, or a new one."""
    if getattr(_kept, "key", None) != parcel.key:
        _kept.key = _kept.place = None  # lets go of the one before
        _kept.place = Workplace(parcel.content())
        _kept.key = parcel.key
    return _kept.place


def forget() -> None:
    """Let go of what this thread keeps."""
    _kept.__dict__.clear()


def _outcome(place: Workplace, item: Item, elsewhere: bool) -> Outcome:
    outcome = Outcome(item.number)
    with _heard(outcome) if elsewhere else contextlib.nullcontext(), _seeded(item.seed):
        try:
            outcome.result = place.run(item)
        except BaseException as error:
            if not elsewhere and not isinstance(error, Exception | SystemExit):
                raise  # Ctrl-C was pressed here
            outcome.message = f"{type(error).__name__}: {_text(error)}"
            outcome.traceback = _trace(error)
    return outcome


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "<its text cannot be made>"


def _trace(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


@contextlib.contextmanager
def _surroundings() -> Iterator[None]:
    """What is different in a worker from where the call was made."""
    with single_threaded(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=OF_UNPICKLING)
        yield


@contextlib.contextmanager
def _heard(outcome: Outcome) -> Iterator[None]:
    """Note warnings, which nobody would see here."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("default")
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=ResourceWarning)
        warnings.filterwarnings("ignore", message=OF_UNPICKLING)
        yield
    for warning in heard:
        try:
            category = pickle.dumps(warning.category)
        except Exception:
            category = pickle.dumps(UserWarning)
        outcome.warnings.append((category, str(warning.message)))


# global random numbers ----------------------------------------------------------------


class _GlobalNumbers:
    """Numbers of ``random`` and ``numpy.random``, which all threads share."""

    def __init__(self) -> None:
        self.lock, self.users = threading.Lock(), 0
        self.before: Any = None  # their states, while tasks use them

    def seed(self, seed: int) -> None:
        with self.lock:
            if not self.users:
                self.before = random.getstate(), np.random.get_state()
            self.users += 1
        random.seed(seed)
        np.random.seed(seed % 2**32)

    def put_back(self) -> None:
        with self.lock:
            self.users -= 1
            if not self.users:
                random.setstate(self.before[0])
                np.random.set_state(self.before[1])


_numbers = _GlobalNumbers()


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Begin what is drawn without a generator of one's own from a seed, too."""
    _numbers.seed(seed)
    try:
        yield
    finally:
        _numbers.put_back()


# threads ------------------------------------------------------------------------------


@functools.cache
def _controller() -> Any:
    if importlib.util.find_spec("threadpoolctl") is None:
        return None
    import threadpoolctl

    return threadpoolctl.ThreadpoolController()


def single_threaded() -> Any:
    """Limit BLAS to one thread, as a context: on how many depends how sums are rounded.

    Without threadpoolctl there is no limit but what environment variables say.
    """
    controller = _controller()
    if controller is None:
        return contextlib.nullcontext()
    return controller.limit(limits=1, user_api="blas")
