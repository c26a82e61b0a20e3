"""What TensorFlow and Keras were told, for a process or a thread, looked up without them.

``tf.debugging.enable_check_numerics`` and ``enable_dump_debug_info`` put operations into
every program that XLA knows nothing of. With ``jit="auto"`` programs then run without it.
With ``tf.config.experimental.enable_op_determinism`` Keras compiles no training step.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from nengo_dl.notices import warn

# for the process ----------------------------------------------------------------------


def may_compile(jit: Any) -> bool:
    """Whether a program may be compiled, as far as that depends on the process.

    Parameters
    ----------
    jit : bool or "auto"
        The setting. True: the user wants to see what becomes of it.

    Warns
    -----
    UserWarning
        Once, if "auto" steps back.
    """
    if jit is not True and "tensorflow" in sys.modules and not _xla_works():
        if jit == "auto":
            warn(
                "TensorFlow was told to look into every operation (tf.debugging."
                "enable_check_numerics or enable_dump_debug_info), which XLA cannot "
                "compile. Networks run without it, and more slowly; "
                "tf.debugging.disable_check_numerics() ends that",
                once="switches of TensorFlow",
            )
        return False
    return True


def deterministic() -> bool:
    """Whether TensorFlow was told to run deterministic operations only.

    Keras then compiles no training step, and warns in each ``fit`` that asks for one.
    """
    import tensorflow  # noqa: F401  (what follows is a part of it)

    try:
        from tensorflow.python.framework import (
            config,  # pyright: ignore[reportAttributeAccessIssue]  # no stub has it
        )

        return bool(config.is_op_determinism_enabled())
    except (ImportError, AttributeError):
        return False


def _xla_works() -> bool:
    """Whether XLA compiles a program of the simplest kind."""
    import tensorflow as tf

    if not _looked_into():
        return True
    program = tf.function(lambda x: tf.tanh(x) + 1, jit_compile=True, autograph=False)
    try:
        program(tf.zeros(2))
    except (tf.errors.OpError, ValueError):
        return False
    return True


def _looked_into() -> bool:
    """Whether something is called for each operation; True if that cannot be told."""
    try:
        from tensorflow.python.eager import context

        return bool(context.context().op_callbacks)
    except (ImportError, AttributeError):
        return True


# settings that several users share ------------------------------------------------------
#
# These are settings of the process, which several simulators may want to have at a
# time, in ``with`` blocks that do not end in the order in which they began. So their
# users are counted: the one that came last has its way, and when all are gone
# everything is as before.


class Shared:
    """A setting that several users want to have in their own way.

    Parameters
    ----------
    get, set : callable
        Read and write it.
    """

    def __init__(self, get: Callable[[], Any], set: Callable[[Any], None]) -> None:
        self._get, self._set = get, set
        self._uses: list[list] = []
        self._before: Any = None
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def being(self, value: Any) -> Iterator[None]:
        """Inside, it has a value, unless somebody who came later wants another one."""
        use = [value]
        with self._lock:
            if not self._uses:
                self._before = self._get()
            self._uses.append(use)
            self._set(value)
        try:
            yield
        finally:
            with self._lock:
                last = self._uses[-1] is use
                self._uses = [other for other in self._uses if other is not use]
                if last:
                    self._set(self._uses[-1][0] if self._uses else self._before)


def _precision() -> Any:
    import tensorflow as tf

    return tf.config.experimental


#: Whether products and convolutions of float32 numbers may be rounded to TensorFloat-32,
#: which has a mantissa of 10 bits, not 23: on NVIDIA GPUs since Ampere they are by
#: default, and results then differ from those of a CPU by some 3e-4 of their size (NVIDIA
#: A100 Tensor Core GPU Architecture, 2020, "TensorFloat-32").
tensor_float_32 = Shared(
    lambda: _precision().tensor_float_32_execution_enabled(),
    lambda value: _precision().enable_tensor_float_32_execution(value),
)


# for a thread -------------------------------------------------------------------------
#
# What is made on first use may be needed first inside a ``tf.function``, under a gradient
# tape, in a distribution or name scope. All of these belong to a thread: so where there
# is one of them, a thread of its own makes it.


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
