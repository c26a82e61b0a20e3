"""What the programs of drawn networks are made of, besides Nengo and NumPy."""

import nengo
import numpy as np
import scipy.sparse
from nengo.builder import Builder, Operator, Signal

import nengo_dl  # noqa: F401  (drawn programs name it)

STEPS = 60


def uniform(seed, *shape):
    """Numbers in [-1, 1] that look like nothing in particular."""
    return np.random.RandomState(seed).uniform(-1, 1, shape)


def sparse(matrix):
    """A sparse matrix with the entries of this one that are greater than 0."""
    return scipy.sparse.csr_matrix(np.maximum(matrix, 0))


class Feed:
    """The output of an input node: waves, or the rows of an array.

    The waves are those of batch item 0. The reference sets ``values`` to the data of one
    batch item after the other; the simulator under test gets these data as such.
    """

    def __init__(self, seed, size, dt=0.001):
        self.seed, self.size, self.dt = seed, size, dt
        self.values = self.item(0)

    def item(self, b):
        """The data of one batch item, ``(steps, size)``."""
        rng = np.random.RandomState((self.seed, b))
        t = np.arange(1, STEPS + 1)[:, None] * self.dt
        frequency, phase = rng.uniform(0.5, 25, self.size), rng.uniform(0, 6, self.size)
        return rng.uniform(-0.3, 0.3) + np.sin(2 * np.pi * frequency * t + phase)

    def __call__(self, t):
        step = int(round(t / self.dt)) - 1
        return self.values[step % STEPS]  # steps aside may come after the last one


class Leak(nengo.Process):
    """A process of a user: sums up its input or random numbers, and forgets them."""

    def make_state(self, shape_in, shape_out, dt, dtype=None):
        """See `nengo.Process`."""
        return {"total": np.zeros(shape_out)}

    def make_step(self, shape_in, shape_out, dt, rng, state):
        """See `nengo.Process`."""
        total = state["total"]

        def step(t, x=None):
            new = rng.uniform(-1, 1, shape_out) if x is None else np.mean(x)
            total[...] = 0.9 * total + 0.3 * new
            return total.copy()

        return step


class Saturating(nengo.neurons.NeuronType):
    """A neuron type of a user, with a state that Nengo has no name for."""

    negative = True
    spiking = False
    state = {"fatigue": nengo.dists.Choice([0])}
    strength = nengo.params.NumberParam("strength", low=0)

    def __init__(self, strength=1.0, initial_state=None):
        super().__init__(initial_state)
        self.strength = strength

    def gain_bias(self, max_rates, intercepts):
        """See `nengo.neurons.NeuronType`."""
        return max_rates / 100, -np.asarray(intercepts) * max_rates / 100

    def max_rates_intercepts(self, gain, bias):
        """See `nengo.neurons.NeuronType`."""
        return gain * 100, -bias / gain

    def rates(self, x, gain, bias):
        """See `nengo.neurons.NeuronType`."""
        J = self.current(x, gain, bias)
        return 100 * J / (1 + np.abs(J))

    def step(self, dt, J, output, fatigue):
        """See `nengo.neurons.NeuronType`."""
        output[...] = 100 * J / (1 + np.abs(J) + self.strength * fatigue**2)
        fatigue += dt * (J - fatigue) / 0.01


class Delay(nengo.synapses.Synapse):
    """A synapse of a user, with a state of several steps."""

    steps = nengo.params.IntParam("steps", low=1)

    def __init__(self, steps):
        super().__init__()
        self.steps = steps

    def make_state(self, shape_in, shape_out, dt, dtype=None, y0=0):
        """See `nengo.Process`."""
        return {"waiting": np.zeros((self.steps, *shape_in))}

    def make_step(self, shape_in, shape_out, dt, rng, state):
        """See `nengo.Process`."""
        waiting = state["waiting"]

        def step(t, x):
            out = waiting[0].copy()
            waiting[:-1] = waiting[1:]
            waiting[-1] = x
            return out

        return step


class Creep(nengo.learning_rules.LearningRuleType):
    """A rule of a user: weights creep towards a number, the later the faster.

    Its operator starts with what it writes while its step function is made.
    """

    modifies = "weights"
    probeable = ("delta",)
    goal = nengo.params.NumberParam("goal")

    def __init__(self, learning_rate=1e-3, goal=0.0, modifies="weights"):
        super().__init__(learning_rate, size_in=0)
        self.goal = goal
        self.modifies = modifies


class Halve(Creep):
    """The same for a rule whose operator changes the weights themselves as well."""


class SimCreep(Operator):
    """The operator of `Creep`."""

    def __init__(self, rule, weights, delta, speed, direct):
        super().__init__()
        self.rule, self.direct = rule, direct
        self.sets, self.incs = [speed], []
        self.reads = [] if direct else [weights]
        self.updates = [delta, weights] if direct else [delta]
        self.signals = weights, delta, speed

    def make_step(self, signals, dt, rng):
        """See `~nengo.builder.Operator`."""
        weights, delta, speed = (signals[s] for s in self.signals)
        rate, goal, direct = self.rule.learning_rate, self.rule.goal, self.direct
        speed[...] = 0.5
        if direct:
            weights[...] *= 0.5

        def step():
            speed[...] *= 1.01
            delta[...] = rate * speed * (goal - weights)
            if direct:
                weights[...] *= 1 - rate

        return step


@Builder.register(Creep)
def build_creep(model, creep, rule):
    """Adds the operator of a `Creep`."""
    speed = Signal(np.zeros(1), name="speed")
    weights, delta = model.sig[rule.connection]["weights"], model.sig[rule]["delta"]
    model.add_op(SimCreep(creep, weights, delta, speed, isinstance(creep, Halve)))
