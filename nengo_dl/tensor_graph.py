"""The Keras side of a network: a layer that runs it, and the model around the layer."""

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
        for number, ((attr, shape, trainable), entries) in enumerate(groups.items()):
            signals = list(dict.fromkeys(entry.signal.base for entry in entries))
            self.signals.append(signals)
            for i, signal in enumerate(signals):
                self.place[signal] = (number, i)
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
        self.push()

    def push(self):
        """The variables take the values of the store."""
        for signals, variable in zip(self.signals, self.variables, strict=True):
            values = np.stack([self.store[signal] for signal in signals])
            variable.assign(values[0] if len(signals) == 1 else values)

    def pull(self):
        """The store takes the values of the variables; returns whether any differs."""
        values = {}
        for signals, variable in zip(self.signals, self.variables, strict=True):
            array = variable.numpy()
            array = array[None] if len(signals) == 1 else array
            values.update(zip(signals, array, strict=True))
        return self.store.write(values)

    def tensor(self, ref):
        """A parameter, or a part of it, as a differentiable tensor."""
        number, i = self.place[ref.key]
        value = tf.convert_to_tensor(self.variables[number].value)
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
        bank = tf.convert_to_tensor(self.variables[numbers.pop()].value)
        if rows != list(range(int(bank.shape[0]))):
            bank = tf.gather(bank, rows)
        if weight.form == "stack":
            return tf.reshape(bank, (len(refs), *refs[0].shape))
        return tf.reshape(bank, (-1, 1))


class _Variant:
    """One compiled use of the network on the Keras side, with its state."""

    def __init__(self, program, use, settings):
        self.program = program
        self.layout = program.layout(use)
        batch = program.batch
        self.stages = SequenceStages(self.layout, batch)
        python = any(g.kernel.host for g in self.layout.groups())
        jit = settings["jit"] is not False and not python
        self.xp = TensorFlowNamespace(program.dtype, fast=jit)
        self.scan = None
        self.state = []
        if self.layout.has_loop:
            self.scan = Scan(
                loop_step(self.layout, batch),
                self.layout.loop.result.size,
                program.dtype,
                checkpoint=settings["checkpoint"],
                truncate=settings["truncate"],
                jit=jit,
            )
            self.state = [
                tf.Variable(value, trainable=False)
                for value in program.store.load(self.layout.states, self.layout.carry)
            ]

    def load(self):
        """The state takes the values of the simulation's."""
        values = self.program.store.load(self.layout.states, self.layout.carry)
        for variable, value in zip(self.state, values, strict=True):
            variable.assign(value)

    def save(self):
        """The simulation's state takes the values of this one."""
        carry = [variable.numpy() for variable in self.state]
        self.program.store.save(self.layout.states, carry)


