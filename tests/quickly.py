"""What tests leave out of what makes programs fast; see CONTRIBUTING.rst."""

import os

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
