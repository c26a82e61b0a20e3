"""What TensorFlow was told for the whole process that XLA cannot do.

``tf.debugging.enable_check_numerics`` and ``enable_dump_debug_info`` put operations into
every program that XLA knows nothing of. With ``jit="auto"`` programs then run without it.
With ``tf.config.experimental.enable_op_determinism`` Keras compiles no training step.
"""

from __future__ import annotations

import sys
from typing import Any

from nengo_dl.notices import warn


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
