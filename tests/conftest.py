"""What all tests share: how many threads a test process may use, and no windows."""

import gc
import glob
import os
import sys
from importlib.util import find_spec

import nengo
import pytest

from nengo_dl import notices
from nengo_dl.runtime.executor import executors
from tests import quickly

# TensorFlow and the BLAS behind NumPy start one thread per core in every process.
THREAD_VARIABLES = (
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
)


def pytest_configure(config):
    """Share the cores among the test processes, and collect garbage seldom.

    The main process runs this before it starts the workers, and they inherit its
    environment, so it is in time even for libraries that a pytest plugin imports.

    The garbage collector is to look less often: imports and traces make millions of
    objects that stay. What is left of a module of tests is collected at its end.

    What is compiled here runs a few steps, so XLA turns it into machine code without
    optimizing that; CONTRIBUTING.rst says what is checked with code as users have it.
    """
    quickly.collect_seldom()
    if hasattr(config, "workerinput"):
        return
    os.environ.setdefault("MPLBACKEND", "Agg")  # figures without windows
    processes = config.getoption("numprocesses", default=None) or 1
    threads = max(1, (os.cpu_count() or 1) // processes)
    for variable in THREAD_VARIABLES:
        os.environ.setdefault(variable, str(threads))
    # where there is a GPU, all test processes share its memory
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    quickly.compile_quickly()


def pytest_collection_modifyitems(items):
    """Begin with the tests that train.

    Processes that share the tests are given long stretches of them at first and two at a
    time at last, so that both make what the tests of a module have in common. That is
    dear where tests train, and cheap elsewhere.
    """
    items.sort(key=lambda item: "training" not in item.path.parts)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Skip what asks for machine code, where llvmlite is not installed.

    Not every Python and machine has a wheel of it, and the package is to pass its tests
    there, too: all those that leave the choice of an executor to the package, or take
    another one.
    """
    try:
        return (yield)
    except Exception as error:
        if find_spec("llvmlite") is None and "llvmlite" in str(error):
            pytest.skip(f"this test runs machine code ({error})")
        raise


@pytest.fixture(autouse=True, scope="session")
def single_precision():
    """Let Keras compute in float32 on a GPU, too, where tests compare with it."""
    if not glob.glob("/dev/nvidia[0-9]*"):
        yield  # and do not wait for TensorFlow
        return
    import tensorflow as tf

    tf.config.experimental.enable_tensor_float_32_execution(False)
    yield
    tf.config.experimental.enable_tensor_float_32_execution(True)


@pytest.fixture(autouse=True, scope="module")
def set_aside():
    """Let the garbage collector leave alone what is there after a module of tests.

    Compiled programs, with the graphs that they were traced as, stay until the process
    ends. They are millions of objects, and each full collection would look at them all:
    that took a seventh of the time of a few modules, and more in the whole suite.
    """
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def one_stack_for_all_operations():
    """Let TensorFlow note one Python stack, and not that of each operation of a graph.

    See `.quickly.one_stack`.
    """
    found = quickly.one_stack()
    if found is None:
        yield  # not imported, or another release has it elsewhere
        return
    module, function = found
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "extract_stack", function)
        yield


@pytest.fixture(autouse=True, scope="module")
def graphs_run_as_they_are_traced():
    """Let TensorFlow run graphs without rewriting them, which takes longer than they do.

    That was a seventh of the time of tests that train.
    """
    if not hasattr(sys.modules.get("tensorflow"), "config"):
        yield  # not imported
        return
    quickly.run_as_traced()
    yield
    quickly.run_as_traced(False)


@pytest.fixture(autouse=True, scope="module")
def nothing_tunes_data():
    """Let no thread of TensorFlow tune how the data of a test are read.

    Each iterator over data has one, which sleeps between its looks at them: twice as long
    each time, up to a minute. It is woken when the iterator is deleted, but may look for
    the reason before that is written, and then sleeps on. What deletes the iterator waits
    for it, mostly the garbage collector in a later test: for two minutes on busy cores.
    """
    dataset_ops = sys.modules.get("tensorflow.python.data.ops.dataset_ops")
    data = getattr(dataset_ops, "DatasetV2", None)
    if not hasattr(data, "_apply_debug_options"):
        yield  # not imported, or another release has it elsewhere
        return
    as_read = data._apply_debug_options
    options = dataset_ops.options_lib.Options()
    options.autotune.enabled = False
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            data, "_apply_debug_options", lambda self: as_read(self).with_options(options)
        )
        yield


@pytest.fixture(autouse=True, scope="session")
def no_decoder_cache():
    """Solve decoders anew: a cache on disk would be shared by all test processes."""
    before = nengo.rc.get("decoder_cache", "enabled")
    nengo.rc.set("decoder_cache", "enabled", "False")
    yield
    nengo.rc.set("decoder_cache", "enabled", before)


@pytest.fixture(autouse=True)
def nothing_said_before():
    """Each test gets all warnings, also those that are given once for a process."""
    notices.forget()
    yield


@pytest.fixture
def no_machine_code(monkeypatch):
    """As where llvmlite is not installed: the number of steps decides what runs."""
    kind = executors.find("native")
    # of the class: what is put back into an object stays there, and hides the class's
    monkeypatch.setattr(type(kind), "missing", lambda self: "llvmlite is left out")
