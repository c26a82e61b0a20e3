"""What outlives a simulator: files, parameters of Nengo objects, pickles and copies."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from nengo import Connection, Ensemble
from nengo.builder import Signal
from nengo.exceptions import ValidationError

from nengo_dl.compiler.memory import signal_index
from nengo_dl.kernels.callbacks import CapturedState, Contents
from nengo_dl.models.plasticity import Bounds, bounds_of
from nengo_dl.notices import warn
from nengo_dl.runtime.program import Program
from nengo_dl.runtime.python_state import (
    host_label,
    python_state,
    restore_python_state,
)
from nengo_dl.simulator import files, objects
from nengo_dl.simulator.data import RecordedSteps
from nengo_dl.simulator.objects import fixed_gains
from nengo_dl.training.advice import check_parameters, checked
from nengo_dl.training.parameters import Parameter

if TYPE_CHECKING:
    from nengo_dl.simulator.run import Run
    from nengo_dl.simulator.simulator import Simulator

#: what the names of arrays end with that tell which entries of a state are not simulated
IDLE = " idle"


class Files:
    """Moves parameters and state from a simulation into files, and back.

    Parameters
    ----------
    run : Run
        The simulation.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.live = run.live
        self.model = run.model

    @property
    def entries(self) -> list[Parameter]:
        """All parameters of the model."""
        return self.live.parameters.entries

    def save(self, path: Any, include_state: bool) -> None:
        """See `Simulator.save_params`."""
        live = [(p, self._value(p)) for p in self.entries]
        check_parameters(live, "Simulator.save_params")
        values = {p.name: value for p, value in live}
        data = self.run.data
        values.update((name, data[ens].gain) for name, ens in self._gains().items())
        if include_state:
            self.run.beginning.check()
            values.update(self._state_by_name())
            values.update(self._idle_by_name())
            about = (self.live.process_seed, self.live.n_steps)
            values.update(python_state(self.live.program, *about))
        files.save(path, values)

    def load(self, path: Any, include_state: bool) -> None:
        """See `Simulator.load_params`."""
        live, program = self.live, self.live.program
        expected = {p.name: np.shape(self._value(p)) for p in self.entries}
        state = self._state_by_name() if include_state else {}
        expected.update({name: value.shape for name, value in state.items()})
        optional = {name: (ens.n_neurons,) for name, ens in self._gains().items()}
        for name, value in state.items():
            optional[f"{name}{IDLE}"] = value.shape[:1]
        numbered = files.numbered_names(self.run.network)
        bounds = self._bounds(include_state)
        strict = {name: limits for name, limits in bounds.items() if limits.alone}
        values = files.load(path, expected, program.dtype, optional, numbered, strict)
        self._keep(bounds, values)
        if include_state:
            self._require_simulated(values)
            steps = int(values[files.STEPS][0])
            seed = restore_python_state(program, values, path, steps)
            if seed is not None:
                live.process_seed = seed
                self.run.look_at_processes()
        signals = self._whole_signals(values)
        learned = live.parameters.learned
        fixed = live.parameters.keys() - learned
        live.write({s: value for s, value in signals.items() if s in fixed})
        live.write_learned({s: signals[s] for s in learned})
        if include_state:
            self._load_state(values)
            if program.observation is not None:
                program.observation.forget(live.n_steps)
        self._load_gains(values)
        program.state_written()
        self.run.data.reset()

    def _bounds(self, include_state: bool) -> dict[str, Bounds]:
        """The bounds of weights that rules keep, by their names in files.

        State that another rule may have led beyond them has none: it is what it was.
        """
        found = {}
        states = self.live.program.all_states() if include_state else {}
        names = {key: f"{files.STATE}{name}" for name, (key, _) in states.items()}
        for p in self.entries:
            is_weights = isinstance(p.obj, Connection) and p.attr == "weights"
            limits = bounds_of(p.obj) if is_weights else None
            if limits is None or (include_state and not limits.alone):
                continue
            found[p.name] = limits
            if p.signal in names:
                found[names[p.signal]] = limits
        return found

    def _keep(self, bounds: dict[str, Bounds], values: dict[str, np.ndarray]) -> None:
        """Take weights back to the bounds of their rules, as the next step would.

        What single precision has rounded beyond them does not need a warning.
        """
        for name, limits in bounds.items():
            if limits.exceeded(values[name]):
                warn(
                    f"Simulator.load_params: {name} of the file has weights beyond the "
                    f"{_told(limits)}. To go on in the middle of a simulation, save and "
                    "load with include_state=True"
                )
            values[name] = np.clip(values[name], limits.low, limits.high)

    def freeze(self, objs: Any) -> None:
        """See `Simulator.freeze_params`."""
        value = self._finite_value("Simulator.freeze_params")
        objects.freeze(self.model, objs, value, self.live.loaded)

    def nengo_params(self, objs: Any, as_dict: bool) -> Any:
        """See `Simulator.get_nengo_params`."""
        value = self._finite_value("Simulator.get_nengo_params")
        return objects.get_nengo_params(
            self.model, objs, value, as_dict, self.live.loaded
        )

    def _finite_value(self, where: str) -> Callable[[Signal], np.ndarray]:
        """What gives the present value of a parameter, from which it can be built."""
        present = checked(self.live.value, self.entries, where)
        names, bounds = {p.signal: p.name for p in self.entries}, self._bounds(False)

        def value(signal: Signal) -> np.ndarray:
            found, name = present(signal), names.get(signal, "")
            if name not in bounds or _as_built(signal, found):
                return found
            return _within(bounds[name], found, name, where)

        return value

    def _gains(self) -> dict[str, Ensemble]:
        """Names of gains in files: of each ensemble that has encoders."""
        return {
            f"{p.name.removesuffix(p.attr)}gain": p.obj
            for p in self.entries
            if isinstance(p.obj, Ensemble)
        }

    def _load_gains(self, values: dict[str, np.ndarray]) -> None:
        """Take over what a file says of gains; warn where they cannot be changed."""
        loaded = self.live.loaded
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

    def _value(self, parameter: Parameter) -> np.ndarray:
        return np.asarray(self.live.value(parameter.signal))

    def _whole_signals(self, values: dict[str, np.ndarray]) -> dict[Signal, np.ndarray]:
        """Values of base signals, put together from those of parameters by name."""
        found: dict[Signal, np.ndarray] = {}
        for p in self.entries:
            base = p.signal.base
            if not p.signal.is_view:
                found[base] = values[p.name]
                continue
            if base not in found:
                found[base] = np.array(self.live.value(base))
            found[base].flat[signal_index(p.signal)] = values[p.name]
        return found

    def _state_by_name(self) -> dict[str, np.ndarray]:
        """The state of the simulation, named by position, as arrays ``(size, batch)``."""
        states = self.live.program.all_states()
        named = {f"{files.STATE}{name}": value for name, (_, value) in states.items()}
        named[files.STEPS] = np.array([self.live.n_steps])
        return named

    def _idle_by_name(self) -> dict[str, np.ndarray]:
        """Signals with entries that are not simulated, and which entries these are."""
        idle = self.live.program.idle_states()
        return {f"{files.STATE}{name}{IDLE}": mask for name, mask in idle.items()}

    def _require_simulated(self, values: dict[str, np.ndarray]) -> None:
        """Raise an error if this network needs state that was not simulated."""
        if not any(name.endswith(IDLE) for name in values):
            return
        # the weights are those of the file from now on: what this network does without
        # for the sake of its present ones does not count
        here = self.live.program.idle_states(whatever_weights=True)
        missing = []
        for name, (key, _) in self.live.program.all_states().items():
            unknown = values.get(f"{files.STATE}{name}{IDLE}", np.array(False))
            if np.any(unknown.astype(bool) & ~here.get(name, np.array(False))):
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

    def _load_state(self, values: dict[str, np.ndarray]) -> None:
        for name, (key, old) in self.live.program.all_states().items():
            new = values[f"{files.STATE}{name}"].astype(old.dtype)
            self.live.program.store.values[key] = new
        self.live.n_steps = int(values[files.STEPS][0])


