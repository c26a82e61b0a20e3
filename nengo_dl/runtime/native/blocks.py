"""A batch cut into blocks of items, each of which runs all its steps by itself.

Items of a batch do not meet. A few of them run many steps while what they carry is in
the caches of a processor; all of them together read and write more memory in each step
than caches hold. All blocks have the same size, so one piece of machine code runs them.
Which items are in a block follows from the network and the batch alone, never from the
number of threads: results are the same to the bit.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
from _thread import allocate_lock, start_new_thread
from collections.abc import Callable

import numpy as np


class Division:
    """Items in blocks of equal size.

    The last block may have places beyond the batch. They run like the last item, so
    that nothing happens in them that does not happen in the batch.

    Parameters
    ----------
    batch : int
        How many items there are.
    size : int
        Places of a block.

    Attributes
    ----------
    count : int
        How many blocks there are.

    Examples
    --------
    >>> division = Division(5, 2)
    >>> blocks = np.zeros((3, 1, 2))
    >>> division.spread(np.arange(5.0)[None], blocks)
    >>> blocks[:, 0]
    array([[0., 1.],
           [2., 3.],
           [4., 4.]])
    >>> division.collected(blocks)
    array([[0., 1., 2., 3., 4.]])
    """

    def __init__(self, batch: int, size: int) -> None:
        self.batch, self.size = batch, size
        self.count = -(-batch // size)

    def items(self, k: int) -> slice:
        """The items of block ``k``."""
        return slice(k * self.size, min((k + 1) * self.size, self.batch))

    def put(self, values: np.ndarray, k: int, block: np.ndarray) -> None:
        """Copy the items of block ``k``, from ``(..., batch)`` to ``(..., size)``."""
        items = values[..., self.items(k)]
        many = items.shape[-1]
        block[..., :many] = items
        if many < self.size:
            block[..., many:] = items[..., -1:]

    def pairs(self, values: np.ndarray, blocks: np.ndarray) -> list[tuple]:
        """Views of ``(..., batch)`` and ``(count, ..., size)`` on the same items.

        Each is a pair of arrays of one shape.
        """
        lead, (full, rest) = values.shape[:-1], divmod(self.batch, self.size)
        found = []
        if full:
            many = values[..., : full * self.size].reshape(*lead, full, self.size)
            n = len(lead)
            found.append((many.transpose(n, *range(n), n + 1), blocks[:full]))
        if rest:
            found.append((values[..., full * self.size :], blocks[full][..., :rest]))
        return found

    def padding(self, values: np.ndarray, blocks: np.ndarray) -> list[tuple]:
        """Views of the last item and of places beyond the batch, which have what it has.

        They are pairs of arrays that broadcast, see `pairs`.
        """
        rest = self.batch % self.size
        return [(values[..., -1:], blocks[-1][..., rest:])] if rest else []

    def spread(self, values: np.ndarray, blocks: np.ndarray) -> None:
        """Copy ``(..., batch)`` to ``(count, ..., size)``."""
        for items, places in self.pairs(values, blocks) + self.padding(values, blocks):
            places[...] = items

    def collect(self, blocks: np.ndarray, values: np.ndarray) -> None:
        """Copy ``(count, ..., size)`` to ``(..., batch)``."""
        for items, places in self.pairs(values, blocks):
            items[...] = places

    def collected(self, blocks: np.ndarray) -> np.ndarray:
        """The items of ``(count, ..., size)`` as ``(..., batch)``, a copy."""
        values = np.empty((*blocks.shape[1:-1], self.batch), blocks.dtype)
        self.collect(blocks, values)
        return values


def processors() -> int:
    """How many threads may compute: one for each processor that this process may use.

    The environment variable ``OMP_NUM_THREADS`` limits them, as it does those of other
    libraries.

    Examples
    --------
    >>> processors() >= 1
    True
    """
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        count = os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return min(count, int(limit)) if limit.isdigit() and int(limit) else count


class Companion:
    """A thread beside the present one, which goes on before that has begun.

    ``threading.Thread.start`` waits until the new thread runs, which takes a processor
    that is free: up to a millisecond where those of another library wait for work.

    Parameters
    ----------
    work : callable
        Must not raise.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        self.work = work
        self.done = False
        self._ended = allocate_lock()
        self._ended.acquire()

    def begin(self) -> None:
        """Start, as soon as there is a processor.

        Raises
        ------
        RuntimeError
            If there can be no more threads.
        """
        start_new_thread(self._run, ())

    def _run(self) -> None:
        self.work()
        self.done = True
        self._ended.release()

    def wait(self) -> None:
        """Return when it has ended. What is raised meanwhile does not stop it."""
        self._ended.acquire()


def in_threads(tasks: int, threads: int, work: Callable[[int, int], None]) -> None:
    """Call ``work(task, thread)`` for each task, in whatever order.

    Each thread takes the next task when it is done with one. The present thread is number
    0; the others begin and end here, so that none is left when a process forks, or ends.

    Parameters
    ----------
    tasks, threads : int
        How many.
    work : callable
        What it raises, in whichever thread, is raised here, when all threads have ended:
        so are interrupts. Nothing changes memory any more then.
    """
    numbers = itertools.count()
    failures: list[BaseException] = []

    def run(thread: int) -> None:
        try:
            while not failures:
                task = next(numbers)
                if task >= tasks:
                    return
                work(task, thread)
        except BaseException as error:
            failures.append(error)

    # An interrupt may come when a thread has begun and is not in the list yet, which
    # nobody would wait for. So they take their first task when all are in there.
    gate = allocate_lock()

    def behind_the_gate(thread: int) -> None:
        with gate:
            pass
        run(thread)

    others: list[Companion] = []
    try:
        with gate, contextlib.suppress(RuntimeError):  # no more threads
            for k in range(1, threads):
                other = Companion(functools.partial(behind_the_gate, k))
                other.begin()
                others.append(other)
        run(0)
    except BaseException as error:
        failures.append(error)
    for other in others:
        while not other.done:
            try:
                other.wait()
            except BaseException as error:
                failures.append(error)
    if failures:
        raise failures[0]
