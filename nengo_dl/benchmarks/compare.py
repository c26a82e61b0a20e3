"""Measurements: this simulator beside `nengo.Simulator`, and alone.

Times are taken on whatever the machine is doing besides, so both simulators take turns,
and the fastest of several runs counts: nothing makes a run faster than it is, much can
make it slower.
"""

import contextlib
import dataclasses
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator

import nengo
import numpy as np
import tensorflow as tf
from nengo.exceptions import ValidationError

from nengo_dl.benchmarks.networks import CASES
from nengo_dl.config import configure_settings
from nengo_dl.simulator import Simulator
from nengo_dl.version import version

DIFFERENCE_STEPS = 100
"""Steps over which outputs are compared. After that the float32 outputs of a spiking
network with feedback drift apart: one spike that comes a step later shifts others."""


@dataclasses.dataclass(frozen=True)
class Row:
    """What was measured for one network.

    Times of ``nengo.Simulator`` are called "core", those of ``nengo_dl.Simulator``
    "ours". One step of ours advances all ``minibatch_size`` items.
    """

    network: str
    """Name of the network."""
    operators: int
    """Operators in the model that both simulators are given."""
    kernels: int | None
    """Kernels that a step of ours consists of; None if the simulator does not tell."""
    minibatch_size: int | None
    """The batch size of ours, as given."""
    steps: int
    """Number of steps of each run."""
    core_runs: tuple[float, ...]
    """Microseconds per step of ``run_steps``, for each repeat."""
    ours_runs: tuple[float, ...]
    core_step_calls: tuple[float, ...]
    """Microseconds per call of ``step``, for each repeat."""
    ours_step_calls: tuple[float, ...]
    core_first: float
    """Seconds from the network to the end of the first run of ``steps`` steps."""
    ours_first: float
    ours_second: float
    """Seconds that the second run took. Ours may compile its loop for a network that is
    run again, so this run is not among the repeats."""
    difference: float
    """Largest difference of the outputs in the first `DIFFERENCE_STEPS` steps, as a
    fraction of the largest absolute value in core's output there."""

    @property
    def core_us(self) -> float:
        """Microseconds per step of the fastest run of core."""
        return min(self.core_runs)

    @property
    def ours_us(self) -> float:
        """Microseconds per step (of all batch items) of the fastest run of ours."""
        return min(self.ours_runs)

    @property
    def core_step_us(self) -> float:
        """Microseconds per call of ``step``, for core."""
        return min(self.core_step_calls)

    @property
    def ours_step_us(self) -> float:
        """Microseconds per call of ``step``, for ours."""
        return min(self.ours_step_calls)

    @property
    def ratio(self) -> float:
        """How many times as fast ours is, per batch item."""
        return self.core_us * (self.minibatch_size or 1) / self.ours_us

    def as_dict(self) -> dict:
        """All fields and the figures derived from them, for JSON."""
        derived = ("core_us", "ours_us", "core_step_us", "ours_step_us", "ratio")
        return dataclasses.asdict(self) | {name: getattr(self, name) for name in derived}


COLUMNS: tuple[tuple[str, str], ...] = (
    ("network", "{0.network:<15}"),
    ("operators", "{0.operators:>9,}"),
    ("kernels", "{1:>7}"),
    ("core us/step", "{0.core_us:>12,.1f}"),
    ("ours us/step", "{0.ours_us:>12,.1f}"),
    ("ratio", "{0.ratio:>6.1f}"),
    ("core step() us", "{0.core_step_us:>14,.1f}"),
    ("ours step() us", "{0.ours_step_us:>14,.1f}"),
    ("core first s", "{0.core_first:>12.2f}"),
    ("ours first s", "{0.ours_first:>12.2f}"),
    ("ours second s", "{0.ours_second:>13.2f}"),
    ("difference", "{0.difference:>10.1e}"),
)
"""Title and format of each column of the table, in order."""


def _cells(row: Row) -> list[str]:
    kernels = "-" if row.kernels is None else row.kernels
    return [template.format(row, kernels) for _, template in COLUMNS]


def format_header() -> str:
    """The titles of the table's columns, on one line."""
    blank = Row("", 0, 0, None, 1, (1,), (1,), (1,), (1,), 0, 0, 0, 0)
    widths = [len(cell) for cell in _cells(blank)]
    titles = [title for title, _ in COLUMNS]
    first, *others = zip(titles, widths, strict=True)
    aligned = [first[0].ljust(first[1])]
    return "  ".join(aligned + [title.rjust(width) for title, width in others])


def format_row(row: Row) -> str:
    """One line of the table."""
    return "  ".join(_cells(row))


def describe_environment() -> dict:
    """The versions of the packages and the number of processors, for the report."""
    return {
        "nengo_dl": version,
        "nengo": nengo.__version__,
        "tensorflow": tf.__version__,
        "numpy": np.__version__,
        "processors": os.cpu_count(),
    }