# pickles and copies -------------------------------------------------------------
#
# A pickle holds the built model, the present parameters, the state of the simulation
# and of its processes, and the probe data so far. Unpickled, the simulator goes on
# where it was, with the same numbers. Programs are compiled again when they are needed.
# What Keras alone knows is not part of it: `Simulator.compile` has to be called again,
# and optimizers start afresh.
#
# As in core Nengo, everything in the model must be something that can be pickled: not a
# ``lambda``, for example, as the output of a node. What a Python function or process
# keeps in places of its own is pickled or not as its object is.

#: what is handed over as it is
OPTIONS = (
    "minibatch_size",
    "unroll_simulation",
    "device",
    "progress_bar",
    "optimize",
    "model",
    "network",
    "_older",
)


def state_of(sim: Simulator) -> dict[str, Any]:
    """What a pickle holds of a simulator."""
    run, live = sim._run, sim._live
    state: dict[str, Any] = {name: getattr(sim, name) for name in OPTIONS}
    state.update(closed=sim.closed, logs=run.logs, recorded=run.recorded)
    if not sim.closed:
        program = live.program
        live.pull()
        program.settle()
        values, processes = program.store.copy(), program.snapshot_hosts()
        state.update(state=values, processes=processes, open=program.is_open)
        state.update(process_seed=live.process_seed, asked=program.chooser.asked)
        state["waiting"] = program.waiting_inputs(live.n_steps)
        state["random"] = program.random_numbers()
    return {
        **state,
        "seed": live.seed,
        "n_steps": live.n_steps,
        "epochs": live.epochs,
        "parameters": live.parameters.written(),
        "held": live.parameters.held(),
        "loaded": live.loaded,
    }


