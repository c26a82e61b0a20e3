"""What a simulation is at present: its time, its parameters, and its state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from nengo.builder import Signal
from nengo.exceptions import SimulatorClosed

from nengo_dl.compiler.lowering import signal_index
from nengo_dl.training.parameters import initial_value

if TYPE_CHECKING:
    from nengo_dl.runtime.host import HostsThen
    from nengo_dl.runtime.program import Program
    from nengo_dl.runtime.tensorflow.variables import ParameterBanks, StartingValues
    from nengo_dl.training.parameter_store import ParameterStore


class LiveState:
    """The present values of everything that changes.

    A parameter has its value in up to three places: in the store, in the Keras variables
    that training writes, and, if a learning rule changes it, in the state of the
    simulation. Whoever needs values goes through here, so that the places agree.

    Parameters
    ----------
    program : Program
    parameters : ParameterStore
    seed : int

    Attributes
    ----------
    seed : int
        Of what is random while the simulation runs.
    process_seed : int
        The one that the processes that run now were made with.
    n_steps : int
        Number of steps run so far.
    epochs : int
        Number of epochs trained since the last reset.
    banks : ParameterBanks or None
        The Keras variables, once there are some.
    starting : StartingValues or None
        Those of what is both trained and learned online, likewise.
    loaded : dict
        Ensemble -> gains and scaled encoders, as they were loaded from a file.
    """

    def __init__(self, program: Program, parameters: ParameterStore, seed: int) -> None:
        self._program: Program | None = program
        self.parameters = parameters
        self.seed = self.process_seed = seed
        self.banks: ParameterBanks | None = None
        self.starting: StartingValues | None = None
        self.loaded: dict[Any, Any] = {}
        self.n_steps = 0
        self.epochs = 0

    @property
    def program(self) -> Program:
        """(Program) The compiled network, as long as the simulation is not closed."""
        if self._program is None:
            raise SimulatorClosed("the simulator is closed")
        return self._program

    @property
    def closed(self) -> bool:
        """(bool) Whether the compiled network was let go of."""
        return self._program is None

    # parameters ------------------------------------------------------------------

    def pull(self) -> None:
        """Take over what was written to the Keras variables, by whomever."""
        if self._program is None:
            return
        if self.banks is not None and self.banks.pull():
            self.program.written()
        if self.starting is not None and self.starting.pull():
            self.program.state_written()
            self.parameters.version += 1
        layers = self.parameters.layers
        if layers.variables and self.parameters.write(layers.changed(self.parameters)):
            self.program.refreshed()

    def write(self, values: Mapping[Signal, Any]) -> None:
        """Give parameters other values.

        Parameters
        ----------
        values : dict
            Base signal -> array.
        """
        self.pull()  # or what is in the variables would come back afterwards
        if self.parameters.write(values):
            self.program.written()
            if self.banks is not None:
                self.banks.push()
            self.parameters.layers.push(self.parameters)

    def write_learned(self, values: Mapping[Signal, Any]) -> None:
        """Give parameters that are learned online other values, in all batch items."""
        self.program.settle()
        store = self.program.store
        for signal, value in values.items():
            column = np.ravel(value).astype(store.dtype)[:, None]
            store.values[signal] = np.repeat(column, store.batch, axis=1)

    def reset_parameters(self) -> None:
        """Give all parameters but the learned ones the values they were built with."""
        self.write(self.parameters.initial)
        self.loaded.clear()
        self.program.unwritten()

    def value(self, signal: Signal) -> np.ndarray:
        """The present value of a parameter's signal.

        Of one that is learned online, each batch item has its own copy; this is that of
        the first item.
        """
        base = signal.base
        self.pull()
        if base in self.parameters:
            value = self.parameters[base]
        else:
            state = None if self._program is None else self._program.state(base)
            if state is None:
                return np.asarray(initial_value(signal), self.parameters.dtype)
            value = state[:, 0].reshape(base.shape)
        return value if not signal.is_view else np.ravel(value)[signal_index(signal)]

    def version(self) -> tuple[int, int]:
        """What differs whenever a value may have changed."""
        self.pull()
        return (self.parameters.version, self.n_steps)

    # state -----------------------------------------------------------------------

    def learned(self) -> dict[Signal, np.ndarray]:
        """What learning rules made of the parameters that they change, by signal."""
        self.program.settle()
        values = self.program.store.values
        return {s: values[s] for s in self.parameters.learned if s in values}

    def snapshot(self) -> tuple[int, Any, HostsThen]:
        """Time, state and processes as they are now, for `restore`."""
        self.program.settle()
        return self.n_steps, self.program.store.copy(), self.program.hosts_now()

    def restore(self, snapshot: tuple[int, Any, HostsThen]) -> None:
        """Go back to a snapshot, but keep what was learned since."""
        self.program.settle()
        self.n_steps, values, hosts = snapshot
        self.program.store.restore(values, keep=self.parameters.learned)
        hosts.put_back(noting=True)
        hosts.report()

    def close(self) -> None:
        """Let go of everything but the last values of the parameters."""
        self.pull()
        learned = [p.signal for p in self.parameters.entries if p.learned]
        self.parameters.hold({s.base: self.value(s.base) for s in learned})
        self.let_go()

    def let_go(self) -> None:
        """Let go of the compiled network and of the Keras variables."""
        self._program = self.banks = self.starting = None