@contextlib.contextmanager
def private_decoder_cache() -> Iterator[None]:
    """Make Nengo keep solved decoders in a directory of its own for a while.

    Decoders that have been solved once are read from the disk after that. So that
    neither simulator profits from what the other one (or an earlier script) has solved,
    measurements start with an empty cache, and fill it before the clock starts.
    """
    section = "decoder_cache"
    values = {"enabled": "True", "readonly": "False"}
    before = {key: nengo.rc.get(section, key) for key in (*values, "path")}
    with tempfile.TemporaryDirectory() as path:
        try:
            for key, value in {**values, "path": path}.items():
                nengo.rc.set(section, key, value)
            yield
        finally:
            for key, value in before.items():
                nengo.rc.set(section, key, value)


def _seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def take_turns(functions: Iterable[Callable], repeats: int) -> list[tuple[float, ...]]:
    """Time functions in turn, so that a disturbance hits all of them.

    Parameters
    ----------
    functions : iterable of callable
        Called without arguments: each one once, then all of them again.
    repeats : int
        Number of rounds.

    Returns
    -------
    list of tuple of float
        For each function, the seconds that each call took.
    """
    functions = list(functions)
    rounds = [[_seconds(function) for function in functions] for _ in range(repeats)]
    return list(zip(*rounds, strict=True))


