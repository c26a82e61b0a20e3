"""Callbacks for ``Simulator.fit``, ``evaluate`` and ``predict``, besides those of Keras.

Importing this module imports Keras, which takes seconds.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from nengo import Connection, Ensemble
from nengo.ensemble import Neurons
from nengo.exceptions import ValidationError

from nengo_dl.notices import label_of
from nengo_dl.training.resuming import Resume

__all__ = ["IsolateState", "NengoSummaries", "Resume", "TensorBoard"]

#: what Keras hands to callbacks: values by name
Logs = dict[str, Any] | None

#: what of an object is trained, and its name in `SimulationData`
ATTRIBUTES = {
    Ensemble: ("encoders", "scaled_encoders"),
    Neurons: ("bias", "bias"),
    Connection: ("weights", "weights"),
}


def _require_tensorboard(callback: Any) -> None:
    """Raise an error if the package that writes summaries is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        raise ImportError(
            f"{type(callback).__name__} needs the package 'tensorboard', which is not "
            "installed; install it with the extra of that name: "
            'pip install "nengo-dl[tensorboard]"'
        )


def _layer_of(sim: Any, callback: Any) -> Any:
    """The layer that holds a simulator's network; an error if this is no simulator."""
    if not hasattr(type(sim), "tensor_graph"):
        raise ValidationError(
            f"expected a nengo_dl.Simulator, got {sim!r}", attr="sim", obj=callback
        )
    return sim.tensor_graph


class TensorBoard(keras.callbacks.TensorBoard):
    """``keras.callbacks.TensorBoard`` that also profiles ``Simulator.predict``.

    Keras profiles training only. Here ``profile_batch`` counts the batches of each call
    of ``predict`` too, and what they do is written beside the profile of the training.
    Losses and metrics are shown as always: those of ``fit`` and ``evaluate``.

    Parameters
    ----------
    log_dir : str or path-like
        Where to write; ``tensorboard --logdir`` shows what is there.
    profile_batch : int or (int, int)
        The number of the batch to profile, or the first and the last one, from 1 on.
        0, the default: none.
    **kwargs
        See ``keras.callbacks.TensorBoard``.

    Raises
    ------
    ImportError
        If the package ``tensorboard`` is missing. It is an extra:
        ``pip install "nengo-dl[tensorboard]"``.

    Examples
    --------
    >>> with nengo.Network() as net:
    ...     a = nengo.Node([0.0])
    ...     probe = nengo.Probe(a)
    >>> board = nengo_dl.callbacks.TensorBoard("logs", profile_batch=(2, 3))
    >>> with nengo_dl.Simulator(net, minibatch_size=4) as sim:
    ...     outputs = sim.predict(np.ones((16, 5, 1)), callbacks=[board])
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str] = "logs",
        profile_batch: int | tuple[int, int] | str = 0,
        **kwargs: Any,
    ) -> None:
        _require_tensorboard(self)
        super().__init__(log_dir=log_dir, profile_batch=profile_batch, **kwargs)
        numbers = np.ravel(
            [int(number) for number in profile_batch.split(",")]
            if isinstance(profile_batch, str)  # "first,last", as Keras takes it too
            else profile_batch
        )
        self._profile_first, self._profile_last = int(numbers[0]), int(numbers[-1])
        self._profiles_predict = False

    def on_predict_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Start the profile with the first of the batches (the number is from 0 on)."""
        if batch + 1 == self._profile_first:
            tf.profiler.experimental.start(os.path.join(self.log_dir, "predict"))
            self._profiles_predict = True

    def on_predict_batch_end(self, batch: int, logs: Logs = None) -> None:
        """End the profile with the last of the batches."""
        if batch + 1 >= self._profile_last:
            self._end_profile()

    def on_predict_end(self, logs: Logs = None) -> None:
        """End the profile if there were fewer batches; write all that is left."""
        self._end_profile()
        self._close_writers()

    def _end_profile(self):
        if self._profiles_predict:
            tf.profiler.experimental.stop()
            self._profiles_predict = False


