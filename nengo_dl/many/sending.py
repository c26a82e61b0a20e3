"""Tasks on their way: which go together, and what happens if a worker is lost."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Future,
    wait,
)

from nengo.exceptions import SimulationError

from nengo_dl.many.engines import Engine
from nengo_dl.many.parcels import Parcel
from nengo_dl.many.supply import Supply
from nengo_dl.many.tasks import Item, Outcome
from nengo_dl.many.worker import work

#: at most so many tasks go together
LARGEST = 64

#: seconds that a submission should take, unless the user says how many tasks go together
AIM = 0.25

#: submissions under way for each worker: one is done, one waits
AHEAD = 2

#: so many submissions to each worker may be lost in a row, and one for each retry
HOPELESS = 10

#: likewise, before there was any result
FIRST = 2


class Lost(SimulationError):
    """No task can be run any more."""


class Sending:
    """Tasks that are sent to an engine, as an iterator over what became of them.

    A task that was under way when its worker was lost is sent again, by itself. A last
    time it is sent when nothing else is under way, so that it alone is to blame if the
    worker is lost again, and no task is given up for what another one does.

    Parameters
    ----------
    engine : Engine
        What runs them; it has begun.
    parcel : Parcel
        Simulator and function.
    supply : Supply
        The tasks.
    chunk : int or None
        How many go together. None: as many as take `AIM` seconds.
    retries : int
        How often a task is sent again.
    """

    def __init__(
        self,
        engine: Engine,
        parcel: Parcel,
        supply: Supply,
        chunk: int | None,
        retries: int,
    ) -> None:
        self.engine, self.parcel, self.retries = engine, parcel, retries
        self.supply = supply
        self.again, self.alone = deque[Item](), deque[Item]()
        self.waiting: dict[Future, list[Item]] = {}
        self.lost: dict[int, int] = {}
        self.chunk = chunk
        self.most = LARGEST
        if supply.count is not None:
            self.most = min(LARGEST, math.ceil(supply.count / (4 * engine.workers)))
        self.seconds, self.done = 0.0, 0
        self.in_vain = 0

    def __iter__(self) -> Iterator[Outcome]:
        while True:
            broken = self._send()
            if not self.waiting and broken is None:
                return
            if broken is None:
                found, _ = wait(self.waiting, return_when=FIRST_COMPLETED)
                for future in [f for f in self.waiting if f in found]:
                    outcomes, error = self._received(future)
                    yield from outcomes
                    if isinstance(error, BrokenExecutor):
                        broken = self._broken(error)
            if broken is not None:
                yield from self._renewed(broken)

    def cancel(self) -> None:
        """Let what waits be forgotten."""
        for future in self.waiting:
            future.cancel()
        self.waiting.clear()

    # sending --------------------------------------------------------------------------

    def _send(self) -> BrokenExecutor | None:
        """Keep all workers busy; the error if the executor is broken."""
        while len(self.waiting) < AHEAD * self.engine.workers:
            items = self._next()
            if not items:
                return None
            try:
                future = self.engine.executor.submit(work, self.parcel, items)
            except BrokenExecutor as error:
                self.supply.put_back(items)
                return error
            except RuntimeError as error:
                raise Lost(f"the executor takes no tasks: {error}") from error
            self.waiting[future] = items
        return None

    def _next(self) -> list[Item]:
        items, count = list[Item](), self._together()
        until = time.perf_counter() + AIM  # an iterator may need time for each
        while len(items) < count and (not items or time.perf_counter() < until):
            item = self.supply.next()
            if item is None:
                break
            items.append(item)
        if items:
            return items
        if self.again:
            return [self.again.popleft()]
        if self.alone and not self.waiting:
            return [self.alone.popleft()]
        return []

    def _together(self) -> int:
        """How many tasks go together."""
        if self.chunk is not None:
            return self.chunk
        if not self.done:
            return 1
        return max(1, min(self.most, int(AIM * self.done / max(self.seconds, 1e-9))))

    # receiving ------------------------------------------------------------------------

    def _received(self, future: Future) -> tuple[list[Outcome], BaseException | None]:
        """What became of a submission, and what went wrong with its worker."""
        items = self.waiting.pop(future)
        try:
            reply = future.result()
        except (Exception, CancelledError) as error:
            return self._again(items, error), error
        if reply.unusable:
            raise Lost(f"a worker cannot use what it was sent: {reply.unusable}")
        self.in_vain = 0
        self.done += len(items)
        self.seconds += reply.seconds
        return reply.outcomes, None

    def _again(self, items: list[Item], error: BaseException) -> list[Outcome]:
        """Note what was under way when a worker was lost, and what is given up."""
        given_up = []
        for item in items:
            times = self.lost[item.number] = self.lost.get(item.number, 0) + 1
            if times > self.retries:
                given_up.append(Outcome(item.number, message=_story(times, error)))
            elif times == self.retries:
                self.alone.append(item)
            else:
                self.again.append(item)
        return given_up

    def _broken(self, error: BrokenExecutor) -> BrokenExecutor | None:
        """The error if the executor is broken by it; None if others go on."""
        if not self.engine.heals:
            return error
        self._require_hope(error)
        return None

    def _renewed(self, error: BrokenExecutor) -> list[Outcome]:
        """Go on with another executor; returns what is given up."""
        outcomes: list[Outcome] = []
        for future in list(self.waiting):  # all of them are over
            outcomes += self._received(future)[0]
        if not (self.again or self.alone or self.supply.any()):
            return outcomes
        if not self.engine.renewable:
            raise Lost(
                f"the executor is broken ({_text(error)}). Give run_many a function that "
                "makes executors, and it goes on with another one"
            ) from error
        self._require_hope(error)
        self.engine.end(quickly=True)
        self.engine.begin()
        return outcomes

    def _require_hope(self, error: BaseException) -> None:
        """Raise an error if workers are lost one after the other, and nothing is done."""
        self.in_vain += 1
        if self.in_vain > (
            HOPELESS if self.done else FIRST * self.engine.workers + self.retries
        ):
            raise Lost(
                f"workers end before they give any result ({_text(error)}). What they "
                "printed last says why: mostly no memory was left, the function ends "
                "its process, or the script lacks an if __name__ == '__main__' around "
                "the call (with cloudpickle installed it needs none)"
            ) from error


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")


def _story(times: int, error: BaseException) -> str:
    often = "once" if times == 1 else f"{times} times"
    return f"its worker was lost {often}, the last time with {_text(error)}"
