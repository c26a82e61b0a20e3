"""Running a compiled network step by step, and recording what its probes see."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from nengo_dl.compiler.lowering import source_key
from nengo_dl.config import get_setting
from nengo_dl.runtime.executor import Seen
from nengo_dl.runtime.forms import Form, forward_form
from nengo_dl.runtime.stepwise import between_steps
from nengo_dl.simulator.data import ProbeLog, RecordedSteps, SimulationData
from nengo_dl.simulator.host_state import Beginning
from nengo_dl.simulator.progress import progress
from nengo_dl.training.inputs import resolve_data
from nengo_dl.training.live import LiveState
from nengo_dl.training.turns import Turns

if TYPE_CHECKING:
    from nengo import Network, Node, Probe
    from nengo.builder import Model
    from nengo.utils.progress import ProgressBar


class Run:
    """A simulation that goes on step by step, and the data of its probes.

    Parameters
    ----------
    network : ~nengo.Network or None
    model : ~nengo.builder.Model
        Built from the network.
    live : LiveState
    logs : dict
        The `ProbeLog` of each probe.
    nodes : dict
        Input node -> name.
    turns : Turns
    one_item : bool
        Whether data may be without the axis for items.

    Attributes
    ----------
    recorded : RecordedSteps
        Of which steps there are probe data.
    data : SimulationData
    beginning : Beginning
        What Python functions kept when the processes began.
    """

    beginning: Beginning

    def __init__(
        self,
        network: Network | None,
        model: Model,
        live: LiveState,
        logs: dict[Probe, ProbeLog],
        nodes: dict[Node, str],
        turns: Turns,
        one_item: bool,
    ) -> None:
        self.network = network
        self.model = model
        self.live = live
        self.logs = logs
        self.nodes = nodes
        self.one_item = one_item
        self.stateful = get_setting(network, "stateful")
        self.recorded = RecordedSteps()
        self.data = SimulationData(
            model,
            logs,
            values=live.value,
            version=live.version,
            reading=turns.reading,
            loaded=live.loaded,
        )

    def begin(self, seed: int) -> None:
        """The first state, with processes of a seed: from here on it can run."""
        self.live.process_seed = seed
        self.live.program.reset(seed)
        self.look_at_processes()

    def look_at_processes(self) -> None:
        """Processes have begun: note what Python functions keep at present."""
        self.beginning = Beginning(self.live.program)

    def form(self, spiking: bool | None) -> Form:
        """In which form a call that needs no gradients runs."""
        return forward_form(
            get_setting(self.network, "learning_phase"),
            get_setting(self.network, "spiking_training"),
            spiking,
        )

    # running ----------------------------------------------------------------------

    def run_steps(
        self,
        n_steps: int,
        data: Any,
        bar: bool | ProgressBar | None,
        stateful: bool,
        form: Form | None,
    ) -> None:
        """Advance by a number of steps; see `Simulator.run_steps`.

        Parameters
        ----------
        n_steps : int
        data : array or list or dict or None
        bar : bool or ~nengo.utils.progress.ProgressBar or None
        stateful : bool
        form : Form or None
            None: as the settings say.
        """
        arrays = self._by_signal(data, n_steps)
        live, program = self.live, self.live.program
        live.pull()
        before = None if stateful and self.stateful else live.snapshot()
        try:
            with progress(bar, "Simulating", n_steps) as task, between_steps() as ctrl_c:
                done = 0
                steps = (live.n_steps, n_steps)
                for seen in program.run(*steps, arrays, form, task.compiling):
                    self._record_seen(seen)
                    done += seen.steps
                    task.update(done)
                    ctrl_c.check()
        except BaseException:
            program.settle_at(live.n_steps)
            raise
        finally:
            if before is not None:
                live.restore(before)
                self.data.reset()

    def step(self) -> bool:
        """One step if nothing but a step of NumPy is to be done; whether it was run."""
        if not self.stateful:
            return False
        live, program = self.live, self.live.program
        if live.banks is not None or live.parameters.layers.variables:
            live.pull()
        try:
            rows = program.step(live.n_steps)
            if rows is None:
                return False
            if isinstance(rows, Seen):
                self._record_seen(rows)
            else:
                self._record(rows)
        except BaseException:
            program.settle_at(live.n_steps)
            raise
        return True

    def _by_signal(self, data: Any, n_steps: int) -> Mapping[Any, np.ndarray]:
        """The data of nodes, checked, by the signals that they are given for."""
        if data is None:
            return {}
        program = self.live.program
        arrays, _ = resolve_data(
            data,
            list(self.nodes),
            program.batch,
            n_steps,
            where="Simulator.run_steps",
            names=self.nodes,
            dtype=program.dtype,
            one_item=self.one_item,
        )
        return {source_key(self.model.sig[node]["out"]): a for node, a in arrays.items()}

    def _record_seen(self, seen: Seen) -> None:
        """Store what probes saw and move time on."""
        first = self.live.n_steps + 1
        marks = [log.mark() for log in self.logs.values()]
        try:
            for rows, probes, sampled in seen.parts:
                for probe, start, stop in probes:
                    log, values = self.logs[probe], rows[:, start:stop]
                    if sampled:
                        log.add(values)
                    else:
                        log.append(values, first)
            self.recorded.add(first, seen.steps)
            self.live.n_steps += seen.steps
        except BaseException:  # an interrupt: all of it, or nothing
            if self.live.n_steps < first:
                for log, mark in zip(self.logs.values(), marks, strict=True):
                    log.undo(mark)
                self.recorded.undo(first)
            raise

    def _record(self, rows: np.ndarray) -> None:
        """Store probe data of one step ``(1, rows, batch)`` and move time on."""
        live = self.live
        first = live.n_steps + 1
        try:
            for probe, start, stop in live.program.probe_rows:
                self.logs[probe].append(rows[:, start:stop], first)
            self.recorded.add(first, len(rows))
            live.n_steps += len(rows)
        except BaseException:  # an interrupt: all of it, or nothing
            if live.n_steps < first:
                for log in self.logs.values():
                    log.undo_step(rows)
                self.recorded.undo(first)
            raise

    # going back -------------------------------------------------------------------

    def reset(
        self, include_trainable: bool, include_probes: bool, include_processes: bool
    ) -> None:
        """Back to the first step; see `Simulator.reset`."""
        live, program = self.live, self.live.program
        kept = {}
        if include_trainable:
            live.reset_parameters()
        else:
            kept = live.learned()
        if include_processes:
            live.process_seed = live.seed
            live.epochs = 0
        program.reset(live.seed, processes=include_processes)
        if include_processes:
            self.look_at_processes()
        program.store.values.update(kept)
        live.n_steps = 0
        if include_probes:
            self.clear_probes()
        self.data.reset()

    def clear_probes(self) -> None:
        """Forget all probe data; the simulation goes on where it is."""
        for log in self.logs.values():
            log.clear()
        self.recorded.clear()
        self.data.reset()

    def times(self, period: float) -> np.ndarray:
        """The times of the steps that there are probe data of, every so many steps."""
        steps = self.recorded.numbers
        return self.model.dt * steps[steps % period < 1]
