"""What a network would be in several parts: how much of it would have to be exchanged.

Nothing is computed in parts today; this tells with figures whether that could pay. A
connection may be cut if its values arrive a step later anyway, so if it has a synapse,
and if nothing but its values goes across: no learning rule, no probe of the connection.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
from nengo import Connection, Ensemble, Network, Node
from nengo.base import ObjView
from nengo.connection import LearningRule
from nengo.ensemble import Neurons
from nengo.exceptions import ValidationError

from nengo_dl.compiler.chain import components

#: how much larger than the mean a part may become
LARGER = 1.05


def describe_parts(network: Network | None, parts: int) -> str:
    """Components of a network, and figures for its parts.

    Parameters
    ----------
    network : ~nengo.Network
    parts : int
        How many.

    Returns
    -------
    str
        Strongly connected components; then for each part its neurons, the values that it
        gets and gives in each step, and with how many others it exchanges them.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If there are fewer pieces than parts, or no network.

    Examples
    --------
    >>> import nengo
    >>> with nengo.Network() as net:
    ...     a, b = nengo.Ensemble(30, 1), nengo.Ensemble(20, 1)
    ...     conn = nengo.Connection(a, b)
    >>> print(describe_parts(net, 2).splitlines()[-1])
    1 of 1 values cross in each step
    """
    if network is None:
        raise ValidationError(
            "the simulator was made of a model without its network, which tells what is "
            "connected; give the network",
            attr="parts",
        )
    pieces = _Pieces(network)
    if not 1 <= parts <= max(1, pieces.count):
        raise ValidationError(
            f"expected a number from 1 to {max(1, pieces.count)}, the pieces that may be "
            f"apart; got {parts}",
            attr="parts",
        )
    return "\n".join(_lines(pieces, pieces.shared_out(parts), parts))


def _lines(pieces: _Pieces, part: np.ndarray, parts: int) -> Iterator[str]:
    before, after, values = pieces.edges
    group = components(pieces.count, before, after)
    sizes = np.bincount(group, pieces.neurons).astype(int)
    yield (
        f"{len(pieces.of)} ensembles and nodes, {sizes.sum()} neurons: {sizes.size} "
        f"strongly connected components, the largest with {sizes.max(initial=0)}"
    )
    yield (
        f"{pieces.count} pieces may be apart (connections without a synapse, with a "
        f"learning rule or a probe are not cut), in {parts} parts:"
    )
    yield "part    neurons     pieces  values in values out neighbours"
    cut = part[before] != part[after]
    neurons = np.bincount(part, pieces.neurons, parts).astype(int)
    number = np.bincount(part, minlength=parts)
    given = np.bincount(part[before[cut]], values[cut], parts).astype(int)
    taken = np.bincount(part[after[cut]], values[cut], parts).astype(int)
    pairs = set(zip(part[before[cut]].tolist(), part[after[cut]].tolist()))
    near = [len({b for a, b in pairs | {p[::-1] for p in pairs} if a == k})
            for k in range(parts)]  # fmt: skip
    for k in range(parts):
        yield (
            f"{k:<4}{neurons[k]:>11}{number[k]:>11}{taken[k]:>11}{given[k]:>11}"
            f"{near[k]:>11}"
        )
    total = int(values.sum())
    yield f"{int(values[cut].sum())} of {total} values cross in each step"


class _Pieces:
    """What of a network may be apart, and what goes between.

    Attributes
    ----------
    of : dict
        Ensembles and nodes -> number of their piece.
    count : int
        How many pieces there are.
    neurons : ndarray
        Neurons of each piece.
    edges : (before, after, values)
        Pieces that something goes between, and how many values in each step.
    """

    def __init__(self, network: Network) -> None:
        objects = [*network.all_ensembles, *network.all_nodes]
        number = {obj: i for i, obj in enumerate(objects)}
        probed = {id(probe.target) for probe in network.all_probes}
        links = []
        for conn in network.all_connections:
            ends = number[_owner(conn.pre)], number[_owner(conn.post)]
            whole = conn.synapse is None or conn.learning_rule_type is not None
            links.append((*ends, _values(conn), whole or id(conn) in probed))
        first, second, sent, tied = np.array(links, np.int64).reshape(-1, 4).T
        ties = tied.astype(bool)
        two = np.concatenate([first[ties], second[ties]])
        other = np.concatenate([second[ties], first[ties]])
        piece = components(len(objects), two, other)
        self.of = {obj: int(piece[i]) for obj, i in number.items()}
        self.count = int(piece.max(initial=-1)) + 1
        sizes = [obj.n_neurons if isinstance(obj, Ensemble) else 0 for obj in objects]
        self.neurons = np.bincount(piece, sizes, self.count)
        self.edges = piece[first], piece[second], sent
        apart = self.edges[0] != self.edges[1]
        self.edges = tuple(column[apart] for column in self.edges)

    def shared_out(self, parts: int) -> np.ndarray:
        """The part of each piece: parts grow one after the other, along most values."""
        near: defaultdict[int, Counter] = defaultdict(Counter)
        for a, b, n in zip(*(column.tolist() for column in self.edges)):
            near[a][b] += n
            near[b][a] += n
        weight = self.neurons + 1e-3  # pieces without neurons count a little
        part = np.full(self.count, parts - 1)
        free = set(range(self.count))
        rest = float(weight.sum())
        for k in range(parts - 1):
            wanted, got = rest / (parts - k), 0.0
            reach: Counter = Counter()
            queue: list[tuple[float, int]] = []
            while free and got < wanted and len(free) > parts - 1 - k:
                piece = self._next(queue, reach, free, near)
                if got and got + weight[piece] > LARGER * wanted:
                    break
                part[piece] = k
                got += weight[piece]
                free.discard(piece)
                for other, n in near[piece].items():
                    if other in free:
                        reach[other] += n
                        heapq.heappush(queue, (-reach[other], other))
            rest -= got
        return part

    @staticmethod
    def _next(queue, reach, free, near) -> int:
        """The piece that exchanges most with what there is; at first, the loneliest."""
        while queue:
            value, piece = heapq.heappop(queue)
            if piece in free and -value == reach[piece]:
                return piece
        return min(free, key=lambda piece: (sum(near[piece].values()), piece))


def _owner(end: Any) -> Ensemble | Node:
    """The ensemble or node that one end of a connection belongs to."""
    if isinstance(end, ObjView):
        return _owner(end.obj)
    if isinstance(end, Neurons):
        return end.ensemble
    if isinstance(end, LearningRule):
        return _owner(end.connection.post)
    return end


def _values(conn: Connection) -> int:
    """How many numbers a connection sends in each step: before or after its transform."""
    return int(min(conn.size_mid, conn.size_out))
