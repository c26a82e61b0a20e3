"""Compiling: what is shared, what is freed, what other systems say."""

import ctypes
import gc
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest

from nengo_dl.runtime.native import compile as compiling
from nengo_dl.runtime.native import symbols
from nengo_dl.runtime.native.code import Code, module_text
from tests.runtime.native_code import pytestmark_native

needs_machine_code = pytestmark_native


def adding(number):
    """A module whose function ``run`` adds a number to eight numbers."""
    code = Code("float64", 8)
    code.store(code.op("fadd", code.load("%x"), code.const(number)), "%x")
    return module_text([code.function("run", ["ptr %x"])])


def run(module):
    x = np.zeros(8)
    module.function("run", None, [ctypes.c_void_p])(x.ctypes.data)
    return x


@needs_machine_code
def test_equal_text_is_compiled_once_for_all_threads(monkeypatch):
    made, text, results = [], adding(0.25), []
    compile_new = compiling._compile

    def count(text):
        made.append(text)
        return compile_new(text)

    monkeypatch.setattr(compiling, "_compile", count)
    work = [
        threading.Thread(target=lambda: results.append(compiling.compile_text(text)))
        for _ in range(4)
    ]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert len(made) == 1
    assert len(results) == 4 and len(set(map(id, results))) == 1
    assert (run(results[0]) == 0.25).all()


@needs_machine_code
def test_modules_are_kept_while_used_and_some_time_after(monkeypatch):
    monkeypatch.setattr(compiling, "KEPT", 2)
    used = compiling.compile_text(adding(1.0))
    others = [adding(2.0 + k) for k in range(4)]
    for text in others:
        compiling.compile_text(text)
    gc.collect()
    assert compiling.compile_text(adding(1.0)) is used
    assert len(compiling._recent) == 2
    monkeypatch.setattr(compiling, "_compile", lambda text: pytest.fail("compiled anew"))
    compiling.compile_text(others[-1])


@needs_machine_code
def test_a_function_keeps_its_machine_code_alive():
    function = compiling._compile(adding(0.5)).function("run", None, [ctypes.c_void_p])
    gc.collect()
    x = np.ones(8)
    function(x.ctypes.data)
    assert (x == 1.5).all()


@needs_machine_code
def test_text_that_is_no_module_is_refused():
    with pytest.raises(RuntimeError, match="LLVM IR parsing error"):
        compiling.compile_text("define void @f( {")
    with pytest.raises(KeyError, match="no function 'walk'"):
        compiling.compile_text(adding(1.0)).address("walk")
    with pytest.raises(KeyError, match="no function is known as 'nengo_dl_none'"):
        compiling.compile_text("declare void @nengo_dl_none()\n")


@needs_machine_code
def test_vectors_are_as_wide_as_the_processor_has_them(monkeypatch):
    for features, nbytes in (
        ({"avx512f": True, "avx2": True}, 64),
        ({"avx512f": False, "avx2": True}, 32),
        ({"sse2": True}, 16),
        ({}, 16),
    ):
        monkeypatch.setattr(compiling, "_features", lambda f=features: f)
        assert compiling.vector_bytes() == nbytes
        assert compiling.host_width("float32") == nbytes // 4
        assert compiling.host_width("float64") == nbytes // 8


@needs_machine_code
@pytest.mark.parametrize(
    "triple",
    ("aarch64-unknown-linux-gnu", "arm64-apple-macosx11.0.0", "x86_64-pc-windows-msvc"),
)
def test_other_machines_have_code_too(triple):
    assert len(compiling.object_code(adding(1.0), triple)) > 100


@pytest.fixture
def anew():
    """What was found out about this system, forgotten before and after."""

    def forget():
        compiling.available.cache_clear()
        compiling._llvm.cache_clear()

    forget()
    yield
    forget()


def test_without_llvmlite(anew, monkeypatch):
    monkeypatch.setitem(sys.modules, "llvmlite", None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compiling.available().startswith("llvmlite cannot be imported")


def test_with_an_llvmlite_that_is_too_old(anew, monkeypatch):
    binding = pytest.importorskip("llvmlite.binding")
    monkeypatch.setattr(binding, "llvm_version_info", (15, 0, 7))
    assert "LLVM 15.0.7; expected 19 or later" in compiling.available()


def test_where_machine_code_is_forbidden(anew, monkeypatch):
    binding = pytest.importorskip("llvmlite.binding")

    def forbid():
        raise OSError(13, "cannot allocate executable memory")

    monkeypatch.setattr(binding, "check_jit_execution", forbid)
    monkeypatch.setattr("nengo_dl.notices._said", set())
    with pytest.warns(RuntimeWarning, match="Networks run without machine code") as seen:
        reason = compiling.available()
        compiling.available.cache_clear()
        assert compiling.available() == reason
    assert len(seen) == 1
    assert "cannot allocate executable memory" in reason


@needs_machine_code
def test_processors_without_fused_multiply_add(anew, monkeypatch):
    monkeypatch.setattr(compiling, "_features", lambda: {"sse2": True})
    monkeypatch.setattr(compiling, "_triple", lambda: "x86_64-unknown-linux-gnu")
    assert "no fused multiply-add" in compiling.available()


def test_llvmlite_is_imported_when_it_is_needed():
    program = (
        "import sys; import nengo_dl.runtime.native.compile; "
        "assert 'llvmlite' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_functions_of_the_c_library():
    number = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double, ctypes.c_double)
    assert number(symbols.find("nengo_dl_pow"))(2.0, 0.5) == 2**0.5
