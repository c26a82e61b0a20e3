"""Training: beside plain TensorFlow, beside plain Keras, and beside code by hand."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import keras
import nengo
import numpy as np
import tensorflow as tf

from nengo_dl.benchmarks import beside, charts
from nengo_dl.benchmarks.by_hand import ByHand
from nengo_dl.benchmarks.networks.integrators import integrator
from nengo_dl.benchmarks.networks.spiking_layers import spiking_layers
from nengo_dl.benchmarks.peers import (
    LEARNING_RATE,
    Epochs,
    Layers,
    Peer,
    Training,
    Worker,
    chosen,
)
from nengo_dl.benchmarks.registry import Names, Row, measurement
from nengo_dl.benchmarks.report import Column
from nengo_dl.benchmarks.timing import check_positive, chosen_names, take_turns
from nengo_dl.config import configure_settings
from nengo_dl.runtime.tensorflow.loop import call_step
from nengo_dl.runtime.tensorflow.namespace import TensorFlowNamespace
from nengo_dl.simulator import Simulator

COLUMNS = (
    *beside.COLUMNS,
    Column("ms/step", "step_ms", ".4f", 8),
    Column("memory", "memory_ratio", ".2f"),
    Column("loss", "loss_difference", ".4f"),
)

NOTES = f"""{beside.NOTES} Memory: size of the states held for gradients, as a fraction
of the other's. Other libraries train the spiking layers of the row above them, each in
a process of its own that takes turns with ours; loss: how far theirs is from ours before
any training, as a fraction, where their neurons are not quite the same."""

TORCH_LIMIT = 0.67
"""What training may take of a library's for PyTorch."""


class PlainLoop:
    """A `.scan.Scan` without anything of it: TensorFlow's loop, which a tape records.

    Parameters
    ----------
    scan : .scan.Scan
        Whose steps to run.
    """

    def __init__(self, scan: Any):
        self.step, self.n_y, self.turned = scan.step, scan.n_y, scan.turned
        self.xp = TensorFlowNamespace(scan.xp.dtype, fast=False)

    def __call__(
        self,
        xs: Any,
        carry: Any,
        weights: Any,
        training: bool = False,
        by_items: Any = None,
    ) -> Any:
        """Outputs of all steps and the last state, as of `.scan.Scan`."""
        rows, batch = xs.shape[1:][:: -1 if self.turned else 1]
        n_steps = tf.shape(xs)[0]
        shape = (batch, self.n_y) if self.turned else (self.n_y, batch)
        ys = tf.TensorArray(self.xp.dtype, n_steps, element_shape=shape)

        def body(i, carry, ys):
            x = xs[i] if rows else None
            carry, y = call_step(self.step, self.xp, carry, x, list(weights), shape)
            return i + 1, carry, ys.write(i, y)

        state = (tf.constant(0), list(carry), ys)
        _, carry, ys = tf.while_loop(lambda i, *_: i < n_steps, body, state)
        return ys.stack(), carry


class _Stopwatch(keras.callbacks.Callback):
    """Seconds from the first batch to the end of the last, for each epoch."""

    def __init__(self):
        super().__init__()
        self.seconds = []
        self._start = 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.seconds.append(time.perf_counter() - self._start)


def epoch(fit: Callable, batches: int) -> Callable[[], float]:
    """A function that runs ``fit``, and returns milliseconds per batch.

    ``fit``: takes ``epochs``, ``verbose`` and ``callbacks``. ``batches``: batches of an
    epoch.
    """

    def run():
        watch = _Stopwatch()
        fit(epochs=1, verbose=0, callbacks=[watch])
        return watch.seconds[-1] / batches * 1e3

    return run


def loop_of(sim: Simulator) -> Any:
    """The loop of a network that trains in a single one."""
    (link,) = sim.tensor_graph.variant(True).links
    return link.scan(sim.tensor_graph.trained_weights(link))


