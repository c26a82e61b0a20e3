"""Simulators as pickles, and copies of them."""

import copy

from nengo_dl.training.turns import in_turn


class PicklingMethods:
    """What lets ``pickle`` and ``copy`` work on a `Simulator`.

    A pickle holds the built model, the present parameters, the state of the simulation
    and of its processes, and the probe data so far. Unpickled, the simulator goes on
    where it was, with the same numbers. Programs are compiled again when they are needed.
    What Keras alone knows is not part of it: `Simulator.compile` has to be called again,
    and optimizers start afresh.

    As in core Nengo, everything in the model must be something that can be pickled: not
    a ``lambda``, for example, as the output of a node. What a Python function or process
    keeps in places of its own is pickled or not as its object is.
    """

    #: what is handed over as it is
    _OPTIONS = (
        "minibatch_size",
        "unroll_simulation",
        "device",
        "progress_bar",
        "optimize",
        "model",
        "network",
        "seed",
        "_older",
    )

    @in_turn
    def __getstate__(self):
        live, program = self._live, self._program
        state = {name: getattr(self, name) for name in self._OPTIONS}
        state.update(closed=self.closed, logs=self._logs, recorded=self._recorded)
        if not self.closed:
            live.pull()
            program.settle()
            values, processes = program.store.copy(), program.snapshot_hosts()
            state.update(state=values, processes=processes, open=program.is_open)
            state.update(process_seed=self._process_seed, asked=program.asked)
            state["waiting"] = program.waiting_inputs(live.n_steps)
            state["random"] = program.random_numbers()
        return {
            **state,
            "n_steps": live.n_steps,
            "epochs": live.epochs,
            "parameters": live.parameters.written(),
            "held": live.parameters.held(),
            "loaded": live.loaded,
        }

    def __setstate__(self, state):
        self.closed = True  # until everything below has worked
        for name in self._OPTIONS:
            setattr(self, name, state[name])
        self._assemble()
        for probe, log in state["logs"].items():
            # the same probes, but `copy.copy` hands over the logs of the other simulator
            self._logs[probe].__setstate__(log.__getstate__())
        if "recorded" in state:
            self._recorded = copy.deepcopy(state["recorded"])
        else:  # a version that did not say: it must be the last ones
            n_steps = state["n_steps"]
            axis = 0 if self.minibatch_size is None else 1
            logs = [log for log in self._logs.values() if log.period == 1]
            count = max((log.data.shape[axis] for log in logs), default=n_steps)
            self._recorded.add(n_steps - min(count, n_steps) + 1, min(count, n_steps))
        live, program = self._live, self._program
        live.parameters.write(state["parameters"])
        live.n_steps = state["n_steps"]
        # older pickles have less: what is taken with `get` came later
        live.epochs = state.get("epochs", 0)
        live.loaded.update(state.get("loaded", {}))
        if state["closed"]:
            live.parameters.hold(state["held"])
            live.program = self._program = None
            return
        if state["open"]:
            program.written()
        self._start(state["process_seed"])
        program.asked = state.get("asked", 0)
        program.store.restore(state["state"])
        program.restore_hosts(state["processes"])
        program.go_on_with_numbers(state.get("random", {}))
        program.wait_with(live.n_steps, state.get("waiting"))
