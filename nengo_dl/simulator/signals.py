"""What users read from ``sim.signals``: present values of the signals of a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from nengo.builder.signal import Signal

from nengo_dl.compiler.lowering import memory_shape
from nengo_dl.runtime.observation import first_value
from nengo_dl.training.parameters import live_matrix

if TYPE_CHECKING:
    from nengo_dl.simulator.simulator import Simulator


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