def relative_difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference as a fraction of the largest absolute value expected.

    Parameters
    ----------
    found : np.ndarray
        Probe data ``(T, d)`` or, in batches, ``(B, T, d)``.
    expected : np.ndarray
        Probe data ``(T, d)``; each batch item is compared with it.

    Returns
    -------
    float

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If all values expected are zero: agreeing on them would show nothing.
    """
    scale = np.abs(expected).max(initial=0)
    if scale == 0:
        raise ValidationError(
            "the output of nengo.Simulator is zero in all steps that are compared; "
            "a benchmark network has to be driven with a signal",
            attr="probe",
        )
    return float(np.abs(found - expected).max() / scale)


def count_kernels(sim: Simulator) -> int | None:
    """The number of kernels per step that the simulator's description tells.

    Parameters
    ----------
    sim : .Simulator
        An open simulator.

    Returns
    -------
    int or None
        None if ``sim.describe()`` does not mention kernels.
    """
    found = re.search(r"([\d,]+) kernels", str(sim.describe()))
    return None if found is None else int(found[1].replace(",", ""))


def _check_positive(attribute: str, number: int) -> None:
    if number < 1:
        raise ValidationError(f"must be at least 1; got {number!r}", attr=attribute)


def _first_run(simulator, net, steps, stack, **kwargs):
    """Build a simulator and run it; returns it and the seconds that both took."""
    start = time.perf_counter()
    sim = stack.enter_context(simulator(net, progress_bar=False, **kwargs))
    sim.run_steps(steps, progress_bar=False)
    return sim, time.perf_counter() - start


def _microseconds(rounds, count):
    """Seconds that ``count`` steps took, as microseconds per step."""
    return [tuple(seconds / count * 1e6 for seconds in row) for row in rounds]


def _time_runs(sims, steps, repeats):
    """Microseconds per step of ``run_steps``, for each simulator and repeat."""
    runs = [lambda sim=sim: sim.run_steps(steps, progress_bar=False) for sim in sims]
    return _microseconds(take_turns(runs, repeats), steps)


def _time_step_calls(sims, calls, repeats):
    """Microseconds per call of ``step``, for each simulator and repeat."""

    def call_steps(sim, times=calls):
        for _ in range(times):
            sim.step()

    for sim in sims:
        call_steps(sim, 10)  # the first calls may have something to prepare
    runs = [lambda sim=sim: call_steps(sim) for sim in sims]
    return _microseconds(take_turns(runs, repeats), calls)


def measure(
    name: str,
    build: Callable[[], nengo.Network],
    steps: int = 1000,
    repeats: int = 3,
    minibatch_size: int | None = None,
    step_calls: int = 200,
    device: str | None = None,
    **settings,
) -> Row:
    """Measure one network in both simulators.

    Parameters
    ----------
    name : str
        Name of the network, for the report.
    build : callable
        Returns the network, which has the probe of its output as attribute ``p``.
    steps : int
        Number of time steps of a run.
    repeats : int
        Number of timed runs of each simulator, after those to warm up.
    minibatch_size : int or None
        Batch size of ours. Core always runs a single item.
    step_calls : int
        Calls of ``step`` per repeat.
    device : str or None
        TensorFlow device of ours.
    **settings
        For `.configure_settings`, such as ``dtype="float64"``.

    Returns
    -------
    Row

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If a number is less than 1, or core's output is zero.

    Examples
    --------
    >>> row = measure("tiny", lambda: integrator(2, 20), steps=100, repeats=1)
    >>> row.ratio
    """
    for attribute, number in (
        ("steps", steps),
        ("repeats", repeats),
        ("step_calls", step_calls),
    ):
        _check_positive(attribute, number)
    net = build()
    if settings:
        with net:
            configure_settings(**settings)

    with private_decoder_cache(), contextlib.ExitStack() as stack:
        nengo.Simulator(net, progress_bar=False).close()  # solves the decoders
        core, core_first = _first_run(nengo.Simulator, net, steps, stack)
        ours, ours_first = _first_run(
            Simulator, net, steps, stack, minibatch_size=minibatch_size, device=device
        )
        found, expected = (
            sim.data[net.p][..., :DIFFERENCE_STEPS, :] for sim in (ours, core)
        )
        difference = relative_difference(found, expected)
        ours_second = _seconds(lambda: ours.run_steps(steps, progress_bar=False))
        runs = _time_runs((core, ours), steps, repeats)
        calls = _time_step_calls((core, ours), step_calls, repeats)
        return Row(
            network=name,
            operators=len(ours.model.operators),
            kernels=count_kernels(ours),
            minibatch_size=minibatch_size,
            steps=steps,
            core_runs=runs[0],
            ours_runs=runs[1],
            core_step_calls=calls[0],
            ours_step_calls=calls[1],
            core_first=core_first,
            ours_first=ours_first,
            ours_second=ours_second,
            difference=difference,
        )


def measure_cases(networks: Iterable[str] | None = None, **kwargs) -> Iterator[Row]:
    """Measure several of the standard networks, one after the other.

    Parameters
    ----------
    networks : iterable of str or None
        Names from `.CASES`; None for all of them.
    **kwargs
        For `measure`.

    Yields
    ------
    Row
        As soon as it is measured.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If a name is unknown (before anything is measured).
    """
    names = list(CASES if networks is None else networks)
    unknown = [name for name in names if name not in CASES]
    if unknown:
        raise ValidationError(
            f"unknown: {', '.join(unknown)}; known: {', '.join(CASES)}",
            attr="networks",
        )
    return (measure(name, CASES[name], **kwargs) for name in names)


def _training_data(net: nengo.Network, batch: int, n_steps: int) -> tuple[dict, dict]:
    """Random inputs, and targets of zero, for a network made by a builder."""
    for attribute in ("inp", "p"):
        if not hasattr(net, attribute):
            raise ValidationError(
                f"the network has no attribute {attribute!r}; to be trained it needs "
                "its input node as 'inp' and the probe of its output as 'p'",
                attr="net",
            )
    x = np.random.RandomState(0).uniform(-1, 1, (batch, n_steps, net.inp.size_out))
    return {net.inp: x}, {net.p: np.zeros((batch, n_steps, net.p.size_in))}


def run_profile(
    net: nengo.Network,
    train: bool = False,
    n_steps: int = 150,
    do_profile: bool = True,
    reps: int = 1,
    dtype: str = "float32",
    log_dir: str = "profile",
    **kwargs,
) -> float:
    """Time ``nengo_dl.Simulator`` on a network, and record a trace of what it does.

    Parameters
    ----------
    net : ~nengo.Network
        The network; to be trained, it needs the attributes ``inp`` and ``p`` that all
        builders of this package set.
    train : bool
        Whether to measure ``fit`` (one batch) instead of ``run_steps``.
    n_steps : int
        Number of time steps.
    do_profile : bool
        Whether to run it once more with TensorFlow's profiler, whose trace TensorBoard
        can show.
    reps : int
        How often to measure, after one run that is not.
    dtype : str
        ``"float32"`` or ``"float64"``.
    log_dir : str
        Directory for the trace.
    **kwargs
        For `.Simulator`.

    Returns
    -------
    float
        Seconds that the fastest run took, without building and compiling.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If the network is to be trained and lacks one of the attributes.

    Examples
    --------
    >>> run_profile(cconv(16, 50), n_steps=200, do_profile=False)
    """
    with net:
        configure_settings(dtype=dtype)

    with Simulator(net, **{"progress_bar": False, **kwargs}) as sim:
        if train:
            x, y = _training_data(net, sim.minibatch_size or 1, n_steps)
            sim.compile(optimizer="sgd", loss="mse")

            def run():
                sim.fit(x, y, epochs=1, verbose=0)

        else:

            def run():
                sim.run_steps(n_steps, progress_bar=False)

        run()
        (seconds,) = take_turns([run], reps)
        if do_profile:
            tf.profiler.experimental.start(log_dir)
            try:
                run()
            finally:
                tf.profiler.experimental.stop()
    return min(seconds)
