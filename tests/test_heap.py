"""Memory that was freed, given back; and when it is looked for."""

import gc
import subprocess
import sys

import numpy as np
import pytest

from nengo_dl import heap
from nengo_dl.benchmarks.memory import resident


def test_what_lies_between_arrays_in_use_is_given_back():
    if heap._trim() is None:
        pytest.skip("the C library has no malloc_trim")
    arrays = [
        np.ones(2000) for _ in range(3000)
    ]  # 48 MB; large ones are given back alone
    kept = arrays[::100]
    before = resident()
    del arrays
    assert heap.give_back()
    assert resident() < before - 30
    assert all(array.sum() == 2000 for array in kept)


def test_arrays_take_the_memory_of_freed_ones():
    if heap._trim() is None:
        pytest.skip("another C library keeps what it likes")
    resource = pytest.importorskip("resource")

    def faults():
        """How many pages the system gave while eight arrays came and went."""
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for array in [np.ones(1 << 18) for _ in range(8)]:  # 512 pages each
            del array
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    heap.keep_freed()
    faults()
    assert faults() < 1000


def test_keeping_takes_no_memory():
    before = resident()
    heap.keep_freed()
    assert resident() < before + 5


def test_nothing_happens_without_that_function(monkeypatch):
    monkeypatch.setattr(heap, "_trim", lambda: None)
    assert not heap.give_back()


def test_collecting_goes_on_afterwards():
    """As it was before: also after an error, and where it was off."""
    with pytest.raises(KeyError), heap.without_collecting():
        assert not gc.isenabled()
        raise KeyError
    assert gc.isenabled()
    gc.disable()
    try:
        with heap.without_collecting():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_importing_the_package_leaves_collecting_as_it_is():
    script = "import gc, nengo_dl; assert gc.isenabled()"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
