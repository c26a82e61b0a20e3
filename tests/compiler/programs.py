"""Emitted programs of both forms, checked and run step by step."""

import numpy as np

from nengo_dl.compiler.layout import ZERO
from nengo_dl.compiler.pipeline import PASSES, arrange
from nengo_dl.runtime.emit import SequenceStages, loop_step, whole_step
from nengo_dl.runtime.executor import pack
from tests.compiler.helpers import agree, random_inputs, random_parameters
from tests.compiler.reference import XP, interpret


def given_rows(layout, inputs, n_steps, batch):
    """What a program is given from outside: ``(steps, rows, batch)``."""
    rows = [
        np.broadcast_to(inputs[s.key], (n_steps, s.size, batch)) for s in layout.inputs
    ]
    for source, before in zip(layout.inputs, np.cumsum([0] + [r.shape[1] for r in rows])):
        assert source.start == before
    return np.concatenate([np.zeros((n_steps, 0, batch)), *rows], axis=1)


def program_weights(layout, parameters):
    """The program's arguments."""
    return [pack(w, (parameters or {}).__getitem__, float) for w in layout.weights]


def first_carry(layout, batch):
    """The arrays that are carried into the first step."""
    return [np.repeat(c[:, None], batch, axis=1) for c in layout.carry]


def run_fused(layout, inputs, n_steps, parameters=None, batch=None):
    """Run a layout of a single stage step by step; as `interpret`."""
    batch = batch or max((a.shape[2] for a in inputs.values()), default=1)
    step = whole_step(layout, batch)
    given = given_rows(layout, inputs, n_steps, batch)
    weights, carry = program_weights(layout, parameters), first_carry(layout, batch)
    out = []
    for t in range(n_steps):
        x = given[t] if layout.n_inputs else None
        shapes = [c.shape for c in carry]
        carry, y = step(XP, carry, x, weights)
        assert [c.shape for c in carry] == shapes
        out.append(y)
    return np.array(out)


def run_split(layout, inputs, n_steps, parameters=None, batch=None):
    """Run a layout with stages for all steps at once around its loop; as `interpret`."""
    batch = batch or max((a.shape[2] for a in inputs.values()), default=1)
    stages = SequenceStages(layout, batch)
    weights, carry = program_weights(layout, parameters), first_carry(layout, batch)
    tensors = stages.before(XP, given_rows(layout, inputs, n_steps, batch), weights)
    outputs = None
    if layout.has_loop:
        step, rows = loop_step(layout, batch), []
        for t in range(n_steps):
            x = tensors[0][t] if layout.before.result.size else None
            carry, y = step(XP, carry, x, weights)
            rows.append(y)
        outputs = np.array(rows)
    return stages.after(XP, tensors, outputs, weights)


def compiled(graph):
    for transform in PASSES:
        graph = transform(graph)
    return graph


def check(it):
    """Each read finds what was written before; rows and tensors add up."""
    known = set()
    for stage in (it.before, it.loop, it.after):
        if stage is it.loop:
            known = set()
        known |= {n for key, n in stage.sources.items() if key != "parameter weight"}
        for group in stage.groups:
            for read in group.reads:
                _check_read(it, read, known)
            assert not known & set(group.outputs)  # written once
            known |= set(group.outputs)
        for read in (stage.result, *stage.next_state):
            _check_read(it, read, known)
        if stage is it.loop:
            known |= {n for group in it.before.groups for n in group.outputs}
            known |= {n for key, n in it.before.sources.items() if key == "inputs"}
    assert len(it.loop.next_state) == len(it.carry)
    for read, first in zip(it.loop.next_state, it.carry):
        assert read.size == first.size
    assert it.n_probed == sum(p.elements.size for p in it.plan.graph.probes)
    assert it.n_inputs == sum(s.size for s in it.plan.graph.inputs)
    return it


def _check_read(it, read, known):
    length = 0
    for tensor, start, stop in read.parts:
        assert tensor in known or tensor == ZERO
        assert 0 <= start < stop <= (1 if tensor == ZERO else it.sizes[tensor])
        length += stop - start
    if read.index is None:
        assert length == read.size
    else:
        assert read.index.size == read.size
        assert 0 <= read.index.min() <= read.index.max() < length


def layouts(graph, **options):
    fused = check(arrange(graph, fused=True))
    assert not fused.before.groups and not fused.after.groups
    return fused, check(arrange(graph, **options))


def compare(allclose, graph, expected, stepwise=False, **arguments):
    """Both programs of a graph give what is expected; returns both layouts."""
    fused, split = layouts(graph, stepwise_python=stepwise)
    agree(allclose, run_fused(fused, **arguments), expected)
    agree(allclose, run_split(split, **arguments), expected)
    return fused, split


def compare_random(allclose, rng, graph, batch=2):
    """With random inputs and parameters."""
    arguments = {"inputs": random_inputs(graph, rng, 8, batch), "n_steps": 8}
    arguments |= {"parameters": random_parameters(graph, rng), "batch": batch}
    return compare(allclose, graph, interpret(graph, **arguments), **arguments)
