"""Saving, loading and freezing of parameters."""

from __future__ import annotations

import os
import re
from typing import Any

import numpy as np
from nengo import Ensemble
from nengo.exceptions import ValidationError

from nengo_dl.compiler.memory import signal_index
from nengo_dl.notices import warn
from nengo_dl.simulator import host_state, params_io
from nengo_dl.simulator.legacy import older_saving
from nengo_dl.simulator.numbered_names import numbered_names
from nengo_dl.training.finite import check_parameters, checked
from nengo_dl.training.parameters import fixed_gains
from nengo_dl.training.turns import in_turn

#: what the names of arrays end with that tell which entries of a state are not simulated
IDLE = " idle"


class SavingMethods:
    """The part of `Simulator` that moves parameters in and out."""

    @in_turn
    def save_params(
        self, path: str | os.PathLike[str], include_state: bool = False, **older: bool
    ) -> None:
        """Write all parameters to a file.

        Parameters
        ----------
        path : str or path-like or binary file
            ``.npz`` is added if it is missing. A file of this name keeps its mode, owner
            and links. Or a file that is open for writing, such as an ``io.BytesIO``.
        include_state : bool
            Also write the state of the simulation: voltages, filters, random numbers,
            what processes keep, time. `load_params` then goes on where this was.
        **older
            Its names in earlier versions, with a ``DeprecationWarning``.

        Raises
        ------
        OSError
            If the file cannot be written; one that was there stays as it was.
        ~nengo.exceptions.ValidationError
            If a parameter has values that are NaN or infinite, or, with
            ``include_state``, if something keeps state that no file can hold. Nothing is
            written then.
        ~nengo.exceptions.SimulatorClosed
        """
        include_state = older_saving("save_params", include_state, older)
        self._require_open("save parameters")
        live = [(p, self._live_value(p)) for p in self._entries]
        check_parameters(live, "Simulator.save_params")
        values = {p.name: value for p, value in live}
        values.update((name, self.data[ens].gain) for name, ens in self._gains().items())
        if include_state:
            self._beginning.check()
            values.update(self._state_by_name())
            values.update(self._idle_by_name())
            about = (self._process_seed, self.n_steps)
            values.update(host_state.to_arrays(self._program, *about))
        params_io.save(path, values)

    @in_turn
    def load_params(
        self, path: str | os.PathLike[str], include_state: bool = False, **older: bool
    ) -> None:
        """Read parameters that `save_params` wrote, for a network of the same form.

        The network may differ in what has no parameters: in the types of its neurons
        (trained as rates, run with spikes), in its synapses, in ``minibatch_size`` and
        in ``dtype``.

        Parameters
        ----------
        path : str or path-like or binary file
            Or a file that is open for reading, such as an ``io.BytesIO``.
        include_state : bool
            Also read the state of the simulation. It depends on ``minibatch_size`` and
            on the types of neurons and synapses. False: if there is state in the file,
            it is passed over.
        **older
            Its names in earlier versions, with a ``DeprecationWarning``.

        Raises
        ------
        ~nengo.exceptions.ValidationError
            If the file does not fit, is damaged, or holds what parameters cannot be
            (NaN, infinite or complex numbers, numbers too large for ``dtype``). Nothing
            is changed then.
        ~nengo.exceptions.SimulatorClosed
        """
        include_state = older_saving("load_params", include_state, older)
        self._require_open("load parameters")
        expected = {p.name: np.shape(self._live_value(p)) for p in self._entries}
        state = self._state_by_name() if include_state else {}
        expected.update({name: value.shape for name, value in state.items()})
        optional = {name: (ens.n_neurons,) for name, ens in self._gains().items()}
        for name, value in state.items():
            optional[f"{name}{IDLE}"] = value.shape[:1]
        numbered = numbered_names(self.network)
        values = params_io.load(path, expected, self.dtype, optional, numbered)
        if include_state:
            self._require_simulated(values)
            steps = int(values[params_io.STEPS][0])
            seed = host_state.restore(self._program, values, path, steps)
            if seed is not None:
                self._process_seed = seed
                self._beginning = host_state.Beginning(self._program)
        signals = self._whole_signals(values)
        learned = self._live.parameters.learned
        fixed = self._live.parameters.keys() - learned
        self._live.write({s: value for s, value in signals.items() if s in fixed})
        self._live.write_learned({s: signals[s] for s in learned})
        if include_state:
            self._load_state(values)
            self._program.observation.forget(self.n_steps)
        self._load_gains(values)
        self._program.state_written()
        self.data.reset()

    @in_turn
    def freeze_params(self, objs: Any) -> None:
        """Write the present parameters into Nengo objects.

        The network then gives the same output in core ``nengo.Simulator``.

        Parameters
        ----------
        objs : Network, Ensemble, Connection or Probe, or a list of them
            Of a network, everything inside.

        Raises
        ------
        ~nengo.exceptions.ValidationError
            If a parameter has values that are NaN or infinite; nothing is changed.
        """
        value = self._finite_value("Simulator.freeze_params")
        params_io.freeze(self.model, objs, value, self._live.loaded)

    @in_turn
    def get_nengo_params(self, objs: Any, as_dict: bool = False) -> Any:
        """The present parameters as keyword arguments for new Nengo objects.

        Parameters
        ----------
        objs : Ensemble, its neurons, or Connection, or a list of them
        as_dict : bool
            Give a dict by the objects' labels instead of a list.

        Returns
        -------
        dict or list of dict

        Raises
        ------
        ~nengo.exceptions.ValidationError
            If a parameter has values that are NaN or infinite.
        """
        value = self._finite_value("Simulator.get_nengo_params")
        loaded = self._live.loaded
        return params_io.get_nengo_params(self.model, objs, value, as_dict, loaded)

    def _finite_value(self, where):
        return checked(self._live.value, self._entries, where)

    @property
    def _entries(self):
        return self._live.parameters.entries

    def _gains(self):
        """Names of gains in files: of each ensemble that has encoders."""
        return {
            f"{p.name.removesuffix(p.attr)}gain": p.obj
            for p in self._entries
            if isinstance(p.obj, Ensemble)
        }

    def _load_gains(self, values):
        """Take over what a file says of gains; warn where they cannot be changed."""
        loaded = self._live.loaded
        loaded.clear()
        fixed, others = fixed_gains(self.model), []
        for name, ens in self._gains().items():
            if name not in values:
                continue
            loaded[ens] = (values[name], values[f"{name.removesuffix('gain')}encoders"])
            built = self.model.params[ens].gain
            if ens in fixed and not np.allclose(values[name], built, rtol=1e-5, atol=0):
                others.append(name)
        if others:
            more = f" and {len(others) - 5} more" if len(others) > 5 else ""
            warn(
                f"Simulator.load_params: {', '.join(others[:5])}{more} of the file "
                "differ from those that this network was built with. Connections to "
                "these neurons, and rules that learn their encoders, use the latter, so "
                "the output differs from that of the simulator that was saved. Build the "
                "network with the seed of the one that was saved, or give its ensembles "
                "a gain and a bias"
            )

    def _live_value(self, parameter):
        return np.asarray(self._live.value(parameter.signal))

    def _whole_signals(self, values):
        """Values of base signals, put together from those of parameters by name."""
        found = {}
        for p in self._entries:
            base = p.signal.base
            if not p.signal.is_view:
                found[base] = values[p.name]
                continue
            if base not in found:
                found[base] = np.array(self._live.value(base))
            found[base].flat[signal_index(p.signal)] = values[p.name]
        return found

    def _state_by_name(self):
        """The state of the simulation, named by position, as arrays ``(size, batch)``."""
        states = self._program.all_states()
        named = {f"{params_io.STATE}{name}": value for name, (_, value) in states.items()}
        named[params_io.STEPS] = np.array([self.n_steps])
        return named

    def _idle_by_name(self):
        """Which entries of it are not simulated, where there are any."""
        idle = self._program.idle_states()
        return {f"{params_io.STATE}{name}{IDLE}": mask for name, mask in idle.items()}

    def _require_simulated(self, values):
        """Raise an error if this network needs state that was not simulated."""
        here, states = self._idle_by_name(), self._program.all_states()
        missing = []
        for name, (key, _) in states.items():
            name = f"{params_io.STATE}{name}{IDLE}"
            unknown = np.asarray(values.get(name, False), bool)
            if np.any(unknown & ~here.get(name, np.array(False))):
                missing.append(getattr(key, "name", name))
        if missing:
            shown = ", ".join(re.sub(r" at 0x[0-9a-f]+", "", m) for m in missing[:5])
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            raise ValidationError(
                f"the file lacks the state of {shown}{more}, which this network needs: "
                "where it was saved, nothing that was probed or learned depended on it, "
                "so it was not simulated. Nothing was loaded. Probe there what is probed "
                "here, or load without include_state",
                attr="load",
            )

    def _load_state(self, values):
        for name, (key, old) in self._program.all_states().items():
            new = values[f"{params_io.STATE}{name}"].astype(old.dtype)
            self._program.store.values[key] = new
        self._live.n_steps = int(values[params_io.STEPS][0])
