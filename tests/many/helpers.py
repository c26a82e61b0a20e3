"""A network, functions to call with it, and executors that behave in known ways."""

import contextlib
import os
import signal
import sys
import threading
import time
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor

import nengo
import numpy as np
from nengo.exceptions import ValidationError

from nengo_dl.notices import warn


def network():
    """Noise and a constant into an ensemble, in machine code."""
    with nengo.Network(seed=0) as net:
        net.stimulus = nengo.Node([0.0], label="stimulus")
        noise = nengo.Node(nengo.processes.WhiteNoise(seed=None))
        net.ensemble = nengo.Ensemble(10, 1, label="ensemble")
        nengo.Connection(net.stimulus, net.ensemble)
        nengo.Connection(noise, net.ensemble, transform=0.1)
        net.probe = nengo.Probe(net.ensemble, synapse=0.01)
    return net


def response(sim, value):
    """What the probe sees of an input."""
    sim.run_steps(20, data={sim.network.stimulus: np.full((1, 20, 1), value)})
    return np.array(sim.data[sim.network.probe])


class Speechless(Exception):
    """An error that cannot be pickled, nor say what it is."""

    def __init__(self, *parts):
        super().__init__(*parts)
        self.lock = threading.Lock()

    def __str__(self):
        raise RuntimeError("no text")


class Unreadable:
    """A result that can be pickled, and not unpickled."""

    def __reduce__(self):
        return int, ("x",)


def troubled(sim, task):
    if task == 1:
        raise ValidationError("a wrong value", attr="size")
    if task == 4:
        raise Speechless(1, 2)
    if task == 5:
        raise KeyboardInterrupt
    if task == 6:
        return Unreadable()
    warn("something odd")
    return os.getpid()


def kill(sim, task):
    """End the worker, once for each name of a file."""
    value, mark = task
    if mark is not None:
        try:
            os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
            os.kill(os.getpid(), signal.SIGKILL)
        except FileExistsError:
            pass
    return response(sim, value)


def die(sim, task):
    if task == 2:
        os._exit(7)
    return task


def look_around(sim, task):
    names = ("OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS")
    return [os.environ.get(n) for n in names], "tensorflow" in sys.modules, os.getpid()


class Here(Executor):
    """Runs what is submitted at once, in the present thread."""

    def submit(self, function, /, *args, **kwargs):
        future = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class Fragile(Executor):
    """One worker, a thread, that is lost together with all that waits for it.

    ``deadly`` says of the number of a task whether it ends the worker.
    """

    made = 0

    def __init__(self, deadly):
        type(self).made += 1
        self._max_workers = 1
        self.deadly, self.broken, self.waiting = deadly, False, []
        self.thread = ThreadPoolExecutor(1)

    def submit(self, function, parcel, items):
        if self.broken:
            raise BrokenExecutor("it is broken")
        future = Future()
        self.waiting.append(future)
        self.thread.submit(self._run, future, function, parcel, items)
        return future

    def _run(self, future, function, parcel, items):
        time.sleep(0.002)  # until more is sent ahead
        if self.broken:
            return
        if any(self.deadly(item.number) for item in items):
            self.broken = True
            for other in self.waiting:
                if not other.done():
                    other.set_exception(BrokenExecutor("a worker was lost"))
        else:
            future.set_result(function(parcel, items))

    def shutdown(self, wait=True, **options):
        self.thread.shutdown(wait)


@contextlib.contextmanager
def time_limit(seconds):
    """Raise an error here if it takes longer."""

    def over(number, frame):
        raise TimeoutError(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def same(results, expected):
    """Whether two lists of arrays are equal to the bit."""
    return len(results) == len(expected) and all(map(np.array_equal, results, expected))


def in_a_row(sim, values):
    """The responses of one simulator, reset for each value as tasks are."""
    results = []
    for number, value in enumerate(values):
        sim.reset(seed=5 + number)
        results.append(response(sim, value))
    sim.reset(seed=5)
    return results
