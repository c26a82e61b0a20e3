"""The executor that runs a compiled loop, chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from nengo_dl.compiler.layout import Layout
from nengo_dl.runtime.emit import SequenceStages, loop_step
from nengo_dl.runtime.executor import Look, Seen, Task
from nengo_dl.runtime.host import Waiting
from nengo_dl.runtime.tensorflow.batch_first import (
    TensorStages,
    batch_first_is_faster,
    on_accelerator,
    turn_step,
)
from nengo_dl.runtime.tensorflow.chunks import chunk_length, run_chunks
from nengo_dl.runtime.tensorflow.costs import STEPS
from nengo_dl.runtime.tensorflow.loop import (
    ForwardLoop,
    Kept,
    key_of,
    programs,
    without_numbers,
)


class TensorFlowExecutor:
    """The jitted loop, with stages for all steps at once before and after it.

    Parameters
    ----------
    task : Task
        With all probes read in each step.
    jit : bool
        Whether the loop is compiled by XLA.
    """

    #: whether the stages before and after the loop are part of the jitted program
    stages_on_device = True
    #: steps that a chunk has at most, if that is to be few
    longest: int | None = None

    def __init__(self, task: Task, jit: bool = True) -> None:
        self.layout, self.feed, self.store = task.layout, task.feed, task.store
        self.device = task.device
        self.unrolled = None if task.use_loop else task.unroll
        self.every = Look(task.layout, frozenset(), frozenset()).every
        self.kept = None
        if any(group.kernel.tensorflow for group in self.layout.loop.groups):
            self.kept = Kept(self.layout, self.store.dtype)
        options = {"jit": jit, "unroll": task.unroll, "unrolled": not task.use_loop}
        key = key_of(self.layout) if self.stages_on_device else None
        if key is not None:
            store = self.store
            key = (key, store.batch, store.dtype, self.device, *options.values())
        turned = self._orientation(key, options, task.weights)
        self.stages = self._stages(self.layout, turned)
        self.turned = self.stages.loop_turned
        self.loop = self._program(key, options, self.turned)
        self.write(task.weights)
        self.carry: Any = None
        #: a step whose outputs are being handed over, and what is carried after it
        self._following: tuple = (None, None)
        self._chunks: set[int] = set()

    def _stages(self, layout: Layout, turned: bool | None) -> SequenceStages:
        return TensorStages(layout, self.store.batch, turned)

    def _orientation(self, key, options: dict, weights: Sequence) -> bool | None:
        """Whether the loop's arrays lie batch first; None leaves it to the rule."""
        layout, batch, dtype = self.layout, self.store.batch, self.store.dtype
        loops = layout.has_loop and self.unrolled is None and options["jit"]
        if key is None or batch == 1 or not loops or not on_accelerator(self.device):
            return None

        def run_for(turned: bool):
            loop = self._program(key, options, turned)
            inputs = np.zeros((STEPS, layout.n_inputs, batch), dtype)
            carry = [np.zeros((values.size, batch), dtype) for values in layout.carry]
            carry = [c.T for c in carry] if turned else carry
            with self.scope():
                arguments = [loop.tensors(x) for x in ([inputs], carry, weights)]

            def run():
                with self.scope():
                    outputs, _ = loop(STEPS, arguments[0][0], *arguments[1:])
                    return outputs.numpy()  # waits until they are there

            return run

        return batch_first_is_faster(key, run_for)

    def _program(self, key, options: dict, turned: bool):
        """The loop and its stages, with a ``key`` that of all such networks."""
        if key is None:
            return self._new_program(False, options, turned)
        make = partial(self._new_program, True, options, turned)
        return programs.get((key, turned), make)

    def _new_program(self, shared: bool, options: dict, turned: bool):
        """A new program, which other networks may use as well if it is ``shared``."""
        layout, batch, inside = self.layout, self.store.batch, self.stages_on_device
        layout = without_numbers(layout) if shared else layout
        stages = self._stages(layout, turned)
        step = loop_step(layout, batch) if layout.has_loop else None
        if turned:
            step = turn_step(step)
        if self.kept:
            step = self.kept.wrap(step)
        return ForwardLoop(
            step,
            layout.loop.result.size,
            self.store.dtype,
            turned=turned,
            pre=stages.before if stages.needs_before and inside else None,
            post=stages.after if stages.needs_after and inside else None,
            **options,
        )

    def load(self) -> None:
        """See `~nengo_dl.runtime.executor.Executor.load`."""
        carry = self.store.load(self.layout.states, self.layout.carry)
        if self.turned:
            carry = [c.T for c in carry]
        with self.scope():
            self.carry = self.loop.tensors(carry)
        self._following = (None, None)

    def save(self) -> None:
        """See `~nengo_dl.runtime.executor.Executor.save`."""
        carry = [np.asarray(c).T if self.turned else np.asarray(c) for c in self.carry]
        self.store.save(self.layout.states, carry)

    def write(self, weights: Sequence) -> None:
        """See `~nengo_dl.runtime.executor.Executor.write`."""
        self.arrays = list(weights)
        with self.scope():
            self.weights = self.loop.tensors(weights)

    def scope(self) -> AbstractContextManager:
        """Where TensorFlow puts what is made inside."""
        return nullcontext() if self.device is None else tf.device(self.device)

    def chunk(self, n_steps: int) -> int:
        """Steps of a chunk for a run of this length: a power of two, if there is a loop.

        One that was compiled before is taken if it is not much too long.
        """
        if self.longest is not None:
            return self.longest
        if self.unrolled and self.layout.has_loop:
            return self.unrolled
        chunk = chunk_length(
            n_steps,
            self.layout.n_inputs,
            self.layout.n_probed + self.layout.loop.result.size,
            self.store.batch,
            self.store.dtype.itemsize,
        )
        near = [c for c in self._chunks if chunk <= c <= 4 * chunk]
        return min(near, default=chunk)

    def has_compiled(self, n_steps: int) -> bool:
        """Whether so many steps can be run without compiling anything."""
        return self.chunk(n_steps) in self._chunks

    def run(self, start: int, n_steps: int) -> Iterator[Seen]:
        """See `~nengo_dl.runtime.executor.Executor.run`."""
        chunk = self.chunk(n_steps)
        self._chunks.add(chunk)
        waiting = Waiting(self.feed, start)
        done = 0
        try:
            for outputs, carry in run_chunks(
                self.loop,
                n_steps,
                chunk,
                self.carried(),
                self.weights,
                batch=self.store.batch,
                n_in=self.layout.n_inputs,
                inputs=waiting.chunk,
                device=self.device,
            ):
                done += len(outputs)
                self._following = start + done, carry
                yield Seen(len(outputs), ((outputs, self.every, False),))
                self.take(carry)
                waiting.done(len(outputs))
        finally:
            waiting.put_back()

    def settle(self, step: int) -> None:
        """The state at the end of step ``step``; outputs of later ones were not taken."""
        (following, carry), self._following = self._following, (None, None)
        if following == step:
            self.take(carry)
        self.feed.skip(step)

    def carried(self) -> list:
        """What the loop carries: the state, and variables of Keras layers."""
        return [*self.carry, *(self.kept.values() if self.kept else ())]

    def take(self, carried: list) -> None:
        """The inverse of `carried`."""
        self.carry = carried[: len(self.layout.carry)]
        if self.kept:
            self.kept.assign(carried[len(self.layout.carry) :])
