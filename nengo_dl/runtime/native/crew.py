"""Threads that stay ready for work in machine code, while a training lasts.

A training calls machine code some ten times a batch, for less than a millisecond each
time. A thread that Python begins for that comes late: it takes a thread of the system, a
processor and Python's lock, one after the other (1 to 3 ms, ``train spikes25``). Those
here wait outside of Python, and are told of work through memory. They look for more for
as long as one takes to wake (`LOOKS`), and then sleep, until a byte comes out of a pipe.

Work is a function of machine code, ``function(table, task, thread)``, and how many tasks
there are. Whoever has work does all tasks that nobody else has taken: it never waits for
a thread to begin. What is taken is one word in memory,

    number of the job << 32 | tasks << 16 | tasks that are taken,

which is compared and exchanged: so a thread that comes late takes nothing of a job that
it has not read.

Threads begin with the first work that they are wanted for, and end with the last `ready`
that is left.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from nengo_dl.runtime.native.blocks import Companion, in_threads
from nengo_dl.runtime.native.compile import compile_text, is_x86
from nengo_dl.runtime.native.costs import LOOKS, NOT_READY, PATIENCE
from nengo_dl.runtime.native.memory import aligned_array

#: tasks of a job at most
MOST_TASKS = 2**16 - 1

#: threads at most
MOST_THREADS = 1024

#: where things are in the memory that all have in common, behind the word: a cache line
#: for each that somebody else writes
DONE, SLEEPING, FUNCTION, TABLE, STOP, BYTES = 64, 128, 192, 200, 256, 320

#: what such machine code is given, in its text and for Python
PARAMETERS = "ptr %table", "i64 %task", "i64 %thread"
KINDS = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64

_TEXT = """
declare i64 @nengo_dl_read(i32, ptr, i64)
declare i64 @nengo_dl_write(i32, ptr, i64)
declare i32 @nengo_dl_sched_yield()

define internal i1 @some(i64 %word) {
  %taken = and i64 %word, 65535
  %shifted = lshr i64 %word, 16
  %tasks = and i64 %shifted, 65535
  %some = icmp ult i64 %taken, %tasks
  ret i1 %some
}

define internal void @work(ptr %box, i64 %thread) {
entry:
  %function_at = getelementptr i8, ptr %box, i64 FUNCTION
  %table_at = getelementptr i8, ptr %box, i64 TABLE
  %done_at = getelementptr i8, ptr %box, i64 DONE
  br label %look
look:
  %word = load atomic i64, ptr %box acquire, align 8
  %some = call i1 @some(i64 %word)
  br i1 %some, label %take, label %end
take:
  %function = load atomic ptr, ptr %function_at monotonic, align 8
  %table = load atomic ptr, ptr %table_at monotonic, align 8
  %next = add i64 %word, 1
  %pair = cmpxchg ptr %box, i64 %word, i64 %next seq_cst seq_cst, align 8
  %mine = extractvalue { i64, i1 } %pair, 1
  br i1 %mine, label %call, label %look
call:
  %task = and i64 %word, 65535
  call void %function(ptr %table, i64 %task, i64 %thread)
  atomicrmw add ptr %done_at, i64 1 seq_cst, align 8
  br label %look
end:
  ret void
}

define internal void @wake(ptr %box, i32 %pipe, i64 %others) {
entry:
  %sleeping_at = getelementptr i8, ptr %box, i64 SLEEPING
  %bytes = getelementptr i8, ptr %box, i64 BYTES
  br label %look
look:
  %asleep = load atomic i64, ptr %sleeping_at seq_cst, align 8
  %few = icmp slt i64 %asleep, %others
  %count = select i1 %few, i64 %asleep, i64 %others
  %some = icmp sgt i64 %count, 0
  br i1 %some, label %take, label %end
take:
  %left = sub i64 %asleep, %count
  %pair = cmpxchg ptr %sleeping_at, i64 %asleep, i64 %left seq_cst seq_cst, align 8
  %ours = extractvalue { i64, i1 } %pair, 1
  br i1 %ours, label %write, label %look
write:
  call i64 @nengo_dl_write(i32 %pipe, ptr %bytes, i64 %count)
  br label %end
end:
  ret void
}

