"""What the compiler did, for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from nengo_dl.compiler.graph import Graph, Kind
from nengo_dl.compiler.layout import Layout
from nengo_dl.compiler.places import Weight

STAGES = {"before": "before the loop", "loop": "in the loop", "after": "after the loop"}
"""The stages of a layout, and how they are called."""


@dataclass(frozen=True)
class PassReport:
    """Counts after one pass: elements, nodes, terms of sums; and seconds it took."""

    name: str
    elements: int
    nodes: int
    terms: int
    seconds: float

    @classmethod
    def of(cls, name: str, graph: Graph, seconds: float) -> PassReport:
        """The counts of a graph."""
        return cls(name, graph.size, len(graph.nodes), graph.src.size, seconds)


@dataclass(frozen=True)
class Summary:
    """Figures of a finished layout."""

    operators: int
    kernels: int
    carried_bytes: int
    weight_bytes: int
    reads: dict[str, int]
    stages: dict[str, int]
    python: tuple[tuple[str, str], ...]


def weight_size(weight: Weight) -> int:
    """Number of entries of a program argument."""
    return int(sum(np.prod(item.shape) for item in weight.items))


def summarize(layout: Layout, operators: int, itemsize: int, batch: int) -> Summary:
    """Count what runs in a step and how large it is."""
    groups = layout.groups()
    return Summary(
        operators=operators,
        kernels=len(groups),
        carried_bytes=sum(c.size for c in layout.carry) * itemsize * batch,
        weight_bytes=sum(weight_size(w) for w in layout.weights) * itemsize,
        reads=dict(Counter(read.form for g in groups for read in g.reads)),
        stages={name: len(getattr(layout, name).groups) for name in STAGES},
        python=tuple(
            (label, getattr(g.params.get("function"), "why", "a function with input"))
            for g in groups
            if g.kernel.host
            for label in g.labels
        ),
    )


def describe(
    layout: Layout,
    reports: Iterable[PassReport],
    operators: int,
    itemsize: int,
    batch: int,
    history: Iterable[str] = (),
) -> str:
    """A page of text: passes with their counts, kernels, memory, what runs as Python.

    Parameters
    ----------
    layout : Layout
    reports : sequence of PassReport
    operators : int
        Number of operators of the Nengo model.
    itemsize : int
        Bytes of one number.
    batch : int
        Number of batch items.
    history : iterable of str
        Lines about how often the network was compiled.

    Returns
    -------
    str
    """
    summary = summarize(layout, operators, itemsize, batch)
    lines = [f"{operators} operators -> {summary.kernels} kernels"]
    lines.append("pass          elements    nodes    terms  seconds")
    for r in reports:
        lines.append(
            f"{r.name:<12}{r.elements:>10}{r.nodes:>9}{r.terms:>9}{r.seconds:>9.3f}"
        )
    for name, when in STAGES.items():
        groups = getattr(layout, name).groups
        if groups:
            lines.append(f"{when}:")
        for group in groups:
            rows = sum(layout.sizes[t] for t in group.outputs)
            merged = group.params.get("groups")
            count = "" if merged is None else f" of {merged} nodes"
            lines.append(f"  {group.kernel.name}{count}, {rows} rows")
    lines.append(
        f"carried: {summary.carried_bytes} bytes; weights: {summary.weight_bytes} bytes"
    )
    lines.append(f"reads: {summary.reads}")
    for label, why in summary.python:
        lines.append(f"runs as Python, step by step ({why}): {label}")
    return "\n".join([*lines, *history])


def count_kinds(graph: Graph) -> dict[str, int]:
    """How many elements of each kind a graph has."""
    return {kind.name: int(np.count_nonzero(graph.kind == kind)) for kind in Kind}
