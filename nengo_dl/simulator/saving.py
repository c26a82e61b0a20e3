"""Saving, loading and freezing of parameters."""

import numpy as np
from nengo.exceptions import SimulatorClosed

from nengo_dl.simulator import params_io


class SavingMethods:
    """The part of `Simulator` that moves parameters in and out."""

    def save_params(self, path, include_state=False):
        """Write all parameters to a file.

        Parameters
        ----------
        path : str or path-like
            ``.npz`` is added if it is missing.
        include_state : bool
            Also write the state of the simulation: voltages, filters, time.

        Raises
        ------
        ~nengo.exceptions.SimulatorClosed
        """
        self._require_open("save parameters")
        self._pull_parameters()
        values = {p.name: self._live(p) for p in self._parameters.entries}
        if include_state:
            values.update(self._state_by_name())
        params_io.save(path, values)

    def load_params(self, path, include_state=False):
        """Read parameters that `save_params` wrote, for a network of the same form.

        Parameters
        ----------
        path : str or path-like
        include_state : bool
            Also read the state of the simulation.

        Raises
        ------
        ~nengo.exceptions.ValidationError
            If the file does not fit; names every mismatch, and nothing is changed.
        ~nengo.exceptions.SimulatorClosed
        """
        self._require_open("load parameters")
        expected = {p.name: np.shape(self._live(p)) for p in self._parameters.entries}
        state = self._state_by_name() if include_state else {}
        expected.update({name: value.shape for name, value in state.items()})
        values = params_io.load(path, expected)
        fixed = {
            p.signal.base: values[p.name]
            for p in self._parameters.entries
            if p.signal.base in self._parameters
        }
        self._program.settle()
        if self._parameters.write(fixed):
            self._program.written()
            self._push_parameters()
        for p in self._parameters.entries:
            if p.learned:
                flat = values[p.name].reshape(-1, 1).astype(self.dtype)
                copies = np.repeat(flat, self._batch, axis=1)
                self._program.store.values[p.signal.base] = copies
        if include_state:
            self._load_state({name: values[name] for name in state})
        self.data.reset()

    def freeze_params(self, objs):
        """Write the present parameters into Nengo objects.

        The network then gives the same output in core ``nengo.Simulator``.

        Parameters
        ----------
        objs : Network, Ensemble, Connection or Probe, or a list of them
            Of a network, everything inside.
        """
        self._require_values("freeze parameters")
        params_io.freeze(self.model, objs, self._value)

    def get_nengo_params(self, objs, as_dict=False):
        """The present parameters as keyword arguments for new Nengo objects.

        Parameters
        ----------
        objs : Ensemble or Connection, or a list of them
        as_dict : bool
            Give a dict by the objects' labels instead of a list.

        Returns
        -------
        dict or list of dict
        """
        self._require_values("give parameters")
        return params_io.get_nengo_params(self.model, objs, self._value, as_dict)

    def _require_values(self, what):
        if self._parameters is None:
            raise SimulatorClosed(f"Simulator cannot {what} because it is closed.")

    def _live(self, parameter):
        return np.asarray(self._value(parameter.signal))

    _STATE = "state: "

    def _state_by_name(self):
        """The simulation's state, named by position, as arrays ``(size, batch)``."""
        values = self._program.all_states()
        named = {f"{self._STATE}{i}": v for i, v in enumerate(values.values())}
        named[f"{self._STATE}steps"] = np.array([self._n_steps])
        return named

    def _load_state(self, named):
        keys = list(self._program.all_states())
        for i, key in enumerate(keys):
            self._program.store.values[key] = named[f"{self._STATE}{i}"]
        self._n_steps = int(named[f"{self._STATE}steps"][0])