@keras.saving.register_keras_serializable(package="nengo_dl")
class TensorGraph(keras.layers.Layer):
    """A network as a Keras layer.

    Takes a dict of arrays ``(batch, steps, size)``, one for each input node by name, and
    gives a dict of them, one for each probe. Its variables are the parameters of the
    network; its weights are those that training may change.

    Parameters
    ----------
    program : Program
    store : ParameterStore
    nodes, probes : dict
        Node or probe -> name.
    settings : dict
        ``jit``, ``checkpoint``, ``truncate``, ``learning_phase``.
    """

    def __init__(self, program, store, nodes, probes, settings):
        super().__init__(name="TensorGraph", dtype=program.dtype.name)
        self.program = program
        self.node_names = nodes
        self.probe_names = probes
        self.settings = settings
        layout = program.layout(self._use(training=False))
        items = [item for weight in layout.weights for item in weight.items]
        used = {item.key for item in items if isinstance(item, ParameterRef)}
        self.banks = ParameterBanks(self, store, used)
        self.stateful_calls = tf.Variable(False, trainable=False)
        self.first_step = tf.Variable(0, trainable=False, dtype=tf.int64)
        self._variants = {}
        self.built = True

    def describe(self):
        """What the compiler made of the network, as text."""
        return self.program.describe()

    def variant(self, training):
        """The compiled network for training or for inference."""
        phase = self.settings["learning_phase"]
        training = bool(training) if phase is None else bool(phase)
        if training not in self._variants:
            use = self._use(training)
            with tf.init_scope():
                self._variants[training] = _Variant(self.program, use, self.settings)
        return self._variants[training]

    def _use(self, training):
        """With parameters open, and all nodes without input given data."""
        sig = self.program.model.sig
        signals = {sig[node]["out"].base for node in self.node_names}
        fed = self.program.constants_among(signals)
        return Specialization(open=True, training=training, fed=fed)

    def compute_output_spec(self, inputs, training=None):
        """Shapes of the outputs, without running anything."""
        some = next(iter(inputs.values()))
        return {
            name: keras.KerasTensor(
                (some.shape[0], some.shape[1], *self._shape(probe)), dtype=self.dtype
            )
            for probe, name in self.probe_names.items()
        }

    def _shape(self, probe):
        return self.program.model.sig[probe]["in"].shape

    def call(self, inputs, training=None):
        """Run the network for as many steps as the inputs have."""
        variant = self.variant(training)
        batch = self.program.batch
        some = next(iter(inputs.values()))
        items = tf.shape(some)[0]
        rows = self._given(variant, inputs, items)
        weights = [self.banks.pack(w) for w in variant.layout.weights]
        outputs, following = self._run(variant, rows, weights, bool(training))
        self._keep(variant, following, items)
        result, layout = {}, variant.layout
        for (probe, first, shape), name in zip(
            layout.probes, self.probe_names.values(), strict=True
        ):
            size = int(np.prod(shape))
            y = tf.transpose(outputs[:, first : first + size], (2, 0, 1))[:items]
            result[name] = tf.reshape(y, (items, tf.shape(rows)[0], *shape))
            result[name].set_shape((None, rows.shape[0], *shape))
        del batch
        return result

    def _given(self, variant, inputs, items):
        """Rows given to each step, ``(steps, n, batch)``; absent items are zeros."""
        batch, dtype = self.program.batch, self.program.dtype
        some = next(iter(inputs.values()))
        n_steps = some.shape[1] if some.shape[1] is not None else tf.shape(some)[1]
        sig = self.program.model.sig
        by_signal = {
            sig[node]["out"].base: inputs[name] for node, name in self.node_names.items()
        }
        parts = []
        for source in variant.layout.inputs:
            if source.key in by_signal:
                x = tf.cast(by_signal[source.key], dtype)
                x = tf.pad(x, [[0, batch - items], [0, 0], [0, 0]])
                x = tf.transpose(x, (1, 2, 0))
            else:
                x = self._clock(source.key, n_steps)
            parts.append(tf.ensure_shape(x, (some.shape[1], source.size, batch)))
        if not parts:
            return tf.zeros((n_steps, 0, batch), dtype)
        return tf.concat(parts, 1)

    def _clock(self, signal, n_steps):
        """The model's step number or time, for each step."""
        steps = self.first_step + tf.range(1, tf.cast(n_steps, tf.int64) + 1)
        value = tf.cast(steps, tf.float64)
        if signal is self.program.model.time.base:
            value = value * self.program.model.dt
        value = tf.cast(value, self.program.dtype)
        return tf.tile(value[:, None, None], [1, 1, self.program.batch])

    def _run(self, variant, rows, weights, training):
        stages, xp = variant.stages, variant.xp
        tensors = [rows]
        if stages.needs_before:
            tensors = stages.before(xp, rows, weights)
        ys, following = None, []
        if variant.scan is not None:
            ys, following = variant.scan(
                tensors[0],
                [tf.convert_to_tensor(v) for v in variant.state],
                weights,
                training=training,
            )
        if stages.needs_after:
            ys = stages.after(xp, tensors, ys, weights)
        return ys, following

    def _keep(self, variant, following, items):
        """Carry the state to the next call, if calls are stateful."""
        present = tf.range(self.program.batch)[None] < items
        for variable, new in zip(variant.state, following, strict=True):
            keep = tf.logical_and(self.stateful_calls, present)
            variable.assign(tf.where(keep, tf.stop_gradient(new), variable))


class NengoModel(keras.Model):
    """A functional model whose results are named the same for one probe as for many."""

    probe_names = ()
    several_losses = False

    def get_metrics_result(self):
        """``loss``, ``<probe>_loss`` and ``<probe>_<metric>``."""
        result = super().get_metrics_result()
        if len(self.probe_names) != 1:
            return result
        (name,) = self.probe_names
        named = {}
        for key, value in result.items():
            own = key == "loss" or key.startswith(f"{name}_")
            named[key if own else f"{name}_{key}"] = value
        if "loss" in named:
            named.setdefault(f"{name}_loss", named["loss"])
        return named


class KerasSide:
    """The layer, the model around it, and their connection with the simulation.

    Parameters
    ----------
    program : Program
    store : ParameterStore
    nodes, probes : dict
        Node or probe -> name.
    settings : dict
        See `TensorGraph`.
    """

    def __init__(self, program, store, nodes, probes, settings):
        self.program = program
        self.layer = TensorGraph(program, store, nodes, probes, settings)
        self.nodes = nodes
        inputs = {
            name: keras.Input((None, node.size_out), name=name, dtype=program.dtype.name)
            for node, name in nodes.items()
        }
        if not inputs:
            inputs[STEPS] = keras.Input((None, 1), name=STEPS, dtype=program.dtype.name)
        outputs = self.layer(inputs)
        self.model = NengoModel(inputs=inputs, outputs=outputs, name="nengo_model")
        self.model.output_names = list(outputs)
        self.model.probe_names = tuple(outputs)
        self.model.stop_training = False

    def begin(self, first_step, stateful):
        """Before a call of the model: hand over the state."""
        self.program.settle()
        self.layer.first_step.assign(first_step)
        self.layer.stateful_calls.assign(stateful)
        for variant in self.layer._variants.values():
            variant.load()

    def end(self, stateful, training=False):
        """After a call of the model: take the state back, if the call kept it."""
        if stateful:
            self.layer.variant(training).save()
