"""The order in which core Nengo runs the operators of one time step.

Within a step, all that is set in a signal comes first, then its increments, then its
reads, then its updates; signals that are views of one base share memory. Of the many
orders that keep to this, Python functions with side effects can tell one from another.
So this is core's very order, found in time that grows with the number of dependencies.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Iterable
from itertools import accumulate, chain

from nengo.exceptions import BuildError

from nengo_dl.notices import label_of


def operator_order(operators: Iterable) -> list:
    """The operators as ``nengo.Simulator`` would run them.

    Parameters
    ----------
    operators : iterable of nengo.builder.Operator
        Only read.

    Returns
    -------
    list of nengo.builder.Operator
        Every operator behind all that it depends on; among those that could run next,
        the one that has been ready for longest.

    Raises
    ------
    BuildError
        If operators depend on each other in a circle, or if two of them set (or update)
        the same memory.
    """
    successors = dependents(operators)
    waiting = dict.fromkeys(successors, 0)
    for op in chain.from_iterable(successors.values()):
        waiting[op] += 1
    ready = deque(op for op, number in waiting.items() if not number)
    ordered = []
    while ready:
        op = ready.popleft()
        ordered.append(op)
        for other in successors[op]:
            waiting[other] -= 1
            if not waiting[other]:
                ready.append(other)
    if len(ordered) < len(successors):
        raise BuildError(
            _circle_message({op for op in waiting if waiting[op]}, successors)
        )
    return ordered


def dependents(operators: Iterable) -> dict:
    """Operator -> those that have to run after it, in the order in which core adds them.

    Parameters
    ----------
    operators : iterable of nengo.builder.Operator

    Returns
    -------
    dict
        The values are dicts without values, used as ordered sets.
    """
    successors: dict = {op: {} for op in operators}
    sets, incs, reads, updates = (defaultdict(list) for _ in range(4))
    for op in successors:
        for signals, by_signal in (
            (op.sets, sets),
            (op.incs, incs),
            (op.reads, reads),
            (op.updates, updates),
        ):
            for signal in signals:
                by_signal[signal].append(op)
    overlapping = _overlaps(dict.fromkeys(chain(sets, incs, reads, updates)))
    for by_signal, verb in ((sets, "set"), (updates, "update")):
        _require_one_each(by_signal, overlapping, verb)
    for later, earlier in (
        (incs, (sets,)),
        (reads, (sets, incs)),
        (updates, (sets, incs, reads)),
    ):
        for signal, posts in later.items():
            for other in overlapping[signal]:
                for by_signal in earlier:
                    for pre in by_signal.get(other, ()):
                        successors[pre].update(dict.fromkeys(posts))
    return successors


def _overlaps(signals: Iterable) -> dict:
    """Signal -> the signals that may share memory with it, itself among them.

    As in core, what counts are the first and the last byte of a view.
    """
    by_base = defaultdict(list)
    for signal in signals:
        by_base[signal.base].append(signal)
    overlapping = {}
    for group in by_base.values():
        if len(group) == 1:
            overlapping[group[0]] = group
        else:
            overlapping.update(_overlaps_in_base(group))
    return overlapping


def _overlaps_in_base(signals: list) -> dict:
    """Which signals of one base overlap, by their intervals of memory."""
    spans = {signal: _span(signal.initial_value) for signal in signals}
    low = min(start for start, _ in spans.values())
    high = max(stop for _, stop in spans.values())
    whole = [signal for signal in signals if spans[signal] == (low, high)]
    parts = sorted(
        (signal for signal in signals if spans[signal] != (low, high)),
        key=lambda signal: spans[signal][0],
    )
    starts = [spans[signal][0] for signal in parts]
    furthest = list(accumulate((spans[signal][1] for signal in parts), max))
    overlapping = {}
    for signal, (start, stop) in spans.items():
        if start == stop:  # empty: shares nothing
            overlapping[signal] = [signal]
            continue
        found = list(whole)
        index = bisect_left(starts, stop) - 1
        while index >= 0 and furthest[index] > start:
            first, last = spans[parts[index]]
            if first < last and last > start:
                found.append(parts[index])
            index -= 1
        overlapping[signal] = found
    return overlapping


def _span(array) -> tuple[int, int]:
    """The first byte of an array in memory, and the one after its last."""
    start = stop = array.__array_interface__["data"][0]
    if not array.size:
        return start, start
    for length, stride in zip(array.shape, array.strides):
        reach = (length - 1) * stride
        start, stop = start + min(reach, 0), stop + max(reach, 0)
    return start, stop + array.itemsize


def _require_one_each(by_signal: dict, overlapping: dict, verb: str) -> None:
    """No memory is set (or updated) by more than one operator."""
    for signal in by_signal:
        ops = [op for other in overlapping[signal] for op in by_signal.get(other, ())]
        if len(ops) > 1:
            raise BuildError(
                f"{len(ops)} operators {verb} the signal {signal.name} (or views that "
                f"overlap it); expected one at most. They are: {_names(ops)}. One may "
                f"{verb} it, the others have to increment it"
            )


def _circle_message(stuck: set, successors: dict) -> str:
    """What to tell about operators that wait for each other; ``stuck`` cannot run."""
    before = {post: pre for pre in successors if pre in stuck for post in successors[pre]}
    op = next(iter(before.keys() & stuck))
    passed: dict = {}
    while op not in passed:
        passed[op] = None
        op = before[op]
    circle = list(passed)
    circle = circle[circle.index(op) :][::-1]
    return (
        "the network has a loop without delay: within one time step, each of these "
        f"operators needs the result of the one before, and the first that of the last: "
        f"{_names(circle)}. Too many connections have synapse=None; give one of this "
        "loop a synapse (synapse=0 delays by a single step)"
    )


def _names(ops: list) -> str:
    shown = ", ".join(label_of(op) for op in ops[:5])
    return shown + (f" and {len(ops) - 5} more" if len(ops) > 5 else "")
