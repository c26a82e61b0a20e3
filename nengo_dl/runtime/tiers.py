"""The two ways in which a compiled graph runs: step by step in NumPy, or jitted.

Both have the same face: `Tier.run` advances the carried arrays by some steps and yields
what is probed, chunk by chunk; `Tier.load` and `Tier.save` exchange the state with the
`nengo_dl.runtime.state.StateStore`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial

import numpy as np

from nengo_dl.compiler.graph import ParameterRef
from nengo_dl.compiler.layout import Layout, Read, Weight
from nengo_dl.runtime import interrupts
from nengo_dl.runtime.emit import Emitter, loop_step, whole_step
from nengo_dl.runtime.host import InputFeed, InputsInterrupted, Waiting
from nengo_dl.runtime.journal import Journal
from nengo_dl.runtime.numpy.step import NumpyStep
from nengo_dl.runtime.state import StateStore
from nengo_dl.runtime.tensorflow.reuse import key_of, programs, without_numbers

#: steps whose probe data are handed over at once by the NumPy tier, and about how many
#: bytes at most (one step may have more)
NUMPY_CHUNK, NUMPY_CHUNK_BYTES = 256, 2**22


def pack(weight: Weight, values: Callable[[object], np.ndarray], dtype) -> np.ndarray:
    """A program argument as one array.

    Parameters
    ----------
    weight : Weight
    values : callable
        Parameter key -> its present value.
    dtype : dtype
    """
    items = []
    for item in weight.items:
        if isinstance(item, ParameterRef):
            value = np.ravel(values(item.key))
            value = value if item.index is None else value[np.ravel(item.index)]
            item = value.reshape(item.shape)
        items.append(item)
    with np.errstate(over="ignore"):  # the user was told when the simulator was made
        if weight.form == "stack":
            return np.stack(items).astype(dtype)
        return np.concatenate([np.ravel(i) for i in items]).reshape(-1, 1).astype(dtype)


class NumpyTier:
    """Generated NumPy code for one step; no tracing, no compiling.

    Parameters
    ----------
    layout : Layout
        Of a single stage (``arrange(graph, fused=True)``).
    feed : InputFeed
        For the same layout.
    store : StateStore
    weights : sequence of ndarray
    """

    #: whether the state may lie in arrays of Python functions
    sharing = True

    def __init__(
        self,
        layout: Layout,
        feed: InputFeed,
        store: StateStore,
        weights: Sequence[np.ndarray],
    ):
        self.layout = layout
        self.feed = feed
        self.store = store
        self.weights = list(weights)
        n_given = layout.n_given
        self.program = NumpyStep(
            whole_step(layout, store.batch),
            store.load(layout.states, layout.carry),
            n_given if n_given else None,
            store.batch,
            self.weights,
            store.dtype,
            sharing=self.sharing,
        )
        self.journal = Journal(self.program)

    def load(self) -> None:
        """Take the state from the store."""
        self.program.set_carry(self.store.load(self.layout.states, self.layout.carry))
        self.journal.forget()

    def save(self) -> None:
        """Put the state into the store."""
        self.store.save(self.layout.states, self.program.carry)

    def write(self, weights: Sequence[np.ndarray]) -> None:
        """Use other values of the parameters from now on."""
        for mine, new in zip(self.weights, weights, strict=True):
            mine[...] = new
        self.program.refresh()
        self.journal.forget()

    def run(self, start: int, n_steps: int) -> Iterator[np.ndarray]:
        """Advance by ``n_steps`` after step ``start``; yield ``(steps, rows, batch)``."""
        longest = int(NUMPY_CHUNK_BYTES / max(self.bytes_per_step(), 1))
        longest = min(NUMPY_CHUNK, max(1, longest))
        done = 0
        while done < n_steps:
            k = min(longest, self.journal.most, n_steps - done)
            cause = None
            try:
                rows = self.feed.chunk(start + done, k)
            except InputsInterrupted as interrupted:
                rows, cause = interrupted.partial, interrupted.cause
            yield from self._steps(rows, start + done)
            if cause is not None:
                raise cause
            done += k

    def bytes_per_step(self) -> float:
        """What is given to a step and what probes see in it, about."""
        rows = self.layout.n_given + self.layout.n_probed
        return rows * self.store.batch * self.store.dtype.itemsize

    def feed_one(self, start: int) -> None:
        """Give the program the rows of the one step after step ``start``."""
        if self.program.x is not None:
            self.feed.single(start, self.program.x)
        elif self.feed.has_sources:
            self.feed.chunk(start, 1)

    def step(self, start: int) -> np.ndarray:
        """One step after step ``start``, without data: ``(1, rows, batch)``."""
        program, journal = self.program, self.journal
        journal.begin(start, 1)
        self.feed_one(start)
        row = None if program.x is None else program.x.copy()
        with np.errstate(all="ignore"):
            journal.run(row)
        return program.y[None].copy()

    def _steps(self, rows: np.ndarray, start: int) -> Iterator[np.ndarray]:
        """Run one step for each entry of ``rows``, after step ``start``."""
        program, run, waiting = self.program, self.journal.run, interrupts.waiting
        self.journal.begin(start, len(rows))
        out = np.empty((len(rows), *program.y.shape), self.store.dtype)
        done = 0
        try:
            with np.errstate(all="ignore"):
                for row in rows:
                    if waiting.came is not None:
                        waiting.check()
                    if program.x is not None:
                        program.x[...] = row
                    run(row)
                    out[done] = program.y
                    done += 1
        except BaseException:  # interrupts too: what was computed is not lost
            self.journal.back(start + done)
            self.feed.put_back(start + done, rows[done:])
            if done:
                yield out[:done]
            raise
        yield out

    def settle(self, step: int) -> None:
        """Back to the end of step ``step``, if others were run since, or half of one.

        What was given to the steps after it, and what their functions returned, waits
        until they are run again.
        """
        later = self.journal.back(step)
        if self.program.x is not None and len(later):
            self.feed.put_back(step, np.stack(later))


class TensorFlowTier:
    """The jitted loop, with stages for all steps at once before and after it.

    Parameters
    ----------
    layout : Layout
        ``arrange(graph)``.
    feed : InputFeed
        For the same layout.
    store : StateStore
    weights : sequence of array
    jit : bool
    unroll : int
        Steps in one round of the loop.
    device : str, optional
        TensorFlow device.
    use_loop : bool
        False: ``unroll`` steps without a loop, again and again.
    """

    #: whether the stages before and after the loop are part of the jitted program
    stages_on_device = True
    #: steps that a chunk has at most, if that is to be few
    longest = None

    def __init__(
        self,
        layout: Layout,
        feed: InputFeed,
        store: StateStore,
        weights: Sequence,
        jit: bool = True,
        unroll: int = 1,
        device: str | None = None,
        use_loop: bool = True,
    ):
        self.layout = layout
        self.feed = feed
        self.store = store
        self.device = device
        self.unrolled = None if use_loop else unroll
        inside = self.stages_on_device
        self.kept = None
        if any(group.kernel.tensorflow for group in layout.loop.groups):
            from nengo_dl.runtime.tensorflow.carried_variables import Kept

            self.kept = Kept(layout, store.dtype)
        options = {"jit": jit, "unroll": unroll, "unrolled": not use_loop}
        key = key_of(layout) if inside else None
        if key is not None:
            key = (key, store.batch, store.dtype, device, *options.values())
        turned = self._orientation(key, options, weights)
        self.stages = SequenceStages(layout, store.batch, inside, turned)
        self.turned = self.stages.loop_turned
        self.loop = self._program(key, options, self.turned)
        self.write(weights)
        self.carry = None
        #: a step whose outputs are being handed over, and what is carried after it
        self._following: tuple = (None, None)
        self._chunks: set[int] = set()

    def _orientation(self, key, options: dict, weights: Sequence) -> bool | None:
        """Whether the loop's arrays lie batch first; None leaves it to the rule."""
        from nengo_dl.runtime.tensorflow.orientation import (
            STEPS,
            batch_first_is_faster,
            on_accelerator,
        )

        layout, batch, dtype = self.layout, self.store.batch, self.store.dtype
        loops = layout.has_loop and self.unrolled is None and options["jit"]
        if key is None or batch == 1 or not loops or not on_accelerator(self.device):
            return None

        def run_for(turned: bool):
            loop = self._program(key, options, turned)
            inputs = np.zeros((STEPS, layout.n_given, batch), dtype)
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
        """As `_program`; ``shared``, if other networks may use it too."""
        from nengo_dl.runtime.tensorflow.batch_first import turn_step
        from nengo_dl.runtime.tensorflow.loop import ForwardLoop

        layout, batch, inside = self.layout, self.store.batch, self.stages_on_device
        layout = without_numbers(layout) if shared else layout
        stages = SequenceStages(layout, batch, inside, turned)
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
        """Take the state from the store."""
        carry = self.store.load(self.layout.states, self.layout.carry)
        if self.turned:
            carry = [c.T for c in carry]
        with self.scope():
            self.carry = self.loop.tensors(carry)
        self._following = (None, None)

    def save(self) -> None:
        """Put the state into the store."""
        carry = [np.asarray(c).T if self.turned else np.asarray(c) for c in self.carry]
        self.store.save(self.layout.states, carry)

    def write(self, weights: Sequence) -> None:
        """Use other values of the parameters from now on."""
        self.arrays = list(weights)
        with self.scope():
            self.weights = self.loop.tensors(weights)

    def scope(self):
        """Where TensorFlow puts what is made inside."""
        import tensorflow as tf

        return nullcontext() if self.device is None else tf.device(self.device)

    def chunk(self, n_steps: int) -> int:
        """Steps of a chunk for a run of this length: a power of two, if there is a loop.

        One that was compiled before is taken if it is not much too long.
        """
        from nengo_dl.runtime.tensorflow.chunks import chunk_length

        if self.longest is not None:
            return self.longest
        if self.unrolled and self.layout.has_loop:
            return self.unrolled
        chunk = chunk_length(
            n_steps,
            self.layout.n_given,
            self.layout.n_probed + self.layout.loop.result.size,
            self.store.batch,
            self.store.dtype.itemsize,
        )
        near = [c for c in self._chunks if chunk <= c <= 4 * chunk]
        return min(near, default=chunk)

    def has_compiled(self, n_steps: int) -> bool:
        """Whether so many steps can be run without compiling anything."""
        return self.chunk(n_steps) in self._chunks

    def run(self, start: int, n_steps: int) -> Iterator[np.ndarray]:
        """Advance by ``n_steps`` after step ``start``; yield ``(steps, rows, batch)``."""
        from nengo_dl.runtime.tensorflow.chunks import run_chunks

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
                n_in=self.layout.n_given,
                inputs=waiting.chunk,
                device=self.device,
            ):
                done += len(outputs)
                self._following = start + done, carry
                yield outputs
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


