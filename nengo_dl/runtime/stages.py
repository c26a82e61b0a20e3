"""The stages before and after the loop over time, for all steps of a chunk at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nengo_dl.compiler.layout import Layout, Read
from nengo_dl.runtime.emit import Emitter
from nengo_dl.runtime.namespace import ArrayNamespace


class SequenceStages:
    """The stages before and after the loop, for all steps at once.

    They are the same kernels with steps and batch items side by side: arrays
    ``(n, steps * batch)``, step by step. The number of steps may be unknown while a
    TensorFlow program is traced.

    Parameters
    ----------
    layout : Layout
    batch : int
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
        fed = inputs[:, :0]
        if stage.result.size:
            rows = emitter.rows(stage.result, tensors)
            fed = self._one_by_one(xp, rows, inputs.shape[0], self.loop_turned)
        elif self.loop_turned:
            fed = xp.transpose(fed, (0, 2, 1))
        return [fed, *(tensors[number] for number in self._kept)]

    def after(self, xp, tensors, outputs, weights):
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
        return self._one_by_one(xp, rows, sequence.shape[0])

    def _namespace(self, xp: ArrayNamespace) -> ArrayNamespace:
        """The namespace that the kernels of these stages are given."""
        return xp

    def _side_by_side(self, xp, sequence):
        """From ``(steps, n, batch)`` to ``(n, steps * batch)``."""
        n = sequence.shape[1]
        return xp.reshape(xp.transpose(sequence, (1, 0, 2)), (n, -1))

    def _one_by_one(self, xp, rows, n_steps, turn=False):
        """The inverse of `_side_by_side`; with ``turn`` ``(steps, batch, n)``."""
        rows = xp.reshape(rows, (rows.shape[0], n_steps, self.batch))
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

    def columns(self, xp, given, like, weights):
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
