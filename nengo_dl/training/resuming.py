"""Trainings that go on after their process has ended: what they are, and their files.

Imported when it is first needed, because importing Keras takes seconds.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf
from nengo.exceptions import ValidationError

from nengo_dl import archives
from nengo_dl.notices import warn
from nengo_dl.runtime.python_state import (
    PROCESSES,
    go_on_with,
    python_state,
    random_numbers,
    restore_python_state,
)
from nengo_dl.training.counters import (
    count_on,
    counted,
    from_bytes,
    listed,
    to_bytes,
)
from nengo_dl.training.data import is_stream
from nengo_dl.training.streams import kind_of

if TYPE_CHECKING:
    from nengo_dl.training.keras_side import KerasSide
    from nengo_dl.training.parameters import LiveState
    from nengo_dl.training.streams import Order

#: what the names of arrays in a file begin with
PREFIX = "training"

#: what a file says it is; another number where older ones cannot be read any more
VERSION = 1

#: so many differences are shown
MOST_DIFFERENCES = 10


# what a training consists of ----------------------------------------------------------


@dataclass(eq=False)
class Training:
    """Everything that a call of ``fit`` changes, as plain data, and back.

    Parameters
    ----------
    side : KerasSide
        The layer and the model.
    order : Order or None
        The order of the items in each epoch, if it is ours.
    stateful : bool
        Whether the state of the simulation is carried from batch to batch.
    """

    side: KerasSide
    live: LiveState
    order: Order | None
    stateful: bool

    @property
    def model(self) -> Any:
        """The Keras model."""
        return self.side.model

    def _variables(self) -> dict[str, list[Any]]:
        """All variables of the model and of its optimizer."""
        model = self.model
        optimizer, trained = model.optimizer, model.trainable_variables
        if not optimizer.built and trained:
            with self.side.defaults():
                optimizer.build(trained)
        once = {id(v): v for v in model.variables}
        return {"network": list(once.values()), "optimizer": list(optimizer.variables)}

    @property
    def metrics(self) -> list[Any]:
        """The variables of the means over the batches of an epoch."""
        return [v for metric in self.model.metrics for v in metric.variables]

    @property
    def _links(self) -> list[Any]:
        """What runs, one after the other, each with a state of its own."""
        return self.side.layer.variant(True).links

    def _slots(self, link: Any) -> list[Any]:
        """What of the state of a link a training keeps."""
        learned = self.live.parameters.learned
        states = link.layout.states
        return [slot for slot in states if self.stateful or slot.key in learned]

    @property
    def _keeps_state(self) -> bool:
        return any(self._slots(link) for link in self._links)

    def check_kept(self) -> None:
        """Raises `ValidationError` if Python functions keep what no file can hold."""
        if self.stateful:
            self._python(0)

    def _python(self, n_steps: int) -> dict[str, np.ndarray]:
        program, seed = self.live.program, self.live.process_seed
        return python_state(program, seed, n_steps) if self.stateful else {}

    def snapshot(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What is known while ``fit`` runs: plain data, and arrays of Python objects."""
        variant = self.side.layer.variant(True)
        n_steps, carry = int(variant.first_step.numpy()), None
        if self._keeps_state:
            for link in self._links:
                link.started.settle(link.state)
            self.side.layer.starting.seen()
            carry = [link.arrays() for link in self._links]
        data = {
            name: [(_plain_name(v), v.numpy()) for v in variables]
            for name, variables in self._variables().items()
        }
        order = self.order
        data |= {
            "order": None if order is None else order.described,
            "live epochs": self.live.epochs,
            "random numbers": random_numbers(self.live.program),
            "stateful": self.stateful,
            "carried": carry,
            "steps run": n_steps,
        }
        return data, self._python(n_steps)

    def differences(self, data: Mapping[str, Any]) -> list[str]:
        """How saved data differ from what this training needs, in words."""
        found = []
        for name, variables in self._variables().items():
            here = [(_plain_name(v), v.shape, str(v.dtype)) for v in variables]
            there = [(n, a.shape, a.dtype.name) for n, a in data[name]]
            for was, now in _pairs(there, here):
                if was != now:
                    found.append(f"{name}: {_said(was)} in the file, {_said(now)} here")
        if data["stateful"] != self.stateful:
            found.append(f"stateful={data['stateful']} in the file, {self.stateful} here")
        order = None if self.order is None else self.order.described
        both = data["order"], order
        was, now = (f"{each['items']} items" if each else "nothing" for each in both)
        if was != now:
            found.append(f"what is shuffled: {was} in the file, {now} here")
        links = self._links if self._keeps_state else ()
        shapes = [np.shape(array) for each in data["carried"] or () for array in each]
        expected = [array.shape for link in links for array in link.arrays()]
        if shapes != expected:
            found.append(f"state of shapes {shapes} in the file, {expected} here")
        return found

    def go_back(self, data: Mapping[str, Any], arrays: Mapping, path: str) -> None:
        """Before the call: the simulation as it was."""
        live, program = self.live, self.live.program
        if self.order is not None:
            self.order.go_on_with(data["order"])
        live.epochs = data["live epochs"]
        if data["carried"] is None:
            return
        live.pull()
        program.settle()
        for link, carried in zip(self._links, data["carried"], strict=True):
            program.store.save(self._slots(link), carried)
        if self.stateful:
            live.n_steps = data["steps run"]
            kept = {n: a for n, a in arrays.items() if n.startswith(PROCESSES)}
            if kept:
                seed = restore_python_state(program, kept, path, live.n_steps)
                live.process_seed = live.process_seed if seed is None else seed
        program.state_written()

    def go_on(self, data: Mapping[str, Any]) -> None:
        """While ``fit`` runs: everything else as it was."""
        for name, variables in self._variables().items():
            for variable, (_, value) in zip(variables, data[name], strict=True):
                variable.assign(value)
        go_on_with(self.live.program, data["random numbers"])
        for link in self._links:
            link.started.took()
        self.side.layer.starting.seen()


