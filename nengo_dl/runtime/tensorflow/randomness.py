"""Random numbers of TensorFlow functions and Keras layers: they follow the simulation.

TensorFlow's random operations keep a state inside, which can neither be read nor put
back, and which XLA has none of. Keras keeps it in variables, which belong to layers that
several simulators may share. In a simulation both are functions of a state of its own:
what a random operation would give is replaced by what the operation without a state
gives for the same arguments, and variables of seeds by variables of the simulation. So
the numbers depend on its seed and on how often the function was called, compiled or not.
"""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework import (
    op_callbacks,  # pyright: ignore[reportAttributeAccessIssue]  # no stub has it
)

# random numbers -----------------------------------------------------------------------
#
# Functions of a key, the same with and without XLA, which has the same source of random
# bits as TensorFlow, but makes other numbers of them. Here they are made of the bits as
# TensorFlow does it on a CPU, in operations that both have: uniform numbers and
# integers are the same to the last bit, others to rounding.

PHILOX = 1
"""TensorFlow's number of the algorithm; J. K. Salmon et al. (2011), Parallel random
numbers: as easy as 1, 2, 3, doi 10.1145/2063384.2063405."""

SMALLEST = 1e-7
"""Where TensorFlow cuts uniform numbers off before it takes their logarithm."""

TYPES = (tf.float32, tf.float64)
"""The types of floating point numbers that there are rules for."""


