"""What tests leave out of what makes programs fast; see CONTRIBUTING.rst."""

import gc
import os
import sys

#: environment variable: everything is compiled and optimized as it is for users
AS_USERS = "NENGO_DL_TESTS_AS_USERS"

#: flags of XLA: machine code that is not optimized
QUICK = "--xla_backend_optimization_level=0"


def compile_quickly():
    """Let XLA generate machine code without optimizing it, here and in child processes.

    In time before the first program is compiled.
    """
    if not os.environ.get(AS_USERS):
        os.environ.setdefault("XLA_FLAGS", QUICK)


def run_as_traced(yes=True):
    """Let TensorFlow run graphs without rewriting them, which takes longer than they do.

    Where results are compared to the digit, in all processes or in none of them.
    """
    if not os.environ.get(AS_USERS):
        import tensorflow as tf

        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": yes})


def collect_seldom():
    """Let the garbage collector look less often: traces make objects that stay."""
    gc.set_threshold(50_000, 20, 50)


def one_stack():
    """What lets TensorFlow note one Python stack, and not that of each operation.

    Stacks are deep here, of pytest, Keras and loops in loops, and to note each of them
    takes 6 to 9 % of the time of tests that train. They tell where an operation comes
    from in some of TensorFlow's own messages, and nowhere else.

    Returns
    -------
    tuple or None
        A module and what its function ``extract_stack`` is to be. None if TensorFlow is
        not imported, or another release has it elsewhere.
    """
    module = sys.modules.get("tensorflow.python.util.tf_stack")
    if not hasattr(module, "extract_stack"):
        return None
    stack = module.extract_stack()
    return module, lambda stacklevel=1: stack


def in_child():
    """What a process that a test starts to train in does before it traces.

    Stacks are noted as users have it: processes of their own have threads that end at any
    time, and one stack would belong to all of them.
    """
    collect_seldom()
    run_as_traced()
