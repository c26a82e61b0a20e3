"""Which parameters a network has, object by object, as a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from nengo import Ensemble
from nengo.ensemble import Neurons

from nengo_dl.training.parameters import Parameter

HEADINGS = ("object", "neurons", "parameters", "count", "changed by")


class Table(str):
    """Text that notebooks and the Python prompt show as it is, in lines."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells, the first one with headings, in columns of equal width."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths)).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def count(entries: Iterable[Parameter]) -> int:
    """How many numbers parameters consist of."""
    return sum(int(np.prod(entry.shape, dtype=int)) for entry in entries)


def summary(entries: Iterable[Parameter]) -> Table:
    """See `Simulator.summary`."""
    entries = list(entries)
    owners: dict[Any, list[Parameter]] = {}
    for entry in entries:
        obj = entry.obj.ensemble if isinstance(entry.obj, Neurons) else entry.obj
        owners.setdefault(obj, []).append(entry)
    rows = [HEADINGS, *(_row(obj, own) for obj, own in owners.items())]
    kinds: dict[str, int] = dict.fromkeys(("training", "a rule", "nothing"), 0)
    for entry in entries:
        kinds[_changed_by(entry)] += count([entry])
    return Table(
        f"{table(rows)}\n\n{count(entries):,} parameters: {kinds['training']:,} that "
        f"training changes, {kinds['a rule']:,} that a learning rule changes, "
        f"{kinds['nothing']:,} that stay as they are"
    )


def _row(obj: Any, entries: list[Parameter]) -> tuple[str, ...]:
    """The cells of one object."""
    neurons = "-"
    if isinstance(obj, Ensemble):
        neurons = f"{obj.n_neurons:,} {type(obj.neuron_type).__name__}"
    parts = [f"{entry.attr} {entry.shape}" for entry in entries]
    changed = [_changed_by(entry) for entry in entries]
    if len(set(changed)) == 1:
        by = changed[0]
    else:
        by = ", ".join(f"{e.attr}: {by}" for e, by in zip(entries, changed))
    name = entries[0].name.removesuffix(f".{entries[0].attr}").removesuffix(".neurons")
    return name, neurons, ", ".join(parts), f"{count(entries):,}", by


def _changed_by(entry: Parameter) -> str:
    """What changes a parameter: training, an online learning rule, or nothing."""
    if entry.trainable:
        return "training"
    return "a rule" if entry.learned else "nothing"
