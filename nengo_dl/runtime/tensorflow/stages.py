"""Stages around the loop whose arrays may lie in memory with the batch first."""

from __future__ import annotations

from nengo_dl.compiler.layout import Layout
from nengo_dl.runtime.stages import SequenceStages
from nengo_dl.runtime.tensorflow.batch_first import BatchFirstNamespace, plain


class TensorStages(SequenceStages):
    """The stages around a loop of TensorFlow.

    Parameters
    ----------
    layout : Layout
        The step.
    batch : int
        Number of batch items.
    turned : bool, optional
        Whether arrays in the loop lie in memory with the batch first, by default as its
        kernels want it.
    """

    def __init__(self, layout: Layout, batch: int, turned: bool | None = None) -> None:
        super().__init__(layout, batch)
        self.turned = layout.before.batch_first or layout.after.batch_first
        self.loop_turned = layout.loop.batch_first if turned is None else turned
        self.needs_before |= self.loop_turned

    def _namespace(self, xp):
        return BatchFirstNamespace(xp) if self.turned else xp

    def _side_by_side(self, xp, sequence):
        if not self.turned:
            return super()._side_by_side(xp, sequence)
        # the last transpose is none: so the array lies with the columns first
        n = sequence.shape[1]
        flat = xp.reshape(xp.transpose(sequence, (0, 2, 1)), (-1, n))
        return xp.transpose(flat, (1, 0))

    def _one_by_one(self, xp, rows, n_steps, turn=False):
        if not self.turned:
            return super()._one_by_one(xp, rows, n_steps, turn)
        shape = (n_steps, self.batch, rows.shape[0])
        flat = xp.reshape(xp.transpose(rows, (1, 0)), shape)
        return plain(flat) if turn else xp.transpose(flat, (0, 2, 1))
