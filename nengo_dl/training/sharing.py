"""One thread at a time in a simulator, and one default of TensorFlow for several.

A simulator has one state. What runs it or writes it takes the simulator's lock, so that
another thread waits until that is done. The thread that holds the lock may go on calling:
callbacks of Keras, which come between batches, predict and save. What cannot be is a call
from inside a step: a function of the network that runs, resets or closes its own
simulator would change what the step around it computes with. TensorFlow calls functions
from threads of its own, which may not wait either, because the holder waits for them.

That costs a step nothing but taking a lock: where a call comes from is found on the
stack, and only if somebody holds the lock.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, TypeVar, cast

import numpy as np
from nengo.builder import Model
from nengo.exceptions import SimulationError

from nengo_dl.notices import of_package
from nengo_dl.runtime.host import (
    called_by_tensorflow,
    frames,
    name_of_users_code,
    users_code,
)
from nengo_dl.runtime.tensorflow.switches import (
    Shared,
    apart,
    in_a_program,
    is_recorded,
)

Method = TypeVar("Method", bound=Callable)


#: seconds after which a thread that waits asks whether it is waited for itself
PATIENCE = 0.2

#: what a thread does that waits for the end of another one
JOIN = threading.Thread.join.__code__


class Turns:
    """Whose turn it is to use a simulator.

    Parameters
    ----------
    model : ~nengo.builder.Model
        The model that the simulator runs.

    Attributes
    ----------
    lock : threading.RLock
        Held by the thread that uses the simulator.
    holder : str or None
        The method that holds it.
    thread : int or None
        The thread that had it last.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self.lock = threading.RLock()
        self.holder: str | None = None
        self.thread: int | None = None

    def refuse_inside(self, method: str) -> None:
        """An error if a method is called from where its simulator waits for its end.

        Raises `SimulationError`.
        """
        if self.holder is not None:
            inside = self._inside()
            if inside is not None:
                raise SimulationError(self._refusal(method, inside))

    def _refusal(self, method: str, inside: str) -> str:
        return (
            f"Simulator.{method} was called from {inside}, while "
            f"Simulator.{self.holder} of the same simulator was running. What "
            "is called by a running simulator cannot run or change it: do that "
            "when the run has come to its end, step by step if need be "
            "(sim.step()), or use a second simulator"
        )

    def reading(self) -> contextlib.AbstractContextManager:
        """Context of what looks at live values, inside of a step as well."""
        if self.holder is not None and self._inside() is not None:
            return contextlib.nullcontext()
        return self.lock

    def _inside(self) -> str | None:
        """What the holder waits for and this thread is in, in words."""
        operators = set(self._model.operators)
        program = other = False
        for frame in frames(sys._getframe(3)):
            code = users_code(frame)
            if code is not None and code.op in operators:
                at = "" if code.t is None else f" at t={code.t:g}"
                return name_of_users_code(self._model, code.op) + at
            if frame.f_locals.get("turns") is self:
                return None  # the holder itself calls once more
            if self._is_fetched_for(frame):
                return "what gives data to it"
            other = other or code is not None
            program = program or called_by_tensorflow(frame)
        # in another simulator's program it may wait
        return "a Python function in a TensorFlow program" if program > other else None

    def _is_fetched_for(self, frame: FrameType) -> bool:
        """Whether a frame fetches data, batch by batch, for this simulator."""
        if frame.f_code.co_name not in ("elements", "__getitem__"):
            return False
        stream = getattr(frame.f_locals.get("self"), "stream", None)
        side = getattr(getattr(stream, "about", None), "side", None)
        return side is not None and side.model.turns is self

    def call(self, name: str, method: Callable, *args: Any, **kwargs: Any) -> Any:
        """Call a method when it is this thread's turn."""
        self.refuse_inside(name)
        if (in_a_program() or is_recorded()) and not self._is_held_here():
            # it is not part of that program: nothing of it is to be taken down
            return apart(self.call, name, method, *args, **kwargs)
        turns = self  # by which it is found on the stack
        with turns.taken(name):
            try:
                return method(*args, **kwargs)
            except Exception as error:
                self.add_place(error)
                raise

    @contextlib.contextmanager
    def taken(self, method: str) -> Iterator[None]:
        """Context of a method whose turn it is; it waits for that.

        Raises `SimulationError` if it would be waited for itself.
        """
        while not self.lock.acquire(timeout=PATIENCE):
            self.refuse_awaited(method)
        before, self.holder = self.holder, method
        self.thread = threading.get_ident()
        try:
            yield
        finally:
            self.holder = before
            self.lock.release()

    def refuse_awaited(self, method: str) -> None:
        """An error if the thread that holds the lock waits for the end of this one.

        Raises `SimulationError`.
        """
        me, awaited = threading.current_thread(), False
        for frame in frames(sys._current_frames().get(self.thread or 0)):
            code = frame.f_code
            awaited |= code is JOIN and frame.f_locals.get("self") is me
            found = users_code(frame) if awaited else None
            if found is not None and found.op in self._model.operators:
                at = "" if found.t is None else f" at t={found.t:g}"
                inside = name_of_users_code(self._model, found.op) + at
                inside = f"a thread that {inside} waits for"
                raise SimulationError(self._refusal(method, inside))

    def _is_held_here(self) -> bool:
        """Whether this thread holds the lock, which the lock itself says to nobody."""
        return getattr(self.lock, "_is_owned")()  # noqa: B009

    def add_place(self, error: Exception) -> None:
        """Add to what a user's function raised which one it was, and when.

        Only Python 3.11 and later have notes of exceptions.
        """
        trace, code, last = error.__traceback__, None, None
        if not hasattr(error, "add_note"):
            return
        while trace is not None:
            found = users_code(trace.tb_frame)
            code, last = found or code, trace.tb_frame
            trace = trace.tb_next
        if code is None or last is None or of_package(last):
            return
        if code.op not in self._model.operators:
            return
        at = "" if code.t is None else f" at t={code.t:g}"
        note = f"It was raised by {name_of_users_code(self._model, code.op)}{at}."
        if note not in getattr(error, "__notes__", ()):
            getattr(error, "add_note")(note)  # noqa: B009  (Python 3.10 has none)