def _plain_name(variable: Any) -> str:
    """The path of a variable without the numbers that Keras counts layers with."""
    return re.sub(r"_\d+(?=[/_]|$)", "", variable.path)


def _pairs(first, second):
    """Two lists side by side; what has no counterpart is beside None."""
    length = max(len(first), len(second))
    first, second = (list(x) + [None] * (length - len(x)) for x in (first, second))
    return zip(first, second, strict=True)


def _said(variable) -> str:
    if variable is None:
        return "nothing"
    name, shape, dtype = variable
    return f"{name!r} {tuple(shape)} of {dtype}"


# files --------------------------------------------------------------------------------


class Folder:
    """The files of one training, the last ones of which are kept.

    Parameters
    ----------
    path : Path
    keep : int
        How many.
    """

    def __init__(self, path: Path, keep: int) -> None:
        self.path, self.keep = path, keep

    def _files(self) -> list[Path]:
        """All files, the oldest one first."""
        return sorted(self.path.glob(f"{PREFIX}-*-*.npz"))

    def make(self) -> None:
        """Make the folder if need be, and try whether files can be written to it.

        Raises `ValidationError`: an epoch later it would be too late.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.path).close()
        except OSError as error:
            raise ValidationError(
                f"{str(self.path)!r} is no folder that can be written to ({error}); give "
                "the path of one, or of one that can be made",
                attr="Resume.folder",
            ) from error

    def write(self, data: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Write a file, whole or not at all, and remove the oldest ones."""
        name = f"{PREFIX}-{data['epoch']:06d}-{data['batch']:08d}.npz"
        self.path.mkdir(parents=True, exist_ok=True)
        archives.write(self.path / name, {**archives.to_arrays(data, PREFIX), **arrays})
        for path in self._files()[: -self.keep]:
            path.unlink(missing_ok=True)

    def read(self) -> tuple[dict[str, Any], dict[str, np.ndarray], str] | None:
        """What the newest file holds that can be read, and its path; None without any."""
        for path in reversed(self._files()):
            try:
                with archives.opened(path) as archive:
                    arrays = {name: archive.array(name) for name in archive.names}
                data = archives.from_arrays(arrays, PREFIX)
                if data["version"] != VERSION:
                    raise ValueError(f"it is of version {data['version']}")
            except (archives.Damaged, ValueError, KeyError, TypeError) as error:
                warn(
                    f"callbacks.Resume: {str(path)!r} cannot be read ({error}), so the "
                    "training goes on from the file before, or begins anew if there is "
                    "none; remove the file if you do not need it",
                    once=("resume", str(path)),
                )
                continue
            return data, arrays, str(path)
        return None


