"""A network as a Keras layer, and the variables that hold its parameters."""

import re
from collections import defaultdict

import keras
import numpy as np
import tensorflow as tf

from nengo_dl.compiler.graph import ParameterRef
from nengo_dl.runtime.bptt import Scan
from nengo_dl.runtime.emit import loop_step
from nengo_dl.runtime.program import Specialization
from nengo_dl.runtime.tensorflow_tier import TensorFlowNamespace
from nengo_dl.runtime.tiers import SequenceStages

#: name of the model's input that tells how many steps to run, if no node does
STEPS = "n_steps"


class ParameterBanks:
    """The Keras variables that hold a network's parameters.

    Parameters of one shape share a variable, one slice for each: an optimizer then
    works on a few large arrays instead of thousands of small ones.

    Parameters
    ----------
    layer : keras.layers.Layer
        Where the variables belong.
    store : ParameterStore
    used : set of Signal
        Parameters that the probes depend on; the others are not trainable.
    """

    def __init__(self, layer, store, used):
        self.store = store
        self.place = {}
        self.signals = []
        self.variables = []
        groups = defaultdict(list)
        for entry in store.entries:
            base = entry.signal.base
            if base in store:
                trainable = entry.trainable and base in used
                groups[(entry.attr, entry.shape, trainable)].append(entry)
        for (attr, shape, trainable), entries in groups.items():
            signals = list(dict.fromkeys(entry.signal.base for entry in entries))
            for i, signal in enumerate(signals):
                self.place[signal] = (len(self.signals), i)
            self.signals.append(signals)
            size = "x".join(map(str, shape)) or "scalar"
            one = len(signals) == 1
            name = entries[0].name if one else f"{len(signals)} {attr} {size}"
            self.variables.append(
                layer.add_weight(
                    shape=shape if one else (len(signals), *shape),
                    initializer="zeros",
                    trainable=trainable,
                    name=re.sub(r"[^A-Za-z0-9_.]+", "_", name).strip("_"),
                    dtype=store.dtype.name,
                )
            )
        self._memories = [_Memory(variable) for variable in self.variables]
        self.push()

    def push(self):
        """The variables take the values of the store."""
        for signals, variable in zip(self.signals, self.variables, strict=True):
            values = np.stack([self.store[signal] for signal in signals])
            variable.assign(values[0] if len(signals) == 1 else values)
        for memory in self._memories:
            memory.changed()

    def pull(self):
        """The store takes the values of the variables; returns whether any differs."""
        values = {}
        for signals, memory in zip(self.signals, self._memories):
            if memory.changed():
                array = memory.array
                parts = array[None] if len(signals) == 1 else array
                values.update(zip(signals, parts, strict=True))
        return bool(values) and self.store.write(values)

    def tensor(self, ref):
        """A parameter, or a part of it, as a differentiable tensor."""
        number, i = self.place[ref.key]
        value = _dense(tf.convert_to_tensor(self.variables[number].value))
        if len(self.signals[number]) > 1:
            value = value[i]
        if ref.index is not None:
            value = tf.gather(tf.reshape(value, [-1]), ref.index.ravel())
        return tf.reshape(value, ref.shape)

    def pack(self, weight):
        """A program's argument as a differentiable tensor."""
        whole = self._whole_bank(weight)
        if whole is not None:
            return whole
        items = [
            self.tensor(item)
            if isinstance(item, ParameterRef)
            else tf.constant(item, self.store.dtype)
            for item in weight.items
        ]
        if weight.form == "stack":
            return tf.stack(items)
        return tf.reshape(tf.concat([tf.reshape(i, [-1]) for i in items], 0), (-1, 1))

    def _whole_bank(self, weight):
        """Many slices of one bank in one gather instead of one by one."""
        refs = weight.items
        if len(refs) < 2 or not all(isinstance(r, ParameterRef) for r in refs):
            return None
        if any(ref.index is not None for ref in refs):
            return None
        numbers = {self.place[ref.key][0] for ref in refs}
        if len(numbers) != 1:
            return None
        rows = [self.place[ref.key][1] for ref in refs]
        bank = _dense(tf.convert_to_tensor(self.variables[numbers.pop()].value))
        if rows != list(range(int(bank.shape[0]))):
            bank = tf.gather(bank, rows)
        if weight.form == "stack":
            return tf.reshape(bank, (len(refs), *refs[0].shape))
        return tf.reshape(bank, (-1, 1))


