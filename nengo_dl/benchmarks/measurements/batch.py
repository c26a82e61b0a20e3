"""Batches: beside what their neurons alone cost, and a form of learning with matrices."""

import contextlib
from collections.abc import Callable, Iterator

import nengo
import numpy as np
import tensorflow as tf

from nengo_dl.benchmarks import beside, charts
from nengo_dl.benchmarks.networks import chosen_cases
from nengo_dl.benchmarks.networks.learning import pes
from nengo_dl.benchmarks.registry import Names, Row, measurement
from nengo_dl.benchmarks.report import Column
from nengo_dl.benchmarks.runs import built, warm_up
from nengo_dl.benchmarks.timing import (
    check_positive,
    no_collection,
    private_decoder_cache,
    take_turns,
)
from nengo_dl.compiler.traits import Params
from nengo_dl.kernels.neurons.lif import LIFKernel
from nengo_dl.runtime.tensorflow.loop import ForwardLoop
from nengo_dl.simulator import Simulator

NETWORKS = ("chain", "integrator16", "action16")

NEURON_LIMIT = 2.0
"""What a network may cost at most, as a multiple of its neurons alone."""

MATRIX_LIMIT = 1 / 3
"""What learning may cost at most, as a fraction of the form with matrices."""

DT = 0.001

COMPILED = {"jit": True}
"""Settings: the loop is compiled from the start, as it is for long runs."""

COLUMNS = (*beside.COLUMNS, Column("us/step", "us", ",.1f", 9))

NOTES = f"""{beside.NOTES} Bare LIF: a compiled loop that does nothing but update as many
LIF neurons, for as many items, with constant currents. Matrix: the same learning network
in plain TensorFlow, compiled too, with the weights of each item as a matrix that every
step changes."""