def in_turn(method: Method) -> Method:
    """A method of `Simulator` that runs or writes: one thread at a time."""
    name = method.__name__

    @functools.wraps(method)
    def guarded(self, *args, **kwargs):
        return self._turns.call(name, method, self, *args, **kwargs)

    return cast(Method, guarded)


# what TensorFlow and Keras do by default ----------------------------------------


class _OfThread(threading.local):
    """What each thread has for itself: Keras' policy, TensorFlow's device."""

    def __init__(self) -> None:
        self.policy = Shared(
            lambda: _keras().dtype_policy(),
            lambda value: _keras().set_dtype_policy(value),
        )
        #: devices as contexts that are open; those of users that are gone, too
        self.devices: list[list] = []


def _keras() -> Any:
    return sys.modules["keras"].config


_floatx = Shared(lambda: _keras().floatx(), lambda value: _keras().set_floatx(value))
_own = _OfThread()


@contextlib.contextmanager
def tensorflow_defaults(device: str | None, dtype: np.dtype) -> Iterator[None]:
    """Inside, TensorFlow puts new things on a device, and Keras gives them a type.

    This is for what a user or this package makes there. It takes seconds to import
    TensorFlow and Keras; as long as neither has been imported there is nothing to do.

    ``device``: None leaves the choice to TensorFlow. ``dtype``: the type of new Keras
    variables, losses and metrics.
    """
    with contextlib.ExitStack() as stack:
        if device is not None and "tensorflow" in sys.modules:
            stack.enter_context(_on_device(device))
        if "keras" in sys.modules:
            # the policy first: as long as none was set, Keras makes it of the type
            stack.enter_context(_own.policy.being(dtype.name))
            stack.enter_context(_floatx.being(dtype.name))
        yield


@contextlib.contextmanager
def _on_device(device: str) -> Iterator[None]:
    """TensorFlow's device scopes have to end in the reverse order of their beginning.

    One that ends out of turn stays open until those that began later have ended.
    """
    scope = sys.modules["tensorflow"].device(device)
    scope.__enter__()
    use = [scope, True]
    devices = _own.devices
    devices.append(use)
    try:
        yield
    finally:
        use[1] = False
        while devices and not devices[-1][1]:
            devices.pop()[0].__exit__(None, None, None)