def states_megabytes(sim: Simulator, n_steps: int) -> float:
    """Size of the states that a training step of ``n_steps`` holds at one time.

    Those that the forward pass keeps, and those that the backward pass computes again.
    """
    variant = sim.tensor_graph.variant(True)
    scan: Any = loop_of(sim)
    every = scan.interval(variant.state, n_steps)
    states = -(-n_steps // every) + (every if every > 1 else 0)
    return states * sum(state.numpy().nbytes for state in variant.state) / 2**20


def _loop_trainer(dimensions, neurons_per_d, n_steps, batch, batches, plain, settings):
    """A simulator, and a function that trains it: returns milliseconds per batch."""
    net = integrator(dimensions, neurons_per_d)
    with net:
        configure_settings(**settings)
    sim = Simulator(net, minibatch_size=batch, progress_bar=False)
    sim.compile(keras.optimizers.SGD(1e-4), loss="mse")
    if plain:
        (link,) = sim.tensor_graph.variant(True).links
        plain_loop = PlainLoop(loop_of(sim))
        link.scan = lambda trained, places=None: plain_loop
    rng = np.random.RandomState(0)
    (node, probe), shape = (net.nodes[0], net.probes[0]), (batch * batches, n_steps)
    x = 0.1 * rng.randn(*shape, node.size_out).astype("float32")
    y = rng.randn(*shape, probe.size_in).astype("float32")
    return sim, epoch(lambda **kwargs: sim.fit({node: x}, {probe: y}, **kwargs), batches)


def beside_trained(
    case: str,
    n_steps: int,
    ours: Callable[[], float],
    reference: Callable[[], float],
    name: str,
    repeats: int,
    limit: float | None = None,
) -> Row:
    """Measure both in turns, after each has run once; they tell their times themselves.

    ``case``: what is trained. ``n_steps``: steps of each item. ``ours``, ``reference``:
    see `epoch`. ``name``: of the reference. ``repeats``: epochs of each. ``limit``: the
    ratio to stay below.
    """
    check_positive(repeats=repeats)
    ours()
    reference()
    times: list[list[float]] = [[], []]
    take_turns(
        [lambda: times[0].append(ours()), lambda: times[1].append(reference())], repeats
    )
    row = beside.beside_row(case, times[0], name, times[1], "ms/batch", limit)
    return {**row, "steps": n_steps, "step_ms": row["ours"] / n_steps}


def measure_loop(
    n_steps: int = 100,
    batch: int = 16,
    dimensions: int = 128,
    neurons_per_d: int = 32,
    batches: int = 4,
    repeats: int = 5,
    **settings: Any,
) -> Row:
    """Training through time, beside ``tf.while_loop`` with a gradient tape.

    ``n_steps``: steps of each item. ``batch``: items that run side by side.
    ``dimensions``, ``neurons_per_d``: sizes of the `.networks.integrator`. ``batches``:
    batches of an epoch. ``repeats``: epochs of each. ``**settings``: see
    `.configure_settings`.
    """
    sizes = (dimensions, neurons_per_d, n_steps, batch, batches)
    _, ours = _loop_trainer(*sizes, False, settings)
    _, plain = _loop_trainer(*sizes, True, settings)
    case = f"integrator {dimensions}x{neurons_per_d}, T={n_steps}"
    name = "tf.while_loop and tape"
    return beside_trained(case, n_steps, ours, plain, name, repeats, 1.0)


def measure_checkpoints(
    n_steps: int = 400,
    batch: int = 16,
    dimensions: int = 128,
    neurons_per_d: int = 32,
    batches: int = 2,
    repeats: int = 5,
    **settings: Any,
) -> Row:
    """``checkpoint="auto"`` beside keeping the state of every step.

    Spikes are trained, so that the neurons have a state. The arguments are those of
    `measure_loop`. The row has the size of the states, too.
    """
    settings = {"spiking_training": True, **settings}
    sizes = (dimensions, neurons_per_d, n_steps, batch, batches)
    sim, auto = _loop_trainer(*sizes, False, {**settings, "checkpoint": "auto"})
    other, every = _loop_trainer(*sizes, False, {**settings, "checkpoint": None})
    case = f"integrator {dimensions}x{neurons_per_d}, T={n_steps}, auto"
    name = "every state kept"
    row = beside_trained(case, n_steps, auto, every, name, repeats, 1.6)
    held, theirs = (states_megabytes(s, n_steps) for s in (sim, other))
    memory = {"ours_mb": held, "theirs_mb": theirs, "memory_ratio": held / theirs}
    return row | memory


def feed_forward(sizes: tuple[int, ...] = (784, 512, 256, 10)) -> nengo.Network:
    """Layers of rate neurons without synapses, like those of a Keras model.

    ``sizes``: of the input, of each layer of rectified linear neurons, and of the output.
    """
    rng = np.random.RandomState(0)
    with nengo.Network(seed=0, label="feed_forward") as net:
        ensembles = net.config[nengo.Ensemble]
        ensembles.neuron_type = nengo.RectifiedLinear()
        ensembles.gain, ensembles.bias = nengo.dists.Choice([1]), nengo.dists.Choice([0])
        net.inp = last = nengo.Node(np.zeros(sizes[0]))
        targets = [nengo.Ensemble(size, 1).neurons for size in sizes[1:-1]]
        for target in [*targets, nengo.Node(size_in=sizes[-1])]:
            weights = rng.randn(target.size_in, last.size_out) / np.sqrt(last.size_out)
            nengo.Connection(last, target, transform=weights, synapse=None)
            last = target
        net.p = nengo.Probe(last)
    return net


def measure_feed_forward(
    n_steps: int = 1,
    batch: int = 64,
    sizes: tuple[int, ...] = (784, 512, 256, 10),
    batches: int = 50,
    repeats: int = 5,
) -> Row:
    """Rate training of a network without state, beside the same layers in Keras.

    In Keras all steps are items of one batch.

    ``n_steps``, ``batch``, ``batches``, ``repeats``: see `measure_loop`. ``sizes``: see
    `feed_forward`.
    """
    rng, items = np.random.RandomState(1), batch * batches
    x = rng.rand(items, n_steps, sizes[0]).astype("float32")
    y = rng.randint(sizes[-1], size=(items, n_steps, 1))
    net = feed_forward(sizes)
    sim = Simulator(net, minibatch_size=batch, progress_bar=False)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    sim.compile(keras.optimizers.SGD(1e-3), loss=loss)

    inputs = h = keras.Input(sizes[:1])
    for size in sizes[1:-1]:
        h = keras.layers.Dense(size, "relu")(h)
    model = keras.Model(inputs, keras.layers.Dense(sizes[-1])(h))
    model.compile(keras.optimizers.SGD(1e-3), loss=loss)
    flat = x.reshape(-1, sizes[0]), y.reshape(-1, 1)

    def plain(**kwargs):
        return model.fit(*flat, batch_size=batch * n_steps, **kwargs)

    case = f"layers {'-'.join(map(str, sizes))}, T={n_steps}"
    ours = epoch(lambda **kwargs: sim.fit({net.inp: x}, {net.p: y}, **kwargs), batches)
    reference = epoch(plain, batches)
    limit = 1.2 if sizes[0] > 100 else None
    return beside_trained(case, n_steps, ours, reference, "keras.Model", repeats, limit)


def layers_trainer(layers: Layers) -> Callable[[], float]:
    """Training of spiking layers in our simulator: milliseconds per batch of an epoch."""
    x, y = layers.data()
    net = spiking_layers(layers.kind, layers.sizes)
    sim = Simulator(net, minibatch_size=layers.batch, progress_bar=False)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    sim.compile(keras.optimizers.Adam(LEARNING_RATE), loss=loss)
    targets = np.repeat(y[:, None, None], layers.n_steps, axis=1)

    def fit(**kwargs):
        return sim.fit({net.inp: x}, {net.p: targets}, shuffle=False, **kwargs)

    return epoch(fit, layers.batches)


def by_hand(layers: Layers) -> Training:
    """Training of spiking layers in TensorFlow by hand."""
    written = ByHand(layers.kind, layers.sizes, LEARNING_RATE)
    return lambda x, y: float(written.train(tf.constant(x), tf.constant(y)))


def measure_spiking(layers: Layers, repeats: int = 5, limit: float = 1.15) -> Row:
    """Training through spikes, beside the same layers in TensorFlow by hand.

    ``layers``: what is trained. ``repeats``: epochs of each. ``limit``: the ratio to stay
    below.
    """
    ours, written = layers_trainer(layers), Epochs(by_hand(layers), layers)
    return beside_trained(
        layers.case, layers.n_steps, ours, written, "by hand", repeats, limit
    )


def measure_peer(layers: Layers, peer: Peer, repeats: int = 5) -> Row:
    """Training through spikes, beside the same layers in another library.

    ``layers``: what is trained. ``peer``: the library. ``repeats``: epochs of each. The
    row has the loss of the first batch in the other library and how far it is from that
    of the layers by hand, which have ours.
    """
    x, y = (array[: layers.batch] for array in layers.data())
    expected = by_hand(layers)(x, y)
    limit = TORCH_LIMIT if "torch" in peer.packages else None
    with Worker(peer, layers) as worker:
        loss = worker.first_batch()
        row = beside_trained(
            layers.case,
            layers.n_steps,
            layers_trainer(layers),
            worker.epoch,
            peer.name,
            repeats,
            limit,
        )
    return row | {"loss": loss, "loss_difference": abs(loss - expected) / expected}


SPIKING = {
    "spikes25": Layers(),
    "spikes100": Layers(n_steps=100, batches=3),
    "recurrent": Layers("recurrent", (700, 256, 20), n_steps=100, batches=4),
    "pictures": Layers("pictures", (784, 10), n_steps=10, batch=32, batches=6),
}
"""Spiking layers, by the names of their cases."""

CASES: dict[str, Callable[..., Row]] = {
    "loop": measure_loop,
    "checkpoints": measure_checkpoints,
    "layers": measure_feed_forward,
    "layers20": lambda **kw: measure_feed_forward(**{"n_steps": 20, "batches": 10, **kw}),
    **{
        name: lambda layers=layers, **kw: measure_spiking(layers, **kw)
        for name, layers in SPIKING.items()
    },
    "overhead": lambda **kw: measure_feed_forward(**{"sizes": (8, 8, 8, 2), **kw}),
}
"""Everything that the command measures, by name."""


@measurement(COLUMNS, NOTES, beside.goals_met, charts.ratio_bars)
def train(
    cases: Names | None = None, libraries: Names | None = None, repeats: int = 5
) -> Iterator[Row]:
    """Measure training beside TensorFlow, Keras, code by hand, and other libraries.

    Parameters
    ----------
    cases : list of str or None
        Any of loop, checkpoints, layers, layers20, spikes25, spikes100, recurrent,
        pictures, overhead.
    libraries : list of str or None
        Which to measure spiking layers beside: any of snntorch, spikingjelly, norse, jax,
        spyx; by default those that are installed.
    repeats : int
        Epochs of each.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If there is none of such a name.
    ModuleNotFoundError
        If a library that is named is not installed.
    """
    peers = chosen(libraries)
    for name in chosen_names("cases", cases, CASES):
        yield CASES[name](repeats=repeats)
        for peer in peers if name in SPIKING else ():
            yield measure_peer(SPIKING[name], peer, repeats)
