"""A step with fewer probes: what is not looked at is not read.

All that is computed for a probe alone goes with it, but for its state: the filter of a
probe takes every step, whether or not anybody looks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from nengo_dl.compiler.places import Group, Layout, Read, places_of, read_of


def looking_at(layout: Layout, keys: Sequence[Any]) -> Layout:
    """A layout whose result is some of its probes.

    Carried arrays, weights and what is given to a step are those of ``layout``, so that
    steps of both can follow one another.

    Parameters
    ----------
    layout : Layout
    keys : sequence
        The probes, in the order in which their rows are to come.
    """
    found = {key: (first, shape) for key, first, shape in layout.probes}
    rows, probes, start = [np.zeros(0, np.int64)], [], 0
    for key in keys:
        first, shape = found[key]
        size = int(np.prod(shape))
        rows.append(np.arange(first, first + size))
        probes.append((key, start, shape))
        start += size
    tensor, row = places_of(layout.after.result)
    chosen = np.concatenate(rows)
    result = read_of(tensor[chosen], row[chosen])
    groups = _alive(layout.after.groups, result)
    after = dataclasses.replace(layout.after, result=result, groups=groups)
    chosen_layout = dataclasses.replace(layout, after=after, probes=tuple(probes))
    return _reporting_less(chosen_layout)


def _alive(groups: tuple[Group, ...], result: Read) -> tuple[Group, ...]:
    """The groups that a result needs, and those that do something else as well."""
    needed = {tensor for tensor, _, _ in result.parts}
    kept = []
    for group in reversed(groups):
        if (
            group.kernel.host
            or group.kernel.side_effects
            or not needed.isdisjoint(group.outputs)
        ):
            needed |= {t for read in group.reads for t, _, _ in read.parts}
            kept.append(group)
    return tuple(kept[::-1])


def _reporting_less(layout: Layout) -> Layout:
    """The loop reports what the stage after it reads, and nothing else."""
    after = layout.after
    given = after.sources.get("inputs")
    if given is None:
        return layout
    reads = [after.result, *(read for group in after.groups for read in group.reads)]
    used = np.zeros(layout.sizes[given], bool)
    for read in reads:
        tensor, row = places_of(read)
        used[row[tensor == given]] = True
    if used.all():
        return layout
    number = np.cumsum(used) - 1

    def moved(read: Read) -> Read:
        tensor, row = places_of(read)
        mine = tensor == given
        return read_of(tensor, np.where(mine, number[row * mine], row))

    tensor, row = places_of(layout.loop.result)
    loop = dataclasses.replace(layout.loop, result=read_of(tensor[used], row[used]))
    groups = tuple(
        dataclasses.replace(group, reads=tuple(moved(read) for read in group.reads))
        for group in after.groups
    )
    sources = {k: v for k, v in after.sources.items() if k != "inputs" or used.any()}
    after = dataclasses.replace(
        after, result=moved(after.result), groups=groups, sources=sources
    )
    sizes = list(layout.sizes)
    sizes[given] = int(used.sum())
    return dataclasses.replace(layout, loop=loop, after=after, sizes=tuple(sizes))
