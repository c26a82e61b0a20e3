"""Strategies that choose in which order sums lie in memory.

A sorter is a function ``sorter(plan)`` that returns one number for each element of the
plan's graph. Sums that are computed together are laid out with these numbers growing.
What reads them finds them one below the other then, or else has to gather them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from nengo.exceptions import ValidationError

from nengo_dl.compiler.plan import Plan
from nengo_dl.compiler.stages import Stage

Sorter = Callable[[Plan], np.ndarray]


def order_signals(plan: Plan) -> np.ndarray:
    """In the order of their first readers; what is done without a setting.

    Parameters
    ----------
    plan : Plan

    Returns
    -------
    ndarray of int
        For each element a number that grows with the place of its first reader.
    """
    rank = np.full(plan.graph.size, np.iinfo(np.int64).max // 2)
    position = 0
    for stage in Stage:
        for batch in plan.batches[stage]:
            for arrays in zip(*(node.inputs for node in batch.nodes)):
                read = np.concatenate(arrays)
                place = position + np.arange(read.size)
                np.minimum.at(rank, read, place)
                position += read.size
    return rank


def noop_order_signals(plan: Plan) -> np.ndarray:
    """In the order in which the compiler met them.

    Parameters
    ----------
    plan : Plan

    Returns
    -------
    ndarray of int
        For each element its number.
    """
    return np.arange(plan.graph.size)


def ranks(plan: Plan, sorter: Sorter | None) -> np.ndarray:
    """What a sorter returned, if it can be used.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If it is not one number for each element.
    """
    if sorter is None:
        return order_signals(plan)
    name = getattr(sorter, "__name__", repr(sorter))
    rank = np.asarray(sorter(plan))
    if rank.shape != (plan.graph.size,) or rank.dtype.kind not in "iuf":
        raise ValidationError(
            f"the sorter {name} returned an array of shape {rank.shape} and type "
            f"{rank.dtype}; expected one number for each of the {plan.graph.size} "
            "elements of the graph, as nengo_dl.graph_optimizer.noop_order_signals "
            "returns them",
            attr="sorter",
        )
    return rank
