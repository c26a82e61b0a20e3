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
from nengo_dl.compiler.flow import Flow
from nengo_dl.compiler.graph import Graph, Kind, Reading
from nengo_dl.compiler.memory import entries, signal_index
from nengo_dl.compiler.simplify import prune
from nengo_dl.runtime.emit import whole_step
from nengo_dl.runtime.numpy_tier import NumpyStep

#: how to have values that are not known
WAY_OUT = (
    "look at sim.signals once before the first step, or after sim.reset(); from then on "
    "all signals are kept"
)


class Observation:
    """What is known of all signals of a program.

    Parameters
    ----------
    program : Program

    Attributes
    ----------
    on : bool
        Whether everything is computed and kept.
    """

    def __init__(self, program: Any) -> None:
        self.program = program
        self.on = False
        self._unknown: dict = {}
        self._stale: frozenset = frozenset()
        self._stale_at = 0
        operators = program.model.operators
        self.written = {s.base for op in operators for s in _written_by(op)}

    def switch_on(self, n_steps: int) -> None:
        """Keep everything from now on.

        Parameters
        ----------
        n_steps : int
            Number of steps that were run without.
        """
        if self.on:
            return
        program = self.program
        program.settle()
        before = program.compiled(program.last_use).graph
        products = self._products(before) if n_steps else {}
        self.on = True
        operators = program.model.operators
        program.observe(frozenset(s.base for op in operators for s in op.all_signals))
        self.forget(n_steps)
        if not n_steps:
            return
        program.store.values.update(products)
        known = {r.key: (r.elements >= 0).ravel() for r in before.states}
        known.update({key: np.ones(len(v), bool) for key, v in products.items()})
        self._unknown = self._depending(known)

    def forget(self, n_steps: int) -> None:
        """The state is another one, after this number of steps."""
        self._unknown = {}
        self._stale, self._stale_at = frozenset(), n_steps
        if self.on and n_steps:
            lasting = self.program.compiled(self.program.last_use).lasting
            self._stale = frozenset(self.written.difference(lasting))

    def _depending(self, known: dict) -> dict:
        """Which entries depend on what was not simulated, by signal."""
        program = self.program
        compiled = program.compiled(program.last_use)
        graph, lasting = compiled.graph, set(compiled.lasting)
        tainted = np.zeros(graph.size, bool)
        for reading in graph.states:
            if reading.key in lasting:
                elements = reading.elements.ravel()
                mask = known.get(reading.key, np.zeros(elements.size, bool))
                tainted[elements[~mask & (elements >= 0)]] = True
        flow, before = Flow(graph), -1
        states = np.flatnonzero(graph.kind == Kind.STATE)
        while np.count_nonzero(tainted) != before:
            before = np.count_nonzero(tainted)
            tainted = flow.forward(tainted)
            tainted[states[tainted[graph.next[states]]]] = True
        found = {r.key: tainted[r.elements.ravel()] for r in graph.states}
        return {key: mask for key, mask in found.items() if mask.any()}

    def _products(self, graph: Graph) -> dict:
        """States that were carried as the factors of which they are a product."""
        factors: dict = {}
        for reading in graph.states:
            if isinstance(reading.key, tuple) and (reading.elements >= 0).all():
                factors.setdefault(reading.key[0], []).append(reading.elements)
        readings = []
        for signal, parts in factors.items():
            for node in graph.nodes:
                inputs = [i.tobytes() for i in node.inputs]
                if node.size == signal.size and all(p.tobytes() in inputs for p in parts):
                    readings.append(Reading(signal, node.elements(), (node.size,)))
                    break
        return self._computed(graph, readings) if readings else {}

    def _computed(self, graph: Graph, readings: list[Reading]) -> dict:
        """Elements that follow from the state alone, ``(size, batch)``."""
        program = self.program
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
            layout.n_given or None,
            program.batch,
            program.weights(layout),
            program.dtype,
        )
        step()
        rows = {key: (first, int(np.prod(shape))) for key, first, shape in layout.probes}
        return {key: step.y[a : a + size].copy() for key, (a, size) in rows.items()}

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
                return self._of_state(compiled, reading)[index]
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
        return value.reshape(-1, program.batch)

    def _of_python(self, base: Any, index: np.ndarray) -> np.ndarray | None:
        """What a process keeps by itself; None if nothing changes it."""
        if base not in self.written:
            return None
        for op, host in self.program.hosts.items():
            for name, signal in getattr(op, "state", {}).items():
                if signal is base and getattr(host, "states", None):
                    items = [np.ravel(state[name])[index] for state in host.states]
                    return np.stack(items, axis=1)
        raise SimulationError(
            f"there is no value of {base}: what writes it in core Nengo has a native "
            "form here, which keeps its state in another way; its output is there"
        )


def _written_by(op):
    return (*op.sets, *op.incs, *op.updates)


def first_value(signal: Any) -> np.ndarray:
    """What a signal was built with, flat; of a sparse one, its entries."""
    return np.ravel(entries(signal)[2] if signal.sparse else signal.initial_value)
