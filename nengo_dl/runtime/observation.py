"""Present values of all signals of a model, for those who look at them.

Otherwise only what probes and learning rules depend on is computed, and what a step sets
is forgotten at its end. Whoever looks at a signal for the first time makes everything
that operators write a state; the network is compiled anew.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from nengo.exceptions import SimulationError

from nengo_dl.compiler import pipeline
from nengo_dl.compiler.graph import Flow, Graph, Kind, Reading
from nengo_dl.compiler.memory import entries, signal_index
from nengo_dl.compiler.simplify import prune
from nengo_dl.runtime.emit import whole_step
from nengo_dl.runtime.numpy.executor import NumpyStep

#: how to have values that are not known
WAY_OUT = (
    "look at sim.signals once before the first step, or after sim.reset(); from then on "
    "all signals are kept"
)


class Observation:
    """What is known of all signals of a program, all of which it keeps from now on.

    Parameters
    ----------
    program : Program
    n_steps : int
        Number of steps that were run without.
    """

    def __init__(self, program: Any, n_steps: int) -> None:
        self.program = program
        operators = program.model.operators
        self.written = {
            s.base for op in operators for s in (*op.sets, *op.incs, *op.updates)
        }
        program.settle()
        before = program.compiled(program.last_use).graph
        program.observe(frozenset(s.base for op in operators for s in op.all_signals))
        self.forget(n_steps)
        if not n_steps:
            return
        known = {r.key: (r.elements >= 0).ravel() for r in before.states}
        self._unknown = self._depending(known)

    def forget(self, n_steps: int) -> None:
        """The state is another one, after this number of steps."""
        self._unknown: dict = {}
        self._stale, self._stale_at = frozenset(), n_steps
        if n_steps:
            lasting = self.program.compiled(self.program.last_use).lasting
            self._stale = frozenset(self.written.difference(lasting))

    def _depending(self, known: dict) -> dict:
        """Which entries depend on what was not simulated, by signal."""
        program = self.program
        compiled = program.compiled(program.last_use)
        graph, lasting = compiled.graph, set(compiled.lasting)
        tainted = np.zeros(graph.size, bool)
        for reading in graph.states:
            factor = isinstance(reading.key, tuple)
            if (reading.key[0] if factor else reading.key) in lasting:
                elements = reading.elements.ravel()
                mask = known.get(reading.key, np.zeros(elements.size, bool))
                tainted[elements[~mask & (elements >= 0)]] = True
        flow, before = Flow(graph), -1
        states = np.flatnonzero(graph.kind == Kind.STATE)
        while np.count_nonzero(tainted) != before:
            before = np.count_nonzero(tainted)
            tainted = flow.forward(tainted)
            tainted[states[tainted[graph.next[states]]]] = True
        found: dict = {}
        for reading in graph.states:
            mask = tainted[reading.elements.ravel()] & (reading.elements.ravel() >= 0)
            if isinstance(reading.key, tuple):  # all of what it is a factor of
                base = reading.key[0]
                found[base] = np.full(
                    base.size, mask.any() or found.get(base, mask).any()
                )
            else:
                found[reading.key] = mask
        return {key: mask for key, mask in found.items() if mask.any()}

    def _product(self, graph: Graph, base: Any) -> np.ndarray | None:
        """A state that is carried as the factors of which it is a product."""
        parts = [
            reading.elements.tobytes()
            for reading in graph.states
            if isinstance(reading.key, tuple) and reading.key[0] is base
        ]
        for node in graph.nodes if parts else ():
            inputs = [elements.tobytes() for elements in node.inputs]
            if node.size == base.size and all(part in inputs for part in parts):
                reading = Reading(base, node.elements(), (node.size,))
                return self._computed(graph, [reading])[base]
        return None

    def _computed(self, graph: Graph, readings: list[Reading]) -> dict:
        """Elements that follow from the state alone, ``(size, batch)``."""
        program = self.program
        program.settle()
        states = graph.kind == Kind.STATE
        graph = replace(
            graph,
            next=np.where(states, np.arange(graph.size), -1),
            probes=tuple(readings),
            states=tuple(replace(r, observed=False) for r in graph.states),
            nodes=tuple(graph.nodes),
        )
        layout = pipeline.arrange(prune(graph), fused=True)
        step = NumpyStep(
            whole_step(layout, program.batch),
            program.store.load(layout.states, layout.carry),
            layout.n_inputs or None,
            program.batch,
            program.weights(layout),
            program.dtype,
        )
        step()
        y: Any = step.y
        rows = {key: (first, int(np.prod(shape))) for key, first, shape in layout.probes}
        return {key: y[a : a + size].copy() for key, (a, size) in rows.items()}

    def value(self, signal: Any, n_steps: int) -> np.ndarray | None:
        """A signal's present value in all items, ``(size, batch)``.

        Parameters
        ----------
        signal : Signal
        n_steps : int
            Number of steps run so far.

        Returns
        -------
        ndarray or None
            None if nothing in the simulation changes it.

        Raises
        ------
        ~nengo.exceptions.SimulationError
            If it is not known.
        """
        base, program = signal.base, self.program
        index = signal_index(signal).ravel()
        if base in self._unknown and self._unknown[base][index].any():
            raise SimulationError(
                f"the value of {signal} is not known: nothing that is probed or learned "
                f"depended on it in the first {self._stale_at} steps, so it was not "
                f"computed; {WAY_OUT}"
            )
        if base in self._stale and n_steps == self._stale_at:
            raise SimulationError(
                f"the value of {signal} after step {n_steps} is not known: it is not "
                f"kept from step to step unless somebody looks; run another step, or "
                f"{WAY_OUT}"
            )
        compiled = program.compiled(program.last_use)
        for reading in compiled.graph.states:
            if reading.key is base:
                if compiled.turned.get(base, True) is None:
                    break
                if (reading.elements >= 0).any() or not base.size:
                    return self._of_state(compiled, reading)[index]
                product = self._product(compiled.graph, base)
                if product is None:
                    break
                return product[index]
        return self._of_python(base, index)

    def _of_state(self, compiled, reading: Reading) -> np.ndarray:
        program, base = self.program, reading.key
        value = program.state(base)
        if value is None:
            first = compiled.graph.value[reading.elements.ravel()]
            value = np.repeat(first[:, None], program.batch, axis=1)
        turn = compiled.turned.get(base)
        if turn is not None:  # the state is kept in other coordinates
            value = turn @ value.reshape(len(turn), -1)
        columns = value.shape[1]  # one, if all items have it in common
        value = value.reshape(-1, columns)
        return np.broadcast_to(value, (len(value), program.batch))

    def _of_python(self, base: Any, index: np.ndarray) -> np.ndarray | None:
        """What a process keeps by itself; None if nothing changes it."""
        if base not in self.written:
            return None
        for op, host in self.program.hosts.items():
            for name, signal in getattr(op, "state", {}).items():
                if signal is base and host.states:
                    items = [np.ravel(state[name])[index] for state in host.states]
                    return np.stack(items, axis=1)
        raise SimulationError(
            f"there is no value of {base}: what writes it in core Nengo has a native "
            "form here, which keeps its state in another way; its output is there"
        )


def first_value(signal: Any) -> np.ndarray:
    """What a signal was built with, flat; of a sparse one, its entries."""
    return np.ravel(entries(signal)[2] if signal.sparse else signal.initial_value)
