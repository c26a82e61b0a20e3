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
import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework import op_callbacks

from nengo_dl.runtime.tensorflow.random_numbers import OF_SEED, of_key

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
        return outputs


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
            return outputs if value is None else [self._in_shape(value, outputs[0])]
        if not _seen_from(graph, self._graph):
            return outputs
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
                place = self._places[id(ours)]
                step = tf.cast(inputs[2], place.dtype) * SKIPPED
                rest = tf.zeros(place.shape[0] - 1, place.dtype)
                self._places[id(ours)] = place + tf.concat([[step], rest], 0)
                return [place]
        return outputs


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
