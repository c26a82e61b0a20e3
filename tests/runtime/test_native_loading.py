"""LLVM is loaded beside the build of a simulator, and nothing depends on it."""

import os
import subprocess
import sys
import threading

import nengo
import pytest

import nengo_dl
from nengo_dl.runtime.choice import look_ahead
from nengo_dl.runtime.native import loading
from tests.runtime.native_code import pytestmark_native

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


def script(text):
    """Run a script in a process that has loaded nothing yet."""
    subprocess.run([sys.executable, "-c", text], check=True, timeout=120)


@pytestmark_native
@linux
def test_the_library_is_loaded_and_python_imports_nothing():
    script(
        """
import sys
from nengo_dl.runtime.native import loading
loading.processors = lambda: 2

def loaded():
    return "libllvmlite" in open("/proc/self/maps").read()

assert not loaded()
loading.begin()
loading.wait()
assert loaded()
assert not [name for name in sys.modules if name.startswith("llvmlite")]
import llvmlite.binding as llvm
assert llvm.llvm_version_info[0] >= 19
"""
    )


@pytestmark_native
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_a_process_may_fork_meanwhile():
    script(
        """
import os
from nengo_dl.runtime.native import loading
from nengo_dl.runtime.native.compile import available

loading.processors = lambda: 2
loading.begin()
child = os.fork()
if not child:
    os._exit(0 if available() is None else 1)
assert os.waitpid(child, 0)[1] == 0
assert available() is None
"""
    )


def test_without_llvmlite_nothing_is_begun():
    script(
        """
import sys, threading
sys.modules["llvmlite"] = None
from nengo_dl.runtime.native import loading
loading.processors = lambda: 2
loading.begin()
loading.wait()
assert loading._thread is None and threading.active_count() == 1
"""
    )


@pytest.fixture
def nothing_loaded(monkeypatch):
    """A process as it is before anything is loaded, on two processors."""
    monkeypatch.delitem(sys.modules, "llvmlite.binding", raising=False)
    monkeypatch.setattr(loading, "_thread", None)
    monkeypatch.setattr(loading, "processors", lambda: 2)


@pytest.mark.parametrize(
    "name, found", (("_library", None), ("_loader", None), ("processors", 1))
)
def test_where_a_system_is_unusual_nothing_is_begun(
    nothing_loaded, monkeypatch, name, found
):
    monkeypatch.setattr(loading, name, lambda: found)
    loading.begin()
    loading.wait()
    assert loading._thread is None


def test_where_no_thread_can_be_started_nothing_is_begun(nothing_loaded, monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    loading.begin()
    assert loading._thread is None


@pytest.mark.parametrize(
    "executor, jit, device, begun",
    (
        ("auto", "auto", None, True),
        ("auto", "auto", "/cpu:0", True),
        ("native", True, None, True),
        ("auto", "auto", "/gpu:0", False),
        ("auto", True, None, False),
        ("auto", False, None, False),
        ("numpy", "auto", None, False),
        ("no such executor", "auto", None, False),
    ),
)
def test_it_is_begun_only_where_machine_code_may_run(
    monkeypatch, executor, jit, device, begun
):
    calls = []
    monkeypatch.setattr(loading, "begin", lambda: calls.append(1))
    look_ahead(executor, jit, device)
    assert len(calls) == begun


def test_a_simulator_begins_before_its_network_is_built(monkeypatch):
    calls, built = [], []
    monkeypatch.setattr(loading, "begin", lambda: calls.append(list(built)))
    with nengo.Network() as net:
        ens = nengo.Ensemble(10, 1)
        nengo.Connection(ens, ens, function=lambda x: built.append(1) or x)
    built.clear()  # Nengo has asked what size its result has
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        model = sim.model
    assert calls == [[]] and built
    with nengo_dl.Simulator(None, model=model, progress_bar=False):
        assert len(calls) == 2


@pytest.mark.parametrize("known", (True, False))
def test_for_a_large_network_nothing_is_begun(monkeypatch, known):
    calls = []
    monkeypatch.setattr(loading, "begin", lambda: calls.append(1))
    monkeypatch.setattr("nengo_dl.simulator.building.SOON_BUILT", 9)
    with nengo.Network() as net:
        nengo.Ensemble(10, 1)
    model = None if known else nengo.builder.Model()
    if model is not None:
        model.build(net)
    with nengo_dl.Simulator(net if known else None, model=model, progress_bar=False):
        assert not calls