def from_seed(seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The key and the counter that TensorFlow makes of a seed of two integers."""
    return tf.raw_ops.StatelessRandomGetKeyCounter(seed=seed)


def bits(n: tf.Tensor, key: tf.Tensor, counter: tf.Tensor) -> tf.Tensor:
    """At least ``n`` numbers of 32 random bits each, in multiples of four."""
    return tf.raw_ops.StatelessRandomUniformFullIntV2(
        shape=[(n + 3) // 4 * 4], key=key, counter=counter, alg=PHILOX, dtype=tf.uint32
    )


def _unit(n: tf.Tensor, key: tf.Tensor, counter: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """At least ``n`` numbers in [0, 1): 23 or 52 bits after the point."""
    if dtype == tf.float32:
        whole = tf.bitwise.bitwise_and(bits(n, key, counter), 0x7FFFFF)
        return tf.cast(whole, dtype) * 2.0**-23
    pairs = tf.reshape(bits(2 * n, key, counter), (-1, 2))
    high = tf.cast(tf.bitwise.bitwise_and(pairs[:, 0], 0xFFFFF), dtype)
    return (high * 2.0**32 + tf.cast(pairs[:, 1], dtype)) * 2.0**-52


def uniform(
    shape: tf.Tensor, key: tf.Tensor, counter: tf.Tensor, dtype: tf.DType
) -> tf.Tensor:
    """Uniform between 0 and 1, ``tf.random.stateless_uniform``."""
    n = tf.reduce_prod(shape)
    return tf.reshape(_unit(n, key, counter, dtype)[:n], shape)


def normal(
    shape: tf.Tensor, key: tf.Tensor, counter: tf.Tensor, dtype: tf.DType
) -> tf.Tensor:
    """Normal with mean 0 and deviation 1, ``tf.random.stateless_normal``.

    By G. E. P. Box and M. E. Muller (1958), A note on the generation of random normal
    deviates, doi 10.1214/aoms/1177706645.
    """
    n = tf.reduce_prod(shape)
    pairs = tf.reshape(_unit((n + 1) // 2 * 2, key, counter, dtype), (-1, 2))
    radius = tf.sqrt(-2 * tf.math.log(tf.maximum(pairs[:, 0], SMALLEST)))
    angle = 2 * math.pi * pairs[:, 1]
    both = tf.stack([tf.sin(angle) * radius, tf.cos(angle) * radius], 1)
    return tf.reshape(tf.reshape(both, [-1])[:n], shape)


def truncated_normal(
    shape: tf.Tensor, key: tf.Tensor, counter: tf.Tensor, dtype: tf.DType
) -> tf.Tensor:
    """Normal within two deviations, by the inverse of its distribution."""
    edge = math.erf(math.sqrt(2))
    within = edge * (2 * uniform(shape, key, counter, dtype) - 1)
    return tf.clip_by_value(math.sqrt(2) * tf.math.erfinv(within), -2, 2)


def categories(
    logits: tf.Tensor, count: tf.Tensor, seed: tf.Tensor, dtype: tf.DType
) -> tf.Tensor:
    """``(batch, count)`` numbers of classes, ``tf.random.stateless_categorical``.

    Of each class the logit plus a random number with Gumbel's distribution; the largest
    one wins.
    """
    logits = tf.cast(logits, tf.float32)
    shape = tf.stack([tf.shape(logits)[0], count, tf.shape(logits)[1]])
    u = tf.maximum(uniform(shape, *from_seed(seed), tf.float32), SMALLEST)
    return tf.argmax(logits[:, None] - tf.math.log(-tf.math.log(u)), -1, dtype)


#: TensorFlow's operations of ``(shape, key, counter, algorithm)`` -> the same from here
OF_KEY: dict[str, Callable] = {
    "StatelessRandomUniformV2": uniform,
    "StatelessRandomNormalV2": normal,
    "StatelessTruncatedNormalV2": truncated_normal,
}


def of_key(op_type: str, inputs: Sequence, dtype: tf.DType) -> tf.Tensor | None:
    """What to take for the output of an operation without a state.

    None, if it is no random operation, or one that gives the same everywhere.
    """
    if op_type == "StatelessMultinomial":
        logits, number, seed = inputs
        return categories(logits, number, seed, dtype)
    if op_type not in OF_KEY or dtype not in TYPES:
        return None
    shape, key, counter, _ = inputs
    return OF_KEY[op_type](tf.cast(shape, tf.int32), key, counter, dtype)


def _full(shape: tf.Tensor, parameter: tf.Tensor) -> tf.Tensor:
    """The shape of samples for each entry of a parameter."""
    return tf.concat([tf.cast(shape, tf.int32), tf.shape(parameter)], 0)


def _of_shape(draw: Callable, other: Callable) -> Callable:
    """For an operation of a shape alone; ``other`` for types without a rule."""

    def call(inputs, dtype, seed):
        if dtype not in TYPES:
            return other(inputs[0], seed, dtype=dtype, alg="philox")
        return draw(tf.cast(inputs[0], tf.int32), *from_seed(seed), dtype)

    return call


def _gamma(inputs, dtype, seed):
    shape, alpha = inputs
    return tf.random.stateless_gamma(_full(shape, alpha), seed, alpha, dtype=dtype)


def _poisson(inputs, dtype, seed):
    shape, rate = inputs
    return tf.random.stateless_poisson(_full(shape, rate), seed, rate, dtype)


def _integers(inputs, dtype, seed):
    shape, low, high = inputs
    return tf.random.stateless_uniform(shape, seed, low, high, dtype, alg="philox")


def _parameterized(inputs, dtype, seed):
    return tf.random.stateless_parameterized_truncated_normal(
        inputs[0], seed, *inputs[1:]
    )


def _categories(inputs, dtype, seed):
    logits, number = inputs
    return categories(logits, number, seed, dtype)


def _shuffled(inputs, dtype, seed):
    shuffle = tf.random.experimental.stateless_shuffle  # pyright: ignore[reportAttributeAccessIssue]  # no stub has it
    return shuffle(inputs[0], seed, alg="philox")


#: TensorFlow's operations with a state -> the same of ``(inputs, dtype, seed)``
OF_SEED: dict[str, Callable] = {
    "RandomUniform": _of_shape(uniform, tf.random.stateless_uniform),
    "RandomStandardNormal": _of_shape(normal, tf.random.stateless_normal),
    "TruncatedNormal": _of_shape(truncated_normal, tf.random.stateless_truncated_normal),
    "RandomUniformInt": _integers,
    "ParameterizedTruncatedNormal": _parameterized,
    "RandomGamma": _gamma,
    "RandomPoissonV2": _poisson,
    "Multinomial": _categories,
    "RandomShuffle": _shuffled,
}


SPREAD = 2654435761
"""What the seeds of two operations in one function differ by."""

SKIPPED = 256
"""How many numbers of a `tf.random.Generator` are set aside for each one drawn."""

GENERATOR = "RngReadAndSkip"
"""The operation with which a `tf.random.Generator` takes the next numbers."""


def is_seed(variable: Any) -> bool:
    """Whether a Keras variable is the state of a ``keras.random.SeedGenerator``."""
    return variable.name.endswith("seed_generator_state") and tuple(variable.shape) == (
        2,
    )


class Found:
    """Notes which random operations a function consists of, while it is tried out.

    Attributes
    ----------
    operations : bool
        Whether there are random operations with a state inside.
    keyed : bool
        Whether there are others.
    generators : list of tf.Tensor
        The resources in which every `tf.random.Generator` that it uses has its state.
    hidden : bool
        Whether some are where they cannot be replaced.
    """

    def __init__(self) -> None:
        self.operations = self.keyed = self.hidden = False
        self.generators: list = []
        self._graph = None

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Context of a call of the function, in the graph that it is called in."""
        self._graph = tf.compat.v1.get_default_graph()
        with _looked_at(self._note):
            yield

    def _note(self, op_type, inputs, attrs, outputs, op_name=None, graph=None):
        if op_type in OF_SEED:
            if _seen_from(graph, self._graph):
                self.operations = True
            else:
                self.hidden = True
        elif op_type.startswith("Stateless"):
            self.keyed = True
        elif op_type == GENERATOR:
            handle = outermost(inputs[0], graph)
            if graph is self._graph and handle is not None:
                if all(handle is not known for known in self.generators):
                    self.generators.append(handle)
            else:
                self.hidden = True
        return list(outputs)  # TensorFlow gives a tuple, and its functions give lists


@contextlib.contextmanager
def _looked_at(callback: Callable) -> Iterator[None]:
    """Have TensorFlow show every operation of this thread as it is added to a graph."""
    op_callbacks.add_op_callback(callback)
    try:
        yield
    finally:
        op_callbacks.remove_op_callback(callback)


def _seen_from(graph: Any, ours: Any) -> bool:
    """Whether a graph is ours, or a branch of a condition in it.

    What is repeated in a loop of the user's would give the same numbers each time, and
    what is in a ``tf.function`` of the user's may be called from elsewhere.
    """
    while graph is not ours:
        if not type(graph).__name__.startswith("CondBranch"):
            return False
        graph = graph.outer_graph
    return True


def outermost(tensor: Any, graph: Any) -> Any:
    """The tensor outside of all graphs that one inside stands for; None if none does."""
    while graph is not None and hasattr(graph, "internal_captures"):
        pairs = zip(graph.external_captures, graph.internal_captures, strict=True)
        outside = [external for external, inner in pairs if inner.name == tensor.name]
        if not outside:
            return None
        tensor, graph = outside[0], graph.outer_graph
        if isinstance(tensor, tf.__internal__.EagerTensor):
            return tensor
    return None


class RandomStates:
    """The random state of one function in one simulation.

    Parameters
    ----------
    found : Found
    seeds : list of keras.Variable
        The states of all ``keras.random.SeedGenerator`` that the function reads.
    own : set of int
        ``id`` of those that the user gave a seed.

    Attributes
    ----------
    variables : list of keras.Variable
        What it consists of.
    """

    def __init__(self, found: Found, seeds: Sequence, own: set[int]) -> None:
        self._found = found
        with tf.init_scope():
            #: the user's variable, ours, and its first value if the user gave a seed
            self._seeds = [
                (v, _variable(first), first if id(v) in own else None)
                for v in seeds
                for first in [v.numpy()]
            ]
            self._generators = [
                (handle, _variable(first), first)
                for handle in found.generators
                for first in [_read(handle)]
            ]
            zeros = np.zeros(2, np.int64)
            self._counter = _variable(zeros) if found.operations else None
        self._places: dict[int, tf.Tensor] = {}
        self._graph, self._number, self._state = None, 0, None

    @property
    def variables(self) -> list:
        """All variables that hold the state of random numbers."""
        own = [] if self._counter is None else [self._counter]
        return [*own, *(ours for _, ours, _ in (*self._seeds, *self._generators))]

    def restart(self, entropy: Sequence[int]) -> None:
        """Start all random numbers as at the beginning of a simulation.

        Parameters
        ----------
        entropy : sequence of int
            What the numbers are to depend on.
        """
        words = np.random.SeedSequence(entropy).generate_state(1 + len(self._seeds))
        # as Keras: the first number below what fits in any type, the second counts
        words = words % np.uint32(2**30)
        with tf.init_scope():  # at once, also if a graph is being made
            if self._counter is not None:
                self._counter.assign(np.array([words[0], 0]))
            for (_, ours, first), word in zip(self._seeds, words[1:], strict=True):
                ours.assign(np.array([word, 0]) if first is None else first)
            for _, ours, first in self._generators:
                ours.assign(first)

    def as_layers_would(self) -> None:
        """Go on with what the user's own generators would draw next."""
        for users, ours, _ in self._seeds:
            ours.assign(users.numpy())

    def in_place_of(self, values: Sequence[tuple]) -> list[tuple]:
        """What Keras is to read in place of the seeds of the user's generators.

        Parameters
        ----------
        values : list of (variable, tensor)
            Of our variables, as far as they are not to be read where they are.
        """
        given = {id(variable): tensor for variable, tensor in values}
        return [
            (users, given.get(id(ours), tf.convert_to_tensor(ours.value)))
            for users, ours, _ in self._seeds
        ]

    def updates(self, scope: Any) -> list[tuple]:
        """What our variables become, after a call in a scope: (variable, tensor)."""
        after = [(ours, scope.get_current_value(u)) for u, ours, _ in self._seeds]
        after = [(ours, value) for ours, value in after if value is not None]
        if self._counter is not None:
            after.append((self._counter, self._state + np.array([0, 1])))
        after += [(v, self._places[id(v)]) for _, v, _ in self._generators]
        return after

    @contextlib.contextmanager
    def replacing(self, values: Sequence[tuple]) -> Iterator[None]:
        """Context of a call whose random operations get their numbers from our state.

        Parameters
        ----------
        values : list of (variable, tensor)
            As of `in_place_of`.
        """
        if not (self._found.keyed or self._found.operations):
            yield
            return
        given = {id(variable): tensor for variable, tensor in values}

        def now(variable):
            return given.get(id(variable), tf.convert_to_tensor(variable.value))

        if self._counter is not None:
            self._state = now(self._counter)
        self._places = {id(v): now(v) for _, v, _ in self._generators}
        self._graph, self._number = tf.compat.v1.get_default_graph(), 0
        with _looked_at(self._replace):
            yield

    def _replace(self, op_type, inputs, attrs, outputs, op_name=None, graph=None):
        """Take numbers of ours for the outputs of an operation, if it is random."""
        if op_type == GENERATOR and graph is self._graph:
            return self._from_generator(inputs, outputs, graph)
        draw = OF_SEED.get(op_type)
        if draw is None:
            value = of_key(op_type, inputs, outputs[0].dtype) if outputs else None
            return list(outputs) if value is None else [self._in_shape(value, outputs[0])]
        if not _seen_from(graph, self._graph):
            return list(outputs)
        seed = self._state + np.array([self._number * SPREAD, 0])
        self._number += 1
        value = draw(inputs, outputs[0].dtype, seed)
        return [self._in_shape(value, outputs[0])]

    @staticmethod
    def _in_shape(value, output):
        value.set_shape(output.shape)
        return value

    def _from_generator(self, inputs, outputs, graph):
        handle = outermost(inputs[0], graph)
        for known, ours, _ in self._generators:
            if known is handle:
                place: Any = self._places[id(ours)]
                step = tf.cast(inputs[2], place.dtype) * SKIPPED
                rest = tf.zeros(place.shape[0] - 1, place.dtype)
                self._places[id(ours)] = place + tf.concat([[step], rest], 0)
                return [place]
        return list(outputs)


def _variable(value: np.ndarray) -> keras.Variable:
    """A Keras variable for integers."""
    dtype = value.dtype.name
    return keras.Variable(value, dtype=dtype, trainable=False, name="random_state")


def _read(handle: Any) -> np.ndarray:
    """The state of a `tf.random.Generator`."""
    return tf.raw_ops.ReadVariableOp(resource=handle, dtype=tf.int64).numpy()


# what users gave a seed ---------------------------------------------------------------


def own_seeds(function: Any) -> set[int]:
    """``id`` of the states of all Keras generators that the user gave a seed.

    Parameters
    ----------
    function : callable
        A Keras layer, or a function that calls layers or uses generators.
    """
    found: set[int] = set()
    for obj in _reachable(function, 3):
        if isinstance(obj, keras.random.SeedGenerator):
            generators = [obj]
        elif isinstance(obj, keras.layers.Layer):
            parts = obj._flatten_layers()
            generators = [g for part in parts for g in part._seed_generators]
        else:
            continue
        found |= {id(g.state) for g in generators if g.get_config()["seed"] is not None}
    return found


def _reachable(obj: Any, depth: int) -> Iterator[Any]:
    """An object, and what it obviously uses."""
    yield obj
    if depth == 0 or isinstance(obj, keras.layers.Layer | str | bytes | np.ndarray):
        return
    inner: list = []
    if isinstance(obj, partial):
        inner = [obj.func, *obj.args, *obj.keywords.values()]
    elif isinstance(obj, list | tuple | set):
        inner = list(obj)
    elif isinstance(obj, dict):
        inner = list(obj.values())
    elif hasattr(obj, "__code__"):
        cells = [cell for cell in obj.__closure__ or () if cell is not None]
        inner = [c.cell_contents for c in cells if not _is_empty(c)]
        inner += [obj.__globals__.get(name) for name in obj.__code__.co_names]
        inner += [*(obj.__defaults__ or ()), *(obj.__kwdefaults__ or {}).values()]
    elif hasattr(obj, "__func__"):
        inner = [obj.__func__, obj.__self__]
    elif hasattr(obj, "__dict__") and not isinstance(obj, type(random)):
        inner = list(vars(obj).values())
        inner += [vars(type(obj)).get("__call__")]
    for one in inner:
        yield from _reachable(one, depth - 1)


def _is_empty(cell: Any) -> bool:
    try:
        return cell.cell_contents is None
    except ValueError:
        return True


# first weights ------------------------------------------------------------------------


def seed_of_process() -> int | None:
    """The seed given to ``keras.utils.set_random_seed``; None if it was not called."""
    try:
        from keras.src.backend.common import global_state
    except ImportError:  # it has no public name
        return None
    return global_state.get_global_attribute("global_random_seed")


@contextlib.contextmanager
def first_weights(layer: Any, entropy: Sequence[int] | None) -> Iterator[None]:
    """Context in which a layer is built with weights that follow a seed.

    Initializers to which the user gave a seed keep it, and so does everything that Keras
    makes after `keras.utils.set_random_seed`.

    Parameters
    ----------
    layer : keras.layers.Layer
    entropy : sequence of int or None
        None: as Keras sees fit.
    """
    if entropy is None or seed_of_process() is not None:
        yield
        return
    words = iter(np.random.SeedSequence(entropy).generate_state(1000).tolist())
    for part in layer._flatten_layers():
        for value in list(vars(part).values()):
            unseeded = getattr(value, "_init_seed", value) is None
            if unseeded and isinstance(getattr(value, "seed", None), int):
                value.seed = next(words, 0) % 2**30
    # what is made while it is built takes its seed from here
    before = random.getstate()
    random.seed(next(words, 1))
    try:
        yield
    finally:
        random.setstate(before)