class Passing:
    """Stands for a training step until those batches have passed that it had before.

    Parameters
    ----------
    training : Training
    count : int
        How many there are.
    metrics : list of array
        What the variables of metrics were after them.
    """

    def __init__(self, training: Training, count: int, metrics: list[np.ndarray]) -> None:
        self.training, self.left, self.metrics = training, count, metrics
        self.step = training.model.train_function
        self._began = False

    def __call__(self, iterator: Any) -> Any:
        """Take the next batch, and do nothing with it."""
        data, model = next(iterator), self.training.model
        if not self._began:
            self._began = True
            model.make_metrics(data)
            found = self.training.metrics
            for variable, value in zip(found, self.metrics or (), strict=False):
                variable.assign(value)
            if model.replicas is not None:
                model.replicas.agree(found)
        self.left -= 1
        if not self.left:
            model.train_function = self.step
        return model.get_metrics_result()


# the callback -------------------------------------------------------------------------


class Resume(keras.callbacks.Callback):
    """A training that goes on where it was when its process ended, with the same numbers.

    The same script, started again after anything (a lost machine, the end of a time
    slot, ``kill -9``), trains what was left to train, and gives the digits that one
    process would have given: parameters, optimizer, random numbers of layers, the order
    of the items, the history, and, of stateful calls and online learning, the state of
    the simulation. Where the training has come to its end, ``fit`` does nothing and gives
    the whole history.

    Files are written under another name and renamed, so that none is ever half done; one
    that is damaged nevertheless is passed over with a warning, and the one before it is
    taken.

    Parameters
    ----------
    folder : str or path-like
        Where the files are, of this training alone. It is made if need be. With several
        processes (``strategy``) the first one alone reads and writes.
    every : "epoch" or int
        When to write: after each epoch, or after each so many batches as well. Then the
        epoch goes on at that batch.
    keep : int
        How many files to keep, the last ones.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If an argument is no such number or path. From ``fit``, before the first batch: if
        nothing can be written to the folder, or the newest file is of another network,
        optimizer or kind of data; it says what differs.

    Notes
    -----
    The network, the data and what they are made with have to be the same: give the
    network or the simulator a seed. A ``tf.data.Dataset`` is to give the same elements in
    each epoch (without ``shuffle``, or shuffled once), a generator what it gave before; a
    ``keras.utils.PyDataset`` goes with ``shuffle=False``.

    ``EarlyStopping``, ``ReduceLROnPlateau`` and ``ModelCheckpoint`` go on with what they
    have counted, and with the best that they have seen. What other callbacks keep in
    attributes of their own begins anew.

    Examples
    --------
    >>> with nengo.Network(seed=0) as net:
    ...     a = nengo.Node([0.0])
    ...     ens = nengo.Ensemble(20, 1, neuron_type=nengo.RectifiedLinear())
    ...     connection = nengo.Connection(a, ens, synapse=None)
    ...     probe = nengo.Probe(ens)
    >>> x = np.linspace(-1, 1, 8).reshape(8, 1, 1)
    >>> with nengo_dl.Simulator(net, minibatch_size=4) as sim:
    ...     sim.compile("adam", loss="mse")
    ...     resume = nengo_dl.callbacks.Resume("run1")
    ...     history = sim.fit(x, x**2, epochs=3, callbacks=[resume], verbose=0)
    >>> len(history.history["loss"])
    3
    """

    #: it is to see what all others have done
    comes_last = True

    def __init__(
        self, folder: str | os.PathLike[str], every: str | int = "epoch", keep: int = 2
    ) -> None:
        super().__init__()
        if every != "epoch" and not _is_count(every):
            raise ValidationError(
                f"expected 'epoch' or a number of batches, at least 1; got {every!r}",
                attr="every",
                obj=self,
            )
        if not _is_count(keep):
            raise ValidationError(
                f"expected a number of files, at least 1; got {keep!r}",
                attr="keep",
                obj=self,
            )
        try:
            self.folder = Path(os.fspath(folder))
        except TypeError as error:
            raise ValidationError(
                f"expected the path of a folder; got {folder!r}", attr="folder", obj=self
            ) from error
        self.every, self.keep = every, keep
        self._files = Folder(self.folder, int(keep))
        self._forget()

    def _forget(self) -> None:
        self._saved: Any = None
        self._training: Any = None
        self._position: Any = None  # of the first process, in the others
        self._counted: Any = {}  # by other callbacks
        self._callbacks: Any = []
        self._passed = 0  # batches of the first epoch that were trained on before
        self.active = True  # whether this process reads and writes
        self.history: dict[str, list[float]] = {}
        self.epochs: list[int] = []

    # what `fit` calls -----------------------------------------------------------------

    def open(self, active: bool = True) -> None:
        """At the beginning of ``fit``: look for a file.

        Parameters
        ----------
        active : bool
            Whether this process reads and writes files.
        """
        self._forget()
        self.active = active
        if active:
            self._files.make()
            self._saved = self._files.read()
        if self._saved is not None:
            self._counted = self._saved[0].get("counted", {})

    @property
    def all_batches(self) -> int:
        """How many batches were trained on in epochs that came to their end."""
        position = self.position
        return 0 if position is None else position[2] - position[1]

    @property
    def counted(self) -> bytes:
        """What other callbacks had counted, to be sent to other processes."""
        return to_bytes(self._counted) if self._counted else b""

    def follow(self, position: tuple[int, ...], counted: bytes) -> None:
        """Begin where the first process does.

        Parameters
        ----------
        position : tuple of int
            Its `position`.
        counted : bytes
            Its `counted`.
        """
        self._position = position
        self._counted = from_bytes(counted) if counted else {}

    @property
    def position(self) -> tuple[int, int, int, int] | None:
        """Epochs, batches of the next epoch, all batches; whether it came to its end."""
        if self._saved is None:
            return self._position
        data = self._saved[0]
        return data["epoch"], data["batch"], data["all batches"], int(data["stopped"])

    def begin(self, training: Training, arguments: dict[str, Any]) -> None:
        """Before Keras begins: the simulation as it was, if there is a file.

        Parameters
        ----------
        training : Training
            What is trained.
        arguments : dict
            Those of ``keras.Model.fit``, which are completed.

        Raises
        ------
        ~nengo.exceptions.ValidationError
            If the file is of another training.
        """
        self._training = training
        self._callbacks = listed(arguments.get("callbacks"))
        executions = getattr(training.model, "steps_per_execution", 1)
        if self.every != "epoch" and executions > 1:
            raise ValidationError(
                f"every={self.every} needs each batch for itself; leave out "
                f"steps_per_execution={executions} of Simulator.compile, or every",
                attr="Simulator.fit (Resume)",
            )
        training.check_kept()
        self._all_batches = 0
        self._epoch = arguments.get("initial_epoch") or 0
        if self._saved is None:
            if self._position is not None:
                self.start_at(*self._position, arguments=arguments)
            return
        data, arrays, path = self._saved
        problems = training.differences(data)
        if problems:
            shown = "".join(f"\n  - {line}" for line in problems[:MOST_DIFFERENCES])
            more = len(problems) - MOST_DIFFERENCES
            shown += f"\n  - and {more} more" if more > 0 else ""
            raise ValidationError(
                f"{path!r} is of another training:{shown}\nGive this one a folder of its "
                "own, or make network, optimizer and data as they were",
                attr="Simulator.fit (Resume)",
            )
        training.go_back(data, arrays, path)
        self.history = {name: list(values) for name, values in data["history"].items()}
        self.epochs = list(data["epochs"])
        position: Any = self.position  # known, now that there is a file
        self.start_at(*position, arguments=arguments)

    def start_at(
        self, epoch: int, batch: int, all_batches: int, stopped: int, arguments: dict
    ) -> None:
        """Let Keras begin with an epoch, and pass over batches of it.

        Parameters
        ----------
        epoch, batch, all_batches, stopped : int
            See `position`.
        arguments : dict
            Those of ``keras.Model.fit``, which are completed.
        """
        epochs = arguments.get("epochs", 1)
        self._epoch, self._all_batches = epoch, all_batches
        arguments["initial_epoch"] = max(epochs, epoch) if stopped else epoch
        self._passed = batch if arguments["initial_epoch"] < epochs else 0

    def complete(self, history: Any) -> None:
        """After Keras: its history with that of the processes before.

        Parameters
        ----------
        history : keras.callbacks.History
            What ``fit`` returns.
        """
        if self.epochs:
            history.history, history.epoch = dict(self.history), list(self.epochs)

    # what Keras calls -----------------------------------------------------------------

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Take over everything that was saved."""
        if self._training is None:
            raise ValidationError(
                "callbacks.Resume goes with Simulator.fit, not with a Keras model",
                attr="Resume",
            )
        self._wrote = None
        count_on(self._callbacks, self._counted)
        if self._saved is not None:
            self._training.go_on(self._saved[0])

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Pass over batches of an epoch that had begun."""
        self._epoch, self._batch = epoch, 0
        if self._passed:
            metrics = [] if self._saved is None else self._saved[0]["metrics"]
            step = Passing(self._training, self._passed, metrics)
            self._training.model.train_function = step

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Write a file after so many batches."""
        new = batch + 1 - self._batch
        self._batch = batch + 1
        if self._batch <= self._passed:
            return
        self._passed = 0
        self._all_batches += new
        if self.every == "epoch" or self._batch % int(self.every):
            return
        if self._batch != (self.params or {}).get("steps"):  # or the epoch is at its end
            self._write(self._epoch, self._batch)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Write a file."""
        self.epochs.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(_as_plain(value))
        self._passed, self._epoch = 0, epoch + 1
        self._write(epoch + 1, 0)

    def on_train_end(self, logs: dict | None = None) -> None:
        """Write what the training came to, with what callbacks did at its end."""
        if self._wrote is not None:
            self._write(self._epoch, 0)
        self._training = self._saved = None
        self._callbacks = []

    def _write(self, epoch: int, batch: int) -> None:
        stopped = bool(self.model.stop_training)
        if not self.active or (stopped and self._training.side.not_finite()):
            return
        data, arrays = self._training.snapshot()
        data |= {"version": VERSION, "epoch": epoch, "batch": batch, "stopped": stopped}
        data |= {"all batches": self._all_batches}
        data |= {"history": self.history, "epochs": self.epochs}
        data["counted"] = counted(self._callbacks)
        data["metrics"] = [v.numpy() for v in self._training.metrics] if batch else []
        self._files.write(data, arrays)
        self._wrote = epoch, batch


