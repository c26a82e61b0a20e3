"""What a simulation is at present: its time, its parameters, and its state."""

import numpy as np

from nengo_dl.compiler.memory import signal_index
from nengo_dl.training.parameters import initial_value


class LiveState:
    """The present values of everything that changes.

    A parameter has its value in up to three places: in the store, in the Keras variables
    that training writes, and, if a learning rule changes it, in the state of the
    simulation. Whoever needs values goes through here, so that the places agree.

    Parameters
    ----------
    program : Program
    parameters : ParameterStore

    Attributes
    ----------
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

    def __init__(self, program, parameters):
        self.program = program
        self.parameters = parameters
        self.banks = self.starting = None
        self.loaded = {}
        self.n_steps = 0
        self.epochs = 0

    # parameters ------------------------------------------------------------------

    def pull(self):
        """Take over what was written to the Keras variables, by whomever."""
        if self.banks is not None and self.banks.pull():
            self.program.written()
        if self.starting is not None and self.starting.pull():
            self.program.state_written()
            self.parameters.version += 1
        layers = self.parameters.layers
        if layers.variables and self.parameters.write(layers.changed(self.parameters)):
            self.program.refreshed()

    def write(self, values):
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

    def write_learned(self, values):
        """Give parameters that are learned online other values, in all batch items."""
        self.program.settle()
        store = self.program.store
        for signal, value in values.items():
            column = np.ravel(value).astype(store.dtype)[:, None]
            store.values[signal] = np.repeat(column, store.batch, axis=1)

    def reset_parameters(self):
        """Give all parameters but the learned ones the values they were built with."""
        self.write(self.parameters.initial)
        self.loaded.clear()
        self.program.unwritten()

    def value(self, signal):
        """The present value of a parameter's signal.

        Of one that is learned online, each batch item has its own copy; this is that of
        the first item.
        """
        base = signal.base
        self.pull()
        if base in self.parameters:
            value = self.parameters[base]
        else:
            state = None if self.program is None else self.program.state(base)
            if state is None:
                return np.asarray(initial_value(signal), self.parameters.dtype)
            value = state[:, 0].reshape(base.shape)
        return value if not signal.is_view else np.ravel(value)[signal_index(signal)]

    def version(self):
        """What differs whenever a value may have changed."""
        self.pull()
        return (self.parameters.version, self.n_steps)

    # state -----------------------------------------------------------------------

    def learned(self):
        """What learning rules made of the parameters that they change, by signal."""
        self.program.settle()
        values = self.program.store.values
        return {s: values[s] for s in self.parameters.learned if s in values}

    def snapshot(self):
        """Time, state and processes as they are now, for `restore`."""
        self.program.settle()
        return self.n_steps, self.program.store.copy(), self.program.hosts_now()

    def restore(self, snapshot):
        """Go back to a snapshot, but keep what was learned since."""
        self.program.settle()
        self.n_steps, values, hosts = snapshot
        self.program.store.restore(values, keep=self.parameters.learned)
        hosts.put_back(noting=True)
        hosts.report()

    def close(self):
        """Let go of everything but the last values of the parameters."""
        self.pull()
        learned = [p.signal for p in self.parameters.entries if p.learned]
        self.parameters.hold({s.base: self.value(s.base) for s in learned})
        self.program = self.banks = self.starting = None
