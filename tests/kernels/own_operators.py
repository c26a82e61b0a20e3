"""Operators of users, of which a node can be made, and how core Nengo runs them."""

import contextlib
import warnings

import nengo
import numpy as np
from nengo.builder import Builder as CoreBuilder
from nengo.builder.operator import Copy, Operator, Reset
from nengo.builder.signal import Signal

import nengo_dl
from tests import networks

N_STEPS = 40


class Own(Operator):
    """An operator of a user: ``function(dt, rng, *arrays)`` makes its step function."""

    def __init__(self, function, reads=(), sets=(), incs=(), updates=()):
        super().__init__(tag="mine")
        self.function = function
        self.reads, self.sets = list(reads), list(sets)
        self.incs, self.updates = list(incs), list(updates)

    def make_step(self, signals, dt, rng):
        """See `nengo.builder.Operator`."""
        arrays = [signals[signal] for signal in self.all_signals]
        return self.function(dt, rng, *arrays)


def vector(n=3, value=0.0, name="v", **kwargs):
    return Signal(np.full(n, value), name=name, **kwargs)


# what can be made of the signals x (read) and y (to be set), and the model


def sets(model, x, y):
    """A function of what is read, some of it constant."""
    constant = vector(3, 0.7, readonly=True)

    def make(dt, rng, x, constant, y):
        def step():
            y[...] = np.cos(x) * constant

        return step

    return [Own(make, reads=[x, constant], sets=[y])]


def sets_some(model, x, y):
    """What is not written keeps its value."""

    def make(dt, rng, x, y):
        def step():
            y[x > 0.2] = x[x > 0.2]

        return step

    return [Own(make, [x], [y])]


def sets_and_looks(model, x, y):
    """The value of the step before, with what others have added to it."""

    def make(dt, rng, x, y):
        def step():
            y[...] = 0.9 * y + x

        return step

    return [Own(make, [x], [y]), Copy(x[:2], y[1:], inc=True)]


def increments(model, x, y):
    """Views that overlap, some entries twice, in one operator and in two."""

    def make(dt, rng, x, a, b):
        def step():
            a[...] += x[:2]
            b[...] += 2 * x[1:]

        return step

    views = [y[:2], y[1:]]
    return [Reset(y, 0.5), Own(make, [x], incs=views), Own(make, [x], incs=views[::-1])]


def increments_for_ever(model, x, y):
    """What nobody sets goes on from its first value."""

    def make(dt, rng, x, total):
        def step():
            total[...] += 10 * dt * x

        return step

    total = vector(3, 2.0)
    return [Own(make, [x], incs=[total]), Reset(y), Copy(total, y, inc=True)]


def updates(model, x, y):
    """Seen in the next step; a matrix, and parts of one signal by two operators."""

    def make(dt, rng, x, matrix):
        def step():
            matrix[...] = 0.5 * matrix.T + x[:2] * x[1:, None]

        return step

    state = Signal(np.eye(4), name="state")
    return [
        Own(make, [x], updates=[state[:2, ::2]]),
        Own(make, [x], updates=[state[2:, 1:3]]),
        Reset(y),
        Copy(state[0, :3], y, inc=True),
        Copy(state[3, 1:], y, inc=True),
    ]


def views(model, x, y):
    """It reads, sets and updates different parts of the same signal."""
    memory = Signal(np.linspace(0, 1, 9), name="memory")

    def make(dt, rng, x, read, put, following):
        def step():
            put[...] = x + read + following
            following[...] = following[::-1] + read

        return step

    return [
        Copy(x, memory[:3], inc=False),
        Own(make, [x, memory[:3]], sets=[memory[3:6]], updates=[memory[6:]]),
        Copy(memory[5:2:-1], y),
    ]


def keeps_state(model, x, y):
    """In a closure."""

    def make(dt, rng, x, y):
        seen = []

        def step():
            seen.append(x.copy())
            y[...] = seen[len(seen) // 2]

        return step

    return [Own(make, [x], [y])]


def draws(model, x, y):
    """Two operators draw from the common random numbers, in turn, also in the making."""

    def make(dt, rng, x, y):
        scale = rng.uniform(1, 2)

        def step():
            y[...] = scale * x + rng.normal(size=y.shape)

        return step

    return [Own(make, [x[:2]], [y[:2]]), Own(make, [x[2:]], [y[2:]])]


def tells_the_time(model, x, y):
    """The clock, exactly; the step is a whole number."""

    def make(dt, rng, x, time, step_number, y):
        def step():
            y[...] = x * (step_number % 7) + (time == step_number * dt)

        return step

    return [Own(make, [x, model.time, model.step], [y])]


def counts_whole(model, x, y):
    """A signal of integers."""
    count = Signal(np.zeros(3, np.int64), name="count")

    def make(dt, rng, x, count):
        def step():
            assert count.dtype == np.int64
            count[...] += x > 0

        return step

    return [Own(make, [x], updates=[count]), Copy(count, y)]


FACTORIES = (
    sets,
    sets_some,
    sets_and_looks,
    increments,
    increments_for_ever,
    updates,
    views,
    keeps_state,
    draws,
    tells_the_time,
    counts_whole,
)


def machine_maker(monkeypatch):
    """What makes a node of three dimensions that is made of any operators.

    It is called with a factory: ``factory(model, x, y)`` gives the operators that read
    the signal ``x`` and set ``y``. With ``size_in=0`` there is no ``x``.
    """
    monkeypatch.setattr(CoreBuilder, "builders", dict(CoreBuilder.builders))

    def make(factory, size_in=3):
        class Machine(nengo.Node):
            pass

        @CoreBuilder.register(Machine)
        def build(model, node):
            x, y = vector(size_in, name="x"), vector(3, name="y")
            model.sig[node]["in"], model.sig[node]["out"] = x, y
            model.params[node] = None
            operators = factory(model, x, y)
            for op in [Reset(x), *operators] if size_in else operators:
                model.add_op(op)

        return Machine(size_in=3) if size_in else Machine(np.zeros(3))

    return make


@contextlib.contextmanager
def silence():
    """Warnings of what runs as Python are not of interest here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "NengoDL knows no native form")
        yield


def around(node, feedback=True):
    """A network in which a node is driven, and maybe sees its own output."""
    inp, out = nengo.Node(networks.waves(3)), nengo.Node(size_in=3)
    nengo.Connection(inp, node, synapse=None)
    if feedback:
        nengo.Connection(node, node, transform=0.3, synapse=0.01)
    nengo.Connection(node, out, synapse=0.005)
    nengo.Probe(node)
    nengo.Probe(out)


def core(net, **kwargs):
    """Core's simulator, with the operators in the order in which they were built."""
    return nengo.Simulator(net, progress_bar=False, optimize=False, **kwargs)


def simulate(sim, n_steps=N_STEPS):
    sim.run_steps(n_steps)
    return [np.array(sim.data[p]) for p in sim.model.probes]


def network_of(machine, factory, dtype="float64", **kwargs):
    with nengo.Network(seed=4) as net:
        nengo_dl.configure_settings(dtype=dtype)
        around(machine(factory), **kwargs)
    return net
