"""A network as a Keras layer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from nengo_dl.compiler.exact_callbacks import COUNT, Digits
from nengo_dl.compiler.lowering import memory_shape, source_key
from nengo_dl.compiler.simplify import used_signals
from nengo_dl.runtime.choice import form_of
from nengo_dl.runtime.emit import loop_step
from nengo_dl.runtime.program import Program, Specialization
from nengo_dl.runtime.tensorflow.batch_first import (
    BatchFirst,
    BatchFirstNamespace,
    TensorStages,
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
from nengo_dl.runtime.tensorflow.python_calls import numpy_function
from nengo_dl.runtime.tensorflow.scan import Scan, Unrolled
from nengo_dl.runtime.tensorflow.switches import apart, may_compile
from nengo_dl.runtime.tensorflow.variables import (
    ParameterBanks,
    Started,
    StartingValues,
    dense,
)
from nengo_dl.tensor_node import TrainsSome, add_losses

if TYPE_CHECKING:
    from nengo_dl.training.parameters import ParameterStore


#: of batches in which items are missing
INCOMPLETE = (
    "the items of a batch learn together (shared_learning), so that batches have to be "
    "full: give a multiple of {batch} items (minibatch_size), or batches of {batch}"
)


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
    state : list of tf.Variable
        What is carried from call to call.
    carrying : tf.Variable
        Whether the whole state is.
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
        self.program = program
        self.use = use
        self.layout = program.layout(use)
        self.stages = TensorStages(self.layout, program.batch)
        python = any(group.kernel.host for group in self.layout.loop.groups)
        loop = self.layout.has_loop
        # without a loop it is compiled with the training step around it, see `fuses`
        wanted = settings["jit"] is not False and may_compile(settings["jit"])
        jit = wanted and not python and loop
        jit = jit and compilable(self.layout.loop.groups, program.batch)
        #: variables of Keras layers that the loop carries
        self.kept = Kept(self.layout, program.dtype)
        drawn = any(source.key in program.hosts for source in self.layout.inputs)
        #: whether Python functions are called, or random numbers drawn
        self.calls_python = drawn or any(g.kernel.host for g in self.layout.groups())
        #: whether steps are like batch items, as in any feed-forward Keras model
        self.feed_forward = self.stages.any_order and not drawn
        #: whether XLA makes a training step around it faster: it fuses what is between
        #: products, but its convolutions are slower (see `.tensorflow_convolution`)
        self.fuses = self.feed_forward and wanted
        self.fuses &= all(g.kernel.batch_first is None for g in self.layout.groups())
        self.xp = TensorFlowNamespace(program.dtype, fast=jit)
        #: whether carried arrays lie in memory with the batch first
        self.turned = self.stages.loop_turned
        self.scan = self._all_steps(settings, jit) if loop else None
        #: whether some function looks at several items of a batch together
        self.batchwise = batchwise(self.layout.groups())
        self.loop_batchwise = batchwise(self.layout.loop.groups)
        self._of_some = None
        variable: Any = tf.Variable
        self.state = [variable(value, trainable=False) for value in self._stored()]
        self.carrying = variable(False, trainable=False)
        self.first_step = variable(0, trainable=False, dtype=tf.int64)
        self._began = 0
        self.started = Started(starting, self.layout.states)
        self._learned_slots = [s for s in self.layout.states if s.key in learned]
        #: for each carried array, which rows are learned ``(rows, 1)``
        self.learned = [np.zeros((v.shape[0], 1), bool) for v in self.state]
        for slot in self._learned_slots:
            for number in slot.carries:
                self.learned[number][slot.row[slot.carry == number]] = True

    @property
    def python_parts(self) -> list[str]:
        """(list of str) What is called as Python, each time that this runs."""
        drawn = [s.key for s in self.layout.inputs if s.key in self.program.hosts]
        groups = [g for g in self.layout.groups() if g.kernel.host]
        called = [label for g in groups for label in g.labels or (g.kernel.name,)]
        return list(dict.fromkeys([*map(str, drawn), *map(str, called)]))

    def _all_steps(self, settings, jit):
        """The loop as one function; networks of the same structure share it.

        Otherwise every simulator would compile its own, and TensorFlow keeps what it
        compiled until the process ends.
        """
        program = self.program
        options = {"jit": jit, "turned": self.turned, "truncate": settings["truncate"]}
        if program.use_loop:
            options["checkpoint"] = settings["checkpoint"]
        else:
            options["n_steps"] = program.unroll
        key = key_of(self.layout)
        self._options = options
        if key is None:
            return self._new_scan(False, {**options, "xp": self.xp})
        names = np.dtype(program.dtype).name, program.device, *options.items()
        make = partial(self._new_scan, True, options)
        return programs.get(("trained", key, program.batch, *names), make)

    @property
    def scan_of_some(self) -> Any:
        """The loop ``scan`` for batches that are not full, of any number of items.

        Functions of tensors are called with the items that there are. XLA would have to
        compile it for each number of them, so it does not.
        """
        if self._of_some is None:
            xp = self.xp
            if xp.fast:
                xp = TensorFlowNamespace(self.program.dtype, fast=False)
            options = {**self._options, "jit": False, "xp": xp}
            self._of_some = self._new_scan(False, options, self.program.batch)
        return self._of_some

    def _new_scan(self, shared, options, places=None):
        """A new loop, which other networks may use as well if it is ``shared``."""
        layout = without_numbers(self.layout) if shared else self.layout
        step: Any = loop_step(layout, self.program.batch)
        step = turn_step(step) if self.turned else step
        scan = Scan if self.program.use_loop else Unrolled
        step = self.kept.wrap(step, places)
        return scan(step, layout.loop.result.size, self.program.dtype, **options)

    def _stored(self):
        return self.program.store.load(self.layout.states, self.layout.carry)

    def begin(self, first_step: int, carrying: bool) -> None:
        """Before calls: take the state of the simulation."""
        for variable, value in zip(self.state, self._stored(), strict=True):
            variable.assign(value)
        self.started.begin()
        self.first_step.assign(first_step)
        self.carrying.assign(carrying)
        self._began = first_step

    def rewind(self) -> None:
        """Go back to the state that the present call began with.

        What online learning rules and training changed since stays.
        """
        self.started.settle(self.state)
        for variable, value, learned in zip(
            self.state, self._stored(), self.learned, strict=True
        ):
            variable.assign(np.where(learned, variable.numpy(), value))
        self.first_step.assign(self._began)

    def not_finite(self) -> list[Any]:
        """During calls: what is learned online, of which a value is NaN or infinite."""
        found = []
        for slot in self._learned_slots:
            for number in slot.carries:
                rows = slot.row[slot.carry == number]
                if not np.isfinite(self.state[number].numpy()[rows]).all():
                    found.append(slot.key)
        return found

    def save_learned(self) -> None:
        """During calls: the simulation takes what learning rules changed so far."""
        if self._learned_slots:
            self.started.settle(self.state)
            self.started.values.seen()
            carry = [variable.numpy() for variable in self.state]
            self.program.store.save(self._learned_slots, carry)

    def end(self) -> int:
        """After calls: the simulation takes what they kept; the number of steps run."""
        whole = bool(self.carrying.numpy())
        self.carrying.assign(False)  # for whoever calls the model by itself
        self.started.settle(self.state)
        self.started.values.seen()
        slots = self.layout.states if whole else self._learned_slots
        if slots:
            carry = [variable.numpy() for variable in self.state]
            self.program.store.save(slots, carry)
        if whole:
            self.program.stored(self.use.spikes)
            self.program.last_use = self.use
        return int(self.first_step.numpy())

    def keep(self, following: list[Any], items: Any, n_steps: Any) -> None:
        """Carry the state to the next call, as far as calls are to keep it.

        ``following``: the state after the call. ``items``: number of batch items that the
        call was given; the others stay as they are.
        """
        batch, given = self.program.batch, None
        if not isinstance(items, int) or items < batch:
            given = tf.range(batch)[None] < items
        carrying = tf.convert_to_tensor(self.carrying)
        started = [tf.stop_gradient(array) for array in self.started.add(self.state)]
        for variable, new, before, learned in zip(
            self.state, following, started, self.learned, strict=True
        ):
            kept = tf.logical_or(carrying, learned) if learned.any() else carrying
            one_for_all = variable.shape[1] == 1  # then batches are full
            if given is not None and not one_for_all:
                kept = tf.logical_and(kept, given)
            variable.assign(tf.where(kept, tf.stop_gradient(new), before))
        self.started.took()
        n_steps = tf.cast(n_steps, tf.int64)
        self.first_step.assign_add(tf.where(carrying, n_steps, 0))


def _digits(x):
    """The digits of a tensor ``(steps, n, batch)``, in its type, see `.to_digits`."""
    digits = tf.bitcast(tf.cast(x, tf.float64), tf.uint16)
    digits = tf.transpose(tf.cast(digits, x.dtype), (0, 1, 3, 2))
    return tf.reshape(digits, (-1, COUNT * x.shape[1], x.shape[2]))


class TensorGraph(TrainsSome, keras.layers.Layer):
    """A network as a Keras layer.

    Takes a dict of arrays ``(items, steps, size)``, one for each input node by name, and
    gives a dict of them, one for each probe; there are at most as many items as the
    simulator's ``minibatch_size``. Its variables are the parameters of the network; its
    trainable ones are those that training may change.

    Parameters
    ----------
    program : Program
    store : ParameterStore
    nodes, probes : dict
        Node or probe -> name.
    keep_history : dict
        Probe -> False, if only its last step is given.
    settings : dict
        ``jit``, ``checkpoint``, ``truncate``, ``learning_phase``; ``spikes``, a
        `SpikeTraining`.
    """

    def __init__(
        self,
        program: Program,
        store: ParameterStore,
        nodes: dict[Any, str],
        probes: dict[Any, str],
        keep_history: dict[Any, bool],
        settings: dict[str, Any],
    ) -> None:
        about: dict[str, Any] = {"name": "TensorGraph", "dtype": program.dtype.name}
        super().__init__(**about)
        self.program = program
        self.node_names = nodes
        self.probe_names = probes
        self.keep_history = keep_history
        self.settings = settings
        #: how neurons run in calls that do not train, see `.form_of`
        self.spiking: bool | None = None
        self._adds = {}
        self._adding = True
        #: called as each batch begins and ends, with whether it trains and its number of
        #: items: what Python functions keep is put back then
        self.around_batches: Callable[[str, bool, int], None] | None = None
        sig = program.model.sig
        self.signals = {n: source_key(sig[node]["out"]) for node, n in nodes.items()}
        #: signals that take the place of what the network itself would compute
        self.fed = program.fed_among(self.signals.values())
        graph = program.compiled(self._use()).graph
        #: XLA cannot compile what calls Python, as Keras asks it to where there is a GPU
        self.supports_jit = not (
            any(source.key in program.hosts for source in graph.inputs)
            or any(node.kernel.host for node in graph.nodes)
        )
        used = used_signals(graph)
        self.banks = ParameterBanks(self, store, used)
        #: what is trained although rules change it
        self.starting = StartingValues(
            self, program, store.trained_and_learned, store.penalized, used
        )
        self.layers = store.layers.objects  # which makes them parts of the Keras model
        self.untrained = store.layers.untrained(used)
        self._learned = store.learned
        self._variants = {}
        self.built = True

    def describe(self, html: bool = False) -> str:
        """What the compiler made of the network: text, or a web page with drawings."""
        return self.program.describe(html)

    @property
    def metrics(self) -> list[Any]:
        """(list) No metrics of its own, and none of the layers inside.

        A Keras model inside may have been compiled: its ``"loss"`` is not that of the
        model around.
        """
        return []

    @property
    def fixed_steps(self) -> int | None:
        """The number of steps that calls have to run; None if they may run any."""
        unrolled = not self.program.use_loop and self.variant(False).layout.has_loop
        return self.program.unroll if unrolled else None

    def draw_as_layers_would(self) -> None:
        """Layers inside draw what they would draw next outside of the network."""
        self.program.draw_as_layers_would()

    def variant(self, training: bool | None, losses: bool = True) -> Variant:
        """The compiled network for training, testing or (without losses) predicting."""
        losses = losses and self._adds_losses(training)
        spiking = None if training else self.spiking
        key = (bool(training), spiking, self.fed, losses, self.program.generation)
        if key not in self._variants:
            form = form_of(
                bool(training),
                self.settings["learning_phase"],
                self.settings["spikes"],
                spiking,
            )
            use = self._use(**form._asdict(), penalties=losses)
            parts = self.program, use, self.settings, self._learned, self.starting
            with tf.init_scope():
                scoped = tf.distribute.has_strategy()
                made = apart(Variant, *parts) if scoped else Variant(*parts)
                self._variants[key] = made
        return self._variants[key]

    def _use(self, **options):
        options.setdefault("penalties", self._adds_losses(False))
        return Specialization(open=True, fed=self.fed, **options)

    def _adds_losses(self, training):
        """Whether operators add to the loss."""
        if training not in self._adds:
            phase = self.settings["learning_phase"]
            learning = bool(training) if phase is None else bool(phase)
            self._adds[training] = add_losses(self.program.model, learning)
        return self._adds[training]

    @contextlib.contextmanager
    def without_losses(self) -> Iterator[None]:
        """Context of calls whose losses nobody asks for."""
        before, self._adding = self._adding, False
        try:
            yield
        finally:
            self._adding = before

    @property
    def variants(self) -> list[Variant]:
        """(list of Variant) All that were needed so far."""
        return list(self._variants.values())

    def get_config(self) -> Any:
        """Raises an error: Keras has no description of a network that it could save."""
        raise NotImplementedError(
            "Keras cannot save a Nengo network as a whole. Write its parameters with "
            "sim.save_params(path) or sim.keras_model.save_weights(path), or write them "
            "into the network with sim.freeze_params(network), which can be pickled"
        )

    def compute_output_spec(self, inputs: Any, training: bool | None = None) -> Any:
        """Shapes of the outputs, without running anything."""
        items, n_steps, _ = next(iter(inputs.values())).shape
        return {
            name: keras.KerasTensor(
                (items, n_steps if self.keep_history[probe] else 1, *self._shape(probe)),
                dtype=self.dtype,
            )
            for probe, name in self.probe_names.items()
        }

    def _shape(self, probe):
        return memory_shape(self.program.model.sig[probe]["in"])

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Run the network for as many steps as the inputs have."""
        variant = self.variant(training, self._adding)
        if not variant.calls_python:
            return self._compute(variant, inputs, training)
        items = tf.shape(next(iter(inputs.values())))[0]
        with tf.control_dependencies([self._told("begins", training, items)]):
            outputs = self._compute(variant, inputs, training)
        with tf.control_dependencies(list(outputs.values())):
            self._told("ends", training, items)
        return outputs

    def _told(self, what, training, items):
        """An operation that tells `around_batches` that a batch begins or ends."""

        def tell(items):
            if self.around_batches is not None:
                self.around_batches(what, bool(training), int(items))
            return np.int32(0)

        return numpy_function(tell, [items], tf.int32)

    def _compute(self, variant, inputs, training):
        """Outputs and last state of a call; see `call`."""
        some = next(iter(inputs.values()))
        items, n_steps = (
            tf.shape(some)[axis] if some.shape[axis] is None else some.shape[axis]
            for axis in (0, 1)
        )
        self._check_items(some.shape[0], items)
        outputs: Any
        following, whole = [], some.shape[0] == self.program.batch
        if variant.feed_forward:
            outputs = self._feed_forward(variant, inputs)
        else:
            weights = [self.banks.pack(w) for w in variant.layout.weights]
            rows = self._given(variant, inputs, items)
            given = None if whole or not variant.batchwise else items
            outputs, following = self._run(variant, rows, weights, bool(training), given)
        variant.keep(following, items, n_steps)
        result = {}
        for probe, first, shape in variant.layout.probes:
            size = int(np.prod(shape))
            columns = outputs
            if outputs.shape[1] != size:
                columns = outputs[:, first : first + size]
            every = self.keep_history.get(probe, True)
            if variant.feed_forward:
                y = tf.reshape(columns, (items, n_steps, *shape))
                y = y if every else y[:, -1:]
            else:
                y = columns if every else columns[-1:]
                y = tf.transpose(y, (2, 0, 1))
                y = y if whole else y[:items]
                y = tf.reshape(y, (items, n_steps if every else 1, *shape))
            y.set_shape((None, some.shape[1] if every else 1, *shape))
            if probe in self.probe_names:
                result[self.probe_names[probe]] = y
            else:  # what an operator adds to the loss, or makes it of
                self.add_loss(getattr(probe, "penalty", tf.reduce_mean)(y))
        return result

    def _feed_forward(self, variant, inputs):
        """What is probed of a network without loop, ``(items * steps, n)``.

        Each column is a step of an item, and lies in memory as a row: so nothing has to
        be rearranged, and the products are those that Keras would compute.
        """
        items, n_steps = tf.unstack(tf.shape(next(iter(inputs.values()))))[:2]
        weights = [self.banks.pack(w) for w in variant.layout.weights]
        names = {signal: name for name, signal in self.signals.items()}
        parts = []
        for source in variant.layout.inputs:
            if source.key in names:
                x = tf.cast(inputs[names[source.key]], self.program.dtype)
            else:
                x = self._clock(variant, source.key, n_steps, 1)
                x = tf.tile(tf.transpose(x, (2, 0, 1)), [items, 1, 1])
            parts.append(tf.reshape(x, (-1, source.size)))
        like = tf.zeros((items * n_steps, 1), self.program.dtype)
        given = parts[0] if len(parts) == 1 else tf.concat([like[:, :0], *parts], 1)
        xp = BatchFirstNamespace(variant.xp)
        outputs = variant.stages.columns(xp, BatchFirst(given), BatchFirst(like), weights)
        # what a function of tensors gives may be all there is, and lies as it looks
        return outputs.value if isinstance(outputs, BatchFirst) else tf.transpose(outputs)

    def _given(self, variant, inputs, items):
        """Rows given to each step, ``(steps, n, batch)``.

        Where items are missing from a full batch, the first ones stand in: values that
        do occur, so that nothing overflows. Nothing of it is seen outside.
        """
        batch, dtype = self.program.batch, self.program.dtype
        some = next(iter(inputs.values()))
        n_steps = some.shape[1] if some.shape[1] is not None else tf.shape(some)[1]
        names = {signal: name for name, signal in self.signals.items()}
        parts = []
        for source in variant.layout.inputs:
            in_digits = isinstance(source.key, Digits)
            key = source.key.key if in_digits else source.key
            if key in names:
                x = tf.cast(inputs[names[key]], dtype)
                if x.shape[0] != batch:
                    x = tf.gather(dense(x), tf.range(batch) % items)
                x = tf.transpose(x, (1, 2, 0))
                x = _digits(x) if in_digits else x
            elif source.key in self.program.hosts:
                x = self._drawn(variant, source, n_steps)
            else:
                x = self._clock(variant, source.key, n_steps, batch)
            parts.append(tf.ensure_shape(x, (some.shape[1], source.size, batch)))
        if not parts:
            return tf.zeros((n_steps, 0, batch), dtype)
        return parts[0] if len(parts) == 1 else tf.concat(parts, 1)

    def _check_items(self, known, items):
        batch = self.program.batch
        message = (
            f"the network was built for batches of at most {batch} items; give batch_size"
            f"={batch}, or build the Simulator with a larger minibatch_size"
        )
        if known is not None and known > batch:
            raise ValueError(f"TensorGraph got {known} items: {message}")
        if known is None:
            tf.debugging.assert_less_equal(items, batch, message)
        if self.program.common and known != batch:
            tf.debugging.assert_equal(items, batch, INCOMPLETE.format(batch=batch))

    def _drawn(self, variant, source, n_steps):
        """What an operator draws ahead of the steps, ``(steps, size, batch)``."""
        batch = self.program.batch
        time = self._clock(variant, self.program.model.time.base, n_steps, batch)
        host = self.program.hosts[source.key]
        (x,) = variant.xp.host_call(host, [tf.reshape(time, (1, -1))], [source.size])
        x = tf.reshape(x, (source.size, n_steps, batch))
        return tf.transpose(x, (1, 0, 2))

    def _clock(self, variant, signal, n_steps, batch):
        """The model's step number or time, for each step, ``(steps, 1, batch)``."""
        steps = variant.first_step + tf.range(1, tf.cast(n_steps, tf.int64) + 1)
        value = tf.cast(steps, tf.float64)
        if signal is self.program.model.time.base:
            value = value * self.program.model.dt
        value = tf.cast(value, self.program.dtype)
        return tf.tile(value[:, None, None], [1, 1, batch])

    def _run(self, variant, rows, weights, training, items=None):
        """What is probed ``(steps, n, batch)``, and the state afterwards.

        Functions that look at several items together are to see the first ``items`` of a
        batch that is not full; None, if it is.
        """
        stages, xp = variant.stages, variant.xp
        tensors = [rows]
        with xp.of_items(items, self.program.batch):
            if stages.needs_before:
                tensors = stages.before(xp, rows, weights)
        ys, following = None, []
        if variant.scan is not None:
            state = variant.started.add(variant.state)
            state = [tf.transpose(c) for c in state] if variant.turned else state
            n, state = len(state), state + variant.kept.values()
            ys, following = self._all_steps(
                variant, tensors[0], state, weights, training, items
            )
            variant.kept.assign(following[n:], variant.carrying)
            following = following[:n]
            if variant.turned:
                following = [tf.transpose(c) for c in following]
        with xp.of_items(items, self.program.batch):
            if stages.needs_after:
                ys = stages.after(xp, tensors, ys, weights)
        return ys, following

    def _all_steps(self, variant, x, state, weights, training, items):
        """The loop, for a full batch or for one of which ``items`` are given."""
        if items is None or not variant.loop_batchwise:
            return variant.scan(x, state, weights, training=training)
        n = len(state)

        def full(x, *arrays):
            state, weights = list(arrays[:n]), list(arrays[n:])
            ys, following = variant.scan(x, state, weights, training=training)
            return [ys, *following]

        def incomplete(x, *arrays):
            count = tf.reshape(tf.cast(items, tf.int32), (1,))
            state, weights = [*arrays[:n], count], list(arrays[n:])
            ys, following = variant.scan_of_some(x, state, weights, training=training)
            return [ys, *following[:-1]]

        args = [x, *state, *weights]
        if isinstance(items, int) or not variant.xp.fast:
            ys, *following = incomplete(*args)
        else:
            is_full = tf.equal(items, self.program.batch)
            ys, *following = either(is_full, full, incomplete, args)
        return ys, following