define void @run(ptr %box, i32 %pipe, ptr %function, ptr %table, i64 %tasks) {
entry:
  %function_at = getelementptr i8, ptr %box, i64 FUNCTION
  %table_at = getelementptr i8, ptr %box, i64 TABLE
  %done_at = getelementptr i8, ptr %box, i64 DONE
  store atomic i64 0, ptr %done_at monotonic, align 8
  store atomic ptr %function, ptr %function_at monotonic, align 8
  store atomic ptr %table, ptr %table_at monotonic, align 8
  %before = load atomic i64, ptr %box monotonic, align 8
  %number = lshr i64 %before, 32
  %following = add i64 %number, 1
  %high = shl i64 %following, 32
  %middle = shl i64 %tasks, 16
  %word = or i64 %high, %middle
  store atomic i64 %word, ptr %box seq_cst, align 8
  %others = sub i64 %tasks, 1
  call void @wake(ptr %box, i32 %pipe, i64 %others)
  call void @work(ptr %box, i64 0)
  br label %wait
wait:
  %looks = phi i64 [ 0, %entry ], [ %more, %still ]
  %done = load atomic i64, ptr %done_at acquire, align 8
  %all = icmp eq i64 %done, %tasks
  br i1 %all, label %end, label %still_waiting
still_waiting:
  %patient = icmp ult i64 %looks, PATIENCE
  br i1 %patient, label %pausing, label %yielding
pausing:
  PAUSE
  br label %still
yielding:
  call i32 @nengo_dl_sched_yield()
  br label %still
still:
  %more = add i64 %looks, 1
  br label %wait
end:
  ret void
}

define void @stop(ptr %box, i32 %pipe, i64 %others) {
  %stop_at = getelementptr i8, ptr %box, i64 STOP
  store atomic i64 1, ptr %stop_at seq_cst, align 8
  call void @wake(ptr %box, i32 %pipe, i64 %others)
  ret void
}

