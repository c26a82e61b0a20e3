"""From LLVM's text to machine code: the only module that imports llvmlite.

llvmlite is imported when the first program is compiled, which takes 11 ms, and 8 to 17 ms
where `.loading` has not loaded its library before. Without it, or where the
system does not let a process run code that it has written itself, `available` tells why,
and other executors do the work.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from nengo_dl import notices
from nengo_dl.runtime.native import disk, loading, symbols

#: the first version of LLVM that reads the text of `nengo_dl.runtime.native.code`
OLDEST_LLVM = 19

#: how many modules are kept that nobody uses any more: some kilobytes each
KEPT = 32

#: LLVM's level of code generation. There are no optimization passes besides: they make
#: compiling slower by 2 to 5 times, and the code, which is vectors already, no faster.
LEVEL = 2

_lock = threading.RLock()
_alive: WeakValueDictionary[str, Module] = WeakValueDictionary()
_recent: OrderedDict[str, Module] = OrderedDict()


class Module:
    """Machine code in memory, which stays there as long as this object does.

    Parameters
    ----------
    engine : llvmlite.binding.ExecutionEngine
        What owns the code.
    """

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def address(self, name: str) -> int:
        """Where the function ``name`` begins."""
        address = self._engine.get_function_address(name)
        if not address:
            raise KeyError(f"the module has no function {name!r}")
        return address

    def function(self, name: str, result: Any, arguments: Sequence[Any]) -> Any:
        """A function as Python calls it; the GIL is released meanwhile.

        Parameters
        ----------
        name : str
            Its name in the text.
        result : ctypes type or None
            The type of its result.
        arguments : sequence of ctypes types
            The types of its arguments.

        Returns
        -------
        ctypes function
            It keeps the machine code alive.
        """
        function: Any = ctypes.CFUNCTYPE(result, *arguments)(self.address(name))
        function.module = self
        return function


@functools.cache
def _llvm() -> Any:
    """The binding of llvmlite, ready for code of this machine.

    Raises
    ------
    ImportError
        It is not installed, or too old.
    OSError
        The system forbids machine code that a process writes itself.
    """
    # the binding imports this, and it needs no library: it comes while that is loaded
    import llvmlite.ir

    loading.wait()
    import llvmlite.binding as llvm

    if llvm.llvm_version_info[0] < OLDEST_LLVM:
        found = ".".join(map(str, llvm.llvm_version_info))
        raise ImportError(
            f"llvmlite {llvmlite.__version__} contains LLVM {found}; expected "
            f"{OLDEST_LLVM} or later (python -m pip install --upgrade llvmlite)"
        )
    # llvmlite.binding.initialize() is needed by none of these versions, and refuses
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.check_jit_execution()
    return llvm


@functools.cache
def available() -> str | None:
    """Why no machine code can be made here; None if it can.

    A system that forbids machine code is warned about, once: it makes a difference that
    nobody sees otherwise. A missing llvmlite is not, since that was somebody's choice.

    Examples
    --------
    >>> available()
    """
    try:
        _llvm()
    except ImportError as error:
        return f"llvmlite cannot be imported ({error})"
    except Exception as error:
        reason = f"this system does not run code that is made while it runs ({error})"
        notices.warn(
            f"Networks run without machine code of their own, which is slower: {reason}. "
            "Allow it for this process, or choose another executor with the setting "
            '`executor`, such as "numpy".',
            RuntimeWarning,
            once="machine code is forbidden",
        )
        return reason
    if is_x86() and not _features().get("fma"):
        return "the processor has no fused multiply-add instructions"
    return None


def _triple() -> str:
    """Processor and system, as LLVM calls them."""
    return _llvm().get_process_triple()


def is_x86() -> bool:
    """Whether the processor is one of Intel's kind, with 64 bits."""
    return _triple().startswith("x86_64")


def has_compress() -> bool:
    """Whether one instruction puts the lanes of a mask side by side."""
    return bool(_features().get("avx512f") and _features().get("avx512vl"))


