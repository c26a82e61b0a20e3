"""Python functions in TensorFlow's graphs that go when the graphs go.

What ``tf.numpy_function`` calls, TensorFlow keeps in the outermost graph, which lasts
until the process ends; and with the function whatever it refers to, such as the network.
Here it is kept by the graphs that it is called in, and by data sets that it makes.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf


class _Held:
    """A function that somebody holds on to."""

    def __init__(self, function: Callable) -> None:
        self.function = function


def _weakly(held: _Held) -> Callable:
    """The function of ``held``, which has to be there when it is called."""
    there = weakref.ref(held)
    return lambda *args: there().function(*args)


@tf.autograph.experimental.do_not_convert
def numpy_function(
    function: Callable, inputs: Sequence[Any], types: Any
) -> tf.Tensor | list[tf.Tensor]:
    """``tf.numpy_function``, of a function that lasts as long as the present graphs.

    Parameters
    ----------
    function : callable
        Of arrays.
    inputs : list of tensor
    types : dtype or list of dtype
        Of what it returns.
    """
    if tf.executing_eagerly():
        return tf.numpy_function(function, inputs, types)
    held = _Held(function)
    graph = tf.compat.v1.get_default_graph()
    while hasattr(graph, "outer_graph"):  # all but the outermost
        # loops and conditions have graphs of their own, which go before the one around
        graph._nengo_dl_functions = [*getattr(graph, "_nengo_dl_functions", ()), held]
        graph = graph.outer_graph
    return tf.numpy_function(_weakly(held), inputs, types)


def of_generator(elements: Callable[[], Iterator], signature: Any) -> tf.data.Dataset:
    """``tf.data.Dataset.from_generator``, of a function that lasts as long as the data.

    Parameters
    ----------
    elements : callable
        Makes the generator.
    signature : nested tuples and dicts of tf.TypeSpec
        What it yields.
    """
    held = _Held(elements)
    data = tf.data.Dataset.from_generator(_weakly(held), output_signature=signature)
    data._nengo_dl_elements = held
    return data
