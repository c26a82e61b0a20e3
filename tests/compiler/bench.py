"""Handmade models: lowered, and run as core Nengo runs them."""

import numpy as np
from nengo.builder import Model
from nengo.builder.operator import SimPyFunc
from nengo.builder.signal import Signal, SignalDict

from nengo_dl.compiler.graph_verify import verify
from nengo_dl.compiler.lowering import LoweringOptions, core_order, lower
from tests.compiler.helpers import agree
from tests.compiler.reference import interpret

N_STEPS = 6


class Bench:
    """A handmade model with a driving signal ``x`` of five entries.

    Compares the lowered graph with the operators' own step functions, as core Nengo
    runs them.
    """

    def __init__(self):
        self.model = Model(dt=0.001)
        self.x = Signal(np.zeros(5), name="x")
        self.driver = SimPyFunc(self.x, self.drive, self.model.time, None)
        self.model.add_op(self.driver)
        self.hosts = {}

    @staticmethod
    def drive(t):
        return np.sin(1000 * t * np.arange(1, 6))

    def add(self, *operators):
        for op in operators:
            self.model.add_op(op)

    def watch(self, *signals):
        for number, signal in enumerate(signals):
            self.model.probes.append(number)
            self.model.sig[number]["in"] = signal

    def inputs(self, batch=1):
        steps = np.tile(np.arange(1.0, N_STEPS + 1)[:, None, None], (1, 1, batch))
        t = steps[:, 0, 0] * self.model.dt
        x = np.array([np.tile(self.drive(ti)[:, None], (1, batch)) for ti in t])
        clock = {self.model.step.base: steps, self.model.time.base: steps * 0.001}
        return {self.x: x, **clock}

    def lower(self, **options):
        lowered = lower(self.model, LoweringOptions(hosts=self.hosts, **options))
        verify(lowered.graph)
        return lowered

    def core(self):
        """Probed values from the operators themselves."""
        signals, order = SignalDict(), core_order(self.model)
        for op in order:
            op.init_signals(signals)
        probed = [self.model.sig[p]["in"] for p in self.model.probes]
        for signal in probed:
            if signal not in signals:
                signals.init(signal)
        steps = [op.make_step(signals, self.model.dt, None) for op in order]
        rows = []
        for _ in range(N_STEPS):
            for step in steps:
                step()
            rows.append(np.concatenate([signals[s].ravel() for s in probed]))
        return np.array(rows)[:, :, None]

    def agree(self, allclose):
        """Lowered and core agree; returns the graph."""
        graph = self.lower().graph
        agree(allclose, interpret(graph, self.inputs(), N_STEPS), self.core())
        return graph
