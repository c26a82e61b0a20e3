"""A compiled use of a network on the Keras side: its chain of links, and its state."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from nengo_dl.compiler.chain import Link
from nengo_dl.compiler.layout import Layout
from nengo_dl.notices import text_of
from nengo_dl.runtime.emit import SequenceStages, loop_step, weights_read
from nengo_dl.runtime.program import Program, Specialization
from nengo_dl.runtime.tensorflow.batch_first import (
    BatchFirst,
    BatchFirstNamespace,
    Trajectories,
    on_accelerator,
    turn_step,
)
from nengo_dl.runtime.tensorflow.loop import (
    Kept,
    batchwise,
    compilable,
    either,
    key_of,
    programs,
    without_numbers,
)
from nengo_dl.runtime.tensorflow.namespace import TensorFlowNamespace
from nengo_dl.runtime.tensorflow.native_loops import NativeLoop
from nengo_dl.runtime.tensorflow.scan import Scan, Unrolled
from nengo_dl.runtime.tensorflow.spiking_products import times
from nengo_dl.runtime.tensorflow.switches import may_compile
from nengo_dl.runtime.tensorflow.variables import Started, StartingValues
from nengo_dl.training.segments import LEAST_STEPS, SEGMENT_BYTES, Segments


def lies_batch_first(layout: Layout) -> bool:
    """Whether arrays of a link had better lie in memory with the batch first.

    Library code for convolutions wants it, and so does a product with one matrix: then
    nothing is turned around between the stages. Products of many small matrices, merged
    into one, are better off with what they multiply below one another (integrator of 128
    ensembles 41 ms a batch, and 61 with the batch first).

    Parameters
    ----------
    layout : Layout
    """
    if any(s.batch_first for s in (layout.before, layout.loop, layout.after)):
        return True
    alone = merged = 0.0
    for group in layout.groups():
        count = group.params.get("groups", 1)
        for name in group.kernel.matrices:
            weight = layout.weights[group.params[name].number]
            size = count * float(np.prod(weight.items[0].shape))
            alone, merged = alone + size * (count == 1), merged + size * (count > 1)
    return alone > merged


class TrainedLink:
    """One link of a chain, with a gradient and a state of its own.

    Parameters
    ----------
    link : Link
    program : Program
    settings : dict
        ``jit``, ``checkpoint``, ``truncate``.
    learned : set of Signal
        What online learning rules change.
    starting : StartingValues
        Those of it that are trained.

    Attributes
    ----------
    turned : bool
        Whether arrays lie in memory with the batch first: ``(steps, batch, n)``, and not
        ``(steps, n, batch)``.
    state : list of tf.Variable
        What is carried from call to call: ``(n, batch)``, or ``(batch, n)`` if turned, so
        that a call need not turn it around.
    """

    def __init__(
        self,
        link: Link,
        program: Program,
        settings: dict[str, Any],
        learned: frozenset[Any],
        starting: StartingValues,
    ) -> None:
        self.program = program
        self.layout, self.taken = link.layout, link.taken
        layout, batch = self.layout, program.batch
        self.turned = lies_batch_first(layout)
        stages = Trajectories if self.turned else SequenceStages
        self.stages: Any = stages(layout, batch)
        loop = layout.loop.groups
        python = any(group.kernel.host for group in loop)
        # without a loop it is compiled with the training step around it, see `fuses`
        wanted = settings["jit"] is not False and may_compile(settings["jit"])
        jit = wanted and not python and layout.has_loop
        jit = jit and compilable(loop, batch)
        self.xp = TensorFlowNamespace(program.dtype, fast=jit)
        #: what is around the loop is not compiled
        self.around = TensorFlowNamespace(program.dtype, fast=False) if jit else self.xp
        #: variables of Keras layers that the loop carries
        self.kept = Kept(layout, program.dtype)
        self._options: dict[str, Any] = {"jit": jit, "turned": self.turned}
        self._options["truncate"] = settings["truncate"]
        if program.use_loop:
            self._options["checkpoint"] = settings["checkpoint"]
        else:
            self._options["n_steps"] = program.unroll
        self._scans: dict[tuple, Any] = {}
        #: whether some function in the loop looks at several items of a batch together
        self.loop_batchwise = batchwise(loop)
        variable: Any = tf.Variable
        stored = self._stored()
        self.state = [variable(self._lying(x), trainable=False) for x in stored]
        self.started = Started(starting, layout.states, self.turned)
        self._learned_slots = [s for s in layout.states if s.key in learned]
        #: for each carried array, which rows are learned ``(rows, 1)``
        self.learned = [np.zeros((len(array), 1), bool) for array in stored]
        for slot in self._learned_slots:
            for number in slot.carries:
                self.learned[number][slot.row[slot.carry == number]] = True

    def scan(self, trained: tuple[bool, ...], places: int | None = None) -> Any:
        """The loop as one function; networks of the same structure share it.

        Otherwise every simulator would compile its own, and TensorFlow keeps what it
        compiled until the process ends.

        Parameters
        ----------
        trained : tuple of bool
            For each weight of the layout, whether its gradient is asked for.
        places : int, optional
            For batches that are not full, of any number of items and so many places:
            functions of tensors are called with the items that there are. XLA would have
            to compile it for each number of them, so it does not.
        """
        if (trained, places) not in self._scans:
            program, options = self.program, dict(self._options)
            if program.use_loop:
                # zeros for a matrix that only stages beside the loop read would be summed
                # with its gradient
                read = weights_read(self.layout.loop)
                options["places"] = self.pure and not on_accelerator(program.device)
                options["trained"] = tuple(
                    asked and number in read for number, asked in enumerate(trained)
                )
            key = key_of(self.layout)
            if places is not None or key is None:
                xp = self.around if places is not None else self.xp
                options |= {"xp": xp, "jit": options["jit"] and places is None}
                found = self._new_scan(False, options, places)
            else:
                names = np.dtype(program.dtype).name, program.device, *options.items()
                make = partial(self._new_scan, True, options)
                found = programs.get(("trained", key, program.batch, *names), make)
            self._scans[trained, places] = found
        return self._scans[trained, places]

    def _new_scan(self, shared, options, places=None):
        """A new loop, which other networks may use as well if it is ``shared``."""
        layout = without_numbers(self.layout) if shared else self.layout
        step: Any = loop_step(layout, self.program.batch)
        if self._may_be_native(options, places):
            read = sorted(weights_read(layout.loop))
            options = {**options, "native": NativeLoop(step, read, options["trained"])}
        step = turn_step(step, outputs=True) if self.turned else step
        scan = Scan if self.program.use_loop else Unrolled
        step = self.kept.wrap(step, places)
        return scan(step, layout.loop.result.size, self.program.dtype, **options)

    def _may_be_native(self, options: dict[str, Any], places: int | None) -> bool:
        """Whether the loop is such that machine code of ours may train it."""
        plain = self.program.use_loop and self.pure and not self.kept.variables
        return self.turned and plain and options["jit"] and places is None

    # ---- running ------------------------------------------------------------------

    @property
    def takes_items_first(self) -> bool:
        """Whether it may be given what it computes before the loop item by item.

        So data lie; to turn what a product makes of them costs less than to turn them.
        """
        stages, before = self.stages, self.layout.before
        return (
            self.turned
            and bool(before.groups)
            and not stages.needs_after
            and not self.taken.size
            and before.result.size < self.layout.n_inputs
            and not any(g.kernel.host or g.kernel.tensorflow for g in before.groups)
        )

    def columns(self, given: Sequence, like: Any, weights: Sequence) -> Any:
        """What a link without a loop gives, ``(n, columns)``, see `.SequenceStages`.

        Parameters
        ----------
        given : list of tensor
            ``(columns, size)`` for each of the inputs.
        like : (columns, 1) tensor
        weights : list of tensor
        """
        rows = given[0] if len(given) == 1 else tf.concat([like[:, :0], *given], 1)
        xp = BatchFirstNamespace(self.around, times)
        return self.stages.columns(xp, BatchFirst(rows), BatchFirst(like), weights)

    def run(
        self,
        rows: Any,
        weights: Sequence,
        trained: tuple[bool, ...],
        carrying: Any,
        training: bool,
        items: Any = None,
        items_first: bool = False,
        state: list[Any] | None = None,
    ) -> tuple:
        """What the link gives in all steps, and the state afterwards.

        Parameters
        ----------
        rows : (steps, n, batch) tensor
            What it is given; ``(steps, batch, n)`` if it is turned, or, if
            ``items_first``, ``(batch, steps, n)``.
        weights : list of tensor
        trained : tuple of bool
            For each of them, whether its gradient is asked for.
        carrying : tensor of bool
            Whether state that functions of tensors keep is kept.
        training : bool
        items : tensor, optional
            Functions that look at several items together are to see so many, of a batch
            that is not full.
        items_first : bool, optional
            See `takes_items_first`.
        state : list of tensor, optional
            What it begins with, by default what it carries, see `begins_with`.
        """
        stages, xp, batch = self.stages, self.around, self.program.batch
        tensors, by_items = [rows], None
        with xp.of_items(items, batch):
            if items_first:
                by_items, *tensors = stages.before(xp, rows, weights)
                tensors = [tf.transpose(by_items, (1, 0, 2)), *tensors]
            elif stages.needs_before:
                tensors = stages.before(xp, rows, weights)
        ys, following = None, []
        if self.layout.has_loop:
            state = self.begins_with() if state is None else state
            n, state = len(state), state + self.kept.values()
            args = tensors[0], state, weights
            ys, following = self._loop(trained, *args, training, items, by_items)
            self.kept.assign(following[n:], carrying)
            following = following[:n]
        with xp.of_items(items, batch):
            if stages.needs_after:
                ys = stages.after(xp, tensors, ys, weights)
        return ys, following

    def begins_with(self) -> list[Any]:
        """The state as tensors that lie as it does, with what training changed of it."""
        return self.started.add(self.state) if self.layout.has_loop else []

    @property
    def pure(self) -> bool:
        """Whether it computes with arrays alone, so that it may run more than once."""
        groups = list(self.layout.groups())
        outside = any(g.kernel.host or g.kernel.tensorflow for g in groups)
        return not (outside or self.loop_batchwise)

    def _loop(self, trained, x, state, weights, training, items, by_items):
        """The loop, for a full batch or for one of which ``items`` are given.

        ``by_items``: what ``x`` was turned from, if it was.
        """
        scan = self.scan(trained)
        if items is None or not self.loop_batchwise:
            return scan(x, state, weights, training=training, by_items=by_items)
        scan_of_some, n = self.scan(trained, self.program.batch), len(state)

        def full(x, *arrays):
            state, weights = list(arrays[:n]), list(arrays[n:])
            ys, following = scan(x, state, weights, training=training)
            return [ys, *following]

        def incomplete(x, *arrays):
            count = tf.reshape(tf.cast(items, tf.int32), (1,))
            state, weights = [*arrays[:n], count], list(arrays[n:])
            ys, following = scan_of_some(x, state, weights, training=training)
            return [ys, *following[:-1]]

        args = [x, *state, *weights]
        if isinstance(items, int) or not self.xp.fast:
            ys, *following = incomplete(*args)
        else:
            is_full = tf.equal(items, self.program.batch)
            ys, *following = either(is_full, full, incomplete, args)
        return ys, following

    # ---- state --------------------------------------------------------------------

    def _stored(self):
        return self.program.store.load(self.layout.states, self.layout.carry)

    def _lying(self, array):
        """An array ``(n, batch)`` as the state lies, and the other way round."""
        return array.T if self.turned else array

    def arrays(self) -> list[np.ndarray]:
        """What is carried, ``(n, batch)``."""
        found = (self._lying(variable.numpy()) for variable in self.state)
        return [np.ascontiguousarray(array) for array in found]

    def begin(self) -> None:
        """Before calls: take the state of the simulation."""
        for variable, value in zip(self.state, self._stored(), strict=True):
            variable.assign(self._lying(value))
        self.started.begin()

    def rewind(self) -> None:
        """See `Variant.rewind`."""
        self.started.settle(self.state)
        for variable, now, value, learned in zip(
            self.state, self.arrays(), self._stored(), self.learned, strict=True
        ):
            variable.assign(self._lying(np.where(learned, now, value)))

    def not_finite(self) -> list[Any]:
        """See `Variant.not_finite`."""
        found, arrays = [], self.arrays() if self._learned_slots else []
        for slot in self._learned_slots:
            for number in slot.carries:
                rows = slot.row[slot.carry == number]
                if not np.isfinite(arrays[number][rows]).all():
                    found.append(slot.key)
        return found

    def save(self, whole: bool) -> None:
        """The simulation takes the state, or what learning rules changed of it."""
        self.started.settle(self.state)
        slots = self.layout.states if whole else self._learned_slots
        if slots:
            self.program.store.save(slots, self.arrays())

    def keep(self, following: list[Any], carrying: tf.Tensor, given: Any) -> None:
        """See `Variant.keep`; ``given``: which items are kept, None for all.

        Where the state changes only if it is carried, nothing is computed otherwise: a
        training that keeps nothing does not compare and copy it in each batch.
        """
        following = [tf.stop_gradient(array) for array in following]
        if self.started.any or any(learned.any() for learned in self.learned):
            self._keep(following, carrying, given)
        elif self.state:

            def keep() -> tf.Tensor:
                self._keep(following, carrying, given)
                return tf.constant(True)

            tf.cond(carrying, keep, lambda: tf.constant(False))

    def _keep(self, following, carrying, given):
        started = [tf.stop_gradient(array) for array in self.started.add(self.state)]
        axis = 0 if self.turned else 1  # of the items
        for variable, new, before, learned in zip(
            self.state, following, started, self.learned, strict=True
        ):
            rows = self._lying(learned)
            kept = tf.logical_or(carrying, rows) if rows.any() else carrying
            one_for_all = variable.shape[axis] == 1  # then batches are full
            if given is not None and not one_for_all:
                kept = tf.logical_and(kept, tf.transpose(given) if self.turned else given)
            variable.assign(tf.where(kept, new, before))
        self.started.took()


class Variant:
    """One compiled use of the network on the Keras side, with a state of its own.

    Parameters
    ----------
    settings : dict
        ``jit``, ``checkpoint``, ``truncate``.
    learned : set of Signal
        What online learning rules change. Calls keep it even if they keep nothing else.
    starting : StartingValues
        Those of it that are trained.

    Attributes
    ----------
    links : list of TrainedLink
        What runs, one after the other.
    carrying : tf.Variable
        Whether the whole state is carried from call to call.
    first_step : tf.Variable
        Number of steps that were run before the call.
    """

    def __init__(
        self,
        program: Program,
        use: Specialization,
        settings: dict[str, Any],
        learned: frozenset[Any],
        starting: StartingValues,
    ) -> None:
        self.program, self.use = program, use
        self._settings = settings
        self._make_links(learned, starting)
        layouts = [link.layout for link in self.links]
        groups = [group for each in layouts for group in each.groups()]
        #: what runs all links for segments of time, while it is traced
        self.segments: Segments | None = None
        wanted = settings["jit"] is not False and may_compile(settings["jit"])
        self._drawn = list(
            dict.fromkeys(
                source.key
                for each in layouts
                for source in each.inputs
                if source.key in program.hosts
            )
        )
        #: whether Python functions are called, or random numbers drawn
        self.calls_python = bool(self._drawn) or any(g.kernel.host for g in groups)
        #: whether steps are like batch items, as in any feed-forward Keras model
        self.feed_forward = len(layouts) == 1 and self.links[0].stages.any_order
        self.feed_forward &= not self._drawn
        #: whether XLA makes a training step around it faster: it fuses what is between
        #: products, but its convolutions are slower (see `.tensorflow_convolution`)
        self.fuses = self.feed_forward and wanted
        self.fuses &= all(g.kernel.batch_first is None for g in groups)
        #: whether some function looks at several items of a batch together
        self.batchwise = batchwise(groups)
        variable: Any = tf.Variable
        self.carrying = variable(False, trainable=False)
        self.first_step = variable(0, trainable=False, dtype=tf.int64)
        self._began = 0
        self._starting = starting

    def _make_links(self, learned: frozenset[Any], starting: StartingValues) -> None:
        """Cut the network into links, or not.

        States that are kept each so many steps bound what they take. A chain keeps those
        between segments of so many steps, which are run twice; where they are too short,
        or call Python, there is one loop.
        """
        settings, program = self._settings, self.program
        every, segments = settings["checkpoint"], True
        if isinstance(every, int):
            segments = every >= LEAST_STEPS and settings["truncate"] is None
            settings = {**settings, "checkpoint": "auto"}
        for cut in [True, False] if program.use_loop and segments else [False]:
            self.chain = program.chain(self.use, cut)
            options = settings if cut and len(self.chain.links) > 1 else self._settings
            self.links = [
                TrainedLink(link, program, options, learned, starting)
                for link in self.chain.links
            ]
            alone = len(self.links) == 1  # there is nothing else to try
            if alone or not isinstance(every, int) or self.in_segments:
                return

    @property
    def in_segments(self) -> bool:
        """Whether the steps of a batch may be run in several segments, and again."""
        pure = all(link.pure for link in self.links)
        return pure and len(self.links) > 1 and self._settings["truncate"] is None

    def segment_of(self, n_steps: int | None) -> int | None:
        """How many steps a segment of a training batch has; None for all of them.

        Parameters
        ----------
        n_steps : int or None
            Steps of the batch; None if that is not known.
        """
        every = self._settings["checkpoint"]
        if n_steps is None or every is None or not self.in_segments:
            return None
        if every == "auto":
            every = max(LEAST_STEPS, SEGMENT_BYTES // self.bytes_of_steps(1))
        return every if every < n_steps else None

    def bytes_of_steps(self, n_steps: int) -> int:
        """What passes between the links in so many steps, with its gradients."""
        layouts = [link.layout for link in self.links]
        rows = sum(
            x.before.result.size + x.loop.result.size + x.n_probed for x in layouts
        )
        return 2 * rows * n_steps * self.program.batch * self.program.dtype.itemsize

    @property
    def state(self) -> list[Any]:
        """(list of tf.Variable) What is carried from call to call, in all links."""
        return [variable for link in self.links for variable in link.state]

    @property
    def learned(self) -> list[np.ndarray]:
        """(list of ndarray of bool) Which rows of these online rules change."""
        return [rows for link in self.links for rows in link.learned]

    @property
    def python_parts(self) -> list[str]:
        """(list of str) What is called as Python, each time that this runs."""
        groups = [g for link in self.links for g in link.layout.groups()]
        called = [
            label
            for g in groups
            if g.kernel.host
            for label in g.labels or (g.kernel.name,)
        ]
        return list(dict.fromkeys([*map(str, self._drawn), *map(text_of, called)]))

    @contextlib.contextmanager
    def reraise_host_errors(self) -> Iterator[None]:
        """Context of calls: errors of Python functions come out as they were raised."""
        with contextlib.ExitStack() as stack:
            for link in self.links:
                stack.enter_context(link.around.reraise_host_errors())
            yield

    def begin(self, first_step: int, carrying: bool) -> None:
        """Before calls: take the state of the simulation."""
        for link in self.links:
            link.begin()
        self.first_step.assign(first_step)
        self.carrying.assign(carrying)
        self._began = first_step

    def rewind(self) -> None:
        """Go back to the state that the present call began with.

        What online learning rules and training changed since stays.
        """
        for link in self.links:
            link.rewind()
        self.first_step.assign(self._began)

    def not_finite(self) -> list[Any]:
        """During calls: what is learned online, of which a value is NaN or infinite."""
        return [key for link in self.links for key in link.not_finite()]

    def save_learned(self) -> None:
        """During calls: the simulation takes what learning rules changed so far."""
        self._save(whole=False)

    def end(self) -> int:
        """After calls: the simulation takes what they kept; the number of steps run."""
        whole = bool(self.carrying.numpy())
        self.carrying.assign(False)  # for whoever calls the model by itself
        self._save(whole)
        if whole:
            self.program.stored(self.use.spikes)
            self.program.last_use = self.use
        return int(self.first_step.numpy())

    def _save(self, whole: bool) -> None:
        for link in self.links:
            link.save(whole)
        self._starting.seen()

    def keep(self, following: list[list[Any]], items: Any, n_steps: Any) -> None:
        """Carry the state to the next call, as far as calls are to keep it.

        ``following``: the state after the call, of each link. ``items``: number of batch
        items that the call was given; the others stay as they are.
        """
        if tf.distribute.get_strategy().num_replicas_in_sync > 1:
            return  # replicas keep nothing
        batch, given = self.program.batch, None
        if not isinstance(items, int) or items < batch:
            given = tf.range(batch)[None] < items
        carrying = tf.convert_to_tensor(self.carrying)
        for link, arrays in zip(self.links, following, strict=True):
            link.keep(arrays, carrying, given)
        n_steps = tf.cast(n_steps, tf.int64)
        self.first_step.assign_add(tf.where(carrying, n_steps, 0))
