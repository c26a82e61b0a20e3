import pathlib

import numpy as np
import pytest

from nengo_dl.benchmarks import memory


def on_linux():
    return memory.STATUS.exists()


def test_figures_are_plausible():
    assert 10 < memory.resident() < 1e6
    assert memory.peak() >= 0.9 * memory.resident()
    assert memory._highest() > 10
    assert memory.settled() > 10


def test_peak_memory_sees_what_is_gone_afterwards():
    with memory.PeakMemory() as outer:
        with memory.PeakMemory() as inner:
            np.ones(25 * 2**20).sum()  # 200 MB
        with memory.PeakMemory() as small:
            np.ones(1000).sum()
    assert inner.peak - inner.before > 150
    assert small.peak < inner.peak - 100
    assert outer.peak >= inner.peak


def test_peak_memory_without_proc(monkeypatch):
    levels = iter([100.0, 100.0, 300.0, *[200.0] * 10_000])
    monkeypatch.setattr(memory, "forget_peak", lambda: False)
    monkeypatch.setattr(memory, "resident", lambda: next(levels))
    with memory.PeakMemory() as watched:
        while next(levels) != 200.0:
            pass
    assert watched.peak >= 200


def test_other_systems(monkeypatch):
    monkeypatch.setattr(memory, "STATUS", pathlib.Path("/nowhere/status"))
    monkeypatch.setattr(memory, "CLEAR", pathlib.Path("/nowhere/clear"))
    assert memory.resident() == pytest.approx(memory._highest(), rel=0.1)
    assert memory.peak() == pytest.approx(memory._highest(), rel=0.1)
    assert not memory.forget_peak()


def test_in_new_process():
    assert memory.in_new_process(divmod, 7, 3) == (2, 1)
    with pytest.raises(ZeroDivisionError):
        memory.in_new_process(divmod, 7, 0)
