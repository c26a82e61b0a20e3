"""Spiking layers in other libraries that train them, each in a process of its own.

The layers of `nengo_dl.benchmarks.networks.spiking_layers` with the same weights, in the
way that the documentation of each library shows. A library is one entry of `PEERS` and
one function that makes its training; nothing here needs any of them to be installed.

Processes of their own keep the threads of one library from waiting beside those of
another, and let each have the memory that it takes.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import multiprocessing
import time
from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import numpy as np

from nengo_dl.benchmarks.networks.spiking_layers import random_weights
from nengo_dl.benchmarks.timing import chosen_names

Training = Callable[[np.ndarray, np.ndarray], float]
"""Trains with one batch, inputs ``(items, steps, n)`` and the class of each item, and
returns the loss that it had before."""

LEARNING_RATE = 1e-3
"""Of Adam, whose other parameters are those of Keras everywhere."""

EPSILON = 1e-7
"""What Keras' Adam divides by at least; other libraries take 1e-8 by default."""


@dataclasses.dataclass(frozen=True)
class Layers:
    """Spiking layers, and how much there is to train them with.

    Parameters
    ----------
    kind : str
        See `.networks.spiking_layers`.
    sizes : tuple of int
        Of the input, of the layers and of the output.
    n_steps : int
        Steps of each item.
    batch : int
        Items that run side by side.
    batches : int
        Batches of an epoch.
    """

    kind: str = "perceptron"
    sizes: tuple[int, ...] = (784, 256, 128, 10)
    n_steps: int = 25
    batch: int = 64
    batches: int = 8

    @property
    def case(self) -> str:
        """What is trained, in a table."""
        return f"{self.kind} {'-'.join(map(str, self.sizes))}, T={self.n_steps}"

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Spikes ``(items, steps, n)``, one in ten steps, and a class for each item."""
        rng, items = np.random.RandomState(1), self.batch * self.batches
        x = rng.rand(items, self.n_steps, self.sizes[0]) < 0.1
        return x.astype(np.float32), rng.randint(self.sizes[-1], size=items)

    def weights(self) -> list[np.ndarray]:
        """The weights that all start with, see `.random_weights`."""
        arrays = random_weights(self.kind, self.sizes)
        return [array.astype(np.float32) for array in arrays]


@dataclasses.dataclass(frozen=True)
class Peer:
    """A library.

    Parameters
    ----------
    title : str
        What it is called in tables.
    packages : tuple of str
        What has to be installed, the library itself first.
    function : str
        ``"module:function"``: makes its `Training` of `Layers`.
    """

    title: str
    packages: tuple[str, ...]
    function: str

    @property
    def installed(self) -> bool:
        """Whether all that it needs is there."""
        return all(find_spec(package) for package in self.packages)

    @property
    def name(self) -> str:
        """The library with its version."""
        return f"{self.title} {version(self.packages[0])}"

    def make(self, layers: Layers) -> Training:
        """Make the training of some layers, in this process."""
        module, name = self.function.split(":")
        return getattr(import_module(module), name)(layers)


_HERE = __name__

PEERS = {
    "snntorch": Peer("snnTorch", ("snntorch", "torch"), f"{_HERE}.in_torch:snntorch"),
    "spikingjelly": Peer(
        "SpikingJelly", ("spikingjelly", "torch"), f"{_HERE}.in_torch:spikingjelly"
    ),
    "norse": Peer("Norse", ("norse", "torch"), f"{_HERE}.in_torch:norse"),
    "jax": Peer("JAX by hand", ("jax", "optax"), f"{_HERE}.in_jax:by_hand"),
    "spyx": Peer("Spyx", ("spyx", "jax", "optax"), f"{_HERE}.in_jax:spyx"),
}
"""All libraries, by the name that chooses them."""


def chosen(libraries: Iterable[str] | None) -> list[Peer]:
    """Libraries by name; by default all that are installed.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If a name is unknown.
    ModuleNotFoundError
        If one that is named is not installed.
    """
    if libraries is None:
        return [peer for peer in PEERS.values() if peer.installed]
    peers = [PEERS[name] for name in chosen_names("libraries", libraries, PEERS)]
    for peer in peers:
        if not peer.installed:
            packages = " ".join(peer.packages)
            raise ModuleNotFoundError(
                f"{peer.title} is not installed; it needs the packages {packages} "
                f"(python -m pip install {packages})"
            )
    return peers


class Worker:
    """A process in which one library trains, whenever it is its turn.

    Parameters
    ----------
    peer : Peer
    layers : Layers

    Examples
    --------
    >>> with Worker(PEERS["jax"], Layers()) as worker:  # doctest: +SKIP (needs JAX)
    ...     worker.epoch()
    9.2
    """

    def __init__(self, peer: Peer, layers: Layers) -> None:
        context = multiprocessing.get_context("spawn")
        self._pool = concurrent.futures.ProcessPoolExecutor(1, mp_context=context)
        self._pool.submit(_start, peer, layers).result()

    def first_batch(self) -> float:
        """Train with the first batch; the loss that it had before."""
        return self._pool.submit(_first_batch).result()

    def epoch(self) -> float:
        """Train for an epoch; milliseconds for each batch."""
        return self._pool.submit(_epoch).result()

    def close(self) -> None:
        """End the process."""
        self._pool.shutdown()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()


class Epochs:
    """What the process of a `Worker` does.

    Parameters
    ----------
    train : callable
        A `Training`.
    layers : Layers
        What it is made for.
    """

    def __init__(self, train: Training, layers: Layers) -> None:
        self.train, n = train, layers.batch
        x, y = layers.data()
        self.batches = [(x[i : i + n], y[i : i + n]) for i in range(0, len(x), n)]

    def __call__(self) -> float:
        """Train with all batches once; milliseconds for each."""
        started = time.perf_counter()
        for x, y in self.batches:
            self.train(x, y)
        return (time.perf_counter() - started) / len(self.batches) * 1e3


_running: list[Epochs] = []
"""In the process of a worker: what it does."""


def _start(peer: Peer, layers: Layers) -> None:
    """In the process: make the training."""
    _running.append(Epochs(peer.make(layers), layers))


def _first_batch() -> float:
    """In the process: one batch, the first one; the loss that it had before."""
    return _running[-1].train(*_running[-1].batches[0])


def _epoch() -> float:
    """In the process: an epoch."""
    return _running[-1]()
