"""Decoders that other processes or threads solve for, ahead of the build.

The build goes on in its order, and finds the decoders of the next connections solved, or
being solved: `Ahead`. What is sent are the arrays of the equations, not the network, and
what is solved with them is what the build would compute, in the same order of operations.
Only solvers without random numbers take part, so no number is drawn at another time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from nengo import Connection, Network
from nengo.builder import Model
from nengo.exceptions import BuildError
from nengo.rc import rc

from nengo_dl.notices import label_of

if TYPE_CHECKING:
    from nengo_dl.simulator.decoders import System

#: so many multiplications are sent together: some ten milliseconds of work
TOGETHER = 2e8

#: so many bytes of equations are sent and not yet read
MOST_BYTES = 2**26


class Wanted(NamedTuple):
    """Decoders of one ensemble that are to be solved for, as they are sent.

    ``encoders`` are divided by the radius, ``(dimensions, n_neurons)``.
    """

    neuron_type: Any
    gain: np.ndarray
    bias: np.ndarray
    encoders: np.ndarray
    eval_points: np.ndarray
    targets: list[tuple[Any, np.ndarray]]

    @property
    def cost(self) -> float:
        """Multiplications, about."""
        points, neurons = len(self.eval_points), self.gain.size
        least = min(points, neurons)
        return float(points) * neurons * least + float(least) ** 3 / 3

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays that are sent."""
        arrays = (self.gain, self.encoders, self.eval_points)
        return sum(a.nbytes for a in (*arrays, *(y for _, y in self.targets)))


def solved(chunk: Sequence[Wanted], bits: str) -> list[list[Any]]:
    """Solve for decoders, where they are sent to.

    Parameters
    ----------
    chunk : sequence of Wanted
    bits : str
        Nengo's setting of its precision.

    Returns
    -------
    list of list
        Decoders and solver information for each target; None if that failed: then the
        build does it again, and knows how to report it.
    """
    from nengo_dl.simulator.decoders import System

    if rc.get("precision", "bits") != bits:
        rc.set("precision", "bits", bits)
    found = []
    for wanted in chunk:
        system, mine = System(None), []
        inputs = np.dot(wanted.eval_points, wanted.encoders)
        for solver, targets in wanted.targets:
            ensemble = SimpleNamespace(neuron_type=wanted.neuron_type)
            conn: Any = SimpleNamespace(solver=solver, pre_obj=ensemble)
            about = conn, wanted.gain, wanted.bias, inputs, targets
            try:
                mine.append(system.solve(*about, np.random))
            except Exception:
                mine.append(None)
        found.append(mine)
    return found


class Ahead:
    """What is solved ahead of a build, by an executor.

    Parameters
    ----------
    executor : concurrent.futures.Executor
    network : ~nengo.Network
        What is built.
    prepare : callable
        ``prepare(model, conn)`` gives the `System` of a connection, a `Wanted` with its
        only target, and what it is known by in the system; None if it has to be solved
        for where it is built.
    """

    def __init__(self, executor: Executor, network: Network, prepare: Any) -> None:
        self.executor, self.prepare = executor, prepare
        self._siblings: dict[Connection, list] = {}
        for net in (network, *network.all_networks):
            self._siblings.update(dict.fromkeys(net.connections, net.connections))
        self._coming: Iterator[Connection] = iter(())
        self._list: list | None = None
        self._sent: deque[tuple[Future, int]] = deque()
        self._bytes = 0

    def reach(self, model: Model, conn: Connection) -> None:
        """A connection is built next; others of its network are sent ahead.

        When the first connection of a network is built, all its ensembles are.
        """
        siblings = self._siblings.get(conn)
        if siblings is not None and siblings is not self._list:
            self._list, self._coming = siblings, iter(siblings)
        while self._sent and self._sent[0][0].done():
            self._bytes -= self._sent.popleft()[1]
        while self._bytes < MOST_BYTES and self._send(model):
            pass

    def _send(self, model: Model) -> bool:
        """Send the next chunk; whether there was one."""
        chunk: dict[int, tuple[System, Wanted, list]] = {}
        cost = 0.0
        for conn in self._coming:
            prepared = self.prepare(model, conn)
            if prepared is None:
                continue
            system, wanted, key = prepared
            if id(system) in chunk:
                _, first, keys = chunk[id(system)]
                first.targets.extend(wanted.targets)
                keys.append(key)
            else:
                chunk[id(system)] = system, wanted, [key]
                cost += wanted.cost
            if cost > TOGETHER:
                break
        if not chunk:
            return False
        packets = [wanted for _, wanted, _ in chunk.values()]
        future = self._submitted(packets)
        size = sum(wanted.nbytes for wanted in packets)
        self._sent.append((future, size))
        self._bytes += size
        for number, (system, _, keys) in enumerate(chunk.values()):
            for place, key in enumerate(keys):
                system.awaited[key] = Answer(future, number, place)
        return True

    def _submitted(self, packets):
        try:
            return self.executor.submit(solved, packets, rc.get("precision", "bits"))
        except Exception as error:
            raise BuildError(_failed(error, "sending connections to it")) from error

    def end(self) -> None:
        """What nobody will ask for need not be solved."""
        for future, _ in self._sent:
            future.cancel()


class Answer(NamedTuple):
    """Where the decoders of one connection will be."""

    future: Future
    number: int
    place: int

    def result(self, conn: Connection) -> Any:
        """Decoders and solver information, or None; waits for them.

        Raises `~nengo.exceptions.BuildError` if the executor failed.
        """
        try:
            return self.future.result()[self.number][self.place]
        except Exception as error:
            where = f"solving for the decoders of {label_of(conn)}"
            raise BuildError(_failed(error, where)) from error


def _failed(error: Exception, where: str) -> str:
    return (
        f"the executor of the setting decoder_executor failed while {where} "
        f"({type(error).__name__}: {error}). Expected one that runs functions of "
        "nengo_dl and sends arrays to them, such as concurrent.futures."
        "ProcessPoolExecutor; give another one, or leave the setting out"
    )


def is_plain(array: np.ndarray) -> bool:
    """Whether an array lies in memory in the same way after it was sent."""
    return array.flags.c_contiguous or array.flags.f_contiguous
