"""From a layout to array code: one stage of a step, in any array namespace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from nengo_dl.compiler.traits import Params

#: below this batch size a current that several expressions read is computed only once
SMALL_BATCH = 8


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
        self, layout: Layout, xp, batch: int | None, weights: Sequence[Any], like=None
    ):
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
            if group.kernel.host or group.kernel.tensorflow:
                x = self._full(x)
            few = self.batch is not None and self.batch < SMALL_BATCH
            if k in group.kernel.materialize and few:
                x = self.xp.materialize(x)
            inputs.append(x)
        outputs = group.kernel.step(self.xp, params, *inputs)
        for number, output in zip(group.outputs, outputs):
            tensors[number] = output

    def _value(self, value):
        return self.weights[value.number] if isinstance(value, WeightRef) else value

    def read(self, read: Read, tensors) -> Any:
        """Rows of one or several tensors as one array ``(n, batch)``."""
        xp = self.xp
        parts = [self._part(t, a, b, tensors) for t, a, b in read.parts]
        if len(parts) == 1:
            x = parts[0]
        else:
            x = xp.concat([self._full(part) for part in parts])
        if read.index is not None:
            x = xp.take(x, read.index.astype(np.int32))
        return x

    def rows(self, read: Read, tensors) -> Any:
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

    def _part(self, tensor: int, start: int, stop: int, tensors):
        if tensor == ZERO:
            return self._zeros()
        x = tensors[tensor]
        if start == 0 and stop == self.layout.sizes[tensor]:
            return x
        return x[start:stop]


def loop_step(layout: Layout, batch: int):
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
        next_state = [emitter.rows(read, tensors) for read in stage.next_state]
        return next_state, emitter.rows(stage.result, tensors)

    return step


def whole_step(layout: Layout, batch: int):
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
