"""Making things apart from the context of whoever needs them first.

What is made on first use may be needed first inside a ``tf.function``, under a gradient
tape, in a distribution or name scope. All of these belong to a thread: so where there is
one of them, a thread of its own makes it.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any


def in_a_program() -> bool:
    """Whether TensorFlow or Keras would take down what is called, not compute it."""
    tf, keras = sys.modules.get("tensorflow"), sys.modules.get("keras")
    if tf is None or not hasattr(tf, "executing_eagerly"):
        return False
    if not tf.executing_eagerly() or tf.distribute.has_strategy():
        return True
    return keras is not None and _of_keras("stateless_scope") is not None


def is_recorded() -> bool:
    """Whether a gradient tape looks at what is called.

    Training steps would be differentiated a second time. ``tf.init_scope`` is no way
    out: it also blinds the tape by which a training step finds its own gradients.
    """
    record = sys.modules.get("tensorflow.python.eager.record")
    could_record = getattr(record, "could_possibly_record", None)
    return could_record is not None and bool(could_record())


def in_a_scope() -> bool:
    """Whether new things would get names or a place from around."""
    tf = sys.modules.get("tensorflow")
    if tf is None or not hasattr(tf, "executing_eagerly"):
        return False
    named = tf.get_current_name_scope() or _of_keras("name_scope_stack")
    return bool(named) or in_a_program()


def _of_keras(attribute: str) -> Any:
    """Something that Keras keeps for each thread; None if there is none."""
    state = sys.modules.get("keras.src.backend.common.global_state")
    return None if state is None else state.get_global_attribute(attribute)


def apart(function: Callable, *args: Any, **kwargs: Any) -> Any:
    """Call a function in a thread of its own, and wait for its end.

    Raises
    ------
    BaseException
        What the function raises.
    """
    result: list = []

    def call() -> None:
        try:
            result.extend([function(*args, **kwargs), None])
        except BaseException as error:
            result.extend([None, error])

    thread = threading.Thread(target=call, name="nengo_dl", daemon=True)
    thread.start()
    thread.join()
    value, error = result
    if error is not None:
        raise error
    return value
