"""Python functions that TensorFlow calls: how long they last, and what they raise.

What ``tf.numpy_function`` calls, TensorFlow keeps in the outermost graph, which lasts
until the process ends; and with the function whatever it refers to, such as the network.
Here it is kept by the graphs that it is called in, and by data sets that it makes.
"""

from __future__ import annotations

import contextlib
import threading
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
    there: Any = weakref.ref(held)
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
    data: Any = tf.data.Dataset.from_generator(_weakly(held), output_signature=signature)
    # Nothing here runs in parallel and could be tuned. The thread that would tune it may
    # miss that its iterator ends, and lets what deletes the iterator, the garbage
    # collector perhaps, wait for as long as the data have been read, up to a minute.
    options = tf.data.Options()
    options.autotune.enabled = False
    data = data.with_options(options)
    data._nengo_dl_elements = held
    return data


# errors -------------------------------------------------------------------------------
#
# TensorFlow turns what a ``tf.py_function`` raises, in a loss, a metric or the fetching
# of data, into an error of its own, which has the text of the original and nothing else
# of it.

_lock = threading.Lock()
_watching: list[list[Raised]] = []  # what was raised, for each that watches


class Raised:
    """An exception as it was raised: others may give it another cause."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self._cause, self._context = error.__cause__, error.__context__
        self._suppressed = error.__suppress_context__

    def again(self) -> None:
        """Raise the exception once more, as it was."""
        try:
            raise self.error
        finally:
            self.error.__cause__ = self._cause
            self.error.__context__ = self._context
            self.error.__suppress_context__ = self._suppressed


def _noting(call):
    """The call of any Python function, with a note of what it raises."""

    def noting(registry, token, device, args):
        try:
            return call(registry, token, device, args)
        except StopIteration:  # how generators end
            raise
        except BaseException as error:
            with _lock:
                for raised in _watching:
                    raised.append(Raised(error))
            raise

    return noting


@contextlib.contextmanager
def _noticed(raised: list[Raised]) -> Iterator[None]:
    """Have everything noted that Python functions raise while TensorFlow calls them."""
    try:  # it has no public name
        from tensorflow.python.ops.script_ops import FuncRegistry
    except ImportError:
        yield
        return
    with _lock:
        if not _watching:
            FuncRegistry._plain_call = FuncRegistry.__call__
            FuncRegistry.__call__ = _noting(FuncRegistry.__call__)
        _watching.append(raised)
    try:
        yield
    finally:
        with _lock:
            _watching[:] = [other for other in _watching if other is not raised]
            if not _watching:
                FuncRegistry.__call__ = FuncRegistry._plain_call
                del FuncRegistry._plain_call


@contextlib.contextmanager
def original_errors() -> Iterator[None]:
    """Context of calls of TensorFlow: what a Python function raised comes out as it is.

    Its cause and its context are those that it was raised with.

    Examples
    --------
    >>> def fail(x):
    ...     raise KeyError("x")
    >>> try:
    ...     with original_errors():
    ...         tf.py_function(fail, [1.0], tf.float32)
    ... except KeyError as error:
    ...     print(error)
    'x'
    """
    raised: list[Raised] = []
    with _noticed(raised):
        try:
            yield
            return
        except (tf.errors.OpError, SystemError) as error:
            names = [r for r in raised if type(r.error).__name__ in str(error)]
            found = (names or raised or [None])[0]
            if found is None:
                raise
    found.again()
