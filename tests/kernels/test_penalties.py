"""The operator that adds to the losses of training."""

import numpy as np
from nengo.builder import Model, Signal
from nengo.builder.operator import DotInc, Reset

from nengo_dl.compiler.lowering import LoweringOptions, lower, rule_of
from nengo_dl.kernels.penalties import SimPenalty


def test_values_are_probed_where_losses_are_asked_for():
    model = Model()
    x = Signal(np.zeros(3), name="x")
    model.add_op(Reset(x, value=0.5))
    model.add_op(DotInc(Signal(np.ones((3, 3))), Signal(np.arange(3.0)), x))
    op = SimPenalty(x[1:], len)
    model.add_op(op)
    assert rule_of(op).penalizes(op, True) and not rule_of(model.operators[0]).penalizes(
        model.operators[0], True
    )
    assert lower(model).graph.probes == ()
    (probe,) = lower(model, LoweringOptions(penalties=True)).graph.probes
    assert probe.key is op and probe.shape == (2,)
    assert "len" in str(op)
    op.make_step({}, 0.001, None)()
