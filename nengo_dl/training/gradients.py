"""Comparing the gradients of a network with numeric ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from nengo import Probe
from nengo.exceptions import SimulationError, ValidationError

from nengo_dl.compiler.layout import Group, Layout, WeightRef
from nengo_dl.compiler.memory import source_key
from nengo_dl.compiler.slots import columns_of
from nengo_dl.compiler.traits import Params
from nengo_dl.config import get_setting
from nengo_dl.kernels.tensor_function import SimTensorNode
from nengo_dl.notices import label_of, text_of
from nengo_dl.runtime.emit import loop_step
from nengo_dl.runtime.program import Program
from nengo_dl.runtime.tensorflow.namespace import TensorFlowNamespace
from nengo_dl.training.data import TrainingData
from nengo_dl.training.inputs import N_STEPS, resolve_data
from nengo_dl.training.parameters import ParameterStore
from nengo_dl.training.sharing import tensorflow_defaults

if TYPE_CHECKING:
    from nengo_dl.training.tensor_graph import TensorGraph
    from nengo_dl.training.trainer import Trainer

#: steps that are run if nothing else is said
DEFAULT_STEPS = 10

#: differences of this size are taken, relative to the array that is moved; which ones
#: depends on the least precise type in which something is computed
MOVES = {"float64": (1e-6, 1e-5), "float32": (1e-3, 1e-2, 1e-4)}

#: the least ``atol`` for these types: differences may be wrong by that through rounding
ROUNDING = {"float64": 0.0, "float32": 1e-4}

#: in so many directions at random, and along so many single elements
DIRECTIONS, SINGLE = 2, 3


def check_gradients(
    trainer: Trainer, inputs: Any, outputs: Any, atol: float, rtol: float
) -> None:
    """See `Simulator.check_gradients`.

    ``trainer``: of the network that is looked at.
    """
    side = trainer.side("check_gradients")
    about = trainer.data(side)
    probes = _probes_to_check(about.program.model.probes, outputs)
    arrays, n_steps = _inputs_to_check(about, inputs)
    side.feed([about.nodes[node] for node in arrays])
    by_name = {about.nodes[node]: array for node, array in arrays.items()}
    with side.defaults():
        check = _Check(about, by_name, n_steps)
        try:
            for probe in probes:
                check(probe, atol, rtol)
        finally:
            check.restore(check.by_themselves + check.trained)


def _probes_to_check(known: Sequence[Probe], outputs: Any) -> list[Probe]:
    if outputs is None:
        return list(known)
    outputs = [outputs] if isinstance(outputs, Probe) else list(outputs)
    unknown = [probe for probe in outputs if probe not in known]
    if unknown:
        raise ValidationError(
            f"expected probes of this network, got {unknown}",
            attr="Simulator.check_gradients (outputs)",
        )
    return outputs


def _inputs_to_check(about: TrainingData, inputs: Any) -> tuple[dict[Any, Any], int]:
    """Data in float64 by node, and the number of steps."""
    if inputs is None:
        return {}, about.side.layer.fixed_steps or DEFAULT_STEPS
    where, dtype = "Simulator.check_gradients", np.dtype("float64")
    arrays, steps = resolve_data(
        inputs, list(about.nodes), None, None, where, about.nodes, dtype
    )
    items = {len(array) for array in arrays.values()}
    if not items or max(items) > about.batch:
        raise ValidationError(
            "expected data for one input node at least, with at most minibatch_size="
            f"{about.batch} items; got {max(items, default=0)} items",
            attr=where,
        )
    return arrays, steps or DEFAULT_STEPS


class _Check:
    """The network once more in float64, and its gradients in both ways.

    Parameters
    ----------
    inputs : dict
        Name of a node -> array.
    """

    def __init__(self, about: TrainingData, inputs: dict[str, Any], n_steps: int) -> None:
        nodes, model = about.nodes, about.program.model
        self.rng = np.random.RandomState(0)
        self.first = about.first_step
        self.names, self.nodes = about.names, about.nodes
        self.layer = _in_float64(about)
        self.program = self.layer.program
        items = len(next(iter(inputs.values()))) if inputs else about.batch
        #: every input that can be moved, and those that only make up the model
        self.inputs = dict(inputs)
        self.fixed = {} if nodes else {N_STEPS: np.ones((items, n_steps, 1))}
        missing = [node for node, name in nodes.items() if name not in inputs]
        signals = {source_key(model.sig[n]["out"]): n for n in missing}
        own = self.program.outputs_of_nodes(
            set(signals), items, self.first, n_steps, about.seed
        )
        for signal, node in signals.items():
            values = own.get(signal, np.zeros((items, n_steps, node.size_out)))
            given = self.fixed if inputs else self.inputs
            given[nodes[node]] = np.array(values, "float64")
        self.processes = self.program.hosts_now()
        precision = _least_precise(model)
        self.moves, self.rounding = MOVES[precision], ROUNDING[precision]
        #: variables that the user's Keras layers change by themselves: statistics, random
        #: numbers; and those that are moved here
        self.by_themselves = _values_of(self.layer.non_trainable_variables)
        self.by_themselves += _values_of(self.program.random_variables())
        self.trained = _values_of(self.layer.trainable_variables)
        # differences take many runs: operation by operation, each is as slow as a trace
        self._forward = tf.function(partial(self.layer, training=True), autograph=False)

    def restore(self, variables):
        """Put variables and processes back as they were before."""
        self.processes.put_back()
        for variable, value in variables:
            variable.assign(value)

    def run(self, name, inputs=None, traced=False):
        """The data of one probe as a tensor, from the same state each time.

        ``traced``: in a program that is traced once, through which no tape sees.
        """
        self.restore(self.by_themselves)
        self.layer.variant(True).begin(self.first, False)
        inputs = {**self.fixed, **(self.inputs if inputs is None else inputs)}
        if traced:
            given = {key: tf.constant(array) for key, array in inputs.items()}
            return self._forward(given)[name]
        return self.layer(inputs, training=True)[name]

    def __call__(self, probe, atol, rtol):
        """Compare all gradients of one probe."""
        import tensorflow as tf

        name = self.names[probe]
        variables = self.layer.trainable_variables
        given = {k: tf.constant(x) for k, x in self.inputs.items()}
        with tf.GradientTape() as tape:
            tape.watch(given)
            y = self.run(name, given)
            weight = self.rng.randn(*y.shape) / np.sqrt(y.shape.num_elements())
            total = tf.reduce_sum(y * weight)
        sources = [[v.value for v in variables], given]
        gradients: Any = tape.gradient(
            total, sources, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )

        def value(inputs=None):
            return float(tf.reduce_sum(self.run(name, inputs, traced=True) * weight))

        for variable, gradient in zip(variables, gradients[0], strict=True):
            before = variable.numpy()

            def moved(array, variable=variable):
                variable.assign(array)
                return value()

            what = f"parameter {self._name(variable)}"
            self._compare(probe, what, before, gradient, moved, (atol, rtol))
            variable.assign(before)
        for key, gradient in gradients[1].items():

            def with_input(array, key=key):
                return value({**self.inputs, key: tf.constant(array)})

            about = (f"input {key!r}", self.inputs[key], gradient, with_input)
            self._compare(probe, *about, (atol, rtol))

    def _name(self, variable):
        """What a variable holds: the parameters of objects of the network."""
        banks = self.layer.banks
        for mine, signals in zip(banks.variables, banks.signals, strict=True):
            if mine is variable:
                entries = banks.store.entries
                names = [e.name for e in entries if e.signal.base in signals]
                more = f" and {len(names) - 3} more" if len(names) > 3 else ""
                return ", ".join(names[:3]) + more
        return repr(variable.path)

    def _compare(self, probe, what, array, gradient, moved, tolerance):
        """Compare the derivatives along one array; `SimulationError` if they differ."""
        gradient, (atol, rtol) = np.asarray(gradient), tolerance
        atol = max(atol, self.rounding)
        for direction in self._directions(array):
            analytic, numeric = float(np.sum(gradient * direction)), []
            step, up, down = 1.0, np.nan, np.nan
            for move in self.moves:  # the larger one where the smaller drowns in rounding
                step = move * max(1.0, np.abs(array).max())
                up, down = (moved(array + sign * step * direction) for sign in (1, -1))
                numeric.append((up - down) / (2 * step))
                if abs(analytic - numeric[-1]) <= atol + rtol * abs(numeric[-1]):
                    break
            else:
                sides = [(up - moved(array)) / step, (moved(array) - down) / step]
                if min(sides) - atol <= analytic <= max(sides) + atol:
                    if abs(sides[0] - sides[1]) > 10 * atol:
                        continue  # a kink
                raise SimulationError(
                    f"Simulator.check_gradients: the gradient of {label_of(probe)} ("
                    f"{self.names[probe]!r}) with respect to {what} is wrong. In one "
                    f"direction it is {analytic:.6g}, but moving {what} gives "
                    f"{numeric[0]:.6g} (tolerance: atol={atol:g}, rtol={rtol:g})"
                    f"{self._suspects()}"
                )

    def _suspects(self) -> str:
        """The operations of a step whose own gradient is wrong, as part of a message."""
        inputs, sig = self.inputs or self.fixed, self.program.model.sig
        sources = [(source_key(sig[n]["out"]), k) for n, k in self.nodes.items()]
        rows = {key: inputs[name][:, 0].T for key, name in sources if name in inputs}
        layout = self.program.layout(self.layer.variant(True).use, fused=True)
        items = len(next(iter(inputs.values())))
        names = wrong_kernels(layout, self.program.weights(layout), rows, items)
        if not names:
            return ". No operation of a step is wrong by itself"
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        return f". Wrong by themselves: {'; '.join(names[:3])}{more}"

    def _directions(self, array):
        if array.size == 0:
            return
        for _ in range(DIRECTIONS):
            direction = self.rng.randn(*array.shape)
            yield direction / np.sqrt(np.sum(direction**2))
        for i in self.rng.permutation(array.size)[:SINGLE]:
            direction = np.zeros(array.size)
            direction[i] = 1.0
            yield direction.reshape(array.shape)


def _values_of(variables):
    return [(variable, variable.numpy()) for variable in variables]


def _least_precise(model):
    """The type in which functions of tensors compute, of those in `MOVES`."""
    functions = [op.function for op in model.operators if isinstance(op, SimTensorNode)]
    types = {f.dtype for f in functions if f.layer is None}
    layers = [f.layer for f in functions if f.layer is not None]
    types |= {part.compute_dtype for layer in layers for part in layer._flatten_layers()}
    if not types <= set(MOVES):
        raise SimulationError(
            "Simulator.check_gradients: there are Keras layers that compute in "
            f"{', '.join(sorted(types - set(MOVES)))}, which is too coarse to compare "
            "gradients; make them with dtype='float32' or 'float64'"
        )
    return "float32" if "float32" in types else "float64"


def _in_float64(about: TrainingData) -> TensorGraph:
    """A layer of the same network in float64, with the present parameters and state."""
    from nengo_dl.training.tensor_graph import TensorGraph

    side, own = about.side, about.program
    live, model = side.live, own.model
    live.pull()
    own.settle()
    dtype = np.dtype("float64")
    parameters = ParameterStore(model, dtype)
    parameters.write({s: np.asarray(v, dtype) for s, v in live.parameters.items()})
    program = Program(
        model,
        parameters,
        own.batch,
        dtype,
        jit=get_setting(about.network, "jit"),
        unroll=own.unroll,
        device=own.device,
        use_loop=own.use_loop,
        strategies=own.strategies,
        common=own.common,
    )
    program.reset(about.seed)
    program.written()
    program.store.values.update(
        {key: value.astype(dtype) for key, value in own.store.values.items()}
    )
    settings = {**side.layer.settings, "truncate": None}
    settings["spikes"] = dataclasses.replace(
        settings["spikes"], spiking=False, lif_smoothing=None
    )
    keep_history = dict.fromkeys(model.probes, True)
    with tensorflow_defaults(own.device, dtype):
        layer = TensorGraph(
            program,
            parameters,
            about.nodes,
            about.names,
            keep_history,
            settings,
        )
    layer.fed = side.layer.fed
    return layer


# which operations of a step have a wrong gradient -------------------------------
#
# Each kernel call of one step is differentiated for itself, at the values that it has
# in that step, and compared with a quotient of differences: the check of a composition
# is localized by checks of its parts.

#: steps that are run before operations are looked at, so that filters are not at rest
STEPS = 3

#: how far a value is moved, and by how much derivatives may differ, relative and absolute
MOVE, TOLERANCE = 1e-6, 1e-3


def wrong_kernels(layout: Layout, weights: list, rows: Mapping, items: int) -> list[str]:
    """Descriptions of the kernel calls whose own gradient is wrong, in their order.

    ``layout``: a step in a single stage. ``weights``: the program's arguments. ``rows``:
    source key -> ``(size, items)`` values that the step is given; zeros for others.
    ``items``: number of batch items. What has no gradient at all (Python functions) is
    among them.
    """
    calls: list[_Call] = []
    groups = tuple(replace(g, kernel=_Call(g, calls)) for g in layout.loop.groups)
    step = loop_step(replace(layout, loop=replace(layout.loop, groups=groups)), items)
    xp = TensorFlowNamespace("float64", fast=False)
    none = [np.zeros((source.size, items)) for source in layout.inputs]
    given = [rows.get(s.key, zero) for s, zero in zip(layout.inputs, none, strict=True)]
    x = tf.constant(np.concatenate([np.zeros((0, items)), *given]))
    columns = columns_of(layout.states, len(layout.carry), items)
    shapes = [(len(first), n) for first, n in zip(layout.carry, columns, strict=True)]
    carry = [
        tf.constant(np.broadcast_to(first.reshape(len(first), -1), shape))
        for first, shape in zip(layout.carry, shapes, strict=True)
    ]
    arguments = [tf.constant(w, "float64") for w in weights]
    for _ in range(STEPS):
        calls.clear()
        carry, _y = step(xp, carry, x, arguments)
    rng = np.random.RandomState(0)
    return [call.described() for call in calls if call.is_wrong(xp, rng)]


class _Call:
    """A kernel in one place of a step, which notes what it is given."""

    def __init__(self, group: Group, calls: list):
        self.group, self.calls = group, calls

    def __getattr__(self, name):
        return getattr(self.group.kernel, name)

    def step(self, xp, p, *inputs):
        """One time step of the kernel; the call is noted."""
        self.params, self.inputs = vars(p), inputs
        self.calls.append(self)
        return self.group.kernel.step(xp, p, *inputs)

    def described(self) -> str:
        """The kernel, and where it is in the network."""
        labels = ", ".join(
            dict.fromkeys(map(text_of, filter(None, self.group.labels[:3])))
        )
        return (
            f"{self.group.kernel.name} ({labels})" if labels else self.group.kernel.name
        )

    def is_wrong(self, xp, rng) -> bool:
        """Whether its gradient along a direction at random is another derivative."""
        kernel = self.group.kernel
        if not kernel.differentiable:
            return any(tf.is_tensor(x) for x in self.inputs)
        names = [k for k, v in self.group.params.items() if isinstance(v, WeightRef)]
        free = [n for n in range(len(self.inputs)) if n not in kernel.cut_inputs]
        start = [self.inputs[n] for n in free] + [self.params[name] for name in names]
        start = [tf.cast(tf.convert_to_tensor(x), "float64") for x in start]
        factors: list = []

        def value(*moved):
            inputs = list(self.inputs)
            for n, x in zip(free, moved):
                inputs[n] = x
            more = dict(zip(names, moved[len(free) :]))
            results = kernel.step(xp, Params(**{**self.params, **more}), *inputs)
            if not factors:
                factors.extend(rng.normal(size=result.shape) for result in results)
            return tf.add_n([tf.reduce_sum(r * f) for r, f in zip(results, factors)])

        with tf.GradientTape() as tape:
            tape.watch(start)
            now = value(*start)
        gradients = tape.gradient(
            now, start, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        direction = [rng.normal(size=x.shape) * (1 + np.abs(x)) for x in start]
        pairs = zip(gradients, direction, strict=True)
        analytic = float(sum(np.sum(tf.convert_to_tensor(g) * d) for g, d in pairs))
        up, down = (
            float(value(*[x + s * MOVE * d for x, d in zip(start, direction)]))
            for s in (1, -1)
        )
        sides = np.array([up - float(now), float(now) - down]) / MOVE
        slack = TOLERANCE * (1 + np.abs(sides).max())
        return not sides.min() - slack <= analytic <= sides.max() + slack