class NengoSummaries(keras.callbacks.Callback):
    """Histograms of parameters after each epoch of training, for TensorBoard.

    They stand there under the names that `.Simulator.save_params` gives to parameters,
    such as ``ensembles['a'].encoders``.

    Parameters
    ----------
    log_dir : str or path-like
        Where to write; ``tensorboard --logdir`` shows what is there.
    sim : Simulator
        The simulator that is trained.
    objects : Ensemble, Neurons or Connection, or a list of them
        What to show: the encoders of an ensemble (times gain, over radius, as they are
        trained), the biases of ``ensemble.neurons``, or the weights of a connection.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If an object has no such parameter, or is not in the simulated network.
    ImportError
        If the package ``tensorboard`` is missing. It is an extra:
        ``pip install "nengo-dl[tensorboard]"``.

    Examples
    --------
    >>> with nengo.Network() as net:
    ...     a = nengo.Node([0.0])
    ...     ens = nengo.Ensemble(20, 1, neuron_type=nengo.RectifiedLinear())
    ...     conn = nengo.Connection(a, ens.neurons, transform=np.ones((20, 1)))
    ...     probe = nengo.Probe(ens)
    >>> x = np.ones((8, 10, 1))
    >>> with nengo_dl.Simulator(net, minibatch_size=4) as sim:
    ...     shown = nengo_dl.callbacks.NengoSummaries("logs", sim, [ens.neurons, conn])
    ...     sim.compile("adam", loss="mse")
    ...     history = sim.fit(x, x, epochs=2, callbacks=[shown], verbose=0)
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str],
        sim: Any,
        objects: Ensemble | Neurons | Connection | Sequence[Any],
    ) -> None:
        super().__init__()
        self.layer = _layer_of(sim, self)
        self.sim = sim
        self.log_dir = os.fspath(log_dir)
        objects = objects if isinstance(objects, list | tuple) else [objects]
        self.fields = {self._name(obj): (obj, self._attr(obj)[1]) for obj in objects}
        _require_tensorboard(self)
        self._writer: Any = None

    def _attr(self, obj):
        """What is shown of an object, see `ATTRIBUTES`."""
        for cls, attr in ATTRIBUTES.items():
            if isinstance(obj, cls):
                return attr
        raise ValidationError(
            f"{label_of(obj)} is a {type(obj).__name__}; expected ensembles (for their "
            "encoders), ensemble.neurons (for their biases) or connections (for their "
            "weights)",
            attr="objects",
            obj=self,
        )

    def _name(self, obj):
        """The name of an object's parameter."""
        attr, _ = self._attr(obj)
        for parameter in self.layer.banks.store.entries:
            if parameter.obj == obj and parameter.attr == attr:
                return parameter.name
        raise ValidationError(
            f"the simulated network has no {attr} of {label_of(obj)}: this is "
            f"part of another network, or has none (in Direct mode, or without weights)",
            attr="objects",
            obj=self,
        )

    def on_train_begin(self, logs: Logs = None) -> None:
        """Open a file for the summaries."""
        self._writer = tf.summary.create_file_writer(self.log_dir)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Write a histogram of each parameter, with the number of the epoch."""
        self.layer.variant(True).save_learned()
        self.sim.data.reset()
        values = self.sim.data.get_params(*self.fields.values())
        with self._writer.as_default(step=epoch):
            for name, value in zip(self.fields, values, strict=True):
                # of sparse weights, the entries that there are
                value = value if isinstance(value, np.ndarray) else value.data
                tf.summary.histogram(name, np.ravel(value))
        self._writer.flush()

    def on_train_end(self, logs: Logs = None) -> None:
        """Close the file of summaries."""
        self._writer.close()


class IsolateState(keras.callbacks.Callback):
    """Keeps the state of the simulation apart from that of stateful calls.

    With ``stateful=True`` the state (voltages, filters, time) is carried from batch to
    batch. With this callback that ends with the data: each epoch of training, each
    validation, and each call of ``evaluate`` or ``predict`` starts from the state that
    the simulator had before the call, and after the call the simulator has it again. A
    long sequence can so be cut into batches that follow one another, and each epoch
    starts at its beginning.

    What online learning rules changed stays. Processes of nodes that were given no data
    run ahead of the call, and go on as in any stateful call. Without ``stateful=True``
    there is nothing to keep apart, since each batch starts anew anyway.

    Parameters
    ----------
    sim : Simulator
        The simulator whose methods are called.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If this is no simulator.

    Examples
    --------
    A sequence of 40 steps in four batches, from its beginning in each epoch:

    >>> with nengo.Network() as net:
    ...     a = nengo.Node([0.0])
    ...     ens = nengo.Ensemble(20, 1, neuron_type=nengo.RectifiedLinear())
    ...     conn = nengo.Connection(a, ens, synapse=0.01)
    ...     probe = nengo.Probe(ens)
    >>> x = np.ones((4, 10, 1))
    >>> with nengo_dl.Simulator(net) as sim:
    ...     sim.compile("adam", loss="mse")
    ...     options = {"stateful": True, "shuffle": False, "verbose": 0}
    ...     isolate = nengo_dl.callbacks.IsolateState(sim)
    ...     history = sim.fit(x, x, epochs=2, callbacks=[isolate], **options)
    """

    def __init__(self, sim: Any) -> None:
        super().__init__()
        self.layer = _layer_of(sim, self)
        self._processes = []  # as they were when each of the present calls began

    def _enter(self):
        self._processes.append(self.layer.program.hosts_now())

    def _rewind(self, training, losses=True):
        self.layer.variant(training, losses).rewind()
        self._processes[-1].put_back()

    def on_train_begin(self, logs: Logs = None) -> None:
        """Remember the state of the simulation before the call."""
        self._enter()

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Start from the remembered state."""
        self._rewind(True)

    def on_train_end(self, logs: Logs = None) -> None:
        """Leave the remembered state behind."""
        self._rewind(True)
        self._processes.pop()

    def on_test_begin(self, logs: Logs = None) -> None:
        """Remember the state; within training, where the processes are."""
        self._enter()

    def on_test_end(self, logs: Logs = None) -> None:
        """Leave the remembered state behind."""
        self._rewind(False)
        self._processes.pop()

    def on_predict_begin(self, logs: Logs = None) -> None:
        """Remember the state of the simulation before the call."""
        self._enter()

    def on_predict_end(self, logs: Logs = None) -> None:
        """Leave the remembered state behind."""
        self._rewind(False, losses=False)
        self._processes.pop()


def __dir__() -> list[str]:
    return sorted(__all__)  # what completion offers
