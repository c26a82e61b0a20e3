"""What the programs of drawn networks are made of, besides Nengo and NumPy."""

import nengo
import numpy as np
import scipy.sparse

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
        return self.values[int(round(t / self.dt)) - 1]


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
