"""Comparing the gradients of a network with numeric ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from nengo import Probe
from nengo.exceptions import SimulationError, ValidationError

from nengo_dl.compiler.memory import source_key
from nengo_dl.config import get_setting
from nengo_dl.kernels.tensor_function import SimTensorNode
from nengo_dl.training.inputs import resolve_data
from nengo_dl.training.turns import in_turn

#: steps that are run if nothing else is said
DEFAULT_STEPS = 10

#: differences of this size are taken, relative to the array that is moved; which ones
#: depends on the least precise type in which something is computed
MOVES = {"float64": (1e-6, 1e-5), "float32": (1e-3, 1e-2, 1e-4)}

#: the least ``atol`` for these types: differences may be wrong by that through rounding
ROUNDING = {"float64": 0.0, "float32": 1e-4}

#: in so many directions at random, and along so many single elements
DIRECTIONS, SINGLE = 2, 3


class GradientMethods:
    """The part of `Simulator` that looks whether gradients are right."""

    @in_turn
    def check_gradients(
        self,
        inputs: Any = None,
        outputs: Probe | Sequence[Probe] | None = None,
        atol: float = 1e-5,
        rtol: float = 1e-3,
    ) -> None:
        r"""Compare analytic gradients with numeric ones.

        For each probe, its data :math:`y` over all steps and items are weighted at
        random, :math:`L = \sum_i r_i y_i / \sqrt n`. Every array :math:`a` that training
        may change, and every input, is moved by a small :math:`\epsilon` in a few
        directions :math:`d`, some of them along single elements. Then

        .. math::

           \frac{L(a + \epsilon d) - L(a - \epsilon d)}{2 \epsilon}
           \approx \sum_i \frac{\partial L}{\partial a_i} d_i

        has to hold, where the right side is computed by going back through time, as in
        `fit`. All is computed in float64, whatever the network's type, from the present
        state and the present parameters; the simulation is not changed. Functions of
        tensors compute in their own type; in float32, :math:`\epsilon` is larger, and so
        is what is lost to rounding: ``atol`` is at least 1e-4 then.

        Parameters
        ----------
        inputs : array or list or dict, optional
            Data for the input nodes, as for `fit`, of at most ``minibatch_size`` items.
            Default: what the nodes put out by themselves, for 10 steps.
        outputs : list of ~nengo.Probe or ~nengo.Probe, optional
            The probes to look at. Default: all.
        atol, rtol : float
            Two derivatives :math:`p` (analytic) and :math:`q` may differ by
            :math:`\mathrm{atol} + \mathrm{rtol} |q|`.

        Raises
        ------
        ~nengo.exceptions.SimulationError
            If they differ by more. The message names the probe, the parameter or input,
            and the operations of a step whose own gradient is wrong.
        ~nengo.exceptions.ValidationError
            If data or probes do not fit.

        Notes
        -----
        Spiking neurons are checked in their rate form, because the gradient of a spike
        is a surrogate and not the derivative of anything; with ``lif_smoothing``, too,
        the derivative of the rates themselves is compared. Python functions are called
        many times, and have no gradient: what depends on parameters through one of them
        is reported as different. Where a small move crosses a kink (of a neuron at its
        threshold, say), any derivative between those of both sides is right.

        Examples
        --------
        >>> with nengo.Network(seed=0) as net:
        ...     nengo_dl.configure_settings(dtype="float64")
        ...     node = nengo.Node([0.5])
        ...     ens = nengo.Ensemble(5, 1, neuron_type=nengo.Tanh())
        ...     connection = nengo.Connection(node, ens, synapse=None)
        ...     probe = nengo.Probe(ens)
        >>> data = {node: np.ones((1, 2, 1))}
        >>> with nengo_dl.Simulator(net) as sim:
        ...     sim.check_gradients(data, outputs=[probe], rtol=1e-4)
        """
        side = self._keras_side("check_gradients")
        probes = self._probes_to_check(outputs)
        arrays, n_steps = self._inputs_to_check(inputs)
        side.feed([self._node_names[node] for node in arrays])
        arrays = {self._node_names[node]: array for node, array in arrays.items()}
        with side.defaults():
            check = _Check(self, side, arrays, n_steps)
            try:
                for probe in probes:
                    check(probe, atol, rtol)
            finally:
                check.restore(check.by_themselves + check.trained)

    def _probes_to_check(self, outputs):
        if outputs is None:
            return list(self.model.probes)
        outputs = [outputs] if isinstance(outputs, Probe) else list(outputs)
        unknown = [probe for probe in outputs if probe not in self.model.probes]
        if unknown:
            raise ValidationError(
                f"expected probes of this network, got {unknown}",
                attr="Simulator.check_gradients (outputs)",
            )
        return outputs

    def _inputs_to_check(self, inputs):
        """Data in float64 by node, and the number of steps."""
        where, names = "Simulator.check_gradients", self._node_names
        if inputs is None:
            return {}, self._keras.layer.fixed_steps or DEFAULT_STEPS
        arrays, steps = resolve_data(
            inputs, self._nodes, None, None, where, names, np.dtype("float64")
        )
        items = {len(array) for array in arrays.values()}
        if not items or max(items) > self._batch:
            raise ValidationError(
                "expected data for one input node at least, with at most minibatch_size="
                f"{self._batch} items; got {max(items, default=0)} items",
                attr=where,
            )
        return arrays, steps


class _Check:
    """The network once more in float64, and its gradients in both ways.

    Parameters
    ----------
    sim : Simulator
    side : KerasSide
    inputs : dict
        Name of a node -> array.
    n_steps : int
    """

    def __init__(self, sim, side, inputs, n_steps):
        from nengo_dl.training.tensor_graph import STEPS

        self.rng = np.random.RandomState(0)
        self.first = sim.n_steps
        self.sim, self.nodes = sim, sim._node_names.items()
        self.names = sim._probe_names()
        self.layer = _in_float64(sim, side)
        self.program = self.layer.program
        items = len(next(iter(inputs.values()))) if inputs else sim._batch
        #: every input that can be moved, and those that only make up the model
        self.inputs = dict(inputs)
        self.fixed = {} if sim._nodes else {STEPS: np.ones((items, n_steps, 1))}
        missing = [n for n in sim._nodes if sim._node_names[n] not in inputs]
        signals = {source_key(sim.model.sig[n]["out"]): n for n in missing}
        own = self.program.outputs_of_nodes(
            set(signals), items, self.first, n_steps, sim.seed
        )
        for signal, node in signals.items():
            values = own.get(signal, np.zeros((items, n_steps, node.size_out)))
            given = self.fixed if inputs else self.inputs
            given[sim._node_names[node]] = np.array(values, "float64")
        self.processes = self.program.hosts_now()
        precision = _least_precise(sim.model)
        self.moves, self.rounding = MOVES[precision], ROUNDING[precision]
        #: variables that the user's Keras layers change by themselves: statistics, random
        #: numbers; and those that are moved here
        self.by_themselves = _values_of(self.layer.non_trainable_variables)
        self.by_themselves += _values_of(self.program.random_variables())
        self.trained = _values_of(self.layer.trainable_variables)

    def restore(self, variables):
        """Variables and processes are as they were before."""
        self.processes.put_back()
        for variable, value in variables:
            variable.assign(value)

    def run(self, name, inputs=None):
        """The data of one probe as a tensor, from the same state each time."""
        self.restore(self.by_themselves)
        self.layer.variant(True).begin(self.first, False)
        inputs = {**self.fixed, **(self.inputs if inputs is None else inputs)}
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
        gradients = tape.gradient(
            total, sources, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )

        def value(inputs=None):
            return float(tf.reduce_sum(self.run(name, inputs) * weight))

        for variable, gradient in zip(variables, gradients[0], strict=True):
            before = variable.numpy()

            def moved(array, variable=variable):
                variable.assign(array)
                return value()

            what = f"parameter {self._name(variable)}"
            self._compare(probe, what, before, gradient, moved, (atol, rtol))
            variable.assign(before)
        for key, gradient in gradients[1].items():

            def moved(array, key=key):
                return value({**self.inputs, key: tf.constant(array)})

            array = self.inputs[key]
            self._compare(probe, f"input {key!r}", array, gradient, moved, (atol, rtol))

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
        """One array that is moved; `SimulationError` if it makes another difference."""
        gradient, (atol, rtol) = np.asarray(gradient), tolerance
        atol = max(atol, self.rounding)
        for direction in self._directions(array):
            analytic, numeric = float(np.sum(gradient * direction)), []
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
                    f"Simulator.check_gradients: the gradient of {probe} ("
                    f"{self.names[probe]!r}) with respect to {what} is wrong. In one "
                    f"direction it is {analytic:.6g}, but moving {what} gives "
                    f"{numeric[0]:.6g} (tolerance: atol={atol:g}, rtol={rtol:g})"
                    f"{self._suspects()}"
                )

    def _suspects(self):
        """The operations of a step whose own gradient is wrong, as part of a message."""
        from nengo_dl.training.kernel_gradients import wrong_kernels

        inputs = self.inputs or self.fixed
        sources = [(source_key(self.sim.model.sig[n]["out"]), k) for n, k in self.nodes]
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


def _in_float64(sim, side):
    """A layer of the same network in float64, with the present parameters and state."""
    from nengo_dl.runtime.program import Program
    from nengo_dl.training.defaults import tensorflow_defaults
    from nengo_dl.training.parameter_store import ParameterStore
    from nengo_dl.training.tensor_graph import TensorGraph

    live, own = sim._live, sim._program
    live.pull()
    own.settle()
    dtype = np.dtype("float64")
    parameters = ParameterStore(sim.model, dtype)
    parameters.write({s: np.asarray(v, dtype) for s, v in live.parameters.items()})
    program = Program(
        sim.model,
        parameters,
        own.batch,
        dtype,
        jit=get_setting(sim.network, "jit"),
        unroll=own.unroll,
        device=own.device,
        use_loop=own.use_loop,
        strategies=own.strategies,
    )
    program.reset(sim.seed)
    program.written()
    program.store.values.update(
        {key: value.astype(dtype) for key, value in own.store.values.items()}
    )
    settings = {**side.layer.settings, "truncate": None}
    settings["spikes"] = dataclasses.replace(
        settings["spikes"], spiking=False, lif_smoothing=None
    )
    keep_history = dict.fromkeys(sim.model.probes, True)
    with tensorflow_defaults(sim.device, dtype):
        layer = TensorGraph(
            program,
            parameters,
            sim._node_names,
            sim._probe_names(),
            keep_history,
            settings,
        )
    layer.fed = side.layer.fed
    return layer
