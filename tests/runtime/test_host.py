"""Rows that are given to every step from outside."""

import nengo
import numpy as np
import pytest
from nengo.exceptions import SimulationError

import nengo_dl
from nengo_dl.compiler.exact_callbacks import COUNT, Digits, from_digits
from nengo_dl.compiler.graph import Source
from nengo_dl.compiler.lowering import HostSource
from nengo_dl.kernels.callbacks import Callback
from nengo_dl.runtime.host import InputFeed, InputsInterrupted
from nengo_dl.runtime.program import Specialization


def feed_of(*outputs, minibatch_size=None):
    """The feed of a network of nodes with these outputs, and the nodes' signals."""
    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(dtype="float64")
        nodes = [nengo.Node(output) for output in outputs]
        for node in nodes:
            if node.size_out:
                nengo.Probe(node)
    sim = nengo_dl.Simulator(net, minibatch_size=minibatch_size, progress_bar=False)
    program = sim._program
    layout = program.layout(Specialization(), fused=True)
    signals = [sim.model.sig[node]["out"] for node in nodes]
    feed = program.feed(Specialization(), layout)
    sim.close()
    return feed, signals


def rows_of(feed, signal, rows):
    start, stop = next(
        (s.start, s.start + s.size) for s in feed.inputs if s.key is signal.base
    )
    return rows[:, start:stop]


def test_functions_of_time_are_called_with_core_s_times():
    times = []

    def note(t):
        times.append(t)
        return t

    feed, (signal,) = feed_of(note)
    del times[:]
    rows = feed.chunk(5, 3)
    assert times == [6 * 0.001, 7 * 0.001, 8 * 0.001]
    assert rows_of(feed, signal, rows).ravel().tolist() == times
    out = np.empty((feed.n_rows, 1))
    feed.single(8, out)
    assert times[-1] == 9 * 0.001 == out.item()


def test_functions_are_called_step_by_step_in_core_s_order():
    calls = []
    feed, signals = feed_of(
        lambda t: calls.append("a") or [t, 2 * t], lambda t: calls.append("b") or 1.0
    )
    del calls[:]
    rows = feed.chunk(0, 4)
    assert calls in (["a", "b"] * 4, ["b", "a"] * 4)
    assert rows_of(feed, signals[0], rows).shape == (4, 2, 1)
    np.testing.assert_array_equal(rows_of(feed, signals[1], rows), np.ones((4, 1, 1)))


def forms(t):
    """A number in many forms, an array that is used again, and one that is too large."""
    at = round(1000 * t)
    shared = forms.shared
    shared[:] = t
    return (t, at, np.float64(t), np.float32(t), [t], shared, np.array(t), True)[at % 8]


forms.shared = np.zeros(1)


@pytest.mark.parametrize("beside", (False, True))
def test_numbers_are_taken_in_any_form(beside):
    others = [lambda t: [t, -t]] if beside else []
    feed, (signal, *_) = feed_of(forms, *others)
    found = rows_of(feed, signal, feed.chunk(0, 40)).ravel()
    expected = [np.ravel(forms(0.001 * (i + 1))).astype(float)[0] for i in range(40)]
    np.testing.assert_array_equal(found, np.array(expected, found.dtype))
    out = np.zeros((feed.n_rows, 1), found.dtype)
    for step in range(40, 60):
        feed.single(step, out)
        expected = np.ravel(forms(0.001 * (step + 1))).astype(found.dtype)
        np.testing.assert_array_equal(rows_of(feed, signal, out[None]).ravel(), expected)


@pytest.mark.parametrize("bad", (None, np.inf, float("nan"), 10**400, 1j, "a"))
def test_what_is_no_number_is_refused(bad):
    feed, _ = feed_of(lambda t: 1.0 if t < 0.0025 else bad)
    with pytest.raises(InputsInterrupted) as interrupted:
        feed.chunk(0, 10)
    assert interrupted.value.partial.shape[0] == 2
    assert isinstance(interrupted.value.cause, SimulationError)
    with pytest.raises(SimulationError):
        feed.single(2, np.zeros((feed.n_rows, 1)))


@pytest.mark.parametrize("function", (np.sin, np.cos))
def test_functions_of_numpy_are_given_all_times_at_once(function):
    feed, (signal,) = feed_of(function)
    found = feed.chunk(0, 1000).ravel()
    times = (np.arange(1, 1001) * 0.001).tolist()
    expected = np.array([function(t) for t in times])
    np.testing.assert_array_equal(found, expected.astype(found.dtype))