@measurement(COLUMNS, NOTES, beside.goals_met, charts.ratio_bars)
def batch(
    networks: Names | None = None,
    items: int = 64,
    steps: int = 256,
    repeats: int = 7,
    dimensions: int = 64,
    neurons_per_d: int = 32,
) -> Iterator[Row]:
    """Measure batches beside a bare LIF update, and PES beside a form with matrices.

    Parameters
    ----------
    networks : list of str or None
        By default chain, integrator16 and action16.
    items : int
        Items of the batch.
    steps : int
        Steps of a run; of learning, a quarter.
    repeats : int
        Rounds.
    dimensions : int
        Of the learning network.
    neurons_per_d : int
        Neurons per dimension of the learning network; with 0 it is left out.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If a name is unknown or a number is less than 1.
    """
    check_positive(items=items, steps=steps, repeats=repeats, dimensions=dimensions)
    cases = chosen_cases(networks, NETWORKS)
    warm_up(steps, **COMPILED)
    for name, case in cases.items():
        net = built(case, settings=COMPILED)
        bare = bare_lif(net.n_neurons, items, steps)
        times = _beside(net, items, steps, bare, repeats)
        scale = 1e9 / (steps * net.n_neurons * items)
        options = {"limit": NEURON_LIMIT, "scale": scale}
        row = beside.beside_row(
            f"{name}, {items} items", times[0], "bare LIF", times[1],
            "ns/neuron/item", **options,
        )  # fmt: skip
        yield row | {"us": row["ours"] / 1e3 * net.n_neurons * items}
    if neurons_per_d > 0:
        yield _learning(dimensions, neurons_per_d, items, max(1, steps // 4), repeats)


def _beside(net, items, steps, other, repeats) -> list:
    """Seconds of a run of ours and of another function, in turn."""
    options = {"minibatch_size": items, "progress_bar": False}
    with private_decoder_cache(), contextlib.ExitStack() as stack:
        sim = stack.enter_context(Simulator(net, **options))
        functions = [lambda: sim.run_steps(steps, progress_bar=False), other]
        for function in functions * 2:  # what is run again may be compiled
            function()
        with no_collection():
            return take_turns(functions, repeats)


def _learning(dimensions, neurons_per_d, items, steps, repeats) -> Row:
    """PES beside the form with matrices."""
    net = built(lambda: pes(dimensions, neurons_per_d), settings=COMPILED)
    matrices = MatrixLearning(net, items)
    times = _beside(net, items, steps, lambda: matrices.run(steps), repeats)
    row = beside.beside_row(
        f"PES, {dimensions} d, {net.n_neurons} neurons, {items} items",
        times[0],
        "delta as a matrix",
        times[1],
        "ms/step",
        MATRIX_LIMIT,
        scale=1e3 / steps,
    )
    return row | {"us": row["ours"] * 1e3}


def lif_parameters() -> Params:
    """What the LIF kernel needs to know, for standard neurons."""
    values = LIFKernel().values(nengo.LIF(), 1)
    # one value for all neurons: there is nothing to load
    values = {name: float(value[0]) for name, value in values.items()}
    return Params(**LIFKernel().derive({**values, "dt": DT}))


def bare_lif(neurons: int, items: int, steps: int) -> Callable[[], object]:
    """A compiled loop that updates LIF neurons, and nothing else.

    Returns a function: runs ``steps`` steps.
    """
    kernel, parameters = LIFKernel(), lif_parameters()

    def step(xp, carry, x, weights):
        _, voltage, refractory_time = carry
        after = kernel.step(xp, parameters, weights[0], voltage, refractory_time)
        return list(after), None  # spikes are kept: somebody reads them

    loop = ForwardLoop(step, 0)
    rng, shape = np.random.RandomState(0), (neurons, items)
    zeros, voltage = np.zeros(shape, "float32"), rng.rand(*shape).astype("float32")
    carry = loop.tensors([zeros, voltage, zeros])
    currents = loop.tensors([rng.uniform(0.5, 8, shape).astype("float32")])
    program = loop.traced(steps, 0, items, carry, currents)
    count, inputs = tf.constant(steps), tf.zeros((steps, 0, items))

    def run():
        nonlocal carry
        _, carry = program(count, inputs, list(carry), currents)
        return carry[1][0, 0].numpy()  # waits until it is there

    return run


class MatrixLearning:
    r"""The network `.pes` in plain TensorFlow, with a matrix of weights for each item.

    .. math:: W_b \leftarrow W_b - \frac{\kappa\, dt}{n} e_b a_b^\top

    Parameters
    ----------
    net : ~nengo.Network
        Made by `.pes`.
    items : int
        Items of the batch.
    """

    def __init__(self, net: nengo.Network, items: int, dtype: str = "float32"):
        (learned,) = (c for c in net.all_connections if c.learning_rule_type is not None)
        with private_decoder_cache(), nengo.Simulator(net, progress_bar=False) as sim:
            built, decoders = sim.data[learned.pre_obj], sim.data[learned].weights
            voltage = sim.signals[sim.model.sig[learned.pre_obj.neurons]["voltage"]]
            voltage = np.repeat(voltage[:, None], items, axis=1).astype(dtype)
        n, d = decoders.shape[1], decoders.shape[0]
        self.function, self.items, self.dtype = net.inp.output, items, dtype
        self.parameters = lif_parameters()
        self.factor = -learned.learning_rule_type.learning_rate * DT / n
        self.decay = float(np.exp(-DT / learned.synapse.tau))
        self.loop = ForwardLoop(self._step, d, dtype)
        weights = [built.scaled_encoders, built.bias[:, None]]
        self.weights = self.loop.tensors([w.astype(dtype) for w in weights])
        self.carry = self.loop.tensors([
            voltage,
            *(np.zeros((size, items), dtype) for size in (n, n, d, d, d, d)),
            np.repeat(decoders[None].astype(dtype), items, axis=0),
        ])  # fmt: skip
        self.n_steps = 0

    def _step(self, xp, carry, x, weights):
        encoders, bias = weights
        voltage, refractory, activities, filtered, output, error_y, error_x, matrix = (
            carry
        )
        current = encoders @ filtered + bias
        spikes, voltage, refractory = LIFKernel().step(
            xp, self.parameters, current, voltage, refractory
        )
        decoded = tf.einsum("bij,jb->ib", matrix, spikes)
        # the rule has the activities of this very step, all others those of the last
        activities = self._filtered(activities, spikes)
        delta = tf.einsum("ib,jb->bij", error_y - error_x, activities)
        after = [
            voltage,
            refractory,
            activities,
            self._filtered(filtered, x),
            self._filtered(output, decoded),
            self._filtered(error_y, output),
            self._filtered(error_x, x),
            matrix + self.factor * delta,
        ]
        return after, output

    def _filtered(self, last, value):
        """A low-pass filter: what it has in the next step."""
        return self.decay * last + (1 - self.decay) * value

    def run(self, steps: int) -> np.ndarray:
        """Go on for so many steps.

        Returns what the learned connection puts out, ``(steps, d, items)``.
        """
        times = (np.arange(self.n_steps, self.n_steps + steps) + 1) * DT
        x = np.array([self.function(t) for t in times])[:, :, None]
        x = np.repeat(x, self.items, axis=2).astype(self.dtype)
        outputs, self.carry = self.loop(steps, x, self.carry, self.weights)
        self.n_steps += steps
        return outputs.numpy()
