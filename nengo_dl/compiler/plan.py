"""Merging: which operations run together, in which order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nengo_dl.compiler.flow import Flow
from nengo_dl.compiler.graph import Graph, Kind, Node
from nengo_dl.compiler.planners import (
    Operation,
    Planner,
    check_batches,
    greedy_planner,
)
from nengo_dl.compiler.stages import Stage, Stages, stages
from nengo_dl.compiler.traits import Kernel

#: sums at least this long are kernels of their own: gathering them costs more than a call
LONG_SUM = 4096


@dataclass(frozen=True)
class Batch:
    """Operations that become one kernel: nodes, or SUM elements (``nodes`` empty)."""

    kernel: Kernel | None
    nodes: tuple[Node, ...]
    sums: np.ndarray


@dataclass(frozen=True)
class Plan:
    """A graph, and for each stage its batches in the order in which they run."""

    graph: Graph
    stages: Stages
    batches: tuple[tuple[Batch, ...], tuple[Batch, ...], tuple[Batch, ...]]


def plan(
    graph: Graph, split: Stages | None = None, planner: Planner | None = None
) -> Plan:
    """Choose what is merged.

    Parameters
    ----------
    graph : Graph
    split : Stages, optional
        Which stage everything belongs to.
    planner : callable, optional
        The strategy, see `nengo_dl.compiler.planners`; by default `greedy_planner`.

    Returns
    -------
    Plan

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If what a planner of the user's returns cannot be run.
    """
    split = stages(graph) if split is None else split
    units, unit_of = _units(graph, split)
    pairs = _dependencies(graph, units, unit_of)
    stage_of = np.array([unit.stage for unit in units], dtype=np.int64)
    batches = []
    for stage in Stage:
        chosen = np.flatnonzero(stage_of == stage)
        place = np.full(len(units), -1, np.int64)
        place[chosen] = np.arange(chosen.size)
        inside = (stage_of[pairs[0]] == stage) & (stage_of[pairs[1]] == stage)
        mine, waits = [units[i] for i in chosen.tolist()], place[pairs[:, inside]]
        if planner is None:
            merged = greedy_planner(mine, waits)
        else:
            merged = check_batches(planner(mine, waits), mine, waits, planner)
        batches.append(tuple(_batch([mine[i] for i in members]) for members in merged))
    return Plan(graph, split, tuple(batches))


def _units(graph: Graph, split: Stages) -> tuple[list[Operation], np.ndarray]:
    """Nodes, and pieces of sum blocks of one stage and level; which one owns what.

    Elements of a block may lie on different levels once equal values are shared. Pieces
    of one level cannot depend on each other, so pieces have no cycles.
    """
    units: list[Operation] = []
    unit_of = np.full(graph.size, -1, np.int64)
    for number, node in enumerate(graph.nodes):
        key = ("node", node.kernel.merge_key(node))
        units.append(Operation(key, node.order, int(split.node[number]), node))
        for start, size in node.outputs:
            unit_of[start : start + size] = number
    level, _ = Flow(graph).levels()
    sums = np.flatnonzero(graph.kind == Kind.SUM)
    highest = int(level.max(initial=0)) + 1
    label = (graph.block[sums] * highest + level[sums]) * len(Stage)
    _, piece = np.unique(label + split.element[sums], return_inverse=True)
    order = np.argsort(piece, kind="stable")
    cuts = np.flatnonzero(np.diff(piece[order])) + 1
    for members in np.split(sums[order], cuts) if sums.size else ():
        unit_of[members] = len(units)
        key = ("sum", len(units) if members.size >= LONG_SUM else -1)
        first = members[0]
        unit = Operation(key, int(graph.block[first]), int(split.element[first]))
        unit.sums = members
        units.append(unit)
    return units, unit_of


def _dependencies(graph: Graph, units, unit_of) -> np.ndarray:
    """Pairs (unit, unit that needs it), without doubles."""
    flat, reader = graph.node_inputs()
    before = np.concatenate([unit_of[graph.src], unit_of[flat]])
    after = np.concatenate([unit_of[graph.term_owner], reader])
    edges = before >= 0
    codes = np.unique(before[edges] * len(units) + after[edges])
    python = [i for i, u in enumerate(units) if u.node is not None and u.node.kernel.host]
    python.sort(key=lambda i: units[i].order)  # Python runs in core's order
    chain = [a * len(units) + b for a, b in zip(python, python[1:])]
    codes = np.unique(np.concatenate([codes, np.array(chain, np.int64)]))
    return np.stack(np.divmod(codes, max(len(units), 1))).astype(np.int64)


def _batch(units: list[Operation]) -> Batch:
    if units[0].node is None:
        return Batch(None, (), np.concatenate([u.sums for u in units]))
    nodes = tuple(u.node for u in units)
    return Batch(nodes[0].kernel, nodes, np.zeros(0, np.int64))