@tf.custom_gradient
def _dense(value):
    """The same value, whose gradient is one array, not slices with their indices.

    Optimizers differ in what they do with slices; the whole array is used anyway.
    """
    return tf.identity(value), tf.convert_to_tensor


class _Memory:
    """Where a variable's value lies, to see quickly whether it was written.

    Single steps ask for every variable, so comparing values would cost more than the
    step. TensorFlow never writes to memory that somebody else holds, but takes other
    memory instead: a variable that still lies where it did, while this object holds the
    place, has not been written. On another device than the CPU the value is copied, and
    always counts as changed.
    """

    def __init__(self, variable):
        self._handle, self._dtype = variable.value.handle, variable.value.dtype
        self.array = None

    def changed(self):
        """Whether `array`, the value, is another one than it was at the last call."""
        value = tf.raw_ops.ReadVariableOp(resource=self._handle, dtype=self._dtype)
        try:
            array = np.asarray(memoryview(value))
        except (BufferError, TypeError):
            array = value.numpy()
        if self.array is not None and np.may_share_memory(array, self.array):
            return False
        self.array = array
        return True


class Variant:
    """One compiled use of the network on the Keras side, with a state of its own.

    Parameters
    ----------
    program : Program
    use : Specialization
    settings : dict
        ``jit``, ``checkpoint``, ``truncate``.
    learned : set of Signal
        What online learning rules change. Calls keep it even if they keep nothing else.

    Attributes
    ----------
    state : list of tf.Variable
        What is carried from call to call.
    carrying : tf.Variable
        Whether the whole state is.
    first_step : tf.Variable
        Number of steps that were run before the call.
    """

    def __init__(self, program, use, settings, learned):
        self.program = program
        self.layout = program.layout(use)
        self.stages = SequenceStages(self.layout, program.batch)
        python = any(group.kernel.host for group in self.layout.loop.groups)
        jit = settings["jit"] is not False and not python
        self.xp = TensorFlowNamespace(program.dtype, fast=jit)
        self.scan = None
        if self.layout.has_loop:
            self.scan = Scan(
                loop_step(self.layout, program.batch),
                self.layout.loop.result.size,
                program.dtype,
                checkpoint=settings["checkpoint"],
                truncate=settings["truncate"],
                jit=jit,
                xp=self.xp,
            )
        self.state = [tf.Variable(value, trainable=False) for value in self._stored()]
        self.carrying = tf.Variable(False, trainable=False)
        self.first_step = tf.Variable(0, trainable=False, dtype=tf.int64)
        self._learned_slots = [s for s in self.layout.states if s.key in learned]
        #: for each carried array, which rows are learned ``(rows, 1)``
        self.learned = [np.zeros((v.shape[0], 1), bool) for v in self.state]
        for slot in self._learned_slots:
            for number in np.unique(slot.carry[slot.carry >= 0]):
                self.learned[number][slot.row[slot.carry == number]] = True

    def _stored(self):
        return self.program.store.load(self.layout.states, self.layout.carry)

    def begin(self, first_step, carrying):
        """Before calls: take the state of the simulation."""
        for variable, value in zip(self.state, self._stored(), strict=True):
            variable.assign(value)
        self.first_step.assign(first_step)
        self.carrying.assign(carrying)

    def end(self):
        """After calls: the simulation takes what they kept; the number of steps run."""
        whole = bool(self.carrying.numpy())
        self.carrying.assign(False)  # for whoever calls the model by itself
        slots = self.layout.states if whole else self._learned_slots
        if slots:
            carry = [variable.numpy() for variable in self.state]
            self.program.store.save(slots, carry)
        return int(self.first_step.numpy())

    def keep(self, following, items, n_steps):
        """Carry the state to the next call, as far as calls are to keep it.

        Parameters
        ----------
        following : list of (rows, batch) tensor
            The state after the call.
        items : tensor
            Number of batch items that the call was given; the others stay as they are.
        n_steps : tensor
        """
        given = tf.range(self.program.batch)[None] < items
        for variable, new, learned in zip(
            self.state, following, self.learned, strict=True
        ):
            kept = tf.logical_and(tf.logical_or(self.carrying, learned), given)
            variable.assign(tf.where(kept, tf.stop_gradient(new), variable))
        n_steps = tf.cast(n_steps, tf.int64)
        self.first_step.assign_add(tf.where(self.carrying, n_steps, 0))


