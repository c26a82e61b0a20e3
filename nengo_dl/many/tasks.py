"""What is sent to workers and what comes back: tasks, their results, their failures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Item(NamedTuple):
    """One task on its way to a worker."""

    number: int
    """Its place among the tasks."""
    seed: int
    """Of the simulator that it is given."""
    task: bytes
    """The task, pickled."""


@dataclass
class Outcome:
    """What became of one task, as its worker tells it: plain data, which always arrive.

    Parameters
    ----------
    number : int
        Its place among the tasks.
    result : bytes or None
        What the function returned, pickled. None: it failed.
    message, traceback : str
        The error, if it failed.
    warnings : list of (bytes, str)
        Each category, pickled, and text.
    """

    number: int
    result: bytes | None = None
    message: str = ""
    traceback: str = ""
    warnings: list[tuple[bytes, str]] = field(default_factory=list)


@dataclass
class Reply:
    """What a worker says to one submission.

    Parameters
    ----------
    outcomes : list of Outcome
        One for each task of the submission.
    seconds : float
        How long they took, without what is done once in a worker.
    unusable : str
        Why this worker cannot run any task; empty: it can.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    seconds: float = 0.0
    unusable: str = ""


@dataclass(frozen=True)
class Failed:
    """A task that gave no result, in the place of its result.

    Parameters
    ----------
    number : int
        Its place among the tasks, from 0 on.
    task : object
        The task as it was given.
    message : str
        The type of the error and what it says.
    traceback : str
        Where in the worker it was raised; empty if the worker itself was lost.

    Examples
    --------
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> with nengo.Network() as net:
    ...     probe = nengo.Probe(nengo.Node([1.0]))
    >>> def inverse(sim, x):
    ...     return 1 / x
    >>> with nengo_dl.Simulator(net, progress_bar=False) as sim:
    ...     results = nengo_dl.run_many(
    ...         sim, inverse, [2, 0], ThreadPoolExecutor, on_error="return"
    ...     )
    >>> results[0], results[1].message
    (0.5, 'ZeroDivisionError: division by zero')
    """

    number: int
    task: Any
    message: str
    traceback: str = ""