define void @serve(ptr %box, i32 %pipe, i64 %thread) {
entry:
  %sleeping_at = getelementptr i8, ptr %box, i64 SLEEPING
  %stop_at = getelementptr i8, ptr %box, i64 STOP
  %byte = alloca i8
  br label %wait
wait:
  br label %look
look:
  %looks = phi i64 [ 0, %wait ], [ %more, %pausing ]
  %word = load atomic i64, ptr %box acquire, align 8
  %some = call i1 @some(i64 %word)
  br i1 %some, label %working, label %nothing
working:
  call void @work(ptr %box, i64 %thread)
  br label %wait
nothing:
  %stop = load atomic i64, ptr %stop_at acquire, align 8
  %stopped = icmp ne i64 %stop, 0
  br i1 %stopped, label %end, label %going_on
going_on:
  PAUSE
  br label %pausing
pausing:
  %more = add i64 %looks, 1
  %again = icmp ult i64 %more, LOOKS
  br i1 %again, label %look, label %tired
tired:
  atomicrmw add ptr %sleeping_at, i64 1 seq_cst, align 8
  %last = load atomic i64, ptr %box seq_cst, align 8
  %came = call i1 @some(i64 %last)
  %last_stop = load atomic i64, ptr %stop_at seq_cst, align 8
  %stops = icmp ne i64 %last_stop, 0
  %stays = or i1 %came, %stops
  br i1 %stays, label %undo, label %sleep
sleep:
  call i64 @nengo_dl_read(i32 %pipe, ptr %byte, i64 1)
  br label %wait
undo:
  %asleep = load atomic i64, ptr %sleeping_at seq_cst, align 8
  %any = icmp sgt i64 %asleep, 0
  br i1 %any, label %less, label %wait
less:
  %fewer = sub i64 %asleep, 1
  %pair = cmpxchg ptr %sleeping_at, i64 %asleep, i64 %fewer seq_cst seq_cst, align 8
  %undone = extractvalue { i64, i1 } %pair, 1
  br i1 %undone, label %wait, label %undo
end:
  ret void
}
"""

#: what stands for numbers in the text
_NUMBERS = {
    "DONE": DONE,
    "SLEEPING": SLEEPING,
    "FUNCTION": FUNCTION,
    "TABLE": TABLE,
    "STOP": STOP,
    "BYTES": BYTES,
    "LOOKS": LOOKS,
    "PATIENCE": PATIENCE,
}


class Crew:
    """Threads that wait for work, and the memory through which they are told of it."""

    def __init__(self) -> None:
        self._functions = _compiled()
        self._box = aligned_array((BYTES + MOST_THREADS,), np.uint8)
        self._box[...] = 0
        self._address = self._box.ctypes.data
        self._lock = threading.Lock()
        self._threads: list[Companion] = []
        self._ended = False
        self._out, self._in = os.pipe()

    def _grow(self, others: int) -> None:
        """Begin threads until there are so many besides those that have work to give."""
        for number in range(len(self._threads) + 1, min(others, MOST_THREADS) + 1):
            thread = Companion(functools.partial(_serve, self, number))
            try:
                thread.begin()
            except RuntimeError:  # no more threads
                return
            self._threads.append(thread)

    def run(self, function: int, table: int, tasks: int, threads: int) -> bool:
        """Do all tasks, with other threads; who comes meanwhile waits.

        Parameters
        ----------
        function, table : int
            Where the machine code begins, and what it is given.
        tasks, threads : int
            How many tasks, at most `MOST_TASKS`, and threads that may do them.

        Returns
        -------
        bool
            Whether it was done: not if the threads have ended, or there are too many.
        """
        with self._lock:
            if self._ended or len(self._threads) >= threads:
                return False
            self._grow(min(threads, tasks) - 1)
            self._functions["run"](self._address, self._in, function, table, tasks)
        return True

    def end(self) -> None:
        """Let all threads end, and wait for them. Interrupts do not stop it."""
        raised: BaseException | None = None
        stopped = False
        while not stopped:
            try:
                with self._lock:
                    self._ended = True
                    self._functions["stop"](self._address, self._in, len(self._threads))
                    stopped = True
            except BaseException as error:
                raised = error
        for thread in self._threads:
            while not thread.done:
                try:
                    thread.wait()
                except BaseException as error:
                    raised = error
        self.close()
        if raised is not None:
            raise raised

    def close(self) -> None:
        """Close the pipe, when no thread reads it any more."""
        for end in (self._in, self._out):
            os.close(end)


def _serve(crew: Crew, number: int) -> None:
    crew._functions["serve"](crew._address, crew._out, number)


@functools.cache
def _compiled() -> dict[str, Any]:
    """The functions of machine code, as Python calls them."""
    module = compile_text(_text())
    box, pipe, number = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
    kinds = {
        "run": (box, pipe, ctypes.c_void_p, ctypes.c_void_p, number),
        "stop": (box, pipe, number),
        "serve": (box, pipe, number),
    }
    return {name: module.function(name, None, kinds[name]) for name in kinds}


def _text() -> str:
    """The text with its numbers, and what tells a processor that one waits."""
    pause = "call void @llvm.x86.sse2.pause()" if is_x86() else ""
    text = _TEXT.replace("PAUSE", pause)
    if pause:
        text = f"declare void @llvm.x86.sse2.pause()\n{text}"
    for name, number in _NUMBERS.items():
        text = text.replace(name, str(number))
    return text


# who is ready -------------------------------------------------------------------------

_lock = threading.Lock()
_wanted = 0
_crew: Crew | None = None


@contextlib.contextmanager
def ready() -> Iterator[None]:
    """Context in which threads stay, from the first work on that they are wanted for.

    Where Python has no pipes that machine code can read, they begin for each work.
    """
    global _wanted, _crew
    with _lock:
        _wanted += 1
    try:
        yield
    finally:
        with _lock:
            _wanted -= 1
            last, _crew = (_crew, None) if not _wanted else (None, _crew)
        if last is not None:
            last.end()


def _in_a_copy() -> None:
    """Threads are not copied when a process is."""
    global _lock, _crew
    _lock, crew, _crew = threading.Lock(), _crew, None
    if crew is not None:
        crew.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_a_copy)


def _present() -> Crew | None:
    """The threads that are ready, if there can be any."""
    global _crew
    if os.name != "posix" or not _wanted:
        return None
    with _lock:
        if _crew is None and _wanted:
            _crew = Crew()
        return _crew


def shared(threads: int, amount: int, least: int) -> int:
    """How many threads have a share in some work.

    Parameters
    ----------
    threads : int
        How many may have one.
    amount, least : int
        Of the work, and from which on threads share it that are ready.
    """
    ready = os.name == "posix" and _wanted > 0
    return threads if amount >= least * (1 if ready else NOT_READY) else 1


class Work:
    """Machine code that does tasks by number: ``function(table, task, thread)``.

    Parameters
    ----------
    module : .compile.Module
    name : str
        Of the function in it.
    """

    def __init__(self, module: Any, name: str) -> None:
        self._call = module.function(name, None, KINDS)
        self._address = module.address(name)

    def __call__(self, table: np.ndarray, tasks: int, threads: int) -> None:
        """Do all tasks, each once, in whatever order.

        Parameters
        ----------
        table : ndarray
            What the code is given. It may keep memory for threads, by their numbers.
        tasks, threads : int
            How many; the present thread is one of them, with the number 0.
        """
        place = table.ctypes.data
        crew = _present() if min(threads, tasks) > 1 and tasks <= MOST_TASKS else None
        if crew is None or not crew.run(self._address, place, tasks, threads):

            def work(task: int, thread: int) -> None:
                self._call(place, task, thread)

            in_threads(tasks, min(threads, tasks), work)