class SequenceStages:
    """The stages before and after the loop, for all steps at once.

    They are the same kernels with steps and batch items side by side: arrays
    ``(n, steps * batch)``, step by step. The number of steps may be unknown while a
    TensorFlow program is traced.

    Parameters
    ----------
    layout : Layout
    batch : int
    tensors : bool
        Whether the array namespace is that of TensorFlow.
    turned : bool, optional
        Whether arrays in the loop lie in memory with the batch first, by default as its
        kernels want it.
    """

    def __init__(
        self,
        layout: Layout,
        batch: int,
        tensors: bool = False,
        turned: bool | None = None,
    ):
        self.layout = layout
        self.batch = batch
        given = layout.before.sources.get("given")
        reported = layout.after.sources.get("given")
        before, after = layout.before, layout.after
        untouched = not before.groups and _is_whole(before.result, given, layout)
        self.needs_after = not (layout.has_loop and not after.groups) or not _is_whole(
            after.result, reported, layout
        )
        self.needs_before = self.needs_after or not untouched
        self.turned = tensors and (before.batch_first or after.batch_first)
        #: whether the loop is given ``(steps, batch, n)``, see `.batch_first`
        self.loop_turned = tensors and (
            layout.loop.batch_first if turned is None else turned
        )
        self.needs_before |= self.loop_turned
        # tensors of the stage before the loop, which the one after it may read
        self._kept = [n for g in before.groups for n in g.outputs]
        if given is not None:
            self._kept.append(given)

    def before(self, xp, inputs, weights) -> list:
        """Rows given to the loop ``(steps, n, batch)``, then all tensors of the stage.

        The former are ``(steps, batch, n)`` if the loop is turned.
        """
        stage = self.layout.before
        if self.turned:
            xp = self._turned(xp)
        emitter = self._emitter(xp, inputs, weights)
        sources = {}
        if "given" in stage.sources:
            sources[stage.sources["given"]] = self._side_by_side(xp, inputs)
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
        if self.turned:
            xp = self._turned(xp)
        emitter = self._emitter(xp, sequence, weights)
        sources = dict(zip(self._kept, tensors[1:], strict=True))
        if "given" in stage.sources:
            sources[stage.sources["given"]] = self._side_by_side(xp, outputs)
        rows = emitter.rows(stage.result, emitter.stage(stage, sources))
        return self._one_by_one(xp, rows, sequence.shape[0])

    @staticmethod
    def _turned(xp):
        from nengo_dl.runtime.tensorflow.batch_first import BatchFirstNamespace

        return BatchFirstNamespace(xp)

    def _side_by_side(self, xp, sequence):
        """From ``(steps, n, batch)`` to ``(n, steps * batch)``."""
        n = sequence.shape[1]
        if self.turned:
            # the last transpose is none: so the array lies with the columns first
            flat = xp.reshape(xp.transpose(sequence, (0, 2, 1)), (-1, n))
            return xp.transpose(flat, (1, 0))
        return xp.reshape(xp.transpose(sequence, (1, 0, 2)), (n, -1))

    def _one_by_one(self, xp, rows, n_steps, turn=False):
        """The inverse of `_side_by_side`; with ``turn`` ``(steps, batch, n)``."""
        n = rows.shape[0]
        if self.turned:
            from nengo_dl.runtime.tensorflow.batch_first import plain

            flat = xp.reshape(xp.transpose(rows, (1, 0)), (n_steps, self.batch, n))
            return plain(flat) if turn else xp.transpose(flat, (0, 2, 1))
        rows = xp.reshape(rows, (n, n_steps, self.batch))
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
            Of arrays that lie with the columns first, see `.batch_first`.
        given : (n_given, columns) array
            What steps are given, in any order of steps and items.
        like : (1, columns) array
            Anything; tells the number of columns, also if nothing is given.
        """
        layout = self.layout
        emitter = Emitter(layout, xp, None, weights, like)
        number = layout.before.sources.get("given")
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
