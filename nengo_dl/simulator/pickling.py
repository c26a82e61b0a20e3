"""Simulators as pickles, and copies of them.

A pickle holds the built model, the present parameters, the state of the simulation and
of its processes, and the probe data so far. Unpickled, the simulator goes on where it
was, with the same numbers. Programs are compiled again when they are needed. What Keras
alone knows is not part of it: `Simulator.compile` has to be called again, and optimizers
start afresh.

As in core Nengo, everything in the model must be something that can be pickled: not a
``lambda``, for example, as the output of a node. What a Python function or process keeps
in places of its own is pickled or not as its object is.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from nengo_dl.simulator.data import RecordedSteps

if TYPE_CHECKING:
    from nengo_dl.simulator.simulator import Simulator

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
