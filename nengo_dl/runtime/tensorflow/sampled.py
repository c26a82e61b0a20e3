"""The compiled loop for networks with large probes that are read at their samples only.

Steps without a sample run in a program that leaves these probes out, steps with one in a
program that does not; see `nengo_dl.runtime.executor`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import tensorflow as tf

from nengo_dl.runtime.executor import Look, Sampling, Seen, Task
from nengo_dl.runtime.tensorflow.executor import TensorFlowExecutor

#: all probes of a layout are read in each step
NONE = Sampling({})


class SampledExecutor:
    """The compiled loop, from one sample to the next; the step with it by itself.

    Parameters
    ----------
    task : Task
        With probes that are read at their samples only.
    jit : bool
        See `TensorFlowExecutor`.
    """

    def __init__(self, task: Task, jit: bool = True) -> None:
        self.layout, self.feed, self.sampling = task.layout, task.feed, task.sampling
        sampled = frozenset(self.sampling.periods)
        self.looks = [Look(task.layout, sampled, due) for due in (frozenset(), sampled)]
        self.between, self.single = (
            TensorFlowExecutor(replace(task, layout=look.layout, sampling=NONE), jit)
            for look in self.looks
        )
        self.single.longest = 1
        self._owner = self.between

    def load(self) -> None:
        """Take the state from the store."""
        self._owner = self.between
        self.between.load()

    def save(self) -> None:
        """Put the state into the store."""
        self._owner.save()

    def settle(self, step: int) -> None:
        """See `TensorFlowExecutor`."""
        self._owner.settle(step)

    def write(self, weights: Sequence) -> None:
        """Use other values of the parameters from now on."""
        self.between.write(weights)
        self.single.write(weights)

    def has_compiled(self, n_steps: int) -> bool:
        """Whether samples were taken; stretches between them are of any length."""
        return self.single.has_compiled(1)

    def _hand_over(self, other: TensorFlowExecutor) -> TensorFlowExecutor:
        """Let one of both have the state."""
        if other is not self._owner:
            carry = self._owner.carry
            if other.turned != self._owner.turned:
                carry = [tf.transpose(c) for c in carry]
            other.carry, self._owner = carry, other
        return other

    def run(self, start: int, n_steps: int) -> Iterator[Seen]:
        """Advance by ``n_steps`` after step ``start``; yields what probes saw."""
        done = 0
        for step, due in self.sampling.samples(start, n_steps):
            if step > start + done + 1:
                yield from self._stretch(start + done, step - 1 - start - done)
            yield from self._sample(step - 1, due)
            done = step - start
        if done < n_steps:
            yield from self._stretch(start + done, n_steps - done)

    def _stretch(self, start: int, n_steps: int) -> Iterator[Seen]:
        """Steps without a sample."""
        yield from self._hand_over(self.between).run(start, n_steps)

    def _sample(self, start: int, due: frozenset) -> Iterator[Seen]:
        """The step with a sample of some probes."""
        look = self.looks[1]
        for _, ((rows, _, _),) in self._hand_over(self.single).run(start, 1):
            samples, probes, _ = look.part(rows)
            probes = tuple(probe for probe in probes if probe[0] in due)
            every = (rows[:, : look.n_every], look.every, False)
            yield Seen(len(rows), (every, (samples, probes, True)))