@functools.cache
def _features() -> dict[str, bool]:
    """What the processor has beyond the least of its kind."""
    try:
        return dict(_llvm().get_host_cpu_features())
    except RuntimeError:  # LLVM does not know how to ask this one
        return {}


def vector_bytes() -> int:
    """How wide the vectors of this machine's processor are."""
    features = _features()
    if features.get("avx512f"):
        return 64
    return 32 if features.get("avx2") else 16


def host_width(dtype: Any) -> int:
    """How many numbers of ``dtype`` one vector of this machine holds.

    Examples
    --------
    >>> host_width("float32") == 2 * host_width("float64")
    True
    """
    return vector_bytes() // np.dtype(dtype).itemsize


def _machine() -> Any:
    """A target machine: this one. An engine owns it, so each needs one of its own."""
    llvm = _llvm()
    features = (f"{'+' if on else '-'}{name}" for name, on in sorted(_features().items()))
    return llvm.Target.from_triple(_triple()).create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=",".join(features),
        opt=LEVEL,
        reloc="default",
        codemodel="jitdefault",
    )


def _parse(text: str, triple: str, machine: Any) -> Any:
    """The module that a text describes, for a machine."""
    module = _llvm().parse_assembly(text)
    module.triple = triple
    module.data_layout = str(machine.target_data)
    module.verify()
    return module


def compile_text(text: str) -> Module:
    """Machine code of a module.

    Parameters
    ----------
    text : str
        LLVM's textual representation (see `nengo_dl.runtime.native.code.module_text`).
        Functions that it declares as ``nengo_dl_...`` are those of
        `nengo_dl.runtime.native.symbols`.

    Returns
    -------
    Module
        The same one for the same text, while it is in use and for some time after.

    Raises
    ------
    RuntimeError
        The text is no valid module; the message is LLVM's.
    """
    key = hashlib.sha256(text.encode()).hexdigest()
    with _lock:  # one after the other: two threads often ask for the same
        module = _alive.get(key)
        if module is None:
            module = _alive[key] = _compile(text)
        _recent[key] = module
        _recent.move_to_end(key)
        while len(_recent) > KEPT:
            _recent.popitem(last=False)
    return module


def _compile(text: str) -> Module:
    """Machine code, from the disk if it is kept there (see `disk`), else newly made."""
    llvm, machine = _llvm(), _machine()
    for name in _declared(text):
        llvm.add_symbol(name, symbols.find(name))
    key = disk.key_of(text, *_described()) if disk.is_used() else None
    kept = disk.load(key) if key else None
    engine = llvm.create_mcjit_compiler(
        _parse("" if kept else text, _triple(), machine), machine
    )
    if kept:
        engine.add_object_file(llvm.ObjectFileRef.from_data(kept))
    elif key:
        engine.set_object_cache(lambda _, code: disk.save(key, bytes(code)))
    engine.finalize_object()
    return Module(engine)


def _declared(text: str) -> set[str]:
    """The functions of other libraries that a text declares: few texts have any."""
    start = f"@{symbols.PREFIX}"
    if start not in text:
        return set()
    lines = (line for line in text.splitlines() if line.startswith("declare "))
    return {
        symbols.PREFIX + line.partition(start)[2].partition("(")[0]
        for line in lines
        if start in line
    }


def _described() -> list[object]:
    """What machine code depends on besides its text."""
    import llvmlite

    llvm = _llvm()
    return [
        *(llvmlite.__version__, llvm.llvm_version_info, LEVEL),
        *(_triple(), llvm.get_host_cpu_name(), sorted(_features().items())),
    ]


def object_code(text: str, triple: str, cpu: str = "", features: str = "") -> bytes:
    """An object file for some other machine, to see that LLVM has code for it.

    Parameters
    ----------
    text : str
        As in `compile_text`.
    triple : str
        The machine, for example ``"aarch64-unknown-linux-gnu"``.
    cpu, features : str
        Its processor, and what that has beyond, as LLVM calls them.
    """
    llvm = _llvm()
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    target = llvm.Target.from_triple(triple)
    machine = target.create_target_machine(cpu=cpu, features=features, opt=LEVEL)
    with _lock:
        return machine.emit_object(_parse(text, triple, machine))
