"""Predicting without Keras: arrays, batch by batch, in what runs forward steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from nengo_dl.compiler.memory import memory_shape, source_key
from nengo_dl.runtime.stepwise import between_steps
from nengo_dl.training.mapped import let_go

if TYPE_CHECKING:
    from nengo.builder import Signal

    from nengo_dl.runtime.choice import Form
    from nengo_dl.runtime.program import Program
    from nengo_dl.training.data import Given, OwnOutputs, TrainingData
    from nengo_dl.training.parameters import LiveState

#: key of what nodes without output do
EFFECTS = None


class ForwardSide:
    """What data are checked against where no Keras model is needed, see `TrainingData`.

    Parameters
    ----------
    program : Program
    nodes : dict
        Node -> name.
    keep_history : dict
        Probe -> False, if only its last step is given.
    """

    compared: Mapping[str, Any] = MappingProxyType({})
    fixed_steps = None

    def __init__(
        self, program: Program, nodes: dict[Any, str], keep_history: dict[Any, bool]
    ) -> None:
        self.program = program
        self.node_names = nodes
        self.keep_history = keep_history

    @property
    def layer(self) -> ForwardSide:
        """What has the names of the nodes: itself."""
        return self


class Prediction:
    """The batches of one call.

    Each starts from the state at the time of the call, or, if the call is stateful, from
    that at the end of the batch before. Places that an incomplete batch leaves empty run
    what the first ones run, and then have the state again that they had.

    Parameters
    ----------
    live : LiveState
    about : TrainingData
    given : Given
        The data, after all checks.
    stateful : bool
    form : Form
        In which form neurons run.
    """

    def __init__(
        self,
        live: LiveState,
        about: TrainingData,
        given: Given,
        stateful: bool,
        form: Form,
    ) -> None:
        self.live, self.about, self.given = live, about, given
        self.program = live.program
        self.stateful, self.form = stateful, form
        self.items, self.steps = given.items or about.batch, given.steps or 1
        self.signals = signals_of(self.program, about.nodes)
        self.own: OwnOutputs | None = None
        if not stateful:
            self.own = about.own_outputs(given, stateful)
        sig, dtype = live.program.model.sig, live.program.dtype
        self.outputs = {}
        for probe in live.program.model.probes:
            shape = memory_shape(sig[probe]["in"])
            count = about.steps_of(probe, self.steps)
            self.outputs[probe] = np.empty((self.items, count, *shape), dtype)

    def run(self, size: int, tell: Callable[[int], Any]) -> dict[Any, np.ndarray]:
        """Run all batches.

        Parameters
        ----------
        size : int
            Items in a batch.
        tell : callable
            Called with the number of items after each batch.

        Returns
        -------
        dict
            Probe -> array ``(items, steps, ...)``.
        """
        live = self.live
        live.pull()
        live.parameters.version += 1  # learned values may change
        before = None if self.stateful else live.snapshot()
        try:
            with between_steps() as ctrl_c:
                for first in range(0, self.items, size):
                    count = min(size, self.items - first)
                    self._batch(first, count, ctrl_c.check)
                    if before is not None:
                        keep = live.parameters.learned
                        self.program.settle()
                        self.program.store.restore(before[1], keep=keep)
                        before[2].between_batches()
                    for array in self.given.inputs.values():
                        let_go(array)
                    tell(count)
        finally:
            if before is not None:
                for executor in self.program.executors:
                    executor.feed.use({}, live.n_steps)  # or what waits would be lost
                live.restore(before)
        return self.outputs

    def _batch(self, first: int, count: int, check: Callable[[], Any]) -> None:
        """Run ``count`` items from number ``first`` on; one that fails leaves nothing."""
        program, live, store = self.program, self.live, self.program.store
        data = self._data(first, count)
        given = [self.signals[node] for node in self.given.inputs]
        executor = program.for_batch(live.n_steps, data, given, self.form)
        executor.save()  # also what was never stored
        values = store.copy()
        hosts = program.hosts_now() if self.stateful else None
        done = 0
        try:
            for seen in executor.run(live.n_steps, self.steps):
                self._take(seen, first, count, done)
                done += seen.steps
                check()
        except BaseException:
            program.settle_at(live.n_steps + done)
            program.settle()
            store.restore(values)
            if hosts is not None:
                hosts.put_back()
            raise
        program.settle()
        if count < program.batch:
            self._leave_alone(values, count)
            if hosts is not None:
                # nodes without data have put out something for each place of a batch
                hosts.between_batches(count, noting=False, sources=False)
        if self.stateful:
            live.n_steps += self.steps

    def _data(self, first: int, count: int) -> dict[Any, np.ndarray]:
        """Arrays ``(batch, steps, size)`` by signal, of the items from ``first`` on."""
        batch, steps = self.about.batch, self.steps
        inputs, dtype = self.given.inputs, self.program.dtype
        arrays = {
            node: array[first : first + count].astype(dtype, copy=False)
            for node, array in inputs.items()
        }
        if self.own is not None:
            arrays.update(self.own.of_batch(count, steps, first))
        if count < batch:
            places = np.arange(batch) % count
            arrays = {node: array[places] for node, array in arrays.items()}
        data = {self.signals[node]: array for node, array in arrays.items()}
        if self.own is not None:
            data[EFFECTS] = np.zeros(())  # which were had with the other outputs
        return data

    def _take(self, seen: Any, first: int, count: int, done: int) -> None:
        """Put what probes saw where it belongs."""
        for rows, probes, _ in seen.parts:
            for probe, start, stop in probes:
                found = rows[:, start:stop, :count]
                output = self.outputs[probe][first : first + count]
                if output.shape[1] == self.steps:
                    output = output[:, done : done + seen.steps]
                else:
                    found = found[-1:]
                shape = output.shape
                output[...] = found.transpose(2, 0, 1).reshape(shape)

    def _leave_alone(self, values: Mapping[Any, np.ndarray], count: int) -> None:
        """The state of the places from ``count`` on is what it was."""
        store = self.program.store
        for key, before in values.items():
            after = store.values.get(key)
            if after is not None and after is not before:
                after = after.copy()
                after[:, count:] = before[:, count:]
                store.values[key] = after


def signals_of(program: Program, nodes: Any) -> dict[Any, Signal]:
    """The signals of the outputs of nodes."""
    sig = program.model.sig
    return {node: source_key(sig[node]["out"]) for node in nodes}
