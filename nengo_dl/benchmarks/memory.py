"""How much memory the process has, and had at most."""

from __future__ import annotations

import concurrent.futures
import gc
import multiprocessing
import pathlib
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

MB = 2**20

STATUS = pathlib.Path("/proc/self/status")
CLEAR = pathlib.Path("/proc/self/clear_refs")


def _status(field: str) -> float | None:
    """A figure of Linux about this process, in MB; None elsewhere."""
    try:
        lines = STATUS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    return None


def _highest() -> float:
    """The highest resident size so far in MB, where there is no ``/proc``."""
    import resource  # not on Windows

    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size / (MB if sys.platform == "darwin" else 1024)


def resident() -> float:
    """The memory that this process has now, in MB.

    Where Linux' ``/proc`` is missing, the most that it had so far.
    """
    size = _status("VmRSS")
    return _highest() if size is None else size


def peak() -> float:
    """The most memory that this process had since `forget_peak`, in MB.

    Where Linux' ``/proc`` is missing, since it started.
    """
    size = _status("VmHWM")
    return _highest() if size is None else size


def forget_peak() -> bool:
    """Start anew with `peak`; returns whether the system could do that."""
    gc.collect()
    try:
        CLEAR.write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


class PeakMemory:
    """The most memory that this process has inside a ``with`` block.

    The system's own figure where it can be set back, or else a thread that looks every
    few milliseconds. Blocks can be inside others.

    Attributes
    ----------
    before : float
        MB at the start.
    peak : float
        The most MB inside; known after the block.

    Examples
    --------
    >>> with PeakMemory() as memory:
    ...     x = np.ones(10**7)
    >>> memory.peak - memory.before > 50
    True
    """

    _open: list[PeakMemory] = []

    def __enter__(self) -> PeakMemory:
        for outer in self._open:  # the figure is about to be set back
            outer.peak = max(outer.peak, peak()) if outer._exact else outer.peak
        self._exact = forget_peak()
        self.before = self.peak = resident()
        self._stop = threading.Event()
        if not self._exact:
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
        self._open.append(self)
        return self

    def _watch(self):
        while not self._stop.wait(0.01):
            self.peak = max(self.peak, resident())

    def __exit__(self, *error: Any) -> None:
        self._stop.set()
        self._open.remove(self)
        if self._exact:
            self.peak = max(self.peak, peak())
        else:
            self._thread.join()
            self.peak = max(self.peak, resident())
        for outer in self._open:
            outer.peak = max(outer.peak, self.peak)


def in_new_process(function: Callable, *args: Any, **kwargs: Any) -> Any:
    """Call a function in a process of its own, whose memory nothing else has used.

    ``function``: it, its arguments and its result have to be picklable. Returns what it
    returns; what it raises is raised here.
    """
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *args, **kwargs).result()


def settled(pause: float = 0.0) -> float:
    """`resident`, after unused objects have been dropped."""
    gc.collect()
    time.sleep(pause)
    return resident()