class TensorGraph(keras.layers.Layer):
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
        ``jit``, ``checkpoint``, ``truncate``, ``learning_phase``.
    """

    def __init__(self, program, store, nodes, probes, keep_history, settings):
        super().__init__(name="TensorGraph", dtype=program.dtype.name)
        self.program = program
        self.node_names = nodes
        self.probe_names = probes
        self.keep_history = keep_history
        self.settings = settings
        sig = program.model.sig
        self.signals = {name: sig[node]["out"].base for node, name in nodes.items()}
        #: signals that take the place of what the network itself would compute
        self.fed = program.fed_among(self.signals.values())
        layout = program.layout(Specialization(open=True, fed=self.fed))
        items = [item for weight in layout.weights for item in weight.items]
        used = {item.key for item in items if isinstance(item, ParameterRef)}
        self.banks = ParameterBanks(self, store, used)
        self._learned = store.learned
        self._variants = {}
        self.built = True

    def describe(self):
        """What the compiler made of the network, as text."""
        return self.program.describe()

    def variant(self, training):
        """The compiled network for training or for inference."""
        key = (bool(training), self.fed)
        if key not in self._variants:
            phase = self.settings["learning_phase"]
            rate_form = bool(training) if phase is None else bool(phase)
            use = Specialization(open=True, training=rate_form, fed=self.fed)
            with tf.init_scope():
                self._variants[key] = Variant(
                    self.program, use, self.settings, self._learned
                )
        return self._variants[key]

    def compute_output_spec(self, inputs, training=None):
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
        return self.program.model.sig[probe]["in"].shape

    def call(self, inputs, training=None):
        """Run the network for as many steps as the inputs have."""
        variant = self.variant(training)
        items = tf.shape(next(iter(inputs.values())))[0]
        rows = self._given(variant, inputs, items)
        weights = [self.banks.pack(w) for w in variant.layout.weights]
        outputs, following = self._run(variant, rows, weights, bool(training))
        variant.keep(following, items, tf.shape(rows)[0])
        result = {}
        for probe, first, shape in variant.layout.probes:
            size = int(np.prod(shape))
            y = outputs if self.keep_history[probe] else outputs[-1:]
            y = tf.transpose(y[:, first : first + size], (2, 0, 1))[:items]
            y = tf.reshape(y, (items, tf.shape(y)[1], *shape))
            y.set_shape((None, rows.shape[0] if self.keep_history[probe] else 1, *shape))
            result[self.probe_names[probe]] = y
        return result

    def _given(self, variant, inputs, items):
        """Rows given to each step, ``(steps, n, batch)``.

        Where items are missing from a full batch, the first ones stand in: values that
        do occur, so that nothing overflows. Nothing of it is seen outside.
        """
        batch, dtype = self.program.batch, self.program.dtype
        some = next(iter(inputs.values()))
        self._check_items(some.shape[0], items)
        n_steps = some.shape[1] if some.shape[1] is not None else tf.shape(some)[1]
        names = {signal: name for name, signal in self.signals.items()}
        parts = []
        for source in variant.layout.inputs:
            if source.key in names:
                x = tf.cast(inputs[names[source.key]], dtype)
                if x.shape[0] != batch:
                    x = tf.gather(_dense(x), tf.range(batch) % items)
                x = tf.transpose(x, (1, 2, 0))
            else:
                x = self._clock(variant, source.key, n_steps)
            parts.append(tf.ensure_shape(x, (some.shape[1], source.size, batch)))
        if not parts:
            return tf.zeros((n_steps, 0, batch), dtype)
        return tf.concat(parts, 1)

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

    def _clock(self, variant, signal, n_steps):
        """The model's step number or time, for each step."""
        steps = variant.first_step + tf.range(1, tf.cast(n_steps, tf.int64) + 1)
        value = tf.cast(steps, tf.float64)
        if signal is self.program.model.time.base:
            value = value * self.program.model.dt
        value = tf.cast(value, self.program.dtype)
        return tf.tile(value[:, None, None], [1, 1, self.program.batch])

    def _run(self, variant, rows, weights, training):
        """What is probed ``(steps, n, batch)``, and the state afterwards."""
        stages, xp = variant.stages, variant.xp
        tensors = [rows]
        if stages.needs_before:
            tensors = stages.before(xp, rows, weights)
        ys, following = None, []
        if variant.scan is not None:
            state = [tf.convert_to_tensor(variable) for variable in variant.state]
            ys, following = variant.scan(tensors[0], state, weights, training=training)
        if stages.needs_after:
            ys = stages.after(xp, tensors, ys, weights)
        return ys, following