def _is_count(value: Any) -> bool:
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return bool(whole and value >= 1)


def _as_plain(value: Any) -> Any:
    """What Keras reports, as plain data."""
    value = np.asarray(tf.convert_to_tensor(value) if tf.is_tensor(value) else value)
    return value.item() if value.ndim == 0 else value


def resume_among(callbacks: Any) -> Resume | None:
    """The callback among those of a call; an error if there are several."""
    found = [c for c in listed(callbacks) if isinstance(c, Resume)]
    if len(found) > 1:
        raise ValidationError(
            f"expected one callbacks.Resume, got {len(found)}", attr="Simulator.fit"
        )
    return found[0] if found else None


def check_source(x: Any, stateful: bool, arguments: Mapping[str, Any]) -> None:
    """Whether data of a call can be gone on with. Raises `ValidationError`."""
    where = "Simulator.fit (Resume)"
    validation = arguments.get("validation_data")
    if is_stream(validation) and kind_of(validation) == "generator":
        raise ValidationError(
            "validation_data of a generator cannot be read again from its beginning; "
            "give arrays, a tf.data.Dataset or a PyDataset",
            attr=where,
        )
    if not is_stream(x):
        return
    kind = kind_of(x)
    if stateful:
        raise ValidationError(
            f"with stateful=True, give arrays instead of a {kind}: what was fetched "
            "ahead of the last batch is not known",
            attr=where,
        )
    if kind == "PyDataset" and arguments.get("shuffle", True):
        raise ValidationError(
            "Keras shuffles the batches of a PyDataset with random numbers that cannot "
            "be gone on with; give shuffle=False",
            attr=where,
        )
