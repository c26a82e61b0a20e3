"""From a layout to array code, in any array namespace: one step, or all of a chunk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from nengo_dl.compiler.layout import (
    ZERO,
    Group,
    Layout,
    Read,
    StageLayout,
    WeightRef,
)
from nengo_dl.compiler.namespace import ArrayNamespace
from nengo_dl.compiler.traits import Params

# one step -----------------------------------------------------------------------------


class Emitter:
    """Writes the stages of a layout with an array namespace.

    Parameters
    ----------
    layout : Layout
    xp : array namespace
    batch : int or None
        Number of columns of the stage that is written; None if it is not known yet.
    weights : sequence of arrays
        The program's arguments, in the order of ``layout.weights``.
    like : array, optional
        Any array of one row and all columns, if their number is not known.
    """

    def __init__(
        self,
        layout: Layout,
        xp: ArrayNamespace,
        batch: int | None,
        weights: Sequence[Any],
        like: Any = None,
    ) -> None:
        self.layout = layout
        self.xp = xp
        self.batch = batch
        self.weights = weights
        self.like = like

    def stage(self, stage: StageLayout, sources: Mapping[int, Any]) -> dict[int, Any]:
        """Compute all tensors of a stage.

        Parameters
        ----------
        stage : StageLayout
        sources : mapping
            Tensor number -> array, for all that the stage is given.

        Returns
        -------
        dict
            Tensor number -> array.
        """
        tensors = dict(sources)
        self._shared(stage, tensors)
        for group in stage.groups:
            self._group(group, tensors)
        return tensors

    def _shared(self, stage: StageLayout, tensors) -> None:
        """Constants and parameters, the same for all batch items."""
        number = stage.sources.get("constant")
        if number is not None and number not in tensors:
            column = self.layout.constants.reshape(-1, 1)
            tensors[number] = self.xp.constant(column)
        number = stage.sources.get("parameter")
        if number is not None and number not in tensors:
            tensors[number] = self.weights[stage.sources["parameter weight"]]

    def _group(self, group: Group, tensors) -> None:
        params = Params(**{k: self._value(v) for k, v in group.params.items()})
        inputs = []
        for k, read in enumerate(group.reads):
            x = self.read(read, tensors)
            # what is called from outside is called for each item, also where all agree
            if group.kernel.called_for_each or k in group.kernel.joins_items:
                x = self._full(x)
            if k in group.kernel.materialize and x.shape[1] == self.batch:
                x = self.xp.materialize(x)
            inputs.append(x)
        outputs = group.kernel.step(self.xp, params, *inputs)
        for number, output in zip(group.outputs, outputs):
            tensors[number] = output

    def _value(self, value):
        return self.weights[value.number] if isinstance(value, WeightRef) else value

    def read(self, read: Read, tensors: Mapping[int, Any]) -> Any:
        """Rows of one or several tensors as one array ``(n, batch)``.

        It is ``(n, 1)`` if all items of the batch have them in common.
        """
        xp = self.xp
        once = all(t == ZERO or tensors[t].shape[1] == 1 for t, _, _ in read.parts)
        parts = [self._part(t, a, b, tensors, once) for t, a, b in read.parts]
        if len(parts) == 1:
            x = parts[0]
        else:
            x = xp.concat(parts if once else [self._full(part) for part in parts])
        if read.index is not None:
            x = xp.take(x, read.index.astype(np.int32))
        return x

    def rows(self, read: Read, tensors: Mapping[int, Any]) -> Any:
        """Read rows with a column for each batch item, even where all are equal."""
        if read.size == 0:
            return self._zeros()[:0]
        return self._full(self.read(read, tensors))

    def _full(self, x):
        """A constant column repeated for each batch item."""
        if x.shape[1] == self.batch or x.shape[1] is None:
            return x
        if self.batch is None:
            return x + self._zeros()
        return self.xp.broadcast(x, (x.shape[0], self.batch))

    def _zeros(self):
        """One row of zeros."""
        if self.batch is None:
            return self.xp.zeros_like(self.like)
        return self.xp.zeros((1, self.batch))

    def _part(self, tensor: int, start: int, stop: int, tensors, once: bool):
        if tensor == ZERO:
            return self.xp.zeros((1, 1)) if once else self._zeros()
        x = tensors[tensor]
        if start == 0 and stop == self.layout.sizes[tensor]:
            return x
        return x[start:stop]


def loop_step(layout: Layout, batch: int) -> Callable:
    """The function of one step of the loop: carried arrays and rows given, to the next.

    Returns
    -------
    callable
        ``step(xp, carry, x, weights) -> (next_carry, y)``; see `nengo_dl.runtime`.
    """
    stage = layout.loop

    def step(xp, carry, x, weights):
        emitter = Emitter(layout, xp, batch, weights)
        sources = {
            number: carry[key[1]]
            for key, number in stage.sources.items()
            if isinstance(key, tuple)
        }
        if "inputs" in stage.sources:
            sources[stage.sources["inputs"]] = x
        tensors = emitter.stage(stage, sources)
        next_state = []
        for read, before in zip(stage.next_state, carry, strict=True):
            # what all items have in common has one column
            rows = emitter.read if before.shape[1] == 1 else emitter.rows
            next_state.append(rows(read, tensors))
        return next_state, emitter.rows(stage.result, tensors)

    return step


def weights_read(stage: StageLayout) -> frozenset[int]:
    """Numbers of the weights that a stage reads."""
    values = (value for group in stage.groups for value in group.params.values())
    read = {value.number for value in values if isinstance(value, WeightRef)}
    if "parameter" in stage.sources:
        read.add(stage.sources["parameter weight"])
    return frozenset(read)


def whole_step(layout: Layout, batch: int) -> Callable:
    """One step with everything in it, for a layout of a single stage.

    Takes rows given from outside, gives the rows that are probed.
    """
    inner = loop_step(layout, batch)
    after = layout.after

    def step(xp, carry, x, weights):
        next_state, y = inner(xp, carry, x, weights)
        emitter = Emitter(layout, xp, batch, weights)
        sources = {after.sources["inputs"]: y} if "inputs" in after.sources else {}
        tensors = emitter.stage(after, sources)
        return next_state, emitter.rows(after.result, tensors)

    return step


# all steps of a chunk -----------------------------------------------------------------


class SequenceStages:
    """The stages before and after the loop, for all steps at once.

    They are the same kernels with steps and batch items side by side: arrays
    ``(n, steps * batch)``, step by step. The number of steps may be unknown while a
    TensorFlow program is traced.
    """

    #: whether the loop is given ``(steps, batch, n)``
    loop_turned = False

    def __init__(self, layout: Layout, batch: int) -> None:
        self.layout = layout
        self.batch = batch
        given = layout.before.sources.get("inputs")
        reported = layout.after.sources.get("inputs")
        before, after = layout.before, layout.after
        untouched = not before.groups and _is_whole(before.result, given, layout)
        self.needs_after = not (layout.has_loop and not after.groups) or not _is_whole(
            after.result, reported, layout
        )
        self.needs_before = self.needs_after or not untouched
        # tensors of the stage before the loop, which the one after it may read
        self._kept = [n for g in before.groups for n in g.outputs]
        if given is not None:
            self._kept.append(given)

    def before(self, xp: ArrayNamespace, inputs: Any, weights: Sequence) -> list:
        """Rows given to the loop ``(steps, n, batch)``, then all tensors of the stage.

        The former are ``(steps, batch, n)`` if the loop is turned.
        """
        stage = self.layout.before
        xp = self._namespace(xp)
        emitter = self._emitter(xp, inputs, weights)
        sources = {}
        if "inputs" in stage.sources:
            sources[stage.sources["inputs"]] = self._side_by_side(xp, inputs)
        tensors = emitter.stage(stage, sources)
        if stage.result.size:
            rows = emitter.rows(stage.result, tensors)
            fed = self._one_by_one(xp, rows, inputs, self.loop_turned)
        else:
            fed = self._nothing(inputs)
            fed = xp.transpose(fed, (0, 2, 1)) if self.loop_turned else fed
        return [fed, *(tensors[number] for number in self._kept)]

    def after(
        self, xp: ArrayNamespace, tensors: Sequence, outputs: Any, weights: Sequence
    ) -> Any:
        """What is probed, ``(steps, n, batch)``."""
        stage = self.layout.after
        sequence = tensors[0] if outputs is None else outputs
        if outputs is None and self.loop_turned:
            sequence = xp.transpose(sequence, (0, 2, 1))
        xp = self._namespace(xp)
        emitter = self._emitter(xp, sequence, weights)
        sources = dict(zip(self._kept, tensors[1:], strict=True))
        if "inputs" in stage.sources:
            sources[stage.sources["inputs"]] = self._side_by_side(xp, outputs)
        rows = emitter.rows(stage.result, emitter.stage(stage, sources))
        return self._one_by_one(xp, rows, sequence)

    def _namespace(self, xp: ArrayNamespace) -> ArrayNamespace:
        """The namespace that the kernels of these stages are given."""
        return xp

    def _nothing(self, sequence):
        """No rows of as many steps as a sequence has."""
        return sequence[:, :0]

    def _side_by_side(self, xp, sequence):
        """From ``(steps, n, batch)`` to ``(n, steps * batch)``."""
        n = sequence.shape[1]
        return xp.reshape(xp.transpose(sequence, (1, 0, 2)), (n, -1))

    def _one_by_one(self, xp, rows, sequence, turn=False):
        """The inverse of `_side_by_side`; with ``turn`` ``(steps, batch, n)``.

        ``sequence``: what has as many steps.
        """
        rows = xp.reshape(rows, (rows.shape[0], sequence.shape[0], self.batch))
        return xp.transpose(rows, (1, 2, 0) if turn else (1, 0, 2))

    @property
    def any_order(self) -> bool:
        """Whether steps and items may stand side by side in any order.

        That is so if no step needs another one: there is no loop, and no Python function,
        which would be called step by step.
        """
        layout = self.layout
        groups = (*layout.before.groups, *layout.after.groups)
        return not layout.has_loop and not any(g.kernel.host for g in groups)

    def columns(
        self, xp: ArrayNamespace, given: Any, like: Any, weights: Sequence
    ) -> Any:
        """What is probed, ``(n, columns)``, where there is no loop (see `any_order`).

        Parameters
        ----------
        xp : array namespace
            Of the arrays that are given; they may lie in memory in any way.
        given : (n_inputs, columns) array
            What steps are given, in any order of steps and items.
        like : (1, columns) array
            Anything; tells the number of columns, also if nothing is given.
        """
        layout = self.layout
        emitter = Emitter(layout, xp, None, weights, like)
        number = layout.before.sources.get("inputs")
        tensors = {} if number is None else {number: given}
        tensors = emitter.stage(layout.before, tensors)
        tensors = {number: tensors[number] for number in self._kept}
        return emitter.rows(layout.after.result, emitter.stage(layout.after, tensors))

    def _emitter(self, xp, sequence, weights) -> Emitter:
        """For as many columns as a sequence ``(steps, n, batch)`` has."""
        n_steps = sequence.shape[0]
        if n_steps is not None:
            return Emitter(self.layout, xp, n_steps * self.batch, weights)
        like = xp.reshape(xp.sum(sequence, 1), (1, -1))  # also where n is 0
        return Emitter(self.layout, xp, None, weights, like)


def _is_whole(read: Read, tensor: int | None, layout: Layout) -> bool:
    """Whether a read is one tensor as it is."""
    if read.size == 0:
        return True
    if tensor is None or read.index is not None:
        return False
    return read.parts == ((tensor, 0, layout.sizes[tensor]),)
