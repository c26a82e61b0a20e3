"""Arrays in files: read in parts, and given back."""

import mmap

import numpy as np
import pytest

from nengo_dl.training import mapped
from nengo_dl.training.advice import is_finite


@pytest.fixture
def path(tmp_path):
    array = np.memmap(tmp_path / "data", "float32", "w+", shape=(64, 2**15))
    array[...] = 1
    array.flush()
    return tmp_path / "data"


def file_pages():
    """Bytes of files that are in this process's memory."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[2]) * mmap.PAGESIZE


@pytest.mark.skipif(
    not hasattr(mmap, "MADV_DONTNEED"), reason="the system keeps pages as it likes"
)
def test_what_was_read_is_given_back(path):
    array = np.memmap(path, "float32", "r", shape=(64, 2**15))
    before = file_pages()
    assert np.asarray(array).sum() == array.size
    assert file_pages() - before > array.nbytes / 2
    mapped.let_go(array[3:])
    assert file_pages() - before < array.nbytes / 4
    assert array[-1, -1] == 1


def test_looking_for_numbers_that_are_none(path, monkeypatch):
    """Block by block, to the last one."""
    monkeypatch.setattr(mapped, "BLOCK", 10 * 2**17)
    array = np.memmap(path, "float32", "r+", shape=(64, 2**15))
    assert [len(block) for block in mapped.in_blocks(array)] == [10] * 6 + [4]
    assert is_finite(array)
    array[-1, -1] = np.nan
    assert not is_finite(array)
    assert np.isnan(array[-1, -1])  # what was written is not lost


def test_changes_that_no_file_holds_are_kept(path):
    array = np.memmap(path, "float32", "c", shape=(64, 2**15))
    array[0, 0] = 5
    assert not mapped.is_in_file(array)
    mapped.let_go(array)
    assert array[0, 0] == 5


def test_arrays_in_memory_are_left_alone():
    array = np.arange(6.0).reshape(3, 2)
    assert not mapped.is_in_file(array[1:])
    (whole,) = mapped.in_blocks(array)
    assert whole is array
