"""What users read: ``sim.data``, ``sim.signals``, and a table of the parameters."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np
from nengo import Connection, Ensemble
from nengo.builder import Model
from nengo.builder.signal import Signal
from nengo.ensemble import Neurons
from nengo.exceptions import ValidationError

from nengo_dl.compiler.memory import memory_shape
from nengo_dl.notices import label_of
from nengo_dl.runtime.observation import first_value
from nengo_dl.simulator.objects import (
    built_connection,
    built_ensemble,
    live_matrix,
    sparse_matrices,
)
from nengo_dl.training.parameters import Parameter, collect_parameters, initial_value

if TYPE_CHECKING:
    from nengo_dl.simulator.simulator import Simulator

# Many chunks of single steps are joined this many at a time: enough to hide the cost of
# a call, few enough that the copy of large chunks stays small beside the data.
_JOIN = 64


class ProbeLog:
    """The data of one probe, as they come from the simulation.

    Parameters
    ----------
    shape : tuple of int
        The shape of the probed signal.
    minibatch_size : int, optional
        The number of items simulated side by side; None for one item and data without
        an axis for it.
    period : float
        Number of steps between two samples, ``probe.sample_every / dt``. Of the steps
        1, 2, …, those with ``step % period < 1`` are kept, as core Nengo does.
    keep_history : bool
        False keeps only the last sample.
    dtype : dtype
        The type of the data.

    Examples
    --------
    >>> log = ProbeLog((2,))
    >>> log.append(np.ones((10, 2, 1)), first_step=1)
    >>> log.data.shape
    (10, 2)
    """

    def __init__(
        self,
        shape: Any,
        minibatch_size: int | None = None,
        period: float = 1,
        keep_history: bool = True,
        dtype: Any = np.float32,
    ) -> None:
        self.shape = tuple(shape)
        self.minibatch_size = minibatch_size
        self.period = period
        self.keep_history = keep_history
        self.dtype = np.dtype(dtype)
        self._reading = threading.Lock()  # of those who look; `append` does without
        self.clear()

    @classmethod
    def of_probe(
        cls,
        model: Model,
        probe: Any,
        minibatch_size: int | None = None,
        keep_history: bool = True,
        dtype: Any = None,
    ) -> ProbeLog:
        """The empty log of a probe.

        ``minibatch_size``, ``keep_history``, ``dtype``: see `ProbeLog`. The default of
        ``dtype`` is that of the probed signal.
        """
        signal = model.sig[probe]["in"]
        return cls(
            memory_shape(signal),
            minibatch_size=minibatch_size,
            period=1 if probe.sample_every is None else probe.sample_every / model.dt,
            keep_history=keep_history,
            dtype=signal.dtype if dtype is None else dtype,
        )

    def append(self, chunk: np.ndarray, first_step: int) -> None:
        """Add the values of successive steps.

        ``chunk``: values of shape ``(steps, size, batch)`` or ``(steps, *shape, batch)``.
        The log keeps the array itself: it must not be changed afterwards. ``first_step``:
        the number of the chunk's first step; the first step of a simulation is 1.
        """
        if len(chunk) == 1:  # quickly, as it is done for each single step
            if first_step % self.period >= 1:
                return
        elif self.period > 1:
            steps = np.arange(first_step, first_step + len(chunk))
            kept = steps % self.period < 1
            if not kept.all():
                chunk = chunk[kept]
                if not len(chunk):
                    return
        self.add(chunk)

    def add(self, chunk: np.ndarray) -> None:
        """Add samples of one or several steps.

        ``chunk``: see `append`; all of its steps are kept.
        """
        if self.keep_history:
            self._chunks.append(chunk)
        else:
            # a copy, or the whole chunk would be kept in memory
            self._chunks = [chunk if len(chunk) == 1 else chunk[-1:].copy()]

    def mark(self) -> Any:
        """What was appended since somebody looked; for `undo`."""
        return self._chunks[:] if not self.keep_history else len(self._chunks)

    def undo(self, mark: Any) -> None:
        """Forget what was appended after a `mark`."""
        if self.keep_history:
            del self._chunks[mark:]
        else:
            self._chunks = mark

    def undo_step(self, rows: np.ndarray) -> None:
        """Forget a single step, if it was appended: a part of the array ``rows``."""
        if self._chunks and self._chunks[-1].base is rows:
            self._chunks.pop()

    def clear(self) -> None:
        """Forget all data. Arrays that were handed out keep theirs."""
        with self._reading:
            self._chunks: list[np.ndarray] = []  # appended, not yet in the buffer
            self._buffer: np.ndarray | None = None
            self._n_samples = 0  # in the buffer

    def __getstate__(self) -> dict[str, Any]:
        """Everything, without space for further samples: buffers may be shared then."""
        data = self.data
        return {**vars(self), "_chunks": [], "_buffer": data, "_reading": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _chunks=[], _reading=threading.Lock())

    @property
    def data(self) -> np.ndarray:
        """The samples so far, a read-only array.

        Its shape is ``(samples, *shape)`` without a ``minibatch_size``, else
        ``(minibatch_size, samples, *shape)``.
        """
        with self._reading:  # another thread may append meanwhile
            chunks = self._chunks
            n = len(chunks)
            if n and not self.keep_history:
                self._buffer, self._n_samples = None, 0
            for i in range(0, n, _JOIN):
                some = chunks[i : min(i + _JOIN, n)]
                self._store(some[0] if len(some) == 1 else np.concatenate(some))
            del chunks[:n]
            data = self._samples(self._reserve(0), 0, self._n_samples).view()
        data.setflags(write=False)
        return data

    def _samples(self, array: np.ndarray, start: int, stop: int) -> np.ndarray:
        return array[start:stop] if self.minibatch_size is None else array[:, start:stop]

    def _store(self, chunk: np.ndarray) -> None:
        """Copy a chunk to the end of the buffer."""
        n_new = len(chunk)
        buffer = self._reserve(n_new)
        chunk = chunk.reshape((n_new, *self.shape, self.minibatch_size or 1))
        chunk = np.moveaxis(chunk, -1, 0)
        if self.minibatch_size is None:
            (chunk,) = chunk  # one item
        start = self._n_samples
        self._samples(buffer, start, start + n_new)[...] = chunk
        self._n_samples += n_new

    def _reserve(self, n_new: int) -> np.ndarray:
        """The buffer, with space for some more samples.

        A buffer that is too small is replaced by one half as large again, so that
        looking at the data after each step copies each sample only a few times. Samples
        are never written twice: arrays that were handed out stay as they are.
        """
        n_needed = self._n_samples + n_new
        buffer = self._buffer
        axis = 0 if self.minibatch_size is None else 1
        if buffer is None or n_needed > buffer.shape[axis]:
            n_space = n_needed
            if buffer is not None and self._n_samples:
                n_space = max(n_needed, 3 * buffer.shape[axis] // 2)
            batch = () if self.minibatch_size is None else (self.minibatch_size,)
            larger = np.empty((*batch, n_space, *self.shape), self.dtype)
            if buffer is not None and self._n_samples:
                self._samples(larger, 0, self._n_samples)[...] = self._samples(
                    buffer, 0, self._n_samples
                )
            self._buffer = buffer = larger
        return buffer


class NotSimulated(KeyError):
    """Something of which ``sim.data`` has nothing; says why."""

    def __str__(self) -> str:
        return str(self.args[0])  # that of KeyError is for keys


def _all_objects(network) -> set:
    """All objects that are in a network now."""
    found = {*network.all_objects, *network.all_networks, network}
    return found | {*network.all_probes}


class RecordedSteps:
    """Which steps there are probe data of.

    They are not simply all that were run: probes may have been cleared, state loaded,
    the time reset.

    Examples
    --------
    >>> recorded = RecordedSteps()
    >>> recorded.add(1, 2)
    >>> recorded.add(3, 1)
    >>> recorded.add(11, 2)
    >>> recorded.numbers
    array([ 1,  2,  3, 11, 12])
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all samples."""
        self._runs: list[list[int]] = []  # of successive steps: [first, after the last]
        self._next: int | None = None

    def add(self, first_step: int, count: int) -> None:
        """Data of successive steps were added."""
        if first_step == self._next:
            self._runs[-1][1] = self._next = first_step + count
        elif count:
            self._next = first_step + count
            self._runs.append([first_step, self._next])

    def undo(self, first_step: int) -> None:
        """Forget the steps from ``first_step`` on, the last that were added."""
        if self._next is not None and self._next > first_step:
            self._runs[-1][1] = self._next = first_step

    @property
    def numbers(self) -> np.ndarray:
        """(ndarray of int) The number of each step; the first of a simulation is 1."""
        return np.concatenate([np.arange(0), *(np.arange(*run) for run in self._runs)])


class SimulationData(Mapping[Any, Any]):
    """Read-only mapping from Nengo objects to what the simulator knows of them.

    - ``data[probe]``: the probe's data, ``(samples, size)``, with a ``minibatch_size``
      ``(minibatch_size, samples, size)``; before the first run without samples.
      Of sparse weights it has one matrix for each sample, as core Nengo gives them.
    - ``data[ensemble]``: a `~nengo.builder.ensemble.BuiltEnsemble`,
      ``data[connection]``: a `~nengo.builder.connection.BuiltConnection`, both with the
      values that parameters have now (after training, learning, or loading).
      What an online rule learns differs between batch items; here it is the first's.
    - ``data[obj]`` for other objects: what their builder put in ``model.params``.

    Parameters
    ----------
    model : ~nengo.builder.Model
        The built model.
    logs : dict
        The `ProbeLog` of each probe.
    values : callable, optional
        ``values(signal)`` gives the present value of a parameter's signal. Default: the
        value it was built with.
    version : callable, optional
        ``version()`` gives an object that differs after each change of ``values``; what
        is equal in between is computed once. By default it is computed each time.
    reading : callable, optional
        ``reading()`` gives a context in which nothing but the thread itself changes
        values.
    loaded : mapping, optional
        Gains of ensembles from a file, see `built_ensemble`.

    Raises
    ------
    KeyError
        For an object that is not in the model.
    """

    def __init__(
        self,
        model: Model,
        logs: dict[Any, ProbeLog],
        values: Callable[[Any], Any] = initial_value,
        version: Callable[[], Any] | None = None,
        reading: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext,
        loaded: Mapping[Any, Any] | None = None,
    ) -> None:
        self._model = model
        self._logs = logs
        self._values = values
        self._version = version
        self._reading = reading
        self._loaded = {} if loaded is None else loaded
        self._cache = {}
        self._cached_version = None

    def __copy__(self) -> SimulationData:
        about = (self._model, self._logs, self._values, self._version)
        return type(self)(*about, self._reading, self._loaded)

    def __getstate__(self) -> dict[str, Any]:
        """Everything as it is now, without the simulator that would change it."""
        signals = [p.signal for p in collect_parameters(self._model)]
        with self._reading():
            values = {signal: self._values(signal) for signal in signals}
        state = {"model": self._model, "logs": self._logs, "values": values}
        return {**state, "loaded": self._loaded}

    def __setstate__(self, state: dict[str, Any]) -> None:
        values, loaded = state["values"].__getitem__, state.get("loaded")
        self.__init__(state["model"], state["logs"], values, loaded=loaded)

    def __getitem__(self, key: Any) -> Any:
        log = self._logs.get(key)
        if log is not None:
            signal = self._model.sig[key]["in"]
            return sparse_matrices(signal, log.data) if signal.sparse else log.data
        if key not in self._model.params:
            raise NotSimulated(self._no_data(key))
        if not isinstance(key, Ensemble | Connection):
            return self._model.params[key]
        with self._reading():
            return self._live(key)

    def _live(self, key: Any) -> Any:
        """An ensemble or a connection with the present values of its parameters."""
        if self._version is None:
            return self._built(key)
        version = self._version()
        if version != self._cached_version:
            self._cache.clear()
            self._cached_version = version
        if key not in self._cache:
            self._cache[key] = self._built(key)
        return self._cache[key]

    def _built(self, key: Any) -> Any:
        if isinstance(key, Ensemble):
            return built_ensemble(self._model, key, self._values, self._loaded.get(key))
        return built_connection(self._model, key, self._values)

    def _no_data(self, key: Any) -> str:
        """Why there is nothing for an object."""
        network = self._model.toplevel
        if isinstance(key, str):
            known = {repr(obj.label): obj for obj in self._model.params if obj.label}
            same = known.get(repr(key))
            of = "" if same is None else f", here the {type(same).__name__} {key!r},"
            return (
                f"sim.data has Nengo objects{of} as keys, got the text {key!r}. "
                "(Simulator.predict gives its results by name, too.)"
            )
        if isinstance(key, Neurons):
            return f"{label_of(key)} have their data with their ensemble: sim.data[ens]"
        later = network is not None and key in _all_objects(network)
        where = (
            "was added to the network after this simulator was built"
            if later
            else "is not part of the network that this simulator was built of"
        )
        return (
            f"there are no data of {label_of(key)}: it {where}. Make a new Simulator to "
            "have them"
        )

    def get_params(self, *obj_attrs: tuple[Any, str]) -> list[Any]:
        """Present values of some parameters.

        Parameters
        ----------
        *obj_attrs : tuple
            Pairs ``(object, attribute)``: an attribute of
            `~nengo.builder.ensemble.BuiltEnsemble` for an ensemble or its neurons, of
            `~nengo.builder.connection.BuiltConnection` for a connection.

        Returns
        -------
        list
            The value for each pair.

        Raises
        ------
        KeyError
            For an object that is not in the model.
        ~nengo.exceptions.ValidationError
            For an attribute that an object does not have.

        Examples
        --------
        >>> with nengo.Network() as net:
        ...     ens = nengo.Ensemble(20, 1)
        ...     conn = nengo.Connection(ens, ens)
        >>> with nengo_dl.Simulator(net) as sim:
        ...     bias, weights = sim.data.get_params((ens, "bias"), (conn, "weights"))
        >>> bias.shape, weights.shape
        ((20,), (1, 20))
        """
        values = []
        for obj, attr in obj_attrs:
            built = self[obj.ensemble if isinstance(obj, Neurons) else obj]
            fields = getattr(built, "_fields", ())
            if attr not in fields:
                known = ", ".join(map(repr, fields)) or "none"
                raise ValidationError(
                    f"{label_of(obj)} has no parameter {attr!r}; it has {known}",
                    attr="SimulationData.get_params",
                )
            values.append(getattr(built, attr))
        return values

    def reset(self) -> None:
        """Forget what was computed from earlier values of the parameters."""
        self._cache.clear()

    def __contains__(self, key: object) -> bool:
        return key in self._model.params

    def __iter__(self) -> Iterator[Any]:
        return iter(self._model.params)

    def __len__(self) -> int:
        return len(self._model.params)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self)} objects in {self._model}>"


# sim.signals --------------------------------------------------------------------


class SignalValues(Mapping[Any, Any]):
    """Read-only mapping from the signals of a model to their present values.

    As ``nengo.Simulator.signals``, for what operators and objects of a model say of their
    signals: ``sim.signals[sim.model.sig[ens.neurons]["voltage"]]``.

    Each look gives the value after the last step, in an array that is not written later:
    ``signal.shape``, or ``(minibatch_size, *signal.shape)``. Sparse signals are matrices.

    The first look switches on that all signals are computed and kept, until the simulator
    is closed: steps are compiled anew, and take longer. What has not been computed or
    kept by then is not known; so look once before the first step.

    Parameters
    ----------
    sim : Simulator

    Raises
    ------
    KeyError
        For a signal that no operator of the model has.
    ~nengo.exceptions.SimulationError
        For a value that is not known.

    Examples
    --------
    >>> with nengo.Network() as net:
    ...     ens = nengo.Ensemble(10, 1)
    >>> with nengo_dl.Simulator(net) as sim:
    ...     voltage = sim.model.sig[ens.neurons]["voltage"]
    ...     assert sim.signals[voltage].shape == (10,)
    ...     sim.run(0.01)
    ...     assert sim.signals[voltage].any()
    """

    def __init__(self, sim: Simulator) -> None:
        self._sim = sim
        model = sim.model
        signals = dict.fromkeys([model.step, model.time])
        for op in model.operators:
            for signal in op.all_signals:
                signals.update({signal.base: None, signal: None})
        self._signals = signals

    def __getitem__(self, signal: Any) -> Any:
        if signal not in self._signals:
            base = getattr(signal, "base", None)
            if not isinstance(signal, Signal) or base not in self._signals:
                raise KeyError(signal)
        sim = self._sim
        with sim._turns.reading():
            return self._value(signal)

    def _value(self, signal):
        sim = self._sim
        sim._require_open("look at signals")
        live, model, observation = sim._live, sim.model, sim._program.observation
        if signal in (model.step, model.time):
            value = np.array(live.n_steps if signal is model.step else sim.time)
            return self._for_items(signal, value.astype(signal.dtype))
        live.pull()
        if signal.base in live.parameters:
            return self._of_parameter(signal)
        assert observation is not None  # there is one since the first look
        value = observation.value(signal, live.n_steps)
        if signal.sparse:
            return live_matrix(
                signal, lambda s: first_value(s) if value is None else value[:, 0]
            )
        if value is None:
            return self._for_items(signal, self._typed(signal, signal.initial_value))
        value = value.T.reshape(-1, *memory_shape(signal))
        value = self._typed(signal, value if sim.minibatch_size else value[0])
        value.setflags(write=False)
        return value

    def _of_parameter(self, signal):
        if signal.sparse:
            return live_matrix(signal, self._sim._live.value)
        return self._for_items(signal, self._typed(signal, self._sim._live.value(signal)))

    def _typed(self, signal, value):
        """A value in the type of the simulator; whole numbers stay whole."""
        whole = np.issubdtype(signal.dtype, np.integer)
        value = np.rint(value) if whole else np.asarray(value)
        return np.array(value, signal.dtype if whole else self._sim.dtype)

    def _for_items(self, signal, value):
        """A value repeated for each item of a batch."""
        value = value.reshape(signal.shape)
        if self._sim.minibatch_size:
            return np.broadcast_to(value, (self._sim.minibatch_size, *signal.shape))
        value.setflags(write=False)
        return value

    def __iter__(self) -> Iterator[Any]:
        return iter(self._signals)

    def __len__(self) -> int:
        return len(self._signals)

    def __contains__(self, signal: object) -> bool:
        return signal in self._signals

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self)} signals in {self._sim.model}>"


# which parameters there are, object by object, as a table -----------------------

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