def test_one_value_serves_all_batch_items_of_a_function():
    feed, (signal,) = feed_of(lambda t: t, minibatch_size=3)
    rows = feed.chunk(0, 2)
    np.testing.assert_array_equal(rows[:, :, 0], rows[:, :, 2])


def test_processes_differ_from_item_to_item():
    feed, (signal,) = feed_of(nengo.processes.WhiteNoise(), minibatch_size=3)
    rows = rows_of(feed, signal, feed.chunk(0, 5))
    assert rows.shape == (5, 1, 3)
    assert np.unique(rows).size == 15


def test_data_take_the_place_of_functions(rng):
    def never(t):
        raise AssertionError("called although there are data")

    with nengo.Network() as net:
        node = nengo.Node(never, size_out=2)
        probe = nengo.Probe(node)
    data = rng.normal(size=(1, 30, 2)).astype(np.float32)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(30, data={node: data})
        np.testing.assert_array_equal(sim.data[probe], data[0])


@pytest.mark.parametrize(
    "bad, error",
    [(None, SimulationError), (np.nan, SimulationError), ([1, 2, 3], SimulationError)],
)
def test_a_bad_value_ends_the_chunk_at_its_step(bad, error):
    feed, (signal,) = feed_of(lambda t: [t, t] if t < 0.0045 else bad)
    with pytest.raises(InputsInterrupted) as interrupted:
        feed.chunk(0, 10)
    assert interrupted.value.partial.shape[0] == 4
    assert isinstance(interrupted.value.cause, error)


def test_what_a_function_raises_is_passed_on():
    def fails(t):
        if t > 0.0025:
            raise ValueError("from inside")
        return t

    feed, _ = feed_of(fails)
    with pytest.raises(InputsInterrupted) as interrupted:
        feed.chunk(0, 10)
    assert interrupted.value.partial.shape[0] == 2
    assert isinstance(interrupted.value.cause, ValueError)
    assert str(interrupted.value.cause) == "from inside"


class Draws(Callback):
    """A host that gives many steps at once, and notes for how many it was asked."""

    draws = per_item = True

    def __init__(self, batch=2, size=3):
        self.shape, self.asked, self.first = (batch, size), [], 0

    def advance(self, t):
        """One step."""
        return self.draw([t])[0]

    def draw(self, times):
        """Counts the steps that it was asked for."""
        self.asked.append(len(times))
        steps = self.first + np.arange(len(times)).reshape(-1, 1, 1)
        self.first += len(times)
        return steps + 0.25 * np.arange(6.0).reshape(self.shape)


class Calls(Callback):
    """A host that is called step by step, and fails at one of them."""

    label = "calls"

    def __init__(self, fails=None):
        self.fails, self.times = fails, []

    def advance(self, t):
        """The time."""
        if self.fails is not None and t > self.fails:
            raise ZeroDivisionError("stop")
        self.times.append(t)
        return t


def feed_of_hosts(*hosts):
    """A feed with these hosts; those that draw have three rows, the others one."""
    sources = []
    for host in hosts:
        size = 3 if isinstance(host, Draws) else 1
        sources.append(HostSource(host, host, size))
    return InputFeed.of_sources(
        sources, {host: host for host in hosts}, 0.001, 2, np.float64
    )


def test_hosts_that_draw_are_asked_once():
    drawn, called = Draws(), Calls()
    rows = feed_of_hosts(drawn, called).chunk(4, 5)
    assert drawn.asked == [5]
    assert called.times == [i * 0.001 for i in range(5, 10)]
    assert rows.shape == (5, 4, 2)
    expected = 0.25 * np.arange(6.0).reshape(2, 3).T + np.arange(5).reshape(5, 1, 1)
    np.testing.assert_array_equal(rows[:, :3], expected)
    np.testing.assert_array_equal(rows[:, 3, 1], called.times)


def test_single_steps_of_hosts_that_draw():
    drawn = Draws()
    feed = feed_of_hosts(drawn)
    rows = feed.chunk(0, 2)
    out = np.empty((3, 2))
    feed.single(2, out)
    np.testing.assert_array_equal(out, rows[1] + 1)