def set_state(sim: Simulator, state: dict[str, Any]) -> None:
    """Make a simulator of what a pickle holds, also of one that older versions wrote."""
    sim.closed = True  # until everything below has worked
    for name in OPTIONS:
        setattr(sim, name, state[name])
    sim._assemble(state["seed"])
    run, live = sim._run, sim._live
    for probe, log in state["logs"].items():
        # the same probes, but `copy.copy` hands over the logs of the other simulator
        run.logs[probe].__setstate__(log.__getstate__())
    n_steps = state["n_steps"]
    if "recorded" in state:
        run.recorded = copy.deepcopy(state["recorded"])
    else:  # a version that did not say: it must be the last ones
        run.recorded = _last_ones(sim, n_steps)
    live.parameters.write(state["parameters"])
    live.n_steps = n_steps
    # older pickles have less: what is taken with `get` came later
    live.epochs = state.get("epochs", 0)
    live.loaded.update(state.get("loaded", {}))
    if state["closed"]:
        live.parameters.hold(state["held"])
        live.let_go()
        return
    program = live.program
    if state["open"]:
        program.written()
    program.compile()
    run.begin(state["process_seed"])
    program.chooser.asked = state.get("asked", 0)
    program.store.restore(state["state"])
    program.restore_hosts(state["processes"])
    program.go_on_with_numbers(state.get("random", {}))
    program.wait_with(n_steps, state.get("waiting"))
    sim.closed = False


def _last_ones(sim: Simulator, n_steps: int) -> RecordedSteps:
    """The last steps, as many as probes have data of."""
    axis = 0 if sim.minibatch_size is None else 1
    logs = [log for log in sim._run.logs.values() if log.period == 1]
    count = min(n_steps, max((log.data.shape[axis] for log in logs), default=n_steps))
    recorded = RecordedSteps()
    recorded.add(n_steps - count + 1, count)
    return recorded


class Beginning:
    """What Python functions kept when they were made, to see later what has changed.

    Step functions may keep something in variables of their own, which no file can hold;
    functions of nodes in anything that they reach.
    """

    def __init__(self, program: Program) -> None:
        self._captured = [(host, host.captured()) for host in program.hosts.values()]
        self._own = [(host, [c.own() for c in states]) for host, states in self._captured]
        #: of all together, so that what several functions reach is looked at once
        self._others = self._reached([c for _, states in self._captured for c in states])

    def _reached(self, captured: list[CapturedState]) -> Contents:
        known = [obj for _, own in self._own for item in own for obj in item.objects]
        given = [obj for item in captured for obj in item.given.values()]
        functions = [f for item in captured for f in item.functions]
        return CapturedState(functions, None, [*known, *given]).others()

    def others_changed(self) -> bool:
        """Whether anything changed that functions reach, and a reset leaves as it is."""
        return bool(self._others.changed())

    def check(self) -> None:
        """Refuse what step functions have changed, and warn of what others have.

        Raises `ValidationError`.
        """
        for host, own in self._own:
            names = dict.fromkeys(name for item in own for name in item.changed())
            if names:
                raise ValidationError(
                    f"the state of {host_label(host)} cannot be saved: its step function "
                    f"keeps {_shown(names)} for itself. {_sentence(host.keep_instead)}, "
                    "save without include_state, or run the steps before once more "
                    "instead of loading",
                    attr="save_params",
                )
        changed = set(self._others.changed())
        for host, captured in self._captured if changed else ():
            reached = self._reached(captured).names
            names = [
                n for n in changed if n in reached or n.rpartition(".")[0] in reached
            ]
            if names:
                warn(
                    f"Simulator.save_params: {host_label(host)} can reach "
                    f"{_shown(names)}, which changed since the simulator was made "
                    f"and is not saved. If its output depends on it, {host.keep_instead}",
                    once=("not saved", host_label(host), *sorted(names)),
                )


def _shown(names: Iterable[str]) -> str:
    names = sorted(name or "something" for name in names)
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(map(repr, names[:5])) + more


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _as_built(signal: Signal, value: np.ndarray) -> bool:
    return np.array_equal(value, signal.initial_value.astype(value.dtype))


def _within(limits: Bounds, weights: np.ndarray, name: str, where: str) -> np.ndarray:
    """Weights on the bounds of their rules, where they are beyond them.

    Those of single precision may be so by a rounding, which needs no warning.
    """
    kept = np.clip(weights.astype(np.float64), limits.low, limits.high)
    if np.array_equal(kept, weights):
        return weights
    if limits.exceeded(weights):
        warn(f"{where}: {name} has weights beyond the {_told(limits)}")
    return kept


def _told(limits: Bounds) -> str:
    return (
        f"bounds w_min={limits.low:g} and w_max={limits.high:g} of their rule "
        f"{limits.kept_by}, where another rule may have led them. They start on the "
        "bounds"
    )
