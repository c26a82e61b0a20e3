"""Threads that stay ready for machine code: each task once, and none is left."""

import os
import threading
import time
from _thread import _count

import numpy as np
import pytest

from nengo_dl.runtime.native import blocks, crew
from nengo_dl.runtime.native.code import Code, module_text
from nengo_dl.runtime.native.compile import available, compile_text, object_code
from nengo_dl.runtime.native.crew import PARAMETERS, Work, ready

pytestmark = pytest.mark.skipif(available() is not None, reason="no machine code here")


def counting():
    """Adds one to the number of its task, and notes the thread, in two tables."""
    code = Code("float64", 2)
    places = [code.emit(f"load ptr, ptr {code.at('%table', 8 * k)}") for k in (0, 1)]
    offset = code.emit("mul i64 %task, 8")
    times = code.at(places[0], offset)
    more = code.emit(f"add i64 {code.load_scalar(times, 'i64')}, 1")
    code.do(f"store i64 {more}, ptr {times}")
    code.do(f"store i64 %thread, ptr {code.at(places[1], offset)}")
    return Work(compile_text(module_text([code.function("count", PARAMETERS)])), "count")


def ends(count):
    """Whether there are soon no more threads than there were."""
    for _ in range(3000):
        if _count() <= count:
            return True
        time.sleep(0.01)
    return False


def run(work, tasks, threads):
    times, by = np.zeros(tasks, np.int64), np.full(tasks, -1)
    work(np.array([times.ctypes.data, by.ctypes.data]), tasks, threads)
    assert np.array_equal(times, np.ones(tasks))
    assert set(by) <= set(range(threads))
    return by


@pytest.mark.parametrize("tasks", [1, 2, 7, 1000])
@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("is_ready", [False, True])
def test_each_task_is_done_once(tasks, threads, is_ready):
    work, before = counting(), _count()
    if not is_ready:
        run(work, tasks, threads)
        return
    with ready():
        for k in range(200):
            run(work, tasks, threads)
            if k % 50 == 49:
                time.sleep(0.002)  # so that they sleep
        assert _count() == before + min(threads, tasks) - 1
    assert _count() == before


def test_threads_take_part():
    """Where the one that has work waits for them, and they were asleep."""
    code = Code("float64", 2)
    arrived = code.emit("load ptr, ptr %table")
    code.do(f"atomicrmw add ptr {arrived}, i64 1 seq_cst, align 8")
    wait, end = "wait", "end"
    code.do(f"br label %{wait}")
    code._start_block(wait)
    here = code.emit(f"load atomic i64, ptr {arrived} seq_cst, align 8")
    both = code.emit(f"icmp sge i64 {here}, 2")
    code.do(f"br i1 {both}, label %{end}, label %{wait}")
    code._start_block(end)
    work = Work(compile_text(module_text([code.function("meet", PARAMETERS)])), "meet")
    with ready():
        for _ in range(5):
            count = np.zeros(1, np.int64)
            work(np.array([count.ctypes.data]), 2, 2)
            assert count == 2
            time.sleep(0.005)


def test_threads_sleep_when_there_is_nothing_to_do():
    work = counting()
    with ready():
        run(work, 100, 2)
        time.sleep(0.05)
        before = time.process_time()
        time.sleep(0.3)
        assert time.process_time() - before < 0.1


def test_who_comes_meanwhile():
    """Several threads with work, and contexts within each other."""
    work, before, failed = counting(), _count(), []

    def many():
        try:
            with ready():
                for _ in range(100):
                    run(work, 20, 3)
        except BaseException as error:
            failed.append(error)

    callers = [threading.Thread(target=many) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not failed and ends(before)


def test_no_threads_can_begin(monkeypatch):
    def start(function, arguments):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(blocks, "start_new_thread", start)
    with ready():
        assert set(run(counting(), 20, 3)) == {0}


def test_an_interrupt_while_they_end(monkeypatch):
    wait, raised, before = blocks.Companion.wait, [], _count()

    def interrupted(self):
        if not raised:
            raised.append(1)
            raise KeyboardInterrupt
        wait(self)

    def ending(self, run=blocks.Companion._run):
        work, self.work = self.work, lambda: (work(), time.sleep(0.05))
        run(self)

    monkeypatch.setattr(blocks.Companion, "wait", interrupted)
    monkeypatch.setattr(blocks.Companion, "_run", ending)
    with pytest.raises(KeyboardInterrupt), ready():
        run(counting(), 20, 2)
    assert raised and ends(before)


def test_after_they_have_ended():
    """Whoever still holds them does without."""
    with ready():
        run(counting(), 20, 2)
        held = crew._crew
    assert held is not None and not held.run(0, 0, 1, 2)
    run(counting(), 20, 2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be copied here")
@pytest.mark.filterwarnings("ignore:.*fork.*")
def test_a_copy_of_the_process_has_its_own():
    work = counting()
    with ready():
        run(work, 20, 2)
        child = os.fork()
        if not child:
            try:
                run(work, 20, 2)
                os._exit(7)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        run(work, 20, 2)


@pytest.mark.parametrize("triple", ["aarch64-unknown-linux-gnu", "arm64-apple-macosx"])
def test_other_machines(triple, monkeypatch):
    monkeypatch.setattr(crew, "is_x86", lambda: False)
    assert object_code(crew._text(), triple)
