"""Memory that was freed, given back."""

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


def test_nothing_happens_without_that_function(monkeypatch):
    monkeypatch.setattr(heap, "_trim", lambda: None)
    assert not heap.give_back()
