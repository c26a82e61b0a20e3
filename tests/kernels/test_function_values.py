"""What Python functions are given of each other: the very numbers, as in core Nengo."""

import nengo
import numpy as np
import pytest

import nengo_dl

N_STEPS = 40


def irrational(t):
    return [t, t / 3, np.sin(t) * 1e30]


def chain(log, state=False, shared=False):
    """Functions of time, constants, and functions that read them, sliced and copied.

    With ``state`` some of it takes part in feedback; ``shared``: functions share an
    object, and so have to run step by step.
    """
    common = [] if shared else None

    def noting(name, function):
        own = log.setdefault(name, [])

        def call(t, x):
            own.append((t, *x.tolist()))
            return function(t, x) if common is None else function(t, x) + 0 * len(common)

        return call

    with nengo.Network(seed=0) as net:
        stimulus = nengo.Node(irrational)
        constant = nengo.Node([0.1, 0.5])
        relay = nengo.Node(size_in=2)
        first = nengo.Node(noting("first", lambda t, x: x[:2] / 7 + t), 5, 2)
        second = nengo.Node(noting("second", lambda t, x: x[:1] * x[1]), 3, 1)
        last = nengo.Node(noting("last", lambda t, x: x), 2, 2)
        nengo.Connection(stimulus[:2], relay[[1, 0]], synapse=None)
        nengo.Connection(relay, first[1:3], synapse=None)
        nengo.Connection(constant, first[3:], synapse=None)
        nengo.Connection(stimulus[2], second[2], synapse=None)
        nengo.Connection(first[::-1], second[:2], synapse=None)
        nengo.Connection(second, last[0], synapse=None)
        nengo.Connection(first[0], last[1], synapse=None)
        if state:
            ens = nengo.Ensemble(10, 1)
            nengo.Connection(last[0], ens)
            nengo.Connection(ens, first[0])
        nengo.Probe(last)
    return net


def calls(simulator, state=False, shared=False, jit="auto", run=None, **kwargs):
    """What each function was called with."""
    log = {}
    net = chain(log, state, shared)
    if simulator is nengo_dl.Simulator:
        with net:
            nengo_dl.configure_settings(jit=jit)
        kwargs["progress_bar"] = False
    with simulator(net, **kwargs) as sim:
        for entries in log.values():
            entries.clear()
        (run or (lambda sim: sim.run_steps(N_STEPS)))(sim)
    return log


WAYS = {
    "numpy": {"jit": False},
    "compiled": {"jit": True},
    "step by step in order": {"shared": True},
    "single steps": {"run": lambda sim: [sim.step() for _ in range(N_STEPS)]},
    "chunks": {"jit": True, "run": lambda sim: [sim.run_steps(n) for n in (1, 7, 32)]},
    "unrolled": {"jit": True, "unroll_simulation": 4},
}


@pytest.mark.parametrize("way", WAYS)
def test_functions_are_given_what_others_returned(way):
    expected = calls(nengo.Simulator)
    assert set(expected) == {"first", "second", "last"}
    assert calls(nengo_dl.Simulator, **WAYS[way]) == expected


@pytest.mark.parametrize("jit", (False, True))
def test_all_batch_items_are_given_the_same(jit):
    expected = calls(nengo.Simulator)
    found = calls(nengo_dl.Simulator, jit=jit, minibatch_size=3)
    for name, entries in expected.items():
        assert sorted(found[name]) == sorted(3 * entries), name


def test_functions_in_feedback_are_given_what_others_returned():
    """Only what comes from neurons is rounded."""
    found = calls(nengo_dl.Simulator, state=True)
    assert all(len(entries) == N_STEPS for entries in found.values())
    steps = zip(found["first"], found["second"], found["last"], strict=True)
    for (t, *x), second, last in steps:
        assert x[0] == float(np.float32(x[0]))
        assert x[1:] == [t / 3, t, 0.1, 0.5]
        first = [x[0] / 7 + t, x[1] / 7 + t]
        assert second == (t, *first[::-1], np.sin(t) * 1e30)
        assert last == (t, first[1] * first[0], first[0])
    assert any(x != 0 for _, x, *_ in found["first"])


def test_data_are_rounded_and_so_is_what_is_read_of_them(rng):
    seen = []
    with nengo.Network() as net:
        stimulus = nengo.Node(lambda t: t)
        node = nengo.Node(lambda t, x: seen.append((t, *x)), size_in=1, size_out=0)
        nengo.Connection(stimulus, node, synapse=None)
        nengo.Probe(stimulus)
    data = rng.uniform(-1, 1, size=(1, 5, 1))
    rounded = data.astype(np.float32).ravel().tolist()
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        del seen[:]
        sim.run_steps(5, data={stimulus: data})
        assert [x for _, x in seen] == rounded
        del seen[:]
        sim.run_steps(5)  # without data again
        assert all(x == t for t, x in seen) and len(seen) == 5
        del seen[:]
        sim.predict({stimulus: data})
        assert [x for _, x in seen] == rounded


@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_the_time_that_a_node_passes_on_is_the_time(dtype):
    times = []

    def check(t, x):
        times.append(t)
        assert x[0] == t and x[1] == t / 3 and x[2] == 0.1

    with nengo.Network() as net:
        nengo_dl.configure_settings(dtype=dtype, jit=True)
        clock = nengo.Node(lambda t: [t, t / 3])
        node = nengo.Node(check, size_in=3, size_out=0)
        nengo.Connection(clock, node[:2], synapse=None)
        nengo.Connection(nengo.Node(0.1), node[2], synapse=None)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(2000)
    assert times == [n * 0.001 for n in range(1, 2001)]


@pytest.mark.parametrize("jit", (False, True))
def test_a_failing_function_fails_at_the_same_step_and_is_given_the_same(jit):
    def run(simulator, **kwargs):
        seen = []

        def failing(t, x):
            seen.append((t, *x))
            if len(seen) > 9:
                raise RuntimeError("enough")
            return x / 3

        with nengo.Network() as net:
            nengo_dl.configure_settings(jit=jit)
            node = nengo.Node(failing, size_in=1, size_out=1)
            after = nengo.Node(lambda t, x: seen.append((t, *x)), size_in=1, size_out=0)
            nengo.Connection(nengo.Node(lambda t: t / 7), node, synapse=None)
            nengo.Connection(node, after, synapse=None)
        with simulator(net, **kwargs) as sim:
            with pytest.raises(RuntimeError, match="enough"):
                sim.run_steps(20)
            return sim.n_steps, seen

    assert run(nengo_dl.Simulator, progress_bar=False) == run(nengo.Simulator)