@pytest.mark.parametrize("first", (True, False))
def test_a_failure_ends_what_is_drawn_with_the_last_whole_step(first):
    """The step that failed is run again, so nothing of it may have been drawn."""
    drawn, called = Draws(), Calls(fails=0.0035)
    order = (drawn, called) if first else (called, drawn)
    with pytest.raises(InputsInterrupted) as interrupted:
        feed_of_hosts(*order).chunk(0, 8)
    assert isinstance(interrupted.value.cause, ZeroDivisionError)
    assert len(interrupted.value.partial) == 3
    assert drawn.asked == [3]
    rows = interrupted.value.partial[:, :3] if first else interrupted.value.partial[:, 1:]
    np.testing.assert_array_equal(rows[2] - rows[0], 2.0)


def test_rows_that_are_put_back_are_given_again():
    drawn, called = Draws(), Calls(fails=0.0205)
    feed = feed_of_hosts(drawn, called)
    rows = feed.chunk(0, 8)
    feed.put_back(3, rows[3:])
    out = np.empty((4, 2))
    feed.single(3, out)
    np.testing.assert_array_equal(out, rows[3])
    again = feed.chunk(4, 2)
    np.testing.assert_array_equal(again, rows[4:6])
    feed.put_back(5, again[1:])  # before those that are still there
    np.testing.assert_array_equal(feed.chunk(5, 3), rows[5:])
    assert drawn.asked == [8]
    assert len(called.times) == 8

    feed.put_back(6, rows[6:])
    assert len(feed.chunk(6, 5)) == 5  # some of them are new
    assert drawn.asked == [8, 3]
    assert called.times[-1] == 11 * 0.001


def test_rows_that_are_put_back_are_forgotten_elsewhere():
    drawn, called = Draws(), Calls(fails=0.0105)
    feed = feed_of_hosts(drawn, called)
    rows = feed.chunk(0, 8)
    feed.put_back(6, rows[6:])
    feed.chunk(0, 2)  # another step: time went back
    assert drawn.asked == [8, 2]
    feed.put_back(6, rows[6:])
    feed.forget()
    feed.chunk(6, 2)
    assert drawn.asked == [8, 2, 2]
    feed.put_back(6, rows[6:])
    feed.use({called: np.ones((2, 9, 1))}, 6)
    assert (feed.chunk(6, 2)[:, 3] == 1).all()
    feed.use({}, 0)
    feed.put_back(6, rows[6:])
    with pytest.raises(InputsInterrupted) as interrupted:
        feed.chunk(6, 9)
    assert len(interrupted.value.partial) == 4
    np.testing.assert_array_equal(interrupted.value.partial[:2], rows[6:])


class Process(Callback):
    """What runs a process of two items: each gets the time, scaled."""

    label, per_item = "process", True

    def advance(self, t):
        return np.array([[t / 3], [t / 7]])


class Function(Callback):
    label = "function"

    @staticmethod
    def advance(t):
        return [t / 3, np.exp(t)]

    @staticmethod
    def checked(value):
        return np.asarray(value)


def feed_with_digits(host, size):
    source = HostSource("op", "key", size)
    inputs = [Source("key", 0, size), Source(Digits("key"), size, COUNT * size)]
    return InputFeed(inputs, [source], {"op": host}, 0.001, 2, "float32")


@pytest.mark.parametrize("host, size", ((Process(), 1), (Function, 2)))
def test_digits_of_functions_of_time(host, size):
    feed = feed_with_digits(host, size)
    rows = feed.chunk(4, 3)
    assert rows.dtype == np.float32
    for t, row in zip((5 * 0.001, 6 * 0.001, 7 * 0.001), rows, strict=True):
        exact = np.broadcast_to(np.reshape(host.advance(t), (-1, size)).T, (size, 2))
        assert np.array_equal(from_digits(row[size:]), exact)
        assert np.array_equal(row[:size], exact.astype(np.float32))
    out = np.empty((feed.n_rows, 2), np.float32)
    feed.single(6, out)
    assert np.array_equal(out, rows[-1])


def test_digits_of_data(rng):
    feed = feed_with_digits(Function, 2)
    data = rng.standard_normal((2, 5, 2))
    feed.use({"key": data}, 0)
    rows = feed.chunk(1, 3)
    rounded = data.astype(np.float32)[:, 1:4].transpose(1, 2, 0)
    assert np.array_equal(rows[:, :2], rounded)
    for row, expected in zip(rows, rounded, strict=True):
        assert np.array_equal(from_digits(row[2:]), expected)
