"""What TensorFlow and Keras do by default while a simulator is in use.

These are settings of the process, which several simulators may want to have at a time,
in ``with`` blocks that do not end in the order in which they began. So their users are
counted: the one that came last has its way, and when all are gone everything is as
before.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np


class Shared:
    """A setting that several users want to have in their own way.

    Parameters
    ----------
    get, set : callable
        Read and write it.
    """

    def __init__(self, get: Callable[[], Any], set: Callable[[Any], None]) -> None:
        self._get, self._set = get, set
        self._uses: list[list] = []
        self._before: Any = None
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def being(self, value: Any) -> Iterator[None]:
        """Inside, it has a value, unless somebody who came later wants another one."""
        use = [value]
        with self._lock:
            if not self._uses:
                self._before = self._get()
            self._uses.append(use)
            self._set(value)
        try:
            yield
        finally:
            with self._lock:
                last = self._uses[-1] is use
                self._uses = [other for other in self._uses if other is not use]
                if last:
                    self._set(self._uses[-1][0] if self._uses else self._before)


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

    Parameters
    ----------
    device : str or None
        None leaves the choice to TensorFlow.
    dtype : numpy.dtype
        The type of new Keras variables, losses and metrics.
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
