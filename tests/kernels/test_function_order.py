"""Order of side effects: what functions share must look to them as it does in core."""

import sys
from types import ModuleType

import nengo
import numpy as np
import pytest
from nengo.builder import Model

from nengo_dl.runtime.program import Program
from tests.kernels.kernel_harness import every_step


class Shouting(nengo.Process):
    """A process of a user that leaves a trace."""

    def __init__(self, name, log, **kwargs):
        super().__init__(**kwargs)
        self.name, self.log = name, log

    def make_step(self, shape_in, shape_out, dt, rng, state):
        log, name = self.log, self.name

        def step(t, x=0.0):
            log.append((name, t, float(np.sum(x))))
            return np.full(shape_out, len(log) % 7 / 7)

        return step


def shared_list(log, seed, time_only=False):
    """A random network whose functions append to one list, and read its length."""
    rng = np.random.RandomState(seed)

    def of_time(name):
        return lambda t: log.append((name, t)) or np.sin(50 * t + len(log) % 5)

    def of_both(name):
        def function(t, x):
            log.append((name, t, *x))
            return np.tanh(x) + 0.1 * (len(log) % 3)

        return function

    with nengo.Network(seed=seed) as net:
        sources = [nengo.Node(of_time(f"time {i}")) for i in range(3)]
        if time_only:
            sources += [nengo.Node(Shouting("process", log), size_out=1)]
            for node in sources:
                nengo.Probe(node, synapse=0.01)
            return net
        nodes = [nengo.Node(of_both(f"node {i}"), size_in=1) for i in range(4)]
        nodes.append(nengo.Node(Shouting("process", log), size_in=1, size_out=1))
        sinks = [nengo.Node(of_both("sink"), size_in=1, size_out=1)]
        ens = nengo.Ensemble(10, 1)
        direct = nengo.Ensemble(1, 1, neuron_type=nengo.Direct())
        everything = [*sources, *nodes, ens, direct]
        for _ in range(14):
            pre = everything[rng.randint(len(everything))]
            post = [*nodes, *sinks, ens, direct][rng.randint(len(nodes) + 3)]
            synapse = [0.01, 0.0][rng.randint(2)]
            function = None
            if pre is direct:

                def function(x):
                    log.append(("connection", *x))
                    return np.sin(3 * x)

            nengo.Connection(pre, post, synapse=synapse or 0.002, function=function)
        nengo.Connection(sources[0], nodes[rng.randint(4)], synapse=None)
        nengo.Connection(nodes[0], sinks[0], synapse=None)
        nengo.Connection(nodes[1], direct, synapse=None)
        for node in (*nodes, *sinks):
            nengo.Probe(node)
    return net


def logs_of(network, log, dtype="float64", jit="auto"):
    """What is logged in 20 steps of core, and of ours; and what is probed."""
    model = Model(dt=0.001)
    model.build(network)
    sim = nengo.Simulator(None, model=model, seed=3, progress_bar=False, optimize=False)
    with sim:
        log.clear()
        sim.run_steps(20)
        probes = np.concatenate([sim.data[p] for p in model.probes], axis=1)
    core = list(log)
    program = Program(model, {}, 1, dtype, jit)
    program.reset(3)
    log.clear()
    ours = np.concatenate(list(every_step(program.run(0, 20))))[:, :, 0]
    return core, list(log), probes, ours


def flat(log):
    """The names, and the numbers, of a log."""
    return [entry[0] for entry in log], [n for entry in log for n in entry[1:]]


@pytest.mark.parametrize("seed", range(12))
def test_calls_come_in_the_order_of_core(seed, allclose):
    log = []
    core, ours, expected, probed = logs_of(shared_list(log, seed), log)
    assert len(core) >= 20 * 9
    assert flat(ours)[0] == flat(core)[0]
    assert allclose(flat(ours)[1], flat(core)[1], atol=1e-10)
    assert allclose(probed, expected, atol=1e-10)


