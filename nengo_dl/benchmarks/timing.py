"""Clocks, and figures made of many times.

A machine does other things besides, so what is compared takes turns in one process, and
figures are medians: of times, and of the ratios within each round.
"""

import contextlib
import gc
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import nengo
import numpy as np
from nengo.exceptions import ValidationError

from nengo_dl.heap import without_collecting

Times = tuple[float, ...]


def seconds(function: Callable[[], object]) -> float:
    """How long a call takes.

    ``function``: called once, without arguments.
    """
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def take_turns(functions: Iterable[Callable], repeats: int) -> list[Times]:
    """Time functions in turn, so that a disturbance hits all of them.

    ``functions``: called without arguments: each one once, then all of them again, in the
    opposite order, so that none always comes after the same other one. ``repeats``:
    number of rounds. Returns for each function, the seconds that each call took. Raises
    `ValidationError` if there is no round.
    """
    check_positive(repeats=repeats)
    functions = list(functions)
    times: list[list[float]] = [[] for _ in functions]
    order = list(range(len(functions)))
    for _ in range(repeats):
        for i in order:
            times[i].append(seconds(functions[i]))
        order.reverse()
    return [tuple(row) for row in times]


def median(times: Sequence[float]) -> float:
    """The median of the times of all rounds."""
    return float(np.median(times))


def ratio(times: Sequence[float], reference: Sequence[float]) -> float:
    """The median, over all rounds, of one time as a fraction of the other.

    ``times``, ``reference``: from the same rounds.
    """
    return float(np.median(np.divide(times, reference)))


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """What a quarter and what three quarters of the values are below."""
    low, high = np.percentile(values, (25, 75))
    return float(low), float(high)


def geometric_mean(values: Sequence[float]) -> float:
    """The mean of what is compared by factors."""
    return float(np.exp(np.mean(np.log(values))))


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    r"""How a cost grows: the slope of a line through the logarithms.

    .. math:: \log c = k \log s + \text{const}

    ``sizes``, ``costs``: at least two, positive. Returns: :math:`k`, of the least squares
    fit. One is linear growth. Raises `ValidationError` if there are fewer than two
    different sizes.
    """
    if len(set(sizes)) < 2:
        raise ValidationError(
            f"a slope takes at least two different sizes; got {list(sizes)}", "sizes"
        )
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def check_positive(**numbers: int) -> None:
    """Refuse numbers below one.

    Raises `ValidationError`.
    """
    for name, number in numbers.items():
        if number < 1:
            raise ValidationError(f"must be at least 1; got {number!r}", attr=name)


def chosen_names(
    what: str,
    names: Iterable[str] | None,
    known: Iterable[str],
    default: Iterable[str] | None = None,
) -> list[str]:
    """The names that a measurement was given, or those that it takes otherwise.

    ``what``: the argument. ``names``: what it was given. ``known``: all names that there
    are. ``default``: what is taken for None; by default all. Raises `ValidationError` if
    a name is unknown.
    """
    if names is None:
        names = known if default is None else default
    names, known = list(names), list(known)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValidationError(
            f"unknown: {', '.join(unknown)}; known: {', '.join(known)}", attr=what
        )
    return names


@contextlib.contextmanager
def _decoder_cache(**values: str) -> Iterator[None]:
    """Inside, Nengo's cache of solved decoders has other settings."""
    section = "decoder_cache"
    before = {key: nengo.rc.get(section, key) for key in values}
    try:
        for key, value in values.items():
            nengo.rc.set(section, key, value)
        yield
    finally:
        for key, value in before.items():
            nengo.rc.set(section, key, value)


@contextlib.contextmanager
def private_decoder_cache() -> Iterator[None]:
    """Make Nengo keep solved decoders in a directory of its own for a while.

    Decoders that have been solved once are read from the disk after that. So that no
    simulator profits from what another one (or an earlier script) has solved,
    measurements start with an empty cache, and fill it before the clock starts.
    """
    with tempfile.TemporaryDirectory() as path:
        with _decoder_cache(enabled="True", readonly="False", path=path):
            yield


def no_decoder_cache() -> contextlib.AbstractContextManager:
    """Inside, Nengo keeps no solved decoders, for networks whose decoders are given."""
    return _decoder_cache(enabled="False")


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """Keep Python's garbage collector from running inside, and run it before."""
    gc.collect()
    with without_collecting():
        yield
