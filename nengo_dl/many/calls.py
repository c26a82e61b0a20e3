"""The calls: ``run_many`` and ``iter_many``."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, Literal

import numpy as np
from nengo.exceptions import SimulationError, SimulatorClosed, ValidationError

from nengo_dl.many import processes, worker
from nengo_dl.many.engines import engine
from nengo_dl.many.parcels import parcel
from nengo_dl.many.pickles import Translator, pickled_simulator
from nengo_dl.many.sending import Sending
from nengo_dl.many.supply import Supply
from nengo_dl.many.tasks import Failed, Outcome
from nengo_dl.notices import label_of, warn
from nengo_dl.simulator import Simulator
from nengo_dl.simulator.building import positive_int
from nengo_dl.simulator.run import progress

OnError = Literal["raise", "return"]


def run_many(
    sim: Simulator,
    function: Callable[[Simulator, Any], Any],
    tasks: Iterable[Any],
    executor: Any = None,
    *,
    seeds: Iterable[int] | None = None,
    chunk: int | None = None,
    retries: int = 2,
    on_error: OnError = "raise",
    folder: Any = None,
) -> list[Any]:
    r"""Call a function for each of many tasks, on other processes or machines.

    For each task ``function(sim, task)`` is called with a copy of the simulator at its
    first step, which no other task has used. Results are the same to the bit whatever
    runs the tasks, in whichever order, and with whatever number of workers.

    Parameters
    ----------
    sim : Simulator
        An open simulator. It is sent as it is, with the parameters that it has at
        present, trained or learned; nothing is built again. It does not change.
    function : callable
        Takes a simulator and a task, and returns whatever can be pickled. Objects of the
        network are those of the simulator that it is given: ``sim.network``.
        Tasks and results may name them, too: a dict by node, a dict by probe.
    tasks : iterable
        What to call it with: numbers, arrays, dicts; whatever can be pickled. Those of an
        iterator, such as a generator, are taken from it as workers need them, and let go
        of when they are done, so all of them may be larger than memory.
    executor : optional
        What runs the tasks. None: one spawned process for each processor; a number: so
        many; ``"loky"`` or ``"dask"``: the workers of these packages; a
        ``concurrent.futures.Executor`` or a dask client, which stay open; or a function
        without arguments that makes an executor, which is called again if one breaks.
    seeds : iterable of int, optional
        Seeds of the simulators, one for each task. Default:
        ``sim.seed + number * (sim.minibatch_size or 1)``, since items of a batch take
        successive seeds. The global random numbers of ``numpy.random`` and
        ``random`` begin with the same seed in each task.
    chunk : int, optional
        How many tasks go to a worker together. Default: as many as take a quarter of a
        second, at most :math:`\lceil n / 4w \rceil` of :math:`n` tasks for :math:`w`
        workers, and at most 64.
    retries : int
        How often a task that was lost with its worker is run again. Errors that the
        function raises are not repeated.
    on_error : {"raise", "return"}
        What to do with tasks that fail: raise an error when all others are done, or
        return a `Failed` in the place of the result.
    folder : path, optional
        Where a file with the simulator is put for the workers to read, for example a
        folder that all machines share. Default: small ones, and those for other
        machines, travel with the tasks; large ones are in the folder for temporary files.

    Returns
    -------
    list
        The results, in the order of the tasks.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If something cannot be pickled, or an argument has a value that it cannot have.
    ~nengo.exceptions.SimulationError
        If a task failed, or was lost with its worker more than ``retries`` times. The
        attribute ``results`` of the error has all results, with a `Failed` for
        each task that has none; so it has if Ctrl-C is pressed (``KeyboardInterrupt``),
        or if an iterator of tasks raises an error.
    ~nengo.exceptions.SimulatorClosed

    See Also
    --------
    iter_many : Results one by one, as they come.

    Notes
    -----
    Warnings of tasks are given here, each text once. Progress is shown if the simulator
    has a ``progress_bar``.

    In spawned processes BLAS and TensorFlow compute in one thread each, since sums in
    several threads round differently.

    Examples
    --------
    How strongly an ensemble answers to five inputs:

    >>> with nengo.Network(seed=0) as net:
    ...     net.stimulus = nengo.Node([0.0])
    ...     ensemble = nengo.Ensemble(50, 1)
    ...     nengo.Connection(net.stimulus, ensemble)
    ...     net.probe = nengo.Probe(ensemble, synapse=0.01)
    <Connection at 0x...>
    >>> def answer(sim, value):
    ...     data = {sim.network.stimulus: np.full((1, 100, 1), value)}
    ...     sim.run_steps(100, data=data)
    ...     return float(sim.data[sim.network.probe][-1, 0])
    >>> with nengo_dl.Simulator(net, seed=0, progress_bar=False) as sim:
    ...     answers = nengo_dl.run_many(sim, answer, np.linspace(-1, 1, 5), executor=2)
    >>> len(answers), answers == sorted(answers)
    (5, True)
    """
    call = _Call(sim, function, tasks, executor, seeds, chunk, retries, on_error, folder)
    found: dict[int, Any] = {}
    try:
        with progress(sim.progress_bar, "Running tasks", call.supply.count) as shown:
            with contextlib.closing(call.results()) as results:
                for number, result in results:
                    found[number] = result
                    shown.update(len(found))
    except BaseException as error:  # of the iterator of tasks, too
        with contextlib.suppress(AttributeError):  # of a class with slots
            error.results = call.in_order(found)  # pyright: ignore[reportAttributeAccessIssue]  # for users
        raise
    ordered = call.in_order(found)
    if on_error == "raise":
        call.raise_first(found, ordered)
    return ordered


def iter_many(
    sim: Simulator,
    function: Callable[[Simulator, Any], Any],
    tasks: Iterable[Any],
    executor: Any = None,
    *,
    seeds: Iterable[int] | None = None,
    chunk: int | None = None,
    retries: int = 2,
    on_error: OnError = "raise",
    folder: Any = None,
) -> Iterator[tuple[int, Any]]:
    """Call a function for each of many tasks, and hand over results as they come.

    No more tasks are under way than workers need, so results that nobody has taken yet do
    not pile up. Whoever leaves the loop early ends what is under way.

    Parameters
    ----------
    sim, function, tasks, executor, seeds, chunk, retries, on_error, folder
        See `run_many`.

    Yields
    ------
    number : int
        Which task it is, from 0 on.
    result : object
        What the function returned, or a `Failed`.

    Raises
    ------
    ~nengo.exceptions.SimulationError
        See `run_many`; the attribute ``results`` is a list of `Failed`.
    ~nengo.exceptions.ValidationError
        See `run_many`; raised by the call itself, before the first result is asked for.

    Examples
    --------
    >>> with nengo.Network(seed=0) as net:
    ...     noise = nengo.Node(nengo.processes.WhiteNoise(seed=None))
    ...     net.probe = nengo.Probe(noise)
    >>> def spread(sim, steps):
    ...     sim.run_steps(steps)
    ...     return sim.data[sim.network.probe].std()
    >>> with nengo_dl.Simulator(net, progress_bar=False) as sim:
    ...     for number, result in nengo_dl.iter_many(sim, spread, [10, 100], executor=1):
    ...         print(number, result > 0)
    0 True
    1 True
    """
    call = _Call(sim, function, tasks, executor, seeds, chunk, retries, on_error, folder)
    return _results(call)


def _results(call: _Call) -> Iterator[tuple[int, Any]]:
    failed = {}
    with contextlib.closing(call.results()) as results:
        for number, result in results:
            if isinstance(result, Failed) and call.on_error == "raise":
                failed[number] = result
            else:
                yield number, result
    call.raise_first(failed, [failed[n] for n in sorted(failed)])


class _Call:
    """One call, with its arguments checked and its tasks pickled.

    The parameters are those of `run_many`.
    """

    def __init__(
        self,
        sim: Simulator,
        function: Callable[[Simulator, Any], Any],
        tasks: Iterable[Any],
        executor: Any,
        seeds: Iterable[int] | None,
        chunk: int | None,
        retries: int,
        on_error: OnError,
        folder: Any,
    ) -> None:
        _require_can_start()
        _require_simulator(sim, function)
        self.on_error = _checked_on_error(on_error)
        self.chunk = None if chunk is None else positive_int("chunk", chunk, None)
        self.retries = _checked_retries(retries)
        self.folder = folder
        self.engine = engine(executor)
        self.translator = Translator(sim)
        self.supply = Supply(sim, tasks, seeds, self.translator)
        self.data = pickled_simulator(sim, function)

    def results(self) -> Generator[tuple[int, Any], None, None]:
        """Numbers and results as they come; a `Failed` for a task that has none."""
        if not self.supply.any():
            return
        told: set[tuple] = set()
        with contextlib.ExitStack() as stack:
            self.engine.begin()
            in_order = False
            about = (self.data, self.folder, self.engine.remote)
            try:
                sent = stack.enter_context(parcel(*about))
                more = (self.supply, self.chunk, self.retries)
                sending = Sending(self.engine, sent, *more)
                stack.callback(sending.cancel)
                for outcome in sending:
                    _pass_on(outcome, told)
                    yield outcome.number, self._result(outcome)
                in_order = True
            finally:
                self.engine.end(quickly=not in_order)
                worker.forget()  # if the tasks ran in this very thread

    def _result(self, outcome: Outcome) -> Any:
        task = self.supply.done(outcome.number)
        if outcome.result is None:
            return Failed(outcome.number, task, outcome.message, outcome.traceback)
        try:
            return self.translator.loads(outcome.result)
        except Exception as error:
            text = f"its result cannot be unpickled ({type(error).__name__}: {error})"
            return Failed(outcome.number, task, text)

    def in_order(self, found: dict[int, Any]) -> list[Any]:
        """Results in the order of the tasks, and what was not run as failed."""
        supply, text = self.supply, "it was not run to its end"
        return [
            found[n] if n in found else Failed(n, supply.tasks.get(n), text)
            for n in range(supply.taken)
        ]

    def raise_first(self, found: dict[int, Any], results: list[Any]) -> None:
        """Raise an error if any task failed, with what the first of them says."""
        failed = [found[n] for n in sorted(found) if isinstance(found[n], Failed)]
        if not failed:
            return
        first = failed[0]
        many = ", ".join(str(f.number) for f in failed[:10])
        more = f" and {len(failed) - 10} more" if len(failed) > 10 else ""
        which = f"task {many}" if len(failed) == 1 else f"tasks {many}{more}"
        error = SimulationError(
            f"run_many: {which} of {self.supply.taken} failed. The first one, number "
            f"{first.number} ({label_of(first.task, 60)}): {first.message}\n"
            f"{first.traceback}The attribute results of this error has what the others "
            "gave; on_error='return' returns it"
        )
        error.results = results  # pyright: ignore[reportAttributeAccessIssue]  # for users
        raise error


def _pass_on(outcome: Outcome, told: set[tuple]) -> None:
    """Warn of what a task warned of, once for each text."""
    for category, text in outcome.warnings:
        if (category, text) not in told:
            told.add((category, text))
            try:
                kind = pickle.loads(category)
            except Exception:
                kind = UserWarning
            warn(f"in task {outcome.number} of run_many: {text}", kind)


# arguments ----------------------------------------------------------------------------


def _require_can_start() -> None:
    if processes.read_by_worker():
        raise SimulationError(
            "run_many was called while a worker process reads the script that started "
            "it. Put the call below if __name__ == '__main__': in the script, or install "
            "cloudpickle, with which workers do not read it: pip install cloudpickle"
        )


def _require_simulator(sim: Any, function: Any) -> None:
    if not isinstance(sim, Simulator):
        raise ValidationError(
            f"sim: expected a nengo_dl.Simulator; got {label_of(sim)}", attr="run_many"
        )
    if sim.closed:
        raise SimulatorClosed(
            "run_many cannot send a simulator that is closed; call it inside the with "
            "block, or before sim.close()"
        )
    if not callable(function):
        raise ValidationError(
            "function: expected a function that takes a simulator and a task; got "
            f"{label_of(function)}",
            attr="run_many",
        )


def _checked_on_error(on_error: Any) -> OnError:
    if on_error in ("raise", "return"):
        return on_error
    raise ValidationError(
        f"on_error: expected 'raise' or 'return'; got {on_error!r}", attr="run_many"
    )


def _checked_retries(retries: Any) -> int:
    whole = isinstance(retries, int | np.integer) and not isinstance(retries, bool)
    if whole and retries >= 0:
        return int(retries)
    raise ValidationError(
        f"retries: expected a whole number from 0 on; got {retries!r}", attr="run_many"
    )
