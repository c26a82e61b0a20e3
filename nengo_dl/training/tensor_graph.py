"""A network as a Keras layer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from nengo_dl.compiler.chain import TAKEN
from nengo_dl.compiler.exact_callbacks import COUNT, Digits
from nengo_dl.compiler.graph import ParameterRef
from nengo_dl.compiler.layout import Read
from nengo_dl.compiler.memory import memory_shape, source_key
from nengo_dl.compiler.simplify import used_signals
from nengo_dl.runtime.choice import form_of
from nengo_dl.runtime.program import Program, Specialization
from nengo_dl.runtime.tensorflow.batch_first import BatchFirst
from nengo_dl.runtime.tensorflow.exchange import exchanged
from nengo_dl.runtime.tensorflow.python_calls import numpy_function
from nengo_dl.runtime.tensorflow.switches import apart
from nengo_dl.runtime.tensorflow.variables import ParameterBanks, StartingValues, dense
from nengo_dl.tensor_node import TrainsSome, add_losses
from nengo_dl.training.segments import Segments
from nengo_dl.training.variant import TrainedLink, Variant

if TYPE_CHECKING:
    from nengo_dl.training.parameters import ParameterStore


#: of batches in which items are missing
INCOMPLETE = (
    "the items of a batch learn together (shared_learning), so that batches have to be "
    "full: give a multiple of {batch} items (minibatch_size), or batches of {batch}"
)


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
        #: whether `fit` trains: then nobody asks for gradients of data
        self.in_fit = False
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
        unrolled = not self.program.use_loop and any(
            link.layout.has_loop for link in self.variant(False).links
        )
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
        whole = some.shape[0] == self.program.batch
        results: list[Any]
        if variant.feed_forward:
            results, following = [self._feed_forward(variant, inputs)], [[]]
        else:
            given = None if whole or not variant.batchwise else items
            results, following = self._run(variant, inputs, bool(training), items, given)
        variant.keep(following, items, n_steps)
        result = {}
        for number, (probe, read, shape) in enumerate(variant.chain.probes):
            every = self.keep_history.get(probe, True)
            if variant.feed_forward:
                y = tf.reshape(rows_of(read, results, 1), (items, n_steps, *shape))
                y = y if every else y[:, -1:]
            else:
                y = exchanged(results[number])
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
        (link,) = variant.links
        weights = [self.banks.pack(w) for w in link.layout.weights]
        names = {signal: name for name, signal in self.signals.items()}
        parts = []
        for source in link.layout.inputs:
            if source.key in names:
                x = tf.cast(inputs[names[source.key]], self.program.dtype)
            else:
                x = self._clock(variant, source.key, n_steps, 1)
                x = tf.tile(tf.transpose(x, (2, 0, 1)), [items, 1, 1])
            parts.append(tf.reshape(x, (-1, source.size)))
        like = tf.zeros((items * n_steps, 1), self.program.dtype)
        outputs = link.columns(parts, like, weights)
        # what a function of tensors gives may be all there is, and lies as it looks
        return outputs.value if isinstance(outputs, BatchFirst) else tf.transpose(outputs)

    def _run(self, variant, inputs, training, items, given):
        """What is probed in all steps, and the state of each link afterwards.

        Functions that look at several items together are to see the first ``given`` of a
        batch that is not full; None, if it is.
        """
        some = next(iter(inputs.values()))
        n_steps = some.shape[1] if some.shape[1] is not None else tf.shape(some)[1]
        sources = {}
        for link in variant.links:
            for source in link.layout.inputs:
                # what is drawn is drawn once for all links
                if source.key != TAKEN and source.key not in sources:
                    x = self._source(variant, source, inputs, items, n_steps)
                    shape = (self.program.batch, some.shape[1], source.size)
                    sources[source.key] = tf.ensure_shape(x, shape)
        weights = [
            [self.banks.pack(w) for w in link.layout.weights] for link in variant.links
        ]
        trained = [self.trained_weights(link) for link in variant.links]
        every = variant.segment_of(some.shape[1]) if sources and self.in_fit else None
        if every is not None:
            return self._run_segments(variant, sources, weights, trained, every)
        states = [link.begins_with() for link in variant.links]
        carrying = tf.convert_to_tensor(variant.carrying)
        about = trained, training, carrying, given
        results, following = self._through(
            variant, sources, n_steps, states, weights, *about
        )
        probed = []
        for probe, read, _ in variant.chain.probes:
            every = self.keep_history.get(probe, True)
            y = [(x if every else x[-1:], turned) for x, turned in results]
            probed.append(trajectory(read, y, turned=True))
        return probed, following

    def _through(
        self,
        variant,
        sources,
        n_steps,
        states,
        weights,
        trained,
        training,
        carrying,
        given,
    ):
        """What each link gives in some steps, and the state of each afterwards."""
        results, following = [], []
        for number, link in enumerate(variant.links):
            first = link.takes_items_first and all(
                source.key in self.signals.values() for source in link.layout.inputs
            )
            rows = self._given(link, sources, n_steps, first, results)
            about = trained[number], carrying, training, given, first, states[number]
            ys, after = link.run(rows, weights[number], *about)
            results.append((ys, link.turned))
            following.append(after)
        return results, following

    def _run_segments(self, variant, sources, weights, trained, every):
        """What is probed in all steps, and the state afterwards, segment by segment."""
        flat, about = tf.nest.flatten, (tf.constant(False), None)
        states = [link.begins_with() for link in variant.links]
        like = [[[0] * len(each) for each in arrays] for arrays in (states, weights)]

        def run(inputs, state, weights, training):
            there = dict(zip(sources, inputs, strict=True))
            state, weights = (
                tf.nest.pack_sequence_as(form, list(arrays))
                for form, arrays in zip(like, (state, weights), strict=True)
            )
            steps = inputs[0].shape[1]
            args = there, steps, state, weights, trained, training, *about
            results, following = self._through(variant, *args)
            reads = [read for _, read, _ in variant.chain.probes]
            return [trajectory(r, results, turned=True) for r in reads], flat(following)

        sizes = [read.size for _, read, _ in variant.chain.probes]
        segments = Segments(run, every, sizes, flat(trained))
        variant.segments = segments  # which its programs do not hold
        args = list(sources.values()), flat(states), flat(weights)
        probed, following = segments(*args)
        last = [not self.keep_history.get(p, True) for p, _, _ in variant.chain.probes]
        probed = [y[-1:] if one else y for y, one in zip(probed, last, strict=True)]
        return probed, tf.nest.pack_sequence_as(like[0], following)

    def trained_weights(self, link: TrainedLink) -> tuple[bool, ...]:
        """For each weight of a link, whether training may change it at present."""
        return tuple(
            any(
                self.banks.trains(item.key)
                for item in weight.items
                if isinstance(item, ParameterRef)
            )
            for weight in link.layout.weights
        )

    def _given(self, link, sources, n_steps, items_first, results):
        """Rows given to each step of a link, ``(steps, n, batch)``, as they are to lie.

        ``sources``: what is given from outside, ``(batch, steps, n)``, by its key.
        ``results``: what the links before it gave.
        """
        axis = 2 if link.turned else 1
        parts = []
        for source in link.layout.inputs:
            if source.key == TAKEN:
                parts.append(trajectory(link.taken, results, link.turned))
                continue
            x, lies = sources[source.key], (1, 0, 2) if link.turned else (1, 2, 0)
            parts.append(x if items_first else tf.transpose(x, lies))
        if not parts:
            empty = tf.zeros((n_steps, 0, self.program.batch), self.program.dtype)
            return tf.transpose(empty, (0, 2, 1)) if link.turned else empty
        return parts[0] if len(parts) == 1 else tf.concat(parts, axis)

    def _source(self, variant, source, inputs, items, n_steps):
        """What one source gives, ``(batch, steps, n)``.

        Where items are missing from a full batch, the first ones stand in: values that
        do occur, so that nothing overflows. Nothing of it is seen outside.
        """
        batch, names = self.program.batch, {s: n for n, s in self.signals.items()}
        in_digits = isinstance(source.key, Digits)
        key = source.key.key if in_digits else source.key
        if key in names:
            x = tf.cast(inputs[names[key]], self.program.dtype)
            if x.shape[0] != batch:
                x = tf.gather(dense(x), tf.range(batch) % items)
            return _digits(x) if in_digits else x
        if source.key in self.program.hosts:
            x = self._drawn(variant, source, n_steps)
        else:
            x = self._clock(variant, source.key, n_steps, batch)
        return tf.transpose(x, (2, 0, 1))

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
        xp = variant.links[0].around
        (x,) = xp.host_call(host, [tf.reshape(time, (1, -1))], [source.size])
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


def _digits(x):
    """The digits of a tensor ``(batch, steps, n)``, in its type, see `.to_digits`."""
    digits = tf.bitcast(tf.cast(x, tf.float64), tf.uint16)  # one more axis
    return tf.reshape(
        tf.cast(digits, x.dtype), (*tf.unstack(tf.shape(x))[:2], COUNT * x.shape[2])
    )


def rows_of(read: Read, results: Sequence[Any], axis: int) -> Any:
    """Rows of what the links of a chain gave, which lie along one axis.

    Parameters
    ----------
    read : Read
        Its tensors are numbers of links.
    results : list of tensor
    axis : int
    """
    parts = []
    for link, start, stop in read.parts:
        x = results[link]
        whole = x.shape[axis] == stop - start
        some = [slice(None)] * axis + [slice(start, stop)]
        parts.append(x if whole else x[tuple(some)])
    x = parts[0] if len(parts) == 1 else tf.concat(parts, axis)
    return x if read.index is None else tf.gather(x, read.index, axis=axis)


def trajectory(read: Read, results: Sequence[tuple[Any, bool]], turned: bool) -> Any:
    """Rows of what links gave in all steps: ``(steps, batch, n)`` if ``turned``.

    ``results``: what each link gave, and whether it is turned; else, it is ``(steps, n,
    batch)``.
    """
    found = [results[link][1] for link, _, _ in read.parts]
    if all(found) or not any(found):
        x = rows_of(read, [x for x, _ in results], 2 if all(found) else 1)
        return x if all(found) == turned else tf.transpose(x, (0, 2, 1))
    as_asked = [x if t == turned else tf.transpose(x, (0, 2, 1)) for x, t in results]
    return rows_of(read, as_asked, 2 if turned else 1)