@pytest.mark.parametrize("jit", (False, True))
def test_functions_of_time_come_in_the_order_of_core(jit, allclose):
    log = []
    net = shared_list(log, 0, time_only=True)
    core, ours, expected, probed = logs_of(net, log, jit=jit)
    assert len(core) == 20 * 4
    assert ours == core
    assert allclose(probed, expected, atol=1e-10)


SHARED = []


def by_attribute():
    def write(t):
        write.count += 1
        return t

    write.count = 0
    return write, lambda t, x: write.count


def by_import():
    module = sys.modules["shared_by_functions"] = ModuleType("shared_by_functions")
    module.entries = entries = []

    def write(t):
        import shared_by_functions

        shared_by_functions.entries.append(t)
        return t

    return write, lambda t, x: len(entries)


def by_variable():
    count = 0

    def write(t):
        nonlocal count
        count += 1
        return t

    return write, lambda t, x: count


def by_global_numbers():
    np.random.seed(0)
    return (lambda t: np.random.rand()), (lambda t, x: np.random.rand())


def by_default():
    def write(t, log=[]):  # noqa: B006
        log.append(t)
        return t

    (log,) = write.__defaults__
    return write, lambda t, x: len(log)


def by_iterator():
    numbers = iter(range(1000))
    return (lambda t: next(numbers)), (lambda t, x: next(numbers))


def by_views():
    array = np.zeros(3)
    first, all_but_one = array[:2], array[1:]

    def write(t):
        first[1] += 1
        return t

    return write, lambda t, x: all_but_one[0]


def by_object():
    class Room:
        def __init__(self):
            self.entries = []

        def enter(self, t):
            self.entries.append(t)
            return t

        def count(self, t, x):
            return len(self.entries)

    room = Room()
    return room.enter, room.count


def by_class_attribute():
    class Room:
        entries = []

        def enter(self, t):
            self.entries.append(t)
            return t

        def count(self, t, x):
            return len(self.entries)

    return Room().enter, Room().count


def by_class():
    class Room:
        entries = 0

        def enter(self, t):
            type(self).entries += 1
            return t

        def count(self, t, x):
            return self.entries

    return Room().enter, Room().count


def by_class_method():
    class Room:
        entries = 0

        @classmethod
        def enter(cls, t):
            cls.entries += 1
            return t

        def count(self, t, x):
            return self.entries

    return Room().enter, Room().count


def by_property():
    class Room:
        @property
        def entries(self):
            return len(SHARED)

        @staticmethod
        def enter(t):
            SHARED.append(t)
            return t

    SHARED.clear()
    room, other = Room(), Room()
    return (lambda t: other.enter(t)), (lambda t, x: room.entries)


WAYS_TO_SHARE = (
    by_attribute,
    by_import,
    by_variable,
    by_global_numbers,
    by_default,
    by_iterator,
    by_views,
    by_object,
    by_class_attribute,
    by_class,
    by_class_method,
    by_property,
)


@pytest.mark.parametrize("jit", (False, True))
@pytest.mark.parametrize("share", WAYS_TO_SHARE, ids=lambda share: share.__name__)
def test_what_functions_share_is_as_in_core(share, jit, allclose):
    """A function of time must not run ahead of one that sees what it does."""

    def model_of(write, read):
        with nengo.Network() as net:
            nodes = nengo.Node(write, size_out=1), nengo.Node(read, size_in=1, size_out=1)
            nengo.Connection(nengo.Node([0.5]), nodes[1], synapse=None)
            for node in nodes:
                nengo.Probe(node)
        model = Model(dt=0.001)
        model.build(net)
        return model

    model = model_of(*share())
    sim = nengo.Simulator(None, model=model, seed=0, progress_bar=False, optimize=False)
    with sim:
        sim.run_steps(20)
        expected = np.concatenate([sim.data[p] for p in model.probes], axis=1)
    assert np.ptp(expected[:, 1]) > 0
    program = Program(model_of(*share()), {}, 1, "float64", jit)
    probed = np.concatenate(list(every_step(program.run(0, 20))))[:, :, 0]
    assert allclose(probed, expected, atol=0, rtol=0)
